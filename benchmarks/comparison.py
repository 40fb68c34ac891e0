"""Measure the cost of a comparison: against the same metrics one by one, against the model alone, and for all of ImageNet.

All runs of the four tables take place side by side in one process. Both ways must lead to the same numbers; times are
reported and not asserted.

    python benchmarks/comparison.py --out comparison.md
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torchvision
from shared import publish, table, timing_options
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from captum_softcam import load_classifier, load_embedded
from captum_softcam._intervention.view import runs_whole
from captum_softcam.data import RetinalLesions, Sample
from captum_softcam.evaluation import Comparison, LayerExplainFunc, compare_methods
from captum_softcam.metrics import METRICS

METHODS = ("soft_cam", "recipro_cam", "grad_cam", "integrated_gradients")  # a random map is drawn otherwise one by one
ASKED = {
    "pointing_game": "PointingGame",
    "relevance_mass_accuracy": "RelevanceMassAccuracy",
    "relevance_rank_accuracy": "RelevanceRankAccuracy",
    "pixel_auc": "PixelAuc",
    "deletion": "Deletion",
    "insertion": "Insertion",
    "faithfulness_correlation": "FaithfulnessCorrelation",
    "average_drop": "AverageDrop",
}
"""Metrics of the comparison, and the Quantus metrics that give the same numbers one by one."""
PLAN_METHODS = (
    "class_activation_map",
    "recipro_cam",
    "grad_cam",
    "occlusion",
    "integrated_gradients",
    "edge_map",
    "centred_gaussian",
    "random",
)
PLAN_METRICS = (*ASKED, "region_perturbation", "increase_in_confidence")
IMAGENET = 50_000


@dataclass
class Clock:
    """The seconds within the forwards of a model."""

    seconds: float = 0.0
    started: list[float] = field(default_factory=list)


@contextmanager
def watched(model: nn.Module) -> Iterator[Clock]:
    """Time the forwards of a model."""
    clock = Clock()

    def start(*_: Any) -> None:
        clock.started.append(_now(model))

    def stop(*_: Any) -> None:
        clock.seconds += _now(model) - clock.started.pop()

    handles = model.register_forward_pre_hook(start), model.register_forward_hook(stop)
    try:
        yield clock
    finally:
        for handle in handles:
            handle.remove()


def _now(model: nn.Module) -> float:
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def one_by_one(
    model: nn.Module, samples: Sequence[Sample], normalize: Callable[[Tensor], Tensor]
) -> dict[tuple[str, str], Any]:
    """Call every Quantus metric with an ``explain_func``, as in its documentation: a map per metric and method."""
    import captum_softcam.metrics as metrics

    images = normalize(torch.stack([sample.image for sample in samples])).numpy()
    targets = np.array([sample.target for sample in samples])
    masks = torch.stack([sample.mask for sample in samples]).numpy()
    scores = {}
    for method in METHODS:
        explain = LayerExplainFunc(method, None if method == "soft_cam" else "backbone")
        for name, quantus_class in ASKED.items():
            kind = getattr(metrics, quantus_class)
            metric = kind(**({"return_scores": True} if "return_scores" in kind.arguments else {}))
            scores[method, name] = metric(
                model=model,
                x_batch=images,
                y_batch=targets,
                a_batch=None,
                s_batch=masks,
                explain_func=explain,
                channel_first=True,
                batch_size=len(samples),
            )
    return scores


def all_at_once(model: nn.Module, samples: Sequence[Sample], normalize: Callable[[Tensor], Tensor]) -> Comparison:
    """Compute the same scores by the comparison."""
    return compare_methods(
        model, samples, METHODS, list(ASKED), layer="backbone", normalize=normalize, batch_size=len(samples), examples=0
    )


def against_one_by_one(options: argparse.Namespace) -> str:
    """Compare seconds and forwards of both ways, and check that their scores agree."""
    classifier = load_embedded()
    model, data = classifier.model, RetinalLesions("test")
    samples = [sample for sample in (data[i] for i in range(4 * options.samples)) if sample.mask is not None]
    samples = samples[: options.samples]
    runs: dict[str, list[float]] = {"one by one": [], "comparison": []}
    counts: dict[str, int] = {}
    for _ in range(options.rounds):
        for name, run in (("one by one", one_by_one), ("comparison", all_at_once)):
            start = time.perf_counter()
            with shapes_seen(model) as seen:
                found = run(model, samples, classifier.normalize)
            runs[name].append(time.perf_counter() - start)
            counts[name] = images_of(seen)
            if name == "one by one":
                asked = found
            else:
                together = found.scores.set_index(["method", "metric"])["score"].groupby(level=[0, 1])
    apart = max(np.nanmax(np.abs(np.array(scores) - together.get_group(key).to_numpy())) for key, scores in asked.items())
    if apart > 1e-4:
        raise SystemExit(f"the two ways differ by {apart:.2g}.")
    base, images = statistics.median(runs["comparison"]), counts["comparison"]
    rows = []
    for name, seconds in runs.items():
        median, count = statistics.median(seconds), counts[name]
        rows.append([name, f"{median:.2f}", f"{count:,}", f"{median / base:.2f}", f"{count / images:.2f}"])
    lines = [
        "\n## One comparison instead of separate calls\n",
        f"{len(METHODS)} methods, {len(ASKED)} metrics, {len(samples)} samples of the embedded lesions; medians of "
        f"{options.rounds} rounds. Largest difference of a score: {apart:.1g}.\n",
        table(["", "seconds", "forwards (images)", "ratio of seconds", "ratio of forwards"], rows),
    ]
    return "\n".join(lines)


def against_the_model(options: argparse.Namespace) -> str:
    """Measure the fraction of a comparison that is the model's forward."""
    classifier = load_embedded()
    samples = [RetinalLesions("test")[i] for i in range(options.samples)]
    methods = ["soft_cam", "recipro_cam", "random"]
    rows = []
    for size in (1, 16):
        start = time.perf_counter()
        with watched(classifier.model) as clock:
            compare_methods(
                classifier.model, samples, methods, list(ASKED), normalize=classifier.normalize, batch_size=size, examples=0
            )
        total = time.perf_counter() - start
        rows.append([size, f"{total:.2f}", f"{clock.seconds:.2f}", f"{clock.seconds / total:.0%}"])
    lines = [
        "\n## Overhead outside the model\n",
        f"{', '.join(methods)} (no gradients), the metrics of the first table, {len(samples)} samples.\n",
        table(["batch", "total, s", "within the model's forward, s", "fraction of the model"], rows),
    ]
    return "\n".join(lines)


