"""Scores of masked copies that need not be built: pointwise -> global pooling -> head, or attention read at one token.

:func:`observe_copies` watches the functions that a model calls on the features of a layer in one ordinary forward:

1. As long as they act on every position alone, all masked copies follow from one map per weight of the mask, because a
   position depends on nothing but its own features and the weight that the mask gives them.
2. Where the positions come together, in a global pooling, the pooled copies replace the examples: N*(P+2) rows instead of N.
   The last rows of every example are a copy that keeps no position, and the example itself.
3. The rest of the model runs on these rows.

This is exact, and costs a forward and the head of the model on the rows. Where an attention reads the positions instead,
``class_token`` computes the rows beside the forward; the model's own scores of one masked copy per example confirm them.

Functions are recognised by name. What an unknown one makes of the features is unknown, and so is all that is computed from
it, such as the maps of a decoder or a pooled output that nobody reads; where rows meet something unknown, the forward is
broken off and repeated. Three checks guard against wrong maps. The step that makes the rows is compared with the result of
the model's own function. Where the head contains functions that might mix rows, the model runs once more, and the rows of
the examples must have its scores. And where the features are also read by unknown functions, so must a masked copy.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_softcam._intervention.call import Call
from captum_softcam._intervention.class_token import TokenTail
from captum_softcam._intervention.forward import Trace, agree, largest, observe, refuse_random
from captum_softcam._intervention.layout import FeatureLayout
from captum_softcam._intervention.masks import PositionMask, make_mask
from captum_softcam._intervention.operations import (
    READ,
    acts_on_rows,
    drops_at_random,
    leaves,
    moves_positions,
    pattern_after,
    pools,
    positions_after,
    reshaped,
)
from captum_softcam._intervention.replay import resume
from captum_softcam._intervention.targets import relative_to
from captum_softcam._scores import rounding

__all__ = ["Choice", "Rows", "observe_copies"]

_TOKENS = (nn.LayerNorm, nn.MultiheadAttention, nn.Embedding, nn.EmbeddingBag, nn.RNNBase)


class Choice(Protocol):
    """Selects scores (P, R) from scores (P, K) of the copies of example ``row``, or the columns that it would select."""

    def __call__(self, scores: Tensor, row: int, /) -> Tensor: ...
    def columns(self, classes: int, row: int, /) -> list[int]: ...


@dataclass(frozen=True)
class _Pending:
    """A linear layer of the rows that is not computed until something reads its output.

    Maps of one class need a single column of a classifier, which may have thousands of them.
    ``output`` has the shape and precision of the result, and no memory of its own.
    """

    output: Tensor
    inputs: Tensor
    weight: Tensor
    bias: Tensor | None = None

    def columns(self, rows: Tensor, columns: list[int]) -> Tensor:
        weight, bias = self.weight, self.bias
        if len(columns) < len(weight):
            weight, bias = weight[columns], None if bias is None else bias[columns]
        cast = [None if value is None else value.to(self.output.dtype) for value in (rows, weight, bias)]
        return F.linear(*cast)  # type: ignore[arg-type]  # two tensors, and a third or None

    def differences(self, count: int) -> _Pending:
        """Return the layer for the differences between the P copies of each example and the one that keeps no position."""
        rows = self.inputs.unflatten(0, (count, -1))
        return replace(self, inputs=(rows[:, :-2] - rows[:, -2:-1]).flatten(0, 1), bias=None)

    def compute(self) -> None:
        """Fill the output in place, because the model holds this very tensor."""
        output = self.columns(self.inputs, list(range(len(self.weight))))
        self.output.set_(output)  # type: ignore[call-overload]  # a tensor will do


@dataclass(frozen=True)
class Rows:
    """The result of the model for all masked copies, or the reason why there is none.

    Args:
        obstacle (str): the function that could not be followed; empty if all could. Default: ""
        head (tuple of str): the functions that were called on the pooled copies. Default: ()
        layout (FeatureLayout): of the features. Default: None
        result (Tensor): one row per copy, the copies of an example in a row; None if there is no short way. Default: None
    """

    obstacle: str = ""
    head: tuple[str, ...] = ()
    layout: FeatureLayout | None = None
    result: Tensor | None = None
    _pending: _Pending | None = None  # computes the result where it is not computed yet

    @property
    def found(self) -> bool:
        """Whether there is a row per copy."""
        return self.result is not None

    def scores(self, count: int, choose: Choice) -> list[Tensor]:
        """Return the scores (P + 2, R) of the copies of ``count`` examples; the last are those of no position and of all.

        If the last function of the model is a linear layer, only the selected columns are computed.
        """
        assert self.result is not None
        if self._pending is not None:
            return _of_linear(self._pending, count, choose)
        return [choose(scores, row) for row, scores in enumerate(self.result.unflatten(0, (count, -1)))]

    def differences(self, count: int, choose: Choice) -> list[Tensor]:
        """Return the scores (P, R) of the copies of ``count`` examples, less that of the copy that keeps no position."""
        if self._pending is not None:
            # Subtracted before the linear layer, so that a large bias does not round the differences away
            return _of_linear(self._pending.differences(count), count, choose)
        return [relative_to(scores[-2:-1], scores[:-2]) for scores in self.scores(count, choose)]


def _of_linear(layer: _Pending, count: int, choose: Choice) -> list[Tensor]:
    """Return the chosen outputs of a linear layer for the rows of ``count`` examples."""
    columns = [choose.columns(len(layer.weight), row) for row in range(count)]
    if all(each == columns[0] for each in columns):  # one product is faster than many
        return list(layer.columns(layer.inputs, columns[0]).unflatten(0, (count, -1)))
    inputs = layer.inputs.unflatten(0, (count, -1))
    return [layer.columns(rows, each) for rows, each in zip(inputs, columns, strict=True)]


def observe_copies(
    call: Call,
    layer: nn.Module,
    mask: str | Tensor | None,
    layout: FeatureLayout | None,
    *,
    at_input: bool = False,
    tokens: int | None = None,
) -> tuple[Trace, Rows]:
    """Run the model and, if there is a short way, get the result for all masked copies from that one run.

    Args:
        call (Call): the model with its arguments.
        layer (torch.nn.Module): of that model.
        mask (str, Tensor or None): makes the copies of each example. With None, their rows are the positions themselves,
            each pooled alone, and a zero vector for the copy that keeps none.
        layout (FeatureLayout or None): of the layer's features; None to determine it.
        at_input (bool): whether the layer's input is masked. Default: False
        tokens (int): prefix tokens to follow through an attention. Default: None, as many as models usually read

    Raises:
        TypeError, ValueError: as :func:`~captum_softcam._intervention.forward.observe` does.
    """
    # Following every dimension costs a few percent of a forward. Without modules that put the channels last, channels first
    # is assumed until the positions come together: every function that is followed has to act on such a map, and the
    # pooling on its positions. Otherwise nothing was followed, and a second run determines the layout.
    tracked = layout is None and _may_have_tokens(call.model)
    shortcut = _Shortcut(mask, None if tracked else layout or FeatureLayout(), call.count, tokens)
    rows = None
    try:
        with shortcut, shortcut.tokens:
            stored = mask is not None and (tracked or layout is not None)
            trace = observe(call, layer, at_input=at_input, follow=shortcut.start, tracked=tracked, stored=stored)
        refuse_random(shortcut.random)
        if not shortcut.found and (tracked or layout):
            if shortcut.tokens.short and tokens is None:
                prefix = shortcut.tokens.prefix
                return observe_copies(call, layer, mask, layout, at_input=at_input, tokens=prefix)
            return trace, _read_by_attention(shortcut, trace, call, layer, at_input)
        rows = shortcut.rows(trace.result)
    except Exception as error:
        if not shortcut.found:
            raise
        shortcut.obstacle = shortcut.obstacle or str(error)  # a head may refuse N*(P+2) rows in any words
    if rows is None or rows.result is None:
        plain = observe(call, layer, at_input=at_input, tracked=layout is None)
        other = None if tracked or layout else _other_layout(plain)
        if other is not None:  # channels first was assumed
            again = observe_copies(call, layer, mask, other, at_input=at_input, tokens=tokens)
            return again if again[1].found else (plain, again[1])
        return plain, Rows(shortcut.obstacle)
    if shortcut.mixing or shortcut.aside:
        plain = observe(call, layer, at_input=at_input, tracked=layout is None, stored=True)
        examples = rows.result.unflatten(0, (call.count, -1))
        if not agree(examples[:, -1], plain.result, plain):
            return plain, Rows(", ".join(dict.fromkeys(rows.head)))
        if shortcut.aside and not _has_a_masked_copy(examples, shortcut, plain, call, layer, at_input):
            return plain, Rows(shortcut.obstacle)
    return trace, rows


def _read_by_attention(shortcut: _Shortcut, trace: Trace, call: Call, layer: nn.Module, at_input: bool) -> Rows:
    """Return the scores of copies whose tokens were followed, if the model itself gives one copy per example the same."""
    unknown = Rows(shortcut.obstacle)
    result = shortcut.tokens.result(trace.result)
    if result is None or trace.before is None:
        return unknown
    examples = result.unflatten(0, (call.count, -1))
    right = agree(examples[:, -1], trace.result, trace) and _has_a_masked_copy(
        examples, shortcut, trace, call, layer, at_input
    )
    return Rows("", (), shortcut.layout, result) if right else unknown


def _has_a_masked_copy(
    examples: Tensor, shortcut: _Shortcut, trace: Trace, call: Call, layer: nn.Module, at_input: bool
) -> bool:
    """Return whether the model itself gives one masked copy of every example the score (N, P + 2, K) that was found."""
    if shortcut.masks_nothing:
        return observe_copies(call, layer, "one_hot", shortcut.layout, at_input=at_input)[1].found
    # A position per example, the first of them not on the diagonal of a square grid
    positions = [(row + examples.shape[1] // 3) % (examples.shape[1] - 2) for row in range(call.count)]
    masked = resume(call, layer, trace, shortcut.masked(trace.features, positions), at_input=at_input)
    return agree(masked, examples[range(call.count), positions], trace)


def _other_layout(trace: Trace) -> FeatureLayout | None:
    """Return the layout of the features if their channels are not first."""
    with suppress(ValueError):
        layout = trace.layout(trace.features)
        return None if layout == FeatureLayout() else layout
    return None


def _may_have_tokens(model: object) -> bool:
    parts = model.modules() if isinstance(model, nn.Module) else [model]
    return any(isinstance(part, _TOKENS) or not isinstance(part, nn.Module) for part in parts)


class _Lost(RuntimeError):
    """Raised within the model where rows have replaced the examples and cannot be followed further."""


@dataclass(frozen=True)
class _Map:
    """Features that are followed, in dimensions that ``pattern`` names: n example, c channel, s space.

    ``variants`` are the same features had the layer's features been weighted, by weight. Those for weight 0 have a single
    position and a single example, because zeros are the same everywhere. The first ``prefix`` positions are other tokens.
    """

    plain: Tensor
    pattern: str
    variants: dict[float, Tensor]
    prefix: int


@dataclass(frozen=True)
class _Row:
    """A tensor that was computed from the pooled copies."""

    plain: Tensor


class _Shortcut(TorchFunctionMode):
    """Follows the features of a layer through the functions that a model calls on them.

    Args:
        mask (str, Tensor or None): that makes the copies.
        layout (FeatureLayout or None): of the features; None to ask the trace.
        examples (int): number of examples.
        tokens (int): prefix tokens to follow through an attention. Default: None

    Attributes:
        tokens: follows the features through an attention.
        layout: of the features.
        found: whether rows have replaced the examples.
        mixing: whether a function of the rows is not known to act on each row by itself.
        aside: whether functions that could not be followed have read the features.
        obstacle: the function that could not be followed.
        random: the first function that drops values at random, in words.
    """

    def __init__(
        self, mask: str | Tensor | None, layout: FeatureLayout | None, examples: int, tokens: int | None = None
    ) -> None:
        super().__init__()
        self.tokens = TokenTail(examples, tokens)
        self.layout: FeatureLayout | None = None
        self._asked = mask, layout
        self._examples = examples
        self._known: dict[int, _Map | _Row] = {}  # by id: each value holds its tensor, so no id is used twice
        self._written: dict[int, int] = {}  # by id of a map: how often a function has written into it
        self._unknown: dict[int, tuple[weakref.ref[Tensor], str]] = {}  # by id: the function that could not be followed
        self._mask: PositionMask | None = None
        self._grid: tuple[int, ...] = ()
        self._pending: _Pending | None = None
        self._head: list[str] = []
        self._count = 0  # of rows
        self._lost = False
        self.found = self.mixing = self.aside = False
        self.obstacle = ""
        self.random: str | None = None

    def start(self, trace: Trace) -> Tensor | None:
        """Follow the features that the layer has just returned, and no others; None if they cannot be masked."""
        self._known.clear()
        self._unknown.clear()
        self._lost = self.found  # the layer is called again, behind rows that came from an earlier call
        mask, layout = self._asked
        try:
            layout = layout or trace.layout(trace.features)
            if not layout.fits(trace.features) or len(trace.features) != self._examples:
                return None
            maps = layout.to_maps(trace.features)
            self._mask = None if mask is None else make_mask(mask, maps)
        except ValueError:
            return None  # raised again when the last call of the layer is known
        if self._mask is not None and len(self._mask.kernel) > 1:
            return None  # every channel has weights of its own
        self.layout, self._grid = layout, tuple(maps.shape[2:])
        features: Tensor = trace.features.clone()  # the model may write into it, and others read the trace
        space = "s" * (features.dim() - 2)
        pattern = f"n{space}c" if layout.channels_last else f"nc{space}"
        if self._mask is not None:
            self.tokens.start(features, layout, self._mask)
        return self._keep(_Map(features, pattern, self._variants(features, pattern), layout.prefix_tokens))

    @property
    def masks_nothing(self) -> bool:
        """Whether the rows are the positions themselves."""
        return self._mask is None

    def masked(self, features: Tensor, positions: list[int]) -> Tensor:
        """Return the features of every example, masked at one position each."""
        assert self.layout is not None
        assert self._mask is not None  # as long as features are followed
        maps = self.layout.to_maps(features)
        places = torch.tensor(positions, device=features.device)
        masked = [self._mask.copies(maps[row : row + 1], places[row : row + 1]) for row in range(len(positions))]
        rows = [self.layout.to_features(each, features[row : row + 1]) for row, each in enumerate(masked)]
        return torch.cat(rows)

    def _variants(self, features: Tensor, pattern: str) -> dict[float, Tensor]:
        if self._mask is None:
            return {}
        zero = features.new_zeros([size if kind == "c" else 1 for size, kind in zip(features.shape, pattern, strict=True)])
        return {0.0: zero, **{weight: features * weight for weight in self._mask.weights if weight != 1}}

    def rows(self, result: Any) -> Rows | None:
        """Return the rows if they are what the model returned, else None."""
        if self._lost or not isinstance(result, Tensor) or not result.dim() or len(result) != self._count:
            return None
        if self._obstacle((result,)):
            return None
        pending = self._pending if self._pending and result is self._pending.output else None
        if pending and (self.mixing or self.aside):
            pending.compute()  # all columns, for the comparison with the model's own scores
            pending = None
        return Rows("", tuple(self._head), self.layout, result, pending)

    def _keep(self, known: _Map | _Row) -> Tensor:
        self._written[id(known.plain)] = _version(known.plain)
        self._known[id(known.plain)] = known
        return known.plain

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function and follow its result; torch calls this for every function while the mode is on."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        self.random = self.random or drops_at_random(name, args, kwargs)
        if not self._known or self._lost or name in READ:
            return func(*args, **kwargs)
        operands = [value for value in leaves((args, kwargs)) if isinstance(value, Tensor)]
        known = [self._known[id(value)] for value in operands if id(value) in self._known]
        obstacle = self._obstacle(operands)
        if not known and not obstacle:
            return func(*args, **kwargs)
        if name == "__get__" and not isinstance(func(*args), Tensor):
            return func(*args)  # an attribute such as shape, dtype or device
        written = any(self._written[id(each.plain)] != _version(each.plain) for each in known)
        result = None if obstacle or written else self._followed(known, name, func, args, kwargs)
        if result is not None:
            return result
        if written or any(isinstance(each, _Row) for each in known):
            self._lose(obstacle or name)
            return func(*args, **kwargs)
        return self._leave(obstacle or name, func, args, kwargs, known)

    def _obstacle(self, values: Any) -> str:
        """Return the function because of which one of the values is unknown, an empty string if none is."""
        found = ((value, self._unknown.get(id(value))) for value in values)
        return next((entry[1] for value, entry in found if entry is not None and entry[0]() is value), "")

    def _leave(self, obstacle: str, func: Any, args: Any, kwargs: Any, known: list[_Map | _Row]) -> Any:
        """Return the result of a function that cannot be followed; it is unknown as long as it consists of tensors."""
        result = func(*args, **kwargs)
        if result is NotImplemented:
            return result  # a comparison with something else, as in torch.jit.isinstance
        self.aside, self.obstacle = True, self.obstacle or obstacle
        written = any(self._written[id(each.plain)] != _version(each.plain) for each in known)
        values = [value for value in leaves(result) if value is not None]
        if written or not all(isinstance(value, Tensor) and not value.is_inference() for value in values):
            self._lose(obstacle)
        for value in values if not self._lost else ():
            # Without the callback, all that a decoder computes would live as long as the forward
            forget = partial(self._forget, id(value))
            self._unknown[id(value)] = weakref.ref(value, forget), obstacle
        return result

    def _forget(self, key: int, _: weakref.ref[Tensor]) -> None:
        self._unknown.pop(key, None)

    def _lose(self, obstacle: str) -> None:
        self._lost, self.obstacle = True, obstacle
        if self.found:
            raise _Lost("the model does more with the features than can be followed")

    def _followed(self, known: list[_Map | _Row], name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """Return the result of a function of known tensors, None if it cannot be followed."""
        if all(isinstance(value, _Row) for value in known):
            return self._on_rows(name, func, args, kwargs)
        first = self._known.get(id(args[0])) if args else None
        return self._on_map(first, len(known), name, func, args, kwargs) if isinstance(first, _Map) else None

    # ---- before the positions come together

    def _on_map(self, known: _Map, count: int, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """Return the result of a function of followed features, None if it cannot be followed."""
        rest = args[1:]
        if count > 1 or "out" in kwargs:
            return None
        if not known.prefix and pools(name, known.pattern, tuple(known.plain.shape[2:]), rest, kwargs):
            return self._pool(known, func(*args, **kwargs))
        pattern = pattern_after(name, known.pattern, rest, kwargs)
        if pattern is not None:
            variants = {weight: func(variant, *rest, **kwargs) for weight, variant in known.variants.items()}
            return self._keep(_Map(func(args[0], *rest, **kwargs), pattern, variants, known.prefix))
        return self._moved(known, name, func, args, kwargs)

    def _moved(self, known: _Map, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """Return features whose positions were put into a row or a grid, or lost the prefix; None for any other function."""
        if not moves_positions(name):
            return None
        plain = func(*args, **kwargs)
        after = positions_after(name, known.pattern, (known.plain.shape, plain.shape), known.prefix, args[1:])
        if after is None:
            return None
        pattern, prefix = after
        variants = {weight: func(each, *args[1:], **kwargs) for weight, each in known.variants.items() if weight}
        if 0.0 in known.variants:
            one = [plain.shape[place] if kind == "c" else 1 for place, kind in enumerate(pattern)]
            variants[0.0] = known.variants[0.0].reshape(one)
        return self._keep(_Map(plain, pattern, variants, prefix))

    # ---- where the positions come together

    def _pool(self, known: _Map, plain: Tensor) -> Tensor | None:
        """Return the pooled copies (N*(P+2), C), shaped like the pooled examples; None if those are not the means."""
        maps = {1.0: self._as_maps(known.plain, known.pattern)}
        maps |= {weight: self._as_maps(variant, known.pattern) for weight, variant in known.variants.items()}
        pooled = maps[1.0].flatten(2) if self._mask is None else _pooled_copies(maps, self._mask)
        mean = maps[1.0].flatten(2).mean(2)
        if plain.numel() != mean.numel() or not _close(plain.reshape(mean.shape), mean):
            return None
        none = torch.zeros_like(mean) if self._mask is None else maps[0.0].flatten(1).expand_as(mean)
        last = torch.stack((none, plain.reshape(mean.shape)), 2)
        rows = torch.cat((pooled, last), 2).transpose(1, 2).flatten(0, 1)
        self.found, self._count = True, len(rows)
        return self._keep(_Row(rows.reshape(len(rows), *plain.shape[1:])))

    def _as_maps(self, features: Tensor, pattern: str) -> Tensor:
        """Return followed features as maps (N, C, ...) on the layer's own grid, or (1, C, 1, ...) for weight 0."""
        maps = features.movedim(pattern.index("c"), 1).flatten(2)
        return maps.view(*maps.shape[:2], *(self._grid if maps.shape[2] > 1 else [1] * len(self._grid)))

    # ---- behind it

    def _on_rows(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """Return the result of a function of rows, None if it also reads examples; a linear layer waits for a reader."""
        if any(self._is_foreign(value) for value in leaves((args, kwargs))):
            return None
        self._head.append(name)
        pending = self._pending
        in_place = name.endswith("_")  # operators as well, which does no harm
        if pending and (in_place or any(value is pending.output for value in leaves((args, kwargs)))):
            pending.compute()
            self._written[id(pending.output)] = _version(pending.output)  # it was filled, and not changed
            self._pending = pending = None
        plain = name == "linear" and not kwargs and args[0].dim() == 2
        if plain and not pending:
            output = args[0].new_empty(1, dtype=_autocast(args[0])).expand(len(args[0]), len(args[1]))
            self._pending = _Pending(output, *args)
            return self._keep(_Row(output))
        rows = len(args[0]) if args and isinstance(args[0], Tensor) and args[0].dim() else 0
        if rows == self._count:
            sizes = reshaped(name, func, (rows, self._examples), tuple(args[0].shape[1:]), args[1:], kwargs)
            if sizes is not None:
                return self._keep(_Row(args[0].reshape(rows, *sizes)))
        result = func(*args, **kwargs)
        self.mixing |= not acts_on_rows(name, args, kwargs)
        return self._keep(_Row(result)) if isinstance(result, Tensor) else result

    def _is_foreign(self, value: Any) -> bool:
        """Return whether a value may be computed from the examples; that of a single one would be broadcast to all rows."""
        if not isinstance(value, Tensor) or isinstance(value, nn.Parameter) or id(value) in self._known:
            return False
        return value.dim() > 0 and len(value) == self._examples


def _autocast(value: Tensor) -> torch.dtype:
    """Return the precision in which a linear layer reads a tensor."""
    device = value.device.type
    casts = torch.is_autocast_enabled(device) and value.dtype != torch.float64
    return torch.get_autocast_dtype(device) if casts else value.dtype


def _version(value: Tensor) -> int:
    """Return how often functions have written into the memory of a tensor; inference mode does not count."""
    return 0 if value.is_inference() else value._version


def _close(one: Tensor, other: Tensor) -> bool:
    """Return whether two results of the same step differ by rounding alone."""
    tolerance = rounding(one, other, batches=True) * largest(other)
    return torch.allclose(one, other, rtol=0, atol=tolerance, equal_nan=True)  # examples may be NaN


def _pooled_copies(maps: dict[float, Tensor], mask: PositionMask) -> Tensor:
    """Return the mean over the positions of every masked copy (N, C, P), from the maps (N, C, ...) by weight."""
    plain = maps[1.0]
    kept, weighted = torch.zeros_like(plain[:1, :1]), torch.zeros_like(plain)
    for weight in mask.weights:
        neighbours = mask.gather(torch.ones_like(kept), weight)
        weighted = weighted + (maps[weight] * neighbours if mask.spread else mask.gather(maps[weight], weight))
        kept = kept + neighbours
    positions = kept.numel()
    return ((weighted + (positions - kept) * maps[0.0]) / positions).flatten(2)
