"""The metrics as classes of Quantus: the numbers of the rows, called as Quantus' own classes are."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum_softcam import metrics
from captum_softcam.evaluation import LayerExplainFunc
from captum_softcam.metrics import METRICS, Batch, Curve, Explanation, QuantusMetric
from captum_softcam.metrics.functional import blur_baseline
from captum_softcam.metrics.registry import CLASS_NAMES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what other packages say while Quantus imports them
    import quantus

CLASSES = {cls.row: cls for cls in (getattr(metrics, name) for name in CLASS_NAMES)}
SAME = ("AttributionLocalisation", "Focus")  # the relevance mass in other words
EACH = pytest.mark.parametrize("name", METRICS)
IMAGE = (24, 32)


@pytest.fixture
def model(net) -> nn.Module:
    return net.float()


@pytest.fixture
def data() -> dict[str, np.ndarray]:
    """Five images and masks, one mask empty; maps that are signed, of positive, of negative and of no evidence."""
    random = np.random.default_rng(0)
    maps = random.normal(size=(5, 1, *IMAGE)).astype(np.float32)
    maps[1], maps[2], maps[3] = np.abs(maps[1]), -np.abs(maps[2]), 0
    masks = random.random((5, 1, *IMAGE)) < 0.3
    masks[4] = False
    images = random.random((5, 3, *IMAGE), dtype=np.float32)
    arrays = {"x_batch": images, "y_batch": np.array([0, 1, 2, 3, 0]), "a_batch": maps, "s_batch": masks}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def brightness(*, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
    """Maps that depend on image and class."""
    return inputs.mean(1, keepdims=True) - 0.1 * targets[:, None, None, None].astype(np.float32)


def made(name: str, **settings: Any) -> QuantusMetric:
    """The class of a row, which answers with the score of each sample."""
    cls = CLASSES[name]
    return cls(**settings, **({"return_scores": True} if "return_scores" in cls.arguments else {}))


def leaves(cls: type) -> set[type]:
    """Return the classes below a class that have a row, without those that name it anew."""
    found = {each for below in cls.__subclasses__() for each in {below, *leaves(below)}}
    return {each for each in found if hasattr(each, "row") and each.__name__ not in SAME}


def measured(name: str, model: nn.Module, data: dict[str, np.ndarray], **settings: Any) -> list[float]:
    """The scores of the row itself."""
    images, targets, maps, masks = (torch.tensor(array) for array in data.values())
    batch = Batch(model, images, targets, masks)
    explanation = Explanation(
        batch, maps, lambda x, **_: torch.tensor(brightness(inputs=x.numpy(), targets=data["y_batch"]))
    )
    scores = METRICS[name].function(explanation, **{**METRICS[name].settings, **settings})
    return (scores.area if isinstance(scores, Curve) else scores).tolist()


def test_every_metric_has_a_class():
    assert CLASSES.keys() == METRICS.keys()
    assert set(CLASSES.values()) == leaves(QuantusMetric)
    assert {cls.__name__ for cls in CLASSES.values()} == set(CLASS_NAMES)


def test_names_in_capitals_are_those_of_quantus():
    for name, ours in {"IROF": "Irof", "MPRT": "Mprt", "ROAD": "Road", "AUC": "PixelAuc"}.items():
        assert getattr(metrics, name) is getattr(metrics, ours)
        assert hasattr(quantus, name)


def test_all_names_are_typed():
    """The stub that type checkers read has the names of the package, the classes by the list of their module."""
    stub = (Path(metrics.__file__).parent / "__init__.pyi").read_text()
    typed = set(re.findall(r"import (\w+) as \1", stub))
    for module in re.findall(r"^from \.([\w.]+) import \*$", stub, re.MULTILINE):
        typed |= set(importlib.import_module(f"captum_softcam.metrics.{module}").__all__)
    assert typed == set(metrics.__all__)


@EACH
def test_a_class_says_what_it_is(name):
    metric, cls = METRICS[name], CLASSES[name]
    assert issubclass(cls, quantus.Metric)
    assert cls.name == metric.title
    assert cls.score_direction.name == ("HIGHER" if metric.higher_is_better else "LOWER")
    assert cls.evaluation_category.name == metric.category.upper()
    assert {kind.name for kind in cls.data_applicability} == {"IMAGE", "TIMESERIES"}
    assert {kind.name for kind in cls.model_applicability} == {"TORCH"}


@EACH
def test_a_docstring_is_true(name):
    """Direction, cost, source and settings stand in it; nothing else would notice when a row changes."""
    metric, text = METRICS[name], inspect.getdoc(CLASSES[name])
    assert f":cite:p:`{metric.source}`" in text
    assert ("Higher" if metric.higher_is_better else "Lower") + " is better" in text
    forwards, maps = (re.search(rf"(\d+) {unit}", text) for unit in ("forward", "map"))
    assert (int(forwards[1]) if forwards else 0) == metric.forwards
    assert (int(maps[1]) if maps else 0) == metric.attributions
    listed = dict(re.findall(r"^    (\w+) \(.*Default: (.*)$", text, re.MULTILINE))
    assert listed.keys() == metric.settings.keys()
    for setting, default in listed.items():
        assert default.strip('`"') == str(metric.settings[setting]) or "..." in default


@EACH
def test_a_signature_shows_the_settings(name):
    found = inspect.signature(CLASSES[name]).parameters
    category, forwards = METRICS[name].category, METRICS[name].forwards
    plays = category == "faithfulness" or (category in ("axiomatic", "complexity") and forwards)
    shared = {"patches": None} if plays else {}
    if forwards or METRICS[name].attributions:
        shared |= {"scores": "softmax", "seed": 0}
    of_quantus = dict.fromkeys(CLASSES[name].arguments)
    want = {**of_quantus, **shared, **METRICS[name].settings}
    assert {key: each.default for key, each in found.items() if key != "common"} == want
    assert CLASSES[name]().settings == {**shared, **METRICS[name].settings}


@EACH
def test_a_class_gives_the_numbers_of_its_row(name, model, data):
    got = made(name)(model, **data, explain_func=brightness)
    assert type(got) is list
    assert {type(score) for score in got} == {float}
    np.testing.assert_array_equal(got, measured(name, model, data))
    assert np.isfinite(got[int(METRICS[name].needs_mosaics)])  # all others are taken for class 0


@EACH
def test_no_score_depends_on_the_batch_size(name, net, data):
    """In float64: in float32 a convolution rounds by batch size, and ranks of equal answers change places."""
    whole, pairs = (made(name)(net, **data, explain_func=brightness, batch_size=size) for size in (5, 2))
    np.testing.assert_allclose(pairs, whole, rtol=1e-6)


@EACH
def test_maps_may_come_from_an_explain_func(name, model, data):
    data = {**data, "a_batch": brightness(inputs=data["x_batch"], targets=data["y_batch"])}
    explained = made(name)(model, **{**data, "a_batch": None}, explain_func=brightness, batch_size=3)
    np.testing.assert_allclose(explained, made(name)(model, **data, explain_func=brightness, batch_size=3), rtol=0)


def test_every_batch_is_explained_once_with_what_the_caller_gives(model, data):
    calls = []

    def explain(model, inputs, targets, **more):
        calls.append((model, len(inputs), more))
        return brightness(inputs=inputs, targets=targets)

    given = {"method": "any"}
    more = {"explain_func": explain, "explain_func_kwargs": given, "device": "cpu", "batch_size": 3}
    metrics.PointingGame()(model, **{**data, "a_batch": None}, **more)
    assert calls == [(model, size, {"method": "any", "device": "cpu"}) for size in (3, 2)]
    assert given == {"method": "any"}


@pytest.mark.parametrize("method", ["grad_cam", "recipro_cam"])
def test_the_adapter_is_an_explain_func(method, model, data):
    explain = LayerExplainFunc(method, layer="relu")
    images, targets = torch.tensor(data["x_batch"]), torch.tensor(data["y_batch"])

    def maps(images: Tensor) -> Tensor:
        return explain.explain(model, images, targets)

    want = (
        METRICS["coherency"]
        .measure(Explanation(Batch(model, images, targets), maps(images), lambda x, **_: maps(x)))
        .tolist()
    )
    assert np.isfinite(want).any()
    got = metrics.Coherency()(model, **{**data, "a_batch": None}, explain_func=explain)
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("pointing_game", {"tolerance": 2}),
        ("top_k_intersection", {"k": 1.5}),
        ("top_k_localisation_precision", {"k": 3, "patches": 4}),
        ("insertion", {"steps": 4}),
        ("infidelity", {"sides": [1], "scaled": False}),
        ("road", {"fractions": [0.5], "noise": 0.1}),
    ],
)
def test_settings_are_those_of_the_row(name, settings, model, data):
    got = made(name, **settings)(model, **data)
    np.testing.assert_array_equal(got, measured(name, model, data, **settings))
    assert not np.array_equal(got, made(name)(model, **data), equal_nan=True)


def test_patches_and_seed_are_settings_of_faithfulness(model, data):
    plain, coarse, other = (
        metrics.FaithfulnessCorrelation(runs=20, subset_size=4, **more)(model, **data)
        for more in ({"patches": 8}, {"patches": 4}, {"patches": 8, "seed": 1})
    )
    assert plain[0] != coarse[0]
    assert plain[0] != other[0]


def test_abs_and_normalise_are_taken_map_by_map(model, data):
    magnitudes = {**data, "a_batch": np.abs(data["a_batch"])}
    got = metrics.RelevanceMassAccuracy(abs=True)(model, **data)
    np.testing.assert_array_equal(got, metrics.RelevanceMassAccuracy()(model, **magnitudes))
    seen = []

    def halve(maps, by):
        seen.append(maps.shape)
        return maps / by

    scaled = metrics.RelevanceMassAccuracy(normalise=True, normalise_func=halve, normalise_func_kwargs={"by": 2})
    np.testing.assert_allclose(scaled(model, **data), metrics.RelevanceMassAccuracy()(model, **data), rtol=1e-6)
    assert seen == [(1, 1, *IMAGE)] * 5


def test_one_number_for_all_if_asked(model, data):
    scores = metrics.PixelAuc()(model, **data)
    assert np.isnan(metrics.PixelAuc(return_aggregate=True)(model, **data)).tolist() == [True]
    (mean,) = metrics.PixelAuc(return_aggregate=True, aggregate_func=np.nanmean)(model, **data)
    assert mean == pytest.approx(np.nanmean(scores))


def test_quantus_keeps_its_own_habits(model, data, capsys):
    metric = metrics.PixelAuc(display_progressbar=True)
    first, second = metric(model, **data), metric(model, **data, softmax=True)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(metric.evaluation_scores, second)
    assert len(metric.all_evaluation_scores) == 10
    assert metric.get_params["settings"] == {}
    metric.interpret_scores()
    assert capsys.readouterr().out.startswith("Chance that a position on the mask is higher")


class TestEvaluate:
    """``quantus.evaluate``, with all that a table needs."""

    def test_gives_the_scores(self, model, data):
        table = {"mass": metrics.RelevanceMassAccuracy(), "road": metrics.Road(), "curve": metrics.PixelFlipping()}
        maps = brightness(inputs=data["x_batch"], targets=data["y_batch"])
        results = self.ask(table, {"made": brightness, "given": maps}, model, data)
        assert results.keys() == {"made", "given"}
        for name, metric in table.items():
            want = type(metric)()(model, **{**data, "a_batch": maps}, batch_size=2)
            np.testing.assert_equal(results["made"][name], want)
            np.testing.assert_equal(results["given"][name], want)

    @pytest.mark.parametrize("cls", [metrics.Coherency, metrics.Adcc])
    def test_explains_other_images_with_the_function_it_was_given(self, cls, model, data, capsys):
        results = self.ask({"metric": cls()}, {"made": brightness}, model, data)
        want = cls()(model, **{**data, "a_batch": None}, explain_func=brightness, batch_size=2)
        np.testing.assert_array_equal(results["made"]["metric"], want)
        with pytest.raises(KeyError):  # with arrays there is none, and one failure takes the whole table down
            self.ask({"metric": cls()}, {"given": data["a_batch"]}, model, data)
        assert "re-explaining" in capsys.readouterr().out

    @pytest.mark.parametrize("cls", [metrics.Coherency, metrics.Adcc])
    def test_explains_other_images_with_the_function_of_the_metric_where_maps_are_arrays(self, cls, model, data):
        maps = brightness(inputs=data["x_batch"], targets=data["y_batch"])
        results = self.ask({"metric": cls(explain_func=brightness)}, {"given": maps}, model, data)
        want = cls()(model, **{**data, "a_batch": maps}, explain_func=brightness, batch_size=2)
        np.testing.assert_array_equal(results["given"]["metric"], want)

    @staticmethod
    def ask(table: dict, methods: dict, model: nn.Module, data: dict[str, np.ndarray]) -> dict:
        return quantus.evaluate(
            table,
            methods,
            model=model,
            **{key: data[key] for key in ("x_batch", "y_batch", "s_batch")},
            explain_func_kwargs={},
            call_kwargs={"in_pairs": {"batch_size": 2, "device": "cpu", "softmax": True}},
        )

    def test_takes_arrays_of_negative_evidence(self, model, data):
        """Those of a function it refuses itself, before it asks any metric."""
        negative = -np.abs(data["a_batch"][:1])
        rest = {key: data[key][:1] for key in ("x_batch", "y_batch", "s_batch")}
        results = quantus.evaluate({"auc": metrics.PixelAuc()}, {"given": negative}, model=model, **rest)
        assert np.isfinite(results["given"]["auc"]).all()
        with pytest.raises(AssertionError, match="should not all be less than zero"):
            quantus.evaluate(
                {"auc": metrics.PixelAuc()}, {"made": lambda **_: negative}, model=model, **rest, explain_func_kwargs={}
            )


def test_a_batch_without_positive_evidence_is_measured(model, data):
    for maps in (-np.abs(data["a_batch"]) - 1, 0 * data["a_batch"]):
        with pytest.raises(AssertionError):
            quantus.AUC(disable_warnings=True)(model, **{**data, "a_batch": maps.copy()})
        given = metrics.PixelAuc()(model, **{**data, "a_batch": maps})
        made = metrics.PixelAuc()(model, **{**data, "a_batch": None}, explain_func=lambda maps=maps, **_: maps)
        np.testing.assert_array_equal(given, made)
        assert np.isfinite(given[:3]).all() == bool(maps.any())


def of_quantus(name: str, model: nn.Module, data: dict[str, np.ndarray], softmax: bool = False, **settings: Any) -> Any:
    """What Quantus' own class of that name answers."""
    own = getattr(quantus, name)(
        **{"abs": False, "normalise": False, "return_aggregate": False, "disable_warnings": True, **settings}
    )
    arrays = {key: array.copy() for key, array in data.items()}
    return np.asarray(own(model, **arrays, channel_first=True, softmax=softmax), np.float64)


