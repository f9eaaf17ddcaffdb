"""The place of an element in one of USER mode's prefetch lists, as arithmetic.

Kernels of `prefetch`, which says what the lists are; none is ever written down. A line of a list is
an anti-diagonal of the stacked blocks, or a row of them. (18) in docs/cycles.md.

`shape` is that of `prefetch.Blocks`, `windows` that of `geometry.Windows`, and `missing` counts
what lies over the edge of the ifmap before each line.
"""

from __future__ import annotations

from numba import njit

from arraysmith.simulation.scalesim.diagonals import passed


@njit(cache=True, nogil=True)
def over_the_edge(shape, windows, along, deep):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Whether an element of the ifmap matrix lies beyond the ifmap."""
    rows, cols, _, filter_cols, channels, stride, _, ofmap_cols, _, _ = windows
    item, word = (deep, along) if shape[1] else (along, deep)
    window_row, row_words = item // ofmap_cols, filter_cols * channels
    if window_row * stride + word // row_words >= rows:
        return True
    return (item - window_row * ofmap_cols) * stride + word % row_words // channels >= cols


@njit(cache=True, nogil=True)
def count_missing(missing, shape, windows):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Elements over the edge before each line of the list; only the last windows have some."""
    diagonal, lane_is_word, _, lanes, depth, _, _ = shape
    _, _, filter_rows, filter_cols, channels, _, ofmap_rows, ofmap_cols, _, _ = windows
    for window_row in range(ofmap_rows):
        first = 0 if window_row == ofmap_rows - 1 else ofmap_cols - 1
        for item in range(window_row * ofmap_cols + first, (window_row + 1) * ofmap_cols):
            for word in range(filter_rows * filter_cols * channels):
                along, deep = (word, item) if lane_is_word else (item, word)
                if over_the_edge(shape, windows, along, deep):
                    row = along // lanes * depth + deep
                    missing[row + (along % lanes if diagonal else 0) + 1] += 1
    for at in range(1, len(missing)):
        missing[at] += missing[at - 1]


@njit(cache=True, nogil=True)
def listed_before(shape, windows, missing, at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Elements of the list before its line `at`, a row or an anti-diagonal."""
    diagonal, _, _, lanes, depth, blocks, size = shape
    whole = (blocks - 1) * depth
    lanes_left = size - (blocks - 1) * lanes  # in the last block
    if diagonal:
        found = passed(lanes, blocks * depth, at)
        found -= passed(lanes - lanes_left, depth, at - whole - lanes_left)
    else:
        found = min(at, whole) * lanes + max(at - whole, 0) * lanes_left
    return found - missing[at] if windows[8] else found


@njit(cache=True, nogil=True)
def place(shape, windows, missing, row, lane):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Where an element stands in the list."""
    diagonal, _, _, lanes, depth, blocks, size = shape
    at = row + lane if diagonal else row
    found = listed_before(shape, windows, missing, at)
    first = max(0, at - blocks * depth + 1) if diagonal else 0
    if windows[8] and missing[at + 1] > missing[at]:  # some of this line lie over the edge
        for before in range(first, lane):
            above = at - before if diagonal else row
            along = above // depth * lanes + before
            if along < size and not over_the_edge(shape, windows, along, above % depth):
                found += 1
        return found
    found += lane - first
    if diagonal:  # lanes of the last block may be empty
        lanes_left = size - (blocks - 1) * lanes
        found -= max(0, min(lane, at - (blocks - 1) * depth + 1) - max(first, lanes_left))
    return found


@njit(cache=True, nogil=True)
def holds(window, found):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Whether a place is in a circular window: lower ≤ place < upper, of `total` places."""
    lower, upper, total = window
    return lower <= found < upper or found < upper - total


@njit(cache=True, nogil=True)
def places(found, shape, windows, missing, along, deep, window):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0917
    """All places that have the word of an element; returns how many, or 0 if the window has one.

    `found` ends with the number of the copy that was held last: it is looked at first, for while
    an operand is read from copies, the next ones lie where this one lies.
    """
    _, lane_is_word, _, lanes, depth, _, _ = shape
    if windows[9]:
        found[0] = place(shape, windows, missing, along // lanes * depth + deep, along % lanes)
        return 0 if holds(window, found[0]) else 1
    _, _, filter_rows, filter_cols, channels, stride, ofmap_rows, ofmap_cols, _, _ = windows
    item, word = (deep, along) if lane_is_word else (along, deep)
    row = item // ofmap_cols * stride + word // (filter_cols * channels)
    col = item % ofmap_cols * stride + word // channels % filter_cols
    first_row = max(0, -((filter_rows - 1 - row) // stride))
    first_col = max(0, -((filter_cols - 1 - col) // stride))
    across = min(ofmap_cols - 1, col // stride) + 1 - first_col
    count = (min(ofmap_rows - 1, row // stride) + 1 - first_row) * across
    copy = min(found[-1], count - 1)
    for number in range(count):
        window_row, window_col = first_row + copy // across, first_col + copy % across
        item = window_row * ofmap_cols + window_col
        at = (row - window_row * stride) * filter_cols + col - window_col * stride
        at = at * channels + word % channels
        along, deep = (at, item) if lane_is_word else (item, at)
        found[number] = place(shape, windows, missing, along // lanes * depth + deep, along % lanes)
        if holds(window, found[number]):
            found[-1] = copy
            return 0
        copy = copy + 1 if copy + 1 < count else 0
    return count
