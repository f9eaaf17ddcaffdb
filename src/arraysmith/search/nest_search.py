"""All loop nests around one tile, for all sizes of the buffers at once; compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraysmith.compiling import compiled
from arraysmith.search.buffer_classes import classes, keep
from arraysmith.search.mapping_bounds import (
    ifmap_again,
    moved_bytes,
    once,
)
from arraysmith.search.mapping_search import FIRST_TWO
from arraysmith.search.nest_bounds import (
    longest_step,
    nest_ends,
    seen_before,
    visits_of,
    waiting_at_least,
)
from arraysmith.simulation.physical.closed_form import ARRAY, count_dram
from arraysmith.simulation.physical.nest import (
    BLOCKED,
    COLS,
    IMAGES,
    IN,
    OPERAND,
    ORDER,
    OUT,
    OUTPUT,
    PSUM,
    ROWS,
    TILES_PER_BLOCK,
    Nest,
    lay_loops,
)
from arraysmith.simulation.physical.waiting import Kinds, transfer_cycles, waiting_cycles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from arraysmith.search.buffer_classes import Sizes

COUNTERS = PAIRS, TILES, BOUNDED, NESTS, VISITED = range(5)


@compiled
def search_loops(  # noqa: PLR0917
    nest: Nest,
    kinds: Kinds,
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    mapping: NDArray[np.int64],
    found: NDArray[np.int64],
    buffers: Sizes,
    best: NDArray[np.int64],
    need: NDArray[np.int64],
    mappings: NDArray[np.int64],
    most: int,
    counters: NDArray[np.int64],
) -> None:
    """All loop nests around a tile, once each: orders, blocks of the first or second loop."""
    trips = layer[IMAGES] * nest.count[ROWS] * nest.count[COLS], nest.count[OUT], nest.count[IN]
    active = int(trips[0] > 1) + 2 * int(trips[1] > 1) + 4 * int(trips[2] > 1)
    words = once(layer)
    again = ifmap_again(nest, layer, words[0])
    longest = longest_step(nest, layer, array)
    for order in range(6):
        mapping[ORDER] = order
        for choice in range(3):
            if seen_before(order, choice, active):
                continue
            mapping[BLOCKED] = -1 if choice == 0 else FIRST_TWO[order, choice - 1]
            tiles = 1 if choice == 0 else nest.count[mapping[BLOCKED]]
            for block in range(tiles, 0 if choice == 0 else 1, -1):
                if tiles % block:
                    continue
                counters[NESTS] += 1
                visits = visits_of(order, choice, block, trips, active)
                moved = array[OPERAND] * (words[0] + again * (visits[0] - 1) + words[1] * visits[1])
                moved += 2 * array[PSUM] * words[2] * (visits[2] - 1) + array[OUTPUT] * words[2]
                if transfer_cycles(array, moved) >= most:
                    break  # smaller blocks are visited more often
                mapping[TILES_PER_BLOCK] = block
                lay_loops(nest, layer, mapping)
                _search_nest(
                    nest,
                    kinds,
                    layer,
                    array,
                    mapping,
                    found,
                    buffers,
                    best,
                    need,
                    mappings,
                    longest,
                    counters,
                )


@compiled
def _search_nest(  # noqa: PLR0917
    nest: Nest,
    kinds: Kinds,
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    mapping: NDArray[np.int64],
    found: NDArray[np.int64],
    buffers: Sizes,
    best: NDArray[np.int64],
    need: NDArray[np.int64],
    mappings: NDArray[np.int64],
    longest: int,
    counters: NDArray[np.int64],
) -> None:
    """One nest, which is laid: bounded, computed to the last cycle if need be, and kept."""
    at = classes(nest, array, buffers)
    if at[0] == best.shape[0] or at[1] == best.shape[1] or at[2] == best.shape[2]:
        return
    least = found[ARRAY] + nest_ends(nest, array)
    if least >= need[at]:
        return
    count_dram(nest, found)
    if transfer_cycles(array, moved_bytes(array, found)) >= need[at]:
        return
    if least + waiting_at_least(nest, array, found, longest) >= need[at]:
        return
    counters[VISITED] += 1
    cycles = found[ARRAY] + waiting_cycles(nest, kinds, layer, array)
    if cycles < need[at]:
        keep(cycles, mapping, at, best, need, mappings)
