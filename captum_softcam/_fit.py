"""Make pictures of any shape square, and volumes cubic, their masks along with them; put maps back onto the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._names import closest, quoted

__all__ = ["COLOURS", "INTERPOLATIONS", "MODES", "Fit", "channels_first", "upright"]

Mode = Literal["squash", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic", "nearest"]

MODES = get_args(Mode)
INTERPOLATIONS = get_args(Interpolation)
COLOURS = (1, 3, 4)
"""Channels of a picture: grey, colours, and colours with transparency."""

_MODES = ("L", "RGB", "F", "I", "I;16", "I;16B", "I;16L", "I;16N")  # of Pillow, which NumPy reads as they are seen
_MOST_PIXELS = 2**26  # of a resized picture: a strip of 1x5000 pixels would need gigabytes before its centre is cut out


class _Placement(NamedTuple):
    """Size of the resized picture, and where the square begins in it, by axis: below 0 where the square is larger."""

    lengths: tuple[int, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Fit:
    """How a picture of any shape becomes the square that a network takes, and a volume the cube.

    The picture is resized, and the centre of the result becomes the square. ``"squash"`` resizes the whole picture to a
    square, whatever its shape; ``"crop"`` resizes it until its shorter side fits, so that the centre is cut out;
    ``"pad"`` until its longer side fits, and the rest of the square is black (0 before normalisation) on both sides.
    With ``crop`` below 1, the picture is resized to more than the square, to ``round(size / crop)`` pixels, and the margin
    is cut off in all three modes. Downsampling is antialiased, as that of Pillow.

    Volumes are treated alike, with three sides instead of two. Sides are counted in voxels, whatever their size in
    millimetres; bilinear and bicubic interpolation goes axis by axis.

    Equal to ``Resize(256)`` and ``CenterCrop(224)`` of torchvision with ``Fit("crop", 224 / 256)``. timm rounds down:
    its evaluation of ``crop_pct`` 0.95 is ``Fit("crop", 224 / int(224 / 0.95))``.

    Args:
        mode (str): ``"squash"``, ``"crop"`` or ``"pad"``. Default: ``"squash"``
        crop (float): the side of the square, as a fraction of what the picture is resized to, above 0 and up to 1.
            Default: 1
        interpolation (str): ``"bilinear"``, ``"bicubic"`` or ``"nearest"``, of images. Default: ``"bilinear"``

    Raises:
        ValueError: for an unknown mode or interpolation, or a fraction that is out of range.

    Example::

        >>> Fit("crop").image(torch.rand(3, 300, 400), 224).shape
        torch.Size([3, 224, 224])
    """

    mode: Mode = "squash"
    crop: float = 1.0
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"fit {quoted(self.mode)} is unknown. {closest(str(self.mode), MODES)}")
        if self.interpolation not in INTERPOLATIONS:
            known = closest(str(self.interpolation), INTERPOLATIONS)
            raise ValueError(f"interpolation {quoted(self.interpolation)} is unknown. {known}")
        crop: object = self.crop  # of any type, because the values of a Fit are also read from files
        if not (isinstance(crop, int | float) and 0 < crop <= 1):
            raise ValueError(f"crop is a fraction above 0 and up to 1, such as 0.875; got {quoted(crop)}.")

    def image(self, image: Tensor, size: int) -> Tensor:
        """Make a picture square, or a volume cubic.

        Args:
            image (Tensor): (C, H, W) or (C, D, H, W), floating point in [0, 1].
            size (int): side of the square or cube in pixels.

        Returns:
            Tensor: (C, size, size) or (C, size, size, size) in [0, 1].

        Raises:
            ValueError: if the picture is too elongated for ``"crop"``.
        """
        place = self._place(image.shape[1:], size)
        return _window(self._resized(image, place.lengths), place, size).clamp(0, 1)  # because bicubic weights overshoot

    def _resized(self, image: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """Return (C, H, W) or (C, D, H, W) in another size."""

        def resize(planes: Tensor, height: int, width: int) -> Tensor:
            if planes.shape[1:] == (height, width):
                return planes
            mode = "nearest-exact" if self.interpolation == "nearest" else self.interpolation
            smooth = mode != "nearest-exact"  # torch refuses to antialias the nearest neighbour
            return F.interpolate(planes[None], (height, width), mode=mode, antialias=smooth)[0]

        *deep, height, width = lengths
        found = resize(image.flatten(0, -3), height, width).view(*image.shape[:-2], height, width)
        # torch antialiases no volumes: their slices were resized above, and the depth is resized as the height of a picture
        for depth in deep:
            found = resize(found.flatten(2), depth, height * width).view(len(image), depth, height, width)
        return found

    def mask(self, mask: Tensor, size: int) -> Tensor:
        """Make the mask of a picture square, as the picture itself; small regions survive.

        Args:
            mask (Tensor): (1, H, W) or (1, D, H, W) of the picture, bool.
            size (int): side of the square or cube in pixels.

        Returns:
            Tensor: (1, size, size) or (1, size, size, size), bool; all False if the region lies wholly outside the square.

        Raises:
            ValueError: if the picture is too elongated for ``"crop"``.
        """
        place = self._place(mask.shape[1:], size)
        # not resized like the image: interpolation would wash out a lesion of a few pixels
        pool = F.adaptive_max_pool2d if mask.ndim == 3 else F.adaptive_max_pool3d
        return _window(pool(mask.float(), place.lengths), place, size) > 0

    def restore(self, maps: Tensor, shape: tuple[int, ...], size: int | None = None) -> Tensor:
        """Put maps of the square back onto the picture that it was made of.

        Args:
            maps (Tensor): (N, 1, h, w) or (N, 1, d, h, w) of any resolution; they cover the square or cube and are
                interpolated linearly along each axis.
            shape (tuple of int): height and width of the picture; of a volume, depth, height and width.
            size (int): side of the square in pixels. Default: the first side of ``maps``

        Returns:
            Tensor: ``(N, 1, *shape)``, NaN where the picture lies outside the square, so that the network did not see it.

        Raises:
            ValueError: if the picture is too elongated for ``"crop"``.
        """
        side = maps.shape[2] if size is None else size
        place = self._place(shape, side)
        positions = [
            ((torch.arange(length, dtype=torch.float64) + 0.5) * resized / length - start) / side
            for length, resized, start in zip(shape, *place, strict=True)
        ]
        inside = torch.meshgrid(*((line >= 0) & (line <= 1) for line in positions), indexing="ij")
        axes = torch.meshgrid(*(2 * line - 1 for line in positions), indexing="ij")
        grid = torch.stack(axes[::-1], dim=-1).to(maps).expand(len(maps), *shape, -1)  # torch wants the width first
        found = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
        return found.masked_fill(~torch.stack(inside).all(dim=0).to(maps.device), torch.nan)

    def box(self, shape: tuple[int, ...], size: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Find where the square lies on the picture that it is made of.

        Args:
            shape (tuple of int): height and width of the picture; of a volume, depth, height and width.
            size (int): side of the square in pixels.

        Returns:
            tuple of tuple of float: where the square begins and where it ends along each axis, in pixels of the picture;
            below 0 and beyond the picture where ``"pad"`` adds to it.

        Raises:
            ValueError: if the picture is too elongated for ``"crop"``.
        """
        place = self._place(shape, size)
        scales = [length / resized for length, resized in zip(shape, place.lengths, strict=True)]
        edges = [(start * scale, (start + size) * scale) for start, scale in zip(place.starts, scales, strict=True)]
        low, high = zip(*edges, strict=True)
        return low, high

    def _place(self, shape: tuple[int, ...], size: int) -> _Placement:
        """Return where a picture of this size comes to lie."""
        side = round(size / self.crop)
        lengths = (side,) * len(shape) if self.mode == "squash" else self._scaled(shape, side)
        if math.prod(lengths) > max(_MOST_PIXELS, side ** len(shape)):
            raise ValueError(
                f"a picture of {'x'.join(map(str, shape[::-1]))} pixels is too elongated for fit 'crop': its shorter side "
                f"would become {side} pixels, its longer one {max(lengths)}; use fit 'pad' or 'squash'."
            )
        return _Placement(lengths, tuple(_start(length, size) for length in lengths))

    def _scaled(self, shape: tuple[int, ...], side: int) -> tuple[int, ...]:
        """Return lengths with the proportions of ``shape``, one of them ``side``."""
        if self.mode == "crop":
            return tuple(int(side * length / min(shape)) for length in shape)  # rounded down as in torchvision's Resize
        return tuple(max(1, round(side * length / max(shape))) for length in shape)


