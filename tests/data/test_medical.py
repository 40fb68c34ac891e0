"""DICOM and NIfTI files: values, windows, orientation, and what is refused in words."""

from __future__ import annotations

import gzip
import random
import re
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from clinic_files import RAMP, dicom, nibabel, nifti, pydicom
from command import run
from image_files import message
from PIL import Image
from torch import nn

from captum_softcam.data import Fit, ImageFolderSamples, LabelledImages, Reading, read_image
from captum_softcam.data._pixels.images import image_shape
from captum_softcam.data._pixels.medical import medical_format, read_medical_values
from captum_softcam.evaluation import compare_methods

FOUND = Path(pydicom.__file__).parent / "data/test_files"  # real files of many makers, in pydicom's wheel


OF_MASKS, OF_IMAGES = np.diag([1.0, 1, 1, 1]), np.diag([1.0, 1, -1, 1])  # slices go up, and go down to the same place:
OF_MASKS[2, 3], OF_IMAGES[2, 3] = 90, 90 + 9


def quiet(path, **reading):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_image(path, reading=Reading(**reading))


def noted(path, words, **reading):
    """The image, after a warning that its header alone gives, too, but for values that are not finite."""
    with pytest.warns(UserWarning, match=words):
        image = read_image(path, reading=Reading(**reading))
    if "finite" not in words:
        with pytest.warns(UserWarning, match=words):
            image_shape(path, Reading(**reading))
    return image


def size(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return image_shape(path)


def grey(path, **reading):
    """The one channel of a grey picture, without a note."""
    image = read_image(path, reading=Reading(**reading))
    assert image_shape(path, Reading(**reading)) == image.shape[1:]
    assert image.shape[0] == 3
    assert image.dtype == torch.float32
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])
    return image[0]


