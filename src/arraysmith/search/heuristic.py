"""Runs a search strategy: each design is evaluated once, and no more of them than the budget.

The driver stands between a strategy and what it searches. It answers from memory what was evaluated
before, has evaluated what is new a batch at a time, and says when it is enough. What a strategy is
stands in `arraysmith.search.strategies.contract`.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import DesignSpaceError
from arraysmith.progress import silent
from arraysmith.search.pareto import feasible, non_dominated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from arraysmith.progress import Progress
    from arraysmith.search.strategies.contract import Answer, Designs, Search, Strategy

BUDGET = "budget"
CONVERGED = "converged"
EXHAUSTED = "exhausted the space"
ENDED = "strategy ended"

_LARGEST_SPACE = 2**62
_MOST_KNOWN_BATCHES = 100
"""In a row, without a design that is new; then a strategy has converged."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeuristicRun:
    """What a strategy had evaluated, in that order."""

    designs: Designs
    """(n, axes), distinct."""
    F: NDArray[np.float64]
    """(n, objectives)."""
    G: NDArray[np.float64]
    """(n, constraints)."""
    stopped: str
    """`budget`, `converged`, `exhausted the space` or `strategy ended`."""


def run(
    strategy: Strategy,
    sizes: tuple[int, ...],
    evaluate: Callable[[Designs], Answer],
    rng: np.random.Generator,
    *,
    budget: int,
    patience: int | None = None,
    progress: Progress = silent,
    note: Callable[[NDArray[np.float64], NDArray[np.float64]], str] | None = None,
) -> HeuristicRun:
    """Search a space with a strategy.

    Args:
        strategy: what asks for designs.
        sizes: how many values each axis has.
        evaluate: designs (n, axes) to (F, G); called once a batch, with new and distinct ones only.
        rng: all the chance there is; the same seed gives the same run.
        budget: distinct designs that are evaluated at most.
        patience: stop when that many in a row were no improvement, looked at after each batch. An
            improvement is feasible and neither dominated by nor equal in F to one before; with one
            objective, better than the best. None: never.
        progress: shows how many designs were evaluated.
        note: (F, G) of the feasible designs that none dominates, to a text beside the bar; not
            asked while there is none.

    Raises:
        DesignSpaceError: a space without designs or with too many, or nothing to spend on it.
    """
    _check(sizes, budget, patience)
    memory = _Memory(sizes)
    watch = _Watch(left=min(budget, prod(sizes)), unseen=prod(sizes), patience=patience)
    with closing(strategy(sizes, rng)) as search, progress("exploring", watch.left) as advance:
        batch = next(search, None)
        while batch is not None:
            new = memory.unknown(batch)[: watch.left]
            if len(new):
                F, G = evaluate(new)
                memory.keep(new, F, G)
                watch.saw(F, G)
                advance(len(new), note(watch.F, watch.G) if note and len(watch.F) else "")
            else:
                watch.known_batches += 1
            if watch.enough is not None:
                break
            batch = _told(search, memory.answer(batch))
    designs, F, G = memory.everything
    return HeuristicRun(designs=designs, F=F, G=G, stopped=watch.enough or ENDED)


def _told(search: Search, answer: Answer) -> Designs | None:
    """The next batch of a strategy; None: it has ended."""
    try:
        return search.send(answer)
    except StopIteration:
        return None


