"""Samples from the user's own folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from captum_softcam._names import shown
from captum_softcam.data.classes import numbered
from captum_softcam.data.images import check_same_size, class_folders, existing_folder, image_files, open_image
from captum_softcam.data.masked_images import ImageEntry, MaskedImages

__all__ = ["ImageFolderSamples"]


class ImageFolderSamples(MaskedImages):
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
        root = Path(images)
        folders = {folder.name: image_files(folder) for folder in class_folders(root)}
        if not any(folders.values()):
            raise FileNotFoundError(f"no class folder of '{shown(root)}' holds an image ({', '.join(IMG_EXTENSIONS)}).")
        names = tuple(folders) if classes is None else tuple(classes)
        numbers = numbered(names)
        labels = {name: _class_index(name, numbers, root) for name in folders}
        labelled = {file: labels[name] for name, files in folders.items() for file in files}
        found = {} if masks is None else _mask_files(Path(masks), root, list(labelled))
        super().__init__((_entry(file, root, label, found.get(file)) for file, label in labelled.items()), names, size)


def _entry(file: Path, root: Path, label: int, mask: Path | None) -> ImageEntry:
    identifier = file.relative_to(root).as_posix()
    return ImageEntry(file, label, identifier, None if mask is None else partial(_read_mask, mask, file))


def _class_index(name: str, classes: Mapping[str, int], root: Path) -> int:
    if name in classes:
        return classes[name]
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise ValueError(
        f"folder '{shown(root / name)}' is none of the model's {len(classes)} classes; name the folders after the classes "
        f"or number them from 0 to {len(classes) - 1}."
    )


def _mask_files(root: Path, images: Path, files: list[Path]) -> dict[Path, Path]:
    """The mask of every image that has one: the same relative name, whatever the ending."""
    existing_folder(root, "mask folder")
    by_name = {path.relative_to(root).with_suffix(""): path for path in image_files(root)}
    pairs = {file: by_name.get(file.relative_to(images).with_suffix("")) for file in files}
    found = {file: mask for file, mask in pairs.items() if mask is not None}
    if not found:
        expected = files[0].relative_to(images).with_suffix(".png")
        raise ValueError(
            f"mask folder '{shown(root)}' has no mask for any image; expected for instance '{shown(root / expected)}'."
        )
    return found


def _read_mask(path: Path, image_path: Path, image: Tensor) -> Tensor:
    """A mask file as (1, H, W) bool, checked against its image (3, H, W)."""
    values: np.ndarray[Any, Any] = np.asarray(open_image(path, "mask", "L"))
    check_same_size(values, f"mask '{shown(path)}'", image, image_path)
    if not values.any():
        raise ValueError(f"mask '{shown(path)}' is empty; take the file away if the image has nothing to localise.")
    return torch.from_numpy(values > 0)[None]
