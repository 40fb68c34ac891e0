"""Three maps that know nothing of the model: a method that does not beat them says nothing."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor

__all__ = ["CONTROLS", "CentredGaussian", "EdgeMap", "RandomMap", "image_seed"]


class RandomMap(Attribution):
    """Independent normal noise at every position, the same for the same image whatever batch it is in.

    Cost: no forward.

    Args:
        forward_func (callable): not used; kept for Captum's signature.
        seed (int): another seed gives another map. Default: 0
    """

    def __init__(self, forward_func: Callable[..., Tensor], seed: int = 0) -> None:
        super().__init__(forward_func)
        self.seed = seed

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:  # noqa: ARG002 (Captum's signature)
        """Noise at input resolution.

        Args:
            inputs (Tensor): signals, images or volumes (N, C, ...).
            target (any): without effect; kept for Captum's signature. Default: None

        Returns:
            Tensor: (N, 1, ...), of mean 0 and standard deviation 1.
        """
        return torch.stack([self._noise(image) for image in inputs]).to(inputs)

    def _noise(self, image: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(image_seed(image) ^ self.seed)
        return torch.randn(1, *image.shape[1:], generator=generator)


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
        bell = torch.ones(())
        for side in inputs.shape[2:]:
            bell = bell[..., None] * torch.exp(-0.5 * (torch.linspace(-1, 1, side) / 0.5).square())
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
        mean = inputs.detach().mean(1, keepdim=True)
        return torch.stack([_slope(mean, dim).square() for dim in range(2, mean.dim())]).sum(0).sqrt()


CONTROLS: dict[str, type[Attribution]] = {
    "centred_gaussian": CentredGaussian,
    "random": RandomMap,
    "edge_map": EdgeMap,
}
"""The controls by name."""


def image_seed(image: Tensor) -> int:
    """A seed that belongs to the image, whatever batch it is in."""
    return zlib.crc32(image.detach().float().cpu().numpy().tobytes())


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
