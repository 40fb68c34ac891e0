"""What all parts of the report say of a comparison: computed once, names and numbers as a reader sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

from captum_softcam.evaluation import Comparison

__all__ = ["DASH", "Facts", "count", "difference_decimals", "number"]

DASH = "\N{EN DASH}"
"""What stands for no number."""

_MOST_DECIMALS = 6
_MINUS, _SPACE = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"

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
        self.controls: list[str] = comparison.controls
        self.baseline: str = comparison.baseline
        self.decimals: dict[str, int] = comparison.decimals
        self.summary = cast("Cells", comparison.summary().to_dict("index"))

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
    def rivals(self) -> list[str]:
        """Methods that could be ahead of the baseline: all but itself and the controls."""
        return [name for name in self.methods if name != self.baseline and name not in self.controls]

    @cached_property
    def mean_rank(self) -> dict[str, float]:
        """Mean rank over the metrics by method."""
        return {str(name): float(rank) for name, rank in self.comparison.ranks()["mean_rank"].items()}

    @cached_property
    def samples(self) -> int:
        """How many samples were scored."""
        return int(self.comparison.scores["sample"].nunique())

    def against(self, baseline: str) -> Cells:
        """Paired differences of all other methods to ``baseline``."""
        return cast("Cells", self.comparison.differences(baseline).to_dict("index")) if len(self.methods) > 1 else {}

    def verdict(self, method: str, metric: str) -> int | None:
        """1 if the method is better than the baseline, -1 if worse, 0 if that is open; None for the baseline."""
        cell = self.differences.get((method, metric))
        return int(cell["better"]) if cell else None

    def verdicts(self, method: str) -> list[int]:
        """One verdict for each metric."""
        return [self.verdict(method, metric) or 0 for metric in self.metrics]

    def title(self, metric: str) -> str:
        """The metric as the head of a column names it."""
        return self.comparison.titles[metric]

    def category(self, metric: str) -> str:
        """What the metric asks for; empty if the manifest does not say."""
        metrics = self.manifest.get("metrics")
        return str(metrics.get(metric, {}).get("category") or "") if isinstance(metrics, dict) else ""

    def higher_is_better(self, metric: str) -> bool:
        """The direction."""
        return self.comparison.directions[metric] > 0

    def cost(self, method: str) -> dict[str, float]:
        """Costs by name; none if the method was not measured."""
        costs = self.comparison.costs.to_dict("index").get(method, {})
        return {str(name): float(cost) for name, cost in costs.items()}

    def class_name(self, index: int) -> str:
        """The class as a reader knows it."""
        return str(self.classes[index]) if 0 <= index < len(self.classes) else f"class {index}"


def number(value: float | None, places: int = 3, *, signed: bool = False) -> str:
    """A number with a true minus and no -0.000; a dash for none."""
    if value is None or not math.isfinite(value):
        return DASH
    if places > _MOST_DECIMALS:
        return f"{value:{'+' if signed else ''}.2e}".replace("-", _MINUS)
    rounded = round(value, places) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''},.{places}f}".replace("-", _MINUS).replace(",", _SPACE)


def difference_decimals(difference: float, least: int) -> int:
    """Decimals, ``least`` or more, that show two digits of a difference, which may be far smaller than the scores."""
    if not difference or not math.isfinite(difference):
        return least
    return max(least, 1 - math.floor(math.log10(abs(difference))))


def count(amount: int, noun: str) -> str:
    """``1 sample``, ``2 samples``."""
    return f"{amount:,} {noun if amount == 1 else noun + 's'}".replace(",", _SPACE)
