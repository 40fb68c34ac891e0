"""The end of the report: what failed, how the numbers were made, and how to make them again."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from captum_softcam.report.html.facts import DASH, Facts, count
from captum_softcam.report.html.markup import Html, element

__all__ = ["failures_section", "settings_section"]

_LARGEST_TABLE = 1_000_000  # bytes of CSV that the file may carry
_KNOWN = {
    "created": "made on",
    "model": "model",
    "checkpoint": "checkpoint",
    "weights": "weights",
    "layer": "layer",
    "data": "data",
    "samples": "samples",
    "samples_with_mask": "samples with a mask",
    "image_size": "image size",
    "explained_class": "explained class",
    "classes": "classes",
    "baseline": "baseline",
    "seed": "seed",
    "batch_size": "batch size",
    "device": "device",
}
_EXPLAINED = {"true": "the sample's own", "predicted": "the predicted one"}
_SHOWN_SAMPLES = 5
_ELSEWHERE = ("address", "engine", "gallery", "out", "report", "resume", "workers")


def failures_section(facts: Facts) -> Html | None:
    """Errors, those that are alike in one row; None if there were none."""
    failures = facts.comparison.failures
    if not len(failures):
        return None
    groups = failures.fillna({"metric": ""}).groupby(["method", "metric", "error"], sort=False)["sample"]
    rows = [_failure(facts, tuple(map(str, key)), list(samples)) for key, samples in groups]
    return element(
        "section",
        element("h2", "Failures"),
        element("p", "What raised an error is left out of the means and counted in the table.", class_="note"),
        _table("What failed", ("method", "metric", "error", "samples"), rows),
        id="failures",
    )


def _failure(facts: Facts, what: tuple[str, ...], samples: Sequence[object]) -> Sequence[object]:
    method, metric, error = what
    more = ", …" if len(samples) > _SHOWN_SAMPLES else ""
    names = ", ".join(map(str, samples[:_SHOWN_SAMPLES])) + more
    part = facts.title(metric) if metric else "the map itself"
    return element("b", method), part, element("code", error), f"{len(samples)}: {names}"


def settings_section(facts: Facts) -> Html:
    """The manifest for readers, the call that repeats it, and the scores of every sample."""
    manifest = facts.manifest
    return element(
        "section",
        element("h2", "Settings"),
        _known(manifest),
        _methods(manifest.get("methods", {})),
        _metrics(facts),
        _versions(manifest.get("versions", {})),
        element("h3", "Run it again"),
        element("p", "With the same versions, model and samples, this gives the same scores on the same kind of device:"),
        _code(_command(manifest["command"]) if "command" in manifest else _call(facts)),
        _download(facts),
        element(
            "details",
            element("summary", "The whole manifest"),
            _code(json.dumps(manifest, indent=2, default=str)),
        ),
        id="settings",
    )


def _code(lines: str) -> Html:
    """Lines as they stand, in a box that scrolls and that the tab key reaches."""
    return element("pre", element("code", lines), tabindex="0")


def _known(manifest: dict[str, Any]) -> Html:
    entries = [(title, manifest[key]) for key, title in _KNOWN.items() if manifest.get(key) not in (None, "", [], {})]
    pairs = [element("div", element("dt", title), element("dd", _words(title, value))) for title, value in entries]
    return element("dl", *pairs, class_="settings")


def _words(title: str, value: Any) -> str:
    """A setting as one line of text."""
    if title == "explained class":
        return _EXPLAINED.get(value, str(value))
    if title == "image size":
        return " \N{MULTIPLICATION SIGN} ".join(map(str, value)) + " pixels"
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(part)}" for key, part in value.items() if part is not None)
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def _methods(methods: dict[str, Any]) -> Html | None:
    rows = [_method(name, entry) for name, entry in methods.items()]
    return _table("Methods", ("method", "class", "layer", "arguments"), rows) if rows else None


def _method(name: str, entry: dict[str, Any]) -> Sequence[object]:
    place, arguments = entry.get("layer") or DASH, _plain(entry.get("arguments", {}))
    return element("b", name), element("code", entry.get("class", "")), place, arguments


def _metrics(facts: Facts) -> Html | None:
    entries = facts.manifest.get("metrics", {})
    rows = [
        (
            element("b", facts.title(name)),
            element("code", name),
            facts.category(name),
            "higher" if facts.higher_is_better(name) else "lower",
            entry.get("forwards", ""),
            entry.get("origin", ""),
            _plain(entry.get("settings", {})),
            entry.get("source", ""),
        )
        for name, entry in entries.items()
    ]
    heads = ("metric", "name", "category", "better", "forwards", "origin", "settings", "source")
    return _table("Metrics", heads, rows) if rows else None


def _versions(versions: dict[str, Any]) -> Html | None:
    if not versions:
        return None
    pairs = [element("div", element("dt", name), element("dd", version)) for name, version in versions.items()]
    return element("div", element("h3", "Versions"), element("dl", *pairs, class_="settings"))


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """A plain table in a box that scrolls if it has to; columns that hold nothing are left out."""
    rows = list(rows)
    filled = [place for place in range(len(heads)) if any(row[place] not in ("", Html("<code></code>")) for row in rows)]
    head = element("tr", *(element("th", heads[place], scope="col") for place in filled))
    body = [element("tr", *(element("td", row[place]) for place in filled)) for row in rows]
    table = element("table", element("caption", title), element("thead", head), element("tbody", *body), class_="plain")
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=title)


def _command(options: Mapping[str, Any]) -> str:
    """The command line with the options that say what is measured, not where the result goes."""
    absent = [name for name, value in options.items() if value is None or value is False]  # 0 is present
    parts = [_option(name, value) for name, value in options.items() if name not in (*absent, *_ELSEWHERE)]
    return " \\\n    ".join(["captum-softcam compare", *parts])


def _option(name: str, value: Any) -> str:
    flag = "--" + name.replace("_", "-")
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return flag if value is True else f"{flag} {shlex.quote(text)}"


def _call(facts: Facts) -> str:
    """The call in Python that the manifest describes."""
    manifest = facts.manifest
    names = {"layer": "layer", "explained_class": "explain", "batch_size": "batch_size", "seed": "seed"}
    settings = [f"    {name}={manifest[key]!r}," for key, name in names.items() if manifest.get(key) is not None]
    lists = [f"    methods={facts.methods!r},", f"    metrics={list(facts.comparison.metrics)!r},"]
    return "\n".join(["compare_methods(", "    model,", "    samples,", *lists, *settings, ")"])


def _download(facts: Facts) -> Html:
    """A link to the scores of every sample, which the file carries if they are few."""
    scores: pd.DataFrame = facts.comparison.scores
    rows = count(len(scores), "row")
    table = scores.to_csv(index=False).encode("utf-8", "backslashreplace") if len(scores) < _LARGEST_TABLE else b""
    if not table or len(table) > _LARGEST_TABLE:
        return element("p", f"The scores of every sample, {rows}, are too many for this file; Comparison.save keeps them.")
    address = "data:text/csv;charset=utf-8;base64," + base64.b64encode(table).decode()
    link = element("a", "Download the scores of every sample", href=address, download="scores.csv", id="download")
    return element("p", link, f" (CSV, {rows})")
