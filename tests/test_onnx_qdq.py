"""Exact QDQ ONNX models: the integers of the network, bit for bit, at every level."""

from __future__ import annotations

import dataclasses
import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arraysmith.affine import (
    Affine,
    Requantization,
    multiplier_and_shift,
    requantization,
    short_scale,
)
from arraysmith.errors import InvalidNetworkError
from arraysmith.networks import operations as floats
from arraysmith.networks.moves import MaxPool
from arraysmith.quantization.int8 import quantize_inputs, trace
from arraysmith.quantization.operations import (
    FloatIsland,
    IntegerAdd,
    IntegerAveragePool,
    IntegerConstant,
    IntegerMatMul,
    IntegerMean,
    IntegerMul,
    IntegerRequantize,
)
from arraysmith.quantization.products import Activation, IntegerConvolution, IntegerLinear

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from float_graphs import samples_of  # noqa: E402
from network_cases import random_inputs, random_network  # noqa: E402
from qdq_cases import (  # noqa: E402
    KINDS,
    LEVELS,
    OPEN,
    PIXELS,
    X,
    Y,
    by_hand,
    check_exact,
    differences,
    draws,
    net,
    pow2_network,
    residual_graph,
    run,
    session,
    short_network,
    weighted,
    windows,
)

from arraysmith.quantization.onnx_qdq import qdq_model  # noqa: E402
from arraysmith.quantization.quantize import quantize  # noqa: E402
from arraysmith.quantization.scheme import SCHEMES  # noqa: E402

# ---- exact mode


def test_a_network_by_hand_is_exact():
    """Convolution, ReLU, fused pool, residual, product, join, pools, table and logits."""
    network = by_hand()
    fed = draws(network)
    check_exact(network, fed)
    integers = {layer.name: x for layer, x in trace(network, fed)}
    assert len(np.unique(integers["average"])) > 20  # it is not all saturated


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_record_is_exact(kind):
    """Random layers of short multipliers, alone: exact at every level, or refused."""
    exact = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        network = short_network(random_network(rng, 1, kinds=[kind], bits=(8, 8, 5, 9)))
        try:
            check_exact(network, random_inputs(network, rng))
        except InvalidNetworkError as refusal:
            assert "units, float32 is exact up to" in str(refusal)  # noqa: PT017
        else:
            exact += 1
    assert exact >= 4


def test_random_graphs_are_exact():
    """Of many layers that read each other."""
    exact = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        network = short_network(random_network(rng, 6, kinds=KINDS, bits=(8, 6, 4)))
        try:
            check_exact(network, random_inputs(network, rng))
        except InvalidNetworkError as refusal:
            assert "units, float32 is exact up to" in str(refusal)  # noqa: PT017
        else:
            exact += 1
    assert exact >= 6


def every_tie(m, n):
    """Layers that give x·m/2^n of every x there is, and (x + 1)·m/2^n."""
    constants = Requantization(multiplier=np.array([m]), right_shift=np.array([n]), bits=8)
    one = {"input": X, "output": X, "requantization": constants}
    pair = {"left": X, "right": X, "output": X, "requantization": constants}
    weights = {
        "weight_zero_point": np.zeros(1, int),
        "weight_scale": np.full(1, math.ldexp(m, -n)),
        "bias": np.ones(1, np.int32),
    } | one
    unit = IntegerConstant(name="one", inputs=(), value=np.full((1, 1, 1), -8), output=X)
    tie = Activation(low=np.full(1, -77), high=np.full(1, 99), bias=np.full(1, 2))
    ones = np.ones((1, 1, 1, 1), np.int16)
    return net(
        unit,
        IntegerConvolution(
            name="conv", inputs=("x",), weight=ones, windows=windows(1), **weights
        ),
        IntegerConvolution(
            name="clamped", inputs=("x",), weight=ones, windows=windows(1), activation=tie,
            **weights,
        ),
        IntegerLinear(name="linear", inputs=("x",), weight=ones[0, 0], **weights),
        IntegerRequantize(name="requantize", inputs=("x",), **one),
        IntegerMean(name="mean", inputs=("x",), axes=(0, 1), **one),
        IntegerAveragePool(name="average", inputs=("x",), windows=windows(1), **one),
        IntegerAdd(
            name="add", inputs=("x", "one"), terms=(X, X), output=X, multipliers=(m, m),
            right_shift=n, multiplier_bits=8,
        ),
        IntegerMul(name="mul", inputs=("x", "one"), **pair),
        IntegerMatMul(name="matmul", inputs=("x", "one"), **pair),
        shape=(1, 1, 1),
        outputs=("conv",),
    )  # fmt: skip


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 3), (255, 9), (5, 2), (131, 1), (128, 8)])
def test_ties_go_up(m, n):
    """Every input there is, with accumulators that lie half between two outputs."""
    every = {"x": np.arange(-128, 128).reshape(256, 1, 1, 1)}
    check_exact(every_tie(m, n), every)


