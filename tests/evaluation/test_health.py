"""The health of metrics: numbers by oracles, verdicts on metrics that are known, and the probes of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from comparisons import make_model, make_samples
from scipy import stats

from captum_softcam.evaluation import Comparison, compare_methods
from captum_softcam.evaluation.health import DESCRIBING, HealthInputs, counted, measure_health
from captum_softcam.evaluation.probes import PROBES
from captum_softcam.evaluation.statistics import krippendorff_alpha, rank_agreement, wilcoxon_p_values
from captum_softcam.metrics import METRICS, Metric

METHODS = ["good", "fair", "poor", "edge", "noise"]
CONTROLS = ["edge", "noise"]
TRUTH = np.array([1.0, 0.8, 0.6, 0.2, 0.0])


def scores_of(kind: str, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Scores (S, M): the truth with noise, noise alone, a value of the image alone, or the truth with a control ahead."""
    noise = rng.normal(size=(samples, len(METHODS)))
    own = rng.normal(size=(samples, 1))
    return {
        "truth": own + TRUTH + 0.3 * noise,
        "noise": noise,
        "blind": np.repeat(own, len(METHODS), axis=1),
        "edges": own + TRUTH + [0, 0, 0, 1.5, 0] + 0.3 * noise,
    }[kind]


def inputs(kind: str, samples: int, seed: int, probed: int = 10, category: str = "faithfulness", **changes):
    rng = np.random.default_rng(seed)
    scores = scores_of(kind, samples, rng)
    probes = {}
    for probe in PROBES:
        again = {
            "random_network": scores - 0.8 * (TRUTH > 0.5) + 0.3 * rng.normal(size=scores.shape),
            "seed": scores + 0.1 * rng.normal(size=scores.shape),
            "noise": scores + 0.1 * rng.normal(size=scores.shape),
            "alone": scores.copy(),
        }[probe]
        if kind == "noise" and probe in ("random_network", "seed"):
            again = rng.normal(size=scores.shape)
        if kind == "blind" and probe in ("random_network", "seed"):
            again = scores.copy()
        again[probed:] = np.nan
        probes[probe] = again[:, :, None]
    images = [f"i{i}" for i in range(samples)]
    given = {
        "scores": scores[:, :, None],
        "methods": METHODS,
        "metrics": ["m"],
        "images": images,
        "directions": np.ones(1),
        "categories": [category],
        "controls": CONTROLS,
        "same": (),
        "probes": probes,
        "errors": {},
    }
    return HealthInputs(**{**given, **changes})


def verdict(*arguments, **more):
    found = measure_health(inputs(*arguments, **more))["m"]
    return found.verdict, found.reason


def test_tau_is_that_of_pairs_one_by_one():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 4, (20, 6)).astype(float), rng.integers(0, 4, (20, 6)).astype(float)
    one[3, 2], other[4] = np.nan, 1.0
    expected = [oracles.kendall_tau(x.tolist(), y.tolist()) for x, y in zip(one, other, strict=True)]
    np.testing.assert_allclose(rank_agreement(one, other), expected, atol=1e-12)
    assert np.isnan(expected[4])
    assert expected[0] == pytest.approx(stats.kendalltau(one[0], other[0]).statistic)


def test_alpha_is_that_of_pairs_of_raters():
    scores = np.random.default_rng(1).normal(size=(4, 5, 3))
    scores[2, :, 1] = np.nan
    assert krippendorff_alpha(scores) == pytest.approx(oracles.ordinal_alpha(scores.tolist()))
    assert krippendorff_alpha(np.repeat(scores[:, :, :1], 3, axis=2)) == pytest.approx(1)
    assert np.isnan(krippendorff_alpha(scores[:, :, :1]))


def test_wilcoxon_without_any_difference():
    differences = np.array([[0, 1, np.nan], [0, 2, np.nan], [0, 3, np.nan], [0, -0.5, np.nan]], dtype=float)
    np.testing.assert_allclose(wilcoxon_p_values(differences), [1, oracles.wilcoxon_p([1, 2, 3, -0.5]), np.nan])


