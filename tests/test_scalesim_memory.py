"""Both modes of SCALE-Sim with its memories, against 250 real runs and golden report files."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arraysmith.errors import InvalidHardwareError, InvalidWorkloadError
from arraysmith.hardware import Accelerator, Dataflow, StreamBandwidths
from arraysmith.progress import silent
from arraysmith.simulation.scalesim import closed_form, memory, model, prefetch, walk
from arraysmith.simulation.scalesim.columns import columns
from arraysmith.simulation.scalesim.geometry import im2col
from arraysmith.simulation.scalesim.parallel import run_all
from arraysmith.simulation.scalesim.quirks import quirks
from arraysmith.simulation.scalesim.reports import printed_summary, report_texts
from arraysmith.simulation.scalesim.walk import Walk
from arraysmith.workload import Conv2d, Gemm, Workload

DATA = Path(__file__).parent / "data"
ROWS = list(csv.DictReader((DATA / "scalesim_v3.csv").open(encoding="utf-8")))
FIELDS = {
    "ifmap_rows": "ifmap_h",
    "ifmap_cols": "ifmap_w",
    "filter_rows": "filter_h",
    "filter_cols": "filter_w",
    "in_channels": "channels",
    "out_channels": "num_filters",
    "stride": "stride",
}
RATES = ("ifmap_bank_bw", "filter_bank_bw", "bandwidth")


def bandwidths(ifmap=10, filter_=10, ofmap=10):
    """USER mode's three channels."""
    return StreamBandwidths(
        ifmap_words_per_cycle=ifmap, filter_words_per_cycle=filter_, ofmap_words_per_cycle=ofmap
    )


def inputs(row):
    """Layer, accelerator and bandwidths of a real run."""
    if row["kind"] == "gemm":
        layer = Gemm(name="layer", M=int(row["M"]), N=int(row["N"]), K=int(row["K"]))
    else:
        sizes = {field: int(row[column]) for field, column in FIELDS.items()}
        layer = Conv2d(name="layer", **sizes)
    accelerator = Accelerator(
        rows=int(row["array_h"]),
        cols=int(row["array_w"]),
        dataflow=Dataflow(row["dataflow"]),
        ifmap_buffer_kib=int(row["ifmap_sram_kb"]),
        filter_buffer_kib=int(row["filter_sram_kb"]),
        ofmap_buffer_kib=int(row["ofmap_sram_kb"]),
    )
    user = row["bw_mode"] == "USER"
    return layer, accelerator, bandwidths(*(int(row[rate]) for rate in RATES)) if user else None


def simulated(layer, accelerator, rates):
    """The metrics of one layer."""
    workload = Workload(name="w", layers=(layer,))
    return model.simulate(workload, accelerator, rates).layers[0]


def test_every_cell_of_250_real_runs():
    """All 30 columns of all runs, CALC and USER, verbatim as SCALE-Sim printed them."""
    compared = 0
    for row in ROWS:
        for name, value in columns(simulated(*inputs(row))).items():
            assert str(value) == row[name], (row["run_id"], name)
            compared += 1
    assert compared == 250 * 30


@pytest.mark.parametrize("dataflow", list(Dataflow))
def test_reports_byte_for_byte(dataflow):
    """The files of a 256×256×128 GEMM on 32×32, 64 kB, USER, bandwidth 10, as a real run's."""
    accelerator = Accelerator(rows=32, cols=32, dataflow=dataflow)
    workload = Workload(name="gold", layers=(Gemm(name="gemm", M=256, N=256, K=128),))
    found = model.simulate(workload, accelerator, bandwidths())
    for name, text in report_texts(found).items():
        golden = DATA / "scalesim_reports" / f"{dataflow.value}.{name}"
        assert text.encode() == golden.read_bytes(), name


def test_the_summary_is_what_scalesim_prints():
    """The figures of a real run's printed summary, digit for digit."""
    accelerator = Accelerator(rows=32, cols=32, dataflow=Dataflow.OS)
    workload = Workload(name="gold", layers=(Gemm(name="gemm", M=256, N=256, K=128),))
    assert printed_summary(model.simulate(workload, accelerator, bandwidths())) == [
        "Running Layer 0 (gemm)",
        "Total cycles: 18712",
        "Compute cycles: 12159",
        "Stall cycles: 0",
        "Overall utilization: 67.37%",
        "Mapping efficiency: 100.00%",
        "Average IFMAP SRAM BW: 21.560 words/cycle",
        "Average Filter SRAM BW: 21.560 words/cycle",
        "Average OFMAP SRAM BW: 5.727 words/cycle",
        "Average IFMAP DRAM BW: 10.000 words/cycle",
        "Average Filter DRAM BW: 10.000 words/cycle",
        "Average OFMAP DRAM BW: 7.101 words/cycle",
    ]


