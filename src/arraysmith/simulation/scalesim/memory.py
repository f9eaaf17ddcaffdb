"""SCALE-Sim's memories, exactly: what each buffer does and when, stalls included.

A read buffer moves its window where a word is missing (`prefetch`) and answers late if the refill
is; the write buffer drains when half of it is full. Between two such events nothing but counters
changes, so the kernels jump from one event to the next. All quirks are kept (`docs/scalesim.md`);
a call covers a bounded number of cycles and gives the interpreter back, so that a walk can be shown
and interrupted. State lives in integer arrays, indexed by the names below.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from arraysmith.simulation.scalesim.demand import OFMAP, OS, line

# The write buffer: rows closed and drained, words; then the partial rows that wait.
CLOSED, DRAINED, OPEN, FREE, BUSY, WRITTEN, DRAIN_START, DRAIN_STOP, HEAD, TAIL = range(10)
WRITE_STATE = 10

# The clock.
LINE, STALL = range(2)

LAST = 3
"""In the place of a stream: the very last line."""
NEVER = -(1 << 60)


@njit(cache=True, nogil=True)
def drain(state, partial_row, partial_words, half_rows, row_words, cycle):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """Write the oldest rows out, at most half a buffer, a row a cycle; returns the last cycle.

    Only the last of them may count as partial, whatever the others were (Q13).
    """
    rows = min(half_rows, state[CLOSED] - state[DRAINED])
    last = state[DRAINED] + rows - 1
    words = rows * row_words
    while state[HEAD] < state[TAIL]:
        place = state[HEAD] % len(partial_row)
        if partial_row[place] > last:
            break
        if partial_row[place] == last:
            words -= row_words - partial_words[place]
        state[HEAD] += 1
    state[DRAINED] += rows
    state[WRITTEN] += words
    state[FREE] += words
    if state[DRAIN_START] == NEVER:
        state[DRAIN_START] = cycle
    end = cycle + rows - 1
    state[DRAIN_STOP] = max(state[DRAIN_STOP], end)
    return end


@njit(cache=True, nogil=True)
def close_row(state, partial_row, partial_words):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Close the row that is being filled, partial as it is."""
    if state[OPEN] > 0:
        place = state[TAIL] % len(partial_row)
        partial_row[place], partial_words[place] = state[CLOSED], state[OPEN]
        state[TAIL] += 1
        state[CLOSED] += 1
        state[OPEN] = 0


@njit(cache=True, nogil=True)
def write(state, partial_row, partial_words, sizes, requests, cycle):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """Take the words of one line; returns the cycle in which the last of them is in."""
    capacity, half, half_rows, row_words = sizes
    free = state[FREE] - requests
    if free > 0 if cycle < state[BUSY] else free >= capacity - half:  # nothing happens but filling
        filled = state[OPEN] + requests
        state[CLOSED] += filled // row_words
        state[OPEN] = filled % row_words
        state[FREE] = free
        return cycle
    for _ in range(requests):
        state[OPEN] += 1
        state[FREE] -= 1
        if state[OPEN] == row_words:
            state[CLOSED] += 1
            state[OPEN] = 0
        if cycle < state[BUSY]:
            if state[FREE] <= 0:
                cycle = state[BUSY]
        elif state[FREE] < capacity - half:
            close_row(state, partial_row, partial_words)
            state[BUSY] = drain(state, partial_row, partial_words, half_rows, row_words, cycle)
    return cycle


