"""Draw the photographs of the README, the pictures of docs/gallery.md and those of the entrances of docs/index.md.

The photographs are those in the wheel of scikit-image. They pass through EfficientNet-Lite0 with its weights for ImageNet
(extra ``imagenet``), which was converted into a SoftCAM model, so that every method explains the same logits. The pictures
of transformers, volumes and signals show the networks that tutorial 4 trains. Classes and probabilities are read from the
networks, scores from the comparison that ``benchmarks/readme.py`` keeps. This takes about three minutes on two cores.
``--check`` changes nothing: it lists what differs from a new drawing. Names draw or check these pictures alone.

    python benchmarks/pictures.py
    python benchmarks/pictures.py --check photographs.jpg
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
import skimage.data
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image
from shared import same_picture

from captum_softcam import LayerReciproCam, convert_to_softcam, load_classifier, load_embedded
from captum_softcam.attr import METHODS
from captum_softcam.data import RetinalLesions, Sample
from captum_softcam.evaluation import Comparison, Example, explain_sample
from captum_softcam.evaluation.controls import method_title
from captum_softcam.report import plot_overlay
from captum_softcam.softcam import Classifier

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
NETWORK = "efficientnet_lite0"
PHOTOGRAPHS = ("coffee", "chelsea", "rocket", "astronaut")
HERO = ("soft_cam", "occlusion", "integrated_gradients")
STRIP = ("coffee", "astronaut")
LESIONS = (1, 2, 3)  # of the test split, one of each kind
TUTORIAL = ROOT / "tutorials" / "4_transformers_volumes_signals.ipynb"
KEPT = ROOT / "benchmarks" / "readme"  # the comparison of docs/reference/comparison.md
SCORED = ("soft_cam", "occlusion", "integrated_gradients", "edge_map", "random")
MEASURED = ("pointing_game", "insertion")

WIDTH = 1280  # pixels; a telephone shows them at 390
DPI = 100
TEXT = 21  # points: 29 pixels, of which a telephone shows 8
GAP = 8  # pixels between pictures
QUALITY = 88  # of JPEG
ENTRANCE = 640, 320  # pixels of the picture of an entrance


@functools.cache
def network(stride: int | None = None) -> Classifier:
    """Load the network and convert it, with the same logits unless the stride of its last map changes."""
    found = load_classifier(NETWORK)
    return replace(found, model=convert_to_softcam(found.model, output_stride=stride))


@functools.cache
def photograph(name: str) -> np.ndarray[Any, Any]:
    """Return a photograph of scikit-image (H, W, 3)."""
    return np.asarray(getattr(skimage.data, name)())


@functools.cache
def explained(name: str, method: str, stride: int | None = None) -> Example:
    """Return the map of a method for the class that the network predicts for a photograph."""
    classifier = network(stride)
    square = classifier.fit.image(torch.from_numpy(photograph(name)).permute(2, 0, 1) / 255, classifier.image_size)
    sample = Sample(square, 0, None, name)
    return explain_sample(classifier.model, sample, [method], normalize=classifier.normalize, explain="predicted")


def prediction(classes: Sequence[str], example: Example) -> str:
    """Return the explained class and its probability."""
    scores = example.probabilities
    assert scores is not None, "explain_sample returns them"
    return f"{classes[example.target]} {scores[example.target]:.0%}"


class Sheet:
    """Pictures side by side on one figure, placed in pixels from its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.size = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return axes without a frame."""
        across, down = self.size
        axis = self.figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))
        axis.set_axis_off()
        return axis

    def title(self, left: float, width: float, text: str) -> None:
        """Write a line above a column."""
        across, down = self.size
        place = {"ha": "center", "va": "top", "fontsize": TEXT}
        self.figure.text((left + width / 2) / across, 1 - 4 / down, text, **place)


def label(axis: Axes, text: str, size: float = TEXT) -> None:
    """Write into the lower left corner of a picture."""
    size = min(size, 19 * size / len(text))  # of a longer text, so that it fits
    place = {"ha": "left", "va": "bottom", "fontsize": size, "color": "white", "transform": axis.transAxes}
    axis.text(0.02, 0.03, text, **place, path_effects=[withStroke(linewidth=4, foreground="black")])


def draw_map(axis: Axes, name: str, method: str, stride: int | None = None) -> Example:
    """Draw the map of a photograph, put back on the whole of it."""
    classifier, example = network(stride), explained(name, method, stride)
    plot_overlay(photograph(name), example.maps[method], fit=classifier.fit, size=classifier.image_size, ax=axis)
    return example


@dataclass(frozen=True)
class Row:
    """A picture, what is written into it, its maps, and the options with which they are drawn."""

    image: Any
    text: str
    maps: Sequence[Any]
    options: Mapping[str, Any]


def grid(titles: Sequence[str], rows: Sequence[Row]) -> Figure:
    """Draw pictures one below the other, each beside its maps."""
    width = (WIDTH - GAP * (len(titles) - 1)) / len(titles)
    heights = [width * row.image.shape[0] / row.image.shape[1] for row in rows]
    top = 46.0
    sheet = Sheet(WIDTH, top + sum(heights) + GAP * (len(heights) - 1))
    for column, title in enumerate(titles):
        sheet.title(column * (width + GAP), width, title)
    for row, height in zip(rows, heights, strict=True):
        first, *others = (sheet.axes(column * (width + GAP), top, width, height) for column in range(len(titles)))
        first.imshow(row.image)
        if row.options.get("mask") is not None:
            first.contour(row.options["mask"][0], levels=[0.5], colors="#00e5ff", linewidths=1.5)
        label(first, row.text)
        for axis, attribution in zip(others, row.maps, strict=True):
            plot_overlay(row.image, attribution, ax=axis, **row.options)
        top += height + GAP
    return sheet.figure


def photographs() -> Figure:
    """Draw every photograph beside the maps of a few methods."""
    classifier = network()
    rows = []
    for name in PHOTOGRAPHS:
        examples = [explained(name, method) for method in HERO]
        maps = [example.maps[method] for method, example in zip(HERO, examples, strict=True)]
        options = {"fit": classifier.fit, "size": classifier.image_size}
        rows.append(Row(photograph(name), prediction(classifier.classes, examples[0]), maps, options))
    return grid(["Photograph", *(METHODS[method].title for method in HERO)], rows)


def strip(method: str) -> Figure:
    """Draw the maps of one method for a few photographs, and for a lesion through the embedded model."""
    height = 300.0
    widths = [*(height * photograph(name).shape[1] / photograph(name).shape[0] for name in STRIP), height]
    *axes, last = row(widths, height)
    for axis, name in zip(axes, STRIP, strict=True):
        label(axis, prediction(network().classes, draw_map(axis, name, method)), 18)
    label(last, prediction(*draw_lesion(last, method)), 18)
    return cast(Figure, last.figure)


def fine() -> Figure:
    """Draw the finer maps of the network with another stride."""
    height = 300.0
    axes = row([height * photograph(name).shape[1] / photograph(name).shape[0] for name in STRIP], height)
    for axis, name in zip(axes, STRIP, strict=True):
        label(axis, prediction(network(8).classes, draw_map(axis, name, "soft_cam", 8)), 18)
    return cast(Figure, axes[0].figure)


def row(widths: Sequence[float], height: float) -> list[Axes]:
    """Return axes side by side, of these widths in pixels."""
    sheet = Sheet(sum(widths) + GAP * (len(widths) - 1), height)
    starts = [sum(widths[:number]) + GAP * number for number in range(len(widths))]
    return [sheet.axes(left, 0, width, height) for left, width in zip(starts, widths, strict=True)]


def draw_lesion(axis: Axes, method: str, number: int = 1) -> tuple[Sequence[str], Example]:
    """Draw the map of a lesion."""
    classifier, sample = load_embedded(), RetinalLesions("test")[number]
    example = explain_sample(classifier.model, sample, [method], normalize=classifier.normalize)
    plot_overlay(sample.image, example.maps[method], mask=sample.mask, ax=axis)
    return classifier.classes, example


@functools.cache
def tutorial() -> dict[str, Any]:
    """Run the cells of tutorial 4 up to its transformer, and return its names: networks, data and maps."""
    notebook = json.loads(TUTORIAL.read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    plt.switch_backend("agg")
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code" and "right_pictures" not in names:
                exec("".join(cell["source"]).replace("%matplotlib inline", ""), names)
    return names


def transformer() -> Figure:
    """Draw the maps of both digits in pictures with two."""
    names = tutorial()
    *_, last_block = names["maps"].values()
    axes = row([240.0] * 4, 240)
    for number, pair in enumerate((axes[:2], axes[2:])):
        for k, axis in enumerate(pair):
            image, box = names["right_pictures"][number], names["right_boxes"][number, k]
            plot_overlay(image, last_block[k][number], mask=box, ax=axis)
            label(axis, f"'{names['right_classes'][number, k]}'", 18)
    return cast(Figure, axes[0].figure)


def volume() -> Figure:
    """Draw a slice of some volumes."""
    names = tutorial()
    inputs, balls = (names[name][names["with_ball"]] for name in ("test_volumes", "balls"))
    maps = LayerReciproCam(names["volume_cnn"], names["volume_cnn"][2]).attribute(inputs[:3], target=1)
    axes = row([300.0] * 3, 300)
    for axis, image, attribution, ball in zip(axes, inputs, maps, balls, strict=False):
        plot_overlay(image, attribution, mask=ball, ax=axis)
    return cast(Figure, axes[0].figure)


def signal() -> Figure:
    """Draw two signals, one below the other."""
    names = tutorial()
    inputs, events = (names[name][names["with_event"]] for name in ("test_signals", "events"))
    maps = LayerReciproCam(names["signal_cnn"], names["signal_cnn"][2]).attribute(inputs[:2], target=1)
    sheet = Sheet(900, 420 + GAP)
    for number in (0, 1):
        axis = sheet.axes(0, number * (210 + GAP), 900, 210)
        plot_overlay(inputs[number], maps[number], mask=events[number], ax=axis)
    return sheet.figure


def captum_entrance() -> Figure:
    """Draw a photograph and, beside it, the map that the code of the entrance computes."""
    net, cup = load_classifier(NETWORK), photograph("coffee")
    maps = LayerReciproCam(net.model, net.model.bn2).attribute(net.prepare(cup), target=967)
    left, right = halves()
    left.imshow(cup)
    plot_overlay(cup, maps, fit=net.fit, size=net.image_size, ax=right)
    margin = (cup.shape[1] - cup.shape[0]) / 2
    for axis in (left, right):
        axis.set(xlim=(margin, cup.shape[1] - margin), ylim=(cup.shape[0], 0))  # the square in the middle
    return cast(Figure, left.figure)


def medical_entrance() -> Figure:
    """Draw a retina with its lesions and, beside it, the evidence of the embedded model."""
    left, right = halves()
    classes, example = draw_lesion(right, "soft_cam")
    assert example.sample.mask is not None, "the sample shows a lesion"
    left.imshow(example.sample.image.permute(1, 2, 0))
    left.contour(example.sample.mask[0], levels=[0.5], colors="#00e5ff", linewidths=1.5)
    label(left, prediction(classes, example))
    return cast(Figure, left.figure)


def halves() -> list[Axes]:
    """Return two axes that fill the picture of an entrance."""
    width, height = ENTRANCE
    return row([(width - GAP) / 2] * 2, height)


def quantus_entrance() -> Figure:
    """Draw means and intervals of a few methods and controls under two metrics, from the kept comparison."""
    view = Comparison.load(KEPT).view()
    sheet = Sheet(*ENTRANCE)
    for number, metric in enumerate(MEASURED):
        axis = sheet.axes(250 + 200 * number, 50, 170, 230)
        sheet.title(250 + 200 * number, 170, view.titles[metric])
        for line, method in enumerate(SCORED):
            cell, colour = view.cells[method, metric], "#888888" if method in view.controls else "#d9660f"
            axis.plot([cell.low, cell.high], [line, line], color=colour, linewidth=5, solid_capstyle="butt", alpha=0.45)
            axis.plot(cell.mean, line, "o", color=colour, markersize=13)
        axis.set(xlim=(-0.05, 1.05), ylim=(len(SCORED) - 0.5, -0.5))
        for end in (0, 1):
            axis.axvline(end, color="#bbbbbb", linewidth=1)
            axis.text(end, len(SCORED) - 0.4, str(end), ha="center", va="top", fontsize=TEXT - 5, color="#666666")
    for line, method in enumerate(SCORED):
        place = {"ha": "right", "va": "center", "fontsize": TEXT - 5}
        sheet.figure.text(240 / ENTRANCE[0], 1 - (50 + 46 * (line + 0.5)) / ENTRANCE[1], method_title(method), **place)
    return sheet.figure


def pictures() -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Name all pictures, each with what draws it."""
    yield "photographs.jpg", photographs
    for method in METHODS:
        yield f"gallery/{method}.jpg", functools.partial(strip, method)
    for draw in (fine, transformer, volume, signal):
        yield f"gallery/{draw.__name__}.jpg", draw
    for draw in (captum_entrance, quantus_entrance, medical_entrance):
        yield f"entrances/{draw.__name__.removesuffix('_entrance')}.jpg", draw


def written(figure: Figure) -> bytes:
    """Return a figure as JPEG."""
    file = io.BytesIO()
    figure.savefig(file, dpi=DPI)
    file.seek(0)
    out = io.BytesIO()
    Image.open(file).convert("RGB").save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def main() -> None:
    """Draw the pictures, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only list what differs from a new drawing")
    parser.add_argument("names", nargs="*", metavar="NAME", help="draw these alone, such as gallery/occlusion.jpg")
    options = parser.parse_args()
    stale = []
    for name, draw in pictures():
        if options.names and name not in options.names:
            continue
        path, content = IMAGES / name, written(draw())
        if not options.check:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        elif not path.is_file() or not same_picture(path.read_bytes(), content):
            stale.append(f"{name} differs from a new drawing.")
    print("\n".join([*stale, "Run python benchmarks/pictures.py."] if stale else ["The pictures are current."]))
    sys.exit(bool(stale))


if __name__ == "__main__":
    main()
