"""Files of one logit and of one value at the terminal: explained, compared, reported, converted."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torchvision
from command import run
from PIL import Image

from captum_softcam import convert_to_softcam
from captum_softcam.data import read_image
from captum_softcam.softcam import Classifier


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A working directory with images of two classes and with files of one network."""
    folder = tmp_path_factory.mktemp("kinds")
    numbers = np.random.default_rng(0)
    for place in ("images/no/0", "images/no/1", "images/yes/2", "images/yes/3", "flat/value/0", "flat/value/1"):
        path = folder / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    torch.manual_seed(0)
    network = torchvision.models.shufflenet_v2_x0_5(num_classes=1).eval()
    with torch.no_grad():
        logits = network(torch.stack([read_image(path, 64) for path in sorted(folder.glob("images/*/*.png"))]))
        # An untrained network hardly tells images apart.
        network.fc.bias.sub_(logits.mean()).div_(logits.std())
        network.fc.weight.div_(logits.std())
    model = convert_to_softcam(network)
    Classifier("one", model, ("no", "yes"), 64, scores="sigmoid").save(folder / "one.safetensors")
    Classifier("value", model, ("value",), 64, scores="identity").save(folder / "value.safetensors")
    # As of format 1, which named the class above 0 alone and knew nothing of scores.
    Classifier("old", model, ("yes",), 64).save(folder / "old.safetensors")
    return folder


@pytest.fixture
def model(here, monkeypatch):
    monkeypatch.chdir(here)
    return Classifier.load("one.safetensors").model


@pytest.mark.parametrize(("name", "no"), [("one", "no"), ("old", "not yes")])
def test_one_logit_is_explained(name, no, model, tmp_path):
    for image, target in ((2, "yes"), (0, "yes"), (0, no)):
        path = f"images/{'yes' if image else 'no'}/{image}.png"
        options = ("--model", f"{name}.safetensors", "--methods", "soft_cam,grad_cam")
        done = run("explain", path, *options, "--target", target, "--out", tmp_path / f"{image}-{target}")
        assert done.code == 0, done.err
        probability = model(read_image(path, 64)[None]).sigmoid().item()
        both = {"yes": probability, no: 1 - probability}
        predicted = max(both, key=lambda each: both[each])
        others = f", predicted {predicted} ({both[predicted]:.3f})" * (predicted != target)
        assert done.out.splitlines()[0] == f"{image}.png: {target} ({both[target]:.3f}){others}"


def test_one_logit_is_compared_and_reported(model, tmp_path):
    options = ("--methods", "soft_cam,random", "--metrics", "deletion,road,adcc", "--batch-size", "3")
    places = ("--out", tmp_path / "run", "--report", tmp_path / "report.html")
    done = run("compare", "--images", "images", "--model", "one.safetensors", *options, *places)
    assert done.code == 0, done.err
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert (manifest["scores"], manifest["outputs"]) == ("sigmoid", 1)
    logits = [model(read_image(f"images/{place}.png", 64)[None]).item() for place in ("no/0", "no/1", "yes/2", "yes/3")]
    correct = sum((logit > 0) == (place > 1) for place, logit in enumerate(logits))
    assert f"4 samples, {correct} of them classified correctly" in done.out
    assert "Probability of the explained class" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_value_is_compared_and_reported(model, tmp_path):
    path = "flat/value/0.png"
    done = run("explain", path, "--model", "value.safetensors", "--methods", "soft_cam", "--out", tmp_path / "value")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == f"0.png: value ({model(read_image(path, 64)[None]).item():.4g})"
    options = ("--methods", "soft_cam,random", "--metrics", "deletion", "--report", tmp_path / "report.html")
    done = run("compare", "--images", "flat", "--model", "value.safetensors", *options, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert "2 samples with one value each, which is no class." in done.out
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Score of the explained class" in report
    assert "Probability" not in report
    refused = run(
        "compare", "--images", "flat", "--model", "value.safetensors", "--metrics", "road", "--out", tmp_path / "no"
    )
    assert refused.code == 2
    assert "a model with one output that is no logit predicts no class" in refused.err


@pytest.mark.usefixtures("model")
@pytest.mark.skipif(find_spec("onnxscript") is None, reason="needs the extra onnx")
def test_one_logit_is_exported_with_both_names(tmp_path):
    done = run("convert", "--model", "one.safetensors", "--onnx", tmp_path / "one.onnx")
    assert done.code == 0, done.err
    import onnx

    (entry,) = [each.value for each in onnx.load(tmp_path / "one.onnx").metadata_props if each.key == "captum_softcam"]
    assert json.loads(entry)["classes"] == ["no", "yes"]
