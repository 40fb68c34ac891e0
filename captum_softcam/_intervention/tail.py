"""Watch a model run, and run only the part of it that lies behind a layer.

:func:`observe` runs a model once and catches a layer's features. :func:`record` also remembers what every module before
the layer gave, so that :func:`run_tail` can run the model again with other features at the layer: the modules before it
are not run but answer with what they gave before, and only the rest of the model, its tail, costs anything. This needs
no tracing and works for any ``forward_func``: a module, a plain function around one, skip connections around the layer,
modules that are called several times. All of it happens in a private view, so that no other thread notices.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from captum_softcam._intervention.axes import AxisTracker
from captum_softcam._intervention.call import Call, leaves, map_tensors
from captum_softcam._intervention.layout import FeatureLayout, told_layouts
from captum_softcam._intervention.view import View, Watch
from captum_softcam._names import quoted

__all__ = [
    "Recording",
    "Trace",
    "agree",
    "depends_on_mode",
    "observe",
    "record",
    "refuse_other_scores",
    "refuse_random",
    "refuse_train_mode",
    "run_tail",
    "single",
    "values_of",
]

_ROUNDING = {torch.float16: 0.05, torch.bfloat16: 0.1, torch.float64: 1e-9}  # relative to the largest score


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
        calls (int): number of calls of the layer.
        containers (tuple of torch.nn.Module): the modules around the layer, from the outside in.
        result (Tensor): what the model returned.
        axes (AxisTracker): what each dimension of the tensors in that run is.
        alone (bool): whether the scores of an example are known to change with the batch, so that copies cannot share one.
        shapes (dict): per module and outermost call, the shapes of the tensors that it gave, and whatever else it gave.
    """

    features: Any = None
    calls: int = 0
    containers: tuple[nn.Module, ...] = ()
    result: Any = None
    axes: AxisTracker = field(default_factory=lambda: AxisTracker(()))
    alone: bool = False
    shapes: dict[nn.Module, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def layout(self, features: Any) -> FeatureLayout:
        """How one of the values that the layer gives is a map; raises ValueError where that is not certain."""
        return self.axes.layout(features, told_layouts(self.containers))


def observe(
    call: Call,
    layer: nn.Module,
    *,
    at_input: bool = False,
    follow: Callable[[Trace], Any] | None = None,
    tracked: bool = True,
) -> Trace:
    """Run the model and catch the layer's features. Cost: one forward.

    Args:
        call (Call): the model with its arguments.
        layer (torch.nn.Module): of that model.
        at_input (bool): whether to catch what the layer reads. Default: False
        follow (callable): called with the trace whenever the layer has given (or read) features; what it returns, if
            anything, takes their place. Default: None
        tracked (bool): whether to know the layout of the features afterwards; takes a few percent of a forward in Python,
            which matters where the forward is all there is. Default: True

    Raises:
        TypeError: if the layer is not a module.
        ValueError: if the layer is not reached, or a module is in train mode and would change the scores of copies.
    """
    call = call.cloned()
    trace = Trace(axes=AxisTracker(call.arguments))
    running: list[nn.Module] = []
    around: list[bool] = []  # per running call: may it contain the layer?

    def reached(features: Any) -> Any:
        trace.calls += 1
        trace.containers = tuple(running)
        trace.features = map_tensors(torch.clone, features)  # the model may write into them later
        given = follow(trace) if follow else None
        return features if given is None else given

    def watch(module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        refuse_train_mode(module)
        outermost = not around or around[-1]
        running.append(module)
        around.append(outermost and _holds(module, layer))
        if module is layer and at_input:
            args = values_of(reached(_positional(args, layer)))
        output = forward(*args, **kwargs)
        running.pop(), around.pop()
        if outermost:  # what the modules within give is not asked for
            trace.shapes[module].append([leaf.shape if isinstance(leaf, Tensor) else leaf for leaf in leaves(output)])
        return reached(output) if module is layer and not at_input else output

    with trace.axes if tracked else nullcontext():
        trace.result = _run(call, layer, watch)
    if trace.features is None:
        raise ValueError(_not_called(layer))
    refuse_random(trace.axes.random)
    return trace


def refuse_random(function: str | None) -> None:
    """Raise ValueError if a function was called that drops values at random, with its name in words."""
    if function:
        raise ValueError(
            f"the model calls {function}, which drops values at random although the model is in eval mode: the scores of "
            "copies would differ by chance. Pass training=self.training to it."
        )


def _run(call: Call, layer: nn.Module, watch: Watch, *, partly: bool = False) -> Any:
    """What the model returns, every module of its view being watched; ``partly`` if some are left out."""
    if not isinstance(layer, nn.Module):
        raise TypeError(f"layer must be a module; got {quoted(layer)}. A layer by name is model.get_submodule(name).")
    view = View(call.model, layer)
    if view.layer is None:
        raise ValueError(_not_called(layer))
    view.watch, view.partly = watch, partly
    return Call(view.model, call.inputs, call.args).run()


def _positional(args: tuple[Any, ...], layer: nn.Module) -> Any:
    if not args:
        raise ValueError(f"layer {type(layer).__name__} is called with keyword arguments alone; take its output.")
    return single(args)


def _not_called(layer: nn.Module) -> str:
    return (
        f"layer {type(layer).__name__} is not called by the model; pass a layer of this very model. If a function around "
        "the model hides it, pass the model itself or a module that calls it."
    )


def refuse_train_mode(module: nn.Module) -> None:
    """Raise ValueError if the module itself is in train mode, and its result depends on that."""
    if module.training and depends_on_mode(module):
        raise ValueError(
            f"the model is in train mode ({type(module).__name__}.training is True): dropout and batch statistics would "
            "change the scores. Call model.eval() first."
        )


def depends_on_mode(module: nn.Module) -> bool:
    """Whether train mode changes what a module itself gives, its children left aside."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return module.track_running_stats
    if isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
        return module.dropout > 0
    if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.RReLU)):
        return True
    if type(module).__module__.startswith("torch.nn."):
        return False
    if any(getattr(module, name, None) in (0, 0.0, None) for name in ("p", "drop_prob") if hasattr(module, name)):
        return False  # stochastic depth that drops nothing
    return any(_reads_mode(kind) for kind in type(module).__mro__ if not kind.__module__.startswith("torch.nn."))


def _reads_mode(kind: type) -> bool:
    """Whether a method of the class reads ``self.training``."""
    codes = [getattr(value, "__code__", None) for value in vars(kind).values()]
    return any("training" in code.co_names for code in codes if code is not None)


def agree(scores: Any, known: Any, trace: Trace) -> bool:
    """Whether scores are those that the trace knows, up to the rounding of other batch sizes."""
    if not isinstance(scores, Tensor) or scores.shape != known.shape:
        return False
    size = trace.result.double().abs()
    scale = float(size[size.isfinite()].max()) if size.isfinite().any() else 0.0
    return torch.allclose(scores.double(), known.double(), rtol=0, atol=_rounding(trace) * scale, equal_nan=True)


def _rounding(trace: Trace) -> float:
    """Differences between batch sizes that are rounding, relative to the largest score, at the coarsest precision used."""
    tensors = [value for value in (trace.result, *values_of(trace.features)) if isinstance(value, Tensor)]
    device = tensors[0].device.type
    precisions = {value.dtype for value in tensors}
    if torch.is_autocast_enabled(device):
        precisions.add(torch.get_autocast_dtype(device))
    single_precision = 1e-4 if device == "cpu" else 0.01  # convolutions of a GPU may run in TF32
    return max(_ROUNDING.get(precision, single_precision) for precision in precisions)


def refuse_other_scores(row: int) -> NoReturn:
    """Raise ValueError for an example whose copies get other scores than itself."""
    raise ValueError(
        f"copies of example {row} get other scores than the example in its batch: the scores depend on chance, or on the "
        "other examples. Explain a model that scores every example by itself; tensors in additional_forward_args that have "
        "as many rows as there are examples are taken to belong to them."
    )


@dataclass
class Recording:
    """What one run of a model left behind: see :func:`record`.

    Args:
        outputs (dict): per module, what its outermost calls before the layer gave, in order; and per tensor in it the
            dimension of the examples, None if it is the same for all of them.
        written (bool): whether the model writes into the outputs, so that each copy needs memory of its own.
    """

    outputs: dict[nn.Module, list[tuple[Any, list[int | None]]]] = field(default_factory=lambda: defaultdict(list))
    written: bool = False


def _holds(module: nn.Module, layer: nn.Module) -> bool:
    return any(part is layer for part in module.modules())


class _NotByExample(Exception):
    """Raised where it cannot be told which part of an output belongs to which example."""


def record(call: Call, layer: nn.Module, trace: Trace, *, at_input: bool = False) -> Recording | None:
    """Run the model on one example more and remember what :func:`run_tail` needs; None if that cannot be had.

    The sizes that grow with the batch tell where in an output the examples are: in the first dimension, in another one
    (the state of a recurrent network), or nowhere (one row per class of a text encoder). The recording cannot be had where
    an output holds anything but tensors, where modules are called once per example, or where the scores of an example
    depend on the rest of the batch.

    Cost: one forward and a copy of what was remembered.
    """
    count = call.count
    ended: list[tuple[nn.Module, int, Any]] = []  # outermost calls that have ended
    running: list[bool] = []  # per running call: may it contain the layer?
    begun: dict[nn.Module, int] = defaultdict(int)
    before: list[tuple[nn.Module, int, Any]] = []

    def watch(module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        known, number = len(ended), begun[module]
        begun[module] += not running or running[-1]
        running.append((not running or running[-1]) and _holds(module, layer))
        if module is layer and at_input:
            before[:] = ended
        output = forward(*args, **kwargs)
        running.pop()
        del ended[known:]
        if module is layer and not at_input:
            before[:] = ended
        if not running or running[-1]:
            ended.append((module, number, map_tensors(torch.clone, output)))  # the model may write into the output later
        return output

    recording = Recording()
    try:
        result = _run(call.with_one_more(), layer, watch)
        if not agree(result, torch.cat((trace.result, trace.result[:1])), trace):
            trace.alone = True
            return None
        for module, number, output in before:
            pairs = zip(leaves(output), trace.shapes[module][number], strict=True)
            dims = [_examples_in(leaf, seen, count) for leaf, seen in pairs if _is_shared_or_tensor(leaf, seen)]
            recording.outputs[module].append((output, dims))
    except Exception:  # whatever the model says of one example more: it runs whole instead
        return None
    return recording


def _is_shared_or_tensor(leaf: Any, seen: Any) -> bool:
    """Whether a leaf is a tensor; an error unless it is one or a plain value that the batch does not change."""
    if not isinstance(leaf, Tensor) and not (isinstance(leaf, (type(None), bool, int, float, str)) and leaf == seen):
        raise _NotByExample("an output holds an object, or a number that follows the batch")
    return isinstance(leaf, Tensor)


def _examples_in(output: Tensor, shape: torch.Size, count: int) -> int | None:
    """The dimension of an output of ``count + 1`` examples that holds them, by its shape for ``count``; None for no one."""
    grown = [dim for dim, (now, then) in enumerate(zip(output.shape, shape, strict=True)) if now != then]
    if len(grown) > 1 or any((shape[dim], output.shape[dim]) != (count, count + 1) for dim in grown):
        raise _NotByExample("the output does not grow by one example")
    return grown[0] if grown else None


def run_tail(
    recording: Recording | None, layer: nn.Module, features: Any, row: int, call: Call, trace: Trace, *, at_input: bool
) -> Any:
    """What the model gives with other features at the layer; what lies before the layer is not run again.

    Args:
        recording (Recording or None): of the batch; without one the whole model runs.
        layer (torch.nn.Module): the recorded layer.
        features (Tensor or tuple): what takes the place of the output (or input) of its last call, one row per copy.
        row (int): the example of the batch that the copies belong to.
        call (Call): the model, with that many copies of the example.
        trace (Trace): of the batch.
        at_input (bool): whether ``features`` is the layer's input.
    """
    try:
        answers = {} if recording is None else _answers(recording, row, call.count)
        last = trace.calls if recording is None else 1
        watch = _replay(answers, layer, features, last, at_input)
        return _run(call, layer, watch, partly=recording is not None)
    except RuntimeError as error:
        # torch refuses to write into rows that share memory: give every copy its own, from now on
        if recording is None or recording.written or "single memory location" not in str(error):
            raise
    recording.written = True
    return run_tail(recording, layer, features, row, call, trace, at_input=at_input)


def _answers(recording: Recording, row: int, copies: int) -> dict[nn.Module, deque[Any]]:
    """What the modules before the layer gave, for copies of one example."""

    def repeat(output: Tensor, dim: int | None) -> Tensor:
        if dim is None:
            return output
        seen = output.narrow(dim, row, 1).expand(*(copies if d == dim else -1 for d in range(output.dim())))
        return seen.clone() if recording.written or copies == 1 else seen

    def spread(output: Any, dims: list[int | None]) -> Any:
        left = iter(dims)
        return map_tensors(lambda value: repeat(value, next(left)), output)

    return {module: deque(spread(*output) for output in outputs) for module, outputs in recording.outputs.items()}


def _replay(answers: dict[nn.Module, deque[Any]], layer: nn.Module, features: Any, last: int, at_input: bool) -> Watch:
    """Let modules answer as long as they have answers, and the layer with the features at the last call thereafter."""
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
