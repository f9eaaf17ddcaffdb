"""Pictures of an exploration as files, drawn with matplotlib: .png, or .svg and .pdf for papers.

Figures are as wide as a column of a page takes them, 7 inches at most a row of landscapes. Clouds
of dots and lines are pixels in a vector file too, at 300 a inch; axes, text and fronts are vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from arraysmith.reporting import exploration_facts as facts_of
from arraysmith.reporting import exploration_pictures as pictures
from arraysmith.reporting.png import COLOURS, drawing, plain

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from arraysmith.explorations import ExplorationFacts, ExploredDesigns, Landscape
    from arraysmith.reporting.exploration_facts import Shown

GREY, PALE = "#d4d7dc", "#b4c2d3"
MAX_NAME = 40
FEW_STEPS = 2_000
SHORT = FuncFormatter(lambda value, _: facts_of.short(value))
_STAR: dict[str, Any] = {"marker": "*", "ms": 14, "mec": "k", "mew": 0.8, "ls": "none"}


def front(
    path: Path,
    facts: ExplorationFacts,
    explored: ExploredDesigns | None,
    x: str | None = None,
    y: str | None = None,
) -> None:
    """Two quantities of all evaluated designs, the front on top of them, the best as a star.

    Args:
        path: of the file; its suffix says which kind.
        facts: of the exploration.
        explored: its columns; None draws what the facts list.
        x, y: columns; by default the first two objectives, or PEs and the only one. A third
            objective is the colour of the front.
    """
    found = facts_of.shown(facts, explored)
    first, second = facts_of.pair(facts)
    names = (x or first, y or second)
    with drawing(path, (5.2, 3.9)) as figure:
        axes = figure.subplots()
        across, up = (found.scaled(name) for name in names)
        others = ~found.front
        if others.any():
            axes.plot(
                across[others], up[others], "o", ms=2.2, mew=0, color=PALE, rasterized=True,
                label=f"evaluated ({others.sum():,})",
            )  # fmt: skip
        _front(figure, axes, facts, found, names)
        best = [found.best[name] / found.quantities[name].scale for name in names]
        said = f"best {'' if facts.proven else 'found '}by {facts.objectives[0]}"
        axes.plot(*best, **_STAR, mfc=COLOURS[1], label=f"{said}: {facts.best}", zorder=5)
        if found.logarithmic(names[0]):
            axes.set_xscale("log")
        if found.logarithmic(names[1]):
            axes.set_yscale("log")
        for axis, name in ((axes.xaxis, names[0]), (axes.yaxis, names[1])):
            _mark(axis, found, name)
        _legend(figure, axes)
        figure.suptitle(_title(facts, facts_of.front_title(facts)), fontsize=10)


def parallel(path: Path, facts: ExplorationFacts, explored: ExploredDesigns | None) -> None:
    """Each design as a line over the axes of the space and the objectives, coloured by rank."""
    found = facts_of.shown(facts, explored)
    drawn = pictures.parallel(facts, found)
    count = len(drawn.dimensions)
    heights = np.stack([_unit(each) for each in drawn.dimensions], 1)
    lines = np.stack([np.broadcast_to(np.arange(count), heights.shape), heights], 2)
    shown = len(heights)
    with drawing(path, (max(5.2, 1.15 * count + 0.9), 3.6)) as figure:
        axes = figure.subplots()
        width = 0.4 if shown > 300 else 0.8
        bundle = LineCollection(
            list(lines), array=drawn.ranks, cmap="viridis_r", lw=width, alpha=0.75, rasterized=True
        )
        axes.add_collection(bundle)
        for place, each in enumerate(drawn.dimensions):
            _upright(axes, place, each)
        axes.set_xlim(-0.35, count - 0.75)
        axes.set_ylim(-0.04, 1.04)
        titles = [each.title.replace(" (", "\n(") for each in drawn.dimensions]
        axes.set_xticks(range(count), titles)
        axes.tick_params(axis="x", length=0, labelsize=8.5, labeltop=True, labelbottom=False)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(bundle, ax=axes, ticks=[0, 1], pad=0.01, aspect=30)
        bar.ax.set_yticklabels(["worst", "best"])
        bar.set_label(f"by {facts.objectives[0]}", labelpad=-18)
        count_text = f"{shown:,} of {drawn.designs:,} evaluated designs"
        figure.suptitle(_title(facts, count_text), fontsize=10)


def landscapes(path: Path, facts: ExplorationFacts, explored: ExploredDesigns) -> None:
    """The first objective over height × width for each kind of array, on one colour scale.

    Cells that were not evaluated are paler and show their bound; what constraints exclude is
    hatched.
    """
    drawn = explored.landscapes
    found = facts_of.shown(facts, explored)
    quantity = found.quantities[facts_of.OBJECTIVE_COLUMNS[drawn[0].objective]]
    every = [pictures.cells(facts, each, quantity) for each in drawn]
    low, high, log = pictures.colour_range(every)
    norm = LogNorm(low, high) if log else Normalize(low, high)
    style = {"norm": norm, "cmap": "viridis" if quantity.larger_is_better else "viridis_r"}
    across = min(len(drawn), 3)
    down = -(-len(drawn) // across)
    with drawing(path, (2.5 * across + 1.3, 2.7 * down + 0.9)) as figure:
        grid = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
        for axes, landscape, cells in zip(grid, drawn, every, strict=False):
            _landscape(axes, landscape, cells, style)
            _mark_best(axes, facts, landscape)
        for axes in grid[len(drawn) :]:
            axes.set_visible(False)
        for axes in grid[::across]:
            axes.set_ylabel("rows")
        mesh = grid[0].collections[-1]
        bar = figure.colorbar(mesh, ax=grid, label=quantity.label, aspect=30)
        _ticks(bar, low, high, log=log)
        handles = _key(every)
        if handles:
            figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
        figure.suptitle(_title(facts, f"{quantity.title} over heights and widths"), fontsize=10)


def convergence(path: Path, facts: ExplorationFacts) -> None:
    """The best value against evaluations, and the line that it cannot pass."""
    column = facts_of.OBJECTIVE_COLUMNS[facts.objectives[0]]
    found = pictures.course(facts, facts_of.shown(facts, None).quantities[column])
    with drawing(path, (5.2, 3.4)) as figure:
        axes = figure.subplots()
        axes.step(
            found.evaluated, found.values, where="post", color=COLOURS[0], label="best so far"
        )
        axes.plot(found.evaluated, found.values, "o", ms=3, color=COLOURS[0])
        if found.limit is not None:
            axes.axhline(found.limit, color=COLOURS[4], ls="--", lw=1.2, label=found.limit_text)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(SHORT)
        axes.yaxis.set_major_formatter(SHORT)
        axes.set_xlabel("evaluations")
        axes.set_ylabel(found.label)
        _legend(figure, axes)
        figure.suptitle(_title(facts, f"convergence of {facts.search}"), fontsize=10)


def _front(
    figure: Figure, axes: Axes, facts: ExplorationFacts, found: Shown, names: tuple[str, str]
) -> None:
    """A stair where two objectives make the front, dots coloured by the third where three do."""
    rows = np.flatnonzero(found.front)
    rows = rows[np.argsort(found.columns[names[0]][rows], kind="stable")]
    across, up = (found.scaled(name)[rows] for name in names)
    label = f"front ({len(rows):,})"
    many = len(rows) > FEW_STEPS
    if len(facts.objectives) > 2:
        third = facts_of.OBJECTIVE_COLUMNS[facts.objectives[2]]
        dots = axes.scatter(
            across, up, 14, found.scaled(third)[rows], cmap="viridis", lw=0, zorder=3, label=label,
            rasterized=many,
        )  # fmt: skip
        figure.colorbar(dots, ax=axes, label=found.quantities[third].label, aspect=30)
        return
    if len(facts.objectives) == 2 and names == facts_of.pair(facts) and not many:
        # Between two members the worse of both values holds.
        larger = found.quantities[names[0]].larger_is_better
        axes.step(across, up, where="pre" if larger else "post", color=COLOURS[0], lw=1.2, zorder=2)
    size = 3.5 if len(rows) <= 300 else 1.5
    axes.plot(across, up, "o", ms=size, color=COLOURS[0], label=label, zorder=3, rasterized=many)


def _landscape(
    axes: Axes, landscape: Landscape, cells: pictures.Cells, style: dict[str, Any]
) -> None:
    """Cells of equal size, whatever the sides are."""
    excluded = np.zeros_like(cells.unknown)
    for _, where in cells.excluded:
        excluded |= where
    edges = (np.arange(len(landscape.cols) + 1) - 0.5, np.arange(len(landscape.rows) + 1) - 0.5)
    axes.patch.set_facecolor("white")
    axes.pcolor(
        *edges, np.ma.masked_where(~excluded, np.ones_like(cells.evaluated)), cmap="Greys",
        vmin=0.7, vmax=9, hatch="////", edgecolor="0.72", lw=0,
    )  # fmt: skip
    axes.pcolormesh(*edges, np.ma.masked_invalid(cells.bounded), alpha=0.35, **style)
    axes.pcolormesh(*edges, np.ma.masked_invalid(cells.evaluated), **style)
    for axis, sides in ((axes.xaxis, landscape.cols), (axes.yaxis, landscape.rows)):
        step = -(-len(sides) // 10)
        places = np.arange(len(sides))[step - 1 :: step] if step > 1 else np.arange(len(sides))
        axis.set_major_locator(FixedLocator(places.tolist()))
        axis.set_major_formatter(FuncFormatter(lambda place, _, at=sides: f"{at[round(place)]}"))
    axes.tick_params(labelsize=7.5)
    axes.set_xlabel("columns")
    axes.set_title(plain(facts_of.kind(landscape.dataflow)), fontsize=9.5)
    axes.grid(visible=False)


def _mark_best(axes: Axes, facts: ExplorationFacts, landscape: Landscape) -> None:
    for design in facts.best_per_dataflow:
        if design.dataflow == landscape.dataflow:
            x = np.interp(design.cols, landscape.cols, np.arange(len(landscape.cols)))
            y = np.interp(design.rows, landscape.rows, np.arange(len(landscape.rows)))
            axes.plot(x, y, **_STAR, mfc="w", clip_on=False, zorder=5)


def _key(every: list[pictures.Cells]) -> list[Patch]:
    """What pale and hatched cells mean, of those that occur."""
    handles = []
    if any(np.isfinite(cells.bounded).any() for cells in every):
        handles.append(Patch(fc="#86c7b4", alpha=0.4, label="not evaluated: its bound"))
    if any(cells.unknown.any() for cells in every):
        handles.append(Patch(fc="white", ec="0.7", label="not evaluated"))
    reasons = dict.fromkeys(why for cells in every for why, _ in cells.excluded)
    if reasons:
        why = plain(f"excluded by {' or '.join(reasons)}")
        handles.append(Patch(fc="0.96", ec="0.72", hatch="////", label=why))
    return handles


def _upright(axes: Axes, place: int, each: pictures.Dimension) -> None:
    low, span = _ends(each)
    axes.axvline(place, color="0.35", lw=0.8, zorder=3)
    for at, text in zip(each.tick_places, each.tick_texts, strict=True):
        axes.text(
            place - 0.03, (at - low) / span, plain(text), ha="right", va="center", fontsize=7.5,
            zorder=4, bbox={"fc": "w", "ec": "none", "alpha": 0.75, "pad": 0.6},
        )  # fmt: skip


def _ends(each: pictures.Dimension) -> tuple[float, float]:
    known = each.places[np.isfinite(each.places)]
    every = np.concatenate([known, each.tick_places])
    return float(every.min()), float(np.ptp(every)) or 1.0


def _unit(each: pictures.Dimension) -> NDArray[np.float64]:
    """Places between 0 and 1."""
    low, span = _ends(each)
    return (each.places - low) / span


def _mark(axis: Axis, found: Shown, name: str) -> None:
    span = found.finite(name) / found.quantities[name].scale
    axis.set_label_text(found.quantities[name].label)
    if not found.logarithmic(name):
        axis.set_major_locator(MaxNLocator(6))
        axis.set_major_formatter(SHORT)
        return
    several = span.max() < 300 * span.min()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if several else (1,)))
    axis.set_major_formatter(SHORT)
    axis.set_minor_formatter(NullFormatter())


def _ticks(bar: Colorbar, low: float, high: float, *, log: bool) -> None:
    at = facts_of.ticks(low, high, log=log)
    bar.set_ticks(at, labels=[facts_of.short(each) for each in at])
    bar.ax.minorticks_off()


def _legend(figure: Figure, axes: Axes) -> None:
    shown = axes.get_legend_handles_labels()
    figure.legend(*shown, loc="outside lower center", ncols=2, fontsize=8)


def _title(facts: ExplorationFacts, what: str) -> str:
    name = facts.workload
    short = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
    return plain(f"{short}: {what} (model: {facts.model})")
