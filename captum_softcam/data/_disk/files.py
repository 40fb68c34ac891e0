"""Look up the user's files and folders of images; every error names the file."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from captum_softcam._names import as_text, reason, shown

__all__ = [
    "DICOM_ENDINGS",
    "ENDINGS",
    "NIFTI_ENDINGS",
    "Listing",
    "existing_file",
    "existing_folder",
    "folded",
    "image_files",
    "list_images",
    "without_ending",
]

DICOM_ENDINGS = (".dcm", ".dicom")
"""Endings of DICOM files, which often have none: they are also recognised by their content."""

NIFTI_ENDINGS = (".nii", ".nii.gz")
"""Endings of NIfTI files, compressed or not."""

ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),  # those of torchvision's ImageFolder
    *(".jpe", ".jfif", ".mpo", ".gif", ".apng", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c"),
    *DICOM_ENDINGS,
    *NIFTI_ENDINGS,
)
"""Endings of image files in folders, in lower case: those of the formats that are read."""

_SYSTEM = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information"}


class Listing(NamedTuple):
    """The files below a folder, by their names relative to it, with slashes; hidden ones are not listed.

    Args:
        images (list of str): files with the ending of an image, sorted folder by folder.
        folders (list of str): the folders directly below, empty ones among them, sorted.
        left_out (dict): the other files and what cannot be followed, by the reason in words.
    """

    images: list[str]
    folders: list[str]
    left_out: dict[str, list[str]]


def list_images(root: Path, kind: str = "image folder") -> Listing:
    """List all files below ``root``, through links to folders and files.

    Files and folders that a system or a program hides are not listed: names that begin with a dot, ``__MACOSX``,
    ``Thumbs.db`` and the like. A link to a folder that contains the link would never end, and is left out.

    Cost: a folder is read once and no file is opened; about 3 µs for each file.

    Args:
        root (path): the folder.
        kind (str): what the error message calls it. Default: ``"image folder"``

    Raises:
        FileNotFoundError: if there is no such folder.
        PermissionError: if it may not be read; a folder below it that may not be read is left out with a warning.
    """
    existing_folder(root, kind)
    found: dict[str, list[str]] = defaultdict(list)
    pending: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(root),))]
    while pending:
        folder, parents = pending.pop()
        for entry in _entries(root, folder, kind, found):
            name = folder + entry.name
            what = _kind(entry)
            if what != _FOLDER:
                found[what].append(name)
                continue
            # the real path is needed only of links: without one, a folder cannot contain itself
            real = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(parents[-1], entry.name)
            if any(f"{parent}{os.sep}".startswith(f"{real.rstrip(os.sep)}{os.sep}") for parent in parents):
                found["link to a folder around it"].append(name)
                continue
            found[_FOLDER].append(name)
            pending.append((f"{name}/", (*parents, real)))
    # a folder's files stand together, before those of "folder-2", because no name contains the character 0
    listed = {what: sorted(names, key=lambda name: name.replace("/", "\0")) for what, names in found.items()}
    images, folders = listed.pop(_IMAGE, []), listed.pop(_FOLDER, [])
    return Listing(images, [name for name in folders if "/" not in name], listed)


_FOLDER, _IMAGE = "folder", "image"


def _entries(root: Path, folder: str, kind: str, found: dict[str, list[str]]) -> list[os.DirEntry[str]]:
    """Read one folder, or note that this is not possible."""
    path = root / folder
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.name[0] != "." and entry.name.lower() not in _SYSTEM]
    except OSError as error:
        if not folder:
            raise PermissionError(f"{kind} '{shown(path)}' cannot be read ({error.strerror}); change its rights.") from error
        warnings.warn(f"folder '{shown(path)}' cannot be read ({reason(error.strerror)}) and is left out.", stacklevel=4)
        found["folder that cannot be read"].append(folder.rstrip("/"))
        return []


def _kind(entry: os.DirEntry[str]) -> str:
    """Return what an entry of a folder is: a folder, an image, or the reason to leave it out."""
    try:
        if entry.is_dir():
            return _FOLDER
        if entry.is_file():
            return _IMAGE if _ending(entry.name) else "not an image format"
    except OSError:  # a link to itself
        pass
    return "broken link" if entry.is_symlink() else "not a regular file"  # to open a pipe would wait forever


def _ending(name: str) -> str:
    """Return the ending of an image file, such as ``".PNG"``, or nothing if it has none of them."""
    stem, dot, last = name.rpartition(".")
    ending = dot + last
    if ending.lower() == ".gz":  # packed, as in .nii.gz
        ending = os.path.splitext(stem)[1] + ending
    return ending if ending.lower() in _KNOWN else ""


_KNOWN = frozenset(ENDINGS)


def without_ending(name: str) -> str:
    """Return the name of a file without the ending of an image; other dots are part of the name."""
    return name[: len(name) - len(_ending(name))]


def folded(name: str) -> str:
    """Return a name in the form in which names that differ in case or in their form of Unicode are equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", as_text(name)).casefold())


def image_files(folder: Path) -> list[Path]:
    """List all image files below ``folder``, sorted, as :func:`list_images` finds them."""
    return [folder / name for name in list_images(folder).images]


def existing_folder(folder: Path, kind: str) -> Path:
    """Return the folder, or raise FileNotFoundError."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{kind} '{shown(folder)}' is not a directory.")
    return folder


def existing_file(file: Path, kind: str, where: str | None = None) -> Path:
    """Return the file, or raise FileNotFoundError with the place that names it."""
    if os.path.isfile(file):  # unlike Path.is_file, it is False for names that no file can have
        return file
    if where is None:
        raise FileNotFoundError(f"{kind} '{shown(file)}' is not a file.")
    raise FileNotFoundError(f"{where} needs the {kind} '{shown(file)}', which is not a file.")
