"""The least cycles of a layer for a whole grid of buffer sizes at once, compiled.

What a mapping takes in cycles does not depend on the sizes of the buffers; only whether it fits
does. So one pass over tiles and loop nests serves all sizes: a mapping counts wherever it fits, and
a tile is left out when every size that holds it has something as good. `docs/search.md` derives
the bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.compiling import compiled
from arraysmith.search.buffer_classes import class_of, classes, keep, renew
from arraysmith.search.mapping_bounds import (
    moved_at_least,
)
from arraysmith.search.nest_bounds import (
    tile_ends,
)
from arraysmith.search.nest_search import BOUNDED, PAIRS, TILES, search_loops
from arraysmith.search.tile_factors import (
    END,
    FOLD,
    FULL,
    HEIGHT,
    INPUTS,
    WIDTH,
    channel_factors,
    least_within,
    pixel_factors,
)
from arraysmith.simulation.physical.array import floor_div
from arraysmith.simulation.physical.closed_form import ARRAY, count_array
from arraysmith.simulation.physical.nest import (
    BLOCKED,
    COLS,
    FILTER,
    FILTER_COLS,
    FILTER_ROWS,
    GROUPS,
    IFMAP,
    IFMAP_BYTES,
    IMAGES,
    IN,
    MICRO,
    OFMAP,
    OPERAND,
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
    lay_tile,
)
from arraysmith.simulation.physical.waiting import Kinds, transfer_cycles, waiting_cycles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.search.buffer_classes import Sizes

NONE = 2**62
"""Cycles where no mapping was found."""


@compiled
def search_grid(  # noqa: PLR0917
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    micro: int,
    sizes: tuple[NDArray[np.int64], ...],
    buffers: Sizes,
    best: NDArray[np.int64],
    mappings: NDArray[np.int64],
    starts: NDArray[np.int64],
    nests: NDArray[np.void],
    all_kinds: NDArray[np.void],
    counters: NDArray[np.int64],
) -> None:
    """Find mappings of fewer cycles than `best`, for each size of the buffers.

    Args:
        layer, array: vectors; the array's buffers do not matter.
        micro: the microarchitecture.
        sizes: of tiles, ascending: rows, cols, out channels, in channels.
        buffers: usable bytes of ifmap, filter and ofmap buffer, each ascending.
        best: (ifmap, filter, ofmap buffers) cycles that a mapping must be below, 0 where none is
            wanted; replaced by the least there are, where there are such.
        mappings: (ifmap, filter, ofmap buffers, 8) changed with `best`.
        starts: (any, 8) mappings of the layer to begin near.
        nests, all_kinds: scratch memory.
        counters: of `PAIRS` …; changed.
    """
    nest, kinds = nests[0], all_kinds[0]
    rows, cols, outs, ins = sizes
    lay_dimension(nest, layer, GROUPS, groups_at_once(layer, array, micro))
    lay_dimension(nest, layer, IMAGES, 1)
    pixels = pixel_factors(nest, layer, array, micro, rows, cols)
    out_table = channel_factors(nest, layer, array, micro, OUT, outs)
    in_table = channel_factors(nest, layer, array, micro, IN, ins)
    need = best.copy()
    renew(best, need)
    found = np.zeros(15, np.int64)
    for start in starts:
        _try(nest, kinds, layer, array, start, sizes, found, buffers, best, need, mappings)
    lay_dimension(nest, layer, GROUPS, groups_at_once(layer, array, micro))
    _search_tiles(
        nest,
        kinds,
        layer,
        array,
        micro,
        (pixels, out_table, in_table),
        found,
        buffers,
        best,
        need,
        mappings,
        counters,
    )


@compiled
def _search_tiles(  # noqa: PLR0917
    nest: Nest,
    kinds: Kinds,
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    micro: int,
    tables: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    found: NDArray[np.int64],
    buffers: Sizes,
    best: NDArray[np.int64],
    need: NDArray[np.int64],
    mappings: NDArray[np.int64],
    counters: NDArray[np.int64],
) -> None:
    """All pairs of channels, and of those that are left all tiles of pixels."""
    pixels, out_table, in_table = tables
    word = array[OPERAND] * nest.full[GROUPS]
    input_limits = _limits(buffers[IFMAP], word, in_table)
    pixel_limits = _limits(buffers[OFMAP], array[PSUM] * nest.full[GROUPS], out_table)
    order = np.argsort(pixels[:, FULL])
    by_pixels = least_within(pixels, order, FULL, pixel_limits)
    by_inputs = least_within(pixels, np.argsort(pixels[:, INPUTS]), INPUTS, input_limits)
    packs = nest.count[GROUPS] * layer[IMAGES]
    word *= layer[FILTER_ROWS] * layer[FILTER_COLS]
    mapping = np.zeros(8, np.int64)
    mapping[MICRO] = micro
    work = array.copy()
    for i in range(len(in_table) - 1, -1, -1):
        for n in range(len(out_table) - 1, -1, -1):
            f = class_of(buffers[FILTER], word * in_table[i, FULL] * out_table[n, FULL])
            if f == len(buffers[FILTER]):
                continue
            counters[PAIRS] += 1
            fold = packs * in_table[i, FOLD] * out_table[n, FOLD]
            end = packs * in_table[i, END] * out_table[n, END]
            if not _open_pair(fold, end, by_inputs[i], by_pixels[n], need, f):
                continue
            mapping[TILE_OUT], mapping[TILE_IN] = out_table[n, FULL], in_table[i, FULL]
            lay_dimension(nest, layer, OUT, out_table[n, FULL])
            lay_dimension(nest, layer, IN, in_table[i, FULL])
            for place in range(len(order) - 1, -1, -1):
                tile = pixels[order[place]]
                cycles = fold * tile[FOLD] + end * tile[END]
                if cycles >= need[0, f, 0]:
                    continue
                a = class_of(input_limits[i], tile[INPUTS])
                c = class_of(pixel_limits[n], tile[FULL])
                if a == need.shape[0] or c == need.shape[2] or cycles >= need[a, f, c]:
                    continue
                counters[TILES] += 1
                mapping[TILE_ROWS], mapping[TILE_COLS] = tile[HEIGHT], tile[WIDTH]
                lay_dimension(nest, layer, ROWS, tile[HEIGHT])
                lay_dimension(nest, layer, COLS, tile[WIDTH])
                cycles += tile_ends(nest, array)
                if cycles >= need[a, f, c]:
                    continue
                counters[BOUNDED] += 1
                if _open_tile(nest, layer, work, buffers, best, cycles, a, f, c):
                    count_array(nest, layer, array, micro, found)
                    lay_steps(nest, micro)
                    search_loops(
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
                        need[a, f, c],
                        counters,
                    )


@compiled
def _limits(buffer: NDArray[np.int64], word: int, table: NDArray[np.int64]) -> NDArray[np.int64]:
    """(sizes, buffers): words a channel of the tile that each size of a buffer holds."""
    limits = np.empty((len(table), len(buffer)), np.int64)
    for tile in range(len(table)):
        for at in range(len(buffer)):
            limits[tile, at] = floor_div(buffer[at], word * table[tile, FULL])
    return limits


@compiled
def _open_pair(  # noqa: PLR0917
    fold: int,
    end: int,
    by_inputs: NDArray[np.int64],
    by_pixels: NDArray[np.int64],
    need: NDArray[np.int64],
    f: int,
) -> bool:
    """Whether some tile of pixels may better a size of the buffers, by the array's cycles."""
    for a in range(need.shape[0]):
        if by_inputs[a, 0] < 0:
            continue
        for c in range(need.shape[2]):
            if by_pixels[c, 0] < 0:
                continue
            least = fold * max(by_inputs[a, 0], by_pixels[c, 0])
            least += end * max(by_inputs[a, 1], by_pixels[c, 1])
            if least < need[a, f, c]:
                return True
    return False


