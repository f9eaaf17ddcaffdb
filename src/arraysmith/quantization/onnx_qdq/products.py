"""Float operations between DequantizeLinear and QuantizeLinear for what multiplies and adds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.quantization.onnx_qdq.draft import float32
from arraysmith.quantization.onnx_qdq.exactness import (
    ProductPlan,
    Term,
    exact_product,
    open_ends,
    ordinary_product,
    plan_sum,
    reach,
)
from arraysmith.quantization.products import INT32_MAX, INT32_MIN, IntegerConvolution

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.affine import Affine, Requantization
    from arraysmith.networks.windows import Windows
    from arraysmith.quantization.onnx_qdq.draft import QdqDraft
    from arraysmith.quantization.onnx_qdq.exactness import Rounding, SumPlan
    from arraysmith.quantization.operations import (
        IntegerAdd,
        IntegerMatMul,
        IntegerMean,
        IntegerMul,
        IntegerRequantize,
    )
    from arraysmith.quantization.products import IntegerLinear, WeightedLayer

    OneTerm = IntegerMatMul | IntegerMul | IntegerRequantize | IntegerMean

LARGEST = float(np.finfo(np.float32).max)


def convolution(draft: QdqDraft, layer: IntegerConvolution) -> None:
    """Conv, then what its record has behind it."""
    plan = exact_product(layer) if draft.exact else ordinary_product(layer)
    weight, bias = _parameters(draft, layer, plan)
    real = draft.emit(
        "Conv",
        draft.real(layer.inputs[0]),
        weight,
        bias,
        group=layer.groups,
        **window_attributes(layer.windows),
    )
    _emit_rest(draft, layer, plan, real)


def linear(draft: QdqDraft, layer: IntegerLinear) -> None:
    """Gemm over the last axis, all others taken together."""
    plan = exact_product(layer) if draft.exact else ordinary_product(layer)
    weight, bias = _parameters(draft, layer, plan)
    source, shape = layer.inputs[0], draft.shapes[layer.inputs[0]]
    flat = len(shape) == 1
    real = draft.real(source) if flat else draft.reshaped_real(source, (-1, shape[-1]))
    real = kept_in_floats(draft, real, layer.input)
    real = draft.emit("Gemm", real, weight, bias, transB=1)
    if not flat:
        real = draft.emit("Reshape", real, np.array([-1, *draft.shapes[layer.name]]))
    _emit_rest(draft, layer, plan, real)


def kept_in_floats(draft: QdqDraft, real: str, type_: Affine) -> str:
    """In exact mode a Clip to the type's own range, which changes nothing.

    It stands between DequantizeLinear and a matrix product, which ONNX Runtime would otherwise
    replace by one of 8-bit integers; on a processor without VNNI that one saturates on the way.
    """
    if not draft.exact:
        return real
    ends = float32(type_.dequantize([type_.qmin, type_.qmax]))
    return draft.emit("Clip", real, ends[0], ends[1])


def window_attributes(windows: Windows) -> dict[str, Any]:
    """Those of Conv and of pools."""
    return {
        "kernel_shape": windows.size,
        "strides": windows.strides,
        "dilations": windows.dilations,
        "pads": (*windows.before, *windows.after),
    }


def _parameters(draft: QdqDraft, layer: WeightedLayer, plan: ProductPlan) -> tuple[str, str]:
    """Weights and bias behind a DequantizeLinear each."""
    kind = np.int8 if layer.weight_bits <= 8 else np.int16
    weight = draft.emit(
        "DequantizeLinear",
        draft.stored("weight", layer.weight.astype(kind)),
        draft.stored("weight.scale", float32(plan.weight_scale)),
        draft.stored("weight.zero_point", layer.weight_zero_point.astype(kind)),
        axis=0,
    )
    bias = draft.emit(
        "DequantizeLinear",
        draft.stored("bias", layer.bias),
        draft.stored("bias.scale", float32(plan.weight_scale * layer.input.scale)),
        axis=0,
    )
    return weight, bias


def _emit_rest(draft: QdqDraft, layer: WeightedLayer, plan: ProductPlan, real: str) -> None:
    """Activation, fused pool, nudge, clamp and QuantizeLinear, or an accumulator's own integers."""
    channels = (-1, *(1,) * (layer.weight.ndim - 2))
    scale = (plan.weight_scale * layer.input.scale).reshape(channels)
    if layer.output is None:
        ratio = (layer.weight_scale / plan.weight_scale).reshape(channels)
        whole = draft.emit("Round", draft.emit("Div", real, float32(scale)))
        accumulator = draft.cast(whole, np.int32)
        draft.name_real(draft.emit("Mul", real, float32(ratio)) if (ratio != 1).any() else real)
        draft.end(accumulator, layer.inputs, np.dtype(np.int32))
        return
    real = _emit_activation(draft, layer, scale, real)
    if isinstance(layer, IntegerConvolution) and layer.pool > 1:
        real = _emit_pool(draft, layer, plan.tap, real)
    if plan.rounding is not None:
        real = rounded(draft, real, plan.rounding, scale * plan.tap, channels)
    draft.quantize(real, layer.inputs, layer.output, layer.low, layer.high)


