"""Does what the map calls more matter more?"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from captum_softcam.metrics.functional._correlation import spearman
from captum_softcam.metrics.functional._edges import nan_if_flat, usable_maps
from captum_softcam.metrics.functional._grid import grid
from captum_softcam.metrics.functional._removal import removals, single_patches
from captum_softcam.metrics.functional.perturbation import insertion_curve

__all__ = ["monotonicity", "monotonicity_correlation"]


def monotonicity(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Tensor,
    *,
    patches: int | None = 8,
    steps: int = 16,
    tolerance: float = 1e-4,
) -> Tensor:
    """Share of the steps at which the probability does not fall while evidence comes, the weakest first; higher is better.

    From :cite:t:`arya2019explanation`, who ask whether it never does: 1 here. A weak test: where nothing in the image
    speaks against the class, any order passes; and negative evidence, which comes first, is right to let it fall. (Quantus
    puts the baseline in the place of the baseline, sees no change, and answers True always.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor): what the images grow from, (N, C, ...) or broadcastable to it.
        patches (int): per side; None for single positions, all channels together. Default: 8
        steps (int): from nothing to all. Default: 16
        tolerance (float): a fall by this share of the probability is none: rounding differs from batch size to batch
            size. Default: 1e-4

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing. Cost: ``steps + 1`` forwards.

    Raises:
        ValueError: as :func:`insertion_curve` does.
    """
    curves = insertion_curve(forward_func, images, -maps, targets, baseline, patches=patches, steps=steps)
    kept = curves[:, 1:] >= (1 - tolerance) * curves[:, :-1]
    return kept.to(curves.dtype).mean(1).masked_fill(curves.isnan().any(1), math.nan)


def monotonicity_correlation(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Tensor,
    *,
    patches: int | None = 8,
) -> Tensor:
    r"""Whether the logit moves more without a patch, the greater its value in the map :cite:p:`nguyen2020quantitative`.

    .. math:: \mathrm{spearman}_p \left( |A_p|,\; \left(f(x) - f(x_{\setminus p})\right)^2 \right)

    over all patches, with the map's sum :math:`A_p` over a patch and the logit :math:`f` of the class; higher is better. It
    reads magnitudes: evidence for and against the class are of one worth. Departure from the paper, which takes the mean
    over what might have stood in the patch: the baseline stands for it. (Quantus weighs the changes by the square of the
    inverse score, the same for all of them, and raises an error where one sample's score is below 1e-5.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor): what replaces the images, (N, C, ...) or broadcastable to it.
        patches (int): per side; None for single positions, all channels together. Default: 8

    Returns:
        Tensor: (N,), in [-1, 1]; NaN for maps that rank nothing or whose magnitudes are equal, and where the logit never
        moves. Cost: one forward, and one for each patch.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, a side has fewer positions than patches,
            or the scores are not (N, K).
    """
    maps = usable_maps(images, maps)
    subsets = single_patches(grid(maps.shape[2:], patches))
    sums, drops = removals(forward_func, images, maps, targets, baseline, patches, subsets)
    return nan_if_flat(spearman(sums.abs(), drops.abs()), maps)
