"""Read the user's images as one sees them; every error names the file."""

from __future__ import annotations

import math
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam._names import quoted
from captum_softcam.data._disk.files import existing_file
from captum_softcam.data._pixels.decoding import naming, quietly
from captum_softcam.data._pixels.greys import check_pixels, own_range, spread
from captum_softcam.data._pixels.headers import Header, read_header, recognised, stated_orientation
from captum_softcam.data._pixels.medical import medical_format, medical_size, read_medical

__all__ = [
    "Fit",
    "Reading",
    "decoded_orientation",
    "exif_hint",
    "image_shape",
    "open_image",
    "orientation_of",
    "quarter_turn",
    "read_image",
    "turned_upright",
    "upright",
    "warn_of_own_range",
]

_TURNS = {  # of stored pixels to upright ones, by the number in EXIF
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_OWN_RANGE = (
    "an image of more than 8 bits has no window: its lowest value is black and its highest one white, in each file by "
    "itself; pass window=(LOW, HIGH) of Reading (--window LOW,HIGH) to show all files alike."
)
_NO_WINDOW = "an image of 8 bits or in colour is read as it is; the window (--window) is for greys of more than 8 bits."
_UPPER_BITS = "an image of 16 bits per channel that is not plain grey is read with the upper 8 bits of each channel."
_FIRST_PAGE = "a file has several pages or frames, of which the first is read."
_NOT_A_NUMBER = "an image has pixels that are not a number (NaN); they are black."

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True)
class Reading:
    """How the files of images and masks are read.

    Args:
        window (tuple of float): values of an image of more than 8 bits that become black and white. Default: the file's own
            range
        max_pixels (int): most pixels of an image file. Default: Pillow's limit against files made to fill the memory, about
            179 million
        threshold (float): fraction of the range of a mask's type above which a pixel belongs to it, from 0 up to 1; that
            range is 255 for 8 bits, 65535 for more, and 1 for floating point. Default: every value above 0, or, where values
            crowd at both ends of their range, every one above half of it
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

    Greys of more than 8 bits, among them floating-point numbers, become [0, 1] by the window of ``reading``; NaN is black.
    What is not expected of a file, such as several pages, is said by a warning.

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
        ValueError: if it cannot be read as an image, or holds more pixels than ``reading`` allows.
    """
    path = Path(path)
    if medical_format(path):
        image = read_medical(path, "image", reading.window, reading.max_pixels)
    else:
        file = open_image(path, "image", "RGB", reading)
        if file.mode == "RGB":
            image = torch.from_numpy(np.array(file)).permute(2, 0, 1).float().div_(255)
        else:
            image = _shades(file, path, reading.window)
    return image if size is None else fit.image(image, size)


def open_image(path: Path, kind: str, mode: str | None = None, reading: Reading = Reading()) -> Image.Image:
    """Read a whole image file, and turn it upright.

    Args:
        path (path): the file; its content decides on the format, which has to be one of ``FORMATS``.
        kind (str): what the error message calls a missing or broken file.
        mode (str): mode of Pillow to convert to; ``"RGB"`` leaves greys of more than 8 bits as they are. Default: the file's
            own
        reading (Reading): how the file is read. Default: as it is
    """
    header = _header(path, kind, reading)
    _warn(header, reading, greys=mode == "RGB")
    with naming(path, kind):
        return quietly(partial(_decoded, path, mode, header.orientation))


def image_shape(path: Path, reading: Reading = Reading()) -> tuple[int, ...]:
    """Return height and width (of volumes depth first) of a file from its header, and warn as :func:`read_image` does.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for what :func:`read_image` refuses, as far as the header shows it.
    """
    if medical_format(path):
        return medical_size(path, "image", reading.window, reading.max_pixels)
    header = _header(path, "image", reading)
    _warn(header, reading, greys=True)
    return (header.width, header.height) if header.orientation >= 5 else (header.height, header.width)


def orientation_of(file: Path) -> int:
    """Return how an image file is stored, 1 to 8 as in EXIF; 1, upright, if it does not say or is not an image."""
    with suppress(Exception):
        return quietly(partial(_read_header, file)).orientation
    return 1


def decoded_orientation(image: Image.Image) -> int:
    """Return how the pixels of an image that is open in Pillow are stored, as :func:`orientation_of` does for files."""
    image.load()  # which turns TIFF
    return quietly(partial(stated_orientation, image))


def turned_upright(image: Image.Image) -> Image.Image:
    """Return an image that is open in Pillow as one sees it."""
    turn = _TURNS.get(decoded_orientation(image))
    return image if turn is None else image.transpose(turn)


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


def _header(path: Path, kind: str, reading: Reading) -> Header:
    """Read the header of a file, or raise ValueError if it is none or states too many pixels."""
    existing_file(path, kind)
    with naming(path, kind):
        header = quietly(partial(_read_header, path))
    check_pixels(header.width * header.height, path, kind, reading.max_pixels)
    return header


def _read_header(path: Path) -> Header:
    with open(path, "rb") as stream:
        return read_header(recognised(stream), stream)


def _decoded(path: Path, mode: str | None, orientation: int) -> Image.Image:
    with open(path, "rb") as stream:
        file = recognised(stream)
        file.load()
        turn = None if file.format == "TIFF" else _TURNS.get(orientation)  # Pillow turns TIFF itself
        image = file if turn is None else file.transpose(turn)
        if mode is None or (mode == "RGB" and image.mode.startswith(("I", "F"))):  # Pillow would cut what is above 255
            return image
        image.info.pop("transparency", None)  # dropped; Pillow would warn where it lies in a palette
        return image.convert(mode)


def _warn(header: Header, reading: Reading, *, greys: bool) -> None:
    """Warn of what is not expected of a file, by texts without its name, so that Python shows each once."""
    if header.pages:
        warnings.warn(_FIRST_PAGE, stacklevel=1)
    if greys and header.cut:
        warnings.warn(_UPPER_BITS, stacklevel=1)
    if greys and header.deep and reading.window is None:
        warn_of_own_range()
    if greys and not header.deep and reading.window is not None:
        warnings.warn(_NO_WINDOW, stacklevel=1)


def warn_of_own_range() -> None:
    """Warn, once, of greys of more than 8 bits that have no window."""
    warnings.warn(_OWN_RANGE, stacklevel=1)


def _shades(file: Image.Image, path: Path, window: tuple[float, float] | None) -> Tensor:
    values: NDArray[Any] = np.asarray(file)
    finite = np.isfinite(values)
    with naming(path, "image"):
        shades = own_range(values, finite) if window is None else spread(values, *window)
    unknown = np.isnan(values)
    if unknown.any():
        warnings.warn(_NOT_A_NUMBER, stacklevel=1)
        shades[unknown] = 0
    return torch.from_numpy(shades).expand(3, -1, -1).contiguous()
