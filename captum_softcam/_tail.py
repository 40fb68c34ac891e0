"""Watch a model run, and run only the part of it that lies behind a layer.

:func:`observe` runs a model once and catches a layer's features. :func:`record` also remembers what every module before
the layer gave, so that :func:`run_tail` can run the model again with other features at the layer: the modules before it
are not run but answer with what they gave before, and only the rest of the model, its tail, costs anything. This needs
no tracing and works for any ``forward_func``: a module, a plain function around one, skip connections around the layer,
modules that are called several times.
"""

from __future__ import annotations

import threading
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

__all__ = [
    "Recording",
    "Trace",
    "is_leaf",
    "map_tensors",
    "observe",
    "record",
    "refuse_train_mode",
    "run_tail",
    "single",
    "unwrap",
    "values_of",
]

_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention, nn.Embedding)


def unwrap(module: Any) -> Any:
    """The model or layer itself, where it is compiled or stands in a ``DataParallel``; all else as it is."""
    while True:
        if isinstance(module, nn.DataParallel):
            module = module.module
        elif hasattr(module, "_orig_mod"):  # torch.compile's wrapper
            module = module._orig_mod
        else:
            return module


def single(values: tuple[Any, ...]) -> Any:
    """The only value of a tuple of one, or the tuple."""
    return values[0] if len(values) == 1 else values


def values_of(features: Any) -> tuple[Any, ...]:
    """The values that a layer gives or reads: those of a tuple, or the only one."""
    return features if isinstance(features, tuple) else (features,)


@dataclass
class Trace:
    """What one run of a model showed: see :func:`observe`.

    Args:
        features (Tensor or tuple): output (or input) of the layer in its last call; None if it was not called.
        containers (tuple of torch.nn.Module): the modules around the layer, from the outside in.
        leaf (torch.nn.Module): the last module with parameters and without children that had ended by then; None if
            there is none.
        result (Tensor): what the model returned.
    """

    features: Any = None
    containers: tuple[nn.Module, ...] = ()
    leaf: nn.Module | None = None
    result: Any = None


def observe(
    forward: Callable[[], Any],
    layer: nn.Module,
    *,
    model: object = None,
    at_input: bool = False,
    follow: Callable[[Trace], Any] | None = None,
) -> Trace:
    """Run ``forward`` and catch the layer's features. Cost: one forward.

    Args:
        forward (callable): runs the model.
        layer (torch.nn.Module): of that model.
        model (torch.nn.Module): what ``forward`` runs, if it is a module: saves watching modules that say nothing about
            the layout of the features. Default: None
        at_input (bool): whether to catch what the layer reads. Default: False
        follow (callable): called with the trace whenever the layer has given (or read) features; what it returns, if
            anything, takes their place. For a layer's input it is called before the first of its own modules begins.
            Default: None

    Raises:
        TypeError: if the layer is no module.
        ValueError: if the layer is not reached, or a module is in train mode, where scores of copies would differ.
    """
    _refuse_no_module(layer)
    trace = Trace()
    running: list[nn.Module] = []
    leaves: deque[nn.Module] = deque(maxlen=1)

    def catch(features: Any) -> Any:
        trace.features, trace.containers, trace.leaf = features, tuple(running), leaves[0] if leaves else None
        return follow(trace) if follow else None

    def before_layer(_module: nn.Module, args: tuple[Any, ...]) -> Any:
        if at_input and not args:
            raise ValueError(f"layer {type(layer).__name__} is called with keyword arguments alone; take its output.")
        given = catch(single(args)) if at_input else None
        return None if given is None else (given,)

    def after_layer(_module: nn.Module, _args: object, output: Any) -> Any:
        return None if at_input else catch(output)

    def begin(module: nn.Module, args: tuple[Any, ...]) -> Any:
        refuse_train_mode(module)
        running.append(module)
        return before_layer(module, args) if module is layer else None

    def end(module: nn.Module, args: object, output: Any) -> Any:
        running.pop()
        if is_leaf(module):
            leaves.append(module)
        return after_layer(module, args, output) if module is layer else None

    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    if _is_channels_first(modules, layer):
        watched = _one_module(modules, layer, before_layer, after_layer)
    else:
        watched = _every_module(begin, end)
    with watched:
        trace.result = forward()
    if trace.features is None:
        raise ValueError(_not_called(layer))
    return trace


