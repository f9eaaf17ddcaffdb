"""SCALE-Sim topology files: one layer a row, the first line a header.

    conv:  name, ifmap rows, ifmap cols, filter rows, filter cols, channels, filters, stride,
    gemm:  name, M, N, K,

The trailing comma that SCALE-Sim needs is optional here. SCALE-Sim knows no padding, so a written
ifmap is the padded one. A conv row with `DP` in its name is a depthwise layer: one layer of one
channel for each of its channels, as SCALE-Sim does it, or as one grouped layer.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from arraysmith.errors import InputFileError, InvalidWorkloadError
from arraysmith.files import read_text
from arraysmith.workload import Conv2d, Gemm, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from arraysmith.workload import Layer

Kind = Literal["conv", "gemm"]

_FIELDS: dict[Kind, tuple[str, ...]] = {
    "conv": (
        "ifmap_rows",
        "ifmap_cols",
        "filter_rows",
        "filter_cols",
        "in_channels",
        "out_channels",
        "stride",
    ),
    "gemm": ("M", "N", "K"),
}
_HEADERS: dict[Kind, str] = {
    "conv": (
        "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, "
        "Num Filter, Strides,"
    ),
    "gemm": "Layer, M, N, K,",
}
DEPTHWISE_MARK = "DP"
MAX_LAYERS = 100_000


def read_topology(path: Path, kind: Kind = "conv", *, grouped: bool = False) -> Workload:
    """Read a topology file of conv or gemm rows.

    Args:
        path: the file.
        kind: what its rows are.
        grouped: a depthwise row becomes one layer of as many groups as channels, instead of the
            layers of one channel each that SCALE-Sim makes of it.

    Raises:
        InputFileError: unreadable, a missing, surplus, non-numeric or impossible field; the
            message gives file, line, layer and value.
    """
    lines = read_text(path).splitlines()
    layers: list[Layer] = []
    try:
        for number, row in _rows(lines):
            layers.extend(_layers(path, number, row, kind, grouped=grouped))
    except csv.Error as error:
        raise InputFileError(f"{path}: not a CSV file ({error})") from error
    if not layers:
        raise InputFileError(f"{path}: no layers below the header line")
    return Workload(name=path.stem, layers=tuple(layers))


def topology_text(workload: Workload) -> str:
    """A workload as a SCALE-Sim conv topology; a Gemm becomes a 1×1 convolution of M×1 pixels.

    Raises:
        InvalidWorkloadError: a batch, or groups of several channels, which it cannot say.
    """
    rows = [_HEADERS["conv"]]
    for layer in workload.layers:
        name = _plain_name(layer.name)
        loops = layer.loops
        alike = loops.groups == 1 or (isinstance(layer, Conv2d) and loops.in_channels == 1)
        if loops.images > 1 or not alike:
            raise InvalidWorkloadError(
                f"layer {layer.name!r}: a SCALE-Sim topology knows no batch, and of groups only "
                "those of one channel"
            )
        if isinstance(layer, Gemm):
            layer = Conv2d(  # noqa: PLW2901
                name=layer.name,
                ifmap_rows=layer.M,
                ifmap_cols=1,
                filter_rows=1,
                filter_cols=1,
                in_channels=layer.K,
                out_channels=layer.N,
            )
        layer = replace(  # noqa: PLW2901
            layer, ifmap_rows=layer.padded_rows, ifmap_cols=layer.padded_cols, padding=0
        )
        if layer.groups > 1:
            name += f"_{DEPTHWISE_MARK}"
            layer = replace(layer, out_channels=layer.out_channels // layer.groups, groups=1)  # noqa: PLW2901
        values = (getattr(layer, field) for field in _FIELDS["conv"])
        rows.append(", ".join([name, *map(str, values)]) + ",")
    return "\n".join(rows) + "\n"


def _plain_name(name: str) -> str:
    """A name that reads back as one dense layer: no separators, no mark of a depthwise one."""
    plain = "_".join(name.splitlines()).replace(",", "_").replace('"', "_")
    return plain.replace(DEPTHWISE_MARK, DEPTHWISE_MARK.lower())


def _rows(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    for number, row in enumerate(csv.reader(lines[1:]), 2):
        cells = [cell.strip() for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield number, cells


def _layers(path: Path, number: int, row: list[str], kind: Kind, *, grouped: bool) -> list[Layer]:
    name, *cells = row
    where = f"{path}, line {number}, layer {name!r}"
    names = _FIELDS[kind]
    if len(cells) == len(names) + 1 and ":" in cells[-1]:
        sparsity = cells.pop()
        if sparsity != "1:1":
            raise InputFileError(
                f"{where}: sparsity {sparsity!r} is not supported; leave the column out"
            )
    if len(cells) != len(names):
        other: Kind = "gemm" if kind == "conv" else "conv"
        hint = f"; is it a {other} file? (-i {other})" if len(cells) == len(_FIELDS[other]) else ""
        raise InputFileError(
            f"{where}: {len(cells)} numbers after the name, a {kind} row has {len(names)} "
            f"({', '.join(names)}){hint}"
        )
    values = _numbers(where, names, cells)
    try:
        if kind == "gemm":
            return [Gemm(name=name, **values)]
        layer = Conv2d(name=name, **values)
    except InvalidWorkloadError as error:
        raise InputFileError(f"{path}, line {number}: {error}") from error
    if DEPTHWISE_MARK not in name:
        return [layer]
    if grouped:
        channels = layer.in_channels
        return [replace(layer, out_channels=channels * layer.out_channels, groups=channels)]
    if layer.in_channels > MAX_LAYERS:
        raise InputFileError(
            f"{where}: a depthwise layer of {layer.in_channels:,} channels becomes more than "
            f"{MAX_LAYERS:,} layers"
        )
    return [
        replace(layer, name=f"{name}_channel{channel}", in_channels=1)
        for channel in range(layer.in_channels)
    ]


def _numbers(where: str, names: tuple[str, ...], cells: list[str]) -> dict[str, int]:
    values = {}
    for field, cell in zip(names, cells, strict=True):
        try:
            values[field] = int(cell)
        except ValueError as error:
            raise InputFileError(f"{where}: {field} is {cell!r}, not a whole number") from error
    return values