@pytest.fixture
def proper(data) -> dict[str, np.ndarray]:
    """Signed maps without equal values, and a mask for each."""
    random = np.random.default_rng(1)
    return {**data, "a_batch": random.normal(size=(5, 1, *IMAGE)), "s_batch": random.random((5, 1, *IMAGE)) < 0.3}


@pytest.mark.parametrize(
    ("cls", "name", "positive"),
    [
        (metrics.PointingGame, "PointingGame", False),
        (metrics.RelevanceRankAccuracy, "RelevanceRankAccuracy", False),
        (metrics.PixelAuc, "AUC", False),
        (metrics.RelevanceMassAccuracy, "RelevanceMassAccuracy", True),
        (metrics.EnergyBasedPointingGame, "AttributionLocalisation", True),
        (metrics.Sparseness, "Sparseness", True),
    ],
)
def test_equals_quantus_where_it_is_right(cls, name, positive, model, proper):
    if positive:
        proper["a_batch"] = np.abs(proper["a_batch"])
    np.testing.assert_allclose(cls()(model, **proper), of_quantus(name, model, proper), atol=2e-7)  # Sparseness adds 1e-7


def test_top_k_equals_quantus_with_as_many_positions(model, proper):
    one = {key: array[:1] for key, array in proper.items()}
    count = int(0.5 * one["s_batch"].sum() + 0.5)
    assert metrics.TopKIntersection()(model, **one) == of_quantus("TopKIntersection", model, one, k=count).tolist()


