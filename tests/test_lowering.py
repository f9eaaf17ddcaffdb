"""From float operations to integer layers, one kind after the other, each within its bound."""

from dataclasses import replace

import numpy as np
import pytest
from float_graphs import affine, convolution, draw, graph_of, linear, relu, samples_of, windows
from lowered_layers import assert_near, lowered

from arraysmith.affine import Affine
from arraysmith.errors import InvalidNetworkError
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import FloatGraph, Input
from arraysmith.networks.moves import (
    Concat,
    Expand,
    MaxPool,
    Pad,
    Reshape,
    Stretch,
    Take,
    Transpose,
)
from arraysmith.networks.operations import (
    Add,
    AveragePool,
    ChannelAffine,
    Constant,
    Convolution,
    Elementwise,
    Island,
    IslandKind,
    LayerNorm,
    Linear,
    Lookup,
    MatMul,
    Mean,
    Mul,
    PRelu,
    Softmax,
)
from arraysmith.networks.windows import Windows
from arraysmith.quantization import int8
from arraysmith.quantization.norms import IntegerLayerNorm, IntegerSoftmax
from arraysmith.quantization.operations import FloatIsland, IntegerAdd, IntegerRequantize
from arraysmith.quantization.quantize import quantize
from arraysmith.quantization.samples import Samples
from arraysmith.quantization.scheme import SCHEMES, Scales, Scheme

FREE = [scheme for scheme in SCHEMES.values() if scheme.scales is Scales.FREE]
POW2, SHIFT = SCHEMES["pow2"], SCHEMES["shift-only"]


def clip(name, reads, low, high):
    """A general clip."""
    step = Step(function=Function.CLIP, numbers=(low, high))
    return Elementwise(name=name, inputs=(reads,), steps=(step,))


def elementwise(name, reads, function, *numbers):
    """One function."""
    step = Step(function=function, numbers=numbers)
    return Elementwise(name=name, inputs=(reads,), steps=(step,))


def pool(name, reads, size=2):
    """Side by side, without padding."""
    return AveragePool(
        name=name, inputs=(reads,), windows=windows(size, stride=size), counted=((0, 0), (0, 0))
    )


def inputs_graph(shapes, *operations, outputs=None, **fields):
    """A graph of inputs by name."""
    return FloatGraph(
        name="net",
        inputs=tuple(Input(name=name, shape=shape) for name, shape in shapes.items()),
        operations=operations,
        outputs=outputs or (operations[-1].name,),
        **fields,
    )


def batch_norm(name, reads, gain, shift):
    """Given gains and shifts."""
    gain, shift = (np.asarray(each, np.float32) for each in (gain, shift))
    return ChannelAffine(name=name, inputs=(reads,), gain=gain, shift=shift)


CLIPS = {
    "relu": lambda: relu("r", "c"),
    "relu6": lambda: clip("r", "c", 0, 6),
    "clip": lambda: clip("r", "c", -2.3, 4.1),
    "below": lambda: clip("r", "c", float("-inf"), -0.7),
    "above": lambda: clip("r", "c", 0.9, 3.0),
}

# ---- weighted layers


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("kind", CLIPS)
@pytest.mark.parametrize("pooled", [False, True], ids=["", "pool"])
def test_a_clip_behind_a_convolution(scheme, kind, pooled):
    """The layer is as near as its roundings allow, under every scheme, in its range and beyond."""
    last = (pool("p", "r"),) if pooled else ()
    graph = graph_of(convolution("c", "x", 3, 5, padding=1), CLIPS[kind](), *last)
    layers = assert_near(graph, scheme, shrink=0.8).layers
    assert len(layers) == (1 if not pooled or scheme.fuse_pool else 2)


@pytest.mark.parametrize(
    ("groups", "channels", "out", "window"),
    [
        (1, 4, 6, {"size": 3, "padding": 1, "stride": 2}),
        (2, 4, 6, {"size": 1}),
        (4, 4, 4, {"size": 3}),
        (4, 4, 8, {"size": 2, "padding": 1}),
    ],
)
@pytest.mark.parametrize("scheme", FREE, ids=lambda scheme: scheme.name)
def test_groups_and_strides(groups, channels, out, window, scheme):
    """Groups, depthwise convolutions and strides."""
    graph = graph_of(
        convolution("c", "x", channels, out, groups=groups, **window),
        elementwise("t", "c", Function.TANH),
        shape=(channels, 7, 7),
    )
    assert_near(graph, scheme)


