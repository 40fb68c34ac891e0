"""Parts of a head that are functions instead of layers: the mean of two classifiers, a scale, a square, an RMS norm.

They are read off the graph of torch.fx as functions of rows, the pooled features of one example each. A part that is linear
up to a constant becomes one 1x1 convolution; any other is applied to the features of every position.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from captum_softcam._intervention.operations import ELEMENTWISE, LINEAR, argument
from captum_softcam.softcam.model import CONVOLUTIONS

__all__ = [
    "AtEveryPosition",
    "RowFunction",
    "acts_on_rows",
    "ends_in_logits",
    "ends_in_probabilities",
    "row_function",
]

_SCALES = {"add", "sub", "subtract", "mul", "multiply", "div", "divide", "truediv", "true_divide", "neg", "negative", "rsub"}
_SAME = {"to", "type_as", "float", "double", "half", "bfloat16", "clone", "contiguous", "detach", "alias", "positive", "pos"}
_PRODUCTS = {"mul", "multiply", "linear", "matmul", "mm", "addmm", "einsum", "batch_norm"}
_SIZES = {"getattr", "size"}
_STATISTICS = {"var", "std", "norm", "vector_norm", "amax", "amin", "logsumexp", "layer_norm", "rms_norm", "group_norm"}
_LAYERS = {"activation", "batchnorm", "dropout", "flatten", "linear", "normalization"}  # modules of torch.nn.modules
_LINEAR_LAYERS = (nn.Linear, nn.Flatten, nn.Identity, nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


class RowFunction(nn.Module):
    """Function of pooled features: rows (R, C) -> (R, K), every row by itself.

    Args:
        steps (torch.fx.GraphModule): computes it from one tensor.
        shape (tuple of int): of a row as the first step reads it: (C,), or (C, 1, 1) with dimensions of 1.
        like (Tensor): with the dtype and device of the features.
        called (tuple of str): names of the functions and layers.
        bent (tuple of str): those of them that are not linear.
        scales (bool): whether each output is a scaled and shifted input.
    """

    def __init__(
        self,
        steps: fx.GraphModule,
        shape: tuple[int, ...],
        like: Tensor,
        called: tuple[str, ...],
        bent: tuple[str, ...],
        scales: bool,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.shape = shape
        self.like = like.new_empty(0)
        self.called = called
        self.bent = bent
        self.scales = scales

    def forward(self, rows: Tensor) -> Tensor:
        """Compute the function of rows (R, C)."""
        # A copy, because a step may write into its input.
        output: Tensor = self.steps(rows.reshape(-1, *self.shape).clone())
        return output.reshape(rows.shape[0], -1)

    @torch.no_grad()
    def mixes_rows(self) -> bool:
        """Check whether the output for a row depends on the other rows; False without values."""
        if self.like.is_meta:
            return False
        rows = torch.randn(3, math.prod(self.shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        exact = self._exact(rows.device)
        try:
            together, alone = exact(rows), torch.cat([exact(row[None]) for row in rows])
        except (RuntimeError, IndexError):  # a size that counts the rows of the example
            return True
        return together.shape != alone.shape or not torch.allclose(together, alone, rtol=1e-6, atol=1e-9, equal_nan=True)

    @torch.no_grad()
    def folded(self, dims: int) -> nn.Module:
        """Return the 1x1 convolution that computes the same, if the function is linear.

        Args:
            dims (int): number of spatial dimensions, 1 to 3.
        """
        width = math.prod(self.shape)
        # In float64, because a weight is the difference of two outputs and the constant may be far larger.
        exact = self._exact(self.like.device)
        zeros = torch.zeros(1, width, dtype=torch.float64, device=self.like.device)
        constant = exact(zeros)
        if self.scales:
            weight = (exact(zeros + 1) - constant).view(width, 1)
        else:
            weight = (exact(torch.eye(width, dtype=torch.float64, device=self.like.device)) - constant).T
        conv = CONVOLUTIONS[dims - 1](width, len(weight), 1, groups=width if self.scales else 1).to(self.like)
        conv.weight.copy_(weight.view_as(conv.weight))
        assert conv.bias is not None
        conv.bias.copy_(constant[0])
        own = list(self.steps.parameters())
        return conv.requires_grad_(not own or any(parameter.requires_grad for parameter in own)).train(self.training)

    def _exact(self, device: torch.device) -> nn.Module:
        return copy.deepcopy(self).double().to(device).eval()


class AtEveryPosition(nn.Module):
    """A function of rows, applied to the features of every position: (N, C, ...) -> (N, K, ...).

    Args:
        rows (RowFunction): the function.
    """

    def __init__(self, rows: RowFunction) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the function at every position of maps (N, C, ...)."""
        last = maps.movedim(1, -1)
        output: Tensor = self.rows(last.flatten(0, -2))
        return output.reshape(*last.shape[:-1], -1).movedim(-1, 1)


