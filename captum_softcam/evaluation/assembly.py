"""Assemble the results of all batches into tidy tables, in the order of the samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from captum_softcam.evaluation.comparison import Comparison
from captum_softcam.evaluation.performance import PERFORMANCE, performance_table
from captum_softcam.evaluation.probes import PROBES
from captum_softcam.evaluation.reader import Unreadable
from captum_softcam.evaluation.result import COSTS, BatchResult, Judged
from captum_softcam.evaluation.same_maps import same_maps

__all__ = ["assemble"]

# Objects, because an array of text takes the width of its longest entry in every row, and drops NUL at the end.
_TYPES = {"identifiers": object, "labels": int, "targets": int, "predictions": int}


def assemble(
    results: Iterable[BatchResult],
    methods: Sequence[str],
    metrics: Sequence[str],
    manifest: dict[str, Any],
    unreadable: Sequence[Unreadable] = (),
) -> Comparison:
    """Return the comparison of all results; every sample belongs to one of them, or could not be read."""
    ordered = sorted(results, key=lambda result: result.indices)
    images = _images(ordered)
    judged = [each for each in images.values() if each is not None]
    manifest = {
        **manifest,
        "images": len(images),
        "multilabel": bool(judged) and all(each.several for each in judged),
        "samples_with_mask": sum(sum(result.masked) for result in ordered),
        "samples_failed": len(unreadable),
        # Lists, as JSON returns them.
        "same_maps": [
            {**group._asdict(), "methods": list(group.methods)}
            for group in same_maps([result.same for result in ordered], methods)
        ],
        "probe_errors": {probe: error for result in ordered[::-1] for probe, error in result.probe_errors.items()},
    }
    examples = {index: example for result in ordered for index, example in result.examples.items()}
    return Comparison(
        scores=_in_order(_scores(ordered, methods, metrics), ordered),
        costs=_costs(ordered, methods),
        manifest=manifest,
        curves=_curves(ordered, methods, metrics),
        failures=pd.concat([_unreadable(unreadable), _in_order(_failures(ordered), ordered)], ignore_index=True),
        contents=_in_order(_contents(ordered), ordered),
        probes=_probes(ordered, methods, metrics),
        examples=[examples[index] for index in sorted(examples)],
        # Of all images or none, because those without labels would be missing from every class.
        performance=performance_table(judged) if len(judged) == len(images) else pd.DataFrame(columns=list(PERFORMANCE)),
    )


def _images(results: Sequence[BatchResult]) -> dict[str, Judged | None]:
    """Return the scores and labels of every image, in the order of their first samples, which batches change."""
    rows = [row for result in results for row in zip(result.indices, result.groups, result.judged, strict=True)]
    found: dict[str, Judged | None] = {}
    for _, name, judged in sorted(rows, key=lambda row: row[0]):
        found.setdefault(name, judged)
    return found


def _in_order(table: pd.DataFrame, results: Sequence[BatchResult]) -> pd.DataFrame:
    """Sort the rows of a table by the order of the samples."""
    indices = {name: index for result in results for index, name in zip(result.indices, result.identifiers, strict=True)}
    # Sorted results are in order already, except in a resumed run whose batches interleave because samples have changed.
    if list(indices.values()) == sorted(indices.values()):
        return table
    return table.sort_values("sample", key=lambda names: names.map(indices), kind="stable", ignore_index=True)


def _scores(results: Sequence[BatchResult], methods: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Return one row per sample, method and metric."""
    cells = len(methods) * len(metrics)

    def repeated(name: str) -> NDArray[Any]:
        values = [value for result in results for value in getattr(result, name)]
        return np.repeat(np.array(values, dtype=_TYPES[name]), cells)

    count = sum(len(result.indices) for result in results)
    return pd.DataFrame(
        {
            "sample": repeated("identifiers"),
            "label": repeated("labels"),
            "target": repeated("targets"),
            "prediction": repeated("predictions"),
            "method": np.tile(np.repeat(np.array(methods, dtype=object), len(metrics)), count),
            "metric": np.tile(np.array(metrics, dtype=object), count * len(methods)),
            "score": np.concatenate([result.scores.ravel() for result in results]),
        }
    )


