"""The tables and the page of the study on ImageNet, from made-up scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from imagenet_page import write_results_page
from imagenet_tables import (
    BELL,
    NAME,
    PAPER,
    PARTS_OF_ADCC,
    add_scores,
    bootstrap,
    findings,
    network_table,
    of_means,
    with_shared,
    without_complexity,
)
from study import DOCS, RESULTS, Interval, Results

NETWORKS = ("efficientnet_lite0", "efficientnet_lite2")
METRICS = ("pointing_game", *PARTS_OF_ADCC)
METHODS = ("grad_cam", "recipro_one_hot_softmax", PAPER, "score_cam", BELL)
PHOTOGRAPHS = 30


def made_up(bell=0.3):
    """Scores with the same noise for all methods: those of the bell are 0.5 + ``bell``, of the paper's maps 0.7."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(-0.1, 0.1, (PHOTOGRAPHS, 1))
    centre = dict.fromkeys(METHODS, 0.5) | {PAPER: 0.7, BELL: 0.5 + bell}
    columns = {
        (name, metric): (value + noise[:, 0] + rng.uniform(-0.01, 0.01, PHOTOGRAPHS))
        for name, value in centre.items()
        for metric in METRICS
    }
    scores = pd.DataFrame(columns, index=[f"p{i}" for i in range(PHOTOGRAPHS)])
    scores.loc[scores.index[12:], "score_cam"] = np.nan
    return scores


def results_of(scores):
    settings = {"hours": 1.0, "layers": ["bn2", "blocks.4"], "tolerance": 15, "side": 500, "networks": {}}
    results = Results(NAME, settings)
    for network in NETWORKS:
        add_scores(network, scores, results)
        add_scores(network_table(network, "right class"), scores.iloc[:20], results)
        results.add(network_table(network, "conversion"), "logits", "difference", Interval(1e-7, 0, 2e-7, 30))
        settings["networks"][network] = {
            "photographs": {"fast": PHOTOGRAPHS, "score_cam": 12},
            "right class": 20,
            "same_maps": [["grad_cam", "soft_cam"]],
            "health": {"pointing_game": ["works", "better than controls"]},
        }
    return results


def test_adcc_of_means_is_that_of_the_library():
    import torch

    from captum_softcam.metrics.functional import adcc_of_means

    parts = np.random.default_rng(1).uniform(size=(9, 3))
    parts[4, 1] = np.nan
    found = bootstrap(parts, of_means)
    assert found.mean == pytest.approx(adcc_of_means(*torch.tensor(parts).T).item())
    assert found.n == 8
    assert found.low < found.mean < found.high


def test_without_complexity_it_does_not_count():
    one, other = np.array([0.2, 0.8, 0.1]), np.array([0.2, 0.8, 0.9])
    assert without_complexity(one) == without_complexity(other) == pytest.approx(0.8)
    assert of_means(one) > of_means(other)


def test_differences_of_means_are_paired():
    """What makes a photograph hard for all methods must not widen the interval of their difference."""
    parts = np.random.default_rng(2).uniform(0.3, 0.7, (PHOTOGRAPHS, 3))
    better = parts + np.array([0, 0.05, 0])
    paired, alone = bootstrap(better, without_complexity, parts), bootstrap(parts, without_complexity)
    assert paired.low > 0
    assert paired.high - paired.low < 0.2 * (alone.high - alone.low)


def test_scores_are_shared_by_methods_with_the_same_maps():
    scores = pd.DataFrame({("grad_cam", "deletion"): [0.1, 0.2], ("soft_cam", "adcc"): [0.5, 0.6]})
    found = with_shared(scores, [("grad_cam", "soft_cam")])
    assert found["soft_cam", "deletion"].tolist() == [0.1, 0.2]
    assert ("random", "deletion") not in found


def test_findings_have_the_sign_of_their_claims():
    """Higher parts are better but for drop and complexity, which are higher for the paper's maps by 0.2, too."""
    results = results_of(made_up())
    verdicts = {}
    for each in findings(results):
        verdicts.setdefault(each.claim, set()).add(each.verdict(results))
    assert verdicts["recipro-complexity"] == {"does not hold"}
    assert verdicts["recipro-drop"] == {"holds"}
    assert verdicts["beats-controls"] == {"does not hold"}
    assert verdicts["same-logits"] == {"holds"}


@pytest.mark.parametrize(("bell", "words"), [(0.3, "clearly behind with Lite0 ("), (-0.3, "clearly ahead with Lite0 (")])
def test_what_speaks_against_the_maps_comes_first(bell, words, tmp_path):
    for folder in ("explanation", "images"):
        (tmp_path / folder).mkdir()
    page = write_results_page(results_of(made_up(bell)), tmp_path).read_text(encoding="utf-8")
    start = "- In the pointing game, Grad-CAM, compared with a bell in the middle of the picture, is "
    first = page.split("\n\n")[2]
    assert start + words in first
    assert first.startswith(start) == (bell > 0)
    assert "clearly behind" in first.partition("\n")[0]
    assert "| Score-CAM | 12 |" in page
    assert (tmp_path / "images/imagenet_study.png").stat().st_size > 10_000


def test_the_page_is_that_of_the_kept_results(tmp_path):
    if not (RESULTS / f"{NAME}.json").exists():
        pytest.skip("the study has not been run")
    for folder in ("explanation", "images"):
        (tmp_path / folder).mkdir()
    page = write_results_page(Results.load(NAME), tmp_path)
    assert page.read_text(encoding="utf-8") == (DOCS / "explanation" / page.name).read_text(encoding="utf-8")
