"""``captum-softcam train``: train a SoftCAM model, or a black box for comparison, on a folder or table of images."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_softcam._files import replacing, write_text
from captum_softcam._names import LINE, listed, shown
from captum_softcam.cli.data import add_reading_options, reading_of, tell
from captum_softcam.cli.model import DOORS, add_input_options, add_start_options, fit_of, refuse_stored_code
from captum_softcam.cli.options import (
    ALLOW_OUTSIDE,
    STRICT,
    count,
    in_words,
    missing_extra_in_words,
    plain_options,
    positive,
    restore_options,
    resume_command,
    seed,
)
from captum_softcam.data.splits import refuse_other_split, write_split

if TYPE_CHECKING:
    from captum_softcam.data import LabelledImages
    from captum_softcam.softcam import Classifier, SoftCamTask, TrainingResult

__all__ = ["add_train"]

_OF_THE_MACHINE = ("accelerator", "devices", "strategy", "workers")  # may differ when a run is resumed elsewhere


def add_train(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train a SoftCAM model or a black box on your own images",
        description="Train a classifier as a SoftCAM model, or as it is with --black-box, by the recipe of the "
        "SoftCAM paper. Images are augmented: cropped to 70-100 % of their area, flipped left to right, and slightly "
        "changed in colour. An interrupted run goes on with: captum-softcam train --resume --out DIR",
    )
    parser.set_defaults(run=partial(_train, parser))
    _add_data_options(parser)
    add_reading_options(parser, masks=False)
    _add_network_options(parser)
    _add_recipe_options(parser)
    _add_machine_options(parser)
    parser.add_argument("--strict", action="store_true", help=STRICT)
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, with its settings")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="new folder for settings, model and curves")


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--images", type=Path, metavar="DIR", help="images in one folder per class")
    source.add_argument("--csv", type=Path, metavar="FILE", help="table with the columns path, label and, optionally, split")
    parser.add_argument("--allow-outside", action="store_true", help=ALLOW_OUTSIDE)
    parser.add_argument("--val-images", type=Path, metavar="DIR", help="validation images in one folder per class")
    fraction = "fraction of the images for validation, unless these are named (default: 0.2)"
    parser.add_argument("--val-fraction", type=_number, default=0.2, metavar="F", help=fraction)
    kinds = ("multiclass", "multilabel", "binary")
    parser.add_argument("--kind", choices=kinds, default="multiclass", help="labels per image (default: multiclass)")
    parser.add_argument("--size", type=positive, default=512, metavar="PIXELS", help="side of the input (default: 512)")
    parser.add_argument("--vertical-flips", action="store_true", help="also augment by vertical flips")


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    doors = DOORS.format(embedded="", default="resnet50").replace("a file of this command (FILE.safetensors), ", "")
    parser.add_argument("--model", default="resnet50", metavar="NAME", help=doors)
    add_start_options(parser.add_mutually_exclusive_group())
    add_input_options(parser, "squash")
    parser.add_argument("--black-box", action="store_true", help="do not convert to SoftCAM, for comparison")
    strides = "input pixels per position of the evidence (default: the model's)"
    parser.add_argument("--output-stride", type=int, choices=(16, 8), help=strides)
    parser.add_argument("--l1", type=_number, default=0.0, metavar="L", help="lasso penalty on the evidence (default: 0)")
    parser.add_argument("--l2", type=_number, default=0.0, metavar="L", help="ridge penalty on the evidence (default: 0)")


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=positive, default=50, metavar="N", help="passes over the images (default: 50)")
    parser.add_argument("--batch-size", type=positive, default=12, metavar="N", help="images per step (default: 12)")
    parser.add_argument(
        "--lr", type=_number, default=1e-3, help="initial learning rate, decreases to a tenth (default: 0.001)"
    )
    parser.add_argument(
        "--weight-decay", type=_number, default=5e-4, metavar="W", help="L2 penalty on the weights (default: 0.0005)"
    )
    parser.add_argument("--class-weights", choices=("balanced",), help="weight rare classes as much as frequent ones")
    scores = "score that selects the best epoch (default: auc)"
    parser.add_argument("--score", choices=("auc", "accuracy", "loss"), default="auc", help=scores)
    parser.add_argument("--patience", type=positive, metavar="N", help="stop after N epochs without a better score")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of all random numbers (default: 0)")


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--precision", default="32-true", help="e.g. 16-mixed on a GPU (default: 32-true)")
    parser.add_argument("--accelerator", default="auto", metavar="NAME", help="cpu, gpu, mps (default: the best)")
    parser.add_argument("--devices", default="1", metavar="N", help="number of devices, or auto (default: 1)")
    parser.add_argument("--strategy", default="auto", metavar="NAME", help="of several devices, e.g. ddp (default: auto)")
    parser.add_argument("--workers", type=count, default=2, metavar="N", help="processes that load images (default: 2)")


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    # ``number < 0`` would let NaN pass, because every comparison with NaN is False.
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return number


def _train(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    _refuse_missing_extra()
    from captum_softcam.softcam.training import is_main_process, owned_folder

    stored = _stored(options.out) if options.resume else None
    if stored is not None:
        named = options.model
        restore_options(parser, options, stored["options"], _OF_THE_MACHINE)
        refuse_stored_code(named, options)
    elif is_main_process():  # the main process has written to the folder by the time the others get here
        _refuse_taken(options.out)
    _refuse_combinations(options)
    # Repaired since or not: with one image more, a random split would move others from one side to the other.
    left_out = {} if stored is None else dict(stored.get("left_out", {}))
    train, validation = _sets(options, left_out)
    if stored is not None:
        refuse_other_split(options.out, stored["split"], train, validation)
    classifier = _untrained(options, train)
    train, validation = _transformed(options, classifier, train, validation)
    task = _task(options, classifier, train)
    with owned_folder(options.out), _what_is_kept(options):
        # Again, under the lock: another process may have started a run here while the images were read.
        if stored is None and is_main_process():
            _refuse_taken(options.out)
            write_split(options.out, train, validation)
            # Last, because a folder with settings counts as a run, which must have its split.
            _write_settings(parser, options, train, validation, left_out)
        result = _run(options, task, train, validation)
        if is_main_process():
            print(f"best epoch: {result.epoch} ({_best_of(result, options.score)})")
            classifier.save(options.out / "model.safetensors")
            print(f"Model, settings, metrics and curves: {shown(options.out, LINE)}/")


def _refuse_missing_extra() -> None:
    with missing_extra_in_words():
        from captum_softcam.softcam import SoftCamTask  # noqa: F401 (tried, not used)


def _refuse_combinations(options: argparse.Namespace) -> None:
    if options.images is None and options.csv is None:
        raise ValueError("--images DIR or --csv FILE is needed: the images to train on.")
    if options.black_box and (options.l1 or options.l2 or options.output_stride):
        raise ValueError("--black-box has no evidence; leave --l1, --l2 and --output-stride out.")
    if options.val_images is not None and options.kind == "multilabel":
        raise ValueError("--val-images has one label per image; for several, use --csv with a column split.")


def _sets(options: argparse.Namespace, left_out: dict[str, str]) -> tuple[LabelledImages, LabelledImages]:
    """Read the images to train on and to validate on.

    Args:
        options (argparse.Namespace): of the command.
        left_out (dict): error message by path of images to do without; those that cannot be read are added.
    """
    from captum_softcam.data import LabelledImages, split_samples
    from captum_softcam.data.labelled import names_splits

    how: dict[str, Any] = {"kind": options.kind, "reading": reading_of(options)}
    from_csv: Callable[..., LabelledImages] = partial(LabelledImages.from_csv, allow_outside=options.allow_outside, **how)
    read = partial(LabelledImages.from_folders, **how) if options.csv is None else from_csv
    train = read(options.images or options.csv)
    readable = partial(_readable, options, left_out)
    if options.val_images is not None:
        # With the classes of the training images: a class without a folder here would shift the numbers of all after it.
        validation = LabelledImages.from_folders(options.val_images, train.classes, **how)
        train, validation = readable(train, "Training: "), readable(validation, "Validation: ")
    elif options.csv is not None and names_splits(options.csv):
        # The classes are those of the whole table, read above, because one part may lack some of them.
        parts = (from_csv(options.csv, split, train.classes) for split in ("train", "val"))
        train, validation = map(readable, parts, ("Training: ", "Validation: "))
    else:
        train, validation = split_samples(readable(train), options.val_fraction, options.seed)
    train.refuse_missing_classes()
    return train, validation


def _readable(
    options: argparse.Namespace, left_out: dict[str, str], data: LabelledImages, title: str = ""
) -> LabelledImages:
    """Print what was found, and return the images that can be read; the others are added to ``left_out``."""
    from captum_softcam.softcam.training import is_main_process

    main = is_main_process()
    inventory = data.inspect(decode=True, show_progress=main)
    if main:
        tell(inventory, title, strict=options.strict)
    paths = {str(file): str(file.absolute()) for file in data.files}
    left_out |= {paths[name]: message for name, message in inventory.unreadable.items()}
    return data.subset([place for place, file in enumerate(data.files) if paths[str(file)] not in left_out])


def _untrained(options: argparse.Namespace, train: LabelledImages) -> Classifier:
    """Build the network to train, with the outputs that the data need."""
    import torch

    from captum_softcam._fit import Fit
    from captum_softcam.softcam import convert_to_softcam, new_classifier

    # Before the network is built, because its new last layer starts from random numbers.
    torch.manual_seed(options.seed)
    classes = train.classes[1:] if options.kind == "binary" else train.classes  # one for each logit
    if len(classes) < 1 or (options.kind == "multiclass" and len(classes) < 2):
        raise ValueError(f"{options.kind} needs two classes or more; got {', '.join(train.classes)}.")
    with missing_extra_in_words():
        start = new_classifier(
            options.model, classes, checkpoint=options.checkpoint, weights=options.weights, image_size=options.size
        )
    start = replace(
        start,
        classes=train.classes,  # of a single logit both
        mean=tuple(options.mean or start.mean),
        std=tuple(options.std or start.std),
        # Whatever the network saw before: the margin of a picture may show what decides.
        fit=fit_of(options, Fit()),
        scores="softmax" if options.kind == "multiclass" else "sigmoid",
    )
    if options.black_box:
        return start
    return replace(start, model=convert_to_softcam(start.model, output_stride=options.output_stride))


def _transformed(
    options: argparse.Namespace, classifier: Classifier, train: LabelledImages, validation: LabelledImages
) -> tuple[LabelledImages, LabelledImages]:
    from captum_softcam.data import make_transforms
    from captum_softcam.data._pixels.images import image_shape

    if len(image_shape(train.files[0], train.reading)) > 2:
        raise ValueError(
            f"image '{shown(train.files[0])}' is a volume; the command trains on pictures. Save its slices as files, or "
            "train a network of volumes in Python."
        )
    augmented, plain = make_transforms(
        options.size, classifier.mean, classifier.std, vertical_flips=options.vertical_flips, fit=classifier.fit
    )
    return train.with_transform(augmented), validation.with_transform(plain)


def _task(options: argparse.Namespace, classifier: Classifier, train: LabelledImages) -> SoftCamTask:
    from captum_softcam.data import balanced_class_weights
    from captum_softcam.softcam import ElasticNetEvidenceLoss, SoftCamTask

    return SoftCamTask(
        classifier.model,
        ElasticNetEvidenceLoss(options.l1, options.l2) if options.l1 or options.l2 else None,
        kind=options.kind,
        class_weights=balanced_class_weights(train.targets) if options.class_weights else None,
        score=options.score,
        lr=options.lr,
        weight_decay=options.weight_decay,
    )


def _run(
    options: argparse.Namespace, task: SoftCamTask, train: LabelledImages, validation: LabelledImages
) -> TrainingResult:
    """Train, and draw the curves even if the training fails."""
    from captum_softcam.softcam.training import has_checkpoint, train_in_folder

    try:
        result = train_in_folder(
            task,
            train,
            validation,
            options.out,
            epochs=options.epochs,
            batch_size=options.batch_size,
            patience=options.patience,
            seed=options.seed,
            workers=options.workers,
            precision=options.precision,
            accelerator=options.accelerator,
            devices=options.devices,
            strategy=options.strategy,
            # A run that was killed before its first checkpoint has settings alone, and starts at the first epoch.
            resume=options.resume and has_checkpoint(options.out),
        )
    except BaseException:
        print(flush=True)  # end the line of the progress bar
        with suppress(OSError, ValueError):  # so that the error of the training is reported, not one of the curves
            _draw_curves(options.out)
        raise
    _draw_curves(options.out)
    return result


@contextmanager
def _what_is_kept(options: argparse.Namespace) -> Iterator[None]:
    """Report how to resume after Ctrl-C or a full disk; without a checkpoint, remove what was written."""
    from captum_softcam.softcam.training import has_checkpoint, is_main_process, read_history

    out = options.out
    try:
        yield
    except BaseException as stop:
        if not has_checkpoint(out):
            if is_main_process():
                _clear(out)
            raise
        command = f"go on with: {resume_command(options)}"
        if isinstance(stop, KeyboardInterrupt):
            epochs = len(read_history(out))
            raise KeyboardInterrupt(f"{epochs} finished epoch{'s' * (epochs != 1)} kept; {command}") from stop
        if isinstance(stop, OSError):
            raise OSError(f"{in_words(stop).rstrip('.')}. What is done is kept; {command}.") from stop
        raise


def _clear(out: Path) -> None:
    """Remove the files that were written before the first checkpoint."""
    for name in ("settings.json", "split.csv"):
        (out / name).unlink(missing_ok=True)
    with suppress(OSError):  # it does not exist, or contains files of the user
        (out / "checkpoints").rmdir()


def _best_of(result: TrainingResult, score: str) -> str:
    """Describe the score and loss of the best epoch."""
    loss = f"validation loss: {result.history[result.epoch]['val_loss']:.3g}"
    if score == "loss":
        return loss
    equal = sum(row["val_score"] == result.score for row in result.history)
    among = f", the lowest of the {equal} epochs with this {score}" if equal > 1 else ""
    return f"validation {score}: {result.score:.3f}, {loss}{among}"


def _draw_curves(out: Path) -> None:
    from captum_softcam.report import plot_history
    from captum_softcam.softcam.training import is_main_process, read_history

    history = read_history(out)
    if history and is_main_process():
        with replacing(out / "curves.png") as file:
            plot_history(history).savefig(file, format="png", dpi=120)


def _write_settings(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    train: LabelledImages,
    validation: LabelledImages,
    left_out: Mapping[str, str],
) -> None:
    """Write options, classes, images and versions of the run, for the user and for ``--resume``."""
    settings = {
        "options": plain_options(parser, options),
        "classes": list(train.classes),
        "images": {"training": train.counts(), "validation": validation.counts()},
        "left_out": left_out,
        "split": {"training": train.digest(), "validation": validation.digest()},
        "augmentation": str(train.transform).split("\n"),
        "versions": {name: metadata.version(name) for name in ("captum-softcam", "lightning", "torch", "torchvision")},
    }
    write_text(options.out / "settings.json", json.dumps(settings, indent=2) + "\n")


def _stored(out: Path) -> dict[str, Any]:
    """Read the settings of the run in the folder: the ``options`` it was started with, and the digests of its ``split``."""
    path = out / "settings.json"
    if not path.is_file() and not (out / "checkpoints").exists():
        raise FileNotFoundError(f"'{shown(path)}' does not exist, so there is no run to resume; leave --resume out.")
    try:
        settings = json.loads(path.read_bytes())
        split = settings["split"]
        whole = bool(settings["options"].keys()) and {type(split["training"]), type(split["validation"])} == {str}
    except (AttributeError, FileNotFoundError, KeyError, RecursionError, TypeError, ValueError):
        whole = False
    if not whole:
        raise ValueError(f"'{shown(path)}' is missing or damaged; put a copy of it back, or train anew with another --out.")
    stored: dict[str, Any] = settings
    return stored


def _refuse_taken(out: Path) -> None:
    """Raise FileExistsError unless the folder is new or empty, or was left by a run that ended before its settings."""
    if not out.is_dir():
        from captum_softcam.evaluation.checkpoint import refuse_existing

        refuse_existing(out)
    elif (out / "settings.json").exists():
        raise FileExistsError(f"'{shown(out)}' holds a training already; go on with --resume, or choose another --out.")
    elif others := [path.name for path in out.iterdir() if not path.name.startswith(".") and path.name != "split.csv"]:
        raise FileExistsError(f"'{shown(out)}' holds other files ({listed(others)}); choose another --out.")
