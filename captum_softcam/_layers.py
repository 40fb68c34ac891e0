"""Find layers, name them, and say which one cannot be explained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_softcam._call import Call
from captum_softcam._layout import FeatureLayout
from captum_softcam._names import closest
from captum_softcam._tail import Trace, observe, values_of
from captum_softcam._view import View

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
    raise ValueError(f"layer {name!r} is not in {type(model).__name__}. {closest(name, layers)}")


def layer_name(forward_func: object, layer: nn.Module) -> str:
    """How to call ``layer`` in a message: its name in the model, or its type."""
    if isinstance(forward_func, nn.Module):
        for name, module in forward_func.named_modules():
            if module is layer and name:
                return repr(name)
    return type(layer).__name__


def view_of_maps(model: nn.Module, name: str, images: Tensor, method: str) -> tuple[nn.Module, nn.Module]:
    """A private view of a model, and a layer of it that gives what the named one gives as maps (N, C, h, w).

    Methods that take dimension 1 for the channels, as Captum's do, explain layers of any layout in it, and their hooks stay
    away from the model. Cost: one forward of the first image.

    Raises:
        ValueError: if there is no such layer, or it does not give one map per image.
    """
    layer = get_layer(model, name)
    call = Call.of(model, images[:1], None)
    layout = spatial_layout(observe(call, layer), None, method, model, layer, call.arguments)
    view = View(model, layer)
    twin = cast(nn.Module, view.layer)
    if not layout.channels_last:
        return cast(nn.Module, view.model), twin
    forward, maps = twin.forward, nn.Identity().train(twin.training)

    def by_way_of_maps(*args: Any, **kwargs: Any) -> Tensor:
        features = forward(*args, **kwargs)
        return layout.to_features(maps(layout.to_maps(features)), features).contiguous()

    twin.__dict__["forward"] = by_way_of_maps
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
        f"layer {layer_name(forward_func, layer)} gives {what}; {method} needs a spatial map (N, C, h, w). {hint}"
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
                f"layer {layer_name(forward_func, layer)} gives {tuple(value.shape)}, {len(value)} maps for "
                f"{len(inputs[0])} examples: they belong to views, windows or frames of the examples. {method} needs one "
                "map per example; explain a layer that gives one, or pass every view as an example of its own."
            )
        if not found[place].fits(value):
            refuse_flat_layer(value, method, forward_func, layer, inputs)
            raise ValueError(
                f"layer {layer_name(forward_func, layer)} gives {tuple(value.shape)}, which is no map in the layout "
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
            f"layer {layer_name(forward_func, layer)} gives {len(trace.features)} values; {method} needs a single map."
        )
    return layouts[0]
