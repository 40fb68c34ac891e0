"""An image as a game of patches, so that perturbation metrics replace whole regions and all channels together.

Single values of an image are poor features: replacing one channel of one pixel changes its colour, and a few hundred of
150,528 values are noise. Seen through a :class:`PatchGame` the features are patches. The functions of
:mod:`captum_softcam.metrics.functional` perturb a small board (N, 1, g, g) of ones, and the model sees the image with the
patches replaced that are 0 on the board.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_softcam.metrics.functional._edges import wide
from captum_softcam.metrics.functional._grid import even_grid, expand_patches, grid, patch_means

__all__ = ["PATCHES", "PatchGame", "fit_settings", "image_seed", "patches_of"]

PATCHES = 64
"""Number of patches in the faithfulness metrics, 8 x 8 in an image, 4 x 4 x 4 in a volume, 64 in a row in a signal."""

_STEPS = 128  # of an image's range, in its seed


def patches_of(size: Sequence[int]) -> int | list[int]:
    """Return the number of patches per side in the faithfulness metrics.

    Args:
        size (sequence of int): of the images, (H, W).

    Returns:
        int or list of int: one number for all sides, or one for each where they differ.
    """
    counts = even_grid(size, PATCHES)
    return counts[0] if len(set(counts)) == 1 else counts


def image_seed(image: Tensor) -> int:
    """Return the seed of an image (C, ...), which depends on its content and not on its batch."""
    # Means of 64 patches in steps of 1/128 of the image's range: rounding in the last digit, as on another machine, does not
    # change the seed, but a little noise on the image does.
    shown = wide(image.detach()).nan_to_num(0, 0, 0).mean(0)[None, None]
    means = patch_means(shown, even_grid(shown.shape[2:], PATCHES)) - shown.min()
    span = shown.max() - shown.min()
    steps = (means * (_STEPS / span)).round() if span > 0 else torch.zeros_like(means)
    return zlib.crc32(steps.to(torch.int32).cpu().numpy().tobytes())


class PatchGame:
    """Function of boards (N, 1, g, g) -> scores (N, K): 1 shows a patch of the image, 0 its baseline, in between a blend.

    Scores are remembered: a board that has been evaluated before costs nothing. This pays off because all methods are
    measured with the same random subsets. For volumes and signals the board has as many dimensions as they have.

    Args:
        model (torch.nn.Module): images (N, C, ...) -> scores (N, K).
        images (Tensor): (N, C, ...), as the model expects them.
        baseline (Tensor or callable): replacement of the patches, (N, C, ...) or broadcastable to it; or a function of
            images and removed positions (N, 1, ...) bool, which is called for each board.
        patches (int or sequence of int): patches per side, g, or along each dimension. Default: 8
        scores (Tensor): scores of the untouched images, (N, K). Default: None, computed when needed

    Raises:
        ValueError: if a side has fewer positions than patches.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        images: Tensor,
        baseline: Tensor | Callable[[Tensor, Tensor], Tensor],
        patches: int | Sequence[int] = 8,
        scores: Tensor | None = None,
    ) -> None:
        self._model, self._images = model, images
        self._baseline = baseline.expand_as(images) if isinstance(baseline, Tensor) else baseline
        self.full_board = images.new_ones(len(images), 1, *grid(images.shape[2:], patches))
        self._known = {} if scores is None else {_key(self.full_board): scores}

    def __call__(self, board: Tensor) -> Tensor:
        """Return the scores of the images with the patches shown that are 1 on the board.

        Args:
            board (Tensor): (N, 1, g, g), in [0, 1].

        Returns:
            Tensor: (N, K), the output of the model. Cost: one forward, or none if the board is known.
        """
        # The check for probabilities follows the graph of one altered board, which a remembered score does not have.
        if board.requires_grad:
            return self._forward(board[:1])
        key = _key(board)
        if key not in self._known:
            # A graph would keep the activations of every remembered forward in memory.
            with torch.no_grad():
                self._known[key] = self._forward(board)
        return self._known[key]

    def _forward(self, board: Tensor) -> Tensor:
        # A board of fewer rows belongs to the first images: the check for probabilities alters the first one alone.
        images = self._images[: len(board)]
        shown = expand_patches(board[:, 0].to(images), images.shape[2:])
        if isinstance(self._baseline, Tensor):
            baseline = self._baseline[: len(board)]
        else:
            baseline = self._baseline(images, shown.detach() < 1)
        # Where the board is 0 or 1, lerp returns the baseline or the image to the last digit.
        return self._model(torch.lerp(baseline, images, shown))


def _key(board: Tensor) -> bytes:
    # Tensors are hashed by identity, but an equal board is made anew each time. NumPy has no bfloat16: float() converts it.
    return hashlib.sha1(board.detach().float().cpu().numpy().tobytes(), usedforsecurity=False).digest()


def fit_settings(settings: Mapping[str, Any], counts: Sequence[int], size: Sequence[int]) -> dict[str, Any]:
    """Fit settings that count patches to images of fewer than 64.

    Args:
        settings (mapping): settings of a metric, for 64 patches.
        counts (sequence of int): patches along each dimension.
        size (sequence of int): of the images, (H, W).

    Returns:
        dict: the settings; a number of patches is the same fraction of those that there are, and no side has more patches
        than positions.
    """
    fraction = min(1.0, math.prod(counts) / PATCHES)

    def scaled(value: int) -> int:
        # Rounded down: rounded to the nearest number, 48 of 64 patches would be all of two.
        return max(1, int(value * fraction))

    fitted: dict[str, Callable[[Any], Any]] = {
        "regions_evaluation": scaled,
        "subset_size": scaled,
        "cells": lambda cells: [min(cells, count) for count in counts],
        # On few patches, several sizes shrink to the same number, which must not count twice in the mean.
        "sizes": lambda sizes: list(dict.fromkeys(map(scaled, sizes))),
        "sides": lambda sides: [side for side in sides if side <= min(counts)] or [1],
        "patches": lambda patches: patches and min(patches, *size),
    }
    return {name: fitted[name](value) if name in fitted else value for name, value in settings.items()}