def is_leaf(module: nn.Module) -> bool:
    """Whether a module has parameters of its own alone, so that its settings tell the number of channels it gives."""
    return not module._modules and any(parameter is not None for parameter in module._parameters.values())


def _is_channels_first(modules: list[nn.Module], layer: nn.Module) -> bool:
    """Whether nothing in the layer, or defined before it, puts the channels last."""
    for module in modules:
        if module is layer:
            return not any(isinstance(part, _CHANNELS_LAST) for part in layer.modules())
        if isinstance(module, _CHANNELS_LAST):
            return False
    return False  # the layer is none of the model's


@contextmanager
def _one_module(
    modules: list[nn.Module], layer: nn.Module, before: Callable[..., Any], after: Callable[..., Any]
) -> Iterator[None]:
    """Within the block ``before`` and ``after`` are called around the layer, before any hooks of the user's."""
    for module in modules:
        refuse_train_mode(module)
    with ExitStack() as stack:
        stack.enter_context(_uncompiled())
        stack.callback(layer.register_forward_pre_hook(before, prepend=True).remove)
        stack.callback(layer.register_forward_hook(after, prepend=True).remove)
        yield


@contextmanager
def _every_module(begin: Callable[..., Any], end: Callable[..., Any]) -> Iterator[None]:
    """Within the block every module that this thread calls begins with ``begin`` and ends with ``end``, uncompiled."""
    thread = threading.get_ident()

    def here(hook: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: hook(*args) if threading.get_ident() == thread else None

    with ExitStack() as stack:
        stack.enter_context(_uncompiled())
        stack.callback(register_module_forward_pre_hook(here(begin)).remove)
        stack.callback(register_module_forward_hook(here(end)).remove)
        yield


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Within the block compiled modules run as they were written: a compiled module does not see our hooks."""
    stance = getattr(torch.compiler, "set_stance", None)  # since torch 2.6
    with stance("force_eager") if stance else nullcontext(), warnings.catch_warnings():
        # our hooks fire once more for the wrapper of a compiled module, which is neither a layer nor in their way
        warnings.filterwarnings("ignore", message="Using `torch.compile")
        yield


@dataclass
class Recording:
    """What one run of a model left behind: see :func:`record`.

    Args:
        features (Tensor or tuple): output (or input) of the layer in its last call.
        count (int): number of examples.
        outputs (dict): per module, what its outermost calls before that moment gave, in order.
        written (bool): whether the model writes into the outputs, so that each copy needs memory of its own.
    """

    features: Any = None
    count: int = 0
    outputs: dict[nn.Module, list[Any]] = field(default_factory=dict)
    written: bool = False


def record(forward: Callable[[], Any], layer: nn.Module, count: int, *, at_input: bool = False) -> Recording:
    """Run ``forward`` on ``count`` examples and remember what :func:`run_tail` needs.

    Cost: one forward and a copy of what was remembered. Raises as :func:`observe` does.
    """
    _refuse_no_module(layer)
    recording = Recording(count=count)
    ended: list[tuple[nn.Module, Any]] = []  # outermost calls that have ended
    running: list[tuple[bool, int]] = []  # per running call: may it contain the layer? how many had ended before it?

    def cut(features: Any) -> None:
        recording.features = map_tensors(torch.clone, features)
        recording.outputs = defaultdict(list)
        for module, output in ended:
            recording.outputs[module].append(output)

    def begin(module: nn.Module, args: tuple[Any, ...]) -> None:
        refuse_train_mode(module)
        around = (not running or running[-1][0]) and any(part is layer for part in module.modules())
        running.append((around, len(ended)))
        if module is layer and at_input:
            cut(single(args))

    def end(module: nn.Module, _args: object, output: Any) -> None:
        del ended[running.pop()[1] :]
        if module is layer and not at_input:
            cut(output)
        if not running or running[-1][0]:
            ended.append((module, map_tensors(torch.clone, output)))  # the model may write into the output later

    with _every_module(begin, end):
        forward()
    if recording.features is None:
        raise ValueError(_not_called(layer))
    return recording


def map_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """An output, however nested, with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return type(value)((key, map_tensors(change, part)) for key, part in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(change, part) for part in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_tensors(change, part) for part in value)
    return value


def _refuse_no_module(layer: object) -> None:
    if not isinstance(layer, nn.Module):
        raise TypeError(f"layer must be a module; got {layer!r}. A layer by name is model.get_submodule(name).")


def _not_called(layer: nn.Module) -> str:
    return f"layer {type(layer).__name__} is not called by the model; give a layer of this very model."


def refuse_train_mode(module: nn.Module) -> None:
    """Raise ValueError if the module itself is in train mode."""
    if module.training:
        raise ValueError(
            f"the model is in train mode ({type(module).__name__}.training is True): dropout and batch statistics would "
            "change the scores. Call model.eval() first."
        )


@contextmanager
def _replay(
    recording: Recording, layer: nn.Module, features: Any, row: int, copies: int, *, at_input: bool
) -> Iterator[None]:
    """Within the block the layer gives ``features`` and modules before it answer from ``recording``."""

    def spread(output: Tensor) -> Tensor:
        if not output.dim() or len(output) != recording.count:
            return output  # the same for all examples
        seen = output[row : row + 1].expand(copies, *output.shape[1:])
        return seen.clone() if recording.written or copies == 1 else seen

    answers = {
        module: deque(map_tensors(spread, output) for output in outputs) for module, outputs in recording.outputs.items()
    }
    with ExitStack() as stack:
        for module in {*answers, layer}:
            answer = _answer(module, answers.get(module, deque()), features if module is layer else None, at_input)
            stack.enter_context(_forward_replaced(module, answer))
        stack.enter_context(_uncompiled())
        yield


def run_tail(
    recording: Recording,
    layer: nn.Module,
    features: Any,
    row: int,
    copies: int,
    forward: Callable[[], Any],
    *,
    at_input: bool,
) -> Any:
    """What ``forward`` gives with other features at the layer; what lies before the layer is not run again.

    Args:
        recording (Recording): of a batch.
        layer (torch.nn.Module): the recorded layer.
        features (Tensor or tuple): what stands for the layer's output (or input), one row per copy.
        row (int): the example of the batch that the copies belong to.
        copies (int): their number.
        forward (callable): runs the model on that many copies of the example.
        at_input (bool): whether ``features`` is the layer's input.
    """
    try:
        with _replay(recording, layer, features, row, copies, at_input=at_input):
            return forward()
    except RuntimeError as error:
        # torch refuses to write into rows that share memory: give every copy its own, from now on
        if recording.written or "single memory location" not in str(error):
            raise
    recording.written = True
    return run_tail(recording, layer, features, row, copies, forward, at_input=at_input)


def _answer(module: nn.Module, recorded: deque[Any], features: Any, at_input: bool) -> Callable[..., Any]:
    """A forward for ``module``: first its recorded outputs, then the given features, then its own forward."""
    forward = module.forward
    pending = [] if features is None else [features]

    def call(*args: Any, **kwargs: Any) -> Any:
        if recorded:
            return recorded.popleft()
        if pending:
            given = pending.pop()
            if not at_input:
                return given
            return forward(*values_of(given), **kwargs)
        return forward(*args, **kwargs)

    return call


@contextmanager
def _forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Put ``forward`` in the place of the module's own, and take it away again whatever happens."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
