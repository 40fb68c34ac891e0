"""Intervals, wins and ranks: against every possible resample, against SciPy, and at the edges."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, ttest_ind
from scipy.stats import t as student

from captum_softcam.evaluation import statistics
from captum_softcam.evaluation.statistics import (
    best,
    count_images,
    decimals,
    holm,
    mean_intervals,
    mean_ranks,
    model_intervals,
    ranking_intervals,
    shown,
    sign_flip_p_values,
    significance,
    smallest_p_value,
    visible,
    win_rates,
)

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


IMAGES = ["b", "a", "b", "c", "a", "b", "d"]
CLUSTERED = [0.1, NAN, 0.3, 2.0, -0.5, 0.2, NAN]


def test_intervals_of_images_end_where_all_possible_resamples_say():
    means = oracles.resampled_image_means(CLUSTERED, IMAGES)
    at = [means[round(share * (len(means) - 1))] for share in (0.012, 0.038, 0.962, 0.988)]
    mean, low, high = (float(end[0]) for end in mean_intervals(np.array(CLUSTERED)[:, None], IMAGES))
    assert mean == pytest.approx(np.nanmean(CLUSTERED), abs=1e-12)
    assert at[0] - 1e-12 <= low <= at[1] + 1e-12
    assert at[2] - 1e-12 <= high <= at[3] + 1e-12


def test_intervals_of_images_equal_a_loop_over_the_drawn_images():
    """With the draws of the same generator, image by image."""
    rng = np.random.default_rng(4)
    values, images = rng.normal(size=30), [f"i{number}" for number in rng.integers(0, 9, 30)]
    values[rng.integers(0, 30, 6)] = NAN
    drawn = np.random.default_rng(0).integers(0, len(set(images)), (2000, len(set(images))), dtype=np.int32)
    means = [oracles.mean_of_drawn_images(values.tolist(), images, row) for row in drawn.tolist()]
    _, low, high = mean_intervals(values[:, None], images)
    assert [low[0], high[0]] == pytest.approx(np.nanpercentile(means, [2.5, 97.5]), abs=1e-12)


@pytest.mark.parametrize("step", [2**24, 1])
def test_one_sample_per_image_changes_no_digit(step, monkeypatch):
    monkeypatch.setattr(statistics, "_MEMORY", step)
    values = np.random.default_rng(2).normal(size=(40, 3))
    values[5:9, 1] = NAN
    alone = mean_intervals(values)
    for images in (list(range(40)), [f"s{40 - i}" for i in range(40)]):
        assert all(np.array_equal(one, other) for one, other in zip(alone, mean_intervals(values, images), strict=True))


@pytest.mark.parametrize("copies", [2, 3, 7])
def test_copies_of_the_samples_of_an_image_add_no_certainty(copies):
    values = np.random.default_rng(6).normal(size=(25, 2))
    values[3, 0] = NAN
    alone = mean_intervals(values)
    together = mean_intervals(np.repeat(values, copies, axis=0), np.repeat(np.arange(25), copies).tolist())
    assert np.allclose(alone, together, rtol=0, atol=1e-12)
    apart = mean_intervals(np.repeat(values, copies, axis=0))
    assert ((apart[2] - apart[1]) < 0.8 * (together[2] - together[1])).all(), "as if every copy were an image of its own"


def test_images_of_equal_values_have_no_width():
    assert [float(end[0]) for end in mean_intervals(np.full((7, 1), 0.1), IMAGES)] == [0.1] * 3
    assert [float(end[0]) for end in mean_intervals(np.array([[0.1], [0.4]]), ["a", "a"])] == [0.25] * 3


def test_pairs_are_counted_by_image():
    defined = np.isfinite(np.array([CLUSTERED, [NAN] * 7]).T)
    assert count_images(defined, IMAGES).tolist() == [3, 0], "d has no value"
    assert count_images(defined).tolist() == [5, 0]


def _rankings(seed=0, ties=True):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(40, 4))
    scores = scores.round(1) if ties else scores
    shown = rng.random((40, 4)) < [0.1, 0.4, 0.8, 0.5]
    scores[shown] += 0.5
    return scores, shown


def test_rankings_equal_the_oracle_and_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    scores, shown = _rankings()
    found = ranking_intervals(scores, shown, np.ones_like(shown), resamples=20)
    for k in range(4):
        area, precision = oracles.area_and_precision(scores[:, k].tolist(), shown[:, k].tolist())
        assert found.auc[k, 0] == pytest.approx(area, abs=1e-12)
        assert found.average_precision[k, 0] == pytest.approx(precision, abs=1e-12)
        assert found.auc[k, 0] == pytest.approx(metrics.roc_auc_score(shown[:, k], scores[:, k]), abs=1e-12)
        assert found.average_precision[k, 0] == pytest.approx(
            metrics.average_precision_score(shown[:, k], scores[:, k]), abs=1e-12
        )
    assert found.mean_auc[0] == pytest.approx(metrics.roc_auc_score(shown, scores, average="macro"), abs=1e-12)
    macro = metrics.average_precision_score(shown, scores, average="macro")
    assert found.mean_average_precision[0] == pytest.approx(macro, abs=1e-12)


@pytest.mark.parametrize("step", [2**24, 1])
def test_intervals_of_rankings_equal_a_loop_over_the_drawn_images(step, monkeypatch):
    monkeypatch.setattr(statistics, "_MEMORY", step)
    scores, shown = _rankings(1)
    found = ranking_intervals(scores, shown, np.ones_like(shown), resamples=60)
    drawn = np.random.default_rng(0).integers(0, 40, (60, 40), dtype=np.int32)
    each = [[oracles.area_and_precision(scores[row, k].tolist(), shown[row, k].tolist()) for k in range(4)] for row in drawn]
    low, high = np.nanpercentile(each, [2.5, 97.5], axis=0)
    assert found.auc[:, 1:] == pytest.approx(np.stack([low, high], 1)[..., 0], abs=1e-12)
    assert found.average_precision[:, 1:] == pytest.approx(np.stack([low, high], 1)[..., 1], abs=1e-12)
    low, high = np.nanpercentile(np.nanmean(each, axis=1), [2.5, 97.5], axis=0)
    assert found.mean_auc[1:] == pytest.approx([low[0], high[0]], abs=1e-12)
    assert found.mean_average_precision[1:] == pytest.approx([low[1], high[1]], abs=1e-12)


def test_unknown_labels_and_scores_leave_the_image_out():
    scores, shown = _rankings(2)
    known = np.ones_like(shown)
    known[:10, 1] = False
    scores[10:15, 2] = NAN
    found = ranking_intervals(scores, shown, known, resamples=5)
    assert found.auc[1, 0] == ranking_intervals(scores[10:], shown[10:], known[10:], resamples=5).auc[1, 0]
    rest = np.isfinite(scores[:, 2])
    assert found.auc[2, 0] == pytest.approx(
        oracles.area_and_precision(scores[rest, 2].tolist(), shown[rest, 2].tolist())[0], abs=1e-12
    )


def test_a_class_of_all_images_or_none_has_no_area():
    scores, shown = _rankings(3)
    shown[:, 0], shown[:, 1] = True, False
    found = ranking_intervals(scores, shown, np.ones_like(shown), resamples=5)
    assert np.isnan(found.auc[:2]).all()
    assert found.average_precision[0].tolist() == pytest.approx([1, 1, 1])
    assert np.isnan(found.average_precision[1]).all()
    assert found.mean_auc[0] == pytest.approx(found.auc[2:, 0].mean())
    assert found.mean_average_precision[0] == pytest.approx(found.average_precision[[0, 2, 3], 0].mean())


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


@pytest.mark.parametrize("images", [IMAGES, [*"abcdefg"]])
def test_p_values_equal_the_oracle(images):
    values = np.random.default_rng(8).normal(0.5, 1, (7, 3))
    values[2, 1] = NAN
    values[:, 2] = [1, 1, 0, 1, -1, 1, 1]  # many sums are equal
    found = sign_flip_p_values(values, images)
    expected = [oracles.sign_flip_p_value(column.tolist(), images) for column in values.T]
    assert found == pytest.approx(expected, abs=1e-12)
    assert len(set(expected)) > 1


@pytest.mark.parametrize("step", [2**24, 1000])
def test_drawn_signs_agree_with_all(step, monkeypatch):
    monkeypatch.setattr(statistics, "_MEMORY", step)
    values = np.random.default_rng(9).normal(0.4, 1, (14, 4))
    exact, drawn = sign_flip_p_values(values), sign_flip_p_values(values, flips=8000)
    assert np.array_equal(drawn, sign_flip_p_values(values, flips=8000)), "the seed is fixed"
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(0.25 / 8000))


@pytest.mark.parametrize("scale", [1, 1e-30, 1e30])
def test_p_values_ignore_scale_and_order_of_magnitude_of_other_columns(scale):
    values = np.random.default_rng(10).normal(0.5, 1, (9, 2))
    assert np.array_equal(sign_flip_p_values(values * [scale, 1]), sign_flip_p_values(values))


def test_p_values_at_the_edges():
    values = np.array([[0.0, NAN, 1.0, 2.0, math.inf]] * 6)
    assert sign_flip_p_values(values) == pytest.approx([1, NAN, 2 / 64, 2 / 64, NAN], nan_ok=True)
    assert sign_flip_p_values(values[:1]) == pytest.approx([1, NAN, 1, 1, NAN], nan_ok=True)
    assert np.isnan(sign_flip_p_values(values[:0])).all()
    assert sign_flip_p_values(values[:, :0]).shape == (0,)
    many = np.ones((3000, 1))
    assert sign_flip_p_values(many, flips=999) == 0.001, "never 0"


def test_the_smallest_p_value_is_that_of_images_that_agree():
    counts = np.array([0, 1, 2, 6, 12])
    found = [sign_flip_p_values(np.full((count, 1), 0.3)) for count in counts[1:]]
    assert smallest_p_value(counts).tolist() == [1, *(p.item() for p in found)]


@pytest.mark.parametrize("values", [[0.01, 0.04, 0.03, 0.005], [0.02, 0.02, 0.02], [0.9, 0.6], [1.0, 0.0, 0.5], [0.03], []])
def test_holm_equals_the_oracle(values):
    assert holm(np.array(values)) == pytest.approx(oracles.holm(values), abs=1e-15)


def test_holm_keeps_shape_and_does_not_count_what_is_not_tested():
    found = holm(np.array([[0.01, NAN], [0.5, 0.02]]))
    assert found == pytest.approx(np.array([[0.03, NAN], [0.5, 0.04]]), nan_ok=True)


@pytest.mark.parametrize("count", [12, 40])
def test_tables_without_a_difference_rarely_have_an_adjusted_mark(count):
    """Of 100 tables of 30 cells, about 5 have one; by the intervals of single cells, most."""
    values = np.random.default_rng(11).normal(size=(count, 3000))
    adjusted = np.stack([holm(row) for row in sign_flip_p_values(values, flips=8000).reshape(100, 30)])
    assert (adjusted <= 0.05).any(axis=1).mean() <= 0.1
    _, low, high = mean_intervals(values)
    assert ((low > 0) | (high < 0)).reshape(100, 30).any(axis=1).mean() > 0.6


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


def _models(models: int = 3, images: int = 12, spread: float = 0.4) -> np.ndarray:
    rng = np.random.default_rng(2)
    shared = rng.normal(size=(1, images, 1))
    return spread * rng.normal(size=(models, 1, 1)) + shared + 0.3 * rng.normal(size=(models, images, 1))


@pytest.mark.parametrize("spread", [0.0, 0.4, 2.0])
@pytest.mark.parametrize("models", [2, 4])
def test_intervals_of_several_models_equal_literal_draws(models, spread):
    values = _models(models, spread=spread)
    values[0, 3:6] = NAN
    expected = oracles.model_interval(values[..., 0].tolist())
    found = [float(end[0]) for end in model_intervals(values)]
    assert found[0] == pytest.approx(expected[0], abs=1e-12)
    assert found[1:] == pytest.approx(expected[1:], abs=0.1 * (expected[2] - expected[1]))


def test_one_model_has_the_interval_of_its_images():
    values = _models(1)
    images = [i // 2 for i in range(12)]
    assert np.array_equal(model_intervals(values, images), mean_intervals(values[0], images))
    assert np.array_equal(model_intervals(values[None], images), mean_intervals(values[0], images))


def test_images_that_are_hard_for_every_model_stay_so():
    """More models do not help against the choice of images."""
    shared = np.random.default_rng(0).normal(size=(1, 40, 1))
    one, many = (model_intervals(np.repeat(shared, models, axis=0)) for models in (1, 8))
    assert np.allclose(one, many, rtol=0, atol=1e-12)


def test_intervals_cover_other_models():
    """Without the levels and the widening, these would be 50 to 80 %."""
    rng = np.random.default_rng(4)
    for models, least in ((2, 0.85), (3, 0.9), (5, 0.92)):
        _, low, high = model_intervals(rng.normal(size=(models, 1, 400)) + 0.1 * rng.normal(size=(models, 12, 400)))
        assert least < ((low <= 0) & (high >= 0)).mean() < 0.99


def test_both_groups_of_a_difference_are_drawn():
    rng = np.random.default_rng(5)
    one, other = rng.normal(size=(4, 1, 1)), rng.normal(size=(4, 1, 1))
    pairs = one[:, None] - other[None] + np.zeros((1, 1, 20, 1))
    mean, low, high = (float(end[0]) for end in model_intervals(pairs))
    assert mean == pytest.approx(float(one.mean() - other.mean()), abs=1e-12)
    error = math.sqrt((one.var(ddof=1) + other.var(ddof=1)) / 4)
    theirs = ttest_ind(one.ravel(), other.ravel(), equal_var=False)  # Welch: Satterthwaite's rule for two groups
    expected = error * student.ppf(0.975, theirs.df)
    assert (low, high) == pytest.approx((mean - expected, mean + expected), abs=0.15 * expected)


def test_models_without_a_value_do_not_count():
    values = _models(3)
    values[1] = NAN
    assert np.allclose(model_intervals(values)[0], values[[0, 2]].mean(), rtol=0, atol=1e-12)
    values[2] = NAN
    assert np.allclose(model_intervals(values), mean_intervals(values[0]), rtol=0, atol=0.1), "of fewer draws"
    assert np.isnan(model_intervals(np.full((3, 5, 1), NAN))).all()
    assert [end.shape for end in model_intervals(np.zeros((3, 5, 0)))] == [(0,)] * 3
    assert np.array_equal(model_intervals(np.full((3, 5, 1), 0.1)), [[0.1]] * 3), "to the last digit"


def test_a_difference_is_visible_in_print():
    means, others = np.array([0.3, 0.3, 0.3, 0.2]), np.array([0.2, 0.3, 0.2, 0.3])
    found = visible(means, others, np.array([0.1, 0.1, 0.0004, 0.1]), np.array([3, 3, 3, 3]))
    assert found.tolist() == [True, False, False, False]
