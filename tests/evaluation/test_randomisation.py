"""Rows of randomisation and the grid pointing game in a whole comparison, on images of one colour each."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, LocalEngine, compare_methods
from captum_softcam.softcam import convert_to_softcam

METHODS = ["soft_cam", "grad_cam", "random", "edge_map"]
METRICS = ["mprt", "mprt_independent", "mprt_ssim", "random_logit", "grid_pointing_game"]


class Colours(nn.Module):
    """Classes are red, green and blue, in every position."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Conv2d(3, 8, 3, padding=1)
        self.colour = nn.Conv2d(8, 3, 1)
        self.fc = nn.Linear(3, 3)
        with torch.no_grad():
            self.mix.weight.mul_(0.05)[:3, :, 1, 1] += torch.eye(3)
            self.colour.weight.mul_(0.05)[:, :3, 0, 0] += torch.eye(3)
            self.fc.weight.copy_(3 * torch.eye(3) - 1 + 0.1 * torch.rand(3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.colour(self.mix(x).relu()).relu().mean((2, 3)))


def make_samples(count: int, *, known: bool = True) -> list[Sample]:
    images = 0.2 * torch.rand(count, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    for i in range(count):
        images[i, i % 3, 2:14, 3:21] += 0.7
    return [Sample(image, i % 3 if known else -1, None, f"s{i}") for i, image in enumerate(images)]


def run(samples: list[Sample], metrics: list[str] = METRICS, **options: object) -> Comparison:
    return compare_methods(convert_to_softcam(Colours().eval()), samples, METHODS, metrics, examples=0, **options)


def means(comparison: Comparison) -> dict[tuple[str, str], float]:
    return comparison.scores.groupby(["method", "metric"])["score"].mean().to_dict()


@pytest.fixture(scope="module")
def whole() -> Comparison:
    return run(make_samples(6))


def test_controls_ignore_the_model_and_methods_do_not(whole):
    found = means(whole)
    assert not len(whole.failures)
    for name in METRICS[:4]:
        for control in ("random", "edge_map"):
            assert found[control, name] == pytest.approx(1, abs=1e-6)
        assert found["soft_cam", name] < 0.9
    assert found["soft_cam", "grid_pointing_game"] > 0.8
    for control in ("random", "edge_map"):
        assert 0.15 < found[control, "grid_pointing_game"] < 0.35


def test_the_other_images_are_chosen_once_and_named(whole):
    names = whole.manifest["fingerprints"]["mosaic images"].split(", ")
    assert [name.split()[0] for name in names] == ["s0", "s1", "s2", "s3", "s4", "s5"]
    later = run(make_samples(6), ["grid_pointing_game"], batch_size=1)
    wide = whole.scores.query("metric == 'grid_pointing_game'")["score"]
    np.testing.assert_allclose(later.scores["score"], wide, atol=1e-5)


def test_tables_say_nothing_of_masks_where_none_is_needed(whole):
    assert "with a mask" not in whole.to_markdown()
    assert "On mosaics with images of other classes" in whole.to_markdown()


def test_classes_that_nobody_knows_are_predicted(whole):
    found = run(make_samples(6, known=False), ["grid_pointing_game"], explain="predicted")
    wide = whole.scores.query("metric == 'grid_pointing_game'")["score"]
    np.testing.assert_allclose(found.scores["score"], wide, atol=1e-5)


def test_one_class_alone_has_no_mosaics_and_no_other_logit():
    reds = [replace(each, target=0) for each in make_samples(6)[::3]]
    found = run(reds, ["grid_pointing_game"])
    assert found.scores["score"].isna().all()
    assert not len(found.failures)


def test_a_resumed_run_has_the_same_mosaics(tmp_path):
    samples = make_samples(6)
    run(samples, ["grid_pointing_game"], folder=tmp_path / "run")
    again = run(samples, ["grid_pointing_game"], folder=tmp_path / "run", resume=True)
    assert len(again.samples) == 6
    with pytest.raises(ValueError, match="was started with mosaic images s0"):
        run(samples[1:], ["grid_pointing_game"], folder=tmp_path / "run", resume=True)


class Shipping(LocalEngine):
    """Sends the scorer away and back, as an engine of several machines does."""

    def run(self, scorer, samples, batches, progress):
        for batch in batches:
            sent = pickle.dumps(scorer)
            assert len(sent) < 300_000
            yield from super().run(pickle.loads(sent), samples, [batch], progress)


def test_random_weights_and_mosaics_are_the_same_on_every_machine(whole):
    shipped = run(make_samples(6), engine=Shipping(), batch_size=3)
    np.testing.assert_allclose(shipped.scores["score"], whole.scores["score"], atol=1e-5)
