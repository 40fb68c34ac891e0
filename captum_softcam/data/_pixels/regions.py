"""Rasterise boxes and polygons.

Coordinates are those of edges: the first pixel of a row spans 0 to 1, the last one width - 1 to width; readers of formats
that count otherwise convert them. A pixel belongs to a box if the box covers any part of it, and to a polygon if its centre
lies inside by the even-odd rule.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._names import quoted
from captum_softcam.data._pixels.images import exif_hint, quarter_turn, upright

__all__ = ["Box", "box_mask", "polygon_mask"]

_NOISE = 1e-6  # pixels: x + width in floating point may end this far beyond the border of a pixel without touching it
_COMPARED = 2**22  # pairs of an edge and a row at a time, because a polygon may have a million corners


class Box(NamedTuple):
    """The four edges of a box in pixels."""

    left: float
    top: float
    right: float
    bottom: float


def box_mask(boxes: list[Box], source: str, size: tuple[int, int] | None, file: Path, image: Tensor) -> Tensor:
    """Return the union of boxes as (1, H, W) bool.

    Args:
        boxes (list of Box): at least one; a part beyond the border of the image is cut off.
        source (str): where the boxes come from, for error messages.
        size (tuple of int or None): width and height of the image as ``source`` states them, if it does. Where they are
            those of the stored pixels, and EXIF turns these by a quarter, the region is turned with them.
        file (path): the file of the image.
        image (Tensor): (3, H, W), upright.

    Raises:
        ValueError: if a box lies wholly outside the image, or ``size`` is not the image's own.
    """
    height, width, orientation = _canvas(size, source, file, image)
    mask = np.zeros((height, width), bool)
    for box in boxes:
        rows, columns = _span(box.top, box.bottom, height), _span(box.left, box.right, width)
        if not (rows and columns):
            edges = ", ".join(f"{name} {edge:g}" for name, edge in box._asdict().items())
            raise ValueError(f"{source}: the box with the edges {edges} lies outside its image of {width}x{height} pixels.")
        mask[rows.start : rows.stop, columns.start : columns.stop] = True
    return torch.from_numpy(upright(mask, orientation))[None]


def polygon_mask(
    polygons: list[list[float]], source: str, size: tuple[int, int] | None, file: Path, image: Tensor
) -> Tensor:
    """Return the union of polygons as (1, H, W) bool; one too thin to contain a centre covers the pixels of its corners.

    Args:
        polygons (list of list of float): at least one, each x1, y1, x2, y2, …; what lies beyond the border is cut off.
        source (str): where the polygons come from, for error messages.
        size (tuple of int or None): width and height of the image as ``source`` states them, if it does. Where they are
            those of the stored pixels, and EXIF turns these by a quarter, the region is turned with them.
        file (path): the file of the image.
        image (Tensor): (3, H, W), upright.

    Raises:
        ValueError: if a polygon lies wholly outside the image, or ``size`` is not the image's own.
    """
    height, width, orientation = _canvas(size, source, file, image)
    mask = np.zeros((height, width), bool)
    for polygon in polygons:
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
        inside = _inside(points, height, width)
        if not inside.any():
            inside = _corners(points, height, width)
        if not inside.any():
            start = ", ".join(f"{value:g}" for value in polygon[:2])
            raise ValueError(f"{source}: the polygon from ({start}) lies outside its image of {width}x{height} pixels.")
        mask |= inside
    return torch.from_numpy(upright(mask, orientation))[None]


def _canvas(size: tuple[int, int] | None, source: str, file: Path, image: Tensor) -> tuple[int, int, int]:
    """Return height and width to draw on, and the orientation of what is drawn; ValueError for an image of another size."""
    height, width = image.shape[1:]
    orientation = 1 if size is None else quarter_turn(size[::-1], image, file)
    if orientation > 1:
        return width, height, orientation
    if size is not None and size != (width, height):
        # resizing the annotation would guess: it may belong to a cropped or rotated copy
        raise ValueError(
            f"{source} is for an image of {quoted(size[0], 20)}x{quoted(size[1], 20)} pixels, its image has "
            f"{width}x{height}; its regions would be misplaced.{exif_hint(file)}"
        )
    return height, width, 1


def _span(first: float, last: float, length: int) -> range:
    """Return the pixels between two edges, at least one, as far as they lie on a line of ``length`` pixels."""
    # clamped first: x + width may be infinite, and floor would raise an error
    start = math.floor(min(max(first, -2.0), length + 1.0) + _NOISE)
    stop = max(math.ceil(min(max(last, -1.0), length + 1.0) - _NOISE), start + 1)
    return range(max(start, 0), min(stop, length))


def _inside(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """Return which centres lie inside: along every row, each crossed edge switches between outside and inside."""
    # Not Pillow's ImageDraw.polygon, which draws the outline and grows the region by a pixel on two sides.
    following = np.roll(points, -1, axis=0)
    crossings = np.zeros((height, width + 1), int)
    step = max(1, _COMPARED // height)
    for start in range(0, len(points), step):
        _count_crossings(crossings, points[start : start + step].T, following[start : start + step].T)
    inside: NDArray[np.bool_] = crossings.cumsum(axis=1)[:, :width] % 2 == 1
    return inside


def _count_crossings(crossings: NDArray[np.int64], ends: NDArray[np.float64], next_ends: NDArray[np.float64]) -> None:
    """Add 1 to the first pixel behind every crossing of an edge with the middle of a row (H, W + 1)."""
    (x, y), (next_x, next_y) = ends, next_ends
    height, width = len(crossings), crossings.shape[1] - 1
    centres = np.arange(height)[:, None] + 0.5
    # half-open, so that an outline through a corner at this height crosses once, and a horizontal edge never
    row, edge = np.nonzero((y <= centres) != (next_y <= centres))
    along = (row + 0.5 - y[edge]) / (next_y[edge] - y[edge])
    crossing = x[edge] + along * (next_x[edge] - x[edge])
    first = np.ceil(crossing - 0.5).clip(0, width).astype(int)
    np.add.at(crossings, (row, first), 1)  # unlike +=, it counts several crossings in one pixel


def _corners(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """Return the pixels that contain a corner; a corner on the far border belongs to the last pixel."""
    on_image = points[((points >= 0) & (points <= (width, height))).all(axis=1)]
    columns, rows = np.minimum(on_image.astype(int), (width - 1, height - 1)).T
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    return mask
