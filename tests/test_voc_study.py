"""The study of PASCAL VOC: its figures from made-up scores, and its page from made-up results."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from study import DOCS, Interval, Results
from voc import CHEAP, FAITHFULNESS, FINDINGS, KINDS, LOCALISATION, PAIRS, POINTING, SLOW
from voc_page import MAPS, write
from voc_results import Measured, influences, points

from captum_softcam.evaluation.statistics import ranking_intervals


def test_average_precision_is_a_mean_over_images():
    rng = np.random.default_rng(0)
    shown, known = rng.random((60, 3)) < 0.3, rng.random((60, 3)) < 0.9
    scores = rng.normal(size=(60, 3)) + shown
    values = influences(scores, shown & known, known)
    theirs = ranking_intervals(scores, shown & known, known)
    np.testing.assert_allclose(values[:, :-1].mean(0), theirs.average_precision[:, 0])
    assert values[:, -1].mean() == pytest.approx(theirs.mean_average_precision[0])
    # The spread of the values is that of the bootstrap.
    low, high = theirs.mean_average_precision[1:]
    assert 1.96 * 2 * values[:, -1].std() / np.sqrt(60) == pytest.approx(high - low, rel=0.2)


@pytest.mark.parametrize(("left", "hit"), [(60, 0.0), (80, 1.0), (112, 1.0), (120, 0.0)])
def test_a_hit_is_near_a_box_in_the_size_of_the_photograph(left, hit):
    attribution = torch.zeros(1, 224, 224)
    attribution[0, 100, 50] = 1  # near (100, 200) of a photograph of 448 x 448 pixels
    boxes = torch.tensor([[left, 180.0, left + 20, 220.0]])
    assert points(attribution, (448, 448), boxes) == hit


class _Steps(Measured):
    """Three samples of two photographs and two seeds; the maps of SoftCAM are better by 0.5."""

    def __init__(self) -> None:
        self.chosen, self.images, self.classes = "lasso", ["a", "a", "b"], [0, 0, 1]
        self.difficult = np.array([True, False, True])

    def of(self, row, column):
        raw = np.array([[0.0, 0.0, 0.5]] * 2) + (0.5 if row.startswith("chosen") else 0)
        return self._weighted(raw, column) if column in POINTING else raw


def test_differences_are_above_0_where_the_first_is_better():
    pair = ("chosen_32: soft_cam", "black_box: grad_cam")
    assert _Steps().difference(pair, "insertion").mean == pytest.approx(0.5)
    assert _Steps().difference(pair, "deletion").mean == pytest.approx(-0.5)


def test_the_pointing_game_is_the_mean_over_classes():
    assert _Steps().interval("grad_cam", "pointing_15").mean == pytest.approx((0.0 + 0.5) / 2)
    difficult = _Steps().interval("grad_cam", "pointing_difficult")
    assert (difficult.mean, difficult.n) == (pytest.approx((0.0 + 0.5) / 2), 2)


@pytest.fixture
def results():
    """SoftCAM points better than Grad-CAM, and is less accurate by five points."""
    trial = {"map": 0.8, "precision": 0.5, "positive": 1.0}
    numbers = ("train", "held", "images", "samples", "difficult", "faithful", "slow", "seeds", "hours", "presence")
    settings = {
        **dict.fromkeys(numbers, 3),
        "epochs": [2, 3],
        "learning_rate": 0.05,
        "chosen": "lasso",
        "weights": {},
        "trials": [[0.0, 0.0, trial], [1e-4, 0.0, trial]],
        "same": {"difference": 1e-5, "largest": 9.0},
    }
    found = Results("voc", settings)
    some = Interval(0.5, 0.4, 0.6, 3)
    for kind in KINDS:
        found.add("accuracy", kind, "map", some)
        found.add("accuracy", kind, "sparsity", some)
    for row in (*KINDS, "chosen_32"):
        found.add("accuracy_differences", row, "map", Interval(-0.05, -0.06, -0.04, 3))
    for row in MAPS:
        for column in (*POINTING, *LOCALISATION, "positive"):
            found.add("localisation", row, column, some)
        for column in FAITHFULNESS:
            found.add("faithfulness", row, column, some)
    for row in PAIRS:
        for column in (*POINTING, *LOCALISATION, *FAITHFULNESS):
            found.add("differences", row, column, Interval(0.1, 0.05, 0.15, 3))
    for column in ("ap", "ap_gain", "pointing", "pointing_gain"):
        found.add("classes", "cat", column, some)
    return found


def test_the_page_begins_with_what_speaks_against_softcam(results, tmp_path):
    for folder in ("explanation", "images"):
        (tmp_path / folder).mkdir()
    page = write(results, tmp_path).read_text(encoding="utf-8")
    assert "**These claims do not hold here:**\n\n- A SoftCAM model is as accurate" in page.split("##")[0]
    assert "mean average precision, stride 32: -0.050 [-0.060, -0.040]" in page.split("##")[0]
    assert "| lasso | 0.0001 | 0 | 0.800 |" in page
    assert "| SoftCAM 32 against Grad-CAM | **+0.100 [+0.050, +0.150]** |" in page
    assert (tmp_path / "images" / "voc_study.png").stat().st_size > 10_000


def test_every_finding_has_its_cell(results):
    assert {each.verdict(results) for each in FINDINGS} == {"holds", "does not hold"}
    assert {f"black_box: {method}" for method in (*CHEAP, *SLOW)} <= set(MAPS)


def test_the_page_is_what_the_kept_results_give(tmp_path):
    for folder in ("explanation", "images"):
        (tmp_path / folder).mkdir()
    page = write(Results.load("voc"), tmp_path)
    assert page.read_text(encoding="utf-8") == (DOCS / "explanation" / page.name).read_text(encoding="utf-8")
