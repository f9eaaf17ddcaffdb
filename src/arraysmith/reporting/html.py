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

from arraysmith.reporting import interactive, physical_interactive, physical_tables, tables
from arraysmith.reporting.physical_facts import array_of, energy_text, longest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import plotly.graph_objects as go

    from arraysmith.metrics import Evaluation, Quantization, SchemeResult, TrainingHistory
    from arraysmith.performance import ExplorationFacts, NetworkMetrics, PhysicalExplorationFacts
    from arraysmith.physical_performance import MappedNetwork, PhysicalFacts
    from arraysmith.reporting.heatmap import HeatMap
    from arraysmith.reporting.tables import Table
    from arraysmith.store import Provenance


DESIGNS_SHOWN = 20
LAYERS_IN_TIME = 3
"""Whose first steps are drawn; every layer's loop nest is listed."""
_UNUSED_BUTTONS = ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """All that a run recorded; what was not done is None or empty."""

    training: TrainingHistory | None = None
    quantization: Quantization | None = None
    schemes: tuple[SchemeResult, ...] = ()
    evaluation: Evaluation | None = None
    simulation: tuple[NetworkMetrics, ...] = ()
    physical: tuple[PhysicalFacts, ...] = ()
    mapping: tuple[MappedNetwork, ...] = ()
    """The proofs of the mappings in `physical`, where they were searched."""
    physical_exploration: PhysicalExplorationFacts | None = None
    exploration: ExplorationFacts | None = None
    heat_maps: tuple[HeatMap, ...] = ()
    provenance: Mapping[str, Provenance] = field(default_factory=dict)
    test_figure: Path | None = None
    """figs/test_quant_model.png, embedded as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A number people look for first."""

    value: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Lines of code under a heading."""

    title: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the report."""

    anchor: str
    title: str
    text: str = ""
    figures: Sequence[Markup] = ()
    wide_figures: Sequence[Markup] = ()
    """Each as wide as the page."""
    tables: Sequence[Table] = ()
    listings: Sequence[Listing] = ()
    listing_title: str = ""
    """Of all of them; a click opens it."""
    image: str = ""
    """A data URI."""
    image_text: str = ""


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
        *_exploration(facts),
        *_physical_exploration(facts),
    ]
    return environment.get_template("report.html").render(
        title=_title(facts),
        headlines=_headlines(facts),
        sections=sections,
        provenance=facts.provenance,
        plotly=Markup(get_plotlyjs()),  # noqa: S704 (plotly's own script)
    )


def _title(facts: RunFacts) -> str:
    if facts.exploration:
        return facts.exploration.workload
    if facts.simulation:
        return facts.simulation[0].workload
    if facts.physical:
        return facts.physical[0].metrics.workload
    if facts.physical_exploration:
        return facts.physical_exploration.workload
    return facts.quantization.network if facts.quantization else "run"


def _headlines(facts: RunFacts) -> list[Headline]:
    found = []
    if facts.evaluation:
        comparison = facts.evaluation.comparison
        found += [
            Headline(value=tables.percent(comparison.float_accuracy), label="float32 accuracy"),
            Headline(
                value=tables.percent(comparison.int8_accuracy), label="int8 accuracy, integers only"
            ),
        ]
    if facts.quantization:
        found.append(
            Headline(
                value=f"{facts.quantization.accumulator_bits} bits",
                label="accumulator that suffices, proven",
            )
        )
    if facts.exploration:
        best = facts.exploration.best
        found += [
            Headline(
                value=str(best),
                label=f"best array, proven over {facts.exploration.designs:,} designs",
            ),
            Headline(
                value=f"{best.total_cycles:,}", label=f"cycles on it ({facts.exploration.model})"
            ),
        ]
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
    figures = [_embed(figure) for figure in interactive.training_curves(history)]
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
                figures=[_embed(interactive.quantization_error(facts.quantization))],
                tables=[tables.quantized_layers(facts.quantization)],
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
            figures=[_embed(figure) for figure in interactive.simulation(facts.simulation)],
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
                figures=[_embed(physical_interactive.roofline(metrics))],
                wide_figures=[
                    *map(_embed, physical_interactive.breakdown(metrics)),
                    *(
                        _embed(physical_interactive.lanes(each))
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


def _physical_exploration(facts: RunFacts) -> list[Section]:
    found = facts.physical_exploration
    if found is None:
        return []
    return [
        Section(
            anchor="physical-exploration",
            title="The best array, physical",
            text=physical_tables.designs_verdict(found),
            tables=[
                physical_tables.designs(found, DESIGNS_SHOWN),
                physical_tables.designs_front(found),
            ],
        )
    ]


def _exploration(facts: RunFacts) -> list[Section]:
    found = facts.exploration
    if found is None:
        return []
    maps = interactive.heat_maps(found, facts.heat_maps) if facts.heat_maps else []
    text = tables.exploration_verdict(found)
    if any(drawn.thinned for drawn in facts.heat_maps):
        text += " The heat maps show every k-th row and column; designs.npz has all of them."
    return [
        Section(
            anchor="exploration",
            title="The best array",
            text=text,
            figures=[_embed(figure) for figure in maps],
            tables=[
                tables.designs(f"Best designs by {found.objective}", found.ranking, found),
                tables.designs("Best of each dataflow", found.best_per_dataflow, found),
            ],
        ),
        Section(
            anchor="front",
            title="Cycles against PEs",
            text="Every array here is the fastest of its size: no array of as few PEs takes fewer "
            f"cycles (model: {found.model}).",
            figures=[_embed(interactive.pareto_front(found))],
            tables=[tables.designs("Pareto front", found.front, found, memory=False)],
        ),
    ]


def _embed(figure: go.Figure) -> Markup:
    """A figure as a div and its script; plotly escapes `<`, `>` and `/` inside the JSON."""
    return Markup(  # noqa: S704
        figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            config={"displaylogo": False, "modeBarButtonsToRemove": _UNUSED_BUTTONS},
        )
    )
