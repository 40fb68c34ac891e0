"""Options that several commands share: types of values, layers and methods, and the options of a resumed run."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import Any

from captum_softcam._names import quoted, shown
from captum_softcam.attr import METHODS

__all__ = [
    "ALLOW_OUTSIDE",
    "STRICT",
    "Several",
    "absolute_model",
    "add_device_option",
    "add_format_option",
    "add_method_options",
    "count",
    "device_of",
    "in_words",
    "messages_apart",
    "missing_extra_in_words",
    "names",
    "new_name",
    "plain_options",
    "positive",
    "refuse_name_of_a_file",
    "restore_options",
    "resume_command",
    "seed",
]

ALLOW_OUTSIDE = "let annotations and tables name images outside their folder, by ../ or absolute paths"
STRICT = "stop at the first image or mask that cannot be read (default: leave it out, and say so)"

# The controls are spelt out, because their module imports torch.
_METHODS = (
    f"one or more of {', '.join(METHODS)}, and the controls centred_gaussian, random, edge_map (default: all that fit the "
    f"model except {' and '.join(name for name, method in METHODS.items() if not method.default)})"
)
_FORMATS = ("text", "markdown", "csv")  # those of report.terminal, which imports Rich
_FILES = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".tif", ".tiff", ".webp", ".html", ".csv")
_NEVER_STORED = ("help", "command", "run", "resume", "out", "strict", "format")


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


def new_name(stem: str) -> Path:
    """Return a new folder name made of the time of the run."""
    base = f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    names = (base, *(f"{base}-{i}" for i in range(2, 1000)))  # several runs may start within a second
    return next(path for path in map(Path, names) if not path.exists())


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


def refuse_name_of_a_file(folder: Path, flag: str) -> None:
    """Raise ValueError if a new folder would have the name of a picture or page, which the user expects to be one file."""
    if folder.suffix.lower() in _FILES:
        raise ValueError(
            f"{flag} '{shown(folder)}' has the name of a file, and is a new folder for all files of a run; leave the ending "
            f"out: {flag} {shown(folder.with_suffix(''))}."
        )


class Several(argparse.Action):
    """Stores a value as it is, and several as a list, so that an option that is used once is what it always was."""

    def __call__(self, _: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_more: Any) -> None:
        """Store the value of one use of the option."""
        given = vars(namespace).setdefault("_given", {}).setdefault(self.dest, [])
        given.append(values)
        setattr(namespace, self.dest, values if len(given) == 1 else list(given))


def add_method_options(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the options that choose methods and their layer."""
    parser.add_argument(
        "--layer",
        action=Several if several else "store",
        metavar="NAME",
        help="layer of layer methods (default: that of captum-softcam layers)"
        + "; of one of several models: NAME=LAYER" * several,
    )
    parser.add_argument("--methods", type=names, metavar="A,B", help=_METHODS)


def add_format_option(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add the option for the format of a table; ``more`` says what is special to the command."""
    words = f"of the table: text fits the terminal, or 80 columns of a file; markdown and csv are never split{more}"
    parser.add_argument("--format", choices=_FORMATS, default="text", help=f"{words} (default: text)")


@contextmanager
def messages_apart(options: argparse.Namespace) -> Iterator[None]:
    """Print messages to stderr where stdout is for a table that a program may read."""
    if options.format == "text":
        yield
    else:
        with redirect_stdout(sys.stderr):
            yield


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses where the model runs."""
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, ... (default: a GPU if there is one)")


def device_of(options: argparse.Namespace) -> Any:
    """Return the device of the options; the default is a GPU if there is one."""
    import torch

    if options.device is None:  # with Ray the CPU, because each worker moves the model to a device of its own
        ray = getattr(options, "engine", "local") == "ray"
        return torch.device("cuda" if torch.cuda.is_available() and not ray else "cpu")
    try:
        # Allocated, because torch.device accepts the name of a device that the machine lacks.
        return torch.empty(0, device=options.device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {options.device} cannot be used: {str(error).splitlines()[0]}") from error


def resume_command(options: argparse.Namespace) -> str:
    """Return what to type to resume the run in ``--out``; code of the user's is run only if it is named again."""
    from captum_softcam.softcam._sources.factory import is_code

    models = options.model if isinstance(options.model, list) else [options.model]
    code = any(is_code(name.rpartition("=")[2]) for name in models)
    again = "".join(f" --model {shlex.quote(name)}" for name in models) if code else ""
    return f"captum-softcam {options.command} --resume --out {shlex.quote(str(options.out))}{again}"


def plain_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of the parser as JSON can store them; files absolute, because a run may be resumed elsewhere."""
    # ``out`` is not stored, because a folder may be moved before its run is resumed.
    names = [action.dest for action in parser._actions if action.dest not in _NEVER_STORED]
    values = {name: getattr(options, name) for name in names}
    if isinstance(values.get("model"), str):  # several have absolute names already
        values["model"] = absolute_model(values["model"])
    return {name: str(value.absolute()) if isinstance(value, Path) else value for name, value in values.items()}


def absolute_model(name: str) -> str:
    """Return the name of a model with an absolute path, if it is one of a file or folder that exists."""
    door, colon, rest = name.partition(":") if name.startswith("hf:") else ("", "", name)
    file, code, factory = rest.rpartition(".py:")
    path = f"{file}.py" if code else rest
    if not (os.path.isfile(path) or (colon and os.path.isdir(path))):
        return name
    return f"{door}{colon}{os.path.abspath(path)}" + (f":{factory}" if code else "")


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
        if isinstance(action, Several) and isinstance(value, list):
            parsed = [action.type(each) if callable(action.type) else str(each) for each in value]
        elif action.nargs == 0:
            # bool() would accept any value, and turn the text "false" into True.
            parsed = {True: True, False: False}[value]
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
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
