"""What each size of a tile adds to the cycles of the array, dimension by dimension, compiled.

The array's cycles of all steps are a sum of two products (docs/search.md, (2)):

    cycles = packs · (fold_in · fold_out · fold_pixels + end_in · end_out · end_pixels)

so three short tables say what millions of tiles take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.compiling import compiled
from arraysmith.simulation.physical.array import is_output_stationary, is_weight_stationary
from arraysmith.simulation.physical.nest import (
    COLS,
    FILTER_COLS,
    FILTER_ROWS,
    IN,
    OUT,
    ROWS,
    STRIDE,
    C,
    Nest,
    R,
    input_span,
    lay_dimension,
)
from arraysmith.simulation.physical.traffic import (
    folds_along,
    pixel_folds,
    stream_channels,
    stream_pixels,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Columns of a table.
FOLD, END, FULL, LAST, INPUTS, HEIGHT, WIDTH = range(7)


@compiled
def channel_factors(  # noqa: PLR0917
    nest: Nest,
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    micro: int,
    dim: int,
    sizes: NDArray[np.int64],
) -> NDArray[np.int64]:
    """(sizes, 4): `FOLD`, `END`, `FULL`, `LAST` of the tiles of a dimension of channels."""
    taps = layer[FILTER_ROWS] * layer[FILTER_COLS] if dim == IN else 1
    lanes = array[R] if dim == IN else array[C]
    if is_output_stationary(micro):
        streams = dim == IN
    else:
        streams = dim == OUT and not is_weight_stationary(micro)
    table = np.empty((len(sizes), 4), np.int64)
    for index, size in enumerate(sizes):
        lay_dimension(nest, layer, dim, size)
        if streams:
            a, b, _ = stream_channels(nest, dim, taps, micro, array[R], array[C])
            table[index, FOLD], table[index, END] = a, b
        else:
            table[index, FOLD] = folds_along(nest, dim, taps, lanes)
            table[index, END] = nest.count[dim]
        table[index, FULL], table[index, LAST] = nest.full[dim], nest.last[dim]
    return table


@compiled
def pixel_factors(  # noqa: PLR0917
    nest: Nest,
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
    micro: int,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
) -> NDArray[np.int64]:
    """(rows · cols, 7): the same of tiles of pixels, the words of the ifmap below, and sizes."""
    table = np.empty((len(rows) * len(cols), 7), np.int64)
    index = 0
    for height in rows:
        lay_dimension(nest, layer, ROWS, height)
        lines = input_span(height, layer[FILTER_ROWS], layer[STRIDE])
        for width in cols:
            lay_dimension(nest, layer, COLS, width)
            if is_weight_stationary(micro):
                a, b, _ = stream_pixels(nest, micro, array[R], array[C])
                table[index, FOLD], table[index, END] = a, b
            else:
                lanes = array[R] if is_output_stationary(micro) else array[C]
                table[index, FOLD] = pixel_folds(nest, lanes)
                table[index, END] = nest.count[ROWS] * nest.count[COLS]
            table[index, FULL] = height * width
            table[index, LAST] = nest.last[ROWS] * nest.last[COLS]
            table[index, INPUTS] = lines * input_span(width, layer[FILTER_COLS], layer[STRIDE])
            table[index, HEIGHT], table[index, WIDTH] = height, width
            index += 1
    return table


@compiled
def least_within(
    table: NDArray[np.int64],
    order: NDArray[np.int64],
    column: int,
    limits: NDArray[np.int64],
) -> NDArray[np.int64]:
    """(limits.shape, 2): the least `FOLD` and `END` of tiles of pixels within a limit; -1: no tile.

    Args:
        table: of pixels.
        order: of its rows by a column, ascending.
        column: `FULL` or `INPUTS`.
        limits: (tiles, buffers), the most of that column.
    """
    fold = np.empty(len(order), np.int64)
    end = np.empty(len(order), np.int64)
    for place, index in enumerate(order):
        before = place - 1 if place else place
        fold[place] = table[index, FOLD] if place == 0 else min(fold[before], table[index, FOLD])
        end[place] = table[index, END] if place == 0 else min(end[before], table[index, END])
    least = np.full((limits.shape[0], limits.shape[1], 2), -1, np.int64)
    for tile in range(limits.shape[0]):
        for buffer in range(limits.shape[1]):
            low, high = 0, len(order)
            while low < high:
                middle = (low + high) >> 1
                if table[order[middle], column] <= limits[tile, buffer]:
                    low = middle + 1
                else:
                    high = middle
            if low:
                least[tile, buffer, 0], least[tile, buffer, 1] = fold[low - 1], end[low - 1]
    return least