def test_dilation_and_uneven_padding():
    """A window with holes, padded on one side more than on the other; along one axis too."""
    for axes in (1, 2):
        window = Windows(
            size=(3,) * axes,
            strides=(1,) * axes,
            dilations=(2,) * axes,
            before=(1,) * axes,
            after=(2,) * axes,
        )
        weight = draw(0, 4, 3, *window.size)
        conv = Convolution(name="c", inputs=("x",), weight=weight, bias=draw(1, 4), windows=window)
        ending = elementwise("t", "c", Function.SIGMOID)
        assert_near(graph_of(conv, ending, shape=(3, *(9,) * axes)))


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("bits", [4, 8, 11])
def test_logits_are_accumulators(scheme, bits):
    """A last linear layer gives its accumulators out, half a unit from the bias away."""
    graph = graph_of(linear("l", "x", 12, 5), shape=(12,))
    scheme = replace(scheme, activation_bits=bits, weight_bits=bits)
    (layer,) = assert_near(graph, scheme).layers
    assert layer.output is None


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("kind", CLIPS)
@pytest.mark.parametrize("pooled", [False, True], ids=["", "pool"])
def test_a_batch_norm_behind_a_clip(scheme, kind, pooled):
    """Gains of both signs, none, a tiny one and a huge shift."""
    norm = batch_norm("n", "r", [1.3, -0.7, 0.0, 1e-12, -1e-7, 0.3], [0.5, -1, 2, 3, -0.25, 1.9])
    last = (pool("p", "n"),) if pooled else ()
    graph = graph_of(convolution("c", "x", 3, 6, padding=1), CLIPS[kind](), norm, *last)
    layer = assert_near(graph, scheme).layers[0]
    assert layer.activation is not None


def test_a_batch_norm_of_zeros():
    """No gain and no shift at all, and one of nothing but shifts."""
    for shift in (0, 7):
        norm = batch_norm("n", "r", [0, 0], [shift, 0])
        graph = graph_of(convolution("c", "x", 3, 2), relu("r", "c"), norm)
        assert_near(graph)


def test_a_huge_shift():
    """A shift that hides the rest leaves the shift itself right."""
    norm = batch_norm("n", "r", [1e-3, -1e-3, 1], [1e6, -1e6, 1e6])
    assert_near(graph_of(convolution("c", "x", 3, 3), relu("r", "c"), norm))


def test_one_weight_a_channel():
    """A depthwise convolution of 1 x 1 keeps its weights, though each channel has but one."""
    conv = convolution("c", "x", 3, 3, size=1, groups=3)
    norm = affine("n", "r", 3)
    (layer,) = assert_near(graph_of(conv, relu("r", "c"), norm)).layers
    assert (layer.centred_weight != 0).all()


def test_a_batch_norm_in_powers_of_two():
    """Scale times gain is a power of two exactly, or one of 8 bits, whatever the gain."""
    graph = graph_of(convolution("c", "x", 3, 64), relu("r", "c"), affine("n", "r", 64))
    (layer,) = assert_near(graph, SHIFT).layers
    assert set(layer.requantization.multiplier.tolist()) == {1}
    (layer,) = assert_near(graph, POW2).layers
    assert layer.requantization.multiplier.max() < 256


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_channels_without_weights(scheme):
    """Zero weights, with a bias and without; a channel of nearly nothing but a bias."""
    conv = convolution("c", "x", 3, 4)
    scales = np.array([0, 0, 1e-12, 1], np.float32).reshape(4, 1, 1, 1)
    conv = Convolution(
        name="c",
        inputs=("x",),
        weight=conv.weight * scales,
        bias=np.array([3, 0, 5, -0.1], np.float32),
        windows=conv.windows,
    )
    assert_near(graph_of(conv, relu("r", "c"), pool("p", "r", 2)), scheme)


def test_a_channel_without_weights_beside_a_small_output():
    """Its multiplier fits however small the outputs are: any scale suits no weights."""
    weight = np.zeros((2, 3), np.float32)
    weight[1] = 1e-7
    layer = Linear(name="l", inputs=("x",), weight=weight, bias=np.zeros(2, np.float32))
    graph = graph_of(layer, elementwise("t", "l", Function.TANH), shape=(3,))
    assert_near(graph, samples=samples_of(graph))


def test_a_bias_beside_a_wide_pool():
    """A bias far above its weights still fits int32 when a pool adds it up 64 times."""
    conv = convolution("c", "x", 3, 2, size=1)
    tiny = Convolution(
        name="c",
        inputs=("x",),
        weight=conv.weight * np.float32(1e-9),
        bias=np.array([1, -1], np.float32),
        windows=conv.windows,
    )
    (layer,) = assert_near(graph_of(tiny, relu("r", "c"), pool("p", "r", 8))).layers
    assert layer.pooled == 64


