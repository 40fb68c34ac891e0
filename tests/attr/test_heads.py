"""Unusual heads, models in train mode, and small inputs: maps are right, or the model is refused in words."""

from __future__ import annotations

import oracles
import pytest
import torch
from captum.testing.helpers.basic_models import (
    BasicModel_ConvNet,
    BasicModel_ConvNet_One_Conv,
    BasicModel_ConvNetWithPaddingDilation,
)
from torch import Tensor, nn
from torch.nn import functional as F

from captum_softcam import (
    LayerClassActivationMap,
    LayerReciproCam,
    LayerScoreCam,
    LayerSoftCam,
    convert_to_softcam,
)

METHODS = (LayerReciproCam, LayerScoreCam, LayerClassActivationMap)


class Reshaped(nn.Module):
    """Pooling, something that only reshapes, and a linear classifier."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.pool, self.fc, self.how = nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5), how

    def forward(self, x: Tensor) -> Tensor:
        count, f = x.size(0), self.pool(self.conv(x).relu())
        ways = {
            "flatten(1)": lambda: f.flatten(1),
            "view(f.size(0), -1)": lambda: f.view(f.size(0), -1),
            "view(f.shape[0], 8)": lambda: f.view(f.shape[0], 8),
            "view(count, -1)": lambda: f.view(count, -1),
            "reshape(count, 8)": lambda: f.reshape(count, 8),
            "torch.reshape(f, (count, 8))": lambda: torch.reshape(f, (count, 8)),
            "view(-1, 8)": lambda: f.view(-1, 8),
            "view(*f.shape[:2])": lambda: f.view(*f.shape[:2]),
            "[:, :, 0, 0]": lambda: f[:, :, 0, 0],
            "[..., 0, 0]": lambda: f[..., 0, 0],
            "squeeze()": lambda: f.squeeze(),
            "squeeze(-1).squeeze(-1)": lambda: f.squeeze(-1).squeeze(-1),
            "squeeze((2, 3))": lambda: f.squeeze((2, 3)),
            "flatten(1).view(count, 2, 4).flatten(1)": lambda: f.flatten(1).view(count, 2, 4).flatten(1),
            "permute(0, 2, 3, 1).flatten(1)": lambda: f.permute(0, 2, 3, 1).flatten(1),
            "unflatten(1, (2, 4)).reshape(count, -1)": lambda: f.unflatten(1, (2, 4)).reshape(count, -1),
        }
        return self.fc(ways[self.how]())


WAYS = [
    *("flatten(1)", "view(f.size(0), -1)", "view(f.shape[0], 8)", "view(count, -1)", "reshape(count, 8)"),
    *("torch.reshape(f, (count, 8))", "view(-1, 8)", "view(*f.shape[:2])", "[:, :, 0, 0]", "[..., 0, 0]", "squeeze()"),
    *("squeeze(-1).squeeze(-1)", "squeeze((2, 3))", "flatten(1).view(count, 2, 4).flatten(1)"),
    *("permute(0, 2, 3, 1).flatten(1)", "unflatten(1, (2, 4)).reshape(count, -1)"),
]


@pytest.mark.parametrize("how", WAYS)
@torch.no_grad()
def test_reshapes_are_recognised(how):
    torch.manual_seed(0)
    net, images = Reshaped(how).double().eval(), torch.rand(2, 3, 8, 9, dtype=torch.float64)
    rows = []
    net.fc.register_forward_pre_hook(lambda _module, args: rows.append(len(args[0])))
    recipro = LayerReciproCam(net, net.conv).attribute(images, target=[1, 2])
    assert rows == [2 * (6 * 7 + 2)], "all copies from one forward"
    cam = LayerClassActivationMap(net, net.conv).attribute(images, target=[1, 2])
    features = net.conv(images).relu()
    want = [oracles.class_activation_map(f, net.fc.weight, t) for f, t in zip(features, (1, 2), strict=True)]
    torch.testing.assert_close(cam[:, 0], torch.stack(want), atol=1e-12, rtol=0)
    torch.testing.assert_close(recipro, cam / 42, atol=1e-12, rtol=0)


class Normalised(nn.Module):
    """Batch normalisation behind the pooling, and the mean of two classifiers: both linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.one, self.other = nn.Conv2d(3, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, 5), nn.Linear(8, 5)
        nn.init.normal_(self.norm.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        f = self.norm(self.conv(x).mean((2, 3)))
        return (self.one(f) + self.other(f)) / 2


@torch.no_grad()
def test_cam_accepts_every_linear_head():
    torch.manual_seed(0)
    net, images = Normalised().double().eval(), torch.rand(2, 3, 8, 9, dtype=torch.float64)
    cam = LayerClassActivationMap(net, net.conv).attribute_all(images)
    scale = net.norm.weight / (net.norm.running_var + net.norm.eps).sqrt()
    weight = (net.one.weight + net.other.weight) / 2 * scale
    want = [[oracles.class_activation_map(f, weight, c) for c in range(5)] for f in net.conv(images)]
    torch.testing.assert_close(cam, torch.stack([torch.stack(maps) for maps in want]), atol=1e-12, rtol=0)


class SharedActivation(nn.Module):
    """One activation module for all stages, as EfficientNets have it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.act, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.act(self.b(self.act(self.a(x)))).mean((2, 3)))


@torch.no_grad()
def test_a_shared_activation_counts_at_its_last_call():
    torch.manual_seed(0)
    net, images = SharedActivation().double().eval(), torch.rand(2, 3, 12, 12, dtype=torch.float64)
    features = net.act(net.b(net.act(net.a(images))))
    want = torch.stack([oracles.class_activation_map(f, net.fc.weight, 1) for f in features])
    torch.testing.assert_close(LayerClassActivationMap(net, net.act).attribute(images, target=1)[:, 0], want)


def test_errors_of_the_head_are_reported():
    class Failing(SharedActivation):
        def forward(self, x: Tensor) -> Tensor:
            f = self.act(self.a(x)).mean((2, 3))
            if len(f) > 2:
                raise RuntimeError("no more than two, please")
            return self.fc(f)

    net = Failing().eval()
    with pytest.raises(ValueError, match=r"the model does more than pool \(no more than two, please\)"):
        LayerClassActivationMap(net, net.a).attribute(torch.rand(2, 3, 8, 8), target=1)


# ---- train mode


def _refused(net: nn.Module, layer: nn.Module, message: str) -> None:
    for method in METHODS:
        with pytest.raises(ValueError, match=message):
            method(net, layer).attribute(torch.rand(2, 3, 8, 8), target=1)


def _net(*between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), *between, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))


class Drop(nn.Module):
    """Stochastic depth of some library."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.drop_prob:
            return x
        return x * (torch.rand(len(x), 1, 1, 1) > self.drop_prob)


@pytest.mark.parametrize("module", [nn.Dropout(0.5), nn.BatchNorm2d(6), nn.RReLU(), Drop(0.1), nn.Dropout2d(0.1)])
def test_train_mode_is_refused_where_it_changes_something(module):
    _refused(_net(module).train(), _net(module).train()[0], "not called by the model")
    net = _net(module).train()
    _refused(net, net[0], rf"the model is in train mode \({type(module).__name__}\.training is True\).*Call model\.eval\(\)")


@pytest.mark.parametrize("module", [nn.Dropout(0.0), nn.ReLU(), Drop(0.0), nn.GroupNorm(2, 6), nn.InstanceNorm2d(6)])
def test_train_mode_is_accepted_where_it_changes_nothing(module):
    torch.manual_seed(0)
    net, images = _net(module).train(), torch.rand(2, 3, 8, 8)
    maps = LayerReciproCam(net, net[0]).attribute(images, target=1)
    assert torch.equal(maps, LayerReciproCam(net.eval(), net[0]).attribute(images, target=1))


def test_a_functional_dropout_that_runs_in_eval_mode_is_refused():
    class Random(SharedActivation):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.dropout(self.act(self.a(x)), 0.5).mean((2, 3)))

    net = Random().eval()
    for method in (LayerReciproCam, LayerScoreCam, LayerClassActivationMap):
        with pytest.raises(ValueError, match=r"calls dropout.*drops values at random although the model is in eval mode"):
            method(net, net.a).attribute(torch.rand(2, 3, 8, 8), target=1)


