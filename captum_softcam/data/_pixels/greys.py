"""Map greys of any range to [0, 1], and refuse too many of them: what files of all formats have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captum_softcam._names import shown

__all__ = ["check_pixels", "own_range", "spread"]


def check_pixels(count: int, path: Path, kind: str, max_pixels: int | None) -> None:
    """Raise ValueError for no pixels or too many, before memory for them is allocated."""
    # Pillow warns of files above its limit and refuses those of twice as many pixels
    most = max_pixels or 2 * (Image.MAX_IMAGE_PIXELS or count)
    if count < 1:
        raise ValueError(f"{kind} '{shown(path)}' has no pixels according to its header; repair or remove it.")
    if count > most:
        raise ValueError(
            f"{kind} '{shown(path)}' has {count} pixels according to its header, more than {most}; make it smaller, or lift "
            f"the limit by Reading(max_pixels={count}), on the command line --max-pixels {count}."
        )


@np.errstate(invalid="ignore")  # NumPy would warn of NaN and infinite values
def spread(values: NDArray[Any], black: float, white: float) -> NDArray[Any]:
    """Map values linearly to [0, 1], float32; all to 0 if black is white."""
    if not white > black:
        return np.zeros(values.shape, np.float32)
    if not 1e-30 < white - black < 1e37:  # their difference could exceed float32, or vanish in it
        most = max(abs(black), abs(white))
        values, black, white = values.astype(np.float64) / most, black / most, white / most
    found: NDArray[Any] = np.clip(values, black, white).astype(np.float32)
    found -= np.float32(black)
    found /= np.float32(white - black)
    return found.clip(0, 1, out=found)  # because of the rounding of the two limits


def own_range(values: NDArray[Any], counted: NDArray[Any]) -> NDArray[Any]:
    """Map the lowest of the counted values to 0 and the highest to 1; ValueError if none is counted."""
    if not counted.any():
        raise ValueError("it has no value that is finite and not padding")
    found = values if counted.all() else values[counted]
    return spread(values, float(found.min()), float(found.max()))
