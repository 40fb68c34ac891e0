"""Sheets: one page for one picture, to print."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_pdf import PdfFile, RendererPdf
from reports import CLASSES, hostile_comparison, make_comparison, with_manifest
from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam.data import Sample
from captum_softcam.evaluation import Example
from captum_softcam.report import plot_sheet, write_sheet, write_sheets
from captum_softcam.report.findings import strongest_place, value_text

DISCLAIMER = "Research software, not a medical device."
USED = "The map shows what the model used for its answer, not where disease is, and a strong colour is not a finding."
LONG = [
    f"finding {i} with a name that goes on and on, not otherwise specified, of code {i:03d}-{'0' * 90}" for i in range(40)
]


def spot(height: int, width: int, y: float, x: float, spread: float = 0.05) -> Tensor:
    """A map with one Gaussian spot, at fractions of its height and width."""
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in (height, width))
    rows, columns = (rows + 0.5) / height - y, (columns + 0.5) / width - x
    return torch.exp(-(rows[:, None] ** 2 + columns**2) / (2 * spread**2))[None]


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def example(image: Tensor | None = None, mask: Tensor | None = None, name: str = "eye 1", **changes: Any) -> Example:
    parts = {
        "sample": Sample(noise(3, 32, 48) if image is None else image, 1, mask, name),
        "target": 1,
        "maps": {"grad_cam": spot(32, 48, 0.2, 0.8)},
        "probabilities": torch.tensor([0.0625, 0.75, 0.1875]),
        "runner_up": 2,
        "runner_up_maps": {"grad_cam": spot(32, 48, 0.5, 0.5)},
    }
    return Example(**{**parts, **changes})


def without_runner_up(*arguments: Any, **changes: Any) -> Example:
    return example(*arguments, **{"runner_up": None, "runner_up_maps": {}, **changes})


def words(figure: Any, folder: Path) -> str:
    """All text of a sheet, in its order, on one line."""
    write_sheet(figure, folder / "sheet.svg")
    tree = ElementTree.parse(folder / "sheet.svg")
    (folder / "sheet.svg").unlink()
    return " ".join("".join(text.itertext()) for text in tree.iter("{http://www.w3.org/2000/svg}text")).replace("\xa0", " ")


# What it says ------------------------------------------------------------------------------------------------------


def test_a_sheet_says_class_probability_place_and_what_it_is_not(tmp_path):
    found = words(plot_sheet(example(), CLASSES, facts={"Model": "tiny", "Date": "2026-11-29"}), tmp_path)
    for part in (
        "eye 1",
        "Model: tiny · Date: 2026-11-29",
        "Grad-CAM for “hard exudates” (0.750)",
        "Runner-up: “haemorrhages” (0.188)",
        "hard exudates (explained)",
        "haemorrhages (runner-up)",
        "0.062",
        "The probabilities of all 3 classes sum to 1.",
        "50 and 80 % of the scale",
        "The model predicts “hard exudates” with a probability of 0.750, before “haemorrhages” with 0.188; what counts most "
        "for “hard exudates” lies in the upper right of the picture, as shown here.",
        USED,
        DISCLAIMER,
    ):
        assert part in found
    assert "marked region" not in found, "there is no mask"
    assert "class 1 (explained)" in words(plot_sheet(example()), tmp_path)


@pytest.mark.parametrize(
    ("probabilities", "scores", "target", "parts"),
    [
        (
            [0.0004, 0.6, 0.3996],
            "softmax",
            0,
            ["The model gives “healthy” a probability of less than 0.001, and predicts “hard exudates” with 0.600; what"],
        ),
        (
            [0.25, 0.75],
            "sigmoid",
            1,
            [
                "The model predicts “hard exudates” with a probability of 0.750",
                "The probabilities of both classes sum to 1.",
            ],
        ),
        (
            [0.9, 0.75, 0.6],
            "sigmoid",
            1,
            [
                "The model gives “hard exudates” a probability of 0.750, and more than 0.5 to 2 other classes;",
                "Each class has a probability of its own; several can be present.",
            ],
        ),
        ([0.1, 0.75, 0.2], "sigmoid", 1, ["a probability of 0.750, and more than 0.5 to no other class;"]),
        ([0.6, 0.75, 0.2], "sigmoid", 1, ["a probability of 0.750, and more than 0.5 to 1 other class;"]),
        (
            [12.5],
            "identity",
            0,
            ["The model gives the value 12.5; what raises it most lies in the upper right", "Grad-CAM for the value"],
        ),
        (
            [-3.0, 17.0, 8.0],
            "identity",
            1,
            ["The model gives “hard exudates” the highest score, 17, before “haemorrhages” with 8;", "which need not be"],
        ),
        (
            [-3.0, 17.0, 8.0],
            "function mine.warmer",
            2,
            ["“haemorrhages” a score of 8, and the highest to “hard exudates” with 17;", "by function mine.warmer."],
        ),
        ([0.1, float("nan"), 0.2], "softmax", 1, ["“hard exudates” a score that is not finite (nan)", "are not finite."]),
    ],
)
def test_the_answer_in_words(tmp_path, probabilities, scores, target, parts):
    shown = without_runner_up(target=target, probabilities=torch.tensor(probabilities), scores=scores)
    found = words(plot_sheet(shown, CLASSES), tmp_path)
    for part in parts:
        assert part in found
    assert ("(explained)" in found) == (len(probabilities) > 1)


@pytest.mark.parametrize(("scores", "role"), [("softmax", "predicted"), ("sigmoid", "highest")])
def test_a_class_ahead_of_the_explained_one_is_no_runner_up(tmp_path, scores, role):
    shown = example(target=0, runner_up=1, scores=scores)
    found = words(plot_sheet(shown, CLASSES), tmp_path)
    assert f"{role.capitalize()}: “hard exudates” (0.750)" in found
    assert f"hard exudates ({role})" in found
    assert "unner-up" not in found


def test_without_scores_the_sheet_says_so(tmp_path):
    found = words(plot_sheet(without_runner_up(probabilities=None), CLASSES), tmp_path)
    assert "The scores of the classes are not known." in found
    assert "The map explains “hard exudates”; what counts most" in found


@pytest.mark.parametrize(
    ("method", "attribution", "part"),
    [
        ("grad_cam", torch.full((1, 4, 6), 2.0), "The map is flat: all of its values are equal, so it does not say what"),
        ("grad_cam", torch.tensor([[[1.0, torch.nan], [0.0, 2.0]]]), "not finite at 25 % of its positions, so it does not"),
        ("grad_cam", -spot(32, 48, 0.5, 0.5), "nothing in the picture counts for “hard exudates” in this map."),
        ("random", noise(1, 32, 48), "The map is a control, which ignores the model: it says nothing about this answer."),
    ],
)
def test_a_map_that_says_nothing_is_called_that(tmp_path, method, attribution, part):
    found = words(plot_sheet(without_runner_up(maps={method: attribution}), CLASSES), tmp_path)
    assert part in found
    assert "what counts most" not in found


def test_the_agreement_with_the_mask_is_that_of_the_metrics(tmp_path):
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, 2:] = True
    attribution = torch.zeros(1, 4, 4)
    attribution[0, 0, 3], attribution[0, 2, 1], attribution[0, 3, 3] = 3.0, 1.0, -5.0
    shown = without_runner_up(noise(3, 4, 4), mask, maps={"grad_cam": attribution})
    # 3 of 3 + 1 lies on the mask, which has 2 of 16 positions
    assert (
        "75 % of the sum of the map's positive values lies in the marked region, which covers 12 % of what the model saw; "
        "the highest value lies in it." in words(plot_sheet(shown), tmp_path)
    )
    attribution[0, 2, 1] = 9.0
    assert "25 % of the sum" in words(plot_sheet(shown), tmp_path)
    assert "the highest value lies outside of it." in words(plot_sheet(shown), tmp_path)
    shown = without_runner_up(noise(3, 4, 4), mask & False, maps={"grad_cam": attribution})
    assert "No part of a marked region lies in what the model saw." in words(plot_sheet(shown), tmp_path)


def frame(height: int, width: int) -> Tensor:
    values = torch.ones(1, height, width)
    values[:, 2:-2, 2:-2] = 0
    return values


@pytest.mark.parametrize(
    ("attribution", "place"),
    [
        (spot(40, 60, 0.1, 0.1), "in the upper left of the picture"),
        (spot(40, 60, 0.1, 0.5), "in the upper middle of the picture"),
        (spot(40, 60, 0.5, 0.9), "in the middle right of the picture"),
        (spot(40, 60, 0.5, 0.5), "in the centre of the picture"),
        (spot(40, 60, 0.9, 0.9) - 5 * spot(40, 60, 0.1, 0.1), "in the lower right of the picture"),
        (2 * spot(40, 60, 0.1, 0.1) + spot(40, 60, 0.9, 0.9), "in the upper left and in the lower right of the picture"),
        (spot(40, 60, 0.1, 0.1) + spot(40, 60, 0.2, 0.25), "in the upper left of the picture"),
        (1000 + spot(40, 60, 0.9, 0.1), "in the lower left of the picture"),
        (spot(40, 1, 0.9, 0.5).expand(1, 40, 60), "across the lower third of the picture"),
        (spot(1, 60, 0.5, 0.1).expand(1, 40, 60), "down the left third of the picture"),
        (frame(40, 60), "all over the picture"),
        (noise(1, 40, 60) ** 8, "separate spots all over the picture"),
        (torch.zeros(1, 40, 60), ""),
        (-noise(1, 40, 60), ""),
        (spot(40, 60, 0.1, 0.1).where(spot(40, 60, 0.1, 0.9) < 0.1, torch.nan), "in the upper left of the picture"),
    ],
)
def test_the_strongest_place(attribution, place):
    found = strongest_place(attribution[0].double().numpy())
    assert found.endswith(place)
    assert bool(found) == bool(place)


def test_the_strongest_part_of_a_signal():
    assert strongest_place(spot(1, 90, 0.5, 0.9)[0, 0].numpy(), "the signal") == "in the last third of the signal"


@pytest.mark.parametrize(
    ("value", "probable", "text"),
    [
        (0.0, True, "0.000"),
        (1e-9, True, "< 0.001"),
        (0.0005, True, "0.001"),
        (0.99949, True, "0.999"),
        (0.9999, True, "> 0.999"),
        (1.0, True, "1.000"),
        (1234.5678, False, "1235"),
        (-0.25, False, "-0.25"),
        (float("inf"), True, "inf"),
    ],
)
def test_numbers(value, probable, text):
    assert value_text(value, probable) == text


def test_the_highest_classes_are_listed_and_the_others_counted(tmp_path):
    probabilities = torch.linspace(0.001, 0.05, 40)
    shown = without_runner_up(target=0, probabilities=probabilities / probabilities.sum())
    found = words(plot_sheet(shown, [f"c{i}" for i in range(40)]), tmp_path)
    assert re.findall(r"\bc\d+\b", found.split("sum to 1.")[1])[:5] == ["c39", "c38", "c37", "c36", "c0"]
    assert f"and 35 more classes, the highest at {float(probabilities[35] / probabilities.sum()):.3f}" in found
    several = replace(shown, scores="sigmoid", probabilities=torch.linspace(1, 0, 40))
    found = words(plot_sheet(several, LONG), tmp_path)
    assert "and 32 more classes, the highest at 0.795" in found, "eight of those above 0.5 fit"
    few = replace(shown, scores="sigmoid", probabilities=torch.tensor([0.9, 0.8, 0.7, 0.6, 0.4, 0.3]))
    assert "and 1 more class, at 0.300" in words(plot_sheet(few), tmp_path), "all above 0.5 and the next"


# Pictures ----------------------------------------------------------------------------------------------------------


def test_of_a_volume_the_slice_with_the_highest_attribution_is_drawn(tmp_path):
    maps, mask = torch.zeros(1, 6, 16, 16), torch.zeros(1, 6, 16, 16, dtype=torch.bool)
    maps[:, 4] = spot(16, 16, 0.1, 0.1, 0.1)
    mask[:, 1, :4, :4] = True
    found = words(plot_sheet(without_runner_up(noise(1, 6, 16, 16), mask, maps={"grad_cam": maps}), CLASSES), tmp_path)
    for part in ("Slice 5", "slice 5 of 6, highest attribution; no marked region here", "in the upper left of slice 5,"):
        assert part in found


def test_a_signal(tmp_path):
    maps = {"grad_cam": spot(1, 90, 0.5, 0.1)[0]}
    mask = torch.zeros(1, 90, dtype=torch.bool)
    mask[:, :20] = True
    found = words(plot_sheet(example(noise(2, 90), mask, maps=maps, runner_up_maps=maps), CLASSES), tmp_path)
    assert "in the first third of the signal" in found
    assert "50 and 80 %" not in found, "a signal has no contours"


def test_the_map_is_put_back_onto_the_original(tmp_path):
    original = noise(3, 64, 128)
    fit = Fit("crop", 0.5)
    mask = torch.zeros(1, 64, 128, dtype=torch.bool)
    mask[:, 24:40, 48:56] = True
    shown = without_runner_up(fit.image(original, 32), fit.mask(mask, 32), maps={"grad_cam": spot(32, 32, 0.1, 0.9)})
    assert "in the upper right of the picture" in words(plot_sheet(shown), tmp_path)
    for form in (original, (original * 255).byte(), original.permute(1, 2, 0).numpy(), 1000 * original.double()):
        figure = plot_sheet(shown, original=form, fit=fit)
        found = words(figure, tmp_path)
        assert "in the upper middle of the picture" in found, "only the centre was seen"
        assert "the frame shows what the network saw" in found
        assert figure.axes[0].get_images()[0].get_array().shape[:2] == (64, 128)
    assert "the frame" not in words(plot_sheet(shown), tmp_path)


def test_a_large_original_is_shrunk_to_what_print_shows():
    original = noise(1, 1500, 2000)
    shown = without_runner_up(Fit().image(original, 32), maps={"grad_cam": spot(32, 32, 0.1, 0.9)})
    assert plot_sheet(shown, original=original).axes[0].get_images()[0].get_array().shape[:2] == (600, 800)


def test_another_original_is_refused():
    original = noise(3, 64, 128)
    fit = Fit("crop")
    shown = without_runner_up(fit.image(original, 32), maps={"grad_cam": spot(32, 32, 0.1, 0.9)})
    plot_sheet(shown, original=original, fit=fit)
    for other, how in ((original.transpose(1, 2), fit), (original.flip(2), fit), (original, Fit())):
        with pytest.raises(ValueError, match="the original of 'eye 1' is not the picture that the network saw: read by"):
            plot_sheet(shown, original=other, fit=how)
    bright, pad = 0.8 + 0.2 * original, Fit("pad", interpolation="nearest")  # black margins are no part of the picture
    plot_sheet(without_runner_up(pad.image(bright, 32), maps=shown.maps), original=bright, fit=pad)
    flat = torch.zeros(3, 64, 128)
    plot_sheet(without_runner_up(fit.image(flat, 32), maps=shown.maps), original=flat, fit=fit)  # nothing to compare


# The page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 90, 900), (3, 900, 90), (7, 40, 60), (2, 80), (1, 5, 20, 30)])
@pytest.mark.parametrize("figsize", [(8.27, 11.69), (8.5, 11), (11.69, 8.27)])
def test_all_text_is_legible_and_on_the_page(shape, figsize):
    maps = {
        "a method of my own with a name that is far too long for its picture, not otherwise specified": noise(1, *shape[1:])
    }
    mask = torch.ones(1, *shape[1:], dtype=torch.bool)
    shown = example(
        noise(*shape),
        mask,
        "patients/" + "a_folder_without_a_space_" * 12 + "/image $x_1$.png",
        maps=maps,
        runner_up_maps=maps,
        probabilities=torch.linspace(1, 0, 40),
        scores="sigmoid",
    )
    figure = plot_sheet(shown, LONG, facts={"Model": "network " * 40, "Label": LONG[0]}, figsize=figsize)
    figure.set_dpi(72)
    renderer = RendererPdf(PdfFile(io.BytesIO()), 72, *figure.bbox.size[::-1])  # as printed; pixels would round the widths
    texts = [text for text in figure.texts if text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert text.get_fontsize() >= 8
        assert box.x0 >= 41, text.get_text()
        assert box.x1 <= figure.bbox.width - 41, text.get_text()
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    for axes in figure.axes:
        place = axes.get_window_extent(renderer)
        assert 0 <= place.x0 < place.x1 <= figure.bbox.width
        assert place.width >= 3
        assert not any(place.overlaps(box.padded(-1)) for box in boxes)
    for i, box in enumerate(boxes):
        for text, other in zip(texts[:i], boxes[:i], strict=True):
            assert not box.padded(-1).overlaps(other.padded(-1)), (texts[i].get_text(), text.get_text())


def test_a_pdf_is_one_page_of_paper_and_the_same_each_time(tmp_path):
    for name in ("one.pdf", "two.pdf"):
        write_sheet(plot_sheet(example(), CLASSES), tmp_path / name)
    one = (tmp_path / "one.pdf").read_bytes()
    assert one == (tmp_path / "two.pdf").read_bytes()
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", one)
    assert [float(side) for side in box] == pytest.approx([595.276, 841.89], abs=0.01)
    assert b"CreationDate" not in one
    assert b"/ToUnicode" in one, "text can be searched"


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_pictures_are_the_same_each_time(tmp_path, ending):
    for name in ("one", "two"):
        write_sheet(plot_sheet(example(), CLASSES), tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()


def test_settings_of_matplotlib_do_not_change_the_sheet(tmp_path):
    write_sheet(plot_sheet(example(), CLASSES), tmp_path / "one.png")
    with matplotlib.style.context("dark_background"), matplotlib.rc_context({"savefig.bbox": "tight"}):
        write_sheet(plot_sheet(example(), CLASSES), tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


# Files -------------------------------------------------------------------------------------------------------------


def test_a_sheet_for_each_example(tmp_path):
    comparison = with_manifest(make_comparison(), model="tiny")
    write_sheets(comparison, tmp_path / "sheets", facts={"Date": "2026-11-29"})
    assert sorted(file.name for file in (tmp_path / "sheets").iterdir()) == ["001-s0.pdf", "002-s1.pdf"]
    assert b"/Title (s0)" in (tmp_path / "sheets/001-s0.pdf").read_bytes()
    write_sheets(comparison, tmp_path / "sheets.pdf", method="grad_cam")
    together = (tmp_path / "sheets.pdf").read_bytes()
    assert len(re.findall(rb"/MediaBox", together)) == len(comparison.examples) == 2
    assert b"CreationDate" not in together
    write_sheets(comparison, tmp_path / "again.pdf", method="grad_cam")
    assert together == (tmp_path / "again.pdf").read_bytes()


def test_facts_of_a_comparison(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr("captum_softcam.report.sheets._save", lambda figure, *_: found.append(figure))
    write_sheets(with_manifest(make_comparison(), model="tiny"), tmp_path / "sheets", facts={"Date": "today"})
    (facts,) = [text.get_text() for text in found[1].texts if "Model" in text.get_text()]
    assert facts == "Model: tiny · Label: hard exudates · Date: today"


def test_a_method_that_failed_is_named(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr("captum_softcam.report.sheets._save", lambda figure, *_: found.append(figure))
    comparison = make_comparison()
    del comparison.examples[0].maps["grad_cam"], comparison.examples[0].runner_up_maps["grad_cam"]
    write_sheets(comparison, tmp_path / "sheets", method="grad_cam")
    texts = [[text.get_text() for text in figure.texts] for figure in found]
    assert "There is no map, because Grad-CAM failed on this picture." in texts[0]
    assert "no map" in texts[0]
    assert "no map" not in texts[1]


def test_hostile_names(tmp_path):
    comparison = hostile_comparison()
    twins = [
        replace(each, sample=replace(each.sample, identifier=name))
        for each in comparison.examples
        for name in ("../x", "..")
    ]
    write_sheets(replace(comparison, examples=[*comparison.examples, *twins]), tmp_path / "sheets")
    names = sorted(file.name for file in (tmp_path / "sheets").iterdir())
    assert len(names) == 6
    assert all(re.fullmatch(r"00\d-[\w.-]+\.pdf", name, re.ASCII) for name in names)
    assert names[0] == "001-_script_alert_1___script_.pdf"
    assert names[2:] == ["003-_x.pdf", "004-_.pdf", "005-_x.pdf", "006-_.pdf"]
    assert [file.name for file in tmp_path.iterdir()] == ["sheets"]


def test_nothing_is_overwritten_and_nothing_is_left_half(tmp_path):
    comparison = make_comparison()
    (tmp_path / "old.pdf").touch()
    for place in (tmp_path, tmp_path / "old.pdf"):
        with pytest.raises(FileExistsError, match="exists already and is not overwritten"):
            write_sheets(comparison, place)
    with pytest.raises(FileNotFoundError, match=r"the sheet's folder .* does not exist; make it first"):
        write_sheets(comparison, tmp_path / "missing/sheets.pdf")
    broken = replace(comparison.examples[1], maps={"soft_cam": torch.zeros(2, 1, 3, 3, 3)})
    for place in ("new", "new.pdf"):
        with pytest.raises(ValueError, match="the map 'soft_cam' has shape"):
            write_sheets(replace(comparison, examples=[comparison.examples[0], broken]), tmp_path / place)
    assert [file.name for file in tmp_path.iterdir()] == ["old.pdf"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: plot_sheet(example(), method="gradcam"), r"the example has no map 'gradcam'\. Closest: 'grad_cam'"),
        (lambda _: plot_sheet(example(maps={})), "the example has no maps to draw"),
        (
            lambda _: plot_sheet(example(), figsize=(3, 4)),
            "a sheet of 3 x 4 inches is too small for its text; expected at",
        ),
        (
            lambda folder: write_sheet(plot_sheet(example()), folder / "sheet.docx"),
            r"sheet\.docx' cannot be written as a sheet; expected the ending \.pdf, \.svg, \.png\.",
        ),
        (
            lambda folder: write_sheets(make_comparison(examples=[]), folder / "x"),
            "the comparison keeps no examples to draw",
        ),
        (
            lambda folder: write_sheets(make_comparison(), folder / "x", method="gradcam"),
            r"the method 'gradcam' is not in this comparison\. Closest: 'grad_cam'",
        ),
    ],
)
def test_mistakes_are_refused_in_words(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
    assert not any(tmp_path.iterdir())


def test_arrays_and_layer_maps_are_taken_as_in_panels(tmp_path):
    shown = without_runner_up(maps={"grad_cam": spot(4, 6, 0.1, 0.9)[0].numpy()})
    shown = replace(shown, sample=replace(shown.sample, image=np.asarray(shown.sample.image)))
    assert "in the upper right of the picture" in words(plot_sheet(shown), tmp_path)


def test_classes_may_be_an_array(tmp_path):
    assert "hard exudates" in words(plot_sheet(example(), np.array(CLASSES)), tmp_path)
