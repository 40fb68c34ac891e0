"""Statistics of scores: intervals and tests of means, wins against a baseline and ranks, as pure functions of arrays.

An undefined score is NaN. An infinite score counts as undefined, because it would make every mean infinite. Samples of one
image are not independent, so that intervals resample images, and verdicts count them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata, wilcoxon
from scipy.stats import t as student

__all__ = [
    "LEVEL",
    "MIN_PAIRS",
    "Rankings",
    "best",
    "count_images",
    "decimals",
    "holm",
    "krippendorff_alpha",
    "mean_intervals",
    "mean_ranks",
    "model_intervals",
    "rank_agreement",
    "ranking_intervals",
    "resampled_means",
    "shown",
    "sign_flip_p_values",
    "significance",
    "smallest_p_value",
    "visible",
    "wilcoxon_p_values",
    "win_rates",
]

MIN_PAIRS = 6
"""Minimum number of images for a difference: five fair coins agree by chance in 1 of 16 throws, six in 1 of 32."""

LEVEL = 0.05
"""Level of the tests: the probability of one false mark or more in a table whose marks are adjusted."""

_FLIPS = 20_000  # at least, so that p-values go far below the level divided by the cells of a large table
_FLIPS_PER_COLUMN = 200
_ROUNDING = 1e-6  # of the sum of magnitudes; sums that differ by less are equal
_MEMORY = 2**24  # bytes for the resampled counts of one step
_LIMITS = (2.5, 97.5)

Array = NDArray[np.float64]


def mean_intervals(
    values: Array, images: Sequence[Hashable] | None = None, *, resamples: int = 2000, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Compute the mean of each column with its 95 % percentile interval from the bootstrap :cite:`efron1979bootstrap`.

    Images are resampled, once for all columns, and bring all their rows along :cite:`field2007bootstrapping`; with one row
    per image these are the rows. A resample in which a column has no defined value is left out for that column. The interval
    of equal values, or of those of a single image, is their mean. With few images the interval is too narrow, as for every
    percentile bootstrap: for normal values around 0 it excludes 0 in 15 % of cases with 6 images, 10 % with 12, 6 % with 24
    and 5 % with 200.

    Cost: ``resamples`` x G x 2C multiplications for G images, in steps of 16 MB; 3 s for 50,000 images and 80 columns on one
    core.

    Args:
        values (ndarray): scores (S, C) of S samples.
        images (sequence): name of the image of each sample. Default: None, each has its own
        resamples (int): number of resamples. Default: 2000
        seed (int): seed of the resamples. Default: 0

    Returns:
        tuple of ndarray: means, lower and upper ends, (C,) each; NaN where no value is defined.
    """
    defined = np.isfinite(values)
    some = defined.any(axis=0)
    mean, low, high = np.full((3, values.shape[1]), np.nan)
    if some.any():
        clusters = _clusters(images)
        mean[some], low[some], high[some] = _intervals(values[:, some], defined[:, some], clusters, resamples, seed)
    return mean, low, high


def resampled_means(
    values: Array, images: Sequence[Hashable] | None = None, *, resamples: int = 1000, seed: int = 0
) -> Array:
    """Compute the mean of each column in resamples of the images, which bring all their rows along.

    Args:
        values (ndarray): scores (S, C) of S samples.
        images (sequence): name of the image of each sample. Default: None, each has its own
        resamples (int): number of resamples. Default: 1000
        seed (int): seed of the resamples. Default: 0

    Returns:
        ndarray: (resamples, C), NaN where no defined value was drawn.
    """
    defined, clusters = np.isfinite(values), _clusters(images)
    sums, sizes = _per_image(np.where(defined, values, 0), clusters), _per_image(defined.astype(np.float64), clusters)
    return np.concatenate([_means(counts, sums, sizes) for counts in _counts(len(sums), resamples, seed)])


