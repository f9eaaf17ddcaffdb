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

# How reads are answered.
CALC, USER, ONCE = range(3)

# The clock.
LINE, STALL, TOTAL, TROUBLE = range(4)
FINE, ENDLESS, EMPTY_INTERVAL = range(3)

ACTIVE_SETS, FIRST_FILL_CYCLES_A_SET = 50, 5
NEVER = -(1 << 60)


@njit(cache=True, nogil=True)
def miss_calc(state, stamp, address, set_words, cycle):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """CALC: count a word that is not in the window; issue half a buffer when its sets are full."""
    if state[ASKED] < 0:
        state[ASKED] = cycle
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
def refill_until_held(state, address, first_line, lines, sizes, cycle, late, once):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """USER: move the window until it holds the address; returns how late the answer is, or -1.

    A refill ends a fixed time after the one before it, whenever it was asked for (Q7), and what it
    is late is added twice (Q1), unless `once` asks for the physical sum.
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
        if once:
            late += max(wait, 0)
            continue
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
def ask(state, buffer, layout, lanes, a, b, user, cycle):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, C901, PLR0917
    """Serve one line of a read stream; returns how late its answer is, and what went wrong.

    Args:
        state: of the buffer.
        buffer: stamps, lines of the addresses, sizes, words of a set, and how the list lies.
        layout: whether this is the ifmap, words of a filter, and the ifmap's addresses.
        lanes: lo, hi, p0, dp, q0, dq of the line.
        a, b: the fold, along rows and columns.
        user: CALC, USER, or ONCE: USER with late reads counted once.
        cycle: of the line.
    """
    stamp, first_line, lines, sizes, set_words, own_line, along_rows, depth, width, by_word = buffer
    is_ifmap, win, pixel_at, word_at, outside, rows, cols, overhangs = layout
    lo, hi, p0, dp, q0, dq = lanes
    late, asked, trouble = 1, False, FINE
    epoch, window, position = state[EPOCH], state[WINDOW], state[POSITION]
    first = (a if along_rows else b) * depth
    for lane in range(lo, hi):
        item, word = p0 + dp * lane, q0 + dq * lane
        if is_ifmap:
            if overhangs and (
                outside[0, item] + outside[2, word] >= rows
                or outside[1, item] + outside[3, word] >= cols
            ):
                continue
            address = pixel_at[item] + word_at[word]
        else:
            address = item * win + word
        asked = True
        if user != CALC:
            # Mostly the line in which the element itself lies is there; another may hold the word.
            ahead = own_line[(first + (item if by_word else word)) * width + lane] - position
            if ahead < 0:
                ahead += sizes[0]
            if ahead >= sizes[1] and stamp[address] != epoch:
                late = refill_until_held(
                    state, address, first_line, lines, sizes, cycle, late, user == ONCE
                )
                if late == NEVER:
                    return 1, ENDLESS
                epoch, position = state[EPOCH], state[POSITION]
                stamp[address] = epoch
        elif stamp[address] < window:
            trouble = max(trouble, miss_calc(state, stamp, address, set_words, cycle))
            window = state[WINDOW]
    if asked:
        if state[SEEN_FIRST] == NEVER:
            state[SEEN_FIRST] = cycle + late
        state[SEEN_LAST] = cycle + late
    return late, trouble


@njit(cache=True, nogil=True)
def walk(clock, states, buffers, layouts, ring, array, user, write_sizes, until):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """Serve lines until line `until`; all state is in the arrays that come in.

    Args:
        clock: LINE, STALL, TOTAL, TROUBLE.
        states: of ifmap, filter and ofmap buffer.
        buffers, layouts: of ifmap and filter; see `ask`.
        ring: rows and words of the write buffer's partial rows.
        array: dataflow, R, C, S_R, S_C, T, cycles of a fold, folds along the rows.
        user: CALC, USER or ONCE.
        write_sizes: capacity, half, rows of a half and words of a row.
        until: the line to stop before.
    """
    dataflow, R, C, S_R, S_C, T, fold_cycles, along_rows = array
    ifmap, filter_, ofmap = states
    ifmap_buffer, filter_buffer = buffers
    ifmap_layout, filter_layout = layouts
    partial_row, partial_words = ring
    at, stalled = clock[LINE], clock[STALL]
    fold = at // fold_cycles
    t = at - fold * fold_cycles
    b = fold // along_rows
    a = fold - b * along_rows
    while at < until:
        cycle = at + stalled
        lanes = line(dataflow, IFMAP, t, a, b, R, C, S_R, S_C, T)
        late, trouble = ask(ifmap, ifmap_buffer, ifmap_layout, lanes, a, b, user, cycle)
        lanes = line(dataflow, FILTER, t, a, b, R, C, S_R, S_C, T)
        later, more = ask(filter_, filter_buffer, filter_layout, lanes, a, b, user, cycle)
        clock[TROUBLE] = max(trouble, more)
        if clock[TROUBLE] != FINE:
            return
        lo, hi, _, _, _, _ = line(dataflow, OFMAP, t, a, b, R, C, S_R, S_C, T)
        written = cycle
        if hi > lo:
            written = write(ofmap, partial_row, partial_words, write_sizes, hi - lo, cycle)
            if ofmap[OUT_FIRST] == NEVER:
                ofmap[OUT_FIRST] = written
            ofmap[OUT_LAST] = written
        clock[TOTAL] = written
        stalled += max(0, late - 1, later - 1, written - cycle)
        at += 1
        t += 1
        if t == fold_cycles:
            t, a = 0, a + 1
            if a == along_rows:
                a, b = 0, b + 1
        clock[LINE], clock[STALL] = at, stalled


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
