"""Whole float graphs to integer networks: near the floats, and the same in every back end."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from float_graphs import convolution, graph_of, linear, outputs_of, relu, samples_of
from lowered_layers import assert_near
from random_graphs import random_graph

from arraysmith.affine import affine_from_range, integer_range
from arraysmith.errors import InvalidNetworkError
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import FloatGraph, Input, WeightType
from arraysmith.networks.moves import Concat, Reshape, Transpose
from arraysmith.networks.operations import Add, Constant, Elementwise, Lookup, MatMul, Mean, Mul
from arraysmith.quantization import int8
from arraysmith.quantization.modules import QuantNetwork, predict
from arraysmith.quantization.onnx_integer import integer_model
from arraysmith.quantization.onnx_session import run_integer
from arraysmith.quantization.parts import assemble, take_apart
from arraysmith.quantization.passes import simplified
from arraysmith.quantization.products import INT32_MAX, INT32_MIN, WeightedLayer
from arraysmith.quantization.quantize import quantize
from arraysmith.quantization.samples import Samples
from arraysmith.quantization.scheme import SCHEMES, LayerOverride, Scales, Scheme

SEEDS = range(16)


def drawn(seed):
    """A random graph and samples for it."""
    graph = random_graph(np.random.default_rng(seed))
    return graph, samples_of(graph, count=16, seed=seed)


def sqnr_db(made, graph, samples):
    """By output of the float graph, of its reals against what the integers stand for."""
    wanted = outputs_of(graph, samples)
    network = made.network
    found = int8.run(network, int8.quantize_inputs(network, samples.arrays))
    ratios = {}
    for name, output in zip(graph.outputs, network.outputs, strict=True):
        type_ = network.types[output]
        if type_ is None:
            reals = found[output] * accumulator_scale(network, output)
        else:
            reals = type_.dequantize(found[output])
        noise = np.mean((reals - wanted[name]) ** 2)
        power = np.mean(wanted[name] ** 2)
        ratios[name] = 10 * np.log10(power / noise) if noise and power else np.inf
    return ratios


def accumulator_scale(network, name):
    """Logits have one scale; moves keep it."""
    layers = {layer.name: layer for layer in network.layers}
    while not hasattr(layers[name], "accumulator_scale"):
        name = layers[name].inputs[0]
    (scale,) = set(layers[name].accumulator_scale.tolist())
    return scale


@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs(seed):
    """Every layer within its bound, every output above 20 dB, every back end the same integers."""
    graph, samples = drawn(seed)
    assert_near(simplified(graph), samples=samples)
    made = quantize(graph, samples, Scheme())
    ratios = sqnr_db(made, graph, samples)
    assert min(ratios.values()) > 20, ratios
    assert_same_everywhere(made.network, samples)


def assert_same_everywhere(network, samples):
    """NumPy, torch, ONNX Runtime and a network read back give the same integers."""
    inputs = int8.quantize_inputs(network, samples.arrays)
    expected = int8.run(network, inputs)
    again = int8.run(assemble(*take_apart(network)), inputs)
    fast = predict(QuantNetwork(network), inputs)
    runtime = run_integer(integer_model(network), inputs, "disabled")
    for found in (again, fast, runtime):
        assert found.keys() == expected.keys()
        for name, q in expected.items():
            assert np.array_equal(found[name], q), name


@pytest.mark.parametrize("seed", [3, 11])
def test_every_bit_more_is_six_decibels(seed):
    """16-bit activations and ever wider weights: about 6 dB a bit, as rounding noise has it."""
    graph, samples = drawn(seed)
    found = []
    for bits in (8, 10, 12):
        scheme = Scheme(activation_bits=bits, weight_bits=bits, bias_correction=False)
        found.append(
            np.mean(list(sqnr_db(quantize(graph, samples, scheme), graph, samples).values()))
        )
    for less, more in pairwise(found):
        assert 8 < more - less < 16
    wide = Scheme(activation_bits=14, weight_bits=12, bias_correction=False)
    ratios = sqnr_db(quantize(graph, samples, wide), graph, samples)
    assert min(ratios.values()) > 50


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("bits", [(4, 6), (16, 4)], ids=str)
def test_every_scheme_and_width(scheme, bits):
    """It works, with proven accumulators, or says which layer cannot."""
    scheme = replace(scheme, activation_bits=bits[0], weight_bits=bits[1])
    works = 0
    for seed in range(4):
        graph, samples = drawn(seed)
        try:
            network = quantize(graph, samples, scheme).network
        except InvalidNetworkError as error:
            assert str(error).startswith("layer '"), error  # noqa: PT017
            continue
        works += 1
        inputs = int8.quantize_inputs(network, samples.arrays)
        for layer, q in int8.trace(network, inputs):
            if isinstance(layer, WeightedLayer):
                assert layer.weight_bits == bits[1]
                assert INT32_MIN <= layer.accumulator_range[0] <= layer.accumulator_range[1]
                if layer.output is None:
                    assert layer.accumulator_range[0] <= q.min() <= q.max()
                    assert q.max() <= layer.accumulator_range[1] <= INT32_MAX
        assert_scales(network, scheme.scales)
        if works == 2:
            break
    assert works


def assert_scales(network, scales):
    """Scales of powers of two are that, and factors of convolutions are exact or a shift alone."""
    if scales is Scales.FREE:
        return
    for name, type_ in network.types.items():
        assert type_ is None or math.frexp(type_.scale)[0] == 0.5, name
    for layer in network.weighted_layers:
        if layer.output is None:
            continue
        m, n = layer.requantization.multiplier, layer.requantization.right_shift
        if scales is Scales.SHIFT:
            assert set(m.tolist()) == {1}
            continue
        if layer.activation is None:  # a gain behind a clip is inside the factor
            worth = [Fraction(x) for x in layer.accumulator_scale.tolist()]
            exact = [x / Fraction(layer.output.scale) / layer.pooled for x in worth]
            found = [Fraction(int(a), 1 << int(b)) for a, b in zip(m, n, strict=True)]
            assert found == (exact if len(found) > 1 else exact[:1])


# ---- overrides


def test_overrides_of_single_layers():
    """Widths and a range of one layer's own; the others keep the scheme's."""
    graph = graph_of(
        convolution("c", "x", 3, 4),
        relu("r", "c"),
        linear("l", "r", 6, 5),
        relu("q", "l"),
        Mean(name="m", inputs=("q",), axes=(1,)),
    )
    overrides = (
        LayerOverride(layer="c", weight_bits=4, activation_bits=10),
        LayerOverride(layer="l", range=(-1.0, 3.0)),
        LayerOverride(layer="x", activation_bits=6, range=(-2.0, 2.0)),
    )
    network = quantize(graph, samples_of(graph), Scheme(), overrides).network
    types = network.types
    assert network.inputs[0].type == affine_from_range(-2, 2, bits=6)
    assert (types["c"].bits, network.layers[0].weight_bits) == (10, 4)
    assert types["l"] == affine_from_range(-1, 3)
    assert (types["m"].bits, network.layers[1].weight_bits) == (8, 8)


def test_a_range_that_no_multiplier_reaches():
    """The layer is named, whatever its kind."""
    big = affine_from_range(-1e9, 1e9)
    for operation in (
        linear("l", "x", 8, 4),
        Mul(name="l", inputs=("x", "x")),
        Add(name="l", inputs=("x", "x"), signs=(1, 1)),
        MatMul(name="l", inputs=("x", "x")),
        Mean(name="l", inputs=("x",), axes=(1,)),
        Transpose(name="l", inputs=("x",), axes=(0, 1, 2)),
    ):
        tiny = affine_from_range(-1e-9, 1e-9)
        graph = graph_of(operation, types={"l": tiny})
        graph = replace(graph, inputs=(replace(graph.inputs[0], type=big),))
        with pytest.raises(InvalidNetworkError, match=r"^layer 'l': a requantization factor of"):
            quantize(graph, samples_of(graph), Scheme())


# ---- tensors of zeros


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_zeros_anywhere(scheme):
    """A dead ReLU and a constant of zeros take no bits from what they are added to or joined."""
    dead = convolution("c", "x", 3, 3, size=1)
    dead = replace(dead, weight=dead.weight * 0, bias=np.full(3, -1, np.float32))
    graph = graph_of(
        Elementwise(
            name="small", inputs=("x",), steps=(Step(function=Function.MUL, numbers=(1e-6,)),)
        ),
        dead,
        relu("r", "c"),
        Constant(name="k", inputs=(), value=np.zeros((3, 8, 8), np.float32)),
        Add(name="s", inputs=("small", "k"), signs=(1, 1)),
        Add(name="t", inputs=("x", "r"), signs=(1, 1)),
        Mul(name="zero", inputs=("x", "k")),
        Concat(name="j", inputs=("x", "r", "zero"), axis=0),
        outputs=("s", "t", "j", "r", "zero", "k"),
    )
    samples = samples_of(graph)
    made = quantize(graph, samples, scheme)
    ratios = sqnr_db(made, graph, samples)
    assert min(ratios.values()) > 30, ratios
    assert_near(graph, scheme)


# ---- inputs and outputs


def test_inputs_that_are_outputs_or_unused():
    """They stay, with their types."""
    graph = FloatGraph(
        name="net",
        inputs=(Input(name="x", shape=(4,)), Input(name="y", shape=(2,))),
        operations=(relu("r", "x"),),
        outputs=("x", "r"),
    )
    samples = samples_of(graph)
    network = quantize(graph, samples, Scheme()).network
    assert network.outputs == ("x", "r")
    assert network.types["y"] is not None
    assert_same_everywhere(network, samples)


def test_outputs_in_the_middle_of_what_would_be_one_layer():
    """Each output is a tensor of its own."""
    graph = graph_of(
        convolution("c", "x", 3, 4, padding=1),
        relu("r", "c"),
        Transpose(name="t", inputs=("r",), axes=(1, 2, 0)),
        Transpose(name="u", inputs=("t",), axes=(2, 0, 1)),
        outputs=("c", "r", "u", "t"),
    )
    samples = samples_of(graph)
    made = quantize(graph, samples, Scheme())
    assert made.network.outputs == ("c", "r", "u", "t")
    assert made.network.types["c"] is not None
    assert min(sqnr_db(made, graph, samples).values()) > 30
    assert_same_everywhere(made.network, samples)


def test_an_output_given_twice():
    """It is given twice."""
    graph = graph_of(linear("l", "x", 8, 4), relu("r", "l"), outputs=("r", "r"))
    samples = samples_of(graph)
    network = quantize(graph, samples, Scheme()).network
    assert network.outputs == ("l", "l")
    assert_same_everywhere(network, samples)


def test_embeddings_cover_rows_that_no_sample_shows():
    """The range of a table is that of all its rows."""
    table = np.linspace(-9, 5, 40).reshape(20, 2).astype(np.float32)
    graph = FloatGraph(
        name="net",
        inputs=(Input(name="ids", shape=(3,), rows=20),),
        operations=(Lookup(name="rows", inputs=("ids",), table=table),),
        outputs=("rows",),
    )
    ids = np.array([[9, 10, 11], [9, 9, 10]])
    network = quantize(graph, Samples(inputs=graph.inputs, arrays={"ids": ids}), Scheme()).network
    (layer,) = network.layers
    assert np.abs(layer.output.dequantize(layer.table) - table).max() <= layer.output.scale / 2


# ---- models that came quantized


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("kind", ["convolution", "linear"])
def test_given_types_and_weights(signed, per_channel, kind):
    """The integer network uses exactly the types and the weights that it came with."""
    rng = np.random.default_rng(0)
    first = convolution("w", "x", 3, 4) if kind == "convolution" else linear("w", "x", 8, 4)
    low, high = integer_range(8, signed=signed)
    count = 4 if per_channel else 1
    scale = rng.uniform(0.01, 0.02, count).astype(np.float32).astype(np.float64)
    zero = rng.integers(low, high + 1, count)
    q = rng.integers(low, high + 1, first.weight.shape)
    tail = (-1, *(1,) * (q.ndim - 1))
    real = (scale.reshape(tail) * (q - zero.reshape(tail))).astype(np.float32)
    x = affine_from_range(-3, 3, signed=signed)
    y = affine_from_range(-5, 9, signed=signed)
    graph = graph_of(
        replace(first, weight=real),
        relu("r", "w"),
        types={"r": y},
        weight_types={"w": WeightType(scale=scale, zero_point=zero, signed=signed)},
    )
    graph = replace(graph, inputs=(replace(graph.inputs[0], type=x),))
    (layer,) = assert_near(graph).layers
    assert (layer.input, layer.output) == (x, y)
    assert (layer.weight - layer.weight_zero_point.reshape(tail) == q - zero.reshape(tail)).all()
    assert (layer.weight_scale == scale).all()


def test_given_types_in_the_middle():
    """A typed tensor stays one; a typed output of a linear layer is no accumulator."""
    byte = affine_from_range(-4, 4)
    graph = graph_of(
        convolution("c", "x", 3, 4),
        relu("r", "c"),
        Reshape(name="f", inputs=("r",), shape=(144,)),
        linear("l", "f", 144, 5),
        types={"c": byte, "f": affine_from_range(0, 7), "l": affine_from_range(-20, 20)},
    )
    samples = samples_of(graph)
    network = assert_near(graph)
    assert {name: network.types[name] for name in graph.types} == graph.types
    assert [each.name for each in network.layers] == ["c", "r", "f_moved", "f", "l"]
    assert_same_everywhere(quantize(graph, samples, Scheme()).network, samples)
