"""Values for the templates of the report's sections: summary, table, failures and settings."""

from __future__ import annotations

import base64
import itertools
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from captum_softcam._names import listed
from captum_softcam.evaluation import Comparison, View
from captum_softcam.evaluation.health import Measure, MetricHealth
from captum_softcam.evaluation.statistics import LEVEL
from captum_softcam.evaluation.text import to_csv
from captum_softcam.evaluation.view import Cell, digits

__all__ = ["VERDICTS", "amount", "failures", "health", "number", "performance", "scores", "settings", "summary"]

VERDICTS = {1: ("▲", "better", "△"), 0: ("○", "inconclusive", "○"), -1: ("▼", "worse", "▽")}
"""Symbol, word and symbol without the adjustment of each verdict; symbols differ in shape, not only in colour."""

_DASH, _MINUS, _SPACE = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"
_FEW = 3  # metrics that fit in a sentence
_COSTS = (
    ("forwards", 1.0, "forwards per image"),
    ("backwards", 1.0, "backwards per image"),
    ("seconds", 1e3, "ms per image"),
    ("peak_bytes", 1e-6, "MB of memory"),
)
_LARGEST_TABLE = 1_333_333  # characters of CSV in base64 that are embedded in the file
_KNOWN = {
    "created": "created",
    "model": "model",
    "checkpoint": "checkpoint",
    "weights": "weights",
    "layer": "layer",
    "data": "data",
    "samples": "samples",
    "images": "images",
    "samples_with_mask": "samples with a mask",
    "image_size": "image size",
    "explained_class": "explained class",
    "scores": "scores",
    "classes": "classes",
    "baseline": "baseline",
    "seed": "seed",
    "batch_size": "batch size",
    "device": "device",
}
_FOUND = {
    "files": "files",
    "samples": "samples",
    "masks": "masks",
    "masks_used": "masks used",
    "with_region": "samples with a region",
    "black_masks": "black masks",
}
_EXPLAINED = {"true": "the sample's label", "predicted": "the predicted class"}
_SHOWN_SAMPLES = 5
_LISTED = 100  # samples that could not be read; failures.csv has them all
_ELSEWHERE = ("address", "engine", "gallery", "out", "report", "resume", "workers")


def number(value: float, decimals: int = 3, *, signed: bool = False) -> str:
    """Format a number for print, with a minus sign and spaces between thousands; a dash if it is not finite."""
    if not math.isfinite(value):
        return _DASH
    return digits(value, decimals, "+," if signed else ",").replace("-", _MINUS).replace(",", _SPACE)


def amount(count: int, noun: str) -> str:
    """Format a count with its noun, as in ``1 sample`` or ``2 samples``."""
    return f"{count:,} {noun if count == 1 else noun + 's'}".replace(",", _SPACE)


def summary(comparison: Comparison, view: View) -> dict[str, Any]:
    """Return the values of the summary: key numbers, facts for the sentences, and the verdicts of every method."""
    cells = view.cells.values()
    others = _distinct(view)
    verdicts = [verdict for name in others for verdict in _verdicts(view, name)]
    raw = comparison.view(view.baseline, adjust="none")
    unadjusted = [verdict for name in others for verdict in _verdicts(raw, name)]
    return {
        "numbers": _key_numbers(view),
        "lead": _lead(view, others) if others and view.trusted else None,
        "first": _first(view),
        "twins": _twins(view),
        "pairs": len(verdicts),
        "inconclusive": verdicts.count(0),
        "unadjusted": verdicts.count(0) - unadjusted.count(0),
        "by_chance": round(LEVEL * len(verdicts)),
        **_against_controls(comparison, view),
        "undefined": sum(cell.undefined for cell in cells),
        "failed": sum(cell.failed for cell in cells),
        "strips": _strips(view, raw, others),
    }


def _key_numbers(view: View) -> list[tuple[object, str, str]]:
    samples, methods, metrics = len(view.samples), len(view.attributions), len(view.metrics)
    controls = f"and {amount(len(view.controls), 'control')}" if view.controls else "no controls"
    categories = ", ".join(category for category, _ in _groups(view) if category)
    numbers: list[tuple[object, str, str]] = [
        (samples, "sample" if samples == 1 else "samples", _correct(view)),
        *([(view.images, "image" if view.images == 1 else "images", "resampled for intervals")] if view.shared else []),
        (methods, "method" if methods == 1 else "methods", controls),
        (metrics, "metric" if metrics == 1 else "metrics", categories),
    ]
    if view.unreadable:
        numbers.append((len(view.unreadable), "could not be read", "see the failures"))
    if view.masked is not None:
        numbers.append((view.masked, "with a mask", "for localisation"))
    # The value in large print, and its interval as the note.
    ranks = [(text.partition(" ")[0], title, f"interval {text.partition(' ')[2]}") for title, text in view.headline.items()]
    return [*numbers, *ranks]


