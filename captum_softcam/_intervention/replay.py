"""Record one forward, and replay it with other features at a layer.

:func:`record` stores the output of every module that runs before the layer. :func:`run_tail` runs the model again: those
modules return what was recorded, so that only the rest of the model, its tail, has to be computed. No tracing is needed,
and any ``forward_func`` works: a module, a function around one, skip connections around the layer, and modules that are
called several times.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from captum_softcam._intervention.call import Call, map_tensors
from captum_softcam._intervention.forward import Trace, agree, holds, run_view, values_of
from captum_softcam._intervention.operations import leaves
from captum_softcam._intervention.view import Watch

__all__ = ["Recording", "record", "resume", "run_tail"]


@dataclass
class Recording:
    """The outputs of the modules before a layer, made by :func:`record`.

    Args:
        outputs (dict): per module, the outputs of its outermost calls before the layer, in order; each with the dimension
            of the examples for every tensor in it, None for a tensor that all examples share.
        written (bool): whether the model writes into the outputs, so that each copy needs memory of its own.
    """

    outputs: dict[nn.Module, list[tuple[Any, list[int | None]]]] = field(default_factory=lambda: defaultdict(list))
    written: bool = False


class _NotByExample(Exception):
    """Raised where it is unclear which part of an output belongs to which example."""


def record(call: Call, layer: nn.Module, trace: Trace, *, at_input: bool = False) -> Recording | None:
    """Run the model on one example more, and store the outputs of the modules before the layer.

    Sizes that grow with the batch show where the examples are in an output: in the first dimension, in another one (the
    state of a recurrent network), or nowhere (one row per class of a text encoder).

    Args:
        call (Call): the model with its arguments.
        layer (torch.nn.Module): of that model.
        trace (Trace): of the call, without the additional example.
        at_input (bool): whether the input of the layer will be replaced. Default: False

    Returns:
        Recording or None: None if an output contains anything but tensors, if modules are called once per example, or if
        the scores of an example depend on the rest of the batch. Cost: one forward and a copy of the outputs.
    """
    ended: list[tuple[nn.Module, int, Any]] = []  # outermost calls that have ended
    running: list[bool] = []  # per running call: may it contain the layer?
    begun: dict[nn.Module, int] = defaultdict(int)
    before: list[tuple[nn.Module, int, Any]] = []

    def watch(module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outermost = not running or running[-1]
        known, number = len(ended), begun[module]
        begun[module] += outermost
        running.append(outermost and holds(module, layer))
        if module is layer and at_input:
            before[:] = ended
        output = forward(*args, **kwargs)
        running.pop()
        del ended[known:]  # the module answers for all that ran within it
        if module is layer and not at_input:
            before[:] = ended
        if outermost:
            ended.append((module, number, map_tensors(torch.clone, output)))  # the model may overwrite the output later
        return output

    recording = Recording()
    try:
        result = run_view(call.with_one_more(), layer, watch)
        if not agree(result, torch.cat((trace.result, trace.result[:1])), trace):
            trace.alone = True
            return None
        for module, number, output in before:
            pairs = zip(leaves(output), trace.shapes[module][number], strict=True)
            dims = [_examples_in(leaf, seen, call.count) for leaf, seen in pairs if _is_shared_or_tensor(leaf, seen)]
            recording.outputs[module].append((output, dims))
    except Exception:  # any error of a model that does not accept one example more: it is run as a whole instead
        return None
    return recording


def _is_shared_or_tensor(leaf: Any, seen: Any) -> bool:
    """Return whether a leaf is a tensor; raise unless it is one or a plain value that the batch does not change."""
    if not isinstance(leaf, Tensor) and not (isinstance(leaf, (type(None), bool, int, float, str)) and leaf == seen):
        raise _NotByExample("an output holds an object, or a number that follows the batch")
    return isinstance(leaf, Tensor)


def _examples_in(output: Tensor, shape: torch.Size, count: int) -> int | None:
    """Return the dimension of the examples, None for no dimension.

    Args:
        output (Tensor): of ``count + 1`` examples.
        shape (torch.Size): of the same output for ``count`` examples.
        count (int): number of examples.
    """
    grown = [dim for dim, (now, then) in enumerate(zip(output.shape, shape, strict=True)) if now != then]
    if len(grown) > 1 or any((shape[dim], output.shape[dim]) != (count, count + 1) for dim in grown):
        raise _NotByExample("the output does not grow by one example")
    return grown[0] if grown else None


def run_tail(
    recording: Recording | None, layer: nn.Module, features: Any, row: int, call: Call, trace: Trace, *, at_input: bool
) -> Any:
    """Run the model with other features at the layer; recorded modules are not run again.

    Args:
        recording (Recording or None): of the batch; without one the whole model runs.
        layer (torch.nn.Module): the recorded layer.
        features (Tensor or tuple): replace the output (or input) of its last call, one row per copy.
        row (int): the example of the batch that the copies belong to.
        call (Call): the model, with that many copies of the example.
        trace (Trace): of the batch.
        at_input (bool): whether ``features`` is the layer's input.

    Returns:
        any: output of the model.
    """
    try:
        answers = {} if recording is None else _answers(recording, row, call.count)
        # The recording answers for all calls of the layer but the last one, which is then its first to be run.
        last = trace.calls if recording is None else 1
        watch = _replay(answers, layer, features, last, at_input)
        return run_view(call, layer, watch, partly=recording is not None)
    except RuntimeError as error:
        # Copies share the memory of their example, and torch refuses to write into it: give every copy its own from now on.
        if recording is None or recording.written or "single memory location" not in str(error):
            raise
    recording.written = True
    return run_tail(recording, layer, features, row, call, trace, at_input=at_input)


def resume(call: Call, layer: nn.Module, trace: Trace, features: Tensor, *, at_input: bool) -> Any:
    """Run the model on the batch of a trace with other features at the layer. Cost: the tail of one forward.

    Args:
        call (Call): as observed.
        layer (torch.nn.Module): whose output (or input) in its last call is replaced.
        trace (Trace): with the outputs of the modules before the first call of the layer.
        features (Tensor): one row per example.
        at_input (bool): whether ``features`` is the layer's input.
    """
    answers: dict[nn.Module, deque[Any]] = defaultdict(deque)
    for module, output in trace.before or ():
        # Copies, because what the model writes into would be wrong in the next run
        answers[module].append(map_tensors(torch.clone, output))
    watch = _replay(answers, layer, features, trace.calls, at_input)
    return run_view(call.cloned(), layer, watch, partly=True)


def _answers(recording: Recording, row: int, copies: int) -> dict[nn.Module, deque[Any]]:
    """Return the recorded outputs for copies of one example, per module in the order of its calls."""

    def repeat(output: Tensor, dim: int | None) -> Tensor:
        if dim is None:
            return output
        seen = output.narrow(dim, row, 1).expand(*(copies if d == dim else -1 for d in range(output.dim())))
        # A single copy is not expanded, so that torch would not refuse to overwrite the recording.
        return seen.clone() if recording.written or copies == 1 else seen

    def spread(output: Any, dims: list[int | None]) -> Any:
        left = iter(dims)
        return map_tensors(lambda value: repeat(value, next(left)), output)

    return {module: deque(spread(*output) for output in outputs) for module, outputs in recording.outputs.items()}


def _replay(answers: dict[nn.Module, deque[Any]], layer: nn.Module, features: Any, last: int, at_input: bool) -> Watch:
    """Return a watch under which modules give their answers as long as they have any, and the layer ``features`` then."""
    calls = 0

    def watch(module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal calls
        if answers.get(module):
            return answers[module].popleft()
        if module is layer:
            calls += 1
            if calls == last:
                return forward(*values_of(features), **kwargs) if at_input else features
        return forward(*args, **kwargs)

    return watch
