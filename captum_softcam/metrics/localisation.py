"""Does the map lie on the mask? Functions of maps and masks as metrics of the comparison."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum_softcam.metrics import functional
from captum_softcam.metrics.batch import Explanation
from captum_softcam.metrics.metric import Metric

__all__ = ["LOCALISATION"]


def _localisation(function: Callable[..., Tensor], title: str, source: str, *, default: bool = False, **more: Any) -> Metric:
    def score(explanation: Explanation, **settings: Any) -> Tensor:
        return function(explanation.maps, explanation.batch.masks, **settings)

    settings = {
        name: each.default for name, each in inspect.signature(function).parameters.items() if each.kind is each.KEYWORD_ONLY
    }
    return Metric(function.__name__, title, "localisation", True, source, 0, score, settings, default=default, **more)


LOCALISATION = (
    _localisation(functional.pointing_game, "Pointing game", "zhang2018pointing", default=True, origin="corrected"),
    _localisation(functional.relevance_mass_accuracy, "Relevance mass", "arras2022clevr", default=True, origin="corrected"),
    _localisation(functional.relevance_rank_accuracy, "Relevance rank", "arras2022clevr", default=True, origin="corrected"),
    _localisation(functional.pixel_auc, "Pixel AUC", "fawcett2006roc", default=True),
    _localisation(functional.energy_based_pointing_game, "Energy pointing", "wang2020scorecam"),
    _localisation(functional.top_k_intersection, "Top-k intersection", "theiner2022geolocation", origin="corrected"),
    _localisation(functional.activation_precision, "Activation precision", "djoumessi2026softcam"),
    _localisation(functional.activation_sensitivity, "Activation sensitivity", "djoumessi2026softcam"),
    _localisation(functional.top_k_localisation_precision, "Top-k precision", "djoumessi2026softcam"),
    _localisation(functional.iou_at_best_threshold, "Best IoU", "choe2020wsol"),
)
