"""Pareto fronts of two objectives, both made small. Arrays in, indices out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pareto_front(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of all points that no other point dominates, by ascending `first`.

    A point is dominated by one that is no worse in both objectives and better in one; points equal
    in both stand or fall together.

    Args:
        first, second: (n,) objectives; `first` should be the one of fewer distinct values.
    """
    values, place = np.unique(first, return_inverse=True)
    least = np.full(len(values), np.iinfo(np.int64).max)
    np.minimum.at(least, place, second)
    before = np.concatenate([[np.iinfo(np.int64).max], np.minimum.accumulate(least)[:-1]])
    members = np.flatnonzero((least < before)[place] & (second == least[place]))
    return members[np.argsort(first[members], kind="stable")]
