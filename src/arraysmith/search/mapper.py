"""The best mapping of a layer on an accelerator, proven: `docs/mapping.md`."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.mapping import Goal
from arraysmith.physical_performance import SETS, MappedLayer
from arraysmith.progress import silent
from arraysmith.search.mapping_search import (
    CYCLES,
    EDP,
    ENERGY,
    FOUND,
    FRONT,
    MAX_FRONT,
    NESTS,
    TILES,
    VISITED,
    search,
)
from arraysmith.search.mapspace import MapSpace, map_space
from arraysmith.simulation.physical.array import MICROARCHITECTURES
from arraysmith.simulation.physical.cost import EnergyTable, energy_tables
from arraysmith.simulation.physical.model import check_smallest_tiles, simulate_layer
from arraysmith.simulation.physical.nest import NEST
from arraysmith.simulation.physical.vectors import (
    accelerator_vector,
    layer_vector,
    mapping_of,
)
from arraysmith.simulation.physical.waiting import KINDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arraysmith.formats.technology import Technology
    from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
    from arraysmith.progress import Progress
    from arraysmith.simulation.physical.model import Tables
    from arraysmith.workload import Layer, Workload


_OBJECTIVE = {Goal.CYCLES: CYCLES, Goal.ENERGY: ENERGY, Goal.EDP: EDP, Goal.FRONT: FRONT}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """What the search left: cycles and energy of the best, their vectors, counts and bounds."""

    figures: NDArray[np.float64]
    mappings: NDArray[np.int64]
    counters: NDArray[np.int64]
    bounds: NDArray[np.float64]


def best_mapping(
    layer: Layer,
    accelerator: PhysicalAccelerator,
    costs: Technology | EnergyTable,
    goal: Goal = Goal.CYCLES,
) -> MappedLayer:
    """The best mapping of a layer, proven over the whole space of mappings.

    Ties in cycles go to less energy, all others to fewer cycles. Energy is the mid estimate.

    Args:
        layer: what to compute.
        accelerator: what on; each of its microarchitectures is tried.
        costs: a technology, or what each access costs on this very accelerator.
        goal: what it is to be best at.

    Raises:
        InvalidHardwareError: a buffer holds no tile of the layer; the message has the least KiB.
        InvalidWorkloadError: more MACs than the model's integers take.
    """
    start = time.perf_counter()
    check_smallest_tiles(layer, accelerator)
    tables = {each: _tables(costs, accelerator, each) for each in accelerator.microarchitectures}
    spaces = {each: map_space(layer.loops, accelerator, each) for each in tables}
    found = _search(layer, accelerator, spaces, tables, goal)
    count = int(found.counters[FOUND])
    mappings = [mapping_of(found.mappings[index]) for index in range(count)]
    front = sorted(
        (
            simulate_layer(layer, accelerator, mapping, tables[mapping.microarchitecture])
            for mapping in mappings
        ),
        key=lambda metrics: metrics.total_cycles,
    )
    return MappedLayer(
        layer=layer.name,
        objective=goal.value,
        best=front[0],
        front=tuple(front),
        cycles_at_least=int(found.bounds[0]),
        energy_at_least_pj=float(found.bounds[1]),
        mappings=sum(space.size for space in spaces.values()),
        visited=int(found.counters[VISITED]),
        evaluated=int(found.counters[TILES] + found.counters[NESTS]),
        seconds=time.perf_counter() - start,
    )


def map_workload(
    workload: Workload,
    accelerator: PhysicalAccelerator,
    costs: Technology | EnergyTable,
    goal: Goal = Goal.CYCLES,
    *,
    progress: Progress = silent,
) -> tuple[MappedLayer, ...]:
    """The best mapping of each layer; layers of one shape are searched once, several at a time.

    Raises:
        InvalidHardwareError, InvalidWorkloadError: see `best_mapping`.
    """
    shapes: dict[Layer, Layer] = {}
    for layer in workload.layers:
        if shapes.setdefault(replace(layer, name=""), layer) is layer:
            check_smallest_tiles(layer, accelerator)
    with ThreadPoolExecutor(os.cpu_count()) as threads, progress("mapping", len(shapes)) as advance:
        pending = {
            shape: threads.submit(best_mapping, layer, accelerator, costs, goal)
            for shape, layer in shapes.items()
        }
        mapped = {}
        try:
            for shape, result in pending.items():
                mapped[shape] = result.result()
                advance(1)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return tuple(_named(mapped[replace(layer, name="")], layer) for layer in workload.layers)


def _named(mapped: MappedLayer, layer: Layer) -> MappedLayer:
    """A result under the name of another layer of the same shape."""
    front = tuple(replace(metrics, name=layer.name) for metrics in mapped.front)
    return replace(mapped, layer=layer.name, best=front[0], front=front)


def _tables(
    costs: Technology | EnergyTable,
    accelerator: PhysicalAccelerator,
    microarchitecture: Microarchitecture,
) -> Tables:
    if isinstance(costs, EnergyTable):
        return dict.fromkeys(SETS, costs)
    return energy_tables(costs, accelerator, microarchitecture)


def _search(
    layer: Layer,
    accelerator: PhysicalAccelerator,
    spaces: dict[Microarchitecture, MapSpace],
    tables: dict[Microarchitecture, Tables],
    goal: Goal,
) -> _Found:
    found = _Found(
        figures=np.zeros((MAX_FRONT, 2)),
        mappings=np.zeros((MAX_FRONT, 8), np.int64),
        counters=np.zeros(4, np.int64),
        bounds=np.full(2, np.inf),
    )
    for each, space in spaces.items():
        search(
            layer_vector(layer),
            accelerator_vector(accelerator),
            MICROARCHITECTURES.index(each),
            (space.rows, space.cols, space.out_channels, space.in_channels),
            energy_weights(layer, accelerator, tables[each]["mid"]),
            _OBJECTIVE[goal],
            found.figures,
            found.mappings,
            found.counters,
            found.bounds,
            np.zeros(1, NEST),
            np.zeros(1, KINDS),
        )
    return found


def energy_weights(
    layer: Layer, accelerator: PhysicalAccelerator, table: EnergyTable
) -> NDArray[np.float64]:
    """(11,): picojoules of all MACs, and of one of each count in the order of `energy_of`."""
    operand, psum, output = (
        accelerator.operand_bytes,
        accelerator.psum_bytes,
        accelerator.output_bytes,
    )
    dram = table.dram_pj_per_byte
    return np.array(
        [
            layer.macs * table.mac_pj,
            accelerator.pes * table.pe_cycle_pj,
            operand * (table.ifmap_write_pj_per_byte + dram),
            operand * (table.filter_write_pj_per_byte + dram),
            psum * (table.ofmap_write_pj_per_byte + dram),
            psum * (table.ofmap_read_pj_per_byte + dram),
            output * (table.ofmap_read_pj_per_byte + dram),
            operand * table.ifmap_read_pj_per_byte,
            operand * table.filter_read_pj_per_byte,
            psum * table.ofmap_read_pj_per_byte,
            psum * table.ofmap_write_pj_per_byte,
        ]
    )
