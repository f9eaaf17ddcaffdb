"""What an exploration has done is there again: after a kill, a full disk, or damage."""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import journal_writer
import msgspec
import numpy as np
import pytest
from journal_writer import DTYPE, identity, results

from arraysmith.errors import InputFileError, OutputError
from arraysmith.journal import JOURNAL, Existing, Identity, open_journal
from arraysmith.journal import lock as locks
from arraysmith.journal.known import Known
from arraysmith.version import __version__

WAY_OUT = "choose another folder with -o, or start anew with --restart"


@pytest.fixture
def path(tmp_path):
    """Where the journal goes; the folder is not there yet."""
    return tmp_path / "run" / JOURNAL


def opened(path, existing=Existing.RESUME, **facts):
    """The journal of the tests."""
    return open_journal(path, identity(**facts), DTYPE, existing)


def filled(path, *blocks, payload=None):
    """A journal of blocks of designs; returns where each ends in the file."""
    ends = []
    with opened(path) as journal:
        ends.append(path.stat().st_size)
        for block in blocks:
            designs = np.array(block, np.int64)
            journal.append(designs, results(designs))
            ends.append(path.stat().st_size)
        if payload is not None:
            journal.finish(payload)
            ends.append(path.stat().st_size)
    return ends


def test_what_was_appended_is_there_again(path):
    """Every design with its result, whether asked of the open journal or of a later one."""
    with opened(path, Existing.REFUSE) as journal:
        assert (len(journal), journal.finished, journal.dropped_bytes) == (0, None, 0)
        assert journal.results.dtype == DTYPE
        for block in ([5, 3], [], [9], [-4]):
            designs = np.array(block, np.int64)
            journal.append(designs, results(designs))
        _check(journal, [-4, 3, 5, 9])
    with opened(path) as journal:
        _check(journal, [-4, 3, 5, 9])
        journal.append(np.array([1]), results(np.array([1])))
        _check(journal, [-4, 1, 3, 5, 9])
    with opened(path) as journal:
        _check(journal, [-4, 1, 3, 5, 9])


def _check(journal, designs):
    assert journal.designs.tolist() == designs
    assert len(journal) == len(designs)
    np.testing.assert_array_equal(journal.results, results(np.array(designs)))
    asked = np.arange(-10, 20)
    found, answers = journal.lookup(asked)
    assert asked[found].tolist() == designs
    np.testing.assert_array_equal(answers[found], results(np.array(designs)))
    assert not answers[~found].view(np.uint8).any()


def test_lookup_against_a_dictionary():
    """Thousands of small additions with repeats; the first result of a design counts."""
    rng = np.random.default_rng(3)
    known, slow = Known(), {}
    for step in range(300):
        designs = rng.integers(-500, 2000, rng.integers(0, 30))
        values = rng.integers(0, 10**9, designs.size)
        known.add(designs, values)
        for design, value in zip(designs.tolist(), values.tolist(), strict=True):
            slow.setdefault(design, value)
        if step % 50 == 0:
            known.merged()
        asked = rng.integers(-600, 2100, 50)
        answers = np.full(50, -1)
        found = known.fill(asked, answers)
        assert found.tolist() == [design in slow for design in asked.tolist()]
        assert answers.tolist() == [slow.get(design, -1) for design in asked.tolist()]
        sizes = [run.designs.size for run in known.runs]
        assert all(long >= 2 * short for long, short in itertools.pairwise(sizes))
    assert known.merged().designs.tolist() == sorted(slow)


def test_the_first_line_tells_what_was_explored(path):
    """People can read it with `head -1`."""
    filled(path, [1])
    line = msgspec.json.decode(path.read_bytes().split(b"\n")[0])
    assert line["format"] == "arraysmith-journal-1"
    assert line["arraysmith"] == __version__
    assert line["facts"] == journal_writer.FACTS
    assert line["key"] == identity().key
    assert len(line["key"]) == 64


def test_the_key_depends_on_all_that_determines_the_answers():
    """Facts, numbers and their order."""
    keys = {
        Identity.of(facts, determines).key
        for facts in ({}, {"a": "1"}, {"a": "2"})
        for determines in ([1, 2], [2, 1], {"x": 1.5}, None)
    }
    assert len(keys) == 12
    assert Identity.of({"a": "1", "b": "2"}, [1]) == Identity.of({"b": "2", "a": "1"}, [1])


