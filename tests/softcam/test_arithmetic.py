"""Heads with functions between their layers, and wrappers that change the logits: one convolution, or every position."""

from __future__ import annotations

import copy
import functools

import oracles
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_softcam.attr import LayerClassActivationMap
from captum_softcam.softcam import convert_to_softcam, export_onnx, load_softcam, save_softcam
from captum_softcam.softcam.arithmetic import AtEveryPosition


class Net(nn.Module):
    """A head that a function gives, on pooled features (N, 6)."""

    def __init__(self, head, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, 2)
        self.norm = nn.BatchNorm1d(6)
        self.first = nn.Linear(6, classes)
        self.second = nn.Linear(6, classes, bias=False)
        self.wide = nn.Linear(6, 8)
        self.last = nn.Linear(8, classes)
        self.scale = nn.Parameter(torch.randn(6))
        self.shift = nn.Parameter(torch.randn(6))
        self.drop = nn.Dropout(0.3)
        self.head = head

    def forward(self, x):
        return self.head(self, F.relu(self.conv(x)).mean((2, 3)))


class Wrapped(nn.Module):
    def __init__(self, model, change) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x):
        return self.change(self.model(x))


def _two(s):
    return torch.cat([torch.zeros_like(s), s], 1)


def _rms(x):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


LINEAR = {
    "mean of two classifiers": lambda net, x: (net.first(x) + net.second(x)) / 2,
    "mean of two behind a normalisation": lambda net, x: (net.first(net.norm(x)) + net.second(net.norm(x))) / 2,
    "mean of stacked classifiers": lambda net, x: torch.stack([net.first(net.drop(x)) for _ in range(3)]).mean(0),
    "the same along dimension 1": lambda net, x: torch.stack([net.first(x), net.second(x)], 1).mean(1),
    "scale and shift": lambda net, x: net.first(x * net.scale + net.shift),
    "scale and shift before a normalisation": lambda net, x: net.first(net.norm(net.shift - x / net.scale)),
    "scaled in place": lambda net, x: net.first(x.mul_(2)).add_(1),
    "temperature": lambda net, x: net.first(x) / 2.5,
    "two from one": lambda net, x: _two(net.first(x)[:, :1]),
    "two from one, stacked": lambda net, x: torch.stack([-net.first(x)[:, 0], net.first(x)[:, 0]], 1),
    "zeros counted by rows": lambda net, x: torch.cat([x.new_zeros(x.shape[0], 1), net.first(x)], 1),
    "some of the classes": lambda net, x: net.first(x)[:, [2, 0]],
    "matrix product": lambda net, x: net.wide(x) @ net.last.weight.T,
    "functional layer": lambda net, x: F.linear(x, net.first.weight * net.scale, net.first.bias),
    "viewed": lambda net, x: (net.first(x).view(x.size(0), -1) + net.second(x)).double(),
}
BENT = {
    "square": ("square", lambda net, x: net.last(net.wide(x).relu().square())),
    "power": ("pow", lambda net, x: net.last(net.wide(x) ** 2)),
    "product": ("mul", lambda net, x: net.last(net.wide(x) * net.wide(x).relu())),
    "quick GELU": ("mul and sigmoid", lambda net, x: net.last((y := net.wide(x)) * torch.sigmoid(1.702 * y))),
    "hard swish": ("mul and relu6", lambda net, x: net.last((y := net.wide(x)) * F.relu6(y + 3) / 6)),
    "RMS norm": ("mul and rsqrt and square", lambda net, x: net.first(_rms(x) * net.scale)),
    "torch's RMS norm": ("rms_norm", lambda net, x: net.first(F.rms_norm(x, (6,), net.scale))),
    "cosines": ("normalize", lambda net, x: 5 * F.linear(F.normalize(x), F.normalize(net.first.weight))),
    "maxout": ("amax", lambda net, x: net.first(torch.cat([x, net.wide(x).view(-1, 4, 2).amax(2)], 1)[:, :6])),
}
REFUSED = {
    "other rows": (lambda net, x: net.first(x - x.mean(0)), r"sub\(\) is in the way"),
    "softmax": (lambda net, x: net.first(x).softmax(1), r"softmax\(\) is in the way.*the logarithm of the softmax"),
    "square of the logits": (lambda net, x: net.first(x).square(), r"square\(\) is in the way"),
}


def _converted(model):
    torch.manual_seed(0)
    model.double()(torch.randn(8, 2, 11, 15, dtype=torch.float64))  # statistics that are not the default ones
    images = torch.randn(2, 2, 11, 15, dtype=torch.float64)
    return convert_to_softcam(model.eval(), images), model, images


