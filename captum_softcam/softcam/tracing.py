"""A tracer of torch.fx that follows the branches that a model takes for an example.

A proxy of torch.fx has no value: ``isinstance(x, torch.Tensor)`` is false on it, and ``if x.shape[0] == 1`` fails. Here
each proxy carries its value for the example, so that its type, shape and dtype can be asked for. A branch that depends on a
shape is recorded in the graph, which then refuses inputs that would take another one. A branch that depends on the values of
a tensor cannot be traced.
"""

from __future__ import annotations

import builtins
import inspect
import math
import operator
import threading
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, fx, nn

from captum_softcam._names import quoted
from captum_softcam.softcam.model import ShapesOnly

__all__ = ["Tracer", "acts_in_place", "rows_to_grid", "same_branch"]


_TRACING = threading.Lock()  # torch.fx patches nn.Module for the time of a trace, and so does Tracer.trace
_WRITING = {"iadd", "isub", "imul", "itruediv", "ifloordiv", "ipow", "setitem"}  # of Python's operator module


def same_branch(value: object, taken: object) -> None:
    """Raise ValueError for an input that takes another branch than the example did; part of the traced graph."""
    if (bool(value) if isinstance(taken, bool) else value) != taken:
        raise ValueError(
            f"the model was converted for inputs on which a decision of its forward reads {quoted(taken)}; on this input it "
            f"reads {quoted(value)}. Call convert_to_softcam again with an example of this shape and type."
        )


