"""A comparison as a reader sees it: cells with marks, costs and notes, in order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from captum_softcam._names import NAME, listed, named, quoted, shown
from captum_softcam.data.samples import UNKNOWN
from captum_softcam.evaluation.health import DESCRIBING, MetricHealth, counted
from captum_softcam.evaluation.rank_shifts import RankShift
from captum_softcam.evaluation.reader import unreadable_in_words
from captum_softcam.evaluation.same_maps import SameMaps
from captum_softcam.evaluation.statistics import LEVEL, MIN_PAIRS, smallest_p_value

__all__ = ["MARKS", "Adjust", "Cell", "Difference", "View", "digits", "one_line"]

Adjust = Literal["holm", "none"]
"""How marks are adjusted for the number of comparisons."""

MARKS = {1: "▲", -1: "▼"}
"""Marks for means that are better or worse than the baseline's."""

_MOST_DECIMALS = 6
_ERROR = 200  # characters of an error in a note


@dataclass(frozen=True)
class Difference:
    """The paired difference of a method to the baseline; see :meth:`Comparison.differences`."""

    mean: float
    low: float
    high: float
    count: int
    images: int
    win_rate: float
    p_value: float
    better: int


@dataclass(frozen=True)
class Cell:
    """The scores of a method under a metric: mean, 95 % interval, and the difference to the baseline.

    Args:
        mean, low, high (float): the mean and its interval; NaN where no score is defined.
        count (int): number of defined scores.
        undefined (int): number of undefined scores.
        failed (int): number of undefined scores due to an error.
        best (bool): whether no other mean of the metric is better.
        decimals (int): number of decimals shown.
        difference (Difference): the paired difference to the baseline. Default: None, for the baseline itself
    """

    mean: float
    low: float
    high: float
    count: int
    undefined: int
    failed: int
    best: bool
    decimals: int
    difference: Difference | None = None

    @property
    def better(self) -> int:
        """1 or -1 where the mean is clearly and visibly better or worse than the baseline's, else 0."""
        # A mean that is not shown carries no mark.
        return self.difference.better if self.difference and self.count else 0

    @property
    def mark(self) -> str:
        """The mark of the mean, empty where the difference is inconclusive."""
        return MARKS.get(self.better, "")

    @property
    def text(self) -> str:
        """The mean as text."""
        return digits(self.mean, self.decimals)

    @property
    def interval(self) -> str:
        """The interval as text, in brackets."""
        return f"[{digits(self.low, self.decimals)}, {digits(self.high, self.decimals)}]"