class TestDicom:
    def test_what_is_said_of_many_files_is_said_once(self, tmp_path):
        """Python forgets what it has shown whenever filters of warnings change."""
        files = [dicom(tmp_path / f"{k}.dcm", RAMP) for k in range(3)]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for file in files:
                read_image(file)
        assert len(caught) == 1

    def test_the_own_range_is_said(self, tmp_path):
        image = noted(dicom(tmp_path / "a.dcm"), "has no window: its lowest value is black")
        assert torch.allclose(image[1], torch.from_numpy((RAMP + 500) / 1100).float())

    @pytest.mark.parametrize("name", ["a.dcm", "a.DICOM", "a", "a.png"])
    def test_it_is_known_by_its_ending_or_content(self, tmp_path, name):
        path = dicom(tmp_path / name)
        assert medical_format(path) == "DICOM"
        assert quiet(path).shape == (3, 3, 4)
        assert size(path) == (3, 4)

    def test_a_given_window_is_in_rescaled_units(self, tmp_path):
        path = dicom(tmp_path / "a.dcm", RAMP + 1024, RescaleSlope=2, RescaleIntercept=-2048, WindowCenter=0, WindowWidth=9)
        want = np.clip((RAMP * 2.0 + 400) / 800, 0, 1)
        assert torch.allclose(grey(path, window=(-400, 400)), torch.from_numpy(want).float(), atol=1e-6)

    @pytest.mark.parametrize("function", ["", "LINEAR", "LINEAR_EXACT", "SIGMOID"])
    @pytest.mark.parametrize(("center", "width"), [(40, 400), (-100.5, 850), (0, 2)])
    def test_its_own_window_is_that_of_pydicom(self, tmp_path, function, center, width):
        path = dicom(tmp_path / "a.dcm", RescaleSlope=1, RescaleIntercept=0, WindowCenter=center, WindowWidth=width)
        data = pydicom.dcmread(path)
        if function:
            data.VOILUTFunction = function
            data.save_as(path)
        with np.errstate(over="ignore"):
            theirs = pydicom.pixels.apply_windowing(RAMP, data)
        want = (theirs - -(2**15)) / (2**16 - 1)
        assert torch.allclose(grey(path), torch.from_numpy(want).float(), atol=1e-5)

    def test_a_window_of_one_value_is_a_step(self, tmp_path):
        path = dicom(tmp_path / "a.dcm", WindowCenter=100, WindowWidth=1)
        assert torch.equal(grey(path), torch.from_numpy(RAMP > 99.5).float())

    def test_of_several_windows_the_first_is_used(self, tmp_path):
        one = dicom(tmp_path / "a.dcm", WindowCenter=0, WindowWidth=500)
        many = dicom(tmp_path / "b.dcm", WindowCenter=[0, 100], WindowWidth=[500, 9])
        assert torch.equal(grey(one), noted(many, "several windows, of which the first")[0])

    @pytest.mark.parametrize("width", [0, -5, None])
    def test_a_window_without_width_is_none(self, tmp_path, width):
        noted(dicom(tmp_path / "a.dcm", WindowCenter=0, WindowWidth=width), "has no window")

    def test_monochrome1_is_inverted(self, tmp_path):
        plain = dicom(tmp_path / "a.dcm", WindowCenter=0, WindowWidth=500)
        turned = dicom(tmp_path / "b.dcm", WindowCenter=0, WindowWidth=500, PhotometricInterpretation="MONOCHROME1")
        assert torch.allclose(grey(turned), 1 - grey(plain))
        assert torch.allclose(grey(turned, window=(-10, 10)), 1 - grey(plain, window=(-10, 10)))

    def test_eight_bits_are_read_as_those_of_other_pictures(self, tmp_path):
        pixels = np.array([[0, 51], [102, 128]], np.uint8)
        assert torch.equal(grey(dicom(tmp_path / "a.dcm", pixels)), torch.from_numpy(pixels / np.float32(255)))
        rescaled = dicom(tmp_path / "b.dcm", pixels, RescaleSlope=3, RescaleIntercept=1)
        assert noted(rescaled, "has no window").max() == 1

    @pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
    def test_padding_is_black_and_does_not_count(self, tmp_path, kind):
        pixels = RAMP.copy()
        pixels[0, :2] = -2000
        pixels[2, 3] = -1990
        more = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990, "PhotometricInterpretation": kind}
        image = noted(dicom(tmp_path / "a.dcm", pixels, **more), "has no window")[0]
        assert not image[0, :2].any()
        assert image[2, 3] == 0
        dark, bright = (image[0, 2], image[2, 2]) if kind == "MONOCHROME2" else (image[2, 2], image[0, 2])
        assert (dark, bright) == (0, 1)

    def test_nothing_but_padding(self, tmp_path):
        path = dicom(tmp_path / "a.dcm", np.full((2, 2), 7, np.uint16), PixelPaddingValue=7)
        assert "no value that is finite and not padding" in message(ValueError, lambda: read_image(path))

    @pytest.mark.parametrize("which", ["VOILUTSequence", "ModalityLUTSequence"])
    @pytest.mark.parametrize("packed", [False, True])
    def test_look_up_tables(self, tmp_path, which, packed):
        table = pydicom.Dataset()
        entries = np.array([0, 5, 20, 80, 255], "<u2")
        table.LUTDescriptor = [5, 2, 8]
        if packed:
            table.add_new("LUTData", "OW", entries.tobytes())
        else:
            table.add_new("LUTData", "US", entries.tolist())
        pixels = np.array([[0, 2, 3], [4, 6, 900]], np.uint16)  # below, inside and above; 900 would begin anew in 8 bits
        path = dicom(tmp_path / "a.dcm", pixels, **{which: [table]})
        want = torch.tensor([[0, 0, 5], [20, 255, 255]]) / 255
        assert torch.allclose(quiet(path)[0], want)

    def test_colours(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
        image = read_image(dicom(tmp_path / "a.dcm", pixels))
        assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1) / 255)

    def test_a_palette(self, tmp_path):
        pixels = np.array([[0, 1], [2, 1]], np.uint8)
        colours = {
            name: np.array(values, np.uint8) for name, values in {"Red": [9, 0, 1, 3], "Green": [0, 255, 2, 3]}.items()
        }
        more = {"PhotometricInterpretation": "PALETTE COLOR"}
        for name in ("Red", "Green", "Blue"):
            more[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, 8]
            more[f"{name}PaletteColorLookupTableData"] = colours.get(name, np.zeros(4, np.uint8)).tobytes()
        image = read_image(dicom(tmp_path / "a.dcm", pixels, **more))
        assert torch.allclose(image * 255, torch.tensor([[[9, 0], [1, 0]], [[0, 255], [2, 255]], [[0, 0], [0, 0]]]).float())

    def test_what_enhanced_files_say_about_their_frames_counts(self, tmp_path):
        """A slope in the functional groups: without it, Hounsfield units would be stored values."""
        value, group = pydicom.Dataset(), pydicom.Dataset()
        value.RescaleSlope, value.RescaleIntercept = 2, -100
        group.PixelValueTransformationSequence = [value]
        path = dicom(tmp_path / "a.dcm", np.array([[50, 100]], np.uint16), SharedFunctionalGroupsSequence=[group])
        assert grey(path, window=(0, 100)).tolist() == [[0, 1]]

    @pytest.mark.parametrize("name", ["MR_small_RLE", "MR_small_bigendian", "MR_small_implicit", "MR_small_jp2klossless"])
    def test_real_files_stored_in_several_ways_are_one_picture(self, name):
        assert torch.equal(quiet(FOUND / f"{name}.dcm"), quiet(FOUND / "MR_small.dcm"))

    @pytest.mark.parametrize(
        "name", ["SC_ybr_full_422_uncompressed", "SC_rgb_dcmtk_+eb+cy+s4", "SC_rgb_jpeg_dcmtk", "SC_rgb_rle_16bit"]
    )
    def test_real_files_of_several_colour_spaces_are_one_picture(self, name):
        error = (quiet(FOUND / f"{name}.dcm") - quiet(FOUND / "SC_rgb_rle.dcm")).abs()
        assert error.mean() < 0.01

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("rtstruct", "is a DICOM file without an image, RT Structure Set Storage; remove it"),
            ("test-SR", "without an image, Comprehensive SR Storage"),
            (
                "rtdose",
                "has 15 frames; expected one: save each as a file of its own, or convert them to a volume",
            ),
            ("MR_truncated", "cannot be read (The number of bytes of pixel data is less than expected"),
        ],
    )
    def test_real_files_that_are_refused(self, name, words):
        path = FOUND / f"{name}.dcm"
        text = message(ValueError, lambda: read_image(path))
        assert words in text
        assert f"image '{path}'" in text

    def test_a_compression_without_decoder_names_the_packages(self):
        decoder = pydicom.pixels.get_decoder(pydicom.uid.JPEGLSLossless)
        if decoder.is_available:
            pytest.skip("a decoder of JPEG-LS is installed")
        text = message(ValueError, lambda: read_image(FOUND / "MR_small_jpeg_ls_lossless.dcm"))
        assert "is compressed (JPEG-LS Lossless Image Compression), which pydicom cannot decode by itself" in text
        assert text.endswith("run: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg.")

    def test_a_picture_that_is_too_large_is_refused_by_its_header(self, tmp_path):
        path = dicom(tmp_path / "a.dcm", Rows=60000, Columns=60000)
        for call in (lambda: read_image(path), lambda: image_shape(path)):
            text = message(ValueError, call)
            assert f"image '{path}' has 3600000000 pixels according to its header, more than 178956970" in text
            assert "--max-pixels 3600000000" in text
        small = dicom(tmp_path / "b.dcm")
        assert "more than 11; make" in message(ValueError, lambda: read_image(small, reading=Reading(max_pixels=11)))
        assert quiet(small, max_pixels=12).shape == (3, 3, 4)

    def test_other_interpretations_are_refused(self, tmp_path):
        path = dicom(tmp_path / "a.dcm", PhotometricInterpretation="HSV")
        assert "photometric interpretation 'HSV'; expected MONOCHROME1" in message(ValueError, lambda: read_image(path))
        several = dicom(tmp_path / "b.dcm", np.zeros((2, 2, 3), np.uint8), PhotometricInterpretation="MONOCHROME2")
        assert "values per pixel" in message(ValueError, lambda: read_image(several))

    def test_what_is_not_dicom(self, tmp_path):
        (tmp_path / "a.dcm").write_bytes(b"no picture at all")
        assert f"image '{tmp_path}/a.dcm'" in message(ValueError, lambda: read_image(tmp_path / "a.dcm"))
        for name, content, what in (
            ("e.dcm", b"", "empty"),
            ("e.nii.gz", b"", "empty"),
            (
                "p.dcm",
                b"version https://git-lfs.github.com/spec/v1",
                "a pointer of Git LFS: git lfs pull downloads the file",
            ),
        ):
            (tmp_path / name).write_bytes(content)
            words = f"image '{tmp_path}/{name}' cannot be read (it is {what}); repair or remove it."
            assert message(ValueError, lambda path=tmp_path / name: read_image(path)) == words
        assert "is not a file" in message(FileNotFoundError, lambda: read_image(tmp_path / "b.dcm"))

    def test_a_mask_is_read_as_it_is_stored(self, tmp_path):
        path = dicom(tmp_path / "a.dcm", RAMP, RescaleSlope=1, RescaleIntercept=-1024)
        assert np.array_equal(read_medical_values(path, "mask"), RAMP)


