"""The integer form of a convolution or a linear layer with what it takes in.

With a batch normalization behind the ReLU, y = gain·max(a, 0) + shift. A positive gain goes into
the multiplier and shift/gain, on the accumulator's scale, is added behind the clamp. A negative one
negates the weights: gain·max(a, 0) = |gain|·min(-a, 0), a clamp from above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.networks.operations import Convolution, Linear
from arraysmith.quantization.products import (
    INT32_MAX,
    INT32_MIN,
    Activation,
    IntegerConvolution,
    IntegerLinear,
)
from arraysmith.quantization.weights import (
    BIAS_BITS,
    constants,
    given_weights,
    quantized_bias,
    quantized_weights,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.affine import Affine
    from arraysmith.networks.graph import WeightType
    from arraysmith.networks.operations import ChannelAffine
    from arraysmith.quantization.plan import Group
    from arraysmith.quantization.scheme import Scheme

SHIFT_ALONE_BITS = 16
"""What the shift of a channel without a gain is, on an accumulator that is always 0."""


def lower_weighted(
    group: Group,
    inputs: tuple[str, ...],
    *,
    x: Affine,
    y: Affine | None,
    scheme: Scheme,
    given: WeightType | None,
) -> IntegerConvolution | IntegerLinear:
    """The layer that stands for a group.

    Args:
        group: the weighted operation with what it takes in.
        inputs: the integer tensor it reads.
        x: its type.
        y: the type of the output; None gives the accumulators out.
        scheme: the choices.
        given: the weights' own integers, where the model came quantized.
    """
    first = group.first
    assert isinstance(first, Convolution | Linear)  # noqa: S101 (the plan's business)
    trained = _trained(first, group.affine, x, scheme)
    if given is not None and group.affine is None:
        weights = given_weights(trained.weight, given)
    else:
        weights = quantized_weights(
            trained.weight,
            trained.bias,
            x,
            scheme,
            per_channel=y is not None and (scheme.per_channel or group.affine is not None),
            gain=trained.gain if group.affine else None,
        )
    scale = x.scale * weights.scale
    in_accumulator = y is not None and (group.affine is not None or (group.pool > 1))
    clip = group.clip if y is not None and group.affine is None else None
    low, high = (None, None) if y is None else clamp_ends(clip, y)
    activation = None
    if in_accumulator and group.clip:
        activation = _activation(group.clip, trained, scale)
    layer: dict[str, Any] = {
        "name": group.name,
        "inputs": inputs,
        "weight": weights.q,
        "weight_bits": weights.bits,
        "weight_zero_point": weights.zero_point,
        "weight_scale": weights.scale,
        "bias": quantized_bias(group.name, trained.bias, scale),
        "input": x,
        "output": y,
        "requantization": None,
        "activation": activation,
        "low": low,
        "high": high,
    }
    if y is not None:
        area = group.pool ** (first.weight.ndim - 2)
        factors = trained.gain * scale / y.scale / area
        alike = len(set(factors.tolist())) == 1
        layer["requantization"] = constants(factors[:1] if alike else factors, scheme)
    if isinstance(first, Linear):
        return IntegerLinear(**layer)
    return IntegerConvolution(**layer, windows=first.windows, groups=first.groups, pool=group.pool)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Trained:
    """Reals of a layer, gain·clip(±(w·x + bias)) + shift; all but `weight` are (out,)."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    gain: NDArray[np.float64]
    shift: NDArray[np.float64]
    negated: NDArray[np.bool_]


def _trained(
    first: Convolution | Linear, affine: ChannelAffine | None, x: Affine, scheme: Scheme
) -> _Trained:
    weight, bias = first.weight.astype(np.float64), first.bias.astype(np.float64)
    if affine is None:
        none = np.zeros(len(bias))
        return _Trained(weight=weight, bias=bias, gain=none + 1, shift=none, negated=none > 0)
    gain, shift = affine.gain.astype(np.float64), affine.shift.astype(np.float64)
    negated = gain < 0
    sign = np.where(negated, -1.0, 1.0)
    gain = np.abs(gain)
    # A channel that is nothing but its shift: its weights are nothing against what it adds.
    rows = weight.reshape(len(weight), -1)
    steps = x.scale * (rows.max(1) - rows.min(1)) / (1 << scheme.weight_bits)
    dead = gain * steps * (1 << BIAS_BITS) <= np.abs(shift)
    alone = np.abs(shift) / (x.scale * (1 << SHIFT_ALONE_BITS))
    return _Trained(
        weight=weight * np.where(dead, 0.0, sign).reshape(-1, *(1,) * (weight.ndim - 1)),
        bias=np.where(dead, 0.0, bias * sign),
        gain=np.where(dead, alone, gain),
        shift=shift,
        negated=negated,
    )


def _activation(
    clip: tuple[float, float], trained: _Trained, scale: NDArray[np.float64]
) -> Activation:
    """A clip and a shift on the accumulator's scale; a negated channel is clipped the other way."""
    low, high = (np.full(len(scale), end) for end in clip)
    low, high = np.where(trained.negated, -high, low), np.where(trained.negated, -low, high)
    worth = trained.gain * scale
    bias = np.divide(trained.shift, worth, out=np.zeros_like(worth), where=worth > 0)
    ends = (np.clip(end / scale, INT32_MIN, INT32_MAX) for end in (low, high))
    low_q, high_q, bias_q = (np.floor(each + 0.5).astype(np.int64) for each in (*ends, bias))
    return Activation(low=low_q, high=high_q, bias=bias_q)


def clamp_ends(clip: tuple[float, float] | None, y: Affine) -> tuple[int | None, int | None]:
    """Integers that a clip ends at; None where the type ends first."""
    if clip is None:
        return None, None
    low, high = (int(y.quantize(max(min(end, 1e30), -1e30))) for end in clip)
    return (low if low > y.qmin else None, high if high < y.qmax else None)
