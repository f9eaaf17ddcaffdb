"""ATen sums, products, quotients and choices of tensors, constants and numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from arraysmith.learning.torch_import.functions import power_steps, step
from arraysmith.learning.torch_import.site import MASKED, NEVER, Operand, Value, rank_of
from arraysmith.networks.functions import Function
from arraysmith.networks.operations import (
    Add,
    ChannelAffine,
    Constant,
    Island,
    IslandKind,
    Mul,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from arraysmith.learning.torch_import.site import Shape, Site

Number = int | float
Term = Operand | Number


def _live(term: Term) -> Value:
    """The operand that depends on an input: a node without one is a constant."""
    assert isinstance(term, Value)  # noqa: S101
    return term


def _constant(site: Site, x: Value, other: Term) -> np.ndarray | float:
    """What meets `x`: a number, or float32 without the batch."""
    assert not isinstance(other, Value)  # noqa: S101
    if not isinstance(other, torch.Tensor):
        return float(other)
    rest = site.rest(other, x.rank)
    return float(rest) if rest.numel() == 1 else site.numbers(rest, "constant")


def _by_channel(constant: np.ndarray, shape: Shape) -> np.ndarray | None:
    """(channels,) where a constant differs along axis 0 alone."""
    widened = (1,) * (len(shape) - constant.ndim) + constant.shape
    return constant.reshape(-1) if widened == (shape[0], *(1,) * (len(shape) - 1)) else None


def shifted(site: Site, x: Value, constant: np.ndarray | float) -> Value:
    """x + constant."""
    if isinstance(constant, float):
        return x if constant == 0 else site.apply(x, Function.ADD, constant)
    if site.feeds_softmax:
        constant = np.where(constant <= NEVER, np.float32(MASKED), constant)
    if not constant.any() and np.broadcast_shapes(constant.shape, x.shape) == x.shape:
        return x
    channels = _by_channel(constant, x.shape)
    if channels is not None:
        return site.emit(ChannelAffine, x, gain=np.ones_like(channels), shift=channels)
    return site.emit(Add, x, site.emit(Constant, value=constant), signs=(1, 1))


def scaled(site: Site, x: Value, constant: np.ndarray | float) -> Value:
    """x·constant."""
    if isinstance(constant, float):
        return x if constant == 1 else site.apply(x, Function.MUL, constant)
    if (constant == 1).all() and np.broadcast_shapes(constant.shape, x.shape) == x.shape:
        return x
    channels = _by_channel(constant, x.shape)
    if channels is not None:
        return site.emit(ChannelAffine, x, gain=channels, shift=np.zeros_like(channels))
    return site.emit(Mul, x, site.emit(Constant, value=constant))


def _summed(site: Site, left: Term, right: Term, sign: int) -> Value:
    if isinstance(left, Value) and isinstance(right, Value):
        rank = rank_of(left, right)
        pair = (site.value(left, rank), site.value(right, rank))
        return site.emit(Add, *pair, signs=(1, sign))
    if isinstance(left, Value):
        constant = _constant(site, left, right)
        return shifted(site, left, constant if sign > 0 else -constant)
    live = _live(right)
    turned = live if sign > 0 else site.apply(live, Function.MUL, -1)
    return shifted(site, turned, _constant(site, live, left))


def _times(site: Site, term: Term, factor: Number) -> Term:
    if factor == 1:
        return term
    return site.apply(term, Function.MUL, factor) if isinstance(term, Value) else term * factor


def _add(site: Site, *, x: Term, other: Term, alpha: Number = 1) -> Value:
    return _summed(site, x, _times(site, other, alpha), 1)


def _sub(site: Site, *, x: Term, other: Term, alpha: Number = 1) -> Value:
    return _summed(site, x, _times(site, other, alpha), -1)


def _rsub(site: Site, *, x: Term, other: Term, alpha: Number = 1) -> Value:
    return _summed(site, other, _times(site, x, alpha), -1)


def _mul(site: Site, *, x: Term, other: Term) -> Value:
    if isinstance(x, Value) and isinstance(other, Value):
        rank = rank_of(x, other)
        return site.emit(Mul, site.value(x, rank), site.value(other, rank))
    value, rest = (x, other) if isinstance(x, Value) else (_live(other), x)
    return scaled(site, value, _constant(site, value, rest))


def _div(site: Site, *, x: Term, other: Term, rounding_mode: str | None = None) -> Value:
    site.settle(rounding_mode is None, f"rounds quotients ({rounding_mode}); leave them reals")
    if not isinstance(other, Value):
        live = _live(x)
        constant = np.asarray(_constant(site, live, other), np.float64)
        site.settle(constant.all(), "divides by a constant that is 0")
        inverse = 1 / constant
        return scaled(site, live, inverse.astype(np.float32) if inverse.ndim else float(inverse))
    if not isinstance(x, Value):
        inverted = site.apply(other, Function.RECIPROCAL)
        return scaled(site, inverted, _constant(site, other, x))
    return _paired(site, x, other, IslandKind.DIVIDE)


def _paired(site: Site, x: Term, other: Term, kind: IslandKind) -> Value:
    rank = rank_of(x, other)
    return site.emit(Island, site.value(x, rank), site.value(other, rank), kind=kind)


def _pow(site: Site, *, x: Term, exponent: Term) -> Value:
    if isinstance(x, Value) and not isinstance(exponent, Value):
        constant = _constant(site, x, exponent)
        if isinstance(constant, float):
            return site.steps(x, *power_steps(constant))
    elif isinstance(exponent, Value) and not isinstance(x, Value):
        base = _constant(site, exponent, x)
        if isinstance(base, float) and base > 0:
            return site.steps(exponent, step(Function.MUL, math.log(base)), step(Function.EXP))
    return _paired(site, x, exponent, IslandKind.POWER)


def _extreme(kind: IslandKind) -> Callable[..., Value]:
    def apply(site: Site, *, x: Operand, other: Operand) -> Value:
        value, rest = (x, other) if isinstance(x, Value) else (other, x)
        assert isinstance(value, Value)  # noqa: S101 (a node without one is a constant)
        constant = None if isinstance(rest, Value) else _constant(site, value, rest)
        if not isinstance(constant, float):
            return _paired(site, x, other, kind)
        low, high = (constant, math.inf) if kind is IslandKind.MAXIMUM else (-math.inf, constant)
        return site.steps(value, step(Function.CLIP, low, high))

    return apply


def _where(site: Site, *, condition: Operand, x: Term, other: Term) -> Value:
    """x where a constant condition holds, else other: kept·x + (1 - kept)·other."""
    rank = rank_of(x, other)
    kept = site.rest(site.fixed(condition, "condition").bool(), rank)
    if site.feeds_softmax:
        for scores, rest, seen in ((x, other, kept), (other, x, ~kept)):
            if isinstance(scores, Value) and _masks(rest, seen):
                return shifted(site, scores, torch.where(seen, 0.0, MASKED).numpy())
    return _summed(site, _chosen(site, x, kept, rank), _chosen(site, other, ~kept, rank), 1)


def _masks(x: Term, seen: torch.Tensor) -> bool:
    """Whether softmax sees nothing of a constant where `seen` is false."""
    return not isinstance(x, Value) and bool((seen | (torch.as_tensor(x) <= NEVER)).all())


def _chosen(site: Site, x: Term, kept: torch.Tensor, rank: int) -> Term:
    if isinstance(x, Value):
        return scaled(site, x, kept.float().numpy())
    constant = torch.as_tensor(x, dtype=torch.float32)
    return torch.where(kept, site.rest(constant, rank), 0.0)


def _masked_fill(site: Site, *, x: Value, mask: Operand, value: Term) -> Value:
    return _where(site, condition=~site.fixed(mask, "mask").bool(), x=x, other=value)


ARITHMETIC: dict[str, Callable[..., Value]] = {
    "add": _add,
    "sub": _sub,
    "subtract": _sub,
    "rsub": _rsub,
    "mul": _mul,
    "multiply": _mul,
    "div": _div,
    "divide": _div,
    "true_divide": _div,
    "pow": _pow,
    "maximum": _extreme(IslandKind.MAXIMUM),
    "minimum": _extreme(IslandKind.MINIMUM),
    "where": _where,
    "masked_fill": _masked_fill,
}
"""By ATen name, what makes operations of a node."""
