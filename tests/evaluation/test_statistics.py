"""Intervals, wins and ranks: against every possible resample, against SciPy, and at the edges."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from captum_softcam.evaluation import statistics
from captum_softcam.evaluation.statistics import best, decimals, mean_intervals, mean_ranks, shown, significance, win_rates

NAN = math.nan


def _interval(*values: float) -> list[float]:
    return [float(end[0]) for end in mean_intervals(np.array(values)[:, None])]


@pytest.mark.parametrize(
    "values",
    [[0.0, 1.0, 4.0], [3.0, -1.0, 0.5, 0.25], [0.1, 0.2, 0.4, 0.8, 1.6], [1.0, NAN, 2.0, 5.0], [2.0, NAN, NAN, 7.0]],
)
def test_intervals_end_where_all_possible_resamples_say(values):
    means = oracles.resampled_means(values)
    at = [means[round(share * (len(means) - 1))] for share in (0.012, 0.038, 0.962, 0.988)]
    mean, low, high = _interval(*values)
    assert mean == pytest.approx(sum(v for v in values if v == v) / sum(v == v for v in values), abs=1e-12)
    assert at[0] - 1e-12 <= low <= at[1] + 1e-12, "2.5 %, give or take three deviations of 2,000 draws"
    assert at[2] - 1e-12 <= high <= at[3] + 1e-12


@pytest.mark.parametrize("step", [2**24, 1])
def test_intervals_equal_scipys(step, monkeypatch):
    monkeypatch.setattr(statistics, "_MEMORY", step)
    values = np.random.default_rng(3).exponential(size=(60, 2))
    mean, low, high = mean_intervals(values, resamples=20_000)
    for i, column in enumerate(values.T):
        theirs = bootstrap((column,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
        tolerance = 0.1 * column.std() / math.sqrt(60)  # four deviations of an end that two times 20,000 draws estimate
        assert mean[i] == pytest.approx(column.mean(), abs=1e-12)
        assert (low[i], high[i]) == pytest.approx(tuple(theirs), abs=tolerance)


def test_the_interval_of_few_defined_among_many_is_that_of_the_defined():
    values = np.random.default_rng(0).normal(size=(400, 1))
    sparse = np.full((400, 1), NAN)
    sparse[:80] = values[:80]
    whole, part = mean_intervals(values[:80], resamples=8000), mean_intervals(sparse, resamples=8000)
    assert part[0] == pytest.approx(whole[0], abs=1e-12)
    assert part[1] == pytest.approx(whole[1], abs=0.03), "the deviation of the mean is 0.11"
    assert part[2] == pytest.approx(whole[2], abs=0.03)


@pytest.mark.parametrize("values", [[0.1] * 7, [0.3], [NAN, 1 / 3, NAN], [0.7, NAN, 0.7, 0.7], [-0.0, 0.0]])
def test_equal_values_have_no_width(values):
    value = next(v for v in values if v == v)
    assert _interval(*values) == [value] * 3, "to the last digit"


def test_what_is_undefined_stays_so():
    assert all(map(math.isnan, _interval(NAN, NAN)))
    assert _interval(1.0, math.inf, -math.inf, 1.0) == [1.0, 1.0, 1.0]
    assert all(map(math.isnan, _interval()))
    assert [end.shape for end in mean_intervals(np.zeros((5, 0)))] == [(0,)] * 3


def test_columns_do_not_touch_each_other():
    values = np.random.default_rng(5).normal(size=(30, 4))
    values[:7, 1] = NAN
    together = mean_intervals(values)
    for i in range(4):
        assert np.allclose([end[i] for end in together], np.ravel(mean_intervals(values[:, [i]])), rtol=0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12), st.floats(0.5, 3), st.floats(-50, 50))
def test_intervals_move_with_the_values(values, scale, shift):
    mean, low, high = _interval(*values)
    assert low - 1e-9 <= mean <= high + 1e-9
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    moved = _interval(*(shift - scale * value for value in values))
    assert moved == pytest.approx([shift - scale * end for end in (mean, high, low)], abs=1e-9)


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_wins_equal_the_oracle(higher_is_better):
    rng = np.random.default_rng(1)
    ours, theirs = rng.integers(0, 4, (2, 40)).astype(float)
    ours[:5], theirs[3:9] = NAN, NAN
    _, wins, _ = oracles.paired_difference(ours.tolist(), theirs.tolist(), higher_is_better)
    found = win_rates((ours - theirs)[:, None], np.array([1.0 if higher_is_better else -1.0]))
    assert found == pytest.approx([wins], abs=1e-12)
    assert wins != 0.5, "or the direction would not matter"


def test_no_pairs_no_win_rate():
    assert np.isnan(win_rates(np.full((3, 1), NAN), np.ones(1))).all()


@pytest.mark.parametrize(
    ("low", "high", "count", "direction", "expected"),
    [
        (0.1, 0.2, 6, 1, 1),
        (0.1, 0.2, 6, -1, -1),
        (-0.2, -0.1, 50, 1, -1),
        (-0.2, -0.1, 50, -1, 1),
        (-0.1, 0.1, 50, 1, 0),
        (0.0, 0.1, 50, 1, 0),
        (0.1, 0.2, 5, 1, 0),
        (NAN, NAN, 0, 1, 0),
    ],
)
def test_significance(low, high, count, direction, expected):
    arrays = (np.array([value]) for value in (low, high, count, direction))
    assert significance(*arrays).tolist() == [expected]


def test_a_difference_of_nothing_is_rarely_found():
    """Of 400 columns without a difference, with 40 samples each, about 5 % seem to have one."""
    values = np.random.default_rng(7).normal(size=(40, 400))
    _, low, high = mean_intervals(values)
    found = significance(low, high, np.full(400, 40), np.ones(400))
    assert 0.02 < np.abs(found).mean() < 0.1


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_ranks_equal_the_oracle(higher_is_better):
    column = [0.5, 0.9, 0.5, NAN, 0.1, 0.9, 0.5]
    found = mean_ranks(np.array(column)[:, None], np.array([1.0 if higher_is_better else -1.0]))[:, 0]
    for i, value in enumerate(column):
        expected = NAN if math.isnan(value) else oracles.rank(column, i, higher_is_better)
        assert found[i] == pytest.approx(expected, abs=0, nan_ok=True)


def test_best_are_all_that_are_not_beaten():
    means = np.array([[0.5, NAN, 0.3], [0.5, NAN, 0.2], [NAN, NAN, 0.4]])
    assert best(means, np.array([1.0, 1.0, -1.0])).T.tolist() == [[True, True, False], [False] * 3, [False, True, False]]


@pytest.mark.parametrize(
    ("largest", "places"),
    [
        (0, 3),
        (NAN, 3),
        (0.1, 3),
        (-0.5, 3),
        (1, 3),
        (99.9, 3),
        (100, 2),
        (1234, 1),
        (5e4, 0),
        (1e9, 0),
        (0.09, 4),
        (3e-6, 8),
    ],
)
def test_decimals(largest, places):
    assert decimals(np.array([largest, NAN, 0.0])) == places


def test_means_are_rounded_by_the_metric():
    assert shown(np.array([[0.12345, 0.012345], [0.1, NAN]])).tolist() == pytest.approx(
        [pytest.approx([0.123, 0.0123]), pytest.approx([0.1, NAN], nan_ok=True)]
    )
