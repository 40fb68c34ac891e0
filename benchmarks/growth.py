"""Measure how the time of attribution methods grows with images, classes and positions, and draw it.

    python benchmarks/growth.py --threads 1   # measure, keep studies/results/growth.json, write figure and page
    python benchmarks/growth.py --page        # write figure and page from what is kept

The network is EfficientNet-Lite0. As in ``attribution.py`` all methods run in random order in each round, the time is that
of the processor; torchcam and grad-cam are needed. A curve ends where its next point would take too long.
"""

from __future__ import annotations

import io
import json
import random
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from attribution import KEPT, PAGE, timed
from captum.attr import LayerGradCam
from contenders import CONTENDERS, Network, Run, lite0, photographs
from scipy import stats
from shared import table, timing_options
from torch import Tensor, nn
from torch.nn.functional import interpolate

KEPT, PAGE = KEPT.with_name("growth.json"), PAGE.with_name("growth_measured.md")
FIGURE = PAGE.parents[1] / "images" / "growth.png"
SMALL = 112  # side of the photographs, so that 256 of them are affordable
IMAGES, CLASSES, SIDES = (1, 4, 16, 64, 256), (2, 5, 20, 80, 320, 1000), (64, 128, 256, 512)
LAYERS = {"blocks.4": 7, "blocks.2": 14, "blocks.1": 28, "blocks.0": 56}  # positions per side at 112 pixels
ONE = "LayerReciproCam, one class"
FAST = (
    "forward",
    ONE,
    "LayerReciproCam, 1,000 classes",
    *(f"{name}, one class" for name in ("Captum's LayerGradCam", "torchcam's GradCAM", "grad-cam's GradCAM")),
)
ALL = "LayerReciproCam, all classes"
STYLES = {  # Okabe and Ito's colours, and a marker for each
    "forward": ("#777777", "."),
    "LayerReciproCam": ("#0072B2", "o"),
    "LayerReciproCam, all": ("#56B4E9", "s"),
    "Captum's LayerGradCam": ("#E69F00", "^"),
    "torchcam's GradCAM": ("#009E73", "v"),
    "grad-cam's GradCAM": ("#D55E00", "D"),
}
Runs = Mapping[str, Run]


class Panel(NamedTuple):
    """A quantity that grows.

    Args:
        title (str): what grows, for the reader.
        axis (str): of the figure.
        runs (callable): yields the sizes with the runs of all methods.
    """

    title: str
    axis: str
    runs: Callable[[Path, str], Iterator[tuple[int, Runs]]]


def _methods(network: Network, images: Tensor, names: Sequence[str]) -> Runs:
    """Build contenders, each on a copy of the network."""
    chosen = [each for each in CONTENDERS if each.name in names and not each.slow]
    return {each.name: each.build(network.copied(str(images.device)), images) for each in chosen}


def _small(data: Path, count: int, device: str, side: int = SMALL) -> Tensor:
    return interpolate(photographs(data, count)[0].to(device), (side, side), mode="bilinear", antialias=True)


def more_images(data: Path, device: str) -> Iterator[tuple[int, Runs]]:
    """Yield batches of photographs."""
    network, images = lite0(), _small(data, max(IMAGES), device)
    for count in IMAGES:
        yield count, _methods(network, images[:count], FAST)


def more_classes(data: Path, device: str) -> Iterator[tuple[int, Runs]]:
    """Yield networks with more classes, of which each has a map."""
    image = _small(data, 1, device)
    for count in CLASSES:
        network = lite0()
        network.model.classifier = nn.Linear(network.model.classifier.in_features, count)
        recipro = _methods(network, image, FAST)["LayerReciproCam, 1,000 classes"]
        yield count, {ALL: recipro, **_one_by_one(network, image, count)}


