"""Find the layers of a model that give a map, stage by stage, and the last one on which the scores depend.

One forward finds the modules whose output is a map, also within encoders that return several. A second one, with other
values at the last of these maps, shows whether the scores depend on it. Where they do not, as behind the last attention of a
class token, the maps before it are tried.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_softcam._intervention.axes import AxisTracker
from captum_softcam._intervention.call import Call
from captum_softcam._intervention.dimensions import Dims
from captum_softcam._intervention.layout import FeatureLayout, fits_shape, told_layouts
from captum_softcam._intervention.operations import leaves
from captum_softcam._intervention.view import View

__all__ = ["MapLayer", "Survey", "survey"]

_TRIED = 4  # layers of a stage, from the last one on, because each costs a forward
_ATTENTIONS = {"softmax", "scaled_dot_product_attention", "multi_head_attention_forward"}
# Modules that pool or pass on the output of another layer: AdaptiveAvgPool2d, but not PoolFormerBlock.
_NO_MAP_OF_THEIR_OWN = re.compile(
    r"(Pool(ing)?(\dd)?(Same)?|Pad(ding)?(\dd)?|Dropout(\dd)?|DropPath|StochasticDepth|Identity|Permute|Flatten)$"
)


@dataclass(frozen=True)
class MapLayer:
    """A module whose output in its last call is a map.

    Args:
        name (str): in the model.
        module (torch.nn.Module): of the model.
        shape (tuple of int): of the output.
        layout (FeatureLayout): of the output.
        calls (int): how often the module is called.
        level (int): number of modules around it that give a map themselves, or are an attention.
        attended (bool): whether an attention reads the output.
        reaches (bool): whether the scores are computed from the output, though perhaps not from its map.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    layout: FeatureLayout
    calls: int
    level: int
    attended: bool
    reaches: bool

    @property
    def grid(self) -> tuple[int, ...]:
        """The sides of the map."""
        return self.layout.grid or (self.shape[1:-1] if self.layout.channels_last else self.shape[2:])


@dataclass(frozen=True)
class Survey:
    """The layers of a model that are worth a map.

    Args:
        layers (list of MapLayer): in the order of the forward, one of each stage.
        best (int): index of the recommended one.
        obstacle (str): why the scores depend on no map, the recommended one included; empty if they depend on it.
    """

    layers: list[MapLayer]
    best: int
    obstacle: str

    @property
    def recommended(self) -> MapLayer | None:
        """The recommended layer, None if no module gives a map."""
        return self.layers[self.best] if self.layers else None


@torch.no_grad()
def survey(call: Call) -> Survey:
    """Find the layers of a model that are worth a map, and the one to explain.

    Without prefix tokens, that is the last map on which the scores depend; in front of a convolution that makes one map per
    class, the last one before it. With prefix tokens, such as a class token, it is the last map that an attention reads,
    unless the scores come from the map alone.

    Args:
        call (Call): the model, an ``nn.Module`` in eval mode, with its arguments.

    Cost: two forwards, three with prefix tokens, and one for each further layer that has to be tried.
    """
    found, scores = _visit(call)
    probe, stages = _Probe(call, scores), _stages(found)
    attended = [[each] for each in found if each.attended and each.layout.prefix_tokens]
    if attended and (not probe.depends_on(stages[-1][-1]) or probe.depends_on_prefix(stages[-1][-1])):
        stages = attended
    best, layers = _best(probe, stages)
    if best is not None:
        zero = probe.zero_layer(layers[best])
        return Survey(layers, best, f"the weights of {zero!r} are all zero" if zero else "")
    # If no map matters, the last one is as good as any.
    return Survey(layers, len(layers) - 1, "they stay the same with other values")


def _best(probe: _Probe, stages: list[list[MapLayer]]) -> tuple[int | None, list[MapLayer]]:
    """Return the index of the last stage on which the scores depend, None for none, and of each stage the layer to use."""
    layers = [stage[-1] for stage in stages]
    for place in reversed(range(len(stages))):
        chosen = _last_that_matters(probe, stages[place])
        if chosen is not None:
            layers[place] = chosen
            return place, layers
    return None, layers


