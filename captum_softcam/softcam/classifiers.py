"""Classifiers by name: from torchvision with its weights or a checkpoint, from our files, or to start a training from."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from captum_softcam._fit import Fit
from captum_softcam._names import NAME, closest, listed, named, quoted, reason, shown
from captum_softcam.softcam.architectures import Architecture, classifier_names
from captum_softcam.softcam.convert import new_last_layer
from captum_softcam.softcam.files import fill, mismatch, read_file, refuse_nan, write_file

__all__ = [
    "EMBEDDED",
    "Classifier",
    "fit_head",
    "last_layer",
    "load_classifier",
    "load_embedded",
    "new_classifier",
]

EMBEDDED = ("lesions_softcam", "lesions_black_box")
"""Names of the embedded classifiers, the SoftCAM model and the black box it is compared with."""

_AUXILIARY = ("aux1", "aux2", "AuxLogits")  # of GoogLeNet and Inception v3
_EMBEDDED_FOLDER = Path(__file__).parent / "weights"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Classifier:
    """A model with its classes, input size and normalisation.

    Args:
        name (str): name in tables and manifests.
        model (torch.nn.Module): computes logits (N, K), in eval mode.
        classes (tuple of str): K names, in the order of the logits; of a single logit with ``scores="sigmoid"`` two, those
            of the classes below and above 0.
        image_size (int): side of the square input, in pixels.
        mean (tuple of float): subtracted from each channel of an image in [0, 1]. Default: 0
        std (tuple of float): each channel is divided by it afterwards. Default: 1
        architecture (Architecture): builder and arguments of the network before a conversion, only needed to save a network
            with arguments other than torchvision's defaults. Default: identified on saving
        fit (Fit): how a picture becomes a square of ``image_size``. Default: the whole picture, squeezed
        scores (str): how logits become scores: ``"softmax"``, ``"sigmoid"`` (several classes at once, or one logit) or
            ``"identity"`` (regression). Default: ``"softmax"``
        source (str): the name by which :func:`load_classifier` builds the network again, such as ``"timm:resnet10t"``.
            Default: none, because a network of torchvision is identified by its ``architecture``
        outputs (str): where the logits were found in the output of the network, such as ``['logits']``. Default: the output
            is the logits
    """

    name: str
    model: nn.Module
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    architecture: Architecture | None = None
    fit: Fit = Fit()
    scores: str = "softmax"
    source: str | None = None
    outputs: str = ""

    def normalize(self, images: Tensor) -> Tensor:
        """Normalize images as the model expects them.

        Args:
            images (Tensor): (N, 3, H, W) in [0, 1], floating point.

        Returns:
            Tensor: (N, 3, H, W), minus ``mean`` and divided by ``std``, per channel.
        """
        mean, std = (torch.tensor(v, dtype=images.dtype, device=images.device) for v in (self.mean, self.std))
        return (images - mean[:, None, None]) / std[:, None, None]

    def save(self, path: str | Path, *, half: bool = False) -> Path:
        """Write the classifier as one safetensors file with a JSON header; no code, no pickle.

        The header holds the architecture, the conversion, classes, input size and normalisation. A network of torchvision is
        identified, and can be loaded without further code; any other network has to be passed on loading.

        Args:
            path (path): the file. An existing one is replaced as soon as the new one is complete.
            half (bool): store the weights as float16, with half the size and three digits. Default: False

        Returns:
            Path: the file.

        Raises:
            FileNotFoundError: if its folder does not exist.
            ValueError: if the weights do not fit ``architecture``.
        """
        return write_file(
            self.model,
            path,
            name=self.name,
            classes=self.classes,
            image_size=self.image_size,
            mean=self.mean,
            std=self.std,
            architecture=self.architecture,
            fit=self.fit,
            scores=self.scores,
            source=self.source,
            outputs=self.outputs,
            half=half,
        )

    @classmethod
    def load(cls, path: str | Path, model: nn.Module | None = None) -> Classifier:
        """Load a file of :meth:`save`.

        Args:
            path (path): the file.
            model (torch.nn.Module): the network, if torchvision does not build it: as it was before its conversion, or a
                SoftCamModel built by hand. Its weights are replaced. Default: built by torchvision

        Returns:
            Classifier: in eval mode, on the CPU.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated, was not written by this package or has a newer format, if it holds no
                classes and input size, or if it does not fit the network.
        """
        network, header = read_file(path, model)
        if header["classes"] is None or header["image_size"] is None:
            raise ValueError(f"'{shown(path)}' holds a network without classes and input size; read it with load_softcam.")
        mean, std = header["mean"] or (0.0,) * 3, header["std"] or (1.0,) * 3
        classes, scores = tuple(header["classes"]), header["scores"]
        if len(classes) == 1 and scores == "softmax":  # one logit, of which files of format 1 named the class above 0 alone
            classes, scores = (f"not {classes[0]}", *classes), "sigmoid"
        return cls(
            name=header["name"],
            model=network,
            classes=classes,
            image_size=header["image_size"],
            mean=tuple(mean),
            std=tuple(std),
            architecture=Architecture(**header["architecture"]) if header["architecture"] else None,
            fit=Fit(**header["fit"]),
            scores=scores,
            source=header["source"],
            outputs=header["outputs"],
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
        checkpoint (path): state dict written by ``torch.save``, read with ``weights_only=True``. It may be the entry
            ``"state_dict"`` or ``"model"`` of a dictionary, and its names may start with ``"module."``.
        weights (str): torchvision's own weights, e.g. ``"DEFAULT"``; downloaded unless cached.
        classes (sequence of str): class names in the order of the logits, required with ``checkpoint``. With ``weights``
            the names are those of torchvision.

    Returns:
        Classifier: in eval mode; ImageNet normalisation, 224 pixels unless the weights say otherwise.

    Raises:
        ValueError: for an unknown model or weights, for neither or both of ``checkpoint`` and ``weights``, or for a
            checkpoint that does not fit (missing, unexpected and misshapen entries are summarised).
        FileNotFoundError: if there is no such checkpoint.
        ConnectionError: if torchvision's weights cannot be downloaded; the message explains how to get them.
    """
    _refuse_unknown(name)
    if (checkpoint is None) == (weights is None):
        got = "neither" if weights is None else "both"
        raise ValueError(f"model {quoted(name)} needs a checkpoint or weights (e.g. DEFAULT), one of the two; got {got}.")
    if weights is not None:
        return _with_torchvision_weights(name, weights)
    if classes is None:
        raise ValueError("classes are needed with a checkpoint: one name per logit, in their order.")
    path = Path(str(checkpoint))
    model = _filled(name, len(classes), _read_checkpoint(path), path)
    return Classifier(name, model, tuple(classes), 224, IMAGENET_MEAN, IMAGENET_STD)


