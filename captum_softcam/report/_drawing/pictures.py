"""Convert samples of any kind to pictures in [0, 1], with masks and maps of the same size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._fit import COLOURS, Fit, channels_first, upright
from captum_softcam._maps import signed_scale, upsample
from captum_softcam._names import quoted
from captum_softcam.evaluation import Example

__all__ = [
    "Drawn",
    "as_bytes",
    "as_input",
    "drawn",
    "fitting_map",
    "fitting_mask",
    "map_channels_first",
    "numbers",
    "put_back",
]

_CHANNELS = 16  # of a signal that are drawn
_SLACK = 1e-3  # beyond [0, 1]: rounding, not another unit
_SIDE = 224  # pixels: smallest input that a map of unknown input is taken to be of


@dataclass(frozen=True)
class Drawn:
    """An example as it is drawn, with notes, and the slices of its volume by their number in rows of ``across``.

    ``seen`` has the positions that the network saw (1, H, W); it is None if it saw all of them.
    """

    example: Example
    notes: tuple[str, ...] = ()
    title: str = ""
    slices: tuple[int, ...] = ()
    across: int = 1
    seen: Tensor | None = None

    @property
    def tiles(self) -> list[tuple[float, float, tuple[slice, slice]]]:
        """Upper and left edge of each slice in the picture, and its place there; one of an image."""
        height, width = self.example.sample.image.shape[1:]
        count = max(1, len(self.slices))
        height, width = height // math.ceil(count / self.across), width // self.across
        corners = [(place // self.across * height, place % self.across * width) for place in range(count)]
        return [(top - 0.5, left - 0.5, (slice(top, top + height), slice(left, left + width))) for top, left in corners]


def drawn(example: Example, montage: int = 1, fit: Fit | None = None, size: int | None = None) -> Drawn:
    """Convert an example to an image in [0, 1] with mask and maps of the same size.

    Args:
        example (Example): with a signal (C, L), an image (C, H, W) or a volume (C, D, H, W); tensors or arrays of any type.
            Maps have the resolution of the input or of a layer, with or without channel and batch dimensions of 1; several
            channels are summed.
        montage (int): number of slices of a volume. Default: 1
        fit (Fit): how the image became the input of the network, of which the maps are. Default: None, it is the input
        size (int): side of that input in pixels. Default: that of the maps, or a multiple of it from 224 up

    Returns:
        Drawn: a signal (C, L), of 16 channels at most, or an image (1 or 3, H, W) in [0, 1]; the boolean mask (1, H, W); the
        maps (1, H, W) in their own units, NaN where they are not finite.

    Raises:
        ValueError: if the input has other dimensions, or a map or mask does not fit it.
    """
    image = _bytes_or_numbers(example.sample.image)
    if not 2 <= image.dim() <= 4 or not image.numel():
        raise ValueError(
            f"an input of shape {tuple(image.shape)} cannot be drawn; expected a signal (C, L), an image (C, H, W) or a "
            "volume (C, D, H, W)."
        )
    shape = tuple(image.shape[1:])
    kinds = [
        {name: fitting_map(name, value, shape, fit, size) for name, value in kind.items()}
        for kind in (example.maps, example.runner_up_maps)
    ]
    mask = None if example.sample.mask is None else fitting_mask(example.sample.mask, shape, fit, size)
    seen = None if fit is None else ~put_back(torch.zeros(1, 1, *[1] * len(shape)), shape, fit, size)[0].isnan()
    title, across, places = "", 1, tuple[int, ...]()
    if len(shape) == 3:
        places, across, title = _slices(kinds[0], shape[0], montage)
        image = _tiled(image, places, across)
        mask, seen = (None if part is None else _tiled(part, places, across) for part in (mask, seen))
        kinds = [{name: _tiled(value, places, across) for name, value in kind.items()} for kind in kinds]
    notes: list[str] = []
    if len(shape) > 1:
        image, notes = _pixels(image)
    elif len(image) > _CHANNELS:
        image, notes = image[:_CHANNELS], [f"first {_CHANNELS} of {len(image)} channels"]
    sample = replace(example.sample, image=image.float(), mask=mask)
    found = replace(example, sample=sample, maps=kinds[0], runner_up_maps=kinds[1])
    return Drawn(found, tuple(notes), title, places, across, None if seen is None or seen.all() else seen)


def numbers(values: Any) -> Tensor:
    """Convert a tensor or array to float64 on the CPU, which keeps gradients below the smallest float32."""
    if isinstance(values, Tensor):
        return values.detach().cpu().double()
    # A copy, because torch refuses negative strides and warns of read-only arrays.
    return torch.from_numpy(np.array(values, dtype=np.float64))


def as_bytes(image: Tensor) -> NDArray[np.uint8]:
    """Return an image (1 or 3, H, W) in [0, 1] as bytes (H, W, 3)."""
    return np.asarray((image.expand(3, -1, -1) * 255).round().byte().permute(1, 2, 0).numpy())


def as_input(image: Any, of_map: tuple[int, ...]) -> Any:
    """Return a picture (C, H, W), signal (C, L) or volume (C, D, H, W), whatever its container and order of axes.

    Args:
        image (Tensor, ndarray or PIL image): a picture also (H, W) or (H, W, C), all with batch dimensions of 1.
        of_map (tuple of int): shape of its map, which tells a signal from a picture, and that from a volume.

    Returns:
        Tensor or ndarray: (C, H, W), (C, L) or (C, D, H, W).

    Raises:
        TypeError: if it is the path of a file.
        ValueError: if it is a batch of several pictures, or has other channels last than those of colours.
    """
    if isinstance(image, str | Path):
        raise TypeError(
            f"an overlay is drawn on an image, not on a path; pass read_image({quoted(str(image))}) of captum_softcam.data."
        )
    values = upright(image)
    while len(of_map) > 1 and of_map[0] == 1:
        of_map = of_map[1:]
    while values.ndim > 3 and len(values) == 1 and (values.ndim > 4 or len(of_map) < 3 or values.shape[1] in COLOURS):
        values = values[0]
    if values.ndim == 4 and len(values) > 1 and values.shape[1] in (1, 3):
        raise ValueError(
            f"images of shape {tuple(values.shape)} are a batch of {len(values)}; draw one at a time, such as images[0], "
            "with its map."
        )
    if len(of_map) == 1 and of_map[0] > 1:
        return values[0] if values.ndim == 3 and len(values) == 1 else values
    values = channels_first(values)
    if values.ndim == 3 and values.shape[2] <= _CHANNELS < min(values.shape[:2]):
        raise ValueError(
            f"an image of shape {tuple(values.shape)} would be {len(values)} channels of {values.shape[1]} x "
            f"{values.shape[2]} pixels; pass its channels first, as np.moveaxis(image, 2, 0), or the mean of them."
        )
    return values


def map_channels_first(attribution: Any, sides: tuple[int, ...]) -> Any:
    """Return a map (C, h, w) if it is (h, w, C), as Captum draws it: of the size of its picture, or else square."""
    shape = tuple(np.shape(attribution))
    if len(shape) != 3 or shape[2] not in COLOURS or shape[0] in (1, 3) or shape[1:] == sides:
        return attribution
    return numbers(attribution).permute(2, 0, 1) if shape[:2] == sides or shape[0] == shape[1] else attribution


def put_back(maps: Tensor, shape: tuple[int, ...], fit: Fit, size: int | None = None) -> Tensor:
    """Put maps (N, 1, h, w) of the network's input back onto the original, upsampled to the input as in the metrics.

    Args:
        maps (Tensor): of any resolution; they cover the whole input.
        shape (tuple of int): of the original.
        fit (Fit): how the original became the input.
        size (int): side of the input in pixels. Default: the first side of the map, or a multiple of it from 224 up, because
            pixels of a small input would be placed too coarsely

    Returns:
        Tensor: ``(N, 1, *shape)``, NaN where the network did not see the original.

    Raises:
        ValueError: for signals, which no :class:`Fit` makes square, or if ``size`` is not a number of pixels.
        TypeError: if ``fit`` is something else.
    """
    if not isinstance(fit, Fit):
        raise TypeError(f"fit is a Fit, such as classifier.fit or Fit('crop') of captum_softcam.data; got {quoted(fit)}.")
    given: object = size
    if given is not None and not (isinstance(given, int | np.integer) and given > 0):
        raise ValueError(f"size is the side of the network's input in pixels, such as 224; got {quoted(size)}.")
    if len(shape) == 1:
        raise ValueError("a signal is not cropped, so that its map cannot be put back by 'fit'; leave out fit.")
    side = size or maps.shape[2] * -(-_SIDE // maps.shape[2])
    return fit.restore(upsample(maps, (side,) * len(shape)), shape, side)


def fitting_map(
    name: str, attribution: Any, shape: tuple[int, ...], fit: Fit | None = None, size: int | None = None
) -> Tensor:
    """Upsample a map to the resolution of the input, as in the metrics, or put it back onto the original."""
    values = _with_channel(numbers(attribution), len(shape))
    if values.dim() != len(shape) + 1 or not values.numel():
        raise ValueError(
            f"the map {quoted(name)} has shape {tuple(np.shape(attribution))}; an input of size {quoted(shape)} needs a "
            f"single map with {len(shape)} dimensions behind its channel."
        )
    values = values.where(values.isfinite(), torch.nan).sum(0, keepdim=True)[None]
    return (upsample(values, shape) if fit is None else put_back(values, shape, fit, size))[0]


def fitting_mask(mask: Any, shape: tuple[int, ...], fit: Fit | None = None, size: int | None = None) -> Tensor:
    """Return a mask of the picture (1, ...), or put that of the network's input back onto it."""
    values = _with_channel(numbers(mask), len(shape))
    if tuple(values.shape) != (1, *shape):
        sides = set(values.shape[1:])
        if fit is not None and len(values) == len(sides) == 1 and size in (None, *sides):
            return put_back((values > 0).double()[None], shape, fit, size)[0] >= 0.5
        raise ValueError(f"a mask of shape {tuple(np.shape(mask))} does not fit its input; expected {(1, *shape)}.")
    return values > 0


