"""Gather what is known of the claims on painted lesions, for the ledger.

    python benchmarks/studies/painted.py

Reads the kept scores of ``captum-softcam compare`` (``benchmarks/readme``) and the tables of the page that ``lesions.py``
has written, and measures the parts of ADCC and the conversion on the embedded black box. Takes a few minutes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from study import DOCS, Count, Decides, Finding, Interval, Ratio, Results, Work, interval, options_of
from study_page import read_tables
from torch import Tensor, nn

from captum_softcam import LayerReciproCam, convert_to_softcam, load_embedded
from captum_softcam.data import RetinalLesions
from captum_softcam.evaluation import Comparison, compare_methods

NAME = "lesions"
KEPT = Path(__file__).parents[1] / "readme"
PAGE = "explanation/softcam_study.md"
LAYER = "features"
TOLERANCE = 1e-5  # of the largest logit: single precision
SAMPLES, SCORE_CAM_SAMPLES = 48, 16
PARTS = ("average_drop", "coherency", "map_complexity", "adcc")
LOWER_IS_BETTER = {"average_drop", "map_complexity"}
SPARSE = ("lasso", "elastic net")
POST_HOC = ("Grad-CAM", "Recipro-CAM", "Score-CAM", "Occlusion")


def _findings() -> Iterator[Decides]:
    """Yield what decides each claim."""
    yield Finding("softcam-accuracy", "accuracy", "lasso - black box", "accuracy", "kept", 0.01, "accuracy, lasso")
    for method in POST_HOC:
        for score in ("precision", "sensitivity", "pointing"):
            yield Finding("softcam-localisation", "native - post-hoc", method, score, words=f"{score}, minus {method}")
        for score in ("deletion", "insertion"):
            yield Finding("softcam-faithful", "native - post-hoc", method, score, words=f"{score}, minus {method}")
    for penalty in SPARSE:
        words = f"precision, {penalty} minus no penalty (unpaired)"
        yield Finding("softcam-penalty", "native - native", penalty, "precision", words=words)
    yield Finding(
        "finer-grid", "native - native", "finer grid", "precision", words="precision, 20×20 minus 10×10 cells (unpaired)"
    )
    for score in ("precision", "sensitivity", "pointing", "deletion", "insertion"):
        words = f"{score}, minus Occlusion (unpaired)"
        yield Finding("conversion-competitive", "converted - post-hoc", "Occlusion", score, "kept", 0.02, words)
    yield Finding(
        "same-logits", "conversion", "logits", "largest", "same", TOLERANCE, "largest difference, of the largest logit"
    )
    yield Count("evidence-is-logit", "conversion", "evidence", "mean", "images")
    yield Finding("recipro-grad-adcc", "Recipro-CAM - other", "grad_cam", "adcc", words="ADCC, settings of the paper")
    yield Finding("recipro-score-adcc", "Recipro-CAM - other", "score_cam", "adcc", words="ADCC, settings of the paper")
    yield Finding("recipro-drop", "Score-CAM - Recipro-CAM", "score_cam", "average_drop", words="average drop")
    yield Finding("recipro-complexity", "Recipro-CAM - other", "grad_cam", "map_complexity", words="complexity")
    yield Finding(
        "recipro-gaussian", "Recipro-CAM - other", "one position", "adcc", words="ADCC, Gaussian minus one position"
    )
    for metric in ("pointing_game", "pixel_auc", "deletion", "insertion", "faithfulness_correlation"):
        words = metric.replace("_", " ").replace("auc", "AUC")
        yield Finding("recipro-is-cam", "Recipro-CAM - Grad-CAM", "recipro_cam", metric, "same", 5e-4, words)
    for metric in ("pointing_game", "relevance_mass_accuracy", "relevance_rank_accuracy", "pixel_auc"):
        words = metric.replace("_", " ").replace("auc", "AUC").removesuffix(" accuracy")
        yield Finding("beats-controls", "SoftCAM - control", "centred_gaussian", metric, words=words)
    words = "forwards for a map of Score-CAM, by those of Recipro-CAM"
    yield Ratio("recipro-speed-score", "passes", "score_cam", "recipro_cam", 148, False, words)


FINDINGS = tuple(_findings())


def main() -> None:
    """Measure what is missing, and write the results."""
    options = options_of("painted", __doc__).parse_args()
    torch.set_num_threads(options.threads)
    gather(Work(options.work), options.docs).save(options.results)


def gather(work: Work, docs: Path = DOCS) -> Results:
    """Return all results; only what is not kept is measured."""
    results = Results(NAME, {"samples": SAMPLES, "score_cam_samples": SCORE_CAM_SAMPLES})
    add_study(results, (docs / PAGE).read_text(encoding="utf-8"))
    add_comparison(results, Comparison.load(KEPT))
    _add_parts(results, work)
    _add_conversion(results)
    return results


# Kept results ---------------------------------------------------------------------------------------------------------


def add_study(results: Results, page: str) -> None:
    """Add the differences on the page of the study; those of rows that it does not pair are wider than they need be."""
    tables = read_tables(page)
    gap = re.search(r"minus that of the black box, on the same samples: (\S+ points \[.*?\])", page)
    assert gap is not None, f"{PAGE} has no difference of the accuracy"
    results.add("accuracy", "lasso - black box", "accuracy", Interval(*(figure / 100 for figure in _figures(gap[1]))))
    scores = ("precision", "sensitivity", "pointing", "deletion", "insertion")
    for title, *cells in tables["Differences"]:
        method, _, model = title.partition(", ")
        if model == "black box":
            for score, cell in zip(scores, cells, strict=True):
                results.add("native - post-hoc", method, score, _interval(cell))
    native = {
        title: _interval(cells[0])
        for title, *cells in tables["Accuracy and native maps"]
        if len(cells) == 5 and "[" in cells[0]
    }
    for penalty in SPARSE:
        pair = native[f"SoftCAM, {penalty}"], native["SoftCAM, no penalty"]
        results.add("native - native", penalty, "precision", unpaired(*pair))
    pair = native["SoftCAM, lasso"], native["SoftCAM, lasso, 10×10 cells"]
    results.add("native - native", "finer grid", "precision", unpaired(*pair))
    maps = {title: cells[1:] for title, *cells in tables["Native maps and post-hoc maps"]}
    rows = maps["black box, converted without training"], maps["black box: Occlusion"]
    for score, ours, theirs in zip(scores, *rows, strict=True):
        found = unpaired(_interval(ours), _interval(theirs))
        results.add("converted - post-hoc", "Occlusion", score, negative(found) if score == "deletion" else found)


def _interval(cell: str) -> Interval:
    return Interval(*_figures(cell))


def _figures(cell: str) -> list[float]:
    return [float(figure) for figure in re.findall(r"[-+]?\d+\.\d+", cell)]


def unpaired(ours: Interval, theirs: Interval) -> Interval:
    """Return the difference of two means that were measured each by itself, with Newcombe's interval of it."""
    mean = ours.mean - theirs.mean
    low = mean - float(np.hypot(ours.mean - ours.low, theirs.high - theirs.mean))
    high = mean + float(np.hypot(ours.high - ours.mean, theirs.mean - theirs.low))
    return Interval(mean, low, high)


