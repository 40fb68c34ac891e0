"""Give images the classes that their folders are named after."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from captum_softcam._imagenet import other_names
from captum_softcam._names import as_text, closest, listed, quoted, shown
from captum_softcam.data._disk.files import ENDINGS, folded
from captum_softcam.data._disk.pairs import Pictures
from captum_softcam.data.samples import class_numbers

__all__ = ["read_class_folders"]

_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


def read_class_folders(
    pictures: Pictures, classes: Sequence[str] | None, root: Path
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Give every picture the class that its folder below ``root`` is named after.

    All folders are named in one way: by the names of the classes (for ImageNet's also by their WordNet ids), where case and
    the form of Unicode count only if they make a difference, or by the numbers of the classes, from 0.

    Args:
        pictures (Pictures): the files; those that are in no folder get no class.
        classes (sequence of str or None): names in the order of the logits; None for the folders, sorted, empty ones among
            them.
        root (path): the folder of class folders.

    Returns:
        tuple: the names of the classes, and the number of the class of each picture.

    Raises:
        FileNotFoundError: if there are no class folders, or no image in any of them.
        ValueError: if a folder is no class or could be several, two folders are one class, some are named and some numbered,
            or they are splits, or images and masks.
    """
    if not pictures.folders:
        raise FileNotFoundError(f"image folder '{shown(root)}' has no class folders; expected '{shown(root)}/CLASS/IMAGE'.")
    folder_of = {name: name.partition("/")[0] for name in pictures.names if "/" in name}
    if not folder_of:
        raise FileNotFoundError(f"no class folder of '{shown(root)}' holds an image ({', '.join(ENDINGS)}).")
    folders = sorted(set(folder_of.values()))
    if not set(folders) <= set(classes or ()):
        _refuse_other_layouts(folders, pictures, root)
    if classes is None:
        names = tuple(map(as_text, pictures.folders))
        numbers = class_numbers(pictures.folders)
    else:
        names = tuple(classes)
        numbers = _folder_numbers(folders, names, root)
    return names, {name: numbers[folder] for name, folder in folder_of.items()}


def _refuse_other_layouts(folders: Sequence[str], pictures: Pictures, root: Path) -> None:
    """Raise ValueError if folders are splits, or images and masks, instead of classes; warn where this is only likely."""
    splits = [folder for folder in folders if folder.lower() in _SPLITS]
    if len(splits) == len(folders):
        raise ValueError(
            f"image folder '{shown(root)}' holds the splits {listed(map(quoted, splits))}, not class folders; pass one of "
            f"them: '{shown(root / splits[0])}'."
        )
    masks = pictures.mask_folders
    if masks and [folder.lower() for folder in folders] in (["image"], ["images"]):
        raise ValueError(
            f"image folder '{shown(root)}' holds the folders {listed(map(quoted, [*folders, *masks]))}, not class folders; "
            f"pass '{shown(root / folders[0])}' as images and '{shown(root / masks[0])}' as masks."
        )
    if len(splits) > 1:
        warnings.warn(
            f"the class folders {listed(map(quoted, splits))} of '{shown(root)}' are named like splits; if they are, pass "
            "one of them.",
            stacklevel=4,
        )
    below = {name.split("/")[1] if name.count("/") > 1 else "" for name in pictures.names if "/" in name}
    if len(folders) == 1 and len(below) > 1 and "" not in below:  # an archive that was unpacked into a folder of its name
        warnings.warn(
            f"image folder '{shown(root)}' has one class folder, {quoted(folders[0])}, with the folders "
            f"{listed(map(quoted, sorted(below)), 80)}; if those are the classes, pass '{shown(root / folders[0])}'.",
            stacklevel=4,
        )


def _folder_numbers(folders: Sequence[str], classes: Sequence[str], root: Path) -> dict[str, int]:
    """Return the number of the class of every folder."""
    places = {folder: int(folder) for folder in folders if folder.isdecimal() and int(folder) < len(classes)}
    named = _by_name(folders, classes)
    if len(named) == len(folders):
        found = named
        _refuse_repeated_names(folders, classes, root)
    elif len(places) == len(folders):
        found = places
        _refuse_doubtful_places(places, named, classes, root)
    else:
        _refuse_unknown(next(folder for folder in folders if folder not in named), named, places, classes, root)
    for number, count in Counter(found.values()).items():
        if count > 1:
            same = [quoted(folder) for folder in folders if found[folder] == number]
            raise ValueError(
                f"the folders {listed(same)} of '{shown(root)}' are all the class {quoted(classes[number])}; join or rename "
                "them."
            )
    return found


def _by_name(folders: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """Return the numbers of the folders that are named after a class."""
    others = other_names(classes)
    numbers = {**others, **class_numbers(classes)}
    forms: dict[str, set[int]] = defaultdict(set)
    for number, name in (*enumerate(classes), *((number, name) for name, number in others.items())):
        forms[folded(name)].add(number)
    found = {}
    for folder in folders:
        similar = forms.get(folded(folder), set())
        if folder in numbers:
            found[folder] = numbers[folder]
        elif len(similar) == 1:
            found[folder] = min(similar)
    return found


def _refuse_repeated_names(folders: Sequence[str], classes: Sequence[str], root: Path) -> None:
    repeated = {name for name, count in Counter(classes).items() if count > 1}
    for folder in folders:
        if folder in repeated:  # the first class of the name would get the images of all
            numbers = [number for number, name in enumerate(classes) if name == folder]
            raise ValueError(
                f"folder '{shown(root / folder)}' could be {len(numbers)} of the classes, numbers "
                f"{listed(numbers)}; name all folders by their numbers."
            )


def _refuse_doubtful_places(places: dict[str, int], named: dict[str, int], classes: Sequence[str], root: Path) -> None:
    if len(places) == len(classes):  # all numbers from 0 are there, so they cannot be names
        return
    for folder, number in named.items():
        if number != places[folder]:
            raise ValueError(
                f"folder '{shown(root / folder)}' could be the class {quoted(classes[number])} by its name or "
                f"{quoted(classes[places[folder]])} by its number, as the other folders; name all after the classes."
            )


def _refuse_unknown(
    folder: str, named: dict[str, int], places: dict[str, int], classes: Sequence[str], root: Path
) -> NoReturn:
    if folder in places and named:
        raise ValueError(
            f"folder '{shown(root / folder)}' is named by a number, but {quoted(next(iter(named)))} by a name; name all "
            "folders after the classes, or number all of them."
        )
    raise ValueError(
        f"folder '{shown(root / folder)}' is none of the {len(classes)} classes; name the folders after the classes "
        f"or number them from 0 to {len(classes) - 1}. {closest(folder, classes)}"
    )
