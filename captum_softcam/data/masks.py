"""Read the user's masks, and check them against their images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._names import shown
from captum_softcam.data.images import Reading, exif_hint, open_image, orientation_of, quarter_turn, upright
from captum_softcam.data.medical import medical_format, read_medical_values

__all__ = ["MaskFiles", "aligned"]


def aligned(values: NDArray[Any], kind: str, path: Path, image: Tensor, image_path: Path) -> NDArray[Any]:
    """Return a mask (H, W) in the size of its image (3, H, W), or (D, H, W) of a volume (C, D, H, W).

    A mask of the size of the image's stored pixels is turned with them, unless its file states an orientation of its own.

    Raises:
        ValueError: if it has another size.
    """
    orientation = quarter_turn(values.shape, image, image_path)
    if orientation > 1 and orientation_of(path) == 1:
        return upright(values, orientation)
    if values.shape != tuple(image.shape[1:]):
        own, wanted = ("x".join(map(str, shape[::-1])) for shape in (values.shape, image.shape[1:]))
        raise ValueError(
            f"{kind} '{shown(path)}' is {own} pixels, its image '{shown(image_path)}' {wanted}; both must have the same "
            f"size.{exif_hint(image_path)}"
        )
    return values


@dataclass(frozen=True)
class MaskFiles:
    """The mask of an image that lies in files: the union of what they show.

    It is called when its sample is read; whatever reads the files beforehand recognises it by its type.

    Args:
        paths (tuple of path): the mask files, at least one.
        image_path (path): the image, for error messages.
        reading (Reading): how the files are read. Default: as they are
    """

    paths: tuple[Path, ...]
    image_path: Path
    reading: Reading = Reading()

    def __call__(self, image: Tensor) -> Tensor:
        """Return the mask (1, H, W), bool, of the image (3, H, W); it is all False if there is nothing to localise.

        That of a volume (C, D, H, W) is (1, D, H, W).
        """
        mask = np.zeros(image.shape[1:], bool)
        for path in self.paths:
            values = _values(path, self.reading)
            mask |= aligned(values, "mask", path, image, self.image_path) > 0
        return torch.from_numpy(mask)[None]


def _values(path: Path, reading: Reading) -> NDArray[Any]:
    if medical_format(path):
        return read_medical_values(path, "mask", reading.max_pixels)
    return np.asarray(open_image(path, "mask", "L", reading))
