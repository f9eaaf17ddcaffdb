"""Float operations of an integer network's islands as the same ONNX operators, in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.networks.functions import Function
from arraysmith.networks.moves import MOVES, Pad, Stretch
from arraysmith.networks.operations import (
    Add,
    AveragePool,
    ChannelAffine,
    Constant,
    Convolution,
    Elementwise,
    Island,
    IslandKind,
    LayerNorm,
    Linear,
    Lookup,
    MatMul,
    Mean,
    Mul,
    PRelu,
    Softmax,
)
from arraysmith.quantization.onnx_qdq.draft import float32
from arraysmith.quantization.onnx_qdq.moves import move_reals
from arraysmith.quantization.onnx_qdq.products import LARGEST, window_attributes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from arraysmith.networks.functions import Step
    from arraysmith.quantization.onnx_qdq.draft import QdqDraft
    from arraysmith.quantization.operations import FloatIsland


def island(draft: QdqDraft, layer: FloatIsland) -> None:
    """The operation over reals; where it is undefined, 0, as in the integer network."""
    operation = layer.operation
    axes = max((len(draft.shapes[name]) for name in layer.inputs), default=0)
    if isinstance(operation, Add | Mul | MatMul | Island):
        tensors = [draft.ranked_real(name, axes) for name in layer.inputs]
    else:
        tensors = [draft.real(name) for name in layer.inputs]
    if isinstance(operation, MOVES):
        fill = operation.value if isinstance(operation, Pad | Stretch) else 0.0
        real = move_reals(draft, operation, tensors, float32(fill), float32(-LARGEST))
        draft.quantize(real, layer.inputs, layer.output)
        return
    real = _EMITTED[type(operation)](draft, operation, *tensors)
    undefined = draft.emit("IsNaN", real)
    real = draft.emit("Where", undefined, float32(0.0), real)
    draft.quantize(real, layer.inputs, layer.output)


_OPERATORS: dict[Function, tuple[str, tuple[str, ...]]] = {
    Function.RELU: ("Relu", ()),
    Function.LEAKY_RELU: ("LeakyRelu", ("alpha",)),
    Function.ELU: ("Elu", ("alpha",)),
    Function.SIGMOID: ("Sigmoid", ()),
    Function.TANH: ("Tanh", ()),
    Function.GELU: ("Gelu", ()),
    Function.HARD_SIGMOID: ("HardSigmoid", ("alpha", "beta")),
    Function.HARD_SWISH: ("HardSwish", ()),
    Function.SOFTPLUS: ("Softplus", ()),
    Function.MISH: ("Mish", ()),
    Function.ERF: ("Erf", ()),
    Function.EXP: ("Exp", ()),
    Function.LOG: ("Log", ()),
    Function.SQRT: ("Sqrt", ()),
    Function.RECIPROCAL: ("Reciprocal", ()),
    Function.ABS: ("Abs", ()),
}
"""An operator, and the attributes that take its numbers."""
_OF_CONSTANTS = {Function.POWER: "Pow", Function.ADD: "Add", Function.MUL: "Mul"}


def _step(draft: QdqDraft, step: Step, x: str) -> str:
    if step.function in _OPERATORS:
        operator, names = _OPERATORS[step.function]
        return draft.emit(operator, x, **dict(zip(names, step.numbers, strict=True)))
    if step.function in _OF_CONSTANTS:
        return draft.emit(_OF_CONSTANTS[step.function], x, float32(step.numbers[0]))
    if step.function == Function.CLIP:
        low, high = np.clip(step.numbers, -LARGEST, LARGEST)
        return draft.emit("Clip", x, float32(low), float32(high))
    if step.function == Function.GELU_TANH:
        return draft.emit("Gelu", x, approximate="tanh")
    return draft.emit("Mul", x, draft.emit("Sigmoid", x))  # SiLU


def _elementwise(draft: QdqDraft, operation: Elementwise, x: str) -> str:
    for step in operation.steps:
        x = _step(draft, step, x)
    return x


def _convolution(draft: QdqDraft, operation: Convolution, x: str) -> str:
    attributes = window_attributes(operation.windows)
    weight, bias = operation.weight, operation.bias
    return draft.emit("Conv", x, weight, bias, group=operation.groups, **attributes)


def _linear(draft: QdqDraft, operation: Linear, x: str) -> str:
    product = draft.emit("MatMul", x, np.ascontiguousarray(operation.weight.T))
    return draft.emit("Add", product, operation.bias)


def _add(draft: QdqDraft, operation: Add, *tensors: str) -> str:
    total = ""
    for sign, x in zip(operation.signs, tensors, strict=True):
        if total:
            total = draft.emit("Add" if sign > 0 else "Sub", total, x)
        else:
            total = x if sign > 0 else draft.emit("Neg", x)
    return total


def _per_channel(draft: QdqDraft, operation: ChannelAffine | PRelu, values: NDArray[Any]) -> Any:  # noqa: ANN401
    axes = len(draft.shapes[operation.inputs[0]]) - 1
    return float32(values).reshape(-1, *(1,) * axes)


def _channel_affine(draft: QdqDraft, operation: ChannelAffine, x: str) -> str:
    gain, shift = (_per_channel(draft, operation, v) for v in (operation.gain, operation.shift))
    return draft.emit("Add", draft.emit("Mul", x, gain), shift)


def _prelu(draft: QdqDraft, operation: PRelu, x: str) -> str:
    return draft.emit("PRelu", x, _per_channel(draft, operation, operation.slope))


def _average_pool(draft: QdqDraft, operation: AveragePool, x: str) -> str:
    """A Conv of ones over the counts, which any padding is right for."""
    channels, *sizes = draft.shapes[operation.inputs[0]]
    windows = operation.windows
    ones = np.ones((channels, 1, *windows.size), np.float32)
    total = draft.emit("Conv", x, ones, group=channels, **window_attributes(windows))
    counts = windows.counts(tuple(sizes), operation.counted)
    return draft.emit("Div", total, float32(counts))


def _mean(draft: QdqDraft, operation: Mean, x: str) -> str:
    return draft.emit("ReduceMean", x, np.array(operation.axes) + 1, keepdims=1)


def _softmax(draft: QdqDraft, operation: Softmax, x: str) -> str:
    return draft.emit("Softmax", x, axis=operation.axis + 1)


def _layer_norm(draft: QdqDraft, operation: LayerNorm, x: str) -> str:
    gain, shift = operation.gain, operation.shift
    attributes = {"axis": -gain.ndim, "epsilon": operation.epsilon}
    return draft.emit("LayerNormalization", x, gain, shift, **attributes)


def _constant(draft: QdqDraft, operation: Constant) -> str:
    return draft.emit("Identity", float32(operation.value)[None])


def _lookup(draft: QdqDraft, operation: Lookup, x: str) -> str:
    return draft.emit("Gather", operation.table, draft.cast(x, np.int64), axis=0)


_OF_PAIRS = {
    IslandKind.DIVIDE: "Div",
    IslandKind.MAXIMUM: "Max",
    IslandKind.MINIMUM: "Min",
    IslandKind.POWER: "Pow",
}


def _island(draft: QdqDraft, operation: Island, *tensors: str) -> str:
    if operation.kind in _OF_PAIRS:
        return draft.emit(_OF_PAIRS[operation.kind], *tensors)
    (x,) = tensors
    if operation.kind in {IslandKind.MAX, IslandKind.SUM}:
        operator = "ReduceMax" if operation.kind == IslandKind.MAX else "ReduceSum"
        return draft.emit(operator, x, np.array(operation.axes) + 1, keepdims=1)
    if operation.kind == IslandKind.RESPONSE_NORM:
        alpha, beta, k = operation.numbers
        return draft.emit("LRN", x, size=operation.axes[0], alpha=alpha, beta=beta, bias=k)
    shape = draft.shapes[operation.inputs[0]]
    groups = shape[0] if operation.kind == IslandKind.INSTANCE_NORM else operation.axes[0]
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    grouped = draft.reshaped_real(operation.inputs[0], (groups, -1))
    epsilon = operation.epsilon
    y = draft.emit("InstanceNormalization", grouped, ones, zeros, epsilon=epsilon)
    return draft.reshape(y, shape)


_EMITTED: dict[type, Callable[..., str]] = {
    Convolution: _convolution,
    Linear: _linear,
    MatMul: lambda draft, _, *tensors: draft.emit("MatMul", *tensors),
    Add: _add,
    Mul: lambda draft, _, *tensors: draft.emit("Mul", *tensors),
    Elementwise: _elementwise,
    ChannelAffine: _channel_affine,
    PRelu: _prelu,
    AveragePool: _average_pool,
    Mean: _mean,
    Softmax: _softmax,
    LayerNorm: _layer_norm,
    Constant: _constant,
    Lookup: _lookup,
    Island: _island,
}
