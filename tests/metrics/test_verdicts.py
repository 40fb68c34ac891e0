"""Quantus itself, run: every sentence of the table of verdicts is true of it, so that a mended Quantus is noticed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from captum_softcam.metrics import METRICS
from captum_softcam.metrics.verdicts import VERDICTS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what other packages say while Quantus imports them
    import quantus

FAMILIES = ("faithfulness", "robustness", "localisation", "randomisation", "axiomatic", "complexity")
CATEGORIES = {name: importlib.import_module(f"quantus.metrics.{name}") for name in FAMILIES}
OLD = {"ModelParameterRandomisation"}  # the name of MPRT in earlier versions


class Watched(nn.Module):
    """A linear classifier of means and edges that keeps every image it has seen."""

    def __init__(self, channels: int = 3, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(channels, 6, 3, padding=1)
        self.fc = nn.Linear(6, classes)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach().clone())
        return self.fc(self.conv(x).relu().mean((2, 3)))


def batch(samples: int = 4, channels: int = 3, side: int = 8) -> dict[str, np.ndarray]:
    """Images, classes, signed maps and masks."""
    random = np.random.default_rng(0)
    masks = np.zeros((samples, 1, side, side), bool)
    masks[:, :, 2:5, 1:6] = True
    return {
        "x_batch": random.random((samples, channels, side, side), dtype=np.float32) + 0.1,
        "y_batch": np.arange(samples) % 4,
        "a_batch": random.normal(size=(samples, 1, side, side)).astype(np.float32),
        "s_batch": masks,
    }


def ask(name: str, model: nn.Module | None = None, *, call: dict | None = None, data: dict | None = None, **settings):
    """What a class of Quantus answers, nothing taken from the maps before; numpy's random state is left as found."""
    metric = getattr(quantus, name)(
        **{"abs": False, "normalise": False, "return_aggregate": False, "disable_warnings": True, **settings}
    )
    state = np.random.get_state()
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return metric(
                model=(model or Watched((data or batch())["x_batch"].shape[1])).eval(),
                **{key: value.copy() for key, value in (data or batch()).items()},
                channel_first=True,
                **(call or {}),
            )
    finally:
        np.random.set_state(state)


def scores(*arguments, **keywords) -> np.ndarray:
    return np.asarray(ask(*arguments, **keywords), dtype=np.float64)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_metric_of_quantus_has_a_row(category):
    found = {
        thing.__name__
        for thing in vars(CATEGORIES[category]).values()
        if isinstance(thing, type) and issubclass(thing, quantus.Metric) and thing is not quantus.Metric
    }
    assert len(found) >= 3
    assert found >= {thing.__name__ for thing in quantus.AVAILABLE_METRICS[category.title()].values()}
    assert found - OLD == {name for name, verdict in VERDICTS.items() if verdict.category == category}


@pytest.mark.parametrize("verdict", VERDICTS.values(), ids=list(VERDICTS))
def test_a_row_names_a_metric_unless_it_is_refused(verdict):
    assert verdict.text.endswith(".")
    if verdict.verdict == "refused":
        assert verdict.instead is None
    if verdict.instead is None:
        assert verdict.verdict != "corrected"
        return
    metric = METRICS[verdict.instead]
    assert metric.category == verdict.category
    assert (metric.origin == "corrected") == (verdict.verdict == "corrected")


def test_every_corrected_metric_of_ours_corrects_one_of_quantus():
    corrected = {name for name, metric in METRICS.items() if metric.origin == "corrected" and metric.category in CATEGORIES}
    assert corrected == {verdict.instead for verdict in VERDICTS.values() if verdict.verdict == "corrected"}


PROOFS: dict[str, Callable[[], None]] = {}


def proof(function: Callable[[], None]) -> Callable[[], None]:
    """Notes a function as the proof of what the verdict says of the class of Quantus that it is named after."""
    PROOFS[function.__name__] = function
    return function


@pytest.mark.parametrize("name", VERDICTS)
def test_what_is_said_of_quantus_is_true(name):
    PROOFS[name]()


