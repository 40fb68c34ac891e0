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
from captum_softcam._names import closest, listed, named, quoted, reason, shown
from captum_softcam.data._disk.files import existing_file
from captum_softcam.data._disk.left_out import MISSING, LeftOut
from captum_softcam.data._disk.named_images import NamedImages
from captum_softcam.data._disk.tables import finite_number, label_in
from captum_softcam.data._pixels.images import Reading
from captum_softcam.data._pixels.regions import Box, box_mask, polygon_mask
from captum_softcam.data.inventory import Found
from captum_softcam.data.samples import ImageEntry, MaskedImages, class_number, class_numbers

__all__ = ["CocoSamples"]

_REGIONS = ("boxes", "polygons")
_FARTHEST = 1e9  # pixels from the first one; beyond, differences of corners lose their digits

_BOXES = "use regions='boxes' (--regions boxes)"
_DAMAGED = "unreadable region"
_WORDS = {"0": False, "1": True, "false": False, "true": True, "none": False}

Record = dict[str, Any]
Pair = tuple[str, str]
"""Id of an image and name of a category."""


class CocoSamples(MaskedImages):
    """A folder of images with one JSON file in the format of COCO's object detection.

    One sample is one image and one category in it; the mask is the union of that category's boxes or polygons. Coordinates
    start at the corner of the first pixel: a box ``[x, y, width, height]`` contains every pixel that it covers a part of,
    a polygon every pixel whose centre lies inside, and at least those of its corners. Parts beyond the border are cut off.

    Crowds (``iscrowd`` 1, run-length encoded) are left out: they are not targets, and a category whose objects in an image
    are all crowds makes no sample. An image without annotations has no class, hence no sample. The box ``[0, 0, 0, 0]`` is
    none: where a category has no other, there is nothing to localise. Without ``bbox``, the box is that of the polygons.

    Files of other tools are read as they are: ids are compared as texts (``1``, ``1.0`` and ``"1"`` are one), and a width or
    height below 1 is none. With ``classes``, categories of one name are one class. Images that are not there, annotations of
    images that the file does not list, and samples with a region that cannot be read are left out with a warning.

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
        FileNotFoundError: if the folder or the file is missing, or all images are.
        ValueError: if the file is not JSON, a part of it is missing or wrong, a ``file_name`` leaves the folder, two
            categories have one name and ``classes`` is not passed, no region can be read, or there is no object but crowds.
            Reading a sample raises it for an unreadable image, one of another size than the file states, and a region wholly
            outside.

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
        path, left_out = Path(annotations), LeftOut(f"annotations '{shown(annotations)}'")
        pictures, document = NamedImages(Path(images), allow_outside), _read(path)
        records, categories = _by_id(document, "images", path), _by_id(document, "categories", path)
        names = {key: _text(categories[key], "name", _place("category", key, path)) for key in _sorted(categories)}
        classes = _classes(names, path) if classes is None else tuple(classes)
        found, crowds = _objects(document["annotations"], path, (records, names), regions, left_out)
        numbers, used = class_numbers(classes), {name for _, name in found}
        targets = {
            name: class_number(name, numbers, _place("category", key, path)) for key, name in names.items() if name in used
        }
        shows, unsure = _by_image(found, numbers), _by_image(crowds, numbers)
        make = box_mask if regions == "boxes" else polygon_mask
        order = {key: i for i, key in enumerate(records)}  # of the images, not of the annotations
        entries = []
        for (key, name), parts in sorted(found.items(), key=lambda each: order[each[0][0]]):
            where, file_name, sides = _image(records[key], path)
            if parts is None:
                continue
            with left_out.faults(MISSING, file_name, FileNotFoundError):
                file, label = pictures.find(file_name, where)
                mask = partial(make, parts, where, sides, file) if parts else None
                labels, undecided = tuple(sorted(shows[key])), tuple(sorted(unsure[key] - shows[key]))
                entries.append(ImageEntry(file, targets[name], f"{label}/{name}", mask, label, labels, undecided))
        left_out.tell(len(entries))
        if not entries:
            raise ValueError(f"annotations '{shown(path)}' have no object that is not a crowd.")
        for key in records:
            if not shows[key]:
                why = "only crowds" if unsure[key] else "no annotation"
                left_out.add(why, str(records[key].get("file_name", key)))
        super().__init__(entries, classes, size, fit, reading, Found(len(records), left_out=left_out.names))


def _classes(names: Mapping[str, str], path: Path) -> tuple[str, ...]:
    """Return the names of the categories, each of which has to be the only one of its name."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for key, name in names.items():
        by_name[name].append(key)
    for name, keys in by_name.items():
        if len(keys) > 1:  # one class or several: the model's logits decide, and a guess would shift those behind
            raise ValueError(
                f"'{shown(path)}' has {len(keys)} categories called {quoted(name)}, with the ids {listed(keys, 40)}; pass "
                "classes, in the order of the model's logits (--classes), to take them as one."
            )
    return tuple(by_name)


def _by_image(pairs: Iterable[Pair], numbers: Mapping[str, int]) -> dict[str, set[int]]:
    """Return the numbers of the classes of every image."""
    found: dict[str, set[int]] = defaultdict(set)
    for image, name in pairs:
        found[image] |= {numbers[name]} if name in numbers else set()
    return found


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
    return f"{kind} {shown(key, 40)} of '{shown(path)}'"


