"""Classifiers by name: one door for networks of libraries, of the user's own code, and of our files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_softcam._fit import Fit, channels_first, upright
from captum_softcam._names import NAME, listed, named, quoted, shown
from captum_softcam._scores import are_probabilities, check_kind
from captum_softcam.softcam._sources.class_names import both_classes, class_names, read_classes
from captum_softcam.softcam._sources.door import load_network, new_network
from captum_softcam.softcam._sources.factory import is_code, module_of
from captum_softcam.softcam._sources.networks import EMBEDDED_NAMES, Network, filled, fit_head
from captum_softcam.softcam._sources.outputs import logits_of, probe
from captum_softcam.softcam._sources.state_dicts import read_state_dict
from captum_softcam.softcam.architectures import Architecture
from captum_softcam.softcam.files import is_our_file, read_file, write_file

__all__ = ["EMBEDDED", "Classifier", "brings_weights", "load_classifier", "load_embedded", "new_classifier"]

EMBEDDED = EMBEDDED_NAMES
"""Names of the embedded classifiers, the SoftCAM model and the black box it is compared with."""

_EMBEDDED_FOLDER = Path(__file__).parent / "weights"


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
        source (str): the name by which :func:`load_classifier` built the network, such as ``"timm:resnet10t"``. Default:
            none, because a network of torchvision is identified by its ``architecture``
        settings (dict): what it takes besides ``source`` to build the network again: the number of classes, or the
            configuration of a network of Hugging Face. Default: none
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
    settings: Mapping[str, Any] = field(default_factory=dict)
    outputs: str = ""

    def __repr__(self) -> str:
        kind = f"{len(self.classes)} classes: {listed(self.classes, NAME)}"
        settings = f"image_size={self.image_size}, scores={self.scores!r}"
        return f"Classifier({quoted(self.name)}, {type(self.model).__name__}, {kind}; {settings})"

    @property
    def scored_classes(self) -> tuple[str, ...]:
        """Names of all classes that have a score; of a single logit those of both classes."""
        if len(self.classes) > 1 or self.scores != "sigmoid":
            return self.classes
        return ("0", "1") if self.classes == ("0",) else both_classes(self.classes[0])

    def normalize(self, images: Tensor) -> Tensor:
        """Normalize images as the model expects them.

        Args:
            images (Tensor): (N, 3, H, W) in [0, 1], floating point.

        Returns:
            Tensor: (N, 3, H, W), minus ``mean`` and divided by ``std``, per channel.

        Raises:
            ValueError: if they are volumes or signals.
        """
        if images.ndim != 4:
            raise ValueError(
                f"classifier {quoted(self.name)} takes pictures, (N, 3, H, W); got inputs of shape "
                f"{quoted(tuple(images.shape))}. Pass a network of volumes itself to compare_methods, in Python."
            )
        mean, std = (torch.tensor(v, dtype=images.dtype, device=images.device) for v in (self.mean, self.std))
        return (images - mean[:, None, None]) / std[:, None, None]

    def prepare(self, picture: Any) -> Tensor:
        """Make a photograph the input of the model: a square of ``image_size``, in [0, 1], normalized.

        To draw a map of this input on the photograph, pass ``fit`` and ``image_size`` to
        :func:`~captum_softcam.report.plot_overlay`.

        Args:
            picture (Tensor, ndarray or PIL image): (3, H, W), (H, W, 3), (1, H, W) or (H, W); of bytes or in [0, 1].

        Returns:
            Tensor: (1, 3, image_size, image_size), float32.

        Raises:
            ValueError: if the picture has other channels or values.

        Example::

            >>> load_embedded().prepare(torch.rand(3, 300, 400)).shape
            torch.Size([1, 3, 160, 160])
        """
        pixels = channels_first(upright(picture))
        image = pixels if isinstance(pixels, Tensor) else torch.from_numpy(pixels.copy())
        if image.ndim != 3 or len(image) not in (1, 3) or not image.numel():
            raise ValueError(
                "prepare takes one picture with 1 or 3 channels, such as (3, H, W) or an array (H, W, 3); got shape "
                f"{quoted(tuple(pixels.shape))}."
            )
        image = image.float() / 255 if image.dtype == torch.uint8 else image.float()
        if not (image.min() >= 0 and image.max() <= 1):
            raise ValueError(
                f"prepare takes bytes or values in [0, 1]; got values from {float(image.min()):.3g} to "
                f"{float(image.max()):.3g}. Pass the picture as it was before it was normalized."
            )
        return self.normalize(self.fit.image(image.expand(3, -1, -1), self.image_size)[None])

    def save(self, path: str | Path, *, half: bool = False) -> Path:
        """Write the classifier as one safetensors file with a JSON header; no code, no pickle.

        The header holds the architecture, the conversion, classes, input size and normalisation. Networks of torchvision,
        timm and Hugging Face can be loaded without further code; any other network is passed on loading, or built by its
        factory where that is named.

        Args:
            path (path): the file. An existing one is replaced as soon as the new one is complete.
            half (bool): store the weights as float16, with half the size and three digits. Default: False

        Returns:
            Path: the file.

        Raises:
            FileNotFoundError: if its folder does not exist.
            ValueError: if ``architecture`` or ``source`` does not build the network.
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
            settings=self.settings,
            outputs=self.outputs,
            half=half,
        )

    @classmethod
    def load(cls, path: str | Path, model: nn.Module | None = None, *, allow_code: bool = False) -> Classifier:
        """Load a file of :meth:`save`.

        Args:
            path (path): the file.
            model (torch.nn.Module): the network, if no library builds it: as it was before its conversion, or a SoftCamModel
                built by hand. Its weights are replaced. Default: built by torchvision, timm or transformers
            allow_code (bool): whether to run the factory that the file names, if it has a network of its author's own code.
                Default: False

        Returns:
            Classifier: in eval mode, on the CPU.

        Raises:
            FileNotFoundError: if there is no such file.
            ImportError: if the library that builds the network is missing.
            ValueError: if the file is truncated, was not written by this package or has a newer format, if it holds no
                classes and input size, or if it does not fit the network.
        """
        network, header = read_file(path, model, allow_code=allow_code)
        if header["classes"] is None or header["image_size"] is None:
            raise ValueError(f"'{shown(path)}' holds a network without classes and input size; read it with load_softcam.")
        mean, std = header["mean"] or (0.0,) * 3, header["std"] or (1.0,) * 3
        classes, scores = tuple(header["classes"]), header["scores"]
        if len(classes) == 1 and scores == "softmax":  # one logit, of which files of format 1 named the class above 0 alone
            classes, scores = both_classes(classes[0]), "sigmoid"
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
            settings=header["settings"],
            outputs=header["outputs"],
        )