def values_changed(model: Watched) -> int:
    """Number of values in which the second image seen of the first sample differs from the first."""
    return int((model.seen[1][0] != model.seen[0][0]).sum())


@proof
def FaithfulnessCorrelation() -> None:
    model, settings = Watched(), {"subset_size": 1, "nr_runs": 20}
    whole = scores("FaithfulnessCorrelation", model, **settings)
    assert values_changed(model) == 1, "one channel of one pixel"
    pairs = scores("FaithfulnessCorrelation", call={"batch_size": 2}, **settings)
    assert np.abs(whole - pairs).min() > 1e-3, "other subsets"
    defaults = quantus.FaithfulnessCorrelation(disable_warnings=True)
    assert (defaults.subset_size, defaults.return_aggregate) == (224, True)


@proof
def FaithfulnessEstimate() -> None:
    model = Watched()
    ask("FaithfulnessEstimate", model, features_in_step=1)
    assert values_changed(model) == 1, "one channel of one pixel"


@proof
def Infidelity() -> None:
    model, images = Watched(), batch()["x_batch"]
    once = scores("Infidelity", model, n_perturb_samples=1)
    taken = [(step[0] != torch.from_numpy(images[0])).any(0) for step in model.seen[1:]]
    assert [int(step.sum()) for step in taken] == [16, 32, 48, 64], "each on top of those before"
    assert taken[0][:4, :4].all(), "from the top left"
    np.testing.assert_allclose(scores("Infidelity", n_perturb_samples=5), once, rtol=1e-6)


@proof
def IROF() -> None:
    with pytest.raises(AssertionError, match="shape of arr must be the same as the mask shape"):
        ask("IROF")
    needs_trapz(lambda: ask("IROF", data=batch(channels=1, side=16)))


@proof
def Monotonicity() -> None:
    right = batch()
    wrong = {**right, "a_batch": -right["a_batch"]}
    model = Watched()
    assert ask("Monotonicity", model, features_in_step=8, data=right) == [True] * 4
    assert ask("Monotonicity", features_in_step=8, data=wrong) == [True] * 4
    assert all(torch.equal(step, model.seen[0]) for step in model.seen), "it has seen nothing but the baseline"


