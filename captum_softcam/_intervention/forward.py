"""Run a model once, watch its modules, and capture the features of a layer.

Everything runs in a private view of the model, so that neither the model nor another thread is affected. Models whose
scores would change from copy to copy, because of train mode or random dropout, are refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from captum_softcam._intervention.axes import AxisTracker
from captum_softcam._intervention.call import Call, map_tensors
from captum_softcam._intervention.layout import FeatureLayout, told_layouts
from captum_softcam._intervention.operations import leaves
from captum_softcam._intervention.view import View, Watch
from captum_softcam._names import quoted
from captum_softcam._scores import rounding

__all__ = [
    "Trace",
    "agree",
    "depends_on_mode",
    "holds",
    "largest",
    "observe",
    "refuse_other_scores",
    "refuse_random",
    "refuse_train_mode",
    "refuse_undefined_zero",
    "run_view",
    "values_of",
]


@dataclass
class Trace:
    """The observations of one forward, returned by :func:`observe`.

    Args:
        features (Tensor or tuple): output (or input) of the layer in its last call; None if it was not called.
        calls (int): number of calls of the layer.
        containers (tuple of torch.nn.Module): the modules around the layer, from the outside in.
        result (Tensor): output of the model.
        axes (AxisTracker): the dimensions of the tensors in that forward.
        alone (bool): whether the scores of an example are known to change with the batch, so that copies cannot share one.
        shapes (dict): per module and outermost call, the shapes of the tensors in its output, and the other values in it.
        before (list): modules and outputs of the outermost calls that had ended when the layer was called; None if they were
            not to be stored, or if the layer was called several times.
    """

    features: Any = None
    calls: int = 0
    containers: tuple[nn.Module, ...] = ()
    result: Any = None
    axes: AxisTracker = field(default_factory=lambda: AxisTracker(()))
    alone: bool = False
    shapes: dict[nn.Module, list[Any]] = field(default_factory=lambda: defaultdict(list))
    before: list[tuple[nn.Module, Any]] | None = None

    def layout(self, features: Any) -> FeatureLayout:
        """Return the layout of one of the layer's tensors; raise ValueError where it is not certain."""
        return self.axes.layout(features, told_layouts(self.containers))