def _emit_activation(
    draft: QdqDraft, layer: WeightedLayer, scale: NDArray[np.float64], real: str
) -> str:
    """The clamp and bias of accumulators, channel by channel, in reals."""
    if layer.activation is None:
        return real
    low, high = (each.reshape(scale.shape) for each in open_ends(layer))
    if (low == 0).all():
        real = draft.emit("Relu", real)
    elif (low != INT32_MIN).any():
        real = draft.emit("Max", real, float32(np.where(low == INT32_MIN, -LARGEST, low * scale)))
    if (high != INT32_MAX).any():
        real = draft.emit("Min", real, float32(np.where(high == INT32_MAX, LARGEST, high * scale)))
    if layer.activation.bias.any():
        shift = layer.activation.bias.reshape(scale.shape) * scale
        real = draft.emit("Add", real, float32(shift))
    return real


def _emit_pool(draft: QdqDraft, layer: IntegerConvolution, tap: float, real: str) -> str:
    """The sum over pool windows times `tap`: an AveragePool where that is the mean."""
    size = (layer.pool,) * len(layer.windows.size)
    if math.isclose(tap * layer.pooled, 1):
        return draft.emit("AveragePool", real, kernel_shape=size, strides=size)
    channels = len(layer.weight)
    taps = np.full((channels, 1, *size), tap, np.float32)
    return draft.emit("Conv", real, taps, kernel_shape=size, strides=size, group=channels)


def matmul(draft: QdqDraft, layer: IntegerMatMul) -> None:
    """MatMul of two activations."""
    shapes = [draft.shapes[tensor] for tensor in layer.inputs]
    axes = max(map(len, shapes))
    left, right = (draft.ranked_real(tensor, axes) for tensor in layer.inputs)
    real = draft.emit("MatMul", left, kept_in_floats(draft, right, layer.right))
    bound = layer.magnitude_bound(shapes[0][-1])
    plan = plan_one(draft, layer, (layer.left.scale, layer.right.scale), bound)
    finish(draft, layer, real, plan)


def mul(draft: QdqDraft, layer: IntegerMul) -> None:
    """Mul of two activations."""
    axes = max(len(draft.shapes[tensor]) for tensor in layer.inputs)
    real = draft.emit("Mul", *(draft.ranked_real(tensor, axes) for tensor in layer.inputs))
    bound = reach(layer.left) * reach(layer.right)
    plan = plan_one(draft, layer, (layer.left.scale, layer.right.scale), bound)
    finish(draft, layer, real, plan, low=layer.low, high=layer.high)


def requantize(draft: QdqDraft, layer: IntegerRequantize) -> None:
    """QuantizeLinear on another scale."""
    plan = plan_one(draft, layer, (layer.input.scale,), reach(layer.input))
    finish(draft, layer, draft.real(layer.inputs[0]), plan)


