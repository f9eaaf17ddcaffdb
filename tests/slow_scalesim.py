"""SCALE-Sim 3.0.0, slowly: every cycle, every lane, every word, in plain Python.

The oracle of the fast code, with which it shares nothing, not even a formula: the walk writes down
what the array asks for, and lets the requests run through lists and dicts that stand for the
buffers. It is itself held to the 250 real runs by `test_scalesim_walk.py`.
"""

from __future__ import annotations

import math
from itertools import islice

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
    intervals.append(pending)  # also with nothing waiting for it
    if any(stop < start for start, stop in intervals):
        raise ZeroDivisionError  # as SCALE-Sim does
    return intervals[0][0] + 1, intervals[-1][1] + 1, issued, True


class WriteBuffer:
    """SCALE-Sim's write buffer: rows of words wait, and half a buffer is drained at a time."""

    def __init__(self, words, row_words):
        """An empty buffer."""
        self.half, self.least = words // 2, words - words // 2
        self.free, self.row_words = words, row_words
        self.rows, self.open_row, self.drains, self.writes = [], 0, [], 0

    def put(self, cycle):
        """One word arrives; the cycle in which it is in."""
        self.open_row, self.free = self.open_row + 1, self.free - 1
        if self.open_row == self.row_words:
            self.close()
        busy = self.drains[-1][1] if self.drains else 0
        if cycle < busy:
            return busy if self.free <= 0 else cycle
        if self.free < self.least:
            self.close()
            self.drain(cycle)
        return cycle

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

    def flush(self, cycle):
        """Write out what is left; DRAM start, stop and words."""
        self.close()
        while self.rows:
            self.drain(cycle)
            cycle = self.drains[-1][1] + 1
        return self.drains[0][0], max(stop for _, stop in self.drains), self.writes


def write_buffer(lines, words, row_words):
    """DRAM start, stop and words of the ofmap, and whether the buffer drained on the way."""
    buffer = WriteBuffer(words, row_words)
    for cycle, line in enumerate(lines):
        for _ in line:
            assert buffer.put(cycle) == cycle, "a CALC run never stalls"
    on_the_way = bool(buffer.drains)
    return *buffer.flush(len(lines) - 1), on_the_way


def prefetched_blocks(shape, R, C, dataflow):
    """For ifmap and filter: the rows of their prefetch list, and whether it goes by diagonals."""
    M, K, N, ifm, flt, _ = elements(shape)
    folds = {size: range(0, size, R) for size in (M, K, N)}
    across = {size: range(0, size, C) for size in (M, N)}
    filters = [[flt(j, b + lane) for lane in range(C)] for b in across[N] for j in range(K)]
    if dataflow == "os":
        pixels = [[ifm(a + lane, j) for lane in range(R)] for a in folds[M] for j in range(K)]
        return (pixels, True), (filters, True)
    if dataflow == "ws":
        words = [[ifm(i, a + lane) for lane in range(R)] for a in folds[K] for i in range(M)]
        return (words, True), (filters, False)
    pixels = [[ifm(b + lane, j) for lane in range(C)] for b in across[M] for j in range(K)]
    words = [[flt(a + lane, n) for lane in range(R)] for a in folds[K] for n in range(N)]
    return (pixels, False), (words, True)


class UserBuffer:
    """SCALE-Sim's read buffer in USER: a window of lines of the prefetch list, circular."""

    def __init__(self, rows, words, words_per_cycle, *, diagonal, once):
        """The initial fetch ends at cycle -1."""
        count, lanes = len(rows), len(rows[0])
        places = [(row, lane) for row in range(count) for lane in range(lanes)]
        if diagonal:
            places.sort(key=lambda place: (sum(place), place[1]))
        listed = (rows[row][lane] for row, lane in places)
        line, listed = math.ceil(words / 100), iter([x for x in listed if x is not None and x >= 0])
        self.lines, full = [], True
        while full:  # one more, also if nothing is left for it
            part = list(islice(listed, line))
            self.lines.append(set(part))
            full = len(part) == line
        active = math.ceil(words / 2)
        self.active = min(len(self.lines), math.ceil(active / line))
        self.step = min(len(self.lines) - self.active, math.ceil((words - active) / line))
        self.first = min(
            math.ceil(active / words_per_cycle), math.ceil(count * lanes / words_per_cycle)
        )
        self.requests = math.ceil((words - active) / words_per_cycle)
        self.position, self.last, self.rate, self.once = 0, -1, words_per_cycle, once
        self.reads = self.first * words_per_cycle
        self.held = set().union(*self.lines[: self.active])

    def refill(self):
        """Move the window on; it may reach around to the first lines."""
        self.position = (self.position + self.step) % len(self.lines)
        window = ((self.position + k) % len(self.lines) for k in range(self.active))
        self.held = set().union(*(self.lines[line] for line in window))
        self.last += self.requests + 1
        self.reads += self.requests * self.rate

    def answer(self, addresses, cycle):
        """When a line of requests is answered; refills until each of them is there."""
        late = 1
        for address in addresses:
            while address not in self.held:
                self.refill()
                wait = self.last - (cycle + late)
                if self.once:
                    late += max(wait, 0)
                else:
                    late += wait + max(wait, 0)  # Q1
        return cycle + late


