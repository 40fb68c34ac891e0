"""What outputs mean: metrics by softmax, sigmoid, identity and functions, against loops and against each other."""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from metric_calls import call, parameters
from torch import Tensor

from captum_softcam._scores import as_scores
from captum_softcam.metrics import METRICS, Batch, Curve, Explanation, functional

ASKING = [name for name in functional.__all__ if "forward_func" in parameters(name)]
READS_LOGITS = {name for name in ASKING if name in METRICS and METRICS[name].reads == "logit"}
ONE, TWO = torch.ones(4, dtype=torch.long), torch.tensor([0, 1, 0, 1])


@pytest.fixture
def one(model):
    """A model of one logit *s*."""
    return lambda images: 20 * (model(images)[:, 1:2] - 0.4)


def both(one):
    """The same as a softmax of two logits."""
    return lambda images: torch.cat([torch.zeros_like(one(images)), one(images)], 1)


def at(scores, images, maps, targets, model, name):
    return call(name, model, images, maps, targets, scores=scores)


@pytest.mark.parametrize("name", ASKING)
def test_one_logit_equals_two_of_a_softmax(name, one, images, maps):
    """For class 1; the logit of class 0 is 0 in one of them and -s in the other, which probabilities do not notice."""
    torch.testing.assert_close(
        at("sigmoid", images, maps, ONE, one, name), at("softmax", images, maps, ONE, both(one), name), equal_nan=True
    )
    if name not in READS_LOGITS:
        found = at("sigmoid", images, maps, TWO, one, name)
        torch.testing.assert_close(found, at("softmax", images, maps, TWO, both(one), name), equal_nan=True)
        assert found.isfinite().any()


