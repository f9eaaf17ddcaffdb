"""SCALE-Sim's CALC mode in closed form against a slow walk that shares no code with it.

The walk writes down every cycle of the array, lane by lane, and lets the requests run through the
two kinds of buffer. It is itself held to 122 real CALC runs of SCALE-Sim 3.0.0, in all 30 columns;
then Hypothesis takes it where the real runs do not go.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from arraysmith.hardware import Accelerator, Dataflow
from arraysmith.simulation.scalesim.closed_form import simulate_layer
from arraysmith.simulation.scalesim.columns import columns
from arraysmith.workload import Conv2d

UTILIZATIONS = "Overall Util %", "Mapping Efficiency %", "Compute Util %"
STREAMS = "IFMAP", "Filter", "OFMAP"
WITH_PREFETCH = "Total Cycles (incl. prefetch)"


def accesses(place, stream):
    """The three columns of a stream at its SRAM or its DRAM."""
    kind = "Writes" if stream == "OFMAP" else "Reads"
    return [f"{place} {stream} {what}" for what in ("Start Cycle", "Stop Cycle", kind)]


def elements(shape):
    """M, K, N and the addresses of ifmap, filter and ofmap: None out of range, -1 past the edge."""
    H, W, FH, FW, channels, N, S = shape
    px_rows, px_cols = (len(range(0, size - f, S)) + 1 for size, f in ((H, FH), (W, FW)))
    M, K = px_rows * px_cols, FH * FW * channels

    def ifm(i, k):
        if not (0 <= i < M and 0 <= k < K):
            return None
        row = i // px_cols * S + k // (FW * channels)
        col = i % px_cols * S + k % (FW * channels) // channels
        return -1 if row >= H or col >= W else (row * W + col) * channels + k % channels

    def flt(k, n):
        return n * K + k if 0 <= k < K and 0 <= n < N else None

    def ofm(i, n):
        return i * N + n if 0 <= i < M and 0 <= n < N else None

    return M, K, N, ifm, flt, ofm


def demands(shape, R, C, dataflow):
    """What lies down, across and streams; a fold's cycles; its requests at cycle t, by lanes.

    The fold begins at row a and column b of what is mapped.
    """
    M, K, N, ifm, flt, ofm = elements(shape)

    def output_stationary(a, b, t):
        down = [(lane, t - lane - (K - 1)) for lane in range(C)]  # the bottom row leaves first
        return (
            [ifm(a + lane, t - lane) for lane in range(R)],
            [flt(t - lane, b + lane) for lane in range(C)],
            [ofm(a + R - 1 - x, b + lane) for lane, x in down if 0 <= x < R],
        )

    def weight_stationary(a, b, t):
        return (
            [ifm(t - R - lane, a + lane) for lane in range(R)],
            [flt(a + R - 1 - t, b + lane) for lane in range(C) if t < R],
            [ofm(t - (2 * R - 1) - lane, b + lane) for lane in range(C)],
        )

    def input_stationary(a, b, t):
        return (
            [ifm(b + lane, a + R - 1 - t) for lane in range(C) if t < R],
            [flt(a + lane, t - R - lane) for lane in range(R)],
            [ofm(b + lane, t - (2 * R - 1) - lane) for lane in range(C)],
        )

    # The last output of the first lane, and the last lane is C - 1 cycles behind it.
    return {
        "os": (M, N, K, K - 1 + R - 1 + C, output_stationary),
        "ws": (K, N, M, 2 * R - 1 + M - 1 + C, weight_stationary),
        "is": (K, M, N, 2 * R - 1 + N - 1 + C, input_stationary),
    }[dataflow]


def walk(shape, R, C, dataflow):
    """Rows and columns that each fold uses; for each cycle the requests of the three streams."""
    down, across, _, fold_cycles, requests = demands(shape, R, C, dataflow)
    folds, cycles = [], []
    for b in range(0, across, C):
        for a in range(0, down, R):
            folds.append((min(R, down - a), min(C, across - b)))
            for t in range(fold_cycles):
                lanes = requests(a, b, t)
                cycles.append([[x for x in stream if x is not None] for stream in lanes])
    return folds, cycles


def read_buffer(lines, words):
    """SCALE-Sim's read buffer in CALC: DRAM start, stop, words, and whether it ever refilled."""
    per_set = words // 100
    stamp, oldest, current, filled, issued = {}, 0, 0, 0, 0
    intervals, pending = [], None
    first = next(cycle for cycle, line in enumerate(lines, 1) if line)
    for cycle, address in (
        (cycle, address) for cycle, line in enumerate(lines) for address in line
    ):
        if stamp.get(address, -1) >= oldest:
            continue
        stamp[address] = current
        issued, filled = issued + 1, filled + 1
        if filled < per_set:
            continue
        current, filled = current + 1, 0
        if current == oldest + 50:
            # The first half came before the first request, ten words a cycle.
            intervals.append(pending or (first - 2 - 5 * per_set, first - 3))
            pending = intervals[-1][1] + 1, cycle
            oldest += 50
    if not intervals:
        sets = current + (filled > 0)
        return -math.ceil(sets * per_set / 10), -1, issued, False
    if issued > 50 * per_set * len(intervals):
        intervals.append(pending)
    return intervals[0][0] + 1, intervals[-1][1] + 1, issued, True


