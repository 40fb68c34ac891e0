"""Captum's layer methods see a layer of any layout as maps (N, C, h, w), and leave the model alone."""

from __future__ import annotations

import pytest
import torch
from captum.attr import (
    InternalInfluence,
    LayerActivation,
    LayerConductance,
    LayerDeepLift,
    LayerFeatureAblation,
    LayerGradCam,
    LayerGradientXActivation,
    LayerIntegratedGradients,
)
from torch import Tensor, nn

from captum_softcam.evaluation import LayerExplainFunc

METHODS = (
    *(LayerGradCam, LayerActivation, LayerGradientXActivation, LayerConductance, InternalInfluence),
    *(LayerIntegratedGradients, LayerFeatureAblation, LayerDeepLift),
)
TARGETS = torch.tensor([1, 3])


class Same(nn.Module):
    """What it reads, for a layer that can be looked at."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class Layouts(nn.Module):
    """The same features channels first, channels last, and as tokens behind a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 5, 3, 2, 1), nn.ReLU()
        self.first, self.last, self.tokens = Same(), Same(), Same()
        self.token, self.fc = nn.Parameter(torch.randn(1, 1, 5)), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.first(self.act(self.conv(x)))
        last = self.last(maps.permute(0, 2, 3, 1))
        tokens = self.tokens(torch.cat((self.token.expand(len(x), -1, -1), last.flatten(1, 2)), 1))
        return self.fc(tokens[:, 1:].square().mean(1) + tokens[:, 0])


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Layouts().double().eval()


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(2, 3, 10, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("at_input", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_the_layout_of_the_layer_does_not_matter(model, pictures, method, at_input):
    arguments = {} if method is LayerGradientXActivation or not at_input else {"attribute_to_layer_input": True}
    want = LayerExplainFunc(method, "first", **arguments).explain(model, pictures, TARGETS)
    assert want.flatten(1).std(1).min() > 0
    for layer in ("last", "tokens"):
        got = LayerExplainFunc(method, layer, **arguments).explain(model, pictures, TARGETS)
        torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-10)


def test_grad_cam_is_the_gradient_averaged_over_the_positions(model, pictures):
    kept: list[Tensor] = []
    handle = model.last.register_forward_hook(lambda _module, _args, output: kept.append(output))
    scores = model(pictures)
    handle.remove()
    (gradient,) = torch.autograd.grad(scores[[0, 1], TARGETS].sum(), kept[0])
    want = (kept[0] * gradient.mean((1, 2), keepdim=True)).sum(3)[:, None].detach()
    want = nn.functional.interpolate(want, size=pictures.shape[2:], mode="bilinear")
    got = LayerExplainFunc("grad_cam", "last").explain(model, pictures, TARGETS)
    torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("method", [method for method in METHODS if method is not LayerActivation])
def test_no_hook_reaches_the_model(model, pictures, method):
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a hook was set on the user's module")

    model.last.register_forward_hook = model.last.register_forward_pre_hook = refuse
    with pytest.raises(AssertionError, match="a hook was set"):
        method(model, model.last).attribute(pictures, target=TARGETS)
    assert LayerExplainFunc(method, "last").explain(model, pictures, TARGETS).shape == (2, 1, 10, 14)


def test_a_layout_that_is_not_known_is_asked_for():
    class Mixed(nn.Module):
        """A layer whose dimensions no function tells."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = Same()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(1).sort(1).values.view(len(x), 6, 7, 10)).amax((2, 3))

    with pytest.raises(ValueError, match=r"gives \(2, 6, 7, 10\)"):
        LayerExplainFunc("grad_cam", "layer").explain(Mixed().eval(), torch.rand(2, 3, 10, 14), TARGETS)
