"""The score of each example that is explained, in Captum's forms of ``target``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_softcam._names import quoted
from captum_softcam._scores import described, place_of_table

__all__ = ["AllScores", "OneScore", "check_rows", "relative_to", "row_targets", "select_score"]


def check_rows(scores: Any, count: int) -> None:
    """Raise ValueError unless the scores of a model are a tensor with one row for each of ``count`` examples."""
    if isinstance(scores, Tensor) and scores.dim() and len(scores) == count:
        return
    if isinstance(scores, Tensor):
        raise ValueError(
            f"the model gives scores {tuple(scores.shape)} for {count} example{'s' * (count != 1)}; expected one row per "
            "example, (N, K). Do not index, sum or squeeze the dimension of the examples."
        )
    raise ValueError(
        f"the model gives {described(scores)}; expected scores (N, K). "
        f"Pass lambda x: model(x){place_of_table(scores) or ', or whatever makes scores of it'}."
    )


def relative_to(none: Tensor, scores: Tensor) -> Tensor:
    """Return scores (P, R) of positions less those of no position (1, R); columns that differ by rounding alone are 0."""
    differences = scores - none
    if not scores.is_floating_point():
        return differences
    # Of a score that does not depend on the positions, the difference would be a map of rounding errors
    tolerance = min(16 * torch.finfo(scores.dtype).eps, 1e-6) * scores.abs().amax(0)
    return differences.masked_fill(differences.abs().amax(0) <= tolerance, 0)


def row_targets(target: Any, count: int) -> list[Any]:
    """Return the target of each example: None, an index or a tuple of indices.

    Args:
        target (any): in any of Captum's forms.
        count (int): number of examples.

    Raises:
        AssertionError: if there are several targets but not one per example, or in another form than Captum's.
    """
    if isinstance(target, Tensor):
        if target.dim() > 1 and target.numel() > 1:
            raise AssertionError(f"target must hold one class per example, (N,); got a tensor {tuple(target.shape)}.")
        # As in Captum, a tensor of one element is the class of all examples
        target = target.item() if target.numel() == 1 else target.tolist()
    # torch would use True as a mask, not as the index 1
    if isinstance(target, bool):
        target = int(target)
    if target is None or isinstance(target, (int, tuple)):
        return [target] * count
    if not isinstance(target, list) or not all(isinstance(entry, (int, tuple)) for entry in target):
        raise AssertionError(f"target must be an int, a tuple, a tensor or a list of them; got {quoted(target)}.")
    if len(target) != count:
        raise AssertionError(
            f"target has {len(target)} entries for {count} examples; pass one class for all of them, or one per example."
        )
    return [int(entry) if isinstance(entry, bool) else entry for entry in target]


def select_score(scores: Any, target: Any) -> Tensor:
    """Return the scores (R,) of a target from scores (R, K) or (R, ...) of R copies of one example.

    Args:
        scores (Tensor): of the copies.
        target (int, tuple or None): of the example.

    Raises:
        AssertionError: if the target does not select a single score, or is out of range.
    """
    sizes = tuple(scores.shape[1:])
    index = target if isinstance(target, tuple) else () if target is None else (target,)
    # As in Captum, a model with one output needs no target
    if target is None and sizes == (1,):
        index = (0,)
    table = f"({', '.join(map(str, ('N', *sizes)))}{',' * (not sizes)})"
    if len(index) != len(sizes):
        given = "no target" if target is None else f"target {quoted(target)}"
        # For the message: a target that would fit, at the centre of outputs with positions
        example = None if not sizes else 0 if len(sizes) == 1 else (0, *(size // 2 for size in sizes[1:]))
        raise AssertionError(f"{given} for scores {table}: pass one that picks a single score, as in target={example}.")
    if not all(-size <= entry < size for entry, size in zip(index, sizes, strict=True)):
        raise AssertionError(f"target {quoted(target)} is out of range for scores {table}.")
    picked: Tensor = scores[(slice(None), *index)]
    return picked


class OneScore:
    """Selects the score of each example's target.

    Args:
        target (any): in any of Captum's forms.
        count (int): number of examples.
    """

    def __init__(self, target: Any, count: int) -> None:
        self._targets = row_targets(target, count)
        self._empty = not count

    def __call__(self, scores: Any, row: int) -> Tensor:
        """Return the scores (R, 1) of the target of one example; any score if there are no examples."""
        if self._empty:
            return scores.flatten(1)[:, :1]  # type: ignore[no-any-return]  # a tensor
        return select_score(scores, self._targets[row])[:, None]

    def columns(self, classes: int, row: int) -> list[int]:
        """Return the columns that a call would select from scores (R, K)."""
        if self._empty:
            return [0]
        return select_score(torch.arange(classes)[None], self._targets[row]).tolist()


class AllScores:
    """Selects the scores of all classes."""

    def __call__(self, scores: Tensor, _row: int) -> Tensor:
        """Return scores (R, K) as they are; raise ValueError for any others."""
        if scores.dim() == 2:
            return scores
        raise ValueError(f"the model gives scores {tuple(scores.shape)}; maps of all classes need scores (N, K).")

    def columns(self, classes: int, _row: int) -> list[int]:
        """Return all columns."""
        return list(range(classes))
