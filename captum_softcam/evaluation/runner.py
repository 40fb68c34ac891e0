"""Run methods x metrics x samples: every map is computed once and shared by all metrics."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from captum_softcam._maps import is_flat
from captum_softcam.attr import LayerSoftCam
from captum_softcam.data import Sample, Samples
from captum_softcam.evaluation.adapter import LayerExplainFunc, find_method
from captum_softcam.evaluation.batches import Batch, device_of, load_batch, timed
from captum_softcam.evaluation.checks import check_layer, check_model, check_names, default_methods, default_metrics
from captum_softcam.evaluation.comparison import Comparison, Example
from captum_softcam.metrics import METRICS, Metric, PatchGame

__all__ = ["PATCHES", "compare_methods", "explain_sample"]

PATCHES = 8
"""Patches per image side in the faithfulness metrics."""


def compare_methods(
    model: nn.Module,
    samples: Samples,
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
        samples (Samples): a list of ``Sample`` or a data set, images of one size.
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
    check_model(model)
    normalize = normalize or (lambda images: images)
    if not len(samples):
        raise ValueError("there are no samples to compare on; give at least one.")
    first = normalize(samples[0].image[None].to(device_of(model)))
    methods = list(dict.fromkeys(methods or default_methods(model)))
    metrics = list(dict.fromkeys(metrics or default_metrics(samples)))
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
            batch = load_batch(model, samples, start, batch_size, normalize, explain)
            plain += batch.forward_seconds
            masked += int(batch.has_mask.sum())
            maps = {}
            for name, explainer in explainers.items():
                bar.set_description(f"{name}: map")
                maps[name], spent = timed(partial(explainer.explain, model, batch.images, batch.targets))
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
    check_model(model)
    normalize = normalize or (lambda images: images)
    methods = list(methods) if methods else default_methods(model)
    check_names(methods, (), model)
    batch = load_batch(model, [sample], 0, 1, normalize, "true")
    layer = check_layer(model, layer, batch.images)
    maps = {name: _explainer(name, layer).explain(model, batch.images, batch.targets) for name in methods}
    return Example(sample, sample.target, {name: attribution[0].float().cpu() for name, attribution in maps.items()})


def _explainer(name: str, layer: str) -> LayerExplainFunc:
    method = find_method(name)
    return LayerExplainFunc(method, None if method is LayerSoftCam else layer)


def _score(
    model: nn.Module, batch: Batch, maps: dict[str, Tensor], metrics: list[Metric], seed: int, bar: tqdm[Any]
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


def _scores(metric: Metric, maps: Tensor, batch: Batch, game: PatchGame, seed: int) -> NDArray[np.float64]:
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


def _choose_examples(samples: Samples, count: int) -> list[Sample]:
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


def _examples(batch: Batch, maps: dict[str, Tensor], chosen: set[str]) -> Iterator[Example]:
    for i, sample in enumerate(batch.samples):
        if sample.identifier in chosen:
            yield Example(sample, int(batch.targets[i]), {name: m[i].float().cpu() for name, m in maps.items()})


def _manifest(
    model: nn.Module,
    samples: Samples,
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
