"""Overlays: a grey photograph under the colours of an attribution map."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._figures import Drawing
from captum_softcam._fit import Fit
from captum_softcam._maps import PERCENTILE, scaled_map
from captum_softcam._names import quoted
from captum_softcam.data import Sample
from captum_softcam.evaluation import Example
from captum_softcam.report._drawing.axes import draw_lines, draw_outline, draw_picture, set_limits
from captum_softcam.report._drawing.pictures import Drawn, as_input, drawn, map_channels_first
from captum_softcam.report._drawing.signals import draw_signal

__all__ = [
    "LEVELS",
    "OPACITY",
    "UNDEFINED",
    "Look",
    "colour_bar",
    "draw_input",
    "draw_overlay",
    "overlay",
    "plot_overlay",
]

UNDEFINED = "#9be09b"
"""Green for values that are not finite, because no scale has it."""
LEVELS = (0.5, 0.8)
OPACITY = 0.8  # of the strongest colour; that of 0 is 0

# of a map on white: diverging and safe for colour-blind readers, orange for the class, purple against it
_ON_WHITE = "PuOr_r"
_PALE = np.uint8(225)  # grey of what the network did not see, of a map on white
_UNSEEN = 0.3  # contrast of the picture where the network did not see it
_DPI = 64.0  # a power of two, so that a figure has exactly as many pixels as the picture
_LETTERS = 9  # of a title in an inch
_GRID = 512  # most positions a side at which contours are computed
_GREY = (0.299, 0.587, 0.114)


def _ramp(*colours: str) -> NDArray[np.float64]:
    return np.asarray(LinearSegmentedColormap.from_list("ramp", colours)(np.linspace(0, 1, 128)))


# The ends of PuOr are dark and would vanish on dark ground; these are of middle lightness and stand out on any. The two
# halves do not blend, so that the smallest values have the colour of their sign; there, they are transparent.
_SIGNED = ListedColormap(np.concatenate([_ramp("#6a3df0", "#8f78ff", "#bdb0ff"), _ramp("#ffc878", "#ff9d1e", "#f26a00")]))


@dataclass(frozen=True)
class Look:
    """What is drawn of a map; see :func:`overlay`."""

    positive: bool = False
    percentile: float = PERCENTILE
    contours: Sequence[float] = LEVELS

    def __post_init__(self) -> None:
        if not (isinstance(self.percentile, Real) and 0 < self.percentile <= 100):
            raise ValueError(
                f"percentile is that of the magnitudes at which the colours end, above 0 and up to 100, the largest; got "
                f"{quoted(self.percentile)}."
            )
        try:
            levels = sorted({float(level) for level in self.contours})
        except (TypeError, ValueError):
            levels = [0.0]
        if not all(0 < level < 1 for level in levels):
            raise ValueError(
                f"contours are fractions of the scale, above 0 and below 1, such as (0.5, 0.8); got {quoted(self.contours)}."
            )
        object.__setattr__(self, "contours", tuple(levels))

    def scaled(self, attribution: Tensor) -> NDArray[np.float64]:
        """Return a map (1, ...) divided by the end of its scale (...), NaN where it is not finite."""
        values = attribution[0].numpy()
        return scaled_map(values.clip(min=0) if self.positive else values, self.percentile)

    def coloured(self, scaled: NDArray[np.float64], *, on_white: bool = False) -> NDArray[np.uint8]:
        """Return the colours (..., 3) of a scaled map, that of a picture or for a ground of white."""
        both, one = (_ON_WHITE, "inferno_r") if on_white else (_SIGNED, "inferno")
        colours, steps = (one, scaled) if self.positive else (both, scaled / 2 + 0.5)
        # A table of its 256 colours, because a colour map itself copies a large map several times.
        table = np.asarray(matplotlib.colormaps.get_cmap(colours)(np.arange(256), bytes=True))[:, :3]
        found = table[(256 * np.nan_to_num(steps)).clip(0, 255).astype(np.uint8)]
        found[np.isnan(scaled)] = np.multiply(to_rgb(UNDEFINED), 255).round()
        return found


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

    Orange is for the class and purple against it; 0 is transparent. The colours end at a percentile of the magnitudes; of a
    sparse map, in which that percentile is below a hundredth of the largest magnitude, it is the percentile of what is above
    this hundredth. Contours are solid for the class and dashed against it. They are left out of maps as rough as those of
    Integrated Gradients, which they would hide. The mask is outlined in cyan. Values that are not finite are green; the part
    of the picture that the network did not see is pale.

    Cost: no forward.

    Args:
        image (Tensor, ndarray or PIL image): (C, H, W), (H, W) or (H, W, 3 or 4), of which transparency is dropped; bytes or
            numbers in [0, 1], others are scaled. Of other than 1 or 3 channels first, the mean is drawn. Of a volume
            (C, D, H, W), the slice with the highest attribution.
        attribution (Tensor or ndarray): map (h, w), (1, h, w) or (1, 1, h, w) of any resolution, upsampled as in the
            metrics; of a volume (1, d, h, w). Several channels are summed, also those of (h, w, C) in the size of the image
            or square; of evidence maps, pass one class, as in ``evidence[:, 282]``.
        mask (Tensor, ndarray or PIL image): (1, H, W) or (H, W), True or above 0 inside. Default: None
        positive (bool): draw only values above 0, in a sequential colour map from dark to bright. Default: False
        percentile (float): of the magnitudes, where the colours end; 100 is the largest. Default: 99
        contours (sequence of float): fractions of that end at which lines are drawn. Default: 0.5 and 0.8
        fit (Fit): how ``image`` became the input of the network, which ``attribution`` covers, such as ``classifier.fit``.
            Default: None, the map covers the image
        size (int): side of that input in pixels, such as ``classifier.image_size``. Default: the first side of the map, or
            a multiple of it from 224 up

    Returns:
        ndarray: (H, W, 3), of bytes.

    Raises:
        ValueError: if a shape does not fit, the image is a signal or a batch of several, or a percentile, a contour or
            ``size`` is out of range.
        TypeError: if the image, the map or the mask is the path of a file, or ``fit`` is not a
            :class:`~captum_softcam.data.Fit`.

    Example::

        >>> overlay(torch.rand(3, 64, 80), torch.randn(1, 7, 7)).shape
        (64, 80, 3)
    """
    look = Look(positive, percentile, contours)
    found = _drawn(image, attribution, mask, fit, size)
    if found.example.sample.image.dim() == 2:
        raise ValueError("a signal has no pixels to return as an array; use plot_overlay, which draws its lines.")
    scaled = look.scaled(found.example.maps["attribution"])
    pixels = _blended(found, scaled, look)
    # Matplotlib draws only the lines, because it would take seconds to copy a large photograph.
    lines = _rendered_lines(found, scaled, look)
    drawn_on = lines[..., 3] > 0
    opacity = lines[drawn_on][:, 3:] / 255
    pixels[drawn_on] = (pixels[drawn_on] * (1 - opacity) + lines[drawn_on][:, :3] * opacity).round()
    return pixels


