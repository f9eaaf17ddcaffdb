"""SCALE-Sim's two modes for whole networks: closed forms where they answer, else the walk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import InvalidWorkloadError
from arraysmith.hardware import Dataflow
from arraysmith.performance import NetworkMetrics, StreamMetrics
from arraysmith.progress import silent
from arraysmith.simulation.scalesim import closed_form, memory
from arraysmith.simulation.scalesim.demand import CODES, addresses
from arraysmith.simulation.scalesim.geometry import ALPHA, ceil_div, im2col
from arraysmith.simulation.scalesim.prefetch import Blocks, Prefetch, prefetch

if TYPE_CHECKING:
    from arraysmith.hardware import Accelerator, StreamBandwidths
    from arraysmith.performance import LayerMetrics
    from arraysmith.progress import Progress
    from arraysmith.simulation.scalesim.demand import Addresses
    from arraysmith.simulation.scalesim.geometry import Im2col
    from arraysmith.workload import Layer, Workload

CALC, USER = closed_form.MODEL, "scalesim USER"
LINES_A_CALL = 50_000
PARTIAL_ROWS = 1 << 16


def simulate(
    workload: Workload,
    accelerator: Accelerator,
    bandwidths: StreamBandwidths | None = None,
    *,
    progress: Progress = silent,
) -> NetworkMetrics:
    """All layers of a workload on one accelerator, one after the other.

    Args:
        workload: the layers.
        accelerator: the array and its buffers.
        bandwidths: of USER mode; None is CALC mode, which is stall-free.
        progress: shows cycles of the layers that have to be walked through.

    Raises:
        InvalidWorkloadError: a layer for which SCALE-Sim has no answer; the message says why.
    """
    layers = []
    for layer in workload.layers:
        found = closed_form.simulate_layer(layer, accelerator)
        if bandwidths is not None or found.dram_words is None:
            found = Walk(layer, accelerator, bandwidths).run(found, progress)
        layers.append(found)
    mode = CALC if bandwidths is None else USER
    return closed_form.network_metrics(workload, accelerator, mode, tuple(layers))


def stalls_counted_once(
    layer: Layer, accelerator: Accelerator, bandwidths: StreamBandwidths
) -> int:
    """Stall cycles of USER mode if a late read were waited for once (Q1)."""
    once = Walk(layer, accelerator, bandwidths)
    once.user = memory.ONCE
    return once.run(closed_form.simulate_layer(layer, accelerator), silent).stall_cycles


class Walk:
    """One layer, walked line by line."""

    def __init__(
        self, layer: Layer, accelerator: Accelerator, bandwidths: StreamBandwidths | None
    ) -> None:
        """Lay out addresses, prefetch lists and sizes; nothing is walked yet."""
        self.layer, self.accelerator = layer, accelerator
        self.user = memory.CALC if bandwidths is None else memory.USER
        self.matrix = im2col(layer)
        self.where = addresses(self.matrix)
        S_R, S_C, T = self.matrix.on_array(accelerator.dataflow)
        R, C = accelerator.rows, accelerator.cols
        cycles = T + ALPHA[accelerator.dataflow] * R + C - 2
        along_rows, along_cols = ceil_div(S_R, R), ceil_div(S_C, C)
        self.array = (CODES[accelerator.dataflow], R, C, S_R, S_C, T, cycles, along_rows)
        self.lines = along_rows * along_cols * cycles
        self.capacities = tuple(
            kib * closed_form.WORDS_PER_KIB
            for kib in (
                accelerator.ifmap_buffer_kib,
                accelerator.filter_buffer_kib,
                accelerator.ofmap_buffer_kib,
            )
        )
        where = self.where
        geometry = (where.pixel_at, where.word_at, where.outside, where.rows, where.cols)
        self.layouts = tuple(
            (is_ifmap, where.win, *geometry, where.overhangs) for is_ifmap in (True, False)
        )
        self.prefetches: tuple[Prefetch, Prefetch] | None = None
        row_words = C
        if bandwidths is not None:
            rates = (bandwidths.ifmap_words_per_cycle, bandwidths.filter_words_per_cycle)
            self.prefetches = _prefetches(
                self.matrix, self.where, accelerator, self.capacities[:2], rates
            )
            row_words = bandwidths.ofmap_words_per_cycle
        capacity = self.capacities[2]
        half = capacity - ceil_div(capacity, 2)
        self.write_sizes = (capacity, half, ceil_div(half, row_words), row_words)

    def run(self, closed: LayerMetrics, progress: Progress) -> LayerMetrics:
        """Walk to the end and put what was found into the closed form's figures."""
        clock = np.zeros(4, np.int64)
        reads = (memory.read_state(), memory.read_state())
        ofmap = memory.write_state(self.capacities[2])
        ring = (np.zeros(PARTIAL_ROWS, np.int64), np.zeros(PARTIAL_ROWS, np.int64))
        if self.prefetches:
            for state, found in zip(reads, self.prefetches, strict=True):
                state[memory.FETCHED] = found.first_requests * found.words_per_cycle
        buffers = self.read_buffers()
        states = (*reads, ofmap)
        with progress(self.layer.name, self.lines) as advance:
            while clock[memory.LINE] < self.lines and clock[memory.TROUBLE] == memory.FINE:
                before = int(clock[memory.LINE])
                until = min(before + LINES_A_CALL, self.lines)
                memory.walk(
                    clock,
                    states,
                    buffers,
                    self.layouts,
                    ring,
                    self.array,
                    self.user,
                    self.write_sizes,
                    until,
                )
                advance(int(clock[memory.LINE]) - before)
        self.check(int(clock[memory.TROUBLE]))
        memory.flush(clock, ofmap, *ring, self.write_sizes)
        return self._merge(closed, clock, reads, ofmap)

    def read_buffers(self) -> tuple[tuple[object, ...], ...]:
        """For each read buffer: stamps, lines of its addresses, sizes, words of a set."""
        found: list[tuple[object, ...]] = []
        for stream, words in enumerate((self.where.ifmap_words, self.where.filter_words)):
            stamp = np.full(words, -1, np.int32)
            set_words = self.capacities[stream] // closed_form.SETS
            if self.prefetches is None:
                none = (np.zeros(1, np.int64), np.zeros(1, np.int32), (0, 0, 0, 0, 0))
                found.append((stamp, *none, set_words, np.zeros(1, np.int32), True, 0, 0, True))
                continue
            own = self.prefetches[stream]
            sizes = (own.count, own.active, own.step, own.requests, own.words_per_cycle)
            lies = own.blocks
            found.append(
                (
                    stamp,
                    own.first_line,
                    own.lines,
                    sizes,
                    set_words,
                    own.own_line,
                    lies.along_rows,
                    lies.depth,
                    lies.lanes,
                    lies.lane_is_word,
                )
            )
        return tuple(found)

    def check(self, trouble: int) -> None:
        """Raise what a walk ran into, if it did."""
        name = self.layer.name
        if trouble == memory.ENDLESS:
            raise InvalidWorkloadError(
                f"layer {name!r} on {self.accelerator}: no refill ever brings a word that is "
                "asked for, and SCALE-Sim would go on for ever; give larger buffers"
            )
        if trouble == memory.EMPTY_INTERVAL:
            raise InvalidWorkloadError(
                f"layer {name!r} on {self.accelerator}: half a buffer is asked for within one "
                "cycle, and SCALE-Sim divides by that time of zero; give larger buffers"
            )

    def _merge(
        self,
        closed: LayerMetrics,
        clock: np.ndarray[tuple[int], np.dtype[np.int64]],
        reads: tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...],
        ofmap: np.ndarray[tuple[int], np.dtype[np.int64]],
    ) -> LayerMetrics:
        streams: list[StreamMetrics] = []
        for stream, (before, state) in enumerate(
            zip((closed.ifmap, closed.filter), reads, strict=True)
        ):
            start, stop, words = self._dram_reads(stream, state)
            streams.append(
                StreamMetrics(
                    sram_start_cycle=int(state[memory.SEEN_FIRST]),
                    sram_stop_cycle=int(state[memory.SEEN_LAST]),
                    sram_words=before.sram_words,
                    dram_start_cycle=start,
                    dram_stop_cycle=stop,
                    dram_words=words,
                )
            )
        written = StreamMetrics(
            sram_start_cycle=int(ofmap[memory.OUT_FIRST]),
            sram_stop_cycle=int(ofmap[memory.OUT_LAST]),
            sram_words=closed.ofmap.sram_words,
            dram_start_cycle=int(ofmap[memory.DRAIN_START]),
            dram_stop_cycle=int(ofmap[memory.DRAIN_STOP]),
            dram_words=int(ofmap[memory.WRITTEN]),
        )
        return replace(
            closed,
            total_cycles=int(clock[memory.TOTAL]),
            stall_cycles=int(clock[memory.STALL]),
            ifmap=streams[0],
            filter=streams[1],
            ofmap=written,
        )

    def _dram_reads(
        self, stream: int, state: np.ndarray[tuple[int], np.dtype[np.int64]]
    ) -> tuple[int, int, int]:
        """DRAM start, stop and words of a read stream."""
        if self.prefetches is not None:
            first = -self.prefetches[stream].first_requests
            return first, int(state[memory.LATEST]), int(state[memory.FETCHED])
        set_words = self.capacities[stream] // closed_form.SETS
        rest = (state[memory.SETS] - state[memory.WINDOW]) * set_words + state[memory.IN_SET]
        if state[memory.REFILLS] == 0:
            return closed_form.prefetched(int(rest), set_words)
        # The last interval is issued too, also with nothing waiting in it.
        last = int(state[memory.FIRST])
        if last < state[memory.NEXT]:
            self.check(memory.EMPTY_INTERVAL)
        return int(state[memory.START]) + 1, last + 1, int(state[memory.ISSUED] + rest)


