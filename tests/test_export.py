"""The int8 network as files: read back, refused when altered, and the same integers in C."""

import json
import pickle
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from arraysmith.errors import InputFileError, OutputError
from arraysmith.files import json_bytes
from arraysmith.learning.network import FloatNetwork
from arraysmith.models import (
    Activation,
    ActivationKind,
    AveragePool,
    Convolution,
    Flatten,
    Linear,
    NetworkSpec,
)
from arraysmith.quantization import export as export_module
from arraysmith.quantization import int8, model_file
from arraysmith.quantization.export import export, read_export
from arraysmith.quantization.network import (
    IntegerAveragePool,
    IntegerConv2d,
    IntegerLinear,
    IntegerTable,
)
from arraysmith.quantization.parts import arrays
from arraysmith.quantization.quantize import quantize
from arraysmith.quantization.scheme import SCHEMES

SIZE = 10


def images(count, seed=0):
    """(count, SIZE, SIZE) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE), np.uint8)


def small_network(scheme="default", first="relu"):
    """conv, activation, pool, strided conv, tanh, flatten, linear: every kind of integer layer."""
    layers = (
        Convolution(name="conv1", in_channels=1, out_channels=3, filter=3, padding=1),
        Activation(name="act1", kind=ActivationKind(first)),
        AveragePool(name="pool1"),
        Convolution(name="conv2", in_channels=3, out_channels=4, filter=2, stride=2, padding=1),
        Activation(name="act2", kind=ActivationKind.TANH),
        Flatten(name="flatten"),
        Linear(name="fc1", in_features=36, out_features=5),
    )
    spec = NetworkSpec(name="small", input_shape=(1, SIZE, SIZE), layers=layers)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = FloatNetwork(spec).eval()
    return quantize(
        network,
        images(50),
        lambda pixels: (torch.from_numpy(pixels.copy()).float() / 255 - 0.3).unsqueeze(1),
        SCHEMES[scheme],
    ).network


@pytest.fixture(scope="module")
def network():
    """One quantized network for all tests of files."""
    return small_network()


@pytest.fixture
def folder(network, tmp_path):
    """Its export."""
    export(network, tmp_path / "weight")
    return tmp_path / "weight"


def assert_same(one, other):
    """Two networks are equal in every number."""
    found, expected = arrays(one), arrays(other)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert np.array_equal(found[name], array), name


def numbers(path):
    """The integers of a text file."""
    return [int(line) for line in path.read_text().splitlines()]


def signed(path, digits, bits):
    """The integers of a hex file whose lines have that many digits, as two's complement."""
    lines = path.read_text().splitlines()
    assert {len(line) for line in lines} == {digits}
    return [int(line, 16) - (int(line, 16) >> (bits - 1) << bits) for line in lines]


def seal(folder, change):
    """Change the manifest and make its own hash fit again."""
    path = folder / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=export_module.Manifest)
    manifest = change(manifest)
    manifest = replace(manifest, sha256=export_module._digest(manifest))
    path.write_bytes(json_bytes(manifest))


# ---- what is written


def test_files_hold_the_plain_numbers(network, folder):
    """Weights and biases are one decimal a line, row-major; scales and the rest by name."""
    for layer in network.weighted_layers:
        assert numbers(folder / f"{layer.name}.weight.txt") == layer.weight.ravel().tolist()
        assert numbers(folder / f"{layer.name}.bias.txt") == layer.bias.tolist()
        pairs = (folder / f"{layer.name}_scale_zero.txt").read_text().splitlines()
        named = dict(pair.split(" ") for pair in pairs)
        assert float(named["input_scale"]) == layer.input.scale
        assert int(named["input_zero_point"]) == layer.input.zero_point
        for channel, scale in enumerate(layer.weight_scale):
            assert float(named[f"weight_scale[{channel}]"]) == scale
    assert numbers(folder / "input_table.txt") == network.input_table.tolist()
    assert numbers(folder / "act2.table.txt") == network.layers[2].table.tolist()