def _correct(view: View) -> str:
    if view.multilabel:
        return "pairs of an image and a class it shows"
    if not view.predicts:
        return "with one value each"
    if not view.labelled:
        return "without a known class"
    return f"{view.correct} classified correctly" + (f" of {view.labelled}" if view.labelled < len(view.samples) else "")


def _groups(view: View) -> list[tuple[str, int]]:
    """Return each category with its number of metrics."""
    groups = itertools.groupby(view.grouped, view.categories.__getitem__)
    return [(category, len(list(members))) for category, members in groups]


def _verdicts(view: View, method: str, metrics: Sequence[str] = ()) -> list[int]:
    found = (view.cells[method, metric].difference for metric in metrics or view.grouped)
    return [difference.better if difference else 0 for difference in found]


def _twins(view: View) -> dict[str, list[str]]:
    """Return the methods that give the same map as another by that one: the baseline if it is among them, else the first."""
    groups = ((view.baseline if view.baseline in group else group[0], group) for group in view.same)
    return {first: [name for name in group if name != first] for first, group in groups}


def _distinct(view: View) -> list[str]:
    """Return the methods to compare with the baseline, of those that give the same map only one."""
    twins = set(itertools.chain.from_iterable(_twins(view).values()))
    return [name for name in view.others if name not in twins]


def _lead(view: View, others: Sequence[str]) -> dict[str, Any]:
    """Return the methods with the best record against the baseline, with their counts of verdicts."""
    tallies = {name: tuple(map(_verdicts(view, name, view.trusted).count, (1, 0, -1))) for name in others}
    # By the balance of better and worse, so that a method with many of both does not lead.
    best = max(tallies.values(), key=lambda tally: (tally[0] - tally[2], tally[0]))
    methods = [name for name in others if tallies[name] == best]
    # A difference can be clear and still be tiny: where a sentence has room, it names the sizes.
    few = len(methods) == 1 and best[0] <= _FEW
    return {
        "methods": methods,
        **dict(zip(("better", "inconclusive", "worse"), best, strict=True)),
        "sizes": _sizes(view, methods[0]) if few else [],
    }


def _sizes(view: View, method: str) -> list[str]:
    """Format the differences on the metrics where a method is better than the baseline, in the digits of the table."""
    ahead = {metric: view.cells[method, metric] for metric in view.trusted if view.cells[method, metric].better == 1}
    return [
        f"{view.titles[metric]} {number(cell.difference.mean, cell.decimals, signed=True)}"
        for metric, cell in ahead.items()
        if cell.difference
    ]


def _decimals(difference: float, least: int) -> int:
    """Return the number of decimals, ``least`` or more, that shows two digits of a difference."""
    if not difference or not math.isfinite(difference):
        return least
    return max(least, 1 - math.floor(math.log10(abs(difference))))


def _first(view: View) -> tuple[list[str], list[str]]:
    """Return the methods with the best mean rank, if there are ranks to compare, and others that give the same maps."""
    ranks = {name: rank for name in view.attributions if not math.isnan(rank := view.mean_rank(name))}
    maps = {name for name in ranks if name == view.baseline or name in _distinct(view)}
    if len(maps) < 2 or len(view.trusted) < 2:
        return [], []
    first = [name for name, rank in ranks.items() if rank == min(ranks.values())]
    groups = [group for group in view.same if not set(first).isdisjoint(group)]
    return first, [name for group in groups for name in group if name not in first]


