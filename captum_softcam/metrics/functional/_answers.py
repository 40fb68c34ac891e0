"""Outputs of the model as the scores read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from captum_softcam._scores import Scores, as_scores, class_logits, classes_of, refuse_probabilities, score_table

__all__ = ["of_class", "outputs_of", "probabilities_of", "refuse_other_classes"]


@torch.no_grad()
def outputs_of(
    forward_func: Callable[[Tensor], Tensor], images: Tensor, shown: Iterable[Tensor], targets: Tensor, scores: Scores
) -> list[Tensor]:
    """Compute the outputs (N, K) of several versions of the images (N, C, ...), one forward each.

    Raises:
        ValueError: if the outputs are not (N, K) or do not have a class, or are probabilities where logits are expected.
    """
    tables = [score_table(forward_func(each), len(images), scores) for each in shown]
    for table in tables[:1]:
        refuse_other_classes(table, targets, scores)
    # All at once, because the logits of a single version may lie between 0 and 1 by chance.
    refuse_probabilities(forward_func, images, tables, scores)
    return tables


@torch.no_grad()
def probabilities_of(
    forward_func: Callable[[Tensor], Tensor], images: Tensor, shown: Iterable[Tensor], targets: Tensor, scores: Scores
) -> Tensor:
    """Compute the probability of each image's class in several versions of the images, (N, versions)."""
    tables = outputs_of(forward_func, images, shown, targets, scores)
    return torch.stack([of_class(as_scores(table, scores), targets) for table in tables], 1)


def of_class(scores: Tensor, targets: Tensor) -> Tensor:
    """Select the score of each image's class, (N,), from those of all classes (N, K)."""
    return scores.gather(1, targets.to(scores.device)[:, None])[:, 0]


def refuse_other_classes(outputs: Tensor, targets: Tensor, scores: Scores) -> None:
    """Raise ValueError unless all targets (N,) are classes of a model with outputs (N, K)."""
    count = class_logits(outputs, scores).shape[1]
    # Tensors on the meta device have no values to check.
    if not targets.is_meta and ((targets < 0) | (targets >= count)).any():
        raise ValueError(f"targets go from {targets.min()} to {targets.max()}; {classes_of(outputs, scores)}.")
