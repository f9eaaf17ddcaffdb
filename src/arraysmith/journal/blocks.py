r"""The journal of a long exploration: designs that are done are never computed again.

A journal is one file that only grows: a first line of JSON that says what is explored, then blocks.

    {"format": "arraysmith-journal-1", "key": ..., "facts": {...}, ..., "crc32": ...}\n
    block = head (magic, kind, CRC-32, length in bytes: 20 bytes) + content

A block of kind 1 holds records (design, result), of kind 2 what the caller made of them all: the
exploration is finished, and nothing is written any more. Why it is like this:

- A block is written whole by the system or recognised as torn: its CRC covers head and content.
  It starts from the CRC of the first line, so that a block of another journal is none of ours.
- A block is handed to the system at once, so a kill of the process loses nothing. The disk is
  made to have it at most once a second, so a power cut loses about the last second of work.
- Reading stops at the first block that is not whole. What is before it is kept; what is behind it
  is dropped, for nothing there can be trusted to start where it should. `dropped_bytes` says how
  much that was. The file is cut there only when somebody goes on with it.
- The first line is written by one atomic rename, so a journal without a first line does not occur.
"""

from __future__ import annotations

import contextlib
import enum
import os
import struct
import time
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.errors import InputFileError, OutputError
from arraysmith.files import read_bytes, write_bytes
from arraysmith.journal.identity import FirstLine, check_same, first_line
from arraysmith.journal.known import Known
from arraysmith.journal.lock import alone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.journal.identity import Identity

JOURNAL = "exploration.journal"
"""Its name in a run folder."""
_HEAD = struct.Struct("<4sIIQ")
_MAGIC = b"\xa5ASJ"
_RECORDS, _FINISHED = 1, 2
_SYNC_SECONDS = 1.0


class Existing(enum.StrEnum):
    """What to do with an unfinished journal that is already there."""

    REFUSE = "refuse"
    RESUME = "resume"
    RESTART = "restart"
    """Replace whatever journal is there, a finished or damaged one too."""


