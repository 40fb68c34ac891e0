"""The result of a comparison: scores per sample, costs, settings and example maps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from captum_softcam._names import NAME, closest, listed, named, quoted
from captum_softcam._scores import PROBABILITIES
from captum_softcam.evaluation.controls import CONTROLS
from captum_softcam.evaluation.curves import MeanCurves, mean_curves
from captum_softcam.evaluation.example import Example
from captum_softcam.evaluation.health import HealthInputs, MetricHealth, counted, measure_health
from captum_softcam.evaluation.performance import PERFORMANCE
from captum_softcam.evaluation.rank_shifts import RankShift, rank_shifts
from captum_softcam.evaluation.same_maps import SameMaps
from captum_softcam.evaluation.statistics import (
    LEVEL,
    best,
    count_images,
    decimals,
    holm,
    mean_intervals,
    mean_ranks,
    shown,
    sign_flip_p_values,
    significance,
    visible,
    win_rates,
)
from captum_softcam.evaluation.storage import read_folder, write_folder
from captum_softcam.evaluation.text import to_csv, to_html, to_latex, to_markdown
from captum_softcam.evaluation.view import Adjust, View
from captum_softcam.metrics import METRICS, find_metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison"]


# A generated __eq__ would fail: comparing two tables gives a table, which has no truth value. Cached properties work in a
# frozen class, because they write to ``__dict__`` directly.
@dataclass(frozen=True, eq=False)
class Comparison:
    """Scores of methods x metrics x samples, with their costs and settings.

    Intervals are 95 % percentile intervals of the bootstrap :cite:`efron1979bootstrap`, with a fixed seed, so that tables
    are reproducible. Images are resampled with all their samples :cite:`field2007bootstrapping`, because several classes of
    one image are not independent; with one sample per image these are the samples. Intervals do not cover the variation
    between trainings of the model, and they are not widened for the number of methods and metrics. The marks are adjusted
    for it, see :meth:`differences`.

    Args:
        scores (DataFrame): one row per sample, method and metric, with the columns ``sample, label, target, prediction,
            method, metric, score``; an unknown label is -1, an undefined score NaN.
        costs (DataFrame): indexed by method, with the columns ``forwards`` and ``backwards`` (images that pass through the
            model per explained image), ``seconds`` (per image), ``relative`` (to a plain forward of the same images in the
            same run) and ``peak_bytes`` (additional memory of one batch).
        manifest (dict): versions, seeds, model, layer, data, methods and metrics with their settings; JSON.
        curves (DataFrame): one row per sample, method and metric that draws a curve, with the columns ``sample, method,
            metric`` and one column per fraction, named ``"0"`` ... ``"1"``. Default: empty
        failures (DataFrame): one row per sample, method and metric that raised an error, with the columns ``sample, method,
            metric, error``; the metric is empty if the method itself failed, and both are if the sample could not be read.
            Default: empty
        examples (list of Example): a few samples with their maps. Default: none
        contents (DataFrame): one row per sample with the columns ``sample``, ``sha256``, a digest of its image, classes and
            mask, and ``group``, the name of its image, which several samples may share. Without the column every sample is
            an image of its own. Default: empty
        performance (DataFrame): how well the model tells the classes of multi-label images, or those of a single logit: one
            row per class and last their means, as :func:`class_performance` returns it, with numbers as names. Default:
            empty
        probes (DataFrame): further measurements on a few samples, which :meth:`health` reads: one row per sample, probe,
            method and metric, with the columns ``sample, probe, method, metric, score``. Default: empty

    Raises:
        ValueError: on first access to the scores, if a sample has two for the same method and metric, or if a metric is not
            in ``METRICS`` and the manifest does not state its direction.

    Example::

        >>> comparison = Comparison.load("results")
        >>> comparison.differences("grad_cam").query("better == 1").index.tolist()
        [('soft_cam', 'relevance_mass_accuracy')]
    """

    scores: pd.DataFrame
    costs: pd.DataFrame
    manifest: dict[str, Any]
    curves: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["sample", "method", "metric"]))
    failures: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["sample", "method", "metric", "error"]))
    examples: list[Example] = field(default_factory=list)
    contents: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["sample", "sha256", "group"]))
    performance: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(PERFORMANCE)))
    probes: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["sample", "probe", "method", "metric", "score"])
    )

    @cached_property
    def methods(self) -> list[str]:
        """Names of the methods, in the order of the run, including failed ones."""
        return _names(self.manifest.get("methods", ()), self.scores["method"])

    @cached_property
    def metrics(self) -> list[str]:
        """Names of the metrics, in the order of the run."""
        return _names(self.manifest.get("metrics", ()), self.scores["metric"])

    @cached_property
    def samples(self) -> list[str]:
        """Identifiers of the samples, in the order of the run, without those that could not be read."""
        return _names(self.scores["sample"].unique(), self.failures[~self._without_method]["sample"])

    @cached_property
    def unreadable(self) -> dict[str, str]:
        """The reason for each sample that could not be read, by identifier; they have no scores."""
        return dict(self.failures[self._without_method][["sample", "error"]].itertuples(index=False))

    @cached_property
    def images(self) -> list[str]:
        """Name of the image of every sample, in the order of :attr:`samples`; samples with several classes share one."""
        if "group" not in self.contents:
            return self.samples
        groups: dict[str, str] = dict(self.contents[["sample", "group"]].itertuples(index=False))
        return [groups.get(name, name) for name in self.samples]

    @property
    def controls(self) -> list[str]:
        """Names of the methods that ignore the model."""
        entries = _entries(self.manifest.get("methods"))
        return [name for name in self.methods if entries.get(name, {}).get("control", name in CONTROLS)]

    @property
    def same_maps(self) -> list[SameMaps]:
        """Groups of methods that give the same map in every sample; empty where the run did not record it."""
        groups = [SameMaps(**{**each, "methods": tuple(each["methods"])}) for each in self.manifest.get("same_maps", ())]
        return [group for group in groups if set(group.methods) <= set(self.methods)]

    @property
    def titles(self) -> dict[str, str]:
        """The title of each metric."""
        return {name: str(entry.get("title", name)) for name, entry in self._described.items()}

    @property
    def categories(self) -> dict[str, str]:
        """The category of each metric; empty where it is not known."""
        return {name: str(entry.get("category") or "") for name, entry in self._described.items()}

    @property
    def directions(self) -> dict[str, int]:
        """Direction of each metric, 1 if higher is better and -1 if lower is."""
        return {name: 1 if entry["higher_is_better"] else -1 for name, entry in self._described.items()}

    @property
    def decimals(self) -> dict[str, int]:
        """Number of decimals of each metric in tables."""
        return {name: decimals(values) for name, values in zip(self.metrics, self._means.T, strict=True)}

    @property
    def baseline(self) -> str:
        """The method that the others are compared with, that of the manifest or else Grad-CAM or else the first."""
        named = self.manifest.get("baseline")
        return str(named) if named else "grad_cam" if "grad_cam" in self.methods else self.methods[0]

    def summary(self) -> pd.DataFrame:
        """Return the mean and 95 % interval of every method and metric.

        Returns:
            DataFrame: indexed by method and metric, with the columns ``mean, low, high``; ``count`` (defined scores);
            ``undefined`` (undefined scores; samples without a mask do not count for localisation); ``failed`` (undefined
            scores due to an error); ``best`` (whether no other mean of the metric, rounded for tables, is better).
        """
        return self._summary.copy()

    def differences(self, baseline: str | None = None, *, adjust: Adjust = "holm") -> pd.DataFrame:
        """Compare every method with a baseline, by paired differences over the samples where both are defined.

        A difference counts as better or worse if its 95 % interval excludes 0, there are pairs of six images or more, its
        p-value is at most 0.05, and the printed digits show it: those of both means, and those of the difference. The
        p-values are those of the sign-flip test over images, adjusted by Holm's procedure :cite:`holm1979simple` for the
        number of methods, controls included, and metrics. So one false verdict or more occurs in at most 5 % of the tables.
        With ``adjust="none"`` the interval alone decides, and each cell has its own false alarms.

        Args:
            baseline (str): name of a method. Default: :attr:`baseline`
            adjust (str): ``"holm"`` or ``"none"``. Default: ``"holm"``

        Returns:
            DataFrame: indexed by method and metric, without the baseline; ``mean, low, high`` of method minus baseline;
            ``count`` (pairs); ``images`` (that have pairs); ``win_rate`` (fraction of pairs where the method is better; ties
            count half); ``p_value`` (adjusted unless ``adjust`` is ``"none"``); ``better`` (1 or -1, else 0).

        Raises:
            ValueError: if there is no such method, or no such adjustment.
        """
        baseline = baseline or self.baseline
        if baseline not in self.methods:
            raise ValueError(f"the baseline {quoted(baseline)} is not among the methods. {closest(baseline, self.methods)}")
        if adjust not in ("holm", "none"):
            raise ValueError(f"adjust {quoted(adjust)} is not known; pass 'holm' or 'none'.")
        if baseline not in self._differences:
            self._differences[baseline] = self._compare(baseline)
        table = self._differences[baseline].copy()
        if adjust == "holm":
            table["p_value"] = holm(table["p_value"].to_numpy())
            table.loc[~(table["p_value"] <= LEVEL), "better"] = 0
        return table

    def ranks(self) -> pd.DataFrame:
        """Rank the methods by their means, rounded for tables, under each metric.

        Returns:
            DataFrame: methods x metrics, 1 for the best, NaN where undefined; ties share their mean rank. The column
            ``mean_rank`` is the mean over all metrics with a rank that judge methods and do not fail, see :meth:`health`.
        """
        ranks = pd.DataFrame(mean_ranks(shown(self._means), self._signs), self.methods, self.metrics)
        failing = [name for name in self.metrics if self._health[name].fails]
        return ranks.assign(mean_rank=ranks[counted(self.categories, failing)].mean(axis=1))

    def health(self) -> pd.DataFrame:
        r"""Return which metrics can be trusted on these samples and this model, with what speaks for and against each.

        Differences have the direction applied, so that above 0 is as it should be. Methods with the same map count once.
        The page on trusting metrics has the formulas.

        Returns:
            DataFrame: indexed by metric, with the columns

            - ``verdict``: ``"works"``, ``"fails"``, ``"cannot be told"``, or ``"describes"`` for complexity, robustness and
              axioms, which describe a map and do not judge it; ``reason`` in words; ``category``;
            - ``random_network``: trained minus random network, the mean over methods, measured on the probed samples;
              then, as ``over_`` and its name, for every control the mean over methods minus the control. Each with
              ``_low, _high``, ``_fraction`` (of the samples where the difference is above 0) and ``_images``;
            - Kendall's tau between rankings of the methods in a sample, averaged, with ``_low, _high``: ``agreement`` with
              the other metrics, and with itself under another ``seed``, ``noise`` on the image and other ``baseline``
              columns;
            - ``alpha``: Krippendorff's alpha of the metric's family;
            - ``batch``: largest change of a score in a batch of its own, in standard deviations;
            - ``iac_nr, iec_nr, iac_ar, iec_ar``: the consistency of MetaQuantus, under noise and the random network.

            NaN where the run did not measure it.
        """
        rows = {name: found.row() for name, found in self._health.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")

    def array(self) -> NDArray[np.float64]:
        """Return all scores as an array.

        Returns:
            ndarray: (samples, methods, metrics), in the order of these attributes; NaN where undefined or missing.
        """
        return self._cube.copy()

    def rank_shifts(self) -> pd.DataFrame:
        """Return how far the ranks of the methods move between baselines, under each metric that was measured with several.

        Returns:
            DataFrame: one row per metric and pair of baselines, with ``metric, baseline, other``; ``tau, low, high``,
            Kendall's tau between the ranks of all methods, controls included, and its 95 % interval over images; and the
            largest move as ``method, rank, other_rank``. Empty if no metric has several baselines.
        """
        return pd.DataFrame(self._rank_shifts, columns=list(RankShift._fields))

    @cached_property
    def _rank_shifts(self) -> list[RankShift]:
        ranks = self.ranks()[self.metrics].to_numpy(dtype=np.float64)
        return rank_shifts(self._cube, ranks, self.methods, self._described, self.images)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per method, for notebooks and spreadsheets.

        Returns:
            DataFrame: indexed by method, with columns of two levels: each metric with ``mean, low, high, count, undefined,
            failed``; ``"cost"`` with the columns of the costs; ``("rank", "mean")``.
        """
        summary = self._summary.drop(columns="best")
        parts = {name: summary.xs(name, level="metric") for name in self.metrics}
        parts["cost"] = self.costs.reindex(self.methods)
        parts["rank"] = self.ranks()[["mean_rank"]].set_axis(["mean"], axis=1)
        return pd.concat(parts, axis=1).rename_axis("method")

    def view(self, baseline: str | None = None, *, adjust: Adjust = "holm") -> View:
        """Return the comparison as a reader sees it: cells, marks, costs and notes, which every table and figure shows.

        Args:
            baseline (str): the method that the others are compared with. Default: :attr:`baseline`
            adjust (str): adjustment of the marks, as for :meth:`differences`. Default: ``"holm"``

        Returns:
            View: plain data, from which other tables can be made.

        Raises:
            ValueError: if there is no such method, or no such adjustment.
        """
        baseline, scores = baseline or self.baseline, str(self.manifest.get("scores", "softmax"))
        return View(
            methods=self.methods,
            controls=self.controls,
            baseline=baseline,
            metrics=self._described,
            decimals=self.decimals,
            summary=self._summary,
            differences=self.differences(baseline, adjust=adjust),
            ranks=self.ranks(),
            costs=self.costs,
            samples=self.scores.drop_duplicates("sample"),
            masked=self.manifest.get("samples_with_mask"),
            failures=self.failures[~self._without_method],
            unreadable=self.unreadable,
            attempted=len(self.samples),
            images=len(set(self.images)),
            performance=self.performance,
            multilabel=bool(self.manifest.get("multilabel")),
            same_maps=self.same_maps,
            rank_shifts=self._rank_shifts,
            adjust=adjust,
            scores=scores,
            predicts=scores in PROBABILITIES or self.manifest.get("outputs") != 1,
            health=self._health,
        )

    def to_markdown(self, baseline: str | None = None, *, adjust: Adjust = "holm") -> str:
        """Return the table with its notes in GitHub's Markdown.

        Args:
            baseline (str): the method that the others are compared with. Default: :attr:`baseline`
            adjust (str): adjustment of the marks, as for :meth:`differences`. Default: ``"holm"``

        Returns:
            str: the table, and a list of the notes below it.

        Raises:
            ValueError: if there is no such method, or no such adjustment.
        """
        return to_markdown(self.view(baseline, adjust=adjust))

    def to_latex(self, baseline: str | None = None, *, adjust: Adjust = "holm") -> str:
        """Return the table with its notes in LaTeX.

        Args:
            baseline (str): the method that the others are compared with. Default: :attr:`baseline`
            adjust (str): adjustment of the marks, as for :meth:`differences`. Default: ``"holm"``

        Returns:
            str: a ``tabular``, which needs the package booktabs, and the notes below it.

        Raises:
            ValueError: if there is no such method, or no such adjustment.
        """
        return to_latex(self.view(baseline, adjust=adjust))

    def to_html(self, baseline: str | None = None, *, adjust: Adjust = "holm") -> str:
        """Return the table with its notes in HTML, as a notebook shows it at the end of a cell.

        Args:
            baseline (str): the method that the others are compared with. Default: :attr:`baseline`
            adjust (str): adjustment of the marks, as for :meth:`differences`. Default: ``"holm"``

        Returns:
            str: an element ``div`` with its style; it fits into any page, light or dark, and names are escaped.

        Raises:
            ValueError: if there is no such method, or no such adjustment.
        """
        return to_html(self.view(baseline, adjust=adjust))

    def to_csv(self, baseline: str | None = None, *, adjust: Adjust = "holm") -> str:
        """Return the table as CSV, with one row per method and metric; :meth:`to_frame` has one row per method.

        Names are not escaped, see :meth:`save`: import them as text.

        Args:
            baseline (str): the method that the others are compared with. Default: :attr:`baseline`
            adjust (str): adjustment of the marks, as for :meth:`differences`. Default: ``"holm"``

        Returns:
            str: means with their intervals and counts, differences to the baseline with their verdicts, ranks and costs;
            every digit is kept, and a value that is not known is empty.

        Raises:
            ValueError: if there is no such method, or no such adjustment.
        """
        return to_csv(self.view(baseline, adjust=adjust))

    def __repr__(self) -> str:
        methods, metrics = listed(self.methods, NAME), listed(self.metrics, NAME)
        return f"Comparison({len(self.samples)} samples; methods: {methods}; metrics: {metrics})"

    def _repr_html_(self) -> str:
        return self.to_html()

    def mean_curves(self, metrics: Sequence[str] | None = None) -> list[MeanCurves]:
        """Return the mean curve of every method with its pointwise 95 % band, under each metric that draws a curve.

        Args:
            metrics (sequence of str): names of metrics, in order. Default: all

        Returns:
            list of MeanCurves: one per metric with a curve, each with ``metric``, ``fractions`` and ``lines``, which have
            ``mean, low, high, count`` by method.
        """
        images = dict(zip(self.samples, self.images, strict=True))
        return mean_curves(self.curves, self.metrics if metrics is None else metrics, self.methods, images)

    def plot(
        self, baseline: str | None = None, *, adjust: Adjust = "holm", figsize: tuple[float, float] | None = None
    ) -> Figure:
        """Plot means and intervals of each metric, cost against mean rank, and the curves of insertion and deletion.

        Methods bear the names of their papers; controls are grey.

        Args:
            baseline (str): the method that the others are compared with. Default: :attr:`baseline`
            adjust (str): adjustment of the marks, as for :meth:`differences`. Default: ``"holm"``
            figsize (tuple of float): width and height in inches. Default: as many as the panels need

        Returns:
            matplotlib.figure.Figure: the figure; ``savefig`` saves it.

        Raises:
            ValueError: if there is no such method, or no such adjustment.
        """
        from captum_softcam.evaluation.figure import plot_comparison  # which loads matplotlib

        return plot_comparison(self.view(baseline, adjust=adjust), self.mean_curves(), figsize)

    def save(self, folder: str | Path) -> None:
        r"""Write the comparison to a folder; each file is complete or absent.

        The files are ``scores.csv`` and ``costs.csv``; ``curves.csv``, ``failures.csv``, ``samples.csv`` (digests of the
        samples), ``performance.csv``, ``probes.csv`` and ``examples.npz``, unless they would be empty; and last
        ``manifest.json``, with digests of the other files and of itself. Numbers in tables keep every digit. Images are
        rounded to steps of 1/255, maps to float16, relative to their largest magnitude.

        Names are not escaped, so that :meth:`load` returns the same ones. Spreadsheets evaluate a cell that begins with
        ``=``, ``+``, ``-`` or ``@`` as a formula, even in quotes: import the columns of names as text. Lone surrogates
        become text, as ``\udce9``, because UTF-8 cannot encode them.

        Args:
            folder (str or Path): a new or existing folder; files of an earlier comparison are replaced.

        Raises:
            TypeError: if the manifest is not JSON.
            OSError: if the folder cannot be written, for example because the disk is full.
        """
        tables = {"scores": self.scores, "costs": self.costs.rename_axis("method").reset_index()}
        # Named "samples" in the folder, where readers look for them; ``samples`` of this class are the identifiers.
        tables |= {"curves": self.curves, "failures": self.failures, "samples": self.contents}
        tables |= {"performance": self.performance, "probes": self.probes}
        write_folder(Path(folder), tables, self.manifest, self.examples)

    @classmethod
    def load(cls, folder: str | Path) -> Comparison:
        """Read a comparison written by :meth:`save`.

        Args:
            folder (str or Path): the folder.

        Returns:
            Comparison: the comparison; tuples in the manifest have become lists.

        Raises:
            FileNotFoundError: if the manifest, or a file that it names, is missing.
            ValueError: if a file is truncated or changed, or was written by a newer version of this package.
        """
        tables, manifest, examples = read_folder(Path(folder))
        if "samples" in tables:
            tables["contents"] = tables.pop("samples")
        return cls(costs=tables.pop("costs").set_index("method"), manifest=manifest, examples=examples, **tables)

    @cached_property
    def _health(self) -> dict[str, MetricHealth]:
        """The health of each metric, computed once for tables, notes and files."""
        entries = self._described.values()
        found = self.probes.groupby("probe") if len(self.probes) else ()
        given = HealthInputs(
            scores=self._cube,
            methods=self.methods,
            metrics=self.metrics,
            images=self.images,
            directions=self._signs,
            categories=[str(entry.get("category") or "") for entry in entries],
            controls=self.controls,
            same=[group.methods for group in self.same_maps],
            probes={str(probe): self._cube_of(rows) for probe, rows in found},
            errors=self.manifest.get("probe_errors", {}),
        )
        return measure_health(given)

    @cached_property
    def _described(self) -> dict[str, Mapping[str, Any]]:
        """Title, category and direction of each metric, from the manifest or else from this version."""
        entries = _entries(self.manifest.get("metrics"))
        return {name: entries[name] if entries.get(name) else _known(name) for name in self.metrics}

    @cached_property
    def _cube(self) -> NDArray[np.float64]:
        """Scores (samples, methods, metrics), NaN where missing."""
        doubled = self.scores.duplicated(["sample", "method", "metric"])  # of which the cube would silently keep the last
        if doubled.any():
            row = self.scores[doubled].iloc[0]
            raise ValueError(
                f"sample {quoted(row['sample'])} has two scores for {named(row['method'])}, {named(row['metric'])}; "
                "identifiers must be unique."
            )
        return self._cube_of(self.scores)

    def _cube_of(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Return rows of scores as an array (samples, methods, metrics)."""
        axes = {"sample": pd.Index(self.samples), "method": pd.Index(self.methods), "metric": pd.Index(self.metrics)}
        places = [axis.get_indexer(pd.Index(rows[name])) for name, axis in axes.items()]
        known = np.all([place >= 0 for place in places], axis=0)  # probes of samples that were left out later
        cube = np.full([len(axis) for axis in axes.values()], np.nan)
        cube[tuple(place[known] for place in places)] = rows["score"].to_numpy()[known]
        return cube

    def _cells(self, columns: Mapping[str, Any], methods: Iterable[str]) -> pd.DataFrame:
        """Return flat columns (methods x metrics) as a table indexed by method and metric."""
        return pd.DataFrame(columns, pd.MultiIndex.from_product([methods, self.metrics], names=["method", "metric"]))

    @property
    def _signs(self) -> NDArray[np.float64]:
        """Directions of the metrics, (metrics,)."""
        return np.array(list(self.directions.values()), dtype=np.float64)

    @cached_property
    def _summary(self) -> pd.DataFrame:
        """The summary, computed once for tables, notes and files."""
        scores = _flat(self._cube)
        mean, low, high = mean_intervals(scores, self.images)
        count = np.isfinite(scores).sum(axis=0)
        table = self._cells({"mean": mean, "low": low, "high": high, "count": count}, self.methods)
        table["undefined"] = np.maximum(np.tile(self._expected, len(self.methods)) - count, 0)
        # A failed sample without a mask is not undefined in localisation, where no score is expected.
        table["failed"] = np.minimum(self._failed, table["undefined"])
        table["best"] = best(shown(mean.reshape(-1, len(self.metrics))), self._signs).ravel()
        return table

    @property
    def _expected(self) -> NDArray[np.int64]:
        """Number of scores that each metric should have; samples without a mask do not count for localisation."""
        masked = self.manifest.get("samples_with_mask", len(self.samples))
        # Earlier versions did not record the need of a mask.
        located = [entry.get("needs_mask", entry.get("category") == "localisation") for entry in self._described.values()]
        return np.where(located, masked, len(self.samples))

    @property
    def _without_method(self) -> pd.Series[bool]:
        """Rows of the failures that concern a sample, not a method."""
        return self.failures["method"].isin(["", np.nan])

    @property
    def _failed(self) -> NDArray[np.int64]:
        """Number of samples for which the method or the metric raised an error, per method and metric."""
        failures = self.failures.fillna({"metric": ""})
        samples: dict[tuple[str, str], set[str]] = defaultdict(set)
        for sample, method, metric in failures[["sample", "method", "metric"]].itertuples(index=False):
            samples[method, metric].add(sample)
        counts = [len(samples[a, ""] | samples[a, b]) for a in self.methods for b in self.metrics]
        return np.array(counts, dtype=np.int64)

    @property
    def _means(self) -> NDArray[np.float64]:
        """Means (methods, metrics)."""
        return self._summary["mean"].to_numpy(dtype=np.float64).reshape(-1, len(self.metrics))

    @cached_property
    def _differences(self) -> dict[str, pd.DataFrame]:
        """Cache of the differences, by baseline."""
        return {}

    def _compare(self, baseline: str) -> pd.DataFrame:
        place = self.methods.index(baseline)
        with np.errstate(invalid="ignore"):  # the difference of two infinite scores is NaN
            # NaN where either score is, so that only samples with both count.
            differences = _flat(np.delete(self._cube - self._cube[:, [place]], place, axis=1))
        methods = [name for name in self.methods if name != baseline]
        mean, low, high = mean_intervals(differences, self.images)
        defined, signs = np.isfinite(differences), np.tile(self._signs, len(methods))
        count, images = defined.sum(axis=0), count_images(defined, self.images)
        columns = {"mean": mean, "low": low, "high": high, "count": count, "images": images}
        columns |= {"win_rate": win_rates(differences, signs), "p_value": sign_flip_p_values(differences, self.images)}
        better = np.where(self._visible(place, mean), significance(low, high, images, signs), 0)
        return self._cells({**columns, "better": better}, methods)

    def _visible(self, place: int, differences: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether the printed digits show the differences to a method, in the means as well as by themselves."""
        means = shown(self._means)
        others = np.delete(means, place, axis=0)
        places = np.tile(list(self.decimals.values()), len(others))
        return visible(others.ravel(), np.tile(means[place], len(others)), differences, places)


def _names(stated: Iterable[str], found: pd.Series[str]) -> list[str]:
    return list(dict.fromkeys([*stated, *found.unique()]))


def _flat(cube: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reshape (samples, methods, metrics) to (samples, methods * metrics)."""
    return cube.reshape(len(cube), cube.shape[1] * cube.shape[2])


def _entries(stated: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return the manifest's entries by name; empty if it only lists names."""
    return stated if isinstance(stated, Mapping) else {}


def _known(name: str) -> dict[str, Any]:
    stem = name.partition("@")[0]
    if stem not in METRICS:
        raise ValueError(
            f"the direction of the metric {quoted(name)} is not known; name it in the manifest: "
            f"{{'metrics': {{{quoted(name)}: {{'higher_is_better': True}}}}}}."
        )
    metric = find_metric(name)
    return {
        "title": metric.title,
        "category": metric.category,
        "higher_is_better": metric.higher_is_better,
        "needs_mask": metric.needs_mask,
        "note": metric.note,
    }
