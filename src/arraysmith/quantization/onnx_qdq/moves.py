"""Moves of reals as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from arraysmith.quantization.onnx_qdq.draft import float32
from arraysmith.quantization.onnx_qdq.products import LARGEST, window_attributes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.quantization.onnx_qdq.draft import QdqDraft

    AnyMove = Reshape | Transpose | Take | Pad | Stretch | Expand | Concat | MaxPool


def move(draft: QdqDraft, layer: AnyMove) -> str:
    """The reals of a move in an integer network; what is filled in is the real of an integer."""
    type_ = draft.types[layer.name]
    tensors = [draft.real(name) for name in layer.inputs]
    if type_ is None:
        return move_reals(draft, layer, tensors, float32(0), float32(-LARGEST))
    value = type_.dequantize(int(layer.value)) if isinstance(layer, Pad | Stretch) else 0.0
    return move_reals(draft, layer, tensors, float32(value), float32(type_.dequantize(type_.qmin)))


def move_reals(
    draft: QdqDraft, layer: AnyMove, tensors: list[str], value: NDArray[Any], least: NDArray[Any]
) -> str:
    """The nodes of a move; `value` is what it fills in, `least` what pads a max pool."""
    tensor = tensors[0]
    match layer:
        case Reshape():
            moved = draft.reshape(tensor, layer.shape)
        case Transpose():
            perm = (0, *(axis + 1 for axis in layer.axes))
            moved = draft.emit("Transpose", tensor, perm=perm)
        case Take():
            indices = layer.indices.astype(np.int64)
            moved = draft.emit("Gather", tensor, indices, axis=layer.axis + 1)
        case Pad():
            moved = _pad(draft, tensor, (layer.before, layer.after), value)
        case Stretch():
            moved = _stretch(draft, layer, tensor, value)
        case Expand():
            if len(draft.shapes[layer.inputs[0]]) < len(layer.shape):
                tensor = draft.ranked_real(layer.inputs[0], len(layer.shape))
            moved = draft.emit("Expand", tensor, np.array((1, *layer.shape)))
        case Concat():
            moved = _concat(draft, layer, tensors)
        case MaxPool():
            moved = _max_pool(draft, layer, tensor, least)
    return moved


def _pad(
    draft: QdqDraft,
    tensor: str,
    padding: tuple[tuple[int, ...], tuple[int, ...]],
    value: NDArray[Any],
) -> str:
    before, after = padding
    return draft.emit("Pad", tensor, np.array((0, *before, 0, *after)), value, mode="constant")


def _stretch(draft: QdqDraft, layer: Stretch, tensor: str, value: NDArray[Any]) -> str:
    """An axis of one word behind every spatial axis, padded, merged, and its tail cut off."""
    channels, *sizes = draft.shapes[layer.inputs[0]]
    split = [channels, *(each for size in sizes for each in (size, 1))]
    after = [0, *(each for factor in layer.factors for each in (0, factor - 1))]
    tensor = _pad(draft, draft.reshape(tensor, tuple(split)), ((0,) * len(after), (*after,)), value)
    merged = [size * factor for size, factor in zip(sizes, layer.factors, strict=True)]
    tensor = draft.reshape(tensor, (channels, *merged))
    ends, axes = draft.shapes[layer.name][1:], np.arange(len(sizes)) + 2
    return draft.emit("Slice", tensor, np.zeros_like(axes), np.array(ends), axes)


def _concat(draft: QdqDraft, layer: Concat, tensors: list[str]) -> str:
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


def _whole_shape(draft: QdqDraft, batch: str, shape: tuple[int, ...]) -> str:
    return draft.emit("Concat", batch, np.array(shape, np.int64), axis=0)


def _max_pool(draft: QdqDraft, layer: MaxPool, tensor: str, least: NDArray[Any]) -> str:
    """Runtimes refuse padding as wide as the window, so that is padded apart."""
    attributes = window_attributes(layer.windows)
    windows = layer.windows
    widest = max(*windows.before, *windows.after)
    if widest >= min(windows.size):
        tensor = _pad(draft, tensor, ((0, *windows.before), (0, *windows.after)), least)
        attributes["pads"] = (0,) * len(attributes["pads"])
    return draft.emit("MaxPool", tensor, **attributes)
