"""Samples from folders of images, one per class, and of masks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from captum_softcam._fit import Fit
from captum_softcam._names import as_text, shown
from captum_softcam.data._disk.files import ENDINGS, list_images, without_ending
from captum_softcam.data._disk.pairs import Pictures, list_pictures, pair_masks, unlike
from captum_softcam.data._pixels.images import Reading
from captum_softcam.data._pixels.masks import MaskFiles
from captum_softcam.data.class_folders import read_class_folders
from captum_softcam.data.inventory import Found
from captum_softcam.data.samples import UNKNOWN, ImageEntry, MaskedImages

__all__ = ["ImageFolderSamples", "UnlabelledImages"]


class ImageFolderSamples(MaskedImages):
    """Images in one folder per class, with masks named after them, beside them or in another folder.

    The mask of ``images/CLASS/NAME.jpg`` is ``masks/CLASS/NAME.*`` or ``NAME_mask.*``; several, ``NAME_mask_1.*`` and
    ``NAME_mask_2.*``, are united. Other marks are ``_segmentation``, ``_seg``, ``_gt`` and ``_anno``. Masks with a mark may
    lie beside their images, and are never images there. An image without a mask, or with a black one, has nothing to
    localise. A pixel belongs to a mask if its value is above 0; of a mask whose values crowd at both ends of their range, as
    JPEG leaves them, if it is above half of it. Samples alternate between the classes, so that the first few are a balanced
    choice.

    Links are followed, hidden files are ignored, and all other files that are not used are listed in ``found``.

    Args:
        images (path): the folder of class folders.
        masks (path): the folder of mask folders. Default: masks beside the images, if there are some
        size (int): side of the samples in pixels. Default: 224
        classes (sequence of str): all classes of the model in the order of its logits; folders are named after them, those
            of ImageNet's classes also by their WordNet ids, or all by their numbers. Default: the folders, sorted
        fit (Fit): how images become square. Default: they are resized as a whole
        reading (Reading): how the files are read. Default: as they are

    Raises:
        FileNotFoundError: if a folder is missing or holds no images.
        PermissionError: if a folder may not be read.
        ValueError: if a folder's name is not a class or that of several, two folders are one class, the folders are splits
            (``train``, ``test``), an image has two candidates for a mask or a mask two for an image, or no image has a mask.
            Reading a sample raises it for an unreadable image or mask, and for a mask that has another size than its image.

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
        fit: Fit = Fit(),
        reading: Reading = Reading(),
    ) -> None:
        root, mask_root = Path(images), None if masks is None else Path(masks)
        pictures = list_pictures(root, mask_root)
        names, labels = read_class_folders(pictures, classes, root)
        pairs, found = _masks(pictures, list(labels), root, mask_root)
        super().__init__(_entries(root, labels, pairs, reading), names, size, fit, reading, found)


class UnlabelledImages(MaskedImages):
    """All images below one folder, without classes.

    Their ``target`` is -1, unknown; they can be compared with ``explain="predicted"``, which explains the class that the
    model predicts.

    Args:
        images (path): the folder.
        masks (path): the folder of masks, which are found as those of :class:`ImageFolderSamples` are. Default: masks beside
            the images, if there are some
        size (int): side of the samples in pixels. Default: 224
        classes (sequence of str): names in the order of the model's logits. Default: none
        fit (Fit): how images become square. Default: they are resized as a whole
        reading (Reading): how the files are read. Default: as they are

    Raises:
        FileNotFoundError: if a folder is missing or holds no images.
        PermissionError: if a folder may not be read.
        ValueError: if an image has two candidates for a mask or a mask two for an image, or no image has a mask; reading a
            sample raises it as that of :class:`ImageFolderSamples` does.

    Example::

        >>> samples = UnlabelledImages("scans")
        >>> samples[0].target, samples[0].identifier
        (-1, 'a.png')
    """

    def __init__(
        self,
        images: str | Path,
        masks: str | Path | None = None,
        size: int = 224,
        classes: Sequence[str] = (),
        fit: Fit = Fit(),
        reading: Reading = Reading(),
    ) -> None:
        root, mask_root = Path(images), None if masks is None else Path(masks)
        pictures = list_pictures(root, mask_root)
        if not pictures.names:
            raise FileNotFoundError(f"image folder '{shown(root)}' holds no image ({', '.join(ENDINGS)}).")
        pairs, found = _masks(pictures, pictures.names, root, mask_root)
        entries = _entries(root, dict.fromkeys(pictures.names, UNKNOWN), pairs, reading)
        super().__init__(entries, classes, size, fit, reading, found)


def _entries(
    root: Path, labels: Mapping[str, int], masks: Mapping[str, tuple[Path, ...]], reading: Reading
) -> Iterator[ImageEntry]:
    for name, label in labels.items():
        file, paths = root / name, masks.get(name)
        yield ImageEntry(file, label, as_text(name), None if paths is None else MaskFiles(paths, file, reading))


def _masks(
    pictures: Pictures, names: Sequence[str], images: Path, masks: Path | None
) -> tuple[dict[str, tuple[Path, ...]], Found]:
    """Return the masks of the samples ``names``, beside them or in a folder of their own, and what there is besides."""
    if masks is None or os.path.realpath(masks) == os.path.realpath(images):
        root, stems, expected = images, pictures.beside, "_mask.png"
        others: dict[str, list[str]] = {}
    else:
        listing = list_images(masks, "mask folder")
        root, stems, expected = masks, {name: without_ending(name) for name in listing.images}, ".png"
        others = {**listing.left_out, "mask beside its image, not in the folder of masks": list(pictures.beside)}
    pairs = pair_masks(names, stems, images, root)
    if masks is not None and not pairs:  # a wrong --masks, which would pass as a data set of healthy images
        example = root / (without_ending(names[0]) + expected)
        raise ValueError(
            f"mask folder '{shown(root)}' has no mask for any image; expected e.g. '{shown(example)}'"
            f"{unlike(next(iter(stems), None))}."
        )
    used = {name for each in pairs.values() for name in each}
    others["mask without image"] = [name for name in stems if name not in used]
    number = len(stems) + (len(pictures.beside) if stems is not pictures.beside else 0)
    found = Found(pictures.files, number, _joined(pictures.left_out_but(names), others))
    return {picture: tuple(root / name for name in each) for picture, each in pairs.items()}, found


def _joined(*parts: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    joined: dict[str, list[str]] = {}
    for what, names in (pair for part in parts for pair in part.items()):
        if names:
            joined.setdefault(what, []).extend(names)
    return joined