class Journal:
    """An open journal; made by `open_journal` alone."""

    __slots__ = ("_descriptor", "_end", "_known", "_record", "_seed", "_synced", "dropped_bytes",
                 "finished", "path")  # fmt: skip

    def __init__(self, path: Path, content: bytes, first_line: int, record: np.dtype[Any]) -> None:
        """Read what is whole; the file is not touched.

        Args:
            path: the journal.
            content: all of it.
            first_line: bytes of its first line.
            record: of a design and its result.
        """
        self.path = path
        self._record = record
        self._seed = zlib.crc32(content[:first_line])
        self._known = Known()
        self._descriptor: int | None = None
        self._synced = -_SYNC_SECONDS
        self.finished: bytes | None = None
        """What was given to `finish`; None as long as there are designs to do."""
        self._end = self._read(memoryview(content), first_line)
        self.dropped_bytes = len(content) - self._end
        """Bytes behind the last whole block, of which nothing was used."""

    def __len__(self) -> int:
        """Designs that are done."""
        return self.designs.size

    @property
    def designs(self) -> NDArray[np.int64]:
        """(known,): the designs that are done, ascending, each once."""
        known = self._known.merged()
        return np.empty(0, np.int64) if known is None else known.designs

    @property
    def results(self) -> NDArray[Any]:
        """(known,): their results."""
        known = self._known.merged()
        return np.empty(0, self._record["result"]) if known is None else known.results

    def lookup(self, designs: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """What is known of some designs, of this run and of earlier ones.

        Args:
            designs: (n,).

        Returns:
            (n,): which of them are done; (n,): their results, zero where they are not.
        """
        results = np.zeros(designs.shape, self._record["result"])
        return self._known.fill(designs, results), results

    def append(self, designs: NDArray[np.int64], results: NDArray[Any]) -> None:
        """Add designs that are done, as one block: all of them will be there or none.

        Args:
            designs: (n,).
            results: (n,), of the dtype that the journal was opened with.

        Raises:
            OutputError: the disk is full; what was appended before is kept, and the file whole.
            ValueError: the exploration is finished, or the arrays do not fit each other.
        """
        if designs.ndim != 1 or designs.shape != results.shape:
            raise ValueError(f"designs {designs.shape} and results {results.shape}, expected (n,)")
        if not designs.size:
            return
        records = np.empty(designs.shape, self._record)
        records["design"], records["result"] = designs, results
        self._write(_RECORDS, records.tobytes())
        self._known.add(records["design"], records["result"])

    def finish(self, payload: bytes) -> None:
        """Say that every design is done, and what came of them.

        Args:
            payload: what the caller wants to have again instead of exploring.

        Raises:
            OutputError: the disk is full.
            ValueError: the exploration was finished before.
        """
        self._write(_FINISHED, payload)
        self._sync()
        self.finished = payload

    def _read(self, content: memoryview, start: int) -> int:
        """Take all whole blocks from `start` on; returns where they end."""
        records: list[memoryview] = []
        while self.finished is None and start + _HEAD.size <= len(content):
            magic, kind, crc, length = _HEAD.unpack_from(content, start)
            inside = content[start + _HEAD.size : start + _HEAD.size + length]
            if magic != _MAGIC or len(inside) != length or self._crc(kind, inside) != crc:
                break
            if kind == _FINISHED:
                self.finished = bytes(inside)
            elif kind == _RECORDS and length % self._record.itemsize == 0:
                records.append(inside)
            else:
                break
            start += _HEAD.size + length
        found = np.frombuffer(b"".join(records), self._record)
        self._known.add(found["design"], found["result"])
        return start

    def _crc(self, kind: int, inside: bytes | memoryview) -> int:
        return zlib.crc32(inside, zlib.crc32(struct.pack("<IQ", kind, len(inside)), self._seed))

    def _open(self) -> None:
        """Open for writing, behind the last whole block."""
        try:
            # Not buffered: what Python holds back would die with the process.
            flags = os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
            self._descriptor = os.open(self.path, flags)
            os.ftruncate(self._descriptor, self._end)
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
        except OSError as error:
            raise self._error(error) from error

    def _close(self, *, in_order: bool) -> None:
        try:
            if in_order and self._descriptor is not None:
                self._sync()
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _write(self, kind: int, inside: bytes) -> None:
        if self._descriptor is None or self.finished is not None:
            raise ValueError(f"{self.path}: finished or closed, nothing can be added")
        block = _HEAD.pack(_MAGIC, kind, self._crc(kind, inside), len(inside)) + inside
        try:
            left = memoryview(block)
            while left:
                left = left[os.write(self._descriptor, left) :]
        except BaseException as error:  # an interrupt between two parts too
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
                os.lseek(self._descriptor, self._end, os.SEEK_SET)
            if isinstance(error, OSError):
                raise self._error(error) from error
            raise
        self._end += len(block)
        if time.monotonic() - self._synced >= _SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        assert self._descriptor is not None  # noqa: S101 - both callers have looked
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._error(error) from error
        self._synced = time.monotonic()

    def _error(self, error: OSError) -> OutputError:
        reason = error.strerror or type(error).__name__
        return OutputError(
            f"{self.path}: cannot be written ({reason}); {len(self):,} designs done are kept: "
            f"free space and rights in {self.path.parent}, then go on with --resume"
        )


@contextlib.contextmanager
def open_journal(
    path: Path,
    identity: Identity,
    dtype: np.dtype[Any],
    existing: Existing = Existing.REFUSE,
) -> Iterator[Journal]:
    """Open a journal or start one; no other process can, as long as the block runs.

    A finished one of the same identity is opened whatever `existing` says (but RESTART) and never
    written: its `finished` is not None.

    Args:
        path: the file; its folder is made.
        identity: what is explored.
        dtype: of a result, of fixed size.
        existing: what to do with an unfinished one.

    Raises:
        InputFileError: what is there is no journal, or damaged from the start.
        OutputError: it is of another exploration, or unfinished and not to be resumed; another
            process has it open; it cannot be written.
        ValueError: results of that dtype cannot be stored.
    """
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"results of dtype {dtype} have no fixed size")
    dtype = dtype.newbyteorder("<")
    record = np.dtype([("design", "<i8"), ("result", dtype)])
    if path.exists() and not path.is_file():
        raise InputFileError(
            f"{path}: not a file, but the journal goes there; choose another folder with -o"
        )
    with alone(path):
        expected = FirstLine.of(identity, dtype)
        content = b""
        if path.exists() and existing is not Existing.RESTART:
            content = read_bytes(path)
            check_same(path, first_line(path, content), expected)
        is_new = not content
        if is_new:
            content = expected.encoded() + b"\n"
            write_bytes(path, content)
        journal = Journal(path, content, content.index(b"\n") + 1, record)
        if journal.finished is None:
            if existing is Existing.REFUSE and not is_new:
                raise OutputError(
                    f"{path}: an unfinished exploration of this very space, {len(journal):,} "
                    "designs done; go on with --resume, or start anew with --restart"
                )
            journal._open()  # noqa: SLF001 - the other half of this module
        in_order = False
        try:
            yield journal
            in_order = True
        finally:
            journal._close(in_order=in_order)  # noqa: SLF001
