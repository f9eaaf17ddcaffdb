"""The real SCALE-Sim 3.0.0 on layers drawn afresh in every run, so that nothing is tuned to a set.

Runs only where the environment variable ARRAYSMITH_SCALESIM_PYTHON names an interpreter with it:

    python3.11 -m venv scalesim-env && scalesim-env/bin/pip install "scalesim==3.0.0" "numpy<2.4"
    ARRAYSMITH_SCALESIM_PYTHON=scalesim-env/bin/python pytest tests/test_scalesim_real.py -s

The seed is printed; ARRAYSMITH_SCALESIM_SEED repeats a run.
"""

from __future__ import annotations

import collections
import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from arraysmith.errors import InvalidWorkloadError
from arraysmith.formats.config import read_config
from arraysmith.formats.topology import read_topology
from arraysmith.simulation.scalesim.model import simulate
from arraysmith.simulation.scalesim.reports import report_texts

LAYERS = 300
SECONDS_A_LAYER = 15
"""What SCALE-Sim may take for one layer; some it never ends."""
MOST_LINES = 8_000
"""Cycles of a layer without stalls; SCALE-Sim does a few thousand a second."""
DRIVER = f"""
import contextlib, json, os, signal, sys
from importlib import metadata
from scalesim.scale_sim import scalesim

assert metadata.version("scalesim") == "3.0.0", metadata.version("scalesim")

class TooLong(BaseException):
    pass

def alarm(*_):
    raise TooLong

signal.signal(signal.SIGALRM, alarm)
for line in sys.stdin:
    number, kind = json.loads(line)
    os.chdir(os.path.join(sys.argv[1], str(number)))
    answer = {{}}
    signal.alarm({SECONDS_A_LAYER})
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            scalesim(
                save_disk_space=True, verbose=False, config="run.cfg", topology="layer.csv",
                layout="layout.csv", input_type_gemm=kind == "gemm",
            ).run_scale(top_path=".")
        signal.alarm(0)
        for name in os.listdir("run"):
            with open(os.path.join("run", name), newline="") as file:
                answer[name] = file.read()
    except BaseException as error:
        answer = {{"no answer": type(error).__name__}}
    finally:
        signal.alarm(0)
    print(json.dumps(answer), flush=True)
"""
CONFIG = """\
[general]
run_name = run
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {cols}
IfmapSramSzkB = {ifmap_kib}
FilterSramSzkB = {filter_kib}
OfmapSramSzkB = {ofmap_kib}
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {dataflow}
Bandwidth = {ofmap_rate}
ReadRequestBuffer = 32
WriteRequestBuffer = 32
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = {ifmap_rate}
IfmapSRAMBankNum = 1
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = {filter_rate}
FilterSRAMBankNum = 1
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = False
[run_presets]
InterfaceBandwidth = {mode}
UseRamulatorTrace = False
"""


@pytest.fixture(scope="module")
def scalesim():
    """The interpreter that has SCALE-Sim."""
    named = os.environ.get("ARRAYSMITH_SCALESIM_PYTHON")
    if not named:
        pytest.skip("ARRAYSMITH_SCALESIM_PYTHON names no interpreter with scalesim 3.0.0")
    return str(Path(named).absolute())


