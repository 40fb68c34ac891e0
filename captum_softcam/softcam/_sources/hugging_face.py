"""Image classifiers of Hugging Face's transformers: from a folder, offline, or from the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam._names import listed, named, quoted, reason, shown
from captum_softcam.softcam._sources.hub import is_reachable, refuse_unreachable
from captum_softcam.softcam._sources.networks import Network, filled
from captum_softcam.softcam._sources.state_dicts import read_state_dict
from captum_softcam.softcam.checks import first_line

__all__ = ["build", "load", "new"]

_SCORES = {
    "multi_label_classification": "sigmoid",
    "single_label_classification": "softmax",
    "regression": "identity",
}
_RESAMPLING: Mapping[Any, Any] = {0: "nearest", 2: "bilinear"}  # Pillow's numbers; all others are nearest to "bicubic"
_NOT_KEPT = (  # entries of a configuration that name files, code or devices rather than the network
    *("_name_or_path", "auto_map", "attn_implementation", "dtype", "torch_dtype", "transformers_version"),
    *("quantization_config", "backbone", "backbone_config", "use_pretrained_backbone", "use_timm_backbone"),
)
_LARGEST = 2**20  # number in a configuration; limits for headers of files that others wrote
_LONGEST = 2**20  # characters of a configuration


def load(name: str, checkpoint: Path | None, weights: str | None) -> Network:
    """Load a network from a folder of ``save_pretrained``, or from the hub.

    Raises:
        ImportError: if transformers is missing.
        ValueError: if the folder holds no image classifier, or one that needs code of its own, or if the weights do not fit.
        FileNotFoundError: if there is no such folder.
        ConnectionError: if the hub cannot be reached.
    """
    return new(name, None, checkpoint, weights)


def new(name: str, num_classes: int | None, checkpoint: Path | None, weights: str | None) -> Network:
    """Load a network with a new last layer, unless it has as many outputs already.

    Raises:
        ImportError: if transformers is missing.
        ValueError: as :func:`load` does.
        FileNotFoundError: if there is no such folder.
        ConnectionError: if the hub cannot be reached.
    """
    if weights is not None:
        raise ValueError(f"model {_quoted(name)} brings its own weights; leave weights (--weights) out.")
    with _quiet(), _in_words(name):
        config = _pretrained("AutoConfig", name)
        given = config.num_labels
        if num_classes not in (None, given):
            config.num_labels = num_classes
        new_head = config.num_labels != given
        model = _model(name, config, new_head=new_head)
        # The name of a folder without its path, which says nothing elsewhere: the configuration builds the network again
        source = f"hf:{Path(name).absolute().name if Path(name).is_dir() else name}"
        network = Network(model, source, _kept(config), name=source, image_size=_size(config))
        network = _processed(name, network)
    if checkpoint is not None:
        filled(network.model, read_state_dict(checkpoint), checkpoint, f"hf:{named(name)}")
    classes = tuple(str(config.id2label[number]) for number in range(config.num_labels))
    unnamed = all(re.fullmatch(r"LABEL_\d+", label) for label in classes)
    scores = None if new_head else _SCORES.get(config.problem_type)
    return replace(network, classes=None if unnamed else classes, scores=scores)


def build(name: str, settings: Mapping[str, Any]) -> Any:
    """Build a network from its configuration, without trained weights, in eval mode; nothing is downloaded.

    Raises:
        ImportError: if transformers is missing.
        ValueError: for a configuration, such as one of a file, that transformers does not accept.
    """
    kept = {key: value for key, value in settings.items() if key not in _NOT_KEPT and not key.startswith("_")}
    _refuse_excessive(name, kept)
    kind = str(kept.pop("model_type", ""))
    try:
        with _quiet():
            config = _transformers().AutoConfig.for_model(kind, **kept)
            return _transformers().AutoModelForImageClassification.from_config(config, trust_remote_code=False).eval()
    except ImportError:
        raise
    except Exception as error:  # with unsuitable numbers, constructors raise almost anything
        raise ValueError(f"{_quoted(name)} cannot be built from its configuration: {reason(first_line(error))}.") from error


def _transformers() -> ModuleType:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ImportError(
            "the networks of Hugging Face need transformers; run: pip install 'captum-softcam[hf]'."
        ) from error
    return transformers


def _quoted(name: str) -> str:
    return quoted(f"hf:{name}")


def _pretrained(kind: str, name: str, **settings: Any) -> Any:
    """Load a part of a pretrained network from its folder, from the cache of the hub, or from the hub."""
    load: Any = getattr(_transformers(), kind).from_pretrained
    if Path(name).is_dir():
        return load(name, local_files_only=True, trust_remote_code=False, **settings)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise FileNotFoundError(
            f"'{shown(name)}' is not a folder; pass hf: and a folder of save_pretrained, or a name of the hub."
        )
    try:
        return load(name, local_files_only=True, trust_remote_code=False, **settings)
    except OSError:  # not in the cache
        if not is_reachable():
            refuse_unreachable(f"hf:{name}", _cure(name))
    return load(name, trust_remote_code=False, **settings)


def _cure(name: str) -> str:
    return (
        "if it is a folder, check the path; else, where the hub can be reached, run "
        f"AutoModelForImageClassification.from_pretrained('{shown(name)}').save_pretrained('folder') and the same with "
        "AutoImageProcessor, bring the folder here, and pass hf:folder"
    )


def _model(name: str, config: Any, *, new_head: bool) -> Any:
    """Load the weights of a configuration, of which only those of a new head may be missing."""
    model, report = _pretrained(
        "AutoModelForImageClassification",
        name,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        ignore_mismatched_sizes=new_head,
        output_loading_info=True,
    )
    missing = sorted(report["missing_keys"])
    if missing and not new_head:
        raise ValueError(
            f"the weights of {_quoted(name)} lack {listed(missing)}, so that its logits would be random; train a last layer "
            "for your classes: new_classifier, or captum-softcam train."
        )
    return model.eval()


def _kept(config: Any) -> dict[str, Any]:
    """Return the entries of a configuration that describe the network, as JSON has them."""
    plain: dict[str, Any] = json.loads(json.dumps(config.to_dict(), default=str))
    return {key: value for key, value in plain.items() if key not in _NOT_KEPT and not key.startswith("_")}


def _refuse_excessive(name: str, settings: Mapping[str, Any]) -> None:
    """Raise ValueError for a configuration that no network of images has."""
    try:
        text = json.dumps(settings)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the configuration of {_quoted(name)} is not JSON: {reason(error)}.") from error
    large = [
        number for number in re.findall(r"\d{7,}", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)) if int(number[:20]) > _LARGEST
    ]
    if len(text) > _LONGEST or large:
        what = quoted(large[0]) if large else f"{len(text)} characters"
        raise ValueError(f"the configuration of {_quoted(name)} has {what}; no classifier of images is so large.")


def _size(config: Any) -> int:
    size = getattr(config, "image_size", None)
    side = size[0] if isinstance(size, (list, tuple)) and size else size
    return side if isinstance(side, int) and side > 0 else 224


def _processed(name: str, network: Network) -> Network:
    """Add what the image processor does, measured on pictures of known content; without one, all stays as it is."""
    try:
        processor = _pretrained("AutoImageProcessor", name)
    except OSError:
        return network
    run = _Processor(processor)
    zero, one = (run(np.full((64, 96, 3), value, np.uint8)) for value in (0, 255))
    height, width = zero.shape[1:]
    if height != width:
        raise ValueError(f"{_quoted(name)} reads pictures of {height} x {width} pixels; only squares are supported.")
    std = [1 / float(value) for value in (one - zero).mean((1, 2))]
    mean = [-float(value) * scale for value, scale in zip(zero.mean((1, 2)), std, strict=True)]
    _refuse_other_channels(name, run, mean, std)
    fit = _fit(name, run, height, mean, std, _RESAMPLING.get(getattr(processor, "resample", None), "bicubic"))
    given = [getattr(processor, "image_mean", None), getattr(processor, "image_std", None)]
    return replace(network, image_size=height, mean=_as_given(mean, given[0]), std=_as_given(std, given[1]), fit=fit)


class _Processor:
    """An image processor as a function of one picture (H, W, 3) in bytes."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, picture: np.ndarray[Any, Any]) -> Tensor:
        return torch.as_tensor(np.asarray(self.processor(images=[picture])["pixel_values"][0])).double()


