"""Make pictures of any shape square, their masks along with them, and put maps of the square back onto the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_softcam._names import closest, quoted

__all__ = ["INTERPOLATIONS", "MODES", "Fit"]

Mode = Literal["squash", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic", "nearest"]

MODES = get_args(Mode)
INTERPOLATIONS = get_args(Interpolation)

_MOST_PIXELS = 2**26  # of a resized picture: a strip of 1x5000 pixels would need gigabytes before its centre is cut out


class _Placement(NamedTuple):
    """Size of the resized picture, and where the square begins in it: below 0 where the square is larger."""

    height: int
    width: int
    top: int
    left: int


@dataclass(frozen=True)
class Fit:
    """How a picture of any shape becomes the square that a network takes.

    The picture is resized, and the centre of the result becomes the square. ``"squash"`` resizes the whole picture to a
    square, whatever its shape; ``"crop"`` resizes it until its shorter side fits, so that the centre is cut out;
    ``"pad"`` until its longer side fits, and the rest of the square is black (0 before normalisation) on both sides.
    With ``crop`` below 1, the picture is resized to more than the square, to ``round(size / crop)`` pixels, and the margin
    is cut off in all three modes. Downsampling is antialiased, as that of Pillow.

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
        """Make a picture square.

        Args:
            image (Tensor): (C, H, W), floating point in [0, 1].
            size (int): side of the square in pixels.

        Returns:
            Tensor: (C, size, size) in [0, 1].

        Raises:
            ValueError: if the picture is too elongated for ``"crop"``.
        """
        place = self._place(image.shape[1:], size)
        resized = image
        if image.shape[1:] != (place.height, place.width):
            mode = "nearest-exact" if self.interpolation == "nearest" else self.interpolation
            smooth = mode != "nearest-exact"  # torch refuses to antialias the nearest neighbour
            resized = F.interpolate(image[None], (place.height, place.width), mode=mode, antialias=smooth)[0]
        return _window(resized, place, size).clamp(0, 1)  # because bicubic weights overshoot

    def mask(self, mask: Tensor, size: int) -> Tensor:
        """Make the mask of a picture square, as the picture itself; small regions survive.

        Args:
            mask (Tensor): (1, H, W) of the picture, bool.
            size (int): side of the square in pixels.

        Returns:
            Tensor: (1, size, size), bool; all False if the region lies wholly outside the square.

        Raises:
            ValueError: if the picture is too elongated for ``"crop"``.
        """
        place = self._place(mask.shape[1:], size)
        # not resized like the image: interpolation would wash out a lesion of a few pixels
        pooled = F.adaptive_max_pool2d(mask.float(), (place.height, place.width))
        return _window(pooled, place, size) > 0

    def restore(self, maps: Tensor, shape: tuple[int, int], size: int | None = None) -> Tensor:
        """Put maps of the square back onto the picture that it was made of.

        Args:
            maps (Tensor): (N, 1, h, w) of any resolution; they cover the square and are interpolated bilinearly.
            shape (tuple of int): height and width of the picture.
            size (int): side of the square in pixels. Default: the height of ``maps``

        Returns:
            Tensor: (N, 1, height, width), NaN where the picture lies outside the square, so that the network did not see it.

        Raises:
            ValueError: if the picture is too elongated for ``"crop"``.
        """
        side = maps.shape[2] if size is None else size
        place = self._place(shape, side)
        rows, columns = (
            ((torch.arange(length, dtype=torch.float64) + 0.5) * resized / length - start) / side
            for length, resized, start in zip(shape, place[:2], place[2:], strict=True)
        )
        seen = ((rows >= 0) & (rows <= 1))[:, None] & ((columns >= 0) & (columns <= 1))
        y, x = torch.meshgrid(2 * rows - 1, 2 * columns - 1, indexing="ij")
        grid = torch.stack([x, y], dim=-1).to(maps).expand(len(maps), -1, -1, -1)
        found = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
        return found.masked_fill(~seen.to(maps.device), torch.nan)

    def _place(self, shape: tuple[int, ...], size: int) -> _Placement:
        """Return where a picture of this height and width comes to lie."""
        side = round(size / self.crop)
        height, width = (side, side) if self.mode == "squash" else self._scaled(shape, side)
        if height * width > max(_MOST_PIXELS, side * side):
            raise ValueError(
                f"a picture of {shape[1]}x{shape[0]} pixels is too elongated for fit 'crop': its shorter side would become "
                f"{side} pixels, its longer one {max(height, width)}; use fit 'pad' or 'squash'."
            )
        return _Placement(height, width, _start(height, size), _start(width, size))

    def _scaled(self, shape: tuple[int, ...], side: int) -> tuple[int, int]:
        """Return height and width with the proportions of ``shape``, one of them ``side``."""
        short, long = sorted(shape)
        # rounded down as in torchvision's Resize
        pair = (side, int(side * long / short)) if self.mode == "crop" else (max(1, round(side * short / long)), side)
        return pair if shape[0] <= shape[1] else pair[::-1]


def _start(length: int, size: int) -> int:
    """Return where a centred window of ``size`` begins on a line; as torchvision's CenterCrop for an odd difference."""
    return round((length - size) / 2) if length >= size else -((size - length) // 2)


def _window(values: Tensor, place: _Placement, size: int) -> Tensor:
    """Cut the square out of values (C, H, W), with zeros where it is larger."""
    # a negative pad cuts
    right, bottom = size - place.width + place.left, size - place.height + place.top
    return F.pad(values, (-place.left, right, -place.top, bottom))
