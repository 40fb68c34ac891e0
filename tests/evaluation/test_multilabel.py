"""Samples that share an image: batches, clean forwards, costs and checks."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice

import numpy as np
import oracles
import pandas as pd
import pytest
import torch
from comparisons import METHODS, make_model, make_samples, sorted_scores
from reports import make_comparison
from torch.utils.data import ConcatDataset, Dataset, Subset

from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, CostMeter, LocalEngine, class_performance, compare_methods
from captum_softcam.evaluation.batch import make_batch
from captum_softcam.evaluation.performance import judge, performance_table
from captum_softcam.evaluation.runner import _batches
from captum_softcam.evaluation.statistics import mean_intervals
from captum_softcam.report.html.data import page_data
from captum_softcam.softcam import Classifier

LABELS = [(0, 2), (1,), (0, 1, 3), (2,), (2, 3)]
METRICS = ["pointing_game", "deletion", "average_drop"]


def pairs(together: bool = True) -> list[Sample]:
    """Nine pairs of five images and their classes, the classes in turn; without a group if they are not ``together``."""
    found = [
        replace(
            sample,
            target=label,
            identifier=f"{sample.identifier}/{label}",
            group=sample.identifier if together else None,
            labels=labels if together else None,
        )
        for sample, labels in zip(make_samples(), LABELS, strict=True)
        for label in labels
    ]
    return sorted(found, key=lambda sample: sample.target)


class Unknown(Dataset):
    """A data set that does not tell its groups."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


class Counted(torch.nn.Module):
    """A model that notes the images of every forward of the whole model."""

    def __init__(self):
        super().__init__()
        self.model, self.seen = make_model(), []

    def forward(self, images):
        self.seen.append(len(images))
        return self.model(images)