def _rendered_lines(found: Drawn, scaled: NDArray[np.float64], look: Look) -> NDArray[np.uint8]:
    """Return the lines of an overlay on transparent ground, (H, W, 4)."""
    height, width = scaled.shape
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="none")
    figure.set_layout_engine("none")
    canvas = FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    set_limits(axis, scaled.shape)
    _draw_contours(axis, scaled, look.contours, found)
    _draw_regions(axis, found)
    canvas.draw()  # type: ignore[no-untyped-call]  # of Matplotlib
    return np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]  # of Matplotlib


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
    """Draw a map over its picture in grey as :func:`overlay` does, with contours that stay lines in vector graphics.

    The channels of a signal are drawn as lines one above the other, with the colours of the map along each line.

    Cost: no forward.

    Args:
        image (Tensor, ndarray or PIL image): as for :func:`overlay`, or a signal (C, L).
        attribution (Tensor or ndarray): as for :func:`overlay`; of a signal (l,), (1, l) or (1, 1, l), so sum
            channels before, as in ``attribution.sum(1)``.
        mask (Tensor, ndarray or PIL image): as for :func:`overlay`. Default: None
        positive (bool): as for :func:`overlay`. Default: False
        percentile (float): as for :func:`overlay`. Default: 99
        contours (sequence of float): as for :func:`overlay`. Default: 0.5 and 0.8
        fit (Fit): as for :func:`overlay`. Default: None
        size (int): as for :func:`overlay`. Default: that of the map, from 224 up
        title (str): above the picture, in as many lines as a new figure needs. Default: none
        ax (matplotlib.axes.Axes): to draw into. Default: a new figure
        figsize (tuple of float): of the new figure in inches. Default: 4 inches wide, as high as the picture needs

    Returns:
        matplotlib.figure.Figure: the figure, new or that of ``ax``.

    Raises:
        ValueError: as by :func:`overlay`, except for signals.
        TypeError: as by :func:`overlay`, or if ``ax`` is not one pair of flat axes.

    Example::

        >>> plot_overlay(torch.rand(3, 64, 80), torch.randn(1, 7, 7), title="Grad-CAM").savefig("overlay.svg")
    """
    look = Look(positive, percentile, contours)
    found = _drawn(image, attribution, mask, fit, size)
    if ax is None:
        letters = int((figsize or (4.0,))[0] * _LETTERS)
        title = "\n".join(textwrap.fill(line, letters) for line in str(title or "").splitlines())
        figsize = figsize or (4.0, 4.0 * _aspect(found.example.sample.image) + 0.3 * len(title.splitlines()))
        ax = Drawing(figsize=figsize, layout="constrained").subplots()
    elif getattr(ax, "name", "") != "rectilinear":
        raise TypeError(f"ax is one of the flat axes of a figure, such as plt.subplots()[1]; got {type(ax).__name__}.")
    draw_overlay(ax, found, "attribution", look)
    if title:
        ax.set_title(title, parse_math=False)
    return ax.figure.canvas.figure


