"""What a mapping moves and how long the array works: sums that factor into products.

Numbers in comments are equations of `docs/physical.md`. Compiled code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraysmith.compiling import compiled
from arraysmith.simulation.physical.array import (
    ceil_div,
    clocks_a_cycle,
    fold_terms,
    is_output_stationary,
    is_weight_stationary,
    on_array,
)
from arraysmith.simulation.physical.nest import (
    COLS,
    FILTER_COLS,
    FILTER_PORT,
    FILTER_ROWS,
    GROUPS,
    IFMAP,
    IFMAP_PORT,
    IMAGES,
    IN,
    OFMAP_PORT,
    OPERAND,
    OUT,
    PSUM,
    ROWS,
    C,
    Nest,
    R,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@compiled
def clocks_of(array: NDArray[np.int64], micro: int, rows: int, cols: int) -> int:
    """Clocks a cycle with so many lanes in use."""
    return clocks_a_cycle(
        micro,
        rows,
        cols,
        array[OPERAND],
        array[PSUM],
        array[IFMAP_PORT],
        array[FILTER_PORT],
        array[OFMAP_PORT],
    )


@compiled
def step_cycles(  # noqa: PLR0917
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    micro: int,
    groups: int,
    pixels: int,
    out: int,
    in_: int,
) -> tuple[int, int]:
    """Cycles of one step on the array, and those of them in which operands stream. (3)."""
    k = in_ * layer[FILTER_ROWS] * layer[FILTER_COLS]
    S_R, S_C, T = on_array(micro, pixels, out, k)
    S_R, S_C = groups * S_R, groups * S_C
    rows, cols = array[R], array[C]
    folds = ceil_div(S_R, rows) * ceil_div(S_C, cols)
    a, b = fold_terms(micro, T, rows, cols)
    clocks = clocks_of(array, micro, min(rows, S_R), min(cols, S_C))
    # The constant of the RTL, the 1 or 2 in b, is no cycle in which lanes are fed.
    constant = 1 if is_output_stationary(micro) else 2
    return clocks * (folds * a + b - constant) + constant, clocks * folds * T


@compiled
def all_steps(
    nest: Nest, layer: NDArray[np.int64], array: NDArray[np.int64], micro: int
) -> tuple[int, int, int, int, int]:
    """What all steps come to on the array, whatever the loops around the tile are.

    Returns:
        Cycles, those in which operands stream (3), words the array reads of ifmap and filter, and
        partial sums it writes (8).
    """
    rows, cols = array[R], array[C]
    taps = layer[FILTER_ROWS] * layer[FILTER_COLS]
    M, N, K = layer[ROWS] * layer[COLS], layer[OUT], layer[IN] * taps
    if is_output_stationary(micro):
        row_folds, col_folds = pixel_folds(nest, rows), folds_along(nest, OUT, 1, cols)
        a, b, streamed = stream_channels(nest, IN, taps, micro, rows, cols)
        tiles = nest.count[OUT] * nest.count[ROWS] * nest.count[COLS]
        moved = M * K * col_folds, K * N * row_folds, M * N * nest.count[IN]
    elif is_weight_stationary(micro):
        row_folds, col_folds = folds_along(nest, IN, taps, rows), folds_along(nest, OUT, 1, cols)
        a, b, streamed = stream_pixels(nest, micro, rows, cols)
        tiles = nest.count[OUT] * nest.count[IN]
        moved = M * K * col_folds, K * N * nest.count[ROWS] * nest.count[COLS], M * N * row_folds
    else:
        row_folds, col_folds = folds_along(nest, IN, taps, rows), pixel_folds(nest, cols)
        a, b, streamed = stream_channels(nest, OUT, 1, micro, rows, cols)
        tiles = nest.count[IN] * nest.count[ROWS] * nest.count[COLS]
        moved = M * K * nest.count[OUT], K * N * col_folds, M * N * row_folds
    # Groups side by side share their folds and tiles, not their words.
    images = layer[IMAGES]
    packs, groups = nest.count[GROUPS] * images, layer[GROUPS] * images
    folds = row_folds * col_folds
    cycles, streaming = packs * (folds * a + tiles * b), packs * folds * streamed
    if clocks_of(array, micro, rows, cols) > 1:
        cycles, streaming = _held_steps(nest, layer, array, micro)
    return cycles, streaming, groups * moved[0], groups * moved[1], groups * moved[2]


@compiled
def stream_channels(  # noqa: PLR0917
    nest: Nest, dim: int, words: int, micro: int, rows: int, cols: int
) -> tuple[int, int, int]:
    """Sums of a, b and T of (2) over the tiles of a streamed dimension."""
    full, last = nest.full[dim] * words, nest.last[dim] * words
    a, b = fold_terms(micro, full, rows, cols)
    a_last, b_last = fold_terms(micro, last, rows, cols)
    times = nest.count[dim] - 1
    return times * a + a_last, times * b + b_last, times * full + last


@compiled
def stream_pixels(nest: Nest, micro: int, rows: int, cols: int) -> tuple[int, int, int]:
    """The same over the tiles of an image."""
    a, b, streamed = 0, 0, 0
    for p in range(2):
        height, p_tiles = kind(nest, ROWS, p)
        for q in range(2 if p_tiles else 0):
            width, q_tiles = kind(nest, COLS, q)
            if q_tiles:
                terms = fold_terms(micro, height * width, rows, cols)
                a += p_tiles * q_tiles * terms[0]
                b += p_tiles * q_tiles * terms[1]
                streamed += p_tiles * q_tiles * height * width
    return a, b, streamed


@compiled
def _held_steps(
    nest: Nest, layer: NDArray[np.int64], array: NDArray[np.int64], micro: int
) -> tuple[int, int]:
    """`all_steps` where ports may hold the array: over the 2⁵ kinds of steps there are."""
    cycles, streaming = 0, 0
    for kinds in range(32):
        groups, g_tiles = kind(nest, GROUPS, kinds & 1)
        out, n_tiles = kind(nest, OUT, kinds >> 1 & 1)
        in_, k_tiles = kind(nest, IN, kinds >> 2 & 1)
        rows, p_tiles = kind(nest, ROWS, kinds >> 3 & 1)
        cols, q_tiles = kind(nest, COLS, kinds >> 4 & 1)
        steps = g_tiles * n_tiles * k_tiles * p_tiles * q_tiles * nest.count[IMAGES]
        if steps:
            found = step_cycles(layer, array, micro, groups, rows * cols, out, in_)
            cycles += steps * found[0]
            streaming += steps * found[1]
    return cycles, streaming


@compiled
def kind(nest: Nest, dim: int, border: int) -> tuple[int, int]:
    """Size and number of a dimension's border tiles, or of its others; none where all are alike."""
    alike = nest.full[dim] == nest.last[dim]
    if border:
        return nest.last[dim], 0 if alike else 1
    return nest.full[dim], nest.count[dim] if alike else nest.count[dim] - 1


