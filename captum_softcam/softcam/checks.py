"""Checks of a conversion against its source: the logits, and the positions that the evidence comes from.

The model runs before it is traced, on the example and on a second input with other values and another number of rows. The
graph of torch.fx has to compute the same logits, and so has the converted network if its head is linear.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from captum_softcam._intervention.view import duplicate
from captum_softcam._names import listed, reason
from captum_softcam._scores import rounding
from captum_softcam.softcam.head import Head, find_head
from captum_softcam.softcam.model import (
    EvidenceHead,
    ShapesOnly,
    SoftCamModel,
    input_channels,
    noise_like,
    pooled,
    run_on_meta,
    spatial_dims,
)

__all__ = [
    "Answers",
    "Comparison",
    "ask",
    "compare",
    "compare_with_source",
    "first_line",
    "refuse_other_evidence",
    "refuse_other_positions",
    "refuse_unfaithful",
    "why_moved",
]

_AGREEMENT = 0.3  # lowest correlation of positions in the map and in the input; unrelated positions have 0
_CLEAR = 36  # least number of positions to tell a mirrored map by: small ones come near _MIRRORED by chance
_MIRRORED = -0.6  # highest correlation of a mirrored map; networks that see the whole input come near it, too
_LARGER = 8  # factor for the side of the input on the meta device; large enough for strides above a small example
_SIDES: dict[int, list[tuple[int, ...]]] = {  # sizes that networks are built for, the cheap ones first
    1: [(64,), (128,), (256,), (1024,), (4096,), (16000,)],
    2: [(side, side) for side in (64, 224, 32, 28, 96, 128, 160, 192, 240, 256, 288, 299, 320, 384, 448, 512)],
    3: [(8, 64, 64), (32, 32, 32), (16, 112, 112), (16, 16, 16), (64, 64, 64), (16, 224, 224), (96, 96, 96)],
}
_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, AttributeError, KeyError, NotImplementedError)


@dataclass(frozen=True)
class Answer:
    """Output of a model for a batch of inputs."""

    inputs: Tensor
    output: Any

    def logits(self, path: tuple[Any, ...]) -> Tensor:
        """Return the entry of the output at ``path``: keys of dictionaries, places in tuples, names of attributes."""
        found = self.output
        for key in path:
            found = found[key] if isinstance(found, (Mapping, tuple, list)) else getattr(found, key)
        return cast(Tensor, found)


@dataclass(frozen=True)
class Answers:
    """Outputs of a model for its example and for other values.

    Args:
        words (str): description of the inputs.
        batches (tuple of Answer): the example first. Default: none
        given (bool): whether the example was passed by the user. Default: False
    """

    words: str
    batches: tuple[Answer, ...] = ()
    given: bool = False

    @property
    def example(self) -> Tensor | None:
        """The first inputs, None if there are none."""
        return self.batches[0].inputs if self.batches else None

    def comparable(self, path: tuple[Any, ...]) -> tuple[Answer, ...]:
        """Return the batches whose logits have values, and finite ones."""
        logits = [(answer, answer.logits(path)) for answer in self.batches]
        return tuple(answer for answer, value in logits if not value.is_meta and bool(value.isfinite().all()))


@torch.no_grad()
def ask(model: nn.Module, example: Tensor | None) -> Answers:
    """Run ``model`` on an example, or on made-up inputs if the shape of the input can be read off its layers.

    Raises:
        ValueError: if the model does not run on the example.
    """
    if example is not None:
        try:
            first = Answer(example, model(example))
        except _ERRORS as error:
            raise ValueError(
                f"{type(model).__name__} does not run on the example {tuple(example.shape)}: {reason(first_line(error))}."
            ) from error
        return _with_other_values(model, first, "the example", given=True)
    for inputs in _made_up_inputs(model):
        try:
            with ShapesOnly() if inputs.is_meta else nullcontext():
                first = Answer(inputs, model(inputs))
        except _ERRORS:
            continue
        if inputs.is_meta:
            return Answers("not at all: the model has no values", (first,))
        return _with_other_values(model, first, f"made-up inputs {tuple(inputs.shape)}")
    return Answers("not at all: no example was given, and none could be made up")


def _made_up_inputs(module: nn.Module) -> Iterator[Tensor]:
    """Yield two inputs of noise in every size that ``module`` may accept: those it states, and common ones."""
    channels, dims = input_channels(module), spatial_dims(module)
    value = next((each for each in module.parameters() if each.is_floating_point()), None)
    if channels is None or dims is None or value is None:
        return
    noise = torch.Generator().manual_seed(0)
    for sides in [*_SIDES[dims][:1], *_stated_sides(module, dims), *_SIDES[dims][1:]]:
        yield torch.rand(2, channels, *sides, generator=noise).to(value)


def _stated_sides(module: nn.Module, dims: int) -> list[tuple[int, ...]]:
    """Return the input sizes that networks of timm, Hugging Face and torchvision keep as attributes."""
    stated: Any = dict(getattr(module, "default_cfg", None) or {}).get("input_size")
    timm = stated[1:] if isinstance(stated, (tuple, list)) else ()
    config = getattr(getattr(module, "config", None), "image_size", ())
    found: list[tuple[int, ...]] = []
    size: Any
    for size in (timm, config, getattr(module, "image_size", ())):
        sides = (size,) * dims if isinstance(size, int) else tuple(size) if isinstance(size, (tuple, list)) else ()
        if len(sides) == dims and all(isinstance(side, int) and 0 < side <= 1024 for side in sides):
            found.append(sides)
    return found


def first_line(error: Exception) -> str:
    """Return the first line of an error, without the stack that PyTorch writes below it; its type if it is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _with_other_values(model: nn.Module, first: Answer, words: str, *, given: bool = False) -> Answers:
    """Add the answer to other values; models may refuse these."""
    inputs = _other_values(first.inputs)
    try:
        second = Answer(inputs, model(inputs))
    except _ERRORS:
        return Answers(f"on {words}", (first,), given)
    return Answers(f"on {words} and on other values", (first, second), given)