def _last_that_matters(probe: _Probe, stage: list[MapLayer]) -> MapLayer | None:
    of_classes: MapLayer | None = None
    for each in reversed(stage[-_TRIED:]):
        if each.reaches and probe.depends_on(each):
            if not probe.saw_map_per_class(each):
                return each
            of_classes = of_classes or each
    return of_classes


def _stages(found: list[MapLayer]) -> list[list[MapLayer]]:
    """Return the outermost modules of each grid, by grid, in the order of the last ones.

    Maps that do not reach the scores, as those of a decoder for another output, only count where a grid has no others.
    """
    maps = [each for each in found if not _makes_no_map(each.module)]
    stages = _by_grid([each for each in maps if each.reaches])
    stages = {**_by_grid([each for each in maps if not each.reaches]), **stages}
    return sorted(stages.values(), key=lambda stage: maps.index(stage[-1]))


def _by_grid(maps: list[MapLayer]) -> dict[tuple[int, ...], list[MapLayer]]:
    """Return the outermost maps of each grid; those deep within a module with a map are left out, as a branch's."""
    outermost = min((each.level for each in maps), default=0)
    levels: dict[tuple[int, ...], int] = {}
    for each in maps:
        levels[each.grid] = min(each.level, levels.get(each.grid, each.level))
    grids: dict[tuple[int, ...], list[MapLayer]] = {}
    for each in maps:
        if each.level == levels[each.grid] <= outermost + 1:
            grids.setdefault(each.grid, []).append(each)
    return grids


def _makes_no_map(module: nn.Module) -> bool:
    """Return whether a module only pools or passes on the output of another layer."""
    return bool(_NO_MAP_OF_THEIR_OWN.search(type(module).__name__)) and not any(True for _ in module.parameters())


# ---- the forward that finds the maps


@dataclass
class _Running:
    """A call of a module that has begun.

    Args:
        module (torch.nn.Module): that was called.
        attends (bool): whether it is an attention, by its name or because it calls a softmax.
        reads (str): name of the layer whose output it reads, unchanged; else that of the normalisation that it begins with.
        gives_map (bool): from its end on, whether its output is something like a map. Default: False
        pooled (bool): whether the module within it that ended last is a pooling, or ends with one. Default: False
        inner (int): number of calls within it that have ended. Default: 0
    """

    module: nn.Module
    attends: bool
    reads: str
    gives_map: bool = False
    pooled: bool = False
    inner: int = 0


@dataclass
class _Ended:
    """A call that has ended, the calls around it, and its output."""

    module: nn.Module
    around: tuple[_Running, ...]
    shape: tuple[int, ...]
    dims: Dims
    mark: int
    calls: int
    attended: bool = False


class _Flow(TorchFunctionMode):
    """Follows which of the marked tensors every tensor is computed from; marks are the bits of an int."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[_Running] = []
        self._marks: dict[int, tuple[weakref.ref[Tensor], int]] = {}  # by id, of which a later tensor may have the same

    def marks(self, values: Any) -> int:
        """Return the marks of all tensors in a nested value."""
        marks = 0
        for value in leaves(values):
            known = self._marks.get(id(value))
            if known is not None and known[0]() is value:
                marks |= known[1]
        return marks

    def add(self, marks: int, values: Any) -> None:
        """Add marks to all tensors in a nested value."""
        for value in leaves(values):
            if isinstance(value, Tensor):
                self._marks[id(value)] = weakref.ref(value), marks | self.marks(value)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function; what it returns or writes into gets the marks of its arguments."""
        kwargs = kwargs or {}
        if func.__name__ in _ATTENTIONS and self.running:
            inner = isinstance(self.running[-1].module, nn.Softmax) and len(self.running) > 1
            self.running[-2 if inner else -1].attends = True
        result = func(*args, **kwargs)
        if marks := self.marks((args, kwargs)):
            self.add(marks, args[0] if func.__name__ == "__setitem__" else result)
        return result


