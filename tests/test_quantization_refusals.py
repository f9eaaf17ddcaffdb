"""What the integer records, the exporter and the importers refuse, each in one clear message."""

from __future__ import annotations

import copy
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integer_networks import BYTE, WORD, chain, constants, every_record, weighted, windows

from arraysmith.affine import Affine, Requantization
from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.files import json_bytes, sha256
from arraysmith.networks import operations as floats
from arraysmith.networks.functions import Function, Step
from arraysmith.networks.graph import FloatGraph, Input, WeightType
from arraysmith.networks.moves import Pad, Reshape, Take
from arraysmith.quantization import model_file
from arraysmith.quantization.export import MANIFEST, Manifest, _digest, export, read_export, sealed
from arraysmith.quantization.network import IntegerNetwork
from arraysmith.quantization.operations import FloatIsland
from arraysmith.quantization.parts import (
    arrays,
    assemble,
    assemble_graph,
    graph_arrays,
    graph_structure,
    structure,
)
from arraysmith.quantization.products import Activation, IntegerConvolution, IntegerLinear

PIXEL = Affine(scale=1.0, zero_point=-128)


def logits(**changes):
    """A linear layer from four pixels to two logits."""
    fields = weighted("fc", "flatten", (2, 4), PIXEL, None)
    return IntegerLinear(**{**fields, **changes})


def flatten(name="flatten", source="pixels"):
    """Four pixels in a row."""
    return Reshape(name=name, inputs=(source,), shape=(4,))


def network(**changes):
    """Four pixels to two logits."""
    fields = {
        "name": "tiny",
        "inputs": (Input(name="pixels", shape=(1, 2, 2), type=PIXEL),),
        "layers": (flatten(), logits()),
        "outputs": ("fc",),
    }
    return IntegerNetwork(**{**fields, **changes})


# ---- records


ONES = np.ones(2, np.int64)


@pytest.mark.parametrize(
    "change", [{"low": 0}, {"high": 9}, {"activation": Activation(low=ONES, high=ONES, bias=ONES)}]
)
def test_logits_have_no_relu(change):
    """A ReLU on bare accumulators would be silently lost, so it cannot be said."""
    with pytest.raises(InvalidNetworkError, match="logits are the bare accumulator"):
        logits(**change)


def test_logits_have_no_pool():
    """A fused pool ends in a requantization; there is none behind logits."""
    fields = weighted("conv", "pixels", (2, 1, 2, 2), PIXEL, None)
    with pytest.raises(InvalidNetworkError, match="logits are the bare accumulator"):
        IntegerConvolution(**fields, windows=windows(2), pool=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ()}, "network 'tiny' gives 'fc', which none of its layers makes"),
        ({"outputs": ()}, "network 'tiny' gives nothing, which none of its layers makes"),
        (
            {"layers": (flatten("fc"), logits(inputs=("fc",)))},
            "network 'tiny' has two layers named 'fc'",
        ),
        (
            {"layers": (flatten("pixels"), logits(inputs=("pixels",)))},
            "network 'tiny' has two layers named 'pixels'",
        ),
        (
            {"layers": (flatten("a/b"), logits(inputs=("a/b",)))},
            "name 'a/b': use letters, digits, dashes, dots and underscores",
        ),
    ],
)
def test_impossible_networks(changes, message):
    """No layers, equal names and names that lead elsewhere are refused at birth."""
    with pytest.raises(InvalidNetworkError) as caught:
        network(**changes)
    assert str(caught.value) == message


