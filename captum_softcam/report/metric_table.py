"""The table of metrics: what can be measured, what it costs, and what became of Quantus' own."""

from __future__ import annotations

import re
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from captum_softcam._names import degrading
from captum_softcam.metrics import METRICS, VERDICTS, Metric, Verdict

__all__ = ["make_metric_table", "make_verdict_table", "print_metrics"]

_LEGEND = "* in a comparison unless told otherwise; ↑ higher is better, ↓ lower; cost per image and method"
_WIDE = 150  # characters that a row of the table takes in one line
_NOTES = (
    "corrected: Quantus has the metric and gets it wrong. Quantus: its class does the work, on patches of whole pixels.",
    "Quantus' robustness and randomisation metrics take a LayerExplainFunc as explain_func.",
)
_NARROW = {"metric": 30, "": 1, "cost": 12, "origin": 9, "source": 12}  # 80 with the lines between


def make_metric_table(*, narrow: bool = False) -> Table:
    """A table of the metrics for the terminal; those that a comparison takes unasked are starred and bold.

    Args:
        narrow (bool): settings below the name, and categories as headings between the rows. Default: False

    Returns:
        rich.table.Table: a row per metric; print it with a ``rich.console.Console``.
    """
    table = Table(title=_LEGEND.replace("; ", "\n") if narrow else _LEGEND)
    for name in _NARROW if narrow else ("metric", "category", "", "cost", "settings", "origin", "source"):
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
    return [_name(metric), metric.category, _arrow(metric), metric.cost, _settings(metric), *_whence(metric)]


def _narrow_row(metric: Metric) -> list[str | Text]:
    settings = "".join(f"\n  {name}={value}" for name, value in metric.settings.items())
    return [Text(_name(metric)).append(settings, style="not bold"), _arrow(metric), metric.cost, *_whence(metric)]


def _name(metric: Metric) -> str:
    return metric.name + "*" if metric.default else metric.name


def _arrow(metric: Metric) -> str:
    return "↑" if metric.higher_is_better else "↓"


def _settings(metric: Metric) -> str:
    return ", ".join(f"{name}={value}" for name, value in metric.settings.items())


def _whence(metric: Metric) -> list[str]:
    """Origin and source; a citation key in words, ``petsiuk2018rise`` as "Petsiuk 2018"."""
    name, year = re.match(r"([a-z]+)(\d+)", metric.source).groups()  # type: ignore[union-attr]  # keys are made so
    return [metric.origin.replace("quantus", "Quantus"), f"{name.title()} {year}"]


def make_verdict_table(*, narrow: bool = False) -> Table:
    """A table for the terminal of what became of Quantus' metrics.

    Args:
        narrow (bool): all but the reason in one column. Default: False

    Returns:
        rich.table.Table: a row per metric of Quantus; print it with a ``rich.console.Console``.
    """
    table = Table(title="Faithfulness and localisation in Quantus 0.6", show_lines=narrow)
    table.add_column("Quantus", no_wrap=True)
    for name in [] if narrow else ["verdict", "take"]:
        table.add_column(name, no_wrap=True)
    table.add_column("reason")
    for verdict in VERDICTS.values():
        words = _words(verdict)
        table.add_row(*([Text("\n").join(filter(None, words))] if narrow else words), verdict.reason)
    return table


def _words(verdict: Verdict) -> list[Text]:
    styles = {"runs": "green", "corrected": "yellow", "refused": "red"}
    return [Text(verdict.name), Text(verdict.verdict, styles[verdict.verdict]), Text(verdict.take or "")]


def print_metrics(console: Console | None = None) -> None:
    """Print both tables; on a narrow terminal with fewer columns, in a file or a pipe with all of them in one line.

    Args:
        console (rich.console.Console): where to. Default: standard output
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
