"""What a network makes of an input of some size, found without computing anything, and inputs that it may take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["CONVOLUTIONS", "input_channels", "made_up_inputs", "run_on_meta", "spatial_dims"]

_SIDES: dict[int, list[tuple[int, ...]]] = {  # sizes that networks are built for, the cheap ones first
    1: [(64,), (128,), (256,), (1024,), (4096,), (16000,)],
    2: [(side, side) for side in (64, 224, 32, 28, 96, 128, 160, 192, 240, 256, 288, 299, 320, 384, 448, 512)],
    3: [(8, 64, 64), (32, 32, 32), (16, 112, 112), (16, 16, 16), (64, 64, 64), (16, 224, 224), (96, 96, 96)],
}

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


def made_up_inputs(module: nn.Module) -> Iterator[Tensor]:
    """Two inputs of noise of every size that ``module`` may take: what it says of itself, and what is usual."""
    channels, dims = input_channels(module), spatial_dims(module)
    value = next((each for each in module.parameters() if each.is_floating_point()), None)
    if channels is None or dims is None or value is None:
        return
    noise = torch.Generator().manual_seed(0)
    for sides in [*_SIDES[dims][:1], *_stated_sides(module, dims), *_SIDES[dims][1:]]:
        yield torch.rand(2, channels, *sides, generator=noise).to(value)


def _stated_sides(module: nn.Module, dims: int) -> list[tuple[int, ...]]:
    """The size of the input that networks of timm, Hugging Face and torchvision keep."""
    stated: Any = dict(getattr(module, "default_cfg", None) or {}).get("input_size")
    timm = stated[1:] if isinstance(stated, (tuple, list)) else ()
    config = getattr(getattr(module, "config", None), "image_size", ())
    found: list[tuple[int, ...]] = []
    size: Any
    for size in (timm, config, getattr(module, "image_size", ())):
        sides = (size,) * dims if isinstance(size, int) else tuple(size) if isinstance(size, (tuple, list)) else ()
        if len(sides) == dims and all(isinstance(side, int) and 0 < side <= 1024 for side in sides):
            found.append(sides)
    return found


@torch.no_grad()
def run_on_meta(module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """Output of ``module`` for an input of ``shape``, with its shape and nothing in it; hooks run as ever."""
    state = {name: value.to("meta") for name, value in (*module.named_parameters(), *module.named_buffers())}
    if dtype is None:
        dtype = next((value.dtype for value in state.values() if value.is_floating_point()), torch.float32)
    return cast(Tensor, functional_call(module, state, (torch.empty(shape, device="meta", dtype=dtype),)))
