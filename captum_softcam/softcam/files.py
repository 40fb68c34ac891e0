"""Classifiers in files: safetensors with a JSON header that describes the network, its inputs and its classes; no pickle."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from captum_softcam._files import replacing_path
from captum_softcam._fit import INTERPOLATIONS, MODES, Fit
from captum_softcam._intervention.view import duplicate
from captum_softcam._names import named, quoted, reason, shown
from captum_softcam._scores import SCORES
from captum_softcam.softcam._sources.class_names import named_by
from captum_softcam.softcam._sources.door import build_again
from captum_softcam.softcam._sources.factory import is_code, module_of, run_factory
from captum_softcam.softcam._sources.networks import fit_head
from captum_softcam.softcam._sources.outputs import logits_of
from captum_softcam.softcam._sources.state_dicts import fill, mismatch, refuse_nan
from captum_softcam.softcam.architectures import Architecture, converted_like, identify
from captum_softcam.softcam.checks import ask
from captum_softcam.softcam.convert import rebuild
from captum_softcam.softcam.model import Conversion, SoftCamModel, input_channels

__all__ = [
    "is_our_file",
    "load_softcam",
    "read_file",
    "save_softcam",
    "write_file",
]

_KEY = "captum_softcam"
_FORMAT = 2
_MOST = 2**26  # positions of an input; loading creates one of the size in the header to find the head
_LARGEST = 2**14  # side of an image
_LONGEST = 2**20  # characters of the settings of a network
_DTYPES = ("float16", "bfloat16", "float32", "float64")
_KINDS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def save_softcam(
    model: SoftCamModel,
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Path:
    """Write a SoftCAM model as one safetensors file with a JSON header.

    :meth:`Classifier.save` does the same for a model with its classes and its normalisation, and describes the file.

    Args:
        model (SoftCamModel): the model.
        path (path): the file. An existing one is replaced as soon as the new one is complete.
        classes (sequence of str): names in the order of the logits. Default: none
        image_size (int): side of the square input, in pixels. Default: none
        mean (sequence of float): subtracted from each channel of an image in [0, 1]. Default: none
        std (sequence of float): each channel is divided by it afterwards. Default: none

    Returns:
        Path: the file.

    Raises:
        TypeError: if ``model`` is not a SoftCamModel.
        FileNotFoundError: if the folder of ``path`` does not exist.

    Example::

        >>> model = convert_to_softcam(torchvision.models.resnet18(num_classes=2))
        >>> path = save_softcam(model, "model.safetensors", classes=["cat", "dog"])
        >>> load_softcam(path).evidence_maps(torch.zeros(1, 3, 224, 224)).shape
        torch.Size([1, 2, 7, 7])
    """
    if not isinstance(model, SoftCamModel):
        raise TypeError(f"save_softcam needs a SoftCamModel; got {type(model).__name__}. Use Classifier.save instead.")
    name = type(model).__name__
    return write_file(model, path, name=name, classes=classes, image_size=image_size, mean=mean, std=std)


def load_softcam(path: str | Path, model: nn.Module | None = None) -> SoftCamModel:
    """Load the SoftCAM model of a file, whichever function wrote it.

    Args:
        path (path): a file of :func:`save_softcam`, :meth:`Classifier.save` or the command.
        model (torch.nn.Module): the network, where torchvision does not build it; see :meth:`Classifier.load`.
            Default: built by torchvision

    Returns:
        SoftCamModel: in eval mode, on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated, was not written by this package or has a newer format, if it holds a black
            box, or if it does not fit the network.
    """
    found, _ = read_file(path, model)
    if not isinstance(found, SoftCamModel):
        raise ValueError(f"'{shown(path)}' holds a black box; read it with Classifier.load, or convert it.")
    return found


def write_file(
    model: nn.Module,
    path: str | Path,
    *,
    name: str,
    classes: Sequence[str] | None,
    image_size: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    architecture: Architecture | None = None,
    fit: Fit | None = None,
    scores: str = "softmax",
    source: str | None = None,
    settings: Mapping[str, Any] | None = None,
    outputs: str = "",
    half: bool = False,
) -> Path:
    """Write a network and all that is needed to use it; arguments and errors as for :meth:`Classifier.save`."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder '{shown(path.parent)}' for '{shown(path.name)}' does not exist; make it first.")
    state = model.state_dict()
    if architecture is not None:
        _check_architecture(architecture, model)
    elif source is not None and not is_code(source):
        _check_source(source, settings or {}, outputs, model)
    else:
        # The single logit of a sigmoid has two names.
        count = len(_last(state)) if classes is None or scores == "sigmoid" else len(classes)
        architecture = _identified(model, count)
    header = {
        "format": _FORMAT,
        "version": importlib.metadata.version("captum-softcam"),
        "name": name,
        "architecture": asdict(architecture) if architecture else None,
        "softcam": isinstance(model, SoftCamModel),
        "conversion": asdict(model.conversion) if isinstance(model, SoftCamModel) and model.conversion else None,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "classes": None if classes is None else list(map(str, classes)),
        "image_size": image_size,
        "mean": None if mean is None else list(map(float, mean)),
        "std": None if std is None else list(map(float, std)),
        "fit": asdict(fit or Fit()),
        "scores": scores,
        "source": source,
        "settings": dict(settings or {}),
        "outputs": outputs,
    }
    header = json.loads(json.dumps(header))  # as it will be read, with lists for tuples
    _check_header(header, path)
    stored = {key: _stored(value, half) for key, value in state.items()}
    header["digest"] = _digest(header, stored)
    with replacing_path(path) as draft:
        save_file(stored, draft, {_KEY: json.dumps(header)})
    return path


