"""When floats compute the integers: scales that float32 multiplies without rounding, and no ties.

An integer layer gives y = zy + ⌊N·m/2^n + ½⌋ of an integer N. Write m = m'·2^z with m' odd. If the
scale of y is a power of two, sy = 2^b, the real value R = sy·N·m/2^n is the integer N·m' in *units*
of 2^(b-t), t = n - z. float32 holds every integer up to 2^24, times any power of two: if no partial
sum exceeds 2^24 units, float32 computes R exactly, in any order, fused or not.       (10)

QuantizeLinear rounds R/sy to the nearest, ties to even; (3) rounds ties up. R/sy is a multiple of
2^-t. Half a unit more, 2^-(t+1), moves every tie above it, and nothing else across one if t ≥ 1:
the next value below the tie is a whole unit away. So with R + sy·2^-(t+1) there is no tie left and
both rules agree. A sum in half units is twice as large: 2·|N·m'| + 1 ≤ 2^24.         (11)

Where t < 1, R/sy is whole; a quarter of a step does no harm there (t = 1 is taken) and keeps a
runtime from replacing the sum and its QuantizeLinear by an operation that rounds otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.affine import MIN_MULTIPLIER_BITS
from arraysmith.quantization.products import INT32_MAX, INT32_MIN, WeightedLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from arraysmith.affine import Affine
    from arraysmith.networks.moves import Move

FLOAT32_INTEGERS = 1 << 24
_LEAST_EXPONENT, _MOST_EXPONENT = -60, 60


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProductPlan:
    """The reals of a weighted layer."""

    weight_scale: NDArray[np.float64]
    """(out,)."""
    tap: float
    """What every accumulator of a fused pool is multiplied by."""
    nudge: NDArray[np.float64] | None
    """(out,): what is added against ties."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SumPlan:
    """The reals of a sum of terms."""

    factors: tuple[float, ...]
    """A term's real value is multiplied by this; 1 where its scale says it all."""
    nudge: float | None
    """What is added against ties."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """Integers N of a sum (Σ Ni·mi)/2^n."""

    scale: float
    """Of the real that stands for N."""
    bound: int
    """|N| and all partial sums in it are at most this."""
    multiplier: int


def ordinary_product(layer: WeightedLayer) -> ProductPlan:
    """The stated scales; the mean of a pool."""
    return ProductPlan(weight_scale=layer.weight_scale, tap=1 / layer.pooled, nudge=None)


def exact_product(layer: WeightedLayer) -> ProductPlan:
    """Scales such that floats compute the accumulators times m/2^n.

    The weights' scale is the stated one where that is exact. A fused pool whose size is no power of
    two has its 1/size rounded into m/2^n, and then so has the weights' scale.

    Raises:
        InvalidNetworkError: an accumulator can be too large for (10) or (11), or a scale is no
            power of two.
    """
    exponent = power_of_two(layer, "input", layer.input.scale)
    if layer.output is None or layer.requantization is None:
        short = [_short(float(scale)) for scale in layer.weight_scale]
        reach = [bound * k for bound, (k, _) in zip(reaches(layer), short, strict=True)]
        _check(layer, max(reach), "its weight scales are no short multiples of powers of two")
        _check_scales(layer, layer.weight_scale * layer.input.scale)
        return ProductPlan(weight_scale=layer.weight_scale, tap=1.0, nudge=None)
    out = power_of_two(layer, "output", layer.output.scale)
    pool = round(math.log2(layer.pooled))
    pairs = np.broadcast_arrays(
        layer.requantization.multiplier, layer.requantization.right_shift, layer.bias
    )
    scales, nudges = [], []
    for m, n, bound in zip(pairs[0].tolist(), pairs[1].tolist(), reaches(layer), strict=True):
        if m == 0:  # y is zy: any weight scale that keeps the sum within a quarter of a step
            scales.append(math.ldexp(1.0, out - exponent + pool - bound.bit_length() - 3))
            nudges.append(0.0)
            continue
        scales.append(math.ldexp(m, out - exponent + pool - n))
        nudges.append(_nudge(layer, layer.output, bound * m, n, m))
    _check_scales(layer, np.array(scales))
    return ProductPlan(
        weight_scale=np.array(scales), tap=math.ldexp(1.0, -pool), nudge=np.array(nudges)
    )


def reaches(layer: WeightedLayer) -> list[int]:
    """(out,): what no partial sum of a channel exceeds, activation and fused pool included."""
    w = np.abs(layer.centred_weight.reshape(len(layer.weight), -1)).sum(1)
    bound = w * reach(layer.input) + np.abs(layer.bias.astype(np.int64))
    after = bound
    if layer.activation:
        low, high = open_ends(layer)
        ends = np.where(low == INT32_MIN, 0, low), np.where(high == INT32_MAX, 0, high)
        after = np.maximum.reduce([bound, np.abs(ends[0]), np.abs(ends[1])])
        after = after + np.abs(layer.activation.bias)
    return [int(each) for each in np.maximum(bound, after) * layer.pooled]


def open_ends(layer: WeightedLayer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(out,): low and high of the activation, open where no accumulator is beyond."""
    low, high = layer.accumulator_ranges
    if layer.activation is None:
        return np.full_like(low, INT32_MIN), np.full_like(high, INT32_MAX)
    return (
        np.where(layer.activation.low <= low, INT32_MIN, layer.activation.low),
        np.where(layer.activation.high >= high, INT32_MAX, layer.activation.high),
    )


