"""The integer network as files: read back, refused when altered, and the same integers in C."""

import json
import pickle
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_networks import chain, every_record
from network_cases import random_inputs, random_network

from arraysmith.errors import InputFileError, InvalidNetworkError, OutputError
from arraysmith.files import json_bytes
from arraysmith.quantization import int8, model_file
from arraysmith.quantization.assembling import TAG
from arraysmith.quantization.c_header import c_header
from arraysmith.quantization.export import ARITHMETIC, Manifest, export, read_export, sealed
from arraysmith.quantization.operations import IntegerAveragePool, IntegerTable
from arraysmith.quantization.parts import arrays, structure
from arraysmith.quantization.products import IntegerConvolution, IntegerLinear


@pytest.fixture(scope="module")
def network():
    """One network with every record, for all tests of files."""
    return every_record()


@pytest.fixture
def folder(network, tmp_path):
    """Its export."""
    export(network, tmp_path / "weight")
    return tmp_path / "weight"


def assert_same(one, other):
    """Two networks are equal in every fact and every number, types included."""
    assert structure(one) == structure(other)
    found, expected = arrays(one), arrays(other)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert np.array_equal(found[name], array), name


def numbers(path, kind=int):
    """The numbers of a text file."""
    return [kind(line) for line in path.read_text().splitlines()]


def signed(path, digits, bits):
    """The integers of a hex file whose lines have that many digits, as two's complement."""
    lines = path.read_text().splitlines()
    assert {len(line) for line in lines} == {digits}
    return [int(line, 16) - (int(line, 16) >> (bits - 1) << bits) for line in lines]


def seal(folder, change):
    """Change the manifest and make its own hash fit again."""
    path = folder / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    path.write_bytes(json_bytes(sealed(change(manifest))))


# ---- what is written


@pytest.mark.parametrize("make", [every_record, chain, lambda: chain(3, activated=True, low=0)])
def test_every_format_gives_the_network_back(make, tmp_path):
    """Text, .pth and safetensors, one after the other: the same facts and numbers at the end."""
    network = make()
    export(network, tmp_path / "weight")
    read = read_export(tmp_path / "weight")
    assert_same(read, network)
    for name in ("quant_model.pth", "quant_model.safetensors"):
        model_file.save(tmp_path / name, read)
        read = model_file.load(tmp_path / name)
        assert_same(read, network)
    assert_same(model_file.load(tmp_path / "weight" / f"{network.name}.safetensors"), network)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_random_networks_come_back_and_run_the_same(seed, tmp_path_factory):
    """Any graph of any records: text, .pth and safetensors give the same network, run alike."""
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    folder = tmp_path_factory.mktemp("random")
    export(network, folder / "weight")
    read = [read_export(folder / "weight")]
    for name in ("quant_model.pth", "quant_model.safetensors"):
        model_file.save(folder / name, network)
        read.append(model_file.load(folder / name))
    inputs = random_inputs(network, rng)
    due = [output for _, output in int8.trace(network, inputs)]
    for each in read:
        assert_same(each, network)
        found = [output for _, output in int8.trace(each, inputs)]
        assert all(np.array_equal(one, other) for one, other in zip(found, due, strict=True))
    shutil.rmtree(folder)


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
    layers = {layer.name: layer for layer in network.layers}
    assert numbers(folder / "tanh.table.txt") == layers["tanh"].table.tolist()
    assert numbers(folder / "norm.bias.txt") == layers["norm"].bias.tolist()
    gain = numbers(folder / "norms.operation_gain.txt", float)
    assert np.array_equal(np.float32(gain), layers["norms"].operation.gain.ravel())


