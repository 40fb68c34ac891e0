"""How far the ranks of methods move when a metric replaces the removed parts of an image by something else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_softcam.evaluation.statistics import resampled_means

__all__ = ["RankShift", "rank_shifts"]

_LIMITS = (2.5, 97.5)

Array = NDArray[np.float64]


class RankShift(NamedTuple):
    """Ranks of methods under one metric with two baselines.

    Args:
        metric (str): name of the metric without a baseline.
        baseline, other (str): the baselines.
        tau, low, high (float): Kendall's tau between the ranks of the methods, and its 95 % interval over images.
        method (str): the method whose rank moves most, the first of them; empty if none moves.
        rank, other_rank (float): its ranks; NaN if none moves.
    """

    metric: str
    baseline: str
    other: str
    tau: float
    low: float
    high: float
    method: str
    rank: float
    other_rank: float


def rank_shifts(
    scores: Array,
    ranks: Array,
    methods: Sequence[str],
    metrics: Mapping[str, Mapping[str, Any]],
    images: Sequence[Hashable] | None = None,
) -> list[RankShift]:
    r"""Compare the ranks of methods under every metric that was measured with several baselines, pair by pair.

    .. math:: \tau_b = \frac{\sum_{i < j} \mathrm{sign}(r_i - r_j)\, \mathrm{sign}(q_i - q_j)}
        {\sqrt{\sum_{i < j} \mathrm{sign}^2(r_i - r_j) \sum_{i < j} \mathrm{sign}^2(q_i - q_j)}}

    with the ranks r and q of the methods that have both. The interval is that of the bootstrap over images, in which means
    are not rounded; resampled means scatter more than the means themselves, so that it lies rather low.

    Args:
        scores (ndarray): (S, M, K) of S samples, M methods and K metrics.
        ranks (ndarray): ranks of the methods, (M, K), NaN where undefined.
        methods (sequence of str): their names.
        metrics (mapping): the entry of each metric in the manifest, with its settings and direction.
        images (sequence): name of the image of each sample. Default: None, each has its own

    Returns:
        list of RankShift: one for each metric and pair of its baselines, in the order of the metrics.
    """
    columns: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for place, (name, entry) in enumerate(metrics.items()):
        if baseline := entry.get("settings", {}).get("perturb_baseline"):
            columns[name.partition("@")[0]].append((str(baseline), place))
    found = []
    for metric, each in columns.items():
        if len(each) == 1:
            continue
        places = [place for _, place in each]
        directions = np.array([1.0 if metrics[[*metrics][place]]["higher_is_better"] else -1.0 for place in places])
        means = resampled_means(scores[:, :, places].reshape(len(scores), -1), images)
        drawn = means.reshape(len(means), len(methods), len(places)) * directions
        for (i, (one, first)), (j, (other, second)) in combinations(enumerate(each), 2):
            tau = float(_taus(ranks[None, :, first], ranks[None, :, second])[0])
            taus = _taus(-drawn[:, :, i], -drawn[:, :, j])
            low, high = np.nanpercentile(taus, _LIMITS) if np.isfinite(taus).any() else (np.nan, np.nan)
            moved = _largest_move(methods, ranks[:, first], ranks[:, second])
            found.append(RankShift(metric, one, other, tau, float(low), float(high), *moved))
    return found


def _taus(first: Array, second: Array) -> Array:
    """Compute Kendall's tau-b of each row (R, M), NaN where one side orders nothing."""
    i, j = np.triu_indices(first.shape[1], 1)
    # A method without a rank takes part in no pair.
    one, other = (np.nan_to_num(np.sign(each[:, i] - each[:, j])) for each in (first, second))
    known = np.isfinite(first + second)
    both = known[:, i] & known[:, j]
    one, other = one * both, other * both
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((one * other).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1)))


def _largest_move(methods: Sequence[str], first: Array, second: Array) -> tuple[str, float, float]:
    moves = np.nan_to_num(np.abs(first - second))
    if not moves.any():
        return "", np.nan, np.nan
    place = int(moves.argmax())
    return methods[place], float(first[place]), float(second[place])
