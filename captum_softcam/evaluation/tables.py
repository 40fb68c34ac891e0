"""A comparison in words: what stands in a cell, what a reader has to know, and both in Markdown and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from captum_softcam._names import named, shown
from captum_softcam.evaluation.statistics import MIN_PAIRS

if TYPE_CHECKING:
    from captum_softcam.evaluation.comparison import Comparison

__all__ = ["MARKS", "Cell", "cells", "cost", "kinds", "notes", "passes", "to_latex", "to_markdown"]

MARKS = {1: "▲", -1: "▼"}
"""What stands beside a mean that is better, or worse, than the baseline's."""

_PLAIN_MARKS = {1: "+", -1: "-"}
_ERROR = 200  # characters of an error that a note shows
_LATEX = {
    **{sign: f"\\{sign}" for sign in "{}$&#_%"},
    **{sign: f"{{{sign}}}" for sign in "[*"},  # would be read as an option of the line break before
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


@dataclass(frozen=True)
class Cell:
    """A mean with its interval as text; both empty where no score is defined.

    Args:
        mean (str): the mean.
        interval (str): its interval in brackets.
        best (bool): whether no other mean of the metric is better.
        better (int): 1 or -1 where it is better or worse than the baseline's, else 0.
    """

    mean: str
    interval: str
    best: bool
    better: int


def cells(comparison: Comparison, baseline: str) -> dict[Any, Cell]:
    """The cells by method and metric."""
    better = comparison.differences(baseline)["better"].to_dict()
    places = comparison.decimals
    rows = comparison.summary().to_dict("index")
    return {key: _cell(row, places[key[1]], int(better.get(key, 0))) for key, row in rows.items()}  # type: ignore[index]


def _cell(row: dict[Any, Any], places: int, better: int) -> Cell:
    if not row["count"]:
        return Cell("", "", False, 0)
    mean, low, high = (_score(row[key], places) for key in ("mean", "low", "high"))
    return Cell(mean, f"[{low}, {high}]", bool(row["best"]), better)


def _score(value: float, places: int) -> str:
    return f"{round(value, places) + 0.0:.{places}f}" if places <= 6 else f"{value:.2e}"  # + 0.0: no -0.000


def cost(comparison: Comparison, method: str) -> str:
    """The time of a method in units of a plain forward; empty where it is not known."""
    value = _known_cost(comparison, method, "relative")
    return "" if value is None else f"{value:.1f}"


def passes(comparison: Comparison, method: str) -> str:
    """Forwards + backwards per image; empty where they are not known."""
    counts = [_known_cost(comparison, method, name) for name in ("forwards", "backwards")]
    return " + ".join(f"{count:.1f}".removesuffix(".0") for count in counts if count is not None)


def _known_cost(comparison: Comparison, method: str, name: str) -> float | None:
    value = float(comparison.costs[name].get(method, math.nan)) if name in comparison.costs else math.nan
    return None if math.isnan(value) else value


def kinds(comparison: Comparison, method: str, baseline: str) -> list[str]:
    """What is said of a method in brackets: a control, the baseline of others."""
    compared = method == baseline and len(comparison.methods) > 1
    return ["control"] * (method in comparison.controls) + ["baseline"] * compared


def notes(comparison: Comparison, baseline: str, marks: dict[int, str] = MARKS) -> list[str]:
    """What a reader of the table has to know: samples behind it, what the marks mean, what is undefined, what failed.

    Args:
        comparison (Comparison): what is shown.
        baseline (str): what the marks refer to.
        marks (dict): the marks for 1 and -1. Default: ▲ and ▼
    """
    texts = [*_on_samples(comparison), *_on_marks(comparison, baseline, marks)]
    return [*texts, *_on_undefined(comparison), *_on_failures(comparison)]


def _on_samples(comparison: Comparison) -> Iterator[str]:
    samples = comparison.scores.drop_duplicates("sample")
    total, right = len(samples), int((samples["label"] == samples["prediction"]).sum())
    yield f"{total} samples, {right} of them predicted right."
    masked = comparison.manifest.get("samples_with_mask", total)
    if comparison.localises and masked < total:
        yield f"localisation: over the {masked} samples that have a mask."


def _on_marks(comparison: Comparison, baseline: str, marks: dict[int, str]) -> Iterator[str]:
    if len(comparison.methods) > 1:
        yield (
            f"{marks[1]} better, {marks[-1]} worse than {_named(baseline)}: the 95 % interval of the paired difference "
            f"leaves out 0 (at least {MIN_PAIRS} pairs)."
        )
    if any(cost(comparison, method) for method in comparison.methods):
        yield "cost: time of the method over time of a plain forward of the same images."
    if any(passes(comparison, method) for method in comparison.methods):
        yield "passes: forwards + backwards per image."


def _on_undefined(comparison: Comparison) -> Iterator[str]:
    rows: dict[Any, Any] = comparison.summary().to_dict("index")
    for (method, metric), row in rows.items():
        undefined = row["undefined"] - row["failed"]
        if undefined:
            total = row["undefined"] + row["count"]
            yield f"{_named(method)}, {_named(metric)}: {undefined} of {total} scores are undefined (NaN)."


def _on_failures(comparison: Comparison) -> Iterator[str]:
    failures = comparison.failures.fillna({"metric": ""})
    total = len(comparison.samples)
    for names, group in failures.groupby(["method", "metric"], sort=False):
        where = ", ".join(_named(name) for name in names if name != "")
        errors = group["error"].value_counts()
        more = f" (and other errors: {len(errors) - 1})" if len(errors) > 1 else ""
        yield f"{where}: failed on {group['sample'].nunique()} of {total} samples: {_short(str(errors.index[0]))}{more}"


def _named(name: Any) -> str:
    return named(" ".join(str(name).split()))


def _short(text: str) -> str:
    return shown(" ".join(text.split()), _ERROR)


def to_markdown(comparison: Comparison, baseline: str) -> str:
    """A table of GitHub's Markdown, and the notes below it."""
    head, *rows = _grid(comparison, baseline, _markdown_cell, _escape_markdown, ("↑", "↓"))
    rule = ["---", *[":---:"] * len(comparison.metrics), *["---:"] * (len(head) - 1 - len(comparison.metrics))]
    lines = [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
    return "\n".join([*lines, "", *(f"- {_escape_markdown(note)}" for note in notes(comparison, baseline))]) + "\n"


def to_latex(comparison: Comparison, baseline: str) -> str:
    """A ``tabular`` with the rules of booktabs, and the notes below it."""
    head, *rows = _grid(comparison, baseline, _latex_cell, _escape_latex, (r"$\uparrow$", r"$\downarrow$"))
    columns = "l" + "c" * len(comparison.metrics) + "r" * (len(head) - 1 - len(comparison.metrics))
    body = [f"{' & '.join(row)} \\\\" for row in (head, *rows)]
    table = [r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule"]
    below = " ".join(_escape_latex(note) for note in notes(comparison, baseline, _PLAIN_MARKS))
    lines = ["% needs \\usepackage{booktabs}", f"\\begin{{tabular}}{{{columns}}}", *table, r"\end{tabular}", ""]
    return "\n".join([*lines, f"{{\\footnotesize {below}\\par}}"]) + "\n"


def _grid(
    comparison: Comparison,
    baseline: str,
    show: Callable[[Cell], str],
    escape: Callable[[str], str],
    arrows: Sequence[str],
) -> Iterator[list[str]]:
    """The head, then a row per method."""
    directions, ranks, found = comparison.directions, comparison.ranks()["mean_rank"], cells(comparison, baseline)
    columns = [f"{escape(_named(title))} {arrows[directions[name] < 0]}" for name, title in comparison.titles.items()]
    yield ["method", *columns, "mean rank", "cost", "passes"]
    for method in comparison.methods:
        named = kinds(comparison, method, baseline)
        name = escape(_named(method))
        label = f"{name} ({', '.join(named)})" if named else name
        rank = "" if pd.isna(ranks[method]) else f"{ranks[method]:.1f}"
        row = [show(found[method, metric]) for metric in comparison.metrics]
        yield [label, *row, rank, cost(comparison, method), passes(comparison, method)]


def _markdown_cell(cell: Cell) -> str:
    mean = f"**{cell.mean}**" if cell.best else cell.mean
    return f"{mean} {cell.interval} {MARKS.get(cell.better, '')}".strip() if cell.mean else "undefined"


def _latex_cell(cell: Cell) -> str:
    if not cell.mean:
        return "undefined"
    mean = f"\\mathbf{{{cell.mean}}}" if cell.best else cell.mean
    mark = f"^{{{_PLAIN_MARKS[cell.better]}}}" if cell.better else ""
    return f"${mean}{mark}$ {{\\scriptsize ${cell.interval}$}}"


def _escape_markdown(text: str) -> str:
    """No sign of the text is read as Markdown or HTML; an underscore within a word is none."""
    text = re.sub(r"([\\`*\[\]<>|&~$#])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", text)


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))