def _aspect(image: Tensor) -> float:
    """Return height over width of a picture, or of the drawing of a signal."""
    return image.shape[1] / image.shape[2] if image.dim() == 3 else max(0.5, 0.1 * len(image))


def draw_overlay(axis: Axes, found: Drawn, method: str, look: Look, *, on_white: bool = False) -> None:
    """Draw one map of an example, with the outline of the mask: over its picture with contours, on white, or of a signal."""
    image = found.example.sample.image
    scaled = look.scaled(found.example.maps[method])
    if image.dim() == 2:
        draw_signal(axis, image, look.coloured(scaled, on_white=True) / 255, found.example.sample.mask)
        return
    if on_white:
        pixels = look.coloured(scaled, on_white=True)
        draw_picture(axis, pixels if found.seen is None else np.where(found.seen[0].numpy()[..., None], pixels, _PALE))
    else:
        draw_picture(axis, _blended(found, scaled, look))
        _draw_contours(axis, scaled, look.contours, found)
    _draw_regions(axis, found)


def draw_input(axis: Axes, found: Drawn, *, with_mask: bool = True) -> None:
    """Draw the input of an example, with the outline of the mask and a frame around what the network saw of an original."""
    image, mask = found.example.sample.image, found.example.sample.mask
    if image.dim() == 2:
        draw_signal(axis, image, mask=mask if with_mask else None)
        return
    draw_picture(axis, image.expand(3, -1, -1).permute(1, 2, 0).numpy())
    _draw_regions(axis, found, with_mask)


