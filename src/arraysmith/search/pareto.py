"""What a front of designs is, and how good: dominance and hypervolume. Arrays in, arrays out.

All objectives are made small. A point is dominated by one that is no worse in each objective and
better in one; points that are equal in all stand or fall together. The hypervolume of a set is the
volume that its points dominate below a reference point.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


def non_dominated(F: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points no other point dominates: (n,) bool, exactly as defined.

    Args:
        F: (n, objectives), without NaN.
    """
    count, objectives = F.shape
    if count == 0 or objectives == 0:
        return np.ones(count, np.bool_)
    if objectives == 1:
        return np.asarray(F[:, 0] == F[:, 0].min())
    if objectives == 2:
        return _front_of_two(F[:, 0], F[:, 1])
    # In lexicographic order nothing is dominated by what comes later.
    points, place = np.unique(F, axis=0, return_inverse=True)
    kept = _front_of_three(points) if objectives == 3 else _front_of_many(points)
    return kept[place.reshape(count)]


def violation(F: NDArray[np.float64], G: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much designs break their constraints, added up: (n,), 0 where they are feasible.

    Args:
        F: (n, objectives); a design with one that is not finite could not be evaluated: inf.
        G: (n, constraints), kept where ≤ 0; there may be none.
    """
    broken = np.where(np.isnan(G), np.inf, np.maximum(G, 0)).sum(axis=1)
    return np.where(np.isfinite(F).all(axis=1), broken, np.inf)


def feasible(F: NDArray[np.float64], G: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which designs could be evaluated and keep all constraints: (n,) bool, see `violation`."""
    return np.asarray(violation(F, G) == 0)


def hypervolume(F: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """The volume that points dominate below a reference point.

    Args:
        F: (n, objectives), at least one objective; points that are not below the reference in all
            of them add nothing.
        reference: (objectives,).
    """
    below = F[(reference > F).all(axis=1)]
    front = np.unique(below[non_dominated(below)], axis=0)
    return _volume(front, np.asarray(reference, np.float64))


def hypervolume_history(
    F: NDArray[np.float64],
    G: NDArray[np.float64],
    reference: NDArray[np.float64],
    counts: Iterable[int],
) -> NDArray[np.float64]:
    """The hypervolume of the feasible designs among the first so many, for each of the counts.

    Args:
        F, G: (n, objectives) and (n, constraints), in the order of evaluation.
        reference: (objectives,).
        counts: evaluations; more than n stand for n.
    """
    good = feasible(F, G)
    return np.array([hypervolume(F[:count][good[:count]], reference) for count in counts])


def _front_of_two(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
    """Which points stay: those with the least `second` of their `first`, and less than before."""
    if len(first) == 0:
        return np.ones(0, np.bool_)
    values, place = np.unique(first, return_inverse=True)
    least = np.full(len(values), second.max())
    np.minimum.at(least, place, second)
    stays = np.ones(len(values), np.bool_)
    stays[1:] = least[1:] < np.minimum.accumulate(least)[:-1]
    return np.asarray(stays[place] & (second == least[place]))


def _front_of_three(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of distinct points in lexicographic order stay.

    What came before is no worse in the first objective. Of the other two a staircase is enough: the
    points that none of the same kind dominates, the second ascending, the third descending.
    """
    kept = np.zeros(len(points), np.bool_)
    seconds: list[float] = []
    thirds: list[float] = []
    for index, (_, second, third) in enumerate(points.tolist()):
        right = bisect_right(seconds, second)
        if right and thirds[right - 1] <= third:
            continue
        kept[index] = True
        left = right - 1 if right and seconds[right - 1] == second else right
        while right < len(thirds) and thirds[right] >= third:
            right += 1
        seconds[left:right], thirds[left:right] = [second], [third]
    return kept


def _front_of_many(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of distinct points in lexicographic order stay: the first does, and culls the rest."""
    kept = np.zeros(len(points), np.bool_)
    left = np.arange(len(points))
    while len(left):
        kept[left[0]] = True
        left = left[(points[left] < points[left[0]]).any(axis=1)]
    return kept


def _volume(front: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Of points below the reference; those of two objectives are a front, ascending.

    With more objectives the volume is cut into slices where the first one changes; each has the
    volume of the points before it in the other objectives, times its thickness.
    """
    if len(front) == 0:
        return 0.0
    if front.shape[1] == 1:
        return float(reference[0] - front[:, 0].min())
    if front.shape[1] == 2:
        tops = np.concatenate([reference[1:], front[:-1, 1]])
        return float(((reference[0] - front[:, 0]) * (tops - front[:, 1])).sum())
    ends = np.append(front[1:, 0], reference[0])
    return float(
        sum(
            thickness * hypervolume(front[: index + 1, 1:], reference[1:])
            for index, thickness in enumerate(ends - front[:, 0])
            if thickness > 0
        )
    )
