"""What all parts of the report say of a comparison: computed once, names and numbers as a reader sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from captum_softcam.evaluation import Comparison
from captum_softcam.evaluation.statistics import decimals

__all__ = ["Facts", "count", "number"]

Cells = dict[tuple[str, str], dict[str, Any]]


class Facts:
    """A comparison as the report reads it.

    Args:
        comparison (Comparison): what is reported.
        classes (sequence of str): names of the classes. Default: those of the manifest, else their numbers
    """

    def __init__(self, comparison: Comparison, classes: Sequence[str] | None = None) -> None:
        self.comparison = comparison
        self.manifest = comparison.manifest
        self.classes = list(classes or self.manifest.get("classes") or ())
        self.methods: list[str] = list(comparison.methods)
        self.baseline: str = comparison.baseline
        self.summary: Cells = comparison.summary().to_dict("index")

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics, those of a category side by side."""
        found: list[str] = list(self.comparison.metrics)
        order = list(dict.fromkeys(map(self.category, found)))
        return sorted(found, key=lambda name: order.index(self.category(name)))

    @cached_property
    def differences(self) -> Cells:
        """Paired differences to the baseline; none of the baseline itself."""
        return self.against(self.baseline)

    @cached_property
    def controls(self) -> list[str]:
        """Methods that know nothing of the model."""
        methods = self.manifest.get("methods", {})
        return [name for name in self.methods if methods.get(name, {}).get("control")]

    @cached_property
    def rivals(self) -> list[str]:
        """Methods that could be ahead of the baseline: all but itself and the controls."""
        return [name for name in self.methods if name != self.baseline and name not in self.controls]

    @cached_property
    def mean_rank(self) -> dict[str, float]:
        """Mean rank over the metrics by method."""
        ranks: dict[str, float] = self.comparison.ranks()["mean_rank"].to_dict()
        return ranks

    @cached_property
    def samples(self) -> int:
        """How many samples were scored."""
        return int(self.comparison.scores["sample"].nunique())

    def against(self, baseline: str) -> Cells:
        """Paired differences of all other methods to ``baseline``."""
        cells: Cells = self.comparison.differences(baseline).to_dict("index") if len(self.methods) > 1 else {}
        return cells

    def verdict(self, method: str, metric: str) -> int | None:
        """1 if the method is better than the baseline, -1 if worse, 0 if that is open; None for the baseline."""
        cell = self.differences.get((method, metric))
        return int(cell["better"]) if cell else None

    def verdicts(self, method: str) -> list[int]:
        """One verdict for each metric."""
        return [self.verdict(method, metric) or 0 for metric in self.metrics]

    def title(self, metric: str) -> str:
        """The metric as the head of a column names it."""
        return str(self._metric(metric).get("title") or metric)

    def category(self, metric: str) -> str:
        """What the metric asks for; empty if the manifest does not say."""
        return str(self._metric(metric).get("category") or "")

    def higher_is_better(self, metric: str) -> bool:
        """The direction."""
        return bool(self._metric(metric).get("higher_is_better", True))

    def decimals(self, metric: str) -> int:
        """Decimals that tell the means of this metric apart."""
        means = [self.summary[method, metric]["mean"] for method in self.methods if (method, metric) in self.summary]
        return decimals(np.asarray(means, dtype=np.float64))

    def cost(self, method: str) -> dict[str, float]:
        """Costs by name; none if the method was not measured."""
        costs = self.comparison.costs
        return {str(name): float(costs.at[method, name]) for name in costs.columns} if method in costs.index else {}

    def class_name(self, index: int) -> str:
        """The class as a reader knows it."""
        return str(self.classes[index]) if 0 <= index < len(self.classes) else f"class {index}"

    def _metric(self, metric: str) -> dict[str, Any]:
        known: dict[str, Any] = self.manifest.get("metrics", {}).get(metric, {})
        return known


def number(value: float | None, places: int = 3, *, signed: bool = False) -> str:
    """A number with a true minus and no -0.000; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    rounded = round(value, places) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''},.{places}f}".replace("-", "\N{MINUS SIGN}").replace(",", "\N{THIN SPACE}")


def count(amount: int, noun: str) -> str:
    """``1 sample``, ``2 samples``."""
    return f"{amount:,} {noun if amount == 1 else noun + 's'}".replace(",", "\N{THIN SPACE}")