def rows_to_grid(features: Tensor, images: Tensor) -> Tensor:
    """Reshape tokens (N, C, T) to the grid (N, C, h, w) with the proportions of the images (N, C, H, W)."""
    count, height, width = features.shape[2], images.shape[2], images.shape[3]
    # From rows * columns = count and rows / columns = height / width.
    rows = round(math.sqrt(count * height / width))
    if rows == 0 or count % rows or not _have_one_stride(height, rows, width, count // rows):
        raise ValueError(
            f"{count} tokens do not form a grid with the proportions of images {tuple(images.shape[2:])}; their mean must "
            "leave out tokens that are not patches, such as a class token."
        )
    return torch.unflatten(features, 2, (rows, count // rows))


def _have_one_stride(height: int, rows: int, width: int, columns: int) -> bool:
    """Check whether one stride divides ``height`` into ``rows`` and ``width`` into ``columns``, rounded alike."""
    # A stride s gives floor(height / s) = rows for height / (rows + 1) < s <= height / rows, and ceil(height / s) = rows
    # for height / rows <= s < height / (rows - 1). The intervals of both sides overlap if each begins before the other ends;
    # this is multiplied out, because rows - 1 may be 0.
    down = height * (columns + 1) > width * rows and width * (rows + 1) > height * columns
    up = height * columns > width * (rows - 1) and width * rows > height * (columns - 1)
    return down or up


def acts_in_place(model: nn.Module, node: fx.Node) -> bool:
    """Check whether a step may modify its input, so that it matters even without users."""
    if node.op == "call_module":
        return any(getattr(module, "inplace", False) for module in model.get_submodule(str(node.target)).modules())
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    written = node.kwargs.get("inplace") or "out" in node.kwargs or name in _WRITING
    return node.op in ("call_method", "call_function") and bool(written or (name.endswith("_") and not name.endswith("__")))


class Tracer(fx.Tracer):
    """Tracer that treats all modules as leaves, except for those in ``opened``.

    Args:
        opened (set of str): names of the modules to trace into. Default: none
        example (Tensor or None): the input whose values the proxies carry. Default: None, for proxies without values
        fixed_types (bool): whether ``x.dtype`` is the dtype of the example instead of a proxy, for functions that accept
            nothing else, such as ``torch.finfo``; the graph then refuses inputs of other types. Default: False
    """

    def __init__(
        self, opened: AbstractSet[str] = frozenset(), example: Tensor | None = None, *, fixed_types: bool = False
    ) -> None:
        # Unpickling a GraphModule traces its code again; without wrapping, it would trace into these two functions.
        super().__init__(autowrap_functions=(rows_to_grid, same_branch))
        self.opened = opened
        self.example = example
        self.fixed_types = fixed_types
        self.values: dict[fx.Node, Any] = {}  # Ellipsis if it is unknown, because None is a possible value
        self.guarded: set[fx.Node] = set()
        self.running = False
        self.thread = threading.get_ident()  # other threads may run models while torch.fx patches nn.Module

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Trace a model, with ``isinstance`` of the values, and calls of scripted and autograd functions as single steps.

        All three are patched for the time of the trace, as torch.fx patches ``nn.Module``. A proxy with the ``__class__`` of
        its value would be simpler, but functions in C would read it as a tensor, and end the process.
        """
        function, script = torch.autograd.Function, torch.jit.ScriptFunction
        with _TRACING:
            apply, call, check = vars(function)["apply"], vars(script)["__call__"], builtins.isinstance

            def recorded_apply(kind: Any, *args: Any, **kwargs: Any) -> Any:
                return self._recorded(kind.__name__, apply.__get__(None, kind), args, kwargs)

            def recorded_call(scripted: Any, *args: Any, **kwargs: Any) -> Any:
                return self._recorded(scripted.name, call.__get__(scripted), args, kwargs)

            def check_of_value(value: Any, kinds: Any, /) -> bool:
                known = self.values.get(value.node, Ellipsis) if type(value) is _Proxy else Ellipsis
                return check(value, kinds) or (known is not Ellipsis and check(known, kinds))

            function.apply = classmethod(recorded_apply)
            script.__call__ = recorded_call  # type: ignore[method-assign, assignment]
            builtins.isinstance = check_of_value
            try:
                return super().trace(root, concrete_args)
            finally:
                function.apply = apply
                script.__call__ = call  # type: ignore[method-assign]
                builtins.isinstance = check

    def _recorded(self, name: str, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._is_passive() or not any(type(value) is _Proxy for value in (*args, *kwargs.values())):
            return run(*args, **kwargs)

        def step(*args: Any, **kwargs: Any) -> Any:
            return run(*args, **kwargs)

        step.__name__ = step.__qualname__ = name
        return self.create_proxy("call_function", step, args, kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 (torch.fx's signature)
        """Return whether a module is not traced into; called by torch.fx."""
        return module_qualified_name not in self.opened

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Record the call of a module; called by torch.fx, which patches ``Module.__call__`` for all threads."""
        # _call calls the root. A module that forward creates has no path in the root, for which torch.fx raises NameError.
        if self._is_passive() or m is self.root or m not in (self.submodule_paths or ()):
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Record the access to a parameter; called by torch.fx, which patches ``Module.__getattr__`` for all threads."""
        return attr_val if self._is_passive() else super().getattr(attr, attr_val, parameter_proxy_cache)

    def _is_passive(self) -> bool:
        """Check whether the running code is not traced: a step on the example, or another thread."""
        return self.running or threading.get_ident() != self.thread

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:  # noqa: ARG002
        """Create the only input; further arguments keep their defaults, as in ``model(x)``. Called by torch.fx."""
        parameters = inspect.signature(self.root.forward).parameters
        image = self.create_proxy("placeholder", next(iter(parameters), "x"), (), {})
        return _call, [self.root, image]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return a proxy with a value; called by torch.fx."""
        return _Proxy(node, self)

    def create_proxy(self, *args: Any, **kwargs: Any) -> Any:
        """Record a step and run it on the example; called by torch.fx.

        A step that returns None is None, not a proxy, and a tuple or list is one of proxies: code may join it with others.
        """
        proxy: Any = super().create_proxy(*args, **kwargs)
        value = self.value(proxy.node, Ellipsis)
        if value is None:
            return None
        # torch.fx needs the proxy itself where it has wrapped a function.
        if type(value) in (tuple, list) and (proxy.node.op != "call_function" or proxy.node.target is operator.getitem):
            return type(value)(proxy[place] for place in range(len(value)))
        if isinstance(value, torch.dtype) and self.fixed_types:
            self.create_node("call_function", same_branch, (proxy.node, value), {})
            return value
        return proxy

    def create_arg(self, a: Any) -> Any:
        """Return the node of a proxy; called by torch.fx, whose ``isinstance`` would see the type of its value."""
        return a.node if type(a) is _Proxy else super().create_arg(a)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Return the truth of a value in a branch; called by torch.fx."""
        return bool(self.number(obj, bool))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Iterate over the keys of a mapping, or over the entries of a sequence; called by torch.fx."""
        value = self.value(obj.node, None)
        if isinstance(value, Mapping):
            return iter(list(value))
        if value is None:
            return super().iter(obj)
        entries: Any = obj
        return (entries[place] for place in range(len(value)))

    def keys(self, obj: fx.Proxy) -> Any:
        """Return the keys of a mapping that is unpacked; called by torch.fx."""
        return self.iter(obj)

    def value(self, node: fx.Node, otherwise: Any) -> Any:
        """Return the result of a step on the example; ``otherwise`` if it is not known."""
        if node not in self.values:
            try:
                self.values[node] = self._run(node)
            except Exception:  # the value of a step that fails is unknown, and branches on it are refused
                self.values[node] = Ellipsis
        return otherwise if self.values[node] is Ellipsis else self.values[node]

    def number(self, obj: fx.Proxy, kind: Callable[[Any], Any]) -> Any:
        """Return the value of a proxy as a bool or number, and record a guard: the graph depends on it from here on."""
        value = self.value(obj.node, Ellipsis)
        if value is Ellipsis:
            raise fx.proxy.TraceError("symbolically traced variables cannot be used as inputs to control flow")
        if isinstance(value, Tensor):
            raise fx.proxy.TraceError(f"a decision depends on the values of '{obj.node.name}'")
        found = kind(value)
        # The length of an output is fixed by the code of the model; only numbers depend on the shape of the input.
        if not isinstance(value, (tuple, list, Mapping)) and obj.node not in self.guarded:
            self.guarded.add(obj.node)
            self.create_node("call_function", same_branch, (obj.node, found), {})
        return found

    def _run(self, node: fx.Node) -> Any:
        """Run one step on the values of its inputs."""
        if node.op == "placeholder":
            return Ellipsis if self.example is None else self.example
        known = {each: self.value(each, Ellipsis) for each in node.all_input_nodes}
        if any(value is Ellipsis for value in known.values()):
            return Ellipsis
        args: Any = fx.node.map_arg(node.args, known.__getitem__)
        kwargs: Any = fx.node.map_arg(node.kwargs, known.__getitem__)
        before, self.running = self.running, True
        try:
            with ShapesOnly() if self.example is not None and self.example.is_meta else nullcontext():
                return _step(self.root, node)(*args, **kwargs)
        finally:
            self.running = before


def _step(root: nn.Module, node: fx.Node) -> Callable[..., Any]:
    """Return the function that a node calls."""
    if node.op == "get_attr":
        return lambda: operator.attrgetter(str(node.target))(root)
    if node.op == "call_module":
        return root.get_submodule(str(node.target))
    if node.op == "call_method":
        return lambda first, *args, **kwargs: getattr(first, str(node.target))(*args, **kwargs)
    return node.target  # type: ignore[return-value]  # a call of a function


def _call(root: nn.Module, image: Any) -> Any:
    """Call the model with its hooks, and unpack its output, so that every entry can be followed."""
    return _plain(root(image))


def _plain(output: Any) -> Any:
    """Convert an output of mappings, sequences and objects to dictionaries and tuples of proxies."""
    if type(output) is _Proxy or isinstance(output, (Tensor, fx.Proxy)):
        return output
    if isinstance(output, Mapping):
        return {key: _plain(value) for key, value in output.items()}
    if isinstance(output, (tuple, list)):
        return tuple(map(_plain, output))
    return {key: _plain(value) for key, value in vars(output).items()} if hasattr(output, "__dict__") else None


class _Proxy(fx.Proxy):
    """A proxy that behaves like its value for the example."""

    def __getattr__(self, k: str) -> Any:
        value = self.tracer.value(self.node, Ellipsis)  # type: ignore[attr-defined]
        if value is Ellipsis:
            return fx.Proxy.__getattr__(self, k)
        if isinstance(value, Mapping) and k in ("items", "values", "get"):
            entries = {key: self[key] for key in value}  # type: ignore[index]  # which torch.fx adds to the class
            return getattr(entries, k)
        found = getattr(value, k)  # on the value first, so that hasattr() and try-except see a missing attribute
        if callable(found) and not isinstance(found, Tensor):
            return lambda *args, **kwargs: self.tracer.create_proxy("call_method", k, (self, *args), kwargs)
        return self.tracer.create_proxy("call_function", getattr, (self, k), {})

    def __len__(self) -> int:
        value = self.tracer.value(self.node, Ellipsis)  # type: ignore[attr-defined]
        return fx.Proxy.__len__(self) if value is Ellipsis else len(value)

    def __contains__(self, item: object) -> bool:
        value = self.tracer.value(self.node, Ellipsis)  # type: ignore[attr-defined]
        if value is Ellipsis or isinstance(value, Tensor):
            raise fx.proxy.TraceError("symbolically traced variables cannot be used as inputs to control flow")
        return item in value

    def __format__(self, format_spec: str) -> str:
        value = self.tracer.value(self.node, Ellipsis)  # type: ignore[attr-defined]
        return repr(self) if value is Ellipsis or isinstance(value, Tensor) else format(value, format_spec)

    def __index__(self) -> int:
        return int(self.tracer.number(self, lambda value: value.__index__()))  # type: ignore[attr-defined]

    def __int__(self) -> int:
        return int(self.tracer.number(self, int))  # type: ignore[attr-defined]

    def __float__(self) -> float:
        return float(self.tracer.number(self, float))  # type: ignore[attr-defined]
