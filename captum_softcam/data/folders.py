"""Samples from folders of images, one per class, and of masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from captum_softcam._fit import Fit
from captum_softcam._imagenet import other_names
from captum_softcam._names import closest, listed, shown
from captum_softcam.data.files import ENDINGS, class_folders, existing_folder, image_files
from captum_softcam.data.images import Reading
from captum_softcam.data.masks import MaskFiles
from captum_softcam.data.samples import UNKNOWN, ImageEntry, MaskedImages, class_numbers

__all__ = ["ImageFolderSamples", "UnlabelledImages"]


class ImageFolderSamples(MaskedImages):
    """Images in one folder per class, with masks of the same relative names in another tree.

    ``images/CLASS/NAME.jpg`` belongs to ``masks/CLASS/NAME.*``; an image without a mask, or with a
    black one, has nothing to localise. A mask is
    true wherever a pixel of it is not zero, and keeps its small regions when it shrinks. Samples alternate between the
    classes, so that the first few are a balanced choice.

    Args:
        images (path): the folder of class folders.
        masks (path): the folder of mask folders. Default: no masks
        size (int): side of the samples in pixels. Default: 224
        classes (sequence of str): all classes of the model in the order of its logits; a folder is named after one of them
            or by its number, those of ImageNet's classes also by their WordNet ids. Default: the folders, sorted
        fit (Fit): how images become square. Default: they are resized as a whole
        reading (Reading): how the files are read. Default: as they are

    Raises:
        FileNotFoundError: if a folder is missing or holds no images.
        ValueError: if a folder's name is not a class or that of several, or no image has a mask. Reading a sample raises it
            for an unreadable image or mask, and for a mask that has another size than its image; no image is skipped.

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
        root = Path(images)
        folders = class_folders(root)
        names = tuple(folders) if classes is None else tuple(classes)
        numbers = {**other_names(names), **class_numbers(names)}
        labels = {name: _class_index(name, numbers, names, root) for name in folders}
        labelled = {file: labels[name] for name, files in folders.items() for file in files}
        found = {} if masks is None else _mask_files(Path(masks), root, list(labelled))
        entries = (_entry(file, root, label, found.get(file), reading) for file, label in labelled.items())
        super().__init__(entries, names, size, fit, reading)


class UnlabelledImages(MaskedImages):
    """All images below one folder, without classes.

    Their ``target`` is -1, unknown; they can be compared with ``explain="predicted"``, which explains the class that the
    model predicts.

    Args:
        images (path): the folder.
        masks (path): the folder of masks of the same relative names, whatever the ending. Default: no masks
        size (int): side of the samples in pixels. Default: 224
        classes (sequence of str): names in the order of the model's logits. Default: none
        fit (Fit): how images become square. Default: they are resized as a whole
        reading (Reading): how the files are read. Default: as they are

    Raises:
        FileNotFoundError: if a folder is missing or holds no images.
        ValueError: if no image has a mask; reading a sample raises it as that of :class:`ImageFolderSamples` does.

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
        root = existing_folder(Path(images), "image folder")
        files = image_files(root)
        if not files:
            raise FileNotFoundError(f"image folder '{shown(root)}' holds no image ({', '.join(ENDINGS)}).")
        found = {} if masks is None else _mask_files(Path(masks), root, files)
        entries = [_entry(file, root, UNKNOWN, found.get(file), reading) for file in files]
        super().__init__(entries, classes, size, fit, reading)


def _entry(file: Path, root: Path, label: int, mask: Path | None, reading: Reading) -> ImageEntry:
    identifier = file.relative_to(root).as_posix()
    return ImageEntry(file, label, identifier, None if mask is None else MaskFiles((mask,), file, reading))


def _class_index(name: str, numbers: Mapping[str, int], classes: Sequence[str], root: Path) -> int:
    places = [place for place, each in enumerate(classes) if each == name]
    if len(places) > 1:  # the first of them would get the images of both
        raise ValueError(
            f"folder '{shown(root / name)}' could be {len(places)} of the model's classes, numbers {listed(places)}; "
            "name the folder by its number."
        )
    # the name first, because a class may be called by a number that is not its place
    if name in numbers:
        return numbers[name]
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise ValueError(
        f"folder '{shown(root / name)}' is none of the model's {len(classes)} classes; name the folders after the classes "
        f"or number them from 0 to {len(classes) - 1}. {closest(name, classes)}"
    )


def _mask_files(root: Path, images: Path, files: list[Path]) -> dict[Path, Path]:
    """Return the mask of every image that has one: the file of the same relative name, whatever the ending."""
    existing_folder(root, "mask folder")
    by_name = {path.relative_to(root).with_suffix(""): path for path in image_files(root)}  # masks are often PNG beside JPEG
    pairs = {file: by_name.get(file.relative_to(images).with_suffix("")) for file in files}
    found = {file: mask for file, mask in pairs.items() if mask is not None}
    if not found:  # a wrong --masks, which would pass as a data set of healthy images
        expected = files[0].relative_to(images).with_suffix(".png")
        raise ValueError(f"mask folder '{shown(root)}' has no mask for any image; expected e.g. '{shown(root / expected)}'.")
    return found
