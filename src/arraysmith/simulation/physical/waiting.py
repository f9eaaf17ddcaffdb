"""Cycles in which the array waits for the DRAM: (9) in `docs/physical.md`.

The figures of a step depend only on which loops are at their first or last trip, before, at and
after it. So the steps fall into few kinds, and the sum over all steps is one over kinds. Of those
only the ones are looked at in which the channel may take longer than the array. Compiled code;
`tests/physical_oracle.py` walks every step instead, and finds the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from arraysmith.compiling import compiled
from arraysmith.simulation.physical.array import EXACT, ceil_div
from arraysmith.simulation.physical.nest import (
    BORDERS,
    COLS,
    FILTER,
    GROUPS,
    IFMAP,
    IN,
    OFMAP,
    OPERAND,
    OUT,
    OUTPUT,
    PSUM,
    RATE,
    RATE_CYCLES,
    ROWS,
    Nest,
    ifmap_words_that_stay,
    resident_words,
)
from arraysmith.simulation.physical.traffic import step_cycles

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Kinds(Protocol):
    """Scratch memory: kinds of steps by the loops that are at their first and last trip."""

    start: NDArray[np.int64]
    """(loops + 1,): where the kinds of the first l loops begin, and end."""
    at_first: NDArray[np.int64]
    at_last: NDArray[np.int64]
    """Masks of loops."""
    steps: NDArray[np.int64]
    loads: NDArray[np.int64]
    """(loops,): bytes that a loop's moving on loads at most."""
    stores: NDArray[np.int64]
    """(loops,): bytes of the tile left behind, at most."""
    enough: NDArray[np.int64]
    """(1,): bytes that pass the channel in the shortest step."""


MOST_KINDS = 128
"""Six loops around the innermost, of two kinds each, but one over images and three over K: 48, and
half as many for each loop fewer."""
KINDS = np.dtype(
    [
        ("start", np.int64, (10,)),
        ("at_first", np.int64, (MOST_KINDS,)),
        ("at_last", np.int64, (MOST_KINDS,)),
        ("steps", np.int64, (MOST_KINDS,)),
        ("loads", np.int64, (8,)),
        ("stores", np.int64, (8,)),
        ("enough", np.int64, (1,)),
    ],
    align=True,
)


@compiled
def transfer_cycles(array: NDArray[np.int64], moved: int) -> int:
    """Cycles the DRAM channel takes for so many bytes."""
    dividend = moved * array[RATE_CYCLES]
    if dividend < EXACT:
        return ceil_div(dividend, array[RATE])
    return (dividend + array[RATE] - 1) // array[RATE]


@compiled
def waiting_cycles(
    nest: Nest,
    kinds: Kinds,
    layer: NDArray[np.int64],
    array: NDArray[np.int64],
) -> int:
    """load(1) + Σ max(0, transfer(s) - array(s)) + store(last). (9)."""
    loops = nest.loops[0]
    load = array[OPERAND] * (nest.words[IFMAP] + nest.words[FILTER])
    store = array[OUTPUT] * resident_words(nest, OFMAP, (1 << loops) - 1)
    total = transfer_cycles(array, load) + transfer_cycles(array, store)
    if loops == 0:
        return total
    _bound_moves(nest, kinds, array)
    loads, stores = kinds.loads, kinds.stores
    # What cannot take longer than the shortest step is not looked at again.
    _tabulate(nest, layer, array)
    enough = nest.array_cycles[nest.differing[0]] * array[RATE] // array[RATE_CYCLES]
    kinds.enough[0] = enough
    if _most(kinds.loads, loops) + _most(kinds.stores, loops) <= enough:
        return total
    _kinds_of_outer_loops(nest, kinds)
    inner = loops - 1
    if loads[inner] + stores[inner] > enough:
        total += _inner(nest, kinds, array)
    for loop in range(-1, inner):
        if loads[inner] + (stores[loop] if loop >= 0 else 0) > enough:
            total += _entering(nest, kinds, array, loop)
        if (loads[loop] if loop >= 0 else 0) + stores[inner] > enough:
            total += _leaving(nest, kinds, array, loop)
    return total


@compiled
def _bound_moves(nest: Nest, kinds: Kinds, array: NDArray[np.int64]) -> None:
    """The most that the channel can have to move when a loop moves on."""
    output, psum = array[OUTPUT], array[PSUM]
    over_k, indexed = nest.at_last[IN], nest.indexed[OFMAP]
    # Partial sums travel if a loop over K has one inside that changes the ofmap's tile.
    spills = over_k and indexed >> _lowest(over_k)
    for loop in range(nest.loops[0]):
        load, store = 0, 0
        if nest.indexed[FILTER] >> loop:
            load += nest.words[FILTER]
        if nest.indexed[IFMAP] >> loop:
            load += nest.words[IFMAP] - ifmap_words_that_stay(nest, loop, 0)
        load *= array[OPERAND]
        if indexed >> loop:
            load += psum * nest.words[OFMAP] if spills else 0
            store = max(output, psum if spills else 0) * nest.words[OFMAP]
        kinds.loads[loop], kinds.stores[loop] = load, store