def mean(draft: QdqDraft, layer: IntegerMean) -> None:
    """ReduceMean; in exact mode ReduceSum, with the rounded 1/count of the record in a factor."""
    shape = draft.shapes[layer.inputs[0]]
    count = math.prod(shape[axis] for axis in layer.axes)
    bound, axes = count * reach(layer.input), np.array(layer.axes) + 1
    kind, share = ("ReduceSum", 1.0) if draft.exact else ("ReduceMean", 1 / count)
    real = draft.emit(kind, draft.real(layer.inputs[0]), axes, keepdims=1)
    finish(draft, layer, real, plan_one(draft, layer, (layer.input.scale,), bound, share))


def add(draft: QdqDraft, layer: IntegerAdd) -> None:
    """Add and Sub from left to right."""
    axes = max(len(draft.shapes[tensor]) for tensor in layer.inputs)
    plan = plan_sum(
        layer,
        layer.output,
        [
            Term(scale=term.scale, bound=reach(term), multiplier=m)
            for term, m in zip(layer.terms, layer.multipliers, strict=True)
        ],
        layer.right_shift,
        exact=draft.exact,
    )
    total = ""
    for tensor, factor in zip(layer.inputs, plan.factors, strict=True):
        real = draft.ranked_real(tensor, axes)
        size = abs(factor) if total else factor
        if size != 1:
            real = draft.emit("Mul", real, float32(size))
        total = draft.emit("Sub" if factor < 0 else "Add", total, real) if total else real
    if plan.rounding is not None:
        total = draft.emit("Add", total, float32(plan.rounding.nudge[0]))
    draft.quantize(total, layer.inputs, layer.output, layer.low, layer.high)


def plan_one(
    draft: QdqDraft,
    layer: OneTerm,
    scales: tuple[float, ...],
    bound: int,
    share: float = 1.0,
) -> tuple[SumPlan, float]:
    """The plan of one term and its scale; its reals have been multiplied by `share` already."""
    m, n = _only(layer.requantization)
    term = Term(scale=math.prod(scales) * share, bound=bound, multiplier=m)
    return plan_sum(layer, layer.output, [term], n, exact=draft.exact), term.scale


def _only(constants: Requantization) -> tuple[int, int]:
    return int(constants.multiplier[0]), int(constants.right_shift[0])


def finish(
    draft: QdqDraft,
    layer: OneTerm,
    real: str,
    plan: tuple[SumPlan, float],
    *,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """Factor, nudge, clamp and QuantizeLinear of one term, whose scale is in the plan."""
    terms, scale = plan
    if terms.factors[0] != 1 and not (terms.rounding and terms.rounding.in_parts):
        real = draft.emit("Mul", real, float32(terms.factors[0]))
    if terms.rounding is not None:
        real = rounded(draft, real, terms.rounding, np.full(1, scale), ())
    draft.quantize(real, layer.inputs, layer.output, low, high)


def rounded(
    draft: QdqDraft,
    real: str,
    rounding: Rounding,
    unit: NDArray[np.float64],
    shape: tuple[int, ...],
) -> str:
    """The nudge against ties, (E2), behind a product in two parts where one is too long, (E3).

    `unit` is the real of N = 1, a power of two where there are parts; constants get `shape`.
    """

    def numbers(values: NDArray[Any]) -> NDArray[np.float32]:
        return float32(values).reshape(shape)

    if rounding.in_parts:
        unit, k = unit.reshape(-1), rounding.multiplier
        part = np.ldexp(unit, rounding.cut)
        high = draft.emit("Floor", draft.emit("Mul", real, numbers(1 / part)))
        low = draft.emit("Sub", real, draft.emit("Mul", high, numbers(part)))
        carried = draft.emit("Floor", draft.emit("Mul", low, numbers(k / part)))
        total = draft.emit("Add", draft.emit("Mul", high, numbers(k)), carried)
        real = draft.emit("Mul", total, numbers(rounding.step))
    return draft.emit("Add", real, numbers(rounding.nudge))
