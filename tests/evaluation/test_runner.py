"""A whole comparison on a few tiny samples: what is scored, what is counted, what is refused."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import IntegratedGradients, KernelShap, LayerGradCam, NoiseTunnel, Saliency
from comparisons import CHEAP, make_model, make_samples, sorted_scores
from torch import Tensor, nn

from captum_softcam.attr import LayerReciproCam, LayerSoftCam
from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, LayerExplainFunc, compare_methods, explain_sample
from captum_softcam.metrics import METRICS, Metric
from captum_softcam.softcam import SoftCamModel

FAST = ["soft_cam", "grad_cam", "random"]
DEFAULT = [*(name for name, metric in METRICS.items() if metric.default), "quantus:Complexity"]


@pytest.fixture
def model() -> SoftCamModel:
    return make_model()


@pytest.fixture
def samples() -> list[Sample]:
    return make_samples()


def test_one_row_per_sample_method_and_metric(model, samples):
    comparison = compare_methods(model, samples, batch_size=2)
    scores = comparison.scores
    assert list(scores.columns) == ["sample", "label", "target", "prediction", "method", "metric", "score"]
    assert comparison.metrics == DEFAULT
    assert {"soft_cam", "recipro_cam", "grad_cam", "occlusion", "integrated_gradients"} <= set(comparison.methods)
    assert {"random", "centred_gaussian", "edge_map"} <= set(comparison.methods), "the controls take part"
    assert len(scores) == 5 * len(comparison.methods) * len(DEFAULT)
    assert not scores.duplicated(["sample", "method", "metric"]).any()
    category = scores["metric"].map(comparison.categories)
    unmasked = (scores["sample"] == "s0") & (category == "localisation")
    assert scores.loc[unmasked, "score"].isna().all()
    controls = scores["method"].isin(comparison.controls)
    assert scores.loc[~unmasked & controls, "score"].notna().all()
    assert list(comparison.costs.index) == comparison.methods
    assert comparison.manifest["samples_with_mask"] == 4
    assert comparison.failures.empty


def test_the_generators_of_the_user_are_left_alone(model, samples, tmp_path):
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()

    before = states()
    metrics = ["deletion", "mprt", "quantus:RandomLogit"]
    for resume in (False, True):  # the second reads again what was scored
        compare_methods(
            model, samples[:2], ["grad_cam", "random"], metrics, folder=tmp_path / "run", resume=resume, examples=1
        )
    assert states() == before


def test_the_same_run_twice_gives_the_same_scores(model, samples):
    first, second = (sorted_scores(compare_methods(model, samples, FAST)) for _ in range(2))
    pd.testing.assert_series_equal(first, second)


@pytest.mark.parametrize("name", METRICS)
def test_the_batch_size_changes_no_score(model, samples, name):
    one, all_ = (sorted_scores(compare_methods(model, samples, FAST, [name], batch_size=size)) for size in (1, 5))
    ranks = 2e-3 if name == "monotonicity_correlation" else 0  # of variances, where rounding turns near ties around
    pd.testing.assert_series_equal(one, all_, atol=1e-4 + ranks)  # drops of this small network are near their rounding


@pytest.mark.parametrize("name", METRICS)
def test_the_other_methods_change_no_score(model, samples, name):
    alone = sorted_scores(compare_methods(model, samples, ["grad_cam"], [name]))
    beside = sorted_scores(compare_methods(model, samples, FAST, [name]))
    pd.testing.assert_series_equal(alone, beside.loc[:, ["grad_cam"], :], atol=1e-6)


def _count_forwards(model: nn.Module) -> list[int]:
    """Images that went through the model, call by call."""
    counts: list[int] = []
    model.register_forward_hook(lambda _module, arguments, _output: counts.append(len(arguments[0])))
    return counts


def test_every_forward_is_made_once(model, samples, monkeypatch):
    """Five samples, one method that needs a forward, two that need none."""
    attributions = Counter()
    explain = LayerExplainFunc.explain

    def count(self: LayerExplainFunc, *arguments: object, **more: object) -> Tensor:
        attributions[self.name] += 1
        return explain(self, *arguments, **more)

    monkeypatch.setattr(LayerExplainFunc, "explain", count)
    forwards = _count_forwards(model)
    methods = ["soft_cam", "random", "edge_map"]  # with maps of their own, so that no board comes twice by chance
    metrics = ["pixel_auc", "deletion", "insertion", "faithfulness_correlation", "average_drop"]
    compare_methods(model, samples, methods, metrics, probes=0)
    assert attributions == {"soft_cam": 1, "random": 1, "edge_map": 1}
    steps = METRICS["deletion"].settings["steps"]
    once = {
        "warming up": 1,
        "clean": 5,  # predictions, confidence, the first point of deletion and the last of insertion
        "baseline": 5,  # the last point of deletion and the first of insertion
        "maps": 5,
        "subsets": METRICS["faithfulness_correlation"].settings["runs"] * 5,  # for all methods together
        "curves": 3 * 2 * (steps - 1) * 5,
        "masked images": 3 * 5,
    }
    assert sum(forwards) == sum(once.values())


def test_costs_are_counted(model, samples):
    costs = compare_methods(model, samples, ["soft_cam", "grad_cam", "integrated_gradients", "random"], ["deletion"]).costs
    assert costs["forwards"].tolist() == [1, 1, 32, 0]
    assert costs["backwards"].tolist() == [0, 1, 32, 0]
    assert (costs["seconds"] > 0).all()
    assert costs["relative"]["integrated_gradients"] > costs["relative"]["random"]
    assert costs["peak_bytes"]["integrated_gradients"] > costs["peak_bytes"]["soft_cam"] > 0


def test_methods_in_every_form(model, samples):
    """Names, classes, instances, functions, and what the user calls them."""

    def loudest_channel(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return model.evidence_maps(images).detach()[torch.arange(len(images)), targets][:, None]

    mixed = ["grad_cam", Saliency, IntegratedGradients(model), LayerReciproCam, loudest_channel]
    comparison = compare_methods(model, samples, mixed, ["pixel_auc"], layer="backbone")
    assert comparison.methods == ["grad_cam", "saliency", "integrated_gradients", "recipro_cam", "loudest_channel"]
    named = {
        "mine": LayerGradCam(model, model.backbone),
        "noisy": NoiseTunnel(Saliency(model)),
        "abs": LayerExplainFunc(Saliency, abs=True),
        "evidence": loudest_channel,
        "softcam": LayerSoftCam,
    }
    other = compare_methods(model, samples, named, ["pixel_auc"])
    assert other.methods == list(named)
    scores = sorted_scores(comparison).unstack("method")
    others = sorted_scores(other).unstack("method")
    np.testing.assert_allclose(others["mine"], scores["grad_cam"], atol=1e-6)
    np.testing.assert_allclose(others["evidence"], others["softcam"], atol=1e-6)
    assert other.manifest["methods"]["mine"]["class"].endswith("LayerGradCam")
    assert other.manifest["methods"]["abs"]["arguments"] == {"abs": True}
    assert not other.manifest["methods"]["mine"]["control"]


def test_a_metric_of_the_users_own(model, samples):
    peak = Metric("peak", "Peak", "complexity", False, "", 0, lambda explained: explained.maps.flatten(1).amax(1))
    near = replace(METRICS["pointing_game"], name="near", settings={"tolerance": 100})
    comparison = compare_methods(model, samples, ["random"], [peak, near, "pixel_auc"])
    scores = sorted_scores(comparison).unstack("metric")
    assert scores["near"].dropna().eq(1).all()
    assert comparison.manifest["metrics"]["near"]["settings"] == {"tolerance": 100}
    assert comparison.summary().loc[("random", "peak"), "count"] == 5


def test_flat_maps_are_undefined_everywhere(model, samples):
    model.evidence[-1].weight.data.zero_()
    comparison = compare_methods(model, samples, ["soft_cam", "random"])
    assert comparison.scores.query("method == 'soft_cam'")["score"].isna().all()
    summary = comparison.summary()
    assert summary.loc["soft_cam", "count"].eq(0).all()
    assert not summary.loc["soft_cam", "best"].any()


def test_curves_are_kept(model, samples):
    comparison = compare_methods(model, samples, FAST, ["deletion", "insertion", "pixel_auc"], batch_size=2)
    curves = comparison.curves.set_index(["sample", "method", "metric"])
    assert len(curves) == 5 * 3 * 2
    points = curves.to_numpy()
    fractions = [float(name) for name in curves.columns]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    scores = sorted_scores(comparison)
    areas = pd.Series(np.trapezoid(points, fractions, axis=1), curves.index)
    for key, area in areas.items():
        np.testing.assert_allclose(scores[key], area, atol=1e-5)


class TestFailures:
    """What fails is recorded, and the others go on."""

    @staticmethod
    def broken(_model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        if (images.flatten(1).mean(1) > images.mean()).any() and 1 in targets:
            raise RuntimeError("out of\nluck")
        return images

    def test_of_a_method(self, model, samples):
        comparison = compare_methods(model, samples, {"broken": self.broken, "random": "random"}, ["deletion"], batch_size=2)
        failed = comparison.failures
        assert failed[["method", "metric"]].drop_duplicates().to_numpy().tolist() == [["broken", ""]]
        assert failed["error"].unique().tolist() == ["RuntimeError: out of\nluck"]
        scores = sorted_scores(comparison).unstack("method")["broken"]
        assert set(scores.index[scores.isna()].get_level_values("sample")) == set(failed["sample"])
        assert 0 < len(failed) < 5
        assert sorted_scores(comparison).unstack("method")["random"].notna().all()
        row = comparison.summary().loc[("broken", "deletion")]
        assert row["failed"] == row["undefined"] == len(failed)

    def test_of_a_metric(self, model, samples):
        def bad(_explained: object) -> Tensor:
            raise ZeroDivisionError("nothing there")

        metric = Metric("bad", "Bad", "faithfulness", True, "", 0, bad)
        comparison = compare_methods(model, samples, FAST, [metric, "deletion"], batch_size=3)
        assert len(comparison.failures) == 5 * 3
        assert set(comparison.failures["error"]) == {"ZeroDivisionError: nothing there"}
        scores = sorted_scores(comparison).unstack("metric")
        assert scores["bad"].isna().all()
        assert scores["deletion"].notna().all()

    def test_of_a_metric_that_gives_something_else(self, model, samples):
        metric = Metric("bad", "Bad", "faithfulness", True, "", 0, lambda explained: explained.maps.mean())
        failures = compare_methods(model, samples, FAST, [metric, "deletion"]).failures
        assert set(failures["error"]) == {"ValueError: bad gives () for 5 samples; expected one score each."}

    def test_a_run_in_which_nothing_works_ends_at_once(self, model, samples):
        def never(*_: object) -> Tensor:
            raise RuntimeError("no")

        with pytest.raises(ValueError, match="every method failed on the first batch; never with RuntimeError: no"):
            compare_methods(model, samples, [never], ["deletion"], batch_size=1)

    def test_ctrl_c_is_no_failure(self, model, samples):
        def stop(*_: object) -> Tensor:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            compare_methods(model, samples, [stop, "random"], ["deletion"])


def test_without_masks_only_what_needs_none_is_measured(model, samples):
    bare = [Sample(s.image, s.target, None, s.identifier) for s in samples]
    comparison = compare_methods(model, bare, ["random"])
    assert comparison.metrics == [
        name for name in DEFAULT if name not in METRICS or METRICS[name].category != "localisation"
    ]


def test_the_predicted_class_can_be_explained(model, samples):
    scores = compare_methods(model, samples, ["soft_cam"], ["pixel_auc"], explain="predicted").scores
    assert (scores["target"] == scores["prediction"]).all()
    assert scores["label"].tolist() == [0, 1, 2, 3, 0]


def test_samples_without_a_class_are_explained_by_the_predicted_one(model, samples):
    unknown = [replace(sample, target=-1) for sample in samples]
    found = compare_methods(model, unknown, ["soft_cam"], ["pixel_auc"], explain="predicted", examples=1)
    known = compare_methods(model, samples, ["soft_cam"], ["pixel_auc"], explain="predicted", examples=1)
    assert found.scores.drop(columns="label").equals(known.scores.drop(columns="label"))
    assert set(found.scores["label"]) == {-1}
    assert found.examples[0].sample.target == -1
    assert f"- {len(samples)} samples without a known class." in found.to_markdown()
    mixed = compare_methods(model, [*unknown[:2], *samples[2:]], ["soft_cam"], ["pixel_auc"], explain="predicted")
    correct = int((known.scores["label"] == known.scores["prediction"])[2:].sum())
    words = f"- {len(samples)} samples, {correct} of the {len(samples) - 2} with a known class classified correctly."
    assert words in mixed.to_markdown()
    with pytest.raises(ValueError, match=r"sample 's0' has no class \(target -1\); explain the predicted one by"):
        compare_methods(model, unknown, ["soft_cam"], ["pixel_auc"])


def test_progress_names_method_and_metric(model, samples, capsys):
    compare_methods(model, samples, ["random"], ["pixel_auc"], probes=0, show_progress=True)
    error = capsys.readouterr().err
    assert "random: pixel_auc: 100%" in error
    assert "left" in error


def test_examples_are_samples_with_masks(model, samples):
    comparison = compare_methods(model, samples, FAST, ["pixel_auc"], batch_size=2, examples=2)
    assert [example.sample.identifier for example in comparison.examples] == ["s1", "s2"]
    assert all(attribution.shape == (1, 16, 24) for attribution in comparison.examples[0].maps.values())
    single = explain_sample(model, samples[1], FAST)
    for name in FAST:
        torch.testing.assert_close(single.maps[name], comparison.examples[0].maps[name], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(single.probabilities, comparison.examples[0].probabilities)


def test_samples_with_a_mask_are_the_first_examples(model, samples):
    mixed = [samples[0], samples[1], replace(samples[0], identifier="again"), samples[2]]
    assert [sample.mask is None for sample in mixed] == [True, False, True, False]
    for count, names in ((2, ["s1", "s2"]), (3, ["s0", "s1", "s2"]), (9, ["s0", "s1", "again", "s2"])):
        comparison = compare_methods(model, mixed, ["random"], ["deletion"], examples=count)
        assert [example.sample.identifier for example in comparison.examples] == names


def test_a_resumed_run_asks_for_nothing_that_is_done(model, samples, tmp_path):
    seen = []

    def spy(_model, images, _classes):
        seen.append(len(images))
        return images[:, :1]

    class Cut(list):
        def __getitem__(self, index):
            if index >= 3:
                raise OSError("the disk is gone")
            return super().__getitem__(index)

    options = {"batch_size": 1, "folder": tmp_path / "run", "examples": 0, "probes": 0}
    with pytest.raises(OSError, match="the disk is gone"):
        compare_methods(model, Cut(samples), [spy], ["deletion"], **options, strict=True)
    assert sum(seen) == 3
    compare_methods(model, samples, [spy], ["deletion"], **options, resume=True)
    assert sum(seen) == len(samples) > 3


def test_time_is_in_units_of_a_forward_per_image(model, samples):
    class Slow(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, images):
            time.sleep(0.2)  # for the batch, so that nothing else counts
            return self.inner(images)

    def two_forwards(asked, images, _classes):
        asked(images)
        asked(images)
        return images[:, :1]

    for batch_size in (1, 4):
        run = compare_methods(Slow().eval(), samples[:4], [two_forwards], ["pixel_auc"], batch_size=batch_size, examples=0)
        assert 1 < run.costs.loc["two_forwards", "relative"] < 4, "2, whatever the machine does besides"


def test_a_single_logit_is_refused(model, samples):
    single = torch.nn.Sequential(model, torch.nn.Linear(len(model(samples[0].image[None])[0]), 1)).eval()
    ill = [replace(sample, target=0) for sample in samples]
    with pytest.raises(ValueError, match="the model gives a single logit, whose softmax is 1 whatever it sees"):
        compare_methods(single, ill, ["random"], ["deletion"], layer="0.evidence")


def test_no_methods_explain_no_sample(model, samples):
    with pytest.raises(ValueError, match="there are no methods to compare"):
        explain_sample(model, samples[1], [])


def test_examples_may_have_maps_of_the_runner_up(model, samples):
    comparison = compare_methods(model, samples, FAST, ["pixel_auc"], batch_size=2, examples=3, runner_up=True)
    for example in comparison.examples:
        others = example.probabilities.clone()
        others[example.target] = -1
        assert example.runner_up == others.argmax()
        sample = next(sample for sample in samples if sample.identifier == example.sample.identifier)
        want = explain_sample(model, replace(sample, target=example.runner_up), FAST)
        alone = explain_sample(model, sample, FAST, runner_up=True)
        assert alone.runner_up == example.runner_up
        for name in FAST:
            torch.testing.assert_close(example.runner_up_maps[name], want.maps[name], atol=2e-3, rtol=5e-3)
            torch.testing.assert_close(alone.runner_up_maps[name], want.maps[name])
    without = explain_sample(model, samples[1], FAST)
    assert (without.runner_up, without.runner_up_maps) == (None, {})


@pytest.mark.parametrize(("outputs", "target", "want"), [(4, 2, None), (1, 1, 0), (1, 0, 1)])
def test_the_runner_up_of_a_sigmoid(model, samples, outputs, target, want):
    single = Ends(model, lambda s: s[:, :outputs])
    asked = {"layer": "model.backbone", "scores": "sigmoid"}
    example = explain_sample(single, replace(samples[1], target=target), ["grad_cam"], **asked, runner_up=True)
    others = example.probabilities.clone()
    others[target] = -1
    assert example.runner_up == others.argmax() == (example.runner_up if want is None else want)
    own = explain_sample(single, replace(samples[1], target=example.runner_up), ["grad_cam"], **asked).maps
    assert torch.equal(example.runner_up_maps["grad_cam"], own["grad_cam"])


def _with(samples: list[Sample], **changes: object) -> list[Sample]:
    """The samples with the last one changed."""
    return [*samples[:-1], replace(samples[-1], **changes)]


def test_wrong_samples_are_refused(model, samples):
    for changed, message in (
        ([], "there are no samples to compare on; pass at least one."),
        (_with(samples, target=4), r"sample 's4' has class 4; the model gives 4 logits, so classes 0 to 3\."),
        (_with(samples, target=-1), "sample 's4' has no class \\(target -1\\)"),
        (_with(samples, target=-2), "sample 's4' has class -2; the model gives"),
        (_with(samples, image=torch.rand(3, 16, 20)), r"sample 's4' is \(16, 20\) pixels, the first one \(16, 24\)"),
        (_with(samples, image=torch.rand(1, 16, 24)), "sample 's4' has 1 channels, another one 3; convert all images to"),
        (
            _with(samples, mask=torch.ones(1, 4, 4)),
            r"the mask of sample 's4' is \(1, 4, 4\), its image \(16, 24\) pixels; expected \(1, 16, 24\)\.",
        ),
        ([*samples[:4], (samples[4].image, 0)], r"samples\[4\] is a tuple; expected a Sample, which Samples.of\(dataset\)"),
        (
            _with(samples, identifier="s1"),
            "samples 1 and 4 are both called 's1'; give every sample an identifier of its own",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            compare_methods(model, changed, ["random"], ["pixel_auc"], strict=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"explain": "ture"}, r"explain is 'ture'; expected 'true', the class of each sample, or 'predicted'"),
        ({"explain": None}, "explain is None; expected 'true'"),
        *(({"batch_size": size}, f"batch_size is {size}; expected a whole number from 1 up") for size in (0, -2, 2.0, True)),
        ({"examples": -1}, "examples is -1; expected a whole number from 0 up"),
        ({"seed": 1.5}, "seed is 1.5; expected a whole number from 0 up"),
    ],
)
def test_choices_and_numbers_are_checked_before_the_run(model, samples, arguments, message, tmp_path):
    seen = _count_forwards(model)
    with pytest.raises(ValueError, match=message):
        compare_methods(model, samples, ["random"], ["pixel_auc"], folder=tmp_path / "new", **arguments)
    assert not seen
    assert not list(tmp_path.iterdir())


MASKS = {
    "bool": lambda mask: mask,
    "0 and 1": lambda mask: mask.float(),
    "0 and 255": lambda mask: mask.byte() * 255,
    "-1 and 1": lambda mask: mask.float() * 2 - 1,
    "NaN and 1": lambda mask: torch.where(mask, 1.0, torch.nan),
    "without a channel": lambda mask: mask[0],
    "soft": lambda mask: mask.double() * 0.3,
}


@pytest.mark.parametrize("form", MASKS.values(), ids=MASKS)
def test_masks_are_what_is_above_0(model, samples, form):
    metrics = ["pointing_game", "relevance_mass_accuracy", "pixel_auc"]
    want = compare_methods(model, samples[1:], ["random"], metrics)
    got = compare_methods(model, [replace(s, mask=form(s.mask)) for s in samples[1:]], ["random"], metrics)
    pd.testing.assert_series_equal(sorted_scores(got), sorted_scores(want))
    for example, other in zip(got.examples, want.examples, strict=True):
        assert torch.equal(example.sample.mask, other.sample.mask)
    assert explain_sample(model, replace(samples[1], mask=form(samples[1].mask)), ["random"]).sample.mask.dtype is torch.bool


def test_the_random_control_belongs_to_the_identifier(model, samples):
    """So that images which another machine rounds otherwise have the same; of the masked image it is another."""
    methods, metrics = ["random", "soft_cam"], ["pixel_auc", "coherency"]
    whole = sorted_scores(compare_methods(model, samples, methods, metrics)).unstack("metric").xs("random", level="method")
    rounded = [replace(sample, image=sample.image * (1 + 1e-6)) for sample in samples]
    again = sorted_scores(compare_methods(model, rounded, methods, metrics, batch_size=2)).unstack("metric")
    pd.testing.assert_frame_equal(again.xs("random", level="method"), whole)
    assert (whole["coherency"] - 0.5).abs().max() < 0.2
    renamed = [replace(sample, identifier=f"other {sample.identifier}") for sample in samples]
    other = sorted_scores(compare_methods(model, renamed, methods, metrics)).unstack("metric").xs("random", level="method")
    assert not np.allclose(other["pixel_auc"].dropna(), whole["pixel_auc"].dropna(), atol=1e-3)


SHAPES = [(2, 48), (1, 20), (1, 40, 40), (2, 24, 24), (5, 24, 24), (3, 8, 8), (3, 8, 64), (1, 12, 12, 12), (3, 4, 16, 16)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_default_methods_and_metrics_run_on_any_data(shape):
    """Signals, grey images, images of two and five channels, tiny and oblong ones, volumes: nothing fails."""
    dims = len(shape) - 1
    conv, pool = [(nn.Conv1d, nn.AdaptiveAvgPool1d), (nn.Conv2d, nn.AdaptiveAvgPool2d), (nn.Conv3d, nn.AdaptiveAvgPool3d)][
        dims - 1
    ]
    torch.manual_seed(0)
    net = nn.Sequential(conv(shape[0], 6, 3, 2, 1), nn.ReLU(), conv(6, 6, 3, 1, 1), nn.ReLU(), pool(1), nn.Flatten())
    net.append(nn.Linear(6, 3)).eval()
    mask = torch.zeros(1, *shape[1:], dtype=torch.bool)
    mask.flatten()[: mask.numel() // 3] = True
    samples = [Sample(torch.rand(shape), i, mask.roll(i, -1), f"s{i}") for i in range(2)]
    comparison = compare_methods(net, samples)
    assert comparison.failures.empty, comparison.failures["error"].unique()
    assert len(comparison.methods) > 5
    assert set(comparison.metrics) == set(DEFAULT)
    known = comparison.scores[comparison.scores["method"].isin(["random", "centred_gaussian", "edge_map"])]
    assert known["score"].notna().mean() > 0.9


def test_an_image_that_is_not_finite_takes_itself_alone(model, samples):
    methods = ["soft_cam", "grad_cam", "random", "edge_map", KernelShap]
    broken = samples[2].image.clone()
    broken[0, 3, 4] = torch.nan
    mixed = [*samples[:2], replace(samples[2], image=broken), *samples[3:]]
    want, got = (sorted_scores(compare_methods(model, each, methods, CHEAP)) for each in (samples, mixed))
    assert got["s2"].isna().all()
    pd.testing.assert_series_equal(got.drop("s2"), want.drop("s2"), atol=1e-4)


class Ends(nn.Module):
    def __init__(self, model: nn.Module, end) -> None:
        super().__init__()
        self.model, self.end = model, end
        self.eval()

    def forward(self, x: torch.Tensor):
        return self.end(self.model(x))


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda s: {"logits": s}, r"the model gives dict with \['logits'\] \(1, 4\) for 1 image; expected logits"),
        (lambda s: (s, s), r"whose forward returns self\.model\(images\)\[0\]"),
        (lambda s: s[:, 0], r"the model gives \(1,\) for 1 image"),
        (lambda s: s.squeeze(), r"self\.model\(images\)\.view\(len\(images\), -1\)"),
        (lambda s: s.mean(), r"the model gives \(\) for 1 image"),
    ],
    ids=["dict", "tuple", "(N,)", "(K,)", "0-dim"],
)
def test_what_is_no_table_of_scores_is_refused_everywhere(model, samples, end, words):
    odd = Ends(model, end)
    with pytest.raises(ValueError, match=words):
        compare_methods(odd, samples, ["random"], ["deletion"], layer="model.backbone")
    with pytest.raises(ValueError, match=words):
        explain_sample(odd, samples[1], ["random"], layer="model.backbone")
    for method in ("grad_cam", Saliency):
        with pytest.raises((ValueError, AssertionError), match=r"the model gives|for scores \("):
            LayerExplainFunc(method, "model.backbone").explain(odd, samples[1].image[None], torch.tensor([1]))


@pytest.mark.parametrize("end", [lambda s: s.softmax(1), lambda s: s.sigmoid()], ids=["softmax", "sigmoid"])
def test_probabilities_are_refused_where_logits_are_read_and_taken_where_not(model, samples, end):
    odd = Ends(model, end)
    with pytest.raises(ValueError, match=r"the model gives probabilities, (rows that sum to 1|numbers from 0 to 1)"):
        compare_methods(odd, samples, ["random"], ["pointing_game", "deletion"], layer="model.backbone")
    comparison = compare_methods(odd, samples, ["random"], ["pointing_game"], layer="model.backbone")
    assert comparison.failures.empty
    for example in (*comparison.examples[:1], explain_sample(odd, samples[1], ["random"], layer="model.backbone")):
        torch.testing.assert_close(example.probabilities, odd(samples[1].image[None])[0].detach(), atol=1e-5, rtol=1e-5)


def test_one_logit_is_explained_with_its_own_probability(model, samples):
    single = Ends(model, lambda s: s[:, :1])
    with pytest.raises(ValueError, match=r"the model gives a single logit, .* pass scores='sigmoid'"):
        explain_sample(single, samples[1], ["random"], layer="model.backbone")
    example = explain_sample(single, samples[1], ["random"], layer="model.backbone", scores="sigmoid")
    own = single(samples[1].image[None])[0].sigmoid().detach()
    torch.testing.assert_close(example.probabilities, torch.cat([1 - own, own]))


def test_wrong_names_are_refused(model, samples):
    twin = replace(METRICS["pixel_auc"], title="Another")
    for arguments, message in (
        ({"methods": ["softcam"]}, r"method 'softcam' is unknown\. Closest: 'soft_cam'"),
        ({"methods": []}, "there are no methods to compare; pass at least one"),
        ({"methods": [LayerGradCam, "grad_cam"]}, "two methods are called 'grad_cam'; give them names"),
        ({"metrics": ["pointing"]}, r"metric 'pointing' is unknown\. Closest: 'pointing_game'"),
        ({"metrics": []}, "there are no metrics to compare by; pass at least one"),
        ({"metrics": ["pixel_auc", twin]}, "two metrics are called 'pixel_auc'"),
        ({"layer": "backbone.blok"}, r"layer 'backbone.blok' is not in SoftCamModel\. Closest: 'backbone.block'"),
        ({"baseline": "occlusion", "methods": FAST}, "the baseline 'occlusion' does not take part"),
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
    with pytest.raises(ValueError, match="Flatten has no layer with a spatial map"):
        compare_methods(nn.Flatten().eval(), samples)


def test_a_comparison_is_what_is_returned(model, samples):
    assert isinstance(compare_methods(model, samples, ["random"], ["pixel_auc"], examples=0), Comparison)
