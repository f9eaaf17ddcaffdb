"""Scale, zero point, multiplier and shift of docs/quantization.md against exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arraysmith.affine import (
    Affine,
    Requantization,
    affine_from_range,
    multiplier_and_shift,
    requantization,
)
from arraysmith.errors import InvalidNetworkError

reals = st.floats(-1e6, 1e6, allow_nan=False)


def constants(multiplier, right_shift, bits=31):
    """`Requantization` of plain lists."""
    return Requantization(
        multiplier=np.array(multiplier, np.int64),
        right_shift=np.array(right_shift, np.int64),
        bits=bits,
    )


# ---- (1): scale and zero point


@given(
    ends=st.tuples(reals, reals).map(sorted),
    signed=st.booleans(),
    symmetric=st.booleans(),
    power=st.booleans(),
    bits=st.integers(4, 16),
)
def test_range_holds_zero_exactly_and_the_rest_up_to_rounding(ends, signed, symmetric, power, bits):
    """Real 0 is an integer, and each end of the range is at most half a step outside the grid."""
    low, high = ends
    affine = affine_from_range(
        low, high, signed=signed, symmetric=symmetric, power_of_two=power, bits=bits
    )
    assert affine.dequantize(affine.quantize(0.0)) == 0.0
    half = 2 ** (bits - 1)
    assert (affine.qmin, affine.qmax) == ((-half, half - 1) if signed else (0, 2 * half - 1))
    assert (affine.bits, affine.signed) == (bits, signed)
    bottom, top = affine.dequantize([affine.qmin, affine.qmax])
    slack = affine.scale * (0.5 + 1e-9)
    assert bottom - slack <= low
    assert high <= top + slack
    if symmetric:
        assert affine.zero_point == (0 if signed else half)
        assert bottom <= low * (1 - 1e-12)
    if power:
        assert math.frexp(affine.scale)[0] == 0.5


@given(low=st.floats(-1e3, 0), span=st.floats(1e-3, 1e3), real=reals, bits=st.integers(4, 16))
def test_quantize_is_the_nearest_integer_clamped(low, span, real, bits):
    """A real inside the grid comes back within half a step; one outside saturates."""
    affine = affine_from_range(low, low + span, bits=bits)
    q = int(affine.quantize(real))
    bottom, top = affine.dequantize([affine.qmin, affine.qmax])
    if real <= bottom:
        assert q == affine.qmin
    elif real >= top:
        assert q == affine.qmax
    else:
        assert abs(affine.dequantize(q) - real) <= affine.scale * (0.5 + 1e-9)


def test_quantize_rounds_ties_up():
    """Halves go up, on both sides of zero."""
    affine = Affine(scale=1.0, zero_point=3)
    assert affine.quantize([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]).tolist() == [1, 2, 3, 4, 5, 6]


def test_power_of_two_scale_is_less_than_twice_the_finest():
    """Rounding a scale up to a power of two at most doubles it."""
    for high in np.geomspace(1e-3, 1e3, 50):
        fine = affine_from_range(-1, high).scale
        assert fine <= affine_from_range(-1, high, power_of_two=True).scale < 2 * fine


def test_a_constant_range_has_a_scale():
    """A tensor of zeros gets a scale all the same."""
    assert affine_from_range(0, 0) == Affine(scale=1.0, zero_point=-128)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": 0.0}, "scale is 0.0, needs to be positive and finite"),
        ({"scale": math.nan}, "scale is nan, needs to be positive and finite"),
        ({"zero_point": 128}, "zero point 128 is outside -128…127"),
        *(
            (
                {"qmin": low, "qmax": high},
                (
                    f"range {low}…{high} is that of no integer of 4 to 16 bits, as int8 "
                    "(-128…127) or uint8 (0…255)"
                ),
            )
            for low, high in [(0, 7), (-4, 3), (-127, 128), (0, 128), (0, 2**17 - 1)]
        ),
    ],
)
def test_affine_refuses(fields, message):
    """What stands for no grid of 8-bit integers is refused, by name and value."""
    with pytest.raises(InvalidNetworkError) as caught:
        Affine(**{"scale": 1.0, "zero_point": 0, **fields})
    assert str(caught.value) == message


def test_range_refuses_infinity():
    """An infinite range has no scale."""
    with pytest.raises(InvalidNetworkError) as caught:
        affine_from_range(0, math.inf)
    assert str(caught.value) == "range 0.0…inf is not finite; calibrate on other images"


# ---- (7): multiplier and shift


@settings(max_examples=500)
@given(
    mantissa=st.floats(1, 2, exclude_max=True),
    exponent=st.integers(-30, 5),
    bits=st.integers(8, 31),
)
def test_multiplier_is_within_its_bound(mantissa, exponent, bits):
    """m / 2^n is within 2^-bits of the factor, m is the nearest, and it uses all its bits."""
    real = math.ldexp(mantissa, exponent)
    m, n = multiplier_and_shift(real, bits)
    assert 1 <= n <= 62
    assert 2 ** (bits - 1) <= m < 2**bits
    error = abs(Fraction(m, 2**n) - Fraction(real)) / Fraction(real)
    assert error <= Fraction(1, 2**bits)
    assert abs(m - Fraction(real) * 2**n) <= Fraction(1, 2)


@given(a=st.floats(0, 100), b=st.floats(0, 100), bits=st.integers(8, 31))
def test_multiplier_is_monotone(a, b, bits):
    """A larger factor never gets a smaller m / 2^n."""
    small, large = (multiplier_and_shift(x, bits) for x in sorted((a, b)))
    assert Fraction(small[0], 2 ** small[1]) <= Fraction(large[0], 2 ** large[1])


@pytest.mark.parametrize(
    ("real", "bits", "expected"),
    [
        (0.0, 16, (0, 16)),
        (1.0, 8, (128, 7)),
        (0.5, 31, (2**30, 31)),
        (127.5, 8, (255, 1)),
        (1 - 2**-40, 8, (128, 7)),  # rounds to 256, which is halved
        (2.0**-62, 8, (1, 62)),  # too small for all its bits
        (2.0**-64, 8, (0, 62)),
    ],
)
def test_multiplier_at_the_ends(real, bits, expected):
    """The ends of the range, by hand."""
    assert multiplier_and_shift(real, bits) == expected


@pytest.mark.parametrize(
    ("real", "bits", "message"),
    [
        (1.0, 7, "multiplier of 7 bits: choose 8 to 31"),
        (1.0, 32, "multiplier of 32 bits: choose 8 to 31"),
        (-0.5, 16, "a requantization factor of -0.5 is not in 0…2^31"),
        (math.nan, 16, "a requantization factor of nan is not in 0…2^31"),
        (math.inf, 16, "a requantization factor of inf is not in 0…2^31"),
        (
            128.0,
            8,
            "a requantization factor of 128.0 does not fit 8 bits; use more multiplier bits",
        ),
    ],
)
def test_multiplier_refuses(real, bits, message):
    """Bad factors and widths, message for message."""
    with pytest.raises(InvalidNetworkError) as caught:
        multiplier_and_shift(real, bits)
    assert str(caught.value) == message


def test_shift_only_is_a_multiplier_of_one():
    """A power of two is a shift alone; anything else is refused."""
    found = requantization([0.5, 2.0**-9, 2.0**-62], shift_only=True)
    assert found.multiplier.tolist() == [1, 1, 1]
    assert found.right_shift.tolist() == [1, 9, 62]
    assert found.bits == 1
    for factor in (0.3, 1.0):
        with pytest.raises(InvalidNetworkError) as caught:
            requantization(factor, shift_only=True)
        assert str(caught.value) == f"a factor of {factor} is no right shift by 1…62"


@pytest.mark.parametrize(
    ("m", "n", "message"),
    [
        ([1], [1, 2], "multipliers of shape (1,) do not fit shifts of shape (2,)"),
        (
            [256],
            [1],
            "multipliers 256…256 and shifts 1…1 are outside 0…2^8-1 and 1…62",
        ),
        ([1], [63], "multipliers 1…1 and shifts 63…63 are outside 0…2^8-1 and 1…62"),
        ([-1], [0], "multipliers -1…-1 and shifts 0…0 are outside 0…2^8-1 and 1…62"),
    ],
)
def test_requantization_refuses(m, n, message):
    """Constants that hardware of the stated width could not hold."""
    with pytest.raises(InvalidNetworkError) as caught:
        constants(m, n, bits=8)
    assert str(caught.value) == message
