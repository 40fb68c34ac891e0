"""Recipro-CAM against its oracle, and errors of users."""

from __future__ import annotations

import warnings

import oracles
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from captum_softcam.attr import LayerReciproCam

TARGETS = [1, 3, 0]


def expected(net: nn.Module, images: Tensor) -> Tensor:
    """The oracle at the end of the residual block of ``PooledNet``."""
    with torch.no_grad():
        stem = net.stem(images)
        features = net.relu(stem + net.block(stem))
        maps = [oracles.recipro_cam(f, lambda z: net.fc(z.mean((2, 3))), t) for f, t in zip(features, TARGETS, strict=True)]
    return torch.stack(maps)[:, None]


@pytest.mark.parametrize("chunk", [1, 4, 35, 64])
def test_equals_the_oracle_for_any_chunk(net, images, chunk):
    maps = LayerReciproCam(net, net.relu).attribute(images, target=TARGETS, perturbations_per_eval=chunk)
    torch.testing.assert_close(maps, expected(net, images), atol=1e-12, rtol=0)


def test_skip_connection_around_the_layer_stays_unmasked(net, images):
    def tail(image: Tensor):
        stem = net.stem(image)
        return lambda z: net.fc(F.relu(stem + z).mean((2, 3)))

    with torch.no_grad():
        features = net.block(net.stem(images))
        maps = [oracles.recipro_cam(f, tail(x[None]), 2) for f, x in zip(features, images, strict=True)]
    got = LayerReciproCam(net, net.block).attribute(images, target=2)
    torch.testing.assert_close(got[:, 0], torch.stack(maps), atol=1e-12, rtol=0)


def test_layer_input(net, images):
    with torch.no_grad():
        features = net.stem[1](net.stem[0](images))
        tail = lambda z: net.fc((lambda s: F.relu(s + net.block(s)))(F.relu(z)).mean((2, 3)))  # noqa: E731
        maps = [oracles.recipro_cam(f, tail, 1) for f in features]
    got = LayerReciproCam(net, net.stem[2]).attribute(images, target=1, attribute_to_layer_input=True)
    torch.testing.assert_close(got[:, 0], torch.stack(maps), atol=1e-12, rtol=0)


def test_is_cam_behind_pooling_and_a_linear_head(net, images):
    with torch.no_grad():
        stem = net.stem(images)
        features = net.relu(stem + net.block(stem))
        cam = torch.stack([oracles.class_activation_map(f, net.fc.weight, 2) for f in features])
    explain = LayerReciproCam(net, net.relu)
    got, raw = (explain.attribute(images, target=2, relative=relative)[:, 0] for relative in (True, False))
    torch.testing.assert_close(got, cam / cam[0].numel(), atol=1e-12, rtol=0)
    torch.testing.assert_close(raw, got + net.fc.bias[2], atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 4), st.integers(2, 12), st.integers(1, 9), st.integers(0, 3), st.integers(0, 2**16))
def test_a_batch_is_a_stack_of_singles(count, height, chunk, target, seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4))
    net = net.double().eval()
    images = torch.rand(count, 3, height, 5, dtype=torch.float64)
    explain = LayerReciproCam(net, net[1]).attribute
    batch = explain(images, target=target, perturbations_per_eval=chunk)
    singles = torch.cat([explain(image[None], target=target) for image in images])
    torch.testing.assert_close(batch, singles, atol=1e-12, rtol=0)


def test_how_often_each_module_runs(net, images):
    calls = {"stem": 0, "fc": 0}
    net.stem[0].register_forward_hook(lambda *_: calls.__setitem__("stem", calls["stem"] + 1))
    net.fc.register_forward_hook(lambda *_: calls.__setitem__("fc", calls["fc"] + 1))
    LayerReciproCam(net, net.relu).attribute(images, target=0, perturbations_per_eval=7)
    assert calls == {"stem": 1, "fc": 1}, "behind the layer stand pooling and head: one forward tells all"
    LayerReciproCam(net, net.block).attribute(images, target=0, perturbations_per_eval=7)
    behind = "three forwards, then the tail: an untouched copy and 35 masked ones in chunks of 7, three images"
    assert calls == {"stem": 1 + 3, "fc": 1 + 3 + 3 * 6}, behind


KERNELS = {
    "one_hot": ([[1.0]], False),
    "gaussian": (oracles.GAUSSIAN, False),
    "gaussian_spread": (oracles.GAUSSIAN, True),
    "kernel": ([[0.5, 0.0, -1.0, 2.0, 0.5]] * 3, False),
    "kernel per channel": ([[[float(c + 1)], [0.0], [2.0]] for c in range(5)], False),
}


