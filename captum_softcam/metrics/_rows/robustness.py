"""Rows of robustness: whether a map stays alike where the image does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from captum_softcam.metrics import functional
from captum_softcam.metrics.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from captum_softcam.metrics.batch import Explanation

__all__ = ["ROWS"]


def _sensitivity(name: str, explanation: Explanation, *, runs: int, radius: float) -> Tensor:
    scores: Tensor = getattr(functional, name)(explanation.maps, explanation.noisy_maps(runs, radius))
    return scores


def _lipschitz(explanation: Explanation, *, runs: int, radius: float) -> Tensor:
    batch = explanation.batch
    noisy = explanation.noisy_maps(runs, radius), batch.images, batch.noisy_images(runs, radius)
    return functional.local_lipschitz_estimate(explanation.maps, *noisy)


def _stability(explanation: Explanation, *, runs: int, radius: float) -> Tensor:
    batch = explanation.batch
    noisy = explanation.noisy_maps(runs, radius), batch.images, batch.noisy_images(runs, radius)
    return functional.relative_input_stability(explanation.maps, *noisy, batch.same_predictions(runs, radius))


def _continuity(explanation: Explanation, *, shifts: Sequence[float]) -> Tensor:
    import torch

    from captum_softcam.metrics.batch import other_images

    images = explanation.batch.images
    offsets = functional.shift_offsets(images.shape[2:], shifts)
    shifted = torch.stack([functional.translated_images(images, each) for each in offsets], 1)
    versions = zip(shifts, other_images(images, shifted).unbind(1), strict=True)
    maps = torch.cat([explanation.explain(each, draw=f"shift {shift}") for shift, each in versions], 1)
    return functional.continuity(explanation.maps, maps, offsets)


def _robustness(name: str, title: str, source: str, function: Any, forwards: int = 0, **more: Any) -> Metric:
    settings = {"settings": _NOISE, "attributions": 8, "reads": "map", "origin": "corrected", **more}
    return Metric(name, title, "robustness", False, source, forwards, function, **settings)


_NOISE = {"runs": 8, "radius": 0.2}

ROWS = (
    _robustness("max_sensitivity", "Max sensitivity", "yeh2019infidelity", partial(_sensitivity, "max_sensitivity")),
    _robustness("avg_sensitivity", "Average sensitivity", "yeh2019infidelity", partial(_sensitivity, "avg_sensitivity")),
    _robustness("local_lipschitz_estimate", "Local Lipschitz estimate", "alvarez2018robustness", _lipschitz),
    _robustness("relative_input_stability", "Relative input stability", "agarwal2022rethinking", _stability, forwards=8),
    Metric(
        "continuity",
        "Continuity",
        "robustness",
        True,
        "montavon2018methods",
        0,
        _continuity,
        {"shifts": [-0.125, -0.0625, 0.0625, 0.125]},
        "corrected",
        4,
        reads="map",
    ),
)