class Sure(nn.Module):
    """Is sure of class 1 where the image is bright, of class 0 where it is dark."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = 50 * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([-score, score], 1)


@proof
def MonotonicityCorrelation() -> None:
    data = batch(2)
    data["x_batch"][0], data["x_batch"][1] = 0, 1
    data["y_batch"][:] = 1
    settings = {"features_in_step": 32, "nr_samples": 2}
    with pytest.raises(ValueError, match="cannot assign 2 input values to the 1 output values"):
        ask("MonotonicityCorrelation", Sure(), data=data, call={"softmax": True}, **settings)
    assert scores("MonotonicityCorrelation", data=batch(2), **settings).shape == (2,)


@proof
def PixelFlipping() -> None:
    model = Watched()
    assert scores("PixelFlipping", model, features_in_step=8).shape == (4, 24), "24 steps: 192 values, not 64 pixels"
    assert int((model.seen[0][0] != torch.from_numpy(batch()["x_batch"][0])).sum()) == 8, "not a multiple of 3 channels"
    needs_trapz(lambda: ask("PixelFlipping", features_in_step=8, return_auc_per_sample=True))


@proof
def RegionPerturbation() -> None:
    """The class reads the mean of the upper left quarter, the right map says so, and its negative does not."""
    data = batch(1)
    data["a_batch"][:] = -1
    data["a_batch"][..., :4, :4] = 1

    class Quarter(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            score = x[:, :, :4, :4].mean((1, 2, 3))
            return torch.stack([score, -score, -score, -score], 1)

    right = scores("RegionPerturbation", Quarter(), data=data, patch_size=4, regions_evaluation=2)
    wrong = scores(
        "RegionPerturbation",
        Quarter(),
        data={**data, "a_batch": -data["a_batch"]},
        patch_size=4,
        regions_evaluation=2,
    )
    assert right.shape == (1, 2), "a curve"
    assert (right > wrong).all(), "higher is better"
    assert quantus.RegionPerturbation.score_direction.name == "LOWER"


@proof
def ROAD() -> None:
    with pytest.raises(IndexError):
        ask("ROAD", percentages=[50])
    data = batch(channels=1)
    first = {key: value[:2] for key, value in data.items()}
    all_of_them = ask("ROAD", data=data, percentages=[10, 50], call={"batch_size": 2})
    assert list(all_of_them) == [10, 50], "shares by percentage"
    assert all_of_them == ask("ROAD", data=first, percentages=[10, 50]), "two samples of four"


@proof
def Selectivity() -> None:
    assert scores("Selectivity", patch_size=4).shape == (4, 4), "a curve"
    metric = quantus.Selectivity(patch_size=4, disable_warnings=True)
    metric.evaluation_scores = [[0.5, 0.2]]
    needs_trapz(lambda: metric.get_auc_score)


@proof
def SensitivityN() -> None:
    data = batch(6)
    settings = {"features_in_step": 16, "n_max_percentage": 1.0}
    over_all = scores("SensitivityN", data=data, **settings)
    assert over_all.shape == (4,), "a number per step, for six samples"
    three = {key: value[:3] for key, value in data.items()}
    first = scores("SensitivityN", data=three, **settings)
    np.testing.assert_array_equal(scores("SensitivityN", data=data, call={"batch_size": 3}, **settings), first)
    assert np.abs(first - over_all).max() > 0.01


@proof
def Sufficiency() -> None:
    """Two samples alike, in a batch with others and by themselves."""
    data = batch(6)
    data["x_batch"][1] = data["x_batch"][0]
    data["a_batch"][1] = data["a_batch"][0] + 0.01
    assert scores("Sufficiency", data=data)[:2].tolist() == [1, 1]
    assert scores("Sufficiency", data=data, call={"batch_size": 2})[:2].tolist() == [0, 0]


@proof
def BatchSufficiency() -> None:
    with pytest.raises(ValueError, match="cannot reshape array"):
        ask("BatchSufficiency")


@proof
def AttributionLocalisation() -> None:
    assert quantus.AttributionLocalisation(disable_warnings=True).abs
    data = batch()
    opposed = {**data, "a_batch": np.where(data["s_batch"], -1, 0.1).astype(np.float32)}
    assert (scores("AttributionLocalisation", data=opposed, abs=True) > 0.7).all(), "all evidence of the mask is negative"
    whole = scores("AttributionLocalisation", weighted=True, positive_attributions=True)
    halves = scores("AttributionLocalisation", weighted=True, positive_attributions=True, call={"batch_size": 3})
    assert np.abs(whole[:3] - halves[:3]).max() > 0.01
    mass = scores("RelevanceMassAccuracy", data={**data, "a_batch": np.maximum(data["a_batch"], 0)})
    np.testing.assert_allclose(scores("AttributionLocalisation", positive_attributions=True), mass, rtol=1e-5)


@proof
def AUC() -> None:
    data = batch()
    data["s_batch"][:] = data["a_batch"] > 0.5
    assert scores("AUC", data=data).tolist() == [1, 1, 1, 1]
    assert scores("AUC", data={**data, "a_batch": -data["a_batch"]}).tolist() == [0, 0, 0, 0]


@proof
def Focus() -> None:
    assert not VERDICTS["Focus"].column
    with pytest.raises(TypeError, match="'NoneType' object is not iterable"):
        ask("Focus")
    quarters = np.tile([1, 1, 0, 0], (4, 1))
    upper_half = np.maximum(batch()["a_batch"], 0)[:, :, :4].sum((1, 2, 3)) / np.maximum(batch()["a_batch"], 0).sum(
        (1, 2, 3)
    )
    np.testing.assert_allclose(scores("Focus", call={"custom_batch": quarters}), upper_half, rtol=1e-5)


@proof
def PointingGame() -> None:
    data = batch()
    data["s_batch"][0] = False
    data["a_batch"][1:] = (data["s_batch"] | (np.arange(8) > 5))[1:]  # two plateaus, of which the mask is one
    assert scores("PointingGame", data=data).tolist() == [1, 1, 1, 1]
    with pytest.raises(TypeError, match="boolean array indexing"):
        ask("PointingGame", weighted=True)


@proof
def RelevanceMassAccuracy() -> None:
    data = batch()
    data["a_batch"][:] = -0.5
    data["a_batch"][:2, :, 2:5, 1:6] = 2  # 30 of 30 - 24.5
    data["a_batch"][2:, :, 2:5, 1:6] = 1  # 15 of 15 - 24.5
    found = scores("RelevanceMassAccuracy", data=data)
    np.testing.assert_allclose(found, [30 / 5.5] * 2 + [15 / -9.5] * 2, rtol=1e-5)


@proof
def RelevanceRankAccuracy() -> None:
    """A peak and one position of a plateau: found or not by where the position stands."""
    places = np.eye(64, dtype=bool)[1:].reshape(63, 1, 8, 8)
    maps = np.zeros((63, 1, 8, 8), np.float32)
    maps[..., 0, 0] = 1
    data = {**batch(63), "a_batch": maps, "s_batch": places | (maps > 0)}
    assert set(scores("RelevanceRankAccuracy", data=data).tolist()) == {0.5, 1.0}


@proof
def TopKIntersection() -> None:
    with pytest.raises(ValueError, match="'k' must be smaller than input size"):
        ask("TopKIntersection")
    data = batch(2, side=40)
    data["a_batch"] = data["s_batch"].astype(np.float32) + np.linspace(0, 0.5, 40, dtype=np.float32)
    np.testing.assert_allclose(scores("TopKIntersection", data=data), 15 / 1000)


def alike(samples: int = 2) -> dict[str, np.ndarray]:
    """The same image and map in every place of the batch, positive."""
    data = batch(samples)
    for name in ("x_batch", "a_batch", "y_batch"):
        data[name][:] = data[name][:1]
    return {**data, "a_batch": data["x_batch"].mean(1, keepdims=True)}


def grey(*, inputs: np.ndarray, **_: object) -> np.ndarray:
    """The mean over the channels as a map, which follows the image wherever it goes."""
    return np.asarray(inputs).mean(1, keepdims=True)


def fixed(*, inputs: np.ndarray, **_: object) -> np.ndarray:
    """The same map of every image."""
    return np.tile(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8), (len(inputs), 1, 1, 1))


EXPLAINED = {"explain_func": grey}


def draws_anew(name: str) -> None:
    found = scores(name, data=alike(), call=EXPLAINED, nr_samples=3)
    assert found[0] != found[1], "two samples alike"


@proof
def MaxSensitivity() -> None:
    draws_anew("MaxSensitivity")
    shift = quantus.MaxSensitivity(disable_warnings=True).perturb_func
    moved = shift(arr=np.full((1, 64), 100.0), indices=np.arange(64)[None]) - 100
    assert 0.1 < np.abs(moved).max() <= 0.2, "in units of the input"


@proof
def AvgSensitivity() -> None:
    draws_anew("AvgSensitivity")


@proof
def LocalLipschitzEstimate() -> None:
    draws_anew("LocalLipschitzEstimate")
    ten = alike()
    ten["x_batch"], ten["a_batch"] = ten["x_batch"] * 10, ten["a_batch"] * 10
    settings = {"nr_samples": 3, "normalise": True, "call": EXPLAINED}
    one = scores("LocalLipschitzEstimate", data=alike(), perturb_std=0.01, **settings)
    other = scores("LocalLipschitzEstimate", data=ten, perturb_std=0.1, **settings)
    np.testing.assert_allclose(one, other * 10, rtol=1e-3)


@proof
def Continuity() -> None:
    data, settings = batch(2), {"nr_steps": 4}
    assert scores("Continuity", data=data, call={"explain_func": fixed}, **settings).tolist() == [0, 0], "the best"
    assert (scores("Continuity", data=data, call=EXPLAINED, **settings) > 0.5).all()
    model = Watched()
    ask("Continuity", model, data=data, call=EXPLAINED, nr_steps=20, perturb_func=lambda **_: 1 / 0)
    assert all((step.flatten(1).std(1) == 0).all() for step in model.seen), "shifted by 8 of 8 positions, again and again"


@proof
def Consistency() -> None:
    data = alike(3)
    np.testing.assert_allclose(scores("Consistency", data=data), 1, err_msg="all agree")
    assert scores("Consistency", data=data, call={"batch_size": 1}).tolist() == [0, 0, 0]
    assert quantus.Consistency.score_direction.name == "LOWER"


class Bright(nn.Module):
    """Class 1 as soon as the image is brighter than 0.5 on average."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Identity()
        self.second = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = self.second(self.first(x)).mean((1, 2, 3)) - 0.5
        return torch.stack([-score, score], 1)


