"""Evaluations that last: in parallel, written down as they come, never done twice."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import DesignSpaceError
from arraysmith.journal import JOURNAL, Existing, open_journal
from arraysmith.progress import ignore
from arraysmith.search.problem import NO_LIMIT, RECORD, Figures
from arraysmith.search.workers import chunked, cluster, in_process, processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.journal import Identity, Journal
    from arraysmith.progress import Advance
    from arraysmith.search.problem import Model
    from arraysmith.search.workers import Workers

    Ints = NDArray[np.int64]


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

    @contextmanager
    def workers(self) -> Iterator[Workers]:
        """Those that were asked for."""
        if self.cluster is not None:
            with cluster(self.cluster) as found:
                yield found
        elif self.jobs > 1:
            with processes(self.jobs) as found:
                yield found
        else:
            yield in_process()


@dataclass(slots=True, kw_only=True, eq=False)
class Evaluations:
    """Evaluates designs; what the journal knows is not evaluated again."""

    model: Model
    workers: Workers
    journal: Journal | None
    advance: Advance = field(default=ignore)

    def __call__(self, ids: Ints, most_cycles: Ints | None) -> Figures:
        """(n,) figures of designs in their order.

        Args:
            ids: (n,) designs.
            most_cycles: (n,) limits; None is no limit.
        """
        limits = np.full(len(ids), NO_LIMIT) if most_cycles is None else most_cycles
        records = np.zeros(len(ids), RECORD)
        known = np.zeros(len(ids), np.bool_)
        if self.journal is not None:
            known, records = self.journal.lookup(ids)
            self.advance(int(known.sum()))
        # Neighbours share work, and they are evaluated together when they stand together.
        missing = np.flatnonzero(~known)
        missing = missing[np.argsort(ids[missing], kind="stable")]
        items = np.stack([ids[missing], limits[missing]], axis=1)
        work = partial(_evaluated, self.model)
        for places, found in chunked(self.workers, work, items):
            if self.journal is not None:
                self.journal.append(ids[missing[places]], found)
            records[missing[places]] = found
            self.advance(len(found))
        return Figures.of_records(records)

    def finish(self) -> None:
        """All that was needed is evaluated."""
        if self.journal is not None and self.journal.finished is None:
            self.journal.finish(b"")


@contextmanager
def evaluations(
    model: Model, identity: Identity, output: Path | None, lasting: Lasting
) -> Iterator[Evaluations]:
    """Open the journal of a run folder, if there is one, and the workers.

    Raises:
        OutputError, InputFileError: as `open_journal` says.
    """
    with ExitStack() as stack:
        journal = None
        if output is not None:
            journal = stack.enter_context(
                open_journal(output / JOURNAL, identity, RECORD, lasting.existing)
            )
        workers = stack.enter_context(lasting.workers())
        yield Evaluations(model=model, workers=workers, journal=journal)


def _evaluated(model: Model, items: Ints) -> NDArray[np.void]:
    """Figures of designs (n, 2): number and limit. At the top of a module, to be sent."""
    return model.evaluate(items[:, 0], items[:, 1]).records()