@compiled
def _most(moves: NDArray[np.int64], loops: int) -> int:
    most = 0
    for loop in range(loops):
        most = max(most, moves[loop])
    return most


@compiled
def _lowest(mask: int) -> int:
    """Position of the lowest bit."""
    position = 0
    while not mask >> position & 1:
        position += 1
    return position


@compiled
def _tabulate(nest: Nest, layer: NDArray[np.int64], array: NDArray[np.int64]) -> None:
    """The array's cycles in each kind of step that a tile has; done once for it."""
    differing = nest.differing[0]
    borders = differing
    while nest.array_cycles[borders] == 0:
        groups = nest.last[GROUPS] if borders & 1 else nest.full[GROUPS]
        rows = nest.last[ROWS] if borders & 2 else nest.full[ROWS]
        cols = nest.last[COLS] if borders & 4 else nest.full[COLS]
        out = nest.last[OUT] if borders & 8 else nest.full[OUT]
        in_ = nest.last[IN] if borders & 16 else nest.full[IN]
        found = step_cycles(layer, array, nest.micro[0], groups, rows * cols, out, in_)
        nest.array_cycles[borders] = found[0]
        borders = (borders - 1) & differing


@compiled
def _borders(nest: Nest, at_last: int) -> int:
    """Which of `BORDERS` are at a smaller last tile, the loops of `at_last` being at their end."""
    found = 0
    if not at_last:
        return found
    for bit, dim in enumerate(BORDERS):
        mask = nest.at_last[dim]
        if nest.differing[0] >> bit & 1 and (at_last & mask) == mask:
            found |= 1 << bit
    return found


@compiled
def _kinds_of_outer_loops(nest: Nest, kinds: Kinds) -> None:
    """For each number of outer loops, the kinds of states they can be in, and how many are alike.

    A loop's last trip matters where its last tile is smaller, and its first and last where they
    run over K around a loop that changes the ofmap's tile: there partial sums begin and end.
    """
    kinds.start[0], kinds.start[1] = 0, 1
    kinds.at_first[0] = kinds.at_last[0] = 0
    kinds.steps[0] = 1
    for loop in range(nest.loops[0] - 1):
        dim, trips = nest.dimension[loop], nest.trips[loop]
        bit = 1 << loop
        spills = dim == IN and (nest.indexed[OFMAP] >> loop) != 0
        differs = nest.full[dim] != nest.last[dim]
        end = kinds.start[loop + 1]
        for index in range(kinds.start[loop], kinds.start[loop + 1]):
            first, last = kinds.at_first[index], kinds.at_last[index]
            steps = kinds.steps[index]
            if not (spills or differs):
                end = _add(kinds, end, first, last, steps * trips)
                continue
            end = _add(kinds, end, first, last | bit, steps)
            if spills:
                end = _add(kinds, end, first | bit, last, steps)
                end = _add(kinds, end, first, last, steps * (trips - 2))
            else:
                end = _add(kinds, end, first, last, steps * (trips - 1))
        kinds.start[loop + 2] = end


@compiled
def _add(kinds: Kinds, end: int, at_first: int, at_last: int, steps: int) -> int:
    if steps == 0:
        return end
    kinds.at_first[end], kinds.at_last[end], kinds.steps[end] = at_first, at_last, steps
    return end + 1