@pytest.mark.parametrize("bits", [(8, 8), (12, 8), (16, 8), (8, 16), (12, 12), (16, 12)], ids=str)
def test_a_pool_never_makes_a_convolution_leave_int32(bits):
    """It is fused where the sum fits, else a layer of its own."""
    scheme = Scheme(activation_bits=bits[0], weight_bits=bits[1])
    graph = graph_of(convolution("c", "x", 3, 4), relu("r", "c"), pool("p", "r", 3))
    layer = assert_near(graph, scheme).layers[0]
    assert layer.accumulator_bits <= 32


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_corrected_biases_leave_channels_of_no_gain_alone(scheme):
    """Without a gain a channel is its shift, whatever bias correction does to it."""
    norm = batch_norm("n", "r", [1, 0, -1, 0], [0.1, 2.5, 0.3, 0])
    graph = graph_of(convolution("c", "x", 3, 4), relu("r", "c"), norm)
    samples = samples_of(graph)
    network = quantize(graph, samples, scheme).network
    (q,) = int8.run(network, int8.quantize_inputs(network, samples.arrays)).values()
    y = network.layers[0].output
    assert (q[:, 1] == y.quantize(2.5)).all()
    assert (q[:, 3] == y.zero_point).all()


# ---- sums, products, tables, reductions


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_sums(scheme):
    """Three terms of different scales, one subtracted, and a clip; a shape that broadcasts."""
    terms = inputs_graph(
        {"a": (2, 3, 3), "b": (3, 3), "d": (2, 1, 3)},
        elementwise("big", "a", Function.MUL, 9.0),
        Add(name="s", inputs=("big", "b", "d"), signs=(1, -1, 1)),
        clip("r", "s", -1, 5),
    )
    network = assert_near(terms, scheme, shrink=0.9)
    assert [type(each) for each in network.layers][-1] is IntegerAdd


@pytest.mark.parametrize("scheme", [*FREE, POW2], ids=lambda scheme: scheme.name)
def test_products(scheme):
    """Word by word with a ReLU, a tensor with itself, and matrices with a factor behind."""
    assert_near(
        inputs_graph(
            {"a": (2, 4, 3), "b": (3, 4)},
            Mul(name="square", inputs=("a", "a")),
            relu("r", "square"),
            MatMul(name="m", inputs=("r", "b")),
            elementwise("f", "m", Function.MUL, 0.35),
            Mul(name="last", inputs=("f", "f")),
        ),
        scheme,
    )


TABLES = [
    (Function.LOG,),
    (Function.RECIPROCAL,),
    (Function.SQRT,),
    (Function.POWER, 0.5),
    (Function.POWER, -2.0),
    (Function.EXP,),
    (Function.GELU,),
    (Function.MUL, -3.0),
    (Function.HARD_SWISH,),
]


@pytest.mark.parametrize("step", TABLES, ids=lambda step: "-".join(map(str, step)))
@pytest.mark.parametrize("scheme", [*FREE, POW2, SHIFT], ids=lambda scheme: scheme.name)
def test_tables(step, scheme):
    """Every integer goes to the nearest; at poles and where there is no number too."""
    graph = graph_of(elementwise("t", "x", *step), shape=(5,))
    positive = Samples(inputs=graph.inputs, arrays={"x": np.abs(draw(3, 9, 5)) + 0.1})
    whole = Samples(inputs=graph.inputs, arrays={"x": draw(4, 50, 5) * 3})
    planned, made = lowered(graph, scheme, samples=positive)
    assert planned.observed == ("x", "t")
    assert_near(graph, scheme, samples=positive)
    ranges = {"x": (-4.0, 4.0), "t": (-3.0, 8.0)}
    (layer,) = made.network.layers
    assert np.ptp(layer.table) > 10
    real = {"x": np.abs(whole.arrays["x"]) + 0.01}
    shown = Samples(inputs=graph.inputs, arrays=real)
    assert_near(graph, scheme, samples=shown, ranges=ranges)


def test_tables_of_poles():
    """Infinity is the end of the type, and what is no number stands for 0."""
    graph = graph_of(elementwise("t", "x", Function.LOG), shape=(1,))
    _, made = lowered(
        graph,
        samples=Samples(inputs=graph.inputs, arrays={"x": np.abs(draw(0, 9, 1)) + 1}),
        ranges={"x": (-1.0, 1.0), "t": (-5.0, 1.0)},
    )
    (layer,) = made.network.layers
    zero = layer.input.zero_point - layer.input.qmin
    assert layer.table[zero] == layer.output.qmin
    assert (layer.table[:zero] == layer.output.zero_point).all()


