"""The table of a comparison: methods x metrics, each cell a mean with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from captum_softcam._names import closest, named, quoted, shown
from captum_softcam.attr import LayerChoice
from captum_softcam.evaluation import Comparison
from captum_softcam.evaluation.view import MARKS, Cell

__all__ = ["make_layer_table", "make_table", "table_notes"]


def make_table(comparison: Comparison, metrics: Sequence[str] | None = None, baseline: str | None = None) -> Table:
    """A table for the terminal: means above their 95 % intervals, the best of each column starred and bold.

    Arrows in the head show the direction of each metric; ▲ and ▼ beside a mean show that the method is better or worse than
    the baseline, by the interval of the paired difference. The last column is the time of the method in units of a plain
    forward, above its forwards + backwards per image.

    Args:
        comparison (Comparison): what is shown.
        metrics (sequence of str): the columns. Default: all metrics of the comparison
        baseline (str): the method that the others are compared with. Default: the comparison's own

    Returns:
        rich.table.Table: a row per method; print it with a ``rich.console.Console``.

    Raises:
        ValueError: if the baseline is not among the methods, or for a metric that the comparison does not have.
    """
    metrics = comparison.metrics if metrics is None else metrics
    for name in metrics:
        if name not in comparison.metrics:
            raise ValueError(f"the metric {quoted(name)} is not in this comparison. {closest(name, comparison.metrics)}")
    view = comparison.view(baseline)
    table = Table(show_lines=True, title="mean and 95 % interval; ↑ higher is better, ↓ lower; * best")
    table.add_column("method", no_wrap=True)
    for name in metrics:
        head = Text(f"{named(view.titles[name])} {'↑' if view.higher_is_better(name) else '↓'}")
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
    return text.append(f" {MARKS[cell.better]}" if cell.better else "").append(f"\n{cell.interval}", style="not bold")


def table_notes(comparison: Comparison, baseline: str | None = None) -> list[str]:
    """What a reader of the table has to know: the samples behind it, what the marks mean, what is undefined, what failed.

    Args:
        comparison (Comparison): what is shown.
        baseline (str): the method that the marks refer to. Default: the comparison's own

    Returns:
        list of str: a sentence each, in plain text.

    Raises:
        ValueError: if the baseline is not among the methods.
    """
    return comparison.view(baseline).notes()


def make_layer_table(choices: Sequence[LayerChoice]) -> Table:
    """A table of layers for the terminal; the recommended one is starred and bold.

    Args:
        choices (sequence of LayerChoice): from :func:`~captum_softcam.attr.suggest_layers`.

    Returns:
        rich.table.Table: a row per layer; print it with a ``rich.console.Console``.
    """
    table = Table(title="* recommended; passes: runs of the tail that Recipro-CAM needs, 0 where one forward tells all")
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
