"""SoftCAM against its oracle."""

from __future__ import annotations

import oracles
import pytest
import torch

from captum_softcam.attr import LayerSoftCam
from captum_softcam.softcam import convert_to_softcam

TARGETS = [1, 3, 0]


def test_equals_the_oracle(net, images):
    with torch.no_grad():
        stem = net.stem(images)
        features = net.relu(stem + net.block(stem))
        want = [oracles.soft_cam(f, net.fc.weight, net.fc.bias, t) for f, t in zip(features, TARGETS, strict=True)]
    model = convert_to_softcam(net)
    maps = LayerSoftCam(model, model.evidence).attribute(images, target=TARGETS)
    torch.testing.assert_close(maps[:, 0], torch.stack(want), atol=1e-12, rtol=0)
    every = LayerSoftCam(model, model.evidence).attribute_all(images)
    torch.testing.assert_close(every.mean((2, 3)), net(images).detach(), atol=1e-12, rtol=0)
    assert torch.equal(every[range(3), TARGETS], maps[:, 0])


@pytest.mark.parametrize("around", [lambda y: y, lambda y: y.softmax(1), torch.sigmoid])
def test_the_mean_is_the_logit_for_any_function_around_the_model(net, images, around):
    model = convert_to_softcam(net)
    maps = LayerSoftCam(lambda x: around(model(x)), model.evidence).attribute(images, target=torch.tensor(TARGETS))
    logits = net(images).detach()[range(3), TARGETS]
    torch.testing.assert_close(maps.mean((1, 2, 3)), logits, atol=1e-12, rtol=0)


def test_relu_attributions(net, images):
    model = convert_to_softcam(net)
    soft_cam = LayerSoftCam(model, model.evidence)
    signed = soft_cam.attribute(images, target=1)
    assert (signed < 0).any(), "the test needs negative evidence"
    assert torch.equal(soft_cam.attribute(images, target=1, relu_attributions=True), signed.relu())


def test_errors_say_what_to_do(net, images):
    model = convert_to_softcam(net)
    with pytest.raises(ValueError, match=r"layer 'relu' gives \(3, 6, 5, 7\), whose means .* are not the model's logits"):
        LayerSoftCam(net, net.relu).attribute(images, target=0)
    with pytest.raises(AssertionError, match=r"no target for scores \(N, 4\): pass one that picks a single score"):
        LayerSoftCam(model, model.evidence).attribute(images)
    with pytest.raises(ValueError, match="in train mode"):
        LayerSoftCam(model.train(), model.evidence).attribute(images, target=0)


@pytest.mark.parametrize("around", [lambda y: y.softmax(1), torch.sigmoid])
def test_probabilities_that_do_not_come_from_the_layer_are_refused(around):
    """Neither the size of the layer's output nor the number of classes makes them pass."""

    class Large(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 200, 1)

        def forward(self, images):
            return around(20 * torch.sin(1e4 * self.layer(images).mean((2, 3))) - 10)

    torch.manual_seed(0)
    model, images = Large().eval(), torch.rand(2, 3, 8, 8)
    for scale in (1, 1e4):
        model.layer.weight.data *= scale
        with pytest.raises(ValueError, match="not the model's logits"):
            LayerSoftCam(model, model.layer).attribute(images, target=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("around", [lambda y: y, lambda y: y.softmax(1), torch.sigmoid])
def test_rounding_is_not_mistaken_for_another_model(dtype, around):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 500, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    net[0].weight.data *= 20
    net, images = net.eval().to(dtype), torch.rand(2, 3, 64, 64, dtype=dtype)
    assert LayerSoftCam(lambda x: around(net(x)), net[0]).attribute(images, target=1).shape == (2, 1, 64, 64)
