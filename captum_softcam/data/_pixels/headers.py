"""Read the headers of image files: what they are, before their pixels are read."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from typing import IO, Any, NamedTuple

from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

__all__ = ["FORMATS", "Header", "read_header", "recognised", "refuse_other_files", "stated_orientation"]

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, whatever the ending: Pillow by itself would run Ghostscript for PostScript named ``a.png``."""

_FOREIGN = {
    "HEIC": b"....ftyp(hei|hev|mif|msf).*",
    "AVIF": b"....ftypavi.*",
    "JPEG XL": rb"\xff\x0a.*|\0\0\0\x0cJXL .*",
    "PDF": b"%PDF.*",
    "a file of Photoshop": b"8BPS.*",
    "OpenEXR": rb"v/1\x01.*",
}
_NO_IMAGES = {
    "empty": b"",
    "a web page, perhaps of a download that failed": rb"\s*(<!doctype html|<html).*",
    "a pointer of Git LFS: git lfs pull downloads the file": b"version https://.*",
}
"""What else lies in folders of images, by the first 16 bytes."""

_ORIENTATION = 0x0112
_KIND_OF_PAGE, _COPY_OR_MASK = 254, 0b101  # the tag NewSubfileType of TIFF, and its bits
_MOST_COPIES = 20  # pages of a TIFF file that are looked at: smaller copies halve the sides of the image
_MOST_CHUNKS = 100_000  # of a PNG file: a hostile one may have millions


class Header(NamedTuple):
    """What an image file is.

    Args:
        width (int): of the stored pixels.
        height (int): of the stored pixels.
        orientation (int): how they are stored, 1 to 8 as in EXIF; 1, upright, if the file does not say.
        deep (bool): whether greys have more than 8 bits, or are floating-point numbers.
        cut (bool): whether Pillow reads only the upper 8 of 16 bits, because there are colours or transparency.
        pages (bool): whether there are others than the first page or frame.
    """

    width: int
    height: int
    orientation: int
    deep: bool
    cut: bool
    pages: bool


def recognised(stream: IO[bytes]) -> ImageFile.ImageFile:
    """Return an image file whose pixels are not read yet.

    Raises:
        UnidentifiedImageError: if it has a known format that is not read.
        ValueError: if it is no image.
    """
    # Not Image.open, whose limit on pixels can only be lifted for all threads of the process.
    stream.seek(0)
    prefix = stream.read(16)
    Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        fits = accept is None or accept(prefix)
        if fits and not isinstance(fits, str):  # a text says that Pillow was built without this format
            stream.seek(0)
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # as Image.open does
                return factory(stream, "")
    if known := _matching(prefix, _FOREIGN):
        raise UnidentifiedImageError(f"it is {known}")
    refuse_other_files(prefix)
    raise ValueError("it is not an image of a known format")


def refuse_other_files(prefix: bytes) -> None:
    """Raise ValueError if a file is empty or, by its first 16 bytes, one of those that lie in folders of images."""
    if other := _matching(prefix, _NO_IMAGES):
        raise ValueError(f"it is {other}")


def _matching(prefix: bytes, patterns: dict[str, bytes]) -> str:
    """Return what the beginning of a file shows, or nothing."""
    matches = (what for what, start in patterns.items() if re.fullmatch(start, prefix, re.DOTALL | re.IGNORECASE))
    return next(matches, "")


def read_header(file: ImageFile.ImageFile, stream: IO[bytes]) -> Header:
    """Describe an image file whose pixels are not read yet, because Pillow may change all of it when it reads them."""
    width, height = file.size
    if isinstance(file, TiffImageFile):  # its size is that of the upright image, in Pillow 11 and later
        width, height = file.tag_v2[IMAGEWIDTH], file.tag_v2[IMAGELENGTH]
    deep = file.mode.startswith(("I", "F"))
    cut = not deep and any(";16" in str(tile[3]) for tile in file.tile)
    return Header(width, height, stated_orientation(file, stream), deep, cut, _has_more_pages(file, stream))


def stated_orientation(image: Image.Image, stream: IO[bytes] | None = None) -> int:
    """Return how the pixels of an image are stored, 1 to 8 as in EXIF; 1, upright, if it does not say.

    Args:
        image (PIL.Image.Image): the image, or a file whose pixels are not read yet.
        stream (IO): of such a file. Default: none, the pixels were read
    """
    try:
        exif = Image.Image.getexif(image)  # not the method of PNG files, which reads all pixels to find a block behind them
        if stream is not None and image.format == "PNG" and not exif:
            exif.load(_png_chunk(stream, b"eXIf"))
        value: Any = exif.get(_ORIENTATION, 1)
    except Warning:  # if warnings are errors
        raise
    except Exception:  # a damaged block does not concern the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _png_chunk(stream: IO[bytes], kind: bytes) -> bytes:
    """Return the content of the first chunk of a kind, or nothing, and leave the stream where it was."""
    start, found = stream.tell(), b""
    stream.seek(8)
    for _ in range(_MOST_CHUNKS):
        head = stream.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            break
        if head[4:] == kind:
            found = stream.read(int.from_bytes(head[:4], "big"))
            break
        stream.seek(int.from_bytes(head[:4], "big") + 4, 1)  # 4: its checksum
    stream.seek(start)
    return found


def _has_more_pages(file: ImageFile.ImageFile, stream: IO[bytes]) -> bool:
    """Check for pages or frames that one may miss, which smaller copies and masks in TIFF are not."""
    if file.format not in ("GIF", "PNG", "TIFF", "WEBP"):  # a phone's JPEG (MPO) may hold a second picture, of its depth
        return False
    start = stream.tell()
    try:
        # anew if others are looked at, because a damaged page must not stop the first one
        other: Any = file if file.format in ("PNG", "WEBP") else recognised(stream)
        if not isinstance(other, TiffImageFile):
            return bool(getattr(other, "is_animated", False))
        for number in range(1, _MOST_COPIES):  # not n_frames, which takes a second for 5,000 pages
            other.seek(number)
            if not other.tag_v2.get(_KIND_OF_PAGE, 0) & _COPY_OR_MASK:
                return True
    except Warning:
        raise
    except Exception:  # no other page, or a broken one
        return False
    finally:
        stream.seek(start)
    return False
