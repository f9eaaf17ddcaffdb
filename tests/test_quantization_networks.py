"""From a float network to integers: every scheme, both engines, and what is refused on the way."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from arraysmith.errors import InvalidNetworkError
from arraysmith.learning import float_graph
from arraysmith.learning.network import FloatNetwork, float_network
from arraysmith.learning.pixels import with_pixels
from arraysmith.learning.torch_import import from_torch
from arraysmith.models import (
    Activation,
    ActivationKind,
    AveragePool,
    Convolution,
    Flatten,
    Linear,
    NetworkSpec,
)
from arraysmith.networks.moves import Reshape
from arraysmith.quantization import calibration, int8, model_file
from arraysmith.quantization.assessment import assess_layers
from arraysmith.quantization.export import export, read_export
from arraysmith.quantization.modules import QuantNetwork
from arraysmith.quantization.operations import IntegerAveragePool, IntegerTable
from arraysmith.quantization.parts import arrays
from arraysmith.quantization.products import IntegerLinear, WeightedLayer
from arraysmith.quantization.quantize import quantize
from arraysmith.quantization.samples import Samples
from arraysmith.quantization.scheme import SCHEMES, Calibration, Scheme
from arraysmith.quantization.weights import quantized_bias

SIZE = 12
MEAN, STD = 0.4, 0.3


def random_images(count, size=SIZE, seed=0):
    """(count, 1, size, size) pixels as reals."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 1, size, size), np.uint8)
    return images.astype(np.float32)


def samples_of(graph, images):
    """Images as what the graph reads."""
    return Samples(inputs=graph.inputs, arrays={"pixels": images})


def integers(images):
    """Pixels are their own integers."""
    return {"pixels": images.astype(np.int64)}


def traced(graph, images):
    """Every float tensor by name."""
    with torch.inference_mode():
        return dict(float_graph.trace(graph, {"pixels": torch.from_numpy(images)}))


def graph_of(network):
    """A float network as the graph over pixels that a checkpoint is read as."""
    example = torch.zeros(1, *network.spec.input_shape)
    graph = from_torch(network, (example,), name="tiny", input_names=("pixels",))
    return with_pixels(graph, MEAN, STD)


def made_of(graph, images=None, scheme=None):
    """The graph quantized on random images."""
    images = random_images(64) if images is None else images
    return quantize(graph, samples_of(graph, images), scheme or Scheme())


def seeded(layers, size=SIZE, seed=0):
    """A float graph of torch's initial weights, the same every time."""
    spec = NetworkSpec(name="tiny", input_shape=(1, size, size), layers=tuple(layers))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return graph_of(FloatNetwork(spec).eval())


def tiny_lenet(activation):
    """LeNet-5's chain of layers, an eighth of its size."""
    return seeded(
        [
            Convolution(name="conv1", in_channels=1, out_channels=4, filter=3, padding=1),
            Activation(name="act1", kind=activation),
            AveragePool(name="pool1"),
            Convolution(name="conv2", in_channels=4, out_channels=6, filter=3),
            Activation(name="act2", kind=activation),
            AveragePool(name="pool2"),
            Convolution(name="conv3", in_channels=6, out_channels=10, filter=2),
            Activation(name="act3", kind=activation),
            Flatten(name="flatten"),
            Linear(name="fc1", in_features=10, out_features=8),
            Activation(name="act4", kind=activation),
            Linear(name="fc2", in_features=8, out_features=5),
        ]
    )


@pytest.fixture(scope="module")
def graphs():
    """The tiny LeNet-5 of every activation."""
    return {kind: tiny_lenet(kind) for kind in ActivationKind}


@pytest.fixture(
    scope="module",
    params=[(scheme, kind) for scheme in SCHEMES for kind in ActivationKind],
    ids="-".join,
)
def quantized(request, graphs):
    """The int8 form for every named scheme and activation."""
    scheme, kind = request.param
    return made_of(graphs[kind], scheme=SCHEMES[scheme])


def assert_same(one, other):
    """Two networks are equal in every number."""
    found, expected = arrays(one), arrays(other)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert np.array_equal(found[name], array), name


def assert_engines_agree(network, images):
    """torch gives NumPy's integers, layer by layer."""
    given = integers(images)
    fast = QuantNetwork(network).trace({"pixels": torch.from_numpy(given["pixels"])})
    types = network.types
    for (layer, slow), (_, x) in zip(int8.trace(network, given), fast, strict=True):
        assert np.array_equal(slow, x.numpy()), layer.name
        type_ = types[layer.name]
        assert slow.min() >= (-(2**31) if type_ is None else type_.qmin)
        assert slow.max() <= (2**31 - 1 if type_ is None else type_.qmax)


# ---- every scheme, every activation


