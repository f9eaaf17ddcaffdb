"""Results by design, in arrays: a dictionary of millions of rows would take gigabytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Run:
    """Results of designs in ascending order, each design once."""

    designs: NDArray[np.int64]
    """(n,)."""
    results: NDArray[Any]
    """(n,)."""

    @classmethod
    def of(cls, designs: NDArray[np.int64], results: NDArray[Any]) -> Run:
        """From (n,) designs in any order; of equal ones the first counts."""
        ordered, first = np.unique(designs, return_index=True)
        run = cls(ordered, results[first])
        for column in (run.designs, run.results):  # callers see them
            column.flags.writeable = False
        return run

    def __add__(self, later: Run) -> Run:
        """Both."""
        return Run.of(
            np.concatenate([self.designs, later.designs]),
            np.concatenate([self.results, later.results]),
        )


@dataclass(slots=True)
class Known:
    """What is known so far: runs, each at least twice as long as the next.

    So n designs are sorted in O(n log n) in all, however few come at a time, and one is looked up
    in O(log² n).
    """

    runs: list[Run] = field(default_factory=list)

    def add(self, designs: NDArray[np.int64], results: NDArray[Any]) -> None:
        """Remember (n,) results; of equal designs the first that came counts."""
        if not designs.size:
            return
        self.runs.append(Run.of(designs, results))
        while len(self.runs) > 1 and self.runs[-2].designs.size < 2 * self.runs[-1].designs.size:
            later = self.runs.pop()
            self.runs[-1] += later

    def merged(self) -> Run | None:
        """All in one run; None if nothing is known."""
        while len(self.runs) > 1:
            later = self.runs.pop()
            self.runs[-1] += later
        return self.runs[0] if self.runs else None

    def fill(self, designs: NDArray[np.int64], results: NDArray[Any]) -> NDArray[np.bool_]:
        """Write what is known of `designs` (n,) into `results` (n,); returns (n,): which are."""
        found = np.zeros(designs.shape, np.bool_)
        for run in self.runs:  # the earlier a run, the earlier its results came
            place = np.minimum(np.searchsorted(run.designs, designs), run.designs.size - 1)
            here = (run.designs[place] == designs) & ~found
            results[here] = run.results[place[here]]
            found |= here
        return found
