"""Image files: which there are, and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2.functional import pil_to_tensor, resize

__all__ = [
    "check_same_size",
    "class_folders",
    "existing_folder",
    "existing_image",
    "image_files",
    "open_image",
    "read_image",
    "to_square",
]


def read_image(path: str | Path, size: int | None = None) -> Tensor:
    """Read an image file as RGB; transparency is dropped.

    Args:
        path (path): the file, of any kind that Pillow reads.
        size (int): side in pixels of the square that the whole image is resized to. Default: its own size

    Returns:
        Tensor: (3, H, W), float32 in [0, 1].

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as an image of 8 bits per channel.
    """
    file = open_image(Path(path), "image")
    if file.mode.startswith(("I", "F")):  # Pillow would cut what is above 255
        raise ValueError(f"image '{path}' has more than 8 bits per channel (mode {file.mode}); convert it to 8 bits.")
    image = pil_to_tensor(file.convert("RGB")).float() / 255
    return image if size is None else to_square(image, size)


def open_image(path: Path, kind: str) -> Image.Image:
    """A whole image file in its own mode; ``kind`` names it in the error if it is missing or broken."""
    if not path.is_file():
        raise FileNotFoundError(f"{kind} '{path}' is not a file.")
    try:
        with Image.open(path) as file:
            file.load()
            return file
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{kind} '{path}' cannot be read ({error}); repair it or take it away.") from error


def to_square(image: Tensor, size: int) -> Tensor:
    """An image (3, H, W) resized as a whole to (3, size, size)."""
    return resize(image, [size, size], antialias=True).clamp(0, 1)


def class_folders(root: Path) -> list[Path]:
    """The folders below ``root``, hidden ones left out, sorted; FileNotFoundError if there are none."""
    existing_folder(root, "image folder")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise FileNotFoundError(f"image folder '{root}' has no class folders; expected '{root}/CLASS/IMAGE'.")
    return folders


def image_files(folder: Path) -> list[Path]:
    """All image files below ``folder``, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)


def existing_folder(folder: Path, kind: str) -> Path:
    """The folder itself, or FileNotFoundError."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{kind} '{folder}' is not a directory.")
    return folder


def existing_image(file: Path, where: str) -> Path:
    """The file itself, or FileNotFoundError with the place that names it."""
    if not file.is_file():
        raise FileNotFoundError(f"{where} names the image '{file}', which is not a file.")
    return file


def check_same_size(values: NDArray[Any], name: str, image: Tensor, path: Path) -> None:
    """ValueError unless the mask ``values`` (H, W) called ``name`` has the size of its image (3, H, W) from ``path``."""
    if values.shape != tuple(image.shape[1:]):
        raise ValueError(
            f"{name} is {values.shape[1]}x{values.shape[0]} pixels, its image '{path}' "
            f"{image.shape[2]}x{image.shape[1]}; both must have the same size."
        )
