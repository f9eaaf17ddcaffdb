"""Weighted layers and products of two tensors as ConvInteger and MatMulInteger.

These operators multiply 8-bit integers and add in 32 bits. Every operand is made uint8, of which
each processor's product is exact; uint8 times int8 is not: older x86 adds two such products in 16
bits, with saturation. What is wider is written in base 256,

    qx - zx = Σ 256^i·(x_i - z_i),  the digits of qx and zx after both were made unsigned,

so padding with z_i is padding with 0. Products of digits are added up in int64.

Weights have a zero point for each channel, ConvInteger one for all of them. Where the centred
weights of all channels fit the digits together, these are what is multiplied. Elsewhere z is the
middle of the range, so that the digits hold qw itself, and S is a product with a weight of ones:

    Σ (qx - zx)·(qw - zw)  =  Σ (qx - zx)·qw  -  zw·S,   S = Σ (qx - zx)
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from arraysmith.quantization.onnx_integer.draft import carrier, vector
from arraysmith.quantization.onnx_integer.requantize import numbers, requantized
from arraysmith.quantization.products import (
    INT32_MAX,
    INT32_MIN,
    IntegerConvolution,
    IntegerLinear,
    WeightedLayer,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from arraysmith.affine import Affine
    from arraysmith.networks.windows import Windows
    from arraysmith.quantization.onnx_integer.draft import Draft
    from arraysmith.quantization.operations import IntegerMatMul

Digit = tuple["str | NDArray[np.uint8]", int]
"""Words below 256, and the zero point among them."""


class Product(Protocol):
    """A node that multiplies two digits."""

    def __call__(self, x: Digit, w: Digit) -> str:
        """The int32 sum of (x - zx)·(w - zw)."""


def digits(draft: Draft, tensor: str, type_: Affine) -> list[Digit]:
    """A tensor in base 256, lowest first: one digit up to 8 bits, else two."""
    unsigned = np.dtype(f"uint{carrier(type_).itemsize * 8}")
    zero = type_.zero_point
    if type_.signed:  # two's complement plus half its range: the top bit flips
        half = 1 << (unsigned.itemsize * 8 - 1)
        bits = draft.cast(tensor, unsigned)
        tensor = draft.emit("BitwiseXor", bits, np.asarray(half, unsigned))
        zero += half
    if unsigned.itemsize == 1:
        return [(tensor, zero)]
    high = draft.emit("BitShift", tensor, np.asarray(8, unsigned), direction="RIGHT")
    return [(draft.cast(tensor, np.uint8), zero & 255), (draft.cast(high, np.uint8), zero >> 8)]


def weight_digits(layer: WeightedLayer) -> tuple[list[Digit], NDArray[np.int64] | None]:
    """Weights in base 256 with one zero point, and the (out,) zero points that this leaves open."""
    count = -(-layer.weight_bits // 8)
    values, rest = layer.centred_weight, None
    zero = max(0, -int(values.min()))
    if int(values.max()) + zero >= 256**count:
        values, rest = layer.weight.astype(np.int64), layer.weight_zero_point
        zero = 1 << (8 * count - 1)
    return [
        (((values + zero) >> shift & 255).astype(np.uint8), zero >> shift & 255)
        for shift in range(0, 8 * count, 8)
    ], rest


def summed(draft: Draft, product: Product, xs: Iterable[Digit], ws: Iterable[Digit]) -> str:
    """Σ 256^(i+j)·(x_i·w_j): int32 where there is one of each, else int64."""
    ws = list(ws)
    parts = [(i + j, product(x, w)) for i, x in enumerate(xs) for j, w in enumerate(ws)]
    if len(parts) == 1:
        return parts[0][1]
    total = ""
    for power, part in parts:
        wide = draft.cast(part, np.int64)
        term = draft.emit("Mul", wide, np.int64(256**power)) if power else wide
        total = draft.emit("Add", total, term) if total else term
    return total


def _node(draft: Draft, operation: str, x: Digit, w: Digit, **attributes: object) -> str:
    zeros = np.uint8(x[1]), np.uint8(w[1])
    return draft.emit(operation, x[0], w[0], *zeros, **attributes)


def convolution(draft: Draft, windows: Windows, groups: int) -> Product:
    """ConvInteger; padding is the zero point."""
    return partial(
        _node,
        draft,
        "ConvInteger",
        kernel_shape=windows.size,
        strides=windows.strides,
        dilations=windows.dilations,
        pads=(*windows.before, *windows.after),
        group=groups,
    )


def accumulator(draft: Draft, layer: WeightedLayer) -> str:
    """(2), as int32."""
    xs = digits(draft, layer.inputs[0], layer.input)
    ws, zeros = weight_digits(layer)
    if isinstance(layer, IntegerConvolution):
        product, groups = convolution(draft, layer.windows, layer.groups), layer.groups
        ones = np.ones((groups, *layer.weight.shape[1:]), np.uint8)
    else:
        product, groups = partial(_node, draft, "MatMulInteger"), 1
        ws = [(w.T, zero) for w, zero in ws if not isinstance(w, str)]
        ones = np.ones((layer.weight.shape[1], 1), np.uint8)
    total = summed(draft, product, xs, ws)
    if zeros is not None:
        inputs = draft.cast(summed(draft, product, xs, [(ones, 0)]), np.int64)
        if groups > 1:  # a sum for each group, repeated for each of its channels
            channels = np.arange(len(layer.weight)) // (len(layer.weight) // groups)
            inputs = draft.emit("Gather", inputs, channels, axis=1)
        correction = draft.emit("Mul", inputs, _by_channel(layer, zeros))
        total = draft.emit("Sub", draft.cast(total, np.int64), correction)
    if zeros is not None or len(xs) * len(ws) > 1:
        # Exact modulo 2^32 whatever the parts were, and the record proves that the sum fits.
        total = draft.cast(total, np.int32)
    return draft.emit("Add", total, _by_channel(layer, layer.bias).astype(np.int32))


def _by_channel(layer: WeightedLayer, values: NDArray[Any]) -> NDArray[np.int64]:
    return vector(values, layer.weight.ndim - 2)


def weighted(draft: Draft, layer: IntegerConvolution | IntegerLinear) -> str:
    """(2), the activation, the fused pool's sum and (3)."""
    total = accumulator(draft, layer)
    if layer.activation:
        low, high, bias = (
            _by_channel(layer, values).astype(np.int32)
            for values in (layer.activation.low, layer.activation.high, layer.activation.bias)
        )
        if (low > INT32_MIN).any():
            total = draft.emit("Max", total, low)
        if (high < INT32_MAX).any():
            total = draft.emit("Min", total, high)
        total = draft.emit("Add", total, bias)
    if isinstance(layer, IntegerConvolution) and layer.pool > 1:
        total = _pooled(draft, layer, total)
    if layer.output is None or layer.requantization is None:
        return total
    axes = layer.weight.ndim - 2
    return requantized(
        draft,
        draft.cast(total, np.int64),
        layer.output,
        vector(layer.requantization.multiplier, axes),
        vector(layer.requantization.right_shift, axes),
        clamp=(layer.low, layer.high),
    )


def _pooled(draft: Draft, layer: IntegerConvolution, total: str) -> str:
    """Sums over pool × pool accumulators; the rest at the border is cut."""
    channels, *positions = layer.convolved_shape(draft.shapes[layer.inputs[0]])
    counts = [size // layer.pool for size in positions]
    axes = np.arange(len(counts)) + 2
    ends = np.array(counts) * layer.pool
    if ends.tolist() != positions:
        total = draft.emit("Slice", total, np.zeros_like(axes), ends, axes)
    split = [side for count in counts for side in (count, layer.pool)]
    total = draft.reshape(total, (channels, *split))
    return draft.emit("ReduceSum", total, 3 + 2 * np.arange(len(counts)), keepdims=0)


def matmul(draft: Draft, layer: IntegerMatMul) -> str:
    """A product of two tensors over their last two axes, and (3)."""
    axes = len(draft.shapes[layer.name])
    left, right = (
        digits(draft, draft.ranked(name, axes), type_)
        for name, type_ in ((layer.inputs[0], layer.left), (layer.inputs[1], layer.right))
    )
    total = draft.cast(summed(draft, partial(_node, draft, "MatMulInteger"), left, right), np.int64)
    return requantized(draft, total, layer.output, *numbers(layer.requantization))
