"""Numbers as text for hardware: decimals, two's-complement hex for `$readmemh`, C arrays.

Every format holds *all* elements in row-major order, one a line (C: a comma-separated list), so
that a file can be read without knowing how an array was printed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.errors import InputFileError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def decimal_text(values: NDArray[Any]) -> str:
    """One decimal a line: an integer, or a real in all its digits."""
    return "".join(f"{value!r}\n" for value in values.ravel().tolist())


def hex_text(values: NDArray[Any], bits: int) -> str:
    """One two's-complement integer a line, in as many hex digits as `bits` need."""
    if values.size and not -(1 << (bits - 1)) <= values.min() <= values.max() < 1 << bits:
        raise ValueError(f"{values.min()}…{values.max()} does not fit {bits} bits")
    digits, mask = -(-bits // 4), (1 << bits) - 1
    return "".join(f"{value & mask:0{digits}x}\n" for value in values.ravel().tolist())


def parse_decimals(path: Path, text: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Read `decimal_text` back as an array of `shape`.

    Raises:
        InputFileError: another number of lines, or a line that is no integer of 64 bits.
    """
    return _parsed(path, text, shape, np.int64)


def parse_reals(path: Path, text: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Read `decimal_text` of reals back as an array of `shape`.

    Raises:
        InputFileError: another number of lines, or a line that is no number.
    """
    return _parsed(path, text, shape, np.float64)


def _parsed(path: Path, text: str, shape: tuple[int, ...], dtype: type[Any]) -> NDArray[Any]:
    lines = text.splitlines()
    count = math.prod(shape)
    kind, number = ("integer", int) if dtype is np.int64 else ("number", float)
    if min(shape, default=1) < 1:
        raise InputFileError(f"{path}: a shape of {shape} cannot be; export it again")
    if len(lines) != count:
        raise InputFileError(
            f"{path}: {len(lines)} lines where {count} {kind}s are due (shape {shape}); "
            "export it again"
        )
    values = np.empty(count, dtype)
    try:
        values[:] = [number(line) for line in lines]
    except (ValueError, OverflowError):
        for line, cell in enumerate(lines):  # which one it was
            try:
                values[line] = number(cell)
            except (ValueError, OverflowError) as error:
                raise InputFileError(
                    f"{path}, line {line + 1}: {cell[:40]!r} is no {kind}"
                ) from error
    return values.reshape(shape)


def key_value_text(values: dict[str, NDArray[Any]]) -> str:
    """`key value` lines; a vector has `key[0]`, `key[1]`, …; floats in full precision."""
    lines = []
    for key, array in values.items():
        cells = array.tolist()
        if isinstance(cells, list):
            lines += [f"{key}[{index}] {cell!r}" for index, cell in enumerate(cells)]
        else:
            lines.append(f"{key} {cells!r}")
    return "\n".join(lines) + "\n"


def parse_key_values(path: Path, text: str) -> dict[str, float | list[float]]:
    """Read `key_value_text` back: numbers, and lists of numbers for vectors.

    Integers below 2^53 come back exactly.

    Raises:
        InputFileError: a line of another form, a repeated key or elements out of order.
    """
    found: dict[str, float | list[float]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}, line {number}"
        key, _, cell = line.partition(" ")
        try:
            value = float(cell)
        except ValueError as error:
            raise InputFileError(f"{where}: {line[:60]!r} is no `key value` line") from error
        name, bracket, index = key.partition("[")
        if not bracket:
            if name in found:
                raise InputFileError(f"{where}: {key!r} is there twice")
            found[name] = value
            continue
        elements = found.setdefault(name, [])
        if not isinstance(elements, list) or index != f"{len(elements)}]":
            raise InputFileError(f"{where}: {key!r} is out of order")
        elements.append(value)
    return found


def c_array(name: str, values: NDArray[Any], c_type: str) -> str:
    """`static const` array of all elements in row-major order."""
    cells = [repr(value) for value in values.ravel().tolist()]
    lines = (", ".join(cells[start : start + 16]) for start in range(0, len(cells), 16))
    body = ",\n    ".join(lines)
    return f"static const {c_type} {name}[{values.size}] = {{\n    {body}\n}};\n"
