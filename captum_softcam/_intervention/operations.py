"""One table of what torch's functions do to the positions of a map, and functions that look things up in it.

Functions are known by name, because torch's functions, the methods of tensors and the operators share names: ``add``,
``add_`` and ``__iadd__`` are one operation. The closed form of masked copies, CAM, the tracker of dimensions and the search
for the head of a model read the same table.

A *pattern* names the dimensions of a map, such as ``ncss`` for (N, C, h, w): n for examples, c for channels, s for space.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "ACTIVATIONS",
    "DROPOUTS",
    "ELEMENTWISE",
    "FLATTENING",
    "LINEAR",
    "MADE_NEW",
    "READ",
    "acts_on_rows",
    "argument",
    "drops_at_random",
    "leaves",
    "moves_positions",
    "pattern_after",
    "pools",
    "positions_after",
    "reshaped",
    "spellings",
]


def spellings(*names: str) -> frozenset[str]:
    """Return the names of operations together with their spellings in place and as operators."""
    forms = ("{}", "{}_", "__{}__", "__i{}__", "__r{}__")
    return frozenset(form.format(name) for name in names for form in forms)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "celu": nn.CELU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "hardtanh": nn.Hardtanh,
    "leaky_relu": nn.LeakyReLU,
    "mish": nn.Mish,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
"""Activations of heads, which change every value by itself, and their modules."""

DROPOUTS: dict[str, type[nn.Module]] = {
    "alpha_dropout": nn.AlphaDropout,
    "dropout": nn.Dropout,
    "dropout1d": nn.Dropout1d,
    "dropout2d": nn.Dropout2d,
    "dropout3d": nn.Dropout3d,
    "feature_alpha_dropout": nn.FeatureAlphaDropout,
    "feature_dropout": nn.Dropout2d,
}
"""Functions that drop values at random in train mode, and their modules."""

FLATTENING = frozenset({"flatten", "reshape", "squeeze", "view"})
"""Functions that turn pooled features (N, C, 1, ...) into (N, C)."""

# By these very names: __float__ is the conversion to a number of Python.
_COPIES = {"bfloat16", "clone", "contiguous", "detach", "double", "float", "half", "to"}
# A number divided by features is not linear in them, and infinite where a mask leaves zeros.
_ARITHMETIC = spellings("add", "sub", "mul", "div", "truediv", "neg") - {"__rdiv__", "__rtruediv__"}
_POINTWISE = spellings(*ACTIVATIONS, "sigmoid", "clamp", "abs", "square") | _ARITHMETIC | _COPIES
_RESHAPES = {*FLATTENING, "unflatten", "unsqueeze", "__getitem__"}
_LAYERS = {"linear", "conv1d", "conv2d", "conv3d"}
_ROW_BY_ROW = _POINTWISE | _LAYERS | spellings(*DROPOUTS)

_JOINS = {"cat", "concat", "concatenate", "hstack", "stack", "mean", "sum"}
_PARTS = {"chunk", "flip", "index_select", "narrow", "roll", "select", "split", "unbind"}
_VIEWS = {"expand", "movedim", "permute", "repeat", "swapaxes", "t", "transpose"}
_CONSTANTS = {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}
_PRODUCTS = {"matmul", "__matmul__", "mm", "addmm", "einsum"}
LINEAR = (spellings(*DROPOUTS) | _COPIES | _ARITHMETIC | _RESHAPES | _LAYERS | {"batch_norm"}) | (
    _JOINS | _PARTS | _VIEWS | _CONSTANTS | _PRODUCTS
)
"""Functions that are linear in eval mode, up to a constant, unless they multiply features with features."""

_OTHERS = (
    "sigmoid clamp abs square add sub mul div truediv neg "
    "absolute acos add addcdiv addcmul alias and asin atan atan2 bitwise_and bitwise_not bitwise_or bitwise_xor bool "
    "ceil clip clamp_max clamp_min copy copysign cos cosh cpu cuda cumprod cumsum data deg2rad digamma divide eq erf "
    "erfc erfinv exp exp2 expm1 fake_quantize_per_channel_affine fake_quantize_per_tensor_affine fill float_power "
    "floor floor_divide floordiv fmax fmin fmod frac ge gt gumbel_softmax hardshrink heaviside hypot i0 int invert "
    "isfinite isinf isnan le lerp lgamma local_response_norm log log10 log1p log2 log_softmax logaddexp logcumsumexp "
    "logical_and logical_not logical_or logical_xor logit logsigmoid long lt masked_fill maximum minimum mod multiply "
    "nan_to_num ne negative normalize or polygamma pos positive pow prelu rad2deg real reciprocal remainder "
    "requires_grad round rrelu rsqrt rsub sgn sign signbit sin sinc sinh softmax softmin softshrink softsign "
    "special_xlogy sqrt subtract tan tanhshrink threshold true_divide trunc type type_as where xlogy xor zero "
    "_log_softmax _softmax"
)
ELEMENTWISE = {*ACTIVATIONS, *DROPOUTS, *_COPIES, *_OTHERS.split()}
"""Functions whose result has the dimensions of their arguments, whatever they compute along them."""


MADE_NEW = {f"new_{what}" for what in ("zeros", "ones", "full", "empty", "tensor")} | {
    f"{what}_like" for what in ("zeros", "ones", "full", "empty", "rand", "randn")
}
"""Functions that take nothing but shape, precision and device from a tensor."""

READ = {
    *("dim", "size", "numel", "nelement", "ndimension", "stride", "__len__", "is_contiguous", "is_floating_point"),
    *("is_complex", "is_same_size", "get_device", "element_size", "data_ptr", "storage_offset", "is_pinned", "is_inference"),
}
"""Functions that read no values: what they return does not change with the mask."""


def drops_at_random(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the call in words if a function drops values at random, else None."""
    name = name.removesuffix("_")
    if name in DROPOUTS:
        rate = argument(args, kwargs, 1, "p", 0.5)
        drops = rate and argument(args, kwargs, 2, "training", kwargs.get("train", True))
        return f"{name}(p={rate}, training=True)" if drops else None
    if name == "rrelu":
        return "rrelu(training=True)" if argument(args, kwargs, 3, "training", False) else None
    place = {"scaled_dot_product_attention": 4, "multi_head_attention_forward": 10}.get(name)
    if place is None or (name == "multi_head_attention_forward" and not kwargs.get("training", True)):
        return None
    rate = argument(args, kwargs, place, "dropout_p", 0.0)
    return f"{name}(dropout_p={rate})" if rate else None


