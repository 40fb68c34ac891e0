"""Decide claims about costs from the pages that ``benchmarks/attribution.py`` and ``benchmarks/comparison.py`` have written.

Nothing is measured here; the ledger imports it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from study import DOCS, Decides, Interval, Ratio, Results
from study_page import read_tables

NAME = "costs"
METHODS, COMPARISON = DOCS / "reference/costs_measured.md", DOCS / "reference/comparison_measured.md"
RECIPRO, ALL_CLASSES, GRAD_CAM = "LayerReciproCam", "1,000 classes", "Captum's LayerGradCam, one class"
MARGIN = 1.1  # what counts as about one, and as fast


def load(_folder: Path) -> Results:
    """Read both pages."""
    return ratios(METHODS.read_text(encoding="utf-8"), COMPARISON.read_text(encoding="utf-8"))


def ratios(methods: str, comparison: str) -> Results:
    """Return the ratios that decide, by network, with the middle half of their rounds."""
    results = Results(NAME, {})
    for network, rows in read_tables(methods).items():
        times = {row[0]: found for row in rows if (found := _ratio(row)) is not None}
        if "forward" not in times:
            continue
        unit, grad_cam = times["forward"].mean, times.get(GRAD_CAM)
        for name, found in times.items():
            if name.startswith(RECIPRO) and not name.endswith(ALL_CLASSES):
                results.add("forwards", network, name, _by(found, unit))
            if name == f"{RECIPRO}, one class" and grad_cam:
                results.add("Grad-CAM", network, name, _by(found, grad_cam.mean))
    for row in read_tables(comparison).get("One comparison instead of separate calls", []):
        if row[0] == "one by one":
            results.add("comparison", row[0], "seconds", Interval(*3 * [float(row[3])], 1))
    return results


def _ratio(row: list[str]) -> Interval | None:
    """Return the ratio to a forward, which is left of the middle half of the rounds, unless a row has neither."""
    place = next((i for i, cell in enumerate(row) if re.fullmatch(r"\d.* to \d.*|(one|two) rounds?", cell)), None)
    if place is None:
        return None
    ratio, ends = float(row[place - 1]), [float(end) for end in re.findall(r"\d+\.\d+", row[place])]
    return Interval(ratio, *(ends or (ratio, ratio)))


def _by(found: Interval, unit: float) -> Interval:
    return Interval(*(value / unit for value in found[:3]))


def findings(results: Results) -> Iterator[Decides]:
    """Yield what decides each claim, for the networks that were measured."""
    for network, cells in results.tables.get("forwards", {}).items():
        for column in cells:
            words = f"{network}{column.removeprefix(RECIPRO)}"
            yield Ratio("one-forward", "forwards", network, column, MARGIN, words=words)
    for network, cells in results.tables.get("Grad-CAM", {}).items():
        for column in cells:
            yield Ratio(
                "recipro-speed-grad", "Grad-CAM", network, column, MARGIN, words=f"{network}, by the time of Grad-CAM"
            )
    if "comparison" in results.tables:
        words = "the time one by one, by that of the comparison"
        yield Ratio("comparison-cost", "comparison", "one by one", "seconds", 1, False, words)
