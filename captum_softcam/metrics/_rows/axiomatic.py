"""Rows of axioms: identities that a map has to satisfy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from captum_softcam.metrics import functional
from captum_softcam.metrics._rows.faithfulness import by_order
from captum_softcam.metrics.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from captum_softcam.metrics.batch import Explanation

__all__ = ["ROWS"]


def _completeness(explanation: Explanation, *, total: Literal["either", "sum", "mean"]) -> Tensor:
    batch = explanation.batch
    logits = batch.logits.gather(1, batch.targets[:, None])[:, 0]
    return functional.completeness(explanation.layer_maps, logits, batch.empty_logits, total=total)


def _flip_symmetry(explanation: Explanation) -> Tensor:
    from captum_softcam.metrics.batch import other_images

    images = explanation.batch.images
    (mirrored,) = other_images(images, images.flip(-1)[:, None]).unbind(1)
    return functional.flip_symmetry(explanation.maps, explanation.explain(mirrored, draw="mirrored"))


ROWS = (
    Metric(
        "completeness",
        "Completeness",
        "axiomatic",
        False,
        "sundararajan2017integrated",
        1,
        _completeness,
        {"total": "either"},
        "corrected",
        reads="logit",
    ),
    Metric(
        "flip_symmetry",
        "Flip symmetry",
        "axiomatic",
        True,
        "crabbe2023evaluating",
        0,
        _flip_symmetry,
        attributions=1,
        reads="map",
    ),
    Metric(
        "insensitivity",
        "Insensitivity",
        "axiomatic",
        False,
        "nguyen2020quantitative",
        64,
        partial(by_order, "insensitivity"),  # the boards of the faithfulness estimate
        {"tolerance": 0.1, "perturb_baseline": "blur"},
        "corrected",
        reads="logit",
    ),
)
