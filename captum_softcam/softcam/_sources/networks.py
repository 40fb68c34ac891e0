"""Networks as they come from a library or from the user's code, with what is known about their inputs and classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from captum_softcam._fit import Fit
from captum_softcam._names import shown
from captum_softcam.softcam._sources.state_dicts import fill, mismatch, refuse_nan
from captum_softcam.softcam.convert import new_last_layer

__all__ = ["EMBEDDED_NAMES", "IMAGENET_MEAN", "IMAGENET_STD", "Network", "filled", "fit_head", "last_layer"]

EMBEDDED_NAMES = ("lesions_softcam", "lesions_black_box")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_AUXILIARY = ("aux1", "aux2", "AuxLogits")  # of GoogLeNet and Inception v3


@dataclass(frozen=True)
class Network:
    """A network and what the place that it comes from says about it; the fields are those of a classifier.

    Args:
        model (torch.nn.Module): in eval mode; its output is not yet known to be logits (N, K).
        source (str): the name that builds it again. Default: none
        settings (dict): what has to be known besides ``source`` to build it again. Default: none
        name (str): its name in tables. Default: that of its door
        num_classes (int): number of logits, if it is certain that the network returns (N, K). Default: not known
        classes (tuple of str): their names. Default: not known
        image_size (int): side of the square input. Default: 224
        mean (tuple of float): subtracted from each channel. Default: that of ImageNet
        std (tuple of float): each channel is divided by it. Default: that of ImageNet
        fit (Fit): how a picture becomes a square. Default: the whole picture, squeezed
        scores (str): how logits become scores. Default: not known
    """

    model: nn.Module
    source: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    num_classes: int | None = None
    classes: tuple[str, ...] | None = None
    image_size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    fit: Fit = Fit()
    scores: str | None = None


def filled(model: nn.Module, state: dict[str, Tensor], path: Path, what: str) -> nn.Module:
    """Load the weights of a checkpoint into a network, or raise ValueError if they do not fit."""
    problems = mismatch(model.state_dict(), state)
    if problems:
        raise ValueError(f"checkpoint '{shown(path)}' does not fit {what}: {shown('; '.join(problems), 300)}.")
    refuse_nan(state, f"checkpoint '{shown(path)}'")
    fill(model, state)
    return model


def last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Find the layer that computes the logits: the last linear or convolutional one to be defined.

    Returns:
        tuple of str and torch.nn.Module: its name and the layer.

    Raises:
        ValueError: if there is none.
    """
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no linear and no convolutional layer that could be its last.")
    return layers[-1]


def fit_head(model: nn.Module, num_classes: int) -> None:
    """Remove auxiliary heads, and replace the last layer by an untrained one unless it has ``num_classes`` outputs."""
    name, layer = last_layer(model)
    if len(layer.weight) != num_classes:
        parent, _, own_name = name.rpartition(".")
        setattr(model.get_submodule(parent), own_name, new_last_layer(layer, num_classes))
    for auxiliary in _AUXILIARY:
        if hasattr(model, auxiliary):
            delattr(model, auxiliary)  # otherwise it would stay in the list of layers, as None
            setattr(model, auxiliary, None)
            model.aux_logits = False  # type: ignore[assignment] # nn.Module declares its attributes as tensors and modules
