"""How a picture becomes square: what torchvision and timm do, masks that follow, and maps that are put back; volumes too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import antialiased
from PIL import Image
from torchvision.transforms import v2

from captum_softcam._fit import Fit
from captum_softcam._maps import upsample

SHAPES = [(30, 40), (41, 29), (32, 32), (1, 1), (1, 9), (9, 1), (300, 7), (5, 6)]
FITS = [Fit(mode, crop) for mode in ("squash", "crop", "pad") for crop in (1.0, 0.875, 0.6)]

sides = st.integers(1, 40)
fits = st.builds(
    Fit, st.sampled_from(["squash", "crop", "pad"]), st.floats(0.3, 1), st.sampled_from(["bilinear", "bicubic", "nearest"])
)


def picture(height, width, seed=0):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def square_at(shape, top, left, side):
    mask = torch.zeros(1, *shape, dtype=torch.bool)
    mask[0, top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 7, 32])
def test_the_default_squeezes_the_whole_picture(shape, size):
    image = picture(*shape)
    assert torch.equal(Fit().image(image, size), v2.functional.resize(image, [size, size], antialias=True).clamp(0, 1))
    mask = image[:1] > 0.9
    assert torch.equal(Fit().mask(mask, size), F.adaptive_max_pool2d(mask.float(), size) > 0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("crop", [1.0, 224 / 256, 0.9, 0.5])
def test_crop_is_what_torchvision_evaluates(shape, crop):
    image = picture(*shape)
    theirs = v2.Compose([v2.Resize(round(28 / crop), antialias=True), v2.CenterCrop(28)])(image)
    assert torch.equal(Fit("crop", crop).image(image, 28), theirs.clamp(0, 1))


@pytest.mark.parametrize(("theirs", "mode"), [("center", "crop"), ("squash", "squash"), ("border", "pad")])
@pytest.mark.parametrize("pct", [1.0, 0.95, 0.875])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape", [(60, 90), (91, 60)])
def test_each_mode_is_one_of_timm(theirs, mode, pct, interpolation, shape):
    create = pytest.importorskip("timm.data").create_transform
    pixels = (picture(*shape) * 128 + 64).byte()  # Pillow clips what overshoots after its first pass, too
    transform = create(48, crop_pct=pct, crop_mode=theirs, interpolation=interpolation, mean=(0, 0, 0), std=(1, 1, 1))
    border = next((step for step in transform.transforms if hasattr(step, "fill")), None)
    if border is not None:
        border.fill = 0
    want = transform(Image.fromarray(pixels.permute(1, 2, 0).numpy()))
    ours = Fit(mode, 48 / int(48 / pct), interpolation).image(pixels / 255, 48)
    # it rounds to whole grey levels after each of its two passes
    assert (ours - want).abs().max() < 2.5 / 255


@pytest.mark.parametrize("fit", FITS, ids=str)
@pytest.mark.parametrize("shape", [(31, 47), (47, 31), (40, 40), (12, 200)])
def test_a_mask_follows_its_picture(fit, shape):
    """A bright square is where its mask says: outside, the picture is dark; inside the mask's border, it is bright."""
    mask = square_at(shape, shape[0] // 2 - 3, shape[1] // 2 - 2, 5)
    image = mask.float().expand(3, -1, -1)
    seen, where = fit.image(image, 64)[0], fit.mask(mask, 64)[0]
    # antialiasing reaches as far as a pixel of the coarser of the two grids
    reach = 2 * max(1, round(64 / fit.crop / min(shape))) + 1
    near = F.max_pool2d(where[None].float(), 2 * reach + 1, 1, reach)[0] > 0
    assert where.any()
    assert (seen[~near] == 0).all()
    core = F.max_pool2d((~where)[None].float(), 2 * reach + 1, 1, reach)[0] == 0
    assert (seen[core] > 0.99).all()
    bright = seen > 0.75
    assert (where | ~bright).all()


@pytest.mark.parametrize("fit", FITS, ids=str)
def test_a_region_of_one_pixel_survives(fit):
    mask = square_at((701, 997), 350, 498, 1)
    found = fit.mask(mask, 28)
    assert 1 <= found.sum() <= 4
    row, column = found[0].nonzero().float().mean(0).tolist()
    assert abs(row - 13.5) <= 1
    assert abs(column - 13.5) <= 1


def test_a_region_outside_the_centre_is_cut_off():
    mask = square_at((30, 60), 0, 0, 5)
    assert not Fit("crop").mask(mask, 20).any()
    assert Fit("pad").mask(mask, 20).any()
    assert not Fit("squash", 0.5).mask(mask, 20).any()


@pytest.mark.parametrize(("shape", "rows", "columns"), [((10, 20), (5, 15), (0, 20)), ((20, 9), (0, 20), (5, 14))])
def test_padding_centres_the_picture_on_black(shape, rows, columns):
    image = picture(*shape) * 0.5 + 0.5
    padded = Fit("pad").image(image, 20)
    (top, bottom), (left, right) = rows, columns
    assert torch.equal(padded[:, top:bottom, left:right], image)
    padded[:, top:bottom, left:right] = 0
    assert not padded.any()


@given(sides, sides, sides, fits)
@settings(max_examples=60, deadline=None)
def test_any_picture_becomes_a_square_in_range(height, width, size, fit):
    image = picture(height, width)
    out = fit.image(image, size)
    assert out.shape == (3, size, size)
    assert 0 <= out.min() <= out.max() <= 1
    assert fit.mask(image[:1] > 0.5, size).shape == (1, size, size)
    back = fit.restore(out[:, None], (height, width))
    assert back.shape == (3, 1, height, width)
    if fit.mode == "pad" and fit.crop == 1:
        assert not back.isnan().any()


@given(sides, sides, sides, fits)
@settings(max_examples=60, deadline=None)
def test_restored_positions_are_those_that_the_pixels_came_from(height, width, size, fit):
    """By a loop: a map that holds its own coordinates says which point of the square a pixel lies at."""
    middles = torch.arange(size) + 0.5
    ramps = torch.stack([middles[:, None].expand(size, size), middles[None].expand(size, size)])[:, None]
    back = fit.restore(ramps, (height, width))
    place = fit._place((height, width), size)
    for i in range(height):
        for j in range(width):
            y = (i + 0.5) * place.lengths[0] / height - place.starts[0]
            x = (j + 0.5) * place.lengths[1] / width - place.starts[1]
            if not (0 <= y <= size and 0 <= x <= size):
                assert back[:, 0, i, j].isnan().all()
                continue
            want = [min(max(v, 0.5), size - 0.5) for v in (y, x)]  # constant beyond the middle of the last pixel
            np.testing.assert_allclose(back[:, 0, i, j], want, atol=1e-4)


@pytest.mark.parametrize("fit", FITS, ids=str)
@pytest.mark.parametrize("shape", [(96, 64), (64, 96)])
def test_a_map_that_is_put_back_marks_what_it_marked(fit, shape):
    """The other way round than above: the square of the picture makes the map, and is found again in the picture."""
    image = square_at(shape, 40, 28, 12).float()
    back = fit.restore(fit.image(image.expand(3, -1, -1), 64)[:1][None], shape)[0]
    seen = ~back.isnan()
    inner = F.max_pool2d(1 - image, 7, 1, 3) == 0
    outer = F.max_pool2d(image, 9, 1, 4) > 0
    assert seen[inner].all()
    assert (back[inner] > 0.9).all()
    assert (back[seen & ~outer] < 0.1).all()


def test_the_default_puts_maps_back_by_interpolation():
    maps = picture(7, 7)[:, None]
    torch.testing.assert_close(Fit().restore(maps, (31, 45)), upsample(maps, (31, 45)), atol=1e-5, rtol=0)


def test_maps_of_a_layer_need_the_side_of_the_square():
    """With crop 0.9 the picture is resized to 249 of 224 pixels, which a map of 7 cells cannot know: 8 of 7."""
    coarse = torch.arange(49.0).view(1, 1, 7, 7)
    fine = upsample(coarse, (224, 224))
    fit = Fit("crop", 0.9)
    torch.testing.assert_close(
        fit.restore(coarse, (300, 200), 224), fit.restore(fine, (300, 200)), atol=0.2, rtol=0, equal_nan=True
    )
    assert fit.restore(coarse, (300, 200)).isnan().sum() != fit.restore(fine, (300, 200)).isnan().sum()


def test_a_strip_is_refused_before_it_fills_the_memory():
    strip = torch.rand(3, 1, 5000)
    words = "a picture of 5000x1 pixels is too elongated for fit 'crop': its shorter side would become 224"
    for call in (
        lambda: Fit("crop").image(strip, 224),
        lambda: Fit("crop").mask(strip[:1] > 0, 224),
        lambda: Fit("crop").restore(torch.rand(1, 1, 224, 224), (1, 5000)),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    assert Fit("pad").image(strip, 224).shape == Fit().image(strip, 224).shape == (3, 224, 224)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mode": "crops"}, r"fit 'crops' is unknown. Closest: 'crop'\."),
        ({"mode": None}, "fit None is unknown. Known: 'squash', 'crop', 'pad'"),
        ({"interpolation": "bicubik"}, r"interpolation 'bicubik' is unknown. Closest: 'bicubic'"),
        ({"crop": 0}, "crop is a fraction above 0 and up to 1, such as 0.875; got 0"),
        ({"crop": 87.5}, r"got 87\.5"),
        ({"crop": float("nan")}, "got nan"),
        ({"crop": "0.5"}, "got '0.5'"),
    ],
)
def test_what_is_not_a_fit_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Fit(**arguments)


