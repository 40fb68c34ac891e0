"""Turn a pooled classifier into a SoftCAM model by moving the pooling behind the classifier.

The model is traced with :mod:`torch.fx`; pooling and classifier are found by what they compute, never by name. Everything
before them stays what it was, with its name, so that ``backbone.layer4`` of a converted ResNet can be hooked like
``layer4`` of the original.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from captum_softcam._intervention.view import unwrap
from captum_softcam._names import listed
from captum_softcam.softcam.checks import (
    Answers,
    Comparison,
    ask,
    compare,
    follows,
    is_random,
    refuse_other_evidence,
    refuse_other_positions,
)
from captum_softcam.softcam.conversion import Conversion
from captum_softcam.softcam.dilation import set_output_stride
from captum_softcam.softcam.head import Head, find_head, is_linear
from captum_softcam.softcam.model import EvidenceHead, SoftCamModel
from captum_softcam.softcam.shapes import CONVOLUTIONS, input_channels, spatial_dims
from captum_softcam.softcam.tracing import acts_in_place, rows_to_grid, same_branch
from captum_softcam.softcam.twins import new_classifier, twin

__all__ = ["convert_to_softcam", "rebuild"]


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
    _refuse_unfaithful(model, original, head, answers, bool(inexact))
    softcam, conversion = _cut(model, original, head)
    found = _compared(model, softcam, head, answers)
    if answers.example is not None:
        refuse_other_positions(softcam.backbone, answers.example, type(model).__name__)
    if not inexact and not all(each.same for each in found):
        inexact = _moved(model, head, answers, found, allow_inexact)
    conversion = _adapted(softcam, conversion, inexact, num_classes, output_stride)
    softcam.conversion = _measured(conversion, softcam, answers, head.path, found)
    _restore_modes(softcam, model, [layer.name for layer in (*head.before, *head.after)])
    return softcam


def rebuild(
    model: nn.Module, input_size: Sequence[int] | None, *, num_classes: int | None, output_stride: int | None
) -> SoftCamModel:
    """Convert a network again that was converted before, with or without values; its logits are not compared.

    Raises:
        ValueError: if it cannot be converted in this way.
    """
    original = copy.deepcopy(unwrap(model)).eval()
    channels = input_channels(original)
    if input_size is None or channels is None:
        head = find_head(original, ask(original, None).example)
    else:
        head = find_head(original, next(original.parameters()).new_zeros(2, channels, *input_size), sized=True)
    softcam, conversion = _cut(model, original, head)
    softcam.conversion = _adapted(softcam, conversion, _inexact(head), num_classes, output_stride)
    return softcam.eval()


def _check(model: nn.Module, num_classes: int | None) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert_to_softcam needs a torch.nn.Module; got {type(model).__name__}.")
    if isinstance(model, SoftCamModel):
        raise TypeError("the model is a SoftCamModel already; use it as it is.")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes {num_classes!r} is no positive number of classes.")


def _refuse_unfaithful(model: nn.Module, original: nn.Module, head: Head, answers: Answers, inexact: bool) -> None:
    """Raise ValueError if the logits cannot be compared, or where a comparison after the conversion would not tell."""
    if answers.given and not answers.comparable(head.path):
        raise ValueError(f"{type(model).__name__} gives logits that are not finite on the example; check its weights.")
    if inexact:
        if not follows(original, head, answers):
            raise ValueError(_unfaithful(model, head, answers))
        refuse_other_evidence(original, head, _layers(original, head)[0], _map_dims(original, head), answers)


def _unfaithful(model: nn.Module, head: Head, answers: Answers) -> str:
    """Why the logits of a traced graph are not those of the model."""
    name = type(model).__name__
    if is_random(model, answers, head.path):
        return (
            f"{name} gives other logits each time that it is called, in eval mode as well; convert_to_softcam needs a model "
            "that repeats itself: look for noise, or a dropout that is told training=True."
        )
    return (
        f"{name} computes something else under torch.fx than when it is called: the logits of the two differ "
        f"{answers.words}. Its forward asks for the exact type of its input, keeps values from call to call, or decides by "
        "the number or the values of its inputs. Take that out of it, or build a SoftCamModel from its backbone and an "
        "EvidenceHead."
    )


def _compared(model: nn.Module, softcam: SoftCamModel, head: Head, answers: Answers) -> list[Comparison]:
    """The conversion beside the model, as it is before it gets a finer grid or other classes."""
    try:
        return compare(softcam, answers, head.path)
    except ValueError as error:  # of a decision that other inputs take otherwise
        raise ValueError(_unfaithful(model, head, answers)) from error
    except RuntimeError as error:
        raise ValueError(
            f"the classifier of {type(model).__name__} does not run at every position: what stands before its pooling "
            f"({head.pooling.name}) is not a map (N, C, h, w)."
        ) from error


def _moved(model: nn.Module, head: Head, answers: Answers, found: list[Comparison], allow_inexact: bool) -> list[str]:
    """Why the logits of a conversion that should be exact are not those of the model."""
    again = copy.deepcopy(model).eval()
    if not follows(again, find_head(again, answers.example, sized=answers.given), answers):
        raise ValueError(_unfaithful(model, head, answers))
    layers, move = listed(layer.name for layer in (*head.before, *head.after)), max(each.moved for each in found)
    if not allow_inexact:
        raise ValueError(
            f"the logits of {type(model).__name__} would move by {move:.2g} {answers.words}, more than rounding explains: "
            f"what stands behind the pooling ({layers}) does more than layers of its kind. allow_inexact=True converts it "
            "all the same, and says so in its conversion."
        )
    return [f"{layers} do more than layers of their kind"]


def _cut(model: nn.Module, original: nn.Module, head: Head) -> tuple[SoftCamModel, Conversion]:
    """The model cut at its pooling, with its head in front of it, and what became of the layers."""
    evidence, changes = _layers(original, head)
    _return_features(head, _map_dims(original, head))
    _drop_unused(original, head)
    backbone = fx.GraphModule(original, head.graph, f"{type(model).__name__}Backbone")
    backbone.delete_all_unused_submodules()
    conversion = Conversion(
        source=f"{type(model).__module__}.{type(model).__qualname__}",
        pooling=head.pooling.name,
        replaced=tuple(changes),
        exact=False,
        left_out=_left_out(original, backbone, head),
    )
    return SoftCamModel(backbone, evidence).eval(), conversion


def _layers(model: nn.Module, head: Head) -> tuple[EvidenceHead, list[str]]:
    """The layers of the head for every position, and what became of each."""
    dims, grid = _map_dims(model, head), head.pooling.grid
    layers: list[nn.Module] = [layer.module for layer in head.before]
    changes = []
    for layer in head.after:
        layers.append(twin(layer, dims, grid if isinstance(layer.module, nn.Linear) else ()))
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


def _adapted(
    softcam: SoftCamModel, conversion: Conversion, inexact: list[str], num_classes: int | None, output_stride: int | None
) -> Conversion:
    """The record of a model that gets a finer grid or a new head, which is done here."""
    dilated = [] if output_stride is None else set_output_stride(softcam.backbone, output_stride)
    if num_classes is not None:
        _renew(softcam.evidence, num_classes)
    reasons = [*inexact, *(["the evidence is finer"] if dilated else [])]
    reasons += [] if num_classes is None else ["the last layer is new"]
    return replace(
        conversion,
        exact=not reasons,
        reason="; ".join(reasons),
        dilated=tuple(dilated),
        num_classes=num_classes,
        output_stride=output_stride,
    )


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
    evidence[places[-1]] = new_classifier(evidence[places[-1]], num_classes)


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
    if found and conversion.num_classes is None:
        first = compare(softcam, answers, path)[0] if conversion.dilated else found[0]
        conversion = replace(conversion, difference=first.moved, largest=first.largest)
    if answers.given and answers.example is not None:
        grid = softcam.backbone(answers.example[:1]).shape[2:]
        conversion = replace(conversion, input_size=tuple(answers.example.shape[2:]), grid=tuple(grid))
    return conversion


def _restore_modes(softcam: SoftCamModel, model: nn.Module, names: list[str]) -> None:
    """Give every part the mode of its source; what has none, that of the model."""
    modes = {name: module.training for name, module in model.named_modules()}
    softcam.train(model.training)
    for name, module in softcam.backbone.named_modules():
        module.training = modes.get(name, model.training)
    for name, module in zip(names, softcam.evidence, strict=True):
        module.training = modes.get(name, model.training)
