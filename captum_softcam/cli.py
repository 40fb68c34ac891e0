"""The command line: ``captum-softcam compare``, ``explain`` and ``layers``.

What a user can get wrong ends in one sentence on standard error and exit status 2, never in a traceback.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_softcam._names import closest

if TYPE_CHECKING:
    from captum_softcam.data import ImageFolderSamples, RetinalLesions
    from captum_softcam.softcam import Classifier

__all__ = ["main", "make_parser"]

_MODEL_HELP = "lesions_softcam (default), lesions_black_box, or a torchvision classifier"
_DEMO_SAMPLES = 48
_ACCURACY_SAMPLES = 400


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line with ``arguments``, by default those of the process."""
    options = make_parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(f"captum-softcam {options.command}: {_sentence(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"captum-softcam {options.command}: interrupted; nothing was written.", file=sys.stderr)
        sys.exit(130)


def _sentence(error: Exception) -> str:
    """An error in words; those of the operating system come as a number, a text and a file."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.strerror}: '{error.filename}'." if error.filename else f"{error.strerror}."
    return str(error)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="captum-softcam", description="Explain image classifiers, and measure which explanation can be trusted."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_compare(commands)
    _add_explain(commands)
    _add_layers(commands)
    return parser


def _add_compare(commands: Any) -> None:
    parser = commands.add_parser(
        "compare",
        help="score attribution methods under the same metrics on the same samples",
        description="Score attribution methods under the same metrics on the same samples. Without options: the embedded "
        "SoftCAM model on embedded retinal lesions.",
    )
    parser.set_defaults(run=_compare)
    _add_model_options(parser)
    parser.add_argument("--images", type=Path, metavar="DIR", help="images in one folder per class")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="masks with the same relative names")
    parser.add_argument("--samples", type=_positive, metavar="N", help="number of samples (default: 48, or all of DIR)")
    parser.add_argument("--metrics", type=_names, metavar="A,B", help="metrics (default: all that the data allows)")
    parser.add_argument("--explain", choices=("true", "predicted"), default="true", help="the class to explain")
    parser.add_argument("--batch-size", type=_positive, default=16, metavar="N", help="samples at a time (default: 16)")
    parser.add_argument("--seed", type=_seed, metavar="N", default=0, help="of the random subsets (default: 0)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder for the results (default: a new one per run)")


def _add_explain(commands: Any) -> None:
    parser = commands.add_parser(
        "explain",
        help="write the panel of one image",
        description="Write a picture of one image with the maps of all methods beside it.",
    )
    parser.set_defaults(run=_explain)
    parser.add_argument("image", type=Path, metavar="IMAGE", help="image file")
    _add_model_options(parser)
    parser.add_argument("--target", metavar="CLASS", help="class to explain, name or number (default: the predicted one)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="new picture (default: IMAGE-panel.png, here)")


def _add_layers(commands: Any) -> None:
    parser = commands.add_parser(
        "layers",
        help="list the layers of a model that are worth a map",
        description="List the layers of a model that are worth a map, what Recipro-CAM costs there, and which one to take.",
    )
    parser.set_defaults(run=_layers)
    parser.add_argument("--model", default="lesions_softcam", metavar="NAME", help=_MODEL_HELP)
    parser.add_argument("--size", type=_positive, default=224, metavar="PIXELS", help="side of the input (default: 224)")


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="lesions_softcam", metavar="NAME", help=_MODEL_HELP)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="state dict for a torchvision classifier")
    parser.add_argument("--weights", metavar="NAME", help="torchvision's own weights, e.g. DEFAULT")
    parser.add_argument("--classes", type=_names, metavar="A,B", help="class names in the order of the logits")
    parser.add_argument("--layer", metavar="NAME", help="layer for layer methods (default: the last spatial one)")
    parser.add_argument("--methods", type=_names, metavar="A,B", help="methods (default: all that fit the model)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("a list of names separated by commas is needed")
    return names


def _compare(options: argparse.Namespace) -> None:
    from torch.utils.data import Subset

    from captum_softcam.evaluation import compare_methods
    from captum_softcam.report import print_table, refuse_existing, write_folder

    out = options.out or _new_name("comparison")
    refuse_existing(out)
    classifier = _classifier(options)
    samples = _samples(options, classifier)
    comparison = compare_methods(
        classifier.model,
        Subset(samples, range(min(options.samples or len(samples), len(samples)))),
        options.methods,
        options.metrics,
        layer=options.layer,
        normalize=classifier.normalize,
        explain=options.explain,
        batch_size=options.batch_size,
        seed=options.seed,
        show_progress=True,
    )
    comparison = replace(comparison, manifest={**comparison.manifest, **_provenance(options, classifier)})
    if options.images is None:
        _print_held_out()
    write_folder(comparison, out, classifier.classes)
    print_table(comparison)
    print(f"Scores per sample, settings, table and picture: {out}/")


def _explain(options: argparse.Namespace) -> None:
    from captum_softcam.data import Sample, read_image
    from captum_softcam.evaluation import explain_sample
    from captum_softcam.report import plot_panel, refuse_existing

    out = _picture(options.out or Path(f"{options.image.stem}-panel.png"))
    refuse_existing(out)
    classifier = _classifier(options)
    image = read_image(options.image, classifier.image_size)
    probabilities = classifier.model(classifier.normalize(image[None])).softmax(1)[0]
    predicted = int(probabilities.argmax())
    target = predicted if options.target is None else _class_number(options.target, classifier.classes)
    example = explain_sample(
        classifier.model,
        Sample(image, target, None, options.image.name),
        options.methods,
        layer=options.layer,
        normalize=classifier.normalize,
    )
    plot_panel([example], classifier.classes).savefig(out, dpi=150)
    print(f"predicted: {classifier.classes[predicted]} ({probabilities[predicted]:.3f})")
    print(f"explained: {classifier.classes[target]} ({probabilities[target]:.3f})")
    print(f"picture: {out}")


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


def _layers(options: argparse.Namespace) -> None:
    import torch
    import torchvision
    from rich.console import Console

    from captum_softcam.attr import suggest_layers
    from captum_softcam.report import make_layer_table
    from captum_softcam.softcam import EMBEDDED, load_embedded

    if options.model in EMBEDDED:
        model = load_embedded(options.model).model
    else:
        _refuse_unknown_model(options.model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of GoogLeNet and Inception, about weights that nobody reads
            model = torchvision.models.get_model(options.model, weights=None).eval()
    try:
        choices = suggest_layers(model, torch.rand(1, 3, options.size, options.size))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".!")
        raise ValueError(
            f"model '{options.model}' does not run at {options.size} pixels ({reason}); try another --size."
        ) from error
    Console().print(make_layer_table(choices))


def _refuse_unknown_model(name: str) -> None:
    import torchvision

    from captum_softcam.softcam import EMBEDDED

    known = [*EMBEDDED, *torchvision.models.list_models(module=torchvision.models)]
    if name not in known:
        raise ValueError(f"model '{name}' is unknown. {closest(name, known)}")


def _classifier(options: argparse.Namespace) -> Classifier:
    from captum_softcam.softcam import EMBEDDED, load_classifier, load_embedded

    if options.model in EMBEDDED:
        if options.checkpoint or options.weights:
            raise ValueError(f"model '{options.model}' brings its own weights; leave --checkpoint and --weights out.")
        if options.classes:
            raise ValueError(f"model '{options.model}' brings its own classes; leave --classes out.")
        return load_embedded(options.model)
    _refuse_unknown_model(options.model)
    classes = options.classes
    if classes is None and options.checkpoint is not None and getattr(options, "images", None) is not None:
        from captum_softcam.data import ImageFolderSamples

        classes = ImageFolderSamples(options.images).classes
    if classes is None and options.checkpoint is not None:
        raise ValueError("--classes is needed with --checkpoint: the class names in the order of the logits.")
    if options.weights and options.classes:
        raise ValueError("torchvision's weights bring their own classes; leave --classes out.")
    return load_classifier(options.model, checkpoint=options.checkpoint, weights=options.weights, classes=classes)


def _samples(options: argparse.Namespace, classifier: Classifier) -> ImageFolderSamples | RetinalLesions:
    from captum_softcam.data import ImageFolderSamples, RetinalLesions
    from captum_softcam.softcam import EMBEDDED

    if options.images is not None:
        samples = ImageFolderSamples(options.images, options.masks, classifier.image_size, classifier.classes)
        if not samples.masked:
            _leave_localisation_out(options)
        return samples
    if options.masks is not None:
        raise ValueError("--masks needs --images: the folder of the images that the masks belong to.")
    if options.model not in EMBEDDED:
        raise ValueError(f"model '{options.model}' needs --images: the embedded lesions are for the embedded models.")
    options.samples = options.samples or _DEMO_SAMPLES
    return RetinalLesions("test", length=max(options.samples, _ACCURACY_SAMPLES), size=classifier.image_size)


def _leave_localisation_out(options: argparse.Namespace) -> None:
    """Without masks: take the other metrics, or refuse if a localisation metric was asked for."""
    from captum_softcam.metrics import METRICS

    localisation = [name for name, metric in METRICS.items() if metric.category == "localisation"]
    asked = [name for name in options.metrics or [] if name in localisation]
    if asked:
        raise ValueError(f"{', '.join(asked)} cannot be measured without masks; give --masks or leave it out.")
    if options.metrics is None:
        options.metrics = [name for name in METRICS if name not in localisation]
        print("No masks: the localisation metrics are left out.")


def _print_held_out() -> None:
    """Accuracy of both embedded models on the held-out split."""
    from captum_softcam.data import RetinalLesions
    from captum_softcam.evaluation import accuracy
    from captum_softcam.softcam import EMBEDDED, load_embedded

    for name in EMBEDDED:
        share, low, high = accuracy(load_embedded(name), RetinalLesions("test", length=_ACCURACY_SAMPLES))
        print(f"{name}: held-out accuracy {share:.3f} [{low:.3f}, {high:.3f}] on {_ACCURACY_SAMPLES} samples")


def _provenance(options: argparse.Namespace, classifier: Classifier) -> dict[str, Any]:
    """Where model and data came from, for the manifest."""
    return {
        "model": classifier.name,
        "checkpoint": str(options.checkpoint) if options.checkpoint else None,
        "weights": options.weights,
        "classes": list(classifier.classes),
        "data": {
            "images": str(options.images) if options.images else "RetinalLesions, split 'test', seed 0",
            "masks": str(options.masks) if options.masks else None,
        },
    }


def _class_number(text: str, classes: Sequence[str]) -> int:
    if text in classes:
        return list(classes).index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise ValueError(f"class '{text}' is none of the model's {len(classes)} classes: {', '.join(classes[:8])}.")


def _new_name(stem: str) -> Path:
    """A folder name that is free, from the time of the run."""
    base = f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    names = (base, *(f"{base}-{i}" for i in range(2, 1000)))
    return next(path for path in map(Path, names) if not path.exists())