def test_torch_equals_numpy_for_every_scheme(quantized):
    """Both engines give the same integers after every layer, on images not calibrated on."""
    assert_engines_agree(quantized.network, random_images(20, seed=1))


def test_signal_to_noise_is_sane_for_every_scheme(quantized):
    """Eight bits leave more than 30 dB at every layer."""
    layers = assess_layers(quantized, samples_of(quantized.graph, random_images(40, seed=2)))
    assert min(layer.sqnr_db for layer in layers) > 30
    assert layers[-1].ends_with == "fc2"


def test_files_give_every_network_back(quantized, tmp_path):
    """Text files and quant_model.pth read back equal in every number."""
    network = quantized.network
    export(network, tmp_path / "weight")
    assert_same(read_export(tmp_path / "weight"), network)
    model_file.save(tmp_path / "quant_model.pth", network)
    assert_same(model_file.load(tmp_path / "quant_model.pth"), network)


@pytest.mark.parametrize("kind", ActivationKind)
def test_bias_correction_makes_channel_means_match(kind, graphs):
    """With it every channel's mean accumulator is the float mean within one unit; without, not."""
    graph, images = graphs[kind], random_images(64)
    floats = {name: x.double() for name, x in traced(graph, images).items()}

    def worst(scheme):
        network, found = made_of(graph, images, scheme).network, []
        known = integers(images)
        for layer, x in int8.trace(network, integers(images)):
            # What only a sigmoid reads is left as it is (tests/test_correction.py).
            if isinstance(layer, WeightedLayer) and (kind != "sigmoid" or layer.name == "fc2"):
                acc = accumulator(layer, known[layer.inputs[0]])
                over = tuple(axis for axis in range(acc.ndim) if axis != 1)
                real = floats[layer.name].mean(over).numpy() / layer.accumulator_scale
                found.append(np.abs(acc.mean(over) - real).max())
            known[layer.name] = x
        assert len(found) == (1 if kind == "sigmoid" else 5)
        return max(found)

    assert worst(Scheme()) <= 1
    assert worst(Scheme(bias_correction=False)) > 2


def accumulator(layer, x):
    """(2), before ReLU, pool and (3)."""
    pool = {} if isinstance(layer, IntegerLinear) else {"pool": 1}
    outside = {"output": None, "requantization": None, "activation": None}
    bare = replace(layer, **outside, low=None, high=None, **pool)
    return int8.run_layer(bare, x)


@pytest.mark.parametrize("kind", [ActivationKind.TANH, ActivationKind.SIGMOID])
def test_tables_are_the_function_rounded(kind, graphs):
    """Each of the 256 entries is the nearest grid point of the function at its input."""
    made = made_of(graphs[kind]).network
    tables = [layer for layer in made.layers if isinstance(layer, IntegerTable)]
    assert [layer.name for layer in tables] == ["normalise", "act1", "act2", "act3", "act4"]
    for layer in tables[1:]:
        x = layer.input.scale * (np.arange(-128, 128) - layer.input.zero_point)
        real = np.tanh(x) if kind == "tanh" else 0.5 * (1 + np.tanh(x / 2))
        steps = real / layer.output.scale + layer.output.zero_point
        assert np.abs(np.clip(steps, -128, 127) - layer.table).max() <= 0.5 + 1e-9


def test_relu_and_pool_go_into_the_convolution_where_they_can(graphs):
    """ReLU is the clamp, the pool is in the accumulator; a ReLU behind a flatten is a table."""
    fused = made_of(graphs["relu"])
    names = {"normalise": "normalise", "conv1": "pool1", "conv2": "pool2", "conv3": "act3"}
    assert fused.float_names == names | {"flatten": "flatten", "fc1": "act4", "fc2": "fc2"}
    separate = made_of(graphs["relu"], scheme=Scheme(fuse_pool=False))
    layers = [layer.name for layer in separate.network.layers[:4]]
    assert layers == ["normalise", "conv1", "pool1", "conv2"]
    graph = seeded(
        [
            AveragePool(name="pool", window=3),
            Flatten(name="flatten"),
            Activation(name="relu", kind=ActivationKind.RELU),
            Linear(name="fc", in_features=16, out_features=3),
        ]
    )
    made = made_of(graph)
    kinds = [type(layer) for layer in made.network.layers]
    assert kinds == [IntegerTable, IntegerAveragePool, Reshape, IntegerTable, IntegerLinear]
    assert_engines_agree(made.network, random_images(20, seed=1))
    assert assess_layers(made, samples_of(graph, random_images(20)))[-1].sqnr_db > 30


def test_logits_share_one_weight_scale(graphs):
    """int32 logits of two classes are on one scale, per-channel scheme or not."""
    layers = made_of(graphs["relu"], random_images(9)).network.weighted_layers
    for layer in layers:
        assert len(set(layer.weight_scale)) == (1 if layer.output is None else len(layer.bias))
    assert layers[-1].output is None


