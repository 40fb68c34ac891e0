"""Networks of timm, with its pretrained weights or those of a checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from torch import nn

from captum_softcam._fit import INTERPOLATIONS, Fit
from captum_softcam._names import closest, named, quoted, reason
from captum_softcam.softcam._sources.hub import cached_file, is_reachable, refuse_unreachable
from captum_softcam.softcam._sources.networks import Network, filled
from captum_softcam.softcam._sources.state_dicts import read_state_dict
from captum_softcam.softcam.architectures import WithoutMemory
from captum_softcam.softcam.checks import first_line

__all__ = ["build", "knows", "load", "new"]

_MODES: Mapping[str, Literal["squash", "crop", "pad"]] = {"center": "crop", "squash": "squash", "border": "pad"}
_LARGEST = {"num_classes": 2**20, "img_size": 4096}  # limits for headers of files that others wrote
_CURE = (
    "where it can be reached, run torch.save(timm.create_model('{name}', pretrained=True).state_dict(), 'weights.pt'), "
    "bring the file here, and pass it as checkpoint (--checkpoint)"
)


def load(name: str, checkpoint: Path | None, weights: str | None, image_size: int | None) -> Network:
    """Build a network of timm with the weights of a checkpoint or with its pretrained ones.

    Raises:
        ImportError: if timm is missing.
        ValueError: for an unknown name, for neither or both of ``checkpoint`` and ``weights``, for a network without
            classifier, or for a checkpoint that does not fit.
        FileNotFoundError: if there is no such checkpoint.
        ConnectionError: if the hub cannot be reached.
    """
    if checkpoint is None and weights is None:
        _refuse_unknown(name)
        raise ValueError(
            f"model {_quoted(name)} needs weights='DEFAULT' (--weights DEFAULT: timm's own, from the hub) or a checkpoint "
            "(--checkpoint); got neither."
        )
    network = new(name, None, checkpoint, weights, image_size)
    if not network.settings["num_classes"]:
        raise ValueError(
            f"model {_quoted(name)} has no classifier, only features; train one for your classes: new_classifier, or "
            "captum-softcam train."
        )
    return network


def new(name: str, num_classes: int | None, checkpoint: Path | None, weights: str | None, image_size: int | None) -> Network:
    """Build a network of timm with a new last layer, unless it has as many outputs already; random without a start.

    Raises:
        ImportError: if timm is missing.
        ValueError: for an unknown name, for both ``checkpoint`` and ``weights``, or for a checkpoint that does not fit.
        FileNotFoundError: if there is no such checkpoint.
        ConnectionError: if the hub cannot be reached.
    """
    _refuse_unknown(name)
    if checkpoint is not None and weights is not None:
        raise ValueError(f"model {_quoted(name)} needs weights or a checkpoint, one of the two; got both.")
    settings = _size(name, image_size)
    if checkpoint is not None:
        model = _with_checkpoint(name, settings, checkpoint)
        if num_classes not in (None, model.num_classes):
            model.reset_classifier(num_classes)
    elif weights is not None:
        model = _pretrained(name, weights, settings if num_classes is None else {**settings, "num_classes": num_classes})
    else:
        model = build(name, settings if num_classes is None else {**settings, "num_classes": num_classes})
    return _described(name, {**settings, "num_classes": int(model.num_classes)}, model)


def build(name: str, settings: Mapping[str, Any]) -> Any:
    """Build a network of timm, without trained weights, in eval mode.

    Raises:
        ImportError: if timm is missing.
        ValueError: for an unknown name, and for settings, such as those of a file, that timm does not take.
    """
    _refuse_unknown(name)
    for key, value in settings.items():
        if key not in _LARGEST or type(value) is not int or not 0 <= value <= _LARGEST[key]:
            raise ValueError(
                f"timm's {named(name)} does not take {quoted({key: value})}; expected num_classes and img_size."
            )
    return _created(name, settings)


def knows(name: str) -> bool:
    """Check whether timm is installed and has a network of this name."""
    try:
        return bool(_timm().is_model(name))
    except ImportError:
        return False


def _timm() -> ModuleType:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ImportError("the networks of timm need timm; run: pip install 'captum-softcam[timm]'.") from error
    return timm


def _quoted(name: str) -> str:
    return quoted(f"timm:{name}")


def _refuse_unknown(name: str) -> None:
    timm = _timm()
    if not timm.is_model(name):
        raise ValueError(f"model {_quoted(name)} is unknown to timm. {closest(name, timm.list_models())}")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:
        stem = name.partition(".")[0]
        known = timm.list_pretrained(f"{stem}.*")
        raise ValueError(f"model {_quoted(name)} is unknown to timm. {closest(name, known)}") from None


def _size(name: str, image_size: int | None) -> dict[str, int]:
    """Return the setting that a network of one size needs for another."""
    about = _timm().get_pretrained_cfg(name)
    if image_size is None or about is None or not about.fixed_input_size or about.input_size[1:] == (image_size, image_size):
        return {}
    return {"img_size": image_size}


def _created(name: str, settings: Mapping[str, Any], **more: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about arguments of layers that timm itself calls the old way
            return _timm().create_model(name, **settings, **more).eval()
    except (ConnectionError, OSError):
        raise
    except Exception as error:  # with unsuitable numbers, constructors raise almost anything
        raise ValueError(
            f"timm's {named(name)} does not take {quoted(dict(settings))}: {reason(first_line(error))}."
        ) from error


def _pretrained(name: str, weights: str, settings: Mapping[str, Any]) -> Any:
    """Build a network with timm's own weights, from the cache of the hub or from the hub."""
    about = _timm().get_pretrained_cfg(name)
    if weights != "DEFAULT":
        raise ValueError(
            f"weights {quoted(weights)} are unknown for {_quoted(name)}: the name of a network of timm says which weights "
            "it has, such as timm:resnet18.a1_in1k; weights='DEFAULT' loads them."
        )
    if about is None or not about.has_weights:
        raise ValueError(f"timm has no weights for {_quoted(name)}; pass a checkpoint.")
    file = cached_file(about.hf_hub_id, about.hf_hub_filename) if about.hf_hub_id else None
    if file is None and about.hf_hub_id and not is_reachable():
        refuse_unreachable(f"timm:{name}", _CURE.format(name=name))
    # a file of the cache by its path, because the hub's client would still try to reach it
    more = {} if file is None else {"pretrained_cfg_overlay": {"file": file}}
    try:
        return _created(name, settings, pretrained=True, **more)
    except OSError as error:
        refuse_unreachable(f"timm:{name}", _CURE.format(name=name), first_line(error))


