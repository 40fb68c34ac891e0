"""The table: methods x metrics, each cell a mean with its interval, drawn and in numbers, and what stands behind it."""

from __future__ import annotations

import itertools
import math
from typing import Any

from captum_softcam.report.html.facts import Facts, difference_decimals, number
from captum_softcam.report.html.markup import Html, breakable, element
from captum_softcam.report.html.summary import MARKS, verdict_mark

__all__ = ["scores_section"]

_COSTS = (
    ("forwards", 1.0, "forwards per image"),
    ("backwards", 1.0, "backwards per image"),
    ("seconds", 1e3, "ms per image"),
    ("peak_bytes", 1e-6, "MB of memory"),
)


def scores_section(facts: Facts) -> Html:
    """The table in a box of its own, which scrolls if it has to."""
    head = element("thead", _categories(facts), _heads(facts))
    body = element("tbody", *(_row(facts, method) for method in facts.methods))
    caption = element("caption", "Mean of each method under each metric, with its 95 % interval")
    return element(
        "section",
        element("h2", "Table"),
        element("p", *_key(facts), class_="note"),
        element(
            "div",
            element("table", caption, head, body, id="table"),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="Table of scores, scrolls sideways",
        ),
        id="scores",
    )


def _key(facts: Facts) -> list[object]:
    against = [
        verdict_mark(1), " better and ", verdict_mark(-1), " worse than the baseline ", element("b", facts.baseline),
        ": the 95 % interval of the paired difference excludes 0; no mark: open. ",
    ]  # fmt: skip
    bars = "Bars: the intervals on one scale per column; the thin line is the baseline's mean. "
    best = [element("b", "Bold"), ": no mean of the column is better. ", bars]
    hint = element("span", "A heading sorts; pointing at a cell, or the arrow keys, tell more.", class_="needs-script")
    return [*(against if len(facts.methods) > 1 else []), *best, hint]


def _categories(facts: Facts) -> Html:
    groups = [(name, len(list(members))) for name, members in itertools.groupby(facts.metrics, facts.category)]
    cells = [element("th", name, colspan=length, scope="colgroup") for name, length in groups]
    overall = element("th", "overall", colspan=2, scope="colgroup")
    return element("tr", element("td", class_="first"), *cells, overall, class_="groups")


def _heads(facts: Facts) -> Html:
    metrics = [_head(facts.title(metric), facts.higher_is_better(metric)) for metric in facts.metrics]
    overall = _head("mean rank", False), _head("cost, in forwards", False)
    return element("tr", _head("method", None, "first"), *metrics, *overall)


def _head(title: str, higher: bool | None, class_: str | None = None) -> Html:
    """A heading that sorts: the best first, where one direction is better."""
    direction = {None: "by name", True: "↑ higher", False: "↓ lower"}[higher]
    first = "descending" if higher else "ascending"
    unseen = None if higher is None else element("span", " is better", class_="unseen")
    button = element("button", title, " ", element("small", direction, unseen), type="button", data_first=first)
    return element("th", button, scope="col", class_=class_, aria_sort="none")


def _row(facts: Facts, method: str) -> Html:
    control, baseline = method in facts.controls, method == facts.baseline and len(facts.methods) > 1
    tags = [element("small", word, class_="tag") for word, holds in (("control", control), ("baseline", baseline)) if holds]
    name = element("span", breakable(method), class_="method")
    head = element("th", name, *tags, scope="row", class_="first", data_value=method)
    cells = [_cell(facts, method, metric) for metric in facts.metrics]
    return element("tr", head, *cells, _rank(facts, method), _cost(facts, method), class_="control" if control else None)


def _cell(facts: Facts, method: str, metric: str) -> Html:
    cell, places = facts.summary[method, metric], facts.decimals[metric]
    if not cell["count"]:
        return element("td", "undefined", _gaps(cell), _detail(facts, method, metric), class_="empty", data_value="")
    verdict = facts.verdict(method, metric)
    mean = element("span", number(cell["mean"], places), class_="mean")
    interval = f"[{number(cell['low'], places)}, {number(cell['high'], places)}]"
    return element(
        "td",
        element("span", verdict_mark(verdict) if verdict else None, mean, class_="value"),
        _bar(facts, cell, metric),
        element("span", interval, class_="interval"),
        _gaps(cell),
        _detail(facts, method, metric),
        class_="best" if cell["best"] else None,
        data_value=repr(float(cell["mean"])),
    )


