"""Two maps that know nothing of the model: a method that does not beat them says nothing."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor

__all__ = ["CONTROLS", "CentredGaussian", "RandomMap"]


class RandomMap(Attribution):
    """Independent normal noise at every pixel, the same for the same image whatever batch it is in.

    Cost: no forward.

    Args:
        forward_func (callable): not used; kept for Captum's signature.
        seed (int): another seed gives another map. Default: 0
    """

    def __init__(self, forward_func: Callable[..., Tensor], seed: int = 0) -> None:
        super().__init__(forward_func)
        self.seed = seed

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:  # noqa: ARG002 (Captum's signature)
        """Noise (N, 1, H, W) for images (N, C, H, W)."""
        return torch.stack([self._noise(image) for image in inputs]).to(inputs)

    def _noise(self, image: Tensor) -> Tensor:
        key = zlib.crc32(image.detach().cpu().numpy().tobytes())
        return torch.randn(1, *image.shape[1:], generator=torch.Generator().manual_seed(key ^ self.seed))


class CentredGaussian(Attribution):
    """A bell in the middle of the image, a quarter of its side wide: what a photographer's bias alone would earn.

    Cost: no forward.

    Args:
        forward_func (callable): not used; kept for Captum's signature.
    """

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:  # noqa: ARG002 (Captum's signature)
        """The same bell (N, 1, H, W) for all images (N, C, H, W)."""
        bells = [torch.exp(-0.5 * (torch.linspace(-1, 1, side) / 0.5).square()) for side in inputs.shape[2:]]
        return torch.outer(*bells).expand(len(inputs), 1, -1, -1).to(inputs)


CONTROLS: dict[str, type[Attribution]] = {"centred_gaussian": CentredGaussian, "random": RandomMap}
"""The controls by name."""
