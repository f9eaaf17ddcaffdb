"""Folding, fusing and equalizing change the graph and not what it computes."""

from dataclasses import replace

import numpy as np
import pytest
from float_graphs import (
    affine,
    assert_same_function,
    convolution,
    graph_of,
    linear,
    relu,
    windows,
)

from arraysmith.affine import Affine
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import WeightType
from arraysmith.networks.moves import MaxPool, Pad, Reshape, Take, Transpose
from arraysmith.networks.operations import (
    Add,
    AveragePool,
    ChannelAffine,
    Convolution,
    Elementwise,
    Mean,
    PRelu,
)
from arraysmith.quantization.equalization import equalize, find_pairs
from arraysmith.quantization.passes import fold_batch_norms, fold_padding, fuse_steps, simplified

INT8 = Affine(scale=0.1, zero_point=0)
TYPED = WeightType(scale=np.ones(1), zero_point=np.zeros(1, np.int64))


def names(graph):
    """Of its operations."""
    return [each.name for each in graph.operations]


def pairs_of(graph):
    """Who is equalized with whom."""
    return [(pair.first, pair.second) for pair in find_pairs(graph)]


# ---- batch normalizations


@pytest.mark.parametrize("groups", [1, 3])
def test_folds_behind_a_convolution(groups):
    """The batch normalization is in the weights, and the convolution keeps its name."""
    graph = graph_of(
        convolution("conv", "x", 3, 6, groups=groups, padding=1),
        affine("bn", "conv", 6, seed=5),
        relu("act", "bn"),
    )
    folded = fold_batch_norms(graph)
    assert names(folded) == ["conv", "act"]
    assert_same_function(graph, folded)


def test_folds_two_in_a_row_behind_a_linear_layer_and_keeps_the_name_of_an_output():
    """What the graph gives has the name that it had."""
    graph = graph_of(
        linear("fc", "x", 7, 4), affine("a", "fc", 4, seed=3), affine("b", "a", 4), shape=(7,)
    )
    folded = fold_batch_norms(graph)
    assert names(folded) == ["b"]
    assert folded.outputs == ("b",)
    assert_same_function(graph, folded)


@pytest.mark.parametrize("groups", [1, 3])
def test_folds_into_the_convolution_ahead_where_nothing_is_padded(groups):
    """A normalised input needs no operation of its own."""
    graph = graph_of(affine("norm", "x", 3), convolution("conv", "norm", 3, 6, groups=groups))
    folded = fold_batch_norms(graph)
    assert names(folded) == ["conv"]
    assert_same_function(graph, folded)


def test_folds_a_gain_alone_into_a_padded_convolution():
    """A padded zero stays zero if nothing is added to it."""
    norm = affine("norm", "x", 3)
    conv = convolution("conv", "norm", 3, 6, padding=1)
    graph = graph_of(replace(norm, shift=np.zeros(3, np.float32)), conv)
    assert names(fold_batch_norms(graph)) == ["conv"]
    assert_same_function(graph, fold_batch_norms(graph))
    assert names(fold_batch_norms(graph_of(norm, conv))) == ["norm", "conv"]


def test_folds_into_the_linear_layer_ahead():
    """Features are channels there."""
    graph = graph_of(affine("norm", "x", 7), linear("fc", "norm", 7, 4), shape=(7,))
    assert names(fold_batch_norms(graph)) == ["fc"]
    assert_same_function(graph, fold_batch_norms(graph))


def test_does_not_fold_what_others_read_or_what_came_quantized():
    """A second reader, an output, a given type or given weights: the graph stays as it is."""
    conv, norm = convolution("conv", "x", 3, 6), affine("bn", "conv", 6)
    for graph in (
        graph_of(conv, norm, relu("other", "conv"), outputs=("bn", "other")),
        graph_of(conv, norm, outputs=("conv", "bn")),
        graph_of(conv, norm, types={"conv": INT8}),
        graph_of(conv, norm, weight_types={"conv": TYPED}),
    ):
        assert names(fold_batch_norms(graph)) == names(graph)


def test_a_given_type_moves_to_the_name_of_what_was_folded():
    """The tensor behind the batch normalization is the same tensor."""
    graph = graph_of(
        convolution("conv", "x", 3, 6),
        affine("bn", "conv", 6),
        relu("act", "bn"),
        types={"bn": INT8},
    )
    assert fold_batch_norms(graph).types == {"conv": INT8}


def test_leaves_what_stands_behind_the_relu_of_a_convolution():
    """There it costs nothing, and it evens out the channels of what is stored."""
    graph = graph_of(
        convolution("conv", "x", 3, 6),
        relu("act", "conv"),
        affine("bn", "act", 6),
        convolution("next", "bn", 6, 2),
    )
    assert names(fold_batch_norms(graph)) == names(graph)


# ---- element-wise functions


