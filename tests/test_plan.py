"""What becomes one layer, what is given out as it is, and whose range makes a tensor's type."""

from functools import partial

import numpy as np
import pytest
from float_graphs import affine, convolution, draw, graph_of, linear, relu, windows

from arraysmith.affine import Affine
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import FloatGraph, Input, WeightType
from arraysmith.networks.moves import Concat, MaxPool, Pad, Reshape, Take, Transpose
from arraysmith.networks.operations import (
    Add,
    AveragePool,
    Elementwise,
    Lookup,
    MatMul,
    Mul,
    Softmax,
)
from arraysmith.networks.windows import Windows
from arraysmith.quantization.plan import plan
from arraysmith.quantization.scheme import LayerOverride, Scheme, given_range

BYTE = Affine(scale=0.1, zero_point=0)


def planned(graph, scheme=None, overrides=()):
    """The plan under one scheme."""
    given = partial(given_range, overrides=overrides)
    return plan(graph, partial((scheme or Scheme()).for_layer, overrides=overrides), given)


def grouped(graph, scheme=None):
    """Names of what became one layer, joined."""
    return [
        " ".join(each.name for each in group.operations) for group in planned(graph, scheme).groups
    ]


def pool(name, reads, size=(2, 2), strides=None, *, padding=0, dilation=1):
    """An average pool."""
    window = Windows(
        size=size,
        strides=strides or size,
        dilations=(dilation,) * len(size),
        before=(padding,) * len(size),
        after=(padding,) * len(size),
    )
    none = (0,) * len(size)
    return AveragePool(name=name, inputs=(reads,), windows=window, counted=(none, none))


def steps(name, reads, *chain):
    """A table, or what is taken in."""
    made = tuple(Step(function=function, numbers=tuple(numbers)) for function, *numbers in chain)
    return Elementwise(name=name, inputs=(reads,), steps=made)


CONV = convolution("c", "x", 3, 4)
RELU6 = steps("r", "c", (Function.CLIP, 0.0, 6.0))
CHAIN = (CONV, relu("r", "c"), affine("n", "r", 4), pool("p", "n"))


def test_all_that_a_convolution_takes_in():
    """A clip, a batch norm behind it and a pool; without the scheme's leave no pool."""
    assert grouped(graph_of(*CHAIN)) == ["c r n p"]
    assert grouped(graph_of(*CHAIN), Scheme(fuse_pool=False)) == ["c r n", "p"]
    group = planned(graph_of(*CHAIN)).groups[0]
    assert (group.name, group.tensor, group.pool, group.clip) == ("c", "p", 2, (0.0, float("inf")))
    assert group.affine is CHAIN[2]


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ((CONV, RELU6, pool("p", "r")), ["c r p"]),
        ((CONV, pool("p", "c")), ["c p"]),
        ((CONV, affine("n", "c", 4)), ["c", "n"]),  # folded before, where it may be
        ((CONV, steps("t", "c", (Function.TANH,))), ["c", "t"]),
        ((CONV, steps("t", "c", (Function.RELU,), (Function.TANH,))), ["c", "t"]),
        ((CONV, relu("r", "c"), relu("q", "r")), ["c r", "q"]),
        ((CONV, pool("p", "c"), relu("r", "p")), ["c p", "r"]),
        ((CONV, relu("r", "c"), pool("p", "r", (2, 3))), ["c r", "p"]),
        ((CONV, relu("r", "c"), pool("p", "r", (2, 2), (1, 1))), ["c r", "p"]),
        ((CONV, relu("r", "c"), pool("p", "r", padding=1)), ["c r", "p"]),
        ((CONV, relu("r", "c"), pool("p", "r", dilation=2)), ["c r", "p"]),
        ((linear("l", "x", 8, 4), relu("r", "l"), affine("n", "r", 3)), ["l r", "n"]),
        ((Add(name="s", inputs=("x", "x"), signs=(1, 1)), relu("r", "s")), ["s r"]),
        ((Mul(name="m", inputs=("x", "x")), relu("r", "m")), ["m r"]),
        ((MatMul(name="m", inputs=("x", "x")), steps("f", "m", (Function.MUL, 0.5))), ["m f"]),
        ((MatMul(name="m", inputs=("x", "x")), steps("f", "m", (Function.MUL, -2.0))), ["m", "f"]),
        ((MatMul(name="m", inputs=("x", "x")), relu("r", "m")), ["m", "r"]),
    ],
)
def test_what_is_taken_in(operations, expected):
    """Only what the integer form has a place for, in its order."""
    assert grouped(graph_of(*operations)) == expected


def test_a_pool_whose_sum_would_not_fit_stays_a_layer():
    """Wide inputs or a wide window: the sum would leave int32, so the pool rounds by itself."""
    wide = {"activation_bits": 16, "weight_bits": 12}
    assert grouped(graph_of(*CHAIN), Scheme(**wide)) == ["c r n", "p"]
    assert grouped(graph_of(*CHAIN), Scheme(activation_bits=16)) == ["c r n p"]
    turned = Transpose(name="t", inputs=("x",), axes=(0, 2, 1))
    conv = convolution("c", "t", 3, 4)
    graph = graph_of(turned, conv, pool("p", "c"))
    overrides = (LayerOverride(layer="x", activation_bits=16),)
    scheme = Scheme(weight_bits=12)
    assert [group.pool for group in planned(graph, scheme, overrides).groups] == [1, 1, 1]
    assert [group.pool for group in planned(graph, scheme).groups] == [1, 2]


