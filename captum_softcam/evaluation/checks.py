"""What a comparison is refused for before it starts, and what it takes where nothing was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_softcam._layers import get_layer, last_spatial_layer, refuse_flat_layer
from captum_softcam._names import closest
from captum_softcam.attr import METHODS, LayerSoftCam
from captum_softcam.data import Samples
from captum_softcam.evaluation.adapter import find_method
from captum_softcam.evaluation.controls import CONTROLS
from captum_softcam.metrics import METRICS
from captum_softcam.softcam import SoftCamModel

__all__ = ["check_layer", "check_model", "check_names", "default_methods", "default_metrics"]


_BY_NAME_ONLY = ("class_activation_map", "score_cam")  # Recipro-CAM by another scale, and a forward per channel


def default_methods(model: nn.Module) -> list[str]:
    """The methods and controls that fit the model; CAM and Score-CAM take part where they are asked for."""
    fitting = [name for name in {**METHODS, **CONTROLS} if name not in _BY_NAME_ONLY]
    return [name for name in fitting if name != "soft_cam" or isinstance(model, SoftCamModel)]


def default_metrics(samples: Samples) -> list[str]:
    """All metrics, or the faithfulness metrics if no sample has a mask."""
    masks = any(samples[i].mask is not None for i in range(len(samples)))
    return [name for name, metric in METRICS.items() if masks or metric.category != "localisation"]


def check_names(methods: Sequence[str], metrics: Sequence[str], model: nn.Module) -> None:
    """Raise ValueError for an unknown method or metric, or for SoftCAM on a model that has no evidence."""
    for name in methods:
        if find_method(name) is LayerSoftCam and not isinstance(model, SoftCamModel):
            raise ValueError(
                f"method 'soft_cam' needs a SoftCAM model; got {type(model).__name__}. Convert it with "
                "convert_to_softcam(model), or leave the method out."
            )
    for name in metrics:
        if name not in METRICS:
            raise ValueError(f"metric {name!r} is unknown. {closest(name, METRICS)}")


def check_model(model: nn.Module) -> None:
    """Raise ValueError if a part of the model is in train mode."""
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise ValueError(
            f"the model is in train mode ({len(training)} modules, first '{training[0]}'): dropout and batch statistics "
            "would change the scores. Call model.eval() first."
        )


@torch.no_grad()
def check_layer(model: nn.Module, layer: str | None, images: Tensor) -> str:
    """The layer to look at: the one asked for if it gives a spatial map, the last spatial one if none was asked for."""
    if layer is None:
        last = ("backbone",) if isinstance(model, SoftCamModel) else last_spatial_layer(model, images)
        if last is None:
            raise ValueError(f"{type(model).__name__} has no layer that gives a spatial map (N, C, h, w).")
        return last[0]
    seen: list[Any] = []
    module = get_layer(model, layer)
    handle = module.register_forward_hook(lambda _module, _args, output: seen.append(output))
    try:
        model(images)
    finally:
        handle.remove()
    refuse_flat_layer(seen[-1] if seen else None, "a layer method", model, module, (images,))
    return layer
