"""Complexity: how much of the image the map marks."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_softcam.metrics.functional._edges import activation, cells, nan_if_flat, nan_if_not_positive, refuse_other_maps

__all__ = ["map_complexity", "sparseness"]


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
