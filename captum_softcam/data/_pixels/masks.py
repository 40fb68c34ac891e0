"""Read the user's masks, and check them against their images."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captum_softcam._names import shown
from captum_softcam.data._pixels.images import Reading, exif_hint, open_image, orientation_of, quarter_turn, upright
from captum_softcam.data._pixels.levels import region_of_labels, region_of_levels
from captum_softcam.data._pixels.medical import check_same_space, medical_format, read_medical_values

__all__ = ["MaskFiles", "MaskValues", "aligned", "region_of", "values_of", "warn_of_extent"]

_MOST = 0.95  # of a picture's margin: that of an inverted mask is broken where the region touches it


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
            if medical_format(path) == "NIfTI" == medical_format(self.image_path):
                check_same_space(path, self.image_path, self.reading.max_pixels)
            region = region_of(_values(path, self.reading), path, self.reading)
            region = aligned(region, "mask", path, image, self.image_path)
            warn_of_extent(region, path)
            mask |= region
        return torch.from_numpy(mask)[None]


class MaskValues(NamedTuple):
    """The values of a mask file, (H, W) or those of a volume (D, H, W), and what they are.

    Levels are grey values, which may be labels, too; labels are nothing else; of colours, the values are those of the
    brightest channel. The values of a lossy file are not exact.
    """

    values: NDArray[Any]
    kind: Literal["levels", "labels", "colours"]
    lossy: bool = False


def region_of(found: MaskValues, path: Path | str, reading: Reading) -> NDArray[np.bool_]:
    """Return where a mask shows its region; ``path`` is its file, or its sample, for error messages."""
    values, kind, lossy = found
    if reading.ignore is not None:
        if kind == "colours" or lossy:
            what = "colours" if kind == "colours" else "a lossy format"
            raise ValueError(
                f"mask '{shown(path)}' has {what}, so none of its values is exactly that to ignore, {reading.ignore}; store "
                "it as grey PNG, or leave ignore (--mask-ignore) out."
            )
        values = np.where(values == reading.ignore, 0, values)
    if reading.threshold is not None:
        above: NDArray[np.bool_] = values > reading.threshold * _range(values, kind, path)
        return above
    if kind == "labels" or reading.ignore is not None:
        return region_of_labels(values)
    return region_of_levels(values, str(path), lossy=lossy)


def _values(path: Path, reading: Reading) -> MaskValues:
    """Read a mask file."""
    if medical_format(path):
        voxels = _finite(read_medical_values(path, "mask", reading.max_pixels), path)
        # NIfTI scales its values, so that labels may be floating-point numbers
        return MaskValues(voxels, "labels" if bool((voxels == np.rint(voxels)).all()) else "levels")
    image = open_image(path, "mask", None, reading)
    with open(path, "rb") as file:
        header = file.read(32)
    lossy = header.startswith(b"\xff\xd8") or header[8:16] == b"WEBPVP8 "
    _refuse_deep_colours(image, header, path)
    return values_of(image, path, lossy=lossy)


def values_of(image: Image.Image, path: Path | str, *, lossy: bool) -> MaskValues:
    """Return the values of a mask that Pillow has read; ``path`` is its file, or its sample, for error messages."""
    pixels: NDArray[Any] = np.asarray(image)
    match image.mode:
        case "1" | "L" | "F" | "I" | "I;16" | "I;16B" | "I;16L" | "I;16N":
            return MaskValues(_finite(pixels, path), "levels", lossy)
        case "P":
            return _of_palette(pixels, image.getpalette() or [])
        case "PA":
            return MaskValues(pixels[..., 0], "labels")
        case "RGB" | "RGBX":
            return _of_colours(pixels[..., :3], lossy)
        case "LA" | "RGBA":
            return _of_transparent(pixels[..., :-1], pixels[..., -1], lossy)
    raise ValueError(
        f"mask '{shown(path)}' has colours of the kind {image.mode}, in which 0 is not black; store it as PNG in grey."
    )


def _finite(values: NDArray[Any], path: Path | str) -> NDArray[Any]:
    """Return values with 0 in the place of NaN, or raise ValueError if one is infinite."""
    if np.isinf(values).any():
        raise ValueError(f"mask '{shown(path)}' has values that are infinite; use 0 outside of the region.")
    return np.where(np.isnan(values), 0, values) if values.dtype.kind == "f" else values


def _of_palette(pixels: NDArray[Any], palette: list[int]) -> MaskValues:
    """Return the numbers of a palette's colours, but its levels if it is only another way to store grey."""
    colours = np.asarray(palette, np.uint8).reshape(-1, 3)
    used = np.unique(pixels)
    if used[-1] < len(colours):
        greys = colours[used]
        only_grey = bool((greys == greys[:, :1]).all())
        if len(used) == 1 and greys.min() == 255:  # Pillow stores a white GIF with white as its only colour, number 0
            return MaskValues(colours[pixels, 0], "levels")
        if only_grey and not greys.min() and len(np.unique(greys[:, 0])) == len(used):
            return MaskValues(colours[pixels, 0], "levels")
    return MaskValues(pixels, "labels")


