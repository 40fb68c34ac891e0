"""``captum-softcam metrics``: list the metrics, their costs, and the verdicts on those of Quantus."""

from __future__ import annotations

import argparse
from typing import Any

from captum_softcam.cli.options import add_format_option

__all__ = ["add_metrics"]


def add_metrics(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "metrics",
        help="list the metrics, and the verdicts on those of Quantus",
        description="List the metrics with direction, cost, settings and source; and every metric of Quantus with the "
        "verdict whether it runs, is corrected or is refused, and why. Most are columns of captum-softcam compare by "
        "--metrics quantus:NAME.",
    )
    parser.set_defaults(run=_metrics)
    add_format_option(parser, "; csv has the metrics alone")


def _metrics(options: argparse.Namespace) -> None:
    from captum_softcam.report import print_metrics

    print_metrics(form=options.format)
