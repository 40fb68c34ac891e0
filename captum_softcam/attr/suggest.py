"""Suggest layers to explain: the maps in a model, and their cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from captum_softcam._intervention.call import Call
from captum_softcam._intervention.closed_form import observe_copies
from captum_softcam._intervention.forward import refuse_train_mode
from captum_softcam._intervention.layout import FeatureLayout
from captum_softcam._intervention.stages import MapLayer, Survey, survey
from captum_softcam._intervention.view import unwrap
from captum_softcam._names import shown
from captum_softcam._tables import Row, aligned_table, html_table

__all__ = ["LAYER_COLUMNS", "LAYER_NOTE", "FeatureLayout", "LayerChoice", "suggest_layers"]

LAYER_COLUMNS = ("layer", "shape", "grid", "stride", "passes", "reason")
"""Headings of a table of layers."""
LAYER_NOTE = "* recommended; passes: runs of the tail that Recipro-CAM needs, 0 if one forward pass is enough"
"""The line beside a table of layers."""


@dataclass(frozen=True)
class LayerChoice:
    """A layer that can be explained.

    Args:
        name (str): in the model; ``model.get_submodule(name)`` is the layer.
        shape (tuple of int): of its output.
        grid (tuple of int): (h, w) of the map.
        stride (tuple of float): input pixels per position; None if the input is not an image.
        passes (int): runs of the tail that Recipro-CAM needs per image; 0 if one forward is enough.
        recommended (bool): whether this is the layer to use.
        reason (str): for the recommendation, or for another choice.
    """

    name: str
    shape: tuple[int, ...]
    grid: tuple[int, ...]
    stride: tuple[float, ...] | None
    passes: int
    recommended: bool
    reason: str

    def cells(self) -> list[str]:
        """Return the layer as a row of a table.

        Returns:
            list of str: its name, starred if it is recommended, shape, grid, stride, passes and reason.
        """
        grid, shape = ("x".join(map(str, sizes)) for sizes in (self.grid, self.shape))
        stride = "x".join(f"{side:g}" for side in self.stride) if self.stride else ""
        return [shown(self.name) + "*" * self.recommended, shape, grid, stride, str(self.passes), shown(self.reason)]


class _Choices(list[LayerChoice]):
    """A list that is shown as a table."""

    def __repr__(self) -> str:
        return f"{aligned_table(LAYER_COLUMNS, [choice.cells() for choice in self])}\n{LAYER_NOTE}" if self else "[]"

    def _repr_html_(self) -> str:
        rows: list[Row] = [("chosen" * choice.recommended, choice.cells()) for choice in self]
        return html_table(LAYER_COLUMNS, rows, notes=[LAYER_NOTE], texts=(len(LAYER_COLUMNS) - 1,))


@torch.no_grad()
def suggest_layers(model: nn.Module, *inputs: Any) -> list[LayerChoice]:
    """Suggest the layers of a model that are worth a map, and recommend one of them.

    For CNNs and for transformers without prefix tokens, or whose scores come from the patches alone, these are the last
    layers of each resolution from which the scores are computed, and the last one on which they depend is recommended. A
    convolution that makes one map per class is left out in favour of the layer before it. For transformers that read a class
    token, they are the normalisations before each attention, where masked patches still change the token. Of a layer that is
    called several times, the last call counts. Layers whose output is not certain to be one map per example are left out.

    The recommended layer is also the default of :func:`~captum_softcam.evaluation.compare_methods` and of the command, and
    the one that error messages name.

    Args:
        model (torch.nn.Module): in eval mode.
        *inputs (Tensor): its arguments, examples first; their number is that of ``shape``.

    Returns:
        list of LayerChoice: in the order of the forward; empty if the model has no map. It is shown as a table.

    Raises:
        ValueError: if a module is in train mode.

    Cost: two or three forwards, and one or two per layer for the passes.

    Example::

        >>> next(choice.name for choice in suggest_layers(model, images) if choice.recommended)
        'layer4'
    """
    model = unwrap(model)
    for module in model.modules():
        refuse_train_mode(module)
    call = Call.of(model, inputs, None)
    found = survey(call)
    return _Choices(_choice(call, found, place) for place in range(len(found.layers)))


def _choice(call: Call, found: Survey, place: int) -> LayerChoice:
    layer = found.layers[place]
    _, rows = observe_copies(call, layer.module, "one_hot", None)
    passes = 0 if rows.found else math.prod(layer.grid)
    image = call.inputs[0].shape[2:]
    same = len(image) == len(layer.grid)
    stride = tuple(round(side / cells, 1) for side, cells in zip(image, layer.grid, strict=True)) if same else None
    reason = _reason(found, place, passes)
    return LayerChoice(layer.name, layer.shape, layer.grid, stride, passes, place == found.best, reason)


def _reason(found: Survey, place: int, passes: int) -> str:
    layer: MapLayer = found.layers[place]
    best = place == found.best
    if place > found.best or not layer.reaches:
        return "the score does not depend on it"
    attended = layer.attended and layer.layout.prefix_tokens > 0
    if attended:
        reason = "read by the last attention" if best else "read by an earlier attention"
    elif best:
        reason = "the last map" if passes else "the last map, known from one forward"
    else:
        reason = "an earlier stage, finer"
    return f"{reason}, but the scores do not depend on it: {found.obstacle}" if best and found.obstacle else reason
