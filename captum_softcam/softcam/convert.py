"""Turn a pooled classifier into a SoftCAM model by moving the pooling behind the classifier.

The model is traced with :mod:`torch.fx`; pooling and classifier are found by what they compute, never by name. Everything
before them stays what it was, with its name, so that ``backbone.layer4`` of a converted ResNet can be hooked like
``layer4`` of the original.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, fx, nn

from captum_softcam._view import unwrap
from captum_softcam.softcam.conversion import Conversion
from captum_softcam.softcam.dilation import set_output_stride
from captum_softcam.softcam.head import Head, find_head, is_linear
from captum_softcam.softcam.model import EvidenceHead, SoftCamModel, pooled
from captum_softcam.softcam.shapes import CONVOLUTIONS, spatial_dims
from captum_softcam.softcam.twins import new_classifier, twin

__all__ = ["convert_to_softcam"]


def convert_to_softcam(
    model: nn.Module,
    example: Tensor | None = None,
    *,
    num_classes: int | None = None,
    output_stride: int | None = None,
) -> SoftCamModel:
    r"""Give a pooled CNN classifier its evidence maps; needs no training :cite:p:`djoumessi2026softcam,djoumessi2026ttecam`.

    .. math:: W\,\Big(\frac{1}{hw} \sum_p f(p)\Big) + b = \frac{1}{hw} \sum_p \big(W f(p) + b\big)

    with features :math:`f` (C, h, w) and the classifier :math:`W` (K, C), :math:`b` (K,): what stands between the global
    average pooling and the logits is applied at every position, and the pooling comes last.

    Linear layers, batch normalisation and dropout are converted exactly: in eval mode the logits stay what they were, up to
    rounding (1e-5). Activations and layer normalisation behind the pooling (MobileNetV3, ConvNeXt) act at every position
    instead, and fully connected layers that read a whole grid (AlexNet, VGG) become 1x1 convolutions with their weights
    summed over the grid; such logits change, ``SoftCamModel.conversion`` says so, and by how much on an ``example``.

    The original is left untouched; weights are copied, and mode, dtype and device are kept. Auxiliary heads, which serve
    training only, are left out. Of a model that returns a dictionary or tuple, the one entry with a pooled head is taken.

    Departures from the paper: the head of VGG starts from the weights of the fully connected layers, not at random.

    Args:
        model (torch.nn.Module): classifier that torch.fx can trace to its logits (N, K).
        example (Tensor): an input (N, C, ...), at least one. With it the change of the logits is measured, and poolings of
            a fixed size and flattened maps can be converted. Default: None
        num_classes (int): for a new, untrained last layer. Default: that of the model
        output_stride (int): input pixels per position of the evidence, at most; 16 or 8 where most CNNs have 32. The last
            stages give up their stride and are dilated instead, with the same weights: at the positions that were there
            before, the evidence stays what it was (but for squeeze-and-excitation, which sees other means), at four times
            the cost of those stages per halving. Default: that of the model

    Returns:
        SoftCamModel: ``backbone`` up to the pooling, ``evidence`` the head, ``conversion`` what was done.

    Raises:
        TypeError: if ``model`` is not a module, or is a SoftCAM model already.
        ValueError: if no global average pooling followed by such a head is found (the message says what stands there), if
            ``num_classes`` is no positive number, or if ``output_stride`` cannot be reached.

    Example::

        >>> model = torchvision.models.resnet18().eval()
        >>> softcam = convert_to_softcam(model)
        >>> torch.allclose(softcam(images), model(images), atol=1e-5)
        True
    """
    model = unwrap(model)
    _check(model, num_classes)
    original = copy.deepcopy(model).eval()
    head = find_head(original, example)
    logits = None if example is None else _logits(original, head, example)
    backbone, evidence, twins = _cut(original, head)
    dilated = [] if output_stride is None else set_output_stride(backbone, output_stride)
    if num_classes is not None:
        _renew(evidence, num_classes)
    reason = _reason(head, dilated, num_classes)
    conversion = Conversion(
        source=f"{type(model).__module__}.{type(model).__qualname__}",
        pooling=head.pooling.name,
        replaced=tuple(twins),
        exact=not reason,
        reason=reason,
        dilated=tuple(dilated),
        left_out=_left_out(original, backbone, head),
        num_classes=num_classes,
        output_stride=output_stride,
    )
    softcam = SoftCamModel(backbone, evidence).eval()
    softcam.conversion = conversion
    if example is not None and logits is not None:
        softcam.conversion = _measured(conversion, softcam, example, logits)
    _restore_modes(softcam, model, [layer.name for layer in (*head.before, *head.after)])
    return softcam


def _check(model: nn.Module, num_classes: int | None) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert_to_softcam needs a torch.nn.Module; got {type(model).__name__}.")
    if isinstance(model, SoftCamModel):
        raise TypeError("the model is a SoftCamModel already; use it as it is.")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes {num_classes!r} is no positive number of classes.")


def _cut(model: nn.Module, head: Head) -> tuple[nn.Module, EvidenceHead, list[str]]:
    """Backbone and evidence head, and what became of the layers."""
    dims = _map_dims(model, head)
    grid, layers, changes = head.pooling.grid, [layer.module for layer in head.before], []
    for layer in head.after:
        layers.append(twin(layer, dims, grid if isinstance(layer.module, nn.Linear) else ()))
        grid = () if isinstance(layer.module, nn.Linear) else grid
        if layers[-1] is not layer.module:
            changes.append(f"{layer.name}: {_short(layer.module)} -> {_short(layers[-1])}")
    _return_features(head, dims)
    backbone = fx.GraphModule(model, head.graph, f"{type(model).__name__}Backbone")
    backbone.graph.eliminate_dead_code()
    backbone.delete_all_unused_submodules()
    backbone.recompile()
    return backbone, EvidenceHead(*layers), changes


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


def rows_to_grid(features: Tensor, images: Tensor) -> Tensor:
    """Features (N, C, T) of patches in rows on the grid (N, C, h, w) that has the proportions of the images (N, C, H, W)."""
    count, proportion = features.shape[2], images.shape[2] / images.shape[3]
    rows = round(math.sqrt(count * proportion))
    if rows == 0 or count % rows:
        raise ValueError(f"{count} tokens make no grid with the proportions of images {tuple(images.shape[2:])}.")
    return torch.unflatten(features, 2, (rows, count // rows))


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
    evidence[places[-1]] = new_classifier(evidence[places[-1]], num_classes)


def _reason(head: Head, dilated: list[str], num_classes: int | None) -> str:
    """Why the logits are no longer those of the source; empty if they are."""
    reasons = []
    if head.pooling.grid:
        reasons.append(f"its classifier tells {' x '.join(map(str, head.pooling.grid))} positions apart")
    bent = sorted({type(layer.module).__name__ for layer in head.after if not is_linear(layer.module)})
    if bent:
        reasons.append(f"{' and '.join(bent)} {'acts' if len(bent) == 1 else 'act'} at every position")
    if dilated:
        reasons.append("the evidence is finer")
    if num_classes is not None:
        reasons.append("the last layer is new")
    return "; ".join(reasons)


def _left_out(model: nn.Module, backbone: nn.Module, head: Head) -> tuple[str, ...]:
    """Children of the model with parameters of which nothing is left."""
    kept = {name.partition(".")[0] for name, _ in backbone.named_parameters()}
    kept |= {layer.name.partition(".")[0] for layer in (*head.before, *head.after)}
    return tuple(name for name, child in model.named_children() if name not in kept and list(child.parameters()))


@torch.no_grad()
def _logits(model: nn.Module, head: Head, example: Tensor) -> Tensor:
    """Logits of the source, taken out of whatever else it returns."""
    next(node for node in head.graph.nodes if node.op == "output").args = (head.logits,)
    try:
        return cast(Tensor, fx.GraphModule(model, head.graph)(example))
    except RuntimeError as error:
        raise ValueError(
            f"{type(model).__name__} does not run on the example {tuple(example.shape)}: {str(error).splitlines()[0]}"
        ) from error


@torch.no_grad()
def _measured(conversion: Conversion, softcam: SoftCamModel, example: Tensor, logits: Tensor) -> Conversion:
    """The record with what the example shows."""
    evidence = softcam.evidence_maps(example)
    comparable = conversion.num_classes is None
    return replace(
        conversion,
        difference=(pooled(evidence) - logits).abs().max().item() if comparable else None,
        largest=logits.abs().max().item() if comparable else None,
        input_size=tuple(example.shape[2:]),
        grid=tuple(evidence.shape[2:]),
    )


def _restore_modes(softcam: SoftCamModel, model: nn.Module, names: list[str]) -> None:
    """Give every part the mode of its source; what has none, that of the model."""
    modes = {name: module.training for name, module in model.named_modules()}
    softcam.train(model.training)
    for name, module in softcam.backbone.named_modules():
        module.training = modes.get(name, model.training)
    for name, module in zip(names, softcam.evidence, strict=True):
        module.training = modes.get(name, model.training)
