"""Metrics of Quantus as columns of a comparison: what they are given, what they return, and what is refused."""

from __future__ import annotations

import json
import pickle
import random
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from captum_softcam import metrics as ours
from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, compare_methods
from captum_softcam.metrics import METRICS, VERDICTS, find_metric, quantus_column
from captum_softcam.metrics._quantus.columns import _as_json, _value

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what other packages say while Quantus imports them
    import quantus
    from quantus.helpers.enums import EvaluationCategory, ScoreDirection

METHODS = ["integrated_gradients", "random"]


class Net(nn.Module):
    """Four classes of photographs 16 x 12, by means of edges."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 5, 3, padding=1)
        self.fc = nn.Linear(5, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.first(x).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return Net().eval()


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(1, 16, 12)
    mask[:, 4:9, 3:11] = 1
    return [Sample(torch.rand(3, 16, 12, generator=generator) + 0.1, i, mask, f"sample {i}") for i in range(3)]


class Base(quantus.Metric):
    """A metric of the user's own; what it is called with is kept by the class, because the instance is a copy."""

    name = "Mine"
    score_direction = ScoreDirection.HIGHER
    evaluation_category = EvaluationCategory.ROBUSTNESS
    seen: list[dict]

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(
            abs=False,
            normalise=False,
            normalise_func=None,
            normalise_func_kwargs=None,
            return_aggregate=False,
            aggregate_func=np.mean,
            default_plot_func=None,
            disable_warnings=False,
            display_progressbar=True,
        )
        self.weight = weight


def _with_weight(self, weight):
    Base.__init__(self, weight)


def made(answer, **attributes) -> type[Base]:
    """A class whose evaluate_batch is ``answer``."""
    return type("Mine", (Base,), {"evaluate_batch": answer, **attributes})


def scores(net, samples, metric, methods=METHODS, **settings) -> dict[str, list[float]]:
    comparison = compare_methods(net, samples, methods, {"column": metric}, examples=0, **settings)
    return {name: table["score"].tolist() for name, table in comparison.scores.groupby("method")}


def test_a_column_has_the_name_the_direction_and_the_settings_of_the_metric():
    column = quantus_column(quantus.MaxSensitivity(nr_samples=7, disable_warnings=True))
    assert (column.name, column.title, column.category) == (
        "quantus:MaxSensitivity",
        "Max-Sensitivity (Quantus)",
        "robustness",
    )
    assert (column.origin, column.higher_is_better, column.needs_mask) == ("quantus", False, False)
    settings = json.loads(json.dumps(dict(column.settings)))
    assert settings["settings"]["nr_samples"] == 7
    assert settings["settings"]["perturb_func"]["lower_bound"] == 0.2
    assert quantus_column("quantus:AUC").needs_mask
    assert quantus_column(quantus.RegionPerturbation).higher_is_better, "which Quantus declares the other way round"
    assert not quantus_column(quantus.RegionPerturbation(order="lerf", disable_warnings=True)).higher_is_better


def test_names_classes_instances_and_a_mapping_are_accepted(net, samples):
    metrics = ["deletion", "quantus:Complexity", quantus.Sparseness, quantus.EffectiveComplexity(disable_warnings=True)]
    comparison = compare_methods(net, samples, ["random"], metrics, examples=0)
    assert comparison.metrics == ["deletion", "quantus:Complexity", "quantus:Sparseness", "quantus:EffectiveComplexity"]
    assert comparison.scores["score"].notna().all()
    two = {"fine": quantus.EffectiveComplexity(eps=1e-5), "coarse": quantus.EffectiveComplexity(eps=0.5)}
    fine, coarse = compare_methods(net, samples[:1], ["random"], two, examples=0).scores["score"]
    assert coarse < fine


def test_names_may_stand_within_a_list(net, samples):
    metrics = ["complexity", {"fine": quantus.EffectiveComplexity(eps=1e-5), "coarse": quantus.EffectiveComplexity(eps=0.5)}]
    comparison = compare_methods(net, samples[:1], ["random"], metrics, examples=0)
    assert comparison.metrics == ["complexity", "fine", "coarse"]