@njit(cache=True, nogil=True)
def write_lines(ofmap, partial_row, partial_words, sizes, array, start, until, stalled):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """Take the words of lines start…until-1, in which no read is late; returns the stalls so far.

    As many lines at once as ask for the same and reach neither a drain nor its end.
    """
    dataflow, R, C, S_R, S_C, T, fold_cycles, along_rows = array
    capacity, half, _, row_words = sizes
    at = start
    while at < until:
        fold = at // fold_cycles
        fold_start = fold * fold_cycles
        b = fold // along_rows
        rows, cols = min(R, S_R - (fold - b * along_rows) * R), min(C, S_C - b * C)
        depth, begin = T, fold_start + 2 * R - 1
        if dataflow == OS:
            depth, begin = rows, fold_start + T - 1 + R - rows
        short, long = min(depth, cols), max(depth, cols)
        stop = min(until, begin + depth + cols - 1)
        at = max(at, begin)
        while at < stop:
            u, cycle = at - begin, at + stalled
            words = min(u + 1, short, depth + cols - 1 - u)
            count = min(long - u, stop - at) if short - 1 <= u < long else 1
            if cycle < ofmap[BUSY]:
                count = min(count, ofmap[BUSY] - cycle, (ofmap[FREE] - 1) // words)
            else:
                count = min(count, (ofmap[FREE] - capacity + half) // words)
            if count > 0:
                filled = ofmap[OPEN] + count * words
                ofmap[CLOSED] += filled // row_words
                ofmap[OPEN] = filled % row_words
                ofmap[FREE] -= count * words
                at += count
            else:
                stalled += write(ofmap, partial_row, partial_words, sizes, words, cycle) - cycle
                at += 1
        at = min(until, fold_start + fold_cycles)
    return stalled


@njit(cache=True, nogil=True)
def lateness(reads, moves, gap, cycle, once):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """How late the answer to a line comes whose requests moved the window so often.

    A refill ends a fixed time after the one before it, whenever it was asked for (Q7), and what it
    is late is added twice (Q1), unless `once` asks for the physical sum.
    """
    late = 1
    for _ in range(moves):
        reads[0] += gap
        wait = reads[0] - (cycle + late)
        if once:
            late += max(wait, 0)
            continue
        late += wait
        if wait > 0:
            late += wait
    return late


@njit(cache=True, nogil=True)
def next_mark(marks, at, event):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """The first marked line from `at` on, or `event` if that is earlier."""
    for place in range(marks.size):
        if at <= marks.flat[place] < event:
            event = marks.flat[place]
    return event


@njit(cache=True, nogil=True)
def note(seen, marks, at, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Write down the cycle of each stream's answer to line `at` where it is marked."""
    for stream in range(len(marks)):
        for end in range(2):
            if marks[stream, end] == at:
                seen[stream, end] = out[stream]


@njit(cache=True, nogil=True)
def walk(clock, ofmap, latest, moves, marks, seen, ring, array, gaps, once, write_sizes, until):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """From one line in which something happens to the next, until line `until`.

    Args:
        clock: LINE, STALL.
        ofmap: state of the write buffer.
        latest: for ifmap and filter, (1,): when the last refill ended.
        moves: for ifmap and filter: lines in which the window moves, ascending, with one beyond
            `until` at the end; and how often it moves in each.
        marks: lines whose answers are noted: first and last of each stream, and the very last.
        seen: the cycle of each of these.
        ring: rows and words of the write buffer's partial rows.
        array: dataflow, R, C, S_R, S_C, T, cycles of a fold, folds along the rows.
        gaps: cycles from one refill of ifmap and of filter to the next.
        once: count late reads once.
        write_sizes: capacity, half, rows of a half and words of a row.
        until: the line to stop before.
    """
    dataflow, R, C, S_R, S_C, T, fold_cycles, along_rows = array
    (ifmap_latest, filter_latest), (partial_row, partial_words) = latest, ring
    ifmap_lines, ifmap_moves, filter_lines, filter_moves = moves
    at, stalled = clock[LINE], clock[STALL]
    ifmap_at = filter_at = 0
    while at < until:
        event = min(until, ifmap_lines[ifmap_at], filter_lines[filter_at])
        event = next_mark(marks, at, event)
        if event > at:
            stalled = write_lines(
                ofmap, partial_row, partial_words, write_sizes, array, at, event, stalled
            )
            at = event
            continue
        cycle, late, later = at + stalled, 1, 1
        if ifmap_lines[ifmap_at] == at:
            late = lateness(ifmap_latest, ifmap_moves[ifmap_at], gaps[0], cycle, once)
            ifmap_at += 1
        if filter_lines[filter_at] == at:
            later = lateness(filter_latest, filter_moves[filter_at], gaps[1], cycle, once)
            filter_at += 1
        fold = at // fold_cycles
        b = fold // along_rows
        a, t = fold - b * along_rows, at - fold * fold_cycles
        lo, hi, _, _, _, _ = line(dataflow, OFMAP, t, a, b, R, C, S_R, S_C, T)
        written = cycle
        if hi > lo:
            written = write(ofmap, partial_row, partial_words, write_sizes, hi - lo, cycle)
        note(seen, marks, at, (cycle + late, cycle + later, written, written))
        stalled += max(0, late - 1, later - 1, written - cycle)
        at += 1
    clock[LINE], clock[STALL] = at, stalled


@njit(cache=True, nogil=True)
def flush(cycle, ofmap, partial_row, partial_words, write_sizes):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """After the last line: write out what is left, from its cycle on (Q14)."""
    close_row(ofmap, partial_row, partial_words)
    while ofmap[DRAINED] < ofmap[CLOSED]:
        cycle = drain(ofmap, partial_row, partial_words, write_sizes[2], write_sizes[3], cycle) + 1


def write_state(capacity: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A write buffer before its first word."""
    state = np.zeros(WRITE_STATE, np.int64)
    state[FREE] = capacity
    state[DRAIN_START] = state[DRAIN_STOP] = NEVER
    return state
