"""Compounds that exporters take apart, put together again: SiLU, GELU, layer normalization, biases.

What is found computes the same; a tensor that came with a type of its own is never passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isclose, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.networks.functions import Function, Step
from arraysmith.networks.operations import (
    Add,
    ChannelAffine,
    Constant,
    Convolution,
    Elementwise,
    Island,
    IslandKind,
    LayerNorm,
    Linear,
    Mean,
    Mul,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from arraysmith.networks.operations import FloatOperation

Shape = tuple[int, ...]
Steps = tuple[Step, ...]

Pattern = tuple[tuple[Function, tuple[float, ...]], ...]
_SQUARE: Pattern = ((Function.POWER, (2,)),)
_GATES: tuple[tuple[Function, Pattern, float], ...] = (
    (Function.SILU, ((Function.SIGMOID, ()),), 1),
    (Function.HARD_SWISH, ((Function.HARD_SIGMOID, (1 / 6, 0.5)),), 1),
    (Function.HARD_SWISH, ((Function.ADD, (3,)), (Function.CLIP, (0, 6))), 6),
    (Function.MISH, ((Function.SOFTPLUS, ()), (Function.TANH, ())), 1),
    (
        Function.GELU,
        ((Function.MUL, (sqrt(0.5),)), (Function.ERF, ()), (Function.ADD, (1,))),
        2,
    ),
)
"""f with x·gate(x) = factor·f(x), and the steps of that gate."""


@dataclass(slots=True, kw_only=True)
class Composition:
    """The operations of a draft, by name and in order, while they are put together."""

    operations: dict[str, FloatOperation]
    shapes: Mapping[str, Shape]
    kept: set[str]
    """Tensors that are looked at from outside: outputs, and those with types."""
    renamed: dict[str, str]
    """Tensors that have become another, which has their words."""

    def maker(self, tensor: str) -> FloatOperation | None:
        """What makes a tensor that may be passed over."""
        return None if tensor in self.kept else self.operations.get(tensor)


def composed(
    operations: Iterable[FloatOperation],
    shapes: Mapping[str, Shape],
    kept: Iterable[str],
) -> tuple[list[FloatOperation], dict[str, str]]:
    """Operations with compounds put together, and which tensors were renamed.

    Args:
        operations: in order.
        shapes: of all tensors.
        kept: tensors that stay as they are.
    """
    draft = Composition(
        operations={each.name: each for each in operations},
        shapes=shapes,
        kept=set(kept),
        renamed={},
    )
    readers: dict[str, int] = {}
    for each in draft.operations.values():
        for tensor in each.inputs:
            readers[tensor] = readers.get(tensor, 0) + 1
    gates: dict[str, float] = {}
    for name, operation in list(draft.operations.items()):
        inputs = tuple(draft.renamed.get(tensor, tensor) for tensor in operation.inputs)
        if inputs != operation.inputs:
            operation = replace(operation, inputs=inputs)  # noqa: PLW2901 (its renamed self)
        draft.operations[name] = operation
        found = (
            _gated(draft, operation, gates)
            or _unscaled(draft, operation, gates)
            or _tanh_gelu(draft, operation, gates)
            or _layer_norm(draft, operation)
            or _gained(draft, operation, readers)
        )
        if found is not None:
            draft.operations[name] = found
        else:
            _biased(draft, operation, readers)
    return list(draft.operations.values()), draft.renamed


def _chain(draft: Composition, tensor: str) -> list[tuple[str, Steps]]:
    """Where functions of one tensor lead back to, and the steps from there on."""
    found: list[tuple[str, Steps]] = [(tensor, ())]
    steps: Steps = ()
    while isinstance(operation := draft.maker(tensor), Elementwise) and len(steps) < 8:
        steps = operation.steps + steps
        tensor = operation.inputs[0]
        found.append((tensor, steps))
    return found


def _scale(steps: Steps) -> float | None:
    """The factor of steps that only multiply."""
    factor = 1.0
    for step in steps:
        if step.function is not Function.MUL:
            return None
        factor *= step.numbers[0]
    return factor


def _matches(steps: Steps, pattern: Pattern) -> bool:
    return len(steps) == len(pattern) and all(
        step.function is function
        and all(
            isclose(a, b, rel_tol=1e-4, abs_tol=1e-9)
            for a, b in zip(step.numbers, numbers, strict=True)
        )
        for step, (function, numbers) in zip(steps, pattern, strict=True)
    )


def _gate(steps: Steps) -> tuple[Function, float] | None:
    """The function that a gate of these steps is, times x, and its factor."""
    for length in range(len(steps), 0, -1):
        factor = _scale(steps[length:])
        if factor is None:
            return None
        for function, pattern, scale in _GATES:
            if _matches(steps[:length], pattern):
                return function, factor * scale
    return None


def _gated(
    draft: Composition, operation: FloatOperation, gates: dict[str, float]
) -> FloatOperation | None:
    """x·gate(x) as one function."""
    if not isinstance(operation, Mul):
        return None
    for one, other in (operation.inputs, operation.inputs[::-1]):
        roots = {root: _scale(steps) for root, steps in _chain(draft, one)}
        for root, steps in _chain(draft, other):
            before = roots.get(root)
            gate = _gate(steps)
            if before is None or gate is None:
                continue
            function, factor = gate
            factor *= before
            made: Steps = (Step(function=function),)
            if not isclose(factor, 1, rel_tol=1e-4):
                made += (Step(function=Function.MUL, numbers=(factor,)),)
                gates[operation.name] = factor
            return Elementwise(name=operation.name, inputs=(root,), steps=made)
    return None


def _unscaled(
    draft: Composition, operation: FloatOperation, gates: Mapping[str, float]
) -> FloatOperation | None:
    """2·GELU(x) times a half, 6·HardSwish(x) over six: the factor goes."""
    if not isinstance(operation, Elementwise) or operation.inputs[0] in draft.kept:
        return None
    (source,) = operation.inputs
    factor, before = gates.get(source), _scale(operation.steps[:1])
    if factor is None or before is None or not operation.steps:
        return None
    if not isclose(factor * before, 1, rel_tol=1e-4):
        return None
    gated: Any = draft.operations[source]
    return replace(operation, inputs=gated.inputs, steps=gated.steps[:-1] + operation.steps[1:])


def _tanh_gelu(
    draft: Composition, operation: FloatOperation, gates: dict[str, float]
) -> FloatOperation | None:
    """x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))."""
    if not isinstance(operation, Mul):
        return None
    pattern = ((Function.MUL, (sqrt(2 / np.pi),)), (Function.TANH, ()), (Function.ADD, (1,)))
    for one, other in (operation.inputs, operation.inputs[::-1]):
        roots = {root: _scale(steps) for root, steps in _chain(draft, one)}
        for inner, steps in _chain(draft, other):
            factor = _scale(steps[3:])
            if factor is None or not _matches(steps[:3], pattern):
                continue
            root = _cubic(draft, draft.maker(inner))
            before = roots.get(root) if root else None
            if root is None or before is None:
                continue
            factor *= 2 * before
            made: Steps = (Step(function=Function.GELU_TANH),)
            if not isclose(factor, 1, rel_tol=1e-4):
                made += (Step(function=Function.MUL, numbers=(factor,)),)
                gates[operation.name] = factor
            return Elementwise(name=operation.name, inputs=(root,), steps=made)
    return None


def _cubic(draft: Composition, operation: FloatOperation | None) -> str | None:
    """The x of x + 0.044715·x³."""
    if not isinstance(operation, Add) or operation.signs != (1, 1):
        return None
    pattern = ((Function.POWER, (3,)), (Function.MUL, (0.044715,)))
    for x, cube in (operation.inputs, operation.inputs[::-1]):
        if (x, True) in {(root, _matches(steps, pattern)) for root, steps in _chain(draft, cube)}:
            return x
    return None


def _layer_norm(draft: Composition, operation: FloatOperation) -> FloatOperation | None:
    """(x - mean)/√(mean of squares + epsilon), without gain and shift yet."""
    divided = isinstance(operation, Island) and operation.kind is IslandKind.DIVIDE
    if not divided and not isinstance(operation, Mul):
        return None
    centred = draft.maker(operation.inputs[0])
    spread = _spread(draft, operation.inputs[1], divided=divided)
    if not isinstance(centred, Add) or centred.signs != (1, -1) or spread is None:
        return None
    variance, epsilon = spread
    x, middle = centred.inputs
    mean = draft.maker(middle)
    if not isinstance(mean, Mean) or mean.inputs != (x,) or mean.axes != variance.axes:
        return None
    square = draft.maker(variance.inputs[0])
    if not _is_square(draft, square, centred):
        return None
    shape = draft.shapes[x]
    first = len(shape) - len(mean.axes)
    if mean.axes != tuple(range(first, len(shape))):
        return None
    ones = np.ones(shape[first:], np.float32)
    return LayerNorm(
        name=operation.name, inputs=(x,), gain=ones, shift=np.zeros_like(ones), epsilon=epsilon
    )


def _spread(draft: Composition, tensor: str, *, divided: bool) -> tuple[Mean, float] | None:
    """The variance of a standard deviation, or of its reciprocal, and the epsilon in it."""
    for root, steps in _chain(draft, tensor):
        mean = draft.maker(root)
        if not isinstance(mean, Mean) or len(steps) < 2 or steps[0].function is not Function.ADD:
            continue
        roots: list[Pattern] = [((Function.SQRT, ()),), ((Function.POWER, (0.5,)),)]
        if not divided:
            inverse: tuple[Function, tuple[float, ...]] = (Function.RECIPROCAL, ())
            roots = [(*each, inverse) for each in roots] + [((Function.POWER, (-0.5,)),)]
        if any(_matches(steps[1:], each) for each in roots):
            return mean, steps[0].numbers[0]
    return None


def _is_square(draft: Composition, square: FloatOperation | None, centred: Add) -> bool:
    squared = isinstance(square, Elementwise) and _matches(square.steps, _SQUARE)
    if square is None or not (squared or isinstance(square, Mul)):
        return False
    makers = [draft.maker(tensor) for tensor in square.inputs]
    return all(
        isinstance(each, Add) and (each.inputs, each.signs) == (centred.inputs, centred.signs)
        for each in makers
    )


def _numbers(
    draft: Composition, operation: FloatOperation, kind: type, shape: Shape
) -> tuple[str, NDArray[np.float32]] | None:
    """What a sum or product takes, and the constant of a shape that it takes it with."""
    if not isinstance(operation, kind) or len(operation.inputs) != 2:
        return None
    for x, other in (operation.inputs, operation.inputs[::-1]):
        constant = draft.operations.get(other)
        if isinstance(constant, Constant) and constant.value.shape[-len(shape) :] == shape:
            value = constant.value
            if value.size == np.prod(shape) and not isinstance(draft.operations.get(x), Constant):
                return x, value.reshape(shape)
    return None


def _gained(
    draft: Composition, operation: FloatOperation, readers: Mapping[str, int]
) -> FloatOperation | None:
    """A layer normalization takes the gain and the shift behind it."""
    for tensor in operation.inputs:
        normal = draft.maker(tensor)
        if not isinstance(normal, LayerNorm) or readers.get(tensor) != 1:
            continue
        gain, shift = _gain_and_shift(draft, operation, normal.gain.shape, draft.shapes[tensor])
        with np.errstate(over="ignore", invalid="ignore"):
            gains, shifts = normal.gain * gain, normal.shift * gain + shift
        changes = isinstance(gain, np.ndarray) or isinstance(shift, np.ndarray)
        if changes and np.isfinite(gains).all() and np.isfinite(shifts).all():
            return replace(normal, name=operation.name, gain=gains, shift=shifts)
    return None


def _gain_and_shift(
    draft: Composition, operation: FloatOperation, shape: Shape, whole: Shape
) -> tuple[NDArray[np.float32] | float, NDArray[np.float32] | float]:
    """What an operation multiplies the normalised axes with and adds to them; 1 and 0 if not."""
    if isinstance(operation, ChannelAffine) and shape == whole == operation.gain.shape:
        return operation.gain, operation.shift
    gain = _numbers(draft, operation, Mul, shape)
    shift = _numbers(draft, operation, Add, shape)
    if shift is not None and isinstance(operation, Add) and operation.signs != (1, 1):
        shift = None
    return 1.0 if gain is None else gain[1], 0.0 if shift is None else shift[1]


def _biased(draft: Composition, operation: FloatOperation, readers: Mapping[str, int]) -> None:
    """A convolution or linear layer takes the bias behind it, and keeps its name."""
    for tensor in operation.inputs:
        layer = draft.maker(tensor)
        if not isinstance(layer, (Convolution, Linear)) or readers.get(tensor) != 1:
            continue
        bias = _bias(draft, operation, layer)
        with np.errstate(over="ignore"):
            summed = None if bias is None else layer.bias + bias
        if summed is None or not np.isfinite(summed).all():
            continue
        if operation.name in draft.kept:
            draft.kept.add(layer.name)
        draft.operations[layer.name] = replace(layer, bias=summed)
        draft.renamed[operation.name] = layer.name
        del draft.operations[operation.name]
        return


def _bias(
    draft: Composition, operation: FloatOperation, layer: Convolution | Linear
) -> NDArray[np.float32] | None:
    """What an operation adds to the outputs of a layer."""
    shape = draft.shapes[layer.name]
    if isinstance(operation, ChannelAffine):
        channels = isinstance(layer, Convolution) or len(shape) == 1
        return operation.shift if channels and (operation.gain == 1).all() else None
    if not isinstance(operation, Add) or not isinstance(layer, Linear):
        return None
    found = _numbers(draft, operation, Add, layer.bias.shape)
    if found is None or operation.signs != (1, 1):
        return None
    constant = draft.operations[next(each for each in operation.inputs if each != layer.name)]
    value = getattr(constant, "value", None)
    return found[1] if value is not None and value.ndim <= len(shape) else None