def has_the_faults_of_relative_stability(name: str) -> None:
    noise = getattr(quantus, name)(disable_warnings=True).perturb_func
    assert (noise(arr=np.zeros((1, 64)), indices=np.arange(64)[None]) >= 0.02).all(), "it only brightens"
    data = alike()
    data["y_batch"][:] = 0
    data["x_batch"][:] = 0.3
    data["a_batch"][:] = np.eye(8)
    one, tenth = (scores(name, Bright(), data=data, call=EXPLAINED, nr_samples=1, eps_min=eps) for eps in (1e-6, 1e-7))
    np.testing.assert_allclose(tenth, 10 * one, rtol=1e-3)
    data["x_batch"][:] = 0.45
    assert np.isnan(scores(name, Bright(), data=data, call=EXPLAINED, nr_samples=5)).all(), "the prediction changes"


@proof
def RelativeInputStability() -> None:
    has_the_faults_of_relative_stability("RelativeInputStability")


@proof
def RelativeOutputStability() -> None:
    has_the_faults_of_relative_stability("RelativeOutputStability")


@proof
def RelativeRepresentationStability() -> None:
    has_the_faults_of_relative_stability("RelativeRepresentationStability")
    data = alike()
    data["x_batch"][:] = -0.1  # behind the ReLU 0, and above 0 with the noise
    data["y_batch"][:] = 0
    settings = {"data": data, "call": EXPLAINED, "nr_samples": 1}
    one, tenth = (scores("RelativeRepresentationStability", Bright(), eps_min=eps, **settings) for eps in (1e-6, 1e-7))
    np.testing.assert_allclose(tenth, one / 10, rtol=1e-2)