def test_a_convolution_replaced_after_eval_is_not_in_train_mode():
    net = _net(nn.Dropout(0.5)).eval()
    net[0] = nn.Conv2d(3, 6, 3, 2, 1)
    assert net[0].training
    assert LayerReciproCam(net, net[0]).attribute(torch.rand(2, 3, 8, 8), target=1).shape == (2, 1, 4, 4)


CAPTUMS = [
    (BasicModel_ConvNet, (1, 10, 10), "conv1"),
    (BasicModel_ConvNet, (1, 10, 10), "conv2"),
    (BasicModel_ConvNet_One_Conv, (1, 4, 4), "conv1"),
    (BasicModel_ConvNetWithPaddingDilation, (1, 5, 5), "conv1"),
]


@pytest.mark.parametrize("method", [LayerReciproCam, LayerScoreCam])
@pytest.mark.parametrize(("model", "size", "layer"), CAPTUMS)
def test_captums_own_models_are_explained_as_they_stand(method, model, size, layer):
    """What captum's generic tests ask of a method: targets of every form, no hook left behind."""
    torch.manual_seed(0)
    net, images = model(), torch.rand(4, *size)
    assert net.training
    explain = method(net, net.get_submodule(layer))
    want = torch.cat([explain.attribute(images[i : i + 1], target=t) for i, t in enumerate((1, 0, 0, 1))])
    for targets in ([1, 0, 0, 1], torch.tensor([1, 0, 0, 1]), [(1,), (0,), (0,), (1,)]):
        torch.testing.assert_close(explain.attribute(images, target=targets), want)
    for module in net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
        assert "forward" not in vars(module)


