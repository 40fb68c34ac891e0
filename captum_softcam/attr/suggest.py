"""Suggest layers to explain: the maps in a model, and their cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_softcam._intervention.axes import AxisTracker
from captum_softcam._intervention.call import Call
from captum_softcam._intervention.closed_form import observe_copies
from captum_softcam._intervention.dimensions import Dims
from captum_softcam._intervention.forward import observe, refuse_train_mode
from captum_softcam._intervention.layout import FeatureLayout, fits_shape, told_layouts
from captum_softcam._intervention.view import View, unwrap

__all__ = ["FeatureLayout", "LayerChoice", "suggest_layers"]

# Each layer that is tried costs a forward.
_TRIED = 4  # layers of a stage, from the last one on
_NO_MAP_OF_THEIR_OWN = ("Pool", "Dropout", "Identity", "StochasticDepth", "Permute")


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


@torch.no_grad()
def suggest_layers(model: nn.Module, *inputs: Any) -> list[LayerChoice]:
    """Suggest the layers of a model that are worth a map, and recommend one of them.

    For CNNs and transformers without prefix tokens, these are the last layers of each resolution that the scores depend on.
    For transformers that read a class token, they are the normalisations before each attention, where masked patches still
    change the token. Of a layer that is called several times, the last call counts. Layers whose output is not certain to be
    one map per example are left out.

    Args:
        model (torch.nn.Module): in eval mode.
        *inputs (Tensor): its arguments, examples first; their number is that of ``shape``.

    Returns:
        list of LayerChoice: in the order of the forward; empty if the model has no map.

    Raises:
        ValueError: if a module is in train mode.

    Cost: a forward per layer, and two more.

    Example::

        >>> next(choice.name for choice in suggest_layers(model, images) if choice.recommended)
        'layer4'
    """
    model = unwrap(model)
    for module in model.modules():
        refuse_train_mode(module)
    call = Call.of(model, inputs, None)
    found, scores = _visit(call)
    attended = [[each] for each in found if each.attended and each.layout.prefix_tokens]
    stages = attended or _stages(found)
    best, chosen = _best(call, scores, stages)
    return [_choice(call, each, place, best, bool(attended)) for place, each in enumerate(chosen)]


def _best(call: Call, scores: Any, stages: list[list[_Visit]]) -> tuple[int, list[_Visit]]:
    """Return the index of the last stage on which the scores depend, and of each stage the last layer that matters."""
    chosen = [stage[-1] for stage in stages]
    # The last maps may not matter, as those of patches that no attention reads any more
    for place in reversed(range(len(stages))):
        for each in reversed(stages[place][-_TRIED:]):
            if _matters(call, scores, each):
                chosen[place] = each
                return place, chosen
    return len(stages) - 1, chosen  # no map matters to a classifier of zeros, as before training


def _stages(found: list[_Visit]) -> list[list[_Visit]]:
    """Return the outermost modules of each grid, by grid; grids within a module, such as those of a branch, are left out."""
    maps = [each for each in found if not _makes_no_map(each.module)]
    outermost = min((each.depth for each in maps), default=0)
    depths: dict[tuple[int, ...], int] = {}
    for each in maps:
        depths[each.grid] = min(each.depth, depths.get(each.grid, each.depth))
    stages: dict[tuple[int, ...], list[_Visit]] = {}
    for each in maps:
        if each.depth == depths[each.grid] <= outermost + 1:
            stages.setdefault(each.grid, []).append(each)
    return sorted(stages.values(), key=lambda stage: maps.index(stage[-1]))


def _matters(call: Call, scores: Any, visit: _Visit) -> bool:
    """Return whether the scores depend on the map."""
    trace = observe(call, visit.module, follow=lambda trace: _without_map(trace.features, visit.layout), tracked=False)
    # Without a tolerance: where nothing reads the map, the same functions run on the same values.
    return not (isinstance(scores, Tensor) and torch.equal(scores, trace.result))


def _without_map(features: Tensor, layout: FeatureLayout) -> Tensor:
    """Return features with zeros at all positions and unchanged prefix tokens."""
    features = features.clone()
    # to_maps returns a view, so that this writes into the features.
    layout.to_maps(features).zero_()
    return features


@dataclass(frozen=True)
class _Visit:
    """The last call of a module whose output is a map, ``depth`` calls deep; ``attended`` if an attention reads it."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    layout: FeatureLayout
    depth: int
    attended: bool

    @property
    def grid(self) -> tuple[int, ...]:
        """The sides of the map."""
        return self.layout.grid or (self.shape[1:-1] if self.layout.channels_last else self.shape[2:])


