"""Comparisons of several models on the same images in one table: groups of models, such as seeds of one training."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from captum_softcam._files import read_json, write_json
from captum_softcam._names import NAME, closest, listed, named, quoted
from captum_softcam.attr import METHODS
from captum_softcam.evaluation.alignment import align
from captum_softcam.evaluation.comparison import Comparison
from captum_softcam.evaluation.health import counted
from captum_softcam.evaluation.model_view import JOIN, ModelView, Row, by_label, label, told
from captum_softcam.evaluation.statistics import (
    LEVEL,
    best,
    count_images,
    decimals,
    holm,
    mean_ranks,
    model_intervals,
    shown,
    sign_flip_p_values,
    significance,
    visible,
    win_rates,
)
from captum_softcam.evaluation.text import to_csv, to_html, to_latex, to_markdown
from captum_softcam.evaluation.view import Adjust, View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MODELS_FILE", "ModelComparison", "check_groups", "folders_of", "models_record"]

Array = NDArray[np.float64]

MODELS_FILE = "models.json"
"""File with the names, groups and folders of the models."""

_CURE = "Copy it again, or compare the models anew"


class ModelComparison:
    """Comparisons of several models on the same samples, read as one table with a row for each model and method.

    Models of one group, such as seeds of one training, share a row for each method: its mean is that of their means, and its
    95 % interval covers other such models as well as other images. It comes from a two-level bootstrap in which the images
    are the same for all models :cite:`owen2007pigeonhole`, and it is widened for few models: with three, it contained the
    true mean in 93 to 98 % of simulated cases, with two in 88 to 98 %. The interval of a group of one model covers other
    images alone, and is that of its own table. ``model_intervals`` in ``captum_softcam.evaluation.statistics`` computes it.

    Only what all models have is compared: samples that one lacks, and metrics, are left out, and a note names them.

    Metrics that run the model, such as insertion, measure the network along with the map: a confident network has a larger
    insertion whatever the map. Ranks and best means are therefore among the methods of a group, and a note names these
    metrics.

    Args:
        comparisons (mapping): a :class:`Comparison` for each model, by the name of the model.
        groups (mapping): the group of each model. Default: each is a group of its own, of the same name

    Raises:
        ValueError: if there is no comparison, ``groups`` names a model that is not there, the comparisons differ in the
            seed, the size of the images, the explained class or the settings of a metric, a sample differs in its content,
            or they have no sample or no metric in common.

    Example::

        >>> both = ModelComparison({"one": Comparison.load("one"), "other": Comparison.load("other")})
        >>> both.differences("one").query("better == 1").index.tolist()
        [('other', 'grad_cam', 'relevance_mass_accuracy')]
    """

    def __init__(self, comparisons: Mapping[str, Comparison], groups: Mapping[str, str] | None = None) -> None:
        self.groups = check_groups(comparisons, groups)
        self.comparisons, self.remarks = align(comparisons)

    @property
    def models(self) -> list[str]:
        """Names of the models."""
        return list(self.comparisons)

    @cached_property
    def members(self) -> dict[str, list[str]]:
        """Names of the models of each group."""
        found: dict[str, list[str]] = {}
        for model, group in self.groups.items():
            found.setdefault(group, []).append(model)
        return found

    @cached_property
    def rows(self) -> list[Row]:
        """Groups and methods, in the order of the table."""
        return [(group, method) for group in self.members for method in self._methods(group)]

    @property
    def samples(self) -> list[str]:
        """Identifiers of the samples."""
        return self._first.samples

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics."""
        return self._first.metrics

    @property
    def baseline(self) -> Row:
        """Row that the others are compared with by default, of the first group and the baseline of its first model."""
        group = next(iter(self.members))
        return group, self.comparisons[self.members[group][0]].baseline

    def accuracies(self) -> pd.DataFrame:
        """Return how many samples each model classifies correctly.

        Returns:
            DataFrame: indexed by model, with the columns ``group``; ``correct`` and ``labelled`` (samples with a known
            class); ``accuracy, low, high`` with its 95 % Wilson interval, NaN if no class is known or predicted.
        """
        rows = []
        for model, view in self._views("none").items():
            found = [math.nan] * 3
            if view.labelled:
                interval = binomtest(view.correct, view.labelled).proportion_ci(method="wilson")
                found = [view.correct / view.labelled, float(interval.low), float(interval.high)]
            rows.append((self.groups[model], view.correct, view.labelled, *found))
        columns = ["group", "correct", "labelled", "accuracy", "low", "high"]
        return pd.DataFrame(rows, pd.Index(self.models, name="model"), columns)

    def summary(self) -> pd.DataFrame:
        """Return the mean and 95 % interval of every group of models, method and metric.

        Returns:
            DataFrame: indexed by group, method and metric, with the columns ``mean, low, high``; ``count``, ``undefined``
            and ``failed`` (scores of all models); ``best`` (whether no other method of the group has a better mean, rounded
            for tables); ``models`` (that have the method).
        """
        return self._summary.copy()

    def differences(self, baseline: str | Row | None = None, *, adjust: Adjust = "holm") -> pd.DataFrame:
        """Compare every row with a baseline, by paired differences on the same images.

        Rows of the same group are compared model by model, those of two groups by all pairs of their models. A difference
        counts as better or worse under the conditions of :meth:`Comparison.differences`: its 95 % interval excludes 0, there
        are six images or more, the p-value is at most 0.05, and the printed digits show it. The interval covers other models
        of the groups, as far as a group has several. The p-values, which are adjusted by Holm's procedure
        :cite:`holm1979simple`, do not: they are those of the sign-flip test over images for the models at hand. So one false
        verdict or more occurs in at most 5 % of the tables of these models, and each cell in addition in at most about 5 %
        of other trainings.

        Args:
            baseline (str or tuple): a row, as (group, method) or as it is named in tables, or a group, with whose row of the
                same method each row of the other groups is compared. Default: :attr:`baseline`
            adjust (str): ``"holm"`` or ``"none"``. Default: ``"holm"``

        Returns:
            DataFrame: indexed by group, method and metric, without the baseline and rows that have none; ``mean, low, high``
            of row minus baseline; ``count`` (samples with a pair); ``images`` (that have pairs); ``win_rate`` (fraction of
            pairs where the row is better; ties count half); ``p_value``; ``better`` (1 or -1, else 0).

        Raises:
            ValueError: if there is no such row or group, or no such adjustment.
        """
        if adjust not in ("holm", "none"):
            raise ValueError(f"adjust {quoted(adjust)} is not known; pass 'holm' or 'none'.")
        chosen = self._resolved(baseline)
        if chosen not in self._differences:
            self._differences[chosen] = self._compare(chosen)
        table = self._differences[chosen].copy()
        if adjust == "holm":
            table["p_value"] = holm(table["p_value"].to_numpy())
            table.loc[~(table["p_value"] <= LEVEL), "better"] = 0
        return table

    def ranks(self) -> pd.DataFrame:
        """Rank the methods of each group by their means, rounded for tables, under each metric.

        Returns:
            DataFrame: indexed by group and method, a column per metric, 1 for the best, NaN where undefined; ties share
            their mean rank. The column ``mean_rank`` is the mean over all metrics with a rank that judge methods and fail
            on no model, see :meth:`health`.
        """
        ranks = np.concatenate([mean_ranks(self._shown[places], self._signs) for places in self._places.values()])
        table = pd.DataFrame(ranks, pd.MultiIndex.from_tuples(self.rows, names=["group", "method"]), self.metrics)
        categories = next(iter(self.comparisons.values())).categories
        counting = counted({name: categories[name] for name in self.metrics}, self._failing)
        return table.assign(mean_rank=table[counting].mean(axis=1))

    def health(self) -> pd.DataFrame:
        """Return which metrics can be trusted on each model, with what speaks for and against each.

        Returns:
            DataFrame: indexed by model and metric, with the columns of :meth:`Comparison.health`.
        """
        return pd.concat({model: each.health() for model, each in self.comparisons.items()}, names=["model"])

    @cached_property
    def _failing(self) -> dict[str, list[str]]:
        """Names of the models on which a metric fails, by metric; without metrics that fail on none."""
        fails = self.health()["verdict"].eq("fails")
        found = {name: [model for model in self.models if fails[model, name]] for name in self.metrics}
        return {name: models for name, models in found.items() if models}

    def view(self, baseline: str | Row | None = None, *, adjust: Adjust = "holm") -> View:
        """Return the table as a reader sees it, with a row for each group and method, and notes on every model.

        Args:
            baseline (str or tuple): as for :meth:`differences`. Default: :attr:`baseline`
            adjust (str): adjustment of the marks, as for :meth:`differences`. Default: ``"holm"``

        Returns:
            View: plain data, from which every table and figure is made; its methods are named ``"group: method"``.

        Raises:
            ValueError: if there is no such row or group, or no such adjustment.
        """
        chosen = self._resolved(baseline)
        pairs = self._pairs(chosen)
        views, first = self._views(adjust), self._first.view(adjust=adjust)
        costs = pd.DataFrame({label(row): self._cost(row) for row in self.rows}).T.rename_axis("method")
        return ModelView(
            methods=[label(row) for row in self.rows],
            controls=[label(row) for row in self.rows if self._is_control(row)],
            baseline=f"the same method of {chosen}" if isinstance(chosen, str) else label(chosen),
            metrics=first.metrics,
            decimals=self._decimals,
            summary=by_label(self._summary.drop(columns="models")),
            differences=by_label(self.differences(chosen, adjust=adjust)),
            ranks=by_label(self.ranks()),
            costs=costs,
            samples=first.samples,
            masked=first.masked,
            failures=first.failures.iloc[:0],  # those of each model are in its own notes
            unreadable={},
            attempted=first.attempted,
            images=first.images,
            performance=first.performance.iloc[:0],
            multilabel=first.multilabel,
            adjust=adjust,
            scores=first.scores,
            predicts=first.predicts,
            rows=self.rows,
            views=views,
            members=self.members,
            remarks=[*self.remarks, *told({model: self._missing(model) for model in self.models})],
            baselines=[label(row) for row in dict.fromkeys(pairs.values())],
            failing_on=self._failing,
        )

    def to_markdown(self, baseline: str | Row | None = None, *, adjust: Adjust = "holm") -> str:
        """Return the table with its notes in GitHub's Markdown.

        Args:
            baseline (str or tuple): as for :meth:`differences`. Default: :attr:`baseline`
            adjust (str): adjustment of the marks, as for :meth:`differences`. Default: ``"holm"``

        Returns:
            str: the table, and a list of the notes below it.

        Raises:
            ValueError: if there is no such row or group, or no such adjustment.
        """
        return to_markdown(self.view(baseline, adjust=adjust))

    def to_latex(self, baseline: str | Row | None = None, *, adjust: Adjust = "holm") -> str:
        """Return the table with its notes in LaTeX.

        Args:
            baseline (str or tuple): as for :meth:`differences`. Default: :attr:`baseline`
            adjust (str): adjustment of the marks, as for :meth:`differences`. Default: ``"holm"``

        Returns:
            str: a ``tabular``, which needs the package booktabs, and the notes below it.

        Raises:
            ValueError: if there is no such row or group, or no such adjustment.
        """
        return to_latex(self.view(baseline, adjust=adjust))

    def to_html(self, baseline: str | Row | None = None, *, adjust: Adjust = "holm") -> str:
        """Return the table with its notes in HTML, as notebooks show it.

        Args:
            baseline (str or tuple): as for :meth:`differences`. Default: :attr:`baseline`
            adjust (str): adjustment of the marks, as for :meth:`differences`. Default: ``"holm"``

        Returns:
            str: an element ``div`` with its style; names are escaped.

        Raises:
            ValueError: if there is no such row or group, or no such adjustment.
        """
        return to_html(self.view(baseline, adjust=adjust))

    def to_csv(self, baseline: str | Row | None = None, *, adjust: Adjust = "holm") -> str:
        """Return the table as CSV, with a row per group, method and metric.

        Args:
            baseline (str or tuple): as for :meth:`differences`. Default: :attr:`baseline`
            adjust (str): adjustment of the marks, as for :meth:`differences`. Default: ``"holm"``

        Returns:
            str: means, intervals, counts, differences to the baseline, ranks and costs, with every digit.

        Raises:
            ValueError: if there is no such row or group, or no such adjustment.
        """
        return to_csv(self.view(baseline, adjust=adjust))

    def plot(
        self, baseline: Row | None = None, *, adjust: Adjust = "holm", figsize: tuple[float, float] | None = None
    ) -> Figure:
        """Plot means and intervals of each metric, and cost against mean rank, with a line for each group and method.

        Args:
            baseline (tuple): the row that the others are compared with. Default: :attr:`baseline`
            adjust (str): adjustment of the marks, as for :meth:`differences`. Default: ``"holm"``
            figsize (tuple of float): width and height in inches. Default: as many as the panels need

        Returns:
            matplotlib.figure.Figure: the figure; ``savefig`` saves it.

        Raises:
            ValueError: if there is no such row or no such adjustment, or ``baseline`` is a group, which is not a single row.
        """
        from captum_softcam.evaluation.figure import plot_comparison  # which loads matplotlib

        if isinstance(self._resolved(baseline), str):
            raise ValueError(
                f"the figure needs one row as its baseline, not the group {quoted(baseline)}; pass (group, method)."
            )
        return plot_comparison(self.view(baseline, adjust=adjust), [], figsize)

    def save(self, folder: str | Path) -> None:
        """Write every comparison to a folder of its own, and last ``models.json`` with the names and groups.

        Args:
            folder (str or Path): a new or existing folder; files of an earlier comparison are replaced.

        Raises:
            TypeError: if a manifest is not JSON.
            OSError: if the folder cannot be written.
        """
        places = folders_of(self.comparisons)
        for model, comparison in self.comparisons.items():
            comparison.save(Path(folder) / places[model])
        write_json(Path(folder) / MODELS_FILE, models_record(self.groups))

    @classmethod
    def load(cls, folder: str | Path) -> ModelComparison:
        """Read the comparisons written by :meth:`save` or by :func:`compare_models`.

        Args:
            folder (str or Path): the folder.

        Returns:
            ModelComparison: the comparisons of all models.

        Raises:
            FileNotFoundError: if a file is missing, or the comparison of a model is not complete.
            ValueError: if a file is truncated or changed, or was written by a newer version of this package.
        """
        path = Path(folder) / MODELS_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no comparison of several models in '{named(folder)}': '{MODELS_FILE}' is missing; that of one "
                "model is read by Comparison.load."
            )
        models = read_json(path, _CURE)["models"]
        comparisons = {each["name"]: Comparison.load(Path(folder) / each["folder"]) for each in models}
        return cls(comparisons, {each["name"]: each["group"] for each in models})

    def __repr__(self) -> str:
        models, metrics = listed(self.models, NAME), listed(self.metrics, NAME)
        return f"ModelComparison({len(self.samples)} samples; models: {models}; metrics: {metrics})"

    def _repr_html_(self) -> str:
        return self.to_html()

    @property
    def _first(self) -> Comparison:
        return next(iter(self.comparisons.values()))

    def _views(self, adjust: Adjust) -> dict[str, View]:
        return {model: comparison.view(adjust=adjust) for model, comparison in self.comparisons.items()}

    def _methods(self, group: str) -> list[str]:
        return list(dict.fromkeys(method for model in self.members[group] for method in self.comparisons[model].methods))

    def _having(self, row: Row) -> list[str]:
        """Return the models of a row's group that have its method."""
        return [model for model in self.members[row[0]] if row[1] in self.comparisons[model].methods]

    def _values(self, row: Row, models: Sequence[str] | None = None) -> Array:
        """Return the scores of a row, (models, samples, metrics)."""
        found = [self.comparisons[model] for model in (self._having(row) if models is None else models)]
        return np.stack([each.array()[:, each.methods.index(row[1])] for each in found])

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        """Places of the rows of each group."""
        return {group: [i for i, row in enumerate(self.rows) if row[0] == group] for group in self.members}

    @property
    def _signs(self) -> Array:
        return np.array(list(self._first.directions.values()), dtype=np.float64)

    @cached_property
    def _summary(self) -> pd.DataFrame:
        values = [self._values(row) for row in self.rows]
        mean, low, high = (ends.ravel() for ends in _intervals(values, self._first.images))
        table = pd.DataFrame({"mean": mean, "low": low, "high": high}, self._index(self.rows))
        table["count"] = np.concatenate([np.isfinite(each).sum(axis=(0, 1)) for each in values])
        own = {model: comparison.summary() for model, comparison in self.comparisons.items()}
        for name in ("undefined", "failed"):
            counts = [[own[model].xs(row[1])[name] for model in self._having(row)] for row in self.rows]
            table[name] = np.concatenate([np.sum(each, axis=0) for each in counts])
        rounded = shown(mean.reshape(len(self.rows), -1))
        table["best"] = np.concatenate([best(rounded[places], self._signs) for places in self._places.values()]).ravel()
        return table.assign(models=np.repeat([len(self._having(row)) for row in self.rows], len(self.metrics)))

    @property
    def _means(self) -> Array:
        return self._summary["mean"].to_numpy(dtype=np.float64).reshape(len(self.rows), -1)

    @property
    def _shown(self) -> Array:
        return shown(self._means)

    @property
    def _decimals(self) -> dict[str, int]:
        return {name: decimals(values) for name, values in zip(self.metrics, self._means.T, strict=True)}

    @cached_property
    def _differences(self) -> dict[str | Row, pd.DataFrame]:
        """Cache of the differences, by baseline."""
        return {}

    def _resolved(self, baseline: str | Row | None) -> str | Row:
        """Return the row or group that is meant."""
        labels = {label(row): row for row in self.rows}
        if baseline is None:
            return self.baseline
        if isinstance(baseline, tuple) and baseline in self.rows:
            return baseline
        if isinstance(baseline, str) and (baseline in self.members or baseline in labels):
            return labels.get(baseline, baseline)
        wanted = baseline if isinstance(baseline, str) else JOIN.join(map(str, baseline))
        raise ValueError(
            f"the baseline {quoted(wanted)} is neither a row, (group, method), nor a group. "
            f"{closest(wanted, [*self.members, *labels])}"
        )

    def _pairs(self, baseline: str | Row) -> dict[Row, Row]:
        """Return the row that each row is compared with; rows without one are left out."""
        others = {row: (baseline, row[1]) if isinstance(baseline, str) else baseline for row in self.rows}
        return {row: other for row, other in others.items() if other in self.rows and other != row}

    def _compare(self, baseline: str | Row) -> pd.DataFrame:
        pairs = self._pairs(baseline)
        if not pairs:
            none = dict.fromkeys(("mean", "low", "high", "count", "images", "win_rate", "p_value", "better"), np.empty(0))
            return pd.DataFrame(none, pd.MultiIndex.from_arrays([[], [], []], names=["group", "method", "metric"]))
        images, count = self._first.images, len(self.metrics)
        values = [self._subtracted(row, other) for row, other in pairs.items()]
        mean, low, high = (ends.ravel() for ends in _intervals(values, images))
        over_models = np.concatenate([_average(each) for each in values], axis=1)
        defined, signs = np.isfinite(over_models), np.tile(self._signs, len(pairs))
        flat = [each.reshape(-1, count) for each in values]
        columns = {"mean": mean, "low": low, "high": high, "count": defined.sum(axis=0)}
        columns["images"] = found = count_images(defined, images)
        columns["win_rate"] = np.concatenate([win_rates(each, self._signs) for each in flat])
        columns["p_value"] = sign_flip_p_values(over_models, images)
        means, others = ([self._shown[self.rows.index(row)] for row in rows] for rows in (pairs, pairs.values()))
        places = np.tile(list(self._decimals.values()), len(pairs))
        printed = visible(np.concatenate(means), np.concatenate(others), mean, places)
        columns["better"] = np.where(printed, significance(low, high, found, signs), 0)
        return pd.DataFrame(columns, self._index(list(pairs)))

    def _subtracted(self, row: Row, other: Row) -> Array:
        """Return the differences of two rows: of each model of their group, or of all pairs of models of two groups."""
        with np.errstate(invalid="ignore"):  # the difference of two infinite scores is NaN
            if row[0] == other[0]:
                both = [model for model in self._having(row) if model in self._having(other)]
                # Where no model has both methods, the difference is undefined.
                return self._values(row, both) - self._values(other, both) if both else self._values(row) * np.nan
            return np.asarray(self._values(row)[:, None] - self._values(other)[None])

    def _index(self, rows: Sequence[Row]) -> pd.MultiIndex:
        cells = [(*row, metric) for row in rows for metric in self.metrics]
        return pd.MultiIndex.from_tuples(cells, names=["group", "method", "metric"])

    def _cost(self, row: Row) -> pd.Series[Any]:
        """Return the mean costs of a row over its models."""
        return pd.concat([self.comparisons[model].costs.reindex([row[1]]) for model in self._having(row)]).mean()

    def _is_control(self, row: Row) -> bool:
        return any(row[1] in self.comparisons[model].controls for model in self._having(row))

    def _missing(self, model: str) -> Iterator[str]:
        """Yield a sentence on the methods of other models that a model lacks."""
        every, own = dict.fromkeys(method for _, method in self.rows), self.comparisons[model].methods
        missing = [name for name in every if name not in own]
        evidence = [name for name in missing if name in METHODS and METHODS[name].needs == "evidence"]
        others = [name for name in missing if name not in evidence]
        if evidence:
            yield f"without {listed(evidence)}, which needs a SoftCAM model."
        if others:
            yield f"without {listed(others)}, which did not run on it."


