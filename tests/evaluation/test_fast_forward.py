"""The faster copy of a model: the same outputs, or the model itself."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from captum_softcam.data import Sample
from captum_softcam.evaluation import compare_methods
from captum_softcam.evaluation.fast_forward import FastForward
from tests.networks import PooledNet


def _varied(model: nn.Module) -> nn.Module:
    """Give the batch normalisations statistics that matter."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.uniform_(module.bias, -1, 1)
    return model.eval()


class Residual(nn.Module):
    """Additions in place, an activation that is shared, and a normalisation before a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False)
        self.before, self.third = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)
        self.last, self.relu, self.fc = nn.ReLU6(inplace=True), nn.ReLU(inplace=True), nn.Linear(8, 3)

    def forward(self, x):
        x = self.relu(self.one(self.first(x)))
        y = self.two(self.second(x))
        y += x
        y = self.last(self.third(self.before(self.relu(y))))
        return self.fc(y.mean((2, 3)))


class Branching(nn.Module):
    """Control flow that depends on the data, which cannot be traced; the dark branch leaves out the normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.conv(x)
        return self.fc((self.norm(x) if float(x.mean()) > 10 else x).mean((2, 3)))


class Peeking(nn.Module):
    """Reads the output of a convolution in its own code, besides the normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.conv(x)
        return self.fc((self.norm(x) + x).mean((2, 3)))


class Attending(nn.Module):
    """A transformer of patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 3)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.fc(self.block(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def _stack(kind, norm, pool, classes=3):
    return nn.Sequential(
        kind(3, 6, 3), norm(6), nn.SiLU(), kind(6, 6, 3, groups=6), norm(6), pool(1), nn.Flatten(), nn.Linear(6, classes)
    )


NETWORKS = {
    "pooled": (PooledNet, (16, 16), 1),
    "residual": (Residual, (12, 12), 3),
    "transformer": (Attending, (16, 16), 0),
    "one logit": (lambda: _stack(nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d, 1), (12, 12), 2),
    "signal": (lambda: _stack(nn.Conv1d, nn.BatchNorm1d, nn.AdaptiveAvgPool1d), (24,), 2),
    "volume": (lambda: _stack(nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d), (8, 8, 8), 2),
}


def _case(name):
    make, size, _ = NETWORKS[name]
    torch.manual_seed(0)
    return _varied(make()), torch.rand(3, 3, *size)


def _checked(model, images, *arguments):
    fast = FastForward(model, *arguments)
    with torch.no_grad():
        fast.expect(images, model(images))
        fast(images)
    return fast


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_copy_returns_what_the_model_returns(name):
    model, images = _case(name)
    fast = _checked(model, images)
    assert fast.why_plain is None
    assert (fast.exact is model) == (name == "transformer"), "which has nothing to gain"
    for batch in (images, images[:1], 1 - torch.cat([images, images])):
        assert torch.allclose(fast(batch), model(batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["pooled", "one logit", "signal", "volume"])
def test_normalisations_are_folded(name):
    model, images = _case(name)
    kinds = [type(module).__name__ for module in _checked(model, images).exact.modules()]
    assert not any("BatchNorm" in kind for kind in kinds)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_model_stays_as_it_was(name):
    model, images = _case(name)
    before = {key: (value.clone(), value.stride()) for key, value in model.state_dict().items()}
    modules = dict(model.named_modules())
    _checked(model, images)
    assert modules == dict(model.named_modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training or module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key][0])
        assert value.stride() == before[key][1]


def _keep(found, _module, inputs, output):
    found.append((inputs[0].clone(), output.clone()))


def test_a_kept_layer_returns_what_it_returns_in_the_model():
    model, images = _case("one logit")
    for kept in ("0", "1", "2", "3", "4"):
        found: list[tuple[torch.Tensor, ...]] = []
        for network in (model, _checked(model, images, "fast", [kept]).exact):
            handle = network.get_submodule(kept).register_forward_hook(partial(_keep, found))
            with torch.no_grad():
                network(images)
            handle.remove()
        for own, other in zip(*found, strict=True):
            assert torch.allclose(own, other, rtol=0, atol=1e-5)


def test_what_the_copy_cannot_do_runs_in_the_model():
    images = torch.rand(2, 3, 12, 12)
    peeking = _varied(Peeking())
    fast = _checked(peeking, images)
    assert "other outputs" in fast.why_plain
    assert torch.equal(fast(images), peeking(images))
    assert fast.exact is peeking

    branching = _varied(Branching())
    fast = _checked(branching, images)
    assert fast.why_plain is None
    bright = 1000 * images.sign() * branching.conv.weight.sum((0, 2, 3)).sign().view(3, 1, 1)
    with torch.no_grad():
        fast.expect(bright, branching(bright))
        assert torch.equal(fast(bright), branching(bright))

    hooked = _varied(PooledNet())
    hooked.block.register_forward_hook(lambda *_: None)
    assert "'block' has hooks" in FastForward(hooked).why_plain

    unlike = _varied(PooledNet())
    unlike.__deepcopy__ = lambda _: 1 / 0
    assert "division" in _checked(unlike, images).why_plain


def test_the_copy_is_made_and_compared_when_it_runs():
    model, images = _case("pooled")
    runs: list[nn.Module] = []
    handle = register_module_forward_hook(lambda module, *_: runs.append(module) if type(module) is PooledNet else None)
    try:
        with torch.no_grad():
            outputs = model(images)
            fast = FastForward(model)
            for _ in range(2):
                fast.expect(images, outputs)
            assert runs == [model], "nothing asked for the copy"
            first = fast(images[:1])
            count = len(runs)
            assert torch.equal(fast(images[:1]), first)
            assert len(runs) == count + 1, "what was expected is compared once"
            fast.expect(images, outputs + 1)
            assert torch.equal(fast(images), outputs)
    finally:
        handle.remove()
    assert "other outputs" in fast.why_plain


def test_gradients_flow_through_the_model_itself():
    model, images = _case("pooled")
    fast = _checked(model, images)
    fast(images.requires_grad_()).sum().backward()
    assert images.grad is not None
    assert model.fc.weight.grad is not None


def test_bfloat16_is_coarse_and_tells_where_it_cannot_run():
    model, images = _case("residual")
    fast = _checked(model, images, "bfloat16")
    with torch.no_grad():
        apart = (fast(images) - model(images)).abs().max()
    assert 1e-5 < apart < 0.1
    assert fast(images).dtype == torch.float32
    assert next(fast.exact.parameters()).dtype == torch.float32
    model.block = nn.Identity()
    model.block.register_forward_hook(lambda *_: None)
    with pytest.warns(UserWarning, match="own precision: module 'block' has hooks"):
        FastForward(model, "bfloat16")


def test_a_worker_makes_its_own_copy():
    model, images = _case("pooled")
    sent = pickle.loads(pickle.dumps(_checked(model, images)))
    assert sent.exact is sent.model
    sent.expect(images, model(images))
    assert sent.exact is not sent.model


def _samples(images):
    mask = torch.zeros(1, *images.shape[2:], dtype=torch.bool)
    mask[..., :5] = True
    return [Sample(image, number % 2, mask, f"s{number}") for number, image in enumerate(images)]


@pytest.mark.parametrize("name", ["residual", "one logit", "signal"])
def test_no_score_and_no_count_of_a_comparison_changes(name):
    model, images = _case(name)
    found = {}
    for passes in ("plain", "fast"):
        comparison = compare_methods(
            model,
            _samples(images),
            ["occlusion", "score_cam", "grad_cam"],
            ["deletion", "infidelity", "average_drop", "pixel_auc"],
            layer="second" if name == "residual" else "3",
            scores="sigmoid" if name == "one logit" else "softmax",
            examples=0,
            passes=passes,
        )
        found[passes] = comparison
    assert found["fast"].failures.empty
    plain, fast = (each.scores["score"].to_numpy() for each in found.values())
    assert plain == pytest.approx(fast, abs=1e-5, nan_ok=True)
    for column in ("forwards", "backwards"):
        assert list(found["plain"].costs[column]) == list(found["fast"].costs[column])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.no_grad()
def test_on_a_gpu():
    model, images = _case("residual")
    model, images = copy.deepcopy(model).cuda(), images.cuda()
    allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        fast = _checked(model, images)
        assert fast.why_plain is None
        assert torch.allclose(fast(images), model(images), rtol=0, atol=1e-5)
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
