"""Find the layers of a model, name them in messages, and refuse those that cannot be explained."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_softcam._intervention.axes import AxisTracker
from captum_softcam._intervention.call import Call
from captum_softcam._intervention.forward import Trace, values_of
from captum_softcam._intervention.layout import FeatureLayout, refuse_other_count, told_layouts
from captum_softcam._intervention.operations import leaves
from captum_softcam._intervention.stages import Survey, survey
from captum_softcam._intervention.view import View, unwrap
from captum_softcam._names import closest, named, quoted

__all__ = [
    "default_layer",
    "get_layer",
    "layer_name",
    "refuse_flat_layer",
    "spatial_layout",
    "spatial_layouts",
    "view_of_maps",
]


def get_layer(model: nn.Module, name: str) -> nn.Module:
    """Return the submodule of that name; raise ValueError with the closest names if there is none."""
    layers: dict[str, nn.Module] = dict(model.named_modules())
    if name in layers and name:
        return layers[name]
    raise ValueError(f"layer {quoted(name)} is not in {type(model).__name__}. {closest(name, layers)}")


def layer_name(forward_func: object, layer: nn.Module) -> str:
    """Return the name of a layer for a message: that in the model, or else its type."""
    if isinstance(forward_func, nn.Module):
        for name, module in forward_func.named_modules():
            if module is layer and name:
                return repr(name)
    return type(layer).__name__


def view_of_maps(model: nn.Module, name: str, *, at_input: bool = False) -> tuple[nn.Module, nn.Module]:
    """Create a private view of a model, with a module whose output is that of the named layer as maps (N, C, h, w).

    With this module, methods that expect channels in dimension 1, as Captum's do, explain layers of any layout; and their
    hooks stay away from the model. A run of the view raises ValueError if the layout of the layer is not known.

    Args:
        model (torch.nn.Module): in eval mode.
        name (str): of the layer.
        at_input (bool): whether the maps are those of the layer's input. Default: False

    Returns:
        tuple of torch.nn.Module: the view, and the module with the maps.

    Raises:
        ValueError: if there is no such layer.
    """
    layer = get_layer(model, name)
    view, maps = View(model, layer), nn.Identity().eval()
    outermost, running, tracker = unwrap(model), list[nn.Module](), AxisTracker(())
    sizes: tuple[torch.Size, ...] = ()
    # By the sizes of the inputs, which determine the grid of tokens, and of the features, for a layer of several calls
    known: dict[tuple[torch.Size, ...], FeatureLayout] = {}

    def by_way_of_maps(features: Any) -> Any:
        if not isinstance(features, Tensor) or features.dim() < 3:
            return maps(features)  # refused later, as a result that is not a map
        key = (*sizes, features.shape[1:])
        if key not in known:
            known[key] = tracker.layout(features, told_layouts(tuple(running)))
        # Contiguous, as from a layer of the model: view() would fail on dimensions that were moved
        return known[key].to_features(maps(known[key].to_maps(features)), features).contiguous()

    def watch(module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal tracker, sizes
        if module is outermost:
            sizes = tuple(value.shape[1:] for value in leaves((args, kwargs)) if isinstance(value, Tensor))
        looking = module is outermost and sizes not in {key[:-1] for key in known}
        tracker = AxisTracker((*args, *kwargs.values())) if looking else tracker
        running.append(module)
        if module is layer and at_input and args:
            args = (by_way_of_maps(args[0]), *args[1:])
        with tracker if looking else nullcontext():
            output = forward(*args, **kwargs)
        running.pop()
        return by_way_of_maps(output) if module is layer and not at_input else output

    view.watch = watch
    return cast(nn.Module, view.model), maps


def default_layer(model: nn.Module, *inputs: Any) -> str | None:
    """Return the name of the layer to explain, None if no module gives a map.

    Cost: that of :func:`~captum_softcam._intervention.stages.survey`.

    Args:
        model (torch.nn.Module): in eval mode.
        *inputs (any): its arguments.
    """
    layer = survey(Call.of(model, inputs, None)).recommended
    return None if layer is None else layer.name


def refuse_flat_layer(
    features: object, method: str, forward_func: object, layer: nn.Module, inputs: tuple[Any, ...]
) -> None:
    """Raise ValueError unless features are a map (N, C, h, w) of more than one position.

    Args:
        features (any): output of the layer.
        method (str): that needs a map.
        forward_func (callable): the model, in which the message names the last layer that has a map.
        layer (torch.nn.Module): that is explained.
        inputs (tuple): all arguments of the model.
    """
    if FeatureLayout().fits(features):
        return
    what = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    found = _survey_of_one(forward_func, inputs)
    best = None if found is None else found.recommended
    hint = "Use a layer before the pooling." if found is None else "The model has no spatial layer."
    if best is not None:
        shape = (len(inputs[0]), *best.shape[1:])
        hint = f"The last spatial layer is {best.name!r} {shape}."
    raise ValueError(
        f"layer {named(layer_name(forward_func, layer))} gives {what}; {named(method)} needs a spatial map (N, C, h, "
        f"w). {hint}"
    )


def _survey_of_one(forward_func: object, inputs: tuple[Any, ...]) -> Survey | None:
    """Return the survey of a model on one example, which costs less than the batch; None if it does not run on one."""
    if not isinstance(forward_func, nn.Module):
        return None
    try:
        return survey(Call(unwrap(forward_func), inputs, None).copies(0, 1))
    except Exception:  # any error of the model: a message must not fail on its advice
        return None


def spatial_layouts(
    trace: Trace, layout: FeatureLayout | None, method: str, forward_func: object, layer: nn.Module, inputs: tuple[Any, ...]
) -> dict[int, FeatureLayout]:
    """Return the layout of every tensor in the output of a layer, by its place in the output.

    Args:
        trace (Trace): of the model.
        layout (FeatureLayout or None): as declared by the user; None to derive it from the trace.
        method (str): that needs a map.
        forward_func (callable): the model.
        layer (torch.nn.Module): that is explained.
        inputs (tuple): all arguments of the model.

    Raises:
        ValueError: if a tensor is not one map per example with more than one position, or holds tokens of an unknown grid.
    """
    found: dict[int, FeatureLayout] = {}
    for place, value in enumerate(values_of(trace.features)):
        # A layer may return None beside its features, as attention does for the weights
        if value is None:
            continue
        found[place] = layout or trace.layout(value)
        if isinstance(value, Tensor) and value.dim() and len(value) != len(inputs[0]):
            refuse_other_count(f"layer {named(layer_name(forward_func, layer))}", tuple(value.shape), len(inputs[0]))
        # A declared layout may not fit, and neither does the default one of features that are not a map
        if not found[place].fits(value):
            refuse_flat_layer(value, method, forward_func, layer, inputs)
            raise ValueError(
                f"layer {named(layer_name(forward_func, layer))} gives {tuple(value.shape)}, which is not a map in the "
                f"layout {found[place]}."
            )
    return found


def spatial_layout(
    trace: Trace, layout: FeatureLayout | None, method: str, forward_func: object, layer: nn.Module, inputs: tuple[Any, ...]
) -> FeatureLayout:
    """Return the layout of the only tensor in the output of a layer; arguments and errors as of :func:`spatial_layouts`.

    Raises:
        ValueError: also if the output has several values.
    """
    layouts = spatial_layouts(trace, layout, method, forward_func, layer, inputs)
    if isinstance(trace.features, tuple):
        raise ValueError(
            f"layer {named(layer_name(forward_func, layer))} gives {len(trace.features)} values; {named(method)} "
            "needs a single map."
        )
    return layouts[0]