def test_fuses_a_chain_that_nobody_else_reads():
    """Three functions become one, by the last one's name; a fork in between stays."""
    tanh = Elementwise(name="tanh", inputs=("act",), steps=(Step(function=Function.TANH),))
    graph = graph_of(relu("act", "x"), tanh, relu("last", "tanh"))
    fused = fuse_steps(graph)
    assert names(fused) == ["last"]
    assert [step.function for step in fused.operations[0].steps] == ["relu", "tanh", "relu"]
    assert_same_function(graph, fused)
    fork = replace(graph, outputs=("tanh", "last"))
    assert names(fuse_steps(fork)) == ["tanh", "last"]
    assert names(fuse_steps(replace(graph, types={"act": INT8}))) == ["act", "last"]


def test_simplified_does_all():
    """Folding brings functions together, but for the clip that the convolution takes in."""
    graph = graph_of(
        convolution("conv", "x", 3, 6),
        affine("bn", "conv", 6),
        relu("a", "bn"),
        Elementwise(name="b", inputs=("a",), steps=(Step(function=Function.TANH),)),
        relu("c", "b"),
    )
    assert names(simplified(graph)) == ["conv", "a", "c"]
    assert_same_function(graph, simplified(graph))


def test_zeros_around_an_image_become_padding():
    """With padding of its own beside it; other values, channels and readers keep theirs."""
    pad = Pad(name="pad", inputs=("x",), before=(0, 1, 2), after=(0, 3, 0))
    graph = graph_of(pad, convolution("conv", "pad", 3, 6))
    folded = fold_padding(graph)
    assert names(folded) == ["conv"]
    assert folded.operations[0].windows.before == (1, 2)
    assert folded.operations[0].windows.after == (3, 0)
    assert_same_function(graph, folded)
    ones = graph_of(replace(pad, value=1.0), convolution("conv", "pad", 3, 6))
    assert names(fold_padding(ones)) == ["pad", "conv"]
    channels = replace(pad, before=(1, 0, 0), after=(0, 0, 0))
    wide = graph_of(channels, convolution("conv", "pad", 4, 6))
    assert names(fold_padding(wide)) == ["pad", "conv"]
    assert names(fold_padding(replace(graph, outputs=("pad", "conv")))) == ["pad", "conv"]


# ---- equalization


def uneven(operation, seed):
    """The operation with channels of very different sizes."""
    factors = np.float32(10) ** np.random.default_rng(seed).uniform(-2, 2, len(operation.weight))
    weight = operation.weight * factors.reshape(-1, *(1,) * (operation.weight.ndim - 1))
    return replace(operation, weight=weight, bias=operation.bias * factors)


def mobile():
    """Pointwise, depthwise, pointwise, pool, flatten, linear, with uneven channels."""
    return graph_of(
        uneven(convolution("expand", "x", 3, 8, size=1), 1),
        relu("act1", "expand"),
        uneven(convolution("depth", "act1", 8, 8, groups=8, padding=1, seed=3), 2),
        PRelu(name="act2", inputs=("depth",), slope=np.linspace(-0.5, 0.5, 8, dtype=np.float32)),
        uneven(convolution("project", "act2", 8, 5, size=1, seed=5), 3),
        MaxPool(name="pool", inputs=("project",), windows=windows(2, stride=2)),
        Reshape(name="flat", inputs=("pool",), shape=(80,)),
        linear("fc", "flat", 80, 4, seed=7),
    )


def test_equalizes_a_chain_to_even_ranges_and_the_same_function():
    """r1 = r2 for every channel that no bias holds back, over a depthwise convolution too."""
    graph = mobile()
    assert pairs_of(graph) == [("expand", "depth"), ("depth", "project"), ("project", "fc")]
    even = equalize(graph)
    assert names(even) == names(graph)
    assert_same_function(graph, even)
    made = {each.name: each for each in even.operations}
    drawn = {each.name: each for each in graph.operations}
    first, second = made["expand"], made["depth"]
    r1 = np.abs(first.weight).reshape(8, -1).max(1)
    r2 = np.abs(second.weight).reshape(8, -1).max(1)
    held = np.abs(first.bias) >= 0.99 * np.abs(first.bias).max()
    assert np.allclose(r1[~held], r2[~held], rtol=0.01)
    assert np.count_nonzero(~held) >= 5
    assert np.abs(first.bias).max() <= np.abs(drawn["expand"].bias).max() * 1.001
    # As uneven as drawn: four orders of magnitude. Evened: less than one.
    spread = [np.abs(each["depth"].weight).reshape(8, -1).max(1) for each in (drawn, made)]
    assert spread[0].max() / spread[0].min() > 100
    assert spread[1].max() / spread[1].min() < 30


