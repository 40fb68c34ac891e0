"""Our classes that have the names of Quantus' own: its arguments and the shapes of its answers."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum_softcam import metrics
from captum_softcam.metrics._quantus.arguments import DROP_INS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what other packages say while Quantus imports them
    import quantus


class Grey(nn.Module):
    """A classifier of grey images or signals, which have no channels that could be perturbed apart."""

    def __init__(self, values: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = nn.Parameter(torch.randn(values, 3, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return (flat - 0.3) @ self.weights + 2 * (flat.square() @ self.weights.roll(1, 1)).sin()


@pytest.fixture(params=[(6, 6), (36,)], ids=["images", "signals"])
def data(request) -> dict[str, Any]:
    random = np.random.default_rng(0)
    size = request.param
    return {
        "model": Grey(36).eval(),
        "x_batch": random.random((3, 1, *size), dtype=np.float32),
        "y_batch": np.array([0, 1, 2]),
        "a_batch": random.normal(size=(3, 1, *size)).astype(np.float32),
    }


def both(name: str, data: dict[str, Any], softmax: bool, **settings: Any) -> tuple[Any, Any]:
    """Our answer and that of Quantus, with black in the place of what is removed."""
    plain = {"abs": False, "normalise": False, "return_aggregate": False, "disable_warnings": True}
    settings = {"perturb_baseline": "black", **plain, **settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(quantus, name)(**settings)(**data, channel_first=True, softmax=softmax)
    return getattr(metrics, name)(**settings)(**data), theirs


class TestTheNumbersOfQuantus:
    """Where it is right."""

    @pytest.mark.parametrize("baseline", ["black", "white", 0.25])
    def test_curves_of_positions(self, data, baseline):
        got, want = both("PixelFlipping", data, True, features_in_step=4, perturb_baseline=baseline)
        np.testing.assert_allclose(got, want, atol=1e-6)
        assert np.shape(got) == (3, 9)

    def test_curves_of_regions(self, data):
        if data["x_batch"].ndim == 3:
            pytest.skip("Quantus' regions of signals are squares")
        for name, side in (("RegionPerturbation", 2), ("Selectivity", 3)):
            got, want = both(name, data, True, patch_size=side)
            np.testing.assert_allclose(got, want, atol=1e-6, err_msg=name)
        got, want = both("RegionPerturbation", data, True, patch_size=2, order="lerf", regions_evaluation=4)
        np.testing.assert_allclose(got, want, atol=1e-6)
        assert np.shape(got) == (3, 4)

    @pytest.mark.parametrize("similarity", [None, quantus.similarity_func.correlation_spearman])
    def test_correlations_of_groups(self, data, similarity):
        got, want = both("FaithfulnessEstimate", data, False, features_in_step=4, similarity_func=similarity)
        np.testing.assert_allclose(got, want, atol=1e-5)

    def test_ranks_of_groups(self, data):
        data["a_batch"] = np.abs(data["a_batch"])
        got, want = both("MonotonicityCorrelation", data, False, features_in_step=3, nr_samples=1)
        np.testing.assert_allclose(got, want, atol=1e-6)

    def test_a_function_that_replaces(self, data):
        def halved(arr, indices, **_):
            arr = arr.copy()
            rows = np.arange(len(arr))[:, None]
            arr[rows, indices] = arr[rows, indices] / 2
            return arr

        for func in (halved, quantus.perturb_func.batch_baseline_replacement_by_indices):
            got, want = both("PixelFlipping", data, True, features_in_step=6, perturb_func=func)
            np.testing.assert_allclose(got, want, atol=1e-6)


def test_every_argument_of_quantus_is_taken_or_named():
    """By the class of the same name, or one would be refused as misspelt."""
    for name in DROP_INS.keys() & set(metrics.__all__):
        ours, theirs = getattr(metrics, name), getattr(quantus, name)
        taken = inspect.signature(ours).parameters.keys() | inspect.signature(metrics.QuantusMetric).parameters.keys()
        assert inspect.signature(theirs.__init__).parameters.keys() - {"self", "kwargs"} <= taken, name
        assert DROP_INS[name].differences.endswith("."), name


def test_every_name_of_quantus_is_a_drop_in():
    ours = {name for name in metrics.__all__ if hasattr(quantus, name) and inspect.isclass(getattr(quantus, name))}
    names = {name for each in quantus.AVAILABLE_METRICS.values() for name in (cls.__name__ for cls in each.values())}
    assert ours & names <= set(DROP_INS)


class TestShapes:
    """What each sample gets."""

    def test_monotonicity_is_true_or_false(self, data):
        data["a_batch"][2] = 0
        first, second, flat = metrics.Monotonicity(features_in_step=6)(**data)
        assert {type(first), type(second)} == {bool}
        assert np.isnan(flat)
        fractions = metrics.Monotonicity(features_in_step=6, return_scores=True)(**data)
        assert [first, second] == [fraction == 1 for fraction in fractions[:2]]

    def test_road_is_a_mean_over_the_samples_of_all_batches(self, data):
        settings = {"percentages": [20, 60], "perturb_func": quantus.perturb_func.noisy_linear_imputation, "noise": 0.0}
        whole = metrics.ROAD(**settings)(**data)
        assert list(whole) == [20, 60]
        assert metrics.ROAD(**settings)(**data, batch_size=2) == whole
        assert np.shape(metrics.ROAD(**settings, return_scores=True)(**data)) == (3,)

    def test_an_area_is_that_of_the_samples_of_the_last_call(self, data):
        metric = metrics.Selectivity(patch_size=2)
        for _ in range(2):
            metric(**data, batch_size=2)
            scores = metrics.Selectivity(patch_size=2, return_scores=True)(**data)
            assert metric.get_auc_score == pytest.approx(np.mean(scores))
            assert type(metric.get_auc_score) is np.float64

    def test_one_number_of_irof(self, data):
        metric = metrics.IROF(segmentation_method="slic")
        scores = metric(**data)
        assert metric.get_aoc_score == pytest.approx(np.mean(scores))

    def test_focus_is_the_mass_on_the_quarters(self):
        maps = np.zeros((2, 1, 6, 6), np.float32)
        maps[:, :, :3, 3:] = 1
        maps[:, :, 3:, :3] = 3
        images, quarters = np.zeros((2, 1, 6, 6), np.float32), [(0, 1, 0, 0), (0, 1, 1, 0)]
        assert metrics.Focus()(None, images, np.zeros(2, int), maps, custom_batch=quarters) == [0.25, 1.0]
        with pytest.raises(ValueError, match="Focus needs custom_batch"):
            metrics.Focus()(None, images, np.zeros(2, int), maps)

    def test_top_k_counts_positions_or_the_mask(self, data):
        masks = data["x_batch"] > 0.5
        for k in (1, 7):
            want = quantus.TopKIntersection(k=k, abs=False, normalise=False, disable_warnings=True)(**data, s_batch=masks)
            assert metrics.TopKIntersection(k=k)(**data, s_batch=masks) == pytest.approx(want)
        influence = metrics.TopKIntersection(k=7, concept_influence=True)(**data, s_batch=masks)
        assert influence == pytest.approx(np.multiply(want, 36 / masks.reshape(3, -1).sum(1)))
        assert metrics.TopKIntersection(k=1.0)(**data, s_batch=masks) != metrics.TopKIntersection(k=1)(**data, s_batch=masks)
        with pytest.raises(ValueError, match="k must be from 1 to the number of positions, 36; got 37"):
            metrics.TopKIntersection(k=37)(**data, s_batch=masks)

    def test_a_weighted_mass_is_relative_to_the_size_of_the_mask(self, data):
        masks = data["x_batch"] > 0.5
        plain, weighted = (metrics.AttributionLocalisation(weighted=each)(**data, s_batch=masks) for each in (False, True))
        assert plain == metrics.RelevanceMassAccuracy()(**data, s_batch=masks)
        assert weighted == pytest.approx(np.multiply(plain, 36 / masks.reshape(3, -1).sum(1)))


class TestFeatures:
    """Patches by default, positions where an argument of Quantus counts them."""

    def test_a_subset_counts_positions(self, data):
        assert np.isfinite(metrics.FaithfulnessCorrelation(subset_size=35, nr_runs=9)(**data)).all()
        with pytest.raises(ValueError, match="subset_size must be from 1 to 35, fewer than the 36 patches; got 36"):
            metrics.FaithfulnessCorrelation(subset_size=36)(**data)
        with pytest.raises(ValueError, match="subset_size must be from 1 to"):
            metrics.FaithfulnessCorrelation(subset_size=35, patches=2)(**data)

    def test_sizes_of_sensitivity(self, data):
        got = metrics.SensitivityN(features_in_step=9, n_max_percentage=0.8)(**data)
        each = [metrics.FaithfulnessCorrelation(subset_size=n, runs=50)(**data) for n in (9, 18, 27)]
        np.testing.assert_allclose(got, np.mean(each, 0), rtol=1e-5)

    def test_squares_of_infidelity(self, data):
        sides = [metrics.Infidelity(patches=count, sides=[1])(**data) for count in (3, 2)]
        if data["x_batch"].ndim == 4:
            got = metrics.Infidelity(perturb_patch_sizes=[2, 3], loss_func="mse", n_perturb_samples=3)(**data)
            np.testing.assert_allclose(got, np.mean(sides, 0), rtol=1e-5)

    def test_a_random_order_is_the_same_for_all_samples(self, data):
        settings = {"patch_size": 2, "order": "random"}
        whole = metrics.RegionPerturbation(**settings)(**data)
        np.testing.assert_allclose(metrics.RegionPerturbation(**settings)(**data, batch_size=1), whole, atol=1e-6)
        assert whole != metrics.RegionPerturbation(patch_size=2)(**data)


class TestRefused:
    """In one sentence."""

    @pytest.mark.parametrize(
        ("name", "settings", "words"),
        [
            ("PointingGame", {"weighted": True}, "PointingGame takes False as weighted; got True"),
            ("IROF", {"segmentation_method": "felzenszwalb"}, "Irof takes 'slic' as segmentation_method; got"),
            ("Infidelity", {"loss_func": np.subtract}, "Infidelity takes 'mse' as loss_func; got"),
            ("RegionPerturbation", {"order": "best"}, "takes 'morf' or 'lerf' or 'random' as order; got 'best'"),
            ("ROAD", {"perturb_func": np.subtract}, "takes 'noisy_linear_imputation' as perturb_func; got"),
        ],
    )
    def test_a_value_that_is_not_measured(self, name, settings, words):
        with pytest.raises(ValueError, match=words):
            getattr(metrics, name)(**settings)

    def test_a_baseline_that_does_not_fit(self, data):
        with pytest.raises(ValueError, match=r"perturb_baseline is .*; expected a name such as 'mean'"):
            metrics.Deletion(perturb_baseline=np.zeros((2, 5)))(**data)
        with pytest.raises(ValueError, match="baseline 'neighbourhood_mean' is unknown"):
            metrics.Deletion(perturb_baseline="neighbourhood_mean")(**data)