def test_a_network_s_name_is_a_file_s(tmp_path):
    """A name that leads elsewhere is refused by all that writes or reads."""
    evil = network(name="../evil")
    for write in (export, lambda network, path: model_file.save(path, network)):
        with pytest.raises(InvalidNetworkError) as caught:
            write(evil, tmp_path / "weight")
        assert str(caught.value) == (
            "name '../evil': use letters, digits, dashes, dots and underscores"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bits", [-1, 0, 32, 41])
def test_multiplier_widths_are_bounded(bits):
    """Beyond 31 bits a product would leave 64; below 1 there is none."""
    one = np.array([1])
    with pytest.raises(InvalidNetworkError, match=f"multipliers of {bits} bits: choose 1 to 31"):
        Requantization(multiplier=one, right_shift=one, bits=bits)


def test_an_island_is_its_operation():
    """An operation of another name could not be told from the files, which keep one name."""
    other = floats.Elementwise(
        name="other", inputs=("pixels",), steps=(Step(function=Function.ABS),)
    )
    island = FloatIsland(
        name="island", inputs=("pixels",), operation=other, terms=(PIXEL,), output=PIXEL
    )
    with pytest.raises(InvalidNetworkError) as caught:
        structure(network(layers=(island,), outputs=("island",)))
    assert str(caught.value) == "layer 'island': its operation has another name or other inputs"


# ---- parts


def changed(parts, path, value):
    """A copy of some JSON with one value changed."""
    whole = copy.deepcopy(parts)
    place = whole
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return whole


FC = ("layers", 1)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("name",), "a/b", "name 'a/b': use letters, digits, dashes, dots and underscores"),
        (("layers",), {}, "the layers: {}, expected a list"),
        (("extra",), 1, "the network: unknown field 'extra'"),
        ((*FC, "record"), "gru", "layer 'fc': unknown record 'gru'; a newer Arraysmith may read "),
        ((*FC, "record"), ["x"], "layer 'fc': unknown record ['x']; a newer Arraysmith may read "),
        ((*FC, "stride"), 1, "layer 'fc': linear: unknown field 'stride'"),
        ((*FC, "weight_bits"), True, "layer 'fc': field 'weight_bits' is True, expected int"),
        ((*FC, "weight_bits"), 8.0, "layer 'fc': field 'weight_bits' is 8.0, expected int"),
        ((*FC, "weight_bits"), -8, "layer 'fc': weights of -8 bits; choose 4 to 16"),
        ((*FC, "low"), "0", "layer 'fc': field 'low' is '0', expected int"),
        ((*FC, "low"), 2**99, "layer 'fc': field 'low' is 633825300114114700748351602688, expect"),
        ((*FC, "input", "bits"), 10**9, "layer 'fc': field 'input' has 1000000000 bits; choose 4"),
        ((*FC, "input", "signed"), 1, "layer 'fc': field 'input.signed' is 1, expected bool"),
        ((*FC, "input"), None, "layer 'fc': field 'input': None, expected an object"),
        ((*FC, "inputs"), ["nowhere"], "layer 'fc' reads 'nowhere', which nothing before it makes"),
        ((*FC, "inputs"), [], "parts that make no network ("),
        (("layers", 0, "shape"), [2**40], "layer 'flatten': field 'shape' is [1099511627776]; en"),
        (("layers", 0, "shape"), [-2, -2], "layer 'flatten': shape (1, 2, 2) cannot become (-2, "),
        (("layers", 0, "shape"), [1] * 32 + [4], "tensor 'flatten' of shape (1, 1, 1, 1, 1, 1, "),
        (("inputs", 0, "shape"), [2**31, 4], "layer 'pixels': field 'shape' is [2147483648, 4]; "),
        (("inputs", 0, "rows"), -1, "layer 'pixels': field 'rows' is -1, needs at least 0"),
        (("inputs", 0, "type", "scale"), "inf", "scale is inf, needs to be positive and finite"),
        (("inputs", 0, "type", "scale"), 0, "scale is 0.0, needs to be positive and finite"),
    ],
)
def test_a_crafted_structure_is_refused(path, value, message):
    """Unknown, missing and mistyped facts and impossible sizes, each in one line."""
    whole = network()
    with pytest.raises(InvalidNetworkError) as caught:
        assemble(changed(structure(whole), path, value), arrays(whole))
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 250


