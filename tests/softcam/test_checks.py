"""Conversions are checked against the model itself: each branch that torch.fx could miss, each way to write a head."""

# ruff: noqa: ARG005  (what a test does in a forward has one signature)

from __future__ import annotations

import dataclasses
import pickle
import types
from collections import namedtuple

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from captum_softcam.softcam import SoftCamModel, convert_to_softcam

Pair = namedtuple("Pair", "features logits")


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    features: torch.Tensor | None = None


class Net(nn.Module):
    """Convolution, mean, linear layer; ``how`` is what a test does around them."""

    def __init__(self, how=None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.norm, self.calls = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 5), nn.BatchNorm1d(8), 0
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        self.how = how

    def features(self, x):
        return self.conv(x).relu()

    def plain(self, x):
        return self.fc(self.features(x).mean((2, 3)))

    def forward(self, x):
        return self.how(self, x) if self.how else self.plain(x)


class Optional(Net):
    """Arguments that every call leaves out."""

    def forward(self, x, mask=None, scale: bool = True, *, times: int = 2, kind: str = "plain", **more):
        if mask is not None:
            x = x * mask
        if scale and kind == "plain" and not more:
            for _ in range(times):
                x = (x - 0.45) / 0.225
        return self.plain(x)


def scaled(x):
    return (x - 0.45) / 0.225


def _asked(question):
    """A forward that scales its input if the answer is yes."""
    return lambda net, x: net.plain(scaled(x) if question(net, x) else x)


ANSWERED = {
    "text of a shape": lambda net, x: f"{x.shape[1]:d} {x.dim():.1f}" == "3 4.0",
    "limits of its dtype": lambda net, x: torch.finfo(x.dtype).eps < 1,
    "entries joined to others": lambda net, x: len((x, *torch.split(x, 1, 1)[1:])) == 3,
    "isinstance": lambda net, x: isinstance(x, torch.Tensor),
    "is_tensor": lambda net, x: torch.is_tensor(x),
    "a list": lambda net, x: not isinstance(x, (list, tuple)),
    "requires_grad": lambda net, x: x.requires_grad,
    "device": lambda net, x: x.device.type == "cpu" and not x.is_cuda,
    "dtype": lambda net, x: x.dtype != torch.uint8 and x.is_floating_point(),
    "dimensions": lambda net, x: x.ndim == 4 and x.dim() == 4 and len(x.shape) == 4,
    "channels": lambda net, x: x.shape[1] == 3,
    "an attribute": lambda net, x: not hasattr(x, "tensors"),
    "scripting": lambda net, x: not torch.jit.is_scripting(),
    "mode": lambda net, x: not net.training,
}
HEADS = {
    "view(bs, -1)": lambda net, f: F.adaptive_avg_pool2d(f, 1).view(f.size(0), -1),
    "view(-1, 8)": lambda net, f: F.adaptive_avg_pool2d(f, 1).view(-1, 8),
    "reshape(len, 8)": lambda net, f: F.adaptive_avg_pool2d(f, 1).reshape(len(f), 8),
    "an index": lambda net, f: F.adaptive_avg_pool2d(f, 1)[:, :, 0, 0],
    "squeeze": lambda net, f: F.adaptive_avg_pool2d(f, 1).squeeze(),
    "squeeze twice": lambda net, f: F.adaptive_avg_pool2d(f, 1).squeeze(-1).squeeze(-1),
    "flatten": lambda net, f: torch.flatten(F.adaptive_avg_pool2d(f, 1), 1),
    "batch normalisation": lambda net, f: net.norm(f.mean((2, 3))),
}
WRAPPED = {
    "dictionary": (lambda net, x: {"logits": net.plain(x), "f": x}, lambda out: out["logits"]),
    "dictionary, asked": (lambda net, x: {"logits": net.plain(x)}, lambda out: "logits" in out and out["logits"]),
    "dictionary, get": (lambda net, x: {"logits": net.plain(x)}, lambda out: out.get("logits")),
    "tuple": (lambda net, x: (x, net.plain(x)), lambda out: out[1]),
    "tuple, asked": (lambda net, x: (x, net.plain(x)), lambda out: out[-1] if isinstance(out, tuple) else out),
    "named tuple": (lambda net, x: Pair(x, net.plain(x)), lambda out: out.logits),
    "dataclass": (lambda net, x: Output(net.plain(x)), lambda out: out.logits),
    "object": (lambda net, x: types.SimpleNamespace(logits=net.plain(x)), lambda out: out.logits),
}


class Wrapper(nn.Module):
    def __init__(self, model: nn.Module, take) -> None:
        super().__init__()
        self.model, self.take = model, take

    def forward(self, x):
        return self.take(self.model(x))