class TestNifti:
    VOLUME = np.arange(24, dtype=np.int16).reshape(4, 3, 2)  # x, y, z

    def test_a_volume_is_the_transpose_of_the_canonical_one(self, tmp_path):
        image = noted(nifti(tmp_path / "a.nii.gz", self.VOLUME), "has no window")
        assert image.shape == (1, 2, 3, 4)
        assert torch.allclose(image[0], torch.from_numpy(self.VOLUME.T / 23).float())
        assert size(tmp_path / "a.nii.gz") == (2, 3, 4)

    @pytest.mark.parametrize("codes", ["LPS", "SAR", "AIL", "IRP"])
    def test_however_it_is_stored(self, tmp_path, codes):
        straight = nibabel.Nifti1Image(self.VOLUME, np.diag([2.0, 3, 4, 1]))
        turn = nibabel.orientations.ornt_transform(
            nibabel.io_orientation(straight.affine), nibabel.orientations.axcodes2ornt(tuple(codes))
        )
        stored = straight.as_reoriented(turn)
        assert "".join(nibabel.aff2axcodes(stored.affine)) == codes
        straight.to_filename(tmp_path / "a.nii")
        stored.to_filename(tmp_path / "b.nii")
        assert torch.equal(quiet(tmp_path / "b.nii"), quiet(tmp_path / "a.nii"))
        theirs = nibabel.as_closest_canonical(nibabel.load(tmp_path / "b.nii")).get_fdata().T
        assert np.array_equal(read_medical_values(tmp_path / "b.nii", "mask"), theirs)
        assert size(tmp_path / "b.nii") == theirs.shape

    @pytest.mark.parametrize(("shape", "want"), [((4, 3), (3, 4)), ((4, 3, 1), (3, 4)), ((4, 1, 2), (2, 4))])
    def test_one_slice_is_a_picture(self, tmp_path, shape, want):
        values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        path = nifti(tmp_path / "a.nii", values)
        image = quiet(path)
        assert image.shape == (3, *want)
        assert torch.allclose(image[2], torch.from_numpy(values.reshape(want[::-1]).T / values.max()))
        assert size(path) == want

    def test_channels_go_first(self, tmp_path):
        values = np.random.default_rng(0).random((4, 3, 2, 5), np.float32)
        image = read_image(nifti(tmp_path / "a.nii", values), reading=Reading(window=(0, 1)))
        assert torch.equal(image, torch.from_numpy(values.T.copy()))
        assert quiet(nifti(tmp_path / "b.nii", values[..., None, :])).shape == (5, 2, 3, 4)
        assert quiet(nifti(tmp_path / "c.nii", values[..., :1])).shape == (1, 2, 3, 4)
        assert size(tmp_path / "a.nii") == (2, 3, 4)

    def test_its_slope_and_a_window(self, tmp_path):
        path = nifti(tmp_path / "a.nii.gz", self.VOLUME, slope=(10, -1000))
        image = read_image(path, reading=Reading(window=(-1000, -800)))
        assert torch.allclose(image[0], torch.from_numpy(np.clip(self.VOLUME.T / 20, 0, 1)).float())
        assert np.array_equal(read_medical_values(path, "mask"), self.VOLUME.T * 10.0 - 1000)

    def test_bytes_are_read_as_those_of_other_pictures(self, tmp_path):
        path = nifti(tmp_path / "a.nii", self.VOLUME.astype(np.uint8))
        assert torch.allclose(read_image(path)[0] * 255, torch.from_numpy(self.VOLUME.T.copy()).float())
        assert torch.allclose(
            read_image(path, reading=Reading(window=(0, 23)))[0] * 23, torch.from_numpy(self.VOLUME.T * 1.0).float()
        )

    @pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2)])
    def test_colours(self, tmp_path, shape):
        values = np.zeros(shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
        values["R"], values["B"] = 255, 51
        path = nifti(tmp_path / "a.nii", values)
        image = read_image(path)
        assert image.shape == (3, *shape[::-1])
        assert image.flatten(1).unique(dim=1).flatten().tolist() == pytest.approx([1, 0, 0.2])
        assert torch.equal(read_image(path, reading=Reading(window=(0, 9))), image), "a window is for greys"
        assert read_medical_values(path, "mask").shape == shape[::-1]

    def test_values_that_are_not_finite_are_black_and_said(self, tmp_path):
        values = self.VOLUME.astype(np.float32)
        values[0, 0, 0], values[1, 1, 1] = np.nan, np.inf
        image = noted(nifti(tmp_path / "a.nii", values), "not finite, such as NaN; they are black")[0]
        assert image[0, 0, 0] == image[1, 1, 1] == 0
        assert image.max() == 1
        assert image.isfinite().all()
        path = nifti(tmp_path / "b.nii", np.full((2, 2), np.nan, np.float32))
        assert "no value that is finite" in message(ValueError, lambda: read_image(path))

    def test_extreme_values(self, tmp_path):
        values = np.array([[-3e38, 3e38, 0]], np.float32)
        assert quiet(nifti(tmp_path / "a.nii", values))[0].flatten().tolist() == pytest.approx([0, 1, 0.5])
        tiny = nifti(tmp_path / "c.nii", self.VOLUME, slope=(1e-40, 0))
        assert torch.allclose(quiet(tiny)[0], torch.from_numpy(self.VOLUME.T / 23).float(), atol=1e-5)
        values = np.array([[-1e300, 1e300, 0]])
        assert quiet(nifti(tmp_path / "b.nii", values))[0].flatten().tolist() == pytest.approx([0, 1, 0.5])

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            (np.zeros((2, 2), np.complex64), "has complex numbers; expected real ones"),
            (np.zeros((2, 2, 2, 2, 2), np.float32), "expected an image (x, y), a volume (x, y, z)"),
            (np.zeros((2, 0, 2), np.float32), "has no pixels according to its header"),
        ],
    )
    def test_what_is_refused(self, tmp_path, values, words):
        path = nifti(tmp_path / "a.nii", values)
        text = message(ValueError, lambda: read_image(path))
        assert words in text
        assert f"image '{path}'" in text

    def test_a_header_that_claims_too_much(self, tmp_path):
        image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
        raw = bytearray(image.to_bytes())
        raw[42:48] = np.array([30000, 30000, 9], "<i2").tobytes()
        (tmp_path / "a.nii").write_bytes(raw)
        assert "8100000000 pixels according" in message(ValueError, lambda: read_image(tmp_path / "a.nii"))