def negative(found: Interval) -> Interval:
    """Return a difference with its sign changed."""
    return Interval(-found.mean, -found.high, -found.low, found.n)


def add_comparison(results: Results, comparison: Comparison) -> None:
    """Add paired differences of the kept comparison, and what it says of its metrics."""
    for table, method, other in (
        ("Recipro-CAM - Grad-CAM", "recipro_cam", "grad_cam"),
        ("SoftCAM - control", "soft_cam", "centred_gaussian"),
    ):
        for metric in comparison.metrics:
            results.add(table, method if other == "grad_cam" else other, metric, _paired(comparison, method, other, metric))
    health = comparison.health()
    results.settings["health"] = {name: health.loc[name, "verdict"] for name in comparison.metrics}
    costs = pd.read_csv(KEPT / "method_costs.csv", index_col="method")["forwards"]
    ratio = costs["score_cam"] / costs["recipro_cam"]
    results.add("passes", "score_cam", "recipro_cam", Interval(ratio, ratio, ratio, 1))


def _paired(comparison: Comparison, method: str, other: str, metric: str) -> Interval:
    """Return the difference of two methods; above 0 the first is better."""
    places = (comparison.methods.index(method), comparison.methods.index(other))
    ours, theirs = (comparison.array()[:, place, comparison.metrics.index(metric)] for place in places)
    return interval(comparison.directions[metric] * (ours - theirs), comparison.images)


