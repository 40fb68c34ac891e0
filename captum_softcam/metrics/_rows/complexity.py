"""Rows of complexity: how much of the image a map marks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from captum_softcam.metrics import functional
from captum_softcam.metrics._rows.faithfulness import by_order
from captum_softcam.metrics.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from captum_softcam.metrics.batch import Explanation

__all__ = ["ROWS"]


def _of_map(name: str, explanation: Explanation) -> Tensor:
    scores: Tensor = getattr(functional, name)(explanation.maps)
    return scores


ROWS = (
    Metric(
        "complexity",
        "Entropy",
        "complexity",
        False,
        "bhatt2020evaluating",
        0,
        partial(_of_map, "complexity"),
        reads="map",
    ),
    Metric(
        "effective_complexity",
        "Effective complexity",
        "complexity",
        False,
        "nguyen2020quantitative",
        16,
        partial(by_order, "effective_complexity"),  # the boards of the insertion curve
        {"steps": 16, "tolerance": 0.1, "perturb_baseline": "blur"},
        "corrected",
        reads="probability",
    ),
    Metric(
        "map_complexity",
        "Map complexity",
        "complexity",
        False,
        "poppi2021adcc",
        0,
        partial(_of_map, "map_complexity"),
        reads="map",
    ),
    Metric(
        "sparseness",
        "Sparseness",
        "complexity",
        True,
        "chalasani2020concise",
        0,
        partial(_of_map, "sparseness"),
        reads="map",
        origin="corrected",
    ),
)
