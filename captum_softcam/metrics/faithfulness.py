"""Does the model need what the map marks? Perturbation on patches of whole pixels, and the ADCC family."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_softcam.metrics import functional
from captum_softcam.metrics.metric import Curve, Metric
from captum_softcam.metrics.trial import Explained

__all__ = ["COMPLEXITY", "FAITHFULNESS"]

_STEPS = 16


def _deletion(explained: Explained, steps: int) -> Curve:
    return _curve(functional.deletion_curve, explained, steps)


def _insertion(explained: Explained, steps: int) -> Curve:
    return _curve(functional.insertion_curve, explained, steps)


def _curve(function: object, explained: Explained, steps: int) -> Curve:
    game = explained.trial.game
    board = game.full_board
    points = function(  # type: ignore[operator]
        game, board, explained.patch_means, explained.trial.targets, torch.zeros_like(board), patches=None, steps=steps
    )
    return Curve(points, functional.step_fractions(board.shape[2:], patches=None, steps=steps))


def _average_drop(explained: Explained) -> Tensor:
    return functional.average_drop(explained.trial.confidence, explained.masked_confidence)


FAITHFULNESS = (
    Metric("deletion", "Deletion", "faithfulness", False, "petsiuk2018rise", _STEPS, _deletion, {"steps": _STEPS}, default=True),
    Metric("insertion", "Insertion", "faithfulness", True, "petsiuk2018rise", _STEPS, _insertion, {"steps": _STEPS}, default=True),
    Metric("average_drop", "Average drop", "faithfulness", False, "chattopadhay2018gradcampp", 1, _average_drop),
)
COMPLEXITY: tuple[Metric, ...] = ()
