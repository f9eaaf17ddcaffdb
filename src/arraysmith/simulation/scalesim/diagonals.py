"""Blocks of lanes × depth that are passed through one anti-diagonal at a time, as arithmetic.

The array asks for an operand that streams, and gives its results, one lane a cycle later than the
lane before: cycle v of a fold is anti-diagonal v of a block. SCALE-Sim's prefetch lists are cut the
same way. What has been passed before a cycle then has a closed form. (16) in docs/cycles.md.
"""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def passed(lanes, depth, diagonals):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Elements in the first anti-diagonals of a block; any number of them may be asked for."""
    short, long = min(lanes, depth), max(lanes, depth)
    if diagonals <= short:
        return max(diagonals, 0) * (diagonals + 1) // 2
    if diagonals <= long:
        return short * (short + 1) // 2 + (diagonals - short) * short
    left = max(lanes + depth - 1 - diagonals, 0)
    return lanes * depth - left * (left + 1) // 2


@njit(cache=True, nogil=True)
def diagonal_of(lanes, depth, element):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """The anti-diagonal that an element lies on, counted in the order they are passed."""
    low, high = 0, lanes + depth - 1
    while high - low > 1:
        middle = (low + high) // 2
        if passed(lanes, depth, middle) <= element:
            low = middle
        else:
            high = middle
    return low
