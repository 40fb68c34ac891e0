"""``captum-softcam convert``: convert a classifier to a SoftCAM model, and write it as safetensors or ONNX."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from captum_softcam._names import LINE, shown
from captum_softcam.cli.model import add_model_options, load_model
from captum_softcam.cli.options import missing_extra_in_words, positive

if TYPE_CHECKING:
    from torch import Tensor

    from captum_softcam.softcam import Classifier, SoftCamModel

__all__ = ["add_convert"]


def add_convert(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "convert",
        help="convert a classifier to a SoftCAM model, and write it as safetensors or ONNX",
        description="Convert a classifier to a SoftCAM model without training, and report what changed. A network without "
        "weights is only reported on; with weights, or from a file, the result can be written.",
    )
    parser.set_defaults(run=_convert)
    add_model_options(parser, "lesions_black_box")
    parser.add_argument("--num-classes", type=positive, metavar="N", help="outputs of a new, untrained last layer")
    parser.add_argument("--output-stride", type=int, choices=(16, 8), help="input pixels per position of the evidence")
    parser.add_argument("--out", type=Path, metavar="FILE", help="new file of the converted model (safetensors)")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="new ONNX file with logits and evidence")


def _convert(options: argparse.Namespace) -> None:
    from captum_softcam.evaluation.checkpoint import refuse_existing
    from captum_softcam.softcam.export import check_packages

    # Before the model is loaded, because its weights may be a download.
    for path in filter(None, (options.out, options.onnx)):
        refuse_existing(path)
    if options.onnx is not None:
        with missing_extra_in_words():  # after --out is written, the same command would be refused
            check_packages()
    # With random weights if none are passed and no file is requested.
    classifier = _converted(options, load_model(options, random=not (options.out or options.onnx)))
    print(classifier.model.conversion)
    if options.out is not None:
        print(f"model: {shown(classifier.save(options.out), LINE)}")
    if options.onnx is not None:
        try:
            print(f"ONNX: {shown(_exported(classifier, options.onnx), LINE)}")
        except KeyboardInterrupt as stop:
            if options.out is None:
                raise
            raise KeyboardInterrupt(f"'{shown(options.out)}' was written, the ONNX file was not") from stop


def _converted(options: argparse.Namespace, classifier: Classifier) -> Classifier:
    from captum_softcam.softcam import SoftCamModel, convert_to_softcam

    if isinstance(classifier.model, SoftCamModel):
        if options.num_classes or options.output_stride:
            raise ValueError(f"model '{options.model}' is converted already; leave --num-classes and --output-stride out.")
        return classifier
    model = convert_to_softcam(
        classifier.model,
        _probe(classifier),
        num_classes=options.num_classes,
        output_stride=options.output_stride,
    )
    classes = map(str, range(options.num_classes)) if options.num_classes else classifier.classes
    return replace(classifier, model=model, classes=tuple(classes))


def _probe(classifier: Classifier) -> Tensor:
    """Make two normalised images of noise, which are the same in every run."""
    import torch

    # Two images, because a squeeze() of all dimensions would drop a batch of one.
    noise = torch.rand(2, 3, *[classifier.image_size] * 2, generator=torch.Generator().manual_seed(0))
    return classifier.normalize(noise)


def _exported(classifier: Classifier, path: Path) -> Path:
    from captum_softcam.softcam import export_onnx

    model = cast("SoftCamModel", classifier.model)
    classes, mean, std = classifier.classes, classifier.mean, classifier.std
    with missing_extra_in_words():
        return export_onnx(model, path, _probe(classifier), classes=classes, mean=mean, std=std)
