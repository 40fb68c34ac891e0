"""Every door at the command line: the options of a model are the same for all commands."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command import refused, run
from PIL import Image

from captum_softcam._fit import Fit
from captum_softcam.cli.model import class_list, fit_of
from captum_softcam.cli.options import absolute_model
from captum_softcam.softcam import Classifier

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(self.pool(self.features(x)).flatten(1))


class InDict(Net):
    def forward(self, x):
        return {"logits": super().forward(x), "others": None}


def made(kind, classes):
    torch.manual_seed(0)
    net = kind(classes)
    nn.init.normal_(net.fc.weight)
    return net


def three():
    return made(Net, 3)


def one():
    return made(Net, 1)


def in_dict():
    return made(InDict, 2)


def failing():
    raise RuntimeError("the weights are at home")


def number():
    return 3


def picture():
    return nn.Conv2d(3, 3, 1)
"""
FAST = ["--methods", "grad_cam", "--metrics", "region_perturbation"]
DOORS = ("timm:NAME", "hf:FOLDER", "package.module:factory", "path/to/file.py:factory", "FILE.safetensors", "runs your code")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with code, photos and class folders, in which commands run."""
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(CODE)
    random = np.random.default_rng(0)
    for name in ("photos/a.png", "photos/b.png", "folders/cat/1.png", "folders/dog/2.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(name)
    return tmp_path


def compared(*options):
    done = run("compare", *FAST, *options, "--out", "run")
    assert done.code == 0, done.err
    return json.loads(Path("run/manifest.json").read_text(encoding="utf-8"))


def explained(*options):
    """The line of a picture, without its name."""
    shutil.rmtree("explained", ignore_errors=True)
    done = run("explain", "photos/a.png", "--methods", "grad_cam", *options, "--out", "explained")
    assert done.code == 0, done.err
    return done.out.splitlines()[0].removeprefix("a.png: ")


class TestOptions:
    @pytest.mark.parametrize("command", ["compare", "convert", "explain", "layers", "train"])
    def test_help_names_every_door(self, command):
        text = " ".join(run(command, "--help").out.replace("-\n", "-").split())
        assert [door for door in DOORS if door not in text] == (["FILE.safetensors"] if command == "train" else [])

    @pytest.mark.parametrize(
        ("option", "value", "words"),
        [
            ("--mean", "1,2", "'1,2' is not three numbers separated by commas, for red, green and blue"),
            ("--mean", "a,b,c", "is not three numbers"),
            ("--mean", "nan", "is not three numbers"),
            ("--std", "1,0,1", "'1,0,1' is not three numbers above 0"),
            ("--fit", "crp", "'crp' is not squash, crop or pad, or one of them as in crop:0.875"),
            ("--fit", "crop:0", "is not squash, crop or pad"),
            ("--fit", "crop:x", "is not squash, crop or pad"),
            ("--size", "0", "is not a whole number above 0"),
            ("--scores", "probability", "invalid choice"),
        ],
    )
    def test_wrong_values(self, option, value, words):
        done = run("explain", "photos/a.png", option, value)
        assert done.code == 2
        assert f"argument {option}: " in done.err
        assert words in done.err

    def test_classes_are_a_list_or_a_file(self):
        Path("names").write_text("a\nb\n")
        assert class_list("a, b") == ["a", "b"]
        assert class_list("names") == Path("names")
        assert class_list("missing.txt") == Path("missing.txt")
        assert class_list("cat") == ["cat"]

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (None, Fit("crop", 0.9, "bicubic")),
            ("crop", Fit("crop", 0.9, "bicubic")),
            ("squash", Fit("squash", 1.0, "bicubic")),
            ("pad", Fit("pad", 1.0, "bicubic")),
            ("crop:0.5", Fit("crop", 0.5, "bicubic")),
        ],
    )
    def test_what_a_fit_keeps_of_the_networks_own(self, given, expected):
        assert fit_of(argparse.Namespace(fit=given), Fit("crop", 0.9, "bicubic")) == expected

    def test_files_and_folders_are_found_again_from_elsewhere(self, here):
        Path("net.safetensors").touch()
        assert absolute_model("nets.py:three") == f"{here}/nets.py:three"
        assert absolute_model("net.safetensors") == f"{here}/net.safetensors"
        assert absolute_model("hf:photos") == f"hf:{here}/photos"
        for name in ("resnet18", "timm:resnet18", "hf:microsoft/resnet-50", "package.module:net", "gone.py:net", "photos"):
            assert absolute_model(name) == name

    @pytest.mark.parametrize(
        ("classes", "scores", "expected"),
        [
            (("a", "b"), "softmax", ("a", "b")),
            (("a", "b"), "sigmoid", ("a", "b")),
            (("sick",), "sigmoid", ("not sick", "sick")),
            (("0",), "sigmoid", ("0", "1")),
            (("age",), "identity", ("age",)),
        ],
    )
    def test_names_of_what_has_a_score(self, classes, scores, expected):
        assert Classifier("net", torch.nn.Identity(), classes, 8, scores=scores).scored_classes == expected


class TestExplain:
    def test_a_factory_in_a_file(self):
        line = explained("--model", "nets.py:three", "--classes", "cat,dog,eel", "--size", "32")
        assert re.fullmatch(r"(cat|dog|eel) \(0\.\d{3}\)", line)

    def test_a_factory_in_a_module(self):
        assert explained("--model", "nets:in_dict", "--size", "32", "--target", "1").startswith("1 (")

    def test_one_logit_has_two_classes(self):
        options = ["--model", "nets.py:one", "--classes", "sick", "--size", "32"]
        found = {
            name: float(value) for name, value in re.findall(r"([a-z ]+) \(([\d.]+)\)", explained(*options, "--top-k", 2))
        }
        assert set(found) == {"sick", " not sick"} or set(found) == {"not sick", " sick"}
        assert sum(found.values()) == pytest.approx(1, abs=2e-3)

    def test_several_classes_at_once(self):
        options = ["--model", "nets.py:three", "--size", "32", "--top-k", "3"]
        softmax, sigmoid = (
            [float(value) for value in re.findall(r"\((.*?)\)", explained(*options, "--scores", scores))]
            for scores in ("softmax", "sigmoid")
        )
        assert len(softmax) == len(sigmoid) == 3
        assert sum(softmax) == pytest.approx(1, abs=2e-3)
        assert abs(sum(sigmoid) - 1) > 0.01, "each class has a probability of its own"

    @pytest.mark.parametrize(("option", "value"), [("--mean", "0.9"), ("--std", "0.1,0.2,0.3"), ("--fit", "crop:0.5")])
    def test_options_change_what_the_network_sees(self, option, value):
        plain = explained("--model", "nets.py:three", "--size", "32", "--target", "0")
        changed = explained("--model", "nets.py:three", "--size", "32", "--target", "0", option, value)
        assert plain != changed

    def test_classes_from_a_file(self):
        Path("names.txt").write_text("cat\ndog, a kind of wolf\neel\n", encoding="utf-8")
        line = explained("--model", "nets.py:three", "--classes", "names.txt", "--size", "32", "--class", "1")
        assert line.startswith("dog, a kind of wolf (")

    @pytest.mark.parametrize(
        ("model", "words"),
        [
            ("nets.py:tree", "'nets.py' has no factory 'tree'. Closest: 'three'."),
            ("nets.py:number", "nets.py:number returns int; expected a torch.nn.Module or a Classifier."),
            ("nets.py:failing", "nets.py:failing failed without arguments: RuntimeError: the weights are at home."),
            ("nets.py:picture", "model 'nets.py:picture' gives (2, 3, 224, 224) for 2 images; expected logits (N, K)"),
            ("nets.py", "Name a function or class in the file: nets.py:factory."),
            ("net.py:three", "'net.py' is not a file; expected package.module:factory, path/to/file.py:factory"),
            (
                "tim:resnet18",
                "there is no module 'tim'; expected package.module:factory, path/to/file.py:factory, timm:NAME",
            ),
            ("lesion_softcam", "Closest: 'lesions_softcam'"),
        ],
    )
    def test_a_wrong_door_is_named_in_words(self, model, words):
        assert words in refused("explain", "photos/a.png", "--model", model)

    def test_a_network_of_timm(self):
        timm = pytest.importorskip("timm")
        torch.save(timm.create_model("resnet10t", num_classes=2).state_dict(), "net.pt")
        options = ["--model", "timm:resnet10t", "--checkpoint", "net.pt"]
        assert explained(*options, "--classes", "cat,dog", "--size", "64").startswith(("cat (", "dog ("))
        sentence = refused("explain", "photos/a.png", *options, "--classes", "cat,dog,eel", "--size", "64")
        assert "has 2 logits, and 3 classes are named" in sentence
        assert "captum-softcam train" in sentence

    def test_a_folder_of_hugging_face(self):
        transformers = pytest.importorskip("transformers")
        names = {0: "benign", 1: "malignant"}
        sizes = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic"}
        config = transformers.ResNetConfig(**sizes, id2label=names, label2id={name: k for k, name in names.items()})
        transformers.ResNetForImageClassification(config).save_pretrained("net")
        line = explained("--model", "hf:net", "--size", "64", "--target", "malignant")
        assert line.startswith("malignant (")


class TestCompare:
    def test_photos_without_classes(self):
        manifest = compared("--model", "nets.py:three", "--size", "32", "--images", "photos", "--explain", "predicted")
        assert manifest["samples"] == 2
        scores = pd.read_csv("run/scores.csv")
        assert set(scores["label"]) == {-1}
        assert (scores["target"] == scores["prediction"]).all()

    def test_photos_without_classes_have_no_true_class(self):
        sentence = refused("compare", "--model", "nets.py:three", "--size", "32", "--images", "photos", *FAST)
        assert sentence == (
            "--images 'photos' has no class folders, so the classes of the images are not known; sort them into "
            "CLASS/IMAGE, name a table of them by --labels, or explain the predicted class: --explain predicted."
        )

    @pytest.mark.parametrize("factory", ["in_dict", "one"])
    def test_class_folders_name_what_has_no_names(self, factory):
        manifest = compared("--model", f"nets.py:{factory}", "--size", "32", "--images", "folders")
        assert manifest["classes"] == ["cat", "dog"]
        assert pd.read_csv("run/scores.csv").groupby("sample")["label"].first().to_dict() == {"cat/1.png": 0, "dog/2.png": 1}

    def test_class_folders_may_be_some_of_the_classes(self):
        classes = ["--classes", "dog,eel,cat"]
        compared("--model", "nets.py:three", "--size", "32", "--images", "folders", *classes)
        assert pd.read_csv("run/scores.csv").groupby("sample")["label"].first().to_dict() == {"cat/1.png": 2, "dog/2.png": 0}

    def test_fewer_folders_than_classes_without_names(self):
        sentence = refused("compare", "--model", "nets.py:three", "--size", "32", "--images", "folders", *FAST)
        assert sentence == (
            "model 'nets.py:three' has 3 classes without names, the data 2 (cat, dog); name all classes of the model in the "
            "order of its logits by --classes A,B or FILE."
        )

    def test_what_the_network_takes_is_recorded(self, here):
        options = ["--size", "32", "--mean", "0.5", "--std", "0.2,0.3,0.4", "--fit", "pad", "--scores", "sigmoid"]
        manifest = compared("--model", "nets.py:in_dict", *options, "--images", "folders")
        assert manifest["source"] == "nets.py:in_dict"
        assert manifest["output_entry"] == "['logits']"
        assert (manifest["mean"], manifest["std"]) == ([0.5, 0.5, 0.5], [0.2, 0.3, 0.4])
        assert manifest["fit"] == {"mode": "pad", "crop": 1.0, "interpolation": "bilinear"}
        assert (manifest["image_size"], manifest["scores"]) == ([32, 32], "sigmoid")
        command = manifest["command"]
        assert command["model"] == f"{here}/nets.py:in_dict"
        assert (command["fit"], command["size"], command["std"]) == ("pad", 32, [0.2, 0.3, 0.4])

    @pytest.mark.filterwarnings("default::UserWarning")
    def test_a_region_that_is_cut_off_is_counted(self):
        for name in ("cat/1.png", "dog/2.png"):
            mask = np.zeros((40, 60), np.uint8)
            mask[10:20, 0 : 5 if name.startswith("cat") else 40] = 255
            Path("masks", name).parent.mkdir(parents=True)
            Image.fromarray(mask).save(Path("masks", name))
        options = ["--model", "nets.py:in_dict", "--size", "32", "--images", "folders", "--masks", "masks", "--fit", "crop"]
        done = run("compare", *options, "--methods", "grad_cam", "--metrics", "pointing_game", "--out", "run")
        assert done.code == 0, done.err
        assert (
            "sample 'cat/1.png' has nothing to localise: its region lies in the margin that fit 'crop' cuts off." in done.err
        )
        assert "1 of 2 masks lie in the margin that is cut off and do not count for localisation; see --fit." in done.out


class TestResume:
    @pytest.fixture
    def interrupted(self, monkeypatch):
        """A run of the user's own code that stopped before its end."""

        def fail(*_arguments):
            raise OSError("the disk is full.")

        names = Path("names.txt")
        names.write_text("cat\ndog\n")
        options = ["--model", "nets.py:in_dict", "--size", "32", "--mean", "0.5", "--fit", "crop:0.8", "--images", "folders"]
        with monkeypatch.context() as patch:
            patch.setattr("captum_softcam.evaluation.Comparison.save", fail)
            done = run("compare", *FAST, *options, "--classes", names, "--out", "run")
        assert done.code == 2
        return done.err.splitlines()[-1]

    def test_code_runs_only_if_it_is_named_again(self, here, monkeypatch, interrupted):
        assert interrupted.endswith("go on with: captum-softcam compare --resume --out run --model nets.py:in_dict")
        done = run("compare", "--resume", "--out", "run")
        assert done.code == 2
        assert done.err == (
            "captum-softcam compare: the run was started with code of yours, which runs only if it is named again: --model "
            f"{here}/nets.py:in_dict. What is done is kept; go on with: captum-softcam compare --resume --out run --model "
            f"{here}/nets.py:in_dict\n"
        )
        (here / "elsewhere").mkdir()
        monkeypatch.chdir(here / "elsewhere")
        done = run("compare", "--resume", "--out", here / "run", "--model", f"{here}/nets.py:in_dict")
        assert done.code == 0, done.err
        manifest = json.loads((here / "run/manifest.json").read_text(encoding="utf-8"))
        assert (manifest["mean"], manifest["fit"]["crop"], manifest["classes"]) == ([0.5] * 3, 0.8, ["cat", "dog"])

    @pytest.mark.usefixtures("interrupted")
    def test_another_fit_is_another_run(self, here):
        model = f"{here}/nets.py:in_dict"
        sentence = refused("compare", "--resume", "--out", "run", "--model", model, "--fit", "pad")
        assert sentence.startswith("--fit pad is not what the run was started with ('crop:0.8'); leave it out")


