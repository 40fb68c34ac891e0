"""Similarity with maps of randomised networks and of other classes, from which a map that depends on the model differs.

A map that ignores the model, as that of an edge detector, has similarity 1 in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from captum_softcam._maps import rescale
from captum_softcam.metrics.functional._correlation import mean_ranks, pearson
from captum_softcam.metrics.functional._edges import cells, nan_if_flat, refuse_other_maps, wide

__all__ = ["mprt", "mprt_ssim", "random_logit", "structural_similarity"]

_DEVIATION = 1.5  # of the Gaussian window
_REACH = 5  # positions on either side, as far as a side has them
_CONSTANTS = 0.01**2, 0.03**2


def mprt(maps: Tensor, randomised_maps: Sequence[Tensor]) -> Tensor:
    r"""Compute the mean rank correlation with the maps of randomised networks :cite:p:`adebayo2018sanity`; lower is better.

    .. math:: \frac{1}{S} \sum_{s=1}^{S} \mathrm{spearman}(A, A_s)

    with the map :math:`A` of the model and the signed map :math:`A_s` of the network of stage :math:`s`, in which the
    weights of more and more layers are random, from the output to the input (cascading), or those of one stage alone
    (independent), see :class:`~captum_softcam.metrics.RandomisedModels`. This is the model parameter randomisation test. A
    map that does not depend on the weights has the score 1, one that has nothing left in common with its random versions
    about 0. A low score says that a map depends on the model, and not that it is right: random maps that are drawn anew for
    every network have the score 0.

    Departures from the paper: few stages of several layers, whose mean is one score; signed maps. NaN where any of the maps
    ranks nothing.

    Args:
        maps (Tensor): (N, 1, ...), of the model.
        randomised_maps (sequence of Tensor): of each stage, like ``maps``.

    Returns:
        Tensor: (N,), in [-1, 1]. Cost: no forward here, but an attribution per stage by the caller.

    Raises:
        ValueError: if there is no stage, or the maps are not (N, 1, ...) of one shape.
    """
    return _mean_similarity(_rank_correlations, maps, randomised_maps)


def mprt_ssim(maps: Tensor, randomised_maps: Sequence[Tensor]) -> Tensor:
    """Compute the mean :func:`structural_similarity` with the maps of randomised networks; lower is better.

    It is :func:`mprt` with another similarity, which compares neighbourhoods :cite:p:`adebayo2018sanity`. Wherever both maps
    hardly vary they count as similar, so that maps of a few peaks have high scores: compare them with the controls.

    Args:
        maps (Tensor): (N, 1, ...), of the model.
        randomised_maps (sequence of Tensor): of each stage, like ``maps``.

    Returns:
        Tensor: (N,), in [-1, 1]; NaN where any of the maps ranks nothing. Cost: no forward here, but an attribution per
        stage by the caller.

    Raises:
        ValueError: if there is no stage, or the maps are not (N, 1, ...) of one shape.
    """
    return _mean_similarity(_structural_similarities, maps, randomised_maps)


def random_logit(maps: Tensor, other_maps: Tensor) -> Tensor:
    r"""Compute the rank correlation with the map of another class :cite:p:`sixt2020explanations`; lower is better.

    .. math:: \mathrm{spearman}(A_c, A_{c'})

    with the signed map :math:`A_c` of the explained class and that of another class :math:`c'`, drawn at random. A map that
    does not depend on the class has the score 1; classes that are recognised by the same positions have similar maps for a
    good reason. Where a model has two classes, a map of one may be the negative of the other, and the score is -1.

    Departure from the paper: it measures the structural similarity of magnitudes. NaN where either map ranks nothing.

    Args:
        maps (Tensor): (N, 1, ...), of the explained class.
        other_maps (Tensor): of the other class, like ``maps``.

    Returns:
        Tensor: (N,), in [-1, 1]. Cost: no forward here, but a second attribution by the caller.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of one shape.
    """
    return _mean_similarity(_rank_correlations, maps, [other_maps])


def other_classes(targets: Tensor, classes: int, seeds: Sequence[int], *, seed: int = 0) -> Tensor:
    """Draw another class for each sample, all with equal probability.

    Args:
        targets (Tensor): (N,), the class that is not drawn.
        classes (int): number of classes, at least 2.
        seeds (sequence of int): one per sample, so that its class does not depend on the batch.
        seed (int): of the whole draw. Default: 0

    Returns:
        Tensor: (N,), like ``targets``.

    Raises:
        ValueError: if there is no other class.
    """
    if classes < 2:
        raise ValueError(f"there is no other class among {classes}; expected 2 classes or more.")
    steps = [int(np.random.default_rng([each, seed]).integers(1, classes)) for each in seeds]
    return (targets + torch.tensor(steps, device=targets.device)) % classes


def structural_similarity(maps: Tensor, others: Tensor) -> Tensor:
    r"""Compute the structural similarity of maps :cite:p:`wang2004ssim`, 1 for equal ones.

    .. math:: \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}{(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}

    with means, variances and the covariance of both maps in a Gaussian window, 1.5 positions wide, that reaches 5 positions
    to each side (fewer where a side of the map is shorter than 11), averaged over all windows within the map;
    :math:`c_1 = 0.01^2`, :math:`c_2 = 0.03^2`. Each map is first scaled to [0, 1] by its own minimum and maximum: of signed
    values a map and its negative would be equal, because both factors change their signs.

    Args:
        maps (Tensor): (N, 1, ...).
        others (Tensor): like ``maps``.

    Returns:
        Tensor: (N,), in [-1, 1]; NaN where either map ranks nothing. Cost: no forward.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of one shape.
    """
    _refuse_other_shapes(maps, others)
    scores = _structural_similarities(maps, [others])[0]
    return _as_score(nan_if_flat(nan_if_flat(scores, maps), others), maps)


def _rank_correlations(maps: Tensor, others: Sequence[Tensor]) -> list[Tensor]:
    ranks = mean_ranks(cells(maps))
    return [pearson(ranks, mean_ranks(cells(each))) for each in others]


def _structural_similarities(maps: Tensor, others: Sequence[Tensor]) -> list[Tensor]:
    x = rescale(wide(maps))
    mean_x, square_x = _blurred(x), _blurred(x * x)
    of_means, of_deviations = _CONSTANTS
    scores = []
    for each in others:
        y = rescale(wide(each))
        mean_y = _blurred(y)
        variances = square_x - mean_x**2 + _blurred(y * y) - mean_y**2
        covariance = _blurred(x * y) - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + of_means) / (mean_x**2 + mean_y**2 + of_means)
        structure = (2 * covariance + of_deviations) / (variances + of_deviations)
        scores.append((luminance * structure).flatten(1).mean(1))
    return scores


def _mean_similarity(
    similarities: Callable[[Tensor, Sequence[Tensor]], list[Tensor]], maps: Tensor, others: Sequence[Tensor]
) -> Tensor:
    if not len(others):
        raise ValueError("there are no maps of randomised networks; expected one stage or more.")
    for each in others:
        _refuse_other_shapes(maps, each)
    found = zip(similarities(maps, others), others, strict=True)
    scores = torch.stack([nan_if_flat(values, each) for values, each in found]).mean(0)
    return _as_score(nan_if_flat(scores, maps), maps)


def _as_score(values: Tensor, maps: Tensor) -> Tensor:
    return values.to(torch.promote_types(maps.dtype, torch.float32))


def _refuse_other_shapes(maps: Tensor, others: Tensor) -> None:
    refuse_other_maps(maps)
    if maps.shape != others.shape:
        raise ValueError(f"maps are {tuple(maps.shape)} and {tuple(others.shape)}; expected one shape.")


def _blurred(maps: Tensor) -> Tensor:
    """Average maps in a Gaussian window, at every position where the window is within the map."""
    for dim in range(2, maps.dim()):
        reach = min(_REACH, (maps.shape[dim] - 1) // 2)
        bell = [math.exp(-((i / _DEVIATION) ** 2) / 2) for i in range(-reach, reach + 1)]
        side = maps.shape[dim] - 2 * reach
        blurred = torch.zeros_like(maps.narrow(dim, 0, side))
        for i, weight in enumerate(bell):
            blurred.add_(maps.narrow(dim, i, side), alpha=weight / sum(bell))
        maps = blurred
    return maps