def upright(picture: Any) -> Tensor | NDArray[Any]:
    """Return a PIL image as an array, upright and in grey or colours; tensors on the CPU, arrays as they are."""
    from PIL import Image, ImageOps

    if isinstance(picture, Tensor):
        return picture.detach().cpu()
    if isinstance(picture, Image.Image):
        picture = ImageOps.exif_transpose(picture)
        if picture.mode not in _MODES:  # palettes, transparency, printers' colours
            picture = picture.convert("RGB")
    return np.asarray(picture)


def channels_first(picture: Tensor | NDArray[Any]) -> Tensor | NDArray[Any]:
    """Return a picture (H, W) or (H, W, 1, 3 or 4) as (C, H, W), without transparency; others as they are."""
    if picture.ndim == 2:
        return picture[None]
    if picture.ndim != 3 or picture.shape[2] not in COLOURS or picture.shape[0] in (1, 3):
        return picture
    colours = picture[..., :3]
    return colours.permute(2, 0, 1) if isinstance(colours, Tensor) else np.moveaxis(colours, 2, 0)


def _start(length: int, size: int) -> int:
    """Return where a centred window of ``size`` begins on a line; as torchvision's CenterCrop for an odd difference."""
    return round((length - size) / 2) if length >= size else -((size - length) // 2)


def _window(values: Tensor, place: _Placement, size: int) -> Tensor:
    """Cut the square out of values (C, H, W) or the cube out of (C, D, H, W), with zeros where it is larger."""
    lines = zip(place.lengths[::-1], place.starts[::-1], strict=True)  # torch pads the last axis first
    return F.pad(values, [margin for length, start in lines for margin in (-start, size - length + start)])