def new_classifier(
    name: str,
    classes: Sequence[str],
    *,
    checkpoint: str | Path | None = None,
    weights: str | None = None,
    image_size: int | None = None,
) -> Classifier:
    """Build a torchvision classifier for new classes, to be trained from the weights of another.

    All layers keep the weights that they start from. The last one is replaced by an untrained one with a logit per class,
    unless it has as many already. Auxiliary heads are removed.

    Args:
        name (str): a classification model of torchvision, e.g. ``"resnet18"``.
        classes (sequence of str): class names in the order of the logits.
        checkpoint (path): start from this state dict, which may be one for other classes; see :func:`load_classifier`.
        weights (str): start from torchvision's own weights, e.g. ``"DEFAULT"``. Default: random weights, if no checkpoint
            is passed
        image_size (int): side of the square input, in pixels. Default: 224, or that of ``weights``

    Returns:
        Classifier: in eval mode; ImageNet normalisation unless ``weights`` have another.

    Raises:
        ValueError: for an unknown model or weights, for both ``checkpoint`` and ``weights``, for no classes, or for a
            checkpoint that does not fit.
        FileNotFoundError: if there is no such checkpoint.
        ConnectionError: if torchvision's weights cannot be downloaded.

    Example::

        >>> torch.save(torchvision.models.resnet18(num_classes=5).state_dict(), "mine.pt")
        >>> new_classifier("resnet18", ["cat", "dog"], checkpoint="mine.pt").model.fc
        Linear(in_features=512, out_features=2, bias=True)
    """
    _refuse_unknown(name)
    if not classes:
        raise ValueError("classes are needed: one name per logit, in their order.")
    if weights is not None:
        start = load_classifier(name, checkpoint=checkpoint, weights=weights)
    else:
        model = _started(name, len(classes), checkpoint)
        start = Classifier(name, model, (), 224, IMAGENET_MEAN, IMAGENET_STD)
    fit_head(start.model, len(classes))
    return replace(start, classes=tuple(classes), image_size=image_size or start.image_size)


