"""The folder of a comparison, written as a whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from captum_softcam.evaluation import Comparison
from captum_softcam.report.panels import plot_panel
from captum_softcam.report.table import make_table, table_notes

__all__ = ["print_table", "refuse_existing", "write_folder"]

_COLUMN = 19  # an interval, "[-0.456, -0.123]", and the lines around it


def refuse_existing(path: Path) -> None:
    """Raise FileExistsError if ``path`` is taken, for results are never overwritten, or lies below a file."""
    if path.exists():
        raise FileExistsError(f"'{path}' exists already and is not overwritten; choose another --out or move it away.")
    files = [parent for parent in path.parents if parent.is_file()]
    if files:
        raise FileExistsError(f"'{path}' lies below '{files[0]}', which is a file; choose another --out.")


def write_folder(comparison: Comparison, folder: Path, classes: Sequence[str] | None = None) -> None:
    """Write what :meth:`Comparison.save` writes, ``table.txt`` and, if there are examples, ``panel.png`` into a new folder.

    The files are written beside it first and moved there at last, so that a folder that exists is complete.

    Args:
        comparison (Comparison): what is written.
        folder (Path): where to; the folders above it are made.
        classes (sequence of str): names for the rows of the panel. Default: the class numbers

    Raises:
        FileExistsError: if ``folder`` exists.
    """
    refuse_existing(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        comparison.save(draft)
        with (draft / "table.txt").open("w", encoding="utf-8") as file:
            print_table(comparison, Console(file=file, width=_width(len(comparison.metrics))))
        if comparison.examples:
            plot_panel(comparison.examples, classes).savefig(draft / "panel.png", dpi=120)
        draft.chmod(0o755)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def print_table(comparison: Comparison, console: Console | None = None) -> None:
    """Print the table and its notes; on a narrow terminal as several tables, in a file or a pipe as one."""
    console = console or Console()
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