def _one_by_one(network: Network, image: Tensor, count: int) -> Runs:
    """Return the peers with a backward pass per class; torchcam alone needs a single forward for all of them."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam.methods import GradCAM as TorchcamGradCam

    first, second, third = (network.copied(str(image.device)) for _ in range(3))
    captum = LayerGradCam(first.model, first.part(first.layer))
    extractor = TorchcamGradCam(second.model, second.part(second.layer))
    grad_cam = GradCAM(third.model, [third.part(third.layer)])

    def torchcam() -> None:
        scores = second.model(image)
        for target in range(count):
            extractor(target, scores, retain_graph=True)

    return {
        "Captum's LayerGradCam, all classes": lambda: [captum.attribute(image, target=each) for each in range(count)],
        "torchcam's GradCAM, all classes": torchcam,
        "grad-cam's GradCAM, all classes": lambda: [
            grad_cam(image, [ClassifierOutputTarget(each)]) for each in range(count)
        ],
    }


def larger_images(data: Path, device: str) -> Iterator[tuple[int, Runs]]:
    """Yield one photograph with more pixels, of which 32 x 32 are a position of the last layer."""
    network = lite0()
    for side in SIDES:
        yield (side // 32) ** 2, _methods(network, _small(data, 1, device, side), FAST)


def earlier_layers(data: Path, device: str) -> Iterator[tuple[int, Runs]]:
    """Yield earlier layers, which have more positions."""
    network, image = lite0(), _small(data, 1, device)
    for layer, side in LAYERS.items():
        yield side**2, _methods(replace(network, layer=layer), image, [ONE, *FAST[3:]])


PANELS = {
    "images": Panel("Images of a batch", "images", more_images),
    "classes": Panel("Classes, a map of each", "classes", more_classes),
    "inputs": Panel("Positions, by larger images", "positions of the last layer", larger_images),
    "layers": Panel("Positions, by earlier layers", "positions of the layer", earlier_layers),
}


def measured(panel: Panel, data: Path, device: str, rounds: int, longest: float) -> dict[str, list[tuple[int, float]]]:
    """Return sizes and median seconds of each method, up to the size that would take too long."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for size, runs in panel.runs(data, device):
        short = {name: run for name, run in runs.items() if _next(curves.get(name, []), size) <= longest}
        quick = {name: run for name, run in short.items() if _next(curves.get(name, []), size) < 1}
        timed(quick, 1, device)  # to warm up
        for name, seconds in timed(short, rounds, device, set(short) - set(quick)).items():
            curves.setdefault(name, []).append((size, statistics.median(seconds)))
        print(panel.title, size, {name: round(curves[name][-1][1], 4) for name in short}, flush=True)
    return curves


def _next(curve: Sequence[tuple[int, float]], size: int) -> float:
    """Estimate the seconds at a size as in proportion to the last one."""
    return curve[-1][1] * size / curve[-1][0] if curve else 0.0


class Growth(NamedTuple):
    """The exponent of a curve with its 95 % interval, by least squares of the logarithms."""

    exponent: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_two(self.exponent)} [{_two(self.low)}, {_two(self.high)}]"


def _two(number: float) -> str:
    return f"{round(number, 2) + 0.0:.2f}"  # 0.00 also for what would be -0.00


def growth(curve: Sequence[Sequence[float]]) -> Growth:
    """Fit the exponent of a curve of sizes and seconds; three points at least."""
    fit = stats.linregress(*np.log(np.array(curve)).T)
    half = float(stats.t.ppf(0.975, len(curve) - 2) * fit.stderr)
    return Growth(float(fit.slope), float(fit.slope) - half, float(fit.slope) + half)


# Figure and page ------------------------------------------------------------------------------------------------------


