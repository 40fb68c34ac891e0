"""Samples from the user's own folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from captum_softcam.data.samples import Sample

__all__ = ["ImageFolderSamples", "read_image"]


class ImageFolderSamples(Dataset[Sample]):
    """Images in one folder per class, with masks of the same relative names in another tree.

    ``images/CLASS/NAME.jpg`` goes with ``masks/CLASS/NAME.*``; an image without a mask has nothing to localise. Images
    are resized to a square, as a whole; a mask is true wherever a pixel of it is not zero, and keeps its small regions
    when it shrinks. Samples come class by class in turn, so that the first few are a balanced choice.

    Args:
        images (path): the folder of class folders.
        masks (path): the folder of mask folders. Default: no masks
        size (int): side of the samples in pixels. Default: 224
        classes (sequence of str): all classes of the model in the order of its logits; a folder may bear a name or a
            number from it. Default: the folders, sorted

    Raises:
        FileNotFoundError: if a folder is missing or holds no images.
        ValueError: if a folder's name is no class, or no image has a mask. Reading a sample raises it for an unreadable
            image or mask, and for a mask that is empty or has another size than its image; nothing is skipped in silence.

    Example::

        >>> samples = ImageFolderSamples("images", "masks")
        >>> samples[0].image.shape, samples[0].identifier
        (torch.Size([3, 224, 224]), 'cat/1.jpg')
    """

    def __init__(
        self,
        images: str | Path,
        masks: str | Path | None = None,
        size: int = 224,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.root = Path(images)
        self.size = size
        folders = {folder.name: image_files(folder) for folder in class_folders(self.root)}
        if not any(folders.values()):
            raise FileNotFoundError(f"no class folder of '{self.root}' holds an image ({', '.join(IMG_EXTENSIONS)}).")
        self.classes = tuple(classes) if classes is not None else tuple(folders)
        labels = {name: _class_index(name, self.classes, self.root) for name in folders}
        turns = zip_longest(*([(file, labels[name]) for file in files] for name, files in folders.items()))
        self._files = [entry for turn in turns for entry in turn if entry is not None]
        self._masks = {} if masks is None else _mask_files(Path(masks), self.root, [file for file, _ in self._files])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        file, target = self._files[index]
        image = read_image(file)
        mask = _read_mask(self._masks[file], file, image) if file in self._masks else None
        return Sample(
            image=_resize(image, self.size),
            target=target,
            mask=None if mask is None else adaptive_max_pool2d(mask.float(), self.size) > 0,
            identifier=file.relative_to(self.root).as_posix(),
        )

    @property
    def masked(self) -> int:
        """Number of images that have a mask."""
        return len(self._masks)


def read_image(path: str | Path, size: int | None = None) -> Tensor:
    """An image file as (3, H, W) in [0, 1], resized to a square of ``size`` pixels if given.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as an image of 8 bits per channel.
    """
    file = _open(Path(path), "image")
    if file.mode.startswith(("I", "F")):  # Pillow would cut what is above 255
        raise ValueError(f"image '{path}' has more than 8 bits per channel (mode {file.mode}); convert it to 8 bits.")
    image = pil_to_tensor(file.convert("RGB")).float() / 255
    return image if size is None else _resize(image, size)


def _open(path: Path, kind: str) -> Image.Image:
    if not path.is_file():
        raise FileNotFoundError(f"{kind} '{path}' is not a file.")
    try:
        with Image.open(path) as file:
            file.load()
            return file
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{kind} '{path}' cannot be read ({error}); repair it or take it away.") from error


def _resize(image: Tensor, size: int) -> Tensor:
    return resize(image, [size, size], antialias=True).clamp(0, 1)


def class_folders(root: Path) -> list[Path]:
    """The folders below ``root``, hidden ones left out, sorted; FileNotFoundError if there are none."""
    if not root.is_dir():
        raise FileNotFoundError(f"image folder '{root}' is not a directory.")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise FileNotFoundError(f"image folder '{root}' has no class folders; expected '{root}/CLASS/IMAGE'.")
    return folders


def image_files(folder: Path) -> list[Path]:
    """All image files below ``folder``, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)


def _class_index(name: str, classes: tuple[str, ...], root: Path) -> int:
    if name in classes:
        return classes.index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise ValueError(
        f"folder '{root / name}' is none of the model's {len(classes)} classes; name the folders after the classes or "
        f"number them from 0 to {len(classes) - 1}."
    )


def _mask_files(root: Path, images: Path, files: list[Path]) -> dict[Path, Path]:
    """The mask of every image that has one: the same relative name, whatever the ending."""
    if not root.is_dir():
        raise FileNotFoundError(f"mask folder '{root}' is not a directory.")
    by_name = {path.relative_to(root).with_suffix(""): path for path in sorted(_files(root))}
    pairs = {file: by_name.get(file.relative_to(images).with_suffix("")) for file in files}
    found = {file: mask for file, mask in pairs.items() if mask is not None}
    if not found:
        expected = files[0].relative_to(images).with_suffix(".png")
        raise ValueError(f"mask folder '{root}' has no mask for any image; expected for instance '{root / expected}'.")
    return found


def _files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)


def _read_mask(path: Path, image_path: Path, image: Tensor) -> Tensor:
    """A mask file as (1, H, W) bool, checked against its image (3, H, W)."""
    values: np.ndarray[Any, Any] = np.asarray(_open(path, "mask").convert("L"))
    if values.shape != tuple(image.shape[1:]):
        raise ValueError(
            f"mask '{path}' is {values.shape[1]}x{values.shape[0]} pixels, its image '{image_path}' "
            f"{image.shape[2]}x{image.shape[1]}; both must have the same size."
        )
    if not values.any():
        raise ValueError(f"mask '{path}' is empty; take the file away if the image has nothing to localise.")
    return torch.from_numpy(values > 0)[None]
