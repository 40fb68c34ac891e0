"""Files of classifiers: what goes in comes out, without the code that trained it, and nothing else gets in."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
import torch
import torchvision
from networks import PooledNet
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from captum_softcam.softcam import (
    Architecture,
    Classifier,
    EvidenceHead,
    SoftCamModel,
    convert_to_softcam,
    load_softcam,
    save_softcam,
)

NAMES = [
    *("alexnet", "vgg11_bn", "resnet34", "wide_resnet50_2", "squeezenet1_0", "densenet121", "googlenet", "inception_v3"),
    *("shufflenet_v2_x1_0", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_75", "efficientnet_b0", "regnet_x_400mf"),
    *("convnext_tiny", "swin_t", "r3d_18", "mc3_18"),
]
CONVERTED = ["alexnet", "resnet34", "squeezenet1_0", "mobilenet_v3_small", "r3d_18"]  # one per kind of head, and volumes


def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    arguments = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, num_classes=3, **arguments).eval()


def _classifier(model: nn.Module) -> Classifier:
    return Classifier("mine", model, ("a", "b", "ü"), 64, (0.5, 0.4, 0.3), (0.2, 0.3, 0.1))


@pytest.fixture
def small():
    """A classifier that can be told from an untrained one in every weight and buffer."""
    torch.manual_seed(0)
    model = torchvision.models.shufflenet_v2_x0_5(num_classes=3)
    model.train()(torch.rand(4, 3, 32, 32))
    return _classifier(model.eval())


@pytest.fixture
def evident(small):
    return _classifier(convert_to_softcam(small.model, torch.rand(1, 3, 64, 64), output_stride=16))


def _header(path) -> dict:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["captum_softcam"])


def _rewrite(path, **changes) -> None:
    """The same weights under another header."""
    header = {**_header(path), **changes}
    save_file(load_file(path), path, {"captum_softcam": json.dumps(header)})


@pytest.mark.parametrize("softcam", [False, True])
@torch.no_grad()
def test_round_trip(small, evident, softcam, tmp_path):
    before = evident if softcam else small
    path = before.save(tmp_path / "model.safetensors")
    after = Classifier.load(path)
    told = ("name", "classes", "image_size", "mean", "std")
    assert [getattr(after, name) for name in told] == [getattr(before, name) for name in told]
    assert type(after.model) is type(before.model)
    want, got = before.model.state_dict(), after.model.state_dict()
    assert want.keys() == got.keys()
    assert all(torch.equal(got[key], value) for key, value in want.items())
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(after.model(images), before.model(images))
    assert not any(module.training for module in after.model.modules())
    if softcam:
        assert after.model.conversion == before.model.conversion
        assert torch.equal(after.model.evidence_maps(images), before.model.evidence_maps(images))
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@torch.no_grad()
def test_half_precision_is_half_the_size(small, tmp_path):
    whole, half = small.save(tmp_path / "whole"), small.save(tmp_path / "half", half=True)
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    after, before = Classifier.load(half).model, small.model
    for key, value in before.state_dict().items():
        assert after.state_dict()[key].dtype == value.dtype
        torch.testing.assert_close(after.state_dict()[key], value, rtol=2**-11, atol=2**-25)


@pytest.mark.parametrize(("name", "softcam"), [*((name, False) for name in NAMES), *((name, True) for name in CONVERTED)])
def test_architectures_of_torchvision_are_recognised(name, softcam, tmp_path):
    model = convert_to_softcam(_network(name)) if softcam else _network(name)
    path = _classifier(model).save(tmp_path / "model.safetensors")
    assert _header(path)["architecture"]["name"] == name
    assert str(Classifier.load(path).model) == str(model)


@pytest.mark.parametrize("softcam", [False, True])
@pytest.mark.parametrize("transform_input", [False, True])
@torch.no_grad()
def test_what_no_layer_shows_is_recognised(transform_input, softcam, tmp_path):
    model = _network("googlenet")
    model.transform_input = transform_input
    model = convert_to_softcam(model) if softcam else model
    after = Classifier.load(_classifier(model).save(tmp_path / "model.safetensors")).model
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(after(images), model(images))


@pytest.mark.parametrize("arguments", [{"num_classes": 5}, {"output_stride": 8}, {"num_classes": 5, "output_stride": 16}])
@torch.no_grad()
def test_a_conversion_is_done_again(arguments, tmp_path):
    model = convert_to_softcam(_network("resnet18"), **arguments)
    path = save_softcam(model, tmp_path / "model.safetensors", classes=list("abcde")[: arguments.get("num_classes", 3)])
    after = load_softcam(path)
    assert _header(path)["architecture"]["name"] == "resnet18"
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(after.evidence_maps(images), model.evidence_maps(images))


@torch.no_grad()
def test_a_network_of_ones_own_asks_for_its_code(net, images, tmp_path):
    model = convert_to_softcam(net)
    path = save_softcam(model, tmp_path / "model.safetensors")
    assert _header(path)["architecture"] is None
    with pytest.raises(ValueError, match=r"torchvision does not build; pass the untrained one: load\(path, model=MyNet"):
        load_softcam(path)
    after = load_softcam(path, model=PooledNet())
    assert torch.equal(after(images), model(images)), "float64 as it was"
    with pytest.raises(ValueError, match=r"do not fit '.*': .* instead of"):
        load_softcam(path, model=PooledNet(channels=7))


@torch.no_grad()
def test_a_model_built_by_hand(tmp_path):
    def by_hand():
        return SoftCamModel(nn.Conv2d(3, 4, 3), EvidenceHead(nn.Conv2d(4, 2, 1))).eval()

    model, images = by_hand(), torch.rand(1, 3, 9, 9)
    after = load_softcam(save_softcam(model, tmp_path / "model.safetensors"), model=by_hand())
    assert torch.equal(after.evidence_maps(images), model.evidence_maps(images))
    assert after.conversion is None


@torch.no_grad()
def test_a_flattened_map_finds_its_grid_again(tmp_path):
    def lenet():
        return nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 12 * 12, 3)).eval()

    images = torch.rand(2, 1, 28, 28)
    model = convert_to_softcam(lenet(), images)
    after = load_softcam(save_softcam(model, tmp_path / "model.safetensors"), model=lenet())
    assert torch.equal(after.evidence_maps(images), model.evidence_maps(images))


@torch.no_grad()
def test_settings_of_ones_own_are_given(tmp_path):
    own = Architecture("mobilenet_v2", {"num_classes": 3, "width_mult": 0.25})
    model = convert_to_softcam(own.build())
    classifier = replace(_classifier(model), architecture=own)
    path = classifier.save(tmp_path / "model.safetensors")
    images, after = torch.rand(1, 3, 64, 64), Classifier.load(path)
    assert torch.equal(after.model(images), model(images))
    assert after.architecture == own
    assert after.save(tmp_path / "again").read_bytes() == path.read_bytes()
    with pytest.raises(ValueError, match=r"the weights do not fit mobilenet_v2 as it is given: .*misshapen"):
        replace(classifier, architecture=Architecture("mobilenet_v2", {"num_classes": 3})).save(path)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"name": "resnet81", "arguments": {}}, "architecture 'resnet81' is unknown to torchvision. Closest: 'resnet18'"),
        ({"name": "resnet18", "arguments": {"weights": "DEFAULT"}}, "cannot name weights"),
        ({"name": "resnet18", "arguments": {"no_such": 1}}, "resnet18 does not take {'no_such': 1}"),
    ],
)
def test_a_header_that_asks_for_something_else(architecture, message, small, tmp_path):
    path = small.save(tmp_path / "model.safetensors")
    _rewrite(path, architecture=architecture)
    with pytest.raises(ValueError, match=message):
        Classifier.load(path)


class TestForeignFiles:
    def test_cut_off(self, small, tmp_path):
        path = small.save(tmp_path / "model.safetensors")
        content = path.read_bytes()
        for length in (0, 5, 200, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            with pytest.raises(ValueError, match=r"model.safetensors' is not a safetensors file, or is truncated"):
                Classifier.load(path)

    def test_a_pickle_is_not_opened(self, tmp_path):
        path = tmp_path / "model.safetensors"
        path.write_bytes(pickle.dumps({"weights": 1}))
        with pytest.raises(ValueError, match="not a safetensors file"):
            Classifier.load(path)

    def test_another_programs_weights(self, tmp_path):
        path = tmp_path / "model.safetensors"
        save_file({"a": torch.zeros(1)}, path)
        with pytest.raises(ValueError, match="captum_softcam did not write it; load its weights into the network"):
            Classifier.load(path)

    def test_a_newer_format(self, small, tmp_path):
        path = small.save(tmp_path / "model.safetensors")
        _rewrite(path, format=3)
        with pytest.raises(ValueError, match="has format 3 of a newer captum_softcam; this one reads formats 1 to 2"):
            Classifier.load(path)

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere' is not a file"):
            Classifier.load(tmp_path / "nowhere")

    def test_no_folder(self, small, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"the folder '.*nowhere' for 'model' does not exist"):
            small.save(tmp_path / "nowhere" / "model")


@pytest.mark.parametrize("changes", [{"dtype": "float33"}, {"conversion": {"no_such": 1}}, {"architecture": {"nom": "x"}}])
def test_a_damaged_header(changes, evident, tmp_path):
    path = evident.save(tmp_path / "model.safetensors")
    _rewrite(path, **changes)
    with pytest.raises(ValueError, match=r"the header of '.*' is damaged"):
        Classifier.load(path)


def test_a_black_box_is_no_softcam_model(small, tmp_path):
    path = small.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"holds a black box; read it with Classifier.load, or convert it"):
        load_softcam(path)


def test_a_model_without_classes_is_no_classifier(evident, tmp_path):
    path = save_softcam(evident.model, tmp_path / "model.safetensors")
    assert isinstance(load_softcam(path), SoftCamModel)
    with pytest.raises(ValueError, match=r"without classes and input size; read it with load_softcam"):
        Classifier.load(path)


def test_what_was_there_stays_when_the_new_file_fails(evident, small, tmp_path):
    path = small.save(tmp_path / "model.safetensors")
    content = path.read_bytes()
    with pytest.raises(ValueError, match="do not fit"):
        replace(evident, architecture=Architecture("resnet18", {"num_classes": 3})).save(path)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_black_box_is_not_a_softcam_model(small, tmp_path):
    with pytest.raises(TypeError, match=r"save_softcam needs a SoftCamModel; got ShuffleNetV2\. Use Classifier\.save"):
        save_softcam(small.model, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())
