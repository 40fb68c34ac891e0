"""Find the global pooling and the classifier behind it in a model's torch.fx graph: by what they compute, never by name.

Only the modules that hold a part of the head are opened: everything before the pooling stays the module it was.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from captum_softcam._intervention.operations import ACTIVATIONS, DROPOUTS, FLATTENING, argument
from captum_softcam._names import reason
from captum_softcam.softcam.model import CONVOLUTIONS, spatial_dims
from captum_softcam.softcam.tracing import Tracer

__all__ = ["Head", "Layer", "Pooling", "find_head", "is_linear"]

_ONE_OUTPUT = "convert_to_softcam needs one: wrap the model so that it returns logits (N, K)."

_LAYERS = (
    *(nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm),
    *ACTIVATIONS.values(),
    *DROPOUTS.values(),
)
_ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_FIXED = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


@dataclass(frozen=True)
class Pooling:
    """The step that takes the positions together.

    Args:
        name (str): for the user, such as ``avgpool: AdaptiveAvgPool2d(output_size=1)``.
        dims (int): dimensions of the positions.
        channels_last (bool): whether the features are (N, ..., C). Default: False
        grid (tuple of int): positions that the classifier tells apart, for a pooling that leaves several. Default: ()
        keeps_dims (bool): whether the pooled features are (N, C, 1, ...), not (N, C). Default: True
    """

    name: str
    dims: int
    channels_last: bool = False
    grid: tuple[int, ...] = ()
    keeps_dims: bool = True


@dataclass(frozen=True)
class Layer:
    """A layer of the head: its name in the model (or that of the call), itself, and whether it reads (N, C)."""

    name: str
    module: nn.Module
    flat: bool


@dataclass(frozen=True)
class Head:
    """Where a model's graph is to be cut, and what stands behind the cut.

    Args:
        graph (torch.fx.Graph): of the whole model.
        features (torch.fx.Node): what the head reads.
        pooling (Pooling): in its middle, or at its start.
        before (list of Layer): layers before the pooling that act at every position already.
        after (list of Layer): layers behind it.
        logits (torch.fx.Node): what the last of them gives.
        path (tuple): keys and places that lead to it in what the model returns.
    """

    graph: fx.Graph
    features: fx.Node
    pooling: Pooling
    before: list[Layer]
    after: list[Layer]
    logits: fx.Node
    path: tuple[Any, ...]


def find_head(model: nn.Module, example: Tensor | None, *, sized: bool = False) -> Head:
    """The head of ``model``.

    Args:
        model (torch.nn.Module): in eval mode; torch.fx can trace it.
        example (Tensor or None): an input, which decides the branches of the model.
        sized (bool): whether inputs have the size of ``example``, which then tells the shapes that a graph alone does not.

    Raises:
        ValueError: if there is none, or more than one; the message says what stands in the way.
    """
    opened: set[str] = set()
    while True:
        search = _Search(model, *_trace(model, opened, example), sized)
        heads = [head for head in map(search.follow, search.outputs()) if isinstance(head, Head)]
        if len(heads) == 1:
            return heads[0]
        if heads:
            raise ValueError(f"{type(model).__name__} returns {len(heads)} outputs with a pooled head; {_ONE_OUTPUT}")
        closed = search.closed()
        if closed is None:
            raise ValueError(search.problem())
        opened.add(closed)


@torch.no_grad()
def _trace(model: nn.Module, opened: set[str], example: Tensor | None) -> tuple[fx.Graph, dict[str, tuple[int, ...]]]:
    """The graph of ``model``, and the shapes of its tensors by the names of the nodes."""
    tracer = Tracer(opened, None if example is None else example[:2])
    try:
        graph = tracer.trace(model)
    except Exception as error:  # torch.fx raises whatever the traced code raises on a proxy
        raise ValueError(
            f"{type(model).__name__} cannot be traced by torch.fx ({reason(error)}); convert_to_softcam needs a model "
            "without control flow that depends on the input. Build a SoftCamModel from its backbone and an EvidenceHead "
            "instead."
        ) from error
    shapes = {node.name: tuple(value.shape) for node, value in tracer.values.items() if isinstance(value, Tensor)}
    for number, node in enumerate([node for node in graph.nodes if _called(node) in DROPOUTS]):
        name = f"functional_dropout_{number}"
        model.add_module(name, DROPOUTS[_called(node)](float(_argument(node, 1, "p", 0.5))).eval())
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.call_module(name, (node.args[0],)))
        graph.erase_node(node)
    return graph, shapes


class _Search:
    """The way back from the outputs of a graph."""

    def __init__(self, model: nn.Module, graph: fx.Graph, shapes: dict[str, tuple[int, ...]], sized: bool) -> None:
        self.model = model
        self.graph = graph
        self.shapes = shapes if sized else {}
        self.blocks: list[fx.Node] = []

    def outputs(self) -> list[fx.Node]:
        """What the model returns, taken out of dictionaries and tuples."""
        found: list[fx.Node] = []
        fx.node.map_arg(next(node for node in self.graph.nodes if node.op == "output").args[0], found.append)
        return found

    def follow(self, node: fx.Node) -> Head | None:
        """The head that ends in ``node``; None if there is none, or one in a module that is closed as yet."""
        steps: list[fx.Node] = []
        logits = node
        while (pooling := self._pooling(node)) is None:
            before = self._source(node)
            if before is None or self._layer(node) is None:
                self.blocks.append(node)
                return None
            steps.insert(0, node)
            node = before
        features, pooling = self._whole(node.all_input_nodes[0], pooling)
        return self._head(features, pooling, steps, logits)

    def closed(self) -> str | None:
        """A module that stands in the way and could be opened."""
        for node in self.blocks:
            while _picks_an_entry(node):
                node = node.all_input_nodes[0]
            if node.op == "call_module" and not _is_leaf(self._module(node)):
                return str(node.target)
        return None

    def problem(self) -> str:
        """What stands in the way, in words."""
        if not self.blocks:
            return f"{type(self.model).__name__} returns no tensor that torch.fx can see; {_ONE_OUTPUT}"
        node, hint = self.blocks[0], ""
        if self._fixed_pool(node) or not self.shapes:
            hint = " If the pooling has a fixed size, or the classifier reads a flattened map, give an example of the input."
        return (
            f"no global average pooling was found before the classifier of {type(self.model).__name__}: going back from the "
            f"logits, {self._describe(node)} stands in the way. convert_to_softcam needs: features (N, C, h, w) -> global "
            f"average pooling -> layers that read the pooled channels -> logits (N, K).{hint}"
        )

    def _head(self, features: fx.Node, pooling: Pooling, steps: list[fx.Node], logits: fx.Node) -> Head:
        after, flat = [], not pooling.keeps_dims
        for step in steps:
            layer = self._layer(step)
            if isinstance(layer, nn.Module):
                after.append(Layer(str(step.target) if step.op == "call_module" else step.name, layer, flat))
            flat = flat or self._flattens(step)
        before: list[Layer] = []
        while not any(list(layer.module.parameters()) for layer in [*before, *after]):
            layer, source = self._layer(features), self._source(features)
            if source is None or layer is None or isinstance(layer, nn.Linear):
                break
            if isinstance(layer, nn.Module):
                before.insert(0, Layer(str(features.target), layer, False))
            features = source
        output = next(node for node in self.graph.nodes if node.op == "output").args[0]
        return Head(self.graph, features, pooling, before, after, logits, _path(output, logits) or ())

    def _module(self, node: fx.Node) -> nn.Module:
        return self.model.get_submodule(str(node.target))

    def _source(self, node: fx.Node) -> fx.Node | None:
        """The node that this one reads; None for the input of the model, or where several are read."""
        first = node.args[0] if node.args else None
        return first if isinstance(first, fx.Node) and node.op not in ("placeholder", "output") else None

    def _layer(self, node: fx.Node) -> nn.Module | bool | None:
        """The layer that a step of the head calls, True for one that only reshapes, None for what is no step of a head."""
        if node.op == "call_module":
            module = self._module(node)
            if isinstance(module, (nn.Flatten, nn.Identity)):
                return True
            return module if isinstance(module, _LAYERS) or _is_pointwise_convolution(module) else None
        if _called(node) in ACTIVATIONS:
            return _function_module(node)
        picks = node.target is operator.getitem and _takes_only_one(node)
        return True if picks or _called(node) in (*FLATTENING, "contiguous") else None

    def _flattens(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self._module(node), nn.Flatten)
        return node.target is operator.getitem or _called(node) in FLATTENING

    def _pooling(self, node: fx.Node) -> Pooling | None:
        return self._adaptive_pool(node) or self._fixed_pool_of_all(node) or self._mean(node) or self._flattened_map(node)

    def _adaptive_pool(self, node: fx.Node) -> Pooling | None:
        if node.op == "call_module" and isinstance(self._module(node), _ADAPTIVE):
            module = self._module(node)
            dims = 1 + next(i for i, kind in enumerate(_ADAPTIVE) if isinstance(module, kind))
            size = module.output_size
        elif (name := _called(node)).startswith("adaptive_avg_pool"):
            dims, size = int(name[-2]), _argument(node, 1, "output_size")
        else:
            return None
        sides = tuple(size) if isinstance(size, (tuple, list)) else (size,) * dims
        if any(side is None for side in sides):
            return None  # a side that is left as it comes: not a pooling of all positions
        return Pooling(self._describe(node), dims, grid=() if set(sides) == {1} else cast("tuple[int, ...]", sides))

    def _fixed_pool(self, node: fx.Node) -> bool:
        return _called(node).startswith("avg_pool") or (node.op == "call_module" and isinstance(self._module(node), _FIXED))

    def _fixed_pool_of_all(self, node: fx.Node) -> Pooling | None:
        """An average pool whose window is known to hold the whole map."""
        shape = self.shapes.get(node.name)
        if shape is None or not self._fixed_pool(node) or set(shape[2:]) != {1}:
            return None
        return Pooling(self._describe(node), len(shape) - 2)

    def _mean(self, node: fx.Node) -> Pooling | None:
        """A mean over all dimensions but the first and that of the channels, counted from either end."""
        if _called(node) != "mean":
            return None
        given = _argument(node, 1, "dim")
        dims = sorted([given] if isinstance(given, int) else given or [])
        keeps_dims = bool(_argument(node, 2, "keepdim", False))
        count = len(dims)
        if count and dims in ([*range(2, 2 + count)], [*range(-count, 0)]):
            return Pooling(self._describe(node), count, keeps_dims=keeps_dims)
        if count and dims in ([*range(1, 1 + count)], [*range(-count - 1, -1)]):
            return Pooling(self._describe(node), count, channels_last=True, keeps_dims=keeps_dims)
        return None

    def _flattened_map(self, node: fx.Node) -> Pooling | None:
        """A map that is flattened as it is, for layers that tell its positions apart; as many-sided as the input."""
        source = self._source(node)
        if source is None or not self._flattens(node) or node.target is operator.getitem or self._adaptive_pool(source):
            return None
        shape, flat = self.shapes.get(source.name, ()), self.shapes.get(node.name)
        if len(shape) < 3 or max(shape[2:]) == 1 or flat != (shape[0], math.prod(shape[1:])):
            return None
        if spatial_dims(self.model) not in (None, len(shape) - 2):
            return None
        return Pooling(self._describe(node), len(shape) - 2, grid=tuple(shape[2:]), keeps_dims=False)

    def _whole(self, features: fx.Node, pooling: Pooling) -> tuple[fx.Node, Pooling]:
        """Features and pooling in their own dimensions, where the positions were flattened first, or pooled in two steps."""
        if pooling.dims != 1 or pooling.channels_last or (source := self._source(features)) is None:
            return features, pooling
        if _called(features) == "flatten" and _argument(features, 1, "start_dim", 0) == 2:
            return source, replace(pooling, dims=spatial_dims(self.model) or 1)
        first = self._mean(features)
        if (first and not first.channels_last and not first.keeps_dims) or _is_mean_of_columns(features):
            return source, replace(pooling, dims=2)
        return features, pooling

    def _describe(self, node: fx.Node) -> str:
        """A step for the user: the module as it prints itself, or the call."""
        if node.op == "call_module":
            return f"'{node.target}' ({str(self._module(node)).splitlines()[0].removesuffix('(')})"
        if node.op == "placeholder":
            return f"the input '{node.target}'"
        if node.target is operator.getitem:
            return "an index that picks single positions or tokens, where their mean is needed,"
        return f"{getattr(node.target, '__name__', node.target)}()"


def _path(output: Any, node: fx.Node) -> tuple[Any, ...] | None:
    """Keys and places that lead to a node in an output; None if it is not there."""
    if output is node:
        return ()
    entries = output.items() if isinstance(output, dict) else enumerate(output) if isinstance(output, (tuple, list)) else ()
    for key, entry in entries:
        found = _path(entry, node)
        if found is not None:
            return (key, *found)
    return None


def _called(node: fx.Node) -> str:
    """Return the name of the function of torch, or of the method, that a node calls; "" for any other node."""
    if node.op == "call_method":
        return str(node.target)
    name = getattr(node.target, "__name__", "")
    return name if node.op == "call_function" and node.target in (getattr(torch, name, None), getattr(F, name, None)) else ""


def _argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    return argument(node.args, node.kwargs, place, name, default)


def is_linear(module: nn.Module) -> bool:
    """Whether a layer of a head commutes with the pooling, in eval mode; subclasses of normalisations may do more."""
    norm = any(type(module).forward is kind.forward for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
    return norm or isinstance(module, (nn.Linear, *CONVOLUTIONS, *DROPOUTS.values()))


def _is_leaf(module: nn.Module) -> bool:
    """Whether a module is one of torch's layers, and no container, so that there is nothing inside to be seen."""
    return type(module).__module__.startswith("torch.nn.modules.") and not list(module.children())


