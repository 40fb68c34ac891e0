"""Options that choose the samples of a comparison, and how the files of all commands are read."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_softcam._names import quoted, shown
from captum_softcam.cli.options import ALLOW_OUTSIDE, count, names, positive

if TYPE_CHECKING:
    from captum_softcam.data import Inventory, MaskedImages, Reading
    from captum_softcam.softcam import Classifier

__all__ = ["DATA_OPTIONS", "add_data_options", "add_reading_options", "load_samples", "names_data", "reading_of", "tell"]

_SETS = ("voc", "coco", "pets", "boxes", "imagenet", "labels")
_WITH_IMAGES = ("coco", "boxes", "labels")
_WITH_SPLIT = ("voc", "pets")
_READING = ("window", "max_pixels", "mask_threshold", "mask_ignore")
DATA_OPTIONS = ("images", "masks", *_SETS, "regions", "image_column", "label_column", "box_columns", *_READING)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose images and their annotations."""
    group = parser.add_argument_group("data", "default: the embedded retinal lesions")
    group.add_argument("--images", type=Path, metavar="DIR", help="images in one folder per class, or unsorted")
    group.add_argument("--masks", type=Path, metavar="DIR", help="masks, named as --images (default: those beside them)")
    group.add_argument("--voc", type=Path, metavar="DIR", help="a year of PASCAL VOC, such as VOCdevkit/VOC2007")
    group.add_argument("--coco", type=Path, metavar="JSON", help="COCO detection annotations of --images")
    regions = "what masks of --coco are made of (default: boxes)"
    group.add_argument("--regions", choices=("boxes", "polygons"), help=regions)
    group.add_argument("--pets", type=Path, metavar="DIR", help="Oxford-IIIT Pet; by species if the model has two classes")
    group.add_argument("--boxes", type=Path, metavar="CSV", help="table of boxes in --images, as RSNA's")
    group.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="table with a row per image of --images and a column of 1, 0 and -1 per class, as CheXpert's, or one of names "
        "(--label-column); masks in --masks",
    )
    column = "column of --labels or --boxes that names the image (default: the first; patientId)"
    group.add_argument("--image-column", metavar="NAME", help=column)
    column = "column of --labels or --boxes that names the class (default: a column for each class; Target)"
    group.add_argument("--label-column", metavar="NAME", help=column)
    box = "columns of --boxes: left edge, top edge, width, height (default: x,y,width,height)"
    group.add_argument("--box-columns", type=_four, metavar="A,B,C,D", help=box)
    group.add_argument("--imagenet", type=Path, metavar="DIR", help="folder ILSVRC: validation images with their boxes")
    group.add_argument("--split", metavar="NAME", help="split of --voc or --pets (default: test)")
    group.add_argument("--allow-outside", action="store_true", help=ALLOW_OUTSIDE)


def add_reading_options(parser: argparse.ArgumentParser, *, masks: bool = True) -> None:
    """Add the options that say how the files of images are read, and those of masks."""
    group = parser.add_argument_group("reading", "how files are decoded")
    window = "values of images of more than 8 bits that become black and white (default: the range of each file)"
    group.add_argument("--window", type=_window, metavar="LOW,HIGH", help=window)
    pixels = "most pixels of an image (default: Pillow's limit, about 179 million)"
    group.add_argument("--max-pixels", type=positive, metavar="N", help=pixels)
    if masks:
        threshold = "fraction of a mask's range above which a pixel belongs to it (default: above 0, or half if blurred)"
        group.add_argument("--mask-threshold", type=_fraction, metavar="T", help=threshold)
        ignore = "value of masks that marks pixels to leave out, e.g. 255 (default: none)"
        group.add_argument("--mask-ignore", type=count, metavar="VALUE", help=ignore)


def reading_of(options: argparse.Namespace) -> Reading:
    """Return how files are read, as the options say."""
    from captum_softcam.data import Reading

    window = None if options.window is None else (options.window[0], options.window[1])
    masks = (options.mask_threshold, options.mask_ignore) if "mask_threshold" in options else ()
    return Reading(window, options.max_pixels, *masks)


def tell(inventory: Inventory, title: str = "", *, strict: bool = False) -> None:
    """Print what was found before the work, and be silent about the same remarks during it.

    Args:
        inventory (Inventory): what was found.
        title (str): what is put before it. Default: nothing
        strict (bool): whether the command stops if a single file cannot be read. Default: False

    Raises:
        ValueError: if a file cannot be read and ``strict`` is set, or no file can be read.
    """
    print(f"{title}{inventory}", flush=True)
    if strict or len(inventory.unreadable) == inventory.looked_at:
        inventory.refuse_unreadable()
    for pattern in inventory.warning_patterns():
        warnings.filterwarnings("ignore", pattern, UserWarning)


