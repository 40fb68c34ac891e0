"""Decide claims about costs from what ``benchmarks/attribution.py`` and ``benchmarks/comparison.py`` have kept.

Nothing is measured here; the ledger imports it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from study import Decides, Interval, Ratio, Results

NAME = "costs"
KEPT = Path(__file__).parents[1] / "costs" / "attribution.json"
FORWARD, RECIPRO, EARLIER, GRAD_CAM = (
    "forward",
    "LayerReciproCam, one class",
    "LayerReciproCam, an earlier layer",
    "Captum's LayerGradCam, one class",
)
ABOUT_ONE, AS_FAST = 1.1, 1.1


def load(_folder: Path) -> Results:
    """Read the times of methods, as ratios with the middle half of the rounds."""
    return ratios(json.loads(KEPT.read_text(encoding="utf-8")))


def ratios(kept: dict[str, Any]) -> Results:
    """Return the ratios that decide, by network."""
    results = Results(NAME, {"rounds": kept["rounds"]})
    for network in kept["networks"].values():
        rows = {(row["name"], row["photographs"]): row["seconds"] for row in network["rows"]}
        title = network["title"].partition(",")[0]
        for (name, photographs), seconds in rows.items():
            if name in (RECIPRO, EARLIER):
                results.add("forwards", title, name, _ratio(seconds, rows[FORWARD, photographs]))
            if name == GRAD_CAM:
                results.add("Grad-CAM", title, RECIPRO, _ratio(rows[RECIPRO, photographs], seconds))
    return results


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return the ratio of the median to that of others, with the middle half of ours."""
    low, middle, high = statistics.quantiles(ours, n=4, method="inclusive") if len(ours) > 1 else 3 * list(ours)
    unit = statistics.median(theirs)
    return Interval(middle / unit, low / unit, high / unit, len(ours))


def findings(results: Results) -> Iterator[Decides]:
    """Yield what decides each claim, for the networks that were measured."""
    for network, cells in results.tables["forwards"].items():
        for column, words in ((RECIPRO, "last layer"), (EARLIER, "an earlier layer")):
            if column in cells:
                yield Ratio("one-forward", "forwards", network, column, ABOUT_ONE, words=f"{network}, {words}")
    for network in results.tables.get("Grad-CAM", {}):
        yield Ratio(
            "recipro-speed-grad", "Grad-CAM", network, RECIPRO, AS_FAST, words=f"{network}, time by that of Grad-CAM"
        )
