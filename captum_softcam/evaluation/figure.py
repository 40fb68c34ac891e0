"""The figure of a comparison: means and intervals for each metric, and mean rank against cost."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from captum_softcam._names import named, shown
from captum_softcam.evaluation.view import View

__all__ = ["plot_comparison"]

_COLUMNS = 5  # most panels in a row
_STYLES = {  # by verdict; blue and orange are safe for colour-blind readers, the shapes survive greyscale
    1: ("^", "#0072b2", "better than {}"),
    -1: ("v", "#d55e00", "worse"),
    0: ("o", "#444444", "inconclusive"),
}
_BASELINE = ("D", "#000000", "{} (baseline)")
_GREY = "#a3a3a3"
_POINT: dict[str, Any] = {"markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.6}
_UNDEFINED: dict[str, Any] = {
    "ha": "center",
    "va": "center",
    "color": "#777777",
    "fontsize": 7,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1},
}
_SMALL, _TINY = 8, 7  # points
_LONGEST = 40  # characters of a method's name


def plot_comparison(view: View) -> Figure:
    """Plot a panel for each metric, with the methods from top to bottom, and one of mean rank against cost."""
    metrics = view.metrics
    rows = math.ceil((len(metrics) + 1) / _COLUMNS)
    columns = math.ceil((len(metrics) + 1) / rows)
    height = 0.75 + 0.24 * max(len(view.methods), 4)
    # Not by pyplot, which keeps every figure in memory until it is closed.
    figure = Figure(figsize=(1.8 + 2.1 * columns, 0.4 + height * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for place, metric in enumerate(metrics):
        _draw_metric(axes[place], view, metric)
        _name_methods(axes[place], view, named=place % columns == 0)
    _draw_cost(axes[len(metrics)], view)
    for axis in axes[len(metrics) + 1 :]:
        axis.remove()
    if handles := _legend(view):
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=_SMALL, frameon=False)
        for text in legend.get_texts():
            # Matplotlib typesets what lies between two "$" of a name as a formula, or raises ValueError. Titles and labels
            # have an argument against this, a legend does not.
            text.set_parse_math(False)
    return figure


def _draw_metric(axis: Any, view: View, metric: str) -> None:
    for place, method in enumerate(view.methods):
        cell = view.cells[method, metric]
        if cell.count:
            marker, colour = _style(view, method, cell.better)
            axis.plot([cell.low, cell.high], [place, place], color=colour, linewidth=1.8, solid_capstyle="butt")
            axis.plot(cell.mean, place, marker=marker, color=colour, **_POINT)
        else:
            axis.text(0.5, place, "undefined", transform=axis.get_yaxis_transform(), **_UNDEFINED)
    if len(view.methods) > 1:
        reference = view.cells[view.baseline, metric].mean
        axis.axvline(reference, color="black", linestyle=(0, (3, 3)), linewidth=0.8, zorder=1)
    higher = view.higher_is_better(metric)
    axis.set_title(textwrap.fill(named(view.titles[metric]), 24), fontsize=9, parse_math=False)
    axis.set_xlabel("better →" if higher else "← better", fontsize=_TINY, color="#555555", loc="right" if higher else "left")
    axis.xaxis.set_major_locator(MaxNLocator(4))
    _tidy(axis)


def _style(view: View, method: str, better: int) -> tuple[str, str]:
    """Return marker and colour, grey for controls."""
    marker, colour, _ = _BASELINE if method == view.baseline else _STYLES[better]
    return marker, _GREY if method in view.controls else colour


def _name_methods(axis: Any, view: View, *, named: bool) -> None:
    names = [shown(name, _LONGEST) if named else "" for name in view.methods]
    axis.set_yticks(range(len(view.methods)), names, parse_math=False)
    axis.set_ylim(len(view.methods) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    for label, method in zip(axis.get_yticklabels(), view.methods, strict=True):
        label.set(fontsize=_SMALL, color="#777777" if method in view.controls else "black")


def _draw_cost(axis: Any, view: View) -> None:
    costs = {method: (view.cost(method), view.mean_rank(method)) for method in view.methods}
    points = pd.DataFrame.from_dict(costs, orient="index", columns=["cost", "rank"]).dropna()
    axis.set_title("Mean rank (1 is best) and cost", fontsize=9)
    axis.set_xlabel("time relative to a forward pass", fontsize=_TINY, color="#555555")
    axis.set_ylim(len(view.methods) + 0.5, 0.5)
    # Linear below 1, so that controls, which cost next to nothing, do not stretch the axis by several decades.
    axis.set_xscale("symlog", linthresh=1, linscale=0.5)
    axis.set_xlim(-0.25, 3 * max(points["cost"].max() if len(points) else 1, 1))
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for method, row in points.iterrows():
        marker, colour = _style(view, str(method), 0)
        axis.plot(row["cost"], row["rank"], marker=marker, color=colour, **_POINT)
    _label(axis, points, len(view.methods))
    _tidy(axis)


def _label(axis: Any, points: pd.DataFrame, methods: int) -> None:
    """Write names next to the points, towards the middle, moved down where they would overlap."""
    gap, lowest = 0.45 * min(methods, 4) / 4, -math.inf  # the panel grows with the methods, from four on
    for method, row in points.sort_values(["rank", "cost"]).iterrows():
        lowest = max(lowest + gap, row["rank"])
        left = axis.transAxes.inverted().transform(axis.transData.transform((row["cost"], 0)))[0] > 0.5
        place, side = (-6, "right") if left else (6, "left")
        label = axis.annotate(
            shown(method, _LONGEST), (row["cost"], lowest), (place, 0), textcoords="offset points", parse_math=False
        )
        label.set(ha=side, va="center", fontsize=_TINY)
        axis.vlines(row["cost"], row["rank"], lowest, color="#bbbbbb", linewidth=0.7, zorder=1)


def _tidy(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#bbbbbb")
    axis.tick_params(labelsize=_TINY, color="#bbbbbb")
    axis.grid(color="#ececec", linewidth=0.6)
    axis.set_axisbelow(True)


def _legend(view: View) -> list[Line2D]:
    """Return the entries of the legend: the marks in use, none for a single method."""
    if len(view.methods) < 2:
        return []
    found = set(view.differences["better"])
    entries = [_BASELINE, *(_STYLES[better] for better in (1, -1, 0) if better in found)]
    options: dict[str, Any] = {"linestyle": "", "markersize": 6}
    name = shown(view.baseline, _LONGEST)
    handles = [Line2D([], [], marker=m, color=c, label=text.format(name), **options) for m, c, text in entries]
    controls = [Line2D([], [], color=_GREY, linewidth=3, label="control")] if view.controls else []
    return [*handles, *controls]