def test_tables_by_channel():
    """A slope or a gain for each channel; where all are alike one table does."""
    slope = np.array([0.1, -0.5, 2], np.float32)
    network = assert_near(
        graph_of(
            PRelu(name="p", inputs=("x",), slope=slope),
            affine("n", "p", 3),
            PRelu(name="q", inputs=("n",), slope=np.full(3, 0.25, np.float32)),
        )
    )
    assert [each.table.shape for each in network.layers] == [(3, 256), (3, 256), (256,)]


def test_too_many_tables():
    """Tables of 65,536 words for 300 channels are refused."""
    graph = graph_of(affine("n", "x", 300), shape=(300,))
    message = r"^layer 'n': 300 tables of 65536 words each; give the tensor that it reads \('x'\)"
    with pytest.raises(InvalidNetworkError, match=message):
        lowered(graph, Scheme(activation_bits=16))


@pytest.mark.parametrize("scheme", [*FREE, POW2], ids=lambda scheme: scheme.name)
def test_averages(scheme):
    """Windows that lie over the border, counted or not, and a mean over axes."""
    windowed = windows(3, padding=1, stride=2)
    for counted in (((0, 0), (0, 0)), ((1, 1), (1, 1))):
        graph = graph_of(
            AveragePool(name="p", inputs=("x",), windows=windowed, counted=counted),
            Mean(name="m", inputs=("p",), axes=(1, 2)),
            shape=(3, 7, 7),
        )
        network = assert_near(graph, scheme)
        constants = network.layers[0].requantization.multiplier
        assert len(constants) == (1 if any(counted[0]) else 16)


# ---- norms, tables of rows, constants, islands


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("signed", [True, False])
def test_softmax(bits, signed):
    """Its own type, or the one that it came with."""
    scheme = Scheme(activation_bits=bits, signed_activations=signed)
    softmax = Softmax(name="s", inputs=("x",), axis=1)
    network = assert_near(graph_of(softmax, shape=(3, 9)), scheme)
    assert isinstance(network.layers[0], IntegerSoftmax)
    given = Affine(scale=1 / 200, zero_point=3, qmin=0, qmax=255)
    network = assert_near(graph_of(softmax, shape=(3, 9), types={"s": given}), scheme)
    assert network.outputs == ("s",)
    assert network.types["s"] == given


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_layer_norm(bits):
    """Over the last axis in integers, over two as an island."""
    scheme = Scheme(activation_bits=bits)
    norm = LayerNorm(name="n", inputs=("x",), gain=draw(1, 16), shift=draw(2, 16), epsilon=1e-5)
    (layer,) = assert_near(graph_of(norm, shape=(4, 16)), scheme).layers
    assert isinstance(layer, IntegerLayerNorm)
    norm = LayerNorm(
        name="n", inputs=("x",), gain=draw(1, 4, 16), shift=draw(2, 4, 16), epsilon=1e-5
    )
    (layer,) = assert_near(graph_of(norm, shape=(4, 16)), scheme).layers
    assert isinstance(layer, FloatIsland)


@pytest.mark.parametrize("gain", [0, 1e-20, 1e-8])
def test_layer_norm_of_no_gain(gain):
    """Nothing but its shift."""
    numbers = {"gain": np.full(16, gain, np.float32), "shift": draw(2, 16)}
    norm = LayerNorm(name="n", inputs=("x",), epsilon=1e-5, **numbers)
    (layer,) = assert_near(graph_of(norm, shape=(4, 16))).layers
    assert isinstance(layer, IntegerLayerNorm)


def test_layer_norm_beyond_int64():
    """A huge epsilon, or too many words of too many bits, is an island."""
    size = 2048
    numbers = {"gain": draw(1, size), "shift": draw(2, size)}
    for epsilon, bits in ((1e15, 8), (1e-5, 16)):
        norm = LayerNorm(name="n", inputs=("x",), epsilon=epsilon, **numbers)
        graph = graph_of(norm, shape=(size,))
        (layer,) = assert_near(graph, Scheme(activation_bits=bits)).layers
        assert isinstance(layer, FloatIsland)


