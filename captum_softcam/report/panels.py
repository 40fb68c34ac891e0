"""Panels of attribution maps: input, mask and every method on one signed colour scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from captum_softcam._maps import signed_scale, upsample
from captum_softcam._names import quoted, shown
from captum_softcam.evaluation import Example

__all__ = ["COLOURS", "as_drawn", "plot_panel"]

COLOURS = "PuOr_r"  # diverging and safe for colour-blind readers: orange is for the class, purple against it
_UNDEFINED = "#9be09b"  # green for NaN, because the scale has none
_CELL = 1.15  # inches
_LANE = 0.22  # inches, of each channel of a signal
_CHANNELS = 16  # of a signal that are drawn
_NAME, _NOTE = 9, 6.5  # points
_SLACK = 1e-3  # beyond [0, 1]: rounding, not another unit
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
    rows = [_prepared(example, montage) for example in examples]
    columns = 2 + len(methods)
    width, heights = max(row.size[0] for row in rows), [row.size[1] for row in rows]
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


@dataclass(frozen=True)
class _Row:
    """An example as it is drawn, with notes, and the slices of its volume by their number in rows of ``across``."""

    example: Example
    notes: tuple[str, ...] = ()
    title: str = ""
    slices: tuple[int, ...] = ()
    across: int = 1

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of a cell in inches."""
        image = self.example.sample.image
        if image.dim() == 2:
            return 2 * _CELL, max(_CELL, _LANE * len(image))
        return (_CELL if self.across == 1 else min(3.0, 0.8 * self.across) * _CELL,) * 2


def _draw_row(axes: Any, row: _Row, methods: Sequence[str], classes: Sequence[str] | None) -> None:
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


def _number(axis: Any, image: Tensor, row: _Row) -> None:
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
        _draw_lines(axis, image)
        return
    # Without limits, Matplotlib stretches a grey image to its own range.
    axis.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1)


def _draw_lines(axis: Any, signal: Tensor, colours: Any = None) -> None:
    """Draw the channels of a signal one above the other, on one scale, with a colour for every value behind each line."""
    lanes = _lanes(signal)
    places = np.arange(signal.shape[1])
    for lane in lanes.numpy():
        if colours is not None:
            points = np.stack([places, lane], 1)
            parts = np.stack([points[:-1], points[1:]], 1)
            # Each part ends in the middle of two values; round ends close the gaps.
            axis.add_collection(LineCollection(list(parts), colors=colours[1:], linewidths=3, capstyle="round", zorder=1))
        axis.plot(places, lane, color="black", linewidth=0.5, zorder=2)
    low, high = float(lanes.nan_to_num(0).min()), float(lanes.nan_to_num(0).max())
    margin = 0.05 * ((high - low) or 1.0)
    axis.set(xlim=(-0.5, signal.shape[1] - 0.5), ylim=(low - margin, high + margin))


def _lanes(signal: Tensor) -> Tensor:
    """Shift the channels of a signal so that their lines do not overlap, the first on top; non-finite values are gaps."""
    finite = signal.where(signal.isfinite(), torch.nan)
    known = finite.nan_to_num(0)
    step = 1.1 * float((known.amax(1) - known.amin(1)).max()) or 1.0
    return finite - known.mean(1, keepdim=True) - step * torch.arange(len(signal))[:, None]


def _draw_mask(axis: Any, image: Tensor, mask: Tensor | None) -> None:
    if image.dim() == 2:
        _draw_lines(axis, image)
        if mask is None:
            _note(axis, "none")
        else:
            _shade(axis, mask[0])
    elif mask is None:
        axis.imshow(np.zeros(image.shape[1:]), cmap="gray", vmin=0, vmax=1)
        _say(axis, "none", "white")
    else:
        axis.imshow(mask[0].numpy(), cmap="gray", vmin=0, vmax=1)


