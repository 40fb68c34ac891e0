"""The table of a comparison and its notes in Markdown, LaTeX, HTML and CSV."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from markupsafe import Markup

from captum_softcam._tables import Row, csv_table, escape_markdown, html_table, markdown_table
from captum_softcam.evaluation.view import Cell, View, one_line

__all__ = ["to_csv", "to_html", "to_latex", "to_markdown"]

_PLAIN_MARKS = {1: "+", -1: "-"}  # because pdflatex lacks the triangles
_VERDICTS = {1: "better", -1: "worse", 0: ""}
_COSTS = ("relative", "forwards", "backwards", "seconds", "peak_bytes")
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


def to_markdown(view: View) -> str:
    """Format a table in GitHub's Markdown, with the notes as a list below it."""
    head, *rows = _grid(view, _markdown_cell, escape_markdown, ("↓", "↑"))
    rule = ["---", *[":---:"] * len(view.metrics), *["---:"] * (len(head) - 1 - len(view.metrics))]
    notes = (f"- {escape_markdown(note)}\n" for note in view.notes())
    return "".join([markdown_table(head, rows, rule), "\n", *notes])


def to_latex(view: View) -> str:
    """Format a ``tabular`` with the rules of booktabs, with the notes as a paragraph below it."""
    head, *rows = _grid(view, _latex_cell, _escape_latex, (r"$\downarrow$", r"$\uparrow$"))
    columns = "l" + "c" * len(view.metrics) + "r" * (len(head) - 1 - len(view.metrics))
    body = [f"{' & '.join(row)} \\\\" for row in (head, *rows)]
    table = [r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule"]
    below = " ".join(map(_escape_latex, view.notes(_PLAIN_MARKS)))
    lines = ["% needs \\usepackage{booktabs}", f"\\begin{{tabular}}{{{columns}}}", *table, r"\end{tabular}", ""]
    return "\n".join([*lines, f"{{\\footnotesize {below}\\par}}"]) + "\n"


def to_html(view: View) -> str:
    """Format a table in HTML for a notebook: metrics by category, the best mean of each in bold, notes in small print."""
    higher = {name: "↑ higher" if view.higher_is_better(name) else "↓ lower" for name in view.metrics}
    columns = [Markup("{} <small>{}</small>").format(view.head(name), higher[name]) for name in view.grouped]
    small = Markup("{} <small>{}</small>").format
    head = ["method", *columns, small("mean rank", "1 is best"), small("cost", "in forwards")]
    members = itertools.groupby(view.grouped, view.categories.__getitem__)
    groups = [("", 1), *((one_line(category), len(list(names))) for category, names in members), ("overall", 2)]
    return html_table(head, (_html_row(view, method) for method in view.methods), groups=groups, notes=view.notes())


def to_csv(view: View) -> str:
    """Format a row for each method and metric: all that the table shows, with every digit; empty where it is unknown."""
    rows = [_record(view, method, metric) for method in view.methods for metric in view.metrics]
    return csv_table(list(rows[0]) if rows else [], [list(row.values()) for row in rows])


def _grid(
    view: View, show: Callable[[Cell], str], escape: Callable[[str], str], arrows: Sequence[str]
) -> Iterator[list[str]]:
    """Yield the header, then a row for each method; ``arrows`` are for metrics where lower and where higher is better."""
    columns = [f"{escape(view.head(name))} {arrows[view.higher_is_better(name)]}" for name in view.metrics]
    yield ["method", *columns, "mean rank", "cost", "passes"]
    for method in view.methods:
        kinds, rank = view.kinds(method), view.mean_rank(method)
        label = f"{escape(one_line(method))} ({', '.join(kinds)})" if kinds else escape(one_line(method))
        row = [show(view.cells[method, metric]) for metric in view.metrics]
        yield [label, *row, "" if math.isnan(rank) else f"{rank:.1f}", view.cost_text(method), view.passes(method)]


def _markdown_cell(cell: Cell) -> str:
    if not cell.count:
        return "undefined"
    mean = f"**{cell.text}**" if cell.best else cell.text
    return f"{mean} {cell.interval} {cell.mark}".strip()


def _latex_cell(cell: Cell) -> str:
    if not cell.count:
        return "undefined"
    mean = f"\\mathbf{{{cell.text}}}" if cell.best else cell.text
    mark = f"^{{{_PLAIN_MARKS[cell.better]}}}" if cell.better else ""
    return f"${mean}{mark}$ {{\\scriptsize ${cell.interval}$}}"


def _html_row(view: View, method: str) -> Row:
    kinds, rank = view.kinds(method), view.mean_rank(method)
    label = Markup("{} <small>{}</small>").format(one_line(method), ", ".join(kinds)) if kinds else one_line(method)
    cells = [_html_cell(view.cells[method, metric]) for metric in view.grouped]
    cost = Markup("{} <small>{}</small>").format(view.cost_text(method), view.passes(method))
    overall = ["" if math.isnan(rank) else f"{rank:.1f}", cost]
    return "control" if method in view.controls else "", [label, *cells, *overall]


def _html_cell(cell: Cell) -> str:
    if not cell.count:
        return "undefined"
    mean = Markup("<b>{}</b>" if cell.best else "{}").format(cell.text)
    mark = Markup('<span class="{}">{}</span> ').format(_VERDICTS[cell.better], cell.mark) if cell.mark else ""
    return Markup("{}{} <small>{}</small>").format(mark, mean, cell.interval)


def _record(view: View, method: str, metric: str) -> dict[str, Any]:
    """Return a row of the CSV."""
    cell = view.cells[method, metric]
    pair = cell.difference
    values = {
        **{name: getattr(cell, name) for name in ("mean", "low", "high", "count", "undefined", "failed")},
        "best": int(cell.best),
        **{f"difference_{name}": getattr(pair, name) if pair else math.nan for name in ("mean", "low", "high")},
        "verdict": _VERDICTS[cell.better],
        "mean_rank": view.mean_rank(method),
        **{f"cost_{name}": view.cost(method, name) for name in _COSTS},
    }
    kinds = {"role": " ".join(view.kinds(method)), "metric": metric, "title": view.titles[metric]}
    direction = {"category": view.categories[metric], "higher_is_better": int(view.higher_is_better(metric))}
    # Empty, because a spreadsheet reads "nan" as text.
    numbers = {key: "" if value != value else value for key, value in values.items()}
    return {**view.columns(method), **kinds, **direction, **numbers}


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))
