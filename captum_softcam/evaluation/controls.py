"""Three maps that know nothing of the model: a method that does not beat them says nothing."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from captum.attr import Attribution
from torch import Tensor

from captum_softcam.metrics import PATCHES
from captum_softcam.metrics.functional._edges import wide
from captum_softcam.metrics.functional._grid import even_grid, patch_means

__all__ = ["CONTROLS", "CentredGaussian", "EdgeMap", "RandomMap", "image_seed", "name_seed"]

_STEPS = 128


class RandomMap(Attribution):
    """Independent normal noise at every position, the same for the same image whatever batch it is in.

    In a comparison it is the same for the same identifier of a sample, on every machine.

    Cost: no forward.

    Args:
        forward_func (callable): not used; kept for Captum's signature.
        seed (int): another seed gives another map. Default: 0
    """

    def __init__(self, forward_func: Callable[..., Tensor], seed: int = 0) -> None:
        super().__init__(forward_func)
        self.seed = seed

    def attribute(
        self,
        inputs: Tensor,
        target: Any = None,  # noqa: ARG002 (Captum's signature)
        seeds: Sequence[int] | None = None,
    ) -> Tensor:
        """Noise at input resolution.

        Args:
            inputs (Tensor): signals, images or volumes (N, C, ...).
            target (any): without effect; kept for Captum's signature. Default: None
            seeds (sequence of int): of each image. Default: made of what the images show

        Returns:
            Tensor: (N, 1, ...), of mean 0 and standard deviation 1.
        """
        seeds = [image_seed(image) for image in inputs] if seeds is None else seeds
        return torch.stack([self._noise(seed, tuple(inputs.shape[2:])) for seed in seeds]).to(inputs)

    def _noise(self, seed: int, size: tuple[int, ...]) -> Tensor:
        # NumPy's, in double precision: torch.randn rounds by the instructions of the CPU
        random = np.random.default_rng([seed, self.seed])
        return torch.from_numpy(random.standard_normal((1, *size)))


class CentredGaussian(Attribution):
    """A bell in the middle of the image, a quarter of its side wide: what a photographer's bias alone would earn.

    Cost: no forward.

    Args:
        forward_func (callable): not used; kept for Captum's signature.
    """

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:  # noqa: ARG002 (Captum's signature)
        """The same bell for every example.

        Args:
            inputs (Tensor): signals, images or volumes (N, C, ...).
            target (any): without effect; kept for Captum's signature. Default: None

        Returns:
            Tensor: (N, 1, ...), in (0, 1], highest in the middle.
        """
        bell = torch.ones((), dtype=torch.float64)  # and rounded once: float32 would round by the instructions of the CPU
        for side in inputs.shape[2:]:
            line = torch.tensor([math.exp(-2 * (2 * i / max(1, side - 1) - 1) ** 2) for i in range(side)], dtype=bell.dtype)
            bell = bell[..., None] * line
        return bell.expand(len(inputs), 1, *bell.shape).to(inputs)


class EdgeMap(Attribution):
    r"""Edges of the image: what a detector that has never seen the model would earn :cite:p:`adebayo2018sanity`.

    .. math:: S(p) = \sqrt{\sum_d (s_d * \bar x)(p)^2}

    with the mean :math:`\bar x` of the channels and, for every dimension :math:`d`, the Sobel filter :math:`s_d`: the
    difference (-1, 0, 1) / 2 along it, smoothed by (1, 2, 1) / 4 along all others; the image goes on beyond its border as
    it ends there.

    Cost: no forward.

    Args:
        forward_func (callable): not used; kept for Captum's signature.
    """

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:  # noqa: ARG002 (Captum's signature)
        """Magnitude of the slope at every position.

        Args:
            inputs (Tensor): signals, images or volumes (N, C, ...).
            target (any): without effect; kept for Captum's signature. Default: None

        Returns:
            Tensor: (N, 1, ...), >= 0, in units of the inputs per position.
        """
        mean = wide(inputs.detach()).mean(1, keepdim=True)
        return torch.stack([_slope(mean, dim).square() for dim in range(2, mean.dim())]).sum(0).sqrt().to(inputs)


CONTROLS: dict[str, type[Attribution]] = {
    "centred_gaussian": CentredGaussian,
    "random": RandomMap,
    "edge_map": EdgeMap,
}
"""The controls by name."""


def name_seed(name: str) -> int:
    """A seed that belongs to a name, such as the identifier of a sample."""
    return zlib.crc32(name.encode("utf-8", "surrogatepass"))


def image_seed(image: Tensor) -> int:
    """A seed that belongs to what an image (C, ...) shows, whatever batch it is in.

    It is made of the means of 64 patches, in steps of 1/128 of the image's range: another machine, which rounds otherwise in
    the last digit, finds the same, and an image with a little noise on it another.
    """
    shown = wide(image.detach()).nan_to_num(0, 0, 0).mean(0)[None, None]
    means = patch_means(shown, even_grid(shown.shape[2:], PATCHES)) - shown.min()
    span = shown.max() - shown.min()
    steps = (means * (_STEPS / span)).round() if span > 0 else torch.zeros_like(means)
    return zlib.crc32(steps.to(torch.int32).cpu().numpy().tobytes())


def _slope(images: Tensor, along: int) -> Tensor:
    for dim in range(2, images.dim()):
        images = _filtered(images, dim, (-0.5, 0.0, 0.5) if dim == along else (0.25, 0.5, 0.25))
    return images


def _filtered(images: Tensor, dim: int, weights: tuple[float, float, float]) -> Tensor:
    """Three neighbours along one dimension, weighted; the first and the last have themselves beside them."""
    side = images.shape[dim]
    padded = torch.cat([images.narrow(dim, 0, 1), images, images.narrow(dim, side - 1, 1)], dim)
    before, at, after = weights
    return before * padded.narrow(dim, 0, side) + at * images + after * padded.narrow(dim, 2, side)
