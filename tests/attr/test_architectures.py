"""The methods on torchvision's families at small input size, against the whole model run once per position."""

from __future__ import annotations

import warnings

import pytest
import torch
import torchvision
from torch import Tensor, nn

from captum_softcam._intervention import masks
from captum_softcam.attr import FeatureLayout, LayerReciproCam

# One of each kind of block and head: name, layer, side of the input, whether one forward must be enough.
CASES = [
    ("alexnet", "features", 96, False),
    ("vgg11_bn", "features.25", 64, False),
    ("resnet18", "layer4", 64, True),
    ("resnet18", "layer3.1.conv2", 64, False),  # within a residual block: the skip connection stays unmasked
    ("resnext50_32x4d", "layer4.1.relu", 64, False),  # called three times; the last call counts
    ("densenet121", "features.denseblock4", 64, True),
    ("densenet121", "features.denseblock4.denselayer7", 64, False),
    ("googlenet", "inception5b", 64, True),
    ("googlenet", "inception5a.branch3", 64, False),
    ("mobilenet_v2", "features.17", 64, True),
    ("mobilenet_v2", "features.14", 64, False),
    ("mobilenet_v3_large", "features", 64, True),
    ("shufflenet_v2_x0_5", "stage4", 64, True),
    ("squeezenet1_1", "features", 64, True),
    ("squeezenet1_1", "classifier.2", 64, True),
    ("efficientnet_b0", "features.7", 64, True),
    ("convnext_tiny", "features", 64, True),
    ("convnext_tiny", "features.7.1", 64, False),
    ("swin_t", "features", 64, True),  # channels last
    ("swin_t", "features.5.1", 64, False),
    ("swin_v2_t", "norm", 64, True),
]
VIDEO = [("r3d_18", "layer4", True), ("mc3_18", "layer3", False), ("r2plus1d_18", "layer4.0", False)]


def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    arguments = {"init_weights": True} if name == "googlenet" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        net = torchvision.models.get_model(name, weights=None, num_classes=7, **arguments).eval()
    for part in net.modules():  # random weights with their statistics: else the signal dies on the way
        if isinstance(part, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)):
            nn.init.normal_(part.bias, std=0.1)
            nn.init.uniform_(part.weight, 0.5, 1.5)
        elif isinstance(part, (nn.modules.conv._ConvNd, nn.Linear)):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    return net.double()  # some of them multiply rounding errors by a million


@torch.no_grad()
def _by_rerunning(net: nn.Module, layer: nn.Module, image: Tensor, layout: FeatureLayout) -> Tensor:
    """All classes (K, h, w): the whole model once per position, with a hook that masks what the layer gives last.

    They are relative to a run in which the hook keeps no position.
    """
    position: list[int | None] = [None]
    grids: list[tuple[int, ...]] = []
    calls = [0, 0]

    def mask(_module: nn.Module, _args: object, output: Tensor) -> Tensor | None:
        calls[0] += 1
        if position[0] is None:
            calls[1] = calls[0]
            space = output.shape[1:-1] if layout.channels_last else output.shape[2:]
            grids[:] = [layout.grid or tuple(space)]
            return None
        if calls[0] < calls[1]:
            return None
        keep = torch.zeros(grids[0], dtype=output.dtype).flatten()
        keep[max(position[0], 0)] = position[0] >= 0
        if not layout.channels_last:
            return output * keep.view(grids[0])
        if layout.grid is None:
            return output * keep.view(*grids[0], 1)
        return output * torch.cat((keep.new_ones(layout.prefix_tokens), keep))[:, None]

    with layer.register_forward_hook(mask):
        net(image)
        scores = []
        for position[0] in range(-1, torch.Size(grids[0]).numel()):
            calls[0] = 0
            scores.append(net(image)[0])
    return (torch.stack(scores[1:], 1) - scores[0][:, None]).view(-1, *grids[0])


def _check(net: nn.Module, layer: nn.Module, images: Tensor, monkeypatch, shortcut: bool, layout: FeatureLayout) -> None:
    recordings = []
    record = masks.record
    monkeypatch.setattr(masks, "record", lambda *args, **kwargs: recordings.append(1) or record(*args, **kwargs))
    got = LayerReciproCam(net, layer).attribute_all(images)
    assert (not recordings) == shortcut, "the tail is followed in one forward, or not"
    want = torch.stack([_by_rerunning(net, layer, image[None], layout) for image in images])
    spread = float(want.std((2, 3)).max()) if want.dim() == 4 else float(want.flatten(2).std(2).max())
    assert spread > 1e-4, "a map that says nothing would prove nothing"
    torch.testing.assert_close(got, want, atol=1e-6 * spread, rtol=0)


@pytest.mark.parametrize(("name", "layer", "side", "shortcut"), CASES, ids=lambda value: str(value))
def test_images(name, layer, side, shortcut, monkeypatch):
    net = _network(name)
    images = torch.rand(2, 3, side, side + 32, dtype=torch.float64)
    layout = FeatureLayout(channels_last=name.startswith("swin"))
    _check(net, net.get_submodule(layer), images, monkeypatch, shortcut, layout)


@pytest.mark.parametrize(("name", "layer", "shortcut"), VIDEO)
def test_videos(name, layer, shortcut, monkeypatch):
    net = _network(name)
    _check(
        net,
        net.get_submodule(layer),
        torch.rand(1, 3, 4, 24, 32, dtype=torch.float64),
        monkeypatch,
        shortcut,
        FeatureLayout(),
    )


@pytest.mark.parametrize(
    ("layer", "shortcut"),
    [("encoder.layers.encoder_layer_2.ln_1", True), ("encoder.layers.encoder_layer_1.ln_1", False)],
)
@pytest.mark.parametrize("mask", ["one_hot", "gaussian", "gaussian_spread"])
def test_vision_transformer(layer, shortcut, mask, monkeypatch):
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(48, 8, 3, 4, 32, 64, num_classes=7).double().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    images, layout = torch.rand(2, 3, 48, 48, dtype=torch.float64), FeatureLayout(True, 1, (6, 6))
    if mask == "one_hot":
        _check(net, net.get_submodule(layer), images, monkeypatch, shortcut, layout)
    explain = LayerReciproCam(net, net.get_submodule(layer))
    got = explain.attribute_all(images, mask=mask)
    monkeypatch.setattr("captum_softcam._intervention.closed_form._Shortcut.start", lambda *_: None)
    torch.testing.assert_close(explain.attribute_all(images, mask=mask), got, atol=1e-12, rtol=0)
