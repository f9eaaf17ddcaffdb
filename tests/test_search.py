"""Exhaustive search against a plain triple loop, Pareto fronts against their definition."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arraysmith.errors import DesignSpaceError, InvalidWorkloadError
from arraysmith.flow.hardware import explore as explore_verb
from arraysmith.hardware import Accelerator, Dataflow
from arraysmith.search import exhaustive
from arraysmith.search.exhaustive import Design, explore
from arraysmith.search.pareto import pareto_front
from arraysmith.search.space import DesignSpace, Objective, parse_axis, parse_dataflows
from arraysmith.simulation.scalesim.closed_form import simulate
from arraysmith.workload import Conv2d, Gemm, Workload

OS, WS, IS = Dataflow.OS, Dataflow.WS, Dataflow.IS
ORDER = [OS, WS, IS]


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
        dataflows=tuple(found for found in ORDER if found in wanted),
        max_pes=draw(st.one_of(st.none(), st.integers(least, most + 1))),
    )


def every_design(workload, space):
    """All designs that keep the limit, by simulating each."""
    found = []
    for dataflow in space.dataflows:
        for rows in space.rows:
            for cols in space.cols:
                if space.max_pes is not None and rows * cols > space.max_pes:
                    continue
                result = simulate(workload, Accelerator(rows=rows, cols=cols, dataflow=dataflow))
                design = Design(
                    rows=rows,
                    cols=cols,
                    dataflow=dataflow,
                    total_cycles=result.total_cycles,
                    utilization=result.macs / (result.total_cycles * rows * cols),
                )
                found.append((design, result.macs))
    return found


def rank(objective, design, macs):
    """What is smallest first: the objective, then the rule for ties."""
    first = {
        Objective.CYCLES: design.total_cycles,
        Objective.PE_CYCLES: design.total_cycles * design.pes,
        Objective.UTILIZATION: -Fraction(macs, design.total_cycles * design.pes),
    }[objective]
    place = ORDER.index(design.dataflow)
    return first, design.total_cycles, design.pes, design.rows, place


def dominates(left, right):
    """No worse in PEs and cycles, and better in one."""
    no_worse = left.pes <= right.pes and left.total_cycles <= right.total_cycles
    return no_worse and (left.pes, left.total_cycles) != (right.pes, right.total_cycles)


@given(workloads(), spaces(), st.sampled_from(list(Objective)))
@settings(deadline=None)
def test_ranking_equals_a_triple_loop(workload, space, objective):
    """Every design, in order, of all dataflows and of one; ties by the rule."""
    found = explore(workload, space)
    designs = sorted(every_design(workload, space), key=lambda pair: rank(objective, *pair))
    expected = [design for design, _ in designs]
    assert found.macs == designs[0][1]
    assert found.ranking(objective, space.size) == expected
    assert len(expected) == space.designs
    for count in (1, 3):
        assert found.ranking(objective, count) == expected[:count]
    for dataflow in ORDER:
        own = [design for design in expected if design.dataflow is dataflow]
        assert found.ranking(objective, space.size, dataflow) == own


@given(workloads(), spaces())
@settings(deadline=None)
def test_front_and_columns_equal_a_triple_loop(workload, space):
    """The front by its definition, one design for equals; the columns are all designs."""
    found = explore(workload, space)
    designs = [design for design, _ in every_design(workload, space)]
    kept = [one for one in designs if not any(dominates(other, one) for other in designs)]
    best = {}
    for one in sorted(kept, key=lambda design: (design.rows, ORDER.index(design.dataflow))):
        best.setdefault(one.pes, one)
    assert found.front == [best[pes] for pes in sorted(best)]
    columns = found.columns()
    assert list(columns) == ["rows", "cols", "dataflow", "total_cycles", "utilization"]
    assert list(zip(*(column.tolist() for column in columns.values()), strict=True)) == [
        (one.rows, one.cols, one.dataflow.value, one.total_cycles, one.utilization)
        for one in designs
    ]


@given(workloads(), spaces())
@settings(deadline=None)
def test_best_front_and_ranking_agree(workload, space):
    """The fastest design ends the front; more PEs on the front are always fewer cycles."""
    found = explore(workload, space)
    assert found.best == found.ranking(Objective.CYCLES, 1)[0] == found.front[-1]
    pes, cycles = zip(*((one.pes, one.total_cycles) for one in found.front), strict=True)
    assert all(left < right for left, right in pairwise(pes))
    assert all(left > right for left, right in pairwise(cycles))
    by_cost, by_utilization = (
        found.ranking(objective, space.size)
        for objective in (Objective.PE_CYCLES, Objective.UTILIZATION)
    )
    assert by_cost == by_utilization


def test_ties_go_by_pes_then_rows_then_dataflow():
    """Of equal cycles: few PEs, then few rows, and only then OS before WS before IS."""
    workload = Workload(name="tie", layers=(Gemm(name="gemm", M=2, N=2, K=1),))
    space = DesignSpace(rows=(1, 2), cols=(1, 2), dataflows=(OS, WS, IS), max_pes=2)
    found = explore(workload, space).ranking(Objective.CYCLES, 5)
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
    rows=tuple(range(1, 17)), cols=tuple(range(1, 17)), dataflows=(OS, WS, IS), max_pes=100
)


@pytest.mark.parametrize("objective", list(Objective))
def test_the_facts_of_the_verb_are_those_of_the_search(objective):
    """`explore` names the best of all, the best of each dataflow, and counts what it covered."""
    facts = explore_verb(WORKLOAD, SPACE, objective=objective)
    found = explore(WORKLOAD, SPACE)

    def plain(design):
        numbers = design.rows, design.cols, str(design.dataflow), design.pes
        return *numbers, design.total_cycles, design.utilization

    assert list(map(plain, facts.ranking)) == list(map(plain, found.ranking(objective, 10)))
    assert plain(facts.best) == plain(facts.ranking[0])
    assert list(map(plain, facts.front)) == list(map(plain, found.front))
    assert [one.dataflow for one in facts.best_per_dataflow] == ["os", "ws", "is"]
    assert facts.best in facts.best_per_dataflow
    for dataflow, one in zip(ORDER, facts.best_per_dataflow, strict=True):
        assert plain(one) == plain(found.ranking(objective, 1, dataflow)[0])
    assert (facts.covered, facts.designs) == (3 * 16 * 16, len(found.columns()["rows"]))


# Exact integers.


@given(workloads(), spaces())
@settings(deadline=None)
def test_integers_and_floats_give_the_same_totals(workload, space):
    """The path for totals beyond 2^53 computes what the float64 path does below."""
    floats = explore(workload, space).total_cycles
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exhaustive, "_EXACT", 0)
        integers = explore(workload, space).total_cycles
    assert floats.dtype == integers.dtype == np.int64
    assert np.array_equal(floats, integers)


def test_totals_beyond_doubles_are_exact():
    """Around 2^60 cycles, where doubles are 256 apart."""
    M, N, K = 2**30 + 1, 2**20 - 1, 2**10 + 1
    workload = Workload(name="huge", layers=(Gemm(name="gemm", M=M, N=N, K=K),))
    found = explore(workload, DesignSpace(rows=(1, 2, 3), cols=(1, 2, 3), dataflows=(OS, WS, IS)))
    for place, dataflow in enumerate(ORDER):
        down, across, T = {OS: (M, N, K), WS: (K, N, M), IS: (K, M, N)}[dataflow]
        for R in (1, 2, 3):
            for C in (1, 2, 3):
                folds = -(-down // R) * -(-across // C)
                cycles = folds * (T + (1 if dataflow is OS else 2) * R + C - 2) - 1
                assert int(found.total_cycles[place, R - 1, C - 1]) == cycles
    assert int(found.total_cycles[0, 0, 0]) > 2**59


def test_totals_beyond_64_bits_are_refused():
    """No wrapped number is ever ranked; the message says what to do."""
    workload = Workload(name="huge", layers=(Gemm(name="gemm", M=2**31 - 1, N=2**31 - 1, K=2**10),))
    with pytest.raises(DesignSpaceError) as caught:
        explore(workload, DesignSpace(rows=(1, 8), cols=(1, 8), dataflows=(OS,)))
    assert str(caught.value) == (
        "the smallest arrays take more cycles than 64 bits count; start rows and cols higher"
    )


def test_cycles_times_pes_beyond_64_bits_are_refused():
    """The cycles fit, their product with the PEs does not; cycles alone can still be ranked."""
    workload = Workload(name="huge", layers=(Gemm(name="gemm", M=2**31 - 1, N=2**20, K=1),))
    found = explore(workload, DesignSpace(rows=(4096, 8192), cols=(8192,), dataflows=(OS,)))
    assert found.best.rows == 8192
    for objective in (Objective.PE_CYCLES, Objective.UTILIZATION):
        with pytest.raises(DesignSpaceError) as caught:
            found.ranking(objective, 1)
        assert str(caught.value) == "cycles × PEs leave 64 bits; limit rows, cols or --max-pes"


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), max_size=40))
def test_pareto_front_equals_its_definition(points):
    """All points that none dominates; equal points stand or fall together."""

    def dominated(point):
        return any(
            other != point and other[0] <= point[0] and other[1] <= point[1] for other in points
        )

    expected = sorted((p[0], i) for i, p in enumerate(points) if not dominated(p))
    first, second = (np.array([p[axis] for p in points], np.int64) for axis in (0, 1))
    assert pareto_front(first, second).tolist() == [i for _, i in expected]


# The contract of every strategy. A new one is one more line here.


def exhaustively(workload, space, seed):
    """Every design; the seed plays no part."""
    del seed
    found = explore(workload, space)
    return found.best, found.front


@pytest.fixture(params=[exhaustively])
def strategy(request):
    """(workload, space, seed) to the best design by cycles and a front of cycles against PEs."""
    return request.param


def test_same_seed_same_answer(strategy):
    """A search can be repeated."""
    assert strategy(WORKLOAD, SPACE, 7) == strategy(WORKLOAD, SPACE, 7)


def test_found_designs_are_legal_and_do_not_dominate_each_other(strategy):
    """Inside the space, within the limit on PEs, and each for a reason on the front."""
    best, front = strategy(WORKLOAD, SPACE, 7)
    for one in (best, *front):
        assert one.rows in SPACE.rows
        assert one.cols in SPACE.cols
        assert one.dataflow in SPACE.dataflows
        assert one.pes <= SPACE.max_pes
    assert not any(dominates(left, right) for left in front for right in front)


def test_objectives_recompute_exactly(strategy):
    """A design's cycles and utilization are those of its simulation."""
    best, front = strategy(WORKLOAD, SPACE, 7)
    for one in (best, *front):
        accelerator = Accelerator(rows=one.rows, cols=one.cols, dataflow=one.dataflow)
        result = simulate(WORKLOAD, accelerator)
        assert one.total_cycles == result.total_cycles
        assert one.utilization == result.overall_utilization


