"""Small networks that every test can afford."""

from __future__ import annotations

import signal

import pytest
import torch
from torch import Tensor, nn

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it for jobs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


class PooledNet(nn.Module):
    """Two stages, a residual block, global average pooling and a linear classifier."""

    def __init__(self, channels: int = 6, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels), nn.ReLU(True))
        self.block = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.relu(x + self.block(x))
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def net() -> PooledNet:
    """A pooled network in float64, so that the oracles can be met to the last digit."""
    torch.manual_seed(0)
    return PooledNet().double().eval()


@pytest.fixture
def images() -> Tensor:
    """Three images of 10 x 14 pixels, not square on purpose."""
    return torch.rand(3, 3, 10, 14, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
