"""The contract of every search strategy, on small spaces that are computed whole."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import dataclass, field
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arraysmith.search.heuristic import run
from arraysmith.search.pareto import feasible, hypervolume
from arraysmith.search.strategies import STRATEGIES
from arraysmith.search.strategies.unseen import Unseen

# What is searched: a small space that can be computed whole, and what can go wrong in it.

SIZES = (7, 1, 5, 4)


def tradeoff(designs):
    """Two objectives that pull apart, with steps and a choice without order; one constraint."""
    x = np.asarray(designs, np.float64)
    kind = np.array([3.0, 0.0, 2.0, 1.0])[designs[:, 3]]
    first = (x[:, 0] - 1) ** 2 + x[:, 2] // 2 + kind
    second = 50 - 4 * x[:, 0] - 3 * x[:, 2] + 2 * np.abs(kind - 1)
    return np.stack([first, second], axis=1), (x[:, 0] + x[:, 2] - 8)[:, None]


def single(designs):
    """The first objective alone, no constraint."""
    F, _ = tradeoff(designs)
    return F[:, :1], np.empty((len(F), 0))


def negative(designs):
    """Three objectives, some below 0."""
    F, G = tradeoff(designs)
    return np.column_stack([F - 30, -F.sum(axis=1)]), G


def with_holes(designs):
    """Two of seven designs cannot be evaluated; one objective says so, or both."""
    F, G = tradeoff(designs)
    hole = designs.sum(axis=1) % 7
    F[hole == 3] = np.inf
    F[hole == 5, 1] = np.inf
    return F, G


def never_evaluated(designs):
    """No design works."""
    F, G = tradeoff(designs)
    return np.full_like(F, np.inf), G


def never_feasible(designs):
    """Each design breaks the one constraint, by more or less."""
    F, G = tradeoff(designs)
    return F, np.abs(G) + 1


PROBLEMS = [tradeoff, single, negative, with_holes, never_evaluated, never_feasible]


def every_design(sizes):
    """(all, axes)."""
    return np.array(list(np.ndindex(*sizes)), np.int64)


def front_of(F, G):
    """Distinct feasible points that none dominates, by the definition."""
    good = sorted({tuple(row) for row in F[feasible(F, G)].tolist()})
    return [one for one in good if not any(dominates(other, one) for other in good)]


def dominates(left, right):
    """No worse in all, and another point."""
    return left != right and all(a <= b for a, b in zip(left, right, strict=True))


@dataclass
class Recorder:
    """Evaluates, and keeps what it was asked."""

    problem: object
    batches: list = field(default_factory=list)

    def __call__(self, designs):
        """F and G."""
        self.batches.append(designs.copy())
        return self.problem(designs)


# The contract of every strategy. A new one is a line in `STRATEGIES`.


@pytest.fixture(params=sorted(STRATEGIES))
def strategy(request):
    """A strategy of the registry."""
    return STRATEGIES[request.param]


@pytest.fixture(params=PROBLEMS, ids=lambda problem: problem.__name__)
def problem(request):
    """Something to search."""
    return request.param


def test_same_seed_same_answer(strategy, problem):
    """Batch by batch, whatever state chance has elsewhere, and without touching it."""
    runs = []
    for elsewhere in (1, 2):
        random.seed(elsewhere)
        np.random.seed(elsewhere)  # noqa: NPY002 (the old source of chance is what is meant)
        before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        recorder = Recorder(problem)
        run(strategy, SIZES, recorder, np.random.default_rng(7), budget=100)
        after = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        assert before == after
        runs.append([batch.tolist() for batch in recorder.batches])
    assert runs[0] == runs[1]


def test_another_seed_another_answer(strategy):
    """The seed is what chance comes from."""
    found = [
        run(strategy, SIZES, tradeoff, np.random.default_rng(seed), budget=20).designs.tolist()
        for seed in (1, 2)
    ]
    assert found[0] != found[1]


def test_designs_are_legal_distinct_and_asked_for_once(strategy, problem):
    """Inside the space, of whole numbers, in the order of evaluation."""
    recorder = Recorder(problem)
    found = run(strategy, SIZES, recorder, np.random.default_rng(3), budget=90)
    asked = np.concatenate(recorder.batches)
    assert asked.dtype == found.designs.dtype == np.int64
    assert np.array_equal(asked, found.designs)
    assert len(np.unique(asked, axis=0)) == len(asked) == 90
    assert (asked >= 0).all()
    assert (asked < SIZES).all()


def test_objectives_and_constraints_recompute_exactly(strategy, problem):
    """Each row of F and G is that of its design."""
    found = run(strategy, SIZES, problem, np.random.default_rng(4), budget=70)
    F, G = problem(found.designs)
    assert np.array_equal(found.F, F)
    assert np.array_equal(found.G, G)


def test_the_strategy_is_told_what_it_asked_for(strategy):
    """Seen from the strategy: batches of designs, answered row by row."""
    search = strategy((9, 3, 9, 4), np.random.default_rng(5))
    batch = next(search)
    for _ in range(3):
        assert batch.ndim == 2
        assert batch.shape[1] == 4
        assert batch.dtype == np.int64
        assert len(batch) > 0
        batch = search.send(tradeoff(batch))
    search.close()


def test_never_better_than_exhaustive(strategy, problem):
    """Each feasible point found is on the true front or dominated by it."""
    front = front_of(*problem(every_design(SIZES)))
    found = run(strategy, SIZES, problem, np.random.default_rng(6), budget=60)
    for one in front_of(found.F, found.G):
        assert one in front or any(dominates(other, one) for other in front)


def test_the_whole_space_gives_the_exact_front(strategy, problem):
    """With a budget for every design all strategies visit every one, each once."""
    found = run(strategy, SIZES, problem, np.random.default_rng(8), budget=1000)
    assert found.stopped == "exhausted the space"
    assert sorted(found.designs.tolist()) == every_design(SIZES).tolist()
    assert front_of(found.F, found.G) == front_of(*problem(every_design(SIZES)))


@pytest.mark.parametrize("budget", [1, 31, 32, 33, 139])
def test_the_budget_is_kept_exactly(strategy, problem, budget):
    """Neither more nor less, inside a batch or at its end."""
    recorder = Recorder(problem)
    found = run(strategy, SIZES, recorder, np.random.default_rng(9), budget=budget)
    assert sum(map(len, recorder.batches)) == len(found.designs) == budget
    assert (len(found.F), len(found.G)) == (budget, budget)
    assert found.stopped == "budget"


@pytest.mark.parametrize("sizes", [(1,), (1, 1, 1), (2,), (1, 9), (3, 1, 1), (64,), (2,) * 7])
def test_odd_spaces_are_searched_to_the_end(strategy, sizes):
    """Axes of one value, a single axis, fewer designs than a generation."""

    def sum_and_spread(designs):
        F = np.stack([designs.sum(axis=1), -designs.max(axis=1)], axis=1).astype(np.float64)
        return F, np.empty((len(F), 0))

    found = run(strategy, sizes, sum_and_spread, np.random.default_rng(0), budget=500)
    assert found.stopped == "exhausted the space"
    assert len(found.designs) == prod(sizes)


def test_a_strategy_ends_by_itself_when_nothing_is_left(strategy):
    """Without the driver too."""
    search = strategy((3, 4), np.random.default_rng(0))
    batch, asked = next(search), 0
    with pytest.raises(StopIteration):  # noqa: PT012 (what ends is the loop)
        while asked < 100:
            asked += len(batch)
            batch = search.send(single(np.pad(batch, ((0, 0), (0, 2)))))
    assert asked == 12


def test_spaces_of_many_designs(strategy):
    """2^60 designs: nothing is listed."""
    sizes = (2**20,) * 3

    def distance(designs):
        return np.abs(designs - 2**19).sum(axis=1)[:, None].astype(float), np.empty(
            (len(designs), 0)
        )

    found = run(strategy, sizes, distance, np.random.default_rng(0), budget=300)
    assert (len(found.designs), found.stopped) == (300, "budget")


def smooth(designs):
    """One bowl for each objective, on logarithmic heights; two of six axes do not matter."""
    x = designs / 31.0
    bowls = [((x[:, :4] - centre) ** 2).sum(axis=1) for centre in (0.3, 0.7)]
    return 10 ** np.stack(bowls, axis=1), np.empty((len(x), 0))


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"random"}))
def test_strategies_beat_chance(name):
    """Five seeds out of five, 400 of a billion designs."""
    volumes = {}
    for each in (name, "random"):
        runs = [
            run(STRATEGIES[each], (32,) * 6, smooth, np.random.default_rng(seed), budget=400)
            for seed in range(5)
        ]
        volumes[each] = [hypervolume(found.F, np.array([10.0, 10.0])) for found in runs]
    assert min(volumes[name]) > max(volumes["random"])


def test_descent_finds_the_bottom_of_a_bowl():
    """One objective, 32^6 designs, of which 32^2 are the best; no other strategy is so exact."""

    def bowl(designs):
        F, G = smooth(designs)
        return F[:, :1], G

    least = bowl(np.full((1, 6), 9))[0].item()
    for seed in range(5):
        rng = np.random.default_rng(seed)
        found = run(STRATEGIES["descent"], (32,) * 6, bowl, rng, budget=400)
        assert found.F.min() == least


def test_a_search_goes_towards_what_is_feasible():
    """Where one design of some thousand keeps the constraint, violation leads there."""

    def corner(designs):
        distance = designs.sum(axis=1)[:, None].astype(float)
        return 1 + distance, distance - 4

    for name in ("descent", "genetic"):
        rng = np.random.default_rng(1)
        found = run(STRATEGIES[name], (32,) * 4, corner, rng, budget=600)
        assert feasible(found.F, found.G).any(), name


# What pymoo is needed for, and what not.


def python(code):
    """A fresh interpreter's standard output."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_the_registry_does_not_import_pymoo():
    """The command line imports it to name strategies."""
    code = (
        "import sys, arraysmith.search.strategies, arraysmith.search.heuristic; "
        "print(sorted({'pymoo', 'scipy', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    assert python(code).strip() == "[]"


def test_without_pymoo_the_way_out_is_named():
    """One line at the command line, before a design is evaluated; other strategies need nothing."""
    code = """
import sys
import numpy as np
from arraysmith.cli.terminal import errors_in_one_line
from arraysmith.search.heuristic import run
from arraysmith.search.strategies import STRATEGIES

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name == "pymoo":
            raise ModuleNotFoundError("No module named 'pymoo'", name="pymoo")

def zero(designs):
    print(name, len(designs))
    return np.zeros((len(designs), 1)), np.zeros((len(designs), 0))

sys.meta_path.insert(0, Nowhere())
for name in ("random", "descent", "genetic"):
    with errors_in_one_line():
        run(STRATEGIES[name], (9, 9), zero, np.random.default_rng(0), budget=20)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert process.stdout.splitlines() == ["random 20", "descent 20"]
    assert process.stderr.splitlines() == [
        "arraysmith: this verb needs pymoo: pip install 'arraysmith[search]'"
    ]
    assert process.returncode == 1


# Designs at random.


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
    st.lists(st.integers(0, 40), max_size=12),
    st.integers(0, 99),
)
@settings(deadline=None)
def test_unseen_gives_each_design_once(sizes, counts, seed):
    """Drawn or taken, until none is left; fewer only where fewer are left."""
    unseen = Unseen(sizes, np.random.default_rng(seed))
    others = np.random.default_rng(seed + 1)
    seen = set()
    for count in [*counts, prod(sizes)]:
        offered = others.integers(0, sizes, size=(3, len(sizes)))
        fresh = dict.fromkeys(map(tuple, offered.tolist()))
        assert list(map(tuple, unseen.take(offered).tolist())) == [
            one for one in fresh if one not in seen
        ]
        seen.update(fresh)
        drawn = set(map(tuple, unseen.draw(count).tolist()))
        assert len(drawn) == min(count, prod(sizes) - len(seen))
        assert not drawn & seen
        seen |= drawn
        assert unseen.count == prod(sizes) - len(seen)
    assert seen == set(np.ndindex(*sizes))


def test_unseen_draws_evenly():
    """By trial or from a list, each of 12 designs as often as any other: by chi-squared."""
    places = np.zeros((2, 12))
    for seed in range(1200):
        unseen = Unseen((3, 4), np.random.default_rng(seed))
        for half in range(2):
            flats = np.ravel_multi_index(tuple(unseen.draw(6).T), (3, 4))
            places[half, flats] += 1
    # 11 degrees of freedom: 31.3 is exceeded once in a thousand times, and the seeds are fixed.
    assert (((places - 600) ** 2 / 600).sum(axis=1) < 31.3).all()
