"""Exploring equals brute force: every design by the slow functions, everything by its definition.

The brute force simulates or maps each design by itself, on each kind of array that it can do; areas
are those of single accelerators; energy, EDP, power and utilization are written out here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest

import arraysmith
from arraysmith.errors import DesignSpaceError, InvalidHardwareError
from arraysmith.flow.question import PORTS, Question
from arraysmith.formats.technology import read_technology
from arraysmith.hardware import (
    PIPELINED,
    Accelerator,
    Dataflow,
    Microarchitecture,
    StreamBandwidths,
)
from arraysmith.mapping import Goal
from arraysmith.search.pareto import hypervolume
from arraysmith.simulation.physical.cost import area_mm2
from arraysmith.simulation.scalesim.model import simulate
from arraysmith.space import AXES, Constraints, DesignSpace, Objective
from arraysmith.workload import Conv2d, Gemm, Workload

OS, WS, IS = Dataflow.OS, Dataflow.WS, Dataflow.IS
TECHNOLOGY = read_technology()
CLOCK_MHZ = 800.0
OBJECTIVES = tuple(Objective)
COUNTED = (Objective.CYCLES, Objective.AREA, Objective.UTILIZATION, Objective.PE_CYCLES)


@dataclass(frozen=True)
class Known:
    """One design by the slow functions."""

    number: int
    rows: int
    cols: int
    cycles: int
    energy_pj: float | None
    area_mm2: float
    kib: int
    macs: int

    @property
    def pes(self):
        """Rows × columns."""
        return self.rows * self.cols

    @property
    def seconds(self):
        """At the clock of these tests."""
        return self.cycles / (CLOCK_MHZ * 1e6)

    def value(self, objective):
        """What is made small."""
        return {
            Objective.CYCLES: lambda: self.cycles,
            Objective.ENERGY: lambda: self.energy_pj,
            Objective.AREA: lambda: self.area_mm2,
            Objective.EDP: lambda: self.energy_pj * 1e-12 * self.seconds,
            Objective.UTILIZATION: lambda: self.cycles * self.pes,
            Objective.PE_CYCLES: lambda: self.cycles * self.pes,
        }[objective]()

    def keeps(self, constraints):
        """Whether all constraints are kept."""
        limits = constraints.given
        power = None if self.energy_pj is None else self.energy_pj * 1e-12 / self.seconds
        figures = {
            "max_pes": self.pes,
            "max_area_mm2": self.area_mm2,
            "max_total_kib": self.kib,
            "max_power_w": power,
        }
        kept = all(figures[name] <= limit for name, limit in limits.items() if name in figures)
        least = limits.get("min_utilization", 0)
        return kept and self.macs / (self.cycles * self.pes) >= least

    def ties(self):
        """What decides between equals."""
        return self.cycles, self.pes, self.rows, self.number


def every_design(workload, space, question):
    """All designs that can be, in the order of their numbers."""
    macs = sum(layer.macs for layer in workload.layers)
    found = []
    for number, values in enumerate(product(*(getattr(space, axis) for axis in AXES))):
        value = dict(zip(AXES, values, strict=True))
        physical = physical_of(value, question)
        cycles, energy = figures_of(workload, value, physical, question)
        if cycles is not None:
            found.append(
                Known(
                    number=number,
                    rows=value["rows"],
                    cols=value["cols"],
                    cycles=cycles,
                    energy_pj=energy,
                    area_mm2=area_mm2(TECHNOLOGY, physical)["mid"].total_mm2,
                    kib=value["ifmap_kib"] + value["filter_kib"] + value["ofmap_kib"],
                    macs=macs,
                )
            )
    return found


def physical_of(value, question):
    """A design as a physical accelerator; also those of scalesim, for their areas."""
    base = question.get("base", PORTS)
    return replace(
        base,
        rows=value["rows"],
        cols=value["cols"],
        microarchitectures=tuple(
            PIPELINED[each] if isinstance(each, Dataflow) else each for each in value["arrays"]
        ),
        ifmap_buffer_kib=value["ifmap_kib"],
        filter_buffer_kib=value["filter_kib"],
        ofmap_buffer_kib=value["ofmap_kib"],
        dram_bytes_per_cycle=value["dram_bytes_per_cycle"],
        operand_bytes=value["operand_bytes"],
        psum_bytes=value["psum_bytes"],
    )


def figures_of(workload, value, physical, question):
    """Cycles and mid energy of one design; None where a buffer holds no tile."""
    if question["model"] == "physical":
        wanted = {Objective.ENERGY: Goal.ENERGY, Objective.EDP: Goal.EDP}
        goal = question.get("map_for") or wanted.get(question["objectives"][0], Goal.CYCLES)
        try:
            metrics = arraysmith.map_network(workload, physical, goal=goal).metrics
        except InvalidHardwareError:
            return None, None
        return metrics.total_cycles, metrics.energy_pj[1]
    words = int(value["dram_bytes_per_cycle"])
    streams = StreamBandwidths(
        ifmap_words_per_cycle=words, filter_words_per_cycle=words, ofmap_words_per_cycle=words
    )
    results = [
        simulate(
            workload,
            Accelerator(
                rows=value["rows"],
                cols=value["cols"],
                dataflow=dataflow,
                ifmap_buffer_kib=value["ifmap_kib"],
                filter_buffer_kib=value["filter_kib"],
                ofmap_buffer_kib=value["ofmap_kib"],
            ),
            streams if question.get("mode") == "user" else None,
        ).layers
        for dataflow in value["arrays"]
    ]
    each = zip(*results, strict=True)
    return sum(min(layer.total_cycles for layer in choices) for choices in each), None


def front_of(designs, objectives):
    """What none dominates, by ascending objectives; of equals the first by the rule."""
    values = {each.number: tuple(each.value(o) for o in objectives) for each in designs}
    points = set(values.values())
    kept = {
        point
        for point in points
        if not any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True))
            for other in points
        )
    }
    best = {}
    for each in sorted(designs, key=Known.ties):
        if values[each.number] in kept:
            best.setdefault(values[each.number], each)
    return [best[point] for point in sorted(best)]


def random_workload(rng):
    """One or two layers, one of them perhaps twice."""
    layers = [Gemm(name="a", M=rng.randint(2, 20), N=rng.randint(1, 20), K=rng.randint(2, 40))]
    if rng.random() < 0.5:
        size = rng.randint(2, 3)
        layers.append(
            Conv2d(
                name="b", ifmap_rows=rng.randint(size, 7), ifmap_cols=rng.randint(size, 7),
                filter_rows=size, filter_cols=size, in_channels=rng.randint(2, 6),
                out_channels=rng.randint(1, 8),
            )
        )  # fmt: skip
    if rng.random() < 0.3:
        layers.append(replace(layers[-1], name="c"))
    return Workload(name="random", layers=tuple(layers))


def random_space(rng, kinds, *, words, most=40):
    """A few values of each axis; not too many designs, for each is simulated."""

    def some(values, count=2):
        return tuple(sorted(rng.sample(values, rng.randint(1, count))))

    while True:
        single = [(each,) for each in kinds]
        arrays = rng.sample([*single, tuple(rng.sample(kinds, 2)), tuple(kinds[:3])], 2)
        space = DesignSpace(
            rows=some(range(1, 13), 3),
            cols=some(range(1, 13), 3),
            arrays=tuple(arrays[: rng.randint(1, 2)]),
            ifmap_kib=some((1, 2, 4)),
            filter_kib=some((1, 3)),
            ofmap_kib=some((1, 2, 8)),
            dram_bytes_per_cycle=some((1, 2, 16) if words else (0.5, 1, 2.5, 16)),
            operand_bytes=some((1, 2, 4)) if rng.random() < 0.4 else (1,),
            psum_bytes=some((2, 4)) if rng.random() < 0.4 else (4,),
        )
        if 2 <= space.size <= most:
            return space


def constrained(rng, space, designs, *, energetic):
    """Limits that some design keeps and, where they differ, others do not."""
    if not designs:
        return space
    middle = rng.choice(designs)
    choices = {
        "max_pes": middle.pes,
        "max_area_mm2": middle.area_mm2 * 1.0001,
        "max_total_kib": middle.kib,
        "min_utilization": min(1, middle.macs / (middle.cycles * middle.pes) * 0.9999),
    }
    if energetic:
        choices["max_power_w"] = middle.energy_pj * 1e-12 / middle.seconds * 1.0001
    chosen = rng.sample(sorted(choices), rng.choice((0, 1, 1, 2, 3)))
    return replace(space, constraints=Constraints(**{name: choices[name] for name in chosen}))


def check(workload, space, question):
    """The answer is that of brute force to the last bit; facts agree with each other."""
    designs = every_design(workload, space, question)
    energetic = question["model"] == "physical"
    rng = random.Random(space.size)  # noqa: S311
    space = constrained(rng, space, designs, energetic=energetic)
    good = [each for each in designs if each.keeps(space.constraints)]
    asked = {**question, "clock_mhz": CLOCK_MHZ, "technology": TECHNOLOGY}
    if not good:
        with pytest.raises(DesignSpaceError):
            arraysmith.explore(workload, space, **asked)
        return None
    found = arraysmith.explore(workload, space, **asked)
    facts, objectives = found.facts, question["objectives"]
    front = front_of(good, objectives)
    assert [plain(each) for each in found.front] == [plain_known(space, each) for each in front]
    for fact, each in zip(found.front, front, strict=True):
        for objective in set(objectives) - {Objective.UTILIZATION}:
            assert fact.value(objective) == each.value(objective)
        assert fact.utilization == each.macs / (each.cycles * each.pes)
    best = min(good, key=lambda each: (*(each.value(o) for o in objectives), each.ties()))
    assert plain(found.best) == plain_known(space, best)
    assert facts.front_size == len(front)
    assert (facts.proven, facts.gap, facts.covered) == (True, 0, space.size)
    assert 1 <= facts.evaluated <= facts.designs <= facts.covered
    assert facts.evaluated + facts.ruled_out == facts.designs
    return found


def plain(design):
    """A fact as text and numbers."""
    return (
        design.dataflow, design.rows, design.cols, design.ifmap_buffer_kib,
        design.filter_buffer_kib, design.ofmap_buffer_kib, design.operand_bytes,
        design.psum_bytes, design.total_cycles,
    )  # fmt: skip


def plain_known(space, each):
    """The same of a design of the brute force."""
    place = dict(zip(AXES, np.unravel_index(each.number, space.shape), strict=True))
    value = {axis: getattr(space, axis)[place[axis]] for axis in AXES}
    kinds = value["arrays"]
    return (
        "+".join(kinds), value["rows"], value["cols"], value["ifmap_kib"], value["filter_kib"],
        value["ofmap_kib"], value["operand_bytes"], value["psum_bytes"], each.cycles,
    )  # fmt: skip


def random_objectives(rng, among):
    """One, two or three."""
    return tuple(rng.sample(among, rng.choice((1, 2, 2, 3))))


@pytest.mark.parametrize("mode", ["calc", "user"])
@pytest.mark.parametrize("seed", range(25))
def test_scalesim_is_brute_force(mode, seed):
    """Any objectives and constraints; arrays that choose a dataflow a layer."""
    rng = random.Random(f"{mode} {seed}")  # noqa: S311
    space = random_space(rng, [OS, WS, IS], words=True)
    question = {"model": "scalesim", "mode": mode, "objectives": random_objectives(rng, COUNTED)}
    check(random_workload(rng), space, question)


@pytest.mark.parametrize("seed", range(30))
def test_physical_is_brute_force(seed):
    """Any objectives and constraints; mappings for what is wanted first, or for another goal."""
    rng = random.Random(f"physical {seed}")  # noqa: S311
    kinds = rng.sample(list(Microarchitecture), 3)
    question = {"model": "physical", "objectives": random_objectives(rng, OBJECTIVES)}
    if rng.random() < 0.4:
        question["map_for"] = rng.choice((Goal.CYCLES, Goal.ENERGY, Goal.EDP))
    if rng.random() < 0.3:
        question["base"] = replace(PORTS, ofmap_port_bytes=4, output_bytes=2, double_buffered=False)
    check(random_workload(rng), random_space(rng, kinds, words=False, most=24), question)


def test_designs_without_room_are_left_out():
    """Where a buffer holds no tile there is no design; where none does, the message says so."""
    layer = Conv2d(
        name="wide", ifmap_rows=13, ifmap_cols=13, filter_rows=12, filter_cols=12, in_channels=2,
        out_channels=3,
    )  # fmt: skip
    workload = Workload(name="wide", layers=(layer,))
    space = DesignSpace(
        rows=(4, 8), cols=(4, 8), arrays=((Microarchitecture.WS_SERIAL,),), ifmap_kib=(2,),
        filter_kib=(1, 2), operand_bytes=(1, 4),
    )  # fmt: skip
    for objectives in ((Objective.CYCLES, Objective.AREA), (Objective.ENERGY,)):
        question = {"model": "physical", "objectives": objectives}
        designs = every_design(workload, space, question)
        assert 0 < len(designs) < space.size
        assert check(workload, space, question) is not None
    small = replace(space, filter_kib=(1,), operand_bytes=(4,))
    with pytest.raises(DesignSpaceError) as caught:
        arraysmith.explore(workload, small, model="physical")
    assert str(caught.value) == (
        "in none of 4 designs do the buffers hold a tile of every layer; give larger --ifmap-kib, "
        "--filter-kib or --ofmap-kib"
    )


@pytest.mark.parametrize("seed", range(12))
def test_no_design_is_below_its_bound(seed):
    """Cycles and energy, under every model; areas are those of one accelerator to the last bit."""
    rng = random.Random(f"bound {seed}")  # noqa: S311
    workload = random_workload(rng)
    physical = seed % 3 == 0
    mode = "user" if seed % 3 == 1 else "calc"
    kinds = rng.sample(list(Microarchitecture), 3) if physical else [OS, WS, IS]
    space = random_space(rng, kinds, words=not physical, most=24)
    goal = rng.choice((Goal.CYCLES, Goal.ENERGY, Goal.EDP))
    question = {"model": "scalesim", "mode": mode, "objectives": (Objective.AREA,)}
    if physical:
        question = {"model": "physical", "objectives": (Objective.ENERGY,), "map_for": goal}
    asked = Question(**question, technology=TECHNOLOGY)
    problem = asked.problem(workload, asked.fitted(space))
    bounds = asked.model_over(workload, problem).bounds()
    cycles, area = problem.spread(bounds.total_cycles), problem.area_mm2()
    for each in every_design(workload, space, question):
        assert cycles[each.number] <= each.cycles
        if mode == "calc" and not physical:
            assert cycles[each.number] == each.cycles
        assert area[each.number] == each.area_mm2
        assert problem.area_mm2(np.array([each.number]))[0] == each.area_mm2
        if physical:
            assert problem.spread(bounds.energy_pj)[each.number] <= each.energy_pj


@pytest.mark.parametrize("seed", range(6))
def test_areas_of_random_spaces_are_those_of_one_accelerator(seed):
    """Low, mid and high; of all designs at once, and of some."""
    rng = random.Random(f"area {seed}")  # noqa: S311
    space = random_space(rng, list(Microarchitecture), words=False, most=200)
    problem = Question(model="physical").problem(Workload(name="w", layers=(GEMM,)), space)
    for estimate in ("low", "mid", "high"):
        expected = [
            area_mm2(TECHNOLOGY, space.accelerator(number, PORTS))[estimate].total_mm2
            for number in range(space.size)
        ]
        assert problem.area_mm2(estimate=estimate).tolist() == expected
        some = np.array(rng.choices(range(space.size), k=9))
        assert problem.area_mm2(some, estimate).tolist() == [expected[i] for i in some]


GEMM = Gemm(name="g", M=33, N=20, K=50)
NET = Workload(name="net", layers=(GEMM, Gemm(name="h", M=7, N=40, K=21)))
WIDE = DesignSpace(
    rows=tuple(range(2, 17, 2)), cols=tuple(range(2, 17, 2)), ifmap_kib=(1, 4), ofmap_kib=(1, 4),
    arrays=((OS,), (WS,), (IS,), (OS, WS)), constraints=Constraints(max_pes=128),
)  # fmt: skip


@pytest.mark.parametrize("search", ["genetic", "descent", "random"])
@pytest.mark.parametrize("objectives", [("cycles",), ("utilization",), ("cycles", "area")])
def test_a_heuristic_is_never_better_and_its_gap_never_too_small(search, objectives):
    """What could still be won is at most what the gap says."""
    wanted = tuple(map(Objective, objectives))
    question = {"model": "physical", "objectives": wanted}
    proven = arraysmith.explore(NET, WIDE, **question)
    found = arraysmith.explore(NET, WIDE, **question, search=search, budget=25, seed=3)
    assert found.facts.evaluated <= 25
    assert not found.facts.proven
    signs = [-1 if each == "utilization" else 1 for each in objectives]

    def points(facts):
        return np.array(
            [[s * e.value(o) for s, o in zip(signs, objectives, strict=True)] for e in facts]
        )

    ours, best = points(found.front), points(proven.front)
    for point in ours:
        assert (best <= point).all(axis=1).any()
    if len(objectives) == 1:
        truth = abs(best[0, 0] - ours[0, 0]) / abs(ours[0, 0])
        assert found.facts.gap >= truth - 1e-12
    else:
        reference = 1.1 * np.concatenate([ours, best]).max(axis=0)
        truth = hypervolume(best, reference) / hypervolume(ours, reference) - 1
        assert found.facts.gap >= truth - 1e-12
