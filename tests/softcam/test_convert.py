"""Conversion keeps the logits where the head is linear, and says so where it is not."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn

from captum_softcam.softcam import EvidenceHead, SoftCamModel, convert_to_softcam

EXACT = [
    "resnet18",
    "resnet50",
    "densenet121",
    "efficientnet_b0",
    "mobilenet_v2",
    "mnasnet0_5",
    "regnet_y_400mf",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "googlenet",
]


def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    arguments = {"init_weights": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=7, **arguments)
    for module in model.modules():  # one look at a batch sets the running statistics, as training would
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.rand(4, 3, 96, 96))
    return model.eval()


@pytest.mark.parametrize("name", EXACT)
def test_logits_of_pooled_linear_heads_stay(name):
    model = _network(name)
    images = torch.rand(2, 3, 96, 96)
    converted = convert_to_softcam(model)
    with torch.no_grad():
        logits, want = converted(images), model(images)
        evidence = converted.evidence_maps(images)
    assert converted.exact
    assert want.abs().max() > 1e-2, "the test needs logits that are not all zero"
    torch.testing.assert_close(logits, want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(evidence.mean((2, 3)), want, atol=1e-5, rtol=1e-5)
    assert evidence.shape[:2] == (2, 7)
    assert evidence[0, 0].numel() > 1


def test_a_nonlinear_head_is_converted_and_said_to_be_inexact():
    converted = convert_to_softcam(_network("mobilenet_v3_small"))
    assert not converted.exact
    assert converted.evidence_maps(torch.rand(1, 3, 64, 64)).shape[:2] == (1, 7)


@pytest.mark.parametrize(("name", "what"), [("vgg11", "avgpool"), ("convnext_tiny", "LayerNorm2d"), ("vit_b_16", "getitem")])
def test_other_heads_are_refused_in_words(name, what):
    with pytest.raises(ValueError, match=f"no global average pooling was found .*{what}"):
        convert_to_softcam(torchvision.models.get_model(name, weights=None))


def test_the_original_is_untouched_and_shares_nothing(net):
    before = copy.deepcopy(net.state_dict())
    converted = convert_to_softcam(net)
    for parameter in converted.parameters():
        parameter.data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_mode_dtype_and_layers_are_kept(net, training):
    net.train(training)
    net.block.requires_grad_(False)
    converted = convert_to_softcam(net)
    assert {module.training for module in converted.modules()} == {training}
    assert {parameter.dtype for parameter in converted.parameters()} == {torch.float64}
    assert not converted.backbone.get_submodule("block").weight.requires_grad
    assert isinstance(converted.backbone.get_submodule("stem"), nn.Sequential)


@pytest.mark.parametrize("dims", [1, 3])
def test_other_dimensions(dims):
    conv, pool = {1: (nn.Conv1d, nn.AdaptiveAvgPool1d), 3: (nn.Conv3d, nn.AdaptiveAvgPool3d)}[dims]
    model = nn.Sequential(conv(2, 5, 2), nn.ReLU(), pool(1), nn.Flatten(), nn.Dropout(), nn.Linear(5, 3)).eval()
    images = torch.rand(2, 2, *[6, 5, 4][:dims])
    converted = convert_to_softcam(model)
    torch.testing.assert_close(converted(images), model(images), atol=1e-6, rtol=1e-5)
    assert converted.evidence_maps(images).shape == (2, 3, *[5, 4, 3][:dims])


def test_wrong_inputs_are_refused():
    with pytest.raises(TypeError, match="SoftCamModel already"):
        convert_to_softcam(SoftCamModel(nn.Identity(), EvidenceHead(nn.Conv2d(1, 2, 1))))
    with pytest.raises(TypeError, match=r"needs a torch\.nn\.Module; got str"):
        convert_to_softcam("resnet18")


def test_a_deep_copy_is_independent(net, images):
    model = convert_to_softcam(net)
    twin = copy.deepcopy(model)
    twin.evidence[-1].weight.data.zero_()
    assert not torch.allclose(model(images), twin(images))
