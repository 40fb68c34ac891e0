"""Mask files: which of their pixels belong to the region, and what is said about them."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from captum_softcam.data import Fit, ImageEntry, MaskedImages, Reading
from captum_softcam.data.masks import MaskFiles

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


def masked(*pixels, folder, **reading):
    """Return the mask that files with these pixels are."""
    paths = []
    for number, each in enumerate(pixels):
        paths.append(folder / f"mask_{number}.png")
        Image.fromarray(each).save(paths[-1])
    files = MaskFiles(tuple(paths), folder / "picture.png", Reading(**reading))
    return files(torch.zeros(3, HEIGHT, WIDTH))


class TestFiles:
    @pytest.mark.parametrize("value", [1, 128, 255])
    def test_every_value_above_zero_belongs(self, tmp_path, value):
        mask = masked(spot(value), folder=tmp_path)
        assert (mask.shape, mask.dtype) == ((1, HEIGHT, WIDTH), torch.bool)
        assert torch.equal(mask[0], torch.from_numpy(spot() > 0))

    def test_several_files_are_united(self, tmp_path):
        other = spot(rows=slice(30, 35))
        mask = masked(spot(), spot(0), other, folder=tmp_path)
        assert torch.equal(mask[0], torch.from_numpy((spot() > 0) | (other > 0)))

    def test_each_file_has_the_size_of_the_image(self, tmp_path):
        with pytest.raises(ValueError, match="both must have the same size") as caught:
            masked(spot(), spot().T, folder=tmp_path)
        assert str(caught.value) == (
            f"mask '{tmp_path}/mask_1.png' is 40x60 pixels, its image '{tmp_path}/picture.png' 60x40; both must have the "
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
