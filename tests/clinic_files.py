"""DICOM and NIfTI files on disk, for the tests of all that reads images; both libraries are extras."""

from __future__ import annotations

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="DICOM needs the extra medical")
nibabel = pytest.importorskip("nibabel", reason="NIfTI needs the extra medical")

RAMP = np.arange(12, dtype=np.int16).reshape(3, 4) * 100 - 500


def dicom(path, pixels=RAMP, bits=None, **elements):
    """Save a DICOM file of grey values (H, W), or of colours (H, W, 3), with more elements."""
    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID = pydicom.uid.SecondaryCaptureImageStorage, pydicom.uid.generate_uid()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    kind = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    size = 8 * pixels.dtype.itemsize
    pydicom.pixels.set_pixel_data(data, pixels, kind, bits or size)
    for name, value in elements.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def nifti(path, values, affine=None, slope=None):
    image = nibabel.Nifti1Image(values, np.diag([1.0, 1, 1, 1]) if affine is None else affine)
    image.header.set_slope_inter(*(slope or (None, None)))
    image.to_filename(path)
    return path
