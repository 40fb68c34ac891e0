"""Rows of randomisation: whether a map depends on what the model has learned."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from captum_softcam.metrics import functional
from captum_softcam.metrics.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from captum_softcam.metrics.batch import Explanation

__all__ = ["ROWS"]


def _by_stage(name: str, order: str, explanation: Explanation, *, stages: int) -> Tensor:
    networks = getattr(explanation.batch.randomised, order)(stages)
    scores: Tensor = getattr(functional, name)(explanation.maps, [explanation.maps_of(network) for network in networks])
    return scores


def _random_logit(explanation: Explanation) -> Tensor:
    import torch

    batch = explanation.batch
    if batch.other_targets is None:
        return explanation.maps.new_full((len(batch.targets),), torch.nan)
    return functional.random_logit(explanation.maps, explanation.explain(batch.images, targets=batch.other_targets))


def _randomisation(
    name: str, title: str, source: str, function: Callable[..., Tensor], attributions: int, **more: Any
) -> Metric:
    return Metric(
        name,
        title,
        "randomisation",
        False,
        source,
        0,
        function,
        attributions=attributions,
        reads="map",
        **more,
    )


_STAGES = {"stages": 4}
_OF_RANDOM = "Similarity with the maps of networks with random weights: a map that ignores the model scores 1."

ROWS: tuple[Metric, ...] = (
    _randomisation(
        "mprt",
        "MPRT",
        "adebayo2018sanity",
        partial(_by_stage, "mprt", "cascading"),
        4,
        settings=_STAGES,
        origin="corrected",
        note=_OF_RANDOM,
    ),
    _randomisation(
        "mprt_independent",
        "MPRT (independent)",
        "adebayo2018sanity",
        partial(_by_stage, "mprt", "independent"),
        4,
        settings=_STAGES,
        note=_OF_RANDOM,
    ),
    _randomisation(
        "mprt_ssim",
        "MPRT (SSIM)",
        "adebayo2018sanity",
        partial(_by_stage, "mprt_ssim", "cascading"),
        4,
        settings=_STAGES,
        note=_OF_RANDOM,
    ),
    _randomisation(
        "random_logit",
        "Random logit",
        "sixt2020explanations",
        _random_logit,
        1,
        origin="corrected",
        note="Similarity with the map of another class: a map that ignores the class scores 1.",
    ),
)
