"""Classifiers in files: safetensors with a JSON header that says how to build, feed and read them; never a pickle."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from captum_softcam._files import replacing_path
from captum_softcam._names import shown
from captum_softcam.softcam.architectures import Architecture, identify
from captum_softcam.softcam.conversion import Conversion
from captum_softcam.softcam.convert import convert_to_softcam
from captum_softcam.softcam.model import SoftCamModel
from captum_softcam.softcam.shapes import input_channels

__all__ = ["fill", "load_model", "misfit", "save_model"]

_KEY = "captum_softcam"
_FORMAT = 1


def save_model(
    model: nn.Module,
    path: str | Path,
    *,
    name: str,
    classes: Sequence[str] | None,
    image_size: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    architecture: Architecture | None = None,
    half: bool = False,
) -> Path:
    """Write a network and all that is needed to use it; arguments and errors as for :meth:`Classifier.save`."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder '{path.parent}' for '{path.name}' does not exist; make it first.")
    state = model.state_dict()
    if architecture is None:
        architecture = identify(model, _num_outputs(model, classes))
    else:
        _refuse_misfit(_built(architecture, model), state, f"{architecture.name} as it is given")
    header = {
        "format": _FORMAT,
        "version": importlib.metadata.version("captum-softcam"),
        "name": name,
        "architecture": asdict(architecture) if architecture else None,
        "softcam": isinstance(model, SoftCamModel),
        "conversion": _conversion(model),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "classes": None if classes is None else list(classes),
        "image_size": image_size,
        "mean": None if mean is None else list(mean),
        "std": None if std is None else list(std),
    }
    with replacing_path(path) as draft:
        save_file({key: _stored(value, half) for key, value in state.items()}, draft, {_KEY: json.dumps(header)})
    return path


def load_model(path: str | Path, model: nn.Module | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """A network in eval mode, on the CPU, and the header of its file; errors as for :meth:`Classifier.load`."""
    path = Path(path)
    header, state = _read(path)
    try:
        return _rebuilt(header, state, model, path), header
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the header of '{path}' is damaged ({type(error).__name__}: {error}).") from error


def _rebuilt(header: dict[str, Any], state: dict[str, Tensor], model: nn.Module | None, path: Path) -> nn.Module:
    """The network that a header describes, with the weights."""
    if model is None and header["architecture"] is None:
        raise ValueError(
            f"'{path}' holds a network that torchvision does not build; give the untrained one: load(path, model=MyNet())."
        )
    source = model if model is not None else Architecture(**header["architecture"]).build()
    conversion = Conversion.of(header["conversion"]) if header["conversion"] else None
    convert = header["softcam"] and not isinstance(source, SoftCamModel)
    built = _converted(source, conversion, len(_last(state))) if convert else source
    _refuse_misfit(built, state, f"'{path}'")
    fill(built.to(getattr(torch, header["dtype"])), state)
    if isinstance(built, SoftCamModel):
        built.conversion = conversion
    return built.eval()


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.half() if half and value.is_floating_point() else value
    return value.detach().cpu().contiguous().clone()  # safetensors refuses tensors that share memory


def _num_outputs(model: nn.Module, classes: Sequence[str] | None) -> int:
    return len(classes) if classes is not None else len(_last(model.state_dict()))


def _last(state: dict[str, Tensor]) -> Tensor:
    """The weights of the last layer, as long as there are outputs."""
    return [value for value in state.values() if value.dim() > 1][-1]


def _conversion(model: nn.Module) -> dict[str, Any] | None:
    return asdict(model.conversion) if isinstance(model, SoftCamModel) and model.conversion else None


def _built(architecture: Architecture, model: nn.Module) -> nn.Module:
    twin = architecture.build_without_memory()
    if not isinstance(model, SoftCamModel):
        return twin
    return _converted(twin, model.conversion, len(_last(model.state_dict())))


def _converted(model: nn.Module, conversion: Conversion | None, num_classes: int) -> SoftCamModel:
    """The conversion of a file done again; with an input of the same size where it cannot be done without."""
    renewed = None if conversion is None or conversion.num_classes is None else num_classes
    stride = None if conversion is None else conversion.output_stride
    try:
        return convert_to_softcam(model, num_classes=renewed, output_stride=stride)
    except ValueError:
        channels = input_channels(model)
        if conversion is None or conversion.input_size is None or channels is None:
            raise
        example = next(model.parameters()).new_zeros(1, channels, *conversion.input_size)
        return convert_to_softcam(model, example, num_classes=renewed, output_stride=stride)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and weights of a file; what is no such file is refused in words."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"'{shown(path)}' is not a file.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"'{path}' is no safetensors file, or is cut off ({error}).") from error
    try:
        header = json.loads(metadata[_KEY])
        found = int(header["format"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"'{path}' is a safetensors file, but captum_softcam did not write it; load its weights into the network that "
            "they belong to, then convert and save that."
        ) from error
    if found > _FORMAT:
        raise ValueError(f"'{path}' has format {found} of a newer captum_softcam; this one reads format {_FORMAT}.")
    return header, state


def _refuse_misfit(model: nn.Module, state: dict[str, Tensor], what: str) -> None:
    problems = misfit(model.state_dict(), state)
    if problems:
        raise ValueError(f"the weights do not fit {what}: {'; '.join(problems)}.")


def fill(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put weights that fit into ``model``; as a state dict of its own, which carries the versions that MNASNet asks for."""
    own = model.state_dict()
    for key, value in state.items():
        own[key] = value
    model.load_state_dict(own)


def misfit(expected: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """What keeps ``given`` from being loaded, each kind in a few words."""
    missing = [key for key in expected if key not in given]
    unexpected = [key for key in given if key not in expected]
    misshapen = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in given and given[key].shape != value.shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    return [f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds.items() if keys]


def _first(keys: list[str], count: int = 3) -> str:
    return ", ".join(keys[:count]) + (", …" if len(keys) > count else "")