@pytest.mark.parametrize("k", [255, 131, 3, 1])
def test_ties_go_up_in_parts(k):
    """Sums of 22 bits that lie half between two outputs, and one unit to either side."""
    wide = Affine(scale=2.0**-8, zero_point=0, qmin=-(2**15), qmax=2**15 - 1)
    bias = np.array([-2, -1, 0, 1, 2, 2**20, 2**20 - 1], np.int32)
    out = len(bias)
    layer = IntegerLinear(
        name="sum", inputs=("x",), weight=np.full((out, 1), 64, np.int16),
        weight_zero_point=np.zeros(out, int), weight_scale=np.ones(out), bias=bias, input=wide,
        output=wide, requantization=Requantization(
            multiplier=np.array([k]), right_shift=np.array([17]), bits=8
        ),
    )  # fmt: skip
    x = np.concatenate([np.arange(-31, 32) * 1024, np.arange(-999, 999)])[:, None]
    sums = 64 * x + bias
    assert ((sums * k) % 2**17 == 2**16).sum() > 60  # ties
    model = check_exact(net(layer, shape=(1,), type_=wide), {"x": x})
    assert ("Sub" in {node.op_type for node in model.graph.node}) == (k > 1)  # in parts


def test_ordinary_models_round_ties_to_even():
    """So the cases of the test above have ties that matter."""
    every = {"x": np.arange(-128, 128).reshape(256, 1, 1, 1)}
    found = differences(every_tie(1, 1), every, 0)
    for name in ("conv", "clamped", "linear", "requantize", "mean", "average", "add"):
        assert (found[name] == 1).sum() > 50, name


@pytest.mark.parametrize("pool", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_a_fused_pool_is_exact(pool, seed):
    """Also where 1/pool² has been rounded into the multiplier; and ReLU6, and a shift behind it."""
    clamp = Activation(
        low=np.array([0, -OPEN, 0, 50]),
        high=np.array([OPEN - 1, 3000, 4000, OPEN - 1]),
        bias=np.array([0, 7, -900, 11]),
    )
    fields = weighted("conv", "x", (4, 2, 3, 3), seed=seed, pool=pool**2, activation=clamp)
    layer = IntegerConvolution(**fields, windows=windows(3, padding=1), pool=pool)
    model = check_exact(net(layer, shape=(2, 13, 12)), draws(net(layer, shape=(2, 13, 12))))
    kinds = [node.op_type for node in model.graph.node]
    assert ("AveragePool" in kinds) == (pool == 2)


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=50))
@settings(max_examples=30, deadline=None)
def test_inputs_are_quantized_with_ties_up(reals):
    """What `Affine.quantize` gives, for any float32, ties among them."""
    layer = IntegerRequantize(
        name="same", inputs=("x",), input=X, output=X, requantization=requantization(1.0, 8)
    )
    network = net(layer, shape=())
    ties = (np.arange(-150, 150) + 0.5) * X.scale
    x = np.concatenate([ties, np.nextafter(ties, -9), reals]).astype(np.float32)
    found = run(qdq_model(network, exact=True, every=True), {"x": x}, 99)
    np.testing.assert_array_equal(found["same"], quantize_inputs(network, {"x": x})["x"])


