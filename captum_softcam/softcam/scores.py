"""Loss and scores of a classifier over a set of examples, as functions of logits, targets and evidence; free of Lightning.

There are three kinds of targets: ``"multiclass"``, class numbers (N,); ``"multilabel"``, labels (N, K) of 0 and 1;
``"binary"``, labels (N,) of 0 and 1 for a single logit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "KINDS",
    "accuracy",
    "best_epoch",
    "classification_loss",
    "hoyer_sparsity",
    "log_odds",
    "one_vs_rest_auc",
    "refuse_mismatch",
]

KINDS = ("multiclass", "multilabel", "binary")
"""The kinds of targets."""


def refuse_mismatch(logits: object, targets: Tensor, kind: str) -> None:
    """Raise ValueError unless logits and targets have the shapes of the kind."""
    if not isinstance(logits, Tensor):
        raise ValueError(f"the model gives {type(logits).__name__}; training needs logits (N, K), one tensor.")
    size, given = tuple(logits.shape), tuple(targets.shape)
    wanted = {"multiclass": size[:1], "multilabel": size, "binary": size[:1]}[kind]
    if len(size) != 2 or given != wanted or (kind == "binary" and size[1] != 1):
        raise ValueError(
            f"logits {size} and targets {given} do not go together as {kind}; expected "
            + {"multiclass": "(N, K) and (N,)", "multilabel": "(N, K) and (N, K)", "binary": "(N, 1) and (N,)"}[kind]
            + "."
        )


def classification_loss(logits: Tensor, targets: Tensor, kind: str, class_weights: Tensor | None = None) -> Tensor:
    """Compute the cross-entropy of logits (N, K), a scalar, as the mean over the examples.

    Args:
        logits (Tensor): (N, K); (N, 1) if ``kind`` is binary.
        targets (Tensor): in the shape of ``kind``.
        kind (str): softmax cross-entropy for multiclass, sigmoid cross-entropy for multilabel and binary.
        class_weights (Tensor): (K,). Multiclass: weight of each example by its class, in a weighted mean. Otherwise: weight
            of the presence of a label relative to its absence. Default: all 1
    """
    class_weights = None if class_weights is None else class_weights.to(logits.dtype)  # the losses require it
    if kind == "multiclass":
        return F.cross_entropy(logits, targets, class_weights)
    targets = targets.reshape(logits.shape).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=class_weights)


def accuracy(logits: Tensor, targets: Tensor, kind: str) -> Tensor:
    """Compute the fraction of correct predictions: by the largest logit for multiclass, otherwise by all signs."""
    if kind == "multiclass":
        return (logits.argmax(1) == targets).double().mean()
    return ((logits > 0) == (targets.reshape(logits.shape) > 0.5)).double().mean()


def one_vs_rest_auc(logits: Tensor, targets: Tensor, kind: str) -> Tensor:
    r"""Compute the area under the ROC curve of every class against the rest, (K,); NaN for a class of all or no examples.

    .. math:: \mathrm{AUC}_k = P(s_k(x^+) > s_k(x^-)) + \tfrac12 P(s_k(x^+) = s_k(x^-))

    over all pairs of an example :math:`x^+` of the class and one :math:`x^-` of the rest. Scores :math:`s` are the log-odds
    of the softmax probabilities for multiclass, logits otherwise, in float64, because probabilities near 1 would be rounded
    to ties.
    """
    scores = logits.double()
    if kind == "multiclass":
        members = F.one_hot(targets, logits.shape[1]).bool()
        return _areas(log_odds(scores), members)
    return _areas(scores, targets.reshape(logits.shape) > 0.5)


def log_odds(logits: Tensor) -> Tensor:
    """Compute log(p / (1 - p)) of the softmax probabilities of logits (N, K)."""
    # 1 - p of the largest probability, which may be near 1, is the sum of the others: the difference would cancel.
    top = logits.argmax(1, keepdim=True)
    others = logits.scatter(1, top, -math.inf).logsumexp(1, keepdim=True)
    log_p = logits.log_softmax(1)
    odds = log_p - torch.log1p(-log_p.exp())
    return odds.scatter(1, top, logits.gather(1, top) - others)


def _areas(scores: Tensor, members: Tensor) -> Tensor:
    return torch.stack([_area(column[inside], column[~inside]) for column, inside in zip(scores.T, members.T, strict=True)])


def _area(inside: Tensor, outside: Tensor) -> Tensor:
    """Compute the fraction of pairs in the right order, with ties as one half; NaN without pairs."""
    if not len(inside) or not len(outside):
        return inside.new_tensor(math.nan)
    ordered, inside = outside.sort().values, inside.contiguous()
    # Sorting needs N log N steps, where a table of all pairs would need N^2 memory.
    below = torch.searchsorted(ordered, inside)
    not_above = torch.searchsorted(ordered, inside, right=True)
    # Ties are part of not_above only, so that each counts one half.
    return (below + not_above).double().mean() / (2 * len(outside))


def best_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """Find the epoch with the best validation score; among equal scores the one with the lowest validation loss.

    Args:
        history (sequence of mapping): one entry per epoch, with ``val_score`` and ``val_loss``; NaN counts as worst.

    Returns:
        int: its index; the first one if scores and losses are equal.

    Raises:
        ValueError: if there are no epochs.
    """

    def quality(place: int) -> tuple[float, float]:
        score, loss = history[place]["val_score"], history[place]["val_loss"]
        return -math.inf if math.isnan(score) else score, -math.inf if math.isnan(loss) else -loss

    return max(range(len(history)), key=quality)


def hoyer_sparsity(evidence: Tensor) -> Tensor:
    r"""Compute Hoyer's sparsity of the evidence of each example :cite:p:`hoyer2004sparseness`.

    .. math:: \frac{\sqrt n - \lVert E \rVert_1 / \lVert E \rVert_2}{\sqrt n - 1}

    over the :math:`n = Khw` cells: 0 if all have the same magnitude, 1 if only one is not zero. It does not depend on the
    scale of the logits and needs no threshold. Evidence that is zero everywhere has sparsity 1.

    Args:
        evidence (Tensor): (N, K, ...) with more than one cell per example.

    Returns:
        Tensor: (N,), in [0, 1].
    """
    cells = evidence.flatten(1).abs()
    root = math.sqrt(cells.shape[1])
    ratio = cells.sum(1) / cells.square().sum(1).sqrt()
    # 0 / 0 is evidence that is zero everywhere; rounding may take the ratio slightly out of its range.
    return ((root - ratio) / (root - 1)).nan_to_num(nan=1.0).clamp(0, 1)
