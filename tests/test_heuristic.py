"""The driver of search strategies, with strategies that say what they are told to."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arraysmith.errors import DesignSpaceError
from arraysmith.search.heuristic import run


def scripted(*batches):
    """A strategy that asks for these designs and then ends; its answers are kept in `.told`."""

    def strategy(sizes, rng):
        del sizes, rng
        for batch in batches:
            strategy.told.append((yield np.array(batch, np.int64).reshape(-1, 1)))

    strategy.told = []
    return strategy


def table(F, G=None):
    """Evaluates designs of one axis by looking them up."""
    F = np.array(F, np.float64).reshape(len(F), -1)
    G = np.empty((len(F), 0)) if G is None else np.array(G, np.float64).reshape(len(F), -1)
    return lambda designs: (F[designs[:, 0]], G[designs[:, 0]])


def drive(strategy, sizes, evaluate, **options):
    """With a seed that plays no part."""
    return run(strategy, sizes, evaluate, np.random.default_rng(0), **({"budget": 99} | options))


def test_known_designs_are_answered_from_memory():
    """New ones go out once and in their order; the answer has a row for each that was asked."""
    strategy = scripted([[4], [2], [4]], [[2], [7], [2]], [[4]], [])
    evaluate, asked = table(range(0, 100, 10), range(10)), []

    def record(designs):
        asked.append(designs.tolist())
        return evaluate(designs)

    found = drive(strategy, (10,), record)
    assert asked == [[[4], [2]], [[7]]]
    assert [F[:, 0].tolist() for F, _ in strategy.told] == [[40, 20, 40], [20, 70, 20], [40], []]
    assert [G[:, 0].tolist() for _, G in strategy.told] == [[4, 2, 4], [2, 7, 2], [4], []]
    assert found.designs.tolist() == [[4], [2], [7]]
    assert found.stopped == "strategy ended"


def test_a_strategy_may_end_before_it_asks():
    """An empty run is a run."""
    found = drive(scripted(), (3, 4), table(range(9)))
    assert (found.designs.shape, len(found.F), found.stopped) == ((0, 2), 0, "strategy ended")


def test_a_strategy_that_only_repeats_itself_has_converged():
    """After a hundred batches of known designs; empty ones count as such."""
    strategy = scripted(*[[[1]], [[1]], []] * 100)
    found = drive(strategy, (10,), table(range(10)))
    assert (found.designs.tolist(), found.stopped) == ([[1]], "converged")
    assert len(strategy.told) == 100


def test_a_new_design_now_and_then_goes_on():
    """A hundred in a row is what counts."""
    batches = [[[step // 60]] for step in range(240)]
    found = drive(scripted(*batches), (10,), table(range(10)))
    assert (len(found.designs), found.stopped) == (4, "strategy ended")


def test_the_last_batch_is_cut_and_the_strategy_closed():
    """Its first new designs still fit the budget."""
    closed = []

    def strategy(sizes, rng):
        del sizes, rng
        try:
            yield np.array([[0], [1]])
            yield np.array([[1], [2], [3], [0], [4]])
            raise AssertionError
        finally:
            closed.append(True)

    found = drive(strategy, (10,), table(range(10)), budget=4)
    assert found.designs[:, 0].tolist() == [0, 1, 2, 3]
    assert (found.stopped, closed) == ("budget", [True])


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1, 2, 3, 4, np.inf]), st.integers(0, 4), st.integers(-1, 1)),
        min_size=1,
        max_size=25,
    ),
    st.lists(st.integers(1, 4), min_size=25, max_size=25),
    st.integers(1, 6),
    st.integers(1, 2),
)
@settings(deadline=None)
def test_patience_by_a_plain_account(rows, lengths, patience, objectives):
    """Count from the last design that no feasible one before it dominates or equals."""
    F = [row[:objectives] for row in rows]
    G = [row[2] for row in rows]
    batches, evaluated = [], 0
    for length in lengths:
        batches.append([[place] for place in range(len(rows))[evaluated : evaluated + length]])
        evaluated += length
    batches = [batch for batch in batches if batch]

    expected, since, good = 0, 0, []
    for batch in batches:
        for (place,) in batch:
            expected += 1
            improves = np.isfinite(F[place]).all() and G[place] <= 0
            improves = improves and not any(
                all(a <= b for a, b in zip(one, F[place], strict=True)) for one in good
            )
            since = 0 if improves else since + 1
            if improves:
                good.append(F[place])
        if since >= patience:
            break

    found = drive(scripted(*batches), (99,), table(F, G), patience=patience)
    assert len(found.designs) == expected
    assert found.stopped == ("converged" if since >= patience else "strategy ended")


def test_progress_is_told_and_noted():
    """As many steps as designs; the note is asked for the front of what is feasible."""
    told, opened = [], []

    @contextmanager
    def progress(name, total):
        opened.append((name, total))
        yield lambda steps=1, note="": told.append((steps, note))

    fronts = []

    def note(F, G):
        fronts.append((F.tolist(), G.tolist()))
        return f"best {F.min():,.0f}"

    strategy = scripted([[0]], [[1], [2]], [[2]], [[3], [4], [5]])
    evaluate = table([1, 5000, 4000, np.inf, 4000, 4500], [1, -1, -2, 0, 0, 0])
    drive(strategy, (8,), evaluate, budget=6, progress=progress, note=note)
    assert opened == [("exploring", 6)]
    assert told == [(1, ""), (2, "best 4,000"), (3, "best 4,000")]
    assert fronts == [([[4000.0]], [[-2.0]])] * 2


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((3, 0), {}, "axis 1 has 0 values; give at least one"),
        ((), {}, "1 designs on 0 axes; from 1 to 2^62 - 1 can be searched"),
        (
            (2**31, 2**31),
            {},
            "4,611,686,018,427,387,904 designs on 2 axes; from 1 to 2^62 - 1 can be searched",
        ),
        ((3,), {"budget": 0}, "budget is 0, needs at least 1"),
        ((3,), {"patience": 0}, "patience is 0, needs at least 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(sizes, options, message):
    """Before anything is evaluated."""
    with pytest.raises(DesignSpaceError) as caught:
        drive(scripted(), sizes, table(range(9)), **options)
    assert str(caught.value) == message


def test_bugs_of_strategies_and_evaluations_do_not_pass():
    """A design outside the space, or answers for fewer designs than asked."""
    with pytest.raises(ValueError, match="invalid entry"):
        drive(scripted([[10]]), (10,), table(range(20)))
    with pytest.raises(ValueError, match="1 rows of F and 1 of G for 2 designs"):
        drive(scripted([[1], [2]]), (10,), lambda _: (np.zeros((1, 1)), np.zeros((1, 0))))
