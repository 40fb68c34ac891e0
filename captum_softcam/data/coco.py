"""Samples from the detection annotations of COCO: one for every category in an image."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from captum_softcam._fit import Fit
from captum_softcam._names import closest, quoted, reason, shown
from captum_softcam.data.files import existing_file, existing_folder, named_image
from captum_softcam.data.images import Reading
from captum_softcam.data.regions import Box, box_mask, polygon_mask
from captum_softcam.data.samples import ImageEntry, MaskedImages, class_number, class_numbers

__all__ = ["CocoSamples"]

_REGIONS = ("boxes", "polygons")
_FARTHEST = 1e9  # pixels from the first one; beyond, differences of corners lose their digits

Record = dict[str, Any]
Key = int | str  # COCO has numbers; some tools write texts


class CocoSamples(MaskedImages):
    """A folder of images with one JSON file in the format of COCO's object detection.

    One sample is one image and one category in it; the mask is the union of that category's boxes or polygons. Coordinates
    start at the corner of the first pixel: a box ``[x, y, width, height]`` contains every pixel that it covers a part of,
    a polygon every pixel whose centre lies inside, and at least those of its corners. Parts beyond the border are cut off.

    Crowds (``iscrowd`` 1, run-length encoded) are left out: they are not targets, and a category whose objects in an image
    are all crowds makes no sample. An image without annotations has no class, hence no sample.

    The samples of an image share their ``group``, its ``file_name``, and their ``labels``, the categories that make samples.
    A category whose objects in the image are all crowds is ``undecided``.

    Order: the categories alternate, each in the order of the file's images. Cost: the whole file is read at construction;
    37,000 annotations, as many as in COCO's val2017, take about 2 s.

    Args:
        images (path): the folder of images, such as ``"val2017"``.
        annotations (path): the JSON file, such as ``"annotations/instances_val2017.json"``.
        size (int): side of the samples in pixels. Default: 224
        classes (sequence of str): category names in the order of the model's logits. Default: the file's, sorted by id
        regions (str): ``"boxes"`` or ``"polygons"``. Default: ``"boxes"``
        allow_outside (bool): whether a ``file_name`` may be absolute or lead out of ``images`` by ``..``; links in the
            folder are followed in any case. Default: False
        fit (Fit): how images become square. Default: they are resized as a whole
        reading (Reading): how the files are read. Default: as they are

    Raises:
        FileNotFoundError: if the folder, the file or an image is missing.
        ValueError: if the file is not JSON, a part of it is missing or wrong, a ``file_name`` leaves the folder, or there is
            no object but crowds. Reading a sample raises it for an unreadable image, one of another size than the file
            states, and a region wholly outside.

    Example::

        >>> samples = CocoSamples("val2017", "annotations/instances_val2017.json")
        >>> samples[0].image.shape, samples[0].identifier
        (torch.Size([3, 224, 224]), '000000000139.jpg/dog')
    """

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path,
        size: int = 224,
        classes: Sequence[str] | None = None,
        regions: Literal["boxes", "polygons"] = "boxes",
        allow_outside: bool = False,
        fit: Fit = Fit(),
        reading: Reading = Reading(),
    ) -> None:
        if regions not in _REGIONS:
            raise ValueError(f"regions {quoted(regions)} is unknown. {closest(regions, _REGIONS)}")
        folder, path = existing_folder(Path(images), "image folder"), Path(annotations)
        document = _read(path)
        pictures, categories = _by_id(document, "images", path), _by_id(document, "categories", path)
        names = {key: _text(categories[key], "name", _place("category", key, path)) for key in _sorted(categories)}
        found, crowds = _regions(document["annotations"], path, (pictures, names), regions)
        classes = tuple(names.values()) if classes is None else tuple(classes)
        used = {key for _, key in found}
        numbers = class_numbers(classes)
        targets = {key: class_number(names[key], numbers, _place("category", key, path)) for key in _sorted(used)}
        number = {key: i for i, key in enumerate(pictures)}
        make = box_mask if regions == "boxes" else polygon_mask
        shows: dict[Key, set[int]] = defaultdict(set)
        for image, key in found:
            shows[image].add(targets[key])
        unsure: dict[Key, set[int]] = defaultdict(set)
        for image, key in crowds:
            unsure[image] |= {numbers[names[key]]} if names[key] in numbers else set()
        entries = []
        for image, key in sorted(found, key=lambda pair: number[pair[0]]):  # not in the order of the annotations
            where, name, sides = _image(pictures[image], path)
            file = named_image(folder, name, where, allow_outside=allow_outside)
            mask = partial(make, found[image, key], where, sides, file)
            labels, undecided = tuple(sorted(shows[image])), tuple(sorted(unsure[image] - shows[image]))
            entries.append(ImageEntry(file, targets[key], f"{name}/{names[key]}", mask, name, labels, undecided))
        super().__init__(entries, classes, size, fit, reading)


def _read(path: Path) -> Record:
    """Read the three lists of a file, each a list of objects."""
    existing_file(path, "annotation file")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # RecursionError: brackets within brackets, thousands of them
        raise ValueError(f"annotations '{shown(path)}' cannot be read as JSON ({reason(error)}).") from error
    for name in ("images", "annotations", "categories"):
        records = document.get(name) if isinstance(document, dict) else None
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise ValueError(
                f"annotations '{shown(path)}' have no list '{name}'; expected COCO's format for object detection."
            )
    return dict(document)


def _place(kind: str, key: object, path: Path) -> str:
    """Name a record of the file, for error messages."""
    return f"{kind} {quoted(key, 40)} of '{shown(path)}'"


def _by_id(document: Record, kind: str, path: Path) -> dict[Key, Record]:
    found: dict[Key, Record] = {}
    for i, record in enumerate(document[kind]):
        key = _key(record, "id", f"entry {i} of the {kind} in '{shown(path)}'")
        if key in found:  # the second one would replace the first without a word
            raise ValueError(f"'{shown(path)}' has two {kind} with the id {quoted(key)}.")
        found[key] = record
    return found


def _sorted(keys: Iterable[Key]) -> list[Key]:
    return sorted(keys, key=lambda key: (isinstance(key, str), key))


def _regions(
    annotations: list[Record], path: Path, known: tuple[Mapping[Key, object], Mapping[Key, object]], regions: str
) -> tuple[dict[tuple[Key, Key], list[Any]], set[tuple[Key, Key]]]:
    """Collect the boxes or polygons of every pair of image and category with an object, and the pairs with a crowd."""
    read = _box if regions == "boxes" else _polygons
    found: dict[tuple[Key, Key], list[Any]] = defaultdict(list)
    crowds = set()
    for i, record in enumerate(annotations):
        where = _place("annotation", record["id"], path) if "id" in record else f"annotation number {i} of '{shown(path)}'"
        image, category = _key(record, "image_id", where), _key(record, "category_id", where)
        for key, keys, kind in ((image, known[0], "image"), (category, known[1], "category")):
            if key not in keys:
                raise ValueError(f"{where} belongs to the {kind} {quoted(key)}, which the file does not list.")
        if _is_crowd(record, where):
            crowds.add((image, category))
        else:
            found[image, category] += read(record, where)
    if not found:
        raise ValueError(f"annotations '{shown(path)}' have no object that is not a crowd.")
    return found, crowds


def _is_crowd(record: Record, where: str) -> bool:
    value = record.get("iscrowd")  # checked, because bool("0") would make every object a crowd
    if value not in (None, 0, 1):
        raise ValueError(f"{where} has the iscrowd {quoted(value)}; expected 0 or 1.")
    return bool(value)


def _box(record: Record, where: str) -> list[Box]:
    values = _field(record, "bbox", where)
    if not _numbers(values) or len(values) != 4 or min(values[2:]) < 0:
        raise ValueError(f"{where} has the bbox {quoted(values)}; expected [x, y, width, height].")
    x, y, width, height = map(float, values)
    return [Box(x, y, x + width, y + height)]


def _polygons(record: Record, where: str) -> list[list[float]]:
    polygons = _field(record, "segmentation", where)
    if not isinstance(polygons, list) or not polygons:
        what = "run-length encoded" if isinstance(polygons, dict) else "empty"
        raise ValueError(f"{where} has no polygons, because its segmentation is {what}; use regions='boxes'.")
    for polygon in polygons:
        if not _numbers(polygon) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"{where} has the polygon {quoted(polygon)}; expected [x1, y1, x2, y2, x3, y3, …].")
        if max(map(abs, polygon)) > _FARTHEST:
            raise ValueError(f"{where} has the polygon {quoted(polygon)}, which reaches too far for any image.")
    return polygons


def _image(picture: Record, path: Path) -> tuple[str, str, tuple[int, int] | None]:
    """Return the place of an image in the document, its file, and its width and height if they are stated."""
    where = _place("image", picture["id"], path)
    width, height = picture.get("width"), picture.get("height")
    if not width or not height:  # optional in files that other tools write
        return where, _text(picture, "file_name", where), None
    if not all(isinstance(side, int) and side > 0 for side in (width, height)):
        raise ValueError(f"{where} is {quoted(width, 40)} x {quoted(height, 40)} pixels; expected two whole numbers.")
    return where, _text(picture, "file_name", where), (width, height)


def _field(record: Record, name: str, where: str) -> Any:
    if name not in record:
        raise ValueError(f"{where} has no '{name}'.")
    return record[name]


def _text(record: Record, name: str, where: str) -> str:
    value = _field(record, name, where)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} has the {name} {quoted(value)}; expected a text.")
    return value


def _key(record: Record, name: str, where: str) -> Key:
    value = _field(record, name, where)
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise ValueError(f"{where} has the {name} {quoted(value)}; expected a number.")
    return value


def _numbers(values: object) -> bool:
    return isinstance(values, list) and all(map(_is_finite, values))


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
