"""Turn a pooled classifier into a SoftCAM model by moving the pooling behind the classifier.

The model is traced with :mod:`torch.fx`; pooling and classifier are found by what they compute, never by name. Everything
before them stays what it was, with its name, so that ``backbone.layer4`` of a converted ResNet can be hooked like
``layer4`` of the original.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from captum_softcam._intervention.view import unwrap
from captum_softcam.softcam.checks import (
    Answers,
    Comparison,
    ask,
    compare,
    compare_with_source,
    refuse_other_evidence,
    refuse_other_positions,
    refuse_unfaithful,
    why_moved,
)
from captum_softcam.softcam.dilation import set_output_stride
from captum_softcam.softcam.head import Head, Layer, find_head, is_linear
from captum_softcam.softcam.model import (
    CONVOLUTIONS,
    Conversion,
    EvidenceHead,
    SoftCamModel,
    input_channels,
    run_on_meta,
    spatial_dims,
)
from captum_softcam.softcam.tracing import acts_in_place, rows_to_grid, same_branch

__all__ = ["ChannelNorm", "convert_to_softcam", "new_last_layer", "rebuild"]

_BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def convert_to_softcam(
    model: nn.Module,
    example: Tensor | None = None,
    *,
    num_classes: int | None = None,
    output_stride: int | None = None,
    allow_inexact: bool = False,
) -> SoftCamModel:
    r"""Give a pooled CNN classifier its evidence maps; needs no training :cite:p:`djoumessi2026softcam,djoumessi2026ttecam`.

    .. math:: W\,\Big(\frac{1}{hw} \sum_p f(p)\Big) + b = \frac{1}{hw} \sum_p \big(W f(p) + b\big)

    with features :math:`f` (C, h, w) and the classifier :math:`W` (K, C), :math:`b` (K,): what stands between the global
    average pooling and the logits is applied at every position, and the pooling comes last.

    Linear layers, batch normalisation and dropout are converted exactly: in eval mode the logits stay what they were, up to
    rounding. Activations and layer normalisation behind the pooling (MobileNetV3, ConvNeXt) act at every position instead,
    and fully connected layers that read a whole grid (AlexNet, VGG) become 1x1 convolutions with their weights summed over
    the grid; such logits change, as they do with ``num_classes`` and ``output_stride``: ``SoftCamModel.conversion`` says so,
    and by how much.

    Every conversion is compared with ``model(example)`` itself, and with the model's answer to other values and another
    number of rows; without an example, on inputs that are made up where a first convolution tells their channels.
    ``conversion.checked`` says which those were, or why there were none. Where the head is linear, the logits must be the
    same up to rounding (see :class:`Conversion`). Where it is not, what torch.fx has recorded must give the logits of the
    model, and the evidence must be what its head says of the features of one position. The map must lie on the input: grow
    with it, or, in networks of one size, answer to the corner of the input that changes.

    The original is left untouched; weights are copied, and mode, dtype and device are kept. Optional arguments keep their
    defaults, and a decision that depends on the shape of the input is kept as the example takes it, and other inputs are
    refused.
    Auxiliary heads, which serve training only, are left out. Of a model that returns a dictionary, tuple or object, the one
    entry with a pooled head is taken.

    Cost: about ten forward passes of the example.

    Departures from the paper: the head of VGG starts from the weights of the fully connected layers, not at random.

    Args:
        model (torch.nn.Module): classifier that torch.fx can trace to its logits (N, K).
        example (Tensor): an input (N, C, ...), at least one. With it the change of the logits is measured where it matters,
            and poolings of a fixed size and flattened maps can be converted. Default: None, for inputs that are made up
        num_classes (int): for a new, untrained last layer. Default: that of the model
        output_stride (int): input pixels per position of the evidence, at most; 16 or 8 where most CNNs have 32. The last
            stages give up their stride and are dilated instead, with the same weights: at the positions that were there
            before, the evidence stays what it was (but for squeeze-and-excitation, which sees other means), at four times
            the cost of those stages per halving. Default: that of the model
        allow_inexact (bool): whether to convert a head of linear layers although its logits move by more than rounding, as
            they do where a layer is a subclass that does more; ``conversion`` then says so. Other networks than the model,
            and maps that do not lie on the input, are refused all the same. Default: False

    Returns:
        SoftCamModel: ``backbone`` up to the pooling, ``evidence`` the head, ``conversion`` what was done.

    Raises:
        TypeError: if ``model`` is not a module, or is a SoftCAM model already.
        ValueError: if no global average pooling followed by such a head is found (the message says what stands there), if
            the conversion gives other logits than the model or a map that does not lie on the input, if the model does not
            run on the example, if ``num_classes`` is not a positive number, or if ``output_stride`` cannot be reached.

    Example::

        >>> model = torchvision.models.resnet18().eval()
        >>> softcam = convert_to_softcam(model)
        >>> torch.allclose(softcam(images), model(images), atol=1e-5)
        True
    """
    model = unwrap(model)
    _check(model, num_classes)
    original = copy.deepcopy(model).eval()
    answers = ask(original, example)
    head = find_head(original, answers.example, sized=example is not None)
    inexact = _inexact(head)
    refuse_unfaithful(original, head, answers, linear=not inexact)
    evidence, replaced = _layers(original, head)
    if inexact:
        refuse_other_evidence(original, head, evidence, _map_dims(original, head), answers)
    softcam = SoftCamModel(_backbone(type(model).__name__, original, head), evidence).eval()
    found = compare_with_source(model, softcam, head, answers)
    if answers.example is not None:
        shape = found[0].features if len(found) == len(answers.batches) else None
        refuse_other_positions(softcam.backbone, answers.example, shape, type(model).__name__)
    if not inexact and not all(each.same for each in found):
        inexact = why_moved(model, head, answers, found, allow_inexact)
    dilated = _adapt(softcam, num_classes, output_stride)
    reasons = [*inexact, *(["the evidence is finer"] if dilated else [])]
    reasons += [] if num_classes is None else ["the last layer is new"]
    conversion = Conversion(
        source=f"{type(model).__module__}.{type(model).__qualname__}",
        pooling=head.pooling.name,
        replaced=tuple(replaced),
        exact=not reasons,
        reason="; ".join(reasons),
        dilated=tuple(dilated),
        left_out=_left_out(original, softcam.backbone, head),
        num_classes=num_classes,
        output_stride=output_stride,
    )
    softcam.conversion = _measured(conversion, softcam, answers, head.path, found)
    _restore_modes(softcam, model, [layer.name for layer in (*head.before, *head.after)])
    return softcam


def rebuild(model: nn.Module, record: Conversion | None) -> SoftCamModel:
    """Convert a network again in the way of a record, with or without values; its logits are not compared.

    Raises:
        ValueError: if it cannot be converted in this way.
    """
    original = copy.deepcopy(unwrap(model)).eval()
    channels = input_channels(original)
    if record is None or record.input_size is None or channels is None:
        head = find_head(original, ask(original, None).example)
    else:
        head = find_head(original, next(original.parameters()).new_zeros(2, channels, *record.input_size), sized=True)
    evidence, _ = _layers(original, head)
    softcam = SoftCamModel(_backbone(type(model).__name__, original, head), evidence)
    if record is not None:
        _adapt(softcam, record.num_classes, record.output_stride)
    return softcam.eval()


def _check(model: nn.Module, num_classes: int | None) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert_to_softcam needs a torch.nn.Module; got {type(model).__name__}.")
    if isinstance(model, SoftCamModel):
        raise TypeError("the model is a SoftCamModel already; use it as it is.")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes {num_classes!r} is no positive number of classes.")


def _backbone(name: str, original: nn.Module, head: Head) -> fx.GraphModule:
    """The model up to its pooling, as one module with the names of the original."""
    _return_features(head, _map_dims(original, head))
    _drop_unused(original, head)
    backbone = fx.GraphModule(original, head.graph, f"{name}Backbone")
    backbone.delete_all_unused_submodules()
    return backbone


def _layers(model: nn.Module, head: Head) -> tuple[EvidenceHead, list[str]]:
    """The layers of the head for every position, and what became of each."""
    dims, grid = _map_dims(model, head), head.pooling.grid
    layers: list[nn.Module] = [layer.module for layer in head.before]
    changes = []
    for layer in head.after:
        layers.append(_twin(layer, dims, grid if isinstance(layer.module, nn.Linear) else ()))
        grid = () if isinstance(layer.module, nn.Linear) else grid
        if layers[-1] is not layer.module:
            changes.append(f"{layer.name}: {_short(layer.module)} -> {_short(layers[-1])}")
    return EvidenceHead(*layers), changes


def _drop_unused(model: nn.Module, head: Head) -> None:
    """Take out of the graph what the features do not need; what changes them in place, or guards a branch, is needed."""
    nodes = list(head.graph.nodes)
    after = set(nodes[nodes.index(head.features) + 1 :])
    answered = _depending_on_the_head(head)
    for node in reversed(nodes):
        guards = node.target is same_branch and node not in answered
        writes = acts_in_place(model, node) and (node not in after or node.args[0] is head.features)
        if not (node.users or node.op in ("placeholder", "output") or guards or writes):
            head.graph.erase_node(node)


def _depending_on_the_head(head: Head) -> set[fx.Node]:
    """The steps from the pooling to the logits, and all that reads one of them."""
    found: set[fx.Node] = set()
    node: Any = head.logits
    while isinstance(node, fx.Node) and node is not head.features:
        found.add(node)
        node = node.args[0] if node.args else None
    for each in head.graph.nodes:
        if each.op != "output" and any(source in found for source in each.all_input_nodes):
            found.add(each)
    return found


def _adapt(softcam: SoftCamModel, num_classes: int | None, output_stride: int | None) -> list[str]:
    """Give a model a finer grid and a new last layer where asked for; return the layers that are dilated."""
    dilated = [] if output_stride is None else set_output_stride(softcam.backbone, output_stride)
    if num_classes is not None:
        _renew(softcam.evidence, num_classes)
    return dilated


def _map_dims(model: nn.Module, head: Head) -> int:
    """Dimensions of the evidence: those of the features, but of images where their positions are a row of tokens."""
    return 2 if head.pooling.dims == 1 and spatial_dims(model) == 2 else head.pooling.dims


def _return_features(head: Head, dims: int) -> None:
    """Let the graph return the features, channels first and on their grid."""
    graph, features = head.graph, head.features
    output = next(node for node in graph.nodes if node.op == "output")
    with graph.inserting_before(output):
        if head.pooling.channels_last:
            features = graph.call_function(torch.movedim, (features, -1, 1))
        if dims != head.pooling.dims:
            image = next(node for node in graph.nodes if node.op == "placeholder")
            features = graph.call_function(rows_to_grid, (features, image))
    output.args = (features,)


def _short(module: nn.Module) -> str:
    """A layer in a few words: its kind and its sizes."""
    if isinstance(module, nn.Linear):
        return f"Linear({module.in_features}, {module.out_features})"
    if isinstance(module, CONVOLUTIONS):
        return f"{type(module).__name__}({module.in_channels}, {module.out_channels}, 1)"
    return type(module).__name__


def _renew(evidence: EvidenceHead, num_classes: int) -> None:
    """Replace the last convolution by a fresh one."""
    places = [i for i, layer in enumerate(evidence) if isinstance(layer, CONVOLUTIONS)]
    if not places:
        raise ValueError("num_classes cannot be changed: the head has no linear layer.")
    evidence[places[-1]] = new_last_layer(evidence[places[-1]], num_classes)


def _inexact(head: Head) -> list[str]:
    """Why the logits cannot be those of the source: what its head does is not linear, or tells positions apart."""
    reasons = []
    if head.pooling.grid:
        reasons.append(f"its classifier tells {' x '.join(map(str, head.pooling.grid))} positions apart")
    bent = sorted({type(layer.module).__name__ for layer in head.after if not is_linear(layer.module)})
    if bent:
        reasons.append(f"{' and '.join(bent)} {'acts' if len(bent) == 1 else 'act'} at every position")
    return reasons


def _left_out(model: nn.Module, backbone: nn.Module, head: Head) -> tuple[str, ...]:
    """Children of the model with parameters of which nothing is left."""
    kept = {name.partition(".")[0] for name, _ in backbone.named_parameters()}
    kept |= {layer.name.partition(".")[0] for layer in (*head.before, *head.after)}
    return tuple(name for name, child in model.named_children() if name not in kept and list(child.parameters()))


@torch.no_grad()
def _measured(
    conversion: Conversion, softcam: SoftCamModel, answers: Answers, path: tuple[Any, ...], found: list[Comparison]
) -> Conversion:
    """The record with what the first inputs show, and the size of the example."""
    has_values = answers.example is not None and not answers.example.is_meta
    words = "not at all: the logits are not finite" if has_values and not found else answers.words
    conversion = replace(conversion, checked=words)
    if found and conversion.dilated:  # the model has another grid by now, and other logits
        found = compare(softcam, replace(answers, batches=answers.batches[:1]), path)
    if found and conversion.num_classes is None:
        conversion = replace(conversion, difference=found[0].moved, largest=found[0].largest)
    if answers.given and answers.example is not None:
        size = tuple(answers.example.shape)
        grid = found[0].features if found else tuple(run_on_meta(softcam.backbone, size, answers.example.dtype).shape)
        conversion = replace(conversion, input_size=size[2:], grid=grid[2:])
    return conversion


def _restore_modes(softcam: SoftCamModel, model: nn.Module, names: list[str]) -> None:
    """Give every part the mode of its source; what has none, that of the model."""
    modes = {name: module.training for name, module in model.named_modules()}
    softcam.train(model.training)
    for name, module in softcam.backbone.named_modules():
        module.training = modes.get(name, model.training)
    for name, module in zip(names, softcam.evidence, strict=True):
        module.training = modes.get(name, model.training)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a map, at every position: (N, C, ...) -> (N, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise what stands in dimension 1."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def _twin(layer: Layer, dims: int, grid: Sequence[int] = ()) -> nn.Module:
    """A layer behind the pooling, to stand before it: on maps (N, C, ...) with ``dims`` dimensions of positions.

    Args:
        layer (Layer): one that acts on the pooled channels.
        dims (int): 1, 2 or 3.
        grid (sequence of int): positions that a linear layer tells apart; its weights are summed over them. Default: none
    """
    module = layer.module
    if isinstance(module, nn.Linear):
        return _convolution(module, dims, grid)
    if isinstance(module, nn.BatchNorm1d) and dims > 1:
        settings = module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        return _like(_BATCH_NORMS[dims](*settings), module)
    if isinstance(module, nn.LayerNorm) and layer.flat:
        shape = list(module.normalized_shape)
        return _like(ChannelNorm(shape, module.eps, module.elementwise_affine, bias=module.bias is not None), module)
    return module


def _convolution(linear: nn.Linear, dims: int, grid: Sequence[int] = ()) -> nn.Module:
    """The 1x1 convolution with the weights of ``linear``.

    For a layer that reads a flattened ``grid`` the weights are summed over its positions: a position answers as the layer
    would if the same features stood everywhere.
    """
    outputs, inputs = linear.out_features, linear.in_features // math.prod(grid)
    weight = linear.weight.view(outputs, inputs, -1).sum(2)
    conv = CONVOLUTIONS[dims - 1](inputs, outputs, 1, bias=linear.bias is not None).to(weight)
    with torch.no_grad():
        conv.weight.copy_(weight.view_as(conv.weight))
        if conv.bias is not None:
            conv.bias.copy_(linear.bias)
    for name, parameter in conv.named_parameters():
        parameter.requires_grad_(getattr(linear, name).requires_grad)
    return conv.train(linear.training)


def new_last_layer(last: nn.Module, num_classes: int) -> nn.Module:
    """A fresh last layer, linear or a convolution, for other classes, with torch's own initial weights."""
    bias = last.bias is not None
    if isinstance(last, nn.Linear):
        fresh: nn.Module = nn.Linear(last.in_features, num_classes, bias)
    else:
        kind: Any = type(last)
        fresh = kind(last.in_channels, num_classes, last.kernel_size, last.stride, last.padding, bias=bias)
    return fresh.to(next(last.parameters())).train(last.training)


def _like(fresh: nn.Module, module: nn.Module) -> nn.Module:
    """``fresh`` with the parameters, buffers, dtype, device and mode of ``module``."""
    state = module.state_dict()
    fresh = fresh.to(next((value for value in state.values() if value.is_floating_point()), torch.zeros(())))
    fresh.load_state_dict(state)
    for name, parameter in fresh.named_parameters():
        parameter.requires_grad_(getattr(module, name).requires_grad)
    return fresh.train(module.training)
