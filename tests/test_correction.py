"""Bias correction: every accumulator's mean, computed tap by tap, is the float network's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from float_graphs import affine, convolution, draw, graph_of, linear, relu, samples_of

from arraysmith.errors import InvalidNetworkError
from arraysmith.learning.float_graph import trace as float_trace
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import FloatGraph, Input
from arraysmith.networks.moves import Reshape, Transpose
from arraysmith.networks.operations import Add, Constant, Elementwise, Lookup, Softmax
from arraysmith.quantization import correction, int8
from arraysmith.quantization.correction import correct_biases, float_means
from arraysmith.quantization.products import IntegerConvolution
from arraysmith.quantization.quantize import quantize
from arraysmith.quantization.samples import samples_from
from arraysmith.quantization.scheme import Scheme
from arraysmith.quantization.signs import channel_signs

COARSE = Scheme(weight_bits=4, activation_bits=5, bias_correction=False)


def branches():
    """A strided and a grouped convolution, a negated channel, a residual, a linear layer."""
    return graph_of(
        convolution("conv", "x", 3, 4, padding=1),
        relu("act", "conv"),
        affine("bn", "act", 4, seed=0),
        convolution("left", "bn", 4, 4, padding=1, groups=2, seed=3),
        Add(name="sum", inputs=("bn", "left"), signs=(1, 1)),
        convolution("down", "sum", 4, 6, stride=2, seed=5),
        Reshape(name="flat", inputs=("down",), shape=(54,)),
        linear("fc", "flat", 54, 5, seed=7),
    )


def accumulator_means(layer, x):
    """(out,): of (2), by a loop over the taps."""
    centred = x - layer.input.zero_point
    weight = layer.centred_weight
    if not isinstance(layer, IntegerConvolution):
        return (centred @ weight.T + layer.bias).reshape(-1, len(weight)).mean(0)
    before, after = layer.windows.before, layer.windows.after
    padded = np.pad(centred, ((0, 0), (0, 0), *zip(before, after, strict=True)))
    out, columns = weight.shape[:2]
    rows, cols = layer.windows.positions(x.shape[2:])
    means = np.zeros(out)
    for channel in range(out):
        first = channel // (out // layer.groups) * columns
        total = 0
        for i in range(rows):
            for j in range(cols):
                top, left = i * layer.windows.strides[0], j * layer.windows.strides[1]
                window = padded[:, first : first + columns, top : top + 3, left : left + 3]
                total += (window * weight[channel]).sum()
        means[channel] = total / (len(x) * rows * cols) + layer.bias[channel]
    return means


def wanted_means(graph, samples):
    """(out,) of every convolution and linear layer, over all samples at once."""
    given = {name: torch.from_numpy(array) for name, array in samples.arrays.items()}
    made = {name: x.double().numpy() for name, x in float_trace(graph, given)}
    return {
        each.name: made[each.name].mean((0, 2, 3))
        if made[each.name].ndim == 4
        else made[each.name].reshape(-1, made[each.name].shape[-1]).mean(0)
        for each in graph.operations
        if hasattr(each, "weight")
    }


def gaps(network, graph, samples):
    """By layer: how far each accumulator's mean is from the float mean, in its own units."""
    given = int8.quantize_inputs(network, samples.arrays)
    known = given | {layer.name: x for layer, x in int8.trace(network, given)}
    wanted = wanted_means(graph, samples)
    operations = {each.name: each for each in graph.operations}
    return {
        layer.name: accumulator_means(layer, known[layer.inputs[0]])
        - channel_signs(layer, operations[layer.name])
        * wanted[layer.name]
        / layer.accumulator_scale
        for layer in network.weighted_layers
    }


