"""Exploring under the model `physical` from the door; the plain bounds hold for any mapping."""

from __future__ import annotations

import json
import random

import pytest
from physical_cases import random_case
from plain_bounds import cycles_at_least, least_dram_bytes

import arraysmith
from arraysmith.formats.technology import read_technology
from arraysmith.hardware import PIPELINED, Microarchitecture, PhysicalAccelerator
from arraysmith.search.mapper import best_mapping
from arraysmith.simulation.physical.cost import energy_tables
from arraysmith.simulation.physical.model import simulate_layer


@pytest.mark.parametrize("seed", range(150))
def test_no_mapping_goes_below_the_bound(seed):
    """Neither any mapping nor the best; and no mapping moves fewer bytes than the least."""
    layer, accelerator, mapping = random_case(random.Random(seed))  # noqa: S311
    bound = cycles_at_least(layer, accelerator)
    tables = energy_tables(read_technology(), accelerator, mapping.microarchitecture)
    found = simulate_layer(layer, accelerator, mapping, tables)
    assert bound <= found.total_cycles
    assert least_dram_bytes(layer, accelerator) <= found.dram_bytes
    if seed % 5 == 0:
        assert bound <= best_mapping(layer, accelerator, read_technology()).best.total_cycles


def test_explore_from_the_door(command, tmp_path):
    """The best is that of Python, the files are there, the proof is said."""
    (tmp_path / "gemm.csv").write_text("Layer, M, N, K,\na, 30, 20, 40,\nb, 9, 20, 70,\n")
    given = (
        "explore", "--model", "physical", "-t", "gemm.csv", "-i", "gemm", "--rows", "2:8:2",
        "--cols", "4,8", "--max-pes", "32", "--bandwidth", "8",
    )  # fmt: skip
    finished = command(*given, "--json", "-o", "run")
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    workload = arraysmith.read_workload(tmp_path / "gemm.csv", "gemm")
    best = found["best"]
    array = PhysicalAccelerator(
        rows=best["rows"],
        cols=best["cols"],
        microarchitectures=(Microarchitecture(best["dataflow"]),),
        filter_buffer_kib=128,
        dram_bytes_per_cycle=8.0,
    )
    metrics = arraysmith.map_network(workload, array).metrics
    assert metrics.total_cycles == best["total_cycles"]
    assert list(metrics.energy_pj) == best["energy_pj"]
    assert found["model"] == "physical"
    assert found["proven_optimal"] is True
    assert found["designs"] == 3 * (4 + 2)
    assert 1 <= found["evaluated"] < found["designs"]
    assert found["ruled_out"] == found["designs"] - found["evaluated"]
    assert {each["dataflow"] for each in found["ranking"]} <= set(PIPELINED.values())
    assert (tmp_path / "run" / "figs" / "exploration_front.png").exists()
    columns = arraysmith.read_designs(tmp_path / "run" / "designs.npz")
    assert len(columns["rows"]) == found["evaluated"]
    mappings = arraysmith.read_mappings(tmp_path / "run" / "best_mappings.json", workload)
    assert tuple(mappings) == tuple(layer.mapping for layer in metrics.layers)
    assert command("report", "run").returncode == 0
    report = (tmp_path / "run" / "report.html").read_text()
    assert "(model: physical)" in report
    shown = command(*given, "-o", "again")
    assert "the best by cycles of 18 designs with" in shown.stdout
    assert "proven" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (
            ["--max-pes", "3"],
            "max_pes 3 and the ranges of the axes contradict each other: of 27 designs the ",
            1,
        ),
        (["--bandwidth", "0"], "a DRAM bandwidth of 0 bytes a cycle cannot be", 1),
        (["--mode", "user"], "--mode belongs to --model scalesim", 2),
        (["--dataflow", "os", "--microarchitecture", "os-bus"], "give either --dataflow or", 2),
    ],
)
def test_bad_spaces_are_named(command, tmp_path, arguments, message, code):
    """Exit code, one message, nothing written."""
    (tmp_path / "gemm.csv").write_text("Layer, M, N, K,\na, 30, 20, 40,\n")
    given = ["explore", "--model", "physical", "-t", "gemm.csv", "-i", "gemm", "--rows", "2:4"]
    finished = command(*given, "--cols", "2:4", *arguments, "-o", "run")
    assert finished.returncode == code
    assert message in finished.stderr
    assert not (tmp_path / "run").exists()


def test_options_of_physical_are_refused_under_scalesim(command, tmp_path):
    """By name."""
    (tmp_path / "gemm.csv").write_text("Layer, M, N, K,\na, 30, 20, 40,\n")
    finished = command("explore", "-t", "gemm.csv", "-i", "gemm", "--output-bytes", "2")
    assert finished.returncode == 2
    assert "--output-bytes belongs to --model physical" in finished.stderr
