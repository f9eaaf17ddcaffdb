"""Fronts against their definition; hypervolumes against counted cells, pymoo and Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arraysmith.search.pareto import (
    feasible,
    hypervolume,
    hypervolume_history,
    non_dominated,
    violation,
)


def points(values, objectives, most):
    """(n, m) float64 of some values."""
    return objectives.flatmap(
        lambda m: st.lists(st.tuples(*[values] * m), max_size=most).map(
            lambda rows: np.array(rows, np.float64).reshape(len(rows), m)
        )
    )


grid_values = st.integers(0, 6).map(float)
all_values = st.one_of(grid_values, st.floats(allow_nan=False))


def dominates(left, right):
    """No worse in all, better in one."""
    pairs = list(zip(left, right, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


@given(points(all_values, st.integers(1, 5), most=40))
@settings(deadline=None)
def test_non_dominated_equals_its_definition(F):
    """With ties, equal points, infinities, and from no point on."""
    rows = F.tolist()
    expected = [not any(dominates(other, row) for other in rows) for row in rows]
    assert non_dominated(F).tolist() == expected


@pytest.mark.parametrize("objectives", [2, 3, 4])
@pytest.mark.parametrize("shape", ["scattered", "all on a front"])
def test_non_dominated_of_many_points(objectives, shape):
    """A thousand at a time against all pairs, where most are dominated and where none is."""
    rng = np.random.default_rng(objectives)
    F = rng.random((1000, objectives))
    if shape == "all on a front":
        F /= F.sum(axis=1, keepdims=True)
    worse = (F[:, None] >= F).all(axis=2) & (F[:, None] > F).any(axis=2)
    assert np.array_equal(non_dominated(F), ~worse.any(axis=1))
    assert non_dominated(F).sum() > (900 if shape == "all on a front" else 0)


def test_feasible_is_evaluated_and_within_all_constraints():
    """Violations add up, slack does not count; what is not a number is no design."""
    F = np.array([[1, 2], [1, 2], [1, np.inf], [np.nan, 2], [1, 2], [1, 2]], np.float64)
    G = np.array([[-5, 0], [-5, 3], [-1, -1], [-1, -1], [2, 3], [np.nan, -1]], np.float64)
    assert violation(F, G).tolist() == [0, 3, np.inf, np.inf, 5, np.inf]
    assert feasible(F, G).tolist() == [True, False, False, False, False, False]
    assert feasible(F, G[:, :0]).tolist() == [True, True, False, False, True, True]


@given(points(grid_values, st.integers(1, 4), most=12))
@settings(deadline=None)
def test_hypervolume_equals_the_cells_that_are_dominated(F):
    """On integers it is a count of unit cells; points at or beyond the reference add none."""
    reference = np.full(F.shape[1], 5.0)
    cells = np.indices([5] * F.shape[1]).reshape(F.shape[1], -1).T
    dominated = (cells[:, None] >= F).all(axis=2).any(axis=1)
    assert hypervolume(F, reference) == dominated.sum()


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_hypervolume_equals_that_of_pymoo(objectives):
    """Of points scattered around the reference, some beyond it, some twice."""
    from pymoo.indicators.hv import HV

    rng = np.random.default_rng(objectives)
    F = rng.normal(size=(60, objectives))
    F = np.concatenate([F, F[:7]])
    reference = np.linspace(0.3, 0.9, objectives)
    expected = HV(ref_point=reference)(F)
    assert expected > 0
    assert hypervolume(F, reference) == pytest.approx(expected, rel=1e-12)


def test_hypervolume_is_the_share_of_random_points_dominated():
    """In five dimensions, by a hundred thousand of them: four standard deviations."""
    rng = np.random.default_rng(5)
    F = rng.random((15, 5))
    thrown = rng.random((100_000, 5))
    hit = np.zeros(len(thrown), np.bool_)
    for point in F:
        hit |= (thrown >= point).all(axis=1)
    share = hit.mean()
    assert 0.05 < share < 0.95
    deviation = np.sqrt(share * (1 - share) / len(thrown))
    assert abs(hypervolume(F, np.ones(5)) - share) < 4 * deviation


def test_hypervolume_history_is_that_of_the_feasible_so_far():
    """0 before anything is found, never less, and the end stands for all counts beyond."""
    F = np.array([[1, 1], [3, 3], [np.inf, 0], [2, 4], [0, 3.5]])
    G = np.array([[1], [0], [-1], [-2], [0]], np.float64)
    found = hypervolume_history(F, G, np.array([5.0, 5.0]), [0, 1, 2, 3, 4, 5, 99])
    assert found.tolist() == [0, 0, 4, 4, 5, 8.5, 8.5]