def _assert_evidence(converted, model, images):
    want = oracles.evidence(model, model.get_submodule("conv"), images)
    torch.testing.assert_close(converted.evidence_maps(images), want)


@pytest.mark.parametrize("case", LINEAR)
@torch.no_grad()
def test_linear_functions_become_one_convolution(case):
    converted, model, images = _converted(Net(LINEAR[case]))
    assert converted.conversion.exact, str(converted.conversion)
    torch.testing.assert_close(converted(images), model(images))
    _assert_evidence(converted, model, images)
    assert isinstance(converted.evidence[-1], nn.Conv2d)
    assert converted.evidence[-1].out_channels == model(images).shape[1]
    assert len([layer for layer in converted.evidence if isinstance(layer, nn.Conv2d) and layer.groups == 1]) <= 2
    # CAM takes the same heads, and its maps leave out the constant.
    maps = LayerClassActivationMap(model, model.conv).attribute_all(images)
    constant = converted.evidence(torch.zeros(1, 6, 1, 1, dtype=torch.float64))
    torch.testing.assert_close(maps, converted.evidence_maps(images) - constant)


@pytest.mark.parametrize("case", BENT)
@torch.no_grad()
def test_other_functions_act_at_every_position(case):
    names, head = BENT[case]
    converted, model, images = _converted(Net(head))
    assert not converted.conversion.exact
    for name in names.split(" and "):
        assert name in converted.conversion.reason
    _assert_evidence(converted, model, images)
    assert isinstance(converted.evidence[-1], nn.Conv2d)
    with pytest.raises(ValueError, match="between pooling and scores stands"):
        LayerClassActivationMap(model, model.conv).attribute(images, target=1)


@pytest.mark.parametrize("case", REFUSED)
def test_functions_that_have_no_place_in_a_head(case):
    head, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        _converted(Net(head))


def test_two_poolings_are_refused():
    class Ensemble(nn.Module):
        def __init__(self, take) -> None:
            super().__init__()
            self.one, self.other, self.take = Net(LINEAR["temperature"]), Net(LINEAR["temperature"]), take

        def forward(self, x):
            return self.take(self.one, self.other, x)

    for take in (lambda one, other, x: (one(x) + other(x)) / 2, lambda one, _, x: one(x) + one(x.flip(-1))):
        with pytest.raises(ValueError, match=r"mean\(\) beside another path to the logits is in the way"):
            _converted(Ensemble(take))


@pytest.mark.parametrize("form", [lambda y: y.squeeze(1), lambda y: y[:, 0], lambda y: y.view(-1), lambda y: y.squeeze()])
@torch.no_grad()
def test_a_single_logit_without_its_dimension(form):
    for head, exact in ((lambda net, x: net.first(x), True), (lambda net, x: net.last(net.wide(x).relu()), False)):
        converted, model, images = _converted(Wrapped(Net(head, classes=1), form))
        assert converted(images).shape == (2, 1)
        assert converted.conversion.exact == exact
        assert exact == torch.allclose(converted(images)[:, 0], model(images))


LOGARITHMS = {
    "log-softmax": lambda y: y.log_softmax(1),
    "its module": nn.LogSoftmax(dim=-1),
    "logarithm of a softmax": lambda y: F.softmax(y, dim=1).log(),
    "with the smallest number": lambda y: (p := y.softmax(1)).clamp(min=torch.finfo(p.dtype).tiny).log(),
    "with a small number": lambda y: torch.log(y.softmax(-1) + 1e-12),
    "logit of a sigmoid": lambda y: y.sigmoid().logit(eps=1e-6),
}


@pytest.mark.parametrize("case", LOGARITHMS)
@torch.no_grad()
def test_logarithms_of_probabilities_convert_like_the_network_inside(case):
    inner, model, images = _converted(Net(lambda net, x: net.first(x)))
    converted = convert_to_softcam(Wrapped(model, LOGARITHMS[case]).eval(), images)
    assert converted.conversion.exact
    assert any(name in str(converted.conversion) for name in ("log", "LogSoftmax", "change"))
    torch.testing.assert_close(converted.evidence_maps(images), inner.evidence_maps(images))
    torch.testing.assert_close(LOGARITHMS[case](converted(images)), LOGARITHMS[case](model(images)))


def test_a_logarithm_that_the_head_would_not_give_is_no_certificate():
    """The converted model is compared by the outputs of the wrapper, with the same functions behind its logits."""
    model = Net(lambda net, x: net.first(x))
    model.first.register_forward_hook(lambda _module, _args, output: output + output.sum(1, keepdim=True) * output)
    with pytest.raises(ValueError, match="would move by"):
        _converted(Wrapped(model, lambda y: y.log_softmax(1)))


