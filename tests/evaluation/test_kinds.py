"""Models of one logit, of several classes at once, and of values, in comparisons and maps without a wrapper."""

from __future__ import annotations

import copy
import json
from functools import partial

import oracles
import pytest
import torch
from captum.attr import IntegratedGradients, LayerGradCam, NoiseTunnel, Saliency
from comparisons import make_samples
from networks import PooledNet
from torch import Tensor, nn

from captum_softcam.attr import METHODS
from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, LayerExplainFunc, compare_methods, explain_sample
from captum_softcam.evaluation.runner import _settings
from captum_softcam.metrics import METRICS, Irof, functional
from captum_softcam.softcam import convert_to_softcam

LAYER = "relu"
LAYERED = [name for name in METHODS if METHODS[name].needs == "layer"]


def network(classes: int, seed: int = 0) -> PooledNet:
    torch.manual_seed(seed)
    model = PooledNet(classes=classes).eval()
    with torch.no_grad():  # logits of both signs that the images move
        model.fc.weight.mul_(5)
        model.fc.bias.copy_(torch.linspace(-0.5, 0.5, classes) if classes > 1 else torch.tensor([-0.1]))
    return model


def of_both(one: PooledNet, first: float) -> PooledNet:
    """The network of one logit *s* with the logits ``first`` * s and s."""
    two = network(2)
    two.load_state_dict({**one.state_dict(), "fc.weight": two.fc.weight, "fc.bias": two.fc.bias})
    with torch.no_grad():
        two.fc.weight.copy_(torch.cat([first * one.fc.weight, one.fc.weight]))
        two.fc.bias.copy_(torch.cat([first * one.fc.bias, one.fc.bias]))
    return two


@pytest.fixture(scope="module")
def one() -> PooledNet:
    return network(1)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [Sample(each.image, i % 2, each.mask, each.identifier) for i, each in enumerate(make_samples(4))]


@pytest.fixture(scope="module")
def images(samples) -> Tensor:
    return torch.stack([sample.image for sample in samples])


TARGETS = torch.tensor([0, 1, 1, 0])


