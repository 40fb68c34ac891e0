"""CAM against its oracle, and classifiers that have no CAM."""

from __future__ import annotations

import oracles
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captum_softcam.attr import LayerClassActivationMap, LayerReciproCam

TARGETS = [1, 3, 0]


def test_equals_the_oracle(net, images):
    with torch.no_grad():
        stem = net.stem(images)
        features = net.relu(stem + net.block(stem))
        want = [oracles.class_activation_map(f, net.fc.weight, t) for f, t in zip(features, TARGETS, strict=True)]
    cam = LayerClassActivationMap(net, net.relu)
    got = cam.attribute(images, target=TARGETS)
    torch.testing.assert_close(got[:, 0], torch.stack(want), atol=1e-12, rtol=0)
    assert torch.equal(cam.attribute(images, target=TARGETS, relu_attributions=True), got.relu())
    torch.testing.assert_close(cam.attribute_all(images)[range(3), TARGETS], got[:, 0], atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3), st.tuples(st.integers(1, 6), st.integers(2, 6)), st.booleans(), st.integers(0, 2**16))
def test_the_mean_and_the_bias_are_the_logit_and_recipro_cam_is_cam(count, size, pointwise, seed):
    torch.manual_seed(seed)
    between = [nn.BatchNorm2d(5), nn.ReLU()] if pointwise else []
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(5, 4)]
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), *between, *head).double().eval()
    images = torch.rand(count, 3, *size, dtype=torch.float64)
    maps = LayerClassActivationMap(net, net[0]).attribute_all(images)
    torch.testing.assert_close(maps.mean((2, 3)) + net[-1].bias, net(images).detach(), atol=1e-12, rtol=0)
    # where the zeroed positions pass on zeros, Recipro-CAM is CAM / (hw); elsewhere what they pass on is subtracted
    last, early = (LayerReciproCam(net, net[place]).attribute_all(images) for place in (len(between), 0))
    torch.testing.assert_close(last, maps / (size[0] * size[1]), atol=1e-12, rtol=0)
    of_zero = net[1:](torch.zeros(1, 5, 1, 1, dtype=torch.float64))[0].detach() - net[-1].bias.detach()
    torch.testing.assert_close(early, (maps - of_zero.view(-1, 1, 1)) / (size[0] * size[1]), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("method", "positions"), [(LayerClassActivationMap, 1), (LayerReciproCam, 24)])
def test_a_large_bias_costs_no_precision(method, positions):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)).eval()
    images = torch.rand(2, 3, 6, 8)
    with torch.no_grad():
        net[-1].bias.fill_(1e4)
        cam = torch.einsum("kc,nchw->nkhw", net[-1].weight.double(), net[1](net[0](images)).double())
    explain = method(net, net[1])
    tolerance = 1e-6 * float(cam.abs().max())
    torch.testing.assert_close(explain.attribute_all(images).double() * positions, cam, atol=tolerance, rtol=0)
    one = explain.attribute(images, target=[0, 3]).double()[:, 0] * positions
    torch.testing.assert_close(one, cam[[0, 1], [0, 3]], atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("name", "layer"), [("resnet18", "layer4"), ("densenet121", "features"), ("squeezenet1_1", "features")]
)
def test_torchvision(name, layer):
    torch.manual_seed(0)
    net, images = torchvision.models.get_model(name, weights=None).eval(), torch.rand(2, 3, 64, 64)
    maps = LayerClassActivationMap(net, net.get_submodule(layer)).attribute_all(images)
    bias = getattr(net, "fc", getattr(net, "classifier", None)).bias if name != "squeezenet1_1" else 0
    torch.testing.assert_close(maps.mean((2, 3)) + bias, net(images), atol=1e-5, rtol=1e-5)


def _refused(net: nn.Module, layer: nn.Module, images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerClassActivationMap(net, layer).attribute(images, target=0)


def test_heads_that_are_not_linear_are_refused_in_words(net, images):
    with pytest.raises(ValueError, match=r"between pooling and scores stands softmax; LayerClassActivationMap needs"):
        LayerClassActivationMap(lambda x: net(x).softmax(1), net.relu).attribute(images, target=0)
    _refused(
        net, net.stem, images, r"behind layer 'stem' the model does more than pool \(conv2d\); LayerClassActivationMap needs"
    )
    _refused(net, net.fc, images, r"layer 'fc' gives \(3, 4\); LayerClassActivationMap needs a spatial map")
    mobile = torchvision.models.mobilenet_v3_small(weights=None).eval()
    _refused(mobile, mobile.features, torch.rand(1, 3, 64, 64), "stands hardswish;")
    vgg = torchvision.models.vgg11(weights=None).eval()
    _refused(vgg, vgg.features, torch.rand(1, 3, 64, 64), "behind layer 'features' the model does more than pool")
