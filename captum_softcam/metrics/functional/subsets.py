"""Does the model's answer fall as far as the map says when sets of patches are taken away?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_softcam.metrics.functional._correlation import pearson
from captum_softcam.metrics.functional._edges import nan_if_flat, usable_maps
from captum_softcam.metrics.functional._grid import grid
from captum_softcam.metrics.functional._removal import random_subsets, removals, squares

__all__ = ["faithfulness_correlation", "infidelity", "sensitivity_n"]


def faithfulness_correlation(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Tensor,
    *,
    patches: int | None = 8,
    subset_size: int = 16,
    runs: int = 200,
    seed: int = 0,
) -> Tensor:
    r"""Whether the logit falls more, the more evidence is taken away :cite:p:`bhatt2020evaluating`; higher is better.

    .. math:: \mathrm{pearson}_S \left( \sum_{p \in S} A_p,\; f(x) - f(x_{\setminus S}) \right)

    over random subsets :math:`S` of the patches, with the map's sum :math:`A_p` over a patch, the logit :math:`f` of the
    class and the image :math:`x_{\setminus S}` whose patches of the subset are replaced by the baseline. The subsets are
    the same for every sample. (Quantus draws others for each, so that a score depends on the batch it is in.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor): what replaces the images, (N, C, ...) or broadcastable to it.
        patches (int): per side; None for single positions, all channels together. Default: 8
        subset_size (int): patches taken at a time. Default: 16
        runs (int): number of subsets; a few hundred, or the score is noise. Default: 200
        seed (int): of the subsets. Default: 0

    Returns:
        Tensor: (N,), in [-1, 1]; NaN for maps that rank nothing, and where the logit never moves. Cost: ``runs + 1``
        forwards.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, a side has fewer positions than patches,
            the subsets hold no patch or all of them, there are less than two runs, or the scores are not (N, K).
    """
    maps = usable_maps(images, maps)
    subsets = random_subsets(grid(maps.shape[2:], patches), subset_size, runs, seed)
    sums, drops = removals(forward_func, images, maps, targets, baseline, patches, subsets)
    return nan_if_flat(pearson(sums, drops), maps)


def sensitivity_n(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Tensor,
    *,
    patches: int | None = 8,
    sizes: Sequence[int] = (1, 4, 16, 48),
    runs: int = 50,
    seed: int = 0,
) -> Tensor:
    """:func:`faithfulness_correlation` at several sizes of the subsets, the mean :cite:p:`ancona2018towards`.

    Higher is better. The paper draws the correlation over *n*, from one feature to four fifths of them. (Quantus takes the
    strongest features instead of random ones, correlates over the samples of a batch, and reports the first batch only.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor): what replaces the images, (N, C, ...) or broadcastable to it.
        patches (int): per side; None for single positions, all channels together. Default: 8
        sizes (sequence of int): patches taken at a time, *n*. Default: (1, 4, 16, 48)
        runs (int): number of subsets of each size. Default: 50
        seed (int): of the subsets. Default: 0

    Returns:
        Tensor: (N,), in [-1, 1]; NaN for maps that rank nothing, and where the logit does not move at one of the sizes.
        Cost: ``len(sizes) * (runs + 1)`` forwards.

    Raises:
        ValueError: as :func:`faithfulness_correlation` does, and without any size.
    """
    if not len(sizes):
        raise ValueError("sizes are empty; give one size of the subsets at least.")
    game = (forward_func, images, maps, targets, baseline)
    each = [faithfulness_correlation(*game, patches=patches, subset_size=n, runs=runs, seed=seed) for n in sizes]
    return torch.stack(each).mean(0)


def infidelity(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Tensor,
    *,
    patches: int | None = 8,
    sides: Sequence[int] = (1, 2, 4),
    scaled: bool = True,
) -> Tensor:
    r"""How far the fall of the logit is from what the map says, squares taken away :cite:p:`yeh2019infidelity`.

    .. math:: \frac{1}{|\mathcal{S}|} \sum_{S \in \mathcal{S}}
        \left( \beta \sum_{p \in S} A_p - \left(f(x) - f(x_{\setminus S})\right) \right)^2

    with the map's sum :math:`A_p` over a patch and the logit :math:`f` of the class; lower is better, in squared logits.
    The squares are every one of the given sides on the grid of patches, so that nothing is drawn. Maps come in units of
    their own: :math:`\beta \ge 0` is the factor that suits the map best, and a map that is worse than nothing at all scores
    as nothing, :math:`\beta = 0`. (Quantus does not put the image back before it takes the next square.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor): what replaces the images, (N, C, ...) or broadcastable to it.
        patches (int): per side; None for single positions, all channels together. Default: 8
        sides (sequence of int): of the squares, in patches. Default: (1, 2, 4)
        scaled (bool): False to take the map in its own units, :math:`\beta = 1`. Default: True

    Returns:
        Tensor: (N,), >= 0; NaN for maps that rank nothing. Cost: one forward, and one for each square: 138 of the sides 1, 2
        and 4 on 8 x 8 patches.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, a side has fewer positions than patches,
            a square does not fit, there is none, or the scores are not (N, K).
    """
    if not len(sides):
        raise ValueError("sides are empty; give one side of the squares at least.")
    maps = usable_maps(images, maps)
    subsets = squares(grid(maps.shape[2:], patches), sides)
    sums, drops = removals(forward_func, images, maps, targets, baseline, patches, subsets)
    if scaled:
        fits = (sums * drops).sum(1) / sums.square().sum(1)
        sums = sums * fits.clamp(min=0)[:, None]
    return nan_if_flat((sums - drops).square().mean(1), maps)