def observe(
    call: Call,
    layer: nn.Module,
    *,
    at_input: bool = False,
    follow: Callable[[Trace], Any] | None = None,
    tracked: bool = True,
    stored: bool = False,
) -> Trace:
    """Run the model and capture the features of a layer. Cost: one forward.

    Args:
        call (Call): the model with its arguments.
        layer (torch.nn.Module): of that model.
        at_input (bool): whether to capture the input of the layer instead of its output. Default: False
        follow (callable): called with the trace after every call of the layer; a result other than None replaces the
            features. Default: None
        tracked (bool): whether to track the dimensions of all tensors, from which :meth:`Trace.layout` derives the layout.
            This costs a few percent of a forward in Python. Default: True
        stored (bool): whether to store copies of the outputs of the modules before the layer. Default: False

    Raises:
        TypeError: if the layer is not a module.
        ValueError: if the layer is not reached, or if scores of copies would differ because of train mode or dropout.
    """
    call = call.cloned()
    trace = Trace(axes=AxisTracker(call.arguments))
    running: list[nn.Module] = []
    around: list[bool] = []  # per running call: may it contain the layer?
    ended: list[tuple[nn.Module, Any]] = []

    def reached(features: Any) -> Any:
        trace.calls += 1
        trace.before = list(ended) if stored and trace.calls == 1 else None
        trace.containers = tuple(running)
        trace.features = map_tensors(torch.clone, features)  # the model may overwrite them later, as an in-place ReLU does
        replacement = follow(trace) if follow else None
        return features if replacement is None else replacement

    def watch(module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        refuse_train_mode(module)
        outermost = not around or around[-1]
        known = len(ended)
        running.append(module)
        around.append(outermost and holds(module, layer))
        if module is layer and at_input:
            args = values_of(reached(_positional(args, layer)))
        output = forward(*args, **kwargs)
        running.pop(), around.pop()
        if outermost:  # replay answers for whole modules, so that the outputs of the modules within are not needed
            trace.shapes[module].append([leaf.shape if isinstance(leaf, Tensor) else leaf for leaf in leaves(output)])
        del ended[known:]  # the module answers for all that ran within it
        result = reached(output) if module is layer and not at_input else output
        if outermost and stored and not trace.calls:
            ended.append((module, map_tensors(torch.clone, output)))  # the model may overwrite the output later
        return result

    with trace.axes if tracked else nullcontext():
        trace.result = run_view(call, layer, watch)
    if trace.features is None:
        raise ValueError(_not_called(layer))
    refuse_random(trace.axes.random)
    return trace


def run_view(call: Call, layer: nn.Module, watch: Watch, *, partly: bool = False) -> Any:
    """Run a view of the model whose modules are watched.

    Each run gets a view of its own: modules that store something during their forward store it in the view, and the next
    run must not find it there.

    Args:
        call (Call): the model with its arguments.
        layer (torch.nn.Module): that has to be in the view.
        watch (callable): runs each module.
        partly (bool): whether it skips modules. Default: False
    """
    if not isinstance(layer, nn.Module):
        raise TypeError(f"layer must be a module; got {quoted(layer)}. A layer by name is model.get_submodule(name).")
    view = View(call.model, layer)
    if view.layer is None:
        raise ValueError(_not_called(layer))
    view.watch, view.partly = watch, partly
    return Call(view.model, call.inputs, call.args).run()


def values_of(features: Any) -> tuple[Any, ...]:
    """Return the output or input of a layer as a tuple."""
    return features if isinstance(features, tuple) else (features,)


def holds(module: nn.Module, layer: nn.Module) -> bool:
    """Return whether the layer is a module or within it."""
    return any(part is layer for part in module.modules())


def _positional(args: tuple[Any, ...], layer: nn.Module) -> Any:
    if not args:
        raise ValueError(f"layer {type(layer).__name__} is called with keyword arguments alone; use its output.")
    return args[0] if len(args) == 1 else args


def _not_called(layer: nn.Module) -> str:
    return (
        f"layer {type(layer).__name__} is not called by the model; pass a layer of this very model. If a function around "
        "the model hides it, pass the model itself or a module that calls it."
    )


def refuse_undefined_zero(maps: Tensor, features: Tensor) -> None:
    """Raise ValueError if the maps of an example are nowhere finite although its features are finite."""
    undefined = ~maps.isfinite().flatten(1).any(1) & features.isfinite().flatten(1).all(1)
    if undefined.any():
        raise ValueError(
            f"with no position kept, example {int(undefined.nonzero()[0])} has no finite score, as where features are "
            "divided by their norm; pass relative=False to get the scores themselves."
        )


def refuse_random(function: str | None) -> None:
    """Raise ValueError if a function was called that drops values at random.

    Args:
        function (str or None): the call in words, from :func:`~captum_softcam._intervention.operations.drops_at_random`.
    """
    if function:
        raise ValueError(
            f"the model calls {function}, which drops values at random although the model is in eval mode: the scores of "
            "copies would differ by chance. Pass training=self.training to it."
        )


def refuse_train_mode(module: nn.Module) -> None:
    """Raise ValueError if the module itself is in train mode, and its output depends on that."""
    if module.training and depends_on_mode(module):
        raise ValueError(
            f"the model is in train mode ({type(module).__name__}.training is True): dropout and batch statistics would "
            "change the scores. Call model.eval() first."
        )


def depends_on_mode(module: nn.Module) -> bool:
    """Return whether train mode changes the output of a module itself, regardless of its children."""
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
    # A module of the user's: its output can depend on the mode if its code reads self.training, and containers rarely do.
    return any(_reads_mode(kind) for kind in type(module).__mro__ if not kind.__module__.startswith("torch.nn."))


def _reads_mode(kind: type) -> bool:
    codes = [getattr(value, "__code__", None) for value in vars(kind).values()]
    return any("training" in code.co_names for code in codes if code is not None)


def agree(scores: Any, known: Any, trace: Trace) -> bool:
    """Return whether scores equal known ones up to the rounding between batches of different sizes.

    The tolerance is relative to the largest score of the trace, because the score of one class may be close to 0.
    """
    if not isinstance(scores, Tensor) or scores.shape != known.shape:
        return False
    computed = [value for value in (trace.result, *values_of(trace.features)) if isinstance(value, Tensor)]
    tolerance = rounding(*computed, batches=True) * largest(trace.result)
    return torch.allclose(scores.double(), known.double(), rtol=0, atol=tolerance, equal_nan=True)


def largest(values: Tensor) -> float:
    """Return the magnitude of the largest finite value; 0 if there is none."""
    return float(values.double().abs().nan_to_num(0, 0).amax()) if values.numel() else 0.0


def refuse_other_scores(row: int) -> NoReturn:
    """Raise ValueError for an example whose copies have other scores than the example itself."""
    raise ValueError(
        f"copies of example {row} get other scores than the example in its batch: the scores depend on chance, or on the "
        "other examples. Explain a model that scores every example by itself; tensors in additional_forward_args that have "
        "as many rows as there are examples are taken to belong to them."
    )
