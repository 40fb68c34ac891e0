"""The table of several models as a reader sees it: a row for each group and method, with the notes of all models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from captum_softcam._names import NAME, listed
from captum_softcam.evaluation.view import MARKS, View, one_line

__all__ = ["JOIN", "ModelView", "Row", "by_label", "label", "told"]

Row = tuple[str, str]
"""A group of models and a method."""

JOIN = ": "
"""Text between group and method in the name of a row."""


@dataclass(frozen=True, eq=False, repr=False)
class ModelView(View):
    """The table of several models; its methods are rows, its notes those of all models.

    Args:
        rows (sequence of Row): group and method of each row. Default: none
        views (mapping): the view of each model. Default: none
        members (mapping): the models of each group. Default: none
        remarks (sequence of str): what the models do not share. Default: none
        baselines (sequence of str): rows that others are compared with. Default: none
        failing_on (mapping): the models on which a metric fails, by metric. Default: none
    """

    rows: Sequence[Row] = ()
    views: Mapping[str, View] = field(default_factory=dict)
    members: Mapping[str, Sequence[str]] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    baselines: Sequence[str] = ()
    failing_on: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def failing(self) -> list[str]:
        """Names of the metrics that fail on a model, grouped by category; they are left out of the mean rank."""
        # On any of them: a mean rank over other metrics in each row would not compare.
        return [name for name in self.grouped if name in self.failing_on]

    def head(self, metric: str) -> str:
        """Return the title of a metric for the head of a table, marked if the metric fails on a model."""
        count, total = len(self.failing_on.get(metric, ())), len(self.views)
        mark = " (fails)" if count == total else f" (fails on {count} of {total})" if count else ""
        return one_line(self.titles[metric]) + mark

    def on_failing(self) -> list[str]:
        """Return a sentence for each metric that fails on a model, and on what they are left out of."""
        named_on = {one_line(self.titles[name]): listed(self.failing_on[name], NAME) for name in self.failing}
        found = [f"{title} fails as a metric on {models}." for title, models in named_on.items()]
        rank = (
            "metrics that fail on a model are left out of the mean rank"
            if self.trusted
            else "no metric is left for a mean rank"
        )
        return found + [f"{rank}; the table of each model says why they fail."] * bool(found)

    def columns(self, method: str) -> dict[str, str]:
        """Return group and method of a row, each for a column of its own."""
        return dict(zip(("group", "method"), self.rows[list(self.methods).index(method)], strict=True))

    def kinds(self, method: str) -> list[str]:
        """Return the roles of a row; with a group as the baseline, all its rows are baselines."""
        return ["control"] * (method in self.controls) + ["baseline"] * (method in self.baselines)

    def notes(self, marks: Mapping[int, str] = MARKS) -> list[str]:
        """Return the notes below the table: what the intervals cover, then those on every model, and on the marks."""
        return [
            *self._on_intervals(),
            *self._of_models(lambda view: list(view._on_samples())[:1], "each model: "),
            *self._of_models(lambda view: list(view._on_samples())[1:]),
            *self.remarks,
            *self._on_marks(marks),
            *self.on_failing(),
            *self.on_describing(),
            *self._on_networks(),
            *self._of_models(View.on_same_maps),
            *self._on_undefined(),
            *self._of_models(View._on_failures),
        ]

    def _on_intervals(self) -> Iterator[str]:
        several = [f"{one_line(group)} ({len(models)} models)" for group, models in self.members.items() if len(models) > 1]
        single = [one_line(group) for group, models in self.members.items() if len(models) == 1]
        if several:
            yield f"95 % intervals of {', '.join(several)}: over models and images, so that they cover another training."
        if single:
            one = "one model" if len(single) == 1 else "one model each"
            yield f"95 % intervals of {', '.join(single)} ({one}): over images; they do not cover another training."
        if len(self.members) > 1:
            yield "mean rank and best means: among the methods of the same model."

    def _on_networks(self) -> Iterator[str]:
        read = [one_line(self.titles[name]) for name, entry in self.metrics.items() if entry.get("forwards")]
        if read and len(self.members) > 1:
            yield (
                f"scores of the network as well as of the map, because the network runs for them: {', '.join(read)}; "
                "compare these between the methods of one model."
            )

    def _of_models(self, sentences: Callable[[View], Iterable[str]], every: str = "") -> Iterator[str]:
        return told({model: sentences(view) for model, view in self.views.items()}, every)


def told(sentences: Mapping[str, Iterable[str]], every: str = "") -> Iterator[str]:
    """Yield each sentence after the names of the models that it is about; after ``every`` if these are all of them."""
    found: dict[str, list[str]] = {}
    for model, notes in sentences.items():
        for sentence in notes:
            found.setdefault(sentence, []).append(one_line(model))
    for sentence, models in found.items():
        yield f"{every if len(models) == len(sentences) else ', '.join(models) + JOIN}{sentence}"


def label(row: Row) -> str:
    """Return the name of a row, such as ``"seeds: grad_cam"``."""
    return JOIN.join(row)


def by_label(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose index begins with group and method with one that begins with the name of their row."""
    keys = [(label((key[0], key[1])), *key[2:]) for key in table.index]
    names = ["method", *table.index.names[2:]]
    single = pd.Index([key[0] for key in keys], name="method")
    return table.set_axis(pd.MultiIndex.from_tuples(keys, names=names) if len(names) > 1 else single)