def walked(layer, accelerator, rates=None):
    """The walk, also where the closed form would have answered."""
    closed = closed_form.simulate_layer(layer, accelerator)
    open_ = {
        name: replace(stream, dram_start_cycle=None, dram_stop_cycle=None, dram_words=None)
        for name, stream in zip(("ifmap", "filter", "ofmap"), closed.streams, strict=True)
    }
    walk = Walk(layer, accelerator, rates, replace(closed, **open_))
    (found,) = run_all([walk], silent)
    return found


LAYERS = st.one_of(
    st.builds(
        Gemm,
        name=st.just("gemm"),
        M=st.integers(2, 40),
        N=st.integers(1, 30),
        K=st.integers(1, 40),
    ),
    st.builds(
        Conv2d,
        name=st.just("conv"),
        ifmap_rows=st.integers(4, 14),
        ifmap_cols=st.integers(4, 14),
        filter_rows=st.integers(1, 4),
        filter_cols=st.integers(1, 4),
        in_channels=st.integers(1, 6),
        out_channels=st.integers(1, 12),
        stride=st.integers(1, 5),
    ),
)
ARRAYS = st.builds(
    Accelerator,
    rows=st.integers(1, 9),
    cols=st.integers(2, 9),
    dataflow=st.sampled_from(Dataflow),
    ifmap_buffer_kib=st.integers(1, 4),
    filter_buffer_kib=st.integers(1, 4),
    ofmap_buffer_kib=st.integers(1, 4),
)
SETTINGS = settings(max_examples=150, deadline=None)


@SETTINGS
@given(LAYERS, ARRAYS)
def test_the_closed_form_equals_the_walk(layer, accelerator):
    """Wherever the closed form answers in CALC mode, the walk says the same in every column."""
    closed = columns(closed_form.simulate_layer(layer, accelerator))
    slow = columns(walked(layer, accelerator))
    for name, value in closed.items():
        assert value is None or value == slow[name], name


@SETTINGS
@given(LAYERS, ARRAYS)
def test_words_are_conserved(layer, accelerator):
    """Nothing is written that was not made, all that is needed is read; CALC never stalls."""
    found = walked(layer, accelerator)
    matrix = im2col(layer)
    results = matrix.px * matrix.filters
    if accelerator.dataflow is not Dataflow.OS:
        results *= found.folds_along_rows(accelerator.rows)
    assert found.stall_cycles == 0
    assert results <= found.ofmap.dram_words <= results + found.folds * accelerator.cols
    assert found.ifmap.dram_words >= matrix.distinct_ifmap_words
    assert found.filter.dram_words >= matrix.win * matrix.filters


@SETTINGS
@given(LAYERS, ARRAYS)
def test_a_buffer_that_holds_all_reads_each_word_once(layer, accelerator):
    """With room for everything, CALC mode fetches exactly the distinct words."""
    roomy = replace(accelerator, ifmap_buffer_kib=64, filter_buffer_kib=64, ofmap_buffer_kib=64)
    found, matrix = walked(layer, roomy), im2col(layer)
    assert found.ifmap.dram_words == matrix.distinct_ifmap_words
    assert found.filter.dram_words == matrix.win * matrix.filters


