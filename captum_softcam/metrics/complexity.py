"""How much of the image does the map mark? Functions of maps alone as metrics of the comparison."""

from __future__ import annotations

from torch import Tensor

from captum_softcam.metrics import functional
from captum_softcam.metrics.batch import Explanation
from captum_softcam.metrics.metric import Metric

__all__ = ["COMPLEXITY"]


def _map_complexity(explanation: Explanation) -> Tensor:
    return functional.map_complexity(explanation.maps)


def _sparseness(explanation: Explanation) -> Tensor:
    return functional.sparseness(explanation.maps)


COMPLEXITY = (
    Metric("map_complexity", "Map complexity", "complexity", False, "poppi2021adcc", 0, _map_complexity),
    Metric("sparseness", "Sparseness", "complexity", True, "chalasani2020concise", 0, _sparseness, origin="corrected"),
)