def _other_values(inputs: Tensor) -> Tensor:
    """Return other inputs of the same shape, except for the number of rows."""
    rows = 1 if len(inputs) > 1 else 2  # to notice a branch on the size of the batch
    if not inputs.is_floating_point() or inputs.is_meta:
        return inputs[:1].expand(rows, *inputs.shape[1:]).flip(-1)
    return noise_like(inputs, seed=1, rows=rows)


@dataclass(frozen=True)
class Comparison:
    """Logits of a conversion and of its source.

    Args:
        moved (float): largest difference.
        allowed (float): difference that rounding explains.
        largest (float): largest logit of the source.
        features (tuple of int): shape of the feature map of the conversion. Default: not known
    """

    moved: float
    allowed: float
    largest: float
    features: tuple[int, ...] = ()

    @property
    def same(self) -> bool:
        """Whether the logits are the same up to rounding; False for NaN."""
        return self.moved <= self.allowed


@torch.no_grad()
def compare(model: SoftCamModel, answers: Answers, head: Head) -> list[Comparison]:
    """Compare a conversion with the answers of its source, the example first; empty if no logits can be compared."""
    found = []
    for answer in answers.comparable(head.path):
        features = model.backbone(answer.inputs)
        evidence = model.evidence(features)
        given = head.finished(pooled(evidence))
        comparison = _compared(given, answer.logits(head.path), float(evidence.abs().max()))
        found.append(replace(comparison, features=tuple(features.shape)))
    return found


def compare_with_source(model: nn.Module, softcam: SoftCamModel, head: Head, answers: Answers) -> list[Comparison]:
    """Compare a conversion with its source, before it gets a finer grid or other classes.

    Raises:
        ValueError: if the conversion does not run where the model does.
    """
    try:
        return compare(softcam, answers, head)
    except ValueError as error:  # of a guarded branch that the second input does not take
        raise ValueError(_unfaithful(model, head, answers)) from error
    except RuntimeError as error:
        raise ValueError(
            f"the classifier of {type(model).__name__} does not run at every position: what stands before its pooling "
            f"({head.pooling.name}) is not a map (N, C, h, w)."
        ) from error


def refuse_unfaithful(model: nn.Module, head: Head, answers: Answers, *, linear: bool) -> None:
    """Raise ValueError if the logits are not finite, or if the graph of a model with a nonlinear head computes others.

    Logits of a nonlinear head change in the conversion, so that they cannot be compared afterwards.
    """
    if answers.given and not answers.comparable(head.path):
        raise ValueError(f"{type(model).__name__} gives logits that are not finite on the example; check its weights.")
    if not linear and not _follows(model, head, answers):
        raise ValueError(_unfaithful(model, head, answers))


def _unfaithful(model: nn.Module, head: Head, answers: Answers) -> str:
    """Explain why the logits of a traced graph are not those of the model."""
    name = type(model).__name__
    if _is_random(model, answers, head.path):
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


