"""The least cycles of a network on many designs, each layer under its best mapping, exactly.

Designs that differ in their buffers alone are searched together (`buffer_grid`). A design is left
as soon as it is proven to take more cycles than it may: by the exact cycles of the layers done and
the bounds of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.search.buffer_grid import NONE, search_grid
from arraysmith.search.design_columns import micros_of
from arraysmith.search.mapspace import tile_lanes, tile_sizes
from arraysmith.search.nest_search import COUNTERS
from arraysmith.search.physical_bounds import distinct, layer_cycles_at_least
from arraysmith.simulation.physical.array import MICROARCHITECTURES
from arraysmith.simulation.physical.nest import (
    IFMAP_BYTES,
    NEST,
    OPERAND,
    PSUM,
    TILE_ROWS,
    C,
    R,
    groups_at_once,
)
from arraysmith.simulation.physical.vectors import layer_vector
from arraysmith.simulation.physical.waiting import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from arraysmith.search.design_columns import Designs
    from arraysmith.workload import Layer

INFEASIBLE = -1
"""Cycles of a design of which a buffer holds no tile of some layer."""
_BUFFERS = slice(IFMAP_BYTES, IFMAP_BYTES + 3)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkCycles:
    """What n designs take."""

    cycles: NDArray[np.int64]
    """(n,): the least cycles where `exact`, else a bound above what the design may take;
    `INFEASIBLE` where a buffer holds no tile of some layer."""
    exact: NDArray[np.bool_]
    """(n,)."""
    searched: NDArray[np.int64]
    """(5,): pairs of channels, tiles, tiles bounded, loop nests, mappings to the last cycle."""


@dataclass(slots=True, kw_only=True)
class _Space:
    """One layer while a space is searched: tables that come up again, and where to begin."""

    layer: Layer
    vector: NDArray[np.int64]
    sizes: dict[tuple[int, int, int], NDArray[np.int64]]
    """By what `tile_sizes` takes; of all layers."""
    starts: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    """Of each microarchitecture, the best mappings of the last array."""
    slack: float = 0.0
    """What its best took above its bound there, times how often it occurs."""

    def tiles(self, rows: int, cols: int, micro: int) -> tuple[NDArray[np.int64], ...]:
        """Sizes of tiles, see `map_space`."""
        loops = self.layer.loops
        lanes = tile_lanes(loops, rows, cols, MICROARCHITECTURES[micro].dataflow)
        return (
            self._sizes(loops.rows, 1, lanes[0]),
            self._sizes(loops.cols, 1, None),
            self._sizes(loops.out_channels, 1, lanes[1]),
            self._sizes(loops.in_channels, loops.taps, lanes[2]),
        )

    def _sizes(self, whole: int, words: int, lanes: int | None) -> NDArray[np.int64]:
        # On more lanes than words all folds are one.
        key = whole, words, min(lanes or whole * words, whole * words)
        if key not in self.sizes:
            self.sizes[key] = tile_sizes(*key)
        return self.sizes[key]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Group:
    """Designs that differ in their buffers alone, as cells of a grid."""

    array: NDArray[np.int64]
    micros: list[int]
    buffers: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
    """Usable bytes, ascending."""
    cells: tuple[NDArray[np.intp], ...]
    """(designs,) of each buffer: where a design lies."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the grid."""
        return tuple(len(each) for each in self.buffers)


def network_cycles(
    layers: Sequence[Layer],
    counts: NDArray[np.int64],
    designs: Designs,
    most_cycles: NDArray[np.int64] | None = None,
) -> NetworkCycles:
    """The cycles of a network, each layer under its best mapping, or that they are too many.

    Designs of one array should come in one call, arrays that are alike one after the other: a
    search begins with what was best on the array before. It changes no result.

    Args:
        layers: the network's shapes.
        counts: (layers,), how often each occurs.
        designs: n of them.
        most_cycles: (n,) that a design may take; None: any number.

    Raises:
        InvalidWorkloadError: a layer of more MACs than the model's integers take.
    """
    sizes: dict[tuple[int, int, int], NDArray[np.int64]] = {}
    spaces = [_Space(layer=each, vector=layer_vector(each), sizes=sizes) for each in layers]
    vectors = np.array([space.vector for space in spaces])
    if most_cycles is None:
        most_cycles = np.full(len(designs), NONE)
    fixed = np.delete(designs.vectors, np.r_[_BUFFERS], axis=1)
    first, inverse = distinct(np.column_stack((fixed, designs.micros)))
    bounds = layer_cycles_at_least(vectors, designs.take(first))
    cycles = np.empty(len(designs), np.int64)
    exact = np.empty(len(designs), np.bool_)
    searched = np.zeros(len(COUNTERS), np.int64)
    order = np.argsort(inverse, kind="stable")
    for kind, members in enumerate(np.split(order, np.cumsum(np.bincount(inverse))[:-1])):
        group = _group(designs.take(members))
        cycles[members], exact[members] = _search_group(
            spaces, counts, group, bounds[kind], most_cycles[members], searched
        )
    return NetworkCycles(cycles=cycles, exact=exact, searched=searched)


