"""A layer as SCALE-Sim sees it: im2col with its rounding, and how it lies on the array.

SCALE-Sim rounds the number of windows up, so with a stride that does not divide the last window
hangs over the edge; what hangs over is counted but not read (`docs/cycles.md`, quirk Q16).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arraysmith.errors import InvalidWorkloadError
from arraysmith.hardware import Dataflow
from arraysmith.workload import Conv2d, Gemm, ceil_div

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from arraysmith.workload import Layer

# alpha in the cycles of a fold, T + alpha·R + C - 2: (3) in docs/cycles.md.
ALPHA = {Dataflow.OS: 1, Dataflow.WS: 2, Dataflow.IS: 2}

Windows = tuple[int, int, int, int, int, int, int, int, bool, bool]
"""Rows and columns of the ifmap and of a filter, channels, stride, rows and columns of windows;
whether one hangs over the edge, and whether each word is in one place of one window only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Im2col:
    """The ifmap matrix of a layer, px × win, and the number of filters N: (1) in docs/cycles.md."""

    rows: int
    cols: int
    filter_rows: int
    filter_cols: int
    channels: int
    filters: int
    stride: int

    @property
    def ofmap_rows(self) -> int:
        """Rounded up."""
        return ceil_div(self.rows - self.filter_rows, self.stride) + 1

    @property
    def ofmap_cols(self) -> int:
        """Rounded up."""
        return ceil_div(self.cols - self.filter_cols, self.stride) + 1

    @property
    def px(self) -> int:
        """Output pixels: the GEMM's M."""
        return self.ofmap_rows * self.ofmap_cols

    @property
    def win(self) -> int:
        """Words in a window: the GEMM's K."""
        return self.filter_rows * self.filter_cols * self.channels

    @property
    def overhangs(self) -> bool:
        """Whether some window reaches beyond the ifmap."""
        return (self.ofmap_rows - 1) * self.stride + self.filter_rows > self.rows or (
            self.ofmap_cols - 1
        ) * self.stride + self.filter_cols > self.cols

    @property
    def distinct_ifmap_words(self) -> int:
        """Words of the ifmap that some window reads."""
        return (
            self.channels
            * _covered(self.rows, self.filter_rows, self.ofmap_rows, self.stride)
            * _covered(self.cols, self.filter_cols, self.ofmap_cols, self.stride)
        )

    @property
    def is_distinct(self) -> bool:
        """Whether no word is in two windows and none hangs over: all elements differ."""
        return self.distinct_ifmap_words == self.px * self.win

    @property
    def windows(self) -> Windows:
        """For the compiled kernels; see `Windows`."""
        return (
            self.rows,
            self.cols,
            self.filter_rows,
            self.filter_cols,
            self.channels,
            self.stride,
            self.ofmap_rows,
            self.ofmap_cols,
            self.overhangs,
            self.is_distinct,
        )

    def on_array(self, dataflow: Dataflow) -> tuple[int, int, int]:
        """S_R, S_C, T: what lies along the rows, along the columns, and streams. (2)."""
        match dataflow:
            case Dataflow.OS:
                return self.px, self.filters, self.win
            case Dataflow.WS:
                return self.win, self.filters, self.px
            case Dataflow.IS:
                return self.win, self.px, self.filters

    def inside(self, pixel: NDArray[np.int64], word: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether element (pixel, word) of the ifmap matrix lies in the ifmap; broadcasts."""
        line = self.filter_cols * self.channels
        row = pixel // self.ofmap_cols * self.stride + word // line
        col = pixel % self.ofmap_cols * self.stride + word % line // self.channels
        found: NDArray[np.bool_] = (row < self.rows) & (col < self.cols)
        return found


def im2col(layer: Layer) -> Im2col:
    """SCALE-Sim's view of a layer; padding is part of the ifmap.

    Raises:
        InvalidWorkloadError: groups or a batch, which SCALE-Sim does not know.
    """
    # What `layer.loops` says, without making the record: this is asked of every layer.
    if isinstance(layer, Gemm):
        groups, images = layer.batch, 1
    else:
        groups, images = layer.groups, layer.batch
    if groups * images > 1:
        raise InvalidWorkloadError(
            f"layer {layer.name!r} has {groups} groups and {images} images a batch: "
            "SCALE-Sim knows neither; use --model physical"
        )
    if isinstance(layer, Gemm):
        return Im2col(
            rows=layer.M,
            cols=layer.K,
            filter_rows=1,
            filter_cols=layer.K,
            channels=1,
            filters=layer.N,
            stride=1,
        )
    assert isinstance(layer, Conv2d)  # noqa: S101 (for the type checker)
    return Im2col(
        rows=layer.padded_rows,
        cols=layer.padded_cols,
        filter_rows=layer.filter_rows,
        filter_cols=layer.filter_cols,
        channels=layer.in_channels,
        filters=layer.out_channels,
        stride=layer.stride,
    )


def _covered(size: int, filter_size: int, windows: int, stride: int) -> int:
    """How many of `size` positions some window covers."""
    if stride <= filter_size:
        return min((windows - 1) * stride + filter_size, size)
    # Only the last window can hang over; it may lie outside altogether.
    last = max(size - (windows - 1) * stride, 0)
    return (windows - 1) * filter_size + min(filter_size, last)
