"""The arithmetic of dimensions that are joined, split and cut.

A dimension is a tuple of atoms, slowest first: tokens that were flattened from a grid are still ``(height, width)``. An atom
is split into an outer and an inner part, such as windows and the positions within them, and where the two meet in order,
they become the same atom again. So a reshape is undone by the reshape back, as in einops, but without names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Atom",
    "Dim",
    "Dims",
    "certify",
    "cut",
    "kinds",
    "merge",
    "regroup",
    "resolve",
    "shuffled",
    "size_of",
    "turn",
    "unknown",
    "with_prefix",
]


@dataclass(eq=False, slots=True)
class Atom:
    """A dimension that was never split, or a part of one.

    Args:
        size (int): its length.
        kind (str): n for examples, c channels, s space, p tokens before a grid, ? for not known yet. Default: "?"
        axis (int): its axis of the space, of which 0 is the slowest. Default: None
        given (bool): whether it is a whole dimension of the model's inputs. Default: False
        lost (bool): whether its positions in the inputs are unknown. Default: False
        mixed (bool): whether each entry was computed from all positions, as in an MLP-Mixer. Default: False
        parent (Atom): the atom that it is a part of. Default: None
        inner (bool): whether it is the inner part of its parent. Default: False
        prefix (int): tokens before those of ``row``. Default: 0
        row (tuple of Atom): the dimension behind the prefix tokens. Default: ()
        base (Atom): the atom before it was rolled or flipped. Default: None
        turned (int or str): steps that it was rolled, "flipped", or "lost" for an unknown order. Default: 0
        same (tuple of Atom): the dimension that it turned out to be. Default: None
    """

    size: int
    kind: str = "?"
    axis: int | None = None
    given: bool = False
    lost: bool = False
    mixed: bool = False
    parent: Atom | None = None
    inner: bool = False
    prefix: int = 0
    row: Dim = ()
    base: Atom | None = None
    turned: int | str = 0
    same: Dim | None = None
    _parts: dict[int, tuple[Atom, Atom]] | None = None
    _turns: dict[int | str, Atom] | None = None

    def part(self, size: int) -> tuple[Atom, Atom]:
        """Return the outer part of that size and the inner one; each time the same two, so that they can meet again."""
        self._parts = self._parts or {}
        if size not in self._parts:
            rest = self.size // size
            self._parts[size] = (self._child(size, False), self._child(rest, True))
        return self._parts[size]

    def _child(self, size: int, inner: bool) -> Atom:
        return self.like(size, parent=self, inner=inner)

    def like(self, size: int, **more: Any) -> Atom:
        """Return an atom of another length of which the same is known."""
        return Atom(size, self.kind, self.axis, self.given, self.lost, self.mixed, **more)

    def turn(self, by: int | str) -> Atom:
        """Return the atom rolled by a number of positions or flipped; the original once that is undone."""
        base = self.base or self
        if by == "flipped":
            turned: int | str = 0 if self.turned == by else by
        elif isinstance(self.turned, int) and isinstance(by, int):
            turned = (self.turned + by) % self.size
        else:
            return Atom(self.size, self.kind, turned="lost")
        if turned == 0:
            return base
        # One atom per turn, so that two tensors that were turned alike still have equal dimensions
        base._turns = base._turns or {}
        if turned not in base._turns:
            base._turns[turned] = self.like(self.size, base=base, turned=turned)
        return base._turns[turned]


Dim = tuple[Atom, ...]
Dims = tuple[Dim, ...]


def unknown(size: int, kind: str = "?") -> Dim:
    """Return a new dimension of which no more is known."""
    # A dimension of length 1 has no positions that could be lost
    return () if size == 1 and kind == "?" else (Atom(size, kind, lost=True),)


def shuffled(dim: Dim, size: int) -> Dim:
    """Return a dimension with some of the entries, or with all in another order."""
    # Channels in another order are still channels, while examples in another order must be refused
    found = kinds(resolve(dim))
    if found == {"c"}:
        return (Atom(size, "c"),)
    return (Atom(size, "n", turned="lost"),) if "n" in found else unknown(size)


def size_of(dim: Dim) -> int:
    """Return the length of a dimension."""
    return dim[0].size if len(dim) == 1 else math.prod(atom.size for atom in dim)


def resolve(dim: Dim) -> Dim:
    """Return the dimension with unknown atoms replaced by what was learned of them, and parts that meet joined."""
    # Most dimensions have nothing to resolve, and this runs for every function that the model calls
    for atom in dim:
        if atom.same is not None or atom.kind == "?":
            break
    else:
        return dim if len(dim) < 2 else _join(dim)
    return _join(part for atom in dim for part in _resolve_atom(atom))


def _resolve_atom(atom: Atom) -> Dim:
    if atom.same is not None:
        return resolve(atom.same)
    if atom.kind == "?" and atom.parent is not None:
        parent = resolve((atom.parent,))
        if len(parent) == 1:
            atom.kind, atom.axis = parent[0].kind, parent[0].axis
    if atom.kind == "?" and atom.prefix and kinds(resolve(atom.row)) == {"s"}:
        atom.kind = "s"
    return (atom,)


def _join(atoms: Iterable[Atom]) -> Dim:
    joined: list[Atom] = []
    for atom in atoms:
        joined.append(atom)
        while len(joined) > 1 and joined[-1].inner and (parent := joined[-1].parent) is not None:
            if (parent._parts or {}).get(joined[-2].size) != (joined[-2], joined[-1]):
                break
            joined[-2:] = _resolve_atom(parent)
    return tuple(joined)


def kinds(dim: Dim) -> set[str]:
    """Return the kinds of the atoms of a resolved dimension; those of length 1 count only if there are no others."""
    return {atom.kind for atom in dim if atom.size > 1} or {atom.kind for atom in dim}


def certify(dim: Dim, kind: str, axis: int | None = None) -> Dim:
    """Return the dimension, which gets that kind if none was known."""
    dim = resolve(dim)
    if len(dim) == 1 and dim[0].kind == "?" and not (dim[0].mixed and kind == "c"):
        dim[0].kind = kind
        dim[0].axis = axis if dim[0].axis is None else dim[0].axis
    return dim


def _is_made_of(dim: Dim, whole: Atom) -> bool:
    """Return whether a dimension contains an atom or a part of it; identifying the two would then recurse without end."""
    for atom in dim:
        line: Atom | None = atom
        while line is not None:
            if line is whole or (line.same is not None and _is_made_of(line.same, whole)):
                return True
            line = line.parent or line.base
    return False


def merge(one: Dim, other: Dim) -> Dim:
    """Return the dimension of the result where a function combines two dimensions of one size entry by entry."""
    one, other = resolve(one), resolve(other)
    if one == other or not other:
        return one
    if not one:
        return other
    for first, second in ((one, other), (other, one)):
        # An unknown dimension turns out to be the other one, for every tensor that has it: knowledge flows backward.
        if len(first) == 1 and first[0].kind == "?" and not _is_made_of(second, first[0]):
            first[0].same = second
            return second
    # Equal windows, or equal positions within them: only the rest differs
    if one[0] is other[0]:
        return resolve(one[:1] + merge(one[1:], other[1:]))
    if one[-1] is other[-1]:
        return resolve(merge(one[:-1], other[:-1]) + one[-1:])
    if [atom.size for atom in one] == [atom.size for atom in other] and len(one) > 1:
        return resolve(tuple(atom for pair in zip(one, other, strict=True) for atom in merge(pair[:1], pair[1:])))
    # Examples that meet another dimension are no longer in the order of the batch
    if "n" in kinds(one) | kinds(other):
        return shuffled(one + other, size_of(one))
    if kinds(one) != kinds(other):
        return unknown(size_of(one))
    if len(one) != len(other):
        return one if len(one) > len(other) else other
    return one if _agree(one[0], other[0]) else unknown(size_of(one))


def _agree(one: Atom, other: Atom) -> bool:
    """Return whether positions along one atom may be the positions along the other."""
    if one.kind == "c":
        return True
    axes = one.axis == other.axis or None in (one.axis, other.axis)
    same = (one.size, one.turned, one.inner, one.prefix) == (other.size, other.turned, other.inner, other.prefix)
    return axes and same


def cut(dim: Dim, start: int, stop: int, step: int = 1) -> Dim:
    """Return a slice of a dimension."""
    dim, size = resolve(dim), size_of(dim)
    left = len(range(start, stop, step))
    if left == size and step == 1:
        return dim
    if len(dim) != 1 or dim[0].kind in "cn" or dim[0].inner or dim[0].turned:
        return shuffled(dim, left)
    atom = dim[0]
    if atom.prefix:
        return _cut_row(atom, start, stop) if step == 1 else unknown(left)
    # A crop of an axis is still that axis
    return (atom.like(left),)


def _cut_row(row: Atom, start: int, stop: int) -> Dim:
    """Return a slice of a row: prefix tokens alone, or the rest of them and the grid; a part of the grid is unknown."""
    if stop <= row.prefix:
        return (Atom(stop - start, "p"),)
    if start <= row.prefix and stop == row.size:
        return with_prefix(row.prefix - start, row.row)
    return unknown(stop - start)


def with_prefix(prefix: int, row: Dim) -> Dim:
    """Return a row of tokens behind prefix tokens, in front of those that the row already has."""
    row = resolve(row)
    if not prefix:
        return row
    if len(row) == 1 and row[0].prefix:
        prefix, row = prefix + row[0].prefix, row[0].row
    kind = "s" if kinds(row) == {"s"} else "?"
    return (Atom(prefix + size_of(row), kind, prefix=prefix, row=row),)


def turn(dim: Dim, by: int | str) -> Dim:
    """Return a dimension rolled by a number of positions, or flipped."""
    dim = resolve(dim)
    if kinds(dim) == {"c"}:
        return dim
    if len(dim) == 1 and not dim[0].prefix:
        return (dim[0].turn(by),)
    return tuple(atom.turn(by) for atom in dim) if by == "flipped" else unknown(size_of(dim))


def regroup(dims: Dims, sizes: Sequence[int]) -> Dims:
    """Return the dimensions after a reshape to ``sizes``."""
    left, lengths = list(dims), [size_of(dim) for dim in dims]
    if 0 in lengths or math.prod(lengths) != math.prod(sizes):  # empty tensors, and views of another precision
        return tuple(unknown(size) for size in sizes)
    result: list[Dim] = []
    loose: Dim = ()  # dimensions of length 1 that join the next one, because they may be an axis of a grid
    i = j = 0
    while i < len(lengths) or j < len(sizes):
        if i < len(lengths) and j < len(sizes) and lengths[i] == sizes[j]:
            result.append(loose + left[i])
            loose, i, j = (), i + 1, j + 1
        elif i < len(lengths) and lengths[i] == 1:
            loose, i = loose + left[i], i + 1
        elif j < len(sizes) and sizes[j] == 1:
            alone, left[i:] = _leading_ones(left[i:])
            result.append(alone or _last_one(result))
            j += 1
        else:
            k, m = _group(lengths, sizes, i, j)
            result.extend(_carve(sum(left[i:k], loose), sizes[j:m]))
            loose, i, j = (), k, m
    if loose and result:
        result[-1] += loose
    return tuple(map(resolve, result))


def _leading_ones(dims: list[Dim]) -> tuple[Dim, list[Dim]]:
    """Return the atoms of length 1 at the start of the first dimension, such as a single example, and the rest."""
    first = resolve(dims[0]) if dims else ()
    count = next((place for place, atom in enumerate(first) if atom.size > 1), 0)
    return first[:count], [first[count:], *dims[1:]] if dims else []


def _last_one(dims: list[Dim]) -> Dim:
    """Remove and return the atom of length 1 at the end of the last dimension, such as a grid of one column."""
    if not dims or len(dims[-1]) < 2 or dims[-1][-1].size > 1:
        return ()
    *kept, one = dims[-1]
    dims[-1] = tuple(kept)
    return (one,)


def _group(lengths: Sequence[int], sizes: Sequence[int], i: int, j: int) -> tuple[int, int]:
    """Return the ends of the fewest dimensions from i and the fewest sizes from j that have the same product."""
    k, m = i + 1, j + 1
    while (before := math.prod(lengths[i:k])) != (after := math.prod(sizes[j:m])):
        k, m = (k + 1, m) if before < after else (k, m + 1)
    return k, m


def _carve(dim: Dim, sizes: Sequence[int]) -> list[Dim]:
    """Split a dimension into several, slowest first; they are unknown where an atom cannot be split so."""
    atoms, carved = list(reversed(resolve(dim))), []
    for size in sizes:
        taken: list[Atom] = []
        while (rest := size // math.prod(atom.size for atom in taken)) > 1:
            atom = atoms.pop()
            if atom.size > rest and atom.size % rest == 0 and not atom.prefix:
                atom, behind = atom.part(rest)
                atoms.append(behind)
            elif rest % atom.size:
                return [shuffled(dim, size) for size in sizes]
            taken.append(atom)
        carved.append(tuple(taken))
    if atoms and carved:
        carved[-1] += tuple(reversed(atoms))
    return carved
