"""The table of a comparison in the terminal, and the pictures in its folder."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from captum_softcam._files import replacing, write_text
from captum_softcam._names import degrading
from captum_softcam.evaluation import Comparison
from captum_softcam.report.panels import plot_panel
from captum_softcam.report.table import make_table, table_notes

__all__ = ["print_table", "write_pictures"]

_COLUMN = 19  # an interval, "[-0.456, -0.123]", and the lines around it
_ROWS = 4  # of the panel


def write_pictures(comparison: Comparison, folder: Path, classes: Sequence[str] | None = None) -> None:
    """Write ``table.txt`` and, if there are examples, ``panel.png`` beside the files of a saved comparison.

    Args:
        comparison (Comparison): what is shown; of its examples the first four.
        folder (Path): where to, an existing folder; files of these names are replaced.
        classes (sequence of str): names for the rows of the panel. Default: the class numbers

    Raises:
        OSError: if the folder cannot be written to.
    """
    table = io.StringIO()
    print_table(comparison, Console(file=table, force_terminal=False, width=_width(len(comparison.metrics))))
    write_text(folder / "table.txt", table.getvalue())
    if comparison.examples:
        figure = plot_panel(comparison.examples[:_ROWS], classes)
        with replacing(folder / "panel.png") as file:
            figure.savefig(file, dpi=150, format="png")


def print_table(comparison: Comparison, console: Console | None = None) -> None:
    """Print the table and its notes; on a narrow terminal as several tables, in a file or a pipe as one.

    Args:
        comparison (Comparison): what is shown.
        console (rich.console.Console): where to. Default: standard output
    """
    with degrading(sys.stdout):
        _print_table(comparison, console or Console())


def _print_table(comparison: Comparison, console: Console) -> None:
    if not console.is_terminal:
        console.width = max(console.width, _width(len(comparison.metrics)))
    columns = max(1, (console.width - _width(0)) // _COLUMN)
    for start in range(0, len(comparison.metrics), columns):
        console.print(make_table(comparison, comparison.metrics[start : start + columns]))
    for note in table_notes(comparison):
        console.print(note, highlight=False, markup=False)


def _width(metrics: int) -> int:
    """Characters that a table of so many metrics takes: the longest method, the cost, and the columns between them."""
    return 37 + _COLUMN * metrics