@pytest.mark.parametrize(
    ("metric", "name", "settings"),
    [
        (ours.Irof, "irof", {}),
        (ours.PointingGame(tolerance=2), "pointing_game", {"tolerance": 2}),
        (ours.Deletion(perturb_baseline="mean", steps=4, patches=None), "deletion@mean", {"steps": 4}),
        (ours.PixelFlipping(return_auc_per_sample=True, disable_warnings=True), "pixel_flipping", {}),
        (ours.AvgSensitivity(nr_samples=3), "avg_sensitivity", {"runs": 3}),
        (ours.ROAD(fractions=np.array([0.25, 0.5])), "road", {"fractions": [0.25, 0.5]}),
        (ours.TopKIntersection(k=0.25), "top_k_intersection", {"k": 0.25}),
    ],
)
def test_our_classes_are_our_rows(metric, name, settings):
    column = quantus_column(metric)
    row = find_metric(name)
    assert column == replace(row, settings={**row.settings, **settings})
    assert quantus_column(metric, "mine") == replace(column, name="mine", title="mine")


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (ours.Deletion(abs=True, patches=4), "Deletion cannot be a column with abs and patches"),
        (ours.Deletion(perturb_baseline=0.5), "with perturb_baseline"),
        (ours.PixelFlipping(features_in_step=4), "with features_in_step"),
        (ours.TopKIntersection(k=5), "with k"),
        (ours.MPRT(layer_order="independent"), "with layer_order"),
        (ours.Focus(), "Focus cannot be a column, because it needs custom_batch"),
    ],
)
def test_our_classes_with_other_arguments_are_refused(metric, message):
    with pytest.raises(ValueError, match=message):
        quantus_column(metric)


def test_a_subclass_inherits_what_is_known_of_its_base():
    class Mine(quantus.RegionPerturbation):
        """Measures as its base does, so that its declared direction is as wrong."""

    class Turned(Mine):
        score_direction = ScoreDirection.LOWER

    class Grouped(quantus.Sufficiency):
        """As dependent on the batch."""

    class Alone(quantus.Sufficiency):
        def evaluate_batch(self, a_batch, **_):
            return [1.0] * len(a_batch)

    assert quantus_column(Mine).higher_is_better
    assert quantus_column(Mine).title == "Mine"
    assert not quantus_column(Turned).higher_is_better
    with pytest.raises(ValueError, match="cannot be a column"):
        quantus_column(Grouped)
    assert quantus_column(Alone).note == ""


def test_a_note_says_nothing_that_a_column_is_spared():
    notes = {name: quantus_column(name).note for name, each in VERDICTS.items() if each.column and each.spared}
    assert len(notes) > 8
    assert not [name for name, note in notes.items() if VERDICTS[name].spared in note]
    assert notes["MonotonicityCorrelation"] == ""
    assert not [name for name, note in notes.items() if re.search(r"\bbatch|1000 classes|for all samples", note)]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["quantus:PointingGam"], "Quantus has no metric 'quantus:PointingGam'. Closest: 'quantus:PointingGame'"),
        (["PointingGame"], "metric 'PointingGame' is unknown. Closest: 'quantus:PointingGame'"),
        ([quantus.Sufficiency], "Sufficiency of Quantus cannot be a column: The score of a sample depends"),
        ([quantus.SensitivityN(disable_warnings=True)], "cannot be a column: .* Use 'sensitivity_n'."),
        ([quantus.AUC(disable_warnings=True), quantus.AUC(abs=True, disable_warnings=True)], "two metrics are called"),
        ([made(None, score_direction=None)], "Mine does not declare whether higher is better"),
        ([made(None, __init__=_with_weight)], "Mine cannot be made without arguments"),
    ],
)
def test_what_cannot_be_a_column_is_refused_before_any_map(net, samples, metrics, message):
    with pytest.raises(ValueError, match=message):
        compare_methods(net, samples, ["random"], metrics)


def test_what_is_no_metric_is_refused(net, samples):
    with pytest.raises(
        TypeError, match=r"a metric is a name, a Metric, or a metric of Quantus as a class or an instance; got 3"
    ):
        compare_methods(net, samples, ["random"], [3])


