"""Captum's forms of ``target``: which score of each example is meant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["AllScores", "OneScore", "row_targets", "select_score"]


def row_targets(target: Any, count: int) -> list[Any]:
    """The target of each of ``count`` examples: None, an index or a tuple of indices.

    Raises:
        AssertionError: if there are several targets but not one per example, or it is none of Captum's forms.
    """
    if isinstance(target, Tensor):
        target = target.item() if target.numel() == 1 else target.tolist()
    if target is None or isinstance(target, (int, tuple)):
        return [target] * count
    if not isinstance(target, list) or not all(isinstance(entry, (int, tuple)) for entry in target):
        raise AssertionError(f"target must be an int, a tuple, a tensor or a list of them; got {target!r}.")
    if len(target) != count:
        raise AssertionError(
            f"target has {len(target)} entries for {count} examples; give one class for all of them, or one per example."
        )
    return target


def select_score(scores: Any, target: Any) -> Tensor:
    """The score (R,) of one example's target from scores of R copies of it, (R, K) or (R, ...).

    Raises:
        AssertionError: if the target picks no single score, or is out of range.
    """
    if not isinstance(scores, Tensor):
        raise AssertionError(f"the model gives {type(scores).__name__}; scores must be a tensor (N, K).")
    sizes = tuple(scores.shape[1:])
    index = target if isinstance(target, tuple) else () if target is None else (target,)
    if target is None and sizes == (1,):
        index = (0,)
    table = f"({', '.join(map(str, ('N', *sizes)))}{',' * (not sizes)})"
    if len(index) != len(sizes):
        given = "no target" if target is None else f"target {target!r}"
        raise AssertionError(f"{given} for scores {table}: give one that picks a single score, as in target=0.")
    if not all(-size <= entry < size for entry, size in zip(index, sizes, strict=True)):
        raise AssertionError(f"target {target!r} is out of range for scores {table}.")
    picked: Tensor = scores[(slice(None), *index)]
    return picked


class OneScore:
    """Picks the score of each example's target from the scores of all classes."""

    def __init__(self, target: Any, count: int) -> None:
        self._targets = row_targets(target, count)

    def __call__(self, scores: Any, row: int) -> Tensor:
        """The score (R, 1) of one example's target from scores of R copies of it."""
        return select_score(scores, self._targets[row])[:, None]

    def columns(self, classes: int, row: int) -> list[int]:
        """The columns that the call would pick from scores (R, K)."""
        return select_score(torch.arange(classes)[None], self._targets[row]).tolist()


class AllScores:
    """Takes the scores of all classes."""

    def __call__(self, scores: Any, _row: int) -> Tensor:
        """The scores (R, K) as they are; ValueError if they are no such table."""
        if isinstance(scores, Tensor) and scores.dim() == 2:
            return scores
        got = f"scores {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"the model gives {got}; maps of all classes need scores (N, K).")

    def columns(self, classes: int, _row: int) -> list[int]:
        """All columns."""
        return list(range(classes))
