"""What a loop nest takes at least, before it is laid and before its steps are added up; compiled.

`docs/search.md` derives the bounds, (3) and (4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraysmith.compiling import compiled
from arraysmith.mapping import ORDERS
from arraysmith.search.mapping_bounds import tile_words
from arraysmith.simulation.physical.closed_form import (
    FILTER_DRAM,
    IFMAP_DRAM,
    OFMAP_OUTPUT,
    OFMAP_READ,
)
from arraysmith.simulation.physical.nest import (
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
    ROWS,
    Nest,
    resident_words,
)
from arraysmith.simulation.physical.traffic import step_cycles
from arraysmith.simulation.physical.waiting import transfer_cycles

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LETTERS = np.array([["MNK".index(letter) for letter in order] for order in ORDERS])
_WITHOUT = np.array([FILTER, IFMAP, OFMAP])
"""The operand that M, N, K do not index."""


@compiled
def seen_before(order: int, choice: int, active: int) -> bool:
    """Whether an order before makes the same nest: loops of one trip may stand anywhere.

    Args:
        order, choice: nothing, the first or the second letter is blocked.
        active: mask of M, N, K, those with a loop of more than one trip.
    """
    here = _LETTERS[order]
    first, second, third = active >> here[0] & 1, active >> here[1] & 1, active >> here[2] & 1
    if choice == 0:
        # Idle letters come last, in the order in which they come in MNK.
        if (second and not first) or (third and not second):
            return True
        if not first and not second and here[0] > here[1]:
            return True
        return bool(not second and not third and here[1] > here[2])
    return bool(choice == 2 and not first)


@compiled
def visits_of(
    order: int, choice: int, block: int, trips: tuple[int, int, int], active: int
) -> tuple[int, int, int]:
    """How often a nest loads each word of ifmap, filter and ofmap; the last less one are spills.

    Args:
        order, choice: nothing, the first or the second letter is blocked.
        block: tiles of a block, 1 if nothing is.
        trips: of M, N, K.
        active: mask of M, N, K, those with a loop of more than one trip.
    """
    first, second, third = _LETTERS[order]
    ifmap = filter_ = ofmap = 1
    for letter, blocked, inside in (
        (first, choice == 1, active >> second & 1 or active >> third & 1),
        (second, choice == 2, active >> third & 1 or choice == 1),
    ):
        visits = 1
        if inside:
            visits = trips[letter] // block if blocked else trips[letter]
        if _WITHOUT[letter] == IFMAP:
            ifmap = visits
        elif _WITHOUT[letter] == FILTER:
            filter_ = visits
        else:
            ofmap = visits
    return ifmap, filter_, ofmap


@compiled
def tile_ends(nest: Nest, array: NDArray[np.int64]) -> int:
    """Cycles of the first load and the last store of any nest around a tile."""
    first = tile_words(nest, IFMAP, 0) + tile_words(nest, FILTER, 0)
    load = transfer_cycles(array, array[OPERAND] * first)
    return load + transfer_cycles(array, array[OUTPUT] * tile_words(nest, OFMAP, 1))


@compiled
def nest_ends(nest: Nest, array: NDArray[np.int64]) -> int:
    """Cycles of the first load and the last store, which overlap with nothing."""
    load = transfer_cycles(array, array[OPERAND] * (nest.words[IFMAP] + nest.words[FILTER]))
    last = resident_words(nest, OFMAP, (1 << nest.loops[0]) - 1)
    return load + transfer_cycles(array, array[OUTPUT] * last)


@compiled
def longest_step(nest: Nest, layer: NDArray[np.int64], array: NDArray[np.int64]) -> int:
    """The array's cycles of a step with a full tile."""
    pixels = nest.full[ROWS] * nest.full[COLS]
    return step_cycles(
        layer, array, nest.micro[0], nest.full[GROUPS], pixels, nest.full[OUT], nest.full[IN]
    )[0]


@compiled
def waiting_at_least(
    nest: Nest, array: NDArray[np.int64], found: NDArray[np.int64], longest: int
) -> int:
    """Cycles that the array waits at least for what comes or goes while outer loops move on.

    What changes seldom comes at once, and during one step.

    Args:
        nest: laid.
        array: the accelerator.
        found: with what moves between DRAM and buffers.
        longest: cycles of a step.
    """
    loops = nest.loops[0]
    if loops == 0:
        return 0
    inner = loops - 1
    few, few_bytes = 0, 0  # moves of the operand that changes least often, its bytes
    many, many_bytes, many_full = 0, 0, 0
    for operand in range(3):
        indexed = nest.indexed[operand]
        if not indexed or indexed >> inner:
            continue
        moves = _moves(nest, indexed)
        full = nest.words[operand]
        if operand == OFMAP:
            full *= array[PSUM]
            moved = array[PSUM] * found[OFMAP_READ]
        else:
            dram = found[IFMAP_DRAM] if operand == IFMAP else found[FILTER_DRAM]
            moved, full = array[OPERAND] * (dram - full), array[OPERAND] * full
        if many == 0:
            many, many_bytes, many_full = moves, moved, full
        elif moves >= many:
            few, few_bytes = many, many_bytes
            many, many_bytes, many_full = moves, moved, full
        else:
            few, few_bytes = moves, moved
    together = transfer_cycles(array, few_bytes + many_bytes) - many * longest
    # While both change, and while only the one that does so more often.
    both = few_bytes + max(0, many_bytes - (many - few) * many_full)
    apart = max(0, transfer_cycles(array, both) - few * longest)
    only = max(0, many_bytes - few * many_full)
    apart += max(0, transfer_cycles(array, only) - (many - few) * longest)
    return max(0, together, apart) + _waiting_for_stores(nest, array, found, longest)


@compiled
def _waiting_for_stores(
    nest: Nest, array: NDArray[np.int64], found: NDArray[np.int64], longest: int
) -> int:
    """The same for the ofmap's tiles that leave: in other steps than those before a load."""
    indexed, loops = nest.indexed[OFMAP], nest.loops[0]
    if not indexed or indexed >> (loops - 1):
        return 0
    stored = array[PSUM] * found[OFMAP_READ] + array[OUTPUT] * found[OFMAP_OUTPUT]
    stored -= array[OUTPUT] * resident_words(nest, OFMAP, (1 << loops) - 1)
    return max(0, transfer_cycles(array, stored) - _moves(nest, indexed) * longest)


@compiled
def _moves(nest: Nest, indexed: int) -> int:
    """How often a resident tile changes: at each move of a loop that indexes it, or outside one."""
    tiles, loop = 1, 0
    while indexed >> loop:
        tiles *= nest.trips[loop]
        loop += 1
    return tiles - 1