def _prefetches(
    matrix: Im2col,
    where: Addresses,
    accelerator: Accelerator,
    capacities: tuple[int, ...],
    rates: tuple[int, int],
) -> tuple[Prefetch, Prefetch]:
    """The lists of ifmap and filter; their shapes depend on the dataflow."""
    S_R, S_C, T = matrix.on_array(accelerator.dataflow)
    R, C = accelerator.rows, accelerator.cols
    rows, cols = ceil_div(S_R, R), ceil_div(S_C, C)
    streaming = Blocks(
        blocks=rows, depth=T, lanes=R, size=S_R, along_rows=True, lane_is_word=True, diagonal=True
    )
    staying = Blocks(
        blocks=cols,
        depth=S_R,
        lanes=C,
        size=S_C,
        along_rows=False,
        lane_is_word=False,
        diagonal=False,
    )
    match accelerator.dataflow:
        case Dataflow.OS:
            blocks = (
                replace(streaming, lane_is_word=False),
                replace(staying, depth=T, diagonal=True),
            )
        case Dataflow.WS:
            blocks = (streaming, staying)
        case Dataflow.IS:
            blocks = (staying, streaming)
    ifmap, filter_ = (
        prefetch(found, where, is_ifmap=stream == 0, buffer_words=capacity, words_per_cycle=rate)
        for stream, (found, capacity, rate) in enumerate(
            zip(blocks, capacities, rates, strict=True)
        )
    )
    return ifmap, filter_