def test_a_volume_that_is_shorter_than_its_header_says_takes_no_memory(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float64), np.eye(4))
    raw = bytearray(image.to_bytes())
    raw[42:48] = np.array([500, 500, 500], "<i2").tobytes()
    for name, content in (("a.nii", bytes(raw)), ("a.nii.gz", gzip.compress(raw))):
        (tmp_path / name).write_bytes(content)
        text = message(ValueError, lambda name=name: read_image(tmp_path / name))
        assert text == f"image '{tmp_path / name}' has fewer voxels than its header says; repair or remove it."
    zeros = np.zeros((200, 200, 100), np.uint8)  # the most that gzip can do
    assert not read_image(nifti(tmp_path / "b.nii.gz", zeros)).any()


@pytest.mark.parametrize(("name", "missing"), [("a.dcm", "pydicom"), ("a.nii", "nibabel")])
def test_without_the_extra_its_name_is_said(tmp_path, monkeypatch, name, missing):
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, missing, None)
    text = message(ImportError, lambda: read_image(tmp_path / name))
    assert text == f"image '{tmp_path / name}' needs {missing}; run: pip install 'captum-softcam[medical]'."


def damaged(raw, rng):
    """Bytes that were flipped, and perhaps an end that was cut."""
    raw = bytearray(raw)
    for _ in range(rng.choice([1, 3, 20])):
        where = rng.randrange(len(raw)) if rng.random() < 0.5 else rng.randrange(min(len(raw), 600))
        raw[where] = rng.randrange(256)
    return bytes(raw[: rng.randrange(len(raw))] if rng.random() < 0.2 else raw)


