"""Overlays: a grey photograph under the colours of an attribution map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam._maps import upsample
from captum_softcam.data import Sample
from captum_softcam.evaluation import Example
from captum_softcam.report.panels import COLOURS, as_drawn

__all__ = ["overlay", "plot_overlay"]

POSITIVE = "inferno"
PERCENTILE = 99.0
LEVELS = (0.5, 0.8)

_OPACITY = 0.8  # of the strongest colour; that of 0 is 0
_DPI = 64.0  # a power of two, so that a figure has exactly as many pixels as the picture


def overlay(
    image: Any,
    attribution: Any,
    *,
    mask: Any = None,
    positive: bool = False,
    percentile: float = PERCENTILE,
    contours: Sequence[float] = LEVELS,
    fit: Fit | None = None,
    size: int | None = None,
) -> NDArray[np.uint8]:
    """Draw a map over its picture in grey, as an array of the picture's own size.

    Args:
        image (Tensor, ndarray or PIL image): (C, H, W), an array also (H, W, C) or (H, W); of bytes or in [0, 1].
        attribution (Tensor or ndarray): map (h, w), (1, h, w) or (1, 1, h, w) of any resolution.
        mask (Tensor or ndarray): (1, H, W) or (H, W), outlined. Default: None
        positive (bool): draw values above 0 alone, by a sequential colour map. Default: False
        percentile (float): of the magnitudes, at which the scale of the colours ends. Default: 99
        contours (sequence of float): fractions of that scale at which lines are drawn. Default: 0.5 and 0.8
        fit (Fit): how ``image`` became the input of the network, of which ``attribution`` is a map. Default: None, the map
            covers the picture
        size (int): side of that input in pixels. Default: the first side of the map

    Returns:
        ndarray: (H, W, 3), of bytes.
    """
    height, width = _channels_first(image).shape[-2:]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))
    plot_overlay(
        image,
        attribution,
        mask=mask,
        positive=positive,
        percentile=percentile,
        contours=contours,
        fit=fit,
        size=size,
        ax=axis,
    )
    axis.set_axis_off()
    canvas.draw()  # type: ignore[no-untyped-call]  # of Matplotlib
    return np.array(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]  # of Matplotlib


def plot_overlay(
    image: Any,
    attribution: Any,
    *,
    mask: Any = None,
    positive: bool = False,
    percentile: float = PERCENTILE,
    contours: Sequence[float] = LEVELS,
    fit: Fit | None = None,
    size: int | None = None,
    title: str = "",
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Draw a map over its picture in grey, with contours that stay lines in vector graphics.

    Args:
        image (Tensor, ndarray or PIL image): as for :func:`overlay`.
        attribution (Tensor or ndarray): as for :func:`overlay`.
        mask (Tensor or ndarray): as for :func:`overlay`. Default: None
        positive (bool): as for :func:`overlay`. Default: False
        percentile (float): as for :func:`overlay`. Default: 99
        contours (sequence of float): as for :func:`overlay`. Default: 0.5 and 0.8
        fit (Fit): as for :func:`overlay`. Default: None
        size (int): as for :func:`overlay`. Default: the first side of the map
        title (str): above the picture. Default: none
        ax (matplotlib.axes.Axes): to draw into. Default: a new figure
        figsize (tuple of float): of the new figure in inches. Default: 4 inches wide

    Returns:
        matplotlib.figure.Figure: the figure, new or that of ``ax``.
    """
    picture = _channels_first(image)
    shape = tuple(picture.shape[1:])
    if fit is not None:
        square = torch.as_tensor(np.asarray(attribution), dtype=torch.float64)
        square = square.view(1, 1, *square.shape[-2:])
        side = size or square.shape[2]
        attribution = fit.restore(upsample(square, (side, side)), shape, side).nan_to_num(0)[0]
    drawn, _ = as_drawn(Example(Sample(picture, 0, mask, ""), 0, {"map": attribution}))
    values = drawn.maps["map"][0].numpy()
    if ax is None:
        figsize = figsize or (4.0, 4.0 * shape[0] / shape[1] + 0.3 * bool(title))
        ax = Figure(figsize=figsize, layout="constrained").subplots()
    scaled = values / (np.percentile(np.abs(values), percentile) or np.abs(values).max() or 1.0)
    ax.imshow(_blended(drawn.sample.image, scaled, positive), interpolation="none", resample=False)
    limits = ax.get_xlim(), ax.get_ylim()
    if contours and (scaled >= min(contours)).any():
        lines = ax.contour(scaled, levels=sorted(contours), colors="white", linewidths=1.0)
        lines.set_path_effects([withStroke(linewidth=2.2, foreground="black")])
    if drawn.sample.mask is not None:
        outline = np.pad(drawn.sample.mask[0].numpy(), 1)
        columns, rows = (np.arange(-1, length - 1) for length in reversed(outline.shape))
        ax.contour(columns, rows, outline, levels=[0.5], colors="#00e5ff", linewidths=1.2)
    ax.set(xlim=limits[0], ylim=limits[1], xticks=[], yticks=[])
    if title:
        ax.set_title(title, parse_math=False)
    return cast(Figure, ax.get_figure(root=True))


def _blended(image: Tensor, scaled: NDArray[np.float64], positive: bool) -> NDArray[np.float64]:
    """Return the picture in grey (H, W, 3) under the colours of values in [-1, 1]."""
    weights = [[[0.299]], [[0.587]], [[0.114]]] if len(image) == 3 else [[[1.0]]]
    grey = (image.double().numpy() * weights).sum(0)[..., None]
    values = np.clip(scaled, 0 if positive else -1, 1)
    colours = matplotlib.colormaps[POSITIVE](values) if positive else matplotlib.colormaps[COLOURS](values / 2 + 0.5)
    opacity = _OPACITY * np.abs(values)[..., None]
    return np.asarray(grey * (1 - opacity) + colours[..., :3] * opacity)


def _channels_first(image: Any) -> Tensor:
    """Return a picture (C, H, W)."""
    if isinstance(image, Tensor):
        return image.detach().cpu()
    values = np.asarray(image)
    if values.ndim == 2:
        values = values[None]
    elif values.shape[-1] in (1, 3, 4) and values.shape[0] not in (1, 3):
        values = np.moveaxis(values[..., :3], -1, 0)
    return torch.from_numpy(values.copy())
