"""How a picture becomes the square that a network reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["INTERPOLATIONS", "MODES", "Fit"]

MODES = ("squash", "crop", "pad")
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


@dataclass(frozen=True)
class Fit:
    """How a picture becomes the square that a network reads.

    Args:
        mode (str): ``"squash"`` (the whole picture, each side resized by its own factor), ``"crop"`` (the shorter side is
            resized to ``size / crop`` pixels, and the central square is cut out) or ``"pad"`` (the longer side is resized to
            ``size``, and the rest is filled). Default: ``"squash"``
        crop (float): side of the central square as a fraction of the shorter side. Default: 1
        interpolation (str): ``"bilinear"``, ``"bicubic"`` or ``"nearest"``. Default: ``"bilinear"``
    """

    mode: Literal["squash", "crop", "pad"] = "squash"
    crop: float = 1.0
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
