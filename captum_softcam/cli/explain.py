"""``captum-softcam explain``: the panel of one image."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captum_softcam._names import LINE, listed, named, shown
from captum_softcam.cli.options import add_model_options, load_model

__all__ = ["add_explain"]


def add_explain(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "explain",
        help="write the panel of one image",
        description="Write a picture of one image with the maps of all methods beside it.",
    )
    parser.set_defaults(run=_explain)
    parser.add_argument("image", type=Path, metavar="IMAGE", help="image file")
    add_model_options(parser)
    parser.add_argument("--target", metavar="CLASS", help="class to explain, name or number (default: the predicted one)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="new picture (default: IMAGE-panel.png, here)")


def _explain(options: argparse.Namespace) -> None:
    from captum_softcam._files import replacing
    from captum_softcam.data import Sample, read_image
    from captum_softcam.evaluation import explain_sample, refuse_existing
    from captum_softcam.report import plot_panel

    out = _picture(options.out or Path(f"{options.image.stem}-panel.png"))
    refuse_existing(out)
    classifier = load_model(options)
    image = read_image(options.image, classifier.image_size)
    logits = classifier.model(classifier.normalize(image[None]))[0]
    predicted = int(logits.argmax())
    target = predicted if options.target is None else _class_number(options.target, classifier.classes)
    example = explain_sample(
        classifier.model,
        Sample(image, target, None, options.image.name),
        options.methods,
        layer=options.layer,
        normalize=classifier.normalize,
    )
    figure = plot_panel([example], classifier.classes)
    with replacing(out) as file:
        figure.savefig(file, dpi=150, format=out.suffix[1:].lower())
    probabilities: Any = example.probabilities  # explain_sample fills them in
    if len(logits) > 1:
        print(f"predicted: {shown(classifier.classes[predicted])} ({probabilities[predicted]:.3f})")
    print(f"explained: {shown(classifier.classes[target])} ({probabilities[target]:.3f})")
    print(f"picture: {shown(out, LINE)}")


def _picture(path: Path) -> Path:
    """A file that a picture can be written to; without an ending it is a PNG."""
    from matplotlib.backend_bases import FigureCanvasBase

    path = path if path.suffix else path.with_suffix(".png")
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise ValueError(f"'{path}' is no picture that can be written; expected an ending of {', '.join(sorted(known))}.")
    if not path.parent.exists():
        raise FileNotFoundError(f"folder '{path.parent}' does not exist; make it or choose another --out.")
    return path


def _class_number(text: str, classes: Sequence[str]) -> int:
    if text in classes:
        return list(classes).index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise ValueError(f"class '{named(text)}' is none of the model's {len(classes)} classes: {listed(classes)}.")