class Grey(nn.Module):
    """A classifier of grey images, which have no channels that could be perturbed apart."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return 10 * self.fc(self.conv(x).relu().mean((2, 3)))


@pytest.fixture
def grey() -> dict[str, np.ndarray]:
    random = np.random.default_rng(2)
    images = random.random((3, 1, 8, 8), dtype=np.float32)
    maps = random.normal(size=(3, 1, 8, 8)).astype(np.float32)
    return {"x_batch": images, "y_batch": np.array([0, 1, 2]), "a_batch": maps, "s_batch": images > 0.5}


class TestFaithfulnessEqualsQuantus:
    """On images whose pixels are the patches, with the same blur in the place of what is taken."""

    @staticmethod
    def ask(name: str, model: nn.Module, data: dict[str, np.ndarray], *, softmax: bool, **settings: Any) -> np.ndarray:
        blurred = blur_baseline(torch.tensor(data["x_batch"]), sigma=1.0).flatten(1).numpy()

        def blur(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
            rows = np.arange(len(arr))[:, None]
            arr = arr.copy()
            arr[rows, indices] = blurred[rows, indices]
            return arr

        return of_quantus(name, model, data, softmax, perturb_func=blur, **settings)

    def test_estimate(self, grey):
        want = self.ask("FaithfulnessEstimate", Grey().eval(), grey, softmax=False)
        got = metrics.FaithfulnessEstimate()(Grey().eval(), **grey)
        np.testing.assert_allclose(got, want, atol=1e-4)  # a drop below a millionth of the logit is 0 for us alone

    def test_region_perturbation(self, grey):
        falls = self.ask("RegionPerturbation", Grey().eval(), grey, softmax=True, patch_size=1, regions_evaluation=32)
        metric = metrics.RegionPerturbation()
        np.testing.assert_allclose(metric(Grey().eval(), **grey), falls, atol=1e-6)
        assert metric.get_auc_score == pytest.approx((falls.sum(1) / 33).mean(), abs=1e-6)

    @pytest.mark.parametrize(
        ("cls", "settings"), [(metrics.PixelFlipping, {"features_in_step": 1}), (metrics.Selectivity, {"patch_size": 2})]
    )
    def test_curves(self, cls, settings, grey):
        curves = self.ask(cls.__name__, Grey().eval(), grey, softmax=True, **settings)
        with torch.no_grad():
            first = Grey()(torch.tensor(grey["x_batch"])).softmax(1)[range(3), grey["y_batch"]].numpy()
        points = np.concatenate([first[:, None], curves], 1)
        want = (points[:, 1:] + points[:, :-1]).mean(1) / 2
        metric = cls()
        np.testing.assert_allclose(metric(Grey().eval(), **grey), curves, atol=1e-6)
        assert metric.get_auc_score == pytest.approx(want.mean(), abs=1e-6)
        np.testing.assert_allclose(cls(return_scores=True)(Grey().eval(), **grey), want, atol=1e-6)


def test_the_scripts_of_the_reference_run():
    page = Path(__file__).parents[2] / "docs/reference/metrics.md"
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        exec(block, names)
    assert {len(scores) for table in names["scores"].values() for scores in table.values()} == {3}
    assert all(np.isfinite(table["insertion"]).all() for table in names["scores"].values())


class TestOtherData:
    """What users have at hand."""

    @EACH
    def test_maps_and_masks_without_channel(self, name, model, data):
        flat = {**data, "a_batch": data["a_batch"][:, 0], "s_batch": data["s_batch"][:, 0].astype(np.uint8)}
        want = made(name)(model, **data, explain_func=brightness)
        np.testing.assert_array_equal(made(name)(model, **flat, explain_func=brightness), want)

    @EACH
    @pytest.mark.parametrize("key", ["x_batch", "a_batch"])
    def test_a_broken_sample_takes_itself_alone(self, name, key, net, data):
        if (name, key) == ("grid_pointing_game", "a_batch"):
            return  # the image of a broken map fills mosaics of others
        others = [0, 1, 3, 4]
        alone = made(name)(net, **{k: array[others] for k, array in data.items()}, explain_func=brightness)
        broken = data[key].copy()
        broken[2, 0, 5, 5] = np.nan
        together = made(name)(net, **{**data, key: broken}, explain_func=brightness)
        np.testing.assert_allclose(np.array(together)[others], alone, rtol=1e-6)
        assert np.isnan(together[2])

    @EACH
    def test_channels_of_maps_are_summed(self, name, model, data):
        """As Captum's methods of the input give them, and as a comparison reads them."""
        maps = np.random.default_rng(1).normal(size=data["x_batch"].shape).astype(np.float32)

        def of_channels(**more: Any) -> np.ndarray:
            return brightness(**more) * np.array([3.0, -1.0, -1.0], np.float32)[:, None, None]

        want = made(name)(model, **{**data, "a_batch": maps.sum(1, keepdims=True)}, explain_func=brightness)
        got = made(name)(model, **{**data, "a_batch": maps}, explain_func=of_channels)
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-6)
        explained = made(name)(model, **{**data, "a_batch": None}, explain_func=of_channels)
        want = made(name)(model, **{**data, "a_batch": None}, explain_func=brightness)
        np.testing.assert_allclose(explained, want, rtol=1e-3, atol=1e-3)

    def test_tensors(self, model, data):
        tensors = {key: torch.tensor(array) for key, array in data.items()}
        for cls in (metrics.PixelAuc, metrics.Deletion):
            np.testing.assert_array_equal(
                cls()(model, **tensors, batch_size=2), cls()(model, **data, batch_size=2), err_msg=cls.__name__
            )

    def test_maps_without_a_model(self, data):
        want = metrics.PixelAuc()(nn.Flatten().eval(), **data)
        np.testing.assert_array_equal(metrics.PixelAuc()(None, **data), want)

    def test_images_of_another_type_are_brought_to_the_model(self, model, data):
        double = {**data, "x_batch": data["x_batch"].astype(np.float64)}
        np.testing.assert_array_equal(metrics.Deletion()(model, **double), metrics.Deletion()(model, **data))

    @EACH
    @pytest.mark.parametrize("size", [(40,), (8, 9, 10)], ids=["signals", "volumes"])
    def test_what_is_said_of_the_data_is_true(self, name, size):
        random = np.random.default_rng(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(2 * int(np.prod(size)), 3)).eval()
        with torch.no_grad():
            model[1].bias[1] += 100  # neither image is taken for the class of the other
            model[1].weight.view(3, 2, *size)[..., : size[-1] // 2] = 0  # ignored
        maps, images = random.normal(size=(2, 1, *size)), random.random((2, 2, *size))
        more = {"a_batch": maps, "s_batch": maps > 0, "explain_func": lambda inputs, **_: inputs[:, :1] - 0.5}
        assert np.isfinite(made(name)(model, images, np.array([0, 2]), **more)).all()

    def test_channels_last(self, model, data):
        last = {**data, "x_batch": np.moveaxis(data["x_batch"], 1, -1)}
        want = metrics.Deletion()(model, **data)
        np.testing.assert_allclose(metrics.Deletion()(model, **last, channel_first=False), want, rtol=1e-6)

    def test_further_arguments_of_the_model(self, data):
        class Scaled(nn.Module):
            def forward(self, x: Tensor, by: float = 1.0) -> Tensor:
                return by * x.mean((2, 3))

        data = {**data, "y_batch": np.array([0, 1, 2, 0, 1])}
        plain, scaled = (
            metrics.Insertion()(Scaled().eval(), **data, model_predict_kwargs=more) for more in (None, {"by": 50.0})
        )
        assert plain[0] != scaled[0]


class Ends(nn.Module):
    """A classifier with something behind it."""

    def __init__(self, model: nn.Module, end: Any) -> None:
        super().__init__()
        self.model, self.end = model, end
        self.eval()

    def forward(self, x: Tensor) -> Any:
        return self.end(self.model(x))


NOT_LOGITS = {
    "one logit": (lambda s: s[:, :1], "the model gives a single logit, whose softmax is 1 whatever it sees"),
    "softmax": (lambda s: s.softmax(1), "the model gives probabilities, rows that sum to 1"),
    "sigmoid": (lambda s: s.sigmoid(), "the model gives probabilities, numbers from 0 to 1"),
    "(N,)": (lambda s: s[:, 0], r"the model gives \(5,\) for 5 images; expected logits \(N, K\): wrap the model"),
    "0-dim": (lambda s: s.sum(), r"the model gives \(\) for 5 images; expected logits \(N, K\): wrap the model"),
    "dict": (lambda s: {"logits": s}, r"the model gives dict with \['logits'\] \(5, 4\) for 5 images"),
    "tuple": (lambda s: (s, s), r"the model gives tuple with \[0\] \(5, 4\), \[1\] \(5, 4\) for 5 images"),
}


class TestRefused:
    """In one sentence that says what to do."""

    @pytest.mark.parametrize("name", ["tolerence", "toleranc"])
    def test_misspelt_settings(self, name):
        with pytest.raises(ValueError, match=rf"PointingGame has no setting '{name}'\. Closest: 'tolerance'"):
            metrics.PointingGame(**{name: 2})

    def test_settings_of_other_metrics(self):
        with pytest.raises(ValueError, match=r"PointingGame has no setting 'seed'\. Known: 'tolerance', 'weighted', 'abs'"):
            metrics.PointingGame(seed=2)

    def test_what_quantus_gets_by_place(self):
        with pytest.raises(TypeError):
            metrics.PointingGame(True)

    def test_no_masks(self, model, data):
        with pytest.raises(ValueError, match=r"PixelAuc compares maps with masks; pass masks as s_batch"):
            metrics.PixelAuc()(model, **{**data, "s_batch": None})

    def test_no_maps(self, model, data):
        with pytest.raises(ValueError, match=r"Deletion has nothing to measure; pass maps as a_batch, or the explain_func"):
            metrics.Deletion()(model, **{**data, "a_batch": None})

    def test_no_model(self, data):
        with pytest.raises(ValueError, match=r"Deletion needs the model; got None"):
            metrics.Deletion()(None, **data)

    @pytest.mark.parametrize("cls", [metrics.Coherency, metrics.Adcc])
    def test_no_way_to_explain_another_image(self, cls, model, data):
        with pytest.raises(ValueError, match=rf"{cls.__name__} needs maps of other images; pass the explain_func"):
            cls()(model, **data)

    def test_a_model_in_train_mode(self, model, data):
        with pytest.raises(ValueError, match=r"Call model\.eval\(\) first"):
            metrics.PixelAuc()(model.train(), **data)

    @EACH
    def test_maps_of_another_size(self, name, model, data):
        maps = data["a_batch"]
        for other in (maps[:, :, ::2, ::2], maps.transpose(0, 1, 3, 2), maps[:, :, :, :-1], maps[..., None]):
            with pytest.raises(ValueError, match=r"maps (are )?\(.*expected \(N, "):
                CLASSES[name]()(model, **{**data, "a_batch": other}, explain_func=brightness)

    @EACH
    def test_fewer_maps_classes_or_masks_than_images(self, name, model, data):
        for key in ("a_batch", "y_batch", "s_batch"):
            with pytest.raises(ValueError, match=f"{key} has 3 entries, x_batch 5; expected one for each image"):
                CLASSES[name]()(model, **{**data, key: data[key][:3]}, explain_func=brightness)

    @pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.category == "localisation"])
    def test_masks_of_another_shape(self, name, model, data):
        for masks in (data["x_batch"], data["s_batch"][..., ::2]):
            with pytest.raises(ValueError, match=r"s_batch is .*; expected one mask for each image"):
                CLASSES[name]()(model, **{**data, "s_batch": masks})

    @EACH
    def test_tables(self, name):
        table = np.random.default_rng(0).random((3, 10), dtype=np.float32)
        with pytest.raises(ValueError, match=r"x_batch is \(3, 10\), a table; the metrics need positions"):
            CLASSES[name]()(nn.Linear(10, 3).eval(), table, np.arange(3), table, table, explain_func=brightness)

    @pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.forwards])
    @pytest.mark.parametrize(("end", "words"), NOT_LOGITS.values(), ids=NOT_LOGITS)
    def test_what_is_no_logits(self, name, end, words, model, data):
        with pytest.raises(ValueError, match=words):
            CLASSES[name]()(Ends(model, end), **{**data, "y_batch": np.zeros(5, int)}, explain_func=brightness)

    @pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.forwards])
    def test_a_class_that_the_model_does_not_have(self, name, model, data):
        with pytest.raises(ValueError, match="targets go from 0 to 7; the model gives 4 logits, so classes 0 to 3"):
            CLASSES[name]()(model, **{**data, "y_batch": np.array([0, 1, 2, 7, 0])}, explain_func=brightness)

    def test_unknown_arguments_of_the_call(self, model, data):
        with pytest.raises(TypeError, match="unexpected keyword argument 'bacth_size'"):
            metrics.PixelAuc()(model, **data, bacth_size=2)


@pytest.mark.parametrize("code", ["", "dir(metrics); hasattr(metrics, 'NoSuchMetric'); list(metrics.METRICS)"])
def test_quantus_is_loaded_when_a_class_is_asked_for(code):
    script = (
        f"import sys; from captum_softcam import metrics; {code}\n"
        "assert 'PointingGame' in dir(metrics)\n"
        "assert 'quantus' not in sys.modules\n"
        "metrics.PointingGame\n"
        "assert 'quantus' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
