"""ONNX nodes that take tensors word by word: functions, sums, products and their constants."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.formats.onnx_import.weights import as_reals
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.operations import (
    Add,
    ChannelAffine,
    Elementwise,
    Island,
    IslandKind,
    Mul,
    PRelu,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from arraysmith.formats.onnx_import.draft import Tensor
    from arraysmith.formats.onnx_import.site import Site

_SELU = (1.6732632423543772848, 1.0507009873554804934)


def step(function: Function, *numbers: float) -> Step:
    """One function with its numbers."""
    return Step(function=function, numbers=numbers)


def clip(low: float, high: float) -> Step:
    """A clip; one that is only open above 0 is a ReLU."""
    return step(Function.RELU) if (low, high) == (0, inf) else step(Function.CLIP, low, high)


def function(site: Site) -> None:
    """A node that is one function of one tensor, or a chain of them."""
    x = site.tensor(0, moved=True)
    made = site.add(Elementwise, x, steps=_STEPS[site.node.op](site))
    site.give(replace(made, batch_axis=x.batch_axis))


def _clip(site: Site) -> tuple[Step, ...]:
    low, high = site.real("min", -inf), site.real("max", inf)
    low = site.number(1) if site.has(1) else low
    high = site.number(2) if site.has(2) else high
    if low > high:
        raise site.refuse(f"clips to {low}…{high}; mend the model")
    return (clip(low, high),)


def _gelu(site: Site) -> tuple[Step, ...]:
    how = site.text("approximate", "none")
    if how not in ("none", "tanh"):
        raise site.refuse(f"approximate is {how!r}, needs to be none or tanh")
    return (step(Function.GELU if how == "none" else Function.GELU_TANH),)


def _swish(site: Site) -> tuple[Step, ...]:
    alpha = site.real("alpha", 1)
    if alpha == 0:
        return (step(Function.MUL, 0.5),)
    if alpha == 1:
        return (step(Function.SILU),)
    return (
        step(Function.MUL, alpha),
        step(Function.SILU),
        step(Function.MUL, 1 / alpha),
    )


def _selu(site: Site) -> tuple[Step, ...]:
    alpha, gamma = site.real("alpha", _SELU[0]), site.real("gamma", _SELU[1])
    return (step(Function.ELU, alpha), step(Function.MUL, gamma))


def _celu(site: Site) -> tuple[Step, ...]:
    alpha = site.real("alpha", 1)
    if not alpha > 0:
        raise site.refuse(f"alpha is {alpha}, needs to be positive")
    return (step(Function.MUL, 1 / alpha), step(Function.ELU, 1.0), step(Function.MUL, alpha))


def _hard_sigmoid(site: Site) -> tuple[Step, ...]:
    return (step(Function.HARD_SIGMOID, site.real("alpha", 0.2), site.real("beta", 0.5)),)


def _plain(function: Function) -> Callable[[Site], tuple[Step, ...]]:
    return lambda _: (step(function),)


_STEPS: dict[str, Callable[[Site], tuple[Step, ...]]] = {
    "Abs": _plain(Function.ABS),
    "Celu": _celu,
    "Clip": _clip,
    "Elu": lambda site: (step(Function.ELU, site.real("alpha", 1)),),
    "Erf": _plain(Function.ERF),
    "Exp": _plain(Function.EXP),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(Function.HARD_SWISH),
    "LeakyRelu": lambda site: (step(Function.LEAKY_RELU, site.real("alpha", 0.01)),),
    "Log": _plain(Function.LOG),
    "Mish": _plain(Function.MISH),
    "Neg": lambda _: (step(Function.MUL, -1.0),),
    "Reciprocal": _plain(Function.RECIPROCAL),
    "Relu": _plain(Function.RELU),
    "Selu": _selu,
    "Sigmoid": _plain(Function.SIGMOID),
    "Softplus": _plain(Function.SOFTPLUS),
    "Sqrt": _plain(Function.SQRT),
    "Swish": _swish,
    "Tanh": _plain(Function.TANH),
}
FUNCTIONS = tuple(_STEPS)


def prelu(site: Site) -> None:
    """PRelu with one slope, or one for every channel."""
    x, slope = site.tensor(0), site.weight(1)
    slope = slope if slope.ndim <= len(x.shape) else site.inner(slope, len(x.shape) + 1)
    if slope.size == 1:
        leaky = step(Function.LEAKY_RELU, float(slope.reshape(-1)[0]))
        site.give(site.add(Elementwise, x, steps=(leaky,)))
        return
    if site.draft.opset < 7 and slope.ndim == 1:
        slope = slope.reshape(-1, *(1,) * (len(x.shape) - 1))
    gain = channels(slope, x)
    if gain is None:
        raise site.refuse(
            f"slopes of shape {slope.shape} for a tensor of shape {x.shape}; needs one, or one for "
            "every channel"
        )
    site.give(site.add(PRelu, x, slope=gain))


def channels(value: NDArray[np.float32], x: Tensor) -> NDArray[np.float32] | None:
    """One number a channel, if a constant that broadcasts is that."""
    rank = len(x.shape)
    if not rank or value.ndim != rank or value.shape != (x.shape[0], *(1,) * (rank - 1)):
        return None
    return value.reshape(-1)


def _constant_operand(site: Site, place: int, others: tuple[Tensor, ...]) -> NDArray[np.float32]:
    """A constant for one member of the batch of the tensors that it meets."""
    value = site.weight(place)
    rank = max(len(each.shape) for each in others) + 1
    if site.draft.opset < 7 and value.ndim and site.integer("broadcast", 0):
        first = site.integer("axis", rank - value.ndim) % rank
        value = value.reshape(*value.shape, *(1,) * max(0, rank - first - value.ndim))
    if value.size == 1 and value.ndim <= rank:
        return value.reshape(())
    inner: NDArray[np.float32] = site.inner(value, rank)
    return inner


def _tensors(site: Site) -> tuple[Tensor, ...]:
    """The operands that are no constants; they have as many axes, so that batches meet."""
    places = range(len(site.node.inputs))
    found = tuple(site.tensor(place) for place in places if not site.is_constant(place))
    if len({len(each.shape) for each in found}) > 1:
        shapes = ", ".join(str(["batch", *each.shape]) for each in found)
        raise site.refuse(
            f"operands {shapes} meet with the batch of one at another axis of the other; "
            "the first axis is the batch: unsqueeze behind it"
        )
    return found


def total(site: Site) -> None:
    """Add, Sub, Sum."""
    signs = (1, -1) if site.node.op == "Sub" else (1,) * len(site.node.inputs)
    found = _tensors(site)
    if len(site.node.inputs) == 2 and len(found) == 1:
        place = 1 if site.is_constant(1) else 0
        shift = signs[place] * _constant_operand(site, place, found)
        site.give(_shifted(site, found[0], float(signs[1 - place]), shift))
        return
    terms = _operands(site, found)
    if len(terms) == 1:
        site.give(terms[0])
        return
    site.give(site.add(Add, *terms, signs=signs))


def _operands(site: Site, found: tuple[Tensor, ...]) -> list[Tensor]:
    """All operands in order; constants become operations."""
    found = found or (site.tensor(0),)
    return [
        site.constant(_constant_operand(site, place, found))
        if site.is_constant(place)
        else site.tensor(place)
        for place in range(len(site.node.inputs))
    ]


def _shifted(site: Site, x: Tensor, gain: float, shift: NDArray[np.float32]) -> Tensor:
    """gain·x + shift, with gain 1 or -1."""
    if not shift.ndim:
        steps = [step(Function.MUL, gain)] if gain < 0 else []
        steps.append(step(Function.ADD, float(shift)))
        return site.add(Elementwise, x, steps=tuple(steps))
    each = channels(shift, x)
    if each is not None:
        return site.add(ChannelAffine, x, gain=np.full(len(each), gain, np.float32), shift=each)
    return site.add(Add, x, site.constant(shift), signs=(int(gain), 1))


def product(site: Site) -> None:
    """Mul."""
    found = _tensors(site)
    if len(found) == 1:
        place = 1 if site.is_constant(1) else 0
        site.give(_scaled(site, found[0], _constant_operand(site, place, found)))
        return
    site.give(site.add(Mul, *_operands(site, found)))


def _scaled(site: Site, x: Tensor, gain: NDArray[np.float32]) -> Tensor:
    if not gain.ndim:
        return site.add(Elementwise, x, steps=(step(Function.MUL, float(gain)),))
    each = channels(gain, x)
    if each is not None:
        return site.add(ChannelAffine, x, gain=each, shift=np.zeros_like(each))
    return site.add(Mul, x, site.constant(gain))


def quotient(site: Site) -> None:
    """Div: by a constant it is a product, of a constant a reciprocal's, else an island."""
    found = _tensors(site)
    if len(found) != 1:
        site.give(site.add(Island, *_operands(site, found), kind=IslandKind.DIVIDE))
        return
    (x,) = found
    if site.is_constant(1):
        divisor = _constant_operand(site, 1, found).astype(np.float64)
        if not np.abs(divisor).min(initial=np.inf) > np.finfo(np.float32).tiny:
            raise site.refuse("divides by 0; mend the model")
        if not divisor.ndim:
            site.give(site.add(Elementwise, x, steps=(step(Function.MUL, 1 / float(divisor)),)))
            return
        site.give(_scaled(site, x, (1 / divisor).astype(np.float32)))
        return
    dividend = _constant_operand(site, 0, found)
    steps = [step(Function.RECIPROCAL)]
    if not dividend.ndim:
        steps += [step(Function.MUL, float(dividend))] if dividend != 1 else []
        site.give(site.add(Elementwise, x, steps=tuple(steps)))
        return
    inverse = site.add(Elementwise, x, role="reciprocal", steps=tuple(steps))
    site.give(_scaled(site, inverse, dividend))


