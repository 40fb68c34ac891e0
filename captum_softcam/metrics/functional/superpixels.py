"""Does the model need what the map marks, taken away in the image's own parts?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from captum_softcam.metrics.functional._edges import nan_if_flat, refuse_other_images, wide
from captum_softcam.metrics.functional._grid import ranks
from captum_softcam.metrics.functional.masking import confidence

__all__ = ["irof", "superpixels"]


def superpixels(images: Tensor, *, count: int = 100) -> Tensor:
    """Segments of each image by SLIC :cite:p:`achanta2012slic`, which look at the image alone.

    Args:
        images (Tensor): (N, C, ...) of two or three dimensions, in any units: each is scaled to [0, 1] before. Three
            channels are taken for red, green and blue.
        count (int): about how many there shall be. Default: 100

    Returns:
        Tensor: (N, 1, ...) int64, the number of its segment at each position, from 0 in each image. Cost: no forward.

    Raises:
        ValueError: on signals, (N, C, L).
    """
    if images.dim() < 4:
        raise ValueError(f"images are {tuple(images.shape)}; expected (N, C, H, W) or volumes: a signal has no superpixels.")
    from skimage.segmentation import slic  # half a second

    segments = []
    for image in wide(images.detach()).cpu().movedim(1, -1).numpy():
        labels = slic(image, n_segments=count, start_label=0, channel_axis=-1)
        segments.append(np.unique(labels, return_inverse=True)[1].reshape(labels.shape))
    return torch.from_numpy(np.stack(segments))[:, None].to(images.device)


def irof(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Tensor,
    segments: Tensor,
    *,
    steps: int = 16,
) -> Tensor:
    r"""Area over the curve of the probability while segments are taken away, iterative removal of features, IROF.

    .. math:: 1 - \int_0^1 \frac{p(x_{\setminus t})}{p(x)}\, \mathrm{d} t

    by the trapezoid rule, with the probability :math:`p` of the class and the image :math:`x_{\setminus t}` without the
    share *t* of its segments, those with the highest mean of the map first (of equal ones, the lower number). From
    :cite:t:`rieger2020irof`; higher is better, and below 0 where the probability rises. Departure from the paper, which
    takes one segment at a time: ``steps`` of equal size, or one segment each where there are fewer segments than steps.
    (Quantus' fails on images of more than one channel.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor): what replaces the images, (N, C, ...) or broadcastable to it; the paper's is
            :func:`mean_baseline`.
        segments (Tensor): (N, 1, ...) int64, from 0 without a gap in each image: :func:`superpixels`.
        steps (int): from all to nothing. Default: 16

    Returns:
        Tensor: (N,), up to 1; NaN for maps that rank nothing, where an image is one segment, and where there was no
        probability to lose. Cost: ``steps + 1`` forwards.

    Raises:
        ValueError: if maps and segments are not (N, 1, ...) of the images' number and size, there is no step, or the scores
            are not (N, K).
    """
    refuse_other_images(images, maps)
    refuse_other_images(images, segments)
    if steps < 1:
        raise ValueError(f"steps must be >= 1; got {steps}.")
    places = ranks(_segment_means(maps, segments)).gather(1, segments.flatten(1)).view_as(maps)
    counts = segments.flatten(1).amax(1) + 1
    taken = torch.stack([step * counts // steps for step in range(steps + 1)], 1)
    points = []
    for numbers in taken.T:
        gone = places < numbers.view(-1, *[1] * (maps.dim() - 1))
        points.append(confidence(forward_func, torch.where(gone, baseline, images), targets))
    curves = torch.stack(points, 1)
    shares = (taken / counts[:, None]).to(curves)
    areas = torch.trapezoid(curves / curves[:, :1], shares, dim=1)
    return nan_if_flat(1 - areas, maps).masked_fill((counts < 2) | (curves[:, 0] == 0), torch.nan)


def _segment_means(maps: Tensor, segments: Tensor) -> Tensor:
    """Mean of each map over its segments, (N, S); an image of fewer segments ends in -inf."""
    values, owners = wide(maps).flatten(1), segments.flatten(1)
    sums = values.new_zeros(len(values), int(owners.max()) + 1)
    sizes = sums.scatter_add(1, owners, torch.ones_like(values))
    means = sums.scatter_add(1, owners, values) / sizes
    return means.masked_fill(sizes == 0, -torch.inf)