class _Memory:
    """What was evaluated, found again by the number that a design has in its space."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._sizes = sizes
        self._place: dict[int, int] = {}
        self._designs: list[Designs] = []
        self._F: list[NDArray[np.float64]] = []
        self._G: list[NDArray[np.float64]] = []

    def unknown(self, batch: Designs) -> Designs:
        """Those of a batch that were not evaluated yet, each once and in their order."""
        first: dict[int, int] = {}
        for place, flat in enumerate(self._numbers(batch)):
            first.setdefault(flat, place)
        return batch[[place for flat, place in first.items() if flat not in self._place]]

    def keep(self, designs: Designs, F: NDArray[np.float64], G: NDArray[np.float64]) -> None:
        """Remember new designs with their answers."""
        if not len(designs) == len(F) == len(G):
            raise ValueError(f"{len(F)} rows of F and {len(G)} of G for {len(designs)} designs")
        for flat in self._numbers(designs):
            self._place[flat] = len(self._place)
        self._designs.extend(designs)
        self._F.extend(F)
        self._G.extend(G)

    def answer(self, batch: Designs) -> Answer:
        """F and G of designs that were all evaluated."""
        places = [self._place[flat] for flat in self._numbers(batch)]
        return _table(self._F, places), _table(self._G, places)

    @property
    def everything(self) -> tuple[Designs, NDArray[np.float64], NDArray[np.float64]]:
        """Designs, F and G, in the order of their evaluation."""
        places = range(len(self._place))
        designs = np.array(self._designs, np.int64).reshape(len(places), len(self._sizes))
        return designs, _table(self._F, places), _table(self._G, places)

    def _numbers(self, designs: Designs) -> list[int]:
        flats: list[int] = np.ravel_multi_index(tuple(designs.T), self._sizes).tolist()
        return flats


def _table(rows: list[NDArray[np.float64]], places: Sequence[int]) -> NDArray[np.float64]:
    columns = len(rows[0]) if rows else 0
    return np.array([rows[place] for place in places], np.float64).reshape(len(places), columns)


@dataclass(slots=True, kw_only=True)
class _Watch:
    """Looks at what comes in, and says when it is enough."""

    left: int
    """Designs that may still be evaluated."""
    unseen: int
    """Designs that were not evaluated yet."""
    patience: int | None
    without_improvement: int = 0
    """Designs since the last that was one."""
    known_batches: int = 0
    """In a row, up to now."""
    F: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    """Of the feasible designs so far that none dominates; of equal ones the first."""
    G: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def enough(self) -> str | None:
        """Why it is enough; None: it is not."""
        if self.unseen == 0:
            return EXHAUSTED
        if self.left == 0:
            return BUDGET
        impatient = self.patience is not None and self.without_improvement >= self.patience
        return CONVERGED if impatient or self.known_batches >= _MOST_KNOWN_BATCHES else None

    def saw(self, F: NDArray[np.float64], G: NDArray[np.float64]) -> None:
        """New designs, at least one."""
        self.left -= len(F)
        self.unseen -= len(F)
        self.known_batches = 0
        good = np.flatnonzero(feasible(F, G))
        before = len(self.F)
        all_F = np.concatenate([self.F.reshape(before, F.shape[1]), F[good]])
        all_G = np.concatenate([self.G.reshape(before, G.shape[1]), G[good]])
        first = np.unique(all_F, axis=0, return_index=True)[1]
        front = np.sort(first[non_dominated(all_F[first])])
        self.F, self.G = all_F[front], all_G[front]
        # The last of a batch that stays is the last that was an improvement when it came.
        improved = len(front) > 0 and front[-1] >= before
        since = len(F) - 1 - int(good[front[-1] - before]) if improved else len(F)
        self.without_improvement = since + (0 if improved else self.without_improvement)


def _check(sizes: tuple[int, ...], budget: int, patience: int | None) -> None:
    for axis, size in enumerate(sizes):
        if size < 1:
            raise DesignSpaceError(f"axis {axis} has {size} values; give at least one")
    if not sizes or prod(sizes) >= _LARGEST_SPACE:
        raise DesignSpaceError(
            f"{prod(sizes):,} designs on {len(sizes)} axes; from 1 to 2^62 - 1 can be searched"
        )
    for name, count in (("budget", budget), ("patience", patience)):
        if count is not None and count < 1:
            raise DesignSpaceError(f"{name} is {count}, needs at least 1")
