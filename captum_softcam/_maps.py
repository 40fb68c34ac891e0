"""Upsample and rescale maps (N, 1, h, w) for metrics and pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["is_flat", "rescale", "signed_scale", "upsample"]

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
