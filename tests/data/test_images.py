"""What is read from a picture: upright, whatever the format and mode, or refused in words that name the file."""

import io
import random
import resource
import shutil
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from image_files import damaged, draw, message, write
from PIL import Image, ImageOps, features

from captum_softcam.data import BoxTableSamples, CocoSamples, ImageFolderSamples, Reading, VOCSamples, read_image
from captum_softcam.data._pixels.images import image_shape, open_image, orientation_of, upright

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
        for broken in (
            b"Exif\0\0",
            block[:9],
            block[:14],
            block[:18] + b"\xff" * 12,
            b"Exif\0\0" + bytes(40),
            b"\xff" * 30,
        ):
            Image.fromarray(SCENE).save(tmp_path / f"a.{ending}", exif=broken, lossless=True)
            assert read_image(tmp_path / f"a.{ending}").shape == (3, 24, 16)
            assert orientation_of(tmp_path / f"a.{ending}") == 1

    @pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
    def test_what_is_whole_of_a_damaged_block_counts(self, tmp_path, ending):
        maker = struct.pack("<HHII", 0x010F, 2, 1000, 50)  # a text that would lie behind the end, of which Pillow warns
        block = b"II*\0" + struct.pack("<IHHHIHH", 8, 2, 0x0112, 3, 1, 6, 0) + maker + bytes(4)
        Image.fromarray(np.ascontiguousarray(STORED[6])).save(tmp_path / f"a.{ending}", exif=b"Exif\0\0" + block)
        assert orientation_of(tmp_path / f"a.{ending}") == 6
        assert read_image(tmp_path / f"a.{ending}").shape == (3, 24, 16)

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


def png(colour, pixels, *chunks):
    """Bytes of a PNG file of 16 bits per channel, which Pillow cannot write; more chunks follow the pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


OWN_RANGE = "an image of more than 8 bits has no window"
GREYS = np.random.default_rng(0).integers(200, 4000, (24, 16)).astype(np.uint16)


def scaled(values, low, high):
    """A linear window, in Python's numbers."""
    rows = [[min(max((float(value) - low) / (high - low), 0), 1) for value in row] for row in values.tolist()]
    return torch.tensor(rows, dtype=torch.float32).expand(3, -1, -1)


