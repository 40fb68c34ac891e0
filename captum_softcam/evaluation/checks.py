"""Validate the arguments of a comparison and fill in defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from captum_softcam._intervention.call import Call
from captum_softcam._intervention.forward import depends_on_mode, observe
from captum_softcam._intervention.layers import get_layer, last_spatial_layer, refuse_flat_layer
from captum_softcam._names import closest, named, quoted
from captum_softcam._scores import refuse_probabilities, score_table
from captum_softcam.attr import METHODS
from captum_softcam.data import Samples
from captum_softcam.evaluation.controls import CONTROLS
from captum_softcam.evaluation.explain_func import LayerExplainFunc
from captum_softcam.metrics import METRICS, Metric
from captum_softcam.softcam import SoftCamModel

__all__ = [
    "check_choices",
    "check_layer",
    "check_model",
    "check_scores",
    "default_methods",
    "default_metrics",
    "find_methods",
    "find_metrics",
]


_EXPLAINED = ("true", "predicted")
_LOOKED_AT = 64  # samples searched for a mask, because a data set need not declare that it has any


def default_methods(model: nn.Module) -> list[str]:
    """Return the methods that fit the model and take part by default, and the controls."""
    fitting = [name for name in METHODS if METHODS[name].needs != "evidence" or isinstance(model, SoftCamModel)]
    return [*(name for name in fitting if METHODS[name].default), *CONTROLS]


def default_metrics(samples: Samples) -> list[str]:
    """Return the default metrics, without localisation metrics if none of the first samples has a mask."""
    masks = any(samples[i].mask is not None for i in range(min(len(samples), _LOOKED_AT)))
    return [name for name, metric in METRICS.items() if metric.default and (masks or metric.category != "localisation")]


def find_methods(
    methods: Sequence[Any] | Mapping[str, Any], layer: str | None, model: nn.Module
) -> dict[str, LayerExplainFunc]:
    """Resolve methods to their explain functions, by name.

    Raises:
        ValueError: if a name is unknown or used twice, there is no method, or SoftCAM is compared on a model without
            evidence.
    """
    if not methods:
        raise ValueError("there are no methods to compare; pass at least one.")
    if isinstance(methods, Mapping):
        return {name: _explainer(method, layer, model) for name, method in methods.items()}
    found: dict[str, LayerExplainFunc] = {}
    for method in dict.fromkeys(methods):  # a method listed twice counts once
        explainer = _explainer(method, layer, model)
        if explainer.name in found:
            raise ValueError(
                f"two methods are called '{named(explainer.name)}'; give them names: {{'one': ..., 'other': ...}}."
            )
        found[explainer.name] = explainer
    return found


def _explainer(method: Any, layer: str | None, model: nn.Module) -> LayerExplainFunc:
    if isinstance(method, LayerExplainFunc):
        return method
    name = next((name for name, known in METHODS.items() if method == name or method is known.cls), "")
    softcam = bool(name) and METHODS[name].needs == "evidence"
    if softcam and not isinstance(model, SoftCamModel):
        raise ValueError(
            f"method '{name}' needs a SoftCAM model; got {type(model).__name__}. Convert it with "
            "convert_to_softcam(model), or leave the method out."
        )
    return LayerExplainFunc(method, None if softcam else layer)


def find_metrics(metrics: Sequence[str | Metric]) -> list[Metric]:
    """Resolve names to metrics, each once.

    Raises:
        ValueError: if a name is unknown, two metrics have the same name, or there is no metric.
    """
    if not metrics:
        raise ValueError("there are no metrics to compare by; pass at least one.")
    unknown = [metric for metric in metrics if isinstance(metric, str) and metric not in METRICS]
    if unknown:
        raise ValueError(f"metric {quoted(unknown[0])} is unknown. {closest(unknown[0], METRICS)}")
    found: dict[str, Metric] = {}
    for metric in [METRICS[metric] if isinstance(metric, str) else metric for metric in metrics]:
        if found.setdefault(metric.name, metric) is not metric:
            raise ValueError(f"two metrics are called '{named(metric.name)}'; give one of them another name.")
    return list(found.values())


def check_model(model: nn.Module) -> None:
    """Raise ValueError if a module whose output depends on the mode is in train mode."""
    parts = [(name or type(model).__name__, module) for name, module in model.named_modules()]
    training = [name for name, module in parts if module.training and depends_on_mode(module)]
    if training:
        raise ValueError(
            f"the model is in train mode ({len(training)} modules, first '{named(training[0])}'): dropout and batch "
            "statistics would change the scores. Call model.eval() first."
        )


@torch.no_grad()
def check_scores(model: nn.Module, images: Tensor, metrics: Sequence[Metric]) -> None:
    """Raise ValueError unless the model returns logits (N, K) of at least two classes.

    Probabilities are accepted if no metric runs the model.
    """
    # This forward also warms the model up, before any is timed.
    scores = score_table(model(images), len(images))
    if any(metric.forwards for metric in metrics):
        refuse_probabilities(model, images, [scores])


def check_choices(explain: str, batch_size: int, examples: int, seed: int) -> None:
    """Raise ValueError if ``explain`` is unknown or a number is out of range."""
    if explain not in _EXPLAINED:
        raise ValueError(
            f"explain is {quoted(explain)}; expected 'true', the class of each sample, or 'predicted', that of the model."
        )
    for name, value, least in (("batch_size", batch_size, 1), ("examples", examples, 0), ("seed", seed, 0)):
        # Integral includes NumPy's integers, but also bool, whose True would pass as 1.
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{named(name)} is {quoted(value)}; expected a whole number from {least} up.")


@torch.no_grad()
def check_layer(model: nn.Module, layer: str | None, images: Tensor) -> str:
    """Return the layer to explain, by default the last one with a spatial map; ValueError if it has no spatial map."""
    if layer is None:
        last = ("backbone",) if isinstance(model, SoftCamModel) else last_spatial_layer(model, images)
        if last is None:
            raise ValueError(f"{type(model).__name__} has no layer with a spatial map (N, C, h, w).")
        return last[0]
    module = get_layer(model, layer)
    features = observe(Call.of(model, images, None), module).features
    refuse_flat_layer(features, "a layer method", model, module, (images,))
    return layer