def _clusters(images: Sequence[Hashable] | None) -> NDArray[np.int64] | None:
    """Return the number of each sample's image, counted by their first samples, (S,); None if each has its own."""
    if images is None:
        return None
    numbers = {name: number for number, name in enumerate(dict.fromkeys(images))}
    return None if len(numbers) == len(images) else np.array([numbers[name] for name in images])


def _per_image(values: Array, clusters: NDArray[np.int64] | None) -> Array:
    """Sum the rows (S, C) of each image, (G, C)."""
    if clusters is None:
        return values
    sums = np.zeros((clusters.max() + 1, values.shape[1]))
    np.add.at(sums, clusters, values)
    return sums


def _intervals(
    values: Array, defined: NDArray[np.bool_], clusters: NDArray[np.int64] | None, resamples: int, seed: int
) -> tuple[Array, Array, Array]:
    """Compute means and intervals of columns with at least one defined value."""
    # Relative to the first defined value, so that equal values become exactly 0 and their interval has no rounding error.
    origin = values[defined.argmax(axis=0), range(values.shape[1])]
    shifted = np.where(defined, np.where(defined, values, 0) - origin, 0)
    sums, sizes = _per_image(shifted, clusters), _per_image(defined.astype(np.float64), clusters)
    drawn = np.concatenate([_means(counts, sums, sizes) for counts in _counts(len(sums), resamples, seed)])
    low, high = np.nanpercentile(drawn, _LIMITS, axis=0)
    return shifted.sum(axis=0) / defined.sum(axis=0) + origin, low + origin, high + origin