class TestDeepGreys:
    def _write(self, path, kind):
        match kind:
            case "big-endian":
                path.write_bytes(Image.fromarray(GREYS).tobytes())
                Image.frombytes("I;16B", (16, 24), GREYS.astype(">u2").tobytes()).save(path, "TIFF")
            case "I":
                Image.fromarray(GREYS.astype(np.int32)).save(path, "TIFF")
            case "F":
                Image.fromarray(GREYS.astype(np.float32)).save(path, "TIFF")
            case _:
                Image.fromarray(GREYS).save(path, kind)
        return path

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000", "big-endian", "I", "F"])
    def test_window(self, tmp_path, kind):
        path = self._write(tmp_path / "a", kind)
        image = read_image(path, reading=Reading(window=(500, 3000)))
        assert image.shape == (3, 24, 16)
        assert image.is_contiguous()
        assert torch.allclose(image, scaled(GREYS, 500, 3000))
        with pytest.warns(UserWarning, match=OWN_RANGE):
            assert torch.allclose(read_image(path), scaled(GREYS, GREYS.min(), GREYS.max()))

    def test_turned(self, tmp_path):
        path = photo(tmp_path / "a.png", 6, GREYS.T[::-1])
        assert torch.allclose(read_image(path, reading=Reading(window=(0, 4095))), scaled(GREYS, 0, 4095))

    def test_floats_below_0_and_infinite(self, tmp_path):
        values = np.array([[-1.5, 0.5, np.inf], [-np.inf, 2.5, np.nan]], np.float32)
        Image.fromarray(values).save(tmp_path / "a.tif")
        with pytest.warns(UserWarning, match="not a number"), pytest.warns(UserWarning, match=OWN_RANGE):
            image = read_image(tmp_path / "a.tif")
        assert image[0].tolist() == [[0, 0.5, 1], [0, 1, 0]]

    def test_extreme_floats(self, tmp_path):
        Image.fromarray(np.array([[-3.4e38, 0, 3.4e38]], np.float32)).save(tmp_path / "a.tif")
        Image.fromarray(np.array([[1e-45, 0, 3e-45]], np.float32)).save(tmp_path / "b.tif")
        with pytest.warns(UserWarning, match=OWN_RANGE):
            assert read_image(tmp_path / "a.tif")[0].tolist() == [[0, 0.5, 1]]
        with pytest.warns(UserWarning, match=OWN_RANGE):
            assert torch.allclose(read_image(tmp_path / "b.tif")[0], torch.tensor([[0.5, 0, 1]]))

    def test_a_signalling_nan_among_extreme_floats(self, tmp_path):
        """NumPy warns of one in arithmetic, and warnings are errors here."""
        values = np.array([[0x7FA00000, 0xFF7FC99E, 0x7F7FC99E]], np.uint32).view(np.float32)
        Image.fromarray(values).save(tmp_path / "a.tif")
        with pytest.warns(UserWarning, match="not a number"), pytest.warns(UserWarning, match=OWN_RANGE):
            assert read_image(tmp_path / "a.tif")[0].tolist() == [[0, 0, 1]]

    @pytest.mark.parametrize("value", [0, 7, -3.5])
    def test_constant_pictures_are_black(self, tmp_path, value):
        Image.fromarray(np.full((4, 5), value, np.float32)).save(tmp_path / "a.tif")
        with pytest.warns(UserWarning, match=OWN_RANGE):
            assert read_image(tmp_path / "a.tif").eq(0).all()

    def test_nothing_finite(self, tmp_path):
        Image.fromarray(np.full((4, 5), np.nan, np.float32)).save(tmp_path / "a.tif")
        with pytest.warns(UserWarning, match=OWN_RANGE):
            text = message(ValueError, lambda: read_image(tmp_path / "a.tif"))
        what = "it has no value that is finite and not padding"
        assert text == f"image '{tmp_path}/a.tif' cannot be read ({what}); repair or remove it."

    @pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
    def test_colours_of_16_bits_are_cut_to_8(self, tmp_path, colour, channels):
        pixels = np.random.default_rng(0).integers(0, 65536, (5, 4, channels))
        (tmp_path / "a.png").write_bytes(png(colour, pixels))
        with pytest.warns(UserWarning, match="the upper 8 bits"):
            image = read_image(tmp_path / "a.png")
        assert torch.equal(image, tensor(np.broadcast_to(pixels[..., : 1 if channels == 2 else 3] >> 8, (5, 4, 3))))

    def test_said_once_for_all_files(self, tmp_path):
        for name in "abc":
            self._write(tmp_path / f"{name}.png", "PNG")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for name in "abc":
                read_image(tmp_path / f"{name}.png")
        assert len(caught) == 1

    def test_a_window_does_not_concern_8_bits(self, tmp_path):
        path = photo(tmp_path / "a.png")
        with pytest.warns(UserWarning, match="read as it is; the window"):
            assert torch.equal(read_image(path, reading=Reading(window=(0, 4095))), tensor(SCENE))


class TestPixels:
    @pytest.mark.parametrize("ending", ["png", "bmp", "ppm", "tif"])
    def test_those_of_the_file(self, tmp_path, ending):
        Image.fromarray(SCENE).save(tmp_path / f"a.{ending}")
        image = read_image(tmp_path / f"a.{ending}")
        assert image.dtype == torch.float32
        assert torch.equal(image, tensor(SCENE))

    def test_resized_as_a_whole(self, tmp_path):
        pixels = np.zeros((32, 40, 3), np.uint8)
        pixels[:, 20:, 0] = 255
        Image.fromarray(pixels).save(tmp_path / "a.png")
        image = read_image(tmp_path / "a.png", 20)
        assert image.shape == (3, 20, 20)
        assert torch.all(image[0, :, :8] < 0.01)
        assert torch.all(image[0, :, 12:] > 0.99)


