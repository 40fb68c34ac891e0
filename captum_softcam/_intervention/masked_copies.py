"""Run the part of a model behind a layer on masked copies of the layer's features, some at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_softcam._intervention.call import Call, chunk_size
from captum_softcam._intervention.layout import FeatureLayout
from captum_softcam._intervention.masks import PositionMask, make_mask
from captum_softcam._intervention.tail import Recording, Trace, agree, record, refuse_other_scores, run_tail, values_of
from captum_softcam._intervention.targets import check_rows

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
        """Copies (P, ...) of the tensor (1, ...) of one example, masked at each position; untouched at position -1."""
        masked = self.layout.to_features(self.mask.copies(self.layout.to_maps(value), positions[positions >= 0]), value)
        return torch.cat((value.expand(len(positions) - len(masked), *value.shape[1:]), masked))


class MaskedTail:
    """The model behind the layer, run on masked copies.

    The copies of every example are preceded by an untouched one, whose scores are known. Where it does not reproduce them,
    the modules before the layer are run again for all copies; where that does not help either, one copy at a time.

    Args:
        call (Call): the model with its arguments.
        layer (torch.nn.Module): whose features are masked.
        at_input (bool): whether these are the layer's input.
        trace (Trace): of the call.
        bar (tqdm.tqdm): shows the copies that have been run.
    """

    def __init__(self, call: Call, layer: nn.Module, at_input: bool, trace: Trace, bar: tqdm[Any]) -> None:
        self.call, self.layer, self.at_input, self.trace, self.bar = call, layer, at_input, trace, bar
        self._recording: Recording | None = record(call, layer, trace, at_input=at_input)
        self._one_by_one = trace.alone

    def scores(self, part: MaskedPart, row: int, choose: Callable[[Any, int], Tensor]) -> Tensor:
        """The chosen scores (P, R) of one example for all positions.

        Raises:
            ValueError: if a copy of an example does not get the example's scores.
        """
        first = None
        while first is None:
            chunks = self._positions(part).split(1 if self._one_by_one else part.chunk)
            first = self._checked(part, row, chunks[0])
        others = [self._run(part, row, positions) for positions in chunks[1:]]
        return torch.cat([choose(scores, row) for scores in (first[1:], *others) if len(scores)])

    def _positions(self, part: MaskedPart) -> Tensor:
        """All positions of the grid, and -1 before them for the untouched copy."""
        device = values_of(self.trace.features)[part.place].device
        return torch.arange(-1, part.grid.numel(), device=device)

    def _checked(self, part: MaskedPart, row: int, positions: Tensor) -> Tensor | None:
        """The scores of a chunk whose first copy is untouched; None if that one is wrong and there is a slower way."""
        slowest = self._recording is None and self._one_by_one
        try:
            scores = self._run(part, row, positions)
            if agree(scores[:1], self.trace.result[row : row + 1], self.trace):
                return scores
        except Exception:
            if slowest:
                raise
        if slowest:
            refuse_other_scores(row)
        self._recording, self._one_by_one = None, self._recording is None
        return None

    def _run(self, part: MaskedPart, row: int, positions: Tensor) -> Tensor:
        """The scores (P, ...) of the copies of one example that are masked at each of the positions."""
        number = len(positions)
        values = list(self._values(row, number))
        values[part.place] = part.copies(values[part.place][:1], positions)
        features = tuple(values) if isinstance(self.trace.features, tuple) else values[0]
        copies = self.call.copies(row, number, own=self._recording is None)
        scores = run_tail(self._recording, self.layer, features, row, copies, self.trace, at_input=self.at_input)
        check_rows(scores, number)
        self.bar.update(int((positions >= 0).sum()))
        return scores  # type: ignore[no-any-return]  # check_rows: a tensor

    def _values(self, row: int, number: int) -> tuple[Any, ...]:
        """What the layer gave for one example, seen ``number`` times."""
        return self.call.rows(values_of(self.trace.features), row, number)