def last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Find the layer that computes the logits: the last linear or convolutional one to be defined.

    Returns:
        tuple of str and torch.nn.Module: its name and the layer.

    Raises:
        ValueError: if there is none.
    """
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no linear and no convolutional layer that could be its last.")
    return layers[-1]


def fit_head(model: nn.Module, num_classes: int) -> None:
    """Remove auxiliary heads, and replace the last layer by an untrained one unless it has ``num_classes`` outputs."""
    name, layer = last_layer(model)
    if len(layer.weight) != num_classes:
        parent, _, own_name = name.rpartition(".")
        setattr(model.get_submodule(parent), own_name, new_last_layer(layer, num_classes))
    for auxiliary in _AUXILIARY:
        if hasattr(model, auxiliary):
            delattr(model, auxiliary)  # otherwise it would stay in the list of layers, as None
            setattr(model, auxiliary, None)
            model.aux_logits = False  # type: ignore[assignment] # nn.Module declares its attributes as tensors and modules


def _refuse_unknown(name: str) -> None:
    known = classifier_names()
    if name not in known:
        raise ValueError(f"model {quoted(name)} is unknown to torchvision. {closest(name, known)}")


def _started(name: str, num_classes: int, checkpoint: str | Path | None) -> nn.Module:
    """Build a network with random weights, or with those of a checkpoint and as many outputs as that has."""
    if checkpoint is None:
        return Architecture(name).build()
    path = Path(str(checkpoint))
    state = _read_checkpoint(path)
    last, _ = last_layer(Architecture(name).build_without_memory())  # the number of outputs does not matter yet
    outputs = state.get(f"{last}.weight")
    return _filled(name, num_classes if outputs is None or not outputs.dim() else len(outputs), state, path)


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
    except Exception as error:  # network, hash and file have no common error
        if file.exists():
            raise ValueError(f"the weights in '{shown(file)}' cannot be read; remove the file and run again.") from error
        raise ConnectionError(
            f"the weights {weights} of {name} could not be downloaded ({reason(error, NAME)}). Download {entry.url} on a "
            f"machine with a network, save it as {shown(file)}, and run again; or pass a checkpoint of your own."
        ) from error
    preset = entry.transforms()
    size = preset.crop_size[0]
    return Classifier(name, model.eval(), tuple(entry.meta["categories"]), size, tuple(preset.mean), tuple(preset.std))


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the state dict in a file of ``torch.save``."""
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
    return _state_dict(content, path)


def _filled(name: str, num_classes: int, state: dict[str, Tensor], path: Path) -> nn.Module:
    """Build a network of torchvision with the weights of a checkpoint."""
    model = Architecture(name, {"num_classes": num_classes}).build()
    problems = mismatch(model.state_dict(), state)
    if problems:
        what = f"{name} for {num_classes} classes"
        raise ValueError(f"checkpoint '{shown(path)}' does not fit {what}: {shown('; '.join(problems), 300)}.")
    refuse_nan(state, f"checkpoint '{shown(path)}'")
    fill(model, state)
    return model


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    """Take the state dict out of the dictionaries and prefixes that training scripts add."""
    for key in ("state_dict", "model"):  # in checkpoints of Lightning, and of torchvision's own scripts
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
    # DataParallel and DistributedDataParallel add the prefix.
    state = {str(key).removeprefix("module."): value for key, value in content.items()}
    if len(state) < len(content):
        raise ValueError(
            f"checkpoint '{shown(path)}' holds weights both with and without 'module.' before their names; keep one."
        )
    return state


def load_embedded(name: str = "lesions_softcam") -> Classifier:
    """Load one of the two classifiers of retinal lesions that the package carries, in eval mode, on the CPU.

    They were trained on :class:`captum_softcam.data.RetinalLesions` by ``benchmarks/softcam_study.py``, with its first seed
    and the penalty that it selected. They are for demonstration only: their training data are lesions painted into one
    photograph, which says nothing about patients.

    Args:
        name (str): ``"lesions_softcam"``, the SoftCAM model, or ``"lesions_black_box"``, the pooled
            classifier it is compared with. Default: ``"lesions_softcam"``

    Returns:
        Classifier: its ``model`` computes logits (N, 4) of images (N, 3, 160, 160) in [0, 1].

    Raises:
        ValueError: on an unknown name.

    Example::

        >>> load_embedded().classes
        ('healthy', 'hard exudates', 'haemorrhages', 'cotton-wool spots')
    """
    if name not in EMBEDDED:
        raise ValueError(f"embedded model {quoted(name)} is unknown; expected one of {listed(map(repr, EMBEDDED))}.")
    return Classifier.load(_EMBEDDED_FOLDER / f"{name}.safetensors")