def why_moved(model: nn.Module, head: Head, answers: Answers, found: list[Comparison], allow_inexact: bool) -> list[str]:
    """Return the reasons why the logits of a linear head changed, or raise ValueError if this is not allowed."""
    # Traced again, because the conversion has cut the graph of the head off at the features.
    again = duplicate(model).eval()
    if not _follows(again, find_head(again, answers.example, sized=answers.given), answers):
        raise ValueError(_unfaithful(model, head, answers))
    layers, move = listed(layer.name for layer in (*head.before, *head.after)), max(each.moved for each in found)
    if not allow_inexact:
        raise ValueError(
            f"the logits of {type(model).__name__} would move by {move:.2g} {answers.words}, more than rounding explains: "
            f"what stands behind the pooling ({layers}) does more than layers of its kind. allow_inexact=True converts it "
            "all the same, and says so in its conversion."
        )
    return [f"{layers} do more than layers of their kind"]


@torch.no_grad()
def _follows(model: nn.Module, head: Head, answers: Answers) -> bool:
    """Check whether the traced graph computes the logits of the model."""
    traced = _graph_of_logits(model, head)
    try:
        found = [_compared(traced(answer.inputs), answer.logits(head.path)) for answer in answers.comparable(head.path)]
    except _ERRORS:  # a branch that the other inputs do not take
        return False
    return all(each.same for each in found)


def _graph_of_logits(model: nn.Module, head: Head) -> fx.GraphModule:
    next(node for node in head.graph.nodes if node.op == "output").args = (head.output,)
    return fx.GraphModule(model, head.graph)


def _compared(given: Tensor, wanted: Tensor, scale: float = 0.0) -> Comparison:
    """Compare two tables of logits; that of the source may lack the dimension of a single row, or of a single class."""
    largest = float(wanted.abs().max())
    moved = float("inf")
    if given.numel() == wanted.numel() and (given.shape == wanted.shape or 1 in given.shape[:2]):
        moved = float((given.reshape(wanted.shape) - wanted).abs().max())
    # A logit is the mean of its evidence, which may be far larger and cancel: its rounding errors grow with the evidence.
    return Comparison(moved, rounding(wanted) * max(scale, largest), largest)


@torch.no_grad()
def refuse_other_evidence(model: nn.Module, head: Head, evidence: EvidenceHead, dims: int, answers: Answers) -> None:
    """Raise ValueError unless the evidence of a position is the output of the model with its features everywhere."""
    for answer in answers.comparable(head.path)[:1]:
        run = _Everywhere(_graph_of_logits(model, head), head)
        wanted = run.run(answer.inputs)
        try:
            given = head.finished(evidence(run.features.reshape(*run.features.shape[:2], *[1] * dims)).flatten(1))
        except RuntimeError:  # the features are not a map, so that the shapes do not fit
            given = torch.full_like(wanted, torch.nan)
        if not _compared(given, wanted, float(given.abs().max())).same:
            raise ValueError(
                f"the layers behind the pooling of {type(model).__name__} cannot be moved to single positions: "
                f"{', '.join(layer.name for layer in head.after)} answer otherwise than layers of their kind. Build a "
                "SoftCamModel from its backbone and an EvidenceHead instead."
            )


