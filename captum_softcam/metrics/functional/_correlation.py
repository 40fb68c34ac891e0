"""Correlation of two tensors, row by row."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["pearson", "spearman"]


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Compute the Pearson correlation of the rows (N, M) of two tensors, (N,) in [-1, 1]; NaN where a row is constant."""
    first, second = (values - values.mean(1, keepdim=True) for values in (first, second))
    spread = (first.square().sum(1) * second.square().sum(1)).sqrt()
    return ((first * second).sum(1) / spread).clamp(-1, 1)  # rounding may leave the interval


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Compute the rank correlation of the rows (N, M) of two tensors; equal values share the mean of their ranks."""
    return pearson(_mean_ranks(first), _mean_ranks(second))


def _mean_ranks(values: Tensor) -> Tensor:
    # torch 2.14 warns when searchsorted gets values that are not contiguous.
    ranked, values = values.sort(1).values, values.contiguous()
    below, not_above = (torch.searchsorted(ranked, values, right=right) for right in (False, True))
    # Half a rank less than the mean of the ranks counted from 1: a constant cancels in the correlation.
    return (below + not_above).to(values.dtype) / 2