class Gated(nn.Module):
    """A layer, and a weight of a module that cannot reset it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.scale = nn.Parameter(torch.full((4,), 3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.mean((2, 3))) * self.scale


@proof
def MPRT() -> None:
    scales = []

    def explain(*, model: nn.Module, inputs: np.ndarray, **_: object) -> np.ndarray:
        scales.append(model.scale.detach().mean().item())
        return np.random.default_rng(len(scales)).random((len(inputs), 1, 8, 8))

    data = batch(2)
    found = ask("MPRT", Gated(), data={**data, "a_batch": np.abs(data["a_batch"])}, call={"explain_func": explain})
    assert list(found) == ["original", "fc"]
    assert scales == [3, 3], "the weight stays as it is"
    mean = scores("MPRT", Gated(), data=data, call=EXPLAINED, return_average_correlation=True)
    by_layer = ask("MPRT", Gated(), data=data, call=EXPLAINED)
    np.testing.assert_allclose(mean, np.mean([by_layer["original"], by_layer["fc"]], 0))


@proof
def SmoothMPRT() -> None:
    def explain(**_: object) -> np.ndarray:
        raise AssertionError("called")

    found = ask("SmoothMPRT", data=batch(1), call={"explain_func": explain}, nr_samples=2)
    assert list(found) == ["original", "conv", "fc"]


@proof
def EfficientMPRT() -> None:
    """The map of the random network has the same values elsewhere."""

    def explain(*, model: nn.Module, inputs: np.ndarray, **_: object) -> np.ndarray:
        maps = batch(len(inputs))["a_batch"]
        trained = torch.equal(model.fc.weight, Watched().fc.weight)
        return maps if trained else maps[..., ::-1, ::-1].copy()

    data = {**batch(2), "a_batch": batch(2)["a_batch"]}
    np.testing.assert_allclose(scores("EfficientMPRT", data=data, call={"explain_func": explain}), 0, atol=1e-6)


@proof
def RandomLogit() -> None:
    from skimage.metrics import structural_similarity

    assert quantus.RandomLogit(disable_warnings=True).num_classes == 1000
    data = alike(1)
    call = {"explain_func": lambda targets, **_: np.random.default_rng(int(targets[0])).random((1, 1, 8, 8))}
    found = scores("RandomLogit", data=data, call=call, num_classes=4, seed=3)
    lines = data["a_batch"].ravel()
    others = [np.random.default_rng(i).random(64) for i in range(4)]
    ranges = [max(lines.max(), each.max()) - min(lines.min(), each.min()) for each in others]
    every = [structural_similarity(lines, each, data_range=span) for each, span in zip(others, ranges, strict=True)]
    assert np.abs(np.array(every) - found).min() < 1e-6, "of one line of 64 values"

    def seeded(**_: object) -> np.ndarray:
        drawn.append(np.random.get_state()[1].tolist())
        return np.random.default_rng(0).random((1, 1, 8, 8))

    drawn: list[list[int]] = []
    for seed in (3, 4):  # and NumPy's generator is seeded alike before
        scores("RandomLogit", data=data, call={"explain_func": seeded}, num_classes=4, seed=seed)
    assert drawn[0] != drawn[1]


@proof
def Completeness() -> None:
    class Sum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum((1, 2, 3))[:, None].repeat(1, 4)

    data = batch(16)
    data = {**data, "a_batch": data["x_batch"].sum(1, keepdims=True)}
    assert not all(ask("Completeness", Sum(), data=data)), "rounded in another order"
    assert quantus.Completeness(disable_warnings=True).normalise
    assert not any(ask("Completeness", Sum(), data=data, normalise=True))


@proof
def NonSensitivity() -> None:
    model = Watched()
    ask("NonSensitivity", model, data=batch(1))
    assert len(model.seen) == 1 + 3 * 64
    with pytest.raises(ValueError, match="broadcast"):
        ask("NonSensitivity", data=batch(1), features_in_step=2)


@proof
def InputInvariance() -> None:
    def shifted(padding: int) -> float:
        """Largest difference of the shifted network's outputs for shifted images, of which there should be none."""
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=padding), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
        images = torch.rand(2, 3, 8, 8) + 1
        model = quantus.helpers.utils.get_wrapped_model(net, channel_first=True, softmax=False, device="cpu")
        other = model.add_mean_shift_to_first_layer(-1, (1, 3, 8, 8))
        return (other(images - 1) - net(images)).abs().max().item()

    assert shifted(0) < 1e-5
    assert shifted(1) > 1e-2
    chain = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(TypeError, match="not subscriptable"):
        ask("InputInvariance", chain, call=EXPLAINED)


@proof
def Complexity() -> None:
    share = np.abs(batch()["a_batch"].reshape(4, -1))
    share /= share.sum(1, keepdims=True)
    np.testing.assert_allclose(scores("Complexity", abs=True, normalise=True), -(share * np.log(share)).sum(1), rtol=1e-5)


@proof
def EffectiveComplexity() -> None:
    assert scores("EffectiveComplexity", Bright(), abs=True, normalise=True).tolist() == [64] * 4


@proof
def Sparseness() -> None:
    one, other = (
        scores("Sparseness", data={**batch(), "a_batch": batch()["a_batch"] * scale}, abs=True) for scale in (1, 1e-7)
    )
    assert (other < one / 2 + 0.1).all(), "1e-7 weighs as much as the values"


def needs_trapz(action: Callable[[], object]) -> None:
    """numpy 2.4 has no trapz; with an older numpy there is nothing to show."""
    if hasattr(np, "trapz"):
        action()
        return
    with pytest.raises(AttributeError, match="trapz"):
        action()
