"""Read DICOM and NIfTI, the files of clinics: pictures in [0, 1] and the values of masks; every error names the file."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._names import quoted, shown
from captum_softcam.data._disk.files import DICOM_ENDINGS, NIFTI_ENDINGS, existing_file
from captum_softcam.data._pixels.decoding import naming, quietly
from captum_softcam.data._pixels.greys import check_pixels, own_range, spread
from captum_softcam.data._pixels.headers import refuse_other_files

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image
    from pydicom import Dataset

__all__ = ["check_same_space", "medical_format", "medical_size", "read_medical", "read_medical_values"]

Window = tuple[float, float]
Values = NDArray[Any]

_GZIP_RATIO = 1033  # bytes that come out of one at most: 258 for two bits

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")

Note = Literal["", "own range", "first window", "not finite"]
"""What a user might not expect of an image."""


def medical_format(path: Path) -> Literal["DICOM", "NIfTI"] | None:
    """Return which of the two formats a file has, NIfTI by its ending, DICOM by its ending or content; None if neither."""
    name = path.name.lower()
    if name.endswith(NIFTI_ENDINGS):
        return "NIfTI"
    if name.endswith(DICOM_ENDINGS):
        return "DICOM"
    try:
        with open(path, "rb") as file:
            return "DICOM" if file.read(132)[128:] == b"DICM" else None
    except (OSError, ValueError):  # ValueError: no file can have such a name; its reader reports both
        return None


def medical_size(path: Path, kind: str, window: Window | None = None, max_pixels: int | None = None) -> tuple[int, ...]:
    """Return the size of a DICOM or NIfTI image from its header, (H, W) or (D, H, W), and warn as :func:`read_medical` does.

    Args:
        path (path): the file.
        kind (str): what an error calls it, such as ``"image"``.
        window (tuple of float): as for :func:`read_medical`. Default: none
        max_pixels (int): most pixels or voxels. Default: Pillow's limit
    """
    size, note = quietly(partial(_size, path, kind, window, max_pixels))
    _warn(note)
    return size


def read_medical(path: Path, kind: str, window: Window | None = None, max_pixels: int | None = None) -> Tensor:
    """Read a DICOM or NIfTI file as a picture (3, H, W) or a volume (C, D, H, W), float32 in [0, 1].

    The axes of a volume rise from the feet to the head (D), from the back to the front (H) and from the left to the right
    (W) of the patient, as far as its file says how it lies: it is the transpose of nibabel's closest canonical array.

    Args:
        path (path): the file.
        kind (str): what an error calls it, such as ``"image"``.
        window (tuple of float): values that become black and white, after rescaling. Default: the window of a DICOM file;
            without one, the lowest and the highest value, or 0 and 255 where a value has 8 bits
        max_pixels (int): most pixels or voxels. Default: Pillow's limit
    """
    image, note = quietly(partial(_image, path, kind, window, max_pixels))
    _warn(note)
    found = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    return found.expand(3, -1, -1).contiguous() if found.ndim == 2 else found


def read_medical_values(path: Path, kind: str, max_pixels: int | None = None) -> Values:
    """Read the values of a mask from a DICOM or NIfTI file: (H, W), or (D, H, W) in the order of :func:`read_medical`.

    Args:
        path (path): the file.
        kind (str): what an error calls it, such as ``"mask"``.
        max_pixels (int): most pixels or voxels. Default: Pillow's limit
    """
    return quietly(partial(_mask_values, path, kind, max_pixels))


def _size(path: Path, kind: str, window: Window | None, max_pixels: int | None) -> tuple[tuple[int, ...], Note]:
    if medical_format(path) == "NIfTI":
        volume = _nifti(path, kind, max_pixels)
        with naming(path, kind):
            return _canonical(np.broadcast_to(0, _dimensions(volume)), volume).shape[-3:], _nifti_note(volume, window)
    data = _dicom(path, kind, max_pixels, header=True)
    with naming(path, kind):
        return (int(data.Rows), int(data.Columns)), _dicom_note(data, window)


def _image(path: Path, kind: str, window: Window | None, max_pixels: int | None) -> tuple[Values, Note]:
    if medical_format(path) == "NIfTI":
        volume = _nifti(path, kind, max_pixels)
        with naming(path, kind):
            return _nifti_image(volume, window)
    data = _dicom(path, kind, max_pixels)
    with naming(path, kind):
        return _dicom_image(data, window), _dicom_note(data, window)


def _mask_values(path: Path, kind: str, max_pixels: int | None) -> Values:
    if medical_format(path) == "NIfTI":
        volume = _nifti(path, kind, max_pixels)
        with naming(path, kind):
            values = _nifti_values(volume)
        channels = len(_dimensions(volume)) > 3 or volume.get_data_dtype().names
    else:
        data = _dicom(path, kind, max_pixels)
        with naming(path, kind):
            values = _pixels(data)
            channels = values.ndim == 3
            values = np.moveaxis(values, -1, 0) if channels else values
    return values.max(axis=0) if channels else values


def _warn(note: Note) -> None:
    # without the name of the file, so that Python shows each text once
    if note != "":
        warnings.warn(_in_words(note), stacklevel=1)


def _in_words(note: Literal["own range", "first window", "not finite"]) -> str:
    return {
        "own range": "a DICOM or NIfTI image has no window: its lowest value is black and its highest one white, in each "
        "file by itself; pass a window (--window LOW,HIGH) to show all files alike.",
        "first window": "a DICOM image has several windows, of which the first is used; pass a window (--window LOW,HIGH) "
        "for another one.",
        "not finite": "a DICOM or NIfTI image has values that are not finite, such as NaN; they are black.",
    }[note]


def check_same_space(mask: Path, image: Path, max_pixels: int | None = None) -> None:
    """Raise ValueError if a mask of NIfTI would be turned otherwise than its image, without being stored otherwise.

    A mask that was saved without the affine of its image looks like one that lies mirrored in the same array.
    """
    import nibabel
    from nibabel.orientations import inv_ornt_aff, io_orientation

    axes, grids = [], []
    for path, kind in ((mask, "mask"), (image, "image")):
        found = quietly(partial(_nifti, path, kind, max_pixels))
        with naming(path, kind):
            turn = io_orientation(found.affine)
            grids.append(found.affine @ inv_ornt_aff(turn, _dimensions(found)[:3]))
            axes.append("".join(nibabel.aff2axcodes(found.affine)))
    half_a_voxel = np.linalg.norm(grids[1][:3, :3], axis=0).min() / 2
    if axes[0] != axes[1] and not np.allclose(grids[0], grids[1], rtol=0, atol=half_a_voxel):
        raise ValueError(
            f"mask '{shown(mask)}' is stored in another orientation ({axes[0]}) than its image '{shown(image)}' "
            f"({axes[1]}), and does not lie in the same place; save it with the affine of its image."
        )


@contextmanager
def _installed(path: Path, kind: str) -> Iterator[None]:
    """Raise FileNotFoundError for a missing file, ImportError for a missing library, and ValueError for no image at all."""
    existing_file(path, kind)
    try:
        yield
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise ImportError(f"{kind} '{shown(path)}' needs {missing}; run: pip install 'captum-softcam[medical]'.") from error
    with naming(path, kind), open(path, "rb") as file:
        refuse_other_files(file.read(16))


# DICOM


def _dicom(path: Path, kind: str, max_pixels: int | None, header: bool = False) -> Dataset:
    """Return the data set of a file with one picture that can be decoded, without its pixels if the header is enough."""
    with _installed(path, kind):
        import pydicom
    with naming(path, kind):
        data = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    _check_dicom(data, path, kind, max_pixels)
    if not header:
        with naming(path, kind):
            data = pydicom.dcmread(path, force=True)
            _complete(data)
    return data


def _check_dicom(data: Dataset, path: Path, kind: str, max_pixels: int | None) -> None:
    """Raise ValueError unless a data set is one picture that can be decoded."""
    with naming(path, kind):
        what = getattr(data.get("SOPClassUID"), "name", "of unknown kind")
        rows, columns, frames = (int(data.get(name) or 0) for name in ("Rows", "Columns", "NumberOfFrames"))
        colours = str(data.get("PhotometricInterpretation"))
        missing = _missing_decoder(data) if rows and columns else ""
    if "Rows" not in data or "Columns" not in data:
        raise ValueError(
            f"{kind} '{shown(path)}' is a DICOM file without an image, {shown(what)}; remove it from the images."
        )
    if frames > 1:
        raise ValueError(
            f"{kind} '{shown(path)}' has {frames} frames; expected one: save each as a file of its own, or convert them to "
            "a volume of NIfTI, with dcm2niix for example."
        )
    check_pixels(rows * columns, path, kind, max_pixels)
    if colours not in (*_GREY, *_COLOUR):
        raise ValueError(
            f"{kind} '{shown(path)}' has the photometric interpretation {quoted(colours)}; expected {', '.join(_GREY)}, "
            f"{', '.join(_COLOUR)}; convert it to PNG."
        )
    if missing:
        raise ValueError(
            f"{kind} '{shown(path)}' is compressed ({shown(missing)}), which pydicom cannot decode by itself; run: pip "
            "install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg."
        )


def _missing_decoder(data: Dataset) -> str:
    """Return the name of the compression if none of the installed packages decodes it, else nothing."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID, JPEGExtended12Bit

    syntax = UID(data.file_meta.get("TransferSyntaxUID") or "")
    if not syntax.is_transfer_syntax or not syntax.is_compressed or syntax.is_deflated:
        return ""
    decoders = set(get_decoder(syntax).available_plugins)
    if syntax == JPEGExtended12Bit and data.BitsStored > 8:
        decoders.discard("pillow")  # which is said to decode it, but not these
    return "" if decoders else syntax.name