@pytest.mark.parametrize("scheme", ["default", "multiplier-31", "shift-only"])
def test_hex_is_the_two_s_complement_of_the_text(scheme, tmp_path):
    """Every .hex file holds what its neighbour says, at the width that the manifest states."""
    network = small_network(scheme)
    manifest = export(network, tmp_path / "weight")
    files = {file.name: file for file in manifest.files if file.name.endswith(".hex")}
    assert len(files) == 1 + 1 + 2 * 5 + 3  # pixels, tanh, two requantized layers, the logits
    for name, file in files.items():
        path = tmp_path / "weight" / name
        found = signed(path, -(-file.bits // 4), file.bits)
        assert len(found) == np.prod(file.shape)
        text = path.with_suffix(".txt")
        if text.exists():
            assert found == numbers(text)
            continue
        layer, key = name.split(".")[:2]
        scalars = (tmp_path / "weight" / f"{layer}_scale_zero.txt").read_text().splitlines()
        due = [int(line.split(" ")[1]) for line in scalars if line.startswith(f"{key}[")]
        assert [value % 2**file.bits for value in found] == [value % 2**file.bits for value in due]
        assert all(-(2**7) <= value < 2**file.bits for value in due)


def test_manifest_names_every_file(folder):
    """All files of the folder, each with its hash, and nothing else."""
    manifest = json.loads((folder / "manifest.json").read_text())
    names = {file["name"] for file in manifest["files"]} | {"manifest.json"}
    assert names == {path.name for path in folder.iterdir()}


def test_export_replaces_its_own_folder_and_no_other(network, folder, tmp_path):
    """A second export leaves nothing of the first; a folder with other files is not touched."""
    (folder / "old.weight.txt").write_text("1\n")
    export(network, folder)
    assert not (folder / "old.weight.txt").exists()
    assert_same(read_export(folder), network)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years")
    with pytest.raises(OutputError) as caught:
        export(network, other)
    assert str(caught.value) == (
        f"{other}: holds other files and no manifest.json; an export replaces its folder as a "
        "whole, so name an empty or new one with --to"
    )
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]


# ---- what is refused

ALTERED = "altered or truncated since its export (SHA-256 differs from the manifest)"


def flip(path):
    """Change one digit."""
    text = path.read_text()
    path.write_text(text.replace("1", "2", 1))


def drop_last_line(path):
    """Lose the end of a file."""
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("damage", [flip, drop_last_line])
@pytest.mark.parametrize(
    "name",
    ["conv1.weight.txt", "fc1.bias.txt", "conv2_scale_zero.txt", "act2.table.hex", "small.h"],
)
def test_altered_files_are_refused(folder, name, damage):
    """One digit or one line less, in any file: refused, and the file is named."""
    damage(folder / name)
    with pytest.raises(InputFileError) as caught:
        read_export(folder)
    assert str(caught.value) == f"{folder / name}: {ALTERED}; export it again"


@pytest.mark.parametrize("name", ["conv1.weight.txt", "manifest.json"])
def test_missing_files_are_named(folder, name):
    """A file that is gone."""
    (folder / name).unlink()
    with pytest.raises(InputFileError) as caught:
        read_export(folder)
    assert str(caught.value) == f"{folder / name}: cannot be read (No such file or directory)"


def test_an_edited_manifest_is_refused(folder):
    """The manifest carries a hash of its own."""
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"stride": 2', '"stride": 1'))
    with pytest.raises(InputFileError) as caught:
        read_export(folder)
    assert str(caught.value) == (
        f"{path}: altered since its export (its own SHA-256 differs); export it again"
    )


def test_a_truncated_manifest_is_refused(folder):
    """Half a manifest is no JSON."""
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputFileError) as caught:
        read_export(folder)
    assert str(caught.value).startswith(f"{path}: damaged (")


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname", "a/b", ".hidden", ""])
def test_paths_in_a_manifest_are_refused(folder, name):
    """A file name that leads elsewhere, in a manifest whose own hash fits."""
    (folder.parent / "secret.txt").write_text("1\n")

    def change(manifest):
        files = (replace(manifest.files[0], name=name), *manifest.files[1:])
        return replace(manifest, files=files)

    seal(folder, change)
    with pytest.raises(InputFileError) as caught:
        read_export(folder)
    path = folder / "manifest.json"
    assert str(caught.value) == f"{path}: refused file name {name!r}"


def with_first_layer(**fields):
    """A change of the first layer of a manifest."""

    def change(manifest):
        layers = manifest.network.layers
        layers = (replace(layers[0], **fields), *layers[1:])
        return replace(manifest, network=replace(manifest.network, layers=layers))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda manifest: replace(manifest, format="arraysmith-weights-0"),
            "{0}/manifest.json: format 'arraysmith-weights-0', expected 'arraysmith-weights-1'",
        ),
        (with_first_layer(name="../conv1"), "{0}/manifest.json: refused layer name '../conv1'"),
        (
            with_first_layer(weight_shape=(3, 1, 3, 4)),
            (
                "{0}/conv1.weight.txt: 27 lines where 36 integers are due (shape (3, 1, 3, 4)); "
                "export it again"
            ),
        ),
        (
            with_first_layer(stride=0),
            "{0}: layer 'conv1': stride 0, padding 1, pool 2; needs at least 1, 0 and 1",
        ),
        (
            with_first_layer(multipliers=1),
            "{0}: array 'conv1.multiplier' has shape (3,) of float64, expected (1,) of int64",
        ),
        (
            with_first_layer(multiplier_bits=None),
            "{0}: layer 'conv1': an output needs a requantization",
        ),
    ],
)
def test_sealed_manifests_are_still_checked(folder, change, message):
    """With every hash right, numbers that make no network are refused all the same."""
    seal(folder, change)
    with pytest.raises(InputFileError) as caught:
        read_export(folder)
    assert str(caught.value) == message.format(folder)


