"""Tables for the terminal: comparisons, metrics and layers."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from captum_softcam._files import replacing, write_text
from captum_softcam._names import closest, degrading, named, quoted, shown
from captum_softcam.metrics import METRICS, VERDICTS, Metric, Verdict

if TYPE_CHECKING:  # so that `captum-softcam metrics` loads neither torch nor pandas
    from captum_softcam.attr import LayerChoice
    from captum_softcam.evaluation import Comparison
    from captum_softcam.evaluation.view import Adjust, Cell

__all__ = [
    "make_layer_table",
    "make_metric_table",
    "make_table",
    "make_verdict_table",
    "print_metrics",
    "print_table",
    "table_notes",
    "write_pictures",
]

_COLUMN = 19  # characters of a column: the interval "[-0.456, -0.123]" and the lines around it
_ROWS = 4  # samples in the panel
_LEGEND = "* default in a comparison; ↑ higher is better, ↓ lower; cost per image and method"
_WIDE = 165  # characters that the widest row needs
_NOTES = (
    "reads: of the model, the probability of the class, its logit, or whether it is predicted; scores= says what they are.",
    "corrected: Quantus has the metric and computes it wrongly; see the table above.",
    "Quantus' robustness and randomisation metrics take a LayerExplainFunc as explain_func.",
)
_NARROW = {"metric": 30, "": 1, "cost": 12, "origin": 9, "source": 12}  # 80 characters with the lines between the columns


def make_table(
    comparison: Comparison,
    metrics: Sequence[str] | None = None,
    baseline: str | None = None,
    *,
    adjust: Adjust = "holm",
) -> Table:
    """Build a table for the terminal, with means above their 95 % intervals and the best of each column starred and bold.

    Arrows in the header show whether higher or lower is better. ▲ and ▼ mark methods that are better or worse than the
    baseline, as in :meth:`Comparison.differences`. The last column has the run time relative to a plain forward pass,
    above forwards + backwards per image.

    Args:
        comparison (Comparison): the comparison to show.
        metrics (sequence of str): names of the metrics to show. Default: all metrics of the comparison
        baseline (str): the method that the others are compared with. Default: the comparison's baseline
        adjust (str): adjustment of the marks for their number, ``"holm"`` or ``"none"``. Default: ``"holm"``

    Returns:
        rich.table.Table: one row per method; print it with a ``rich.console.Console``.

    Raises:
        ValueError: if the comparison does not have the baseline or a metric.
    """
    metrics = comparison.metrics if metrics is None else metrics
    for name in metrics:
        if name not in comparison.metrics:
            raise ValueError(f"the metric {quoted(name)} is not in this comparison. {closest(name, comparison.metrics)}")
    view = comparison.view(baseline, adjust=adjust)
    table = Table(show_lines=True, title="mean and 95 % interval; ↑ higher is better, ↓ lower; * best")
    table.add_column("method", no_wrap=True)
    for name in metrics:
        # Text, because Rich reads square brackets in a str as markup: it drops "[red]" and raises MarkupError for "[/b]".
        head = Text(f"{named(view.titles[name])} {'↑' if view.higher_is_better(name) else '↓'}")
        # Of fixed width, so that the number of columns that fit is known before a table is made.
        table.add_column(head, justify="center", min_width=16, max_width=16)
    table.add_column("cost\npasses", justify="right")
    for method in view.methods:
        row = [_cell(view.cells[method, metric]) for metric in metrics]
        label = [named(method), *(f"({kind})" for kind in view.kinds(method))]
        table.add_row(Text("\n".join(label)), *row, f"{view.cost_text(method)}\n{view.passes(method)}")
    return table


def _cell(cell: Cell) -> Text:
    if not cell.count:
        return Text("undefined")
    text = Text(cell.text + "*" if cell.best else cell.text, style="bold" if cell.best else "")
    return text.append(f" {cell.mark}" if cell.mark else "").append(f"\n{cell.interval}", style="not bold")


def table_notes(comparison: Comparison, baseline: str | None = None, *, adjust: Adjust = "holm") -> list[str]:
    """Return the notes below the table: number of samples, meaning of the marks, undefined scores, errors.

    Args:
        comparison (Comparison): the comparison to describe.
        baseline (str): the method that the marks refer to. Default: the comparison's baseline
        adjust (str): adjustment of the marks for their number, ``"holm"`` or ``"none"``. Default: ``"holm"``

    Returns:
        list of str: one sentence per note, in plain text.

    Raises:
        ValueError: if the baseline is not among the methods.
    """
    return comparison.view(baseline, adjust=adjust).notes()


def print_table(comparison: Comparison, console: Console | None = None, *, adjust: Adjust = "holm") -> None:
    """Print the table and its notes, split into several tables on a narrow terminal.

    Args:
        comparison (Comparison): the comparison to print.
        console (rich.console.Console): the console to print to. Default: standard output
        adjust (str): adjustment of the marks for their number, ``"holm"`` or ``"none"``. Default: ``"holm"``
    """
    with degrading(sys.stdout):
        _print_table(comparison, console or Console(), adjust)


def _print_table(comparison: Comparison, console: Console, adjust: Adjust) -> None:
    if not console.is_terminal:  # a file or a pipe takes lines of any length
        console.width = max(console.width, _width(len(comparison.metrics)))
    columns = max(1, (console.width - _width(0)) // _COLUMN)
    for start in range(0, len(comparison.metrics), columns):
        console.print(make_table(comparison, comparison.metrics[start : start + columns], adjust=adjust))
    for note in table_notes(comparison, adjust=adjust):
        # Notes quote errors and names, whose brackets are not markup.
        console.print(note, highlight=False, markup=False)


def _width(metrics: int) -> int:
    """Return the characters that a table of so many metrics takes."""
    return 37 + _COLUMN * metrics  # 37: the longest name of a method, the cost, and the lines around them


def write_pictures(
    comparison: Comparison, folder: Path, classes: Sequence[str] | None = None, *, adjust: Adjust = "holm"
) -> None:
    """Write ``table.txt`` and, if there are examples, ``panel.png`` into the folder of a saved comparison.

    Args:
        comparison (Comparison): the comparison to show; the panel has its first four examples.
        folder (Path): an existing folder; files of these names are replaced.
        classes (sequence of str): class names for the panel. Default: the class numbers
        adjust (str): adjustment of the marks for their number, ``"holm"`` or ``"none"``. Default: ``"holm"``

    Raises:
        OSError: if the folder cannot be written to.
    """
    table = io.StringIO()
    # By default Rich writes escape sequences into a file, too, if FORCE_COLOR or TTY_COMPATIBLE is set.
    console = Console(file=table, force_terminal=False, width=_width(len(comparison.metrics)))
    print_table(comparison, console, adjust=adjust)
    write_text(folder / "table.txt", table.getvalue())
    if comparison.examples:
        from captum_softcam.report.panels import plot_panel

        figure = plot_panel(comparison.examples[:_ROWS], classes)
        with replacing(folder / "panel.png") as file:
            figure.savefig(file, dpi=150, format="png")


def make_metric_table(*, narrow: bool = False) -> Table:
    """Build a table of the metrics for the terminal, with the default metrics of a comparison starred and bold.

    Args:
        narrow (bool): put settings below the names, and categories between the rows as headings. Default: False

    Returns:
        rich.table.Table: one row per metric; print it with a ``rich.console.Console``.
    """
    table = Table(title=_LEGEND.replace("; ", "\n") if narrow else _LEGEND)
    for name in _NARROW if narrow else ("metric", "category", "", "reads", "cost", "settings", "origin", "source"):
        table.add_column(name, max_width=_NARROW[name] if narrow else None)
    category = ""
    for metric in METRICS.values():
        if category != metric.category:
            table.add_section()
            if narrow:
                table.add_row(Text(metric.category, style="italic"))
            category = metric.category
        table.add_row(*(_narrow_row(metric) if narrow else _wide_row(metric)), style="bold" if metric.default else "")
    return table


def _wide_row(metric: Metric) -> list[str]:
    return [_name(metric), metric.category, _arrow(metric), metric.reads, metric.cost, _settings(metric), *_whence(metric)]


def _narrow_row(metric: Metric) -> list[str | Text]:
    below = f"\n  reads the {metric.reads}" + "".join(f"\n  {name}={value}" for name, value in metric.settings.items())
    return [Text(_name(metric)).append(below, style="not bold"), _arrow(metric), metric.cost, *_whence(metric)]


def _name(metric: Metric) -> str:
    return metric.name + "*" if metric.default else metric.name


def _arrow(metric: Metric) -> str:
    return "↑" if metric.higher_is_better else "↓"


def _settings(metric: Metric) -> str:
    return ", ".join(f"{name}={value}" for name, value in metric.settings.items())


def _whence(metric: Metric) -> list[str]:
    """Return origin and source, with the citation key ``petsiuk2018rise`` written as "Petsiuk 2018"."""
    name, year = re.match(r"([a-z]+)(\d+)", metric.source).groups()  # type: ignore[union-attr]  # all keys have this form
    return [metric.origin, f"{name.title()} {year}"]


def make_verdict_table(*, narrow: bool = False) -> Table:
    """Build a table for the terminal that says of each Quantus metric whether it runs here, and why not.

    Args:
        narrow (bool): put everything but the reason into one column. Default: False

    Returns:
        rich.table.Table: one row per Quantus metric; print it with a ``rich.console.Console``.
    """
    table = Table(title="Faithfulness and localisation in Quantus 0.6", show_lines=narrow)
    table.add_column("Quantus", no_wrap=True)
    for name in [] if narrow else ["verdict", "use"]:
        table.add_column(name, no_wrap=True)
    table.add_column("reason")
    for verdict in VERDICTS.values():
        words = _words(verdict)
        table.add_row(*([Text("\n").join(filter(None, words))] if narrow else words), verdict.reason)
    return table


def _words(verdict: Verdict) -> list[Text]:
    styles = {"runs": "green", "corrected": "yellow", "refused": "red"}
    return [Text(verdict.name), Text(verdict.verdict, styles[verdict.verdict]), Text(verdict.instead or "")]


def print_metrics(console: Console | None = None) -> None:
    """Print the tables of metrics and verdicts, with fewer columns on a narrow terminal.

    Args:
        console (rich.console.Console): the console to print to. Default: standard output
    """
    with degrading(sys.stdout):
        _print_metrics(console or Console())


def _print_metrics(console: Console) -> None:
    if not console.is_terminal:
        console.width = max(console.width, 2 * _WIDE)
    narrow = console.width < _WIDE
    console.print(make_metric_table(narrow=narrow))
    console.print(make_verdict_table(narrow=narrow))
    for note in _NOTES:
        console.print(note, highlight=False)


def make_layer_table(choices: Sequence[LayerChoice]) -> Table:
    """Build a table of layers for the terminal, with the recommended one starred and bold.

    Args:
        choices (sequence of LayerChoice): the result of :func:`~captum_softcam.attr.suggest_layers`.

    Returns:
        rich.table.Table: one row per layer; print it with a ``rich.console.Console``.
    """
    table = Table(title="* recommended; passes: runs of the tail that Recipro-CAM needs, 0 if one forward pass is enough")
    table.add_column("layer", overflow="fold")
    for name in ("shape", "grid", "stride", "passes"):
        table.add_column(name, justify="right")
    table.add_column("reason")
    for choice in choices:
        grid, shape = (" x ".join(map(str, sizes)) for sizes in (choice.grid, choice.shape))
        stride = " x ".join(f"{side:g}" for side in choice.stride) if choice.stride else ""
        style = "bold" if choice.recommended else ""
        name = shown(choice.name) + ("*" if choice.recommended else "")
        table.add_row(Text(name), shape, grid, stride, str(choice.passes), Text(shown(choice.reason)), style=style)
    return table