@pytest.mark.parametrize("batch", [2, 100])
def test_every_mean_is_within_half_a_unit(batch, monkeypatch):
    """Corrected in order, each on what the corrected ones before it give."""
    monkeypatch.setattr("arraysmith.quantization.calibration.MAX_BATCH", batch)
    graph = branches()
    samples = samples_of(graph, 7)
    quantized = quantize(graph, samples, COARSE)
    graph, network = quantized.graph, quantized.network
    before = gaps(network, graph, samples)
    after = gaps(correct_biases(network, graph, samples), graph, samples)
    assert after.keys() == {"conv", "left", "down", "fc"}
    for name, gap in after.items():
        assert np.abs(gap).max() <= 0.5 + 1e-3, name
    # The input's mean is about 0, which leaves the first layer nothing to correct.
    assert all(np.abs(before[name]).max() > 1 for name in ("left", "down", "fc"))


def test_negated_channels_are_found():
    """A batch normalization of negative gain behind a ReLU negates the weights."""
    graph = branches()
    quantized = quantize(graph, samples_of(graph, 7), COARSE)
    layer = quantized.network.weighted_layers[0]
    signs = channel_signs(layer, quantized.graph.operations[0])
    assert signs.tolist() == np.sign(graph.operations[2].gain).astype(int).tolist()
    assert set(signs.tolist()) == {1, -1}


def test_given_signs_are_taken():
    """Those of the caller come before what the weights show."""
    graph = graph_of(linear("fc", "x", 6, 3), shape=(6,))
    samples = samples_of(graph, 9)
    quantized = quantize(graph, samples, COARSE)
    found = correct_biases(quantized.network, graph, samples, signs={"fc": np.array([1, -1, 1])})
    right = correct_biases(quantized.network, graph, samples)
    same = found.weighted_layers[0].bias == right.weighted_layers[0].bias
    assert same.tolist() == [True, False, True]


def test_a_channel_without_weights_is_told_by_its_bias():
    """Nothing else shows its sign."""
    graph = graph_of(linear("fc", "x", 6, 3), shape=(6,))
    graph.operations[0].weight[1] = 0
    quantized = quantize(graph, samples_of(graph, 9), COARSE)
    (layer,) = quantized.network.weighted_layers
    negated = replace(layer, bias=layer.bias * np.array([1, -1, 1], np.int32))
    assert channel_signs(negated, graph.operations[0]).tolist() == [1, -1, 1]


def test_only_as_many_samples_as_can_be_held(monkeypatch):
    """Evenly spread; their own float means are the target."""
    graph = branches()
    samples = samples_of(graph, 20)
    quantized = quantize(graph, samples, COARSE)
    monkeypatch.setattr(correction, "MAX_SAMPLES", 4)
    found = correct_biases(quantized.network, quantized.graph, samples)
    for gap in gaps(found, quantized.graph, samples.spread(4)).values():
        assert np.abs(gap).max() <= 0.5 + 1e-3
    monkeypatch.setattr(correction, "MAX_BYTES", 1)
    found = correct_biases(quantized.network, quantized.graph, samples)
    for gap in gaps(found, quantized.graph, samples.spread(1)).values():
        assert np.abs(gap).max() <= 0.5 + 1e-3


def test_constants_and_row_numbers_lead_to_weighted_layers_too(monkeypatch):
    """A constant has one batch, a table no type for what it reads."""
    monkeypatch.setattr("arraysmith.quantization.calibration.MAX_BATCH", 30)
    graph = FloatGraph(
        name="net",
        inputs=(Input(name="words", shape=(6,), rows=10),),
        operations=(
            Lookup(name="embed", inputs=("words",), table=draw(0, 10, 4)),
            Constant(name="place", inputs=(), value=draw(1, 6, 4)),
            Add(name="sum", inputs=("embed", "place"), signs=(1, 1)),
            linear("up", "sum", 4, 8, seed=2),
            relu("act", "up"),
            linear("down", "act", 8, 3, seed=4),
            Transpose(name="turn", inputs=("down",), axes=(1, 0)),
        ),
        outputs=("turn",),
    )
    samples = samples_from(np.random.default_rng(0).integers(0, 10, (100, 6)), graph.inputs)
    quantized = quantize(graph, samples, COARSE)
    found = correct_biases(quantized.network, graph, samples)
    for name, gap in gaps(found, graph, samples).items():
        assert np.abs(gap).max() <= 0.5 + 1e-3, name


