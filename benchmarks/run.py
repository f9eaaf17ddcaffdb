"""Measure what the README claims: `make bench` or `python benchmarks/run.py`.

Every speed is a median of several repetitions in one process with one torch thread, in CPU seconds
where that is meant, and beside it the ratio to its slow counterpart measured in the same run.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from arraysmith.flow.exploration import explore
from arraysmith.flow.learning import SHIPPED_CHECKPOINT
from arraysmith.flow.question import Question
from arraysmith.flow.sources import as_pixels, read_source
from arraysmith.formats.topology import read_topology
from arraysmith.hardware import Accelerator, Dataflow
from arraysmith.learning import checkpoint, mnist
from arraysmith.learning.network import float_network
from arraysmith.learning.training import normalised
from arraysmith.quantization import int8
from arraysmith.quantization.modules import PREDICT_BATCH, QuantNetwork, predict
from arraysmith.quantization.quantize import quantize
from arraysmith.quantization.samples import Samples
from arraysmith.quantization.scheme import Scheme
from arraysmith.search.exhaustive import best_places, candidates
from arraysmith.simulation.scalesim.closed_form import simulate
from arraysmith.space import Constraints, DesignSpace

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from arraysmith.learning.network import FloatNetwork

REPETITIONS = 5
RESNET50 = Path(__file__).parents[1] / "examples" / "resnet50.csv"


def median_seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Median time of a few repetitions after one that warms up."""
    work()
    times = []
    for _ in range(REPETITIONS):
        start = clock()
        work()
        times.append(clock() - start)
    return statistics.median(times)


def exploration() -> list[tuple[str, str]]:
    """Every array from 1×1 to 1024×1024 in three dataflows for ResNet-50."""
    workload = read_topology(RESNET50)
    axis = tuple(range(1, 1025))
    space = DesignSpace(rows=axis, cols=axis)
    asked = Question()
    problem = asked.problem(workload, space)
    model = asked.model_over(workload, problem)

    def best() -> tuple[int, int]:
        """Number and cycles of the best of all designs."""
        found = candidates(problem, model)
        place = best_places(problem, found.ids, found.cycles, found.bounds, 1)[0]
        return int(found.ids[place]), int(found.cycles[place])

    fast = median_seconds(best, time.perf_counter)
    verb = median_seconds(lambda: explore(workload, space), time.perf_counter)
    array = Accelerator(rows=32, cols=32, dataflow=Dataflow.WS)
    one = median_seconds(lambda: simulate(workload, array), time.perf_counter)
    rate = space.size / fast
    limited = DesignSpace(rows=axis, cols=axis, constraints=Constraints(max_pes=1024))
    winner = explore(workload, limited).best
    return [
        (
            (
                f"exhaustive exploration, ResNet-50 ({len(workload.layers)} layers), "
                f"{space.size:,} designs, with the best named"
            ),
            (
                f"{fast:.2f} s: {rate / 1e6:.1f} million designs/s, {rate * one:,.0f}× simulating "
                "them one by one with our own closed form"
            ),
        ),
        (
            "the same with facts, areas and landscapes of all designs",
            f"{verb:.1f} s: {space.size / verb / 1e6:.2f} million designs/s",
        ),
        (
            "best array of at most 1,024 PEs for ResNet-50 (scalesim CALC)",
            f"{winner}, {winner.total_cycles:,} cycles",
        ),
    ]


@torch.inference_mode()
def float_logits(network: FloatNetwork, reals: torch.Tensor) -> torch.Tensor:
    """A batch at a time, as the integer network is run."""
    return torch.cat([network(batch) for batch in reals.split(PREDICT_BATCH)])


def inference(images: NDArray[np.uint8]) -> list[tuple[str, str]]:
    """Images per CPU second of the float network and of both int8 engines."""
    loaded = checkpoint.load(SHIPPED_CHECKPOINT)
    network = float_network(loaded.spec, loaded.parameters)
    graph = read_source(SHIPPED_CHECKPOINT).graph
    name = graph.inputs[0].name
    calibration = Samples(inputs=graph.inputs, arrays={name: as_pixels(images[:5000])})
    scheme = Scheme()
    quantizing = median_seconds(lambda: quantize(graph, calibration, scheme), time.process_time)
    quantized = quantize(graph, calibration, scheme).network
    module = QuantNetwork(quantized)
    many, few = images[:5000], images[:500]
    reals = normalised(many)
    rates = {
        "float32, torch": len(many)
        / median_seconds(lambda: float_logits(network, reals), time.process_time),
        "int8, torch (exact float32 products)": len(many)
        / median_seconds(lambda: predict(module, {name: many[:, None]}), time.process_time),
        "int8, NumPy reference (int64)": len(few)
        / median_seconds(lambda: int8.run(quantized, {name: few[:, None]}), time.process_time),
    }
    base = rates["float32, torch"]
    rows = [
        (f"LeNet-5 {name}", f"{rate:,.0f} images per CPU second, {rate / base:.2f}× float32")
        for name, rate in rates.items()
    ]
    rows.append(
        (
            f"quantizing LeNet-5, {len(calibration):,} calibration images, bias correction",
            f"{quantizing:.1f} CPU seconds",
        )
    )
    return rows


def import_time() -> list[tuple[str, str]]:
    """A fresh interpreter with and without `import arraysmith` and what simulation needs."""

    def run(code: str) -> float:
        command = [sys.executable, "-c", code]
        return median_seconds(
            lambda: subprocess.run(command, check=True),  # noqa: S603 (our own command)
            time.perf_counter,
        )

    bare = run("pass")
    face = run("import arraysmith") - bare
    verb = run("import arraysmith; arraysmith.explore") - bare
    return [("`import arraysmith` / with `explore`", f"{face:.3f} s / {verb:.3f} s")]


def main() -> None:
    """Print a Markdown table."""
    torch.set_num_threads(1)
    images = mnist.load().train_images
    rows = [*exploration(), *inference(images), *import_time()]
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, torch {torch.__version__},")
    print("one torch thread, medians of five repetitions.\n")
    print("| what | measured |\n|---|---|")
    for what, measured in rows:
        print(f"| {what} | {measured} |")


if __name__ == "__main__":
    main()
