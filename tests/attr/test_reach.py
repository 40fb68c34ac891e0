"""Wrapped, compiled and unusual models: the maps are those of the plain model."""

from __future__ import annotations

import threading
import time

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_softcam.attr import FeatureLayout, LayerClassActivationMap, LayerReciproCam, LayerScoreCam, LayerSoftCam
from captum_softcam.softcam import convert_to_softcam

METHODS = [LayerReciproCam, LayerClassActivationMap, LayerScoreCam, LayerSoftCam]
methods = pytest.mark.parametrize("method", METHODS)
LAYERS = ["relu", "block"]  # followed in one forward, and not


def _explain(method: type, model: nn.Module, around: object = None) -> object:
    forward_func = model if around is None else around
    return method(forward_func, model.evidence if method is LayerSoftCam else model.relu)


@pytest.fixture
def model(net, method):
    return convert_to_softcam(net) if method is LayerSoftCam else net


@methods
@pytest.mark.parametrize("wrapper", ["DataParallel", "compile", "function", "compiled in a function", "module.compile"])
def test_wrapped_models(model, method, images, wrapper):
    want = _explain(method, model).attribute(images, target=1)
    compiled = torch.compile(model, backend="eager") if "compiled" in wrapper or wrapper == "compile" else None
    if wrapper == "module.compile":
        model.compile(backend="eager")
    around = {
        "DataParallel": lambda: nn.DataParallel(model),
        "compile": lambda: compiled,
        "function": lambda: lambda x: model(x),
        "compiled in a function": lambda: lambda x: compiled(x),
        "module.compile": lambda: model,
    }[wrapper]()
    with torch.no_grad():
        around(images)  # a compiled model that ran ignores hooks that are added later
    torch.testing.assert_close(_explain(method, model, around).attribute(images, target=1), want, atol=1e-12, rtol=0)
    torch._dynamo.reset()


@pytest.mark.parametrize("name", LAYERS)
def test_a_compiled_layer(net, images, name):
    want = LayerReciproCam(net, net.get_submodule(name)).attribute(images, target=1)
    setattr(net, name, torch.compile(net.get_submodule(name), backend="eager"))
    with torch.no_grad():
        net(images)
    for layer in (getattr(net, name), getattr(net, name)._orig_mod):
        torch.testing.assert_close(LayerReciproCam(net, layer).attribute(images, target=1), want, atol=1e-12, rtol=0)
    torch._dynamo.reset()


@methods
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_grad_modes_and_frozen_parameters(model, method, images, context):
    want = _explain(method, model).attribute(images, target=1)
    model.requires_grad_(False)
    with context():
        got = _explain(method, model).attribute(images.clone(), target=1)
    assert not got.requires_grad
    torch.testing.assert_close(got.clone(), want, atol=1e-12, rtol=0)


@methods
def test_memory_format_does_not_matter(model, method, images):
    want = _explain(method, model).attribute(images, target=1)
    got = _explain(method, model.to(memory_format=torch.channels_last)).attribute(
        images.to(memory_format=torch.channels_last), target=1
    )
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("method", "name"), [(LayerReciproCam, "block"), *((method, "relu") for method in METHODS)])
@pytest.mark.parametrize("half", ["model", "autocast"])
def test_bfloat16(model, method, images, half, name):
    explain = _explain(method, model) if name == "relu" else method(model, model.block)
    want = explain.attribute(images, target=1).float()
    if half == "model":
        got = (model.bfloat16(), explain.attribute(images.bfloat16(), target=1))[1]
        assert got.dtype == torch.bfloat16
    else:
        model.float()
        with torch.autocast("cpu", torch.bfloat16):
            got = explain.attribute(images.float(), target=1)
    # Behind other layers than a pooling, scores are rounded before one is subtracted from the others
    of = want if name == "relu" else method(model.float(), model.block).attribute(images.float(), target=1, relative=False)
    assert float((got.float() - want).abs().max()) < 0.06 * float(of.abs().max()), "bfloat16 keeps 8 bits"


