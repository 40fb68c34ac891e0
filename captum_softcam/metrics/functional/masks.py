"""Masks made from bounding boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["boxes_to_masks"]


def boxes_to_masks(boxes: Tensor | Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Make masks that are True within the boxes of each sample.

    A position belongs to a box if its centre does: a box from 2 to 5 covers the positions 2, 3 and 4. A box that ends before
    it begins covers nothing, and a sample without a box has an empty mask. PASCAL VOC counts from 1 and includes the last
    position in the box: subtract 1 from its ``xmin`` and ``ymin``.

    Args:
        boxes (Tensor or sequence of Tensor): of each sample, (B, 2 d) or (2 d,) for d dimensions, in the format of
            torchvision: (x1, y1, x2, y2) for images, (x1, y1, z1, x2, y2, z2) for volumes, (x1, x2) for signals. x counts
            along the last dimension. A tensor (N, 2 d) has one box per sample.
        size (sequence of int): of the masks, (H, W) for images.

    Returns:
        Tensor: (N, 1, ...) bool, of that size, on the device of the boxes.

    Raises:
        ValueError: if a box has another number of coordinates.
    """
    return torch.stack([_mask(rows, list(size)) for rows in boxes])


def _mask(boxes: Tensor, size: list[int]) -> Tensor:
    """Make the mask (1, *size) of one sample."""
    # The shape of torch.tensor([]), a sample without a box, is (0,).
    if boxes.shape[-1] != 2 * len(size) and boxes.numel():
        raise ValueError(
            f"boxes are {tuple(boxes.shape)}; expected (B, {2 * len(size)}): {len(size)} lower and {len(size)} upper "
            f"coordinates for the size {tuple(size)}."
        )
    # Boxes begin with x, the last dimension of a mask.
    lower, upper = boxes.reshape(-1, 2, len(size)).flip(2).unbind(1)
    mask = torch.ones(len(lower), *[1] * len(size), dtype=torch.bool, device=boxes.device)
    for d, side in enumerate(size):
        centres = torch.arange(side, device=boxes.device) + 0.5
        within = (lower[:, d, None] <= centres) & (centres < upper[:, d, None])
        mask = mask & within.view(-1, *[side if d == other else 1 for other in range(len(size))])
    return mask.any(0, keepdim=True)
