"""Score-CAM against its oracle, and against torchcam and grad-cam where they are right."""

from __future__ import annotations

import warnings

import oracles
import pytest
import torch
from torch import Tensor, nn

from captum_softcam.attr import LayerScoreCam

TARGETS = [1, 3, 0]
VARIANTS = [
    {},
    {"channel_softmax": False},
    {"channel_softmax": False, "baselines": 0.3},
    {"scale_first": True},
    {"align_corners": True},
    {"scale_first": True, "align_corners": True, "channel_softmax": False},
]


@pytest.fixture
def features(net, images):
    with torch.no_grad():
        stem = net.stem(images)
        return net.relu(stem + net.block(stem))


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_equals_the_oracle(net, images, features, variant, chunk):
    literal = {key: value for key, value in variant.items() if key != "baselines"}
    want = []
    with torch.no_grad():
        for f, image, t in zip(features, images, TARGETS, strict=True):
            if "baselines" in variant:
                literal["baseline"] = float(net(torch.full_like(image[None], 0.3))[0, t])
            want.append(oracles.score_cam(f, image, net, t, **literal))
    got = LayerScoreCam(net, net.relu).attribute(images, target=TARGETS, perturbations_per_eval=chunk, **variant)
    assert torch.stack(want).std() > 1e-4
    torch.testing.assert_close(got[:, 0], torch.stack(want), atol=1e-12, rtol=0)


def test_flat_channels_have_no_cost_and_no_weight(net, images, features):
    with torch.no_grad():
        net.block.weight[2] = 0
        net.stem[1].weight[2] = 0
        net.stem[1].bias[2] = -1.0  # a dead channel
        net.stem[1].weight[4] = 0
        net.stem[1].bias[4] = 1.0  # a constant one
        net.block.weight[4] = 0
        stem = net.stem(images)
        features = net.relu(stem + net.block(stem))
        want = [oracles.score_cam(f, x, net, t) for f, x, t in zip(features, images, TARGETS, strict=True)]
    rows = []
    net.fc.register_forward_hook(lambda _module, args, _output: rows.append(len(args[0])))
    got = LayerScoreCam(net, net.relu).attribute(images, target=TARGETS)
    torch.testing.assert_close(got[:, 0], torch.stack(want), atol=1e-12, rtol=0)
    alive = int((features.flatten(2).amax(2) > features.flatten(2).amin(2)).sum())
    assert sum(rows) == 3 + 3 * 2 + alive, "the batch, two copies of each example, and one of each channel that is not flat"
    assert 0 < alive <= 3 * 4


def test_a_map_of_flat_channels_is_zero():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    maps = LayerScoreCam(net, net[0]).attribute(torch.ones(2, 3, 4, 4), target=0)
    assert torch.equal(maps, torch.zeros(2, 1, 4, 4))


def test_baselines_of_every_example(net, images):
    explain = LayerScoreCam(net, net.relu)
    baselines = torch.rand_like(images)
    got = explain.attribute(images, target=1, channel_softmax=False, baselines=baselines)
    for row in range(3):
        one = slice(row, row + 1)
        single = explain.attribute(images[one], target=1, channel_softmax=False, baselines=baselines[one])
        torch.testing.assert_close(got[one], single, atol=1e-12, rtol=0)


def test_signed_maps_and_what_is_masked(net, images):
    signed = LayerScoreCam(net, net.stem[0]).attribute(images, target=0, relu_attributions=False)
    assert (signed < 0).any()
    assert torch.equal(LayerScoreCam(net, net.stem[0]).attribute(images, target=0), signed.relu())

    def forward(x: Tensor, age: Tensor, factor: float) -> Tensor:
        return net(x) * factor + age

    ages = torch.rand(3, 1, dtype=torch.float64)
    got = LayerScoreCam(forward, net.relu).attribute((images, ages), target=TARGETS, additional_forward_args=2.0)
    with torch.no_grad():
        stem = net.stem(images)
        features = net.relu(stem + net.block(stem))
        rows = zip(features, images, ages, TARGETS, strict=True)
        want = [oracles.score_cam(f, x, lambda z, a=a: forward(z, a, 2.0), t) for f, x, a, t in rows]
    torch.testing.assert_close(got[:, 0], torch.stack(want), atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match=r"no input can be masked: inputs are \(3, 420\), and the map has 4 dimensions"):
        LayerScoreCam(lambda x: net(x.view(3, 3, 10, 14)), net.relu).attribute(images.flatten(1), target=0)


@pytest.fixture
def peer_net() -> nn.Module:
    """In float32 and square, as the peers want it, and without flat channels, which they let count."""
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 8, 3), *head).eval()


def test_equals_torchcam(peer_net):
    methods = pytest.importorskip("torchcam.methods")
    image = torch.rand(1, 3, 24, 24)
    with methods.ScoreCAM(peer_net, peer_net[3], batch_size=4) as extractor, torch.no_grad():
        scores = peer_net(image)
        want = extractor(2, scores, normalized=False)[0]
    got = LayerScoreCam(peer_net, peer_net[3]).attribute(image, target=2, scale_first=True)
    torch.testing.assert_close(got[0], want, atol=1e-5, rtol=1e-5)


def test_equals_grad_cam(peer_net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        peer = pytest.importorskip("pytorch_grad_cam")
        targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    image = torch.rand(1, 3, 24, 24)
    extractor = peer.ScoreCAM(peer_net, [peer_net[3]])
    extractor(image, targets=[targets.ClassifierOutputTarget(2)])  # fills the activations
    activations = extractor.activations_and_grads.activations[0]
    weights = extractor.get_cam_weights(image, peer_net[3], [targets.ClassifierOutputTarget(2)], activations.numpy(), None)
    want = (torch.from_numpy(weights)[:, :, None, None] * activations).sum(1).relu()  # before it is resized and scaled
    extractor.activations_and_grads.release()
    got = LayerScoreCam(peer_net, peer_net[3]).attribute(image, target=2, align_corners=True)
    torch.testing.assert_close(got[0], want, atol=1e-5, rtol=1e-5)