class Twins(nn.Module):
    """A layer that gives two maps, and one that reads two."""

    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine, self.coarse = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, stride=2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, None]:
            return self.fine(x), self.coarse(x), None

    class Join(nn.Module):
        def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
            return F.relu(fine).mean((2, 3)) * coarse.mean((2, 3))

    def __init__(self) -> None:
        super().__init__()
        self.split, self.join, self.fc = self.Split(), self.Join(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        fine, coarse, _ = self.split(x)
        return self.fc(self.join(fine, coarse))


@pytest.mark.parametrize("at_input", [False, True])
def test_layers_with_several_maps(at_input):
    torch.manual_seed(0)
    net, images = Twins().double().eval(), torch.rand(2, 3, 5, 7, dtype=torch.float64)
    explain = LayerReciproCam(net, net.join if at_input else net.split)
    got = explain.attribute(images, target=1, attribute_to_layer_input=at_input, relu_attributions=False)
    assert isinstance(got, tuple)
    assert [part.shape for part in got] == [(2, 1, 5, 7), (2, 1, 2, 3)]
    with torch.no_grad():
        fine, coarse, _ = net.split(images)
        for row in range(2):
            one = oracles.recipro_cam(fine[row], lambda z, r=row: net.fc(net.join(z, coarse[r : r + 1])), 1)
            other = oracles.recipro_cam(coarse[row], lambda z, r=row: net.fc(net.join(fine[r : r + 1], z)), 1)
            torch.testing.assert_close(got[0][row, 0], one, atol=1e-12, rtol=0)
            torch.testing.assert_close(got[1][row, 0], other, atol=1e-12, rtol=0)
    assert [part.shape for part in LayerScoreCam(net, net.split).attribute(images, target=1)] == [(2, 1, 5, 7), (2, 1, 2, 3)]
    with pytest.raises(ValueError, match=r"layer 'split' gives 3 values; LayerClassActivationMap needs a single map"):
        LayerClassActivationMap(net, net.split).attribute(images, target=1)


class ByName(nn.Module):
    """Calls its layer with a keyword argument."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(input=x).mean((2, 3))


def test_a_layer_that_is_called_by_keyword():
    net, images = ByName().eval(), torch.rand(2, 3, 4, 5)
    assert LayerReciproCam(net, net.conv).attribute(images, target=1).shape == (2, 1, 4, 5)
    with pytest.raises(ValueError, match="layer Conv2d is called with keyword arguments alone; use its output"):
        LayerReciproCam(net, net.conv).attribute(images, target=1, attribute_to_layer_input=True)


def test_a_layer_of_another_model(net, images):
    for layer in (nn.Conv2d(3, 3, 1), nn.Sequential(nn.ReLU())):
        for method in METHODS:
            with pytest.raises(ValueError, match="is not called by the model; pass a layer of this very model"):
                method(net, layer).attribute(images, target=1)


class Around(nn.Module):
    """A block whose input goes through the layer and past it, as one and the same tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.same, self.fc = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Identity(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc((self.same(x) * 2).mean((2, 3)) + self.norm(x).mean((2, 3)))


def test_paths_around_the_layer_stay_unmasked():
    torch.manual_seed(0)
    net, images = Around().double().eval(), torch.rand(2, 3, 3, 4, dtype=torch.float64)
    with torch.no_grad():
        x = net.stem(images)
        tails = {
            "norm": lambda z, y: net.fc((y * 2).mean((2, 3)) + net.norm(z).mean((2, 3))),
            "same": lambda z, y: net.fc((z * 2).mean((2, 3)) + net.norm(y).mean((2, 3))),
        }
        for name, tail in tails.items():
            want = [oracles.recipro_cam(x[i], lambda z, i=i, tail=tail: tail(z, x[i : i + 1]), 2) for i in range(2)]
            got = LayerReciproCam(net, getattr(net, name)).attribute(images, target=2, attribute_to_layer_input=True)
            torch.testing.assert_close(got[:, 0], torch.stack(want), atol=1e-12, rtol=0)


class Tokens(nn.Module):
    """A transformer of which nothing is known: two prefix tokens, a grid of 2 x 3, the second token read out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True) for _ in range(2)
        )
        self.fc = nn.Linear(8, 3)

    def block(self) -> nn.Module:
        return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.fc(x[:, 1])


def test_a_declared_layout():
    torch.manual_seed(0)
    net, tokens = Tokens().double().eval(), torch.rand(2, 8, 5, dtype=torch.float64)
    layout = FeatureLayout(channels_last=True, prefix_tokens=2, grid=(2, 3))
    got = LayerReciproCam(net, net.embed, layout=layout).attribute(tokens, target=1, perturbations_per_eval=4)
    want = torch.zeros_like(got)
    with torch.no_grad():
        for row in range(2):
            for p in (*range(6), None):
                x = net.embed(tokens[row : row + 1])
                x[:, [t for t in range(2, 8) if p is None or t != p + 2]] = 0
                for layer in net.layers:
                    x = layer(x)
                if p is None:
                    want[row] -= net.fc(x[:, 1])[0, 1]
                else:
                    want[row, 0, p // 3, p % 3] = net.fc(x[:, 1])[0, 1]
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)
    net.num_prefix_tokens, net.patch_embed = 2, nn.Identity()
    net.patch_embed.grid_size = (2, 3)  # what timm's models tell of themselves
    assert torch.equal(LayerReciproCam(net, net.embed).attribute(tokens, target=1, perturbations_per_eval=4), got)
    del net.num_prefix_tokens
    row = LayerReciproCam(net, net.embed).attribute(tokens, target=1)
    plain = LayerReciproCam(net, net.embed, layout=FeatureLayout(True, 0, (8,)))
    assert torch.equal(row, plain.attribute(tokens, target=1)), "tokens that come with the inputs are a row"
    with pytest.raises(ValueError, match=r"layer 'embed' gives \(2, 8, 8\), which is not a map in the layout Feat"):
        LayerReciproCam(net, net.embed, layout=FeatureLayout(True, 1, (2, 3))).attribute(tokens, target=1)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("method", [LayerReciproCam, LayerClassActivationMap, LayerScoreCam])
def test_signals_and_volumes(method, dims):
    torch.manual_seed(0)
    conv, pool = {1: (nn.Conv1d, nn.AdaptiveAvgPool1d), 3: (nn.Conv3d, nn.AdaptiveAvgPool3d)}[dims]
    net = nn.Sequential(conv(2, 4, 3), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 3)).double().eval()
    sides = [6, 5, 7][:dims]
    images = torch.rand(2, 2, *sides, dtype=torch.float64)
    maps = method(net, net[1]).attribute(images, target=1)
    assert maps.shape == (2, 1, *(side - 2 for side in sides))
    features = net[1](net[0](images)).detach()
    cam = torch.einsum("c,nc...->n...", net[4].weight[1].detach(), features)
    if method is LayerClassActivationMap:
        torch.testing.assert_close(maps[:, 0], cam, atol=1e-12, rtol=0)
    if method is LayerReciproCam:
        torch.testing.assert_close(maps[:, 0], cam / cam[0].numel(), atol=1e-12, rtol=0)
        masks = method(net, net[1]).attribute(images, target=1, mask="gaussian")
        assert torch.all(masks.flatten(1).std(1) < maps.flatten(1).std(1)), "a smoothed map"


@methods
def test_other_threads_are_left_alone(model, method, images):
    """A model that trains in another thread meanwhile is neither refused nor watched."""
    other, errors, done = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train(), [], threading.Event()

    def train() -> None:
        try:
            while not done.is_set():
                other(torch.rand(1, 2))
                time.sleep(0)
        except Exception as error:  # the assertion below shows it
            errors.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    around = lambda x: model(x)  # noqa: E731  # a function, of which every module has to be watched
    want = [_explain(method, model, around).attribute(images, target=1) for _ in range(5)]
    done.set()
    thread.join()
    assert not errors
    assert all(torch.equal(maps, want[0]) for maps in want)