def test_never_better_than_exhaustive(strategy):
    """Nothing beats the proven optimum, and the proven front dominates or equals every point."""
    best, front = strategy(WORKLOAD, SPACE, 7)
    proven = explore(WORKLOAD, SPACE)
    assert best.total_cycles >= proven.best.total_cycles
    for one in front:
        assert not any(dominates(one, other) for other in proven.front)


# What may be asked for.


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("8", (8,)),
        ("1:4", (1, 2, 3, 4)),
        ("8:32:8", (8, 16, 24, 32)),
        ("1:8:3", (1, 4, 7)),
        (" 32, 8 ,16", (8, 16, 32)),
        ("4:6,5:7,4", (4, 5, 6, 7)),
        ("65536", (65536,)),
    ],
)
def test_parse_axis(text, values):
    """A number, a range with both ends, a step, a list: ascending and without repeats."""
    assert parse_axis(text, "rows") == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "rows '' is no range; give A:B, A:B:STEP or a list like 8,16,32"),
        ("8,,16", "rows '' is no range; give A:B, A:B:STEP or a list like 8,16,32"),
        ("8-16", "rows '8-16' is no range; give A:B, A:B:STEP or a list like 8,16,32"),
        ("-8", "rows '-8' is no range; give A:B, A:B:STEP or a list like 8,16,32"),
        ("1:2:3:4", "rows '1:2:3:4' is no range; give A:B, A:B:STEP or a list like 8,16,32"),
        ("9:8", "rows '9:8' is an empty range; give A:B[:STEP], A ≤ B, STEP ≥ 1"),
        ("1:8:0", "rows '1:8:0' is an empty range; give A:B[:STEP], A ≤ B, STEP ≥ 1"),
        ("0:8", "rows '0:8': sizes go from 1 to 65536"),
        ("1:65537", "rows '1:65537': sizes go from 1 to 65536"),
    ],
)
def test_parse_axis_refuses(text, message):
    """What cannot be a range is named with the way out."""
    with pytest.raises(DesignSpaceError) as caught:
        parse_axis(text, "rows")
    assert str(caught.value) == message