class TestModes:
    """What Pillow calls modes, against pixels that were chosen beforehand."""

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
    def test_white_is_white(self, tmp_path, mode):
        path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
        Image.new("RGB", (16, 24), "white").convert(mode).save(path)
        assert torch.all(read_image(path) > 0.95)
        assert read_image(path).shape == (3, 24, 16)

    @pytest.mark.parametrize("bits", [1, 8])
    def test_greys(self, tmp_path, bits):
        values = np.random.default_rng(0).integers(0, 2 if bits == 1 else 256, (24, 16)).astype(np.uint8)
        Image.fromarray(values * 255 if bits == 1 else values).convert("1" if bits == 1 else "L").save(tmp_path / "a.png")
        expected = torch.from_numpy(values) / (1 if bits == 1 else 255)
        assert torch.equal(read_image(tmp_path / "a.png"), expected.expand(3, -1, -1))

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
    def test_transparency_is_dropped(self, tmp_path, mode):
        grey = np.repeat(SCENE[..., :1], 3, 2)
        picture = Image.fromarray(grey if mode == "LA" else SCENE // 64 * 64)
        if mode == "PA":
            picture = picture.quantize(64, method=Image.Quantize.FASTOCTREE)
            expected = np.asarray(picture.convert("RGB"))
            picture.save(tmp_path / "a.png", transparency=bytes(range(64)))  # which Pillow warns of
        else:
            expected = np.asarray(picture)
            picture = picture.convert(mode)
            picture.putalpha(Image.fromarray(SCENE[..., 1]))
            picture.save(tmp_path / "a.png")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert torch.equal(read_image(tmp_path / "a.png"), tensor(expected))
        assert caught == []

    @pytest.mark.parametrize("mode", ["L", "RGB", "P"])
    def test_one_transparent_colour(self, tmp_path, mode):
        picture = Image.fromarray(np.where(SCENE > 127, 255, 0).astype(np.uint8)).convert("L").convert("RGB").convert(mode)
        expected = np.asarray(picture.convert("RGB"))
        picture.save(tmp_path / "a.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
        assert torch.equal(read_image(tmp_path / "a.png"), tensor(expected))

    @pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
    def test_colour_spaces(self, tmp_path, mode):
        picture = Image.fromarray(SCENE).convert(mode)
        picture.save(tmp_path / "a.tif")
        assert torch.equal(read_image(tmp_path / "a.tif"), tensor(np.asarray(picture.convert("RGB"))))
        assert (read_image(tmp_path / "a.tif") - tensor(SCENE)).abs().max() < 4 / 255


class TestPages:
    @pytest.mark.parametrize("ending", ["gif", "tif", "webp", "png"])
    def test_the_first_is_read_and_said(self, tmp_path, ending):
        first, second = Image.new("RGB", (16, 24), "white"), Image.new("RGB", (16, 24), "black")
        first.save(tmp_path / f"a.{ending}", save_all=True, append_images=[second, second])
        with pytest.warns(UserWarning, match="^a file has several pages or frames, of which the first is read.$"):
            assert read_image(tmp_path / f"a.{ending}").min() > 0.99
        with pytest.warns(UserWarning, match="several pages"):
            assert image_shape(tmp_path / f"a.{ending}") == (24, 16)

    @pytest.mark.parametrize(("kind", "said"), [(0, True), (1, False), (2, True), (4, False), (5, False)])
    def test_small_copies_and_masks_are_not_pages(self, tmp_path, kind, said):
        other = Image.new("L", (8, 12))
        other.encoderinfo = {"tiffinfo": {254: kind}}
        Image.fromarray(SCENE).save(tmp_path / "a.tif", save_all=True, append_images=[other])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert torch.equal(read_image(tmp_path / "a.tif"), tensor(SCENE))
        assert len(caught) == said

    def test_a_broken_second_page_does_not_matter(self, tmp_path):
        file = io.BytesIO()
        Image.fromarray(SCENE).save(file, "TIFF", save_all=True, append_images=[Image.fromarray(SCENE)])
        whole = file.getvalue()
        (tmp_path / "a.tif").write_bytes(whole[: len(whole) // 2 + 40])
        assert torch.equal(read_image(tmp_path / "a.tif"), tensor(SCENE))

    def test_photos_of_phones_hold_a_second_picture(self, tmp_path):
        path = tmp_path / "a.jpg"
        exif = Image.Exif()
        exif[0x0112] = 6
        scene = Image.fromarray(np.ascontiguousarray(STORED[6]))
        scene.save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))], exif=exif)
        with Image.open(path) as file:
            assert (file.format, file.n_frames) == ("MPO", 2)
            assert torch.equal(read_image(path), tensor(np.asarray(ImageOps.exif_transpose(file).convert("RGB"))))
        assert image_shape(path) == (24, 16)


