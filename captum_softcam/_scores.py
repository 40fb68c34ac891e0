"""Scores (N, K) of a model: make them of its logits, check their form, and tell logits from probabilities."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from captum_softcam._names import listed, named, quoted, shown

__all__ = [
    "PROBABILITIES",
    "SCORES",
    "Scores",
    "are_probabilities",
    "as_scores",
    "best_classes",
    "check_kind",
    "class_logits",
    "classes_of",
    "described",
    "entries",
    "kind_in_words",
    "place_of_table",
    "predicted_classes",
    "refuse_probabilities",
    "rounding",
    "runner_up_classes",
    "score_table",
]

Scores: TypeAlias = str | Callable[[Tensor], Tensor]
"""How the logits (N, K) of a model become scores, as :func:`as_scores` takes it."""

SCORES = ("softmax", "sigmoid", "identity")
PROBABILITIES = ("softmax", "sigmoid")
"""The kinds of scores that are probabilities; others are values of any size."""
"""Names of the ways in which logits become scores."""

_SQUASH = {"Sigmoid", "Softmax", "Hardsigmoid"}
_KEEP = {  # operations on probabilities whose results are still probabilities: views, means, sums and choices
    *("Add", "Alias", "Cat", "Clamp", "Clone", "Div", "Expand", "Index", "IndexSelect", "Mean", "Mul", "Permute", "Rsub"),
    *("Select", "Slice", "Squeeze", "Stack", "Sub", "Sum", "T", "ToCopy", "Transpose", "Unsqueeze", "UnsafeView", "View"),
}
_LINEAR = {"Addmm", "Mm", "Convolution", "Bmm"}


# Largest differences that are rounding, relative to the largest value: where the same sums are taken in another order, and
# where batches of another size choose other kernels.
_ROUNDING = {
    torch.float64: (1e-10, 1e-9),
    torch.float32: (1e-5, 1e-4),
    torch.float16: (1e-2, 5e-2),
    torch.bfloat16: (5e-2, 1e-1),
}
_TF32 = 1e-2  # convolutions of single precision on a GPU, unless torch is told otherwise


def rounding(*values: Tensor, batches: bool = False) -> float:
    """Return the difference that rounding explains, relative to the largest value, at the coarsest precision used.

    Args:
        *values (Tensor): computed on one device.
        batches (bool): whether they come from batches of different sizes. Default: False
    """
    device = values[0].device.type
    precisions = {value.dtype for value in values}
    if torch.is_autocast_enabled(device):
        precisions.add(torch.get_autocast_dtype(device))
    found = max(_ROUNDING.get(precision, _ROUNDING[torch.float32])[batches] for precision in precisions)
    on_gpu_in_single = device != "cpu" and torch.float32 in precisions
    return max(found, _TF32) if on_gpu_in_single and (batches or torch.backends.cudnn.allow_tf32) else found


def as_scores(logits: Tensor, scores: Scores = "softmax") -> Tensor:
    r"""Compute the scores of all classes from the logits of a model.

    Args:
        logits (Tensor): (N, K), the output of the model.
        scores (str or callable): ``"softmax"``, one class per image; ``"sigmoid"``, each class with a probability of its
            own, and of a single logit *s* the two classes :math:`1 - \sigma(s)` and :math:`\sigma(s)`; ``"identity"``, the
            output itself, for regression and for models that return probabilities; or a function (N, K) -> (N, K).
            Default: ``"softmax"``

    Returns:
        Tensor: (N, K); (N, 2) for the sigmoid of a single logit.

    Raises:
        ValueError: if ``scores`` is unknown, a function changes the shape or makes finite logits infinite or NaN, or the
            softmax of a single logit is asked for.
        TypeError: if ``scores`` is neither text nor a function, or the function does not return a tensor.
    """
    check_kind(scores)
    if not isinstance(scores, str):
        return _by_function(logits, scores)
    logits = class_logits(logits, scores)
    if scores == "identity":
        return logits
    return logits.softmax(1) if scores == "softmax" else logits.sigmoid()


def class_logits(logits: Tensor, scores: Scores = "softmax") -> Tensor:
    """Return the logit of each class, (N, K): of a single logit *s* and its sigmoid, -s and s; else the logits themselves.

    Args:
        logits (Tensor): (N, K), the output of the model.
        scores (str or callable): as for :func:`as_scores`. Default: ``"softmax"``

    Raises:
        ValueError: for the softmax of a single logit.
    """
    if logits.shape[1] != 1:
        return logits
    if scores == "softmax":
        raise ValueError(
            "the model gives a single logit, whose softmax is 1 whatever it sees; pass scores='sigmoid' for the probability "
            "of a class and its complement, or scores='identity' if the output is no logit but a value, as in regression."
        )
    # 1 - sigmoid(s) is sigmoid(-s), so that both classes have a logit and a map.
    return torch.cat([-logits, logits], 1) if scores == "sigmoid" else logits


def predicted_classes(logits: Tensor, scores: Scores = "softmax") -> Tensor:
    """Return the class with the highest score, (N,): of a single logit 1 above 0, else 0; of a single value always 0."""
    return _in_order(logits, scores).argmax(1)


def best_classes(logits: Tensor, count: int, scores: Scores = "softmax") -> Tensor:
    """Return the classes with the highest scores, (N, count), best first; the first of them is the predicted class."""
    return _in_order(logits, scores).argsort(dim=1, descending=True, stable=True)[:, :count]


def runner_up_classes(logits: Tensor, targets: Tensor, scores: Scores = "softmax") -> Tensor:
    """Return the class with the highest score besides the one in ``targets``, (N,)."""
    return _in_order(logits, scores).scatter(1, targets[:, None], -torch.inf).argmax(1)


def _in_order(logits: Tensor, scores: Scores) -> Tensor:
    """Return a table (N, K) in which the classes have the order of their scores."""
    # Softmax and sigmoid keep the order of the logits, but round large ones to equal probabilities.
    return class_logits(logits, scores) if isinstance(scores, str) else as_scores(logits, scores)


def classes_of(logits: Tensor, scores: Scores = "softmax") -> str:
    """Describe in a message how many logits the model has, and the numbers of its classes."""
    logit, classes = logits.shape[1], class_logits(logits, scores).shape[1]
    return f"the model gives {logit} logit{'s' * (logit > 1)}, so classes 0 to {classes - 1}"


def check_kind(scores: object) -> None:
    """Raise ValueError if ``scores`` is not one of the names, TypeError if it is neither text nor a function."""
    words = "expected 'softmax', 'sigmoid', 'identity' or a function (N, K) -> (N, K)"
    if isinstance(scores, str) and scores not in SCORES:
        raise ValueError(f"scores is {quoted(scores)}; {words}.")
    # A class is callable too, but calling it makes an object and no scores.
    if not isinstance(scores, str) and (isinstance(scores, type) or not callable(scores)):
        raise TypeError(f"scores is {quoted(scores)}; {words}.")


def kind_in_words(scores: Scores) -> str:
    """Return the name of ``scores``, or that of a function behind the word."""
    if isinstance(scores, str):
        return scores
    source: Any = scores
    while isinstance(source, partial):
        source = source.func
    source = source if hasattr(source, "__qualname__") else type(source)
    return f"function {source.__module__}.{source.__qualname__}"


def _by_function(logits: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Call a function of the user's on a copy of the logits; check what it returns."""
    # A copy, because an operation in place would change outputs that are remembered.
    table = function(logits.clone())
    if not isinstance(table, Tensor):
        raise TypeError(
            f"{named(kind_in_words(function))}, passed as scores, returns {_kind(table)}; expected a tensor (N, K)."
        )
    if table.shape != logits.shape:
        raise ValueError(
            f"{named(kind_in_words(function))}, passed as scores, returns {tuple(table.shape)} for logits "
            f"{tuple(logits.shape)}; expected the same shape."
        )
    # The scores of an image that is not finite are rightly NaN.
    if not table.is_meta and (logits.isfinite().all(1) & ~table.isfinite().all(1)).any():
        raise ValueError(
            f"{named(kind_in_words(function))}, passed as scores, returns infinity or NaN for finite logits; clamp it."
        )
    return table if table.is_floating_point() else table.to(logits.dtype)


