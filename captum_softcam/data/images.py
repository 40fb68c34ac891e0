"""Read the user's images as one sees them; every error names the file."""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import IO, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin
from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam._names import quoted, reason, shown
from captum_softcam.data.files import existing_file
from captum_softcam.data.medical import medical_format, read_medical

__all__ = [
    "Fit",
    "Reading",
    "exif_hint",
    "image_shape",
    "open_image",
    "orientation_of",
    "quarter_turn",
    "read_image",
    "upright",
]

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, whatever the ending: Pillow by itself would run Ghostscript for PostScript named ``a.png``."""

_ORIENTATION = 0x0112
_TURNS = {  # of stored pixels to upright ones, by the number in EXIF
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ONE_AT_A_TIME = Lock()

_Value = TypeVar("_Value", bound=np.generic)
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Reading:
    """How the files of images and masks are read.

    Args:
        window (tuple of float): values of a picture of more than 8 bits that become black and white. Default: the file's own
            range
        max_pixels (int): most pixels of an image file. Default: Pillow's limit against files made to fill the memory, about
            179 million
        threshold (float): fraction of a mask's range above which a pixel belongs to it, from 0 up to 1. Default: every value
            above 0
        ignore (int): value of a mask that marks pixels to leave out of it. Default: none

    Raises:
        ValueError: if a setting is out of range.

    Example::

        >>> Reading(window=(0, 4095)).window
        (0, 4095)
    """

    window: tuple[float, float] | None = None
    max_pixels: int | None = None
    threshold: float | None = None
    ignore: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and not _is_window(self.window):
            raise ValueError(
                f"window is the value that becomes black and a greater one that becomes white; got {quoted(self.window)}."
            )
        if self.max_pixels is not None and self.max_pixels < 1:
            raise ValueError(f"max_pixels is a number of pixels, at least 1; got {quoted(self.max_pixels)}.")
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise ValueError(f"threshold is a fraction of a mask's range, from 0 up to 1; got {quoted(self.threshold)}.")
        if self.ignore is not None and not isinstance(self.ignore, int):
            raise ValueError(f"ignore is a value of a mask, a whole number; got {quoted(self.ignore)}.")


def read_image(path: str | Path, size: int | None = None, fit: Fit = Fit(), reading: Reading = Reading()) -> Tensor:
    """Read an image file as RGB, upright as its EXIF orientation says; transparency is dropped.

    Args:
        path (path): the file: JPEG, PNG, TIFF, WebP, BMP, GIF, JPEG 2000, PPM or DICOM, by its content, or NIfTI.
        size (int): side in pixels of the square that the image becomes. Default: its own size
        fit (Fit): how it becomes square. Default: the whole image is resized
        reading (Reading): how the file is read. Default: as it is

    Returns:
        Tensor: (3, H, W), float32 in [0, 1]; of a NIfTI volume (C, D, H, W), from the feet to the head (D), from the back to
        the front (H), and from the left to the right (W) of the patient.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if pydicom or nibabel is missing, ``pip install 'captum-softcam[medical]'``.
        ValueError: if it cannot be read as an image of 8 bits per channel, or holds more pixels than ``reading`` allows.
    """
    path = Path(path)
    if medical_format(path):
        image = read_medical(path, "image", reading.window, reading.max_pixels)
    else:
        pixels = np.array(open_image(path, "image", "RGB", reading))
        image = torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)
    return image if size is None else fit.image(image, size)


def open_image(path: Path, kind: str, mode: str | None = None, reading: Reading = Reading()) -> Image.Image:
    """Read a whole image file, and turn it upright.

    Args:
        path (path): the file; its content decides on the format, which has to be one of ``FORMATS``.
        kind (str): what the error message calls a missing or broken file.
        mode (str): mode of Pillow to convert to; ``"RGB"`` requires 8 bits per channel. Default: the file's own
        reading (Reading): how the file is read. Default: as it is
    """
    existing_file(path, kind)
    limit = _most_pixels(reading)
    try:
        image = _quietly(partial(_decoded, path, mode, limit))
    except Exception as error:  # a broken file makes Pillow raise almost anything
        raise ValueError(f"{kind} '{shown(path)}' cannot be read ({reason(error)}); repair or remove it.") from error
    _check_pixels(image.width * image.height, limit, f"{kind} '{shown(path)}'")
    deep = mode == "RGB" and image.mode != mode
    if deep:
        raise ValueError(
            f"{kind} '{shown(path)}' has more than 8 bits per channel (mode {image.mode}); convert it to 8 bits."
        )
    return image


def image_shape(path: Path, reading: Reading = Reading(), *, turned: bool = True) -> tuple[int, ...]:
    """Return height and width of an image from its header.

    Cost: the header is read; of a PNG file that is not square perhaps the whole, unless ``turned`` is False.

    Args:
        path (path): the file.
        reading (Reading): how the file is read. Default: as it is
        turned (bool): whether the shape is that of the upright image; False for that of the stored pixels. Default: True

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for what :func:`read_image` refuses, as far as the header shows it.
    """
    existing_file(path, "image")
    try:
        height, width = _quietly(partial(_stored_shape, path))
    except Exception as error:  # as in open_image
        raise ValueError(f"image '{shown(path)}' cannot be read ({reason(error)}); repair or remove it.") from error
    _check_pixels(height * width, _most_pixels(reading), f"image '{shown(path)}'")
    return (width, height) if turned and height != width and orientation_of(path) >= 5 else (height, width)


def orientation_of(file: Path) -> int:
    """Return how the pixels of an image file are stored, 1 to 8 as in EXIF; 1, upright, if it does not say, or is no image.

    Cost: the header is read, of a PNG file perhaps the whole.
    """
    with suppress(Exception):
        return _quietly(partial(_stated_orientation, file))
    return 1


def upright(values: NDArray[_Value], orientation: int) -> NDArray[_Value]:
    """Return stored pixels (H, W, …) as one sees them, by the number of their orientation in EXIF."""
    match orientation:
        case 2:
            values = values[:, ::-1]
        case 3:
            values = values[::-1, ::-1]
        case 4:
            values = values[::-1]
        case 5:
            values = values.swapaxes(0, 1)
        case 6:
            values = np.rot90(values, -1)
        case 7:
            values = values[::-1, ::-1].swapaxes(0, 1)
        case 8:
            values = np.rot90(values)
    return np.ascontiguousarray(values)  # torch takes no negative strides


def quarter_turn(size: tuple[int, ...], image: Tensor, file: Path) -> int:
    """Return the orientation of the pixels that an annotation was drawn on; 1 if on what one sees, or if neither fits.

    Args:
        size (tuple of int): height and width that the annotation states.
        image (Tensor): (3, H, W), upright.
        file (path): its file.
    """
    if size == tuple(image.shape[1:]) or size[::-1] != tuple(image.shape[1:]):
        return 1
    orientation = orientation_of(file)
    return orientation if orientation >= 5 else 1  # the others do not exchange width and height


def exif_hint(file: Path) -> str:
    """Return a sentence for errors about sizes if the image file states an orientation, else nothing."""
    orientation = orientation_of(file)
    if orientation == 1:
        return ""
    return f" The image is stored turned (EXIF orientation {orientation}), which may be the cause."


def _is_window(window: tuple[float, float]) -> bool:
    try:
        low, high = window
        return math.isfinite(low) and math.isfinite(high) and low < high
    except (TypeError, ValueError):
        return False


def _quietly(read: Callable[[], _Result]) -> _Result:
    """Read a file although Pillow warns of damage beside the pixels, such as in EXIF, and warnings are errors."""
    try:
        return read()
    except Warning:
        # the filters are those of all threads, therefore only where it has to be
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()


def _decoded(path: Path, mode: str | None, limit: float) -> Image.Image:
    """Return an image, upright and in another mode, or only its header if it has too many pixels."""
    with open(path, "rb") as stream:
        file = _recognised(stream)
        if file.width * file.height > limit:
            return file
        file.load()
        # Pillow turns TIFF itself
        turn = None if file.format == "TIFF" else _TURNS.get(_orientation(file))
        image = file if turn is None else file.transpose(turn)
        if mode is None or (mode == "RGB" and image.mode.startswith(("I", "F"))):  # Pillow would cut what is above 255
            return image
        image.info.pop("transparency", None)  # dropped; Pillow would warn where it lies in a palette
        return image.convert(mode)


def _check_pixels(pixels: int, limit: float, name: str) -> None:
    if pixels > limit:
        raise ValueError(
            f"{name} has {pixels} pixels, more than {limit}; make it smaller, because the map of a network is far coarser, "
            f"or lift the limit by Reading(max_pixels={pixels}), on the command line --max-pixels {pixels}."
        )


def _stored_shape(path: Path) -> tuple[int, int]:
    with open(path, "rb") as stream:
        file = _recognised(stream)
        if isinstance(file, TiffImagePlugin.TiffImageFile):  # newer versions of Pillow give the size of the upright image
            return file.tag_v2[TiffImagePlugin.IMAGELENGTH], file.tag_v2[TiffImagePlugin.IMAGEWIDTH]
        return file.height, file.width


def _stated_orientation(path: Path) -> int:
    with open(path, "rb") as stream:
        return _orientation(_recognised(stream))


def _recognised(stream: IO[bytes]) -> ImageFile.ImageFile:
    """Return an image file whose pixels are not read yet."""
    # Not Image.open, whose limit on pixels can only be lifted for all threads of the process.
    prefix = stream.read(16)
    Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        fits = accept is None or accept(prefix)
        if fits and not isinstance(fits, str):  # a text says that Pillow was built without this format
            stream.seek(0)
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # as Image.open does
                return factory(stream, "")
    raise ValueError("it is not an image of a known format")


def _most_pixels(reading: Reading) -> float:
    if reading.max_pixels is not None:
        return reading.max_pixels
    # Pillow warns of files above its limit, and refuses those of twice as many pixels
    return math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def _orientation(image: Image.Image) -> int:
    try:
        value: Any = image.getexif().get(_ORIENTATION, 1)
    except Warning:
        raise
    except Exception:  # a damaged block does not concern the pixels
        return 1
    return int(value) if isinstance(value, int) and value in _TURNS else 1
