"""SCALE-Sim's memories, exactly: what each buffer does in every cycle, stalls included.

The array asks line by line (`demand`); a read buffer answers from its window or waits for refills,
the write buffer drains when half of it is full. All quirks are kept (`docs/cycles.md`); the kernels
are compiled, walk a bounded number of cycles a call, and give the interpreter back in between, so
that a walk can be shown and interrupted. State lives in integer arrays, indexed by the names below.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from arraysmith.simulation.scalesim.demand import FILTER, IFMAP, OFMAP, line

# A read buffer: what CALC mode counts, then what USER mode counts, then what the array saw.
SETS, IN_SET, WINDOW, REFILLS, ISSUED, START, STOP, NEXT, ASKED, FIRST = range(10)
POSITION, LATEST, EPOCH, FETCHED = range(10, 14)
SEEN_FIRST, SEEN_LAST = 14, 15
READ_STATE = 16

# The write buffer: rows closed and drained, words; then the partial rows that wait.
CLOSED, DRAINED, OPEN, FREE, BUSY, WRITTEN, DRAIN_START, DRAIN_STOP, HEAD, TAIL = range(10)
OUT_FIRST, OUT_LAST = 10, 11
WRITE_STATE = 12

# The clock.
LINE, STALL, TOTAL, TROUBLE = range(4)
FINE, ENDLESS, EMPTY_INTERVAL = range(3)

ACTIVE_SETS, FIRST_FILL_CYCLES_A_SET = 50, 5
NEVER = -(1 << 60)


@njit(cache=True, nogil=True)
def hit_calc(state, stamp, address, set_words, cycle):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """CALC: count a word that is not in the window; issue half a buffer when its sets are full."""
    if state[ASKED] < 0:
        state[ASKED] = cycle
    if stamp[address] >= state[WINDOW]:
        return FINE
    stamp[address] = state[SETS]
    state[IN_SET] += 1
    if state[IN_SET] < set_words:
        return FINE
    state[IN_SET] = 0
    state[SETS] += 1
    if state[SETS] < state[WINDOW] + ACTIVE_SETS:
        return FINE
    first, last = state[NEXT], state[FIRST]
    if state[REFILLS] == 0:  # the first half is fetched before the first request, at a fixed rate
        last = state[ASKED] - 2
        first = last - FIRST_FILL_CYCLES_A_SET * set_words + 1
        state[START] = first
    state[REFILLS] += 1
    state[ISSUED] += ACTIVE_SETS * set_words
    state[WINDOW] += ACTIVE_SETS
    state[STOP] = last
    state[NEXT], state[FIRST] = last + 1, cycle
    return FINE if last >= first else EMPTY_INTERVAL


@njit(cache=True, nogil=True)
def held(first_line, lines, address, position, active, count):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """Whether some line of an address is in the circular window position … position + active."""
    low, high = first_line[address], first_line[address + 1]
    end = position + active
    if end > count and lines[low] < end - count:
        return True
    stop = high
    while low < stop:
        middle = (low + stop) // 2
        if lines[middle] < position:
            low = middle + 1
        else:
            stop = middle
    return low < high and lines[low] < end


@njit(cache=True, nogil=True)
def refill_until_held(state, address, first_line, lines, sizes, cycle, late):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """USER: move the window until it holds the address; returns how late the answer is, or -1.

    A refill ends a fixed time after the one before it, whenever it was asked for (Q7), and what it
    is late is added twice (Q1).
    """
    count, active, step, requests, words_per_cycle = sizes
    moves = 0
    while not held(first_line, lines, address, state[POSITION], active, count):
        if step == 0 or moves > count:
            return NEVER
        moves += 1
        state[POSITION] = (state[POSITION] + step) % count
        state[EPOCH] += 1
        state[LATEST] += requests + 1
        state[FETCHED] += requests * words_per_cycle
        wait = state[LATEST] - (cycle + late)
        late += wait
        if wait > 0:
            late += wait
    return late


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
def walk(  # type: ignore[no-untyped-def]  # noqa: ANN201, C901, PLR0917
    clock, ifmap, filter_, ofmap, partial_row, partial_words,  # noqa: ANN001
    array, user, ifmap_at, filter_at, write_sizes, until,  # noqa: ANN001
):  # fmt: skip
    """Serve lines until line `until`; all state is in the arrays that come in.

    Args:
        clock: LINE, STALL, TOTAL, TROUBLE.
        ifmap, filter_, ofmap: the buffers' states.
        partial_row, partial_words: a ring for partial rows of the write buffer.
        array: dataflow, R, C, S_R, S_C, T, cycles of a fold, folds along the rows.
        user: USER mode, else CALC.
        ifmap_at, filter_at: addresses, stamps and sizes of the read buffers; see `walker`.
        write_sizes: capacity, half, rows of a half and words of a row.
        until: the line to stop before.
    """
    dataflow, R, C, S_R, S_C, T, fold_cycles, along_rows = array
    pixel_at, word_at, outside, rows, cols, overhangs, ifmap_read = ifmap_at
    win, filter_read = filter_at
    while clock[LINE] < until:
        fold, t = divmod(clock[LINE], fold_cycles)
        b, a = divmod(fold, along_rows)
        cycle = clock[LINE] + clock[STALL]
        stall = 0
        for stream in (IFMAP, FILTER):
            state = ifmap if stream == IFMAP else filter_
            stamp, first_line, lines, sizes, set_words = (
                ifmap_read if stream == IFMAP else filter_read
            )
            lo, hi, p0, dp, q0, dq = line(dataflow, stream, t, a, b, R, C, S_R, S_C, T)
            late, asked = 1, False
            for lane in range(lo, hi):
                item, word = p0 + dp * lane, q0 + dq * lane
                if stream == FILTER:
                    address = item * win + word
                elif overhangs and (
                    outside[0, item] + outside[2, word] >= rows
                    or outside[1, item] + outside[3, word] >= cols
                ):
                    continue
                else:
                    address = pixel_at[item] + word_at[word]
                asked = True
                if not user:
                    clock[TROUBLE] = max(
                        clock[TROUBLE], hit_calc(state, stamp, address, set_words, cycle)
                    )
                elif stamp[address] != state[EPOCH]:
                    late = refill_until_held(state, address, first_line, lines, sizes, cycle, late)
                    if late == NEVER:
                        clock[TROUBLE] = ENDLESS
                        return
                    stamp[address] = state[EPOCH]
            if asked:
                if state[SEEN_FIRST] == NEVER:
                    state[SEEN_FIRST] = cycle + late
                state[SEEN_LAST] = cycle + late
            stall = max(stall, late - 1)
        lo, hi, _, _, _, _ = line(dataflow, OFMAP, t, a, b, R, C, S_R, S_C, T)
        clock[TOTAL] = cycle
        if hi > lo:
            clock[TOTAL] = write(
                ofmap, partial_row, partial_words, write_sizes, hi - lo, cycle
            )
            if ofmap[OUT_FIRST] == NEVER:
                ofmap[OUT_FIRST] = clock[TOTAL]
            ofmap[OUT_LAST] = clock[TOTAL]
        clock[STALL] += max(stall, clock[TOTAL] - cycle)
        clock[LINE] += 1


@njit(cache=True, nogil=True)
def flush(clock, ofmap, partial_row, partial_words, write_sizes):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """After the last line: write out what is left, from the last cycle on (Q14)."""
    close_row(ofmap, partial_row, partial_words)
    cycle = clock[TOTAL]
    while ofmap[DRAINED] < ofmap[CLOSED]:
        cycle = drain(ofmap, partial_row, partial_words, write_sizes[2], write_sizes[3], cycle) + 1


def read_state() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A read buffer before its first request."""
    state = np.zeros(READ_STATE, np.int64)
    state[ASKED] = state[LATEST] = -1
    state[SEEN_FIRST] = NEVER
    return state


def write_state(capacity: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A write buffer before its first word."""
    state = np.zeros(WRITE_STATE, np.int64)
    state[FREE] = capacity
    state[DRAIN_START] = state[DRAIN_STOP] = state[OUT_FIRST] = NEVER
    return state
