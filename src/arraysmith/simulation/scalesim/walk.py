"""One layer, walked from one event of its buffers to the next.

In CALC mode nothing stalls: only the streams that do not fit their buffer are looked at, each on
its own. In USER mode the refills of both read buffers are found first, which no stall changes, and
then time passes over them and over the drains of the write buffer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import InvalidWorkloadError
from arraysmith.simulation.scalesim import closed_form, fetches, memory, prefetch
from arraysmith.simulation.scalesim.demand import CODES, FILTER, IFMAP, OFMAP
from arraysmith.simulation.scalesim.fetches import ACTIVE_SETS, FIRST_FILL_CYCLES_A_SET
from arraysmith.simulation.scalesim.geometry import ALPHA, im2col
from arraysmith.workload import ceil_div

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from arraysmith.hardware import Accelerator, StreamBandwidths
    from arraysmith.performance import LayerMetrics
    from arraysmith.simulation.scalesim.geometry import Im2col
    from arraysmith.simulation.scalesim.prefetch import Prefetch
    from arraysmith.workload import Layer

    Dram = tuple[int | None, int | None, int | None]
    Events = tuple[NDArray[np.int64], NDArray[np.int64]]

LINES_A_STEP = 200_000
REQUESTS_A_STEP = 1 << 24
PARTIAL_ROWS = 1 << 16
MAX_BYTES = 800 * 2**20
"""What walks may hold at a time; a process with them stays below 1 GiB."""


class Walk:
    """A layer on an accelerator, line by line of the array."""

    def __init__(
        self,
        layer: Layer,
        accelerator: Accelerator,
        bandwidths: StreamBandwidths | None,
        closed: LayerMetrics,
        *,
        matrix: Im2col | None = None,
        once: bool = False,
    ) -> None:
        """Work out sizes; nothing is walked yet.

        Args:
            layer, accelerator, bandwidths: as in `simulate`.
            closed: what the closed form says of the layer in CALC mode.
            matrix: its im2col if that is known.
            once: count a late read of USER mode once, as no SCALE-Sim does (Q1).
        """
        self.layer, self.accelerator, self.closed, self.once = layer, accelerator, closed, once
        self.matrix = matrix or im2col(layer)
        S_R, S_C, T = closed.S_R, closed.S_C, closed.T
        R, C = accelerator.rows, accelerator.cols
        cycles = T + ALPHA[accelerator.dataflow] * R + C - 2
        self.array = (CODES[accelerator.dataflow], R, C, S_R, S_C, T, cycles, ceil_div(S_R, R))
        self.lines = closed.folds * cycles
        self.done = 0
        self.capacities = (
            accelerator.ifmap_buffer_kib * closed_form.WORDS_PER_KIB,
            accelerator.filter_buffer_kib * closed_form.WORDS_PER_KIB,
            accelerator.ofmap_buffer_kib * closed_form.WORDS_PER_KIB,
        )
        self.bandwidths = bandwidths
        row_words = C if bandwidths is None else bandwidths.ofmap_words_per_cycle
        capacity = self.capacities[OFMAP]
        half = capacity - ceil_div(capacity, 2)
        self.write_sizes = (capacity, half, ceil_div(half, row_words), row_words)
        self._found = closed

    def steps(self) -> Iterator[int]:
        """Walk, a bounded number of cycles at a time; gives the lines that each step passed."""
        self._check_memory()
        for lines in self._calc() if self.bandwidths is None else self._user(*self.lists()):
            self.done += lines
            yield lines

    @property
    def bytes(self) -> int:
        """What the walk holds in memory while it goes on, beyond a few MB."""
        if self.bandwidths is not None:
            return prefetch.list_bytes(self.matrix, self.accelerator)
        if self.closed.ifmap.dram_words is not None or self.matrix.is_distinct:
            return 0
        return self.matrix.rows * self.matrix.cols * self.matrix.channels

    def lists(self) -> tuple[Prefetch, ...]:
        """USER mode's prefetch lists, of ifmap and filter; none in CALC mode."""
        if self.bandwidths is None:
            return ()
        return prefetch.prefetches(self.matrix, self.accelerator, self.bandwidths)

    def metrics(self) -> LayerMetrics:
        """What was found, once all steps are done."""
        return self._found

    def endless(self) -> InvalidWorkloadError:
        """Refills go round, and the word is in none."""
        return InvalidWorkloadError(
            f"layer {self.layer.name!r} on {self.accelerator}: no refill ever brings a word that "
            "is asked for, and SCALE-Sim would go on for ever; give larger buffers"
        )

    def empty_interval(self) -> InvalidWorkloadError:
        """Two refills in one cycle."""
        return InvalidWorkloadError(
            f"layer {self.layer.name!r} on {self.accelerator}: half a buffer is asked for within "
            "one cycle, and SCALE-Sim divides by that time of zero; give larger buffers"
        )

    def _calc(self) -> Iterator[int]:
        """Nothing stalls: each stream that does not fit its buffer, apart."""
        known = [
            (found.dram_start_cycle, found.dram_stop_cycle, found.dram_words)
            for found in self.closed.streams
        ]
        covered = [words is not None for _, _, words in known]
        reads = {stream: fetches.new_state() for stream in (IFMAP, FILTER) if not covered[stream]}
        overlapping = IFMAP in reads and not self.matrix.is_distinct
        for stream, state in reads.items():
            if stream == FILTER or not overlapping:
                half = ACTIVE_SETS * self._set_words(stream)
                fetches.distinct(state, self.array, stream, half)
        if not overlapping and covered[OFMAP]:
            yield self.lines
        else:
            time = None if covered[OFMAP] else Time(self)
            yield from self._calc_lines(reads.get(IFMAP) if overlapping else None, time)
            if time:
                known[OFMAP] = time.flush(self.closed.total_cycles)
        for stream, state in reads.items():
            known[stream] = self._fetched(stream, state)
        self._found = self._with_dram(tuple(known))

    def _calc_lines(self, ifmap: NDArray[np.int64] | None, time: Time | None) -> Iterator[int]:
        """The streams that have to be looked at from line to line."""
        nothing = np.array([self.lines]), np.zeros(1, np.int64)
        if ifmap is not None:
            windows, half = self.matrix.windows, ACTIVE_SETS * self._set_words(IFMAP)
            stamps = np.zeros(self.bytes, np.uint8)
        for start, until in self._bounds():
            if ifmap is not None:
                fetches.overlapping(ifmap, stamps, windows, self.array, half, start, until)
            if time is not None:
                time.pass_lines(nothing, nothing, until)
            yield until - start

    def _fetched(self, stream: int, state: NDArray[np.int64]) -> tuple[int, int, int]:
        """DRAM start, stop and words of a stream in CALC mode; the first half comes early."""
        words, set_words = int(state[fetches.WORDS]), self._set_words(stream)
        if state[fetches.TWICE]:
            raise self.empty_interval()
        if not state[fetches.REFILLS]:
            return closed_form.prefetched(words, set_words)
        first = self.closed.streams[stream].sram_start_cycle - 1
        early = FIRST_FILL_CYCLES_A_SET * set_words
        return first - early, int(state[fetches.LATEST]) + 1, words

    def _user(self, ifmap: Prefetch, filter_: Prefetch) -> Iterator[int]:
        """First where the windows of ifmap and filter move, then when."""
        closed, rate = self.closed, self.write_sizes[3]
        if ifmap.fits and filter_.fits and closed.ofmap.dram_words is not None:
            written = closed_form.written_at_the_end(
                closed.ofmap.dram_words, rate, closed.total_cycles
            )
            self._found = self._with_dram((ifmap.dram(0), filter_.dram(0), written))
            yield self.lines
            return
        time, refills = Time(self, ifmap, filter_), (Refills(self, ifmap), Refills(self, filter_))
        for start, until in self._bounds():
            time.pass_lines(refills[IFMAP].until(until), refills[FILTER].until(until), until)
            yield until - start
        reads = ifmap.dram(refills[IFMAP].moves), filter_.dram(refills[FILTER].moves)
        total = int(time.seen[memory.LAST, 0])
        found = self._with_dram((*reads, time.flush(total)))
        seen = [
            replace(stream, sram_start_cycle=int(first), sram_stop_cycle=int(last))
            for stream, (first, last) in zip(found.streams, time.seen, strict=False)
        ]
        self._found = replace(
            found,
            total_cycles=total,
            stall_cycles=int(time.clock[memory.STALL]),
            ifmap=seen[IFMAP],
            filter=seen[FILTER],
            ofmap=seen[OFMAP],
        )

    def _bounds(self) -> Iterator[tuple[int, int]]:
        """The lines of each step: from, until."""
        step = max(1, min(LINES_A_STEP, REQUESTS_A_STEP // max(self.array[1:3])))
        for start in range(0, self.lines, step):
            yield start, min(start + step, self.lines)

    def _with_dram(self, dram: tuple[Dram, ...]) -> LayerMetrics:
        """The closed form's figures with these of the DRAM."""
        ifmap, filter_, ofmap = (
            replace(stream, dram_start_cycle=start, dram_stop_cycle=stop, dram_words=words)
            for stream, (start, stop, words) in zip(self.closed.streams, dram, strict=True)
        )
        return replace(self.closed, ifmap=ifmap, filter=filter_, ofmap=ofmap)

    def _set_words(self, stream: int) -> int:
        """Words in a set of a read buffer in CALC mode."""
        return self.capacities[stream] // closed_form.SETS

    def _check_memory(self) -> None:
        """Raise if the walk would hold too much: for each word of the ifmap whether it is held."""
        if self.bytes > MAX_BYTES:
            raise InvalidWorkloadError(
                f"layer {self.layer.name!r} on {self.accelerator}: following its ifmap through its "
                f"buffer takes {self.bytes >> 20:,} MiB of memory, more than {MAX_BYTES >> 20}; "
                "split the layer, or use a larger array or buffer"
            )


class Refills:
    """Where the window of one read buffer moves in USER mode."""

    def __init__(self, walk: Walk, found: Prefetch) -> None:
        """Before the first request."""
        self.walk, self.list = walk, found
        self.state = np.zeros(prefetch.STATE, np.int64)
        self.room = np.zeros(found.most_copies + 1, np.int64)

    @property
    def moves(self) -> int:
        """How often it moved in all."""
        return int(self.state[prefetch.MOVES])

    def until(self, line: int) -> Events:
        """Lines from the last one on, one after them at the end; and moves in each."""
        room = line - int(self.state[prefetch.LINE]) + 1 if not self.list.fits else 1
        lines, moves = np.empty(room, np.int64), np.empty(room, np.int64)
        count = 0
        if not self.list.fits:
            count = self.list.refills(self.state, self.room, self.walk.array, lines, moves, line)
            if self.state[prefetch.ENDLESS]:
                raise self.walk.endless()
        lines[count] = line
        return lines, moves


class Time:
    """The clock and the write buffer of a walk."""

    def __init__(self, walk: Walk, *lists: Prefetch) -> None:
        """Before the first cycle; with USER mode's lists, of ifmap and filter."""
        self.walk, closed = walk, walk.closed
        self.clock = np.zeros(2, np.int64)
        self.ofmap = memory.write_state(walk.capacities[OFMAP])
        self.ring = np.empty(PARTIAL_ROWS, np.int64), np.empty(PARTIAL_ROWS, np.int64)
        self.latest = np.array([-1]), np.array([-1])
        self.gaps = tuple(found.requests + 1 for found in lists) or (1, 1)
        # A read is stamped a cycle after its line (Q17).
        self.marks = np.array(
            [
                (closed.ifmap.sram_start_cycle - 1, closed.ifmap.sram_stop_cycle - 1),
                (closed.filter.sram_start_cycle - 1, closed.filter.sram_stop_cycle - 1),
                (closed.ofmap.sram_start_cycle, closed.ofmap.sram_stop_cycle),
                (walk.lines - 1, walk.lines - 1),
            ]
        )
        self.seen = np.zeros_like(self.marks)

    def pass_lines(self, ifmap: Events, filter_: Events, until: int) -> None:
        """Go on until a line, with the refills before it."""
        memory.walk(
            self.clock,
            self.ofmap,
            self.latest,
            (*ifmap, *filter_),
            self.marks,
            self.seen,
            self.ring,
            self.walk.array,
            self.gaps,
            self.walk.once,
            self.walk.write_sizes,
            until,
        )

    def flush(self, cycle: int) -> tuple[int, int, int]:
        """Write the rest out; DRAM start, stop and words."""
        memory.flush(cycle, self.ofmap, *self.ring, self.walk.write_sizes)
        state = self.ofmap
        return (
            int(state[memory.DRAIN_START]),
            int(state[memory.DRAIN_STOP]),
            int(state[memory.WRITTEN]),
        )
