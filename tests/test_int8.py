"""The NumPy engine and the proven ranges of docs/quantization.md against fractions and plain loops.

The oracles here share no code with the package: they are slow, and written to be checked by eye.
"""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arraysmith.affine import Affine, Requantization, requantization
from arraysmith.errors import InvalidNetworkError
from arraysmith.quantization import int8
from arraysmith.quantization.network import (
    IntegerAveragePool,
    IntegerConv2d,
    IntegerFlatten,
    IntegerLinear,
    IntegerTable,
)

INT8 = Affine(scale=0.1, zero_point=-5)


def constants(multiplier, right_shift, bits=31):
    """`Requantization` of plain lists."""
    return Requantization(
        multiplier=np.array(multiplier, np.int64),
        right_shift=np.array(right_shift, np.int64),
        bits=bits,
    )


def nearest(x):
    """The integer nearest to an exact number, ties up."""
    return math.floor(Fraction(x) + Fraction(1, 2))


def exact_output(acc, m, n, affine, low=None):
    """Equation (3) in exact fractions."""
    y = affine.zero_point + nearest(Fraction(int(acc) * int(m), 2 ** int(n)))
    return min(max(y, affine.qmin if low is None else low), affine.qmax)


def linear(weight, bias, affine=INT8, zero_points=None, **fields):
    """An `IntegerLinear` that gives its accumulators, unless told otherwise."""
    weight = np.array(weight, np.int8)
    fields = {"output": None, "requantization": None, **fields}
    zero_points = [0] * len(weight) if zero_points is None else zero_points
    return IntegerLinear(
        name="fc",
        weight=weight,
        weight_zero_point=np.array(zero_points, np.int64),
        weight_scale=np.ones(len(weight)),
        bias=np.array(bias, np.int32),
        input=affine,
        **fields,
    )


# ---- (3): requantize


@settings(max_examples=300)
@given(
    acc=st.integers(-(2**31), 2**31 - 1) | st.sampled_from([-(2**31), 2**31 - 1, -1, 0, 1]),
    m=st.integers(0, 2**31 - 1) | st.just(2**31 - 1),
    n=st.integers(1, 62),
    zero_point=st.integers(-128, 127),
    relu=st.booleans(),
)
def test_requantize_is_the_exact_fraction_rounded_once(acc, m, n, zero_point, relu):
    """Equation (3) never overflows int64 and equals floor(acc·m / 2^n + 1/2), clamped."""
    affine = Affine(scale=1.0, zero_point=zero_point)
    low = zero_point if relu else None
    found = int8.requantize(np.array([[acc]]), constants([m], [n]), affine, low=low)
    assert found.item() == exact_output(acc, m, n, affine, low)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (8, 4), (2**30, 31), (2**15, 16)])
def test_requantize_rounds_ties_up(m, n):
    """A factor of one half: halves go up on both sides of zero."""
    affine = Affine(scale=1.0, zero_point=0)
    found = int8.requantize(np.arange(-5, 6)[None, None], constants([m], [n]), affine)
    assert found.ravel().tolist() == [-2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3]


def test_requantize_has_constants_of_its_own_for_every_channel():
    """Channels are the second axis, for vectors and for images."""
    rng = np.random.default_rng(1)
    m, n = rng.integers(1, 2**16, 5), rng.integers(17, 30, 5)
    acc = rng.integers(-(2**20), 2**20, (3, 5, 2, 4))
    affine = Affine(scale=1.0, zero_point=9, qmin=0, qmax=255)
    found = int8.requantize(acc, constants(m, n, 16), affine)
    for where in np.ndindex(acc.shape):
        channel = where[1]
        assert found[where] == exact_output(acc[where], m[channel], n[channel], affine)
    flat = int8.requantize(acc[:, :, 0, 0], constants(m, n, 16), affine)
    assert np.array_equal(flat, found[:, :, 0, 0])


# ---- (2) and (4): convolution, linear layer, fused pool


