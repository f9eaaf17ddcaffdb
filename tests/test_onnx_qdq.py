"""QDQ ONNX models: ordinary ones close to the integer network, exact ones equal bit for bit."""

from __future__ import annotations

import dataclasses
import math
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
from arraysmith.networks.moves import Concat, MaxPool, Reshape
from arraysmith.networks.windows import Windows
from arraysmith.quantization.int8 import quantize_inputs, trace
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.operations import (
    FloatIsland,
    IntegerAdd,
    IntegerAveragePool,
    IntegerConstant,
    IntegerLayer,
    IntegerLayerNorm,
    IntegerLookup,
    IntegerMatMul,
    IntegerMean,
    IntegerMul,
    IntegerRequantize,
    IntegerSoftmax,
    IntegerTable,
)
from arraysmith.quantization.products import Activation, IntegerConvolution, IntegerLinear

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from network_cases import random_inputs, random_network  # noqa: E402

from arraysmith.quantization.onnx_qdq import export_qdq, qdq_model  # noqa: E402

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
        lowest = max(abs(m) for m in layer.multipliers).bit_length() - 5
        fields["multipliers"] = tuple(m >> lowest << lowest for m in layer.multipliers)
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


def test_nothing_is_replaced_by_another_rounding(tmp_path):
    """What ONNX Runtime makes of exact models has no operator of quantized arithmetic."""
    for level in LEVELS:
        written = str(tmp_path / f"{level}.onnx")
        session(qdq_model(by_hand(), exact=True), level, written)
        kinds = {node.op_type for node in onnx.load(written).graph.node}
        assert kinds.isdisjoint({"QLinearConv", "QGemm", "QLinearAdd", "QLinearMul"})
        assert not {kind for kind in kinds if "MatMul" in kind or "Integer" in kind}
        assert not {
            kind for kind in kinds if kind.startswith("QLinear") and kind != "QLinearConcat"
        }


def test_refuses_a_sum_that_float32_rounds():
    """The layer, its bound and the way out."""
    wide = Affine(scale=2.0**-8, zero_point=0, qmin=-(2**15), qmax=2**15 - 1)
    layer = IntegerLinear(**weighted("wide", "x", (2, 9), input_=wide))
    with pytest.raises(InvalidNetworkError, match="^layer 'wide': a sum can reach [0-9]+ units"):
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
    with pytest.raises(InvalidNetworkError, match="^layer 'x': the scale of its reals is 0.1"):
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
