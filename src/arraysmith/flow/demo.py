"""The verb `demo`: the whole flow on LeNet-5 and MNIST, from a checkpoint to the best array."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arraysmith.flow import hardware, learning, quantization
from arraysmith.flow.evaluation import evaluate
from arraysmith.flow.exploration import explore
from arraysmith.flow.exporting import export
from arraysmith.flow.report import report
from arraysmith.hardware import Dataflow, Microarchitecture, PhysicalAccelerator
from arraysmith.progress import silent
from arraysmith.space import Constraints, DesignSpace, Objective
from arraysmith.store import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    from arraysmith.explorations import ExplorationFacts
    from arraysmith.flow.exporting import Exported
    from arraysmith.metrics import Evaluation, Quantization, SchemeResult
    from arraysmith.performance import NetworkMetrics
    from arraysmith.physical_performance import MappedNetwork
    from arraysmith.progress import Progress

SIZES = tuple(range(1, 65))
MAX_PES = 256
PIPELINED = (
    Microarchitecture.OS_OVERLAPPED,
    Microarchitecture.WS_DOUBLE_BUFFERED,
    Microarchitecture.IS_DOUBLE_BUFFERED,
)
"""The square arrays again, as one would build them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What the demo found, verb by verb."""

    quantization: Quantization
    schemes: tuple[SchemeResult, ...]
    evaluation: Evaluation
    simulation: tuple[NetworkMetrics, ...]
    mapped: tuple[MappedNetwork, ...]
    """The square arrays under the model `physical`, every layer under its best mapping."""
    exploration: ExplorationFacts
    exported: Exported
    report_path: Path


def demo(
    output: Path,
    *,
    train: bool = False,
    data: Path | None = None,
    command: str = "arraysmith.demo()",
    progress: Progress = silent,
) -> Demo:
    """Fetch MNIST, quantize, evaluate, export, simulate, explore, map and report into `output`.

    Args:
        output: the run folder.
        train: train first instead of using the shipped checkpoint (some five minutes).
        data: the folder of MNIST.
        command: what to record as the origin.
        progress: shows the longer steps.
    """
    # Compiled code, and the library that compiles it, only where it is needed.
    from arraysmith.flow.mapping import map_arrays

    learning.fetch_mnist(data, progress=progress)
    if train:
        learning.train(output, data=data, command=command, progress=progress)
    else:
        _unpack_shipped(RunFolder(output), command)
    quantized = quantization.quantize(output, data=data, command=command)
    evaluated = evaluate(output, data=data, command=command, progress=progress)
    schemes = quantization.compare_schemes(output, data=data, command=command, progress=progress)
    exported = export(output)
    workload = hardware.read_workload(output)
    space = DesignSpace(rows=SIZES, cols=SIZES, constraints=Constraints(max_pes=MAX_PES))
    wanted = (Objective.CYCLES, Objective.AREA)
    explored = explore(workload, space, output, objectives=wanted, command=command).facts
    best = explored.best
    square = tuple(
        replace(hardware.DEFAULT_ACCELERATOR, dataflow=dataflow) for dataflow in Dataflow
    )
    chosen = replace(square[0], rows=best.rows, cols=best.cols, dataflow=Dataflow(best.dataflow))
    simulated = hardware.simulate(workload, (*square, chosen), output, command=command)
    mapped = map_arrays(
        workload,
        tuple(
            PhysicalAccelerator(
                rows=square[0].rows,
                cols=square[0].cols,
                microarchitectures=(each,),
                filter_buffer_kib=square[0].filter_buffer_kib,
            )
            for each in PIPELINED
        ),
        output,
        progress=progress,
        command=command,
    )
    return Demo(
        quantization=quantized,
        schemes=schemes,
        evaluation=evaluated,
        simulation=simulated,
        mapped=mapped,
        exploration=explored,
        exported=exported,
        report_path=report(output),
    )


def _unpack_shipped(run: RunFolder, command: str) -> None:
    """Put the shipped checkpoints where a training would have left its own, unless one did."""
    from arraysmith.learning import checkpoint

    if run.model("best").exists():
        return
    best = checkpoint.load(learning.SHIPPED_CHECKPOINT)
    checkpoint.save(run.model("best"), best)
    checkpoint.save(run.model("last"), checkpoint.load(learning.SHIPPED_LAST))
    learning.record_training(run, best.history, command)
