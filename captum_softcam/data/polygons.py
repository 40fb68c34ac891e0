"""Polygons on the pixel grid.

A point is measured like the edge of a box: the first pixel spans 0 to 1. A pixel belongs to a polygon if its centre lies
inside, by the even-odd rule. Pillow's own polygons count whole pixels and grow by one on two sides, so they are not used.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam.data.boxes import check_annotated_size

__all__ = ["polygon_mask"]

_COMPARED = 2**22  # pairs of an edge and a row at a time: a polygon may have a million corners


def polygon_mask(polygons: list[list[float]], source: str, size: tuple[int, int] | None, image: Tensor) -> Tensor:
    """The union of polygons as (1, H, W) bool; one that is too thin to hold a centre takes the pixels of its corners.

    Args:
        polygons (list of list of float): at least one, each x1, y1, x2, y2, …; what lies beyond the border is cut off.
        source (str): where the polygons come from, for error messages.
        size (tuple of int or None): width and height of the image as ``source`` has them, if it does.
        image (Tensor): (3, H, W).

    Raises:
        ValueError: if a polygon lies wholly outside the image, or ``size`` is not the image's own.
    """
    check_annotated_size(size, source, image)
    height, width = image.shape[1:]
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
    return torch.from_numpy(mask)[None]


def _inside(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """Which centres lie inside: along every row, each edge that is crossed turns outside into inside or back."""
    following = np.roll(points, -1, axis=0)
    turns = np.zeros((height, width + 1), int)
    step = max(1, _COMPARED // height)
    for start in range(0, len(points), step):
        _count_turns(turns, points[start : start + step].T, following[start : start + step].T)
    inside: NDArray[np.bool_] = turns.cumsum(axis=1)[:, :width] % 2 == 1
    return inside


def _count_turns(turns: NDArray[np.int64], ends: NDArray[np.float64], next_ends: NDArray[np.float64]) -> None:
    """Add 1 to the first pixel behind every crossing of an edge with the middle of a row (H, W + 1)."""
    (x, y), (next_x, next_y) = ends, next_ends
    height, width = len(turns), turns.shape[1] - 1
    centres = np.arange(height)[:, None] + 0.5
    row, edge = np.nonzero((y <= centres) != (next_y <= centres))
    along = (row + 0.5 - y[edge]) / (next_y[edge] - y[edge])
    crossing = x[edge] + along * (next_x[edge] - x[edge])
    first = np.ceil(crossing - 0.5).clip(0, width).astype(int)
    np.add.at(turns, (row, first), 1)


def _corners(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels that hold a corner; a corner on the far border belongs to the last pixel."""
    on_image = points[((points >= 0) & (points <= (width, height))).all(axis=1)]
    columns, rows = np.minimum(on_image.astype(int), (width - 1, height - 1)).T
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    return mask
