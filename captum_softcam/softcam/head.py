"""The search for the head of a model: the global pooling in its torch.fx graph and the classifier behind it.

They are recognised by what they compute, never by name. The search goes back from the logits, and traces into a module only
if the head is in it: all modules before the pooling stay as they are.
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
from captum_softcam.softcam.arithmetic import (
    RowFunction,
    acts_on_rows,
    ends_in_logits,
    ends_in_probabilities,
    row_function,
)
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
    """The step that averages over the positions.

    Args:
        name (str): description, such as ``avgpool: AdaptiveAvgPool2d(output_size=1)``.
        dims (int): number of spatial dimensions.
        channels_last (bool): whether the features are (N, ..., C). Default: False
        grid (tuple of int): positions that remain for the classifier to distinguish. Default: (), a single one
        keeps_dims (bool): whether the pooled features are (N, C, 1, ...) instead of (N, C). Default: True
    """

    name: str
    dims: int
    channels_last: bool = False
    grid: tuple[int, ...] = ()
    keeps_dims: bool = True


@dataclass(frozen=True)
class Layer:
    """A layer of the head, its name in the model or in the graph, and whether its input is (N, C)."""

    name: str
    module: nn.Module
    flat: bool


@dataclass(frozen=True)
class Head:
    """The head of a model, in its graph.

    Args:
        graph (torch.fx.Graph): of the whole model.
        features (torch.fx.Node): input of the head.
        pooling (Pooling): the pooling, in the middle or at the start of the head.
        before (list of Layer): layers before the pooling, which act on every position already.
        after (list of Layer): layers behind it.
        logits (torch.fx.Node): output of the last layer.
        output (torch.fx.Node): output of the model, which is the logits or their log-softmax.
        path (tuple): keys and indices that lead to it in all that the model returns.
        finish (torch.nn.Module or None): computes the output from the logits; None if it is the logits.
    """

    graph: fx.Graph
    features: fx.Node
    pooling: Pooling
    before: list[Layer]
    after: list[Layer]
    logits: fx.Node
    output: fx.Node
    path: tuple[Any, ...]
    finish: RowFunction | None = None

    def finished(self, logits: Tensor) -> Tensor:
        """Return what the model would return for these logits."""
        return logits if self.finish is None else cast(Tensor, self.finish(logits))


def find_head(model: nn.Module, example: Tensor | None, *, sized: bool = False) -> Head:
    """Find the head of ``model``.

    Args:
        model (torch.nn.Module): in eval mode, traceable by torch.fx.
        example (Tensor or None): an input, which decides the branches of the model.
        sized (bool): whether inputs have the size of ``example``, so that the shapes in the graph are known. Default: False

    Raises:
        ValueError: if there is none, or more than one; the message names the obstacle.
    """
    # Modules are opened one by one, so that all others remain leaves and keep their names in the backbone.
    opened: set[str] = set()
    while True:
        search = _Search(model, *_trace(model, opened, example), sized=sized)
        heads = [head for head in map(search.follow, search.outputs()) if isinstance(head, Head)]
        # Another output may have a head as well, in a module that is still closed; feature maps need not be followed.
        closed = search.closed(tables=bool(heads))
        if closed is not None:
            opened.add(closed)
        elif len(heads) == 1:
            return heads[0]
        elif heads:
            raise ValueError(f"{type(model).__name__} returns {len(heads)} outputs with a pooled head; {_ONE_OUTPUT}")
        else:
            raise ValueError(search.problem())


@torch.no_grad()
def _trace(model: nn.Module, opened: set[str], example: Tensor | None) -> tuple[fx.Graph, dict[fx.Node, Any]]:
    """Return the graph of ``model``, and the values of its steps that are known."""
    # Two rows at most, because the values serve for types and shapes only; a single one would be lost in a squeeze().
    rows = None if example is None else example[:2]
    tracer = Tracer(opened, rows)
    try:
        try:
            graph = tracer.trace(model)
        except TypeError:  # of a function that accepts no proxy
            tracer = Tracer(opened, rows, fixed_types=True)
            graph = tracer.trace(model)
    except Exception as error:  # torch.fx raises whatever the traced code raises on a proxy
        raise ValueError(
            f"{type(model).__name__} cannot be traced by torch.fx ({reason(error)}); convert_to_softcam needs a model "
            "without control flow that depends on the input. Build a SoftCamModel from its backbone and an EvidenceHead "
            "instead."
        ) from error
    values = {node: value for node, value in tracer.values.items() if value is not Ellipsis}
    _drop_devices(graph, values)
    # As modules, functional dropouts follow train() and eval() of the converted model, and can be moved with the head.
    for number, node in enumerate([node for node in graph.nodes if _called(node) in DROPOUTS]):
        name = f"functional_dropout_{number}"
        model.add_module(name, DROPOUTS[_called(node)](float(_argument(node, 1, "p", 0.5))).eval())
        with graph.inserting_before(node):
            layer = graph.call_module(name, (node.args[0],))
        if node in values:
            values[layer] = values[node]
        node.replace_all_uses_with(layer)
        graph.erase_node(node)
    return graph, values


def _drop_devices(graph: fx.Graph, values: dict[fx.Node, Any]) -> None:
    """Leave out moves to the device that the model is on, which the converted model may leave."""
    for node in graph.nodes:
        if node.op != "call_method" or node.target != "to" or not isinstance(value := values.get(node.args[0]), Tensor):
            continue
        node.args = tuple(argument for argument in node.args if not _is_device_of(argument, value))
        node.kwargs = {key: argument for key, argument in node.kwargs.items() if not _is_device_of(argument, value)}
        if len(node.args) == 1 and not node.kwargs:
            node.replace_all_uses_with(cast(fx.Node, node.args[0]))


def _is_device_of(argument: Any, value: Tensor) -> bool:
    return isinstance(argument, torch.device) and argument == value.device


class _Search:
    """The search for the head, back from the outputs of a graph."""

    def __init__(self, model: nn.Module, graph: fx.Graph, values: dict[fx.Node, Any], *, sized: bool) -> None:
        self.model = model
        self.graph = graph
        self.values = values
        tensors = {node: value for node, value in values.items() if isinstance(value, Tensor)}
        self.shapes = {node.name: tuple(value.shape) for node, value in tensors.items()} if sized else {}
        self.places = {node: place for place, node in enumerate(graph.nodes)}
        self.moving: set[fx.Node] = set()  # steps that compute tensors from the input, and not sizes or constants
        self.rows: set[fx.Node] = set()  # those of them that compute pooled features, or functions of these
        for node in graph.nodes:
            sources = self.moving.intersection(node.all_input_nodes)
            value = values.get(node, torch.empty(0))
            if (sources or node.op == "placeholder") and isinstance(value, (Tensor, tuple, list, dict)):
                self.moving.add(node)
                if _is_pooled(values.get(node)) or (sources and sources <= self.rows and acts_on_rows(model, node)):
                    self.rows.add(node)
        self.blocks: list[fx.Node] = []

    def outputs(self) -> list[fx.Node]:
        """Return the outputs of the model, taken out of dictionaries and tuples."""
        found: list[fx.Node] = []
        fx.node.map_arg(next(node for node in self.graph.nodes if node.op == "output").args[0], found.append)
        return found

    def follow(self, output: fx.Node) -> Head | None:
        """Return the head that ends in ``output``; None if there is none, or if it is in a module that was not opened."""
        finish = ends_in_logits(self.model, output) or []
        logits = node = cast(fx.Node, finish[0].args[0]) if finish else output
        steps: list[tuple[fx.Node, fx.Node]] = []
        while (pooling := self._pooling(node)) is None:
            before = self._source(node) if self._layer(node) is not None else self._joint(node)
            if before is None:
                self.blocks.append(node)
                return None
            steps.insert(0, (before, node))
            node = before
        features, pooling = self._whole(node.all_input_nodes[0], pooling)
        return self._head(features, pooling, steps, logits, output)

    def _joint(self, end: fx.Node) -> fx.Node | None:
        """Return the only step that a function of rows reads, which ends in ``end``; None if there is none."""
        # The last of the steps that are still to be followed is followed first: when a single one is left, all paths from
        # the features lead through it.
        waiting = {end}
        while waiting == {end} or len(waiting) > 1 or not self._are_rows(*waiting):
            node = max(waiting, key=self.places.__getitem__)
            sources = self.moving.intersection(node.all_input_nodes)
            if self._pooling(node) is not None or not sources <= self.rows or not acts_on_rows(self.model, node):
                self.blocks.append(node)
                return None
            waiting.remove(node)
            waiting |= sources
        return waiting.pop() if waiting else None

    def _are_rows(self, *nodes: fx.Node) -> bool:
        """Check whether a step gives one row of features for each input; True without steps."""
        given = (self.values.get(node) for node in nodes)
        count = next(len(self.values[node]) for node in self.graph.nodes if node in self.values)
        return all(isinstance(value, Tensor) and value.dim() and len(value) == count for value in given)

    def closed(self, *, tables: bool = False) -> str | None:
        """Return the name of a module that blocked the search and could be opened.

        Args:
            tables (bool): whether its output has to be a table (N, K). Default: False
        """
        for node in self.blocks:
            value = self.values.get(node)
            if tables and not (isinstance(value, Tensor) and value.dim() == 2):
                continue
            while _picks_an_entry(node):
                node = node.all_input_nodes[0]
            if node.op == "call_module" and not _is_leaf(self._module(node)):
                return str(node.target)
        return None

    def problem(self) -> str:
        """Explain why no head was found."""
        if not self.blocks:
            return f"{type(self.model).__name__} returns no tensor that torch.fx can see; {_ONE_OUTPUT}"
        node, hint = self.blocks[0], ""
        beside = " beside another path to the logits" if self._pooling(node) is not None else ""
        if ends_in_probabilities(self.model, node):
            hint = (
                " Leave it out of the model, or wrap the model in a torch.nn.Module that returns the logarithm of the "
                "softmax or the logit of the sigmoid."
            )
        elif self._fixed_pool(node) or not self.shapes:
            hint = " If the pooling has a fixed size, or the classifier reads a flattened map, pass an example of the input."
        return (
            f"no global average pooling was found before the classifier of {type(self.model).__name__}: going back from the "
            f"logits, {self._describe(node)}{beside} is in the way. convert_to_softcam needs: features (N, C, h, w) -> "
            f"global average pooling -> layers that read the pooled channels -> logits (N, K).{hint}"
        )

    def _head(
        self,
        features: fx.Node,
        pooling: Pooling,
        steps: list[tuple[fx.Node, fx.Node]],
        logits: fx.Node,
        output: fx.Node,
    ) -> Head | None:
        after, flat = [], not pooling.keeps_dims
        for start, end in self._merged(steps, bool(pooling.grid)):
            layer = self._layer(end) if start is self._source(end) else None
            if layer is None:
                layer = self._function(start, end)
                if layer is None:
                    return None
                after.append(Layer(", ".join(layer.called), layer, True))
                flat = True
            elif isinstance(layer, nn.Module):
                after.append(Layer(str(end.target) if end.op == "call_module" else end.name, layer, flat))
            flat = flat or self._flattens(end)
        if after and isinstance(after[-1].module, RowFunction) and after[-1].module.bent:
            self.blocks.append(logits)  # the logits have to be linear in something
            return None
        # If no layer behind the pooling has weights (SqueezeNet), the classifier is before it.
        before: list[Layer] = []
        while not any(list(layer.module.parameters()) for layer in [*before, *after]):
            layer, source = self._layer(features), self._source(features)
            if source is None or layer is None or isinstance(layer, nn.Linear):
                break
            if isinstance(layer, nn.Module):
                before.insert(0, Layer(str(features.target), layer, False))
            features = source
        returned = next(node for node in self.graph.nodes if node.op == "output").args[0]
        finish = None if output is logits else self._function(logits, output)
        return Head(self.graph, features, pooling, before, after, logits, output, _path(returned, output) or (), finish)

    def _function(self, start: fx.Node, end: fx.Node) -> RowFunction | None:
        """Return the steps from ``start`` to ``end`` as a function of rows; None if they are not one."""
        if not all(isinstance(self.values.get(node), Tensor) and self.values[node].dim() for node in (start, end)):
            self.blocks.append(end)  # without values, the number of channels is not known
            return None
        found = row_function(self.model, start, end, self.values)
        if isinstance(found, fx.Node) or found.mixes_rows():
            self.blocks.append(end)
            return None
        return found

    def _merged(self, steps: list[tuple[fx.Node, fx.Node]], tells_apart: bool) -> list[tuple[fx.Node, fx.Node]]:
        """Join the arithmetic of a head with the linear layer before it, or else with the one behind it.

        The last layer of the evidence should be that of the model: a scaled classifier is one convolution, not two.
        """
        merged: list[tuple[fx.Node, fx.Node, str]] = []
        for start, end in steps:
            kind = self._kind(start, end)
            if kind == "linear" and tells_apart:
                kind, tells_apart = "layer", False  # it reads a flattened grid
            # Steps that only reshape are passed over.
            place = next((place for place in reversed(range(len(merged))) if merged[place][2] != "shape"), 0)
            last = merged[place][2] if merged else ""
            if (kind == "arithmetic" and last in ("linear", "arithmetic", "both")) or (kind, last) == (
                "linear",
                "arithmetic",
            ):
                merged[place:] = [(merged[place][0], end, kind if kind == last else "both")]
            else:
                merged.append((start, end, kind))
        return [(start, end) for start, end, _ in merged]

    def _kind(self, start: fx.Node, end: fx.Node) -> str:
        """Return "shape", "linear", "layer", "arithmetic" for a linear function, or "bent" for any other."""
        layer = self._layer(end) if start is self._source(end) else None
        if layer is True:
            return "shape"
        if isinstance(layer, nn.Module):
            return "linear" if isinstance(layer, (nn.Linear, *CONVOLUTIONS)) else "layer"
        function = self._function(start, end)
        return "arithmetic" if function is not None and not function.bent else "bent"

    def _module(self, node: fx.Node) -> nn.Module:
        return self.model.get_submodule(str(node.target))

    def _source(self, node: fx.Node) -> fx.Node | None:
        """Return the node that this one reads first; None for the input of the model."""
        first = node.args[0] if node.args else None
        return first if isinstance(first, fx.Node) and node.op not in ("placeholder", "output") else None

    def _layer(self, node: fx.Node) -> nn.Module | bool | None:
        """Return the layer that a step of the head calls, True if it only reshapes, None if it cannot be part of a head."""
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
            return None  # this side is not pooled
        return Pooling(self._describe(node), dims, grid=() if set(sides) == {1} else cast("tuple[int, ...]", sides))

    def _fixed_pool(self, node: fx.Node) -> bool:
        return _called(node).startswith("avg_pool") or (node.op == "call_module" and isinstance(self._module(node), _FIXED))

    def _fixed_pool_of_all(self, node: fx.Node) -> Pooling | None:
        """Recognise an average pool whose window is the whole map."""
        shape = self.shapes.get(node.name)
        if shape is None or not self._fixed_pool(node) or set(shape[2:]) != {1}:
            return None
        return Pooling(self._describe(node), len(shape) - 2)

    def _mean(self, node: fx.Node) -> Pooling | None:
        """Recognise a mean over all dimensions except those of batch and channels, counted from either end."""
        source = node.all_input_nodes[0] if node.all_input_nodes else node
        rows = self.values.get(source)
        if _called(node) != "mean" or _called(source) == "stack" or (isinstance(rows, Tensor) and rows.dim() <= 2):
            return None  # it is the mean of classifiers or channels
        given = _argument(node, 1, "dim")
        dims = sorted([given] if isinstance(given, int) else given or [])
        keeps_dims = bool(_argument(node, 2, "keepdim", False))
        count = len(dims)
        if count and dims in ([*range(2, 2 + count)], [*range(-count, 0)]):
            return Pooling(self._describe(node), count, keeps_dims=keeps_dims)
        # The channels come last if the first dimension of the mean is 1, or the last one -2.
        if count and dims in ([*range(1, 1 + count)], [*range(-count - 1, -1)]):
            return Pooling(self._describe(node), count, channels_last=True, keeps_dims=keeps_dims)
        return None

    def _flattened_map(self, node: fx.Node) -> Pooling | None:
        """Recognise a map that is flattened without pooling, for layers that distinguish its positions."""
        source = self._source(node)
        if source is None or not self._flattens(node) or node.target is operator.getitem or self._adaptive_pool(source):
            return None
        shape, flat = self.shapes.get(source.name, ()), self.shapes.get(node.name)
        if len(shape) < 3 or max(shape[2:]) == 1 or flat != (shape[0], math.prod(shape[1:])):
            return None
        if spatial_dims(self.model) not in (None, len(shape) - 2):
            return None  # for example tokens, whose flattening would be taken for that of a signal
        return Pooling(self._describe(node), len(shape) - 2, grid=tuple(shape[2:]), keeps_dims=False)

    def _whole(self, features: fx.Node, pooling: Pooling) -> tuple[fx.Node, Pooling]:
        """Undo a flattening of the positions before the pooling, or join a pooling in two steps."""
        if pooling.dims != 1 or pooling.channels_last or (source := self._source(features)) is None:
            return features, pooling
        if _called(features) == "flatten" and _argument(features, 1, "start_dim", 0) == 2:
            return source, replace(pooling, dims=spatial_dims(self.model) or 1)
        first = self._mean(features)
        if (first and not first.channels_last and not first.keeps_dims) or _is_mean_of_columns(features):
            return source, replace(pooling, dims=2)
        return features, pooling

    def _describe(self, node: fx.Node) -> str:
        """Describe a step by the module that it calls, as the module prints itself, or by the function."""
        if node.op == "call_module":
            return f"'{node.target}' ({str(self._module(node)).splitlines()[0].removesuffix('(')})"
        if node.op == "placeholder":
            return f"the input '{node.target}'"
        if node.target is operator.getitem:
            return "an index that selects single positions or tokens instead of averaging them"
        return f"{getattr(node.target, '__name__', node.target)}()"


def _path(output: Any, node: fx.Node) -> tuple[Any, ...] | None:
    """Return the keys and indices that lead to a node in an output; None if it is not there."""
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
    # Compared with the functions of torch, because one of the user may be called relu, too, and compute something else.
    return name if node.op == "call_function" and node.target in (getattr(torch, name, None), getattr(F, name, None)) else ""


def _argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    return argument(node.args, node.kwargs, place, name, default)


def is_linear(module: nn.Module) -> bool:
    """Check whether a layer commutes with the pooling in eval mode."""
    # The forward of a normalisation is compared because subclasses (timm's BatchNormAct2d) may add an activation.
    norm = any(type(module).forward is kind.forward for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
    if isinstance(module, RowFunction):
        return not module.bent
    return norm or isinstance(module, (nn.Linear, *CONVOLUTIONS, *DROPOUTS.values()))


def _is_leaf(module: nn.Module) -> bool:
    """Check whether a module is a layer of torch without children, in which there is nothing to trace."""
    return type(module).__module__.startswith("torch.nn.modules.") and not list(module.children())


def _is_pointwise_convolution(module: nn.Module) -> bool:
    return isinstance(module, CONVOLUTIONS) and {*module.kernel_size, *module.stride} == {1} and not _pads(module)


def _pads(module: nn.Module) -> bool:
    padding = module.padding
    return padding not in ("same", "valid") and any(padding)  # type: ignore[arg-type]  # of a convolution


def _function_module(node: fx.Node) -> nn.Module | None:
    """Return the module of a functional activation; None if it has arguments that the module lacks."""
    # Functions that torch writes in Python name all arguments but the first when they are called on a proxy, F.leaky_relu
    # among them; built-in ones such as F.softplus do not. Their modules have the same arguments in the same order.
    settings = {name: value for name, value in node.kwargs.items() if name != "inplace"}
    try:
        return ACTIVATIONS[_called(node)](*node.args[1:], **settings)
    except TypeError:
        return None


def _is_pooled(value: Any) -> bool:
    """Check whether a value may be pooled features: (N, C) or (N, C, 1, ...), or several of them."""
    if isinstance(value, (tuple, list)):
        return all(map(_is_pooled, value))
    return isinstance(value, Tensor) and (value.dim() <= 2 or set(value.shape[2:]) == {1} or set(value.shape[1:-1]) == {1})


def _takes_only_one(node: fx.Node) -> bool:
    """Check whether an index selects the only position of pooled features, as in ``x[:, :, 0, 0]``."""
    index = node.args[1]
    if not isinstance(index, tuple) or len(index) < 2:
        return False
    kept = 1 if index[0] is Ellipsis else 2
    return all(entry in (slice(None), Ellipsis) for entry in index[:kept]) and all(entry == 0 for entry in index[kept:])


def _picks_an_entry(node: fx.Node) -> bool:
    """Check whether a node selects an entry from the output of a module, by name or number."""
    by_number = node.target is operator.getitem and isinstance(node.args[1], (int, str))
    return (by_number or node.target is getattr) and isinstance(node.args[0], fx.Node)


def _is_mean_of_columns(node: fx.Node) -> bool:
    """Check whether a node is the mean over dimension 3, the columns of (N, C, h, w)."""
    return _called(node) == "mean" and _argument(node, 1, "dim") == 3 and not _argument(node, 2, "keepdim", False)
