"""Workers as processes of this machine, by joblib's loky.

loky starts fresh interpreters, so threads and compiled code of this process do no harm, and it
tells when a worker was killed. Its executor is used by itself, not through `joblib.Parallel`:
when a worker dies, that forgets which results it had, and it leaves its workers behind for
whoever comes next. Here finished results are kept, the rest is given to new workers, and at the
end of the block no process is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, wait
from typing import TYPE_CHECKING, Any, TypeVar

from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor, cpu_count

from arraysmith.errors import WorkersError
from arraysmith.search.workers import MOST_LOSSES, Packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_ABANDONED_SECONDS = 1.0
_SETTLE_SECONDS = 2.0


class Processes:
    """A pool that is started at the first task and again after a loss."""

    def __init__(self, jobs: int) -> None:
        """Nothing is started yet."""
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | None = None
        self._newest: Future[Any] | None = None

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[int, R]]:
        """See `Workers.map`."""
        call = Packed.of(function)
        source = enumerate(tasks)
        again: deque[tuple[int, T]] = deque()
        running: dict[Future[R], tuple[int, T]] = {}
        losses: Counter[int] = Counter()
        try:
            while True:
                self._feed(call, again, source, running)
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                    done, _ = wait(running)  # the pool is gone, so the others end at once too
                lost = []
                for future in done:
                    index, task = running.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        lost.append((index, task))
                    else:
                        yield index, future.result()
                if lost:
                    self.stop()
                    _count(losses, lost)
                    again.extend(lost)
        finally:
            if running:  # what they still do, nobody waits for
                self.stop()

    def stop(self) -> None:
        """End all workers, whatever they do."""
        pool, self._pool = self._pool, None
        if pool is not None:
            # loky fails on a task that is on its way to the workers when they are killed; tasks
            # go in order, and there is room for all of ours, so that takes a moment at most.
            deadline = time.monotonic() + _SETTLE_SECONDS
            newest, self._newest = self._newest, None
            while newest and not (newest.running() or newest.done()):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.001)
            pool.shutdown(wait=True, kill_workers=True)

    def _feed(
        self,
        call: Packed[T, R],
        again: deque[tuple[int, T]],
        source: Iterator[tuple[int, T]],
        running: dict[Future[R], tuple[int, T]],
    ) -> None:
        """Keep every worker busy, and one more task ready for it."""
        while len(running) < 2 * self.jobs:
            item = again.popleft() if again else next(source, None)
            if item is None:
                return
            if self._pool is None:
                self._pool = _pool(self.jobs)
            try:
                self._newest = self._pool.submit(call, item[1])
                running[self._newest] = item
            except BrokenProcessPool:  # a worker died between two tasks
                again.append(item)
                if running:
                    return  # those that run will tell
                self.stop()


@contextlib.contextmanager
def processes(jobs: int) -> Iterator[Processes]:
    """So many processes; at the end of the block they are gone, also after Ctrl-C.

    Raises:
        ValueError: fewer than one.
    """
    if jobs < 1:
        raise ValueError(f"{jobs} processes, expected 1 or more")
    workers = Processes(jobs)
    try:
        yield workers
    finally:
        workers.stop()


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Each worker computes on its share of the cores; else all would on all of them.
    share = str(max(1, cpu_count() // jobs))
    threads = {name: os.environ.get(name, share) for name in _THREADS}
    return ProcessPoolExecutor(
        jobs, initializer=_prepare_worker, initargs=(os.getpid(),), env=threads
    )


def _count(losses: Counter[int], lost: list[tuple[int, Any]]) -> None:
    losses.update(index for index, _ in lost)
    if max(losses.values()) > MOST_LOSSES:
        raise WorkersError(
            f"a worker process was killed {MOST_LOSSES + 1} times over the same piece of work, "
            "perhaps for want of memory; choose fewer --jobs"
        )


def _prepare_worker(parent: int) -> None:
    # Ctrl-C reaches every process of a terminal; whoever started the workers ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Without this, workers outlive a killed parent: loky waits for tasks that never come."""
    while os.getppid() == parent:
        time.sleep(_ABANDONED_SECONDS)
    os._exit(1)
