"""The figure of a comparison: means and intervals for each metric, mean rank against cost, and curves."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from captum_softcam._figures import Drawing
from captum_softcam._names import named, shown
from captum_softcam._scores import PROBABILITIES
from captum_softcam.evaluation.controls import method_title
from captum_softcam.evaluation.curves import MeanCurves
from captum_softcam.evaluation.view import View
from captum_softcam.metrics import METRICS

__all__ = ["plot_comparison"]

_COLUMNS = 5  # most panels in a row
_ACROSS = 3  # most curves in a row, beside their legend
_CURVES = 2.3  # inches of a row of curves
# Safe for colour-blind readers; dashes tell methods apart in greyscale, and where one curve lies on another.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#7a4fb5")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
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
_USUAL = 20  # characters of a name that half a panel has room for
_WIDER = 0.07  # of a panel's width, for each character more


def plot_comparison(view: View, curves: Sequence[MeanCurves] = (), figsize: tuple[float, float] | None = None) -> Figure:
    """Plot a panel for each metric, with the methods from top to bottom, one of mean rank against cost, and the curves."""
    metrics = view.metrics
    rows = math.ceil((len(metrics) + 1) / _COLUMNS)
    columns = math.ceil((len(metrics) + 1) / rows)
    height = rows * (0.75 + 0.24 * max(len(view.methods), 4))
    beyond = max((len(_title(name)) for name in view.methods), default=0) - _USUAL
    # Names in the panel of the cost begin or end at its middle, so that long ones need a wider one.
    widths = [1.0] * columns
    widths[len(metrics) % columns] += _WIDER * max(beyond, 0)
    below = _CURVES * math.ceil(len(curves) / _ACROSS)
    # Not by pyplot, which keeps every figure in memory until it is closed.
    figure = Drawing(
        figsize=figsize or (max(1.8 + 2.1 * sum(widths), 6 * bool(curves)), 0.4 + height + below), layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    parts = figure.add_gridspec(1 + bool(curves), 1, height_ratios=[height, below][: 1 + bool(curves)])
    grid = parts[0].subgridspec(rows, columns, width_ratios=widths)
    for place, metric in enumerate(metrics):
        axis = figure.add_subplot(grid[divmod(place, columns)])
        _draw_metric(axis, view, metric)
        _name_methods(axis, view, named=place % columns == 0)
    _draw_cost(figure.add_subplot(grid[divmod(len(metrics), columns)]), view)
    if curves:
        _draw_all_curves(figure, parts[1], view, curves)
    if handles := _legend(view):
        _as_text(figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=_SMALL, frameon=False))
    return figure


def _draw_all_curves(figure: Figure, part: Any, view: View, curves: Sequence[MeanCurves]) -> None:
    """Draw the curves in rows, with a legend of the methods at the right."""
    across = min(len(curves), _ACROSS)
    grid = part.subgridspec(math.ceil(len(curves) / across), across + 1, width_ratios=[1] * across + [0.45])
    styles = _line_styles(view)
    for place, found in enumerate(curves):
        _draw_curves(figure.add_subplot(grid[divmod(place, across)]), view, found, styles)
    beside = figure.add_subplot(grid[0, across], frame_on=False, xticks=[], yticks=[])
    drawn = [name for name in view.methods if any(name in found.lines for found in curves)]
    handles = [Line2D([], [], label=_title(name), **styles[name]) for name in drawn]
    _as_text(beside.legend(handles=handles, loc="upper left", fontsize=_SMALL, frameon=False, handlelength=3))


def _line_styles(view: View) -> dict[str, dict[str, Any]]:
    """Return the line of each method: black for the baseline, thin and grey for controls."""
    styles: dict[str, dict[str, Any]] = {}
    methods = [name for name in view.methods if name not in view.controls and name != view.baseline]
    for place, name in enumerate(methods):
        styles[name] = {
            "color": _COLOURS[place % len(_COLOURS)],
            "linestyle": _DASHES[place % len(_DASHES)],
            "linewidth": 1.7,
        }
    for place, name in enumerate(view.controls):
        styles[name] = {"color": "#8c8c8c", "linestyle": _DASHES[place % len(_DASHES)], "linewidth": 1.1}
    return styles | {view.baseline: {"color": "black", "linestyle": "-", "linewidth": 3.4}}


def _draw_curves(axis: Any, view: View, found: MeanCurves, styles: dict[str, dict[str, Any]]) -> None:
    # The baseline is wide and lies below the others, so that a curve of the same values shows.
    for method in sorted(found.lines, key=lambda name: (name not in view.controls, name != view.baseline)):
        curve, style = found.lines[method], styles[method]
        axis.plot(found.fractions, curve.mean, **style)
        strength = 0.06 if method in view.controls else 0.1
        axis.fill_between(found.fractions, curve.low, curve.high, color=style["color"], alpha=strength, linewidth=0)
    axis.set_title(textwrap.fill(named(view.head(found.metric)), 40), fontsize=9, parse_math=False)
    axis.set_ylabel(_measured(view, found.metric), fontsize=_TINY, color="#555555")
    words = "restored, higher is better" if view.higher_is_better(found.metric) else "replaced, lower is better"
    axis.set_xlabel(f"fraction of the image {words}", fontsize=_TINY, color="#555555")
    axis.set_xlim(0, 1)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.yaxis.set_major_locator(MaxNLocator(5))
    _tidy(axis)


def _measured(view: View, metric: str) -> str:
    """Return what a curve shows: what its metric reads of the model."""
    stem = metric.partition("@")[0]  # of a column with another baseline
    reads = METRICS[stem].reads if stem in METRICS else "score"
    if reads == "prediction":
        return "predicted as the class"
    probable = reads == "probability" and view.scores in PROBABILITIES
    return f"{'probability' if probable else reads.replace('probability', 'score')} of the class"


def _title(method: str) -> str:
    return shown(method_title(method), _LONGEST)


def _as_text(legend: Any) -> None:
    """Keep Matplotlib from typesetting what lies between two "$" of a name as a formula, or raising ValueError."""
    # Titles and labels have an argument for this, a legend does not.
    for text in legend.get_texts():
        text.set_parse_math(False)


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
    axis.set_title(textwrap.fill(named(view.head(metric)), 24), fontsize=9, parse_math=False)
    axis.set_xlabel("better →" if higher else "← better", fontsize=_TINY, color="#555555", loc="right" if higher else "left")
    axis.xaxis.set_major_locator(MaxNLocator(4))
    _tidy(axis)


def _style(view: View, method: str, better: int) -> tuple[str, str]:
    """Return marker and colour, grey for controls."""
    marker, colour, _ = _BASELINE if method == view.baseline else _STYLES[better]
    return marker, _GREY if method in view.controls else colour


def _name_methods(axis: Any, view: View, *, named: bool) -> None:
    names = [_title(name) if named else "" for name in view.methods]
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
    for method, row in points.sort_values(["rank", "cost"], ascending=[True, False]).iterrows():
        lowest = max(lowest + gap, row["rank"])
        left = axis.transAxes.inverted().transform(axis.transData.transform((row["cost"], 0)))[0] > 0.5
        place, side = (-6, "right") if left else (6, "left")
        label = axis.annotate(
            _title(str(method)), (row["cost"], lowest), (place, 0), textcoords="offset points", parse_math=False
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
    name = _title(view.baseline)
    handles = [Line2D([], [], marker=m, color=c, label=text.format(name), **options) for m, c, text in entries]
    controls = [Line2D([], [], color=_GREY, linewidth=3, label="control")] if view.controls else []
    return [*handles, *controls]
