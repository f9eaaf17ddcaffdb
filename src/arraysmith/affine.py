"""Scale, zero point, multiplier and shift: the whole arithmetic of `docs/quantization.md`.

    real = scale * (q - zero_point)                                               (1)
    acc  = Σ (qx - zx) * (qw - zw) + qb                                           (2)
    y    = clamp(zy + ((acc * m + 2**(n-1)) >> n), qmin, qmax)                    (3)

Floats appear only where numbers are chosen (scales, and m and n from them). What runs at inference
is (2) and (3): integers. The affine scheme is Jacob et al., CVPR 2018, and gemmlowp's
quantization.md; (3) has one rounding, ties up, where theirs has two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import InvalidNetworkError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MIN_MULTIPLIER_BITS, MAX_MULTIPLIER_BITS = 8, 31
MAX_RIGHT_SHIFT = 62  # acc < 2^31 and m < 2^31, so acc·m + 2^(n-1) stays below 2^63


MIN_BITS, MAX_BITS = 4, 16
"""Of an activation or a weight."""


def integer_range(bits: int, *, signed: bool = True) -> tuple[int, int]:
    """Least and greatest integer of a width."""
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


_RANGES = frozenset(
    integer_range(bits, signed=signed)
    for bits in range(MIN_BITS, MAX_BITS + 1)
    for signed in (True, False)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """How one tensor of integers stands for reals: (1), one scale for the whole tensor.

    The range is that of a signed or unsigned integer of 4 to 16 bits, 8 by default.
    """

    scale: float
    zero_point: int
    qmin: int = -128
    qmax: int = 127

    def __post_init__(self) -> None:
        """A scale is a positive number, and real 0 has an integer of its own."""
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InvalidNetworkError(f"scale is {self.scale}, needs to be positive and finite")
        if (self.qmin, self.qmax) not in _RANGES:
            raise InvalidNetworkError(
                f"range {self.qmin}…{self.qmax} is that of no integer of {MIN_BITS} to {MAX_BITS} "
                "bits, as int8 (-128…127) or uint8 (0…255)"
            )
        if not self.qmin <= self.zero_point <= self.qmax:
            raise InvalidNetworkError(
                f"zero point {self.zero_point} is outside {self.qmin}…{self.qmax}"
            )

    @property
    def bits(self) -> int:
        """Width of an integer."""
        return (self.qmax - self.qmin).bit_length()

    @property
    def signed(self) -> bool:
        """Whether the integers have a sign."""
        return self.qmin < 0

    def quantize(self, real: ArrayLike) -> NDArray[np.int64]:
        """Nearest integers of reals, ties up, clamped to qmin…qmax."""
        q = np.floor(np.asarray(real, np.float64) / self.scale + 0.5) + self.zero_point
        clamped: NDArray[np.int64] = np.clip(q, self.qmin, self.qmax).astype(np.int64)
        return clamped

    def dequantize(self, q: ArrayLike) -> NDArray[np.float64]:
        """Reals of integers: (1)."""
        return self.scale * (np.asarray(q, np.float64) - self.zero_point)


def affine_from_range(
    low: float,
    high: float,
    *,
    signed: bool = True,
    symmetric: bool = False,
    power_of_two: bool = False,
    bits: int = 8,
) -> Affine:
    """The finest `Affine` that covers low…high and zero.

    Args:
        low, high: the range of the reals; widened to hold 0, so that padding and ReLU are exact.
        signed: int8, else uint8.
        symmetric: put the zero point in the middle (0 for int8).
        power_of_two: round the scale up to a power of two.
        bits: of an integer, 4 to 16.
    """
    qmin, qmax = integer_range(bits, signed=signed)
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if not math.isfinite(high - low):
        raise InvalidNetworkError(f"range {low}…{high} is not finite; calibrate on other images")
    if symmetric:
        zero_point = (qmin + qmax + 1) // 2
        scale = max(high / (qmax - zero_point), low / (qmin - zero_point))
    else:
        scale = (high - low) / (qmax - qmin)
    if scale < np.finfo(np.float32).tiny:  # a constant: any scale will do
        scale = 1.0
    if power_of_two:
        scale = next_power_of_two(scale)
    if not symmetric:
        zero_point = min(max(math.floor(qmin - low / scale + 0.5), qmin), qmax)
    return Affine(scale=scale, zero_point=zero_point, qmin=qmin, qmax=qmax)


def next_power_of_two(scale: float) -> float:
    """The least power of two that is not below a positive number."""
    mantissa, exponent = math.frexp(scale)
    return math.ldexp(1.0, exponent - 1 if mantissa == 0.5 else exponent)


def short_scale(scale: float, bits: int = 8) -> float:
    """The least k·2^e that is not below `scale`, with 2^(bits-1) ≤ k < 2^bits: 128…255 for 8 bits.

    With activations on scales that are powers of two, the factor sx·sw/sy of such a weight scale is
    k·2^-n too, so `multiplier_and_shift` of as many bits gives it exactly.

    Args:
        scale: at least 2^-1000, so that k·2^e is a normal double.
        bits: of k, 1 to 31.

    Raises:
        InvalidNetworkError: the scale is not positive and finite, or too small, or bits not 1…31.
    """
    if not 1 <= bits <= MAX_MULTIPLIER_BITS:
        raise InvalidNetworkError(f"a scale of {bits} bits: choose 1 to {MAX_MULTIPLIER_BITS}")
    if not (math.isfinite(scale) and scale >= 2.0**-1000):
        raise InvalidNetworkError(f"scale is {scale}, needs to be finite and at least 2^-1000")
    mantissa, exponent = math.frexp(scale)
    return math.ldexp(math.ceil(math.ldexp(mantissa, bits)), exponent - bits)


def multiplier_and_shift(real: float, bits: int = 16) -> tuple[int, int]:
    """The `m` and `n` of (3) for a real factor: m < 2^bits, 1 ≤ n ≤ 62, m / 2^n ≈ real.

    m is the nearest integer, ties up, with all `bits` bits used unless n is at an end of its range,
    so the relative error is at most 2^-bits (docs/quantization.md, (7)).

    Raises:
        InvalidNetworkError: the factor is negative, not finite or too large, or bits not 8…31.
    """
    if not MIN_MULTIPLIER_BITS <= bits <= MAX_MULTIPLIER_BITS:
        raise InvalidNetworkError(
            f"multiplier of {bits} bits: choose {MIN_MULTIPLIER_BITS} to {MAX_MULTIPLIER_BITS}"
        )
    if not 0 <= real < 2.0**MAX_MULTIPLIER_BITS:
        raise InvalidNetworkError(f"a requantization factor of {real} is not in 0…2^31")
    exponent = math.frexp(real)[1]  # 2^(exponent-1) <= real < 2^exponent
    right_shift = min(max(bits - exponent, 1), MAX_RIGHT_SHIFT)
    multiplier = math.floor(math.ldexp(real, right_shift) + 0.5)
    if multiplier == 1 << bits and right_shift > 1:
        multiplier, right_shift = multiplier >> 1, right_shift - 1
    if multiplier >= 1 << bits:
        raise InvalidNetworkError(
            f"a requantization factor of {real} does not fit {bits} bits; use more multiplier bits"
        )
    return multiplier, right_shift


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requantization:
    """The constants of (3): `multiplier` and `right_shift` of shape (channels,) or (1,), int64."""

    multiplier: NDArray[np.int64]
    right_shift: NDArray[np.int64]
    bits: int
    """Width of the multiplier in hardware."""

    def __post_init__(self) -> None:
        """Refuse what hardware of `bits` bits could not hold."""
        m, n = self.multiplier, self.right_shift
        if m.shape != n.shape or m.ndim != 1 or m.size == 0:
            raise InvalidNetworkError(
                f"multipliers of shape {m.shape} do not fit shifts of shape {n.shape}"
            )
        if not 1 <= self.bits <= MAX_MULTIPLIER_BITS:
            raise InvalidNetworkError(
                f"multipliers of {self.bits} bits: choose 1 to {MAX_MULTIPLIER_BITS}"
            )
        if (
            m.size == 0
            or m.min() < 0
            or m.max() >= 1 << self.bits
            or n.min() < 1
            or n.max() > MAX_RIGHT_SHIFT
        ):
            raise InvalidNetworkError(
                f"multipliers {m.min()}…{m.max()} and shifts {n.min()}…{n.max()} are outside "
                f"0…2^{self.bits}-1 and 1…{MAX_RIGHT_SHIFT}"
            )


def requantization(real: ArrayLike, bits: int = 16, *, shift_only: bool = False) -> Requantization:
    """`Requantization` for real factors, one a channel; `shift_only` wants powers of two, m = 1."""
    factors = np.atleast_1d(np.asarray(real, np.float64)).tolist()
    pairs = [multiplier_and_shift(factor, bits) for factor in factors]
    if shift_only:
        pairs = [(1, _exact_shift(factor)) for factor in factors]
    m, n = np.array(pairs, np.int64).T
    return Requantization(multiplier=m, right_shift=n, bits=1 if shift_only else bits)


def _exact_shift(real: float) -> int:
    mantissa, exponent = math.frexp(real)
    shift = 1 - exponent
    if mantissa != 0.5 or not 1 <= shift <= MAX_RIGHT_SHIFT:
        raise InvalidNetworkError(f"a factor of {real} is no right shift by 1…{MAX_RIGHT_SHIFT}")
    return shift
