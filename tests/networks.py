"""Small networks that every test can afford."""

from __future__ import annotations

from torch import Tensor, nn


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