def draw(kept: Mapping[str, Any]) -> bytes:
    """Draw a panel per quantity, with the exponents in its legend."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 10), layout="constrained")
    for axis, (key, curves) in zip(axes.flat, kept["curves"].items(), strict=True):
        for name, curve in curves.items():
            colour, marker = _style(name)
            label = f"{_short(name)}: {_two(growth(curve).exponent)}"
            axis.loglog(*zip(*curve, strict=True), color=colour, marker=marker, label=label)
        axis.set(title=PANELS[key].title, xlabel=PANELS[key].axis, ylabel="seconds")
        axis.grid(visible=True, which="major", alpha=0.3)
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14)}  # where it hides no curve
        narrow = {"ncols": 2, "columnspacing": 1, "handlelength": 1.4, "handletextpad": 0.4, "fontsize": 9.5}
        axis.legend(**below, **narrow, title="exponent of the growth", frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    plt.close(figure)
    return content.getvalue()


def _short(name: str) -> str:
    """Leave out of a name what the title of the panel says."""
    return name.removesuffix(", one class").removesuffix(", all classes")


def _style(name: str) -> tuple[str, str]:
    method, _, classes = name.partition(", ")
    several = method == "LayerReciproCam" and classes != "one class"
    return STYLES[f"{method}, all" if several else method]


def page(kept: Mapping[str, Any]) -> str:
    """Write the figure and the exponents, first where ours grows faster than a peer."""
    exponents = {key: {name: growth(curve) for name, curve in curves.items()} for key, curves in kept["curves"].items()}
    setup = (
        f"EfficientNet-Lite0 with ImageNet weights, photographs of {kept['source']}, with {SMALL} pixels where nothing else "
        f"is said; {kept['threads']} thread of a machine that did other work as well; medians of {kept['rounds']} rounds, "
        "or one beyond a second, of processor time. The exponent of a curve is the slope of its logarithms by least squares "
        "over all points, with its 95 % interval: 1 is growth in proportion, 0 none. Exponents below 1 come from the fixed "
        f"cost of a call, which is seen at small sizes. A curve ends where its next point would take more than "
        f"{kept['longest']:g} seconds."
    )
    parts = [
        f"{faster_than_peers(exponents)} {behind_at_first(kept['curves'])}",
        "```{image} ../images/growth.png\n:alt: Seconds against images, classes and positions, with logarithmic axes\n```",
        setup,
        *(_exponents(PANELS[key].title, found, kept["curves"][key]) for key, found in exponents.items()),
    ]
    return "\n\n".join(parts) + "\n"


def faster_than_peers(exponents: Mapping[str, Mapping[str, Growth]]) -> str:
    """Say in which panels Recipro-CAM grows faster than a Grad-CAM, by intervals that do not overlap."""
    words = {True: [], False: []}  # type: dict[bool, list[str]]
    for key, found in exponents.items():
        ours = found[ALL if ALL in found else ONE]
        peers = [each for name, each in found.items() if "GradCam" in name or "GradCAM" in name]
        worse = [each for each in peers if ours.low > each.high]
        words[bool(worse)].append(f"{PANELS[key].title.lower()} (exponent {ours}, peers {_range(worse or peers)})")
    told = f"Recipro-CAM grows faster than a Grad-CAM with {'; '.join(words[True])}. " if words[True] else ""
    return told + (f"It does not with {'; '.join(words[False])}." if words[False] else "")


def behind_at_first(curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> str:
    """Say how many times the time of the fastest Grad-CAM Recipro-CAM takes at the smallest size of each panel."""
    words = []
    for key, found in curves.items():
        ours = found[ALL if ALL in found else ONE][0][1]
        fastest = min((curve[0][1], _short(name)) for name, curve in found.items() if "grad" in name.lower())
        words.append(f"{ours / fastest[0]:.2f} with {PANELS[key].title.lower()} (the fastest is {fastest[1]})")
    return f"At the smallest size, it takes these times the time of the fastest Grad-CAM: {'; '.join(words)}."


def _range(found: Sequence[Growth]) -> str:
    low, high = min(each.exponent for each in found), max(each.exponent for each in found)
    return f"{_two(low)} to {_two(high)}"


def _exponents(title: str, found: Mapping[str, Growth], curves: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            str(each),
            f"{curves[name][0][1]:.4f} at {curves[name][0][0]}",
            f"{curves[name][-1][1]:.3f} at {curves[name][-1][0]:,}",
        ]
        for name, each in found.items()
    ]
    return f"**{title}**\n\n" + table(["method", "exponent", "first, s", "last, s"], rows)


def main() -> None:
    """Measure the curves, keep them, write figure and page."""
    parser = timing_options(__doc__, rounds=3)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="with ILSVRC (default: %(default)s)")
    parser.add_argument("--longest", type=float, default=5.0, help="seconds of a point (default: %(default)s)")
    parser.add_argument("--page", action="store_true", help="write figure and page from what is kept; measure nothing")
    options = parser.parse_args()
    if not options.page:
        torch.set_num_threads(options.threads)
        torch.manual_seed(0)
        random.seed(0)
        warnings.simplefilter("ignore")
        settings = options.data, options.device, options.rounds, options.longest
        curves = {key: measured(panel, *settings) for key, panel in PANELS.items()}
        more = {"rounds": options.rounds, "threads": options.threads, "longest": options.longest}
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        KEPT.write_text(json.dumps({**more, "source": photographs(options.data, 1)[1], "curves": curves}, indent=1) + "\n")
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    FIGURE.write_bytes(draw(kept))
    (options.out or PAGE).write_text(page(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
