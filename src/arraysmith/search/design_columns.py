"""Many accelerators as columns of integers: what compiled code and NumPy take of a space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.simulation.physical.array import MICROARCHITECTURES
from arraysmith.simulation.physical.nest import IFMAP_BYTES, C, R
from arraysmith.simulation.physical.vectors import accelerator_vector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from arraysmith.hardware import Microarchitecture, PhysicalAccelerator


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Designs:
    """n accelerators."""

    vectors: NDArray[np.int64]
    """(n, 13), see `accelerator_vector`."""
    kib: NDArray[np.int64]
    """(n, 3) of ifmap, filter and ofmap buffer."""
    micros: NDArray[np.int64]
    """(n,) mask: bit i stands for the i-th microarchitecture."""

    def __len__(self) -> int:
        """How many."""
        return len(self.vectors)

    def take(self, indices: NDArray[np.int64]) -> Designs:
        """Some of them."""
        return Designs(
            vectors=self.vectors[indices], kib=self.kib[indices], micros=self.micros[indices]
        )


def columns_of(accelerators: Sequence[PhysicalAccelerator]) -> Designs:
    """Accelerators as columns."""
    return Designs(
        vectors=np.array([accelerator_vector(each) for each in accelerators], np.int64),
        kib=np.array(
            [
                (each.ifmap_buffer_kib, each.filter_buffer_kib, each.ofmap_buffer_kib)
                for each in accelerators
            ],
            np.int64,
        ),
        micros=np.array([mask_of(each.microarchitectures) for each in accelerators], np.int64),
    )


def grid(
    base: PhysicalAccelerator,
    rows: Sequence[int],
    cols: Sequence[int],
    microarchitectures: Sequence[Sequence[Microarchitecture]],
    kib: tuple[Sequence[int], Sequence[int], Sequence[int]],
) -> Designs:
    """All combinations; what is not an axis is as in `base`. Buffers change fastest."""
    axes = [
        np.array(axis, np.int64)
        for axis in (rows, cols, [mask_of(each) for each in microarchitectures], *kib)
    ]
    columns = [column.ravel() for column in np.meshgrid(*axes, indexing="ij")]
    vectors = np.tile(accelerator_vector(base), (len(columns[0]), 1))
    vectors[:, R], vectors[:, C] = columns[0], columns[1]
    sizes = np.stack(columns[3:], axis=1)
    vectors[:, IFMAP_BYTES : IFMAP_BYTES + 3] = sizes * 1024 // (2 if base.double_buffered else 1)
    return Designs(vectors=vectors, kib=sizes, micros=columns[2])


def mask_of(microarchitectures: Sequence[Microarchitecture]) -> int:
    """The bits of some microarchitectures."""
    return sum({1 << MICROARCHITECTURES.index(each) for each in microarchitectures})


def micros_of(mask: int) -> list[int]:
    """The positions of a mask's microarchitectures."""
    return [micro for micro in range(len(MICROARCHITECTURES)) if mask >> micro & 1]
