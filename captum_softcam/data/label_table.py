"""Samples from a table with a column for each class, such as those of CheXpert, MIMIC-CXR and ISIC."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from captum_softcam._fit import Fit
from captum_softcam._names import closest, listed, named, quoted, shown
from captum_softcam.data._disk.files import folded, list_images, without_ending
from captum_softcam.data._disk.left_out import MISSING, LeftOut
from captum_softcam.data._disk.named_images import NamedImage, NamedImages
from captum_softcam.data._disk.pairs import pair_masks, unlike
from captum_softcam.data._disk.tables import Row, cell_in, classes_of, labels_in, number_in, read_table
from captum_softcam.data._pixels.images import Reading
from captum_softcam.data._pixels.masks import MaskFiles
from captum_softcam.data.inventory import Found
from captum_softcam.data.samples import UNKNOWN, ImageEntry, MaskedImages, class_number, class_numbers

__all__ = ["LabelRow", "LabelTableSamples", "found_rows", "read_label_table"]

_SHOWN, _ABSENT, _UNCERTAIN = 1.0, 0.0, -1.0
_NOT = "not "  # how a model of one logit calls its other class
_WORDS = {"true": _SHOWN, "false": _ABSENT}
_NONE_SHOWN, _UNUSED = "shows none of the classes", "mask of no sample"
_CHOICES = ("undecided", "present", "absent")
Uncertain = Literal["undecided", "present", "absent"]


class LabelRow(NamedTuple):
    """A row: its place, for error messages, the name of its image, and the numbers of classes shown and undecided."""

    place: str
    image: str
    labels: tuple[int, ...]
    undecided: tuple[int, ...]


class LabelTableSamples(MaskedImages):
    """A folder of images with one CSV file that has a row for each image, and a column for each class or one for all.

    In a column for a class, as CheXpert's, a cell is 1 where the image shows the class, 0 or empty where it does not, and -1
    where that is uncertain; 1.0 and ``True`` are 1, 0.0 and ``False`` are 0, and ``nan`` and the like are empty. One sample
    is one image and one class that it shows. The samples of an image share their ``group``, its name in the table, and their
    ``labels``. An image that shows none of the classes makes no sample; a warning says how many do not, and
    :meth:`every_image` returns them, too.

    Where one column names the class, as in HAM10000, or several classes separated by ``|``, as in ChestX-ray14, pass it as
    ``label_column``. If no image has several, every image has one class and is one sample, without ``group`` and ``labels``.

    ``masks/CLASS/NAME.*`` is the mask of the class in the image ``NAME``, found and read as those of
    :class:`ImageFolderSamples`: several, ``NAME_mask_1.*`` and ``NAME_mask_2.*``, are united. The mask ``masks/NAME.*``, in
    no folder of a class, is that of the only class that the image shows, as in ISIC; an image of several classes does not
    use it. A sample without a mask, or with a black one, has nothing to localise. Names of images are relative to
    ``images``, with or without their ending, as the how-to guide "How files are read" says. Images that are not there
    are left out, with a warning: a part of a data set is enough.

    Order: the classes alternate, each in the order of the table. Cost: the table and the names of the masks are read at
    construction, and every image is looked up; an image is read when its sample is used.

    Args:
        images (path): the folder that the names in the table are relative to; for CheXpert, the one that contains
            ``CheXpert-v1.0-small``.
        table (path): the CSV file, with a header.
        masks (path): the folder of masks, or of a folder of masks for each class. Default: no masks
        size (int): side of the samples in pixels. Default: 224
        classes (sequence of str): names of the columns, or of labels in the column, in the order of the model's logits;
            other columns are not read. The class ``"not NAME"`` is the absence of the column ``NAME``, and so is the other
            one of two classes if the table has a single column of labels. Default: all columns, in their order, whose cells
            are 1, 0, -1 or empty, and not all empty; of one column, its labels: from 0 to the greatest if they are whole
            numbers, else sorted
        image_column (str): the column that names the image. Default: the first one that has a name
        label_column (str): the column that names the classes of the image; those that are not among ``classes`` are not
            read, with a warning. Default: None, a column for each class
        uncertain (str): what -1 means: ``"undecided"``, the class counts neither for nor against a classifier;
            ``"present"``; or ``"absent"``. CheXpert's authors call these U-Ignore, U-Ones and U-Zeros
            :cite:`irvin2019chexpert`. Default: ``"undecided"``
        allow_outside (bool): whether an image may be named by an absolute path, or one that leads out of ``images`` by
            ``..``. Default: False
        fit (Fit): how images become square. Default: they are resized as a whole
        reading (Reading): how the files are read. Default: as they are

    Raises:
        FileNotFoundError: if a folder or the table is missing, or all images are.
        ValueError: if a column is missing, a cell is no label, an image is named twice, could be either of two files or
            leaves the folder, no image shows a class, or no sample has a mask although ``masks`` is passed. Reading a sample
            raises it for an unreadable image or mask, and for a mask that has another size than its image.

    Example::

        >>> samples = LabelTableSamples("data", "data/CheXpert-v1.0-small/valid.csv", classes=["Edema", "Pneumothorax"])
        >>> samples[0].identifier, samples[0].labels
        ('CheXpert-v1.0-small/valid/patient64543/study1/view1_frontal.jpg/Edema', (0,))
    """

    def __init__(
        self,
        images: str | Path,
        table: str | Path,
        masks: str | Path | None = None,
        size: int = 224,
        classes: Sequence[str] | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        uncertain: Uncertain = "undecided",
        allow_outside: bool = False,
        fit: Fit = Fit(),
        reading: Reading = Reading(),
    ) -> None:
        path, left_out = Path(table), LeftOut(f"table '{shown(table)}'")
        pictures = NamedImages(Path(images), allow_outside)
        names, rows = read_label_table(path, classes, image_column, uncertain, label_column)
        one_class = label_column is not None and all(len(row.labels) <= 1 for row in rows)
        self._rows = found_rows(rows, pictures, left_out)
        others = [image.name for image, row in self._rows if not row.labels]
        _warn_of_others(others, len(rows), path)
        count, pairs = (0, {}) if masks is None else _masks(Path(masks), names, self._rows, Path(images), left_out)
        entries = []
        for image, row in self._rows:
            for label in row.labels:
                paths = pairs.get((image.file, label))
                mask = None if paths is None else MaskFiles(paths, image.file, reading)
                if one_class:
                    entries.append(ImageEntry(image.file, label, image.name, mask))
                    continue
                name = f"{image.name}/{names[label]}"
                entries.append(ImageEntry(image.file, label, name, mask, image.name, row.labels, row.undecided))
        left_out.tell(len(entries))
        for other in others:
            left_out.add(_NONE_SHOWN, other)
        if masks is not None and not any(entry.mask for entry in entries):
            expected = (
                Path(masks) / names[entries[0].target] / f"{without_ending(entries[0].group or entries[0].identifier)}.png"
            )
            raise ValueError(
                f"mask folder '{shown(masks)}' has no mask for any image and class; expected e.g. '{shown(expected)}'"
                f"{unlike(next(iter(left_out.names.get(_UNUSED, ())), None))}."
            )
        found = Found(len(rows), count, left_out.names)
        super().__init__(entries, names, size, fit, reading, found)

    def every_image(self) -> MaskedImages:
        """Return every image of the table once, also those that show none of the classes, to measure a classifier on.

        Returns:
            MaskedImages: samples without masks, whose ``labels`` are all classes that the image shows, perhaps none. Their
            target is the first of them, or -1, unknown; pass them to
            :func:`~captum_softcam.evaluation.class_performance`.
        """
        entries = [
            ImageEntry(
                image.file,
                row.labels[0] if row.labels else UNKNOWN,
                image.name,
                labels=row.labels,
                undecided=row.undecided,
            )
            for image, row in self._rows
        ]
        return MaskedImages(entries, self.classes, self.size, self.fit, self.reading)


def read_label_table(
    path: Path,
    classes: Sequence[str] | None = None,
    image_column: str | None = None,
    uncertain: str = "undecided",
    label_column: str | None = None,
) -> tuple[tuple[str, ...], list[LabelRow]]:
    """Read the names of the classes and the rows of a table; arguments and errors as for :class:`LabelTableSamples`."""
    if uncertain not in _CHOICES:
        raise ValueError(f"uncertain {quoted(uncertain)} is unknown. {closest(uncertain, _CHOICES)}")
    columns, rows = read_table(path)
    if not rows:
        raise ValueError(f"table '{shown(path)}' has no rows; expected one per image below the header.")
    if image_column is None:
        image_column = next(filter(None, columns), "")  # the first one may be the index that pandas writes, without a name
    if label_column is not None:
        return _of_one_column(path, rows, classes, _known(image_column, columns, path), _known(label_column, columns, path))
    others = [name for name in columns if name not in ("", image_column)]
    opposites = _opposites(classes or (), others, rows)
    for name in (image_column, *(classes or ())):
        if name not in opposites:
            _known(name, columns, path)
    names = tuple(classes) if classes is not None else tuple(name for name in others if _holds_labels(name, rows))
    if not names:
        raise ValueError(
            f"table '{shown(path)}' has no column of labels, whose cells are 1, 0, -1 or empty, but {listed(columns, 80)}; "
            "name the column of the classes by label_column (--label-column)."
        )
    return names, _refuse_no_label([_label_row(row, image_column, names, uncertain, opposites) for row in rows], names, path)


def _known(name: str, columns: Sequence[str], path: Path) -> str:
    if name not in columns:
        raise ValueError(f"table '{shown(path)}' has no column {quoted(name)}. {closest(name, columns)}")
    return name


def _refuse_no_label(rows: list[LabelRow], names: Sequence[str], path: Path) -> list[LabelRow]:
    if not any(row.labels for row in rows):
        raise ValueError(f"no image of the table '{shown(path)}' shows one of the classes {listed(map(quoted, names), 80)}.")
    return rows


def _of_one_column(
    path: Path, rows: Sequence[Row], classes: Sequence[str] | None, image_column: str, label_column: str
) -> tuple[tuple[str, ...], list[LabelRow]]:
    """Read the labels of a table that names them in one column, several separated by ``|``."""
    given = class_numbers(classes or ())
    labels = [labels_in(row.cells[label_column], given) for row in rows]
    names = classes_of({each for found in labels for each in found}, path) if classes is None else tuple(classes)
    numbers = class_numbers(names)
    others = sorted({each for found in labels for each in found if each not in numbers})
    if others:
        warnings.warn(
            f"the labels {listed(map(quoted, others))} in the column {quoted(label_column)} of '{shown(path)}' are none of "
            "the classes and are not read.",
            stacklevel=4,
        )
    found = []
    for row, texts in zip(rows, labels, strict=True):
        places = {class_number(text, numbers, row.place) for text in texts if text in numbers}
        found.append(LabelRow(row.place, cell_in(row, image_column), tuple(sorted(places)), ()))
    return names, _refuse_no_label(found, names, path)


def found_rows(rows: Sequence[LabelRow], pictures: NamedImages, left_out: LeftOut) -> list[tuple[NamedImage, LabelRow]]:
    """Look up the pictures of all rows; those that are not there are left out.

    Raises:
        ValueError: if two rows name one picture.
    """
    found: dict[Path, tuple[NamedImage, LabelRow]] = {}
    for row in rows:
        with left_out.faults(MISSING, row.image, FileNotFoundError):
            image = pictures.find(row.image, row.place)
            if image.file in found:
                raise ValueError(
                    f"{row.place} names the image '{named(row.image)}' again, after {found[image.file][1].place}; keep one "
                    "row of it."
                )
            found[image.file] = image, row
    return list(found.values())


def _opposites(classes: Sequence[str], columns: Sequence[str], rows: Sequence[Row]) -> dict[str, str]:
    """Map the classes that are the absence of another one to its column."""
    missing = [name for name in classes if name not in columns]
    found = {
        name: name.removeprefix(_NOT) for name in missing if name.startswith(_NOT) and name.removeprefix(_NOT) in columns
    }
    if len(classes) == 2 and len(missing) == 1 and not found:
        # only with one column of labels, because the other class may be the misspelt name of a second one
        (column,) = set(classes) - set(missing)
        labels = [name for name in columns if all(_value(row, name) is not None for row in rows)]
        return {missing[0]: column} if labels == [column] else {}
    return found


def _value(row: Row, name: str) -> float | None:
    """Return the label in a cell, 0 if it is empty; None if there is none."""
    value = number_in(row, name)
    if isinstance(value, str):
        return _WORDS.get(value.lower())
    value = _ABSENT if value is None else value
    return value if value in (_SHOWN, _ABSENT, _UNCERTAIN) else None


def _holds_labels(name: str, rows: Sequence[Row]) -> bool:
    """Return whether a column holds labels; ValueError if most of its cells do, but not all."""
    filled = [row for row in rows if row.cells[name]]
    others = [row for row in filled if _value(row, name) is None]
    if others and 2 * len(others) < len(filled):  # a slip would remove the class, and shift the numbers of all behind it
        raise ValueError(
            f"{others[0].place} has {quoted(others[0].cells[name])} in the column {quoted(name)}, whose other cells are "
            "labels; correct it, or pass the names of the columns that are classes (--classes)."
        )
    return bool(filled) and not others


def _label_row(row: Row, image_column: str, names: Sequence[str], uncertain: str, opposites: Mapping[str, str]) -> LabelRow:
    columns = [opposites.get(name, name) for name in names]
    values = [_value(row, column) for column in columns]
    if None in values:
        name = columns[values.index(None)]
        raise ValueError(
            f"{row.place} has {quoted(row.cells[name])} in the column {quoted(name)}; expected 1, 0, -1 (uncertain) or "
            "nothing."
        )
    decided = {_UNCERTAIN: {"present": _SHOWN, "absent": _ABSENT}.get(uncertain, _UNCERTAIN)}
    meant = [decided.get(value, value) for value in values if value is not None]
    labels = [k for k, name in enumerate(names) if meant[k] == (_ABSENT if name in opposites else _SHOWN)]
    return LabelRow(
        row.place,
        cell_in(row, image_column),
        tuple(labels),
        tuple(k for k, value in enumerate(meant) if value == _UNCERTAIN),
    )


def _warn_of_others(others: Sequence[str], count: int, path: Path) -> None:
    if others:
        warnings.warn(
            f"{len(others)} of {count} images of the table '{shown(path)}' show none of the classes and make no sample: "
            f"{listed(map(shown, others))}.",
            stacklevel=3,
        )


def _masks(
    root: Path, names: Sequence[str], rows: Sequence[tuple[NamedImage, LabelRow]], images: Path, left_out: LeftOut
) -> tuple[int, dict[tuple[Path, int], tuple[Path, ...]]]:
    """Return the number of mask files, and those of every image and class; others are left out."""
    listing = list_images(root, "mask folder")
    found, unused = {}, set(listing.images)
    for label, own in _by_folder(listing.images, names).items():
        pictures = {image.name: image.file for image, row in rows if label in row.labels}
        for picture, masks in pair_masks(list(pictures), own, images, root).items():
            found[pictures[picture], label] = tuple(root / mask for mask in masks)
            unused -= set(masks)
    # with two classes, even an uncertain one, nobody can tell whose region it is
    decided = {image.name: (image.file, *row.labels) for image, row in rows if len(row.labels) == 1 and not row.undecided}
    alone = {name: (file, label) for name, (file, label) in decided.items() if (file, label) not in found}
    for picture, masks in pair_masks(list(alone), {mask: without_ending(mask) for mask in unused}, images, root).items():
        found[alone[picture]] = tuple(root / mask for mask in masks)
        unused -= set(masks)
    for mask in sorted(unused):
        left_out.add(_UNUSED, mask)
    return len(listing.images), found


def _by_folder(masks: Sequence[str], names: Sequence[str]) -> dict[int, dict[str, str]]:
    """Return the masks in the folder of each class, and what their names are compared with."""
    labels: dict[str, list[int]] = defaultdict(list)
    for label, name in enumerate(names):
        labels[folded(name)].append(label)
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for mask in masks:
        for end in (place for place, sign in enumerate(mask) if sign == "/"):  # the name of a class may have slashes, too
            for label in labels.get(folded(mask[:end]), ()):
                found[label][mask] = without_ending(mask[end + 1 :])
    return found