def test_float_means_do_not_depend_on_the_batches(monkeypatch):
    """One at a time or all at once."""
    graph = branches()
    samples = samples_of(graph, 7)
    for batch in (1, 3, 100):
        monkeypatch.setattr("arraysmith.quantization.calibration.MAX_BATCH", batch)
        found = float_means(graph, samples)
        for name, means in wanted_means(graph, samples).items():
            assert found.of(name) == pytest.approx(means, rel=1e-5, abs=1e-5)


def test_refuses_a_bias_beyond_int32():
    """With the layer's name."""
    graph = graph_of(linear("fc", "x", 6, 3), shape=(6,))
    samples = samples_of(graph, 9)
    quantized = quantize(graph, samples, COARSE)
    graph.operations[0].bias[2] = 1e12
    with pytest.raises(InvalidNetworkError) as caught:
        correct_biases(quantized.network, graph, samples)
    message = str(caught.value)
    assert message.startswith("layer 'fc': a corrected bias of ")
    assert message.endswith("does not fit int32; give the layer fewer bits, or correct no biases")


def test_correcting_helps_on_samples_that_were_not_seen():
    """The outputs of coarse weights come nearer to the float network's."""
    graph = branches()
    quantized = quantize(graph, samples_of(graph, 60), replace(COARSE, activation_bits=8))
    corrected = correct_biases(quantized.network, quantized.graph, samples_of(graph, 60))
    unseen = samples_of(graph, 60, seed=100)
    (wanted,) = (
        x
        for name, x in float_trace(graph, {"x": torch.from_numpy(unseen.arrays["x"])})
        if name == "fc"
    )
    errors = []
    for network in (quantized.network, corrected):
        given = int8.quantize_inputs(network, unseen.arrays)
        logits = int8.run(network, given)["fc"] * network.weighted_layers[-1].accumulator_scale
        errors.append(((logits - wanted.numpy()) ** 2).mean())
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    "last",
    [
        Softmax(name="last", inputs=("fc",), axis=0),
        Elementwise(name="last", inputs=("fc",), steps=(Step(function=Function.SIGMOID),)),
    ],
)
def test_what_a_sigmoid_or_softmax_alone_reads_is_left(last):
    """Its mean says nothing of what is behind; as an output of its own it is corrected."""
    layers = (linear("up", "x", 6, 8), relu("act", "up"), linear("fc", "act", 8, 3, seed=2), last)
    for outputs, names in ((("last",), ["up"]), (("fc", "last"), ["up", "fc"])):
        graph = graph_of(*layers, shape=(6,), outputs=outputs)
        samples = samples_of(graph, 50)
        network = quantize(graph, samples, COARSE).network
        corrected = correct_biases(network, graph, samples)
        pairs = zip(network.weighted_layers, corrected.weighted_layers, strict=True)
        changed = [old.name for old, new in pairs if not np.array_equal(old.bias, new.bias)]
        assert changed == names


def test_means_of_the_calibration_are_those_of_a_pass_of_their_own(monkeypatch):
    """The same biases, whether the means were kept or found again."""
    graph = branches()
    samples = samples_of(graph, 9)
    kept = quantize(graph, samples, replace(COARSE, bias_correction=True)).network
    monkeypatch.setattr("arraysmith.quantization.quantize.MAX_SAMPLES", 0)
    again = quantize(graph, samples, replace(COARSE, bias_correction=True)).network
    for one, other in zip(kept.weighted_layers, again.weighted_layers, strict=True):
        assert np.array_equal(one.bias, other.bias)


def test_means_of_more_samples_than_are_drawn_are_found_again(monkeypatch):
    """What the correction holds is what it compares."""
    graph = branches()
    samples = samples_of(graph, 9)
    monkeypatch.setattr("arraysmith.quantization.correction.MAX_BYTES", 1)
    few = quantize(graph, samples, replace(COARSE, bias_correction=True))
    uncorrected = quantize(graph, samples, COARSE)
    wanted = correct_biases(uncorrected.network, uncorrected.graph, samples.spread(1))
    for one, other in zip(few.network.weighted_layers, wanted.weighted_layers, strict=True):
        assert np.array_equal(one.bias, other.bias)
