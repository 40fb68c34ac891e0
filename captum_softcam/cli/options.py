"""Options that commands share, and what they stand for."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from captum_softcam._names import closest, named, quoted

if TYPE_CHECKING:
    from captum_softcam.softcam import Classifier

__all__ = [
    "MODEL_HELP",
    "add_model_options",
    "brings_weights",
    "count",
    "in_words",
    "load_model",
    "load_whole",
    "names",
    "positive",
    "refuse_unknown_model",
    "seed",
    "untrained",
]

_METHODS = (
    "of soft_cam, recipro_cam, class_activation_map, score_cam, grad_cam, occlusion, integrated_gradients, and the controls "
    "centred_gaussian, random, edge_map (default: all that fit the model but class_activation_map and score_cam)"
)
MODEL_HELP = "lesions_softcam (default), lesions_black_box, a torchvision classifier, or a .safetensors file"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options that choose a model, its layer and the methods."""
    parser.add_argument("--model", default="lesions_softcam", metavar="NAME", help=MODEL_HELP)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="state dict for a torchvision classifier")
    parser.add_argument("--weights", metavar="NAME", help="torchvision's own weights, e.g. DEFAULT")
    parser.add_argument("--classes", type=names, metavar="A,B", help="class names in the order of the logits")
    parser.add_argument("--layer", metavar="NAME", help="layer for layer methods (default: the last spatial one)")
    parser.add_argument("--methods", type=names, metavar="A,B", help=_METHODS)


def in_words(error: Exception) -> str:
    """An error in words.

    Those of the operating system come as a number, a text and a file, those of a process that loads data as a traceback.
    """
    if isinstance(error, OSError) and error.errno is not None:
        text = (error.strerror or type(error).__name__).rstrip(".")
        return f"{text}: '{error.filename}'." if error.filename else f"{text}."
    text = str(error)
    return text.rstrip().rpartition("\n")[2].partition(": ")[2] if "Original Traceback" in text else text


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a whole number above 0")
    return int(text)


def count(text: str) -> int:
    """A whole number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a whole number of 0 or more")
    return int(text)


def seed(text: str) -> int:
    """A whole number that every generator takes as a seed."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def names(text: str) -> list[str]:
    """Names separated by commas, at least one."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise argparse.ArgumentTypeError("a list of names separated by commas is needed")
    return parts


def refuse_unknown_model(name: str) -> None:
    """Raise ValueError unless the model is an embedded one or a classifier of torchvision."""
    import torchvision

    from captum_softcam.softcam import EMBEDDED

    known = [*EMBEDDED, *torchvision.models.list_models(module=torchvision.models)]
    if name not in known:
        raise ValueError(f"model '{named(name)}' is unknown. {closest(name, known)}")


def brings_weights(name: str) -> bool:
    """Whether a model comes with weights and classes: an embedded one, or a file of ours."""
    from captum_softcam.softcam import EMBEDDED

    return name in EMBEDDED or name.endswith(".safetensors")


def load_whole(name: str) -> Classifier:
    """A model that comes with weights and classes."""
    from captum_softcam.softcam import EMBEDDED, Classifier, load_embedded

    return load_embedded(name) if name in EMBEDDED else Classifier.load(name)


def load_model(options: argparse.Namespace) -> Classifier:
    """The classifier that the options ask for, with its weights."""
    from captum_softcam.softcam import load_classifier

    if brings_weights(options.model):
        if options.checkpoint or options.weights:
            raise ValueError(f"model '{named(options.model)}' brings its own weights; leave --checkpoint and --weights out.")
        if options.classes:
            raise ValueError(f"model '{named(options.model)}' brings its own classes; leave --classes out.")
        return load_whole(options.model)
    refuse_unknown_model(options.model)
    classes = options.classes
    if classes is None and options.checkpoint is not None and options.weights is None:
        raise ValueError("--classes is needed with --checkpoint: the class names in the order of the logits.")
    if options.weights and options.classes:
        raise ValueError("torchvision's weights bring their own classes; leave --classes out.")
    return load_classifier(options.model, checkpoint=options.checkpoint, weights=options.weights, classes=classes)


def untrained(name: str) -> Classifier:
    """A torchvision classifier with random weights and the classes, size and normalisation of ImageNet."""
    import torchvision

    from captum_softcam.softcam.classifiers import IMAGENET_MEAN, IMAGENET_STD, Classifier

    refuse_unknown_model(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of GoogLeNet and Inception, about weights that nobody reads
        model = torchvision.models.get_model(name, weights=None).eval()
    classes = tuple(next(iter(torchvision.models.get_model_weights(name))).meta["categories"])
    return Classifier(name, model, classes, 224, IMAGENET_MEAN, IMAGENET_STD)