def gradient(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """A function of the user's, which knows a layer of the model by its name."""
    assert isinstance(model.block, nn.Conv2d)
    images.requires_grad_()
    return torch.autograd.grad(model(images).gather(1, targets[:, None]).sum(), images)[0]


EVERY = [*METHODS, "random", "edge_map", LayerGradCam, Saliency, gradient]


@pytest.mark.parametrize(
    "method", [each for each in EVERY if each != "soft_cam"], ids=lambda each: getattr(each, "__name__", each)
)
def test_class_1_explains_the_logit_and_class_0_its_negative(method, one, images):
    explain = partial(LayerExplainFunc, method, LAYER if callable(method) or METHODS.get(method) else None)
    if method is gradient or method in ("random", "edge_map"):
        explain = partial(LayerExplainFunc, method)
    before = copy.deepcopy(one.state_dict())
    maps = explain(scores="sigmoid").explain(one, images, TARGETS, [1, 2, 3, 4])
    expected = explain().explain(of_both(one, -1), images, TARGETS, [1, 2, 3, 4])
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    above = TARGETS == 1
    softmax = explain().explain(of_both(one, 0), images, TARGETS, [1, 2, 3, 4])
    torch.testing.assert_close(maps[above], softmax[above], rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert all(torch.equal(value, before[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("method", ["soft_cam", "class_activation_map"])
def test_evidence_of_the_negative_is_negative_evidence(method, relu, one, images):
    model = convert_to_softcam(one)
    explain = LayerExplainFunc(
        method, None if method == "soft_cam" else "backbone", scores="sigmoid", relu_attributions=relu
    )
    maps = explain.explain(model, images, TARGETS)
    evidence = oracles.evidence(model, model.evidence, images) if method == "soft_cam" else model.evidence_maps(images)
    signed = evidence.float() * torch.tensor([-1, 1])[TARGETS].view(-1, 1, 1, 1)
    expected = signed.relu() if relu else signed
    expected = nn.functional.interpolate(expected, size=(16, 24), mode="bilinear")
    torch.testing.assert_close(maps, expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrap", [nn.DataParallel, nn.Sequential, copy.deepcopy], ids=["parallel", "sequential", "copy"])
def test_wrapped_models_keep_the_names_of_their_layers(wrap, one, images):
    model = wrap(one)
    (name,) = [name for name, module in model.named_modules() if name.endswith(LAYER)]
    for method in ("grad_cam", "recipro_cam", "class_activation_map"):
        maps = LayerExplainFunc(method, name, scores="sigmoid").explain(model, images, TARGETS)
        torch.testing.assert_close(maps, LayerExplainFunc(method, LAYER, scores="sigmoid").explain(one, images, TARGETS))


def test_a_wrong_layer_is_named_as_in_the_model_of_the_user(one, images):
    with pytest.raises(ValueError, match=r"layer 'blok' is not in PooledNet\. Closest: 'block'"):
        LayerExplainFunc("grad_cam", "blok", scores="sigmoid").explain(one, images, TARGETS)


def test_without_scores_the_message_names_them(one, images):
    with pytest.raises(ValueError, match=r"the model gives a single logit, .* pass scores='sigmoid'"):
        LayerExplainFunc("grad_cam", LAYER).explain(one, images, TARGETS)


@pytest.mark.parametrize("make", [IntegratedGradients, lambda model: NoiseTunnel(Saliency(model))], ids=["plain", "wrapped"])
def test_an_instance_explains_its_own_model_and_would_get_the_sign_wrong(make, one, images):
    with pytest.raises(ValueError, match="explains its own model, which gives one logit for two classes; pass the class"):
        LayerExplainFunc(make(one), scores="sigmoid").explain(one, images, TARGETS)
    advice = lambda x: torch.cat([-one(x), one(x)], 1)  # noqa: E731 - as the message says
    maps = LayerExplainFunc(IntegratedGradients(advice), scores="sigmoid").explain(one, images, TARGETS)
    expected = LayerExplainFunc(IntegratedGradients, scores="sigmoid").explain(one, images, TARGETS)
    torch.testing.assert_close(maps, expected)


@pytest.mark.parametrize("scores", ["sigmoid", "identity", torch.sigmoid])
def test_models_of_several_classes_are_explained_alike(scores, images):
    model = network(4)
    for method in ("grad_cam", "class_activation_map"):
        maps = LayerExplainFunc(method, LAYER, scores=scores).explain(model, images, TARGETS)
        assert torch.equal(maps, LayerExplainFunc(method, LAYER).explain(model, images, TARGETS))


def test_a_comparison_of_one_logit_is_that_of_a_softmax_of_two(one, samples):
    own = [Sample(each.image, 1, each.mask, each.identifier) for each in samples]
    run = partial(compare_methods, samples=own, methods=["grad_cam", "random", gradient], layer=LAYER, runner_up=True)
    # Networks with random weights differ, and so do maps of class 0, whose logit is -s in one model and 0 in the other.
    metrics = [name for name, metric in METRICS.items() if metric.category != "randomisation"]
    found, expected = run(one, metrics=metrics, scores="sigmoid"), run(of_both(one, 0), metrics=metrics)
    assert found.failures.empty, found.failures["error"].tolist()
    columns = ["sample", "target", "prediction", "method", "metric"]
    assert found.scores[columns].equals(expected.scores[columns])
    torch.testing.assert_close(
        torch.tensor(found.scores["score"]), torch.tensor(expected.scores["score"]), rtol=1e-3, atol=1e-5, equal_nan=True
    )
    assert (found.manifest["scores"], expected.manifest["scores"]) == ("sigmoid", "softmax")
    for one_of, other in zip(found.examples, expected.examples, strict=True):
        torch.testing.assert_close(one_of.probabilities, other.probabilities)
        assert one_of.runner_up == other.runner_up == 0
        assert (one_of.scores, other.scores) == ("sigmoid", "softmax")


def test_several_classes_at_once_equal_a_loop(samples):
    """Deletion, insertion and drop of a comparison, by the sigmoid of each class."""
    model = network(4).double()
    own = [Sample(each.image.double(), i % 4, None, each.identifier) for i, each in enumerate(samples)]
    comparison = compare_methods(
        model, own, {"own": gradient}, ["deletion", "insertion", "average_drop"], scores="sigmoid", examples=0
    )
    scores = comparison.scores.set_index(["sample", "metric"])["score"]
    for sample in own:
        image, target = sample.image, sample.target
        values = gradient(model, image[None].clone(), torch.tensor([target]))[0].sum(0)
        baseline = functional.blur_baseline(image[None], sigma=3.0)[0]
        sides = [[r for r in range(8) for _ in range(n // 8)] for n in image.shape[1:]]
        order = sorted(
            ((r, c) for r in range(8) for c in range(8)),
            key=lambda p: -sum(values[i, j].item() for i in range(16) for j in range(24) if (sides[0][i], sides[1][j]) == p),
        )
        for name, inserted in (("deletion", False), ("insertion", True)):
            points = []
            for step in range(17):
                shown = (baseline if inserted else image).clone()
                for i in range(16):
                    for j in range(24):
                        if (sides[0][i], sides[1][j]) in order[: 4 * step]:
                            shown[:, i, j] = (image if inserted else baseline)[:, i, j]
                points.append(oracles.probability(model, shown, target, "sigmoid"))
            area = oracles.trapezoids(points, [step / 16 for step in range(17)])
            assert scores[sample.identifier, name] == pytest.approx(area, rel=1e-6)
        masked = oracles.masked_image(image, values)
        parts = (oracles.probability(model, each, target, "sigmoid") for each in (image, masked))
        assert scores[sample.identifier, "average_drop"] == pytest.approx(oracles.average_drop(*parts), rel=1e-6)


def test_the_prediction_follows_from_the_scores(samples):
    model = network(4)
    logits = model(torch.stack([sample.image for sample in samples])).detach()
    for scores, expected in (
        ("sigmoid", logits.argmax(1)),
        ("identity", logits.argmax(1)),
        (lambda s: -s, logits.argmin(1)),
    ):
        found = compare_methods(model, samples, ["random"], ["pixel_auc"], layer=LAYER, scores=scores, runner_up=True)
        assert found.scores["prediction"].tolist() == expected.tolist()
        for example in found.examples:
            others = [k for k in range(4) if k != example.target]
            assert example.runner_up == max(others, key=lambda k: example.probabilities[k].item())
    one = network(1)
    found = compare_methods(one, samples, ["random"], ["pixel_auc"], layer=LAYER, scores="sigmoid", explain="predicted")
    expected = (one(torch.stack([sample.image for sample in samples]))[:, 0] > 0).long().tolist()
    assert found.scores["prediction"].tolist() == found.scores["target"].tolist() == expected


def test_values_of_a_regression(samples):
    model, zeros = network(1), [Sample(each.image, 0, each.mask, each.identifier) for each in samples]
    comparison = compare_methods(model, zeros, ["grad_cam", "random"], layer=LAYER, scores="identity")
    assert comparison.failures.empty
    assert comparison.scores["score"].notna().mean() > 0.8
    assert set(comparison.scores["prediction"]) == {0}
    value = model(zeros[0].image[None])[0].detach()
    example = explain_sample(model, zeros[0], ["grad_cam"], layer=LAYER, scores="identity")
    torch.testing.assert_close(example.probabilities, value)
    assert "4 samples with one value each, which is no class." in comparison.to_markdown()
    for metric, words in (("road", "predicts no class"), ("adcc", r"read probabilities in \[0, 1\]")):
        with pytest.raises(ValueError, match=words):
            compare_methods(model, zeros, ["random"], [metric], layer=LAYER, scores="identity")
    with pytest.raises(ValueError, match="runner_up is True, but the model has a single class"):
        compare_methods(model, zeros, ["random"], layer=LAYER, scores="identity", runner_up=True)
    with pytest.raises(ValueError, match="runner_up is True, but the model has a single class"):
        explain_sample(model, zeros[0], ["random"], layer=LAYER, scores="identity", runner_up=True)
    with pytest.raises(ValueError, match="sample 's1' has class 1; the model gives 1 logit, so classes 0 to 0"):
        compare_methods(model, samples, ["random"], ["pixel_auc"], layer=LAYER, scores="identity")


def warmer(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).softmax(1)


def test_a_resumed_run_has_the_same_scores(samples, tmp_path):
    model = network(4)
    run = partial(compare_methods, model, samples, ["random"], ["deletion"], layer=LAYER)
    for number, (scores, others) in enumerate(
        [("softmax", ["sigmoid", partial(warmer, temperature=1)]), (partial(warmer, temperature=2), ["softmax"])]
    ):
        folder = tmp_path / str(number)
        first = run(scores=scores, folder=folder)
        assert run(scores=scores, folder=folder, resume=True).scores.equals(first.scores)
        for other in others:
            with pytest.raises(ValueError, match=r"was started with (scores|values of scores) .*, and is resumed with"):
                run(scores=other, folder=folder, resume=True)
    recorded = json.loads((tmp_path / "1" / "manifest.json").read_text())
    assert recorded["scores"] == f"function {__name__}.warmer"
    assert recorded["fingerprints"]["values of scores"].startswith("mean 0.25, square ")
    with pytest.raises(ValueError, match=r"was started with values of scores mean 0.25, square"):
        run(scores=partial(warmer, temperature=3), folder=tmp_path / "1", resume=True)


class Temperature(nn.Module):
    """A function with a parameter that requires a gradient, and that is undefined below 0."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(0.5))

    def forward(self, values: Tensor) -> Tensor:
        return values**self.exponent / 10


def test_a_module_makes_scores(samples):
    model = nn.Sequential(network(4), nn.Softplus()).eval()
    run = partial(
        compare_methods, model, samples, ["random"], ["deletion", "road", "adcc"], layer=f"0.{LAYER}", runner_up=True
    )
    found, expected = run(scores=Temperature()), run(scores=lambda values: values.sqrt() / 10)
    assert found.failures.empty, found.failures["error"].tolist()
    torch.testing.assert_close(torch.tensor(found.scores["score"]), torch.tensor(expected.scores["score"]), equal_nan=True)
    assert found.manifest["scores"] == f"function {__name__}.Temperature"
    assert found.manifest["fingerprints"]["values of scores"] == expected.manifest["fingerprints"]["values of scores"]


def test_earlier_comparisons_took_the_softmax():
    assert _settings({"seed": 0}) == _settings({"seed": 0, "scores": "softmax"})


@pytest.mark.parametrize("method", ["grad_cam", "recipro_cam"])
def test_a_class_of_quantus(method, one, images):
    explain = LayerExplainFunc(method, LAYER, scores="sigmoid")
    arguments = {"x_batch": images.numpy(), "y_batch": TARGETS.numpy(), "explain_func": explain}
    scores = Irof(scores="sigmoid")(one, **arguments)
    maps = explain.explain(one, images, TARGETS)
    mean, segments = functional.mean_baseline(images), functional.superpixels(images)
    expected = functional.irof(one, images, maps, TARGETS, mean, segments, scores="sigmoid")
    torch.testing.assert_close(torch.tensor(scores), expected, equal_nan=True)
    with pytest.raises(ValueError, match="scores is 'sigmod'; expected"):
        Irof(scores="sigmod")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_networks_of_half_precision(dtype, samples):
    def run(kind: torch.dtype) -> Comparison:
        methods, metrics = ["grad_cam", "edge_map"], ["pixel_auc", "deletion", "random_logit"]
        return compare_methods(network(3).to(kind), samples, methods, metrics, layer=LAYER, normalize=lambda x: x.to(kind))

    wide, half = run(torch.float32), run(dtype)
    assert half.failures.empty
    assert half.array() == pytest.approx(wide.array(), abs=0.05, nan_ok=True)
    assert half.examples[0].probabilities == pytest.approx(wide.examples[0].probabilities, abs=0.01)
