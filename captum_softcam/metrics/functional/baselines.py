"""What stands in the place of evidence that is taken away."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_softcam._names import quoted

__all__ = ["black_baseline", "blur_baseline", "mean_baseline"]


def black_baseline(images: Tensor, *, value: float | Sequence[float] = 0.0) -> Tensor:
    """Images without light.

    Args:
        images (Tensor): (N, C, ...).
        value (float or sequence of float): what is black, for all channels or each of the C. Of inputs normalised by mean
            and standard deviation it is -mean / std; 0 there is grey. Default: 0.0

    Returns:
        Tensor: (N, C, ...).

    Raises:
        ValueError: if the values are not one or C.
    """
    values = torch.as_tensor(value, dtype=images.dtype, device=images.device).flatten()
    if len(values) not in (1, images.shape[1]):
        raise ValueError(f"value has {len(values)} entries; expected 1 or one for each of the {images.shape[1]} channels.")
    return values.view(1, -1, *[1] * (images.dim() - 2)).expand_as(images)


def mean_baseline(images: Tensor) -> Tensor:
    """Every image in its own mean colour.

    Args:
        images (Tensor): (N, C, ...).

    Returns:
        Tensor: (N, C, ...), each channel of each image its mean over all positions.
    """
    return images.mean(tuple(range(2, images.dim())), keepdim=True).expand_as(images)


def blur_baseline(images: Tensor, *, sigma: float = 10.0) -> Tensor:
    r"""Images without what is finer than ``sigma``: colour and light stay, as in :cite:t:`petsiuk2018rise`.

    A Gaussian along every dimension, cut off at three sigma or where the image ends, the image mirrored at its borders.

    .. math:: b_i = \frac{\sum_{|k| \le r} e^{-k^2 / 2 \sigma^2}\, x_{i + k}}{\sum_{|k| \le r} e^{-k^2 / 2 \sigma^2}}

    Args:
        images (Tensor): (N, C, ...).
        sigma (float): width in positions; about the side of a patch takes the patch's content away and little more.
            Default: 10.0

    Returns:
        Tensor: (N, C, ...).

    Raises:
        ValueError: if sigma is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be > 0; got {quoted(sigma)}.")
    for dim in range(2, images.dim()):
        images = _blur_along(images, dim, sigma)
    return images


def _blur_along(images: Tensor, dim: int, sigma: float) -> Tensor:
    side = images.shape[dim]
    radius = min(math.ceil(3 * sigma), side - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    lines = images.movedim(dim, -1)
    mirrored = F.pad(lines.reshape(-1, 1, side), (radius, radius), mode="reflect")
    blurred = F.conv1d(mirrored, (kernel / kernel.sum()).view(1, 1, -1))
    return blurred.view(lines.shape).movedim(-1, dim)
