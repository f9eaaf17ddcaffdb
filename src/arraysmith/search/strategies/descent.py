"""Steps along the axes from designs that are good, coarse ones first, and again from elsewhere.

Designs are kept of which none dominates another. Each asks for its neighbours: a step up and a step
down on every axis, at first of a quarter of the axis, then of an eighth, at last of one place.
Neighbours that are kept go on with the step that found them. Those far from the others are looked
at first, so that the front grows even. When all have taken their last step, the search starts anew
from designs at random. This is quick where designs that are near each other are nearly as good.

As long as nothing is feasible, the one that violates the constraints least is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.search.pareto import non_dominated, violation
from arraysmith.search.strategies.unseen import Unseen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.search.strategies.contract import Answer, Designs, Search

_BATCH = 32
_FEW = 4
"""Values of an axis that may be a choice without order: all are neighbours of each other."""


def search(sizes: tuple[int, ...], rng: np.random.Generator) -> Search:
    """Descend from designs at random, time and again, until nothing is left."""
    unseen = Unseen(sizes, rng)
    while unseen.count:
        start = unseen.draw(_BATCH)
        answer = yield start
        yield from _descend(start, answer, sizes, unseen)


def _descend(designs: Designs, answer: Answer, sizes: tuple[int, ...], unseen: Unseen) -> Search:
    """Until all that is kept has asked for neighbours at every step."""
    merit = _merit(*answer)
    kept = _kept(merit)
    designs, merit = designs[kept], merit[kept]
    halvings = np.zeros(len(kept), np.int64)  # of the step that each takes next
    while True:
        asked, parents = _neighbours(designs, halvings, _lonely_first(merit), sizes, unseen)
        if len(asked) == 0:
            return
        answer = yield asked
        inherited = halvings[parents]
        halvings[np.unique(parents)] += 1
        designs = np.concatenate([designs, asked])
        merit = np.concatenate([merit, _merit(*answer)])
        halvings = np.concatenate([halvings, inherited])
        kept = _kept(merit)
        designs, merit, halvings = designs[kept], merit[kept], halvings[kept]


def _neighbours(
    designs: Designs,
    halvings: NDArray[np.int64],
    order: NDArray[np.int64],
    sizes: tuple[int, ...],
    unseen: Unseen,
) -> tuple[Designs, NDArray[np.int64]]:
    """A batch of unseen neighbours, and whose they are.

    Where a step leads to nothing unseen, its halving is counted up in `halvings` at once.
    """
    last = max(max(sizes).bit_length() - 3, 0)  # all steps are of one place then
    asked, parents = [designs[:0]], []
    for each in order:
        while halvings[each] <= last:
            found = unseen.take(_around(designs[each], int(halvings[each]), sizes))
            if len(found):
                asked.append(found)
                parents += [each] * len(found)
                break
            halvings[each] += 1
        if len(parents) >= _BATCH:
            break
    return np.concatenate(asked), np.array(parents, np.int64)


def _around(design: Designs, halvings: int, sizes: tuple[int, ...]) -> Designs:
    """(n, axes): a step up and down each axis; all values where there are few."""
    neighbours = []
    for axis, size in enumerate(sizes):
        step = max(size >> (2 + halvings), 1)
        here = int(design[axis])
        values = range(size) if size <= _FEW else (here - step, here + step)
        for value in values:
            if value != here and 0 <= value < size:
                neighbour = design.copy()
                neighbour[axis] = value
                neighbours.append(neighbour)
    return np.array(neighbours, np.int64).reshape(-1, len(sizes))


def _merit(F: NDArray[np.float64], G: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 1 + objectives): how much constraints are violated, then F of what is feasible."""
    broken = violation(F, G)
    return np.column_stack([broken, np.where(broken[:, None] > 0, 0, F)])


def _kept(merit: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places of the feasible that none dominates, or of the least violation; of equals one."""
    first = np.unique(merit, axis=0, return_index=True)[1]
    first = np.sort(first[merit[first, 0] == merit[:, 0].min()])
    return first[non_dominated(merit[first, 1:])]


def _lonely_first(merit: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places in the order of how far the neighbours on the front are, over all objectives."""
    F = merit[:, 1:]
    if (F > 0).all():
        F = np.log(F)  # cycles and areas go over decades
    distance = np.zeros(len(F))
    for column in F.T:
        order = np.argsort(column, kind="stable")
        extent = np.ptp(column)
        if extent > 0:
            distance[order[[0, -1]]] = np.inf
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
    return np.argsort(-distance, kind="stable")
