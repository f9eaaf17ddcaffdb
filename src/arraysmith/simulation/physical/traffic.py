"""What a mapping moves and how long the array works: sums that factor into products.

Numbers in comments are equations of `docs/physical.md`. Compiled code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb

from arraysmith.simulation.physical.array import (
    ceil_div,
    clocks_a_cycle,
    fold_cycles,
    is_output_stationary,
    is_weight_stationary,
    latency,
    on_array,
)
from arraysmith.simulation.physical.nest import (
    COLS,
    FILTER_COLS,
    FILTER_PORT,
    FILTER_ROWS,
    GROUPS,
    IFMAP_PORT,
    IMAGES,
    IN,
    MICRO,
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


@nb.njit(cache=True, nogil=True)
def step_cycles(  # noqa: PLR0917
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    micro: int,
    groups: int,
    pixels: int,
    out: int,
    in_: int,
) -> tuple[int, int]:
    """Cycles of one step on the array, and those of them in which operands stream. (6)."""
    k = in_ * layer[FILTER_ROWS] * layer[FILTER_COLS]
    S_R, S_C, T = on_array(micro, pixels, out, k)
    if groups > 1:
        S_R, S_C = groups * S_R, groups * S_C
    rows, cols = array[R], array[C]
    folds = ceil_div(S_R, rows) * ceil_div(S_C, cols)
    clocks = clocks_a_cycle(
        micro,
        min(rows, S_R),
        min(cols, S_C),
        array[OPERAND],
        array[PSUM],
        array[IFMAP_PORT],
        array[FILTER_PORT],
        array[OFMAP_PORT],
    )
    cycles = clocks * fold_cycles(micro, folds, T, rows, cols) + latency(micro)
    return cycles, clocks * folds * T


@nb.njit(cache=True, nogil=True)
def all_steps(
    nest: Nest, layer: NDArray[np.int64], array: NDArray[np.int64], mapping: NDArray[np.int64]
) -> tuple[int, int]:
    """Cycles of all steps on the array, and those in which operands stream.

    Tiles of a dimension are alike but for the last, so 2⁵ kinds of steps are all there are.
    """
    cycles, streaming = 0, 0
    for g in range(2):
        groups, g_tiles = _kind(nest, GROUPS, g)
        for n in range(2 if g_tiles else 0):
            out, n_tiles = _kind(nest, OUT, n)
            for k in range(2 if n_tiles else 0):
                in_, k_tiles = _kind(nest, IN, k)
                for p in range(2 if k_tiles else 0):
                    rows, p_tiles = _kind(nest, ROWS, p)
                    for q in range(2 if p_tiles else 0):
                        cols, q_tiles = _kind(nest, COLS, q)
                        if not q_tiles:
                            continue
                        steps = g_tiles * n_tiles * k_tiles * p_tiles * q_tiles
                        found = step_cycles(
                            layer, array, mapping[MICRO], groups, rows * cols, out, in_
                        )
                        cycles += steps * found[0]
                        streaming += steps * found[1]
    return cycles * nest.count[IMAGES], streaming * nest.count[IMAGES]


@nb.njit(cache=True, nogil=True)
def _kind(nest: Nest, dim: int, border: int) -> tuple[int, int]:
    """Size and number of a dimension's border tiles, or of its others; none where all are alike."""
    alike = nest.full[dim] == nest.last[dim]
    if border:
        return nest.last[dim], 0 if alike else 1
    return nest.full[dim], nest.count[dim] if alike else nest.count[dim] - 1


@nb.njit(cache=True, nogil=True)
def dram_words(nest: Nest, operand: int) -> tuple[int, int]:
    """Words of an operand, its halos counted as often as they are loaded, and loads of each. (7).

    A tile is loaded once for each trip of a loop that does not index it, if a loop inside does.
    """
    words = 1
    for dim in range(6):
        mask = nest.span_at_last[operand, dim]
        trips = 1
        for loop in range(nest.loops[0]):
            if mask >> loop & 1:
                trips *= nest.trips[loop]
        full, last = nest.span[operand, dim, 0], nest.span[operand, dim, 1]
        words *= (trips - 1) * full + last
    loads = 1
    for loop in range(nest.loops[0]):
        indexed = nest.indexed[operand]
        if not indexed >> loop & 1 and indexed >> loop:
            loads *= nest.trips[loop]
    return words, loads


@nb.njit(cache=True, nogil=True)
def array_accesses(
    nest: Nest, layer: NDArray[np.int64], array: NDArray[np.int64], mapping: NDArray[np.int64]
) -> tuple[int, int, int]:
    """Words the array reads of ifmap and filter, and of partial sums it writes. (8)."""
    micro = mapping[MICRO]
    groups, images = layer[GROUPS], layer[IMAGES]
    M = images * layer[ROWS] * layer[COLS]
    N = layer[OUT]
    taps = layer[FILTER_ROWS] * layer[FILTER_COLS]
    K = layer[IN] * taps
    m_tiles = images * nest.count[ROWS] * nest.count[COLS]
    if is_output_stationary(micro):
        return (
            groups * M * K * _folds(nest, OUT, 1, array[C]),
            groups * K * N * images * _pixel_folds(nest, array[R]),
            groups * M * N * nest.count[IN],
        )
    along_k = _folds(nest, IN, taps, array[R])
    if is_weight_stationary(micro):
        return (
            groups * M * K * _folds(nest, OUT, 1, array[C]),
            groups * K * N * m_tiles,
            groups * M * N * along_k,
        )
    return (
        groups * M * K * nest.count[OUT],
        groups * K * N * images * _pixel_folds(nest, array[C]),
        groups * M * N * along_k,
    )


@nb.njit(cache=True, nogil=True)
def _folds(nest: Nest, dim: int, words: int, lanes: int) -> int:
    """Folds of all tiles along a dimension with so many words each."""
    full = (nest.count[dim] - 1) * ceil_div(nest.full[dim] * words, lanes)
    return full + ceil_div(nest.last[dim] * words, lanes)


@nb.njit(cache=True, nogil=True)
def _pixel_folds(nest: Nest, lanes: int) -> int:
    """Folds of all tiles of an image, whose pixels are rows times columns."""
    folds = 0
    for p in range(2):
        rows, p_tiles = _kind(nest, ROWS, p)
        for q in range(2):
            cols, q_tiles = _kind(nest, COLS, q)
            folds += p_tiles * q_tiles * ceil_div(rows * cols, lanes)
    return folds