def test_parse_dataflows():
    """Any order and case, repeats and spaces; the order of the answer is fixed."""
    assert parse_dataflows("is, OS,os") == (OS, IS)
    assert parse_dataflows("ws") == (WS,)


@pytest.mark.parametrize(("text", "first"), [("os,rs", "rs"), ("", ""), ("xs,ab,ws", "ab")])
def test_parse_dataflows_refuses(text, first):
    """An unknown dataflow is named."""
    with pytest.raises(DesignSpaceError) as caught:
        parse_dataflows(text)
    assert str(caught.value) == f"dataflow {first!r} is unknown; give os, ws, is or a list"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": ()}, "the range of rows is empty; give at least one value"),
        ({"cols": ()}, "the range of cols is empty; give at least one value"),
        ({"dataflows": ()}, "the range of dataflow is empty; give at least one value"),
        ({"rows": (2, 1)}, "the range of rows is not ascending without repeats"),
        ({"cols": (1, 1)}, "the range of cols is not ascending without repeats"),
        ({"dataflows": (WS, OS)}, "the range of dataflow is not ascending without repeats"),
        ({"rows": (0, 1)}, "an array needs at least 1 row and 1 column"),
        (
            {"rows": tuple(range(1, 10_002)), "cols": tuple(range(1, 10_002))},
            "100,020,001 designs are more than 20,000,000; give ranges a step",
        ),
        (
            {"rows": (4, 8), "cols": (3, 5), "max_pes": 11},
            "--max-pes 11 excludes all designs: the smallest array, 4×3, has 12 PEs",
        ),
    ],
)
def test_design_space_refuses(change, message):
    """A space without designs, with too many, or in disorder cannot be built."""
    good = {"rows": (1,), "cols": (1,), "dataflows": (OS,)}
    with pytest.raises(DesignSpaceError) as caught:
        DesignSpace(**(good | change))
    assert str(caught.value) == message


