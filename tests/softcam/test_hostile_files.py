"""Files of models that somebody has changed: words or the right model, no code, no download, no memory beyond the file."""

from __future__ import annotations

import copy
import json
import math
import random
import socket
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from command import run
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from captum_softcam.softcam import Architecture, Classifier, convert_to_softcam, load_classifier, new_classifier

IMAGES = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
ODD = [
    *(None, True, -1, 0, 3, 2**31, 2**63, 10**12, 10**40, 1e308, math.nan, math.inf, 0.5, "", "x", "n" * 100_000),
    *("\x1b[31m", "\ud800", "resnet18", "fcn_resnet50", "float64", "complex64", "qint8", [], [[]], [1] * 10, {}),
    *({"weights": "DEFAULT"}, {"weights_backbone": "DEFAULT"}, {"num_classes": 10**9}, {"name": "resnet18"}),
    {"name": "squeezenet1_1", "arguments": {"num_classes": 3, "dropout": 2}},
]
TEXTS = ["", "null", "[]", "1", "{", "NaN", '{"format": 1}', '{"format": 1e999}', '{"format": "1"}', "[" * 50_000]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[tuple[bytes, Tensor]]:
    """A black box and a converted network, as bytes, each with its logits."""
    torch.manual_seed(0)
    model, path = torchvision.models.squeezenet1_1(num_classes=3).eval(), tmp_path_factory.mktemp("models") / "model"
    found = []
    for each in (model, convert_to_softcam(model, IMAGES, output_stride=8)):
        Classifier("mine", each, ("a", "b", "c"), 64, (0.5,) * 3, (0.2,) * 3).save(path)
        found.append((path.read_bytes(), each(IMAGES).detach()))
    return found


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    def fail(*_arguments, **_options):
        raise AssertionError("something was to be downloaded")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fail)
    monkeypatch.setattr("torch.hub.urlopen", fail)
    monkeypatch.setattr(socket, "create_connection", fail)
    monkeypatch.setattr(socket, "getaddrinfo", fail)


def _places(value: object, at: tuple = ()):
    """Every place in a value of JSON."""
    yield at
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from _places(entry, (*at, key))


def _changed(header: dict, chance: random.Random) -> object:
    """The header with one place replaced, taken away, wrapped or renamed."""
    place = chance.choice(list(_places(header)))
    if not place:
        return copy.deepcopy(chance.choice(ODD))
    parent = header
    for key in place[:-1]:
        parent = parent[key]
    how = chance.choice(["set", "set", "delete", "wrap", "add"])
    if how == "delete":
        del parent[place[-1]]
    elif how == "add" and isinstance(parent, dict):
        parent[chance.choice(["weights", "x" * 10_000, "num_classes"])] = chance.choice(ODD)
    else:
        parent[place[-1]] = [parent[place[-1]]] if how == "wrap" else copy.deepcopy(chance.choice(ODD))
    return header


def _mutant(raw: bytes, chance: random.Random) -> bytes:
    """A file with a change in our header, in the table of its tensors, or in its bytes."""
    length = struct.unpack("<Q", raw[:8])[0]
    table, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    how = chance.choice(["header"] * 4 + ["text", "table", "flip", "cut"])
    if how == "header":
        table["__metadata__"]["captum_softcam"] = json.dumps(
            _changed(json.loads(table["__metadata__"]["captum_softcam"]), chance)
        )
    if how == "text":
        table["__metadata__"]["captum_softcam"] = chance.choice(TEXTS)
    if how == "table":
        entry = table[chance.choice([key for key in table if key != "__metadata__"])]
        entry.update(
            chance.choice([{"shape": [10**12]}, {"shape": [2**63]}, {"dtype": "I8"}, {"dtype": "C64"}, {"shape": []}])
        )
    text = json.dumps(table).encode()
    mutant = bytearray(struct.pack("<Q", len(text)) + text + data)
    if how == "flip":
        mutant[chance.randrange(len(mutant))] ^= 1 << chance.randrange(8)
    return bytes(mutant[: chance.randrange(len(mutant))] if how == "cut" else mutant)


