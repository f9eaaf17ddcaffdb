"""Integers of weights and biases, and the constants that take an accumulator to its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.affine import (
    Affine,
    affine_from_range,
    integer_range,
    requantization,
    short_scale,
)
from arraysmith.errors import InvalidNetworkError
from arraysmith.quantization.products import INT32_MAX, INT32_MIN
from arraysmith.quantization.scheme import Scales

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from arraysmith.affine import Requantization
    from arraysmith.networks.graph import WeightType
    from arraysmith.quantization.scheme import Scheme

BIAS_BITS = 28
"""A weight scale is widened until the bias on it fits these, well within int32."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """Integer weights with what they are worth, one scale and zero point an output channel."""

    q: NDArray[np.int16]
    scale: NDArray[np.float64]
    zero_point: NDArray[np.int64]
    bits: int


def quantized_weights(
    real: NDArray[np.float64],
    bias: NDArray[np.float64],
    x: Affine,
    scheme: Scheme,
    *,
    per_channel: bool,
    gain: NDArray[np.float64] | None = None,
) -> Weights:
    """Integers of weights.

    Args:
        real: (out, …).
        bias: (out,), which has to fit the accumulator's scale too.
        x: the type of the input.
        scheme: the choices.
        per_channel: a scale for each output channel, else one for all.
        gain: (out,) positive: what the accumulator is multiplied by behind its clip; the product of
            it and the scale is then what has to be a power of two or short.
    """
    channels = real.reshape(len(real), -1)
    groups = channels if per_channel else channels.reshape(1, -1)
    biases = np.abs(bias) if per_channel else np.abs(bias).max(keepdims=True)
    gains = np.ones(len(real)) if gain is None else gain
    found = [
        _affine(group, float(largest) / x.scale, scheme, float(worth))
        for group, largest, worth in zip(groups, biases, gains, strict=False)
    ]
    found = found if per_channel else found * len(real)
    q = np.stack([each.quantize(channel) for each, channel in zip(found, real, strict=True)])
    return Weights(
        q=q.astype(np.int16),
        scale=np.array([each.scale for each in found]),
        zero_point=np.array([each.zero_point for each in found], np.int64),
        bits=scheme.weight_bits,
    )


def given_weights(real: NDArray[np.float64], given: WeightType) -> Weights:
    """The integers of a model that came quantized."""
    out = len(real)
    scale, zero_point = np.broadcast_to(given.scale, out), np.broadcast_to(given.zero_point, out)
    shape = (-1, *(1,) * (real.ndim - 1))
    qmin, qmax = integer_range(given.bits, signed=given.signed)
    q = np.floor(real / scale.reshape(shape) + 0.5) + zero_point.reshape(shape)
    # Records hold signed weights; both sides move alike, and their difference stays.
    moved = 0 if given.signed else 1 << (given.bits - 1)
    return Weights(
        q=(np.clip(q, qmin, qmax) - moved).astype(np.int16),
        scale=scale.astype(np.float64),
        zero_point=zero_point.astype(np.int64) - moved,
        bits=given.bits,
    )


def _affine(group: NDArray[np.float64], bias: float, scheme: Scheme, gain: float) -> Affine:
    """The `Affine` of a group of weights whose scale also holds a bias (over the input's scale)."""
    low, high = float(group.min()), float(group.max())
    qmin, qmax = integer_range(scheme.weight_bits)
    finest = bias / (1 << BIAS_BITS)
    widened = finest * (qmax - qmin)
    if high - low < widened:
        # Nearly nothing but a bias: the range widens on the side where the weights are.
        low, high = (low, low + widened) if high > -low else (high - widened, high)
    found = affine_from_range(
        low,
        high,
        symmetric=scheme.symmetric_weights,
        power_of_two=scheme.scales is Scales.SHIFT and gain == 1,
        bits=scheme.weight_bits,
    )
    if scheme.scales is not Scales.POW2 and gain == 1:
        return found
    if scheme.scales is Scales.FREE:
        return found
    scale = found.scale * gain
    if scheme.scales is Scales.POW2:
        scale = short_scale(scale)
    else:
        scale = affine_from_range(0, scale * (qmax - qmin), power_of_two=True).scale
    scale /= gain
    zero_point = found.zero_point
    if not scheme.symmetric_weights:
        zero_point = int(np.clip(np.floor(qmin - min(low, 0.0) / scale + 0.5), qmin, qmax))
    return Affine(scale=scale, zero_point=zero_point, qmin=qmin, qmax=qmax)


def quantized_bias(
    name: str, real: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Biases on the scale of the accumulator, nearest, ties up."""
    q = np.floor(real / scale + 0.5)
    if not ((q >= INT32_MIN) & (q <= INT32_MAX)).all():
        raise InvalidNetworkError(
            f"layer {name!r}: a bias of {real[np.abs(q).argmax()]:g} does not fit int32 at a "
            "scale of its accumulator; give the layer's weights a wider range"
        )
    return q.astype(np.int32)


def constants(factors: ArrayLike, scheme: Scheme) -> Requantization:
    """(m, n) of factors as the scheme wants them."""
    bits = 8 if scheme.scales is Scales.POW2 else scheme.multiplier_bits
    return requantization(factors, bits, shift_only=scheme.scales is Scales.SHIFT)
