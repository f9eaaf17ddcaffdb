"""Searching arrays under the model `physical`: the bound holds, the best is that of all."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from physical_cases import random_case

import arraysmith
from arraysmith.errors import DesignSpaceError
from arraysmith.formats.technology import read_technology
from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
from arraysmith.search.mapper import best_mapping, map_workload
from arraysmith.search.physical_designs import cycles_at_least, explore_arrays, least_dram_bytes
from arraysmith.simulation.physical.cost import energy_tables
from arraysmith.simulation.physical.model import simulate_layer
from arraysmith.workload import Conv2d, Gemm, Workload

WORKLOAD = Workload(
    name="three",
    layers=(
        Conv2d(
            name="conv", ifmap_rows=12, ifmap_cols=12, filter_rows=3, filter_cols=3,
            in_channels=4, out_channels=10,
        ),
        Conv2d(
            name="depthwise", ifmap_rows=10, ifmap_cols=10, filter_rows=3, filter_cols=3,
            in_channels=10, out_channels=10, groups=10,
        ),
        Gemm(name="fc", M=1, N=10, K=200),
    ),
)  # fmt: skip


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


def designs():
    """A few dozen arrays of three kinds."""
    kinds = ("os-overlapped", "ws-double-buffered", "is-serial")
    return [
        PhysicalAccelerator(rows=rows, cols=cols, microarchitectures=(Microarchitecture(kind),))
        for rows in (2, 4, 6, 8, 12)
        for cols in (2, 4, 8)
        for kind in kinds
    ]


def test_the_best_is_the_best_of_all():
    """By cycles, as if all had been visited; but not all were."""
    technology = read_technology()
    found = explore_arrays(WORKLOAD, designs(), technology)
    totals = [
        sum(layer.best.total_cycles for layer in map_workload(WORKLOAD, each, technology))
        for each in designs()
    ]
    assert found[0].metrics.total_cycles == min(totals)
    assert len(found) < len(designs())
    ranks = [
        (each.metrics.total_cycles, each.accelerator.pes, each.accelerator.rows) for each in found
    ]
    assert ranks == sorted(ranks)


def test_a_search_of_hours_is_refused():
    """With how many designs, how long, and what to narrow."""
    held = [replace(each, ofmap_port_bytes=1) for each in designs()]  # no bound knows of ports
    with pytest.raises(DesignSpaceError, match=r"^up to \d+ of 45 designs would have to be visit"):
        explore_arrays(WORKLOAD, held, read_technology(), most_seconds=0)
    with pytest.raises(DesignSpaceError, match=r"^0 designs, from 1 to 200,000 can be searched"):
        explore_arrays(WORKLOAD, [], read_technology())


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
        microarchitectures=tuple(map(Microarchitecture, best["microarchitectures"])),
        filter_buffer_kib=128,
        dram_bytes_per_cycle=8.0,
    )
    assert arraysmith.map_network(workload, array).metrics.total_cycles == best["total_cycles"]
    assert found["model"] == "physical"
    assert found["proven_optimal"] is True
    assert found["designs"] == 3 * (4 + 2)
    assert len(found["visited"]) <= found["designs"]
    assert (tmp_path / "run" / "figs" / "physical_exploration.png").exists()
    rows = (tmp_path / "run" / "physical_designs.csv").read_text().splitlines()
    assert len(rows) == 1 + len(found["visited"])
    shown = command(*given, "-o", "run")
    assert "Proven best by cycles over 18 designs" in shown.stdout
    assert "(model: physical)" in shown.stdout
    assert command("report", "run").returncode == 0
    assert "the best by cycles of" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--max-pes", "3"], "excludes all designs: the smallest array, 2×2, has 4 PEs", 1),
        (["--bandwidth", "0"], "a DRAM bandwidth of 0.0 bytes a cycle cannot be", 1),
        (["--objective", "pe-cycles"], "--objective pe-cycles belongs to --model scalesim", 2),
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
    finished = command("explore", "-t", "gemm.csv", "-i", "gemm", "--psum-bytes", "2")
    assert finished.returncode == 2
    assert "--psum-bytes belongs to --model physical" in finished.stderr
