"""Evaluations that last: in parallel, written down as they come, never done twice."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import DesignSpaceError
from arraysmith.journal import JOURNAL, Existing, open_journal
from arraysmith.progress import ignore
from arraysmith.search.problem import NO_LIMIT, RECORD, Figures
from arraysmith.search.workers import InProcess, chunked, open_workers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.journal import Identity, Journal
    from arraysmith.progress import Advance
    from arraysmith.search.problem import Model
    from arraysmith.search.workers import Workers

    Ints = NDArray[np.int64]

_PATIENCE_SECONDS = 2.0
"""About what it takes to start processes and to load compiled code in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasting:
    """Where an exploration computes, and what it does with an earlier one in its folder."""

    jobs: int = 1
    """Processes of this machine."""
    cluster: str | None = None
    """Address of a Dask scheduler, instead of processes of this machine."""
    resume: bool = False
    """Go on with an unfinished exploration of the same."""
    restart: bool = False
    """Throw away whatever exploration is there."""

    def __post_init__(self) -> None:
        """One of two, and at least one process."""
        if self.resume and self.restart:
            raise DesignSpaceError("--resume and --restart; give one of them")
        if self.jobs < 1:
            raise DesignSpaceError(f"--jobs {self.jobs}; give at least 1")

    @property
    def existing(self) -> Existing:
        """What is done with an unfinished journal."""
        if self.restart:
            return Existing.RESTART
        return Existing.RESUME if self.resume else Existing.REFUSE


@dataclass(slots=True, kw_only=True, eq=False)
class Evaluations:
    """Evaluates designs; what the journal knows is not evaluated again."""

    model: Model
    workers: Workers
    patience_seconds: float
    """Of work that is done here before there are other processes for it."""
    journal: Journal | None
    advance: Advance = field(default=ignore)
    evaluated: int = 0
    """Designs, without those that the journal knew."""

    def __call__(self, ids: Ints, most_cycles: Ints | None) -> Figures:
        """(n,) figures of designs in their order.

        Args:
            ids: (n,) designs, each once.
            most_cycles: (n,) limits; None is no limit.
        """
        limits = np.full(len(ids), NO_LIMIT) if most_cycles is None else most_cycles
        records = np.zeros(len(ids), RECORD)
        known = np.zeros(len(ids), np.bool_)
        if self.journal is not None:
            known, records = self.journal.lookup(ids)
            self.advance(int(known.sum()))
        missing = np.flatnonzero(~known)
        groups = _grouped(missing, self.model.groups(ids[missing]))
        asked = np.where(groups[..., None] < 0, -1, np.stack([ids, limits], axis=1)[groups])
        for places, found in self._everywhere(asked):
            whose = groups[places]
            inside = whose >= 0
            if self.journal is not None:
                self.journal.append(ids[whose[inside]], found[inside])
            records[whose[inside]] = found[inside]
            self.evaluated += int(inside.sum())
            self.advance(int(inside.sum()))
        return Figures.of_records(records)

    @property
    def was_finished(self) -> bool:
        """Whether an earlier run came to the end of this very exploration."""
        return self.journal is not None and self.journal.finished is not None

    def finish(self) -> None:
        """All that was needed is evaluated."""
        if self.journal is not None and not self.was_finished:
            self.journal.finish(b"")

    def _everywhere(self, asked: Ints) -> Iterator[tuple[slice, NDArray[np.void]]]:
        """Here as long as it is quick; then by the workers, who take a while to start."""
        work = partial(_evaluated, self.model)
        done = 0
        start = time.perf_counter()
        if self.patience_seconds > 0:
            for places, found in chunked(InProcess(), work, asked):
                yield places, found
                done = places.stop
                if time.perf_counter() - start > self.patience_seconds:
                    break
            self.patience_seconds -= time.perf_counter() - start
        for places, found in chunked(self.workers, work, asked[done:]):
            yield slice(places.start + done, places.stop + done), found


@contextmanager
def evaluations(
    model: Model, identity: Identity, output: Path | None, lasting: Lasting
) -> Iterator[Evaluations]:
    """Open the journal of a run folder, if there is one, and the workers.

    Raises:
        OutputError, InputFileError: as `open_journal` says.
        WorkersError: the cluster cannot be reached.
        KeyboardInterrupt: with what is kept and how to go on.
    """
    with ExitStack() as stack:
        journal = None
        if output is not None:
            journal = stack.enter_context(
                open_journal(output / JOURNAL, identity, RECORD, lasting.existing)
            )
        workers = stack.enter_context(open_workers(lasting.jobs, lasting.cluster))
        try:
            yield Evaluations(
                model=model,
                workers=workers,
                patience_seconds=0 if lasting.cluster else _PATIENCE_SECONDS,
                journal=journal,
            )
        except KeyboardInterrupt:
            if journal is None:
                raise
            kept = f"{len(journal):,} designs done are kept in {journal.path}"
            raise KeyboardInterrupt(f"{kept}; go on with --resume") from None


def _grouped(places: Ints, groups: Ints) -> Ints:
    """(groups, most members): places of one group side by side, -1 where a group has no more."""
    order = np.argsort(groups, kind="stable")
    _, first, counts = np.unique(groups[order], return_index=True, return_counts=True)
    found = np.full((len(first), int(counts.max(initial=1))), -1)
    member = np.arange(len(order)) - np.repeat(first, counts)
    found[np.repeat(np.arange(len(first)), counts), member] = places[order]
    return found


def _evaluated(model: Model, asked: Ints) -> NDArray[np.void]:
    """(groups, members) figures of designs (groups, members, 2): number, or -1, and limit.

    At the top of a module, so that it can be sent to a worker.
    """
    found = np.zeros(asked.shape[:2], RECORD)
    inside = asked[..., 0] >= 0
    designs = asked[inside]
    found[inside] = model.evaluate(designs[:, 0], designs[:, 1]).records()
    return found
