"""Panels of attribution maps: input, mask and every method on one signed colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
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
_NAME, _NOTE = 9, 6.5  # points
_SLACK = 1e-3  # beyond [0, 1]: rounding, not another unit
_LONGEST = 60  # characters of a name


def plot_panel(examples: Sequence[Example], classes: Sequence[str] | None = None) -> Figure:
    """Plot the maps of a few samples by all methods, next to input and mask.

    Each map is upsampled to the input, as in the metrics, and divided by its largest magnitude, so that 0 has the same
    colour everywhere and maps in different units can be compared. The outline is the mask. Inputs outside [0, 1] are scaled.
    One channel is drawn in grey, three in colour; of any other number the mean is drawn. Signals are drawn as lines over the
    colours of the map. Of a volume, the slice with the highest attribution for the class is drawn. Notes below the pictures
    name such changes, flat maps and non-finite values (green).

    Args:
        examples (sequence of Example): samples with their maps by method, (1, h, w) at the resolution of the input or of a
            layer; the cell of a method that failed stays empty.
        classes (sequence of str): names for the rows. Default: the class numbers

    Returns:
        matplotlib.figure.Figure: one row per sample; save it with ``savefig``.

    Raises:
        ValueError: if there are no examples, or the shape of an input, a mask or a map cannot be drawn.
    """
    if not examples:
        raise ValueError("there are no examples to draw; pass at least one.")
    methods = list(dict.fromkeys(name for example in examples for name in example.maps))
    columns = 2 + len(methods)
    figure = Figure(figsize=(_CELL * columns + 1.4, _CELL * len(examples) + 0.5), layout="constrained")
    axes = figure.subplots(len(examples), columns, squeeze=False)
    for row, example in zip(axes, examples, strict=True):
        _draw_row(row, example, methods, classes)
    for axis, title in zip(axes[0], ["input", "mask", *methods], strict=True):
        title = shown(title, _LONGEST)
        axis.set_title(title.replace("_", "\n" if len(title) > 10 else " "), fontsize=_NAME, parse_math=False)
    scale = ScalarMappable(Normalize(-1, 1), COLOURS)
    bar = figure.colorbar(scale, ax=axes, shrink=0.8, pad=0.01, ticks=[-1, 0, 1])
    bar.ax.set_yticklabels(["against\nthe class", "0", "for the\nclass"], fontsize=8)
    return figure


def _draw_row(row: Any, example: Example, methods: Sequence[str], classes: Sequence[str] | None) -> None:
    drawn, note = as_drawn(example)
    image, mask = drawn.sample.image, drawn.sample.mask
    _draw_input(row[0], image)
    _note(row[0], note)
    row[0].set_ylabel(_name(example.target, classes), fontsize=_NAME, parse_math=False)
    _draw_mask(row[1], image, mask)
    for axis, method in zip(row[2:], methods, strict=True):
        if method in drawn.maps:
            _draw_map(axis, image, drawn.maps[method], mask)
        else:
            _say(axis, "failed", "black")
    for axis in row:
        axis.set(xticks=[], yticks=[])


def _draw_input(axis: Any, image: Tensor) -> None:
    if image.dim() == 2:
        _draw_lines(axis, image)
        return
    # Without limits, Matplotlib stretches a grey image to its own range.
    axis.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1)


def _draw_lines(axis: Any, signal: Tensor) -> None:
    axis.plot(signal.T.numpy(), color="black", linewidth=0.6, alpha=max(0.3, 1 / len(signal)))
    axis.set_xlim(-0.5, signal.shape[1] - 0.5)
    axis.set_box_aspect(1)


def _draw_mask(axis: Any, image: Tensor, mask: Tensor | None) -> None:
    if mask is None:
        _spread(axis, np.zeros(image.shape[1:]), image, cmap="gray", vmin=0, vmax=1)
        _say(axis, "none", "white")
        return
    _spread(axis, mask[0].numpy(), image, cmap="gray", vmin=0, vmax=1)


def _draw_map(axis: Any, image: Tensor, attribution: Tensor, mask: Tensor | None) -> None:
    scaled = _finite_scale(attribution)[0].numpy()
    if image.dim() == 2:
        _draw_lines(axis, image)
    colours = matplotlib.colormaps[COLOURS].with_extremes(bad=_UNDEFINED)
    _spread(axis, scaled, image, cmap=colours, vmin=-1, vmax=1)
    if mask is not None:
        _outline(axis, mask[0])
    finite = np.isfinite(scaled)
    if not finite.all():
        _note(axis, f"{(~finite).mean():.0%} not finite")
    # Values are in [-1, 1], where the rounding of float32 maps is 6e-8.
    elif np.ptp(scaled) <= 1e-6:
        _note(axis, "flat: no information")


def _spread(axis: Any, values: Any, image: Tensor, **options: Any) -> None:
    """Draw colours over a whole image, or behind all lines of a signal."""
    if image.dim() == 3:
        axis.imshow(values, **options)
        return
    # Read before, because imshow sets the limits to its extent.
    low, high = axis.get_ylim()
    axis.imshow(values[None], extent=(-0.5, image.shape[1] - 0.5, low, high), aspect="auto", zorder=0, **options)
    axis.set_box_aspect(1)


def _outline(axis: Any, mask: Tensor) -> None:
    """Draw the border of the mask."""
    padded = np.pad(mask.numpy(), 1)  # closes the outline of a mask that touches the border of the image
    limits = axis.get_xlim(), axis.get_ylim()  # contour and vlines change them
    if mask.dim() == 1:
        axis.vlines(np.flatnonzero(np.diff(padded)) - 0.5, *limits[1], color="black", linewidth=0.7)
    elif padded.any():
        columns, rows = (np.arange(-1, length - 1) for length in reversed(padded.shape))
        axis.contour(columns, rows, padded, levels=[0.5], colors="black", linewidths=0.7)
    axis.set(xlim=limits[0], ylim=limits[1])


def _say(axis: Any, word: str, colour: str) -> None:
    axis.text(0.5, 0.5, word, color=colour, ha="center", va="center", transform=axis.transAxes)


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
        tuple of Example and str: an unchanged signal (C, L) or an image (1 or 3, H, W) in [0, 1]; the boolean mask
        (1, H, W); the maps (1, H, W) in their own units, NaN where they are not finite. The text describes the changes to
        the input and is empty if there are none.

    Raises:
        ValueError: if the input has other dimensions, or a map or mask does not fit it.
    """
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
    words = []
    if len(size) == 3:
        place, why = _strongest(maps, size[0])
        image, mask = image[:, place], None if mask is None else mask[:, place]
        maps, runner_up_maps = ({name: value[:, place] for name, value in kind.items()} for kind in (maps, runner_up_maps))
        words += [f"slice {place + 1} of {size[0]}", *why]
    if len(size) > 1:
        image, more = _pixels(image, of_bytes=_is_bytes(example.sample.image))
        words += more
    sample = replace(example.sample, image=image.float(), mask=mask)
    return replace(example, sample=sample, maps=maps, runner_up_maps=runner_up_maps), ", ".join(words)


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


def _strongest(maps: dict[str, Tensor], depth: int) -> tuple[int, list[str]]:
    """Return the slice with the highest attribution over all maps, or the middle slice if all are equal, and a note."""
    totals = torch.zeros(depth, dtype=torch.float64)
    for value in maps.values():
        totals += _finite_scale(value).nan_to_num().clamp(min=0).sum((0, 2, 3))
    if totals.amax() > totals.amin():
        return int(totals.argmax()), ["highest attribution"]
    return depth // 2, []


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
