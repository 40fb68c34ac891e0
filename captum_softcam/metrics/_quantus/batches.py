"""Batches whose removed parts are replaced as Quantus' arguments say, and features in the order of a map."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._names import quoted
from captum_softcam.metrics import functional
from captum_softcam.metrics.batch import Batch, Explanation
from captum_softcam.metrics.functional._edges import nan_if_flat, wide
from captum_softcam.metrics.functional._grid import ranks
from captum_softcam.metrics.patches import PatchGame

__all__ = ["OrderedBatch", "OrderedExplanation", "PerturbedBatch", "by_perturb_func", "groups_in_order"]

Replacement: TypeAlias = Tensor | Callable[[Tensor, Tensor], Tensor]


class PerturbedBatch(Batch):
    """A batch with one replacement for all that is removed.

    Args:
        *arguments: of :class:`Batch`.
        perturb_baseline (str, float, ndarray or callable): as in Quantus: the name of a baseline, a value, an image
            (C, ...), or a function of images and removed positions. ``"black"`` and ``"white"`` are the lowest and the
            highest value of each image, because a class of Quantus does not know the black of its inputs.
        of_positions (bool): whether single positions are removed, which a blur as wide as one would not change.
        **settings: of :class:`Batch`.
    """

    def __init__(self, *arguments: Any, perturb_baseline: Any, of_positions: bool, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._perturb_baseline, self._of_positions = perturb_baseline, of_positions

    def replacement(self, baseline: str) -> Replacement:  # noqa: ARG002 - the batch has its own
        """Return what replaces the removed parts of the images; ValueError if it is unknown or does not fit them."""
        value, images = self._perturb_baseline, self.images
        if isinstance(value, str) and value in ("black", "white"):
            flat = images.flatten(1)
            found = flat.amin(1) if value == "black" else flat.amax(1)
            return found.view(-1, *[1] * (images.dim() - 1)).expand_as(images)
        if isinstance(value, str):
            patches = None if self._of_positions else self.counts
            return functional.as_baseline(value, images, patches=patches, seed=self.seed)
        return value if callable(value) else _filled(value, images)


class OrderedBatch(PerturbedBatch):
    """A batch whose features are groups of positions (N, positions), the same number of groups for each image."""

    def __init__(self, *arguments: Any, owners: Tensor, **settings: Any) -> None:
        super().__init__(*arguments, of_positions=True, **settings)
        self.owners = owners

    @cached_property
    def counts(self) -> list[int]:
        """The number of groups."""
        return [int(self.owners.max()) + 1]

    def game_with(self, baseline: str) -> PatchGame:
        """Return the images as a game of groups."""
        if baseline not in self._games:
            _ = self.logits  # checked
            self._games[baseline] = _OrderedGame(self, self.replacement(baseline))
        return self._games[baseline]


class OrderedExplanation(Explanation):
    """An explanation whose patches are the groups of an :class:`OrderedBatch`, (N, 1, groups)."""

    @cached_property
    def patch_sums(self) -> Tensor:
        """Sum of each map over its groups."""
        return nan_if_flat(self._sums(self.maps)[:, None], self.maps)

    @cached_property
    def patch_means(self) -> Tensor:
        """Mean of each map over its groups, which determines their order."""
        return nan_if_flat((self._sums(self.maps) / self._sums(torch.ones_like(self.maps)))[:, None], self.maps)

    def _sums(self, maps: Tensor) -> Tensor:
        owners = self.batch.owners  # type: ignore[attr-defined] # of an OrderedBatch
        values = wide(maps.flatten(1))
        return values.new_zeros(len(values), *self.batch.counts).scatter_add(1, owners, values)


class _OrderedGame(PatchGame):
    """A game of positions that is played with boards of groups."""

    def __init__(self, batch: OrderedBatch, replacement: Replacement) -> None:
        size = list(batch.images.shape[2:])
        super().__init__(batch.model, batch.images, replacement, size, batch.outputs)
        self._size, self._owners = size, batch.owners
        self.full_board = batch.images.new_ones(len(batch.images), 1, *batch.counts)

    def __call__(self, board: Tensor) -> Tensor:
        """Return the scores of the images with the groups shown that are 1 on the board (N, 1, groups)."""
        shown = board[:, 0].gather(1, self._owners[: len(board)])
        return super().__call__(shown.view(len(board), 1, *self._size))


def groups_in_order(maps: Tensor, size: int) -> Tensor:
    """Return the group of each position (N, positions): 0 for the ``size`` strongest, 1 for the next."""
    return ranks(maps[:, 0]).flatten(1) // size


def by_perturb_func(perturb_func: Callable[..., NDArray[Any]], **more: Any) -> Replacement:
    """Return a replacement that calls a function of Quantus.

    Args:
        perturb_func (callable): ``(arr=, indices=, **more)`` -> array, of one image (1, F) and the removed values (1, I).
        **more: its further arguments.

    Returns:
        callable: of images (N, C, ...) and removed positions (N, 1, ...).
    """

    def replaced(image: Tensor, removed: Tensor) -> Tensor:
        arr = image.reshape(1, -1).cpu().numpy()
        indices = removed.expand_as(image).reshape(-1).nonzero()[:, 0].cpu().numpy()
        found = np.asarray(perturb_func(arr=arr.copy(), indices=indices[None], **more))
        return torch.as_tensor(found).to(image).view_as(image)

    # Image by image, because patches of unequal sizes remove unequal numbers of values.
    return lambda images, removed: torch.stack([replaced(*each) for each in zip(images, removed, strict=True)])


def _filled(value: Any, images: Tensor) -> Tensor:
    try:
        return torch.as_tensor(value).to(images).expand_as(images[0]).expand_as(images)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"perturb_baseline is {quoted(value)}; expected a name such as 'mean', a number, or an array (C, ...) of the "
            f"shape of an image, {tuple(images.shape[1:])}."
        ) from error
