"""Layers, accelerators and mappings as the integers that compiled code takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import InvalidWorkloadError
from arraysmith.mapping import ORDERS, Mapping, Tile
from arraysmith.simulation.physical.array import MICROARCHITECTURES
from arraysmith.simulation.physical.nest import IN, OUT, ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.hardware import PhysicalAccelerator
    from arraysmith.workload import Layer

MAX_MACS = 2**50
"""Of a layer: products of its dimensions then stay far from the end of 64-bit integers."""
BLOCKED_DIMENSION = {None: -1, "M": ROWS, "N": OUT, "K": IN}
_BLOCKED_LETTER = {dimension: letter for letter, dimension in BLOCKED_DIMENSION.items()}


def layer_vector(layer: Layer) -> NDArray[np.int64]:
    """(9,): groups, images, rows, cols, out and in channels, filter rows and cols, stride.

    Raises:
        InvalidWorkloadError: more MACs than the model's integers take.
    """
    if layer.macs > MAX_MACS:
        raise InvalidWorkloadError(
            f"layer {layer.name!r} has {layer.macs:,} MACs, more than {MAX_MACS:,}; split it"
        )
    loops = layer.loops
    return np.array(
        [
            loops.groups,
            loops.images,
            loops.rows,
            loops.cols,
            loops.out_channels,
            loops.in_channels,
            loops.filter_rows,
            loops.filter_cols,
            loops.stride,
        ],
        dtype=np.int64,
    )


def accelerator_vector(accelerator: PhysicalAccelerator) -> NDArray[np.int64]:
    """(13,): sides, usable bytes and port widths of the three buffers, word bytes, bandwidth."""
    rate = accelerator.dram_rate
    return np.array(
        [
            accelerator.rows,
            accelerator.cols,
            accelerator.usable_bytes(accelerator.ifmap_buffer_kib),
            accelerator.usable_bytes(accelerator.filter_buffer_kib),
            accelerator.usable_bytes(accelerator.ofmap_buffer_kib),
            accelerator.ifmap_port_bytes or 0,
            accelerator.filter_port_bytes or 0,
            accelerator.ofmap_port_bytes or 0,
            accelerator.operand_bytes,
            accelerator.psum_bytes,
            accelerator.output_bytes,
            rate.numerator,
            rate.denominator,
        ],
        dtype=np.int64,
    )


def mapping_vector(mapping: Mapping) -> NDArray[np.int64]:
    """(8,): microarchitecture, order, the tile's four sizes, blocked dimension, tiles a block."""
    tile = mapping.tile
    return np.array(
        [
            MICROARCHITECTURES.index(mapping.microarchitecture),
            ORDERS.index(mapping.order),
            tile.rows,
            tile.cols,
            tile.out_channels,
            tile.in_channels,
            BLOCKED_DIMENSION[mapping.blocked],
            mapping.tiles_per_block,
        ],
        dtype=np.int64,
    )


def mapping_of(vector: NDArray[np.int64]) -> Mapping:
    """The mapping that a vector stands for."""
    micro, order, rows, cols, out_channels, in_channels, blocked, tiles = map(int, vector)
    return Mapping(
        microarchitecture=MICROARCHITECTURES[micro],
        order=ORDERS[order],
        tile=Tile(rows=rows, cols=cols, out_channels=out_channels, in_channels=in_channels),
        blocked=_BLOCKED_LETTER[blocked],
        tiles_per_block=tiles,
    )
