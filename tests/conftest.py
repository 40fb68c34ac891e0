"""Fixtures that all tests share."""

from __future__ import annotations

import signal

import pytest
import torch
from networks import PooledNet
from torch import Tensor

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it for jobs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def net() -> PooledNet:
    """A pooled network in float64, so that the oracles can be met to the last digit."""
    torch.manual_seed(0)
    return PooledNet().double().eval()


@pytest.fixture
def images() -> Tensor:
    """Three images of 10 x 14 pixels, not square on purpose."""
    return torch.rand(3, 3, 10, 14, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
