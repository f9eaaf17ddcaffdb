"""The mappings of a layer that are searched, and how many there are.

Of all tile sizes only those matter that differ in something that costs: the number of tiles, and
the folds they are cut into. For each number of tiles the smallest size is taken, and each larger
one that leaves fewer folds. `docs/mapping.md` says what that is proven for, and what it may miss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.hardware import Dataflow
from arraysmith.mapping import ORDERS
from arraysmith.workload import ceil_div

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
    from arraysmith.workload import LoopSizes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapSpace:
    """Tile sizes of one layer on one microarchitecture; orders and blocks come on top of them."""

    rows: NDArray[np.int64]
    """Ascending, like the others."""
    cols: NDArray[np.int64]
    out_channels: NDArray[np.int64]
    in_channels: NDArray[np.int64]
    size: int
    """Mappings, those that fit no buffer included."""


def map_space(
    loops: LoopSizes, accelerator: PhysicalAccelerator, microarchitecture: Microarchitecture
) -> MapSpace:
    """The tile sizes that matter for a layer."""
    lanes = tile_lanes(loops, accelerator.rows, accelerator.cols, microarchitecture.dataflow)
    sizes = (
        tile_sizes(loops.rows, 1, lanes[0]),
        tile_sizes(loops.cols, 1, None),
        tile_sizes(loops.out_channels, 1, lanes[1]),
        tile_sizes(loops.in_channels, loops.taps, lanes[2]),
    )
    return MapSpace(
        rows=sizes[0],
        cols=sizes[1],
        out_channels=sizes[2],
        in_channels=sizes[3],
        size=_size(sizes, (loops.rows, loops.cols, loops.out_channels, loops.in_channels)),
    )


def tile_lanes(
    loops: LoopSizes, rows: int, cols: int, dataflow: Dataflow
) -> tuple[int | None, int | None, int | None]:
    """The lanes of an array on which rows of pixels, output and input channels lie, if they do."""
    lanes = {
        Dataflow.OS: (rows, cols, None),
        Dataflow.WS: (None, cols, rows),
        Dataflow.IS: (cols, None, rows),
    }[dataflow]
    # Pixels lie on the lanes as rows times columns; only a single column makes rows of folds.
    return lanes if loops.cols == 1 else (None, *lanes[1:])


def tile_sizes(whole: int, words: int, lanes: int | None) -> NDArray[np.int64]:
    """Sizes that differ in the number of tiles or, `words` each on `lanes`, in folds.

    For every number of tiles the smallest size; and each that has fewer folds than all smaller.
    """
    sizes = np.arange(1, whole + 1)
    tiles = -(-whole // sizes)
    last = whole - (tiles - 1) * sizes
    width = lanes or whole * words
    folds = (tiles - 1) * -(-sizes * words // width) + -(-last * words // width)
    begins = np.flatnonzero(np.diff(tiles, prepend=0))
    kept = []
    for begin, end in zip(begins, [*begins[1:], whole], strict=True):
        fewest = np.minimum.accumulate(folds[begin:end])
        kept.append(sizes[begin:end][np.diff(fewest, prepend=fewest[0] + 1) < 0])
    return np.concatenate(kept).astype(np.int64)


def _size(sizes: tuple[NDArray[np.int64], ...], whole: tuple[int, ...]) -> int:
    """Tiles times loop nests of each.

    A tile has a nest for each order, and for each way to block one of the first two loops; each of
    the three loops is among the first two in four of the six orders.
    """
    tiles = 1
    for each in sizes:
        tiles *= len(each)
    total = len(ORDERS) * tiles
    for position in (0, 2, 3):  # rows stand for M
        blocks = sum(
            len(divisors(ceil_div(whole[position], int(size)))) - 1 for size in sizes[position]
        )
        total += 4 * blocks * tiles // len(sizes[position])
    return total


def divisors(number: int) -> list[int]:
    """Ascending."""
    low = [each for each in range(1, int(number**0.5) + 1) if number % each == 0]
    return low + [number // each for each in reversed(low) if each * each != number]
