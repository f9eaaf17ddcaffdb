"""Arrays from .npy and .npz files that nobody has vouched for.

NumPy's format is parsed from bytes whose number is known, so that a header which promises more than
there is, or Python objects, never allocates or runs anything.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.errors import InputFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from arraysmith.networks.graph import Input

SUFFIXES = (".npy", ".npz")
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_arrays(
    path: Path, inputs: tuple[Input, ...], limit: int
) -> Iterator[tuple[Path, dict[str, NDArray[Any]]]]:
    """Arrays by input name from every file of `path`, file by file.

    Args:
        path: a file, or a folder as in `samples.read_samples`.
        inputs: of the network.
        limit: bytes that a file may have, unpacked.

    Raises:
        InputFileError: nothing there, unreadable, too large, or no array for an input.
    """
    path = Path(path)
    if not path.is_dir():
        yield path, _read_file(path, inputs, limit)
        return
    files = _files(path)
    if files:
        for file in files:
            yield file, _read_file(file, inputs, limit)
        return
    if len(inputs) == 1 and not (path / inputs[0].name).is_dir():
        raise InputFileError(f"{path}: no .npy or .npz files")
    for each in inputs:
        folder = path / each.name
        found = _files(folder) if folder.is_dir() else []
        if not found:
            raise InputFileError(
                f"{folder}: no .npy files for input {each.name!r}; for several inputs give .npz "
                "files, or a folder for each"
            )
        for file in found:
            yield file, _read_file(file, (each,), limit)


def size_refused(origin: str, size: int, limit: int) -> InputFileError:
    """The error for too much."""
    return InputFileError(
        f"{origin}: samples of {size:,} bytes, the most is {limit:,}; give fewer samples"
    )


def _files(folder: Path) -> list[Path]:
    """The sample files of a folder, in the order of their names."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )


def _read_file(path: Path, inputs: tuple[Input, ...], limit: int) -> dict[str, NDArray[Any]]:
    """Arrays by input name."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputFileError(f"{path}: give an .npy or .npz file, or a folder of them")
    try:
        size = path.stat().st_size
        if size > limit:
            raise size_refused(str(path), size, limit)
        content = path.read_bytes()
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    if path.suffix.lower() == ".npz":
        return _read_archive(path, content, inputs, limit)
    if len(inputs) > 1:
        names = ", ".join(repr(each.name) for each in inputs)
        raise InputFileError(f"{path}: one array for the inputs {names}; give an .npz of them")
    return {inputs[0].name: parse_array(str(path), content)}


def _read_archive(
    path: Path, content: bytes, inputs: tuple[Input, ...], limit: int
) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = _members(path, inputs, list(members))
            size = sum(members[member].file_size for member in wanted.values())
            if size > limit:
                raise size_refused(str(path), size, limit)
            return {
                name: parse_array(f"{path} ({member})", archive.read(members[member]))
                for name, member in wanted.items()
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise InputFileError(f"{path}: not an .npz file ({error})") from error


def _members(path: Path, inputs: tuple[Input, ...], members: list[str]) -> dict[str, str]:
    """Input to member: by name, or the only one for the only one."""
    if len(inputs) == len(members) == 1:
        return {inputs[0].name: members[0]}
    held = ", ".join(map(repr, members)) or "nothing"
    for each in inputs:
        if each.name not in members:
            raise InputFileError(f"{path}: no array {each.name!r} among {held}")
    names = [each.name for each in inputs]
    unknown = [member for member in members if member not in names]
    if unknown:
        raise InputFileError(
            f"{path}: array {unknown[0]!r} is no input of the network; "
            f"those are {', '.join(map(repr, names))}"
        )
    return {name: name for name in names}


def parse_array(origin: str, content: bytes) -> NDArray[Any]:
    """The array of an .npy file's bytes.

    Raises:
        InputFileError: not NumPy's format, Python objects, or cut off.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"version {version[0]}.{version[1]}")  # noqa: TRY301 (one handler)
        shape, fortran, dtype = _HEADERS[version](stream)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputFileError(f"{origin}: not an .npy file ({reason})") from error
    if dtype.hasobject:
        raise InputFileError(
            f"{origin}: holds pickled Python objects, which are not loaded; save numbers"
        )
    if not dtype.itemsize or min(shape, default=1) < 0:
        raise InputFileError(f"{origin}: an array of shape {shape} of {dtype}")
    size, there = prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if size > there:
        raise InputFileError(
            f"{origin}: cut off: {size:,} bytes of shape {shape} are promised, {there:,} are there"
        )
    words = np.frombuffer(content, dtype, prod(shape), stream.tell())
    return words.reshape(shape, order="F" if fortran else "C")
