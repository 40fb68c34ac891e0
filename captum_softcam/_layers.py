"""Find layers, name them, and run the part of a model that lies behind one of them.

:func:`record` runs a model once and remembers the layer's features and what every module before the layer gave.
:func:`run_tail` runs it again with other features at the layer: the modules before it are not run but answer with what
they gave before, so that only the rest of the model, its tail, costs anything. This needs no tracing and works for any
``forward_func``: a module, a plain function around one, skip connections around the layer, modules that are called
several times.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from captum_softcam._names import closest

__all__ = ["Recording", "get_layer", "last_spatial_layer", "layer_name", "record", "refuse_flat_layer", "run_tail"]


def get_layer(model: nn.Module, name: str) -> nn.Module:
    """The submodule called ``name``; a wrong name raises ValueError and lists the closest ones."""
    layers: dict[str, nn.Module] = dict(model.named_modules())
    if name in layers and name:
        return layers[name]
    raise ValueError(f"layer {name!r} is not in {type(model).__name__}. {closest(name, layers)}")


def layer_name(forward_func: object, layer: nn.Module) -> str:
    """How to call ``layer`` in a message: its name in the model, or its type."""
    if isinstance(forward_func, nn.Module):
        for name, module in forward_func.named_modules():
            if module is layer and name:
                return repr(name)
    return type(layer).__name__


def last_spatial_layer(model: nn.Module, *inputs: Any) -> tuple[str, tuple[int, ...]] | None:
    """Name and output shape of the last module that still gives a map (N, C, h, w) with more than one position.

    Of modules that end together the outermost is taken. Cost: one forward.
    """
    found: list[tuple[str, tuple[int, ...]]] = []
    names = {module: name for name, module in model.named_modules()}

    def note(module: nn.Module, _args: object, output: object) -> None:
        if names.get(module) and _is_spatial(output):
            found.append((names[module], tuple(output.shape)))  # type: ignore[attr-defined]  # _is_spatial: a tensor

    with ExitStack() as stack, torch.no_grad():
        for module in names:
            stack.callback(module.register_forward_hook(note).remove)
        model(*inputs)
    return found[-1] if found else None


def _is_spatial(output: object) -> bool:
    return isinstance(output, Tensor) and output.dim() >= 3 and output[0, 0].numel() > 1


def refuse_flat_layer(
    features: object, method: str, forward_func: object, layer: nn.Module, inputs: tuple[Any, ...]
) -> None:
    """Raise ValueError unless ``features`` is a map (N, C, h, w) with more than one position.

    The message names the last layer that is one; ``inputs`` are all arguments of the model.
    """
    if _is_spatial(features):
        return
    what = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    hint = "Take a layer before the pooling."
    if isinstance(forward_func, nn.Module):
        last = last_spatial_layer(forward_func, *inputs)
        hint = f"The last spatial layer is {last[0]!r} {last[1]}." if last else "The model has no spatial layer."
    raise ValueError(
        f"layer {layer_name(forward_func, layer)} gives {what}; {method} needs a spatial map (N, C, h, w). {hint}"
    )


@dataclass
class Recording:
    """What one run of a model left behind: see :func:`record`.

    Args:
        features (Tensor): output (or input) of the layer in its last call.
        call (int): number of calls of the layer before that one.
        outputs (dict): per module, what its outermost calls before that moment gave, in order.
        result (Tensor): what the model returned.
        written (bool): whether the model writes into the outputs, so that each copy needs memory of its own.
    """

    features: Any = None
    call: int = -1
    outputs: dict[nn.Module, list[Any]] = field(default_factory=dict)
    result: Any = None
    written: bool = False


def record(forward: Callable[[], Any], layer: nn.Module, *, at_input: bool = False) -> Recording:
    """Run ``forward`` and remember what :func:`run_tail` needs. Cost: one forward and a copy of what was remembered.

    Raises:
        TypeError: if the layer is no module.
        ValueError: if the layer is not reached, or a module is in train mode, where scores of copies would differ.
    """
    if not isinstance(layer, nn.Module):
        raise TypeError(f"layer must be a module; got {layer!r}. A layer by name is model.get_submodule(name).")
    recording = Recording()
    ended: list[tuple[nn.Module, Any]] = []  # outermost calls that have ended
    running: list[tuple[bool, int]] = []  # per running call: may it contain the layer? how many had ended before it?

    def cut(features: Any) -> None:
        recording.features = _map_tensors(torch.clone, features)
        recording.call += 1
        recording.outputs = defaultdict(list)
        for module, output in ended:
            recording.outputs[module].append(output)

    def begin(module: nn.Module, args: tuple[Any, ...]) -> None:
        _refuse_train_mode(module)
        around = (not running or running[-1][0]) and any(part is layer for part in module.modules())
        running.append((around, len(ended)))
        if module is layer and at_input:
            cut(args[0])

    def end(module: nn.Module, _args: object, output: Any) -> None:
        del ended[running.pop()[1] :]
        if module is layer and not at_input:
            cut(output)
        if not running or running[-1][0]:
            ended.append((module, _map_tensors(torch.clone, output)))  # the model may write into the output later

    with ExitStack() as hooks:
        hooks.callback(register_module_forward_pre_hook(begin).remove)
        hooks.callback(register_module_forward_hook(end).remove)
        recording.result = forward()
    if recording.call < 0:
        raise ValueError(f"layer {type(layer).__name__} is not called by the model; give a layer of this very model.")
    return recording


def _map_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """An output, however nested, with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return type(value)((key, _map_tensors(change, part)) for key, part in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_map_tensors(change, part) for part in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_map_tensors(change, part) for part in value)
    return value