def single() -> torch.nn.Module:
    """A network of one logit."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return net.append(torch.nn.Linear(4, 1)).eval()


def binary() -> list[Sample]:
    return [replace(sample, target=i % 2) for i, sample in enumerate(make_samples())]


@pytest.mark.parametrize(
    ("groups", "size", "want"),
    [
        (None, 2, [[0, 1], [2, 3], [4]]),
        ("abcde", 2, [[0, 1], [2, 3], [4]]),
        ("abcab", 3, [[0, 3], [1, 4, 2]]),
        ("abcab", 4, [[0, 3, 1, 4], [2]]),
        ("aaaab", 2, [[0, 1], [2, 3], [4]]),
        ("abaaa", 3, [[0, 2, 3], [4, 1]]),
    ],
)
def test_the_samples_of_an_image_are_in_one_batch(groups, size, want):
    assert _batches(range(5), groups, size) == want
    assert sorted(chain(*_batches([4, 2, 3], groups, size))) == [2, 3, 4], "what is left of an interrupted run"


def clean_forwards(samples, size: int) -> int:
    """Images that run through the model in a comparison of a method and a metric without forwards of their own."""

    def run(samples):
        model = Counted().eval()
        compare_methods(model, samples, ["random"], ["pixel_auc"], layer="model.backbone", batch_size=size, examples=0)
        return sum(model.seen)

    return run(samples) - run([samples[0]]) + 1  # less those of the first image that check model and layer


@pytest.mark.parametrize("size", [3, 4, 16])
def test_every_image_runs_once(size):
    assert clean_forwards(pairs(), size) == len(LABELS)
    assert clean_forwards(pairs(False), size) == sum(map(len, LABELS)), "without groups every pair is an image"


def test_data_sets_whose_groups_are_not_known_share_within_a_batch():
    assert clean_forwards(Unknown(pairs()), 9) == len(LABELS)
    assert clean_forwards(Subset(pairs(), range(4)), 3) == 3, "classes 0 and 1, of three images"
    assert clean_forwards(ConcatDataset([pairs()[:3], pairs()[3:]]), 3) == len(LABELS)


@pytest.mark.parametrize("engine", [None, LocalEngine(workers=1)])
@pytest.mark.parametrize("size", [1, 4, 16])
def test_scores_are_those_of_separate_forwards(size, engine):
    shared = compare_methods(make_model(), pairs(), METHODS, METRICS, batch_size=size, engine=engine)
    apart = compare_methods(make_model(), pairs(False), METHODS, METRICS, batch_size=1)
    keys = ["sample", "label", "target", "prediction", "method", "metric"]
    assert shared.scores[keys].equals(apart.scores[keys]), "in the same order"
    pd.testing.assert_series_equal(sorted_scores(shared), sorted_scores(apart), atol=1e-5)
    assert shared.contents["sample"].tolist() == apart.contents["sample"].tolist()
    assert shared.contents["group"].tolist() == [sample.group for sample in pairs()]
    assert apart.contents["group"].tolist() == apart.contents["sample"].tolist()
    assert shared.costs["forwards"].tolist() == apart.costs["forwards"].tolist()


def test_rows_of_a_batch_are_gathered_from_its_images():
    samples = pairs()
    shared, _ = make_batch(make_model(), samples, (16, 24), lambda images: images, "true")
    distinct, _ = make_batch(make_model(), [*make_samples()], (16, 24), lambda images: images, "true")
    rows = [int(sample.group[1:]) for sample in samples]
    assert torch.equal(shared.images, distinct.images[rows])
    assert torch.equal(shared.outputs, distinct.outputs[rows]), "to the last digit: both are one forward of five images"
    assert torch.equal(shared.masks.flatten(1).any(1), torch.tensor([row > 0 for row in rows]))


def test_a_plain_forward_is_that_of_an_image(monkeypatch):
    """Its time is divided by the images that ran, and not by their samples."""
    monkeypatch.setattr(CostMeter, "__exit__", lambda self, *_: self._stack.close() or setattr(self, "seconds", 10.0))
    _, seconds = make_batch(make_model(), pairs(), (16, 24), lambda images: images, "true")
    assert seconds == 10 / len(LABELS)


def test_an_interrupted_run_goes_on(tmp_path):
    whole = compare_methods(make_model(), pairs(), METHODS, METRICS, batch_size=3, folder=tmp_path / "whole")

    class Interrupt(LocalEngine):
        def run(self, *arguments):
            yield next(iter(super().run(*arguments)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_methods(make_model(), pairs(), METHODS, METRICS, batch_size=3, folder=tmp_path / "cut", engine=Interrupt())
    resumed = compare_methods(make_model(), pairs(), METHODS, METRICS, batch_size=3, folder=tmp_path / "cut", resume=True)
    assert resumed.scores.equals(whole.scores)
    assert resumed.contents.equals(whole.contents)
    assert Comparison.load(tmp_path / "cut").contents["group"].tolist() == [sample.group for sample in pairs()]


def test_a_sample_whose_labels_changed_is_scored_again(tmp_path):
    class Interrupt(LocalEngine):
        def run(self, *arguments):
            yield from islice(super().run(*arguments), 2)
            raise KeyboardInterrupt

    samples = pairs()
    with pytest.raises(KeyboardInterrupt):
        compare_methods(make_model(), samples, METHODS, METRICS, batch_size=4, folder=tmp_path / "run", engine=Interrupt())
    samples = [replace(sample, undecided=(1,)) if sample.group == "s0" else sample for sample in samples]
    with pytest.warns(UserWarning, match=r"2 of \d samples changed since they were scored"):
        compare_methods(make_model(), samples, METHODS, METRICS, batch_size=4, folder=tmp_path / "run", resume=True)


def test_a_group_is_one_image():
    samples = pairs()
    samples[0] = replace(samples[0], image=samples[0].image + 0.01)
    with pytest.raises(ValueError, match=r"samples 's0/0' and 's0/2' are of the group 's0' and have different images; a gr"):
        compare_methods(make_model(), samples, METHODS, METRICS)


def test_the_labels_of_an_image_are_those_of_all_its_samples():
    samples = pairs()
    samples[0] = replace(samples[0], labels=(0, 2, 3))
    with pytest.raises(
        ValueError, match=r"samples 's0/0' and 's0/2' are of the group 's0' and have different labels; all sa"
    ):
        compare_methods(make_model(), samples, METHODS, METRICS)
    alone = [replace(pairs()[0], labels=(1, 2))]
    with pytest.raises(
        ValueError, match="sample 's0/0' has the class 0, which is not among the labels of its image, 1, 2; l"
    ):
        compare_methods(make_model(), alone, METHODS, METRICS)


def test_images_that_are_not_finite_may_be_shared():
    samples = [replace(sample, image=sample.image.where(sample.image < 0.9, torch.nan)) for sample in pairs()]
    comparison = compare_methods(make_model(), samples, ["soft_cam"], ["pixel_auc"])
    assert np.isnan(comparison.scores["score"]).all()


def with_images(comparison: Comparison, images: list[str]) -> Comparison:
    """The same comparison with these images of its samples."""
    contents = pd.DataFrame({"sample": comparison.samples, "sha256": "0", "group": images})
    return replace(comparison, contents=contents)


IMAGES = ["a", "a", "b", "c", "c", "c", "d", "a", "b", "d"]


class TestIntervals:
    def test_means_and_differences_resample_images(self):
        plain = make_comparison()
        noise = np.random.default_rng(0).normal(size=len(plain.scores))  # or all differences were equal
        plain = replace(plain, scores=plain.scores.assign(score=plain.scores["score"] + noise))
        comparison = with_images(plain, IMAGES)
        scores = comparison.scores.set_index(["sample", "method", "metric"])["score"].unstack(["method", "metric"])
        scores = scores.loc[comparison.samples]
        one, other = scores["soft_cam", "pixel_auc"].to_numpy(), scores["grad_cam", "pixel_auc"].to_numpy()
        row = comparison.summary().loc["soft_cam", "pixel_auc"]
        assert row[["mean", "low", "high"]].tolist() == pytest.approx([e[0] for e in mean_intervals(one[:, None], IMAGES)])
        row = comparison.differences("grad_cam").loc["soft_cam", "pixel_auc"]
        ends = [e[0] for e in mean_intervals((one - other)[:, None], IMAGES)]
        assert row[["mean", "low", "high"]].tolist() == pytest.approx(ends)
        assert (comparison.summary()["low"] != plain.summary()["low"]).all(), "and not samples"
        assert comparison.differences()["low"].tolist() != plain.differences()["low"].tolist()

    def test_marks_count_images(self):
        assert make_comparison().differences()["better"].abs().sum() > 0
        few = with_images(make_comparison(), IMAGES).differences(adjust="none")
        assert few["better"].abs().sum() == 0, "ten samples of four images are too few"
        assert few[["count", "images"]].max().tolist() == [10, 4]
        six = with_images(make_comparison(), ["a", "a", "b", "c", "d", "e", "f", "f", "f", "f"])
        assert six.differences(adjust="none")["better"].abs().sum() > 0
        assert six.differences()["better"].abs().sum() == 0, "and six too few after the correction"

    def test_without_the_column_each_sample_is_an_image(self, tmp_path):
        comparison = make_comparison()
        plain = replace(comparison, contents=pd.DataFrame({"sample": comparison.samples, "sha256": "0"}))
        plain.save(tmp_path)
        loaded = Comparison.load(tmp_path)
        assert loaded.images == loaded.samples == comparison.images
        assert loaded.summary().equals(with_images(comparison, comparison.samples).summary()), "to the last digit"
        assert not loaded.view().shared

    def test_images_are_saved_with_the_comparison(self, tmp_path):
        comparison = with_images(make_comparison(), ["007", "007", "NA", "1e5", "1e5", "x", "", "x", "y", "z"])
        comparison.save(tmp_path)
        loaded = Comparison.load(tmp_path)
        assert loaded.images == comparison.images
        assert loaded.differences().equals(comparison.differences())

    def test_bands_of_curves_resample_images(self):
        comparison = make_comparison()
        bands = [page_data(each, each.view(), [])["curves"] for each in (comparison, with_images(comparison, IMAGES))]
        (one, *_), (other, *_) = ([line for figure in each for line in figure["lines"]] for each in bands)
        assert np.array_equal(one["mean"], other["mean"])
        assert not np.array_equal(one["low"], other["low"])

    def test_notes_count_pairs_and_images(self):
        notes = " ".join(with_images(make_comparison(), IMAGES).view().notes())
        assert "10 samples, pairs of an image and a class, of 4 images, 9 of them classified correctly." in notes
        assert "with 4 images no difference can be marked; at least 6 are needed." in notes
        assert "95 % intervals: over resampled images" in notes
        assert "images" not in " ".join(make_comparison().view().notes()).replace("the same images", "")


class TestPerformance:
    def test_of_a_comparison_equals_a_loop_and_scikit_learn(self):
        metrics = pytest.importorskip("sklearn.metrics")
        comparison = compare_methods(make_model(), pairs(), ["random"], ["pixel_auc"], scores="sigmoid", batch_size=4)
        table = comparison.performance.set_index("class")
        assert list(table.index) == ["0", "1", "2", "3", "mean"]
        with torch.no_grad():
            logits = torch.cat([make_model()(sample.image[None]) for sample in make_samples()]).double().numpy()
        shown = np.array([[k in labels for k in range(4)] for labels in LABELS])
        for k in range(4):
            area, precision = oracles.area_and_precision(logits[:, k].tolist(), shown[:, k].tolist())
            assert table.loc[str(k), "auc"] == pytest.approx(area) == metrics.roc_auc_score(shown[:, k], logits[:, k])
            assert table.loc[str(k), "average_precision"] == pytest.approx(precision)
            assert table.loc[str(k), "shown"] == shown[:, k].sum()
        assert table.loc["mean", "auc"] == pytest.approx(metrics.roc_auc_score(shown, logits, average="macro"))
        macro = metrics.average_precision_score(shown, logits, average="macro")
        assert table.loc["mean", "average_precision"] == pytest.approx(macro)
        assert comparison.manifest["multilabel"] is True
        assert (comparison.manifest["images"], comparison.manifest["samples"]) == (5, 9)

    def test_each_image_counts_once_in_any_batch_and_after_a_reload(self, tmp_path):
        one, other = (
            compare_methods(make_model(), pairs(), ["random"], ["pixel_auc"], batch_size=size, folder=tmp_path / str(size))
            for size in (3, 16)
        )
        pd.testing.assert_frame_equal(one.performance, other.performance)
        loaded = Comparison.load(tmp_path / "16")
        pd.testing.assert_frame_equal(loaded.performance, other.performance)
        assert loaded.view().notes()[0] == other.view().notes()[0]

    def test_scores_of_a_softmax_are_its_log_odds(self):
        """By the logits themselves, the images would have another order."""
        outputs = torch.tensor([[5.0, 4.0], [3.0, 0.0], [1.0, -9.0], [2.0, 3.0]])
        samples = [Sample(torch.zeros(1, 2, 2), k, None, f"s{i}", labels=(k,)) for i, k in enumerate((0, 0, 0, 1))]
        table = performance_table(judge(samples, outputs, "softmax"))
        assert table["auc"].tolist() == [1, 1, 1]
        plain = performance_table(judge(samples, outputs, "sigmoid"))
        assert plain["auc"][0] == pytest.approx(2 / 3)
        own = performance_table(judge(samples, outputs, lambda logits: -logits))
        assert own["auc"][0] == pytest.approx(1 / 3)

    def test_undecided_classes_count_neither_way(self):
        samples = [replace(sample, undecided=(1,)) if sample.group == "s0" else sample for sample in pairs()]
        table = compare_methods(make_model(), samples, ["random"], ["pixel_auc"]).performance
        assert table[["shown", "absent"]].iloc[:4].values.tolist() == [[2, 3], [2, 2], [3, 2], [2, 3]]

    def test_without_labels_there_is_none(self):
        comparison = compare_methods(make_model(), pairs(False), ["random"], ["pixel_auc"])
        assert not len(comparison.performance)
        assert comparison.manifest["multilabel"] is False
        assert "classified correctly" in comparison.view().notes()[0]
        mixed = [*pairs()[:-1], replace(pairs()[-1], labels=None, group=None)]
        assert not len(compare_methods(make_model(), mixed, ["random"], ["pixel_auc"]).performance)

    def test_a_single_logit_has_an_area(self):
        comparison = compare_methods(single(), binary(), ["random"], ["pixel_auc"], scores="sigmoid")
        with torch.no_grad():
            logits = [float(single()(sample.image[None])) for sample in binary()]
        area, _ = oracles.area_and_precision(logits, [sample.target == 1 for sample in binary()])
        assert comparison.performance["auc"].tolist() == pytest.approx([area] * 3)
        assert comparison.manifest["multilabel"] is False
        assert f"classified correctly; AUC {area:.3f} [" in comparison.view().notes()[0]

    def test_notes_name_the_means_instead_of_the_accuracy(self):
        comparison = compare_methods(make_model(), pairs(), ["random"], ["pixel_auc"])
        auc, precision = comparison.performance.iloc[-1][["auc", "average_precision"]]
        first = comparison.view().notes()[0]
        assert first.startswith(
            f"9 samples, pairs of an image and a class, of 5 images; predictions by class: mean AUC {auc:.3f} ["
        )
        assert f"], mean average precision {precision:.3f} [" in first
        assert "classified" not in first

    def test_labels_that_the_model_lacks(self):
        samples = [replace(sample, labels=(*sample.labels, 4)) for sample in pairs()]
        with pytest.raises(
            ValueError, match="the image of sample 's0/0' has the label 4; the model has 4 classes, numbers 0"
        ):
            compare_methods(make_model(), samples, ["random"], ["pixel_auc"])

    def test_of_a_classifier(self):
        model = Counted().eval()
        classifier = Classifier("mine", model, ("a", "b", "c", "d"), 16, (0, 0, 0), (1, 1, 1), scores="sigmoid")
        table = class_performance(classifier, pairs(), batch_size=2)
        assert model.seen == [2, 2, 1], "each image runs once"
        compared = compare_methods(make_model(), pairs(), ["random"], ["pixel_auc"], scores="sigmoid").performance
        pd.testing.assert_frame_equal(table.drop(columns="class"), compared.drop(columns="class"))
        assert table["class"].tolist() == ["a", "b", "c", "d", "mean"]
        pd.testing.assert_frame_equal(class_performance(classifier, Unknown(pairs()), batch_size=2), table)
        with pytest.raises(
            ValueError, match="sample 's0/0' has no labels, and the model 4 classes; pass all classes of the"
        ):
            class_performance(classifier, pairs(False))
        with pytest.raises(ValueError, match="there are no samples to predict"):
            class_performance(classifier, [])

    def test_examples_keep_the_labels(self, tmp_path):
        compare_methods(make_model(), pairs(), ["random"], ["pixel_auc"], folder=tmp_path / "run", examples=9)
        # Those with a mask come first.
        want = sorted(pairs(), key=lambda sample: sample.mask is None)[:9]
        found = [example.sample for example in Comparison.load(tmp_path / "run").examples]
        told = [
            {sample.identifier: (sample.group, sample.labels, sample.undecided) for sample in samples}
            for samples in (found, want)
        ]
        assert told[0] == told[1]
