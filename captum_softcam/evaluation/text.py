"""The table of a comparison and its notes in Markdown and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence

from captum_softcam.evaluation.view import Cell, View, one_line

__all__ = ["to_latex", "to_markdown"]

_PLAIN_MARKS = {1: "+", -1: "-"}  # because pdflatex lacks the triangles
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
    head, *rows = _grid(view, _markdown_cell, _escape_markdown, ("↓", "↑"))
    rule = ["---", *[":---:"] * len(view.metrics), *["---:"] * (len(head) - 1 - len(view.metrics))]
    lines = [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
    return "\n".join([*lines, "", *(f"- {_escape_markdown(note)}" for note in view.notes())]) + "\n"


def to_latex(view: View) -> str:
    """Format a ``tabular`` with the rules of booktabs, with the notes as a paragraph below it."""
    head, *rows = _grid(view, _latex_cell, _escape_latex, (r"$\downarrow$", r"$\uparrow$"))
    columns = "l" + "c" * len(view.metrics) + "r" * (len(head) - 1 - len(view.metrics))
    body = [f"{' & '.join(row)} \\\\" for row in (head, *rows)]
    table = [r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule"]
    below = " ".join(map(_escape_latex, view.notes(_PLAIN_MARKS)))
    lines = ["% needs \\usepackage{booktabs}", f"\\begin{{tabular}}{{{columns}}}", *table, r"\end{tabular}", ""]
    return "\n".join([*lines, f"{{\\footnotesize {below}\\par}}"]) + "\n"


def _grid(
    view: View, show: Callable[[Cell], str], escape: Callable[[str], str], arrows: Sequence[str]
) -> Iterator[list[str]]:
    """Yield the header, then a row for each method; ``arrows`` are for metrics where lower and where higher is better."""
    columns = [f"{escape(one_line(title))} {arrows[view.higher_is_better(name)]}" for name, title in view.titles.items()]
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


def _escape_markdown(text: str) -> str:
    # In one pass, so that no backslash that was added is escaped again.
    text = re.sub(r"([\\`*\[\]<>|&~$#])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", text)  # an underscore within a word is not emphasis


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))