def _costs(results: Sequence[BatchResult], methods: Sequence[str]) -> pd.DataFrame:
    """Return one row per method: means of the counts, and medians of the seconds over the batches."""
    rows = [
        {
            "method": method,
            **dict(zip(COSTS, costs, strict=True)),
            "images": len(result.indices),
            "plain": result.plain_seconds,
        }
        for result in results
        for method, costs in zip(methods, result.costs, strict=True)
    ]
    table = pd.DataFrame(rows)
    # Measuring memory slows the clock: such a batch is timed only if there is no other.
    timed = table[table["peak_bytes"].isna()] if table["peak_bytes"].isna().any() else table
    costs = pd.DataFrame(index=pd.Index(methods, name="method"))
    for name in ("forwards", "backwards"):
        measured = table.dropna(subset=[name])
        # Weighted by images, because the last batch may be smaller.
        total = (measured[name] * measured["images"]).groupby(measured["method"]).sum()
        costs[name] = total / measured.groupby("method")["images"].sum()
    costs["seconds"] = timed.groupby("method")["seconds"].median()  # a mean would keep every stall of the machine
    costs["relative"] = costs["seconds"] / timed["plain"].median()
    costs["peak_bytes"] = table.groupby("method")["peak_bytes"].max()
    return costs


def _curves(results: Sequence[BatchResult], methods: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Return one row per sample, method and metric that draws a curve, with a column per fraction."""
    keys = ["sample", "method", "metric"]
    drawn = [[_drawn(result, metric, methods) for result in results if metric in result.curves] for metric in metrics]
    tables = [_in_order(pd.concat(each, ignore_index=True), results) for each in drawn if each]
    if not tables:
        return pd.DataFrame(columns=keys)
    table = pd.concat(tables, ignore_index=True)
    # Metrics may have different fractions: those that the first one lacks are appended by pd.concat.
    points = sorted((name for name in table.columns if name not in keys), key=float)
    return table[[*keys, *points]]


def _drawn(result: BatchResult, metric: str, methods: Sequence[str]) -> pd.DataFrame:
    """Return the curves of a batch under one metric."""
    points = result.curves[metric].reshape(-1, result.curves[metric].shape[-1])
    # Six digits, so that fractions that differ by rounding share a column.
    return pd.DataFrame(points, columns=[f"{fraction:.6g}" for fraction in result.fractions[metric]]).assign(
        sample=np.repeat(np.array(result.identifiers, dtype=object), len(methods)),
        metric=metric,
        method=np.tile(np.array(methods, dtype=object), len(result.identifiers)),
    )


def _probes(results: Sequence[BatchResult], methods: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Return one row per sample, probe, method and metric that was measured, in the order of the samples."""
    names = {index: name for result in results for index, name in zip(result.indices, result.identifiers, strict=True)}
    scores = {index: table for result in results for index, table in result.probes.items()}
    rows = [
        (names[index], PROBES[p], methods[m], metrics[k], scores[index][p, m, k])
        for index in sorted(scores)
        for p, m, k in np.argwhere(~np.isnan(scores[index]))
    ]
    return pd.DataFrame(rows, columns=["sample", "probe", "method", "metric", "score"])


def _failures(results: Sequence[BatchResult]) -> pd.DataFrame:
    """Return one row per sample and error."""
    rows = [
        (identifier, failure.method, failure.metric, failure.error)
        for result in results
        for failure in result.failures
        for identifier in result.identifiers
        if not failure.identifiers or identifier in failure.identifiers
    ]
    return pd.DataFrame(rows, columns=["sample", "method", "metric", "error"])


def _unreadable(samples: Sequence[Unreadable]) -> pd.DataFrame:
    """Return one row per sample that could not be read, for no method and no metric."""
    rows = [(each.identifier, "", "", each.error) for each in samples]
    return pd.DataFrame(rows, columns=["sample", "method", "metric", "error"], dtype=object)


def _contents(results: Sequence[BatchResult]) -> pd.DataFrame:
    """Return one row per sample with the digest of its content and the name of its image."""
    rows = [row for result in results for row in zip(result.identifiers, result.digests, result.groups, strict=True)]
    return pd.DataFrame(rows, columns=["sample", "sha256", "group"])
