"""A layer walked once more, line by line, with everything that passes its memories written down.

What happens in the memories is `fetches`', `prefetch`'s and `memory`'s own; here each line's
addresses are kept, and when the read buffers fetched and the write buffer drained. Lines come out
in blocks of bounded size. What goes to and from the DRAM waits on disk (a `Spool`) until its cycle
is known, so memory does not grow with the layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from arraysmith.hardware import Dataflow
from arraysmith.simulation.scalesim import closed_form, fetches, memory
from arraysmith.simulation.scalesim.demand import FILTER, IFMAP, IS, OFMAP, addresses, line
from arraysmith.simulation.scalesim.transfers import CELLS, NOTHING, Burst, rows_of
from arraysmith.simulation.scalesim.walk import PARTIAL_ROWS, Refills
from arraysmith.workload import ceil_div

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from arraysmith.simulation.scalesim.prefetch import Prefetch
    from arraysmith.simulation.scalesim.transfers import Spool
    from arraysmith.simulation.scalesim.walk import Walk

FIRST_FILL_WORDS_PER_CYCLE = 10

# In CALC mode a stream's state is that of `fetches`, and where its next interval begins.
NEXT = fetches.STATE
# The clock.
LINE, STALL, TOTAL = range(3)


class Recorder:
    """One layer, walked in blocks of lines."""

    def __init__(self, walk: Walk, offsets: tuple[int, int, int], spools: Sequence[Spool]) -> None:
        """Nothing is walked yet."""
        self.walk, self.offsets, self.spools = walk, offsets, spools
        rows, cols = walk.accelerator.rows, walk.accelerator.cols
        swapped = walk.accelerator.dataflow is Dataflow.IS
        self.lanes = (cols, rows, cols) if swapped else (rows, cols, cols)
        self.lists = walk.lists()
        self.clock = np.zeros(3, np.int64)
        self.halves = tuple(fetches.ACTIVE_SETS * self._set_words(s) for s in (IFMAP, FILTER))
        self.states = (
            np.zeros(fetches.STATE + 1, np.int64),
            np.zeros(fetches.STATE + 1, np.int64),
            memory.write_state(walk.capacities[OFMAP]),
        )
        for state, half, found in zip(self.states, self.halves, walk.closed.streams, strict=False):
            # The first half comes before the first request, and the fixed rate says when it begins.
            state[fetches.LATEST] = found.sram_start_cycle - 3
            state[NEXT] = state[fetches.LATEST] + 1 - half // FIRST_FILL_WORDS_PER_CYCLE
        where = addresses(walk.matrix)
        geometry = (where.pixel_at, where.word_at, where.outside, where.rows, where.cols)
        self.layouts = tuple(
            (is_ifmap, where.win, *geometry, where.overhangs) for is_ifmap in (True, False)
        )
        words = (where.ifmap_words, where.filter_words) if not self.lists else (1, 1)
        self.refills = tuple(Refills(walk, found) for found in self.lists)
        self.stamps = tuple(np.full(count, -1, np.int32) for count in words)

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], ...]]:
        """For ifmap, filter and ofmap a block of rows: cycle, then an address for each lane.

        The arrays are used again for the next block.
        """
        walk = self.walk
        most = max(1, min(walk.lines, CELLS // (1 + max(self.lanes))))
        rows = tuple(np.empty((most, 1 + lanes), np.int64) for lanes in self.lanes)
        moved = tuple(np.empty(most * lanes, np.int64) for lanes in self.lanes)
        events = tuple(np.empty((most * lanes, 3), np.int64) for lanes in self.lanes)
        counts = np.zeros((3, 2), np.int64)
        latest = np.array([-1]), np.array([-1])
        gaps = tuple(found.requests + 1 for found in self.lists) or (1, 1)
        ring = (np.empty(PARTIAL_ROWS, np.int64), np.empty(PARTIAL_ROWS, np.int64))
        refills = self.refills
        nothing = np.array([walk.lines]), np.zeros(1, np.int64)
        for start in range(0, walk.lines, most):
            until = min(start + most, walk.lines)
            moves = tuple(found.until(until) for found in refills) or (nothing, nothing)
            counts[:] = 0
            record(
                self.clock,
                self.states,
                self.layouts,
                (self.stamps, self.halves, not self.lists),
                (moves, latest, gaps),
                (ring, walk.write_sizes),
                walk.array,
                until,
                self.offsets,
                rows,
                moved,
                events,
                counts,
            )
            if any(state[fetches.TWICE] for state in self.states[:2]):
                raise walk.empty_interval()
            self._spool(moved, events, counts)
            yield tuple(found[: until - start] for found in rows)

    def dram(self, stream: int) -> Iterator[NDArray[np.int64]]:
        """Blocks of rows of one stream at the DRAM, once all lines are walked."""
        if stream == OFMAP:
            bursts = self.spools[stream].bursts()
        elif not self.lists:
            bursts = self.spools[stream].bursts(self._set_words(stream))
        else:
            bursts = self._prefetched(stream, self.lists[stream])
        return rows_of(bursts, self.width(stream))

    def width(self, stream: int) -> int:
        """Words in a row of a stream at the DRAM, once all lines are walked."""
        if not self.lists or stream == OFMAP:
            return self.spools[stream].width
        return self.lists[stream].words_per_cycle

    def finish(self) -> None:
        """After the last line: what is left is fetched and written out."""
        if not self.lists:
            for stream in (IFMAP, FILTER):
                self._last_fetch(stream)
        ofmap, spool = self.states[OFMAP], self.spools[OFMAP]
        _, _, half_rows, row_words = self.walk.write_sizes
        spool.pad(row_words)
        left = int(ofmap[memory.CLOSED] + (ofmap[memory.OPEN] > 0) - ofmap[memory.DRAINED])
        cycle = int(self.clock[TOTAL])  # even if a drain is still going on (Q14)
        for start in range(0, left, half_rows):
            rows = min(half_rows, left - start)
            spool.send(Burst(cycle + start, rows, row_words, rows * row_words))

    def _spool(
        self,
        moved: tuple[NDArray[np.int64], ...],
        events: tuple[NDArray[np.int64], ...],
        counts: NDArray[np.int64],
    ) -> None:
        """Keep the words of a block, and send those whose cycle is known."""
        if not self.lists:
            for stream in (IFMAP, FILTER):
                words, triggers = counts[stream]
                spool = self.spools[stream]
                spool.keep(moved[stream][:words])
                fetched = self.halves[stream]
                for first, cycles, _ in events[stream][:triggers].tolist():
                    spool.send(Burst(first, cycles, ceil_div(fetched, cycles), fetched))
        words, drains = counts[OFMAP]
        spool, row_words = self.spools[OFMAP], self.walk.write_sizes[3]
        kept = 0
        for cycle, rows, until in events[OFMAP][:drains].tolist():
            spool.keep(moved[OFMAP][kept:until])
            spool.pad(row_words)  # a drain closes the row that is being filled
            spool.send(Burst(cycle, rows, row_words, rows * row_words))
            kept = until
        spool.keep(moved[OFMAP][kept:words])

    def _set_words(self, stream: int) -> int:
        """Words of a set of a read buffer in CALC mode."""
        return self.walk.capacities[stream] // closed_form.SETS

    def _last_fetch(self, stream: int) -> None:
        """CALC: what is in no full half goes in the last interval, or all of it before cycle 0."""
        state, spool = self.states[stream], self.spools[stream]
        set_words, rest = self._set_words(stream), int(state[fetches.HELD])
        listed = ceil_div(rest, set_words) * set_words
        if state[fetches.REFILLS] == 0:
            cycles = ceil_div(listed, FIRST_FILL_WORDS_PER_CYCLE)
            spool.send(Burst(-cycles, cycles, FIRST_FILL_WORDS_PER_CYCLE, rest))
            return
        first, last = int(state[NEXT]), int(state[fetches.LATEST])
        cycles = last - first + 1
        spool.send(Burst(first + 1, cycles, ceil_div(listed, cycles), rest))

    def _prefetched(
        self, stream: int, found: Prefetch
    ) -> Iterator[tuple[Burst, NDArray[np.int64]]]:
        """USER: the initial fetch and the refills, each with the same words (Q11).

        SCALE-Sim cuts the list in rows, takes the rows after the initial ones for every refill (one
        row too far where a half ends with its row), and empties for good what reaches beyond half a
        buffer or was fetched before.
        """
        half, width = self.walk.capacities[stream] // 2, found.words_per_cycle
        blocks = found.blocks
        places = blocks.blocks * blocks.depth * blocks.lanes
        row_count = ceil_div(places, width)
        fetched, first = found.requests, found.first_requests
        head = np.full(min(first + fetched + 1, row_count) * width, NOTHING, np.int64)
        list_head(
            head[:places],
            (blocks.blocks * blocks.depth, blocks.depth, blocks.lanes, blocks.size),
            (blocks.lane_is_word, blocks.diagonal),
            self.layouts[stream],
            self.offsets[stream],
        )
        lines = head.reshape(-1, width)
        over = half % width if first * width > half else 0
        if over:
            lines[first - 1, over:] = NOTHING
        yield Burst(-first, first, width, first * width), lines[:first].ravel()
        refills = self.refills[stream].moves
        if not refills:
            return
        following = first if over else first + 1
        refill = lines[(following + np.arange(fetched)) % row_count]
        refill[0, :over] = NOTHING
        if over:
            refill[-1, over:] = NOTHING
        words = refill.ravel()
        for number in range(refills):
            yield Burst(number * (fetched + 1) + 1, fetched, width, len(words)), words


@njit(cache=True, nogil=True)
def address_of(layout, item, word):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Where an element of a read stream lies; -1 beyond the edge of the ifmap."""
    is_ifmap, win, pixel_at, word_at, outside, rows, cols, overhangs = layout
    if not is_ifmap:
        return item * win + word
    if overhangs and (
        outside[0, item] + outside[2, word] >= rows or outside[1, item] + outside[3, word] >= cols
    ):
        return -1
    return pixel_at[item] + word_at[word]