def reach(type_: Affine) -> int:
    """max |q - z|."""
    return max(type_.qmax - type_.zero_point, type_.zero_point - type_.qmin)


def plan_sum(
    layer: Move, output: Affine, terms: Sequence[Term], right_shift: int, *, exact: bool
) -> SumPlan:
    """What (Σ Ni·mi)/2^n is over reals.

    Without `exact`, a factor that is 1 but for the rounding of m is 1.

    Raises:
        InvalidNetworkError: `exact`, and a sum can be too large for (11), or a scale is no power of
            two.
    """
    factors = [
        math.ldexp(term.multiplier, -right_shift) * output.scale / term.scale for term in terms
    ]
    if exact:
        for what, scale in (*(("input", term.scale) for term in terms), ("output", output.scale)):
            power_of_two(layer, what, scale)
        total = sum(term.bound * abs(term.multiplier) for term in terms)
        multipliers = [term.multiplier for term in terms]
        nudge = _nudge(layer, output, total, right_shift, *multipliers)
        return SumPlan(factors=tuple(factors), nudge=nudge)
    rounded = tuple(
        math.copysign(1.0, factor) if abs(abs(factor) - 1) < _rounding(term.multiplier) else factor
        for factor, term in zip(factors, terms, strict=True)
    )
    return SumPlan(factors=rounded, nudge=None)


def _rounding(m: int) -> float:
    """How far a factor may be from 1 for the rounding of m; one of few bits is meant as it is."""
    return 1 / abs(m) if abs(m) >= 1 << (MIN_MULTIPLIER_BITS - 1) else 2.0**-20


def power_of_two(layer: Move, what: str, scale: float) -> int:
    """The exponent of a scale.

    Raises:
        InvalidNetworkError: it is no power of two of a moderate exponent.
    """
    mantissa, exponent = math.frexp(scale)
    if mantissa != 0.5 or not _LEAST_EXPONENT <= exponent - 1 <= _MOST_EXPONENT:
        raise layer.refuse(
            f"the scale of its {what} is {scale}, no power of two, so floats cannot give its "
            "integers; quantize with the scheme pow2, or export without exact"
        )
    return exponent - 1


def _nudge(layer: Move, output: Affine, total: int, right_shift: int, *multipliers: int) -> float:
    """sy·2^-(t+1) of (11); `total` bounds Σ|Ni·mi|."""
    zeros = min((_zeros(m) for m in multipliers if m), default=right_shift - 1)
    below = max(right_shift - zeros, 1)  # t
    _check(
        layer,
        (total << (below + 1) >> right_shift) + 1,
        f"its multiplier {max(map(abs, multipliers))} is too long or its sum too large",
    )
    return output.scale * math.ldexp(1.0, -(below + 1))


def _zeros(m: int) -> int:
    return (abs(m) & -abs(m)).bit_length() - 1


def _check(layer: Move, units: int, why: str) -> None:
    if units > FLOAT32_INTEGERS:
        raise layer.refuse(
            f"a sum can reach {units} units, float32 is exact up to {FLOAT32_INTEGERS}: {why}; "
            "quantize with the scheme pow2 or fewer bits, or export without exact"
        )


def _check_scales(layer: Move, scales: NDArray[Any]) -> None:
    """Every scale is a normal float32."""
    rounded = scales.astype(np.float32)
    if (rounded != scales).any() or scales.min() < 2.0**-100 or scales.max() > 2.0**80:
        raise layer.refuse(
            f"weight scales of {scales.min()}…{scales.max()} are not exact in float32; quantize "
            "with the scheme pow2, or export without exact"
        )


def _short(scale: float) -> tuple[int, int]:
    """Odd k and e with scale = k·2^e."""
    numerator, denominator = scale.as_integer_ratio()
    zeros = _zeros(numerator)
    return numerator >> zeros, zeros - (denominator.bit_length() - 1)
