"""Read the user's images; every error names the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam._names import reason, shown
from captum_softcam.data.files import existing_file

__all__ = ["Fit", "Reading", "open_image", "read_image"]

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, whatever the ending: Pillow by itself would run Ghostscript for PostScript named ``a.png``."""


@dataclass(frozen=True)
class Reading:
    """How the files of images and masks are read.

    Args:
        window (tuple of float): values of a picture of more than 8 bits that become black and white. Default: the file's own
            range
        max_pixels (int): most pixels of an image file. Default: Pillow's limit against files made to fill the memory
        threshold (float): fraction of a mask's range above which a pixel belongs to it, from 0 up to 1. Default: every value
            above 0
        ignore (int): value of a mask that marks pixels to leave out of it. Default: none
    """

    window: tuple[float, float] | None = None
    max_pixels: int | None = None
    threshold: float | None = None
    ignore: int | None = None


def read_image(path: str | Path, size: int | None = None, fit: Fit = Fit(), reading: Reading = Reading()) -> Tensor:
    """Read an image file as RGB; transparency is dropped.

    Args:
        path (path): the file: JPEG, PNG, TIFF, WebP, BMP, GIF, JPEG 2000 or PPM, by its content.
        size (int): side in pixels of the square that the image becomes. Default: its own size
        fit (Fit): how it becomes square. Default: the whole image is resized
        reading (Reading): how the file is read. Default: as it is

    Returns:
        Tensor: (3, H, W), float32 in [0, 1].

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as an image of 8 bits per channel, or holds more pixels than a photograph has.
    """
    pixels = np.array(open_image(Path(path), "image", "RGB", reading))
    image = torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)
    return image if size is None else fit.image(image, size)


def open_image(path: Path, kind: str, mode: str | None = None, reading: Reading = Reading()) -> Image.Image:
    """Read a whole image file.

    Args:
        path (path): the file; its content decides on the format, which has to be one of ``FORMATS``.
        kind (str): what the error message calls a missing or broken file.
        mode (str): mode of Pillow to convert to; ``"RGB"`` requires 8 bits per channel. Default: the file's own
        reading (Reading): how the file is read. Default: as it is
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