def _by_id(document: Record, kind: str, path: Path) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for i, record in enumerate(document[kind]):
        key = _key(record, "id", f"entry {i} of the {kind} in '{shown(path)}'")
        if key in found:  # the second one would replace the first without a word
            raise ValueError(f"'{shown(path)}' has two {kind} with the id {named(key)}.")
        found[key] = record
    return found


def _sorted(keys: Iterable[str]) -> list[str]:
    """Sort ids: numbers by their value, and behind them texts."""
    return sorted(keys, key=lambda key: (not key.isdecimal(), len(key.lstrip("0")) if key.isdecimal() else 0, key))


def _objects(
    annotations: list[Record],
    path: Path,
    known: tuple[Mapping[str, object], Mapping[str, str]],
    regions: str,
    left_out: LeftOut,
) -> tuple[dict[Pair, list[Any] | None], set[Pair]]:
    """Collect the regions of every pair with an object, None if one of them is unreadable, and the pairs with a crowd."""
    read, (images, names) = _box if regions == "boxes" else _polygons, known
    found: dict[Pair, list[Any]] = defaultdict(list)
    crowds: set[Pair] = set()
    damaged: set[Pair] = set()
    for i, record in enumerate(annotations):
        number = record.get("id", f"number {i}")
        where = _place("annotation", number, path)
        image, category = _key(record, "image_id", where), _key(record, "category_id", where)
        if category not in names:
            raise ValueError(f"{where} belongs to the category {named(category)}, which the file does not list.")
        pair, name = (image, names[category]), f"annotation {shown(number, 40)}"
        with left_out.faults("of an image that is not listed", name, ValueError):
            _check_listed(image, images, where)
            with left_out.faults(_DAMAGED, name, ValueError):
                if _is_crowd(record, where):
                    crowds.add(pair)
                else:
                    found[pair] += read(record, where)
                continue
            damaged.add(pair)  # the region without this part would be a wrong one
    return {pair: None if pair in damaged else found[pair] for pair in [*found, *damaged]}, crowds


def _check_listed(image: str, images: Mapping[str, object], where: str) -> None:
    if image not in images:
        raise ValueError(f"{where} belongs to the image {named(image)}, which the file does not list.")


def _is_crowd(record: Record, where: str) -> bool:
    value = record.get("iscrowd")  # looked up, because bool("0") would make every object a crowd
    text = label_in(str(value).strip().lower()) if isinstance(value, str | int | float | None) else ""
    if text not in _WORDS:
        raise ValueError(f"{where} has the iscrowd {quoted(value)}; expected 0 or 1.")
    return _WORDS[text]


def _box(record: Record, where: str) -> list[Box]:
    if record.get("bbox") is None and isinstance(record.get("segmentation"), list):
        corners = [value for polygon in _polygons(record, where) for value in polygon]
        return [Box(min(corners[::2]), min(corners[1::2]), max(corners[::2]), max(corners[1::2]))]
    values = _field(record, "bbox", where)
    if not _numbers(values) or len(values) != 4 or min(values[2:]) < 0:
        raise ValueError(f"{where} has the bbox {quoted(values)}; expected [x, y, width, height].")
    x, y, width, height = map(float, values)
    return [Box(x, y, x + width, y + height)] if any(values) else []


def _polygons(record: Record, where: str) -> list[list[float]]:
    polygons = _field(record, "segmentation", where)
    if not isinstance(polygons, list) or not polygons:
        what = "run-length encoded" if isinstance(polygons, dict) else "empty"
        raise ValueError(f"{where} has no polygons, because its segmentation is {what}; {_BOXES}.")
    for polygon in polygons:
        if not _numbers(polygon) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(
                f"{where} has the polygon {quoted(polygon)}; expected [x1, y1, x2, y2, x3, y3, …], or {_BOXES}."
            )
        if max(map(abs, polygon)) > _FARTHEST:
            raise ValueError(f"{where} has the polygon {quoted(polygon)}, which reaches too far for any image; {_BOXES}.")
    return polygons


def _image(picture: Record, path: Path) -> tuple[str, str, tuple[int, int] | None]:
    """Return the place of an image in the document, its file, and its width and height if they are stated."""
    where = _place("image", picture["id"], path)
    width, height = (_side(picture.get(name), f"{where} has the {name}") for name in ("width", "height"))
    sides = (width, height) if width > 0 and height > 0 else None  # optional in files of other tools: VIA writes -1
    return where, _text(picture, "file_name", where), sides


def _side(value: Any, what: str) -> int:
    """Return a number of pixels, 0 if there is none."""
    number: Any = finite_number(value) if isinstance(value, str) else value
    if value in (None, ""):
        return 0
    if not _is_finite(number) or number != int(number):
        raise ValueError(f"{what} {quoted(value)}; expected a whole number of pixels.")
    return int(number)


def _field(record: Record, name: str, where: str) -> Any:
    if name not in record:
        raise ValueError(f"{where} has no '{name}'.")
    return record[name]


def _text(record: Record, name: str, where: str) -> str:
    value = _field(record, name, where)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} has the {name} {quoted(value)}; expected a text.")
    return value


def _key(record: Record, name: str, where: str) -> str:
    """Return an id as text, because some tools write "1" or 1.0 where others refer to 1."""
    value = _field(record, name, where)
    text = "" if isinstance(value, bool) or not isinstance(value, str | int | float) else label_in(str(value).strip())
    if not text or text in ("nan", "inf", "-inf"):
        raise ValueError(f"{where} has the {name} {quoted(value)}; expected a number.")
    return text


def _numbers(values: object) -> bool:
    return isinstance(values, list) and all(map(_is_finite, values))


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
