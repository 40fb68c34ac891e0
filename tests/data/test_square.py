"""Readers make their images and masks square in the way that they are asked for."""

from __future__ import annotations

import warnings

import pytest
import torch
from layouts import make_layouts
from PIL import Image

from captum_softcam.data import (
    BoxTableSamples,
    CocoSamples,
    Fit,
    ImageEntry,
    ImageFolderSamples,
    ImageNetSamples,
    LabelTableSamples,
    MaskedImages,
    OxfordPetSamples,
    VOCSamples,
    make_transforms,
    read_image,
)

READERS = {
    "folders": lambda **more: ImageFolderSamples("images", "masks", **more),
    "voc": lambda **more: VOCSamples("VOCdevkit/VOC2007", **more),
    "coco": lambda **more: CocoSamples("val2017", "annotations/instances_val2017.json", **more),
    "pets": lambda **more: OxfordPetSamples("oxford-iiit-pet", **more),
    "boxes": lambda **more: BoxTableSamples("stage_2_train_images", "stage_2_train_labels.csv", **more),
    "labels": lambda **more: LabelTableSamples("data", "data/CheXpert-v1.0-small/valid.csv", "masks", **more),
    "imagenet": lambda **more: ImageNetSamples("ILSVRC", classes=["n01440764", "n01751748"], **more),
}
BRIGHT = (10, 2, 14, 6)  # left, top, right and bottom of a bright square


def photo(path, width=30, height=12):
    """A dark image with a bright square, and the mask of that square."""
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), BRIGHT)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return ImageEntry(path, 0, path.stem, lambda image: image[:1] > 0.5)


@pytest.mark.parametrize("name", READERS)
def test_every_reader_passes_the_fit_on(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make_layouts(tmp_path)
    fit = Fit("pad", interpolation="nearest")
    samples = READERS[name](size=8, fit=fit)
    assert samples.fit == fit
    assert READERS[name]().fit == Fit()
    entry = samples._entries[0]
    image = read_image(entry.file)
    assert torch.equal(samples[0].mask, fit.mask(entry.mask(image), 8))
    assert torch.equal(samples[0].image, fit.image(image, 8))


@pytest.mark.parametrize("mode", ["squash", "crop", "pad"])
def test_the_mask_is_where_the_image_is_bright(tmp_path, mode):
    sample = MaskedImages([photo(tmp_path / "a.png")], ["cat"], 48, Fit(mode, interpolation="nearest"))[0]
    bright = sample.image[:1] > 0.5
    assert bright.any()
    assert (sample.mask | ~bright).all()
    if mode == "crop":  # a whole number of pixels for each
        assert torch.equal(bright, sample.mask)


def test_a_region_in_the_margin_leaves_nothing_to_localise_and_says_so(tmp_path):
    """The centre of 12 x 12 pixels ends right of the bright square if the image is wide enough."""
    entries = [photo(tmp_path / "far.png", width=60), photo(tmp_path / "near.png"), photo(tmp_path / "also.png", width=70)]
    samples = MaskedImages(entries, ["cat"], 24, Fit("crop"))
    words = "sample '{}' has nothing to localise: its region lies in the margin that fit 'crop' cuts off."
    for index, name in ((0, "far"), (2, "also")):
        with pytest.warns(UserWarning, match=words.format(name)):
            sample = samples[index]
        assert sample.mask is None
        assert sample.image.shape == (3, 24, 24)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert samples[1].mask.any()
        assert MaskedImages(entries, ["cat"], 24, Fit("pad"))[0].mask.any()


def test_an_image_is_read_as_it_is_fitted(tmp_path):
    photo(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert torch.equal(read_image(tmp_path / "a.png", 10, Fit("crop")), Fit("crop").image(image, 10))


@pytest.mark.parametrize("mode", ["squash", "crop", "pad"])
def test_training_validates_on_what_is_compared(mode):
    image = torch.rand(3, 20, 34)
    augmented, plain = make_transforms(16, fit=Fit(mode))
    assert torch.equal(plain(image), Fit(mode).image(image, 16))
    assert augmented(image).shape == (3, 16, 16)
    assert f"Fit(mode='{mode}'" in str(plain)


def test_training_sees_padded_images_if_the_network_will():
    """Bars of black above and below a white image; a crop of 70 % of the area cannot leave out both."""
    augmented, _ = make_transforms(16, fit=Fit("pad"))
    torch.manual_seed(0)
    for _ in range(10):
        assert (augmented(torch.ones(3, 8, 40)) < 0.1).any()
    augmented, _ = make_transforms(16)
    assert (augmented(torch.ones(3, 8, 40)) > 0.1).all()
