"""The report in Chromium: it loads without messages, and every control works."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from reports import (
    CLASSES,
    HOSTILE,
    METHODS,
    hostile_comparison,
    make_comparison,
    make_example,
    make_map,
    several_classes,
    with_manifest,
)

from captum_softcam.evaluation import Comparison
from captum_softcam.report import write_report
from captum_softcam.report._drawing.pictures import drawn
from captum_softcam.report.findings import findings

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; it comes with the extra 'test'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium or google-chrome on the PATH")

# The contrast of every text with its background by WCAG 2, without the parts that are dimmed on purpose.
_CONTRASTS = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => part / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour.slice(0, 3);
    }
    return [255, 255, 255]; // paper
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length || element.closest("script, style, .dimmed")) continue;
    const style = getComputedStyle(element);
    const ink = parse(element.closest("svg") ? style.fill : style.color).slice(0, 3);
    const [a, b] = [light(ink), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([element.tagName, element.className.toString(), element.textContent.slice(0, 30), ratio]);
  }
  return low;
}"""

# What each panel shows.
_INK = """() => [...document.querySelectorAll("#gallery > .panels canvas")].map((canvas) => canvas.toDataURL())"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    return _written(make_comparison(), tmp_path_factory.mktemp("report"))


@pytest.fixture
def open_page(browser) -> Iterator[Any]:
    """Opens a page; at the end no console message, error, dialog or request may have come up."""
    noise: list[str] = []
    contexts: list[Any] = []

    def open_page(path: Path, width: int = 1280, height: int = 900, **settings: Any) -> Any:
        settings = {"reduced_motion": "reduce", **settings}  # nothing to wait for
        context = browser.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: noise.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: noise.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (noise.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: noise.append(request.url) if not _is_local(request.url, path) else None)
        page.goto(path.as_uri())
        if settings.get("java_script_enabled", True) and page.locator("#gallery").count():
            page.wait_for_selector("#gallery .view canvas")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert noise == []


def _is_local(url: str, path: Path) -> bool:
    return url == path.as_uri() or url.startswith("data:")


def _written(comparison: Comparison, folder: Path) -> Path:
    path = folder / "report.html"
    write_report(comparison, path)
    return path


def _column(page: Any, place: int) -> list[str]:
    return page.locator(f"#table tbody tr > :nth-child({place + 1})").evaluate_all(
        "cells => cells.map(c => c.dataset.value)"
    )


def _heading(page: Any, place: int) -> Any:
    return page.locator("#table thead tr:last-child th").nth(place)


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_loads_in_silence_fits_and_can_be_read(open_page, report, width, scheme):
    page = open_page(report, width, 740, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.wait_for_selector("#curves .plots svg .name")
    assert page.evaluate(_CONTRASTS) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 27)"
    assert dark == (scheme == "dark")


def test_a_click_sorts_the_best_first_and_then_the_other_way(open_page, report):
    page = open_page(report)
    heading = _heading(page, 3)
    assert heading.get_attribute("aria-sort") == "none"
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    values = list(map(float, _column(page, 3)))
    assert values == sorted(values, reverse=True)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert list(map(float, _column(page, 3))) == sorted(values)
    _heading(page, 0).locator("button").click()
    assert heading.get_attribute("aria-sort") == "none"
    assert _column(page, 0) == sorted(METHODS)


def test_the_keyboard_sorts_by_number_with_the_undefined_last(open_page, report):
    page = open_page(report)
    button = _heading(page, 4).locator("button")
    button.focus()
    for key, order in (("Enter", "ascending"), ("Space", "descending")):
        page.keyboard.press(key)
        assert _heading(page, 4).get_attribute("aria-sort") == order
        *values, last = _column(page, 4)
        assert last == "", "random has no deletion"
        assert list(map(float, values)) == sorted(map(float, values), reverse=order == "descending")
    cost = _heading(page, 2).locator("button")
    cost.click()
    assert _column(page, 2) == ["0.0", "1.0", "15.0", "130.0"], "as text, 130 would stand before 15"


def test_a_cell_says_more_to_pointer_and_keyboard(open_page, report):
    page = open_page(report)
    tip = page.locator("#tip")
    assert tip.is_hidden()
    page.locator("#table tbody tr:nth-child(1) td:not(.overall)").first.hover()
    assert "Against grad_cam: +0.100 [+0.100, +0.100], better" in tip.inner_text()
    assert "Better in 100 % of 10 pairs" in tip.inner_text()
    page.mouse.move(2, 2)
    assert tip.is_hidden()
    page.locator("#table tbody [tabindex='0']").focus()
    for key in (*["ArrowDown"] * 3, *["ArrowRight"] * 4, "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    assert "random, Deletion" in tip.inner_text()
    assert "10 undefined, 3 of them because of an error" in tip.inner_text()
    box = tip.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280
    page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_method_class_and_sample_can_be_switched(open_page, report):
    page = open_page(report)
    assert page.locator("#place b").inner_text() == "s1", "the first sample with a mask"
    seen = [page.evaluate(_INK)]
    assert len(seen[0]) == 2
    for change in (
        lambda: page.select_option("#left", label="Occlusion"),
        lambda: page.select_option("#kind", "runner_up_maps"),
        lambda: page.click("#next"),
        lambda: page.select_option("#right", label="none"),
    ):
        change()
        page.wait_for_function(f"before => String(({_INK})()) !== String(before)", arg=seen[-1])  # another picture
        seen.append(page.evaluate(_INK))
    assert len(seen[-1]) == 1
    assert "haemorrhages (highest)" in page.locator("#kind").inner_text()


def test_the_gallery_does_not_begin_with_the_same_map_twice(open_page, tmp_path):
    groups = [{"methods": ["soft_cam", "grad_cam"], "samples": 10, "constant": False}]
    page = open_page(_written(with_manifest(make_comparison(), same_maps=groups), tmp_path))
    chosen = [page.locator(f"#{side} option:checked").inner_text() for side in ("left", "right")]
    assert chosen == ["SoftCAM", "Occlusion"]


def test_prediction_and_scores_belong_to_the_sample(open_page, report):
    page = open_page(report)
    prediction = page.locator("#prediction")
    assert "✗ wrong: the model predicts haemorrhages, the label is hard exudates." in prediction.inner_text()
    assert "0.300" in page.locator("#prediction .target").inner_text()
    assert page.locator("#own tbody tr").first.inner_text().split() == ["Pixel", "AUC", "↑", "0.810", "0.710"]
    page.select_option("#filter", label="healthy (1)")
    assert page.locator("#place").inner_text().split() == ["s0", "1", "of", "1,", "no", "mask"]
    assert "✓ correct" in prediction.inner_text()
    page.select_option("#filter", "wrong")
    assert page.locator("#place b").inner_text() == "s1"


def test_a_label_that_is_not_known_is_none_of_the_classes(open_page, tmp_path):
    comparison = make_comparison()
    examples = [replace(each, sample=replace(each.sample, target=-1)) for each in comparison.examples]
    unknown = replace(comparison, examples=examples, scores=comparison.scores.assign(label=-1))
    page = open_page(_written(unknown, tmp_path))
    assert "the model predicts haemorrhages, the label is not known." in page.locator("#prediction").inner_text()
    assert page.locator("#filter option").all_inner_texts() == ["all (2)"]
    assert "without a known class" in page.locator("body").inner_text()


def test_the_arrow_keys_walk_along_the_samples(open_page, report):
    page = open_page(report)
    page.locator("#strip input:checked").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#place b").inner_text() == "s0"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#place b").inner_text() == "s1"


def test_opacity_outline_and_grey_can_be_switched(open_page, report):
    page = open_page(report)
    page.locator("#opacity").focus()
    page.keyboard.press("Home")
    assert page.locator("#opacity-value").inner_text() == "0 %"
    assert page.locator(".view canvas").first.evaluate("canvas => getComputedStyle(canvas).opacity") == "0"
    outline = page.locator(".view .mask").first
    assert outline.is_visible()
    page.uncheck("#mask")
    assert outline.is_hidden()
    photograph = page.locator(".view.mapped img").first
    assert photograph.evaluate("image => getComputedStyle(image).filter") == "grayscale(1)"
    page.uncheck("#grey")
    assert photograph.evaluate("image => getComputedStyle(image).filter") == "none"


def test_the_outline_runs_around_the_mask(open_page, report):
    page = open_page(report)
    path = page.locator(".view .mask .edge").first.get_attribute("d")
    assert path.count("M") == 2 * (8 + 14), "the mask is 8 x 14 pixels"
    assert "M6 4h1" in path
    assert "M20 11v1" in path


def test_pointer_and_arrow_keys_read_the_values_of_both_maps(open_page, report):
    page = open_page(report)
    view = page.locator(".view.mapped").first
    view.scroll_into_view_if_needed()
    box = view.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 12.5 / 30, box["y"] + box["height"] * 7.5 / 20)
    _check_reading(page, row=7, column=12)
    page.mouse.move(2, 2)
    assert "Point at a map" in page.locator("#readout").inner_text()
    view.focus()
    _check_reading(page, row=10, column=15)
    for key in ("ArrowRight", "ArrowUp", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    _check_reading(page, row=9, column=8)


def _check_reading(page: Any, row: int, column: int) -> None:
    words = page.locator("#readout").inner_text().replace("\N{MINUS SIGN}", "-")
    assert words.startswith(f"At {column}, {row}: ")
    for place, method in enumerate(("SoftCAM", "Grad-CAM")):
        attribution = make_map(10 + place)
        value = float(words.split(f"{method} ")[1].split()[0])
        step = float(attribution.abs().max()) / 127
        assert value == pytest.approx(float(attribution[0, row, column]), abs=step * 0.51 + 0.005 * abs(value))
    cursor = page.locator(".view.mapped .cursor:not(.under)").first
    assert (cursor.get_attribute("x"), cursor.get_attribute("y")) == (str(column), str(row))


def test_smooth_maps_are_put_together_again(open_page, tmp_path):
    comparison = make_comparison()
    ramp = torch.linspace(-2, 1, 600).view(1, 20, 30)
    comparison.examples[1].maps["soft_cam"] = ramp
    page = open_page(_written(comparison, tmp_path))
    values = page.evaluate("[...data.gallery.samples[1].maps[0].values]")
    assert values == (ramp / 2 * 127).round().int().flatten().tolist()


def test_the_theme_can_be_switched(open_page, report):
    page = open_page(report, color_scheme="light")
    theme = page.locator("#theme")
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(colour)
    theme.click()
    assert theme.get_attribute("aria-pressed") == "true"
    assert page.evaluate(colour) != before
    theme.click()
    assert page.evaluate(colour) == before


def test_the_legend_hides_curves_and_the_pointer_reads_them(open_page, report):
    page = open_page(report)
    page.wait_for_selector("#curves .plots svg")
    series = page.locator("#curves .series")
    assert series.count() == 3, "random has no curve"
    button = page.locator("#curves .legend button").nth(1)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert series.count() == 2
    button.click()
    assert series.count() == 3
    dashes = [path.get_attribute("stroke-dasharray") for path in page.locator("#curves .line").all()[-3:]]
    assert len(set(dashes)) == 3, "told apart without colour"
    page.locator("#curves .plots svg").hover()
    assert "At 50.0 %" in page.locator("#tip").inner_text()
    assert "Grad-CAM 0.245 [" in page.locator("#tip").inner_text()


def test_the_costs_follow_the_metric(open_page, report):
    page = open_page(report)
    plot = page.locator("#costs svg")
    assert "Pixel AUC against cost: SoftCAM 0.845 at 1; " in plot.get_attribute("aria-label")
    assert plot.locator(".series").count() == 4
    page.select_option("#quality", label="Deletion")
    assert "Deletion against cost" in plot.get_attribute("aria-label")
    assert plot.locator(".series").count() == 3, "random has no deletion"


def test_names_of_users_do_not_run(open_page, tmp_path):
    page = open_page(_written(hostile_comparison(), tmp_path))
    assert page.locator("script").count() == 2
    assert page.locator("#table .method").first.inner_text() == HOSTILE[0]
    assert page.locator("#left option").nth(1).inner_text() == HOSTILE[1]
    for name in HOSTILE[:3]:
        page.locator("#table td").first.hover()
        assert page.locator(f"#curves .legend button:nth-child({1 + HOSTILE.index(name)})").inner_text() == name
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


@pytest.mark.parametrize(
    "missing", [{"curves": make_comparison().curves.iloc[:0]}, {"examples": []}], ids=["curves", "maps"]
)
def test_a_report_without_a_part_works(open_page, tmp_path, missing):
    page = open_page(_written(make_comparison(**missing), tmp_path))
    _heading(page, 1).locator("button").click()
    assert page.locator("#costs .series").count() == 4


def test_without_script_the_table_can_be_read(open_page, report):
    page = open_page(report, java_script_enabled=False)
    assert "0.845" in page.locator("#table").inner_text()
    assert page.locator("#gallery").is_hidden()
    assert page.locator("noscript").is_visible()


def test_it_prints_on_a_page(open_page, report):
    page = open_page(report, 718, color_scheme="dark")  # the width of A4 less its margins
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert page.locator("body > header").is_hidden()
    assert page.evaluate(_CONTRASTS) == [], "on white paper"


def test_the_tab_key_reaches_everything_and_shows_where_it_is(open_page, report):
    page = open_page(report)
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {
        "skip",
        "theme",
        "left",
        "kind",
        "filter",
        "opacity",
        "mask",
        "contours",
        "positive",
        "size",
        "printed",
        "print-case",
        "grey",
        "previous",
        "next",
        "quality",
    } <= reached
    assert {"view mapped grey", "download"} <= reached
    page.locator("#next").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_images_with_several_classes(open_page, tmp_path):
    examples = make_comparison().examples
    sample = replace(examples[1].sample, labels=(0, 1), undecided=(2,))
    page = open_page(_written(several_classes(examples=[examples[0], replace(examples[1], sample=sample)]), tmp_path))
    said = page.locator("#prediction").inner_text()
    assert "the highest score is that of haemorrhages, the image shows healthy, hard exudates." in said
    assert "wrong" not in said, "whether the image shows haemorrhages is not decided"
    names = page.locator("#prediction .class span").all_inner_texts()
    assert sorted(" ".join(name.split()) for name in names) == [
        "haemorrhages predicted, undecided",
        "hard exudates explained, shown",
        "healthy shown",
    ]
    assert page.evaluate(_CONTRASTS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def _saved(page: Any, label: str) -> tuple[str, bytes]:
    """Press a button by the keyboard, and return the name and content of the file."""
    button = page.get_by_role("button", name=label, exact=True)
    button.focus()
    with page.expect_download(timeout=20_000) as download:  # pictures take their time
        page.keyboard.press("Enter")
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def _points(content: bytes) -> list[list[str]]:
    return list(csv.reader(StringIO(content.decode(), newline="")))


def test_curves_and_costs_are_saved_as_drawings_pictures_and_points(open_page, report):
    page = open_page(report, color_scheme="dark")
    name, content = _saved(page, "Save the curves of Deletion as SVG")
    assert name == "deletion-curves.svg"
    drawing = ElementTree.fromstring(content)
    texts = [text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Deletion, ↓ lower is better", "SoftCAM", "fraction of patches replaced"} <= set(texts)
    assert not re.search(rb"light-dark|var\(", content), "colours of its own"
    assert b"rgb(179, 71, 0)" in content, "those of the light theme"
    assert page.evaluate("document.documentElement.dataset.theme") is None
    name, content = _saved(page, "Save the curves of Deletion as PNG")
    picture = Image.open(BytesIO(content)).convert("RGB")
    assert name == "deletion-curves.png"
    assert picture.getpixel((2, 2)) == (255, 255, 255)
    assert len(set(picture.resize((80, 60)).get_flattened_data())) > 20
    name, content = _saved(page, "Save the curves of Deletion as CSV")
    points = _points(content)
    assert points[0] == ["metric", "method", "fraction", "mean", "low", "high"]
    assert points[5][:4] == ["deletion", "grad_cam", "0.5", "0.245"]
    page.select_option("#quality", label="Deletion")
    name, content = _saved(page, "Save the costs as CSV")
    assert name == "deletion-against-cost.csv"
    assert _points(content)[3][:4] == ["deletion", "occlusion", "130", "0.245"]


def test_overlays_are_saved_as_shown(open_page, report):
    page = open_page(report)
    name, content = _saved(page, "Save the map of SoftCAM as PNG")
    assert name == "s1-SoftCAM-hard-exudates.png"
    shown = np.asarray(Image.open(BytesIO(content)).convert("RGB"), float)
    assert shown.shape == (683, 1024, 3)
    assert abs(shown - shown.mean(-1, keepdims=True)).max() > 100, "colours over grey"
    page.locator("#opacity").focus()
    page.keyboard.press("Home")
    for box in ("contours", "mask"):
        page.uncheck(f"#{box}")
    grey = np.asarray(Image.open(BytesIO(_saved(page, "Save the map of SoftCAM as PNG")[1])).convert("RGB"), float)
    assert abs(grey - grey.mean(-1, keepdims=True)).max() < 2
    page.uncheck("#grey")
    plain = _saved(page, "Save the map of SoftCAM as PNG")[1]
    assert plain == _saved(page, "Save the image as PNG")[1]


def test_tables_are_saved_as_they_are_read(open_page, tmp_path):
    page = open_page(_written(hostile_comparison(), tmp_path))
    name, content = _saved(page, "Save the table Failures as CSV")
    assert name == "Failures.csv"
    rows = _points(content)
    assert rows[0] == ["method", "metric", "error", "samples"]
    assert rows[1][2] == HOSTILE[0]
    name, content = _saved(page, "Save the scores of this sample as CSV")
    assert name == "script-img-src-x-onerror-alert-1-scores.csv"
    assert sorted(_points(content)[0][1:]) == sorted(HOSTILE[:2])


def test_contours_enclose_the_strong_values_and_follow_the_signs(open_page, tmp_path):
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    bumps = [((rows - 10) ** 2 + (columns - at) ** 2).div(-20).exp()[None] for at in (7, 22)]
    comparison = make_comparison()
    comparison.examples[1].maps["soft_cam"] = bumps[0] - bumps[1]
    page = open_page(_written(comparison, tmp_path))
    first = page.locator("#gallery > .panels figure").nth(1)
    assert _extent(first, ".contours:not(.against) .edge") == pytest.approx([7.5 - 3.7, 7.5 + 3.7], abs=0.3)
    assert _extent(first, ".contours.against .edge") == pytest.approx([22.5 - 3.7, 22.5 + 3.7], abs=0.3)
    page.uncheck("#contours")
    assert first.locator(".contours").first.is_hidden()
    page.check("#positive")
    page.wait_for_function("() => document.querySelectorAll('#gallery > .panels .against').length === 0")
    assert page.locator(".scale .against").is_hidden()
    value = first.locator("canvas").evaluate("canvas => canvas.getContext('2d').getImageData(22, 10, 1, 1).data[3]")
    assert value == 0, "values against the class are not drawn"


def test_noise_has_no_contours(open_page, tmp_path):
    example = make_comparison().examples[0]
    sample = replace(example.sample, image=torch.rand(3, 64, 64))
    maps = dict.fromkeys(METHODS, make_map(0, 64, 64))
    page = open_page(
        _written(make_comparison(examples=[replace(example, sample=sample, maps=maps, runner_up_maps={})]), tmp_path)
    )
    assert page.locator(".view canvas").first.is_visible()
    assert page.locator(".contours").count() == 0


def _extent(figure: Any, lines: str) -> list[float]:
    """Return the leftmost and the rightmost place of lines."""
    found = [float(x) for x in re.findall(r"[ML]([\d.]+) ", figure.locator(lines).get_attribute("d"))]
    return [min(found), max(found)]


def test_pictures_can_be_enlarged_to_the_whole_width(open_page, report):
    page = open_page(report, 1600)
    for size, least in (("two", 740), ("one", 1500), ("", 350)):
        page.select_option("#size", size)
        width = page.locator("#gallery > .panels .view").first.bounding_box()["width"]
        assert least <= width < 1.2 * least
        assert page.evaluate("document.documentElement.scrollWidth") <= 1600


def test_the_samples_that_are_printed_can_be_chosen(open_page, report):
    page = open_page(report)
    names = page.locator("#prints h3")
    page.wait_for_selector(".prints-ready")
    assert [text.split()[0] for text in names.all_text_contents()] == ["s0", "s1"]
    assert page.locator("#prints article").first.is_hidden()
    page.emulate_media(media="print")
    assert page.locator("#prints article").nth(1).locator("canvas").first.is_visible()
    assert page.locator("#gallery > .panels").is_hidden()
    page.emulate_media(media="screen")
    page.select_option("#printed", "wrong")
    page.wait_for_function("() => document.querySelectorAll('#prints article').length === 1")
    assert names.first.text_content().startswith("s1")
    page.select_option("#printed", "shown")
    page.click("#next")
    page.wait_for_function("() => document.querySelector('#prints h3').textContent.startsWith('s0')")


def test_hollow_marks_show_the_verdicts_without_the_adjustment(open_page, tmp_path):
    comparison = make_comparison()
    few = replace(comparison, scores=comparison.scores.query("sample <= 's6'"))  # too few for the adjustment
    page = open_page(_written(few, tmp_path))
    strip = page.locator(".strips li").first.locator(".strip")
    assert [sign.strip() for sign in strip.inner_text().split()] == ["○", "○", "○"]
    assert page.locator("#table .value .mark:visible").count() == 0
    page.check("#unadjusted")
    assert strip.inner_text().split() == ["△", "△", "○"]
    assert page.locator("#table tbody tr").first.locator(".mark:visible").all_inner_texts() == ["△", "△"]


def test_a_case_is_printed_on_one_page(open_page, report):
    page = open_page(report)
    page.evaluate("window.print = () => (document.title = 'printed')")
    page.click("#print-case")
    page.wait_for_function("() => document.title === 'printed'")
    page.emulate_media(media="print")
    words = page.locator("main").inner_text()
    for part in (
        "s1",
        "Model: tiny",
        "SoftCAM for hard exudates (0.300)",
        "Predicted: haemorrhages (0.500)",
        "wrong: the model predicts haemorrhages, the label is hard exudates.",
        "blue line: the marked region",
        " ".join(findings(make_example(1), drawn(make_example(1)), "soft_cam", CLASSES)),
        "Research software, not a medical device.",
    ):
        assert part in words
    assert "Mean score" not in words, "nothing but the case"
    assert page.locator("#case canvas").count() == 2
    pages = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", pages)) == 1
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#summary").is_visible()
