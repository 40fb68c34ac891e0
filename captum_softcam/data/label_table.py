"""Samples from a table with a column for each class, such as those of CheXpert, MIMIC-CXR and ISIC."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam._names import closest, listed, named, quoted, shown
from captum_softcam.data.files import ENDINGS, existing_folder, image_files, named_image, refuse_outside
from captum_softcam.data.images import Reading
from captum_softcam.data.masks import MaskFiles
from captum_softcam.data.samples import UNKNOWN, ImageEntry, MaskedImages
from captum_softcam.data.tables import Row, read_table

__all__ = ["LabelRow", "LabelTableSamples", "read_label_table"]

_SHOWN, _ABSENT, _UNCERTAIN = 1.0, 0.0, -1.0
_CHOICES = ("undecided", "present", "absent")
Uncertain = Literal["undecided", "present", "absent"]


class LabelRow(NamedTuple):
    """A row: its place, for error messages, the name of its image, and the numbers of classes shown and undecided."""

    place: str
    image: str
    labels: tuple[int, ...]
    undecided: tuple[int, ...]


class LabelTableSamples(MaskedImages):
    """A folder of images with one CSV file that has a row for each image and a column for each class, as CheXpert's.

    A cell is 1 where the image shows the class, 0 or empty where it does not, and -1 where that is uncertain; 1.0 is 1.
    One sample is one image and one class that it shows. The samples of an image share their ``group``, its name in the
    table, and their ``labels``. An image that shows none of the classes makes no sample; a warning says how many do not, and
    :meth:`every_image` returns them, too.

    ``masks/CLASS/NAME.*`` is the mask of the class in the image ``NAME``, true wherever a pixel of it is not zero; a sample
    without a mask has nothing to localise. Names of images are relative to ``images``, with or without their ending.

    Order: the classes alternate, each in the order of the table. Cost: the table and the names of the masks are read at
    construction, and every image is looked up; an image is read when its sample is used.

    Args:
        images (path): the folder that the names in the table are relative to; for CheXpert, the one that contains
            ``CheXpert-v1.0-small``.
        table (path): the CSV file, with a header.
        masks (path): the folder of a folder of masks for each class. Default: no masks
        size (int): side of the samples in pixels. Default: 224
        classes (sequence of str): names of the columns in the order of the model's logits; other columns are not read.
            Default: all columns, in their order, whose cells are 1, 0, -1 or empty, and not all empty
        image_column (str): the column that names the image. Default: the first one
        uncertain (str): what -1 means: ``"undecided"``, the class counts neither for nor against a classifier;
            ``"present"``; or ``"absent"``. CheXpert's authors call these U-Ignore, U-Ones and U-Zeros
            :cite:`irvin2019chexpert`. Default: ``"undecided"``
        allow_outside (bool): whether an image may be named by an absolute path, or one that leads out of ``images`` by
            ``..``. Default: False
        fit (Fit): how images become square. Default: they are resized as a whole
        reading (Reading): how the files are read. Default: as they are

    Raises:
        FileNotFoundError: if a folder, the table or an image is missing.
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
        uncertain: Uncertain = "undecided",
        allow_outside: bool = False,
        fit: Fit = Fit(),
        reading: Reading = Reading(),
    ) -> None:
        folder, path = existing_folder(Path(images), "image folder"), Path(table)
        names, rows = read_label_table(path, classes, image_column, uncertain)
        self._rows, self._find = rows, partial(_find, folder, allow_outside=allow_outside)
        _warn_of_others(rows, path)
        files = {} if masks is None else _masks(Path(masks))
        entries = []
        for row in rows:
            file = self._find(row.image, row.place) if row.labels else folder
            for label in row.labels:
                mask = _mask(files, names[label], row.image, file, reading)
                name = f"{row.image}/{names[label]}"
                entries.append(ImageEntry(file, label, name, mask, row.image, row.labels, row.undecided))
        if masks is not None and not any(entry.mask for entry in entries):
            expected = Path(masks) / names[entries[0].target] / Path(rows[0].image).with_suffix(".png")
            raise ValueError(
                f"mask folder '{shown(masks)}' has no mask for any image and class; expected e.g. '{shown(expected)}'."
            )
        super().__init__(entries, names, size, fit, reading)

    def every_image(self) -> MaskedImages:
        """Return every image of the table once, also those that show none of the classes, to measure a classifier on.

        Returns:
            MaskedImages: samples without masks, whose ``labels`` are all classes that the image shows, perhaps none. Their
            target is the first of them, or -1, unknown; pass them to
            :func:`~captum_softcam.evaluation.class_performance`.

        Raises:
            FileNotFoundError: if an image is missing.
        """
        entries = [
            ImageEntry(
                self._find(row.image, row.place),
                row.labels[0] if row.labels else UNKNOWN,
                row.image,
                labels=row.labels,
                undecided=row.undecided,
            )
            for row in self._rows
        ]
        return MaskedImages(entries, self.classes, self.size, self.fit, self.reading)


