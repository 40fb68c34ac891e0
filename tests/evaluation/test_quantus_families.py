"""Quantus' robustness, randomisation, axiomatic and complexity families run through the adapter, as the guide to them says.

Where Quantus 0.6 does something else than it says, a test says so: when one of these fails after an update, the guide can
drop a warning.
"""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from captum_softcam.attr import LayerReciproCam
from captum_softcam.evaluation import LayerExplainFunc
from captum_softcam.softcam import convert_to_softcam

GUIDE = Path(__file__).parents[2] / "docs/how-to/quantus.md"
RAW = {"abs": False, "normalise": False}


@pytest.fixture(scope="module")
def quantus():
    return pytest.importorskip("quantus")


@pytest.fixture(scope="module")
def guide():
    """The names that the guide's code leaves behind."""
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 8
    names: dict[str, object] = {}
    torch.manual_seed(0)  # of the guide's random model
    for block in blocks:
        exec(block, names)
    return names


def test_the_guides_scores_are_finite(guide):
    families = [guide["robustness"], guide["randomisation"], guide["by_layer"], guide["complexity"]]
    assert [len(family) for family in families] == [8, 4, 42, 3]
    for family in families:
        for name, scores in family.items():
            assert np.shape(scores) == (4,), name
            assert np.isfinite(np.asarray(scores, float)).all(), name


def test_the_guides_columns_have_scores(guide):
    comparison = guide["comparison"]
    assert comparison.metrics == ["insertion", "quantus:Sparseness", "quantus:MaxSensitivity", "quantus:RandomLogit"]
    assert comparison.scores.groupby("metric")["score"].apply(lambda scores: scores.notna().any()).all()


def test_the_guides_scores_mean_what_it_says(guide):
    robust = guide["robustness"]
    assert (np.array(robust["MaxSensitivity"]) >= robust["AvgSensitivity"]).all()
    random = guide["randomisation"]
    np.testing.assert_allclose(guide["by_layer"]["original"], 1)
    np.testing.assert_allclose(random["MPRT"], guide["by_layer"]["backbone.conv1"])  # the first layer is drawn last
    np.testing.assert_allclose(
        guide["order"], random["MPRT"], atol=0.01
    )  # one-hot Recipro-CAM is CAM, up to rounding of ties
    assert guide["gap"] < 1e-5


@pytest.fixture
def model(net):
    return convert_to_softcam(net.float())


IMAGES = np.random.default_rng(0).random((4, 3, 16, 24), dtype=np.float32)
CLASSES = np.array([0, 3, 1, 2])
EXPLAIN = {
    name: LayerExplainFunc(name, None if name == "soft_cam" else "backbone.relu")
    for name in ("recipro_cam", "soft_cam", "grad_cam")
}


def _score(metric, model, explain_func, **call):
    np.random.seed(0)
    return metric(model=model, x_batch=IMAGES.copy(), y_batch=CLASSES, channel_first=True, explain_func=explain_func, **call)