class _Visitor:
    """Watches the modules of one forward, and keeps every one whose last output may be a map."""

    def __init__(self, call: Call) -> None:
        self.call, self.tracker, self.flow = call, AxisTracker(call.arguments), _Flow()
        self.ended: dict[str, _Ended] = {}
        self._names = {module: name for name, module in call.model.named_modules()}  # type: ignore[attr-defined]  # a module
        self._given: tuple[Any, str] = None, ""  # by the call that ended last: a tensor, and the name of the module
        self._number = 0

    def scores(self) -> Any:
        """Run a view of the model."""
        view = View(self.call.model, None)
        view.watch = self._watch
        with self.tracker, self.flow:
            return replace(self.call, model=view.model).run()

    def _watch(self, module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given, reads = self._given
        running = _Running(
            module, _is_attention(module), reads if any(value is given for value in leaves((args, kwargs))) else ""
        )
        self.flow.running.append(running)
        output = forward(*args, **kwargs)
        self.flow.running.pop()
        if not self.flow.marks(output):
            self.flow.add(self.flow.marks((args, kwargs)), output)  # out of sight within the module, as in TorchScript
        if running.attends and running.reads in self.ended:
            self.ended[running.reads].attended = True
        self._end(running, output)
        return output

    def _end(self, running: _Running, output: Any) -> None:
        name, around = self._names.get(running.module, ""), tuple(self.flow.running)
        if around:
            around[-1].inner += 1
            around[-1].pooled = running.pooled if running.inner else _makes_no_map(running.module)
            # An attention may begin with its own normalisation.
            if around[-1].inner == 1 and not around[-1].reads and "norm" in type(running.module).__name__.lower():
                around[-1].reads = name
        # A key that is set again keeps its place in a dict; popped first, it moves to the place of the last call.
        before = self.ended.pop(name, None)
        if not (isinstance(output, Tensor) and output.dim() > 2 and output.is_floating_point()):
            return
        # A stage of a small image may be left with one position, but a network that ends with its pooling is no stage.
        running.gives_map = not running.pooled or math.prod(output.shape[2:]) > 1 < math.prod(output.shape[1:-1])
        if name:
            calls = 1 + (before.calls if before else 0)
            shape, dims = tuple(output.shape), self.tracker.dims_of(output)
            self.ended[name] = _Ended(running.module, around, shape, dims, self._number, calls)
            self.flow.add(1 << self._number, output)
            self._given, self._number = (output, name), self._number + 1


def _visit(call: Call) -> tuple[list[MapLayer], Any]:
    """Return every module whose last output is a map, in the order in which those calls end, and the scores."""
    visitor = _Visitor(call)
    scores = visitor.scores()
    marks = visitor.flow.marks(scores)
    visits = [visit for name, each in visitor.ended.items() if (visit := _visited(name, each, visitor.tracker, marks))]
    if not any(each.reaches for each in visits):  # the scores were made out of sight
        visits = [replace(each, reaches=True) for each in visits]
    return visits, scores


def _visited(name: str, call: _Ended, tracker: AxisTracker, marks: int) -> MapLayer | None:
    try:
        layout = tracker.read(call.dims, told_layouts(each.module for each in call.around))
    except ValueError:
        return None  # not a map, or of an unknown layout
    if not fits_shape(layout, call.shape):
        return None
    level = sum(each.gives_map or each.attends for each in call.around)
    return MapLayer(
        name, call.module, call.shape, layout, call.calls, level, call.attended, reaches=bool(marks >> call.mark & 1)
    )


def _is_attention(module: nn.Module) -> bool:
    # By name, because libraries write their own attentions, without a common base class.
    return any(word in type(module).__name__.lower() for word in ("attention", "attn"))


# ---- the forwards with other values at a layer

Change = Callable[[Tensor, FeatureLayout], Tensor]


@dataclass
class _Probe:
    """Runs a model with other values at a layer, to see whether the scores depend on it.

    Where they do not, and layers have weights of zeros alone, as the head of torchvision's transformers before the training,
    these layers get other weights in a view of the model.
    """

    call: Call
    scores: Any
    _zeros: list[str] | None = None  # names of the layers that have other weights now; None if not yet looked for
    _features: list[Tensor] = field(default_factory=list)  # of the layer that was probed last

    def depends_on(self, layer: MapLayer) -> bool:
        """Return whether the scores depend on the map of a layer."""
        if self._changes(layer, _other_map):
            return True
        if self._zeros is None:
            self._zeros = [name for name, _ in _zero_layers(self.call.model)]
            if self._zeros:
                self.scores = self._run()
                return self._changes(layer, _other_map)
        return False

    def depends_on_prefix(self, layer: MapLayer) -> bool:
        """Return whether the scores also depend on the prefix tokens of a layer."""
        return layer.layout.prefix_tokens > 0 and self._changes(layer, _other_prefix)

    def saw_map_per_class(self, layer: MapLayer) -> bool:
        """Return whether the layer, which was probed last, gives one map per class that only has to be pooled."""
        maps = layer.layout.to_maps(self._features[0]).flatten(2)
        if not isinstance(self.scores, Tensor) or self.scores.shape != maps.shape[:2]:
            return False
        # Any kind of pooling gives a value between the lowest and the highest of the map, or 0 behind a ReLU.
        low, high = maps.amin(2), maps.amax(2).clamp(min=0)
        slack = 1e-3 * (high - low) + 1e-5 * high.abs()
        return bool(((self.scores >= low - slack) & (self.scores <= high + slack)).all())

    def zero_layer(self, layer: MapLayer) -> str:
        """Return the name of the layer whose zero weights keep the scores from depending on a map; empty if none does."""
        zeros, self._zeros = self._zeros, []
        if not zeros:
            return ""
        self.scores = self._run()
        return "" if self._changes(layer, _other_map) else zeros[-1]

    def _changes(self, layer: MapLayer, change: Change) -> bool:
        return not _equal(self._run(layer, change), self.scores)

    def _run(self, layer: MapLayer | None = None, change: Change | None = None) -> Any:
        view, calls = View(self.call.model, None), 0
        for _, module in _zero_layers(view.model) if self._zeros else ():
            module._parameters["weight"] = nn.Parameter(0.01 * _waves(module.weight), requires_grad=False)

        def watch(module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            nonlocal calls
            output = forward(*args, **kwargs)
            if layer is not None and change is not None and module is layer.module:
                calls += 1
                if calls == layer.calls:
                    self._features[:] = [output]
                    return change(output, layer.layout)
            return output

        view.watch = watch
        return replace(self.call, model=view.model).run()


def _zero_layers(model: Any) -> list[tuple[str, Any]]:
    """Return the linear layers and convolutions whose weights are all zero, with their names."""
    layers = [each for each in model.named_modules() if isinstance(each[1], (nn.Linear, nn.modules.conv._ConvNd))]
    weights = [(name, module, module._parameters.get("weight")) for name, module in layers]
    return [(name, module) for name, module, weight in weights if weight is not None and not weight.any()]


def _other_map(features: Tensor, layout: FeatureLayout) -> Tensor:
    """Return features with other values at all positions and unchanged prefix tokens."""
    features = features.clone()
    # to_maps returns a view, so that this writes into the features.
    maps = layout.to_maps(features)
    maps.copy_(_waves(maps))
    return features


def _other_prefix(features: Tensor, layout: FeatureLayout) -> Tensor:
    """Return features with other prefix tokens and an unchanged map."""
    others = _waves(features)
    layout.to_maps(others).copy_(layout.to_maps(features))
    return others


def _waves(like: Tensor) -> Tensor:
    """Return values that differ between positions and between channels, without drawing random numbers.

    Zeros would not do: a map may be zero already, where a ReLU is off.
    """
    waves = torch.arange(like.numel(), device=like.device, dtype=torch.float32).cos().view(like.shape)
    return ((1 + like.abs().amax()) * waves).to(like.dtype)


def _equal(one: Any, other: Any) -> bool:
    """Return whether two outputs are equal, without a tolerance: where nothing reads a map, nothing is computed anew."""
    pairs = zip(leaves(one), leaves(other), strict=True)
    tensors = [pair for pair in pairs if isinstance(pair[0], Tensor)]
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in tensors)
