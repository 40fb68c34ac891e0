"""The command line: ``captum-softcam compare``, ``convert``, ``explain``, ``layers``, ``metrics`` and ``train``.

What a user can get wrong ends in one sentence on standard error and exit status 2, never in a traceback.
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

_LONGEST = 450  # characters of a message, besides the name of the command
_PACKAGE = str(Path(__file__).parents[1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments (sequence of str): what stands behind ``captum-softcam``. Default: those of the process

    Raises:
        SystemExit: with status 2 and words on standard error for what a user can get wrong, 130 after Ctrl-C, and 0 where
            help was asked for.
    """
    with degrading(sys.stdout, sys.stderr):
        options = make_parser().parse_args(arguments)
        try:
            with _notes_in_one_line(options.command):
                options.run(options)
        except (ValueError, OSError) as error:
            print(f"captum-softcam {options.command}: {_one_line(in_words(error))}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt as interrupt:
            words = _one_line(str(interrupt)) or "nothing was written"
            print(f"captum-softcam {options.command}: interrupted; {words}.", file=sys.stderr)
            sys.exit(130)


@contextmanager
def _notes_in_one_line(command: str) -> Iterator[None]:
    """Print what this package warns of for the user to read; other warnings come as Python prints them."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def say(message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any) -> None:
            if category is UserWarning and filename.startswith(_PACKAGE):
                print(f"captum-softcam {command}: {_one_line(str(message))}", file=sys.stderr)
            else:
                show(message, category, filename, lineno, *more)

        warnings.showwarning = say  # type: ignore[assignment]  # file and line are passed on
        yield


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands.

    Returns:
        argparse.ArgumentParser: whose result has ``run``, to be called with that result.
    """
    parser = _Parser(
        prog="captum-softcam", description="Explain image classifiers, and measure which explanation can be trusted."
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
    """A parser whose errors show values as all other messages do."""

    def error(self, message: str) -> NoReturn:
        super().error(_one_line(message))


def _one_line(message: str) -> str:
    return shown(re.sub(r"\s*\n\s*", " ", message), _LONGEST)