@pytest.mark.parametrize("direction", [1, -1])
def test_a_metric_that_is_the_truth_works(direction):
    given = inputs("truth", 24, 0)
    probes = {name: direction * scores for name, scores in given.probes.items()}
    flipped = dataclasses.replace(given, scores=direction * given.scores, directions=np.full(1, direction), probes=probes)
    found = measure_health(flipped)["m"]
    assert (found.verdict, found.fails) == ("works", False)
    assert found.controls["edge"].value == pytest.approx(TRUTH[:3].mean() - TRUTH[3], abs=0.15)
    assert found.random_network.value == pytest.approx(0.8, abs=0.2)
    assert found.iec_ar > 0.9
    assert found.seed.value > 0.7
    assert found.batch == 0


def test_what_fails_and_why():
    assert verdict("edges", 24, 0)[0] == "fails"
    assert "edge, which ignores the model, is clearly better" in verdict("edges", 24, 0)[1]
    assert verdict("blind", 12, 0) == ("fails", "it gives all maps of a sample the same score")
    assert "another seed" in verdict("noise", 48, 0)[1]
    given = inputs("truth", 24, 0)
    moved = dataclasses.replace(given, probes={**given.probes, "alone": given.probes["alone"] + 0.5})
    assert "other samples of the batch" in measure_health(moved)["m"].reason
    swapped = dataclasses.replace(given, scores=given.probes["random_network"], probes={"random_network": given.scores})
    reason = measure_health(dataclasses.replace(swapped, controls=[]))["m"].reason
    assert reason == "maps of a network with random weights are clearly better"


def test_what_cannot_be_told():
    assert verdict("truth", 4, 0)[0] == "cannot be told"
    assert verdict("truth", 6, 0)[1] == "6 images are too few to tell a method from a control, of 7 at least"
    assert "4 probed images are too few" in verdict("truth", 24, 0, probed=4)[1]
    assert "it was not probed" in verdict("truth", 24, 0, probes={})[1]
    assert (
        "no score of a network with random weights"
        in verdict("truth", 24, 0, probes={"noise": np.full((24, 5, 1), np.nan)})[1]
    )
    error = {"random_network": "ValueError: no weights"}
    assert "no weights" in verdict("truth", 24, 0, probes={}, errors=error)[1]
    assert "no control" in verdict("truth", 24, 0, controls=[])[1]
    assert verdict("truth", 24, 0, scores=np.full((24, 5, 1), np.nan))[1] == "it has no scores"


def test_six_images_suffice_for_one_method_alone():
    """With as many methods as have the best p-value of Holm's procedure at 5 %: 2 / 64 for one, 3 x 2 / 128 for three."""
    one = [0, 3, 4]
    given = inputs("truth", 6, 0)
    probes = {name: scores[:, one] for name, scores in given.probes.items()}
    alone = dataclasses.replace(given, scores=given.scores[:, one], methods=["good", *CONTROLS], probes=probes)
    assert measure_health(alone)["m"].verdict == "works"
    assert verdict("truth", 6, 0)[0] == "cannot be told"
    assert verdict("truth", 7, 0)[0] == "works"


def test_complexity_describes():
    assert verdict("edges", 24, 0, category="complexity")[0] == "describes"
    assert verdict("edges", 24, 0, category="axiomatic")[1].startswith("axioms describe a map")


@pytest.mark.parametrize("count", [12, 48])
def test_rates_of_wrong_verdicts(count):
    """Of 8 runs each; docs/how-to/trust_metrics.md has those of many more."""
    noise = [verdict("noise", count, seed)[0] for seed in range(8)]
    truth = [verdict("truth", count, seed)[0] for seed in range(8)]
    assert noise.count("works") == 0
    assert truth.count("fails") == 0
    assert truth.count("works") >= 7


@pytest.fixture(scope="module")
def probed(tmp_path_factory) -> tuple[Comparison, Path]:
    folder = tmp_path_factory.mktemp("probed") / "out"
    return run(folder=folder), folder


def run(methods=("grad_cam", "integrated_gradients", "random"), **more) -> Comparison:
    metrics = ["pixel_auc", "deletion", "faithfulness_correlation", "sparseness"]
    settings = {"layer": "backbone", "batch_size": 4, **more}
    return compare_methods(make_model(), make_samples(9), list(methods), settings.pop("metrics", metrics), **settings)


def test_a_run_is_probed_on_some_samples(probed):
    comparison, folder = probed
    probes = comparison.probes
    assert len(probes["sample"].unique()) == 8
    assert set(probes["probe"]) == set(PROBES)
    assert set(probes.query("probe == 'seed'")["metric"]) == {"faithfulness_correlation"}
    assert "sparseness" not in set(probes["metric"])
    assert "random" not in set(probes.query("probe == 'random_network'")["method"])
    assert set(Comparison.load(folder).health()["verdict"]) == set(comparison.health()["verdict"])
    keys = ["sample", "probe", "method", "metric"]
    loaded = Comparison.load(folder).probes
    np.testing.assert_array_equal(loaded.sort_values(keys)["score"], probes.sort_values(keys)["score"])


