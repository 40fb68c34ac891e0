"""Rows of localisation: whether a map lies on the mask."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from captum_softcam.metrics import functional
from captum_softcam.metrics.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from captum_softcam.metrics.batch import Explanation

__all__ = ["ROWS"]


def _of_mask(name: str, explanation: Explanation, **settings: Any) -> Tensor:
    scores: Tensor = getattr(functional, name)(explanation.maps, explanation.batch.masks, **settings)
    return scores


def _localisation(name: str, title: str, source: str, **more: Any) -> Metric:
    return Metric(
        name, title, "localisation", True, source, 0, partial(_of_mask, name), reads="map", needs_mask=True, **more
    )


def _grid_pointing_game(explanation: Explanation) -> Tensor:
    from captum_softcam.metrics.functional._edges import nan_if_flat

    scores: Tensor = functional.grid_pointing_game(explanation.mosaic_maps, explanation.batch.mosaics.cells)
    return nan_if_flat(scores, explanation.maps)


ROWS = (
    _localisation(
        "pointing_game",
        "Pointing game",
        "zhang2018pointing",
        settings={"tolerance": 0.0},
        default=True,
        origin="corrected",
    ),
    _localisation("relevance_mass_accuracy", "Relevance mass", "arras2022clevr", default=True, origin="corrected"),
    _localisation("relevance_rank_accuracy", "Relevance rank", "arras2022clevr", default=True, origin="corrected"),
    _localisation("pixel_auc", "Pixel AUC", "fawcett2006roc", default=True),
    _localisation("energy_based_pointing_game", "Energy pointing", "wang2020scorecam"),
    _localisation(
        "top_k_intersection", "Top-k intersection", "theiner2022geolocation", settings={"k": 0.5}, origin="corrected"
    ),
    _localisation("activation_precision", "Activation precision", "djoumessi2026softcam"),
    _localisation("activation_sensitivity", "Activation sensitivity", "djoumessi2026softcam"),
    _localisation(
        "top_k_localisation_precision", "Top-k precision", "djoumessi2026softcam", settings={"k": 10, "patches": 16}
    ),
    _localisation("iou_at_best_threshold", "Best IoU", "choe2020wsol"),
    Metric(
        "grid_pointing_game",
        "Grid pointing",
        "localisation",
        True,
        "bohle2021coda",
        0,
        _grid_pointing_game,
        attributions=1,
        reads="map",
        needs_mosaics=True,
        origin="corrected",
        note="On mosaics with images of other classes: a map that ignores the model scores 1/4 on average.",
    ),
)
