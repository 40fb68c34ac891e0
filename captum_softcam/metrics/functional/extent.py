"""Complexity: how much of the image the map marks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_softcam._names import quoted
from captum_softcam._scores import Scores
from captum_softcam.metrics.functional._edges import (
    activation,
    cells,
    nan_if_flat,
    nan_if_not_positive,
    refuse_other_maps,
    wide,
)
from captum_softcam.metrics.functional._grid import grid
from captum_softcam.metrics.functional.perturbation import insertion_curve, step_fractions

__all__ = ["complexity", "effective_complexity", "map_complexity", "sparseness"]


def complexity(maps: Tensor) -> Tensor:
    r"""Compute the entropy of the map's magnitudes :cite:p:`bhatt2020evaluating`; lower is better.

    .. math:: -\sum_p q_p \ln q_p, \qquad q_p = \frac{|A_p|}{\sum_{p'} |A_{p'}|}

    From 0 for a single position to :math:`\ln n` for equal magnitudes at all *n* positions, in nats; compare it at one
    resolution. Equals ``quantus.Complexity`` for magnitudes, its default. (With ``abs=False`` the latter takes the logarithm
    of negative values, which is NaN.)

    Args:
        maps (Tensor): (N, 1, ...).

    Returns:
        Tensor: (N,), in [0, ln n]; NaN for maps that rank nothing. Cost: no forward.

    Raises:
        ValueError: if the maps are not (N, 1, ...).
    """
    refuse_other_maps(maps)
    values = wide(maps).flatten(1).abs()
    fractions = values / values.sum(1, keepdim=True)
    return nan_if_flat(-torch.special.xlogy(fractions, fractions).sum(1), maps)


def effective_complexity(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Tensor,
    *,
    patches: int | Sequence[int] | None = 16,
    steps: int = 16,
    tolerance: float = 0.1,
    scores: Scores = "softmax",
) -> Tensor:
    r"""Compute the smallest fraction of the image, strongest first, that the model needs :cite:p:`nguyen2020quantitative`.

    .. math:: \min \left\{ \frac{k}{n} :\; p(x_k) \ge (1 - \tau)\, p(x) \right\}

    with the probability :math:`p` of the class, the image :math:`x_k` that shows the *k* strongest of *n* patches upon the
    baseline, and the tolerance :math:`\tau`. Lower is better; 0 where the baseline alone suffices, whatever the map.
    It is the first point of the :func:`insertion_curve` that is as high as the end.

    Departures from the paper, which averages over several contents of what is not shown, here the baseline, and ranks by
    magnitude: negative relevance is against the class and is shown last. (Quantus counts the values above 1e-5: it never
    runs the model, and a map that is multiplied by 1000 is more complex.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor): image before anything is shown, (N, C, ...) or broadcastable to it.
        patches (int or sequence of int): per side, or along each dimension; None for single positions. Default: 16
        steps (int): number of steps from none of the image to all of it. Default: 16
        tolerance (float): fraction of the probability that may be lost. Default: 0.1
        scores (str or callable): how the outputs become probabilities, see :func:`as_scores`. Default: ``"softmax"``

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing. Cost: ``steps + 1`` forwards.

    Raises:
        ValueError: as :func:`insertion_curve` does, and if the tolerance is not in [0, 1).
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be a fraction in [0, 1); got {quoted(tolerance)}.")
    curve = insertion_curve(forward_func, images, maps, targets, baseline, patches=patches, steps=steps, scores=scores)
    # Scores of a regression may be negative: the loss is measured by their magnitude.
    whole = curve[:, -1:]
    enough = curve >= whole - tolerance * whole.abs()
    fractions = step_fractions(grid(maps.shape[2:], patches), patches=None, steps=steps).to(curve)
    first = fractions[enough.to(torch.uint8).argmax(1)]
    return first.masked_fill(whole[:, 0].isnan(), math.nan)


def map_complexity(maps: Tensor) -> Tensor:
    r"""Compute the fraction of the image that the map marks :cite:p:`poppi2021adcc`; lower is better.

    .. math:: \frac{1}{n} \sum_p S_p, \qquad S = \mathrm{minmax}(\max(A, 0))

    with the map :math:`A` of *n* positions. NaN where no relevance is positive. ``quantus.Complexity`` is another
    measure, an entropy.

    Args:
        maps (Tensor): (N, 1, ...).

    Returns:
        Tensor: (N,), in (0, 1). Cost: no forward.

    Raises:
        ValueError: if the maps are not (N, 1, ...).
    """
    refuse_other_maps(maps)
    return nan_if_not_positive(activation(maps).mean(1), maps)


def sparseness(maps: Tensor) -> Tensor:
    r"""Compute the Gini index of the magnitudes :cite:p:`hurley2009sparsity,chalasani2020concise`; higher is sparser.

    .. math:: \frac{\sum_{i=1}^{n} (2 i - n - 1)\, a_{(i)}}{n \sum_{i=1}^{n} a_{(i)}}

    with the magnitudes :math:`a_{(1)} \le \dots \le a_{(n)}` of a map's *n* values: 0 if all are equal, :math:`1 - 1/n` if a
    single one is not 0. (Quantus adds 1e-7 to every value, which distorts the score of small ones.)

    Args:
        maps (Tensor): (N, 1, ...).

    Returns:
        Tensor: (N,), in [0, 1); NaN for maps that rank nothing. Cost: no forward.

    Raises:
        ValueError: if the maps are not (N, 1, ...).
    """
    refuse_other_maps(maps)
    values = cells(maps).abs().sort(1).values
    n = values.shape[1]
    weights = 2 * torch.arange(1, n + 1, device=maps.device, dtype=values.dtype) - n - 1
    return nan_if_flat((values * (weights / n)).sum(1) / values.sum(1), maps)
