"""What a comparison leaves behind: scores per sample, the settings they were made with, and a few maps to look at."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import bootstrap
from torch import Tensor

from captum_softcam.data import Sample
from captum_softcam.metrics import METRICS

__all__ = ["Comparison", "Example"]


@dataclass(frozen=True)
class Example:
    """A sample with its maps (1, H, W) by method, for a picture."""

    sample: Sample
    target: int
    maps: dict[str, Tensor]


@dataclass(frozen=True)
class Comparison:
    """Methods x metrics x samples.

    Args:
        scores (DataFrame): one row per sample, method and metric, with the columns ``sample, label, target, prediction,
            method, metric, score``; an undefined score is NaN, and counted.
        costs (dict): per method, its time in units of a plain forward of the same images in the same run.
        manifest (dict): versions, seeds, model, layer, data and metric settings; JSON.
        examples (list of Example): a few samples with their maps. Default: none
    """

    scores: pd.DataFrame
    costs: dict[str, float]
    manifest: dict[str, Any]
    examples: list[Example] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in the order of the run."""
        return list(self.scores["method"].unique())

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in the order of the run."""
        return list(self.scores["metric"].unique())

    def summary(self) -> pd.DataFrame:
        """Mean and 95 % bootstrap interval of every cell.

        Returns:
            DataFrame: indexed by method and metric; columns ``mean, low, high, count`` (defined scores) and ``best``
            (whether no other mean of the metric, to three digits, is better; ties are all best).
        """
        return self._summary.copy()

    @cached_property
    def _summary(self) -> pd.DataFrame:
        """The summary, made once: table, notes and files all read it."""
        rows = {
            (method, metric): _interval(self.scores.query("method == @method and metric == @metric")["score"])
            for method in self.methods
            for metric in self.metrics
        }
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index = pd.MultiIndex.from_tuples(table.index, names=["method", "metric"])
        direction = table.index.get_level_values("metric").map(lambda name: 1 if METRICS[name].higher_is_better else -1)
        signed = (table["mean"] * direction).round(3)  # as shown: what reads alike is equally good
        table["best"] = signed == signed.groupby("metric").transform("max")
        return table

    def save(self, folder: Path) -> None:
        """Write ``scores.csv`` and ``manifest.json`` (with the costs) into an existing folder."""
        self.scores.to_csv(folder / "scores.csv", index=False)
        manifest = {**self.manifest, "cost_in_forwards": self.costs}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _interval(scores: pd.Series) -> dict[str, float]:
    """Mean of the defined scores with its percentile bootstrap interval; one seed, so that a table can be made again."""
    defined = scores.dropna().to_numpy(dtype=np.float64)
    mean = float(defined.mean()) if len(defined) else float("nan")
    low = high = mean
    if len(defined) > 1 and np.ptp(defined) > 0:
        resampled = bootstrap((defined,), np.mean, n_resamples=2000, method="percentile", rng=0, batch=500)
        low, high = (float(end) for end in resampled.confidence_interval)
    return {"mean": mean, "low": low, "high": high, "count": len(defined)}
