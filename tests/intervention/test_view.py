"""Private views reach stand-ins of all modules of a model, which itself stays unchanged."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable

import oracles
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations

from captum_softcam import LayerReciproCam
from captum_softcam._intervention.view import View

SIZE = (3, 8, 8)


class Net(nn.Module):
    """A maximum behind the layer, so that the tail runs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.fc = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, padding=1), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer(self.stem(x).relu()).relu().amax((2, 3)))


class Listed(Net):
    """Modules in plain containers."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = [self.stem, {"then": (self.layer,)}]

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.steps[1]["then"][0](self.steps[0](x).relu()).relu().amax((2, 3)))


class Helper:
    """An object that is not a module, and holds some."""

    def __init__(self, owner: nn.Module) -> None:
        self.owner = owner

    def features(self, x: Tensor) -> Tensor:
        return self.owner.layer(self.owner.stem(x).relu())


class Helped(Net):
    def __init__(self) -> None:
        super().__init__()
        self.helper = Helper(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.helper.features(x).relu().amax((2, 3)))


class Called(Net):
    """Closures, partial functions and bound methods as attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = lambda x: self.stem(x).relu()
        self.second = functools.partial(self.layer.__call__)
        self.third = self.last

    def last(self, x: Tensor) -> Tensor:
        return self.fc(x.relu().amax((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x)))


class Replaced(Net):
    """A forward of the instance, as libraries put it around a module."""

    def __init__(self) -> None:
        super().__init__()
        self.stem.forward = types.MethodType(lambda module, x: nn.Conv2d.forward(module, x) * 2, self.stem)
        inner = self.layer.forward
        self.layer.forward = functools.partial(lambda module, x: inner(x) + module.bias.sum(), self.layer)


class Normed(Net):
    """Weights that are worked out at every forward, by a hook and by a parametrization."""

    def __init__(self) -> None:
        super().__init__()
        parametrizations.weight_norm(self.stem)
        parametrizations.spectral_norm(self.layer)


class Compiled(Net):
    """Modules that torch.compile has wrapped, or would compile when they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.compile(self.stem, backend="eager")
        self.fc.compile(backend="eager")


class Scripted(Net):
    """A module that runs outside Python, in which the layer is not."""

    def __init__(self) -> None:
        super().__init__()
        with pytest.warns(Warning, match="deprecated"):
            self.stem = torch.jit.script(self.stem)


def _double(net: nn.Module) -> nn.Module:
    return net.double().eval()


@pytest.fixture(params=[Net, Listed, Helped, Called, Replaced, Normed, Compiled, Scripted])
def net(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return _double(request.param())


def _check(forward: Callable[..., Tensor], net: nn.Module) -> None:
    image = torch.rand(1, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before = [(dict(vars(module)), dict(module._forward_pre_hooks)) for module in net.modules()]
    with torch.no_grad():
        want = oracles.kept_alone(forward, net.layer, (image,), 1)
        maps = LayerReciproCam(forward, net.layer).attribute(image, target=1)
    torch.testing.assert_close(maps[0, 0], want, atol=1e-9, rtol=0)
    for (own, hooks), module in zip(before, net.modules(), strict=True):
        assert all(vars(module)[name] is value for name, value in own.items())
        assert vars(module).keys() == own.keys()
        assert dict(module._forward_pre_hooks) == hooks


def test_the_model_itself(net):
    _check(net, net)


def test_functions_around_the_model(net):
    def nested(x: Tensor) -> Tensor:
        def inner(z: Tensor) -> Tensor:
            return net(z)

        return inner(x).softmax(1)

    class Server:
        def __init__(self) -> None:
            self.models = {"it": [net]}

        def predict(self, x: Tensor) -> Tensor:
            return self.models["it"][0](x)

        def __call__(self, x: Tensor) -> Tensor:
            return self.predict(x)

    class Around(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return net(x) * 2

    around = [lambda x: net(x).softmax(1), nested, functools.partial(nested), Server(), Server().predict, Around().eval()]
    for forward in (*around, net.forward, torch.no_grad()(lambda x: net(x))):
        _check(forward, net)


GLOBAL = Net()
TABLE = {"net": GLOBAL}


def _of_a_global(x: Tensor) -> Tensor:
    return _scores(x) * 2


def _scores(x: Tensor) -> Tensor:
    return TABLE["net"](x)


def test_functions_of_global_names():
    _double(GLOBAL)
    for forward in (lambda x: GLOBAL(x), _of_a_global, lambda x: [_scores(x)][0]):
        _check(forward, GLOBAL)
    assert TABLE["net"] is GLOBAL


def test_a_graph_of_torch_fx():
    net = _double(Net())
    graph = fx.symbolic_trace(net)
    _check(graph, graph)


def test_a_stand_in_shares_tensors_and_has_everything_else_of_its_own(net):
    view = View(net, net.layer)
    assert view.layer is view.model.layer
    assert view.layer is not net.layer
    assert type(view.model) is type(net)
    for one, other in zip(net.parameters(), view.model.parameters(), strict=True):
        assert one is other
    view.model.stem.bias = None
    view.layer.register_forward_hook(lambda *_: None)
    assert "bias" not in net.stem._parameters or net.stem.bias is not None
    assert not net.layer._forward_hooks


def test_a_layer_that_cannot_be_reached_is_refused_in_words():
    net, hidden = _double(Net()), iter([_double(Net())])
    other = next(hidden)
    with pytest.raises(ValueError, match=r"not called by the model; pass a layer of this very model\. If a function around"):
        LayerReciproCam(net, other.layer).attribute(torch.rand(1, *SIZE, dtype=torch.float64), target=1)


@pytest.mark.parametrize("kind", ["traced", "exported"])
def test_models_without_modules_are_refused_in_words(kind):
    net, image = Net().eval(), torch.rand(1, *SIZE)
    if kind == "traced":
        with pytest.warns(Warning, match="deprecated"):
            model = torch.jit.trace(net, image)
    else:
        model = torch.export.export(net, (image,)).module()
    with pytest.raises(TypeError, match=r"in which no layer can be watched; pass the nn\.Module that it was made from"):
        LayerReciproCam(model, model.get_submodule("layer")).attribute(image, target=1)


@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace:UserWarning")
@pytest.mark.parametrize("where", ["inside torch.compile", "on the meta device", "inside torch.func.vmap"])
def test_calls_without_values_are_refused_in_words(where):
    net, images = Net().eval(), torch.rand(2, 1, *SIZE)
    explain = LayerReciproCam(net, net.layer)

    def attribute(x: Tensor) -> Tensor:
        return explain.attribute(x, target=1)

    calls = {
        "inside torch.compile": lambda: torch.compile(attribute, backend="eager")(images[0]),
        "on the meta device": lambda: attribute(images[0].to("meta")),
        "inside torch.func.vmap": lambda: torch.func.vmap(attribute)(images),
    }
    with pytest.raises(RuntimeError, match=f"needs the values of its inputs, and there are none {where}"):
        calls[where]()
