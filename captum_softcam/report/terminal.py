"""Tables for the terminal, and as Markdown and CSV for a pipe: comparisons, metrics and layers."""

from __future__ import annotations

import io
import math
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from captum_softcam._files import replacing, write_text
from captum_softcam._names import closest, degrading, named, quoted, shown
from captum_softcam._tables import csv_table, escape_markdown, markdown_table
from captum_softcam.metrics import METRICS, VERDICTS, Metric, Verdict

if TYPE_CHECKING:  # so that `captum-softcam metrics` loads neither torch nor pandas
    from captum_softcam.attr import LayerChoice
    from captum_softcam.evaluation import Comparison, ModelComparison
    from captum_softcam.evaluation.view import Adjust, Cell, View

__all__ = [
    "FORMATS",
    "make_health_table",
    "make_layer_table",
    "make_metric_table",
    "make_table",
    "make_verdict_table",
    "print_layers",
    "print_metrics",
    "print_table",
    "table_notes",
    "write_pictures",
]

FORMATS = ("text", "markdown", "csv")
"""Formats of a table; text fits the terminal, Markdown and CSV are for files and pipes."""

_FILE = 80  # characters of a line in a file or a pipe
_WIDTH = 16  # characters of a column: the interval "[-0.456, -0.123]", and lines of the metric's title
_LONGEST = 24  # characters of a line of a method's name
_TITLE = "mean and 95 % interval; ↑ higher is better, ↓ lower; * best"
_LOOK: dict[str, Any] = {
    "box": box.SIMPLE_HEAD,
    "show_edge": False,
    "pad_edge": False,
    "padding": (0, 1, 0, 0),
    "title_justify": "left",
}
_HEALTH = "health of the metrics, with 95 % intervals; agreement: Kendall's tau with the other metrics"
_VERDICT_STYLES = {"works": "green", "fails": "bold red", "cannot be told": "yellow", "describes": "default"}
_ROWS = 4  # samples in the panel
_LEGEND = "* default in a comparison; ↑ higher is better, ↓ lower; cost per image and method"
_WIDE = 165  # characters that the widest row needs
_NOTES = (
    "reads: of the model, the probability of the class, its logit, or whether it is predicted; scores= says what they are.",
    "corrected: Quantus has the metric and computes it wrongly; see the table above.",
    "Any metric of Quantus is a column, too: --metrics quantus:MaxSensitivity, or an instance in Python; the default has "
    "quantus:Complexity.",
)
_METRIC_COLUMNS = ("metric", "category", "better", "reads", "cost", "settings", "origin", "source")