def timed(cycles, buffers, writes):
    """USER: the cycle of each stream's answer to each line; None where nothing is asked."""
    stall, answers = 0, []
    for number, lines in enumerate(cycles):
        cycle = number + stall
        asked = [[address for address in line if address >= 0] for line in lines]
        reads = [buffer.answer(line, cycle) for buffer, line in zip(buffers, asked, strict=False)]
        written = cycle
        for _ in asked[2]:
            written = writes.put(written)
        stall += max(reads[0] - cycle - 1, reads[1] - cycle - 1, written - cycle)
        outs = (*reads, written)
        answers.append([out if line else None for out, line in zip(outs, asked, strict=True)])
    return answers, stall, written


def walked_user(shape, R, C, dataflow, buffers_kib, rates, *, once=False):  # noqa: PLR0917
    """All 30 columns of a run in USER mode."""
    folds, cycles = walk(shape, R, C, dataflow)
    lists = prefetched_blocks(shape, R, C, dataflow)
    buffers = [
        UserBuffer(rows, 1024 * kib, rate, diagonal=diagonal, once=once)
        for (rows, diagonal), kib, rate in zip(lists, buffers_kib, rates, strict=False)
    ]
    writes = WriteBuffer(1024 * buffers_kib[2], rates[2])
    answers, stall, total = timed(cycles, buffers, writes)
    T = demands(shape, R, C, dataflow)[2]
    found = {"Total Cycles": total, "Stall Cycles": stall}
    shares = utilizations(folds, cycles, T, (R, C, dataflow), total)
    found |= zip(UTILIZATIONS, shares, strict=True)
    dram = [(-buffer.first, buffer.last, buffer.reads) for buffer in buffers]
    dram.append(writes.flush(total))
    for index, stream in enumerate(STREAMS):
        words = sum(len(line[index]) for line in cycles)
        if stream == "OFMAP" and dataflow == "os":
            words += len(folds) * (R + C)  # Q4
        outs = [line[index] for line in answers if line[index] is not None]
        found |= zip(accesses("SRAM", stream), (outs[0], outs[-1], words), strict=True)
        found[f"Avg {stream.upper()} SRAM BW"] = words / total
        found |= zip(accesses("DRAM", stream), dram[index], strict=True)
        start, stop, moved = dram[index]
        found[f"Avg {stream.upper()} DRAM BW"] = moved / (stop - start + 1)
    found[WITH_PREFETCH] = dram[2][1] - min(dram[0][0], dram[1][0])
    return found


def utilizations(folds, cycles, T, array, total):
    """The three percentages, added fold by fold from left to right."""
    R, C, dataflow = array
    counted = len(cycles) // len(folds) + (C - 1 if dataflow != "os" else 0)  # Q5
    mapping = compute = 0.0
    for rows, cols in folds:
        mapping += rows * cols / (R * C)
        compute += rows * cols * T / (R * C * counted)
    macs = sum(rows * cols * T for rows, cols in folds)
    overall = macs * 100 / (total * R * C)
    return overall, mapping / len(folds) * 100, compute / len(folds) * 100


def walked(shape, R, C, dataflow, buffers_kib):
    """All 30 columns by walking, and the streams whose buffer had to refill or drain."""
    folds, cycles = walk(shape, R, C, dataflow)
    T, total = demands(shape, R, C, dataflow)[2], len(cycles) - 1
    found = {"Total Cycles": total, "Stall Cycles": 0}
    found |= zip(UTILIZATIONS, utilizations(folds, cycles, T, (R, C, dataflow), total), strict=True)
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


def product(M, N, K):
    """A gemm as SCALE-Sim reads it."""
    return M, K, 1, K, 1, N, 1
