"""The contract of Captum for every layer method; Captum's Grad-CAM passes the same tests, so that none asks too much."""

from __future__ import annotations

import inspect
import re
from contextlib import nullcontext

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution, NoiseTunnel
from captum.attr import visualization as captum_visualization
from captum.metrics import infidelity, sensitivity_max
from torch import nn
from torch.nn.modules import module as hooks

from captum_softcam.attr import METHODS, LayerClassActivationMap, LayerReciproCam, LayerScoreCam, LayerSoftCam
from captum_softcam.softcam import convert_to_softcam

CLASSES = {name: method.cls for name, method in METHODS.items()}
LAYER_METHODS = {name: method for name, method in CLASSES.items() if issubclass(method, LayerAttribution)}
OURS = [name for name, method in LAYER_METHODS.items() if method.__module__.startswith("captum_softcam")]
TARGET_FORMS = [1, (1,), torch.tensor(1), torch.tensor([1]), torch.tensor([1, 1, 1]), [1, 1, 1], [(1,), (1,), (1,)]]


@pytest.fixture
def explainer(net, request):
    model = convert_to_softcam(net)
    method = LAYER_METHODS[request.param]
    return method(model, model.evidence if method is LayerSoftCam else model.backbone)


every = pytest.mark.parametrize("explainer", LAYER_METHODS, indirect=True)
ours = pytest.mark.parametrize("explainer", OURS, indirect=True)


@every
@pytest.mark.parametrize("target", TARGET_FORMS, ids=repr)
def test_target_forms_agree(explainer, images, target):
    want = explainer.attribute(images, target=1).detach()
    got = explainer.attribute(images, target=target).detach()
    assert got.shape == (3, 1, 5, 7)
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


@every
@pytest.mark.parametrize("target", [[0, 1, 2], torch.tensor([0, 1, 2])], ids=repr)
def test_a_batch_is_explained_for_each_ones_target(explainer, images, target):
    batch = explainer.attribute(images, target=target).detach()
    singles = [explainer.attribute(image[None], target=i).detach() for i, image in enumerate(images)]
    torch.testing.assert_close(batch, torch.cat(singles), atol=1e-12, rtol=0)


@every
@pytest.mark.parametrize("target", [4, [0, 1], torch.tensor([0, 1])], ids=repr)
def test_bad_targets_raise(explainer, images, target):
    with pytest.raises((AssertionError, IndexError)):
        explainer.attribute(images, target=target)


@ours
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (4, r"target 4 is out of range for scores \(N, 4\)\."),
        (torch.tensor([0, 7, 1]), r"target 7 is out of range for scores \(N, 4\)\."),
        ([0, 1], r"target has 2 entries for 3 examples; pass one class for all of them, or one per example\."),
        (None, r"no target for scores \(N, 4\): pass one that picks a single score, as in target=0\."),
        ((0, 1), r"target \(0, 1\) for scores \(N, 4\): pass one that picks a single score, as in target=0\."),
        ("cat", r"target must be an int, a tuple, a tensor or a list of them; got 'cat'\."),
    ],
    ids=repr,
)
def test_bad_targets_are_named(explainer, images, target, message):
    with pytest.raises(AssertionError, match=message):
        explainer.attribute(images, target=target)


@pytest.mark.parametrize("explainer", ["recipro_cam", "score_cam", "grad_cam"], indirect=True)
def test_scores_need_no_target_where_there_is_one(explainer, images):
    model = explainer.forward_func
    alone = type(explainer)(lambda x: model(x)[:, 2], explainer.layer)
    torch.testing.assert_close(alone.attribute(images), explainer.attribute(images, target=2), atol=1e-12, rtol=0)


