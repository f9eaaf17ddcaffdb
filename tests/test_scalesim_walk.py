"""The fast code against the slow oracle, which is itself held to the 250 real runs.

`slow_scalesim.py` writes down every cycle of the array, lane by lane, and lets the requests run
through the buffers; Hypothesis takes both where the real runs do not go.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from slow_scalesim import (
    STREAMS,
    WITH_PREFETCH,
    accesses,
    elements,
    product,
    walked,
    walked_user,
)

from arraysmith.errors import InvalidWorkloadError
from arraysmith.hardware import Accelerator, Dataflow, StreamBandwidths
from arraysmith.simulation.scalesim.closed_form import simulate_layer
from arraysmith.simulation.scalesim.columns import columns
from arraysmith.simulation.scalesim.model import simulate, stalls_counted_once
from arraysmith.workload import Conv2d, Workload


def uncovered(overflowing):
    """The columns that the closed form must leave open, and no others."""
    names = {f"Avg {stream.upper()} DRAM BW" for stream in overflowing}
    names |= {name for stream in overflowing for name in accesses("DRAM", stream)}
    return names | ({WITH_PREFETCH} if overflowing else set())


def shape_of(run):
    """SCALE-Sim's seven numbers of a row; a gemm is a convolution with filters as long as rows."""
    if run["kind"] == "gemm":
        return product(int(run["M"]), int(run["N"]), int(run["K"]))
    names = "ifmap_h", "ifmap_w", "filter_h", "filter_w", "channels", "num_filters", "stride"
    return tuple(int(run[name]) for name in names)


def real_runs(mode):
    """The rows of one bandwidth mode, each with its arguments of the oracle."""
    path = Path(__file__).parent / "data" / "scalesim_v3.csv"
    for run in csv.DictReader(path.read_text("utf-8").splitlines()):
        if run["bw_mode"] == mode:
            array = int(run["array_h"]), int(run["array_w"]), run["dataflow"]
            buffers_kib = [round(float(run[f"{stream.lower()}_sram_kb"])) for stream in STREAMS]
            yield run, (shape_of(run), *array, buffers_kib)


def test_the_walk_equals_real_runs():
    """All 30 columns of all 122 CALC rows: the oracle is one."""
    overflows, runs = dict.fromkeys(STREAMS, 0), 0
    for run, arguments in real_runs("CALC"):
        found, overflowing = walked(*arguments)
        assert len(found) == 30
        assert found == {name: float(run[name]) for name in found}, run["run_id"]
        runs += 1
        for stream in overflowing:
            overflows[stream] += 1
    assert runs == 122
    assert overflows == {"IFMAP": 122 - 92, "Filter": 122 - 73, "OFMAP": 122 - 69}


def test_the_walk_equals_real_runs_of_user_mode():
    """All 30 columns of all 128 USER rows, 60 of which stall."""
    runs = stalling = 0
    for run, arguments in real_runs("USER"):
        rates = [int(run[name]) for name in ("ifmap_bank_bw", "filter_bank_bw", "bandwidth")]
        found = walked_user(*arguments, rates)
        assert len(found) == 30
        assert found == {name: float(run[name]) for name in found}, run["run_id"]
        runs += 1
        stalling += found["Stall Cycles"] > 0
    assert (runs, stalling) == (128, 60)


@st.composite
def convolutions(draw, largest):
    """Any convolution up to a size: strides beyond the filter, windows over the edge."""
    sizes = [draw(st.integers(1, largest)) for _ in range(2)]
    filters = [draw(st.integers(1, min(size, 6))) for size in sizes]
    channels, out, stride = (draw(st.integers(1, high)) for high in (3, 6, 5))
    return *sizes, *filters, channels, out, stride


@st.composite
def products(draw):
    """Any gemm up to a size."""
    return product(*(draw(st.integers(1, 32)) for _ in range(3)))


sides = st.integers(1, 7)
dataflows = st.sampled_from(["os", "ws", "is"])


def parts(shape, R, C, dataflow, buffers_kib):
    """The layer and the accelerator."""
    H, W, FH, FW, channels, N, S = shape
    layer = Conv2d(
        name="layer",
        ifmap_rows=H,
        ifmap_cols=W,
        filter_rows=FH,
        filter_cols=FW,
        in_channels=channels,
        out_channels=N,
        stride=S,
    )
    ifmap, filter_, ofmap = buffers_kib
    accelerator = Accelerator(
        rows=R,
        cols=C,
        dataflow=Dataflow(dataflow),
        ifmap_buffer_kib=ifmap,
        filter_buffer_kib=filter_,
        ofmap_buffer_kib=ofmap,
    )
    return layer, accelerator


def assert_equal_to_the_walk(shape, R, C, dataflow, buffers_kib):
    """Every covered column equal, and covered exactly while the buffers hold their streams."""
    expected, overflowing = walked(shape, R, C, dataflow, buffers_kib)
    layer, accelerator = parts(shape, R, C, dataflow, buffers_kib)
    found = columns(simulate_layer(layer, accelerator))
    assert found == expected | dict.fromkeys(uncovered(overflowing))
    simulated = simulate(Workload(name="w", layers=(layer,)), accelerator).layers[0]
    assert columns(simulated) == expected


