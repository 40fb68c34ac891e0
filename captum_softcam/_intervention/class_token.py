"""Follow the tokens of a transformer through its last attention, for every masked copy at once.

:class:`TokenTail` watches the functions that a model calls on the features of a layer in one ordinary forward, and computes
beside each result what it would be for every masked copy (``token_copies``). That costs one softmax and one weighted sum per
copy, and the rest of the model for the class token alone, because keys and values of a token depend on nothing but the
weight that the mask gives it.

It follows what functions do, not how modules are called: attention in one function or step by step, with one linear map or
three, with normalised queries, biases by relative position or rotations, from a class token or a learned query. A result
that it cannot follow is marked as unknown, and so is all that is computed from it. Whoever uses the result has to compare a
masked copy with the model's own (``closed_form`` does): nothing here is proof.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_softcam._intervention.layout import FeatureLayout
from captum_softcam._intervention.masks import PositionMask
from captum_softcam._intervention.operations import ELEMENTWISE, MADE_NEW, READ, argument, leaves, spellings
from captum_softcam._intervention.token_copies import (
    Copies,
    Masks,
    NotEnoughTokens,
    NotFollowed,
    apply,
    attend,
    changed,
    join,
    mask_keys,
    picked,
    pool,
    rearranged,
    reshaped,
    score,
)

__all__ = ["TokenTail"]

# Functions that combine or change values at equal places, unless they also compute along a dimension.
_ALONG = {"softmax": 1, "_softmax": 1, "log_softmax": 1, "_log_softmax": 1, "normalize": 2}
_UNUSED = "cumprod cumsum gumbel_softmax local_response_norm logcumsumexp softmin"
_CASTS = {"to", "type_as"}
_AT_EQUAL_PLACES = spellings(*ELEMENTWISE) - spellings(*_ALONG, *_UNUSED.split())
_MOVES = {
    *("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "mT", "T", "t", "adjoint", "mH", "H"),
    *("unsqueeze", "squeeze", "sum", "amax", "amin", "norm", "linalg_norm", "linalg_vector_norm", "var", "std", "glu"),
}
_SHAPES = {"flatten", "unflatten", "reshape", "view", "view_as", "reshape_as", "expand", "expand_as", "broadcast_to"}


class TokenTail(TorchFunctionMode):
    """Follows the tokens of every masked copy through the functions that a model calls on them.

    Args:
        examples (int): number of examples.
        known (int): prefix tokens that are followed behind the attention; None for all if they are few, else one.

    Attributes:
        short: whether the model has read more prefix tokens than were followed.
        prefix: number of prefix tokens.
    """

    def __init__(self, examples: int, known: int | None = None) -> None:
        super().__init__()
        self.short, self.prefix = False, 0
        self._read = False
        self._examples, self._asked, self._first = examples, known, 1
        self._known: dict[int, tuple[weakref.ref[Tensor], Copies | None]] = {}
        self._masks = Masks(torch.ones(1, 0), False, examples)

    def start(self, features: Tensor, layout: FeatureLayout, mask: PositionMask) -> None:
        """Follow the features that the layer has just returned, and no others.

        Args:
            features (Tensor): tokens (N, L, C) or (N, C, L); maps of several dimensions are not followed.
            layout (FeatureLayout): of the features.
            mask (PositionMask): that makes the copies, with one kernel for all channels.
        """
        self._known.clear()
        self._read = False
        if features.dim() != 3:
            return
        grid = layout.grid or (features.shape[1 if layout.channels_last else 2],)
        positions = torch.arange(torch.Size(grid).numel(), device=features.device)
        weights = mask.on(grid, positions).flatten(1)
        none, untouched = torch.zeros_like(weights[:1]), torch.ones_like(weights[:1])
        self._masks = Masks(torch.cat((weights, none, untouched)), mask.spread, self._examples)
        place, prefix = (-2 if layout.channels_last else -1), layout.prefix_tokens
        self.prefix = prefix
        self._first = self._asked or (prefix if prefix <= 2 else 1)
        own = features.clone()  # the model may write into them
        tokens = own.narrow(place, prefix, len(positions))
        zeros = tokens.new_zeros(1, 1, 1).expand(tokens.shape)  # one token, as long as nothing tells them apart
        field = {1.0: tokens, 0.0: zeros, **{w: tokens * w for w in mask.weights if w != 1}}
        self._store(features, Copies({"n": -3, "split": place}, own.narrow(place, 0, prefix), field))

    def result(self, result: Any) -> Tensor | None:
        """Return the scores of all copies, those of an example in a row, none kept and untouched last; None if unknown."""
        copies = self._find(result) if isinstance(result, Tensor) else None
        if self._read or copies is None or set(copies.roles) != {"n"} or copies.roles["n"] != -copies.rows.dim():
            return None
        return copies.rows if self._masks.has_copies(copies.rows, copies.roles["n"]) else None

    def _find(self, value: Tensor) -> Copies | None:
        known = self._known.get(id(value))
        return known[1] if known is not None and known[0]() is value else None

    def _is_known(self, value: Any) -> bool:
        known = self._known.get(id(value))
        return known is not None and known[0]() is value

    def _store(self, result: Any, copies: Any) -> None:
        if isinstance(result, Tensor):
            key = id(result)
            # Without the callback, the copies would live as long as the forward
            ref = weakref.ref(result, lambda _: self._known.pop(key, None))
            self._known[key] = (ref, copies if isinstance(copies, Copies) else None)
        elif isinstance(result, (tuple, list)):
            given = copies if isinstance(copies, list) and len(copies) == len(result) else [None] * len(result)
            for value, each in zip(result, given, strict=True):
                self._store(value, each)
        elif isinstance(result, dict):
            self._store(list(result.values()), None)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function and follow its result; torch calls this for every function while the mode is on."""
        kwargs = kwargs or {}
        name = func.__name__
        if name == "__get__":
            name = func.__self__.__name__  # of a property such as x.T or x.shape
        # The other arguments of these functions determine no more than the precision
        read = args[:1] if name in _CASTS else (args, kwargs)
        if name in READ or name in MADE_NEW or not any(self._is_known(value) for value in leaves(read)):
            return func(*args, **kwargs)
        copies = self._followed(name, func, args, kwargs)  # first, because the function may write into its arguments
        result = func(*args, **kwargs)
        if name == "__setitem__":
            self._store(args[0], None)
        elif func.__name__ == "__get__" and not isinstance(result, Tensor):
            return result  # an attribute such as shape or dtype
        # A number that Python reads is that of the example, and may be another one for a copy
        self._read |= not all(value is None or isinstance(value, Tensor) for value in leaves(result))
        self._store(result, copies)
        return result

    def _followed(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """Return the copies of the result of a function, None if they are not known."""
        try:
            args, kwargs = changed(self._seen, tuple(args)), changed(self._seen, kwargs)
            return self._do(name, func, args, kwargs)
        except NotEnoughTokens:
            self.short = True
        except Exception:  # a call in a form that no rule covers: unknown, not wrong
            pass
        return None

    def _seen(self, value: Any) -> Any:
        """Return the copies of a tensor of the model; the tensor itself if it does not come from the layer."""
        if not isinstance(value, Tensor) or not self._is_known(value):
            return value
        copies = self._find(value)
        if copies is None:
            raise NotFollowed
        return copies

    def _do(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the copies of the result of a function."""
        first, rest = (args[0] if args else None), args[1:]
        if "out" in kwargs:
            raise NotFollowed
        if name in _CASTS:
            rest = changed(lambda value: value.rows if isinstance(value, Copies) else value, rest)
            return self._parts(func, (first, *rest), kwargs)
        if name in _AT_EQUAL_PLACES:
            in_place = name.endswith("_") and (not name.endswith("__") or name.startswith("__i"))
            return apply(_without_writing(func) if in_place else func, args, kwargs, self._masks)
        if name in _RULES:
            return _RULES[name](self, func, args, kwargs)
        if not isinstance(first, Copies):
            raise NotFollowed
        if name in _MOVES:
            return rearranged(func, first, rest, kwargs, self._examples)
        if name in _SHAPES:
            rest = changed(
                lambda value: torch.empty(value.shape(self._examples)) if isinstance(value, Copies) else value, rest
            )
            with suppress(RuntimeError, ValueError):
                return rearranged(func, first, rest, kwargs, self._examples)  # sizes that do not name tokens or examples
            shape = func(torch.empty(first.shape(self._examples), device="meta"), *rest, **kwargs).shape
            return self._shaped(name, list(shape), first)
        raise NotFollowed

    def _shaped(self, name: str, shape: list[int], copies: Copies) -> Copies:
        if not name.startswith(("expand", "broadcast")):
            return reshaped(shape, copies, self._examples)

        def expand(part: Tensor) -> Tensor:
            sizes = [
                part.shape[i - len(shape)] if i - len(shape) in copies.roles.values() else s for i, s in enumerate(shape)
            ]
            return part.expand(sizes)

        return copies.parts(expand, copies.roles)

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return the result of a function of copies, or of tensors alone."""
        known = any(isinstance(value, Copies) for value in leaves((args, kwargs)))
        return self._do(func.__name__, func, args, kwargs) if known else func(*args, **kwargs)

    # ---- rules for functions that act along dimensions

    def _last(self, func: Any, args: Any, kwargs: Any) -> Copies:
        """Linear maps and normalisations of the last dimensions."""
        name, copies = func.__name__, args[0]
        count = 1 if name == "linear" else len(argument(args, kwargs, 1, "normalized_shape"))
        if not isinstance(copies, Copies) or any(place >= -count for place in copies.roles.values()):
            raise NotFollowed
        return copies.parts(lambda part: _once(func, part, args[1:], kwargs, list(copies.roles.values())), copies.roles)

    def _batch_norm(self, func: Any, args: Any, kwargs: Any) -> Copies:
        copies = args[0]
        if argument(args, kwargs, 5, "training", False) or 1 - copies.rows.dim() in copies.roles.values():
            raise NotFollowed
        return self._parts(func, args, kwargs)

    def _parts(self, func: Any, args: Any, kwargs: Any) -> Copies:
        copies: Copies = args[0]
        return copies.parts(lambda part: func(part, *args[1:], **kwargs), copies.roles)

    def _softmax(self, func: Any, args: Any, kwargs: Any) -> Copies:
        copies, name = args[0], func.__name__
        dim = argument(args, kwargs, _ALONG[name], "dim", 1 if name == "normalize" else None)
        place = dim if dim < 0 else dim - copies.rows.dim()
        if place == copies.roles.get("split") and name != "normalize":
            copies = mask_keys(copies, self._masks)
        elif place in copies.roles.values():
            raise NotFollowed
        return self._parts(func, (copies, *args[1:]), kwargs)

    def _mean(self, func: Any, args: Any, kwargs: Any) -> Copies:
        copies, dim = args[0], argument(args, kwargs, 1, "dim", kwargs.get("axis"))
        (place,) = dim if isinstance(dim, (tuple, list)) else (dim,)
        if place % copies.rows.dim() - copies.rows.dim() != copies.roles.get("split") or kwargs.get("dtype"):
            return rearranged(func, copies, args[1:], kwargs, self._examples)
        mean = pool(copies, self._masks)
        return mean if argument(args, kwargs, 2, "keepdim", False) else self.call(torch.squeeze, mean, place)

    def _index(self, _func: Any, args: Any, _kwargs: Any) -> Any:
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return picked(args[0], index, self._masks)

    def _pieces(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Functions that cut a dimension into pieces, or take one piece of it."""
        copies, name = args[0], func.__name__
        shape = copies.shape(self._examples)
        dim = argument(args, kwargs, 1 if name in ("unbind", "select", "narrow") else 2, "dim", 0) % len(shape)
        index = (slice(None),) * dim
        if name == "select":
            return picked(copies, (*index, argument(args, kwargs, 2, "index")), self._masks)
        if name == "unbind":
            return [picked(copies, (*index, i), self._masks) for i in range(shape[dim])]
        if name == "narrow":
            start = argument(args, kwargs, 2, "start")
            stop = start + argument(args, kwargs, 3, "length")
            return picked(copies, (*index, slice(start, stop)), self._masks)
        found, start = [], 0
        for part in func(torch.empty(shape, device="meta"), *args[1:], **kwargs):
            found.append(picked(copies, (*index, slice(start, start + part.shape[dim])), self._masks))
            start += part.shape[dim]
        return found

    def _cat(self, func: Any, args: Any, kwargs: Any) -> Copies:
        values, dim = list(args[0]), argument(args, kwargs, 1, "dim", kwargs.get("axis", 0))
        dims = next(value.rows.dim() for value in values if isinstance(value, Copies))
        if func.__name__ == "stack":
            dim, dims = dim % (dims + 1), dims + 1
            values = [self.call(torch.unsqueeze, value, dim) for value in values]
        return join(values, dim % dims - dims, self._masks)

    def _matmul(self, func: Any, args: Any, _kwargs: Any) -> Copies:
        one, other = args if not func.__name__.startswith("__r") else args[::-1]
        if isinstance(other, Copies) and other.roles.get("split") == -1:
            return score(one, other, self._first, self._masks)
        if isinstance(one, Copies) and isinstance(other, Copies):
            return attend(one, other, self._masks)
        if isinstance(one, Copies) and other.dim() == 2 and -1 not in one.roles.values():
            return one.parts(lambda part: part @ other, one.roles)
        raise NotFollowed

    def _attention(self, _func: Any, args: Any, kwargs: Any) -> Copies:
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if given.get("is_causal") or given.get("enable_gqa") or given.get("dropout_p"):
            raise NotFollowed
        query, key, bias = given["query"], given["key"], given.get("attn_mask")
        scale = given.get("scale") or (key.rows if isinstance(key, Copies) else key).shape[-1] ** -0.5
        scores = self.call(torch.mul, self.call(torch.matmul, query, self.call(torch.transpose, key, -2, -1)), scale)
        if isinstance(bias, Tensor):
            scores = (
                self.call(torch.where, bias, scores, -torch.inf)
                if bias.dtype == torch.bool
                else self.call(torch.add, scores, bias)
            )
        return self.call(torch.matmul, self.call(torch.softmax, scores, -1), given["value"])  # type: ignore[no-any-return]

    def _multi_head(self, _func: Any, args: Any, kwargs: Any) -> Any:
        """Attention of torch.nn: (L, N, C), with one weight for queries, keys and values."""
        names = (
            "query key value embed_dim_to_check num_heads in_proj_weight in_proj_bias bias_k bias_v add_zero_attn dropout_p "
            "out_proj_weight out_proj_bias training key_padding_mask need_weights attn_mask use_separate_proj_weight"
        )
        given = {**dict(zip(names.split(), args, strict=False)), **kwargs}
        unused = (
            "bias_k bias_v add_zero_attn key_padding_mask attn_mask use_separate_proj_weight static_k static_v is_causal"
        )
        if any(given.get(name) is not None and given.get(name) is not False for name in unused.split()):
            raise NotFollowed
        biases = [None] * 3 if given["in_proj_bias"] is None else given["in_proj_bias"].chunk(3)
        parts = []
        for value, weight, bias in zip(args[:3], given["in_proj_weight"].chunk(3), biases, strict=True):
            mapped = self.call(F.linear, value, weight, bias)
            parts.append(
                self.call(torch.permute, self.call(torch.unflatten, mapped, -1, (given["num_heads"], -1)), (1, 2, 0, 3))
            )
        read = self.call(F.scaled_dot_product_attention, *parts)
        read = self.call(torch.flatten, self.call(torch.permute, read, (2, 0, 1, 3)), 2)
        return [self.call(F.linear, read, given["out_proj_weight"], given["out_proj_bias"]), None]


def _once(func: Callable[..., Any], part: Tensor, rest: Any, kwargs: Any, places: list[int]) -> Tensor:
    """Return the result of a function of tokens; of tokens that are all the same, as zeros are, it is computed once."""
    sizes = [part.shape[place] for place in places]
    if any(size != 1 and part.stride(place) for place, size in zip(places, sizes, strict=True)) or not part.numel():
        return func(part, *rest, **kwargs)  # type: ignore[no-any-return]  # a function of torch
    for place in places:
        part = part.narrow(place, 0, 1)
    result: Tensor = func(part, *rest, **kwargs)
    return result.expand([dict(zip(places, sizes, strict=True)).get(i - part.dim(), s) for i, s in enumerate(result.shape)])


def _without_writing(func: Callable[..., Any]) -> Callable[..., Any]:
    return lambda value, *rest, **kwargs: func(value.clone(), *rest, **kwargs)


_RULES: dict[str, Callable[[TokenTail, Any, Any, Any], Any]] = {
    **dict.fromkeys(("linear", "layer_norm", "rms_norm"), TokenTail._last),
    **dict.fromkeys(_ALONG, TokenTail._softmax),
    **dict.fromkeys(("matmul", "bmm", "__matmul__", "__rmatmul__"), TokenTail._matmul),
    **dict.fromkeys(("unbind", "select", "narrow", "chunk", "split", "split_with_sizes", "tensor_split"), TokenTail._pieces),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), TokenTail._cat),
    "mean": TokenTail._mean,
    "__getitem__": TokenTail._index,
    "batch_norm": TokenTail._batch_norm,
    "scaled_dot_product_attention": TokenTail._attention,
    "multi_head_attention_forward": TokenTail._multi_head,
}