@pytest.mark.parametrize("kept", ["c", "r", "n"])
def test_what_else_is_wanted_ends_a_layer(kept):
    """An output, a given type or a second reader of a tensor in the middle keeps it a tensor."""
    names = ["c", "r", "n", "p"]
    cut = names.index(kept) + 1
    first = " ".join(names[:cut])
    for graph in (
        graph_of(*CHAIN, outputs=("p", kept)),
        graph_of(*CHAIN, types={kept: BYTE}),
        graph_of(*CHAIN, steps("t", kept, (Function.TANH,)), outputs=("p", "t")),
    ):
        groups = grouped(graph)
        assert groups[0] == first
        assert {name for group in groups for name in group.split()} >= set(names)


def test_a_dead_reader_does_not_count():
    """What no output depends on is not there."""
    graph = graph_of(*CHAIN, steps("t", "r", (Function.TANH,)), outputs=("p",))
    assert grouped(graph) == ["c r n p"]


def test_given_weights_take_in_no_gain():
    """A batch norm would change the weights that the model came with."""
    given = {"c": WeightType(scale=np.ones(1), zero_point=np.zeros(1, np.int64))}
    assert grouped(graph_of(*CHAIN, weight_types=given))[0] == "c r"


# ---- logits


def moved(*more):
    """A linear layer whose outputs are moved."""
    return (
        linear("l", "x", 8, 4),
        Transpose(name="t", inputs=("l",), axes=(1, 0, 2)),
        Take(name="k", inputs=("t",), axis=0, indices=np.array([1])),
        Reshape(name="f", inputs=("k",), shape=(12,)),
        *more,
    )


def test_logits():
    """A last weighted layer gives its accumulators out, through moves too."""
    assert planned(graph_of(*moved())).logits == {"l"}
    assert planned(graph_of(*moved(), outputs=("l", "f"))).logits == {"l"}
    assert planned(graph_of(CONV)).logits == {"c"}


@pytest.mark.parametrize(
    "graph",
    [
        graph_of(linear("l", "x", 8, 4), relu("r", "l")),
        graph_of(linear("l", "x", 8, 4), relu("r", "l"), outputs=("l", "r")),
        graph_of(linear("l", "x", 8, 4), types={"l": BYTE}),
        graph_of(*moved(), types={"k": BYTE}),
        graph_of(*moved(Softmax(name="s", inputs=("f",), axis=0)), outputs=("f", "s")),
        graph_of(
            linear("l", "x", 8, 4), Pad(name="p", inputs=("l",), before=(1, 0, 0), after=(0,) * 3)
        ),
        graph_of(linear("l", "x", 8, 4), Concat(name="j", inputs=("l", "l"), axis=0)),
        graph_of(CONV, MaxPool(name="p", inputs=("c",), windows=windows(2))),
    ],
)
def test_no_logits(graph):
    """Not what is computed with, clipped, typed, filled in or joined."""
    assert planned(graph).logits == frozenset()


def test_dead_readers_leave_logits():
    """A softmax that nobody asked for."""
    graph = graph_of(*moved(Softmax(name="s", inputs=("f",), axis=0)), outputs=("f",))
    assert planned(graph).logits == {"l"}


# ---- owners


def test_owners_of_moved_and_joined_tensors():
    """A move has its source's type; a concatenation gives its own to what it alone reads."""
    graph = graph_of(
        steps("a", "x", (Function.TANH,)),
        steps("b", "x", (Function.EXP,)),
        steps("d", "x", (Function.SIGMOID,)),
        Take(name="cut", inputs=("b",), axis=0, indices=np.array([0])),
        Concat(name="inner", inputs=("a", "cut"), axis=0),
        Concat(name="outer", inputs=("inner", "d", "x"), axis=0),
        Transpose(name="turned", inputs=("outer",), axes=(2, 1, 0)),
        Add(name="s", inputs=("d", "d"), signs=(1, 1)),
        outputs=("turned", "s"),
    )
    found = planned(graph)
    joined = dict.fromkeys(("a", "b", "cut", "inner", "outer", "turned"), "outer")
    assert found.owners == joined | {name: name for name in ("x", "d", "s")}
    assert set(found.observed) == {"x", "d", "s", "outer"}


@pytest.mark.parametrize("held", ["output", "type", "softmax"])
def test_what_a_concatenation_leaves_alone(held):
    """An output, a typed tensor and a softmax keep their own types."""
    first = steps("a", "x", (Function.TANH,))
    if held == "softmax":
        first = Softmax(name="a", inputs=("x",), axis=0)
    graph = graph_of(
        first,
        Concat(name="j", inputs=("a", "x"), axis=0),
        outputs=("j", "a") if held == "output" else ("j",),
        types={"a": BYTE} if held == "type" else {},
    )
    assert planned(graph).owners.get("a") == (None if held == "softmax" else "a")


@pytest.mark.parametrize(
    "override", [{"activation_bits": 6}, {"calibration": "mse"}, {"range": (-1.0, 1.0)}]
)
def test_a_concatenation_respects_overrides(override):
    """What has a width or a range of its own is not given the concatenation's."""
    graph = graph_of(steps("a", "x", (Function.TANH,)), Concat(name="j", inputs=("a", "x"), axis=0))
    assert planned(graph).owners["a"] == "j"
    assert planned(graph, overrides=(LayerOverride(layer="a", **override),)).owners["a"] == "a"


def test_row_numbers_have_no_owner():
    """Neither they nor what is moved and joined of them."""
    graph = FloatGraph(
        name="net",
        inputs=(Input(name="ids", shape=(4,), rows=9),),
        operations=(
            Reshape(name="two", inputs=("ids",), shape=(2, 2)),
            Concat(name="more", inputs=("two", "two"), axis=0),
            Lookup(name="rows", inputs=("more",), table=draw(0, 9, 5)),
        ),
        outputs=("rows",),
    )
    assert planned(graph).owners == {"rows": "rows"}
    assert planned(graph).weighted == ()
