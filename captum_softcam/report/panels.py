"""Pictures of maps: the input, the mask, and every method on one signed colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from captum_softcam._maps import signed_scale
from captum_softcam.evaluation import Example

__all__ = ["COLOURS", "plot_panel"]

COLOURS = "PuOr_r"  # diverging, and told apart without colour vision: orange speaks for the class, purple against it
_CELL = 1.15  # inches


def plot_panel(examples: Sequence[Example], classes: Sequence[str] | None = None) -> Figure:
    """A few samples x all methods, input and mask beside them.

    Every map is divided by its own greatest magnitude, so that 0 is the same colour everywhere and maps of different
    units can be compared; the outline is the mask.

    Args:
        examples (sequence of Example): samples with their maps (1, H, W) by method; where a method failed,
            the place of its map stays empty.
        classes (sequence of str): names for the rows. Default: the class numbers

    Returns:
        matplotlib.figure.Figure: one row per sample; save it with ``savefig``.

    Raises:
        ValueError: if there are no examples.
    """
    if not examples:
        raise ValueError("there are no examples to draw; give at least one.")
    methods = list(dict.fromkeys(name for example in examples for name in example.maps))
    columns = 2 + len(methods)
    figure = Figure(figsize=(_CELL * columns + 1.4, _CELL * len(examples) + 0.5), layout="constrained")
    axes = figure.subplots(len(examples), columns, squeeze=False)
    for row, example in zip(axes, examples, strict=True):
        _draw_row(row, example, methods, classes)
    for axis, title in zip(axes[0], ["input", "mask", *methods], strict=True):
        axis.set_title(title.replace("_", "\n" if len(title) > 10 else " "), fontsize=9)
    scale = ScalarMappable(Normalize(-1, 1), COLOURS)
    bar = figure.colorbar(scale, ax=axes, shrink=0.8, pad=0.01, ticks=[-1, 0, 1])
    bar.ax.set_yticklabels(["against\nthe class", "0", "for the\nclass"], fontsize=8)
    return figure


def _draw_row(row: Any, example: Example, methods: Sequence[str], classes: Sequence[str] | None) -> None:
    image = example.sample.image.permute(1, 2, 0).numpy()
    row[0].imshow(image)
    row[0].set_ylabel(_name(example.target, classes), fontsize=9)
    mask = example.sample.mask
    row[1].imshow(np.zeros(image.shape[:2]) if mask is None else mask[0].numpy(), cmap="gray", vmin=0, vmax=1)
    if mask is None:
        row[1].text(0.5, 0.5, "none", color="white", ha="center", va="center", transform=row[1].transAxes)
    for axis, method in zip(row[2:], methods, strict=True):
        if method in example.maps:
            _draw_map(axis, example.maps[method], mask)
        else:
            axis.text(0.5, 0.5, "failed", ha="center", va="center", transform=axis.transAxes)
    for axis in row:
        axis.set(xticks=[], yticks=[])


def _draw_map(axis: Any, attribution: Tensor, mask: Tensor | None) -> None:
    axis.imshow(signed_scale(attribution[None])[0, 0].numpy(), cmap=COLOURS, vmin=-1, vmax=1)
    if mask is not None:
        axis.contour(mask[0].numpy(), levels=[0.5], colors="black", linewidths=0.7)


def _name(target: int, classes: Sequence[str] | None) -> str:
    return classes[target] if classes else f"class {target}"
