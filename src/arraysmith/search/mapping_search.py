"""Branch and bound over the mappings of a layer, compiled.

Tiles are visited from large to small. What a tile costs on the array does not depend on the loops
around it, and what it must move at least is known in advance; so most tiles end there, and of most
others each loop nest ends at its own bounds. Only the rest is computed to the last cycle. Bounds
add up the same terms in the same order as the figures they bound, from counts that are no larger:
rounding keeps their order, so nothing is lost to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.compiling import compiled
from arraysmith.mapping import ORDERS
from arraysmith.simulation.physical.array import ceil_div
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
    count_array,
    count_dram,
)
from arraysmith.simulation.physical.nest import (
    BLOCKED,
    COLS,
    FILTER,
    FILTER_BYTES,
    FILTER_COLS,
    FILTER_ROWS,
    GROUPS,
    IFMAP,
    IFMAP_BYTES,
    IMAGES,
    IN,
    MICRO,
    OFMAP,
    OFMAP_BYTES,
    OPERAND,
    ORDER,
    OUT,
    OUTPUT,
    PSUM,
    ROWS,
    STRIDE,
    TILE_COLS,
    TILE_IN,
    TILE_OUT,
    TILE_ROWS,
    TILES_PER_BLOCK,
    Nest,
    input_span,
    lay_loops,
    lay_tile,
)
from arraysmith.simulation.physical.waiting import Kinds, transfer_cycles, waiting_cycles

if TYPE_CHECKING:
    from numpy.typing import NDArray

CYCLES, ENERGY, EDP, FRONT = range(4)
"""What is made least; `FRONT`: cycles and energy, neither before the other."""
MAX_FRONT = 4096
# Counters of a search.
VISITED, TILES, NESTS, FOUND = range(4)
_FIRST_TWO = np.array(
    [[{"M": ROWS, "N": OUT, "K": IN}[letter] for letter in order[:2]] for order in ORDERS]
)
"""The dimensions that can be blocked, for each order."""


@compiled
def energy_of(found: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    """Picojoules of a layer's counts; see `energy_weights`. (10) in docs/physical.md."""
    energy = weights[0] + weights[1] * found[ARRAY]
    energy += weights[2] * found[IFMAP_DRAM] + weights[3] * found[FILTER_DRAM]
    energy += weights[4] * found[OFMAP_READ] + weights[5] * found[OFMAP_SPILLED]
    energy += weights[6] * found[OFMAP_OUTPUT]
    energy += weights[7] * found[IFMAP_READS] + weights[8] * found[FILTER_READS]
    return float(energy + weights[9] * found[OFMAP_READS] + weights[10] * found[OFMAP_WRITES])


@compiled
def _worse(cycles: int, energy: float, objective: int, best: NDArray[np.float64], n: int) -> bool:
    """Whether a mapping with at least these figures cannot better what was found."""
    if objective == FRONT:
        for index in range(n):  # noqa: SIM110 (any() would build a generator)
            if best[index, 0] <= cycles and best[index, 1] <= energy:
                return True
        return False
    if n == 0:
        return False
    if objective == CYCLES:
        return cycles > best[0, 0] or (cycles == best[0, 0] and energy >= best[0, 1])
    if objective == ENERGY:
        return energy > best[0, 1] or (energy == best[0, 1] and cycles >= best[0, 0])
    product = cycles * energy
    kept = best[0, 0] * best[0, 1]
    return product > kept or (product == kept and cycles >= best[0, 0])


@compiled
def _keep(  # noqa: PLR0917
    cycles: int,
    energy: float,
    objective: int,
    best: NDArray[np.float64],
    mappings: NDArray[np.int64],
    mapping: NDArray[np.int64],
    n: int,
) -> int:
    """Put a mapping among the best, those it betters out; how many there are then."""
    kept = 0
    if objective == FRONT:
        for index in range(n):
            if best[index, 0] < cycles or best[index, 1] < energy:
                best[kept] = best[index]
                mappings[kept] = mappings[index]
                kept += 1
    kept = min(kept, MAX_FRONT - 1)
    best[kept, 0], best[kept, 1] = cycles, energy
    mappings[kept] = mapping
    return kept + 1