def _loaded(path: Path) -> tuple[Classifier | None, str]:
    """The classifier of a file, or the words in which it is refused."""
    try:
        return Classifier.load(path), ""
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        return None, str(error)


@pytest.fixture(scope="module")
def doors(tmp_path_factory) -> list[tuple[bytes, Tensor]]:
    """Networks of timm and Hugging Face, as bytes, each with its logits."""
    pytest.importorskip("timm")
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("doors")
    small = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic"}
    hf.AutoModelForImageClassification.from_config(hf.ResNetConfig(**small, num_labels=3)).save_pretrained(folder / "resnet")
    made = [new_classifier("timm:test_resnet", ["a", "b", "c"]), load_classifier(f"hf:{folder / 'resnet'}", image_size=64)]
    found = []
    for each in (*made, replace(made[1], model=convert_to_softcam(made[1].model, IMAGES))):
        each.save(folder / "model")
        found.append(((folder / "model").read_bytes(), each.model(IMAGES).detach()))
    return found


@pytest.mark.parametrize(("kind", "count"), [("files", 400), ("doors", 200)])
@torch.no_grad()
def test_mutations_end_in_words_or_in_the_right_model(kind, count, request, tmp_path):
    files = request.getfixturevalue(kind)
    chance, path, outcomes = random.Random(0), tmp_path / "mutant.safetensors", {"refused": 0, "loaded": 0}
    for number in range(count):
        raw, logits = chance.choice(files)
        path.write_bytes(_mutant(raw, chance))
        loaded, text = _loaded(path)
        outcomes["refused" if text else "loaded"] += 1
        if loaded is not None:
            torch.testing.assert_close(loaded.model(IMAGES), logits, msg=f"mutation {number}")
            continue
        assert "mutant.safetensors" in text, (number, text)
        assert len(text) <= 500, (number, text)
        assert text.isprintable(), (number, text)
    assert outcomes["refused"] > 0.7 * count
    assert outcomes["loaded"] > 0 or kind == "doors", "of many fields, few can be changed"


def _with(raw: bytes, path: Path, digest: bool = False, **changes) -> Path:
    """A file with other fields in its header; without the digest, as old files are."""
    path.write_bytes(raw)
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["captum_softcam"]) | changes
    if not digest:
        header.pop("digest")
    save_file(load_file(path), path, {"captum_softcam": json.dumps(header)})
    return path


