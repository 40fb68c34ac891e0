"""Upsample and rescale maps (N, 1, h, w) for metrics and pictures."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["PERCENTILE", "is_flat", "rescale", "scaled_map", "signed_scale", "upsample"]

PERCENTILE = 99.0
"""Of a map's magnitudes: where the colours end in pictures, unless another one is asked for."""

_SPARSE = 1e-2  # of the largest magnitude: a percentile below it is that of a sparse map's empty rest
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def upsample(maps: Tensor, size: tuple[int, ...], *, align_corners: bool = False) -> Tensor:
    """Upsample maps (N, 1, h, w) to input resolution (N, 1, H, W), linearly in every dimension.

    Args:
        maps (Tensor): any number of spatial dimensions.
        size (tuple of int): of the input.
        align_corners (bool): as of ``torch.nn.functional.interpolate``. Default: False
    """
    if maps.shape[2:] == torch.Size(size):
        return maps
    return F.interpolate(maps, size=size, mode=_LINEAR[len(size)], align_corners=align_corners)


def is_flat(maps: Tensor) -> Tensor:
    """Return whether each map (N, ...) ranks no positions (N,): all of its values are equal, or one is not finite."""
    # Up to a millionth of the largest magnitude, because upsampling a constant map leaves rounding errors behind
    cells = maps.flatten(1)
    return (cells.amax(1) - cells.amin(1) <= 1e-6 * cells.abs().amax(1)) | ~cells.isfinite().all(1)


def rescale(maps: Tensor) -> Tensor:
    """Scale each map to [0, 1] by its own minimum and maximum; a constant map becomes 0."""
    cells = maps.flatten(1)
    low = cells.amin(1)
    span = cells.amax(1) - low
    shape = (-1, *[1] * (maps.dim() - 1))
    # No epsilon in the divisor, because a map of values far below it would then stay near 0.
    return (maps - low.view(shape)) / torch.where(span > 0, span, torch.ones_like(span)).view(shape)


def signed_scale(maps: Tensor) -> Tensor:
    """Divide each map by its largest magnitude, so that values lie in [-1, 1] and 0 stays 0."""
    peak = maps.flatten(1).abs().amax(1)
    return maps / torch.where(peak > 0, peak, torch.ones_like(peak)).view(-1, *[1] * (maps.dim() - 1))


def scaled_map(attribution: NDArray[np.float64], percentile: float) -> NDArray[np.float64]:
    """Divide a map by a percentile of its magnitudes, so that the scale of its colours ends at 1.

    Of a sparse map, whose percentile is below a hundredth of the largest magnitude, the percentile is that of the magnitudes
    above this hundredth.

    Args:
        attribution (ndarray): values of any unit; not finite ones are left out of the percentile.
        percentile (float): above 0 and up to 100, which is the largest magnitude.

    Returns:
        ndarray: values from -1 to 1, NaN where they are not finite; a map of zeros stays 0.
    """
    finite = np.isfinite(attribution)
    magnitudes = np.abs(attribution[finite])
    peak = magnitudes.max(initial=0)
    if not peak:
        return np.where(finite, 0.0, np.nan)
    magnitudes /= peak  # first, because a percentile of the smallest floats would lose digits
    end = np.percentile(magnitudes, percentile)
    if end < _SPARSE:
        end = np.percentile(magnitudes[magnitudes >= _SPARSE], percentile)
    return np.where(finite, np.clip(attribution / peak / end, -1, 1), np.nan)