def read_file(
    path: str | Path, model: nn.Module | None = None, *, allow_code: bool = False
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network of a file, in eval mode on the CPU, and its header; errors as for :meth:`Classifier.load`."""
    path = Path(path)
    with _opened(path) as file:
        stored = _read_header(file.metadata(), path)
        header = {**_SINCE_FORMAT_2, **stored}
        try:
            built = _rebuilt(header, file, _network(header, file, model, path, allow_code), path)
        except ValueError as error:
            if shown(path) in str(error):
                raise
            raise ValueError(f"'{shown(path)}' cannot be loaded: {reason(error, 300)}.") from error
        state = _values(file, path)
    # safetensors checks the layout of a file, but not its values.
    if "digest" in stored and stored["digest"] != _digest(stored, state):
        raise ValueError(
            f"'{shown(path)}' is damaged: its weights or its header were changed after it was written. Copy it again, or "
            "save the model again."
        )
    refuse_nan(state, f"'{shown(path)}'")
    fill(built, state)
    return built.eval(), header


def is_our_file(path: Path) -> bool:
    """Check whether a file is one of ours, rather than weights of another program."""
    if path.suffix != ".safetensors" or not os.path.isfile(path):
        return False
    with _opened(path) as file:
        return _KEY in (file.metadata() or {})


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file, and read only the table of its tensors."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"'{shown(path)}' is not a file.")
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"'{shown(path)}' is not a safetensors file, or is truncated ({reason(error)}).") from error
    with file as opened:
        yield opened


def _network(header: dict[str, Any], file: Any, model: nn.Module | None, path: Path, allow_code: bool) -> nn.Module:
    """Build the network of a header as it was before its conversion, without weights."""
    source = header["source"]
    if model is None and header["architecture"] is not None:
        return Architecture(**header["architecture"]).build_without_memory()
    if model is None and source is None:
        raise ValueError(
            f"'{shown(path)}' holds a network that torchvision does not build; pass the untrained one: "
            "load(path, model=MyNet())."
        )
    if model is None and is_code(source) and not allow_code:
        raise ValueError(
            f"'{shown(path)}' holds a network that its author's code builds, {named(source)}; it runs only if named: "
            f"load_classifier({quoted(source)}, checkpoint=...), or --model {named(source)} --checkpoint FILE."
        )
    if model is None and is_code(source):
        model = module_of(run_factory(source), source)
    if model is None:
        entries = [math.prod(value.shape) for value in _shapes(file).values()]
        model = build_again(source, header["settings"], len(entries), sum(entries))
    if source is not None and is_code(source) and not isinstance(model, SoftCamModel):
        _fit_head(model, header["settings"].get("num_classes"), file)
    return model if isinstance(model, SoftCamModel) else logits_of(model, header["outputs"])


def _fit_head(model: nn.Module, count: Any, file: Any) -> None:
    """Give the network of a factory the number of logits that it was trained with."""
    # One that the file has weights for, because a damaged header could ask for any amount of memory.
    if type(count) is int and any(value.shape[:1] == (count,) for value in _shapes(file).values()):
        fit_head(model, count)


def _rebuilt(header: dict[str, Any], file: Any, source: nn.Module, path: Path) -> nn.Module:
    """Convert the network of a header, after checking that the weights of the file fit."""
    given = _shapes(file)
    conversion = Conversion.of(header["conversion"]) if header["conversion"] else None
    convert = header["softcam"] and not isinstance(source, SoftCamModel)
    built = rebuild(source, conversion) if convert else source
    _refuse_mismatch(built, given, f"'{shown(path)}'")
    outputs = _outputs(header, built)
    named_for = None if outputs is None else named_by(outputs, header["scores"])
    if named_for is not None and header["classes"] is not None and len(header["classes"]) != named_for:
        raise ValueError(
            f"'{shown(path)}' names {len(header['classes'])} classes for {outputs} logits; save it with one name each."
        )
    channels = input_channels(built)
    for what in ("mean", "std"):
        if header[what] is not None and channels is not None and len(header[what]) not in (1, channels):
            raise ValueError(
                f"the header of '{shown(path)}' is damaged: {what} has {len(header[what])} numbers for {channels} channels."
            )
    built = built.to(getattr(torch, header["dtype"]))  # that of the model; the stored weights may be in half precision
    if isinstance(built, SoftCamModel):
        built.conversion = conversion
    return built


def _shapes(file: Any) -> dict[str, Tensor]:
    """Return the tensors of a file on the meta device, so that values are read only if they fit."""
    found = {}
    for key in file.keys():  # noqa: SIM118 (not a mapping)
        entry = file.get_slice(key)
        kind = _KINDS.get(entry.get_dtype(), torch.complex64)  # which no network of ours has, so that it is refused
        try:
            found[key] = torch.empty(entry.get_shape(), dtype=kind, device="meta")
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"the shape of {quoted(key)} is not one of a tensor: {reason(error)}.") from error
    return found


def _values(file: Any, path: Path) -> dict[str, Tensor]:
    try:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors and torch have no common error for what they cannot read
        raise ValueError(f"the weights in '{shown(path)}' cannot be read ({reason(error)}); copy the file again.") from error


def _digest(header: dict[str, Any], state: dict[str, Tensor]) -> str:
    """Hash a header without its digest, and the names, dtypes, shapes and values of the weights, by SHA-256."""
    told = {key: value for key, value in header.items() if key != "digest"}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for key in sorted(state):
        value = state[key].contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        # As bytes, because NumPy lacks bfloat16. Flat, because torch refuses to view a scalar, such as num_batches_tracked,
        # with another element size.
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _identified(model: nn.Module, num_classes: int) -> Architecture | None:
    """Return the architecture of a network of torchvision, if it computes the same logits with the same weights."""
    architecture, twin = identify(model, num_classes) or (None, None)
    return architecture if twin is not None and _answers_alike(model, twin) else None


def _check_architecture(architecture: Architecture, model: nn.Module) -> None:
    """Raise ValueError unless an architecture builds the network again."""
    twin = converted_like(architecture.build_without_memory(), model)
    _refuse_mismatch(twin, model.state_dict(), f"{architecture.name} as it is given")
    if not _answers_alike(model, twin):
        raise ValueError(
            f"{architecture.name} as it is given computes something else with these weights than the model; leave "
            "architecture out, and pass the network on loading."
        )


def _check_source(source: str, settings: Mapping[str, Any], outputs: str, model: nn.Module) -> None:
    """Raise ValueError unless the source of a classifier builds its network again."""
    state = model.state_dict()
    twin = build_again(source, settings, len(state), sum(value.numel() for value in state.values()))
    twin = converted_like(logits_of(twin, outputs), model)
    if mismatch(twin.state_dict(), state) or not _answers_alike(model, twin):
        raise ValueError(
            f"{shown(source)} does not build this network again, which has been changed; pass source=None "
            "(dataclasses.replace(classifier, source=None)), and the network on loading: load(path, model=MyNet())."
        )


@torch.no_grad()
def _answers_alike(model: nn.Module, twin: nn.Module) -> bool:
    """Check whether a rebuilt network computes the same outputs as the model, on made-up inputs."""
    original = duplicate(model).cpu().eval()
    twin = twin.to(next(original.parameters()).dtype)
    fill(twin, original.state_dict())
    for answer in ask(original, None).comparable(()):
        given = twin.eval()(answer.inputs)
        if not torch.allclose(given, answer.output, rtol=1e-4, atol=1e-5 * float(answer.output.abs().max())):
            return False
    return True


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.half() if half and value.is_floating_point() else value
    return value.detach().cpu().contiguous().clone()  # safetensors refuses tensors that share memory


def _last(state: dict[str, Tensor]) -> Tensor:
    """Return the weights of the last layer; their length is the number of outputs."""
    return [value for value in state.values() if value.dim() > 1][-1]


def _outputs(header: dict[str, Any], model: nn.Module) -> int | None:
    """Return the number of logits of a network; None if it is known to its author alone."""
    if header["architecture"] or header["softcam"]:
        return len(_last(model.state_dict()))
    settings = header["settings"]
    named = settings.get("id2label")
    found = len(named) if isinstance(named, dict) else settings.get("num_classes")
    return found if isinstance(found, int) else None


def _refuse_mismatch(model: nn.Module, state: dict[str, Tensor], what: str) -> None:
    problems = mismatch(model.state_dict(), state)
    if problems:
        raise ValueError(f"the weights do not fit {what}: {'; '.join(problems)}.")


def _read_header(metadata: Mapping[str, str] | None, path: Path) -> dict[str, Any]:
    """Read the header in the metadata of a safetensors file.

    Raises:
        ValueError: if there is none, if it has a newer format, or if a field is invalid.
    """
    try:
        header = json.loads((metadata or {})[_KEY])
        found = header["format"]
    except (KeyError, TypeError, ValueError, RecursionError, IndexError) as error:
        raise ValueError(
            f"'{shown(path)}' is a safetensors file, but captum_softcam did not write it; load its weights into the network "
            "that they belong to, then convert and save that."
        ) from error
    if _whole(found) and found > _FORMAT:
        raise ValueError(
            f"'{shown(path)}' has format {quoted(found)} of a newer captum_softcam; this one reads formats 1 to {_FORMAT}."
        )
    _check_header(header, path)
    return dict(header)


def _check_header(header: dict[str, Any], path: Path) -> None:
    """Raise ValueError if a field of a header is missing or invalid."""
    optional = _SINCE_FORMAT_2 if header.get("format") == 1 else {}
    missing = [name for name in _FIELDS if name not in header and name not in optional]
    if missing:
        raise ValueError(f"the header of '{shown(path)}' is damaged: {', '.join(missing)} missing. Save the model again.")
    for name, (valid, expected) in _FIELDS.items():
        if name in header and not valid(header[name]):
            raise ValueError(
                f"the header of '{shown(path)}' is damaged: {name} is {quoted(header[name])}; expected {expected}."
            )


def _whole(value: object, least: int = 0, most: int = _LARGEST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _text(value: object) -> bool:
    return isinstance(value, str)


def _real(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30


def _list_of(valid: Callable[[Any], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, (list, tuple)) and all(map(valid, value))


def _or_none(valid: Callable[[Any], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or valid(value)


def _size(value: Any) -> bool:
    """Check the size of an input or a map: up to four sides, and within memory."""
    sides = _list_of(lambda side: _whole(side, 1, _MOST))(value)
    return sides and 0 < len(value) <= 4 and math.prod(value) <= _MOST


def _architecture(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"name", "arguments"} or not _text(value["name"]):
        return False
    return isinstance(value["arguments"], dict) and len(value["arguments"]) <= 20


def _fit(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"mode", "crop", "interpolation"} or not _real(value["crop"]):
        return False
    return value["mode"] in MODES and 0 < value["crop"] <= 1 and value["interpolation"] in INTERPOLATIONS


def _settings(value: Any) -> bool:
    return isinstance(value, dict) and len(json.dumps(value)) <= _LONGEST


def _conversion(value: Any) -> bool:
    needed = {"source", "pooling", "replaced", "exact"}
    if not isinstance(value, dict) or not needed <= value.keys() <= {each.name for each in fields(Conversion)}:
        return False
    return all(_CONVERSION[name](entry) for name, entry in value.items())


_CONVERSION: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("source", "pooling", "reason", "checked"), _text),
    **dict.fromkeys(("replaced", "dilated", "left_out"), _list_of(_text)),
    "exact": lambda value: isinstance(value, bool),
    **dict.fromkeys(("difference", "largest"), _or_none(lambda value: isinstance(value, float) or _real(value))),
    **dict.fromkeys(("input_size", "grid"), _or_none(_size)),
    "num_classes": _or_none(lambda value: _whole(value, 1, _MOST)),
    "output_stride": _or_none(lambda value: _whole(value, 1)),
}

_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "format": (lambda value: _whole(value, 1, _FORMAT), f"a number from 1 to {_FORMAT}"),
    "name": (_text, "a text"),
    "architecture": (_or_none(_architecture), "a name and arguments, or null"),
    "softcam": (lambda value: isinstance(value, bool), "true or false"),
    "conversion": (_or_none(_conversion), "the record of a conversion, or null"),
    "dtype": (lambda value: value in _DTYPES, f"one of {', '.join(_DTYPES)}"),
    "classes": (_or_none(_list_of(_text)), "a list of names, or null"),
    "image_size": (_or_none(lambda value: _whole(value, 1)), f"a number from 1 to {_LARGEST}, or null"),
    "mean": (_or_none(_list_of(_real)), "a list of numbers, or null"),
    "std": (_or_none(_list_of(lambda value: _real(value) and value != 0)), "a list of numbers other than 0, or null"),
    "fit": (_fit, f"a mode ({', '.join(MODES)}), a crop above 0 up to 1, and an interpolation"),
    "scores": (lambda value: _text(value) and value in SCORES, f"one of {', '.join(SCORES)}"),
    "source": (_or_none(_text), "a text, or null"),
    "settings": (_settings, f"a dictionary of at most {_LONGEST} characters"),
    "outputs": (_text, "a text"),
}
_SINCE_FORMAT_2: dict[str, Any] = {"fit": asdict(Fit()), "scores": "softmax", "source": None, "settings": {}, "outputs": ""}