@compiled
def _open_tile(  # noqa: PLR0917
    nest: Nest,
    layer: NDArray[np.int64],
    work: NDArray[np.int64],
    buffers: Sizes,
    best: NDArray[np.int64],
    cycles: int,
    a: int,
    f: int,
    c: int,
) -> bool:
    """Whether a tile may better a size of the buffers, by what the channel moves at least.

    The largest buffers it may better decide in how few blocks what stays can lie.
    """
    largest_a = largest_f = largest_c = -1
    for x in range(a, best.shape[0]):
        for y in range(f, best.shape[1]):
            for z in range(c, best.shape[2]):
                if best[x, y, z] > cycles:
                    largest_a, largest_f = max(largest_a, x), max(largest_f, y)
                    largest_c = max(largest_c, z)
    if largest_a < 0:
        return False
    work[IFMAP_BYTES + IFMAP] = buffers[IFMAP][largest_a]
    work[IFMAP_BYTES + FILTER] = buffers[FILTER][largest_f]
    work[IFMAP_BYTES + OFMAP] = buffers[OFMAP][largest_c]
    least = transfer_cycles(work, moved_at_least(nest, layer, work))
    for x in range(a, largest_a + 1):
        for y in range(f, largest_f + 1):
            for z in range(c, largest_c + 1):
                if best[x, y, z] > least and best[x, y, z] > cycles:
                    return True
    return False


@compiled
def _try(  # noqa: PLR0917
    nest: Nest,
    kinds: Kinds,
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    start: NDArray[np.int64],
    sizes: tuple[NDArray[np.int64], ...],
    found: NDArray[np.int64],
    buffers: Sizes,
    best: NDArray[np.int64],
    need: NDArray[np.int64],
    mappings: NDArray[np.int64],
) -> None:
    """Compute the mapping of the space next to one to the last cycle; keep it where it is better.

    What is next has as many tiles or fewer, and blocks of as many tiles as divide them.
    """
    mapping = start.copy()
    for dim in range(4):
        mapping[TILE_ROWS + dim] = _nearest(sizes[dim], start[TILE_ROWS + dim])
    lay_tile(nest, layer, array, mapping)
    if mapping[BLOCKED] >= 0:
        tiles = nest.count[mapping[BLOCKED]]
        while tiles % mapping[TILES_PER_BLOCK]:
            mapping[TILES_PER_BLOCK] -= 1
        if mapping[TILES_PER_BLOCK] == 1:
            mapping[BLOCKED] = -1
    lay_loops(nest, layer, mapping)
    at = classes(nest, array, buffers)
    if at[0] < best.shape[0] and at[1] < best.shape[1] and at[2] < best.shape[2]:
        count_array(nest, layer, array, mapping[MICRO], found)
        cycles = found[ARRAY] + waiting_cycles(nest, kinds, layer, array)
        if cycles < need[at]:
            keep(cycles, mapping, at, best, need, mappings)


@compiled
def _nearest(sizes: NDArray[np.int64], size: int) -> int:
    """The largest of ascending sizes that is no larger."""
    at = len(sizes) - 1
    while at > 0 and sizes[at] > size:
        at -= 1
    return int(sizes[at])
