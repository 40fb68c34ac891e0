"""Samples from a table of boxes, such as that of RSNA's pneumonia detection challenge."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam._names import listed, named, quoted, shown
from captum_softcam.data._disk.left_out import MISSING, LeftOut
from captum_softcam.data._disk.named_images import NamedImages
from captum_softcam.data._disk.tables import Row, cell_in, classes_of, label_in, number_in, read_table
from captum_softcam.data._pixels.images import Reading
from captum_softcam.data._pixels.regions import Box, box_mask
from captum_softcam.data.inventory import Found
from captum_softcam.data.samples import ImageEntry, MaskedImages, class_number, class_numbers

__all__ = ["BoxTableSamples"]

_EDGE = re.compile(r"(?:[xy][_ ]?)?max|max[_ ]?[xy]|[xy][_ ]?2|right|bottom", re.IGNORECASE)


class BoxTableSamples(MaskedImages):
    """A folder of images with one CSV file of boxes, in the columns of RSNA's pneumonia detection challenge or in others.

    A row is an image, a label, and the left edge, top edge, width and height of a box in pixels from the corner of the
    first one. A row whose four cells are empty, ``nan`` or the like, or all 0, has no box. One sample is one image and one
    label of it; the mask is the union of the boxes in its rows, which contain every pixel that they cover a part of, at
    least one each, and are cut off at the border. Samples without a box have no mask, as healthy patients do.

    Images are named with or without their ending and folder, as the how-to guide "How files are read" says. Those that
    are not there are left out, with a warning. Labels are texts, but ``1.0`` is ``1``.

    If an image has several labels, the table is multi-label: the samples of an image share their ``group``, the name of the
    image, and their ``labels``, all those of its rows. Otherwise, as in RSNA's table, every image has one class.

    Order: the labels alternate, each in the order of the table. Cost: the table and the names in the folder are read at
    construction; an image is read when its sample is used.

    Args:
        images (path): the folder of images.
        table (path): the CSV file, with a header.
        size (int): side of the samples in pixels. Default: 224
        classes (sequence of str): labels in the order of the model's logits. Default: from 0 to the greatest if
            they are whole numbers, else the table's, sorted
        image_column (str): Default: ``"patientId"``
        label_column (str): Default: ``"Target"``
        box_columns (sequence of str): left edge, top edge, width and height. Default: ``("x", "y", "width", "height")``
        allow_outside (bool): whether an image may be named by an absolute path, or one that leads out of ``images`` by
            ``..``. Default: False
        fit (Fit): how images become square. Default: they are resized as a whole
        reading (Reading): how the files are read. Default: as they are

    Raises:
        FileNotFoundError: if the folder or the table is missing, or all images are.
        ValueError: if a column is missing, a row cannot be parsed or has an unknown label, an image could be either of two
            files or leaves the folder, a label of an image has rows with and without a box, the table has no rows, or
            ``box_columns`` are not four or call a width or height like an edge (``x_max``). Without ``classes`` also if the
            labels are numbers and one of them is negative, not a whole number or 100,000 and more. Reading a sample raises
            it for an unreadable image and a box wholly outside.

    Example::

        >>> samples = BoxTableSamples("stage_2_train_images", "stage_2_train_labels.csv")
        >>> samples[0].mask.shape, samples[0].identifier
        (torch.Size([1, 224, 224]), '00436515/1')
    """

    def __init__(
        self,
        images: str | Path,
        table: str | Path,
        size: int = 224,
        classes: Sequence[str] | None = None,
        image_column: str = "patientId",
        label_column: str = "Target",
        box_columns: Sequence[str] = ("x", "y", "width", "height"),
        allow_outside: bool = False,
        fit: Fit = Fit(),
        reading: Reading = Reading(),
    ) -> None:
        if len(box_columns) != 4:
            raise ValueError(f"box_columns are left edge, top edge, width and height; got {len(box_columns)} names.")
        _refuse_edges(box_columns[2:])
        path = Path(table)
        rows = _rows(path, (image_column, label_column, *box_columns))
        given, pictures = class_numbers(classes or ()), NamedImages(Path(images), allow_outside)
        labels = [label_in(cell_in(row, label_column), given) for row in rows]
        classes = classes_of(set(labels), path) if classes is None else tuple(classes)
        numbers = class_numbers(classes)
        left_out = LeftOut(f"table '{shown(path)}'")
        names: dict[Path, str] = {}  # by the file, because a row may name it with its ending and another one without
        groups: dict[tuple[Path, str], list[Row]] = defaultdict(list)
        for row, label in zip(rows, labels, strict=True):
            image = cell_in(row, image_column)
            with left_out.faults(MISSING, image, FileNotFoundError):
                file, name = pictures.find(image, row.place)
                names.setdefault(file, name)
                groups[file, label].append(row)
        left_out.tell(len(groups))
        entries = []
        for (file, label), found in groups.items():
            name, target = names[file], class_number(label, numbers, found[0].place)
            mask = _mask(_boxes(found, box_columns), f"image '{named(name)}' in '{shown(path)}'", file)
            entries.append(ImageEntry(file, target, f"{name}/{label}", mask, group=name))
        counted = Found(len(names) + sum(map(len, left_out.names.values())), left_out=left_out.names)
        super().__init__(_with_labels(entries), classes, size, fit, reading, counted)


def _with_labels(entries: list[ImageEntry]) -> list[ImageEntry]:
    """Give the entries of each file one group and all its labels; none if every file has one label."""
    shows: dict[Path, list[ImageEntry]] = defaultdict(list)
    for entry in entries:
        shows[entry.file].append(entry)
    if len(shows) == len(entries):
        return [replace(entry, group=None) for entry in entries]
    labels = {file: tuple(sorted({entry.target for entry in found})) for file, found in shows.items()}
    return [replace(entry, labels=labels[entry.file]) for entry in entries]


def _rows(path: Path, needed: Sequence[str]) -> list[Row]:
    columns, rows = read_table(path)
    missing = [name for name in needed if name not in columns]
    if missing:
        raise ValueError(
            f"table '{shown(path)}' has no column {listed(map(quoted, missing), 80)} but "
            f"{listed(map(quoted, columns), 80) or 'none'}. "
            "Pass the names in your table as image_column, label_column and box_columns (left edge, top edge, width, "
            "height), at the terminal as --image-column, --label-column and --box-columns."
        )
    if not rows:
        raise ValueError(f"table '{shown(path)}' has no rows; expected one per box below the header.")
    return rows


def _refuse_edges(columns: Sequence[str]) -> None:
    """Refuse columns named like right and lower edges, as in VinBigData; as widths, they would make wrong boxes."""
    for column, side in zip(columns, ("width", "height"), strict=True):
        if _EDGE.fullmatch(column):
            raise ValueError(
                f"box_columns has {quoted(column)} as the {side}, which is named like an edge; subtract the opposite edge "
                "from it first, and pass the column of the difference."
            )


def _boxes(rows: list[Row], columns: Sequence[str]) -> list[Box]:
    """Return the boxes of one image and label; none if its rows have none."""
    boxes = [_box(row, columns) for row in rows]
    for row, box in zip(rows, boxes, strict=True):
        if (box is None) != (boxes[0] is None):  # with and without a finding
            raise ValueError(
                f"{row.place} has {'no' if box is None else 'a'} box and {rows[0].place} {'none' if box else 'has one'}, "
                "for the same image and label; leave one out."
            )
    return [box for box in boxes if box is not None]


def _box(row: Row, columns: Sequence[str]) -> Box | None:
    values = [number_in(row, column) for column in columns]
    # where a table was joined with that of the healthy, pandas' fillna(0) leaves four zeros
    if all(value is None for value in values) or all(value == 0 for value in values):
        return None
    for value, column in zip(values, columns, strict=True):
        if not isinstance(value, float):
            raise ValueError(
                f"{row.place} has {quoted(row.cells[column])} in the column {quoted(column)}; expected a number, or four "
                "empty cells."
            )
    x, y, width, height = (value for value in values if isinstance(value, float))
    if min(width, height) < 0:
        raise ValueError(f"{row.place} has a box of {width:g} x {height:g} pixels; expected none below 0.")
    return Box(x, y, x + width, y + height)


def _mask(boxes: list[Box], source: str, file: Path) -> Callable[[Tensor], Tensor] | None:
    return partial(box_mask, boxes, source, None, file) if boxes else None