def _counts(images: int, resamples: int, seed: int | Sequence[int], draws: int | None = None) -> Iterator[Array]:
    """Yield how often each image is drawn in ``draws`` draws, by default as many as images, (resamples of one step, G)."""
    rng = np.random.default_rng(seed)
    step = max(1, _MEMORY // (8 * images))
    for start in range(0, resamples, step):
        size = (min(step, resamples - start), draws or images)
        drawn = rng.integers(0, images, size, dtype=np.int32)
        yield np.stack([np.bincount(row, minlength=images) for row in drawn]).astype(np.float64)


def _means(counts: Array, sums: Array, sizes: Array) -> Array:
    """Compute the means of all columns in each resample, NaN where no defined value was drawn."""
    with np.errstate(invalid="ignore"):
        # A product with counts, because sums[drawn] would copy (G, C) for every resample.
        return np.asarray(counts @ sums / (counts @ sizes))


def model_intervals(
    values: Array, images: Sequence[Hashable] | None = None, *, resamples: int = 2000, seed: int = 0
) -> tuple[Array, Array, Array]:
    r"""Compute the mean of each column over models and images, with its 95 % interval from a two-level bootstrap.

    .. math::

        \theta = \frac1M \sum_m \bar x_m, \qquad
        \theta^* = \theta + f\,\Big[\frac1{M-1} \sum_{m^*} (\bar x_{m^*} - \theta)
        + \frac1M \sum_m (\bar x_m^{\,i^*} - \theta)\Big]

    with :math:`\bar x_m` the mean of model m over the images, and :math:`\bar x_m^{\,i^*}` its mean over drawn images.
    Images are drawn with replacement, and they are the same for all models, because a hard image is hard for each of them:
    models and images are crossed, as in the pigeonhole bootstrap :cite:`owen2007pigeonhole`. Drawing images anew for each
    model, as for nested data, treats M models on G images as M G independent images: where the images have most of the
    variance, its intervals contained the true mean in 70 to 84 % of simulated cases with 2 to 10 models. Both levels are
    drawn separately and added, because in a joint draw what is particular to a model and an image counts three times
    instead of twice.

    Of M models, M - 1 are drawn, which makes the variance of their mean unbiased :cite:`rao1988resampling`, and all
    deviations are multiplied by :math:`f = t_\nu / 1.96` :cite:`hesterberg2015what`. The degrees of freedom :math:`\nu`
    follow from the variances of both levels by Satterthwaite's rule :cite:`satterthwaite1946approximate`, with M - 1 for the
    models and infinitely many for the images, as radiologists compute them for several readers of the same cases
    :cite:`hillis2007comparison`.

    **With one model, the interval is that of** :func:`mean_intervals`, **which covers other images and not another
    training.** With several, it covers other models that are made in the same way, on other images. Normal scores of 48
    images were simulated in which models, images and both together have an effect; the table has the fraction of intervals
    that contain the true mean, and in brackets that of plain percentiles with M drawn models (2,000 and 1,000 cases each):

    ======================================  ==========  ==========  ==========  ==========  ==========
    variance of the mean that is due to     1 model     2 models    3 models    5 models    10 models
    ======================================  ==========  ==========  ==========  ==========  ==========
    models alone                            0 %         90 (50) %   93 (77) %   94 (84) %   95 (92) %
    models, mostly (80 %)                   62 %        88 (81) %   93 (89) %   94 (90) %   96 (96) %
    models and images alike                 85 %        93 (90) %   94 (93) %   95 (94) %   96 (95) %
    images, mostly (80 %)                   93 %        96 (94) %   95 (95) %   95 (95) %   96 (96) %
    images (90 %), no models                94 %        95 (94) %   95 (94) %   95 (96) %   95 (95) %
    neither, only both together             94 %        98 (99) %   98 (99) %   99 (100) %  99 (100) %
    ======================================  ==========  ==========  ==========  ==========  ==========

    With two models it is up to 6.5 times as wide as the plain one, and still too narrow where trainings differ most.

    Cost: ``resamples`` x G x 2MC multiplications for G images and M models; 0.2 s for 5 models, 200 images and 72 columns on
    one core.

    Args:
        values (ndarray): scores (M, S, C) of M models; or differences (M, B, S, C) of each of M models to each of B others,
            of which both groups are drawn. NaN where undefined; a model without a defined value in a column does not count
            there.
        images (sequence): name of the image of each sample. Default: None, each has its own
        resamples (int): number of resamples. Default: 2000
        seed (int): seed of the resamples. Default: 0

    Returns:
        tuple of ndarray: means, lower and upper ends, (C,) each; NaN where no value is defined.
    """
    if math.prod(values.shape[:-2]) == 1:
        return mean_intervals(values.reshape(values.shape[-2:]), images, resamples=resamples, seed=seed)
    some = np.isfinite(values).any(axis=tuple(range(values.ndim - 1)))
    mean, low, high = np.full((3, values.shape[-1]), np.nan)
    if some.any():
        mean[some], low[some], high[some] = _model_intervals(values[..., some], _clusters(images), resamples, seed)
    return mean, low, high


def _model_intervals(
    values: Array, clusters: NDArray[np.int64] | None, resamples: int, seed: int
) -> tuple[Array, Array, Array]:
    """Compute means and intervals of columns with at least one defined value."""
    models, (samples, columns) = values.shape[:-2], values.shape[-2:]
    flat = np.moveaxis(values.reshape(-1, samples, columns), 0, 1)  # (S, models, C)
    defined = np.isfinite(flat)
    # Relative to a defined value, as for one model, so that equal values have no width.
    first = defined.reshape(-1, columns).argmax(axis=0)
    origin = flat.reshape(-1, columns)[first, range(columns)]
    shifted = np.where(defined, np.where(defined, flat, 0) - origin, 0)
    sums, sizes = (_per_image(each.reshape(samples, -1), clusters) for each in (shifted, defined.astype(np.float64)))
    each = _means(np.ones((1, len(sums))), sums, sizes).reshape(*models, columns)
    mean = _mean_over(each, tuple(range(len(models))))
    drawn = [_means(counts, sums, sizes).reshape(len(counts), -1, columns) for counts in _counts(len(sums), resamples, seed)]
    parts = [np.concatenate([_mean_over(part, (1,)) for part in drawn]) - mean]
    levels = [_mean_over(each, tuple(set(range(len(models))) - {axis})) for axis in range(len(models))]
    parts += [_drawn_models(level, resamples, [seed, axis + 1]) for axis, level in enumerate(levels)]
    deviations = np.sum(parts, axis=0) * _widening(levels, np.nanvar(parts[0], axis=0))
    low, high = np.nanpercentile(deviations, _LIMITS, axis=0)
    return mean + origin, mean + low + origin, mean + high + origin


def _mean_over(values: Array, axes: tuple[int, ...]) -> Array:
    """Average the defined values over axes, NaN where there is none."""
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0).sum(axis=axes) / defined.sum(axis=axes))