def make_table(
    comparison: Comparison,
    metrics: Sequence[str] | None = None,
    baseline: str | None = None,
    *,
    adjust: Adjust = "holm",
) -> Table:
    """Build a table for the terminal, with means above their 95 % intervals and the best of each column starred and bold.

    Arrows in the header show whether higher or lower is better. ▲ and ▼ mark methods that are better or worse than the
    baseline, as in :meth:`~captum_softcam.evaluation.Comparison.differences`. The last column has the run time relative to
    a plain forward pass, above forwards + backwards per image.

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
    return _assembled(view, [*(_metric_column(view, name) for name in metrics), *_overall(view)])


@dataclass(frozen=True)
class _Column:
    """A column of the table of scores: its heading and the cells of the methods."""

    head: str
    cells: Sequence[Text]
    justify: Literal["center", "right"] = "center"


def _metric_column(view: View, metric: str) -> _Column:
    # Wrapped here, because Rich would put the arrow alone on the last line.
    title = "\n".join(textwrap.wrap(named(view.head(metric)), _WIDTH - 2))
    head = f"{title} {'↑' if view.higher_is_better(metric) else '↓'}"
    return _Column(head, [_cell(view.cells[method, metric]) for method in view.methods])


def _cell(cell: Cell) -> Text:
    if not cell.count:
        return Text("undefined")
    text = Text(cell.text + "*" if cell.best else cell.text, style="bold" if cell.best else "")
    return text.append(f" {cell.mark}" if cell.mark else "").append(f"\n{cell.interval}", style="not bold")


def _overall(view: View) -> Iterator[_Column]:
    ranks = map(view.mean_rank, view.methods)
    yield _Column("mean\nrank", [Text("" if math.isnan(rank) else f"{rank:.1f}") for rank in ranks], "right")
    costs = [Text(f"{view.cost_text(method)}\n{view.passes(method)}") for method in view.methods]
    yield _Column("cost\npasses", costs, "right")


def _assembled(view: View, columns: Sequence[_Column], title: str = _TITLE) -> Table:
    """Return a table of these columns, after one of the names of the methods."""
    table = Table(**_LOOK, title=title)
    table.add_column("method", max_width=_LONGEST, overflow="fold")
    for column in columns:
        # Texts, because Rich reads square brackets in a str as markup: it drops "[red]" and raises MarkupError for "[/b]".
        table.add_column(Text(column.head), justify=column.justify, max_width=_WIDTH, overflow="fold", vertical="top")
    for place, method in enumerate(view.methods):
        label = Text("\n".join([named(method), *(f"({kind})" for kind in view.kinds(method))]))
        table.add_row(label, *(column.cells[place] for column in columns))
    return table


def _parts(view: View, columns: Sequence[_Column], console: Console) -> Iterator[Table]:
    """Yield tables that fit the console, each with as many columns as it has room for."""
    part: list[_Column] = []
    title = _TITLE
    unbounded = console.options.update(width=10**6)
    for column in columns:
        wider = Measurement.get(console, unbounded, _assembled(view, [*part, column], "")).maximum
        if part and wider > console.width:
            yield _assembled(view, part, title)
            part, title = [], ""
        part.append(column)
    yield _assembled(view, part, title)


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


def print_table(
    comparison: Comparison | ModelComparison, console: Console | None = None, form: str = "text", *, adjust: Adjust = "holm"
) -> None:
    """Print the table and its notes, in parts that fit the terminal, or 80 columns of a file or a pipe.

    Args:
        comparison (Comparison or ModelComparison): the comparison to print.
        console (rich.console.Console): the console to print to. Default: standard output
        form (str): one of :data:`FORMATS`; Markdown and CSV are never split. Default: ``"text"``
        adjust (str): adjustment of the marks for their number, ``"holm"`` or ``"none"``. Default: ``"holm"``
    """
    view = comparison.view(adjust=adjust)
    with degrading(sys.stdout):
        console = console or _console()
        if form != "text":
            _put(console, comparison.to_csv(adjust=adjust) if form == "csv" else comparison.to_markdown(adjust=adjust))
            return
        columns = [*(_metric_column(view, name) for name in view.metrics), *_overall(view)]
        for part in _parts(view, columns, console):
            console.print(part, "")
        _print_notes(console, view.notes())
        if view.health:  # a table of several models has none: the metrics of each model have a health of their own
            console.print("", make_health_table(view))


def make_health_table(view: View) -> Table:
    """Build a table for the terminal that says which metrics can be trusted, and why.

    Args:
        view (View): of a comparison.

    Returns:
        rich.table.Table: one row per metric; print it with a ``rich.console.Console``.
    """
    table = Table(**_LOOK, title=_HEALTH)
    for name, width in (("metric", _WIDTH), ("verdict", None), ("trained -\nrandom network", _WIDTH), ("agreement", _WIDTH)):
        table.add_column(name, max_width=width, overflow="fold")
    for name in view.grouped:
        found = view.health[name]
        verdict = Text(found.verdict, _VERDICT_STYLES[found.verdict]).append(f": {found.reason}", style="not bold default")
        measures = (found.random_network, view.decimals[name]), (found.agreement, 2)
        cells = [Text(each.text(places).replace(" [", "\n[")) for each, places in measures]
        table.add_row(Text(named(view.titles[name])), verdict, *cells)
    return table


def _console() -> Console:
    """Return a console for standard output: as wide as the terminal, or as ``COLUMNS`` says, or 80 columns."""
    console = Console()
    # A file is read elsewhere, on a screen of unknown width.
    if not (console.is_terminal or console.is_jupyter or "COLUMNS" in os.environ):
        console.width = min(console.width, _FILE)
    return console


def _print_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        # Notes quote errors and names, whose brackets are not markup. In a file each stays one line, for grep.
        console.print(note, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def _put(console: Console, text: str) -> None:
    """Print lines as they are, but for characters that act on a terminal."""
    console.out("\n".join(shown(line, sys.maxsize) for line in text.split("\n")), end="", highlight=False)


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
    print_table(comparison, Console(file=table, force_terminal=False, width=_FILE), adjust=adjust)
    # Rich fills lines up with spaces.
    write_text(folder / "table.txt", "".join(f"{line.rstrip()}\n" for line in table.getvalue().split("\n")[:-1]))
    if comparison.examples:
        from captum_softcam.report.panels import plot_panel

        figure = plot_panel(comparison.examples[:_ROWS], classes)
        with replacing(folder / "panel.png") as file:
            figure.savefig(file, dpi=150, format="png")


def make_metric_table(*, narrow: bool = False) -> Table:
    """Build a table of the metrics for the terminal, with the default metrics of a comparison starred and bold.

    Args:
        narrow (bool): put everything but the name into one column, and categories between the rows as headings. Default:
            False

    Returns:
        rich.table.Table: one row per metric; print it with a ``rich.console.Console``.
    """
    table = Table(title=_LEGEND, **_LOOK)
    for name in ("metric", "cost, what it reads, settings, source") if narrow else _METRIC_COLUMNS:
        table.add_column("" if name == "better" else name, overflow="fold")
    category = ""
    for metric in METRICS.values():
        if narrow and category != metric.category:
            table.add_section()
            table.add_row(Text(metric.category, style="italic"))
        category = metric.category
        table.add_row(*(_narrow_row(metric) if narrow else _wide_row(metric)), style="bold" if metric.default else "")
    return table


def _wide_row(metric: Metric) -> list[str]:
    settings = ", ".join(_settings(metric))
    return [_name(metric), metric.category, _arrow(metric), metric.reads, metric.cost, settings, *_whence(metric)]


def _narrow_row(metric: Metric) -> list[str | Text]:
    cost = "no forwards" if metric.cost == "none" else metric.cost
    about = ", ".join([cost, f"reads the {metric.reads}", *_settings(metric), *_whence(metric)])
    return [f"{_name(metric)} {_arrow(metric)}", Text(about, style="not bold")]


def _name(metric: Metric) -> str:
    return metric.name + "*" if metric.default else metric.name


def _arrow(metric: Metric) -> str:
    return "↑" if metric.higher_is_better else "↓"


def _settings(metric: Metric) -> list[str]:
    return [f"{name}={value}" for name, value in metric.settings.items()]


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
    table = Table(title="The metrics of Quantus 0.6", show_lines=narrow, **_LOOK)
    table.add_column("Quantus", no_wrap=True)
    for name in [] if narrow else ["verdict", "use"]:
        table.add_column(name, no_wrap=True)
    table.add_column("reason", overflow="fold")
    for verdict in VERDICTS.values():
        words = _words(verdict)
        table.add_row(*([Text("\n").join(filter(None, words))] if narrow else words), Text(verdict.text))
    return table


def _words(verdict: Verdict) -> list[Text]:
    styles = {"runs": "green", "corrected": "yellow", "refused": "red"}
    return [Text(verdict.name), Text(verdict.verdict, styles[verdict.verdict]), Text(verdict.instead or "")]


def print_metrics(console: Console | None = None, form: str = "text") -> None:
    """Print the tables of metrics and verdicts, with fewer columns on a narrow terminal, in a file or a pipe.

    Args:
        console (rich.console.Console): the console to print to. Default: standard output
        form (str): one of :data:`FORMATS`; as CSV, which has one table, the metrics alone. Default: ``"text"``
    """
    with degrading(sys.stdout):
        console = console or _console()
        if form == "text":
            narrow = console.width < _WIDE
            console.print(make_metric_table(narrow=narrow), "", make_verdict_table(narrow=narrow), "")
            _print_notes(console, _NOTES)
        else:
            _put(console, _metrics_as_csv() if form == "csv" else _metrics_as_markdown())


def _metrics_as_csv() -> str:
    """Return the metrics with what a comparison takes them for, in words and numbers."""
    head = ("metric", "title", "category", "higher_is_better", "default", "reads", "cost", "settings", "origin", "source")
    rows = [
        [
            *(metric.name, metric.title, metric.category, int(metric.higher_is_better), int(metric.default)),
            *(metric.reads, metric.cost, ", ".join(_settings(metric)), *_whence(metric)),
        ]
        for metric in METRICS.values()
    ]
    return csv_table(head, rows)


def _metrics_as_markdown() -> str:
    metrics = markdown_table(
        _METRIC_COLUMNS, ([escape_markdown(cell) for cell in _wide_row(each)] for each in METRICS.values())
    )
    verdicts = markdown_table(
        ("Quantus", "verdict", "use", "reason"),
        ([escape_markdown(str(cell)) for cell in (*_words(each), each.text)] for each in VERDICTS.values()),
    )
    notes = "".join(f"- {escape_markdown(note)}\n" for note in (_LEGEND, *_NOTES))
    return f"{metrics}\n{verdicts}\n{notes}"


def make_layer_table(choices: Sequence[LayerChoice]) -> Table:
    """Build a table of layers for the terminal, with the recommended one starred and bold.

    Args:
        choices (sequence of LayerChoice): the result of :func:`~captum_softcam.attr.suggest_layers`.

    Returns:
        rich.table.Table: one row per layer; print it with a ``rich.console.Console``.
    """
    from captum_softcam.attr.suggest import LAYER_COLUMNS, LAYER_NOTE  # which load torch

    table = Table(title=LAYER_NOTE, **_LOOK)
    rows = [choice.cells() for choice in choices]
    longest = max((len(row[0]) for row in rows), default=0)
    table.add_column("layer", min_width=min(longest, _LONGEST), overflow="fold")
    for name in LAYER_COLUMNS[1:-1]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for choice, row in zip(choices, rows, strict=True):
        table.add_row(*map(Text, row), style="bold" if choice.recommended else "")
    return table


def print_layers(choices: Sequence[LayerChoice], console: Console | None = None, form: str = "text") -> None:
    """Print the table of layers.

    Args:
        choices (sequence of LayerChoice): the result of :func:`~captum_softcam.attr.suggest_layers`.
        console (rich.console.Console): the console to print to. Default: standard output
        form (str): one of :data:`FORMATS`. Default: ``"text"``
    """
    from captum_softcam.attr.suggest import LAYER_COLUMNS, LAYER_NOTE

    with degrading(sys.stdout):
        console = console or _console()
        if form == "text":
            console.print(make_layer_table(choices))
        elif form == "markdown":
            table = markdown_table(LAYER_COLUMNS, (map(escape_markdown, choice.cells()) for choice in choices))
            _put(console, f"{table}\n- {escape_markdown(LAYER_NOTE)}\n")
        else:
            head = [*LAYER_COLUMNS[:-1], "recommended", "reason"]
            _put(console, csv_table(head, map(_layer_record, choices)))


def _layer_record(choice: LayerChoice) -> list[str | int]:
    """Return a row of the CSV, where the name is the layer's own and numbers are numbers."""
    _, shape, grid, stride, _, why = choice.cells()
    return [choice.name, shape, grid, stride, choice.passes, int(choice.recommended), why]
