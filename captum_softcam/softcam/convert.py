"""Turn a pooled classifier into a SoftCAM model by moving the pooling behind the classifier.

The model is traced with :mod:`torch.fx`; pooling and classifier are found by what they compute, never by name. Only the
modules that hold a part of the head are opened: everything before the pooling stays the module it was, with its name, so
that ``backbone.layer4`` of a converted ResNet can be hooked like ``layer4`` of the original.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from captum_softcam.softcam.model import EvidenceHead, SoftCamModel

__all__ = ["convert_to_softcam"]

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.GELU, nn.LeakyReLU, nn.ELU, nn.Tanh)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_POOL_FUNCTIONS = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
_RESHAPES = (torch.flatten, torch.squeeze, "flatten", "squeeze")
_MEANS = (torch.mean, "mean")
_CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def convert_to_softcam(model: nn.Module) -> SoftCamModel:
    r"""Give a pooled CNN classifier its evidence maps; needs no training :cite:p:`djoumessi2026softcam,djoumessi2026ttecam`.

    .. math:: W\,\Big(\frac{1}{hw} \sum_p f(p)\Big) + b = \frac{1}{hw} \sum_p \big(W f(p) + b\big)

    with features :math:`f` (C, h, w) and the classifier :math:`W` (K, C), :math:`b` (K,): what stands between the global
    average pooling and the logits is applied at every position, and the pooling comes last.

    A linear head (dropout allowed) is converted exactly: the logits stay what they were, up to rounding (1e-5). A head
    with an activation between pooling and logits (MobileNetV3) becomes the per-location head of the paper; its logits do
    change, and ``SoftCamModel.exact`` is False.

    The original is left untouched; weights are copied, and mode, dtype and device are kept.

    Args:
        model (torch.nn.Module): classifier with global average pooling that torch.fx can trace to its logits (N, K).

    Returns:
        SoftCamModel: ``backbone`` up to the pooling, ``evidence`` the head.

    Raises:
        TypeError: if ``model`` is not a module, or is a SoftCAM model already.
        ValueError: if no global average pooling followed by a linear head is found; the message says what stands there.

    Example::

        >>> model = torchvision.models.resnet18().eval()
        >>> softcam = convert_to_softcam(model)
        >>> torch.allclose(softcam(images), model(images), atol=1e-5)
        True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert_to_softcam needs a torch.nn.Module; got {type(model).__name__}.")
    if isinstance(model, SoftCamModel):
        raise TypeError("the model is a SoftCamModel already; use it as it is.")
    original = copy.deepcopy(model)
    graph, head = _trace_head(original)
    layers = [original.get_submodule(str(node.target)) for node in head if node.op == "call_module"]
    pool = head[0]
    evidence = EvidenceHead(*_per_location(layers, _spatial_dims(pool, original)))
    _cut_before(graph, head)
    backbone = fx.GraphModule(original, graph, f"{type(model).__name__}Backbone")
    exact = not any(isinstance(layer, _ACTIVATIONS) for layer in layers)
    return SoftCamModel(backbone, evidence, exact).train(model.training)


