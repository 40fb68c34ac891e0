"""Methods as Quantus wants them: whatever can explain gives signed maps at input resolution, whatever cannot says why."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from functools import partial

import captum.attr
import numpy as np
import pytest
import torch
from captum.attr import (
    LRP,
    Attribution,
    DataLoaderAttribution,
    DeepLift,
    GradientShap,
    IntegratedGradients,
    LayerAttribution,
    LayerGradCam,
    LayerIntegratedGradients,
    Lime,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from torch import Tensor, nn

from captum_softcam.attr import METHODS, LayerReciproCam
from captum_softcam.evaluation import CONTROLS, LayerExplainFunc, RandomMap
from captum_softcam.softcam import convert_to_softcam

SIZE = (12, 16)
PAIRS = (torch.arange(16) // 8).repeat(12, 1)[None, None]  # left and right half
BLANKS = torch.zeros(2, 3, *SIZE)

# What the caller has to say, class by class. A class that is in none of these two tables explains as it is.
ARGUMENTS = {
    "DeepLiftShap": {"baselines": BLANKS},
    "GradientShap": {"baselines": BLANKS},
    "LayerDeepLiftShap": {"baselines": BLANKS},
    "LayerGradientShap": {"baselines": BLANKS},
    "NeuronDeepLiftShap": {"neuron_selector": (0, 1, 1), "baselines": BLANKS},
    "NeuronGradientShap": {"neuron_selector": (0, 1, 1), "baselines": BLANKS},
    "ShapleyValues": {"feature_mask": PAIRS},
    **{
        f"Neuron{method}": {"neuron_selector": (0, 1, 1)}
        for method in (
            "Conductance",
            "Deconvolution",
            "DeepLift",
            "FeatureAblation",
            "Gradient",
            "GuidedBackprop",
            "IntegratedGradients",
        )
    },
}
BASE = r"has no attribute\(inputs, ...\) to call with images; use a class that has one\."
SHUFFLES = (
    r"shuffles features among the images of a batch, so that the map of one depends on the others: use FeatureAblation"
)
WRAPS = "works on another method, not on a model: pass an instance of it"
REFUSED = {
    "Attribution": BASE,
    "GradientAttribution": BASE,
    "LayerAttribution": BASE,
    "NeuronAttribution": BASE,
    "PerturbationAttribution": BASE,
    "LLMAttribution": BASE,
    "LLMGradientAttribution": BASE,
    "RemoteLLMAttribution": BASE,
    "DataLoaderAttribution": WRAPS,
    "NoiseTunnel": WRAPS,
    "FeaturePermutation": SHUFFLES,
    "LayerFeaturePermutation": SHUFFLES,
    "LimeBase": r"LimeBase needs the argument 'interpretable_model'; pass interpretable_model=\.\.\.",
}


def _captums() -> dict[str, type[Attribution]]:
    found = {name: getattr(captum.attr, name) for name in captum.attr.__all__}
    return {name: cls for name, cls in found.items() if inspect.isclass(cls) and issubclass(cls, Attribution)}


class Plain(nn.Module):
    """Made of modules only, each used once, as the rules of LRP and DeepLift want it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.last = nn.Conv2d(4, 5, 3, padding=1)
        self.out = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.out(self.last(self.relu(self.first(x))))).flatten(1))


@pytest.fixture
def plain() -> nn.Module:
    torch.manual_seed(0)
    model = Plain().eval()
    model.fc.weight.data.mul_(100)  # or Lime's lasso finds nothing worth a weight
    return model


@pytest.fixture
def model(net):
    return convert_to_softcam(net.float())


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).random((3, 3, 16, 24), dtype=np.float32), np.array([0, 3, 1])


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(1))


TARGETS = torch.tensor([0, 3, 1])


def _explain(name: str) -> LayerExplainFunc:
    return LayerExplainFunc(name, None if name == "soft_cam" else "backbone.relu")