def test_rows_and_constants():
    """A table's rows by number, moved row numbers, and a constant that is added."""
    graph = FloatGraph(
        name="net",
        inputs=(Input(name="ids", shape=(4,), rows=9),),
        operations=(
            Take(name="some", inputs=("ids",), axis=0, indices=np.array([3, 0])),
            Concat(name="more", inputs=("some", "ids"), axis=0),
            Lookup(name="rows", inputs=("more",), table=draw(0, 9, 5)),
            Constant(name="k", inputs=(), value=draw(1, 6, 5)),
            Add(name="s", inputs=("rows", "k"), signs=(1, 1)),
        ),
        outputs=("s",),
    )
    ids = np.random.default_rng(0).integers(0, 9, (7, 4))
    assert_near(graph, samples=Samples(inputs=graph.inputs, arrays={"ids": ids}))


def test_islands():
    """What has no integer form runs in floats and is rounded once."""
    graph = inputs_graph(
        {"a": (3, 4), "b": (3, 4)},
        Island(name="m", inputs=("a", "b"), kind=IslandKind.MAXIMUM),
        Island(name="s", inputs=("m",), kind=IslandKind.SUM, axes=(1,)),
    )
    assert len(assert_near(graph).islands) == 2


# ---- moves


MOVED = {
    "reshape": lambda: Reshape(name="m", inputs=("x",), shape=(6, 9)),
    "transpose": lambda: Transpose(name="m", inputs=("x",), axes=(2, 0, 1)),
    "take": lambda: Take(name="m", inputs=("x",), axis=1, indices=np.array([2, 0, 0])),
    "pad": lambda: Pad(name="m", inputs=("x",), before=(0, 1, 2), after=(1, 0, 0), value=0.37),
    "stretch": lambda: Stretch(name="m", inputs=("x",), factors=(2, 3), value=-0.2),
    "expand": lambda: Expand(name="m", inputs=("x",), shape=(2, 2, 9, 3)),
    "max-pool": lambda: MaxPool(name="m", inputs=("x",), windows=windows(2, padding=1)),
}


@pytest.mark.parametrize("kind", MOVED)
@pytest.mark.parametrize("typed", [False, True], ids=["", "typed"])
def test_moves(kind, typed):
    """A move keeps the type and every word; where another was given, a change of scale follows."""
    given = Affine(scale=0.05, zero_point=100, qmin=0, qmax=255)
    shape = (2, 9, 3) if kind != "expand" else (2, 9, 1)
    types = {"m": given} if typed else {}
    network = assert_near(graph_of(MOVED[kind](), shape=shape, types=types))
    assert network.types["m"] == (given if typed else network.inputs[0].type)
    assert isinstance(network.layers[-1], IntegerRequantize) is typed


def test_padding_beyond_the_range():
    """A value beyond the padded tensor's own range saturates, as minus infinity before a pool."""
    pad = Pad(name="m", inputs=("x",), before=(1,), after=(0,), value=float("-inf"))
    (layer,) = assert_near(graph_of(pad, shape=(4,))).layers
    assert layer.value == -128


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_concatenations(scheme):
    """Of different scales, of a shared tensor, of an input, nested, and one tensor twice."""
    graph = graph_of(
        elementwise("wide", "x", Function.MUL, 5.0),
        elementwise("shared", "x", Function.TANH),
        elementwise("exp", "shared", Function.EXP),
        Concat(name="inner", inputs=("wide", "shared", "shared"), axis=0),
        MaxPool(name="pooled", inputs=("inner",), windows=windows(2, stride=1)),
        Take(name="cut", inputs=("x",), axis=1, indices=np.array([0, 2])),
        Take(name="cut2", inputs=("cut",), axis=2, indices=np.array([0, 2])),
        Concat(name="outer", inputs=("pooled", "cut2"), axis=0),
        elementwise("last", "outer", Function.SIGMOID),
        shape=(2, 3, 3),
        outputs=("last", "exp"),
    )
    network = assert_near(graph, scheme)
    types = network.types
    assert types["wide"] == types["inner"] == types["pooled"] == types["outer"] != types["shared"]
    changed = [each.name for each in network.layers if isinstance(each, IntegerRequantize)]
    assert changed == ["inner_input1", "inner_input2", "outer_input1"]


def test_names_that_are_taken():
    """A layer that is written in between finds a name that nobody has."""
    graph = graph_of(
        elementwise("join_input0", "x", Function.MUL, 5.0),
        Concat(name="join", inputs=("x", "join_input0"), axis=0),
        shape=(4,),
        outputs=("join", "join_input0"),
    )
    assert "join_input0_" in {each.name for each in assert_near(graph).layers}
