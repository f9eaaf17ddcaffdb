"""Figures for the HTML report, drawn with plotly from recorded facts: they answer to the mouse.

Every text that could come from a file goes through `_plain`: plotly reads a little HTML in labels.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from arraysmith.reporting.physical_colours import PART_COLOURS
from arraysmith.reporting.scalesim_facts import CYCLE_PARTS, dots_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arraysmith.metrics import Quantization, TrainingHistory
    from arraysmith.performance import LayerMetrics, NetworkMetrics

COLOURS = ("#2c6fbb", "#e07b39", "#3a9a6b", "#8a5fb0", "#b33f40", "#7a7a7a")


def training_curves(history: TrainingHistory) -> list[go.Figure]:
    """Loss and accuracy over the epochs."""
    figures = []
    for kind, scale, unit in (("loss", 1, "cross-entropy"), ("accuracy", 100, "accuracy (%)")):
        figure = blank_figure(f"Training: {kind}", "epoch", unit)
        for colour, part in zip(COLOURS, ("train", "val"), strict=False):
            values = [scale * getattr(epoch, f"{part}_{kind}") for epoch in history.epochs]
            numbers = [epoch.number for epoch in history.epochs]
            figure.add_scatter(
                x=numbers, y=values, name=part, mode="lines+markers", line_color=colour
            )
        figure.add_vline(history.best.number, line_dash="dot", line_color="#888")
        figures.append(figure)
    return figures


def quantization_error(facts: Quantization) -> go.Figure:
    """SQNR of every layer's output."""
    figure = blank_figure(
        "Quantization error: SQNR of each layer's output", "", "dB (higher is better)"
    )
    figure.add_bar(
        x=[plain(layer.name) for layer in facts.layers],
        y=[layer.sqnr_db for layer in facts.layers],
        text=[
            "exact" if layer.sqnr_db is None else f"{layer.sqnr_db:.1f}" for layer in facts.layers
        ],
        marker_color=COLOURS[0],
    )
    return figure


def simulation(results: Sequence[NetworkMetrics]) -> list[go.Figure]:
    """Cycles, utilization and bandwidth requirement of every layer on every array."""
    panels: tuple[tuple[str, str, Callable[[LayerMetrics], float | None]], ...] = (
        ("Cycles per layer", "total cycles", lambda layer: layer.total_cycles),
        (
            "Utilization per layer",
            "overall utilization (%)",
            lambda layer: 100 * layer.overall_utilization,
        ),
        (
            "Bandwidth requirement per layer",
            "DRAM words per cycle",
            lambda layer: layer.dram_words_per_cycle,
        ),
    )
    figures = []
    for title, unit, value in panels:
        figure = blank_figure(title, "", unit, model=results[0].model)
        for number, found in enumerate(results):
            figure.add_bar(
                x=[plain(layer.name) for layer in found.layers],
                y=[value(layer) for layer in found.layers],
                name=f"{found.rows}×{found.cols} {found.dataflow.upper()}",
                marker_color=COLOURS[number % len(COLOURS)],
            )
        figures.append(figure)
    return figures


def breakdown(found: NetworkMetrics) -> go.Figure:
    """Where the cycles of each layer go; SCALE-Sim knows no energy."""
    figure = blank_figure("Cycles per layer", "", "cycles", model=found.model)
    names = [plain(layer.name) for layer in found.layers]
    for colour, (name, part) in zip(PART_COLOURS, CYCLE_PARTS, strict=False):
        figure.add_bar(
            x=names,
            y=[part(layer) for layer in found.layers],
            name=name,
            marker_color=colour,
            hovertemplate="%{x}: %{y:,} cycles",
        )
    figure.update_layout(barmode="stack")
    legend_above(figure, f"Cycles per layer on {_array(found)}", found.model)
    figure.update_xaxes(type="category", automargin=True)
    return figure


def roofline(found: NetworkMetrics) -> go.Figure:
    """MACs a cycle against MACs per DRAM word, of the layers whose words are known.

    The roof of the DRAM is drawn where the accelerator gives a bandwidth; SCALE-Sim's CALC mode
    does not hold a layer to it.
    """
    dots = dots_of(found)
    pes, rate = found.rows * found.cols, found.dram_words_per_cycle
    x = [dot.macs_per_dram_word for dot in dots]
    ridge = [] if rate is None else [pes / rate]
    left, right = min([*x, *ridge, pes], default=1) / 2, max([*x, *ridge, 1.0]) * 2
    figure = blank_figure("", "MACs per DRAM word", "MACs per cycle")
    start = ridge[0] if ridge else left
    lines = [(f"{pes:,} PEs", [start, right], [float(pes), float(pes)], "#444")]
    if rate is not None:
        slope = [left * rate, pes]
        lines.append((f"DRAM: {rate:g} words a cycle", [left, start], slope, COLOURS[1]))
    for name, along, up, colour in lines:
        figure.add_scatter(x=along, y=up, mode="lines", line_color=colour, name=name)
    figure.add_scatter(
        x=x,
        y=[dot.macs_per_cycle for dot in dots],
        text=[plain(dot.layer) for dot in dots],
        customdata=[100 * dot.share for dot in dots],
        mode="markers",
        marker={
            "color": COLOURS[0],
            "opacity": 0.6,
            "size": [7 + 25 * dot.share**0.5 for dot in dots],
        },
        hovertemplate="%{text}<br>%{x:.3g} MACs per word, %{y:.3g} per cycle, "
        "%{customdata:.1f} % of the cycles<extra></extra>",
        name="layers",
    )
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log")
    legend_above(figure, f"Roofline of {_array(found)}", found.model)
    return figure


def blank_figure(title: str, x: str, y: str, *, model: str = "") -> go.Figure:
    """A figure with titles and nothing in it; the model of time is named where there is one."""
    figure = go.Figure()
    if model:
        title += f"<br><sup>model: {plain(model)}</sup>"
    figure.update_layout(
        title={"text": title, "font": {"size": 15}},
        xaxis_title=x,
        yaxis_title=y,
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        height=380,
        legend={"orientation": "h", "y": 1.08, "x": 1, "xanchor": "right"},
        font={"family": "system-ui, sans-serif", "size": 12},
    )
    return figure


def legend_above(figure: go.Figure, title: str, model: str) -> None:
    """Title, legend and drawing below each other; in a narrow window two entries a line."""
    lines = (len(figure.data) + 1) // 2
    figure.update_layout(
        title={
            "text": f"{title}<br><sup>model: {plain(model)}</sup>",
            "y": 1,
            "yanchor": "top",
            "yref": "container",
            "pad": {"t": 12},
        },
        legend={"y": 1.0, "yanchor": "bottom"},
        margin={"l": 60, "r": 20, "t": 50 + 20 * lines, "b": 50},
    )


def _array(found: NetworkMetrics) -> str:
    return f"{found.rows}×{found.cols} {found.dataflow.upper()}"


def plain(text: str) -> str:
    """Text that plotly shows as it is."""
    return html.escape(text)
