"""``captum-softcam layers``: suggest layers to explain."""

from __future__ import annotations

import argparse
from typing import Any

from captum_softcam._names import named, reason
from captum_softcam.cli.model import add_model_options, load_model
from captum_softcam.cli.options import add_format_option, messages_apart

__all__ = ["add_layers"]


def add_layers(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "layers",
        help="suggest layers of a model to explain",
        description="List the layers with useful maps, the cost of Recipro-CAM at each, and the one to choose. A network "
        "needs no weights for that.",
    )
    parser.set_defaults(run=_layers)
    add_model_options(parser, "lesions_softcam")
    add_format_option(parser)


def _layers(options: argparse.Namespace) -> None:
    import torch

    from captum_softcam.attr import suggest_layers
    from captum_softcam.report import print_layers

    with messages_apart(options):
        classifier = load_model(options, random=True)
    size = classifier.image_size
    try:
        choices = suggest_layers(classifier.model, torch.rand(1, 3, size, size))
    except (RuntimeError, AssertionError) as error:  # transformers of torchvision assert the size of their input
        raise ValueError(
            f"model '{named(options.model)}' does not run at {size} pixels ({reason(error)}); try another --size."
        ) from error
    if not choices:
        raise ValueError(
            f"no layer of model '{named(options.model)}' gives one map per image of {size} pixels; try another --size."
        )
    print_layers(choices, form=options.format)
