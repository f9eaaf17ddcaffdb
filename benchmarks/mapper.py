"""How fast mappings are computed and the best of them is proven: `python benchmarks/mapper.py`.

Evaluations are measured on mappings drawn from the mapspaces of ResNet-50's layers, on one core,
beside a walk over their tiles in plain Python in the same run; the mapper on all of ResNet-50, in a
fresh process too, for its memory.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tile_walk import walk

from arraysmith.formats.technology import read_technology
from arraysmith.formats.topology import read_topology
from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
from arraysmith.mapping import ORDERS, Goal
from arraysmith.search.mapper import map_workload
from arraysmith.search.mapspace import divisors, map_space
from arraysmith.simulation.physical.array import MICROARCHITECTURES
from arraysmith.simulation.physical.closed_form import (
    FILTER_RESIDENT,
    IFMAP_RESIDENT,
    OFMAP_RESIDENT,
    TOTAL,
    evaluate,
)
from arraysmith.simulation.physical.vectors import (
    BLOCKED_DIMENSION,
    accelerator_vector,
    layer_vector,
    mapping_of,
)
from arraysmith.workload import ceil_div

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from arraysmith.search.mapspace import MapSpace
    from arraysmith.workload import Layer

RESNET50 = Path(__file__).parents[1] / "examples" / "resnet50.csv"
REPETITIONS = 5
MAPPINGS_A_LAYER = 20_000
WALKED_A_LAYER = 4
MOST_WALKED_STEPS = 20_000
MICROARCHITECTURE = Microarchitecture.WS_DOUBLE_BUFFERED
ACCELERATOR = PhysicalAccelerator(
    rows=32, cols=32, microarchitectures=(MICROARCHITECTURE,), dram_bytes_per_cycle=16
)


def median_seconds(work: Callable[[], object]) -> float:
    """Median CPU time of a few repetitions after one that warms up."""
    work()
    times = []
    for _ in range(REPETITIONS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def drawn(layer: Layer, rng: random.Random) -> NDArray[np.int64]:
    """(mappings, 8) of a layer's space, each of whose tiles fits its buffer."""
    space = map_space(layer.loops, ACCELERATOR, MICROARCHITECTURE)
    array = accelerator_vector(ACCELERATOR)
    found: list[NDArray[np.int64]] = []
    while sum(map(len, found)) < MAPPINGS_A_LAYER:
        some = np.array([_one(layer, space, rng) for _ in range(MAPPINGS_A_LAYER)], np.int64)
        figures = evaluate(layer_vector(layer), array, some)
        operand, psum = ACCELERATOR.operand_bytes, ACCELERATOR.psum_bytes
        fits = figures[:, IFMAP_RESIDENT] * operand <= array[2]
        fits &= figures[:, FILTER_RESIDENT] * operand <= array[3]
        fits &= figures[:, OFMAP_RESIDENT] * psum <= array[4]
        found.append(some[fits])
    return np.concatenate(found)[:MAPPINGS_A_LAYER]


def _one(layer: Layer, space: MapSpace, rng: random.Random) -> tuple[int, ...]:
    """A mapping: sizes, order and block each drawn evenly."""
    tile = tuple(
        int(rng.choice(sizes))
        for sizes in (space.rows, space.cols, space.out_channels, space.in_channels)
    )
    order = rng.randrange(len(ORDERS))
    letter = rng.choice((None, *ORDERS[order][:2]))
    blocks = 1
    if letter is not None:
        loops = layer.loops
        whole = {"M": loops.rows, "N": loops.out_channels, "K": loops.in_channels}[letter]
        size = {"M": tile[0], "N": tile[2], "K": tile[3]}[letter]
        blocks = rng.choice(divisors(ceil_div(whole, size)))
    micro = MICROARCHITECTURES.index(MICROARCHITECTURE)
    return micro, order, *tile, BLOCKED_DIMENSION[letter if blocks > 1 else None], blocks


