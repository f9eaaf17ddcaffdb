"""The command line as a person meets it: results, bad input in one line, exit codes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

TOPOLOGY = (
    "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, "
    "Strides,\nconv1, 32, 32, 5, 5, 1, 6, 1,\nconv2, 14, 14, 5, 5, 6, 16, 1,\n"
)


@pytest.fixture
def topology(tmp_path):
    """A topology of two layers."""
    path = tmp_path / "two.csv"
    path.write_text(TOPOLOGY)
    return path


def config_file(folder, run_name):
    """A SCALE-Sim config of an 8×8 array, CALC mode."""
    path = folder / "array.cfg"
    path.write_text(
        f"[general]\nrun_name = {run_name}\n[architecture_presets]\nArrayHeight: 8\n"
        "ArrayWidth: 8\nIfmapSramSzkB: 64\nFilterSramSzkB: 64\nOfmapSramSzkB: 64\n"
        "Dataflow : os\n[run_presets]\nInterfaceBandwidth: CALC\n"
    )
    return path


def refused(finished, message, code=1):
    """The whole message is one line on standard error, with the exit code, and no traceback."""
    assert finished.stderr == f"arraysmith: {message}\n"
    assert finished.returncode == code


def test_help_names_every_verb_with_an_example(command):
    """`--help` of every verb works and shows an example."""
    listed = command("--help").stdout
    for verb in ("train", "quantize", "evaluate", "export", "simulate", "explore", "report"):
        assert f"  {verb} " in listed
        assert f"arraysmith {verb}" in command(verb, "--help").stdout


def test_wrong_usage_exits_with_2(command, topology):
    """An unknown option, a missing argument and two sources at once are wrong usage."""
    assert command("explore", "--no-such-option").returncode == 2
    assert command("simulate").returncode == 2
    assert command("simulate", "runs", "-t", topology).returncode == 2


def test_simulate_prints_and_writes(command, topology, tmp_path):
    """A topology and a config give SCALE-Sim's figures, on screen, as JSON and as CSV."""
    config = config_file(tmp_path, "small")
    finished = command("simulate", "-c", config, "-t", topology, "-p", "out", "--json")
    assert finished.returncode == 0, finished.stderr
    (found,) = json.loads(finished.stdout)
    assert found["model"] == "scalesim CALC"
    assert found["layers"][0]["Total Cycles"] == 3821  # a run of SCALE-Sim 3.0.0, visible_000
    rows = (tmp_path / "out" / "small" / "COMPUTE_REPORT.csv").read_text().splitlines()
    assert len(rows) == 3
    assert rows[1].startswith("0, 4539, 3821, 0, 48.089505365087675, 75.0, ")
    shown = command("simulate", "-t", topology, "-o", "run")
    assert "model: scalesim CALC" in shown.stdout
    assert len((tmp_path / "run" / "simulation.csv").read_text().splitlines()) == 1 + 2 * 3
    assert (tmp_path / "run" / "figs" / "scale_sim_result.png").exists()