def _with_channel(values: Tensor, dimensions: int) -> Tensor:
    """Remove batch dimensions of 1 and add a missing channel dimension."""
    while values.dim() > dimensions + 1 and len(values) == 1:
        values = values[0]
    return values[None] if values.dim() == dimensions else values


def _slices(maps: dict[str, Tensor], depth: int, count: int) -> tuple[tuple[int, ...], int, str]:
    """Return the slices of a volume to draw, how many of them stand side by side, and a title."""
    totals = torch.zeros(depth, dtype=torch.float64)
    for value in maps.values():
        totals += signed_scale(value.nan_to_num(0)).clamp(min=0).sum((0, 2, 3))
    differ = bool(totals.amax() > totals.amin())
    strongest = int(totals.argmax()) if differ else depth // 2
    if count == 1:
        return (strongest,), 1, f"slice {strongest + 1} of {depth}" + (", highest attribution" if differ else "")
    places = np.unique(np.linspace(0, depth - 1, min(count, depth)).round().astype(int))
    places[np.abs(places - strongest).argmin()] = strongest
    title = f"{len(places)} of {depth} slices" + (f", highest attribution in {strongest + 1}" if differ else "")
    return tuple(places.tolist()), math.ceil(math.sqrt(len(places))), title


def _tiled(values: Tensor, places: Sequence[int], across: int) -> Tensor:
    """Arrange slices of (C, D, H, W) in rows of ``across``, as one picture (C, rows * H, across * W) without gaps."""
    tiles = [values[:, place] for place in places]
    tiles += [torch.zeros_like(tiles[0])] * (-len(tiles) % across)
    rows = [torch.cat(tiles[start : start + across], 2) for start in range(0, len(tiles), across)]
    return torch.cat(rows, 1)


def _bytes_or_numbers(image: Any) -> Tensor:
    """Return an image on the CPU; bytes stay bytes, because large photographs would take eight times their memory."""
    if not str(image.dtype).endswith("uint8"):
        return numbers(image)
    return image.detach().cpu() if isinstance(image, Tensor) else torch.from_numpy(np.array(image))


def _pixels(image: Tensor) -> tuple[Tensor, list[str]]:
    """Convert an image to grey or colour (1 or 3, H, W) in [0, 1] and return notes on the changes."""
    words = []
    of_bytes = image.dtype == torch.uint8
    image = image.float() / 255 if of_bytes else image
    if len(image) not in (1, 3):
        words.append(f"mean of {len(image)} channels")
        image = image.mean(0, keepdim=True)
    if of_bytes:
        return image, words
    finite = image[image.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if low < -_SLACK or high > 1 + _SLACK:
        words.append(f"scaled from {low:.3g} to {high:.3g}")
        image = (image - low) / ((high - low) or 1.0)
    if len(finite) < image.numel():
        words.append("black where not finite")
    return image.nan_to_num(0, 0, 0).clamp(0, 1), words
