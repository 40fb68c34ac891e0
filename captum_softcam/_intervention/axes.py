"""Follow the dimensions of every tensor through one forward of a model.

:class:`AxisTracker` watches the functions that a model calls, beginning with its inputs. Some functions determine the kind
of a dimension: a convolution reads channels in dimension 1, a linear layer in the last one. Others move, join, split and cut
dimensions. A dimension that no function determines is unknown; it is never guessed. Knowledge also holds backward: where a
linear layer reads the output of a layer, that output has its channels last.

A rule per function derives the dimensions of the result. Rules are plain functions, found by the name of torch's function.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_softcam._intervention.dimensions import (
    Atom,
    Dim,
    Dims,
    certify,
    cut,
    kinds,
    merge,
    regroup,
    resolve,
    shuffled,
    size_of,
    turn,
    unknown,
    with_prefix,
)
from captum_softcam._intervention.layout import FeatureLayout, read_layout
from captum_softcam._intervention.operations import ELEMENTWISE, MADE_NEW, argument, drops_at_random, leaves, spellings

__all__ = ["AxisTracker"]

_REDUCTIONS = (
    "all amax amin aminmax any argmax argmin count_nonzero logsumexp max mean median min mode nanmean nanmedian nansum prod "
    "std std_mean sum var var_mean"
)
_PLACE_OF_REDUCED = dict.fromkeys(_REDUCTIONS.split(), 1) | {"linalg_norm": 2, "linalg_vector_norm": 2, "norm": 2}
_POOLS = "adaptive_avg_pool adaptive_max_pool avg_pool max_pool lp_pool max_unpool fractional_max_pool"
Found = Dims | list["Dims | None"] | None
"""The dimensions of a tensor, or of each one in a tuple; None where they are unknown."""


class _Called:
    """A call of a function, with its arguments and its result."""

    __slots__ = ("args", "kwargs", "name", "result", "tracker")

    def __init__(self, tracker: AxisTracker, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        self.tracker, self.name, self.args, self.kwargs, self.result = tracker, name, args, kwargs, result

    def __getitem__(self, place: int) -> Any:
        return self.args[place]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument by its place or its name."""
        return argument(self.args, self.kwargs, place, name, default)

    def rest(self, name: str) -> tuple[Any, ...]:
        """Return the ints behind the tensor, which are passed one by one, as a sequence, or by name."""
        values = self.args[1:] or (self.kwargs[name],)
        return tuple(values[0]) if len(values) == 1 and isinstance(values[0], (tuple, list)) else values

    def first(self) -> Dims:
        """Return the dimensions of the first argument."""
        return self.tracker.dims_of(self.args[0] if self.args else next(iter(self.kwargs.values())))

    def place(self, dim: int) -> int:
        """Return a dimension of the first argument as a number from 0 up."""
        return dim % len(self.first())


Rule = Callable[[_Called], Found]
_RULES: dict[str, Rule] = {}


# Rules that determine kinds even if nothing is known of the argument: they also apply to tensors from out of sight.
_CERTAIN: set[Rule] = set()


def _rule(*names: str, certain: bool = False) -> Callable[[Rule], Rule]:
    """Register a rule for functions of these names, in all spellings of them."""

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(spellings(*names), rule))
        if certain:
            _CERTAIN.add(rule)
        return rule

    return register