def _function(node: fx.Node) -> str:
    """Return the name of the function of torch, of the operator, or of the method that a node calls; "" for any other."""
    if node.op == "call_method":
        return str(node.target)
    name = getattr(node.target, "__name__", "")
    # Compared with the functions themselves, because one of the user may be called relu, too, and compute something else.
    known = (getattr(source, name, None) for source in (torch, F, operator, torch.linalg)) if name else ()
    is_known = node.target is getattr or any(node.target is each for each in known)
    return name if node.op == "call_function" and is_known else ""


def acts_on_rows(model: nn.Module, node: fx.Node) -> bool:
    """Check whether a step may be part of a function of rows; :meth:`RowFunction.mixes_rows` tries it."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        *package, file = type(module).__module__.split(".")
        return package == ["torch", "nn", "modules"] and file in _LAYERS and not list(module.children())
    name = _bare(_function(node))
    return _is_known_as_linear(name) or name in _STATISTICS or name in ELEMENTWISE


def ends_in_logits(model: nn.Module, node: fx.Node) -> list[fx.Node] | None:
    """Return the steps that turn logits into their log-softmax, or back from probabilities; None if there are none.

    These are log_softmax, the logarithm of a softmax and the logit of a sigmoid, with values clamped in between.

    Args:
        model (torch.nn.Module): the root of the graph.
        node (torch.fx.Node): an output of the model.
    """
    steps: list[fx.Node] = []
    names: list[str] = []
    while name := _squashing(model, node):
        steps.insert(0, node)
        names.insert(0, name)
        if name in ("softmax", "log_softmax", "sigmoid"):
            break
        if not isinstance(node.args[0], fx.Node):
            break
        node = node.args[0]
    first, others = (names[0], names[1:]) if names else ("", [])
    back = {"softmax": "log", "sigmoid": "logit"}.get(first)
    found = (first == "log_softmax" and not others) or (back and others.count(back) == 1 and {*others} <= {back, "clamp"})
    return steps if found else None


def ends_in_probabilities(model: nn.Module, node: fx.Node) -> bool:
    """Check whether a step is a softmax or sigmoid of classes."""
    return _squashing(model, node) in ("softmax", "sigmoid")


def _squashing(model: nn.Module, node: fx.Node) -> str:
    """Return softmax, log_softmax, sigmoid, log, logit or clamp if a step computes it of classes, else ""."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        kinds = {nn.Softmax: "softmax", nn.LogSoftmax: "log_softmax", nn.Sigmoid: "sigmoid"}
        name = kinds.get(type(module), "")
        return name if getattr(module, "dim", 1) in (1, -1, None) else ""
    name = _function(node)
    if name in ("softmax", "log_softmax"):
        return name if argument(node.args, node.kwargs, 1, "dim") in (1, -1) else ""
    if name in ("clamp", "clip", "clamp_min"):
        return "clamp"
    is_shift = name == "add" and len(node.args) == 2 and isinstance(node.args[1], float)
    return "clamp" if is_shift else name if name in ("sigmoid", "log", "logit") else ""


