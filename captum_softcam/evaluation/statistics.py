"""Statistics of scores: intervals of means, wins against a baseline and ranks, as pure functions of arrays.

An undefined score is NaN. An infinite score counts as undefined, because it would make every mean infinite. Samples of one
image are not independent, so that intervals resample images, and verdicts count them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

__all__ = [
    "MIN_PAIRS",
    "Rankings",
    "best",
    "count_images",
    "decimals",
    "mean_intervals",
    "mean_ranks",
    "ranking_intervals",
    "shown",
    "significance",
    "win_rates",
]

MIN_PAIRS = 6
"""Minimum number of images for a difference: five fair coins agree by chance in 1 of 16 throws, six in 1 of 32."""

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


def _counts(images: int, resamples: int, seed: int) -> Iterator[Array]:
    """Yield how often each image is drawn, (resamples of one step, G)."""
    rng = np.random.default_rng(seed)
    step = max(1, _MEMORY // (8 * images))
    for start in range(0, resamples, step):
        drawn = rng.integers(0, images, (min(step, resamples - start), images), dtype=np.int32)
        yield np.stack([np.bincount(row, minlength=images) for row in drawn]).astype(np.float64)


def _means(counts: Array, sums: Array, sizes: Array) -> Array:
    """Compute the means of all columns in each resample, NaN where no defined value was drawn."""
    with np.errstate(invalid="ignore"):
        # A product with counts, because sums[drawn] would copy (G, C) for every resample.
        return np.asarray(counts @ sums / (counts @ sizes))


def count_images(defined: NDArray[np.bool_], images: Sequence[Hashable] | None = None) -> NDArray[np.int64]:
    """Count the images with a defined value in each column.

    Args:
        defined (ndarray): whether a value is defined, (S, C).
        images (sequence): name of the image of each sample. Default: None, each has its own

    Returns:
        ndarray: (C,) of int.
    """
    return np.asarray((_per_image(defined.astype(np.float64), _clusters(images)) > 0).sum(axis=0), dtype=np.int64)


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


def best(means: Array, directions: Array) -> NDArray[np.bool_]:
    """Return whether no other mean of the metric is better, False for NaN; arguments as for :func:`mean_ranks`."""
    signed = means * directions
    # fmax ignores NaN, and unlike nanmax does not warn of a metric without any mean.
    return np.asarray(signed == np.fmax.reduce(signed, axis=0))


def shown(means: Array) -> Array:
    """Round means (M, K) as in tables, so that means that look equal count as equal."""
    return np.stack([column.round(decimals(column)) for column in means.T], axis=1)


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
