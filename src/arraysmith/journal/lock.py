"""One exploration at a time in a folder: who comes second is told at once, and by whom.

The lock is a file of its own: starting anew replaces the journal, which a lock on it would not
survive. The lock file is left behind, for removing it could pull it from under another process.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from arraysmith.errors import OutputError

try:
    import fcntl
except ImportError:  # a system without advisory locks: the last writer wins
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NO_LOCKS_HERE = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


@contextlib.contextmanager
def alone(journal: Path) -> Iterator[None]:
    """Hold the folder's lock, or say at once who has it."""
    path = journal.with_name(f".{journal.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(
            f"{path}: cannot be written ({reason}); choose another folder with -o"
        ) from error
    with file:
        if fcntl is not None:
            _take(file.fileno(), journal)
        with contextlib.suppress(OSError):  # on a full disk the lock holds without the number
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


def _take(lock: int, journal: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.lseek(lock, 0, os.SEEK_SET)
        number = os.read(lock, 20).decode(errors="replace")
        who = f"another process (pid {number})" if number.isdecimal() else "another process"
        raise OutputError(
            f"{journal}: {who} is exploring in this folder; wait for it or choose another "
            "folder with -o"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:  # some file systems of clusters have none
            raise OutputError(
                f"{journal}: cannot be locked ({error.strerror}); choose another folder with -o"
            ) from error