def _as_given(found: list[float], given: Any) -> tuple[float, float, float]:
    """Return the numbers of the processor where they are those that were measured, which are rounded."""
    close = isinstance(given, (list, tuple)) and len(given) == 3 and np.allclose(found, given, atol=1e-5)
    red, green, blue = (
        given if close else [round(value, 6) + 0.0 for value in found]
    )  # 0.0, because -0.0 is no number to show
    return float(red), float(green), float(blue)


def _refuse_other_channels(name: str, run: _Processor, mean: list[float], std: list[float]) -> None:
    picture = np.broadcast_to(np.array([200, 100, 50], np.uint8), (64, 96, 3)).copy()
    found = run(picture).mean((1, 2)) * torch.tensor(std) + torch.tensor(mean)
    if not torch.allclose(255 * found, torch.tensor([200.0, 100.0, 50.0], dtype=torch.float64), atol=1.0):
        raise ValueError(
            f"{_quoted(name)} does not read red, green and blue in this order, as its image processor shows; wrap it in a "
            "factory of your own (file.py:factory) whose module reorders them, such as self.model(images.flip(1)).logits."
        )


def _fit(name: str, run: _Processor, side: int, mean: list[float], std: list[float], interpolation: Any) -> Fit:
    """Find out how a processor makes a square of a picture of 3 : 2, by the sizes at which it shows a white rectangle."""
    picture = np.zeros((800, 1200, 3), np.uint8)
    picture[200:600, 300:900] = 255  # the middle half of both sides
    shade = (run(picture) * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]).mean(0)
    # The parts of the picture, in sides of the output, as if nothing of it were cut off or added
    tall, wide = (2 * float(shade[:, side // 2].sum()) / side, 2 * float(shade[side // 2].sum()) / side)
    middle = [float((shade.sum(1 - axis) * torch.arange(side)).sum() / shade.sum()) for axis in (0, 1)]
    centred = all(abs(each - (side - 1) / 2) < 1 + side / 200 for each in middle)
    near, crop = 2.5 / side, side / max(side, round(side * tall))
    if centred and abs(wide - 1) < near and abs(tall - 2 / 3) < near:
        return Fit("pad", 1.0, interpolation)
    if centred and tall > 1 - near and abs(wide - tall) < near:
        return Fit("squash", crop, interpolation)
    if centred and tall > 1 - near and abs(wide - 1.5 * tall) < 2 * near:
        return Fit("crop", crop, interpolation)
    raise ValueError(
        f"the image processor of {_quoted(name)} neither squeezes a picture into its square, nor cuts out its middle, nor "
        "pads it; use a factory of your own (file.py:factory) that returns a Classifier with the fit to use."
    )


@contextmanager
def _in_words(name: str) -> Iterator[None]:
    """Raise errors of transformers in one sentence."""
    try:
        yield
    except (ImportError, FileNotFoundError, ConnectionError):
        raise
    except OSError as error:
        if Path(name).is_dir():
            raise ValueError(
                f"'{shown(name)}' does not hold an image classifier saved by save_pretrained: {reason(first_line(error))}."
            ) from error
        refuse_unreachable(f"hf:{name}", _cure(name), first_line(error))
    except Exception as error:  # transformers raises almost anything for configurations that it does not know
        if _quoted(name) in str(error):
            raise
        raise ValueError(f"{_quoted(name)} cannot be loaded: {reason(first_line(error))}.") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars and repeating in its log what is raised."""
    logging = _transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
