"""Every layer method keeps Captum's contract; Captum's own Grad-CAM runs along, so that no test asks for too much."""

from __future__ import annotations

import inspect

import pytest
import torch
from captum.attr import LayerAttribution, NoiseTunnel
from torch import nn

from captum_softcam.attr import METHODS, LayerSoftCam
from captum_softcam.softcam import convert_to_softcam

LAYER_METHODS = {name: method for name, method in METHODS.items() if issubclass(method, LayerAttribution)}
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


def _state(model: nn.Module) -> dict[str, object]:
    """Everything about a model that an explanation must leave alone."""
    modules = dict(model.named_modules())
    return {
        "mode": {name: module.training for name, module in modules.items()},
        "hooks": {
            name: (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for name, m in modules.items()
        },
        "attributes": {name: sorted(module.__dict__) for name, module in modules.items()},
        "grad": {name: (p.requires_grad, p.grad is None) for name, p in model.named_parameters()},
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "random": torch.get_rng_state(),
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


@ours
def test_no_side_effects_after_success_or_failure(explainer, images):
    before, copy = _state(explainer.forward_func), images.clone()
    explainer.attribute(images, target=1)
    _assert_same(before, _state(explainer.forward_func))
    with pytest.raises(IndexError):
        explainer.attribute(images, target=99)
    _assert_same(before, _state(explainer.forward_func))
    assert torch.equal(images, copy)


@pytest.mark.parametrize("explainer", ["recipro_cam"], indirect=True)
def test_no_side_effects_when_a_chunk_fails(explainer, images):
    model, calls = explainer.forward_func, []

    def fail(*_: object) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("out of patience")

    handle = model.evidence.register_forward_pre_hook(fail)
    before = _state(model)
    with pytest.raises(RuntimeError, match="out of patience"):
        explainer.attribute(images, target=1, perturbations_per_eval=5)
    _assert_same(before, _state(model))
    handle.remove()


@ours
def test_noise_tunnel_accepts_the_method(explainer, images):
    maps = NoiseTunnel(explainer).attribute(images, nt_samples=2, stdevs=0.0, target=1)
    torch.testing.assert_close(maps, explainer.attribute(images, target=1), atol=1e-12, rtol=0)


@ours
def test_names_and_gradients(explainer, images):
    assert explainer.get_name().startswith("Layer ")
    assert "Cam" in explainer.get_name()
    assert not explainer.attribute(images.requires_grad_(), target=0).requires_grad
    signature = inspect.signature(explainer.attribute)
    assert list(signature.parameters)[:3] == ["inputs", "target", "additional_forward_args"]
