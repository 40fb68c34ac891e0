"""Tails whose masked copies need not be built: pointwise -> global pooling -> head, and attention read at one token.

:func:`observe_copies` watches the functions that a model calls on a layer's features in one ordinary forward. As long as
they act on every position alone, all masked copies are known from one map per weight of the mask: a position depends on
nothing but its own features and the weight that the mask gives them. Where the positions come together, in a global
pooling or in the attention of a class token, the pooled copies take the place of the examples, N*(P+1) rows instead of N,
and the rest of the model runs on them; the last row of every example is the example itself. This is exact, and costs a
forward and the head of the model on those rows.

What can be followed is known by the name of each function. At any other the forward goes on as if nothing had been; or,
where rows stand for examples already, it is broken off and run again. The step that makes the rows is compared with what
the model's own function gives; where the head holds functions that might mix rows, the model runs once more, and the rows
of the examples must have its scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_softcam._intervention.call import Call
from captum_softcam._intervention.class_token import first_token_attention, plain_settings
from captum_softcam._intervention.forward import Trace, agree, observe, refuse_random
from captum_softcam._intervention.layout import FeatureLayout
from captum_softcam._intervention.masks import PositionMask, make_mask
from captum_softcam._intervention.operations import acts_on_rows, drops_at_random, leaves, pattern_after, pools, reshaped

__all__ = ["Rows", "observe_copies"]

_READ = {"dim", "size", "numel", "nelement", "ndimension", "is_floating_point", "is_contiguous", "stride", "__len__"}


_TOKENS = (nn.LayerNorm, nn.MultiheadAttention, nn.Embedding, nn.EmbeddingBag, nn.RNNBase)


class _Lost(RuntimeError):
    """Raised within the model where rows stand for examples already and cannot be followed further."""


@dataclass(frozen=True)
class _Map:
    """Features that are followed; ``pattern`` says what each dimension is: n example, c channel, s space.

    ``variants`` are what they would be had the layer's features been weighted, by weight; those for weight 0 have a
    single position and a single example.
    """

    plain: Tensor
    pattern: str
    variants: dict[float, Tensor]


@dataclass(frozen=True)
class _Token:
    """The first token of each masked copy; the others are not known."""

    plain: Tensor
    pattern: str


@dataclass(frozen=True)
class _Row:
    """Anything computed from the pooled copies."""

    plain: Tensor


class Choice(Protocol):
    """Picks scores (P, R) from scores (P, K) of the copies of example ``row``, or says which columns it would pick."""

    def __call__(self, scores: Tensor, row: int, /) -> Tensor: ...
    def columns(self, classes: int, row: int, /) -> list[int]: ...


@dataclass(frozen=True)
class _Pending:
    """A linear layer of the pooled copies that is not computed before something reads it.

    ``output`` has the shape of the result and no memory of its own.
    """

    output: Tensor
    inputs: Tensor
    weight: Tensor
    bias: Tensor | None = None

    def columns(self, rows: Tensor, columns: list[int]) -> Tensor:
        if len(columns) == len(self.weight):
            return F.linear(rows, self.weight, self.bias)
        return F.linear(rows, self.weight[columns], None if self.bias is None else self.bias[columns])

    def compute(self) -> None:
        """Give the output its values, in place: whoever holds it shall have them."""
        self.output.set_(F.linear(self.inputs, self.weight, self.bias))  # type: ignore[call-overload]  # a tensor will do


@dataclass
class Rows:
    """What :func:`observe_copies` came to.

    Args:
        found (bool): whether the model's result is one row per copy, the copies of an example in a row.
        head (list of str): the functions that were called on the pooled copies.
        obstacle (str): what could not be followed; empty if all could.
        layout (FeatureLayout): of the features, where the model's result is such rows.
    """

    found: bool = False
    head: list[str] = field(default_factory=list)
    obstacle: str = ""
    layout: FeatureLayout | None = None
    _mixing: bool = False
    _result: Tensor | None = None
    _pending: _Pending | None = None

    def examples(self, count: int) -> Tensor:
        """The result for the examples themselves (N, ...)."""
        assert self._result is not None
        if self._pending is not None:
            self._pending.compute()
            self._pending = None
        own: Tensor = self._result.unflatten(0, (count, -1))[:, -1]
        return own

    def scores(self, count: int, choose: Choice) -> list[Tensor]:
        """The scores (P + 1, R) of the copies of ``count`` examples that ``choose`` picks; the last is the example's own.

        If the last function of the model is a linear layer, only the columns that are picked are computed.
        """
        assert self._result is not None
        examples = self._result.unflatten(0, (count, -1))
        if self._pending is None or self._result is not self._pending.output:
            return [choose(scores, row) for row, scores in enumerate(examples)]
        columns = [choose.columns(examples.shape[-1], row) for row in range(count)]
        if all(each == columns[0] for each in columns):  # one product is faster than many
            return list(self._pending.columns(self._pending.inputs, columns[0]).unflatten(0, (count, -1)))
        inputs = self._pending.inputs.unflatten(0, (count, -1))
        return [self._pending.columns(rows, each) for rows, each in zip(inputs, columns, strict=True)]


def observe_copies(
    call: Call, layer: nn.Module, mask: str | Tensor | None, layout: FeatureLayout | None, *, at_input: bool = False
) -> tuple[Trace, Rows]:
    """Run the model and, if there is a short way, get the result for all masked copies from that one run.

    Args:
        call (Call): the model with its arguments.
        layer (torch.nn.Module): of that model.
        mask (str, Tensor or None): makes h*w copies of each example. None stands for the positions themselves, each
            pooled alone, and a zero vector: h*w + 1 rows per example.
        layout (FeatureLayout or None): of the layer's features; None to find it.
        at_input (bool): whether the layer's input is masked. Default: False

    Raises:
        TypeError, ValueError: as :func:`~captum_softcam._intervention.forward.observe` does.
    """
    tracked = layout is None and _may_have_tokens(call.model)
    shortcut = _Shortcut(mask, layout if tracked else layout or FeatureLayout(), call.count)
    try:
        with shortcut:
            trace = observe(call, layer, at_input=at_input, follow=shortcut.start, tracked=tracked)
        refuse_random(shortcut.random)
        if not shortcut.rows.found and (tracked or layout):
            return trace, Rows(obstacle=shortcut.obstacle)
        if not shortcut.lost and _has_rows(trace, shortcut.count):
            shortcut.rows._result = trace.result
    except Exception as error:
        if not shortcut.rows.found:
            raise
        shortcut.obstacle = shortcut.obstacle or str(error)
    if shortcut.rows._result is None:
        return observe(call, layer, at_input=at_input), Rows(obstacle=shortcut.obstacle)
    if shortcut.rows._mixing:
        plain = observe(call, layer, at_input=at_input)
        if not agree(shortcut.rows.examples(call.count), plain.result, plain):
            return plain, Rows(obstacle=", ".join(dict.fromkeys(shortcut.rows.head)))
    return trace, shortcut.rows


def _may_have_tokens(model: object) -> bool:
    """Whether a model has modules that put the channels last, so that the first run had better be tracked.

    Without any, channels first is taken for granted until the positions come together: every function that is followed has
    to act on such a map, and the pooling on its positions. Otherwise nothing was followed, and the layout is looked for.
    """
    parts = model.modules() if isinstance(model, nn.Module) else [model]
    return any(isinstance(part, _TOKENS) or not isinstance(part, nn.Module) for part in parts)


def _has_rows(trace: Trace, count: int) -> bool:
    return isinstance(trace.result, Tensor) and trace.result.dim() > 0 and len(trace.result) == count


class _Shortcut(TorchFunctionMode):
    """Follows the features through the functions that are called on them."""

    def __init__(self, mask: str | Tensor | None, layout: FeatureLayout | None, examples: int) -> None:
        super().__init__()
        self._asked = mask, layout
        self._known: dict[int, _Map | _Token | _Row] = {}
        self._mask: PositionMask | None = None
        self._prefix = 0
        self._grid: tuple[int, ...] = ()
        self._examples = examples
        self.rows = Rows()
        self.lost = False
        self.obstacle = ""
        self.random: str | None = None
        self.count = 0

    def start(self, trace: Trace) -> Tensor | None:
        """Follow the features that the layer has just given, and no others."""
        self._known.clear()
        self.lost = self.rows.found  # rows already, from an earlier call of the layer
        mask, layout = self._asked
        try:
            layout = layout or trace.layout(trace.features)
            if not layout.fits(trace.features) or len(trace.features) != self._examples:
                return None
            maps = layout.to_maps(trace.features)
            self._mask = None if mask is None else make_mask(mask, maps)
        except ValueError:
            return None  # said where it counts: the layer may be called again
        if self._mask is not None and len(self._mask.kernel) > 1:
            return None  # every channel has weights of its own
        self._prefix, self._grid = layout.prefix_tokens, tuple(maps.shape[2:])
        features: Tensor = (
            trace.features.clone()
        )  # the model may write into it, and what else reads the trace is not the layer
        space = "s" * (features.dim() - 2)
        self._keep(_Map(features, f"n{space}c" if layout.channels_last else f"nc{space}", self._variants(features, layout)))
        self.rows.layout = layout
        return features

    def _variants(self, features: Tensor, layout: FeatureLayout) -> dict[float, Tensor]:
        if self._mask is None:
            return {}
        channel = features.dim() - 1 if layout.channels_last else 1
        zero = features.new_zeros([size if i == channel else 1 for i, size in enumerate(features.shape)])
        return {0.0: zero, **{weight: features * weight for weight in self._mask.weights if weight != 1}}

    def _keep(self, known: _Map | _Token | _Row) -> Tensor:
        self._known[id(known.plain)] = known
        return known.plain

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for every function while the mode is on."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        self.random = self.random or drops_at_random(name, args, kwargs)
        if not self._known:
            return func(*args, **kwargs)
        known = [self._known[id(value)] for value in leaves((args, kwargs)) if id(value) in self._known]
        if not known or self.lost or name in _READ:
            return func(*args, **kwargs)
        if name == "__get__" and not isinstance(func(*args), Tensor):
            return func(*args)  # shape, dtype, device and their like
        if all(isinstance(value, _Row) for value in known):
            result = self._on_rows(name, func, args, kwargs)
            return self._lose(name, func, args, kwargs) if result is None else result
        first = self._known.get(id(args[0])) if args else None
        result = None
        if isinstance(first, _Map) and not self.rows.found:
            result = self._on_map(first, len(known), name, func, args, kwargs)
        elif self.rows.found:
            result = self._on_token(name, func, args, kwargs)
        return self._lose(name, func, args, kwargs) if result is None else result

    def _lose(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        self.lost, self.obstacle = True, name
        if self.rows.found:
            raise _Lost("the model does more with the features than can be followed")
        return func(*args, **kwargs)

    def _on_rows(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of a function of rows, or None if it reads examples too; a linear layer waits for a reader."""
        if any(self._is_foreign(value) for value in leaves((args, kwargs))):
            return None
        self.rows.head.append(name)
        pending = self.rows._pending
        in_place = name.endswith("_")  # operators as well, which does no harm
        if pending and (in_place or any(value is pending.output for value in leaves((args, kwargs)))):
            pending.compute()
            self.rows._pending = pending = None
        if name == "linear" and not pending and not kwargs and args[0].dim() == 2 and not _autocast(args[0]):
            output = args[0].new_empty(1).expand(len(args[0]), len(args[1]))
            self.rows._pending = _Pending(output, *args)
            return self._keep(_Row(output))
        rows = len(args[0]) if args and isinstance(args[0], Tensor) and args[0].dim() else 0
        if rows == self.count:
            sizes = reshaped(name, func, (rows, self._examples), tuple(args[0].shape[1:]), args[1:], kwargs)
            if sizes is not None:
                return self._keep(_Row(args[0].reshape(rows, *sizes)))
        result = func(*args, **kwargs)
        self.rows._mixing |= not acts_on_rows(name, args, kwargs)
        return self._keep(_Row(result)) if isinstance(result, Tensor) else result

    def _is_foreign(self, value: Any) -> bool:
        """Whether it may be computed from examples: a single one would be spread over all rows without a word."""
        if not isinstance(value, Tensor) or isinstance(value, nn.Parameter) or id(value) in self._known:
            return False
        return value.dim() > 0 and len(value) == self._examples

    def _on_map(self, known: _Map, count: int, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of a function of followed features, or None if it cannot be followed."""
        if name == "multi_head_attention_forward":
            return self._attend(known, func, args, kwargs)
        rest = args[1:]
        if count > 1 or "out" in kwargs:
            return None
        if not self._prefix and pools(name, known.pattern, tuple(known.plain.shape[2:]), rest, kwargs):
            return self._pool(known, func(*args, **kwargs))
        pattern = pattern_after(name, known.pattern, rest, kwargs)
        if pattern is None:
            return None
        variants = {weight: func(variant, *rest, **kwargs) for weight, variant in known.variants.items()}
        return self._keep(_Map(func(args[0], *rest, **kwargs), pattern, variants))

    # ---- where the positions come together

    def _pool(self, known: _Map, plain: Tensor) -> Tensor | None:
        """The pooled copies (N*(P+1), C), shaped like the pooled examples; None if those are not the means."""
        maps = {1.0: self._as_maps(known.plain, known.pattern)}
        maps |= {weight: self._as_maps(variant, known.pattern) for weight, variant in known.variants.items()}
        pooled = _positions(maps[1.0]) if self._mask is None else _pooled_copies(maps, self._mask)
        mean = maps[1.0].flatten(2).mean(2)
        if plain.numel() != mean.numel() or not _close(plain.reshape(mean.shape), mean):
            return None
        rows = torch.cat((pooled, plain.reshape(mean.shape)[..., None]), 2).transpose(1, 2).flatten(0, 1)
        self.rows.found, self.count = True, len(rows)
        return self._keep(_Row(rows.reshape(len(rows), *plain.shape[1:])))

    def _as_maps(self, features: Tensor, pattern: str) -> Tensor:
        """Followed features as maps (N, C, ...) on the layer's own grid, or (1, C, 1, ...) for weight 0."""
        maps = features.movedim(pattern.index("c"), 1).flatten(2)
        return maps.view(*maps.shape[:2], *(self._grid if maps.shape[2] > 1 else [1] * len(self._grid)))

    def _attend(self, known: _Map, func: Any, args: Any, kwargs: Any) -> Any:
        """Self-attention of the first token, and no attention weights."""
        settings = plain_settings(args, kwargs)
        if settings is None or self._mask is None or not self._prefix or known.pattern != "snc":
            return None
        plain = func(*args, **kwargs)[0][:1]
        nothing_masked = torch.ones_like(known.plain[:, 0, 0])[None]
        if not _close(first_token_attention(known.plain, {}, nothing_masked, settings, spread=False), plain):
            return None
        positions = torch.arange(len(known.plain) - self._prefix, device=known.plain.device)
        weights = F.pad(self._mask.on(self._grid, positions).flatten(1), (self._prefix, 0), value=1.0)
        read = first_token_attention(known.plain, known.variants, weights, settings, spread=self._mask.spread)
        read = torch.cat((read.unflatten(1, (self._examples, -1)), plain[:, :, None]), 2).flatten(1, 2)
        self.rows.found, self.count = True, read.shape[1]
        return self._keep(_Token(read, "snc")), None

    def _on_token(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of a function that acts on every token alone or takes the first one, or None for any other."""
        if name in ("add", "__add__", "add_", "__iadd__") and not kwargs and len(args) == 2:
            patterns = [known.pattern for value in args if isinstance(known := self._known.get(id(value)), _Token)]
            added = [self._first_token(value, pattern) for value in args for pattern in patterns[:1]]
            return self._keep(_Token(torch.add(*added), patterns[0])) if patterns else None
        known = self._known.get(id(args[0]))
        if not isinstance(known, _Token):
            return None
        if name == "__getitem__" and known.pattern == "nsc" and args[1] == (slice(None), 0):
            return self._keep(_Row(known.plain[:, 0]))
        after = pattern_after(name, known.pattern, args[1:], kwargs)
        return None if after is None else self._keep(_Token(func(*args, **kwargs), after))

    def _first_token(self, value: Any, pattern: str) -> Any:
        """The first token of every copy, from that of every example: no mask has changed it before the attention."""
        if isinstance(self._known.get(id(value)), _Token) or not isinstance(value, Tensor):
            return value
        if value.dim() != 3:
            raise _Lost("tokens are added to what are no tokens")
        examples, tokens = pattern.index("n"), pattern.index("s")
        return value.narrow(tokens, 0, 1).repeat_interleave(self.count // value.shape[examples], examples)


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether two results of the same step differ by rounding alone."""
    tolerance = 1e-4 if one.dtype in (torch.float32, torch.float64) and not _autocast(one) else 0.05
    return torch.allclose(one, other, rtol=0, atol=tolerance * float(other.abs().amax()) if other.numel() else 0)


def _autocast(tensor: Tensor) -> bool:
    return torch.is_autocast_enabled(tensor.device.type)


def _positions(maps: Tensor) -> Tensor:
    """Maps (N, C, ...) as positions, and a zero vector behind them: (N, C, P + 1)."""
    return F.pad(maps.flatten(2), (0, 1))


def _pooled_copies(maps: dict[float, Tensor], mask: PositionMask) -> Tensor:
    """The mean over the positions of every masked copy (N, C, P), from the maps (N, C, ...) by weight."""
    plain = maps[1.0]
    kept, weighted = torch.zeros_like(plain[:1, :1]), torch.zeros_like(plain)
    for weight in mask.weights:
        neighbours = mask.gather(torch.ones_like(kept), weight)
        weighted = weighted + (maps[weight] * neighbours if mask.spread else mask.gather(maps[weight], weight))
        kept = kept + neighbours
    positions = kept.numel()
    return ((weighted + (positions - kept) * maps[0.0]) / positions).flatten(2)
