"""CALC mode's read buffers: what is fetched, and when, of a stream that does not fit.

A buffer holds the words missed since its last refill; the miss that fills half of it starts the
next refill and empties it (`docs/cycles.md`, (17)). Nothing ever waits, so each stream is on its
own. Where every word has a place of its own in the operand, a pass through it asks for distinct
words only, and one refill is reached from the last by counting: `distinct`. Windows that overlap
ask for a word several times; those are looked up one by one: `overlapping`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from arraysmith.simulation.scalesim.demand import FILTER, IFMAP, IS, OS, line
from arraysmith.simulation.scalesim.diagonals import diagonal_of

# What is known of a stream: refills, words since the last one, all words, the last refill's cycle,
# and whether two refills fell into one cycle.
REFILLS, HELD, WORDS, LATEST, TWICE = range(5)
STATE = 5

STAMPS = 255
ACTIVE_SETS, FIRST_FILL_CYCLES_A_SET = 50, 5
"""Sets of half a buffer; the first half comes before the first request, at a fixed rate."""


@njit(cache=True, nogil=True)
def refill(state, cycle):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Half a buffer is missed: it is fetched, and the buffer holds nothing."""
    if state[REFILLS] > 0 and state[LATEST] == cycle:
        state[TWICE] = 1
    state[REFILLS] += 1
    state[HELD], state[LATEST] = 0, cycle


