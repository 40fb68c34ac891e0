"""``captum-softcam metrics``: what can be measured, what it costs, and what became of Quantus' own metrics."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_metrics"]


def add_metrics(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "metrics",
        help="list the metrics, and what became of those of Quantus",
        description="List the metrics with direction, cost, settings and source, and say of every faithfulness and "
        "localisation metric of Quantus whether it runs, is corrected or is refused, and why.",
    )
    parser.set_defaults(run=_metrics)


def _metrics(_: argparse.Namespace) -> None:
    from captum_softcam.report import print_metrics

    print_metrics()