def test_a_tensor_has_a_size_that_can_be():
    """Sizes of which each is allowed can still be beyond any machine."""
    big = Pad(name="big", inputs=("pixels",), before=(2**30, 2**30, 0), after=(0, 0, 0), value=0.0)
    whole = network(layers=(big,), outputs=("big",))
    with pytest.raises(InvalidNetworkError) as caught:
        assemble(structure(whole), arrays(whole))
    assert str(caught.value) == (
        "tensor 'big' of shape (1073741825, 1073741826, 2): choose at most 31 sizes of at least 1 "
        "and 2^40 words"
    )


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("fc.bias", np.zeros((2, 1)), "layer 'fc': 2 output channels, but zero points, scales and"),
        ("fc.bias", np.array([0, 2**31]), "array 'fc.bias' holds values that are no int32"),
        ("fc.bias", np.array([0, 0.5]), "array 'fc.bias' holds values that are no int32"),
        ("fc.bias", np.array([0, np.inf]), "array 'fc.bias' holds NaN or infinity"),
        ("fc.bias", np.array(["0", "1"]), "array 'fc.bias' has shape (2,) of <U1, expected int32"),
        ("fc.bias", np.array([True, False]), "array 'fc.bias' has shape (2,) of bool, expected"),
        ("fc.bias", np.zeros(0), "array 'fc.bias' is empty"),
        ("fc.weight_scale", np.array([1.0, np.nan]), "array 'fc.weight_scale' holds NaN or infin"),
        ("fc.weight_scale", np.array([1.0, -1]), "layer 'fc': a weight scale is not positive"),
        ("fc.weight_zero_point", np.array([0, 2.0**63]), "array 'fc.weight_zero_point' holds val"),
        ("fc.weight_zero_point", np.array([0, -(2**63)]), "array 'fc.weight_zero_point' holds va"),
        ("fc.input_scale", np.ones(1), "array 'fc.input_scale' has shape (1,) of float64, expect"),
        ("fc.input_zero_point", np.array(300), "zero point 300 is outside -128…127"),
        ("fc.weight", np.full((2, 4), 128), "layer 'fc': weights 128…128 are not int8 (-128…127)"),
        ("fc.weight", np.zeros((2, 5)), "layer 'fc': takes 5 features, got shape (4,)"),
        ("fc.spare", np.zeros(2), "array 'fc.spare' belongs to no layer"),
    ],
)
def test_numbers_that_do_not_fit(name, array, message):
    """Shape, whole numbers, range, finiteness, and no number too many."""
    whole = network()
    with pytest.raises(InvalidNetworkError) as caught:
        assemble(structure(whole), arrays(whole) | {name: array})
    assert str(caught.value).startswith(message)


# ---- exports


def resealed(folder, change):
    """Change a manifest and give it the right SHA-256 again."""
    path = folder / MANIFEST
    manifest = change(msgspec.json.decode(path.read_bytes(), type=Manifest))
    path.write_bytes(msgspec.json.encode(sealed(manifest)))


@pytest.mark.parametrize("name", ["fc.bias.txt", "fc_scale_zero.txt"])
def test_files_that_are_read_must_be_listed(tmp_path, name):
    """Leaving a file out of a resealed manifest does not let its content through unchecked."""
    export(network(), tmp_path / "weight")
    resealed(
        tmp_path / "weight",
        lambda manifest: replace(
            manifest, files=tuple(file for file in manifest.files if file.name != name)
        ),
    )
    with pytest.raises(InputFileError) as caught:
        read_export(tmp_path / "weight")
    path = tmp_path / "weight" / MANIFEST
    assert str(caught.value) == f"{path}: does not list {name}; export it again"