@pytest.mark.parametrize("make", [every_record, lambda: chain(activated=True)])
def test_hex_is_the_two_s_complement_of_the_text(make, tmp_path):
    """Every .hex file holds what its neighbour says, at the width that the manifest states."""
    network = make()
    manifest = export(network, tmp_path / "weight")
    files = {file.name: file for file in manifest.files if file.name.endswith(".hex")}
    whole = arrays(network)
    scalars = ("_scale", "input_zero_point", "output_zero_point", "left_zero_point",
               "right_zero_point")  # fmt: skip
    due = [
        name
        for name, array in whole.items()
        if array.dtype.kind == "i" and (array.ndim or not name.endswith(scalars))
    ]
    assert sorted(files) == sorted(f"{name}.hex" for name in due)
    for name, file in files.items():
        path = tmp_path / "weight" / name
        array = whole[name.removesuffix(".hex")]
        found = signed(path, -(-file.bits // 4), file.bits)
        if array.max() >= 1 << (file.bits - 1):  # a width without a sign
            found = [value % 2**file.bits for value in found]
        assert found == array.ravel().tolist()
        assert file.shape == array.shape
        text = path.with_suffix(".txt")
        assert not text.exists() or numbers(text) == found


def test_manifest_names_every_file(folder):
    """All files of the folder, each with its hash, and nothing else."""
    manifest = json.loads((folder / "manifest.json").read_text())
    names = {file["name"] for file in manifest["files"]} | {"manifest.json"}
    assert names == {path.name for path in folder.iterdir()}


def test_every_record_has_its_arithmetic(network):
    """The manifest states what each kind of layer computes; moves compute nothing."""
    moves = {"reshape", "transpose", "take", "pad", "stretch", "expand", "concat", "constant"}
    stated = {name for names in ARITHMETIC for name in names.split(", ")}
    assert {layer[TAG] for layer in structure(network)["layers"]} - moves <= stated


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
    with pytest.raises(OutputError, match="a file is in the way of the folder; name another"):
        export(network, other / "thesis.tex")


def test_what_cannot_be_read_back_is_not_written(tmp_path):
    """A bias of an island that is NaN: no file, no folder."""
    network = every_record()
    (island,) = (layer for layer in network.islands if layer.name == "convolved")
    island.operation.bias[1] = np.nan
    for write in (export, lambda network, path: model_file.save(path, network)):
        with pytest.raises(InvalidNetworkError) as caught:
            write(network, tmp_path / "weight")
        assert str(caught.value) == "array 'convolved.operation_bias' holds NaN or infinity"
        assert list(tmp_path.iterdir()) == []


# ---- what is refused

ALTERED = "altered or truncated since its export (SHA-256 differs from the manifest)"


def flip(path):
    """Change one digit."""
    path.write_bytes(
        re.sub(rb"\d", lambda found: b"%d" % (9 - int(found[0])), path.read_bytes(), count=1)
    )


def drop_last_line(path):
    """Lose the end of a file."""
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("damage", [flip, drop_last_line])
@pytest.mark.parametrize(
    "name",
    ["conv.1.weight.txt", "fc.bias.txt", "avgpool_scale_zero.txt", "tanh.table.hex", "every.h",
     "every.safetensors", "convolved.operation_weight.txt"],
)  # fmt: skip
def test_altered_files_are_refused(folder, name, damage):
    """One digit or one line less, in any file: refused, and the file is named."""
    damage(folder / name)
    with pytest.raises(InputFileError) as caught:
        read_export(folder)
    assert str(caught.value) == f"{folder / name}: {ALTERED}; export it again"


@pytest.mark.parametrize("name", ["conv.1.weight.txt", "manifest.json"])
def test_missing_files_are_named(folder, name):
    """A file that is gone."""
    (folder / name).unlink()
    with pytest.raises(InputFileError) as caught:
        read_export(folder)
    assert str(caught.value) == f"{folder / name}: cannot be read (No such file or directory)"


@pytest.mark.parametrize(
    ("old", "new"), [('"groups": 2', '"groups": 1'), ('"files"', '"extra": 1, "files"')]
)
def test_an_edited_manifest_is_refused(folder, old, new):
    """The manifest carries a hash of its own, of all that is in it."""
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputFileError) as caught:
        read_export(folder)
    assert str(caught.value) == (
        f"{path}: altered since its export (its own SHA-256 differs); export it again"
    )


@pytest.mark.parametrize(
    "content", [None, b"[]", b"[" * 10**5, b'{"format": 1e999}', b'{"a": 1%s}' % (b"0" * 99)]
)
def test_damaged_manifests_are_refused(folder, content):
    """Half a manifest, another kind of JSON, and numbers that JSON libraries stumble over."""
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:100] if content is None else content)
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


def test_a_file_is_listed_once(folder):
    """Two entries for one file could disagree on its shape."""
    seal(folder, lambda manifest: replace(manifest, files=(*manifest.files, manifest.files[0])))
    with pytest.raises(InputFileError, match=r"manifest\.json: lists a file twice; export it aga"):
        read_export(folder)


def with_layer(name, /, **facts):
    """A change of one layer of a manifest."""

    def change(manifest):
        layers = [
            layer | facts if layer["name"] == name else layer
            for layer in manifest.network["layers"]
        ]
        return replace(manifest, network=manifest.network | {"layers": layers})

    return change


