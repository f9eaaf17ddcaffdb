"""What the int8 records, the exporter and the importer refuse, each in one clear message."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.models import Activation, ActivationKind, Convolution, Flatten, Linear, NetworkSpec
from arraysmith.affine import Affine, Requantization
from arraysmith.quantization.export import MANIFEST, Manifest, _digest, export, read_export
from arraysmith.quantization.network import IntegerFlatten, IntegerLinear, IntegerNetwork

PIXEL = Affine(scale=1.0, zero_point=-128)


def logits(**changes):
    """A linear layer from four pixels to two logits."""
    fields = {
        "name": "fc",
        "weight": np.arange(8, dtype=np.int8).reshape(2, 4),
        "weight_zero_point": np.zeros(2, np.int64),
        "weight_scale": np.ones(2),
        "bias": np.zeros(2, np.int32),
        "input": PIXEL,
        "output": None,
        "requantization": None,
    }
    return IntegerLinear(**{**fields, **changes})


def network(**changes):
    """Four pixels to two logits."""
    fields = {
        "name": "tiny",
        "input_shape": (1, 2, 2),
        "input_table": np.arange(-128, 128),
        "layers": (IntegerFlatten(name="flatten", input=PIXEL), logits()),
    }
    return IntegerNetwork(**{**fields, **changes})


def test_logits_have_no_relu():
    """A ReLU on bare accumulators would be silently lost, so it cannot be said."""
    with pytest.raises(InvalidNetworkError, match="logits are the bare accumulator"):
        logits(relu=True)


def test_a_network_that_ends_in_relu_is_refused():
    """Quantization says so instead of dropping the ReLU."""
    import torch

    from arraysmith.learning.network import FloatNetwork
    from arraysmith.quantization.quantize import quantize
    from arraysmith.quantization.scheme import Scheme

    spec = NetworkSpec(
        name="positive",
        input_shape=(1, 2, 2),
        layers=(
            Flatten(name="flatten"),
            Linear(name="fc", in_features=4, out_features=2),
            Activation(name="relu", kind=ActivationKind.RELU),
        ),
    )
    images = np.random.default_rng(0).integers(0, 256, (9, 2, 2), np.uint8)
    with pytest.raises(InvalidNetworkError) as caught:
        quantize(
            FloatNetwork(spec).eval(),
            images,
            lambda pixels: torch.from_numpy(pixels / np.float32(255)).unsqueeze(1),
            Scheme(),
        )
    assert str(caught.value) == (
        "network 'positive' ends in 'relu'; end it in the layer that gives the logits"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ()}, "network 'tiny' needs layers of different names, got none"),
        (
            {"layers": (IntegerFlatten(name="fc", input=PIXEL), logits())},
            "network 'tiny' needs layers of different names, got ['fc']",
        ),
        (
            {"name": "../evil"},
            "name '../evil': use letters, digits, dashes, dots and underscores",
        ),
        (
            {"layers": (IntegerFlatten(name="a/b", input=PIXEL), logits())},
            "name 'a/b': use letters, digits, dashes, dots and underscores",
        ),
    ],
)
def test_impossible_networks(changes, message):
    """No layers, equal names and names that lead elsewhere are refused at birth."""
    with pytest.raises(InvalidNetworkError) as caught:
        network(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize("bits", [-1, 0, 32, 41])
def test_multiplier_widths_are_bounded(bits):
    """Beyond 31 bits a product would leave 64; below 1 there is none."""
    one = np.array([1])
    with pytest.raises(InvalidNetworkError, match=f"multipliers of {bits} bits: choose 1 to 31"):
        Requantization(multiplier=one, right_shift=one, bits=bits)


def resealed(folder, change):
    """Change a manifest and give it the right SHA-256 again."""
    path = folder / MANIFEST
    manifest = change(msgspec.json.decode(path.read_bytes(), type=Manifest))
    path.write_bytes(msgspec.json.encode(replace(manifest, sha256=_digest(manifest))))


def test_files_that_are_read_must_be_listed(tmp_path):
    """Leaving a file out of a resealed manifest does not let its content through unchecked."""
    export(network(), tmp_path / "weight")
    resealed(
        tmp_path / "weight",
        lambda manifest: replace(
            manifest, files=tuple(f for f in manifest.files if f.name != "fc.bias.txt")
        ),
    )
    with pytest.raises(InputFileError, match=r"manifest\.json: does not list fc\.bias\.txt"):
        read_export(tmp_path / "weight")


def test_a_crafted_structure_is_refused(tmp_path):
    """Shapes that do not chain are named, not computed with."""
    export(network(), tmp_path / "weight")

    def widen(manifest):
        return replace(manifest, network=replace(manifest.network, input_shape=(1, 3, 3)))

    resealed(tmp_path / "weight", widen)
    with pytest.raises(InputFileError, match="takes 4 features"):
        read_export(tmp_path / "weight")


def test_c_names_do_not_collide(tmp_path):
    """Names that C could not tell apart are refused; one that begins with a digit is prefixed."""
    clash = (IntegerFlatten(name="a-b", input=PIXEL), IntegerFlatten(name="a_b", input=PIXEL))
    with pytest.raises(InvalidNetworkError, match="become the same C names"):
        export(network(layers=(*clash, logits())), tmp_path / "weight")
    export(network(layers=(IntegerFlatten(name="1", input=PIXEL), logits())), tmp_path / "weight")
    assert "#define LAYER_1_STRIDE (1)" in (tmp_path / "weight" / "tiny.h").read_text()


def test_a_final_pool_needs_logits_too():
    """A convolution whose pool ends the network is refused rather than left unpooled."""
    from arraysmith.models import AveragePool

    spec = NetworkSpec(
        name="pooled",
        input_shape=(1, 4, 4),
        layers=(
            Convolution(name="conv", in_channels=1, out_channels=2, filter=3),
            AveragePool(name="pool"),
        ),
    )
    import torch

    from arraysmith.learning.network import FloatNetwork
    from arraysmith.quantization.quantize import quantize
    from arraysmith.quantization.scheme import Scheme

    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4), np.uint8)
    with pytest.raises(InvalidNetworkError, match="does not end in logits"):
        quantize(
            FloatNetwork(spec).eval(),
            images,
            lambda pixels: torch.from_numpy(pixels / np.float32(255)).unsqueeze(1),
            Scheme(),
        )
