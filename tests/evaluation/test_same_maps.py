"""Methods that give the same map: up to scale and constant, in every sample, across batches, and said once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, compare_methods, same_maps
from captum_softcam.evaluation.result import BatchResult
from captum_softcam.evaluation.same_maps import SameMaps, SameMapsFinder

NAMES = ("a", "b", "c", "d")


def found(*methods: torch.Tensor | None) -> list[SameMaps]:
    """The groups among maps (N, 1, h, w), one tensor per method; None for a method that failed."""
    return same_maps.same_maps([record(*methods)], NAMES[: len(methods)])


def record(*methods: torch.Tensor | None) -> np.ndarray:
    count = next(len(maps) for maps in methods if maps is not None)
    filled = np.empty((count, len(methods), 2), dtype=np.int16)
    finder = SameMapsFinder(filled)
    for place, maps in enumerate(methods):
        if maps is not None:
            finder.add(place, maps)
    return filled


@pytest.fixture
def maps() -> torch.Tensor:
    return torch.randn(3, 1, 8, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [1e-12, 0.3, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_positive_factor_keeps_a_map(maps, scale, dtype):
    assert found(maps, (scale * maps.double()).to(dtype)) == [SameMaps(("a", "b"), 3, False)]


@pytest.mark.parametrize("constant", [0.01, -3, 100])
def test_so_does_a_constant_which_is_said(maps, constant):
    assert found(maps, 2 * maps + constant) == [SameMaps(("a", "b"), 3, True)]


@pytest.mark.parametrize("change", [lambda m: -m, torch.tanh, torch.relu, lambda m: m.flip(-1), lambda m: m.roll(1, 0)])
def test_other_maps_are_not_the_same(maps, change):
    assert found(maps, change(maps)) == []


def test_rounding_is_no_difference_and_more_is_one(maps):
    noise = torch.rand(maps.shape, generator=torch.Generator().manual_seed(1)) * (maps.amax() - maps.amin())
    assert found(maps, maps + 1e-5 * noise)[0].methods == ("a", "b")
    assert found(maps, maps + 1e-3 * noise) == []


def test_half_precision_does_not_hide_a_difference():
    ramp = torch.linspace(0, 1, 64, dtype=torch.bfloat16).view(1, 1, 8, 8)
    other = ramp.clone()
    other[0, 0, 7, 6] = ramp[0, 0, 7, 6] + 2**-7
    assert found(ramp, 2 * ramp) == [SameMaps(("a", "b"), 1, False)]
    assert found(ramp + 1000, 2 * ramp) == []
    assert found(ramp, other) == []


def test_one_position_of_one_sample_is_a_difference(maps):
    other = maps.clone()
    other[2, 0, 7, 8] += 0.01
    assert found(maps, other) == []


def test_flat_undefined_and_failed_maps_are_not_counted(maps):
    other = 2 * maps
    other[0], other[1, 0, 0, 0] = 0.5, torch.nan
    assert found(maps, other) == [SameMaps(("a", "b"), 1, False)]
    assert found(maps, None, maps) == [SameMaps(("a", "c"), 3, False)]
    flat = torch.full_like(maps, 0.5)
    assert found(flat, flat) == [], "no order to agree on"
    assert found(maps * torch.nan, maps * torch.nan) == []


@pytest.mark.parametrize("shape", [(2, 1, 50), (2, 1, 5, 6, 7), (2, 1, 300, 401), (2, 1, 1, 1)])
def test_signals_volumes_and_large_pictures(shape):
    some = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    groups = found(some, 3 * some - 1, some.flip(-1))
    assert groups == ([SameMaps(("a", "b"), 2, True)] if some[0].numel() > 1 else [])


def test_groups_are_apart_and_hold_in_all_batches(maps):
    other = maps.flip(-1)
    assert found(maps, other, 3 * maps, 2 * other) == [SameMaps(("a", "c"), 3, False), SameMaps(("b", "d"), 3, False)]
    assert found(maps, maps + 1, 3 * maps, other) == [SameMaps(("a", "b", "c"), 3, True)]
    agree, differ = record(maps, 2 * maps), record(maps, other)
    assert same_maps.same_maps([agree, agree], "ab") == [SameMaps(("a", "b"), 6, False)]
    assert same_maps.same_maps([agree, differ], "ab") == []
    assert same_maps.same_maps([agree, None], "ab") == [], "a batch of an earlier version says nothing"
    assert same_maps.same_maps([], "ab") == []


class Pooled(nn.Module):
    """A convolution, pooling and a linear classifier, behind which Grad-CAM without ReLU is Recipro-CAM up to scale."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.ReLU())
        self.classifier = nn.Linear(5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images).mean((2, 3)))


METHODS = ["grad_cam", "recipro_cam", "class_activation_map", "random"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    samples = [Sample(torch.rand(3, 17, 17), i % 3, None, f"s{i}") for i in range(7)]
    folder = tmp_path_factory.mktemp("same") / "run"
    model = Pooled().eval()
    metrics = ["deletion", "sparseness"]
    return compare_methods(model, samples, METHODS, metrics, layer="features", batch_size=3, folder=folder), folder


def test_a_run_records_and_says_it_once(run):
    comparison, folder = run
    group = ("grad_cam", "recipro_cam", "class_activation_map")
    assert comparison.same_maps == [SameMaps(group, 7, False)]
    view = Comparison.load(folder).view()
    assert view.same == (group,)
    (note,) = [note for note in view.notes() if "same map" in note]
    assert note == (
        "grad_cam, recipro_cam and class_activation_map give the same map up to scale (all 7 samples): their scores differ "
        "where a metric reads values, not where it reads their order; as printed, none differs."
    )
    assert (view.differences.loc[["recipro_cam", "class_activation_map"], "better"] == 0).all()


def test_metrics_that_differ_beyond_rounding_are_named(run):
    comparison, _ = run
    scores = comparison.scores.copy()
    sparse = scores["metric"] == "sparseness"
    scores.loc[sparse & (scores["method"] == "recipro_cam"), "score"] += 0.1
    view = Comparison(scores, comparison.costs, comparison.manifest).view()
    assert "as printed, in Sparseness." in " ".join(view.notes())


def test_comparisons_of_earlier_versions_say_nothing(run):
    comparison, _ = run
    manifest = {name: value for name, value in comparison.manifest.items() if name != "same_maps"}
    assert Comparison(comparison.scores, comparison.costs, manifest).view().same == ()


def test_the_record_survives_the_file_of_a_batch(tmp_path):
    filled = record(torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4))
    lists = (["x", "y"], ["x", "y"], ["", ""], [0, 1], [0, 1], [0, 1], [False] * 2, [None] * 2)
    result = BatchResult((0, 1), *lists, np.zeros((2, 2, 1)), np.zeros((2, 4)), 1.0, filled)
    result.save(tmp_path / "batch.npz")
    assert np.array_equal(BatchResult.load(tmp_path / "batch.npz").same, filled)
    assert np.array_equal(result.without([0]).same, filled[1:])
    earlier = BatchResult((0, 1), *lists, np.zeros((2, 2, 1)), np.zeros((2, 4)), 1.0)
    earlier.save(tmp_path / "earlier.npz")
    assert BatchResult.load(tmp_path / "earlier.npz").same is None
    assert earlier.without([0]).same is None