def _against_controls(comparison: Comparison, view: View) -> dict[str, list[str]]:
    """Return the methods that beat all controls on every metric, and the metrics where none does."""
    # Without complexity, because a random map may well be the sparsest.
    asked = [name for name in view.grouped if view.categories[name] != "complexity"]
    methods = [name for name in view.attributions if name == view.baseline or name in _distinct(view)]
    if not view.controls or not asked or not methods:
        return {"asked": [], "everywhere": [], "nowhere": []}
    tables = [comparison.differences(control, adjust=view.adjust)["better"].to_dict() for control in view.controls]
    beats = {key for key in itertools.product(methods, asked) if all(table.get(key) == 1 for table in tables)}
    return {
        "asked": asked,
        "everywhere": [
            name for name in methods if all((name, metric) in beats for metric in asked if metric in view.trusted)
        ],
        "nowhere": [view.titles[metric] for metric in asked if not any((name, metric) in beats for name in methods)],
    }


def _strips(view: View, raw: View, others: Sequence[str]) -> list[tuple[str, list[tuple[int, int, str]], str]]:
    """Return each method with its verdicts, adjusted and not, and their counts, the best first and controls last."""
    methods = [*others, *(name for name in view.controls if name != view.baseline)]
    methods.sort(key=lambda name: (name in view.controls, -sum(_verdicts(view, name)), -sum(_verdicts(raw, name))))
    strips = []
    for method in methods:
        verdicts = _verdicts(view, method)
        titles = [f"{view.titles[name]}: {VERDICTS[each][1]}" for name, each in zip(view.grouped, verdicts, strict=True)]
        tally = [f"{verdicts.count(each)} {word}" for each, (_, word, _) in VERDICTS.items() if each in verdicts]
        strips.append((method, list(zip(verdicts, _verdicts(raw, method), titles, strict=True)), ", ".join(tally)))
    return strips


def scores(comparison: Comparison, view: View) -> dict[str, Any]:
    """Return the values of the table: groups of columns, rows of cells with bars and details, and all as CSV in base64."""
    raw = comparison.view(view.baseline, adjust="none")
    rows = [_row(view, raw, method) for method in view.methods]
    return {"groups": _groups(view), "rows": rows, "csv": _base64(to_csv(view))}


def _row(view: View, raw: View, method: str) -> dict[str, Any]:
    cells = [
        (
            view.cells[method, name],
            raw.cells[method, name].better,
            _bar(view, method, name),
            _details(view, raw, method, name),
        )
        for name in view.grouped
    ]
    cost = view.cost(method)
    return {
        "method": method,
        "twin_of": next((first for first, twins in _twins(view).items() if method in twins), None),
        "cells": cells,
        "rank": view.mean_rank(method),
        "cost": cost,
        "cost_lines": [f"{method}: {number(cost, 1)} times the run time of a plain forward pass", *_costs(view, method)],
    }


def _bar(view: View, method: str, metric: str) -> dict[str, float | None] | None:
    """Return the positions of interval, mean and the baseline's mean on the column's scale from 0 to 100."""
    cell = view.cells[method, metric]
    if not cell.count:
        return None
    column = [view.cells[method, metric] for method in view.methods]
    ends = [end for each in column for end in (each.low, each.high, each.mean) if math.isfinite(end)]
    low, span = min(ends), max(ends) - min(ends)

    def place(value: float) -> float:
        return 100 * (value - low) / span if span else 50

    reference = view.cells[view.baseline, metric].mean
    return {
        "left": place(cell.low),
        "right": place(cell.high),
        "mean": place(cell.mean),
        "reference": place(reference) if math.isfinite(reference) else None,
    }


def _details(view: View, raw: View, method: str, metric: str) -> list[str]:
    """Return the lines of a cell's tooltip, which screen readers read as well."""
    cell = view.cells[method, metric]
    lines = [
        f"{method}, {view.titles[metric]}",
        *_difference(view, cell, raw.cells[method, metric].better),
        f"{cell.count} defined scores",
    ]
    return lines + [f"{cell.undefined} undefined, {cell.failed} of them because of an error"] * bool(cell.undefined)


def _difference(view: View, cell: Cell, unadjusted: int) -> list[str]:
    pair = cell.difference
    if pair is None:
        return ["The baseline"] if len(view.methods) > 1 else []
    if not pair.count:
        return [f"No sample has scores of both this method and {view.baseline}"]
    decimals = _decimals(pair.mean, cell.decimals)
    mean, low, high = (number(value, decimals, signed=True) for value in (pair.mean, pair.low, pair.high))
    return [
        f"Against {view.baseline}: {mean} [{low}, {high}], {VERDICTS[pair.better][1]}",
        *[f"Without the adjustment: {VERDICTS[unadjusted][1]}"] * (unadjusted != pair.better),
        f"Better in {100 * pair.win_rate:.0f} % of {pair.count} pairs",
    ]