@SETTINGS
@given(LAYERS, ARRAYS, st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_user_mode_stalls_add_up(layer, accelerator, ifmap, filter_, ofmap):
    """Total cycles are those of CALC mode plus the stalls, unless the very last write is late."""
    rates = bandwidths(ifmap, filter_, ofmap)
    found = walked(layer, accelerator, rates)
    stall_free = closed_form.simulate_layer(layer, accelerator).total_cycles
    assert found.total_cycles == stall_free + found.stall_cycles
    assert model.stalls_counted_once(layer, accelerator, rates) >= 0


def test_a_walk_in_small_steps_is_the_same_walk(monkeypatch):
    """Giving the interpreter back every 7 cycles changes nothing; the bar gets every cycle."""
    row = next(row for row in ROWS if row["bw_mode"] == "USER" and int(row["Stall Cycles"]) > 0)
    for arguments in (inputs(row), (*inputs(row)[:2], None)):
        with monkeypatch.context() as patch:
            whole = walked(*arguments)
            patch.setattr(walk, "LINES_A_STEP", 7)
            assert walked(*arguments) == whole


def test_a_walk_can_be_interrupted(monkeypatch):
    """Ctrl-C arrives between two calls of the compiled code."""
    calls = []

    def interrupted(*_):
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(memory, "walk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        walked(*inputs(ROWS[0]))
    assert calls == [1]


def test_refills_that_never_help_are_an_error(monkeypatch):
    """Where SCALE-Sim would refill for ever, the message says so and names the way out."""

    def stuck(state, *_):
        state[prefetch.ENDLESS] = 1
        return 0

    monkeypatch.setattr(prefetch, "refills", stuck)
    layer = Gemm(name="gemm", M=64, N=64, K=64)
    accelerator = Accelerator(rows=4, cols=4, dataflow=Dataflow.WS, filter_buffer_kib=1)
    with pytest.raises(InvalidWorkloadError) as caught:
        walked(layer, accelerator, bandwidths())
    assert str(caught.value) == (
        "layer 'gemm' on 4×4 WS: no refill ever brings a word that is asked for, and SCALE-Sim "
        "would go on for ever; give larger buffers"
    )


def test_half_a_buffer_within_a_cycle_is_an_error():
    """SCALE-Sim divides by zero there; a 1 kB buffer on a very wide array gets there."""
    layer = Gemm(name="wide", M=4, N=4000, K=3)
    accelerator = Accelerator(
        rows=4, cols=2000, dataflow=Dataflow.WS, ifmap_buffer_kib=1, filter_buffer_kib=1
    )
    with pytest.raises(InvalidWorkloadError) as caught:
        walked(layer, accelerator)
    assert str(caught.value) == (
        "layer 'wide' on 4×2000 WS: half a buffer is asked for within one cycle, and SCALE-Sim "
        "divides by that time of zero; give larger buffers"
    )


def test_bandwidths_are_whole_and_positive():
    """A channel that moves nothing is refused at birth."""
    with pytest.raises(InvalidHardwareError) as caught:
        bandwidths(ofmap=0)
    assert str(caught.value) == "ofmap_words_per_cycle is 0, needs a whole number of at least 1"


def test_quirks_are_named_with_the_right_values():
    """The figures of a stalling layer: SCALE-Sim's beside what the array would do."""
    row = next(
        row
        for row in ROWS
        if row["bw_mode"] == "USER" and row["dataflow"] == "ws" and int(row["Stall Cycles"]) > 0
    )
    layer, accelerator, rates = inputs(row)
    found = simulated(layer, accelerator, rates)
    listed = {quirk.quirk: quirk for quirk in quirks(layer, found, accelerator, rates)}
    cycles = found.total_cycles - found.stall_cycles
    assert (listed["Q2"].scalesim, listed["Q2"].physical) == (cycles, cycles + 1)
    assert listed["Q1"].physical <= listed["Q1"].scalesim == found.stall_cycles
    assert listed["Q5"].physical > listed["Q5"].scalesim
    quick = quirks(layer, found, accelerator, rates, physical=False)
    assert {quirk.quirk for quirk in quick} == set(listed)


def test_an_interval_that_ends_empty_is_issued():
    """Distinct words an exact multiple of half the buffer: as a real run of SCALE-Sim printed."""
    accelerator = Accelerator(
        rows=13,
        cols=14,
        dataflow=Dataflow.OS,
        ifmap_buffer_kib=1,
        filter_buffer_kib=4,
        ofmap_buffer_kib=4,
    )
    found = columns(simulated(Gemm(name="gemm", M=50, N=27, K=10), accelerator, None))
    assert found["DRAM IFMAP Stop Cycle"] == 265.0
    assert found["Avg IFMAP DRAM BW"] == 3.1645569620253164


def test_an_empty_interval_at_the_end_is_an_error_too():
    """Two refills in the last cycles with no third: SCALE-Sim divides by zero, we say so."""
    accelerator = Accelerator(rows=1, cols=1000, dataflow=Dataflow.WS, filter_buffer_kib=1)
    with pytest.raises(InvalidWorkloadError, match="half a buffer is asked for within one cycle"):
        simulated(Gemm(name="gemm", M=3, N=1000, K=1), accelerator, None)
