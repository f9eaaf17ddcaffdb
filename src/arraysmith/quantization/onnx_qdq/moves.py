"""Moves as ONNX nodes on any tensor: reals between two QDQ pairs, or bare integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.networks.moves import (
    Concat,
    Expand,
    Pad,
    Reshape,
    Stretch,
    Take,
    Transpose,
)
from arraysmith.quantization.onnx_qdq.products import window_attributes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.networks.moves import MaxPool
    from arraysmith.quantization.onnx_qdq.draft import Draft

    AnyMove = Reshape | Transpose | Take | Pad | Stretch | Expand | Concat | MaxPool


def emit_move(
    draft: Draft, layer: AnyMove, tensors: list[str], value: NDArray[Any], least: NDArray[Any]
) -> str:
    """The nodes of a move; `value` is what it fills in, `least` what pads a max pool."""
    shape, tensor = draft.shapes[layer.inputs[0]], tensors[0]
    if isinstance(layer, Reshape):
        return draft.reshape(tensor, layer.shape)
    if isinstance(layer, Transpose):
        return draft.emit("Transpose", tensor, perm=(0, *(axis + 1 for axis in layer.axes)))
    if isinstance(layer, Take):
        return draft.emit("Gather", tensor, layer.indices, axis=layer.axis + 1)
    if isinstance(layer, Pad):
        return _pad(draft, tensor, layer.before, layer.after, value)
    if isinstance(layer, Stretch):
        return _stretch(draft, layer, tensor, value)
    if isinstance(layer, Expand):
        if len(shape) < len(layer.shape):
            tensor = draft.reshape(tensor, (*(1,) * (len(layer.shape) - len(shape)), *shape))
        return draft.emit("Expand", tensor, np.array((1, *layer.shape)))
    if isinstance(layer, Concat):
        return _concat(draft, layer, tensors)
    return _max_pool(draft, layer, tensor, least)


def _pad(
    draft: Draft,
    tensor: str,
    before: tuple[int, ...],
    after: tuple[int, ...],
    value: NDArray[Any],
) -> str:
    return draft.emit("Pad", tensor, np.array((0, *before, 0, *after)), value, mode="constant")


def _stretch(draft: Draft, layer: Stretch, tensor: str, value: NDArray[Any]) -> str:
    """An axis of one word behind every spatial axis, padded, merged, and its tail cut off."""
    channels, *sizes = draft.shapes[layer.inputs[0]]
    split = [channels, *(each for size in sizes for each in (size, 1))]
    after = [0, *(each for factor in layer.factors for each in (0, factor - 1))]
    tensor = _pad(draft, draft.reshape(tensor, tuple(split)), (0,) * len(after), (*after,), value)
    merged = [size * factor for size, factor in zip(sizes, layer.factors, strict=True)]
    tensor = draft.reshape(tensor, (channels, *merged))
    ends, axes = draft.shapes[layer.name][1:], np.arange(len(sizes)) + 2
    return draft.emit("Slice", tensor, np.zeros_like(axes), np.array(ends), axes)


def _concat(draft: Draft, layer: Concat, tensors: list[str]) -> str:
    """A tensor of batch 1 is repeated for every member of the others' batch."""
    single = [name in draft.single for name in layer.inputs]
    if not all(single) and any(single):
        batch = draft.emit("Shape", tensors[single.index(False)], start=0, end=1)
        shapes = [draft.shapes[name] for name in layer.inputs]
        tensors = [
            draft.emit("Expand", tensor, _whole_shape(draft, batch, shape)) if alone else tensor
            for tensor, alone, shape in zip(tensors, single, shapes, strict=True)
        ]
    return draft.emit("Concat", *tensors, axis=layer.axis + 1)


def _whole_shape(draft: Draft, batch: str, shape: tuple[int, ...]) -> str:
    return draft.emit("Concat", batch, np.array(shape, np.int64), axis=0)


def _max_pool(draft: Draft, layer: MaxPool, tensor: str, least: NDArray[Any]) -> str:
    """Runtimes refuse padding as wide as the window, so that is padded apart."""
    attributes = window_attributes(layer.windows)
    windows = layer.windows
    widest = max(*windows.before, *windows.after)
    if widest >= min(windows.size):
        tensor = _pad(draft, tensor, (0, *windows.before), (0, *windows.after), least)
        attributes["pads"] = (0,) * len(attributes["pads"])
    return draft.emit("MaxPool", tensor, **attributes)
