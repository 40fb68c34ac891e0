"""The table of a comparison: methods x metrics, each cell a mean with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from rich.table import Table
from rich.text import Text

from captum_softcam.attr import LayerChoice
from captum_softcam.evaluation import CONTROLS, Comparison
from captum_softcam.metrics import METRICS

__all__ = ["make_layer_table", "make_table", "table_notes"]


def make_table(comparison: Comparison, metrics: Sequence[str] | None = None) -> Table:
    """A table for the terminal: means above their 95 % intervals, the best of each column starred and bold.

    Arrows show the direction of each metric; the last column is the time of the method in units of a plain forward.

    Args:
        comparison (Comparison): what is shown.
        metrics (sequence of str): the columns. Default: all metrics of the comparison
    """
    metrics = comparison.metrics if metrics is None else metrics
    summary = comparison.summary()
    table = Table(show_lines=True, title="mean and 95 % interval; ↑ higher is better, ↓ lower; * best")
    table.add_column("method", no_wrap=True)
    for name in metrics:
        arrow = "↑" if METRICS[name].higher_is_better else "↓"
        table.add_column(f"{METRICS[name].title} {arrow}", justify="center", min_width=16, max_width=16)
    table.add_column("cost\n(forwards)", justify="right")
    for method in comparison.methods:
        cells = [_cell(summary.xs((method, metric))) for metric in metrics]
        label = f"{method}\n(control)" if method in CONTROLS else method
        table.add_row(label, *cells, f"{comparison.costs[method]:.1f}")
    return table


def _cell(cell: Any) -> Text:
    if not cell["count"]:
        return Text("undefined")
    mean, low, high = (f"{round(cell[key], 3) + 0.0:.3f}" for key in ("mean", "low", "high"))  # + 0.0: no -0.000
    text = Text(mean + "*" if cell["best"] else mean, style="bold" if cell["best"] else "")
    return text.append(f"\n[{low}, {high}]", style="not bold")


def table_notes(comparison: Comparison) -> list[str]:
    """What a reader of the table has to know: how many samples stand behind each column, and what is undefined."""
    samples = comparison.scores.drop_duplicates("sample")
    total, masked = len(samples), _masked(comparison)
    right = int((samples["label"] == samples["prediction"]).sum())
    notes = [
        f"{total} samples, {right} of them predicted right.",
        "cost: time of the method over time of a plain forward of the same images.",
    ]
    if masked is not None and masked < total:
        notes.append(f"localisation: over the {masked} samples that have a mask.")
    counts: dict[Any, int] = comparison.summary()["count"].to_dict()
    for method, metric in product(comparison.methods, comparison.metrics):
        expected = masked if METRICS[metric].category == "localisation" and masked is not None else total
        undefined = expected - counts[method, metric]
        if undefined:
            notes.append(f"{method}, {metric}: {undefined} of {expected} scores are undefined (NaN).")
    return notes


def _masked(comparison: Comparison) -> int | None:
    """Number of samples with a mask, if localisation was measured."""
    localises = any(METRICS[name].category == "localisation" for name in comparison.metrics)
    return int(comparison.manifest["samples_with_mask"]) if localises else None


def make_layer_table(choices: Sequence[LayerChoice]) -> Table:
    """A table of layers for the terminal; the recommended one is starred and bold.

    Args:
        choices (sequence of LayerChoice): from :func:`~captum_softcam.attr.suggest_layers`.
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
        name = f"{choice.name}*" if choice.recommended else choice.name
        table.add_row(name, shape, grid, stride, str(choice.passes), choice.reason, style=style)
    return table
