"""A float graph computed by torch: the reference that quantization is held to.

Tensors have the batch as their first axis; a constant has a batch of one. The precision is that of
the tensors given (float32, or float64 for the float islands of an integer network).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 (its usual name)

from arraysmith.errors import InvalidNetworkError
from arraysmith.networks.functions import Function
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from arraysmith.networks.functions import Step
    from arraysmith.networks.graph import FloatGraph
    from arraysmith.networks.operations import FloatOperation
    from arraysmith.networks.windows import Windows

Tensor = torch.Tensor


def run(graph: FloatGraph, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The outputs of a graph, by name.

    Args:
        graph: the network.
        inputs: (batch, *shape) by name: floats, or int64 row numbers.

    Raises:
        InvalidNetworkError: an input is missing or of another shape.
    """
    return {name: x for name, x in trace(graph, inputs) if name in graph.outputs}


@torch.inference_mode()
def trace(graph: FloatGraph, inputs: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor by name, inputs first; each is dropped after its last reader."""
    last: dict[str, int] = {}
    for place, operation in enumerate(graph.operations):
        last.update(dict.fromkeys(operation.inputs, place))
    known: dict[str, Tensor] = {}
    for given in graph.inputs:
        x = inputs.get(given.name)
        if x is None or tuple(x.shape[1:]) != given.shape:
            raise InvalidNetworkError(
                f"network {graph.name!r}: input {given.name!r} is "
                f"{'missing' if x is None else f'of shape {tuple(x.shape)}'}, needs (batch, "
                f"{', '.join(map(str, given.shape))})"
            )
        known[given.name] = x
        yield given.name, x
    for place, operation in enumerate(graph.operations):
        y = evaluate(operation, *(known[name] for name in operation.inputs))
        known[operation.name] = y
        yield operation.name, y
        for name in {*operation.inputs, operation.name}:
            if last.get(name, -1) <= place:
                del known[name]


def evaluate(operation: FloatOperation, *tensors: Tensor) -> Tensor:
    """What one operation makes of its inputs."""
    compute = _COMPUTED.get(type(operation))
    if compute is None:
        raise InvalidNetworkError(f"no float arithmetic for {operation!r}")
    return compute(operation, *tensors)


def apply_steps(steps: Sequence[Step], x: Tensor) -> Tensor:
    """Element-wise functions, one after the other."""
    for step in steps:
        x = _FUNCTIONS[step.function](x, *step.numbers)
    return x


def aligned(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors of as many axes: those that lack some get them right behind the batch."""
    rank = max(x.ndim for x in tensors)
    return tuple(x.reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:]) for x in tensors)


_FUNCTIONS: dict[Function, Callable[..., Tensor]] = {
    Function.RELU: torch.relu,
    Function.CLIP: lambda x, low, high: x.clamp(low, high),
    Function.LEAKY_RELU: F.leaky_relu,
    Function.ELU: F.elu,
    Function.SIGMOID: torch.sigmoid,
    Function.TANH: torch.tanh,
    Function.SILU: F.silu,
    Function.GELU: F.gelu,
    Function.GELU_TANH: lambda x: F.gelu(x, approximate="tanh"),
    Function.HARD_SIGMOID: lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
    Function.HARD_SWISH: lambda x: (x / 6).add_(0.5).clamp_(0, 1).mul_(x),
    Function.SOFTPLUS: F.softplus,
    Function.MISH: F.mish,
    Function.ERF: torch.erf,
    Function.EXP: torch.exp,
    Function.LOG: torch.log,
    Function.SQRT: torch.sqrt,
    Function.RECIPROCAL: torch.reciprocal,
    Function.ABS: torch.abs,
    Function.POWER: torch.pow,
    Function.ADD: torch.add,
    Function.MUL: torch.mul,
}


def _as(array: NDArray[np.float32], like: Tensor) -> Tensor:
    # Records hold what they share with others: torch wants an array that it may write to.
    return torch.tensor(array, dtype=like.dtype)


