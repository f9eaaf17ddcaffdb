"""Cycles of one step on the array, for each way to build it: (1) to (3) in docs/physical.md.

The functions are compiled; they take and give integers. A microarchitecture is its position in
`Microarchitecture`.
"""

from __future__ import annotations

import math

from arraysmith.compiling import compiled
from arraysmith.hardware import Microarchitecture

_OS_BUS, _OS_SHIFT, _OS_OVERLAPPED, _WS_SERIAL, _WS_DOUBLE, _IS_SERIAL, _IS_DOUBLE = range(7)
MICROARCHITECTURES = tuple(Microarchitecture)


EXACT = 2**53
"""Below it a quotient of integers, rounded to a float, stays on its side of every whole number;
and dividing floats takes half the time of dividing integers."""


@compiled
def ceil_div(dividend: int, divisor: int) -> int:
    """Rounded up; for a dividend of 0 to `EXACT`."""
    return math.ceil(dividend / divisor)


@compiled
def floor_div(dividend: int, divisor: int) -> int:
    """Rounded down; for a dividend of 0 to `EXACT`."""
    return int(dividend / divisor)


@compiled
def is_output_stationary(micro: int) -> bool:
    """Outputs stay in the PEs."""
    return micro <= _OS_OVERLAPPED


@compiled
def is_weight_stationary(micro: int) -> bool:
    """The filter stays in the PEs."""
    return micro in (_WS_SERIAL, _WS_DOUBLE)


@compiled
def on_array(micro: int, m: int, n: int, k: int) -> tuple[int, int, int]:
    """S_R, S_C, T of a tile of m pixels, n output channels and k words of a window. (1)."""
    if is_output_stationary(micro):
        return m, n, k
    if is_weight_stationary(micro):
        return k, n, m
    return k, m, n


@compiled
def fold_terms(micro: int, T: int, R: int, C: int) -> tuple[int, int]:
    """a and b of the cycles F·a + b that F folds take, the array empty before and after. (2).

    In b are the constants of the RTL: the SRAM read, and for WS and IS the psum register.
    """
    if micro == _OS_BUS:
        return R + C + T - 2, 1
    if micro == _OS_SHIFT:
        return 2 * R + C + T - 2, 1
    if micro in (_WS_SERIAL, _IS_SERIAL):
        return 2 * R + C + T - 2, 2
    overlapped = max(T, R)
    if micro == _OS_OVERLAPPED:
        return overlapped, T - overlapped + R + C - 2 + 1
    return overlapped, T - overlapped + 2 * R + C - 2 + 2


@compiled
def clocks_a_cycle(  # noqa: PLR0917
    micro: int,
    rows: int,
    cols: int,
    operand_bytes: int,
    psum_bytes: int,
    ifmap_port: int,
    filter_port: int,
    ofmap_port: int,
) -> int:
    """How long the array is held in each of its cycles by the narrowest port. (3).

    Args:
        micro: the microarchitecture.
        rows, cols: lanes in use at the two edges.
        operand_bytes, psum_bytes: of a word.
        ifmap_port, filter_port, ofmap_port: bytes a clock; 0 is as much as is asked for.
    """
    ifmap, filter_ = rows, cols
    if micro >= _IS_SERIAL:
        ifmap, filter_ = cols, rows
    clocks = 1
    if ifmap_port:
        clocks = max(clocks, ceil_div(ifmap * operand_bytes, ifmap_port))
    if filter_port:
        clocks = max(clocks, ceil_div(filter_ * operand_bytes, filter_port))
    if ofmap_port:
        clocks = max(clocks, ceil_div(cols * psum_bytes, ofmap_port))
    return clocks
