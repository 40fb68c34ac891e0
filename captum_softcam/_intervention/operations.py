"""Which of torch's functions act on every position of a map alone, and which take the mean over all of them.

A pattern says what each dimension of a map is: n example, c channel, s space. Functions are known by their names, which
are the same for torch's functions and for the methods of tensors.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

__all__ = ["acts_on_rows", "argument", "flat", "pattern_after", "pools", "reshaped"]

_POINTWISE = {
    *("relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "elu", "elu_", "selu", "selu_", "celu", "gelu", "silu", "mish"),
    *("softplus", "hardswish", "hardsigmoid", "hardtanh", "hardtanh_", "sigmoid", "sigmoid_", "tanh", "tanh_", "clamp"),
    *("clamp_", "abs", "square", "add", "add_", "__add__", "__radd__", "__iadd__", "sub", "__sub__", "mul", "mul_"),
    *("__mul__", "__rmul__", "__imul__", "div", "__truediv__", "clone", "contiguous", "detach", "to", "float", "double"),
    *("half", "bfloat16"),
}
_DROPOUT = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"}


_RESHAPES = {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "__getitem__"}
_ROW_BY_ROW = {"linear", "conv1d", "conv2d", "conv3d", *_POINTWISE, *_DROPOUT}


def reshaped(
    name: str, func: Any, counts: tuple[int, int], sizes: tuple[int, ...], rest: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[int, ...] | None:
    """The sizes behind the rows after a function that only reshapes what every row has; None for any other function.

    The sizes that a model passes to ``view`` or ``reshape`` may count the rows, as in ``x.view(x.size(0), -1)``, or the
    examples, as in ``x.view(batch, -1)``: each of the ``counts`` is tried on a tensor without values.
    """
    if name not in _RESHAPES or (name == "__getitem__" and not _takes_all(rest[0])):
        return None
    for count in counts:
        before = torch.empty(count, *sizes, device="meta")
        with suppress(RuntimeError, IndexError):
            after: Tensor = func(before, *rest, **kwargs)
            if after.shape[:1] == (count,) and after.numel() == before.numel():
                return tuple(after.shape[1:])
    return None


def _takes_all(index: Any) -> bool:
    """Whether an index is made of slices and numbers, which keep the order of what they take."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts)


def acts_on_rows(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a function of rows is known to act on every row by itself."""
    if name in ("softmax", "log_softmax"):
        dim = argument(args, kwargs, 1, "dim")
        return isinstance(dim, int) and dim % args[0].dim() > 0
    if name == "batch_norm":
        return not argument(args, kwargs, 5, "training", False)
    if name == "layer_norm":
        return bool(len(argument(args, kwargs, 1, "normalized_shape")) < args[0].dim())
    if name in ("permute", "transpose"):
        dims = [dim % args[0].dim() for dim in flat((*args[1:], *kwargs.values()))]
        return 0 not in dims if name == "transpose" else dims[0] == 0
    return name in _ROW_BY_ROW


def flat(values: Iterable[Any]) -> Iterable[Any]:
    """Arguments with those within tuples and lists."""
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from flat(value)
        else:
            yield value


def argument(rest: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str, default: Any = None) -> Any:
    """An argument of a function by its place behind the features, or its name."""
    return rest[place] if len(rest) > place else kwargs.get(name, default)


def _all(value: Any, wanted: int) -> bool:
    """Whether an int, or every entry of a tuple, is ``wanted``."""
    return all(entry == wanted for entry in (value if isinstance(value, (tuple, list)) else (value,)))


def pools(name: str, pattern: str, sides: tuple[int, ...], rest: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a function takes the mean over all positions; ``sides`` are those of the grid."""
    space = [i for i, kind in enumerate(pattern) if kind == "s"]
    if name == "mean" and kwargs.get("dtype") is None:
        dims = argument(rest, kwargs, 0, "dim")
        dims = (dims,) if isinstance(dims, int) else dims
        return dims is not None and sorted(d % len(pattern) for d in dims) == space
    if not pattern.startswith("nc") or not name.endswith(f"{len(space)}d"):
        return False
    if name.startswith("adaptive_avg_pool"):
        return _all(argument(rest, kwargs, 0, "output_size"), 1)
    if name.startswith("avg_pool"):
        kernel = argument(rest, kwargs, 0, "kernel_size")
        windows = tuple(kernel) if isinstance(kernel, (tuple, list)) else (kernel,) * len(space)
        plain = _all(argument(rest, kwargs, 2, "padding", 0), 0) and argument(rest, kwargs, 5, "divisor_override") is None
        return plain and windows == sides
    return False


def pattern_after(name: str, pattern: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The pattern after a function that acts on every position alone, or None for any other function."""
    if name in _DROPOUT:
        return None if argument(rest, kwargs, 1, "training", True) and argument(rest, kwargs, 0, "p", 0.5) else pattern
    if name in _POINTWISE:
        return None if any(isinstance(value, Tensor) for value in flat((*rest, *kwargs.values()))) else pattern
    if name == "batch_norm":
        return pattern if pattern.startswith("nc") and not argument(rest, kwargs, 4, "training", False) else None
    if name == "layer_norm":
        return pattern if pattern.endswith("c") and len(argument(rest, kwargs, 0, "normalized_shape")) == 1 else None
    if name == "linear":
        return pattern if pattern.endswith("c") else None
    if name in ("conv1d", "conv2d", "conv3d"):
        return pattern if _is_pointwise_convolution(pattern, rest, kwargs) else None
    if name in ("permute", "transpose"):
        return _permuted(name, pattern, rest, kwargs)
    if name == "flatten":
        return _flattened(pattern, rest, kwargs)
    return None


def _is_pointwise_convolution(pattern: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    weight = argument(rest, kwargs, 0, "weight")
    stride, padding = argument(rest, kwargs, 2, "stride", 1), argument(rest, kwargs, 3, "padding", 0)
    plain = _all(stride, 1) and (padding in ("valid", "same") or _all(padding, 0))
    return plain and len(pattern) == weight.dim() and pattern.startswith("nc") and _all(tuple(weight.shape[2:]), 1)


def _permuted(name: str, pattern: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The pattern after a permutation that leaves the positions in their order."""
    if kwargs and set(kwargs) != {"dims"}:
        return None
    dims = [d % len(pattern) for d in flat((*rest, *kwargs.values()))]
    if name == "transpose":
        one, other = dims
        dims = list(range(len(pattern)))
        dims[one], dims[other] = other, one
    space = [d for d in dims if pattern[d] == "s"]
    return "".join(pattern[d] for d in dims) if space == sorted(space) else None


def _flattened(pattern: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The pattern after all dimensions of space became one."""
    start = argument(rest, kwargs, 0, "start_dim", 0) % len(pattern)
    end = argument(rest, kwargs, 1, "end_dim", -1) % len(pattern)
    whole = pattern[start : end + 1] == "s" * pattern.count("s")
    return pattern[:start] + "s" + pattern[end + 1 :] if whole else None
