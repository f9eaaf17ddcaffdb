"""When floats compute the integers: scales that float32 multiplies without rounding, and no ties.

An integer layer gives y = zy + ⌊N·m/2^n + ½⌋ of an integer N. Cancel powers of two: m/2^n = k/2^t
with k odd. float32 holds every integer up to 2^24, times any power of two, and adds and multiplies
without rounding while results are such.

*In one product.* If sy is a power of two, the real R = sy·N·k/2^t is the integer N·k in units of
sy/2^t. With k in the weights' scale, every partial sum of any order is exact up to 2^24 units. (E1)

QuantizeLinear rounds R/sy to the nearest, ties to even; (3) rounds ties up. R/sy is a multiple of
2^-t, so half a unit more, sy/2^(t+1), moves a tie above itself, and, if t ≥ 1, nothing else across
one: the next value below a tie is a whole unit away. Then there is no tie left and both rules
agree. In half units that is the odd integer 2·N·k + 1, so |2·N·k| + 1 ≤ 2^24 is asked for.     (E2)
Where t < 1, R/sy is whole and t = 1 is taken, which does no harm. The nudge is never left out: it
keeps a runtime from fusing the sum with its QuantizeLinear into an operation that rounds otherwise.

*In two parts*, where N·k is larger but N is not: weights on scales that are powers of two, so that
|N| ≤ 2^24 is enough, and k behind the sum. With 1 ≤ s ≤ t - 1, h = ⌊N/2^s⌋ and l = N - h·2^s,
    r = h·k + ⌊l·k/2^s⌋ = ⌊N·k/2^s⌋   and   ⌊(N·k + 2^(t-1))/2^t⌋ = ⌊(r + 2^(t-1-s))/2^(t-s)⌋, (E3)
for 2^(t-1-s) is whole. All of it is exact if (|N|/2^s + 2)·k·2 + 1 ≤ 2^24 and k·2^s ≤ 2^24, and r
is rounded as N·k above, by (E2) with t - s for t.
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
class Rounding:
    """What stands between an exact real sum and its QuantizeLinear, (E2) and (E3); (n,) each."""

    nudge: NDArray[np.float64]
    """What is added against ties."""
    cut: NDArray[np.int64]
    """s of (E3); all 0: there are no two parts."""
    multiplier: NDArray[np.int64]
    """k of (E3)."""
    step: NDArray[np.float64]
    """The real of r = 1."""

    @property
    def in_parts(self) -> bool:
        """Whether the multiplier stands behind the sum, (E3)."""
        return bool(self.cut.any())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProductPlan:
    """The reals of a weighted layer."""

    weight_scale: NDArray[np.float64]
    """(out,)."""
    tap: float
    """What every accumulator of a fused pool is multiplied by."""
    rounding: Rounding | None
    """(out,), in exact mode."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SumPlan:
    """The reals of a sum of terms."""

    factors: tuple[float, ...]
    """A term's real value is multiplied by this; 1 where its scale says it all."""
    rounding: Rounding | None
    """(1,), in exact mode. In parts its multiplier takes the place of `factors`."""


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
    return ProductPlan(weight_scale=layer.weight_scale, tap=1 / layer.pooled, rounding=None)


def exact_product(layer: WeightedLayer) -> ProductPlan:
    """Scales such that floats compute the accumulators times m/2^n.

    The weights' scale is the stated one where that is exact. A fused pool whose size is no power of
    two has its 1/size rounded into m/2^n, and then so has the weights' scale.

    Raises:
        InvalidNetworkError: an accumulator can be too large for (E2) and (E3), or a scale is no
            power of two.
    """
    exponent = power_of_two(layer, "input", layer.input.scale)
    if layer.output is None or layer.requantization is None:
        return _exact_accumulator(layer)
    out = power_of_two(layer, "output", layer.output.scale)
    pool = round(math.log2(layer.pooled))
    constants = layer.requantization
    pairs = np.broadcast_arrays(constants.multiplier, constants.right_shift, layer.bias)
    rounding = _rounding(layer, layer.output, reaches(layer), pairs[0], pairs[1])
    fractions = np.ldexp(pairs[0].astype(np.float64), -pairs[1])
    if rounding.in_parts:  # the power of two at or below
        fractions = np.ldexp(0.5, np.frexp(fractions)[1])
    # m = 0 gives zy: any scale that keeps the sum within a quarter of a step
    tiny = [math.ldexp(1.0, -bound.bit_length() - 3) for bound in reaches(layer)]
    scales = np.ldexp(np.where(pairs[0] == 0, tiny, fractions), out - exponent + pool)
    _check_scales(layer, scales)
    return ProductPlan(weight_scale=scales, tap=math.ldexp(1.0, -pool), rounding=rounding)


def _exact_accumulator(layer: WeightedLayer) -> ProductPlan:
    """Of logits: the stated scale if sums on it are exact, else the power of two at or below."""
    bounds = reaches(layer)
    odd = [_odd(float(scale)) for scale in layer.weight_scale]
    scale = layer.weight_scale
    if max(bound * k for bound, k in zip(bounds, odd, strict=True)) > FLOAT32_INTEGERS:
        _check(layer, max(bounds), "its sum is too large")
        scale = np.ldexp(0.5, np.frexp(scale)[1])
    _check_scales(layer, scale * layer.input.scale)
    return ProductPlan(weight_scale=scale, tap=1.0, rounding=None)


