"""Networks for the QDQ tests, and how their models run."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from arraysmith.affine import (
    Affine,
    Requantization,
    multiplier_and_shift,
    requantization,
    short_scale,
)
from arraysmith.networks import operations as floats
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import Input
from arraysmith.networks.moves import Concat, MaxPool, Reshape, Transpose
from arraysmith.networks.windows import Windows
from arraysmith.quantization.int8 import trace
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.operations import (
    FloatIsland,
    IntegerAdd,
    IntegerAveragePool,
    IntegerLayer,
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
from network_cases import random_inputs  # noqa: E402

from arraysmith.quantization.onnx_qdq import qdq_model  # noqa: E402
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


def pow2_network():
    """`residual_graph` under the scheme pow2."""
    graph = residual_graph()
    return quantize(graph, samples_of(graph, 16), SCHEMES["pow2"]).network