@pytest.mark.parametrize("made", [by_hand, pow2_network])
def test_nothing_is_replaced_by_another_rounding(tmp_path, made):
    """What ONNX Runtime makes of exact models multiplies and adds floats, at every level."""
    network = made()
    for exact in (True, False):
        replaced = set()
        for level in LEVELS:
            written = str(tmp_path / f"{level}.onnx")
            session(qdq_model(network, exact=exact), level, written)
            kinds = {node.op_type for node in onnx.load(written).graph.node}
            assert not exact or "Gemm" in kinds
            replaced |= {each for each in kinds if re.search("QLinear.|QGemm|Integer|NBits", each)}
        assert (not replaced) == exact  # of ordinary models it replaces some


def test_sums_close_to_the_bound_are_exact():
    """2,000 products whose sums reach far beyond 2^22, multipliers of 8 bits."""
    rng = np.random.default_rng(0)
    weight = np.clip(np.round(rng.normal(0, 32, (8, 2000))), -127, 127).astype(np.int16)
    fields = weighted("sum", "x", weight.shape, input_=PIXELS)
    fields |= {"weight": weight, "weight_zero_point": np.zeros(8, int)}
    layer = IntegerLinear(**fields)
    gain = Y.scale * 2.0**-5  # most sums within the output's range
    constants = requantization(layer.accumulator_scale / Y.scale * gain, 8)
    layer = dataclasses.replace(layer, requantization=constants)
    assert max(-layer.accumulator_range[0], layer.accumulator_range[1]) > 2**22
    x = rng.integers(0, 256, (64, 2000))
    x[0], x[1] = np.where(weight[0] > 0, 255, 0), np.where(weight[0] < 0, 255, 0)
    network = net(layer, shape=(2000,), type_=PIXELS)
    check_exact(network, {"x": x})
    (y,) = (y for _, y in trace(network, {"x": x}))
    assert len(np.unique(y)) > 50


@pytest.mark.parametrize("multiplier_bits", [8, 31])
def test_what_the_scheme_pow2_makes_is_exact(multiplier_bits):
    """A float network quantized, layer by layer, with the scheme's own scales."""
    graph = residual_graph()
    samples = samples_of(graph, 16)
    scheme = dataclasses.replace(SCHEMES["pow2"], multiplier_bits=multiplier_bits)
    network = quantize(graph, samples, scheme).network
    fed = quantize_inputs(network, samples.arrays)
    check_exact(network, fed)
    assert len({type(layer) for layer in network.layers}) >= 8


def test_refuses_a_sum_that_float32_rounds():
    """The layer, its bound and the way out."""
    wide = Affine(scale=2.0**-8, zero_point=0, qmin=-(2**15), qmax=2**15 - 1)
    fields = weighted("wide", "x", (2, 9), input_=wide) | {"bias": np.zeros(2, np.int32)}
    fields |= {"weight": np.full((2, 9), 64, np.int16), "weight_zero_point": np.zeros(2, int)}
    with pytest.raises(InvalidNetworkError) as refusal:
        qdq_model(net(IntegerLinear(**fields), shape=(9,), type_=wide), exact=True)
    assert str(refusal.value) == (
        f"layer 'wide': a sum can reach {9 * 64 * 2**15} units, float32 is exact up to 16777216: "
        "it has too many products; quantize with the scheme pow2 or fewer bits, or export without "
        "exact"
    )