def _drawn_models(level: Array, resamples: int, seed: Sequence[int]) -> Array:
    """Draw all models but one with replacement, (R, C): deviations of their mean, 0 for a single model."""
    defined = np.isfinite(level)
    deviations = np.where(defined, np.where(defined, level, 0) - _mean_over(level, (0,)), 0)
    draws = max(len(level) - 1, 1)
    counts = np.concatenate([*_counts(len(level), resamples, seed, draws)])
    return _means(counts, deviations, defined.astype(np.float64))


def _widening(levels: Sequence[Array], images: Array) -> Array:
    """Return by how much the quantiles of Student's distribution exceed normal ones; ``images`` is their variance, (C,)."""
    total, squares = images.copy(), np.zeros_like(images)
    for level in levels:
        free = np.isfinite(level).sum(axis=0) - 1
        deviations = np.nan_to_num(level - _mean_over(level, (0,)))
        variance = (deviations**2).sum(axis=0) / np.maximum(free * (free + 1), 1)
        total += variance
        squares += variance**2 / np.maximum(free, 1)
    freedom = np.divide(total**2, squares, out=np.full_like(total, np.inf), where=squares > 0)
    return np.asarray(student.ppf(_LIMITS[1] / 100, freedom) / norm.ppf(_LIMITS[1] / 100))


def count_images(defined: NDArray[np.bool_], images: Sequence[Hashable] | None = None) -> NDArray[np.int64]:
    """Count the images with a defined value in each column.

    Args:
        defined (ndarray): whether a value is defined, (S, C).
        images (sequence): name of the image of each sample. Default: None, each has its own

    Returns:
        ndarray: (C,) of int.
    """
    return np.asarray((_per_image(defined.astype(np.float64), _clusters(images)) > 0).sum(axis=0), dtype=np.int64)


