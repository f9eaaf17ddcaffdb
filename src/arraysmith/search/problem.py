"""What is searched: designs as numbers in, objectives and constraints as arrays out.

Every objective is made small, and none falls when cycles or energy grow; so what a bound on cycles
and energy gives is a bound on each objective.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from arraysmith.errors import DesignSpaceError
from arraysmith.hardware import Dataflow, Microarchitecture
from arraysmith.simulation.physical.cost import pe_mm2
from arraysmith.space import Objective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from arraysmith.formats.technology import Technology
    from arraysmith.space import DesignSpace

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

Number = TypeVar("Number", np.int64, np.float64)
Kind = TypeVar("Kind", Dataflow, Microarchitecture)
EXACT = 2**53
"""Cycles and PE-cycles below it are whole in a float64."""
NO_LIMIT = np.iinfo(np.int64).max
_AT_ONCE = 4096
"""Designs that are held against an archive at a time."""
ENERGETIC = {Objective.ENERGY, Objective.EDP}
"""Objectives that an energy is needed for."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Figures:
    """What the model says of n designs."""

    total_cycles: Ints
    """-1 where a buffer holds no tile of a layer: no such design can be."""
    exact: NDArray[np.bool_]
    """False: the design takes more cycles than were asked about; `total_cycles` is how many it
    takes at least."""
    stall_cycles: Ints
    """-1, and for the next: the model was not asked."""
    dram_bytes: Ints
    energy_pj: Floats
    """(n, 3): low, mid, high; NaN where the model was not asked."""

    def take(self, places: NDArray[np.generic]) -> Figures:
        """Those of some designs."""
        return Figures(**{field.name: getattr(self, field.name)[places] for field in FIELDS})

    @staticmethod
    def of_cycles(total_cycles: Ints) -> Figures:
        """Nothing but cycles, exact; what is not known takes no memory."""
        n = len(total_cycles)
        unknown = np.broadcast_to(np.int64(-1), n)
        return Figures(
            total_cycles=total_cycles,
            exact=np.broadcast_to(np.True_, n),
            stall_cycles=unknown,
            dram_bytes=unknown,
            energy_pj=np.broadcast_to(np.nan, (n, 3)),
        )

    def records(self) -> NDArray[np.void]:
        """(n,) of `RECORD`, to be kept or sent."""
        found = np.zeros(len(self.total_cycles), RECORD)
        for field in FIELDS:
            found[field.name] = getattr(self, field.name)
        return found

    @staticmethod
    def of_records(records: NDArray[np.void]) -> Figures:
        """What `records` made."""
        return Figures(**{field.name: records[field.name].copy() for field in FIELDS})

    @staticmethod
    def joined(parts: Sequence[Figures]) -> Figures:
        """One after the other."""
        return Figures(
            **{
                field.name: np.concatenate([getattr(part, field.name) for part in parts])
                for field in FIELDS
            }
        )


