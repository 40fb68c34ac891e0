"""``captum-softcam convert``: what it says, what it writes, and one sentence for everything that is wrong."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import command
import numpy as np
import pytest
import torch
import torchvision
from command import run
from PIL import Image

from captum_softcam.softcam import Classifier, SoftCamModel, load_embedded

NAME = "shufflenet_v2_x0_5"


def refused(*arguments):
    return command.refused("convert", *arguments)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def checkpoint(here):
    torch.manual_seed(0)
    torch.save(torchvision.models.get_model(NAME, num_classes=2).state_dict(), here / "net.pt")
    return "net.pt"


def test_without_options_it_shows_the_embedded_black_box():
    done = run("convert")
    assert done.code == 0
    assert "head       classifier.1: Linear(1280, 4) -> Conv2d(1280, 4, 1)" in done.out
    assert "logits     unchanged up to rounding" in done.out
    assert not list(Path().iterdir())


@torch.no_grad()
def test_what_is_written_can_be_read_explained_and_exported(checkpoint):
    import onnx
    import onnxruntime

    made = ["--model", NAME, "--checkpoint", checkpoint, "--classes", "cat,dog", "--output-stride", 16, "--size", 64]
    done = run("convert", *made, "--out", "net.safetensors")
    assert (done.code, done.err) == (0, "")
    assert "evidence   4 x 4 for an input of 64 x 64" in done.out
    classifier = Classifier.load("net.safetensors")
    assert (classifier.classes, classifier.image_size, classifier.name) == (("cat", "dog"), 64, NAME)
    again = run("convert", "--model", "net.safetensors", "--out", "again.safetensors", "--onnx", "net.onnx")
    assert (again.code, Path("again.safetensors").exists()) == (0, True)
    images = classifier.normalize(torch.rand(3, 3, 96, 64))
    logits, evidence = onnxruntime.InferenceSession("net.onnx").run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), classifier.model(images), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(evidence), classifier.model.evidence_maps(images), atol=1e-4, rtol=1e-4)
    told = {entry.key: entry.value for entry in onnx.load("net.onnx").metadata_props}
    assert json.loads(told["captum_softcam"])["classes"] == ["cat", "dog"]

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 60, 3), dtype=np.uint8)).save("image.png")
    explained = run("explain", "image.png", "--model", "net.safetensors", "--methods", "soft_cam", "--out", "explained")
    assert explained.code == 0, explained.err
    assert Path("explained/1-image-soft_cam.png").stat().st_size > 1000
    layers = run("layers", "--model", "net.safetensors", "--size", 64)
    assert "backbone" in layers.out


@torch.no_grad()
def test_settings_of_the_embedded_network_are_kept():
    assert run("convert", "--output-stride", 8, "--out", "fine.safetensors").code == 0
    fine, black_box = Classifier.load("fine.safetensors"), load_embedded("lesions_black_box")
    images = torch.rand(1, 3, 160, 160)
    assert fine.model.evidence_maps(images).shape == (1, 4, 20, 20)
    shared = fine.model.evidence_maps(images)[..., ::2, ::2].mean((2, 3))
    torch.testing.assert_close(shared, black_box.model(images), atol=1e-4, rtol=1e-4)


def test_a_new_head():
    done = run("convert", "--num-classes", 3, "--out", "new.safetensors")
    assert done.code == 0
    classifier = Classifier.load("new.safetensors")
    assert classifier.classes == ("0", "1", "2")
    assert isinstance(classifier.model, SoftCamModel)
    assert classifier.model.evidence[-1].out_channels == 3


def test_an_architecture_is_tried_out_without_weights():
    done = run("convert", "--model", "alexnet")
    assert done.code == 0
    assert "its classifier tells 6 x 6 positions apart" in done.out


def test_refusals(checkpoint, here):
    assert refused("--model", "resnet18", "--out", "a.safetensors").startswith("model 'resnet18' needs a checkpoint (--ch")
    assert "selects single positions or tokens" in refused("--model", "vit_b_16")
    assert "is unknown to torchvision. Closest: 'resnet18'" in refused("--model", "resnet_18")
    assert "is converted already; leave --num-classes" in refused("--model", "lesions_softcam", "--num-classes", 3)
    assert "nowhere.safetensors' is not a file" in refused("--model", "nowhere.safetensors")
    assert "brings its own weights" in refused("--model", "nowhere.safetensors", "--weights", "DEFAULT")
    assert "the folder 'no' for 'a.safetensors' does not exist" in refused("--out", "no/a.safetensors")
    assert "exists already and is not overwritten" in refused("--out", checkpoint)
    assert "exists already and is not overwritten" in refused("--onnx", checkpoint)
    assert "not a safetensors file, or is truncated" in refused("--model", _broken(here))
    assert "does not run on pictures of 8 x 8 pixels" in refused("--model", "alexnet", "--size", 8)


def test_a_missing_extra_is_found_before_anything_is_written(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else find(name))
    assert refused("--out", "a.safetensors", "--onnx", "a.onnx") == (
        "export_onnx needs onnxscript; run: pip install 'captum-softcam[onnx]'."
    )


def _broken(folder: Path) -> Path:
    path = folder / "broken.safetensors"
    path.write_bytes(b"not one of ours")
    return path
