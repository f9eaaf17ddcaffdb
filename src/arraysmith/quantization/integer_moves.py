"""The moves of the reference engine: words in other places, in NumPy, with nothing computed.

Arrays have the batch as first axis; the axes of a record count from 0 behind it.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.networks.moves import (
    Concat,
    Expand,
    MaxPool,
    Pad,
    Reshape,
    Stretch,
    Take,
    Transpose,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from arraysmith.networks.windows import Windows

    Array = NDArray[np.int64]


def aligned(*arrays: Array) -> tuple[Array, ...]:
    """Arrays of as many axes: those that lack some get them right behind the batch."""
    rank = max(x.ndim for x in arrays)
    return tuple(x.reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:]) for x in arrays)


def taps(x: Array, windows: Windows, padding: int) -> Iterator[Array]:
    """What every tap of a window sees, row-major: the words under it at all positions.

    Args:
        x: (batch, channels, spatial…).
        windows: what slides.
        padding: the word that is padded.

    Yields:
        (batch, channels, positions…), a tap each.
    """
    pairs = tuple(zip(windows.before, windows.after, strict=True))
    padded = np.pad(x, ((0, 0), (0, 0), *pairs), constant_values=padding)
    positions = windows.positions(x.shape[2:])
    for tap in product(*map(range, windows.size)):
        starts = [i * dilation for i, dilation in zip(tap, windows.dilations, strict=True)]
        places = (
            slice(start, start + (many - 1) * stride + 1, stride)
            for start, many, stride in zip(starts, positions, windows.strides, strict=True)
        )
        yield padded[:, :, *places]


def _reshape(layer: Reshape, x: Array) -> Array:
    return x.reshape(len(x), *layer.shape)


def _transpose(layer: Transpose, x: Array) -> Array:
    return x.transpose(0, *(axis + 1 for axis in layer.axes))


def _take(layer: Take, x: Array) -> Array:
    return x.take(layer.indices, layer.axis + 1)


def _pad(layer: Pad, x: Array) -> Array:
    pairs = tuple(zip(layer.before, layer.after, strict=True))
    return np.pad(x, ((0, 0), *pairs), constant_values=int(layer.value))


def _stretch(layer: Stretch, x: Array) -> Array:
    y = np.full((len(x), *layer.output_shape(x.shape[1:])), int(layer.value), np.int64)
    y[:, :, *(slice(None, None, factor) for factor in layer.factors)] = x
    return y


def _expand(layer: Expand, x: Array) -> Array:
    missing = len(layer.shape) + 1 - x.ndim
    widened = x.reshape(len(x), *(1,) * missing, *x.shape[1:])
    return np.broadcast_to(widened, (len(x), *layer.shape)).copy()


def _concat(layer: Concat, *arrays: Array) -> Array:
    batch = max(len(x) for x in arrays)
    parts = [np.broadcast_to(x, (batch, *x.shape[1:])) for x in arrays]
    return np.concatenate(parts, layer.axis + 1)


def _max_pool(layer: MaxPool, x: Array) -> Array:
    least = np.iinfo(np.int64).min  # never the greatest: no window is padding alone
    greatest: Array = np.max(list(taps(x, layer.windows, least)), axis=0)
    return greatest


MOVED: dict[type, Callable[..., Array]] = {
    Reshape: _reshape,
    Transpose: _transpose,
    Take: _take,
    Pad: _pad,
    Stretch: _stretch,
    Expand: _expand,
    Concat: _concat,
    MaxPool: _max_pool,
}
"""The function of every move, called with the record and its arrays."""
