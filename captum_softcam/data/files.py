"""Read the user's files: images, folders of images, tables and lists; every error names the file and the place in it."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam._names import quoted, reason, shown

__all__ = [
    "ENDINGS",
    "Fit",
    "Line",
    "Row",
    "check_same_size",
    "class_folders",
    "existing_file",
    "existing_folder",
    "image_files",
    "named_image",
    "open_image",
    "read_image",
    "read_lines",
    "read_mask",
    "read_table",
    "refuse_outside",
]

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, whatever the ending: Pillow by itself would run Ghostscript for PostScript named ``a.png``."""

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Endings of image files in folders, those of ``torchvision.datasets.ImageFolder``."""


class Row(NamedTuple):
    """A row of a table: its place, for error messages, and its cells by column."""

    place: str
    cells: dict[str, str]


class Line(NamedTuple):
    """A line of a list: its place, for error messages, and its words."""

    place: str
    words: list[str]


def read_image(path: str | Path, size: int | None = None, fit: Fit = Fit()) -> Tensor:
    """Read an image file as RGB; transparency is dropped.

    Args:
        path (path): the file: JPEG, PNG, TIFF, WebP, BMP, GIF, JPEG 2000 or PPM, by its content.
        size (int): side in pixels of the square that the image becomes. Default: its own size
        fit (Fit): how it becomes square. Default: the whole image is resized

    Returns:
        Tensor: (3, H, W), float32 in [0, 1].

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as an image of 8 bits per channel, or holds more pixels than a photograph has.
    """
    pixels = np.array(open_image(Path(path), "image", "RGB"))
    image = torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)
    return image if size is None else fit.image(image, size)


def open_image(path: Path, kind: str, mode: str | None = None) -> Image.Image:
    """Read a whole image file.

    Args:
        path (path): the file; its content decides on the format, which has to be one of ``FORMATS``.
        kind (str): what the error message calls a missing or broken file.
        mode (str): mode of Pillow to convert to; ``"RGB"`` requires 8 bits per channel. Default: the file's own
    """
    existing_file(path, kind)
    try:
        with Image.open(path, formats=FORMATS) as file:
            file.load()
            deep = mode == "RGB" and file.mode.startswith(("I", "F"))  # Pillow would cut what is above 255
            image = file if mode is None or deep else file.convert(mode)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # the latter where warnings are errors
        raise ValueError(
            f"{kind} '{shown(path)}' is too large ({reason(error)}); make it smaller: the map of a network is far coarser."
        ) from error
    except Exception as error:  # a broken file makes Pillow raise almost anything
        what = "it is not an image of a known format" if isinstance(error, UnidentifiedImageError) else reason(error)
        raise ValueError(f"{kind} '{shown(path)}' cannot be read ({what}); repair or remove it.") from error
    if deep:
        raise ValueError(
            f"{kind} '{shown(path)}' has more than 8 bits per channel (mode {image.mode}); convert it to 8 bits."
        )
    return image


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


def check_same_size(values: NDArray[Any], name: str, image: Tensor, path: Path) -> None:
    """Raise ValueError unless the mask ``values`` (H, W) has the size of its image (3, H, W) from ``path``."""
    if values.shape != tuple(image.shape[1:]):
        raise ValueError(
            f"{name} is {values.shape[1]}x{values.shape[0]} pixels, its image '{shown(path)}' "
            f"{image.shape[2]}x{image.shape[1]}; both must have the same size."
        )


def read_mask(path: Path, image_path: Path, image: Tensor) -> Tensor:
    """Read a mask file as (1, H, W) bool and check it against its image (3, H, W)."""
    values: np.ndarray[Any, Any] = np.asarray(open_image(path, "mask", "L"))
    check_same_size(values, f"mask '{shown(path)}'", image, image_path)
    if not values.any():
        raise ValueError(f"mask '{shown(path)}' is empty; remove the file if the image has nothing to localise.")
    return torch.from_numpy(values > 0)[None]


def read_table(path: Path) -> tuple[list[str], list[Row]]:
    """Read the columns and rows of a CSV file with a header.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not CSV in UTF-8, two columns have one name, or a row is longer or shorter than the header.
    """
    existing_file(path, "table")
    try:
        # utf-8-sig, because Excel begins CSV files in UTF-8 with a byte order mark, which would belong to the first column
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [Row(f"line {reader.line_num} of '{shown(path)}'", cells) for cells in reader]
            columns = list(reader.fieldnames or [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"table '{shown(path)}' cannot be read as CSV in UTF-8 ({reason(error)}).") from error
    # DictReader keeps the last of two columns with one name
    name, count = Counter(columns).most_common(1)[0] if columns else ("", 0)
    if count > 1:
        raise ValueError(f"table '{shown(path)}' has {count} columns {quoted(name)}; give each a name of its own.")
    for row in rows:
        if None in row.cells or None in row.cells.values():  # as DictReader marks cells too many and too few
            raise ValueError(f"{row.place} does not have the {len(columns)} columns of the header.")
    return columns, rows


def read_lines(path: Path) -> list[Line]:
    """Read the lines of a list, without empty ones and those that begin with ``#``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not text in UTF-8, or empty.
    """
    existing_file(path, "list")
    try:
        text = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"list '{shown(path)}' cannot be read as text in UTF-8 ({reason(error)}).") from error
    lines = [Line(f"line {number} of '{shown(path)}'", line.split()) for number, line in enumerate(text, 1)]
    filled = [line for line in lines if line.words and not line.words[0].startswith("#")]
    if not filled:
        raise ValueError(f"list '{shown(path)}' names no images.")
    return filled