def check_groups(models: Iterable[str], groups: Mapping[str, str] | None) -> dict[str, str]:
    """Return the group of each model, its own where none is named.

    Raises:
        ValueError: if there is no model, a name that is not one is grouped, or the name of a group has a colon and a space,
            which part groups from methods in tables.
    """
    names = list(models)
    if not names:
        raise ValueError("there are no models to compare; pass at least one.")
    for name in groups or {}:
        if name not in names:
            raise ValueError(f"groups names the model {quoted(name)}, which is not there. {closest(name, names)}")
    found = {name: (groups or {}).get(name, name) for name in names}
    for group in found.values():
        if JOIN in group:
            raise ValueError(f"the name {quoted(group)} has a colon and a space, which part models from methods; rename it.")
    return found


def folders_of(models: Iterable[str]) -> dict[str, str]:
    """Return the name of the folder of each model: its place and what of its name every file system takes."""
    return {name: f"{i}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)[:NAME]}" for i, name in enumerate(models, 1)}


def models_record(groups: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``models.json`` holds of the models."""
    places = folders_of(groups)
    return {"models": [{"name": name, "group": group, "folder": places[name]} for name, group in groups.items()]}


def _average(differences: Array) -> Array:
    """Average the defined differences (models ..., S, K) over models, (S, K)."""
    flat = differences.reshape(-1, *differences.shape[-2:])
    defined = np.isfinite(flat)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, flat, 0).sum(axis=0) / defined.sum(axis=0))


def _intervals(rows: Sequence[Array], images: Sequence[str]) -> Array:
    """Compute means and intervals of rows (models ..., S, K), as (3, rows, K); rows of as many models at once."""
    found = np.full((3, len(rows), rows[0].shape[-1]), np.nan)
    for shape in dict.fromkeys(each.shape for each in rows):
        places = [i for i, each in enumerate(rows) if each.shape == shape]
        ends = model_intervals(np.concatenate([rows[i] for i in places], axis=-1), images)
        found[:, places] = np.reshape(ends, (3, len(places), -1))
    return found
