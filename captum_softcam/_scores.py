"""Scores (N, K) of a model: check their form, describe other outputs in words, and tell logits from probabilities."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_softcam._names import listed, quoted, shown

__all__ = ["are_probabilities", "described", "place_of_table", "refuse_probabilities", "rounding", "score_table"]

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


def score_table(output: Any, count: int, *, single: bool = False) -> Tensor:
    """Return the output of a model if it is a table of scores (N, K).

    Args:
        output (any): of the model.
        count (int): number of examples.
        single (bool): whether to accept a single score (N, 1) as well. Default: False, because its softmax is 1

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
    if output.shape[1] == 1 and not single:
        raise ValueError(
            "the model gives a single logit, whose softmax is 1 whatever it sees; train two classes (--kind multiclass) or "
            "wrap the model in a torch.nn.Module that returns two logits, 0 and its own: "
            "s = self.model(images); return torch.cat([torch.zeros_like(s), s], 1)."
        )
    return output


def described(output: Any) -> str:
    """Describe the output of a model: the shape of a tensor, or the entries of a dict, tuple or object with theirs."""
    entries = _entries(output)
    if isinstance(output, Tensor) or not entries:
        return _kind(output)
    return f"{shown(type(output).__name__, 40)} with {listed(f'{place} {_kind(entry)}' for place, entry in entries.items())}"


def place_of_table(output: Any, count: int | None = None) -> str:
    """Return the path to the scores in the output of a model, such as ``['logits']``, or "" if there are none.

    A table (N, K) is preferred to other tensors with a row for each example.

    Args:
        output (any): of the model.
        count (int): number of examples; None if it is not known. Default: None
    """
    tensors = {way: entry for way, entry in _entries(output).items() if isinstance(entry, Tensor) and entry.dim()}
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


def _entries(output: Any) -> dict[str, Any]:
    """Return the entries of an output by their paths, such as ``['logits']``, ``[0]`` or ``.logits``."""
    if isinstance(output, Mapping):
        return {f"[{quoted(name, 40)}]": entry for name, entry in output.items()}
    if isinstance(output, (tuple, list)) and not hasattr(output, "_fields"):
        return {f"[{place}]": entry for place, entry in enumerate(output)}
    named = output._asdict() if hasattr(output, "_fields") else getattr(output, "__dict__", {})
    return {f".{shown(name, 40)}": entry for name, entry in named.items() if not name.startswith("_")}


def _kind(entry: Any) -> str:
    return str(tuple(entry.shape)) if isinstance(entry, Tensor) else shown(type(entry).__name__, 40)


def refuse_probabilities(forward_func: Callable[[Tensor], Any], images: Tensor, tables: Sequence[Tensor]) -> None:
    """Raise ValueError if a model returns probabilities where logits are expected; see :func:`are_probabilities`."""
    if not are_probabilities(forward_func, images, tables):
        return
    if all(_sum_to_one(table) for table in tables):
        raise ValueError(
            "the model gives probabilities, rows that sum to 1, and a metric takes the softmax of logits; leave the softmax "
            "out of the model, or wrap it in a torch.nn.Module that returns logarithms: "
            "p = self.model(images); return p.clamp(min=torch.finfo(p.dtype).tiny).log()."
        )
    raise ValueError(
        "the model gives numbers from 0 to 1, a sigmoid for each class, and a metric takes the softmax of logits; leave the "
        "sigmoid out of the model, or wrap it in a torch.nn.Module that returns self.model(images).logit(eps=1e-6)."
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
    if sure and _sum_to_one(answer.detach()):
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
