"""Does the model need what the map marks? Perturbation on patches of whole pixels, ROAD, IROF, and the ADCC family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_softcam.metrics import functional
from captum_softcam.metrics.batch import Explanation
from captum_softcam.metrics.functional._edges import nan_if_flat
from captum_softcam.metrics.metric import Curve, Metric

__all__ = ["FAITHFULNESS"]

_Function = Callable[..., Tensor]


def _play(function: _Function, explanation: Explanation, attributions: Tensor, **settings: Any) -> Tensor:
    """What a function of images and maps says of the board and the attributions of its patches (N, 1, g, g)."""
    game = explanation.batch.game
    board = game.full_board
    nothing = torch.zeros_like(board)
    scores = function(game, board, attributions, explanation.batch.targets, nothing, patches=None, **settings)
    return nan_if_flat(scores, explanation.maps)


def _curve(function: _Function, explanation: Explanation, *, steps: int) -> Curve:
    points = _play(function, explanation, explanation.patch_means, steps=steps)
    return Curve(points, functional.step_fractions(explanation.batch.counts, patches=None, steps=steps))


def _by_order(function: _Function, explanation: Explanation, **settings: Any) -> Tensor:
    return _play(function, explanation, explanation.patch_means, **settings)


def _by_sums(function: _Function, explanation: Explanation, **settings: Any) -> Tensor:
    return _play(function, explanation, explanation.patch_sums, **settings)


def _by_random_sums(function: _Function, explanation: Explanation, **settings: Any) -> Tensor:
    return _by_sums(function, explanation, seed=explanation.batch.seed, **settings)


def _road(explanation: Explanation, *, shares: Sequence[float], noise: float) -> Curve:
    batch = explanation.batch
    points = functional.road_curve(
        batch.model, batch.images, explanation.maps, batch.targets, shares=shares, noise=noise, seed=batch.seed
    )
    whole = (batch.logits.argmax(1) == batch.targets.to(batch.logits.device)).to(points)
    points = nan_if_flat(torch.cat([whole[:, None], points], 1), explanation.maps)
    return Curve(points, torch.tensor([0.0, *shares]))


def _irof(explanation: Explanation, *, steps: int) -> Tensor:
    batch = explanation.batch
    mean = functional.mean_baseline(batch.images)
    return functional.irof(batch.model, batch.images, explanation.maps, batch.targets, mean, batch.superpixels, steps=steps)


def _average_drop(explanation: Explanation) -> Tensor:
    return functional.average_drop(explanation.batch.confidence, explanation.masked_confidence)


def _increase_in_confidence(explanation: Explanation) -> Tensor:
    return functional.increase_in_confidence(explanation.batch.confidence, explanation.masked_confidence)


def _coherency(explanation: Explanation) -> Tensor:
    return functional.coherency(explanation.maps, explanation.masked_maps)


def _adcc(explanation: Explanation) -> Tensor:
    return functional.adcc(_average_drop(explanation), _coherency(explanation), functional.map_complexity(explanation.maps))


def _row(name: str, title: str, higher_is_better: bool, source: str, forwards: int, *rest: Any, **more: Any) -> Metric:
    return Metric(name, title, "faithfulness", higher_is_better, source, forwards, *rest, **more)


_STEPS = {"steps": 16}
_TENTHS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
_corrected = partial(_row, origin="corrected")

FAITHFULNESS = (
    _row(
        "deletion",
        "Deletion",
        False,
        "petsiuk2018rise",
        16,
        partial(_curve, functional.deletion_curve),
        _STEPS,
        default=True,
    ),
    _row(
        "insertion",
        "Insertion",
        True,
        "petsiuk2018rise",
        16,
        partial(_curve, functional.insertion_curve),
        _STEPS,
        default=True,
    ),
    _corrected(
        "faithfulness_correlation",
        "Faithfulness correlation",
        True,
        "bhatt2020evaluating",
        200,
        partial(_by_random_sums, functional.faithfulness_correlation),
        {"subset_size": 16, "runs": 200},
        default=True,
    ),
    _corrected(
        "sensitivity_n",
        "Sensitivity-n",
        True,
        "ancona2018towards",
        200,
        partial(_by_random_sums, functional.sensitivity_n),
        {"sizes": [1, 4, 16, 48], "runs": 50},
    ),
    _corrected(
        "infidelity",
        "Infidelity",
        False,
        "yeh2019infidelity",
        138,
        partial(_by_sums, functional.infidelity),
        {"sides": [1, 2, 4], "scaled": True},
    ),
    _corrected(
        "monotonicity", "Monotonicity", True, "arya2019explanation", 16, partial(_by_order, functional.monotonicity), _STEPS
    ),
    _corrected(
        "monotonicity_correlation",
        "Monotonicity correlation",
        True,
        "nguyen2020quantitative",
        64,
        partial(_by_sums, functional.monotonicity_correlation),
    ),
    _corrected("road", "ROAD", False, "rong2022road", 9, _road, {"shares": _TENTHS, "noise": 0.01}),
    _corrected("irof", "IROF", True, "rieger2020irof", 17, _irof, _STEPS),
    _row("average_drop", "Average drop", False, "chattopadhay2018gradcampp", 1, _average_drop),
    _row("increase_in_confidence", "Increase in confidence", True, "chattopadhay2018gradcampp", 1, _increase_in_confidence),
    _row("coherency", "Coherency", True, "poppi2021adcc", 0, _coherency, attributions=1),
    _row("adcc", "ADCC", True, "poppi2021adcc", 1, _adcc, attributions=1),
)