def _state(model: nn.Module) -> dict[str, object]:
    """Everything about a model that an explanation must leave alone."""
    modules = dict(model.named_modules())
    return {
        "mode": {name: module.training for name, module in modules.items()},
        "hooks": {
            name: (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for name, m in modules.items()
        },
        "attributes": {name: sorted(module.__dict__) for name, module in modules.items()},
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "grad": {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "buffers": {name: value.clone() for name, value in model.named_buffers()},
        "random": torch.get_rng_state(),
        "numpy": hash(np.random.get_state()[1].tobytes()),
        "global hooks": (len(hooks._global_forward_hooks), len(hooks._global_forward_pre_hooks)),
    }


def _assert_same(before: object, after: object) -> None:
    if isinstance(before, dict):
        assert before.keys() == after.keys()
        for key in before:
            _assert_same(before[key], after[key])
    elif isinstance(before, torch.Tensor):
        assert torch.equal(before, after)
    else:
        assert before == after


def _fails_after(module: nn.Module, calls: int):
    """A hook that lets a number of calls pass and raises at the next."""
    left = [calls]

    def fail(*_: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("out of patience")

    return module.register_forward_pre_hook(fail)


def _calls(module: nn.Module, run) -> int:
    """How often a module is called while something runs."""
    made = [0]

    def count(*_: object) -> None:
        made[0] += 1

    handle = module.register_forward_pre_hook(count)
    run()
    handle.remove()
    return made[0]


@ours
def test_no_side_effects(explainer, images):
    model = explainer.forward_func
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    next(model.parameters()).requires_grad_(False)
    before, copy = _state(model), images.clone()
    explainer.attribute(images, target=1)
    if hasattr(explainer, "attribute_all"):
        explainer.attribute_all(images)
    _assert_same(before, _state(model))
    with pytest.raises(AssertionError):
        explainer.attribute(images, target=99)
    _assert_same(before, _state(model))
    for module in (model.backbone, model.evidence, model.evidence[0]):
        for calls in (0, 1):
            made = _calls(module, lambda: explainer.attribute(images, target=1))
            assert made > 1 or not isinstance(explainer, LayerScoreCam)
            handle = _fails_after(module, calls)
            during = _state(model)
            failing = pytest.raises(RuntimeError, match="out of patience")
            with failing if calls < made else nullcontext():
                explainer.attribute(images, target=1)
            _assert_same(during, _state(model))
            handle.remove()
    _assert_same(before, _state(model))
    assert torch.equal(images, copy)
    assert torch.overrides._len_torch_function_stack() == 0


@pytest.mark.parametrize("method", [LayerReciproCam, LayerScoreCam])
def test_no_side_effects_in_the_middle_of_the_chunks(net, images, method):
    handle = _fails_after(net.fc, 4)
    before = _state(net)
    with pytest.raises(RuntimeError, match="out of patience"):
        method(net, net.block).attribute(images, target=1, perturbations_per_eval=2)
    _assert_same(before, _state(net))
    handle.remove()


def test_a_forward_of_its_own_stays_with_a_module(net, images):
    for module in (net.stem, net.block):
        module.forward = forward = module.forward  # as those have whom somebody patched
        want = LayerReciproCam(net, net.block).attribute(images, target=1)
        assert module.__dict__["forward"] is forward
        del module.forward
        assert torch.equal(LayerReciproCam(net, net.block).attribute(images, target=1), want)


@ours
def test_train_mode_of_any_part_is_refused_and_kept(explainer, images):
    part = explainer.forward_func.backbone
    part.train()
    before = _state(explainer.forward_func)
    with pytest.raises(ValueError, match=r"the model is in train mode .* Call model.eval\(\) first\."):
        explainer.attribute(images, target=1)
    _assert_same(before, _state(explainer.forward_func))


@ours
def test_noise_tunnel_accepts_the_method(explainer, images):
    maps = NoiseTunnel(explainer).attribute(images, nt_samples=2, stdevs=0.0, target=1)
    torch.testing.assert_close(maps, explainer.attribute(images, target=1), atol=1e-12, rtol=0)


@ours
def test_names_and_gradients(explainer, images):
    words = re.findall("[A-Z][a-z]+", type(explainer).__name__)
    assert words[0] == "Layer"
    assert explainer.get_name() == " ".join(words), "Captum splits a name at its capitals"
    assert not explainer.attribute(images.requires_grad_(), target=0).requires_grad
    signature = inspect.signature(explainer.attribute)
    assert list(signature.parameters)[:3] == ["inputs", "target", "additional_forward_args"]


@ours
def test_captum_metrics_accept_the_method(explainer, images):
    model, images = explainer.forward_func, images[:2]

    def maps(inputs: object, **arguments: object) -> object:
        given = inputs[0] if isinstance(inputs, tuple) else inputs
        found = explainer.attribute(given, **arguments)
        upsampled = LayerAttribution.interpolate(found, given.shape[2:], "bilinear").expand_as(given).contiguous()
        return (upsampled,) if isinstance(inputs, tuple) else upsampled

    def perturb(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.full_like(inputs, 0.01)
        return noise, inputs - noise

    gap = infidelity(model, perturb, images, maps(images, target=1), target=1)
    assert gap.shape == (2,)
    assert gap.isfinite().all()
    moved = sensitivity_max(maps, images, perturb_radius=0.01, n_perturb_samples=2, target=1)
    assert moved.shape == (2,)
    assert (moved > 0).all()


@ours
def test_captum_pictures_accept_the_map(explainer, images):
    maps = LayerAttribution.interpolate(explainer.attribute(images, target=1), images.shape[2:], "bilinear")
    figure, _ = captum_visualization.visualize_image_attr(
        maps[0].permute(1, 2, 0).numpy(),
        images[0].permute(1, 2, 0).numpy(),
        "blended_heat_map",
        sign="all",
        use_pyplot=False,
    )
    assert len(figure.axes) >= 1
    plt.close(figure)


@pytest.mark.parametrize("method", [LayerReciproCam, LayerScoreCam, LayerClassActivationMap, LayerSoftCam])
def test_a_single_position_is_not_a_map(method):
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    wanted = re.escape(
        f"layer '1' gives (2, 5, 1, 1); {method.__name__} needs a spatial map (N, C, h, w). "
        "The last spatial layer is '0' (2, 5, 4, 4)."
    )
    with pytest.raises(ValueError, match=f"^{wanted}$"):
        method(net, net[1]).attribute(torch.rand(2, 3, 6, 6), target=0)


@pytest.mark.parametrize("method", [LayerReciproCam, LayerScoreCam])
def test_progress_is_shown_on_demand(net, images, method, capsys):
    method(net, net.block).attribute(images, target=0)
    assert capsys.readouterr().err == ""
    method(net, net.block).attribute(images, target=0, show_progress=True)
    shown = capsys.readouterr().err
    assert method(net, net.block).get_name() in shown
    assert "100%" in shown
