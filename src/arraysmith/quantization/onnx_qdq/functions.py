"""Average pools, softmax and layer norms over floats, between QDQ pairs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.affine import MIN_MULTIPLIER_BITS
from arraysmith.quantization.norms import FRACTION
from arraysmith.quantization.onnx_qdq.draft import float32
from arraysmith.quantization.onnx_qdq.exactness import Term, joined, plan_sum, reach
from arraysmith.quantization.onnx_qdq.products import rounded, window_attributes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.quantization.norms import IntegerLayerNorm, IntegerSoftmax
    from arraysmith.quantization.onnx_qdq.draft import QdqDraft
    from arraysmith.quantization.operations import (
        IntegerAveragePool,
    )


def average_pool(draft: QdqDraft, layer: IntegerAveragePool) -> None:
    """AveragePool where the counts are its own; else a Conv of ones and a factor a position.

    In exact mode always the latter, for m/2^n is no exact 1/count.
    """
    shape, windows = draft.shapes[layer.inputs[0]], layer.windows
    constants = layer.requantization
    pairs = list(zip(constants.multiplier.tolist(), constants.right_shift.tolist(), strict=True))
    bound = windows.area * reach(layer.input)
    plans = {
        (m, n): plan_sum(
            layer,
            layer.output,
            [Term(scale=layer.input.scale, bound=bound, multiplier=m)],
            n,
            exact=draft.exact,
        )
        for m, n in set(pairs)
    }
    factors = np.array([plans[pair].factors[0] for pair in pairs])
    rounding = joined([plans[pair].rounding for pair in pairs])
    positions = windows.positions(shape[1:]) if len(pairs) > 1 else (1,) * len(windows.size)
    real = draft.real(layer.inputs[0])
    include = None if draft.exact else _counts_padding(layer, shape, factors)
    if include is not None:
        # Even dilations of 1 are an attribute that ONNX Runtime 1.32 does not take when it fuses.
        attributes = window_attributes(windows)
        del attributes["dilations"]
        real = draft.emit("AveragePool", real, count_include_pad=include, **attributes)
    else:
        real = _windowed_sum(draft, layer, real, shape[0])
        if rounding is None or not rounding.in_parts:
            real = draft.emit("Mul", real, float32(factors).reshape(positions))
    if rounding is not None:
        real = rounded(draft, real, rounding, np.full(len(pairs), layer.input.scale), positions)
    draft.quantize(real, layer.inputs, layer.output)


def _windowed_sum(draft: QdqDraft, layer: IntegerAveragePool, real: str, channels: int) -> str:
    ones = np.ones((channels, 1, *layer.windows.size), np.int8)
    weight = draft.emit(
        "DequantizeLinear", draft.stored("ones", ones), float32(1.0), np.array(0, np.int8)
    )
    return draft.emit("Conv", real, weight, group=channels, **window_attributes(layer.windows))


def _counts_padding(
    layer: IntegerAveragePool, shape: tuple[int, ...], factors: NDArray[np.float64]
) -> int | None:
    """count_include_pad of the AveragePool with these factors; None where there is none."""
    windows, bits = layer.windows, layer.requantization.bits
    if max(windows.before + windows.after) >= min(windows.size) or max(windows.dilations) > 1:
        return None
    none = (0,) * len(windows.size)
    for include, counted in ((1, (windows.before, windows.after)), (0, (none, none))):
        counts = windows.counts(shape[1:], counted).reshape(-1)
        if (np.abs(factors * counts - 1) <= 2.0 ** (1 - max(bits, MIN_MULTIPLIER_BITS))).all():
            return include
    return None


_NO_VARIANCE = 1e-9
"""In steps²: keeps 0/0 out of a constant row, far below the least variance of another."""


def softmax(draft: QdqDraft, layer: IntegerSoftmax) -> None:
    """Softmax over floats."""
    real = draft.emit("Softmax", draft.real(layer.inputs[0]), axis=layer.axis + 1)
    draft.quantize(real, layer.inputs, layer.output)


def layer_norm(draft: QdqDraft, layer: IntegerLayerNorm) -> None:
    """LayerNormalization over floats, its gain and shift from the record's integers."""
    size = layer.multiplier.size
    step = layer.output.scale * math.ldexp(1.0, -layer.right_shift)
    real = draft.emit(
        "LayerNormalization",
        draft.real(layer.inputs[0]),
        float32(layer.multiplier * step * 2**FRACTION),
        float32(layer.bias * step),
        axis=-1,
        epsilon=max(layer.epsilon / size**3, _NO_VARIANCE) * layer.input.scale**2,
    )
    draft.quantize(real, layer.inputs, layer.output)
