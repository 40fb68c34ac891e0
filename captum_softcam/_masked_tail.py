"""Run the part of a model behind a layer on masked copies of the layer's features, some at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_softcam._call import Call, chunk_size
from captum_softcam._layout import FeatureLayout
from captum_softcam._masks import PositionMask, make_mask
from captum_softcam._tail import Recording, run_tail, values_of

__all__ = ["MaskedPart", "MaskedTail"]


@dataclass(frozen=True)
class MaskedPart:
    """One of the tensors that a layer gives, and how it is masked."""

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
        """Masked copies (P, ...) of the tensor (1, ...) of one example."""
        return self.layout.to_features(self.mask.copies(self.layout.to_maps(value), positions), value)


@dataclass(frozen=True)
class MaskedTail:
    """The model behind the layer, run on masked copies."""

    call: Call
    layer: nn.Module
    at_input: bool
    recording: Recording
    bar: tqdm[Any]

    def scores(self, part: MaskedPart, row: int, choose: Callable[[Any, int], Tensor]) -> Tensor:
        """The chosen scores (P, R) of one example for all positions."""
        chunks = torch.arange(part.grid.numel(), device=self._values(row, 1)[part.place].device).split(part.chunk)
        return torch.cat([choose(self._run(part, row, positions), row) for positions in chunks])

    def _run(self, part: MaskedPart, row: int, positions: Tensor) -> Any:
        number = len(positions)
        values = list(self._values(row, number))
        values[part.place] = part.copies(values[part.place][:1], positions)
        features = tuple(values) if isinstance(self.recording.features, tuple) else values[0]
        forward = self.call.copies(row, number).run
        scores = run_tail(self.recording, self.layer, features, row, number, forward, at_input=self.at_input)
        self.bar.update(number)
        return scores

    def _values(self, row: int, number: int) -> tuple[Any, ...]:
        """What the layer gave for one example, seen ``number`` times."""
        return self.call.rows(values_of(self.recording.features), row, number)