def row_function(model: nn.Module, start: fx.Node, end: fx.Node, values: dict[fx.Node, Any]) -> RowFunction | fx.Node:
    """Return the steps from ``start`` to ``end`` as a function of rows, or the step that reads something else.

    Args:
        model (torch.nn.Module): the root of the graph.
        start (torch.fx.Node): pooled features.
        end (torch.fx.Node): the output.
        values (dict): the results of the steps on an example, whose first dimension counts the rows.
    """
    nodes = _between(start, end)
    graph = fx.Graph()
    copies: dict[fx.Node, Any] = {start: graph.placeholder("rows")}
    moving = {start}
    called: list[str] = []
    bent: list[str] = []
    for node in (each for each in start.graph.nodes if each in nodes):
        if node.op == "placeholder":
            return cast(fx.Node, node)
        copies[node] = _copied(graph, node, copies, copies[start], values)
        if not moving.isdisjoint(node.all_input_nodes):
            moving.add(node)
            called.append(_shown(node))
            if not _is_linear(model, node, moving, values):
                bent.append(_shown(node))
    graph.output(copies[end])
    value, result = values[start], values[end]
    scales = {_bare(_function(node)) for node in moving - {start}} <= _SCALES | _SAME and result.shape == value.shape
    function = fx.GraphModule(model, graph)
    return RowFunction(function, tuple(value.shape[1:]), value, _once(called), _once(bent), scales)


def _between(start: fx.Node, end: fx.Node) -> set[fx.Node]:
    """Return the steps that ``end`` is computed from, back to ``start`` and without it."""
    found: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node is not start and node not in found:
            found.add(node)
            waiting += [] if _of_any_rows(node) else node.all_input_nodes
    return found


def _copied(
    graph: fx.Graph, node: fx.Node, copies: dict[fx.Node, Any], rows: fx.Node, values: dict[fx.Node, Any]
) -> fx.Node:
    """Copy a step to a graph of rows, whose number differs from that of the example."""
    if kind := _of_any_rows(node):
        return graph.call_method("size", (rows, 0)) if kind == "count" else graph.call_function(getattr, (rows, kind))
    value = values.get(node)
    if node.op == "call_method" and node.target in ("view", "reshape") and isinstance(value, Tensor) and value.dim():
        return graph.call_method("reshape", (copies[node.args[0]], -1, *value.shape[1:]))  # type: ignore[index]
    return graph.node_copy(node, copies.__getitem__)


def _of_any_rows(node: fx.Node) -> str:
    """Return "count" for the number of examples, dtype or device for those of a tensor, "" for any other step."""
    if node.target is getattr and node.args[1] in ("dtype", "device"):
        return str(node.args[1])
    source = node.args[0] if node.args else None
    by_shape = node.target is operator.getitem and isinstance(source, fx.Node) and source.args[1:] == ("shape",)
    by_size = node.op == "call_method" and node.target == "size"
    return "count" if (by_shape or by_size) and node.args[1:] == (0,) else ""


def _is_linear(model: nn.Module, node: fx.Node, moving: set[fx.Node], values: dict[fx.Node, Any]) -> bool:
    """Check whether a step is linear in the tensors that depend on the features, up to a constant."""
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), (*_LINEAR_LAYERS, *CONVOLUTIONS))
    name = _bare(_function(node))
    if name in _PRODUCTS:
        factors: list[fx.Node] = []  # with repetitions, as in x * x
        fx.node.map_arg((node.args, node.kwargs), factors.append)
        return sum(factor in moving and isinstance(values.get(factor), Tensor) for factor in factors) == 1
    if name in ("div", "divide", "truediv", "true_divide"):
        return node.args[1] not in moving
    return _is_known_as_linear(name)


def _is_known_as_linear(name: str) -> bool:
    return name in LINEAR or f"__{name}__" in LINEAR or name in _SCALES | _SAME | _SIZES


def _bare(name: str) -> str:
    """Return the name of an operation without the marks of its spelling in place."""
    bare = name.strip("_")
    return bare[1:] if bare[1:] in _SCALES else bare


def _shown(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else _function(node)


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