def _draw_regions(axis: Axes, found: Drawn, with_mask: bool = True) -> None:
    mask = found.example.sample.mask if with_mask else None
    for *_, place in found.tiles:
        if found.seen is not None:
            draw_outline(axis, found.seen[0].numpy(), place, "white", 0.5)
        if mask is not None:
            draw_outline(axis, mask[0].numpy(), place)


def colour_bar(look: Look, *, on_white: bool = False) -> NDArray[np.uint8]:
    """Return the colours (1, 256, 3) of the whole scale, on white or over grey."""
    values = np.linspace(0 if look.positive else -1, 1, 256)[None]
    if on_white:
        return look.coloured(values, on_white=True)
    opacity = OPACITY * np.abs(values)[..., None]
    return np.asarray((153 * (1 - opacity) + look.coloured(values) * opacity).round(), np.uint8)


def _draw_contours(axis: Axes, scaled: NDArray[np.float64], levels: Sequence[float], found: Drawn) -> None:
    """Draw contours in each part of a picture, solid for the class and dashed against it, unless the map is too rough."""
    if not levels or any(_is_rough(sign * scaled >= min(levels)) for sign in (1, -1)):
        return
    for *_, place in found.tiles:
        # of a large picture at some positions alone, between which maps are smooth
        rows, columns = (
            np.unique(np.linspace(side.start, side.stop - 1, min(side.stop - side.start, _GRID)).round().astype(int))
            for side in place
        )
        values = np.ma.masked_invalid(scaled[np.ix_(rows, columns)])
        for sign, dashes in ((1, "solid"), (-1, "dashed")):
            reached = [level for level in sorted(levels) if (sign * values).min() < level < (sign * values).max()]
            if reached and min(values.shape) > 1:
                draw_lines(axis, columns, rows, sign * values, reached, "white", dashes=dashes)


def _is_rough(region: NDArray[np.bool_]) -> bool:
    """Return whether a region is in so many or so thin parts that its border would hide the picture."""
    # The length of the border inside the picture and the area over it, in sides of the picture. Measured on photographs
    # through EfficientNet: CAMs have 1 to 5 and 0.08 to 0.4, occlusion 0.2 to 4 and 0.02 to 0.09, Integrated Gradients 11
    # to 25 and 0.0015.
    edges = sum(int(np.count_nonzero(np.diff(region, axis=axis))) for axis in (0, 1))
    length = edges / np.sqrt(region.size)
    return bool(length > 10 or (length > 3 and region.mean() < 0.006 * length))


def _blended(found: Drawn, scaled: NDArray[np.float64], look: Look) -> NDArray[np.uint8]:
    """Return the picture in grey (H, W, 3) under the colours of a scaled map, washed out where it was not seen."""
    image = found.example.sample.image.numpy()
    grey = image[0] if len(image) == 1 else np.tensordot(np.array(_GREY, np.float32), image, 1)
    opacity = OPACITY * np.nan_to_num(np.abs(scaled, dtype=np.float32), nan=1)
    if found.seen is not None:
        seen = found.seen[0].numpy()
        grey, opacity = np.where(seen, grey, 0.5 + _UNSEEN * (grey - 0.5)), opacity * seen
    pixels = (255 * grey * (1 - opacity))[..., None] + look.coloured(scaled) * opacity[..., None]
    return np.asarray(pixels.round(), np.uint8)


def _drawn(image: Any, attribution: Any, mask: Any, fit: Fit | None, size: int | None) -> Drawn:
    for value in (attribution, mask):
        if isinstance(value, str | Path):
            raise TypeError(f"a map and a mask are arrays, not paths; read {quoted(str(value))} first, as with np.load.")
    picture = as_input(image, np.shape(attribution))
    attribution = map_channels_first(attribution, np.shape(picture)[1:])
    mask = mask if mask is None or isinstance(mask, Tensor) else np.asarray(mask)  # of PIL
    return drawn(Example(Sample(picture, 0, mask, ""), 0, {"attribution": attribution}), fit=fit, size=size)
