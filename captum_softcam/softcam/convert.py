"""Turn a pooled classifier into a SoftCAM model by moving the pooling behind the classifier.

The model is traced with :mod:`torch.fx`; pooling and classifier are found by what they compute, never by name. Everything
before them stays what it was, with its name, so that ``backbone.layer4`` of a converted ResNet can be hooked like
``layer4`` of the original.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from captum_softcam._intervention.view import duplicate, unwrap
from captum_softcam.softcam.arithmetic import AtEveryPosition, RowFunction
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
from captum_softcam.softcam.function import as_module
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
    model: Callable[..., Any],
    example: Tensor | None = None,
    *,
    num_classes: int | None = None,
    output_stride: int | None = None,
    allow_inexact: bool = False,
) -> SoftCamModel:
    r"""Convert a pooled CNN classifier to a SoftCAM model :cite:p:`djoumessi2026softcam,djoumessi2026ttecam`; no training.

    .. math:: W\,\Big(\frac{1}{hw} \sum_p f(p)\Big) + b = \frac{1}{hw} \sum_p \big(W f(p) + b\big)

    with features :math:`f` (C, h, w) and the classifier :math:`W` (K, C), :math:`b` (K,). The layers between the global
    average pooling and the logits are applied at every position, and the pooling comes last.

    Linear layers, batch normalisation and dropout are converted exactly: in eval mode the logits are unchanged up to
    rounding. So are other functions that are linear up to a constant, such as the mean of two classifiers (RepViT,
    EfficientFormer), a scale and a shift; each becomes one convolution with the linear layer beside it. Activations, layer
    normalisation and other functions behind the pooling (MobileNetV3, ConvNeXt, MetaFormer) are applied at every position
    instead. Fully connected layers that read a whole grid (AlexNet, VGG) become 1x1 convolutions with their weights summed
    over the grid. In these cases the logits change, as they do with ``num_classes`` and ``output_stride``;
    ``SoftCamModel.conversion`` records it, and by how much.

    A log-softmax, the logarithm of a softmax, and the logit of a sigmoid at the end are left out: the converted model
    returns logits, with the same probabilities. ``conversion.left_out`` names them.

    Every conversion is checked on ``example`` and on a second input with other values and another number of rows. Without an
    example, inputs are made up if a first convolution shows the number of channels. ``conversion.checked`` names the inputs,
    or the reason why there were none. If the head is linear, the logits must be the same up to rounding (see
    :class:`Conversion`). Otherwise the graph of torch.fx must compute the logits of the model, and the evidence at a
    position must be the output of the head for the features of that position. The map must also follow the positions of the
    input: its sides grow with those of the input or, in networks of one size, its values change in the corner of the input
    that changes.

    The original is left untouched. Weights are copied; mode, dtype and device are kept. Optional arguments of the model keep
    their defaults. A branch that depends on the shape of the input is fixed to the one that the example takes, and inputs
    that would take another one are refused. Auxiliary heads, which are only used in training, are left out. If the model
    returns a dictionary, tuple or object, the only entry with a pooled head is used.

    Cost: five to nine forward passes of the example.

    Departures from the paper: the head of VGG starts from the weights of the fully connected layers, not at random.

    Args:
        model (torch.nn.Module or callable): classifier that torch.fx can trace to its logits (N, K), or a function around
            one, such as ``lambda x: model(x)["logits"]``.
        example (Tensor): at least one input (N, C, ...). It is needed for poolings of a fixed size and for flattened maps,
            and the change of the logits is measured on it. Default: None, for inputs that are made up
        num_classes (int): number of outputs of a new, untrained last layer. Default: that of the model
        output_stride (int): largest number of input pixels per position of the evidence, typically 16 or 8; most CNNs have
            32. The strides of the last stages are replaced by dilation, with the same weights. The evidence is unchanged at
            the positions that existed before (except with squeeze-and-excitation, whose means change). Each halving
            multiplies the cost of these stages by four. Default: that of the model
        allow_inexact (bool): whether to convert a head of linear layers even if its logits change by more than rounding,
            for example because a layer is a subclass that computes more; ``conversion`` then records it. A graph that is
            not the model's and a map that does not follow the input are refused in any case. Default: False

    Returns:
        SoftCamModel: ``backbone`` up to the pooling, ``evidence`` the head, ``conversion`` the record.

    Raises:
        TypeError: if ``model`` is no module and no function around one, or is a SoftCAM model already.
        ValueError: if no global average pooling followed by such a head is found (the message names the obstacle), if the
            converted model computes other logits or a map that does not follow the input, if the model does not run on the
            example, if ``num_classes`` is not a positive number, or if ``output_stride`` cannot be reached.

    Example::

        >>> model = torchvision.models.resnet18().eval()
        >>> softcam = convert_to_softcam(model)
        >>> torch.allclose(softcam(images), model(images), atol=1e-5)
        True
    """
    source = unwrap(model)
    model = as_module(source)
    _check(model, num_classes)
    original = duplicate(model).eval()
    answers = ask(original, example)  # before the trace, which adds modules for functional dropouts
    head = find_head(original, answers.example, sized=example is not None)
    inexact = _inexact(head)
    refuse_unfaithful(original, head, answers, linear=not inexact)
    evidence, replaced = _layers(original, head)
    if inexact:
        refuse_other_evidence(original, head, evidence, _map_dims(original, head), answers)
    softcam = SoftCamModel(_backbone(type(model).__name__, original, head), evidence).eval()
    found = compare_with_source(model, softcam, head, answers)
    if answers.example is not None:
        # found[0] belongs to the example only if no batch was left out for logits that are not finite.
        shape = found[0].features if len(found) == len(answers.batches) else None
        refuse_other_positions(softcam.backbone, answers.example, shape, type(model).__name__)
    if not inexact and not all(each.same for each in found):
        inexact = why_moved(model, head, answers, found, allow_inexact)
    # The comparison comes first: a finer grid and a new layer change the logits.
    dilated = _adapt(softcam, num_classes, output_stride)
    changes = {"the evidence is finer": dilated, "the last layer is new": num_classes}
    reasons = [*inexact, *(reason for reason, asked in changes.items() if asked)]
    conversion = Conversion(
        source=_name(source),
        pooling=head.pooling.name,
        replaced=tuple(replaced),
        exact=not reasons,
        reason="; ".join(reasons),
        dilated=tuple(dilated),
        left_out=_left_out(original, softcam.backbone, head),
        num_classes=num_classes,
        output_stride=output_stride,
    )
    softcam.conversion = _measured(conversion, softcam, answers, head, found)
    _restore_modes(softcam, model, [layer.name for layer in (*head.before, *head.after)])
    return softcam


def rebuild(model: Callable[..., Any], record: Conversion | None) -> SoftCamModel:
    """Repeat the conversion of a record on another network, which may be on the meta device; logits are not compared.

    Raises:
        ValueError: if the network cannot be converted in this way.
    """
    original = duplicate(as_module(model)).eval()
    channels = input_channels(original)
    if record is None or record.input_size is None or channels is None:
        head = find_head(original, ask(original, None).example)
    else:
        # Two rows, because a squeeze() of all dimensions would drop a batch of one.
        head = find_head(original, next(original.parameters()).new_zeros(2, channels, *record.input_size), sized=True)
    evidence, _ = _layers(original, head)
    softcam = SoftCamModel(_backbone(type(model).__name__, original, head), evidence)
    if record is not None:
        _adapt(softcam, record.num_classes, record.output_stride)
    # train() clears what modules such as LeViT's attention keep from their weights, which are about to be replaced.
    return softcam.train().eval()


def _check(model: nn.Module, num_classes: int | None) -> None:
    if isinstance(model, SoftCamModel):
        raise TypeError("the model is a SoftCamModel already; use it as it is.")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes {num_classes!r} is not a positive number of classes.")


def _name(source: object) -> str:
    """Return the name of a class of modules, or of a function, with its module."""
    named = source if hasattr(source, "__qualname__") else type(source)
    return f"{named.__module__}.{named.__qualname__}"


def _backbone(name: str, original: nn.Module, head: Head) -> fx.GraphModule:
    """Return the model up to its pooling as one module, with the names of the original."""
    _return_features(head, _map_dims(original, head))
    _drop_unused(original, head)
    backbone = fx.GraphModule(original, head.graph, f"{name}Backbone")
    backbone.delete_all_unused_submodules()  # otherwise head and auxiliary heads would be trained and stored with it
    return backbone


def _layers(model: nn.Module, head: Head) -> tuple[EvidenceHead, list[str]]:
    """Return the layers of the head in their per-position form, and a description of each change."""
    dims, grid = _map_dims(model, head), head.pooling.grid
    layers: list[nn.Module] = [layer.module for layer in head.before]
    changes = []
    for layer in head.after:
        layers.append(_twin(layer, dims, grid if isinstance(layer.module, nn.Linear) else ()))
        grid = () if isinstance(layer.module, nn.Linear) else grid  # only the first linear layer reads the whole grid
        if layers[-1] is not layer.module:
            changes.append(f"{layer.name}: {_short(layer.module)} -> {_short(layers[-1])}")
    return EvidenceHead(*layers), changes


def _drop_unused(model: nn.Module, head: Head) -> None:
    """Remove the steps that do not contribute to the features, as ``fx.Graph.eliminate_dead_code`` would.

    That method keeps only impure steps of torch's own list, and not every supported torch accepts another criterion.
    """
    # Steps without users still count if they write into the features in place, or if they guard a branch. Guards on what
    # the head computes go with the head: the converted model has other values there.
    nodes = list(head.graph.nodes)
    after = set(nodes[nodes.index(head.features) + 1 :])
    answered = _depending_on_the_head(head)
    for node in reversed(nodes):
        guards = node.target is same_branch and node not in answered
        writes = acts_in_place(model, node) and (node not in after or node.args[0] is head.features)
        if not (node.users or node.op in ("placeholder", "output") or guards or writes):
            head.graph.erase_node(node)


def _depending_on_the_head(head: Head) -> set[fx.Node]:
    """Return the steps from the pooling to the logits, and the steps that read one of them."""
    behind: set[fx.Node] = set()
    for node in head.graph.nodes:
        if head.features in node.all_input_nodes or not behind.isdisjoint(node.all_input_nodes):
            behind.add(node)
    found: set[fx.Node] = set()
    waiting = [head.logits]
    while waiting:
        node = waiting.pop()
        if node in behind and node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    for node in head.graph.nodes:
        if node.op != "output" and not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _adapt(softcam: SoftCamModel, num_classes: int | None, output_stride: int | None) -> list[str]:
    """Apply ``output_stride`` and ``num_classes`` in place, and return the names of the dilated layers."""
    dilated = [] if output_stride is None else set_output_stride(softcam.backbone, output_stride)
    if num_classes is not None:
        _renew(softcam.evidence, num_classes)
    return dilated


def _map_dims(model: nn.Module, head: Head) -> int:
    """Return the number of spatial dimensions of the evidence; tokens of an image are two-dimensional."""
    return 2 if head.pooling.dims == 1 and spatial_dims(model) == 2 else head.pooling.dims


def _return_features(head: Head, dims: int) -> None:
    """Make the graph return the features, with channels first and on their grid."""
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
    """Describe a layer by its type and its sizes."""
    if isinstance(module, RowFunction):
        return "a function" if module.bent else "a linear map"
    if isinstance(module, nn.Linear):
        return f"Linear({module.in_features}, {module.out_features})"
    if isinstance(module, CONVOLUTIONS):
        groups = "" if module.groups == 1 else f", groups={module.groups}"
        return f"{type(module).__name__}({module.in_channels}, {module.out_channels}, 1{groups})"
    return type(module).__name__


def _renew(evidence: EvidenceHead, num_classes: int) -> None:
    """Replace the last convolution by an untrained one."""
    places = [i for i, layer in enumerate(evidence) if isinstance(layer, CONVOLUTIONS)]
    if not places:
        raise ValueError("num_classes cannot be changed: the head has no linear layer.")
    evidence[places[-1]] = new_last_layer(evidence[places[-1]], num_classes)


def _inexact(head: Head) -> list[str]:
    """List the reasons why the logits must change: the head is not linear, or distinguishes positions."""
    reasons = []
    if head.pooling.grid:
        reasons.append(f"its classifier tells {' x '.join(map(str, head.pooling.grid))} positions apart")
    bent = sorted({name for layer in head.after if not is_linear(layer.module) for name in _names(layer.module)})
    if bent:
        reasons.append(f"{' and '.join(bent)} {'acts' if len(bent) == 1 else 'act'} at every position")
    return reasons


def _names(module: nn.Module) -> tuple[str, ...]:
    return module.bent if isinstance(module, RowFunction) else (type(module).__name__,)


def _left_out(model: nn.Module, backbone: nn.Module, head: Head) -> tuple[str, ...]:
    """Return the children of the model whose parameters are not part of the conversion."""
    kept = {name.partition(".")[0] for name, _ in backbone.named_parameters()}
    moved = (name for layer in (*head.before, *head.after) for name in layer.name.split(", "))  # to the evidence head
    kept |= {name.partition(".")[0] for name in moved}
    children = (name for name, child in model.named_children() if name not in kept and list(child.parameters()))
    return (*children, *(() if head.finish is None else head.finish.called))


@torch.no_grad()
def _measured(
    conversion: Conversion, softcam: SoftCamModel, answers: Answers, head: Head, found: list[Comparison]
) -> Conversion:
    """Add the inputs of the checks, the difference of the logits and the size of the example to a record."""
    has_values = answers.example is not None and not answers.example.is_meta
    words = "not at all: the logits are not finite" if has_values and not found else answers.words
    conversion = replace(conversion, checked=words)
    if found and conversion.dilated:  # the logits were compared before the grid became finer
        found = compare(softcam, replace(answers, batches=answers.batches[:1]), head)
    if found and conversion.num_classes is None:
        conversion = replace(conversion, difference=found[0].moved, largest=found[0].largest)
    if answers.given and answers.example is not None:
        size = tuple(answers.example.shape)
        grid = found[0].features if found else tuple(run_on_meta(softcam.backbone, size, answers.example.dtype).shape)
        conversion = replace(conversion, input_size=size[2:], grid=grid[2:])
    return conversion


def _restore_modes(softcam: SoftCamModel, model: nn.Module, names: list[str]) -> None:
    """Set every module to the mode of its source, or of the model if it has none."""
    # The copy was traced in eval mode, but parts of the model may be trained while others are kept in eval mode.
    modes = {name: module.training for name, module in model.named_modules()}
    softcam.train(model.training)
    for name, module in softcam.backbone.named_modules():
        module.training = modes.get(name, model.training)
    for name, module in zip(names, softcam.evidence, strict=True):
        module.training = modes.get(name, model.training)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a map, at every position: (N, C, ...) -> (N, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise dimension 1."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def _twin(layer: Layer, dims: int, grid: Sequence[int] = ()) -> nn.Module:
    """Return the per-position equivalent of a layer behind the pooling, for maps (N, C, ...).

    Args:
        layer (Layer): a layer that reads the pooled channels.
        dims (int): number of spatial dimensions of the map, 1 to 3.
        grid (sequence of int): positions that a linear layer distinguishes; its weights are summed over them. Default: none
    """
    module = layer.module
    if isinstance(module, RowFunction):
        return AtEveryPosition(copy.deepcopy(module)) if module.bent else module.folded(dims)
    if isinstance(module, nn.Linear):
        return _convolution(module, dims, grid)
    # nn.BatchNorm1d accepts (N, C, L), but no maps of images or volumes.
    if isinstance(module, nn.BatchNorm1d) and dims > 1:
        settings = module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        return _like(_BATCH_NORMS[dims](*settings), module)
    # Before the flattening, as in ConvNeXt, it is torchvision's LayerNorm2d, which normalises the channels of a map already.
    if isinstance(module, nn.LayerNorm) and layer.flat:
        shape = list(module.normalized_shape)
        return _like(ChannelNorm(shape, module.eps, module.elementwise_affine, bias=module.bias is not None), module)
    return module


def _convolution(linear: nn.Linear, dims: int, grid: Sequence[int] = ()) -> nn.Module:
    """Return the 1x1 convolution with the weights of ``linear``.

    If the layer reads a flattened ``grid``, its weights are summed over the positions: the output at a position is that of
    the layer for a map with the features of this position everywhere.
    """
    outputs, inputs = linear.out_features, linear.in_features // math.prod(grid)
    weight = linear.weight.view(outputs, inputs, -1).sum(2)  # flatten() puts the positions of a channel side by side
    conv = CONVOLUTIONS[dims - 1](inputs, outputs, 1, bias=linear.bias is not None).to(weight)
    with torch.no_grad():
        conv.weight.copy_(weight.view_as(conv.weight))
        if conv.bias is not None:
            conv.bias.copy_(linear.bias)
    for name, parameter in conv.named_parameters():
        parameter.requires_grad_(_is_trained(linear, name))
    return conv.train(linear.training)


def new_last_layer(last: nn.Module, num_classes: int) -> nn.Module:
    """Return an untrained copy of a linear layer or convolution with ``num_classes`` outputs."""
    bias = last.bias is not None
    if isinstance(last, nn.Linear):
        fresh: nn.Module = nn.Linear(last.in_features, num_classes, bias)
    else:
        kind: Any = type(last)
        fresh = kind(last.in_channels, num_classes, last.kernel_size, last.stride, last.padding, bias=bias)
    return fresh.to(next(last.parameters())).train(last.training)


def _like(fresh: nn.Module, module: nn.Module) -> nn.Module:
    """Copy parameters, buffers, dtype, device and mode of ``module`` to ``fresh``, and return it."""
    # By name, because a parametrised layer stores other tensors than it computes with.
    state = {name: getattr(module, name) for name in fresh.state_dict()}
    fresh = fresh.to(next((value for value in state.values() if value.is_floating_point()), torch.zeros(())))
    fresh.load_state_dict(state)
    for name, parameter in fresh.named_parameters():
        parameter.requires_grad_(_is_trained(module, name))
    return fresh.train(module.training)


def _is_trained(module: nn.Module, name: str) -> bool:
    """Check whether a tensor of a layer is trained, so that frozen layers stay frozen."""
    value = module._parameters.get(name)
    # One that is computed, as by a weight normalisation, depends on all parameters of the layer.
    return value.requires_grad if value is not None else any(each.requires_grad for each in module.parameters())
