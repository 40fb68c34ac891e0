"""Inputs of a comparison on the command line: classifier, samples, metrics, engine, and the notes on them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from captum_softcam._names import listed, named, quoted
from captum_softcam.cli.data import DATA_OPTIONS, load_samples, names_data, tell
from captum_softcam.cli.model import has_numbers_for_classes, load_model, model_notes

if TYPE_CHECKING:
    from captum_softcam.data import Inventory, MaskedImages, RetinalLesions
    from captum_softcam.evaluation import Engine
    from captum_softcam.softcam import Classifier

__all__ = ["engine_of", "metrics_of", "model_and_samples", "print_held_out", "provenance", "with_classes_of_data"]

_DEMO_SAMPLES = 48
_ACCURACY_SAMPLES = 400


def model_and_samples(options: argparse.Namespace) -> tuple[Classifier, RetinalLesions | MaskedImages, Inventory | None]:
    """Load classifier and samples, and print what was found; the classes are the model's if it has them, else the data's."""
    from captum_softcam.data import RetinalLesions
    from captum_softcam.softcam import EMBEDDED

    own, classifier = names_data(options), load_model(options)
    if not own and options.model not in EMBEDDED:
        raise ValueError(f"model '{options.model}' needs --images: the embedded lesions are for the embedded models.")
    if own:
        classifier = with_classes_of_data(options, classifier)
        samples = load_samples(options, classifier, classifier.scored_classes)
        inventory = samples.inspect(options.samples, show_progress=True)
        tell(inventory, strict=options.strict)
        if not inventory.regions:
            _leave_localisation_out(options, inventory)
        return classifier, samples, inventory
    options.samples = options.samples or _DEMO_SAMPLES
    length = max(options.samples, _ACCURACY_SAMPLES)
    return classifier, RetinalLesions("test", length=length, size=classifier.image_size), None


def with_classes_of_data(options: argparse.Namespace, classifier: Classifier) -> Classifier:
    """Name the classes after those of the data, if nothing but their number is known."""
    if options.classes is not None or not has_numbers_for_classes(classifier):
        return classifier
    found = load_samples(options, classifier, None).classes  # no image is read
    known = classifier.scored_classes
    if not found or set(found) <= set(known):  # images without classes, or folders that have the numbers
        return classifier
    if len(found) != len(known):
        absence = options.labels is not None and (len(found), len(known)) == (1, 2)
        example = f", such as {quoted(f'not {found[0]},{found[0]}')}" if absence else ""
        raise ValueError(
            f"model '{named(classifier.name)}' has {len(known)} classes without names, the data {len(found)} "
            f"({listed(found, 80)}); name all classes of the model in the order of its logits by --classes A,B or "
            f"FILE{example}."
        )
    return replace(classifier, classes=tuple(found))


def metrics_of(options: argparse.Namespace, inventory: Inventory | None) -> list[str] | None:
    """Return the metrics that the options name, or those that suit what was found."""
    from captum_softcam.metrics import METRICS

    if options.metrics == ["all"]:
        return list(METRICS)
    if options.metrics is None and inventory is not None and inventory.regions:
        # Because the comparison looks for a mask among the first samples alone, and the inventory has looked at all.
        from captum_softcam.evaluation.checks import BY_QUANTUS

        return [*(name for name, metric in METRICS.items() if metric.default), BY_QUANTUS]
    metrics: list[str] | None = options.metrics
    return metrics


def _leave_localisation_out(options: argparse.Namespace, inventory: Inventory) -> None:
    """Restrict the metrics to those that need no masks, or raise ValueError if a localisation metric was named."""
    from captum_softcam.metrics import METRICS, VERDICTS

    localisation = [name for name, metric in METRICS.items() if metric.needs_mask]
    localisation += [f"quantus:{name}" for name, verdict in VERDICTS.items() if verdict.category == "localisation"]
    asked = [name for name in options.metrics or [] if name in localisation]
    black = len(inventory.black)
    if asked and black:
        given = [f"--mask-{name}" for name in ("threshold", "ignore") if getattr(options, f"mask_{name}") is not None]
        cause = f" under {' and '.join(given)}" if given else ""
        raise ValueError(
            f"{', '.join(asked)} cannot be measured, because {'all masks are' if black > 1 else 'the only mask is'} black"
            f"{cause}: no sample has anything to localise; leave it out{', or change these options' if given else ''}."
        )
    if asked:
        raise ValueError(f"{', '.join(asked)} cannot be measured without masks; pass --masks or leave it out.")
    if options.metrics and options.metrics != ["all"]:
        return  # all that were named are measured
    if options.metrics:
        options.metrics = [name for name in METRICS if name not in localisation]
    print(f"{'No sample has a region' if black else 'No masks'}: the localisation metrics are left out.")


def engine_of(options: argparse.Namespace) -> Engine:
    """Return what executes the batches."""
    from torch import device

    from captum_softcam.evaluation import LocalEngine, RayEngine

    if options.engine == "ray":
        gpus = int(device(options.device or "cpu").type == "cuda")  # whatever its number: Ray chooses the GPU of a worker
        # --workers 0, the default, means as many workers of Ray as the cluster has room for.
        return RayEngine(options.address, options.workers or None, gpus=gpus)
    if options.address is not None:
        raise ValueError("--address is for --engine ray; leave it out.")
    return LocalEngine(options.workers)


def provenance(options: argparse.Namespace, classifier: Classifier, inventory: Inventory | None) -> dict[str, Any]:
    """Record where model and data came from, and what was found, for the manifest."""
    data: dict[str, Any] = {name: str(getattr(options, name)) for name in DATA_OPTIONS if getattr(options, name) is not None}
    found = {"images": "RetinalLesions, split 'test', seed 0"} if inventory is None else {"found": inventory.summary()}
    return {**model_notes(options, classifier), "data": {**data, **found}}


def print_held_out() -> None:
    """Print the accuracy of both embedded models on the held-out split."""
    from captum_softcam.data import RetinalLesions
    from captum_softcam.evaluation import accuracy
    from captum_softcam.softcam import EMBEDDED, load_embedded

    held_out = RetinalLesions("test", length=_ACCURACY_SAMPLES)
    samples = [held_out[i] for i in range(len(held_out))]  # painted once for all models
    for name in EMBEDDED:
        value, low, high = accuracy(load_embedded(name), samples)
        print(f"{name}: held-out accuracy {value:.3f} [{low:.3f}, {high:.3f}] on {_ACCURACY_SAMPLES} samples")