def load_classifier(
    name: str,
    *,
    checkpoint: str | Path | None = None,
    weights: str | None = None,
    classes: Sequence[str] | str | Path | None = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    fit: Fit | None = None,
    scores: str | None = None,
    allow_code: bool = False,
) -> Classifier:
    """Load a trained classifier: of torchvision, timm or Hugging Face, of your own code, or of one of our files.

    What the network needs comes from where it is kept: torchvision's weights, timm's ``pretrained_cfg``, the image processor
    of Hugging Face, or the header of our files. What is not kept anywhere, such as the normalisation of a checkpoint, is 224
    pixels, ImageNet's mean and standard deviation, and the whole picture squeezed into a square. Arguments replace both.

    An output that is a dict, tuple or object is reduced to its only entry (N, K), or to the one called ``logits``; see
    ``Classifier.outputs``. Outputs that are probabilities already are kept as they are (``scores="identity"``), with a
    warning.

    Cost: one forward pass of two images, except for files and for networks of torchvision of their own size.

    Args:
        name (str): one of these.

            - ``resnet18``: a classification model of torchvision, with ``checkpoint`` or ``weights``
            - ``timm:NAME``: a network of timm, with ``checkpoint`` or ``weights`` (extra ``timm``)
            - ``hf:FOLDER`` or ``hf:NAME``: an image classifier of Hugging Face, from a folder of ``save_pretrained`` or from
              the hub (extra ``hf``)
            - ``package.module:factory`` or ``path/to/file.py:factory``: your own code, which is run; ``factory`` is called
              without arguments and returns a ``torch.nn.Module`` or a :class:`Classifier`
            - ``FILE.safetensors``: a file of :meth:`Classifier.save` or the command
            - ``efficientnet_lite0``, ``efficientnet_lite1``, ``efficientnet_lite2``: trained on ImageNet, with weights from
              packages; that of the first is in the extra ``imagenet``
            - ``lesions_softcam``, ``lesions_black_box``: the embedded classifiers
        checkpoint (path): state dict written by ``torch.save``, read with ``weights_only=True``, or by safetensors. It may
            be the entry ``"state_dict"`` or ``"model"`` of a dictionary, and its names may start with ``"module."``. With a
            factory it may be one of our files. Default: none
        weights (str): ``"DEFAULT"`` or another name for the library's own weights; downloaded unless cached. Default: none
        classes (sequence of str, or path): class names in the order of the logits, or a file with a name per line. Default:
            those kept with the network, the names of ImageNet for 1,000 logits, else the numbers ``"0"``, ``"1"``, ...
        image_size (int): side of the square input. Default: what the network was trained with
        mean (sequence of float): subtracted from each channel of an image in [0, 1]. Default: likewise
        std (sequence of float): each channel is divided by it. Default: likewise
        fit (Fit): how a picture becomes a square. Default: likewise
        scores (str): how logits become scores: ``"softmax"``, ``"sigmoid"`` or ``"identity"``. Default: what the network was
            trained with, else ``"sigmoid"`` for one logit and ``"softmax"`` for several
        allow_code (bool): whether a file may run the factory that it names. Default: False

    Returns:
        Classifier: in eval mode, on the CPU; its model computes logits (N, K).

    Raises:
        ValueError: for an unknown name or weights, for a missing or superfluous ``checkpoint`` or ``weights``, for a
            checkpoint that does not fit (missing, unexpected and misshapen entries are summarised), for a factory that fails
            or returns no network, for a network that does not run at ``image_size`` or has no output (N, K), or if there
            are not as many classes as logits.
        FileNotFoundError: if there is no such file or folder.
        ConnectionError: if weights cannot be downloaded; the message explains how to get them.
        ImportError: if the extra of the library is missing.

    Example::

        >>> load_classifier("lesions_black_box").classes
        ('healthy', 'hard exudates', 'haemorrhages', 'cotton-wool spots')
    """
    if scores is not None:
        check_kind(scores)
    changes = _Changes(classes, image_size, mean, std, fit, scores)
    path = None if checkpoint is None else Path(checkpoint)
    if brings_weights(name):
        if checkpoint is not None or weights is not None:
            raise ValueError(
                f"model {quoted(name)} brings its own weights; leave checkpoint (--checkpoint) and weights (--weights) out."
            )
        found = load_embedded(name) if name in EMBEDDED else Classifier.load(name, allow_code=allow_code)
        return _changed(found, changes)
    found = load_network(name, checkpoint=path, weights=weights, image_size=image_size)
    if is_code(name) and path is not None and is_our_file(path):
        return _changed(replace(Classifier.load(path, module_of(found, name)), source=name), changes)
    network = _own(name, found, path) if is_code(name) else found
    return _classifier(name, network, changes)


