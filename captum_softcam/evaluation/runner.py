"""Run methods x metrics x samples: every map is computed once and shared by all metrics."""

from __future__ import annotations

import difflib
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from captum.attr import LayerAttribution
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from captum_softcam._layers import get_layer, last_spatial_layer, refuse_flat_layer
from captum_softcam._maps import is_flat
from captum_softcam.attr import METHODS, LayerSoftCam
from captum_softcam.data import Sample
from captum_softcam.evaluation.adapter import LayerExplainFunc, find_method
from captum_softcam.evaluation.comparison import Comparison, Example
from captum_softcam.evaluation.controls import CONTROLS
from captum_softcam.metrics import METRICS, Metric, PatchGame
from captum_softcam.softcam import SoftCamModel

__all__ = ["PATCHES", "check_layer", "check_names", "compare_methods", "default_methods", "explain_sample"]

PATCHES = 8
"""Patches per image side in the faithfulness metrics."""


@dataclass(frozen=True)
class _Batch:
    """Samples on their way through the run."""

    samples: list[Sample]
    images: Tensor
    labels: Tensor
    targets: Tensor
    predictions: Tensor
    masks: NDArray[np.bool_]
    has_mask: NDArray[np.bool_]
    forward_seconds: float


def compare_methods(
    model: nn.Module,
    samples: Sequence[Sample],
    methods: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    *,
    layer: str | None = None,
    normalize: Callable[[Tensor], Tensor] | None = None,
    explain: Literal["true", "predicted"] = "true",
    batch_size: int = 16,
    seed: int = 0,
    examples: int = 4,
    show_progress: bool = False,
) -> Comparison:
    """Score attribution methods under the same metrics on the same samples.

    All methods see the same images, classes, resolution, baselines and random subsets. A flat or non-finite map ranks
    nothing: its scores are NaN and counted as undefined, as are localisation scores of samples without a mask.

    Cost: per image, each method's own cost, ``Metric.forwards`` for every method and faithfulness metric, less what is the
    same for all methods and therefore run once; one plain forward.

    Args:
        model (torch.nn.Module): classifier in eval mode, images (N, C, H, W) -> logits (N, K).
        samples (sequence of Sample): images of one size.
        methods (sequence of str): names in ``METHODS`` and ``CONTROLS``. Default: all that the model allows
        metrics (sequence of str): names in ``METRICS``. Default: all; without any mask, the faithfulness metrics
        layer (str): where layer methods look; SoftCAM always reads the evidence. Default: the last spatial layer (for a
            SoftCAM model its backbone)
        normalize (callable): turns images in [0, 1] into what the model takes. Default: none needed
        explain (str): the class that is explained: the sample's own (``"true"``) or the ``"predicted"`` one.
            Default: ``"true"``
        batch_size (int): samples at a time. Default: 16
        seed (int): of the random subsets, the same for every method. Default: 0
        examples (int): samples whose maps are kept for a picture, those with a mask first, class by class. Default: 4
        show_progress (bool): show a bar that names method and metric. Default: False

    Returns:
        Comparison: scores per sample, costs, settings and examples.

    Raises:
        ValueError: for unknown names, no samples, images or masks of different sizes, a class the model does not have, a
            layer without a spatial map, SoftCAM on a model without evidence, or a model in train mode.
    """
    _check_model(model)
    normalize = normalize or (lambda images: images)
    first = normalize(_check_samples(samples)[None].to(_device(model)))
    methods = list(methods) if methods else default_methods(model)
    metrics = list(metrics) if metrics else _default_metrics(samples)
    check_names(methods, metrics, model)
    layer = check_layer(model, layer, first)
    explainers = {name: _explainer(name, layer) for name in methods}
    chosen = {sample.identifier for sample in _choose_examples(samples, examples)}
    steps = -(-len(samples) // batch_size) * len(methods) * (1 + len(metrics))
    rows: list[pd.DataFrame] = []
    seconds: dict[str, float] = defaultdict(float)
    plain, masked = 0.0, 0
    kept: list[Example] = []
    with tqdm(total=steps, disable=not show_progress, unit="step", dynamic_ncols=True) as bar:
        for start in range(0, len(samples), batch_size):
            batch = _load(model, samples, start, batch_size, normalize, explain)
            plain += batch.forward_seconds
            masked += int(batch.has_mask.sum())
            maps = {}
            for name, explainer in explainers.items():
                bar.set_description(f"{name}: map")
                maps[name], spent = _timed(lambda e=explainer, b=batch: e.explain(model, b.images, b.targets))
                seconds[name] += spent
                bar.update()
            rows += list(_score(model, batch, maps, [METRICS[name] for name in metrics], seed, bar))
            kept += _examples(batch, maps, chosen)
    costs = {name: seconds[name] / plain for name in methods}
    manifest = _manifest(model, samples, methods, metrics, layer, explain, batch_size, seed)
    manifest["samples_with_mask"] = masked
    return Comparison(pd.concat(rows, ignore_index=True), costs, manifest, kept)


def explain_sample(
    model: nn.Module,
    sample: Sample,
    methods: Sequence[str] | None = None,
    *,
    layer: str | None = None,
    normalize: Callable[[Tensor], Tensor] | None = None,
) -> Example:
    """Maps of one sample's class by every method; arguments and errors as for :func:`compare_methods`.

    Returns:
        Example: ready for :func:`captum_softcam.report.plot_panel`.
    """
    _check_model(model)
    normalize = normalize or (lambda images: images)
    methods = list(methods) if methods else default_methods(model)
    check_names(methods, (), model)
    batch = _load(model, [sample], 0, 1, normalize, "true")
    layer = check_layer(model, layer, batch.images)
    maps = {name: _explainer(name, layer).explain(model, batch.images, batch.targets) for name in methods}
    return Example(sample, sample.target, {name: attribution[0].float().cpu() for name, attribution in maps.items()})


def default_methods(model: nn.Module) -> list[str]:
    """All methods and controls that fit the model."""
    return [name for name in {**METHODS, **CONTROLS} if name != "soft_cam" or isinstance(model, SoftCamModel)]


def _default_metrics(samples: Sequence[Sample]) -> list[str]:
    masks = any(sample.mask is not None for sample in samples)
    return [name for name, metric in METRICS.items() if masks or metric.category != "localisation"]


def check_names(methods: Sequence[str], metrics: Sequence[str], model: nn.Module) -> None:
    """Raise ValueError for an unknown method or metric, or for SoftCAM on a model that has no evidence."""
    for name in methods:
        if find_method(name) is LayerSoftCam and not isinstance(model, SoftCamModel):
            raise ValueError(
                f"method 'soft_cam' needs a SoftCAM model; got {type(model).__name__}. Convert it with "
                "convert_to_softcam(model), or leave the method out."
            )
    for name in metrics:
        if name not in METRICS:
            closest = difflib.get_close_matches(name, METRICS, n=3) or list(METRICS)
            raise ValueError(f"metric {name!r} is unknown. The closest are {', '.join(map(repr, closest))}.")


def _check_model(model: nn.Module) -> None:
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise ValueError(
            f"the model is in train mode ({len(training)} modules, first '{training[0]}'): dropout and batch statistics "
            "would change the scores. Call model.eval() first."
        )


def _check_samples(samples: Sequence[Sample]) -> Tensor:
    """The first image; further ones are checked as they come."""
    if not len(samples):
        raise ValueError("there are no samples to compare on; give at least one.")
    return samples[0].image


@torch.no_grad()
def check_layer(model: nn.Module, layer: str | None, images: Tensor) -> str:
    """The layer to look at: the one asked for if it gives a spatial map, the last spatial one if none was asked for."""
    if layer is None:
        last = ("backbone",) if isinstance(model, SoftCamModel) else last_spatial_layer(model, images)
        if last is None:
            raise ValueError(f"{type(model).__name__} has no layer that gives a spatial map (N, C, h, w).")
        return last[0]
    seen: list[Any] = []
    module = get_layer(model, layer)
    handle = module.register_forward_hook(lambda _module, _args, output: seen.append(output))
    try:
        model(images)
    finally:
        handle.remove()
    refuse_flat_layer(seen[-1] if seen else None, "a comparison of layer methods", model, module, (images,))
    return layer


def _explainer(name: str, layer: str) -> LayerExplainFunc:
    method = find_method(name)
    is_free = method is LayerSoftCam or not issubclass(method, LayerAttribution)
    return LayerExplainFunc(method, None if is_free else layer)


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@torch.no_grad()
def _load(
    model: nn.Module,
    samples: Sequence[Sample],
    start: int,
    batch_size: int,
    normalize: Callable[[Tensor], Tensor],
    explain: str,
) -> _Batch:
    """The next samples, checked, with what the model says of them."""
    part = [samples[i] for i in range(start, min(start + batch_size, len(samples)))]
    size = part[0].image.shape[1:]
    for sample in part:
        _check_sizes(sample, size)
    images = normalize(torch.stack([sample.image for sample in part]).to(_device(model)))
    logits, seconds = _timed(lambda: model(images))
    for sample in part:
        _check_class(sample, logits)
    labels = torch.tensor([sample.target for sample in part], device=images.device)
    predictions = logits.argmax(1)
    return _Batch(
        samples=part,
        images=images,
        labels=labels,
        targets=labels if explain == "true" else predictions,
        predictions=predictions,
        masks=np.stack([_mask(sample, size) for sample in part]),
        has_mask=np.array([sample.mask is not None for sample in part]),
        forward_seconds=seconds,
    )


def _check_sizes(sample: Sample, size: torch.Size) -> None:
    if sample.image.shape[1:] != size:
        raise ValueError(
            f"sample '{sample.identifier}' is {tuple(sample.image.shape[1:])} pixels, the ones before {tuple(size)}; "
            "resize them to one size."
        )
    if sample.mask is None:
        return
    if sample.mask.shape[1:] != size:
        raise ValueError(
            f"the mask of sample '{sample.identifier}' is {tuple(sample.mask.shape[1:])} pixels, its image {tuple(size)}."
        )
    if not sample.mask.any():
        raise ValueError(
            f"the mask of sample '{sample.identifier}' is empty; give None where there is nothing to localise."
        )


def _check_class(sample: Sample, logits: Tensor) -> None:
    if not 0 <= sample.target < logits.shape[1]:
        raise ValueError(
            f"sample '{sample.identifier}' has class {sample.target}; the model gives {logits.shape[1]} logits, "
            f"so classes 0 to {logits.shape[1] - 1}."
        )


def _mask(sample: Sample, size: torch.Size) -> NDArray[np.bool_]:
    return np.zeros((1, *size), bool) if sample.mask is None else sample.mask.cpu().numpy().astype(bool)


def _timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """What ``work`` gives and the seconds it took, waiting for the device."""
    start = time.perf_counter()
    result = work()
    if result.is_cuda:
        torch.cuda.synchronize(result.device)
    return result, time.perf_counter() - start


def _score(
    model: nn.Module, batch: _Batch, maps: dict[str, Tensor], metrics: list[Metric], seed: int, bar: tqdm[Any]
) -> Iterator[pd.DataFrame]:
    """Scores of one batch, a table per method and metric; the game is shared by all of them."""
    with closing(PatchGame(model, batch.images, PATCHES)) as game:
        for metric in metrics:
            for name, attribution in maps.items():
                bar.set_description(f"{name}: {metric.name}")
                scores = _scores(metric, attribution, batch, game, seed)
                yield pd.DataFrame(
                    {
                        "sample": [sample.identifier for sample in batch.samples],
                        "label": batch.labels.tolist(),
                        "target": batch.targets.tolist(),
                        "prediction": batch.predictions.tolist(),
                        "method": name,
                        "metric": metric.name,
                        "score": scores,
                    }
                )
                bar.update()


def _scores(metric: Metric, maps: Tensor, batch: _Batch, game: PatchGame, seed: int) -> NDArray[np.float64]:
    """Scores (N,); NaN where the map is flat, or where there is no mask to find."""
    flat = is_flat(maps).cpu().numpy()
    # a flat map goes along as a slope, for the game needs all its images; its score is thrown away
    slope = torch.linspace(0, 1, maps[0].numel(), device=maps.device).view(maps[0].shape).to(maps)
    array = torch.where(torch.from_numpy(flat).to(maps.device).view(-1, 1, 1, 1), slope, maps).cpu().numpy()
    scores = np.full(len(array), np.nan)
    if metric.category == "faithfulness":
        scores[:] = metric.test(array, batch.targets.cpu().numpy(), game, seed)
    elif batch.has_mask.any():
        scores[batch.has_mask] = metric.localise(array[batch.has_mask], batch.masks[batch.has_mask])
    scores[flat] = np.nan
    return scores


def _choose_examples(samples: Sequence[Sample], count: int) -> list[Sample]:
    """The first samples with a mask, class after class in turn; without any mask, the first samples."""
    by_class: dict[int, list[Sample]] = defaultdict(list)
    masked = False
    for i in range(min(len(samples), 16 * max(count, 1))):
        sample = samples[i]
        if sample.mask is not None and not masked:
            masked = True
            by_class.clear()
        if (sample.mask is not None) == masked:
            by_class[sample.target].append(sample)
    turns = [queue[i] for i in range(count) for queue in by_class.values() if i < len(queue)]
    return turns[:count]


def _examples(batch: _Batch, maps: dict[str, Tensor], chosen: set[str]) -> Iterator[Example]:
    for i, sample in enumerate(batch.samples):
        if sample.identifier in chosen:
            yield Example(sample, int(batch.targets[i]), {name: m[i].float().cpu() for name, m in maps.items()})


def _manifest(
    model: nn.Module,
    samples: Sequence[Sample],
    methods: list[str],
    metrics: list[str],
    layer: str,
    explain: str,
    batch_size: int,
    seed: int,
) -> dict[str, Any]:
    """Everything that is needed to run the comparison again."""
    packages = ("captum-softcam", "captum", "quantus", "torch", "torchvision", "numpy")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "seed": seed,
        "model": type(model).__name__,
        "layer": layer,
        "samples": len(samples),
        "image_size": list(samples[0].image.shape[1:]),
        "explained_class": explain,
        "batch_size": batch_size,
        "methods": methods,
        "metrics": {
            name: {
                "quantus_class": METRICS[name].quantus_class,
                "higher_is_better": METRICS[name].higher_is_better,
                "settings": dict(METRICS[name].settings),
                "patches": PATCHES if METRICS[name].category == "faithfulness" else None,
            }
            for name in metrics
        },
    }
