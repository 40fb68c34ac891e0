"""Overlays: what their pixels are, of pictures and maps of every kind."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from captum_softcam._fit import Fit
from captum_softcam.data import Sample
from captum_softcam.evaluation import Example
from captum_softcam.report import overlay, plot_history, plot_overlay, plot_panel, plot_sheet

SIZE = (40, 56)
RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (3, *SIZE)).astype(np.uint8)
PICTURE = torch.from_numpy(BYTES).float() / 255
GREY = torch.full((3, *SIZE), 0.5)
MAP = torch.tensor([[-2.0, -1.0, 0.0], [1.0, 2.0, 3.0]])


def turned(image):
    """The picture with the note that it lies on its side."""
    image.getexif()[0x0112] = 6  # a quarter turn to the right
    return image


def plain(image, attribution, **options):
    """The overlay without lines, as numbers that can be subtracted."""
    return overlay(image, attribution, contours=(), **options).astype(int)


def grey_of(image):
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    return (255 * torch.einsum("chw,c->hw", image.double(), weights)).numpy()[..., None].repeat(3, 2)


def collections(*args, **options):
    return plot_overlay(*args, **options).axes[0].collections


@pytest.mark.parametrize("positive", [False, True])
def test_a_map_of_zeros_leaves_the_photograph_in_grey(positive):
    assert plain(PICTURE, torch.zeros(1, 7, 7), positive=positive) == pytest.approx(grey_of(PICTURE), abs=0.51)


def test_the_other_sign_has_the_other_colour():
    forth, back = plain(GREY, MAP), plain(GREY, -MAP)
    values = upsampled(MAP.double())
    strong = np.abs(values) > 0.1
    assert (np.sign(forth[..., 0] - forth[..., 2]) == np.sign(values))[strong].all(), "orange for, purple against"
    assert (np.sign(back[..., 0] - back[..., 2]) == -np.sign(values))[strong].all()
    assert (plain(GREY, MAP, positive=True) == plain(GREY, values.clip(min=0), positive=True)).all(), "only above 0"


@pytest.mark.parametrize(("sign", "colour"), [(1, (242, 106, 0)), (-1, (106, 61, 240))])
def test_the_ends_of_the_scale_cover_four_fifths_of_the_photograph(sign, colour):
    expected = 0.2 * grey_of(PICTURE) + 0.8 * np.array(colour)
    assert plain(PICTURE, torch.full((2, 2), sign * 3.0)) == pytest.approx(expected, abs=1)


def upsampled(attribution, size=SIZE):
    return torch.nn.functional.interpolate(attribution[None, None], size, mode="bilinear")[0, 0].numpy()


@pytest.mark.parametrize("options", [{}, {"positive": True}, {"percentile": 70}, {"contours": (0.3,)}])
def test_a_map_of_a_layer_is_upsampled_as_in_the_metrics(options):
    assert (overlay(PICTURE, MAP, **options) == overlay(PICTURE, upsampled(MAP.double()), **options)).all()


def test_colours_end_at_the_percentile():
    attribution = RANDOM.standard_normal(SIZE) ** 3
    end = np.percentile(np.abs(attribution), 90)
    clipped = np.clip(attribution, -end, end)
    assert (plain(PICTURE, attribution, percentile=90) == plain(PICTURE, clipped, percentile=100)).all()


@pytest.mark.parametrize("rest", [0.0, 1e-9, 1e-3])
def test_a_sparse_map_keeps_its_scale(rest):
    attribution = np.full(SIZE, rest)
    attribution[5, 6:9] = 1, 2, 3
    drawn = plain(GREY, attribution)
    assert drawn[5, 8, 0] > drawn[5, 8, 2] + 100, "the peak has the full colour"
    assert drawn[5, 6, 0] - drawn[5, 6, 2] < 0.7 * (drawn[5, 8, 0] - drawn[5, 8, 2]), "a third of it has less"
    assert np.ptp(drawn[20:]) <= 1


@pytest.mark.parametrize("factor", [2.0**-900, 2.0**900])
def test_units_do_not_matter(factor):
    assert (overlay(PICTURE, MAP.double() * factor) == overlay(PICTURE, MAP.double())).all()


CONTAINERS = {
    "floats": PICTURE,
    "bytes": torch.from_numpy(BYTES),
    "batch": PICTURE[None],
    "gradient": PICTURE.clone().requires_grad_(),
    "array": BYTES,
    "channels last": np.moveaxis(BYTES, 0, 2),
    "channels last, tensor": torch.from_numpy(BYTES).permute(1, 2, 0),
    "transparency": np.dstack([np.moveaxis(BYTES, 0, 2), np.full(SIZE, 9, np.uint8)]),
    "Pillow": Image.fromarray(np.moveaxis(BYTES, 0, 2)),
    "Pillow as a telephone writes it": turned(Image.fromarray(np.rot90(np.moveaxis(BYTES, 0, 2)))),
    "Pillow with transparency": Image.fromarray(np.moveaxis(BYTES, 0, 2)).convert("RGBA"),
    "strides": BYTES[:, ::-1][:, ::-1],
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_picture_in_any_container(name):
    assert (overlay(CONTAINERS[name], MAP) == overlay(PICTURE, MAP)).all()


GREYS = {
    "array": BYTES[0],
    "channel": BYTES[:1],
    "tensor": PICTURE[0],
    "channel last": BYTES[0, ..., None],
    "Pillow": Image.fromarray(BYTES[0]),
    "Pillow of 16 bits": Image.fromarray(BYTES[0].astype(np.uint16) * 257),
    "batch": PICTURE[None, :1],
    "several channels": PICTURE[:1].expand(12, -1, -1),
}


@pytest.mark.parametrize("name", GREYS)
def test_a_grey_picture_in_any_container(name):
    assert overlay(GREYS[name], MAP).astype(int) == pytest.approx(overlay(BYTES[0], MAP).astype(int), abs=1)


MAPS = {
    "channel": MAP[None],
    "batch": MAP[None, None],
    "array": MAP.numpy(),
    "gradient": MAP.clone().requires_grad_(),
    "half": MAP.half(),
    "whole numbers": MAP.long(),
    "channels": torch.stack([MAP, MAP, -MAP]),
    "channels of a batch": torch.stack([MAP, MAP, -MAP])[None],
    "list": MAP.tolist(),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("image", [PICTURE, PICTURE[None], BYTES[0]], ids=["picture", "batch", "grey"])
def test_a_map_in_any_container(name, image):
    assert (overlay(image, MAPS[name]) == overlay(image, MAP)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (64, 64), (31, 1000)])
def test_the_array_has_the_size_of_the_picture(shape):
    found = overlay(RANDOM.random((3, *shape)), MAP, mask=np.ones(shape))
    assert (found.shape, found.dtype) == ((*shape, 3), np.uint8)


def test_the_array_is_the_figure():
    mask = torch.zeros(1, *SIZE)
    mask[:, 9:20, 9:20] = 1
    figure = Figure(figsize=(SIZE[1] / 64, SIZE[0] / 64), dpi=64)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    assert plot_overlay(PICTURE, MAP, mask=mask, ax=axis) is figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    assert drawn == pytest.approx(overlay(PICTURE, MAP, mask=mask).astype(int), abs=3), "lines are blended in another order"


def test_what_is_not_finite_is_green():
    for value in (np.nan, np.inf, -np.inf):
        attribution = upsampled(MAP).astype(float)
        attribution[:9, :9] = value
        red, green, blue = plain(GREY, attribution)[4, 4]
        assert green > max(red, blue) + 20
    assert (plain(GREY, np.full(SIZE, np.nan)) == [red, green, blue]).all()


class TestPutBack:
    """64 x 96 pixels, of which the network saw the square in the middle, pixel by pixel."""

    picture = torch.from_numpy(np.random.default_rng(1).random((3, 64, 96)))
    fit = Fit("crop")
    inside = (slice(2, -2), slice(18, 78))  # the frame is a line

    def test_inside_it_is_the_overlay_of_the_input(self):
        found = plain(self.picture, MAP, fit=self.fit, size=64)
        expected = plain(self.picture[..., 16:80], MAP)
        assert (found[self.inside] == expected[2:-2, 2:-2]).all()

    def test_outside_the_picture_is_pale(self):
        found = plain(self.picture, MAP, fit=self.fit, size=64)
        pale = 127.5 + 0.3 * (grey_of(self.picture) - 127.5)
        for part in (slice(0, 14), slice(82, None)):
            assert found[:, part] == pytest.approx(pale[:, part], abs=0.51)

    def test_it_is_not_green_there_except_for_nan_inside(self):
        found = plain(self.picture, np.full((4, 4), np.nan), fit=self.fit, size=64)
        assert (found[..., 1] > found[..., 0] + 20)[self.inside].all()
        assert not (found[..., 1] > found[..., 0] + 2)[:, :14].any()

    @pytest.mark.parametrize(("side", "expected"), [(7, 224), (8, 224), (14, 224), (224, 224), (299, 299), (300, 300)])
    def test_the_side_of_the_input_is_inferred(self, side, expected):
        """Seven positions cannot say where 224 / 256 of a picture begins."""
        attribution, fit = RANDOM.standard_normal((side, side)), Fit("crop", 224 / 256)
        found = overlay(self.picture, attribution, fit=fit)
        assert (found == overlay(self.picture, attribution, fit=fit, size=expected)).all()

    def test_no_contour_runs_along_the_border_of_what_was_seen(self):
        assert len(collections(self.picture, torch.ones(1, 4, 4), fit=self.fit, size=64)) == 1, "the frame"
        assert len(collections(self.picture, torch.ones(1, 4, 4), fit=Fit("squash"), size=64)) == 0

    def test_a_mask_may_be_that_of_the_input(self):
        mask = torch.zeros(1, 64, 96, dtype=torch.bool)
        mask[:, 10:30, 30:60] = True
        both = [overlay(self.picture, MAP, mask=part, fit=self.fit, size=64) for part in (mask, self.fit.mask(mask, 64))]
        assert (both[0] == both[1]).all()
        with pytest.raises(ValueError, match="does not fit its input"):
            overlay(self.picture, MAP, mask=torch.ones(1, 32, 32), fit=self.fit, size=64)

    def test_a_volume(self):
        volume = torch.rand(1, 6, 20, 20)
        found = overlay(volume, torch.rand(1, 3, 4, 4), fit=Fit("crop"), size=6)
        assert found.shape == (20, 20, 3)


def test_contours_are_solid_for_and_dashed_against():
    solid, dashed = collections(GREY, MAP)
    assert [lines.get_linestyle()[0][1] is None for lines in (solid, dashed)] == [True, False]
    assert solid.levels.tolist() == [0.5, 0.8]
    assert dashed.levels.tolist() == [0.5], "the scale ends at 3, and -2 is two thirds of it"
    assert not collections(GREY, MAP, contours=())


def test_contours_lie_where_the_map_is_half_of_the_end():
    ramp = torch.linspace(0, 1, 401)[None].expand(300, -1)
    (lines,) = collections(torch.rand(3, 300, 401), ramp, percentile=100)
    for path, expected in zip(lines.get_paths(), (200, 320), strict=True):
        assert path.vertices[:, 0] == pytest.approx(expected, abs=0.01)


def test_a_rough_map_has_no_contours():
    assert not collections(GREY, RANDOM.standard_normal(SIZE))
    assert collections(GREY, RANDOM.standard_normal((3, 4)))


def test_the_mask_is_outlined():
    mask = np.zeros(SIZE, bool)
    mask[10:20, 30:40] = True
    zeros = torch.zeros(1, 1)
    (lines,) = collections(GREY, zeros, mask=mask)
    vertices = lines.get_paths()[0].vertices
    assert (vertices.min(0).tolist(), vertices.max(0).tolist()) == ([29.5, 9.5], [39.5, 19.5])
    red, green, blue = overlay(GREY, zeros, mask=mask)[10:20, 30].mean(0)
    assert min(green, blue) > red + 50, "cyan"
    assert not collections(GREY, zeros, mask=np.zeros((1, *SIZE)))
    masks = [mask[None], torch.from_numpy(mask), Image.fromarray(mask), mask.astype(np.uint8) * 255]
    assert all((overlay(GREY, MAP, mask=each) == overlay(GREY, MAP, mask=mask)).all() for each in masks)


def test_lines_suit_the_size_of_the_picture():
    widths = [
        collections(torch.rand(1, side, side), MAP, figsize=(side / 64,) * 2)[0].get_linewidth()[0] for side in (64, 1000)
    ]
    assert widths[0] < 1 < 3 < widths[1] < 6


def test_of_a_volume_the_slice_with_the_highest_attribution():
    volume, attribution = torch.rand(1, 6, *SIZE), torch.zeros(1, 6, *SIZE)
    attribution[:, 4, 9:20, 9:20] = 1
    assert (overlay(volume, attribution) == overlay(volume[:, 4], attribution[:, 4])).all()
    assert (overlay(volume[None], attribution[None]) == overlay(volume, attribution)).all()


@pytest.mark.parametrize("shape", [(5,), (1, 5), (1, 1, 5)])
@pytest.mark.parametrize("batch", [(), (1,)])
def test_a_signal_is_drawn_as_lines(shape, batch):
    signal = torch.randn(*batch, 2, 40)
    figure = plot_overlay(signal, torch.linspace(-1, 1, 5).view(shape), title="ECG")
    assert len(figure.axes[0].get_lines()) == len(figure.axes[0].collections) == 2
    with pytest.raises(ValueError, match="a signal has no pixels to return as an array"):
        overlay(signal, torch.randn(shape))
    with pytest.raises(ValueError, match="a signal is not cropped"):
        plot_overlay(signal, torch.randn(shape), fit=Fit())


@pytest.mark.parametrize(
    ("image", "attribution", "options", "error", "message"),
    [
        ("cat.jpg", MAP, {}, TypeError, r"not on a path; pass read_image\('cat.jpg'\) of captum_softcam.data"),
        (None, MAP, {}, ValueError, r"an input of shape \(\) cannot be drawn"),
        (GREY, None, {}, ValueError, r"the map 'attribution' has shape \(\); an input of size \(40, 56\) needs"),
        (GREY, torch.rand(2, 1, 3, 4), {}, ValueError, r"shape \(2, 1, 3, 4\)"),
        (GREY, [], {}, ValueError, r"shape \(0,\)"),
        (GREY, MAP, {"mask": np.ones((3, 4))}, ValueError, r"a mask of shape \(3, 4\) does not fit"),
        (GREY, MAP, {"percentile": 0}, ValueError, "above 0 and up to 100, the largest; got 0"),
        (GREY, "map.npy", {}, TypeError, "arrays, not paths; read 'map.npy' first"),
        (GREY, MAP, {"mask": "mask.png"}, TypeError, "arrays, not paths; read 'mask.png' first"),
        (GREY[None].repeat(2, 1, 1, 1), torch.rand(2, 1, 3, 4), {}, ValueError, r"a batch of 2; draw one at a time"),
        (np.zeros((40, 56, 12)), MAP, {}, ValueError, "would be 40 channels of 56 x 12 pixels; pass its channels first"),
        (GREY, MAP, {"fit": "crop"}, TypeError, r"such as classifier.fit or Fit\('crop'\) .*; got 'crop'"),
        (GREY, MAP, {"fit": Fit(), "size": 0}, ValueError, "such as 224; got 0"),
        (GREY, MAP, {"fit": Fit(), "size": (224, 224)}, ValueError, "such as 224; got "),
        (GREY, MAP, {"percentile": "99"}, ValueError, "the largest; got '99'"),
        (GREY, MAP, {"contours": 0.5}, ValueError, r"such as \(0.5, 0.8\); got 0.5"),
        (GREY, MAP, {"contours": None}, ValueError, r"such as \(0.5, 0.8\); got None"),
        (GREY, MAP, {"contours": (50, 80)}, ValueError, r"such as \(0.5, 0.8\); got \(50, 80\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused(image, attribution, options, error, message):
    with pytest.raises(error, match=message):
        overlay(image, attribution, **options)


def test_text_stays_text_in_vector_graphics():
    before, file = matplotlib.rcParams["svg.fonttype"], io.BytesIO()
    plot_overlay(PICTURE, MAP, title="Grad-CAM of a $cat").savefig(file, format="svg")
    assert b"Grad-CAM of a $cat" in file.getvalue()
    assert matplotlib.rcParams["svg.fonttype"] == before
    embedded = b'<image xlink:href="data:image/png' in file.getvalue()
    assert embedded


@pytest.mark.parametrize("kind", ["overlay", "panel", "sheet", "curves"])
def test_a_notebook_shows_every_figure_before_pyplot_has_made_one(kind):
    example = Example(Sample(PICTURE, 0, None, "cat"), 0, {"grad_cam": MAP[None]}, torch.tensor([0.9, 0.1]))
    figure = {
        "overlay": lambda: plot_overlay(PICTURE, MAP),
        "panel": lambda: plot_panel([example]),
        "sheet": lambda: plot_sheet(example),
        "curves": lambda: plot_history([{"epoch": 1, "val_loss": 0.5, "val_score": 0.5, "val_auc": 0.5}]),
    }[kind]()
    shown = Image.open(io.BytesIO(figure._repr_png_()))
    assert shown.size == pytest.approx(100 * figure.get_size_inches(), abs=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_map_with_channels_last_is_read_as_captum_draws_it(channels):
    """Of the size of the picture, of the input that was cut out of it, and of a square layer."""
    seeded = torch.Generator().manual_seed(0)
    small = torch.randn(channels, 7, 7, generator=seeded)
    large = torch.randn(channels, *SIZE, generator=seeded)
    cut = torch.randn(channels, 40, 40, generator=seeded)
    for first, options in ((small, {}), (large, {}), (cut, {"fit": Fit("crop"), "size": 40})):
        last = first.permute(1, 2, 0)
        expected = plain(GREY, first.double().sum(0), **options)
        assert expected.std() > 1
        assert plain(GREY, last, **options) == pytest.approx(expected, abs=1)
        assert plain(GREY, last.numpy(), **options) == pytest.approx(expected, abs=1)
    activations = torch.randn(512, 3, 3, generator=seeded)
    assert plain(GREY, activations) == pytest.approx(plain(GREY, activations.double().sum(0)), abs=1), (
        "of a layer, whose channels are first"
    )


def test_contours_may_be_any_sequence_in_any_order():
    expected = overlay(PICTURE, MAP)
    for contours in ([0.8, 0.5], np.array([0.5, 0.8]), torch.tensor([0.5, 0.8], dtype=torch.float64), (0.5, 0.8, 0.5)):
        assert (overlay(PICTURE, MAP, contours=contours) == expected).all()


def test_axes_that_are_not_flat_are_refused():
    figure = Figure()
    for ax, got in (
        (figure, "Figure"),
        (figure.subplots(1, 2), "ndarray"),
        (figure.add_subplot(polar=True), "PolarAxes"),
    ):
        with pytest.raises(TypeError, match=f"one of the flat axes of a figure, .*; got {got}"):
            plot_overlay(PICTURE, MAP, ax=ax)


def test_a_long_title_stays_within_the_figure():
    figure = plot_overlay(PICTURE, MAP, title="Recipro-CAM for the tiger cat, with a probability of 85 %,\nof 3")
    figure.draw_without_rendering()
    title = figure.axes[0].title.get_window_extent()
    assert 0 <= title.x0 < title.x1 <= 400
    assert title.y1 <= figure.bbox.height
    assert figure.axes[0].get_title().endswith("\nof 3")


def test_the_layout_of_the_user_is_left_alone(recwarn):
    expected = overlay(PICTURE, MAP)
    with matplotlib.rc_context({"figure.autolayout": True}):
        assert (overlay(PICTURE, MAP) == expected).all()
    assert not recwarn.list
