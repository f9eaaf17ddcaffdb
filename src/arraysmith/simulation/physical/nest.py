"""The loop nest of a mapping as numbers: tiles, loops, and what each operand keeps of them.

`docs/physical.md` defines it. Compiled code; a `Nest` is scratch memory that is filled again for
each mapping, because allocating would take longer than computing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from arraysmith.compiling import compiled
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
BORDERS = (GROUPS, ROWS, COLS, OUT, IN)
"""The dimensions in which a tile can be smaller: images come one at a time."""

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


class Nest(Protocol):
    """One loop nest. Bit l of a mask is the active loop l, outermost first; see `lay_loops`."""

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
    tile_span: NDArray[np.int64]
    """(operands, dimensions, 2): what a tile spans, and what the last one does."""
    span: NDArray[np.int64]
    """The same of the resident tiles, of which one may be a block of tiles."""
    span_at_last: NDArray[np.int64]
    """(operands, dimensions) mask, as `at_last`."""
    words: NDArray[np.int64]
    """(operands,) of a resident tile that is not the last in any dimension."""
    shrinks: NDArray[np.int64]
    """(operands,) mask of the loops at whose last trip the resident tile may be smaller."""
    indexed: NDArray[np.int64]
    """(operands,) mask of the loops that change the resident tile."""
    loops: NDArray[np.int64]
    """(1,) how many are active."""
    micro: NDArray[np.int64]
    """(1,) the microarchitecture."""
    differing: NDArray[np.int64]
    """(1,) mask of `BORDERS`: the dimensions whose last tile is smaller than the others."""
    array_cycles: NDArray[np.int64]
    """(2⁵,) of a step, by which of `BORDERS` are at a smaller last tile; 0: not computed yet."""
    stays: NDArray[np.int64]
    """(loops, 2): lines along rows and cols of the ifmap that stay when a loop moves on; -1 is all
    of them, 0 none."""


NEST = np.dtype(
    [
        ("count", np.int64, (6,)),
        ("full", np.int64, (6,)),
        ("last", np.int64, (6,)),
        ("trips", np.int64, (8,)),
        ("dimension", np.int64, (8,)),
        ("at_last", np.int64, (6,)),
        ("tile_span", np.int64, (3, 6, 2)),
        ("span", np.int64, (3, 6, 2)),
        ("span_at_last", np.int64, (3, 6)),
        ("words", np.int64, (3,)),
        ("shrinks", np.int64, (3,)),
        ("indexed", np.int64, (3,)),
        ("loops", np.int64, (1,)),
        ("micro", np.int64, (1,)),
        ("differing", np.int64, (1,)),
        ("array_cycles", np.int64, (32,)),
        ("stays", np.int64, (8, 2)),
    ],
    align=True,
)
"""A `Nest` as compiled code holds it. Whoever calls keeps the array it lies in alive."""


@compiled
def input_span(pixels: int, filter_size: int, stride: int) -> int:
    """Distinct ifmap positions that neighbouring windows cover along one axis. (5)."""
    if stride < filter_size:
        return (pixels - 1) * stride + filter_size
    return pixels * filter_size


@compiled
def groups_at_once(layer: NDArray[np.int64], array: NDArray[np.int64], micro: int) -> int:
    """How many groups lie on the array side by side. (4)."""
    if layer[GROUPS] == 1 or not is_weight_stationary(micro):
        return 1
    k = layer[IN] * layer[FILTER_ROWS] * layer[FILTER_COLS]
    return min(max(1, min(array[R] // k, array[C] // layer[OUT])), layer[GROUPS])


@compiled
def lay_tile(
    nest: Nest, layer: NDArray[np.int64], array: NDArray[np.int64], mapping: NDArray[np.int64]
) -> None:
    """Fill what depends on the tile alone: counts, sizes, and what each operand spans of it."""
    lay_dimension(nest, layer, GROUPS, groups_at_once(layer, array, mapping[MICRO]))
    lay_dimension(nest, layer, IMAGES, 1)
    for dim in range(ROWS, IN + 1):
        lay_dimension(nest, layer, dim, mapping[TILE_ROWS + dim - ROWS])
    lay_steps(nest, mapping[MICRO])


@compiled
def lay_dimension(nest: Nest, layer: NDArray[np.int64], dim: int, tile: int) -> None:
    """Fill what depends on the tile's size in one dimension."""
    count = ceil_div(layer[dim], tile)
    last = layer[dim] - (count - 1) * tile
    nest.count[dim], nest.full[dim], nest.last[dim] = count, tile, last
    for operand in range(3):
        indexed = _INDEXES[operand, dim]
        nest.tile_span[operand, dim, 0] = tile if indexed else 1
        nest.tile_span[operand, dim, 1] = last if indexed else 1
    if dim in (ROWS, COLS):
        filter_size, stride = layer[FILTER_ROWS + dim - ROWS], layer[STRIDE]
        nest.tile_span[IFMAP, dim, 0] = input_span(tile, filter_size, stride)
        nest.tile_span[IFMAP, dim, 1] = input_span(last, filter_size, stride)
        nest.tile_span[FILTER, dim, 0] = nest.tile_span[FILTER, dim, 1] = filter_size


@compiled
def lay_steps(nest: Nest, micro: int) -> None:
    """Begin the table of a tile's steps; all its dimensions are laid."""
    nest.micro[0], nest.differing[0] = micro, 0
    for kind in range(32):
        nest.array_cycles[kind] = 0
    for bit, dim in enumerate(BORDERS):
        if nest.full[dim] != nest.last[dim]:
            nest.differing[0] |= 1 << bit