class TestShape:
    @pytest.mark.parametrize("orientation", STORED)
    @pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
    def test_of_the_header_as_of_the_picture(self, tmp_path, orientation, ending):
        assert image_shape(photo(tmp_path / f"a.{ending}", orientation)) == (24, 16)

    def test_exif_behind_the_pixels(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 8
        path = tmp_path / "a.png"
        path.write_bytes(png(0, GREYS, (b"eXIf", exif.tobytes()[6:])))
        reading = Reading(window=(0, 4095))
        assert orientation_of(path) == 8
        assert image_shape(path, reading) == tuple(read_image(path, reading=reading).shape[1:]) == (16, 24)

    def test_pixels_are_not_read(self, tmp_path):
        path = photo(tmp_path / "a.png")
        path.write_bytes(path.read_bytes()[:-200])
        assert image_shape(path) == (24, 16)
        assert "cannot be read" in message(ValueError, lambda: read_image(path))
        assert "more than 3;" in message(ValueError, lambda: image_shape(path, Reading(max_pixels=3)))
        text = message(FileNotFoundError, lambda: image_shape(tmp_path / "b.png"))
        assert text == f"image '{tmp_path}/b.png' is not a file."


class TestOtherFormats:
    @pytest.mark.parametrize(
        ("content", "name"),
        [
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0heic", "HEIC"),
            (b"\0\0\0 ftypavif\0\0\0\0avif", "AVIF"),
            (b"\xff\x0a\0\n" * 9, "JPEG XL"),
            (b"%PDF-1.7\n1 0 obj", "PDF"),
            (b"8BPS\0\1" + bytes(20), "a file of Photoshop"),
        ],
    )
    def test_known_by_name(self, tmp_path, content, name):
        (tmp_path / "a.jpg").write_bytes(content)
        text = message(ValueError, lambda: read_image(tmp_path / "a.jpg"))
        assert text == f"image '{tmp_path}/a.jpg' has a format that is not read (it is {name}); convert it to PNG or JPEG."

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (b"", "empty"),
            (b"\n<!DOCTYPE html><title>404", "a web page, perhaps of a download that failed"),
            (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS: git lfs pull downloads the file"),
            (b"no picture", "not an image of a known format"),
            (b"\x89PNG\r\n\x1a\n" + bytes(30), "not an image of a known format"),
        ],
    )
    def test_no_images(self, tmp_path, content, what):
        (tmp_path / "a.jpg").write_bytes(content)
        text = message(ValueError, lambda: read_image(tmp_path / "a.jpg"))
        assert text == f"image '{tmp_path}/a.jpg' cannot be read (it is {what}); repair or remove it."

    def test_avif_that_pillow_would_read(self, tmp_path):
        if not features.check("avif"):
            pytest.skip("this Pillow writes no AVIF")
        Image.fromarray(SCENE).save(tmp_path / "a.png", "AVIF")
        assert "it is AVIF" in message(ValueError, lambda: read_image(tmp_path / "a.png"))