@compiled
def _waiting(  # noqa: PLR0917
    nest: Nest,
    kinds: Kinds,
    array: NDArray[np.int64],
    at_last: int,
    entered: int,
    left_at_last: int,
    next_loop: int,
    next_at_first: int,
    next_at_last: int,
) -> int:
    """max(0, transfer(s) - array(s)) of a step.

    Args:
        nest, kinds, array: see `waiting_cycles`.
        at_last: loops at their last trip in this step.
        entered: the outermost loop that moved on to it, -1 at the first step.
        left_at_last: loops that were at their last trip in the step before.
        next_loop: the outermost loop that moves on after it, -1 at the last step.
        next_at_first, next_at_last: loops at their first and last trip in the next step.
    """
    moved, over_k = 0, nest.at_last[IN]
    if next_loop >= 0:
        if nest.indexed[FILTER] >> next_loop:
            moved += array[OPERAND] * resident_words(nest, FILTER, next_at_last)
        if nest.indexed[IFMAP] >> next_loop:
            new = resident_words(nest, IFMAP, next_at_last)
            new -= ifmap_words_that_stay(nest, next_loop, next_at_last)
            moved += array[OPERAND] * new
        if nest.indexed[OFMAP] >> next_loop and (next_at_first & over_k) != over_k:
            moved += array[PSUM] * resident_words(nest, OFMAP, next_at_last)
    if entered >= 0 and nest.indexed[OFMAP] >> entered:
        complete = (left_at_last & over_k) == over_k
        word = array[OUTPUT] if complete else array[PSUM]
        moved += word * resident_words(nest, OFMAP, left_at_last)
    if moved <= kinds.enough[0]:
        return 0
    return max(0, transfer_cycles(array, moved) - nest.array_cycles[_borders(nest, at_last)])


@compiled
def _kinds_of_trips(nest: Nest, loop: int) -> int:
    """2 where a loop's last trip has a smaller tile, else 1."""
    return 1 if nest.full[nest.dimension[loop]] == nest.last[nest.dimension[loop]] else 2


@compiled
def _inner(nest: Nest, kinds: Kinds, array: NDArray[np.int64]) -> int:
    """Steps at which the innermost loop is neither at its first nor at its last trip."""
    inner = nest.loops[0] - 1
    bit, trips = 1 << inner, nest.trips[inner]
    kinds_of_trips = _kinds_of_trips(nest, inner)
    cycles = 0
    for index in range(kinds.start[inner], kinds.start[inner + 1]):
        first, last = kinds.at_first[index], kinds.at_last[index]
        for before_last in range(kinds_of_trips):
            steps = trips - 1 - kinds_of_trips if before_last == 0 else min(trips - 2, 1)
            if steps > 0:
                next_at_last = last | bit if before_last else last
                waiting = _waiting(
                    nest, kinds, array, last, inner, last, inner, first, next_at_last
                )
                cycles += kinds.steps[index] * steps * waiting
    return cycles


@compiled
def _entering(
    nest: Nest,
    kinds: Kinds,
    array: NDArray[np.int64],
    loop: int,
) -> int:
    """Steps to which `loop` moved on, all loops inside it beginning; -1 is the first of all."""
    inner, every = nest.loops[0] - 1, (1 << nest.loops[0]) - 1
    inside = every & ~((1 << loop + 1) - 1)
    next_at_first = inside & ~(1 << inner)
    ends = 1 << inner if nest.trips[inner] == 2 else 0
    if loop < 0:
        return _waiting(nest, kinds, array, 0, -1, 0, inner, next_at_first, ends)
    bit, trips = 1 << loop, nest.trips[loop]
    kinds_of_trips = _kinds_of_trips(nest, loop)
    cycles = 0
    for index in range(kinds.start[loop], kinds.start[loop + 1]):
        first, last = kinds.at_first[index], kinds.at_last[index]
        for at_end in range(kinds_of_trips):
            steps = 1 if at_end else trips - kinds_of_trips
            if steps:
                now = last | bit if at_end else last
                waiting = _waiting(
                    nest,
                    kinds,
                    array,
                    now,
                    loop,
                    last | inside,
                    inner,
                    first | next_at_first,
                    now | ends,
                )
                cycles += kinds.steps[index] * steps * waiting
    return cycles


@compiled
def _leaving(
    nest: Nest,
    kinds: Kinds,
    array: NDArray[np.int64],
    loop: int,
) -> int:
    """Steps after which `loop` moves on, all loops inside it ending; -1 is the last of all."""
    inner, every = nest.loops[0] - 1, (1 << nest.loops[0]) - 1
    inside = every & ~((1 << loop + 1) - 1)
    before = inside & ~(1 << inner)
    if loop < 0:
        return _waiting(nest, kinds, array, inside, inner, before, -1, 0, 0)
    bit, trips = 1 << loop, nest.trips[loop]
    kinds_of_trips = _kinds_of_trips(nest, loop)
    cycles = 0
    for index in range(kinds.start[loop], kinds.start[loop + 1]):
        first, last = kinds.at_first[index], kinds.at_last[index]
        for to_end in range(kinds_of_trips):
            steps = 1 if to_end else trips - kinds_of_trips
            if steps:
                waiting = _waiting(
                    nest,
                    kinds,
                    array,
                    last | inside,
                    inner,
                    last | before,
                    loop,
                    first | inside,
                    last | bit if to_end else last,
                )
                cycles += kinds.steps[index] * steps * waiting
    return cycles
