"""Panels: samples with the maps of every method side by side."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from captum_softcam._figures import Drawing
from captum_softcam._fit import Fit
from captum_softcam._maps import PERCENTILE, is_flat
from captum_softcam._names import quoted, shown
from captum_softcam.evaluation import Example
from captum_softcam.evaluation.controls import method_title
from captum_softcam.report._drawing.pictures import Drawn, as_input, drawn
from captum_softcam.report.findings import are_probable, class_name, value_text
from captum_softcam.report.overlays import LEVELS, Look, colour_bar, draw_input, draw_overlay

__all__ = ["legend", "plot_panel"]

_NARROWEST, _WIDTH = 4.0, 7.5  # inches of a panel: more could not be read on half a page
_CELL = 1.5  # inches, of a picture
_SIGNAL = 2.5  # inches, of a signal
_LANE = 0.22  # inches, of each channel of a signal
_TALLEST = 2.0  # heights of a cell over its width
_LEGEND = 0.5  # inches
_TITLE, _NOTE = 9, 7  # points
_FLAT = 0.05  # of the peak: a map that varies less is drawn in one colour
_GREY = "#555555"
_LONGEST = 60  # characters of a name


def plot_panel(
    examples: Sequence[Example],
    classes: Sequence[str] | None = None,
    *,
    overlays: bool = True,
    positive: bool = False,
    percentile: float = PERCENTILE,
    contours: Sequence[float] = LEVELS,
    originals: Sequence[Any] | None = None,
    fit: Fit | None = None,
    montage: int = 1,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Plot samples with their maps by all methods, as overlays.

    Each sample has a line with the explained class, its probability and the name of the sample, and below it the input and
    one picture per method, in as many lines as needed. Maps are drawn as by :func:`overlay`, each on a scale of its own that
    ends at a percentile of its magnitudes; 0 has the same colour in all of them. The mask is outlined. Inputs outside [0, 1]
    are scaled. One channel is drawn in grey, three in colour; of any other number the mean is drawn. Of a volume, the slice
    with the highest attribution for the class is drawn; with ``montage``, several slices.

    The channels of a signal are drawn as lines one above the other, with the colours of the map along each line. Notes below
    the pictures name changes of the input, empty masks, maps that are flat or nearly so, and non-finite values (green).

    Cost: no forward.

    Args:
        examples (sequence of Example): samples with their maps by method, (1, h, w) at the resolution of the input or of a
            layer; the cell of a method that failed stays empty.
        classes (sequence of str): names of the classes. Default: their numbers
        overlays (bool): draw maps over the pictures in grey; False draws them on white, without contours. Default: True
        positive (bool): as for :func:`overlay`. Default: False
        percentile (float): as for :func:`overlay`. Default: 99
        contours (sequence of float): as for :func:`overlay`. Default: 0.5 and 0.8
        originals (sequence): uncropped image of each example, of any type that :func:`overlay` draws, to put the maps back
            onto, and the masks that do not have its size. Default: the inputs
        fit (Fit): how the originals became the inputs, such as ``classifier.fit``. Default: squeezed as a whole
        montage (int): number of slices of a volume that are drawn side by side, evenly spaced except that the one with the
            highest attribution is among them. Default: 1
        figsize (tuple of float): of the figure in inches. Default: up to 7.5 inches wide, as high as the pictures need

    Returns:
        matplotlib.figure.Figure: save it with ``savefig``, as pixels or as vector graphics.

    Raises:
        ValueError: if there are no examples, if ``montage`` is below 1, if there is not one original per example, or
            ``fit`` without originals, if the shape of an input, a mask or a map cannot be drawn, or if a percentile or a
            contour is out of range.
        TypeError: if an original is the path of a file.

    Example::

        >>> sample = Sample(torch.rand(3, 64, 80), 1, None, "cat.jpg")
        >>> figure = plot_panel([Example(sample, 1, {"grad_cam": torch.randn(1, 7, 7)})], ["dog", "cat"])
    """
    examples = list(examples)
    if not examples:
        raise ValueError("there are no examples to draw; pass at least one.")
    if montage < 1:
        raise ValueError(f"montage must be the number of slices to draw, at least 1; got {montage}.")
    if originals is None and fit is not None:
        raise ValueError("fit puts maps back onto the images before cropping; pass these, too, as originals.")
    look = Look(positive, percentile, contours)
    methods = list(dict.fromkeys(name for example in examples for name in example.maps))
    if originals is None:
        rows = [drawn(example, montage) for example in examples]
    else:
        rows = _on_originals(examples, originals, fit or Fit(), montage)
    blocks = [_block(row, methods, classes) for row in rows]
    width = max(_NARROWEST, *(block.across * block.cell for block in blocks))
    heights = [*(block.height(width) for block in blocks), _LEGEND]
    figure = Drawing(figsize=figsize or (width, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, block in zip(parts, blocks, strict=False):
        _draw_block(part, block, width, look, overlays)
    _draw_legend(parts[-1], width, rows, look, overlays)
    return figure


@dataclass(frozen=True)
class _Block:
    """An example as it is drawn: a line of words, and below it the input and the maps with titles and notes."""

    row: Drawn
    words: str
    methods: Sequence[str]
    titles: Sequence[str]
    notes: Sequence[str]
    cell: float  # least width in inches
    across: int

    @property
    def down(self) -> int:
        return math.ceil(len(self.titles) / self.across)

    def height(self, width: float) -> float:
        """Return the height in inches in a panel of this width."""
        image, cell = self.row.example.sample.image, width / self.across
        if image.dim() == 2:
            height = max(0.4 * cell, _LANE * len(image))
        else:
            height = cell * min(_TALLEST, image.shape[1] / image.shape[2])
        points = 1.3 * (_TITLE * _lines(self.titles) + _NOTE * _lines(self.notes)) + 3
        return self.down * (height + points / 72) + 1.4 * _TITLE / 72 * _lines([_wrapped(self.words, width, _TITLE)]) + 0.1


def _block(row: Drawn, methods: Sequence[str], classes: Sequence[str] | None) -> _Block:
    image, mask, maps = row.example.sample.image, row.example.sample.mask, row.example.maps
    cell = _SIGNAL if image.dim() == 2 else _CELL * (1 if row.across == 1 else min(3.0, 0.8 * row.across))
    most = max(1, int(_WIDTH / cell))
    titles = ["Input", *(_title(method) for method in methods)]
    own = [*row.notes, *(["empty mask"] if mask is not None and not mask.any() else [])]
    notes = [", ".join(own), *(_note(maps[method], row.seen) if method in maps else "" for method in methods)]
    return _Block(
        row,
        _words(row, classes),
        methods,
        [_wrapped(title, cell, _TITLE) for title in titles],
        [_wrapped(note, cell, _NOTE) for note in notes],
        cell,
        math.ceil(len(titles) / math.ceil(len(titles) / most)),  # as many in the last line as possible
    )


def _draw_block(part: SubFigure, block: _Block, width: float, look: Look, overlays: bool) -> None:
    part.suptitle(
        _wrapped(block.words, width, _TITLE), x=0.01, ha="left", fontsize=_TITLE, fontweight="bold", parse_math=False
    )
    axes = part.subplots(block.down, block.across, squeeze=False).flatten()
    draw_input(axes[0], block.row)
    for axis, method in zip(axes[1:], block.methods, strict=False):
        if method in block.row.example.maps:
            draw_overlay(axis, block.row, method, look, on_white=not overlays)
        else:
            axis.set(xticks=[], yticks=[])
            axis.text(0.5, 0.5, "failed", ha="center", va="center", transform=axis.transAxes)
    for axis, title, note in zip(axes, block.titles, block.notes, strict=False):
        axis.set_title(title, fontsize=_TITLE, parse_math=False, pad=3)
        axis.set_xlabel(note, fontsize=_NOTE, color=_GREY, labelpad=2)
        _number(axis, block.row)
        for spine in axis.spines.values():
            spine.set_visible(axis.has_data() and block.row.example.sample.image.dim() == 2)
    for axis in axes[len(block.titles) :]:
        axis.set_axis_off()


def _number(axis: Axes, row: Drawn) -> None:
    """Write its number into every slice of a montage."""
    if row.across == 1:
        return
    edge = {"facecolor": "white", "alpha": 0.7, "pad": 1, "edgecolor": "none"}
    for (top, left, _), number in zip(row.tiles, row.slices, strict=True):
        axis.text(left, top, str(number + 1), fontsize=_NOTE, ha="left", va="top", bbox=edge)


def _draw_legend(part: SubFigure, width: float, rows: Sequence[Drawn], look: Look, overlays: bool) -> None:
    """Draw the colours, and say what the lines are."""
    on_white = not overlays or all(row.example.sample.image.dim() == 2 for row in rows)
    bar = part.add_axes((0.02, 0.55, 0.3, 0.3))
    bar.imshow(colour_bar(look, on_white=on_white), aspect="auto", extent=(0 if look.positive else -1, 1, 0, 1))
    ends = {0: "0", 1: "for"} if look.positive else {-1: "against", 0: "0", 1: "for"}
    bar.set(yticks=[])
    bar.set_xticks(list(ends), list(ends.values()), fontsize=_NOTE)
    bar.get_xticklabels()[0].set_horizontalalignment("left")
    bar.get_xticklabels()[-1].set_horizontalalignment("right")
    words = _explained(rows, look, overlays)
    part.text(0.36, 0.92, _wrapped(words, 0.62 * width, _NOTE), fontsize=_NOTE, color=_GREY, va="top")


def _explained(rows: Sequence[Drawn], look: Look, overlays: bool) -> str:
    """Return what the legend says in words."""
    pictures = [row for row in rows if row.example.sample.image.dim() > 2]
    masks = any(row.example.sample.mask is not None for row in pictures)
    return legend(look, lines=overlays and bool(pictures), masks=masks, pale=any(row.seen is not None for row in rows))


def legend(look: Look, *, lines: bool = True, masks: bool = False, pale: bool = False) -> str:
    """Say in words what colours and lines of overlays mean.

    Args:
        look (Look): how they are drawn.
        lines (bool): overlays have contours, and not maps alone. Default: True
        masks (bool): some have the outline of a mask. Default: False
        pale (bool): some have margins that the network did not see. Default: False
    """
    end = "largest magnitude" if look.percentile == 100 else f"percentile {look.percentile:g} of the magnitudes"
    words = [f"Full colour: {end} of each map."]
    if lines and look.contours:
        levels = " and ".join(f"{level:.0%}" for level in sorted(look.contours))
        words.append(f"Lines: {levels} of it{'' if look.positive else ', dashed against'}.")
    if masks:
        words.append("Cyan: mask.")
    if pale:
        words.append("Pale: not seen by the network.")
    return " ".join(words)


def _words(row: Drawn, classes: Sequence[str] | None) -> str:
    """Return the explained class and its probability, the predicted one if it is another, and the name of the sample."""
    example = row.example
    words = [_scored(example, example.target, classes)]
    if example.probabilities is not None and len(example.probabilities) > 1 and example.scores == "softmax":
        predicted = int(example.probabilities.argmax())
        words += [] if predicted == example.target else [f"predicted: {_scored(example, predicted, classes)}"]
    return " · ".join(filter(None, [*words, shown(example.sample.identifier, _LONGEST), row.title]))


def _scored(example: Example, target: int, classes: Sequence[str] | None) -> str:
    name = class_name(target, classes, _LONGEST)
    if example.probabilities is None or not 0 <= target < len(example.probabilities):
        return name
    return f"{name} ({value_text(float(example.probabilities[target]), are_probable(example))})"


def _title(method: str) -> str:
    title = shown(method_title(method), _LONGEST)
    return title.replace("_", " ") if title == method else title


def _note(attribution: Tensor, seen: Tensor | None) -> str:
    values = attribution if seen is None else attribution[seen]
    undefined = float(values.isnan().double().mean())
    if undefined:
        return f"{undefined:.0%} not finite"
    if is_flat(values.flatten()[None]):
        return "flat: no information"
    varies = float((values.max() - values.min()) / values.abs().max())
    return f"nearly flat: varies by {varies:.2g} of its peak" if varies < _FLAT else ""


def _wrapped(words: str, width: float, points: int) -> str:
    """Break words into lines that fit a width in inches."""
    return textwrap.fill(words, max(8, int(width * 72 / (0.56 * points))))  # 0.56: mean width of a letter over its height


def _lines(texts: Sequence[str]) -> int:
    return max(text.count("\n") + bool(text) for text in texts)


def _on_originals(examples: Sequence[Example], originals: Sequence[Any], fit: Fit, montage: int) -> list[Drawn]:
    """Put the maps of examples back onto the images that became their inputs."""
    if len(originals) != len(examples):
        raise ValueError(f"originals are the uncropped images of the examples, {len(examples)}; got {len(originals)}.")
    rows = []
    for example, original in zip(examples, originals, strict=True):
        sides = tuple(example.sample.image.shape[1:])
        if len(sides) < 2 or len(set(sides)) > 1:
            raise ValueError(f"maps are put back from square or cubic inputs alone; got one of size {quoted(sides)}.")
        sample = replace(example.sample, image=as_input(original, sides))
        rows.append(drawn(replace(example, sample=sample), montage, fit, sides[0]))
    return rows