@torch.no_grad()
def _assert_exact(model: nn.Module, take=lambda out: out) -> None:
    """With an example of one and of two images, and with none: the same logits for all values and numbers of images."""
    model.eval()
    for example in ([], [torch.rand(1, 3, 32, 32)], [torch.rand(2, 3, 32, 32)]):
        converted = convert_to_softcam(model, *example)
        assert converted.conversion.exact
        assert converted.conversion.difference < 1e-5
        assert ("the example" in converted.conversion.checked) == bool(example)
        assert "on other values" in converted.conversion.checked
        for images in (torch.rand(2, 3, 32, 32), 5 * torch.randn(1, 3, 32, 32), torch.rand(3, 3, 40, 56)):
            wanted = take(model(images.clone()))
            torch.testing.assert_close(converted(images).reshape(wanted.shape), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("question", ANSWERED)
def test_the_branch_of_the_model_is_taken(question):
    _assert_exact(Net(_asked(ANSWERED[question])))


class _Swish(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(_ctx, gradient):
        return gradient


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_functions_in_c_that_would_read_a_proxy_as_a_tensor():
    """They ended the process."""

    def swish(x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(x)

    call, apply = torch.jit.ScriptFunction.__call__, vars(torch.autograd.Function)["apply"]
    for function in (torch.jit.script(swish), _Swish.apply, lambda x: _Swish.apply(x)):
        _assert_exact(Net(lambda net, x, function=function: net.fc(function(net.features(x)).mean((2, 3)))))
    assert torch.jit.ScriptFunction.__call__ == call  # put back
    assert isinstance.__module__ == "builtins"
    assert vars(torch.autograd.Function)["apply"] is apply


def test_optional_arguments_keep_their_defaults():
    _assert_exact(Optional())


@pytest.mark.parametrize("head", HEADS)
def test_heads_that_only_reshape(head):
    _assert_exact(Net(lambda net, x: net.fc(HEADS[head](net, net.features(x)))))


@pytest.mark.parametrize("form", WRAPPED)
def test_outputs_and_what_is_taken_out_of_them(form):
    how, take = WRAPPED[form]
    _assert_exact(Net(how), take)
    _assert_exact(Wrapper(Net(how), take))


def test_hooks_and_forwards_of_an_instance():
    hooked, patched = Net(), Net()
    hooked.register_forward_pre_hook(lambda _module, args: (scaled(args[0]),))
    patched.forward = types.MethodType(lambda self, x: self.plain(scaled(x)), patched)
    _assert_exact(hooked)
    _assert_exact(patched)


def test_what_changes_in_place_is_kept():
    def in_place(net, x):
        x = x + 0
        x.clamp_(0.2, 0.6)
        return net.plain(x)

    _assert_exact(Net(in_place))


def _called(net, x):
    net.calls += 1
    return net.plain(x * net.calls)


REFUSED = {
    "its exact type": (_asked(lambda net, x: type(x) is torch.Tensor), "computes something else under torch.fx"),
    "one image": (_asked(lambda net, x: x.shape[0] == 1), "computes something else under torch.fx"),
    "a value, as a number": (_asked(lambda net, x: x.max().item() > 1), "computes something else under torch.fx"),
    "a value": (_asked(lambda net, x: x.sum() > 0), r"cannot be traced by torch.fx \(a decision depends on the values"),
    "calls": (_called, "computes something else under torch.fx"),
    "other images": (
        lambda net, x: net.fc(net.features(x).mean(0, keepdim=True).expand(len(x), -1, -1, -1).mean((2, 3))),
        "computes something else under torch.fx",
    ),
    "noise": (lambda net, x: net.plain(x + torch.randn_like(x)), "gives other logits each time that it is called"),
    "dropout": (lambda net, x: net.fc(F.dropout(net.features(x).mean((2, 3)))), "gives other logits each time"),
    "turned": (lambda net, x: net.fc(net.features(x).transpose(2, 3).mean((2, 3))), "would not lie where the input is"),
    "mirrored": (lambda net, x: net.plain(x.flip(3)), "would not lie where the input is"),
    "the mean of one token": (
        lambda net, x: net.fc(net.features(x).flatten(2).transpose(1, 2)[:, :1].mean(1)),
        "one position for inputs of any size",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("rows", [1, 2, 0])
def test_what_would_be_another_function_is_refused(case, rows):
    how, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as caught:
        convert_to_softcam(Net(how).eval(), *([torch.rand(rows, 3, 32, 32)] if rows else []))
    assert len(str(caught.value)) <= 500


def test_other_sizes_than_a_decision_was_made_for_are_refused():
    model = Net(_asked(lambda net, x: x.shape[-1] > 40)).eval()
    converted = convert_to_softcam(model, torch.rand(2, 3, 64, 64))
    for net in (converted, pickle.loads(pickle.dumps(converted.backbone))):
        net(torch.rand(1, 3, 48, 64))
        with pytest.raises(ValueError, match=r"decision of its forward reads True; on this input it reads False"):
            net(torch.rand(1, 3, 32, 32))


class Plus(nn.Linear):
    """Does more than the layer whose weights it has."""

    def forward(self, x):
        return super().forward(x) + x.sum(1, keepdim=True)


def _with_more(how: str) -> nn.Module:
    net = Net().eval()
    if how == "subclass":
        net.fc.__class__ = Plus
    else:
        net.fc.register_forward_hook(lambda _module, _args, output: output.tanh())
    return net


@pytest.mark.parametrize("how", ["subclass", "hook"])
@torch.no_grad()
def test_layers_that_do_more_move_the_logits(how):
    model, images = _with_more(how), torch.rand(2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"would move by \d.* more than rounding explains.*\(fc\).*allow_inexact=True"):
        convert_to_softcam(model, images)
    converted = convert_to_softcam(model, images, allow_inexact=True)
    assert not converted.conversion.exact
    assert converted.conversion.difference == pytest.approx((converted(images) - model(images)).abs().max().item())
    assert "logits     changed: fc do more than layers of their kind" in str(converted.conversion)


def test_layers_that_do_more_in_a_head_that_is_not_linear():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5)
    )
    net[3].register_forward_hook(lambda _module, _args, output: output.tanh())
    with pytest.raises(ValueError, match="cannot be moved to single positions: 3, 4, 5 answer otherwise"):
        convert_to_softcam(net.eval(), torch.rand(2, 3, 32, 32))


@pytest.mark.parametrize("how", ["token", "tokens as channels", "channels as rows"])
def test_channels_are_no_positions(how):
    """A class token that is flattened, and means over channels, whose logits would stay to the last digit."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.head = nn.Conv2d(3, 36, 4, 4), nn.Linear(36, 5)

        def forward(self, x):
            tokens = self.patch(x).flatten(2).transpose(1, 2)
            if how == "token":
                return self.head(tokens[:, :1][:, 0])
            if how == "tokens as channels":
                return self.head(tokens.mean(2))
            return self.head(self.patch(x).mean(1).flatten(1))

    with pytest.raises(ValueError, match=r"is in the way|would not lie where the input is|is not a map"):
        convert_to_softcam(Tokens().eval(), torch.rand(2, 3, 24, 24))


def test_half_precision_and_its_own_rounding():
    model = Net().eval().to(torch.bfloat16)
    conversion = convert_to_softcam(model, torch.rand(2, 3, 32, 32, dtype=torch.bfloat16)).conversion
    assert conversion.exact
    assert conversion.difference <= 0.05 * conversion.largest


def test_nothing_was_checked_is_said():
    with torch.device("meta"):
        model = Net().eval()
    assert "checked    not at all: the model has no values" in str(convert_to_softcam(model).conversion)

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 5)

        def forward(self, x):
            return self.last(self.first(x.movedim(1, -1)).mean((1, 2)))

    unknown = convert_to_softcam(Dense().eval()).conversion
    assert "checked    not at all: no example was given, and none could be made up" in str(unknown)
    assert unknown.difference is None


def test_weights_that_are_no_numbers_are_no_certificate():
    model = Net().eval()
    nn.init.constant_(model.fc.bias, float("nan"))
    with pytest.raises(ValueError, match="gives logits that are not finite on the example"):
        convert_to_softcam(model, torch.rand(2, 3, 32, 32))
    assert "not at all: the logits are not finite" in convert_to_softcam(model).conversion.checked


def test_a_model_in_train_mode_is_compared_as_it_answers_in_eval_mode():
    model = Net(lambda net, x: net.fc(F.dropout(net.norm(net.features(x).mean((2, 3))), 0.5, net.training)))
    images = torch.rand(4, 3, 32, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    converted = convert_to_softcam(model.train(), images)
    assert isinstance(converted, SoftCamModel)
    assert converted.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(converted.eval()(images), model.eval()(images))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mnasnet0_5"])
def test_small_maps_of_networks_that_see_the_whole_input_are_not_taken_for_mirrored(name):
    torch.manual_seed(0)
    model, images = torchvision.models.get_model(name, weights=None, num_classes=10), torch.rand(2, 3, 96, 96)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(images)
    assert convert_to_softcam(model.eval(), images).conversion.grid == (3, 3)