def sign_flip_p_values(
    differences: Array, images: Sequence[Hashable] | None = None, *, flips: int | None = None, seed: int = 0
) -> Array:
    r"""Test whether each column has mean 0, by flipping the signs of images at random :cite:`fisher1935design`.

    .. math:: p = P\Big(\Big|\sum_g s_g D_g\Big| \ge \Big|\sum_g D_g\Big|\Big), \qquad s_g = \pm 1

    with :math:`D_g` the sum of the differences of image g. All signs are enumerated where there are at most ``flips`` of
    them, up to a common sign, else drawn; then p counts the observed signs, too, so that it is never 0
    :cite:`phipson2010permutation`.

    Where two methods are interchangeable, either sign of a difference is as likely, and p is exact for any number of images
    and any distribution, unlike a p-value of the bootstrap. Simulated tables of 56 cells without any difference have a mark
    after :func:`holm` in 0, 3, 3, 5 and 7 % of cases with 6, 12, 24, 48 and 200 images of normal differences (300 tables
    each, the last 100), in 0, 3, 6, 5 and 6 % if the cells share a baseline, in 0 to 6 % for Student's t with 3 degrees of
    freedom; by the 95 % intervals of single cells nearly all tables have one. Where a quarter of the cells differ by 0.8
    standard deviations, 0, 5, 57, 98 and 100 % of these are found, by single intervals 60, 81, 98, 100 and 100 %. Means of
    skewed differences are another matter: where an exponential distribution is shifted to mean 0, 17, 32, 24 and 11 % of the
    tables have a mark with 12, 24, 48 and 200 images.

    Cost: ``flips`` x G x C multiplications for G images; 1 s for 5,000 images and 108 columns on one core.

    Args:
        differences (ndarray): scores (S, C) of S samples, method minus baseline; NaN where undefined.
        images (sequence): name of the image of each sample. Default: None, each has its own
        flips (int): number of sign vectors. Default: 20,000, or 200 for each column if that is more
        seed (int): seed of the signs. Default: 0

    Returns:
        ndarray: two-sided p-values (C,), NaN where no difference is defined.
    """
    defined = np.isfinite(differences)
    values = np.where(defined, differences, 0)
    largest = np.abs(values).max(axis=0, initial=0)
    sums = _per_image(values / np.where(largest > 0, largest, 1), _clusters(images)).astype(np.float32)
    sums = sums[sums.any(axis=1)]  # the others are equal with either sign
    flips = max(_FLIPS, _FLIPS_PER_COLUMN * differences.shape[1]) if flips is None else flips
    total = sums.sum(axis=0)
    reached = np.abs(total) - _ROUNDING * np.abs(sums).sum(axis=0)
    exact = len(sums) <= flips.bit_length()  # 2 ** (G - 1) <= flips
    steps = _all_signs(len(sums)) if exact else _drawn_signs(len(sums), flips, seed)
    # A product with 0 and 1, because the sum of all but the positive ones is known.
    hits = sum((np.abs(2 * (positive @ sums) - total) >= reached).sum(axis=0) for positive in steps)
    p = hits / 2.0 ** max(len(sums) - 1, 0) if exact else (1 + hits) / (1 + flips)
    return np.where(defined.any(axis=0), p, np.nan)


def _all_signs(images: int) -> Iterator[NDArray[np.float32]]:
    """Yield all choices of the images with a positive sign, (steps, G), the last never, because p is two-sided."""
    numbers = np.arange(2 ** max(images - 1, 0), dtype=np.int64)
    yield (numbers[:, None] >> np.arange(images) & 1).astype(np.float32)