class WriteBuffer:
    """SCALE-Sim's write buffer: rows of words wait, and half a buffer is drained at a time."""

    def __init__(self, words, row_words):
        """An empty buffer."""
        self.half, self.free, self.row_words = words // 2, words, row_words
        self.rows, self.open_row, self.drains, self.writes = [], 0, [], 0

    def put(self, cycle):
        """One word arrives."""
        self.open_row, self.free = self.open_row + 1, self.free - 1
        if self.open_row == self.row_words:
            self.close()
        busy = self.drains[-1][1] if self.drains else 0
        if cycle >= busy and self.free < self.half:
            self.close()
            self.drain(cycle)
        assert self.free > 0, "a CALC run never stalls"

    def close(self):
        """End the open row, full or not."""
        self.rows += [self.open_row] if self.open_row else []
        self.open_row = 0

    def drain(self, cycle):
        """Write rows to the DRAM; only the last one may be counted as less than full (Q13)."""
        count = math.ceil(self.half / self.row_words)
        taken, self.rows = self.rows[:count], self.rows[count:]
        moved = (len(taken) - 1) * self.row_words + taken[-1]
        self.writes, self.free = self.writes + moved, self.free + moved
        self.drains.append((cycle, cycle + len(taken) - 1))


def write_buffer(lines, words, row_words):
    """DRAM start, stop and words of the ofmap, and whether the buffer drained on the way."""
    buffer = WriteBuffer(words, row_words)
    for cycle, line in enumerate(lines):
        for _ in line:
            buffer.put(cycle)
    on_the_way = bool(buffer.drains)
    buffer.close()
    cycle = len(lines) - 1
    while buffer.rows:
        buffer.drain(cycle)
        cycle = buffer.drains[-1][1] + 1
    stop = max(stop for _, stop in buffer.drains)
    return buffer.drains[0][0], stop, buffer.writes, on_the_way


def utilizations(folds, cycles, T, array):
    """The three percentages, added fold by fold from left to right."""
    R, C, dataflow = array
    counted = len(cycles) // len(folds) + (C - 1 if dataflow != "os" else 0)  # Q5
    mapping = compute = 0.0
    for rows, cols in folds:
        mapping += rows * cols / (R * C)
        compute += rows * cols * T / (R * C * counted)
    macs = sum(rows * cols * T for rows, cols in folds)
    overall = macs * 100 / ((len(cycles) - 1) * R * C)
    return overall, mapping / len(folds) * 100, compute / len(folds) * 100


def walked(shape, R, C, dataflow, buffers_kib):
    """All 30 columns by walking, and the streams whose buffer had to refill or drain."""
    folds, cycles = walk(shape, R, C, dataflow)
    T, total = demands(shape, R, C, dataflow)[2], len(cycles) - 1
    found = {"Total Cycles": total, "Stall Cycles": 0}
    found |= zip(UTILIZATIONS, utilizations(folds, cycles, T, (R, C, dataflow)), strict=True)
    overflowing = set()
    for index, stream in enumerate(STREAMS):
        requests = [cycle[index] for cycle in cycles]
        words = sum(map(len, requests))
        lines = [[address for address in line if address >= 0] for line in requests]
        active = [cycle for cycle, line in enumerate(lines) if line]
        size = buffers_kib[index] * 1024
        if stream == "OFMAP":
            late, (*dram, overflows) = 0, write_buffer(lines, size, C)
            words += len(folds) * (R + C) if dataflow == "os" else 0  # Q4
        else:  # a read is stamped when it arrives, a cycle later
            late, (*dram, overflows) = 1, read_buffer(lines, size)
        overflowing |= {stream} if overflows else set()
        sram = active[0] + late, active[-1] + late, words
        found |= zip(accesses("SRAM", stream), sram, strict=True)
        found[f"Avg {stream.upper()} SRAM BW"] = words / total
        found |= zip(accesses("DRAM", stream), dram, strict=True)
        found[f"Avg {stream.upper()} DRAM BW"] = dram[2] / (dram[1] - dram[0] + 1)
    first = min(found["DRAM IFMAP Start Cycle"], found["DRAM Filter Start Cycle"])
    found[WITH_PREFETCH] = found["DRAM OFMAP Stop Cycle"] - first
    return found, overflowing


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


def product(M, N, K):
    """A gemm as SCALE-Sim reads it."""
    return M, K, 1, K, 1, N, 1


def test_the_walk_equals_real_runs():
    """All 30 columns of all 122 CALC rows: the oracle is one."""
    path = Path(__file__).parent / "data" / "scalesim_v3.csv"
    runs = [
        run
        for run in csv.DictReader(path.read_text("utf-8").splitlines())
        if run["bw_mode"] == "CALC"
    ]
    assert len(runs) == 122
    overflows = dict.fromkeys(STREAMS, 0)
    for run in runs:
        array = int(run["array_h"]), int(run["array_w"]), run["dataflow"]
        buffers_kib = [round(float(run[f"{stream.lower()}_sram_kb"])) for stream in STREAMS]
        found, overflowing = walked(shape_of(run), *array, buffers_kib)
        assert len(found) == 30
        assert found == {name: float(run[name]) for name in found}, run["run_id"]
        for stream in overflowing:
            overflows[stream] += 1
    assert overflows == {"IFMAP": 122 - 92, "Filter": 122 - 73, "OFMAP": 122 - 69}


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


def assert_equal_to_the_walk(shape, R, C, dataflow, buffers_kib):
    """Every covered column equal, and covered exactly while the buffers hold their streams."""
    expected, overflowing = walked(shape, R, C, dataflow, buffers_kib)
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
    found = columns(simulate_layer(layer, accelerator))
    assert found == expected | dict.fromkeys(uncovered(overflowing))


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