def leaves(value: Any) -> Iterator[Any]:
    """Yield everything that is nested in dictionaries, tuples and lists, in the order of ``call.map_tensors``.

    Unlike ``torch.utils._pytree.tree_leaves``, it looks into subclasses of ``dict`` that are not registered there.
    """
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list)):
        yield value
        return
    for part in value:
        if isinstance(part, (dict, tuple, list)):
            yield from leaves(part)
        else:
            yield part  # without a generator of its own: the tracker asks for the leaves of every call


def argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str, default: Any = None) -> Any:
    """Return an argument of a function by its place or its name."""
    return args[place] if len(args) > place else kwargs.get(name, default)


def reshaped(
    name: str, func: Any, counts: tuple[int, int], sizes: tuple[int, ...], rest: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[int, ...] | None:
    """Return the sizes of every row after a function that only reshapes rows, None for any other function.

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
    """Return whether an index consists of slices and numbers, which keep the order of what they pick."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts)


def acts_on_rows(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a function of rows is known to act on every row by itself."""
    if name in ("softmax", "log_softmax"):
        dim = argument(args, kwargs, 1, "dim")
        return isinstance(dim, int) and dim % args[0].dim() > 0
    # In eval mode, with the running statistics
    if name == "batch_norm":
        return not argument(args, kwargs, 5, "training", False)
    if name == "layer_norm":
        return bool(len(argument(args, kwargs, 1, "normalized_shape")) < args[0].dim())
    if name in ("permute", "transpose"):
        dims = [dim % args[0].dim() for dim in leaves((args[1:], kwargs))]
        return 0 not in dims if name == "transpose" else dims[0] == 0
    return name in _ROW_BY_ROW


def pools(name: str, pattern: str, sides: tuple[int, ...], rest: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a function takes the mean over all positions of a grid with these sides.

    Args:
        name (str): of the function.
        pattern (str): of its first argument.
        sides (tuple of int): of the grid.
        rest (tuple): further arguments of the function.
        kwargs (dict): its keyword arguments.
    """
    space = [i for i, kind in enumerate(pattern) if kind == "s"]
    # A mean in another precision is left to the model
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
        # Padding would count zeros, and a divisor of its own would scale the mean
        plain = _all(argument(rest, kwargs, 2, "padding", 0), 0) and argument(rest, kwargs, 5, "divisor_override") is None
        # A window beyond the grid is cut off at its border, and the mean is that of the grid
        return plain and all(window >= side for window, side in zip(windows, sides, strict=True))
    return False


def _all(value: Any, wanted: int) -> bool:
    return all(entry == wanted for entry in leaves(value))


def pattern_after(name: str, pattern: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the pattern after a function that acts on every position alone, None for any other function.

    Args:
        name (str): of the function.
        pattern (str): of its first argument.
        rest (tuple): further arguments of the function.
        kwargs (dict): its keyword arguments.
    """
    if name in DROPOUTS:
        return None if drops_at_random(name, (None, *rest), kwargs) else pattern
    if name in _POINTWISE:  # with another tensor, a value would depend on the position where it is combined
        return None if any(isinstance(value, Tensor) for value in leaves((rest, kwargs))) else pattern
    if name == "batch_norm":
        return pattern if pattern.startswith("nc") and not argument(rest, kwargs, 4, "training", False) else None
    # Over the channels alone: over the positions, too, it would mix them
    if name == "layer_norm":
        return pattern if pattern.endswith("c") and len(argument(rest, kwargs, 0, "normalized_shape")) == 1 else None
    if name == "linear":
        return pattern if pattern.endswith("c") else None
    if name in ("conv1d", "conv2d", "conv3d"):
        return pattern if _is_pointwise_convolution(pattern, rest, kwargs) else None
    if name in ("permute", "transpose"):
        return _permuted(name, pattern, rest, kwargs)
    return _flattened(pattern, rest, kwargs) if name == "flatten" else None


def _is_pointwise_convolution(pattern: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    weight = argument(rest, kwargs, 0, "weight")
    stride, padding = argument(rest, kwargs, 2, "stride", 1), argument(rest, kwargs, 3, "padding", 0)
    plain = _all(stride, 1) and (padding in ("valid", "same") or _all(padding, 0))
    return plain and len(pattern) == weight.dim() and pattern.startswith("nc") and _all(tuple(weight.shape[2:]), 1)


def _permuted(name: str, pattern: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the pattern after a permutation that leaves the positions in their order, None for any other."""
    if kwargs and set(kwargs) != {"dims"}:
        return None
    dims = [d % len(pattern) for d in leaves((rest, kwargs))]
    if name == "transpose":
        one, other = dims
        dims = list(range(len(pattern)))
        dims[one], dims[other] = other, one
    # A transposed grid would have its positions in another order
    space = [d for d in dims if pattern[d] == "s"]
    return "".join(pattern[d] for d in dims) if space == sorted(space) else None


def _flattened(pattern: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the pattern after all dimensions of space became one, None if other dimensions were flattened."""
    start = argument(rest, kwargs, 0, "start_dim", 0) % len(pattern)
    end = argument(rest, kwargs, 1, "end_dim", -1) % len(pattern)
    whole = pattern[start : end + 1] == "s" * pattern.count("s")
    return pattern[:start] + "s" + pattern[end + 1 :] if whole else None


def moves_positions(name: str) -> bool:
    """Return whether a function may put the positions of a map into a row or a grid, or drop some of them."""
    return name in ("flatten", "reshape", "unflatten", "view", "__getitem__")


def positions_after(
    name: str, pattern: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], prefix: int, rest: tuple[Any, ...]
) -> tuple[str, int] | None:
    """Return the pattern and the number of prefix tokens after a function that keeps all positions in their order.

    Args:
        name (str): of the function, which :func:`moves_positions`.
        pattern (str): of its first argument.
        shapes (tuple): of its first argument and of its result.
        prefix (int): tokens before those of the grid.
        rest (tuple): further arguments of the function.

    Returns:
        tuple or None: None if positions were dropped or mixed with channels.
    """
    before, after = shapes
    if name == "__getitem__":
        return _without_prefix(pattern, before, prefix, rest[0])
    last = pattern.endswith("c")
    if prefix or len(after) < 3 or pattern[0] != "n" or not (last or pattern[1] == "c"):
        return None
    # With the same examples and channels, the rest are the positions, in their order
    channel = -1 if last else 1
    if (after[0], after[channel]) != (before[0], before[channel]):
        return None
    space = "s" * (len(after) - 2)
    return (f"n{space}c" if last else f"nc{space}"), 0


def _without_prefix(pattern: str, shape: tuple[int, ...], prefix: int, index: Any) -> tuple[str, int] | None:
    """Return the pattern after a slice of all positions of the grid, with the prefix tokens or without; None for others."""
    parts = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(part, slice) for part in parts) or len(parts) > len(shape):
        return None
    bounds = [part.indices(size) for part, size in zip(parts, shape, strict=False)]
    cut = [place for place, (size, bound) in enumerate(zip(shape, bounds, strict=False)) if bound != (0, size, 1)]
    if not cut:
        return pattern, prefix
    (place, *others) = cut
    drops = prefix and pattern[place] == "s" and not others and bounds[place] == (prefix, shape[place], 1)
    return (pattern, 0) if drops else None
