"""The exact front of cycles and area for ResNet-50: `python benchmarks/physical_front.py`.

Every design of the space with the best mapping of each layer, proven; how many of them had to be
searched, and how long it took. A sample of designs is mapped one by one and held to the front.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arraysmith.formats.technology import read_technology
from arraysmith.formats.topology import read_topology
from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
from arraysmith.search.design_columns import Designs, areas_mm2, grid, micros_of
from arraysmith.search.mapper import map_workload
from arraysmith.search.network_cycles import NetworkCycles, network_cycles
from arraysmith.search.physical_bounds import cycles_at_least, distinct
from arraysmith.search.physical_front import find_front
from arraysmith.simulation.physical.array import MICROARCHITECTURES
from arraysmith.simulation.physical.vectors import layer_vector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from arraysmith.search.physical_front import Front
    from arraysmith.workload import Layer

RESNET50 = Path(__file__).parents[1] / "examples" / "resnet50.csv"
KINDS = tuple(
    Microarchitecture(name)
    for name in ("os-overlapped", "ws-double-buffered", "is-double-buffered")
)
KIB = (16, 64, 256, 1024)
BASE = PhysicalAccelerator(rows=1, cols=1, microarchitectures=KINDS[:1], dram_bytes_per_cycle=16)
SIDES = {"1:64": range(1, 65), "4:256:4": range(4, 257, 4)}


class Processes:
    """Designs evaluated in several processes, in chunks of groups."""

    def __init__(
        self,
        pool: ProcessPoolExecutor,
        layers: Sequence[Layer],
        counts: NDArray[np.int64],
        designs: Designs,
        groups: NDArray[np.intp],
    ) -> None:
        """Keep what all calls share."""
        self.pool, self.layers, self.counts = pool, layers, counts
        self.designs, self.groups = designs, groups

    def __call__(self, chosen: NDArray[np.intp], most_cycles: NDArray[np.int64]) -> NetworkCycles:
        """See `Evaluate`; groups stay in one piece, several groups are one task."""
        begins = np.flatnonzero(np.diff(self.groups[chosen], prepend=-1))
        parts = np.array_split(begins, max(1, min(len(begins) // 4, 32)))
        cuts = [int(part[0]) for part in parts[1:]]
        work = partial(network_cycles, self.layers, self.counts)
        done = list(
            self.pool.map(
                work,
                [self.designs.take(part) for part in np.split(chosen, cuts)],
                np.split(most_cycles, cuts),
            )
        )
        return NetworkCycles(
            cycles=np.concatenate([each.cycles for each in done]),
            exact=np.concatenate([each.exact for each in done]),
            searched=np.sum([each.searched for each in done], axis=0),
        )


def accelerator_of(designs: Designs, index: int) -> PhysicalAccelerator:
    """A design as a record."""
    kib = designs.kib[index].tolist()
    return replace(
        BASE,
        rows=int(designs.vectors[index, 0]),
        cols=int(designs.vectors[index, 1]),
        microarchitectures=tuple(
            MICROARCHITECTURES[micro] for micro in micros_of(int(designs.micros[index]))
        ),
        ifmap_buffer_kib=kib[0],
        filter_buffer_kib=kib[1],
        ofmap_buffer_kib=kib[2],
    )


def check_sample(
    designs: Designs, areas: NDArray[np.float64], front: Front, rng: random.Random, count: int
) -> None:
    """Map some designs one by one: none is better than the front."""
    workload, technology = read_topology(RESNET50), read_technology()
    for index in rng.sample(range(len(designs)), count):
        mapped = map_workload(workload, accelerator_of(designs, index), technology)
        cycles = sum(layer.best.total_cycles for layer in mapped)
        within = areas[front.designs] <= areas[index]
        if not within.any() or front.cycles[within].min() > cycles:
            raise SystemExit(f"{accelerator_of(designs, index)} is better than the front: {cycles}")


def main() -> None:
    """Find the front, print how, check a sample."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sides", choices=SIDES, default="4:256:4")
    parser.add_argument("--kib", type=int, nargs=4, default=KIB)
    parser.add_argument("--sample", type=int, default=50)
    parser.add_argument("--random-groups", type=int, default=40)
    arguments = parser.parse_args()
    shapes = Counter(replace(layer, name="") for layer in read_topology(RESNET50).layers)
    layers, counts = list(shapes), np.array(list(shapes.values()))
    sides = SIDES[arguments.sides]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        designs = grid(BASE, sides, sides, [(kind,) for kind in KINDS], (arguments.kib,) * 3)
        one = designs.take(np.zeros(1, np.intp))
        network_cycles(layers[:1], counts[:1], one)  # compiles
        list(pool.map(partial(network_cycles, layers[:1], counts[:1]), [one] * 4))
        start = time.perf_counter()
        vectors = np.array([layer_vector(layer) for layer in layers])
        bounds = cycles_at_least(vectors, counts, designs)
        areas = areas_mm2(read_technology(), BASE, designs)
        groups = distinct(np.column_stack((designs.vectors[:, :2], designs.micros)))[1]
        bounded = time.perf_counter() - start
        evaluate = Processes(pool, layers, counts, designs, groups)
        front = find_front(bounds, areas, groups, evaluate)
        seconds = time.perf_counter() - start
        print(f"{len(designs):,} designs in {groups.max() + 1:,} groups, bounds in {bounded:.1f} s")
        print(f"front: {len(front.designs)} designs, {front.rounds} rounds")
        print(f"searched to the last cycle {front.searched:,}, left on the way {front.left:,}")
        print(f"{seconds:.1f} s, {len(designs) / seconds:,.0f} designs a second covered")
        rng = random.Random("front")  # noqa: S311
        drawn = np.array(rng.sample(range(int(groups.max()) + 1), arguments.random_groups))
        members = np.flatnonzero(np.isin(groups, drawn))
        start = time.perf_counter()
        found = evaluate(members, np.full(len(members), 2**60))
        seconds = time.perf_counter() - start
        quantiles = np.quantile(found.cycles / bounds[members], (0, 0.1, 0.5, 0.9, 1))
        print("cycles over bound, least, 10 %, median, 90 %, most:", *quantiles.round(3))
        print(
            f"{len(members):,} designs of random groups without any limit: {seconds:.1f} s, "
            f"{len(members) / seconds:,.0f} a second"
        )
        check_sample(designs, areas, front, rng, arguments.sample)
        print(f"{arguments.sample} random designs mapped one by one: none is better")


if __name__ == "__main__":
    main()