class _Everywhere(fx.Interpreter):
    """Runs a graph with the features of the central position at all positions."""

    def __init__(self, module: fx.GraphModule, head: Head) -> None:
        super().__init__(module)
        self.head = head
        self.features = torch.empty(0)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name != self.head.features.name:
            return result
        pooling = self.head.pooling
        one = result
        for axis in range(1, 1 + pooling.dims) if pooling.channels_last else range(2, 2 + pooling.dims):
            one = one.narrow(axis, result.shape[axis] // 2, 1)
        self.features = one.flatten(1)
        return one.expand_as(result).contiguous()


def refuse_other_positions(backbone: nn.Module, example: Tensor, shape: tuple[int, ...] | None, name: str) -> None:
    """Raise ValueError unless the positions of the map of ``backbone`` are those of the input.

    The map has to grow with each side of the input. In networks of one size, changes in one half of the input have to change
    that half of the map most. A mirrored or rotated map does neither, and neither does a single token.

    Args:
        backbone (torch.nn.Module): the network up to its pooling.
        example (Tensor): its input.
        shape (tuple of int or None): of the map of the example; None if it is not known.
        name (str): of the model, for the message.
    """
    grows = _grows_with(backbone, example, shape)
    if not grows and _stays_one_position(backbone, example, shape):
        raise ValueError(
            f"the evidence of {name} would have one position for inputs of any size: its pooling averages a single token, "
            "such as a class token, not a map. LayerReciproCam explains such a network."
        )
    at_least = _CLEAR if grows else 2
    too_small = example.is_meta or (shape is not None and math.prod(shape[2:]) < at_least)
    agreements = [] if too_small else _agreements(backbone, example, at_least)
    if any(value < (_MIRRORED if grows else _AGREEMENT) for value in agreements):
        raise ValueError(
            f"the evidence of {name} would not lie where the input is: what looks like a map before its pooling does not "
            "follow the positions of the input. Features that stand for channels, a class token or a mirrored input have "
            "no place in it; LayerReciproCam explains such a network."
        )


def _grows_with(backbone: nn.Module, example: Tensor, before: tuple[int, ...] | None) -> bool:
    """Check whether each side of the map grows with that side of the input, and with no other."""
    try:
        before = before or tuple(run_on_meta(backbone, tuple(example.shape), example.dtype).shape)
        for axis in range(2, len(before)):
            place = example.dim() - len(before) + axis
            size = [_LARGER * side if d == place else side for d, side in enumerate(example.shape)]
            after = run_on_meta(backbone, tuple(size), example.dtype).shape
            if [d for d, side in enumerate(after) if side != before[d]] != [axis] or after[axis] < before[axis]:
                return False
    except _ERRORS:  # networks of one size, and operations that the meta device does not support
        return False
    return True


def _stays_one_position(backbone: nn.Module, example: Tensor, shape: tuple[int, ...] | None) -> bool:
    """Return whether the map of the example has one position, and still has where all sides of the input are larger."""
    larger = (*example.shape[:2], *(_LARGER * side for side in example.shape[2:]))
    try:
        shape = shape or tuple(run_on_meta(backbone, tuple(example.shape), example.dtype).shape)
        return math.prod(shape[2:]) == 1 == math.prod(run_on_meta(backbone, larger, example.dtype).shape[2:])
    except _ERRORS:
        return False


@torch.no_grad()
def _agreements(backbone: nn.Module, example: Tensor, at_least: int) -> list[float]:
    """Compute, for each side of the map, the correlation of positions with the corner of the input that changes them.

    The list is empty for maps with fewer positions than ``at_least``.
    """
    # All forwards have one row: kernels round differently for other batch sizes, and a difference by rounding would count
    # as a change at positions that the corner does not reach.
    image, other = example[:1], _other_values(example)[:1]
    features = backbone(image)
    sides = features.shape[2:]
    if math.prod(sides) < at_least:
        return []
    ends = [[False] * len(sides), *([d == end for d in range(len(sides))] for end in range(len(sides)))]
    first, *others = (
        (backbone(_with_a_corner_of(other, image, end)) - features).double().abs().sum(dim=(0, 1)) for end in ends
    )
    # Relative to the sum of both changes, because otherwise positions with large features would decide. Where neither corner
    # changes anything, the clamp turns 0 / 0 into 0.
    answered = [(each - first) / (each + first).clamp(min=1e-300) for each in others]
    return [_correlation(answered[d], d) for d, side in enumerate(sides) if side > 1]


def _with_a_corner_of(other: Tensor, image: Tensor, ends: Sequence[bool]) -> Tensor:
    """Replace one corner of ``image`` by ``other``: the last or the first half along each of its last dimensions."""
    sides = image.shape[image.dim() - len(ends) :]
    corner = tuple(
        slice(side - side // 2, side) if end else slice((side + 1) // 2) for side, end in zip(sides, ends, strict=True)
    )
    changed = image.clone()
    changed[(..., *corner)] = other[(..., *corner)]
    return changed


def _correlation(values: Tensor, axis: int) -> float:
    """Return the correlation of values with their position along an axis, 0 if all values are equal."""
    shape = [-1 if d == axis else 1 for d in range(values.dim())]
    places = torch.arange(values.shape[axis], dtype=values.dtype, device=values.device).view(shape).expand_as(values)
    found = torch.corrcoef(torch.stack([values.flatten(), places.flatten()]))[0, 1]
    return float(found.nan_to_num())


@torch.no_grad()
def _is_random(model: nn.Module, answers: Answers, path: tuple[Any, ...]) -> bool:
    """Check whether a model computes other logits for the same input when it is called again."""
    for answer in answers.comparable(path)[:1]:
        again = Answer(answer.inputs, duplicate(model).eval()(answer.inputs))
        return not _compared(again.logits(path), answer.logits(path)).same
    return False
