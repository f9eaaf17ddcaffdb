"""Work side by side: here, in processes of this machine, or on a Dask cluster.

A search hands over an array of designs and a function; `chunked` cuts the array and whoever is
free evaluates a piece. Results come as they are done and belong to positions, so that neither the
workers nor the cutting change an answer. Why pieces of a tenth of a second to a second:

- An empty task costs up to 0.3 ms with processes and 8 ms with Dask, a single design often less.
  Pieces of 0.1 s keep that below a tenth; nobody can tell beforehand how many designs that are, so
  it is measured, from one design on.
- While there is much to do, pieces grow to a second: a Dask scheduler, at some hundred tasks a
  second, then feeds hundreds of workers. Longer ones would delay the journal, the bar and Ctrl-C.
- Towards the end they shrink again, so that all workers end at about the same time.
"""

from __future__ import annotations

import contextlib
import functools
import math
import pickle
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from arraysmith.errors import WorkersError
from arraysmith.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

T = TypeVar("T")
R = TypeVar("R")

MOST_LOSSES = 3
"""How often a piece of work may lose its worker before it is given up; as Dask has it."""
_LONGEST = 10
"""A chunk takes at most so many times the least."""
_GROWTH = 4
"""A chunk is at most so many times the largest that was measured."""


class Workers(Protocol):
    """Who evaluates; made by `open_workers`, one map at a time."""

    @property
    def jobs(self) -> int:
        """How many pieces of work are done at once."""

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[int, R]]:
        """Evaluate tasks; yields the index of a task and its result as they are done.

        Args:
            function: of one task; picklable, and the same for equal tasks. It may run again for
                a task whose worker was lost; its result is yielded once.
            tasks: taken when a worker is about to be free, so they may be made on the way.

        Raises:
            WorkersError: the workers are lost.
        """


@dataclass(frozen=True, slots=True)
class InProcess:
    """One after the other, here."""

    jobs: int = 1

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[int, R]]:
        """See `Workers.map`."""
        for index, task in enumerate(tasks):
            yield index, function(task)


@dataclass(frozen=True, slots=True)
class Packed(Generic[T, R]):
    """A function pickled once for all tasks and unpickled once in each process.

    It travels with every task as bytes, which costs a copy of it. That was preferred to data held
    by a cluster: a worker that comes late or again needs nothing but its task.
    """

    content: bytes
    version: str

    @classmethod
    def of(cls, function: Callable[[T], R]) -> Packed[T, R]:
        """Pack a function."""
        return cls(pickle.dumps(function, pickle.HIGHEST_PROTOCOL), __version__)

    def __call__(self, task: T) -> R:
        """Apply the function.

        Raises:
            WorkersError: the worker has another version, which may answer otherwise.
        """
        if self.version != __version__:
            raise WorkersError(
                f"a worker has arraysmith {__version__}, here it is {self.version}; install the "
                "same version there"
            )
        result: R = _unpacked(self.content)(task)
        return result


def open_workers(jobs: int = 1, address: str | None = None) -> AbstractContextManager[Workers]:
    """Workers for the length of a block; afterwards their processes are gone.

    Args:
        jobs: processes of this machine; with 1 the work is done here.
        address: of a Dask scheduler, such as `tcp://10.0.0.5:8786`; it overrules `jobs`.

    Raises:
        WorkersError: no scheduler answers there, or it has no workers.
        ModuleNotFoundError: joblib or distributed is not installed.
    """
    # joblib and distributed take up to a second to import.
    if address is not None:
        from arraysmith.search.cluster import cluster  # noqa: PLC0415

        return cluster(address)
    if jobs == 1:
        return contextlib.nullcontext(InProcess())
    from arraysmith.search.processes import processes  # noqa: PLC0415

    return processes(jobs)


def chunked(
    workers: Workers,
    function: Callable[[NDArray[Any]], NDArray[Any]],
    items: NDArray[Any],
    *,
    least_seconds: float = 0.1,
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Evaluate the rows of an array in chunks; yields which rows, and their results.

    Every row comes exactly once, in no order to rely on.

    Args:
        workers: who evaluates.
        function: (n, ...) rows to (n, ...) results, each row by itself; picklable.
        items: (rows, ...).
        least_seconds: that a chunk should take.

    Raises:
        WorkersError: the workers are lost.
        ValueError: the function does not give one result a row.
    """
    pace = _Pace(left=len(items), least_seconds=least_seconds)
    places: dict[int, slice] = {}

    def chunks() -> Iterator[NDArray[Any]]:
        start = 0
        while count := pace.take(workers.jobs):
            where = slice(start, start + count)
            places[len(places)] = where
            start += count
            yield items[where]

    for index, (seconds, results) in workers.map(functools.partial(_timed, function), chunks()):
        where = places[index]
        count = where.stop - where.start
        if len(results) != count:
            raise ValueError(f"{len(results)} results for {count} rows, expected one a row")
        pace.measured(count, seconds)
        yield where, results


@dataclass(slots=True)
class _Pace:
    """How many rows the next chunk has."""

    left: int
    least_seconds: float
    seconds_per_row: float = math.inf
    largest: int = 0
    """Rows of the largest chunk that was measured."""

    def take(self, jobs: int) -> int:
        """Rows of the next chunk; 0 when nothing is left."""
        count = self.left // (2 * jobs)
        least = math.ceil(min(self.least_seconds / self.seconds_per_row, self.left))
        count = min(max(count, least), _LONGEST * least)
        # The first call may compile or import for seconds, so no single figure is relied upon.
        count = min(max(1, count), max(1, _GROWTH * self.largest), self.left)
        self.left -= count
        return count

    def measured(self, count: int, seconds: float) -> None:
        """Take the latest figure: neighbours in a space cost alike."""
        self.seconds_per_row = max(seconds, 1e-9) / count
        self.largest = max(self.largest, count)


def _timed(
    function: Callable[[NDArray[Any]], NDArray[Any]], rows: NDArray[Any]
) -> tuple[float, NDArray[Any]]:
    """Results and the seconds they took, measured where they are made."""
    start = time.perf_counter()
    results = function(rows)
    return time.perf_counter() - start, results


@functools.lru_cache(maxsize=4)
def _unpacked(content: bytes) -> Callable[[Any], Any]:
    function: Callable[[Any], Any] = pickle.loads(content)  # noqa: S301 - from our own process
    return function