class _HeadTracer(fx.Tracer):
    """Trace a model with all of its children closed but those named in ``opened``."""

    def __init__(self, opened: set[str]) -> None:
        super().__init__()
        self.opened = opened

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 (torch.fx's signature)
        return module_qualified_name not in self.opened


def _trace_head(model: nn.Module) -> tuple[fx.Graph, list[fx.Node]]:
    """Graph of ``model`` and its nodes from the pooling to the logits, opening only modules that the head reaches into."""
    opened: set[str] = set()
    while True:
        graph = _trace(model, opened)
        head: list[fx.Node] = []
        for node in _back_from_output(graph):
            head.insert(0, node)
            if _is_global_pool(node, model):
                return graph, head
            if not _is_pointwise(node, model):
                break
        closed = head[0]
        if closed.op != "call_module" or not list(model.get_submodule(str(closed.target)).children()):
            raise ValueError(_no_head(closed, model))
        opened.add(str(closed.target))


def _trace(model: nn.Module, opened: set[str]) -> fx.Graph:
    try:
        return _HeadTracer(opened).trace(model)
    except Exception as error:  # torch.fx raises whatever the traced code raises on a proxy
        raise ValueError(
            f"{type(model).__name__} cannot be traced by torch.fx ({error}); convert_to_softcam needs a model without "
            "control flow that depends on the input. Build a SoftCamModel from its backbone and an EvidenceHead instead."
        ) from error


def _back_from_output(graph: fx.Graph) -> Iterator[fx.Node]:
    """Nodes from the output backwards, along first arguments, as long as the value has no other reader."""
    node: Any = next(node for node in graph.nodes if node.op == "output").args[0]
    while isinstance(node, fx.Node) and len(node.users) == 1:
        yield node
        node = node.args[0] if node.args else None
    if isinstance(node, fx.Node):
        yield node


def _is_global_pool(node: fx.Node, model: nn.Module) -> bool:
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        return isinstance(module, _POOLS) and _is_one(module.output_size)
    if node.target in _POOL_FUNCTIONS:
        return _is_one(_argument(node, "output_size"))
    return node.target in _MEANS and len(_mean_dims(node)) > 0


def _is_one(size: object) -> bool:
    return all(s == 1 for s in size) if isinstance(size, (tuple, list)) else size == 1


def _argument(node: fx.Node, name: str) -> Any:
    """The second argument of a call, given by place or by name."""
    return node.args[1] if len(node.args) > 1 else node.kwargs.get(name)


def _mean_dims(node: fx.Node) -> list[int]:
    """Spatial dimensions that ``mean`` runs over: all behind the channels, counted from either end; else none."""
    dims = _argument(node, "dim")
    dims = [dims] if isinstance(dims, int) else list(dims or [])
    count = len(dims)
    spatial = [*range(2, 2 + count)], [*range(-count, 0)]
    return dims if sorted(dims) in spatial else []


def _is_pointwise(node: fx.Node, model: nn.Module) -> bool:
    """Whether the node keeps positions apart, so that it can stand before the pooling."""
    if node.op == "call_module":
        return isinstance(
            model.get_submodule(str(node.target)), (nn.Linear, nn.Flatten, nn.Identity, *_DROPOUTS, *_ACTIVATIONS)
        )
    return node.target in _RESHAPES


def _no_head(node: fx.Node, model: nn.Module) -> str:
    what = str(node.target)
    if node.op == "call_module":
        what = f"'{node.target}' ({str(model.get_submodule(str(node.target))).splitlines()[0]})"
    return (
        f"no global average pooling was found before the classifier of {type(model).__name__}: going back from the logits, "
        f"{what} stands in the way. convert_to_softcam needs: features (N, C, h, w) -> global average pooling -> "
        "linear layers -> logits (N, K)."
    )


def _spatial_dims(pool: fx.Node, model: nn.Module) -> int:
    """Number of spatial dimensions, read off the pooling."""
    if pool.op == "call_module":
        return 1 + next(i for i, kind in enumerate(_POOLS) if isinstance(model.get_submodule(str(pool.target)), kind))
    if pool.target in _POOL_FUNCTIONS:
        return 1 + _POOL_FUNCTIONS.index(pool.target)
    return len(_mean_dims(pool))


def _per_location(layers: list[nn.Module], dims: int) -> Iterator[nn.Module]:
    """The layers of the head as layers that act at every position."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            yield _convolution(layer, dims)
        elif not isinstance(layer, (*_POOLS, nn.Flatten, nn.Identity)):
            yield layer


def _convolution(linear: nn.Linear, dims: int) -> nn.Module:
    """The 1x1 convolution with the weights of ``linear``."""
    weight: Tensor = linear.weight
    bias: Tensor | None = linear.bias
    kind = _CONVOLUTIONS[dims]
    outputs, inputs = weight.shape
    conv = kind(inputs, outputs, 1, bias=bias is not None, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        conv.weight.copy_(weight.reshape(conv.weight.shape))
        if bias is not None and conv.bias is not None:
            conv.bias.copy_(bias)
    conv.requires_grad_(weight.requires_grad)
    return conv


def _cut_before(graph: fx.Graph, head: list[fx.Node]) -> None:
    """Take ``head`` out of ``graph``, which then returns what the pooling would have read."""
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = (head[0].args[0],)
    for node in reversed(head):
        graph.erase_node(node)