def _gaps(cell: dict[str, Any]) -> Html | None:
    if not cell["undefined"]:
        return None
    failed = f", {int(cell['failed'])} failed" if cell["failed"] else ""
    return element("span", f"{int(cell['undefined'])} undefined{failed}", class_="gaps")


def _bar(facts: Facts, cell: dict[str, Any], metric: str) -> Html:
    """The interval as a bar on the scale of the column, and the baseline's mean as a line."""
    low, high = _span(facts, metric)

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low) if high > low else 50

    left, right = place(cell["low"]), place(cell["high"])
    parts = [element("rect", x=f"{left:.1f}", y=3, width=f"{max(right - left, 1):.1f}", height=4, class_="range")]
    reference = facts.summary[facts.baseline, metric]["mean"]
    if math.isfinite(reference):
        parts.insert(0, element("rect", x=f"{place(reference) - 0.4:.1f}", y=0, width=0.8, height=10, class_="reference"))
    parts.append(element("rect", x=f"{place(cell['mean']) - 1:.1f}", y=1, width=2, height=8, class_="dot"))
    return element("svg", *parts, class_="bar", viewBox="-2 0 104 10", preserveAspectRatio="none", aria_hidden="true")


def _span(facts: Facts, metric: str) -> tuple[float, float]:
    """From the least to the greatest end of an interval in the column."""
    cells = [facts.summary[method, metric] for method in facts.methods]
    ends = [float(cell[key]) for cell in cells for key in ("low", "high", "mean") if math.isfinite(cell[key])]
    return min(ends), max(ends)


def _detail(facts: Facts, method: str, metric: str) -> Html:
    """What a pointer or the keyboard brings up, and a screen reader reads."""
    cell = facts.summary[method, metric]
    lines = [f"{method}, {facts.title(metric)}", *_difference(facts, method, metric), f"{int(cell['count'])} defined scores"]
    if cell["undefined"]:
        lines.append(f"{int(cell['undefined'])} undefined, {int(cell['failed'])} of them by an error")
    return element("span", *(element("span", line + ". ") for line in lines), class_="unseen detail")


def _difference(facts: Facts, method: str, metric: str) -> list[str]:
    pair, verdict = facts.differences.get((method, metric)), facts.verdict(method, metric)
    if pair is None or verdict is None:
        return ["The baseline"] if len(facts.methods) > 1 else []
    if not pair["count"]:
        return [f"No sample where it and {facts.baseline} are both defined"]
    places = difference_decimals(pair["mean"], facts.decimals[metric])
    mean, low, high = (number(pair[key], places, signed=True) for key in ("mean", "low", "high"))
    return [
        f"Against {facts.baseline}: {mean} [{low}, {high}], {MARKS[verdict][1]}",
        f"Better in {100 * pair['win_rate']:.0f} % of {int(pair['count'])} pairs",
    ]


def _rank(facts: Facts, method: str) -> Html:
    rank = facts.mean_rank.get(method, math.nan)
    return element("td", element("span", number(rank, 1), class_="mean"), data_value=_sortable(rank))


def _cost(facts: Facts, method: str) -> Html:
    cost = facts.cost(method)
    relative = cost.get("relative", math.nan)
    lines = [f"{method}: {number(relative, 1)} times the time of a plain forward", *_cost_words(cost)]
    detail = element("span", *(element("span", line + ". ") for line in lines), class_="unseen detail")
    value = element("span", "<0.1" if relative < 0.05 else number(relative, 1), class_="mean")
    return element("td", value, detail, data_value=_sortable(relative))


def _cost_words(cost: dict[str, float]) -> list[str]:
    """Forwards, backwards, time and memory, those that are known."""
    known = [entry for entry in _COSTS if math.isfinite(cost.get(entry[0], math.nan))]
    return [f"{cost[name] * scale:.4g} {words}" for name, scale, words in known]


def _sortable(value: float) -> str:
    """The value by which a column is sorted, empty for none."""
    return repr(float(value)) if math.isfinite(value) else ""
