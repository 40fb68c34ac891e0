"""How far the ranks of methods move between baselines, and a comparison that runs with several."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, compare_methods
from captum_softcam.evaluation.batch import make_batch
from captum_softcam.evaluation.checks import find_metrics
from captum_softcam.evaluation.rank_shifts import rank_shifts
from captum_softcam.evaluation.statistics import mean_ranks

DELETION = {"higher_is_better": False, "title": "Deletion", "settings": {"perturb_baseline": "blur"}}
COLUMNS = {
    "sparseness": {"higher_is_better": True, "settings": {}},
    "deletion": DELETION,
    "deletion@mean": {**DELETION, "title": "Deletion (mean)", "settings": {"perturb_baseline": "mean"}},
    "deletion@black": {**DELETION, "settings": {"perturb_baseline": "black"}},
    "irof": {"higher_is_better": True, "settings": {"perturb_baseline": "mean"}},
}
METHODS = ["one", "two", "three", "four"]


def shifts(means: list[list[float]], noise: float = 0.0):
    """Scores of 20 samples around means of the methods under the columns."""
    made = np.array(means)[None] + noise * np.random.default_rng(0).normal(size=(20, 4, 5))
    ranks = mean_ranks(made.mean(0), np.array([1, -1, -1, -1, 1.0]))
    return rank_shifts(made, ranks, METHODS, COLUMNS)


def test_pairs_taus_and_the_largest_move():
    means = [[0, 0.1, 0.4, 0.1, 0], [0, 0.2, 0.2, 0.2, 0], [0, 0.3, 0.3, 0.3, 0], [0, 0.4, 0.1, 0.4, 0]]
    found = shifts(means)
    assert [each[:3] for each in found] == [
        ("deletion", "blur", "mean"),
        ("deletion", "blur", "black"),
        ("deletion", "mean", "black"),
    ]
    want = oracles.kendall([1, 2, 3, 4], [4, 2, 3, 1])
    assert [each.tau for each in found] == pytest.approx([want, 1, want])
    assert found[0][6:] == ("one", 1, 4)
    assert found[1].method == ""
    assert (found[0].low, found[0].high) == (want, want), "without noise, all resamples agree"


def test_ties_and_undefined_means():
    nan = math.nan
    found = shifts([[0, 0.1, 0.1, nan, 0], [0, 0.1, 0.2, nan, 0], [0, 0.3, nan, nan, 0], [0, 0.4, 0.4, nan, 0]])
    assert found[0].tau == pytest.approx(oracles.kendall([1.5, 1.5, 4], [1, 2, 3]))
    assert math.isnan(found[1].tau), "no rank, no tau"
    assert found[0].low <= found[0].tau


def test_intervals_widen_with_the_noise():
    means = [[0, 0.1 * i, 0.1 * i, 0.1 * i, 0] for i in range(4)]
    still, noisy = shifts(means, 0.01)[0], shifts(means, 0.5)[0]
    assert still.low == still.high == 1
    assert noisy.low < 0.9
    assert noisy.low <= noisy.tau <= noisy.high


def compared(**more) -> Comparison:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    samples = [Sample(image=torch.rand(1, 16, 16), mask=None, target=i % 3, identifier=f"sample {i}") for i in range(4)]
    columns = ["deletion", "sparseness", "insertion@uniform"]
    settings = {"layer": "1", "normalize": lambda images: (images - 0.5) / 0.2, "examples": 0, **more}
    return compare_methods(model.eval(), samples, ["grad_cam", "random", "edge_map"], columns, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("run") / "comparison"


@pytest.fixture(scope="module")
def comparison(folder) -> Comparison:
    return compared(perturb_baseline=["blur", "black"], folder=folder)


def test_a_comparison_with_two_baselines(comparison):
    assert comparison.metrics == ["deletion", "deletion@black", "sparseness", "insertion@uniform"]
    assert comparison.titles["deletion@black"] == "Deletion (black)"
    assert comparison.manifest["metrics"]["deletion@black"]["settings"]["perturb_baseline"] == "black"
    assert comparison.failures.empty
    found = comparison.rank_shifts()
    ranks = comparison.ranks()
    want = oracles.kendall(ranks["deletion"].tolist(), ranks["deletion@black"].tolist())
    assert found[["metric", "baseline", "other"]].to_numpy().tolist() == [["deletion", "blur", "black"]]
    assert found["tau"].item() == pytest.approx(want)
    note = next(note for note in comparison.view().notes() if note.startswith("ranks under"))
    assert note.startswith("ranks under deletion: blur and black agree with tau ")
    assert note in comparison.to_markdown().replace("\\", "")
    assert note in comparison.to_html()


def test_another_baseline_is_not_resumed(comparison, folder):
    assert compared(perturb_baseline=["blur", "black"], folder=folder, resume=True).metrics == comparison.metrics
    with pytest.raises(ValueError, match="metrics"):
        compared(perturb_baseline=["blur", "mean"], folder=folder, resume=True)


def test_black_is_black_before_normalisation():
    samples = [Sample(image=torch.rand(1, 8, 8), mask=None, target=0, identifier="one")]
    made, _ = make_batch(nn.Flatten(), samples, (8, 8), lambda images: (images - 0.5) / 0.2, "true")
    torch.testing.assert_close(made.replacement("black"), torch.full((1, 1, 8, 8), -2.5))


def test_find_metrics():
    names = [metric.name for metric in find_metrics(["deletion", "sparseness", "irof", "insertion@black"], ["mean", "blur"])]
    assert names == ["deletion@mean", "deletion", "sparseness", "irof", "irof@blur", "insertion@black"]
    assert [metric.name for metric in find_metrics(["deletion", "deletion@mean"], ["blur", "mean"])] == names[1::-1]
    for metrics, baseline, message in (
        (["sparseness"], "mean", "perturb_baseline is 'mean', but no metric has a choice of it"),
        (["sparseness"], "maen", "baseline 'maen' is unknown"),
        (["deletion"], [], "perturb_baseline is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            find_metrics(metrics, baseline)
