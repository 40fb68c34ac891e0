"""What maps (N, 1, h, w) go through on their way to a metric or to the eye."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["is_flat", "rescale", "signed_scale", "upsample"]

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def upsample(maps: Tensor, size: tuple[int, ...], *, align_corners: bool = False) -> Tensor:
    """Maps (N, 1, h, w) at input resolution (N, 1, H, W): linear in every dimension, signs kept."""
    if maps.shape[2:] == torch.Size(size):
        return maps
    return F.interpolate(maps, size=size, mode=_LINEAR[len(size)], align_corners=align_corners)


def is_flat(maps: Tensor) -> Tensor:
    """Whether each map (N, ...) says nothing: all of its values equal, or one of them not finite. Returns (N,) bool.

    Equal to a millionth of the greatest magnitude, for upsampling a constant map leaves rounding errors behind.
    """
    cells = maps.flatten(1)
    return (cells.amax(1) - cells.amin(1) <= 1e-6 * cells.abs().amax(1)) | ~cells.isfinite().all(1)


def rescale(maps: Tensor) -> Tensor:
    """Each map on [0, 1] by its own least and greatest value; a flat map becomes 0 everywhere."""
    cells = maps.flatten(1)
    low = cells.amin(1)
    span = cells.amax(1) - low
    shape = (-1, *[1] * (maps.dim() - 1))
    return (maps - low.view(shape)) / torch.where(span > 0, span, torch.ones_like(span)).view(shape)


def signed_scale(maps: Tensor) -> Tensor:
    """Each map divided by its greatest magnitude, so that 0 stays 0 and values lie in [-1, 1]; a flat 0 stays 0."""
    peak = maps.flatten(1).abs().amax(1)
    return maps / torch.where(peak > 0, peak, torch.ones_like(peak)).view(-1, *[1] * (maps.dim() - 1))
