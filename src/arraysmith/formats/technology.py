"""Technology files (TOML): what a multiplication, a clocked flip-flop, a read, a gate costs.

Each constant is given three times, in the sets `low`, `mid` and `high`, with where it comes from:

    name = "generic 45 nm"
    node_nm = 45

    [mid]
    multiply_pj = { value = 0.2, source = "Horowitz, ISSCC 2014" }
    flip_flop_pj = { value = 0.009, source = "Aladdin", node_nm = 40 }

and so on for each field of `ConstantSet`, under `[low]` and `[high]` alike. `node_nm` of a constant
is written where it was measured in another process than the file's; `Technology.other_nodes` says
so to the reports. A key nobody knows is refused with the nearest known one. The shipped file is
`DEFAULT`; docs/technology.md explains what is in it.
"""

from __future__ import annotations

import difflib
import itertools
import math
import tomllib
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from arraysmith.errors import InputFileError, InvalidHardwareError
from arraysmith.files import read_text
from arraysmith.physical_performance import SETS

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT = Path(str(resources.files("arraysmith.formats").joinpath("generic_45nm.toml")))
"""The technology that is shipped."""
_ENTRIES = ("value", "source", "node_nm")
_LIMITS = (0.0, 1e6)
_OWN_LIMITS = {
    "sram_read_exponent": (0.0, 1.0),
    "sram_write_exponent": (0.0, 1.0),
    "sram_8bit_share_at_8_kib": (0.125, 1.0),
    "sram_8bit_share_at_256_kib": (0.125, 1.0),
    "logic_utilization": (0.01, 1.0),
}
# An exponent alone says nothing of which energy is larger.
_UNORDERED = {"sram_read_exponent", "sram_write_exponent"}
# The more of the area is cells, the smaller it is.
_FALLING = {"logic_utilization"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A figure of a technology and where it comes from."""

    value: float
    """In the unit that the constant's name ends in."""
    source: str
    node_nm: float
    """Of the process it was measured in."""

    def __post_init__(self) -> None:
        """A number that can be, with a source."""
        if not _is_number(self.value):
            raise InvalidHardwareError(f"value is {self.value!r}; give a finite number")
        source: object = self.source  # checked, not trusted: it may come from a file
        if not isinstance(source, str) or not source.strip():
            raise InvalidHardwareError(f"source is {source!r}; say where the value comes from")
        if not _is_number(self.node_nm) or not 0 < self.node_nm <= _LIMITS[1]:
            raise InvalidHardwareError(f"node_nm is {self.node_nm!r}; give nanometres, as 45")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantSet:
    """All constants of a technology, as estimated low, in the middle or high."""

    multiply_pj: Constant
    """8 × 8 bit; it grows with the square of the width."""
    add_pj: Constant
    """32 bit; it grows with the width."""
    flip_flop_pj: Constant
    """Per clock."""
    sram_read_pj: Constant
    """64 bit from 1 KiB; from a buffer it is this times KiB to the power of the next."""
    sram_read_exponent: Constant
    sram_write_pj: Constant
    sram_write_exponent: Constant
    sram_8bit_share_at_8_kib: Constant
    """What an 8-bit access costs of a 64-bit one."""
    sram_8bit_share_at_256_kib: Constant
    dram_pj_per_bit: Constant
    pe_nand2_per_square_bit: Constant
    """NAND2 equivalents of a PE for each squared bit of an operand: the multiplier."""
    pe_nand2_per_operand_bit: Constant
    pe_nand2_per_psum_bit_ws: Constant
    pe_nand2_per_psum_bit_os: Constant
    nand2_um2: Constant
    logic_utilization: Constant
    """The share of the placed area that is cells."""
    sram_mm2_per_kib: Constant

    def __post_init__(self) -> None:
        """Each within its limits."""
        for name in CONSTANTS:
            value = getattr(self, name).value
            smallest, largest = _OWN_LIMITS.get(name, _LIMITS)
            if not smallest <= value <= largest:
                raise InvalidHardwareError(
                    f"{name}: value is {value!r}; give a number from {smallest:g} to {largest:g}"
                )


CONSTANTS = tuple(field.name for field in fields(ConstantSet))


@dataclass(frozen=True, slots=True, kw_only=True)
class Technology:
    """A process and its memories, three times estimated."""

    name: str
    node_nm: float
    low: ConstantSet
    mid: ConstantSet
    high: ConstantSet

    def __post_init__(self) -> None:
        """A low estimate is not above a high one."""
        for name in CONSTANTS:
            if name in _UNORDERED:
                continue
            order = SETS[::-1] if name in _FALLING else SETS
            for below, above in itertools.pairwise(order):
                small, large = (getattr(self.sets[each], name).value for each in (below, above))
                if small > large:
                    raise InvalidHardwareError(
                        f"[{above}] {name}: value is {large!r}, less than the {small!r} of "
                        f"[{below}]; give at least that"
                    )

    @property
    def sets(self) -> dict[str, ConstantSet]:
        """By name: low, mid, high."""
        return {name: getattr(self, name) for name in SETS}

    @property
    def other_nodes(self) -> tuple[str, ...]:
        """Constants measured in another process, as "flip_flop_pj: 40 nm"."""
        found = {
            f"{name}: {constant.node_nm:g} nm": None
            for name in CONSTANTS
            for constant in (getattr(each, name) for each in self.sets.values())
            if constant.node_nm != self.node_nm
        }
        return tuple(found)


def read_technology(path: Path = DEFAULT) -> Technology:
    """Read a technology file, by default the one that is shipped.

    Raises:
        InputFileError: unreadable, not TOML, or a missing, unknown or impossible entry; the message
            names set, key and value.
    """
    try:
        document = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{path}: not a TOML file ({error})") from error
    try:
        return _technology(document)
    except InvalidHardwareError as error:
        raise InputFileError(f"{path}: {error}") from error


def _technology(document: dict[str, Any]) -> Technology:
    _check_names("", document, ("name", "node_nm", *SETS))
    name, node_nm = document.get("name"), document.get("node_nm")
    if not isinstance(name, str) or not name.strip():
        raise InvalidHardwareError(f"name is {_shown(name)}; name the technology")
    if not _is_number(node_nm) or not 0 < node_nm <= _LIMITS[1]:
        raise InvalidHardwareError(f"node_nm is {_shown(node_nm)}; give nanometres, as 45")
    sets = {each: _constant_set(each, document.get(each), node_nm) for each in SETS}
    return Technology(name=name, node_nm=node_nm, **sets)


def _constant_set(name: str, table: object, node_nm: float) -> ConstantSet:
    if not isinstance(table, dict):
        raise InvalidHardwareError(
            f"[{name}] is {_shown(table)}; give a table of constants for each of {', '.join(SETS)}"
        )
    _check_names(f"[{name}] ", table, CONSTANTS)
    constants = {}
    for key in CONSTANTS:
        entry = table.get(key)
        if not isinstance(entry, dict):
            raise InvalidHardwareError(
                f'[{name}] {key} is {_shown(entry)}; give {key} = {{ value = ..., source = "..." }}'
            )
        _check_names(f"[{name}] {key}: ", entry, _ENTRIES)
        for each in _ENTRIES[:2]:
            if each not in entry:
                raise InvalidHardwareError(
                    f'[{name}] {key}: {each} is missing; give {{ value = ..., source = "..." }}'
                )
        try:
            constants[key] = Constant(**{"node_nm": node_nm, **entry})
        except InvalidHardwareError as error:
            raise InvalidHardwareError(f"[{name}] {key}: {error}") from error
    try:
        return ConstantSet(**constants)
    except InvalidHardwareError as error:
        raise InvalidHardwareError(f"[{name}] {error}") from error


def _check_names(where: str, table: Iterable[str], known: tuple[str, ...]) -> None:
    for name in table:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise InvalidHardwareError(f"{where}unknown entry {name!r}; {hint}")


def _is_number(value: object) -> TypeGuard[float]:
    """A finite number; True is none, and neither is an integer beyond all floats."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)
