"""Branch and bound over the mappings of a layer, compiled.

Tiles are visited from large to small. What a tile costs on the array does not depend on the loops
around it, and what it must move at least is known in advance; so most tiles end there, and of most
others each loop nest ends at its own bounds (`mapping_bounds`). Only the rest is computed to the
last cycle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.compiling import compiled
from arraysmith.mapping import ORDERS
from arraysmith.search.mapping_bounds import (
    bound,
    computing_cycles,
    energy_of,
    moved_bytes,
    tile_words,
)
from arraysmith.simulation.physical.closed_form import (
    ARRAY,
    count_array,
    count_dram,
)
from arraysmith.simulation.physical.nest import (
    BLOCKED,
    COLS,
    FILTER,
    FILTER_BYTES,
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
    PSUM,
    ROWS,
    TILE_COLS,
    TILE_IN,
    TILE_OUT,
    TILE_ROWS,
    TILES_PER_BLOCK,
    Nest,
    groups_at_once,
    lay_dimension,
    lay_loops,
    lay_steps,
)
from arraysmith.simulation.physical.waiting import Kinds, transfer_cycles, waiting_cycles

if TYPE_CHECKING:
    from numpy.typing import NDArray

CYCLES, ENERGY, EDP, FRONT = range(4)
"""What is made least; `FRONT`: cycles and energy, neither before the other."""
MAX_FRONT = 4096
# Counters of a search.
VISITED, TILES, NESTS, FOUND = range(4)
FIRST_TWO = np.array(
    [[{"M": ROWS, "N": OUT, "K": IN}[letter] for letter in order[:2]] for order in ORDERS]
)
"""The dimensions that can be blocked, for each order."""


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
    lay_dimension(nest, layer, GROUPS, groups_at_once(layer, array, micro))
    for dim in (IMAGES, ROWS, COLS):
        lay_dimension(nest, layer, dim, 1)
    for i in range(len(ins) - 1, -1, -1):
        mapping[TILE_IN] = ins[i]
        lay_dimension(nest, layer, IN, ins[i])
        for n in range(len(outs) - 1, -1, -1):
            mapping[TILE_OUT] = outs[n]
            lay_dimension(nest, layer, OUT, outs[n])
            if not _tile_fits(nest, array, FILTER):
                continue
            for p in range(len(rows) - 1, -1, -1):
                mapping[TILE_ROWS] = rows[p]
                lay_dimension(nest, layer, ROWS, rows[p])
                for q in range(len(cols) - 1, -1, -1):
                    mapping[TILE_COLS] = cols[q]
                    lay_dimension(nest, layer, COLS, cols[q])
                    if not (_tile_fits(nest, array, OFMAP) and _tile_fits(nest, array, IFMAP)):
                        continue
                    counters[TILES] += 1
                    count_array(nest, layer, array, micro, found)
                    cycles, energy = bound(nest, layer, array, found, weights)
                    bounds[0], bounds[1] = min(bounds[0], cycles), min(bounds[1], energy)
                    if _worse(cycles, energy, objective, best, counters[FOUND]):
                        continue
                    lay_steps(nest, micro)
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
def _tile_fits(nest: Nest, array: NDArray[np.int64], operand: int) -> bool:
    """Whether a buffer holds the tile itself."""
    word = array[PSUM] if operand == OFMAP else array[OPERAND]
    return bool(tile_words(nest, operand, 0) * word <= array[IFMAP_BYTES + operand])


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
    last = tile_words(nest, OFMAP, 1)
    for order in range(6):
        mapping[ORDER] = order
        for choice in range(3):
            mapping[BLOCKED] = -1 if choice == 0 else FIRST_TWO[order, choice - 1]
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
                cycles = transfer_cycles(array, moved_bytes(array, found))
                if _worse(cycles, energy, objective, best, counters[FOUND]):
                    continue  # smaller blocks may move less: the ifmap's halos
                first = nest.words[IFMAP] + nest.words[FILTER]
                cycles = max(cycles, computing_cycles(array, found, first, last))
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
