"""One door for networks: torchvision, timm, Hugging Face, the user's own code, and networks of a header built again."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from captum_softcam._names import closest, quoted
from captum_softcam.softcam._sources import factory, hugging_face, lite, timm_models, torchvision_models
from captum_softcam.softcam._sources.networks import EMBEDDED_NAMES
from captum_softcam.softcam.architectures import WithoutMemory, classifier_names

__all__ = ["build_again", "load_network", "new_network"]

_DOORS = "timm:NAME, hf:FOLDER, package.module:factory, path/to/file.py:factory and FILE.safetensors"
_CALLS = 5_000  # calls of torch that build a network besides those for its weights
_CALLS_EACH = 40  # calls for each tensor of weights, mostly for its initial values; networks of timm need 11
_ROOM = 2**26  # numbers of a network beyond eight times those of its file, such as tables of positions


def load_network(
    name: str, *, checkpoint: Path | None = None, weights: str | None = None, image_size: int | None = None
) -> Any:
    """Load the network of a name; what a factory of the user's returns is returned as it is.

    Raises:
        ImportError: if the package of the door is missing.
        ValueError: for an unknown name, and as the doors say.
        FileNotFoundError: if there is no such file or folder.
        ConnectionError: if weights cannot be downloaded.
    """
    door, rest = _door(name)
    if door == "timm":
        return timm_models.load(rest, checkpoint, weights, image_size)
    if door == "hf":
        return hugging_face.load(rest, checkpoint, weights)
    if door == "code":
        _refuse_weights(name, weights)
        return factory.run_factory(name)
    if name in lite.LITE:
        _refuse_choice(name, checkpoint, weights)
        return lite.load(name)
    return torchvision_models.load(_known(name), checkpoint, weights)


def new_network(
    name: str,
    num_classes: int | None,
    *,
    checkpoint: Path | None = None,
    weights: str | None = None,
    image_size: int | None = None,
) -> Any:
    """Build a network with a last layer of ``num_classes`` outputs; see :func:`load_network`."""
    door, rest = _door(name)
    if door == "timm":
        return timm_models.new(rest, num_classes, checkpoint, weights, image_size)
    if door == "hf":
        return hugging_face.new(rest, num_classes, checkpoint, weights)
    if door == "code":
        _refuse_weights(name, weights)
        return factory.run_factory(name)
    if name in lite.LITE:
        _refuse_choice(name, checkpoint, weights)
        return lite.load(name, num_classes)
    return torchvision_models.new(_known(name), num_classes, checkpoint, weights)


def build_again(source: str, settings: Mapping[str, Any], tensors: int, numbers: int) -> nn.Module:
    """Build the network of a header, without weights, in eval mode; nothing is downloaded, and no code of the user runs.

    Args:
        source (str): name of the network.
        settings (dict): what else the door needs.
        tensors (int): number of tensors of weights in the file.
        numbers (int): number of weights in the file.

    Raises:
        ImportError: if the package of the door is missing.
        ValueError: for an unknown source, for settings that it does not take, and for a network far larger than the weights.
    """
    door, rest = _door(source)
    builders = {"timm": timm_models.build, "hf": hugging_face.build}
    if door not in builders:
        raise ValueError(f"the source {quoted(source)} of a network is unknown; expected timm:NAME or hf:NAME.")
    # First on the meta device, because a header may ask for more memory and time than there is. timm reads values of some
    # tensors while it builds, and transformers none.
    with WithoutMemory() if door == "timm" else torch.device("meta"), _Limited(_CALLS + _CALLS_EACH * tensors):
        shape_only = builders[door](rest, settings)
    asked = sum(math.prod(each.shape) for each in (*shape_only.parameters(), *shape_only.buffers()))
    if asked > 8 * numbers + _ROOM:
        raise ValueError(f"{quoted(source)} has {asked} numbers, and its file {numbers}; they do not belong together.")
    network: nn.Module = builders[door](rest, settings)
    return network


class _Limited(TorchFunctionMode):
    """Raises an error after a number of calls of torch's functions."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ValueError("the network has far more layers than its file has weights")
        return func(*args, **(kwargs or {}))


def _door(name: str) -> tuple[str, str]:
    """Split a name into its door, ``""`` for torchvision, and the rest."""
    for door in ("timm", "hf"):
        if name.startswith(f"{door}:"):
            return door, name.removeprefix(f"{door}:")
    return ("code", name) if factory.is_code(name) else ("", name)


def _refuse_weights(name: str, weights: str | None) -> None:
    if weights is not None:
        raise ValueError(
            f"model {quoted(name)} brings its own weights or takes a checkpoint; leave weights (--weights) out."
        )


def _refuse_choice(name: str, checkpoint: Path | None, weights: str | None) -> None:
    if checkpoint is not None or weights not in (None, "DEFAULT"):
        raise ValueError(
            f"model {quoted(name)} brings its own weights; leave checkpoint (--checkpoint) and weights (--weights) out."
        )


def _known(name: str) -> str:
    """Return the name of a network of torchvision, or raise ValueError with the door that has it."""
    names = classifier_names()
    if name in names:
        return name
    words = f"model {quoted(name)} is unknown to torchvision."
    if timm_models.knows(name):
        raise ValueError(f"{words} timm has it: timm:{name}.")
    if os.path.isfile(Path(name) / "config.json"):
        raise ValueError(f"{words} The folder seems to be of Hugging Face: hf:{name}.")
    if name.endswith(".py"):
        raise ValueError(f"{words} Name a function or class in the file: {name}:factory.")
    raise ValueError(f"{words} {closest(name, [*EMBEDDED_NAMES, *lite.LITE, *names])} Other doors: {_DOORS}.")
