"""Outputs of the model as the scores read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from captum_softcam._scores import refuse_probabilities, score_table

__all__ = ["logits_of", "of_class", "probabilities_of", "refuse_other_classes"]


@torch.no_grad()
def logits_of(forward_func: Callable[[Tensor], Tensor], images: Tensor, shown: Iterable[Tensor]) -> list[Tensor]:
    """Compute the logits (N, K) of several versions of the images (N, C, ...), one forward each.

    Raises:
        ValueError: if the outputs are not logits (N, K) of two classes or more, for example probabilities.
    """
    tables = [score_table(forward_func(each), len(images)) for each in shown]
    # All at once, because the logits of a single version may lie between 0 and 1 by chance.
    refuse_probabilities(forward_func, images, tables)
    return tables


def probabilities_of(
    forward_func: Callable[[Tensor], Tensor], images: Tensor, shown: Iterable[Tensor], targets: Tensor
) -> Tensor:
    """Compute the softmax probability of each image's class in several versions of the images, (N, versions)."""
    return torch.stack([of_class(logits.softmax(1), targets) for logits in logits_of(forward_func, images, shown)], 1)


def of_class(scores: Tensor, targets: Tensor) -> Tensor:
    """Select the score of each image's class, (N,); raise ValueError if the model has no such class."""
    refuse_other_classes(scores, targets)
    return scores.gather(1, targets.to(scores.device)[:, None])[:, 0]


def refuse_other_classes(scores: Tensor, targets: Tensor) -> None:
    """Raise ValueError unless all targets (N,) are classes of scores (N, K)."""
    # Tensors on the meta device have no values to check.
    if not targets.is_meta and ((targets < 0) | (targets >= scores.shape[1])).any():
        raise ValueError(
            f"targets go from {targets.min()} to {targets.max()}; the model gives {scores.shape[1]} logits, so classes 0 to "
            f"{scores.shape[1] - 1}."
        )