def brings_weights(name: str) -> bool:
    """Check whether a model comes with its weights: an embedded one, or a file of ours."""
    return name in EMBEDDED or name.endswith(".safetensors")


def new_classifier(
    name: str,
    classes: Sequence[str] | str | Path | None = None,
    *,
    checkpoint: str | Path | None = None,
    weights: str | None = None,
    image_size: int | None = None,
) -> Classifier:
    """Build a classifier for new classes, to be trained from the weights of another.

    All layers keep the weights that they start from. The last one is replaced by an untrained one with a logit per class,
    unless it has as many already. Auxiliary heads are removed.

    Args:
        name (str): a network of torchvision, timm, Hugging Face, your own code, or ``efficientnet_lite0``; see
            :func:`load_classifier`.
        classes (sequence of str, or path): class names in the order of the logits, or a file with a name per line. Default:
            those of the network, as :func:`load_classifier` finds them
        checkpoint (path): start from this state dict, which may be one for other classes; see :func:`load_classifier`.
        weights (str): start from the library's own weights, e.g. ``"DEFAULT"``. Default: random weights, if no checkpoint
            is passed and the network brings none
        image_size (int): side of the square input, in pixels. Default: what the network was trained with, or 224

    Returns:
        Classifier: in eval mode; ImageNet normalisation unless the network has another.

    Raises:
        ValueError: for an unknown model or weights, for both ``checkpoint`` and ``weights``, for no classes, or for a
            checkpoint that does not fit; as :func:`load_classifier` does.
        FileNotFoundError: if there is no such file or folder.
        ConnectionError: if weights cannot be downloaded.
        ImportError: if the extra of the library is missing.

    Example::

        >>> torch.save(torchvision.models.resnet18(num_classes=5).state_dict(), "mine.pt")
        >>> new_classifier("resnet18", ["cat", "dog"], checkpoint="mine.pt").model.fc
        Linear(in_features=512, out_features=2, bias=True)
    """
    if isinstance(classes, (str, Path)):
        classes = read_classes(classes)
    if classes is not None and not classes:
        raise ValueError("classes are needed: one name per logit, in their order.")
    if brings_weights(name):
        raise ValueError(f"model {quoted(name)} is trained already; start from a network by its name, or load it.")
    changes, count = _Changes(classes, image_size), None if classes is None else len(classes)
    path = None if checkpoint is None else Path(checkpoint)
    found = new_network(name, count, checkpoint=path, weights=weights, image_size=image_size)
    network = _own(name, found, path) if is_code(name) else found
    if is_code(name) and count is not None:
        # By its last layer, because nothing else is known; the classes would not fit another one.
        fit_head(network.model, count)
        network = replace(network, settings={"num_classes": count})
    return _classifier(name, network, changes)