@njit(cache=True, nogil=True)
def list_head(head, shape, form, layout, offset):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """The first places of the prefetch list, empty ones too; see `prefetch`."""
    rows, depth, lanes, size = shape
    lane_is_word, diagonal = form
    place, step = 0, 0
    while place < len(head):
        row, lane = (min(step, rows - 1), max(0, step - rows + 1)) if diagonal else (step, 0)
        while row >= 0 and lane < lanes and place < len(head):
            along, deep = row // depth * lanes + lane, row % depth
            head[place] = -1
            if along < size:
                item, word = (deep, along) if lane_is_word else (along, deep)
                address = address_of(layout, item, word)
                if address >= 0:
                    head[place] = address + offset
            place += 1
            lane += 1
            if diagonal:
                row -= 1
        step += 1


@njit(cache=True, nogil=True)
def read_line(  # type: ignore[no-untyped-def]  # noqa: ANN201, PLR0917
    state, stamps, half, calc, layout, lanes, cycle, offset, row, moved, events, counts,  # noqa: ANN001
):  # fmt: skip
    """Write down one line of a read stream; in CALC mode also what it misses."""
    lo, hi, p0, dp, q0, dq = lanes
    row[1:] = -1
    for lane in range(lo, hi):
        address = address_of(layout, p0 + dp * lane, q0 + dq * lane)
        if address < 0:
            continue
        row[1 + lane] = address + offset
        if calc and stamps[address] != state[fetches.REFILLS]:
            stamps[address] = state[fetches.REFILLS]
            state[fetches.HELD] += 1
            moved[counts[0]] = address + offset
            counts[0] += 1
            if state[fetches.HELD] == half:  # what is fetched now, the last refill has asked for
                event, last = events[counts[1]], state[fetches.LATEST]
                event[0], event[1] = state[NEXT] + 1, last - state[NEXT] + 1
                counts[1] += 1
                state[NEXT] = last + 1
                fetches.refill(state, cycle)


