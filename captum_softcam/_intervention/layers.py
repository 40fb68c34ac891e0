"""Find layers, name them, and say which one cannot be explained."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_softcam._intervention.axes import AxisTracker
from captum_softcam._intervention.forward import Trace, values_of
from captum_softcam._intervention.layout import FeatureLayout, told_layouts
from captum_softcam._intervention.view import View, unwrap
from captum_softcam._names import closest, named, quoted

__all__ = [
    "get_layer",
    "last_spatial_layer",
    "layer_name",
    "refuse_flat_layer",
    "spatial_layout",
    "spatial_layouts",
    "view_of_maps",
]


def get_layer(model: nn.Module, name: str) -> nn.Module:
    """The submodule called ``name``; a wrong name raises ValueError and lists the closest ones."""
    layers: dict[str, nn.Module] = dict(model.named_modules())
    if name in layers and name:
        return layers[name]
    raise ValueError(f"layer {quoted(name)} is not in {type(model).__name__}. {closest(name, layers)}")


def layer_name(forward_func: object, layer: nn.Module) -> str:
    """How to call ``layer`` in a message: its name in the model, or its type."""
    if isinstance(forward_func, nn.Module):
        for name, module in forward_func.named_modules():
            if module is layer and name:
                return repr(name)
    return type(layer).__name__


def view_of_maps(model: nn.Module, name: str, *, at_input: bool = False) -> tuple[nn.Module, nn.Module]:
    """A private view of a model, and a module in it that gives what the named layer gives as maps (N, C, h, w).

    Methods that take dimension 1 for the channels, as Captum's do, explain layers of any layout with that module, and their
    hooks stay away from the model. A run of the view raises ValueError where the layout of the layer is not known.

    Args:
        model (torch.nn.Module): in eval mode.
        name (str): of the layer.
        at_input (bool): whether to give what the layer reads. Default: False

    Raises:
        ValueError: if there is no such layer.
    """
    layer = get_layer(model, name)
    view, maps = View(model, layer), nn.Identity().eval()
    outermost, running, known = unwrap(model), list[nn.Module](), list[FeatureLayout]()
    tracker = AxisTracker(())

    def by_way_of_maps(features: Any) -> Any:
        if not isinstance(features, Tensor) or features.dim() < 3:
            return maps(features)  # said later, of the result
        if not known:
            known.append(tracker.layout(features, told_layouts(tuple(running))))
        return known[0].to_features(maps(known[0].to_maps(features)), features).contiguous()

    def watch(module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal tracker
        looking = module is outermost and not known
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


def last_spatial_layer(model: nn.Module, *inputs: Any) -> tuple[str, tuple[int, ...]] | None:
    """Name and output shape of the last module that still gives a map (N, C, h, w) with more than one position.

    Of modules that end together the outermost is taken. Cost: one forward.
    """
    found: list[tuple[str, tuple[int, ...]]] = []
    names = {module: name for name, module in model.named_modules()}
    view = View(model, None)

    def watch(module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = forward(*args, **kwargs)
        if names.get(module) and _is_spatial(output):
            found.append((names[module], tuple(output.shape)))
        return output

    view.watch = watch
    with torch.no_grad():
        view.model(*inputs)
    return found[-1] if found else None


def _is_spatial(output: object) -> bool:
    return isinstance(output, Tensor) and output.dim() >= 3 and output.shape[2:].numel() > 1


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
        f"layer {named(layer_name(forward_func, layer))} gives {what}; {named(method)} needs a spatial map (N, C, h, "
        f"w). {hint}"
    )


def spatial_layouts(
    trace: Trace, layout: FeatureLayout | None, method: str, forward_func: object, layer: nn.Module, inputs: tuple[Any, ...]
) -> dict[int, FeatureLayout]:
    """The layout of every tensor that the layer gives, by its place among the values that it gives.

    Raises:
        ValueError: if one of them is no map with more than one position, or tokens whose grid is not known.
    """
    found: dict[int, FeatureLayout] = {}
    for place, value in enumerate(values_of(trace.features)):
        if value is None:
            continue
        found[place] = layout or trace.layout(value)
        if isinstance(value, Tensor) and value.dim() and len(value) != len(inputs[0]):
            raise ValueError(
                f"layer {named(layer_name(forward_func, layer))} gives {tuple(value.shape)}, {len(value)} maps for "
                f"{len(inputs[0])} examples: they belong to views, windows or frames of the examples. {named(method)} "
                "needs one map per example; explain a layer that gives one, or pass every view as an example of its own."
            )
        if not found[place].fits(value):
            refuse_flat_layer(value, method, forward_func, layer, inputs)
            raise ValueError(
                f"layer {named(layer_name(forward_func, layer))} gives {tuple(value.shape)}, which is no map in the layout "
                f"{found[place]}."
            )
    return found


def spatial_layout(
    trace: Trace, layout: FeatureLayout | None, method: str, forward_func: object, layer: nn.Module, inputs: tuple[Any, ...]
) -> FeatureLayout:
    """The same for a method that reads one map."""
    layouts = spatial_layouts(trace, layout, method, forward_func, layer, inputs)
    if isinstance(trace.features, tuple):
        raise ValueError(
            f"layer {named(layer_name(forward_func, layer))} gives {len(trace.features)} values; {named(method)} "
            "needs a single map."
        )
    return layouts[0]
