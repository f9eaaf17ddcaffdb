"""Figures for the HTML report, drawn with plotly from recorded facts: they answer to the mouse.

Every text that could come from a file goes through `_plain`: plotly reads a little HTML in labels.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arraysmith.metrics import Quantization, TrainingHistory
    from arraysmith.performance import ExplorationFacts, LayerMetrics, NetworkMetrics
    from arraysmith.reporting.heatmap import HeatMap

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


def heat_maps(facts: ExplorationFacts, maps: Sequence[HeatMap]) -> list[go.Figure]:
    """Cycles over height × width, one figure a dataflow, all on one logarithmic colour scale."""
    logs = [np.log10(np.maximum(found.total_cycles, 1)) for found in maps]
    low = min(float(np.nanmin(values)) for values in logs)
    high = max(float(np.nanmax(values)) for values in logs)
    ticks = list(range(int(np.floor(low)), int(np.ceil(high)) + 1))
    figures = []
    for found, values in zip(maps, logs, strict=True):
        title = f"{found.dataflow.upper()}: total cycles"
        figure = blank_figure(title, "columns", "rows", model=facts.model)
        figure.add_heatmap(
            x=found.cols.tolist(),
            y=found.rows.tolist(),
            z=_cells(values),
            customdata=_cells(found.total_cycles),
            hovertemplate="%{y}×%{x}: %{customdata:,} cycles<extra></extra>",
            zmin=low,
            zmax=high,
            colorscale="Viridis",
            reversescale=True,
            colorbar={
                "title": "cycles",
                "tickvals": ticks,
                "ticktext": [f"10<sup>{tick}</sup>" for tick in ticks],
            },
        )
        best = [design for design in facts.best_per_dataflow if design.dataflow == found.dataflow]
        figure.add_scatter(
            x=[design.cols for design in best],
            y=[design.rows for design in best],
            mode="markers",
            marker={
                "symbol": "star",
                "size": 16,
                "color": "white",
                "line": {"color": "black", "width": 1.5},
            },
            hovertemplate="best: %{y}×%{x}<extra></extra>",
            showlegend=False,
        )
        figures.append(figure)
    return figures


def pareto_front(facts: ExplorationFacts) -> go.Figure:
    """Cycles against PEs: every array that no other beats in both."""
    figure = blank_figure("Pareto front", "PEs", "total cycles", model=facts.model)
    front = facts.front
    figure.add_scatter(
        x=[design.pes for design in front],
        y=[design.total_cycles for design in front],
        text=[str(design) for design in front],
        customdata=[100 * design.utilization for design in front],
        mode="lines+markers",
        line={"shape": "hv", "color": COLOURS[0]},
        hovertemplate="%{text}<br>%{x:,} PEs, %{y:,} cycles, %{customdata:.1f} % utilization"
        "<extra></extra>",
        name="front",
    )
    best = facts.best
    figure.add_scatter(
        x=[best.pes],
        y=[best.total_cycles],
        text=[str(best)],
        mode="markers",
        marker={"symbol": "star", "size": 16, "color": COLOURS[1]},
        hovertemplate="chosen: %{text}<br>%{x:,} PEs, %{y:,} cycles<extra></extra>",
        name="chosen",
    )
    figure.update_xaxes(type="log", dtick="D2")
    figure.update_yaxes(type="log", dtick="D2")
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


def _cells(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[list[float | None]]:
    """A matrix with None for NaN, which JSON has not."""
    return [[None if np.isnan(cell) else float(cell) for cell in row] for row in values]


def plain(text: str) -> str:
    """Text that plotly shows as it is."""
    return html.escape(text)
