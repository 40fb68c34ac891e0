"""A new last layer for a black box, which stays a black box otherwise."""

from __future__ import annotations

from torch import nn

from captum_softcam.softcam.twins import new_classifier

__all__ = ["fit_head", "last_layer"]

_AUXILIARY = ("aux1", "aux2", "AuxLogits")  # of GoogLeNet and Inception v3


def last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Name and module of the layer that gives the logits: the last linear or convolutional one to be defined.

    Raises:
        ValueError: if there is none.
    """
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no linear and no convolutional layer that could be its last.")
    return layers[-1]


def fit_head(model: nn.Module, num_classes: int) -> None:
    """Take auxiliary heads away, and put an untrained last layer in place unless it has ``num_classes`` outputs already."""
    name, layer = last_layer(model)
    if len(layer.weight) != num_classes:
        parent, _, own_name = name.rpartition(".")
        setattr(model.get_submodule(parent), own_name, new_classifier(layer, num_classes))
    for auxiliary in _AUXILIARY:
        if hasattr(model, auxiliary):
            delattr(model, auxiliary)  # or it would stay in the list of layers, empty
            setattr(model, auxiliary, None)
            model.aux_logits = False  # type: ignore[assignment] # nn.Module declares its attributes as tensors and modules