@given(convolutions(largest=8), sides, sides, dataflows)
@example((11, 11, 2, 2, 1, 1, 4), 1, 1, "os")
@example((5, 5, 1, 1, 2, 3, 4), 3, 2, "ws")
@example((8, 3, 2, 3, 1, 4, 5), 2, 3, "is")
@example((1, 1, 1, 1, 1, 2, 1), 1, 1, "os")
@example((1, 1, 1, 1, 1, 1, 1), 7, 7, "os")  # 1/49·49 is not 1 in doubles
@settings(deadline=None, max_examples=300)
def test_convolutions_equal_the_walk(shape, R, C, dataflow):
    """Overhanging windows, strides beyond the filter, arrays down to 1×1, all dataflows."""
    M, K, N, *_ = elements(shape)
    assume(not (dataflow == "os" and M == K == N == R == C == 1))
    assert_equal_to_the_walk(shape, R, C, dataflow, (64, 64, 64))


@given(
    st.one_of(products(), convolutions(largest=20)),
    st.integers(1, 16),
    st.integers(1, 16),
    dataflows,
    st.tuples(*[st.integers(1, 2)] * 3),
)
@example(product(1, 2, 499), 4, 4, "os", (1, 1, 1))
@example(product(1, 1, 500), 4, 4, "ws", (1, 1, 1))
@example(product(1, 500, 1), 4, 4, "is", (1, 1, 1))
@example(product(16, 32, 1), 4, 4, "os", (1, 1, 1))
@example(product(27, 19, 1), 4, 4, "os", (1, 1, 1))
@example(product(16, 16, 6), 3, 4, "ws", (1, 1, 1))
@example(product(16, 16, 7), 3, 4, "ws", (1, 1, 1))
@settings(deadline=None, max_examples=300)
def test_dram_is_covered_exactly_while_the_buffers_hold_their_streams(
    shape, R, C, dataflow, buffers_kib
):
    """DRAM figures equal the walk's where no buffer refills or drains, and are None elsewhere."""
    M, K, N, *_ = elements(shape)
    assume(not (dataflow == "os" and M == K == N == R == C == 1))
    assert_equal_to_the_walk(shape, R, C, dataflow, buffers_kib)


@given(
    st.one_of(products(), convolutions(largest=20)),
    st.integers(1, 16),
    st.integers(1, 16),
    dataflows,
    st.tuples(*[st.integers(1, 2)] * 3),
    st.tuples(*[st.one_of(st.integers(1, 40), st.sampled_from([500, 2000]))] * 3),
)
@example((20, 20, 3, 3, 3, 6, 1), 7, 5, "os", (1, 1, 1), (3, 7, 2))
@example((20, 19, 6, 5, 3, 6, 4), 9, 16, "ws", (1, 1, 1), (10, 10, 10))
@example((24, 13, 1, 1, 30, 6, 1), 12, 6, "is", (1, 1, 1), (9, 1, 500))
@settings(deadline=None, max_examples=200)
def test_user_mode_equals_the_walk(shape, R, C, dataflow, buffers_kib, rates):  # noqa: PLR0917
    """All 30 columns with stalls, and the stalls with a late read waited for once."""
    M, K, N, *_ = elements(shape)
    assume(not (dataflow == "os" and M == K == N == R == C == 1))
    assume(M * K * N < 60_000)
    layer, accelerator = parts(shape, R, C, dataflow, buffers_kib)
    names = ("ifmap", "filter", "ofmap")
    named = {f"{name}_words_per_cycle": rate for name, rate in zip(names, rates, strict=True)}
    bandwidths = StreamBandwidths(**named)
    found = simulate(Workload(name="w", layers=(layer,)), accelerator, bandwidths).layers[0]
    expected = walked_user(shape, R, C, dataflow, buffers_kib, rates)
    assert columns(found) == expected
    if found.stall_cycles:
        once = walked_user(shape, R, C, dataflow, buffers_kib, rates, once=True)
        assert stalls_counted_once(layer, accelerator, bandwidths) == once["Stall Cycles"]


@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
def test_more_refills_than_a_byte_can_count_equal_the_walk(dataflow):
    """The ifmap's words are marked by refills as a byte: past 255 the marks come round."""
    shape = (40, 40, 3, 3, 28, 9, 1)
    expected, _ = walked(shape, 12, 9, dataflow, (1, 1, 1))
    assert expected["DRAM IFMAP Reads"] > 256 * 500
    layer, accelerator = parts(shape, 12, 9, dataflow, (1, 1, 1))
    found = simulate(Workload(name="w", layers=(layer,)), accelerator).layers[0]
    assert columns(found) == expected


@given(st.integers(2, 4), st.integers(500, 1200), st.integers(1, 4), st.sampled_from(["ws", "os"]))
@settings(deadline=None, max_examples=12)
def test_wide_arrays_equal_the_walk(M, N, K, dataflow):
    """Half a small buffer, or all of it, within a few cycles; SCALE-Sim divides by zero there."""
    shape, array = product(M, N, K), (2, 1200, dataflow, (1, 1, 64))
    layer, accelerator = parts(shape, *array)
    try:
        expected, _ = walked(shape, *array)
    except ZeroDivisionError:
        with pytest.raises(InvalidWorkloadError, match="half a buffer is asked for"):
            simulate(Workload(name="w", layers=(layer,)), accelerator)
        return
    found = simulate(Workload(name="w", layers=(layer,)), accelerator).layers[0]
    assert columns(found) == expected
