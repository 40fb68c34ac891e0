"""``captum-softcam explain``: draw the maps of one image."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captum_softcam._names import LINE, listed, named, shown
from captum_softcam.cli.data import add_reading_options, reading_of
from captum_softcam.cli.model import add_model_options, load_model, scored_classes
from captum_softcam.cli.options import add_method_options

__all__ = ["add_explain"]


def add_explain(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "explain",
        help="draw the maps of one image",
        description="Draw one image with the maps of all methods beside it.",
    )
    parser.set_defaults(run=_explain)
    parser.add_argument("image", type=Path, metavar="IMAGE", help="image file, DICOM and slices of NIfTI included")
    add_model_options(parser, "lesions_softcam")
    add_method_options(parser)
    add_reading_options(parser, masks=False)
    parser.add_argument(
        "--target", metavar="CLASS", help="name or number of the class to explain (default: the predicted one)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="picture to write (default: IMAGE-panel.png in this folder)"
    )


def _explain(options: argparse.Namespace) -> None:
    import torch

    from captum_softcam._files import replacing
    from captum_softcam._scores import predicted_classes
    from captum_softcam.data import Sample, read_image
    from captum_softcam.data._disk.files import without_ending
    from captum_softcam.evaluation import explain_sample
    from captum_softcam.evaluation.checkpoint import refuse_existing
    from captum_softcam.report import plot_panel

    # what can be refused is refused before the model is loaded
    out = _picture(options.out or Path(f"{without_ending(options.image.name)}-panel.png"))
    refuse_existing(out)
    classifier = load_model(options)
    classes = scored_classes(classifier)
    image = read_image(options.image, classifier.image_size, classifier.fit, reading_of(options))
    with torch.no_grad():  # otherwise the logits would keep all activations in memory until the end
        logits = classifier.model(classifier.normalize(image[None]))
    predicted = int(predicted_classes(logits, classifier.scores))
    target = predicted if options.target is None else _class_number(options.target, classes)
    example = explain_sample(
        classifier.model,
        Sample(image, target, None, options.image.name),
        options.methods,
        layer=options.layer,
        normalize=classifier.normalize,
        scores=classifier.scores,
    )
    figure = plot_panel([example], classes)
    with replacing(out) as file:
        # Matplotlib infers the format from a path only; for an open file it would write PNG.
        figure.savefig(file, dpi=150, format=out.suffix[1:].lower())
    scores: Any = example.probabilities  # explain_sample fills them in
    form = ".4g" if classifier.scores == "identity" else ".3f"  # values of any size, or probabilities
    if len(scores) > 1:  # a regression has one value, and predicts no class
        print(f"predicted: {shown(classes[predicted])} ({scores[predicted]:{form}})")
    print(f"explained: {shown(classes[target])} ({scores[target]:{form}})")
    print(f"picture: {shown(out, LINE)}")


def _picture(path: Path) -> Path:
    """Return the file to write the picture to, PNG if it has no ending, or raise an error if that is not possible."""
    from matplotlib.backend_bases import FigureCanvasBase

    path = path if path.suffix else path.with_suffix(".png")
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise ValueError(f"'{path}' cannot be written as a picture; expected the ending {', '.join(sorted(known))}.")
    if not path.parent.exists():
        raise FileNotFoundError(f"folder '{path.parent}' does not exist; make it or choose another --out.")
    return path


def _class_number(text: str, classes: Sequence[str]) -> int:
    if text in classes:  # first, because a class may be named by a number
        return list(classes).index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise ValueError(f"class '{named(text)}' is none of the model's {len(classes)} classes: {listed(classes)}.")
