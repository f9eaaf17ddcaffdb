"""Work side by side gives what work alone gives, whoever is killed meanwhile."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import worker_tasks
from hypothesis import given
from hypothesis import strategies as st

from arraysmith.errors import InvalidWorkloadError, WorkersError
from arraysmith.journal import JOURNAL, Existing, Identity, open_journal
from arraysmith.search.cluster import cluster
from arraysmith.search.workers import InProcess, Packed, _Pace, chunked, open_workers
from arraysmith.version import __version__

if TYPE_CHECKING:
    import random

ROWS = np.random.default_rng(7).integers(0, 1000, (600, 2))


@contextlib.contextmanager
def _local_cluster(workers=2):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",  # the usual port may be taken, which warns
        silence_logs=logging.CRITICAL,
    ) as local:
        yield local


@pytest.fixture(scope="module")
def address():
    """A real scheduler with two worker processes."""
    with _local_cluster() as local:
        yield local.scheduler_address


@pytest.fixture(scope="module", params=["in process", "processes", "cluster"])
def any_workers(request):
    """Every kind, once each: starting takes a second."""
    with _opened(request.param, request) as workers:
        yield workers


@pytest.fixture(scope="module", params=["processes", "cluster"])
def side_by_side(request):
    """Those that are processes."""
    with _opened(request.param, request) as workers:
        yield workers


def _opened(kind, request):
    if kind == "cluster":
        return open_workers(address=request.getfixturevalue("address"))
    return open_workers(2 if kind == "processes" else 1)


def test_every_task_once(any_workers):
    """Results by index, whatever the order; tasks may be made on the way; nothing to do is fine."""
    found = list(any_workers.map(worker_tasks.square, (n for n in range(50))))
    assert sorted(found) == [(n, n * n) for n in range(50)]
    assert list(any_workers.map(worker_tasks.square, [])) == []


def test_jobs(any_workers):
    """How many work at once; with several, several do."""
    seen = {pid for _, pid in any_workers.map(worker_tasks.process_of, range(30))}
    assert len(seen) == any_workers.jobs == (1 if isinstance(any_workers, InProcess) else 2)
    assert (os.getpid() in seen) == isinstance(any_workers, InProcess)


@pytest.mark.parametrize("least_seconds", [1e-9, 0.02, 1000])
def test_chunks_change_no_answer(any_workers, least_seconds):
    """Against one call with all rows; every row comes exactly once."""
    expected = worker_tasks.row_costs(ROWS)
    found = np.zeros_like(expected)
    times = np.zeros(len(ROWS), int)
    for where, results in chunked(
        any_workers, worker_tasks.row_costs, ROWS, least_seconds=least_seconds
    ):
        times[where] += 1
        found[where] = results
    assert (times == 1).all()
    np.testing.assert_array_equal(found, expected)


def test_chunks_of_nothing(any_workers):
    """No rows, no results."""
    assert list(chunked(any_workers, worker_tasks.square, ROWS[:0])) == []


def test_one_result_a_row():
    """A function that loses rows is a bug, not a shorter answer."""
    with pytest.raises(ValueError, match="0 results for 1 rows, expected one a row"):
        list(chunked(InProcess(), worker_tasks.too_few, ROWS))


@dataclass
class Shuffled:
    """Workers that finish in any order and take what time the test says."""

    rng: random.Random
    jobs: int

    def map(self, function, tasks):
        """Up to 2 × jobs tasks are taken before one is done."""
        source, waiting = enumerate(tasks), []
        while True:
            while len(waiting) < 2 * self.jobs and (item := next(source, None)) is not None:
                waiting.append(item)
            if not waiting:
                return
            index, task = waiting.pop(self.rng.randrange(len(waiting)))
            _, result = function(task)
            yield index, (self.rng.choice([0, 1e-9, 1e-3, 0.3, 10]), result)


@given(st.integers(0, 3000), st.integers(1, 50), st.randoms(use_true_random=False))
def test_any_order_and_any_time(rows, jobs, rng):
    """Every row once, in whatever order and time chunks are done."""
    items = np.arange(rows)
    found = np.full(rows, -1)
    for where, results in chunked(Shuffled(rng, jobs), worker_tasks.square, items):
        assert (found[where] == -1).all()
        found[where] = results
    assert found.tolist() == [n * n for n in range(rows)]


@given(
    st.integers(1, 10**9),
    st.integers(1, 1000),
    st.floats(1e-6, 100),
    st.integers(1, 10**6),
)
def test_how_long_a_chunk_is(left, jobs, seconds_per_row, largest):
    """From the least time to ten times it; no more than keeps all busy; at most grown fourfold."""
    pace = _Pace(left=left, least_seconds=0.1)
    pace.measured(largest, seconds_per_row * largest)
    count = pace.take(jobs)
    assert pace.left == left - count
    assert 1 <= count <= min(left, 4 * largest)
    assert (count - 1) * seconds_per_row <= 1 + 10 * seconds_per_row
    if count > max(1, left / (2 * jobs)):
        assert (count - 1) * seconds_per_row <= 0.1
    shorter = count * seconds_per_row < 0.1 * (1 - 1e-9)
    assert not shorter or count in {left, 4 * largest}


def test_an_error_of_ours_comes_out_as_it_is(any_workers):
    """Class and message; the workers are good for the next map."""
    with pytest.raises(InvalidWorkloadError) as caught:
        list(any_workers.map(worker_tasks.refuse, range(20)))
    assert str(caught.value) == "layer 'conv1': K = 0, expected 1 or more"
    assert sorted(any_workers.map(worker_tasks.square, range(3))) == [(0, 0), (1, 1), (2, 4)]


def test_an_error_of_the_system_comes_out_as_it_is(any_workers):
    """A missing file within a task is no lost connection."""
    with pytest.raises(FileNotFoundError):
        list(any_workers.map(worker_tasks.missing_file, range(5)))


def test_a_map_may_be_left_early(any_workers):
    """What still runs is of no interest, and the next map is not disturbed."""
    some = any_workers.map(worker_tasks.slow_square, range(1000))
    next(some)
    some.close()
    assert sorted(any_workers.map(worker_tasks.square, range(3))) == [(0, 0), (1, 1), (2, 4)]


def test_a_function_is_pickled_once(side_by_side):
    """However many tasks; and unpickled once in each process."""
    worker_tasks.CountedPickling.pickled = 0
    found = list(side_by_side.map(worker_tasks.CountedPickling(), range(40)))
    assert worker_tasks.CountedPickling.pickled == 1
    tasks, processes, unpickled = zip(*(result for _, result in found), strict=True)
    assert sorted(tasks) == list(range(40))
    assert len(set(processes)) == 2
    assert set(unpickled) == {1}


@pytest.mark.parametrize("times", [1, 3])
def test_a_worker_killed_over_a_task(side_by_side, tmp_path, times):
    """Up to three times another worker takes over: nothing is lost, nothing comes twice."""
    found = list(side_by_side.map(worker_tasks.KilledAt(tmp_path, 7, times), range(30)))
    assert sorted(found) == [(n, n * n) for n in range(30)]
    assert len(list(tmp_path.iterdir())) == times


def test_a_worker_killed_from_outside(side_by_side):
    """SIGKILL midway, as the kernel does when memory is short."""
    pids = {pid for _, pid in side_by_side.map(worker_tasks.process_of, range(20))}
    found = []
    for index, result in side_by_side.map(worker_tasks.slow_square, range(20)):
        found.append((index, result))
        if len(found) == 4:
            os.kill(min(pids), signal.SIGKILL)
    assert sorted(found) == [(n, n * n) for n in range(20)]


def test_a_task_that_kills_every_worker(tmp_path, address):
    """Given up after four kills, with the way out; not before."""
    with open_workers(2) as workers, pytest.raises(WorkersError) as caught:
        list(workers.map(worker_tasks.KilledAt(tmp_path, 7, 20), range(20)))
    assert str(caught.value) == (
        "a worker process was killed 4 times over the same piece of work, perhaps for want of "
        "memory; choose fewer --jobs"
    )
    assert len(list(tmp_path.iterdir())) == 4
    with open_workers(address=address) as workers, pytest.raises(WorkersError) as caught:
        list(workers.map(worker_tasks.KilledAt(tmp_path, 7, 20), range(20)))
    assert str(caught.value) == (
        f"{address}: workers were killed again and again over the same piece of work, perhaps for "
        "want of memory; give the workers more, or fewer threads each"
    )


def test_processes_are_gone_after_the_block():
    """Also those that were busy when an error came."""
    with open_workers(2) as workers:
        pids = {pid for _, pid in workers.map(worker_tasks.process_of, range(10))}
    assert len(pids) == 2
    _wait_until_gone(pids)
    with pytest.raises(KeyboardInterrupt), open_workers(2) as workers:
        _interrupted(workers, pids := set())
    assert len(pids) == 2
    _wait_until_gone(pids)


def _interrupted(workers, pids):
    pids |= {pid for _, pid in workers.map(worker_tasks.process_of, range(10))}
    for _ in workers.map(worker_tasks.slow_square, range(1000)):
        raise KeyboardInterrupt


def test_processes_share_the_cores(monkeypatch):
    """A worker computes on its share of them, unless the user says otherwise."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
    with open_workers(1000 if not os.cpu_count() else 2 * os.cpu_count()) as workers:
        assert sorted(workers.map(worker_tasks.threads_of, names)) == [(0, "1"), (1, "3")]


