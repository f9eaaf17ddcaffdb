"""The verb compare, with a made-up SCALE-Sim at the edge of the process.

The interpreter it is given is a script that puts a package `scalesim` before the running Python. It
insists on what the real one insists on, and writes reports made by our own model: as they are,
with one figure altered, or it crashes or does not end.
"""

from __future__ import annotations

import json
import os
import sys
import time

import pytest

from arraysmith.formats.config import read_config
from arraysmith.formats.topology import read_topology
from arraysmith.simulation.scalesim.model import simulate
from arraysmith.simulation.scalesim.reports import report_texts

INSTALL = (
    'python3.11 -m venv scalesim-env && scalesim-env/bin/pip install "scalesim==3.0.0" '
    '"numpy<2.4"; then give --python scalesim-env/bin/python'
)
CONFIG = (
    "[general]\nrun_name = ../anything\n[architecture_presets]\nArrayHeight: 8\nArrayWidth: 4\n"
    "IfmapSramSzkB: 1\nFilterSramSzkB: 2\nOfmapSramSzkB: 3\nDataflow : ws\nBandwidth: 7, 8\n"
    "[layout]\nIfmapSRAMBankBandwidth: 6\nIfmapSRAMBankNum: 3\nFilterSRAMBankBandwidth: 5\n"
    "[run_presets]\nInterfaceBandwidth: USER\n"
)
TOPOLOGY = 'head\n"a, b", 6, 6, 3, 3, 2, 4, 1\n\nlast, 5, 5, 3, 3, 2, 4, 2,\n'
PACKAGE = """\
import configparser, os, pathlib, time

class scalesim:
    def __init__(
        self, save_disk_space, verbose, config, topology, layout, input_type_gemm
    ):
        assert save_disk_space and not verbose and pathlib.Path(layout).exists()
        parser = configparser.ConfigParser()
        parser.read(config)
        for section, keys in {keys!r}.items():
            for key in keys.split():
                parser.get(section, key)
        self.folder = parser.get("general", "run_name")
        rows = pathlib.Path(topology).read_text().splitlines()
        self.rows = [row.split(",")[:-1] for row in rows[1:]]
        assert {{len(row) for row in self.rows}} == {{4 if input_type_gemm else 8}}, rows

    def run_scale(self, top_path):
        pathlib.Path({pid!r}).write_text(str(os.getpid()))
        {behaviour}
        folder = pathlib.Path(top_path, self.folder)
        folder.mkdir()
        for report in pathlib.Path({reports!r}).iterdir():
            (folder / report.name).write_bytes(report.read_bytes())
"""
KEYS = {
    "general": "run_name",
    "run_presets": "InterfaceBandwidth UseRamulatorTrace",
    "architecture_presets": "ArrayHeight ArrayWidth IfmapSramSzkB FilterSramSzkB OfmapSramSzkB "
    "IfmapOffset FilterOffset OfmapOffset Dataflow Bandwidth ReadRequestBuffer WriteRequestBuffer",
    "layout": " ".join(
        f"{operand}{key}"
        for operand in ("Ifmap", "Filter")
        for key in ("CustomLayout", "SRAMBankBandwidth", "SRAMBankNum", "SRAMBankPort")
    ),
    "sparsity": "SparsitySupport",
}


@pytest.fixture
def files(tmp_path):
    """A config and a topology that SCALE-Sim would not take as they are."""
    (tmp_path / "run.cfg").write_text(CONFIG)
    (tmp_path / "layers.csv").write_text(TOPOLOGY)
    return "-c", "run.cfg", "-t", "layers.csv"


@pytest.fixture
def made_up(tmp_path, files):
    """Makes an interpreter whose SCALE-Sim behaves as it is told."""
    del files
    reports = tmp_path / "reports"
    reports.mkdir()
    config = read_config(tmp_path / "run.cfg")
    workload = read_topology(tmp_path / "layers.csv")
    for name, text in report_texts(
        simulate(workload, config.accelerator, config.bandwidths)
    ).items():
        (reports / name).write_text(text)

    def make(behaviour="pass", version="3.0.0"):
        site = tmp_path / "site with a space"
        (site / "scalesim").mkdir(parents=True)
        (site / "scalesim" / "__init__.py").touch()
        (site / "scalesim" / "scale_sim.py").write_text(
            PACKAGE.format(
                keys=KEYS, behaviour=behaviour, reports=str(reports), pid=str(tmp_path / "pid")
            )
        )
        if version:
            (site / "scalesim.dist-info").mkdir()
            (site / "scalesim.dist-info" / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: scalesim\nVersion: {version}\n"
            )
        interpreter = tmp_path / "python"
        interpreter.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" "{sys.executable}" "$@"\nexit $?\n')
        interpreter.chmod(0o755)
        return interpreter

    make.reports = reports
    return make


