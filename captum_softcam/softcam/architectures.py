"""Architectures of torchvision: the name and arguments that rebuild a network, and their identification."""

from __future__ import annotations

import inspect
import typing
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from captum_softcam._names import closest, quoted, reason
from captum_softcam.softcam.checks import first_line
from captum_softcam.softcam.convert import rebuild
from captum_softcam.softcam.model import SoftCamModel

__all__ = ["Architecture", "WithoutMemory", "classifier_names", "converted_like", "identify"]

_CONSTRUCTORS = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}
_FURTHER = ("width_mult", "reduced_tail", "dilated")  # arguments of MobileNetV3's builders, which its class lacks
_LONGEST = 8  # entries of a list in the arguments
_DEEPEST, _WIDEST = 64, 2**14  # blocks in a row, and channels; limits for headers of files that others wrote
_NOT_SHOWN = "transform_input"  # of GoogLeNet and Inception; neither the parameters nor the printed model show it


@dataclass(frozen=True)
class Architecture:
    """Classifier of torchvision, by the name and the arguments of its builder.

    Args:
        name (str): name of the builder, such as ``"resnet18"``, of a classifier of images or videos.
        arguments (dict): of the builder, without weights: numbers, bools, None and lists of them. Default: none
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Build the network, without trained weights.

        Returns:
            torch.nn.Module: in eval mode.

        Raises:
            ValueError: if torchvision has no such classifier, or if it does not accept the arguments.
        """
        self._check()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # FutureWarning of GoogLeNet and Inception about initial weights
                return torchvision.models.get_model(self.name, weights=None, **self.arguments).eval()
        except Exception as error:  # with unsuitable numbers, constructors raise almost anything
            raise ValueError(
                f"torchvision's {self.name} does not take {quoted(dict(self.arguments))}: {reason(first_line(error))}."
            ) from error

    def build_without_memory(self) -> nn.Module:
        """Build the network with its parameters on torch's meta device, without values.

        Returns:
            torch.nn.Module: in eval mode.

        Raises:
            ValueError: as :meth:`build` does.
        """
        with WithoutMemory():
            return self.build()

    def _check(self) -> None:
        """Raise ValueError for names and arguments, such as those of a file, that are not those of a classifier."""
        known_names = classifier_names(videos=True)
        if self.name not in known_names:
            raise ValueError(
                f"architecture {quoted(self.name)} is unknown to torchvision. {closest(self.name, known_names)}"
            )
        # Weights among the arguments would make torchvision download a file.
        weights = [key for key in self.arguments if "weights" in key and key != "init_weights"]
        if weights:
            raise ValueError("the arguments of an architecture cannot name weights; a file brings its own.")
        known = _settings(self.name)
        for key, value in self.arguments.items():
            if key not in known or not _is_plain(value):
                raise ValueError(
                    f"torchvision's {self.name} does not take {quoted({key: value})}; expected numbers for "
                    f"{', '.join(sorted(known))}."
                )


class WithoutMemory(TorchFunctionMode):
    """Creates new tensors on the meta device.

    ``with torch.device("meta")`` would also affect ``torch.tensor`` and ``torch.linspace``, whose values constructors read.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _CONSTRUCTORS and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def classifier_names(*, videos: bool = False) -> list[str]:
    """List the image classifiers of torchvision, and those of videos where asked for."""
    modules = (torchvision.models, torchvision.models.video) if videos else (torchvision.models,)
    return [name for module in modules for name in torchvision.models.list_models(module=module)]


def _settings(name: str) -> set[str]:
    """Return the names of the arguments of a builder: those of its class, and some of its own."""
    builder = torchvision.models.get_model_builder(name)
    kind = typing.get_type_hints(builder)["return"]
    return {*inspect.signature(kind.__init__).parameters, *_FURTHER} - {"self", "kwargs"}


def _is_plain(value: Any) -> bool:
    """Check whether a value from JSON is a number, a bool or None, a short list of them, or rows of blocks."""
    if not isinstance(value, (list, tuple)):
        return value is None or isinstance(value, (bool, int, float))
    return len(value) <= _LONGEST and (
        all(map(_is_row, value)) or all(not _is_list(each) and _is_plain(each) for each in value)
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _is_row(value: Any) -> bool:
    """Check whether a value is a row of MobileNetV2's setting: expansion, channels, repetitions, stride."""
    if not _is_list(value) or len(value) != 4:
        return False
    return all(isinstance(each, int) and 0 < each <= _WIDEST for each in value) and value[2] <= _DEEPEST


def identify(model: nn.Module, num_classes: int) -> tuple[Architecture, nn.Module] | None:
    """Find the architecture of a network of torchvision, before or after its conversion; None for any other.

    Candidates are built on torch's meta device, and have to agree in every layer and every shape. The matching network is
    returned with its architecture, and converted if the model is.
    """
    source = model.conversion.source if isinstance(model, SoftCamModel) and model.conversion else _class_name(model)
    module = source.rpartition(".")[0]
    for candidate in _candidates(module, num_classes):
        plain = candidate.build_without_memory()
        if _may_agree(model, plain):
            twin = converted_like(plain, model)
            if _agree(model, twin):
                return candidate, twin
    return None


def _may_agree(model: nn.Module, twin: nn.Module) -> bool:
    """Check whether a candidate has all shapes of the model except those of the head, before converting it."""
    # Conversions change the shapes of linear weights only, and no head of torchvision has more than the three of VGG.
    shapes, others = ({tuple(value.shape) for value in net.state_dict().values()} for net in (model, twin))
    return len(shapes - others) <= 3


def _class_name(model: nn.Module) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _candidates(module: str, num_classes: int) -> Iterator[Architecture]:
    """Yield the architectures of a module of torchvision, with the arguments that change the computation."""
    for name in classifier_names(videos=True):
        builder = torchvision.models.get_model_builder(name)
        if builder.__module__ != module:
            continue
        arguments: dict[str, Any] = {"num_classes": num_classes}
        if "inception" in module or "googlenet" in module:
            arguments |= {"aux_logits": False, "init_weights": False}
            yield Architecture(name, {**arguments, _NOT_SHOWN: True})
        yield Architecture(name, arguments)


def converted_like(network: nn.Module, model: nn.Module) -> nn.Module:
    """Convert a network in the way of ``model``; return it as it is where ``model`` is not a SoftCamModel."""
    return rebuild(network, model.conversion) if isinstance(model, SoftCamModel) else network


def _agree(model: nn.Module, twin: nn.Module) -> bool:
    """Check whether two networks have the same layers, settings and shapes, and the same code."""
    if isinstance(model, SoftCamModel) and isinstance(twin, SoftCamModel):
        return _layers(model) == _layers(twin) and str(model.backbone.code) == str(twin.backbone.code)
    return _layers(model) == _layers(twin) and getattr(model, _NOT_SHOWN, None) == getattr(twin, _NOT_SHOWN, None)


def _layers(model: nn.Module) -> tuple[str, dict[str, torch.Size]]:
    # The printed model shows settings that have no shape: strides, dilation, activations, epsilon.
    return str(model), {name: value.shape for name, value in model.state_dict().items()}
