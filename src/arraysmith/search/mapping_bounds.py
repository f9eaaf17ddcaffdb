"""What no loop nest around a tile can better: the bounds of the mapper, compiled.

`docs/mapping.md` derives them. A bound adds up the same terms in the same order as the figure it
bounds, from counts that are no larger; rounding keeps their order, so nothing is lost to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraysmith.compiling import compiled
from arraysmith.simulation.physical.array import ceil_div, floor_div
from arraysmith.simulation.physical.closed_form import (
    ARRAY,
    FILTER_DRAM,
    FILTER_READS,
    IFMAP_DRAM,
    IFMAP_READS,
    OFMAP_OUTPUT,
    OFMAP_READ,
    OFMAP_READS,
    OFMAP_SPILLED,
    OFMAP_WRITES,
)
from arraysmith.simulation.physical.nest import (
    COLS,
    FILTER,
    FILTER_COLS,
    FILTER_ROWS,
    GROUPS,
    IFMAP,
    IFMAP_BYTES,
    IMAGES,
    IN,
    OFMAP,
    OPERAND,
    OUT,
    OUTPUT,
    PSUM,
    ROWS,
    STRIDE,
    Nest,
    input_span,
)
from arraysmith.simulation.physical.waiting import transfer_cycles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@compiled
def energy_of(found: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    """Picojoules of a layer's counts; see `energy_weights`. (10) in docs/physical.md."""
    return _energy_of_tile(found, weights) + _energy_of_loads(
        found[IFMAP_DRAM], found[FILTER_DRAM], found[OFMAP_READ], weights
    )