def refused(finished, message):
    """One line on standard error, exit code 1, nothing printed."""
    assert finished.stderr == f"arraysmith: {message}\n"
    assert finished.stdout == ""
    assert finished.returncode == 1


def test_equal_figures_are_counted(command, files, made_up, tmp_path):
    """A line for each layer and the verdict; the given files stay, and nothing else is left."""
    made_up()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    finished = command("compare", *files, "--python", "./python", TMPDIR=str(temporary))
    assert finished.returncode == 0, finished.stderr
    title, header, _, first, second, *_, verdict = finished.stdout.splitlines()
    assert title.strip() == "layers on 8×4 WS (scalesim USER)"
    assert [cell.strip() for cell in header.split("┃")] == [
        "layer", "column", "SCALE-Sim 3.0.0", "Arraysmith", "equal",
    ]  # fmt: skip
    for line, name in ((first, "a, b"), (second, "last")):
        cells = [cell.strip() for cell in line.split("│")]
        assert (cells[0], cells[1], cells[4]) == (name, "Total Cycles", "30 of 30")
        assert cells[2] == cells[3]
    assert verdict.startswith(
        "60 of 60 figures equal, 3 of 3 report files byte for byte; SCALE-Sim 0."
    )
    assert (tmp_path / "run.cfg").read_text() == CONFIG
    assert (tmp_path / "layers.csv").read_text() == TOPOLOGY
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "pid"])
    assert list(temporary.iterdir()) == []


def test_all_columns_can_be_shown(command, files, made_up):
    """`--all` has 30 lines a layer."""
    finished = command("compare", *files, "--python", made_up(), "--all")
    assert finished.returncode == 0, finished.stderr
    assert sum(line.rstrip().endswith("yes") for line in finished.stdout.splitlines()) == 60
    assert "DRAM OFMAP Writes" in finished.stdout


def test_one_altered_figure_is_shown_and_fails(command, files, made_up):
    """The differing column has a line of its own, as table and as JSON; the exit code is 1."""
    interpreter = made_up()
    report = made_up.reports / "COMPUTE_REPORT.csv"
    lines = report.read_text().split("\n")
    cells = lines[2].split(", ")
    ours, cells[3] = cells[3], "4711"
    report.write_text("\n".join([*lines[:2], ", ".join(cells), ""]))
    finished = command("compare", *files, "--python", interpreter)
    assert finished.returncode == 1
    assert finished.stderr == ""
    shown = [[cell.strip() for cell in line.split("│")] for line in finished.stdout.splitlines()]
    assert ["last", "Stall Cycles", "4711", ours, "no"] in shown
    assert [row[4] for row in shown if len(row) == 5] == ["30 of 30", "29 of 30", "no"]
    assert "59 of 60 figures equal, 2 of 3 report files byte for byte; " in finished.stdout
    finished = command("compare", *files, "--python", interpreter, "--json")
    assert finished.returncode == 1
    found = json.loads(finished.stdout)
    assert found["equal"] is False
    assert found["different_reports"] == ["COMPUTE_REPORT.csv"]
    assert len(found["figures"]) == 60
    assert [figure for figure in found["figures"] if not figure["equal"]] == [
        {
            "layer": "last",
            "column": "Stall Cycles",
            "theirs": "4711",
            "ours": ours,
            "equal": False,
        }
    ]
    assert found["speedup"] == found["scalesim_seconds"] / found["seconds"]


def test_bytes_count_as_well_as_figures(command, files, made_up):
    """Equal figures in a file of other bytes are not equal."""
    interpreter = made_up()
    report = made_up.reports / "BANDWIDTH_REPORT.csv"
    report.write_text(report.read_text().replace(", ", ","))
    finished = command("compare", *files, "--python", interpreter)
    assert finished.returncode == 1
    assert "60 of 60 figures equal, 2 of 3 report files byte for byte; " in finished.stdout


