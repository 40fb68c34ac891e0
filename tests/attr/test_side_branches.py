"""Features that more than the classifier reads: the short way holds where that changes no score, and nowhere else."""

from __future__ import annotations

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_softcam._intervention.call import Call
from captum_softcam._intervention.closed_form import observe_copies
from captum_softcam.attr import LayerClassActivationMap, LayerReciproCam

IMAGES = torch.rand(2, 3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Features -> mean -> scores, with something else read from the features."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.decoder, self.fc = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 3, padding=1), nn.Linear(5, 4)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x))

    def head(self, f: Tensor) -> Tensor:
        raise NotImplementedError


class PooledTwice(Net):
    def head(self, f):
        f.mean((2, 3))
        return self.fc(f.mean((2, 3)))


class BothPooled(Net):
    def head(self, f):
        return self.fc(f.mean((2, 3)) + F.adaptive_avg_pool2d(f, 1).flatten(1))


class Decoded(Net):
    def head(self, f):
        F.interpolate(self.decoder(f), scale_factor=2)
        return self.fc(f.mean((2, 3)))


class InARow(Net):
    def head(self, f):
        tokens = f.permute(0, 2, 3, 1).reshape(len(f), -1, 5)
        return self.fc(tokens[:, 0:].view(len(f), 4, 6, 5).mean((1, 2)))


class WindowBeyond(Net):
    def head(self, f):
        return self.fc(F.avg_pool2d(f, 100, ceil_mode=True).flatten(1))


class AskedForItsType(Net):
    def head(self, f):
        return self.fc((f["out"] if torch.jit.isinstance(f, dict[str, Tensor]) else f).mean((2, 3)))


class WithTokens(Net):
    """The layer returns tokens (N, L, C), without a module that would say so."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = Tokens()

    def head(self, f):
        return self.fc(self.tokens(f).mean(1))


class Tokens(nn.Module):
    def forward(self, f: Tensor) -> Tensor:
        return f.flatten(2).transpose(1, 2)


def _layer(net: Net) -> nn.Module:
    return net.tokens if isinstance(net, WithTokens) else net.conv


def _wanted(net: Net) -> Tensor:
    with torch.no_grad():
        tails = net.head if not isinstance(net, WithTokens) else (lambda f: net.fc(f.flatten(2).mean(2)))
        return torch.stack([oracles.recipro_cam(f, tails, 1) for f in net.conv(IMAGES)])


@pytest.mark.parametrize("kind", [PooledTwice, BothPooled, Decoded, InARow, WindowBeyond, AskedForItsType, WithTokens])
def test_one_forward_is_enough(kind):
    net = kind()
    layer = _layer(net)
    with torch.no_grad():
        assert observe_copies(Call.of(net, IMAGES, None), layer, "one_hot", None)[1].found
    got = LayerReciproCam(net, layer).attribute(IMAGES, target=1)
    torch.testing.assert_close(got[:, 0], _wanted(net), atol=1e-12, rtol=0)
    maps = LayerClassActivationMap(net, layer).attribute_all(IMAGES)
    torch.testing.assert_close(maps.mean((2, 3)) + net.fc.bias, net(IMAGES), atol=1e-12, rtol=0)


class Scaled(Net):
    """A decoder's value is a factor of the scores."""

    def head(self, f):
        return self.fc(f.mean((2, 3))) * F.max_pool2d(f, 2).amax((1, 2, 3))[:, None]


class ScaledByANumber(Net):
    def head(self, f):
        return self.fc(f.mean((2, 3))) * float(f[:1].amax())


class ScaledOutOfSight(Net):
    """As above, through a function that torch does not report."""

    def head(self, f):
        return self.fc(f.mean((2, 3))) * Largest.apply(F.max_pool2d(f, 2))


class Largest(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):  # noqa: ARG004  # torch passes it
        return values.detach().amax()


class WrittenInto(Net):
    """A view of the features is written into between two readings."""

    def head(self, f):
        f[:, :, 1:3].cumsum_(2)
        return self.fc(f.mean((2, 3)))


class WrittenBetween(Net):
    def head(self, f):
        part = f.unfold(2, 2, 2)
        part.mul_(2)
        return self.fc(f.mean((2, 3)))


class Cut(Net):
    def head(self, f):
        return self.fc(f[:, :, 1:].mean((2, 3)))


@pytest.mark.parametrize("kind", [Scaled, ScaledByANumber, ScaledOutOfSight, WrittenInto, WrittenBetween, Cut])
@pytest.mark.parametrize("mask", ["one_hot", "gaussian"])
def test_the_whole_tail_runs_where_the_scores_depend_on_more(kind, mask):
    net = kind()
    with torch.no_grad():
        features = net.conv(IMAGES[:1])
        weights = [torch.zeros(4, 6, dtype=torch.float64) for _ in range(24)]
        for place, weight in enumerate(weights):
            weight.view(-1)[place] = 1
        if mask == "gaussian":
            line = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
            weights = [F.conv2d(each[None, None], torch.outer(line, line)[None, None], padding=1)[0, 0] for each in weights]
        want = torch.stack([net.head(features * each)[0, 1] for each in weights]).view(4, 6)
        want = want - net.head(features * 0)[0, 1]
    got = LayerReciproCam(net, net.conv).attribute(IMAGES[:1], target=1, mask=mask, perturbations_per_eval=1)
    torch.testing.assert_close(got[0, 0], want, atol=1e-12, rtol=0)
    if kind is not Cut:
        with pytest.raises(ValueError, match="LayerClassActivationMap needs"):
            LayerClassActivationMap(net, net.conv).attribute(IMAGES[:1], target=1)
