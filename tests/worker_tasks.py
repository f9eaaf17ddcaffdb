"""What tests let workers do: a worker can only call what it can import."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arraysmith.errors import InvalidWorkloadError
from arraysmith.search.workers import open_workers


def square(task):
    """Of a number or of rows."""
    return task * task


def slow_square(task):
    """A tenth of a second a task."""
    time.sleep(0.1)
    return task * task


def row_costs(rows):
    """(n, 2) rows to (n,) records; rows with a large second column take 2 ms each."""
    time.sleep(0.002 * np.count_nonzero(rows[:, 1] > 500))
    made = np.zeros(len(rows), [("sum", np.int64), ("ratio", np.float64)])
    made["sum"], made["ratio"] = rows.sum(axis=1), rows[:, 0] / (rows[:, 1] + 1)
    return made


def process_of(task):
    """Who does it."""
    del task
    time.sleep(0.02)
    return os.getpid()


def threads_of(task):
    """On how many threads it may compute."""
    return os.environ[task]


def too_few(rows):
    """One result less than rows."""
    return rows[1:]


class CountedPickling:
    """Knows how often it was pickled here, and unpickled in the process that calls it."""

    unpickled = 0
    pickled = 0

    def __reduce__(self):
        """Count."""
        CountedPickling.pickled += 1
        return _unpickle, ()

    def __call__(self, task):
        """Who, and how often."""
        time.sleep(0.01)
        return task, os.getpid(), CountedPickling.unpickled


def _unpickle():
    CountedPickling.unpickled += 1
    return CountedPickling()


def refuse(task):
    """One task of them cannot be."""
    if task == 5:
        raise InvalidWorkloadError("layer 'conv1': K = 0, expected 1 or more")
    return task


def missing_file(task):
    """An error of the system within a task."""
    return Path(f"/no/such/file/{task}").read_text()


def missing_module(task):
    """A worker that was installed otherwise."""
    import arraysmith_of_tomorrow

    return arraysmith_of_tomorrow.answer(task)


@dataclass(frozen=True)
class KilledAt:
    """Does squares; the process that meets `task` is killed, `times` in all.

    A file of the folder is written for each kill, for the memory of a killed process is gone.
    """

    folder: Path
    task: int
    times: int

    def __call__(self, task):
        """Square, or die."""
        time.sleep(0.02)
        if task == self.task:
            for count in range(self.times):
                try:
                    (self.folder / str(count)).touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return task * task


def endless_squares():
    """A process for tests that interrupt or kill it: prints its workers, then each result."""
    with open_workers(2) as workers:
        for _, pid in workers.map(process_of, range(8)):
            print("worker", pid, flush=True)  # noqa: T201
        for index, result in workers.map(slow_square, range(10_000)):
            print("result", index, result, flush=True)  # noqa: T201


if __name__ == "__main__":
    import worker_tasks  # what stands in the main module, a worker cannot import

    worker_tasks.endless_squares()