@compiled
def lay_loops(nest: Nest, layer: NDArray[np.int64], mapping: NDArray[np.int64]) -> None:
    """Fill the rest, the tile being laid: active loops and resident tiles."""
    for dim in range(6):
        nest.at_last[dim] = 0
    for operand in range(3):
        nest.indexed[operand] = 0
        for dim in range(6):
            nest.span_at_last[operand, dim] = 0
            nest.span[operand, dim, 0] = nest.tile_span[operand, dim, 0]
            nest.span[operand, dim, 1] = nest.tile_span[operand, dim, 1]
    nest.loops[0] = 0
    _push(nest, GROUPS, nest.count[GROUPS], -1)
    blocked, tiles = mapping[BLOCKED], mapping[TILES_PER_BLOCK]
    for dim in _LOOPS[mapping[ORDER]]:
        _push(nest, dim, nest.count[dim] // (tiles if dim == blocked else 1), -1)
    if blocked >= 0:
        stays = _STAYS[mapping[ORDER]]
        _push(nest, blocked, tiles, stays)
        last = nest.last[blocked] + nest.full[blocked] * (tiles - 1)
        full = nest.full[blocked] * tiles
        if stays == IFMAP and blocked == ROWS:
            full = input_span(full, layer[FILTER_ROWS], layer[STRIDE])
            last = input_span(last, layer[FILTER_ROWS], layer[STRIDE])
        nest.span[stays, blocked, 0], nest.span[stays, blocked, 1] = full, last
    for operand in range(3):
        words, shrinks = 1, 0
        for dim in range(6):
            mask = nest.span_at_last[operand, dim]
            full, last = nest.span[operand, dim, 0], nest.span[operand, dim, 1]
            words *= full if mask else last
            if full != last:
                shrinks |= mask
        nest.words[operand], nest.shrinks[operand] = words, shrinks
    _slide(nest, layer, mapping)


@compiled
def _slide(nest: Nest, layer: NDArray[np.int64], mapping: NDArray[np.int64]) -> None:
    """Which part of the ifmap's tile the next one shares with it, for each loop. (6).

    Seen from the innermost loop outwards: a loop moves on by one tile, those inside it go back.
    """
    others = nest.span_at_last[IFMAP, GROUPS] | nest.span_at_last[IFMAP, IMAGES]
    others |= nest.span_at_last[IFMAP, IN]
    rows, cols = nest.span_at_last[IFMAP, ROWS], nest.span_at_last[IFMAP, COLS]
    blocks = mapping[BLOCKED] == ROWS and _STAYS[mapping[ORDER]] == IFMAP
    height = nest.full[ROWS] * (mapping[TILES_PER_BLOCK] if blocks else 1)
    back_rows, back_cols = 0, 0
    for loop in range(nest.loops[0] - 1, -1, -1):
        on_rows, on_cols = rows >> loop & 1, cols >> loop & 1
        if on_rows and rows >> loop + 1:
            # The loop over blocks steps by as many tiles as the loop inside it visits.
            on_rows = mapping[TILES_PER_BLOCK]
        nest.stays[loop, 0] = _lines_that_stay(nest, layer, ROWS, height * (on_rows - back_rows))
        nest.stays[loop, 1] = _lines_that_stay(
            nest, layer, COLS, nest.full[COLS] * (on_cols - back_cols)
        )
        if others >> loop:
            nest.stays[loop, 0] = nest.stays[loop, 1] = 0
        back_rows += on_rows * (nest.trips[loop] - 1)
        back_cols += on_cols * (nest.trips[loop] - 1)


@compiled
def _lines_that_stay(nest: Nest, layer: NDArray[np.int64], dim: int, shift: int) -> int:
    """Of rows or columns of the ifmap's tile, if it moves by so many pixels; -1 is all."""
    if shift == 0:
        return -1
    if layer[STRIDE] >= layer[FILTER_ROWS + dim - ROWS]:
        return 0
    return max(0, nest.span[IFMAP, dim, 0] - abs(shift) * layer[STRIDE])


@compiled
def ifmap_words_that_stay(nest: Nest, loop: int, at_last: int) -> int:
    """Words of the ifmap's next tile that lie in its buffer already when a loop moves on. (6).

    Args:
        nest: laid.
        loop: the outermost loop that moves on.
        at_last: loops at their last trip in the next step.
    """
    if not nest.stays[loop, 0] or not nest.stays[loop, 1]:
        return 0
    words = 1
    for dim in range(6):
        mask = nest.span_at_last[IFMAP, dim]
        size = nest.span[IFMAP, dim, 1 if (at_last & mask) == mask else 0]
        if dim in (ROWS, COLS) and nest.stays[loop, dim - ROWS] > 0:
            size = nest.stays[loop, dim - ROWS]
        words *= size
    return words


@compiled
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


@compiled
def resident_words(nest: Nest, operand: int, at_last: int) -> int:
    """Words of an operand's resident tile where the loops of mask `at_last` are at their end."""
    if not at_last & nest.shrinks[operand]:
        return nest.words[operand]
    words = 1
    for dim in range(6):
        mask = nest.span_at_last[operand, dim]
        words *= nest.span[operand, dim, 1 if (at_last & mask) == mask else 0]
    return words