def _draw_map(axis: Any, image: Tensor, attribution: Tensor, mask: Tensor | None) -> None:
    scaled = _finite_scale(attribution)[0].numpy()
    colours = matplotlib.colormaps[COLOURS].with_extremes(bad=_UNDEFINED)
    if image.dim() == 2:
        _draw_lines(axis, image, colours(Normalize(-1, 1)(np.ma.masked_invalid(scaled))))
    else:
        axis.imshow(scaled, cmap=colours, vmin=-1, vmax=1)
    if mask is not None and image.dim() == 2:
        _shade(axis, mask[0])
    elif mask is not None:
        _outline(axis, mask[0])
    finite = np.isfinite(scaled)
    if not finite.all():
        _note(axis, f"{(~finite).mean():.0%} not finite")
    # Values are in [-1, 1], where the rounding of float32 maps is 6e-8.
    elif np.ptp(scaled) <= 1e-6:
        _note(axis, "flat: no information")


def _shade(axis: Any, mask: Tensor) -> None:
    """Shade the parts of a signal that are in its mask."""
    edges = np.flatnonzero(np.diff(np.pad(mask.numpy(), 1))) - 0.5
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        axis.axvspan(start, end, color="#d5d5d5", linewidth=0, zorder=0)


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


def as_drawn(example: Example) -> tuple[Example, str]:
    """Convert an example to an image in [0, 1] with mask and maps of the same size.

    Args:
        example (Example): with a signal (C, L), an image (C, H, W) or a volume (C, D, H, W); tensors or arrays of any type.
            Maps have the resolution of the input or of a layer, with or without channel and batch dimensions of 1; several
            channels are summed.

    Returns:
        tuple of Example and str: a signal (C, L), of 16 channels at most, or an image (1 or 3, H, W) in [0, 1]; the boolean
        mask (1, H, W); the maps (1, H, W) in their own units, NaN where they are not finite. The text describes the changes
        to the input and is empty if there are none.

    Raises:
        ValueError: if the input has other dimensions, or a map or mask does not fit it.
    """
    row = _prepared(example, 1)
    return row.example, ", ".join([*([row.title] if row.title else []), *row.notes])


def _prepared(example: Example, montage: int) -> _Row:
    image = _values(example.sample.image)
    if not 2 <= image.dim() <= 4 or not image.numel():
        raise ValueError(
            f"an input of shape {tuple(image.shape)} cannot be drawn; expected a signal (C, L), an image (C, H, W) or a "
            "volume (C, D, H, W)."
        )
    size = tuple(image.shape[1:])
    kinds = example.maps, example.runner_up_maps
    maps, runner_up_maps = ({name: _fitting_map(name, value, size) for name, value in kind.items()} for kind in kinds)
    mask = None if example.sample.mask is None else _fitting_mask(example.sample.mask, size)
    title, across = "", 1
    notes: list[str] = []
    places: tuple[int, ...] = ()
    if len(size) == 3:
        places, across, title = _slices(maps, size[0], montage)
        image, mask = _tiled(image, places, across), None if mask is None else _tiled(mask, places, across)
        maps, runner_up_maps = (
            {name: _tiled(value, places, across) for name, value in kind.items()} for kind in (maps, runner_up_maps)
        )
    if len(size) > 1:
        image, notes = _pixels(image, of_bytes=_is_bytes(example.sample.image))
    elif len(image) > _CHANNELS:
        image, notes = image[:_CHANNELS], [f"first {_CHANNELS} of {len(image)} channels"]
    sample = replace(example.sample, image=image.float(), mask=mask)
    drawn = replace(example, sample=sample, maps=maps, runner_up_maps=runner_up_maps)
    return _Row(drawn, tuple(notes), title, places, across)


def _finite_scale(attribution: Tensor) -> Tensor:
    """Divide a map by its largest finite magnitude and set non-finite values to NaN."""
    finite = attribution.isfinite()
    scaled = signed_scale(attribution.where(finite, 0)[None])[0]
    return scaled.where(finite, torch.nan)