def _named(name: str, **arguments) -> dict:
    return {"name": name, "arguments": arguments}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": _named("fcn_resnet50")}, "architecture 'fcn_resnet50' is unknown to torchvision"),
        ({"architecture": _named("fasterrcnn_resnet50_fpn")}, "is unknown to torchvision"),
        ({"architecture": _named("squeezenet1_1", weights_backbone="DEFAULT")}, "cannot name weights"),
        ({"architecture": _named("squeezenet1_1", weights="DEFAULT")}, "cannot name weights"),
        ({"architecture": _named("squeezenet1_1", progress=True)}, "squeezenet1_1 does not take"),
        ({"architecture": _named("squeezenet1_1", num_classes=10**9)}, "misshapen"),
        ({"architecture": _named("squeezenet1_1", num_classes=10**30)}, "does not take .*: empty"),
        ({"architecture": _named("regnet_y_128gf", num_classes=10**9)}, "missing"),
        ({"classes": ["a", "b"]}, "names 2 classes for 3 logits; save it with one name each"),
        ({"mean": [0.1, 0.2]}, "mean has 2 numbers for 3 channels"),
        ({"std": [0.2, 0, 0.2]}, "std is .*; expected a list of numbers other than 0"),
        ({"image_size": True}, "image_size is True; expected a number from 1"),
        ({"format": 10**40}, "of a newer captum_softcam|is damaged: format is"),
    ],
)
def test_headers_that_ask_for_something_else(files, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        Classifier.load(_with(files[0][0], tmp_path / "model.safetensors", **changes))


@pytest.mark.parametrize(
    ("number", "changes", "message"),
    [
        (0, {"source": "os:getcwd"}, "its author's code builds, os:getcwd; it runs only if named"),
        (0, {"source": "setup.py:run"}, "it runs only if named"),
        (0, {"source": "resnet18"}, "the source 'resnet18' of a network is unknown; expected timm:NAME or hf:NAME"),
        (0, {"source": ""}, "the source '' of a network is unknown"),
        (0, {"source": "timm:hf-hub:org/name"}, "is unknown to timm"),
        (0, {"source": "timm:local-dir:/etc"}, "is unknown to timm"),
        (0, {"source": ["timm:resnet18"]}, "source is .'timm:resnet18'.; expected a text, or null"),
        (0, {"source": "timm:vit_giant_patch14_224", "settings": {"num_classes": 3}}, "they do not belong together"),
        (0, {"settings": {"num_classes": 3, "pretrained": True}}, "does not take {'pretrained': True}"),
        (0, {"settings": {"num_classes": 10**9}}, "does not take {'num_classes': 1000000000}"),
        (0, {"settings": {"num_classes": True}}, "does not take {'num_classes': True}"),
        (0, {"settings": {"num_classes": 4}}, "the weights do not fit"),
        (0, {"settings": {"checkpoint_path": "/etc/passwd"}}, "does not take"),
        (0, {"settings": []}, "settings is ..; expected a dictionary"),
        (0, {"settings": {"k" * 2**21: 1}}, "settings is .*; expected a dictionary of at most"),
        (0, {"outputs": "['logits']"}, "the weights do not fit"),
        (0, {"outputs": ".__class__"}, "outputs '.__class__' does not name an entry"),
        (0, {"fit": {"mode": "crop", "crop": 2, "interpolation": "bilinear"}}, "fit is .*; expected a mode"),
        (0, {"scores": "softmin"}, "scores is 'softmin'; expected one of softmax, sigmoid, identity"),
        (0, {"classes": ["a", "b"]}, "names 2 classes for 3 logits"),
        (1, {"classes": ["a", "b"]}, "names 2 classes for 3 logits"),
        (1, {"settings": {"model_type": "nothing"}}, "cannot be built from its configuration"),
        (1, {"settings": {"model_type": "bert"}}, "cannot be built from its configuration"),
        (1, {"settings": {"model_type": "resnet", "depths": [10**12]}}, "no classifier of images is so large"),
        (1, {"settings": {"model_type": "resnet", "depths": [10**6]}}, "has far more layers than its file has weights"),
        (
            1,
            {"settings": {"model_type": "vit", "num_hidden_layers": 10**6}},
            "has far more layers than its file has weights",
        ),
        (
            1,
            {"settings": {"model_type": "vit", "hidden_size": 10**6, "num_attention_heads": 1}},
            "they do not belong together",
        ),
        (
            1,
            {"settings": {"model_type": "swin", "image_size": 10**6, "patch_size": 1}},
            "they do not belong together|do not fit",
        ),
        (1, {"settings": {"model_type": "timm_wrapper", "architecture": "resnet18"}}, "do not fit|cannot be built"),
    ],
)
def test_doors_that_a_header_opens(doors, tmp_path, number, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        Classifier.load(_with(doors[number][0], tmp_path / "model.safetensors", **changes))
    assert len(str(caught.value)) <= 500
    assert "model.safetensors" in str(caught.value)


@torch.no_grad()
def test_a_configuration_brings_no_code_and_no_file(doors, tmp_path):
    """What names code, files or the hub is left out of the configuration, so that the network is the same."""
    raw, logits = doors[1]
    length = struct.unpack("<Q", raw[:8])[0]
    settings = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["captum_softcam"])["settings"]
    more = {
        "auto_map": {"AutoModelForImageClassification": "org/name--code.Net"},
        "_name_or_path": "/etc",
        "attn_implementation": "org/kernel",
        "_attn_implementation": "org/kernel",
        "quantization_config": {"quant_method": "bitsandbytes"},
        "use_pretrained_backbone": True,
    }
    path = _with(raw, tmp_path / "model.safetensors", settings=settings | more)
    torch.testing.assert_close(Classifier.load(path).model(IMAGES), logits)


@torch.no_grad()
def test_a_file_without_a_digest_is_read_and_one_with_another_is_not(files, tmp_path):
    for raw, logits in files:
        path = _with(raw, tmp_path / "model.safetensors")
        torch.testing.assert_close(Classifier.load(path).model(IMAGES), logits)
        with pytest.raises(ValueError, match="is damaged: its weights or its header were changed after it was written"):
            Classifier.load(_with(raw, path, digest=True, name="another"))


@pytest.mark.parametrize("command", [["explain", "image.png"], ["compare", "--out", "run"], ["convert"]])
def test_at_the_command_line(files, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    _with(files[0][0], Path("model.safetensors"), architecture=_named("fcn_resnet50"))
    Path("image.png").touch()
    done = run(*command, "--model", "model.safetensors")
    assert done.code == 2, done.err
    assert "architecture 'fcn_resnet50' is unknown" in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) == 1


class TestSaving:
    def test_a_network_that_only_looks_like_one_of_torchvision(self, tmp_path):
        """Its layers say that it is a SqueezeNet, and its forward is another."""
        model = torchvision.models.squeezenet1_1(num_classes=3).eval()
        model.forward = lambda x: type(model).forward(model, 1 - x)
        path = Classifier("mine", model, ("a", "b", "c"), 64).save(tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match="holds a network that torchvision does not build"):
            Classifier.load(path)
        given = Architecture("squeezenet1_1", {"num_classes": 3})
        with pytest.raises(ValueError, match="as it is given computes something else with these weights"):
            Classifier("mine", model, ("a", "b", "c"), 64, architecture=given).save(path)

    def test_weights_that_are_no_numbers(self, tmp_path):
        model = torchvision.models.squeezenet1_1(num_classes=3).eval()
        nn.init.constant_(model.classifier[1].bias, math.nan)
        path = Classifier("mine", model, ("a", "b", "c"), 64).save(tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match=r"the weights 'classifier.1.bias' of '.*' are NaN"):
            Classifier.load(path)


NAME = "shufflenet_v2_x0_5"


def _checkpoint(kind: str) -> object:
    """A state dict of which something is not as it should be."""
    torch.manual_seed(0)
    state = torchvision.models.get_model(NAME, num_classes=2).state_dict()
    key, weight = "conv1.0.weight", state["conv1.0.weight"]
    inside: dict = {}
    inside["state_dict"] = inside
    changed = {
        "sparse": lambda: weight.to_sparse(),
        "meta": lambda: weight.to("meta"),
        "nested": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        "int8": lambda: weight.to(torch.int8),
        "complex": lambda: weight.to(torch.complex64),
        "nan": lambda: weight * math.nan,
        "giant": lambda: torch.zeros(1).expand(10**6, 10**6),
    }
    others = {
        "itself": inside,
        "long names": {**state, "k" * 10**5: weight},
        "twice": {**state, f"module.{key}": weight},
        "text": "x" * 10**5,
    }
    return others[kind] if kind in others else {**state, key: changed[kind]()}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("sparse", "of another kind .conv1.0.weight .sparse instead of dense"),
        ("meta", "entry 'conv1.0.weight' of .* is without values"),
        ("nested", "entry 'conv1.0.weight' of .* is nested"),
        ("int8", "int8 instead of float32"),
        ("complex", "complex64 instead of float32"),
        ("nan", "the weights 'conv1.0.weight' of .* are NaN"),
        ("giant", "1000000, 1000000. instead of .24, 3, 3, 3"),
        ("itself", "entry 'state_dict' of .* is dict; expected only tensors"),
        ("long names", "1 unexpected"),
        ("twice", "with and without 'module.' before their names"),
        ("text", "holds str; expected a state dict"),
    ],
)
def test_checkpoints(tmp_path, kind, message):
    path = tmp_path / "checkpoint.pt"
    torch.save(_checkpoint(kind), path)
    with pytest.raises(ValueError, match=message) as caught:
        load_classifier(NAME, checkpoint=path, classes=["a", "b"])
    assert len(str(caught.value)) <= 500
    assert "checkpoint.pt" in str(caught.value)