FIELDS = fields(Figures)
RECORD = np.dtype(
    [
        ("total_cycles", "<i8"),
        ("exact", "?"),
        ("stall_cycles", "<i8"),
        ("dram_bytes", "<i8"),
        ("energy_pj", "<f8", (3,)),
    ]
)
"""A design's figures."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bounds:
    """What no design goes below; arrays that broadcast over `DesignSpace.shape`."""

    total_cycles: Ints
    energy_pj: Floats | None = None
    """Mid estimate; None where no objective needs it."""


class Model(Protocol):
    """A model of time over a space, for one network."""

    @property
    def name(self) -> str:
        """As it is printed."""

    @property
    def exact_bounds(self) -> bool:
        """Whether the bounds are the figures: then nothing need be evaluated."""

    def groups(self, ids: Ints) -> Ints:
        """(n,) which designs are best evaluated together, for they share work."""

    def bounds(self) -> Bounds:
        """Of every design of the space at once."""

    def network(self, number: int) -> Any:  # noqa: ANN401 (each model has records of its own)
        """One design layer by layer."""

    def evaluate(self, ids: Ints, most_cycles: Ints) -> Figures:
        """(n,) designs exactly, or until one is known to take more cycles than its (n,) limit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """A space, what is wanted, and what a network and a technology make of it."""

    space: DesignSpace
    objectives: tuple[Objective, ...]
    macs: int
    technology: Technology
    clock_mhz: float = 1000.0

    def __post_init__(self) -> None:
        """At least one objective, none twice."""
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise DesignSpaceError(
                f"objectives are {', '.join(self.objectives) or 'none'}; give one or several, "
                "none twice"
            )

    @property
    def needs_energy(self) -> bool:
        """Whether cycles alone do not decide."""
        constrained = self.space.constraints.max_power_w is not None
        return constrained or bool(ENERGETIC & set(self.objectives))

    def pes(self, ids: Ints | None = None) -> Ints:
        """(n,) PEs of designs; of all where none are named."""
        rows, cols = self._of(ids, self.space.along("rows"), self.space.along("cols"))
        return self._each(rows * cols, ids)

    def total_kib(self, ids: Ints | None = None) -> Ints:
        """(n,) KiB of the three buffers."""
        names = ("ifmap_kib", "filter_kib", "ofmap_kib")
        ifmap, filter_, ofmap = self._of(ids, *(self.space.along(name) for name in names))
        return self._each(ifmap + filter_ + ofmap, ids)

    def area_mm2(self, ids: Ints | None = None, estimate: str = "mid") -> Floats:
        """(n,) area of array and buffers; (7) in docs/technology.md."""
        constants = self.technology.sets[estimate]
        space = self.space
        widths = len(space.operand_bytes), len(space.psum_bytes)
        pes = np.array(
            [
                pe_mm2(constants, {_dataflow(kind) for kind in array}, operand, psum)
                for array in space.arrays
                for operand in space.operand_bytes
                for psum in space.psum_bytes
            ]
        ).reshape(len(space.arrays), 1, 1, 1, 1, 1, 1, *widths)
        (each,) = self._of(ids, pes)
        names = ("rows", "cols", "ifmap_kib", "filter_kib", "ofmap_kib")
        rows, cols, *kib = self._of(ids, *(space.along(name) for name in names))
        buffers = (kib[0] + kib[1] + kib[2]) * constants.sram_mm2_per_kib.value
        return self._each(rows * cols * each + buffers, ids)

    def spread(self, grid: NDArray[Number], ids: Ints | None = None) -> NDArray[Number]:
        """(n,) values for designs, from a grid that broadcasts over the space's shape."""
        (found,) = self._of(ids, grid)
        return self._each(found, ids)

    def _of(self, ids: Ints | None, *grids: NDArray[Number]) -> tuple[NDArray[Number], ...]:
        """The grids as they are; or, of some designs, what each grid has for them: (n,)."""
        if ids is None:
            return grids
        return tuple(self._at(ids, grid) for grid in grids)

    def _at(self, ids: Ints, grid: NDArray[Number]) -> NDArray[Number]:
        """(n,): an axis along which a grid does not change has a single place in it."""
        flat, below = np.zeros(len(ids), np.int64), 1
        for axis in range(grid.ndim - 1, -1, -1):
            if grid.shape[axis] > 1:
                flat += self.space.place(ids, axis) * below
                below *= grid.shape[axis]
        return grid.ravel()[flat]

    def _each(self, found: NDArray[Number], ids: Ints | None) -> NDArray[Number]:
        """(n,): a grid is laid over the whole space."""
        return found if ids is not None else np.broadcast_to(found, self.space.shape).ravel()

    def power_w(self, cycles: Ints, energy_pj: Floats) -> Floats:
        """Energy over time; energies may be (n, 3)."""
        divisor = np.maximum(cycles, 1).astype(np.float64)
        seconds = divisor / (self.clock_mhz * 1e6)
        return energy_pj * 1e-12 / (seconds if energy_pj.ndim == 1 else seconds[:, None])

    def edp_js(self, cycles: Ints, energy_pj: Floats) -> Floats:
        """Energy times time; energies may be (n, 3)."""
        seconds = cycles / (self.clock_mhz * 1e6)
        return energy_pj * 1e-12 * (seconds if energy_pj.ndim == 1 else seconds[:, None])

    def values(self, cycles: Ints, energy_pj: Floats | None, ids: Ints | None = None) -> Floats:
        """(n, objectives), all made small; exact integers where an objective counts.

        Args:
            cycles: (n,).
            energy_pj: (n,) mid estimate; None where no objective needs one.
            ids: (n,) the designs; None are all of the space.
        """
        found = []
        for objective in self.objectives:
            if objective is Objective.CYCLES:
                found.append(cycles.astype(np.float64))
            elif objective is Objective.AREA:
                found.append(self.area_mm2(ids))
            elif objective in {Objective.PE_CYCLES, Objective.UTILIZATION}:
                # MACs are given, so the most utilization is the fewest PE-cycles; those are whole.
                found.append(cycles.astype(np.float64) * self.pes(ids))
            elif energy_pj is None:
                raise DesignSpaceError(f"{objective} is no objective of this model of time")
            elif objective is Objective.ENERGY:
                found.append(energy_pj)
            else:
                found.append(self.edp_js(cycles, energy_pj))
        return _side_by_side(found)

    def in_unit(self, values: Floats) -> Floats:
        """(n,) values of the first objective in its own unit: a utilization from PE-cycles."""
        if self.objectives[0] is Objective.UTILIZATION:
            with np.errstate(divide="ignore"):
                return self.macs / values
        return values

    def violations(self, cycles: Ints, energy_pj: Floats | None, ids: Ints | None = None) -> Floats:
        """(n, constraints): at most 0 where a design keeps one; what `constraints.given` names.

        In relation to the limits, so that they can be added up. Of bounds instead of figures it is
        the least that a design may violate, but for the power: a slow design needs little.
        """
        limits = self.space.constraints
        found: list[Floats] = []
        if limits.max_pes is not None:
            found.append(self.pes(ids) / limits.max_pes - 1.0)
        if limits.max_area_mm2 is not None:
            found.append(self.area_mm2(ids) / limits.max_area_mm2 - 1)
        if limits.max_total_kib is not None:
            found.append(self.total_kib(ids) / limits.max_total_kib - 1.0)
        if limits.max_power_w is not None:
            if energy_pj is None:
                raise DesignSpaceError("a power is known under the model physical alone")
            found.append(self.power_w(cycles, energy_pj) / limits.max_power_w - 1)
        if limits.min_utilization is not None:
            pe_cycles = cycles * self.pes(ids).astype(np.float64)
            found.append(1 - self.macs / np.maximum(pe_cycles, 1) / limits.min_utilization)
        n = len(cycles)
        return _side_by_side(found) if found else np.zeros((n, 0))

    def most_cycles(self, ids: Ints, archive: Floats) -> Ints:
        """(n,) cycles above which a design is no better than some point of an archive.

        A point rules a design out once the design is no better in any objective. Those that do not
        count cycles are known before; the others give a number of cycles each.

        Args:
            ids: (n,) designs.
            archive: (k, objectives) figures of designs that keep all constraints.
        """
        if self.needs_energy or not len(archive):
            return np.full(len(ids), NO_LIMIT)
        if set(self.objectives) == {Objective.CYCLES, Objective.AREA}:
            return self._most_cycles_on(self.area_mm2(ids), archive)
        limits = [
            self._most_cycles(ids[start : start + _AT_ONCE], archive)
            for start in range(0, len(ids), _AT_ONCE)
        ]
        return np.concatenate([np.zeros(0, np.int64), *limits])

    def _most_cycles_on(self, area_mm2: Floats, archive: Floats) -> Ints:
        """The same where cycles and area are all that counts: of a front the next smaller area."""
        cycles, areas = (
            archive[:, self.objectives.index(each)] for each in (Objective.CYCLES, Objective.AREA)
        )
        order = np.argsort(areas)
        place = np.searchsorted(areas[order], area_mm2, side="right") - 1
        next_smaller = order[np.maximum(place, 0)]
        limits = cycles[next_smaller] - (areas[next_smaller] < area_mm2)
        return np.where(place < 0, NO_LIMIT, limits.astype(np.int64))

    def _most_cycles(self, ids: Ints, archive: Floats) -> Ints:
        no_worse = np.ones((len(ids), len(archive)), np.bool_)
        better = np.zeros((len(ids), len(archive)), np.bool_)
        least = np.zeros((len(ids), len(archive)))
        for place, objective in enumerate(self.objectives):
            points = archive[:, place]
            if objective is Objective.AREA:
                own = self.area_mm2(ids)[:, None]
                no_worse &= points <= own
                better |= points < own
            elif objective is Objective.CYCLES:
                least = np.maximum(least, points)
            else:
                least = np.maximum(least, np.ceil(points / self.pes(ids)[:, None]))
        # With as many cycles as the point, a design is out only if it is worse in something else.
        limits = np.where(no_worse, least - better, np.inf).min(axis=1)
        whole = np.minimum(limits, EXACT).astype(np.int64)
        return np.where(np.isinf(limits), NO_LIMIT, whole)


def arrays_of(space: DesignSpace, kind: type[Kind]) -> tuple[tuple[Kind, ...], ...]:
    """The arrays of a space, which must be of the kind that a model knows.

    Raises:
        DesignSpaceError: one is of the other kind.
    """
    for array in space.arrays:
        for each in array:
            if not isinstance(each, kind):
                raise DesignSpaceError(f"{each} is {_OTHER[kind]}")
    return tuple(tuple(map(kind, array)) for array in space.arrays)


_OTHER: dict[type, str] = {
    Dataflow: "a microarchitecture, of the model physical; scalesim has the dataflows os, ws, is",
    Microarchitecture: "a dataflow; the model physical needs microarchitectures, like "
    "ws-double-buffered",
}
"""What an array is that is not of the kind."""


def _side_by_side(columns: list[Floats]) -> Floats:
    """(n, columns); a single one, perhaps of millions, is not copied."""
    return columns[0][:, None] if len(columns) == 1 else np.stack(columns, axis=1)


def _dataflow(kind: Dataflow | Microarchitecture) -> Dataflow:
    return kind.dataflow if isinstance(kind, Microarchitecture) else kind
