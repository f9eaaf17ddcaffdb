"""Facts of three pictures: parallel coordinates, landscapes, convergence; two drawers draw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.reporting.exploration_facts import (
    AXES,
    OBJECTIVE_COLUMNS,
    Shown,
    evenly,
    is_logarithmic,
    kind,
    short,
    ticks,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from arraysmith.explorations import ExplorationFacts, Landscape
    from arraysmith.reporting.exploration_facts import Quantity

BAND = 0.5
"""Of a value on a line of few, as a share of the way to the next."""
MOST_LINES = 1_500
FEW_VALUES = 10
"""Of an axis all of which can be named."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dimension:
    """One upright line of parallel coordinates."""

    title: str
    places: NDArray[np.float64]
    """Of every drawn design; logarithms where the line is logarithmic."""
    tick_places: tuple[float, ...]
    tick_texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parallel:
    """Designs as lines over axes and objectives, the best by the first objective last.

    On a line of few values each has a band, in which the designs lie by their ranks: lines that
    would cover each other become a ribbon.
    """

    dimensions: tuple[Dimension, ...]
    ranks: NDArray[np.float64]
    """Of each design by the first objective, from 0 for the worst to 1: its colour."""
    designs: int
    """Drawn and not drawn."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """The cells of a landscape by what is known of them; each cell is in one matrix at most."""

    evaluated: NDArray[np.float64]
    """(rows, cols), shown units; NaN elsewhere, as in the next."""
    bounded: NDArray[np.float64]
    unknown: NDArray[np.bool_]
    """Allowed, but nothing is known."""
    excluded: tuple[tuple[str, NDArray[np.bool_]], ...]
    """What excludes cells, and which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a search came to its result."""

    evaluated: tuple[int, ...]
    values: tuple[float, ...]
    """In shown units."""
    label: str
    limit: float | None
    """What no design betters."""
    limit_text: str


def parallel(facts: ExplorationFacts, found: Shown) -> Parallel:
    """Lines over every axis with a choice and every objective.

    Of many designs the front and evenly drawn others are kept, at most `MOST_LINES`.
    """
    rows = _lines(found)
    first = OBJECTIVE_COLUMNS[facts.objectives[0]]
    values = found.columns[first][rows].astype(np.float64)
    order = np.argsort(values, kind="stable")
    if not found.quantities[first].larger_is_better:
        order = order[::-1]
    rows = rows[order]
    chosen = [name for name in found.quantities if name in AXES and _several(found, name)]
    objectives = [OBJECTIVE_COLUMNS[objective] for objective in facts.objectives]
    names = dict.fromkeys([*(chosen or ["rows", "cols"]), *objectives])
    ranks = np.linspace(0, 1, len(rows))
    return Parallel(
        dimensions=tuple(_dimension(found, name, rows, ranks) for name in names),
        ranks=ranks,
        designs=found.evaluated,
    )


def cells(facts: ExplorationFacts, found: Landscape, quantity: Quantity) -> Cells:
    """What is known of each cell of a landscape."""
    allowed = found.allowed.astype(np.bool_)
    evaluated = np.where(allowed, found.values, np.nan) / quantity.scale
    bounded = np.where(allowed & np.isnan(evaluated), found.bounds, np.nan) / quantity.scale
    excluded = []
    left = ~allowed
    if facts.max_pes is not None:
        pes = found.rows[:, None].astype(np.int64) * found.cols[None, :]
        large = left & (pes > facts.max_pes)
        excluded.append((f"max_pes = {facts.max_pes:,}", large))
        left = left & ~large
    others = [
        f"{name} = {limit:g}" for name, limit in facts.constraints.items() if "pes" not in name
    ]
    excluded.append((" or ".join(others) or "the constraints", left))
    return Cells(
        evaluated=evaluated,
        bounded=bounded,
        unknown=allowed & np.isnan(evaluated) & np.isnan(bounded),
        excluded=tuple((why, where) for why, where in excluded if where.any()),
    )


def colour_range(every: Sequence[Cells]) -> tuple[float, float, bool]:
    """Least and greatest value of all landscapes, and whether their colours are logarithmic."""
    values = np.concatenate(
        [matrix.ravel() for each in every for matrix in (each.evaluated, each.bounded)]
    )
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0, False
    return float(values.min()), float(values.max()), is_logarithmic(values)


def landscape_title(found: Landscape, quantity: Quantity) -> str:
    """What a landscape shows."""
    return f"{kind(found.dataflow)}: {quantity.label}"


def course(facts: ExplorationFacts, quantity: Quantity) -> Course:
    """Value against evaluations, and the line that it cannot pass."""
    several = len(facts.objectives) > 1
    scale = 0.01 if several else quantity.scale
    label = "hypervolume (% of the last)" if several else quantity.label
    last = 1.0 if several else facts.best.value(facts.objectives[0])
    upward = several or quantity.larger_is_better
    limit, text = None, ""
    if facts.proven:
        limit, text = last, "proven front" if several else "proven optimum"
    elif facts.gap is not None:
        limit = last * (1 + facts.gap) if upward else last * (1 - facts.gap)
        text = f"bound, {100 * facts.gap:.1f} % away"
    return Course(
        evaluated=tuple(max(point.evaluated, 1) for point in facts.history),
        values=tuple(point.value / scale for point in facts.history),
        label=label,
        limit=None if limit is None else limit / scale,
        limit_text=text,
    )


def _lines(found: Shown) -> NDArray[np.int64]:
    """Rows to draw as lines."""
    if found.count <= MOST_LINES:
        return np.arange(found.count)
    members = evenly(np.flatnonzero(found.front), MOST_LINES // 2)
    others = evenly(np.flatnonzero(~found.front), MOST_LINES - len(members))
    return np.concatenate([members, others])


def _several(found: Shown, name: str) -> bool:
    return len(np.unique(found.columns[name])) > 1


def _dimension(
    found: Shown, name: str, rows: NDArray[np.int64], ranks: NDArray[np.float64]
) -> Dimension:
    quantity, column = found.quantities[name], found.columns[name]
    if column.dtype.kind == "U" or len(np.unique(column)) <= FEW_VALUES:
        at, places = np.unique(column, return_inverse=True)
        texts = [kind(str(each)) if column.dtype.kind == "U" else short(each) for each in at]
        return Dimension(
            title=quantity.label,
            places=places[rows] + BAND * (ranks - 0.5),
            tick_places=tuple(map(float, range(len(texts)))),
            tick_texts=tuple(texts),
        )
    values = found.scaled(name)
    known = found.finite(name) / quantity.scale
    log = is_logarithmic(known)
    marks = np.array(ticks(float(known.min()), float(known.max()), log=log))
    return Dimension(
        title=quantity.label,
        places=np.log10(values[rows]) if log else values[rows],
        tick_places=tuple(map(float, np.log10(marks) if log else marks)),
        tick_texts=tuple(short(float(each)) for each in marks),
    )