class TestFormats:
    @pytest.mark.parametrize("kind", ["EPS", "TGA", "PCX", "SGI", "ICNS", "DDS"])
    def test_formats_beyond_the_list_are_not_opened(self, tmp_path, kind):
        """PostScript that is called ``a.png`` would be run by Ghostscript."""
        Image.new("RGB", (16, 16)).save(tmp_path / "a.png", kind)
        text = message(ValueError, lambda: read_image(tmp_path / "a.png"))
        assert text == (
            f"image '{tmp_path}/a.png' cannot be read (it is not an image of a known format); repair or remove it."
        )

    @pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP"])
    def test_formats_of_the_list(self, tmp_path, kind):
        Image.new("RGB", (16, 16), (255, 255, 255)).save(tmp_path / "a", kind)
        assert read_image(tmp_path / "a").mean() == 1

    def test_no_program_is_started(self, tmp_path, monkeypatch):
        monkeypatch.setattr("subprocess.Popen", lambda *_args, **_options: pytest.fail("a program was started"))
        write(tmp_path / "a.png", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\nshowpage\n")
        assert "not an image" in message(ValueError, lambda: read_image(tmp_path / "a.png"))

    def test_text_that_grows_a_thousandfold(self, tmp_path):
        """Comments of a PNG are compressed; Pillow stops at 64 MB, by an error that names no file."""
        Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
        data = (tmp_path / "a.png").read_bytes()
        body = b"zTXt" + b"x\0\0" + zlib.compress(bytes(100_000_000))
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            assert read_image(tmp_path / "a.png").shape == (3, 4, 4)
        except ValueError as error:
            assert f"image '{tmp_path}/a.png'" in str(error)  # noqa: PT017 (both ends are right)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def sound(kind):
    """Bytes of a file with all that can be damaged: an orientation, a palette or transparency, several pages."""
    picture, file = Image.fromarray(SCENE), io.BytesIO()
    options = {"save_all": True, "append_images": [picture]} if kind in ("GIF", "TIFF", "WEBP") else {}
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010F: "maker", 0x8769: {0x9003: "2026:01:01 00:00:00"}})
    if kind in ("PNG", "JPEG", "TIFF", "WEBP"):
        options["exif"] = exif.tobytes()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:an image", "ignore:a file")  # our own; those of Pillow are errors
class TestDamagedFiles:
    @pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"])
    def test_a_picture_or_words(self, tmp_path, kind):
        path, whole, choose, found = tmp_path / "a.png", sound(kind), random.Random(kind), set()
        reading = Reading(max_pixels=10_000)
        for content in [whole, *(damaged(whole, choose) for _ in range(300))]:
            path.write_bytes(content)
            try:
                image = read_image(path, reading=reading)
                shape = image_shape(path, reading)
            except ValueError as error:
                assert type(error) is ValueError  # noqa: PT017 (both ends are right)
                assert str(error).startswith(f"image '{path}' ")  # noqa: PT017
                found.add("words")
            else:
                assert image.shape == (3, *shape)
                assert image.min() >= 0
                assert image.max() <= 1
                found.add("picture")
            assert orientation_of(path) in range(1, 9)
        assert found == {"words", "picture"}


class TestTooManyPixels:
    def test_bombs_are_refused(self, tmp_path):
        Image.new("1", (20_000, 20_000)).save(tmp_path / "slide.png")
        text = message(ValueError, lambda: read_image(tmp_path / "slide.png"))
        assert text == (
            f"image '{tmp_path}/slide.png' has 400000000 pixels according to its header, more than 178956970; make it "
            "smaller, or lift the limit by Reading(max_pixels=400000000), on the command line --max-pixels 400000000."
        )
        draw(tmp_path / "i/a/1.png")
        (tmp_path / "m/a").mkdir(parents=True)
        shutil.copy(tmp_path / "slide.png", tmp_path / "m/a/1.png")
        assert "has 400000000 pixels" in message(
            ValueError, lambda: list(ImageFolderSamples(tmp_path / "i", tmp_path / "m"))
        )

    def test_the_limit_is_lifted_for_one_reader_alone(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        path = photo(tmp_path / "a.png")
        text = message(ValueError, lambda: read_image(path))
        assert text == (
            f"image '{path}' has 384 pixels according to its header, more than 200; make it smaller, or lift the limit by "
            "Reading(max_pixels=384), on the command line --max-pixels 384."
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