def test_explore_answers_with_proof(command, topology, tmp_path):
    """JSON has the best design and how many were covered; pandas opens the file of all of them."""
    import pandas as pd

    from arraysmith import read_designs

    finished = command(
        "explore", "-t", topology, "--rows", "1:8", "--cols", "2:8:2", "--dataflow", "os,ws",
        "--json", "-o", "out",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["designs"] == 8 * 4 * 2
    assert set(found["best"]) >= {"rows", "cols", "dataflow", "total_cycles"}
    frame = pd.DataFrame(read_designs(tmp_path / "out" / "designs.npz"))
    assert len(frame) == found["designs"]
    assert frame["total_cycles"].min() == found["best"]["total_cycles"]
    shown = command("explore", "-t", topology, "--rows", "4", "--cols", "4", "-o", "out")
    assert "the best by cycles of 3 designs: proven, 3 evaluated" in shown.stdout


def test_report_of_an_exploration_alone(command, topology, tmp_path):
    """A run without a network has a report too."""
    command("explore", "-t", topology, "--rows", "1:4", "--cols", "1:4", "-o", "out")
    finished = command("report", "out")
    assert finished.stdout == "Report: out/report.html\n"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "the best by cycles of 48 designs: proven" in page


BAD = {
    "no-such-file": (
        ["simulate", "-t", "none.csv"],
        "none.csv: cannot be read (No such file or directory)",
    ),
    "no-such-model": (
        ["simulate", "none"],
        "none: not there; give a run folder, a quant_model.pth, an .onnx file or a topology .csv",
    ),
    "zero-rows": (
        ["simulate", "-t", "two.csv", "--rows", "0", "--cols", "4"],
        "an array of 0×4 PEs cannot be; give at least 1×1",
    ),
    "zero-bandwidth": (
        ["simulate", "-t", "two.csv", "--bandwidth", "0"],
        "a DRAM bandwidth of 0.0 words a cycle cannot be; give a positive number",
    ),
    "zero-buffer": (
        ["simulate", "-t", "two.csv", "--ifmap-kib", "0"],
        "ifmap_buffer_kib is 0, needs at least 1",
    ),
    "empty-range": (
        ["explore", "-t", "two.csv", "--rows", "9:3"],
        "--rows '9:3' is an empty range; give A:B[:STEP], A ≤ B, STEP ≥ 1",
    ),
    "no-range": (
        ["explore", "-t", "two.csv", "--cols", "big"],
        "--cols 'big' is no range; give A:B, A:B:STEP or a list like 8,16,32",
    ),
    "range-from-zero": (
        ["explore", "-t", "two.csv", "--rows", "0:4"],
        "--rows '0:4': sizes go from 1 to 65536",
    ),
    "dataflow": (
        ["explore", "-t", "two.csv", "--dataflow", "os,rs"],
        "dataflow 'rs' is unknown; give os, ws, is or a list",
    ),
    "max-pes": (
        ["explore", "-t", "two.csv", "--rows", "4:8", "--cols", "4:8", "--max-pes", "15"],
        (
            "max_pes 15 and the ranges of the axes contradict each other: of 75 designs the "
            "nearest has 16; loosen it, or give other ranges"
        ),
    ),
    "nothing-recorded": (
        ["report", "empty"],
        (
            "empty/metrics.json: nothing recorded; run `arraysmith demo -o empty` or another verb "
            "with this output folder first"
        ),
    ),
    "nothing-quantized": (
        ["export", "-o", "empty"],
        "empty/save_model/quant_model.pth: not there; run `arraysmith quantize -o empty` first",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
@pytest.mark.usefixtures("topology")
def test_bad_input_is_one_line(command, tmp_path, arguments, message):
    """One message that names thing, value and way out; exit 1; nothing written."""
    before = sorted(tmp_path.rglob("*"))
    refused(command(*arguments), message)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a, 8, 8, 3, 3, 1, 4", "6 numbers after the name, a conv row has 7"),
        ("a, 8, x, 3, 3, 1, 4, 1,", "ifmap_cols is 'x', not a whole number"),
        ("a, 8, 8, 3, 3, 0, 4, 1,", "layer 'a': in_channels is 0, needs at least 1"),
        ("a, 8, 8, 3, 3, -2, 4, 1,", "layer 'a': in_channels is -2, needs at least 1"),
        ("a, 8, 8, 9, 3, 1, 4, 1,", "layer 'a': a filter of 9 rows is larger than its ifmap of 8"),
    ],
)
def test_bad_rows_are_named(command, topology, row, message):
    """File, line and layer of a bad row are in the message."""
    topology.write_text(f"header\n{row}\n")
    finished = command("explore", "-t", topology)
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"arraysmith: {topology}, line 2")
    assert message in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_an_output_that_cannot_be_written(command, topology, tmp_path):
    """A file in the way of the output folder is named and left alone."""
    (tmp_path / "taken").write_text("mine")
    finished = command("explore", "-t", topology, "--rows", "4", "--cols", "4", "-o", "taken")
    refused(
        finished,
        "taken/designs.npz: cannot be written (File exists); choose another folder, or free "
        "space and rights there",
    )
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_full_disk_leaves_earlier_outputs_whole(command, topology, tmp_path):
    """When a file cannot grow the verb fails in one line; what was there stays."""
    arguments = ["explore", "-t", topology, "--rows", "1:4", "--cols", "1:4", "-o", "out"]
    assert command(*arguments).returncode == 0
    before = (tmp_path / "out" / "designs.npz").read_bytes()
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64));"
    limited += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += f"import sys; sys.argv = ['arraysmith', *{[str(a) for a in arguments]!r}];"
    limited += "from arraysmith.cli import main; main()"
    finished = subprocess.run(
        [sys.executable, "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 1
    assert finished.stderr == (
        "arraysmith: out/designs.npz: cannot be written (File too large); choose another "
        "folder, or free space and rights there\n"
    )
    assert (tmp_path / "out" / "designs.npz").read_bytes() == before
    assert [path.name for path in (tmp_path / "out").glob(".*")] == [".lock"]


def test_a_run_name_cannot_leave_the_output_folder(command, topology, tmp_path):
    """A config's run name with a path in it is refused."""
    config = config_file(tmp_path, "../../evil")
    refused(
        command("simulate", "-c", config, "-t", topology, "-p", "out"),
        "run name '../../evil' cannot be a folder; use letters, digits, dots, dashes, underscores",
    )


def test_missing_data_says_where_to_put_it(command, tmp_path):
    """Without MNIST the message names the folder and the ways to get it."""
    finished = command("train", "--data", tmp_path / "nowhere", "-o", "run")
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"arraysmith: MNIST is not in {tmp_path / 'nowhere'}: ")
    assert not (tmp_path / "run").exists()


def test_a_damaged_metrics_file_is_named(command, topology, tmp_path):
    """A metrics.json that is no JSON stops the run before anything of it is lost."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("{half")
    finished = command("explore", "-t", topology, "--rows", "4", "--cols", "4", "-o", "out")
    assert finished.returncode == 1
    assert finished.stderr.startswith("arraysmith: out/metrics.json: damaged (")
    assert (tmp_path / "out" / "metrics.json").read_text() == "{half"


@pytest.mark.mnist
def test_interrupted_training_keeps_its_last_checkpoint(mnist, tmp_path):
    """Ctrl-C in an epoch: exit 1, one line, the last checkpoint whole and good to resume."""
    from arraysmith.learning import checkpoint

    del mnist
    run = [sys.executable, "-m", "arraysmith", "train", "-o", "run", "-q", "--epochs"]
    subprocess.run([*run, "1"], cwd=tmp_path, check=True, timeout=300)
    last = tmp_path / "run" / "save_model" / "last_model.pth"
    process = subprocess.Popen(
        [*run, "30", "--resume"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background hands an ignored Ctrl-C on to its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    time.sleep(6)  # well inside the thirty epochs
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    try:
        _, message = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert message.strip() == "arraysmith: interrupted; what was finished is kept"
    assert 1 <= len(checkpoint.load(last).history.epochs) < 30
    assert sorted(path.name for path in last.parent.iterdir()) == [
        "best_model.pth",
        "last_model.pth",
    ]


@pytest.mark.mnist
def test_bad_checkpoints_leave_earlier_outputs(run_folder, command, tmp_path):
    """A checkpoint that is none is refused and quant_model.pth stays as it was."""
    shutil.copytree(run_folder, tmp_path / "run")
    model = tmp_path / "run" / "save_model" / "quant_model.pth"
    before = model.read_bytes()
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    finished = command("quantize", "bad.pth", "-o", "run")
    assert finished.returncode == 1
    assert finished.stderr.startswith("arraysmith: bad.pth: ")
    assert finished.stderr.count("\n") == 1
    assert model.read_bytes() == before


@pytest.mark.mnist
def test_quantize_prints_scheme_ranges_and_bits(run_folder, command):
    """The table has SQNR and proven bits a layer, and single choices change a scheme."""
    finished = command(
        "quantize", "-o", "run", "--multiplier-bits", "8", "--per-tensor",
        "--calibration-images", "200",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "signed accumulator bits suffice, proven" in finished.stdout
    assert "multiplier_bits 8" in finished.stdout
    assert "per_channel False" in finished.stdout
    assert "SQNR" in finished.stdout
    simulated = command("simulate", run_folder, "--rows", "8", "--cols", "8", "-o", "run")
    assert "lenet5 on 8×8 WS" in simulated.stdout


@pytest.mark.parametrize("content", ["", "not json", '{"format": "other"}'])
def test_foreign_metrics_are_refused(command, tmp_path, content):
    """A metrics.json of something else is never overwritten."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text(content)
    assert command("report", "out").returncode == 1
    assert (tmp_path / "out" / "metrics.json").read_text() == content


def test_traces_are_written_when_asked_for(command, topology, tmp_path):
    """-s Y adds six traces a layer beside the reports; without -p it is wrong usage."""
    config = config_file(tmp_path, "small")
    arguments = ["simulate", "-c", config, "-t", topology, "-s", "Y"]
    assert command(*arguments).returncode == 2
    finished = command(*arguments, "-p", "out", "-l", "layout.csv")
    assert finished.returncode == 0, finished.stderr
    assert "Compute cycles: 3821" in finished.stdout
    for layer in ("layer0", "layer1"):
        names = sorted(path.name for path in (tmp_path / "out" / "small" / layer).iterdir())
        assert names == [
            f"{operand}_{place}_TRACE.csv"
            for operand in ("FILTER", "IFMAP", "OFMAP")
            for place in ("DRAM", "SRAM")
        ]
