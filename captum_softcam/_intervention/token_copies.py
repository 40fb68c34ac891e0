"""Tensors of a transformer for every masked copy of its tokens at once, without building the copies.

Before the first attention, a mask changes every token by itself. So the tokens of all copies follow from the prefix tokens,
which are never masked, and from one row of tokens per weight of the mask. Attention of a few queries needs no more than
that: each copy has its own softmax over scores that are known per weight. Behind it, every copy has its own prefix tokens,
and the tokens of the grid are no longer known.

The dimensions that matter have roles:

- ``n``: the examples, or all copies of all examples, those of one example in a row;
- ``split``: tokens (or keys), the prefix tokens in ``rows`` and those of the grid in ``field``;
- ``kept``: tokens (or queries), of which only the first ones are known;
- ``whole``: tokens of each copy, all of them known, as the weights that a query gives to its keys.

Functions that act along other dimensions act on all parts alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Copies",
    "Masks",
    "NotEnoughTokens",
    "NotFollowed",
    "apply",
    "attend",
    "changed",
    "join",
    "mask_keys",
    "picked",
    "pool",
    "rearranged",
    "reshaped",
    "score",
]

_MANY = 2**27  # values of one tensor: beyond, the copies are built some at a time instead


class NotFollowed(Exception):
    """Raised where the copies of a result are not known."""


class NotEnoughTokens(NotFollowed):
    """Raised where the model reads prefix tokens behind those that are followed."""


@dataclass(frozen=True)
class Copies:
    """The values of one tensor of the model for every masked copy.

    Args:
        roles (dict): the dimensions by their roles, counted from the last one, -1.
        rows (Tensor): like the tensor, but with the prefix tokens alone along ``split``, the first ones along ``kept``, and
            along ``n`` either the examples, where no mask changes the values, or all copies.
        field (dict): by weight of the mask, what the tokens of the grid are where each has that weight.
        length (int): of ``kept`` in the tensor of the model. Default: 0
    """

    roles: dict[str, int]
    rows: Tensor
    field: dict[float, Tensor] = field(default_factory=dict)
    length: int = 0

    @property
    def prefix(self) -> int:
        """Number of tokens before the grid along ``split``."""
        return self.rows.shape[self.roles["split"]]

    def shape(self, examples: int) -> list[int]:
        """Return the shape of the tensor of the model."""
        sizes = list(self.rows.shape)
        sizes[self.roles["n"]] = examples
        if "kept" in self.roles:
            sizes[self.roles["kept"]] = self.length
        if "split" in self.roles:
            sizes[self.roles["split"]] += self.field[1.0].shape[self.roles["split"]]
        return sizes

    def parts(self, change: Callable[[Tensor], Any], roles: dict[str, int]) -> Copies:
        """Return all parts changed in the same way, with roles at new places."""
        return replace(self, roles=roles, rows=change(self.rows), field={w: change(part) for w, part in self.field.items()})


@dataclass(frozen=True)
class Masks:
    """The masks of the copies of an example, and behind them the copy with no token of the grid and the untouched one.

    Args:
        weights (Tensor): (P + 2, P), of every token of the grid; zeros and ones in the last rows.
        spread (bool): whether a mask spreads the features of its own position instead of keeping each position's.
        examples (int): number of examples.
    """

    weights: Tensor
    spread: bool
    examples: int

    @property
    def number(self) -> int:
        """Copies of an example."""
        return len(self.weights)

    @property
    def tokens(self) -> int:
        """Tokens of the grid."""
        return self.weights.shape[1]

    def sources(self) -> Tensor:
        """Return for every mask the tokens (P + 2, P) whose features are at each place."""
        own = torch.arange(self.tokens, device=self.weights.device)
        of_masks = own[:, None].expand(-1, self.tokens) if self.spread else own.expand(self.tokens, -1)
        return torch.cat((of_masks, own.expand(2, -1)))

    def level(self, value: Any, n: int, copies: bool) -> Any:
        """Return a value with a row per copy along ``n``, if ``copies`` and if it has one per example."""
        if not copies or not isinstance(value, Tensor) or value.dim() < -n or value.shape[n] != self.examples:
            return value
        return value.repeat_interleave(self.number, n)

    def has_copies(self, value: Tensor, n: int) -> bool:
        """Return whether a part has a row per copy along ``n``."""
        return value.shape[n] == self.examples * self.number


def _found(values: Any) -> Iterable[Copies]:
    """Yield the copies that are nested in tuples, lists and dictionaries."""
    if isinstance(values, Copies):
        yield values
    elif isinstance(values, (tuple, list, dict)):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _found(value)


def changed(change: Callable[[Any], Any], values: Any) -> Any:
    """Return values, nested in tuples, lists and dictionaries, with each one changed."""
    if isinstance(values, dict):
        return {key: changed(change, value) for key, value in values.items()}
    if isinstance(values, (tuple, list)) and not isinstance(values, torch.Size):
        return type(values)([changed(change, value) for value in values])
    return change(values)


def apply(func: Callable[..., Any], args: Any, kwargs: Any, masks: Masks) -> Copies:
    """Return the result of a function that combines values at equal places, as broadcasting does.

    Args:
        func (callable): the function.
        args (any): with :class:`Copies` in them.
        kwargs (any): as well.
        masks (Masks): of the copies.
    """
    operands = list(_found((args, kwargs)))
    roles, length = _common_roles(operands)
    firsts = [each.rows.shape[roles["kept"]] for each in operands if "kept" in roles and _has(each, roles["kept"])]
    prefixes = {each.prefix for each in operands if "split" in roles and "split" in each.roles}
    if len(prefixes) > 1:
        raise NotFollowed
    known, prefix = min(firsts, default=0), max(prefixes, default=0)
    copies = any(masks.has_copies(each.rows, roles["n"]) for each in operands)

    def first(value: Any) -> Any:
        value = value.rows if isinstance(value, Copies) else _cut(value, roles, slice(prefix), masks)
        return masks.level(_narrowed(value, roles.get("kept"), known), roles["n"], copies)

    rows = func(*changed(first, args), **changed(first, kwargs))
    if "split" not in roles:
        return Copies(roles, rows, {}, length)
    weights = next(each.field for each in operands if "split" in each.roles)
    of_grid = [each.field[1.0] if "split" in each.roles else each.rows for each in operands]
    copies = any(masks.has_copies(part, roles["n"]) for part in of_grid)

    def at(weight: float) -> Callable[[Any], Any]:
        def grid(value: Any) -> Any:
            if isinstance(value, Copies):
                value = value.field[weight] if "split" in value.roles else value.rows
            else:
                value = _cut(value, roles, slice(prefix, None), masks)
            return masks.level(_narrowed(value, roles.get("kept"), known), roles["n"], copies)

        return grid

    fields = {weight: func(*changed(at(weight), args), **changed(at(weight), kwargs)) for weight in weights}
    return Copies(roles, rows, fields, length)


def _has(copies: Copies, place: int) -> bool:
    """Return whether a dimension has tokens, all of them or the first ones."""
    return place in (copies.roles.get("kept"), copies.roles.get("split"))


def _common_roles(operands: list[Copies]) -> tuple[dict[str, int], int]:
    """Return the roles of the result of combined values, and the length of ``kept``."""
    roles = {role: place for each in operands for role, place in each.roles.items()}
    if any(roles[role] != place for each in operands for role, place in each.roles.items()):
        raise NotFollowed
    split, kept = roles.get("split"), roles.get("kept")
    # The tokens of the grid are lost where they meet tokens that have lost them, or values that each copy has for itself
    if split is not None and (split == kept or (kept is None and _are_by_copy(operands))):
        roles["kept"] = roles.pop("split")
    if len(set(roles.values())) < len(roles):
        raise NotFollowed
    return roles, max(_length(each, roles.get("kept")) for each in operands)


def _are_by_copy(operands: list[Copies]) -> bool:
    """Return whether values without tokens differ from copy to copy, while the tokens of the grid do not."""
    of_grid = next(each.field[1.0] for each in operands if "split" in each.roles)
    return any(
        "split" not in each.roles and each.rows.shape[n] > of_grid.shape[n] for each in operands for n in [each.roles["n"]]
    )


def _length(copies: Copies, place: int | None) -> int:
    if place is None or not _has(copies, place):
        return 0
    return copies.length if copies.roles.get("kept") == place else copies.prefix + copies.field[1.0].shape[place]


def _narrowed(value: Any, place: int | None, known: int) -> Any:
    """Return the first tokens of a value that has tokens along a dimension."""
    if not isinstance(value, Tensor) or place is None or value.dim() < -place or value.shape[place] <= max(known, 1):
        return value
    return value.narrow(place, 0, known)


def _cut(value: Any, roles: dict[str, int], tokens: slice, masks: Masks) -> Any:
    """Return what a value from out of sight has for some of the tokens."""
    split = roles.get("split")
    if not isinstance(value, Tensor) or split is None or value.dim() < -split or value.shape[split] == 1:
        return value
    if masks.spread:
        raise NotFollowed  # what belongs to a place would meet features that come from another one
    start, stop, _ = tokens.indices(value.shape[split])
    return value.narrow(split, start, stop - start)


def rearranged(func: Callable[..., Any], copies: Copies, rest: Any, kwargs: Any, examples: int) -> Copies:
    """Return the result of a function that moves, adds or removes dimensions without a role, or computes along them."""
    sizes = copies.shape(examples)
    marks = {role: 10_007 + place for role, place in copies.roles.items()}  # lengths that no other dimension has
    for role, place in copies.roles.items():
        sizes[place] = marks[role]
    after = list(func(torch.empty(sizes, device="meta"), *rest, **kwargs).shape)
    roles = {role: after.index(mark) - len(after) for role, mark in marks.items()}  # ValueError: it is gone
    return copies.parts(lambda part: func(part, *rest, **kwargs), roles)


def reshaped(shape: list[int], copies: Copies, examples: int) -> Copies:
    """Return copies in another shape, if it leaves every dimension with a role as it is."""
    before, roles = copies.shape(examples), dict[str, int]()
    for role, place in sorted(copies.roles.items(), key=lambda item: item[1]):
        outer, here = math.prod(before[:place]), place + len(before)
        options = [i for i, size in enumerate(shape) if size == before[place] and math.prod(shape[:i]) == outer]
        options = [i for i in options if i - len(shape) not in roles.values()]
        # Of several of length 1, the one at the same place from the left
        options.sort(key=[abs(i - here) for i in range(len(shape))].__getitem__)
        roles[role] = options[0] - len(shape)  # IndexError: the dimension has been split or joined

    def change(part: Tensor) -> Tensor:
        sizes = list(shape)
        for role, place in roles.items():
            sizes[place] = part.shape[copies.roles[role]]
        return part.reshape(sizes)

    return copies.parts(change, roles)


def picked(copies: Copies, index: tuple[Any, ...], masks: Masks) -> Copies:
    """Return the entries of copies at an index of numbers, slices, None and Ellipsis."""
    shape = copies.shape(masks.examples)
    role_at = {place + len(shape): role for role, place in copies.roles.items()}
    at_rows, at_grid, roles = list[Any](), list[Any](), dict[str, int]()
    place = dims = 0  # of the copies, and of the result
    for entry in _without_ellipsis(index, len(shape)):
        role = None if entry is None else role_at.get(place)
        rows, stays = (entry, False) if role is None else _index_of_rows(role, entry, shape[place], copies, masks)
        at_rows.append(rows)
        at_grid.append(slice(None) if role == "split" else rows)
        if role is not None and stays:
            roles[role] = dims
        place += entry is not None
        dims += entry is None or isinstance(entry, slice)
    fields = {w: part[tuple(at_grid)] for w, part in copies.field.items()} if "split" in roles else {}
    roles = {role: at - dims for role, at in roles.items()}
    return Copies(roles, copies.rows[tuple(at_rows)], fields, copies.length if "kept" in roles else 0)


def _without_ellipsis(index: tuple[Any, ...], dims: int) -> tuple[Any, ...]:
    """Return an index with an entry for every dimension."""
    start = next((place for place, entry in enumerate(index) if entry is Ellipsis), len(index))
    taken = sum(entry is not None and entry is not Ellipsis for entry in index)
    return (*index[:start], *[slice(None)] * (dims - taken), *index[start + 1 :])


def _index_of_rows(role: str, entry: Any, size: int, copies: Copies, masks: Masks) -> tuple[Any, bool]:
    """Return the index of ``rows`` along a dimension with a role, and whether the result still has that role."""
    if isinstance(entry, bool) or not isinstance(entry, (int, slice)):
        raise NotFollowed
    start, stop, step = entry.indices(size) if isinstance(entry, slice) else (entry % size, entry % size + 1, 1)
    if isinstance(entry, slice) and (start, stop, step) == (0, size, 1):
        return entry, True
    known = copies.rows.shape[copies.roles[role]]
    if step != 1 or role in ("n", "whole"):
        raise NotFollowed
    if role == "split" and start <= known and stop == size:
        return slice(start, known), True
    if stop > known:
        # Behind the tokens that are known, but not behind the prefix tokens: more of them can be followed
        raise NotEnoughTokens if role == "kept" and stop <= size - masks.tokens else NotFollowed
    return (slice(start, stop) if isinstance(entry, slice) else start), False


def join(values: list[Any], place: int, masks: Masks) -> Copies:
    """Return values concatenated along a dimension (counted from the last); tokens of a grid have to be the last of them."""
    *before, last = values
    if not isinstance(last, Copies) or not _has(last, place):
        if any(place in each.roles.values() for each in _found(values)):
            raise NotFollowed
        return apply(lambda *parts: torch.cat(parts, place), tuple(values), {}, masks)
    if any(place in each.roles.values() for each in _found(before)):
        raise NotFollowed
    n = last.roles["n"]
    if any(set(each.roles.items()) - set(last.roles.items()) for each in _found(before)):
        raise NotFollowed
    parts = [value.rows if isinstance(value, Copies) else value for value in before]
    copies = any(masks.has_copies(part, n) for part in (*parts, last.rows))
    rows = torch.cat([masks.level(part, n, copies) for part in (*parts, last.rows)], place)
    length = last.length + sum(part.shape[place] for part in parts) if last.length else 0
    return replace(last, rows=rows, length=length)


# ---- attention


def score(query: Any, keys: Copies, known: int, masks: Masks) -> Copies:
    """Return the products of queries (n, ..., L, d) with transposed keys (n, ..., d, L).

    Args:
        query (Copies or Tensor): of its tokens, those before the grid are queries; a tensor from out of sight has no tokens.
        keys (Copies): with tokens in the last dimension.
        known (int): number of queries that are followed.
        masks (Masks): of the copies.
    """
    roles, length = {"n": keys.roles["n"], "split": -1}, 0
    if roles["n"] != -keys.rows.dim():
        raise NotFollowed
    rows = query.rows if isinstance(query, Copies) else query
    if isinstance(query, Copies):
        if query.roles["n"] != roles["n"] or -1 in query.roles.values() or "whole" in query.roles:
            raise NotFollowed
        if _has(query, -2):
            length, rows = _length(query, -2), rows[..., :known, :]
            roles["kept"] = -2
        if not rows.shape[-2]:
            raise NotFollowed  # attention of the grid to itself
    n = roles["n"]
    copies = rows.dim() >= -n and masks.has_copies(rows, n)
    either = copies or masks.has_copies(keys.rows, n)
    of_prefix = masks.level(rows, n, either) @ masks.level(keys.rows, n, either)
    if not copies:
        return Copies(roles, of_prefix, {w: rows @ part for w, part in keys.field.items()}, length)
    by_example = _together(rows, masks)
    fields = {w: _apart(by_example @ part, rows.shape[-2], masks) for w, part in keys.field.items()}
    return Copies(roles, of_prefix, fields, length)


def pool(copies: Copies, masks: Masks) -> Copies:
    """Return the mean over the tokens of every copy, which keeps their dimension."""
    dim, place = copies.rows.dim(), copies.roles["split"]
    if copies.roles["n"] != -dim or place == -dim or "kept" in copies.roles:
        raise NotFollowed
    tokens = copies.parts(lambda part: part.movedim(place, -2), {**copies.roles, "split": -2})
    length = copies.shape(masks.examples)[place]
    count = masks.examples * masks.number
    weights = copies.rows.new_full((count, *[1] * (dim - 2), length), 1 / length)
    read = attend(Copies({"n": -dim, "whole": -1}, weights), tokens, masks)
    return read.parts(lambda part: part.movedim(-2, place), read.roles)


def _together(rows: Tensor, masks: Masks) -> Tensor:
    """Return rows of all copies (N * P, ..., R, d) as (N, ..., P * R, d)."""
    apart: Tensor = rows.unflatten(0, (-1, masks.number))
    return apart.movedim(1, -3).flatten(-3, -2)


def _apart(rows: Tensor, known: int, masks: Masks) -> Tensor:
    """Return rows (N, ..., P * R, d) as those of all copies, (N * P, ..., R, d)."""
    apart: Tensor = rows.unflatten(-2, (masks.number, known))
    return apart.movedim(-3, 1).flatten(0, 1)


def mask_keys(scores: Copies, masks: Masks) -> Copies:
    """Return the scores of every copy, from those that are known by weight of the mask."""
    n, split = scores.roles["n"], scores.roles["split"]
    one = scores.field[1.0]
    if n != -one.dim() or split != -1 or ("kept" in scores.roles and scores.roles["kept"] != -2):
        raise NotFollowed
    if masks.examples * masks.number * one[0].numel() > _MANY:
        raise NotFollowed
    sources, chosen = masks.sources(), None
    for weight, part in scores.field.items():
        if masks.has_copies(part, n):
            each = part.unflatten(0, (-1, masks.number))
        else:
            each = part.unsqueeze(1).expand(-1, masks.number, *[-1] * (part.dim() - 1))
        if masks.spread:
            index = sources.view(1, masks.number, *[1] * (part.dim() - 2), -1).expand(each.shape)
            each = each.gather(-1, index)
        here = (masks.weights == weight).view(1, masks.number, *[1] * (part.dim() - 2), -1)
        chosen = each if chosen is None else torch.where(here, each, chosen)
    assert chosen is not None  # there is always the weight 1
    rows = masks.level(scores.rows, n, True)
    whole = torch.cat((rows, chosen.flatten(0, 1)), -1)
    roles = {("whole" if role == "split" else role): place for role, place in scores.roles.items()}
    return Copies(roles, whole, {}, scores.length)


def attend(attention: Copies, values: Copies, masks: Masks) -> Copies:
    """Return what the queries of every copy read: attention (n, ..., R, L) times values (n, ..., L, d)."""
    n = attention.roles["n"]
    if values.roles["n"] != n or n != -attention.rows.dim() or attention.roles.get("whole") != -1:
        raise NotFollowed
    given = attention.rows
    of_prefix, of_grid = given[..., : values.prefix], _together(given[..., values.prefix :], masks)
    read = of_prefix @ masks.level(values.rows, n, True)
    known = given.shape[-2]
    here = {w: (masks.weights == w).repeat_interleave(known, 0).to(of_grid.dtype) for w in values.field}
    for weight, part in values.field.items():
        part_of = of_grid * here[weight]
        if masks.spread:
            # All spread features come from the position of the mask, which therefore gets the attention to all of them
            index = masks.sources().repeat_interleave(known, 0).expand(part_of.shape)
            part_of = torch.zeros_like(part_of).scatter_add(-1, index, part_of)
        read = read + _apart(part_of @ part, known, masks)
    return Copies({role: place for role, place in attention.roles.items() if role != "whole"}, read, {}, attention.length)
