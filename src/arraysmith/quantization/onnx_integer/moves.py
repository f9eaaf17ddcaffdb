"""Moves of words as ONNX operators; they keep the container, if ONNX Runtime has a kernel for it.

It has none for Pad and MaxPool of 16 bits, nor for MaxPool of 32: there words pass through int32,
and a pool is the greatest of slices.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.quantization.products import INT32_MIN

if TYPE_CHECKING:
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
    from arraysmith.quantization.onnx_integer.draft import Draft

Shape = tuple[int, ...]


def reshape(draft: Draft, layer: Reshape) -> str:
    """The batch stays."""
    return draft.reshape(layer.inputs[0], layer.shape)


def transpose(draft: Draft, layer: Transpose) -> str:
    """The batch stays in front."""
    return draft.emit("Transpose", layer.inputs[0], perm=[0, *(axis + 1 for axis in layer.axes)])


def take(draft: Draft, layer: Take) -> str:
    """Words of one axis."""
    indices = layer.indices.astype(np.int64)
    return draft.emit("Gather", layer.inputs[0], indices, axis=layer.axis + 1)


def pad(draft: Draft, layer: Pad) -> str:
    """A border of one integer."""
    source = layer.inputs[0]
    home = draft.carriers[source]
    padded, _ = _padded(draft, source, home, (layer.before, layer.after), int(layer.value))
    return draft.cast(padded, home)


def stretch(draft: Draft, layer: Stretch) -> str:
    """Every word gets an axis of its own, which is padded and joins its neighbours; a rest goes."""
    source = layer.inputs[0]
    home = draft.carriers[source]
    channels, *sizes = draft.shapes[source]
    apart = draft.reshape(source, (channels, *(n for size in sizes for n in (size, 1))))
    after = (0, *(n for factor in layer.factors for n in (0, factor - 1)))
    padded, _ = _padded(draft, apart, home, ((0,) * len(after), after), int(layer.value))
    longer = [size * factor for size, factor in zip(sizes, layer.factors, strict=True)]
    joined = draft.reshape(padded, (channels, *longer))
    axes = np.arange(len(sizes)) + 2
    ends = np.array(draft.shapes[layer.name][1:])
    return draft.cast(draft.emit("Slice", joined, np.zeros_like(axes), ends, axes), home)


def expand(draft: Draft, layer: Expand) -> str:
    """Axes are inserted behind the batch, then repeated."""
    whole = draft.ranked(layer.inputs[0], len(layer.shape))
    return draft.emit("Expand", whole, np.array((1, *layer.shape)))


def concat(draft: Draft, layer: Concat) -> str:
    """A tensor that depends on no input is first repeated for every member of the batch."""
    home = np.result_type(*(draft.carriers[name] for name in layer.inputs))
    batched = [name for name in layer.inputs if name not in draft.single]
    parts = []
    for name in layer.inputs:
        part = name if draft.carriers[name] == home else draft.cast(name, home)
        if batched and name in draft.single:
            batch = draft.emit("Shape", batched[0], start=0, end=1)
            ones = np.ones(len(draft.shapes[name]), np.int64)
            part = draft.emit("Expand", part, draft.emit("Concat", batch, ones, axis=0))
        parts.append(part)
    return draft.emit("Concat", *parts, axis=layer.axis + 1)


def max_pool(draft: Draft, layer: MaxPool) -> str:
    """The greatest of each window; the border is the least integer there is."""
    source, windows = layer.inputs[0], layer.windows
    home, type_ = draft.carriers[source], draft.types[source]
    least = INT32_MIN if type_ is None else type_.qmin
    padding = (0, *windows.before), (0, *windows.after)
    # MaxPool's own padding is the container's least and narrower than the window: neither is ours.
    padded, wide = _padded(draft, source, home, padding, least)
    if wide.itemsize == 1:
        return draft.emit(
            "MaxPool",
            padded,
            kernel_shape=windows.size,
            strides=windows.strides,
            dilations=windows.dilations,
        )
    positions = draft.shapes[layer.name][1:]
    axes, strides = np.arange(len(positions)) + 2, np.array(windows.strides)
    slices = []
    for tap in product(*(range(size) for size in windows.size)):
        first = np.array(tap) * windows.dilations
        last = first + (np.array(positions) - 1) * strides + 1
        slices.append(draft.emit("Slice", padded, first, last, axes, strides))
    return draft.cast(draft.emit("Max", *slices), home)


def _padded(
    draft: Draft, tensor: str, home: np.dtype[Any], padding: tuple[Shape, Shape], value: int
) -> tuple[str, np.dtype[Any]]:
    """A border around a tensor, and the container it is in now."""
    wide = np.dtype(np.int32) if home.itemsize == 2 else home
    source = tensor if wide == home else draft.cast(tensor, wide)
    before, after = padding
    if not any((*before, *after)):
        return source, wide
    amounts = np.array((0, *before, 0, *after), np.int64)
    return draft.emit("Pad", source, amounts, np.asarray(value, wide)), wide
