"""Read the user's masks, and check them against their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._names import shown
from captum_softcam.data.images import Reading, open_image

__all__ = ["check_same_size", "read_mask"]


def check_same_size(values: NDArray[Any], name: str, image: Tensor, path: Path) -> None:
    """Raise ValueError unless the mask ``values`` (H, W) has the size of its image (3, H, W) from ``path``."""
    if values.shape != tuple(image.shape[1:]):
        raise ValueError(
            f"{name} is {values.shape[1]}x{values.shape[0]} pixels, its image '{shown(path)}' "
            f"{image.shape[2]}x{image.shape[1]}; both must have the same size."
        )


def read_mask(path: Path, image_path: Path, reading: Reading, image: Tensor) -> Tensor:
    """Read a mask file as (1, H, W) bool and check it against its image (3, H, W)."""
    values: np.ndarray[Any, Any] = np.asarray(open_image(path, "mask", "L", reading))
    check_same_size(values, f"mask '{shown(path)}'", image, image_path)
    if not values.any():
        raise ValueError(f"mask '{shown(path)}' is empty; remove the file if the image has nothing to localise.")
    return torch.from_numpy(values > 0)[None]
