"""Mosaics of a user's own images for the grid pointing game, the same for all methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from captum_softcam._scores import Scores, predicted_classes
from captum_softcam.metrics.functional.mosaics import count_cells, mosaics

__all__ = ["Candidate", "MosaicPool", "Mosaics"]

_NOWHERE = -1
_LOOKED_AT = 64
_CLASSES = 4  # whose images fill a pool


@dataclass(frozen=True)
class Mosaics:
    """Mosaics of a batch.

    Args:
        images (Tensor): inputs of the model, (N, C, ...).
        cells (Tensor): the cell of each sample's image, (N,); -1 where there is no image of another class,
            or no room for one.
    """

    images: Tensor
    cells: Tensor


@dataclass(frozen=True)
class Candidate:
    """An image that may fill cells of mosaics.

    Args:
        image (Tensor): (C, ...), before it is normalised, on the device of the model.
        target (int): its class; None if it is unknown.
        classes (set of int): further classes that it shows, or may show. Default: none
    """

    image: Tensor
    target: int | None
    classes: frozenset[int] = frozenset()


@dataclass(frozen=True)
class MosaicPool:
    """Images that fill the other cells of mosaics, the same for all methods and batches.

    Args:
        images (Tensor): (P, C, ...), before ``normalize``.
        classes (tuple of set): the classes of each: all that it is known to show, and the one that the model predicts.
        normalize (callable): turns images into inputs of the model. Default: the images themselves
    """

    images: Tensor
    classes: tuple[frozenset[int], ...]
    normalize: Callable[[Tensor], Tensor] | None = None

    @classmethod
    @torch.no_grad()
    def chosen(
        cls,
        candidates: Iterable[Candidate],
        model: Callable[[Tensor], Tensor],
        scores: Scores = "softmax",
        normalize: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[MosaicPool, list[int]]:
        """Take the first finite images of each class, as many as a mosaic has other cells.

        The search ends with images of four classes or after 64 images, but not before there are two classes: data sets may
        be sorted by class.

        Args:
            candidates (iterable of Candidate): images with their classes, at least one.
            model (callable): inputs -> outputs (N, K); predicts a class of each image that is taken.
            scores (str or callable): what the outputs mean. Default: ``"softmax"``
            normalize (callable): turns images into inputs of the model. Default: the images themselves

        Returns:
            tuple: the pool, and the positions of its images among the candidates. Cost: a forward per image taken.
        """
        images, classes, places, counts = list[Tensor](), list[frozenset[int]](), list[int](), Counter[int]()
        for place, each in enumerate(candidates):
            most = count_cells(each.image.shape[1:]) - 1
            if len(images) >= _CLASSES * most or (place >= _LOOKED_AT and len(counts) > 1):
                break
            if (each.target is not None and counts[each.target] >= most) or not each.image.isfinite().all():
                continue
            shown = each.image[None] if normalize is None else normalize(each.image[None])
            predicted = int(predicted_classes(model(shown), scores))
            key = predicted if each.target is None else each.target
            if counts[key] < most:
                counts[key] += 1
                images.append(each.image)
                classes.append(each.classes | {key, predicted})
                places.append(place)
        return cls(torch.stack(images) if images else each.image[None][:0], tuple(classes), normalize), places

    def make(self, images: Tensor, targets: Tensor, seeds: Sequence[int], seed: int = 0) -> Mosaics:
        """Make a mosaic for each sample: its image in a random cell, images of other classes in all others.

        Where there are fewer images of other classes than cells, they are shown more than once.

        Args:
            images (Tensor): (N, C, ...), before ``normalize``.
            targets (Tensor): (N,), the explained classes, which no other image shows.
            seeds (sequence of int): one per sample, so that its mosaic does not depend on the batch.
            seed (int): of the whole draw. Default: 0

        Returns:
            Mosaics: inputs of the model. Cost: no forward.
        """
        draws = [self._draw(target, [each, seed]) for target, each in zip(targets.tolist(), seeds, strict=True)]
        cells = torch.tensor([cell for cell, _ in draws], device=images.device)
        # Where there is no other class, the mosaic is never scored: it may show the image itself.
        pool, left = self.images.to(images), count_cells(images.shape[2:]) - 1
        fillers = [places for _, places in draws]
        others = [pool[each] if each else own.expand(left, *own.shape) for own, each in zip(images, fillers, strict=True)]
        made = mosaics(images, torch.stack(others), cells.clamp(min=0))
        return Mosaics(made if self.normalize is None else self.normalize(made), cells)

    def _draw(self, target: int, seeds: Sequence[int]) -> tuple[int, list[int]]:
        """Return the cell of a sample with this class, and which images fill the others."""
        random = np.random.default_rng(seeds)
        count = count_cells(self.images.shape[2:])
        cell = int(random.integers(count))
        fitting = [place for place, classes in enumerate(self.classes) if target not in classes]
        if not fitting or count == 1:
            return _NOWHERE, []
        order = random.permutation(fitting).tolist()
        return cell, [order[i % len(order)] for i in range(count - 1)]
