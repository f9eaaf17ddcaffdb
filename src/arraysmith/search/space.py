"""The design space: array heights, array widths, dataflows, and a limit on PEs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from arraysmith.errors import DesignSpaceError
from arraysmith.hardware import MAX_SIDE, Dataflow

MAX_DESIGNS = 20_000_000

_RANGE = re.compile(r"([0-9]{1,12})(?::([0-9]{1,12})(?::([0-9]{1,12}))?)?")


class Objective(StrEnum):
    """What is made best."""

    CYCLES = "cycles"
    PE_CYCLES = "pe-cycles"
    """Cycles × PEs: what the array costs in area and time."""
    UTILIZATION = "utilization"
    """MACs over PE-cycles, made largest: the same order as `PE_CYCLES`, for the MACs are given."""


def parse_axis(text: str, name: str) -> tuple[int, ...]:
    """`8`, `1:64`, `8:128:8` (both ends included) or a list of those with commas, ascending.

    Raises:
        DesignSpaceError: not of that form, empty, or outside 1…65536.
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
        if first < 1 or last > MAX_SIDE:
            raise DesignSpaceError(f"{name} {part.strip()!r}: sizes go from 1 to {MAX_SIDE}")
        values.update(range(first, last + 1, step))
    return tuple(sorted(values))


def parse_dataflows(text: str) -> tuple[Dataflow, ...]:
    """`os,ws,is` or some of them, in that fixed order.

    Raises:
        DesignSpaceError: an unknown one.
    """
    wanted = {part.strip().lower() for part in text.split(",")}
    unknown = sorted(wanted - set(Dataflow))
    if unknown:
        raise DesignSpaceError(f"dataflow {unknown[0]!r} is unknown; give os, ws, is or a list")
    return tuple(dataflow for dataflow in Dataflow if dataflow in wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignSpace:
    """All rows × cols × dataflows with at most `max_pes` PEs."""

    rows: tuple[int, ...]
    cols: tuple[int, ...]
    dataflows: tuple[Dataflow, ...]
    max_pes: int | None = None

    def __post_init__(self) -> None:
        """There is at least one design, and not more than memory holds."""
        for name, axis in (("rows", self.rows), ("cols", self.cols), ("dataflow", self.dataflows)):
            if not axis:
                raise DesignSpaceError(f"the range of {name} is empty; give at least one value")
            if len(set(axis)) < len(axis) or list(axis) != sorted(axis, key=_order):
                raise DesignSpaceError(f"the range of {name} is not ascending without repeats")
        if min(self.rows) < 1 or min(self.cols) < 1:
            raise DesignSpaceError("an array needs at least 1 row and 1 column")
        if self.size > MAX_DESIGNS:
            raise DesignSpaceError(
                f"{self.size:,} designs are more than {MAX_DESIGNS:,}; give ranges a step"
            )
        smallest = min(self.rows) * min(self.cols)
        if self.max_pes is not None and smallest > self.max_pes:
            raise DesignSpaceError(
                f"--max-pes {self.max_pes} excludes all designs: the smallest array, "
                f"{min(self.rows)}×{min(self.cols)}, has {smallest} PEs"
            )

    @property
    def size(self) -> int:
        """Designs, before the limit on PEs."""
        return len(self.dataflows) * len(self.rows) * len(self.cols)

    @property
    def pes(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """(rows, cols): PEs of every array."""
        return np.multiply.outer(np.array(self.rows, np.int64), np.array(self.cols, np.int64))

    @property
    def allowed(self) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """(rows, cols): which arrays keep the limit."""
        pes = self.pes
        return pes <= (pes.max() if self.max_pes is None else self.max_pes)

    @property
    def designs(self) -> int:
        """Designs that keep the limit."""
        return len(self.dataflows) * int(np.count_nonzero(self.allowed))


def _order(value: int | Dataflow) -> int:
    return list(Dataflow).index(value) if isinstance(value, Dataflow) else value