def read_label_table(
    path: Path, classes: Sequence[str] | None = None, image_column: str | None = None, uncertain: str = "undecided"
) -> tuple[tuple[str, ...], list[LabelRow]]:
    """Read the names of the classes and the rows of a table; arguments and errors as for :class:`LabelTableSamples`."""
    if uncertain not in _CHOICES:
        raise ValueError(f"uncertain {quoted(uncertain)} is unknown. {closest(uncertain, _CHOICES)}")
    columns, rows = read_table(path)
    if not rows:
        raise ValueError(f"table '{shown(path)}' has no rows; expected one per image below the header.")
    image_column = columns[0] if image_column is None else image_column
    for name in (image_column, *(classes or ())):
        if name not in columns:
            raise ValueError(f"table '{shown(path)}' has no column {quoted(name)}. {closest(name, columns)}")
    others = [name for name in columns if name != image_column]
    names = tuple(classes) if classes is not None else tuple(name for name in others if _holds_labels(name, rows))
    if not names:
        raise ValueError(
            f"table '{shown(path)}' has no column of labels, whose cells are 1, 0, -1 or empty, but {listed(columns, 80)}."
        )
    found = [_label_row(row, image_column, names, uncertain) for row in rows]
    first: dict[str, str] = {}
    for each in found:
        if first.setdefault(each.image, each.place) != each.place:
            raise ValueError(
                f"{each.place} names the image '{named(each.image)}' again, after {first[each.image]}; keep one row of it."
            )
    if not any(row.labels for row in found):
        raise ValueError(f"no image of the table '{shown(path)}' shows one of the classes {listed(map(quoted, names), 80)}.")
    return names, found


def _value(cell: str) -> float | None:
    """Return the label in a cell, 0 if it is empty; None if there is none."""
    text = cell.strip()
    if not text:
        return _ABSENT
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value in (_SHOWN, _ABSENT, _UNCERTAIN) and "_" not in text else None


def _holds_labels(name: str, rows: Sequence[Row]) -> bool:
    """Return whether a column holds labels; ValueError if most of its cells do, but not all."""
    filled = [row for row in rows if row.cells[name].strip()]
    others = [row for row in filled if _value(row.cells[name]) is None]
    if others and 2 * len(others) < len(filled):  # a slip would remove the class, and shift the numbers of all behind it
        raise ValueError(
            f"{others[0].place} has {quoted(others[0].cells[name])} in the column {quoted(name)}, whose other cells are "
            "labels; correct it, or pass the names of the columns that are classes."
        )
    return bool(filled) and not others


def _label_row(row: Row, image_column: str, names: Sequence[str], uncertain: str) -> LabelRow:
    image = row.cells[image_column].strip()
    if not image:
        raise ValueError(f"{row.place} has nothing in the column {quoted(image_column)}.")
    values = [_value(row.cells[name]) for name in names]
    if None in values:
        name = names[values.index(None)]
        raise ValueError(
            f"{row.place} has {quoted(row.cells[name])} in the column {quoted(name)}; expected 1, 0, -1 (uncertain) or "
            "nothing."
        )
    present = (_SHOWN, _UNCERTAIN) if uncertain == "present" else (_SHOWN,)
    labels = tuple(number for number, value in enumerate(values) if value in present)
    unsure = [number for number, value in enumerate(values) if value == _UNCERTAIN]
    return LabelRow(row.place, image, labels, tuple(unsure) if uncertain == "undecided" else ())


def _warn_of_others(rows: Sequence[LabelRow], path: Path) -> None:
    others = [row.image for row in rows if not row.labels]
    if others:
        warnings.warn(
            f"{len(others)} of {len(rows)} images of the table '{shown(path)}' show none of the classes and make no sample: "
            f"{listed(map(shown, others))}.",
            stacklevel=3,
        )


def _find(folder: Path, name: str, place: str, *, allow_outside: bool) -> Path:
    """Return the file that a row names, with or without its ending."""
    refuse_outside(name, place, allow_outside=allow_outside)
    if os.path.isfile(folder / name):
        return folder / name
    found = [folder / (name + ending) for ending in ENDINGS if os.path.isfile(folder / (name + ending))]
    if len(found) > 1:
        raise ValueError(
            f"{place} names the image '{named(name)}', which could be {listed(file.name for file in found)}; "
            "keep one of them."
        )
    if not found and os.path.isfile(folder.parent / name):
        raise FileNotFoundError(
            f"{place} names the image '{named(name)}', which lies below '{shown(folder.parent)}', not below "
            f"'{shown(folder)}'; pass that folder as images (--images)."
        )
    return found[0] if found else named_image(folder, name, place, allow_outside=allow_outside)


def _masks(root: Path) -> dict[str, Path]:
    """Return the masks by their names below the folder, without the ending."""
    existing_folder(root, "mask folder")
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in image_files(root)}


def _mask(masks: dict[str, Path], name: str, image: str, file: Path, reading: Reading) -> Callable[[Tensor], Tensor] | None:
    """Return the mask of a class in an image; the ending of neither matters."""
    path = Path(image)
    stem = path.with_suffix("") if path.suffix.lower() in ENDINGS else path  # other dots are part of the name
    mask = masks.get(f"{name}/{stem.as_posix()}")
    return None if mask is None else MaskFiles((mask,), file, reading)