def test_gemm_rows_are_handed_on_as_gemm(command, made_up, files, tmp_path):
    """`-i gemm` reaches SCALE-Sim with rows of four cells; a layer it leaves out is not equal."""
    interpreter = made_up()
    (tmp_path / "layers.csv").write_text("h\none, 4, 5, 6\ntwo, 4, 5, 6,\nthree, 4, 5, 6\n")
    finished = command("compare", *files, "-i", "gemm", "--python", interpreter, "--json")
    assert finished.returncode == 1, finished.stderr
    found = json.loads(finished.stdout)
    assert [figure["theirs"] for figure in found["figures"][60:]] == [""] * 30
    assert {figure["layer"] for figure in found["figures"][60:]} == {"three"}


def test_a_crash_is_told_by_its_last_line(command, files, made_up):
    """The traceback's, which names the error."""
    interpreter = made_up('print("at work", flush=True); raise ZeroDivisionError("division by 0")')
    finished = command("compare", *files, "--python", interpreter)
    refused(finished, "SCALE-Sim crashed: ZeroDivisionError: division by 0")


def test_an_end_without_reports_is_a_crash(command, files, made_up):
    """SCALE-Sim ends with `exit()` where it means an error, which looks like success."""
    refused(
        command("compare", *files, "--python", made_up('print("Exiting"); raise SystemExit')),
        "SCALE-Sim crashed: Exiting",
    )


def test_one_that_does_not_end_is_ended(command, files, made_up, tmp_path):
    """After the time it was given, with everything the interpreter started."""
    interpreter = made_up("time.sleep(600)")
    start = time.monotonic()
    finished = command("compare", *files, "--python", interpreter, "--timeout", "5")
    refused(
        finished,
        "SCALE-Sim did not end within 5 s; some layers it never ends; give it longer with "
        "--timeout, or fewer layers",
    )
    assert time.monotonic() - start < 60
    with pytest.raises(ProcessLookupError):
        wait_for_end(int((tmp_path / "pid").read_text()))


def wait_for_end(pid):
    """Ask for a process for a few seconds: one that was killed is gone once it is reaped."""
    for _ in range(50):
        os.kill(pid, 0)
        time.sleep(0.1)


def test_without_scalesim_it_says_how_to_have_it(command, files, made_up, tmp_path):
    """Nothing given, a path to nothing, a Python without it, no Python at all, another release."""
    refused(
        command("compare", *files, ARRAYSMITH_SCALESIM_PYTHON=""),
        f"SCALE-Sim is not installed here: {INSTALL}",
    )
    refused(
        command("compare", *files, ARRAYSMITH_SCALESIM_PYTHON="nowhere/python"),
        f"nowhere/python: no interpreter that can be run: {INSTALL}",
    )
    refused(
        command("compare", *files, "--python", sys.executable),
        f"{sys.executable}: SCALE-Sim is not installed there: {INSTALL}",
    )
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho Hello\nexit 3\n")
    other.chmod(0o755)
    refused(
        command("compare", *files, "--python", other),
        f"{other}: does not run Python (Hello): {INSTALL}",
    )
    interpreter = made_up(version="2.0.2")
    refused(
        command("compare", *files, ARRAYSMITH_SCALESIM_PYTHON=str(interpreter)),
        f"{interpreter}: has SCALE-Sim 2.0.2, the comparison is with 3.0.0: {INSTALL}",
    )


def test_mistakes_in_the_files_are_told_in_our_words(command, files, made_up, tmp_path):
    """Before SCALE-Sim is started."""
    interpreter = made_up()
    (tmp_path / "layers.csv").write_text("h\none, 4, 5, 6\n")
    finished = command("compare", *files, "--python", interpreter)
    refused(
        finished,
        "layers.csv, line 2, layer 'one': 3 numbers after the name, a conv row has 7 (ifmap_rows, "
        "ifmap_cols, filter_rows, filter_cols, in_channels, out_channels, stride); is it a gemm "
        "file? (-i gemm)",
    )
    assert not (tmp_path / "pid").exists()
    assert command("compare", "-t", "layers.csv").returncode == 2