@contextmanager
def shapes_seen(model: nn.Module) -> Iterator[Counter[tuple[int, ...]]]:
    """Count the forwards of a model and of its copies by the shape of their images."""
    seen: Counter[tuple[int, ...]] = Counter()

    def ran(module: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        if type(module) is type(model) and runs_whole(module):
            seen[tuple(inputs[0].shape)] += 1

    # Not a hook of the model, which would keep a comparison from its faster copy.
    handle = register_module_forward_hook(ran)
    try:
        yield seen
    finally:
        handle.remove()


def images_of(seen: Counter[tuple[int, ...]]) -> int:
    """Return the number of images in all forwards."""
    return sum(shape[0] * count for shape, count in seen.items())


@torch.no_grad()
def eager_seconds(model: nn.Module, seen: Counter[tuple[int, ...]], rounds: int) -> float:
    """Measure the time of plain forwards of all shapes that were seen, as often as they were."""
    total = 0.0
    for shape, count in seen.items():
        images = torch.rand(shape, device=next(model.parameters()).device)
        seconds = []
        for _ in range(rounds + 1):
            start = _now(model)
            model(images)
            seconds.append(_now(model) - start)
        total += count * statistics.median(seconds[1:])  # the first one loads
    return total


def against_eager_forwards(options: argparse.Namespace) -> str:
    """Compare the wall time of the main job with that of its own forwards, on several networks."""
    import timm

    lesions = load_embedded()
    crops = [RetinalLesions("test")[i] for i in range(options.samples)]
    torch.manual_seed(0)
    mask = torch.zeros(1, 224, 224, dtype=torch.bool)
    mask[:, 60:150, 70:160] = True
    pictures = [Sample(torch.rand(3, 224, 224), i, mask, str(i)) for i in range(options.pictures)]
    networks = {
        "embedded": (lesions.model, crops, lesions.normalize),
        "ResNet-50": (torchvision.models.resnet50(weights=None), pictures, None),
        "efficientnet_lite0": (load_classifier("efficientnet_lite0").model, pictures, None),
        "ViT-tiny": (timm.create_model("vit_tiny_patch16_224"), pictures, None),
    }
    rows = []
    for name, (network, samples, normalize) in networks.items():
        model = network.eval().to(options.device)
        wall: dict[str, float] = {}
        found: dict[str, Any] = {}
        for passes in ("plain", "fast"):
            start = _now(model)
            with shapes_seen(model) as seen:
                found[passes] = compare_methods(model, samples, normalize=normalize, passes=passes, examples=0)
            wall[passes] = _now(model) - start
        eager = eager_seconds(model, seen, 2 * options.rounds)
        apart = np.nanmax(np.abs(found["plain"].scores["score"] - found["fast"].scores["score"]))
        times = [f"{seconds:.1f}" for seconds in (eager, *wall.values())]
        ratios = [f"{seconds / eager:.2f}" for seconds in wall.values()]
        rows.append([name, len(samples), f"{images_of(seen):,}", *times, *ratios, f"{apart:.0e}"])
    columns = ["network", "samples", "forwards (images)", "their eager time, s", "wall, plain, s", "wall, fast, s"]
    lines = [
        "\n## The main job against its own forwards\n",
        "`compare_methods` with its default methods and metrics. *Their eager time* is that of a plain forward of every "
        "shape that the run has passed to the model, times the number of such forwards; Occlusion and Integrated Gradients "
        f"are among them. {options.device}.\n",
        table([*columns, "plain / eager", "fast / eager", "largest difference of a score"], rows),
    ]
    return "\n".join(lines)


def plan(options: argparse.Namespace) -> str:
    """Count forwards per image on a few images, and extrapolate to the validation images of ImageNet."""
    model = torchvision.models.resnet50(weights=None).eval().to(options.device)
    mask = torch.zeros(1, 224, 224, dtype=torch.bool)
    mask[:, 60:150, 70:160] = True
    torch.manual_seed(0)
    samples = [Sample(torch.rand(3, 224, 224), i, mask, str(i)) for i in range(options.images)]
    start = _now(model)
    with shapes_seen(model) as seen:
        comparison = compare_methods(model, samples, PLAN_METHODS, PLAN_METRICS, batch_size=options.images, examples=0)
    total = _now(model) - start
    per_image = images_of(seen) / len(samples)
    seconds = total / len(samples)
    rate = _rate(model, options)
    costs = [
        [name, f"{row.forwards:.0f}", f"{row.backwards:.0f}", f"{row.relative:.1f}"]
        for name, row in comparison.costs.iterrows()
    ]
    costs.append(["all metrics", f"{per_image - comparison.costs['forwards'].sum():.0f}", "", ""])
    hours = [
        [f"{speed:,.0f}", f"{IMAGENET * seconds * rate / speed / 3600:,.1f}"] for speed in (rate, 500, 1000, 2000, 4000)
    ]
    lines = [
        f"\n## ImageNet: {IMAGENET:,} images, {len(PLAN_METHODS)} methods, {len(PLAN_METRICS)} metrics\n",
        f"ResNet-50 at 224 pixels, {options.images} images on {options.device}: {per_image:.0f} forwards per image, "
        f"{seconds:.2f} s per image, where a forward alone takes {1 / rate:.4f} s (batch of {options.images}).\n",
        table(["method", "forwards", "backwards", "time, in forwards"], costs),
        "",
        f"In units of a plain forward, the whole comparison takes {seconds * rate:.0f} forwards per image.\n",
        table(["forwards per second", "hours for all images"], hours, "rr"),
    ]
    return "\n".join(lines)


@torch.no_grad()
def _rate(model: nn.Module, options: argparse.Namespace) -> float:
    """Measure the images per second of a plain forward."""
    images = torch.rand(options.images, 3, 224, 224, device=options.device)
    seconds = []
    for _ in range(5):
        start = _now(model)
        model(images)
        seconds.append(_now(model) - start)
    return options.images / statistics.median(seconds)


def main() -> None:
    """Print the tables, and write them where asked."""
    parser = timing_options(__doc__, rounds=3)
    parser.add_argument("--samples", type=int, default=16, help="of the first two tables (default: %(default)s)")
    parser.add_argument("--images", type=int, default=4, help="of the table for ImageNet (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=2, help="of the table of networks (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    head = f"PyTorch {torch.__version__}, {options.threads} threads; METRICS of captum_softcam: {len(METRICS)}."
    parts = against_one_by_one, against_the_model, against_eager_forwards, plan
    publish([head, *(part(options) for part in parts)], options.out)


if __name__ == "__main__":
    main()