def _refuse_train_mode(module: nn.Module) -> None:
    if module.training:
        raise ValueError(
            f"the model is in train mode ({type(module).__name__}.training is True): dropout and batch statistics would "
            "change the scores. Call model.eval() first."
        )


@contextmanager
def _replay(recording: Recording, layer: nn.Module, features: Tensor, row: int, *, at_input: bool) -> Iterator[None]:
    """Within the block the layer gives ``features`` (P, ...) and modules before it answer from ``recording``."""

    def spread(output: Tensor) -> Tensor:
        if not output.dim() or len(output) != len(recording.features):
            return output  # the same for all examples
        seen = output[row : row + 1].expand(len(features), *output.shape[1:])
        return seen.clone() if recording.written or len(features) == 1 else seen

    answers = {
        module: deque(_map_tensors(spread, output) for output in outputs) for module, outputs in recording.outputs.items()
    }
    with ExitStack() as stack:
        for module in {*answers, layer}:
            answer = _answer(module, answers.get(module, deque()), features if module is layer else None, at_input)
            stack.enter_context(_forward_replaced(module, answer))
        yield


def run_tail(
    recording: Recording, layer: nn.Module, features: Tensor, row: int, forward: Callable[[], Any], *, at_input: bool
) -> Any:
    """What ``forward`` gives with other features at the layer; what lies before the layer is not run again.

    Args:
        recording (Recording): of a batch.
        layer (torch.nn.Module): the recorded layer.
        features (Tensor): what stands for the layer's output (or input), P copies (P, ...).
        row (int): the example of the batch that the copies belong to.
        forward (callable): runs the model on P copies of that example.
        at_input (bool): whether ``features`` is the layer's input.
    """
    try:
        with _replay(recording, layer, features, row, at_input=at_input):
            return forward()
    except RuntimeError as error:
        # torch refuses to write into rows that share memory: give every copy its own, from now on
        if recording.written or "single memory location" not in str(error):
            raise
    recording.written = True
    return run_tail(recording, layer, features, row, forward, at_input=at_input)


def _answer(module: nn.Module, recorded: deque[Any], features: Tensor | None, at_input: bool) -> Callable[..., Any]:
    """A forward for ``module``: first its recorded outputs, then the given features, then its own forward."""
    forward = module.forward
    pending = [] if features is None else [features]

    def call(*args: Any, **kwargs: Any) -> Any:
        if recorded:
            return recorded.popleft()
        if pending:
            given = pending.pop()
            return forward(given, *args[1:], **kwargs) if at_input else given
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