# ---- small inputs


@pytest.mark.parametrize("method", METHODS)
def test_bool_labels_are_classes(method):
    torch.manual_seed(0)
    net, images = _net().eval(), torch.rand(2, 3, 8, 8)
    explain = method(net, net[0])
    want = explain.attribute(images, target=[1, 0])
    assert torch.equal(explain.attribute(images, target=torch.tensor([True, False])), want)
    assert torch.equal(explain.attribute(images, target=[True, False]), want)


@pytest.mark.parametrize("target", [1, [], torch.tensor([], dtype=torch.long)])
def test_an_empty_batch_has_no_maps(target):
    net, none = _net().eval(), torch.rand(0, 3, 8, 8)
    for method in METHODS:
        assert method(net, net[0]).attribute(none, target=target).shape == (0, 1, 4, 4)
    for method in (LayerReciproCam, LayerClassActivationMap):
        assert method(net, net[0]).attribute_all(none).shape == (0, 4, 4, 4)
    softcam = convert_to_softcam(net)
    assert LayerSoftCam(softcam, softcam.evidence).attribute(none, target=target).shape == (0, 1, 4, 4)
    assert LayerSoftCam(softcam, softcam.evidence).attribute_all(none).shape == (0, 4, 4, 4)


def test_a_dense_output_gets_an_example_of_a_target():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 1)).eval()
    images = torch.rand(1, 3, 8, 8)
    with pytest.raises(AssertionError, match=r"target 0 for scores \(N, 2, 8, 8\): .* as in target=\(0, 4, 4\)\."):
        LayerReciproCam(net, net[0]).attribute(images, target=0)
    assert LayerReciproCam(net, net[0]).attribute(images, target=(0, 4, 4)).shape == (1, 1, 4, 4)
    with pytest.raises(AssertionError) as error:
        LayerReciproCam(net, net[0]).attribute(images, target=torch.zeros(1, 1, 224, 224))
    assert len(str(error.value)) < 200
    with pytest.raises(AssertionError) as error:
        LayerReciproCam(net, net[0]).attribute(images, target=["class"] * 10_000)
    assert len(str(error.value)) < 200
