"""The verb `report`: everything a run recorded, as one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraysmith.errors import InputFileError
from arraysmith.explorations import ExplorationFacts
from arraysmith.files import write_text
from arraysmith.flow.explored_files import BEST_PHYSICAL, BEST_SCALESIM, read_explored
from arraysmith.metrics import (
    Evaluation,
    Quantization,
    SampleEvaluation,
    SchemeResult,
    TrainingHistory,
    Verification,
)
from arraysmith.performance import NetworkMetrics
from arraysmith.physical_performance import MappedNetwork, PhysicalFacts
from arraysmith.store import Provenance, RunFolder

if TYPE_CHECKING:
    from pathlib import Path


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
        sample_evaluation=run.facts("sample_evaluation", SampleEvaluation),
        verification=run.facts("verification", Verification),
        simulation=run.facts("simulation", tuple[NetworkMetrics, ...]) or (),
        physical=run.facts("physical", tuple[PhysicalFacts, ...]) or (),
        mapping=run.facts("mapping", tuple[MappedNetwork, ...]) or (),
        exploration=exploration,
        explored=read_explored(run) if exploration else None,
        best_design=run.facts(BEST_PHYSICAL, PhysicalFacts)
        or run.facts(BEST_SCALESIM, NetworkMetrics),
        provenance=provenance,
        test_figure=run.figure("test_quant_model"),
    )
    write_text(run.report_path, html.render(facts))
    return run.report_path