@pytest.mark.parametrize("name", ["a.dcm", "b.dcm", "a.nii", "a.nii.gz"])
def test_a_damaged_file_is_read_or_refused_by_name(tmp_path, name):
    path = tmp_path / name
    if name == "b.dcm":
        raw = (FOUND / "SC_rgb_small_odd_jpeg.dcm").read_bytes()
    elif name == "a.dcm":
        raw = dicom(path, WindowCenter=0, WindowWidth=50, RescaleSlope=1, RescaleIntercept=0).read_bytes()
    else:
        raw = nifti(path, np.arange(60, dtype=np.int16).reshape(5, 4, 3)).read_bytes()
    rng, read, refusals = random.Random(0), 0, set()
    for _ in range(200):
        path.write_bytes(damaged(raw, rng))
        try:
            image = quiet(path)
        except ValueError as error:
            refusals.add(str(error))
        else:
            read += 1
            assert image.ndim in (3, 4)
            assert image.isfinite().all()
            assert 0 <= image.min() <= image.max() <= 1
    assert all(re.match(f"image '{re.escape(str(path))}' (cannot be read|has|is)", text) for text in refusals)
    assert read < 200
    assert read or name == "a.nii.gz", "gzip notices every change"


def test_threads_leave_the_filters_of_warnings_as_they_were(tmp_path):
    paths = [dicom(tmp_path / f"{i}.dcm", WindowCenter=0, WindowWidth=50) for i in range(4)]
    paths += [tmp_path / f"{i}.png" for i in range(4)]
    for path in paths[4:]:  # Pillow warns of their EXIF
        Image.new("RGB", (4, 4)).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as threads:
            assert len(list(threads.map(read_image, paths * 10))) == 80
        assert warnings.filters == before


