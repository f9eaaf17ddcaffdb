"""Any network from end to end: quantize, evaluate, verify, export, simulate, explore, report."""

from __future__ import annotations

import html
import io
import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnx_models import value
from rich.console import Console
from support import EVIL
from torch import nn

import arraysmith
from arraysmith.cli import main, terminal
from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.flow import back_ends
from arraysmith.metrics import Quantization
from arraysmith.quantization.scheme import Scales, Scheme
from arraysmith.reporting import quantization_tables
from arraysmith.store import RunFolder

SHAPE = (3, 12, 12)
COUNT, CLASSES = 24, 5


def drawn(name, *shape, seed=0):
    """An initializer of random floats."""
    floats = np.random.default_rng([seed, len(name)]).normal(0, 0.4, shape)
    return numpy_helper.from_array(floats.astype(np.float32), name)


def scalar(name, number):
    """An initializer of one float."""
    return numpy_helper.from_array(np.float32(number), name)


def mobile(size=12, stem="stem", odd=None, *, island=False):
    """A small network as mobile ones are; `odd` replaces the operation behind the residual."""
    make = helper.make_node
    classify = make("Gemm", ["f", "wg", "bg"], ["y"], name="classify", transB=1)
    if island:  # an operation that has no integer form
        classify = make("InstanceNormalization", ["s", "gain", "b1"], ["y"], name="instance")
    nodes = [
        make("Conv", ["x", "w1", "b1"], ["c"], name=stem, pads=[1, 1, 1, 1], strides=[2, 2]),
        make("BatchNormalization", ["c", "gain", "b1", "mean", "variance"], ["n"], name="norm"),
        make("Clip", ["n", "zero", "six"], ["r"], name="relu6"),
        make("Conv", ["r", "wd", "b1"], ["d"], name="depthwise", pads=[1, 1, 1, 1], group=8),
        make("Add", ["r", "d"], ["a"], name="residual"),
        make(odd or "HardSwish", ["a"], ["s"], name="swish"),
        make("GlobalAveragePool", ["s"], ["p"], name="pool"),
        make("Flatten", ["p"], ["f"], name="flat"),
        classify,
    ]
    weights = [
        drawn("w1", 8, 3, 3, 3),
        drawn("b1", 8),
        drawn("gain", 8),
        drawn("mean", 8),
        numpy_helper.from_array(np.full(8, 1.5, np.float32), "variance"),
        scalar("zero", 0),
        scalar("six", 6),
        drawn("wd", 8, 1, 3, 3),
        drawn("wg", CLASSES, 8),
        drawn("bg", CLASSES),
    ]
    given, made = value("x", ("batch", 3, size, 12)), value("y", None)
    graph = helper.make_graph(nodes, "mobile", [given], [made], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return model.SerializeToString()


class Block(nn.Module):
    """A residual block of torch."""

    def __init__(self):
        """Two convolutions and a linear layer."""
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.classify = nn.Linear(6, CLASSES)

    def forward(self, x):
        """(batch, 3, 12, 12) to (batch, 5)."""
        x = torch.relu(self.norm(self.first(x)))
        x = x + nn.functional.hardswish(self.second(x))
        return self.classify(x.mean((2, 3)))


def images():
    """Samples of the input."""
    return np.random.default_rng(1).normal(size=(COUNT, *SHAPE)).astype(np.float32)


def labels():
    """Classes of the samples."""
    return np.random.default_rng(2).integers(0, CLASSES, COUNT)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the command line runs in, with a model, samples and labels."""
    monkeypatch.chdir(tmp_path)
    Path("net.onnx").write_bytes(mobile())
    np.savez("images.npz", x=images())
    np.save("labels.npy", labels())
    return tmp_path


@pytest.fixture
def arraysmith_says(folder, monkeypatch):
    """Run the command line in this process: (exit code, standard output, standard error)."""
    del folder

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["arraysmith", *map(str, arguments)])
        code, out, error = 0, io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(error):
            try:
                main()
            except SystemExit as ended:
                code = ended.code or 0
        return code, out.getvalue(), error.getvalue()

    return run


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """A run of the ONNX model, for tests that only read it."""
    path = tmp_path_factory.mktemp("onnx")
    (path / "net.onnx").write_bytes(mobile())
    arraysmith.quantize(path / "run", path / "net.onnx", samples=[images()])
    return path / "run"


# ---- all verbs, one after the other


def test_every_verb_on_an_onnx_file(arraysmith_says, folder):
    """The command line from the file to the report, each verb's --json read back."""

    def found(*arguments):
        code, out, error = arraysmith_says(*arguments, "--json")
        assert (code, error) == (0, "")
        return json.loads(out)

    made = found("quantize", "net.onnx", "--samples", "images.npz", "-o", "run", "--sensitivity")
    kinds = {layer["name"]: layer["kind"] for layer in made["layers"]}
    assert kinds == {
        "stem": "Convolution",
        "depthwise": "Convolution",
        "residual": "Add",
        "swish": "Table",
        "pool": "Mean",
        "classify": "Linear",
    }
    assert made["layers"][0]["ends_with"] == "relu6"
    assert made["calibration_samples"] == COUNT
    assert {each["name"] for each in made["sensitivity"]} == {"x", *kinds}
    evaluated = found("evaluate", "-o", "run", "--samples", "images.npz", "--labels", "labels.npy")
    assert evaluated["samples"] == evaluated["comparison"]["images"] == COUNT
    assert evaluated["outputs"][0]["sqnr_db"] > 25
    verified = found("verify", "-o", "run", "--count", "5")
    names = [each["name"] for each in verified["back_ends"]]
    assert names == [
        "torch",
        *(f"ONNX Runtime, optimisations {level}" for level in back_ends.LEVELS),
        "text files",
    ]
    integers = 5 * (2 * 8 * 36 + 2 * 8 * 36 + 8 + 8 + 5)
    assert [each["integers"] for each in verified["back_ends"]] == [integers] * len(names)
    assert [each["different"] for each in verified["back_ends"]] == [0] * len(names)
    exported = found(
        "export", "-o", "run", "--format", "text", "--format", "onnx", "--format", "qdq"
    )
    assert exported["files"] == len(list((folder / "run" / "weight").iterdir()))
    assert exported["models"] == ["run/onnx/net.onnx", "run/onnx/net.qdq.onnx"]
    simulated = found("simulate", "run", "--rows", "8", "--cols", "8", "-o", "run")
    assert (
        len(simulated[0]["layers"]) == 1 + 8 + 1
    )  # each depthwise channel is a layer of the array
    explored = found("explore", "run", "--rows", "4:8:4", "--cols", "4:8:4", "-o", "run")
    assert explored["designs"] == 2 * 2 * 3
    code, out, _ = arraysmith_says("report", "run")
    assert (code, out) == (0, "Report: run/report.html\n")
    page = (folder / "run" / "report.html").read_text()
    for text in ("What each layer costs", "The same integers everywhere", "Float against integers"):
        assert text in page


def test_every_verb_on_a_torch_module(tmp_path):
    """The same in Python, and the integers of the run are those of the module's report."""
    torch.manual_seed(0)
    made = arraysmith.quantize(
        tmp_path, Block(), samples=[images()], example=torch.zeros(1, *SHAPE), sensitivity=True
    )
    assert made.model == "Block"
    assert made.islands == ()
    found = arraysmith.evaluate(tmp_path, [images()], labels())
    assert found.comparison.images == COUNT
    assert found.outputs[0].sqnr_db > 25
    assert arraysmith.verify(tmp_path, [images()], count=4).different == 0
    exported = arraysmith.export(tmp_path, formats=("text", "onnx", "qdq"))
    assert [Path(each).name for each in exported.models] == ["block.onnx", "block.qdq.onnx"]
    for each in exported.models:
        onnx.checker.check_model(onnx.load(each))
    workload = arraysmith.read_workload(tmp_path)
    assert [layer.name for layer in workload.layers] == [
        "first",
        *(f"second_group{channel}" for channel in range(6)),
        "classify",
    ]
    arraysmith.simulate(
        workload,
        (arraysmith.Accelerator(rows=4, cols=4, dataflow=arraysmith.Dataflow.WS),),
        tmp_path,
    )
    assert "What each layer costs" in arraysmith.report(tmp_path).read_text()


def test_powers_of_two_give_an_exact_qdq_model(arraysmith_says):
    """`--scales pow2`: verify runs the QDQ model too, at all levels, on samples."""
    quantize = ("quantize", "net.onnx", "--samples", "images.npz", "-o", "run")
    assert arraysmith_says(*quantize, "--scales", "pow2")[0] == 0
    code, out, _ = arraysmith_says("verify", "-o", "run", "--samples", "images.npz", "--json")
    assert code == 0
    different = {each["name"]: each["different"] for each in json.loads(out)["back_ends"]}
    assert different == dict.fromkeys(different, 0)
    for level in back_ends.LEVELS:
        assert f"QDQ in ONNX Runtime, optimisations {level}" in different


def test_pow2_in_python(tmp_path):
    """The same, of a torch module."""
    torch.manual_seed(0)
    scheme = Scheme(scales=Scales.POW2)
    example = torch.zeros(1, *SHAPE)
    arraysmith.quantize(tmp_path, Block(), scheme, samples=[images()], example=example)
    found = arraysmith.verify(tmp_path, count=3)
    assert found.different == 0
    assert sum(each.name.startswith("QDQ") for each in found.back_ends) == len(back_ends.LEVELS)


# ---- the choices


def test_overrides_choose_for_single_layers(arraysmith_says):
    """A TOML file changes bits of the layers it names, and the table says which."""
    Path("choices.toml").write_text(
        '[layer.stem]\nweight_bits = 4\n[layer."res*"]\nactivation_bits = 12\n'
    )
    quantize = ("quantize", "net.onnx", "--samples", "images.npz", "-o", "run")
    code, out, _ = arraysmith_says(*quantize, "--overrides", "choices.toml", "--json")
    assert code == 0
    layers = {layer["name"]: layer for layer in json.loads(out)["layers"]}
    assert layers["stem"]["weight_bits"] == 4
    assert layers["residual"]["output_bits"] == 12
    assert (layers["depthwise"]["weight_bits"], layers["depthwise"]["output_bits"]) == (8, 8)
    assert arraysmith_says("verify", "-o", "run", "--count", "3")[0] == 0
    arraysmith_says("report", "run")
    assert "Chosen otherwise: stem, res*." in Path("run", "report.html").read_text()


def test_the_table_says_what_was_chosen(arraysmith_says):
    """Only choices that are not the default's are listed."""
    quantize = ("quantize", "net.onnx", "--samples", "images.npz", "-o", "run")
    assert "Scheme: default." in arraysmith_says(*quantize)[1]
    out = arraysmith_says(*quantize, "--weight-bits", "6", "--per-tensor")[1]
    assert "Scheme: default, changed: per_channel False, weight_bits 6." in out
    assert (
        "Scheme: percentile: calibration percentile."
        in arraysmith_says(*quantize, "--scheme", "percentile")[1]
    )


@pytest.mark.parametrize("width", [100, 80])
def test_the_table_of_layers_fits_a_terminal(arraysmith_says, monkeypatch, width):
    """What is essential stays whole; what is left out is named."""
    arraysmith_says("quantize", "net.onnx", "--samples", "images.npz", "-o", "run")
    facts = RunFolder(Path("run")).facts("quantization", Quantization)
    narrow = {"width": width}
    monkeypatch.setattr(terminal, "Console", lambda **given: Console(**(given | narrow)))
    out = io.StringIO()
    with redirect_stdout(out):
        terminal.show_table(quantization_tables.quantized_layers(facts))
    table = out.getvalue().split("(left out")[0].splitlines()
    assert len(table) == 3 + 6  # title, headings, line; no row wraps
    assert max(map(len, table)) <= width
    for name in ("kind", "output range", "bits", "SQNR dB", "signed bits"):
        assert name in table[1]


def test_islands_are_named_and_can_be_refused(arraysmith_says, folder):
    """What runs in floats is said; --integer-only refuses it and writes nothing."""
    Path("net.onnx").write_bytes(mobile(island=True))
    quantize = ("quantize", "net.onnx", "--samples", "images.npz", "-o", "run")
    before = sorted(folder.rglob("*"))
    code, out, error = arraysmith_says(*quantize, "--integer-only")
    assert (code, out) == (1, "")
    assert error == (
        "arraysmith: layer 'instance.normal' (instance-norm) has no integer form and would run in "
        "floats; leave out --integer-only, or replace it\n"
    )
    assert sorted(folder.rglob("*")) == before
    code, out, _ = arraysmith_says(*quantize)
    assert code == 0
    assert "Layer 'instance.normal' runs in floats, for want of an integer form" in out
    arraysmith_says("report", "run")
    page = Path("run", "report.html").read_text()
    assert "In floats, for want of an integer form: instance.normal." in page
    code, out, _ = arraysmith_says("verify", "-o", "run", "--count", "3")
    assert code == 0
    assert out.count("not run") == len(back_ends.LEVELS)
    reason = "Not run: layer 'instance.normal' runs in floats, which a model of integers"
    assert out.count(reason) == 1
    arraysmith_says("report", "run")
    page = html.unescape(Path("run", "report.html").read_text())
    assert page.count(reason) == 1


def test_evil_names_never_reach_the_page(arraysmith_says):
    """A name of markup becomes a safe one on the way in, and a file's name is escaped."""
    Path("net.onnx").write_bytes(mobile(stem=EVIL))
    quantize = ("quantize", "net.onnx", "--samples", "images.npz", "-o", "run")
    code, out, _ = arraysmith_says(*quantize, "--sensitivity", "--json")
    assert code == 0
    name = json.loads(out)["layers"][0]["name"]
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", name)
    assert arraysmith_says("verify", "-o", "run", "--count", "2")[0] == 0
    assert arraysmith_says("export", "-o", "run", "--format", "text")[0] == 0
    path = RunFolder(Path("run")).metrics_path
    text = path.read_text()
    path.write_text(text.replace(json.dumps(name), json.dumps(EVIL)))
    assert path.read_text() != text
    arraysmith_says("report", "run")
    page = Path("run", "report.html").read_text()
    assert "<img src=x" not in page
    assert html.escape(EVIL, quote=False)[:20] in page


# ---- what was tampered with is found


def test_a_back_end_that_gives_another_integer_is_named(arraysmith_says, quantized, monkeypatch):
    """One integer of one layer, one off: back end, layer and index are in the message."""
    load = back_ends._onnx_runtime

    def tampered(network, level):
        run = load(network, level)

        def flip(inputs):
            found = {name: array.copy() for name, array in run(inputs).items()}
            if level == "basic":
                found["residual"][1, 2, 3, 4] += 1
            return found

        return flip

    monkeypatch.setattr(back_ends, "_onnx_runtime", tampered)
    code, _, error = arraysmith_says("verify", "-o", quantized, "--count", "3")
    assert code == 1
    integers = 3 * (4 * 8 * 36 + 8 + 8 + 5)
    assert re.fullmatch(
        "arraysmith: ONNX Runtime, optimisations basic differs in 1 of "
        rf"{integers:,} integers, first in layer 'residual', sample 1, index \(2, 3, 4\): "
        r"(-?\d+), NumPy has (-?\d+)\n",
        error,
    )


def test_without_onnx_the_rest_is_there(quantized, tmp_path):
    """Text is written, and torch and the text files are compared; what is absent says why."""
    run = shutil.copytree(quantized, tmp_path / "run")
    code = (
        "import sys; sys.modules.update(onnx=None, onnxruntime=None)\n"
        "from pathlib import Path; import arraysmith\n"
        f"run = Path({str(run)!r})\n"
        "assert arraysmith.export(run).files\n"
        "facts = arraysmith.verify(run, count=2)\n"
        "assert [each.name for each in facts.back_ends] == ['torch', 'text files'], facts\n"
        "assert not facts.different and len(facts.absent) == 4, facts\n"
        "print(*set(facts.absent.values()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ONNX Runtime needs onnx: pip install 'arraysmith[onnx]'\n"


def test_a_tampered_text_file_is_refused(arraysmith_says):
    """One weight of the export, one off: the file is named."""
    arraysmith_says("quantize", "net.onnx", "--samples", "images.npz", "-o", "run")
    arraysmith_says("export", "-o", "run", "--format", "text")
    path = Path("run", "weight", "stem.weight.txt")
    lines = path.read_text().splitlines()
    lines[0] = str(int(lines[0]) + (-1 if int(lines[0]) > 0 else 1))
    path.write_text("\n".join(lines) + "\n")
    code, _, error = arraysmith_says("verify", "-o", "run", "--count", "2")
    assert code == 1
    assert error.startswith("arraysmith: run/weight/stem.weight.txt: ")
    assert error.count("\n") == 1


def test_an_export_of_an_earlier_network_is_no_bug(arraysmith_says):
    """Quantized again behind an export: verify says what to do, whatever has changed."""
    quantize = ("quantize", "net.onnx", "--samples", "images.npz", "-o", "run")
    arraysmith_says(*quantize)
    arraysmith_says("export", "-o", "run", "--format", "text")
    for choice in (("--weight-bits", "6"), ("--scales", "pow2"), ("--unsigned",)):
        arraysmith_says(*quantize, *choice)
        code, _, error = arraysmith_says("verify", "-o", "run", "--count", "2")
        assert (code, error) == (
            1,
            (
                "arraysmith: run/weight: an export of another network than "
                "run/save_model/quant_model.pth; run `arraysmith export -o run` again\n"
            ),
        )


def test_a_run_of_an_earlier_version_says_so(arraysmith_says):
    """A quantization section as it was recorded for checkpoints is one clear message."""
    arraysmith_says("quantize", "net.onnx", "--samples", "images.npz", "-o", "run")
    path = Path("run", "metrics.json")
    content = json.loads(path.read_text())
    section = content["quantization"]
    section["checkpoint"] = section.pop("model")
    section["checkpoint_sha256"] = section.pop("model_sha256")
    section["calibration_images"] = section.pop("calibration_samples")
    path.write_text(json.dumps(content))
    for verb in (("report", "run"), ("quantize", "net.onnx", "--samples", "images.npz")):
        code, _, error = arraysmith_says(*verb, *(("-o", "run") if verb[0] == "quantize" else ()))
        assert code == 1
        assert error.startswith("arraysmith: run/metrics.json: section 'quantization' is ")
        assert error.endswith("remove the file and run the verbs again\n")
        assert error.count("\n") == 1


# ---- bad input: one line, nothing written

SAMPLES = ["--samples", "images.npz"]
SHAPES = "the network takes (3, 12, 12), or a batch as (n, 3, 12, 12)"
BAD = {
    "truncated": (
        ["cut.onnx", *SAMPLES],
        "cut.onnx: no ONNX model, or cut off or damaged; export it again",
    ),
    "unknown-operation": (
        ["odd.onnx", *SAMPLES],
        (
            "odd.onnx: node 'swish' (Frobnicate): is no operation of opset 17; "
            "export the model again"
        ),
    ),
    "open-size": (
        ["open.onnx", *SAMPLES],
        (
            "open.onnx: input 'x' has no size for dimension 2 ('h'); give all, as in "
            "--shape x=1,3,1,12 (in Python shapes={'x': (1, 3, 1, 12)})"
        ),
    ),
    "wrong-shape-given": (
        ["open.onnx", *SAMPLES, "--shape", "z=1,3,12,12"],
        "open.onnx: a shape is given for 'z', which is no input; its inputs are 'x'",
    ),
    "no-samples": (
        ["net.onnx"],
        (
            "network 'net' needs samples to calibrate on: --samples FOLDER, .npz or .npy "
            "(in Python samples=...), an array for each input: x (3, 12, 12)"
        ),
    ),
    "shape": (
        ["net.onnx", "--samples", "shape.npy"],
        f"shape.npy: 'x' has shape (24, 2, 12, 12); {SHAPES}",
    ),
    "type": (
        ["net.onnx", "--samples", "text.npy"],
        "text.npy: 'x' is <U1, needs numbers (as float32)",
    ),
    "nan": (["net.onnx", "--samples", "nan.npy"], "nan.npy: 'x' has NaN; give finite samples"),
    "equal": (
        ["net.onnx", "--samples", "same.npy"],
        "every value of 'x' is 1; give samples that vary, as real data does",
    ),
    "empty-folder": (["net.onnx", "--samples", "empty"], "empty: no .npy or .npz files"),
    "missing": (
        ["net.onnx", "--samples", "none.npz"],
        "none.npz: cannot be read (No such file or directory)",
    ),
    "unknown-entry": (
        ["net.onnx", *SAMPLES, "--overrides", "entry.toml"],
        (
            "entry.toml: [layer.\"stem\"] unknown entry 'weigth_bits' (line 2); did you mean "
            "'weight_bits'?"
        ),
    ),
    "unknown-layer": (
        ["net.onnx", *SAMPLES, "--overrides", "layer.toml"],
        "the override of 'stam' matches no layer; near ones: 'stem'",
    ),
}


@pytest.fixture
def bad_files(folder):
    """Everything that `BAD` names."""
    whole = mobile()
    (folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (folder / "odd.onnx").write_bytes(mobile(odd="Frobnicate"))
    (folder / "open.onnx").write_bytes(mobile(size="h"))
    np.save("shape.npy", images()[:, :2])
    np.save("text.npy", np.array(["a", "b"]))
    nan = images()
    nan[3, 0, 0, 0] = np.nan
    np.save("nan.npy", nan)
    np.save("same.npy", np.ones_like(nan))
    np.save("short.npy", labels()[:3])
    np.save("large.npy", np.full(COUNT, CLASSES))
    (folder / "empty").mkdir()
    (folder / "entry.toml").write_text("[layer.stem]\nweigth_bits = 4\n")
    (folder / "layer.toml").write_text("[layer.stam]\nweight_bits = 4\n")


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
@pytest.mark.usefixtures("bad_files")
def test_bad_input_of_quantize(arraysmith_says, folder, arguments, message):
    """One line that names thing, value and way out; exit 1; the folder is as it was."""
    before = sorted(folder.rglob("*"))
    assert arraysmith_says("quantize", *arguments, "-o", "run") == (
        1,
        "",
        f"arraysmith: {message}\n",
    )
    assert sorted(folder.rglob("*")) == before


LABELS = {
    "length": (
        "short.npy",
        (
            "short.npy: labels of shape (3,) for 24 samples with an output of shape (5,); give "
            "one class a sample"
        ),
    ),
    "class": ("large.npy", "large.npy: labels are not all whole numbers of 0…4"),
    "missing": ("none.npy", "none.npy: cannot be read (No such file or directory)"),
}


@pytest.mark.parametrize(("file", "message"), LABELS.values(), ids=LABELS)
@pytest.mark.usefixtures("bad_files")
def test_bad_labels(arraysmith_says, quantized, file, message):
    """The file is named, and metrics.json stays as it was."""
    before = (quantized / "metrics.json").read_bytes()
    given = ("--samples", "images.npz", "--labels", file)
    found = arraysmith_says("evaluate", "-o", quantized, *given)
    assert found == (1, "", f"arraysmith: {message}\n")
    assert (quantized / "metrics.json").read_bytes() == before


@pytest.mark.parametrize("verb", ["evaluate", "verify", "export"])
def test_a_run_without_a_network(arraysmith_says, folder, verb):
    """The verb that has to come first is named."""
    before = sorted(folder.rglob("*"))
    given = ["--samples", "images.npz"] if verb != "export" else []
    assert arraysmith_says(verb, "-o", "absent", *given) == (
        1,
        "",
        (
            "arraysmith: absent/save_model/quant_model.pth: not there; run `arraysmith quantize -o "
            "absent` first\n"
        ),
    )
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--labels", "labels.npy"],
        ["verify", "--count", "0"],
        ["quantize", "net.onnx", "--shape", "x"],
        ["quantize", "net.onnx", "--weight-bits", "3"],
        ["export", "--format", "pdf"],
    ],
)
def test_wrong_usage(arraysmith_says, folder, arguments):
    """Exit code 2, and nothing written."""
    before = sorted(folder.rglob("*"))
    code, out, error = arraysmith_says(*arguments, "-o", "run")
    assert (code, out) == (2, "")
    assert "Error: " in error
    assert sorted(folder.rglob("*")) == before


def test_a_module_needs_an_example(tmp_path):
    """In Python; nothing is written."""
    with pytest.raises(InvalidNetworkError) as caught:
        arraysmith.quantize(tmp_path / "run", Block(), samples=[images()])
    assert str(caught.value) == (
        "a Block needs an example of its inputs, batch first: example=torch.zeros(1, 3, 224, 224)"
    )
    assert list(tmp_path.iterdir()) == []


def test_samples_of_another_network_are_refused_by_every_verb(quantized):
    """Evaluate and verify check them as quantize does."""
    for verb in (arraysmith.evaluate, arraysmith.verify):
        with pytest.raises(InputFileError, match=r"'x' has shape \(2, 1, 12, 12\)"):
            verb(quantized, [np.zeros((2, 1, 12, 12), np.float32)])


LIMITED = """
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.argv = {arguments!r}
from arraysmith.cli import main, terminal
main()
"""
SLOW = """
import sys
from arraysmith.flow import quantization
quantization.calibration_samples = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
sys.argv = {arguments!r}
from arraysmith.cli import main, terminal
main()
"""
FULL = "cannot be written (File too large)"
ENDINGS = {
    "full": ("float_model.safetensors", -1, f"float_model.safetensors: {FULL}"),
    "full-later": ("float_model.safetensors", 500, f"quant_model.pth: {FULL}"),
    "interrupted": ("", 0, "interrupted; what was finished is kept"),
}


@pytest.mark.parametrize(("file", "more", "message"), ENDINGS.values(), ids=list(ENDINGS))
def test_a_full_disk_and_ctrl_c_leave_the_run_whole(folder, quantized, file, more, message):
    """One line, exit 1; the networks that were there are as they were, nothing half is left.

    The disk has room for so many bytes more than `file` has, and the integer network has the larger
    file.
    """
    shutil.copytree(quantized, "run")
    program = LIMITED if file else SLOW
    limit = Path("run", "save_model", file).stat().st_size + more
    assert limit < Path("run", "save_model", "quant_model.pth").stat().st_size or not file
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    given = ["arraysmith", "quantize", "net.onnx", *SAMPLES, "-o", "run", "--unsigned"]
    finished = subprocess.run(
        [sys.executable, "-c", program.format(arguments=given, limit=limit)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    line = finished.stderr.strip()  # an interrupt first ends the line that it met
    assert line.startswith("arraysmith: ")
    assert message in line
    assert "\n" not in line
    after = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert {path: content for path, content in after.items() if path.name != ".lock"} == {
        path: content for path, content in before.items() if path.name != ".lock"
    }
