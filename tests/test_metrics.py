"""Comparisons of predictions, the McNemar test and SQNR, against counts made by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from arraysmith.metrics import compare, mcnemar_p_value, sqnr_db


def test_compare_counts_every_kind_of_change():
    """Fixed, broken, wrong both times and unchanged, one of each and two unchanged."""
    labels = np.array([0, 0, 0, 0, 0])
    float_predictions = np.array([1, 0, 1, 0, 0])
    int8_predictions = np.array([0, 1, 2, 0, 0])
    found = compare(float_predictions, int8_predictions, labels)
    assert (found.fixed, found.broken, found.changed) == (1, 1, 3)
    assert (found.float_correct, found.int8_correct, found.images) == (3, 3, 5)
    assert found.agreement == pytest.approx(0.4)
    assert found.p_value == 1.0


def tails(fixed, broken):
    """The two-sided exact p-value by listing every outcome of the discordant pairs."""
    n = fixed + broken
    outcomes = [sum(flips) for flips in product((0, 1), repeat=n)]
    extreme = min(fixed, broken)
    return min(1.0, 2 * sum(heads <= extreme for heads in outcomes) / 2**n)


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (1, 3), (3, 1), (0, 6), (5, 5), (2, 9)])
def test_mcnemar_equals_the_list_of_all_outcomes(fixed, broken):
    """The formula agrees with counting coin flips one by one."""
    assert mcnemar_p_value(fixed, broken) == tails(fixed, broken)


def test_mcnemar_stays_exact_for_many_changes():
    """Thousands of discordant pairs neither overflow nor underflow to nonsense."""
    assert mcnemar_p_value(5000, 5000) == 1.0
    assert 0 <= mcnemar_p_value(0, 3000) < 1e-300


def test_sqnr():
    """A noise of a hundredth of the power is 20 dB; none has no figure."""
    assert sqnr_db(100.0, 1.0) == pytest.approx(20)
    assert sqnr_db(1.0, 0.0) is None
    assert math.isfinite(sqnr_db(0.0, 1.0))
