"""Exhaustive search against a plain triple loop, Pareto fronts against their definition."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arraysmith
from arraysmith.errors import DesignSpaceError, InvalidWorkloadError
from arraysmith.explorations import DesignFacts
from arraysmith.flow.question import SEARCHES, Question
from arraysmith.formats.technology import read_technology
from arraysmith.hardware import PIPELINED, Accelerator, Dataflow, PhysicalAccelerator
from arraysmith.search import scalesim_models
from arraysmith.search.exhaustive import best_places, candidates, in_order
from arraysmith.search.pareto import non_dominated
from arraysmith.search.scalesim_models import Calc
from arraysmith.simulation.physical.cost import area_mm2
from arraysmith.simulation.scalesim.closed_form import simulate
from arraysmith.space import Constraints, DesignSpace, Objective
from arraysmith.workload import Conv2d, Gemm, Workload

OS, WS, IS = Dataflow.OS, Dataflow.WS, Dataflow.IS
ORDER = [OS, WS, IS]
COUNTED = (Objective.CYCLES, Objective.PE_CYCLES, Objective.UTILIZATION)
"""Objectives that are cycles and sides alone."""
TECHNOLOGY = read_technology()


# What is searched: small spaces, and everything about them by one loop inside another.

dimensions = st.integers(1, 30)
gemms = st.builds(Gemm, name=st.just("gemm"), M=dimensions, N=dimensions, K=st.integers(2, 30))


@st.composite
def convolutions(draw):
    """Small convolutions with strides and padding."""
    filter_size = draw(st.integers(1, 4))
    return Conv2d(
        name="conv",
        ifmap_rows=draw(st.integers(filter_size, 9)),
        ifmap_cols=draw(st.integers(filter_size, 9)),
        filter_rows=filter_size,
        filter_cols=filter_size,
        in_channels=draw(st.integers(2, 4)),
        out_channels=draw(st.integers(1, 9)),
        stride=draw(st.integers(1, 3)),
        padding=draw(st.integers(0, 2)),
    )


@st.composite
def workloads(draw):
    """One to four layers; some occur more than once."""
    layers = draw(st.lists(st.one_of(gemms, convolutions()), min_size=1, max_size=3))
    repeated = draw(st.sampled_from(layers))
    return Workload(name="any", layers=(*layers, *[repeated] * draw(st.integers(0, 2))))


@st.composite
def spaces(draw):
    """Some rows, some columns, some dataflows, and perhaps a limit that leaves something."""
    axes = st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True)
    rows, cols = (tuple(sorted(draw(axes))) for _ in range(2))
    wanted = draw(st.sets(st.sampled_from(ORDER), min_size=1))
    least, most = rows[0] * cols[0], rows[-1] * cols[-1]
    return DesignSpace(
        rows=rows,
        cols=cols,
        arrays=tuple((found,) for found in ORDER if found in wanted),
        constraints=Constraints(max_pes=draw(st.one_of(st.none(), st.integers(least, most + 1)))),
    )


def every_design(workload, space):
    """All designs that keep the limit, by simulating each: rows, cols, dataflow, cycles."""
    found = []
    for (dataflow,) in space.arrays:
        for rows in space.rows:
            for cols in space.cols:
                limit = space.constraints.max_pes
                if limit is not None and rows * cols > limit:
                    continue
                result = simulate(workload, Accelerator(rows=rows, cols=cols, dataflow=dataflow))
                found.append((rows, cols, dataflow, result.total_cycles))
    return found


def macs_of(workload):
    """All products."""
    return sum(layer.macs for layer in workload.layers)


def rank(objective, design, macs):
    """What is smallest first: the objective, then the rule for ties."""
    rows, cols, dataflow, cycles = design
    first = {
        Objective.CYCLES: cycles,
        Objective.PE_CYCLES: cycles * rows * cols,
        Objective.UTILIZATION: -Fraction(macs, cycles * rows * cols),
    }[objective]
    return first, cycles, rows * cols, rows, ORDER.index(dataflow)


def area_of(rows, cols, dataflow):
    """Mid estimate, by the records of one accelerator."""
    each = PhysicalAccelerator(
        rows=rows, cols=cols, microarchitectures=(PIPELINED[dataflow],), filter_buffer_kib=128
    )
    return area_mm2(TECHNOLOGY, each)["mid"].total_mm2


def searched(workload, space, objective):
    """The problem and all its designs with their figures."""
    asked = Question(objectives=(objective,))
    problem = asked.problem(workload, space)
    return problem, candidates(problem, asked.model_over(workload, problem))


def plain(space, ids, cycles):
    """Designs as `every_design` has them."""
    columns = space.columns(ids)
    dataflows = map(Dataflow, columns["arrays"].tolist())
    columns = columns["rows"].tolist(), columns["cols"].tolist(), dataflows, cycles.tolist()
    return list(zip(*columns, strict=True))


def plain_facts(design):
    """One of the facts, likewise."""
    return design.rows, design.cols, Dataflow(design.dataflow), design.total_cycles


@given(workloads(), spaces(), st.sampled_from(COUNTED))
@settings(deadline=None)
def test_ranking_equals_a_triple_loop(workload, space, objective):
    """Every design, in order; ties by the rule; the first few without putting all in order."""
    problem, found = searched(workload, space, objective)
    order = in_order(problem, found.ids, found.cycles, found.bounds)
    macs = macs_of(workload)
    expected = sorted(every_design(workload, space), key=lambda each: rank(objective, each, macs))
    assert problem.macs == macs
    assert plain(space, found.ids[order], found.cycles[order]) == expected
    assert len(expected) == found.keeping
    for count in (1, 3, 10**6):
        places = best_places(problem, found.ids, found.cycles, found.bounds, count)
        assert plain(space, found.ids[places], found.cycles[places]) == expected[:count]


@given(workloads(), spaces())
@settings(deadline=None, max_examples=50)
def test_front_and_columns_equal_a_triple_loop(workload, space):
    """The front by its definition, one design for equals; the columns are all designs."""
    wanted = (Objective.CYCLES, Objective.AREA)
    found = arraysmith.explore(workload, space, objectives=wanted)
    designs = every_design(workload, space)
    values = [(each[3], area_of(*each[:3])) for each in designs]
    best = {}
    macs = macs_of(workload)
    for value, each in sorted(
        zip(values, designs, strict=True), key=lambda pair: rank(Objective.CYCLES, pair[1], macs)
    ):
        if not any(
            other != value and other[0] <= value[0] and other[1] <= value[1] for other in values
        ):
            best.setdefault(value, each)
    assert list(map(plain_facts, found.front)) == [best[value] for value in sorted(best)]
    columns = found.explored.columns
    assert list(zip(*(columns[name].tolist() for name in (
        "rows", "cols", "dataflow", "total_cycles", "utilization", "area_mm2")), strict=True)) == [
        (rows, cols, dataflow.value, cycles, macs / (cycles * rows * cols), area)
        for (rows, cols, dataflow, cycles), (_, area) in zip(designs, values, strict=True)
    ]  # fmt: skip
    assert columns["front"].sum() == len(best) == found.facts.front_size


@given(workloads(), spaces())
@settings(deadline=None, max_examples=50)
def test_objectives_of_one_order_agree(workload, space):
    """Most utilization is fewest PE-cycles; the front of both is one design, the best of either."""
    by_cost, by_utilization = (
        arraysmith.explore(workload, space, objectives=(objective,))
        for objective in (Objective.PE_CYCLES, Objective.UTILIZATION)
    )
    assert by_cost.facts.ranking == by_utilization.facts.ranking
    assert list(map(plain_facts, by_cost.front)) == [plain_facts(by_cost.best)]


def test_ties_go_by_pes_then_rows_then_dataflow():
    """Of equal cycles: few PEs, then few rows, and only then OS before WS before IS."""
    workload = Workload(name="tie", layers=(Gemm(name="gemm", M=2, N=2, K=1),))
    space = DesignSpace(rows=(1, 2), cols=(1, 2), constraints=Constraints(max_pes=2))
    found = arraysmith.explore(workload, space).facts.ranking[:5]
    assert {one.total_cycles for one in found} == {3}
    assert [str(one) for one in found] == ["1×1 OS", "1×2 OS", "1×2 WS", "1×2 IS", "2×1 OS"]


WORKLOAD = Workload(
    name="two",
    layers=(
        Conv2d(
            name="conv",
            ifmap_rows=14,
            ifmap_cols=14,
            filter_rows=5,
            filter_cols=5,
            in_channels=6,
            out_channels=16,
        ),
        Gemm(name="fc", M=1, N=84, K=120),
    ),
)
SPACE = DesignSpace(
    rows=tuple(range(1, 17)), cols=tuple(range(1, 17)), constraints=Constraints(max_pes=100)
)


@pytest.mark.parametrize("objective", COUNTED)
def test_the_facts_of_the_verb_are_those_of_the_search(objective):
    """`explore` names the best of all, the best of each dataflow, and counts what it covered."""
    facts = arraysmith.explore(WORKLOAD, SPACE, objectives=(objective,)).facts
    macs = macs_of(WORKLOAD)
    expected = sorted(every_design(WORKLOAD, SPACE), key=lambda each: rank(objective, each, macs))
    assert list(map(plain_facts, facts.ranking)) == expected[:10]
    assert facts.best == facts.ranking[0]
    assert list(map(plain_facts, facts.front)) == expected[:1]
    assert [one.dataflow for one in facts.best_per_dataflow] == ["os", "ws", "is"]
    assert facts.best in facts.best_per_dataflow
    for dataflow, one in zip(ORDER, facts.best_per_dataflow, strict=True):
        assert plain_facts(one) == next(each for each in expected if each[2] is dataflow)
    assert (facts.covered, facts.designs) == (3 * 16 * 16, len(expected))
    assert (facts.evaluated, facts.ruled_out, facts.proven) == (len(expected), 0, True)
    assert (facts.gap, facts.history) == (0, ())
    for one in facts.ranking:
        accelerator = Accelerator(
            rows=one.rows, cols=one.cols, dataflow=Dataflow(one.dataflow), filter_buffer_kib=128
        )
        result = simulate(WORKLOAD, accelerator)
        assert one.utilization == result.overall_utilization
        assert one.dram_bytes == result.dram_words
        assert one.peak_dram_words_per_cycle == result.peak_dram_words_per_cycle
        assert one.area_mm2[1] == area_of(one.rows, one.cols, Dataflow(one.dataflow))


# Exact integers.


@given(workloads(), spaces())
@settings(deadline=None)
def test_integers_and_floats_give_the_same_totals(workload, space):
    """The path for totals beyond 2^53 computes what the float64 path does below."""
    model = Calc(workload=workload, space=space)
    floats = model.bounds().total_cycles
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scalesim_models, "EXACT", 0)
        integers = model.bounds().total_cycles
    assert floats.dtype == integers.dtype == np.int64
    assert np.array_equal(floats, integers)


def test_totals_beyond_doubles_are_exact():
    """Around 2^60 cycles, where doubles are 256 apart; for all designs and for each."""
    M, N, K = 2**30 + 1, 2**20 - 1, 2**10 + 1
    workload = Workload(name="huge", layers=(Gemm(name="gemm", M=M, N=N, K=K),))
    model = Calc(workload=workload, space=DesignSpace(rows=(1, 2, 3), cols=(1, 2, 3)))
    found = model.bounds().total_cycles.reshape(3, 3, 3)
    for place, dataflow in enumerate(ORDER):
        down, across, T = {OS: (M, N, K), WS: (K, N, M), IS: (K, M, N)}[dataflow]
        for R in (1, 2, 3):
            for C in (1, 2, 3):
                folds = -(-down // R) * -(-across // C)
                cycles = folds * (T + (1 if dataflow is OS else 2) * R + C - 2) - 1
                assert int(found[place, R - 1, C - 1]) == cycles
    assert int(found[0, 0, 0]) > 2**59
    assert model.evaluate(np.arange(27), np.zeros(27, np.int64)).total_cycles.tolist() == (
        found.ravel().tolist()
    )


def test_cycles_that_doubles_cannot_tell_apart_are_ranked():
    """4×2 and 2×4 differ by two cycles of 2^60."""
    M, N, K = 2**30, 2**30, 8
    workload = Workload(name="huge", layers=(Gemm(name="gemm", M=M, N=N, K=K),))
    space = DesignSpace(rows=(2, 4), cols=(2, 4), arrays=((OS,),))
    found = arraysmith.explore(workload, space).facts.ranking
    cycles = [each.total_cycles for each in found]
    expected = [(M // R) * (N // C) * (K + R + C - 2) - 1 for R in (2, 4) for C in (2, 4)]
    assert cycles == sorted(expected)


def test_totals_beyond_64_bits_are_refused():
    """No wrapped number is ever ranked; the message says what to do."""
    workload = Workload(name="huge", layers=(Gemm(name="gemm", M=2**31 - 1, N=2**31 - 1, K=2**10),))
    with pytest.raises(DesignSpaceError) as caught:
        arraysmith.explore(workload, DesignSpace(rows=(1, 8), cols=(1, 8), arrays=((OS,),)))
    assert str(caught.value) == (
        "the smallest arrays take more cycles than 64 bits count; start rows and cols higher"
    )


def test_cycles_times_pes_beyond_64_bits_do_not_wrap():
    """The cycles fit, their product with the PEs does not; it is compared as a double."""
    workload = Workload(name="huge", layers=(Gemm(name="gemm", M=2**31 - 1, N=2**20, K=1),))
    space = DesignSpace(rows=(4096, 8192), cols=(8192,), arrays=((OS,),))
    for objective in (Objective.PE_CYCLES, Objective.UTILIZATION):
        found = arraysmith.explore(workload, space, objectives=(objective,)).facts
        costs = [each.total_cycles * each.pes for each in found.ranking]
        assert costs[0] > 2**63
        assert costs == sorted(costs)
        assert found.best.utilization == macs_of(workload) / costs[0]


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), max_size=40))
def test_a_front_equals_its_definition(points):
    """All points that none dominates; equal points stand or fall together."""

    def dominated(point):
        return any(
            other != point and other[0] <= point[0] and other[1] <= point[1] for other in points
        )

    found = non_dominated(np.array(points, np.float64).reshape(-1, 2))
    assert found.tolist() == [not dominated(point) for point in points]


# The contract of every strategy. A new one is one more line here.


BOTH = (Objective.CYCLES, Objective.AREA)


@pytest.fixture(params=SEARCHES)
def strategy(request):
    """(seed) to what a strategy finds of the fronts of cycles and area with a hundred designs."""

    def search(seed):
        return arraysmith.explore(
            WORKLOAD, SPACE, objectives=BOTH, search=request.param, seed=seed, budget=100
        )

    return search


def test_same_seed_same_answer(strategy):
    """A search can be repeated."""
    first, second = strategy(7), strategy(7)
    assert first.front == second.front
    assert first.facts.ranking == second.facts.ranking
    assert first.facts.history == second.facts.history


def test_found_designs_are_legal_and_do_not_dominate_each_other(strategy):
    """Inside the space, within the limit on PEs, and each for a reason on the front."""
    found = strategy(7)
    for one in (found.best, *found.front):
        assert one.rows in SPACE.rows
        assert one.cols in SPACE.cols
        assert one.dataflow in ORDER
        assert one.pes <= SPACE.constraints.max_pes
    points = [(one.total_cycles, one.area_mm2[1]) for one in found.front]
    assert points == sorted(set(points))
    assert [area for _, area in points] == sorted({area for _, area in points}, reverse=True)


def test_objectives_recompute_exactly(strategy):
    """A design's cycles, utilization and area are those of its simulation."""
    found = strategy(7)
    for one in (found.best, *found.front):
        accelerator = Accelerator(rows=one.rows, cols=one.cols, dataflow=Dataflow(one.dataflow))
        result = simulate(WORKLOAD, accelerator)
        assert one.total_cycles == result.total_cycles
        assert one.utilization == result.overall_utilization
        assert one.area_mm2[1] == area_of(one.rows, one.cols, Dataflow(one.dataflow))


