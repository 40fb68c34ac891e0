"""IROF: perturbation of superpixels, the image's own parts, in place of patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._names import quoted
from captum_softcam._scores import Scores
from captum_softcam.metrics.functional._answers import probabilities_of
from captum_softcam.metrics.functional._edges import nan_if_flat, refuse_other_images, usable_maps, wide
from captum_softcam.metrics.functional._grid import ranks
from captum_softcam.metrics.functional.baselines import Baseline, as_baseline, replace_removed

__all__ = ["irof", "superpixels"]

_RGB = 3
_ROUNDING = 1e-6


def superpixels(images: Tensor, *, count: int = 100) -> Tensor:
    """Segment each image by SLIC :cite:p:`achanta2012slic`, independently of any map.

    Args:
        images (Tensor): (N, C, ...) of one to three dimensions, in any units: each is first scaled to [0, 1]. Three
            channels of images and volumes are treated as red, green and blue.
        count (int): approximate number of segments. Default: 100

    Returns:
        Tensor: (N, 1, ...) int64, the number of the segment at each position, counted from 0 in each image. An image that is
        not finite is a single segment. Cost: no forward.
    """
    # A tensor that requires gradients cannot become an array.
    segments = [_segments(image, count) for image in wide(images.detach()).cpu().movedim(1, -1).numpy()]
    return torch.from_numpy(np.stack(segments))[:, None].to(images.device)


def _segments(image: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Segment one image (..., C)."""
    from skimage.segmentation import slic  # takes half a second to import

    size, channels = image.shape[:-1], image.shape[-1]
    if not np.isfinite(image).all():
        return np.zeros(size, np.int64)
    if np.ptp(image) <= _ROUNDING * np.abs(image).max():
        image = np.zeros_like(image)  # a constant image scaled to [0, 1] would be nothing but rounding errors
    colour = len(size) > 1 and channels == _RGB
    # slic accepts no channel axis in an array of two dimensions, such as a signal (L, C).
    signal = image[None] if len(size) == 1 else image
    # SLIC weighs differences of colour against distances by the compactness: 10 suits Lab, whose range is 0 to 100. Other
    # channels lie between 0 and 1, and the squares of their differences add up.
    compactness = 10.0 if colour else 0.1 * channels**0.5
    for _ in range(8):
        labels = slic(signal, n_segments=count, compactness=compactness, start_label=0, channel_axis=-1, convert2lab=colour)
        # Without a gap, because irof counts segments by the highest number. The inverse is flat in NumPy 1 and has the shape
        # of the labels in NumPy 2.
        numbers = np.unique(labels, return_inverse=True)[1].reshape(size).astype(np.int64)
        if numbers.max() + 1 >= min(count, numbers.size) / 4:
            break
        compactness *= 2  # in noise, SLIC merges the scattered segments until too few are left
    return numbers


def irof(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    segments: Tensor,
    *,
    steps: int = 16,
    scores: Scores = "softmax",
) -> Tensor:
    r"""Compute the area over the curve of the probability while segments are removed: iterative removal of features, IROF.

    .. math:: 1 - \int_0^1 \frac{p(x_{\setminus t})}{p(x)}\, \mathrm{d} t

    by the trapezoid rule, with the probability :math:`p` of the class and the image :math:`x_{\setminus t}` without a
    fraction *t* of its segments, those with the highest mean of the map first (of equal ones, the lower number). From
    :cite:t:`rieger2020irof`; higher is better, and the score is below 0 where the probability rises. Departure from the
    paper, which removes one segment at a time: ``steps`` of equal size, or one segment each if there are fewer segments than
    steps. (The class of Quantus fails on images of more than one channel.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor, str or callable): replacement of the images, (N, C, ...) or broadcastable to it, a name, or a
            function of images and removed positions, see :func:`as_baseline`; the paper's is ``"mean"``.
        segments (Tensor): (N, 1, ...) int64, numbered from 0 without a gap in each image: :func:`superpixels`.
        steps (int): number of steps from the whole image to none of it. Default: 16
        scores (str or callable): how the outputs become probabilities, see :func:`as_scores`. Default: ``"softmax"``

    Returns:
        Tensor: (N,), up to 1; NaN for maps that rank nothing, where an image is a single segment, and where there is no
        probability to lose (with ``scores="identity"``, where the output is not above 0). Cost: ``steps + 1`` forwards.

    Raises:
        ValueError: if maps and segments are not (N, 1, ...) of the images' number and size, there is not a single step, or
            the scores are not (N, K).
    """
    maps = usable_maps(images, maps)
    refuse_other_images(images, segments)
    if steps < 1:
        raise ValueError(f"steps must be >= 1; got {quoted(steps)}.")
    # Segments beyond the number of an image have a mean of -inf and come last, where no step reaches them.
    places = ranks(_segment_means(maps, segments)).gather(1, segments.flatten(1)).view_as(maps)
    counts = segments.flatten(1).amax(1) + 1
    taken = torch.stack([step * counts // steps for step in range(steps + 1)], 1)
    gone = (places < numbers.view(-1, *[1] * (maps.dim() - 1)) for numbers in taken.T)
    replacement = as_baseline(baseline, images)
    shown = (replace_removed(images, each, replacement) for each in gone)
    curves = probabilities_of(forward_func, images, shown, targets, scores)
    fractions = (taken / counts[:, None]).to(curves)
    areas = torch.trapezoid(curves / curves[:, :1], fractions, dim=1)
    return nan_if_flat(1 - areas, maps).masked_fill((counts < 2) | (curves[:, 0] <= 0), torch.nan)


def _segment_means(maps: Tensor, segments: Tensor) -> Tensor:
    """Average each map over its segments, (N, S); the row of an image of fewer segments ends in -inf."""
    values, owners = wide(maps).flatten(1), segments.flatten(1)
    sums = values.new_zeros(len(values), int(owners.max()) + 1)
    sizes = sums.scatter_add(1, owners, torch.ones_like(values))
    means = sums.scatter_add(1, owners, values) / sizes
    # 0 / 0 is NaN, which torch sorts above all numbers: these segments would come first.
    return means.masked_fill(sizes == 0, -torch.inf)
