"""The verb `report`: everything a run recorded, as one page."""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.errors import InputFileError
from arraysmith.files import write_text
from arraysmith.flow.hardware import DESIGNS_FILE
from arraysmith.metrics import Evaluation, Quantization, SchemeResult, TrainingHistory
from arraysmith.performance import ExplorationFacts, NetworkMetrics, PhysicalExplorationFacts
from arraysmith.physical_performance import MappedNetwork, PhysicalFacts
from arraysmith.store import Provenance, RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.explorations import ExplorationFacts as NewFacts
    from arraysmith.explorations import ExploredDesigns

DESIGN_COLUMNS = ("rows", "cols", "dataflow", "total_cycles", "utilization")


def report(output: Path) -> Path:
    """Write `report.html` of the run folder `output` from what its verbs recorded.

    Raises:
        InputFileError: nothing is recorded there, or it is damaged.
    """
    from arraysmith.reporting import html

    run = RunFolder(output)
    provenance = run.facts("provenance", dict[str, Provenance])
    if not provenance:
        raise InputFileError(
            f"{run.metrics_path}: nothing recorded; run `arraysmith demo -o {output}` or another "
            "verb with this output folder first"
        )
    exploration = run.facts("exploration", ExplorationFacts)
    training = run.facts("training", TrainingHistory)
    if training is not None and not training.epochs:
        raise InputFileError(f"{run.metrics_path}: a training without epochs; train again")
    converted = _converted(run, exploration)
    facts = html.RunFacts(
        training=training,
        quantization=run.facts("quantization", Quantization),
        schemes=run.facts("schemes", tuple[SchemeResult, ...]) or (),
        evaluation=run.facts("evaluation", Evaluation),
        simulation=run.facts("simulation", tuple[NetworkMetrics, ...]) or (),
        physical=run.facts("physical", tuple[PhysicalFacts, ...]) or (),
        mapping=run.facts("mapping", tuple[MappedNetwork, ...]) or (),
        exploration=converted[0],
        explored=converted[1],
        provenance=provenance,
        test_figure=run.figure("test_quant_model"),
    )
    write_text(run.report_path, html.render(facts))
    return run.report_path


def _converted(
    run: RunFolder, found: ExplorationFacts | None
) -> tuple[NewFacts | None, ExploredDesigns | None]:
    """The old facts of an exploration as the new ones."""  # until flow is converted
    from arraysmith import explorations as new

    def scalesim(old: Any) -> new.DesignFacts:  # noqa: ANN401
        shared = ("rows", "cols", "dataflow", "pes", "total_cycles", "utilization")
        values = {name: getattr(old, name) for name in shared}
        return new.DesignFacts(
            **values,
            ifmap_buffer_kib=found.ifmap_buffer_kib,  # type: ignore[union-attr]
            filter_buffer_kib=found.filter_buffer_kib,  # type: ignore[union-attr]
            ofmap_buffer_kib=found.ofmap_buffer_kib,  # type: ignore[union-attr]
            peak_dram_words_per_cycle=old.peak_dram_words_per_cycle,
        )

    shared: dict[str, Any] = {
        "clock_mhz": 1000.0,
        "search": "exhaustive",
        "seed": None,
        "budget": None,
        "ruled_out": 0,
        "proven": True,
        "stopped": "",
        "gap": 0.0,
        "history": (),
    }
    if found is not None:
        from arraysmith.reporting.heatmap import heat_maps

        columns = read_designs(run.path / DESIGNS_FILE)
        pes = columns["rows"].astype(np.int64) * columns["cols"]
        at = {(d.rows, d.cols, d.dataflow) for d in found.front}
        names = zip(columns["rows"], columns["cols"], columns["dataflow"], strict=True)
        front = np.array([(int(r), int(c), str(d)) in at for r, c, d in names], np.bool_)
        maps = tuple(
            new.Landscape(
                dataflow=each.dataflow,
                objective="cycles",
                rows=each.rows,
                cols=each.cols,
                values=each.total_cycles,
                bounds=np.full(each.total_cycles.shape, np.nan),
                allowed=np.isfinite(each.total_cycles),
                thinned=each.thinned,
            )
            for each in heat_maps(found, columns)
        )
        facts = new.ExplorationFacts(
            **shared,
            workload=found.workload,
            model=found.model,
            layers=found.layers,
            macs=found.macs,
            technology="no technology",
            axes={"rows": found.rows, "cols": found.cols, "dataflow": found.dataflows},
            constraints={} if found.max_pes is None else {"max_pes": float(found.max_pes)},
            objectives=(found.objective,),
            map_for=None,
            covered=found.covered,
            designs=found.designs,
            evaluated=found.designs,
            best=scalesim(found.best),
            ranking=tuple(map(scalesim, found.ranking)),
            best_per_dataflow=tuple(map(scalesim, found.best_per_dataflow)),
            front=tuple(map(scalesim, found.front)),
            front_size=len(found.front),
            seconds=found.seconds,
        )
        return facts, new.ExploredDesigns(
            columns={**columns, "pes": pes, "front": front}, landscapes=maps
        )
    old = run.facts("physical_exploration", PhysicalExplorationFacts)
    if old is None:
        return None, None

    def physical(each: Any) -> new.DesignFacts:  # noqa: ANN401
        shared = (
            "rows",
            "cols",
            "pes",
            "total_cycles",
            "stall_cycles",
            "utilization",
            "dram_bytes",
        )
        return new.DesignFacts(
            **{name: getattr(each, name) for name in shared},
            dataflow="+".join(each.microarchitectures),
            ifmap_buffer_kib=old.ifmap_buffer_kib,
            filter_buffer_kib=old.filter_buffer_kib,
            ofmap_buffer_kib=old.ofmap_buffer_kib,
            dram_bytes_per_cycle=old.dram_bytes_per_cycle,
            energy_pj=each.energy_pj,
            area_mm2=each.area_mm2,
        )

    visited = tuple(map(physical, old.visited))
    kinds = dict.fromkeys(each.dataflow for each in visited)
    facts = new.ExplorationFacts(
        **shared,
        workload=old.workload,
        model=old.model,
        layers=1,
        macs=1,
        technology=old.technology,
        axes={"rows": old.rows, "cols": old.cols, "dataflow": old.arrays},
        constraints={} if old.max_pes is None else {"max_pes": float(old.max_pes)},
        objectives=("cycles",),
        map_for="cycles",
        covered=old.designs,
        designs=old.designs,
        evaluated=len(visited),
        best=visited[0],
        ranking=visited[:10],
        best_per_dataflow=tuple(
            next(each for each in visited if each.dataflow == kind) for kind in kinds
        ),
        front=tuple(map(physical, old.front)),
        front_size=len(old.front),
        seconds=old.seconds,
    )
    return facts, None


def read_designs(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a designs.npz, which `pandas.DataFrame` takes as they are.

    Raises:
        InputFileError: not there or damaged.
    """
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in DESIGN_COLUMNS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputFileError(
            f"{path}: cannot be read ({error}); run `arraysmith explore` again"
        ) from error
    shapes = {array.shape for array in columns.values()}
    kinds = "".join(array.dtype.kind for array in columns.values())
    if len(shapes) != 1 or len(shapes.pop()) != 1 or kinds != "iiUif":
        raise InputFileError(
            f"{path}: its columns do not fit each other; run `arraysmith explore` again"
        )
    return columns