class TestConvert:
    def test_a_network_of_timm_loads_from_its_file(self):
        timm = pytest.importorskip("timm")
        torch.save(timm.create_model("resnet10t", num_classes=2).state_dict(), "net.pt")
        options = ["--model", "timm:resnet10t", "--checkpoint", "net.pt", "--classes", "cat,dog", "--size", "64"]
        done = run("convert", *options, "--out", "net.safetensors")
        assert done.code == 0, done.err
        assert "unchanged up to rounding" in done.out
        line = explained("--model", "net.safetensors", "--methods", "soft_cam", "--target", "dog")
        assert line == explained(*options, "--target", "dog")

    def test_code_loads_with_the_file_as_its_checkpoint(self):
        done = run("convert", "--model", "nets.py:in_dict", "--size", "32", "--out", "net.safetensors")
        assert done.code == 0, done.err
        sentence = refused("explain", "photos/a.png", "--model", "net.safetensors")
        assert "or --model nets.py:in_dict --checkpoint FILE" in sentence
        line = explained("--model", "nets.py:in_dict", "--checkpoint", "net.safetensors", "--methods", "soft_cam")
        assert line == explained("--model", "nets.py:in_dict", "--size", "32")

    def test_without_weights_it_is_reported_on(self):
        pytest.importorskip("timm")
        done = run("convert", "--model", "timm:resnet10t", "--size", "64")
        assert done.code == 0, done.err
        assert "evidence   2 x 2 for an input of 64 x 64" in done.out
        sentence = refused("convert", "--model", "timm:resnet10t", "--out", "net.safetensors")
        assert sentence.startswith("model 'timm:resnet10t' needs weights")