def test_an_unfinished_one_is_not_written_over(path):
    """The message says how far it went and both ways on; the file stays as it is."""
    filled(path, range(1234))
    with path.open("ab") as file:
        file.write(b"torn")
    before = path.read_bytes()
    with pytest.raises(OutputError) as caught, opened(path, Existing.REFUSE):
        pass
    assert str(caught.value) == (
        f"{path}: an unfinished exploration of this very space, 1,234 designs done; go on with "
        "--resume, or start anew with --restart"
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize("existing", [Existing.REFUSE, Existing.RESUME])
def test_a_finished_one_is_recognised_and_never_written(path, existing):
    """What came of it is given again; not a byte changes, whatever stands behind its end."""
    filled(path, [1, 2], payload=b'{"best": 1}')
    with path.open("ab") as file:
        file.write(b"something")
    before, changed = path.read_bytes(), path.stat().st_mtime_ns
    with opened(path, existing) as journal:
        assert journal.finished == b'{"best": 1}'
        assert journal.designs.tolist() == [1, 2]
        assert journal.dropped_bytes == 9
        with pytest.raises(ValueError, match="finished or closed, nothing can be added"):
            journal.append(np.array([3]), results(np.array([3])))
        with pytest.raises(ValueError, match="finished or closed, nothing can be added"):
            journal.finish(b"again")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, changed)


def test_nothing_is_added_after_the_end(path):
    """In the same process too; an empty payload is one."""
    with opened(path) as journal:
        journal.finish(b"")
        assert journal.finished == b""
        with pytest.raises(ValueError, match="finished or closed, nothing can be added"):
            journal.append(np.array([3]), results(np.array([3])))
    with pytest.raises(ValueError, match="finished or closed, nothing can be added"):
        journal.append(np.array([3]), results(np.array([3])))


@pytest.mark.parametrize("payload", [None, b"finished"])
def test_restart(path, payload):
    """Starting anew forgets everything, also what another exploration did."""
    filled(path, [1, 2], payload=payload)
    with opened(path, Existing.RESTART, seed="2") as journal:
        assert (len(journal), journal.finished) == (0, None)
        journal.append(np.array([7]), results(np.array([7])))
    with opened(path, seed="2") as journal:
        assert journal.designs.tolist() == [7]


@pytest.mark.parametrize("existing", [Existing.REFUSE, Existing.RESUME])
@pytest.mark.parametrize("payload", [None, b"finished"])
def test_another_exploration(path, existing, payload):
    """The message names all that differs; nothing is touched."""
    filled(path, [1, 2], payload=payload)
    before = path.read_bytes()
    other = Identity.of({"workload": "mobilenet", "seed": "1", "search": "genetic"}, [1])
    with pytest.raises(OutputError) as caught, open_journal(path, other, DTYPE, existing):
        pass
    assert str(caught.value) == (
        f"{path}: is of another exploration: workload was 'resnet50', is 'mobilenet' and search "
        f"was not given, is 'genetic'; {WAY_OUT}"
    )
    assert path.read_bytes() == before


def test_another_exploration_that_the_facts_do_not_tell(path):
    """Then the keys are named."""
    filled(path, [1])
    was, other = identity().key, Identity.of(journal_writer.FACTS, [4])
    with pytest.raises(OutputError) as caught, open_journal(path, other, DTYPE):
        pass
    assert str(caught.value) == (
        f"{path}: is of another exploration: key was {was[:12]}, is {other.key[:12]}; {WAY_OUT}"
    )


def test_another_kind_of_result(path):
    """Numbers that stand for something else are not taken for results."""
    filled(path, [1])
    with (
        pytest.raises(OutputError) as caught,
        open_journal(path, identity(), np.dtype(np.float32)),
    ):
        pass
    assert str(caught.value) == (
        f"{path}: is of another exploration: results was \"[('cycles', '<i8'), ('energy_pj', "
        f"'<f8'), ('kept', '|b1')]\", is '<f4'; {WAY_OUT}"
    )


