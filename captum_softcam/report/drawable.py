"""Examples as they are drawn: pixels that a screen can show, masks and maps of the size of the input.

A volume becomes one of its slices; what was done to the input is said in words.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_softcam._maps import signed_scale, upsample
from captum_softcam._names import quoted
from captum_softcam.evaluation import Example

__all__ = ["as_drawn", "finite_scale"]

_SLACK = 1e-3  # beyond [0, 1]: rounding, no other unit


def as_drawn(example: Example) -> tuple[Example, str]:
    """Prepare an example for a picture.

    Args:
        example (Example): of a signal (C, L), an image (C, H, W) or a volume (C, D, H, W); tensors or arrays of any type.
            Maps at input or at layer resolution, (1, ...), (1, 1, ...) or without a channel; several channels are summed.

    Returns:
        tuple of Example and str: a signal (C, L) as it is, otherwise an image (1 or 3, H, W) in [0, 1]; its mask (1, H, W),
        bool; its maps (1, H, W) in their own units, NaN where they are not finite. And the words on what was done to the
        input, empty if nothing was.

    Raises:
        ValueError: for an input with other dimensions, or a map or mask that does not fit it.
    """
    image = _values(example.sample.image)
    if not 2 <= image.dim() <= 4 or not image.numel():
        raise ValueError(
            f"an input of shape {tuple(image.shape)} cannot be drawn; expected a signal (C, L), an image (C, H, W) or a "
            "volume (C, D, H, W)."
        )
    size = tuple(image.shape[1:])
    kinds = example.maps, example.rival_maps
    maps, rivals = ({name: _map(name, value, size) for name, value in kind.items()} for kind in kinds)
    mask = None if example.sample.mask is None else _mask(example.sample.mask, size)
    words = []
    if len(size) == 3:
        place, why = _strongest(maps, size[0])
        image, mask = image[:, place], None if mask is None else mask[:, place]
        maps, rivals = ({name: value[:, place] for name, value in kind.items()} for kind in (maps, rivals))
        words += [f"slice {place + 1} of {size[0]}", *why]
    if len(size) > 1:
        image, more = _pixels(image, of_bytes=_is_bytes(example.sample.image))
        words += more
    sample = replace(example.sample, image=image.float(), mask=mask)
    return replace(example, sample=sample, maps=maps, rival_maps=rivals), ", ".join(words)


def finite_scale(attribution: Tensor) -> Tensor:
    """A map divided by its greatest finite magnitude; NaN where it is not finite."""
    finite = attribution.isfinite()
    scaled = signed_scale(attribution.where(finite, 0)[None])[0]
    return scaled.where(finite, torch.nan)


def _values(values: Any) -> Tensor:
    """A tensor or an array in double precision, on the CPU: small gradients stay, and so do halves and bytes."""
    if isinstance(values, Tensor):
        return values.detach().cpu().double()
    return torch.from_numpy(np.array(values, dtype=np.float64))


def _map(name: str, attribution: Any, size: tuple[int, ...]) -> Tensor:
    """A map (1, ...) at the resolution of the input, as the metrics upsample it."""
    values = _with_channel(_values(attribution), len(size))
    if values.dim() != len(size) + 1 or not values.numel():
        raise ValueError(
            f"the map {quoted(name)} has shape {tuple(np.shape(attribution))}; an input of size {quoted(size)} needs a "
            f"single map with {len(size)} dimensions behind its channel."
        )
    values = values.where(values.isfinite(), torch.nan).sum(0, keepdim=True)
    return upsample(values[None], size)[0]


def _mask(mask: Any, size: tuple[int, ...]) -> Tensor:
    values = _with_channel(_values(mask), len(size))
    if tuple(values.shape) != (1, *size):
        raise ValueError(f"a mask of shape {tuple(np.shape(mask))} does not fit its input; expected {(1, *size)}.")
    return values > 0


def _with_channel(values: Tensor, dimensions: int) -> Tensor:
    """(C, ...) of what may lack its channel, or lie in a batch of one."""
    while values.dim() > dimensions + 1 and len(values) == 1:
        values = values[0]
    return values[None] if values.dim() == dimensions else values


def _strongest(maps: dict[str, Tensor], depth: int) -> tuple[int, list[str]]:
    """The slice with the most evidence for the class, all maps taken together; the middle one if all slices have as much."""
    evidence = torch.zeros(depth, dtype=torch.float64)
    for value in maps.values():
        evidence += finite_scale(value).nan_to_num().clamp(min=0).sum((0, 2, 3))
    if evidence.amax() > evidence.amin():
        return int(evidence.argmax()), ["most evidence"]
    return depth // 2, []


def _is_bytes(image: Any) -> bool:
    return str(image.dtype).removeprefix("torch.") == "uint8"


def _pixels(image: Tensor, of_bytes: bool) -> tuple[Tensor, list[str]]:
    """Grey or colour (1 or 3, H, W) in [0, 1], and what was done."""
    words = []
    image = image / 255 if of_bytes else image
    if len(image) not in (1, 3):
        words.append(f"mean of {len(image)} channels")
        image = image.mean(0, keepdim=True)
    finite = image[image.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if low < -_SLACK or high > 1 + _SLACK:
        words.append(f"scaled from {low:.3g} to {high:.3g}")
        image = (image - low) / ((high - low) or 1.0)
    if len(finite) < image.numel():
        words.append("black where not finite")
    return image.nan_to_num(0, 0, 0).clamp(0, 1), words