def _per_channel(array: NDArray[np.float32], x: Tensor) -> Tensor:
    """(channels,) against (batch, channels, …)."""
    return _as(array, x).reshape(1, -1, *(1,) * (x.ndim - 2))


def _padded(x: Tensor, windows: Windows, value: float = 0.0) -> Tensor:
    return F.pad(x, _pairs(windows.before, windows.after), value=value)


def _pairs(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Padding as torch wants it: the last axis first."""
    pairs = zip(reversed(before), reversed(after), strict=True)
    return [amount for pair in pairs for amount in pair]


def _convolution(operation: Convolution, x: Tensor) -> Tensor:
    windows = operation.windows
    same = windows.before == windows.after
    padded = x if same else _padded(x, windows)
    padding = windows.before if same else (0,) * len(windows.size)
    weight, bias = _as(operation.weight, x), _as(operation.bias, x)
    given = (windows.strides, padding, windows.dilations)
    along: Callable[..., Tensor] = F.conv1d
    if len(windows.size) == 1:
        return along(padded, weight, bias, *given, operation.groups)
    if padded.shape[3] == windows.size[1] == 1 and padding[1] == 0:
        # A column: torch computes along the last axis side by side, and there is one word.
        column = (each[:1] for each in given)
        return along(padded[..., 0], weight[..., 0], bias, *column, operation.groups)[..., None]
    over: Callable[..., Tensor] = F.conv2d
    return over(padded, weight, bias, *given, operation.groups)


def _linear(operation: Linear, x: Tensor) -> Tensor:
    return F.linear(x, _as(operation.weight, x), _as(operation.bias, x))


def _add(operation: Add, *tensors: Tensor) -> Tensor:
    total: Tensor | None = None
    for sign, x in zip(operation.signs, aligned(*tensors), strict=True):
        term = x if sign > 0 else -x
        total = term if total is None else total + term
    assert total is not None  # noqa: S101 (an Add has inputs)
    return total


def _mul(_: Mul, left: Tensor, right: Tensor) -> Tensor:
    left, right = aligned(left, right)
    return left * right


def _matmul(_: MatMul, left: Tensor, right: Tensor) -> Tensor:
    return torch.matmul(*aligned(left, right))


def _channel_affine(operation: ChannelAffine, x: Tensor) -> Tensor:
    return x * _per_channel(operation.gain, x) + _per_channel(operation.shift, x)


def _prelu(operation: PRelu, x: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * _per_channel(operation.slope, x))


def _average_pool(operation: AveragePool, x: Tensor) -> Tensor:
    windows = operation.windows
    counts = windows.counts(tuple(x.shape[2:]), operation.counted)
    return _window_sums(_padded(x, windows), windows) / torch.tensor(counts, dtype=x.dtype)


def _window_sums(x: Tensor, windows: Windows) -> Tensor:
    """Sums over the windows of a padded image."""
    if max(windows.dilations) == 1:
        lines = x.unsqueeze(2) if len(windows.size) == 1 else x
        size, strides = (
            (1,) * (2 - len(each)) + tuple(each) for each in (windows.size, windows.strides)
        )
        sums = F.avg_pool2d(lines, size, strides, divisor_override=1)
        return sums.squeeze(2) if len(windows.size) == 1 else sums
    ones = torch.ones((x.shape[1], 1, *windows.size), dtype=x.dtype)
    convolve: Callable[..., Tensor] = F.conv1d if len(windows.size) == 1 else F.conv2d
    return convolve(x, ones, stride=windows.strides, dilation=windows.dilations, groups=x.shape[1])


def _max_pool(operation: MaxPool, x: Tensor) -> Tensor:
    windows = operation.windows
    pool: Callable[..., Tensor] = F.max_pool1d if len(windows.size) == 1 else F.max_pool2d
    padded = _padded(x, windows, value=float("-inf"))
    return pool(padded, windows.size, stride=windows.strides, dilation=windows.dilations)


def _mean(operation: Mean, x: Tensor) -> Tensor:
    return x.mean([axis + 1 for axis in operation.axes], keepdim=True)


def _layer_norm(operation: LayerNorm, x: Tensor) -> Tensor:
    gain, shift = _as(operation.gain, x), _as(operation.shift, x)
    return F.layer_norm(x, list(gain.shape), gain, shift, operation.epsilon)


def _constant(operation: Constant) -> Tensor:
    return torch.tensor(operation.value).unsqueeze(0)


def _lookup(operation: Lookup, x: Tensor) -> Tensor:
    return torch.tensor(operation.table)[x.long()]


def _pad(operation: Pad, x: Tensor) -> Tensor:
    return F.pad(x, _pairs(operation.before, operation.after), value=operation.value)


def _stretch(operation: Stretch, x: Tensor) -> Tensor:
    sizes = operation.output_shape(tuple(x.shape[1:]))
    stretched = torch.full((len(x), *sizes), operation.value, dtype=x.dtype)
    places = tuple(slice(None, None, factor) for factor in (1, 1, *operation.factors))
    stretched[places] = x
    return stretched


def _expand(operation: Expand, x: Tensor) -> Tensor:
    missing = len(operation.shape) - (x.ndim - 1)
    widened = x.reshape(len(x), *(1,) * missing, *x.shape[1:])
    return widened.expand(len(x), *operation.shape)


def _concat(operation: Concat, *tensors: Tensor) -> Tensor:
    batch = max(len(x) for x in tensors)
    return torch.cat([x.expand(batch, *x.shape[1:]) for x in tensors], operation.axis + 1)


def _response_norm(operation: Island, x: Tensor) -> Tensor:
    """Of an even size the greater half lies behind, as ONNX has it."""
    (size,), (alpha, beta, k) = operation.axes, operation.numbers
    lines = F.pad(x.flatten(2).square(), (0, 0, (size - 1) // 2, size // 2))
    total = lines.unfold(1, size, 1).sum(-1).reshape(x.shape)
    return x / (k + alpha / size * total) ** beta


def _island(operation: Island, *tensors: Tensor) -> Tensor:
    pairs: dict[IslandKind, Callable[[Tensor, Tensor], Tensor]] = {
        IslandKind.DIVIDE: torch.div,
        IslandKind.MAXIMUM: torch.maximum,
        IslandKind.MINIMUM: torch.minimum,
        IslandKind.POWER: torch.pow,
    }
    if operation.kind in pairs:
        return pairs[operation.kind](*aligned(*tensors))
    (x,) = tensors
    axes = [axis + 1 for axis in operation.axes]
    match operation.kind:
        case IslandKind.MAX:
            return x.amax(axes, keepdim=True)
        case IslandKind.SUM:
            return x.sum(axes, keepdim=True)
        case IslandKind.INSTANCE_NORM:
            return F.group_norm(x, x.shape[1], eps=operation.epsilon)
        case IslandKind.GROUP_NORM:
            return F.group_norm(x, operation.axes[0], eps=operation.epsilon)
        case IslandKind.RESPONSE_NORM:
            return _response_norm(operation, x)
    raise operation.refuse(f"no float arithmetic for {operation.kind}")


_COMPUTED: dict[type, Callable[..., Tensor]] = {
    Convolution: _convolution,
    Linear: _linear,
    MatMul: _matmul,
    Add: _add,
    Mul: _mul,
    Elementwise: lambda operation, x: apply_steps(operation.steps, x),
    ChannelAffine: _channel_affine,
    PRelu: _prelu,
    AveragePool: _average_pool,
    Mean: _mean,
    Softmax: lambda operation, x: x.softmax(operation.axis + 1),
    LayerNorm: _layer_norm,
    Constant: _constant,
    Lookup: _lookup,
    Island: _island,
    Reshape: lambda operation, x: x.reshape(len(x), *operation.shape),
    Transpose: lambda operation, x: x.permute(0, *(axis + 1 for axis in operation.axes)),
    Take: lambda operation, x: x.index_select(operation.axis + 1, torch.tensor(operation.indices)),
    Pad: _pad,
    Stretch: _stretch,
    Expand: _expand,
    Concat: _concat,
    MaxPool: _max_pool,
}
