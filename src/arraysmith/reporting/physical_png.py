"""Pictures of the model `physical` as PNG files: breakdowns, a roofline, a mapping in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter

from arraysmith.reporting import physical_facts as facts
from arraysmith.reporting.physical_colours import KIND_COLOURS, PART_COLOURS
from arraysmith.reporting.physical_tables import MODEL, in_short, nest_lines
from arraysmith.reporting.png import drawing, plain

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from arraysmith.physical_performance import (
        LayerTimeline,
        PhysicalFacts,
        PhysicalNetworkMetrics,
    )

THOUSANDS = StrMethodFormatter("{x:,.10g}")
MAX_NAME = 22
MOST_NAMED = 14
"""Layers whose names stand in a roofline."""
NEAR = 15.0
"""Dots closer than so many pixels share a name."""


def breakdown(path: Path, found: PhysicalNetworkMetrics) -> None:
    """Where cycles and energy of each layer go."""
    count = len(found.layers)
    with drawing(path, (min(max(7.5, 3 + 0.24 * count), 22), 7)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        places = np.arange(count)
        below = np.zeros(count)
        for colour, (name, part) in zip(PART_COLOURS, facts.CYCLE_PARTS, strict=False):
            values = np.array([float(part(layer)) for layer in found.layers])
            upper.bar(places, values, 0.8, below, color=colour, label=name)
            below += values
        upper.yaxis.set_major_formatter(THOUSANDS)
        upper.set_ylabel("cycles")
        upper.set_title(
            plain(f"{found.total_cycles:,} cycles, of which stalls {found.stall_cycles:,}")
        )
        _energies(lower, found)
        step = -(-count // 120)
        lower.set_xticks(
            places[::step],
            [_shortened(layer.name) for layer in found.layers[::step]],
            rotation=90 if count > 8 else 0,
            fontsize=10 if count <= 8 else 7.5,
        )
        lower.set_xlim(-0.6, count - 0.4)
        for axes in (upper, lower):
            axes.grid(visible=False, axis="x")
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.suptitle(_title(found))


def _energies(axes: Axes, found: PhysicalNetworkMetrics) -> None:
    """Mid estimates stacked, with a line from the low total to the high one."""
    totals = np.array([layer.energy.total_pj for layer in found.layers])
    scale, unit = facts.energy_unit(totals[:, 1].max())
    places = np.arange(len(totals))
    below = np.zeros(len(totals))
    for colour, (name, part) in zip(PART_COLOURS, facts.ENERGY_PARTS, strict=True):
        values = np.array([part(layer.energy)[1] / scale for layer in found.layers])
        axes.bar(places, values, 0.8, below, color=colour, label=name)
        below += values
    axes.vlines(places, totals[:, 0] / scale, totals[:, 2] / scale, color="0.25", lw=1)
    axes.plot([], [], color="0.25", lw=1, label="low to high")
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.set_ylabel(f"energy, mid estimate ({unit})")
    axes.set_title(
        plain(f"{facts.energy_text(found.energy_pj)} (low–mid–high): {found.technology}")
    )


def roofline(path: Path, found: PhysicalNetworkMetrics) -> None:
    """MACs a cycle against MACs per byte of DRAM traffic, under the two roofs."""
    dots = facts.dots(found)
    x = np.array([dot.macs_per_dram_byte for dot in dots])
    y = np.array([dot.macs_per_cycle for dot in dots])
    pes, rate = found.rows * found.cols, found.dram_bytes_per_cycle
    ridge = pes / rate
    with drawing(path, (9.5, 6)) as figure:
        axes = figure.subplots()
        left, right = min(x.min(), ridge) / 2, max(x.max(), ridge) * 2.5
        lines = (
            ([ridge, right], [pes, pes], "0.25", f"{pes:,} PEs"),
            (
                [left, ridge],
                [left * rate, pes],
                KIND_COLOURS["results out"],
                f"DRAM: {rate:g} bytes a cycle",
            ),
        )
        for along, up, colour, name in lines:
            axes.plot(along, up, color=colour, lw=1.8, label=name)
        areas = 25 + 250 * np.sqrt([dot.share for dot in dots])
        axes.scatter(x, y, areas, color=PART_COLOURS[0], alpha=0.6, edgecolor="white", lw=0.6)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(left, right)
        # Names hang below the dots, so there is room for them.
        axes.set_ylim(min(y.min(), left * rate) / 8, pes * 1.6)
        axes.set_xlabel("MACs per byte of DRAM traffic")
        axes.set_ylabel("MACs per cycle")
        axes.legend(loc="lower right")
        figure.suptitle(_title(found))
        axes.set_title("a dot is a layer, its area grows with its share of the cycles", fontsize=9)
        figure.canvas.draw()  # the layout is final from here on, and so are places in points
        _name_dots(axes, dots)


def _name_dots(axes: Axes, dots: tuple[facts.Dot, ...]) -> None:
    """Names below the dots of the longest layers; dots in one place have one name."""
    places: list[list[facts.Dot]] = []
    pixels: list[tuple[float, float]] = []
    for dot in sorted(dots, key=lambda dot: -dot.share):
        x, y = axes.transData.transform((dot.macs_per_dram_byte, dot.macs_per_cycle))
        near = [
            place
            for place, (left, down) in enumerate(pixels)
            if abs(left - x) < NEAR and abs(down - y) < NEAR
        ]
        if near:
            places[near[0]].append(dot)
        elif len(places) < MOST_NAMED:
            places.append([dot])
            pixels.append((x, y))
    points = 72 / axes.figure.dpi
    free = -np.inf
    for (x, _), members in sorted(zip(pixels, places, strict=True), key=lambda each: each[0]):
        first = members[0]
        start = max(x, free)
        free = start + 1.35 * NEAR
        more = f" +{len(members) - 1}" if len(members) > 1 else ""
        axes.annotate(
            _shortened(first.layer) + more,
            (first.macs_per_dram_byte, first.macs_per_cycle),
            ((start - x) * points, -26),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="top",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "0.6", "lw": 0.6, "shrinkB": 4},
        )


def mapping(path: Path, found: PhysicalFacts, layer: str | None = None) -> None:
    """A layer's loop nest above its first steps in time; by default the longest layer's."""
    chosen = [each for each in found.timelines if each.layer == layer]
    timeline = chosen[0] if chosen else facts.longest(found, 1)[0]
    place = found.timelines.index(timeline)
    metrics = found.metrics.layers[place]
    lines = nest_lines(timeline)
    with drawing(path, (12, 4 + 0.2 * len(lines))) as figure:
        text, axes = figure.subplots(2, 1, height_ratios=[0.2 * len(lines), 2.9])
        text.axis("off")
        text.text(
            0,
            1,
            plain("\n".join(lines)),
            family="monospace",
            size=8.5,
            va="top",
            transform=text.transAxes,
        )
        _lanes(axes, timeline)
        figure.suptitle(
            plain(
                f"{_shortened(timeline.layer)} on {found.metrics.rows}×{found.metrics.cols} "
                f"{metrics.mapping.microarchitecture}: {in_short(metrics.mapping)} ({MODEL})"
            )
        )


def _lanes(axes: Axes, timeline: LayerTimeline) -> None:
    heights = {facts.ARRAY: 0.0, facts.CHANNEL: 1.0}
    drawn = facts.spans(timeline)
    for span in drawn:
        axes.barh(
            heights[span.lane],
            span.cycles,
            0.62,
            span.start_cycle,
            color=KIND_COLOURS[span.kind],
            edgecolor="white",
            lw=0.6 if span.lane == facts.ARRAY else 0,
        )
    now = timeline.first_load_cycles
    for number, step in enumerate(timeline.steps, 1):
        axes.axvline(now, color="0.8", lw=0.7, zorder=0)
        axes.text(now + step.cycles / 2, 1.5, str(number), ha="center", size=7.5, color="0.35")
        now += step.cycles
    axes.axvline(now, color="0.8", lw=0.7, zorder=0)
    axes.set_yticks(list(heights.values()), list(heights))
    axes.set_ylim(-0.45, 1.75)
    axes.set_xlim(0, max(span.start_cycle + span.cycles for span in drawn) * 1.01)
    axes.grid(visible=False)
    axes.xaxis.set_major_formatter(THOUSANDS)
    axes.set_xlabel(f"cycles: {facts.rest_of(timeline)}")
    kinds = dict.fromkeys(span.kind for span in drawn)
    axes.legend(
        handles=[Patch(color=KIND_COLOURS[kind], label=kind) for kind in kinds],
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(kinds),
    )


def _title(found: PhysicalNetworkMetrics) -> str:
    return plain(f"{_shortened(found.workload)} on {facts.array_of(found)} ({MODEL})")


def _shortened(name: str) -> str:
    return plain(name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…")
