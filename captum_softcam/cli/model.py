"""Options that choose a model, and the one function that loads it for every command."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_softcam._names import quoted, shown
from captum_softcam.cli.options import Several, absolute_model, missing_extra_in_words, names, positive

if TYPE_CHECKING:
    from captum_softcam._fit import Fit
    from captum_softcam.softcam import Classifier

__all__ = [
    "add_input_options",
    "add_model_options",
    "add_start_options",
    "class_list",
    "fit_of",
    "has_numbers_for_classes",
    "load_model",
    "model_notes",
    "refuse_stored_code",
]

DOORS = (
    "a network of torchvision (resnet18), timm:NAME, hf:FOLDER or hf:NAME of Hugging Face, a file of this command "
    "(FILE.safetensors), efficientnet_lite0 (trained on ImageNet), {embedded}package.module:factory or "
    "path/to/file.py:factory (runs your code) (default: {default})"
)
_EMBEDDED = "lesions_softcam, lesions_black_box, "
_SEVERAL = (
    "; several, for one table: --model A --model B, or with names --model NAME=A; models of one NAME are a group, as seeds "
    "of one training"
)
_MODES = ("squash", "crop", "pad")  # spelt out, because the module of Fit imports torch
_CLASSES = "class names in the order of the logits, or a file with one per line (default: those that the network brings)"
_FIT = (
    "how a picture becomes square: squash it as a whole, crop its centre (crop:0.875: 224 of 256 pixels), or pad it with "
    "black (default: {default})"
)


def add_model_options(parser: argparse.ArgumentParser, default: str, *, several: bool = False) -> None:
    """Add the options that choose a trained model, or several of them."""
    group = parser.add_argument_group("model", "what is left out is what the network was trained with")
    doors = DOORS.format(embedded=_EMBEDDED, default=default.replace("%", "%%"))
    action: Any = Several if several else "store"
    group.add_argument("--model", action=action, default=default, metavar="NAME", help=doors + _SEVERAL * several)
    add_start_options(group, several=several)
    group.add_argument("--classes", type=class_list, metavar="A,B|FILE", help=_CLASSES)
    group.add_argument("--size", type=positive, metavar="PIXELS", help="side of the square input")
    add_input_options(group, "the network's")
    scores = "how logits become scores: one class per image, several at once or one logit, or as they are"
    group.add_argument("--scores", choices=("softmax", "sigmoid", "identity"), help=scores)


def add_start_options(group: Any, *, several: bool = False) -> None:
    """Add the options that say where the weights come from."""
    group.add_argument(
        "--checkpoint",
        action=Several if several else "store",
        type=Path,
        metavar="FILE",
        help="state dict of the network, .pt or .safetensors" + "; of one of several models: NAME=FILE" * several,
    )
    group.add_argument("--weights", metavar="NAME", help="weights of the library itself, e.g. DEFAULT")


def add_input_options(group: Any, fit: str) -> None:
    """Add the options that say how pictures become inputs; ``fit`` is the default in words."""
    group.add_argument("--mean", type=_three_numbers, metavar="R,G,B", help="subtracted from pictures in [0, 1]")
    group.add_argument("--std", type=_divisors, metavar="R,G,B", help="pictures are divided by it afterwards")
    group.add_argument("--fit", type=_fit, metavar="squash|crop|pad", help=_FIT.format(default=fit))


def class_list(text: str) -> list[str] | Path:
    """Parse names separated by commas, or the name of a file that lists them."""
    is_file = "," not in text and (os.path.isfile(text) or text.endswith(".txt"))
    return Path(text) if is_file else names(text)


def load_model(options: argparse.Namespace, *, random: bool = False) -> Classifier:
    """Load the classifier that the options choose; ``random``: with random weights, if it needs some and none are named."""
    from captum_softcam.softcam import load_classifier, new_classifier
    from captum_softcam.softcam.classifiers import brings_weights

    with missing_extra_in_words():
        if random and not (options.checkpoint or options.weights or brings_weights(options.model)):
            return new_classifier(options.model, options.classes, image_size=options.size)
        classifier = load_classifier(
            options.model,
            checkpoint=options.checkpoint,
            weights=options.weights,
            classes=options.classes,
            image_size=options.size,
            mean=options.mean,
            std=options.std,
            scores=options.scores,
        )
    return replace(classifier, fit=fit_of(options, classifier.fit))


def fit_of(options: argparse.Namespace, own: Fit) -> Fit:
    """Return how pictures become square: as the options say, else as ``own``."""
    from captum_softcam._fit import Fit

    if options.fit is None:
        return own
    mode, _, crop = options.fit.partition(":")
    if crop:
        return Fit(mode, float(crop), own.interpolation)
    # The fraction belongs to the mode: a picture that is squashed instead of cropped is shown as a whole.
    return own if mode == own.mode else Fit(mode, 1.0, own.interpolation)


def has_numbers_for_classes(classifier: Classifier) -> bool:
    """Check whether nothing is known about the classes of a model but their number."""
    return classifier.classes == tuple(map(str, range(len(classifier.classes))))


def model_notes(options: argparse.Namespace, classifier: Classifier) -> dict[str, Any]:
    """Record where a model came from and what it takes, for the manifest."""
    return {
        "model": classifier.name,
        "source": classifier.source,
        "checkpoint": str(options.checkpoint) if options.checkpoint else None,
        "weights": options.weights,
        "classes": list(classifier.scored_classes),
        "mean": list(classifier.mean),
        "std": list(classifier.std),
        "fit": asdict(classifier.fit),
        "output_entry": classifier.outputs or None,
    }


def refuse_stored_code(asked: str, options: argparse.Namespace) -> None:
    """Raise ValueError if the settings of a run name code that this call does not: its folder may come from elsewhere."""
    from captum_softcam.softcam._sources.factory import is_code

    if is_code(options.model) and absolute_model(asked) != absolute_model(options.model):
        raise ValueError(
            f"the run was started with code of yours, which runs only if it is named again: --model {shown(options.model)}."
        )


def _three_numbers(text: str) -> list[float]:
    """Parse a number for each colour, or one for all."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or not all(abs(value) < float("inf") for value in values):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not three numbers separated by commas, for red, green and blue")
    return values * 3 if len(values) == 1 else values


def _divisors(text: str) -> list[float]:
    values = _three_numbers(text)
    if min(values) <= 0:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not three numbers above 0, by which pictures are divided")
    return values


def _fit(text: str) -> str:
    """Parse a mode, and perhaps the fraction that is kept."""
    mode, colon, crop = text.partition(":")
    try:
        fraction = float(crop) if colon else 1.0
    except ValueError:
        fraction = 0.0
    if mode not in _MODES or not 0 < fraction <= 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not squash, crop or pad, or one of them as in crop:0.875")
    return text