def test_another_version(path, monkeypatch):
    """A later Arraysmith may answer otherwise."""
    filled(path, [1])
    monkeypatch.setattr("arraysmith.journal.identity.__version__", "99")
    with pytest.raises(OutputError) as caught, opened(path):
        pass
    assert str(caught.value) == (
        f"{path}: is of another exploration: version was {__version__!r}, is '99'; {WAY_OUT}"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"hello\n",
        b"{}\n",
        b"[1]\n",
        b'{"format": 3}\n',
        b'{"format": "arraysmith-journal-1"}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        bytes(1000),
    ],
    ids=lambda content: repr(content[:20]),
)
def test_no_journal(path, content):
    """One message, also for a file cut within its first line; --restart replaces it."""
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(InputFileError) as caught, opened(path):
        pass
    assert str(caught.value) == f"{path}: not the journal of an exploration, or damaged; {WAY_OUT}"
    assert path.read_bytes() == content
    with opened(path, Existing.RESTART) as journal:
        assert len(journal) == 0


def test_a_later_format(path):
    """Not read, and not called damaged."""
    path.parent.mkdir()
    path.write_bytes(b'{"format": "arraysmith-journal-2"}\n')
    with pytest.raises(InputFileError) as caught, opened(path):
        pass
    assert str(caught.value) == (
        f"{path}: format 'arraysmith-journal-2', expected 'arraysmith-journal-1'; {WAY_OUT}"
    )


@pytest.mark.parametrize("existing", list(Existing))
def test_a_folder_in_its_place(path, existing):
    """Nobody's folder is removed."""
    path.mkdir(parents=True)
    with pytest.raises(InputFileError) as caught, opened(path, existing):
        pass
    assert str(caught.value) == (
        f"{path}: not a file, but the journal goes there; choose another folder with -o"
    )


def test_a_file_in_place_of_the_folder(tmp_path):
    """Said before anything is computed."""
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(OutputError) as caught, opened(tmp_path / "run" / JOURNAL):
        pass
    assert str(caught.value) == (
        f"{tmp_path / 'run' / ('.' + JOURNAL + '.lock')}: cannot be written (File exists); choose "
        "another folder with -o"
    )


@pytest.mark.parametrize("dtype", [np.dtype(object), np.dtype("V0")])
def test_results_without_a_size(path, dtype):
    """A mistake of the caller is no message for users."""
    with (
        pytest.raises(ValueError, match="have no fixed size"),
        open_journal(path, identity(), dtype),
    ):
        pass


def test_arrays_that_do_not_fit(path):
    """One result a design."""
    with opened(path) as journal, pytest.raises(ValueError, match=r"designs \(2,\) and results"):
        journal.append(np.arange(2), results(np.arange(3)))


def test_cut_anywhere(path):
    """At every byte: blocks that are whole are kept, of a torn one nothing; and one can go on."""
    blocks = [range(3), [50, 40], range(100, 103)]
    ends = filled(path, *blocks, payload=b"all done")
    content = path.read_bytes()
    for length in range(ends[1] - 1, len(content)):
        path.write_bytes(content[:length])
        whole = sum(end <= length for end in ends[1:])
        with opened(path) as journal:
            assert journal.designs.tolist() == sorted(itertools.chain(*blocks[:whole]))
            assert journal.finished is None
            assert journal.dropped_bytes == length - ends[whole]
            journal.append(np.array([999]), results(np.array([999])))
        assert path.stat().st_size == ends[whole] + (ends[2] - ends[1] - 20) // 2 + 20
        with opened(path) as journal:
            assert journal.dropped_bytes == 0
            assert journal.designs[-1] == 999
            np.testing.assert_array_equal(journal.results, results(journal.designs))


def test_any_flipped_bit(path):
    """Damage anywhere: what is before it is kept, nothing wrong is ever read."""
    ends = filled(path, range(2), [9, 8], payload=b"done")
    content = path.read_bytes()
    by_blocks = [[], [0, 1], [0, 1, 8, 9]]
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        if place < ends[0]:
            with pytest.raises(InputFileError, match=r"damaged; choose|expected 'arraysmith-jour"):
                opened(path).__enter__()
            continue
        whole = sum(end <= place for end in ends[1:])
        with opened(path) as journal:
            assert journal.designs.tolist() == by_blocks[whole]
            np.testing.assert_array_equal(journal.results, results(journal.designs))
            assert journal.finished is None
            assert journal.dropped_bytes == len(content) - ends[whole]


