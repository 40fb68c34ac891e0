"""Maps, masks and a model that every score can be asked about."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(4, 1, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tied(maps: Tensor) -> Tensor:
    """Signed maps whose values repeat."""
    return (2 * maps).round()


@pytest.fixture
def masks(maps: Tensor) -> Tensor:
    return torch.rand(maps.shape, generator=torch.Generator().manual_seed(1)) < 0.3


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 2, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def targets() -> Tensor:
    return torch.tensor([0, 1, 2, 0])


@pytest.fixture
def model():
    """Three classes, each fond of another corner."""

    def forward(images: Tensor) -> Tensor:
        flat = images.flatten(1)
        weights = torch.linspace(-0.3, 0.3, flat.shape[1], dtype=flat.dtype, device=flat.device)
        return torch.stack([flat @ weights, flat @ weights.flip(0), flat @ weights.square()], 1)

    return forward