@compiled
def dram_words(nest: Nest, operand: int) -> tuple[int, int]:
    """Words of an operand, its halos counted as often as they are loaded, and loads of each. (7).

    A tile is loaded once for each trip of a loop that does not index it, if a loop inside does.
    """
    words = 1
    for dim in range(6):
        full, last = nest.span[operand, dim, 0], nest.span[operand, dim, 1]
        mask = nest.span_at_last[operand, dim]
        trips, loop = 1, 0
        while mask:
            if mask & 1:
                trips *= nest.trips[loop]
            mask >>= 1
            loop += 1
        words *= (trips - 1) * full + last
    loads, indexed = 1, nest.indexed[operand]
    for loop in range(nest.loops[0]):
        if not indexed >> loop & 1 and indexed >> loop:
            loads *= nest.trips[loop]
    return words, loads


@compiled
def ifmap_words_never_moved(nest: Nest) -> int:
    """Words that were in the ifmap's buffer already when a tile was loaded, over all loads. (7)."""
    total = 0
    for loop in range(nest.loops[0]):
        if not nest.indexed[IFMAP] >> loop or not nest.stays[loop, 0] or not nest.stays[loop, 1]:
            continue
        words = nest.trips[loop] - 1
        for outer in range(loop):
            if not nest.indexed[IFMAP] >> outer & 1:
                words *= nest.trips[outer]
        for dim in range(6):
            lines = nest.stays[loop, dim - ROWS] if dim in (ROWS, COLS) else -1
            trips = 1
            for other in range(nest.loops[0] if lines < 0 else loop):
                if nest.span_at_last[IFMAP, dim] >> other & 1:
                    trips *= nest.trips[other]
            full, last = nest.span[IFMAP, dim, 0], nest.span[IFMAP, dim, 1]
            words *= (trips - 1) * full + last if lines < 0 else trips * lines
        total += words
    return total


@compiled
def folds_along(nest: Nest, dim: int, words: int, lanes: int) -> int:
    """Folds of all tiles along a dimension with so many words each."""
    full = ceil_div(nest.full[dim] * words, lanes)
    if nest.full[dim] == nest.last[dim]:
        return nest.count[dim] * full
    return (nest.count[dim] - 1) * full + ceil_div(nest.last[dim] * words, lanes)


@compiled
def pixel_folds(nest: Nest, lanes: int) -> int:
    """Folds of all tiles of an image, whose pixels are rows times columns."""
    folds = 0
    for p in range(2):
        rows, p_tiles = kind(nest, ROWS, p)
        for q in range(2 if p_tiles else 0):
            cols, q_tiles = kind(nest, COLS, q)
            if q_tiles:
                folds += p_tiles * q_tiles * ceil_div(rows * cols, lanes)
    return folds
