"""The exact front of cycles and area for ResNet-50: `python benchmarks/physical_front.py`.

786,432 designs under the model `physical`, every layer of each with its best mapping: how many had
to be searched, and how long it took. Then designs drawn at random are evaluated without any limit,
one process, and a sample of them is mapped layer by layer and held to the front.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

import numpy as np

import arraysmith
from arraysmith import DesignSpace, Lasting, Objective
from arraysmith.flow.question import Question
from arraysmith.search.mapper import map_workload
from arraysmith.search.problem import NO_LIMIT
from arraysmith.space import parse_axis, parse_kib

RESNET50 = Path(__file__).parents[1] / "examples" / "resnet50.csv"


def main() -> None:
    """Find the front, print how, check a sample."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sides", default="4:256:4", help="rows and cols")
    parser.add_argument("--kib", default="16,64,256,1024", help="of each buffer")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--groups", type=int, default=40, help="arrays evaluated without limits")
    parser.add_argument("--sample", type=int, default=50, help="designs held to the front")
    given = parser.parse_args()
    sides, kib = parse_axis(given.sides, "--sides"), parse_kib(given.kib, "--kib")
    space = DesignSpace(rows=sides, cols=sides, ifmap_kib=kib, filter_kib=kib, ofmap_kib=kib)
    workload = arraysmith.read_workload(RESNET50)
    asked = Question(model="physical", objectives=(Objective.CYCLES, Objective.AREA))
    problem = asked.problem(workload, asked.fitted(space))
    model = asked.model_over(workload, problem)
    model.evaluate(np.zeros(1, np.int64), np.array([NO_LIMIT]))  # compiles

    found = arraysmith.explore(
        workload,
        space,
        model="physical",
        objectives=(Objective.CYCLES, Objective.AREA),
        lasting=Lasting(jobs=given.jobs),
    )
    facts = found.facts
    print(f"{facts.designs:,} designs, front of {facts.front_size}, proven")
    print(f"{facts.evaluated:,} searched to the last cycle, the others ruled out by bounds")
    print(
        f"{facts.seconds:.1f} s with {given.jobs} processes, "
        f"{facts.designs / facts.seconds:,.0f} designs a second covered"
    )

    rng = random.Random("front")  # noqa: S311
    every = np.arange(space.size)
    drawn = rng.sample(range(len(np.unique(model.groups(every)))), given.groups)
    members = np.flatnonzero(np.isin(model.groups(every), drawn))
    start = time.perf_counter()
    figures = model.evaluate(members, np.full(len(members), NO_LIMIT))
    seconds = time.perf_counter() - start
    print(
        f"{len(members):,} designs of random arrays without any limit, one process: "
        f"{seconds:.1f} s, {len(members) / seconds:,.0f} a second"
    )

    front = [(each.total_cycles, each.area_mm2) for each in found.front]
    mapping = 0.0
    for place in rng.sample(range(len(members)), given.sample):
        accelerator = problem.space.accelerator(int(members[place]), asked.base)
        start = time.perf_counter()
        mapped = map_workload(workload, accelerator, asked.technology)
        mapping += time.perf_counter() - start
        cycles = sum(layer.best.total_cycles for layer in mapped)
        area = float(problem.area_mm2(members[place : place + 1])[0])
        if cycles != figures.total_cycles[place]:
            raise SystemExit(f"{accelerator}: {figures.total_cycles[place]}, mapped {cycles}")
        if not any(least <= cycles and size and size[1] <= area for least, size in front):
            raise SystemExit(f"{accelerator} is better than the front: {cycles} cycles, {area} mm²")
    print(f"{given.sample} of them mapped layer by layer: the same cycles, none betters the front")
    rate = given.sample / mapping
    print(
        f"that takes {mapping / given.sample:.2f} s a design on all cores: the front came "
        f"{facts.designs / facts.seconds / rate:,.0f}× sooner"
    )


if __name__ == "__main__":
    main()
