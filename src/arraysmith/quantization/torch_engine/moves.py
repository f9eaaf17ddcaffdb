"""The moves of the torch engine, on integers in their containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 (its usual name)

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

    from arraysmith.networks.windows import Windows

Tensor = torch.Tensor
Shape = tuple[int, ...]


def padded(x: Tensor, before: Shape, after: Shape, value: int) -> Tensor:
    """Words of one value around the last axes."""
    if not any(before + after):
        return x
    pairs = zip(reversed(before), reversed(after), strict=True)  # torch: the last axis first
    return F.pad(x, [amount for pair in pairs for amount in pair], value=value)


def combined(
    x: Tensor, windows: Windows, combine: Callable[[Tensor, Tensor], Tensor], padding: int
) -> Tensor:
    """All words of each window combined, one axis after the other, as sums and maxima can be.

    (batch, channels, spatial…) to (batch, channels, positions…).
    """
    positions = windows.positions(tuple(x.shape[2:]))
    x = padded(x, windows.before, windows.after, padding)
    for axis, many in enumerate(positions):
        seen = _taps(x, windows, axis, many)
        y = next(seen)
        for other in seen:
            y = combine(y, other)
        x = y
    return x


def _taps(x: Tensor, windows: Windows, axis: int, many: int) -> Iterator[Tensor]:
    stride = windows.strides[axis]
    for tap in range(windows.size[axis]):
        start = tap * windows.dilations[axis]
        places = slice(start, start + (many - 1) * stride + 1, stride)
        yield x[(*(slice(None),) * (axis + 2), places)]


def _take(layer: Take) -> Callable[[Tensor], Tensor]:
    indices = torch.tensor(layer.indices)
    return lambda x: x.index_select(layer.axis + 1, indices)


def _stretch(layer: Stretch, x: Tensor) -> Tensor:
    sizes = layer.output_shape(tuple(x.shape[1:]))
    y = torch.full((len(x), *sizes), int(layer.value), dtype=x.dtype)
    y[(slice(None), slice(None), *(slice(None, None, each) for each in layer.factors))] = x
    return y


def _expand(layer: Expand, x: Tensor) -> Tensor:
    missing = len(layer.shape) + 1 - x.ndim
    return x.reshape(len(x), *(1,) * missing, *x.shape[1:]).expand(len(x), *layer.shape)


def _concat(layer: Concat, *tensors: Tensor) -> Tensor:
    batch = max(len(x) for x in tensors)
    return torch.cat([x.expand(batch, *x.shape[1:]) for x in tensors], layer.axis + 1)


def _max_pool(layer: MaxPool, x: Tensor) -> Tensor:
    least = torch.iinfo(x.dtype).min  # never the greatest: no window is padding alone
    return combined(x, layer.windows, torch.maximum, least)


def moving(layer: object) -> Callable[..., Tensor] | None:  # noqa: PLR0911 (a case a record)
    """The function of a move's tensors; None where `layer` is no move."""
    match layer:
        case Reshape():
            return lambda x: x.reshape(len(x), *layer.shape)
        case Transpose():
            return lambda x: x.permute(0, *(axis + 1 for axis in layer.axes))
        case Take():
            return _take(layer)
        case Pad():
            return lambda x: padded(x, layer.before, layer.after, int(layer.value))
        case Stretch():
            return lambda x: _stretch(layer, x)
        case Expand():
            return lambda x: _expand(layer, x)
        case Concat():
            return lambda *tensors: _concat(layer, *tensors)
        case MaxPool():
            return lambda x: _max_pool(layer, x)
    return None