@compiled
def search(  # noqa: PLR0917
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    micro: int,
    sizes: tuple[NDArray[np.int64], ...],
    weights: NDArray[np.float64],
    objective: int,
    best: NDArray[np.float64],
    mappings: NDArray[np.int64],
    counters: NDArray[np.int64],
    bounds: NDArray[np.float64],
    nests: NDArray[np.void],
    all_kinds: NDArray[np.void],
) -> None:
    """Search all mappings of a layer on one microarchitecture, going on from what was found.

    Args:
        layer, array: vectors.
        micro: the microarchitecture.
        sizes: of tiles, ascending: rows, cols, out channels, in channels.
        weights: see `energy_weights`.
        objective: one of `CYCLES`, `ENERGY`, `EDP`, `FRONT`.
        best: (MAX_FRONT, 2) cycles and energy of what was found; changed.
        mappings: (MAX_FRONT, 8); changed.
        counters: of `VISITED` …, `FOUND` being how many of `best` are in use; changed.
        bounds: (2,) cycles and energy that no mapping is below; changed.
        nests, all_kinds: scratch memory.
    """
    nest, kinds = nests[0], all_kinds[0]
    rows, cols, outs, ins = sizes
    found = np.zeros(15, np.int64)
    mapping = np.zeros(8, np.int64)
    mapping[MICRO] = micro
    for i in range(len(ins) - 1, -1, -1):
        mapping[TILE_IN] = ins[i]
        for n in range(len(outs) - 1, -1, -1):
            mapping[TILE_OUT] = outs[n]
            for p in range(len(rows) - 1, -1, -1):
                mapping[TILE_ROWS] = rows[p]
                for q in range(len(cols) - 1, -1, -1):
                    mapping[TILE_COLS] = cols[q]
                    lay_tile(nest, layer, array, mapping)
                    if not _tile_fits(nest, array):
                        continue
                    counters[TILES] += 1
                    count_array(nest, layer, array, micro, found)
                    cycles, energy = _bound(nest, layer, array, found, weights)
                    bounds[0], bounds[1] = min(bounds[0], cycles), min(bounds[1], energy)
                    if _worse(cycles, energy, objective, best, counters[FOUND]):
                        continue
                    _search_loops(
                        nest,
                        kinds,
                        layer,
                        array,
                        mapping,
                        found,
                        weights,
                        objective,
                        best,
                        mappings,
                        counters,
                    )


@compiled
def _tile_fits(nest: Nest, array: NDArray[np.int64]) -> bool:
    """Whether each buffer holds the tile itself."""
    for operand in range(3):
        word = array[PSUM] if operand == OFMAP else array[OPERAND]
        if _tile_words(nest, operand, 0) * word > array[IFMAP_BYTES + operand]:
            return False
    return True


