"""Panels of attribution maps: input, mask and every method on one signed colour scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from captum_softcam._maps import signed_scale
from captum_softcam._names import shown
from captum_softcam.evaluation import Example
from captum_softcam.report.overlays import COLOURS, UNDEFINED
from captum_softcam.report.pictures import Drawn, drawn
from captum_softcam.report.signals import draw_signal

__all__ = ["plot_panel"]

_CELL = 1.15  # inches
_LANE = 0.22  # inches, of each channel of a signal
_NAME, _NOTE = 9, 6.5  # points
_LONGEST = 60  # characters of a name


def plot_panel(examples: Sequence[Example], classes: Sequence[str] | None = None, *, montage: int = 1) -> Figure:
    """Plot the maps of a few samples by all methods, next to input and mask.

    Each map is upsampled to the input, as in the metrics, and divided by its largest magnitude, so that 0 has the same
    colour everywhere and maps in different units can be compared. The outline is the mask. Inputs outside [0, 1] are scaled.
    One channel is drawn in grey, three in colour; of any other number the mean is drawn. Of a volume, the slice with the
    highest attribution for the class is drawn, and the title says which; with ``montage``, several slices.

    The channels of a signal are drawn as lines one above the other, with the colours of the map along each line. Notes below
    the pictures name changes of the input, flat maps and non-finite values (green).

    Args:
        examples (sequence of Example): samples with their maps by method, (1, h, w) at the resolution of the input or of a
            layer; the cell of a method that failed stays empty.
        classes (sequence of str): names for the rows. Default: the class numbers
        montage (int): number of slices of a volume that are drawn side by side, evenly spaced except that the one with the
            highest attribution is among them. Default: 1

    Returns:
        matplotlib.figure.Figure: one row per sample; save it with ``savefig``.

    Raises:
        ValueError: if there are no examples, if ``montage`` is below 1, or if the shape of an input, a mask or a map cannot
            be drawn.
    """
    if not examples:
        raise ValueError("there are no examples to draw; pass at least one.")
    if montage < 1:
        raise ValueError(f"montage must be the number of slices to draw, at least 1; got {montage}.")
    methods = list(dict.fromkeys(name for example in examples for name in example.maps))
    rows = [drawn(example, montage) for example in examples]
    columns = 2 + len(methods)
    width, heights = max(_cell(row)[0] for row in rows), [_cell(row)[1] for row in rows]
    figure = Figure(figsize=(width * columns + 1.4, sum(heights) + 0.5), layout="constrained")
    axes = figure.subplots(len(examples), columns, squeeze=False, height_ratios=heights)
    for line, row in zip(axes, rows, strict=True):
        _draw_row(line, row, methods, classes)
    for axis, title in zip(axes[0], ["input", "mask", *methods], strict=True):
        title = shown(title, _LONGEST)
        title = title.replace("_", "\n" if len(title) > 10 else " ")
        pad = 6 if axis is not axes[0, 0] or not rows[0].title else 22  # points, above the title of the row
        axis.set_title(title, fontsize=_NAME, parse_math=False, pad=pad)
    scale = ScalarMappable(Normalize(-1, 1), COLOURS)
    bar = figure.colorbar(scale, ax=axes, shrink=0.8, pad=0.01, ticks=[-1, 0, 1])
    bar.ax.set_yticklabels(["against\nthe class", "0", "for the\nclass"], fontsize=8)
    return figure


def _cell(row: Drawn) -> tuple[float, float]:
    """Return width and height of a cell in inches."""
    image = row.example.sample.image
    if image.dim() == 2:
        return 2 * _CELL, max(_CELL, _LANE * len(image))
    return (_CELL if row.across == 1 else min(3.0, 0.8 * row.across) * _CELL,) * 2


def _draw_row(axes: Any, row: Drawn, methods: Sequence[str], classes: Sequence[str] | None) -> None:
    image, mask, maps = row.example.sample.image, row.example.sample.mask, row.example.maps
    _draw_input(axes[0], image)
    _note(axes[0], ", ".join(row.notes))
    _say(axes[0], row.title.replace(", ", "\n"), "#555555", above=True)
    axes[0].set_ylabel(_name(row.example.target, classes), fontsize=_NAME, parse_math=False)
    _draw_mask(axes[1], image, mask)
    for axis, method in zip(axes[2:], methods, strict=True):
        if method in maps:
            _draw_map(axis, image, maps[method], mask)
        else:
            _say(axis, "failed", "black")
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        if image.dim() == 3:
            _number(axis, image, row)


def _number(axis: Any, image: Tensor, row: Drawn) -> None:
    """Write its number into every slice of a montage."""
    if row.across == 1:
        return
    height, width = image.shape[1] / math.ceil(len(row.slices) / row.across), image.shape[2] / row.across
    for place, number in enumerate(row.slices):
        x, y = place % row.across * width, place // row.across * height
        edge = {"facecolor": "white", "alpha": 0.6, "pad": 0.6, "edgecolor": "none"}
        axis.text(x, y, str(number + 1), fontsize=5, color="black", ha="left", va="top", bbox=edge)


def _draw_input(axis: Any, image: Tensor) -> None:
    if image.dim() == 2:
        draw_signal(axis, image)
        return
    # Without limits, Matplotlib stretches a grey image to its own range.
    axis.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1)


def _draw_mask(axis: Any, image: Tensor, mask: Tensor | None) -> None:
    if image.dim() == 2:
        draw_signal(axis, image, mask=mask)
        if mask is None:
            _note(axis, "none")
    elif mask is None:
        axis.imshow(np.zeros(image.shape[1:]), cmap="gray", vmin=0, vmax=1)
        _say(axis, "none", "white")
    else:
        axis.imshow(mask[0].numpy(), cmap="gray", vmin=0, vmax=1)


def _draw_map(axis: Any, image: Tensor, attribution: Tensor, mask: Tensor | None) -> None:
    scaled = _finite_scale(attribution)[0].numpy()
    colours = matplotlib.colormaps[COLOURS].with_extremes(bad=UNDEFINED)
    if image.dim() == 2:
        draw_signal(axis, image, colours(Normalize(-1, 1)(np.ma.masked_invalid(scaled))), mask)
    else:
        axis.imshow(scaled, cmap=colours, vmin=-1, vmax=1)
    if mask is not None and image.dim() > 2:
        _outline(axis, mask[0])
    finite = np.isfinite(scaled)
    if not finite.all():
        _note(axis, f"{(~finite).mean():.0%} not finite")
    # Values are in [-1, 1], where the rounding of float32 maps is 6e-8.
    elif np.ptp(scaled) <= 1e-6:
        _note(axis, "flat: no information")


def _outline(axis: Any, mask: Tensor) -> None:
    """Draw the border of the mask."""
    padded = np.pad(mask.numpy(), 1)  # closes the outline of a mask that touches the border of the image
    limits = axis.get_xlim(), axis.get_ylim()  # contour changes them
    if padded.any():
        columns, rows = (np.arange(-1, length - 1) for length in reversed(padded.shape))
        axis.contour(columns, rows, padded, levels=[0.5], colors="black", linewidths=0.7)
    axis.set(xlim=limits[0], ylim=limits[1])


def _say(axis: Any, words: str, colour: str, *, above: bool = False) -> None:
    place: dict[str, Any] = {"y": 1.02, "va": "bottom", "fontsize": _NOTE} if above else {"y": 0.5, "va": "center"}
    axis.text(x=0.5, s=words, color=colour, ha="center", transform=axis.transAxes, **place)


def _note(axis: Any, words: str) -> None:
    axis.set_xlabel(words.replace(", ", "\n"), fontsize=_NOTE, color="#555555", labelpad=2)


def _name(target: int, classes: Sequence[str] | None) -> str:
    return shown(classes[target], _LONGEST) if classes and 0 <= target < len(classes) else f"class {target}"


def _finite_scale(attribution: Tensor) -> Tensor:
    """Divide a map by its largest finite magnitude and set non-finite values to NaN."""
    finite = attribution.isfinite()
    scaled = signed_scale(attribution.where(finite, 0)[None])[0]
    return scaled.where(finite, torch.nan)