@pytest.mark.parametrize("groups", [1, 2])
def test_equalizes_through_pads_transposes_pools_and_batch_normalizations(groups):
    """What each word belongs to is followed; shifts in between are scaled too."""
    graph = graph_of(
        uneven(convolution("conv", "x", 3, 4), 1),
        Elementwise(
            name="act",
            inputs=("conv",),
            steps=(Step(function=Function.LEAKY_RELU, numbers=(0.1,)),),
        ),
        affine("bn", "act", 4, seed=9),
        Pad(name="pad", inputs=("bn",), before=(0, 1, 0), after=(0, 1, 2)),
        AveragePool(
            name="pool", inputs=("pad",), windows=windows(2, stride=2), counted=((0, 0), (0, 0))
        ),
        uneven(convolution("next", "pool", 4, 6, groups=groups, seed=3), 2),
        Transpose(name="turn", inputs=("next",), axes=(1, 2, 0)),
        Reshape(name="flat", inputs=("turn",), shape=(2 * 2 * 6,)),
        Take(name="flip", inputs=("flat",), axis=0, indices=np.arange(24)[::-1].copy()),
        linear("fc", "flip", 24, 3, seed=5),
    )
    assert pairs_of(graph) == [("conv", "next"), ("next", "fc")]
    even = equalize(graph)
    assert_same_function(graph, even)
    moved = {each.name: each for each in even.operations}["bn"]
    assert not np.allclose(moved.shift, graph.operations[2].shift)


def test_equalizes_linear_layers_over_any_axes():
    """The channel of a linear layer is its last axis."""
    graph = graph_of(
        uneven(linear("up", "x", 4, 9), 1),
        relu("act", "up"),
        linear("down", "act", 9, 4, seed=3),
        shape=(5, 4),
    )
    assert pairs_of(graph) == [("up", "down")]
    assert_same_function(graph, equalize(graph))


def test_equalizes_through_a_global_mean():
    """A mean over space scales with its channel, one over channels does not."""
    conv = convolution("conv", "x", 3, 4)
    fc = linear("fc", "flat", 4, 2)
    flat = Reshape(name="flat", inputs=("mean",), shape=(4,))
    graph = graph_of(conv, Mean(name="mean", inputs=("conv",), axes=(1, 2)), flat, fc)
    assert pairs_of(graph) == [("conv", "fc")]
    assert_same_function(graph, equalize(graph))
    wide = linear("fc", "flat", 36, 2)
    flat = Reshape(name="flat", inputs=("mean",), shape=(36,))
    assert not pairs_of(graph_of(conv, Mean(name="mean", inputs=("conv",), axes=(0,)), flat, wide))


@pytest.mark.parametrize(
    "step",
    [
        Step(function=Function.CLIP, numbers=(0.0, 6.0)),
        Step(function=Function.HARD_SWISH),
        Step(function=Function.SIGMOID),
        Step(function=Function.ADD, numbers=(1.0,)),
    ],
)
def test_no_pair_over_a_function_that_notices_a_scale(step):
    """ReLU6 and its like: f(x/s) is not f(x)/s."""
    graph = graph_of(
        convolution("conv", "x", 3, 4),
        Elementwise(name="act", inputs=("conv",), steps=(step,)),
        convolution("next", "act", 4, 4),
    )
    assert not pairs_of(graph)


def test_no_pair_where_others_read_or_types_are_given():
    """A residual, an output, a given type or given weights hold the scale."""
    conv, act = convolution("conv", "x", 3, 4), relu("act", "conv")
    last = convolution("next", "act", 4, 4, padding=1)
    add = Add(name="add", inputs=("act", "next"), signs=(1, 1))
    assert pairs_of(graph_of(conv, act, last)) == [("conv", "next")]
    for graph in (
        graph_of(conv, act, last, add),
        graph_of(conv, act, last, outputs=("act", "next")),
        graph_of(conv, act, last, types={"act": INT8}),
        graph_of(conv, act, last, weight_types={"next": TYPED}),
        graph_of(conv, act, last, weight_types={"conv": TYPED}),
    ):
        assert not pairs_of(graph)


def test_no_pair_where_a_reshape_mixes_channels():
    """A convolution over what was another axis reads words of all channels at once."""
    graph = graph_of(
        convolution("conv", "x", 3, 4),
        Transpose(name="turn", inputs=("conv",), axes=(1, 0, 2)),
        convolution("next", "turn", 6, 4),
    )
    assert not pairs_of(graph)


def test_channels_without_weights_keep_their_scale():
    """Neither a channel of zeros nor a channel nobody weighs divides by zero."""
    conv, last = convolution("conv", "x", 3, 4), convolution("next", "conv", 4, 2)
    conv.weight[1] = 0
    last.weight[:, 2] = 0
    graph = graph_of(conv, last)
    even = equalize(graph)
    assert isinstance(even.operations[0], Convolution)
    assert np.isfinite(even.operations[0].weight).all()
    assert_same_function(graph, even)


def test_equalize_leaves_a_graph_without_pairs_alone():
    """Nothing to even out, nothing changed."""
    graph = graph_of(affine("bn", "x", 3))
    found = equalize(graph).operations[0]
    assert isinstance(found, ChannelAffine)
    assert np.array_equal(found.shift, graph.operations[0].shift)
