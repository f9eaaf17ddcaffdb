"""Files are written whole or not at all.

Every output goes to a temporary neighbour first and takes its name by one atomic rename, so a full
disk, a kill or Ctrl-C leaves the earlier file as it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from arraysmith.errors import InputFileError, OutputError

try:
    import fcntl
except ImportError:  # a system without advisory locks: the last writer wins
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def is_safe_name(name: str) -> bool:
    """Whether a name from a file may become a file name: no separators, no leading dot."""
    return _SAFE_NAME.fullmatch(name) is not None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it is gone.

    Raises:
        OutputError: the folder or the file cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


@contextlib.contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; on success it replaces `folder`, on failure it is gone.

    Raises:
        OutputError: the folder cannot be written.
    """
    new: Path | None = None
    old: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new.", dir=folder.parent))
        yield new
        new.chmod(0o777 & ~_umask())
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
            folder.replace(old)
            try:
                new.replace(folder)
            except OSError:
                old.replace(folder)
                raise
        else:
            new.replace(folder)
    except OSError as error:
        raise _output_error(folder, error) from error
    finally:
        for left in (new, old):
            if left is not None:
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file while a block runs, so that two processes take turns.

    Raises:
        OutputError: the lock file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise _output_error(path, error) from error


def check_writable(folder: Path) -> None:
    """Make sure that a folder can be written, before long work depends on it.

    Raises:
        OutputError: it cannot.
    """
    with writing(folder / ".writable"):
        pass
    (folder / ".writable").unlink(missing_ok=True)


def json_bytes(facts: object) -> bytes:
    """Facts as JSON that people can read and that is the same whenever the facts are."""
    encoded = msgspec.json.encode(facts, order="deterministic")
    return msgspec.json.format(encoded, indent=2) + b"\n"


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        InputFileError: it is not there or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputFileError(f"{path}: cannot be read ({reason})") from error


def read_text(path: Path) -> str:
    """Read a UTF-8 text file.

    Raises:
        InputFileError: it is not there, cannot be read or is not text.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputFileError(
            f"{path}: not a text file (byte {error.start} is not UTF-8)"
        ) from error


def sha256(content: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _umask() -> int:
    # The process's mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or type(error).__name__
    return OutputError(
        f"{path}: cannot be written ({reason}); choose another folder, "
        "or free space and rights there"
    )