@njit(cache=True, nogil=True)
def cycle_of(array, stream, group, request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """The cycle of a request, counted from the first of its group; see `distinct`."""
    dataflow, R, C, S_R, S_C, T, fold_cycles, along_rows = array
    if dataflow == OS and stream == FILTER:
        lanes = min(C, S_C - group * C)
        fold = request // (lanes * T)
        t = diagonal_of(lanes, T, request - fold * lanes * T)
        return (group * along_rows + fold) * fold_cycles + t
    if dataflow == OS or (stream == IFMAP) != (dataflow == IS):  # streams along the rows
        passes = request // (S_R * T)
        request -= passes * S_R * T
        fold = request // (R * T)
        t = diagonal_of(min(R, S_R - fold * R), T, request - fold * R * T)
        start = 0 if dataflow == OS else R
        return (passes * along_rows + fold) * fold_cycles + start + t
    outer = request // (S_R * C)  # stays in the PEs
    request -= outer * S_R * C
    cols = min(C, S_C - outer * C)
    fold = request // (R * cols)
    t = R - min(R, S_R - fold * R) + (request - fold * R * cols) // cols
    return (outer * along_rows + fold) * fold_cycles + t


@njit(cache=True, nogil=True)
def distinct(state, array, stream, half):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """From refill to refill through an operand each word of which lies in one place only.

    The requests are groups of passes, each pass of a group through the same words, which no other
    group has: OS passes through the filters of a fold once a fold along the rows; what streams
    along the rows is passed whole once a fold along the columns; what stays is passed once.
    """
    dataflow, R, C, S_R, S_C, T, _, along_rows = array
    along_cols = -(-S_C // C)
    groups, passes, words = 1, along_cols, S_R * T
    if dataflow == OS and stream == FILTER:
        groups, passes = along_cols, along_rows
    elif dataflow != OS and (stream == IFMAP) == (dataflow == IS):
        passes, words = 1, S_R * S_C
    crowded = half <= max(R, C)  # two refills may fall into one cycle
    for group in range(groups):
        if groups > 1 or (dataflow == OS and stream == FILTER):
            words = min(C, S_C - group * C) * T
        asked, held, latest = 0, 0, -1
        # After `held` words of the group since the last refill, words - held are missed, then none.
        while True:
            missed = min(words - held, words * passes - asked, half - state[HELD])
            if missed <= 0:
                break
            asked, held = asked + missed, held + missed
            state[WORDS] += missed
            state[HELD] += missed
            if state[HELD] < half:
                break
            if crowded:
                refill(state, cycle_of(array, stream, group, asked - 1))
            else:
                state[REFILLS] += 1
                state[HELD] = 0
            held, latest = 0, asked - 1
        if latest >= 0 and not crowded:
            state[LATEST] = cycle_of(array, stream, group, latest)


@njit(cache=True, nogil=True)
def touch(stamps, windows, stamp, pixels, low, high, by_pixel):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """Stamp words low…high-1 of each of some pixels' windows; returns how many were not held.

    With each pixel, low and high move by `by_pixel` within 0…words of the lanes; see `stretch`.
    """
    rows, cols, _, filter_cols, channels, stride, _, ofmap_cols, _, _ = windows
    row_words, missed = filter_cols * channels, 0
    first, last = pixels
    window_row = first // ofmap_cols
    window_col = first - window_row * ofmap_cols
    begin, end, least, most = low, high, by_pixel[1], by_pixel[2]
    filter_row, known = 0, -1
    for _ in range(first, last):
        word, stop = max(begin, least), min(end, most)
        if word != known:
            filter_row, known = word // row_words, word
        row, offset = filter_row, word - filter_row * row_words
        while word < stop and window_row * stride + row < rows:
            count = min(row_words - offset, stop - word)
            edge = (cols - window_col * stride) * channels - offset  # beyond it they hang over
            at = ((window_row * stride + row) * cols + window_col * stride) * channels + offset
            held = stamps[at : at + max(0, min(count, edge))]
            for place in range(len(held)):
                missed += held[place] != stamp
                held[place] = stamp
            word += count
            row, offset = row + 1, 0
        begin, end = begin + by_pixel[0], end + by_pixel[0]
        window_col += 1
        if window_col == ofmap_cols:
            window_row, window_col = window_row + 1, 0
    return missed


@njit(cache=True, nogil=True)
def stretch(stamps, windows, stamp, array, a, b, t, until):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """Lines t…until-1 of a fold at once, in whatever order; returns how many words were missed.

    For each pixel they ask for consecutive words of its window.
    """
    dataflow, R, C, S_R, S_C, T, _, _ = array
    rows = min(R, S_R - a * R)
    if dataflow == OS:  # pixel aR + l asks for word t - l
        return touch(stamps, windows, stamp, (a * R, a * R + rows), t, until, (-1, 0, T))
    if dataflow == IS:  # all pixels of the fold ask for word aR + R - 1 - t
        low = a * R + R - until
        pixels = b * C, min((b + 1) * C, S_C)
        return touch(stamps, windows, stamp, pixels, low, a * R + R - t, (0, a * R, a * R + rows))
    # Pixel p asks for word aR + l in cycle R + p + l.
    pixels = max(0, t - R - rows + 1), max(0, min(T, until - R))
    low = a * R + t - R - pixels[0]
    return touch(stamps, windows, stamp, pixels, low, low + until - t, (-1, a * R, a * R + rows))


@njit(cache=True, nogil=True)
def stamp(stamps, refills):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """What marks a word as held: refills so far as a byte; as it comes round, old marks go."""
    if refills > 0 and refills % STAMPS == 0:
        stamps[:] = 0
    return np.uint8(refills % STAMPS + 1)


@njit(cache=True, nogil=True)
def overlapping(state, stamps, windows, array, half, start, until):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """Lines start…until-1 of the ifmap of a convolution.

    A word is held if it bears the stamp of the last refill. While even misses alone could not
    fill half the buffer, the order of requests does not matter, and many lines are taken at once;
    the lines around a refill are taken request by request.
    """
    dataflow, R, C, S_R, S_C, T, fold_cycles, along_rows = array
    most = C if dataflow == IS else R
    at, held = start, np.uint8(state[REFILLS] % STAMPS + 1)
    while at < until:
        fold = at // fold_cycles
        b = fold // along_rows
        a, t = fold - b * along_rows, at - fold * fold_cycles
        count = min(until - at, fold_cycles - t, (half - 1 - state[HELD]) // most)
        if count > 0:
            missed = stretch(stamps, windows, held, array, a, b, t, t + count)
            state[HELD] += missed
            state[WORDS] += missed
            at += count
            continue
        lo, hi, p0, dp, q0, dq = line(dataflow, IFMAP, t, a, b, R, C, S_R, S_C, T)
        for lane in range(lo, hi):
            pixel, word = p0 + dp * lane, q0 + dq * lane
            one = (pixel, pixel + 1)
            if touch(stamps, windows, held, one, word, word + 1, (0, 0, word + 1)):
                state[HELD] += 1
                state[WORDS] += 1
                if state[HELD] == half:
                    refill(state, at)
                    held = stamp(stamps, state[REFILLS])
        at += 1


def new_state() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Of a stream before its first request."""
    return np.zeros(STATE, np.int64)
