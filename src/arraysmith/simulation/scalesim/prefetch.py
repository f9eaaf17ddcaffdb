"""USER mode's read buffers: the list in which SCALE-Sim prefetches, cut into lines.

The list holds the operand's fold blocks one under the other, in anti-diagonal order (row-major for
the operand that stays in the PEs). It is cut into lines of a hundredth of the buffer, duplicates
and all, and a buffer holds a window of consecutive lines, circularly (Q8, Q9, Q10).

The list is never written down: the place of an element in it is arithmetic, (18) in
docs/cycles.md. As the array asks in the order of the list but for the seams of blocks, whole
stretches of cycles lie within the window, and only at its ends are requests looked at one by one.
Which refills there are does not depend on when they arrive, so each stream is on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from arraysmith.hardware import Dataflow
from arraysmith.simulation.scalesim.closed_form import WORDS_PER_KIB
from arraysmith.simulation.scalesim.demand import OS
from arraysmith.simulation.scalesim.listing import (
    count_missing,
    holds,
    listed_before,
    over_the_edge,
    place,
    places,
)
from arraysmith.workload import ceil_div

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.hardware import Accelerator, StreamBandwidths
    from arraysmith.simulation.scalesim.geometry import Im2col, Windows

LINES_A_BUFFER = 100

# What a walk through the requests of a stream knows; see `refills`.
LINE, POSITION, MOVES, ENDLESS = range(4)
STATE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """How an operand lies in the list: `blocks` blocks of `lanes` lanes × `depth` rows."""

    blocks: int
    depth: int
    lanes: int
    size: int
    """Elements along the lanes, over all blocks; lanes beyond are empty."""
    along_rows: bool
    """Whether the blocks are the folds along the rows (else along the columns)."""
    lane_is_word: bool
    """Whether a lane is a word of the window (else a pixel or a filter)."""
    diagonal: bool

    @property
    def lines(self) -> int:
        """Anti-diagonals of the stacked blocks, or rows."""
        return self.blocks * self.depth + (self.lanes - 1 if self.diagonal else 0)

    @property
    def shape(self) -> tuple[bool, bool, bool, int, int, int, int]:
        """For the kernels."""
        return (
            self.diagonal,
            self.lane_is_word,
            self.along_rows,
            self.lanes,
            self.depth,
            self.blocks,
            self.size,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prefetch:
    """The prefetch list of one stream, and the sizes of its buffer in lines of it."""

    blocks: Blocks
    windows: Windows
    """Of an ifmap; what hangs over the edge is not in the list."""
    missing: NDArray[np.int64]
    """Elements over the edge before each row or anti-diagonal; one number where there are none."""
    line_words: int
    count: int
    """Lines of the list."""
    active: int
    """Lines of the window that is read from."""
    step: int
    """Lines that a refill moves the window by."""
    first_requests: int
    """Requests of the initial fetch, which end at cycle -1."""
    requests: int
    """Requests of a refill."""
    words_per_cycle: int

    @property
    def fits(self) -> bool:
        """Whether the window holds the whole list, so that nothing is ever missed."""
        return self.count <= self.active

    @property
    def most_copies(self) -> int:
        """In how many places of the list one word may be."""
        _, _, rows, cols, _, stride, _, _, _, distinct = self.windows
        return 1 if distinct else ceil_div(rows, stride) * ceil_div(cols, stride)

    def refills(  # noqa: PLR0917
        self,
        state: NDArray[np.int64],
        room: NDArray[np.int64],
        array: tuple[int, ...],
        lines: NDArray[np.int64],
        moves: NDArray[np.int64],
        until: int,
    ) -> int:
        """See the kernel of this name."""
        sizes = self.line_words, self.count, self.active, self.step
        found: int = refills(
            state,
            room,
            self.blocks.shape,
            self.windows,
            self.missing,
            sizes,
            array,
            lines,
            moves,
            until,
        )
        return found

    def dram(self, refills: int) -> tuple[int, int, int]:
        """DRAM start, stop and words after so many refills."""
        requests = self.first_requests + refills * self.requests
        return (
            -self.first_requests,
            -1 + refills * (self.requests + 1),
            requests * self.words_per_cycle,
        )


def prefetches(
    matrix: Im2col, accelerator: Accelerator, bandwidths: StreamBandwidths
) -> tuple[Prefetch, Prefetch]:
    """The lists of ifmap and filter."""
    ifmap, filter_ = _blocks(matrix, accelerator)
    return (
        _prefetch(
            ifmap,
            matrix.windows,
            WORDS_PER_KIB * accelerator.ifmap_buffer_kib,
            bandwidths.ifmap_words_per_cycle,
        ),
        _prefetch(
            filter_,
            (1, 1, 1, 1, 1, 1, 1, 1, False, True),
            WORDS_PER_KIB * accelerator.filter_buffer_kib,
            bandwidths.filter_words_per_cycle,
        ),
    )


def list_bytes(matrix: Im2col, accelerator: Accelerator) -> int:
    """What the lists take in memory: something only where windows hang over the edge."""
    return 8 * _blocks(matrix, accelerator)[0].lines if matrix.overhangs else 0


def _blocks(matrix: Im2col, accelerator: Accelerator) -> tuple[Blocks, Blocks]:
    """Those of ifmap and filter; their shapes depend on the dataflow."""
    S_R, S_C, T = matrix.on_array(accelerator.dataflow)
    R, C = accelerator.rows, accelerator.cols
    streaming = Blocks(
        blocks=ceil_div(S_R, R),
        depth=T,
        lanes=R,
        size=S_R,
        along_rows=True,
        lane_is_word=accelerator.dataflow is not Dataflow.OS,
        diagonal=True,
    )
    skewed = accelerator.dataflow is Dataflow.OS
    staying = Blocks(
        blocks=ceil_div(S_C, C),
        depth=T if skewed else S_R,
        lanes=C,
        size=S_C,
        along_rows=False,
        lane_is_word=False,
        diagonal=skewed,
    )
    return (staying, streaming) if accelerator.dataflow is Dataflow.IS else (streaming, staying)


def _prefetch(
    blocks: Blocks,
    windows: Windows,
    buffer_words: int,
    words_per_cycle: int,
) -> Prefetch:
    """The list of a stream for a buffer and a bandwidth."""
    places = blocks.blocks * blocks.depth * blocks.lanes
    missing = np.zeros(1, np.int64)
    if windows[-2]:
        missing = np.zeros(blocks.lines + 1, np.int64)
        count_missing(missing, blocks.shape, windows)
    listed = blocks.size * blocks.depth - int(missing[-1])
    line_words = ceil_div(buffer_words, LINES_A_BUFFER)
    active_words = ceil_div(buffer_words, 2)
    other_words = buffer_words - active_words
    count = listed // line_words + 1
    active = min(count, ceil_div(active_words, line_words))
    return Prefetch(
        blocks=blocks,
        windows=windows,
        missing=missing,
        line_words=line_words,
        count=count,
        active=active,
        step=min(count - active, ceil_div(other_words, line_words)),
        first_requests=min(
            ceil_div(active_words, words_per_cycle), ceil_div(places, words_per_cycle)
        ),
        requests=ceil_div(other_words, words_per_cycle),
        words_per_cycle=words_per_cycle,
    )


@njit(cache=True, nogil=True)
def serve(state, found, shape, windows, missing, sizes, line):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """One line of requests, one by one; moves the window and returns how often."""
    diagonal, _, _, lanes, depth, _, _ = shape
    line_words, count, active, step = sizes
    block, at, lo, hi = line
    moves, room, total = 0, active * line_words, count * line_words
    lower = state[POSITION] * line_words
    for lane in range(lo, hi):
        row = at - lane if diagonal else at
        along, deep = block * lanes + lane, row - block * depth
        if windows[8] and over_the_edge(shape, windows, along, deep):
            continue
        window = (lower, lower + room, total)
        if holds(window, place(shape, windows, missing, row, lane)):
            continue
        copies, laps = places(found, shape, windows, missing, along, deep, window), 0
        held = copies == 0
        while not held:
            if step == 0 or laps > count:
                state[ENDLESS] = 1
                return moves
            state[POSITION] = (state[POSITION] + step) % count
            lower = state[POSITION] * line_words
            laps += 1
            moves += 1
            for copy in found[:copies]:
                held = held or holds((lower, lower + room, total), copy)
    return moves


@njit(cache=True, nogil=True)
def stretch(shape, windows, missing, window, at, most):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """How many lines of a fold from list line `at` on, `most` at the most, are held entirely."""
    diagonal = shape[0]
    lower, upper, total = window
    first = listed_before(shape, windows, missing, at)
    last = listed_before(shape, windows, missing, at + 1)
    if last <= upper - total:
        lower, upper = 0, upper - total
    elif first < lower or last > min(upper, total):
        return 0
    low, high = 0, most
    middle = most  # mostly all of them
    while True:
        if diagonal:
            held = listed_before(shape, windows, missing, at + middle) <= upper
        else:
            held = listed_before(shape, windows, missing, at - middle + 1) >= lower
        if held:
            low = middle
        else:
            high = middle
        if high - low <= 1 or low == most:
            return low
        middle = (low + high) // 2


@njit(cache=True, nogil=True)
def refills(state, found, shape, windows, missing, sizes, array, lines, moves, until):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """The lines of the array in which the window moves, and how often; returns how many there are.

    Args:
        state: LINE to go on from, POSITION of the window, MOVES in all, and ENDLESS.
        found: room for the places of a word, and one; see `listing.places`.
        shape, windows, missing, sizes: of the list; see `Prefetch`.
        array: dataflow, R, C, S_R, S_C, T, cycles of a fold, folds along the rows.
        lines, moves: where to write them.
        until: the line to stop before.
    """
    diagonal, _, along_rows_, lanes, depth, _, size = shape
    line_words, count, active, _ = sizes
    dataflow, R, _, S_R, _, _, fold_cycles, along_rows = array
    written, at = 0, state[LINE]
    while at < until:
        fold = at // fold_cycles
        start = fold * fold_cycles
        b = fold // along_rows
        a = fold - b * along_rows
        block = a if along_rows_ else b
        used = min(lanes, size - block * lanes)
        begin, cycles = 0 if dataflow == OS else R, depth + used - 1
        if not diagonal:
            cycles = min(R, S_R - a * R)
            begin = R - cycles
        stop = min(until, start + begin + cycles)
        at = max(at, start + begin)
        while at < stop:
            t = at - start - begin
            listed = block * depth + (t if diagonal else a * R + cycles - 1 - t)
            lower = state[POSITION] * line_words
            window = (lower, lower + active * line_words, count * line_words)
            quiet = stretch(shape, windows, missing, window, listed, stop - at)
            at += quiet
            if quiet > 0:
                continue
            lo, hi = (max(0, t - depth + 1), min(used, t + 1)) if diagonal else (0, used)
            moved = serve(state, found, shape, windows, missing, sizes, (block, listed, lo, hi))
            if moved > 0:
                lines[written], moves[written] = at, moved
                state[MOVES] += moved
                written += 1
            at += 1
            if state[ENDLESS]:
                return written
        at = min(until, start + fold_cycles)
    state[LINE] = until
    return written