def volume(*shape, seed=0):
    return torch.rand(2, *shape, generator=torch.Generator().manual_seed(seed))


class TestVolumes:
    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
    @pytest.mark.parametrize("shape", [(3, 20, 14), (17, 6, 9), (8, 8, 8), (1, 5, 30)])
    @pytest.mark.parametrize("size", [1, 5, 8])
    def test_each_axis_is_resized_as_pillow_does(self, interpolation, shape, size):
        image = volume(*shape)
        want = antialiased(image, (size, size, size), interpolation == "bicubic").clamp(0, 1)
        torch.testing.assert_close(Fit(interpolation=interpolation).image(image, size), want.float(), atol=2e-6, rtol=0)

    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
    @pytest.mark.parametrize("mode", ["squash", "crop", "pad"])
    @pytest.mark.parametrize("crop", [1.0, 0.8])
    def test_no_axis_is_special(self, mode, crop, interpolation):
        fit, image, mask = Fit(mode, crop, interpolation), volume(9, 16, 12), volume(9, 16, 12, seed=1)[:1] > 0.98
        for axes in ((0, 2, 1, 3), (0, 3, 2, 1), (0, 2, 3, 1)):
            turned = fit.image(image.permute(axes), 8)
            torch.testing.assert_close(turned, fit.image(image, 8).permute(axes), atol=1e-5, rtol=0)
            assert torch.equal(fit.mask(mask.permute(axes), 8), fit.mask(mask, 8).permute(axes))

    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
    @pytest.mark.parametrize("mode", ["squash", "crop", "pad"])
    def test_equal_slices_are_that_of_the_picture(self, mode, interpolation):
        """In a volume as deep as its shorter or longer side, so that the depth is neither cut nor padded."""
        fit, image = Fit(mode, 0.9, interpolation), picture(12, 16)
        deep = image[:, None].expand(-1, 12 if mode == "crop" else 16, -1, -1)
        torch.testing.assert_close(fit.image(deep, 9), fit.image(image, 9)[:, None].expand(-1, 9, -1, -1), atol=1e-6, rtol=0)

    @given(sides, sides, sides, st.integers(1, 12), fits)
    @settings(max_examples=40, deadline=None)
    def test_any_volume_becomes_a_cube_in_range(self, depth, height, width, size, fit):
        image = volume(depth, height, width)
        if fit.mode == "crop" and max(depth, height, width) > 10 * min(depth, height, width):
            return
        out = fit.image(image, size)
        assert out.shape == (2, size, size, size)
        assert 0 <= out.min() <= out.max() <= 1
        mask = fit.mask(image[:1] > 0.5, size)
        assert mask.shape == (1, size, size, size)
        assert mask.dtype == torch.bool
        back = fit.restore(out[:, None], (depth, height, width))
        assert back.shape == (2, 1, depth, height, width)

    @pytest.mark.parametrize("fit", FITS, ids=str)
    def test_restored_positions_are_those_that_the_voxels_came_from(self, fit):
        shape, size = (5, 9, 7), 6
        middles = torch.arange(size) + 0.5
        back = fit.restore(torch.stack(torch.meshgrid(middles, middles, middles, indexing="ij"))[:, None], shape)
        place = fit._place(shape, size)
        for index in np.ndindex(shape):
            point = [
                (i + 0.5) * length / side - start
                for i, side, length, start in zip(index, shape, place.lengths, place.starts, strict=True)
            ]
            found = back[(slice(None), 0, *index)]
            if any(not 0 <= x <= size for x in point):
                assert found.isnan().all()
            else:
                np.testing.assert_allclose(found, [min(max(x, 0.5), size - 0.5) for x in point], atol=1e-4)

    def test_a_lesion_of_one_voxel_survives(self):
        mask = torch.zeros(1, 40, 60, 50, dtype=torch.bool)
        mask[0, 20, 30, 25] = True
        for fit in FITS:
            assert 1 <= fit.mask(mask, 7).sum() <= 8

    def test_a_strip_is_refused_before_it_fills_the_memory(self):
        with pytest.raises(ValueError, match="a picture of 500x1x300 pixels is too elongated for fit 'crop'"):
            Fit("crop").image(torch.rand(1, 300, 1, 500), 64)
