"""Which layer costs most, against the whole network computed anew for every one of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from float_graphs import affine, convolution, graph_of, linear, outputs_of, relu, samples_of

from arraysmith.affine import Affine, affine_from_range
from arraysmith.learning.float_graph import evaluate
from arraysmith.networks.moves import Reshape
from arraysmith.networks.operations import Add
from arraysmith.quantization import sensitivity as module
from arraysmith.quantization.quantize import quantize
from arraysmith.quantization.scheme import Scheme
from arraysmith.quantization.sensitivity import Part, parts_of, sensitivity


def network():
    """Two branches that meet, and two outputs."""
    return graph_of(
        convolution("conv", "x", 3, 4, padding=1),
        relu("act", "conv"),
        convolution("left", "act", 4, 4, padding=1, seed=3),
        Add(name="sum", inputs=("act", "left"), signs=(1, 1)),
        Reshape(name="flat", inputs=("sum",), shape=(256,)),
        linear("fc", "flat", 256, 5, seed=5),
        outputs=("sum", "fc"),
    )


def rounded_weight(operation, bits):
    """Reals of the nearest integers."""
    affine = affine_from_range(operation.weight.min(), operation.weight.max(), bits=bits)
    return affine.dequantize(affine.quantize(operation.weight))


def parts(graph, bits=6):
    """The input, the two convolutions with what they end in, the sum, and the logits."""
    made = {each.name: each for each in graph.operations}
    coarse = affine_from_range(-100, 100, bits=bits)
    return (
        Part(name="x", tensor="x", type=Affine(scale=0.1, zero_point=3)),
        Part(name="conv", tensor="act", type=coarse, weight=rounded_weight(made["conv"], bits)),
        Part(name="left", tensor="left", type=coarse, weight=rounded_weight(made["left"], bits)),
        Part(name="sum", tensor="sum", type=coarse),
        Part(name="fc", tensor="fc", weight=rounded_weight(made["fc"], bits)),
    )


def computed_anew(graph, part, samples):
    """The outputs with one part quantized, by a walk that shares nothing."""
    known = {"x": torch.from_numpy(samples.arrays["x"]).double()}
    for operation in (None, *graph.operations):
        name = operation.name if operation else "x"
        if operation:
            if name == part.name and part.weight is not None:
                operation = replace(operation, weight=part.weight)  # noqa: PLW2901
            known[name] = evaluate(operation, *(known[each] for each in operation.inputs))
        if name == part.tensor and part.type:
            reals = part.type.dequantize(part.type.quantize(known[name].numpy()))
            known[name] = torch.from_numpy(reals)
    return {name: known[name].numpy() for name in graph.outputs}


@pytest.mark.parametrize("held", [1, 1 << 24])
def test_is_what_the_whole_network_gives(held, monkeypatch):
    """Whatever the batches are; the worst output counts, the worst part comes first."""
    graph = network()
    samples = samples_of(graph, 6)
    monkeypatch.setattr(module, "HELD_WORDS", held)
    found = sensitivity(graph, parts(graph), samples)
    exact = outputs_of(graph, samples)
    for part in parts(graph):
        anew = computed_anew(graph, part, samples)
        ratios = [
            10 * np.log10((exact[name] ** 2).sum() / noise)
            for name in graph.outputs
            if (noise := ((exact[name] - anew[name]) ** 2).sum())
        ]
        (facts,) = [each for each in found if each.name == part.name]
        assert facts.sqnr_db == pytest.approx(min(ratios), abs=0.05)
        assert facts.ends_with == part.tensor
    ratios = [each.sqnr_db for each in found]
    assert ratios == sorted(ratios)


def test_a_part_that_loses_nothing_comes_last():
    """None stands for no noise at all."""
    graph = network()
    samples = samples_of(graph, 2)
    exact = Part(name="fc", tensor="fc", weight=graph.operations[-1].weight.astype(np.float64))
    found = sensitivity(graph, (exact, *parts(graph)[:2]), samples)
    assert [each.sqnr_db is None for each in found] == [False, False, True]
    assert found[-1].name == "fc"


def test_fewer_bits_cost_more():
    """A layer of 4 bits is more sensitive than one of 8."""
    graph = network()
    samples = samples_of(graph, 4)
    by_bits = [
        {each.name: each.sqnr_db for each in sensitivity(graph, parts(graph, bits), samples)}
        for bits in (4, 8)
    ]
    for name in ("conv", "left", "sum", "fc"):
        assert by_bits[0][name] < by_bits[1][name]


def test_parts_are_the_layers_of_an_integer_network():
    """Every input and layer but the moves; weights within half a step of the float ones, signed."""
    graph = graph_of(
        convolution("conv", "x", 3, 4, padding=1),
        relu("act", "conv"),
        affine("bn", "act", 4),  # of gains of both signs
        Reshape(name="flat", inputs=("bn",), shape=(256,)),
        linear("fc", "flat", 256, 5, seed=5),
    )
    samples = samples_of(graph, 6)
    found = quantize(graph, samples, Scheme(weight_bits=5))
    parts = parts_of(found.network, found.graph, found.float_names)
    assert [(part.name, part.tensor) for part in parts] == [
        ("x", "x"),
        ("conv", "bn"),
        ("fc", "fc"),
    ]
    assert [part.type is None for part in parts] == [False, False, True]
    assert [part.weight_bits for part in parts] == [None, 5, 5]
    operations = {each.name: each for each in found.graph.operations}
    for part, layer in zip(parts[1:], found.network.weighted_layers, strict=True):
        step = layer.weight_scale.reshape(-1, *(1,) * (layer.weight.ndim - 1))
        # An asymmetric grid is nudged by up to half a step so that it holds 0.
        assert (np.abs(part.weight - operations[part.name].weight) <= 1.01 * step).all()
    ratios = {each.name: each.sqnr_db for each in sensitivity(found.graph, parts, samples)}
    assert ratios.keys() == {"x", "conv", "fc"}
    assert ratios["x"] > ratios["conv"]