def test_a_design_reads_as_people_write_it():
    """Rows × columns and dataflow."""
    design = Design(rows=8, cols=16, dataflow=WS, total_cycles=1, utilization=1.0)
    assert (str(design), design.pes) == ("8×16 WS", 128)


def test_a_layer_of_one_cycle_does_not_stop_an_exploration():
    """SCALE-Sim has no figures for it on one PE; the cycles count, the memories are left open."""
    import arraysmith

    workload = Workload(
        name="mixed", layers=(Gemm(name="one", M=1, N=1, K=1), Gemm(name="two", M=2, N=2, K=2))
    )
    facts = arraysmith.explore(workload, DesignSpace(rows=(1,), cols=(1,), dataflows=(OS,)))
    assert (facts.best.total_cycles, facts.best.dram_words) == (0 + 7, None)


def test_a_workload_of_single_products_is_refused():
    """With 0 cycles in all there is no utilization to speak of."""
    workload = Workload(name="dot", layers=(Gemm(name="one", M=1, N=1, K=1),))
    with pytest.raises(InvalidWorkloadError) as caught:
        explore(workload, DesignSpace(rows=(1,), cols=(1,), dataflows=(OS,)))
    assert str(caught.value) == (
        "workload 'dot' is nothing but single products, which SCALE-Sim counts as 0 cycles on a "
        "1×1 array; give it a larger layer"
    )
