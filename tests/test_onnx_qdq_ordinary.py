"""Ordinary QDQ ONNX models: close to the network, with its integers and scales."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from arraysmith.affine import (
    Affine,
)
from arraysmith.errors import InvalidNetworkError
from arraysmith.networks import operations as floats
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import Input
from arraysmith.networks.moves import MaxPool, Reshape
from arraysmith.quantization.int8 import quantize_inputs, trace
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.norms import IntegerLayerNorm
from arraysmith.quantization.operations import (
    FloatIsland,
    IntegerLayer,
)

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from float_graphs import samples_of  # noqa: E402
from network_cases import random_inputs, random_network  # noqa: E402
from qdq_cases import (  # noqa: E402
    LEVELS,
    X,
    Y,
    by_hand,
    differences,
    draws,
    net,
    reals_of,
    residual_graph,
    run,
    true_scales,
    windows,
)

from arraysmith.quantization.onnx_qdq import export_qdq, qdq_model  # noqa: E402
from arraysmith.quantization.quantize import quantize  # noqa: E402
from arraysmith.quantization.scheme import SCHEMES  # noqa: E402

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
        floats.Island(**one, kind=kinds.RESPONSE_NORM, axes=(3,), numbers=(0.3, 0.75, 1.0)),
        image,
    )
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
