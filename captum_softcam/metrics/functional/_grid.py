"""Maps divided into a grid of patches of equal size, up to one position."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_softcam.metrics.functional._edges import wide

__all__ = ["even_grid", "expand_patches", "grid", "owners_of", "patch_means", "patch_sums", "ranks"]


def even_grid(size: Sequence[int], total: int) -> list[int]:
    """Return the patches along each dimension, ``total`` in all; fewer where a side has fewer positions."""
    # 64 ** (1 / 3) is 3.9999999999999996, which int() would cut to 3 patches per side of a volume.
    return [min(round(total ** (1 / len(size))), side) for side in size]


def grid(size: Sequence[int], patches: int | Sequence[int] | None) -> list[int]:
    """Return the patches along each dimension: one number for all, or one for each; None makes each position a patch."""
    if patches is None:
        return list(size)
    counts = [patches] * len(size) if isinstance(patches, int) else list(patches)
    for side, count in zip(size, counts, strict=True):
        if not 1 <= count <= side:
            raise ValueError(f"a side of {side} positions cannot be cut into {count} patches.")
    return counts


def patch_sums(maps: Tensor, counts: Sequence[int]) -> Tensor:
    """Sum each map (N, 1, ...) over its patches, (N, *counts)."""
    sums = wide(maps[:, 0])
    for d, count in enumerate(counts, start=1):
        owners = owners_of(sums.shape[d], count, sums.device)
        sums = sums.new_zeros(*sums.shape[:d], count, *sums.shape[d + 1 :]).index_add(d, owners, sums)
    return sums


def patch_means(maps: Tensor, counts: Sequence[int]) -> Tensor:
    """Average each map (N, 1, ...) over its patches, (N, *counts)."""
    # Not adaptive_avg_pool, whose windows overlap if the number of patches does not divide the side.
    return patch_sums(maps, counts) / patch_sums(torch.ones_like(maps[:1]), counts)


def expand_patches(values: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat the values of patches (N, *counts) at each of their positions, (N, 1, *size)."""
    for d, side in enumerate(size, start=1):
        values = values.index_select(d, owners_of(side, values.shape[d], values.device))
    return values[:, None]


def owners_of(side: int, patches: int, device: torch.device | None = None) -> Tensor:
    """Return the patch of each position along one dimension."""
    # Sizes differ by one position at most, and no patch is empty while there are at least as many positions.
    return torch.arange(side, device=device) * patches // side


def ranks(values: Tensor) -> Tensor:
    """Rank the patches (N, ...) by value, 0 for the strongest; equal ones from the top left."""
    # Without stable, the order of equal patches differs between devices and sizes.
    order = values.flatten(1).argsort(dim=1, descending=True, stable=True)
    # The argsort of a permutation is its inverse: the place of each patch instead of the patch at each place.
    return order.argsort(dim=1).view_as(values)