@njit(cache=True, nogil=True)
def write_line(state, ring, sizes, lanes, by, cycle, offset, row, moved, events, counts):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """Take and write down one line of results; returns the cycle in which the last is in."""
    lo, hi, p0, dp, q0, dq = lanes
    row[1:] = -1
    for lane in range(lo, hi):
        address = (p0 + dp * lane) * by + q0 + dq * lane + offset
        row[1 + lane] = address
        moved[counts[0]] = address
        counts[0] += 1
        drained = state[memory.DRAINED]
        cycle = memory.write(state, ring[0], ring[1], sizes, 1, cycle)
        if state[memory.DRAINED] > drained:
            event = events[counts[1]]
            event[0], event[1], event[2] = cycle, state[memory.DRAINED] - drained, counts[0]
            counts[1] += 1
    row[0] = cycle
    return cycle


@njit(cache=True, nogil=True)
def record(  # type: ignore[no-untyped-def]  # noqa: ANN201, PLR0917
    clock, states, layouts, calc, user, writes, array, until,  # noqa: ANN001
    offsets, rows, moved, events, counts,  # noqa: ANN001
):  # fmt: skip
    """Lines from the clock's on, until line `until`.

    Args:
        clock: LINE, STALL, TOTAL.
        states: of ifmap, filter and ofmap buffer.
        layouts: of ifmap and filter; see `address_of`.
        calc: stamps and words of half a buffer, for each; and whether this is CALC mode.
        user: lines in which the windows move and how often, when the last refills ended, and the
            cycles of one, for each; see `memory.walk`.
        writes: the write buffer's ring and sizes.
        array: dataflow, R, C, S_R, S_C, T, cycles of a fold, folds along the rows.
        until: the line to stop before.
        offsets: added to the addresses of ifmap, filter and ofmap.
        rows: for each stream: cycle and addresses, line after line.
        moved: for each stream: words fetched (CALC) or written, in order.
        events: for each stream: first cycle and cycles of a fetch, or cycle, rows and words
            before it of a drain.
        counts: for each stream: how many of `moved` and of `events`.
    """
    dataflow, R, C, S_R, S_C, T, fold_cycles, along_rows = array
    (stamps, halves, is_calc), (moves, latest, gaps), (ring, write_sizes) = calc, user, writes
    filters = T if dataflow == IS else S_C
    start = clock[LINE]
    handled = np.zeros(2, np.int64)
    for at in range(start, until):
        cycle, row, waited = at + clock[STALL], at - start, 0
        fold = at // fold_cycles
        b = fold // along_rows
        a, t = fold - b * along_rows, at - fold * fold_cycles
        for stream in (IFMAP, FILTER):
            lanes = line(dataflow, stream, t, a, b, R, C, S_R, S_C, T)
            read_line(
                states[stream], stamps[stream], halves[stream], is_calc, layouts[stream], lanes,
                cycle, offsets[stream], rows[stream][row], moved[stream], events[stream],
                counts[stream],
            )  # fmt: skip
            lines, often = moves[stream]
            late = 1
            if lines[handled[stream]] == at:
                times = often[handled[stream]]
                late = memory.lateness(latest[stream], times, gaps[stream], cycle, False)  # noqa: FBT003
                handled[stream] += 1
            rows[stream][row, 0] = cycle + late
            waited = max(waited, late - 1)
        written = write_line(
            states[OFMAP], ring, write_sizes, line(dataflow, OFMAP, t, a, b, R, C, S_R, S_C, T),
            filters, cycle, offsets[OFMAP],
            rows[OFMAP][row], moved[OFMAP], events[OFMAP], counts[OFMAP],
        )  # fmt: skip
        clock[TOTAL] = written
        clock[STALL] += max(waited, written - cycle)
    clock[LINE] = until
