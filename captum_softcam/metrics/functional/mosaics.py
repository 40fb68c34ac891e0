"""Grid pointing game: localisation without masks, on mosaics of images of several classes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from types import EllipsisType

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_softcam.metrics.functional._grid import owners_of
from captum_softcam.metrics.functional.localisation import relevance_mass_accuracy

__all__ = ["grid_pointing_game", "mosaics"]

_POOLS: dict[int, Callable[..., Tensor]] = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


def count_cells(size: Sequence[int]) -> int:
    """Return the number of cells of a mosaic: two along each dimension, except along one of a single position.

    Args:
        size (sequence of int): of the images, (H, W).

    Returns:
        int: 4 for images, 2 for signals, 8 for volumes.
    """
    return math.prod(min(2, side) for side in size)


def mosaics(images: Tensor, others: Tensor, cells: Tensor) -> Tensor:
    """Make mosaics of the size of the images :cite:p:`bohle2021coda`: each image in one cell, others in all other cells.

    The cells are the halves of a signal, the quadrants of an image, the octants of a volume, numbered as in memory. Images
    are shrunk to a cell by averages.

    Args:
        images (Tensor): (N, C, ...).
        others (Tensor): (N, cells - 1, C, ...), in the order of the cells.
        cells (Tensor): (N,), the cell of each image, from 0.

    Returns:
        Tensor: (N, C, ...). Cost: no forward.

    Raises:
        ValueError: if there are not as many others as there are cells left.
    """
    size = images.shape[2:]
    if others.shape != (len(images), count_cells(size) - 1, *images.shape[1:]):
        raise ValueError(
            f"others are {tuple(others.shape)}, and images {tuple(images.shape)}; expected (N, {count_cells(size) - 1}, C, "
            "...), one for each cell that is left."
        )
    made = torch.empty_like(images)
    for number, place in enumerate(_places(size)):
        # The others fill the cells before that of the image, and those behind it.
        left = torch.where(cells > number, number, number - 1).clamp(min=0)
        other = others[torch.arange(len(images), device=others.device), left]
        shown = torch.where((cells == number).view(-1, *[1] * (images.dim() - 1)), images, other)
        made[place] = _POOLS[len(size)](shown, made[place].shape[2:])
    return made


def cell_masks(cells: Tensor, size: Sequence[int]) -> Tensor:
    """Mark the cell of each image in its mosaic.

    Args:
        cells (Tensor): (N,), from 0; -1 marks nothing.
        size (sequence of int): of the images.

    Returns:
        Tensor: (N, 1, ...), bool, True in the cell.
    """
    masks = torch.zeros(len(cells), 1, *size, dtype=torch.bool, device=cells.device)
    for number, place in enumerate(_places(size)):
        masks[place] = (cells == number).view(-1, *[1] * (len(size) + 1))
    return masks


def grid_pointing_game(maps: Tensor, cells: Tensor) -> Tensor:
    r"""Compute the fraction of the positive relevance in the image's cell of its mosaic; higher is better.

    .. math:: \frac{\sum_{p \in \mathrm{cell}} \max(A(p), 0)}{\sum_p \max(A(p), 0)}

    with the map :math:`A` of the mosaic for the class of the image, which the images in the other cells do not show
    :cite:p:`bohle2021coda,ariasduart2022focus`. A map that ignores the model scores 1/4 on average (1/2 for signals, 1/8 for
    volumes). NaN where the map ranks nothing or has no positive relevance, and where the cell is -1.

    Args:
        maps (Tensor): (N, 1, ...), of the :func:`mosaics`.
        cells (Tensor): (N,), the cell of each image, from 0.

    Returns:
        Tensor: (N,), in [0, 1]. Cost: no forward here, but an attribution of the mosaics by the caller.

    Raises:
        ValueError: if the maps are not (N, 1, ...).
    """
    return relevance_mass_accuracy(maps, cell_masks(cells, maps.shape[2:]))


def _places(size: Sequence[int]) -> list[tuple[EllipsisType | slice, ...]]:
    """Return where the cells are, as an index of the last dimensions."""
    halves = [[int(n) for n in owners_of(side, min(2, side)).bincount()] for side in size]
    ends = [[slice(0, first[0]), slice(first[0], side)][: len(first)] for first, side in zip(halves, size, strict=True)]
    return [(..., *place) for place in itertools.product(*ends)]
