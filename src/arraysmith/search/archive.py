"""The best designs found so far, and which designs they rule out by their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.search.pareto import non_dominated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Archive:
    """Non-dominated points by ascending first objective; of equal ones that with the least key."""

    values: Floats
    """(k, objectives), all made small."""
    keys: Ints
    """(k, any): of two points with equal values the one whose key comes first is better."""

    @staticmethod
    def empty(objectives: int, keys: int) -> Archive:
        """No point yet."""
        return Archive(values=np.zeros((0, objectives)), keys=np.zeros((0, keys), np.int64))

    def joined(self, values: Floats, keys: Ints) -> Archive:
        """With (n,) more points."""
        values = np.concatenate([self.values, values])
        keys = np.concatenate([self.keys, keys])
        kept = np.flatnonzero(non_dominated(values))
        columns = [*values[kept].T, *keys[kept].T]
        kept = kept[np.lexsort(columns[::-1])]
        _, first = np.unique(values[kept], axis=0, return_index=True)
        kept = kept[np.sort(first)]
        return Archive(values=values[kept], keys=keys[kept])

    def rules_out(self, bounds: Floats, keys: Ints) -> Mask:
        """(n,) whether a point is no worse than a design can be.

        Args:
            bounds: (n, objectives) that designs do not go below.
            keys: (n, any) that their keys do not go below, in the order of keys.
        """
        if not len(self.values):
            return np.zeros(len(bounds), np.bool_)
        if bounds.shape[1] > 2:
            return self._by_each_point(bounds, keys)
        # Of all points no worse in the first objective the last one is best in the second.
        place = np.searchsorted(self.values[:, 0], bounds[:, 0], side="right") - 1
        near = self.values[np.maximum(place, 0)]
        no_worse = (place >= 0) & (near <= bounds).all(axis=1)
        better = (near < bounds).any(axis=1)
        first = _not_after(self.keys[np.maximum(place, 0)], keys)
        return no_worse & (better | first)

    def _by_each_point(self, bounds: Floats, keys: Ints) -> Mask:
        out = np.zeros(len(bounds), np.bool_)
        left = np.arange(len(bounds))
        for value, key in zip(self.values, self.keys, strict=True):
            no_worse = (value <= bounds[left]).all(axis=1)
            better = (value < bounds[left]).any(axis=1)
            ruled_out = no_worse & (better | _not_after(key[None], keys[left]))
            out[left[ruled_out]] = True
            left = left[~ruled_out]
        return out


def _not_after(first: Ints, second: Ints) -> Mask:
    """(n,) whether keys are equal or in this order, compared column by column."""
    decided = np.zeros(len(second), np.bool_)
    result = np.zeros(len(second), np.bool_)
    for column in range(second.shape[1]):
        less = first[:, column] < second[:, column]
        result |= ~decided & less
        decided |= first[:, column] != second[:, column]
    return result | ~decided
