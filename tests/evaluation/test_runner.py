"""A whole comparison on a few tiny samples: what is scored, what is counted, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from captum_softcam.attr import LayerSoftCam
from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, compare_methods, explain_sample
from captum_softcam.metrics import METRICS
from captum_softcam.softcam import SoftCamModel, convert_to_softcam

FAST = ["soft_cam", "grad_cam", "random"]


@pytest.fixture
def model(net) -> SoftCamModel:
    return convert_to_softcam(net.float())


@pytest.fixture
def samples() -> list[Sample]:
    """Five samples of 16 x 24 pixels, the first of them without a mask."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(1, 16, 24, dtype=torch.bool)
    mask[:, 3:9, 5:20] = True
    images = torch.rand(5, 3, 16, 24, generator=generator)
    return [Sample(image, i % 4, mask if i else None, f"s{i}") for i, image in enumerate(images)]


def _sorted(comparison: Comparison) -> pd.Series:
    return comparison.scores.set_index(["sample", "method", "metric"])["score"].sort_index()


def test_one_row_per_sample_method_and_metric(model, samples):
    comparison = compare_methods(model, samples, batch_size=2)
    scores = comparison.scores
    assert {"sample", "method", "metric", "score", "target", "prediction"} <= set(scores.columns)
    assert len(scores) == 5 * 7 * 6 == len(scores.drop_duplicates(["sample", "method", "metric"]))
    category = scores["metric"].map(lambda name: METRICS[name].category)
    unmasked = (scores["sample"] == "s0") & (category == "localisation")
    assert scores.loc[unmasked, "score"].isna().all()
    faithful = scores.loc[category == "faithfulness", "score"]
    assert faithful.notna().all()
    assert set(comparison.costs) == set(comparison.methods)
    assert comparison.manifest["samples_with_mask"] == 4


def test_the_same_run_twice_gives_the_same_scores(model, samples):
    first, second = (_sorted(compare_methods(model, samples, FAST)) for _ in range(2))
    pd.testing.assert_series_equal(first, second)


def test_the_batch_size_changes_no_score_that_is_not_random(model, samples):
    metrics = [name for name in METRICS if name != "faithfulness_correlation"]
    one, all_ = (_sorted(compare_methods(model, samples, FAST, metrics, batch_size=size)) for size in (1, 5))
    pd.testing.assert_series_equal(one, all_, atol=1e-6)


def test_every_map_is_made_once_and_random_subsets_are_shared(model, samples, monkeypatch):
    maps, forwards = [], []
    attribute = LayerSoftCam.attribute

    def count(self: LayerSoftCam, *args: object, **kwargs: object) -> Tensor:
        maps.append(1)
        return attribute(self, *args, **kwargs)

    monkeypatch.setattr(LayerSoftCam, "attribute", count)
    model.evidence.register_forward_hook(lambda *_: forwards.append(1))
    compare_methods(model, samples, ["soft_cam", "random"], list(METRICS))
    assert len(maps) == 1
    # plain forward and map; 200 subsets and the whole image for both methods together; 32 steps for each
    assert len(forwards) == 2 + 201 + 2 * 32


def test_flat_maps_are_undefined_everywhere(model, samples):
    model.evidence[-1].weight.data.zero_()
    comparison = compare_methods(model, samples, ["soft_cam", "random"])
    assert comparison.scores.query("method == 'soft_cam'")["score"].isna().all()
    summary = comparison.summary()
    assert summary.loc["soft_cam", "count"].eq(0).all()
    assert not summary.loc["soft_cam", "best"].any()


def test_summary(model, samples):
    comparison = compare_methods(model, samples, FAST)
    summary = comparison.summary()
    assert (summary["low"] <= summary["mean"]).all()
    assert (summary["mean"] <= summary["high"]).all()
    assert (summary["count"] <= 5).all()
    for metric in comparison.metrics:
        column = summary.xs(metric, level="metric")
        best = column["mean"].max() if METRICS[metric].higher_is_better else column["mean"].min()
        np.testing.assert_allclose(column.loc[column["best"], "mean"], best, atol=1e-3)
        assert column["best"].any()