@pytest.mark.parametrize("case", ["mean of two classifiers", "scale and shift"])
def test_folded_heads_are_trained(case):
    converted, model, images = _converted(Net(LINEAR[case]))
    converted(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in converted.evidence.parameters())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in convert_to_softcam(model, images).parameters())


@pytest.mark.parametrize("case", ["mean of two classifiers", "scale and shift before a normalisation", "RMS norm"])
def test_such_heads_are_stored_and_copied(case, tmp_path):
    head = LINEAR[case] if case in LINEAR else BENT[case][1]
    converted, model, images = _converted(Net(head))
    save_softcam(converted, tmp_path / "model.safetensors")
    loaded = load_softcam(tmp_path / "model.safetensors", copy.deepcopy(model))
    with torch.no_grad():
        torch.testing.assert_close(loaded.evidence_maps(images), converted.evidence_maps(images))
        torch.testing.assert_close(copy.deepcopy(loaded)(images), converted(images))


def test_a_function_at_every_position_is_exported(tmp_path):
    pytest.importorskip("onnxruntime")
    converted, _, images = _converted(Net(BENT["RMS norm"][1]))
    export_onnx(converted.float(), tmp_path / "model.onnx", images.float())


def test_a_function_keeps_the_dimensions_of_a_map():
    function = AtEveryPosition(nn.Linear(6, 4))
    for sides in ((5,), (3, 4), (2, 3, 4)):
        maps = torch.randn(2, 6, *sides)
        assert function(maps).shape == (2, 4, *sides)
        torch.testing.assert_close(
            function(maps)[(1, slice(None), *[1] * len(sides))], function.rows(maps[(1, slice(None), *[1] * len(sides))])
        )


class Cached(Net):
    """Keeps a tensor that autograd has computed, as LeViT's attention does in eval mode."""

    def forward(self, x):
        y = super().forward(x)
        self.cache = {"biases": [self.scale * 2]}
        self.kept = y
        return y


@pytest.mark.parametrize("norm", [None, nn.utils.weight_norm, nn.utils.parametrizations.weight_norm, nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_after_a_forward_with_gradients(norm, tmp_path):
    torch.manual_seed(0)
    model = Cached(lambda net, x: net.first(x))
    if norm is not None:
        norm(model.first)
        norm(model.conv)
    model.double().eval()
    images = torch.randn(2, 2, 11, 15, dtype=torch.float64)
    logits = model(images)
    converted = convert_to_softcam(model, images)
    assert converted.conversion.exact
    torch.testing.assert_close(converted(images), logits)
    assert all(parameter.requires_grad for parameter in converted.evidence.parameters())
    save_softcam(converted, tmp_path / "model.safetensors")
    torch.testing.assert_close(load_softcam(tmp_path / "model.safetensors", model)(images), logits)


GLOBAL = Net(lambda net, x: {"logits": net.first(x), "weight": net.first.weight}).double().eval()


class Entry(nn.Module):
    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)["logits"]

    def log_probabilities(self, x):
        return self(x).log_softmax(1)


def _entry(model, x, name="logits"):
    return model(x)[name]


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_functions_around_a_network_convert_like_it(training):
    model, images = copy.deepcopy(GLOBAL).train(training), torch.randn(2, 2, 11, 15, dtype=torch.float64)
    inner = convert_to_softcam(model, images).eval().evidence_maps(images)
    around = {
        "lambda": lambda x: model(x)["logits"],
        "partial": functools.partial(_entry, model),
        "partial of a method": functools.partial(Entry(model).forward),
        "method": Entry(model).log_probabilities,
    }
    for name, function in around.items():
        converted = convert_to_softcam(function, images)
        assert converted.conversion.exact, name
        assert converted.evidence.training == converted.backbone.training == converted.training
        torch.testing.assert_close(converted.eval().evidence_maps(images), inner)
        assert not {id(each) for each in converted.parameters()} & {id(each) for each in model.parameters()}
        torch.testing.assert_close(copy.deepcopy(converted)(images), inner.mean((2, 3)))
    assert convert_to_softcam(around["lambda"]).training == training


@torch.no_grad()
def test_a_function_that_reads_a_global_name():
    converted = convert_to_softcam(lambda x: GLOBAL(x)["logits"], torch.randn(2, 2, 11, 15, dtype=torch.float64))
    assert converted.conversion.exact
    assert "lambda" in converted.conversion.source


@pytest.mark.parametrize("model", [lambda x: x.mean((2, 3)), 3, Net])
def test_functions_without_a_network_are_refused(model):
    with pytest.raises(TypeError, match=r"needs a torch\.nn\.Module, or a function that calls one; got "):
        convert_to_softcam(model)