def with_shape(name, shape):
    """A change of the shape that a manifest states of a file."""

    def change(manifest):
        files = tuple(
            replace(file, shape=shape) if file.name == name else file for file in manifest.files
        )
        return replace(manifest, files=files)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda manifest: replace(manifest, format="arraysmith-weights-0"),
            "{0}/manifest.json: format 'arraysmith-weights-0', expected 'arraysmith-weights-2'",
        ),
        (
            lambda manifest: replace(manifest, format="arraysmith-weights-1"),
            (
                "{0}/manifest.json: format 'arraysmith-weights-1' is of an earlier Arraysmith; "
                "export it again"
            ),
        ),
        (
            with_layer("conv.1", name="../conv1"),
            "{0}: name '../conv1': use letters, digits, dashes, dots and underscores",
        ),
        (
            with_shape("conv.1.weight.txt", (4, 1, 3, 4)),
            (
                "{0}/conv.1.weight.txt: 36 lines where 48 integers are due (shape (4, 1, 3, 4)); "
                "export it again"
            ),
        ),
        (
            with_shape("conv.1.weight.txt", (10**9, 10**9)),
            (
                "{0}/conv.1.weight.txt: 36 lines where 1000000000000000000 integers are due (shape "
                "(1000000000, 1000000000)); export it again"
            ),
        ),
        (
            with_shape("convolved.operation_bias.txt", (-3,)),
            "{0}/convolved.operation_bias.txt: a shape of (-3,) cannot be; export it again",
        ),
        (
            with_layer("conv.1", groups=0),
            "{0}: layer 'conv.1': 4 output channels in 0 groups, pool 2",
        ),
        (
            with_layer("conv.1", weight_bits=3),
            "{0}: layer 'conv.1': weights of 3 bits; choose 4 to 16",
        ),
        (
            with_layer("conv.1", requantization=None),
            "{0}: layer 'conv.1': an output needs a requantization",
        ),
        (
            with_layer("add", terms=[{"bits": 8, "signed": True}]),
            "{0}: array 'add.terms_scale' has shape (3,) of float64, expected (1,) of float64",
        ),
    ],
)
def test_sealed_manifests_are_still_checked(folder, change, message):
    """With every hash right, numbers that make no network are refused all the same."""
    seal(folder, change)
    with pytest.raises(InputFileError) as caught:
        read_export(folder)
    assert str(caught.value) == message.format(folder)


# ---- quant_model.pth and safetensors


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


@pytest.fixture
def refused(tmp_path):
    """What `model_file.load` says of a dictionary."""
    path = tmp_path / "quant_model.pth"

    def message(content):
        torch.save(content, path)
        with pytest.raises(InputFileError) as caught:
            model_file.load(path)
        return str(caught.value).removeprefix(f"{path}: ")

    return message


def test_model_file_refuses_what_is_no_network(network, tmp_path, refused):
    """Another format, a missing tensor, a tensor of another shape, half a file."""
    path = tmp_path / "quant_model.pth"
    model_file.save(path, network)
    whole, content = path.read_bytes(), torch.load(path, weights_only=True)
    assert refused({"format": "other"}) == (
        "format 'other', expected 'arraysmith-int8-2'; "
        "give a quant_model.pth that `arraysmith quantize` wrote"
    )
    assert refused({"format": "arraysmith-int8-1"}) == (
        "format 'arraysmith-int8-1' is of an earlier Arraysmith; quantize again"
    )
    tensors = content["tensors"]
    without = {name: tensor for name, tensor in tensors.items() if name != "fc.bias"}
    assert refused({**content, "tensors": without}) == "array 'fc.bias' is missing"
    extra = tensors | {"fc.spare": tensors["fc.bias"]}
    assert refused({**content, "tensors": extra}) == "array 'fc.spare' belongs to no layer"
    wide = tensors | {"fc.bias": tensors["fc.bias"].long() + 2**40}
    assert refused({**content, "tensors": wide}) == "array 'fc.bias' holds values that are no int32"
    assert refused({**content, "structure": "{}"}) == "the network: no field 'inputs'"
    assert refused({**content, "structure": "{"}).startswith("a damaged model (")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputFileError) as caught:
        model_file.load(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1, dtype=torch.int16).expand(10**6, 10**6),
        torch.zeros(4, 4).to_sparse(),
        torch.zeros(4, dtype=torch.complex64),
        torch.zeros(4, dtype=torch.bfloat16),
        torch.zeros(4, requires_grad=True),
        [1, 2],
        None,
    ],
    ids=["strides of 0", "sparse", "complex", "bfloat16", "grad", "list", "none"],
)
def test_model_file_refuses_odd_tensors(network, tmp_path, refused, tensor):
    """A million by a million words that are one word, and what NumPy has no array for."""
    path = tmp_path / "quant_model.pth"
    model_file.save(path, network)
    content = torch.load(path, weights_only=True)
    content["tensors"]["fc.weight"] = tensor
    assert refused(content)