# ---- calibration


def outliers():
    """A network of one linear layer whose input has a few far values."""
    images = np.random.default_rng(3).normal(100, 10, (200, SIZE, SIZE)).clip(0, 255)
    images = images.astype(np.uint8).astype(np.float32)[:, None]
    images[0, 0, 0, :3] = 255
    graph = seeded(
        [Flatten(name="flatten"), Linear(name="fc", in_features=SIZE**2, out_features=2)]
    )
    return graph, images


def test_calibrations_choose_their_range():
    """Min-max takes the extremes, a percentile leaves that share out, MSE loses least."""
    graph, images = outliers()
    pixels = traced(graph, images)["normalise"].double().numpy().ravel()

    def grid(method):
        scheme = Scheme(calibration=method, percentile=99.9)
        affine = made_of(graph, images, scheme).network.layers[0].output
        error = pixels - affine.dequantize(affine.quantize(pixels))
        return *affine.dequantize([-128, 127]), (error**2).sum(), affine.scale

    low, high, extremes, step = grid(Calibration.MIN_MAX)
    assert low == pytest.approx(min(pixels.min(), 0), abs=step)
    assert high == pytest.approx(pixels.max(), abs=step)
    low, high, _, step = grid(Calibration.PERCENTILE)
    width = (pixels.max() - pixels.min()) / 4096
    assert low == pytest.approx(np.percentile(pixels, 0.1), abs=step + 2 * width)
    assert high == pytest.approx(np.percentile(pixels, 99.9), abs=step + 2 * width)
    _, high, least, _ = grid(Calibration.MSE)
    assert high < pixels.max()
    assert least < extremes


def test_observation_does_not_depend_on_batches(monkeypatch, graphs):
    """Extremes and histograms over batches of 7 are those of the whole."""
    monkeypatch.setattr(calibration, "MAX_BATCH", 7)
    graph, images = graphs["tanh"], random_images(40)
    found = calibration.observe(graph, samples_of(graph, images), histograms=graph.shapes)
    whole = traced(graph, images)
    assert found.keys() == whole.keys()
    for name, x in whole.items():
        assert (found[name].low, found[name].high) == pytest.approx(
            (float(x.min()), float(x.max())), rel=1e-6
        )
        assert found[name].counts.sum() == x.numel()


def tiny_linear(weight, bias):
    """One linear layer of four pixels."""
    layers = (Flatten(name="flatten"), Linear(name="fc", in_features=4, out_features=2))
    spec = NetworkSpec(name="tiny", input_shape=(1, 2, 2), layers=layers)
    return graph_of(float_network(spec, {"fc.weight": weight, "fc.bias": torch.tensor(bias)}))


@pytest.mark.parametrize("field", ["weight", "bias"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_nan_is_named(field, number):
    """A network that holds NaN or infinity is refused with the layer's name."""
    graph = tiny_linear(torch.ones(2, 4), [0.0, 1.0])
    array = getattr(graph.operations[-1], field).copy()
    array[1] = number
    layer = replace(graph.operations[-1], **{field: array})
    with pytest.raises(InvalidNetworkError) as caught:
        made_of(replace(graph, operations=(*graph.operations[:-1], layer)), random_images(3, 2))
    assert str(caught.value) == (
        f"layer 'fc' holds NaN or infinity in its {field}; train the network again, or export it "
        "again"
    )


def test_a_bias_widens_the_scale_of_its_weights():
    """A bias that dwarfs its layer's weights fits int32 all the same, to 28 bits."""
    graph = tiny_linear(torch.full((2, 4), 1e-9), [0.0, 500.0])
    layer = made_of(graph, random_images(3, 2)).network.layers[-1]
    assert np.abs(layer.bias.astype(np.int64)).max() <= 1 << 28
    real = layer.bias * layer.accumulator_scale
    assert real == pytest.approx([0, 500], abs=500 / (1 << 27))


def test_bias_beyond_int32_is_named():
    """On a scale that is given, a bias may have no integer."""
    with pytest.raises(InvalidNetworkError) as caught:
        quantized_bias("fc", np.array([0.0, 500.0]), np.array([1e-9, 1e-9]))
    assert str(caught.value) == (
        "layer 'fc': a bias of 500 does not fit int32 at a scale of its accumulator; "
        "give the layer's weights a wider range"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"multiplier_bits": 7}, "multiplier of 7 bits: choose 8 to 31"),
        ({"percentile": 50.0}, "percentile 50.0: choose above 50, to 100"),
    ],
)
def test_scheme_refuses(fields, message):
    """A choice that the arithmetic has no form for."""
    with pytest.raises(InvalidNetworkError) as caught:
        Scheme(**fields)
    assert str(caught.value) == message
