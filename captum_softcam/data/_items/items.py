"""Find image, class and mask in the items of any data set, and columns that need no image to be read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from captum_softcam._names import listed, quoted
from captum_softcam.data._items.arrays import described, is_coloured, is_file, is_picture
from captum_softcam.data.samples import of_parts

__all__ = [
    "NAMES",
    "Fields",
    "Key",
    "column",
    "field",
    "find_fields",
    "lists_classes",
    "names_of",
    "names_of_classes",
    "place_of",
    "read_item",
]

Key = str | int | tuple[str | int, ...]
Path = tuple[str | int, ...]

NAMES = {
    "image": ("image", "img", "pixel_values", "picture", "photo", "scan", "volume", "signal"),
    "mask": ("mask", "masks", "seg", "segmentation", "segmentation_mask"),
    "label": ("label", "labels", "target", "targets", "class", "category", "cls"),
}
_FEATURES = {"image": "Image", "label": "ClassLabel"}  # types of columns of Hugging Face's data sets
_IDENTIFIERS = ("image_id", "id", "file_name", "filename", "image_file_path")


@dataclass(frozen=True)
class Fields:
    """The keys and positions that lead to image, class and mask in an item; none where the item itself is the image."""

    image: Path
    label: Path | None
    mask: Path | None
    identifier: Path | None = None


def place_of(index: int) -> str:
    """Return what error messages call an item."""
    return f"sample {index} of the data set"


def read_item(dataset: Any, index: int) -> Any:
    """Return an item of a data set; ValueError with its index and the reason if the data set raises an error."""
    try:
        return dataset[index]
    except Exception as error:  # the user's code may raise anything
        why = quoted(error, 200)
        raise ValueError(f"{place_of(index)} cannot be read: {why}.") from error


def field(item: Any, path: Path | None, index: int) -> Any:
    """Return a part of an item, None for no path; ValueError if the item is not built as the first one."""
    value = item
    for key in path or ():
        try:
            value = value[key]
        except Exception as error:
            raise ValueError(
                f"{place_of(index)} is {described(item)}; expected {quoted(key)} in it, as in the first one: return the "
                "same from every index, with None for what is not known."
            ) from error
    return None if path is None else value


def find_fields(item: Any, named: Mapping[str, Key | None], dataset: Any) -> Fields:
    """Find image, class and mask in the first item of a data set.

    Args:
        item (object): the first item.
        named (mapping): the key or position that the user names for each of the fields, or None.
        dataset (object): it may know the types of its columns.

    Raises:
        ValueError: if there is no image, or two parts of the item could be the same.
    """
    free = dict(_leaves(item))
    found: dict[str, Path | None] = {}
    for role, key in named.items():
        if key is not None:
            found[role] = _named(item, free, role, key)
    for role in ("image", "mask", "label"):
        free = {path: value for path, value in free.items() if path not in found.values()}
        if role not in found:
            paths = (
                _by_name(free, role)
                or _by_feature(free, role, features_of(dataset))
                or _by_place(free, role, field(item, found.get("image"), 0))
            )
            found[role] = _only(paths, role, item) if role == "image" or found["image"] is not None else None
    image, label = found["image"], found["label"]
    if image is None:
        raise ValueError(f"{place_of(0)} is {described(item)}; expected an image, or its key or position as image=.")
    free = {path: value for path, value in free.items() if path not in found.values()}
    if found["mask"] is None:  # at a position whose first value is None
        found["mask"] = next((path for path, value in free.items() if value is None and not _key(path)), None)
    _warn_of_unused(free, label, found["mask"])
    return Fields(image, label, found["mask"], found.get("identifier"))


def _warn_of_unused(free: Mapping[Path, Any], label: Path | None, mask: Path | None) -> None:
    """Warn of parts of an item that may be its class or its regions, and are not used."""
    keys = [key for key in map(_key, free) if key is not None]
    if label is None and keys:
        warnings.warn(
            f"no class is known, because none of the keys {listed(keys)} has its name; pass one of them as label=.",
            stacklevel=4,
        )
    unused = [path for path, value in free.items() if path != mask and not _key(path) and _has_values(value)]
    if unused:
        warnings.warn(
            f"part {_as_key(unused[0])} of the items is not used, {described(free[unused[0]])}; pass "
            f"mask={_as_key(unused[0])} if it is the mask.",
            stacklevel=4,
        )
    if mask is None and "boxes" in keys:
        warnings.warn(
            "the boxes of the data set are not used as regions; draw them as masks, or use a reader such as CocoSamples.",
            stacklevel=4,
        )


def _leaves(item: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the parts of an item: the values of a dict, and those of a tuple with the parts that lie in them."""
    if isinstance(item, Mapping):
        yield from (((*path, key), value) for key, value in item.items())
    elif isinstance(item, (tuple, list)) and (not path or any(map(_is_region, item))):  # else the classes of an image
        for position, part in enumerate(item):
            yield from _leaves(part, (*path, position))
    else:
        yield path, item


