"""The parts of a comparison put together: tidy tables in the order of the samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from captum_softcam.evaluation.comparison import Comparison
from captum_softcam.evaluation.part import COSTS, Part

__all__ = ["assemble"]


def assemble(parts: Iterable[Part], methods: Sequence[str], metrics: Sequence[str], manifest: dict[str, Any]) -> Comparison:
    """The comparison that the parts are pieces of, each sample once."""
    ordered = _each_sample_once(parts)
    manifest = {**manifest, "samples_with_mask": sum(sum(part.masked) for part in ordered)}
    examples = {index: example for part in ordered for index, example in part.examples.items() if index in part.indices}
    return Comparison(
        scores=_in_order(_scores(ordered, methods, metrics), ordered),
        costs=_costs(ordered, methods),
        manifest=manifest,
        curves=_curves(ordered, methods, metrics),
        failures=_in_order(_failures(ordered), ordered),
        contents=_in_order(_contents(ordered), ordered),
        examples=[examples[index] for index in sorted(examples)],
    )


def _each_sample_once(parts: Iterable[Part]) -> list[Part]:
    """The parts in the order of their samples; of two that share a sample, as two runs of one folder leave, the first."""
    seen: set[int] = set()
    chosen = []
    for part in sorted(parts, key=lambda part: part.indices):
        fresh = [place for place, index in enumerate(part.indices) if index not in seen]
        seen.update(part.indices)
        if fresh:
            chosen.append(part if len(fresh) == len(part.indices) else part.only(fresh))
    return chosen


def _in_order(table: pd.DataFrame, parts: Sequence[Part]) -> pd.DataFrame:
    """A table with its rows in the order of the samples; parts of a resumed run may lie within each other."""
    places = {name: index for part in parts for index, name in zip(part.indices, part.identifiers, strict=True)}
    if list(places.values()) == sorted(places.values()):
        return table
    return table.sort_values("sample", key=lambda names: names.map(places), kind="stable", ignore_index=True)


def _scores(parts: Sequence[Part], methods: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """A row per sample, method and metric."""
    cells = len(methods) * len(metrics)

    def every(name: str) -> NDArray[Any]:
        return np.repeat(np.array([value for part in parts for value in getattr(part, name)], dtype=_TYPES[name]), cells)

    count = sum(len(part.indices) for part in parts)
    return pd.DataFrame(
        {
            "sample": every("identifiers"),
            "label": every("labels"),
            "target": every("targets"),
            "prediction": every("predictions"),
            "method": np.tile(np.repeat(np.array(methods, dtype=object), len(metrics)), count),
            "metric": np.tile(np.array(metrics, dtype=object), count * len(methods)),
            "score": np.concatenate([part.scores.ravel() for part in parts]),
        }
    )


_TYPES = {"identifiers": object, "labels": int, "targets": int, "predictions": int}


def _costs(parts: Sequence[Part], methods: Sequence[str]) -> pd.DataFrame:
    """Means of what is counted, and medians of the seconds over the batches, for a machine has bad moments.

    Where memory was measured the clock ran slow: that batch is timed only where there is no other.
    """
    rows = [
        {"method": method, **dict(zip(COSTS, costs, strict=True)), "images": len(part.indices), "plain": part.plain_seconds}
        for part in parts
        for method, costs in zip(methods, part.costs, strict=True)
    ]
    table = pd.DataFrame(rows)
    timed = table[table["peak_bytes"].isna()] if table["peak_bytes"].isna().any() else table
    costs = pd.DataFrame(index=pd.Index(methods, name="method"))
    for name in ("forwards", "backwards"):
        measured = table.dropna(subset=[name])
        costs[name] = (measured[name] * measured["images"]).groupby(measured["method"]).sum() / measured.groupby("method")[
            "images"
        ].sum()
    costs["seconds"] = timed.groupby("method")["seconds"].median()
    costs["relative"] = costs["seconds"] / timed["plain"].median()
    costs["peak_bytes"] = table.groupby("method")["peak_bytes"].max()
    return costs


def _curves(parts: Sequence[Part], methods: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """A row per sample, method and metric that draws a curve; a column per fraction."""
    keys = ["sample", "method", "metric"]
    drawn = [[_drawn(part, metric, methods) for part in parts if metric in part.curves] for metric in metrics]
    tables = [_in_order(pd.concat(each, ignore_index=True), parts) for each in drawn if each]
    if not tables:
        return pd.DataFrame(columns=keys)
    table = pd.concat(tables, ignore_index=True)
    points = sorted((name for name in table.columns if name not in keys), key=float)
    return table[[*keys, *points]]


def _drawn(part: Part, metric: str, methods: Sequence[str]) -> pd.DataFrame:
    """The curves of a part under one metric."""
    points = part.curves[metric].reshape(-1, part.curves[metric].shape[-1])
    return pd.DataFrame(points, columns=[f"{fraction:.6g}" for fraction in part.fractions[metric]]).assign(
        sample=np.repeat(np.array(part.identifiers, dtype=object), len(methods)),
        metric=metric,
        method=np.tile(np.array(methods, dtype=object), len(part.identifiers)),
    )


def _failures(parts: Sequence[Part]) -> pd.DataFrame:
    """A row per sample and error."""
    rows = [
        (identifier, failure.method, failure.metric, failure.error)
        for part in parts
        for failure in part.failures
        for identifier in part.identifiers
    ]
    return pd.DataFrame(rows, columns=["sample", "method", "metric", "error"])


def _contents(parts: Sequence[Part]) -> pd.DataFrame:
    """A row per sample with the digest of what it held."""
    rows = [pair for part in parts for pair in zip(part.identifiers, part.digests, strict=True)]
    return pd.DataFrame(rows, columns=["sample", "sha256"])