def rewritten(folder, name, text):
    """Change a file and the manifest's hash of it."""
    (folder / name).write_text(text)
    resealed(
        folder,
        lambda manifest: replace(
            manifest,
            files=tuple(
                replace(file, sha256=sha256(text.encode())) if file.name == name else file
                for file in manifest.files
            ),
        ),
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("fc.bias.txt", "1\n", "1 lines where 2 integers are due (shape (2,)); export it again"),
        ("fc.bias.txt", "1\n1.5\n", ", line 2: '1.5' is no integer"),
        ("fc.bias.txt", f"1\n{2**70}\n", ", line 2: '1180591620717411303424' is no integer"),
        ("fc_scale_zero.txt", "input_scale 1.0\n", "weight_zero_point is missing"),
        ("fc_scale_zero.txt", "input_scale\n", ", line 1: 'input_scale' is no `key value` line"),
    ],
)
def test_text_that_says_something_else(tmp_path, name, text, message):
    """A text file with the right hash and the wrong content is named."""
    folder = tmp_path / "weight"
    export(network(), folder)
    rewritten(folder, name, text)
    with pytest.raises(InputFileError) as caught:
        read_export(folder)
    assert str(caught.value) in (f"{folder / name}: {message}", f"{folder / name}{message}")


@pytest.mark.parametrize(("one", "other"), [("a-b", "a_b"), ("a", "A"), ("_1", "layer__1")])
def test_c_names_do_not_collide(one, other, tmp_path):
    """Names that C could not tell apart are refused, and nothing is written."""
    layers = (flatten(one), flatten(other, one), logits(inputs=(other,)))
    with pytest.raises(InvalidNetworkError, match="two names become the same C name "):
        export(network(layers=layers), tmp_path / "weight")
    assert not (tmp_path / "weight").exists()


@pytest.mark.parametrize("name", ["fc_input", "fc_weight", "x.1"])
def test_c_names_that_only_look_alike(name, tmp_path):
    """An input or a layer named as a field of another, as other tools name them, is no clash."""
    given = (Input(name=name, shape=(1, 2, 2), type=PIXEL),)
    layers = (flatten("x", name), logits(inputs=("x",)))
    export(network(inputs=given, layers=layers), tmp_path / "weight")
    header = (tmp_path / "weight" / "tiny.h").read_text()
    assert f"#define {name.replace('.', '_').upper()}_TYPE_QMIN (-128)\n" in header


@pytest.mark.parametrize("name", ["1", "_x", "int", "input"])
def test_names_that_c_reserves_are_prefixed_or_longer(name, tmp_path):
    """A name that begins with a digit or an underscore gets a prefix; a keyword never stands."""
    layers = (flatten(name), logits(inputs=(name,)))
    export(network(layers=layers), tmp_path / "weight")
    prefix = {"1": "LAYER_1", "_x": "LAYER__X"}.get(name, name.upper())
    assert f"#define {prefix}_SIZE (4)\n" in (tmp_path / "weight" / "tiny.h").read_text()


# ---- float graphs


