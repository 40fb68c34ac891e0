"""What a map says of sets of patches beside what the model says when they are taken away."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_softcam._names import quoted
from captum_softcam.metrics.functional._answers import logits_of, of_class
from captum_softcam.metrics.functional._edges import refuse_other_images, wide
from captum_softcam.metrics.functional._grid import expand_patches, grid, patch_sums

__all__ = ["random_subsets", "removals", "single_patches", "squares"]

_ROUNDING = 1e-6


@torch.no_grad()
def removals(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Tensor,
    patches: int | None,
    subsets: Tensor,
) -> tuple[Tensor, Tensor]:
    """Sum of the map over each subset, and how far the logit of the class falls without it: both (N, M).

    The subsets (M, ...) are bool over the grid of patches. A fall below a millionth of the highest logit is none: it is
    rounding, which differs from batch size to batch size.
    """
    refuse_other_images(images, maps)
    size = maps.shape[2:]
    subsets = subsets.to(maps.device)
    sums = patch_sums(maps, grid(size, patches)).flatten(1)
    taken = (torch.where(expand_patches(subset[None], size), baseline, images) for subset in subsets)
    whole, *rest = logits_of(forward_func, images, itertools.chain([images], taken))
    scale = wide(whole.abs().amax(1))
    drops = torch.stack([wide(of_class(whole, targets)) - wide(of_class(logits, targets)) for logits in rest], 1)
    return sums @ subsets.flatten(1).to(sums).T, drops.masked_fill(drops.abs() <= _ROUNDING * scale[:, None], 0)


def random_subsets(counts: Sequence[int], subset_size: int, runs: int, seed: int) -> Tensor:
    """Random subsets of a grid of patches, (runs, *counts).

    The first of more runs, and the smaller of larger subsets: what is asked for at another size has been drawn alike.
    """
    total = math.prod(counts)
    if not 1 <= subset_size < total:
        raise ValueError(
            f"subset_size must be from 1 to {total - 1}, fewer than the {total} patches; got {quoted(subset_size)}."
        )
    if runs < 2:
        raise ValueError(f"runs must be >= 2, or nothing correlates; got {quoted(runs)}.")
    generator = torch.Generator().manual_seed(seed)
    subsets = torch.zeros(runs, total, dtype=torch.bool)
    for subset in subsets:
        subset[torch.randperm(total, generator=generator)[:subset_size]] = True
    return subsets.view(runs, *counts)


def single_patches(counts: Sequence[int]) -> Tensor:
    """Each patch of a grid alone, (patches, *counts)."""
    return torch.eye(math.prod(counts), dtype=torch.bool).view(-1, *counts)


def squares(counts: Sequence[int], sides: Sequence[int]) -> Tensor:
    """Each square (cube, run) of these sides on a grid of patches, (M, *counts)."""
    for side in sides:
        if not 1 <= side <= min(counts):
            raise ValueError(f"sides must be from 1 to {min(counts)}, the patches per side; got {quoted(side)}.")
    found = []
    for side in sides:
        for corner in itertools.product(*[range(count - side + 1) for count in counts]):
            found.append(torch.zeros(*counts, dtype=torch.bool))
            found[-1][tuple(slice(start, start + side) for start in corner)] = True
    return torch.stack(found)