def _with_checkpoint(name: str, settings: Mapping[str, Any], path: Path) -> Any:
    """Build a network with the weights of a checkpoint, and with as many outputs as that has."""
    state = read_state_dict(path)
    with WithoutMemory():
        head = _created(name, settings).pretrained_cfg.get("classifier") or ""
    bias = state.get(f"{head if isinstance(head, str) else head[0]}.bias")
    if bias is None or not bias.dim():
        model, what = _created(name, settings), f"timm:{name}"
    else:
        model, what = _created(name, {**settings, "num_classes": len(bias)}), f"timm:{name} for {len(bias)} classes"
    return filled(model, state, path, what)


def _described(name: str, settings: Mapping[str, Any], model: nn.Module) -> Network:
    """Read size, normalisation and fit off the configuration of timm."""
    about = _timm().data.resolve_data_config({}, model=model)
    _, height, width = about["input_size"]
    size = settings.get("img_size", height)
    if height != width and "img_size" not in settings:
        raise ValueError(f"model {_quoted(name)} reads pictures of {height} x {width} pixels; only squares are supported.")
    # Lanczos and Hamming, which torch lacks, are nearest to the bicubic one.
    interpolation: Any = about["interpolation"] if about["interpolation"] in INTERPOLATIONS else "bicubic"
    fit = Fit(_MODES.get(about["crop_mode"], "crop"), size / max(size, int(size / about["crop_pct"])), interpolation)
    return Network(
        model,
        f"timm:{name}",
        settings,
        classes=_names(model),
        image_size=size,
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
        fit=fit,
    )


def _names(model: Any) -> tuple[str, ...] | None:
    """Return the class names of the larger ImageNets, which timm knows for its own weights; None for other networks."""
    timm = _timm()
    subset = timm.data.infer_imagenet_subset(model)
    if subset is None or model.num_classes == 1000:
        return None
    names = timm.data.ImageNetInfo(subset).label_descriptions()
    return tuple(names) if len(names) == model.num_classes else None
