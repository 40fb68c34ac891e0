"""Arguments of Captum's classes: validate them and fill in defaults for images."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from captum.attr import (
    Attribution,
    DataLoaderAttribution,
    FeaturePermutation,
    LayerActivation,
    LayerFeatureAblation,
    LayerFeaturePermutation,
    LimeBase,
    NoiseTunnel,
    Occlusion,
    ShapleyValues,
)
from torch import Tensor

from captum_softcam._names import closest, quoted

__all__ = ["check_arguments", "check_class", "default_arguments", "parameters_of"]

_IMAGES = 64  # images per forward of methods that run many for each image
_FEW = 16  # the same on a CPU whose caches they would overflow
_VALUES = _FEW * 3 * 160 * 160  # about as many as the caches hold; measured on MobileNetV2
_PATCHES = 8  # features per side, because Captum would remove every number of the image by itself
_SAMPLES = 512  # sets of patches for Lime and Kernel SHAP: eight per patch; Captum's 25 to 50 are for a few features
_STEPS = 32  # of a path integral

_OF_A_BATCH = (FeaturePermutation, LayerFeaturePermutation)
_WRAPPERS = (NoiseTunnel, DataLoaderAttribution)


def parameters_of(function: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function, or of a class's constructor, by name."""
    return inspect.signature(function).parameters


def check_class(method: type[Attribution]) -> None:
    """Raise ValueError if a class needs another method, or if its maps depend on the other images of a batch."""
    name = method.__name__
    if issubclass(method, _WRAPPERS):
        raise ValueError(
            f"{name} works on another method, not on a model: pass an instance of it, which explains its own model, or a "
            "function (model, images, targets) -> maps that builds one."
        )
    if issubclass(method, _OF_A_BATCH):
        raise ValueError(
            f"{name} shuffles features among the images of a batch, so that the map of one depends on the others: use "
            "FeatureAblation or LayerFeatureAblation."
        )


def check_arguments(method: Any, given: Mapping[str, Any]) -> None:
    """Raise TypeError if ``attribute`` has no ``inputs`` or an argument is unknown, ValueError if one is missing."""
    cls = method if isinstance(method, type) else type(method)
    attribute = parameters_of(method.attribute) if hasattr(method, "attribute") else {}
    if "inputs" not in attribute:
        raise TypeError(f"{cls.__name__} has no attribute(inputs, ...) to call with images; use a class that has one.")
    known = {**attribute, **(parameters_of(cls) if isinstance(method, type) else {})}
    for name in given:
        # ``NoiseTunnel.attribute`` passes further keywords on to the method that it wraps.
        if name not in known and not _takes_any(attribute):
            raise TypeError(f"{cls.__name__} has no argument {quoted(name)}. {closest(name, known)}")
    missing = [name for name in _needed(method, known) if name not in given]
    if missing:
        raise ValueError(f"{cls.__name__} needs the argument {quoted(missing[0])}; pass {missing[0]}=...")


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _needed(method: Any, known: Mapping[str, inspect.Parameter]) -> list[str]:
    """Return the required arguments without a default here."""
    filled = {"self", "forward_func", "model", "layer", "inputs", "target", "sliding_window_shapes"}
    needed = [n for n, p in known.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and n not in filled]
    return [*needed, "feature_mask"] if method is ShapleyValues else needed  # all orders of 64 patches are too many


def default_arguments(explainer: Attribution, images: Tensor) -> dict[str, Any]:
    """Return arguments that Captum requires, or whose defaults suit a few features and not the pixels of an image."""
    known = parameters_of(explainer.attribute)
    # Captum's Saliency takes absolute values by default, and its maps would have no sign.
    found: dict[str, Any] = {"abs": False} if "abs" in known else {}
    if isinstance(explainer, Occlusion):
        found |= _windows(images)
    if isinstance(explainer, LimeBase):
        found["n_samples"] = _SAMPLES
    if isinstance(explainer, LayerFeatureAblation):  # batching perturbations fails when each image has its own target
        return {"layer_mask": _numbered(LayerActivation(explainer.forward_func, explainer.layer).attribute(images[:1]))}
    if "feature_mask" in known:
        found["feature_mask"] = _numbered(images, _PATCHES)
    if "n_steps" in known:
        # Below twice the number of images, Captum's LayerConductance warns and raises the batch size by itself.
        found |= {"n_steps": _STEPS, "internal_batch_size": max(_per_forward(images), 2 * len(images))}
    # Methods of this package have the default None and choose their own number.
    if "perturbations_per_eval" in known and known["perturbations_per_eval"].default == 1:
        found["perturbations_per_eval"] = max(1, _per_forward(images) // len(images))
    return found


def _per_forward(images: Tensor) -> int:
    """Return how many images one forward takes; large ones run up to twice as fast in small batches on a CPU."""
    if images.device.type != "cpu":
        return _IMAGES
    return min(max(_VALUES // max(images[:1].numel(), 1), _FEW), _IMAGES)


def _windows(images: Tensor) -> dict[str, Any]:
    """Return a window of an eighth of the image with all channels, and strides of half its side."""
    window = [min(side, max(2, side // 8)) for side in images.shape[2:]]
    strides = [max(1, side // 2) for side in window]
    return {"sliding_window_shapes": (images.shape[1], *window), "strides": (images.shape[1], *strides)}


def _numbered(images: Tensor, patches: int | None = None) -> Tensor:
    """Return the index of the patch at every position, (1, 1, ...); by default each position is a patch."""
    numbers = torch.zeros((), dtype=torch.long, device=images.device)
    for side in images.shape[2:]:
        count = min(patches or side, side)
        # With index * count // side, patches differ by one position at most where their number does not divide the side.
        numbers = numbers[..., None] * count + torch.arange(side, device=images.device) * count // side
    return numbers[None, None]