def _complete(data: Dataset) -> None:
    """Add what a data set says in another place, or not at all because it is older than the rule."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):  # of enhanced CT and MR
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in (item for group in data.get(groups) or () for item in group.get(name) or ()):
                data.update(item)


def _pixels(data: Dataset) -> Values:
    """Return the stored values, (H, W) or (H, W, 3)."""
    from pydicom.pixels import pixel_array

    found = pixel_array(data)
    if found.ndim != (2 if data.PhotometricInterpretation in (*_GREY, "PALETTE COLOR") else 3):
        raise ValueError(f"it has {data.SamplesPerPixel} values per pixel")
    return found


def _dicom_image(data: Dataset, window: Window | None) -> Values:
    """Return the picture (3, H, W) or (H, W) in [0, 1]."""
    pixels = _pixels(data)
    if data.PhotometricInterpretation in _GREY:
        return _dicom_grey(data, pixels, window)
    depth = data.BitsStored
    if data.PhotometricInterpretation == "PALETTE COLOR":
        pixels, depth = _palette_colours(data, pixels)
    return spread(np.moveaxis(pixels[..., :3], -1, 0), 0, 2**depth - 1)


def _palette_colours(data: Dataset, pixels: Values) -> tuple[Values, int]:
    """Return colours (H, W, 3) and their number of bits."""
    from pydicom.pixels import apply_color_lut

    entries, first, depth = data.RedPaletteColorLookupTableDescriptor
    colours = apply_color_lut(pixels, data)
    # pydicom counts the entries in the type of the colours, and would begin anew after 255
    if colours.dtype == np.uint8 and int(pixels.max()) - first > 255:
        raise ValueError(f"its palette has {entries} colours of 8 bits")
    return colours, depth


def _dicom_grey(data: Dataset, pixels: Values, window: Window | None) -> Values:
    values = _rescaled(data, pixels)
    hidden = _padding(data, pixels) | ~np.isfinite(values)
    values[hidden] = 0
    shades = _shades(data, values, window, ~hidden)
    if data.PhotometricInterpretation == "MONOCHROME1":
        shades = 1 - shades
    shades[hidden] = 0
    return shades


def _rescaled(data: Dataset, pixels: Values) -> Values:
    """Return values in the unit of the file, such as Hounsfield units."""
    if table := data.get("ModalityLUTSequence"):
        return _looked_up(pixels, table[0])[0].astype(np.float64)
    slope, intercept = (_numbers(data, name)[:1] for name in ("RescaleSlope", "RescaleIntercept"))
    return pixels * (slope or [1.0])[0] + (intercept or [0.0])[0]


def _padding(data: Dataset, pixels: Values) -> Values:
    """Return where there is nothing of the patient, which the file marks by a value or a range of them."""
    limits = _numbers(data, "PixelPaddingValue") + _numbers(data, "PixelPaddingRangeLimit")
    if not _numbers(data, "PixelPaddingValue"):
        return np.zeros(pixels.shape, bool)
    found: Values = (pixels >= min(limits)) & (pixels <= max(limits))
    return found


def _shades(data: Dataset, values: Values, window: Window | None, counted: Values) -> Values:
    """Return greys in [0, 1]: by the given window, by that of the file, or by its range."""
    if window is not None:
        return spread(values, *window)
    if table := data.get("VOILUTSequence"):
        found, depth = _looked_up(values, table[0])
        return spread(found, 0, 2**depth - 1)
    if windows := _windows(data):
        return _windowed(values, *windows[0], str(data.get("VOILUTFunction") or "LINEAR").upper())
    return spread(values, 0, 2**data.BitsStored - 1) if _is_plain(data) else own_range(values, counted)


def _windows(data: Dataset) -> list[tuple[float, float]]:
    """Return centers and widths, none if the first one has no width."""
    found = list(zip(_numbers(data, "WindowCenter"), _numbers(data, "WindowWidth"), strict=False))
    return found if found and found[0][1] > 0 else []


def _dicom_note(data: Dataset, window: Window | None) -> Note:
    """Return what is not expected of a picture."""
    if window is not None or data.PhotometricInterpretation not in _GREY:
        return ""
    if windows := data.get("VOILUTSequence") or _windows(data):
        return "first window" if len(windows) > 1 else ""
    return "" if _is_plain(data) else "own range"


def _is_plain(data: Dataset) -> bool:
    """Check whether greys are those of other pictures of 8 bits, which have no unit."""
    slopes, intercepts = _numbers(data, "RescaleSlope"), _numbers(data, "RescaleIntercept")
    rescaled = data.get("ModalityLUTSequence") or slopes not in ([], [1]) or any(intercepts)
    return not rescaled and data.get("BitsStored", 16) <= 8 and data.PixelRepresentation == 0


def _windowed(values: Values, center: float, width: float, shape: str) -> Values:
    """Apply a window of DICOM (PS3.3 C.11.2.1)."""
    if shape == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700))))
    if shape == "LINEAR":  # its width counts values, both ends included
        center, width = center - 0.5, width - 1
    elif shape != "LINEAR_EXACT":
        raise ValueError(f"its window has the unknown function {quoted(shape)}")
    if width <= 0:  # a step
        return (values > center).astype(np.float32)
    return spread(values, center - width / 2, center + width / 2)


def _looked_up(values: Values, item: Dataset) -> tuple[Values, int]:
    """Return the entries of a look-up table for values, and the number of bits of an entry."""
    count, first, depth = (int(number) for number in item.LUTDescriptor)
    entries = item.LUTData
    if isinstance(entries, bytes):  # always little endian, but for a retired syntax
        entries = np.frombuffer(entries, "<u2" if len(entries) >= 2 * (count or 2**16) else "u1")
    table = np.asarray(entries)[: count or 2**16]  # 0 stands for 2**16, which 16 bits cannot count
    return table[np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.int64)], depth


def _numbers(data: Dataset, name: str) -> list[float]:
    """Return the numbers of an element, none if it is missing or empty."""
    value = data.get(name)
    if value is None or value == "":
        return []
    found = [float(each) for each in (value if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value])]
    if not all(map(math.isfinite, found)):
        raise ValueError(f"its element {name} contains {quoted(found)}")
    return found


# NIfTI


def _nifti(path: Path, kind: str, max_pixels: int | None) -> Nifti1Image:
    """Return an image whose values can be read; they have not been yet."""
    with _installed(path, kind):
        import nibabel
    with naming(path, kind):
        image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise ValueError(f"{kind} '{shown(path)}' is {type(image).__name__}; expected an image or a volume of NIfTI.")
    if image.get_data_dtype().kind == "c":
        raise ValueError(f"{kind} '{shown(path)}' has complex numbers; expected real ones: save their magnitude.")
    if len(_dimensions(image)) > 4:
        raise ValueError(
            f"{kind} '{shown(path)}' has the shape {quoted(image.shape)}; expected an image (x, y), a volume (x, y, z) or "
            "several (x, y, z, channel)."
        )
    count = math.prod(_dimensions(image))
    check_pixels(count, path, kind, max_pixels)
    packed = _GZIP_RATIO if path.name.lower().endswith(".gz") else 1
    if count * image.get_data_dtype().itemsize > packed * path.stat().st_size:  # nibabel would allocate the memory first
        raise ValueError(f"{kind} '{shown(path)}' has fewer voxels than its header says; repair or remove it.")
    return image


def _dimensions(image: Nifti1Image) -> tuple[int, ...]:
    """Return the shape with three axes of space, and one of channels if there are several."""
    shape = tuple(map(int, image.shape))
    return (*shape, 1, 1, 1)[:3] + tuple(length for length in shape[3:] if length != 1)


def _canonical(values: Values, image: Nifti1Image) -> Values:
    """Turn values (x, y, z) or (x, y, z, channel) to (z, y, x) or (channel, z, y, x); a single slice to (y, x)."""
    from nibabel.orientations import apply_orientation, io_orientation

    turned: Values = apply_orientation(values.reshape(_dimensions(image)), io_orientation(image.affine)).T
    return turned.squeeze(turned.shape.index(1)) if turned.ndim == 3 and 1 in turned.shape else turned


def _nifti_values(image: Nifti1Image) -> Values:
    """Return the values after rescaling: (H, W), (D, H, W) or (C, D, H, W); of colours (3, H, W) or (3, D, H, W)."""
    values = np.asanyarray(image.dataobj)
    if values.dtype.names:
        return np.stack([_canonical(values[name], image) for name in values.dtype.names[:3]])
    return _canonical(values, image)


def _nifti_image(image: Nifti1Image, window: Window | None) -> tuple[Values, Note]:
    """Return the image (H, W) or (3, H, W) or the volume (C, D, H, W) in [0, 1], and what is not expected of it."""
    values, note, coloured = _nifti_values(image), _nifti_note(image, window), image.get_data_dtype().names
    if values.ndim == 3 and not coloured:
        values = values[None]
    if coloured or (window is None and note == ""):
        return spread(values, 0, 255), note
    finite = np.isfinite(values)
    shades = own_range(values, finite) if window is None else spread(values, *window)
    shades[~finite] = 0
    return shades, note if finite.all() else "not finite"


def _nifti_note(image: Nifti1Image, window: Window | None) -> Note:
    stored, proxy = image.get_data_dtype(), cast(Any, image.dataobj)
    plain = stored.names or (stored == np.uint8 and (proxy.slope, proxy.inter) == (1, 0))  # as other pictures of 8 bits
    return "" if plain or window is not None else "own range"