class TestLayers:
    def test_the_size_is_the_models_own(self):
        assert "20x20" in run("layers").out, "of 160 pixels"

    def test_of_code(self):
        done = run("layers", "--model", "nets.py:three", "--size", "32")
        assert done.code == 0, done.err
        assert "7x7" in done.out


class TestTrain:
    QUICK = ("--size", "64", "--epochs", "1", "--workers", "0", "--accelerator", "cpu", "--val-fraction", "0.5")

    @pytest.fixture
    def trained(self):
        pytest.importorskip("lightning")
        for name in ("cat/3", "cat/4", "dog/3", "dog/4"):
            Image.open("photos/a.png").save(f"folders/{name}.png")

        def train(*options):
            done = run("train", "--images", "folders", *self.QUICK, *options, "--out", "run")
            assert done.code == 0, done.err

        return train

    def test_code_with_another_fit(self, trained):
        trained("--model", "nets.py:three", "--fit", "pad", "--mean", "0.1")
        settings = json.loads(Path("run/settings.json").read_text(encoding="utf-8"))
        assert "mode='pad'" in str(settings["augmentation"])
        found = explained("--model", "nets.py:three", "--checkpoint", "run/model.safetensors", "--methods", "soft_cam")
        assert re.match(r"(cat|dog) \(", found)

    def test_one_logit_keeps_both_names(self, trained):
        trained("--model", "shufflenet_v2_x0_5", "--kind", "binary")
        classifier = Classifier.load("run/model.safetensors")
        assert classifier.classes == ("cat", "dog")
        assert (classifier.scores, classifier.fit, classifier.mean[0]) == ("sigmoid", Fit(), 0.485)
        assert explained("--model", "run/model.safetensors", "--methods", "soft_cam", "--target", "dog").startswith("dog (")

    def test_a_network_of_timm(self, trained):
        pytest.importorskip("timm")
        trained("--model", "timm:resnet10t", "--black-box")
        assert Classifier.load("run/model.safetensors").source == "timm:resnet10t"