def graph():
    """A float graph with what an integer network has none of: infinities and given types."""
    mask = np.array([0, -np.inf, 0, 1 / 3], np.float32)
    product = floats.Linear(
        name="fc",
        inputs=("masked",),
        weight=np.float32([[1, 2, 3, 4], [5, 6, 7, 0.1]]),
        bias=np.float32([1, 2]),
    )
    return FloatGraph(
        name="masked",
        inputs=(Input(name="x", shape=(4,)), Input(name="ids", shape=(2,), rows=3)),
        operations=(
            floats.Constant(name="mask", inputs=(), value=mask),
            floats.Add(name="masked", inputs=("x", "mask"), signs=(1, -1)),
            product,
            floats.Lookup(name="rows", inputs=("ids",), table=np.ones((3, 2), np.float32)),
            Pad(name="pad", inputs=("rows",), before=(0, 1), after=(0, 0), value=-np.inf),
            Take(name="take", inputs=("pad",), axis=1, indices=np.array([2, 0])),
        ),
        outputs=("fc", "take"),
        types={"masked": WORD, "x": BYTE},
        weight_types={
            "fc": WeightType(scale=np.array([0.1, 0.2]), zero_point=np.array([0, 1]), bits=4)
        },
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_float_graphs_come_back(suffix, tmp_path):
    """All operations, types and numbers of a float graph, and no other kind of file."""
    path = tmp_path / f"float_model{suffix}"
    model_file.save_float(path, graph())
    read = model_file.load_float(path)
    assert graph_structure(read) == graph_structure(graph())
    found, due = graph_arrays(read), graph_arrays(graph())
    assert found.keys() == due.keys()
    for name, array in due.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
    assert read.types == graph().types
    with pytest.raises(InputFileError, match="format 'arraysmith-graph-1', expected 'arraysmith-i"):
        model_file.load(path)
    model_file.save(path, network())
    with pytest.raises(InputFileError, match="format 'arraysmith-int8-2', expected 'arraysmith-gr"):
        model_file.load_float(path)


def test_types_belong_to_tensors():
    """A type of nothing is refused."""
    parts = graph_structure(graph())
    parts["types"]["nothing"] = parts["types"]["x"]
    with pytest.raises(InvalidNetworkError) as caught:
        assemble_graph(parts, graph_arrays(graph()))
    assert str(caught.value) == "a type for 'nothing', which is no tensor"


# ---- anything at all


def paths(part, path=()):
    """The ways to every value of some JSON."""
    if path:
        yield path
    inside = part.items() if isinstance(part, dict) else ()
    for key, value in enumerate(part) if isinstance(part, list) else inside:
        yield from paths(value, (*path, key))


def made_or_refused(error, make, *given):
    """What is made, or None after an error of this kind alone, in one line."""
    try:
        return make(*given)
    except error as caught:
        message = str(caught)
    assert message.isprintable()
    return None


EVERY, GRAPH = every_record(), graph()
STRUCTURE, NUMBERS = structure(EVERY), arrays(EVERY)
PATHS = list(paths(STRUCTURE))
NASTY = [None, True, False, 0, 1, -1, 2, 7, 8, 2**31, -(2**31), 2**63, 10**30, 0.5, 1e308, "", "x",
         "inf", "../x", "conv.1", [], {}, [[]], [0], [1], [-1], [2**31 - 1] * 3, [1] * 40,
         {"bits": 8, "signed": True}, {"bits": 99, "signed": False}]  # fmt: skip
values = st.sampled_from(NASTY) | st.integers() | st.lists(st.integers(-9, 9), max_size=5)


@settings(max_examples=400, deadline=None)
@given(changes=st.lists(st.tuples(st.sampled_from(PATHS), values), min_size=1, max_size=3))
def test_any_structure_is_a_network_or_refused(changes):
    """Facts replaced at random: nothing but InvalidNetworkError escapes."""
    parts = STRUCTURE
    for path, value in changes:
        try:
            parts = changed(parts, path, value)
        except (KeyError, IndexError, TypeError):  # an earlier change took the place away
            continue
    made = made_or_refused(InvalidNetworkError, assemble, parts, NUMBERS)
    if made:  # what is let through is whole
        assert structure(assemble(structure(made), arrays(made))) == structure(made)


@settings(max_examples=200, deadline=None)
@given(path=st.sampled_from(PATHS), other=st.sampled_from(PATHS))
def test_facts_in_each_other_s_place(path, other):
    """Right facts in the wrong place: a network, or one clear error."""
    value = STRUCTURE
    for key in other:
        value = value[key]
    made_or_refused(InvalidNetworkError, assemble, changed(STRUCTURE, path, value), NUMBERS)


ARRAYS = st.sampled_from(
    [np.zeros(()), np.zeros(0), np.zeros((0, 3)), np.ones(1), np.ones((1, 1, 1, 1, 1)),
     np.array([np.nan]), np.array("x"), np.array([None]), np.array([1j]), np.array([True]),
     np.array(2**64 - 1, np.uint64), np.array(-(2**63)), np.array([-(2**63)] * 4),
     np.float16([1, 2]), np.array([1e300] * 4), np.full((4, 4), 2**15 - 1)]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(NUMBERS)),
    other=st.sampled_from(sorted(NUMBERS)),
    array=ARRAYS,
    how=st.sampled_from(["nasty", "other", "gone", "flat", "turned", "shorter", "huge"]),
)
def test_any_numbers_are_a_network_or_refused(name, other, array, how):
    """Arrays replaced, swapped, reshaped and removed: nothing but InvalidNetworkError escapes."""
    old = NUMBERS[name]
    new = {
        "nasty": array,
        "other": NUMBERS[other],
        "flat": old.ravel(),
        "turned": old.T,
        "shorter": old[:-1] if old.ndim else old,
        "huge": old.astype(np.float64) * 1e9,
    }
    numbers = {key: value for key, value in NUMBERS.items() if key != name}
    if how in new:
        numbers[name] = new[how]
    made_or_refused(InvalidNetworkError, assemble, STRUCTURE, numbers)


