"""From a float network to integers: every scheme, both engines, and what is refused on the way."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from arraysmith.errors import InvalidNetworkError
from arraysmith.learning.network import FloatNetwork, float_network
from arraysmith.models import (
    Activation,
    ActivationKind,
    AveragePool,
    Convolution,
    Flatten,
    Linear,
    NetworkSpec,
)
from arraysmith.quantization import calibration, int8, model_file
from arraysmith.quantization.assessment import assess_layers
from arraysmith.quantization.export import export, read_export
from arraysmith.quantization.modules import QuantNetwork
from arraysmith.quantization.network import (
    IntegerAveragePool,
    IntegerConv2d,
    IntegerFlatten,
    IntegerLinear,
    IntegerTable,
)
from arraysmith.quantization.parts import arrays
from arraysmith.quantization.quantize import quantize
from arraysmith.quantization.scheme import SCHEMES, Calibration, Scheme

SIZE = 12
MEAN, STD = 0.4, 0.3


def normalise(images):
    """Pixels to the float network's input."""
    return ((torch.from_numpy(images.copy()).float() / 255 - MEAN) / STD).unsqueeze(1)


def random_images(count, size=SIZE, seed=0):
    """(count, size, size) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size), np.uint8)


def seeded(layers, size=SIZE, seed=0):
    """A float network of torch's initial weights, the same every time."""
    spec = NetworkSpec(name="tiny", input_shape=(1, size, size), layers=tuple(layers))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FloatNetwork(spec).eval()


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


@pytest.fixture(
    scope="module",
    params=[(scheme, kind) for scheme in SCHEMES for kind in ActivationKind],
    ids="-".join,
)
def quantized(request):
    """(float network, its int8 form) for every named scheme and activation."""
    scheme, kind = request.param
    network = tiny_lenet(kind)
    return network, quantize(network, random_images(64), normalise, SCHEMES[scheme])


def assert_same(one, other):
    """Two networks are equal in every number."""
    found, expected = arrays(one), arrays(other)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert np.array_equal(found[name], array), name


def assert_engines_agree(network, images):
    """torch gives NumPy's integers, layer by layer."""
    fast = QuantNetwork(network).trace(torch.from_numpy(images))
    for (layer, slow), (_, x) in zip(int8.trace(network, images), fast, strict=True):
        assert np.array_equal(slow, x.numpy()), layer.name
        assert slow.min() >= (-(2**31) if layer.output is None else layer.output.qmin)
        assert slow.max() <= (2**31 - 1 if layer.output is None else layer.output.qmax)


# ---- every scheme, every activation


def test_torch_equals_numpy_for_every_scheme(quantized):
    """Both engines give the same integers after every layer, on images not calibrated on."""
    assert_engines_agree(quantized[1].network, random_images(20, seed=1))


def test_signal_to_noise_is_sane_for_every_scheme(quantized):
    """Eight bits leave more than 30 dB at every layer."""
    network, made = quantized
    layers = assess_layers(made, network, random_images(40, seed=2), normalise)
    assert min(layer.sqnr_db for layer in layers) > 30
    assert layers[-1].ends_with == "fc2"


def test_files_give_every_network_back(quantized, tmp_path):
    """Text files and quant_model.pth read back equal in every number."""
    network = quantized[1].network
    export(network, tmp_path / "weight")
    assert_same(read_export(tmp_path / "weight"), network)
    model_file.save(tmp_path / "quant_model.pth", network)
    assert_same(model_file.load(tmp_path / "quant_model.pth"), network)


@pytest.mark.parametrize("kind", ActivationKind)
def test_bias_correction_makes_channel_means_match(kind):
    """With it every channel's mean accumulator is the float mean within one unit; without, not."""
    network, images = tiny_lenet(kind), random_images(64)
    with torch.inference_mode():
        floats = {layer.name: x.double() for layer, x in network.trace(normalise(images))}

    def worst(scheme):
        integer = quantize(network, images, normalise, scheme).network
        x, found = int8.network_input(integer, images), []
        for layer in integer.layers:
            if isinstance(layer, IntegerConv2d | IntegerLinear):
                pool = {"pool": 1} if isinstance(layer, IntegerConv2d) else {}
                bare = replace(layer, output=None, requantization=None, relu=False, **pool)
                acc = int8.run_layer(bare, x)
                over = tuple(axis for axis in range(acc.ndim) if axis != 1)
                real = floats[layer.name].mean(over).numpy() / layer.accumulator_scale
                found.append(np.abs(acc.mean(over) - real).max())
            x = int8.run_layer(layer, x)
        return max(found)

    assert worst(Scheme()) <= 1
    assert worst(Scheme(bias_correction=False)) > 2


