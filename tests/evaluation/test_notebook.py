"""What objects show of themselves at the end of a cell, and in a REPL."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from comparisons import make_model
from PIL import Image
from reports import make_comparison, make_example

from captum_softcam.attr import suggest_layers
from captum_softcam.data import Sample
from captum_softcam.evaluation import Example
from captum_softcam.softcam import TrainingResult, load_embedded

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e"


class Balanced(HTMLParser):
    """The tags of a page, which must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, _attrs):
        self.tags.append(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data + " "


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/\w+;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in found]


@pytest.mark.parametrize(
    "shown",
    [
        lambda: make_comparison(),
        lambda: make_comparison().view(),
        lambda: make_example(1),
        lambda: make_example(1).sample,
        lambda: Sample(torch.rand(3, 999, 999), 0, None, HOSTILE * 50, HOSTILE, (0, 1), (2,)),
        load_embedded,
        lambda: make_model().conversion,
        lambda: TrainingResult(0.9, 3, Path("run/best.ckpt"), tuple({"epoch": float(i)} for i in range(500))),
    ],
    ids=["comparison", "view", "example", "sample", "hostile sample", "classifier", "conversion", "training"],
)
def test_a_repr_is_a_short_line(shown):
    text = repr(shown())
    assert len(text) < 400
    assert text.isprintable(), "no line breaks, and nothing that acts on a terminal"
    assert "tensor(" not in text


def test_what_a_repr_says():
    assert repr(make_example(1).sample) == "Sample('s1', target=1, image=(3, 20, 30), mask=(1, 20, 30))"
    assert repr(make_example(0)) == "Example('s0', target=0, runner_up=2; maps: soft_cam, grad_cam, occlusion, random)"
    assert repr(make_model().conversion).startswith("Conversion(networks.PooledNet, exact")


@pytest.fixture(scope="module")
def choices():
    layers = (torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.Conv2d(4, 4, 3, stride=2))
    net = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(36, 2))
    return suggest_layers(net.eval(), torch.rand(1, 3, 16, 16))


class TestLayers:
    def test_it_is_a_list(self, choices):
        assert isinstance(choices, list)
        assert choices == list(choices)
        assert choices[1:] == [choices[1]]
        assert next(choice.name for choice in choices if choice.recommended) == "1"

    def test_as_text(self, choices):
        assert repr(choices).splitlines() == [
            "layer  shape    grid  stride   passes  reason",
            "0      1x4x7x7  7x7   2.3x2.3  49      an earlier stage, finer",
            "1*     1x4x3x3  3x3   5.3x5.3  9       the last map",
            "* recommended; passes: runs of the tail that Recipro-CAM needs, 0 if one forward pass is enough",
        ]
        assert repr(type(choices)()) == "[]"

    def test_in_a_notebook(self, choices):
        page = Balanced(choices._repr_html_())
        assert page.tags.count("tr") == 3
        assert "the last map" in page.text
        assert choices._repr_html_().count('<tr class="chosen">') == 1


class TestExample:
    def test_maps_lie_on_the_picture(self):
        attribution = torch.zeros(1, 4, 6)
        attribution[:, 0, 0], attribution[:, 3, 5] = 2.0, -1.0
        example = Example(Sample(torch.rand(3, 80, 120), 1, None, "s"), 1, {"m": attribution})
        html = example._repr_html_()
        Balanced(html)
        photograph, below, above = pictures(html)
        assert photograph.shape == below.shape == (80, 120, 3)
        assert above.shape == (80, 120, 4)
        assert above[40, 60, 3] == 0, "nothing is drawn where the map is 0"
        red, _, blue, strong = above[2, 2]
        assert (red > blue, strong > 200) == (True, True), "orange for the class"
        red, _, blue, strong = above[-3, -3]
        assert (red < blue, strong > 90) == (True, True), "purple against it"
        assert "-1 to 2" in html
        assert "4 x 6" in html

    def test_a_large_picture_becomes_small(self):
        example = Example(Sample(torch.rand(3, 900, 600), 1, None, "s"), 1, {"m": torch.rand(1, 900, 600)})
        assert {picture.shape[:2] for picture in pictures(example._repr_html_())} == {(160, 107)}
        assert len(example._repr_html_()) < 150_000

    def test_the_runner_up_has_a_row(self):
        html = make_example(1)._repr_html_()
        assert len(pictures(html)) == 2 * (1 + 2 * 4)
        text = Balanced(html).text
        assert re.search(r"class 1 +explained +0.3 ", text)
        assert re.search(r"class 2 +runner-up +0.5 ", text)

    @pytest.mark.parametrize(
        ("image", "attribution"),
        [
            (torch.rand(2, 50), torch.rand(1, 50)),
            (torch.rand(1, 4, 8, 8), torch.rand(1, 2, 4, 4)),
            (torch.rand(1, 8, 8), torch.full((1, 8, 8), float("nan"))),
            (torch.randn(5, 8, 8) * 1000, torch.zeros(1, 2, 2)),
            (torch.full((3, 8, 8), float("inf")), torch.tensor([[[float("inf"), 1.0]]])),
            (torch.rand(3, 8, 8).half(), torch.rand(1, 2, 2).bfloat16().requires_grad_()),
            (np.ones((3, 8, 8))[:, ::-1], np.ones((1, 2, 2), np.float16)),
        ],
        ids=["signal", "volume", "no number", "five channels", "infinite", "half", "arrays"],
    )
    def test_any_sample_and_map(self, image, attribution):
        example = Example(Sample(image, 0, None, HOSTILE), 0, {HOSTILE: attribution}, torch.tensor([1.0]))
        page = Balanced(example._repr_html_())
        assert "script" not in page.tags
        assert " x ".join(map(str, image.shape)) in page.text
        assert bool(pictures(example._repr_html_())) == (image.ndim == 3)
        assert "\x1b" not in page.text

    def test_a_class_without_a_score_and_values_beyond_floats_of_32_bits(self):
        attribution = torch.tensor([[[1e300, -2e300]]], dtype=torch.float64)
        example = Example(Sample(torch.rand(3, 8, 8), 0, None, "s"), 7, {"m": attribution}, torch.tensor([1.0]))
        text = Balanced(example._repr_html_()).text
        assert "class 7" in text
        assert "-2e+300 to 1e+300" in text

    def test_a_method_that_failed(self):
        example = make_example(1)
        html = Example(example.sample, 1, example.maps, None, 2, {"soft_cam": example.maps["soft_cam"]})._repr_html_()
        assert Balanced(html).text.count("failed") == 3


def test_a_conversion_in_a_notebook():
    conversion = make_model().conversion
    page = Balanced(conversion._repr_html_())
    assert page.text.replace(" ", "") == "".join(str(conversion).split())