def test_each_sample_is_measured_by_itself_with_the_map_and_nothing_leaks(net, samples):
    """The metric writes into all that it is given, and every sample and method finds it as it was."""
    calls = []

    def answer(self, model, x_batch, y_batch, a_batch, **_):
        state = np.random.rand(), random.random(), torch.rand(()).item()
        calls.append((len(x_batch), x_batch.copy(), int(y_batch[0]), a_batch.copy(), model.predict(x_batch), state))
        self.weight += 1
        for array in (x_batch, a_batch):
            array[:] = 0
        return [self.weight]

    before = np.random.get_state()[1].copy(), random.getstate()
    metric = made(answer)(2.0)
    found = scores(net, samples, metric, batch_size=3)
    assert found == {"integrated_gradients": [3.0] * 3, "random": [3.0] * 3}, "a fresh copy each"
    assert metric.weight == 2
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert before[1] == random.getstate()
    assert [call[2] for call in calls] == [0, 1, 2] * 2
    assert {call[0] for call in calls} == {1}
    assert len({call[5] for call in calls}) == 1, "the same random numbers for all"
    for call, sample in zip(calls, [*samples, *samples], strict=True):
        np.testing.assert_array_equal(call[1][0], sample.image.numpy())
        np.testing.assert_allclose(call[4], net(sample.image[None]).detach().numpy(), rtol=1e-5)
    assert all(np.abs(call[3]).max() > 0 for call in calls)


def test_the_maps_of_other_images_and_models_are_those_of_the_method(net, samples):
    """Of the image itself the map of the column; of another image its map, with new numbers for a random method."""
    found = []

    def answer(self, model, x_batch, y_batch, a_batch, **_):
        again = self.explain_batch(model, x_batch, y_batch)
        other = self.explain_batch(model, x_batch * 0.5, y_batch)
        scale = np.abs(a_batch).max()
        found.append((np.abs(again - a_batch).max() / scale, np.abs(other - a_batch).max() / scale))
        return [0.0]

    scores(net, samples, made(answer))
    assert all(same < 1e-5 < 1e-2 < other for same, other in found), found


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([True], 1.0),
        ([[0.0, 1.0, 1.0]], 0.75),
        (np.array([[0.0, 1.0, 1.0]]), 0.75),
        ([np.nan], np.nan),
        ([{"a": 1.0, "b": 3.0}], 2.0),
        (torch.tensor([2.0], requires_grad=True), 2.0),
    ],
)
def test_curves_and_truth_values_become_a_number(net, samples, answer, expected):
    found = scores(net, samples[:1], made(lambda *_, **__: answer), ["random"])["random"]
    np.testing.assert_allclose(found, [expected])


@pytest.mark.parametrize("result", [[None], ["high"], ["1"], None])
def test_what_is_no_number_is_said(result):
    with pytest.raises(TypeError, match=r"it returns .* of one sample; expected one value, or one curve"):
        _value(result)


def test_one_sample_that_fails_costs_the_others_nothing(net, samples):
    def answer(_, y_batch, **__):
        if y_batch[0] == 1:
            raise AssertionError("not this one")
        return [float(y_batch[0])] if y_batch[0] else [1.0, 2.0]

    comparison = compare_methods(net, samples, ["random"], [made(answer), "deletion"], examples=0)
    found = comparison.scores.query("metric == 'quantus:Mine'")["score"].tolist()
    np.testing.assert_array_equal(found, [np.nan, np.nan, 2.0])
    failures = comparison.failures[["sample", "metric", "error"]].to_numpy().tolist()
    assert failures == [
        ["sample 0", "quantus:Mine", "ValueError: it returns 2 values of one sample; expected one value, or one curve"],
        ["sample 1", "quantus:Mine", "AssertionError: not this one"],
    ]
    assert "failed on 2 of 3 samples" in " ".join(comparison.view().notes())
    assert comparison.scores.query("metric == 'deletion'")["score"].notna().all()


def test_what_quantus_refuses_is_undefined_with_the_reason(net, samples):
    def negative(_, images, __):
        return -images[:, :1] - 1

    comparison = compare_methods(net, samples, {"negative": negative}, ["quantus:AUC"], examples=0)
    assert comparison.scores["score"].isna().all()
    assert comparison.failures["error"].unique().tolist() == [
        "AssertionError: Attributions should not all be less than zero"
    ]


def test_a_metric_of_magnitudes_gets_them(net, samples):
    """Quantus refuses a map below 0 before it takes the magnitudes, which are all that the metric reads."""
    signs = {"negative": lambda _, images, __: -images[:, :1], "positive": lambda _, images, __: images[:, :1]}
    found = scores(net, samples, "quantus:Complexity", signs)
    assert found["negative"] == found["positive"]
    assert np.isfinite(found["negative"]).all()


