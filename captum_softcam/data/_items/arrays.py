"""Turn arrays, tensors and Pillow's images of any data set into images and masks; every error names the sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captum_softcam._names import listed, quoted, shown
from captum_softcam.data._disk.files import ENDINGS
from captum_softcam.data._pixels.greys import spread
from captum_softcam.data._pixels.images import (
    Reading,
    decoded_orientation,
    orientation_of,
    read_image,
    turned_upright,
    upright,
    warn_of_own_range,
)
from captum_softcam.data._pixels.masks import MaskFiles, MaskValues, region_of, values_of, warn_of_extent

__all__ = ["CHANNELS", "Channels", "described", "image_of", "is_coloured", "is_file", "is_picture", "mask_of"]

Channels = Literal["first", "last", "none"]
CHANNELS = ("first", "last", "none")

_SIGNAL, _PICTURE, _VOLUME = 2, 3, 4  # dimensions, with channels
_FEW = 4  # channels of a picture, with transparency
_SPECTRAL = 16  # channels of a satellite, and leads of an electrocardiogram
_BYTE = 255
_QUARTER_TURN = 5  # the first of the orientations that exchange height and width
_TYPES = {"u1": np.uint8, "u2": np.uint16, "i2": np.int16}
_WIDE = {"b": np.bool_, "u": np.int64, "i": np.int64, "f": np.float32}  # in the byte order of this machine
_SLACK = 0.1  # bicubic interpolation overshoots by that much; normalised images by far more


def is_picture(value: object) -> bool:
    """Check whether a value can be an image or a mask in memory, and not a class or several."""
    return isinstance(value, Image.Image) or (isinstance(value, (np.ndarray, Tensor)) and value.ndim >= 2)


def is_coloured(value: object) -> bool:
    """Check whether a picture has colours, and is hence not likely to be a mask."""
    if isinstance(value, Image.Image):
        return len(value.getbands()) > 2
    if not isinstance(value, (np.ndarray, Tensor)) or value.ndim != _PICTURE or 3 not in (value.shape[0], value.shape[-1]):
        return False
    values = value.flatten().tolist()
    return len(set(values)) > 2  # masks of three classes have two values


def is_file(value: object) -> bool:
    """Check whether a value is the name of a picture file, by its ending."""
    return isinstance(value, (str, Path)) and str(value).lower().endswith(tuple(ENDINGS))


def described(value: object) -> str:
    """Return in a few words what a value is, for error messages."""
    match value:
        case Image.Image():
            return f"a PIL image of mode {value.mode} and {value.width}x{value.height} pixels"
        case Tensor() | np.ndarray():
            kind = "a tensor" if isinstance(value, Tensor) else "an array"
            return f"{kind} {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
        case Mapping():
            return f"a dict with the keys {listed(value)}"
        case tuple() | list():
            items = "; ".join(map(described, value[:4])) + ("; …" if len(value) > 4 else "")
            return f"a {type(value).__name__} of {len(value)} ({shown(items, 240)})"
    return quoted(value)


def image_of(value: object, place: str, channels: Channels | None, reading: Reading) -> Tensor:
    """Return an image with its channels first, float32: a picture or volume in [0, 1], a signal as it is.

    Args:
        value (object): a PIL image, the name of a file, an array or a tensor.
        place (str): the sample, for error messages.
        channels (str): where an array has its channels. Default: where its shape says so
        reading (Reading): how files are read, and what values become black and white.

    Raises:
        ValueError: if it is no image, its channels could be in several places, or its values cannot be shown.
    """
    if isinstance(value, (str, Path)):
        return read_image(value, reading=reading)
    deep = False
    if isinstance(value, Image.Image):
        deep = value.mode.startswith(("I", "F"))
        value, channels = _pixels(value, deep=deep), "last"
    values = _channels_first(_tensor(value, place, "image"), channels, place)
    if not values.float().isfinite().all():
        raise ValueError(f"{place} has an image with values that are not finite; replace them in the data set.")
    if values.dim() == _SIGNAL:
        return values.float()
    return _scaled(values, place, reading, deep=deep or values.dtype in (torch.uint16, torch.int16))


def mask_of(
    value: object, image: Tensor, source: object, place: str, reading: Reading, parts: Sequence[int] = ()
) -> Tensor | None:
    """Return a mask (1, ...), bool; None if it shows nothing.

    Args:
        value (object): a PIL image, the name of a file, an array or a tensor (...), (1, ...) or (..., 1); None for no mask.
        image (Tensor): (C, ...), its image.
        source (object): what the image was made of; a mask of its stored pixels is turned with them.
        place (str): the sample, for error messages.
        reading (Reading): how masks are read.
        parts (sequence of int): of which masks of several, (P, ...), the union is taken. Default: there is one mask
    """
    empty = isinstance(value, str) and not value, isinstance(value, float) and math.isnan(value)  # cells of a table
    if value is None or any(empty):
        return None
    if isinstance(value, (str, Path)):
        file = Path(source) if isinstance(source, (str, Path)) else Path(place)
        mask = MaskFiles((Path(value),), file, reading)(image)
        return mask if mask.any() else None
    size = tuple(image.shape[1:])
    found = _mask_values(value, size, place, parts)
    if size == found.values.shape[::-1] != found.values.shape and (turn := _orientation(source)) >= _QUARTER_TURN:
        found = found._replace(values=upright(found.values, turn))
    if found.values.shape != size:
        several = found.values.ndim > len(size) and found.values.shape[1:] == size
        cure = "; unite its masks, or pass multilabel=True if each belongs to an element of the label" if several else ""
        raise ValueError(
            f"{place} has {described(value)} as its mask, and an image of {size}; both must have one size{cure}."
        )
    if len(size) == 1:  # rows of a picture, as far as regions are concerned
        found = found._replace(values=found.values[None])
    region = region_of(found, place, reading)
    warn_of_extent(region, place)
    return torch.from_numpy(region).view(1, *size) if region.any() else None


def _mask_values(value: object, size: tuple[int, ...], place: str, parts: Sequence[int]) -> MaskValues:
    if isinstance(value, Image.Image):
        return values_of(turned_upright(value), place, lossy=value.format in ("JPEG", "MPO"))
    found = _tensor(value, place, "mask")
    values: np.ndarray[Any, Any] = (found.float() if found.is_floating_point() else found).numpy()
    if parts:
        values = values[list(parts)].max(axis=0)
    if values.ndim == len(size) + 1:
        if values.dtype == np.uint8 and values.shape in ((*size, 3), (*size, 4)):
            return values_of(Image.fromarray(values), place, lossy=False)
        values = values[0] if values.shape[0] == 1 else values[..., 0] if values.shape[-1] == 1 else values
    return MaskValues(np.nan_to_num(values) if found.is_floating_point() else values, "levels")


def _orientation(source: object) -> int:
    """Return how the pixels of an image are stored, 1 to 8 as in EXIF."""
    if isinstance(source, (str, Path)):
        return orientation_of(Path(source))
    return decoded_orientation(source) if isinstance(source, Image.Image) else 1


def _pixels(image: Image.Image, *, deep: bool) -> np.ndarray[Any, Any]:
    """Return the pixels (H, W, C) of an image as one sees it: RGB, of its own depth if that is more than 8 bits."""
    image = turned_upright(image)
    if deep:  # Pillow would cut what is above 255
        return np.repeat(np.array(image)[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))


def _tensor(value: object, place: str, kind: str) -> Tensor:
    # also a tensor of torchvision's or MONAI's, which carry more than values
    if isinstance(value, Tensor) and value.layout == torch.strided:
        found = value.detach().as_subclass(Tensor).cpu()
    elif isinstance(value, np.ndarray) and value.dtype.kind in _WIDE:
        found = torch.from_numpy(value.astype(_TYPES.get(value.dtype.str[1:], _WIDE[value.dtype.kind])))
    else:
        raise ValueError(
            f"{place} has {described(value)} as its {kind}; expected a PIL image, a file, an array or a tensor (of lists of "
            "Hugging Face: dataset.with_format('numpy'))."
        )
    if found.is_complex() or not found.numel():
        raise ValueError(f"{place} has {described(value)} as its {kind}; expected real numbers, at least one.")
    return found


def _channels_first(values: Tensor, channels: Channels | None, place: str) -> Tensor:
    shape = tuple(values.shape)
    where = channels or _guess(shape)
    found = {"none": values[None], "last": values.movedim(-1, 0) if shape else values}.get(where or "", values)
    if where is None or not _SIGNAL <= found.dim() <= _VOLUME:
        raise ValueError(
            f"{place} has an image of shape {shape}, which does not tell where its channels are; pass "
            "channels='first' for (C, L), (C, H, W) or (C, D, H, W), 'last' or 'none'."
        )
    return found


def _guess(shape: tuple[int, ...]) -> Channels | None:
    """Return where the channels are if the shape leaves no doubt."""
    if len(shape) == 2:
        short, long = sorted(shape)
        if shape[0] <= _SPECTRAL and shape[1] >= 8 * shape[0]:
            return "first"
        return "none" if long < 4 * short else None
    if not _PICTURE <= len(shape) <= _VOLUME:
        return None
    for most in (_FEW, _SPECTRAL):
        first = shape[0] <= most and (most == _FEW or shape[0] < min(shape[1:]))
        last = shape[-1] <= most and (most == _FEW or shape[-1] < min(shape[:-1]))
        if first or last:
            return None if first and last else "first" if first else "last"
    return None


def _scaled(values: Tensor, place: str, reading: Reading, *, deep: bool) -> Tensor:
    """Return values as float32 in [0, 1]."""
    if values.dtype == torch.bool:
        return values.float()
    if values.dtype == torch.uint8:
        return values.float() / _BYTE
    floating = values.is_floating_point()
    values = values.float()
    low, high = (float(end) for end in torch.aminmax(values))
    if reading.window is not None:
        return _windowed(values, *reading.window)
    if floating and not deep and low >= -_SLACK and high <= 1 + _SLACK:
        return values.clamp(0, 1)
    if deep:
        warn_of_own_range()
        return _windowed(values, low, high)
    if not floating and low >= 0 and high <= _BYTE:
        return values / _BYTE
    raise ValueError(f"{place} has an image with values from {low:.3g} to {high:.3g}; {_way_out(low, high)}.")


def _windowed(values: Tensor, low: float, high: float) -> Tensor:
    return torch.from_numpy(spread(values.numpy(), low, high))


def _way_out(low: float, high: float) -> str:
    if low >= 0 and high <= _BYTE:
        return (
            "expected [0, 1]: divide bytes by 255, in torchvision by ToDtype(torch.float32, scale=True); for other values, "
            "pass reading=Reading(window=(low, high)) with the values that become 0 and 1"
        )
    if low < 0 and high < _BYTE:
        return (
            "expected [0, 1]: take Normalize out of the data set's transforms and pass it as normalize, because maps are "
            "shown on the image itself; or pass reading=Reading(window=(low, high)) with the values that become 0 and 1"
        )
    return "expected [0, 1]: pass reading=Reading(window=(low, high)) with the values that become 0 and 1"
