"""Panels: what they show of samples of every kind, and where it lies."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from captum_softcam._fit import Fit
from captum_softcam.data import Sample
from captum_softcam.evaluation import Example
from captum_softcam.report import overlay, plot_panel

SIZE = (24, 32)
RAMP = torch.linspace(-1, 2, 12, dtype=torch.float64).view(3, 4)


def example(image=None, attribution=RAMP, mask=None, target=0, **fields):
    return Example(
        Sample(torch.rand(3, *SIZE) if image is None else image, target, mask, "s"), target, {"m": attribution}, **fields
    )


def panel_of(image, attribution=RAMP, mask=None, target=0, classes=None, **options):
    """The drawn panel of one example with one map: its axes, and its pixels by axis."""
    figure = plot_panel([example(image, attribution, mask, target)], classes, **options)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    whole = np.asarray(canvas.buffer_rgba())[..., :3]
    parts = {}
    for name, axis in zip(("input", "map"), figure.axes, strict=False):
        left, low, right, high = (round(edge) for edge in axis.get_window_extent().extents)
        parts[name] = whole[len(whole) - high + 2 : len(whole) - low - 2, left + 2 : right - 2]
    return figure.axes, parts


def pixels(axis):
    return np.asarray(axis.images[0].get_array())


def words(figure):
    return [text.get_text() for part in figure.subfigs for text in part.texts]


@pytest.fixture
def two():
    maps = {"soft_cam": torch.linspace(-1, 2, 192).view(1, 12, 16), "random": torch.zeros(1, 12, 16), "my_map": RAMP}
    mask = torch.zeros(1, 12, 16, dtype=torch.bool)
    mask[:, 2:6, 3:9] = True
    images = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    return [
        Example(Sample(image, i, mask if i else None, f"s{i}"), i, maps, torch.tensor([0.25, 0.75]))
        for i, image in enumerate(images)
    ]


def test_input_and_every_method_have_titles(two):
    axes = plot_panel(two).axes
    for row in (axes[:4], axes[4:8]):
        assert [axis.get_title() for axis in row] == ["Input", "SoftCAM", "Random map", "my map"]
    assert len(axes[0].collections) == 0
    assert len(axes[4].collections) == 1, "the mask is outlined on the input"


def test_the_line_above_names_class_probability_prediction_and_sample(two):
    assert words(plot_panel(two, ["healthy", "sick"]))[:2] == [
        "healthy (0.250) · predicted: sick (0.750) · s0",
        "sick (0.750) · s1",
    ]
    plain = dataclasses.replace(two[1], probabilities=None)
    assert words(plot_panel([plain]))[0] == "class 1 · s1"
    values = dataclasses.replace(two[0], probabilities=torch.tensor([123.456]), scores="identity")
    assert words(plot_panel([values], ["mm"]))[0] == "mm (123.5) · s0"


def test_maps_are_drawn_as_overlays(two):
    drawn = pixels(plot_panel(two, contours=()).axes[1])
    assert (drawn == overlay(two[0].sample.image, two[0].maps["soft_cam"], contours=())).all()


def test_on_white_the_photograph_does_not_show():
    dark, bright = (
        pixels(plot_panel([example(torch.full((3, *SIZE), grey))], overlays=False).axes[1]) for grey in (0.0, 1.0)
    )
    assert (dark == bright).all()
    middle = dark[np.abs(np.asarray(upsampled(RAMP))) < 0.02]
    assert middle.min() > 235, "0 is white"


def upsampled(values, size=SIZE):
    return torch.nn.functional.interpolate(values[None, None], size, mode="bilinear")[0, 0]


def test_a_method_that_failed_leaves_its_place_empty(two):
    first, second = two
    axes = plot_panel([dataclasses.replace(first, maps={"random": first.maps["random"]}), second]).axes
    assert [text.get_text() for text in axes[2].texts] == ["failed"]
    assert not axes[2].images
    assert axes[6].images


@pytest.mark.parametrize(
    "attribution",
    [
        RAMP[None],
        RAMP,
        RAMP[None, None],
        RAMP.numpy(),
        RAMP.numpy()[::-1, ::-1][::-1, ::-1],
        RAMP.bfloat16(),
        RAMP[None].requires_grad_(),
        (RAMP / 3).expand(3, -1, -1),
        RAMP * 1e-50,
    ],
    ids=["(1, h, w)", "(h, w)", "(1, 1, h, w)", "array", "strides", "bfloat16", "gradient", "channels", "tiny"],
)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("overlays", [False, True])
def test_a_map_lies_over_the_whole_input(attribution, masked, overlays):
    """At any resolution of the map: extents, limits and pixels."""
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[:, 10:, 20:] = True
    axes, parts = panel_of(torch.rand(3, *SIZE), attribution, mask if masked else None, overlays=overlays)
    for axis in axes[:2]:
        assert tuple(axis.images[0].get_extent()) == (-0.5, 31.5, 23.5, -0.5)
        assert (axis.get_xlim(), axis.get_ylim()) == ((-0.5, 31.5), (23.5, -0.5))
    corners = [parts["map"][row, column].astype(int) for row in (1, -2) for column in (1, -2)]
    assert corners[0][2] > corners[0][0] + 5, "top left speaks against the class: purple"
    assert corners[3][0] > corners[3][2] + 50, "bottom right speaks for it: orange"
    assert len({tuple(corner) for corner in corners}) == 4, "no corner is left empty"


@pytest.mark.parametrize(
    ("image", "note", "grey"),
    [
        (torch.full((1, *SIZE), 0.5), "", 128),
        (torch.full((1, *SIZE), 64, dtype=torch.uint8), "", 64),
        (torch.full((3, *SIZE), 0.25).requires_grad_(), "", 64),
        (np.full((1, *SIZE), 0.5), "", 128),
        (torch.stack([torch.zeros(SIZE), torch.ones(SIZE)]), "mean of 2 channels", 128),
        (torch.full((4, *SIZE), 0.25), "mean of 4 channels", 64),
        (torch.full((5, *SIZE), 7.0), "mean of 5 channels, scaled\nfrom 7 to 7", 0),
        (torch.full((1, *SIZE), float("nan")), "black where not finite", 0),
    ],
    ids=["grey", "bytes", "colour", "array", "2 channels", "4 channels", "5 channels", "not finite"],
)
def test_the_input_is_drawn_as_it_is(image, note, grey):
    axes, parts = panel_of(image)
    assert parts["input"] == pytest.approx(np.full_like(parts["input"], grey), abs=1)
    assert axes[0].get_xlabel() == note


def test_an_input_in_other_units_is_scaled_and_says_so():
    axes, parts = panel_of(torch.linspace(-2, 3, 3 * 24 * 32).view(3, *SIZE))
    assert axes[0].get_xlabel() == "scaled from -2 to 3"
    assert parts["input"][..., 0].min() < 5
    assert parts["input"][..., 2].max() > 250


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("overlays", [False, True])
def test_what_is_not_finite_has_a_colour_of_its_own(value, overlays):
    attribution = RAMP.clone()
    attribution[0, 0] = value
    axes, parts = panel_of(torch.full((3, *SIZE), 0.5), attribution, overlays=overlays)
    assert axes[1].get_xlabel().endswith("% not finite")
    green = parts["map"][2, 2].astype(int)
    assert green[1] > max(green[0], green[2]) + 20
    plain = panel_of(torch.full((3, *SIZE), 0.5), overlays=overlays)[1]
    assert (parts["map"][-3, -3] == plain["map"][-3, -3]).all(), "the scale is that of the finite values"


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_flat_map_says_nothing_and_the_panel_says_so(value):
    assert panel_of(torch.rand(3, *SIZE), torch.full((1, 3, 4), value))[0][1].get_xlabel() == "flat: no information"


def test_a_map_that_looks_flat_is_said_to_vary():
    """Raw scores of a network with a class token hardly depend on one patch."""
    axes, _ = panel_of(torch.rand(3, *SIZE), 24.4 + 0.01 * RAMP)
    assert axes[1].get_xlabel().replace("\n", " ") == "nearly flat: varies by 0.0012 of its peak"


@pytest.mark.parametrize("fill", [False, True])
def test_a_mask_of_nothing_or_of_all(fill):
    axes, _ = panel_of(torch.rand(3, *SIZE), RAMP, torch.full((1, *SIZE), fill))
    assert len(axes[0].collections) == fill
    assert axes[0].get_xlabel() == ("" if fill else "empty mask")
    assert axes[1].get_xlim() == (-0.5, 31.5)


def test_a_signal_is_lines_with_the_colours_of_its_map():
    mask = torch.zeros(1, 40, dtype=torch.bool)
    mask[:, 10:30] = True
    axes, _ = panel_of(torch.sin(torch.arange(80.0)).view(2, 40), torch.linspace(-1, 1, 5)[None], mask)
    for axis in axes[:2]:
        assert axis.get_xlim() == (-0.5, 39.5)
        first, second = (line.get_ydata() for line in axis.get_lines())
        assert first.min() > second.max(), "the channels do not overlap"
        assert axis.patches[0].get_x() == 9.5
        assert axis.patches[0].get_width() == 20
    assert [len(axis.collections) for axis in axes[:2]] == [0, 2]
    colours = axes[1].collections[0].get_colors()
    assert len(colours) == 39
    assert colours[0][2] > colours[0][0] + 0.1, "against the class: purple"
    assert colours[-1][0] > colours[-1][2] + 0.3, "for it: orange"


def test_gaps_and_channels_of_a_signal():
    signal = torch.randn(20, 40)
    signal[3, 5] = float("nan")
    axes, _ = panel_of(signal, torch.full((1, 5), float("nan")))
    assert len(axes[0].get_lines()) == 16
    assert axes[0].get_xlabel() == "first 16 of 20 channels"
    assert axes[1].get_xlabel() == "100% not finite"
    assert axes[0].figure.bbox.height / axes[0].figure.dpi > 3, "a lane for each channel"


def _volume():
    volume, attribution = torch.zeros(1, 6, *SIZE), torch.zeros(1, 3, 3, 4)
    volume[:, 4:] = 1.0
    attribution[:, 2], attribution[:, 0] = RAMP.abs(), -RAMP.abs()
    mask = torch.zeros(1, 6, *SIZE, dtype=torch.bool)
    mask[:, 5, 4:9, 4:9] = True
    return volume, attribution, mask


def test_of_a_volume_the_slice_with_the_most_evidence_is_drawn():
    axes, parts = panel_of(*_volume())
    assert words(axes[0].figure.figure)[0] == "class 0 · s · slice 6 of 6, highest attribution"
    assert parts["input"][0, 0].tolist() == [255] * 3
    assert len(axes[0].collections) == 1
    assert pixels(axes[1]).shape == (*SIZE, 3)


def test_a_montage_shows_slices_side_by_side():
    volume, attribution, mask = _volume()
    figure = plot_panel([example(volume, attribution, mask)], montage=3)
    height, width = SIZE
    image, drawn = (pixels(axis) for axis in figure.axes[:2])
    assert image.shape == drawn.shape == (2 * height, 2 * width, 3)
    # Of the slices 1, 3 (rounded to even) and 6
    assert (image[:height].max(), image[height:, :width].min(), image[height:, width:].max()) == (0, 1, 0)
    assert (drawn[height:, :width, 0] > drawn[height:, :width, 2]).mean() > 0.3, "for the class"
    assert (drawn[:height, :width, 0] <= drawn[:height, :width, 2]).all(), "against it"
    assert [text.get_text() for text in figure.axes[1].texts] == ["1", "3", "6"]
    assert words(figure)[0].endswith("3 of 6 slices, highest attribution in 6")
    assert "6 of 6 slices" in words(plot_panel([example(volume, attribution, mask)], montage=99))[0]
    assert "slice 4 of 6" in words(plot_panel([example(volume, RAMP.new_zeros(1, 3, 3, 4), mask)]))[0]
    with pytest.raises(ValueError, match="montage must be the number of slices to draw, at least 1; got 0"):
        plot_panel([example(volume)], montage=0)


def test_no_line_crosses_from_one_slice_to_the_next():
    volume, attribution = torch.rand(1, 4, *SIZE), torch.zeros(1, 4, *SIZE)
    attribution[:, 1, :, -6:] = 1.0
    axis = plot_panel([example(volume, attribution, attribution > 0)], montage=4).axes[1]
    for lines in axis.collections:
        for path in lines.get_paths():
            assert path.vertices[:, 0].min() > 32, "that of the slice at the upper right stays there"


@pytest.mark.parametrize(
    ("image", "attribution", "mask", "message"),
    [
        (torch.rand(7), torch.rand(7), None, r"an input of shape \(7,\) cannot be drawn"),
        (torch.rand(1, 2, 3, 4, 5), torch.rand(1, 2), None, "cannot be drawn; expected a signal"),
        (torch.rand(3, *SIZE), torch.rand(2, 1, 3, 4), None, r"the map 'm' has shape \(2, 1, 3, 4\)"),
        (torch.rand(3, *SIZE), torch.rand(12), None, "needs a single map with 2 dimensions"),
        (torch.rand(3, *SIZE), RAMP, torch.ones(1, 3, 4), r"a mask of shape \(1, 3, 4\) does not fit its input"),
    ],
    ids=["table", "film", "two maps", "cells", "mask"],
)
def test_what_cannot_be_drawn_is_refused(image, attribution, mask, message):
    with pytest.raises(ValueError, match=message):
        plot_panel([example(image, attribution, mask)])


@pytest.mark.parametrize(("target", "shown"), [(0, "$x_{$"), (1, "a" * 29 + "…" + "a" * 30), (2, "class 2")])
def test_any_name_of_a_class_can_be_drawn(target, shown):
    figure = plot_panel([example(target=target)], ["$x_{$", "a" * 1000])
    assert words(figure)[0].replace("\n", "").startswith(shown)
    figure.savefig(io.BytesIO())


def test_no_examples_no_panel():
    with pytest.raises(ValueError, match="there are no examples to draw"):
        plot_panel([])


@pytest.mark.parametrize(("methods", "across", "down"), [(1, 2, 1), (4, 5, 1), (5, 3, 2), (9, 5, 2), (12, 5, 3)])
def test_many_methods_wrap(methods, across, down):
    figure = plot_panel([Example(Sample(torch.rand(3, 8, 8), 0, None, "s"), 0, {f"m{i}": RAMP for i in range(methods)})])
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    assert (grid.ncols, grid.nrows) == (across, down)
    assert figure.get_size_inches()[0] <= 7.5


def test_rows_of_any_aspect_have_pictures_of_one_width():
    images = torch.rand(3, 20, 60), torch.rand(3, 40, 20), torch.rand(3, 30, 30)
    figure = plot_panel([example(image) for image in images])
    FigureCanvasAgg(figure).draw()
    sizes = [axis.get_window_extent().size for axis in figure.axes[:6:2]]
    assert [round(height / width, 1) for width, height in sizes] == [0.3, 2.0, 1.0]
    assert min(width for width, _ in sizes) > 0.75 * max(width for width, _ in sizes)


def test_maps_and_masks_are_put_back_onto_originals():
    fit, original = Fit("crop", 0.8), torch.rand(3, 60, 90)
    mask = torch.zeros(1, 60, 90, dtype=torch.bool)
    mask[:, 20:40, 30:60] = True
    own = Example(Sample(fit.image(original, 48), 0, fit.mask(mask, 48), "s"), 0, {"m": RAMP[None]})
    axes = plot_panel([own], originals=[original], fit=fit, contours=()).axes
    expected = overlay(original, RAMP, fit=fit, size=48, contours=())
    assert pixels(axes[0]).shape == (60, 90, 3)
    inner = (slice(12, 48), slice(26, 64))  # without the frame, which is a line
    assert (pixels(axes[1])[inner] == expected[inner]).all()
    edge = axes[0].collections[-1].get_paths()[0].vertices
    assert edge.min(0) == pytest.approx([29.5, 19.5], abs=1.5)
    assert edge.max(0) == pytest.approx([59.5, 39.5], abs=1.5)


def test_originals_that_do_not_fit_are_refused():
    square = example(torch.rand(3, 8, 8))
    with pytest.raises(ValueError, match="uncropped images of the examples, 1; got 2"):
        plot_panel([square], originals=[square.sample.image] * 2)
    with pytest.raises(ValueError, match="pass these, too, as originals"):
        plot_panel([square], fit=Fit())
    with pytest.raises(ValueError, match=r"square or cubic inputs alone; got one of size \(24, 32\)"):
        plot_panel([example()], originals=[torch.rand(3, 9, 9)])


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_vector_graphics_have_text_lines_and_the_pixels_of_the_input(kind):
    file = io.BytesIO()
    plot_panel([example(torch.rand(3, 40, 40))], ["tabby cat"]).savefig(file, format=kind)
    if kind == "svg":
        text = file.getvalue().decode()
        assert "tabby cat" in text
        assert 'id="QuadContourSet_1"' in text
    else:
        assert b"/Width 40" in file.getvalue()


def test_the_size_of_the_figure_is_the_callers():
    assert plot_panel([example()], figsize=(3, 5)).get_size_inches().tolist() == [3, 5]


def test_classes_may_be_an_array_and_examples_a_generator(two):
    figure = plot_panel((each for each in two), np.array(["dog", "cat", "eel"]))
    assert words(figure) == words(plot_panel(two, ["dog", "cat", "eel"]))
