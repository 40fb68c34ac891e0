"""Image files and folders as one names them, without classes and masks, to be explained."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam._names import as_text, shown
from captum_softcam.data._disk.files import ENDINGS, existing_file
from captum_softcam.data._disk.pairs import list_pictures
from captum_softcam.data._pixels.images import Reading, read_image
from captum_softcam.data.inventory import Found
from captum_softcam.data.samples import UNKNOWN, ImageEntry, MaskedImages

__all__ = ["PictureFiles"]


class PictureFiles(MaskedImages):
    """Image files, and all images below folders, in the order in which they are named.

    In folders, images are found as by :class:`UnlabelledImages`; masks beside them are not used. A file that is named twice
    is there once. Images are named relative to the folder, or to the innermost one that contains all files and folders.

    Args:
        paths (path or sequence of path): files and folders.
        size (int): side of the samples in pixels. Default: 224
        fit (Fit): how images become square. Default: they are resized as a whole
        reading (Reading): how the files are read. Default: as they are

    Raises:
        FileNotFoundError: if a path is neither a file nor a folder, or a folder holds no images.
        PermissionError: if a folder may not be read.
        TypeError: if something else than paths is passed, such as an array.
        ValueError: if there are no paths. Reading a sample raises it for an unreadable image.

    Example::

        >>> PictureFiles("scans")[0].identifier
        'a.png'
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        size: int = 224,
        fit: Fit = Fit(),
        reading: Reading = Reading(),
    ) -> None:
        given: list[Any] = list(paths) if isinstance(paths, Iterable) and not isinstance(paths, str) else [paths]
        if wrong := [path for path in given if not isinstance(path, str | os.PathLike)]:
            raise TypeError(
                f"pictures are image files and folders; got {type(wrong[0]).__name__}. For one in memory, attribute "
                "classifier.prepare(picture) and draw it with plot_overlay."
            )
        # normalised, so that a file that is named twice is recognised
        named = [Path(os.path.normpath(path)) for path in given]
        folders = [os.path.abspath(path if os.path.isdir(path) else path.parent) for path in named]
        base = os.path.commonpath(folders) if folders else ""
        left_out: dict[str, list[str]] = {}
        found = dict(pair for path in named for pair in _named(path, base, left_out))
        self.files = list(found)
        """The paths, in the order of the samples."""
        entries = [ImageEntry(file, UNKNOWN, as_text(name)) for file, name in found.items()]
        number = len(found) + sum(map(len, left_out.values()))
        super().__init__(entries, (), size, fit, reading, Found(number, 0, left_out))

    def picture(self, index: int) -> Tensor:
        """Read an image in its own size.

        Args:
            index (int): of the sample.

        Returns:
            Tensor: (3, H, W) in [0, 1], upright.

        Raises:
            FileNotFoundError: if there is no such file any more.
            ImportError: if the extra of its format is missing.
            ValueError: if it cannot be read as an image, or is a volume.
        """
        file = self.files[index]
        picture = read_image(file, reading=self.reading)
        if picture.dim() != 3:
            raise ValueError(
                f"image '{shown(file)}' is a volume of {'x'.join(map(str, picture.shape[1:]))} voxels, not a picture; save "
                "the slices to explain as files of their own."
            )
        return picture


def _named(path: Path, base: str, left_out: dict[str, list[str]]) -> Iterator[tuple[Path, str]]:
    """Yield each image that a path stands for, and its name relative to the folder ``base``."""
    if not os.path.isdir(path):
        yield existing_file(path, "image"), os.path.relpath(path, base)
        return
    pictures = list_pictures(path)
    if not pictures.names:
        raise FileNotFoundError(f"image folder '{shown(path)}' holds no image ({', '.join(ENDINGS)}).")
    inner = os.path.relpath(path, base)
    prefix = "" if inner == os.curdir else f"{inner}/"
    for why, names in {**pictures.left_out, "mask beside its image": list(pictures.beside)}.items():
        left_out.setdefault(why, []).extend(prefix + name for name in names)
    for name in pictures.names:
        yield path / name, prefix + name
