"""One self-contained `report.html` from the facts of a run: no network, safe with any name.

The template escapes all text; figures are plotly's JSON with its script inlined once.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from arraysmith.reporting import (
    exploration_page,
    interactive,
    physical_interactive,
    physical_tables,
    quantization_tables,
    tables,
)
from arraysmith.reporting.page import Headline, Listing, Section, embed
from arraysmith.reporting.physical_facts import array_of, energy_text, longest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arraysmith.explorations import ExplorationFacts, ExploredDesigns
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
    from arraysmith.store import Provenance


ARRAYS_DRAWN = 3
"""Of several simulated ones, in detail; tables have all."""
LAYERS_IN_TIME = 3
"""Whose first steps are drawn; every layer's loop nest is listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """All that a run recorded; what was not done is None or empty."""

    training: TrainingHistory | None = None
    quantization: Quantization | None = None
    schemes: tuple[SchemeResult, ...] = ()
    evaluation: Evaluation | None = None
    sample_evaluation: SampleEvaluation | None = None
    verification: Verification | None = None
    simulation: tuple[NetworkMetrics, ...] = ()
    physical: tuple[PhysicalFacts, ...] = ()
    mapping: tuple[MappedNetwork, ...] = ()
    """The proofs of the mappings in `physical`, where they were searched."""
    exploration: ExplorationFacts | None = None
    explored: ExploredDesigns | None = None
    """What the pictures of `exploration` need; without it they show what the facts list."""
    best_design: PhysicalFacts | NetworkMetrics | None = None
    """Of the exploration, layer by layer."""
    provenance: Mapping[str, Provenance] = field(default_factory=dict)
    test_figure: Path | None = None
    """figs/test_quant_model.png, embedded as it is."""


def render(facts: RunFacts) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("arraysmith.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [
        *_training(facts),
        *_quantization(facts),
        *_simulation(facts),
        *_physical(facts),
        *(
            exploration_page.sections(facts.exploration, facts.explored, facts.best_design)
            if facts.exploration
            else []
        ),
    ]
    return environment.get_template("report.html").render(
        title=_title(facts),
        headlines=_headlines(facts),
        sections=sections,
        provenance=facts.provenance,
        # plotly's WebGL compiles its drawing functions in the page.
        needs_eval=facts.exploration is not None,
        plotly=Markup(get_plotlyjs()),  # noqa: S704 (plotly's own script)
    )


def _title(facts: RunFacts) -> str:
    if facts.exploration:
        return facts.exploration.workload
    if facts.simulation:
        return facts.simulation[0].workload
    if facts.physical:
        return facts.physical[0].metrics.workload
    return facts.quantization.network if facts.quantization else "run"


def _headlines(facts: RunFacts) -> list[Headline]:
    found = []
    evaluated = facts.evaluation or facts.sample_evaluation
    if evaluated and evaluated.comparison:
        comparison = evaluated.comparison
        integers = "int8 accuracy, integers only"
        if facts.quantization and facts.quantization.islands:
            integers = "accuracy as integers, with float islands"
        found += [
            Headline(value=tables.percent(comparison.float_accuracy), label="float32 accuracy"),
            Headline(value=tables.percent(comparison.int8_accuracy), label=integers),
        ]
    if facts.verification:
        ends = facts.verification.back_ends
        found.append(
            Headline(
                value=f"{facts.verification.different:,}",
                label=f"of {sum(each.integers for each in ends):,} integers differ between NumPy "
                f"and {len(ends)} back ends",
            )
        )
    if facts.quantization:
        found.append(
            Headline(
                value=f"{facts.quantization.accumulator_bits} bits",
                label="accumulator that suffices, proven",
            )
        )
    if facts.exploration:
        found += exploration_page.headlines(facts.exploration)
    if facts.physical:
        metrics = facts.physical[0].metrics
        found += [
            Headline(
                value=f"{metrics.total_cycles:,}",
                label=f"cycles on {array_of(metrics)} (model: physical)",
            ),
            Headline(
                value=energy_text(metrics.energy_pj),
                label=f"low–mid–high estimate ({metrics.technology}, model: physical)",
            ),
        ]
    return found