def _is_pointwise_convolution(module: nn.Module) -> bool:
    return isinstance(module, CONVOLUTIONS) and {*module.kernel_size, *module.stride} == {1} and not _pads(module)


def _pads(module: nn.Module) -> bool:
    padding = module.padding
    return padding not in ("same", "valid") and any(padding)  # type: ignore[arg-type]  # of a convolution


def _function_module(node: fx.Node) -> nn.Module | None:
    """The module of a functional activation; None for settings that we do not carry over."""
    settings = {name: value for name, value in node.kwargs.items() if name != "inplace"}
    try:
        return ACTIVATIONS[_called(node)](**settings)
    except TypeError:
        return None


def _takes_only_one(node: fx.Node) -> bool:
    """Whether an index takes the only position of pooled features, as in ``x[:, :, 0, 0]``."""
    index = node.args[1]
    if not isinstance(index, tuple) or len(index) < 2:
        return False
    kept = 1 if index[0] is Ellipsis else 2
    return all(entry in (slice(None), Ellipsis) for entry in index[:kept]) and all(entry == 0 for entry in index[kept:])


def _picks_an_entry(node: fx.Node) -> bool:
    """Whether a node takes an entry out of what a module returns, by its name or number."""
    by_number = node.target is operator.getitem and isinstance(node.args[1], (int, str))
    return (by_number or node.target is getattr) and isinstance(node.args[0], fx.Node)


def _is_mean_of_columns(node: fx.Node) -> bool:
    """Whether a node is the mean over the last dimension of images (N, C, h, w), counted from the front."""
    return _called(node) == "mean" and _argument(node, 1, "dim") == 3 and not _argument(node, 2, "keepdim", False)