class TestSamples:
    def test_a_folder_of_volumes_with_masks(self, tmp_path):
        samples = volumes(tmp_path)
        assert samples.found.files == 4
        sample = samples[0]
        assert sample.identifier == "ball/0.nii.gz"
        assert sample.image.shape == sample.mask.shape == (1, 14, 14, 14)
        assert torch.equal(sample.image == 1, sample.mask), "the longest side has 14 voxels, so that nothing is resized"
        assert sample.mask.nonzero()[:, 1].float().mean() == 8, "z goes first: of 10 slices, with 2 of padding before them"

    def test_they_are_looked_at_by_their_headers(self, tmp_path):
        samples = volumes(tmp_path)
        (tmp_path / "images/ball/0.nii.gz").write_bytes(b"no volume")
        nifti(tmp_path / "masks/cube/1.nii.gz", np.zeros((14, 12, 10), np.uint8), OF_MASKS)
        nifti(tmp_path / "masks/cube/3.nii.gz", np.ones((14, 9, 10), np.uint8), OF_MASKS)
        seen = samples.inspect()
        assert list(seen.unreadable) == ["ball/0.nii.gz", "cube/3.nii.gz"]
        assert "is 14x9x10 pixels, its image" in seen.unreadable["cube/3.nii.gz"]
        assert list(seen.black) == ["cube/1.nii.gz"]

    def test_a_mask_without_the_affine_of_its_image_is_refused(self, tmp_path):
        """It would be mirrored, because the image is stored from head to feet; one that is stored alike may lie anywhere."""
        samples = volumes(tmp_path)
        want = samples[0].mask
        file = tmp_path / "masks/ball/0.nii.gz"
        upright = nibabel.load(file).get_fdata().astype(np.uint8)
        nifti(file, upright[..., ::-1], np.diag([1.0, 1, -1, 1]))
        assert torch.equal(samples[0].mask, want)
        nifti(file, upright[..., ::-1])
        text = message(ValueError, lambda: samples[0])
        assert "ball/0.nii.gz' is stored in another orientation (RAS) than its image" in text
        assert "(RAI), and does not lie in the same place; save it with the affine of its image." in text

    def test_methods_are_compared_on_them(self, tmp_path):
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv3d(1, 4, 3, 2, 1), nn.ReLU()),
            *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)),
        ).eval()
        found = compare_methods(
            model,
            volumes(tmp_path),
            ["grad_cam", "recipro_cam", "random"],
            ["deletion", "pointing_game"],
            folder=None,
        )
        assert found.failures.empty
        assert len(found.scores) == 4 * 3 * 2
        assert found.scores["score"].notna().all()
        assert found.examples[0].sample.image.shape == (1, 14, 14, 14)

    def test_dicom_files_are_samples_of_a_folder(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            dicom(tmp_path / name / "1.dcm", WindowCenter=0, WindowWidth=500)
        samples = ImageFolderSamples(tmp_path, size=8)
        assert [samples[i].identifier for i in range(2)] == ["a/1.dcm", "b/1.dcm"]
        assert samples[0].image.shape == (3, 8, 8)
        assert not samples.inspect().unreadable
        assert LabelledImages.from_folders(tmp_path)[0][0].shape == (3, 3, 4)


class TestTerminal:
    def test_a_dicom_file_is_explained(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        dicom(tmp_path / "1.2.840.10")  # as archives name them
        done = run("explain", "1.2.840.10", "--methods", "random", "--window", "-500,600", "--out", "out")
        assert (done.code, done.err) == (0, "")
        assert Path("out/1-1.2.840.10-panel.png").stat().st_size > 1000

    def test_a_slice_is_explained_and_a_volume_refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        nifti("slice.nii.gz", np.zeros((9, 8), np.uint8))
        nifti("volume.nii.gz", np.zeros((9, 8, 7), np.uint8))
        assert run("explain", "slice.nii.gz", "--methods", "random", "--out", "out").code == 0
        assert Path("out/1-slice-panel.png").stat().st_size > 1000
        done = run("explain", "volume.nii.gz", "--methods", "random", "--out", "volume")
        assert done.code == 2
        assert "is a volume of 7x8x9 voxels, not a picture; save the slices to explain as files of their own." in done.err
        assert not Path("volume").exists()

    def test_volumes_are_not_trained_on(self, tmp_path, monkeypatch):
        pytest.importorskip("lightning")
        monkeypatch.chdir(tmp_path)
        for name in ("a/1", "a/2", "b/1", "b/2"):
            Path(name).parent.mkdir(exist_ok=True)
            nifti(f"{name}.nii", np.zeros((9, 8, 7), np.uint8))
        done = run("train", "--images", ".", "--model", "shufflenet_v2_x0_5", "--size", 32, "--epochs", 1, "--out", "out")
        assert done.code == 2
        assert "is a volume; the command trains on pictures" in done.err
        assert not Path("out").exists()


def volumes(root):
    """Bright balls and cubes in dark volumes, stored from head to feet, and their masks, stored the other way round."""
    grid = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in (14, 12, 10)], indexing="ij"))
    for number in range(4):
        name = "cube" if number % 2 else "ball"
        mask = (np.abs(grid).max(0) if number % 2 else (grid**2).sum(0) ** 0.5) < 3
        mask = np.roll(mask, (number, -2, 1), (0, 1, 2))
        for folder, values, flip in (("images", 1000 * mask - 500, -1), ("masks", mask, 1)):
            path = root / folder / name / f"{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nifti(path, (values[..., ::-1] if flip < 0 else values).astype(np.int16), OF_IMAGES if flip < 0 else OF_MASKS)
    reading = Reading(window=(-500, 500))
    return ImageFolderSamples(root / "images", root / "masks", 14, fit=Fit("pad"), reading=reading)
