"""Boxes on the pixel grid, whatever their format counts from.

A box is held by its edges: the first pixel of a row spans 0 to 1, the last one width - 1 to width. What a format writes is
turned into edges where it is read; here a pixel belongs to a box if the box covers any part of it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from captum_softcam._names import quoted

__all__ = ["Box", "box_mask", "check_annotated_size", "finite_number"]

_NOISE = 1e-6
"""Pixels; an edge that x + width puts this far beyond the border of a pixel does not touch the pixel."""


class Box(NamedTuple):
    """The four edges of a box in pixels."""

    left: float
    top: float
    right: float
    bottom: float


def box_mask(boxes: list[Box], source: str, size: tuple[int, int] | None, image: Tensor) -> Tensor:
    """The union of boxes as (1, H, W) bool.

    Args:
        boxes (list of Box): at least one; a part beyond the border of the image is cut off.
        source (str): where the boxes come from, for error messages.
        size (tuple of int or None): width and height of the image as ``source`` has them, if it does.
        image (Tensor): (3, H, W).

    Raises:
        ValueError: if a box lies wholly outside the image, or ``size`` is not the image's own.
    """
    check_annotated_size(size, source, image)
    height, width = image.shape[1:]
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    for box in boxes:
        rows, columns = _span(box.top, box.bottom, height), _span(box.left, box.right, width)
        if not (rows and columns):
            edges = ", ".join(f"{name} {edge:g}" for name, edge in box._asdict().items())
            raise ValueError(f"{source}: the box with the edges {edges} lies outside its image of {width}x{height} pixels.")
        mask[0, rows.start : rows.stop, columns.start : columns.stop] = True
    return mask


def check_annotated_size(size: tuple[int, int] | None, source: str, image: Tensor) -> None:
    """ValueError if the annotation was made for an image of another size, so that its places would be wrong."""
    height, width = image.shape[1:]
    if size is not None and size != (width, height):
        raise ValueError(
            f"{source} is for an image of {quoted(size[0], 20)}x{quoted(size[1], 20)} pixels, its image has "
            f"{width}x{height}; its places are wrong."
        )


def _span(first: float, last: float, length: int) -> range:
    """The pixels between two edges, at least one, as far as they lie on a line of ``length`` pixels."""
    start = math.floor(min(max(first, -2.0), length + 1.0) + _NOISE)  # x + width may be infinite
    stop = max(math.ceil(min(max(last, -1.0), length + 1.0) - _NOISE), start + 1)
    return range(max(start, 0), min(stop, length))


def finite_number(text: str) -> float | None:
    """The number that a text is, or None; "nan", "inf" and "1_000", which Python alone would take, are none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None
