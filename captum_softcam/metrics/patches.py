"""An image as a game of patches, so that perturbation metrics take whole regions and all channels away together.

Quantus' faithfulness metrics count features over channels and pixels: on RGB images one pixel's channels are perturbed
apart, and a few hundred of 150,528 features are noise. Seen through a :class:`PatchGame` the features are patches: the
metric plays with a small board (N, 1, g, g) of ones, and the model sees the image with the patches it took blurred.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from captum_softcam.metrics.functional._grid import owners_of

__all__ = ["PatchGame"]


class PatchGame(nn.Module):
    """Model of boards (N, 1, g, g) -> scores (N, K): 1 shows a patch of the image, 0 shows it blurred.

    What is blurred away is everything finer than a patch (Gaussian, sigma one patch side), while colour and light stay,
    so that a taken patch is no black hole that the model has never seen. Answers are remembered: a board that comes
    again, as the same random subsets do for every method, costs nothing.

    Args:
        model (torch.nn.Module): gives scores (N, K).
        images (Tensor): (N, C, H, W), as the model takes them.
        patches (int): patches per side, g. Default: 8
    """

    def __init__(self, model: nn.Module, images: Tensor, patches: int = 8) -> None:
        super().__init__()
        # in a tuple, hidden from modules(): Quantus looks for softmax layers there and would rebuild the model
        self._players: tuple[Any, ...] = (model, images, _blur(images, patches))
        self._rows, self._columns = (_membership(side, patches).to(images) for side in images.shape[2:])
        self._answers: dict[bytes, Tensor] = {}
        self.eval()

    @torch.no_grad()
    def forward(self, board: Tensor) -> Tensor:
        """Scores (N, K) of the images with only the patches shown that are 1 on the board (N, 1, g, g)."""
        key = hashlib.sha1(board.cpu().numpy().tobytes(), usedforsecurity=False).digest()
        if key not in self._answers:
            model, images, blurred = self._players
            shown = self._rows.T @ board.to(images) @ self._columns
            self._answers[key] = model(torch.lerp(blurred, images, shown))
        return self._answers[key]

    def shares(self, maps: NDArray[Any]) -> NDArray[Any]:
        """Attribution of each patch (N, 1, g, g): the sum of a map (N, 1, H, W) over the patch."""
        rows, columns = (matrix.double().cpu().numpy() for matrix in (self._rows, self._columns))
        return np.asarray(rows @ maps.astype(np.float64) @ columns.T)

    def close(self) -> None:
        """Let go of model, images and answers: Quantus keeps every model it has seen."""
        self._players = ()
        self._answers.clear()


def _membership(side: int, patches: int) -> Tensor:
    """Which pixel belongs to which patch, (patches, side): patches as equal as can be."""
    if side < patches:
        raise ValueError(f"an image side of {side} pixels cannot be cut into {patches} patches.")
    return (owners_of(side, patches) == torch.arange(patches)[:, None]).float()


def _blur(images: Tensor, patches: int) -> Tensor:
    """The images without what is finer than a patch."""
    sigma = [max(1.0, side / patches) for side in images.shape[:1:-1]]  # width first
    kernel = [min(2 * round(2 * s) + 1, 2 * side - 1) for s, side in zip(sigma, images.shape[:1:-1], strict=True)]
    return gaussian_blur(images, kernel, sigma)
