"""Run a model on copies of one example that are seen through masks, some at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from captum_softcam._intervention.call import Call, chunk_size
from captum_softcam._intervention.forward import Trace, agree, refuse_other_scores
from captum_softcam._intervention.targets import check_rows, select_score
from captum_softcam._maps import rescale, upsample
from captum_softcam._names import shown

__all__ = ["MaskedInputs"]


@dataclass(frozen=True)
class MaskedInputs:
    """The model, run on one example that is seen through channels."""

    call: Call
    trace: Trace
    target: Any
    row: int
    dims: int
    chunk: int | None
    scale_first: bool
    align_corners: bool
    bar: tqdm[Any]

    def scores(self, channels: Tensor) -> Tensor:
        """The score (C,) of the example seen through each of the channels (C, h, w)."""
        image = next((value[:1] for value in self.call.inputs if value.dim() == self.dims), None)
        if image is None:
            shapes = ", ".join(str(tuple(value.shape)) for value in self.call.inputs)
            raise ValueError(f"no input can be masked: inputs are {shown(shapes)}, and the map has {self.dims} dimensions.")
        self._check()
        masks = (rescale(channels) if self.scale_first else channels)[:, None]
        return torch.cat([self._seen_through(part) for part in masks.split(chunk_size(self.chunk, image))])

    def _seen_through(self, channels: Tensor) -> Tensor:
        """The same for a chunk of channels (P, 1, h, w)."""

        def mask(image: Tensor) -> Tensor:
            masks = upsample(channels, tuple(image.shape[2:]), align_corners=self.align_corners)
            return image * (masks if self.scale_first else rescale(masks))

        self.bar.update(len(channels))
        return self.score(mask, len(channels))

    def score(self, change: Callable[[Tensor], Tensor], number: int) -> Tensor:
        """The score (P,) of copies of the example of which every input with as many dimensions as the map is changed."""
        copies = self.call.copies(self.row, number)
        inputs = tuple(change(value) if value.dim() == self.dims else value for value in copies.inputs)
        scores = replace(copies, inputs=inputs).run()
        check_rows(scores, number)
        return select_score(scores, self.target)

    def _check(self) -> None:
        """Raise ValueError unless copies of the example get its score."""
        number = 1 if self.chunk == 1 else 2
        known = select_score(self.trace.result[self.row : self.row + 1], self.target).expand(number)
        if not agree(self.score(torch.clone, number), known, self.trace):
            refuse_other_scores(self.row)