@pytest.mark.parametrize("method", EXPLAIN)
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("MaxSensitivity", {"nr_samples": 2}),
        ("AvgSensitivity", {"nr_samples": 2}),
        ("LocalLipschitzEstimate", {"nr_samples": 2}),
        ("Continuity", {"nr_steps": 3, "abs": False}),
        ("Consistency", {}),
        ("RelativeInputStability", {"nr_samples": 2}),
        ("RelativeOutputStability", {"nr_samples": 2}),
        ("RelativeRepresentationStability", {"nr_samples": 2}),
        ("MPRT", {"return_last_correlation": True, **RAW}),
        ("EfficientMPRT", {}),
        ("RandomLogit", {"num_classes": 4}),
        ("Complexity", {}),
        ("EffectiveComplexity", {}),
        ("Sparseness", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_metric_that_runs_gives_finite_scores(quantus, model, name, settings, method):
    def lifted(model, images, targets):  # for evidence that is negative everywhere, which is refused
        maps = EXPLAIN[method].explain(model, images, targets)
        return maps - maps.amin((1, 2, 3), keepdim=True)

    scores = _score(getattr(quantus, name)(disable_warnings=True, **settings), model, LayerExplainFunc(lifted))
    assert np.shape(scores) == (4,)
    assert np.isfinite(np.asarray(scores, float)).all()


def test_sensitivity_is_the_change_of_the_map(quantus, model):
    """One sample of noise, computed literally."""
    explain = EXPLAIN["grad_cam"]
    scores = _score(quantus.MaxSensitivity(nr_samples=1, lower_bound=0.1, disable_warnings=True), model, explain)
    np.random.seed(0)
    noisy = IMAGES + np.random.uniform(-0.1, 0.1, IMAGES.reshape(4, -1).shape).reshape(IMAGES.shape)
    for i in range(4):
        before = explain(model, IMAGES, CLASSES)[i].ravel().tolist()
        after = explain(model, noisy, CLASSES)[i].ravel().tolist()
        change = math.sqrt(sum((a - b) ** 2 for a, b in zip(before, after, strict=True)))
        assert scores[i] == pytest.approx(change / math.sqrt(sum(a**2 for a in before)), rel=1e-4)


def test_a_random_head_gives_another_map(quantus, model):
    """MPRT's score is the rank correlation between the maps of the model and of the copy that it hands in."""
    metric = quantus.MPRT(disable_warnings=True, **RAW)
    scores = _score(metric, model, EXPLAIN["recipro_cam"])
    other = copy.deepcopy(model)
    torch.manual_seed(metric.seed + 1)
    other.evidence[0].reset_parameters()
    images, targets = torch.as_tensor(IMAGES), torch.as_tensor(CLASSES)
    for i in range(4):
        maps = []
        for each in (model, other):
            found = LayerReciproCam(each, each.backbone.relu).attribute(images[i : i + 1], target=int(targets[i]))
            maps.append(nn.functional.interpolate(found, (16, 24), mode="bilinear").flatten().tolist())
        assert scores["evidence.0"][i] == pytest.approx(oracles.spearman(*maps), abs=1e-3)
        assert scores["original"][i] == pytest.approx(1)
        assert scores["evidence.0"][i] < 0.99


def test_a_control_does_not_see_that_the_model_is_random(quantus, model):
    scores = _score(quantus.MPRT(disable_warnings=True, **RAW), model, LayerExplainFunc("edge_map"))
    np.testing.assert_allclose(list(scores.values()), 1)


def test_an_instance_explains_the_model_that_it_was_built_with(quantus, model):
    own = LayerExplainFunc(LayerReciproCam(model, model.backbone.relu))
    scores = _score(quantus.MPRT(disable_warnings=True, **RAW), model, own)
    np.testing.assert_allclose(list(scores.values()), 1)


def test_the_mean_over_layers_takes_the_untouched_model_along(quantus, model):
    mean = _score(quantus.MPRT(disable_warnings=True, return_average_correlation=True, **RAW), model, EXPLAIN["grad_cam"])
    layers = _score(quantus.MPRT(disable_warnings=True, **RAW), model, EXPLAIN["grad_cam"])
    assert "original" in layers
    np.testing.assert_allclose(mean, np.mean(list(layers.values()), axis=0))


@pytest.mark.filterwarnings("ignore:Using quantus 'explain' function")
def test_smooth_mprt_does_not_call_the_function(quantus, model):
    def never(**_):
        raise AssertionError("it was called")

    scores = _score(quantus.SmoothMPRT(nr_samples=2, disable_warnings=True), model, never)
    assert np.isfinite(list(scores.values())).all()


def test_random_logit_draws_among_a_thousand_classes(quantus, model):
    with pytest.raises(AssertionError, match=r"target \d+ is out of range for scores \(N, 4\)"):
        _score(quantus.RandomLogit(disable_warnings=True), model, EXPLAIN["recipro_cam"])


def test_continuity_knows_no_nan_with_numpy_2(quantus, model):
    metric = quantus.Continuity(nr_steps=3, return_nan_when_prediction_changes=True, disable_warnings=True)
    with pytest.raises(AttributeError, match=r"np\.NaN"):
        _score(metric, model, EXPLAIN["grad_cam"])


@pytest.mark.parametrize(("steps", "blank"), [(12, True), (10, False)])
def test_continuity_ends_with_a_blank_frame(quantus, model, steps, blank):
    """From -24 pixels, the width, 12 steps of 4 end at 24, 10 steps of 4 at 16."""
    seen = []

    def spy(model, inputs, targets, **_):
        seen.append(bool((np.ptp(inputs, axis=(1, 2, 3)) == 0).all()))
        return EXPLAIN["grad_cam"](model, inputs, targets)

    _score(quantus.Continuity(nr_steps=steps, disable_warnings=True), model, spy)
    assert seen[-1] == blank
    width = 224
    assert 28 * ((2 * width + 1) // 28) - width == width  # the default
    assert 27 * ((2 * width + 1) // 27) - width < width


def test_the_noise_of_relative_stabilities_only_brightens(quantus):
    for name in ("RelativeInputStability", "RelativeOutputStability", "RelativeRepresentationStability"):
        perturb = getattr(quantus, name)(nr_samples=1, disable_warnings=True).perturb_func
        noise = perturb(arr=np.zeros((1, 500)), indices=np.arange(500)[None])
        assert 0.02 <= noise.min() < noise.max() <= 0.2


def test_consistency_looks_at_the_first_five_pixels_and_declares_the_wrong_direction(quantus, model):
    maps = np.random.default_rng(1).random((4, 1, 16, 24))
    same = _score(quantus.Consistency(disable_warnings=True), model, EXPLAIN["grad_cam"], a_batch=maps)
    maps[..., 1:, :] *= -1  # everything below the first row
    again = _score(quantus.Consistency(disable_warnings=True), model, EXPLAIN["grad_cam"], a_batch=maps)
    assert same == again
    assert quantus.Consistency.score_direction.value == "lower"
    with torch.no_grad():
        predicted = model(torch.as_tensor(IMAGES)).argmax(1)
    assert len(predicted.unique()) == 1  # all maps alike, all predictions alike: nothing could be more consistent
    np.testing.assert_allclose(same, 1)


def test_non_sensitivity_takes_one_number_at_a_time(quantus, model):
    small = {"model": model, "y_batch": CLASSES, "channel_first": True, "explain_func": EXPLAIN["grad_cam"]}
    images = IMAGES[..., :8, :8].copy()
    scores = quantus.NonSensitivity(disable_warnings=True)(x_batch=images, **small)
    assert all(0 <= score <= images[0].size for score in scores)
    with pytest.raises(ValueError, match="could not be broadcast"):
        quantus.NonSensitivity(features_in_step=2, disable_warnings=True)(x_batch=images, **small)


def test_completeness_wants_equal_floats(quantus, model):
    explain = LayerExplainFunc("integrated_gradients", n_steps=200)
    scores = _score(quantus.Completeness(disable_warnings=True, **RAW), model, explain, softmax=False)
    assert not any(scores)
    with torch.no_grad():
        rise = (model(torch.as_tensor(IMAGES)) - model(torch.zeros(4, 3, 16, 24))).numpy()[range(4), CLASSES]
    np.testing.assert_allclose(explain(model, IMAGES, CLASSES).sum((1, 2, 3)), rise, atol=1e-4)


def test_input_invariance_wants_a_convolution_first(quantus, model):
    def score(model, explain):
        maps = explain(model, IMAGES, CLASSES)
        return _score(quantus.InputInvariance(disable_warnings=True), model, explain, a_batch=maps)

    chain = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    ).eval()
    assert all(score(chain, LayerExplainFunc("grad_cam", "3")))
    assert not any(score(chain, LayerExplainFunc("integrated_gradients")))  # depends on the baseline, as the paper says
    with pytest.raises(AttributeError, match="out_channels"):
        score(model, EXPLAIN["grad_cam"])


def test_maps_that_are_negative_everywhere_are_refused(quantus, model):
    model.evidence[0].bias.data.sub_(100)
    with pytest.raises(AssertionError, match="Attributions should not all be less than zero"):
        _score(quantus.MaxSensitivity(nr_samples=1, disable_warnings=True), model, EXPLAIN["soft_cam"])
