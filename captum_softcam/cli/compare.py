"""``captum-softcam compare``: score attribution methods on the same samples."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_softcam.cli.options import add_model_options, load_model, names, positive, seed

if TYPE_CHECKING:
    from captum_softcam.data import ImageFolderSamples, RetinalLesions
    from captum_softcam.softcam import Classifier

__all__ = ["add_compare"]

_DEMO_SAMPLES = 48
_ACCURACY_SAMPLES = 400


def add_compare(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare",
        help="score attribution methods under the same metrics on the same samples",
        description="Score attribution methods under the same metrics on the same samples. Without options: the embedded "
        "SoftCAM model on embedded retinal lesions.",
    )
    parser.set_defaults(run=_compare)
    add_model_options(parser)
    parser.add_argument("--images", type=Path, metavar="DIR", help="images in one folder per class")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="masks with the same relative names")
    parser.add_argument("--samples", type=positive, metavar="N", help="number of samples (default: 48, or all of DIR)")
    parser.add_argument("--metrics", type=names, metavar="A,B", help="metrics (default: all that the data allows)")
    parser.add_argument("--explain", choices=("true", "predicted"), default="true", help="the class to explain")
    parser.add_argument("--batch-size", type=positive, default=16, metavar="N", help="samples at a time (default: 16)")
    parser.add_argument("--seed", type=seed, metavar="N", default=0, help="of the random subsets (default: 0)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder for the results (default: a new one per run)")


def _compare(options: argparse.Namespace) -> None:
    from torch.utils.data import Subset

    from captum_softcam.evaluation import compare_methods
    from captum_softcam.report import print_table, refuse_existing, write_folder

    out = options.out or _new_name("comparison")
    refuse_existing(out)
    classifier = load_model(options)
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


def _new_name(stem: str) -> Path:
    """A folder name that is free, from the time of the run."""
    base = f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    names = (base, *(f"{base}-{i}" for i in range(2, 1000)))
    return next(path for path in map(Path, names) if not path.exists())