def reaches(layer: WeightedLayer) -> list[int]:
    """(out,): what no partial sum of a channel exceeds, activation and fused pool included.

    A partial sum is at least the sum of all that can be negative and at most that of all that can
    be positive, so (5) and (6) bound it in any order: closer than Σ|w|·|x|, by half where no x is
    negative.
    """
    low, high = layer.accumulator_ranges
    bound = np.maximum(-low, high)
    if layer.activation:
        ends = open_ends(layer)
        least = np.where(ends[0] == INT32_MIN, low, ends[0])
        most = np.where(ends[1] == INT32_MAX, high, ends[1])
        clamped = np.maximum(np.abs(least), np.abs(most))
        shift = np.abs(layer.activation.bias.astype(np.int64))
        bound = np.maximum(bound, clamped + shift)
    return [int(each) * layer.pooled for each in bound]


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
    layer: Move, output: Affine, terms: Sequence[Term], shift: int, *, exact: bool
) -> SumPlan:
    """What (Σ Ni·mi)/2^n is over reals.

    Without `exact`, a factor that is 1 but for the rounding of m is 1.

    Raises:
        InvalidNetworkError: `exact`, and a sum can be too large for (E2), or a scale is no power of
            two.
    """
    factors = [math.ldexp(term.multiplier, -shift) * output.scale / term.scale for term in terms]
    if exact:
        for what, scale in (*(("input", term.scale) for term in terms), ("output", output.scale)):
            power_of_two(layer, what, scale)
        return SumPlan(factors=tuple(factors), rounding=_sum_rounding(layer, output, terms, shift))
    rounded = tuple(
        math.copysign(1.0, factor) if abs(abs(factor) - 1) < _tolerance(term.multiplier) else factor
        for factor, term in zip(factors, terms, strict=True)
    )
    return SumPlan(factors=rounded, rounding=None)


def _tolerance(m: int) -> float:
    """How far a factor may be from 1 for the rounding of m; one of few bits is meant as it is."""
    return 1 / abs(m) if abs(m) >= 1 << (MIN_MULTIPLIER_BITS - 1) else 2.0**-20


def joined(roundings: Sequence[Rounding | None]) -> Rounding | None:
    """One after the other, as one; None if any is."""
    found = [each for each in roundings if each is not None]
    if len(found) < len(roundings):
        return None
    return Rounding(
        nudge=np.concatenate([each.nudge for each in found]),
        cut=np.concatenate([each.cut for each in found]),
        multiplier=np.concatenate([each.multiplier for each in found]),
        step=np.concatenate([each.step for each in found]),
    )


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


def _sum_rounding(layer: Move, output: Affine, terms: Sequence[Term], shift: int) -> Rounding:
    """Of one term, or of several that share what they are odd multiples of."""
    if len(terms) == 1:
        (term,) = terms
        m, n = np.array([term.multiplier]), np.array([shift])
        return _rounding(layer, output, [term.bound], m, n)
    zeros = min((_zeros(term.multiplier) for term in terms if term.multiplier), default=0)
    total = sum(term.bound * abs(term.multiplier) for term in terms) >> zeros
    return _rounding(layer, output, [total], np.array([1]), np.array([shift - zeros]), parts=False)


def _rounding(
    layer: Move,
    output: Affine,
    bounds: Sequence[int],
    m: NDArray[np.int64],
    n: NDArray[np.int64],
    *,
    parts: bool = True,
) -> Rounding:
    """(E2), or (E3) where needed, of N·m/2^n with |N| ≤ bounds.

    Raises:
        InvalidNetworkError: neither is exact.
    """
    zeros = [_zeros(each) if each else 0 for each in m.tolist()]
    k, t = m >> zeros, n - zeros
    triples = list(zip(bounds, k.tolist(), t.tolist(), strict=True))
    cut = np.array([_cut(*triple) if parts else 0 for triple in triples])
    failed = [triple for triple, s in zip(triples, cut, strict=True) if s < 0 or not parts]
    if failed:
        bound, odd, below = max(failed)
        if bound > FLOAT32_INTEGERS:
            _check(layer, bound, "it has too many products")
        units = (bound * odd << max(1, 2 - below)) + 1
        _check(layer, units, f"its multiplier {odd} is too long or its sum too large")
    below = np.maximum(t - cut, 1)
    return Rounding(
        nudge=np.ldexp(output.scale, -(below + 1)),
        cut=cut,
        multiplier=k,
        step=np.ldexp(output.scale, cut - t),
    )


def _cut(bound: int, k: int, below: int) -> int:
    """The least s of (E3), 0 if (E2) holds without, -1 if none will do."""
    if (bound * k << max(1, 2 - below)) + 1 <= FLOAT32_INTEGERS:
        return 0
    for s in range(1, below):
        if ((bound >> s) + 2) * k * 2 + 1 <= FLOAT32_INTEGERS >= max(k << s, bound):
            return s
    return -1


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


def _odd(scale: float) -> int:
    """Odd k with scale = k·2^e."""
    numerator = scale.as_integer_ratio()[0]
    return numerator >> _zeros(numerator)