def score_table(output: Any, count: int, scores: Scores = "identity") -> Tensor:
    """Return the output of a model if it is a table (N, K) that has scores.

    Args:
        output (any): of the model.
        count (int): number of examples.
        scores (str or callable): how they are made, as for :func:`as_scores`. Default: ``"identity"``, any table has them

    Returns:
        Tensor: ``output`` itself.

    Raises:
        ValueError: for any other output, with its entries and a wrapper of the model that returns a table.
    """
    if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != count:
        raise ValueError(
            f"the model gives {described(output)} for {count} image{'s' * (count != 1)}; expected logits (N, K): "
            f"{_wrapper(output, count)}."
        )
    class_logits(output, scores)
    return output


def described(output: Any) -> str:
    """Describe the output of a model: the shape of a tensor, or the entries of a dict, tuple or object with theirs."""
    found = entries(output)
    if isinstance(output, Tensor) or not found:
        return _kind(output)
    return f"{shown(type(output).__name__, 40)} with {listed(f'{place} {_kind(entry)}' for place, entry in found.items())}"


def place_of_table(output: Any, count: int | None = None) -> str:
    """Return the path to the scores in the output of a model, such as ``['logits']``, or "" if there are none.

    A table (N, K) is preferred to other tensors with a row for each example.

    Args:
        output (any): of the model.
        count (int): number of examples; None if it is not known. Default: None
    """
    tensors = {way: entry for way, entry in entries(output).items() if isinstance(entry, Tensor) and entry.dim()}
    fitting = [way for way, entry in tensors.items() if count in (None, len(entry))]
    return min(fitting, key=lambda way: tensors[way].dim() != 2, default="")


