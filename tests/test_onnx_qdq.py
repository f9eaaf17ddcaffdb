"""QDQ ONNX models: ordinary ones close to the integer network, exact ones equal bit for bit."""

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
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import Input
from arraysmith.networks.moves import Concat, MaxPool, Reshape, Transpose
from arraysmith.networks.windows import Windows
from arraysmith.quantization.int8 import quantize_inputs, trace
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.norms import IntegerLayerNorm
from arraysmith.quantization.operations import (
    FloatIsland,
    IntegerAdd,
    IntegerAveragePool,
    IntegerConstant,
    IntegerLayer,
    IntegerMatMul,
    IntegerMean,
    IntegerMul,
    IntegerRequantize,
    IntegerTable,
)
from arraysmith.quantization.products import Activation, IntegerConvolution, IntegerLinear

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from float_graphs import convolution, draw, graph_of, linear, relu, samples_of  # noqa: E402
from float_graphs import windows as float_windows  # noqa: E402
from network_cases import random_inputs, random_network  # noqa: E402

from arraysmith.quantization.onnx_qdq import export_qdq, qdq_model  # noqa: E402
from arraysmith.quantization.quantize import quantize  # noqa: E402
from arraysmith.quantization.scheme import SCHEMES  # noqa: E402

LEVELS = (0, 1, 2, 99)
KINDS = tuple(kind for kind in IntegerLayer.__args__ if kind is not FloatIsland)
PIXELS = Affine(scale=1.0, zero_point=0, qmin=0, qmax=255)
X = Affine(scale=2.0**-4, zero_point=-9)
Y = Affine(scale=2.0**-2, zero_point=5)
OPEN = 2**31


# ---- running models


def session(model, level, written=""):
    """A model in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel(level)
    options.optimized_model_filepath = written
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model, fed, level):
    """All outputs by name."""
    started = session(model, level)
    names = [each.name for each in started.get_outputs()]
    return dict(zip(names, started.run(names, fed), strict=True))


def reals_of(network, fed):
    """What a model is fed to see these integers."""
    return {
        each.name: each.type.dequantize(fed[each.name]).astype(np.float32)
        if each.type
        else fed[each.name]
        for each in network.inputs
    }


def check_exact(network, fed):
    """Every integer is the reference's, at every level of optimization."""
    model = qdq_model(network, exact=True, every=True)
    onnx.checker.check_model(model, full_check=True)
    wanted = {layer.name: x for layer, x in trace(network, fed)}
    for level in LEVELS:
        found = run(model, reals_of(network, fed), level)
        assert found.keys() == wanted.keys()
        for name, integers in wanted.items():
            np.testing.assert_array_equal(found[name], integers, err_msg=f"{name} at {level}")
    return model


def differences(network, fed, level):
    """|integer of the ordinary model - reference| of all words of all layers."""
    model = qdq_model(network, every=True)
    onnx.checker.check_model(model, full_check=True)
    found = run(model, reals_of(network, fed), level)
    wanted = {layer.name: x for layer, x in trace(network, fed)}
    return {name: np.abs(found[name].astype(np.int64) - x) for name, x in wanted.items()}


# ---- networks by hand


def power(real):
    """The power of two at or below."""
    return math.ldexp(1.0, math.frexp(real)[1] - 1)


def shortened(value, bits=5):
    """A field of a record with scales that are powers of two, and multipliers of a few bits."""
    if isinstance(value, Affine):
        return dataclasses.replace(value, scale=power(value.scale))
    if isinstance(value, Requantization):
        pairs = [
            multiplier_and_shift(math.ldexp(*pair), 8)
            for pair in zip(value.multiplier.tolist(), (-value.right_shift).tolist(), strict=True)
        ]
        m, n = np.array(pairs, np.int64).T
        return Requantization(multiplier=m >> (8 - bits) << (8 - bits), right_shift=n, bits=8)
    if isinstance(value, tuple):
        return tuple(shortened(each) for each in value)
    return value