class AxisTracker(TorchFunctionMode):
    """Tracks the dimensions of all tensors in a forward of a model that runs within ``with``.

    Args:
        inputs (tuple): of the model; dimension 0 of tensors with as many rows as the first one is that of the examples.

    Attributes:
        random: the first call that drops values at random although the model is not in train mode, in words; None if
            there is none.
    """

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        super().__init__()
        self.random: str | None = None
        # By id, because tensors compare by value. The weak reference tells a tensor from a later one of the same id.
        self._known: dict[int, tuple[weakref.ref[Tensor], Dims]] = {}
        self._constants: dict[int, weakref.ref[Tensor]] = {}
        self._grids: dict[tuple[int, ...], None] = {}
        tensors = [value for value in _tensors(inputs) if value.dim()]
        self._count = len(tensors[0]) if tensors else None
        examples = Atom(self._count or 1, "n")
        for value in tensors:
            dims = tuple((Atom(size, axis=axis, given=True),) for axis, size in enumerate(value.shape))
            self._keep(value, ((examples,), *dims[1:]) if len(value) == self._count else dims)

    def layout(self, features: Any, told: Iterable[FeatureLayout] = ()) -> FeatureLayout:
        """Return the layout of the output of a layer.

        Args:
            features (any): the output; one that is not a tensor of three or more dimensions gets the default layout, and is
                refused as a map later.
            told (iterable of FeatureLayout): layouts from attributes of the model, for tokens of an unknown grid.
                Default: ()

        Raises:
            ValueError: if a dimension is unknown, or if the examples are not dimension 0.
        """
        if not isinstance(features, Tensor) or features.dim() < 3:
            return FeatureLayout()
        return self.read(self.dims_of(features), told)

    def read(self, dims: Dims, told: Iterable[FeatureLayout] = ()) -> FeatureLayout:
        """Return the layout for dimensions from :meth:`dims_of`, by everything that was observed since."""
        return read_layout(tuple(map(resolve, dims)), self._count, list(self._grids), told)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function and track its result; torch calls this for every function while the mode is on."""
        result = func(*args, **kwargs) if kwargs else func(*args)
        name = func.__name__
        if isinstance(result, Tensor):
            if name == "__get__":
                name = func.__self__.__name__  # of a property such as x.T
        elif name == "__setitem__":
            self._written(args[0], args[2])
            return result
        elif not isinstance(result, (tuple, list)) or isinstance(result, torch.Size):
            return result
        self._follow(_Called(self, name, args, kwargs or {}, result))
        return result

    # ---- knowledge of tensors

    def _keep(self, tensor: Tensor, dims: Dims) -> None:
        self._known[id(tensor)] = (weakref.ref(tensor), dims)

    def find(self, value: Any) -> Dims | None:
        """Return the dimensions of a tensor, None if it was not computed from the inputs."""
        known = self._known.get(id(value))
        return known[1] if known is not None and known[0]() is value else None

    def is_constant(self, value: Any) -> bool:
        """Return whether a tensor is a parameter, or was computed from parameters alone."""
        known = self._constants.get(id(value))
        return isinstance(value, nn.Parameter) or (known is not None and known() is value)

    def dims_of(self, tensor: Tensor) -> Dims:
        """Return the dimensions of a tensor; those of one from out of sight are unknown, and tracked from now on."""
        known = self.find(tensor)
        if known is None:
            known = _unknown(tensor)
            self._keep(tensor, known)
        return known

    def _follow(self, called: _Called) -> None:
        name, args = called.name, called.args
        self.random = self.random or drops_at_random(name, args, called.kwargs)
        rule = _RULES.get(name)
        if rule is None or not args or self.find(args[0]) is None:
            tensors = [] if name in MADE_NEW else _tensors((args, called.kwargs))
            tracked = any(self.find(value) is not None for value in tensors)
            if not tracked and all(map(self.is_constant, tensors)):
                for value in _tensors(called.result):
                    self._constants[id(value)] = weakref.ref(value)
                return
            if not tracked and not (rule in _CERTAIN and args and args[0] is tensors[0]):
                return
        self._store(called.result, self._apply(rule, called) if rule else None)

    def _apply(self, rule: Rule, called: _Called) -> Found:
        try:
            return rule(called)
        except (ArithmeticError, AttributeError, IndexError, KeyError, RuntimeError, StopIteration, TypeError, ValueError):
            return None  # a call in a form that the rule does not cover: the dimensions are unknown, not wrong

    def _store(self, result: Any, found: Found) -> None:
        if isinstance(result, Tensor):
            if not isinstance(found, tuple) or not _fits(found, result.shape):
                found = _unknown(result)
            self._keep(result, found)
            return
        given = found if isinstance(found, list) and len(found) == len(result) else [None] * len(result)
        for value, each in zip(result, given, strict=True):
            if isinstance(value, (Tensor, tuple, list)):
                self._store(value, each)

    def _written(self, target: Any, value: Any) -> None:
        """Track a tensor that values were written into, from now on unless it has dimensions already."""
        if self.find(value) is not None and self.find(target) is None:
            self._keep(target, _unknown(target))

    def see_grid(self, dims: Dims) -> None:
        """Remember the sides of a grid, which a message may propose."""
        self._grids[tuple(map(size_of, dims))] = None


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in leaves(values) if isinstance(value, Tensor)]


def _unknown(tensor: Tensor) -> Dims:
    return tuple(unknown(size) for size in tensor.shape)


def _fits(dims: Dims, shape: torch.Size) -> bool:
    return tuple(map(size_of, dims)) == shape


# ---- at equal places


@_rule(*ELEMENTWISE)
def _elementwise(called: _Called) -> Found:
    """Merge the dimensions of all tensors, aligned at the last ones as in broadcasting."""
    if not isinstance(called.result, Tensor):
        return None
    # Only what was computed from the inputs counts: parameters are broadcast
    known = [dims for value in _tensors((called.args, called.kwargs)) if (dims := called.tracker.find(value))]
    # Most functions have one argument, or two of the same dimensions
    if all(dims is known[0] for dims in known) and _fits(known[0], called.result.shape):
        return known[0]
    return _broadcast(known, called.result.shape)


def _broadcast(known: Iterable[Dims], shape: torch.Size) -> Dims:
    merged: list[Dim | None] = [None] * len(shape)
    for dims in known:
        for place, dim in enumerate(dims, len(shape) - len(dims)):
            before = merged[place]
            if size_of(dim) == shape[place] and dim:
                merged[place] = merge(before, dim) if before else dim
    return tuple(dim or unknown(size) for dim, size in zip(merged, shape, strict=True))


@_rule("roll", "flip")
def _turned(called: _Called) -> Found:
    """Mark positions as moved until the move is undone, as in windows that are shifted and shifted back."""
    if called.name == "flip":
        moves: dict[int, int | str] = {called.place(dim): "flipped" for dim in called.rest("dims")}
    else:
        by, dims = called.argument(1, "shifts"), called.argument(2, "dims")
        steps, places = (value if isinstance(value, (tuple, list)) else (value,) for value in (by, dims))
        moves = {called.place(dim): step for step, dim in zip(steps, places, strict=True)}
    return tuple(turn(dim, moves[i]) if i in moves else dim for i, dim in enumerate(called.first()))


# ---- functions that determine the kind of a dimension


@_rule("linear", "bilinear", certain=True)
def _linear(called: _Called) -> Found:
    *dims, last = called.first()
    return (*dims, _mapped(last, called.result.shape[-1]))


def _mapped(dim: Dim, size: int) -> Dim:
    """Return channels, made by a linear map; from a dimension of space, a mixture of its positions."""
    dim = certify(dim, "c")
    if kinds(dim) == {"s"} or any(atom.mixed for atom in dim):
        return (Atom(size, mixed=True),)  # an MLP-Mixer maps positions to positions: neither channels nor the old space
    return (Atom(size, "c"),)


@_rule("layer_norm", "rms_norm", "group_norm", "batch_norm", "instance_norm", "_native_batch_norm", certain=True)
def _norm(called: _Called) -> Found:
    dims = list(called.first())
    if called.name not in ("layer_norm", "rms_norm"):
        return (dims[0], certify(dims[1], "c"), *_space(dims[2:], called.result.shape[2:]))
    if len(called.argument(1, "normalized_shape")) == 1:
        last = certify(dims[-1], "c")
        dims[-1] = last if len(kinds(last)) == 1 else unknown(size_of(last), "c")
    return tuple(dims)


@_rule(*(f"conv{transposed}{n}d" for transposed in ("", "_transpose") for n in "123"), certain=True)
def _convolution(called: _Called) -> Found:
    dims, shape = called.first(), called.result.shape
    channel = len(dims) - int(called.name[-2]) - 1
    space = _space(dims[channel + 1 :], shape[channel + 1 :])
    if len(space) > 1 or len(space[0]) == 1:
        called.tracker.see_grid(space)
    return (*dims[:channel], _mapped(dims[channel], shape[channel]), *space)


def _space(dims: Iterable[Dim], sizes: Iterable[int]) -> Dims:
    """Return the dimensions along which a function like a convolution has moved, with their new sizes."""
    return tuple(_moved_along(dim, size, axis) for axis, (dim, size) in enumerate(zip(dims, sizes, strict=True)))


def _moved_along(dim: Dim, size: int, axis: int) -> Dim:
    dim = certify(dim, "s", axis)
    if size_of(dim) == size and dim:
        return dim
    # As in a convolution over channels: fewer of them, but still channels
    if kinds(dim) == {"c"}:
        return (Atom(size, "c"),)
    if len(dim) > 1 or (dim and (dim[0].kind != "s" or dim[0].inner)):
        return unknown(size)
    return (Atom(size, "s", dim[0].axis, lost=dim[0].lost) if dim else Atom(size, "s", axis),)


@_rule(
    *(f"{name}{n}d{indices}" for name in _POOLS.split() for n in "123" for indices in ("", "_with_indices")), certain=True
)
def _pool(called: _Called) -> Found:
    shapes = [value.shape for value in _tensors(called.result)]
    dims, count = called.first(), int(called.name.removesuffix("_with_indices")[-2])
    channel = len(dims) - count - 1
    found = (*dims[:channel], certify(dims[channel], "c"), *_space(dims[channel + 1 :], shapes[0][channel + 1 :]))
    return found if isinstance(called.result, Tensor) else [found] * len(shapes)


@_rule(
    "interpolate",
    "upsample",
    "upsample_nearest",
    "upsample_bilinear",
    "grid_sample",
    "pixel_shuffle",
    "pixel_unshuffle",
    certain=True,
)
def _resample(called: _Called) -> Found:
    n, channels, *space = called.first()
    size = called.result.shape[1]
    channels = certify(channels, "c") if size_of(channels) == size else (Atom(size, "c"),)
    return (n, channels, *_space(space, called.result.shape[2:]))


@_rule("embedding")
def _embedding(called: _Called) -> Found:
    # F.embedding reads (ids, weight), torch.embedding (weight, ids)
    ids = called[0] if not called[0].is_floating_point() else called[1]
    dims = called.tracker.dims_of(ids)
    return (*(certify(dim, "s", axis) for axis, dim in enumerate(dims)), (Atom(called.result.shape[-1], "c"),))


@_rule("lstm", "gru", "rnn_tanh", "rnn_relu", certain=True)
def _recurrent(called: _Called) -> Found:
    # The private functions of torch.nn.LSTM and its kin, whose last argument is batch_first
    if len(called.args) != 9 or not isinstance(called[8], bool):
        return None  # a packed sequence
    one, other, last = called.first()
    certify(last, "c")
    n, time = (one, other) if called[8] else (other, one)
    certify(time, "s", 0)
    output = (one, other, (Atom(called.result[0].shape[-1], "c"),))
    states = [(unknown(len(value)), n, (Atom(value.shape[-1], "c"),)) for value in called.result[1:]]
    return [output, *states]


@_rule("unfold")
def _unfold(called: _Called) -> Found:
    """Return patches of images as columns; the method of tensors, which slides a window, is not followed."""
    if called.result.dim() != 3 or len(called.first()) != 4:
        return None
    n, channels, *space = called.first()
    certify(channels, "c")
    sides: list[int] = []
    for axis, dim in enumerate(space):
        kernel, dilation, padding, stride = (
            value[axis] if isinstance(value, (tuple, list)) else value
            for place, (name, default) in enumerate(
                (("kernel_size", None), ("dilation", 1), ("padding", 0), ("stride", 1)), start=1
            )
            for value in [called.argument(place, name, default)]
        )
        sides.append((size_of(dim) + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1)
    return n, (Atom(called.result.shape[1], "c"),), sum(_space(space, sides), ())


@_rule("fold")
def _fold(called: _Called) -> Found:
    n, *_ = called.first()
    channels, *sides = called.result.shape[1:]
    return n, (Atom(channels, "c"),), *((Atom(size, "s", axis),) for axis, size in enumerate(sides))


# ---- products


@_rule("matmul", "mm", "bmm", "addmm", "baddbmm", "addbmm", "mv")
def _matmul(called: _Called) -> Found:
    """Return the rows of the first matrix and the columns of the second; a weight makes channels."""
    one, other = called.args[-2:]
    # The reflected operator has its operands in the other order
    if called.name.startswith("__r"):
        one, other = other, one
    left, right = called.tracker.find(one), called.tracker.find(other)
    shape = called.result.shape
    if one.dim() < 2 or other.dim() < 2:
        return None
    batch = _broadcast([dims[:-2] for dims in (left, right) if dims], shape[:-2])
    if left and right:
        return (*batch, left[-2], right[-1])
    if left:
        weight = other.dim() == 2 or called.tracker.is_constant(other)
        return (*batch, left[-2], _mapped(left[-1], shape[-1])) if weight else None
    if right and (one.dim() == 2 or called.tracker.is_constant(one)):
        return (*batch, _mapped(right[-2], shape[-2]), right[-1])
    return None


@_rule("einsum")
def _einsum(called: _Called) -> Found:
    equation, *operands = called.args
    operands = list(operands[0]) if isinstance(operands[0], (tuple, list)) else operands
    inputs, _, output = equation.replace(" ", "").partition("->")
    if "." in equation or not output:
        return None
    letters: dict[str, Dim] = {}
    weight, contracted = "", ""
    for names, operand in zip(inputs.split(","), operands, strict=True):
        dims = called.tracker.find(operand)
        if dims is None:
            weight += names
            continue
        for letter, dim in zip(names, dims, strict=True):
            letters[letter] = merge(letters[letter], dim) if letter in letters and dim else dim or letters.get(letter, ())
            contracted += letter if letter not in output else ""
    # A letter of the weight that replaces one contracted letter is a linear map of it
    sizes = dict(zip(output, called.result.shape, strict=True))
    summed = [letters[letter] for letter in contracted if letter in weight]
    made = {letter: _mapped(summed[0], sizes[letter]) for letter in weight if letter in sizes and len(summed) == 1}
    return tuple(letters.get(letter) or made.get(letter) or unknown(sizes[letter]) for letter in output)


@_rule("scaled_dot_product_attention")
def _attention(called: _Called) -> Found:
    # One output per position of the query, with the channels of the values
    query, value = called.first(), called.tracker.dims_of(called.argument(2, "value"))
    return (*query[:-1], value[-1])


@_rule("multi_head_attention_forward", certain=True)
def _multi_head_attention(called: _Called) -> Found:
    *dims, last = called.first()
    certify(last, "c")
    return [(*dims, (Atom(called.result[0].shape[-1], "c"),)), None]


# ---- functions that move dimensions


@_rule("permute")
def _permute(called: _Called) -> Found:
    dims = called.first()
    return tuple(dims[place] for place in called.rest("dims"))


@_rule("transpose", "swapaxes", "swapdims", "mT", "T", "t", "adjoint", "mH", "H")
def _transpose(called: _Called) -> Found:
    dims = list(called.first())
    if called.name.strip("_") in ("T", "t", "H") and len(dims) != 2:
        return tuple(reversed(dims))
    one, other = called.argument(1, "dim0", -2), called.argument(2, "dim1", -1)
    dims[one], dims[other] = dims[other], dims[one]
    return tuple(dims)


@_rule("movedim", "moveaxis")
def _movedim(called: _Called) -> Found:
    dims = called.first()
    sources, targets = (
        [called.place(place) for place in (value if isinstance(value, (tuple, list)) else (value,))]
        for value in (called.argument(1, "source"), called.argument(2, "destination"))
    )
    order = [place for place in range(len(dims)) if place not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        order.insert(target, source)
    return tuple(dims[i] for i in order)


@_rule("flatten", "unflatten", "reshape", "view", "view_as", "reshape_as", "ravel", "_unsafe_view")
def _reshape(called: _Called) -> Found:
    return regroup(called.first(), called.result.shape)


@_rule("squeeze")
def _squeeze(called: _Called) -> Found:
    dims = called.first()
    chosen = called.args[1:] or tuple(called.kwargs.values()) or (tuple(range(len(dims))),)
    places = {called.place(dim) for dim in (chosen[0] if isinstance(chosen[0], (tuple, list)) else chosen)}
    return tuple(dim for i, dim in enumerate(dims) if not (i in places and size_of(dim) == 1))


@_rule("unsqueeze")
def _unsqueeze(called: _Called) -> Found:
    dims, place = called.first(), called.argument(1, "dim")
    place %= len(dims) + 1
    return (*dims[:place], (), *dims[place:])


@_rule("expand", "expand_as", "broadcast_to")
def _expand(called: _Called) -> Found:
    return _broadcast([called.first()], called.result.shape)


@_rule("repeat", "tile", "repeat_interleave")
def _repeat(called: _Called) -> Found:
    """Return dimensions with copies within each entry (interleaved), or with all entries within each copy."""
    dims, shape = called.first(), called.result.shape
    dims = ((),) * (len(shape) - len(dims)) + dims
    if called.name == "repeat_interleave" and not isinstance(called.argument(1, "repeats"), int):
        return _picked(dims, called.place(called.argument(2, "dim")), shape)
    found: list[Dim] = []
    for dim, size in zip(dims, shape, strict=True):
        copies = unknown(size // size_of(dim))
        found.append(dim + copies if called.name == "repeat_interleave" else copies + dim)
    return tuple(found)


@_rule("__getitem__")
def _getitem(called: _Called) -> Found:
    index = called[1] if isinstance(called[1], tuple) else (called[1],)
    dims = called.first()
    taken = sum(entry is not None and entry is not Ellipsis for entry in index)
    found: list[Dim] = []
    place = 0
    for entry in index:
        if entry is None:
            found.append(())
            continue
        if entry is Ellipsis:
            skipped = len(dims) - taken
            found.extend(dims[place : place + skipped])
            place += skipped
            continue
        if isinstance(entry, slice):
            found.append(cut(dims[place], *entry.indices(size_of(dims[place]))))
        elif isinstance(entry, bool) or not isinstance(entry, int):
            return _indexed(dims, index, called)
        place += 1
    return (*found, *dims[place:])


def _indexed(dims: Dims, index: tuple[Any, ...], called: _Called) -> Found:
    """Return dimensions of which a list or tensor of indices picks entries along one."""
    places = [i for i, entry in enumerate(index) if not (isinstance(entry, slice) and entry == slice(None))]
    if len(places) != 1 or called.result.dim() != len(dims):
        return None
    return _picked(dims, places[0], called.result.shape)


def _picked(dims: Dims, place: int, shape: torch.Size) -> Dims:
    """Return dimensions of which one has other entries than before, in an unknown order."""
    return (*dims[:place], shuffled(dims[place], shape[place]), *dims[place + 1 :])


@_rule("index_select", "gather", "take_along_dim", "index_add", "index_copy", "scatter")
def _pick(called: _Called) -> Found:
    place = 2 if called.name == "take_along_dim" else 1
    return _picked(called.first(), called.place(called.argument(place, "dim")), called.result.shape)


@_rule("sort", "topk", "kthvalue", "cummax", "cummin", "argsort")
def _sorted(called: _Called) -> Found:
    place = 2 if called.name == "topk" else 1
    dim = called.place(called.argument(place, "dim", -1))
    if isinstance(called.result, Tensor):
        return _picked(called.first(), dim, called.result.shape)
    return [_picked(called.first(), dim, value.shape) for value in called.result]


@_rule("narrow")
def _narrow(called: _Called) -> Found:
    place, start, length = called.place(called.argument(1, "dim")), called.argument(2, "start"), called.argument(3, "length")
    return _cut_at(called.first(), place, start, start + length)


@_rule("select")
def _select(called: _Called) -> Found:
    dims, place = called.first(), called.place(called.argument(1, "dim"))
    return (*dims[:place], *dims[place + 1 :])


@_rule("unbind")
def _unbind(called: _Called) -> Found:
    dims, place = called.first(), called.place(called.argument(1, "dim", 0))
    return [(*dims[:place], *dims[place + 1 :])] * len(called.result)


@_rule("chunk", "split", "tensor_split", "split_with_sizes", "unsafe_chunk", "unsafe_split")
def _split(called: _Called) -> Found:
    dims, place = called.first(), called.place(called.argument(2, "dim", 0))
    parts: list[Dims | None] = []
    start = 0
    for value in called.result:
        parts.append(_cut_at(dims, place, start, start + value.shape[place]))
        start += value.shape[place]
    return parts


def _cut_at(dims: Dims, place: int, start: int, stop: int) -> Dims:
    return (*dims[:place], cut(dims[place], start, stop), *dims[place + 1 :])


@_rule("pad", "constant_pad_nd")
def _pad(called: _Called) -> Found:
    dims, sizes = called.first(), called.result.shape
    return tuple(dim if size_of(dim) == size else _padded(resolve(dim), size) for dim, size in zip(dims, sizes, strict=True))


def _padded(dim: Dim, size: int) -> Dim:
    """Return a dimension that became longer, or shorter, at its ends."""
    if kinds(dim) == {"c"}:
        return (Atom(size, "c"),)
    # Padding keeps positions in order, but shifts those of windows and of prefix tokens
    plain = len(dim) == 1 and dim[0].kind in "s?" and not (dim[0].prefix or dim[0].inner or dim[0].turned)
    return (dim[0].like(size),) if plain else unknown(size)


@_rule("cat", "concat", "concatenate")
def _cat(called: _Called) -> Found:
    tensors = [value for value in called.argument(0, "tensors") if value.shape != (0,)]
    place = called.argument(1, "dim", called.kwargs.get("axis", 0)) % called.result.dim()
    known = [called.tracker.find(value) for value in tensors]
    others = _broadcast([(*dims[:place], (), *dims[place + 1 :]) for dims in known if dims], called.result.shape)
    parts = [
        (value.shape[place], None if dims is None else resolve(dims[place]), called.tracker.is_constant(value))
        for value, dims in zip(tensors, known, strict=True)
        if value.shape[place]
    ]
    return (*others[:place], _joined(parts, called.result.shape[place]), *others[place + 1 :])


def _joined(parts: list[tuple[int, Dim | None, bool]], size: int) -> Dim:
    """Return parts (length, dimension, constant or not) one behind the other: channels, or a row behind prefix tokens."""
    *before, (_, last, _) = parts
    if not before and last is not None:
        return last
    # Tokens before a grid: only the last part may be the grid
    if last and (kinds(last) == {"s"} or last[0].given) and all(_is_prefix(*part) for part in before):
        return with_prefix(sum(length for length, _, _ in before), last)
    return shuffled(sum((dim for _, dim, _ in parts if dim), ()), size)


def _is_prefix(length: int, dim: Dim | None, constant: bool) -> bool:
    """Return whether tokens do not belong to a grid: learned ones, ones that were cut off, or a single one."""
    return constant or (dim is not None and (length == 1 or kinds(dim) == {"p"}))


@_rule("stack")
def _stack(called: _Called) -> Found:
    tensors = called.argument(0, "tensors")
    place = called.argument(1, "dim", 0) % called.result.dim()
    shape = called.result.shape
    known = [dims for value in tensors if (dims := called.tracker.find(value))]
    rest = _broadcast(known, torch.Size((*shape[:place], *shape[place + 1 :])))
    return (*rest[:place], unknown(shape[place]), *rest[place:])


@_rule(*_PLACE_OF_REDUCED)
def _reduce(called: _Called) -> Found:
    if isinstance(called.argument(1, "other"), Tensor):
        return _elementwise(called)
    dims = called.first()
    chosen = called.argument(_PLACE_OF_REDUCED[called.name], "dim", called.kwargs.get("axis"))
    places = range(len(dims)) if chosen is None else chosen if isinstance(chosen, (tuple, list)) else (chosen,)
    reduced = {called.place(place) for place in places}
    results = _tensors(called.result)
    kept = results[0].dim() == len(dims)
    found = tuple(() if i in reduced else dim for i, dim in enumerate(dims) if kept or i not in reduced)
    return found if isinstance(called.result, Tensor) else [found] * len(results)