def test_a_verdict_is_said_beside_the_column(net, samples):
    wrong = quantus.TopKIntersection(k=20, disable_warnings=True)
    comparison = compare_methods(net, samples[:1], ["random"], [wrong, "quantus:AUC"], examples=0)
    title, note = quantus_column(wrong).title, "Reads 1000 positions whatever the size of the mask"
    assert any(line.startswith(f"{title}: {note}") for line in comparison.view().notes())
    assert all(note in table for table in (comparison.to_markdown(), comparison.to_html(), comparison.to_latex()))
    assert not any("AUC (Quantus):" in line for line in comparison.view().notes()), "which is right as it is"


def test_one_column_of_the_default_is_by_quantus(net, samples):
    comparison = compare_methods(net, samples, ["random"], layer="first", examples=0)
    origins = {name: entry["origin"] for name, entry in comparison.manifest["metrics"].items()}
    assert [name for name, origin in origins.items() if origin == "quantus"] == ["quantus:Complexity"]
    assert comparison.scores["score"].notna().all()


def test_a_sample_without_a_mask_has_no_score_in_localisation(net, samples):
    some = [samples[0], replace(samples[1], mask=None)]
    found = compare_methods(net, some, ["random"], ["quantus:AUC"], examples=0)
    assert found.scores["score"].notna().tolist() == [True, False]
    assert not len(found.failures)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("asked", [True, False])
def test_probabilities_are_those_of_the_comparison(samples, kind, asked):
    net = Net(classes=1 if kind == "sigmoid" else 4).double().eval()
    found = []

    def answer(_, model, x_batch, **__):
        found.append(model.predict(x_batch)[0])
        return [0.0]

    def call(self, *arguments, softmax=True, **more):
        return Base.__call__(self, *arguments, softmax=softmax, **more)

    doubled = [replace(sample, image=sample.image.double(), target=i % 2) for i, sample in enumerate(samples[:2])]
    metric = made(answer, __call__=call) if asked else made(answer)
    comparison = compare_methods(net, doubled, ["random"], [metric], scores=kind, examples=0)
    assert not len(comparison.failures)
    logits = net(torch.stack([sample.image for sample in doubled])).detach()
    logits = torch.cat([-logits, logits], 1) if kind == "sigmoid" else logits
    probabilities = {"softmax": logits.softmax(1), "sigmoid": logits.sigmoid(), "identity": logits}[kind]
    # Quantus passes images in single precision.
    np.testing.assert_allclose(np.stack(found), (probabilities if asked else logits).numpy(), rtol=1e-5)


def test_a_hook_that_quantus_leaves_behind_is_not_on_the_model_of_the_user(samples):
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    net = Net()
    net.first = nn.Sequential(net.first, Pair(), nn.Identity())
    net.first[2].forward = lambda pair: pair[0]
    net.eval()
    metric = quantus.RelativeRepresentationStability(nr_samples=1, disable_warnings=True)
    comparison = compare_methods(net, samples[:1], ["random"], [metric], examples=0)
    assert "tuple" in comparison.failures["error"][0], "Quantus fails with its hooks in place"
    assert not any(module._forward_hooks for module in net.modules())


def test_a_softmax_within_the_model_is_left_there(samples):
    """Quantus takes the last softmax among the modules for that of the output, and removes it."""
    net = Net()
    net.attention = nn.Softmax(1)
    net.forward = lambda x: net.fc(net.attention(net.first(x)).mean((2, 3)))
    found = []

    def answer(_, model, x_batch, **__):
        found.append(model.predict(x_batch)[0])
        return [0.0]

    scores(net.eval(), samples[:1], made(answer), ["random"])
    np.testing.assert_allclose(found[0], net(samples[0].image[None])[0].detach().numpy(), rtol=1e-5)


