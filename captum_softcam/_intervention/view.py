"""A private view of a model, with modules of its own that share tensors and code with the user's and can be watched.

Hooks, and forwards replaced during a call, would affect every other thread that runs the same model. A view needs neither:
each of the user's modules has a stand-in with the same class, the same parameters and buffers and the same attributes, in
which every reference to a module leads to its stand-in. Only the stand-ins are watched, and only the thread that created the
view runs them. No tensor is copied.

References are followed through attributes, containers, bound methods, partial functions, closures and small objects. Where
the layer is not reached in this way, the global names that functions read are followed as well, so that
``lambda x: model(x).softmax(1)`` is viewed like the model.
"""

from __future__ import annotations

import copy
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

__all__ = ["View", "Watch", "duplicate", "runs_whole", "unwrap"]

Watch = Callable[[nn.Module, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""Runs a module: called with the user's module, the forward of its stand-in, and the arguments; returns the output."""

_PLAIN = frozenset(
    (type(None), bool, int, float, complex, str, bytes, Tensor, nn.Parameter, torch.dtype, torch.device, torch.Size)
)
_FOREIGN = {"torch", "torchvision", "numpy", "captum", "captum_softcam", *sys.stdlib_module_names}
_MANY = 4096  # entries of a container that are still searched; larger ones hold data
_DEEP = 8  # references between two modules that are followed


def unwrap(module: Any) -> Any:
    """Return the model, layer or function itself, where it is compiled or in a ``DataParallel``; all else as it is."""
    while True:
        if isinstance(module, nn.DataParallel):
            module = module.module
        elif isinstance(module, nn.Module) and "_orig_mod" in module._modules:  # torch.compile's wrapper of a module
            module = module._orig_mod
        elif hasattr(module, "_torchdynamo_orig_callable"):  # torch.compile's wrapper of a function
            module = module._torchdynamo_orig_callable
        else:
            return module


def duplicate(module: nn.Module, replaced: Mapping[int, Tensor] = types.MappingProxyType({})) -> Any:
    """Copy a module with all that it holds, also after a forward pass with gradients.

    ``copy.deepcopy`` refuses tensors that autograd has computed, which modules keep as attributes: caches of attention
    biases, the weight of a weight normalisation. The copy has them without their history.

    Args:
        module (torch.nn.Module): the module.
        replaced (mapping): tensors that the copy has in place of the module's, by the id of those. Default: none
    """
    # An object in the memo counts as copied already.
    computed = {id(value): value.detach().clone() for part in module.modules() for value in _computed(vars(part))}
    return copy.deepcopy(module, {**computed, **replaced})


def _computed(value: Any, steps: int = 0) -> Iterator[Tensor]:
    """Yield the tensors with a history in a value, its containers and the objects of a user's class."""
    if isinstance(value, Tensor):
        if not value.is_leaf:
            yield value
    elif isinstance(value, nn.Module) or steps > _DEEP or type(value) in _PLAIN:
        return
    elif isinstance(value, (dict, list, tuple)) and len(value) <= _MANY:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _computed(part, steps + 1)
    elif hasattr(value, "__dict__") and not isinstance(value, (type, types.ModuleType, types.FunctionType)):
        yield from _computed(vars(value), steps + 1)


class View:
    """Stand-ins for the modules that a model runs.

    Args:
        model (callable): a module, or any function around one.
        layer (torch.nn.Module or None): the module that has to be among them.

    Attributes:
        model: to be run instead of the user's.
        layer: the stand-in of the layer, None if it was not found.
        watch: runs every module, unless it is None.
        partly: whether the watch skips modules.
    """

    def __init__(self, model: Callable[..., Any], layer: nn.Module | None) -> None:
        self.watch: Watch | None = None
        self.partly = False
        for globally in (False, True):
            self._globally = globally
            self._seen: dict[int, Any] = {}
            self._kept: list[Any] = []  # keeps everything alive that was seen, so that no id is used twice
            self.model: Callable[..., Any] = self._view(unwrap(model), 0)
            self.layer: nn.Module | None = self._seen.get(id(layer))
            if layer is None or self.layer is not None:
                break

    def _view(self, value: Any, steps: int) -> Any:
        """Return the value with every module that it leads to replaced; the very same value if there is none."""
        if type(value) in _PLAIN or (type(value) in (tuple, list) and _PLAIN.issuperset(map(type, value))):
            return value
        if id(value) in self._seen:
            return self._seen[id(value)]
        if isinstance(value, nn.Module):
            return self._module(value)
        self._kept.append(value)
        self._seen[id(value)] = value  # ends the search where a value leads back to itself
        if steps < _DEEP:
            self._seen[id(value)] = self._changed(value, steps + 1)
        return self._seen[id(value)]

    def _module(self, module: nn.Module) -> nn.Module:
        inner = unwrap(module)
        if inner is not module:
            self._seen[id(module)] = self._module(inner) if id(inner) not in self._seen else self._seen[id(inner)]
            return cast(nn.Module, self._seen[id(module)])
        if isinstance(module, torch.jit.ScriptModule):
            return module  # runs outside Python, where nothing can be watched
        twin: nn.Module = object.__new__(type(module))
        self._kept += [module, twin]
        self._seen[id(module)] = self._seen[id(twin)] = twin
        native = type(module).__module__.startswith("torch.nn.")  # keeps its modules in its tables alone
        for name, value in vars(module).items():
            if type(value) in (dict, OrderedDict):
                twin.__dict__[name] = self._table(value)
            else:
                twin.__dict__[name] = value if native and name != "forward" else self._view(value, 0)
        if isinstance(module, nn.TransformerEncoderLayer):
            twin.__dict__["_forward_pre_hooks"][-1] = _no_hook  # keeps it from its fused path, which calls no module
        twin.__dict__["_compiled_call_impl"] = None
        forward = twin.forward
        if self._globally and "forward" not in twin.__dict__ and type(module).__module__.partition(".")[0] not in _FOREIGN:
            forward = self._bound(types.MethodType(type(module).forward, twin), 0)
        twin.__dict__["forward"] = partial(self._run, module, forward)
        return twin

    def _table(self, table: dict[str, Any]) -> dict[str, Any]:
        """Copy a table of parameters, modules or hooks, to which the stand-in may add without changing the module."""
        twin = table.copy()
        for name, value in table.items():
            if type(value) not in _PLAIN:
                twin[name] = self._view(value, 0)
        return twin

    def _run(self, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self.watch is None else self.watch(module, forward, args, kwargs)

    def _changed(self, value: Any, steps: int) -> Any:
        if isinstance(value, (dict, list, tuple, set, frozenset)):
            return self._container(value, steps) if 0 < len(value) <= _MANY else value
        if isinstance(value, types.MethodType):
            return self._bound(value, steps)
        if isinstance(value, types.FunctionType):
            return self._function(value, steps)
        if isinstance(value, partial):
            parts = (value.func, value.args, value.keywords)
            seen = [self._view(part, steps) for part in parts]
            return value if _same(parts, seen) else partial(seen[0], *seen[1], **seen[2])
        return self._object(value, steps)

    def _container(self, value: Any, steps: int) -> Any:
        if isinstance(value, dict):
            changed = {key: seen for key, part in value.items() if (seen := self._view(part, steps)) is not part}
            twin = copy.copy(value) if changed else value
            for key, seen in changed.items():
                twin[key] = seen
            return twin
        entries = [self._view(part, steps) for part in value]
        if _same(value, entries):
            return value
        return type(value)(*entries) if hasattr(value, "_fields") else type(value)(entries)

    def _bound(self, method: types.MethodType, steps: int) -> Any:
        owner, function = self._view(method.__self__, steps), self._view(method.__func__, steps)
        same = owner is method.__self__ and function is method.__func__
        return method if same else types.MethodType(function, owner)

    def _function(self, function: types.FunctionType, steps: int) -> Any:
        if not function.__closure__ and (function.__module__ or "").partition(".")[0] in _FOREIGN:
            return function
        cells = [self._cell(cell, steps) for cell in function.__closure__ or ()]
        names = {name: self._view(value, steps) for name, value in self._read_globally(function)}
        changed = {name: value for name, value in names.items() if value is not function.__globals__[name]}
        defaults = self._view(function.__defaults__, steps)
        keywords = self._view(function.__kwdefaults__, steps)
        unchanged = defaults is function.__defaults__ and keywords is function.__kwdefaults__
        if not changed and unchanged and _same(function.__closure__ or (), cells):
            return function
        scope = {**function.__globals__, **changed} if changed else function.__globals__
        twin = types.FunctionType(function.__code__, scope, function.__name__, defaults, tuple(cells) or None)
        twin.__kwdefaults__ = keywords
        twin.__dict__.update(function.__dict__)
        return twin

    def _cell(self, cell: types.CellType, steps: int) -> types.CellType:
        try:
            value = cell.cell_contents
        except ValueError:  # not filled yet
            return cell
        seen = self._view(value, steps)
        return cell if seen is value else types.CellType(seen)

    def _read_globally(self, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
        if self._globally:
            for name in dict.fromkeys(_names(function.__code__)):
                if name in function.__globals__:
                    yield name, function.__globals__[name]

    def _object(self, value: Any, steps: int) -> Any:
        """Return an instance of a user's class with its attributes viewed."""
        kind = type(value)
        if kind.__module__.partition(".")[0] in _FOREIGN or isinstance(value, (type, types.ModuleType)):
            return value
        attributes = getattr(value, "__dict__", None)
        if not isinstance(attributes, dict) or len(attributes) > _MANY:
            return value
        seen = {name: self._view(part, steps) for name, part in attributes.items()}
        if _same(attributes.values(), seen.values()):
            return value
        twin = copy.copy(value)
        twin.__dict__.update(seen)
        return twin


def runs_whole(module: nn.Module) -> bool:
    """Return whether a call of a module runs all of it, which a view that skips modules does not.

    A hook of the user's is called in both cases, and a meter of costs must not count the second.
    """
    view = getattr(getattr(vars(module).get("forward"), "func", None), "__self__", None)
    return not (isinstance(view, View) and view.partly)


def _no_hook(_module: nn.Module, _args: Any) -> None:
    return None


def _same(values: Any, others: Any) -> bool:
    return all(one is other for one, other in zip(values, others, strict=True))


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield the names that a function reads, those of the functions within it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