def evaluations() -> list[tuple[str, str]]:
    """Mappings per second and core, and the ratio to walking over their tiles."""
    rng = random.Random("mapper")  # noqa: S311
    layers = {replace(layer, name=""): None for layer in read_topology(RESNET50).layers}
    array = accelerator_vector(ACCELERATOR)
    mix = [(layer, drawn(layer, rng)) for layer in layers]

    def compute(sets: list[tuple[Layer, NDArray[np.int64]]]) -> None:
        for layer, mappings in sets:
            evaluate(layer_vector(layer), array, mappings)

    count = sum(len(mappings) for _, mappings in mix)
    rate = count / median_seconds(lambda: compute(mix))
    few = [(layer, short(layer, mappings)) for layer, mappings in mix]
    walked = sum(len(mappings) for _, mappings in few)
    start = time.process_time()
    for layer, mappings in few:
        totals = evaluate(layer_vector(layer), array, mappings)[:, TOTAL].tolist()
        found = [walk(layer, ACCELERATOR, mapping_of(each)).total_cycles for each in mappings]
        if found != totals:
            raise SystemExit(f"{layer}: the walk finds other cycles")
    slow = time.process_time() - start
    fast = median_seconds(lambda: compute(few))
    return [
        (
            f"figures of {count:,} mappings drawn from the {len(layers)} shapes of ResNet-50",
            f"{rate / 1e6:.2f} million mappings per CPU second, one core",
        ),
        (
            (
                f"{walked} of them, of at most {MOST_WALKED_STEPS:,} tiles, beside a walk over "
                "their tiles in plain Python"
            ),
            f"{slow / walked:.3f} s a mapping walked, cycles equal; {slow / fast:,.0f}× sooner",
        ),
    ]


def short(layer: Layer, mappings: NDArray[np.int64]) -> NDArray[np.int64]:
    """A few mappings that do not take too many steps."""
    loops = layer.loops
    steps = loops.groups * loops.images * np.ones(len(mappings), np.int64)
    for column, whole in enumerate(
        (loops.rows, loops.cols, loops.out_channels, loops.in_channels), start=2
    ):
        steps *= -(-whole // mappings[:, column])
    return mappings[steps <= MOST_WALKED_STEPS][:WALKED_A_LAYER]


def resnet50(goal: Goal) -> tuple[str, str]:
    """All layers' best mappings: seconds, memory of a fresh process, what was covered."""
    workload, technology = read_topology(RESNET50), read_technology()
    found = map_workload(workload, ACCELERATOR, technology, goal)
    times, cpu_times = [], []
    for _ in range(REPETITIONS):
        start, cpu_start = time.perf_counter(), time.process_time()
        found = map_workload(workload, ACCELERATOR, technology, goal)
        times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)
    seconds, cpu_seconds = statistics.median(times), statistics.median(cpu_times)
    shapes = {
        replace(layer, name=""): each for layer, each in zip(workload.layers, found, strict=True)
    }
    space = sum(each.mappings for each in shapes.values())
    visited = sum(each.visited for each in shapes.values())
    evaluated = sum(each.evaluated for each in shapes.values())
    fresh_s, peak_mib = fresh_process(goal)
    total = sum(each.best.total_cycles for each in found)
    energy_mj = sum(each.best.energy.total_pj[1] for each in found) / 1e9
    return (
        (
            f"ResNet-50 ({len(workload.layers)} layers, {len(shapes)} shapes), least {goal}, on "
            f"{ACCELERATOR}, proven: {total:,} cycles, {energy_mj:.2f} mJ (mid)"
        ),
        (
            f"{seconds:.2f} s for {space:,} mappings, {space / seconds / 1e6:,.0f} million a "
            f"second: {evaluated:,} tiles and nests evaluated with their bounds, "
            f"{evaluated / cpu_seconds / 1e6:.1f} million per CPU second, and {visited:,} computed "
            f"to the last cycle; fresh process {fresh_s:.2f} s, {peak_mib:.0f} MiB at most"
        ),
    )


def fresh_process(goal: Goal) -> tuple[float, float]:
    """Seconds and peak resident MiB of a process that maps ResNet-50 once."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import mapper; "
        "mapper.map_workload(mapper.read_topology(mapper.RESNET50), mapper.ACCELERATOR, "
        f"mapper.read_technology(), mapper.Goal({goal.value!r}))"
    )
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code])  # noqa: S603 (our own command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"mapping ResNet-50 ended with {process.returncode}")
    kib = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return seconds, kib / 1024


def main() -> None:
    """Print a Markdown table."""
    print(
        f"Python {platform.python_version()}, NumPy {np.__version__}, {os.cpu_count()} cores, "
        f"medians of {REPETITIONS} runs.\n"
    )
    print("| what | measured |\n|---|---|", flush=True)
    rows = [*evaluations(), *(resnet50(goal) for goal in (Goal.CYCLES, Goal.ENERGY))]
    for what, measured in rows:
        print(f"| {what} | {measured} |")


if __name__ == "__main__":
    main()
