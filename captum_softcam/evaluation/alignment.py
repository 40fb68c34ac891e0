"""Alignment of the comparisons of several models: the samples and metrics that all have, and in words what differs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from captum_softcam._names import listed, named, quoted
from captum_softcam.evaluation.comparison import Comparison
from captum_softcam.evaluation.view import one_line

__all__ = ["align"]

_SHARED = ("image_size", "explained_class", "patches", "seed")


def align(comparisons: Mapping[str, Comparison]) -> tuple[dict[str, Comparison], list[str]]:
    """Return the comparisons on the samples and metrics that all have, and in words what differs.

    Raises:
        ValueError: if they differ in what their scores depend on, or have nothing in common.
    """
    first, model = next(iter(comparisons.values())), next(iter(comparisons))
    for other, comparison in comparisons.items():
        for name in _SHARED:
            _refuse_other(model, other, name.replace("_", " "), first.manifest.get(name), comparison.manifest.get(name))
        _refuse_other_metrics(model, other, first, comparison)
        _refuse_other_samples(model, other, first, comparison)
    every = {name: (set(each.samples), set(each.metrics)) for name, each in comparisons.items()}
    samples = [name for name in first.samples if all(name in found for found, _ in every.values())]
    metrics = [name for name in first.metrics if all(name in found for _, found in every.values())]
    if not samples or not metrics:
        raise ValueError(
            f"the models have no {'metric' if samples else 'sample'} in common; compare them on the same samples under the "
            "same metrics, by compare_models."
        )
    remarks = [*_on_left_out(comparisons, samples, metrics), *_on_differences(comparisons)]
    return {name: _restricted(each, samples, metrics) for name, each in comparisons.items()}, remarks


def _refuse_other(model: str, other: str, what: str, one: Any, two: Any) -> None:
    if one is not None and two is not None and one != two:
        raise ValueError(
            f"models {quoted(model)} and {quoted(other)} were compared with different settings, {what} {named(one)} and "
            f"{named(two)}; compare both with the same."
        )


def _refuse_other_metrics(model: str, other: str, first: Comparison, comparison: Comparison) -> None:
    if first.manifest.get("metrics") is None or comparison.manifest.get("metrics") is None:
        return
    mine, theirs = first.view(adjust="none").metrics, comparison.view(adjust="none").metrics
    for name in mine.keys() & theirs.keys():
        for key in ("settings", "higher_is_better"):
            _refuse_other(model, other, f"{key.replace('_', ' ')} of {name}", mine[name].get(key), theirs[name].get(key))


def _refuse_other_samples(model: str, other: str, first: Comparison, comparison: Comparison) -> None:
    mine, theirs = (dict(zip(each.contents["sample"], each.contents["sha256"], strict=True)) for each in (first, comparison))
    changed = [name for name in mine if name in theirs and mine[name] != theirs[name]]
    if changed:
        raise ValueError(
            f"models {quoted(model)} and {quoted(other)} were compared on different images of the same names, "
            f"{listed(changed)}; compare both on the same files, of the same size."
        )


def _on_left_out(comparisons: Mapping[str, Comparison], samples: Sequence[str], metrics: Sequence[str]) -> Iterator[str]:
    for what, common, lists in (
        ("samples", samples, [each.samples for each in comparisons.values()]),
        ("metrics", metrics, [each.metrics for each in comparisons.values()]),
    ):
        missing = [name for name in dict.fromkeys(itertools.chain(*lists)) if name not in set(common)]
        if missing:
            yield f"{len(missing)} {what} that not all models have are left out: {listed(missing)}."


def _on_differences(comparisons: Mapping[str, Comparison]) -> Iterator[str]:
    kinds = {model: str(each.manifest.get("scores", "softmax")) for model, each in comparisons.items()}
    if len(set(kinds.values())) > 1:
        yield f"outputs are read in different ways: {', '.join(f'{one_line(m)} as {kind}' for m, kind in kinds.items())}."
    for name in ("captum-softcam", "torch"):
        versions = dict.fromkeys(each.manifest.get("versions", {}).get(name) for each in comparisons.values())
        if len(versions) > 1:
            yield f"the models were compared with different versions of {name}: {listed(versions)}."
    targets = [_targets(each) for each in comparisons.values()]
    moved = sum(any(other.get(name, target) != target for other in targets) for name, target in targets[0].items())
    if moved:
        yield f"the explained class of {moved} samples differs between models, because it is the predicted one."


def _targets(comparison: Comparison) -> dict[str, int]:
    rows = comparison.scores.drop_duplicates("sample")
    return dict(zip(rows["sample"], rows["target"], strict=True))


def _restricted(comparison: Comparison, samples: Sequence[str], metrics: Sequence[str]) -> Comparison:
    """Return a comparison on some of its samples and metrics, in this order."""
    if comparison.samples == list(samples) and comparison.metrics == list(metrics):
        return comparison
    kept, order = set(samples), {name: place for place, name in enumerate(samples)}
    scores = comparison.scores[comparison.scores["sample"].isin(kept) & comparison.scores["metric"].isin(metrics)]
    scores = scores.sort_values("sample", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    entries = comparison.view(adjust="none").metrics
    located = [name for name in metrics if entries[name].get("needs_mask", entries[name].get("category") == "localisation")]
    defined = scores[scores["metric"].isin(located) & np.isfinite(scores["score"])]
    failures = comparison.failures
    manifest = {**comparison.manifest, "metrics": {name: dict(entries[name]) for name in metrics}}
    if "samples_with_mask" in manifest and len(samples) < len(comparison.samples):
        # Which samples have a mask is not recorded, but any score of localisation says so.
        manifest["samples_with_mask"] = defined["sample"].nunique()
    return replace(
        comparison,
        scores=scores,
        manifest=manifest,
        failures=failures[failures["sample"].isin(kept) & failures["metric"].isin(["", np.nan, *metrics])],
        contents=comparison.contents[comparison.contents["sample"].isin(kept)],
        curves=comparison.curves[comparison.curves["sample"].isin(kept) & comparison.curves["metric"].isin(metrics)],
        examples=[each for each in comparison.examples if each.sample.identifier in kept],
    )
