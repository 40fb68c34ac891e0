"""Classifiers by name: what a checkpoint may look like, and the sentence for each that does not fit."""

import os
import pickle
import re
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from captum_softcam._fit import Fit
from captum_softcam.softcam import Classifier, load_classifier, new_classifier
from captum_softcam.softcam._sources.networks import fit_head, last_layer

NAME = "shufflenet_v2_x0_5"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.fixture(scope="module")
def state():
    """Weights of a two-class model, batch statistics included."""
    torch.manual_seed(0)
    return torchvision.models.get_model(NAME, num_classes=2).state_dict()


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / "checkpoint.pt"


def load(checkpoint, classes=("cat", "dog")):
    return load_classifier(NAME, checkpoint=checkpoint, classes=classes)


def message(error, call):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


class TestCheckpoint:
    @pytest.mark.parametrize("key", [None, "state_dict", "model"])
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_wrappings(self, state, checkpoint, key, prefix):
        content = {prefix + name: value for name, value in state.items()}
        torch.save(content if key is None else {key: content, "epoch": 7}, checkpoint)
        classifier = load(checkpoint)
        assert all(torch.equal(value, state[name]) for name, value in classifier.model.state_dict().items())

    def test_what_comes_with_it(self, state, checkpoint):
        torch.save(state, checkpoint)
        classifier = load(str(checkpoint), ["cat", "dog"])
        assert (classifier.name, classifier.classes, classifier.image_size) == (NAME, ("cat", "dog"), 224)
        assert {"mean": classifier.mean, "std": classifier.std} == IMAGENET
        assert not any(module.training for module in classifier.model.modules())
        assert classifier.model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


class TestNewClassifier:
    def test_all_but_the_last_layer_start_from_the_checkpoint(self, state, checkpoint):
        torch.save({"state_dict": state}, checkpoint)
        start = new_classifier(NAME, ["cat", "dog", "eel"], checkpoint=checkpoint, image_size=96)
        assert (start.name, start.classes, start.image_size, start.mean) == (
            NAME,
            ("cat", "dog", "eel"),
            96,
            IMAGENET["mean"],
        )
        assert start.model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
        new = start.model.state_dict()
        assert {key for key in state if new[key].shape != state[key].shape} == {"fc.weight", "fc.bias"}
        assert all(torch.equal(new[key], value) for key, value in state.items() if not key.startswith("fc."))

    def test_a_head_of_the_same_size_is_kept(self, state, checkpoint):
        torch.save(state, checkpoint)
        new = new_classifier(NAME, ["eel", "fox"], checkpoint=checkpoint).model.state_dict()
        assert all(torch.equal(new[key], value) for key, value in state.items())

    def test_without_weights_it_is_random(self):
        start = new_classifier(NAME, ["cat", "dog"])
        assert (start.image_size, start.model.fc.out_features, start.model.training) == (224, 2, False)

    def test_refused(self, state, checkpoint):
        torch.save(state, checkpoint)
        both = {"checkpoint": checkpoint, "weights": "DEFAULT"}
        assert "one of the two; got both" in message(ValueError, lambda: new_classifier(NAME, ["cat"], **both))
        assert message(ValueError, lambda: new_classifier(NAME, [])).startswith("classes are needed: one name per logit")
        text = message(ValueError, lambda: new_classifier("resnet18", ["cat"], checkpoint=checkpoint))
        assert text.startswith(f"checkpoint '{checkpoint}' does not fit resnet18 for 2 classes: ")


