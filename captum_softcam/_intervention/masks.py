"""Masks around one position of a map, and the tail of a model on masked copies of the features.

Grids may have any number of dimensions.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from captum_softcam._intervention.call import Call, chunk_size
from captum_softcam._intervention.forward import Trace, agree, refuse_other_scores, values_of
from captum_softcam._intervention.layout import FeatureLayout
from captum_softcam._intervention.replay import Recording, record, run_tail
from captum_softcam._intervention.targets import check_rows, relative_to
from captum_softcam._names import listed, quoted

__all__ = ["MaskedPart", "MaskedTail", "PositionMask", "make_mask"]

UNTOUCHED, NONE = -2, -1  # copies that keep all positions, or none
_KINDS = ("one_hot", "gaussian", "gaussian_spread")


@dataclass(frozen=True)
class PositionMask:
    r"""The mask :math:`m_p(q) = k(q - p)` around a position p, 0 outside the kernel.

    Args:
        kernel (Tensor): (1, ...) or (C, ...), the weights around the position; every side is odd.
        spread (bool): whether the features *at* the position are spread with the kernel; otherwise each position keeps its
            own features, weighted. Default: False
    """

    kernel: Tensor
    spread: bool = False

    @functools.cached_property
    def weights(self) -> list[float]:
        """The distinct weights, without 0, of a kernel that all channels share."""
        return [weight for weight in self.kernel.unique().tolist() if weight]

    def on(self, grid: tuple[int, ...], positions: Tensor) -> Tensor:
        """Return the masks (P, 1 or C, ...) of ``positions`` (P,), which count in reading order."""
        index: list[Tensor] = []
        inside = torch.ones((), dtype=torch.bool, device=positions.device)
        for d, (place, size, side) in enumerate(
            zip(torch.unravel_index(positions, grid), grid, self.kernel.shape[1:], strict=True)
        ):
            offset = torch.arange(size, device=positions.device) - place[:, None] + side // 2
            offset = offset.view(-1, *[size if i == d else 1 for i in range(len(grid))])
            inside = inside & (offset >= 0) & (offset < side)
            # Positions beyond the kernel read its border here, and are set to 0 by `inside`
            index.append(offset.clamp(0, side - 1))
        around: Tensor = self.kernel[(slice(None), *index)]  # type: ignore[index]  # slices and tensors mixed
        return (around * inside).transpose(0, 1)

    def copies(self, maps: Tensor, positions: Tensor) -> Tensor:
        """Return masked copies (P, C, ...) of the maps (1, C, ...) of one example."""
        masks = self.on(tuple(maps.shape[2:]), positions)
        if not self.spread:
            return maps * masks
        kept = maps.flatten(2)[0, :, positions].T
        return kept.view(*kept.shape, *[1] * (maps.dim() - 2)) * masks

    def gather(self, maps: Tensor, weight: float) -> Tensor:
        """Return, for each position of maps (N, C, ...), the sum of the neighbours with that weight in the kernel."""
        if self.kernel[0].numel() == 1:
            return maps
        # Shifted sums instead of a convolution, which a GPU would round to TF32
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
    """Build a mask for maps (N, C, ...).

    Args:
        mask (str or Tensor): a name, or a kernel.
        maps (Tensor): of which it takes the dimensions, the precision and the device.

    Raises:
        ValueError: for an unknown name, or a kernel that does not fit the maps.
    """
    dims, channels = maps.dim() - 2, maps.shape[1]
    if isinstance(mask, Tensor):
        return PositionMask(_checked(mask, dims, channels).to(maps))
    if mask not in _KINDS:
        raise ValueError(f"mask {quoted(mask)} is unknown; use {listed(map(repr, _KINDS))} or a kernel tensor.")
    if mask == "one_hot":
        return PositionMask(maps.new_ones(1, *[1] * dims))
    line = maps.new_tensor([0.25, 0.5, 0.25])
    # The outer product of one line per dimension of the grid
    kernel = functools.reduce(lambda product, _: product[..., None] * line, range(dims), maps.new_ones(()))
    return PositionMask(kernel[None], spread=mask == "gaussian_spread")


def _checked(kernel: Tensor, dims: int, channels: int) -> Tensor:
    """Return a kernel with its dimension of channels; raise ValueError unless it fits the maps."""
    if kernel.dim() == dims:
        kernel = kernel[None]
    shape = tuple(kernel.shape)
    if kernel.dim() != dims + 1:
        raise ValueError(f"the kernel is {shape}; a grid of {dims} dimensions needs one of {dims}, or of {dims} behind C.")
    if shape[0] not in (1, channels):
        raise ValueError(f"the kernel has {shape[0]} channels and the layer {channels}; pass 1 or {channels}.")
    if any(side % 2 == 0 for side in shape[1:]):
        raise ValueError(f"the kernel is {shape}; its sides must be odd, so that it has a centre.")
    return kernel


@dataclass(frozen=True)
class MaskedPart:
    """One of the tensors in the output of a layer, and how it is masked.

    Args:
        place (int): among the values of the output.
        layout (FeatureLayout): of the tensor.
        mask (PositionMask): for its maps.
        grid (torch.Size): of the maps.
        chunk (int): number of copies that are run at a time.
    """

    place: int
    layout: FeatureLayout
    mask: PositionMask
    grid: torch.Size
    chunk: int

    @classmethod
    def of(cls, features: Any, place: int, layout: FeatureLayout, mask: str | Tensor, chunk: int | None) -> MaskedPart:
        value = values_of(features)[place]
        maps = layout.to_maps(value)
        return cls(place, layout, make_mask(mask, maps), maps.shape[2:], chunk_size(chunk, value[:1]))

    def copies(self, value: Tensor, positions: Tensor) -> Tensor:
        """Return copies (P, ...) of the tensor (1, ...) of one example that keep one position each.

        Args:
            value (Tensor): of the example.
            positions (Tensor): (P,), ascending; ``UNTOUCHED`` for all positions, ``NONE`` for no position.
        """
        maps = self.layout.to_maps(value)
        none = maps.new_zeros(int((positions == NONE).sum()), *maps.shape[1:])
        masked = self.layout.to_features(torch.cat((none, self.mask.copies(maps, positions[positions >= 0]))), value)
        return torch.cat((value.expand(len(positions) - len(masked), *value.shape[1:]), masked))


class MaskedTail:
    """The part of a model behind a layer, run on masked copies.

    The first copy of every example is untouched, and its scores are known. If they differ, the modules before the layer are
    run again for all copies; if that does not help either, one copy at a time.

    Args:
        call (Call): the model with its arguments.
        layer (torch.nn.Module): whose features are masked.
        at_input (bool): whether these are the layer's input.
        trace (Trace): of the call.
        bar (tqdm.tqdm): counts the copies that have been run.
    """

    def __init__(self, call: Call, layer: nn.Module, at_input: bool, trace: Trace, bar: tqdm[Any]) -> None:
        self.call, self.layer, self.at_input, self.trace, self.bar = call, layer, at_input, trace, bar
        self._recording: Recording | None = record(call, layer, trace, at_input=at_input)
        self._one_by_one = trace.alone

    def scores(self, part: MaskedPart, row: int, choose: Callable[[Any, int], Tensor], relative: bool = False) -> Tensor:
        """Return the chosen scores (P, R) of one example for all positions.

        Args:
            part (MaskedPart): the tensor that is masked.
            row (int): the example.
            choose (callable): selects the scores.
            relative (bool): whether to subtract the score with no position kept. Default: False

        Raises:
            ValueError: if an untouched copy of the example has other scores than the example.
        """
        device = values_of(self.trace.features)[part.place].device
        positions = torch.arange(UNTOUCHED, part.grid.numel(), device=device)
        first = None
        while first is None:
            chunks = positions.split(1 if self._one_by_one else part.chunk)
            first = self._checked(part, row, chunks[0])
        others = [self._run(part, row, chunk) for chunk in chunks[1:]]
        scores = torch.cat([choose(scores, row) for scores in (first[1:], *others) if len(scores)])
        return relative_to(scores[:1], scores[1:]) if relative else scores[1:]

    def _checked(self, part: MaskedPart, row: int, positions: Tensor) -> Tensor | None:
        """Return the scores of a chunk whose first copy is untouched; None if that one is wrong and a slower way is left."""
        slowest = self._recording is None and self._one_by_one
        try:
            scores = self._run(part, row, positions)
            if agree(scores[:1], self.trace.result[row : row + 1], self.trace):
                return scores
        except Exception:  # a model may refuse copies in any words; those of the slowest way are its last
            if slowest:
                raise
        if slowest:
            refuse_other_scores(row)
        self._recording, self._one_by_one = None, self._recording is None
        return None

    def _run(self, part: MaskedPart, row: int, positions: Tensor) -> Tensor:
        """Return the scores (P, ...) of the copies of one example that are masked at each of the positions."""
        number = len(positions)
        values = list(self.call.rows(values_of(self.trace.features), row, number))
        values[part.place] = part.copies(values[part.place][:1], positions)
        features = tuple(values) if isinstance(self.trace.features, tuple) else values[0]
        copies = self.call.copies(row, number, own=self._recording is None)
        scores = run_tail(self._recording, self.layer, features, row, copies, self.trace, at_input=self.at_input)
        check_rows(scores, number)
        self.bar.update(int((positions >= 0).sum()))
        return scores  # type: ignore[no-any-return]  # check_rows: a tensor
