"""What a network makes of an input of some size, found without computing anything: on torch's meta device."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["CONVOLUTIONS", "input_channels", "run_on_meta", "spatial_dims"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Convolutions in the order of their spatial dimensions."""


def _first_convolution(module: nn.Module) -> nn.Conv1d | nn.Conv2d | nn.Conv3d | None:
    """The first convolution in the order of registration, which for all but exotic networks reads the input."""
    return next((m for m in module.modules() if isinstance(m, CONVOLUTIONS)), None)


def input_channels(module: nn.Module) -> int | None:
    """Channels of the input (N, C, ...) of ``module``, read off its first convolution; None if it has none."""
    first = _first_convolution(module)
    return None if first is None else first.in_channels


def spatial_dims(module: nn.Module) -> int | None:
    """Spatial dimensions of the input of ``module``, read off its first convolution; None if it has none."""
    first = _first_convolution(module)
    return None if first is None else first.weight.dim() - 2


@torch.no_grad()
def run_on_meta(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Output of ``module`` for an input of ``shape``, with its shape and nothing in it; hooks run as ever."""
    state = {name: value.to("meta") for name, value in (*module.named_parameters(), *module.named_buffers())}
    dtype = next((value.dtype for value in state.values() if value.is_floating_point()), torch.float32)
    return cast(Tensor, functional_call(module, state, (torch.empty(shape, device="meta", dtype=dtype),)))
