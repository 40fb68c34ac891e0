"""What is read from a picture: upright, whatever the format and mode, or refused in words that name the file."""

import numpy as np
import pytest
import torch
from image_files import message
from PIL import Image, ImageOps

from captum_softcam.data import BoxTableSamples, CocoSamples, ImageFolderSamples, Reading, VOCSamples, read_image
from captum_softcam.data.images import open_image, orientation_of, upright

SCENE = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
"""What one sees: 16 wide, 24 high, no two pixels alike."""

STORED = {  # what is stored with each orientation, as the standard says where its first row and column lie
    1: SCENE,
    2: SCENE[:, ::-1],
    3: SCENE[::-1, ::-1],
    4: SCENE[::-1],
    5: SCENE.transpose(1, 0, 2),
    6: SCENE.transpose(1, 0, 2)[::-1],
    7: SCENE.transpose(1, 0, 2)[::-1, ::-1],
    8: SCENE.transpose(1, 0, 2)[:, ::-1],
}


def tensor(pixels):
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1) / 255


def photo(path, orientation=1, pixels=None, **options):
    """Save what is stored of a scene, with the orientation in EXIF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(STORED[orientation] if pixels is None else pixels)).save(path, exif=exif, **options)
    return path


class TestOrientation:
    @pytest.mark.parametrize("orientation", STORED)
    @pytest.mark.parametrize("ending", ["png", "tif", "webp"])
    def test_all_eight(self, tmp_path, orientation, ending):
        path = photo(tmp_path / f"a.{ending}", orientation, lossless=True)
        assert orientation_of(path) == orientation
        assert torch.equal(read_image(path), tensor(SCENE))
        assert np.array_equal(upright(STORED[orientation], orientation), SCENE)
        assert np.array_equal(np.asarray(open_image(path, "mask")), SCENE)

    @pytest.mark.parametrize("orientation", STORED)
    def test_jpeg_as_pillow_turns_it(self, tmp_path, orientation):
        path = photo(tmp_path / "a.jpg", orientation)
        with Image.open(path) as file:
            assert torch.equal(read_image(path), tensor(np.asarray(ImageOps.exif_transpose(file))))

    @pytest.mark.parametrize("value", [0, 9, 255, 65535])
    def test_absurd_numbers_are_upright(self, tmp_path, value):
        path = tmp_path / "a.png"
        exif = Image.Exif()
        exif[0x0112] = value
        Image.fromarray(SCENE).save(path, exif=exif)
        assert orientation_of(path) == 1
        assert torch.equal(read_image(path), tensor(SCENE))

    @pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
    def test_damaged_blocks_do_not_stop_the_picture(self, tmp_path, ending):
        exif = Image.Exif()
        exif[0x0112] = 6
        block = exif.tobytes()
        for damaged in (
            b"Exif\0\0",
            block[:9],
            block[:14],
            block[:18] + b"\xff" * 12,
            b"Exif\0\0" + bytes(40),
            b"\xff" * 30,
        ):
            Image.fromarray(SCENE).save(tmp_path / f"a.{ending}", exif=damaged, lossless=True)
            assert read_image(tmp_path / f"a.{ending}").shape == (3, 24, 16)
            assert orientation_of(tmp_path / f"a.{ending}") == 1

    def test_files_without_one(self, tmp_path):
        (tmp_path / "a.txt").write_text("no picture")
        assert orientation_of(tmp_path / "a.txt") == orientation_of(tmp_path / "none") == 1


def half(height=24, width=16):
    """What the region of the tests covers: the upper third."""
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 3] = 255
    return mask


class TestRegionsOfTurnedPictures:
    """The upper third of the scene, drawn on what one sees and on what is stored."""

    def _mask(self, samples):
        mask = samples._entries[0].mask(read_image(samples._entries[0].file))
        return mask[0].numpy().astype(np.uint8) * 255

    @pytest.mark.parametrize("orientation", [5, 6, 7, 8])
    def test_masks(self, tmp_path, orientation):
        photo(tmp_path / "i/a/1.png", orientation)
        stored = STORED[orientation]
        rows = {tuple(pixel): row for row, line in enumerate(SCENE.tolist()) for pixel in map(tuple, line)}
        drawn = np.array([[255 * (rows[tuple(pixel)] < 8) for pixel in line] for line in stored.tolist()], np.uint8)
        (tmp_path / "m/a").mkdir(parents=True)
        for mask in (half(), drawn):
            Image.fromarray(mask).save(tmp_path / "m/a/1.png")
            assert np.array_equal(self._mask(ImageFolderSamples(tmp_path / "i", tmp_path / "m")), half())
        photo(tmp_path / "m/a/1.png", orientation, drawn)
        assert np.array_equal(self._mask(ImageFolderSamples(tmp_path / "i", tmp_path / "m")), half())

    def test_a_turned_mask_is_not_turned_again(self, tmp_path):
        photo(tmp_path / "i/a/1.png", 6)
        photo(tmp_path / "m/a/1.png", 6, half())
        text = message(ValueError, lambda: self._mask(ImageFolderSamples(tmp_path / "i", tmp_path / "m")))
        assert text == (
            f"mask '{tmp_path}/m/a/1.png' is 24x16 pixels, its image '{tmp_path}/i/a/1.png' 16x24; both must have the same "
            "size. The image is stored turned (EXIF orientation 6), which may be the cause."
        )

    def test_by_a_half_what_one_sees_counts(self, tmp_path):
        photo(tmp_path / "i/a/1.png", 3)
        (tmp_path / "m/a").mkdir(parents=True)
        Image.fromarray(half()).save(tmp_path / "m/a/1.png")
        assert np.array_equal(self._mask(ImageFolderSamples(tmp_path / "i", tmp_path / "m")), half())

    def _voc(self, folder, size, box):
        for name, text in (
            ("ImageSets/Main/test.txt", "1\n"),
            (
                "Annotations/1.xml",
                f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size><object><name>cat</name><bndbox>"
                f"<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
                "</annotation>",
            ),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return VOCSamples(folder)

    def test_boxes_of_a_stated_size(self, tmp_path):
        photo(tmp_path / "JPEGImages/1.jpg", 6)
        seen, stored = ((16, 24), (1, 1, 16, 8)), ((24, 16), (1, 1, 8, 16))  # stored, the top lies on the left
        for size, box in (seen, stored):
            assert np.array_equal(self._mask(self._voc(tmp_path, size, box)), half())
        text = message(ValueError, lambda: self._mask(self._voc(tmp_path, (12, 8), (1, 1, 8, 8))))
        assert text == (
            f"annotation '{tmp_path}/Annotations/1.xml' is for an image of 12x8 pixels, its image has 16x24; its regions "
            "would be misplaced. The image is stored turned (EXIF orientation 6), which may be the cause."
        )

    @pytest.mark.parametrize("regions", ["boxes", "polygons"])
    def test_coco(self, tmp_path, regions):
        photo(tmp_path / "1.jpg", 8)
        for (width, height), (x, y, w, h) in (((16, 24), (0, 0, 16, 8)), ((24, 16), (16, 0, 8, 16))):
            annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [x, y, w, h]}
            annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            image = {"id": 1, "file_name": "1.jpg", "width": width, "height": height}
            document = {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "cat"}]}
            (tmp_path / "a.json").write_text(str(document).replace("'", '"'))
            assert np.array_equal(self._mask(CocoSamples(tmp_path, tmp_path / "a.json", regions=regions)), half())

    def test_without_a_stated_size_what_one_sees_counts(self, tmp_path):
        photo(tmp_path / "1.png", 6)
        (tmp_path / "t.csv").write_text("patientId,x,y,width,height,Target\n1,0,0,16,8,1\n")
        assert np.array_equal(self._mask(BoxTableSamples(tmp_path, tmp_path / "t.csv")), half())


class TestTooManyPixels:
    def test_the_limit_is_lifted_for_one_reader_alone(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        path = photo(tmp_path / "a.png")
        text = message(ValueError, lambda: read_image(path))
        assert text == (
            f"image '{path}' has 384 pixels, more than 200; make it smaller, because the map of a network is far coarser, "
            "or lift the limit by Reading(max_pixels=384), on the command line --max-pixels 384."
        )
        assert torch.equal(read_image(path, reading=Reading(max_pixels=384)), tensor(SCENE))
        assert "more than 383;" in message(ValueError, lambda: read_image(path, reading=Reading(max_pixels=383)))
        assert Image.MAX_IMAGE_PIXELS == 100

    def test_up_to_twice_pillows_limit_without_a_warning(self, tmp_path, monkeypatch):
        path = photo(tmp_path / "a.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 192)
        assert torch.equal(read_image(path), tensor(SCENE))  # warnings are errors in these tests
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        assert torch.equal(read_image(path), tensor(SCENE))

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"max_pixels": 0}, "max_pixels is a number of pixels, at least 1; got 0."),
            ({"window": (5, 5)}, "window is the value that becomes black and a greater one that becomes white; got (5, 5)."),
            ({"window": 5}, "window is the value that becomes black and a greater one that becomes white; got 5."),
            ({"threshold": 1}, "threshold is a fraction of a mask's range, from 0 up to 1; got 1."),
            ({"ignore": "255"}, "ignore is a value of a mask, a whole number; got '255'."),
        ],
    )
    def test_settings_out_of_range(self, options, text):
        assert message(ValueError, lambda: Reading(**options)) == text
