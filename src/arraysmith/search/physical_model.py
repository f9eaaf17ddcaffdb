"""The model `physical` over a space of designs: each layer under its best mapping.

Where only cycles are asked for, designs that differ in their buffers alone are searched together
(`network_cycles`); where energy counts too, each design's layers are mapped one by one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.errors import DesignSpaceError, InvalidHardwareError
from arraysmith.hardware import Microarchitecture
from arraysmith.mapping import Goal
from arraysmith.search.design_columns import Designs, mask_of
from arraysmith.search.mapper import energy_weights, map_workload
from arraysmith.search.network_cycles import network_cycles
from arraysmith.search.physical_bounds import cycles_at_least, distinct, energy_at_least
from arraysmith.search.problem import NO_LIMIT, Bounds, Figures, arrays_of
from arraysmith.simulation.physical.array import MICROARCHITECTURES
from arraysmith.simulation.physical.cost import WIDEST_ACCESS_BYTES, energy_tables
from arraysmith.simulation.physical.model import network_metrics
from arraysmith.simulation.physical.nest import IFMAP_BYTES, OPERAND, PSUM, RATE, C, R
from arraysmith.simulation.physical.vectors import accelerator_vector, layer_vector
from arraysmith.space import AXES
from arraysmith.workload import Gemm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.formats.technology import Technology
    from arraysmith.hardware import PhysicalAccelerator
    from arraysmith.physical_performance import PhysicalNetworkMetrics
    from arraysmith.space import DesignSpace
    from arraysmith.workload import Layer, Workload

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

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

    def __post_init__(self) -> None:
        """Whether the arrays of the space are real ones."""
        arrays_of(self.space, Microarchitecture)
        if self.goal is Goal.FRONT:
            raise DesignSpaceError("mappings for a front; choose cycles, energy or edp")

    @property
    def in_groups(self) -> bool:
        """Whether designs that differ in their buffers alone are searched together."""
        return self.goal is Goal.CYCLES and not self.with_energy

    def groups(self, ids: Ints) -> Ints:
        """(n,) equal for designs of one array, or each by itself."""
        if not self.in_groups:
            return ids
        return ids // prod(self.space.shape[AXES.index("ifmap_kib") :])

    def bounds(self) -> Bounds:
        """Of every design: all folds of a layer as one tile, each word once."""
        layers, counts = self._shapes()
        vectors = np.array([layer_vector(layer) for layer in layers])
        # Cycles do not depend on the buffers.
        bare = replace(self.space, ifmap_kib=(64,), filter_kib=(64,), ofmap_kib=(64,))
        designs = self._designs(bare, np.arange(bare.size))
        cycles = cycles_at_least(vectors, counts, designs).reshape(bare.shape)
        energy = self._energy_at_least(layers, counts) if self.with_energy else None
        return Bounds(total_cycles=cycles, energy_pj=energy)

    def evaluate(self, ids: Ints, most_cycles: Ints) -> Figures:
        """(n,) designs, each layer under the best of all its mappings."""
        if not self.in_groups:
            return Figures.joined([self._one(int(number)) for number in ids])
        layers, counts = self._shapes()
        limits = None if (most_cycles == NO_LIMIT).all() else most_cycles
        found = network_cycles(layers, counts, self._designs(self.space, ids), limits)
        return replace(Figures.of_cycles(found.cycles), exact=found.exact)

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
        except InvalidHardwareError:  # there is no such design
            return Figures.of_cycles(np.array([-1]))
        return Figures(
            total_cycles=np.array([found.total_cycles]),
            exact=np.ones(1, np.bool_),
            stall_cycles=np.array([found.stall_cycles]),
            dram_bytes=np.array([found.dram_bytes]),
            energy_pj=np.array([found.energy_pj]),
        )

    def _shapes(self) -> tuple[list[Layer], Ints]:
        """The layers that differ in more than a name, and how often each occurs."""
        times = Counter(replace(layer, name="") for layer in self.workload.layers)
        return list(times), np.array(list(times.values()), np.int64)

    def _designs(self, space: DesignSpace, ids: Ints) -> Designs:
        """(n,) designs as columns."""
        numbers = {name: values for name, values in space.columns(ids).items() if name != "arrays"}
        kib = np.stack([numbers[f"{each}_kib"] for each in ("ifmap", "filter", "ofmap")], axis=1)
        kinds = space.place(ids, 0)
        masks = np.array(
            [mask_of(array) for array in arrays_of(space, Microarchitecture)], np.int64
        )
        rates = np.array(
            [
                accelerator_vector(replace(self.base, dram_bytes_per_cycle=rate))[RATE : RATE + 2]
                for rate in space.dram_bytes_per_cycle
            ]
        )
        vectors = np.tile(accelerator_vector(self.base), (len(ids), 1))
        vectors[:, R], vectors[:, C] = numbers["rows"], numbers["cols"]
        vectors[:, IFMAP_BYTES : IFMAP_BYTES + 3] = (
            kib * 1024 // (2 if self.base.double_buffered else 1)
        )
        vectors[:, OPERAND], vectors[:, PSUM] = numbers["operand_bytes"], numbers["psum_bytes"]
        vectors[:, RATE : RATE + 2] = rates[space.place(ids, AXES.index("dram_bytes_per_cycle"))]
        return Designs(vectors=vectors, kib=kib, micros=masks[kinds])

    def _energy_at_least(self, layers: list[Layer], counts: Ints) -> Floats:
        """(*shape) picojoules, mid estimate."""
        ids = np.arange(self.space.size)
        designs = self._designs(self.space, ids)
        weights, which = self._weights(designs)
        total = np.zeros(len(ids))
        for layer, count in zip(layers, counts, strict=True):
            total += count * energy_at_least(layer_vector(layer), designs, weights, which)
        # Sums of floats in another order may come out higher by some roundings.
        return (total * (1 - 1e-12)).reshape(self.space.shape)

    def _weights(self, designs: Designs) -> tuple[Floats, Ints]:
        """(tables, microarchitectures, 11) picojoules of a PE and of one MAC, and whose they are.

        Designs whose buffers, words and narrow ports are alike have one table.
        """
        op, psum = designs.vectors[:, OPERAND], designs.vectors[:, PSUM]
        edges = [
            designs.vectors[:, R] * op,
            designs.vectors[:, C] * op,
            designs.vectors[:, C] * psum,
        ]
        narrow = [np.minimum(edge, WIDEST_ACCESS_BYTES) for edge in edges]
        first, which = distinct(np.column_stack([designs.kib, op, psum, *narrow]))
        kinds = {each for array in arrays_of(self.space, Microarchitecture) for each in array}
        tables = np.zeros((len(first), len(MICROARCHITECTURES), 11))
        for place, number in enumerate(first):
            accelerator = self.space.accelerator(int(number), self.base)
            for kind in kinds:
                table = energy_tables(self.technology, accelerator, kind)["mid"]
                one = replace(accelerator, rows=1, cols=1)
                tables[place, MICROARCHITECTURES.index(kind)] = energy_weights(_ONE_MAC, one, table)
        return tables, which


_ONE_MAC = Gemm(name="", M=1, N=1, K=1)