def test_safetensors_that_are_no_model(network, tmp_path):
    """Half a file, another file, one without our description."""
    from safetensors.numpy import save

    path = tmp_path / "model.safetensors"
    model_file.save(path, network)
    for content in (path.read_bytes()[:99], b"", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(InputFileError, match="not a safetensors file"):
            model_file.load(path)
    path.write_bytes(save({"a": np.zeros(3)}))
    with pytest.raises(InputFileError, match="format None, expected 'arraysmith-int8-2'; give a q"):
        model_file.load(path)


# ---- the C header

ENGINE = Path(__file__).parent / "data" / "engine.c"


def c_step(layer):
    """A layer as a macro of engine.c; the header gives all numbers and shapes."""
    names = f"{layer.name}, {layer.name.upper()}"
    source = "".join(layer.inputs).upper()
    activated = "ACTIVATION" if getattr(layer, "activation", None) else "NO_ACTIVATION"
    match layer:
        case IntegerConvolution():
            return f"CONVOLUTION({names}, {source}, {activated})"
        case IntegerAveragePool():
            return f"AVERAGE_POOL({names}, {source})"
        case IntegerTable():
            return f"TABLE({names})"
        case IntegerLinear(output=None):
            return f"LOGITS({names}, {source})"
        case IntegerLinear():
            return f"LINEAR({names}, {source}, {activated})"
    return ""


def c_compiler():
    """The machine's C compiler."""
    compiler = shutil.which("cc")
    return compiler or pytest.skip("no C compiler `cc` here")


OPTIONS = ("-std=c99", "-Wall", "-Werror", "-O1")


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("more", [{}, {"low": 3}, {"activated": True}])
def test_c_computes_the_same_logits(seed, more, tmp_path):
    """The header compiles without a warning, and plain C on its arrays gives our logits."""
    compiler = c_compiler()
    network = chain(seed, **more)
    export(network, tmp_path / "weight")
    (tmp_path / "steps.h").write_text("\n".join(map(c_step, network.layers)))
    program = tmp_path / "program"
    header = f'-DNETWORK_H="{tmp_path}/weight/chain.h"'
    command = [compiler, *OPTIONS, "-I", tmp_path, header, ENGINE, "-o", program]
    subprocess.run(command, check=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (3, 1, 13, 13))
    due = int8.run(network, {"pixels": pixels})["fc2"]
    assert len(np.unique(due)) > 9
    for image, logits in zip(pixels, due, strict=True):
        given = " ".join(map(str, image.ravel()))
        done = subprocess.run([program], input=given, capture_output=True, text=True, check=True)
        assert [int(line) for line in done.stdout.split()] == logits.tolist()


def test_the_header_of_every_record_compiles(folder, tmp_path):
    """Floats, infinities, 64-bit constants and all shapes are C, and what they should be."""
    compiler = c_compiler()
    (tmp_path / "main.c").write_text(
        """
        #include "every.h"
        static const int strides[] = CONV_1_WINDOWS_STRIDES, shape[] = MEAN_SHAPE;
        static const double ends[] = STEPS_OPERATION_STEPS_0_NUMBERS;
        int main(void) {
            return !(CONV_1_GROUPS == 2 && CONV_1_LOW == 3 && CONV_1_HIGH == 127 && IDS_ROWS == 5
                && PIXELS_TYPE_QMAX == 255 && strides[1] == 1 && shape[1] == 3 && shape[2] == 1
                && WIDE_OUTPUT_QMIN == -32768 && ADD_RIGHT_SHIFT == 16 && ends[0] < -1e300
                && norm_bias[3] == ((int64_t)1 << 60) + 1 && norm_bias[0] < 0
                && norms_operation_gain[1] == 2.0f / 3.0f && LOGITS_SIZE == 30
                && sizeof conv_1_weight == 36 && sizeof *norm_multiplier == 4);
        }
        """
    )
    program = tmp_path / "program"
    command = [compiler, *OPTIONS, "-I", folder, tmp_path / "main.c", "-o", program]
    subprocess.run(command, check=True)
    subprocess.run([program], check=True)


@pytest.mark.parametrize("seed", range(4))
def test_headers_of_random_networks_compile(seed, tmp_path):
    """Any graph of any records is strict C99."""
    compiler = c_compiler()
    network = random_network(np.random.default_rng(seed), layers=12)
    (tmp_path / "network.h").write_text(c_header(network, ARITHMETIC))
    (tmp_path / "main.c").write_text('#include "network.h"\nint main(void) { return 0; }\n')
    command = [compiler, *OPTIONS, "-pedantic", "-I", tmp_path, tmp_path / "main.c"]
    subprocess.run([*command, "-o", tmp_path / "program"], check=True)
