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

BIAS_BITS = 28
"""What biases of all pooled accumulators together fit, well within int32; a weight scale is widened
until they do."""
SHIFT_ALONE_BITS = 20
"""What the shift of a channel without a gain fits, on an accumulator that is clamped to 0."""
NO_GAIN = 1e-30
"""A gain below is none."""


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
    trained = _trained(first, group.affine, x, y, scheme)
    area = group.pool ** (first.weight.ndim - 2)
    if given is not None:
        weights = given_weights(trained.weight, given)
    else:
        largest = np.maximum(np.abs(trained.bias), np.abs(trained.shift) / trained.gain)
        weights = quantized_weights(
            trained.weight,
            largest * area / x.scale / (1 << BIAS_BITS),
            scheme,
            per_channel=y is not None and (scheme.per_channel or group.affine is not None),
            gain=trained.gain,
            unused=1.0 if y is None else y.scale / x.scale / (1 << 8),
        )
    scale = x.scale * weights.scale
    in_accumulator = y is not None and (group.affine is not None or group.pool > 1)
    clip = group.clip if y is not None and group.affine is None else None
    low, high = (None, None) if y is None else clamp_ends(clip, y)
    activation = None
    if in_accumulator and group.clip:
        activation = _activation(group.clip, trained, scale, x.scale * weights.worth)
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
        factors = x.scale * weights.worth / y.scale / area
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
    dead: NDArray[np.bool_]
    """Nothing but the shift: the gain is one that suits it, and the clip is to 0."""


def _trained(
    first: Convolution | Linear,
    affine: ChannelAffine | None,
    x: Affine,
    y: Affine | None,
    scheme: Scheme,
) -> _Trained:
    weight, bias = first.weight.astype(np.float64), first.bias.astype(np.float64)
    if affine is None or y is None:
        none = np.zeros(len(bias))
        no = none > 0
        return _Trained(weight=weight, bias=bias, gain=none + 1, shift=none, negated=no, dead=no)
    gain, shift = affine.gain.astype(np.float64), affine.shift.astype(np.float64)
    negated, dead = gain < 0, np.abs(gain) < NO_GAIN
    sign = np.where(negated, -1.0, 1.0)
    rows = weight.reshape(len(weight), -1)
    reach = np.maximum(rows.max(1), 0) - np.minimum(rows.min(1), 0)
    step = x.scale * np.where(reach > 0, reach / (1 << scheme.weight_bits), 1.0)
    suits = np.maximum(np.abs(shift), y.scale) / (1 << SHIFT_ALONE_BITS) / step
    return _Trained(
        weight=weight * sign.reshape(-1, *(1,) * (weight.ndim - 1)),
        bias=bias * sign,
        gain=np.where(dead, suits, np.abs(gain)),
        shift=shift,
        negated=negated,
        dead=dead,
    )


def _activation(
    clip: tuple[float, float],
    trained: _Trained,
    scale: NDArray[np.float64],
    worth: NDArray[np.float64],
) -> Activation:
    """A clip and a shift on the accumulator's scale; a negated channel is clipped the other way.

    Args:
        clip: of the reals.
        trained: the reals.
        scale: (out,): of the accumulator.
        worth: (out,): the same behind the gain.
    """
    low, high = (np.where(trained.dead, 0.0, end) for end in clip)
    low, high = np.where(trained.negated, -high, low), np.where(trained.negated, -low, high)
    ends = (np.clip(end / scale, INT32_MIN, INT32_MAX) for end in (low, high))
    numbers = (*ends, trained.shift / worth)
    low_q, high_q, bias_q = (np.floor(each + 0.5).astype(np.int64) for each in numbers)
    return Activation(low=low_q, high=high_q, bias=bias_q)


def clamp_ends(clip: tuple[float, float] | None, y: Affine) -> tuple[int | None, int | None]:
    """Integers that a clip ends at; None where the type ends first."""
    if clip is None:
        return None, None
    low, high = (int(y.quantize(max(min(end, 1e30), -1e30))) for end in clip)
    return (low if low > y.qmin else None, high if high < y.qmax else None)
