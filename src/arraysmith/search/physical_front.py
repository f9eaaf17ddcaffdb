"""The exact front of cycles and area over a space of designs, most of them never searched.

Each design has a bound of cycles and an exact area. What has at most as many cycles as a design on
no larger an area leaves it no room; so a design need only be searched while its bound is below the
fewest cycles found on its area or less, and only up to there. Rounds grow: the first ones find a
front near the true one, which then rules out most of the others. `docs/search.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from arraysmith.search.network_cycles import INFEASIBLE, NetworkCycles

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NO_LIMIT = 2**60
FIRST_ROUND = 32
"""Groups; each round has twice as many as the last."""
LARGEST_ROUND = 1024


class Evaluate(Protocol):
    """What computes designs: as `network_cycles`, perhaps in several processes."""

    def __call__(self, chosen: NDArray[np.intp], most_cycles: NDArray[np.int64]) -> NetworkCycles:
        """Cycles of some designs, by their indices, or that they are more than these."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Front:
    """The designs that none betters, and what became of the others."""

    designs: NDArray[np.intp]
    """(members,) indices, by area ascending; of equals in both the first found."""
    cycles: NDArray[np.int64]
    """(members,)."""
    searched: int
    """Designs whose cycles were computed to the last."""
    left: int
    """Designs left within a search, when they were proven to take too many."""
    rounds: int


def find_front(
    bounds: NDArray[np.int64],
    areas: NDArray[np.float64],
    groups: NDArray[np.intp],
    evaluate: Evaluate,
) -> Front:
    """All points of the front of cycles and area, each by one design.

    Args:
        bounds: (n,) cycles that no design is below.
        areas: (n,).
        groups: (n,) which designs are best searched together.
        evaluate: see there.
    """
    bounds = bounds.copy()
    waiting = np.ones(len(bounds), np.bool_)
    exact = np.zeros(len(bounds), np.bool_)
    archive = np.empty(0, np.intp)
    rounds, left, size = 0, 0, FIRST_ROUND
    while True:
        # Before there is a front, that of the bounds says what is worth a look.
        reference = archive if len(archive) else nondominated(bounds, areas)
        best = _fewest_within(bounds[reference], areas[reference], areas)
        most = best - 1 if len(archive) else np.full(len(bounds), _NO_LIMIT)
        waiting &= bounds <= most
        members = np.flatnonzero(waiting)
        if not len(members):
            break
        chosen = members[_most_promising(bounds[members] / best[members], groups[members], size)]
        found = evaluate(chosen, most[chosen])
        feasible = found.cycles != INFEASIBLE
        waiting[chosen] = False
        bounds[chosen] = np.where(feasible, found.cycles, _NO_LIMIT)
        exact[chosen] = found.exact & feasible
        left += int(np.count_nonzero(~found.exact))
        candidates = np.flatnonzero(exact)
        archive = candidates[nondominated(bounds[candidates], areas[candidates])]
        rounds, size = rounds + 1, min(2 * size, LARGEST_ROUND)
    return Front(
        designs=archive,
        cycles=bounds[archive],
        searched=int(np.count_nonzero(exact)),
        left=left,
        rounds=rounds,
    )


def nondominated(cycles: NDArray[np.int64], areas: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of the points that none betters, by area ascending; of equals the first."""
    order = np.lexsort((cycles, areas))
    ordered = cycles[order]
    fewest = np.minimum.accumulate(ordered)
    return order[np.r_[True, ordered[1:] < fewest[:-1]]] if len(order) else order


def _fewest_within(
    cycles: NDArray[np.int64], areas: NDArray[np.float64], limits: NDArray[np.float64]
) -> NDArray[np.int64]:
    """(limits,): cycles of the best point of a front whose area is no more than each limit."""
    within = np.searchsorted(areas, limits, side="right")
    fewest: NDArray[np.int64] = np.r_[_NO_LIMIT, cycles][within]
    return fewest


def _most_promising(
    score: NDArray[np.float64], groups: NDArray[np.intp], size: int
) -> NDArray[np.intp]:
    """The members of so many groups: those of the lowest score of a member; groups in one piece."""
    kinds, inverse = np.unique(groups, return_inverse=True)
    lowest = np.full(len(kinds), np.inf)
    np.minimum.at(lowest, inverse, score)
    kept = np.zeros(len(kinds), np.bool_)
    kept[np.argsort(lowest, kind="stable")[:size]] = True
    members = np.flatnonzero(kept[inverse])
    return members[np.argsort(inverse[members], kind="stable")]