def _has_values(value: object) -> bool:
    return isinstance(value, (np.ndarray, Tensor)) and value.ndim > 0


def _is_region(value: object) -> bool:
    return is_picture(value) or is_file(value)


def _key(path: Path) -> str | None:
    """Return the name of a part of an item, None if it has only a position."""
    return path[-1] if path and isinstance(path[-1], str) else None


def _named(item: Any, leaves: Mapping[Path, Any], role: str, key: Key) -> Path:
    path = key if isinstance(key, tuple) else (key,)
    deeper = [leaf for leaf in leaves if leaf[-1:] == path]
    value = item
    for step in path:
        try:
            value = value[step]
        except Exception as error:
            if deeper:
                return deeper[0]
            raise ValueError(f"{place_of(0)} is {described(item)}; it has no {role} {quoted(key)}.") from error
    return path


def _by_name(free: Mapping[Path, Any], role: str) -> list[Path]:
    fitting = [path for path in free if str(_key(path)).lower() in NAMES[role]]
    if role != "mask":
        return fitting if role == "image" else [path for path in fitting if not _is_region(free[path])]
    fitting = fitting or [path for path in free if _key(path) == "annotation" and _is_region(free[path])]
    if fitting:
        return fitting
    labels = [path for path in free if str(_key(path)).lower() in NAMES["label"] and _is_region(free[path])]
    for path in labels[:1]:  # as MONAI names masks
        warnings.warn(
            f"{quoted(path[-1])} holds masks by their shape, and not classes; pass mask={quoted(path[-1])} to say so.",
            stacklevel=5,
        )
    return labels


def _by_feature(free: Mapping[Path, Any], role: str, features: Mapping[str, Any]) -> list[Path]:
    wanted = _FEATURES.get(role)
    return [path for path in free if wanted == type(features.get(str(_key(path)))).__name__]


def _by_place(free: Mapping[Path, Any], role: str, image: Any) -> list[Path]:
    placed = [path for path in free if not _key(path)]
    regions = [path for path in placed if _is_region(free[path])]
    if role == "image":
        return regions[:1]
    if role == "mask":
        coloured = [path for path in regions if is_coloured(free[path])]
        if coloured:  # a second view of the image would be a mask that covers it
            raise ValueError(
                f"{place_of(0)} has {described(free[coloured[0]])} beside its image; pass mask={_as_key(coloured[0])} if "
                "that is the mask, or leave it out of the items."
            )
        names = [] if is_file(image) else [path for path in regions if is_file(free[path])]
        if names:  # most likely that of the image, which would be its own mask
            raise ValueError(
                f"{place_of(0)} has the file {quoted(free[names[0]])} beside its image; pass mask={_as_key(names[0])} if it "
                f"is the mask, or identifier={_as_key(names[0])} if it is the name of the image."
            )
        return regions
    labels = [path for path in placed if path not in regions]
    return [path for path in labels if free[path] is not None] or labels[:1]


def _only(paths: list[Path], role: str, item: Any) -> Path | None:
    if len(paths) > 1:
        choices = " or ".join(f"{role}={_as_key(path)}" for path in paths[:2])
        raise ValueError(f"{place_of(0)} is {described(item)}; several parts of it could be the {role}: pass {choices}.")
    return paths[0] if paths else None


def _as_key(path: Path) -> str:
    return quoted(path[0] if len(path) == 1 else path)


