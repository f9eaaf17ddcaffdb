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

    from arraysmith.reporting.heatmap import HeatMap

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
    facts = html.RunFacts(
        training=training,
        quantization=run.facts("quantization", Quantization),
        schemes=run.facts("schemes", tuple[SchemeResult, ...]) or (),
        evaluation=run.facts("evaluation", Evaluation),
        simulation=run.facts("simulation", tuple[NetworkMetrics, ...]) or (),
        physical=run.facts("physical", tuple[PhysicalFacts, ...]) or (),
        mapping=run.facts("mapping", tuple[MappedNetwork, ...]) or (),
        physical_exploration=run.facts("physical_exploration", PhysicalExplorationFacts),
        exploration=exploration,
        heat_maps=_heat_maps(run, exploration) if exploration else (),
        provenance=provenance,
        test_figure=run.figure("test_quant_model"),
    )
    write_text(run.report_path, html.render(facts))
    return run.report_path


def _heat_maps(run: RunFolder, facts: ExplorationFacts) -> tuple[HeatMap, ...]:
    from arraysmith.reporting.heatmap import heat_maps

    return heat_maps(facts, read_designs(run.path / DESIGNS_FILE))


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
