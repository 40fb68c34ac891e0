"""Control methods, which ignore the model: a method that is not better than them does not explain it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from captum.attr import Attribution
from torch import Tensor

from captum_softcam.attr import METHODS
from captum_softcam.metrics.functional._edges import wide
from captum_softcam.metrics.patches import image_seed

__all__ = ["CONTROLS", "CentredGaussian", "EdgeMap", "RandomMap", "image_seed", "method_title", "name_seed"]


class RandomMap(Attribution):
    """Independent normal noise at every position; the same image has the same noise in any batch.

    In a comparison the noise depends on the identifier of the sample instead, on every machine alike.

    Cost: no forward.

    Args:
        forward_func (callable): unused, part of Captum's signature.
        seed (int): seed of the noise. Default: 0
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
        """Return noise at input resolution.

        Args:
            inputs (Tensor): signals, images or volumes (N, C, ...).
            target (any): unused, part of Captum's signature. Default: None
            seeds (sequence of int): one per image. Default: derived from the images

        Returns:
            Tensor: (N, 1, ...), of mean 0 and standard deviation 1.
        """
        seeds = [image_seed(image) for image in inputs] if seeds is None else seeds
        return torch.stack([self._noise(seed, tuple(inputs.shape[2:])) for seed in seeds]).to(inputs)

    def _noise(self, seed: int, size: tuple[int, ...]) -> Tensor:
        # NumPy's generator in float64, because the last digits of torch.randn depend on the instructions of the CPU.
        random = np.random.default_rng([seed, self.seed])
        return torch.from_numpy(random.standard_normal((1, *size)))


class CentredGaussian(Attribution):
    """A Gaussian in the middle of the image, a quarter of its side wide: the score of the photographer's bias alone.

    Cost: no forward.

    Args:
        forward_func (callable): unused, part of Captum's signature.
    """

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:  # noqa: ARG002 (Captum's signature)
        """Return the same Gaussian for every example.

        Args:
            inputs (Tensor): signals, images or volumes (N, C, ...).
            target (any): unused, part of Captum's signature. Default: None

        Returns:
            Tensor: (N, 1, ...), in (0, 1], highest in the middle.
        """
        bell = torch.ones((), dtype=torch.float64)  # float32 would depend on the instructions of the CPU
        for side in inputs.shape[2:]:
            # exp(-2 u^2) with u from -1 to 1 has the standard deviation 1/2, a quarter of the side.
            line = torch.tensor([math.exp(-2 * (2 * i / max(1, side - 1) - 1) ** 2) for i in range(side)], dtype=bell.dtype)
            bell = bell[..., None] * line
        return bell.expand(len(inputs), 1, *bell.shape).to(inputs)


class EdgeMap(Attribution):
    r"""Edges of the image: the score of an edge detector, which never sees the model :cite:p:`adebayo2018sanity`.

    .. math:: S(p) = \sqrt{\sum_d (s_d * \bar x)(p)^2}

    with the mean :math:`\bar x` of the channels and, for every dimension :math:`d`, the Sobel filter :math:`s_d`: the
    difference (-1, 0, 1) / 2 along it, smoothed by (1, 2, 1) / 4 along all others. Values at the border are repeated
    beyond it.

    Cost: no forward.

    Args:
        forward_func (callable): unused, part of Captum's signature.
    """

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:  # noqa: ARG002 (Captum's signature)
        """Return the magnitude of the slope at every position.

        Args:
            inputs (Tensor): signals, images or volumes (N, C, ...).
            target (any): unused, part of Captum's signature. Default: None

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

_TITLES = {"centred_gaussian": "Centred Gaussian", "random": "Random map", "edge_map": "Edge map"}


def method_title(name: str) -> str:
    """Return the name of a method or control as papers write it; any other name is returned as it is."""
    return (METHODS[name].title or name) if name in METHODS else _TITLES.get(name, name)


def name_seed(name: str) -> int:
    """Return the seed of a name, such as the identifier of a sample."""
    # hash() of text differs between processes of Python.
    return zlib.crc32(name.encode("utf-8", "surrogatepass"))


def _slope(images: Tensor, along: int) -> Tensor:
    for dim in range(2, images.dim()):
        images = _filtered(images, dim, (-0.5, 0.0, 0.5) if dim == along else (0.25, 0.5, 0.25))
    return images


def _filtered(images: Tensor, dim: int, weights: tuple[float, float, float]) -> Tensor:
    """Return the weighted sum of three neighbours along one dimension, with values repeated at both ends."""
    side = images.shape[dim]
    padded = torch.cat([images.narrow(dim, 0, 1), images, images.narrow(dim, side - 1, 1)], dim)
    before, at, after = weights
    return before * padded.narrow(dim, 0, side) + at * images + after * padded.narrow(dim, 2, side)
