"""Checks and preparation of maps and masks, and NaN where a score is undefined."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captum_softcam._maps import is_flat, rescale

__all__ = [
    "activation",
    "cells",
    "nan_if_flat",
    "nan_if_not_positive",
    "nan_if_nothing_to_find",
    "refuse_other_images",
    "refuse_other_maps",
    "refuse_other_masks",
    "usable_maps",
    "wide",
]


def cells(maps: Tensor) -> Tensor:
    """Flatten maps to (N, positions), in float32 at least."""
    # Sums of a whole image overflow float16 and are rounded in integers.
    return maps.flatten(1).to(torch.promote_types(maps.dtype, torch.float32))


def wide(maps: Tensor) -> Tensor:
    """Convert maps to the widest floating point type of their device."""
    # MPS has no float64.
    return maps.to(torch.float32 if maps.device.type == "mps" else torch.float64)


def activation(maps: Tensor) -> Tensor:
    """Scale the positive relevance of each map to [0, 1], (N, positions)."""
    return rescale(cells(maps).relu())


def nan_if_flat(scores: Tensor, maps: Tensor) -> Tensor:
    """Replace scores (N, ...) by NaN where the map ranks nothing."""
    flat = is_flat(cells(maps))
    return scores.masked_fill(flat.view(-1, *[1] * (scores.dim() - 1)), math.nan)


def nan_if_not_positive(scores: Tensor, maps: Tensor) -> Tensor:
    """Replace scores (N, ...) by NaN where the map ranks nothing or has no positive relevance."""
    # Without negative values, a map that has no positive ones is flat.
    return nan_if_flat(nan_if_flat(scores, maps), cells(maps).relu())


def nan_if_nothing_to_find(scores: Tensor, maps: Tensor, masks: Tensor) -> Tensor:
    """Replace scores (N,) by NaN where the map ranks nothing or the mask is empty."""
    return nan_if_flat(scores, maps).masked_fill(~masks.flatten(1).any(1), math.nan)


def refuse_other_maps(maps: Tensor) -> None:
    """Raise ValueError unless the maps are (N, 1, ...)."""
    if maps.dim() < 3 or maps.shape[1] != 1:
        raise ValueError(f"maps are {tuple(maps.shape)}; expected (N, 1, ...), one map per sample: sum over the channels.")


def refuse_other_masks(maps: Tensor, masks: Tensor) -> None:
    """Raise ValueError unless maps (N, 1, ...) and masks have one shape, TypeError unless the masks are bool."""
    refuse_other_maps(maps)
    if masks.shape != maps.shape:
        raise ValueError(
            f"masks are {tuple(masks.shape)} and maps {tuple(maps.shape)}; expected one shape: "
            "bring the maps to input resolution by LayerAttribution.interpolate."
        )
    if masks.dtype != torch.bool:
        raise TypeError(f"masks are {masks.dtype}; expected torch.bool: compare them with a threshold, as in masks > 0.")


def refuse_other_images(images: Tensor, maps: Tensor) -> None:
    """Raise ValueError unless each of the images (N, C, ...) has a map (N, 1, ...) of its size."""
    refuse_other_maps(maps)
    if len(images) != len(maps) or images.shape[2:] != maps.shape[2:]:
        raise ValueError(
            f"images are {tuple(images.shape)} and maps {tuple(maps.shape)}; expected (N, C, ...) and (N, 1, ...) of one "
            "size: bring the maps to input resolution by LayerAttribution.interpolate."
        )


def usable_maps(images: Tensor, maps: Tensor) -> Tensor:
    """Replace the maps (N, 1, ...) of images (N, C, ...) by NaN where the image is not finite.

    Raises:
        ValueError: unless each of the images has a map of its size.
    """
    refuse_other_images(images, maps)
    # By way of the map, all scores of a broken image become NaN, also those that do not read the image.
    broken = ~images.flatten(1).isfinite().all(1)
    # Integers cannot hold NaN.
    maps = maps if maps.is_floating_point() else maps.to(torch.get_default_dtype())
    return maps.masked_fill(broken.to(maps.device).view(-1, *[1] * (maps.dim() - 1)), math.nan)
