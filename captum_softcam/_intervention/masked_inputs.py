"""Run a model on masked copies of one example, some at a time."""

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
    """The scores of a model for one example whose inputs are multiplied by masks.

    Args:
        call (Call): the model with its arguments.
        trace (Trace): of the call.
        target (any): of the example.
        row (int): the example.
        dims (int): of the map; inputs with as many dimensions are masked.
        chunk (int or None): number of copies that are run at a time.
        scale_first (bool): whether channels are scaled to [0, 1] before they are upsampled, not after.
        align_corners (bool): as of ``torch.nn.functional.interpolate``.
        bar (tqdm.tqdm): counts the channels.
    """

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
        """Return the scores (C,) of the example masked by each of the channels (C, h, w).

        Raises:
            ValueError: if no input can be masked, or if copies of the example have other scores than the example.
        """
        image = next((value[:1] for value in self.call.inputs if value.dim() == self.dims), None)
        if image is None:
            shapes = ", ".join(str(tuple(value.shape)) for value in self.call.inputs)
            raise ValueError(f"no input can be masked: inputs are {shown(shapes)}, and the map has {self.dims} dimensions.")
        self._refuse_other_scores()
        masks = (rescale(channels) if self.scale_first else channels)[:, None]
        return torch.cat([self._masked_by(part) for part in masks.split(chunk_size(self.chunk, image))])

    def _masked_by(self, channels: Tensor) -> Tensor:

        def mask(image: Tensor) -> Tensor:
            masks = upsample(channels, tuple(image.shape[2:]), align_corners=self.align_corners)
            return image * (masks if self.scale_first else rescale(masks))

        self.bar.update(len(channels))
        return self.score(mask, len(channels))

    def score(self, change: Callable[[Tensor], Tensor], number: int) -> Tensor:
        """Return the scores (P,) of copies of the example in which every input that can be masked is changed."""
        copies = self.call.copies(self.row, number)
        inputs = tuple(change(value) if value.dim() == self.dims else value for value in copies.inputs)
        scores = replace(copies, inputs=inputs).run()
        check_rows(scores, number)
        return select_score(scores, self.target)

    def _refuse_other_scores(self) -> None:
        number = 1 if self.chunk == 1 else 2  # two, because a model may mix the examples of a batch
        known = select_score(self.trace.result[self.row : self.row + 1], self.target).expand(number)
        if not agree(self.score(torch.clone, number), known, self.trace):
            refuse_other_scores(self.row)