@compiled
def _bound(
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
    ifmap, filter_, ofmap = _once(layer)
    again = _ifmap_again(nest, layer, ifmap)
    found[OFMAP_OUTPUT] = ofmap
    cycles, energy = -1, 0.0
    pixels = layer[IMAGES] * nest.count[ROWS] * nest.count[COLS]
    tiles = (pixels, nest.count[OUT], nest.count[IN])
    ifmap_line = nest.tile_span[IFMAP, GROUPS, 0] * nest.tile_span[IFMAP, COLS, 0]
    ifmap_line *= nest.tile_span[IFMAP, IN, 0] * array[OPERAND]
    lines = array[IFMAP_BYTES] // ifmap_line
    if layer[STRIDE] < layer[FILTER_ROWS]:
        rows = (lines - layer[FILTER_ROWS]) // layer[STRIDE] + 1
    else:
        rows = lines // layer[FILTER_ROWS]
    columns = layer[IMAGES] * nest.count[COLS]
    free = (
        # Of the ifmap along M and K, of the filter along N and K, of the ofmap along N and M.
        columns * _blocks(nest, ROWS, rows),
        _blocks(nest, IN, _most(nest, array, IFMAP, IN)),
        _blocks(nest, OUT, _most(nest, array, FILTER, OUT)),
        _blocks(nest, IN, _most(nest, array, FILTER, IN)),
        _blocks(nest, OUT, _most(nest, array, OFMAP, OUT)),
        columns * _blocks(nest, ROWS, _most(nest, array, OFMAP, ROWS)),
    )
    for role in range(6):
        loads = (1, free[0], tiles[2])
        if role == 1:
            loads = (1, tiles[0], free[1])
        elif role == 2:
            loads = (free[2], 1, tiles[2])
        elif role == 3:
            loads = (tiles[1], 1, free[3])
        elif role == 4:
            loads = (free[4], tiles[0], 1)
        elif role == 5:
            loads = (tiles[1], free[5], 1)
        found[IFMAP_DRAM], found[FILTER_DRAM] = ifmap + again * (loads[0] - 1), filter_ * loads[1]
        found[OFMAP_READ] = found[OFMAP_SPILLED] = ofmap * (loads[2] - 1)
        at_least = transfer_cycles(array, _moved(array, found))
        costs = energy_of(found, weights)
        if cycles < 0 or at_least < cycles:
            cycles = at_least
        if role == 0 or costs < energy:
            energy = costs
    first = _tile_words(nest, IFMAP, 0) + _tile_words(nest, FILTER, 0)
    computing = _computing(array, found, first, _tile_words(nest, OFMAP, 1))
    return max(cycles, computing), energy


@compiled
def _once(layer: NDArray[np.int64]) -> tuple[int, int, int]:
    """Words of ifmap, filter and ofmap."""
    height = input_span(layer[ROWS], layer[FILTER_ROWS], layer[STRIDE])
    width = input_span(layer[COLS], layer[FILTER_COLS], layer[STRIDE])
    images = layer[GROUPS] * layer[IMAGES]
    filter_ = layer[GROUPS] * layer[OUT] * layer[IN] * layer[FILTER_ROWS] * layer[FILTER_COLS]
    ofmap = images * layer[ROWS] * layer[COLS] * layer[OUT]
    return images * layer[IN] * height * width, filter_, ofmap


@compiled
def _ifmap_again(nest: Nest, layer: NDArray[np.int64], ifmap: int) -> int:
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
def _most(nest: Nest, array: NDArray[np.int64], operand: int, dim: int) -> int:
    """How much of a dimension an operand's buffer holds, the tile being what it is in others."""
    word = array[PSUM] if operand == OFMAP else array[OPERAND]
    each = _tile_words(nest, operand, 0) // nest.full[dim] * word
    return int(array[IFMAP_BYTES + operand] // each)


@compiled
def _blocks(nest: Nest, dim: int, size: int) -> int:
    """Into how many blocks a dimension falls if a block has at most so many of it."""
    if size >= (nest.count[dim] - 1) * nest.full[dim] + nest.last[dim]:
        return 1  # all tiles, of which the last may be small
    return ceil_div(nest.count[dim], max(1, size // nest.full[dim]))


@compiled
def _tile_words(nest: Nest, operand: int, border: int) -> int:
    """Words of an operand's tile, or of its last one."""
    words = 1
    for dim in range(6):
        words *= nest.tile_span[operand, dim, border]
    return words


@compiled
def _moved(array: NDArray[np.int64], found: NDArray[np.int64]) -> int:
    """Bytes that pass the DRAM channel."""
    moved = array[OPERAND] * (found[IFMAP_DRAM] + found[FILTER_DRAM])
    moved += array[PSUM] * (found[OFMAP_READ] + found[OFMAP_SPILLED])
    return int(moved + array[OUTPUT] * found[OFMAP_OUTPUT])


@compiled
def _computing(
    array: NDArray[np.int64], found: NDArray[np.int64], first_words: int, last_words: int
) -> int:
    """The array's cycles with what overlaps none of them: the first load and the last store."""
    load = transfer_cycles(array, array[OPERAND] * first_words)
    return load + found[ARRAY] + transfer_cycles(array, array[OUTPUT] * last_words)


@compiled
def _search_loops(  # noqa: PLR0917
    nest: Nest,
    kinds: Kinds,
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    mapping: NDArray[np.int64],
    found: NDArray[np.int64],
    weights: NDArray[np.float64],
    objective: int,
    best: NDArray[np.float64],
    mappings: NDArray[np.int64],
    counters: NDArray[np.int64],
) -> None:
    """All loop nests around a tile: orders, and blocks of the first or second loop."""
    last = _tile_words(nest, OFMAP, 1)
    for order in range(6):
        mapping[ORDER] = order
        for choice in range(3):
            mapping[BLOCKED] = -1 if choice == 0 else _FIRST_TWO[order, choice - 1]
            tiles = 1 if choice == 0 else nest.count[mapping[BLOCKED]]
            for block in range(tiles, 0 if choice == 0 else 1, -1):
                if tiles % block:
                    continue
                mapping[TILES_PER_BLOCK] = block
                counters[NESTS] += 1
                lay_loops(nest, layer, mapping)
                if not _fits(nest, array):
                    continue
                count_dram(nest, found)
                energy = energy_of(found, weights)
                cycles = transfer_cycles(array, _moved(array, found))
                if _worse(cycles, energy, objective, best, counters[FOUND]):
                    continue  # smaller blocks may move less: the ifmap's halos
                first = nest.words[IFMAP] + nest.words[FILTER]
                cycles = max(cycles, _computing(array, found, first, last))
                if _worse(cycles, energy, objective, best, counters[FOUND]):
                    continue
                counters[VISITED] += 1
                cycles = found[ARRAY] + waiting_cycles(nest, kinds, layer, array)
                if not _worse(cycles, energy, objective, best, counters[FOUND]):
                    counters[FOUND] = _keep(
                        cycles, energy, objective, best, mappings, mapping, counters[FOUND]
                    )


@compiled
def _fits(nest: Nest, array: NDArray[np.int64]) -> bool:
    """Whether each buffer holds the resident tile."""
    return bool(
        nest.words[IFMAP] * array[OPERAND] <= array[IFMAP_BYTES]
        and nest.words[FILTER] * array[OPERAND] <= array[FILTER_BYTES]
        and nest.words[OFMAP] * array[PSUM] <= array[OFMAP_BYTES]
    )