def _drawn_signs(images: int, flips: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Yield random choices of the images with a positive sign, (flips of one step, G)."""
    rng = np.random.default_rng(seed)
    step = max(1, _MEMORY // (4 * images))
    for start in range(0, flips, step):
        rows, width = min(step, flips - start), -(-images // 8)
        drawn = np.frombuffer(rng.bytes(rows * width), np.uint8).reshape(rows, width)
        yield np.unpackbits(drawn, axis=1, count=images).astype(np.float32)


def smallest_p_value(images: NDArray[np.int64]) -> Array:
    """Return the smallest p-value that the signs of so many images can have: all of them point one way."""
    return np.where(images > 0, 2.0 ** (1 - np.maximum(images, 1)), 1)


def holm(p_values: Array) -> Array:
    r"""Adjust p-values for their number by Holm's procedure :cite:`holm1979simple`.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min\big(1, (m - j + 1)\, p_{(j)}\big)

    for the i-th smallest of m. Any true null hypothesis has an adjusted value of at most 0.05 with a probability of at most
    0.05, however the tests depend on each other.

    Args:
        p_values (ndarray): of any shape; NaN where there is no test, which does not count.

    Returns:
        ndarray: adjusted p-values, NaN where there is no test.
    """
    adjusted = np.full(p_values.shape, np.nan)
    tested = ~np.isnan(p_values)
    order = np.argsort(p_values[tested], kind="stable")
    steps = p_values[tested][order] * np.arange(len(order), 0, -1)
    found = np.empty(len(order))
    found[order] = np.minimum(1, np.maximum.accumulate(steps))
    adjusted[tested] = found
    return adjusted


def win_rates(differences: Array, directions: Array) -> Array:
    """Compute the fraction of defined differences in the better direction; ties count half.

    Args:
        differences (ndarray): (S, C), method minus baseline.
        directions (ndarray): (C,), 1 if higher is better, -1 if lower is.

    Returns:
        ndarray: (C,), NaN where no difference is defined.
    """
    defined = np.isfinite(differences)
    wins = np.where(defined, (np.sign(np.where(defined, differences, 0)) * directions + 1) / 2, 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(wins.sum(axis=0) / defined.sum(axis=0))


def significance(low: Array, high: Array, counts: NDArray[np.int64], directions: Array) -> NDArray[np.int64]:
    """Return 1 if the interval of a difference is on the better side of 0, -1 on the worse side, else 0.

    With fewer than :data:`MIN_PAIRS` images it is always 0: their interval extends to the extreme values, which are too
    often on one side of 0 by chance.

    Args:
        low (ndarray): lower ends (C,).
        high (ndarray): upper ends (C,).
        counts (ndarray): number of images with a pair, (C,).
        directions (ndarray): (C,), 1 if higher is better, -1 if lower is.

    Returns:
        ndarray: (C,) of int.
    """
    side = (low > 0).astype(np.int64) - (high < 0)
    return np.asarray(np.where(counts >= MIN_PAIRS, side * directions, 0), dtype=np.int64)


class Rankings(NamedTuple):
    """How well scores rank images by each of K classes; each entry ends in a value, its lower and its upper end.

    Args:
        auc (ndarray): areas under the ROC curves, (K, 3).
        average_precision (ndarray): average precisions, (K, 3).
        mean_auc (ndarray): mean area over the classes that have one, (3,).
        mean_average_precision (ndarray): mean average precision over the classes that have one, (3,).
    """

    auc: Array
    average_precision: Array
    mean_auc: Array
    mean_average_precision: Array


def ranking_intervals(
    scores: Array, shown: NDArray[np.bool_], known: NDArray[np.bool_], *, resamples: int = 1000, seed: int = 0
) -> Rankings:
    r"""Compute AUC and average precision of every class, and their means, with 95 % intervals from the bootstrap.

    .. math::

        \mathrm{AUC}_k = P(s_k(x^+) > s_k(x^-)) + \tfrac12 P(s_k(x^+) = s_k(x^-)), \qquad
        \mathrm{AP}_k = \sum_t (R_t - R_{t-1}) P_t

    over all pairs of an image :math:`x^+` that shows class k and one :math:`x^-` that does not; and over all thresholds t,
    the distinct scores from the highest, with recall :math:`R_t` and precision :math:`P_t`, without interpolation. AUC is
    undefined for a class that all images show or none, average precision for one that none shows; the means leave such
    classes out, in each resample anew. With few images of a class, its interval of average precision lies too high, because
    a resample has some of them several times.

    Cost: ``resamples`` x N x K, in steps of 16 MB; 2 s for 1000 images and 20 classes on one core.

    Args:
        scores (ndarray): (N, K) of N images; only their order within a class counts.
        shown (ndarray): whether an image shows a class, (N, K).
        known (ndarray): False where that is not known, which leaves the image out for this class, (N, K).
        resamples (int): number of resamples. Default: 1000
        seed (int): seed of the resamples. Default: 0

    Returns:
        Rankings: values with their intervals, NaN where undefined.
    """
    known = known & np.isfinite(scores)
    columns = [_Ranked.of(*each) for each in zip(scores.T, shown.T, known.T, strict=True)]
    values = _ranking(np.ones((1, len(scores))), columns)
    drawn = np.concatenate([_ranking(counts, columns) for counts in _counts(len(scores), resamples, seed)])
    table = np.full((3, *values.shape[1:]), np.nan)
    some = np.isfinite(values[0]) & np.isfinite(drawn).any(axis=0)
    table[0] = values[0]
    table[1:, some] = np.nanpercentile(drawn[:, some], _LIMITS, axis=0)
    auc, precision = np.moveaxis(table, 0, -1)
    return Rankings(auc[:-1], precision[:-1], auc[-1], precision[-1])


class _Ranked(NamedTuple):
    """The images for which a class is known, from the highest score: their places, whether they show it, ends of ties."""

    places: NDArray[np.int64]
    shown: NDArray[np.bool_]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, scores: Array, shown: NDArray[np.bool_], known: NDArray[np.bool_]) -> _Ranked:
        places = np.flatnonzero(known)
        places = places[np.argsort(-scores[places], kind="stable")]
        ordered = scores[places]
        return cls(places, shown[places], np.flatnonzero(np.append(ordered[1:] != ordered[:-1], len(ordered) > 0)))


def _ranking(counts: Array, columns: Sequence[_Ranked]) -> Array:
    """Compute AUC and average precision of all classes, and last their means, in each resample, (R, 2, K + 1)."""
    each = np.stack([np.stack(_areas(counts, column), axis=1) for column in columns], axis=2)
    defined = np.isfinite(each)
    with np.errstate(invalid="ignore"):
        mean = np.where(defined, each, 0).sum(axis=2) / defined.sum(axis=2)
    return np.concatenate([each, mean[:, :, None]], axis=2)


def _areas(counts: Array, column: _Ranked) -> tuple[Array, Array]:
    """Compute AUC and average precision of a class, (R,) each; ``counts`` (R, N) say how often each image is drawn."""
    drawn = counts[:, column.places]
    # The hits and false alarms at every threshold; images of one score pass it together.
    hits = np.where(column.shown, drawn, 0).cumsum(axis=1)[:, column.ends]
    alarms = np.where(column.shown, 0, drawn).cumsum(axis=1)[:, column.ends]
    more_hits, more_alarms = (np.diff(total, axis=1, prepend=0) for total in (hits, alarms))
    inside, outside = more_hits.sum(axis=1), more_alarms.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (more_alarms * (hits - more_hits / 2)).sum(axis=1) / (inside * outside)
        # A threshold that no drawn image passes has no precision, and adds no recall.
        precision = np.where(more_hits > 0, more_hits * hits / (hits + alarms), 0).sum(axis=1) / inside
    return area, precision


def mean_ranks(means: Array, directions: Array) -> Array:
    """Rank the methods under each metric, 1 for the best; ties share their mean rank.

    Args:
        means (ndarray): (M, K) of M methods and K metrics.
        directions (ndarray): (K,), 1 if higher is better, -1 if lower is.

    Returns:
        ndarray: (M, K), NaN where the mean is NaN.
    """
    return np.asarray(rankdata(-means * directions, axis=0, nan_policy="omit"), dtype=np.float64)


def rank_agreement(one: Array, other: Array) -> Array:
    r"""Compute Kendall's tau-b :cite:`kendall1945ties` between two rankings of the methods in each sample.

    .. math::

        \tau = \frac{\sum_{i<j} a_{ij} b_{ij}}{\sqrt{\sum_{i<j} a_{ij}^2 \sum_{i<j} b_{ij}^2}}, \qquad
        a_{ij} = \operatorname{sign}(x_i - x_j), \quad b_{ij} = \operatorname{sign}(y_i - y_j)

    1 for equal rankings, -1 for reversed ones; without ties, (1 + tau) / 2 of the pairs have the same order.

    Args:
        one (ndarray): scores x of M methods in S samples, (S, M); NaN leaves a method out of the sample.
        other (ndarray): scores y, (S, M).

    Returns:
        ndarray: (S,), NaN where one of them ranks nothing.
    """
    orders = [_orders(np.where(np.isfinite(one) & np.isfinite(other), each, np.nan)) for each in (one, other)]
    products = np.nansum(orders[0] * orders[1], axis=1)
    squares = [np.nansum(order**2, axis=1) for order in orders]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(products / np.sqrt(squares[0] * squares[1]))


def _orders(scores: Array) -> Array:
    """Return the sign of the difference of every pair of methods, (S, pairs)."""
    first, second = np.triu_indices(scores.shape[1], 1)
    differences = scores[:, first] - scores[:, second]
    largest = np.abs(scores[np.isfinite(scores)]).max(initial=0)
    return np.asarray(np.where(np.abs(differences) <= _ROUNDING * largest, 0, np.sign(differences)))


def krippendorff_alpha(scores: Array) -> float:
    """Compute Krippendorff's alpha :cite:`krippendorff2019content` of metrics that rank the same methods.

    The metrics are the raters, each method of each sample is a unit, and its ordinal value is its rank within the sample. 1
    means that all metrics rank alike, 0 that they agree as far as chance does.

    Args:
        scores (ndarray): (S, M, K) of S samples, M methods and K metrics, more is better; NaN where undefined.

    Returns:
        float: alpha; NaN for fewer than two metrics, or where no two of them rank the same methods.
    """
    import krippendorff  # only where it is used

    samples, methods, metrics = scores.shape
    whole = np.isfinite(scores).all(axis=1, keepdims=True)
    ranks = np.where(whole, rankdata(np.where(np.isfinite(scores), -scores, 0), axis=1), np.nan)
    units = ranks.transpose(2, 0, 1).reshape(metrics, samples * methods)
    pairable = units[:, np.isfinite(units).sum(axis=0) > 1]
    if len(np.unique(pairable[np.isfinite(pairable)])) < 2:
        return math.nan
    return float(krippendorff.alpha(reliability_data=units, level_of_measurement="ordinal"))


def wilcoxon_p_values(differences: Array) -> Array:
    """Test whether each column is symmetric around 0, by Wilcoxon's signed-rank test :cite:`wilcoxon1945individual`.

    Args:
        differences (ndarray): (S, C); NaN where undefined.

    Returns:
        ndarray: two-sided p-values (C,), 1 where all differences are 0, NaN where none is defined.
    """
    columns = [column[np.isfinite(column)] for column in differences.T]
    return np.array(
        [float(wilcoxon(column).pvalue) if column.any() else (1.0 if len(column) else math.nan) for column in columns]
    )


def best(means: Array, directions: Array) -> NDArray[np.bool_]:
    """Return whether no other mean of the metric is better, False for NaN; arguments as for :func:`mean_ranks`."""
    signed = means * directions
    # fmax ignores NaN, and unlike nanmax does not warn of a metric without any mean.
    return np.asarray(signed == np.fmax.reduce(signed, axis=0))


def shown(means: Array) -> Array:
    """Round means (M, K) as in tables, so that means that look equal count as equal."""
    return np.stack([column.round(decimals(column)) for column in means.T], axis=1)


def visible(means: Array, others: Array, differences: Array, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether the printed digits show a difference, in both means as well as by itself.

    Means over other samples than the pairs may differ the other way round, and a mark would contradict them.

    Args:
        means (ndarray): rounded for tables, (C,).
        others (ndarray): those that they are compared with, rounded for tables, (C,).
        differences (ndarray): the paired differences, (C,).
        places (ndarray): number of decimals, (C,).
    """
    rounded = [round(value, digits) for value, digits in zip(differences.tolist(), places.tolist(), strict=True)]
    return np.asarray(np.sign(means - others) * np.sign(rounded) > 0)


def decimals(values: Array) -> int:
    """Return the number of decimals for the values of a metric: three, more if all are below 0.1, fewer from 100 on.

    Args:
        values (ndarray): means, of any shape; NaN is ignored.

    Returns:
        int: number of decimals.
    """
    largest = np.abs(values[np.isfinite(values)]).max(initial=0)
    if not largest:
        return 3
    power = math.floor(math.log10(largest))
    # Three significant digits below 0.1, at most five from 100 on.
    return min(3, max(0, 4 - power)) if power >= -1 else 2 - power