# ---- quant_model.pth


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_model_file_refuses_pickles(tmp_path):
    """A pickle of other objects is not opened, so what it would run does not run."""

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "quant_model.pth"
    for write in (lambda: path.write_bytes(pickle.dumps(Trap())), lambda: torch.save(Trap(), path)):
        write()
        with pytest.raises(InputFileError) as caught:
            model_file.load(path)
        assert str(caught.value) == (
            f"{path}: refused: not a checkpoint of tensors and plain data "
            "(a pickle of other objects could run code when opened)"
        )
    assert not (tmp_path / "sprung").exists()


def test_model_file_refuses_what_is_no_network(network, tmp_path):
    """Another format, a missing tensor, a tensor of another shape, half a file."""
    path = tmp_path / "quant_model.pth"
    model_file.save(path, network)
    assert_same(model_file.load(path), network)
    whole, content = path.read_bytes(), torch.load(path, weights_only=True)

    def message(content):
        torch.save(content, path)
        with pytest.raises(InputFileError) as caught:
            model_file.load(path)
        return str(caught.value)

    assert message({"format": "other"}) == (
        f"{path}: format 'other', expected 'arraysmith-int8-1'; "
        "give a quant_model.pth that `arraysmith quantize` wrote"
    )
    tensors = content["tensors"]
    without = {name: tensor for name, tensor in tensors.items() if name != "fc1.bias"}
    assert message({**content, "tensors": without}) == f"{path}: array 'fc1.bias' is missing"
    wide = tensors | {"fc1.bias": tensors["fc1.bias"].long() + 2**40}
    assert message({**content, "tensors": wide}) == (
        f"{path}: array 'fc1.bias' holds values that are no int32"
    )
    assert message({**content, "structure": "{}"}).startswith(f"{path}: a damaged model (")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputFileError) as caught:
        model_file.load(path)
    assert str(caught.value).startswith(f"{path}: ")


# ---- the C header

ENGINE = Path(__file__).parent / "data" / "engine.c"


def c_step(layer, before, after):
    """A layer as a macro of engine.c: the header gives the numbers, the shapes come from here."""
    names = f"{layer.name}, {layer.name.upper()}"
    shapes = ", ".join(f"SHAPE({', '.join(map(str, shape))})" for shape in (before, after))
    match layer:
        case IntegerConv2d():
            return f"CONV2D({names}, {shapes}, {layer.weight.shape[2]}, {layer.output.qmin})"
        case IntegerAveragePool():
            return f"AVGPOOL2D({names}, {shapes}, {layer.output.qmin})"
        case IntegerTable():
            return f"TABLE({layer.name}, {np.prod(after)}, {layer.input.qmin})"
        case IntegerLinear():
            return f"LOGITS({names}, {before[0]})"
    return ""


@pytest.mark.parametrize(
    ("scheme", "first"),
    [
        ("default", "relu"),
        ("default", "sigmoid"),
        ("textbook", "relu"),
        ("unsigned", "tanh"),
        ("shift-only", "relu"),
    ],
)
def test_c_computes_the_same_logits(scheme, first, tmp_path):
    """The header compiles without a warning, and plain C on its arrays gives our logits."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler `cc` here")
    network = small_network(scheme, first)
    export(network, tmp_path / "weight")
    shapes = network.shapes
    steps = map(c_step, network.layers, shapes[:-1], shapes[1:])
    (tmp_path / "steps.h").write_text("\n".join(steps))
    program = tmp_path / "program"
    header = f'-DNETWORK_H="{tmp_path}/weight/small.h"'
    options = ["-std=c99", "-Wall", "-Werror", "-O1", "-I", tmp_path, header]
    subprocess.run([compiler, *options, ENGINE, "-o", program], check=True)
    for image in images(3, seed=9):
        pixels = " ".join(map(str, image.ravel()))
        done = subprocess.run([program], input=pixels, capture_output=True, text=True, check=True)
        logits = [int(line) for line in done.stdout.split()]
        assert logits == int8.run(network, image[None])[0].tolist()
