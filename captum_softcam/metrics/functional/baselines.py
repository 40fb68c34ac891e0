"""Baselines: images that replace what is removed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_softcam._names import closest, quoted
from captum_softcam.metrics.functional._grid import grid
from captum_softcam.metrics.functional.imputation import linear_imputation

__all__ = ["as_baseline", "black_baseline", "blur_baseline", "mean_baseline", "uniform_baseline"]

Replacement: TypeAlias = Tensor | Callable[[Tensor, Tensor], Tensor]
Baseline: TypeAlias = Replacement | str
"""What replaces the removed parts of images, as :func:`as_baseline` takes it."""

_WIDE = 10.0  # of a blur where single positions are removed
_CELLS = 7  # of an imputation along the side of a patch: 4 pixels each at 224 x 224, where no border of a patch shows


def as_baseline(
    baseline: Baseline,
    images: Tensor,
    *,
    patches: int | Sequence[int] | None = None,
    black: Tensor | float = 0.0,
    seed: int = 0,
) -> Replacement:
    """Resolve the name of a baseline to what replaces the removed parts of images.

    - ``"blur"``: the image, blurred as wide as a patch, so that detail goes while colour and brightness stay
      (:func:`blur_baseline`).
    - ``"mean"``: the mean colour of the image (:func:`mean_baseline`).
    - ``"black"``: the image's black, which is not 0 where inputs are normalised (:func:`black_baseline`).
    - ``"zero"``: 0 in every channel of the inputs, which is grey where they are normalised, and the mean of their data.
    - ``"uniform"``: noise between the lowest and the highest value of each channel (:func:`uniform_baseline`).
    - ``"linear"``: the imputation of ROAD from what is left of the image (:func:`linear_imputation`), with 7 cells along the
      side of a patch. It depends on which parts are removed, and is computed anew for each removal; where nothing is left,
      as at the start of an insertion, it is the mean colour.

    Args:
        baseline (Tensor, str or callable): a name; a tensor (N, C, ...) or broadcastable to the images; or a function of
            images (N, C, ...) and removed positions (N, 1, ...) bool that returns images. The last two are returned as they
            are.
        images (Tensor): (N, C, ...).
        patches (int or sequence of int): per side, or along each dimension, the width of the blur. Default: None, 10
            positions
        black (Tensor or float): black as the model receives it: one value, or an image broadcastable to (N, C, ...).
            Default: 0.0
        seed (int): of the uniform noise. Default: 0

    Returns:
        Tensor or callable: the replacement of the images (N, C, ...), or a function of images and removed positions.

    Raises:
        ValueError: if the name is unknown, or a side has fewer positions than patches.
    """
    if not isinstance(baseline, str):
        return baseline
    known: dict[str, Callable[[], Replacement]] = {
        "blur": lambda: blur_baseline(images, sigma=_width(images, patches)),
        "mean": lambda: mean_baseline(images),
        "black": lambda: torch.as_tensor(black, dtype=images.dtype, device=images.device).expand_as(images),
        "zero": lambda: torch.zeros_like(images),
        "uniform": lambda: uniform_baseline(images, seed=seed),
        "linear": lambda: partial(linear_imputation, cell=_cell(images, patches)),
    }
    if baseline not in known:
        raise ValueError(f"baseline {quoted(baseline)} is unknown. {closest(baseline, known)}")
    return known[baseline]()


def _cell(images: Tensor, patches: int | Sequence[int] | None) -> int:
    """Return the side of the cells of an imputation, a seventh of the shortest side of a patch."""
    size = images.shape[2:]
    return max(1, min(side // (_CELLS * count) for side, count in zip(size, grid(size, patches), strict=True)))


def _width(images: Tensor, patches: int | Sequence[int] | None) -> float:
    """Return the width of a blur, the longest side of a patch."""
    if patches is None:
        return _WIDE
    # As wide as a patch: all detail within it goes, while colour and brightness stay, which models know from training. One
    # width for all dimensions: a narrower blur would leave details along the longest side.
    size = images.shape[2:]
    return max(1.0, *(side / count for side, count in zip(size, grid(size, patches), strict=True)))


def replace_removed(images: Tensor, removed: Tensor, replacement: Replacement) -> Tensor:
    """Replace the removed positions (N, 1, ...) or (1, 1, ...) of images (N, C, ...)."""
    if not isinstance(replacement, Tensor):
        replacement = replacement(images, removed.expand(len(images), *removed.shape[1:]))
    return torch.where(removed, replacement, images)


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


def uniform_baseline(images: Tensor, *, seed: int = 0) -> Tensor:
    """Fill images with noise, uniform between the lowest and the highest value of each channel of the image.

    Args:
        images (Tensor): (N, C, ...).
        seed (int): of the noise, which is the same for every image before it is scaled. Default: 0

    Returns:
        Tensor: (N, C, ...).
    """
    dims = tuple(range(2, images.dim()))
    low, high = images.amin(dims, keepdim=True), images.amax(dims, keepdim=True)
    # Drawn on the CPU, because a GPU draws other numbers from the same seed.
    noise = torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(seed)).to(images.device)
    return (low + noise * (high - low)).to(images.dtype)


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
