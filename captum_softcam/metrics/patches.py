"""An image as a game of patches, so that perturbation metrics take whole regions and all channels away together.

Quantus' faithfulness metrics count features over channels and pixels: on RGB images one pixel's channels are perturbed
apart, and a few hundred of 150,528 features are noise. Seen through a :class:`PatchGame` the features are patches: the
metric plays with a small board (N, 1, g, g) of ones, and the model sees the image with the patches it took replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_softcam.metrics.functional._grid import expand_patches, grid

__all__ = ["PatchGame"]


class PatchGame(nn.Module):
    """Model of boards (N, 1, g, g) -> scores (N, K): 1 shows a patch of the image, 0 its baseline, in between a blend.

    Answers are remembered: a board that comes again, as the same random subsets do for every method, costs nothing. For
    volumes and signals the board has as many dimensions as they have.

    Args:
        model (torch.nn.Module): gives scores (N, K).
        images (Tensor): (N, C, ...), as the model takes them.
        baseline (Tensor): what stands in the place of a patch that is taken, (N, C, ...) or broadcastable to it.
        patches (int or sequence of int): patches per side, g, or along each dimension. Default: 8
        scores (Tensor): what the model says of the untouched images, (N, K), if it has been asked. Default: None

    Raises:
        ValueError: if a side has fewer positions than patches.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        baseline: Tensor,
        patches: int | Sequence[int] = 8,
        scores: Tensor | None = None,
    ) -> None:
        super().__init__()
        # in a tuple, hidden from modules(): Quantus looks for softmax layers there and would rebuild the model
        self._players: tuple[Any, ...] = (model, images, baseline)
        self._answers: dict[bytes, Tensor] = {}
        self.full_board = images.new_ones(len(images), 1, *grid(images.shape[2:], patches))
        if scores is not None:
            self._answers[_key(self.full_board)] = scores
        self.eval()

    def forward(self, board: Tensor) -> Tensor:
        """Scores of the images with the patches shown that are 1 on a board. Cost: one forward, or none if it is known.

        Args:
            board (Tensor): (N, 1, g, g) or any shape of as many numbers, in [0, 1].

        Returns:
            Tensor: (N, K), what the model says.
        """
        if board.requires_grad:  # asked how it works out its scores, not for them
            return self._answer(board[:1], slice(1))
        key = _key(board)
        if key not in self._answers:
            with torch.no_grad():
                self._answers[key] = self._answer(board, slice(None))
        return self._answers[key]

    def _answer(self, board: Tensor, rows: slice) -> Tensor:
        model, images, baseline = self._players
        board = board.reshape(-1, *self.full_board.shape[1:])
        shown = expand_patches(board[:, 0].to(images), images.shape[2:])
        scores: Tensor = model(torch.lerp(baseline.expand_as(images)[rows], images[rows], shown))
        return scores

    def close(self) -> None:
        """Let go of model, images and answers: Quantus keeps every model it has seen."""
        self._players = ()
        self._answers.clear()


def _key(board: Tensor) -> bytes:
    return hashlib.sha1(board.detach().float().cpu().numpy().tobytes(), usedforsecurity=False).digest()
