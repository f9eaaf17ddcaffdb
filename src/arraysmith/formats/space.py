"""Space files (TOML): axes, constraints and what is wanted of a space, in one file.

    model = "physical"                   # or "scalesim", with mode = "calc" or "user"
    objectives = ["cycles", "area"]
    clock_mhz = 800

    [axes]
    rows = "8:64:8"                      # a range, or a list: [8, 16, 32]
    cols = [8, 16, 32]
    arrays = ["os-overlapped", "ws-double-buffered+is-double-buffered"]
    ifmap_kib = [32, 64]

    [constraints]
    max_pes = 1024
    min_utilization = 0.5

    [search]
    strategy = "genetic"
    seed = 1
    budget = 2000

A key nobody knows is refused with the nearest known one.
"""

from __future__ import annotations

import difflib
import tomllib
from typing import TYPE_CHECKING, Any

from arraysmith.errors import DesignSpaceError, InputFileError
from arraysmith.files import read_text
from arraysmith.space import AXES, CONSTRAINTS, parse_values

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_TOP = ("model", "mode", "objectives", "map_for", "clock_mhz", "axes", "constraints", "search")
_SEARCH = ("strategy", "seed", "budget", "patience")
_WHOLE = {"max_pes", "max_total_kib", "seed", "budget", "patience"}


def read_space(path: Path) -> dict[str, dict[str, Any]]:
    """What a space file says: `axes`, `constraints`, `search` and `wanted`, each by name.

    Axes come as `DesignSpace` takes them, in `arrays` as names of what each array can do.

    Raises:
        InputFileError: not there, no TOML, an unknown key, or a value that cannot be.
    """
    try:
        content = tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputFileError(f"{path}: no TOML ({error})") from error
    _check_keys(path, "", content, _TOP)
    for name in ("axes", "constraints", "search"):
        if not isinstance(content.get(name, {}), dict):
            raise InputFileError(f"{path}: {name} is {content[name]!r}; give a table, [{name}]")
    axes, constraints, search = (
        content.pop(name, {}) for name in ("axes", "constraints", "search")
    )
    _check_keys(path, "[axes] ", axes, AXES)
    _check_keys(path, "[constraints] ", constraints, CONSTRAINTS)
    _check_keys(path, "[search] ", search, _SEARCH)
    try:
        return {
            "axes": {name: _axis(name, value) for name, value in axes.items()},
            "constraints": {n: _number(n, value) for n, value in constraints.items()},
            "search": {
                n: _text(n, value) if n == "strategy" else _number(n, value)
                for n, value in search.items()
            },
            "wanted": {name: _wanted(name, value) for name, value in content.items()},
        }
    except DesignSpaceError as error:
        raise InputFileError(f"{path}: {error}") from error


def _axis(name: str, value: object) -> tuple[Any, ...]:
    if isinstance(value, list):
        if not value:
            raise DesignSpaceError(f"the range of {name} is empty; give at least one value")
        if any(isinstance(each, bool) or not isinstance(each, str | int | float) for each in value):
            raise DesignSpaceError(f"{name} is {value!r}; give a range like '8:64:8' or a list")
        value = ",".join(str(each) for each in value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DesignSpaceError(f"{name} is {value!r}; give a range like '8:64:8' or a list")
    return parse_values(name, str(value), name)


def _wanted(name: str, value: object) -> Any:  # noqa: ANN401
    if name == "clock_mhz":
        return _number(name, value)
    if name == "objectives":
        listed = value.split(",") if isinstance(value, str) else value
        if not isinstance(listed, list):
            raise DesignSpaceError(f"objectives is {value!r}; give a list, as ['cycles', 'area']")
        return tuple(_text("an objective", each).strip() for each in listed)
    return _text(name, value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise DesignSpaceError(f"{name} is {value!r}; give a text in quotes")
    return value


def _number(name: str, value: object) -> float:
    whole = name in _WHOLE
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise DesignSpaceError(f"{name} is {value!r}; give a {'whole ' if whole else ''}number")
    return value


def _check_keys(path: Path, where: str, found: dict[str, Any], known: Iterable[str]) -> None:
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise InputFileError(f"{path}: {where}{key} is unknown; {hint}")