def _wrapper(output: Any, count: int) -> str:
    """Describe a wrapper around the model that returns scores (N, K)."""
    if isinstance(output, Tensor):
        return f"wrap the model in a torch.nn.Module that {_reshaping(output, count)}"
    if way := place_of_table(output, count):
        return f"wrap the model in a torch.nn.Module whose forward returns self.model(images){way}"
    return "wrap the model in a torch.nn.Module whose forward returns one tensor with a row for each image"


def _reshaping(output: Tensor, count: int) -> str:
    if output.dim() > 2:
        return "takes one score per class: return self.model(images).flatten(2).mean(2)"
    if output.shape == (count,):
        return "returns two logits, 0 and its own: s = self.model(images); return torch.stack([torch.zeros_like(s), s], 1)"
    if output.dim() == 1 and count == 1:
        return "returns self.model(images).view(len(images), -1)"
    return "keeps one row for each image"


def entries(output: Any) -> dict[str, Any]:
    """Return the entries of an output by their paths, such as ``['logits']``, ``[0]`` or ``.logits``."""
    if isinstance(output, Mapping):
        return {f"[{quoted(name, 40)}]": entry for name, entry in output.items()}
    if isinstance(output, (tuple, list)) and not hasattr(output, "_fields"):
        return {f"[{place}]": entry for place, entry in enumerate(output)}
    named = output._asdict() if hasattr(output, "_fields") else getattr(output, "__dict__", {})
    return {f".{shown(name, 40)}": entry for name, entry in named.items() if not name.startswith("_")}


def _kind(entry: Any) -> str:
    return str(tuple(entry.shape)) if isinstance(entry, Tensor) else shown(type(entry).__name__, 40)


