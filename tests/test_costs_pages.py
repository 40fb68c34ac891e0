"""The pages of what methods cost, written from made-up measurements, and the counter of operations."""

from __future__ import annotations

import json

import attribution
import growth
import pytest
import torch
from torch import nn


def _row(name, seconds, job="", package="ours", flops=100):
    return {"name": name, "seconds": seconds, "job": job, "package": package, "flops": flops, "peak": 1234}


@pytest.fixture
def kept():
    rows = [
        _row("forward", [1.0, 1.0, 1.2], package=""),
        _row("forward, once more", [0.9, 1.0, 0.8], package=""),
        _row("Ours, one class", [1.5, 1.4, 1.6], "map"),
        _row("Peer's, one class", [1.0, 1.1, 1.0], "map", "peer"),
        _row("Peer's slow one", [3.0], "map", "other", flops=300),
    ]
    made = {
        "threads": 1,
        "rounds": 3,
        "photographs": 2,
        "source": "nowhere",
        "processor": "abacus",
        "versions": {"torch": "2"},
    }
    reason = "ValueError: it has no head. Take another."
    names = {"title": "Net, random weights", "layer": "last", "earlier": "first", "narrow": None, "slow": True}
    return {"net": {**made, **names, "rows": rows, "refused": {"CAM": reason, "CAM++": reason}}}


def test_the_page_says_first_where_a_peer_is_faster(kept):
    text = attribution.page(kept)
    assert text.index("**1.50 times the time**: Ours, one class beside Peer's, one class on Net.") < text.index("## Net")
    assert "In the other pairs (1) ours takes 0.50 to 0.50 times" in text
    assert "| Ours, one class | 1.500 | 1.50 | 1.45 to 1.55 | 1.00 | 1,234 | 1.33 |" in text
    assert "| Peer's slow one | 3.000 | 3.00 | one round | 3.00 | 1,234 | 0.667 |" in text
    assert "Not here:\n\n- CAM and CAM++: ValueError: it has no head.\n" in text
    assert "*Forward, once more* is the first row again: it differs by up to 10%, as" in text
    kept["net"]["rows"] = [row for row in kept["net"]["rows"] if row["package"] != "peer"]
    assert attribution.page(kept).startswith("No peer is faster in these tables. In the other pairs (1)")


def test_gradients_of_a_grouped_convolution_count_as_much_as_the_convolution():
    layers = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.Flatten(), nn.Linear(8 * 36, 5))
    images = torch.rand(2, 8, 6, 6, requires_grad=True)
    convolution, linear = 2 * 2 * 8 * 36 * (2 * 9), 2 * 2 * 8 * 36 * 5
    with attribution.FlopCounter() as forward:
        outputs = layers(images)
    assert forward.total == convolution + linear
    with attribution.FlopCounter() as backward:
        outputs.sum().backward()
    assert backward.total == 2 * (convolution + linear)


def test_rare_runs_take_part_in_the_first_round_alone():
    calls = []
    runs = {name: (lambda name=name: calls.append(name)) for name in ("often", "rarely")}
    seconds = attribution.timed(runs, 3, "cpu", {"rarely"})
    assert {name: len(values) for name, values in seconds.items()} == {"often": 3, "rarely": 1}
    assert sorted(calls) == ["often"] * 3 + ["rarely"]


def test_the_exponent_of_a_power():
    exact = growth.growth([(size, 3.0 * size**1.5) for size in (1, 4, 16)])
    assert exact == pytest.approx((1.5, 1.5, 1.5))
    bent = growth.growth([(1, 1.0), (2, 1.1), (4, 2.0), (8, 4.0)])
    assert bent.low < 0.67 < bent.exponent < 0.72 < bent.high


def test_the_page_of_growth_says_first_where_ours_grows_faster():
    ours, peer = growth.Growth(1.0, 0.9, 1.1), growth.Growth(0.2, 0.1, 0.3)
    found = {"layers": {growth.ONE: ours, "torchcam's GradCAM, one class": peer}, "classes": {growth.ALL: peer}}
    found["classes"]["Captum's LayerGradCam, all classes"] = ours
    text = growth.faster_than_peers(found)
    assert text.startswith("Recipro-CAM grows faster than a Grad-CAM with positions, by earlier layers (exponent 1.00 [0.90")
    assert "It does not with classes, a map of each (exponent 0.20 [0.10, 0.30], peers 1.00 to 1.00)." in text


def test_the_page_of_growth_says_how_far_ours_is_behind_at_the_smallest_size():
    curves = {growth.ONE: [(1, 0.3), (4, 0.4)], "forward": [(1, 0.1)], "torchcam's GradCAM, one class": [(1, 0.2), (4, 0.8)]}
    text = growth.behind_at_first({"images": {**curves, "grad-cam's GradCAM, one class": [(1, 0.25)]}})
    assert text.endswith(": 1.50 with images of a batch (the fastest is torchcam's GradCAM).")


@pytest.mark.parametrize("script", [attribution, growth])
def test_the_page_is_what_was_measured(script):
    kept = json.loads(script.KEPT.read_text(encoding="utf-8"))
    assert script.PAGE.read_text(encoding="utf-8") == script.page(kept)
