"""Guard the libraries that decode files: their errors name the file, and their warnings stop nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TypeVar

from PIL import UnidentifiedImageError

from captum_softcam._names import reason, shown

__all__ = ["naming", "quietly"]

_Read = TypeVar("_Read")

# The filters of warnings are those of all threads: two that restore them in turn would leave them changed. One lock for
# all formats, because files of several are read at once.
_ONE_AT_A_TIME = Lock()


@contextmanager
def naming(path: Path, kind: str) -> Iterator[None]:
    """Raise ValueError with the name of a file for whatever its damage makes a library raise."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{kind} '{shown(path)}' has a format that is not read ({reason(error)}); convert it to PNG or JPEG."
        ) from error
    except Warning:  # where warnings are errors; see quietly
        raise
    except Exception as error:  # a broken file makes Pillow, pydicom and nibabel raise almost anything
        what = reason(error) or type(error).__name__
        raise ValueError(f"{kind} '{shown(path)}' cannot be read ({what}); repair or remove it.") from error


def quietly(read: Callable[[], _Read]) -> _Read:
    """Read a file although a library warns of damage beside the pixels, such as in EXIF, and warnings are errors."""
    try:
        return read()
    except Warning:
        # only where it has to be: threads wait for each other, and Python forgets which warnings it has shown
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