def _window(text: str) -> list[float]:
    """Parse two numbers, the second of which is greater; a list, because settings are stored as JSON."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = 0.0
    if not -float("inf") < low < high < float("inf"):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not two numbers LOW,HIGH with LOW below HIGH")
    return [low, high]


def _four(text: str) -> list[str]:
    found = names(text)
    if len(found) != 4:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not four names: left edge, top edge, width and height")
    return found


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a number from 0 up to 1")
    return value


def names_data(options: argparse.Namespace) -> bool:
    """Check whether the options choose the user's own data.

    Raises:
        ValueError: if the options contradict each other.
    """
    given = [name for name in _SETS if getattr(options, name) is not None]
    flags = " and ".join(f"--{name}" for name in given)
    if len(given) > 1:
        raise ValueError(f"{flags} name several data sets; pass one.")
    if given and given != ["labels"] and options.masks is not None:
        raise ValueError(f"{flags} brings its own regions; leave --masks out.")
    if any(name in _WITH_IMAGES for name in given) != (options.images is not None) and given:
        raise ValueError(f"{flags} {'needs' if options.images is None else 'brings its own images; leave out'} --images.")
    if options.split is not None and not any(name in _WITH_SPLIT for name in given):
        raise ValueError("--split is for --voc and --pets; leave it out.")
    _refuse_columns(options)
    if options.regions is not None and options.coco is None:
        raise ValueError("--regions is for --coco; leave it out.")
    if options.masks is not None and options.images is None:
        raise ValueError("--masks needs --images: the folder of the images that the masks belong to.")
    return bool(given) or options.images is not None


def _refuse_columns(options: argparse.Namespace) -> None:
    tables = {"image_column": ("boxes", "labels"), "label_column": ("boxes", "labels"), "box_columns": ("boxes",)}
    for name, kinds in tables.items():
        if getattr(options, name) is not None and all(getattr(options, kind) is None for kind in kinds):
            raise ValueError(
                f"--{name.replace('_', '-')} is for {' and '.join(f'--{kind}' for kind in kinds)}; leave it out."
            )


def load_samples(options: argparse.Namespace, classifier: Classifier, classes: Sequence[str] | None) -> MaskedImages:
    """Open the user's data set; ``classes`` are the model's, in the order of its logits, if they are known."""
    from captum_softcam import data
    from captum_softcam.data._disk.pairs import list_pictures

    size, outside = classifier.image_size, options.allow_outside
    how: dict[str, Any] = {"fit": classifier.fit, "reading": reading_of(options)}
    split: dict[str, Any] = {} if options.split is None else {"split": options.split}
    if options.voc is not None:
        return data.VOCSamples(options.voc, size=size, classes=classes, **how, **split)
    if options.coco is not None:
        regions: dict[str, Any] = {} if options.regions is None else {"regions": options.regions}
        return data.CocoSamples(options.images, options.coco, size, classes, **how, **regions, allow_outside=outside)
    if options.pets is not None:
        two = len(classifier.scored_classes) == 2
        return data.OxfordPetSamples(options.pets, size=size, target="species" if two else "breed", **how, **split)
    if options.boxes is not None:
        columns = _columns(options, "image_column", "label_column", "box_columns")
        return data.BoxTableSamples(options.images, options.boxes, size, classes, **how, **columns, allow_outside=outside)
    if options.labels is not None:
        columns = _columns(options, "image_column", "label_column")
        return data.LabelTableSamples(
            options.images, options.labels, options.masks, size, classes, **how, **columns, allow_outside=outside
        )
    if options.imagenet is not None:
        return data.ImageNetSamples(options.imagenet, size, classes, **how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reader lists the folder again, and warns
        pictures = list_pictures(options.images, options.masks)
    in_folders = any("/" in name for name in pictures.names)
    # without any image, the reader of folders says what is missing
    if in_folders or (pictures.folders and not pictures.names):
        return data.ImageFolderSamples(options.images, options.masks, size, classes, **how)
    if options.explain == "true" and pictures.names:
        raise ValueError(
            f"--images '{shown(options.images)}' has no class folders, so the classes of the images are not known; sort "
            "them into CLASS/IMAGE, name a table of them by --labels, or explain the predicted class: --explain predicted."
        )
    return data.UnlabelledImages(options.images, options.masks, size, classes or (), **how)


def _columns(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the columns of a table that are named."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}