def refuse_probabilities(
    forward_func: Callable[[Tensor], Any], images: Tensor, tables: Sequence[Tensor], scores: Scores = "softmax"
) -> None:
    """Raise ValueError if a model returns probabilities where logits are expected; see :func:`are_probabilities`.

    Args:
        forward_func (callable): images (N, C, ...) -> outputs (N, K).
        images (Tensor): some of the images.
        tables (sequence of Tensor): outputs of the model, each (N, K).
        scores (str or callable): as for :func:`as_scores`; the identity and functions take any output.
            Default: ``"softmax"``
    """
    if scores not in PROBABILITIES or not are_probabilities(forward_func, images, tables):
        return
    # One column of a saturated sigmoid also sums to 1.
    if all(_sum_to_one(table) and table.shape[1] > 1 for table in tables):
        raise ValueError(
            f"the model gives probabilities, rows that sum to 1 as those of a softmax, and scores='{named(scores)}' expects "
            "logits; pass scores='identity', which takes the probabilities as they are, or leave the softmax out of the "
            "model."
        )
    raise ValueError(
        f"the model gives probabilities, numbers from 0 to 1 as those of a sigmoid, and scores='{named(scores)}' "
        "expects logits; pass scores='identity', which takes the probabilities as they are, or leave the sigmoid out of the "
        "model and pass scores='sigmoid'."
    )


def are_probabilities(forward_func: Callable[[Tensor], Any], images: Tensor, tables: Sequence[Tensor]) -> bool:
    """Return whether the scores of a model are probabilities.

    All scores lie in [0, 1], also those of another image; and either all rows sum to 1, or the last operations in the graph
    of autograd are a sigmoid or softmax. Logits may lie in [0, 1] by chance: those of a model whose last operation is a
    linear layer are not probabilities. Cost: none, or one forward of one image if all scores lie in [0, 1].

    Args:
        forward_func (callable): images (N, C, ...) -> scores (N, K).
        images (Tensor): some of the images.
        tables (sequence of Tensor): scores of the model, each (N, K).
    """
    finite: list[Tensor] = []
    for table in tables:
        if table.is_meta:
            continue
        kept = table[table.isfinite().all(1)].detach()
        if not _within(kept):
            return False  # as nearly all logits, which need not be copied any further
        finite.append(kept)
    tables = finite
    if not any(table.numel() for table in tables):
        return False
    sure = all(map(_sum_to_one, tables))
    if not (sure or any(((table > 0) & (table < 1)).any() for table in tables)):
        return False  # zeros and ones alone, which are decisions rather than the outputs of a sigmoid
    with torch.enable_grad():
        # Another image: darker and mirrored, in the range that the model expects
        other = (0.5 * images[:1].detach().flip(-1)).requires_grad_(images.is_floating_point())
        answer = forward_func(other)
    if not _within(answer.detach()):
        return False
    last = answer.grad_fn
    # A single output that is 1 may be the constant of a model as well as a saturated sigmoid.
    if sure and _sum_to_one(answer.detach()) and answer.shape[1] > 1:
        return last is None or _operation(last) not in _LINEAR
    rows = torch.cat(tables)
    return bool((rows != rows[0]).any()) if last is None else _squashed(last)


def _within(table: Tensor) -> bool:
    return bool(((table >= 0) & (table <= 1)).all())


def _sum_to_one(table: Tensor) -> bool:
    close = 1e-4 if torch.finfo(table.dtype).eps < 1e-5 else 2e-2
    return bool(((table.float().sum(1) - 1).abs() < close).all())


def _squashed(node: Any) -> bool:
    """Return whether all sources of a node of the graph end in a sigmoid or softmax."""
    name = _operation(node)
    sources = [source for source, _ in node.next_functions if source is not None]
    return name in _SQUASH or (name in _KEEP and bool(sources) and all(map(_squashed, sources)))


def _operation(node: Any) -> str:
    return re.sub(r"Backward\d*$", "", str(node.name()))