def fields_of(record):
    """By name."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def short_layer(layer):
    """A layer as the scheme pow2 makes them."""
    fields = {name: shortened(value) for name, value in fields_of(layer).items()}
    if isinstance(layer, IntegerAdd):
        lowest = max(max(abs(m) for m in layer.multipliers).bit_length() - 5, 0)
        cut = [abs(m) >> lowest << lowest for m in layer.multipliers]
        signs = np.sign(layer.multipliers).tolist()
        fields["multipliers"] = tuple(sign * m for sign, m in zip(signs, cut, strict=True))
    if isinstance(layer, IntegerConvolution | IntegerLinear):
        scales = [short_scale(scale, 4) for scale in layer.weight_scale.tolist()]
        fields["weight_scale"] = np.array(scales)
    return type(layer)(**fields)


def short_network(network):
    """All layers as the scheme pow2 makes them."""
    return IntegerNetwork(
        name=network.name,
        inputs=tuple(type(each)(**shortened_input(each)) for each in network.inputs),
        layers=tuple(short_layer(layer) for layer in network.layers),
        outputs=network.outputs,
    )


def shortened_input(given):
    """Fields of an input on a scale that is a power of two."""
    return fields_of(given) | {"type": shortened(given.type)}


def true_scales(layer):
    """A weighted layer whose weight scales are what its multipliers multiply by."""
    constants = getattr(layer, "requantization", None)
    if not isinstance(layer, IntegerConvolution | IntegerLinear) or constants is None:
        return layer
    real = constants.multiplier * 2.0**-constants.right_shift * layer.pooled
    scale = real * layer.output.scale / layer.input.scale
    return dataclasses.replace(layer, weight_scale=np.broadcast_to(scale, layer.bias.shape).copy())


def windows(size, stride=1, padding=0):
    """The same along two axes."""
    pair = (padding, padding)
    return Windows(
        size=(size,) * 2, strides=(stride,) * 2, dilations=(1, 1), before=pair, after=pair
    )


def weighted(name, source, shape, *, seed=0, input_=X, output=Y, pool=1, weights=128, **more):
    """Fields of a layer with random weights on short scales."""
    rng, out = np.random.default_rng(seed), shape[0]
    scale = np.array([short_scale(each) for each in rng.uniform(1e-3, 4e-3, out)])
    constants = requantization(scale * input_.scale / (output.scale * pool), 8) if output else None
    return {
        "name": name,
        "inputs": (source,),
        "weight": rng.integers(-weights, weights, shape).astype(np.int16),
        "weight_zero_point": rng.integers(-9, 9, out),
        "weight_scale": scale if output else np.full(out, scale[0]),
        "bias": rng.integers(-999, 999, out).astype(np.int32),
        "input": input_,
        "output": output,
        "requantization": constants,
    } | more


def net(*layers, shape, type_=X, outputs=None):
    """A network of one input `x`."""
    return IntegerNetwork(
        name="net",
        inputs=(Input(name="x", shape=shape, type=type_),),
        layers=layers,
        outputs=outputs or (layers[-1].name,),
    )


def by_hand():
    """A residual network with a fused pool, joins, tables and logits on scales of pow2."""
    relu = Activation(low=np.zeros(6, int), high=np.full(6, OPEN - 1), bias=np.zeros(6, int))
    one = {"input": Y, "output": Y}
    sigmoid = Y.quantize(1 / (1 + np.exp(-Y.dequantize(np.arange(-128, 128)))))
    constants = requantization(Y.scale / 9 / X.scale, 8)
    return net(
        IntegerConvolution(
            **weighted("stem", "x", (6, 3, 3, 3), input_=PIXELS, pool=4, activation=relu),
            windows=windows(3, padding=1),
            pool=2,
        ),
        IntegerConvolution(
            **weighted("branch", "stem", (6, 3, 3, 3), seed=1, input_=Y, low=5),
            windows=windows(3, padding=1),
            groups=2,
        ),
        IntegerAdd(
            name="residual", inputs=("stem", "branch"), terms=(Y, Y), output=X, multipliers=(4, -4),
            right_shift=1, multiplier_bits=8, low=-9,
        ),
        IntegerRequantize(
            name="again", inputs=("residual",), input=X, output=Y,
            requantization=requantization(X.scale / Y.scale, 8),
        ),
        IntegerTable(name="gate", inputs=("again",), table=sigmoid, **one),
        IntegerMul(
            name="gated", inputs=("again", "gate"), left=Y, right=Y, output=Y,
            requantization=requantization(Y.scale, 8),
        ),
        Concat(name="join", inputs=("gated", "stem"), axis=0),
        MaxPool(name="largest", inputs=("join",), windows=windows(3, 2, 1)),
        IntegerAveragePool(
            name="average", inputs=("largest",), windows=windows(3), input=Y, output=X,
            requantization=constants,
        ),
        Reshape(name="flat", inputs=("average",), shape=(12 * 4,)),
        IntegerLinear(**weighted("hidden", "flat", (9, 48), seed=2)),
        IntegerLinear(**weighted("logits", "hidden", (5, 9), seed=3, input_=Y, output=None)),
        shape=(3, 16, 16),
        type_=PIXELS,
        outputs=("logits", "hidden"),
    )  # fmt: skip


def draws(network, count=4, seed=0):
    """Integers for all inputs."""
    return random_inputs(network, np.random.default_rng(seed), count)


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


@pytest.mark.parametrize("k", [255, 131, 3])
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
    assert ("Sub" in {node.op_type for node in model.graph.node}) == (k > 3)  # in parts


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


def pow2_network():
    """`residual_graph` under the scheme pow2."""
    graph = residual_graph()
    return quantize(graph, samples_of(graph, 16), SCHEMES["pow2"]).network


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


def residual_graph():
    """Convolutions, ReLU, pools, a residual, hard-swish, attention, softmax, layer norm."""
    tokens = (
        Reshape(name="rows", inputs=("swish",), shape=(8, 9)),
        Transpose(name="turned", inputs=("rows",), axes=(1, 0)),
        floats.MatMul(name="scores", inputs=("turned", "rows")),
        floats.Softmax(name="shares", inputs=("scores",), axis=1),
        floats.MatMul(name="mixed", inputs=("shares", "turned")),
        floats.LayerNorm(
            name="norm", inputs=("mixed",), gain=draw(7, 8), shift=draw(8, 8), epsilon=1e-5
        ),
        floats.Mean(name="mean", inputs=("norm",), axes=(0,)),
        Reshape(name="flat", inputs=("mean",), shape=(8,)),
        linear("logits", "flat", 8, 5, seed=9),
    )
    return graph_of(
        convolution("conv1", "x", 3, 8, padding=1),
        relu("relu1", "conv1"),
        floats.AveragePool(
            name="pool", inputs=("relu1",), windows=float_windows(2, stride=2),
            counted=((0, 0), (0, 0)),
        ),
        convolution("conv2", "pool", 8, 8, seed=2, padding=1, groups=8),
        floats.Add(name="sum", inputs=("pool", "conv2"), signs=(1, 1)),
        floats.AveragePool(
            name="means", inputs=("sum",), windows=float_windows(2, stride=1),
            counted=((0, 0), (0, 0)),
        ),
        floats.Elementwise(
            name="swish", inputs=("means",), steps=(Step(function=Function.HARD_SWISH),)
        ),
        *tokens,
    )  # fmt: skip


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


def test_the_default_scheme_is_close():
    """Logits of the ordinary model are those of the integer network but for a few steps."""
    graph = residual_graph()
    samples = samples_of(graph, 16)
    network = quantize(graph, samples, SCHEMES["default"]).network
    fed = quantize_inputs(network, samples.arrays)
    for level in LEVELS:
        found = run(qdq_model(network), reals_of(network, fed), level)["logits"]
        acc = list(trace(network, fed))[-1][1]
        reals = acc * network.layers[-1].accumulator_scale
        assert np.abs(found - reals).max() < 0.05 * np.abs(reals).max()
    with pytest.raises(InvalidNetworkError, match="no power of two"):
        qdq_model(network, exact=True)


def test_refuses_a_sum_that_float32_rounds():
    """The layer, its bound and the way out."""
    wide = Affine(scale=2.0**-8, zero_point=0, qmin=-(2**15), qmax=2**15 - 1)
    layer = IntegerLinear(**weighted("wide", "x", (2, 9), input_=wide))
    with pytest.raises(InvalidNetworkError, match=r"^layer 'wide': a sum can reach [0-9]+ units"):
        qdq_model(net(layer, shape=(9,), type_=wide), exact=True)


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


# ---- ordinary mode


@pytest.mark.parametrize("kind", IntegerLayer.__args__, ids=lambda kind: kind.__name__)
def test_ordinary_models_are_within_a_step(kind):
    """Every record alone, at the least and the greatest level: few integers differ, by one."""
    words = moved = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        drawn = random_network(rng, 1, kinds=[kind], bits=(8, 8, 5))
        network = dataclasses.replace(drawn, layers=tuple(map(true_scales, drawn.layers)))
        fed = random_inputs(network, rng)
        for level in (0, 99):
            for name, apart in differences(network, fed, level).items():
                allowed = 1 + root_error(network, fed) if kind is IntegerLayerNorm else 1
                assert (apart <= allowed).all(), (seed, level, name)
                words, moved = words + apart.size, moved + int((apart > 0).sum())
    # The rows of the layer norms have up to 9 words, so that roots are small (`root_error`).
    assert moved <= (0.1 if kind is IntegerLayerNorm else 0.02) * words


def root_error(network, fed):
    """Steps that a layer norm is off for its root is rounded down: many where rows hardly vary."""
    layer = network.layers[-1]
    x = fed[layer.inputs[0]] if fed else network.layers[0].value[None]
    d = layer.multiplier.size * x - x.sum(-1, keepdims=True)
    root = np.sqrt(((d**2).sum(-1, keepdims=True) + layer.epsilon) / layer.multiplier.size)
    slope = layer.multiplier * 2.0 ** (14 - layer.right_shift)
    return np.abs(d / np.maximum(root, 1) * slope) / np.maximum(root - 1, 1)


def island_cases():
    """Every float operation there is, with the shapes of its inputs."""
    rng = np.random.default_rng(5)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    window = {"windows": windows(3, 2, 1)}
    one, two = {"name": "f", "inputs": ("x",)}, {"name": "f", "inputs": ("x", "y")}
    image, pair = ((4, 7, 7),), ((4, 7, 7), (7, 7))
    kinds = floats.IslandKind
    numbers = {Function.CLIP: (-math.inf, 1.5), Function.HARD_SIGMOID: (0.2, 0.4)}
    takes_one = (
        Function.LEAKY_RELU, Function.ELU, Function.POWER, Function.ADD, Function.MUL,
    )  # fmt: skip
    for function in Function:
        given = numbers.get(function, (0.75,) if function in takes_one else ())
        steps = (Step(function=function, numbers=given),)
        yield floats.Elementwise(**one, steps=steps), image
    for kind in (kinds.DIVIDE, kinds.MAXIMUM, kinds.MINIMUM, kinds.POWER):
        yield floats.Island(**two, kind=kind), pair
    for kind in (kinds.MAX, kinds.SUM):
        yield floats.Island(**one, kind=kind, axes=(0, 2)), image
    yield floats.Island(**one, kind=kinds.INSTANCE_NORM, epsilon=1e-3), image
    yield floats.Island(**one, kind=kinds.GROUP_NORM, axes=(2,), epsilon=1e-3), image
    yield (
        floats.Convolution(**one, **window, weight=draw(2, 2, 3, 3), bias=draw(2), groups=2),
        image,
    )
    yield floats.Linear(**one, weight=draw(3, 7), bias=draw(3)), image
    yield floats.MatMul(**two), pair
    yield floats.Add(**two, signs=(-1, -1)), pair
    yield floats.Mul(**two), pair
    yield floats.ChannelAffine(**one, gain=draw(4), shift=draw(4)), image
    yield floats.PRelu(**one, slope=draw(4)), image
    yield floats.AveragePool(**one, **window, counted=((0, 1), (1, 0))), image
    yield floats.Mean(**one, axes=(1, 2)), image
    yield floats.Softmax(**one, axis=1), image
    yield floats.LayerNorm(**one, gain=draw(7, 7), shift=draw(7, 7), epsilon=1e-5), image
    yield Reshape(**one, shape=(7, 28)), image


@pytest.mark.parametrize(
    ("operation", "shapes"),
    [pytest.param(*case, id=f"{number}") for number, case in enumerate(island_cases())],
)
def test_islands_are_within_a_step(operation, shapes):
    """The same functions in float32, rounded to even."""
    inputs = tuple(
        Input(name=name, shape=shape, type=X)
        for name, shape in zip(operation.inputs, shapes, strict=True)
    )
    # A scale that leaves no ties for linear functions of integers.
    irrational = Affine(scale=math.pi / 28, zero_point=-3)
    output = X if isinstance(operation, Reshape) else irrational
    layer = FloatIsland(
        name="f", inputs=operation.inputs, operation=operation, terms=(X,) * len(inputs),
        output=output,
    )  # fmt: skip
    network = IntegerNetwork(name="net", inputs=inputs, layers=(layer,), outputs=("f",))
    apart = differences(network, draws(network, 2), 99)["f"]
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.01


def test_ordinary_models_hold_our_integers_and_scales():
    """Weights, biases, zero points and scales of every layer, and one of each tensor."""
    network = by_hand()
    model = qdq_model(network)
    held = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    for layer in network.weighted_layers:
        np.testing.assert_array_equal(held[f"{layer.name}/weight"], layer.weight)
        np.testing.assert_array_equal(held[f"{layer.name}/bias"], layer.bias)
        np.testing.assert_array_equal(
            held[f"{layer.name}/weight.zero_point"], layer.weight_zero_point
        )
        assert held[f"{layer.name}/weight"].dtype == np.int8
        scale = held[f"{layer.name}/weight.scale"]
        np.testing.assert_array_equal(scale, layer.weight_scale.astype(np.float32))
        bias = held[f"{layer.name}/bias.scale"]
        np.testing.assert_array_equal(bias, layer.accumulator_scale.astype(np.float32))
    rounded = {node.output[0]: node for node in model.graph.node if node.op_type[0] == "Q"}
    for name, type_ in network.types.items():
        node = rounded.get(f"{name}/integers") or rounded.get(name)
        if node is not None and type_ is not None:
            assert held[node.input[1]] == np.float32(type_.scale), name
            assert held[node.input[2]] == type_.zero_point, name
    assert len(rounded) >= len(network.layers) - 2  # all but a table and logits


@pytest.mark.parametrize("exact", [False, True])
def test_outputs_are_reals(tmp_path, exact):
    """By the network's names, from pixels as floats; a file, and a batch of any size or one."""
    network = by_hand()
    path = tmp_path / "net.onnx"
    export_qdq(network, path, exact=exact)
    model = onnx.load(path)
    fed = draws(network, 3)
    found = run(model, reals_of(network, fed), 99)
    integers = {layer.name: x for layer, x in trace(network, fed)}
    logits = network.layers[-1]
    wanted = {
        "logits": integers["logits"] * logits.accumulator_scale,
        "hidden": Y.dequantize(integers["hidden"]),
    }
    assert list(found) == ["logits", "hidden"]
    for name, reals in wanted.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], reals, rtol=0 if not exact else 1e-6,
                                   atol=0 if exact else 3 * Y.scale)  # fmt: skip
    shapes = [each.type.tensor_type.shape.dim for each in model.graph.input]
    assert [dim.dim_param or dim.dim_value for dim in shapes[0]] == ["batch", 3, 16, 16]
    (one,) = qdq_model(network, exact=exact, batch=1).graph.input
    assert one.type.tensor_type.shape.dim[0].dim_value == 1


def test_refuses_an_output_that_is_an_input():
    """One name cannot be of the reals given and of those rounded."""
    network = net(MaxPool(name="m", inputs=("x",), windows=windows(1)), shape=(1, 2, 2),
                  outputs=("x", "m"))  # fmt: skip
    with pytest.raises(InvalidNetworkError) as refusal:
        qdq_model(network)
    assert str(refusal.value) == ("network 'net' gives its input 'x' back; remove that output")
