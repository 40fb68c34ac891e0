"""Classifiers by name: a torchvision architecture with a checkpoint or with torchvision's own weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from captum_softcam._names import NAME, closest, listed, named, quoted, reason, shown
from captum_softcam.softcam.architectures import Architecture
from captum_softcam.softcam.files import fill, load_model, misfit, refuse_nan, save_model

__all__ = ["Classifier", "load_classifier"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Classifier:
    """A model with what is needed to feed it and to read its answer.

    Args:
        name (str): for tables and manifests.
        model (torch.nn.Module): gives logits (N, K), in eval mode.
        classes (tuple of str): K names, in the order of the logits.
        image_size (int): side of the square input, in pixels.
        mean (tuple of float): subtracted from each channel of an image in [0, 1]. Default: 0
        std (tuple of float): each channel is divided by it afterwards. Default: 1
        architecture (Architecture): builder and arguments of the network before any conversion; needed only to save one with
            settings of its own. Default: found on saving, if torchvision builds it with its own settings
    """

    name: str
    model: nn.Module
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    architecture: Architecture | None = None

    def normalize(self, images: Tensor) -> Tensor:
        """Images as the model expects them.

        Args:
            images (Tensor): (N, 3, H, W) in [0, 1], floating point.

        Returns:
            Tensor: (N, 3, H, W), less ``mean`` and over ``std``, channel by channel.
        """
        mean, std = (torch.tensor(v, dtype=images.dtype, device=images.device) for v in (self.mean, self.std))
        return (images - mean[:, None, None]) / std[:, None, None]

    def save(self, path: str | Path, *, half: bool = False) -> Path:
        """Write the classifier as one safetensors file with a JSON header; no code, no pickle.

        The header holds the architecture, the conversion, classes, input size and normalisation. A network that torchvision
        builds is recognised, and can be loaded without the code that trained it; any other asks for its own on loading.

        Args:
            path (path): the file; one that exists is replaced, once the new one is whole.
            half (bool): store weights as float16: half the size, three digits. Default: False

        Returns:
            Path: the file.

        Raises:
            FileNotFoundError: if its folder does not exist.
            ValueError: if the weights do not fit ``architecture``.
        """
        return save_model(
            self.model,
            path,
            name=self.name,
            classes=self.classes,
            image_size=self.image_size,
            mean=self.mean,
            std=self.std,
            architecture=self.architecture,
            half=half,
        )

    @classmethod
    def load(cls, path: str | Path, model: nn.Module | None = None) -> Classifier:
        """Read what :meth:`save` wrote.

        Args:
            path (path): the file.
            model (torch.nn.Module): the network, for architectures that torchvision does not build, as it was before its
                conversion, or a SoftCamModel built by hand; its weights are replaced. Default: built by torchvision

        Returns:
            Classifier: in eval mode, on the CPU.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is cut off, not ours, of a newer format, holds weights only, or does not fit the network.
        """
        network, header = load_model(path, model)
        if header["classes"] is None or header["image_size"] is None:
            raise ValueError(
                f"'{shown(path)}' holds a network without classes and input size; read it with SoftCamModel.load."
            )
        mean, std = header["mean"] or (0.0,) * 3, header["std"] or (1.0,) * 3
        return cls(
            name=header["name"],
            model=network,
            classes=tuple(header["classes"]),
            image_size=header["image_size"],
            mean=tuple(mean),
            std=tuple(std),
            architecture=Architecture(**header["architecture"]) if header["architecture"] else None,
        )


def load_classifier(
    name: str,
    *,
    checkpoint: str | Path | None = None,
    weights: str | None = None,
    classes: Sequence[str] | None = None,
) -> Classifier:
    """Build a torchvision classifier and load its weights.

    Args:
        name (str): a classification model of torchvision, e.g. ``"resnet18"``.
        checkpoint (path): state dict written by ``torch.save``, read with ``weights_only=True``; a dictionary that
            holds it under ``"state_dict"`` or ``"model"`` will do, as will names that start with ``"module."``.
        weights (str): torchvision's own weights, e.g. ``"DEFAULT"``; downloaded unless cached.
        classes (sequence of str): class names in the order of the logits; required with ``checkpoint``. With
            ``weights`` the names are torchvision's.

    Returns:
        Classifier: in eval mode; ImageNet normalisation, 224 pixels unless the weights say otherwise.

    Raises:
        ValueError: for an unknown model or weights, for neither or both of ``checkpoint`` and ``weights``, or for a
            checkpoint that does not fit (missing, unexpected and misshapen entries are summarised).
        FileNotFoundError: if there is no such checkpoint.
        ConnectionError: if torchvision's weights cannot be downloaded; the message says what to do.
    """
    if name not in _classifier_names():
        raise ValueError(f"model {quoted(name)} is unknown to torchvision. {closest(name, _classifier_names())}")
    if (checkpoint is None) == (weights is None):
        got = "neither" if weights is None else "both"
        raise ValueError(f"model {quoted(name)} needs a checkpoint or weights (e.g. DEFAULT), one of the two; got {got}.")
    if weights is not None:
        return _with_torchvision_weights(name, weights)
    if classes is None:
        raise ValueError("classes are needed with a checkpoint: one name per logit, in their order.")
    model = torchvision.models.get_model(name, weights=None, num_classes=len(classes))
    _load_checkpoint(model, Path(str(checkpoint)), f"{name} for {len(classes)} classes")
    return Classifier(name, model.eval(), tuple(classes), 224, IMAGENET_MEAN, IMAGENET_STD)


def _classifier_names() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)


def _with_torchvision_weights(name: str, weights: str) -> Classifier:
    try:
        entry = torchvision.models.get_weight(f"{torchvision.models.get_model_weights(name).__name__}.{weights}")
    except (ValueError, AttributeError, KeyError):
        known = [w.name for w in torchvision.models.get_model_weights(name)]
        raise ValueError(
            f"weights {quoted(weights)} are unknown for {named(name)}; expected DEFAULT or {listed(known)}."
        ) from None
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    try:
        model = torchvision.models.get_model(name, weights=entry)
    except Exception as error:  # a network, a hash or a file can break in as many ways
        if file.exists():
            raise ValueError(f"the weights in '{shown(file)}' cannot be read; take the file away and run again.") from error
        raise ConnectionError(
            f"the weights {weights} of {name} could not be downloaded ({reason(error, NAME)}). Download {entry.url} on a "
            f"machine with a network, save it as {shown(file)}, and run again; or pass a checkpoint of your own."
        ) from error
    preset = entry.transforms()
    size = preset.crop_size[0]
    return Classifier(name, model.eval(), tuple(entry.meta["categories"]), size, tuple(preset.mean), tuple(preset.std))


def _load_checkpoint(model: nn.Module, path: Path, what: str) -> None:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"checkpoint '{shown(path)}' is not a file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sparse and nested tensors, which are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file makes torch.load raise almost anything
        raise ValueError(
            f"checkpoint '{shown(path)}' cannot be read: it is broken, or holds more than tensors, and code in a checkpoint "
            "is never run. Save it with torch.save(model.state_dict(), path)."
        ) from error
    state = _state_dict(content, path)
    problems = misfit(model.state_dict(), state)
    if problems:
        raise ValueError(f"checkpoint '{shown(path)}' does not fit {what}: {shown('; '.join(problems), 300)}.")
    refuse_nan(state, f"checkpoint '{shown(path)}'")
    fill(model, state)


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    """The state dict itself, taken out of the wrappings that training scripts put around it."""
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError(f"checkpoint '{shown(path)}' holds {type(content).__name__}; expected a state dict of tensors.")
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"entry {quoted(key)} of checkpoint '{shown(path)}' is {type(value).__name__}; expected only tensors."
            )
        if value.is_meta or value.is_nested:
            kind = "without values" if value.is_meta else "nested"
            raise ValueError(
                f"entry {quoted(key)} of checkpoint '{shown(path)}' is {kind}; save the state dict of the trained model."
            )
    state = {str(key).removeprefix("module."): value for key, value in content.items()}
    if len(state) < len(content):
        raise ValueError(
            f"checkpoint '{shown(path)}' holds weights both with and without 'module.' before their names; keep one."
        )
    return state