@pytest.mark.parametrize("name", [name for name in ASKING if name not in READS_LOGITS])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_identity_of_probabilities_equals_logits(name, kind, model, images, maps, targets):
    found = at("identity", images, maps, targets, lambda x: as_scores(model(x), kind), name)
    torch.testing.assert_close(found, at(kind, images, maps, targets, model, name), rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("name", ASKING)
def test_a_function_equals_the_kind_that_it_computes(name, model, images, maps, targets):
    for kind in ("softmax", "sigmoid", "identity"):
        found = at(lambda logits, kind=kind: as_scores(logits, kind), images, maps, targets, model, name)
        torch.testing.assert_close(found, at(kind, images, maps, targets, model, name), equal_nan=True)


@pytest.mark.parametrize("name", sorted(READS_LOGITS - {"infidelity"}))
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_correlations_do_not_notice_a_temperature(name, kind, model, images, maps, targets):
    warm = at(kind, images, maps, targets, lambda x: model(x) / 7, name)
    known = at(kind, images, maps, targets, model, name)
    torch.testing.assert_close(warm, known, rtol=1e-6, atol=1e-9, equal_nan=True)


def test_infidelity_is_in_squared_logits(model, images, maps, targets):
    warm = at("sigmoid", images, maps, targets, lambda x: model(x) / 7, "infidelity")
    torch.testing.assert_close(49 * warm, at("sigmoid", images, maps, targets, model, "infidelity"))


@pytest.mark.parametrize("kind", ["sigmoid", "identity"])
@pytest.mark.parametrize("inserted", [False, True])
def test_curves_equal_a_loop(kind, inserted, model, images, maps, targets):
    curve = functional.insertion_curve if inserted else functional.deletion_curve
    baseline = torch.zeros(2, 7, 9, dtype=torch.float64)
    found = curve(model, images, maps, targets, baseline, patches=None, steps=5, scores=kind)
    for row in range(4):
        values, target = maps[row, 0], int(targets[row])
        expected = oracles.pixel_curve(model, images[row], values, target, baseline, 5, inserted, kind)
        assert found[row].tolist() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("target", [0, 1])
def test_the_curve_of_one_logit_equals_a_loop(target, one, images, maps):
    baseline = torch.zeros(2, 7, 9, dtype=torch.float64)
    whole = torch.full((4,), target)
    found = functional.deletion_curve(one, images, maps, whole, baseline, patches=None, steps=5, scores="sigmoid")
    for row in range(4):
        expected = oracles.pixel_curve(one, images[row], maps[row, 0], target, baseline, 5, False, "sigmoid")
        assert found[row].tolist() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kind", ["sigmoid", "identity"])
def test_irof_equals_a_loop(kind, model, images, maps, targets):
    segments = (torch.arange(63) // 7).view(1, 1, 7, 9).expand(4, -1, -1, -1)
    baseline = images.mean((2, 3), keepdim=True).expand_as(images)
    found = functional.irof(model, images, maps, targets, baseline, segments, steps=4, scores=kind)
    for row in range(4):
        first = oracles.probability(model, images[row], int(targets[row]), kind)
        args = (model, images[row], maps[row, 0], int(targets[row]), baseline[row], segments[row, 0], 4, kind)
        expected = oracles.irof(*args) if first > 0 else math.nan
        assert found[row].item() == pytest.approx(expected, rel=1e-6, nan_ok=True)


class TestRoad:
    """Accuracy without a class of its own."""

    def test_each_class_of_a_sigmoid_is_predicted_by_itself(self, images, maps, targets):
        model = lambda x: torch.tensor([[2.0, 1.0, -1.0]]).expand(len(x), 3)  # noqa: E731
        kept = functional.road_curve(model, images, maps, targets, fractions=(0.5,), scores="sigmoid")
        assert kept[:, 0].tolist() == [1, 1, 0, 1]
        kept = functional.road_curve(model, images, maps, targets, fractions=(0.5,))
        assert kept[:, 0].tolist() == [1, 0, 0, 1]

    @pytest.mark.parametrize("logit", [-1.0, 0.0, 1.0])
    def test_one_logit_predicts_one_of_two(self, logit, images, maps):
        model = lambda x: torch.full((len(x), 1), logit)  # noqa: E731
        kept = functional.road_curve(model, images, maps, TWO, fractions=(0.5,), scores="sigmoid")
        assert kept[:, 0].tolist() == [float((logit > 0) == bool(target)) for target in TWO]

    @pytest.mark.parametrize("kind", ["identity", torch.sigmoid])
    def test_a_single_value_predicts_nothing(self, kind, images, maps):
        model = lambda x: x.flatten(1).sum(1, keepdim=True)  # noqa: E731
        zeros = torch.zeros(4, dtype=torch.long)
        with pytest.raises(ValueError, match=r"predicts no class; .* accuracy=False, which reads the output itself"):
            functional.road_curve(model, images, maps, zeros, scores=kind)
        found = functional.road_curve(model, images, maps, zeros, accuracy=False, fractions=(0.5,), scores=kind)
        assert found.isfinite().all()


class TestRegression:
    """Values of any size and sign, of a single class."""

    @pytest.fixture
    def value(self, model):
        return lambda images: 100 * (model(images)[:, :1] + 0.2)

    @pytest.mark.parametrize("name", ASKING)
    def test_every_metric_has_a_score_or_a_reason(self, name, value, images, maps):
        zeros = torch.zeros(4, dtype=torch.long)
        found = call(name, value, images, maps, zeros, scores="identity")
        assert found.isfinite().any()
        with pytest.raises(ValueError, match="the model gives 1 logit, so classes 0 to 0"):
            call(name, value, images, maps, ONE, scores="identity")

    def test_a_constant_below_zero_does_not_fall(self, images, maps):
        constant = lambda x: torch.full((len(x), 1), -5.0, dtype=x.dtype)  # noqa: E731
        baseline = torch.zeros((), dtype=images.dtype)
        zeros = torch.zeros(4, dtype=torch.long)
        found = functional.monotonicity(constant, images, maps, zeros, baseline, patches=3, steps=4, scores="identity")
        assert found.tolist() == [1.0] * 4

    @pytest.mark.parametrize("name", ["average_drop", "increase_in_confidence", "adcc"])
    def test_probabilities_are_asked_for_in_words(self, name, value, images, maps):
        batch = Batch(value, images, torch.zeros(4, dtype=torch.long), scores="identity")
        explanation = Explanation(batch, maps, lambda x, **_: x[:, :1])
        with pytest.raises(ValueError, match=r"read probabilities in \[0, 1\]; with scores='identity' the model gives"):
            METRICS[name].measure(explanation)
        batch = Batch(value, images, batch.targets, scores=lambda values: (values / 100).sigmoid())
        assert METRICS[name].measure(Explanation(batch, maps, lambda x, **_: x[:, :1])).isfinite().all()

    @pytest.mark.parametrize("name", ["average_drop", "increase_in_confidence", "adcc"])
    def test_a_value_outside_is_undefined_whatever_the_batch(self, name, images, maps):
        fraction = lambda x: 2 * x[:, :1, 0, 0] - 0.5  # noqa: E731
        values = fraction(images)[:, 0]
        assert 0 < (inside := (values >= 0) & (values <= 1)).sum() < 4, values
        zeros = torch.zeros(4, dtype=torch.long)
        batch = Batch(fraction, images, zeros, scores="identity")
        scores = METRICS[name].measure(Explanation(batch, maps, lambda x, **_: x[:, :1]))
        assert scores[~inside].isnan().all()


class TestFunctions:
    """Functions of the user's."""

    def test_a_function_in_place_changes_no_outputs(self, model, images, maps, targets):
        batch = Batch(model, images, targets, scores=lambda logits: logits.sigmoid_())
        before = batch.outputs.clone()
        found = METRICS["deletion"].measure(Explanation(batch, maps, lambda x, **_: x.clone()))
        assert isinstance(found, Curve)
        torch.testing.assert_close(batch.outputs, before, rtol=0, atol=0)
        other = Batch(model, images, targets, scores="sigmoid")
        torch.testing.assert_close(
            found.points, METRICS["deletion"].measure(Explanation(other, maps, lambda x, **_: x.clone())).points
        )

    @pytest.mark.parametrize(
        ("function", "kind", "words"),
        [
            (lambda s: s[:, 0], ValueError, r"returns \(4,\) for logits \(4, 3\); expected the same shape"),
            (lambda s: s[:, :2], ValueError, r"returns \(4, 2\) for logits \(4, 3\); expected the same shape"),
            (lambda s: (s - 100).log(), ValueError, "returns infinity or NaN for finite logits; clamp it"),
            (lambda s: s.tolist(), TypeError, r"returns list; expected a tensor \(N, K\)"),
        ],
    )
    def test_what_is_no_scores(self, function, kind, words, model, images, maps, targets):
        with pytest.raises(kind, match=f"function .*lambda>, passed as scores, {words}"):
            call("deletion_curve", model, images, maps, targets, scores=function)

    @pytest.mark.parametrize("scores", ["sigmoids", "", 3, None, torch.nn.Sigmoid])
    def test_what_is_no_kind(self, scores, model, images, maps, targets):
        with pytest.raises((ValueError, TypeError), match=r"scores is .*; expected 'softmax', 'sigmoid', 'identity' or a"):
            call("deletion_curve", model, images, maps, targets, scores=scores)
        with pytest.raises((ValueError, TypeError), match=r"scores is .*; expected 'softmax', 'sigmoid', 'identity' or a"):
            Batch(model, images, targets, scores=scores)

    def test_an_image_that_is_not_finite_is_no_fault_of_the_function(self, model, images, maps, targets):
        images[1, 0, 0, 0] = math.nan
        found = call("deletion_curve", model, images, maps, targets, scores=torch.sigmoid)
        assert found.isnan().tolist() == [False, True, False, False]

    def test_decisions_are_numbers(self):
        assert as_scores(Tensor([[-1.0, 2.0]]), lambda s: s > 0).tolist() == [[0.0, 1.0]]
