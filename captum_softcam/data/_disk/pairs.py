"""Pair masks with pictures by the names of their files, beside the pictures or in a folder of their own."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from captum_softcam._names import listed, shown
from captum_softcam.data._disk.files import folded, list_images, without_ending

__all__ = ["Pictures", "list_pictures", "masks_beside", "pair_masks", "unlike"]

_MARKED = re.compile(
    # _mask: BUSI, Carvana, LGG MRI; _segmentation: ISIC; _seg: ADE20K; _gt: ACDC, CAMUS; _anno: GlaS
    r"(?P<base>.*[^/])[_-](?P<mark>mask|segmentation|seg|gt|anno)(?:[_-]?(?P<number>\d+))?",
    re.IGNORECASE | re.DOTALL,
)
# COVID-19 Radiography has CLASS/images and CLASS/masks, COVID-QU-Ex CLASS/images and "CLASS/lung masks"
_MASK_FOLDER = re.compile(r"(?P<parent>(?:.*?/)?)(?P<name>(?:[^/]*[ _-])?masks?)/(?P<rest>.+)", re.IGNORECASE | re.DOTALL)
_IMAGE_FOLDER = re.compile(r"(?P<parent>(?:.*?/)?)(?P<name>images?)/.+", re.IGNORECASE | re.DOTALL)


class Pictures(NamedTuple):
    """The images below a folder that are no masks, by their names relative to it.

    Args:
        names (list of str): the images, sorted.
        folders (list of str): the folders directly below, without those that hold nothing but masks.
        mask_folders (list of str): the folders directly below that hold nothing but masks.
        beside (dict): the masks beside the pictures, with the names that are compared with those of pictures.
        left_out (dict): the other files, by the reason in words.
    """

    names: list[str]
    folders: list[str]
    mask_folders: list[str]
    beside: dict[str, str]
    left_out: dict[str, list[str]]

    @property
    def files(self) -> int:
        """Number of files that are no masks."""
        return len(self.names) + sum(map(len, self.left_out.values()))

    def left_out_but(self, samples: Iterable[str]) -> dict[str, list[str]]:
        """Return what is left out, by the reason, if the given images are the samples; the others have no class."""
        used = set(samples)
        others = {**self.left_out, "no class": [name for name in self.names if name not in used]}
        return {what: names for what, names in others.items() if names}


def list_pictures(root: Path, masks: Path | None = None) -> Pictures:
    """List the images below ``root``, apart from masks beside them and from a folder ``masks`` below it."""
    listing, inside = list_images(root), _below(masks, root)
    left_out = {what: [name for name in names if not name.startswith(inside)] for what, names in listing.left_out.items()}
    images = [name for name in listing.images if not name.startswith(inside)]
    beside = masks_beside(images)
    names = [name for name in images if name not in beside]
    held = {name.partition("/")[0] for name in names if "/" in name}
    _warn_of_masks(names, root)
    only_masks = {name.partition("/")[0] for name in (*beside, *inside) if "/" in name} - held
    folders = [folder for folder in listing.folders if folder not in only_masks]
    return Pictures(names, folders, sorted(only_masks), beside, left_out)


def masks_beside(names: Sequence[str]) -> dict[str, str]:
    """Find the files that are masks of others in the same folder.

    They are named like their picture with a mark, as ``x_mask.png`` beside ``x.png``, or lie in a folder ``masks`` beside
    it or beside its folder ``images``.

    Cost: about 1 µs for each file.

    Args:
        names (sequence of str): files relative to their common folder, with slashes.

    Returns:
        dict: from the name of each mask to that which is compared with those of pictures.
    """
    found = _in_mask_folders(names)
    stems = {name: without_ending(name) for name in names if name not in found}
    marked = {name: match for name, stem in stems.items() if (match := _MARKED.fullmatch(stem))}
    if not marked:
        return found
    known, forms = set(stems.values()), set(map(folded, stems.values()))
    kinds = {_kind(match) for match in marked.values() if match["base"] in known or folded(match["base"]) in forms}
    # by the kind, so that no mask becomes a picture because its own picture is missing
    return found | {name: stems[name] for name, match in marked.items() if _kind(match) in kinds}


def pair_masks(pictures: Sequence[str], masks: Mapping[str, str], images: Path, root: Path) -> dict[str, tuple[str, ...]]:
    """Find the masks of every picture that has some.

    A mask has the name of its picture without the ending, or that name and a mark. Several masks of a picture have the same
    mark and different numbers. Where a picture has no mask by this rule, case and the form of Unicode do not count.

    Args:
        pictures (sequence of str): names relative to their folder, with slashes.
        masks (mapping): from the name of each mask to that which is compared with those of pictures.
        images (path): the folder of the pictures, for error messages.
        root (path): the folder of the masks, for error messages.

    Returns:
        dict: from the name of each picture with masks to their names, sorted.

    Raises:
        ValueError: if two masks could be that of a picture, or two pictures that of a mask.
    """
    found: dict[str, tuple[str, ...]] = {}
    rest = dict(masks)
    for form in (str, folded):  # the second time only for what the first one left
        without = [picture for picture in pictures if rest and picture not in found]
        hits = _owned(without, rest, form, images, root)
        for picture, names in hits.items():
            if len(names) > 1 and not _are_series([masks[name] for name in names], without_ending(picture), form):
                raise ValueError(
                    f"image '{shown(images / picture)}' could have the masks {listed(names)}; keep one of them (or "
                    "one folder of masks), or number them as NAME_mask_1 and NAME_mask_2 to unite them."
                )
            found[picture] = tuple(sorted(names))
            for name in names:
                del rest[name]
    return found


def unlike(mask: str | None) -> str:
    """Return how an error goes on that no mask is called as expected, if there is a mask at all."""
    return "" if mask is None else f", found '{shown(mask)}'"


def _owned(
    pictures: Sequence[str], masks: Mapping[str, str], form: Callable[[str], str], images: Path, root: Path
) -> dict[str, list[str]]:
    """Map pictures to the masks that have their name in one form."""
    by_stem: dict[str, list[str]] = defaultdict(list)
    for picture in pictures:
        by_stem[form(without_ending(picture))].append(picture)
    hits: dict[str, list[str]] = defaultdict(list)
    for mask, stem in masks.items():
        # the whole name first, because a picture may be called "with_mask_1"
        match = None if form(stem) in by_stem else _MARKED.fullmatch(stem)
        owners = by_stem.get(form(stem if match is None else match["base"]), [])
        if len(owners) > 1:
            raise ValueError(
                f"mask '{shown(root / mask)}' could be that of {listed(owners)} in '{shown(images)}'; give the images "
                "different names, or keep one of them."
            )
        for owner in owners:
            hits[owner].append(mask)
    return hits


def _are_series(stems: Sequence[str], picture: str, form: Callable[[str], str]) -> bool:
    """Check whether masks of a picture have one mark and different numbers, as ``_mask``, ``_mask_1``, ``_mask_2``."""
    matches = [match for stem in stems if form(stem) != form(picture) and (match := _MARKED.fullmatch(stem))]
    numbers = {match["number"] and int(match["number"]) for match in matches}
    return len(numbers) == len(stems) and len({match["mark"].lower() for match in matches}) == 1


def _warn_of_masks(names: Sequence[str], root: Path) -> None:
    """Warn of pictures that are named like masks, among others that are not."""
    marked = {name for name in names if _MARKED.fullmatch(without_ending(name))}
    mixed = {os.path.dirname(name) for name in names if name not in marked} if marked else set()
    doubtful = [name for name in sorted(marked) if os.path.dirname(name) in mixed]  # all others may be "with_mask_1"
    if doubtful:
        warnings.warn(
            f"images of '{shown(root)}' are named like masks, but no image is named like them without the "
            f"mark: {listed(doubtful, 80)}; if they are masks, name them like their images.",
            stacklevel=4,
        )


def _below(masks: Path | None, root: Path) -> tuple[str, ...]:
    """Return how the names of masks begin whose folder lies in that of the pictures; nothing if it does not."""
    for place in (os.path.abspath, os.path.realpath):  # the folder of masks may be a link to another place
        inner, outer = Path(place(masks or root)), Path(place(root))
        if inner != outer and inner.is_relative_to(outer):
            return (f"{inner.relative_to(outer).as_posix()}/",)
    return ()


def _kind(match: re.Match[str]) -> tuple[str, str]:
    return os.path.dirname(match["base"]), match["mark"].lower()


def _in_mask_folders(names: Sequence[str]) -> dict[str, str]:
    """Find the files in folders of masks beside pictures."""
    inside: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for name in names:
        if "mask" in name.lower() and (match := _MASK_FOLDER.fullmatch(name)):
            inside[match["parent"], match["name"]][name] = without_ending(match["rest"])
    if not inside:
        return {}
    image_folders = {match["parent"]: match["name"] + "/" for name in names if (match := _IMAGE_FOLDER.fullmatch(name))}
    forms = {folded(without_ending(name)) for name in names}
    found: dict[str, str] = {}
    for (parent, folder), rests in inside.items():
        if parent not in image_folders and folder.lower() not in ("mask", "masks"):
            continue  # "with_mask" beside a few pictures is a class
        stems = {name: parent + image_folders.get(parent, "") + rest for name, rest in rests.items()}
        paired = sum(_has_picture(stem, forms) for stem in stems.values())
        # at the top, or without a folder of images, it may be a class of that name
        if (parent and parent in image_folders) or 2 * paired >= len(stems):
            found |= stems
    return found


def _has_picture(stem: str, forms: set[str]) -> bool:
    match = _MARKED.fullmatch(stem)
    return folded(stem) in forms or (match is not None and folded(match["base"]) in forms)
