"""The NumPy engine and the proven ranges of docs/quantization.md against fractions and plain loops.

The oracles share no code with the package: they are slow, and written to be checked by eye.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_cases import ALL_KINDS, random_inputs, random_network
from slow_integers import exact_output, oracle

from arraysmith.affine import Affine, Requantization
from arraysmith.errors import InvalidNetworkError
from arraysmith.networks.graph import Input
from arraysmith.networks.moves import Concat, MaxPool, Reshape
from arraysmith.networks.windows import Windows
from arraysmith.quantization import int8
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.operations import (
    IntegerAdd,
    IntegerConstant,
    IntegerLayerNorm,
    IntegerLookup,
    IntegerSoftmax,
)
from arraysmith.quantization.products import Activation, IntegerConvolution, IntegerLinear

INT8 = Affine(scale=0.1, zero_point=-5)


def constants(multiplier, right_shift, bits=31):
    """`Requantization` of plain lists."""
    return Requantization(
        multiplier=np.array(multiplier, np.int64),
        right_shift=np.array(right_shift, np.int64),
        bits=bits,
    )


def weighted(kind, weight, bias, affine=INT8, zero_points=None, **fields):
    """A layer that gives its accumulators, unless told otherwise."""
    weight = np.array(weight, np.int16)
    zero_points = [0] * len(weight) if zero_points is None else zero_points
    return kind(
        **{
            "name": "layer",
            "inputs": ("x",),
            "weight": weight,
            "weight_zero_point": np.array(zero_points, np.int64),
            "weight_scale": np.ones(len(weight)),
            "bias": np.array(bias, np.int32),
            "input": affine,
            "output": None,
            "requantization": None,
            **fields,
        }
    )


def flat(size, stride=1, before=0, after=0):
    """`Windows` along one axis."""
    return Windows(
        size=(size,), strides=(stride,), dilations=(1,), before=(before,), after=(after,)
    )


# ---- every record


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.__name__)
def test_every_record_equals_its_oracle(kind):
    """Random records, types of 4 to 16 bits, batches and constants: word by word in fractions."""
    for seed in range(25):
        rng = np.random.default_rng([seed, ALL_KINDS.index(kind)])
        network = random_network(rng, 1, kinds=[kind])
        known = int8.network_inputs(network, random_inputs(network, rng, 2))
        for layer, y in int8.trace(network, dict(known)):
            known[layer.name] = y
            expected = oracle(layer, *(known[name] for name in layer.inputs))
            assert y.dtype == np.int64
            assert np.array_equal(y, expected), (seed, layer)


def test_convolution_by_hand():
    """Two groups of one channel, stride 2, one padded word in front and two behind."""
    layer = weighted(
        IntegerConvolution,
        [[[1, 10, 100]], [[-1, 0, 2]]],
        [5, 7],
        Affine(scale=1.0, zero_point=1),
        windows=flat(3, stride=2, before=1, after=2),
        groups=2,
    )
    x = np.array([[[1, 2, 3, 4], [5, 6, 7, 8]]])  # less the zero point 0 1 2 3 and 4 5 6 7
    assert layer.output_shape((2, 4)) == (2, 3)
    assert int8.run_layer(layer, x).tolist() == [
        [[100 + 5, 1 + 20 + 300 + 5, 3 + 5], [2 * 5 + 7, -5 + 2 * 7 + 7, -7 + 7]]
    ]


# ---- (3): requantize


@settings(max_examples=300)
@given(
    acc=st.integers(-(2**31), 2**31 - 1) | st.sampled_from([-(2**31), 2**31 - 1, -1, 0, 1]),
    m=st.integers(0, 2**31 - 1) | st.just(2**31 - 1),
    n=st.integers(1, 62),
    zero_point=st.integers(-128, 127),
    ends=st.tuples(st.integers(-128, 127), st.integers(-128, 127)).map(sorted)
    | st.just((None, None)),
)
def test_requantize_is_the_exact_fraction_rounded_once(acc, m, n, zero_point, ends):
    """Equation (3) never overflows int64 and equals floor(acc·m / 2^n + 1/2), clamped."""
    affine, (low, high) = Affine(scale=1.0, zero_point=zero_point), ends
    found = int8.requantize(np.array([[acc]]), m, n, affine, low=low, high=high)
    assert found.item() == exact_output(acc, m, n, affine, low, high)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (8, 4), (2**30, 31), (2**15, 16)])
def test_requantize_rounds_ties_up(m, n):
    """A factor of one half: halves go up on both sides of zero."""
    affine = Affine(scale=1.0, zero_point=0)
    found = int8.requantize(np.arange(-5, 6), m, n, affine)
    assert found.tolist() == [-2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3]


# ---- roots, softmax, layer normalization


@given(x=st.integers(0, 2**62) | st.integers(0, 2**31).map(lambda root: min(root**2, 2**62)))
def test_isqrt_is_the_floor_of_the_root(x):
    """Around squares, where a float root is most in danger, and anywhere."""
    values = [each for each in (x - 1, x, x + 1) if 0 <= each <= 2**62]
    assert int8.isqrt(np.array(values)).tolist() == [math.isqrt(each) for each in values]


def test_softmax_is_near_the_real_one():
    """Within a step of exp(x) over its sum, whatever the zero point."""
    input_ = Affine(scale=0.05, zero_point=40)
    layer = IntegerSoftmax(
        name="softmax",
        inputs=("x",),
        axis=0,
        table=np.floor(2**16 * np.exp(-0.05 * np.arange(256)) + 0.5).astype(np.int64),
        input=input_,
        output=Affine(scale=1 / 256, zero_point=-128),
    )
    x = np.random.default_rng(2).integers(-128, 128, (50, 7))
    y = layer.output.dequantize(int8.run_layer(layer, x))
    powers = np.exp(input_.dequantize(x))
    assert np.abs(y - powers / powers.sum(1, keepdims=True)).max() < 1 / 256


def test_layer_norm_is_near_the_real_one():
    """Within a step of the formula in floats, on lines that are not constant."""
    rng, size = np.random.default_rng(3), 48
    input_, output = Affine(scale=0.05, zero_point=-9), Affine(scale=0.03, zero_point=4)
    gain, shift, n = rng.normal(0, 0.5, size), rng.normal(0, 0.5, size), 24
    factor = 2**n / output.scale
    layer = IntegerLayerNorm(
        name="norm",
        inputs=("x",),
        input=input_,
        output=output,
        epsilon=math.floor(size**3 * 1e-5 / input_.scale**2 + 0.5),
        multiplier=np.floor(gain * factor / 2**14 + 0.5).astype(np.int64),
        bias=np.floor(shift * factor + 0.5).astype(np.int64),
        right_shift=n,
    )
    x = rng.integers(-128, 128, (40, size))
    real = input_.dequantize(x)
    mean, variance = real.mean(1, keepdims=True), real.var(1, keepdims=True)
    expected = (real - mean) / np.sqrt(variance + 1e-5) * gain + shift
    found = output.dequantize(int8.run_layer(layer, x))
    inside = np.abs(expected) < 3
    assert np.abs(found - expected)[inside].max() < output.scale


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
        layer = weighted(IntegerLinear, [weight], [bias], affine, [11])
        assert layer.accumulator_range == reachable(layer, x)
        assert max(map(abs, reachable(layer, x))) <= layer.magnitude_bound


def test_accumulator_range_holds_for_random_orders():
    """The running sum of a long random channel stays inside, whatever the order."""
    rng = np.random.default_rng(5)
    weight = rng.integers(-128, 128, (1, 200))
    layer = weighted(IntegerLinear, weight, [12345], zero_points=[7])
    low, high = layer.accumulator_range
    for _ in range(300):
        x = rng.choice([-128, 127], 200) if rng.random() < 0.5 else rng.integers(-128, 128, 200)
        products = (x + 5) * (layer.weight[0].astype(np.int64) - 7)
        running = np.cumsum(rng.permutation([*products, 12345]))
        assert low <= running.min()
        assert running.max() <= high


@pytest.mark.parametrize("seed", range(40))
def test_no_step_of_a_fused_layer_leaves_its_bounds(seed):
    """Over all inputs of 4 bits: partial sums, what the activation makes of them, pooled sums."""
    rng = np.random.default_rng(seed)
    affine = Affine(scale=1.0, zero_point=int(rng.integers(-8, 8)), qmin=-8, qmax=7)
    low, high = sorted(rng.integers(-300, 300, 2).tolist())
    activation = Activation(
        low=np.array([low if seed % 3 else -(2**31)]),
        high=np.array([high if seed % 2 else 2**31 - 1]),
        bias=rng.integers(-200, 200, 1),
    )
    layer = weighted(
        IntegerConvolution,
        rng.integers(-8, 8, (1, 2, 1)),
        rng.integers(-90, 90, 1),
        affine,
        windows=flat(1),
        pool=2,
        activation=activation,
        output=INT8,
        requantization=constants([1], [1]),
    )
    words = np.stack(np.meshgrid(*[np.arange(-8, 8)] * 2), -1).reshape(-1, 2)
    alone = (words - affine.zero_point) @ layer.centred_weight[0, :, 0] + layer.bias
    raised = np.clip(alone, activation.low, activation.high)
    made = raised + activation.bias
    pooled = made[:, None] + made
    steps = np.concatenate([alone, made, pooled.ravel()])
    bottom, top = layer.accumulator_range
    assert bottom <= steps.min()
    assert steps.max() <= top
    assert max(np.abs(steps).max(), np.abs(raised).max()) <= layer.magnitude_bound


@pytest.mark.parametrize("relu", [False, True])
def test_accumulator_range_counts_the_fused_pool(relu):
    """pool² equal extreme accumulators: their sum is the end of the range, ReLU starting at 0."""
    pair = np.zeros(2, np.int64)
    activation = Activation(low=pair, high=np.full(2, 2**31 - 1), bias=pair) if relu else None
    layer = weighted(
        IntegerConvolution,
        [[[[100]]], [[[-50]]]],
        [7, -7],
        windows=Windows(size=(1, 1), strides=(1, 1), dilations=(1, 1), before=(0, 0), after=(0, 0)),
        output=INT8,
        requantization=constants([1], [1]),
        activation=activation,
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
    layer = weighted(IntegerLinear, [[1, -2], [3, 4]], [-1000, 10], zero_points=[0, 1])
    assert layer.magnitude_bound == max((1 + 2) * 132 + 1000, (2 + 3) * 132 + 10)


def test_accumulator_beyond_int32_is_refused():
    """A layer whose sums could leave int32 cannot be made."""
    affine = Affine(scale=1.0, zero_point=-128)
    with pytest.raises(InvalidNetworkError) as caught:
        weighted(IntegerLinear, np.full((1, 70_000), 127), [0], affine, [-128])
    assert str(caught.value) == (
        f"layer 'layer': the accumulator can reach 0…{70_000 * 255 * 255}, beyond int32; "
        "give the layer fewer bits"
    )


# ---- batches, inputs, refusals


def chain(*layers, shape=(2,), **fields):
    """A network of one input `x`."""
    fields = {"type": INT8} | fields
    return IntegerNetwork(
        name="net",
        inputs=(Input(name="x", shape=shape, **fields),),
        layers=layers,
        outputs=(layers[-1].name,),
    )


def test_constants_broadcast_over_the_batch():
    """A constant has a batch of one: in a sum, joined, and reshaped."""
    network = chain(
        IntegerConstant(name="c", inputs=(), value=np.array([[7, 8]]), output=INT8),
        Reshape(name="flat", inputs=("c",), shape=(2,)),
        Concat(name="both", inputs=("x", "flat"), axis=0),
    )
    found = {
        layer.name: y.tolist()
        for layer, y in int8.trace(network, {"x": np.array([[1, 2], [3, 4]])})
    }
    assert found == {"c": [[[7, 8]]], "flat": [[7, 8]], "both": [[1, 2, 7, 8], [3, 4, 7, 8]]}


def test_operands_get_axes_behind_the_batch():
    """(batch, 2) is added to (batch, 3, 2) of the same member, not of another."""
    add = IntegerAdd(
        name="sum",
        inputs=("x", "y"),
        terms=(INT8, INT8),
        output=Affine(scale=0.1, zero_point=0),
        multipliers=(2, 2),
        right_shift=1,
        multiplier_bits=2,
    )
    x, y = np.arange(4).reshape(2, 2), np.arange(12).reshape(2, 3, 2)
    assert int8.run_layer(add, x, y).tolist() == (x[:, None] + y + 10).tolist()


def test_inputs_are_quantized_by_their_type():
    """Nearest, ties up, clamped; row numbers are only made whole."""
    table = IntegerLookup(name="rows", inputs=("x",), table=np.zeros((9, 2), int), output=INT8)
    assert int8.quantize_inputs(chain(table, rows=9, type=None), {"x": [[1.0, 7.5]]})[
        "x"
    ].tolist() == [[1, 8]]
    network = chain(Reshape(name="same", inputs=("x",), shape=(2,)))
    assert int8.quantize_inputs(network, {"x": [[0.25, 99.0]]})["x"].tolist() == [[-2, 127]]
    with pytest.raises(InvalidNetworkError) as caught:
        int8.quantize_inputs(network, {"x": np.array([[np.nan, 0]])})
    assert str(caught.value) == "input 'x' holds NaN, which no integer is for"


BAD_INPUTS = [
    ({}, "network 'net' takes inputs x; got none"),
    (
        {"x": np.zeros((1, 2), int), "y": np.zeros(1)},
        "network 'net' takes inputs x; got x, y",
    ),
    ({"x": np.zeros((1, 3), int)}, "input 'x' has shape (1, 3), needs (batch, 2)"),
    ({"x": np.zeros(2, int)}, "input 'x' has shape (2,), needs (batch, 2)"),
    (
        {"x": np.zeros((1, 2))},
        "input 'x' is float64, needs integers; quantize_inputs makes them of reals",
    ),
    ({"x": np.array([[-129, 3]])}, "input 'x' holds -129…3, needs integers of -128…127"),
    ({"x": np.array([[5, 128]])}, "input 'x' holds 5…128, needs integers of -128…127"),
]


@pytest.mark.parametrize(("inputs", "message"), BAD_INPUTS)
def test_inputs_that_do_not_fit_are_refused(inputs, message):
    """Names, shape, type and range, by both engines in the same words."""
    torch = pytest.importorskip("torch")
    from arraysmith.quantization.modules import QuantNetwork

    network = chain(Reshape(name="same", inputs=("x",), shape=(2,)))
    with pytest.raises(InvalidNetworkError) as caught:
        int8.run(network, inputs)
    assert str(caught.value) == message
    with pytest.raises(InvalidNetworkError) as caught:
        QuantNetwork(network)({name: torch.from_numpy(x) for name, x in inputs.items()})
    assert str(caught.value) == message


def test_rows_that_a_table_lacks_are_refused():
    """Row numbers have no type, but a range."""
    table = IntegerLookup(name="rows", inputs=("x",), table=np.zeros((9, 2), int), output=INT8)
    with pytest.raises(InvalidNetworkError) as caught:
        int8.run(chain(table, rows=9, type=None), {"x": np.array([[0, 9]])})
    assert str(caught.value) == "input 'x' holds 0…9, needs integers of 0…8"


def test_batches_that_differ_are_refused():
    """A batch of one goes with any other, two and three do not go together."""
    inputs = tuple(Input(name=name, shape=(1,), type=INT8) for name in "xy")
    join = Concat(name="both", inputs=("x", "y"), axis=0)
    network = IntegerNetwork(name="net", inputs=inputs, layers=(join,), outputs=("both",))
    x, y = np.array([[1]]), np.array([[2], [3]])
    assert int8.run(network, {"x": x, "y": y})["both"].tolist() == [[1, 2], [1, 3]]
    with pytest.raises(InvalidNetworkError) as caught:
        int8.run(network, {"x": np.zeros((3, 1), int), "y": y})
    assert str(caught.value) == "inputs of different batches: x has 3, y has 2"


def test_a_window_of_padding_alone_is_refused():
    """It has no greatest word."""
    pool = MaxPool(name="pool", inputs=("x",), windows=flat(1, before=1))
    with pytest.raises(InvalidNetworkError) as caught:
        chain(pool, shape=(2, 4))
    assert str(caught.value) == (
        "layer 'pool': a window over (2, 4) sees padding alone; give it less padding"
    )
