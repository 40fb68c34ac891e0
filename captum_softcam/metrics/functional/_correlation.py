"""Correlation of two tensors, row by row."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_softcam.metrics.functional._edges import wide

__all__ = ["mean_ranks", "pearson", "spearman"]


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Compute the Pearson correlation of the rows (N, M) of two tensors, (N,) in [-1, 1]; NaN where a row is constant."""
    first, second = (values - values.mean(1, keepdim=True) for values in (first, second))
    spread = (first.square().sum(1) * second.square().sum(1)).sqrt()
    return ((first * second).sum(1) / spread).clamp(-1, 1)  # rounding may leave the interval


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Compute the rank correlation of the rows (N, M) of two tensors; equal values share the mean of their ranks."""
    return pearson(mean_ranks(first), mean_ranks(second)).to(first.dtype)


def mean_ranks(values: Tensor) -> Tensor:
    """Rank the values of each row (N, M) up to a constant; equal values share the mean of their ranks."""
    ranked, order = values.sort(1)
    place = torch.arange(values.shape[1], device=values.device).expand_as(order)
    edge = torch.ones_like(ranked[:, :1], dtype=torch.bool)
    changes = ranked[:, 1:] != ranked[:, :-1]
    # Of each run of equal values the first and the last place, which is faster than a search for each value.
    first = torch.where(torch.cat([edge, changes], 1), place, 0).cummax(1).values
    last = torch.where(torch.cat([changes, edge], 1), place, values.shape[1]).flip(1).cummin(1).values.flip(1)
    ranks = wide(first + last) / 2
    return torch.empty_like(ranks).scatter_(1, order, ranks)