def features_of(dataset: Any) -> Mapping[str, Any]:
    """Return the types of the columns of a data set of Hugging Face, of another one none."""
    if isinstance(dataset, Subset):
        return features_of(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return features_of(dataset.datasets[0])
    found = getattr(dataset, "features", None)
    return found if isinstance(found, Mapping) else {}


def column(dataset: Any, path: Path) -> Sequence[Any] | None:
    """Return one part of all items of a data set, or None if that would mean to read its images.

    What a transform of the data set does to it is not seen.
    """
    if isinstance(dataset, (Subset, ConcatDataset)):
        return of_parts(dataset, partial(column, path=path))
    if isinstance(dataset, TensorDataset):
        values: list[Any] | None = dataset.tensors[int(path[0])].tolist() if len(path) == 1 else None
        return values
    if isinstance(dataset, (list, tuple)):
        return [field(item, path, index) for index, item in enumerate(dataset)]
    if len(path) != 1:
        return None
    if path[0] in features_of(dataset):  # without the format, which may be a transform that reads images
        return list(dataset.with_format(None)[path[0]])
    rows = getattr(dataset, "data", None)  # of a data set of MONAI
    if isinstance(rows, list) and all(isinstance(row, Mapping) and path[0] in row for row in rows):
        return [row[path[0]] for row in rows]
    targets = getattr(dataset, "targets", None) if path == (1,) else None  # of most of torchvision's
    return list(targets) if targets is not None and len(targets) == len(dataset) else None


def names_of(dataset: Any, image: Path) -> list[str] | None:
    """Return names of all items that a data set knows without reading images; None if it has none or not all differ."""
    found = _columns_of_names(dataset, image)
    if found is None or not all(isinstance(name, (str, int, os.PathLike)) for name in found):
        return None
    names = [str(name) for name in found]
    return names if len(set(names)) == len(names) else None


def _columns_of_names(dataset: Any, image: Path) -> Sequence[Any] | None:
    if isinstance(dataset, (Subset, ConcatDataset)):
        return of_parts(dataset, partial(_columns_of_names, image=image))
    known, rows = features_of(dataset), dataset if isinstance(dataset, (list, tuple)) else getattr(dataset, "data", None)
    keys = known or (rows[0] if isinstance(rows, (list, tuple)) and rows and isinstance(rows[0], Mapping) else {})
    for key in _IDENTIFIERS:
        if key in keys:
            return column(dataset, (key,))
    files = getattr(dataset, "samples", None)  # of torchvision's folders
    if isinstance(files, list) and len(files) == len(dataset) and all(isinstance(file, tuple) for file in files):
        return _below(getattr(dataset, "root", None), [file[0] for file in files])
    return None if known or isinstance(dataset, TensorDataset) else _files(dataset, image)


def _files(dataset: Any, image: Path) -> Sequence[Any] | None:
    """Return the files of the images if the items of the data set name them."""
    rows = column(dataset, image)
    return _below(None, rows) if rows is not None and all(map(is_file, rows)) else None


def _below(root: Any, files: Sequence[Any]) -> list[str]:
    """Return the names of files below a folder, that of all if there is none."""
    whole = [os.path.abspath(file) for file in files]
    folder = os.path.abspath(root) if root else os.path.commonpath([os.path.dirname(name) for name in whole])
    return [os.path.relpath(name, folder).replace(os.sep, "/") for name in whole]


def names_of_classes(dataset: Any, label: Path | None) -> tuple[str, ...] | None:
    """Return the names of the classes in the order of a data set's numbers, None if it does not know them."""
    if isinstance(dataset, Subset):
        return names_of_classes(dataset.dataset, label)
    if isinstance(dataset, ConcatDataset):
        found = {names_of_classes(part, label) for part in dataset.datasets}
        return found.pop() if len(found) == 1 else None
    kind = _type_of(dataset, label)
    names = getattr(getattr(kind, "feature", kind), "names", None) or getattr(dataset, "classes", None)
    texts = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return tuple(names) if texts and names else None


def lists_classes(dataset: Any, label: Path | None) -> bool:
    """Check whether a label is a list of classes: a data set of Hugging Face says so, or there is a box for each of them."""
    around = field(read_item(dataset, 0), (label or ())[:-1], 0)
    if isinstance(around, Mapping) and "boxes" in around:
        return True
    return hasattr(getattr(_type_of(dataset, label), "feature", None), "names")


def _type_of(dataset: Any, label: Path | None) -> Any:
    """Return the type of the column of labels: that of its name, or the only one with classes, renamed by a transform."""
    known = features_of(dataset)
    classes = [kind for kind in known.values() if hasattr(getattr(kind, "feature", kind), "names")]
    return known.get(str(label[0]), classes[0] if len(classes) == 1 else None) if label else None