@compiled
def _energy_of_tile(found: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    """What does not depend on the loops around a tile."""
    energy = weights[0] + weights[1] * found[ARRAY] + weights[6] * found[OFMAP_OUTPUT]
    energy += weights[7] * found[IFMAP_READS] + weights[8] * found[FILTER_READS]
    return float(energy + weights[9] * found[OFMAP_READS] + weights[10] * found[OFMAP_WRITES])


@compiled
def _energy_of_loads(
    ifmap: int, filter_: int, partial_sums: int, weights: NDArray[np.float64]
) -> float:
    """What does: words loaded, and partial sums that go to DRAM and come back."""
    energy = weights[2] * ifmap + weights[3] * filter_
    return float(energy + (weights[4] + weights[5]) * partial_sums)


@compiled
def bound(
    nest: Nest,
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    found: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> tuple[int, float]:
    """The least cycles and energy of a tile in any loop nest; (12) in docs/mapping.md.

    Of the three operands one is loaded once; the second as often as the first has blocks along its
    own loop, and a block is no larger than its buffer; the third as often as the loop goes round
    that the first two share.
    """
    ifmap, filter_, ofmap = once(layer)
    again = ifmap_again(nest, layer, ifmap)
    found[OFMAP_OUTPUT] = ofmap
    moved, costs = -1, 0.0
    for role in range(6):
        loads = visits(nest, layer, array, role)
        words = ifmap + again * (loads[0] - 1), filter_ * loads[1], ofmap * (loads[2] - 1)
        cost = _energy_of_loads(words[0], words[1], words[2], weights)
        loaded = array[OPERAND] * (words[0] + words[1]) + 2 * array[PSUM] * words[2]
        moved = loaded if moved < 0 else min(moved, loaded)
        costs = cost if role == 0 else min(costs, cost)
    cycles = transfer_cycles(array, moved + array[OUTPUT] * ofmap)
    first = tile_words(nest, IFMAP, 0) + tile_words(nest, FILTER, 0)
    computing = computing_cycles(array, found, first, tile_words(nest, OFMAP, 1))
    return max(cycles, computing), _energy_of_tile(found, weights) + costs


@compiled
def visits(
    nest: Nest, layer: NDArray[np.int64], array: NDArray[np.int64], role: int
) -> tuple[int, int, int]:
    """How often ifmap, filter and ofmap are loaded in one role; the last less one are spills."""
    columns = layer[IMAGES] * nest.count[COLS]
    pixels, outs, ins = columns * nest.count[ROWS], nest.count[OUT], nest.count[IN]
    if role == 0:
        return 1, columns * _blocks(nest, layer, array, IFMAP, ROWS), ins
    if role == 1:
        return 1, pixels, _blocks(nest, layer, array, IFMAP, IN)
    if role == 2:
        return _blocks(nest, layer, array, FILTER, OUT), 1, ins
    if role == 3:
        return outs, 1, _blocks(nest, layer, array, FILTER, IN)
    if role == 4:
        return _blocks(nest, layer, array, OFMAP, OUT), pixels, 1
    return outs, columns * _blocks(nest, layer, array, OFMAP, ROWS), 1


@compiled
def moved_at_least(nest: Nest, layer: NDArray[np.int64], array: NDArray[np.int64]) -> int:
    """The least bytes that pass the DRAM channel for a tile in any loop nest; of (12) as well."""
    ifmap, filter_, ofmap = once(layer)
    again = ifmap_again(nest, layer, ifmap)
    moved = -1
    for role in range(6):
        loads = visits(nest, layer, array, role)
        operands = ifmap + again * (loads[0] - 1) + filter_ * loads[1]
        loaded = array[OPERAND] * operands + 2 * array[PSUM] * ofmap * (loads[2] - 1)
        moved = loaded if moved < 0 else min(moved, loaded)
    return int(moved + array[OUTPUT] * ofmap)


@compiled
def once(layer: NDArray[np.int64]) -> tuple[int, int, int]:
    """Words of ifmap, filter and ofmap."""
    height = input_span(layer[ROWS], layer[FILTER_ROWS], layer[STRIDE])
    width = input_span(layer[COLS], layer[FILTER_COLS], layer[STRIDE])
    images = layer[GROUPS] * layer[IMAGES]
    filter_ = layer[GROUPS] * layer[OUT] * layer[IN] * layer[FILTER_ROWS] * layer[FILTER_COLS]
    ofmap = images * layer[ROWS] * layer[COLS] * layer[OUT]
    return images * layer[IN] * height * width, filter_, ofmap


@compiled
def ifmap_again(nest: Nest, layer: NDArray[np.int64], ifmap: int) -> int:
    """The least words of the ifmap that come each time the array goes over all of it again.

    A window keeps what it shares with the tile before, wherever it moves; it moves by a tile of
    rows or of columns at least.
    """
    stride, filter_rows, filter_cols = layer[STRIDE], layer[FILTER_ROWS], layer[FILTER_COLS]
    if stride >= filter_rows and stride >= filter_cols:
        return ifmap
    down = nest.last[ROWS] * min(stride, filter_rows) * nest.tile_span[IFMAP, COLS, 1]
    right = nest.last[COLS] * min(stride, filter_cols) * nest.tile_span[IFMAP, ROWS, 1]
    moves = layer[IMAGES] * nest.count[ROWS] * nest.count[COLS] - 1
    return int(layer[GROUPS] * layer[IN] * moves * min(down, right))


@compiled
def _blocks(
    nest: Nest, layer: NDArray[np.int64], array: NDArray[np.int64], operand: int, dim: int
) -> int:
    """Into how many blocks a dimension falls at least: one holds no more than its buffer does."""
    if nest.count[dim] == 1:
        return 1
    each = array[PSUM] if operand == OFMAP else array[OPERAND]
    for other in range(6):
        if other != dim:
            each *= nest.tile_span[operand, other, 0]
    size = floor_div(array[IFMAP_BYTES + operand], each)
    if operand == IFMAP and dim == ROWS:  # lines of the ifmap, in rows of the ofmap
        if layer[STRIDE] < layer[FILTER_ROWS]:
            size = floor_div(size - layer[FILTER_ROWS], layer[STRIDE]) + 1
        else:
            size = floor_div(size, layer[FILTER_ROWS])
    if size >= layer[dim]:
        return 1  # all tiles, of which the last may be small
    return ceil_div(nest.count[dim], floor_div(size, nest.full[dim]))


@compiled
def tile_words(nest: Nest, operand: int, border: int) -> int:
    """Words of an operand's tile, or of its last one."""
    words = 1
    for dim in range(6):
        words *= nest.tile_span[operand, dim, border]
    return words


@compiled
def moved_bytes(array: NDArray[np.int64], found: NDArray[np.int64]) -> int:
    """Bytes that pass the DRAM channel."""
    moved = array[OPERAND] * (found[IFMAP_DRAM] + found[FILTER_DRAM])
    moved += array[PSUM] * (found[OFMAP_READ] + found[OFMAP_SPILLED])
    return int(moved + array[OUTPUT] * found[OFMAP_OUTPUT])


@compiled
def computing_cycles(
    array: NDArray[np.int64], found: NDArray[np.int64], first_words: int, last_words: int
) -> int:
    """The array's cycles with what overlaps none of them: the first load and the last store."""
    load = transfer_cycles(array, array[OPERAND] * first_words)
    return load + found[ARRAY] + transfer_cycles(array, array[OUTPUT] * last_words)