@dataclass(frozen=True, eq=False)
class View:
    """A comparison as a reader sees it, with one method as the baseline; made by :meth:`Comparison.view`.

    Tables, figures and the report are all made from it, so they agree on order, digits, marks and notes. A view is plain
    data without a reference to its comparison.

    Args:
        methods (sequence of str): names of the methods, in order.
        controls (sequence of str): names of those that are controls.
        baseline (str): the method that the others are compared with.
        metrics (mapping): the entry of each metric in the manifest, with title, category and direction.
        decimals (mapping): number of decimals of each metric.
        summary (DataFrame): result of :meth:`Comparison.summary`.
        differences (DataFrame): result of :meth:`Comparison.differences`.
        ranks (DataFrame): result of :meth:`Comparison.ranks`.
        costs (DataFrame): costs by method.
        samples (DataFrame): one row per scored sample, with the columns ``label`` and ``prediction``.
        masked (int): number of samples with a mask; None if it is unknown.
        failures (DataFrame): one row per sample, method and metric that raised an error.
        unreadable (mapping): the reason for each sample that could not be read, by its name.
        attempted (int): number of samples that could be read, including those without any score.
        images (int): number of images; fewer than samples where images have several classes.
        performance (DataFrame): how well the model tells the classes of images with several; empty where they have one.
        multilabel (bool): whether images may show several classes.
        same_maps (sequence of SameMaps): groups of methods that give the same map in every sample. Default: none
        rank_shifts (sequence of RankShift): how far ranks move between baselines. Default: none
        adjust (str): how the marks are adjusted for the number of comparisons, ``"holm"`` or ``"none"``. Default: ``"holm"``
        scores (str): how the outputs of the model became scores. Default: ``"softmax"``
        predicts (bool): whether the model predicts a class, which the single value of a regression does not. Default: True
        health (mapping): the health of each metric by name. Default: not known
    """

    methods: Sequence[str]
    controls: Sequence[str]
    baseline: str
    metrics: Mapping[str, Mapping[str, Any]]
    decimals: Mapping[str, int]
    summary: pd.DataFrame
    differences: pd.DataFrame
    ranks: pd.DataFrame
    costs: pd.DataFrame
    samples: pd.DataFrame
    masked: int | None
    failures: pd.DataFrame
    unreadable: Mapping[str, str]
    attempted: int
    images: int
    performance: pd.DataFrame
    multilabel: bool
    same_maps: Sequence[SameMaps] = ()
    rank_shifts: Sequence[RankShift] = ()
    adjust: Adjust = "holm"
    scores: str = "softmax"
    predicts: bool = True
    health: Mapping[str, MetricHealth] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"View({len(self.methods)} methods, {len(self.metrics)} metrics, baseline={quoted(self.baseline)})"

    @cached_property
    def cells(self) -> dict[tuple[str, str], Cell]:
        """Cells by method and metric."""
        # Dicts, because every renderer looks up every cell, and DataFrame.loc is slow.
        found: dict[Any, Any] = self.differences.to_dict("index")
        differences = {key: Difference(**row) for key, row in found.items()}
        rows: dict[Any, Any] = self.summary.to_dict("index")
        return {
            key: Cell(**row, decimals=self.decimals[key[1]], difference=differences.get(key)) for key, row in rows.items()
        }

    @cached_property
    def titles(self) -> dict[str, str]:
        """Titles of the metrics."""
        return {name: str(entry.get("title", name)) for name, entry in self.metrics.items()}

    @cached_property
    def categories(self) -> dict[str, str]:
        """Categories of the metrics; empty where they are not known."""
        return {name: str(entry.get("category") or "") for name, entry in self.metrics.items()}

    @cached_property
    def grouped(self) -> list[str]:
        """Names of the metrics, grouped by category."""
        order = list(dict.fromkeys(self.categories.values()))
        return sorted(self.metrics, key=lambda name: order.index(self.categories[name]))  # stable sort

    @cached_property
    def failing(self) -> list[str]:
        """Names of the metrics that fail, grouped by category; they are left out of the mean rank."""
        return [name for name in self.grouped if name in self.health and self.health[name].fails]

    @cached_property
    def trusted(self) -> list[str]:
        """Names of the metrics that judge methods and do not fail, grouped by category; only they count in the mean rank."""
        return counted({name: self.categories[name] for name in self.grouped}, self.failing)

    @cached_property
    def attributions(self) -> list[str]:
        """Names of the methods that are not controls."""
        return [name for name in self.methods if name not in self.controls]

    @property
    def same(self) -> tuple[tuple[str, ...], ...]:
        """Groups of methods that give the same map up to scale and constant, so that they count as one."""
        return tuple(group.methods for group in self.same_maps)

    @cached_property
    def tests(self) -> int:
        """Number of comparisons with the baseline, of all other methods, controls included, under all metrics."""
        return int(self.differences["p_value"].notna().sum())

    @cached_property
    def markable(self) -> bool:
        """Whether there are enough images for a mark, were all of them better."""
        images = self.differences["images"].to_numpy()
        if not self.tests:
            return False
        tests = self.tests if self.adjust == "holm" else 1
        return bool((images >= MIN_PAIRS).any() and smallest_p_value(images).min() * tests <= LEVEL)

    @cached_property
    def others(self) -> list[str]:
        """Names of the methods that are neither the baseline nor controls."""
        return [name for name in self.methods if name != self.baseline and name not in self.controls]

    def higher_is_better(self, metric: str) -> bool:
        """Return whether more of a metric is better.

        Args:
            metric (str): its name.

        Returns:
            bool: False where less is better.
        """
        return bool(self.metrics[metric]["higher_is_better"])

    @property
    def shared(self) -> bool:
        """Whether samples share images."""
        return self.images < self.attempted

    @property
    def correct(self) -> int:
        """Number of samples whose predicted class is their own."""
        return int((self.samples["label"] == self.samples["prediction"]).sum())

    @property
    def labelled(self) -> int:
        """Number of samples whose own class is known; 0 if the model predicts none to compare it with."""
        return self.predicts * int((self.samples["label"] != UNKNOWN).sum())

    @property
    def headline(self) -> dict[str, str]:
        """Mean AUC and mean average precision with their intervals as text; empty where they are not known."""
        if not len(self.performance):
            return {}
        mean = self.performance.iloc[-1]
        names = {"auc": "mean AUC", "average_precision": "mean average precision"}
        # The two classes of a single logit have the same AUC.
        shown = names if self.multilabel else {"auc": "AUC"}
        return {title: _with_interval(mean, name) for name, title in shown.items() if math.isfinite(mean[name])}

    def head(self, metric: str) -> str:
        """Return the title of a metric for the head of a table, marked if the metric fails.

        Args:
            metric (str): its name.

        Returns:
            str: the title in one line.
        """
        return one_line(self.titles[metric]) + " (fails)" * (metric in self.failing)

    def kinds(self, method: str) -> list[str]:
        """Return the roles of a method: ``control``, ``baseline``, both or neither.

        Args:
            method (str): its name.

        Returns:
            list of str: words to print in brackets after its name.
        """
        compared = method == self.baseline and len(self.methods) > 1
        return ["control"] * (method in self.controls) + ["baseline"] * compared

    def columns(self, method: str) -> dict[str, str]:
        """Return the columns of a table for spreadsheets that say which method a row is about.

        Args:
            method (str): its name.

        Returns:
            dict: text by the name of the column.
        """
        return {"method": method}

    def mean_rank(self, method: str) -> float:
        """Return the mean rank of a method over the metrics; NaN if it has none.

        Args:
            method (str): its name.

        Returns:
            float: 1 for a method that is best on every metric.
        """
        return float(self.ranks["mean_rank"][method])

    def cost(self, method: str, name: str = "relative") -> float:
        """Return a cost of a method, by default its run time relative to a plain forward pass; NaN if it was not measured.

        Args:
            method (str): its name.
            name (str): a column of ``Comparison.costs``. Default: ``"relative"``

        Returns:
            float: per image.
        """
        return float(self.costs[name].get(method, math.nan)) if name in self.costs else math.nan

    def cost_text(self, method: str) -> str:
        """Return the run time relative to a plain forward pass as text; empty if it was not measured.

        Args:
            method (str): its name.

        Returns:
            str: with one decimal.
        """
        value = self.cost(method)
        return "" if math.isnan(value) else f"{value:.1f}"

    def passes(self, method: str) -> str:
        """Return forwards + backwards per image as text; empty if they were not counted.

        Args:
            method (str): its name.

        Returns:
            str: such as ``1 + 1``.
        """
        counts = (self.cost(method, name) for name in ("forwards", "backwards"))
        return " + ".join(f"{count:.1f}".removesuffix(".0") for count in counts if not math.isnan(count))

    def notes(self, marks: Mapping[int, str] = MARKS) -> list[str]:
        """Return the notes below the table: samples, marks, same maps, what is known of metrics, undefined scores, errors.

        Args:
            marks (mapping): marks for 1 and -1. Default: ▲ and ▼

        Returns:
            list of str: one sentence per note, in plain text.
        """
        return [
            *self._on_samples(),
            *self._on_marks(marks),
            *self.on_failing(),
            *self.on_describing(),
            *self.on_same_maps(),
            *self.on_metrics(),
            *self.on_rank_shifts(),
            *self._on_undefined(),
            *self._on_failures(),
        ]

    def _on_samples(self) -> Iterator[str]:
        total = len(self.samples)
        samples = f"{total} samples"
        if self.shared:
            samples += f", pairs of an image and a class, of {self.images} images"
        headline = ", ".join(f"{title} {value}" for title, value in self.headline.items())
        if self.multilabel:
            yield f"{samples}; predictions by class: {headline}." if headline else f"{samples}."
        elif self.labelled == total:
            yield f"{samples}, {self.correct} of them classified correctly{f'; {headline}' if headline else ''}."
        elif self.labelled:
            yield f"{samples}, {self.correct} of the {self.labelled} with a known class classified correctly."
        elif self.predicts:
            yield f"{samples} without a known class."
        else:
            yield f"{samples} with one value each, which is no class."
        yield from self.on_unreadable()
        if self.shared:
            yield "95 % intervals: over resampled images, because the classes of one image are not independent."
        # Comparisons of earlier versions had no localisation metric without masks, and did not record it.
        located = [entry.get("needs_mask", entry.get("category") == "localisation") for entry in self.metrics.values()]
        if any(located) and self.masked is not None and self.masked < total:
            yield f"localisation: over the {self.masked} samples with a mask."

    def on_unreadable(self) -> list[str]:
        """Return a sentence on the samples that could not be read, if there are any.

        Returns:
            list of str: the sentence, with their number, the first names and the first reason; or nothing.
        """
        total = self.attempted + len(self.unreadable)
        return [unreadable_in_words(self.unreadable, total)] if self.unreadable else []

    def _on_marks(self, marks: Mapping[int, str]) -> Iterator[str]:
        if self.tests:
            images = "images" if self.shared else "samples"
            found = f"{marks[1]} better, {marks[-1]} worse than {one_line(self.baseline)}: "
            if self.adjust == "holm":
                yield f"{found}by the paired difference, at a level of 5 % for all {self.tests} comparisons together (Holm)."
            else:
                yield (
                    f"{found}the 95 % interval of the paired difference excludes 0 (at least {MIN_PAIRS} {images}); not "
                    f"corrected for the number of comparisons, {self.tests}."
                )
            if not self.markable:
                yield self._on_too_few(images)
        if any(map(self.cost_text, self.methods)):
            yield "cost: run time relative to a plain forward pass on the same images."
        if any(map(self.passes, self.methods)):
            yield "passes: forwards + backwards per image."

    def on_failing(self) -> list[str]:
        """Return a sentence for each metric that fails, and on what they are left out of.

        Returns:
            list of str: the sentences; or nothing.
        """
        reasons = [
            f"{one_line(self.titles[name])} fails as a metric here: {self.health[name].reason}." for name in self.failing
        ]
        if not self.trusted and reasons:
            return [*reasons, "no metric is left for a mean rank."]
        return reasons + ["metrics that fail are left out of the mean rank."] * bool(reasons)

    def on_describing(self) -> list[str]:
        """Return a sentence on the metrics that describe maps and do not count in the mean rank, if there are any.

        Returns:
            list of str: the sentence; or nothing.
        """
        found = [name for name in self.grouped if self.categories[name] in DESCRIBING]
        if not found or len(found) == len(self.grouped):
            return []
        titles = listed([one_line(self.titles[name]) for name in found], NAME)
        if len(found) == 1:
            return [f"{titles} describes a map and does not count in the mean rank."]
        return [f"{titles} describe a map and do not count in the mean rank."]

    def on_same_maps(self) -> list[str]:
        """Return a sentence for each group of methods that give the same map.

        Returns:
            list of str: the sentences, with what differs in print nevertheless; or nothing.
        """
        return [self._on_group(group) for group in self.same_maps]

    def on_metrics(self) -> list[str]:
        """Return what a reader of the scores of a metric has to know, such as a verdict on a metric of Quantus.

        Returns:
            list of str: the title of each such metric with its note; or nothing.
        """
        notes = {name: " ".join(str(self.metrics[name].get("note") or "").split()) for name in self.grouped}
        return [f"{one_line(self.titles[name])}: {note}" for name, note in notes.items() if note]

    def on_rank_shifts(self) -> list[str]:
        """Return a sentence for each metric with several baselines: on which two of them its ranks agree least.

        Returns:
            list of str: the sentences, with the method that moves most; or nothing.
        """
        by_metric: dict[str, list[RankShift]] = {}
        for shift in self.rank_shifts:
            if not math.isnan(shift.tau):
                by_metric.setdefault(shift.metric, []).append(shift)
        return [self._on_shift(min(shifts, key=lambda shift: shift.tau), len(shifts)) for shifts in by_metric.values()]

    def _on_shift(self, shift: RankShift, pairs: int) -> str:
        name = next(name for name in self.metrics if name.partition("@")[0] == shift.metric)
        title = one_line(self.titles[name].partition(" (")[0].lower())
        if pairs > 1 and not shift.method:  # nothing moves between those that agree least
            return f"ranks under {title}: the same with all baselines."
        agree = "agree" if pairs == 1 else f"agree least of {pairs} pairs of baselines,"
        interval = f"{digits(shift.tau, 2)} [{digits(shift.low, 2)}, {digits(shift.high, 2)}]"
        moved = (
            f"{one_line(shift.method)} moves from {shift.rank:g} to {shift.other_rank:g}" if shift.method else "none moves"
        )
        return f"ranks under {title}: {shift.baseline} and {shift.other} {agree} with tau {interval}; {moved}."

    def _on_group(self, group: SameMaps) -> str:
        names = [one_line(name) for name in group.methods]
        total = len(self.samples)
        where = f"all {total} samples" if group.samples == total else f"all {group.samples} samples where they have one"
        apart = [one_line(self.titles[metric]) for metric in self.grouped if self._apart(group.methods, metric)]
        return (
            f"{', '.join(names[:-1])} and {names[-1]} give the same map up to scale{' and a constant' * group.constant} "
            f"({where}): their scores differ where a metric reads values, not where it reads their order; as printed, "
            f"{'in ' + ', '.join(apart) if apart else 'none differs'}."
        )

    def _apart(self, methods: Sequence[str], metric: str) -> bool:
        """Return whether the printed means of methods differ by more than one unit of the last digit, as if rounded."""
        means = [cell.mean for name in methods if (cell := self.cells[name, metric]).count]
        return bool(means) and round(max(means) - min(means), self.decimals[metric]) > 0

    def _on_too_few(self, images: str) -> str:
        most = self.differences["images"].max()
        if most < MIN_PAIRS or self.adjust == "none":
            return f"with {most} {images} no difference can be marked; at least {MIN_PAIRS} are needed."
        return (
            f"with {most} {images} no difference can be marked after the correction over {self.tests} comparisons; "
            "adjust='none' (--marks raw) shows the marks without it."
        )

    def _on_undefined(self) -> Iterator[str]:
        for (method, metric), cell in self.cells.items():
            if undefined := cell.undefined - cell.failed:  # errors have notes of their own
                total = cell.undefined + cell.count
                yield f"{one_line(method)}, {one_line(metric)}: {undefined} of {total} scores are undefined (NaN)."

    def _on_failures(self) -> Iterator[str]:
        # An empty metric, because groupby leaves NaN out.
        groups = self.failures.fillna({"metric": ""}).groupby(["method", "metric"], sort=False)
        for names, group in groups:
            where = ", ".join(one_line(name) for name in names if name != "")
            errors = group["error"].value_counts()
            # The most frequent error; all of them would bury the other notes.
            more = f" (and other errors: {len(errors) - 1})" if len(errors) > 1 else ""
            first = shown(" ".join(str(errors.index[0]).split()), _ERROR)
            yield f"{where}: failed on {group['sample'].nunique()} of {self.attempted} samples: {first}{more}"


def _with_interval(row: pd.Series[Any], name: str) -> str:
    value, low, high = (digits(float(row[f"{name}{end}"]), 3) for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"


def digits(value: float, decimals: int, style: str = "") -> str:
    """Format a number with the given decimals, in scientific notation if there are more than 6.

    Args:
        value (float): a finite number.
        decimals (int): number of decimals.
        style (str): options of Python's format specification, such as ``+`` or ``,``. Default: none
    """
    if decimals > _MOST_DECIMALS:
        return f"{value:{style}.2e}"
    rounded = round(value, decimals) + 0.0  # turns -0.0 into 0.0
    # No plus in front of zero, because a difference that is rounded to zero has no direction.
    return f"{rounded:{style if rounded else style.replace('+', '')}.{decimals}f}"


def one_line(name: object) -> str:
    """Shorten a name to one line."""
    return named(" ".join(str(name).split()))  # a line break would end the row of a table
