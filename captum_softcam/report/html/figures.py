"""The data of the drawn figures: curves with their bands, and cost against quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from captum_softcam.evaluation.statistics import mean_intervals
from captum_softcam.report.html.facts import Facts

__all__ = ["cost_data", "curve_data"]

_DIGITS = 5


def curve_data(facts: Facts) -> list[dict[str, Any]]:
    """Per metric that draws a curve: fractions, and of each method the mean curve with its pointwise 95 % band."""
    curves = facts.comparison.curves
    drawn = [metric for metric in facts.metrics if metric in set(curves["metric"])]
    return [_figure(facts, metric, curves[curves["metric"] == metric]) for metric in drawn]


def _figure(facts: Facts, metric: str, curves: pd.DataFrame) -> dict[str, Any]:
    points = curves.set_index(["method", "sample"]).drop(columns="metric").dropna(axis=1, how="all").dropna()  # whole curves
    points = points[sorted(points.columns, key=lambda name: float(str(name)))]
    drawn = [name for name in facts.methods if name in points.index.get_level_values("method")]
    samples = points.index.get_level_values("sample").unique()
    tables = [points.loc[name].reindex(samples).to_numpy(np.float64) for name in drawn]
    fractions = [float(str(name)) for name in points.columns]
    return {"metric": metric, "fractions": fractions, "lines": _lines(drawn, np.stack(tables, 1)) if tables else []}


def _lines(methods: Sequence[str], points: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Mean and band of each method from points (samples, methods, fractions), in one go: resampling takes its time."""
    flat = mean_intervals(points.reshape(len(points), -1))
    mean, low, high = (np.round(part, _DIGITS).reshape(points.shape[1:]) for part in flat)
    counts = np.isfinite(points).all(axis=2).sum(axis=0).tolist()
    keys = ("method", "mean", "low", "high", "count")
    return [dict(zip(keys, row, strict=True)) for row in zip(methods, mean, low, high, counts, strict=True)]


def cost_data(facts: Facts) -> dict[str, Any]:
    """Relative cost of each method, and of each metric the mean with its interval."""
    return {
        "relative": [facts.cost(name).get("relative") for name in facts.methods],
        "quality": {metric: [_quality(facts, name, metric) for name in facts.methods] for metric in facts.metrics},
    }


def _quality(facts: Facts, method: str, metric: str) -> list[float] | None:
    cell = facts.summary[method, metric]
    return [float(cell[key]) for key in ("mean", "low", "high")] if cell["count"] else None
