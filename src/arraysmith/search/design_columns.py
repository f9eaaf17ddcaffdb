"""Many accelerators as columns of integers: what compiled code and NumPy take of a space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.simulation.physical.array import MICROARCHITECTURES
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


def mask_of(microarchitectures: Sequence[Microarchitecture]) -> int:
    """The bits of some microarchitectures."""
    return sum({1 << MICROARCHITECTURES.index(each) for each in microarchitectures})


def micros_of(mask: int) -> list[int]:
    """The positions of a mask's microarchitectures."""
    return [micro for micro in range(len(MICROARCHITECTURES)) if mask >> micro & 1]