@pytest.mark.parametrize("kind", [ActivationKind.TANH, ActivationKind.SIGMOID])
def test_tables_are_the_function_rounded(kind):
    """Each of the 256 entries is the nearest grid point of the function at its input."""
    made = quantize(tiny_lenet(kind), random_images(64), normalise, Scheme()).network
    tables = [layer for layer in made.layers if isinstance(layer, IntegerTable)]
    assert [layer.name for layer in tables] == ["act1", "act2", "act3", "act4"]
    for layer in tables:
        x = layer.input.scale * (np.arange(-128, 128) - layer.input.zero_point)
        real = np.tanh(x) if kind == "tanh" else 0.5 * (1 + np.tanh(x / 2))
        steps = real / layer.output.scale + layer.output.zero_point
        assert np.abs(np.clip(steps, -128, 127) - layer.table).max() <= 0.5 + 1e-9


def test_relu_and_pool_go_into_the_convolution_where_they_can():
    """ReLU is the clamp, the pool is in the accumulator; a ReLU behind a flatten is a table."""
    fused = quantize(tiny_lenet("relu"), random_images(64), normalise, Scheme())
    names = {"conv1": "pool1", "conv2": "pool2", "conv3": "act3", "flatten": "flatten"}
    assert fused.float_names == names | {"fc1": "act4", "fc2": "fc2"}
    separate = quantize(tiny_lenet("relu"), random_images(64), normalise, Scheme(fuse_pool=False))
    assert [layer.name for layer in separate.network.layers[:3]] == ["conv1", "pool1", "conv2"]
    network = seeded(
        [
            AveragePool(name="pool", window=3),
            Flatten(name="flatten"),
            Activation(name="relu", kind=ActivationKind.RELU),
            Linear(name="fc", in_features=16, out_features=3),
        ]
    )
    made = quantize(network, random_images(64), normalise, Scheme())
    kinds = [type(layer) for layer in made.network.layers]
    assert kinds == [IntegerAveragePool, IntegerFlatten, IntegerTable, IntegerLinear]
    assert_engines_agree(made.network, random_images(20, seed=1))
    assert assess_layers(made, network, random_images(20), normalise)[-1].sqnr_db > 30


def test_logits_share_one_weight_scale():
    """int32 logits of two classes are on one scale, per-channel scheme or not."""
    for layer in quantize(tiny_lenet("relu"), random_images(9), normalise, Scheme()).network.layers:
        if isinstance(layer, IntegerConv2d | IntegerLinear):
            assert len(set(layer.weight_scale)) == (1 if layer.output is None else len(layer.bias))


# ---- calibration


def outliers():
    """A network of one linear layer whose input has a few far values."""
    images = np.random.default_rng(3).normal(100, 10, (200, SIZE, SIZE)).clip(0, 255)
    images = images.astype(np.uint8)
    images[0, 0, :3] = 255
    network = seeded(
        [Flatten(name="flatten"), Linear(name="fc", in_features=SIZE**2, out_features=2)]
    )
    return network, images


def test_calibrations_choose_their_range():
    """Min-max takes the extremes, a percentile leaves that share out, MSE loses least."""
    network, images = outliers()
    pixels = normalise(images).double().numpy().ravel()

    def grid(method):
        scheme = Scheme(calibration=method, percentile=99.9)
        affine = quantize(network, images, normalise, scheme).network.layers[0].input
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


def test_observation_does_not_depend_on_batches(monkeypatch):
    """Extremes, histogram and channel means over batches of 7 are those of the whole."""
    monkeypatch.setattr(calibration, "BATCH", 7)
    network, reals = tiny_lenet(ActivationKind.TANH), normalise(random_images(40))
    found = calibration.observe(network, reals)
    with torch.inference_mode():
        whole = {"input": reals} | {layer.name: x for layer, x in network.trace(reals)}
    assert found.keys() == whole.keys()
    for name, x in whole.items():
        assert (found[name].low, found[name].high) == pytest.approx(
            (float(x.min()), float(x.max())), rel=1e-6
        )
        assert found[name].counts.sum() == x.numel()
    means = whole["conv2"].double().mean((0, 2, 3)).numpy()
    assert found["conv2"].channel_means == pytest.approx(means, abs=1e-7)
    assert found["act2"].channel_means.size == 0


def test_nan_is_named():
    """A network that gives NaN is refused with the layer's name."""
    network = seeded([Flatten(name="flatten"), Linear(name="fc", in_features=4, out_features=2)], 2)
    with torch.no_grad():
        network.get_submodule("fc").bias[1] = torch.nan
    with pytest.raises(InvalidNetworkError) as caught:
        quantize(network, random_images(3, 2), normalise, Scheme())
    assert str(caught.value) == (
        "layer 'fc' gives NaN or infinity on the calibration images; "
        "train again or check the images"
    )


def test_bias_beyond_int32_is_named():
    """A bias that dwarfs its layer's weights has no integer."""
    spec = seeded([Flatten(name="flatten"), Linear(name="fc", in_features=4, out_features=2)], 2)
    weight = torch.full((2, 4), 1e-9)
    parameters = {"fc.weight": weight, "fc.bias": torch.tensor([0.0, 500.0])}
    network = float_network(spec.spec, parameters)
    with pytest.raises(InvalidNetworkError) as caught:
        quantize(network, random_images(3, 2), normalise, Scheme())
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
