"""Masks around one position of a map, on grids of any number of dimensions."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_softcam._names import listed, quoted

__all__ = ["PositionMask", "make_mask"]

_KINDS = ("one_hot", "gaussian", "gaussian_spread")


@dataclass(frozen=True)
class PositionMask:
    r"""Which part of a map is kept around a position: :math:`m_p(q) = k(q - p)`, 0 outside the kernel.

    Args:
        kernel (Tensor): (1, ...) or (C, ...), the weights around the position; every side is odd.
        spread (bool): whether the features *at* the position are spread with the kernel, instead of each position's own
            being kept.
    """

    kernel: Tensor
    spread: bool = False

    @functools.cached_property
    def weights(self) -> list[float]:
        """The distinct weights of a kernel that all channels share, without 0."""
        return [weight for weight in self.kernel.unique().tolist() if weight]

    def on(self, grid: tuple[int, ...], positions: Tensor) -> Tensor:
        """The masks (P, 1 or C, ...) of ``positions`` (P,), counted in reading order."""
        index: list[Tensor] = []
        inside = torch.ones((), dtype=torch.bool, device=positions.device)
        for d, (place, size, side) in enumerate(
            zip(torch.unravel_index(positions, grid), grid, self.kernel.shape[1:], strict=True)
        ):
            offset = torch.arange(size, device=positions.device) - place[:, None] + side // 2
            offset = offset.view(-1, *[size if i == d else 1 for i in range(len(grid))])
            inside = inside & (offset >= 0) & (offset < side)
            index.append(offset.clamp(0, side - 1))
        around: Tensor = self.kernel[(slice(None), *index)]  # type: ignore[index]  # slices and tensors mixed
        return (around * inside).transpose(0, 1)

    def copies(self, maps: Tensor, positions: Tensor) -> Tensor:
        """Masked copies (P, C, ...) of the maps (1, C, ...) of one example."""
        masks = self.on(tuple(maps.shape[2:]), positions)
        if not self.spread:
            return maps * masks
        kept = maps.flatten(2)[0, :, positions].T
        return kept.view(*kept.shape, *[1] * (maps.dim() - 2)) * masks

    def gather(self, maps: Tensor, weight: float) -> Tensor:
        """Sum of the neighbours of each position that the kernel gives ``weight``, zero beyond the border (N, C, ...)."""
        if self.kernel[0].numel() == 1:
            return maps
        padded = F.pad(maps, [side // 2 for side in reversed(self.kernel.shape[1:]) for _ in range(2)])
        total = torch.zeros_like(maps)
        for offset in self._offsets(weight):
            moved = tuple(slice(o, o + size) for o, size in zip(offset, maps.shape[2:], strict=True))
            total = total + padded[(slice(None), slice(None), *moved)]
        return total

    def _offsets(self, weight: float) -> Iterator[tuple[int, ...]]:
        for offset in itertools.product(*map(range, self.kernel.shape[1:])):
            if self.kernel[(0, *offset)].item() == weight:
                yield offset


def make_mask(mask: str | Tensor, maps: Tensor) -> PositionMask:
    """The mask that is asked for, for maps (N, C, ...).

    Raises:
        ValueError: for an unknown name, or a kernel that does not fit the maps.
    """
    dims, channels = maps.dim() - 2, maps.shape[1]
    if isinstance(mask, Tensor):
        return PositionMask(_checked(mask, dims, channels).to(maps))
    if mask not in _KINDS:
        raise ValueError(f"mask {quoted(mask)} is unknown; take {listed(map(repr, _KINDS))} or a kernel tensor.")
    if mask == "one_hot":
        return PositionMask(maps.new_ones(1, *[1] * dims))
    line = maps.new_tensor([0.25, 0.5, 0.25])
    kernel = functools.reduce(lambda product, _: product[..., None] * line, range(dims), maps.new_ones(()))
    return PositionMask(kernel[None], spread=mask == "gaussian_spread")


def _checked(kernel: Tensor, dims: int, channels: int) -> Tensor:
    """A kernel with its axis of channels."""
    if kernel.dim() == dims:
        kernel = kernel[None]
    shape = tuple(kernel.shape)
    if kernel.dim() != dims + 1:
        raise ValueError(f"the kernel is {shape}; a grid of {dims} dimensions needs one of {dims}, or of {dims} behind C.")
    if shape[0] not in (1, channels):
        raise ValueError(f"the kernel has {shape[0]} channels and the layer {channels}; give 1 or {channels}.")
    if any(side % 2 == 0 for side in shape[1:]):
        raise ValueError(f"the kernel is {shape}; its sides must be odd, so that it has a centre.")
    return kernel
