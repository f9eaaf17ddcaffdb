"""What the tile sizes that the mapper leaves out would have gained, on random small layers.

    PYTHONPATH=src python tests/mapspace_loss.py 1000

prints for each dataflow and goal in how many of so many cases a mapping of any whole tile sizes is
better than the best of the stated ones, and how much less of it the best of all takes.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace

from brute_force import all_sizes, known, random_problem

from arraysmith.hardware import Dataflow, Microarchitecture

GOALS = "cycles", "energy", "edp"
MOST_TILES = 2500


def figure(found, goal):
    """What a goal makes least."""
    cycles, energy = found.best(goal)
    return {"cycles": cycles, "energy": energy, "edp": cycles * energy}[goal]


def small_problem(rng, microarchitecture):
    """A random problem with few enough tiles to try them all."""
    while True:
        layer, accelerator, table = random_problem(rng, (microarchitecture,), largest=10**6)
        loops = layer.loops
        if loops.rows * loops.cols * loops.out_channels * loops.in_channels <= MOST_TILES:
            return layer, accelerator, table


def is_lossless(layer, accelerator, table):
    """Whether the energy loses nothing to tile sizes left out, by the argument of the tests.

    The pixels must lie in folds that rows alone decide, and no port may make the cycles of a step,
    if they cost energy, depend on its lanes.
    """
    weight_stationary = accelerator.microarchitectures[0].dataflow is Dataflow.WS
    never_held = not (
        accelerator.ifmap_port_bytes
        or accelerator.filter_port_bytes
        or accelerator.ofmap_port_bytes
    )
    return (weight_stationary or layer.loops.cols == 1) and (never_held or table.pe_cycle_pj == 0)


def without_ports(accelerator):
    """The accelerator with ports as wide as its array takes."""
    return replace(
        accelerator, ifmap_port_bytes=None, filter_port_bytes=None, ofmap_port_bytes=None
    )


def gains(seed, cases, microarchitectures=tuple(Microarchitecture)):
    """Each case with how much less the best of all tile sizes takes, by goal, as a fraction."""
    for index in range(cases):
        rng = random.Random(f"{seed} {index}")  # noqa: S311
        microarchitecture = microarchitectures[index % len(microarchitectures)]
        problem = small_problem(rng, microarchitecture)
        if rng.randint(0, 1):
            problem = problem[0], without_ports(problem[1]), problem[2]
        stated = known(*problem)
        every = known(*problem, all_sizes(*problem[:2]))
        yield (
            problem,
            {goal: 1 - figure(every, goal) / (figure(stated, goal) or 1) for goal in GOALS},
        )


def main(cases):
    """Print the table."""
    for dataflow in Dataflow:
        built = [each for each in Microarchitecture if each.dataflow is dataflow]
        found = [gain for _, gain in gains(f"loss {dataflow}", cases, built)]
        for goal in GOALS:
            lost = [gain[goal] for gain in found if gain[goal] > 1e-12]
            sys.stdout.write(
                f"{dataflow} {goal}: {len(lost)} of {cases}, at most {max(lost, default=0):.1%}, "
                f"mean over all {sum(lost) / cases:.3%}\n"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]))
