"""Look up the user's files: folders of images, and images that an annotation names; every error names the file."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

from captum_softcam._names import quoted, shown

__all__ = [
    "ENDINGS",
    "class_folders",
    "existing_file",
    "existing_folder",
    "image_files",
    "named_image",
    "refuse_outside",
]

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Endings of image files in folders, those of ``torchvision.datasets.ImageFolder``."""


def class_folders(root: Path) -> dict[str, list[Path]]:
    """List the images of every class folder, sorted by name.

    Args:
        root (path): the folder of class folders; hidden ones are left out, empty ones keep their place.

    Raises:
        FileNotFoundError: if there is no such folder, no class folder in it, or no image in any of them.
    """
    existing_folder(root, "image folder")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise FileNotFoundError(f"image folder '{shown(root)}' has no class folders; expected '{shown(root)}/CLASS/IMAGE'.")
    found = {folder.name: image_files(folder) for folder in folders}
    if not any(found.values()):
        raise FileNotFoundError(f"no class folder of '{shown(root)}' holds an image ({', '.join(ENDINGS)}).")
    return found


def image_files(folder: Path) -> list[Path]:
    """List all image files below ``folder``, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


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


def named_image(folder: Path, name: str, where: str, *, allow_outside: bool | None = None) -> Path:
    """Return the file that an annotation names, below its folder.

    Args:
        folder (path): the folder that the names of the annotation are relative to.
        name (str): the name, perhaps written on another system.
        where (str): the place that contains the name, for error messages.
        allow_outside (bool): whether the name may lead out of the folder; None refuses it without the advice to pass True.
            Default: None

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the name leads out of the folder, and that is not allowed.
    """
    refuse_outside(name, where, allow_outside=allow_outside)
    return existing_file(folder / name, "image", where)


def refuse_outside(name: str, where: str, *, allow_outside: bool | None = None) -> None:
    """Raise ValueError for a name that is absolute or leads out of its folder, unless that is allowed."""
    # An annotation from elsewhere could make any image on this machine part of a report. Links are the user's own.
    parts = PureWindowsPath(name)  # splits at both kinds of slashes: the annotation may come from either system
    if allow_outside or not (parts.anchor or ".." in parts.parts):
        return
    unless = ", or allow it by allow_outside=True (--allow-outside)" if allow_outside is False else ""
    raise ValueError(
        f"{where} names the image {quoted(name)}, which is not below its folder; use a path relative to that folder{unless}."
    )