def _costs(view: View, method: str) -> list[str]:
    """Format the known costs: forwards, backwards, time and memory."""
    costs = ((view.cost(method, name) * scale, words) for name, scale, words in _COSTS)
    return [f"{cost:.4g} {words}" for cost, words in costs if math.isfinite(cost)]


def health(view: View) -> list[dict[str, Any]]:
    """Return the rows of the panel on the metrics: verdict, reason, and the checks as text."""
    return [_health_row(view, name, found) for name in view.grouped if (found := view.health.get(name))]


def _health_row(view: View, name: str, found: MetricHealth) -> dict[str, Any]:
    orders = {"another seed": found.seed, "noise on the image": found.noise, "another baseline": found.baseline}
    return {
        "title": view.titles[name],
        "verdict": found.verdict,
        "reason": found.reason,
        "controls": [(control, _measure(measure, signed=True)) for control, measure in found.controls.items()],
        "network": _measure(found.random_network, signed=True),
        "orders": [(words, _measure(order)) for words, order in orders.items() if order.known],
        "batch": "" if math.isnan(found.batch) else f"{100 * found.batch:.1f} %",
        "agreement": _measure(found.agreement),
    }


def _measure(found: Measure, *, signed: bool = False) -> str:
    if not found.known:
        return _DASH
    value, low, high = (number(each, 2, signed=signed) for each in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def performance(view: View, classes: Sequence[str]) -> dict[str, Any] | None:
    """Return the table of AUC and average precision by class; None where images have one of several classes."""
    if not len(view.performance):
        return None
    tags = {"class": "b", "images that show it": "", "that do not": "", "AUC": "", "average precision": ""}
    return _table("Predictions by class", tags, [_class_row(row, classes) for row in view.performance.to_dict("records")])


def _class_row(row: Mapping[Any, Any], classes: Sequence[str]) -> tuple[str, ...]:
    name = str(row["class"])
    counts = ("" if math.isnan(row[each]) else f"{row[each]:.0f}" for each in ("shown", "absent"))
    values = [[number(row[f"{each}{end}"]) for end in ("", "_low", "_high")] for each in ("auc", "average_precision")]
    place = int(name) if name.isdecimal() else len(classes)
    return (
        classes[place] if place < len(classes) else f"class {name}" if name.isdecimal() else f"{name} of the classes",
        *counts,
        *(
            f"{value} [{low}, {high}]" if math.isfinite(row[f"{each}"]) else _DASH
            for each, (value, low, high) in zip(("auc", "average_precision"), values, strict=True)
        ),
    )


def failures(comparison: Comparison, view: View) -> dict[str, Any] | None:
    """Return samples that could not be read, and a table of the errors, equal ones in one row; None if there were none."""
    if not len(comparison.failures):
        return None
    # An empty metric, because groupby leaves NaN out.
    groups = view.failures.fillna({"metric": ""}).groupby(["method", "metric", "error"], sort=False)["sample"]
    rows = [_failure(view, tuple(map(str, key)), list(map(str, samples))) for key, samples in groups]
    return {
        "note": view.on_unreadable(),
        "unreadable": _table(
            "Samples that could not be read",
            {"sample": "", "error": "code"},
            itertools.islice(view.unreadable.items(), _LISTED),
        ),
        "scores": _table("Failures", {"method": "b", "metric": "", "error": "code", "samples": ""}, rows),
    }


def _failure(view: View, what: tuple[str, ...], samples: Sequence[str]) -> tuple[str, ...]:
    method, metric, error = what
    more = ", …" if len(samples) > _SHOWN_SAMPLES else ""
    names = ", ".join(samples[:_SHOWN_SAMPLES]) + more
    return method, view.titles[metric] if metric else "the map itself", error, f"{len(samples)}: {names}"


def settings(comparison: Comparison, view: View) -> dict[str, Any]:
    """Return the values of the settings: the manifest for readers, the call that repeats the run, all scores."""
    manifest = comparison.manifest
    known = {title: manifest[key] for key, title in _KNOWN.items() if manifest.get(key) not in (None, "", [], {})}
    if not view.shared:
        known.pop("images", None)  # as many as samples
    few = len(comparison.scores) < _LARGEST_TABLE  # a row has more than one byte, so do not format what is too large
    table = _base64(comparison.scores.to_csv(index=False)) if few else ""
    return {
        "known": {title: _words(title, value) for title, value in known.items()},
        "tables": [_methods(manifest.get("methods", {})), _metrics(view, manifest.get("metrics", {}))],
        "versions": manifest.get("versions", {}),
        "call": _command(manifest["command"]) if "command" in manifest else _call(manifest, view),
        "table": table if len(table) <= _LARGEST_TABLE else "",
        "rows": len(comparison.scores),
        "manifest": json.dumps(manifest, indent=2, default=str),
    }


def _base64(text: str) -> str:
    # File names that are not UTF-8 have lone surrogates, which UTF-8 cannot encode.
    return base64.b64encode(text.encode("utf-8", "backslashreplace")).decode()


def _words(title: str, value: Any) -> str:
    """Format a setting in one line."""
    if title == "explained class":
        return _EXPLAINED.get(value, str(value))
    if title == "image size":
        return " \N{MULTIPLICATION SIGN} ".join(map(str, value)) + " pixels"
    if title == "classes":
        return listed(value, 400)  # there may be a thousand
    if title == "data" and isinstance(value, dict) and isinstance(value.get("found"), dict):
        return f"{_plain({key: part for key, part in value.items() if key != 'found'})}; found: {_found(value['found'])}"
    return _plain(value)


def _found(found: Mapping[str, Any]) -> str:
    """Return what was found of the data before the run: the counts, and the numbers of what was left out by reason."""
    counts = [f"{found[key]} {words}" for key, words in _FOUND.items() if key in found]
    left_out = [f"{entry['count']} not used ({why})" for why, entry in found.get("left_out", {}).items()]
    return ", ".join(counts + left_out)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(part)}" for key, part in value.items() if part is not None)
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def _methods(methods: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        (name, entry.get("class", ""), entry.get("layer") or _DASH, _plain(entry.get("arguments", {})))
        for name, entry in methods.items()
    ]
    return _table("Methods", {"method": "b", "class": "code", "layer": "", "arguments": ""}, rows)