@dataclass
class _Ended:
    """A call that has ended, the modules around it, and its output."""

    module: nn.Module
    containers: tuple[nn.Module, ...]
    shape: tuple[int, ...]
    dims: Dims
    attended: bool = False


def _visit(call: Call) -> tuple[list[_Visit], Any]:
    """Return every module whose last output is a map, in the order in which those calls end, and the scores."""
    names = {module: name for name, module in call.model.named_modules() if name}  # type: ignore[attr-defined]  # a module
    ended: dict[str, _Ended] = {}
    running: list[nn.Module] = []
    given: list[Any] = [None, ""]  # by the call that ended last: a tensor, and the name of the module
    tracker, view = AxisTracker(call.arguments), View(call.model, None)

    def watch(module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # The normalisation before an attention is the module whose output the attention reads, unchanged.
        if _is_attention(module) and any(value is given[0] for value in (*args, *kwargs.values())):
            ended[given[1]].attended = True
        running.append(module)
        output = forward(*args, **kwargs)
        running.pop()
        name = names.get(module, "")
        # A key that is set again keeps its place in a dict; popped first, it moves to the place of the last call.
        ended.pop(name, None)
        if name and isinstance(output, Tensor) and output.dim() > 2:
            ended[name] = _Ended(module, tuple(running), tuple(output.shape), tracker.dims_of(output))
            given[:] = output, name
        return output

    view.watch = watch
    with tracker:
        scores = replace(call, model=view.model).run()
    visits = (_visited(name, each, tracker) for name, each in ended.items())
    return [each for each in visits if each is not None], scores


def _visited(name: str, call: _Ended, tracker: AxisTracker) -> _Visit | None:
    try:
        layout = tracker.read(call.dims, told_layouts(call.containers))
    except ValueError:
        return None  # not a map, or of an unknown layout
    if not fits_shape(layout, call.shape):
        return None
    return _Visit(name, call.module, call.shape, layout, len(call.containers), call.attended)


def _is_attention(module: nn.Module) -> bool:
    # By name, because libraries write their own attentions, without a common base class.
    return any(word in type(module).__name__.lower() for word in ("attention", "attn"))


def _makes_no_map(module: nn.Module) -> bool:
    """Return whether a module only pools or passes on the output of another layer."""
    return any(part in type(module).__name__ for part in _NO_MAP_OF_THEIR_OWN)


def _choice(call: Call, visit: _Visit, place: int, best: int, attended: bool) -> LayerChoice:
    _, rows = observe_copies(call, visit.module, "one_hot", None)
    passes = 0 if rows.found else math.prod(visit.grid)
    image = call.inputs[0].shape[2:]
    same = len(image) == len(visit.grid)
    stride = tuple(round(side / cells, 1) for side, cells in zip(image, visit.grid, strict=True)) if same else None
    reason = "the score does not depend on it" if place > best else _reason(place == best, passes, attended)
    return LayerChoice(visit.name, visit.shape, visit.grid, stride, passes, place == best, reason)


def _reason(best: bool, passes: int, attended: bool) -> str:
    if attended:
        return "read by the last attention" if best else "read by an earlier attention"
    if not best:
        return "an earlier stage, finer"
    return "the last map" if passes else "the last map, known from one forward"
