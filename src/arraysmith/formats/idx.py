"""The IDX format of the MNIST files: magic, shape, then unsigned bytes.

A file starts with two zero bytes, a type code (8: unsigned byte) and the number of dimensions; then
each dimension as a big-endian 32-bit integer; then the data, row-major. Gzip is recognised by its
own magic. Source: the page that publishes MNIST (LeCun, Cortes, Burges), "file formats".
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import InputFileError
from arraysmith.files import read_bytes, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 8


def read_idx(path: Path, *, shape: tuple[int, ...], content_sha256: str) -> NDArray[np.uint8]:
    """Read an IDX file, plain or gzipped, as a uint8 array of `shape`.

    Args:
        path: the file.
        shape: what the file must hold, e.g. (60000, 28, 28).
        content_sha256: hexadecimal SHA-256 of the uncompressed file.

    Raises:
        InputFileError: unreadable, wrong magic, wrong shape, truncated, too long or altered.
    """
    content = decompress(path, read_bytes(path), at_most=idx_size(shape))
    return parse_idx(path, content, shape=shape, content_sha256=content_sha256)


def decompress(path: Path, content: bytes, *, at_most: int) -> bytes:
    """The bytes themselves, or the first `at_most` + 1 of what they unzip to if they are gzipped.

    Raises:
        InputFileError: the gzip stream is broken; `path` is named.
    """
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return file.read(at_most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputFileError(f"{path}: broken gzip file ({error}); fetch it again") from error


def idx_size(shape: tuple[int, ...]) -> int:
    """Bytes of an uncompressed file."""
    return 4 + 4 * len(shape) + math.prod(shape)


def parse_idx(
    path: Path, content: bytes, *, shape: tuple[int, ...], content_sha256: str
) -> NDArray[np.uint8]:
    """Check the bytes of an IDX file and view them as an array; see `read_idx`."""
    magic = bytes((0, 0, _UNSIGNED_BYTE, len(shape)))
    if content[:4] != magic:
        raise InputFileError(
            f"{path}: not the expected IDX file: magic is {content[:4].hex() or 'missing'}, "
            f"expected {magic.hex()} (unsigned bytes, {len(shape)} dimensions)"
        )
    start = 4 + 4 * len(shape)
    found = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if found != shape:
        raise InputFileError(f"{path}: holds an array of shape {found}, expected {shape}")
    expected = idx_size(shape)
    if len(content) != expected:
        raise InputFileError(
            f"{path}: {len(content)} bytes where {expected} are due; fetch it again"
        )
    digest = sha256(content)
    if digest != content_sha256:
        raise InputFileError(
            f"{path}: altered: SHA-256 is {digest}, expected {content_sha256}; fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
