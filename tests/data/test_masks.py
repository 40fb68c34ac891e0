"""Mask files: which of their pixels belong to the region, and what is said about them."""

import re
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from captum_softcam.data import Fit, ImageEntry, MaskedImages, Reading
from captum_softcam.data._pixels.masks import MaskFiles

WIDTH, HEIGHT = 60, 40


@pytest.fixture
def picture(tmp_path):
    """An image of which only the size matters."""
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def spot(value=255, dtype=np.uint8, rows=slice(10, 20), columns=slice(20, 40)):
    """The pixels of a mask with one rectangle."""
    pixels = np.zeros((HEIGHT, WIDTH), dtype)
    pixels[rows, columns] = value
    return pixels


def read(*images, folder, ending="png", options=None, **reading):
    """Return the mask (H, W) that files with these pixels are."""
    paths = []
    for number, image in enumerate(images):
        paths.append(folder / f"mask_{number}.{ending}")
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.save(paths[-1], **(options or {}))
    files = MaskFiles(tuple(paths), folder / "picture.png", Reading(**reading))
    return files(torch.zeros(1).expand(3, image.height, image.width))[0].numpy()


def disc(radius, side=128):
    """A disc beside the middle of a square."""
    rows, columns = np.mgrid[:side, :side]
    return (columns - side / 2 + 0.7) ** 2 + (rows - side / 2 - 4.3) ** 2 <= radius**2


def grey(region, value=255):
    return region.astype(np.uint8) * np.uint8(value)


def labels(*values, side=96):
    """Squares of labels, of 20 pixels each, with one of them beside the next."""
    pixels = np.zeros((side, side), np.asarray(values).dtype if min(values) < 0 or max(values) > 255 else np.uint8)
    for place, value in enumerate(values):
        row, column = divmod(place, 4)
        pixels[2 + 22 * row : 22 + 22 * row, 2 + 22 * column : 22 + 22 * column] = value
    return pixels


