"""The space of designs: what may vary in an accelerator, what is wanted of it, what it must keep.

A design is one value of each axis. Its number, `id`, counts through the space with the last axis
fastest, as NumPy's `ravel_multi_index` does; so a search needs integers alone.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.errors import DesignSpaceError
from arraysmith.hardware import (
    MAX_SIDE,
    Accelerator,
    Dataflow,
    Microarchitecture,
    PhysicalAccelerator,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Array = tuple[Dataflow, ...] | tuple[Microarchitecture, ...]
"""What an array can do; of several, each layer takes the one that suits it best."""

MAX_DESIGNS = 2**62
"""Of a space that has numbers for its designs."""

_RANGE = re.compile(r"([0-9]{1,12})(?::([0-9]{1,12})(?::([0-9]{1,12}))?)?")
_MAX_KIB = 2**20


class Objective(StrEnum):
    """What is made best: utilization largest, all others smallest."""

    CYCLES = "cycles"
    ENERGY = "energy"
    """Of the whole network, mid estimate; under `physical` alone."""
    AREA = "area"
    """Of array and buffers, mid estimate."""
    EDP = "edp"
    """Energy times time."""
    UTILIZATION = "utilization"
    """MACs over PE-cycles."""
    PE_CYCLES = "pe-cycles"
    """Cycles × PEs: the same order as `UTILIZATION`, for the MACs are given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What a design must keep; None is no constraint."""

    max_pes: int | None = None
    max_area_mm2: float | None = None
    """Of array and buffers, mid estimate."""
    max_total_kib: int | None = None
    """Of the three buffers together."""
    max_power_w: float | None = None
    """Energy of the network over its time, mid estimate."""
    min_utilization: float | None = None
    """MACs over PE-cycles of the whole network, a fraction."""

    def __post_init__(self) -> None:
        """Each is a number that some design could keep."""
        for name in self.__slots__:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise DesignSpaceError(f"{name} is {value!r}; give a number")
            if not 0 < value < math.inf:
                raise DesignSpaceError(f"{name} is {value}; give a number above 0")
        if self.min_utilization is not None and self.min_utilization > 1:
            raise DesignSpaceError(
                f"min_utilization is {self.min_utilization}; it is a fraction, at most 1"
            )

    @property
    def given(self) -> dict[str, float]:
        """Those there are, by name."""
        found = {name: getattr(self, name) for name in CONSTRAINTS}
        return {name: value for name, value in found.items() if value is not None}


CONSTRAINTS = tuple(field.name for field in fields(Constraints))


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignSpace:
    """All combinations of the axes' values; of them, those that keep the constraints."""

    rows: tuple[int, ...]
    cols: tuple[int, ...]
    arrays: tuple[Array, ...] = tuple((each,) for each in Dataflow)
    """Dataflows for `scalesim`, microarchitectures for `physical`."""
    ifmap_kib: tuple[int, ...] = (64,)
    filter_kib: tuple[int, ...] = (128,)
    ofmap_kib: tuple[int, ...] = (64,)
    dram_bytes_per_cycle: tuple[float, ...] = (16,)
    """In SCALE-Sim's USER mode words a cycle of each of the three streams."""
    operand_bytes: tuple[int, ...] = (1,)
    psum_bytes: tuple[int, ...] = (4,)
    constraints: Constraints = Constraints()

    def __post_init__(self) -> None:
        """There is at least one design, each a possible one, and fewer than integers count."""
        for name in AXES:
            axis = getattr(self, name)
            if not axis:
                raise DesignSpaceError(f"the range of {name} is empty; give at least one value")
            if len(set(axis)) < len(axis):
                raise DesignSpaceError(f"the range of {name} has a value twice: {_listed(axis)}")
            if name == "arrays":
                _check_arrays(axis)
            elif name != "dram_bytes_per_cycle":
                _check_axis(name, axis)
        if math.prod(self.shape) >= MAX_DESIGNS:
            raise DesignSpaceError(
                f"{math.prod(self.shape):,} designs are more than can be numbered; give ranges a "
                "step"
            )
        for rate in self.dram_bytes_per_cycle:  # the accelerator knows what it takes
            PhysicalAccelerator(
                rows=1,
                cols=1,
                microarchitectures=(Microarchitecture.OS_BUS,),
                dram_bytes_per_cycle=rate,
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each axis of `AXES` has."""
        return tuple(len(getattr(self, name)) for name in AXES)

    @property
    def size(self) -> int:
        """Designs, before the constraints."""
        return math.prod(self.shape)

    def along(self, axis: str) -> NDArray[np.int64]:
        """The values of an axis of whole numbers in its own dimension; broadcasts over `shape`."""
        place = AXES.index(axis)
        shape = [1] * len(AXES)
        shape[place] = -1
        return np.array(getattr(self, axis), np.int64).reshape(shape)

    def places(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, axes): for each design the place of its value on every axis."""
        return np.stack([self.place(ids, axis) for axis in range(len(AXES))], axis=1)

    def place(self, ids: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
        """(n,): for each design the place of its value on the axis of that number in `AXES`."""
        length, below = self.shape[axis], math.prod(self.shape[axis + 1 :])
        if length == 1:
            return np.zeros(len(ids), np.int64)
        found = ids if below == 1 else ids // below
        return found if axis == 0 else found % length

    def columns(self, ids: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """(n,) of each axis: the values of designs; arrays as text, + joins what one can do."""
        found = {}
        for number, name in enumerate(AXES):
            axis = getattr(self, name)
            texts = np.array([array_name(each) for each in axis] if name == "arrays" else axis)
            found[name] = texts[self.place(ids, number)]
        return found

    def array(self, number: int) -> Array:
        """What the array of a design can do."""
        return self.arrays[int(self.places(np.array([number]))[0, 0])]

    def accelerator(self, number: int, base: PhysicalAccelerator) -> PhysicalAccelerator:
        """A design as the model `physical` takes it; ports and output words are those of `base`."""
        value = self._values(number)
        return replace(
            base,
            rows=value["rows"],
            cols=value["cols"],
            microarchitectures=value["arrays"],
            ifmap_buffer_kib=value["ifmap_kib"],
            filter_buffer_kib=value["filter_kib"],
            ofmap_buffer_kib=value["ofmap_kib"],
            dram_bytes_per_cycle=value["dram_bytes_per_cycle"],
            operand_bytes=value["operand_bytes"],
            psum_bytes=value["psum_bytes"],
        )

    def scalesim(self, number: int) -> tuple[Accelerator, ...]:
        """A design as SCALE-Sim takes it, once for each dataflow it can do."""
        value = self._values(number)
        return tuple(
            Accelerator(
                rows=value["rows"],
                cols=value["cols"],
                dataflow=Dataflow(dataflow),
                ifmap_buffer_kib=value["ifmap_kib"],
                filter_buffer_kib=value["filter_kib"],
                ofmap_buffer_kib=value["ofmap_kib"],
            )
            for dataflow in value["arrays"]
        )

    def _values(self, number: int) -> dict[str, Any]:
        """A design by axis."""
        places = self.places(np.array([number]))[0]
        return {name: getattr(self, name)[i] for name, i in zip(AXES, places, strict=True)}


AXES = (
    "arrays",
    "rows",
    "cols",
    "ifmap_kib",
    "filter_kib",
    "ofmap_kib",
    "dram_bytes_per_cycle",
    "operand_bytes",
    "psum_bytes",
)
"""In the order in which designs are numbered."""


def array_name(array: Sequence[str]) -> str:
    """`os`, or `os+ws` where an array can do both."""
    return "+".join(array)


def parse_axis(text: str, name: str, largest: int = MAX_SIDE) -> tuple[int, ...]:
    """`8`, `1:64`, `8:128:8` (both ends included) or a list of those with commas, ascending.

    Raises:
        DesignSpaceError: not of that form, empty, or outside 1…largest.
    """
    values: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise DesignSpaceError(
                f"{name} {part[:40]!r} is no range; give A:B, A:B:STEP or a list like 8,16,32"
            )
        first = int(match[1])
        last = int(match[2] or first)
        step = int(match[3] or 1)
        if step < 1 or first > last:
            raise DesignSpaceError(
                f"{name} {part.strip()!r} is an empty range; give A:B[:STEP], A ≤ B, STEP ≥ 1"
            )
        if first < 1 or last > largest:
            raise DesignSpaceError(f"{name} {part.strip()!r}: sizes go from 1 to {largest}")
        values.update(range(first, last + 1, step))
    return tuple(sorted(values))


def parse_kib(text: str, name: str) -> tuple[int, ...]:
    """An axis of KiB."""
    return parse_axis(text, name, _MAX_KIB)


def parse_rates(text: str, name: str) -> tuple[float, ...]:
    """`16` or a list like `8,12.8,16`, ascending.

    Raises:
        DesignSpaceError: not numbers.
    """
    try:
        rates = {float(part) for part in text.split(",")}
    except ValueError:
        raise DesignSpaceError(f"{name} {text[:40]!r} is no list of numbers, like 8,16") from None
    if any(math.isnan(rate) for rate in rates):
        raise DesignSpaceError(f"{name} {text[:40]!r} is no list of numbers, like 8,16")
    return tuple(int(rate) if rate.is_integer() else rate for rate in sorted(rates))


def split_arrays(text: str) -> list[list[str]]:
    """`a,b+c`: the names of each array."""
    return [[name.strip() for name in part.split("+")] for part in text.split(",")]


def parse_dataflows(text: str) -> tuple[tuple[Dataflow, ...], ...]:
    """`os,ws,is` or some of them; + joins what one array can do, as in `os+ws`.

    In that fixed order, arrays of one dataflow first.

    Raises:
        DesignSpaceError: an unknown one.
    """
    wanted = set()
    for array in split_arrays(text):
        names = {name.lower() for name in array}
        unknown = sorted(names - set(Dataflow))
        if unknown:
            raise DesignSpaceError(f"dataflow {unknown[0]!r} is unknown; give os, ws, is or a list")
        wanted.add(tuple(each for each in Dataflow if each in names))
    order = list(Dataflow)
    return tuple(sorted(wanted, key=lambda array: (len(array), [order.index(x) for x in array])))


def parse_arrays(text: str) -> tuple[Array, ...]:
    """Dataflows as `parse_dataflows` takes them, or microarchitectures in the order given.

    Raises:
        DesignSpaceError: an unknown one, or both kinds together.
    """
    given = split_arrays(text)
    if not any(name.lower() in set(Microarchitecture) for names in given for name in names):
        return parse_dataflows(text)
    arrays = []
    for names in given:
        array = []
        for name in names:
            try:
                array.append(Microarchitecture(name.lower()))
            except ValueError:
                raise DesignSpaceError(
                    f"microarchitecture {name!r} is unknown; give one of "
                    + ", ".join(Microarchitecture)
                ) from None
        arrays.append(tuple(array))
    return tuple(dict.fromkeys(arrays))


def parse_values(axis: str, text: str, called: str) -> tuple[Any, ...]:
    """The values of any axis of `AXES`, as `DesignSpace` takes them.

    Args:
        axis: its name.
        text: as the parser of that axis takes it.
        called: what a message calls the axis.

    Raises:
        DesignSpaceError: not of the axis's form.
    """
    if axis == "arrays":
        return parse_arrays(text)
    if axis == "dram_bytes_per_cycle":
        return parse_rates(text, called)
    return (parse_axis if axis in {"rows", "cols"} else parse_kib)(text, called)


def _check_arrays(arrays: tuple[Array, ...]) -> None:
    kinds = set()
    given: tuple[tuple[object, ...], ...] = arrays  # checked, not trusted
    for array in given:
        known = all(isinstance(each, Dataflow | Microarchitecture) for each in array)
        if not array or not known:
            raise DesignSpaceError(
                f"an array that can do {array!r}; give Dataflows or Microarchitectures"
            )
        if len(set(array)) < len(array):
            raise DesignSpaceError(
                f"an array that can do {'+'.join(map(str, array))}: one of them twice"
            )
        kinds |= {type(each) for each in array}
    if len(kinds) > 1:
        raise DesignSpaceError(
            "dataflows and microarchitectures in one space; dataflows are scalesim's, "
            "microarchitectures are physical's"
        )


def _check_axis(name: str, axis: tuple[Any, ...]) -> None:
    largest = {"rows": MAX_SIDE, "cols": MAX_SIDE}.get(name, _MAX_KIB)
    for value in axis:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
            raise DesignSpaceError(
                f"the range of {name} has {value!r}; give whole numbers from 1 to {largest:,}"
            )
    if list(axis) != sorted(axis):
        raise DesignSpaceError(f"the range of {name} is not ascending: {_listed(axis)}")


def _listed(axis: Sequence[object]) -> str:
    shown = ", ".join(str(each) for each in axis[:6])
    return shown + (", …" if len(axis) > 6 else "")