@pytest.mark.parametrize("name", [*METHODS, *CONTROLS])
def test_maps_are_arrays_at_input_resolution(model, batch, name):
    maps = _explain(name)(model, *batch, device="cpu", method="ignored")
    assert type(maps) is np.ndarray
    assert maps.dtype == np.float32
    assert maps.shape == (3, 1, 16, 24)
    assert np.ptp(maps) > 0


def test_exact_shapley_values_are_computed_for_a_whole_batch(plain, images):
    """Nothing in them is random, unlike in the sampling that Captum derives them from."""
    sizes = []

    def model(images, run=plain.forward):
        sizes.append(len(images))
        return run(images)

    plain.forward = model
    LayerExplainFunc(captum.attr.ShapleyValues, feature_mask=PAIRS).explain(plain, images, TARGETS)
    assert sizes[0] == 3
    sizes.clear()
    LayerExplainFunc(captum.attr.ShapleyValueSampling, feature_mask=PAIRS, n_samples=1).explain(
        plain, images, TARGETS, [1, 2, 3]
    )
    assert sizes[0] == 1


@pytest.mark.parametrize("name", [name for name in _captums() if name not in REFUSED])
def test_every_class_of_captum_gives_maps_that_do_not_depend_on_the_batch(plain, images, name):
    explain = LayerExplainFunc(_captums()[name], "last", **ARGUMENTS.get(name, {}))
    maps = explain.explain(plain, images, TARGETS)
    assert maps.shape == (3, 1, *SIZE)
    assert maps.isfinite().all()
    assert maps.std() > 0
    single = [explain.explain(plain, images[i : i + 1], TARGETS[i : i + 1]) for i in range(3)]
    # below the rounding of sums over a few hundred products, of numbers as large as the greatest of the map
    torch.testing.assert_close(maps, torch.cat(single), atol=1e-5 * float(maps.abs().max()), rtol=0)


@pytest.mark.parametrize("name", REFUSED)
def test_the_other_classes_say_why_not(name):
    with pytest.raises((TypeError, ValueError), match=REFUSED[name]):
        LayerExplainFunc(_captums()[name], "last")


@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_only_the_caller_knows_is_asked_for(name):
    first = next(iter(ARGUMENTS[name]))
    with pytest.raises(ValueError, match=f"^{name} needs the argument '{first}'; pass {first}=...$"):
        LayerExplainFunc(_captums()[name], "last")


def test_equals_captums_own_call(model, batch):
    images, targets = map(torch.as_tensor, batch)
    direct = LayerReciproCam(model, model.backbone.relu).attribute(images, target=targets)
    want = LayerAttribution.interpolate(direct, (16, 24), "bilinear")
    np.testing.assert_allclose(_explain("recipro_cam")(model, *batch), want.numpy(), atol=1e-6)


def test_the_sign_of_gradients_is_kept_and_channels_are_summed(plain, images):
    want = Saliency(plain).attribute(images.clone().requires_grad_(), TARGETS, abs=False).sum(1, keepdim=True)
    torch.testing.assert_close(LayerExplainFunc(Saliency).explain(plain, images, TARGETS), want)
    unsigned = LayerExplainFunc(Saliency, abs=True).explain(plain, images, TARGETS)
    assert unsigned.min() >= 0 > want.min()


def test_channels_of_a_layer_are_summed_and_upsampled(plain, images):
    direct = LayerIntegratedGradients(plain, plain.last).attribute(images, target=TARGETS, n_steps=32).sum(1, keepdim=True)
    maps = LayerExplainFunc(LayerIntegratedGradients, "last").explain(plain, images, TARGETS)
    torch.testing.assert_close(maps, LayerAttribution.interpolate(direct, SIZE, "bilinear"))


