"""SCALE-Sim's CALC mode in closed form against 250 real runs, equal as doubles.

The runs are of SCALE-Sim 3.0.0 (Python 3.11.7, NumPy 2.3.5), its report columns verbatim.
`test_scalesim_walk.py` goes on where the real runs end.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from arraysmith.errors import InvalidWorkloadError
from arraysmith.hardware import Accelerator, Dataflow
from arraysmith.simulation.scalesim.closed_form import MODEL, simulate, simulate_layer
from arraysmith.simulation.scalesim.columns import columns
from arraysmith.workload import Conv2d, Gemm, Workload

RUNS = list(
    csv.DictReader(
        (Path(__file__).parent / "data" / "scalesim_v3.csv").read_text("utf-8").splitlines()
    )
)
SRAM_ACCESSES = "SRAM IFMAP Reads", "SRAM Filter Reads", "SRAM OFMAP Writes"
MEMORY_FREE = (
    *("Total Cycles", "Stall Cycles"),
    *("Overall Util %", "Mapping Efficiency %", "Compute Util %"),
    *("Avg IFMAP SRAM BW", "Avg FILTER SRAM BW", "Avg OFMAP SRAM BW"),
    *("SRAM IFMAP Start Cycle", "SRAM IFMAP Stop Cycle"),
    *("SRAM Filter Start Cycle", "SRAM Filter Stop Cycle"),
    *("SRAM OFMAP Start Cycle", "SRAM OFMAP Stop Cycle"),
    *SRAM_ACCESSES,
)
# How many of the 122 CALC rows have buffers that hold the stream. Counted by walking them through
# the buffers, see test_scalesim_walk.py.
DRAM_COVERED = {
    92: ("Avg IFMAP DRAM BW", *(f"DRAM IFMAP {x}" for x in ("Start Cycle", "Stop Cycle", "Reads"))),
    73: (
        "Avg FILTER DRAM BW",
        *(f"DRAM Filter {x}" for x in ("Start Cycle", "Stop Cycle", "Reads")),
    ),
    69: (
        "Avg OFMAP DRAM BW",
        *(f"DRAM OFMAP {x}" for x in ("Start Cycle", "Stop Cycle", "Writes")),
    ),
    44: ("Total Cycles (incl. prefetch)",),
}


def runs(mode, *, stalling):
    """The rows of one bandwidth mode that stall, or that do not."""
    return [
        run
        for run in RUNS
        if run["bw_mode"] == mode and (float(run["Stall Cycles"]) > 0) is stalling
    ]


def layer_of(run):
    """The layer of a row."""
    if run["kind"] == "gemm":
        return Gemm(name=run["layer_name"], M=int(run["M"]), N=int(run["N"]), K=int(run["K"]))
    return Conv2d(
        name=run["layer_name"],
        ifmap_rows=int(run["ifmap_h"]),
        ifmap_cols=int(run["ifmap_w"]),
        filter_rows=int(run["filter_h"]),
        filter_cols=int(run["filter_w"]),
        in_channels=int(run["channels"]),
        out_channels=int(run["num_filters"]),
        stride=int(run["stride"]),
    )


def found_for(run):
    """What the closed form says of a row."""
    accelerator = Accelerator(
        rows=int(run["array_h"]),
        cols=int(run["array_w"]),
        dataflow=Dataflow(run["dataflow"]),
        ifmap_buffer_kib=round(float(run["ifmap_sram_kb"])),
        filter_buffer_kib=round(float(run["filter_sram_kb"])),
        ofmap_buffer_kib=round(float(run["ofmap_sram_kb"])),
    )
    return columns(simulate_layer(layer_of(run), accelerator))


def differing(rows, names):
    """Cells of these columns that are not equal as doubles."""
    cells = [
        (run, name, found[name]) for run in rows for found in [found_for(run)] for name in names
    ]
    return [
        f"{run['run_id']} {name}: {value} instead of {run[name]}"
        for run, name, value in cells
        if value is None or float(value) != float(run[name])
    ]


def test_calc_runs_equal_where_memory_plays_no_part():
    """17 columns of all 122 CALC rows; none stalls."""
    assert len(MEMORY_FREE) == 17
    assert runs("CALC", stalling=True) == []
    rows = runs("CALC", stalling=False)
    assert len(rows) == 122
    assert differing(rows, MEMORY_FREE) == []


def test_calc_runs_equal_in_every_covered_dram_column():
    """The other 13 columns: equal where there is a value, and as many values as there should be."""
    assert len(MEMORY_FREE) + sum(map(len, DRAM_COVERED.values())) == 30
    found = [(run, found_for(run)) for run in runs("CALC", stalling=False)]
    for expected, names in DRAM_COVERED.items():
        for name in names:
            cells = [(run[name], cell[name]) for run, cell in found if cell[name] is not None]
            assert [float(cell) for cell, _ in cells] == [float(value) for _, value in cells], name
            assert len(cells) == expected, name


def test_user_runs_without_stalls_equal_where_memory_plays_no_part():
    """The same 17 columns of the 68 USER rows that never stall."""
    rows = runs("USER", stalling=False)
    assert len(rows) == 68
    assert differing(rows, MEMORY_FREE) == []


def test_user_runs_with_stalls_equal_in_what_stalls_leave_alone():
    """Mapping, utilization of a fold and buffer accesses of the 60 USER rows that stall."""
    rows = runs("USER", stalling=True)
    assert len(rows) == 60
    assert differing(rows, ("Mapping Efficiency %", "Compute Util %", *SRAM_ACCESSES)) == []


def test_columns_are_those_of_the_three_reports_in_their_order():
    """The 30 names, as the real reports print them."""
    header = list(RUNS[0])
    first = header.index("Total Cycles (incl. prefetch)")
    assert list(found_for(RUNS[0])) == header[first : first + 30]


def test_a_layer_of_a_single_cycle_is_refused():
    """SCALE-Sim divides by zero there; the message says which layer and what to do."""
    layer = Gemm(name="dot", M=1, N=1, K=1)
    with pytest.raises(InvalidWorkloadError) as caught:
        simulate_layer(layer, Accelerator(rows=1, cols=1, dataflow=Dataflow.OS))
    assert str(caught.value) == (
        "layer 'dot' takes a single cycle on 1×1 OS: SCALE-Sim counts it as 0 and divides by it; "
        "merge the layer with another or use a larger one"
    )
    for dataflow in (Dataflow.WS, Dataflow.IS):
        accelerator = Accelerator(rows=1, cols=1, dataflow=dataflow)
        assert simulate_layer(layer, accelerator).total_cycles == 1


@pytest.mark.parametrize("dataflow", list(Dataflow))
def test_a_gemm_equals_its_convolution(dataflow):
    """M×K times K×N, or M windows of 1×K with N filters: the same figures."""
    accelerator = Accelerator(rows=3, cols=5, dataflow=dataflow)
    conv = Conv2d(
        name="layer",
        ifmap_rows=7,
        ifmap_cols=9,
        filter_rows=1,
        filter_cols=9,
        in_channels=1,
        out_channels=8,
    )
    gemm = Gemm(name="layer", M=7, N=8, K=9)
    assert simulate_layer(gemm, accelerator) == simulate_layer(conv, accelerator)


@pytest.mark.parametrize("dataflow", list(Dataflow))
def test_padding_is_part_of_the_ifmap(dataflow):
    """A padded layer equals one whose ifmap is written larger, as in a topology file."""
    accelerator = Accelerator(rows=4, cols=4, dataflow=dataflow)
    written = Conv2d(
        name="layer",
        ifmap_rows=10,
        ifmap_cols=9,
        filter_rows=3,
        filter_cols=3,
        in_channels=2,
        out_channels=5,
        stride=2,
    )
    padded = replace(written, ifmap_rows=8, ifmap_cols=7, padding=1)
    assert simulate_layer(padded, accelerator) == simulate_layer(written, accelerator)


@pytest.mark.parametrize("dataflow", list(Dataflow))
def test_memories_leave_compute_alone(dataflow):
    """Buffers and bandwidth change DRAM columns only: CALC never stalls."""
    layer = Conv2d(
        name="layer",
        ifmap_rows=20,
        ifmap_cols=20,
        filter_rows=3,
        filter_cols=3,
        in_channels=4,
        out_channels=8,
    )
    large = Accelerator(
        rows=8,
        cols=4,
        dataflow=dataflow,
        ifmap_buffer_kib=512,
        filter_buffer_kib=512,
        ofmap_buffer_kib=512,
    )
    small = replace(
        large,
        ifmap_buffer_kib=1,
        filter_buffer_kib=1,
        ofmap_buffer_kib=1,
        dram_words_per_cycle=0.5,
    )
    held, refilled = (columns(simulate_layer(layer, array)) for array in (large, small))
    assert [held[name] for name in MEMORY_FREE] == [refilled[name] for name in MEMORY_FREE]
    assert held["Total Cycles (incl. prefetch)"] is not None
    assert refilled["Total Cycles (incl. prefetch)"] is None


def test_a_network_is_the_sum_of_its_layers():
    """Totals add, means are weighted by cycles, and one uncovered layer leaves a sum open."""
    conv = Conv2d(
        name="conv",
        ifmap_rows=12,
        ifmap_cols=12,
        filter_rows=3,
        filter_cols=3,
        in_channels=1,
        out_channels=4,
    )
    workload = Workload(name="two", layers=(conv, Gemm(name="fc", M=1, N=10, K=400)))
    accelerator = Accelerator(rows=8, cols=8, dataflow=Dataflow.WS)
    found = simulate(workload, accelerator)
    first, second = found.layers
    cycles = first.total_cycles + second.total_cycles
    assert found.model == MODEL == "scalesim CALC"
    assert (found.total_cycles, found.stall_cycles) == (cycles, 0)
    assert found.macs == workload.macs == 100 * 9 * 4 + 4000
    assert found.overall_utilization == found.macs / (cycles * 64)
    for name in ("mapping_efficiency", "compute_utilization"):
        weighted = sum(getattr(layer, name) * layer.total_cycles for layer in found.layers)
        assert getattr(found, name) == pytest.approx(weighted / cycles, rel=1e-12)
    assert found.sram_words == first.sram_words + second.sram_words
    assert found.dram_words == first.dram_words + second.dram_words
    assert found.peak_dram_words_per_cycle == max(
        first.dram_words_per_cycle, second.dram_words_per_cycle
    )
    small = simulate(workload, replace(accelerator, filter_buffer_kib=1))
    assert [layer.dram_words is None for layer in small.layers] == [False, True]
    assert small.dram_words is None
    assert small.peak_dram_words_per_cycle is None
