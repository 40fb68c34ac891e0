"""Networks with random weights: what changes, what stays, and what they share."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from networks import PooledNet
from torch import nn

from captum_softcam.metrics import RandomisedModels
from captum_softcam.softcam import convert_to_softcam


def _changed(network: nn.Module, model: nn.Module) -> list[str]:
    return [name for name, weights in model.named_parameters() if not torch.equal(network.get_parameter(name), weights)]


@pytest.fixture
def model(net):
    """A network as after a training, in which no weights are all equal."""
    for name, weights in net.named_parameters():
        nn.init.normal_(weights, mean=float("weight" in name and weights.dim() == 1), std=0.5)
    return net


def test_all_weights_are_permutations_and_the_buffers_stay(model, images):
    before = copy.deepcopy(model.state_dict())
    network = RandomisedModels(model).full()
    assert _changed(network, model) == [name for name, _ in model.named_parameters()]
    for name, weights in model.named_parameters():
        assert torch.equal(network.get_parameter(name).flatten().sort().values, weights.flatten().sort().values)
        assert network.get_parameter(name).requires_grad
    for name, buffer in model.named_buffers():
        assert torch.equal(network.get_buffer(name), buffer)
    assert [name for name, _ in network.named_modules()] == [name for name, _ in model.named_modules()]
    assert network(images).isfinite().all()
    assert not torch.allclose(network(images), model(images))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_stages_go_from_the_output_to_the_input(model):
    random = RandomisedModels(model)
    fc, block = ["fc.weight", "fc.bias"], ["block.weight", "block.bias"]
    rest = ["stem.0.weight", "stem.0.bias", "stem.1.weight", "stem.1.bias"]
    networks = random.cascading(4)
    assert [set(_changed(each, model)) for each in networks] == [
        {*fc},
        {*fc, *block},
        {*fc, *block, *rest[2:]},
        {*fc, *block, *rest},
    ]
    assert networks[-1] is random.full()
    alone = random.independent(2)
    assert [set(_changed(each, model)) for each in alone] == [{*fc, *block}, {*rest}]
    assert alone[0] is random.cascading(2)[0]
    assert len(random.cascading(99)) == 4


def test_networks_share_the_weights_with_each_other_and_with_the_model(model):
    random = RandomisedModels(model)
    first, last = random.cascading(2)
    assert first.fc.weight is last.fc.weight
    assert first.stem[0].weight is model.stem[0].weight


def test_the_evidence_head_takes_part(model):
    softcam = convert_to_softcam(model)
    changed = _changed(RandomisedModels(softcam).independent(4)[0], softcam)
    assert changed == [name for name, _ in softcam.named_parameters() if name.startswith("evidence")]


def test_weights_depend_on_the_seed_alone(model):
    random = RandomisedModels(model, 1)
    random.full()
    state = torch.get_rng_state()
    again = pickle.loads(pickle.dumps(random))
    assert _changed(again.full(), random.full()) == []
    assert _changed(RandomisedModels(model, 2).full(), random.full()) != []
    assert torch.equal(torch.get_rng_state(), state)


def test_a_pickle_holds_the_model_once(model):
    random = RandomisedModels(model)
    size = len(pickle.dumps((model, random)))
    random.cascading(4)
    assert len(pickle.dumps((model, random))) == size < 1.5 * len(pickle.dumps(model))


class _Tied(nn.Module):
    """Weights that two modules share, weights without a module, a number, and values worked out from weights."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(5, 5), nn.Linear(5, 5)
        self.other.weight = self.one.weight
        self.token, self.temperature = nn.Parameter(torch.randn(1, 5)), nn.Parameter(torch.tensor(2.0))
        self.attention_bias_cache = {"cpu": self.token * 2}

    def forward(self, x):
        cache = self.attention_bias_cache
        cache.setdefault("cpu", self.token * 2)
        return self.other(self.one(x + cache["cpu"])) / self.temperature


def test_weights_without_a_module_and_shared_ones_are_drawn_once():
    model = _Tied()
    network = RandomisedModels(model).full()
    assert network.one.weight is network.other.weight
    assert _changed(network, model) == ["token", "one.weight", "one.bias", "other.bias"]
    network(torch.zeros(1, 5))
    assert torch.equal(network.attention_bias_cache["cpu"], 2 * network.token)
    assert torch.equal(model.attention_bias_cache["cpu"], 2 * model.token)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_compiled_script_is_randomised_too(images):
    model = PooledNet().double().eval()
    script = torch.jit.trace(model, images)
    before = script(images)
    network = RandomisedModels(script).full()
    assert not torch.allclose(network(images), before)
    assert torch.equal(script(images), before)


class _Single(nn.Linear):
    def __deepcopy__(self, memo):
        return self


def test_models_that_cannot_be_randomised_are_refused():
    with pytest.raises(ValueError, match="Identity has no weights to randomise"):
        RandomisedModels(nn.Identity()).full()
    model = _Single(3, 3)
    before = model.weight.clone()
    with pytest.raises(ValueError, match="has the weights 'weight' of the model itself"):
        RandomisedModels(model).full()
    assert torch.equal(model.weight, before)
    with pytest.raises(ValueError, match="stages is 0; expected a whole number from 1 up"):
        RandomisedModels(model).cascading(0)
