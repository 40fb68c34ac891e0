"""Which of torchvision's builders made a network, so that a file of weights can say how to build it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torchvision
from torch import nn

from captum_softcam._names import closest
from captum_softcam.softcam.convert import convert_to_softcam
from captum_softcam.softcam.model import SoftCamModel

__all__ = ["Architecture", "identify"]

_NOT_SHOWN = "transform_input"  # of GoogLeNet and Inception: neither parameters nor the printed model tell it


@dataclass(frozen=True)
class Architecture:
    """A builder of torchvision with its arguments.

    Args:
        name (str): such as ``"resnet18"``.
        arguments (dict): of the builder, without weights; JSON. Default: none
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Build the network, without trained weights.

        Returns:
            torch.nn.Module: in eval mode.

        Raises:
            ValueError: if torchvision has no such builder, it does not take the arguments, or they name weights.
        """
        if self.name not in torchvision.models.list_models():
            known = torchvision.models.list_models()
            raise ValueError(f"architecture {self.name!r} is unknown to torchvision. {closest(self.name, known)}")
        if "weights" in self.arguments:
            raise ValueError("the arguments of an architecture cannot name weights; a file brings its own.")
        builder = torchvision.models.get_model_builder(self.name)
        try:
            return builder(weights=None, **self.arguments).eval()
        except TypeError as error:
            raise ValueError(f"torchvision's {self.name} does not take {self.arguments}: {error}") from error

    def build_without_memory(self) -> nn.Module:
        """Build the network on torch's meta device: all but the values. RegNets, which must compute first, are on the CPU.

        Returns:
            torch.nn.Module: in eval mode.

        Raises:
            ValueError: as :meth:`build` does.
        """
        try:
            with torch.device("meta"):
                return self.build()
        except NotImplementedError:
            return self.build()


def identify(model: nn.Module, num_classes: int) -> Architecture | None:
    """The architecture of a network of torchvision, before or after its conversion; None for any other.

    Candidates are built without memory, on torch's meta device, and must agree in every layer and every shape.
    """
    source = model.conversion.source if isinstance(model, SoftCamModel) and model.conversion else _class_name(model)
    module = source.rpartition(".")[0]
    for candidate in _candidates(module, num_classes):
        twin = candidate.build_without_memory()
        if _may_agree(model, twin) and _agree(model, twin):
            return candidate
    return None


def _may_agree(model: nn.Module, twin: nn.Module) -> bool:
    """Whether a candidate has all shapes of the model but those of the head: soon said, before it is converted."""
    shapes, others = ({tuple(value.shape) for value in net.state_dict().values()} for net in (model, twin))
    return len(shapes - others) <= 3


def _class_name(model: nn.Module) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _candidates(module: str, num_classes: int) -> Iterator[Architecture]:
    """What a module of torchvision can build, in the ways that change what is computed."""
    for name in torchvision.models.list_models():
        builder = torchvision.models.get_model_builder(name)
        if builder.__module__ != module:
            continue
        arguments: dict[str, Any] = {"num_classes": num_classes}
        if "inception" in module or "googlenet" in module:
            arguments |= {"aux_logits": False, "init_weights": False}
            yield Architecture(name, {**arguments, _NOT_SHOWN: True})
        yield Architecture(name, arguments)


def _agree(model: nn.Module, twin: nn.Module) -> bool:
    if isinstance(model, SoftCamModel):
        stride = model.conversion.output_stride if model.conversion else None
        other = convert_to_softcam(twin, output_stride=stride)
        return _layers(model) == _layers(other) and str(model.backbone.code) == str(other.backbone.code)
    return _layers(model) == _layers(twin) and getattr(model, _NOT_SHOWN, None) == getattr(twin, _NOT_SHOWN, None)


def _layers(model: nn.Module) -> tuple[str, dict[str, torch.Size]]:
    """All that a network shows of itself: its layers with their settings, and the shapes of its weights."""
    return str(model), {name: value.shape for name, value in model.state_dict().items()}
