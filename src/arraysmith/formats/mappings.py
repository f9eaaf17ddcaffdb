"""Mapping files (JSON): how each layer of a workload lies on an accelerator.

    {
      "format": "arraysmith-mappings-1",
      "workload": "lenet5",
      "layers": [
        {
          "name": "conv1",
          "microarchitecture": "ws-double-buffered",
          "order": "NMK",
          "tile": {"rows": 28, "cols": 28, "out_channels": 6, "in_channels": 1},
          "blocked": null,
          "tiles_per_block": 1
        }
      ]
    }

The layers are those of the workload, in its order. `blocked` and `tiles_per_block` may be left out
where nothing is blocked. What the fields mean is in `docs/physical.md`.
"""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import msgspec

from arraysmith.errors import InputFileError, InvalidMappingError
from arraysmith.files import read_text, write_bytes
from arraysmith.hardware import Microarchitecture
from arraysmith.mapping import ORDERS, Mapping, Tile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from arraysmith.workload import Workload

FORMAT = "arraysmith-mappings-1"
_TOP = ("format", "workload", "layers")
_LAYER = ("name", "microarchitecture", "order", "tile", "blocked", "tiles_per_block")
_OPTIONAL = {"blocked": None, "tiles_per_block": 1}
_TILE = tuple(field.name for field in fields(Tile))


def write_mappings(path: Path, workload: Workload, mappings: Sequence[Mapping]) -> None:
    """Write one mapping a layer, whole or not at all.

    Raises:
        InvalidMappingError: there is not one for each layer.
        OutputError: the file cannot be written.
    """
    if len(mappings) != len(workload.layers):
        raise InvalidMappingError(
            f"{len(mappings)} mappings for the {len(workload.layers)} layers of "
            f"{workload.name!r}; give one for each"
        )
    layers = [
        {"name": layer.name, **{key: getattr(mapping, key) for key in _LAYER[1:]}}
        for layer, mapping in zip(workload.layers, mappings, strict=True)
    ]
    # In the order in which people read it, which is not that of the alphabet.
    content = {"format": FORMAT, "workload": workload.name, "layers": layers}
    write_bytes(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")


def read_mappings(path: Path, workload: Workload) -> tuple[Mapping, ...]:
    """Read the mappings of a workload.

    Raises:
        InputFileError: unreadable, not JSON, a missing, unknown or impossible entry, or other
            layers; the message names file, layer, key and value.
        InvalidMappingError: a mapping that does not fit its layer.
    """
    layers = _layers(path, read_text(path))
    if len(layers) != len(workload.layers):
        raise InputFileError(
            f"{path}: {len(layers)} layers where {workload.name!r} has {len(workload.layers)}; "
            "give one mapping for each, in its order"
        )
    mappings = []
    for number, (entry, layer) in enumerate(zip(layers, workload.layers, strict=True), 1):
        where = f"{path}, layer {number} ({layer.name!r})"
        mapping = _mapping(where, entry)
        if entry["name"] != layer.name:
            raise InputFileError(
                f"{where}: name is {entry['name']!r}; give the layers of {workload.name!r} in its "
                "order"
            )
        try:
            mapping.check_fits(layer.loops, layer.name)
        except InvalidMappingError as error:
            raise InvalidMappingError(f"{path}: {error}") from error
        mappings.append(mapping)
    return tuple(mappings)


def _layers(path: Path, text: str) -> list[Any]:
    try:
        content = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InputFileError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise InputFileError(
            f"{path}: format is {_shown(found)}, needs {FORMAT!r}; `arraysmith map -o RUN` writes "
            "such a file"
        )
    _check_names(str(path), content, _TOP)
    layers = content.get("layers")
    if not isinstance(layers, list):
        raise InputFileError(f"{path}: layers is {_shown(layers)}; give a list of mappings")
    return layers


def _mapping(where: str, entry: object) -> Mapping:
    if not isinstance(entry, dict):
        raise InputFileError(f"{where}: {_shown(entry)} is no mapping; give {', '.join(_LAYER)}")
    _check_names(where, entry, _LAYER)
    given = {**_OPTIONAL, **entry}
    for key in _LAYER:
        if key not in given:
            raise InputFileError(f"{where}: {key} is missing; give {', '.join(_LAYER)}")
    for key, known in (
        ("microarchitecture", tuple(Microarchitecture)),
        ("order", ORDERS),
        ("blocked", (None, "M", "N", "K")),
    ):
        if given[key] not in known:
            listed = ", ".join("null" if each is None else each for each in known)
            raise InputFileError(f"{where}: {key} is {given[key]!r}; give one of {listed}")
    try:
        return Mapping(
            microarchitecture=Microarchitecture(given["microarchitecture"]),
            order=given["order"],
            tile=_tile(where, given["tile"]),
            blocked=given["blocked"],
            tiles_per_block=_whole_number(where, "tiles_per_block", given["tiles_per_block"]),
        )
    except InvalidMappingError as error:
        raise InputFileError(f"{where}: {error}") from error


def _tile(where: str, entry: object) -> Tile:
    if not isinstance(entry, dict):
        raise InputFileError(f"{where}: tile is {_shown(entry)}; give {', '.join(_TILE)}")
    _check_names(f"{where}: tile", entry, _TILE)
    return Tile(**{key: _whole_number(where, f"tile {key}", entry.get(key)) for key in _TILE})


def _whole_number(where: str, key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputFileError(
            f"{where}: {key} is {_shown(value)}; give a whole number of at least 1"
        )
    return value


def _check_names(where: str, entry: dict[str, object], known: tuple[str, ...]) -> None:
    for name in entry:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise InputFileError(f"{where}: unknown key {name!r}; {hint}")


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
