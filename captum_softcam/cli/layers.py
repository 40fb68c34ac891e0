"""``captum-softcam layers``: suggest layers to explain."""

from __future__ import annotations

import argparse
from typing import Any

from captum_softcam._names import named, reason
from captum_softcam.cli.options import MODEL_HELP, brings_weights, load_whole, positive, untrained

__all__ = ["add_layers"]


def add_layers(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "layers",
        help="suggest layers of a model to explain",
        description="List the layers with useful maps, the cost of Recipro-CAM at each, and the one to choose.",
    )
    parser.set_defaults(run=_layers)
    parser.add_argument("--model", default="lesions_softcam", metavar="NAME", help=MODEL_HELP)
    parser.add_argument("--size", type=positive, default=224, metavar="PIXELS", help="side of the input (default: 224)")


def _layers(options: argparse.Namespace) -> None:
    import torch
    from rich.console import Console

    from captum_softcam.attr import suggest_layers
    from captum_softcam.report import make_layer_table

    model = (load_whole if brings_weights(options.model) else untrained)(options.model).model
    try:
        choices = suggest_layers(model, torch.rand(1, 3, options.size, options.size))
    except (RuntimeError, AssertionError) as error:  # transformers of torchvision assert the size of their input
        raise ValueError(
            f"model '{named(options.model)}' does not run at {options.size} pixels ({reason(error)}); try another --size."
        ) from error
    if not choices:
        raise ValueError(
            f"no layer of model '{named(options.model)}' gives one map per image of {options.size} pixels; try another --size."
        )
    Console().print(make_layer_table(choices))
