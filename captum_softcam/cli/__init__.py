"""The command line: ``captum-softcam compare``, ``convert``, ``explain``, ``layers``, ``metrics`` and ``train``.

What a user can get wrong ends in one sentence on standard error and exit status 2, never in a traceback.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from captum_softcam.cli.compare import add_compare
from captum_softcam.cli.convert import add_convert
from captum_softcam.cli.explain import add_explain
from captum_softcam.cli.layers import add_layers
from captum_softcam.cli.metrics import add_metrics
from captum_softcam.cli.options import in_words
from captum_softcam.cli.train import add_train

__all__ = ["main", "make_parser"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments (sequence of str): what stands behind ``captum-softcam``. Default: those of the process

    Raises:
        SystemExit: with status 2 and words on standard error for what a user can get wrong, 130 after Ctrl-C, and 0 where
            help was asked for.
    """
    options = make_parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(f"captum-softcam {options.command}: {in_words(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(f"captum-softcam {options.command}: interrupted; {str(interrupt) or 'nothing was written'}.", file=sys.stderr)
        sys.exit(130)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands.

    Returns:
        argparse.ArgumentParser: whose result has ``run``, to be called with that result.
    """
    parser = argparse.ArgumentParser(
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