def _values(values: Any) -> Tensor:
    """Convert a tensor or array to float64 on the CPU, which keeps gradients below the smallest float32."""
    if isinstance(values, Tensor):
        return values.detach().cpu().double()
    # A copy, because torch refuses negative strides and warns of read-only arrays.
    return torch.from_numpy(np.array(values, dtype=np.float64))


def _fitting_map(name: str, attribution: Any, size: tuple[int, ...]) -> Tensor:
    """Upsample a map to the resolution of the input, as in the metrics."""
    values = _with_channel(_values(attribution), len(size))
    if values.dim() != len(size) + 1 or not values.numel():
        raise ValueError(
            f"the map {quoted(name)} has shape {tuple(np.shape(attribution))}; an input of size {quoted(size)} needs a "
            f"single map with {len(size)} dimensions behind its channel."
        )
    values = values.where(values.isfinite(), torch.nan).sum(0, keepdim=True)
    return upsample(values[None], size)[0]


def _fitting_mask(mask: Any, size: tuple[int, ...]) -> Tensor:
    values = _with_channel(_values(mask), len(size))
    if tuple(values.shape) != (1, *size):
        raise ValueError(f"a mask of shape {tuple(np.shape(mask))} does not fit its input; expected {(1, *size)}.")
    return values > 0


def _with_channel(values: Tensor, dimensions: int) -> Tensor:
    """Remove batch dimensions of 1 and add a missing channel dimension."""
    while values.dim() > dimensions + 1 and len(values) == 1:
        values = values[0]
    return values[None] if values.dim() == dimensions else values


def _slices(maps: dict[str, Tensor], depth: int, count: int) -> tuple[tuple[int, ...], int, str]:
    """Return the slices of a volume to draw, how many of them stand side by side, and a title."""
    totals = torch.zeros(depth, dtype=torch.float64)
    for value in maps.values():
        totals += _finite_scale(value).nan_to_num().clamp(min=0).sum((0, 2, 3))
    differ = bool(totals.amax() > totals.amin())
    strongest = int(totals.argmax()) if differ else depth // 2
    if count == 1:
        return (strongest,), 1, f"slice {strongest + 1} of {depth}" + (", highest attribution" if differ else "")
    places = np.unique(np.linspace(0, depth - 1, min(count, depth)).round().astype(int))
    places[np.abs(places - strongest).argmin()] = strongest
    title = f"{len(places)} of {depth} slices" + (f", highest attribution in {strongest + 1}" if differ else "")
    return tuple(places.tolist()), math.ceil(math.sqrt(len(places))), title


def _tiled(values: Tensor, places: Sequence[int], across: int) -> Tensor:
    """Arrange slices of (C, D, H, W) in rows of ``across``, as one picture (C, rows * H, across * W) without gaps."""
    tiles = [values[:, place] for place in places]
    tiles += [torch.zeros_like(tiles[0])] * (-len(tiles) % across)
    rows = [torch.cat(tiles[start : start + across], 2) for start in range(0, len(tiles), across)]
    return torch.cat(rows, 1)


def _is_bytes(image: Any) -> bool:
    return str(image.dtype).removeprefix("torch.") == "uint8"


def _pixels(image: Tensor, of_bytes: bool) -> tuple[Tensor, list[str]]:
    """Convert an image to grey or colour (1 or 3, H, W) in [0, 1] and return notes on the changes."""
    words = []
    image = image / 255 if of_bytes else image
    if len(image) not in (1, 3):
        words.append(f"mean of {len(image)} channels")
        image = image.mean(0, keepdim=True)
    finite = image[image.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if low < -_SLACK or high > 1 + _SLACK:
        words.append(f"scaled from {low:.3g} to {high:.3g}")
        image = (image - low) / ((high - low) or 1.0)
    if len(finite) < image.numel():
        words.append("black where not finite")
    return image.nan_to_num(0, 0, 0).clamp(0, 1), words