def _group(designs: Designs) -> _Group:
    sizes, cells = zip(
        *(np.unique(column, return_inverse=True) for column in designs.vectors[:, _BUFFERS].T),
        strict=True,
    )
    return _Group(
        array=designs.vectors[0],
        micros=micros_of(int(designs.micros[0])),
        buffers=sizes,
        cells=cells,
    )


def _search_group(  # noqa: PLR0917
    spaces: list[_Space],
    counts: NDArray[np.int64],
    group: _Group,
    bounds: NDArray[np.int64],
    most_cycles: NDArray[np.int64],
    searched: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Cycles of each design of a group, and which are exact."""
    most = np.full(group.shape, -1)
    np.maximum.at(most, group.cells, most_cycles)
    feasible = _feasible(spaces, group)
    most[~feasible] = -1
    total = np.full(group.shape, int(bounds @ counts))
    open_ = total <= most
    slack = [space.slack or float(bounds[at] * counts[at]) for at, space in enumerate(spaces)]
    for at in sorted(range(len(spaces)), key=lambda at: -slack[at]):
        if not open_.any():
            break
        count = int(counts[at])
        bound = int(bounds[at])
        # The layer may take what the others leave, and must be below the next whole number.
        below = np.where(open_, (most - total) // count + bound + 1, 0)
        best = np.minimum(below, NONE)
        _search_layer(spaces[at], group, best, searched)
        total += np.where(open_, (best - bound) * count, 0)
        spaces[at].slack = float(count * (best[open_].mean() - bound))
        open_ &= best < below
    exact = open_ | ~feasible
    total[~feasible] = INFEASIBLE
    return total[group.cells], exact[group.cells]


def _search_layer(
    space: _Space, group: _Group, best: NDArray[np.int64], searched: NDArray[np.int64]
) -> None:
    """Lower `best` to the least cycles of a layer where there is a mapping of fewer."""
    for micro in group.micros:
        mappings = np.zeros((*group.shape, 8), np.int64)
        search_grid(
            space.vector,
            group.array,
            micro,
            space.tiles(int(group.array[R]), int(group.array[C]), micro),
            group.buffers,
            best,
            mappings,
            space.starts.get(micro, np.zeros((0, 8), np.int64)),
            np.zeros(1, NEST),
            np.zeros(1, KINDS),
            searched,
        )
        found = mappings.reshape(-1, 8)
        found = found[found[:, TILE_ROWS] > 0]
        if len(found):  # neighbouring cells often have the same
            new = np.any(found[1:] != found[:-1], axis=1)
            space.starts[micro] = found[np.r_[True, new]]


def _feasible(spaces: list[_Space], group: _Group) -> NDArray[np.bool_]:
    """Which designs' buffers hold a tile of each layer; see `check_smallest_tiles`."""
    array = group.array
    feasible = np.ones(group.shape, np.bool_)
    for space in spaces:
        # Groups side by side must fit together; an array that cannot lay them so needs the least.
        together = min(int(groups_at_once(space.vector, array, micro)) for micro in group.micros)
        window = together * space.layer.loops.taps * int(array[OPERAND])
        holds = [
            sizes >= needed
            for sizes, needed in zip(
                group.buffers, (window, window, together * int(array[PSUM])), strict=True
            )
        ]
        feasible &= holds[0][:, None, None] & holds[1][:, None] & holds[2]
    return feasible
