"""Tables, notes and panels of a comparison, in the terminal and in its folder."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from rich.console import Console

from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, Example
from captum_softcam.metrics import METRICS
from captum_softcam.report import make_table, plot_panel, print_table, table_notes, write_pictures

NAN = float("nan")
VALUES = {("soft_cam", "pixel_auc"): [0.9, 0.8], ("random", "pixel_auc"): [0.5, NAN]}


@pytest.fixture
def comparison() -> Comparison:
    rows = [
        {"sample": f"s{i}", "label": i, "target": i, "prediction": 0, "method": method, "metric": metric, "score": score}
        for (method, metric), scores in VALUES.items()
        for i, score in enumerate(scores)
    ]
    images = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 12, 16, dtype=torch.bool)
    mask[:, 2:6, 3:9] = True
    maps = {"soft_cam": torch.linspace(-1, 2, 192).view(1, 12, 16), "random": torch.zeros(1, 12, 16)}
    examples = [Example(Sample(image, i, mask if i else None, f"s{i}"), i, maps) for i, image in enumerate(images)]
    costs = {"forwards": [65.5, 0.0], "backwards": [2.0, 0.0], "relative": [1.02, 0.0]}
    table = pd.DataFrame(costs, index=pd.Index(["soft_cam", "random"], name="method"))
    return Comparison(pd.DataFrame(rows), table, {"samples_with_mask": 2}, examples=examples)


def _printed(comparison: Comparison, width: int) -> str:
    text = io.StringIO()
    print_table(comparison, Console(file=text, width=width))
    return text.getvalue()


@pytest.mark.parametrize("width", [30, 200])
def test_the_table_says_it_all_at_any_width(comparison, width):
    text = _printed(comparison, width)
    for part in ("soft_cam", "random", "(control)", "Pixel AUC ↑", "0.850*", "[0.800, 0.900]", "0.500", "1.0", "cost"):
        assert part in text
    for part in ("(baseline)", "passes", "65.5 + 2", "0 + 0"):
        assert part in text
    assert "0.500*" not in text


@pytest.mark.parametrize(("baseline", "mark", "other"), [(None, "▼", "▲"), ("random", "▲", "▼")])
def test_what_differs_from_the_baseline_is_marked(comparison, baseline, mark, other):
    rows = comparison.scores[comparison.scores["sample"] == "s0"]
    many = [rows.assign(sample=f"m{i}", score=rows["score"] + i / 100) for i in range(8)]
    larger = dataclasses.replace(comparison, scores=pd.concat(many, ignore_index=True))
    text = io.StringIO()
    Console(file=text, width=100).print(make_table(larger, baseline=baseline))
    assert text.getvalue().count(mark) == 1
    assert other not in text.getvalue()
    (note,) = [note for note in table_notes(larger, baseline) if "▲" in note]
    assert note.startswith(f"▲ better, ▼ worse than {baseline or 'soft_cam'}: by the paired difference, at a level of 5 %")


def test_a_baseline_that_is_not_there(comparison):
    with pytest.raises(ValueError, match=r"baseline 'randon' is not among the methods. Closest: 'random'"):
        make_table(comparison, baseline="randon")


def test_notes_on_a_baseline_that_is_not_there(comparison):
    with pytest.raises(ValueError, match="'nobody' is not among the methods"):
        table_notes(comparison, "nobody")


def test_a_metric_that_is_not_there(comparison):
    known = comparison.metrics[0]
    with pytest.raises(ValueError, match=f"the metric '{known}s' is not in this comparison. Closest: '{known}'"):
        make_table(comparison, [known, f"{known}s"])


def test_titles_and_directions_are_the_manifests(comparison):
    entry = {"title": "[bold]Of a later version", "category": "complexity", "higher_is_better": False}
    rows = comparison.scores.assign(metric="later")
    text = _printed(dataclasses.replace(comparison, scores=rows, manifest={"metrics": {"later": entry}}), 200)
    assert "[bold]Of a later" in text
    assert "version ↓" in text
    assert "0.500*" in text


def test_names_in_brackets_are_no_style(comparison):
    renamed = comparison.scores.replace({"method": {"soft_cam": "[red]mine"}})
    assert "[red]mine" in _printed(dataclasses.replace(comparison, scores=renamed), 200)


@pytest.fixture
def whole(comparison) -> Comparison:
    """The comparison under every metric."""
    parts = [comparison.scores.assign(metric=name) for name in METRICS]
    return dataclasses.replace(comparison, scores=pd.concat(parts, ignore_index=True))


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [40, 60, 80, 100, 150])
def test_a_narrow_terminal_gets_tables_that_fit(whole, width, terminal):
    text = io.StringIO()
    print_table(whole, Console(file=text, width=width, force_terminal=terminal, color_system=None))
    table = text.getvalue().split("2 samples")[0]
    assert max(map(len, table.splitlines())) <= width
    parts = [part for part in table.split("\n\n") if part]
    assert table.count("soft_cam") == len(parts)
    for metric in METRICS.values():
        assert sum(all(word in part for word in metric.title.split()) for part in parts) >= 1
    assert table.count("[0.800, 0.900]") == len(METRICS), "no interval is broken"
    assert ["passes" in part for part in parts] == [False] * (len(parts) - 1) + [True]


def test_every_metric_stands_in_one_part(whole):
    titles = {metric.title for metric in METRICS.values()}
    heads = [" ".join(column.header.plain.split()[:-1]) for column in make_table(whole).columns[1:-2]]
    assert sorted(heads) == sorted(metric.title for metric in METRICS.values())
    assert len(titles) == len(heads)


def test_long_names_and_titles_are_folded(comparison):
    name, title = "m" * 60 + "_end", "Title" * 12
    entry = {"title": title, "category": "complexity", "higher_is_better": True}
    rows = comparison.scores.replace({"method": {"soft_cam": name}}).assign(metric="long")
    found = dataclasses.replace(comparison, scores=rows, manifest={"metrics": {"long": entry}})
    text = _printed(found, 80).split("2 samples")[0]
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    first = "".join(line.split()[0] for line in text.splitlines() if line.startswith(("mm", "_")))
    assert first.replace("(control)", "").startswith(name)


@pytest.mark.parametrize(("columns", "most"), [(None, 80), ("120", 120), ("60", 60)])
def test_a_pipe_counts_as_80_columns_unless_told(whole, columns, most, monkeypatch, capsys):
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((300, 50)))
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    print_table(whole)
    longest = max(map(len, capsys.readouterr().out.split("2 samples")[0].splitlines()))
    assert most - 20 < longest <= most


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_console_without_unicode_gets_other_marks(comparison, encoding, monkeypatch):
    rows = comparison.scores[comparison.scores["sample"] == "s0"]
    many = [rows.assign(sample=f"m{i}", score=rows["score"] + i / 100) for i in range(6)]
    larger = dataclasses.replace(comparison, scores=pd.concat(many, ignore_index=True))
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    monkeypatch.setattr("sys.stdout", stream)
    print_table(larger)
    text = stream.buffer.getvalue().decode(encoding)
    higher, better, worse = ("↑", "▲", "▼") if encoding == "utf-8" else ("^", "+", "-")
    assert f"Pixel AUC {higher}" in text
    assert f"0.525 {worse}" in text
    assert f"{better} better, {worse} worse than soft_cam" in text
    assert "\\u" not in text
    assert stream.errors == "strict"


def test_markdown_and_csv_are_never_split(whole):
    for form, expected in (("markdown", whole.to_markdown()), ("csv", whole.to_csv())):
        text = io.StringIO()
        print_table(whole, Console(file=text, width=40), form)
        assert text.getvalue() == expected


def test_csv_for_a_terminal_does_not_act_on_it(comparison):
    renamed = comparison.scores.replace({"method": {"soft_cam": "\x1b[2Jmine"}})
    text = io.StringIO()
    print_table(dataclasses.replace(comparison, scores=renamed), Console(file=text, width=40), "csv")
    assert "\x1b" not in text.getvalue()
    assert "\\x1b[2Jmine" in text.getvalue()


def test_notes_count_what_is_undefined(comparison):
    notes = table_notes(comparison)
    assert "2 samples, 1 of them classified correctly." in notes
    assert "random, pixel_auc: 1 of 2 scores are undefined (NaN)." in notes
    assert not any(note.startswith("soft_cam") for note in notes)


def test_notes_tell_of_failures(comparison):
    rows = [("s0", "random", "", "RuntimeError: [x] no\nmemory"), ("s1", "random", "", "RuntimeError: [x] no\nmemory")]
    rows += [("s0", "soft_cam", "pixel_auc", f"ValueError: {i}") for i in (1, 2, 2)]
    failures = pd.DataFrame(rows, columns=["sample", "method", "metric", "error"])
    failed = dataclasses.replace(comparison, failures=failures)
    notes = table_notes(failed)
    assert "random: failed on 2 of 2 samples: RuntimeError: [x] no memory" in notes
    assert "soft_cam, pixel_auc: failed on 1 of 2 samples: ValueError: 2 (and other errors: 1)" in notes
    assert not any("undefined" in note for note in notes), "what failed is told once"
    assert "RuntimeError: [x] no memory" in _printed(failed, 200)


def test_the_panel_shows_input_mask_and_every_method(comparison, tmp_path):
    figure = plot_panel(comparison.examples, ["healthy", "sick"])
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["input", "mask", "soft cam", "random"]
    shown = figure.axes[2].images[0]
    assert shown.get_clim() == (-1, 1)
    assert float(shown.get_array().max()) == pytest.approx(1)
    assert float(shown.get_array().min()) == pytest.approx(-0.5), "the sign and the ratio of the values stay"
    figure.savefig(tmp_path / "panel.png")
    assert (tmp_path / "panel.png").stat().st_size > 1000


def test_a_method_that_failed_leaves_its_place_empty(comparison):
    first, second = comparison.examples
    figure = plot_panel([dataclasses.replace(first, maps={"random": first.maps["random"]}), second])
    axes = figure.axes[:8]
    assert [axis.get_title() for axis in axes[:4]] == ["input", "mask", "random", "soft cam"]
    assert [text.get_text() for text in axes[3].texts] == ["failed"]
    assert not axes[3].images
    assert axes[7].images


SIZE = (24, 32)
RAMP = torch.linspace(-1, 2, 12, dtype=torch.float64).view(3, 4)


def panel_of(image, attribution=RAMP, mask=None, target=0, classes=None, **options):
    """The drawn panel of one example with one map: its axes, and its pixels by axis."""
    figure = plot_panel([Example(Sample(image, target, mask, "s"), target, {"m": attribution})], classes, **options)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    whole = np.asarray(canvas.buffer_rgba())[..., :3]
    parts = {}
    for name, axis in zip(("input", "mask", "map"), figure.axes, strict=False):
        box = axis.get_window_extent()
        left, low, right, high = (round(edge) for edge in box.extents)
        parts[name] = whole[len(whole) - high + 2 : len(whole) - low - 2, left + 2 : right - 2]
    return figure.axes, parts


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
def test_a_map_lies_over_the_whole_input(attribution, masked):
    """At any resolution of the map: extents, limits, values and pixels."""
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[:, 10:, 20:] = True
    axes, parts = panel_of(torch.rand(3, *SIZE), attribution, mask if masked else None)
    for axis in axes[:3]:
        assert axis.images[0].get_extent() == [-0.5, 31.5, 23.5, -0.5]
        assert (axis.get_xlim(), axis.get_ylim()) == ((-0.5, 31.5), (23.5, -0.5))
    drawn = np.asarray(axes[2].images[0].get_array())
    expected = torch.nn.functional.interpolate(RAMP[None, None], SIZE, mode="bilinear")[0, 0] / 2
    assert drawn == pytest.approx(expected.numpy(), abs=5e-3)
    corners = [parts["map"][row, column].astype(int) for row in (1, -2) for column in (1, -2)]
    assert corners[0][2] > corners[0][0] + 20, "top left speaks against the class: purple"
    assert corners[3][0] > corners[3][2] + 50, "bottom right speaks for it: brown"
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
        (torch.full((5, *SIZE), 7.0), "mean of 5 channels\nscaled from 7 to 7", 0),
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
def test_what_is_not_finite_has_a_colour_of_its_own(value):
    attribution = RAMP.clone()
    attribution[0, 0] = value
    axes, parts = panel_of(torch.rand(3, *SIZE), attribution)
    assert axes[2].get_xlabel().endswith("% not finite")
    green = parts["map"][2, 2].astype(int)
    assert green[1] > max(green[0], green[2]) + 20
    assert float(axes[2].images[0].get_array()[-1, -1]) == pytest.approx(1), "the scale is that of the finite values"


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_flat_map_says_nothing_and_the_panel_says_so(value):
    assert panel_of(torch.rand(3, *SIZE), torch.full((1, 3, 4), value))[0][2].get_xlabel() == "flat: no information"


@pytest.mark.parametrize("fill", [False, True])
def test_a_mask_of_nothing_or_of_all(fill):
    axes, parts = panel_of(torch.rand(3, *SIZE), RAMP, torch.full((1, *SIZE), fill))
    assert (parts["mask"] == 255 * fill).all()
    assert axes[2].get_xlim() == (-0.5, 31.5)


def test_a_signal_is_lines_with_the_colours_of_its_map():
    mask = torch.zeros(1, 40, dtype=torch.bool)
    mask[:, 10:30] = True
    axes, _ = panel_of(torch.sin(torch.arange(80.0)).view(2, 40), torch.linspace(-1, 1, 5)[None], mask)
    for axis in axes[:3]:
        assert axis.get_xlim() == (-0.5, 39.5)
        first, second = (line.get_ydata() for line in axis.get_lines())
        assert first.min() > second.max(), "the channels do not overlap"
    assert [len(axis.patches) for axis in axes[:3]] == [0, 1, 1]
    assert axes[1].patches[0].get_x() == 9.5
    assert axes[1].patches[0].get_width() == 20
    assert [len(axis.collections) for axis in axes[:3]] == [0, 0, 2]
    colours = axes[2].collections[0].get_colors()
    assert len(colours) == 39
    assert colours[0][2] > colours[0][0] + 0.1, "against the class: purple"
    assert colours[-1][0] > colours[-1][2] + 0.3, "for it: brown"


def test_gaps_and_channels_of_a_signal():
    signal = torch.randn(20, 40)
    signal[3, 5] = float("nan")
    axes, _ = panel_of(signal, torch.full((1, 5), float("nan")))
    assert len(axes[0].get_lines()) == 16
    assert axes[0].get_xlabel() == "first 16 of 20 channels"
    assert axes[1].get_xlabel() == "none"
    assert axes[2].get_xlabel() == "100% not finite"
    assert axes[0].figure.get_size_inches()[1] > 3, "a lane for each channel"


def _volume():
    volume, attribution = torch.zeros(1, 6, *SIZE), torch.zeros(1, 3, 3, 4)
    volume[:, 4:] = 1.0
    attribution[:, 2], attribution[:, 0] = RAMP.abs(), -RAMP.abs()
    mask = torch.zeros(1, 6, *SIZE, dtype=torch.bool)
    mask[:, 5] = True
    return volume, attribution, mask


def test_of_a_volume_the_slice_with_the_most_evidence_is_drawn():
    axes, parts = panel_of(*_volume())
    assert axes[0].texts[0].get_text() == "slice 6 of 6\nhighest attribution"
    assert (parts["input"] == 255).all()
    assert (parts["mask"] == 255).all()
    assert axes[2].images[0].get_array().shape == SIZE
    assert float(axes[2].images[0].get_array().max()) == pytest.approx(1, abs=0.02)


def test_a_montage_shows_slices_side_by_side():
    volume, attribution, mask = _volume()
    axes, _ = panel_of(volume, attribution, mask, montage=3)
    height, width = SIZE
    image, drawn = (np.asarray(axis.images[0].get_array()) for axis in (axes[0], axes[2]))
    assert image.shape[:2] == drawn.shape == (2 * height, 2 * width)
    # Of the slices 1, 3 (rounded to even) and 6
    assert (image[:height].max(), image[height:, :width].min(), image[height:, width:].max()) == (0, 1, 0)
    assert drawn[:height, :width].max() < 0.01 < drawn[height:, :width].max()
    assert [text.get_text() for text in axes[2].texts] == ["1", "3", "6"]
    assert axes[0].texts[0].get_text() == "3 of 6 slices\nhighest attribution in 6"
    assert panel_of(volume, attribution, mask, montage=99)[0][0].texts[0].get_text().startswith("6 of 6 slices")
    assert panel_of(volume, RAMP.new_zeros(1, 3, 3, 4), mask)[0][0].texts[0].get_text() == "slice 4 of 6"
    with pytest.raises(ValueError, match="montage must be the number of slices to draw, at least 1; got 0"):
        panel_of(volume, montage=0)


@pytest.mark.parametrize(
    ("image", "attribution", "mask", "words"),
    [
        (torch.rand(7), torch.rand(7), None, r"an input of shape \(7,\) cannot be drawn"),
        (torch.rand(1, 2, 3, 4, 5), torch.rand(1, 2), None, "cannot be drawn; expected a signal"),
        (torch.rand(3, *SIZE), torch.rand(2, 1, 3, 4), None, r"the map 'm' has shape \(2, 1, 3, 4\)"),
        (torch.rand(3, *SIZE), torch.rand(12), None, "needs a single map with 2 dimensions"),
        (torch.rand(3, *SIZE), RAMP, torch.ones(1, 3, 4), r"a mask of shape \(1, 3, 4\) does not fit its input"),
    ],
    ids=["table", "film", "two maps", "cells", "mask"],
)
def test_what_cannot_be_drawn_is_refused(image, attribution, mask, words):
    with pytest.raises(ValueError, match=words):
        panel_of(image, attribution, mask)


@pytest.mark.parametrize(("target", "shown"), [(0, "$x_{$"), (1, "a" * 29 + "…" + "a" * 30), (2, "class 2")])
def test_any_name_of_a_class_can_be_drawn(target, shown):
    axes, _ = panel_of(torch.rand(3, *SIZE), target=target, classes=["$x_{$", "a" * 1000])
    assert axes[0].get_ylabel() == shown


def test_no_examples_no_panel():
    with pytest.raises(ValueError, match="there are no examples to draw"):
        plot_panel([])


def test_table_and_panel_stand_beside_the_scores(comparison, tmp_path):
    comparison.save(tmp_path / "result")
    write_pictures(comparison, tmp_path / "result")
    files = {path.name for path in (tmp_path / "result").iterdir()}
    assert files == {"scores.csv", "costs.csv", "examples.npz", "manifest.json", "table.txt", "panel.png"}
    assert "0.850*" in (tmp_path / "result" / "table.txt").read_text(encoding="utf-8")
    loaded = Comparison.load(tmp_path / "result")
    assert _printed(loaded, 200) == _printed(comparison, 200)
    assert list(loaded.examples[0].maps) == ["soft_cam", "random"]


def test_a_table_in_a_file_has_no_colours(comparison, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a notebook sets it for the commands that it runs
    write_pictures(comparison, tmp_path)
    assert "\x1b" not in (tmp_path / "table.txt").read_text(encoding="utf-8")


def test_without_examples_there_is_no_panel(comparison, tmp_path):
    write_pictures(dataclasses.replace(comparison, examples=[]), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"table.txt"}


def test_the_panel_stays_a_panel(comparison, tmp_path):
    write_pictures(comparison, tmp_path)
    few = _height(tmp_path / "panel.png")
    write_pictures(dataclasses.replace(comparison, examples=comparison.examples * 20), tmp_path)
    assert _height(tmp_path / "panel.png") < 3 * few, "four rows, however many examples were kept"


def _height(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.height