def test_alone_is_as_in_the_batch(probed):
    comparison, _ = probed
    health = comparison.health()
    assert health["batch"].drop("sparseness").max() < 1e-4
    assert (health["verdict"]["sparseness"], health["iec_nr"].isna()["pixel_auc"]) == ("describes", True)


def test_probes_do_not_depend_on_the_batch_size_and_can_be_switched_off(probed):
    keys = ["sample", "probe", "method", "metric"]
    one, other = (each.probes.set_index(keys)["score"].sort_index() for each in (probed[0], run(batch_size=9)))
    assert one.index.equals(other.index)
    np.testing.assert_allclose(one, other, atol=1e-5)
    without = run(probes=0, methods=["grad_cam", "random"], metrics=["pixel_auc"])
    assert not len(without.probes)
    assert "not probed" in without.health()["reason"]["pixel_auc"]


def test_an_error_of_a_probe_is_no_error_of_the_run():
    def alone(explanation):
        if len(explanation.maps) < 4:
            raise ValueError("three samples are too few")
        return explanation.maps.flatten(1).mean(1)

    metric = Metric("mean", "Mean", "faithfulness", True, "anyone2020", 0, alone)
    comparison = compare_methods(make_model(), make_samples(4), ["soft_cam", "random"], [metric], probes=3)
    assert not len(comparison.failures)
    assert "three samples are too few" in comparison.manifest["probe_errors"]["random_network"]
    assert "three samples are too few" in comparison.health()["reason"]["mean"]


def test_flat_maps_of_the_random_network_are_the_reason():
    model = make_model()

    def flat_when_random(network, images, _targets):
        trained = all(map(torch.equal, network.parameters(), model.parameters()))
        return images.mean(1, keepdim=True) * trained

    comparison = compare_methods(model, make_samples(2), {"mean": flat_when_random, "random": "random"}, ["pixel_auc"])
    assert "its map by mean is flat or not finite" in comparison.health()["reason"]["pixel_auc"]


def test_a_failing_metric_is_marked_and_left_out_of_the_mean_rank(probed):
    comparison = probed[0]
    scores = comparison.scores.copy()
    scores.loc[scores["metric"] == "deletion", "score"] = 0.5
    blind = dataclasses.replace(comparison, scores=scores, probes=comparison.probes.iloc[:0])
    assert blind.health()["verdict"]["deletion"] == "fails"
    ranks = blind.ranks()
    describing = [name for name, category in blind.categories.items() if category in DESCRIBING]
    assert describing  # they do not count, either
    counting = ranks.drop(columns=["deletion", "mean_rank", *describing])
    np.testing.assert_allclose(ranks["mean_rank"], counting.mean(axis=1))
    assert any("not count in the mean rank" in note for note in blind.view().notes())
    for text in (blind.to_markdown(), blind.to_latex(), blind.to_html()):
        assert "Deletion (fails)" in text
        assert "left out of the mean rank" in text
    assert "(fails)" not in comparison.to_markdown()
    assert METRICS["deletion"].title == "Deletion"


def test_metrics_that_describe_count_where_no_other_was_asked_for():
    assert counted({"a": "faithfulness", "b": "complexity", "c": "localisation"}, ["a"]) == ["c"]
    assert counted({"b": "complexity", "c": "robustness"}, []) == ["b", "c"]
    assert counted({"a": "faithfulness", "b": "complexity"}, ["a"]) == []


def test_a_sample_that_cannot_be_read_ends_a_strict_run_at_its_own_batch(tmp_path):
    samples = make_samples()

    class Lost(list):
        def __getitem__(self, index):
            if index >= 4:
                raise OSError("the disk is gone")
            return super().__getitem__(index)

    with pytest.raises(OSError, match="the disk is gone"):
        compare_methods(
            make_model(),
            Lost(samples),
            ["random"],
            ["pixel_auc"],
            batch_size=2,
            examples=0,
            strict=True,
            folder=tmp_path / "run",
        )
    assert len(list((tmp_path / "run" / "parts").iterdir())) == 2