def naive_conv2d(layer, x):
    """Seven loops in Python integers, then (4) and (3) in exact fractions."""
    out, channels, size, _ = layer.weight.shape
    batch, _, rows, cols = x.shape
    rows, cols = ((s + 2 * layer.padding - size) // layer.stride + 1 for s in (rows, cols))
    acc = np.zeros((batch, out, rows, cols), object)
    for b, o, r, c in np.ndindex(acc.shape):
        total = int(layer.bias[o])
        for i, u, v in np.ndindex(channels, size, size):
            row, col = r * layer.stride + u - layer.padding, c * layer.stride + v - layer.padding
            inside = 0 <= row < x.shape[2] and 0 <= col < x.shape[3]
            qx = int(x[b, i, row, col]) if inside else layer.input.zero_point
            qw = int(layer.weight[o, i, u, v])
            total += (qx - layer.input.zero_point) * (qw - int(layer.weight_zero_point[o]))
        acc[b, o, r, c] = total
    y = np.zeros((batch, out, rows // layer.pool, cols // layer.pool), np.int64)
    many = len(layer.requantization.multiplier)
    low = layer.output.zero_point if layer.relu else None
    for b, o, r, c in np.ndindex(y.shape):
        window = itertools.product(range(layer.pool), repeat=2)
        values = [acc[b, o, r * layer.pool + i, c * layer.pool + j] for i, j in window]
        # Without a pool ReLU is the clamp alone; with one it stands before the sum.
        pooled = sum(max(value, 0) if layer.relu else value for value in values)
        m, n = (
            a[o % many] for a in (layer.requantization.multiplier, layer.requantization.right_shift)
        )
        y[b, o, r, c] = exact_output(pooled, m, n, layer.output, low)
    return y


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("pool", "relu"), [(1, False), (1, True), (2, False), (2, True), (3, True)]
)
def test_conv2d_equals_seven_loops(seed, pool, relu):
    """Random small shapes with stride, padding, pool, ReLU, int8 and uint8, per channel or not."""
    rng = np.random.default_rng([seed, pool, relu])
    batch, channels, out, size = rng.integers(1, [3, 4, 4, 4])
    stride, padding = rng.integers(1, 3), rng.integers(0, 3)
    rows, cols = rng.integers(size + stride * (pool + 1), size + stride * (pool + 1) + 3, 2)
    signed = bool(seed % 2)
    qmin, qmax = (-128, 127) if signed else (0, 255)
    many = out if seed % 3 else 1
    layer = IntegerConv2d(
        name="conv",
        weight=rng.integers(-128, 128, (out, channels, size, size)).astype(np.int8),
        weight_zero_point=rng.integers(-128, 128, out),
        weight_scale=np.ones(out),
        bias=rng.integers(-5000, 5000, out).astype(np.int32),
        input=Affine(scale=1.0, zero_point=int(rng.integers(qmin, qmax + 1)), qmin=qmin, qmax=qmax),
        output=Affine(scale=1.0, zero_point=int(rng.integers(-128, 128))),
        requantization=constants(rng.integers(1, 2**16, many), rng.integers(20, 32, many), 16),
        relu=relu,
        stride=int(stride),
        padding=int(padding),
        pool=pool,
    )
    x = rng.integers(qmin, qmax + 1, (batch, channels, rows, cols))
    found = int8.run_layer(layer, x)
    assert found.shape[1:] == layer.output_shape(x.shape[1:])
    assert np.array_equal(found, naive_conv2d(layer, x))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("many", [1, 4])
def test_linear_equals_two_loops(many, relu):
    """A linear layer that gives logits, and one requantized per tensor or per channel."""
    rng = np.random.default_rng([many, relu])
    weight, zero_points = rng.integers(-128, 128, (4, 9)), rng.integers(-128, 128, 4)
    bias, x = rng.integers(-9999, 9999, 4), rng.integers(-128, 128, (6, 9))
    acc = [
        [
            int(bias[o])
            + sum((int(x[b, i]) + 5) * int(weight[o, i] - zero_points[o]) for i in range(9))
            for o in range(4)
        ]
        for b in range(6)
    ]
    logits = linear(weight, bias, zero_points=zero_points)
    assert int8.run_layer(logits, x).tolist() == acc
    m, n = rng.integers(2**15, 2**16, many), rng.integers(24, 28, many)
    output = Affine(scale=1.0, zero_point=-30)
    made = constants(m, n, 16)
    layer = linear(
        weight, bias, zero_points=zero_points, output=output, requantization=made, relu=relu
    )
    low = -30 if relu else None
    assert int8.run_layer(layer, x).tolist() == [
        [exact_output(row[o], m[o % many], n[o % many], output, low) for o in range(4)]
        for row in acc
    ]


# ---- (5), (6): what an accumulator can reach


def reachable(layer, x):
    """Lowest and highest partial sum, in any order, over all inputs x (n, in) of one channel."""
    products = (x - layer.input.zero_point) * (
        layer.weight[0].astype(np.int64) - layer.weight_zero_point[0]
    )
    terms = np.concatenate([products, np.full((len(x), 1), layer.bias[0])], 1)
    subsets = np.array(list(itertools.product((0, 1), repeat=terms.shape[1])))
    sums = terms @ subsets.T
    return int(sums.min()), int(sums.max())


@pytest.mark.parametrize("bias", [-3000, 0, 4000])
@pytest.mark.parametrize("zero_point", [-128, -5, 127])
def test_accumulator_range_is_the_least_that_holds(bias, zero_point):
    """Over all 65,536 inputs and all orders, both ends are reached and never left."""
    affine = Affine(scale=1.0, zero_point=zero_point)
    x = np.stack(np.meshgrid(*[np.arange(-128, 128)] * 2), -1).reshape(-1, 2)
    for weight in ([100, -7], [-128, -128], [3, 0]):
        layer = linear([weight], [bias], affine, [11])
        assert layer.accumulator_range == reachable(layer, x)


def test_accumulator_range_holds_for_random_orders():
    """The running sum of a long random channel stays inside, whatever the order."""
    rng = np.random.default_rng(5)
    layer = linear(rng.integers(-128, 128, (1, 200)), [12345], zero_points=[7])
    low, high = layer.accumulator_range
    for _ in range(300):
        x = rng.choice([-128, 127], 200) if rng.random() < 0.5 else rng.integers(-128, 128, 200)
        products = (x + 5) * (layer.weight[0].astype(np.int64) - 7)
        running = np.cumsum(rng.permutation([*products, 12345]))
        assert low <= running.min()
        assert running.max() <= high


@pytest.mark.parametrize("relu", [False, True])
def test_accumulator_range_counts_the_fused_pool(relu):
    """pool² equal extreme accumulators: their sum is the end of the range, ReLU starting at 0."""
    layer = IntegerConv2d(
        name="conv",
        weight=np.array([[[[100]]], [[[-50]]]], np.int8),
        weight_zero_point=np.zeros(2, np.int64),
        weight_scale=np.ones(2),
        bias=np.array([7, -7], np.int32),
        input=INT8,
        output=INT8,
        requantization=constants([1], [1]),
        relu=relu,
        pool=3,
    )
    single_low = 100 * (-128 + 5)  # (5) of channel 0: its bias is positive
    assert single_low < -50 * (127 + 5) - 7
    low = single_low if relu else 9 * single_low
    assert layer.accumulator_range == (low, 9 * (100 * 132 + 7))
    assert layer.magnitude_bound == 9 * (100 * 132 + 7)


@given(low=st.integers(-(2**31), 0), high=st.integers(0, 2**31 - 1))
def test_accumulator_bits_is_the_least_width(low, high):
    """Two's complement of that many bits holds the range, and of one bit less does not."""

    class Ranged(IntegerLinear):
        accumulator_range = (low, high)

    bits = Ranged.accumulator_bits.fget(Ranged)
    assert -(2 ** (bits - 1)) <= low <= high < 2 ** (bits - 1)
    assert bits == 1 or not -(2 ** (bits - 2)) <= low <= high < 2 ** (bits - 2)


def test_magnitude_bound_is_the_worst_channel():
    """Σ|w|·max|x| + |b| of the worst channel."""
    layer = linear([[1, -2], [3, 4]], [-1000, 10], zero_points=[0, 1])
    assert layer.magnitude_bound == max((1 + 2) * 132 + 1000, (2 + 3) * 132 + 10)


def test_accumulator_beyond_int32_is_refused():
    """A layer whose sums could leave int32 cannot be made."""
    with pytest.raises(InvalidNetworkError) as caught:
        linear(np.full((1, 70_000), 127), [0], Affine(scale=1.0, zero_point=-128), [-128])
    high = 70_000 * 255 * 255
    assert str(caught.value) == f"layer 'fc': the accumulator can reach 0…{high}, beyond int32"


# ---- (8), (9): average pool, table, flatten


@pytest.mark.parametrize("window", [1, 2, 3])
def test_average_pool_is_the_exact_mean_rounded_once(window):
    """A stand-alone pool against fractions; the rest at the border is cut."""
    rng = np.random.default_rng(window)
    affine = Affine(scale=0.2, zero_point=17, qmin=0, qmax=255)
    factor = requantization(0.2 / 0.15 / window**2)
    output = Affine(scale=0.15, zero_point=-20)
    layer = IntegerAveragePool(
        name="pool", window=window, input=affine, output=output, requantization=factor
    )
    x = rng.integers(0, 256, (2, 3, 7, 5))
    found = int8.run_layer(layer, x)
    assert found.shape[1:] == layer.output_shape((3, 7, 5)) == (3, 7 // window, 5 // window)
    for b, c, i, j in np.ndindex(found.shape):
        cells = x[b, c, i * window : (i + 1) * window, j * window : (j + 1) * window]
        total = sum(int(cell) - 17 for cell in cells.ravel())
        m, n = factor.multiplier[0], factor.right_shift[0]
        assert found[b, c, i, j] == exact_output(total, m, n, output)


@pytest.mark.parametrize("qmin", [-128, 0])
def test_table_is_indexed_from_its_lowest_input(qmin):
    """y = table[qx - qmin], for int8 and uint8."""
    affine = Affine(scale=1.0, zero_point=0, qmin=qmin, qmax=qmin + 255)
    table = np.random.default_rng(0).permutation(256) - 128
    layer = IntegerTable(name="tanh", table=table, input=affine, output=INT8)
    x = np.arange(qmin, qmin + 256).reshape(2, 2, 8, 8)
    assert int8.run_layer(layer, x).ravel().tolist() == table.tolist()


def test_flatten_is_row_major():
    """Channel, row, column."""
    x = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    layer = IntegerFlatten(name="flatten", input=INT8)
    assert int8.run_layer(layer, x).tolist() == [list(range(12)), list(range(12, 24))]
