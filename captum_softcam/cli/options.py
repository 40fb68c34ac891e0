"""Options that several commands share: types of values, the choice of a model, and the options of a resumed run."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_softcam._names import closest, named, quoted, shown
from captum_softcam.attr import METHODS

if TYPE_CHECKING:
    from captum_softcam.softcam import Classifier

__all__ = [
    "ALLOW_OUTSIDE",
    "MODEL_HELP",
    "add_model_options",
    "brings_weights",
    "count",
    "in_words",
    "load_model",
    "load_whole",
    "missing_extra_in_words",
    "names",
    "plain_options",
    "positive",
    "refuse_unknown_model",
    "restore_options",
    "resume_command",
    "seed",
    "untrained",
]

ALLOW_OUTSIDE = "let annotations and tables name images outside their folder, by ../ or absolute paths"
MODEL_HELP = "lesions_softcam (default), lesions_black_box, a torchvision classifier, or a .safetensors file"

# The controls are spelt out, because their module imports torch.
_METHODS = (
    f"one or more of {', '.join(METHODS)}, and the controls centred_gaussian, random, edge_map (default: all that fit the "
    f"model except {' and '.join(name for name, method in METHODS.items() if not method.default)})"
)
_NEVER_STORED = ("help", "command", "run", "resume", "out")


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    # isdigit() is also True for "²", which int() rejects.
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a whole number above 0")
    return int(text)


def count(text: str) -> int:
    """Parse a whole number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a whole number of 0 or more")
    return int(text)


def seed(text: str) -> int:
    """Parse a seed that every random generator accepts: NumPy's legacy generator stops at 32 bits."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def names(text: str) -> list[str]:
    """Parse names separated by commas, at least one."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise argparse.ArgumentTypeError("expected a list of names separated by commas")
    return parts


@contextmanager
def missing_extra_in_words() -> Iterator[None]:
    """Turn an ImportError, whose message names the cure, into an error that is reported as one line."""
    try:
        yield
    except ImportError as error:
        raise ValueError(str(error)) from error


def in_words(error: Exception) -> str:
    """Return the message of an error as one sentence for the user."""
    # an error of the operating system comes as a number, a text and a file, one of a DataLoader's process as a traceback
    if isinstance(error, OSError) and error.errno is not None:
        text = (error.strerror or type(error).__name__).rstrip(".")
        return f"{text}: '{error.filename}'." if error.filename else f"{text}."
    text = str(error)
    return text.rstrip().rpartition("\n")[2].partition(": ")[2] if "Original Traceback" in text else text


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a model, its layer and the methods."""
    parser.add_argument("--model", default="lesions_softcam", metavar="NAME", help=MODEL_HELP)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="state dict of a torchvision classifier")
    parser.add_argument("--weights", metavar="NAME", help="torchvision's own weights, e.g. DEFAULT")
    parser.add_argument("--classes", type=names, metavar="A,B", help="class names in the order of the logits")
    parser.add_argument(
        "--layer", metavar="NAME", help="layer of layer methods (default: the one that the command layers recommends)"
    )
    parser.add_argument("--methods", type=names, metavar="A,B", help=_METHODS)


def brings_weights(name: str) -> bool:
    """Check whether a model comes with weights and classes: an embedded one, or a file of ours."""
    from captum_softcam.softcam import EMBEDDED

    return name in EMBEDDED or name.endswith(".safetensors")


def refuse_unknown_model(name: str) -> None:
    """Raise ValueError unless the model is an embedded one or a classifier of torchvision."""
    import torchvision

    from captum_softcam.softcam import EMBEDDED

    # Without ``module``, networks for detection, segmentation and video are listed, too.
    known = [*EMBEDDED, *torchvision.models.list_models(module=torchvision.models)]
    if name not in known:
        raise ValueError(f"model '{named(name)}' is unknown. {closest(name, known)}")


def load_model(options: argparse.Namespace) -> Classifier:
    """Load the classifier that the options choose, with its weights."""
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


def load_whole(name: str) -> Classifier:
    """Load a model that comes with weights and classes."""
    from captum_softcam.softcam import EMBEDDED, Classifier, load_embedded

    return load_embedded(name) if name in EMBEDDED else Classifier.load(name)


def untrained(name: str) -> Classifier:
    """Build a torchvision classifier with random weights and the classes, size and normalisation of ImageNet."""
    from captum_softcam.softcam import new_classifier

    refuse_unknown_model(name)
    return new_classifier(name)


def resume_command(command: str, out: Path) -> str:
    """Return what to type to resume the run of a command in a folder."""
    return f"captum-softcam {command} --resume --out {shlex.quote(str(out))}"


def plain_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of the parser as JSON can store them; files absolute, because a run may be resumed elsewhere."""
    # ``out`` is not stored, because a folder may be moved before its run is resumed.
    names = [action.dest for action in parser._actions if action.dest not in _NEVER_STORED]
    values = {name: getattr(options, name) for name in names}
    return {name: str(value.absolute()) if isinstance(value, Path) else value for name, value in values.items()}


def restore_options(
    parser: argparse.ArgumentParser, options: argparse.Namespace, stored: Mapping[str, Any], free: Collection[str]
) -> None:
    """Restore the options that a run was started with; those passed again must be the same, except the ``free`` ones.

    Raises:
        ValueError: if an option is passed with another value than at the start, or the parser rejects a stored value.
    """
    actions = {action.dest: action for action in parser._actions}
    for name, given in plain_options(parser, options).items():
        if given == parser.get_default(name):  # argparse does not tell an option that was left out from its default
            setattr(options, name, _parsed(actions[name], stored.get(name, given)))
        elif given != stored.get(name) and name not in free:
            words = quoted(stored.get(name))
            raise ValueError(f"{_flag(name)} {shown(given)} is not what the run was started with ({words}); leave it out.")


def _parsed(action: argparse.Action, value: Any) -> Any:
    """Parse a stored value by the rules of its option, because a damaged file must not bring in other types."""
    # The type as well, because False == 0 and True == 1 in Python.
    if value == action.default and type(value) is type(action.default):
        return value
    parsed: Any
    try:
        if action.nargs == 0:
            # bool() would accept any value, and turn the text "false" into True.
            parsed = {True: True, False: False}[value]
        else:
            text = ",".join(value) if isinstance(value, list) else str(value)
            parsed = action.type(text) if callable(action.type) else text
        fits = action.choices is None or parsed in action.choices
    except (argparse.ArgumentTypeError, KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"the run was started with {_flag(action.dest)} {quoted(value)}, which is not a valid value: the settings are "
            "damaged; restore them from a copy, or start anew with another --out."
        )
    return parsed


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