def test_random_damage(path):
    """Bytes lost, doubled, zeroed or swapped: whole blocks from the start, or one message."""
    rng = random.Random(5)  # noqa: S311
    ends = filled(path, range(10), range(10, 30), range(30, 35), payload=b"done")
    content = path.read_bytes()
    for _ in range(400):
        start = rng.randrange(len(content))
        stop = min(len(content), start + rng.randrange(1, 300))
        replacement = rng.choice([b"", bytes(stop - start), content[start:stop] * 2,
                                  rng.randbytes(stop - start)])  # fmt: skip
        path.write_bytes(content[:start] + replacement + content[stop:])
        try:
            with opened(path) as journal:
                done = journal.designs
                np.testing.assert_array_equal(journal.results, results(done))
                assert done.tolist() == list(range(done.size))
                kept = sum(end <= start for end in ends[1:])
                assert done.size >= [0, 10, 30, 35, 35][kept]
        except InputFileError:
            assert start < ends[0]


def test_blocks_of_another_journal_are_none_of_ours(path, tmp_path):
    """As an old disk block that comes to light after a power cut would be."""
    ends = filled(path, [1, 2])
    with opened(tmp_path / JOURNAL, seed="2") as journal:
        journal.append(np.array([3]), results(np.array([3])))
    strange = (tmp_path / JOURNAL).read_bytes().split(b"\n", 1)[1]
    with path.open("ab") as file:
        file.write(strange)
    with opened(path) as journal:
        assert journal.designs.tolist() == [1, 2]
        assert journal.dropped_bytes == len(strange)
    assert path.stat().st_size == ends[1]


def test_full_disk(path):
    """One message; what was done is kept, the file is whole, and one can go on."""
    ends = filled(path, range(1000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    designs = np.arange(1000, 3000)
    with opened(path) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (ends[1] + 5000, hard))
        try:
            with pytest.raises(OutputError) as caught:
                journal.append(designs, results(designs))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.stat().st_size == ends[1]
        assert str(caught.value) == (
            f"{path}: cannot be written (File too large); 1,000 designs done are kept: free space "
            f"and rights in {path.parent}, then go on with --resume"
        )
        _, answers = journal.lookup(designs)
        assert not answers["cycles"].any()
        journal.append(designs, results(designs))
    with opened(path) as journal:
        assert journal.designs.tolist() == list(range(3000))


def test_a_disk_that_fails_when_made_to_write(path, monkeypatch):
    """What fsync says is said; an exception of the caller is not hidden by it."""

    def fail(descriptor):
        raise OSError(5, "Input/output error", descriptor)

    with opened(path) as journal, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OutputError, match="Input/output error"):
            journal.finish(b"")
    with pytest.raises(OutputError, match="Input/output error"):
        _fail_in(path, monkeypatch, fail, None)
    with pytest.raises(KeyboardInterrupt):
        _fail_in(path, monkeypatch, fail, KeyboardInterrupt())


def _fail_in(path, monkeypatch, fail, error):
    with monkeypatch.context() as patch, opened(path, Existing.RESTART):
        patch.setattr(os, "fsync", fail)
        if error is not None:
            raise error


def test_a_killed_process_loses_nothing(path):
    """kill -9 at random moments, again and again: all that was said to be done is there."""
    rng = random.Random(2)  # noqa: S311
    path.parent.mkdir()
    done = 0
    for seed in range(6):
        with _writer(path.parent, seed) as process:
            for _ in range(rng.randrange(1, 200)):
                said = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            said = int(([said, *process.stdout.read().split()])[-1])
        assert said > done
        with opened(path) as journal:
            assert journal.designs.tolist() == list(range(len(journal)))
            np.testing.assert_array_equal(journal.results, results(journal.designs))
            assert len(journal) >= said
            done = len(journal)


def test_two_processes_on_one_folder(path):
    """The second is told who the first is; when that is gone, even by a kill, it can go on."""
    path.parent.mkdir()
    with _writer(path.parent, "hold") as process:
        assert process.stdout.readline() == "open\n"
        for existing in Existing:
            with pytest.raises(OutputError) as caught, opened(path, existing):
                pass
            assert str(caught.value) == (
                f"{path}: another process (pid {process.pid}) is exploring in this folder; wait "
                "for it or choose another folder with -o"
            )
        process.kill()
        process.wait()
        with opened(path) as journal:
            assert len(journal) == 0


def test_without_locks(path, monkeypatch):
    """Where a system or a file system has none, the last writer wins."""
    monkeypatch.setattr(locks, "fcntl", None)
    with opened(path), opened(path) as journal:
        assert len(journal) == 0


def _writer(folder, seed):
    return subprocess.Popen(
        [sys.executable, Path(journal_writer.__file__), folder, str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
