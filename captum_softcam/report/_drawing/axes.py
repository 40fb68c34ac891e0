"""Draw pixels, contours and outlines into axes, as all overlays and panels do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

__all__ = ["OUTLINE", "draw_lines", "draw_outline", "draw_picture", "set_limits"]

OUTLINE = "#00e5ff"
"""Cyan, which differs from orange, purple and green for any reader, and from the white contours."""


class _Picture(AxesImage):
    """Pixels that stay as they are in vector graphics, and are shrunk without jags on a screen."""

    def draw(self, renderer: Any) -> None:
        # The name of the other kind in all releases; those from 3.10 also call it "auto"
        kind = "none" if renderer.option_scale_image() else "antialiased"
        if self.get_interpolation() != kind:
            self.set_interpolation(kind)
        super().draw(renderer)


def draw_picture(axis: Axes, pixels: NDArray[Any]) -> None:
    """Draw pixels (H, W, 3), of bytes or in [0, 1], over the whole axes, whose limits become those of the picture."""
    set_limits(axis, pixels.shape[:2])
    height, width = pixels.shape[:2]
    picture = _Picture(axis, extent=(-0.5, width - 0.5, height - 0.5, -0.5), resample=False)
    picture.set_data(pixels)
    axis.add_image(picture)


def set_limits(axis: Axes, shape: tuple[int, ...]) -> None:
    """Set the limits of axes to those of a picture (H, W)."""
    height, width = shape
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal", xticks=[], yticks=[])


def draw_outline(
    axis: Axes, region: NDArray[np.bool_], place: tuple[slice, slice], colour: str = OUTLINE, strength: float = 1.0
) -> None:
    """Draw the border of a region (H, W), or of the part of it in one place of a picture, without changing the limits."""
    part = region[place]
    if not part.any():
        return
    rows, columns = (np.flatnonzero(part.any(side)) for side in (1, 0))
    part = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # because it may be a spot on a large picture
    closed = np.pad(part, 1)  # where it touches the border of the picture, too
    top, left = place[0].start + rows[0] - 1, place[1].start + columns[0] - 1
    places = np.arange(closed.shape[1]) + left, np.arange(closed.shape[0]) + top
    draw_lines(axis, *places, closed.astype(float), [0.5], colour, strength)


def draw_lines(
    axis: Axes,
    columns: NDArray[Any],
    rows: NDArray[Any],
    values: NDArray[Any],
    levels: Sequence[float],
    colour: str,
    strength: float = 1.0,
    dashes: str = "solid",
) -> None:
    """Draw contours with a dark border, which read on any ground, without changing the limits of the axes.

    Args:
        axis (matplotlib.axes.Axes): to draw into.
        columns (ndarray): horizontal positions of the values, (w,).
        rows (ndarray): vertical ones, (h,).
        values (ndarray): (h, w); lines end where it is masked.
        levels (sequence of float): of the contours, ascending.
        colour (str): of the lines.
        strength (float): factor of the width that suits the size of the axes. Default: 1
        dashes (str): ``"solid"`` or ``"dashed"``. Default: ``"solid"``
    """
    limits = axis.get_xlim(), axis.get_ylim()
    width = strength * _width(axis)
    lines = axis.contour(columns, rows, values, levels=levels, colors=colour, linewidths=width, linestyles=dashes)
    lines.set_path_effects([withStroke(linewidth=1.8 * width, foreground="black")])
    axis.set(xlim=limits[0], ylim=limits[1])  # contour changes them


def _width(axis: Axes) -> float:
    """Return the width of a line in points: 1.3 in axes of 3.5 inches, less than in proportion in larger ones."""
    pixels: float = min(axis.get_window_extent().size)
    inches = pixels / axis.figure.canvas.figure.dpi
    return float(max(0.65, 1.3 * (inches / 3.5) ** 0.75))