def test_arguments_find_the_constructor_or_the_call(plain, images):
    plain_path = IntegratedGradients(plain, multiply_by_inputs=False).attribute(images, target=TARGETS, n_steps=3)
    explain = LayerExplainFunc("integrated_gradients", multiply_by_inputs=False, n_steps=3)
    torch.testing.assert_close(explain.explain(plain, images, TARGETS), plain_path.sum(1, keepdim=True))
    seeded = LayerExplainFunc("random", seed=7).explain(plain, images, TARGETS)
    assert torch.equal(seeded, RandomMap(plain, seed=7).attribute(images))


def test_features_are_patches_of_all_channels(plain, images):
    maps = LayerExplainFunc(captum.attr.FeatureAblation).explain(plain, images, TARGETS)
    assert len(maps[0, 0, :2, :2].unique()) == 1  # of 12 rows the first patch takes two, of 16 columns two
    assert len(maps[0, 0, :3, :3].unique()) == 4
    shown = images[:1].clone()
    shown[..., :2, :2] = 0
    lost = plain(images[:1])[0, 0] - plain(shown)[0, 0]
    torch.testing.assert_close(maps[0, 0, 0, 0], 3 * lost)  # in each of the three channels


@pytest.mark.parametrize("method", [LayerGradCam, Occlusion, Saliency, *CONTROLS.values()])
@pytest.mark.parametrize("dimensions", [1, 3])
def test_signals_and_volumes(method, dimensions):
    conv = {1: nn.Conv1d, 3: nn.Conv3d}[dimensions]
    pool = {1: nn.AdaptiveAvgPool1d, 3: nn.AdaptiveAvgPool3d}[dimensions]
    model = nn.Sequential(conv(2, 3, 3, 2), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(3, 4)).eval()
    size = (9, 8, 10)[:dimensions]
    maps = LayerExplainFunc(method, "1").explain(model, torch.rand(2, 2, *size), torch.tensor([0, 3]))
    assert maps.shape == (2, 1, *size)
    assert maps.isfinite().all()


def test_an_instance_explains_its_own_model_and_layer(plain, images):
    other = copy.deepcopy(plain)
    other.fc.weight.data.neg_()
    explain = LayerExplainFunc(LayerGradCam(plain, plain.last))
    maps = explain.explain(other, images, TARGETS)
    torch.testing.assert_close(maps, LayerExplainFunc("grad_cam", "last").explain(plain, images, TARGETS))
    assert explain.description["layer"] == "last"


def test_a_noise_tunnel_is_an_instance_whose_noise_belongs_to_the_image(plain, images):
    explain = LayerExplainFunc(NoiseTunnel(LayerGradCam(plain, plain.last)), nt_samples=4, stdevs=0.1)
    maps = explain.explain(plain, images, TARGETS)
    assert maps.shape == (3, 1, *SIZE)
    torch.testing.assert_close(explain.explain(plain, images[1:2], TARGETS[1:2]), maps[1:2])
    still = LayerExplainFunc("grad_cam", "last").explain(plain, images, TARGETS)
    assert not torch.allclose(maps, still)
    assert (explain.name, explain.description["layer"]) == ("noise_tunnel_layer_grad_cam", "last")


@pytest.mark.parametrize(
    "explain",
    [
        LayerExplainFunc(Lime),
        LayerExplainFunc(GradientShap, baselines=torch.stack([torch.zeros(3, *SIZE), torch.ones(3, *SIZE)])),
    ],
    ids=lambda explain: explain.name,
)
def test_what_was_drawn_before_does_not_matter(plain, images, explain):
    maps = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        maps.append(explain.explain(plain, images, TARGETS))
    assert torch.equal(*maps)
    scale = maps[0].abs().max()
    rounded = explain.explain(plain, images + 1e-6, TARGETS)
    assert (rounded - maps[0]).abs().max() < 1e-4 * scale, "where another machine rounds otherwise"
    other = explain.explain(plain, images.flip(3) * 0.9, TARGETS).flip(3)
    assert (other - maps[0]).abs().max() > 1e-2 * scale, "other numbers are drawn for another image"
    drawn = [explain.explain(plain, images, TARGETS, seeds) for seeds in ([1, 2, 3], [1, 2, 4])]
    assert torch.equal(drawn[0][:2], drawn[1][:2])
    assert not torch.equal(drawn[0][2], drawn[1][2])


