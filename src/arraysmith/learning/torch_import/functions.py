"""ATen functions of one tensor, word by word, as chains of `networks.functions`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from arraysmith.learning.torch_import.site import Value
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.operations import PRelu

if TYPE_CHECKING:
    from collections.abc import Callable

    from arraysmith.learning.torch_import.site import Operand, Site

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""Klambauer et al., NIPS 2017."""


def step(function: Function, *numbers: float) -> Step:
    """One function with its numbers."""
    return Step(function=function, numbers=tuple(map(float, numbers)))


def _plain(*steps: Step) -> Callable[..., Value]:
    """A function without arguments that matter."""

    def apply(site: Site, *, x: Value, **_: object) -> Value:
        return site.steps(x, *steps)

    return apply


def _clamp(site: Site, *, x: Value, **bounds: object) -> Value:
    low, high = bounds.get("min"), bounds.get("max")
    site.settle(
        not isinstance(low, torch.Tensor | Value) and not isinstance(high, torch.Tensor | Value),
        "clamps by tensors; clamp by numbers",
    )
    numbers = (-math.inf if low is None else low, math.inf if high is None else high)
    return site.steps(x, step(Function.CLIP, *(float(str(number)) for number in numbers)))


def _hardtanh(site: Site, *, x: Value, min_val: float, max_val: float) -> Value:
    return site.steps(x, step(Function.CLIP, min_val, max_val))


def _leaky_relu(site: Site, *, x: Value, negative_slope: float) -> Value:
    return site.steps(x, step(Function.LEAKY_RELU, negative_slope))


def _elu(site: Site, *, x: Value, alpha: float, scale: float = 1, input_scale: float = 1) -> Value:
    site.settle(scale == input_scale == 1, f"scales by {scale} and {input_scale}; multiply instead")
    return site.steps(x, step(Function.ELU, alpha))


def _celu(site: Site, *, x: Value, alpha: float) -> Value:
    """max(0, x) + min(0, alpha·(exp(x/alpha) - 1)) = alpha·elu(x/alpha)."""
    return site.steps(
        x, step(Function.MUL, 1 / alpha), step(Function.ELU, 1), step(Function.MUL, alpha)
    )


def _softplus(site: Site, *, x: Value, beta: float, threshold: float) -> Value:
    site.settle(threshold == 20, f"is linear above {threshold}; leave the threshold at 20")
    if beta == 1:
        return site.steps(x, step(Function.SOFTPLUS))
    scaled = (step(Function.MUL, beta), step(Function.SOFTPLUS), step(Function.MUL, 1 / beta))
    return site.steps(x, *scaled)


def _gelu(site: Site, *, x: Value, approximate: str = "none") -> Value:
    return site.steps(x, step(Function.GELU if approximate == "none" else Function.GELU_TANH))


def _prelu(site: Site, *, x: Value, weight: Operand) -> Value:
    slope = site.numbers(weight, "slope").reshape(-1)
    if slope.size == 1:
        return site.steps(x, step(Function.LEAKY_RELU, float(slope[0])))
    return site.emit(PRelu, x, slope=np.ascontiguousarray(slope))


def power_steps(exponent: float) -> tuple[Step, ...]:
    """x to a power: roots and reciprocals by their names."""
    named = {
        1.0: (),
        0.5: (step(Function.SQRT),),
        -0.5: (step(Function.SQRT), step(Function.RECIPROCAL)),
        -1.0: (step(Function.RECIPROCAL),),
    }
    return named.get(float(exponent), (step(Function.POWER, exponent),))


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "relu": _plain(step(Function.RELU)),
    "relu6": _plain(step(Function.CLIP, 0, 6)),
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "celu": _celu,
    "selu": _plain(step(Function.ELU, SELU_ALPHA), step(Function.MUL, SELU_SCALE)),
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "hardswish": _plain(step(Function.HARD_SWISH)),
    "hardsigmoid": _plain(step(Function.HARD_SIGMOID, 1 / 6, 0.5)),
    "sigmoid": _plain(step(Function.SIGMOID)),
    "log_sigmoid": _plain(step(Function.MUL, -1), step(Function.SOFTPLUS), step(Function.MUL, -1)),
    "tanh": _plain(step(Function.TANH)),
    "silu": _plain(step(Function.SILU)),
    "mish": _plain(step(Function.MISH)),
    "gelu": _gelu,
    "softplus": _softplus,
    "erf": _plain(step(Function.ERF)),
    "exp": _plain(step(Function.EXP)),
    "log": _plain(step(Function.LOG)),
    "abs": _plain(step(Function.ABS)),
    "sqrt": _plain(step(Function.SQRT)),
    "rsqrt": _plain(*power_steps(-0.5)),
    "reciprocal": _plain(step(Function.RECIPROCAL)),
    "square": _plain(*power_steps(2)),
    "neg": _plain(step(Function.MUL, -1)),
}
"""By ATen name, what makes operations of a node."""