class Tails(nn.Module):
    """One layer and every kind of tail behind it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        nn.init.normal_(self.norm.bias)
        nn.init.normal_(self.norm.running_mean)
        self.mix = nn.Conv2d(5, 5, 1)
        self.around = nn.Conv2d(5, 5, 3, padding=1)
        self.stride = nn.Conv2d(5, 5, 1, stride=2)
        self.head = nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4))
        self.last_norm = nn.LayerNorm(5)
        self.fc = nn.Linear(5, 4)
        self.tail = getattr(self, kind)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.layer(x))

    def pooled(self, z: Tensor) -> Tensor:
        return self.fc(z.mean((2, 3)))

    def pointwise(self, z: Tensor) -> Tensor:
        z = F.relu(self.mix(F.relu(self.norm(z), inplace=True)))
        return self.head(F.adaptive_avg_pool2d(z, 1).flatten(1)).softmax(1)

    def channels_last(self, z: Tensor) -> Tensor:
        return self.fc(F.gelu(self.last_norm(z.permute(0, 2, 3, 1))).mean((1, 2)))

    def flattened(self, z: Tensor) -> Tensor:
        return self.fc(torch.sigmoid(z).flatten(2).transpose(1, 2).mean(dim=1)) * 2

    def windowed(self, z: Tensor) -> Tensor:
        return self.fc(F.avg_pool2d(self.mix(z), tuple(z.shape[2:]))[..., 0, 0])

    def convolved(self, z: Tensor) -> Tensor:
        return self.pooled(F.relu(self.around(z)))

    def twice(self, z: Tensor) -> Tensor:
        return self.pooled(z) + self.pooled(z * 2)

    def strided(self, z: Tensor) -> Tensor:
        return self.pooled(self.stride(z))

    def noisy(self, z: Tensor) -> Tensor:
        return self.pooled(F.dropout(z, 0.0))  # in training, but it drops nothing

    def largest(self, z: Tensor) -> Tensor:
        return self.fc(z.amax((2, 3)))


FOLLOWED = ["noisy", "pooled", "pointwise", "channels_last", "flattened", "windowed"]
RERUN = ["convolved", "strided", "twice", "largest"]


@pytest.mark.parametrize("mask", KERNELS)
@pytest.mark.parametrize("kind", FOLLOWED + RERUN)
def test_every_mask_equals_the_oracle_before_every_tail(kind, mask):
    torch.manual_seed(1)
    net, images = Tails(kind).double().eval(), torch.rand(2, 3, 4, 5, dtype=torch.float64)
    kernel, spread = KERNELS[mask]
    calls = []
    net.fc.register_forward_hook(lambda *_: calls.append(1))
    asked = mask if mask in ("one_hot", "gaussian", "gaussian_spread") else torch.tensor(kernel)
    got = LayerReciproCam(net, net.layer).attribute(images, target=[1, 3], mask=asked, perturbations_per_eval=7)
    every = LayerReciproCam(net, net.layer).attribute_all(images, mask=asked)
    if kind in ("pooled", "channels_last", "flattened", "windowed"):
        assert (len(calls) == 2) == (mask != "kernel per channel"), "one forward each where the tail can be followed"
    assert kind in FOLLOWED or len(calls) > 2
    raw = LayerReciproCam(net, net.layer).attribute_all(images[1:], mask=asked, relative=False)
    with torch.no_grad():
        features = net.layer(images)
        want = [oracles.recipro_cam(f, net.tail, t, kernel, spread) for f, t in zip(features, (1, 3), strict=True)]
        other = torch.stack([oracles.recipro_cam(features[1], net.tail, t, kernel, spread) for t in range(4)])
        scores = torch.stack([oracles.recipro_cam(features[1], net.tail, t, kernel, spread, False) for t in range(4)])
    assert torch.stack(want).std() > 1e-4, "a map that says nothing would prove nothing"
    torch.testing.assert_close(got[:, 0], torch.stack(want), atol=1e-12, rtol=0)
    torch.testing.assert_close(every[1], other, atol=1e-12, rtol=0)
    torch.testing.assert_close(raw[0], scores, atol=1e-12, rtol=0)


@pytest.mark.parametrize("count", [1, 2])
def test_a_branch_that_no_mode_can_see_is_not_forgotten(count):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is on its way out
        clipped = torch.jit.script(nn.Hardtanh().eval())
    torch.manual_seed(0)
    net = Tails("pooled").double().eval()
    images = torch.rand(count, 3, 3, 4, dtype=torch.float64)

    def tail(z: Tensor) -> Tensor:
        return net.fc(z.mean((2, 3))) + net.fc(clipped(z).mean((2, 3)))

    got = LayerReciproCam(lambda x: tail(net.layer(x)), net.layer).attribute(images, target=1)
    with torch.no_grad():
        want = torch.stack([oracles.recipro_cam(f, tail, 1) for f in net.layer(images)])
    torch.testing.assert_close(got[:, 0], want, atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(FOLLOWED + RERUN),
    st.sampled_from(["one_hot", "gaussian", "gaussian_spread"]),
    st.tuples(st.integers(1, 5), st.integers(2, 5)),
    st.one_of(st.none(), st.integers(1, 30)),
    st.integers(0, 2**16),
)
def test_any_chunk_any_batch_one_class_or_all(kind, mask, size, chunk, seed):
    torch.manual_seed(seed)
    net, images = Tails(kind).double().eval(), torch.rand(3, 3, *size, dtype=torch.float64)
    explain = LayerReciproCam(net, net.layer)
    every = explain.attribute_all(images, mask=mask)
    for target in (0, 3):
        batch = explain.attribute(images, target=target, mask=mask, perturbations_per_eval=chunk)
        torch.testing.assert_close(batch, every[:, target : target + 1], atol=1e-12, rtol=0)
    single = explain.attribute_all(images[1:2], mask=mask, perturbations_per_eval=chunk)
    torch.testing.assert_close(single[0], every[1], atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (torch.ones(2, 3, 3), r"the kernel has 2 channels and the layer 6; pass 1 or 6\."),
        (torch.ones(3, 2), r"the kernel is \(1, 3, 2\); its sides must be odd, so that it has a centre\."),
        (torch.ones(3), r"the kernel is \(3,\); a grid of 2 dimensions needs one of 2, or of 2 behind C\."),
        ("box", r"mask 'box' is unknown; use 'one_hot', 'gaussian', 'gaussian_spread' or a kernel tensor\."),
    ],
)
def test_a_mask_that_does_not_fit(net, images, kernel, message):
    with pytest.raises(ValueError, match=message):
        LayerReciproCam(net, net.relu).attribute(images, target=0, mask=kernel)


class Reused(nn.Module):
    """Calls one ReLU three times and writes in place between modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(c, 4, 3, padding=1) for c in (3, 4))
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 3)

    def tail(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(self.relu(x)), inplace=True)
        y = self.relu(self.second(x))
        x.add_(y)
        return self.tail(self.relu(x))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_module_called_again_and_in_place_writes(mode):
    torch.manual_seed(3)
    net, images = Reused().double().eval(), torch.rand(2, 3, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        x = F.relu(net.first(images))
        y = net.second(x)
        last = F.relu(x + F.relu(y))
        relu = torch.stack([oracles.recipro_cam(f, net.tail, 1) for f in last])
        tails = [lambda z, x=x[i : i + 1]: net.tail(F.relu(x + F.relu(z))) for i in range(2)]
        second = torch.stack([oracles.recipro_cam(y[i], tails[i], 1) for i in range(2)])
    with mode():
        for layer, want in ((net.relu, relu), (net.second, second)):
            for chunk in (1, 6):
                got = LayerReciproCam(net, layer).attribute(images, target=1, perturbations_per_eval=chunk)
                torch.testing.assert_close(got[:, 0].clone(), want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dims", [1, 3])
def test_other_dimensions(dims):
    conv = {1: nn.Conv1d, 3: nn.Conv3d}[dims]
    net = nn.Sequential(conv(2, 4, 1), nn.Flatten(2)).double().eval()
    images = torch.rand(2, 2, *[3, 2, 4][:dims], dtype=torch.float64)
    maps = LayerReciproCam(lambda x: net(x).square().sum(2), net[0]).attribute(images, target=1)
    assert maps.shape == (2, 1, *images.shape[2:])


def test_forward_function_with_arguments(net, images):
    scale = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

    def forward(x: Tensor, factor: Tensor, power: int) -> Tensor:
        return net(x) ** power * factor[:, None]

    maps = LayerReciproCam(forward, net.relu).attribute(images, target=TARGETS, additional_forward_args=(scale, 1))
    torch.testing.assert_close(maps, expected(net, images) * scale.view(-1, 1, 1, 1), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4.0.conv2"),
        ("densenet121", "features.denseblock4.denselayer3.conv2"),
        ("googlenet", "inception5a.branch2"),
        ("mobilenet_v2", "features.12"),
        ("shufflenet_v2_x0_5", "stage4.1.branch2"),
    ],
)
def test_torchvision_networks_at_inner_layers(name, layer):
    torch.manual_seed(0)
    arguments = {"init_weights": False} if name == "googlenet" else {}
    net = torchvision.models.get_model(name, weights=None, **arguments).eval()
    images = torch.rand(2, 3, 64, 64)
    module = net.get_submodule(layer)
    got = LayerReciproCam(net, module).attribute(images, target=5)
    want = torch.cat([_by_rerunning(net, module, image[None], 5) for image in images])
    torch.testing.assert_close(got[:, 0], want, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def _by_rerunning(net: nn.Module, layer: nn.Module, image: Tensor, target: int) -> Tensor:
    """The whole model once per position, with a hook that masks: slow, and free of everything that may go wrong."""
    position: list[int | None] = [None]
    shape: list[torch.Size] = []

    def mask(_module: nn.Module, _args: object, output: Tensor) -> Tensor | None:
        shape[:] = [output.shape]
        if position[0] is None:
            return None
        keep = torch.zeros(output.shape[2:]).flatten()
        keep[max(position[0], 0)] = position[0] >= 0
        return output * keep.view(output.shape[2:])

    with layer.register_forward_hook(mask):
        net(image)
        scores = []
        for position[0] in range(shape[0][2:].numel()):
            scores.append(net(image)[0, target])
        position[0] = -1
        none = net(image)[0, target]
    return (torch.stack(scores) - none).view(1, *shape[0][2:])


def test_errors_say_what_to_do(net, images):
    with pytest.raises(ValueError, match=r"layer 'fc' gives \(3, 4\); LayerReciproCam needs a spatial map \(N, C, h, w\)"):
        LayerReciproCam(net, net.fc).attribute(images, target=0)
    with pytest.raises(ValueError, match=r"The last spatial layer is 'relu' \(3, 6, 5, 7\)\."):
        LayerReciproCam(net, net.fc).attribute(images, target=0)
    with pytest.raises(ValueError, match="perturbations_per_eval must be at least 1; got 0"):
        LayerReciproCam(net, net.relu).attribute(images, target=0, perturbations_per_eval=0)
    with pytest.raises(AssertionError, match=r"no target for scores \(N, 4\): pass one that picks a single score"):
        LayerReciproCam(net, net.relu).attribute(images)
    with pytest.raises(TypeError, match=r"layer must be a module; got 'relu'\. A layer by name is model.get_submodule"):
        LayerReciproCam(net, "relu").attribute(images, target=0)
    with pytest.raises(ValueError, match="is not called by the model"):
        LayerReciproCam(net, nn.Conv2d(3, 3, 1)).attribute(images, target=0)
    with pytest.raises(ValueError, match=r"in train mode.*Call model.eval\(\) first"):
        LayerReciproCam(net.train(), net.relu).attribute(images, target=0)


def test_the_last_spatial_layer_is_named_for_a_model_of_several_arguments(net, images):
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor, factor: float) -> Tensor:
            return self.net(x) * factor

    model = Scaled().eval()
    with pytest.raises(ValueError, match=r"layer 'net.fc' gives \(3, 4\).*The last spatial layer is 'net.relu'"):
        LayerReciproCam(model, net.fc).attribute(images, target=0, additional_forward_args=2.0)


def test_a_module_whose_output_has_no_rows_of_examples():
    """Its three channels' gains are no batch of one or two."""

    class Gains(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.arange(1.0, 4.0, dtype=x.dtype)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gains, self.conv = Gains(), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            gains = self.gains(x)
            return self.conv(x).mean((2, 3)) * gains

    net, images = Net().double().eval(), torch.rand(2, 3, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        want = torch.stack(
            [oracles.recipro_cam(f, lambda z: z.mean((2, 3)) * torch.arange(1.0, 4.0), 2) for f in net.conv(images)]
        )
    got = LayerReciproCam(net, net.conv).attribute(images, target=2)
    torch.testing.assert_close(got[:, 0], want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("chunk", [1, 6, 20, 22, None])
def test_one_copy_more_per_example_keeps_no_position(chunk):
    torch.manual_seed(1)
    net, images = Tails("convolved").double().eval(), torch.rand(2, 3, 4, 5, dtype=torch.float64)
    copies: list[Tensor] = []
    net.around.register_forward_pre_hook(lambda _module, args: copies.append(args[0].clone()))
    LayerReciproCam(net, net.layer).attribute(images, target=1, perturbations_per_eval=chunk)
    rows = torch.cat(copies[-2 * -(-22 // (chunk or 22)) :]).flatten(1)
    assert len(rows) == 2 * (20 + 2), "an untouched copy, one without any position, and one per position"
    assert int((rows == 0).all(1).sum()) == 2
    assert chunk is None or all(len(each) <= chunk for each in copies[-2:])


@pytest.mark.parametrize("kind", ["pooled", "convolved"])
def test_negative_values_are_those_below_the_score_of_no_position(kind):
    torch.manual_seed(1)
    net, images = Tails(kind).double().eval(), torch.rand(2, 3, 4, 5, dtype=torch.float64)
    explain = LayerReciproCam(net, net.layer)
    maps = explain.attribute(images, target=1)
    assert maps.min() < 0 < maps.max()
    assert torch.equal(explain.attribute(images, target=1, relu_attributions=True), maps.relu())
    raw = explain.attribute(images, target=1, relative=False)
    shift = (raw - maps).flatten(1)
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), atol=1e-12, rtol=0)
    with torch.no_grad():
        zero = net.tail(torch.zeros_like(net.layer(images)))[:, [1]]
    torch.testing.assert_close(shift[:, :1], zero, atol=1e-12, rtol=0)
    for all_of_them in (True, False):
        assert explain.attribute_all(images[:0], relative=all_of_them).shape == (0, 4, 4, 5)


@pytest.mark.parametrize("mixing", [False, True])
def test_without_a_score_of_no_position_the_raw_scores_are_left(mixing):
    torch.manual_seed(1)
    net, images = Tails("pooled").double().eval(), torch.rand(2, 3, 4, 5, dtype=torch.float64)

    def forward(x: Tensor) -> Tensor:
        pooled = net.layer(x).mean((2, 3)) if not mixing else net.layer(x).amax((2, 3))
        return net.fc(pooled / pooled.norm(dim=1, keepdim=True))

    explain = LayerReciproCam(forward, net.layer)
    with pytest.raises(ValueError, match=r"with no position kept, example 0 has no finite score.*pass relative=False"):
        explain.attribute(images, target=1)
    assert explain.attribute(images, target=1, relative=False).isfinite().all()
    with pytest.raises(ValueError, match="pass relative=False"):
        explain.attribute_all(images)


@pytest.mark.parametrize("kind", ["pooled", "convolved"])
def test_an_example_that_is_not_finite_spoils_no_other(kind):
    torch.manual_seed(1)
    net, images = Tails(kind).double().eval(), torch.rand(2, 3, 4, 5, dtype=torch.float64)
    want = LayerReciproCam(net, net.layer).attribute(images, target=1)
    images[0] = torch.nan
    maps = LayerReciproCam(net, net.layer).attribute(images, target=1)
    assert maps[0].isnan().all()
    torch.testing.assert_close(maps[1], want[1], atol=1e-12, rtol=0)


def test_probabilities_are_compared_with_those_of_no_position(net, images):
    model = nn.Sequential(net, nn.Softmax(1)).eval()
    maps = LayerReciproCam(model, net.relu).attribute_all(images)
    torch.testing.assert_close(maps.sum(1), torch.zeros_like(maps[:, 0]), atol=1e-12, rtol=0)
    with torch.no_grad():
        zero = net.fc.bias.softmax(0)
    raw = LayerReciproCam(model, net.relu).attribute_all(images, relative=False)
    torch.testing.assert_close(maps, raw - zero.view(-1, 1, 1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("chunk", [5, None])
def test_a_score_that_does_not_depend_on_the_positions_has_a_map_of_zeros(chunk):
    """Behind the last attention of a transformer that reads a class token, and not a map of rounding errors."""
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=7).eval()
    nn.init.normal_(net.heads.head.weight)
    explain = LayerReciproCam(net, net.encoder.layers[-1])
    images = torch.rand(2, 3, 32, 32)
    assert not explain.attribute_all(images, perturbations_per_eval=chunk).any()
    raw = explain.attribute_all(images, perturbations_per_eval=chunk, relative=False)
    assert raw.flatten(2).std(2).max() < 1e-6 < raw.abs().max()