def test_a_function_gets_what_is_explained(plain, images):
    seen = []

    def last_channel(model: nn.Module, images: Tensor, targets: Tensor, sign: int) -> Tensor:
        seen.append((model, targets))
        return sign * images[:, 2:]

    explain = LayerExplainFunc(last_channel, sign=-1)
    assert torch.equal(explain.explain(plain, images, TARGETS), -images[:, 2:])
    assert seen == [(plain, TARGETS)]


def test_gradients_can_be_asked_for_under_no_grad(plain, images):
    def gradient(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        images.requires_grad_()
        model(images)[range(len(images)), targets].sum().backward()
        return images.grad

    with torch.no_grad():
        maps = LayerExplainFunc(gradient).explain(plain, images, TARGETS)
    torch.testing.assert_close(maps, LayerExplainFunc(Saliency).explain(plain, images, TARGETS))
    assert not maps.requires_grad
    assert not images.requires_grad
    assert all(parameter.grad is None for parameter in plain.parameters())


def _state(model: nn.Module) -> dict[str, object]:
    modules = dict(model.named_modules())
    return {
        "mode": {name: module.training for name, module in modules.items()},
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "hooks": {name: len(m._forward_hooks) + len(m._forward_pre_hooks) for name, m in modules.items()},
        "requires grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "grad": {name: None if p.grad is None else p.grad.tolist() for name, p in model.named_parameters()},
        "values": {name: value.tolist() for name, value in model.state_dict().items()},
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
    }


@pytest.mark.parametrize(
    "explain",
    [
        LayerExplainFunc("grad_cam", "last"),
        LayerExplainFunc(LRP),
        LayerExplainFunc(DeepLift),
        LayerExplainFunc(Lime),
        LayerExplainFunc(GradientShap, baselines=BLANKS),
        LayerExplainFunc("random"),
    ],
    ids=lambda explain: explain.name,
)
def test_nothing_stays_behind(plain, images, explain):
    for parameter in plain.parameters():
        parameter.grad = torch.ones_like(parameter)
    plain.first.weight.requires_grad_(False)
    before, given = _state(plain), images.clone()
    maps = explain.explain(plain, images, TARGETS)
    assert not maps.requires_grad
    assert _state(plain) == before
    assert torch.equal(images, given)
    assert not images.requires_grad


def test_nothing_stays_behind_an_exception(plain, images):
    def unruly(model: nn.Module, *_: object) -> Tensor:
        model.train().requires_grad_(False)
        model.fc.weight.grad = torch.ones_like(model.fc.weight)
        raise RuntimeError("out of patience")

    before = _state(plain)
    with pytest.raises(RuntimeError, match="out of patience"):
        LayerExplainFunc(unruly).explain(plain, images, TARGETS)
    unfit = nn.Sequential(plain, nn.Flatten())  # LRP has no rule for Flatten, and has noted something elsewhere by then
    with pytest.raises(TypeError, match="has no rule defined"):
        LayerExplainFunc(LRP).explain(unfit, images, TARGETS)
    assert _state(plain) == before


def test_explains_the_model_that_is_handed_in(model, batch):
    other = copy.deepcopy(model)
    other.evidence[-1].weight.data.neg_()
    explain = _explain("recipro_cam")
    assert not np.allclose(explain(model, *batch), explain(other, *batch))


def test_images_come_in_the_precision_of_the_model(model, batch):
    single = _explain("grad_cam")(model, *batch)
    images = batch[0].astype(np.float64)
    double = _explain("grad_cam")(model.double(), images, batch[1])
    assert double.dtype == np.float32
    np.testing.assert_allclose(single, double, atol=1e-6)


def _edges(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG001 (what is called with them)
    return images.diff(dim=-1)


@pytest.mark.parametrize(
    ("explain", "name", "cls"),
    [
        (LayerExplainFunc("grad_cam", "last"), "grad_cam", "captum.attr._core.layer.grad_cam.LayerGradCam"),
        (LayerExplainFunc(LayerGradCam, "last"), "grad_cam", "captum.attr._core.layer.grad_cam.LayerGradCam"),
        (
            LayerExplainFunc(captum.attr.InputXGradient),
            "input_x_gradient",
            "captum.attr._core.input_x_gradient.InputXGradient",
        ),
        (LayerExplainFunc(captum.attr.LayerLRP, "last"), "layer_lrp", "captum.attr._core.layer.layer_lrp.LayerLRP"),
        (LayerExplainFunc("edge_map"), "edge_map", "captum_softcam.evaluation.controls.EdgeMap"),
        (LayerExplainFunc(_edges), "_edges", f"{__name__}._edges"),
        (LayerExplainFunc(partial(partial(_edges))), "_edges", f"{__name__}._edges"),
        (LayerExplainFunc(lambda *_: None), "lambda", f"{__name__}.<lambda>"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_and_descriptions(explain, name, cls):
    assert explain.name == name
    layer = "last" if "layer" in cls else None
    assert explain.description == {"class": cls, "layer": layer, "arguments": {}, "control": name == "edge_map"}


def test_an_object_that_can_be_called_has_the_name_of_its_class(plain, images):
    class GradCamPP:
        def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
            return images

    explain = LayerExplainFunc(GradCamPP())
    assert explain.name == "grad_cam_pp"
    assert explain.explain(plain, images, TARGETS).shape == (3, 1, *SIZE)


def test_arguments_are_described_as_json_can_hold_them():
    explain = LayerExplainFunc(
        "occlusion",
        sliding_window_shapes=(3, 2, 2),
        baselines=torch.zeros(1, 3),
        perturbations_per_eval=2,
        show_progress=False,
    )
    want = {
        "sliding_window_shapes": [3, 2, 2],
        "baselines": "tensor (1, 3)",
        "perturbations_per_eval": 2,
        "show_progress": False,
    }
    assert explain.description["arguments"] == want
    assert json.loads(json.dumps(explain.description)) == explain.description
    shifted = LayerExplainFunc(_edges, function=_edges, options={1: [None]})
    assert shifted.description["arguments"] == {"function": f"{__name__}._edges", "options": {"1": [None]}}


@pytest.mark.parametrize("method", ["grad_cam", LayerReciproCam, Lime, _edges])
def test_survives_pickling(method):
    explain = LayerExplainFunc(method, "last")
    again = pickle.loads(pickle.dumps(explain))
    assert (again.name, again.description) == (explain.name, explain.description)


def test_runs_inside_quantus(model, batch):
    import quantus  # here, for it takes seconds

    masks = np.zeros((3, 1, 16, 24), bool)
    masks[:, :, 4:9, 4:9] = True
    explain = _explain("recipro_cam")
    asked = quantus.RelevanceRankAccuracy(disable_warnings=True)(
        model=model, x_batch=batch[0], y_batch=batch[1], s_batch=masks, explain_func=explain, channel_first=True
    )
    given = quantus.RelevanceRankAccuracy(disable_warnings=True)(
        model=model, x_batch=batch[0], y_batch=batch[1], a_batch=explain(model, *batch), s_batch=masks, channel_first=True
    )
    assert asked == pytest.approx(given)


def test_wrong_names_and_methods_are_refused(model, batch):
    with pytest.raises(ValueError, match=r"method 'reciprocam' is unknown\. Closest: 'recipro_cam'"):
        LayerExplainFunc("reciprocam", "backbone")
    with pytest.raises(ValueError, match=r"Flatten has no layer with a spatial map .* which method 'grad_cam' needs; use"):
        LayerExplainFunc("grad_cam")(nn.Flatten().eval(), *batch)
    with pytest.raises(ValueError, match=r"layer 'backbone.relux' is not in SoftCamModel\. Closest: 'backbone.relu'"):
        LayerExplainFunc("grad_cam", "backbone.relux")(model, *batch)
    for nonsense in (7, nn.Conv2d, None):
        with pytest.raises(
            TypeError, match=r"a method is a name, a Captum attribution class or instance, or a function \(mod"
        ):
            LayerExplainFunc(nonsense)


def test_unknown_arguments_are_refused(plain):
    with pytest.raises(TypeError, match=r"IntegratedGradients has no argument 'steps'\. Closest: 'n_steps'"):
        LayerExplainFunc("integrated_gradients", steps=3)
    with pytest.raises(TypeError, match="LayerGradCam has no argument 'device_ids'"):
        LayerExplainFunc(LayerGradCam(plain, plain.last), device_ids=[0])
    loader = DataLoaderAttribution(captum.attr.FeatureAblation(plain))
    with pytest.raises(TypeError, match=BASE):
        LayerExplainFunc(loader)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda images: (images, images), r"gives 2 values; maps are a single tensor \(N, C, \.\.\.\)\."),
        (
            lambda images: images[:2],
            r"gives \(2, 3, 12, 16\) for images \(3, 3, 12, 16\); maps have as many dimensions, and",
        ),
        (lambda images: images[:, 0], r"gives \(3, 12, 16\) for images \(3, 3, 12, 16\); maps have as many dimensions, and"),
        (lambda images: images.numpy(), r"gives ndarray; maps are a tensor \(N, C, \.\.\.\)\."),
        (lambda images: None, r"gives NoneType; maps are a tensor"),  # noqa: ARG005
    ],
    ids=["two", "too few", "no channels", "array", "nothing"],
)
def test_what_is_no_map_is_refused(plain, images, given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        LayerExplainFunc(lambda _model, images, _targets: given(images)).explain(plain, images, TARGETS)


def test_one_tensor_may_come_in_a_tuple(plain, images):
    explain = LayerExplainFunc(lambda _model, images, _targets: (images,))
    torch.testing.assert_close(explain.explain(plain, images, TARGETS), images.sum(1, keepdim=True))


def test_without_a_layer_the_suggested_one_is_explained(model, batch):
    """Also in an altered copy, as of a randomisation metric, whose scores may depend on nothing."""
    explain = LayerExplainFunc("recipro_cam")
    np.testing.assert_array_equal(explain(model, *batch), LayerExplainFunc("recipro_cam", "backbone")(model, *batch))
    altered = copy.deepcopy(model)
    for parameter in altered.parameters():
        parameter.data.zero_()
    assert not explain(altered, *batch).any()


@pytest.mark.parametrize(("layer", "shape"), [("fc", r"\(3, 4\)"), ("pool", r"\(3, 5, 1, 1\)")])
def test_a_layer_without_a_map_is_refused(plain, images, layer, shape):
    message = (
        rf"layer '{layer}' gives {shape}; LayerIntegratedGradients needs a spatial map \(N, C, h, w\). "
        r"The last spatial layer is 'out' \(3, 5, 6, 8\)\."
    )
    with pytest.raises(ValueError, match=message):
        LayerExplainFunc(LayerIntegratedGradients, layer).explain(plain, images, TARGETS)


@pytest.mark.parametrize(("side", "largest"), [(16, 64), (160, 16)])
def test_forwards_of_large_images_take_fewer_of_them(side, largest):
    sizes = []

    class Means(torch.nn.Module):
        def forward(self, images):
            sizes.append(len(images))
            return images.mean((2, 3))

    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    LayerExplainFunc("occlusion").explain(Means(), images, torch.tensor([0, 1]))
    assert max(sizes) == largest
