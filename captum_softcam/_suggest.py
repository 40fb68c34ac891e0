"""Which layer to look at: the maps that a model makes, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_softcam._call import Call
from captum_softcam._layout import FeatureLayout, find_layout
from captum_softcam._shortcut import observe_copies
from captum_softcam._tail import Trace, is_leaf, refuse_train_mode
from captum_softcam._view import unwrap

__all__ = ["LayerChoice", "suggest_layers"]

_NO_MAP_OF_THEIR_OWN = ("Pool", "Dropout", "Identity", "StochasticDepth", "Permute")


@dataclass(frozen=True)
class LayerChoice:
    """A layer that can be explained.

    Args:
        name (str): in the model; ``model.get_submodule(name)`` is the layer.
        shape (tuple of int): of its output.
        grid (tuple of int): (h, w) of the map.
        stride (tuple of float): input pixels per position; None where the input is no image.
        passes (int): runs of the tail that Recipro-CAM needs per image; 0 where one forward tells all.
        recommended (bool): whether we would take it.
        reason (str): why, or what for.
    """

    name: str
    shape: tuple[int, ...]
    grid: tuple[int, ...]
    stride: tuple[float, ...] | None
    passes: int
    recommended: bool
    reason: str


@torch.no_grad()
def suggest_layers(model: nn.Module, *inputs: Any) -> list[LayerChoice]:
    """The layers of a model that are worth a map, the recommended one among them.

    For CNNs and transformers without prefix tokens: the last layer of each resolution. For transformers that read a class
    token: the normalisation before each attention, where masking patches still reaches the token.

    Args:
        model (torch.nn.Module): in eval mode.
        *inputs (Tensor): what it is called with, examples first; their number is that of ``shape``.

    Returns:
        list of LayerChoice: in the order of the forward; empty if the model makes no map.

    Raises:
        ValueError: if a module is in train mode.

    Cost: a forward per layer.

    Example::

        >>> next(choice.name for choice in suggest_layers(model, images) if choice.recommended)
        'layer4'
    """
    model = unwrap(model)
    for module in model.modules():
        refuse_train_mode(module)
    found = _visit(model, inputs)
    attended = [each for each in found if each.attended]
    candidates = attended or _ends_of_stages(found)
    return [_choice(model, inputs, each, each is candidates[-1], bool(attended)) for each in candidates]


def _ends_of_stages(found: list[_Visit]) -> list[_Visit]:
    """The last of the outermost modules of each grid; grids that only inner modules have are their own affair."""
    maps = [each for each in found if not each.layout.prefix_tokens and not _makes_no_map(each.module)]
    outermost = min((each.depth for each in maps), default=0)
    depths: dict[tuple[int, ...], int] = {}
    for each in maps:
        depths[each.grid] = min(each.depth, depths.get(each.grid, each.depth))
    ends = {each.grid: each for each in maps if each.depth == depths[each.grid] <= outermost + 1}
    return sorted(ends.values(), key=lambda each: each.order)


@dataclass(frozen=True)
class _Visit:
    """One call of a module that gave a map; ``attended`` if an attention of a class token read it."""

    order: int
    name: str
    module: nn.Module
    shape: tuple[int, ...]
    layout: FeatureLayout
    grid: tuple[int, ...]
    attended: bool = False

    @property
    def depth(self) -> int:
        """How many modules stand around it."""
        return self.name.count(".")


def _visit(model: nn.Module, inputs: tuple[Any, ...]) -> list[_Visit]:
    """Every module that gives a map, in the order in which they end."""
    found: list[_Visit] = []
    running: list[nn.Module] = []
    leaves: list[nn.Module | None] = [None]

    def begin(module: nn.Module, _args: object) -> None:
        running.append(module)
        before = found[-1] if found else None
        if before and before.layout.prefix_tokens and isinstance(before.module, nn.LayerNorm) and _is_attention(module):
            found[-1] = replace(before, attended=True)

    def end(name: str) -> Callable[..., None]:
        def note(module: nn.Module, _args: object, output: object) -> None:
            running.pop()
            leaves[0] = module if is_leaf(module) else leaves[0]
            layout = _layout(output, Trace(containers=tuple(running), leaf=leaves[0]))
            if name and layout and isinstance(output, Tensor):
                grid = tuple(layout.to_maps(output).shape[2:])
                found.append(_Visit(len(found), name, module, tuple(output.shape), layout, grid))

        return note

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(begin).remove)
            stack.callback(module.register_forward_hook(end(name)).remove)
        model(*inputs)
    return found


def _layout(output: object, trace: Trace) -> FeatureLayout | None:
    try:
        layout = find_layout(output, trace)
    except ValueError:
        return None  # tokens whose grid nobody knows
    return layout if layout.fits(output) else None


def _is_attention(module: nn.Module) -> bool:
    return "attention" in type(module).__name__.lower()


def _makes_no_map(module: nn.Module) -> bool:
    """Whether it only pools or passes on what another layer has made."""
    return any(part in type(module).__name__ for part in _NO_MAP_OF_THEIR_OWN)


def _choice(model: nn.Module, inputs: tuple[Any, ...], visit: _Visit, last: bool, attended: bool) -> LayerChoice:
    _, rows = observe_copies(Call.of(model, inputs, None), visit.module, "one_hot", None)
    passes = 0 if rows.found else math.prod(visit.grid)
    image = inputs[0].shape[2:] if isinstance(inputs[0], Tensor) else ()
    same = len(image) == len(visit.grid)
    stride = tuple(round(side / cells, 1) for side, cells in zip(image, visit.grid, strict=True)) if same else None
    return LayerChoice(visit.name, visit.shape, visit.grid, stride, passes, last, _reason(last, passes, attended))


def _reason(last: bool, passes: int, attended: bool) -> str:
    if attended:
        return "read by the last attention" if last else "read by an earlier attention"
    if not last:
        return "an earlier stage, finer"
    return "the last map" if passes else "the last map, known from one forward"
