"""The loop nest of a mapping as numbers: tiles, loops, and what each operand keeps of them.

`docs/physical.md` defines it. Compiled code; a `Nest` is scratch memory that is filled again for
each mapping, because allocating would take longer than computing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from arraysmith.mapping import ORDERS
from arraysmith.simulation.physical.array import ceil_div, is_weight_stationary

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The dimensions of a layer, in the order of `layer_vector`, then its filter and stride.
GROUPS, IMAGES, ROWS, COLS, OUT, IN = range(6)
FILTER_ROWS, FILTER_COLS, STRIDE = range(6, 9)
# An accelerator, in the order of `accelerator_vector`.
(
    R,
    C,
    IFMAP_BYTES,
    FILTER_BYTES,
    OFMAP_BYTES,
    IFMAP_PORT,
    FILTER_PORT,
    OFMAP_PORT,
    OPERAND,
    PSUM,
    OUTPUT,
    RATE,
    RATE_CYCLES,
) = range(13)
# A mapping, in the order of `mapping_vector`; `BLOCKED` is a dimension or -1.
MICRO, ORDER, TILE_ROWS, TILE_COLS, TILE_OUT, TILE_IN, BLOCKED, TILES_PER_BLOCK = range(8)
IFMAP, FILTER, OFMAP = range(3)

_LOOPS_OF_LETTER = {"M": (IMAGES, ROWS, COLS), "N": (OUT,), "K": (IN,)}
_LOOPS = np.array(
    [[dim for letter in order for dim in _LOOPS_OF_LETTER[letter]] for order in ORDERS]
)
"""The five loops inside that over groups, outermost first, for each order."""
_STAYS = np.array([{"N": IFMAP, "M": FILTER, "K": OFMAP}[order[2]] for order in ORDERS])
"""The operand that the third loop does not index."""
_INDEXES = np.array(
    [
        [True, True, True, True, False, True],
        [True, False, False, False, True, True],
        [True, True, True, True, True, False],
    ]
)
"""Whether an operand is indexed by a dimension."""


class Nest(NamedTuple):
    """One loop nest. Bit l of a mask is the active loop l, outermost first; see `lay`."""

    count: NDArray[np.int64]
    """(dimensions,) tiles."""
    full: NDArray[np.int64]
    """(dimensions,) size of a tile."""
    last: NDArray[np.int64]
    """(dimensions,) size of the last tile."""
    trips: NDArray[np.int64]
    """(loops,) of the active loops, those with more than one trip."""
    dimension: NDArray[np.int64]
    """(loops,)."""
    at_last: NDArray[np.int64]
    """(dimensions,) mask of the loops that are at their last trip at the last tile."""
    span: NDArray[np.int64]
    """(operands, dimensions, 2): what a resident tile spans, and what the last one does."""
    span_at_last: NDArray[np.int64]
    """(operands, dimensions) mask, as `at_last`."""
    indexed: NDArray[np.int64]
    """(operands,) mask of the loops that change the resident tile."""
    loops: NDArray[np.int64]
    """(1,) how many are active."""


@nb.njit(cache=True, nogil=True)
def empty_nest() -> Nest:
    """Scratch memory."""
    return Nest(
        np.zeros(6, np.int64),
        np.zeros(6, np.int64),
        np.zeros(6, np.int64),
        np.zeros(8, np.int64),
        np.zeros(8, np.int64),
        np.zeros(6, np.int64),
        np.zeros((3, 6, 2), np.int64),
        np.zeros((3, 6), np.int64),
        np.zeros(3, np.int64),
        np.zeros(1, np.int64),
    )


@nb.njit(cache=True, nogil=True)
def input_span(pixels: int, filter_size: int, stride: int) -> int:
    """Distinct ifmap positions that neighbouring windows cover along one axis. (5)."""
    if stride < filter_size:
        return (pixels - 1) * stride + filter_size
    return pixels * filter_size


@nb.njit(cache=True, nogil=True)
def groups_at_once(layer: NDArray[np.int64], array: NDArray[np.int64], micro: int) -> int:
    """How many groups lie on the array side by side. (4)."""
    if layer[GROUPS] == 1 or not is_weight_stationary(micro):
        return 1
    k = layer[IN] * layer[FILTER_ROWS] * layer[FILTER_COLS]
    return min(max(1, min(array[R] // k, array[C] // layer[OUT])), layer[GROUPS])


@nb.njit(cache=True, nogil=True)
def lay(
    nest: Nest,
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    mapping: NDArray[np.int64],
) -> None:
    """Fill a nest: tiles of each dimension, active loops, resident tiles."""
    for dim in range(6):
        tile = mapping[TILE_ROWS + dim - ROWS] if dim >= ROWS else 1
        if dim == GROUPS:
            tile = groups_at_once(layer, array, mapping[MICRO])
        nest.count[dim] = ceil_div(layer[dim], tile)
        nest.full[dim] = tile
        nest.last[dim] = layer[dim] - (nest.count[dim] - 1) * tile
        nest.at_last[dim] = 0
    nest.span_at_last[:] = 0
    nest.indexed[:] = 0
    nest.loops[0] = 0
    _push(nest, GROUPS, nest.count[GROUPS], -1)
    for dim in _LOOPS[mapping[ORDER]]:
        trips = nest.count[dim]
        if dim == mapping[BLOCKED]:
            trips //= mapping[TILES_PER_BLOCK]
        _push(nest, dim, trips, -1)
    stays = _STAYS[mapping[ORDER]]
    if mapping[BLOCKED] >= 0:
        _push(nest, mapping[BLOCKED], mapping[TILES_PER_BLOCK], stays)
    _span(nest, layer, mapping, stays)


@nb.njit(cache=True, nogil=True)
def _push(nest: Nest, dim: int, trips: int, but: int) -> None:
    """Add a loop inside the others; the operand `but` keeps its tile through it."""
    if trips == 1:
        return
    loop = nest.loops[0]
    nest.trips[loop] = trips
    nest.dimension[loop] = dim
    nest.loops[0] += 1
    nest.at_last[dim] |= 1 << loop
    for operand in range(3):
        if operand != but and _INDEXES[operand, dim]:
            nest.span_at_last[operand, dim] |= 1 << loop
            nest.indexed[operand] |= 1 << loop


@nb.njit(cache=True, nogil=True)
def _span(nest: Nest, layer: NDArray[np.int64], mapping: NDArray[np.int64], stays: int) -> None:
    """What the resident tile of each operand spans. (5)."""
    for operand in range(3):
        for dim in range(6):
            full, last = 1, 1
            if _INDEXES[operand, dim]:
                full, last = nest.full[dim], nest.last[dim]
                if operand == stays and dim == mapping[BLOCKED]:
                    last += full * (mapping[TILES_PER_BLOCK] - 1)
                    full *= mapping[TILES_PER_BLOCK]
            nest.span[operand, dim, 0], nest.span[operand, dim, 1] = full, last
    for dim in (ROWS, COLS):
        filter_size = layer[FILTER_ROWS + dim - ROWS]
        for edge in range(2):
            pixels = nest.span[IFMAP, dim, edge]
            nest.span[IFMAP, dim, edge] = input_span(pixels, filter_size, layer[STRIDE])
            nest.span[FILTER, dim, edge] = filter_size


@nb.njit(cache=True, nogil=True)
def resident_words(nest: Nest, operand: int, at_last: int) -> int:
    """Words of an operand's resident tile where the loops of mask `at_last` are at their end.

    With no loop at its end it is the largest.
    """
    words = 1
    for dim in range(6):
        mask = nest.span_at_last[operand, dim]
        words *= nest.span[operand, dim, 1 if (at_last & mask) == mask else 0]
    return words
