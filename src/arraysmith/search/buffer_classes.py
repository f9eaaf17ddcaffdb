"""Which sizes of the buffers hold a mapping, and what is best for each of them; compiled.

The sizes are a grid: ifmap, filter and ofmap buffers, each ascending. `docs/search.md`, (1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraysmith.compiling import compiled
from arraysmith.simulation.physical.nest import FILTER, IFMAP, OFMAP, OPERAND, PSUM, Nest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Sizes = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.int64]"]


@compiled
def class_of(sizes: NDArray[np.int64], needed: int) -> int:
    """The smallest of ascending sizes that is enough; their number if none is."""
    at = 0
    while at < len(sizes) and sizes[at] < needed:
        at += 1
    return at


@compiled
def classes(nest: Nest, array: NDArray[np.int64], buffers: Sizes) -> tuple[int, int, int]:
    """The smallest buffers that hold what a nest keeps."""
    return (
        class_of(buffers[IFMAP], nest.words[IFMAP] * array[OPERAND]),
        class_of(buffers[FILTER], nest.words[FILTER] * array[OPERAND]),
        class_of(buffers[OFMAP], nest.words[OFMAP] * array[PSUM]),
    )


@compiled
def renew(best: NDArray[np.int64], need: NDArray[np.int64]) -> None:
    """Cycles that a mapping must be below to better any size that is as large: suffix maxima."""
    for a in range(best.shape[0] - 1, -1, -1):
        for f in range(best.shape[1] - 1, -1, -1):
            for c in range(best.shape[2] - 1, -1, -1):
                most = best[a, f, c]
                if a + 1 < best.shape[0]:
                    most = max(most, need[a + 1, f, c])
                if f + 1 < best.shape[1]:
                    most = max(most, need[a, f + 1, c])
                if c + 1 < best.shape[2]:
                    most = max(most, need[a, f, c + 1])
                need[a, f, c] = most


@compiled
def keep(  # noqa: PLR0917
    cycles: int,
    mapping: NDArray[np.int64],
    at: tuple[int, int, int],
    best: NDArray[np.int64],
    need: NDArray[np.int64],
    mappings: NDArray[np.int64],
) -> None:
    """Put a mapping wherever it fits and is better."""
    for x in range(at[0], best.shape[0]):
        for y in range(at[1], best.shape[1]):
            for z in range(at[2], best.shape[2]):
                if cycles < best[x, y, z]:
                    best[x, y, z] = cycles
                    mappings[x, y, z] = mapping
    renew(best, need)
