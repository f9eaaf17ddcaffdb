"""Long explorations, killed, interrupted, out of disk or workers, go on and end the same."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import struct
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

import arraysmith
from arraysmith.errors import OutputError
from arraysmith.flow.lasting import Lasting
from arraysmith.journal import JOURNAL
from arraysmith.search.physical_model import Physical
from arraysmith.search.problem import RECORD
from arraysmith.space import DesignSpace, Objective
from arraysmith.workload import Gemm, Workload

TOPOLOGY = "Layer, M, N, K,\na, 96, 48, 160,\nb, 60, 84, 120,\nc, 49, 64, 144,\n"
SIDES = tuple(range(4, 29, 4))
SPACE = DesignSpace(rows=SIDES, cols=SIDES, ifmap_kib=(1, 4, 16), ofmap_kib=(1, 8))
WANTED = ("energy", "cycles", "area")
COMMAND = (
    sys.executable, "-m", "arraysmith", "explore", "-t", "gemm.csv", "-i", "gemm", "-q",
    "--model", "physical", "--rows", "4:28:4", "--cols", "4:28:4", "--ifmap-kib", "1,4,16",
    "--ofmap-kib", "1,8", "--objective", ",".join(WANTED), "--json", "-o", "run",
)  # fmt: skip
WORKLOAD = Workload(
    name="gemm",
    layers=(
        Gemm(name="a", M=96, N=48, K=160),
        Gemm(name="b", M=60, N=84, K=120),
        Gemm(name="c", M=49, N=64, K=144),
    ),
)
SMALL = DesignSpace(rows=(4, 8), cols=(4, 8), ifmap_kib=(1, 4))
QUESTION = {"model": "physical", "objectives": tuple(map(Objective, WANTED))}
HEAD = struct.Struct("<4sIIQ")
RECORDS = np.dtype([("design", "<i8"), ("result", RECORD)])


def written_down(path):
    """(n,) every design that a journal holds, in order, however often; read by the format alone."""
    content = path.read_bytes()
    start = content.index(b"\n") + 1
    found = []
    while start + HEAD.size <= len(content):
        _, kind, _, length = HEAD.unpack_from(content, start)
        inside = content[start + HEAD.size : start + HEAD.size + length]
        if len(inside) < length:
            break
        if kind == 1:
            found.extend(np.frombuffer(inside, RECORDS)["design"].tolist())
        start += HEAD.size + length
    return found


def answer_of(folder):
    """All that may not depend on how often a run was stopped."""
    facts = json.loads((folder / "run" / "metrics.json").read_text())["exploration"]
    facts = facts.get("facts", facts)
    columns = arraysmith.read_designs(folder / "run" / "designs.npz")
    return facts, columns


def same(first, second):
    """Whether two answers are, but for times and the command."""
    (facts, columns), (others, other_columns) = first, second
    assert list(columns) == list(other_columns)
    for name, column in columns.items():
        assert np.array_equal(column, other_columns[name]), name
    changing = {"seconds", "command", "stopped", "written", "date", "time", "started"}
    text, other_text = (
        json.dumps({k: v for k, v in each.items() if k not in changing}, sort_keys=True)
        for each in (facts, others)
    )
    assert text == other_text


def started(folder, *arguments, **options):
    """The command line as a process of its own."""
    (folder / "gemm.csv").write_text(TOPOLOGY)
    return subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **options,
    )  # fmt: skip


def ended(process):
    """Wait; exit code, standard output, standard error."""
    out, error = process.communicate(timeout=120)
    return process.returncode, out, error


def when_written(folder, process, size):
    """Wait until the journal has so many bytes; whether it came to that."""
    path = folder / "run" / JOURNAL
    while process.poll() is None:
        if path.exists() and path.stat().st_size >= size:
            return True
        time.sleep(0.005)
    return False


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The folder of a run from beginning to end in one process."""
    folder = tmp_path_factory.mktemp("whole")
    code, _, error = ended(started(folder, "--jobs", "1"))
    assert code == 0, error
    return folder


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_exploration_goes_on_to_the_same_answer(uninterrupted, tmp_path, jobs):
    """SIGKILL at any moment, again and again; no design that was done is evaluated again."""
    rng = random.Random(f"kill {jobs}")  # noqa: S311
    whole = (uninterrupted / "run" / JOURNAL).stat().st_size
    marks = sorted(rng.sample(range(whole // 20, whole * 9 // 10), 2))
    kills = 0
    for mark in marks:
        process = started(tmp_path, "--jobs", str(jobs), "--resume")
        if when_written(tmp_path, process, mark):
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
            kills += 1
        ended(process)
    done = written_down(tmp_path / "run" / JOURNAL)
    assert kills >= 1
    code, _, error = ended(started(tmp_path, "--jobs", str(jobs), "--resume"))
    assert code == 0, error
    same(answer_of(tmp_path), answer_of(uninterrupted))
    after = written_down(tmp_path / "run" / JOURNAL)
    assert after[: len(done)] == done
    assert len(after) == len(set(after))
    assert sorted(after) == sorted(written_down(uninterrupted / "run" / JOURNAL))


def test_ctrl_c_says_how_to_go_on(uninterrupted, tmp_path):
    """Exit 1, one line, what is done stays; then the same answer."""
    process = started(
        tmp_path, "--jobs", "1",
        # A job in the background hands an ignored Ctrl-C on to its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert when_written(tmp_path, process, 4000)
    process.send_signal(signal.SIGINT)
    code, _, error = ended(process)
    assert code == 1
    done = len(written_down(tmp_path / "run" / JOURNAL))
    assert error.strip() == (  # click ends the line in which ^C stands
        f"arraysmith: interrupted; {done:,} designs done are kept in run/{JOURNAL}; go on with "
        "--resume"
    )
    assert 0 < done < len(written_down(uninterrupted / "run" / JOURNAL))
    code, _, error = ended(started(tmp_path, "--jobs", "1"))
    assert code == 1
    assert error == (
        f"arraysmith: run/{JOURNAL}: an unfinished exploration of this very space, {done:,} "
        "designs done; go on with --resume, or start anew with --restart\n"
    )
    code, _, error = ended(started(tmp_path, "--jobs", "1", "--resume"))
    assert code == 0, error
    same(answer_of(tmp_path), answer_of(uninterrupted))


def test_a_full_disk_keeps_what_is_done(uninterrupted, tmp_path):
    """One message, the journal whole, and with room again it goes on."""
    (tmp_path / "gemm.csv").write_text(TOPOLOGY)
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000));"
    limited += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += f"import sys; sys.argv = ['arraysmith', *{[*COMMAND[3:], '--jobs', '1']!r}];"
    limited += "from arraysmith.cli import main; main()"
    finished = subprocess.run(
        [sys.executable, "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    done = len(written_down(tmp_path / "run" / JOURNAL))
    assert finished.returncode == 1
    assert finished.stderr == (
        f"arraysmith: run/{JOURNAL}: cannot be written (File too large); {done:,} designs done "
        "are kept: free space and rights in run, then go on with --resume\n"
    )
    assert done > 0
    code, _, error = ended(started(tmp_path, "--jobs", "1", "--resume"))
    assert code == 0, error
    same(answer_of(tmp_path), answer_of(uninterrupted))


def explored_in(folder, space=SMALL, lasting=None, workload=WORKLOAD, **question):
    """Here, with the answer as plain values."""
    found = arraysmith.explore(
        workload, space, folder, **(QUESTION | question), lasting=lasting or Lasting()
    )
    return found.facts.best, found.front, found.facts.ranking, found.facts.evaluated


def test_a_finished_exploration_is_recognised(tmp_path, monkeypatch):
    """The same question again: the same answer without evaluating anything; --restart does all."""
    first = explored_in(tmp_path)
    written = (tmp_path / JOURNAL).read_bytes()
    evaluated = []

    def counted(model, ids, most_cycles):
        evaluated.extend(ids.tolist())
        return evaluate(model, ids, most_cycles)

    evaluate = Physical.evaluate
    monkeypatch.setattr(Physical, "evaluate", counted)
    assert explored_in(tmp_path) == first
    assert explored_in(tmp_path, lasting=Lasting(resume=True)) == first
    assert evaluated == []
    assert (tmp_path / JOURNAL).read_bytes() == written
    assert explored_in(tmp_path, lasting=Lasting(restart=True)) == first
    assert sorted(evaluated) == sorted(written_down(tmp_path / JOURNAL))


WAY_OUT = "; choose another folder with -o, or start anew with --restart"


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (
            {"space": DesignSpace(rows=(4, 9), cols=(4, 8), ifmap_kib=(1, 4))},
            "rows was '4, 8', is '4, 9'",
        ),
        ({"search": "random", "budget": 9}, "search was 'exhaustive', is 'random'"),
        ({"clock_mhz": 500}, "clock_mhz was '1000', is '500'"),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_another_exploration_in_the_folder_is_refused(tmp_path, change, differs, resume):
    """Whatever differs is named, resumed or not; the journal stays."""
    explored_in(tmp_path)
    before = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(OutputError) as caught:
        explored_in(tmp_path, lasting=Lasting(resume=resume), **change)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / JOURNAL}: is of another exploration: ")
    assert differs in message
    assert message.endswith(WAY_OUT)
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_other_layers_and_other_seeds_are_refused(tmp_path):
    """Layers that changed under the same name too; each by a message that says what."""
    random_search = {"search": "random", "budget": 9}
    explored_in(tmp_path, **random_search, seed=1)
    with pytest.raises(OutputError) as caught:
        explored_in(tmp_path, **random_search, seed=2)
    assert str(caught.value) == (
        f"{tmp_path / JOURNAL}: is of another exploration: seed was '1', is '2'{WAY_OUT}"
    )
    other = Workload(name="gemm", layers=WORKLOAD.layers[:2])
    with pytest.raises(
        OutputError, match=r"another exploration: workload was 'gemm, .*, is 'gemm, "
    ):
        explored_in(tmp_path, **random_search, seed=1, workload=other)


def test_two_processes_in_one_folder(tmp_path):
    """The second one is told who is there, and disturbs nothing."""
    first = started(tmp_path, "--jobs", "1")
    assert when_written(tmp_path, first, 2000)
    code, _, error = ended(started(tmp_path, "--jobs", "1", "--resume"))
    assert code == 1
    assert error.startswith(f"arraysmith: run/{JOURNAL}: another process")
    assert "is exploring in this folder; wait for it or choose another" in error
    code, _, error = ended(first)
    assert code == 0, error


@contextmanager
def local_cluster():
    """A scheduler with two worker processes."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",  # the usual port may be taken, which warns
        silence_logs=logging.CRITICAL,
    ) as local:
        yield local


def test_a_cluster_gives_the_same_answer_though_a_worker_is_killed(uninterrupted, tmp_path):
    """Its tasks go to the other; every design is written down once."""
    with local_cluster() as local:
        process = started(tmp_path, "--cluster", local.scheduler_address)
        assert when_written(tmp_path, process, 3000)
        workers = [each.process.pid for each in local.workers.values()]
        os.kill(workers[0], signal.SIGKILL)
        code, _, error = ended(process)
    assert code == 0, error
    same(answer_of(tmp_path), answer_of(uninterrupted))
    done = written_down(tmp_path / "run" / JOURNAL)
    assert len(done) == len(set(done))