class TestHead:
    @pytest.mark.parametrize(
        ("name", "layer"),
        [
            ("resnet18", "fc"),
            ("mobilenet_v3_small", "classifier.3"),
            ("squeezenet1_1", "classifier.1"),
            ("densenet121", "classifier"),
        ],
    )
    def test_last_layer(self, name, layer):
        with torch.device("meta"):
            model = torchvision.models.get_model(name)
            assert last_layer(model)[0] == layer
            fit_head(model, 5)
            assert str(model) == str(torchvision.models.get_model(name, num_classes=5))

    def test_no_last_layer(self):
        with pytest.raises(ValueError, match="Sequential has no linear and no convolutional layer that could be its last"):
            last_layer(torch.nn.Sequential(torch.nn.Flatten()))

    def test_a_head_that_fits_is_kept(self):
        model = torchvision.models.get_model(NAME, num_classes=5)
        head = model.fc
        fit_head(model, 5)
        assert model.fc is head

    def test_auxiliary_heads_go(self):
        with torch.device("meta"):
            model = torchvision.models.googlenet(init_weights=False)
            fit_head(model, 5)
            assert str(model) == str(torchvision.models.googlenet(num_classes=5, aux_logits=False, init_weights=False))
            assert model.train()(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


class Intruder:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("intruded",)


class TestUnreadableCheckpoint:
    @pytest.mark.parametrize(
        "write", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))], ids=["torch", "pickle"]
    )
    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    def test_code_is_refused_and_not_run(self, checkpoint, tmp_path, monkeypatch, write):
        monkeypatch.chdir(tmp_path)
        write({"fc.weight": torch.zeros(1), "fc.bias": Intruder()}, checkpoint)
        text = message(ValueError, lambda: load(checkpoint))
        assert not Path("intruded").exists()
        assert text.startswith(f"checkpoint '{checkpoint}' cannot be read")
        assert text.endswith("ave it with torch.save(model.state_dict(), path).")
        torch.load(checkpoint, weights_only=False) if write is torch.save else pickle.loads(checkpoint.read_bytes())
        assert Path("intruded").exists(), "the pickle must be able to do harm, or this test shows nothing"

    def test_no_advice_to_run_the_code(self, checkpoint):
        torch.save({"fc.bias": Intruder()}, checkpoint)
        text = message(ValueError, lambda: load(checkpoint))
        assert "weights_only" not in text
        assert "arbitrary code" not in text

    def test_a_whole_model(self, checkpoint):
        torch.save(torchvision.models.get_model(NAME, num_classes=2), checkpoint)
        text = message(ValueError, lambda: load(checkpoint))
        assert "ave it with torch.save(model.state_dict(), path)" in text
        assert "\x1b" not in text, "colour codes have no place in a message"

    @pytest.mark.parametrize("content", [b"", b".", b"hello world", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", "half", "cut"])
    def test_broken_files(self, state, checkpoint, content):
        torch.save(state, checkpoint)
        whole = checkpoint.read_bytes()
        checkpoint.write_bytes({"half": whole[: len(whole) // 2], "cut": whole[:-10]}.get(content, content))
        text = message(ValueError, lambda: load(checkpoint))
        assert text.startswith(f"checkpoint '{checkpoint}' cannot be read")

    def test_missing_file(self, checkpoint):
        text = message(FileNotFoundError, lambda: load(checkpoint))
        assert text == f"checkpoint '{checkpoint}' is not a file."

    @pytest.mark.parametrize(("content", "what"), [(torch.zeros(3), "Tensor"), ([1, 2], "list")])
    def test_no_state_dict(self, checkpoint, content, what):
        torch.save(content, checkpoint)
        text = message(ValueError, lambda: load(checkpoint))
        assert text == f"checkpoint '{checkpoint}' holds {what}; expected a state dict of tensors."

    def test_an_entry_that_is_no_tensor_is_named(self, checkpoint):
        torch.save({"epoch": 3, "state": None}, checkpoint)
        text = message(ValueError, lambda: load(checkpoint))
        assert text == f"entry 'epoch' of checkpoint '{checkpoint}' is int; expected only tensors."


class TestMismatch:
    def test_all_kinds_are_summarised(self, state, checkpoint):
        kept = {name: value for name, value in state.items() if not name.startswith("conv1.")}
        torch.save({**kept, "head.weight": torch.zeros(2), "fc.bias": torch.zeros(5)}, checkpoint)
        missing = [name for name in state if name.startswith("conv1.")]
        text = message(ValueError, lambda: load(checkpoint))
        assert text.startswith(f"checkpoint '{checkpoint}' does not fit {NAME}")
        assert text.endswith(
            f": {len(missing)} missing ({', '.join(missing[:3])}, …); 1 unexpected (head.weight); "
            "1 misshapen (fc.bias (5,) instead of (2,))."
        )

    def test_kinds_without_entries_are_not_mentioned(self, state, checkpoint):
        torch.save({**state, "a": torch.zeros(1)}, checkpoint)
        text = message(ValueError, lambda: load(checkpoint))
        assert text.endswith(": 1 unexpected (a).")
        assert "missing" not in text
        assert "misshapen" not in text

    def test_another_number_of_classes(self, state, checkpoint):
        torch.save(state, checkpoint)
        text = message(ValueError, lambda: load(checkpoint, ["a", "b", "c"]))
        assert text == (
            f"model '{NAME}' has 2 logits, and 3 classes are named ('a', 'b', 'c'); name one class per logit (--classes "
            "FILE), or train a new last layer for these classes: new_classifier, or captum-softcam train."
        )

    def test_another_architecture(self, checkpoint):
        torch.save(nn.Linear(2, 2).state_dict(), checkpoint)
        text = message(ValueError, lambda: load(checkpoint))
        assert re.search(r": \d+ missing \(conv1\.0\.weight, .+, …\); 2 unexpected \(weight, bias\)\.$", text)


class TestArguments:
    def test_unknown_model(self):
        text = message(ValueError, lambda: load_classifier("resnt18", weights="DEFAULT"))
        assert text.startswith("model 'resnt18' is unknown to torchvision. Closest: 'resnet18', ")

    @pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "fcn_resnet50", "r3d_18", "raft_small"])
    def test_models_that_do_not_classify_images_are_unknown(self, name):
        assert "unknown" in message(ValueError, lambda: load_classifier(name, weights="DEFAULT"))

    def test_neither_checkpoint_nor_weights(self):
        text = message(ValueError, lambda: load_classifier(NAME))
        assert text.startswith(f"model '{NAME}' needs ")
        assert "neither" in text
        assert "both" not in text

    def test_both_checkpoint_and_weights(self, checkpoint):
        text = message(ValueError, lambda: load_classifier(NAME, checkpoint=checkpoint, weights="DEFAULT"))
        assert text.startswith(f"model '{NAME}' needs ")
        assert "both" in text
        assert "neither" not in text

    def test_without_names_classes_are_those_of_imagenet_or_numbers(self, state, checkpoint):
        torch.save(state, checkpoint)
        assert load(checkpoint, None).classes == ("0", "1")
        torch.save(torchvision.models.get_model(NAME).state_dict(), checkpoint)
        names = load(checkpoint, None).classes
        assert list(names) == torchvision.models.get_model_weights(NAME).DEFAULT.meta["categories"]

    @pytest.mark.parametrize("weights", ["DEFALT", "", "url", "__class__"])
    def test_unknown_weights(self, weights):
        text = message(ValueError, lambda: load_classifier(NAME, weights=weights))
        assert text == f"weights '{weights}' are unknown for {NAME}; expected DEFAULT or IMAGENET1K_V1."


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of torch.hub, and no network."""

    def fail(*_arguments, **_options):
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", fail)
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    yield tmp_path / "hub"
    torch.hub.set_dir(before)


class TestTorchvisionWeights:
    def test_without_network_the_error_says_what_to_do(self, hub):
        url = torchvision.models.get_model_weights(NAME).DEFAULT.url
        text = message(ConnectionError, lambda: load_classifier(NAME, weights="DEFAULT"))
        start = (
            f"the weights DEFAULT of {NAME} could not be downloaded (<urlopen error no route to host>). Download {url} on a"
        )
        assert text.startswith(start)
        assert f"{hub}/checkpoints" in text, "where to put the file"
        assert text.endswith(", and run again; or pass a checkpoint of your own.")

    @pytest.mark.parametrize(
        "error", [RuntimeError("invalid hash value"), TimeoutError("timed out"), IncompleteRead(b"")], ids=repr
    )
    def test_a_download_that_breaks_off(self, hub, monkeypatch, error):
        def fail(*_arguments, **_options):
            raise error

        monkeypatch.setattr("torch.hub.urlopen", fail)
        text = message(ConnectionError, lambda: load_classifier(NAME, weights="DEFAULT"))
        assert str(hub) in text

    def test_a_broken_file_in_the_cache_is_named(self, hub):
        file = hub / "checkpoints" / Path(torchvision.models.get_model_weights(NAME).DEFAULT.url).name
        file.parent.mkdir(parents=True)
        file.write_bytes(b"hello world")
        text = message((ValueError, OSError), lambda: load_classifier(NAME, weights="DEFAULT"))
        assert str(file) in text

    def test_doing_what_it_says_helps(self, hub):
        torch.manual_seed(0)
        state = torchvision.models.get_model(NAME).state_dict()
        url = torchvision.models.get_model_weights(NAME).DEFAULT.url
        (hub / "checkpoints").mkdir(parents=True)
        torch.save(state, hub / "checkpoints" / Path(url).name)
        classifier = load_classifier(NAME, weights="DEFAULT")
        assert all(torch.equal(value, state[name]) for name, value in classifier.model.state_dict().items())
        assert not classifier.model.training
        assert (classifier.name, len(classifier.classes), classifier.classes[1]) == (NAME, 1000, "goldfish")
        assert {"mean": classifier.mean, "std": classifier.std} == IMAGENET

    @pytest.mark.parametrize(
        ("name", "size", "mean", "std", "fit"),
        [
            ("inception_v3", 299, *IMAGENET.values(), Fit("crop", 299 / 342)),
            ("efficientnet_v2_l", 480, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), Fit("crop", 1.0, "bicubic")),
        ],
    )
    def test_size_colours_and_fit_are_the_presets(self, monkeypatch, name, size, mean, std, fit):
        monkeypatch.setattr("torchvision.models.get_model", lambda *_arguments, **_options: nn.Identity())
        classifier = load_classifier(name, weights="IMAGENET1K_V1")
        assert (classifier.image_size, classifier.mean, classifier.std) == (size, mean, std)
        assert classifier.fit == fit


class TestPrepare:
    """Whatever a picture is held in, the model sees the same square."""

    classifier = Classifier("a", nn.Identity(), ("b",), 8, (0.0, 0.5, 1.0), (1.0, 0.5, 0.25), fit=Fit("crop"))
    bytes_ = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)

    def wanted(self, bytes_):
        image = torch.from_numpy(bytes_.copy()).permute(2, 0, 1) / 255
        return self.classifier.normalize(self.classifier.fit.image(image, 8)[None])

    @pytest.mark.parametrize(
        "held",
        [
            lambda values: values,
            lambda values: values / 255,
            lambda values: values.transpose(2, 0, 1),
            lambda values: torch.from_numpy(values).permute(2, 0, 1),
            lambda values: torch.from_numpy(values).permute(2, 0, 1).double() / 255,
            Image.fromarray,
            lambda values: np.dstack([values, np.zeros((12, 20), dtype=np.uint8)]),
            lambda values: Image.fromarray(values).convert("RGBA"),
            lambda values: values[::-1][::-1],
        ],
    )
    def test_the_same_picture(self, held):
        got = self.classifier.prepare(held(self.bytes_))
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, self.wanted(self.bytes_))

    def test_grey(self):
        grey = self.bytes_[..., 0]
        want = self.wanted(np.dstack([grey] * 3))
        for held in (grey, grey[None], grey[..., None], torch.from_numpy(grey)[None], Image.fromarray(grey)):
            torch.testing.assert_close(self.classifier.prepare(held), want)

    def test_palette_and_orientation(self):
        picture = Image.fromarray(self.bytes_[:, :12]).quantize(4)
        torch.testing.assert_close(self.classifier.prepare(picture), self.wanted(np.asarray(picture.convert("RGB"))))
        turned = Image.fromarray(self.bytes_)
        turned.getexif()[0x0112] = 6  # a quarter turn
        torch.testing.assert_close(self.classifier.prepare(turned), self.wanted(np.rot90(self.bytes_, -1)))

    @pytest.mark.parametrize(
        ("picture", "told"),
        [
            (torch.rand(1, 3, 9, 9), r"1 or 3 channels.*got shape \(1, 3, 9, 9\)"),
            (torch.rand(2, 9, 9), r"1 or 3 channels.*got shape \(2, 9, 9\)"),
            (torch.rand(3, 0, 9), r"1 or 3 channels"),
            (np.zeros((2, 9, 9, 3)), r"1 or 3 channels"),
            ([[[[0.5], [0.5]]]], r"1 or 3 channels.*got shape \(1, 1, 2, 1\)"),
            (torch.full((3, 9, 9), 1.5), r"from 1\.5 to 1\.5\. Pass the picture as it was before"),
            (torch.full((3, 9, 9), torch.nan), r"from nan to nan"),
            (np.full((9, 9), 4000, dtype=np.int32), r"from 4e\+03"),
            (Image.fromarray(np.full((9, 9), 4000, dtype=np.uint16)), r"from 4e\+03"),
        ],
    )
    def test_what_is_refused(self, picture, told):
        with pytest.raises(ValueError, match=told):
            self.classifier.prepare(picture)


class TestNormalize:
    def test_each_channel_by_its_own(self):
        classifier = Classifier("a", nn.Identity(), ("b",), 8, (0.0, 0.5, 1.0), (1.0, 0.5, 0.25))
        images = torch.full((2, 3, 4, 5), 0.75, dtype=torch.float64)
        got = classifier.normalize(images)
        want = torch.tensor([0.75, 0.5, -1.0], dtype=torch.float64).view(3, 1, 1).expand(2, 3, 4, 5)
        assert torch.equal(got, want)
        assert got.dtype == torch.float64
        assert torch.all(images == 0.75), "the user's images stay as they are"

    def test_default_is_to_do_nothing(self):
        images = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
        assert torch.equal(Classifier("a", nn.Identity(), ("b",), 8).normalize(images), images)