@pytest.fixture
def write_deep():
    """Write a PNG file of two by two pixels in RGB with 16 bits, whose red is 1, which Pillow cannot write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    def write(path):
        rows = zlib.compress(2 * (b"\0" + 2 * b"\0\1\0\0\0\0"))
        header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
        parts = (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
        return path

    return write


class TestFiles:
    @pytest.mark.parametrize("value", [1, 128, 255])
    def test_every_value_above_zero_belongs(self, tmp_path, value):
        assert np.array_equal(read(spot(value), folder=tmp_path), spot() > 0)
        mask = MaskFiles((tmp_path / "mask_0.png",), tmp_path)(torch.zeros(3, HEIGHT, WIDTH))
        assert (mask.shape, mask.dtype) == ((1, HEIGHT, WIDTH), torch.bool)

    def test_several_files_are_united(self, tmp_path):
        other = spot(rows=slice(30, 35))
        assert np.array_equal(read(spot(), spot(0), other, folder=tmp_path), (spot() > 0) | (other > 0))

    def test_each_file_has_the_size_of_the_image(self, tmp_path):
        with pytest.raises(ValueError, match="both must have the same size") as caught:
            read(spot().T, spot(), folder=tmp_path)
        assert str(caught.value) == (
            f"mask '{tmp_path}/mask_0.png' is 40x60 pixels, its image '{tmp_path}/picture.png' 60x40; both must have the "
            "same size."
        )

    def test_unreadable_file_is_named(self, tmp_path):
        (tmp_path / "m.png").write_text("hello")
        with pytest.raises(ValueError, match="cannot be read") as caught:
            MaskFiles((tmp_path / "m.png",), tmp_path / "a.png")(torch.zeros(3, 2, 2))
        assert re.fullmatch(f"mask '{tmp_path}/m.png' cannot be read \\(.+\\); repair or remove it\\.", str(caught.value))


class TestNothingToLocalise:
    @pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
    def test_a_black_mask(self, tmp_path, picture, fit):
        Image.fromarray(spot(0)).save(tmp_path / "m.png")
        entry = ImageEntry(picture, 0, "a", MaskFiles((tmp_path / "m.png",), picture))
        assert MaskedImages([entry], ["cat"], 8, Fit(fit))[0].mask is None

    def test_an_empty_mask_of_a_callable(self, picture):
        entry = ImageEntry(picture, 0, "a", lambda image: image[:1] > 0.5)
        assert MaskedImages([entry], ["cat"], 8)[0].mask is None


CUT = "crowd at both ends of their range"
UNCLEAR = "neither fill areas"


class TestNoise:
    """Masks of two levels that JPEG, resizing or smooth edges have blurred."""

    @pytest.mark.parametrize("radius", [3, 5, 10, 40])
    @pytest.mark.parametrize("quality", [30, 50, 75, 90, 95, 100])
    @pytest.mark.parametrize("high", [128, 255])
    def test_jpeg(self, tmp_path, radius, quality, high):
        region = disc(radius)
        with pytest.warns(UserWarning, match=CUT):
            mask = read(grey(region, high), folder=tmp_path, ending="jpg", options={"quality": quality})
        # at the coarsest quality no cut is better than half of what was stored
        assert (mask != region).sum() <= (3 if quality == 30 else high == 128)

    def test_jpeg_in_colours(self, tmp_path):
        pixels = np.stack([grey(disc(20)), *(2 * [grey(disc(0))])], -1)
        with pytest.warns(UserWarning, match=CUT):
            mask = read(pixels, folder=tmp_path, ending="jpg")
        assert mask.sum() == pytest.approx(disc(20).sum(), rel=0.05)

    @pytest.mark.parametrize(("ending", "radius"), [("jpg", 3), ("jpg", 10), ("webp", 10), ("webp", 40)])
    def test_a_lossy_file_that_was_stored_as_png(self, tmp_path, ending, radius):
        Image.fromarray(grey(disc(radius))).save(tmp_path / f"m.{ending}")
        with pytest.warns(UserWarning, match=CUT):
            assert np.array_equal(read(Image.open(tmp_path / f"m.{ending}"), folder=tmp_path), disc(radius))

    def test_webp(self, tmp_path):
        with pytest.warns(UserWarning, match=CUT):
            assert np.array_equal(read(grey(disc(40)), folder=tmp_path, ending="webp"), disc(40))

    def test_black_that_is_16_and_white_that_is_235(self, tmp_path):
        pixels = np.where(disc(10), 235, 16).astype(np.uint8)
        with pytest.warns(UserWarning, match=CUT):
            assert np.array_equal(read(pixels, folder=tmp_path, ending="jpg"), disc(10))

    @pytest.mark.parametrize("high", [128, 255])
    @pytest.mark.parametrize("radius", [5, 20])
    def test_smooth_edges(self, tmp_path, radius, high):
        fine = Image.fromarray(grey(disc(4 * radius, 512), high))
        with pytest.warns(UserWarning, match=CUT):
            mask = read(fine.resize((128, 128), Image.Resampling.BOX), folder=tmp_path)
        assert mask.sum() == pytest.approx(disc(4 * radius, 512).sum() / 16, rel=0.05)

    @pytest.mark.parametrize("way", [Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
    @pytest.mark.parametrize("side", [50, 100, 300])
    def test_resized(self, tmp_path, way, side):
        with pytest.warns(UserWarning, match=CUT):
            mask = read(Image.fromarray(grey(disc(20))).resize((side, side), way), folder=tmp_path)
        assert mask.mean() == pytest.approx(disc(20).mean(), rel=0.03)

    def test_floating_point(self, tmp_path):
        soft = np.asarray(Image.fromarray(grey(disc(30))).filter(ImageFilter.GaussianBlur(1)), np.float32) / 255
        with pytest.warns(UserWarning, match=CUT):
            mask = read(soft, folder=tmp_path, ending="tif")
        assert mask.sum() == pytest.approx(disc(30).sum(), rel=0.02)

    def test_it_is_said_once(self, tmp_path):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for name in "ab":
                (tmp_path / name).mkdir()
                read(grey(disc(10)), folder=tmp_path / name, ending="jpg")
        assert len(caught) == 1


class TestLabels:
    """Nothing of a map of labels is noise, and nothing is said about it."""

    @pytest.mark.parametrize(
        "values",
        [
            (1,),
            (255,),
            (1, 2, 3),
            (85, 170, 255),
            (128, 255),
            (128, 128, 128, 255),
            tuple(range(1, 17)),
            tuple(range(10, 170, 10)),
            (1, 255, 1, 2, 254),
            (700, 1, 40, 65535),
        ],
    )
    def test_labels(self, tmp_path, values):
        pixels = labels(*values)
        pixels = pixels.astype(np.uint16) if max(values) > 255 else pixels
        assert np.array_equal(read(pixels, folder=tmp_path), pixels > 0)

    @pytest.mark.parametrize("few", [40, 80])
    def test_thin_labels(self, tmp_path, few):
        pixels = np.zeros((90, 90), np.uint8)
        pixels[5:85, 10:few:10] = 100
        pixels[10:80:8, 5:85] = 255
        assert np.array_equal(read(pixels, folder=tmp_path), pixels > 0)

    def test_labels_of_single_pixels(self, tmp_path):
        pixels = np.pad(np.random.default_rng(0).integers(0, 21, (60, 60), np.uint8), 1)
        assert np.array_equal(read(pixels, folder=tmp_path), pixels > 0)

    @pytest.mark.parametrize("mode", ["I;16", "I", "F"])
    def test_many_instances(self, tmp_path, mode):
        rows, columns = np.mgrid[:100, :100]
        pixels = (1 + rows // 7 * 15 + columns // 7) * ((rows % 7 > 0) & (columns % 7 > 0))
        image = Image.fromarray(pixels.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
        assert image.mode == mode
        assert np.array_equal(read(image, folder=tmp_path, ending="tif"), pixels > 0)

    @pytest.mark.parametrize("label", [1, 15])
    def test_255_beside_small_labels(self, tmp_path, label):
        pixels = grey(disc(30))
        pixels[disc(28)] = label
        with pytest.warns(UserWarning, match="belong to no class"):
            assert np.array_equal(read(pixels, folder=tmp_path), disc(30))
        assert np.array_equal(read(pixels, folder=tmp_path, ignore=255), disc(28))

    def test_a_lossy_format_has_no_labels(self, tmp_path):
        for values, ending in (((85, 170, 255), "jpg"), ((128, 255, 255, 255), "jpg"), ((85, 170, 255), "webp")):
            with pytest.raises(ValueError, match="lossy file whose levels do not crowd at two ends"):
                read(labels(*values), folder=tmp_path, ending=ending)
        mask = read(labels(85, 170, 255), folder=tmp_path, ending="jpg", threshold=0.15)
        assert mask.sum() == pytest.approx(3 * 20 * 20, rel=0.02)

    def test_classes_0_and_1_in_a_lossy_format(self, tmp_path):
        with pytest.raises(ValueError, match=r"levels, 0 to [12] of 255, are too close to tell a region from noise"):
            read(grey(disc(40), 1), folder=tmp_path, ending="jpg")
        mask = read(grey(disc(40), 1), folder=tmp_path, ending="jpg", threshold=0)
        assert mask.sum() == pytest.approx(disc(40).sum(), rel=0.05)


class TestSoft:
    def test_slopes_need_a_threshold(self, tmp_path):
        ramp = np.linspace(0, 255, 100).round().astype(np.uint8)[None].repeat(50, 0)
        with pytest.warns(UserWarning, match=UNCLEAR):
            assert np.array_equal(read(ramp, folder=tmp_path), ramp > 0)
        assert np.array_equal(read(ramp, folder=tmp_path, threshold=0.3), ramp > 76.5)

    @pytest.mark.parametrize(("dtype", "greatest", "ending"), [(np.uint16, 65535, "png"), (np.float32, 1, "tif")])
    def test_the_range_is_that_of_the_type(self, tmp_path, dtype, greatest, ending):
        ramp = (np.linspace(0, 0.9, 100) * greatest).astype(dtype)[None].repeat(50, 0)
        mask = read(ramp, folder=tmp_path, ending=ending, threshold=0.5)
        assert np.array_equal(mask, ramp > 0.5 * greatest)

    def test_a_threshold_of_other_values(self, tmp_path):
        with pytest.raises(ValueError, match=r"has values up to 255; a threshold needs floating-point values from 0 to 1"):
            read(spot().astype(np.float32), folder=tmp_path, ending="tif", threshold=0.5)
        palette = Image.fromarray(spot(1))
        palette.putpalette([0, 0, 0, 255, 0, 0])
        with pytest.raises(ValueError, match="holds labels, which have no threshold"):
            read(palette, folder=tmp_path, threshold=0.5)
        assert np.array_equal(read(Image.fromarray(spot() > 0), folder=tmp_path, threshold=0.9), spot() > 0)

    def test_values_that_are_not_finite(self, tmp_path):
        pixels = spot().astype(np.float32)
        pixels[0] = np.nan
        assert np.array_equal(read(pixels, folder=tmp_path, ending="tif"), spot() > 0)
        pixels[0] = np.inf
        with pytest.raises(ValueError, match="has values that are infinite"):
            read(pixels, folder=tmp_path, ending="tif")


def thirds(mask):
    return [bool(mask[:, start : start + 20].all()) for start in (0, 20, 40)], mask[:, [10, 30, 50]].any(0).tolist()


class TestMeaning:
    """Values count, not how bright they look; the thirds have the numbers 0, 1 and 2."""

    THIRDS = np.repeat(np.arange(3, dtype=np.uint8), 20)[None].repeat(HEIGHT, 0)
    WANTED = ([False, True, True], [False, True, True])

    @pytest.mark.parametrize("channel", [0, 1, 2])
    def test_any_channel(self, tmp_path, channel):
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        pixels[..., channel] = self.THIRDS
        assert thirds(read(pixels, folder=tmp_path)) == self.WANTED

    @pytest.mark.parametrize(
        "palette",
        [
            [0, 0, 0, 0, 0, 0, 0, 0, 0],
            [255, 255, 255, 0, 0, 0, 255, 0, 0],
            [0, 0, 0, 128, 0, 0, 0, 128, 0],
            [0, 0, 0, 100, 100, 100, 255, 255, 255],
            [50, 50, 50, 100, 100, 100, 200, 200, 200],
        ],
    )
    def test_number_in_the_palette(self, tmp_path, palette):
        image = Image.fromarray(self.THIRDS)
        image.putpalette(palette)
        assert thirds(read(image, folder=tmp_path)) == self.WANTED

    def test_a_palette_of_greys_is_only_another_way_to_store_them(self, tmp_path):
        image = Image.fromarray((self.THIRDS == 0).astype(np.uint8))
        image.putpalette([255, 255, 255, 0, 0, 0])
        assert thirds(read(image, folder=tmp_path)) == self.WANTED

    @pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 10, 0)])
    def test_one_colour_and_its_opacity(self, tmp_path, colour):
        pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        pixels[..., :3] = colour
        pixels[..., 3] = grey(self.THIRDS > 0)
        assert thirds(read(pixels, folder=tmp_path)) == self.WANTED
        pixels[self.THIRDS == 0] = 77, 88, 99, 0  # what cannot be seen
        assert thirds(read(pixels, folder=tmp_path)) == self.WANTED
        two = Image.fromarray(pixels).convert("LA")
        assert thirds(read(two, folder=tmp_path)) == self.WANTED

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_colours_that_can_be_seen(self, tmp_path, mode):
        image = Image.fromarray(grey(self.THIRDS > 0)).convert(mode)
        assert thirds(read(image, folder=tmp_path)) == self.WANTED
        image.putalpha(Image.fromarray(grey(spot(columns=slice(0, 40)) > -1) * (self.THIRDS < 2)))
        assert thirds(read(image, folder=tmp_path)) == ([False, True, False], [False, True, False])
        assert not read(Image.new(mode, (WIDTH, HEIGHT), (0, 0, 0, 255)[-len(mode) :]), folder=tmp_path).any()

    @pytest.mark.parametrize("ending", ["gif", "bmp", "tif", "pgm"])
    def test_other_formats(self, tmp_path, ending):
        assert np.array_equal(read(spot(), folder=tmp_path, ending=ending), spot() > 0)

    @pytest.mark.parametrize("ending", ["gif", "png"])
    def test_white_alone(self, tmp_path, ending):
        """Pillow stores it in GIF as number 0 of a palette."""
        with pytest.warns(UserWarning, match="covers the whole image"):
            assert read(spot() * 0 + 255, folder=tmp_path, ending=ending).all()

    def test_one_bit(self, tmp_path):
        assert thirds(read(Image.fromarray(self.THIRDS > 0), folder=tmp_path)) == self.WANTED

    def test_kinds_of_colours_that_have_no_zero(self, tmp_path):
        image = Image.new("CMYK", (WIDTH, HEIGHT))
        with pytest.raises(ValueError, match="has colours of the kind CMYK, in which 0 is not black"):
            read(image, folder=tmp_path, ending="tif")

    def test_labels_of_colours_of_16_bits_would_be_lost(self, tmp_path, write_deep):
        path = write_deep(tmp_path / "m.png")
        with pytest.raises(ValueError, match="has several channels of more than 8 bits"):
            MaskFiles((path,), path)(torch.zeros(3, 2, 2))


class TestIgnore:
    def test_a_value_is_left_out(self, tmp_path):
        pixels = labels(1, 2, 3)
        assert np.array_equal(read(pixels, folder=tmp_path, ignore=2), (pixels > 0) & (pixels != 2))
        deep = pixels.astype(np.uint16) * 300
        assert np.array_equal(read(deep, folder=tmp_path, ignore=600), (pixels > 0) & (pixels != 2))

    def test_number_in_the_palette(self, tmp_path):
        image = Image.fromarray(labels(15, 255))
        image.putpalette([0, 0, 0, *range(1, 256), *range(255, -1, -1), *range(256)])
        assert np.array_equal(read(image, folder=tmp_path, ignore=255), labels(15, 255) == 15)

    def test_grey_stored_as_colours(self, tmp_path):
        image = Image.fromarray(labels(1, 255)).convert("RGB")
        assert np.array_equal(read(image, folder=tmp_path, ignore=255), labels(1, 255) == 1)

    def test_where_no_value_is_exact(self, tmp_path):
        colours = np.stack([labels(1, 2), labels(2, 1), labels(1, 1)], -1)
        with pytest.raises(ValueError, match="has colours, so none of its values is exactly that to ignore, 255"):
            read(colours, folder=tmp_path, ignore=255)
        with pytest.raises(ValueError, match="has a lossy format, so none of its values is exactly"):
            read(spot(), folder=tmp_path, ending="jpg", ignore=255)


class TestExtent:
    @pytest.mark.parametrize(("ending", "value"), [("png", 1), ("png", 255), ("jpg", 255), ("jpg", 240)])
    def test_a_whole_picture(self, tmp_path, ending, value):
        with pytest.warns(UserWarning, match=f"mask '{tmp_path}/mask_0.{ending}' covers the whole image"):
            assert read(np.full((HEIGHT, WIDTH), value, np.uint8), folder=tmp_path, ending=ending).all()

    def test_inverted(self, tmp_path):
        with pytest.warns(UserWarning, match=f"mask '{tmp_path}/mask_0.png' looks inverted, .* margin and 92% of the image"):
            read(255 - spot(), folder=tmp_path)

    def test_a_large_region(self, tmp_path):
        pixels = np.full((200, 200), 255, np.uint8)
        for corner in (pixels, pixels[::-1], pixels[:, ::-1], pixels[::-1, ::-1]):
            corner[np.tri(200, k=-197, dtype=bool)[::-1]] = 0
        assert read(pixels, folder=tmp_path).mean() > 0.99

    def test_a_frame(self, tmp_path):
        pixels = spot(255, rows=slice(None), columns=slice(None))
        pixels[3:-3, 3:-3] = 0
        assert read(pixels, folder=tmp_path).mean() < 0.5


class TestBlack:
    @pytest.mark.parametrize("value", [0, 1, 2, 16])
    def test_a_black_jpeg(self, tmp_path, value):
        assert not read(np.full((HEIGHT, WIDTH), value, np.uint8), folder=tmp_path, ending="jpg").any()

    def test_a_black_jpeg_with_noise(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 3, (64, 64), dtype=np.uint8)
        assert not read(noise, folder=tmp_path, ending="jpg", options={"quality": 100}).any()
