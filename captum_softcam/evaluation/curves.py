"""Mean curves of a comparison, as of insertion and deletion, with their bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from captum_softcam.evaluation.statistics import mean_intervals

__all__ = ["MeanCurve", "MeanCurves", "mean_curves"]


@dataclass(frozen=True, eq=False)
class MeanCurve:
    """The mean of a method's curves, with the 95 % interval of every point.

    Args:
        mean, low, high (ndarray): (F,) at F fractions.
        count (int): number of curves; those with an undefined point are left out.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    count: int


@dataclass(frozen=True, eq=False)
class MeanCurves:
    """The mean curves of all methods under a metric.

    Args:
        metric (str): its name.
        fractions (sequence of float): of the image that is replaced or restored, from 0 to 1.
        lines (mapping): the curve of each method that has one, by its name.
    """

    metric: str
    fractions: Sequence[float]
    lines: Mapping[str, MeanCurve]


def mean_curves(
    curves: pd.DataFrame, metrics: Sequence[str], methods: Sequence[str], images: Mapping[str, str]
) -> list[MeanCurves]:
    """Compute the mean curves under each metric that draws a curve.

    Args:
        curves (DataFrame): those of a comparison.
        metrics (sequence of str): the metrics, in order; those without a curve are left out.
        methods (sequence of str): the methods, in order.
        images (mapping): the image of each sample, by their names; images are resampled for the bands.
    """
    drawn = set(curves["metric"])
    groups = {metric: curves[curves["metric"] == metric] for metric in metrics if metric in drawn}
    return [_mean_curves(metric, group, methods, images) for metric, group in groups.items()]


def _mean_curves(metric: str, curves: pd.DataFrame, methods: Sequence[str], images: Mapping[str, str]) -> MeanCurves:
    points = curves.set_index(["method", "sample"]).drop(columns="metric").dropna(axis=1, how="all").dropna()  # whole curves
    points = points[sorted(points.columns, key=lambda name: float(str(name)))]
    known = set(points.index.get_level_values("method"))
    methods = [name for name in methods if name in known]
    samples = points.index.get_level_values("sample").unique()
    tables = [points.loc[name].reindex(samples).to_numpy(np.float64) for name in methods]
    fractions = [float(str(name)) for name in points.columns]
    lines = _lines(methods, np.stack(tables, 1), [images.get(name, name) for name in samples]) if tables else {}
    return MeanCurves(metric, fractions, lines)


def _lines(methods: Sequence[str], points: NDArray[np.float64], images: Sequence[str]) -> dict[str, MeanCurve]:
    """Return the curve of each method from points (samples, methods, fractions)."""
    # One call for all curves, because resampling takes its time.
    flat = mean_intervals(points.reshape(len(points), -1), images)
    mean, low, high = (part.reshape(points.shape[1:]) for part in flat)
    counts = np.isfinite(points).all(axis=2).sum(axis=0).tolist()
    return {name: MeanCurve(*parts) for name, *parts in zip(methods, mean, low, high, counts, strict=True)}