def test_refuses_a_scale_that_is_no_power_of_two():
    """The tensor's scale is named."""
    type_ = Affine(scale=0.1, zero_point=0)
    layer = IntegerRequantize(
        name="same", inputs=("x",), input=X, output=type_, requantization=requantization(0.6, 8)
    )
    with pytest.raises(InvalidNetworkError) as refusal:
        qdq_model(net(layer, shape=(9,)), exact=True)
    assert str(refusal.value) == (
        "layer 'same': the scale of its output is 0.1, no power of two, so floats cannot give its "
        "integers; quantize with the scheme pow2, or export without exact"
    )
    with pytest.raises(InvalidNetworkError, match=r"^layer 'x': the scale of its reals is 0\.1"):
        qdq_model(net(MaxPool(name="m", inputs=("x",), windows=windows(1)), shape=(1, 2, 2),
                      type_=type_), exact=True)  # fmt: skip


def test_the_bound_is_sharp():
    """A sum of 2^24 half units is refused, one of 2^24 - 1 is not."""

    def layer(bias):
        constants = Requantization(multiplier=np.ones(1, int), right_shift=np.ones(1, int), bits=8)
        return IntegerLinear(
            name="sum", inputs=("x",), weight=np.ones((1, 1), np.int16),
            weight_zero_point=np.zeros(1, int), weight_scale=np.ones(1),
            bias=np.array([bias], np.int32), input=X, output=Y, requantization=constants,
        )  # fmt: skip

    reach = 127 + 9
    largest = 2**23 - 1 - reach  # 2·(bias + reach) + 1 = 2^24 - 1
    for bias in (largest, -largest):
        check_exact(net(layer(bias), shape=(1,)), {"x": np.arange(-128, 128)[:, None]})
    with pytest.raises(InvalidNetworkError) as refusal:
        qdq_model(net(layer(largest + 1), shape=(1,)), exact=True)
    assert str(refusal.value) == (
        "layer 'sum': a sum can reach 16777217 units, float32 is exact up to 16777216: its "
        "multiplier 1 is too long or its sum too large; quantize with the scheme pow2 or fewer "
        "bits, or export without exact"
    )


def test_refuses_floats_in_exact_mode():
    """An island has no exact form."""
    operation = floats.Island(name="sum", inputs=("x",), kind=floats.IslandKind.SUM, axes=(0,))
    layer = FloatIsland(name="sum", inputs=("x",), operation=operation, terms=(X,), output=Y)
    with pytest.raises(InvalidNetworkError) as refusal:
        qdq_model(net(layer, shape=(3,)), exact=True)
    assert str(refusal.value) == (
        "layer 'sum': it runs in floats, so no model gives its integers exactly; export without "
        "exact"
    )


def test_parts_are_where_one_product_is_too_long():
    """The stated scales where they are exact, powers of two and a product behind elsewhere."""
    short = IntegerLinear(**weighted("short", "x", (3, 2), weights=8))
    long = IntegerLinear(**weighted("long", "short", (3, 3), seed=1, input_=Y, output=X))
    long = dataclasses.replace(long, bias=np.full(3, 2**22, np.int32))
    network = net(short, long, shape=(2,))
    model = check_exact(network, draws(network, 99))
    scales = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    np.testing.assert_array_equal(scales["short/weight.scale"], short.weight_scale)
    assert (np.frexp(scales["long/weight.scale"])[0] == 0.5).all()
    assert (long.weight_scale / scales["long/weight.scale"] < 2).all()


@given(st.integers(1, 2**31 - 1), st.integers(-60, 0), st.integers(4, 16))
def test_short_scales_give_exact_multipliers(mantissa, exponent, bits):
    """The least short multiple above, and m/2^n is the very factor, for scales of powers of two."""
    scale = math.ldexp(mantissa, exponent - 31)
    short = Fraction(short_scale(scale, bits))
    step = Fraction(2) ** (math.frexp(float(short))[1] - bits)  # of scales in this octave
    assert short - step < Fraction(scale) <= short or short == 2 ** (bits - 1) * step
    assert (short / step).denominator == 1
    assert 2 ** (bits - 1) <= short / step < 2**bits
    factor = math.ldexp(float(short), 3)
    if bits >= 8 and factor >= 2.0**-40:
        m, n = multiplier_and_shift(factor, bits)
        assert Fraction(m, 2**n) == Fraction(factor)
