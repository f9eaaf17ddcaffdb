"""Pictures of the model `physical` for the HTML report, drawn with plotly from recorded facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraysmith.reporting import physical_facts as facts
from arraysmith.reporting.interactive import blank_figure, plain
from arraysmith.reporting.physical_colours import KIND_COLOURS, PART_COLOURS

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from arraysmith.physical_performance import LayerTimeline, PhysicalNetworkMetrics

MODEL = "physical"


def breakdown(found: PhysicalNetworkMetrics) -> list[go.Figure]:
    """Where cycles and energy of each layer go."""
    names = [plain(layer.name) for layer in found.layers]
    cycles = blank_figure("Cycles per layer", "", "cycles", model=MODEL)
    for colour, (name, part) in zip(PART_COLOURS, facts.CYCLE_PARTS, strict=False):
        cycles.add_bar(
            x=names,
            y=[part(layer) for layer in found.layers],
            name=name,
            marker_color=colour,
            hovertemplate="%{x}: %{y:,} cycles",
        )
    highest = max(layer.energy.total_pj[1] for layer in found.layers)
    scale, unit = facts.energy_unit(highest)
    energy = blank_figure("Energy per layer, mid estimate", "", unit, model=MODEL)
    for colour, (name, share) in zip(PART_COLOURS, facts.ENERGY_PARTS, strict=True):
        energy.add_bar(
            x=names,
            y=[share(layer.energy)[1] / scale for layer in found.layers],
            customdata=[facts.energy_text(share(layer.energy)) for layer in found.layers],
            name=name,
            marker_color=colour,
            hovertemplate="%{x}: %{customdata} (low–mid–high)",
        )
    totals = [layer.energy.total_pj for layer in found.layers]
    energy.add_scatter(
        x=names,
        y=[mid / scale for _, mid, _ in totals],
        error_y={
            "type": "data",
            "array": [(high - mid) / scale for _, mid, high in totals],
            "arrayminus": [(mid - low) / scale for low, mid, _ in totals],
            "color": "#444",
            "thickness": 1,
            "width": 0,
        },
        mode="markers",
        marker={"size": 1, "color": "#444"},
        customdata=[facts.energy_text(total) for total in totals],
        name="low to high",
        hovertemplate="%{x}: %{customdata} in all (low–mid–high)<extra></extra>",
    )
    for figure in (cycles, energy):
        _legend_above(figure)
        figure.update_layout(barmode="stack")
        figure.update_xaxes(type="category", automargin=True)
    return [cycles, energy]


def roofline(found: PhysicalNetworkMetrics) -> go.Figure:
    """MACs a cycle against MACs per byte of DRAM traffic, under the two roofs."""
    dots = facts.dots(found)
    pes, rate = found.rows * found.cols, found.dram_bytes_per_cycle
    ridge = pes / rate
    left = min(*(dot.macs_per_dram_byte for dot in dots), ridge) / 2
    right = max(*(dot.macs_per_dram_byte for dot in dots), ridge) * 2
    figure = blank_figure(
        "Roofline", "MACs per byte of DRAM traffic", "MACs per cycle", model=MODEL
    )
    figure.add_scatter(
        x=[ridge, right], y=[pes, pes], mode="lines", line_color="#444", name=f"{pes:,} PEs"
    )
    figure.add_scatter(
        x=[left, ridge],
        y=[left * rate, pes],
        mode="lines",
        line_color=KIND_COLOURS["results out"],
        name=f"DRAM: {rate:g} bytes a cycle",
    )
    figure.add_scatter(
        x=[dot.macs_per_dram_byte for dot in dots],
        y=[dot.macs_per_cycle for dot in dots],
        text=[plain(dot.layer) for dot in dots],
        customdata=[100 * dot.share for dot in dots],
        mode="markers",
        marker={
            "color": PART_COLOURS[0],
            "opacity": 0.6,
            "size": [7 + 25 * dot.share**0.5 for dot in dots],
        },
        hovertemplate="%{text}<br>%{x:.3g} MACs per byte, %{y:.3g} per cycle, "
        "%{customdata:.1f} % of the cycles<extra></extra>",
        name="layers",
    )
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log")
    return figure


def lanes(found: LayerTimeline) -> go.Figure:
    """The first steps of a layer in time: the DRAM channel above the array."""
    figure = blank_figure(
        f"{plain(found.layer)} in time", f"cycles: {facts.rest_of(found)}", "", model=MODEL
    )
    drawn = facts.spans(found)
    for kind in dict.fromkeys(span.kind for span in drawn):
        members = [span for span in drawn if span.kind == kind]
        figure.add_bar(
            orientation="h",
            y=[span.lane for span in members],
            x=[span.cycles for span in members],
            base=[span.start_cycle for span in members],
            customdata=[[span.step, span.byte_count] for span in members],
            name=kind,
            marker={"color": KIND_COLOURS[kind], "line": {"color": "white", "width": 0.5}},
            hovertemplate="step %{customdata[0]}: %{x:,.0f} cycles, %{customdata[1]:,} bytes"
            if kind != "computing"
            else "step %{customdata[0]}: %{x:,.0f} cycles",
        )
    figure.update_layout(barmode="overlay", height=300)
    _legend_above(figure)
    figure.update_yaxes(
        categoryorder="array", categoryarray=[facts.ARRAY, facts.CHANNEL], automargin=True
    )
    return figure


def _legend_above(figure: go.Figure) -> None:
    """Where it covers neither a bar nor the title, in a narrow window two entries a line."""
    lines = (len(figure.data) + 1) // 2
    figure.update_layout(
        title={"y": 0.93, "yanchor": "top", "yref": "container"},
        legend={"y": 1.0, "yanchor": "bottom"},
        margin={"l": 60, "r": 20, "t": 45 + 20 * lines, "b": 50},
    )