# Measured here --------------------------------------------------------------------------------------------------------


def _add_parts(results: Results, work: Work) -> None:
    """Add differences of ADCC and its parts, with the settings of the paper of Recipro-CAM."""
    cheap = work.step("parts", lambda: _parts(SAMPLES, ["grad_cam", "Gaussian", "one position"]))
    dear = work.step("parts-score_cam", lambda: _parts(SCORE_CAM_SAMPLES, ["score_cam", "Gaussian"]))
    for scores, others in ((cheap, ("grad_cam", "one position")), (dear, ("score_cam",))):
        for other in others:
            for part in PARTS:
                gap = np.array(scores[f"Gaussian {part}"], dtype=float) - np.array(scores[f"{other} {part}"], dtype=float)
                found = interval(-gap if part in LOWER_IS_BETTER else gap)
                results.add("Recipro-CAM - other", other, part, found)
    results.add(
        "Score-CAM - Recipro-CAM",
        "score_cam",
        "average_drop",
        negative(results.cell("Recipro-CAM - other", "score_cam", "average_drop")),
    )


def _parts(samples: int, methods: list[str]) -> dict[str, list[float]]:
    """Return ADCC and its parts per sample, by method and part."""
    classifier = load_embedded("lesions_black_box")
    masks = {"Gaussian": "gaussian_spread", "one position": "one_hot"}

    def recipro_cam(mask: Any) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
        def explain(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
            explainer = LayerReciproCam(nn.Sequential(model, nn.Softmax(1)).eval(), model.get_submodule(LAYER))
            return explainer.attribute(images, target=classes, mask=mask)

        return explain

    comparison = compare_methods(
        classifier.model,
        RetinalLesions("test", length=samples),
        {name: recipro_cam(masks[name]) if name in masks else name for name in methods},
        list(PARTS),
        layer=LAYER,
        normalize=classifier.normalize,
        explain="predicted",
        baseline="Gaussian",
        probes=0,
    )
    places = [(method, part) for method in methods for part in PARTS]
    cube = comparison.array().reshape(samples, -1)
    return {f"{method} {part}": cube[:, i].tolist() for i, (method, part) in enumerate(places)}


@torch.no_grad()
def _add_conversion(results: Results) -> None:
    """Convert the black box, and compare the logits before and after, and the means of the evidence."""
    classifier, samples = load_embedded("lesions_black_box"), RetinalLesions("test", length=SAMPLES)
    images = classifier.normalize(torch.stack([samples[i].image for i in range(SAMPLES)]))
    converted = convert_to_softcam(classifier.model)
    before, after, means = classifier.model(images), converted(images), converted.evidence_maps(images).mean((2, 3))
    scale = float(before.abs().max())
    results.add("conversion", "logits", "largest", interval(((after - before).abs().amax(1) / scale).numpy()))
    same = ((means - after).abs().amax(1) < TOLERANCE * scale).double().mean().item()
    results.add("conversion", "evidence", "mean", Interval(same, same, same, SAMPLES))


if __name__ == "__main__":
    main()
