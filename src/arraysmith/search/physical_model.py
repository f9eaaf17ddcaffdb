"""The model `physical` over a space of designs: each layer under its best mapping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import DesignSpaceError, InvalidHardwareError
from arraysmith.hardware import Microarchitecture
from arraysmith.search.mapper import Goal, map_workload
from arraysmith.search.problem import Bounds, Figures
from arraysmith.simulation.physical.model import network_metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.formats.technology import Technology
    from arraysmith.hardware import PhysicalAccelerator
    from arraysmith.space import DesignSpace
    from arraysmith.workload import Workload

    Ints = NDArray[np.int64]

MODEL = "physical"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Physical:
    """Cycles and energy of a network whose layers are mapped for one goal."""

    workload: Workload
    space: DesignSpace
    technology: Technology
    base: PhysicalAccelerator
    """Whose ports and output words every design has."""
    goal: Goal = Goal.CYCLES
    with_energy: bool = False
    name: str = MODEL
    exact_bounds: bool = False
    least_chunk: int = 1

    def __post_init__(self) -> None:
        """Whether the arrays of the space are real ones."""
        for array in self.space.arrays:
            for each in array:
                if not isinstance(each, Microarchitecture):
                    raise DesignSpaceError(
                        f"{each} is a dataflow; the model physical needs microarchitectures, like "
                        "ws-double-buffered"
                    )

    def bounds(self) -> Bounds:
        """Of every design: all folds as one tile, each word once."""
        raise NotImplementedError

    def evaluate(self, ids: Ints, most_cycles: Ints) -> Figures:
        """(n,) designs, each layer under the best of all its mappings."""
        del most_cycles
        return Figures.joined([self._one(int(number)) for number in ids])

    def network(self, number: int) -> PhysicalNetworkMetrics:
        """All figures of one design.

        Raises:
            InvalidHardwareError: a buffer holds no tile of a layer.
        """
        accelerator = self.space.accelerator(number, self.base)
        mapped = map_workload(self.workload, accelerator, self.technology, self.goal)
        layers = tuple(layer.best for layer in mapped)
        return network_metrics(self.workload, accelerator, layers, self.technology)

    def _one(self, number: int) -> Figures:
        try:
            found = self.network(number)
        except InvalidHardwareError:  # no such design
            return Figures.of_cycles(np.array([-1]))
        return Figures(
            total_cycles=np.array([found.total_cycles]),
            exact=np.ones(1, np.bool_),
            stall_cycles=np.array([found.stall_cycles]),
            dram_bytes=np.array([found.dram_bytes]),
            energy_pj=np.array([found.energy_pj]),
        )
