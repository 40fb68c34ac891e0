"""Scores of maps as pure functions of tensors: no state, any device, signals, images and volumes alike.

Maps (N, 1, ...) are at input resolution, signed, larger where there is more evidence; masks (N, 1, ...) are bool, True where
the evidence lies. Every function gives one score per sample (N,). Decided once, for all of them:

- a map that is flat or not finite ranks nothing: its score is NaN;
- negative evidence speaks against the class: where a score weighs positions, it counts as none;
- where there is nothing to find (an empty mask), a localisation score is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from captum_softcam._maps import is_flat, rescale

__all__ = [
    "activation_precision",
    "activation_sensitivity",
    "area_under_curve",
    "deletion_curve",
    "insertion_curve",
    "pointing_game",
]


def activation_precision(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Share of the activation that falls on the mask :cite:p:`djoumessi2026softcam`; higher is better.

    .. math:: \frac{\sum_p S_p M_p}{\sum_p S_p}, \qquad S = \mathrm{minmax}(\max(A, 0))

    with map :math:`A` and mask :math:`M`. NaN where no evidence is positive.
    """
    activation = _activation(maps)
    return _defined((activation * masks.flatten(1)).sum(1) / activation.sum(1), maps, masks)


def activation_sensitivity(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Share of the mask that is activated, :math:`\sum_p S_p M_p / \sum_p M_p`; :math:`S` as for the precision.

    Higher is better, but a map that lights up everywhere reaches 1: read it beside the precision.
    """
    inside = masks.flatten(1)
    return _defined((_activation(maps) * inside).sum(1) / inside.sum(1), maps, masks)


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Whether the highest value of the map lies on the mask, 1 or 0; higher is better.

    Of several equally high positions one would be drawn at random: the score is the share of them on the mask.
    """
    cells = maps.flatten(1)
    highest = cells == cells.amax(1, keepdim=True)
    return _defined((highest & masks.flatten(1)).sum(1) / highest.sum(1), maps, masks)


def deletion_curve(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Tensor,
    *,
    patches: int = 16,
    steps: int = 16,
) -> Tensor:
    """Probability of the class while its evidence is taken away, the strongest first.

    The image is cut into ``patches`` per side, of which ``1 / steps`` are replaced by the baseline at a time, ordered by the
    mean of the map over the patch (equal ones from the top left). A good map lets the curve fall soon.

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor): what replaces the images, (N, C, ...) or broadcastable to it.
        patches (int): per side. Default: 16
        steps (int): from all to nothing. Default: 16

    Returns:
        Tensor: (N, steps + 1), softmax probabilities, the untouched image first; NaN for maps that rank nothing.
        Cost: ``steps + 1`` forwards.
    """
    return _curve(forward_func, images, maps, targets, baseline, patches, steps, inserted=False)


def insertion_curve(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Tensor,
    *,
    patches: int = 16,
    steps: int = 16,
) -> Tensor:
    """Probability of the class while its evidence is added to the baseline; as :func:`deletion_curve`, the other way round.

    A good map lets the curve rise soon. The last point is the untouched image.
    """
    return _curve(forward_func, images, maps, targets, baseline, patches, steps, inserted=True)


def area_under_curve(curves: Tensor) -> Tensor:
    """Area (N,) under curves (N, steps + 1) over the fraction from 0 to 1, by the trapezoid rule."""
    return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1), dim=1)


def _activation(maps: Tensor) -> Tensor:
    """Positive evidence on [0, 1], (N, cells)."""
    return rescale(maps.relu()).flatten(1)


def _defined(scores: Tensor, maps: Tensor, masks: Tensor) -> Tensor:
    """Scores, NaN where the map ranks nothing or there is nothing to find."""
    return scores.masked_fill(is_flat(maps) | ~masks.flatten(1).any(1), math.nan)


@torch.no_grad()
def _curve(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Tensor,
    patches: int,
    steps: int,
    inserted: bool,
) -> Tensor:
    members = [_owners(side, patches, maps.device) for side in maps.shape[2:]]
    places = _ranks(maps, members)
    points = []
    for step in range(steps + 1):
        touched = (places < round(step * patches ** len(members) / steps)).view(-1, 1, *[patches] * len(members))
        for d, owners in enumerate(members, start=2):
            touched = touched.index_select(d, owners)
        shown = torch.where(touched == inserted, images, baseline)
        points.append(forward_func(shown).softmax(1).gather(1, targets[:, None])[:, 0])
    return torch.stack(points, 1).masked_fill(is_flat(maps)[:, None], math.nan)


def _owners(side: int, patches: int, device: torch.device) -> Tensor:
    """The patch that each position along one dimension belongs to."""
    if side < patches:
        raise ValueError(f"a side of {side} positions cannot be cut into {patches} patches.")
    return torch.arange(side, device=device) * patches // side


def _ranks(maps: Tensor, members: list[Tensor]) -> Tensor:
    """The place of each patch (N, patches) in the order of its mean, 0 for the strongest."""
    means = maps[:, 0].double()
    for d, owners in enumerate(members, start=1):
        sums = means.new_zeros(*means.shape[:d], int(owners.max()) + 1, *means.shape[d + 1 :])
        means = sums.index_add(d, owners, means) / owners.bincount().view(-1, *[1] * (means.dim() - 1 - d))
    order = means.flatten(1).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1)
