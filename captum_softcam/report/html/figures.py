"""The data of the drawn figures: curves with their bands, and cost against quality."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from captum_softcam.evaluation.statistics import mean_intervals
from captum_softcam.report.html.facts import Facts

__all__ = ["cost_data", "curve_data"]

_KEYS = ("sample", "method", "metric")
_DIGITS = 5


def curve_data(facts: Facts) -> list[dict[str, Any]]:
    """Per metric that draws a curve: fractions, and of each method the mean curve with its pointwise 95 % band."""
    curves = facts.comparison.curves
    drawn = [metric for metric in facts.metrics if metric in set(curves["metric"])]
    return [_figure(facts, metric, curves[curves["metric"] == metric]) for metric in drawn]


def _figure(facts: Facts, metric: str, curves: pd.DataFrame) -> dict[str, Any]:
    points = curves.drop(columns=list(_KEYS)).dropna(axis=1, how="all")
    points = points[sorted(points.columns, key=lambda name: float(str(name)))]
    lines = [_line(name, points[(curves["method"] == name).to_numpy()]) for name in facts.methods]
    return {
        "metric": metric,
        "fractions": [float(str(name)) for name in points.columns],
        "lines": [line for line in lines if line],
    }


def _line(method: str, points: pd.DataFrame) -> dict[str, Any] | None:
    """Mean and band over the samples whose curve is whole; None if there is none."""
    whole = points.dropna().to_numpy(np.float64)
    if not len(whole):
        return None
    mean, low, high = (np.round(part, _DIGITS).tolist() for part in mean_intervals(whole))
    return {"method": method, "mean": mean, "low": low, "high": high, "count": len(whole)}


def cost_data(facts: Facts) -> dict[str, Any]:
    """Relative cost of each method, and of each metric the mean with its interval."""
    return {
        "relative": [facts.cost(name).get("relative") for name in facts.methods],
        "quality": {metric: [_quality(facts, name, metric) for name in facts.methods] for metric in facts.metrics},
    }


def _quality(facts: Facts, method: str, metric: str) -> list[float] | None:
    cell = facts.summary[method, metric]
    return [float(cell[key]) for key in ("mean", "low", "high")] if cell["count"] else None