@dataclass(frozen=True)
class _Changes:
    """What the caller wants otherwise than the network has it; None where it stays."""

    classes: Sequence[str] | str | Path | None = None
    image_size: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    fit: Fit | None = None
    scores: str | None = None

    def of_inputs(self) -> dict[str, Any]:
        """Return the fields of a classifier that describe its inputs."""
        means = {"mean": self.mean, "std": self.std}
        for what, value in means.items():
            if value is not None and (len(value) != 3 or (what == "std" and 0 in value)):
                raise ValueError(f"{what} {quoted(value)} does not fit; expected three numbers, for red, green and blue.")
        triples = {what: tuple(map(float, value)) for what, value in means.items() if value is not None}
        others = {"image_size": self.image_size, "fit": self.fit}
        return triples | {what: value for what, value in others.items() if value is not None}


def _own(name: str, found: Any, checkpoint: Path | None) -> Network:
    """Describe the network that a factory returned, by itself or in a classifier."""
    model = module_of(found, name)
    if checkpoint is not None:
        filled(model, read_state_dict(checkpoint), checkpoint, shown(name))
    network = Network(model, source=name)
    if not isinstance(found, Classifier):
        return network
    told = ("name", "classes", "image_size", "mean", "std", "fit", "scores")
    return replace(network, **{what: getattr(found, what) for what in told})


def _changed(classifier: Classifier, changes: _Changes) -> Classifier:
    """Replace fields of a classifier that is complete, after checking that they fit."""
    what, scores = f"model {quoted(classifier.name)}", changes.scores or classifier.scores
    if any(each is not None for each in (changes.classes, changes.image_size, changes.scores)):
        _, _, table = probe(classifier.model, changes.image_size or classifier.image_size, what)
        names = class_names(changes.classes, classifier.classes, table.shape[1], scores, what)
        classifier = replace(classifier, classes=names)
    return replace(classifier, **changes.of_inputs(), scores=scores)


def _classifier(name: str, network: Network, changes: _Changes) -> Classifier:
    """Make a classifier of a network: run it once, find its logits, and name its classes."""
    what = f"model {quoted(name)}"
    size, outputs, count = changes.image_size or network.image_size, "", network.num_classes
    scores = changes.scores or network.scores
    if count is None or size != network.image_size:
        outputs, images, table = probe(network.model, size, what)
        count = table.shape[1]
        if scores is None and are_probabilities(logits_of(network.model, outputs), images, [table]):
            scores = "identity"
            warnings.warn(
                f"{what} returns probabilities, which are kept as they are (scores='identity'); SoftCAM and CAM need a "
                "model without its last softmax or sigmoid.",
                stacklevel=3,
            )
    scores = scores or ("sigmoid" if count == 1 else "softmax")
    classes = class_names(changes.classes, network.classes, count, scores, what)
    if count == 1 and scores == "softmax":
        raise ValueError(
            f"{what} has one logit, whose softmax is 1 whatever it shows; pass scores='sigmoid' or 'identity' (--scores)."
        )
    return Classifier(
        name=named(network.name or name),
        model=logits_of(network.model, outputs),
        classes=classes,
        scores=scores,
        source=network.source,
        settings=network.settings,
        outputs=outputs,
        **{"image_size": size, "mean": network.mean, "std": network.std, "fit": network.fit, **changes.of_inputs()},
    )


def load_embedded(name: str = "lesions_softcam") -> Classifier:
    """Load one of the two classifiers of retinal lesions that the package carries, in eval mode, on the CPU.

    They were trained on :class:`captum_softcam.data.RetinalLesions` by ``benchmarks/studies/lesions.py``, with its first
    seed and the penalty that it selected. They are for demonstration only: their training data are lesions painted into one
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
