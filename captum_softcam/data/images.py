"""Image files: which there are, and what is in them."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath
from typing import Any

from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from captum_softcam._names import quoted, reason, shown

__all__ = [
    "check_same_size",
    "class_folders",
    "existing_folder",
    "existing_image",
    "image_files",
    "named_image",
    "open_image",
    "read_image",
    "refuse_outside",
    "to_square",
]

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What is read, whatever the ending says: Pillow by itself would run Ghostscript for PostScript that is called ``a.png``."""


def read_image(path: str | Path, size: int | None = None) -> Tensor:
    """Read an image file as RGB; transparency is dropped.

    Args:
        path (path): the file: JPEG, PNG, TIFF, WebP, BMP, GIF, JPEG 2000 or PPM, by its content.
        size (int): side in pixels of the square that the whole image is resized to. Default: its own size

    Returns:
        Tensor: (3, H, W), float32 in [0, 1].

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as an image of 8 bits per channel, or holds more pixels than a photograph has.
    """
    image = pil_to_tensor(open_image(Path(path), "image", "RGB")).float().div_(255)
    return image if size is None else to_square(image, size)


def open_image(path: Path, kind: str, mode: str | None = None) -> Image.Image:
    """A whole image file.

    Args:
        path (path): the file; its content decides on the format, which has to be one of ``FORMATS``.
        kind (str): what the error calls it if it is missing or broken.
        mode (str): of Pillow, which it is converted to; for ``"RGB"`` it may have 8 bits per channel. Default: its own
    """
    if not os.path.isfile(path):  # unlike Path.is_file, it is False for names that no file can have
        raise FileNotFoundError(f"{kind} '{shown(path)}' is not a file.")
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
        what = "it is not a picture of a known format" if isinstance(error, UnidentifiedImageError) else reason(error)
        raise ValueError(f"{kind} '{shown(path)}' cannot be read ({what}); repair it or take it away.") from error
    if deep:
        raise ValueError(
            f"{kind} '{shown(path)}' has more than 8 bits per channel (mode {image.mode}); convert it to 8 bits."
        )
    return image


def to_square(image: Tensor, size: int) -> Tensor:
    """An image (3, H, W) resized as a whole to (3, size, size)."""
    return resize(image, [size, size], antialias=True).clamp(0, 1)


def class_folders(root: Path) -> list[Path]:
    """The folders below ``root``, hidden ones left out, sorted; FileNotFoundError if there are none."""
    existing_folder(root, "image folder")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise FileNotFoundError(f"image folder '{shown(root)}' has no class folders; expected '{shown(root)}/CLASS/IMAGE'.")
    return folders


def image_files(folder: Path) -> list[Path]:
    """All image files below ``folder``, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)


def existing_folder(folder: Path, kind: str) -> Path:
    """The folder itself, or FileNotFoundError."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{kind} '{shown(folder)}' is not a directory.")
    return folder


def existing_image(file: Path, where: str) -> Path:
    """The file itself, or FileNotFoundError with the place that names it."""
    if not os.path.isfile(file):
        raise FileNotFoundError(f"{where} names the image '{shown(file)}', which is not a file.")
    return file


def named_image(folder: Path, name: str, where: str, *, allow_outside: bool | None = None) -> Path:
    """The file that an annotation names, below its folder.

    Args:
        folder (path): the folder that the names of the annotation are relative to.
        name (str): the name, perhaps written on another system.
        where (str): the place that bears the name, for error messages.
        allow_outside (bool): whether the name may lead out of the folder. Default: None, not even if asked for

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the name leads out of the folder, and that is not allowed.
    """
    refuse_outside(name, where, allow_outside=allow_outside)
    return existing_image(folder / name, where)


def refuse_outside(name: str, where: str, *, allow_outside: bool | None = None) -> None:
    """ValueError for a name that is absolute or leads out of its folder, here or on Windows, unless that is allowed.

    An annotation from elsewhere could make any picture on this machine part of a report. Links are followed.
    """
    parts = PureWindowsPath(name)  # which knows both kinds of slashes
    if allow_outside or not (parts.anchor or ".." in parts.parts):
        return
    unless = ", or allow it by allow_outside=True (--allow-outside)" if allow_outside is False else ""
    raise ValueError(
        f"{where} names the image {quoted(name)}, which is not below its folder; name it as seen from there{unless}."
    )


def check_same_size(values: NDArray[Any], name: str, image: Tensor, path: Path) -> None:
    """ValueError unless the mask ``values`` (H, W) called ``name`` has the size of its image (3, H, W) from ``path``."""
    if values.shape != tuple(image.shape[1:]):
        raise ValueError(
            f"{name} is {values.shape[1]}x{values.shape[0]} pixels, its image '{shown(path)}' "
            f"{image.shape[2]}x{image.shape[1]}; both must have the same size."
        )