def drawn_layer(rng):
    """Kind, numbers of a topology row, and M, N, K with SCALE-Sim's overhanging windows.

    One in ten has hardly anything to do, one in ten an operand that fills half a buffer exactly:
    chance alone would not meet those.
    """
    special = rng.random()
    if special < 0.1:
        M, N, K = (rng.randint(1, 2) for _ in range(3))
        return "gemm", (M, N, K), (M, N, K)
    if special < 0.2:
        across, other = rng.choice([5, 10, 20, 25, 50, 100]), rng.randint(1, 60)
        along = rng.choice([500, 1000, 2000]) // across
        M, N, K = rng.choice([(along, other, across), (other, along, across)])
        return "gemm", (M, N, K), (M, N, K)
    if rng.random() < 0.4:
        M, N, K = rng.randint(1, 60), rng.randint(1, 60), rng.randint(1, 200)
        return "gemm", (M, N, K), (M, N, K)
    H, W = rng.randint(1, 20), rng.randint(1, 20)
    FH, FW = rng.randint(1, min(H, 5)), rng.randint(1, min(W, 5))
    channels, N, stride = rng.randint(1, 16), rng.randint(1, 40), rng.randint(1, 3)
    M = (-(-(H - FH) // stride) + 1) * (-(-(W - FW) // stride) + 1)
    return "conv", (H, W, FH, FW, channels, N, stride), (M, N, FH * FW * channels)


def drawn_config(rng):
    """An array with small buffers, in CALC or USER mode."""
    largest = rng.choice([1, 4, 16, 16])
    found = {name: rng.randint(1, largest) for name in ("rows", "cols")}
    found |= {f"{name}_kib": rng.randint(1, 4) for name in ("ifmap", "filter", "ofmap")}
    found |= {f"{name}_rate": rng.randint(1, 20) for name in ("ifmap", "filter", "ofmap")}
    found["dataflow"] = rng.choice(["os", "ws", "is"])
    found["mode"] = rng.choice(["CALC", "USER", "USER"])
    return found


def lines(size, config):
    """Cycles of all folds."""
    M, N, K = size
    R, C = config["rows"], config["cols"]
    S_R, S_C, T = {"os": (M, N, K), "ws": (K, N, M), "is": (K, M, N)}[config["dataflow"]]
    fold = T + C - 2 + (R if config["dataflow"] == "os" else 2 * R)
    return -(-S_R // R) * -(-S_C // C) * fold


def draw(rng, folder):
    """One layer that SCALE-Sim can be waited for, written down; its kind and what it is."""
    while True:
        kind, numbers, size = drawn_layer(rng)
        config = drawn_config(rng)
        if lines(size, config) <= MOST_LINES:
            break
    folder.mkdir()
    (folder / "run.cfg").write_text(CONFIG.format(**config))
    (folder / "layer.csv").write_text(f"h,\nlayer, {', '.join(map(str, numbers))},\n")
    (folder / "layout.csv").write_text("h,\n")
    return kind, f"{kind} {numbers} on {config}"


def ours(folder, kind):
    """Our three reports, or our message where there is no answer; within seconds in any case."""
    config = read_config(folder / "run.cfg")
    start = time.monotonic()
    try:
        workload = read_topology(folder / "layer.csv", kind)
        found = report_texts(simulate(workload, config.accelerator, config.bandwidths))
    except InvalidWorkloadError as error:
        found = {"no answer": str(error)}
    assert time.monotonic() - start < 60, folder
    return found


def differences(theirs, ours):
    """The columns in which two sets of reports differ, with both cells."""
    found = []
    for name in sorted(set(theirs) | set(ours)):
        rows = [texts.get(name, "").split("\n") for texts in (theirs, ours)]
        if rows[0] != rows[1]:
            cells = zip(*(line.split(", ") for row in rows for line in row[:2]), strict=False)
            found += [(heading, a, b) for heading, a, _, b in cells if a != b] or [name]
    return found


def test_fresh_random_layers_are_equal_in_every_character(scalesim, tmp_path):
    """300 drawn layers: three reports as SCALE-Sim's; where it has none we answer or say why."""
    seed = int(os.environ.get("ARRAYSMITH_SCALESIM_SEED") or time.time_ns())
    print(f"\nseed {seed}")  # noqa: T201 (to repeat the run)
    rng = random.Random(seed)  # noqa: S311 (no secret)
    drawn = [draw(rng, tmp_path / str(number)) for number in range(LAYERS)]
    questions = "".join(f"{json.dumps([number, kind])}\n" for number, (kind, _) in enumerate(drawn))
    finished = subprocess.run(
        [scalesim, "-c", DRIVER, str(tmp_path)],
        input=questions,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
    )
    answers = [json.loads(line) for line in finished.stdout.splitlines()]
    assert len(answers) == LAYERS
    counts, told, wrong = collections.Counter(), [], []
    for number, ((kind, what), theirs) in enumerate(zip(drawn, answers, strict=True)):
        found = ours(tmp_path / str(number), kind)
        if "no answer" in theirs:
            outcome = found.get("no answer", "an answer")
            told.append(f"SCALE-Sim: {theirs['no answer']}; ours: {outcome}; {what}")
            counts["without an answer of SCALE-Sim"] += 1
        elif "no answer" in found or found != theirs:
            wrong.append(f"{what}: {found.get('no answer') or differences(theirs, found)}")
        else:
            stalls = theirs["COMPUTE_REPORT.csv"].split("\n")[1].split(", ")[3]
            counts["equal, " + ("with stalls" if stalls != "0" else "without")] += 1
    print(*told, dict(counts), f"different: {len(wrong)}", sep="\n")  # noqa: T201
    assert not wrong, f"seed {seed}\n" + "\n".join(wrong)
    assert counts["without an answer of SCALE-Sim"] < LAYERS / 4


def test_compare_with_the_real_package(scalesim, command, tmp_path):
    """The verb finds conv, depthwise and gemm rows equal, in CALC and in USER mode."""
    values = {"rows": 6, "cols": 5, "ifmap_kib": 1, "filter_kib": 1, "ofmap_kib": 1}
    values |= {"ifmap_rate": 3, "filter_rate": 4, "ofmap_rate": 5, "dataflow": "ws"}
    (tmp_path / "conv.csv").write_text(
        "h\nconv, 12, 11, 3, 3, 8, 9, 2\n\nconvDP, 9, 9, 3, 3, 2, 1, 1,\n"
    )
    (tmp_path / "gemm.csv").write_text("h\nproduct, 20, 30, 40\n")
    for mode in ("CALC", "USER"):
        (tmp_path / "run.cfg").write_text(CONFIG.format(**values, mode=mode))
        for kind, figures in (("conv", 90), ("gemm", 30)):
            finished = command(
                "compare", "-c", "run.cfg", "-t", f"{kind}.csv", "-i", kind, "--python", scalesim
            )
            assert finished.returncode == 0, finished.stderr
            verdict = f"{figures} of {figures} figures equal, 3 of 3 report files byte for byte; "
            assert verdict in finished.stdout
