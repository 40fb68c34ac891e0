"""Localisation: whether the map lies on the mask."""

from __future__ import annotations

import math
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_softcam._names import quoted
from captum_softcam.metrics.functional._edges import activation, cells, nan_if_nothing_to_find, refuse_other_masks
from captum_softcam.metrics.functional._grid import grid, patch_means

__all__ = [
    "activation_precision",
    "activation_sensitivity",
    "energy_based_pointing_game",
    "iou_at_best_threshold",
    "pixel_auc",
    "pointing_game",
    "relevance_mass_accuracy",
    "relevance_rank_accuracy",
    "top_k_intersection",
    "top_k_localisation_precision",
]


def activation_precision(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Compute the fraction of the activation that lies on the mask :cite:p:`djoumessi2026softcam`; higher is better.

    .. math:: \frac{\sum_p S_p M_p}{\sum_p S_p}, \qquad S = \mathrm{minmax}(\max(A, 0))

    with map :math:`A` and mask :math:`M`. NaN where no relevance is positive. Differs from
    :func:`relevance_mass_accuracy` where all values are positive: the lowest one counts as 0 here.

    Args:
        maps (Tensor): (N, 1, ...).
        masks (Tensor): (N, 1, ...) bool.

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing and for empty masks.

    Raises:
        ValueError: if maps and masks are not (N, 1, ...) of one shape.
        TypeError: if the masks are not bool.
    """
    refuse_other_masks(maps, masks)
    return _fraction_of_mass(activation(maps), maps, masks)


def activation_sensitivity(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Compute the fraction of the mask that is activated :cite:p:`djoumessi2026softcam`; :math:`S` as for the precision.

    .. math:: \frac{\sum_p S_p M_p}{\sum_p M_p}

    Higher is better, but a map that is high everywhere reaches 1: read it together with the precision. 0 where no relevance
    is positive.

    Args:
        maps (Tensor): (N, 1, ...).
        masks (Tensor): (N, 1, ...) bool.

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing and for empty masks.

    Raises:
        ValueError: if maps and masks are not (N, 1, ...) of one shape.
        TypeError: if the masks are not bool.
    """
    refuse_other_masks(maps, masks)
    inside = masks.flatten(1)
    return nan_if_nothing_to_find((activation(maps) * inside).sum(1) / inside.sum(1), maps, masks)


def pointing_game(maps: Tensor, masks: Tensor, *, tolerance: float = 0.0) -> Tensor:
    """Test whether the highest value of the map lies on the mask, 1 or 0 :cite:p:`zhang2018pointing`; higher is better.

    If several positions are equally high, the score is the fraction of them on the mask, the expected value for one drawn at
    random. (Quantus counts a hit if any of them is on the mask, even for a flat map.)

    Args:
        maps (Tensor): (N, 1, ...).
        masks (Tensor): (N, 1, ...) bool.
        tolerance (float): largest distance from the mask that counts as a hit: Euclidean, in positions, to the nearest
            position of the mask. The paper uses 15 on images of their original size. Default: 0.0

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing and for empty masks.

    Raises:
        ValueError: if maps and masks are not (N, 1, ...) of one shape, or the tolerance is negative.
        TypeError: if the masks are not bool.
    """
    refuse_other_masks(maps, masks)
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be >= 0; got {quoted(tolerance)}.")
    one = torch.ones(len(maps), dtype=torch.long, device=maps.device)
    fractions = _fraction_of_highest(cells(maps), _near(masks, tolerance).flatten(1), one)
    return nan_if_nothing_to_find(fractions, maps, masks)


def relevance_mass_accuracy(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Compute the fraction of the positive relevance that lies on the mask :cite:p:`arras2022clevr`; higher is better.

    .. math:: \frac{\sum_p R_p M_p}{\sum_p R_p}, \qquad R = \max(A, 0)

    with map :math:`A` and mask :math:`M`. NaN where no relevance is positive. (Quantus sums negative values as they are:
    pass it the positive part.)

    Args:
        maps (Tensor): (N, 1, ...).
        masks (Tensor): (N, 1, ...) bool.

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing and for empty masks.

    Raises:
        ValueError: if maps and masks are not (N, 1, ...) of one shape.
        TypeError: if the masks are not bool.
    """
    refuse_other_masks(maps, masks)
    return _fraction_of_mass(cells(maps).relu(), maps, masks)


def energy_based_pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Compute the fraction of the positive relevance that lies on the mask :cite:p:`wang2020scorecam`; higher is better.

    The same number as :func:`relevance_mass_accuracy`, under its name in the literature on class activation maps. The paper
    sums within the bounding boxes of the class: see :func:`boxes_to_masks`.

    Args:
        maps (Tensor): (N, 1, ...).
        masks (Tensor): (N, 1, ...) bool.

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing and for empty masks.

    Raises:
        ValueError: if maps and masks are not (N, 1, ...) of one shape.
        TypeError: if the masks are not bool.
    """
    return relevance_mass_accuracy(maps, masks)


def relevance_rank_accuracy(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Compute the fraction of the highest positions that lie on the mask :cite:p:`arras2022clevr`; higher is better.

    .. math:: \frac{|\mathrm{top}_{|M|}(A) \cap M|}{|M|}

    with map :math:`A` and mask :math:`M`: as many positions as the mask has. For ties, the expected value.

    Args:
        maps (Tensor): (N, 1, ...).
        masks (Tensor): (N, 1, ...) bool.

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing and for empty masks.

    Raises:
        ValueError: if maps and masks are not (N, 1, ...) of one shape.
        TypeError: if the masks are not bool.
    """
    return top_k_intersection(maps, masks, k=1.0)


def top_k_intersection(maps: Tensor, masks: Tensor, *, k: float = 0.5) -> Tensor:
    r"""Compute the fraction of the *k* highest positions on the mask :cite:p:`theiner2022geolocation`; higher is better.

    .. math:: \frac{|\mathrm{top}_K(A) \cap M|}{K}, \qquad K = \mathrm{round}(k |M|)

    with map :math:`A` and mask :math:`M`. :math:`K`, at least 1, grows with the mask: a fixed number of positions, as in
    Quantus, exceeds a small mask and covers little of a large one. For ties, the expected value.

    Args:
        maps (Tensor): (N, 1, ...).
        masks (Tensor): (N, 1, ...) bool.
        k (float): number of highest positions, as a multiple of the positions of the mask; 1 is the
            :func:`relevance_rank_accuracy`. Default: 0.5

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing and for empty masks.

    Raises:
        ValueError: if maps and masks are not (N, 1, ...) of one shape, or ``k`` is not positive.
        TypeError: if the masks are not bool.
    """
    refuse_other_masks(maps, masks)
    if not k > 0:
        raise ValueError(f"k must be > 0, a multiple of the size of the mask; got {quoted(k)}.")
    inside = masks.flatten(1)
    # torch.round would round halves to even numbers.
    # At least 1, also for an empty mask, because gather raises an error for the place -1.
    counts = (inside.sum(1) * k + 0.5).long().clamp(1, inside.shape[1])
    return nan_if_nothing_to_find(_fraction_of_highest(cells(maps), inside, counts), maps, masks)


def top_k_localisation_precision(maps: Tensor, masks: Tensor, *, k: int = 10, patches: int | None = 16) -> Tensor:
    """Compute the fraction of the *k* highest patches that touch the mask :cite:p:`djoumessi2026softcam`; higher is better.

    The map is cut into patches, which are ranked by their means; a patch touches the mask if one of its positions lies on
    it. The paper's patches are the cells of its evidence map: use as many per side. For ties,
    the expected value.

    Args:
        maps (Tensor): (N, 1, ...).
        masks (Tensor): (N, 1, ...) bool.
        k (int): number of highest patches. Default: 10
        patches (int): per side; None for single positions. Default: 16

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing and for empty masks.

    Raises:
        ValueError: if maps and masks are not (N, 1, ...) of one shape, if a side has fewer positions than patches, or ``k``
            is not a number of patches.
        TypeError: if the masks are not bool.
    """
    refuse_other_masks(maps, masks)
    counts = grid(maps.shape[2:], patches)
    if not 1 <= k <= math.prod(counts):
        raise ValueError(f"k must be from 1 to the number of patches, {math.prod(counts)}; got {quoted(k)}.")
    means, touching = patch_means(maps, counts).flatten(1), patch_means(masks, counts).flatten(1) > 0
    fractions = _fraction_of_highest(means, touching, torch.full((len(maps),), k, device=maps.device))
    # The means are float64, see wide(); the score has the precision of the map.
    return nan_if_nothing_to_find(fractions.to(cells(maps).dtype), maps, masks)


def iou_at_best_threshold(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Compute the intersection over union of mask and map at the best threshold :cite:p:`choe2020wsol`; higher is better.

    .. math:: \max_t \frac{|\{A \ge t\} \cap M|}{|\{A \ge t\} \cup M|}

    with map :math:`A`, mask :math:`M` and all values of the map as :math:`t`. The threshold is chosen per sample, not for
    the whole data set as in the paper: the score is an upper bound of what a common threshold reaches. It is at least the
    fraction of positions on the mask, the score at the lowest threshold.

    Args:
        maps (Tensor): (N, 1, ...).
        masks (Tensor): (N, 1, ...) bool.

    Returns:
        Tensor: (N,), in (0, 1]; NaN for maps that rank nothing and for empty masks.

    Raises:
        ValueError: if maps and masks are not (N, 1, ...) of one shape.
        TypeError: if the masks are not bool.
    """
    refuse_other_masks(maps, masks)
    # Each threshold selects the first positions of the sorted map, so that one sort serves all thresholds.
    values, order = cells(maps).sort(1, descending=True)
    inside = masks.flatten(1)
    both = inside.gather(1, order).cumsum(1).to(values.dtype)
    taken = torch.arange(1, values.shape[1] + 1, device=maps.device)
    split = F.pad(values[:, :-1] == values[:, 1:], (0, 1))  # no threshold separates equal values
    ratios = both / (taken + inside.sum(1, keepdim=True) - both)
    return nan_if_nothing_to_find(ratios.masked_fill(split, 0).amax(1), maps, masks)


def pixel_auc(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Compute the chance that a position on the mask is higher than one outside :cite:p:`fawcett2006roc`; higher is better.

    .. math:: \frac{1}{|M| |\bar M|} \sum_{p \in M} \sum_{q \notin M} \left([A_p > A_q] + \tfrac12 [A_p = A_q]\right)

    with map :math:`A` and mask :math:`M`: the area under the ROC curve of the map as a classifier of positions, 0.5 for a
    random map. NaN for a full mask as well.

    Args:
        maps (Tensor): (N, 1, ...).
        masks (Tensor): (N, 1, ...) bool.

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing and for empty masks.

    Raises:
        ValueError: if maps and masks are not (N, 1, ...) of one shape.
        TypeError: if the masks are not bool.
    """
    refuse_other_masks(maps, masks)
    values, inside = cells(maps), masks.flatten(1)
    ranked = values.sort(1).values
    below, not_above = (torch.searchsorted(ranked, values, right=right) for right in (False, True))
    within = inside.sum(1)
    # Twice the number of wins, so that a draw is a whole number: against all positions, minus those within the mask.
    # Within the mask, each pair counts 2 in all and each position is a draw with itself: n (n - 1) + n = n**2. The sums are
    # integers, because float32 rounds whole numbers above 2**24.
    wins = ((below + not_above) * inside).sum(1) - within**2
    return nan_if_nothing_to_find(wins.to(values.dtype) / (2 * within * (~inside).sum(1)), maps, masks)


def _fraction_of_mass(mass: Tensor, maps: Tensor, masks: Tensor) -> Tensor:
    """Compute the fraction of the mass (N, positions) that lies on the mask."""
    # Without positive relevance this is 0 / 0, NaN.
    return nan_if_nothing_to_find((mass * masks.flatten(1)).sum(1) / mass.sum(1), maps, masks)


def _fraction_of_highest(values: Tensor, inside: Tensor, counts: Tensor) -> Tensor:
    """Compute the expected fraction of the ``counts`` (N,) highest values that are inside, equal ones in random order."""
    # Not topk, which takes one k for all rows.
    lowest = values.sort(1, descending=True).values.gather(1, counts[:, None] - 1)
    above, equal = values > lowest, values == lowest
    sure = (above & inside).sum(1)
    # Among the values equal to the lowest that counts, each is drawn with the same chance for the places left.
    drawn = (counts - above.sum(1)) * (equal & inside).sum(1).to(values.dtype) / equal.sum(1)
    return (sure + drawn) / counts


def _near(masks: Tensor, tolerance: float) -> Tensor:
    """Mark the positions not farther than the tolerance from the mask."""
    # The distance of two positions is 1 or more.
    if tolerance < 1:
        return masks
    # The squared distance is a sum over dimensions, so that its minimum can be found one dimension at a time.
    squares = torch.zeros(masks.shape, device=masks.device).masked_fill(~masks, math.inf)
    for d in range(2, masks.dim()):
        squares = _nearest_along(squares, d, math.floor(tolerance))
    return squares <= tolerance**2


def _nearest_along(squares: Tensor, dim: int, reach: int) -> Tensor:
    """Return the lowest sum of value and squared distance over the neighbours within reach along one dimension."""
    side = squares.shape[dim]
    reach = min(reach, side - 1)
    # F.pad takes the last dimension first.
    padded = F.pad(squares, [0, 0] * (squares.dim() - 1 - dim) + [reach, reach], value=math.inf)
    return reduce(torch.minimum, (padded.narrow(dim, k, side) + (k - reach) ** 2 for k in range(2 * reach + 1)))
