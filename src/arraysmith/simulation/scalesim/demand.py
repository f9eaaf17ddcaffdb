"""What the array asks of its buffers, cycle by cycle: the demand streams as index arithmetic.

In every cycle of a fold the lanes that ask for something are a run lo…hi-1, and the element of lane
l is (p0 + dp·l, q0 + dq·l): a pixel and a word of the ifmap matrix, a filter and a word of it, or a
row and column of the result. So a line of a stream is six integers. (15) in docs/cycles.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from arraysmith.hardware import Dataflow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.simulation.scalesim.geometry import Im2col

OS, WS, IS = 0, 1, 2
CODES = {Dataflow.OS: OS, Dataflow.WS: WS, Dataflow.IS: IS}
IFMAP, FILTER, OFMAP = 0, 1, 2


@njit(cache=True, nogil=True, inline="always")
def line(dataflow, stream, t, a, b, R, C, S_R, S_C, T):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0911, PLR0917
    """Lanes and elements of one stream in cycle t of the fold (a along rows, b along columns).

    Returns lo, hi, p0, dp, q0, dq; no lane asks where lo ≥ hi.
    """
    rows, cols = min(R, S_R - a * R), min(C, S_C - b * C)
    if dataflow == OS:
        if stream == IFMAP:
            return max(0, t - T + 1), min(rows, t + 1), a * R, 1, t, -1
        if stream == FILTER:
            return max(0, t - T + 1), min(cols, t + 1), b * C, 1, t, -1
        u = t - (T - 1)  # the bottom row leaves first, one row a cycle, one lane a cycle later
        lo, hi = max(0, u - R + 1), min(cols, u + 1, S_R - a * R - R + 1 + u)
        return lo, hi, a * R + R - 1 - u, 1, b * C, 1
    if stream == OFMAP:
        u = t - (2 * R - 1)
        if dataflow == WS:
            return max(0, u - T + 1), min(cols, u + 1), u, -1, b * C, 1
        return max(0, u - T + 1), min(cols, u + 1), b * C, 1, u, -1
    if (stream == IFMAP) == (dataflow == WS):  # the operand that streams
        u = t - R
        return max(0, u - T + 1), min(rows, u + 1), u, -1, a * R, 1
    element = a * R + R - 1 - t  # the operand that stays is loaded bottom row first, unskewed
    if t >= R or element >= S_R:
        return 0, 0, 0, 0, 0, 0
    return 0, cols, b * C, 1, element, 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Addresses:
    """Where the elements of a layer lie: ifmap element (pixel, word) at pixel_at + word_at."""

    pixel_at: NDArray[np.int64]
    """(px,): address of a window's first word."""
    word_at: NDArray[np.int64]
    """(win,): what a word of the window adds to it."""
    outside: NDArray[np.int32]
    """(4, n): rows and columns of windows, rows and columns of words; whether a sum of two is
    beyond the ifmap tells what hangs over the edge."""
    rows: int
    cols: int
    win: int
    overhangs: bool
    ifmap_words: int
    filter_words: int


def addresses(matrix: Im2col) -> Addresses:
    """The addresses of a layer, without SCALE-Sim's offsets."""
    pixel, word = np.arange(matrix.px), np.arange(matrix.win)
    line_words = matrix.filter_cols * matrix.channels
    window_row = pixel // matrix.ofmap_cols * matrix.stride
    window_col = pixel % matrix.ofmap_cols * matrix.stride
    word_row, word_col = word // line_words, word % line_words // matrix.channels
    outside = np.zeros((4, max(matrix.px, matrix.win)), np.int32)
    outside[0, : matrix.px], outside[1, : matrix.px] = window_row, window_col
    outside[2, : matrix.win], outside[3, : matrix.win] = word_row, word_col
    return Addresses(
        pixel_at=(window_row * matrix.cols + window_col) * matrix.channels,
        word_at=(word_row * matrix.cols + word_col) * matrix.channels + word % matrix.channels,
        outside=outside,
        rows=matrix.rows,
        cols=matrix.cols,
        win=matrix.win,
        overhangs=matrix.overhangs,
        ifmap_words=matrix.rows * matrix.cols * matrix.channels,
        filter_words=matrix.win * matrix.filters,
    )