def power(site: Site) -> None:
    """Pow: with one constant exponent a function, else an island."""
    found = _tensors(site)
    if len(found) == 1 and site.is_constant(1):
        exponent = _constant_operand(site, 1, found)
        if not exponent.ndim:
            steps = (step(Function.POWER, float(exponent)),)
            site.give(site.add(Elementwise, found[0], steps=steps))
            return
    site.give(site.add(Island, *_operands(site, found), kind=IslandKind.POWER))


def extreme(site: Site) -> None:
    """Max and Min of any number of operands; with one number it is a clip."""
    largest = site.node.op == "Max"
    found = _tensors(site)
    if len(site.node.inputs) == 2 and len(found) == 1:
        place = 1 if site.is_constant(1) else 0
        bound = _constant_operand(site, place, found)
        if not bound.ndim:
            ends = (float(bound), inf) if largest else (-inf, float(bound))
            site.give(site.add(Elementwise, found[0], steps=(clip(*ends),)))
            return
    first, *rest = _operands(site, found)
    kind_of_island = IslandKind.MAXIMUM if largest else IslandKind.MINIMUM
    for number, each in enumerate(rest, 1):
        role = "" if number == len(rest) else f"first{number + 1}"
        first = site.add(Island, first, each, role=role, kind=kind_of_island)
    site.give(first)


def mean_of_tensors(site: Site) -> None:
    """Mean: of tensors, word by word."""
    terms = _operands(site, _tensors(site))
    added = site.add(Add, *terms, role="sum", signs=(1,) * len(terms))
    site.give(site.add(Elementwise, added, steps=(step(Function.MUL, 1 / len(terms)),)))


def batch_normalization(site: Site) -> None:
    """BatchNormalization with its running statistics, in float64."""
    x = site.tensor(0)
    if site.integer("training_mode", 0) or not site.integer("spatial", 1):
        raise site.refuse("normalises by the batch or by position; export it for inference")
    count = x.shape[0] if x.shape else 0
    gain, shift, mean, variance = (
        site.vector(place, count).astype(np.float64) for place in range(1, 5)
    )
    spread = variance + site.real("epsilon", 1e-5)
    if not (spread > 0).all():
        raise site.refuse("a variance with epsilon is not positive; mend the model")
    gain /= np.sqrt(spread)
    shift -= mean * gain
    where = f"{site.draft.path}: {site.node}: what it multiplies or adds"
    gains, shifts = as_reals(where, gain), as_reals(where, shift)
    site.give(site.add(ChannelAffine, x, gain=gains, shift=shifts))
