"""Baselines: images that replace what is removed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_softcam._names import quoted

__all__ = ["black_baseline", "blur_baseline", "mean_baseline"]


def black_baseline(images: Tensor, *, value: float | Sequence[float] = 0.0) -> Tensor:
    """Return black images.

    Args:
        images (Tensor): (N, C, ...).
        value (float or sequence of float): the value of black, for all channels or each of the C. For inputs normalised
            by mean and standard deviation it is -mean / std, where 0 is grey. Default: 0.0

    Returns:
        Tensor: (N, C, ...).

    Raises:
        ValueError: if there are not one or C values.
    """
    values = torch.as_tensor(value, dtype=images.dtype, device=images.device).flatten()
    if len(values) not in (1, images.shape[1]):
        raise ValueError(f"value has {len(values)} entries; expected 1 or one for each of the {images.shape[1]} channels.")
    return values.view(1, -1, *[1] * (images.dim() - 2)).expand_as(images)


def mean_baseline(images: Tensor) -> Tensor:
    """Fill each image with its own mean colour.

    Args:
        images (Tensor): (N, C, ...).

    Returns:
        Tensor: (N, C, ...), the mean over all positions of each channel of each image.
    """
    return images.mean(tuple(range(2, images.dim())), keepdim=True).expand_as(images)


def blur_baseline(images: Tensor, *, sigma: float = 10.0) -> Tensor:
    r"""Blur images: details finer than ``sigma`` go, colour and brightness stay, as in :cite:t:`petsiuk2018rise`.

    A Gaussian along every dimension, cut off at three sigma or the size of the image, which is mirrored at its borders.

    .. math:: b_i = \frac{\sum_{|k| \le r} e^{-k^2 / 2 \sigma^2}\, x_{i + k}}{\sum_{|k| \le r} e^{-k^2 / 2 \sigma^2}}

    Args:
        images (Tensor): (N, C, ...).
        sigma (float): width in positions; about the side of a patch removes the content of a patch and little more.
            Default: 10.0

    Returns:
        Tensor: (N, C, ...).

    Raises:
        ValueError: if sigma is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be > 0; got {quoted(sigma)}.")
    # A Gaussian is a product over the dimensions: 2 r + 1 terms along each of them replace (2 r + 1)^d terms.
    for dim in range(2, images.dim()):
        images = _blur_along(images, dim, sigma)
    return images


def _blur_along(images: Tensor, dim: int, sigma: float) -> Tensor:
    side = images.shape[dim]
    radius = min(math.ceil(3 * sigma), side - 1)  # a mirror repeats fewer positions than the image has
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    # Lines of one channel: F.pad reflects a single dimension only in tensors of up to three, and a convolution adds up
    # channels.
    lines = images.movedim(dim, -1)
    mirrored = F.pad(lines.reshape(-1, 1, side), (radius, radius), mode="reflect")
    # Divided by the sum of the kernel, which is cut off: a constant image does not change.
    blurred = F.conv1d(mirrored, (kernel / kernel.sum()).view(1, 1, -1))
    return blurred.view(lines.shape).movedim(-1, dim)