def _of_colours(colours: NDArray[Any], lossy: bool) -> MaskValues:
    grey = bool((colours == colours[..., :1]).all())
    return MaskValues(colours.max(-1), "levels" if grey else "colours", lossy)


def _of_transparent(colours: NDArray[Any], alpha: NDArray[Any], lossy: bool) -> MaskValues:
    """Return the opacity if all visible pixels have one colour, because then it alone can be the mask; else the colours."""
    visible = colours[alpha > 0]
    if alpha.min() < alpha.max() and (visible == visible[:1]).all():
        return MaskValues(alpha, "levels", lossy)
    return _of_colours(colours * (alpha > 0)[..., None], lossy)


def _refuse_deep_colours(image: Image.Image, header: bytes, path: Path) -> None:
    """Raise ValueError for colours of 16 bits, of which Pillow would drop the lower half: small labels would become 0."""
    bits = getattr(image, "tag_v2", {}).get(258, (8,))  # BitsPerSample of TIFF
    png = header.startswith(b"\x89PNG") and header[24:25] == b"\x10" and header[25:26] != b"\0"
    if png or (len(bits) > 1 and max(bits) > 8):
        raise ValueError(
            f"mask '{shown(path)}' has several channels of more than 8 bits; store it with one channel, or with 8 bits."
        )


def _range(values: NDArray[Any], kind: str, path: Path | str) -> float:
    """Return the greatest value that pixels of this type have."""
    if kind == "labels":
        raise ValueError(f"mask '{shown(path)}' holds labels, which have no threshold; leave it out for such masks.")
    if values.dtype.kind != "f":
        return {"b": 1, "u": 255 if values.dtype.itemsize == 1 else 65535}.get(values.dtype.kind, 65535)
    if values.max() > 1:
        raise ValueError(
            f"mask '{shown(path)}' has values up to {values.max():g}; a threshold needs floating-point values from 0 to 1."
        )
    return 1.0


def warn_of_extent(region: NDArray[np.bool_], path: Path | str) -> None:
    """Warn if a mask covers its whole image, or looks inverted."""
    if region.all():
        warnings.warn(
            f"mask '{shown(path)}' covers the whole image, so every map hits it; its values must be 0 outside of the "
            "region.",
            stacklevel=1,
        )
    elif region.mean() > 0.5 and _covers_margin(region):
        warnings.warn(
            f"mask '{shown(path)}' looks inverted, because it covers the margin and {region.mean():.0%} of the image; its "
            "values must be 0 outside of the region.",
            stacklevel=1,
        )


def _covers_margin(region: NDArray[np.bool_]) -> bool:
    """Return whether a mask (…, H, W) covers the corners of a picture, and nearly all of its margin."""
    sides = (region[..., 0, :], region[..., -1, :], region[..., 0], region[..., -1])
    corners = region[..., [0, 0, -1, -1], [0, -1, 0, -1]]
    return bool(corners.all() and np.mean([side.mean() for side in sides]) >= _MOST)