def test_never_better_than_exhaustive(strategy):
    """Nothing beats the proven optimum, and the proven front dominates or equals every point."""
    found, proven = strategy(7), arraysmith.explore(WORKLOAD, SPACE, objectives=BOTH)
    assert found.best.total_cycles >= proven.best.total_cycles
    assert found.facts.evaluated >= 100 or found.proven
    for one in found.front:
        assert any(
            other.total_cycles <= one.total_cycles and other.area_mm2[1] <= one.area_mm2[1]
            for other in proven.front
        )


def test_a_design_reads_as_people_write_it():
    """Rows × columns and what may lie on it."""

    def design(dataflow):
        return DesignFacts(
            rows=8, cols=16, dataflow=dataflow, ifmap_buffer_kib=64, filter_buffer_kib=64,
            ofmap_buffer_kib=64, pes=128, total_cycles=1, utilization=1.0,
        )  # fmt: skip

    assert str(design("ws")) == "8×16 WS"
    assert str(design("os+ws")) == "8×16 os+ws"


def test_a_layer_of_one_cycle_does_not_stop_an_exploration():
    """SCALE-Sim has no figures for it on one PE; the cycles count, the memories are left open."""
    workload = Workload(
        name="mixed", layers=(Gemm(name="one", M=1, N=1, K=1), Gemm(name="two", M=2, N=2, K=2))
    )
    found = arraysmith.explore(workload, DesignSpace(rows=(1,), cols=(1,), arrays=((OS,),)))
    assert (found.best.total_cycles, found.best.dram_bytes) == (0 + 7, None)


def test_a_workload_of_single_products_is_refused():
    """With 0 cycles in all there is no utilization to speak of."""
    workload = Workload(name="dot", layers=(Gemm(name="one", M=1, N=1, K=1),))
    with pytest.raises(InvalidWorkloadError) as caught:
        arraysmith.explore(workload, DesignSpace(rows=(1,), cols=(1,), arrays=((OS,),)))
    assert str(caught.value) == (
        "workload 'dot' is nothing but single products, which SCALE-Sim counts as 0 cycles on a "
        "1×1 array; give it a larger layer"
    )