def _training(facts: RunFacts) -> list[Section]:
    history = facts.training
    if history is None:
        return []
    best = history.best
    text = (
        f"{len(history.epochs)} epochs of {history.train_images:,} images, batch "
        f"{history.batch_size}, SGD with learning rate {history.learning_rate} and momentum "
        f"{history.momentum}, seed {history.seed}. {history.val_images:,} held-out images chose "
        f"epoch {best.number}: validation accuracy {tables.percent(best.val_accuracy)}. "
        f"Made by: {history.command}"
    )
    figures = [embed(figure) for figure in interactive.training_curves(history)]
    return [Section(anchor="training", title="Training", text=text, figures=figures)]


def _quantization(facts: RunFacts) -> list[Section]:
    sections = []
    if facts.evaluation:
        image = ""
        if facts.test_figure is not None and facts.test_figure.exists():
            encoded = base64.b64encode(facts.test_figure.read_bytes()).decode()
            image = f"data:image/png;base64,{encoded}"
        sections.append(
            Section(
                anchor="accuracy",
                title="Accuracy, float against int8",
                tables=[tables.accuracy(facts.evaluation)],
                image=image,
                image_text="Confusion matrix of the int8 network, and the digits whose class "
                "changed: label, then float → int8",
            )
        )
    if facts.quantization:
        sections.append(
            Section(
                anchor="quantization",
                title="Quantization",
                text="y = clamp(zy + ((acc·m + 2ⁿ⁻¹) >> n)): one rounding, ties up; integers only.",
                figures=[embed(interactive.quantization_error(facts.quantization))],
                tables=[
                    quantization_tables.quantized_layers(facts.quantization),
                    *(
                        [quantization_tables.sensitivity(facts.quantization)]
                        if facts.quantization.sensitivity
                        else []
                    ),
                ],
            )
        )
    if facts.sample_evaluation:
        sections.append(
            Section(
                anchor="samples",
                title="Float against integers",
                tables=[quantization_tables.outputs(facts.sample_evaluation)],
            )
        )
    if facts.verification:
        sections.append(
            Section(
                anchor="verification",
                title="The same integers everywhere",
                tables=[quantization_tables.verification(facts.verification)],
            )
        )
    if facts.schemes:
        sections.append(
            Section(anchor="schemes", title="Schemes", tables=[tables.schemes(facts.schemes)])
        )
    return sections


def _simulation(facts: RunFacts) -> list[Section]:
    if not facts.simulation:
        return []
    return [
        Section(
            anchor="simulation",
            title="On the array",
            text=f"Model of time: {facts.simulation[0].model}, equal to SCALE-Sim 3.0.0. "
            "One image; pooling and tables happen beside the array.",
            figures=[
                embed(figure)
                for figure in (
                    *interactive.simulation(facts.simulation),
                    *map(interactive.roofline, facts.simulation[:ARRAYS_DRAWN]),
                )
            ],
            wide_figures=[
                embed(interactive.breakdown(found)) for found in facts.simulation[:ARRAYS_DRAWN]
            ],
            tables=[
                tables.simulated_networks(facts.simulation),
                *(tables.simulated_layers(found) for found in facts.simulation),
            ],
        )
    ]


def _physical(facts: RunFacts) -> list[Section]:
    """One section for each array."""
    sections = []
    for number, found in enumerate(facts.physical):
        metrics = found.metrics
        mapped = facts.mapping[number] if number < len(facts.mapping) else None
        if mapped is not None and len(mapped.layers) != len(metrics.layers):
            mapped = None  # of another run: it proves nothing here
        sections.append(
            Section(
                anchor=f"physical-{number + 1}",
                title=f"Physical: {array_of(metrics)}",
                text="Model of time: physical, the array itself with its buffers and one DRAM "
                "channel. Below: where cycles and energy go, the roofline, and the first steps of "
                "the layers that take longest.",
                figures=[embed(physical_interactive.roofline(metrics))],
                wide_figures=[
                    *map(embed, physical_interactive.breakdown(metrics)),
                    *(
                        embed(physical_interactive.lanes(each))
                        for each in longest(found, LAYERS_IN_TIME)
                    ),
                ],
                tables=[
                    physical_tables.networks([each.metrics for each in facts.physical]),
                    physical_tables.layers(metrics, mapped),
                    *(
                        [physical_tables.front(mapped)]
                        if mapped is not None and mapped.objective == "front"
                        else []
                    ),
                ],
                listing_title=f"Loop nests of all {len(metrics.layers):,} layers (model: physical)",
                listings=[
                    Listing(title=each.layer, lines=physical_tables.nest_lines(each))
                    for each in found.timelines
                ],
            )
        )
    return sections