def test_the_interval_covers_the_mean_as_often_as_it_says():
    """Coverage of the bootstrap interval of 30 normal scores, over 200 draws: about 0.94, far from 0.5 or 1."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(200):
        table = pd.DataFrame({"method": "random", "metric": "pixel_auc", "score": rng.normal(size=30)})
        cell = Comparison(table, {}, {}).summary().iloc[0]
        hits += cell["low"] <= 0 <= cell["high"]
    assert 0.88 <= hits / 200 <= 0.98


def test_save(model, samples, tmp_path):
    comparison = compare_methods(model, samples, FAST, ["pixel_auc"], seed=3)
    comparison.save(tmp_path)
    scores = pd.read_csv(tmp_path / "scores.csv")
    np.testing.assert_allclose(scores["score"], comparison.scores["score"])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["seed"] == 3
    assert manifest["layer"] == "backbone"
    assert manifest["metrics"]["pixel_auc"]["quantus_class"] == "AUC"
    assert manifest["versions"]["quantus"]
    assert set(manifest["cost_in_forwards"]) == set(FAST)


def test_without_masks_only_faithfulness_is_measured(model, samples):
    bare = [Sample(s.image, s.target, None, s.identifier) for s in samples]
    comparison = compare_methods(model, bare, ["random"])
    assert comparison.metrics == ["region_perturbation", "faithfulness_correlation"]


def test_the_predicted_class_can_be_explained(model, samples):
    scores = compare_methods(model, samples, ["soft_cam"], ["pixel_auc"], explain="predicted").scores
    assert (scores["target"] == scores["prediction"]).all()
    assert scores["label"].tolist() == [0, 1, 2, 3, 0]


def test_progress_names_method_and_metric(model, samples, capsys):
    compare_methods(model, samples, ["random"], ["pixel_auc"], show_progress=True)
    assert "random: pixel_auc" in capsys.readouterr().err


def test_examples_are_samples_with_masks(model, samples):
    comparison = compare_methods(model, samples, FAST, ["pixel_auc"], batch_size=2, examples=2)
    assert [example.sample.identifier for example in comparison.examples] == ["s1", "s2"]
    assert all(attribution.shape == (1, 16, 24) for attribution in comparison.examples[0].maps.values())
    single = explain_sample(model, samples[1], FAST)
    for name in FAST:
        torch.testing.assert_close(single.maps[name], comparison.examples[0].maps[name], atol=1e-5, rtol=1e-4)


def _with(samples: list[Sample], **changes: object) -> list[Sample]:
    """The samples with the last one changed."""
    last = samples[-1]
    fields = {"image": last.image, "target": last.target, "mask": last.mask, "identifier": last.identifier}
    return [*samples[:-1], Sample(**{**fields, **changes})]


def test_wrong_samples_are_refused(model, samples):
    for changed, message in (
        ([], "there are no samples to compare on; give at least one."),
        (_with(samples, target=4), r"sample 's4' has class 4; the model gives 4 logits, so classes 0 to 3\."),
        (_with(samples, target=-1), "sample 's4' has class -1"),
        (_with(samples, image=torch.rand(3, 16, 20)), r"sample 's4' is \(16, 20\) pixels, the ones before \(16, 24\)"),
        (_with(samples, mask=torch.ones(1, 4, 4)), r"the mask of sample 's4' is \(4, 4\) pixels, its image \(16, 24\)"),
        (_with(samples, mask=torch.zeros(1, 16, 24)), "the mask of sample 's4' is empty; give None"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_methods(model, changed, ["random"], ["pixel_auc"])


def test_wrong_names_are_refused(model, samples):
    for arguments, message in (
        ({"methods": ["softcam"]}, r"method 'softcam' is unknown\. Closest: 'soft_cam'"),
        ({"metrics": ["pointing"]}, r"metric 'pointing' is unknown\. Closest: 'pointing_game'"),
        ({"layer": "backbone.blok"}, r"layer 'backbone.blok' is not in SoftCamModel\. Closest: 'backbone.block'"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_methods(model, samples, **arguments)


def test_wrong_models_are_refused(net, model, samples):
    net = net.float()
    with pytest.raises(ValueError, match=r"layer 'fc' gives \(1, 4\).*The last spatial layer is 'relu' \(1, 6, 8, 12\)"):
        compare_methods(net, samples, layer="fc")
    with pytest.raises(ValueError, match="method 'soft_cam' needs a SoftCAM model; got PooledNet"):
        compare_methods(net, samples, ["soft_cam"])
    with pytest.raises(ValueError, match=r"the model is in train mode .* Call model.eval\(\) first"):
        compare_methods(model.train(), samples)
    with pytest.raises(ValueError, match="Flatten has no layer that gives a spatial map"):
        compare_methods(nn.Flatten().eval(), samples)