def test_a_mean_over_the_randomised_layers_leaves_the_trained_network_out(net, samples):
    by_layer = quantus.MPRT(disable_warnings=True, normalise=False, abs=False)
    found = scores(net, samples[:1], by_layer, ["integrated_gradients"])["integrated_gradients"]
    maps = []

    def answer(self, model, x_batch, y_batch, **_):
        layers = model.get_random_layer_generator(order="top_down", seed=42)
        maps.append([self.explain_batch(each, x_batch, y_batch).ravel() for _, each in layers])
        maps.append(self.explain_batch(model, x_batch, y_batch).ravel())
        return [0.0]

    scores(net, samples[:1], made(answer), ["integrated_gradients"])
    ranks = [np.argsort(np.argsort(each)) for each in (maps[1], *maps[0])]
    expected = np.mean([np.corrcoef(ranks[0], each)[0, 1] for each in ranks[1:]])
    np.testing.assert_allclose(found, [expected], atol=1e-3)


def test_names_that_numpy_has_removed_are_there_for_quantus_alone(net, samples):
    before = hasattr(np, "trapz"), hasattr(np, "NaN")
    metric = quantus.PixelFlipping(features_in_step=48, return_auc_per_sample=True, disable_warnings=True)
    assert np.isfinite(scores(net, samples[:1], metric, ["random"])["random"]).all()
    assert (hasattr(np, "trapz"), hasattr(np, "NaN")) == before


def test_a_resumed_run_refuses_other_settings(net, samples, tmp_path):
    folder = tmp_path / "run"
    whole = compare_methods(net, samples, ["random"], [quantus.EffectiveComplexity(eps=0.1)], folder=folder, examples=0)
    assert Comparison.load(folder).scores.equals(whole.scores)
    same = [quantus.EffectiveComplexity(eps=0.1)]
    assert compare_methods(net, samples, ["random"], same, folder=folder, resume=True, examples=0).scores.equals(
        whole.scores
    )
    other = [quantus.EffectiveComplexity(eps=0.2)]
    with pytest.raises(ValueError, match=r"started with metrics quantus:EffectiveComplexity settings settings eps 0.1"):
        compare_methods(net, samples, ["random"], other, folder=folder, resume=True, examples=0)


def test_settings_are_json_that_tells_values_apart():
    def value(thing):
        return json.dumps(_as_json(thing))

    assert value(lambda x: x + 1) != value(lambda x: x + 2)
    assert value(np.arange(3)) == value(torch.arange(3).double().numpy().astype(np.int64)) != value(np.arange(4))
    assert value(float("nan")) == '"nan"'
    assert value(np.float32(0.5)) == "0.5"
    assert value({1: (True, None)}) == '{"1": [true, null]}'
    assert value(np.mean) == '"numpy.mean"'
    assert value(lambda x: x.max()) != value(lambda x: x.min()), "which differ in a name alone"
    weighted = [lambda x, w=weight: x * w for weight in (1, 2, 1)]
    assert value(weighted[0]) != value(weighted[1])
    assert value(weighted[0]) == value(weighted[2])

    def closed(weight):
        return lambda x: sorted(x, key=lambda each: each * weight)

    assert value(closed(1)) != value(closed(2))
    assert value(closed(1)) == value(closed(1))
    again = [eval("lambda a: [x for x in a if (lambda y: y in {'a', 'b'})(x)]") for _ in range(2)]
    assert value(again[0]) == value(again[1]), "wherever its code is in memory"
    assert value({"b", "a"}) == value({"a", "b"}) != value({"a"})
    assert value(Path("a")) != value(Path("b"))
    assert value(b"a") != value(b"b")


def test_a_column_is_pickled_for_the_workers_of_a_cluster():
    column = pickle.loads(pickle.dumps(quantus_column(quantus.MPRT(disable_warnings=True))))
    assert column.name == "quantus:MPRT"
    assert column.settings == quantus_column(quantus.MPRT).settings


def test_equal_to_ours_where_quantus_is_right(net, samples):
    """Pixel AUC and rank accuracy of maps without ties."""
    pairs = {"pixel_auc": quantus.AUC, "relevance_rank_accuracy": quantus.RelevanceRankAccuracy}
    theirs = {name: cls(normalise=False, disable_warnings=True) for name, cls in pairs.items()}
    ours = compare_methods(net, samples, METHODS, [*pairs], examples=0).scores["score"]
    found = compare_methods(net, samples, METHODS, theirs, examples=0).scores["score"]
    np.testing.assert_allclose(found, ours, rtol=1e-5)
    assert all(METRICS[name].higher_is_better == quantus_column(each).higher_is_better for name, each in theirs.items())
