"""Integers of weights and biases, and the constants that take an accumulator to its output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.affine import (
    Affine,
    integer_range,
    next_power_of_two,
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """Integer weights with what they are worth, one scale and zero point an output channel."""

    q: NDArray[np.int16]
    scale: NDArray[np.float64]
    zero_point: NDArray[np.int64]
    bits: int
    worth: NDArray[np.float64]
    """(out,): the scale times the gain behind the clip, as it was chosen: a power of two exactly
    where one is wanted."""


def quantized_weights(
    real: NDArray[np.float64],
    least: NDArray[np.float64],
    scheme: Scheme,
    *,
    per_channel: bool,
    gain: NDArray[np.float64],
    unused: float,
) -> Weights:
    """Integers of weights.

    Args:
        real: (out, …).
        least: (out,): the finest scale on which the channel's other numbers fit the accumulator.
        scheme: the choices.
        per_channel: a scale for each output channel, else one for all, and gains of 1.
        gain: (out,) positive: what the accumulator is multiplied by behind its clip; the product of
            it and the scale is then what has to be a power of two or short.
        unused: that product where all weights are 0 and any scale will do.

    Raises:
        InvalidNetworkError: a weight is not finite.
    """
    if not np.isfinite(real).all():
        raise InvalidNetworkError("a weight is NaN or infinite; train the network again")
    channels = real.reshape(len(real), -1)
    groups = channels if per_channel else channels.reshape(1, -1)
    finest = least if per_channel else least.max(keepdims=True)
    found = [
        _affine(group, float(fine), float(worth), scheme, unused)
        for group, fine, worth in zip(groups, finest, gain[: len(groups)], strict=True)
    ]
    found = found if per_channel else found * len(real)
    q = np.stack([each.quantize(row) for (each, _), row in zip(found, real, strict=True)])
    return Weights(
        q=q.astype(np.int16),
        scale=np.array([each.scale for each, _ in found]),
        zero_point=np.array([each.zero_point for each, _ in found], np.int64),
        bits=scheme.weight_bits,
        worth=np.array([worth for _, worth in found]),
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
        worth=scale.astype(np.float64),
    )


def _affine(
    group: NDArray[np.float64], least: float, gain: float, scheme: Scheme, unused: float
) -> tuple[Affine, float]:
    """The `Affine` of a group of weights, on a scale of at least `least`, and scale times gain."""
    qmin, qmax = integer_range(scheme.weight_bits)
    low, high = min(float(group.min()), 0.0), max(float(group.max()), 0.0)
    symmetric = scheme.symmetric_weights
    scale = max(high / qmax, low / qmin) if symmetric else (high - low) / (qmax - qmin)
    scale = max(scale, least)
    worth = scale * gain
    if worth < np.finfo(np.float32).tiny:
        worth = unused
        scale = worth / gain
    if scheme.scales is not Scales.FREE:
        worth = short_scale(worth) if scheme.scales is Scales.POW2 else next_power_of_two(worth)
        scale = worth / gain
    zero_point = 0 if symmetric else math.floor(qmin - low / scale + 0.5)
    return Affine(scale=scale, zero_point=zero_point, qmin=qmin, qmax=qmax), worth


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