GRAPH_STRUCTURE, GRAPH_NUMBERS = graph_structure(GRAPH), graph_arrays(GRAPH)


@settings(max_examples=300, deadline=None)
@given(
    path=st.sampled_from(list(paths(GRAPH_STRUCTURE))),
    value=values,
    name=st.sampled_from(sorted(GRAPH_NUMBERS)),
    array=ARRAYS | st.none(),
)
def test_any_float_graph_is_one_or_refused(path, value, name, array):
    """The same for float graphs: facts and numbers at random."""
    numbers = GRAPH_NUMBERS if array is None else GRAPH_NUMBERS | {name: array}
    parts = changed(GRAPH_STRUCTURE, path, value)
    made_or_refused(InvalidNetworkError, assemble_graph, parts, numbers)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An export, its manifest as JSON."""
    folder = tmp_path_factory.mktemp("export") / "weight"
    export(chain(activated=True), folder)
    return folder, msgspec.json.decode((folder / MANIFEST).read_bytes())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_sealed_manifest_is_a_network_or_refused(exported, data):
    """A manifest changed anywhere, with its own hash right: InputFileError or a network."""
    folder, manifest = exported
    path = data.draw(st.sampled_from(list(paths(manifest))))
    raw = changed(manifest, path, data.draw(values.filter(fits_json)))
    (folder / MANIFEST).write_bytes(json_bytes({**raw, "sha256": _digest(raw)}))
    try:
        made_or_refused(InputFileError, read_export, folder)
    finally:
        (folder / MANIFEST).write_bytes(json_bytes(manifest))


def fits_json(value):
    """Whether the encoder takes an integer."""
    return not isinstance(value, int) or -(2**63) <= value < 2**64


LINES = st.sampled_from(["", "0", "nan", "1e999", "-inf", "x", "9" * 5000, "a[0] 1", "a 1", "\x00"])


@settings(max_examples=100, deadline=None)
@given(data=st.data(), lines=st.lists(LINES, max_size=4), keep=st.booleans())
def test_any_text_is_numbers_or_refused(exported, data, lines, keep):
    """Text files replaced, with all hashes right: InputFileError or a network."""
    folder, manifest = exported
    names = [file["name"] for file in manifest["files"] if file["name"].endswith(".txt")]
    name = data.draw(st.sampled_from(names))
    old = (folder / name).read_text()
    try:
        rest = old.splitlines()[len(lines) :] if keep else []
        rewritten(folder, name, "".join(f"{line}\n" for line in [*lines, *rest]))
        made_or_refused(InputFileError, read_export, folder)
    finally:
        (folder / name).write_text(old)
        (folder / MANIFEST).write_bytes(json_bytes(manifest))


def test_changes_do_not_leak_between_examples(exported):
    """After all of that the folder is what it was."""
    folder, _ = exported
    assert structure(read_export(folder)) == structure(chain(activated=True))
    assert constants(1).bits == 16