def _metrics(view: View, metrics: Mapping[str, Any]) -> dict[str, Any]:
    tags = {"metric": "b", "name": "code", "category": "", "better": ""}
    rows = [
        (
            view.titles[name],
            name,
            view.categories[name],
            "higher" if view.higher_is_better(name) else "lower",
            entry.get("forwards", ""),
            entry.get("reads", ""),
            entry.get("origin", ""),
            _plain(entry.get("settings", {})),
            entry.get("source", ""),
        )
        for name, entry in metrics.items()
    ]
    return _table("Metrics", {**tags, **dict.fromkeys(("forwards", "reads", "origin", "settings", "source"), "")}, rows)


def _table(title: str, columns: Mapping[str, str], rows: Iterable[Sequence[object]]) -> dict[str, Any]:
    """Return a table without its empty columns; ``columns`` maps headings to HTML tags of the cells, or nothing."""
    rows = list(rows)
    filled = [place for place in range(len(columns)) if any(row[place] != "" for row in rows)]
    heads, tags = list(columns), list(columns.values())
    return {
        "title": title,
        "columns": [heads[place] for place in filled],
        "rows": [[(tags[place], row[place]) for place in filled] for row in rows],
    }


def _command(options: Mapping[str, Any]) -> str:
    """Format the command line with the options that affect the scores."""
    absent = [name for name, value in options.items() if value is None or value is False]  # but not 0
    parts = [_option(name, value) for name, value in options.items() if name not in (*absent, *_ELSEWHERE)]
    return " \\\n    ".join(["captum-softcam compare", *parts])


def _option(name: str, value: Any) -> str:
    flag = "--" + name.replace("_", "-")
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return flag if value is True else f"{flag} {shlex.quote(text)}"


def _call(manifest: Mapping[str, Any], view: View) -> str:
    """Format the call in Python that the manifest describes."""
    names = {"layer": "layer", "explained_class": "explain", "batch_size": "batch_size", "seed": "seed"}
    settings = [f"    {name}={manifest[key]!r}," for key, name in names.items() if manifest.get(key) is not None]
    lists = [f"    methods={list(view.methods)!r},", f"    metrics={list(view.metrics)!r},"]
    return "\n".join(["compare_methods(", "    model,", "    samples,", *lists, *settings, ")"])
