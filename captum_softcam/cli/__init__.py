"""The command line: ``captum-softcam compare``, ``convert``, ``explain``, ``layers``, ``metrics`` and ``train``.

Errors of the user are reported as one line on stderr with exit status 2, never as a traceback. Modules of commands import
what they run inside their functions, so that ``--help`` answers without loading torch.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from captum_softcam._names import degrading, shown
from captum_softcam.cli.compare import add_compare
from captum_softcam.cli.convert import add_convert
from captum_softcam.cli.explain import add_explain
from captum_softcam.cli.layers import add_layers
from captum_softcam.cli.metrics import add_metrics
from captum_softcam.cli.options import in_words
from captum_softcam.cli.train import add_train

__all__ = ["main", "make_parser"]

_LONGEST = 450  # characters of a message, without the name of the command
_PACKAGE = str(Path(__file__).parents[1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments (sequence of str): the arguments after ``captum-softcam``. Default: those of the process

    Raises:
        SystemExit: with status 2 and one line on stderr for an error of the user, 130 after Ctrl-C, and 0 after help.
    """
    # Around the parser, too, because its errors quote what was typed, which the encoding of stderr may lack.
    with degrading(sys.stdout, sys.stderr):
        options = make_parser().parse_args(arguments)
        try:
            with _notes_in_one_line(options.command):
                options.run(options)
        # Other errors, such as a KeyError, are bugs of this package and keep their traceback.
        except (ValueError, OSError) as error:
            print(f"captum-softcam {options.command}: {_one_line(in_words(error))}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt as interrupt:
            words = _one_line(str(interrupt)) or "nothing was written"
            print(f"captum-softcam {options.command}: interrupted; {words}.", file=sys.stderr)
            sys.exit(130)  # 128 + SIGINT, as shells report it


@contextmanager
def _notes_in_one_line(command: str) -> Iterator[None]:
    """Print warnings of this package in one line each; others keep the format of Python."""
    with warnings.catch_warnings():
        # catch_warnings restores ``showwarning`` as well as the filters.
        show = warnings.showwarning

        def say(message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any) -> None:
            if category is UserWarning and filename.startswith(_PACKAGE):  # the package warns users by no other category
                print(f"captum-softcam {command}: {_one_line(str(message))}", file=sys.stderr)
            else:
                show(message, category, filename, lineno, *more)

        warnings.showwarning = say  # type: ignore[assignment]  # its signature is Python's, but for the names
        yield


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands.

    Returns:
        argparse.ArgumentParser: its result has the attribute ``run``, a function to be called with that result.
    """
    parser = _Parser(
        prog="captum-softcam", description="Explain image classifiers, and measure which explanations can be trusted."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add_compare(commands)
    add_convert(commands)
    add_explain(commands)
    add_layers(commands)
    add_metrics(commands)
    add_train(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Parser whose error messages are shortened and escaped like all others."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # argparse takes "-1000,400", the window of a lung, for an option, but not "-1000"
        self._negative_number_matcher = re.compile(r"-\.?\d[\d.,e+-]*$")

    def error(self, message: str) -> NoReturn:
        super().error(_one_line(message))


def _one_line(message: str) -> str:
    return shown(re.sub(r"\s*\n\s*", " ", message), _LONGEST)
