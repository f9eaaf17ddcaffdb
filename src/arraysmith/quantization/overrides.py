"""Other choices for single layers, from a TOML file.

    [layer."conv1"]
    weight_bits = 4

    [layer."block?.*"]
    calibration = "percentile"
    percentile = 99.9

Sections hold in the order of the file, later ones last. What nobody knows is refused, because a
mistyped key would otherwise change nothing and say nothing.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.files import read_text
from arraysmith.quantization.scheme import Calibration, LayerOverride

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

KEYS = tuple(each.name for each in fields(LayerOverride) if each.name != "layer")


def read_overrides(path: Path) -> tuple[LayerOverride, ...]:
    """Read overrides, in the order of the file.

    Raises:
        InputFileError: unreadable, not TOML, or an unknown or impossible entry; the message names
            the section, the key and the value.
    """
    text = read_text(path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{path}: not a TOML file ({error})") from error
    for section in document:
        if section != "layer":
            raise InputFileError(
                f"{path}: unknown section [{section}]{_line(text, section)}; "
                'give [layer."NAME"] sections'
            )
    layers = document.get("layer", {})
    if not isinstance(layers, dict) or not layers:
        raise InputFileError(f'{path}: no layers; give [layer."NAME"] sections')
    try:
        return tuple(_override(text, name, table) for name, table in layers.items())
    except InvalidNetworkError as error:
        raise InputFileError(f"{path}: {error}") from error


def check_overrides(overrides: Sequence[LayerOverride], layers: Iterable[str]) -> None:
    """See that every override is about a layer.

    Raises:
        InvalidNetworkError: an override matches no layer; the message names near ones.
    """
    names = list(layers)
    for override in overrides:
        if not any(override.matches(name) for name in names):
            near = difflib.get_close_matches(override.layer, names, n=3) or names[:3]
            raise InvalidNetworkError(
                f"the override of {override.layer!r} matches no layer; "
                f"near ones: {', '.join(map(repr, near))}"
            )


def _override(text: str, name: str, table: object) -> LayerOverride:
    where = f'[layer."{name}"]'
    if not isinstance(table, dict):
        raise InvalidNetworkError(
            f"layer.{name} is {table!r}; give a section as {where}{_line(text, name)} "
            "(a name with dots stands in quotes)"
        )
    for key, value in table.items():
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(KEYS)}"
            if isinstance(value, dict):
                hint = f'a name with dots stands in quotes: [layer."{name}.{key}"]'
            raise InvalidNetworkError(
                f"{where} unknown entry {key!r}{_line(text, key, name)}; {hint}"
            )
    entries: dict[str, Any] = {}
    for key, value in table.items():
        try:
            entries[key] = _value(key, value)
            LayerOverride(layer=name, **{key: entries[key]})  # alone, so that the line is right
        except InvalidNetworkError as error:
            raise InvalidNetworkError(f"{where}{_line(text, key, name)} {error}") from error
    return LayerOverride(layer=name, **entries)


def _value(key: str, value: object) -> Any:  # noqa: ANN401 (of the field's type)
    """An entry of the type that its field has."""
    if key == "calibration":
        if value not in list(Calibration):
            raise InvalidNetworkError(f"calibration is {value!r}; choose {', '.join(Calibration)}")
        return Calibration(str(value))
    if key == "range":
        if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)):
            raise InvalidNetworkError(f"range is {value!r}; give two numbers as [-1.0, 1.0]")
        return (float(value[0]), float(value[1]))
    if key == "percentile":
        if not _is_number(value):
            raise InvalidNetworkError(f"percentile is {value!r}, not a number")
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidNetworkError(f"{key} is {value!r}, not a whole number")
    return value


def _is_number(value: object) -> bool:
    """No boolean, and no integer beyond all floats."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return isinstance(value, float) or abs(value) < 1 << 1000


def _line(text: str, word: str, section: str = "") -> str:
    """Where a word first stands, behind a section's name if one is given, as " (line 3)"."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if section and section in line), 0)
    pattern = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])")
    found = next((i for i in range(start, len(lines)) if pattern.search(lines[i])), None)
    return "" if found is None else f" (line {found + 1})"