def test_no_processes():
    """The command line checks it; a caller's mistake keeps its traceback."""
    with pytest.raises(ValueError, match="0 processes, expected 1 or more"), open_workers(0):
        pass


def test_interrupt():
    """Ctrl-C in a terminal goes to all processes: one traceback, quickly, and no process left."""
    with _endless() as process:
        pids, results = _some_output(process)
        os.killpg(process.pid, signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
    assert process.returncode in {1, -signal.SIGINT, 128 + signal.SIGINT}
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    results += [line.split()[1:] for line in rest.splitlines()]
    assert all(int(square) == int(index) ** 2 for index, square in results)
    _wait_until_gone(pids)


def test_a_killed_parent_leaves_no_workers():
    """Even when nobody is left to end them."""
    with _endless() as process:
        pids, _ = _some_output(process)
        process.kill()
    _wait_until_gone(pids)


def _endless():
    return subprocess.Popen(
        [sys.executable, Path(worker_tasks.__file__)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def _some_output(process):
    pids, results = set(), []
    while len(results) < 5:
        kind, *words = process.stdout.readline().split()
        if kind == "worker":
            pids.add(int(words[0]))
        else:
            results.append(words)
    return pids, results


def _wait_until_gone(pids):
    deadline = time.monotonic() + 20
    while alive := {pid for pid in pids if _is_alive(pid)}:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Where nobody reaps the children of a killed parent they stay as zombies.
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize("wrong", ["nonsense", "http://127.0.0.1:80", "tcp://127.0.0.1:abc", ""])
def test_no_address(wrong):
    """What Dask makes of it is said in brackets."""
    with pytest.raises(WorkersError) as caught, open_workers(address=wrong):
        pass
    assert re.fullmatch(
        re.escape(f"{wrong!r}: not the address of a Dask scheduler (")
        + r".+\); expected one such as tcp://10\.0\.0\.5:8786",
        str(caught.value),
    )


def test_nobody_answers():
    """Neither where nothing listens nor where something listens and says nothing."""
    with socket.socket() as closed, socket.socket() as silent:
        closed.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for listener in (closed, silent):
            address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
            with pytest.raises(WorkersError) as caught, cluster(address, answer_seconds=1):
                pass
            assert str(caught.value) == (
                f"{address}: no Dask scheduler answers within 1 s; see the address that "
                "`dask scheduler` prints when it starts"
            )


def test_a_scheduler_without_workers():
    """Waiting for them for ever would look like work."""
    with _local_cluster(workers=0) as local:
        address = local.scheduler_address
        with pytest.raises(WorkersError) as caught, cluster(address, answer_seconds=0.5):
            pass
    assert str(caught.value) == (
        f"{address}: the scheduler has no workers; start some with: dask worker {address}"
    )


def test_a_scheduler_that_goes_away():
    """Said with its address; what came before has been yielded."""
    found = []
    with _local_cluster() as local:
        address = local.scheduler_address
        with pytest.raises(WorkersError) as caught, open_workers(address=address) as workers:
            _collect_and_close(workers, found, local)
    assert str(caught.value) == (
        f"{address}: the connection to the scheduler was lost; see whether it still runs, then go "
        "on with --resume"
    )
    assert len(found) >= 3


def _collect_and_close(workers, found, local):
    for index, result in workers.map(worker_tasks.slow_square, range(1000)):
        assert result == index**2
        found.append(index)
        if len(found) == 3:
            local.close()


def test_an_interrupt_leaves_a_cluster_usable(address):
    """Others may work there too."""
    with pytest.raises(KeyboardInterrupt), open_workers(address=address) as workers:
        _interrupted(workers, set())
    with open_workers(address=address) as workers:
        assert sorted(workers.map(worker_tasks.square, range(3))) == [(0, 0), (1, 1), (2, 4)]


def test_a_worker_that_lacks_a_module(address):
    """Said with the module's name and the scheduler's address."""
    with open_workers(address=address) as workers, pytest.raises(WorkersError) as caught:
        list(workers.map(worker_tasks.missing_module, range(3)))
    assert str(caught.value) == (
        f"{address}: a worker has no module 'arraysmith_of_tomorrow'; install there what is "
        "installed here"
    )


def test_a_worker_of_another_version():
    """It may answer otherwise, so it does not answer."""
    packed = Packed(Packed.of(worker_tasks.square).content, "99")
    with pytest.raises(WorkersError) as caught:
        packed(3)
    assert str(caught.value) == (
        f"a worker has arraysmith {__version__}, here it is 99; install the same version there"
    )


def test_a_run_that_lasts(any_workers, tmp_path):
    """Journal and chunks together: interrupted twice, nothing is evaluated twice, same answers."""
    run = functools.partial(_explore, any_workers, tmp_path / JOURNAL)
    evaluated = []
    for existing in (Existing.REFUSE, Existing.RESUME):
        with pytest.raises(KeyboardInterrupt):
            run(existing, evaluated, stop_after=40)
    answers = run(Existing.RESUME, evaluated)
    assert sorted(evaluated) == list(range(len(ROWS)))
    np.testing.assert_array_equal(answers, worker_tasks.row_costs(ROWS))
    np.testing.assert_array_equal(run(Existing.REFUSE, evaluated), answers)
    assert len(evaluated) == len(ROWS)


def _explore(workers, path, existing, evaluated, stop_after=None):
    designs = np.arange(len(ROWS))
    dtype = worker_tasks.row_costs(ROWS[:0]).dtype
    count = 0
    with open_journal(path, Identity.of({"space": "600 rows"}, 7), dtype, existing) as journal:
        found, answers = journal.lookup(designs)
        missing = designs[~found]
        for where, results in chunked(
            workers, worker_tasks.row_costs, ROWS[missing], least_seconds=0.02
        ):
            journal.append(missing[where], results)
            answers[missing[where]] = results
            evaluated += missing[where].tolist()
            count += len(results)
            if stop_after is not None and count >= stop_after:
                raise KeyboardInterrupt
        if journal.finished is None:
            journal.finish(b"{}")
    return answers
