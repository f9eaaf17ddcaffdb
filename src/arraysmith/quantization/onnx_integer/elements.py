"""Sums, products, tables, pools and normalizations as ONNX integer operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.quantization.norms import FRACTION
from arraysmith.quantization.onnx_integer.draft import carrier
from arraysmith.quantization.onnx_integer.products import convolution, digits, summed
from arraysmith.quantization.onnx_integer.requantize import clipped, numbers, requantized, rounded

if TYPE_CHECKING:
    from arraysmith.quantization.norms import IntegerLayerNorm, IntegerSoftmax
    from arraysmith.quantization.onnx_integer.draft import Draft
    from arraysmith.quantization.operations import (
        IntegerAdd,
        IntegerAveragePool,
        IntegerConstant,
        IntegerLookup,
        IntegerMean,
        IntegerMul,
        IntegerRequantize,
        IntegerTable,
    )


def add(draft: Draft, layer: IntegerAdd) -> str:
    """One rounding of the whole sum."""
    axes = len(draft.shapes[layer.name])
    total = ""
    for name, type_, multiplier in zip(layer.inputs, layer.terms, layer.multipliers, strict=True):
        term = draft.centred(draft.ranked(name, axes), type_)
        term = draft.emit("Mul", term, np.int64(multiplier))
        total = draft.emit("Add", total, term) if total else term
    shift = np.asarray(layer.right_shift)
    return rounded(draft, total, layer.output, shift, clamp=(layer.low, layer.high))


def mul(draft: Draft, layer: IntegerMul) -> str:
    """The product of two tensors, and (3)."""
    axes = len(draft.shapes[layer.name])
    left, right = (
        draft.centred(draft.ranked(name, axes), type_)
        for name, type_ in ((layer.inputs[0], layer.left), (layer.inputs[1], layer.right))
    )
    product = draft.emit("Mul", left, right)
    m, n = numbers(layer.requantization)
    return requantized(draft, product, layer.output, m, n, clamp=(layer.low, layer.high))


def requantize(draft: Draft, layer: IntegerRequantize) -> str:
    """(3) of a centred tensor."""
    total = draft.centred(layer.inputs[0], layer.input)
    return requantized(draft, total, layer.output, *numbers(layer.requantization))


def table(draft: Draft, layer: IntegerTable) -> str:
    """A Gather from all tables in a row."""
    index = draft.cast(layer.inputs[0], np.int32)
    first = np.asarray(-layer.input.qmin, np.int32)
    if layer.table.ndim == 2:
        channels, values = layer.table.shape
        axes = len(draft.shapes[layer.name]) - 1
        first = (np.arange(channels, dtype=np.int32) * values + first).reshape(-1, *(1,) * axes)
    index = draft.emit("Add", index, first)
    return draft.emit("Gather", layer.table.reshape(-1).astype(carrier(layer.output)), index)


def average_pool(draft: Draft, layer: IntegerAveragePool) -> str:
    """Sums as a convolution of each channel with ones, and (3)."""
    windows = layer.windows
    channels, *positions = draft.shapes[layer.name]
    reach = max(
        layer.input.qmax - layer.input.zero_point, layer.input.zero_point - layer.input.qmin
    )
    if windows.area * reach >= 1 << 31:
        raise layer.refuse(
            f"a sum of {windows.area} words can leave int32; give it fewer bits or a smaller window"
        )
    ones = np.ones((channels, 1, *windows.size), np.uint8)
    words = digits(draft, layer.inputs[0], layer.input)
    total = summed(draft, convolution(draft, windows, channels), words, [(ones, 0)])
    m, n = layer.requantization.multiplier, layer.requantization.right_shift
    shape = tuple(positions) if len(m) > 1 else ()
    total = draft.cast(total, np.int64)
    return requantized(draft, total, layer.output, m.reshape(shape), n.reshape(shape))


def mean(draft: Draft, layer: IntegerMean) -> str:
    """A sum over axes, and (3)."""
    # In int32, where the record proves that it fits: of int64 ONNX Runtime's ReduceSum adds
    # doubles, which is exact below 2^53 only.
    words = draft.centred(layer.inputs[0], layer.input, np.int32)
    axes = np.array(layer.axes, np.int64) + 1
    total = draft.cast(draft.emit("ReduceSum", words, axes, keepdims=1), np.int64)
    return requantized(draft, total, layer.output, *numbers(layer.requantization))


def softmax(draft: Draft, layer: IntegerSoftmax) -> str:
    """A table of exponentials, and a division of integers that are never negative."""
    axis = np.array([layer.axis + 1])
    words = draft.cast(layer.inputs[0], np.int32)
    below = draft.emit("Sub", draft.emit("ReduceMax", words, axis, keepdims=1), words)
    e = draft.emit("Gather", layer.table, below)
    # Below 2^46, so that a sum in doubles (see `mean`) is exact, too.
    total = draft.emit("ReduceSum", e, axis, keepdims=1)
    above = draft.emit("Add", draft.emit("Mul", e, np.int64(2 * layer.levels)), total)
    y = draft.emit("Div", above, draft.emit("Mul", total, np.int64(2)))
    y = draft.emit("Add", y, np.int64(layer.output.qmin))
    return clipped(draft, y, layer.output)


def layer_norm(draft: Draft, layer: IntegerLayerNorm) -> str:
    """Mean and deviation over the last axis, all in int64."""
    size = layer.multiplier.size
    words = draft.cast(layer.inputs[0], np.int32)
    # The bound that keeps Σ d² within int64 keeps Σ qx within int32.
    total = draft.emit("ReduceSum", words, np.array([-1]), keepdims=1)
    wide = draft.emit("Mul", draft.cast(words, np.int64), np.int64(size))
    d = draft.emit("Sub", wide, draft.cast(total, np.int64))
    # Up to 2^63, which ReduceSum does not add exactly (see `mean`): a product with ones does.
    squares = draft.emit("MatMul", draft.emit("Mul", d, d), np.ones((size, 1), np.int64))
    squares = draft.emit("Add", squares, np.int64(layer.epsilon))
    variance = draft.emit("Div", squares, np.int64(size))
    reach = size * (layer.input.qmax - layer.input.qmin)
    root = square_root(draft, variance, (size * reach**2 + layer.epsilon) // size)
    r = draft.emit("Max", root, np.int64(1))
    above = draft.emit("Add", draft.emit("Mul", d, np.int64(2 << FRACTION)), r)
    t = _floor_divided(draft, above, draft.emit("Mul", r, np.int64(2)))
    total = draft.emit("Add", draft.emit("Mul", t, layer.multiplier), layer.bias)
    return rounded(draft, total, layer.output, np.asarray(layer.right_shift))


def square_root(draft: Draft, value: str, greatest: int) -> str:
    """⌊√value⌋ of int64 words 0…greatest, one binary digit after the other from the highest.

    A digit stays if (root + digit)² ≤ value; asked as root + digit ≤ value / (root + digit), for
    the square may not fit int64.
    """
    root = ""
    for place in reversed(range(max(1, (greatest.bit_length() + 1) // 2))):
        digit = np.int64(1 << place)
        tried = draft.emit("Add", root, digit) if root else digit
        fits = draft.emit("LessOrEqual", tried, draft.emit("Div", value, tried))
        kept = draft.emit("Mul", draft.cast(fits, np.int64), digit)
        root = draft.emit("Add", root, kept) if root else kept
    return root


def _floor_divided(draft: Draft, above: str, below: str) -> str:
    """⌊above / below⌋: Div cuts towards 0, Mod has the divisor's sign and leaves nothing to cut."""
    rest = draft.emit("Mod", above, below)
    return draft.emit("Div", draft.emit("Sub", above, rest), below)


def lookup(draft: Draft, layer: IntegerLookup) -> str:
    """Rows of a table."""
    return draft.emit("Gather", layer.table.astype(carrier(layer.output)), layer.inputs[0], axis=0)


def constant(draft: Draft, layer: IntegerConstant) -> str:
    """Words, with a batch of 1."""
    return draft.emit("Identity", layer.value[None].astype(carrier(layer.output)))
