"""The HTML report: content, missing parts, safety, size and how it is written."""

from __future__ import annotations

import base64
import dataclasses
import errno
import hashlib
import json
import math
import re
import zlib
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from reports import (
    CLASSES,
    HOSTILE,
    METHODS,
    SAMPLES,
    big_comparison,
    hostile_comparison,
    make_comparison,
    make_example,
    make_map,
    several_classes,
    with_manifest,
    without,
)

from captum_softcam.evaluation import Comparison, Example
from captum_softcam.report import write_report
from captum_softcam.report.html.data import BUDGET, gallery_data
from captum_softcam.report.html.page import json_values, make_page
from captum_softcam.report.html.sections import amount, number


class Page(HTMLParser):
    """Elements with their attributes, and the text between them, as a browser parses them."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.path: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.path.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.path and self.path.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.path[-1] if self.path else "", []).append(data)

    def ids(self) -> set[str | None]:
        return {attributes.get("id") for _, attributes in self.elements}

    @property
    def words(self) -> str:
        shown = (text for tag, texts in self.texts.items() if tag not in ("script", "style") for text in texts)
        return " ".join(" ".join(shown).split())


def _write(comparison: Comparison, folder: Path, classes: list[str] | None = None) -> str:
    path = folder / "report.html"
    write_report(comparison, path, classes)
    return path.read_text(encoding="utf-8")


def _data(source: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', source, re.DOTALL)
    assert found

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(found[1], parse_constant=refuse)


def _gallery(*examples: Example, budget: int = BUDGET) -> dict[str, Any]:
    comparison = make_comparison(examples=list(examples))
    gallery = gallery_data(comparison, comparison.view(), budget=budget)
    assert gallery is not None
    return gallery


def _sentences(comparison: Comparison, folder: Path) -> list[str]:
    found = re.search(r'<ul class="sentences">(.*?)</ul>', _write(comparison, folder), re.DOTALL)
    assert found
    return [re.sub("<.*?>", "", item) for item in re.findall("<li>(.*?)</li>", found[1])]


# What it says ------------------------------------------------------------------------------------------------------


SECTIONS = ("summary", "scores", "health", "curves", "gallery", "costs", "failures", "settings")


def test_all_parts_are_there(tmp_path):
    page = Page(_write(make_comparison(), tmp_path))
    assert {"summary", "scores", "curves", "gallery", "costs", "failures", "settings", "data", "tip"} <= page.ids()
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links[1:9] == [f"#{name}" for name in SECTIONS]


def test_the_summary_says_what_the_intervals_allow(tmp_path):
    sentences = _sentences(make_comparison(), tmp_path)
    assert sentences[0] == (
        "soft_cam is better than the baseline grad_cam on 2 of 2 metrics (Pixel AUC +0.100, Deletion \N{MINUS SIGN}0.010) "
        "and worse on none."
    )
    assert sentences[1] == "By mean rank, which ignores the intervals, soft_cam comes first (1.5)."
    assert sentences[2].startswith("1 of 6 comparisons with the baseline is inconclusive")
    assert sentences[3] == "No method clearly beats the control on Deletion: interpret its scores with care."
    assert sentences[4] == "10 scores are undefined, 3 of them because of an error; each cell shows its count."


def test_methods_with_the_same_map_count_once(tmp_path):
    groups = [{"methods": ["soft_cam", "occlusion"], "samples": 10, "constant": False}]
    comparison = with_manifest(make_comparison(), same_maps=groups)
    sentences = _sentences(comparison, tmp_path)
    assert sentences[0].startswith("soft_cam is better than the baseline grad_cam on 2 of 2 metrics")
    assert sentences[1].endswith("soft_cam comes first (1.5), with the same map as occlusion.")
    assert sentences[2].startswith("soft_cam and occlusion give the same map up to scale (all 10 samples)")
    assert sentences[2].endswith("They count once here.")
    assert sentences[3].startswith("1 of 3 comparisons with the baseline is inconclusive")
    source = make_page(comparison)
    strips = re.findall('<span class="who">(.*?)</span>', source)
    assert [re.sub("<.*?>", "", strip).strip() for strip in strips] == ["soft_cam, occlusion", "random control"]
    assert source.count("same map as soft_<wbr>cam") == 1


def test_a_method_with_the_map_of_the_baseline_is_no_winner(tmp_path):
    groups = [{"methods": ["soft_cam", "grad_cam", "occlusion"], "samples": 9, "constant": True}]
    sentences = _sentences(with_manifest(make_comparison(), same_maps=groups), tmp_path)
    assert sentences[0] == "There is no other map to compare with that of grad_cam."
    assert "give the same map up to scale and a constant (all 9 samples where they have one)" in sentences[1]
    assert not any("comparisons with the baseline" in sentence for sentence in sentences)


def test_marks_without_the_adjustment_are_called_so(tmp_path):
    few = make_comparison()
    few = dataclasses.replace(few, scores=few.scores.query("sample <= 's6'"))
    assert _sentences(few, tmp_path)[0] == "7 samples are too few to tell a method from the baseline grad_cam on any metric."
    raw, adjusted = (re.sub("<.*?>", "", make_page(few, adjust=kind)) for kind in ("none", "holm"))
    assert "soft_cam is better than the baseline grad_cam on 2 of 2 metrics" in raw
    assert "conclusive in 5 % of such reports, because the marks are not adjusted for their number" in raw
    assert "not adjusted for the 8 comparisons" in raw
    assert "hollow marks" not in raw
    assert "because the marks are adjusted for 8 comparisons" in adjusted
    assert "Without this adjustment, 5 more would be conclusive." in adjusted
    assert "hollow marks" in adjusted


def test_images_with_several_classes_are_judged_class_by_class(tmp_path):
    words = " ".join(re.sub("<[^>]*>", " ", _write(several_classes(), tmp_path)).split())
    assert "10 samples of 4 images" in words
    assert "4 resampled for intervals" in words
    assert "mean AUC 0.875 interval [0.750, 1.000]" in words
    assert "classified correctly" not in words
    assert "healthy 2 2 0.750 [0.500, 1.000] 0.800 [0.400, 1.000]" in words
    assert "haemorrhages 0 4 \N{EN DASH} \N{EN DASH}" in words
    assert "mean of the classes 0.875 [0.750, 1.000]" in words
    assert "each class is judged by itself" in words
    assert "Predictions by class" not in make_page(make_comparison())


def test_where_a_method_is_ahead_of_chance_the_summary_says_so(tmp_path):
    sentences = _sentences(without(make_comparison(), metrics=1), tmp_path)
    assert sentences[2] == "soft_cam, grad_cam and occlusion beat random on Pixel AUC."


def test_few_samples_show_nothing_and_the_summary_does_not_say_more(tmp_path):
    comparison = make_comparison()
    few = dataclasses.replace(comparison, scores=comparison.scores.query("sample in ('s0', 's1', 's2')"))
    sentences = _sentences(few, tmp_path)
    assert sentences[0] == "3 samples are too few to tell a method from the baseline grad_cam on any metric."
    assert not any("interpret" in sentence for sentence in sentences)


def test_methods_that_are_equally_far_ahead_share_the_sentence(tmp_path):
    comparison = make_comparison()
    twin = comparison.scores.query("method == 'soft_cam'").assign(method="occlusion")
    scores = pd.concat([comparison.scores.query("method != 'occlusion'"), twin])
    sentence = _sentences(dataclasses.replace(comparison, scores=scores), tmp_path)[0]
    assert sentence == (
        "soft_cam and occlusion are better than the baseline grad_cam on 2 of 2 metrics each and worse on none."
    )


def test_a_cell_holds_mean_interval_mark_and_what_stands_behind(tmp_path):
    source = _write(make_comparison(), tmp_path)
    rows = {name: row for row in re.findall("<tr.*?</tr>", source, re.DOTALL) for name in METHODS if f'"{name}"' in row}
    cells = {name: re.findall("<td.*?</td>", row, re.DOTALL) for name, row in rows.items()}
    best = cells["soft_cam"][2]  # behind mean rank and cost
    assert '<td class="best"' in best
    assert '<span class="mean">0.845</span>' in best
    assert re.search(r'class="interval">\[0\.8\d\d, 0\.8\d\d\]<', best)
    assert 'class="mark better"' in best
    assert "Against grad_cam: +0.100 [+0.100, +0.100], better. " in best
    assert "Better in 100 % of 10 pairs. " in best
    assert 'class="mark worse"' in cells["occlusion"][2]
    assert "mark" not in cells["soft_cam"][4], "an open cell carries no mark"
    assert 'class="mark' not in rows["grad_cam"]
    assert "undefined<span" in cells["random"][3]
    assert "10 undefined, 3 failed" in cells["random"][3]
    assert 'class="tag">control' in rows["random"]
    assert 'class="tag">baseline' in rows["grad_cam"]
    assert "225 forwards per image. " in cells["occlusion"][1]


def test_the_heads_show_the_direction_and_sort_the_best_first(tmp_path):
    source = _write(make_comparison(), tmp_path)
    assert re.search(r'data-first="descending">Pixel AUC <small>↑ higher', source)
    assert re.search(r'data-first="ascending">Deletion <small>↓ lower', source)


def test_failures_that_are_alike_share_a_row(tmp_path):
    source = _write(make_comparison(), tmp_path)
    section = source[source.index('<section id="failures"') : source.index('<section id="settings"')]
    assert section.count("<code>ValueError: too flat</code>") == 1
    assert "2: s1, s2" in section
    assert "the map itself" in section


def test_settings_versions_and_the_call_stand_at_the_end(tmp_path):
    words = Page(_write(make_comparison(), tmp_path)).words
    for part in ("20 \N{MULTIPLICATION SIGN} 30 pixels", "the sample's label", "images: /data/retina", "3.12.1", "seed=3,"):
        assert part in words
    assert "methods=['soft_cam', 'grad_cam', 'occlusion', 'random']" in words


def test_a_run_from_the_terminal_is_repeated_there(tmp_path):
    command = {"images": "/my data", "methods": ["a", "b"], "masks": None, "resume": False, "out": "x", "seed": 0}
    words = Page(_write(with_manifest(make_comparison(), command=command), tmp_path)).words
    assert "captum-softcam compare \\ --images '/my data' \\ --methods a,b \\ --seed 0" in words


def test_the_scores_of_every_sample_can_be_downloaded(tmp_path):
    comparison = make_comparison()
    page = Page(_write(comparison, tmp_path))
    link = next(attributes for tag, attributes in page.elements if attributes.get("id") == "download")
    table = pd.read_csv(BytesIO(base64.b64decode(str(link["href"]).split("base64,")[1])))
    pd.testing.assert_frame_equal(table, comparison.scores, rtol=1e-12)


def test_many_scores_are_not_carried_along(tmp_path):
    scores = make_comparison().scores
    many = pd.concat([scores.assign(sample=scores["sample"] + f"-{i}") for i in range(400)])
    source = _write(make_comparison(scores=many, examples=[]), tmp_path)
    assert 'id="download"' not in source
    assert "too many for this file" in source


def test_curves_are_means_with_their_bands(tmp_path):
    curve = _data(_write(make_comparison(), tmp_path))["curves"][0]
    assert (curve["metric"], curve["fractions"]) == ("deletion", [0, 0.5, 1])
    line = curve["lines"][1]
    assert line["method"] == "grad_cam"
    assert line["mean"] == pytest.approx([0.8, 0.2 + 0.01 * (SAMPLES - 1) / 2, 0.1], abs=1e-5)
    assert line["low"][1] < line["mean"][1] < line["high"][1]
    assert line["count"] == SAMPLES


def test_a_curve_with_a_hole_is_left_out_of_the_mean(tmp_path):
    comparison = make_comparison()
    curves = comparison.curves.copy()
    curves.loc[(curves["method"] == "grad_cam") & (curves["sample"] == "s7"), "0.5"] = float("nan")
    lines = _data(_write(dataclasses.replace(comparison, curves=curves), tmp_path))["curves"][0]["lines"]
    assert lines[1]["count"] == SAMPLES - 1
    assert lines[1]["mean"][1] == pytest.approx(0.2 + 0.01 * (sum(range(SAMPLES)) - 7) / (SAMPLES - 1), abs=1e-5)


def test_classes_come_from_the_call_or_the_manifest_or_are_numbers():
    comparison = make_comparison()
    assert _data(make_page(comparison))["classes"] == CLASSES
    assert _data(make_page(comparison, ["a", "b"]))["classes"] == ["a", "b"]
    assert _data(make_page(with_manifest(comparison, classes=None)))["classes"] == []


@pytest.mark.parametrize(
    ("value", "places", "signed", "shown"),
    [
        (-0.0001, 3, False, "0.000"),
        (-0.5, 2, True, "\N{MINUS SIGN}0.50"),
        (0.5, 2, True, "+0.50"),
        (0.0, 2, True, "0.00"),
        (12345.6, 0, False, "12\N{NARROW NO-BREAK SPACE}346"),
        (0.00000012, 8, False, "1.20e\N{MINUS SIGN}07"),
        (math.nan, 3, False, "\N{EN DASH}"),
        (math.inf, 3, False, "\N{EN DASH}"),
    ],
)
def test_numbers_are_written_for_readers(value, places, signed, shown):
    assert number(value, places, signed=signed) == shown


def test_one_is_not_many():
    assert (amount(1, "row"), amount(2, "row"), amount(1200, "row")) == (
        "1 row",
        "2 rows",
        "1\N{NARROW NO-BREAK SPACE}200 rows",
    )


# What it leaves out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"curves": pd.DataFrame(columns=["sample", "method", "metric"])}, "curves"),
        ({"examples": []}, "gallery"),
        ({"failures": pd.DataFrame(columns=["sample", "method", "metric", "error"])}, "failures"),
    ],
    ids=["curves", "gallery", "failures"],
)
def test_a_missing_part_is_left_out(tmp_path, changes, missing):
    page = Page(_write(make_comparison(**changes), tmp_path))
    assert missing not in page.ids()
    assert {"summary", "scores", "costs", "settings"} <= page.ids()
    assert f"#{missing}" not in [attributes.get("href") for _, attributes in page.elements]


def test_the_size_of_the_gallery_can_be_chosen(tmp_path):
    comparison = make_comparison()
    write_report(comparison, tmp_path / "one.html", gallery=1)
    assert [each["name"] for each in _data((tmp_path / "one.html").read_text("utf-8"))["gallery"]["samples"]] == ["s0"]
    write_report(comparison, tmp_path / "none.html", gallery=0)
    assert "gallery" not in Page((tmp_path / "none.html").read_text("utf-8")).ids()
    with pytest.raises(ValueError, match="from 0 up to the 2 whose maps the comparison keeps; got 3"):
        write_report(comparison, tmp_path / "three.html", gallery=3)
    with pytest.raises(ValueError, match="from 0 up to the 2 whose maps the comparison keeps; got 'all'"):
        write_report(comparison, tmp_path / "all.html", gallery="all")


def test_one_method_and_one_metric(tmp_path):
    sentences = _sentences(without(make_comparison(), methods=1, metrics=1), tmp_path)
    assert sentences == ["There is no other method to compare with soft_cam."]


def test_one_sample(tmp_path):
    comparison = make_comparison()
    one = dataclasses.replace(comparison, scores=comparison.scores.query("sample == 's1'"))
    assert "1 sample" in Page(_write(one, tmp_path)).words


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_baseline_without_scores_has_no_line_in_the_bars(score):
    comparison = make_comparison()
    assert 'class="reference"' in make_page(comparison)
    scores = comparison.scores.copy()
    scores.loc[scores["method"] == "grad_cam", "score"] = score
    source = make_page(dataclasses.replace(comparison, scores=scores))
    assert 'class="reference"' not in source
    assert "No sample has scores of both this method and grad_cam" in source


def test_nothing_but_scores(tmp_path):
    bare = Comparison(make_comparison().scores, pd.DataFrame(), with_manifest(make_comparison()).manifest)
    data = _data(_write(bare, tmp_path))
    assert data["costs"]["relative"] == [None] * len(METHODS)


def test_an_example_without_probabilities_runner_up_or_all_maps(tmp_path):
    example = dataclasses.replace(make_example(0), probabilities=None, runner_up=None, runner_up_maps={})
    example.maps.pop("occlusion")
    entry = _data(_write(make_comparison(examples=[example]), tmp_path))["gallery"]["samples"][0]
    assert (entry["probabilities"], entry["runner_up"], entry["runner_up_maps"], entry["mask"]) == (None, None, [], None)
    assert [stored is None for stored in entry["maps"]] == [False, False, True, False]


def _with_image(image: torch.Tensor, **maps: torch.Tensor) -> Example:
    example = make_example(0)
    return dataclasses.replace(
        example, sample=dataclasses.replace(example.sample, image=image), maps=maps, runner_up_maps={}
    )


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "identity", "function mine.graded"])
def test_scores_that_are_no_probabilities_are_values(kind, tmp_path):
    comparison = make_comparison(examples=[dataclasses.replace(make_example(0), scores=kind)])
    comparison.manifest.update(scores=kind, outputs=3)
    source = _write(comparison, tmp_path)
    (entry,) = _data(source)["gallery"]["samples"]
    assert entry["probable"] == (kind in ("softmax", "sigmoid"))
    assert ("Probability of the explained class" in Page(source).words) == entry["probable"]
    assert ("Score of the explained class" in Page(source).words) != entry["probable"]
    assert kind in Page(source).words
    assert entry["prediction"] is not None


def test_a_regression_predicts_no_class(tmp_path):
    value = dataclasses.replace(make_example(0), scores="identity", probabilities=torch.tensor([1.25e-7]), runner_up=None)
    comparison = make_comparison(examples=[dataclasses.replace(value, runner_up_maps={})])
    comparison.manifest.update(scores="identity", outputs=1)
    source = _write(comparison, tmp_path)
    (entry,) = _data(source)["gallery"]["samples"]
    assert (entry["prediction"], entry["probabilities"]) == (None, [1.25e-7])
    assert "classified correctly" not in Page(source).words
    assert "with one value each" in Page(source).words


def test_signals_are_left_out_and_counted():
    signal = _with_image(torch.zeros(2, 30), soft_cam=torch.zeros(1, 5))
    alone = make_comparison(examples=[signal])
    assert gallery_data(alone, alone.view()) is None
    gallery = _gallery(make_example(0), signal)
    assert (len(gallery["samples"]), gallery["left_out"], gallery["signals"]) == (1, 0, 1)


def test_of_a_volume_one_slice_is_shown():
    volume, attribution = torch.zeros(1, 3, 20, 30), torch.zeros(1, 3, 20, 30)
    volume[:, 1], attribution[:, 1] = 1.0, make_map(0).abs()
    gallery = _gallery(_with_image(volume, soft_cam=attribution))
    (entry,) = gallery["samples"]
    assert entry["note"] == "slice 2 of 3, highest attribution"
    assert (entry["height"], entry["width"], entry["maps"][0]["size"]) == (20, 30, (20, 30))
    assert _pixels(entry["image"]).min() > 250
    assert np.abs(_unpack(entry["maps"][0])).max() == 127


@pytest.mark.parametrize(
    ("image", "note"),
    [
        (torch.full((1, 20, 30), 0.5), ""),
        (torch.stack([torch.zeros(20, 30), torch.ones(20, 30)]), "mean of 2 channels"),
        (torch.linspace(-2, 2, 1800).view(3, 20, 30), "scaled from -2 to 2"),
    ],
    ids=["grey", "two channels", "normalised"],
)
def test_any_image_is_a_picture(image, note):
    gallery = _gallery(_with_image(image, soft_cam=make_map(0, 4, 6)))
    (entry,) = gallery["samples"]
    assert entry["note"] == note
    assert _pixels(entry["image"]).mean() == pytest.approx(127.5, abs=4)
    assert entry["maps"][0]["size"] == (20, 30), "over the whole image, not in its corner"


def _pixels(address: str) -> Any:
    with Image.open(BytesIO(base64.b64decode(address.split(",")[1]))) as picture:
        return np.array(picture)


# How safe it is ----------------------------------------------------------------------------------------------------


def test_names_of_users_are_text_and_nothing_else(tmp_path):
    page = Page(_write(hostile_comparison(), tmp_path))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 2
    assert "img" not in tags
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    for name in HOSTILE:
        assert " ".join(name.split()) in page.words


def test_data_comes_back_as_it_was(tmp_path):
    source = _write(hostile_comparison(), tmp_path)
    data = _data(source)
    assert data["classes"] == list(HOSTILE)
    assert [method["name"] for method in data["methods"]] == list(HOSTILE)
    assert [sample["name"] for sample in data["gallery"]["samples"]] == list(HOSTILE[:2])
    inside = source[source.index('id="data">') + 10 : source.rindex("</script>\n<script>")]
    assert not set("<>&\u2028") & set(inside)


def test_numbers_that_json_does_not_know_become_null():
    values = {
        "a": math.nan,
        "b": [math.inf, -math.inf, 1.5],
        "c": np.float64("nan"),
        "d": np.array([1, 2]),
        3: torch.tensor(4),
    }
    assert json_values(values) == {"a": None, "b": [None, None, 1.5], "c": None, "d": [1, 2], "3": 4}


def test_attributes_are_escaped_too():
    page = Page(make_page(hostile_comparison()))
    rows = [found["data-value"] for tag, found in page.elements if tag == "th" and "data-value" in found]
    assert rows == list(HOSTILE)
    titles = {str(found["title"]).rpartition(":")[0] for _, found in page.elements if "title" in found}
    assert titles == set(HOSTILE[:3]), "of the marks"


def test_what_cannot_be_seen_is_spelled_out_everywhere():
    name = "a\x1b\u202eb\udcff"
    comparison = with_manifest(make_comparison(), model=name, classes=[name])
    source = make_page(comparison)
    assert r"a\x1b\u202eb\udcff" in Page(source).words
    assert _data(source)["classes"] == [r"a\x1b\u202eb\udcff"]
    assert not set(name[1:3] + name[4]) & set(source)


def test_nothing_is_fetched_and_only_its_own_script_runs(tmp_path):
    source = _write(make_comparison(), tmp_path)
    page = Page(source)
    policy = next(str(found["content"]) for _, found in page.elements if found.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind, code in (("style", page.texts["style"]), ("script", page.texts["script"][-1:])):
        digest = base64.b64encode(hashlib.sha256("".join(code).encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    addresses = [found[key] for _, found in page.elements for key in ("src", "href") if key in found]
    assert all(str(address).startswith(("#", "data:")) for address in addresses)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", source), "the name space of SVG is not an address"


# How large it is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["smooth", "noise"])
def test_fifty_samples_with_eight_methods_take_less_than_ten_megabytes(tmp_path, kind):
    path = tmp_path / "report.html"
    write_report(big_comparison(kind), path)
    assert path.stat().st_size < 10e6
    gallery = _data(path.read_text(encoding="utf-8"))["gallery"]
    assert (len(gallery["samples"]), gallery["left_out"]) == (50, 0)
    assert gallery["samples"][0]["maps"][0]["size"] == ([112, 112] if kind == "smooth" else [80, 80])


def test_what_does_not_fit_is_left_out_and_counted():
    examples = [make_example(i % 2) for i in range(20)]
    half = _gallery(*examples, budget=len(json.dumps(_gallery(*examples))) // 2)
    assert 0 < len(half["samples"]) < 20
    assert len(half["samples"]) + half["left_out"] == 20


# What is stored ----------------------------------------------------------------------------------------------------


def _unpack(stored: dict[str, Any]) -> list[list[int]]:
    """The bytes of a map, added up by hand."""
    rows, columns = stored["size"]
    raw = zlib.decompress(base64.b64decode(stored["text"]))
    grid = [[int(raw[row * columns + column]) for column in range(columns)] for row in range(rows)]
    if stored["differences"]:
        for row in range(rows):
            for column in range(1, columns):
                grid[row][column] = (grid[row][column] + grid[row][column - 1]) % 256
        for row in range(1, rows):
            for column in range(columns):
                grid[row][column] = (grid[row][column] + grid[row - 1][column]) % 256
    return [[value - 256 if value > 127 else value for value in line] for line in grid]


@pytest.mark.parametrize("smooth", [True, False])
def test_maps_come_back_to_half_a_step_of_their_scale(smooth):
    attribution = make_map(0)
    if smooth:
        attribution = torch.linspace(-2, 1, 600, dtype=torch.float64).view(1, 20, 30)
    example = dataclasses.replace(make_example(0), maps={"soft_cam": attribution})
    gallery = _gallery(example)
    stored = gallery["samples"][0]["maps"][0]
    assert stored["differences"] == smooth
    peak = float(attribution.abs().max())
    assert stored["peak"] == pytest.approx(peak, rel=1e-5)
    restored = torch.tensor(_unpack(stored), dtype=torch.float64) / 127 * stored["peak"]
    assert float((restored - attribution[0]).abs().max()) <= peak / 254 * (1 + 1e-4)


def test_a_large_map_is_kept_as_means_of_its_parts():
    attribution = torch.arange(224 * 112, dtype=torch.float64).view(1, 224, 112)
    example = _with_image(torch.zeros(3, 224, 112), soft_cam=attribution)
    gallery = _gallery(example)
    stored = gallery["samples"][0]["maps"][0]
    assert stored["size"] == (112, 56)
    mean = float(attribution[0, 222:, 110:].mean())
    assert stored["peak"] == pytest.approx(mean, rel=1e-5)


def test_what_is_not_finite_has_a_byte_of_its_own():
    attribution = torch.tensor([[[1.0, float("nan")], [float("inf"), -0.5]]])
    example = _with_image(torch.zeros(3, 2, 2), soft_cam=attribution, grad_cam=torch.zeros(1, 2, 2))
    gallery = _gallery(example)
    maps = gallery["samples"][0]["maps"]
    assert _unpack(maps[0]) == [[127, -128], [-128, -64]]
    assert (_unpack(maps[1]), maps[1]["peak"]) == ([[0, 0], [0, 0]], 0)


def test_photograph_and_mask_are_what_they_were():
    example = make_example(1)
    gallery = _gallery(example)
    entry = gallery["samples"][0]
    with Image.open(BytesIO(base64.b64decode(entry["image"].split(",")[1]))) as picture:
        assert picture.size == (30, 20)
    bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(entry["mask"])), np.uint8))[:600]
    assert example.sample.mask is not None
    assert np.array_equal(bits.reshape(20, 30).astype(bool), example.sample.mask[0].numpy())


def test_a_grey_image_and_a_lesion_of_one_pixel_survive():
    mask = torch.zeros(1, 1000, 700, dtype=torch.bool)
    mask[0, 501, 333] = True
    example = make_example(0)
    sample = dataclasses.replace(example.sample, image=torch.zeros(1, 1000, 700), mask=mask)
    gallery = _gallery(dataclasses.replace(example, sample=sample))
    entry = gallery["samples"][0]
    assert entry["mask_size"] == (224, 157)
    assert sum(map(int.bit_count, zlib.decompress(base64.b64decode(entry["mask"])))) >= 1


# How it is written -------------------------------------------------------------------------------------------------


def test_the_same_comparison_gives_the_same_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert _write(make_comparison(), tmp_path / "a") == _write(make_comparison(), tmp_path / "b")


def test_what_exists_is_not_overwritten(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"exists already and is not overwritten; choose another name"):
        write_report(make_comparison(), path)
    assert path.read_text() == "mine"


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the report's folder '.*nowhere' does not exist; make it first"):
        write_report(make_comparison(), tmp_path / "nowhere" / "report.html")


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path, monkeypatch):
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fill)
    with pytest.raises(OSError, match=r"report.html' cannot be written \(No space left on device\); make room there"):
        write_report(make_comparison(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
