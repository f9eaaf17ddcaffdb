"""USER mode's read buffers: the list in which SCALE-Sim prefetches, cut into lines.

The list holds the operand's fold blocks one under the other, in anti-diagonal order (row-major for
the operand that stays in the PEs). It is cut into lines of a hundredth of the buffer, duplicates
and all, and a buffer holds a window of consecutive lines, circularly (Q8, Q9, Q10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from arraysmith.simulation.scalesim.geometry import ceil_div

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.simulation.scalesim.demand import Addresses

LINES_A_BUFFER = 100


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prefetch:
    """The prefetch list of one stream, and the sizes of its buffer in lines of it."""

    first_line: NDArray[np.int64]
    """(words + 1,): where the lines of an address begin in `lines`."""
    lines: NDArray[np.int32]
    """The lines that hold an address, ascending, address after address."""
    own_line: NDArray[np.int32]
    """(rows·lanes,): the line in which each element of the list itself lies."""
    blocks: Blocks
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


def prefetch(
    blocks: Blocks, where: Addresses, *, is_ifmap: bool, buffer_words: int, words_per_cycle: int
) -> Prefetch:
    """The prefetch list of a stream for a buffer and a bandwidth."""
    rows = blocks.blocks * blocks.depth
    line_words = ceil_div(buffer_words, LINES_A_BUFFER)
    listed, own_line = _listed(
        rows,
        blocks.depth,
        blocks.lanes,
        blocks.size,
        blocks.lane_is_word,
        blocks.diagonal,
        is_ifmap,
        where.pixel_at,
        where.word_at,
        where.outside,
        where.rows,
        where.cols,
        where.win,
        where.overhangs,
        line_words,
    )
    words = where.ifmap_words if is_ifmap else where.filter_words
    active_words = ceil_div(buffer_words, 2)
    other_words = buffer_words - active_words
    count = len(listed) // line_words + 1
    active = min(count, ceil_div(active_words, line_words))
    first_line, lines = _index(listed, line_words, words)
    return Prefetch(
        first_line=first_line,
        lines=lines,
        own_line=own_line,
        blocks=blocks,
        count=count,
        active=active,
        step=min(count - active, ceil_div(other_words, line_words)),
        first_requests=min(
            ceil_div(active_words, words_per_cycle), ceil_div(rows * blocks.lanes, words_per_cycle)
        ),
        requests=ceil_div(other_words, words_per_cycle),
        words_per_cycle=words_per_cycle,
    )


@njit(cache=True, nogil=True)
def _listed(  # type: ignore[no-untyped-def]  # noqa: ANN202, PLR0917
    rows, depth, lanes, size, lane_is_word, diagonal, is_ifmap,  # noqa: ANN001
    pixel_at, word_at, outside, ifmap_rows, ifmap_cols, win, overhangs, line_words,  # noqa: ANN001
):  # fmt: skip
    """Addresses of the list in order, without its empty places; and each element's own line."""
    found = np.empty(rows * lanes, np.int32)
    own = np.zeros(rows * lanes, np.int32)
    count = 0
    for step in range(rows + lanes - 1 if diagonal else rows):
        row, lane = (min(step, rows - 1), max(0, step - rows + 1)) if diagonal else (step, 0)
        while row >= 0 and lane < lanes:
            along = row // depth * lanes + lane
            if along < size:
                deep = row % depth
                own[row * lanes + lane] = count // line_words
                item, word = (deep, along) if lane_is_word else (along, deep)
                if not is_ifmap:
                    found[count] = item * win + word
                    count += 1
                elif not overhangs or (
                    outside[0, item] + outside[2, word] < ifmap_rows
                    and outside[1, item] + outside[3, word] < ifmap_cols
                ):
                    found[count] = pixel_at[item] + word_at[word]
                    count += 1
            lane += 1
            if diagonal:
                row -= 1
    return found[:count], own


@njit(cache=True, nogil=True)
def _index(listed, line_words, words):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """For each address the lines that hold it, each line once."""
    first = np.zeros(words + 1, np.int64)
    latest = np.full(words, -1, np.int32)
    lines_listed = len(listed) // line_words + 1
    for held in range(lines_listed):
        for place in range(held * line_words, min((held + 1) * line_words, len(listed))):
            address = listed[place]
            if latest[address] != held:
                latest[address] = held
                first[address + 1] += 1
    for address in range(words):
        first[address + 1] += first[address]
    lines = np.empty(first[words], np.int32)
    following = first[:-1].copy()
    for held in range(lines_listed):
        for place in range(held * line_words, min((held + 1) * line_words, len(listed))):
            address = listed[place]
            at = following[address]
            if at == first[address] or lines[at - 1] != held:
                lines[at] = held
                following[address] = at + 1
    return first, lines
