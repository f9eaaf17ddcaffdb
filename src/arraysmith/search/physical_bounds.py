"""What no mapping goes below, in cycles and in energy, for whole spaces of designs at once.

Cycles: all folds of a layer as if it were one tile; each word once through the channel. Energy:
the accesses of that tile, and the same words. `docs/search.md` derives both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.compiling import compiled
from arraysmith.search.mapping_bounds import energy_of, moved_bytes, once
from arraysmith.simulation.physical.closed_form import (
    ARRAY,
    FILTER_DRAM,
    IFMAP_DRAM,
    OFMAP_READ,
    OFMAP_SPILLED,
    count_array,
)
from arraysmith.simulation.physical.nest import (
    IFMAP_PORT,
    MICRO,
    NEST,
    ROWS,
    STRIDE,
    TILE_ROWS,
    C,
    Nest,
    R,
    lay_tile,
)
from arraysmith.simulation.physical.waiting import transfer_cycles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.search.design_columns import Designs

_KINDS = 7
"""Microarchitectures."""


def layer_cycles_at_least(layers: NDArray[np.int64], designs: Designs) -> NDArray[np.int64]:
    """(n, layers): cycles that no mapping of a layer goes below on a design.

    Args:
        layers: (layers, 9), see `layer_vector`.
        designs: n of them.
    """
    bounds = np.empty((len(designs), len(layers)), np.int64)
    _bound_cycles(layers, designs.vectors, designs.micros, np.zeros(1, NEST), bounds)
    return bounds


def cycles_at_least(
    layers: NDArray[np.int64], counts: NDArray[np.int64], designs: Designs
) -> NDArray[np.int64]:
    """(n,): cycles that a network takes at least.

    Args:
        layers: (layers, 9), its shapes.
        counts: (layers,), how often each occurs.
        designs: n of them.
    """
    # Buffers do not matter: most designs of a space differ in nothing else.
    fields = np.column_stack((designs.vectors[:, :2], designs.vectors[:, 5:], designs.micros))
    first, inverse = distinct(fields)
    bounds: NDArray[np.int64] = layer_cycles_at_least(layers, designs.take(first)) @ counts
    return bounds[inverse]


def distinct(columns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which rows are the first of their kind, and of which kind each row is, as they come up."""
    kinds = np.zeros(len(columns), np.int64)
    for column in columns.T:
        values, inverse = np.unique(column, return_inverse=True)
        kinds = np.unique(kinds * len(values) + inverse, return_inverse=True)[1]
    _, first, inverse = np.unique(kinds, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse]


def energy_at_least(
    layer: NDArray[np.int64],
    designs: Designs,
    weights: NDArray[np.float64],
    which: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(n,): picojoules that no mapping of a layer goes below; to the rounding of sums of floats.

    Args:
        layer: (9,).
        designs: n of them.
        weights: (tables, microarchitectures, 11), see `mapper.energy_weights`, for a single PE and
            a single MAC; of those a design can do.
        which: (n,) the table of each design.
    """
    bounds = np.empty(len(designs))
    _bound_energy(layer, designs.vectors, designs.micros, weights, which, np.zeros(1, NEST), bounds)
    return bounds


@compiled
def _bound_cycles(
    layers: NDArray[np.int64],
    arrays: NDArray[np.int64],
    micros: NDArray[np.int64],
    nests: NDArray[np.void],
    bounds: NDArray[np.int64],
) -> None:
    nest = nests[0]
    found = np.zeros(15, np.int64)
    mapping = np.zeros(8, np.int64)
    for n in range(len(arrays)):
        array = _without_ports(arrays[n])
        for index in range(len(layers)):
            least = -1
            for micro in range(_KINDS):
                if micros[n] >> micro & 1:
                    _count_whole(nest, layers[index], array, micro, mapping, found)
                    cycles = found[ARRAY]
                    least = cycles if least < 0 else min(least, cycles)
            # Something is loaded before the first step, and something stored after the last.
            channel = transfer_cycles(array, moved_bytes(array, found))
            bounds[n, index] = max(least + 2, channel)


@compiled
def _bound_energy(  # noqa: PLR0917
    layer: NDArray[np.int64],
    arrays: NDArray[np.int64],
    micros: NDArray[np.int64],
    weights: NDArray[np.float64],
    which: NDArray[np.int64],
    nests: NDArray[np.void],
    bounds: NDArray[np.float64],
) -> None:
    nest = nests[0]
    found = np.zeros(15, np.int64)
    mapping = np.zeros(8, np.int64)
    macs = 1
    for dim in range(STRIDE):
        macs *= layer[dim]
    for n in range(len(arrays)):
        array = _without_ports(arrays[n])
        least = np.inf
        for micro in range(_KINDS):
            if micros[n] >> micro & 1:
                _count_whole(nest, layer, array, micro, mapping, found)
                own = weights[which[n], micro].copy()
                own[0] *= macs
                own[1] *= array[R] * array[C]
                least = min(least, energy_of(found, own))
        bounds[n] = least


@compiled
def _without_ports(array: NDArray[np.int64]) -> NDArray[np.int64]:
    """An array whose ports hold it never: smaller tiles use fewer lanes, which are held less."""
    free = array.copy()
    for operand in range(3):
        free[IFMAP_PORT + operand] = 0
    return free


@compiled
def _count_whole(  # noqa: PLR0917
    nest: Nest,
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    micro: int,
    mapping: NDArray[np.int64],
    found: NDArray[np.int64],
) -> None:
    """The counts of an image and a pack of groups as one tile, each word moved once."""
    mapping[MICRO] = micro
    for dim in range(4):
        mapping[TILE_ROWS + dim] = layer[ROWS + dim]
    lay_tile(nest, layer, array, mapping)
    count_array(nest, layer, array, micro, found)
    found[IFMAP_DRAM], found[FILTER_DRAM], _ = once(layer)
    found[OFMAP_READ] = found[OFMAP_SPILLED] = 0
