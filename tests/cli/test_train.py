"""``captum-softcam train``: what a run leaves behind, how it goes on, and one sentence for everything that is wrong."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import command
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch._utils import ExceptionWrapper

from captum_softcam import cli
from captum_softcam._files import owned
from captum_softcam.cli.options import in_words
from captum_softcam.data import read_image
from captum_softcam.softcam import Classifier, SoftCamModel

NAME = "shufflenet_v2_x0_5"
QUICK = ["--model", NAME, "--size", "32", "--epochs", "2", "--lr", "0.01", "--workers", "0", "--accelerator", "cpu"]
CLASSES = ("cat", "dog", "eel")


def run(*arguments):
    return command.run("train", *arguments)


def refused(*arguments):
    return command.refused("train", *arguments)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Three classes of five images, told apart by their colour."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for channel, name in enumerate(CLASSES):
        (root / name).mkdir()
        for number in range(5):
            pixels = random.integers(0, 120, (24, 30, 3), dtype=np.uint8)
            pixels[..., channel] += 100
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def images(pictures, here):
    """A copy that a test may spoil."""
    shutil.copytree(pictures, here / "images")
    return ["--images", "images"]


def table(pictures, *rows, header="path,label", path="table.csv"):
    lines = [f"{pictures}/{file},{','.join(rest)}" for file, *rest in rows]
    Path(path).write_text("\n".join((header, *lines)) + "\n")
    return ["--csv", path, "--allow-outside"]


def settings(out="run"):
    return json.loads((Path(out) / "settings.json").read_text())


def rows(out="run"):
    with (Path(out) / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(pictures, tmp_path_factory):
    """One good run, looked at from many sides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("done"))
        result = run("--images", pictures, *QUICK, "--l1", "1e-3", "--class-weights", "balanced", "--out", "deep/run")
        result.folder = Path("deep/run").absolute()
    return result


class TestRun:
    def test_folder_is_whole(self, done):
        assert done.code == 0, done.err
        assert sorted(path.relative_to(done.folder).as_posix() for path in done.folder.rglob("*") if path.is_file()) == [
            "checkpoints/best.ckpt",
            "checkpoints/last.ckpt",
            "checkpoints/previous.ckpt",
            "curves.png",
            "metrics.csv",
            "model.safetensors",
            "settings.json",
            "split.csv",
        ]

    def test_model_is_the_best_one_and_loads_on_its_own(self, done):
        classifier = Classifier.load(done.folder / "model.safetensors")
        assert (classifier.classes, classifier.image_size) == (CLASSES, 32)
        assert classifier.mean == pytest.approx((0.485, 0.456, 0.406))
        assert isinstance(classifier.model, SoftCamModel)
        best = torch.load(done.folder / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
        state = {f"model.{name}": value for name, value in classifier.model.state_dict().items()}
        assert state.keys() == best.keys()
        assert all(torch.equal(value, best[name]) for name, value in state.items())

    def test_settings(self, done):
        found = settings(done.folder)
        assert found["classes"] == list(CLASSES)
        assert found["images"] == {"training": dict.fromkeys(CLASSES, 4), "validation": dict.fromkeys(CLASSES, 1)}
        assert (found["options"]["l1"], found["options"]["seed"], found["options"]["batch_size"]) == (1e-3, 0, 12)
        assert any("RandomResizedCrop" in line for line in found["augmentation"])
        assert set(found["versions"]) == {"captum-softcam", "lightning", "torch", "torchvision"}

    def test_metrics(self, done):
        found = rows(done.folder)
        assert [row["epoch"] for row in found] == ["0", "1"]
        assert {"train_penalty", "val_sparsity", "val_auc"} <= found[0].keys()

    def test_curves(self, done):
        with Image.open(done.folder / "curves.png") as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 2 * 300, "two rows of two panels"

    def test_words(self, done):
        lines = done.out.splitlines()
        choice = r"validation auc: [01]\.\d{3}, validation loss: [\d.]+(, the lowest of the 2 epochs with this auc)?"
        assert re.fullmatch(rf"best epoch: [01] \({choice}\)", lines[-2])
        assert lines[-1] == "Model, settings, metrics and curves: deep/run/"

    def test_weights_are_not_those_of_the_start(self, done):
        torch.manual_seed(0)
        start = torchvision.models.get_model(NAME).conv1[0].weight
        trained = Classifier.load(done.folder / "model.safetensors").model.backbone.conv1[0].weight
        assert 1e-6 < (trained - start).abs().max() < 0.5


class TestVariants:
    def test_black_box(self, images):
        done = run(*images, *QUICK, "--black-box", "--score", "loss", "--out", "run")
        assert done.code == 0, done.err
        classifier = Classifier.load("run/model.safetensors")
        assert not isinstance(classifier.model, SoftCamModel)
        assert classifier.model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
        assert not any("penalty" in name or "sparsity" in name for name in rows()[0])

    def test_output_stride(self, images):
        assert run(*images, *QUICK, "--epochs", "1", "--size", "64", "--output-stride", "16", "--out", "run").code == 0
        model = Classifier.load("run/model.safetensors").model
        assert model.evidence_maps(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 4, 4)

    def test_own_validation_folder(self, images):
        shutil.rmtree("images/eel")
        shutil.copytree("images", "val")
        assert run(*images, "--val-images", "val", *QUICK, "--epochs", "1", "--out", "run").code == 0
        assert settings()["images"] == {"training": {"cat": 5, "dog": 5}, "validation": {"cat": 5, "dog": 5}}

    def test_table_with_splits_and_several_labels(self, pictures):
        entries = [("cat/0.png", "a", "train"), ("cat/1.png", "a|b", "train"), ("dog/0.png", "", "train")]
        entries += [("cat/2.png", "a", "val"), ("dog/1.png", "b", "val"), ("dog/2.png", "", "test")]
        source = table(pictures, *entries, header="path,label,split")
        done = run(*source, "--kind", "multilabel", "--class-weights", "balanced", *QUICK, "--epochs", "1", "--out", "run")
        assert done.code == 0, done.err
        assert settings()["images"] == {"training": {"a": 2, "b": 1}, "validation": {"a": 1, "b": 1}}
        assert Classifier.load("run/model.safetensors").classes == ("a", "b")

    def test_binary_has_one_logit(self, pictures):
        entries = [(f"{name}/{number}.png", label) for name, label in (("cat", "no"), ("dog", "yes")) for number in range(5)]
        done = run(*table(pictures, *entries), "--kind", "binary", *QUICK, "--epochs", "1", "--out", "run")
        assert done.code == 0, done.err
        classifier = Classifier.load("run/model.safetensors")
        assert (classifier.classes, classifier.scores) == (("no", "yes"), "sigmoid")
        assert classifier.model(torch.zeros(2, 3, 32, 32)).shape == (2, 1)

        image = read_image(pictures / "dog/0.png", 32)
        explained = command.run("explain", pictures / "dog/0.png", "--model", "run/model.safetensors", "--methods", "random")
        probability = classifier.model(classifier.normalize(image[None])).sigmoid().item()
        predicted, own = ("yes", probability) if probability > 0.5 else ("no", 1 - probability)
        assert explained.out.splitlines()[0] == f"0.png: {predicted} ({own:.3f})"

    @pytest.mark.parametrize("classes", [3, 7])
    def test_starts_from_a_checkpoint(self, images, classes):
        """With the head, where it has as many outputs as there are classes; otherwise without."""
        torch.manual_seed(1)
        model = torchvision.models.get_model(NAME, num_classes=classes)
        torch.save({"state_dict": model.state_dict()}, "own.pt")
        still = ["--lr", "1e-12", "--weight-decay", "0", "--epochs", "1"]
        done = run(*images, *QUICK, *still, "--checkpoint", "own.pt", "--out", "run")
        assert done.code == 0, done.err
        trained = Classifier.load("run/model.safetensors").model
        assert torch.allclose(trained.backbone.conv5[0].weight, model.conv5[0].weight, atol=1e-6)
        if classes == 3:
            assert torch.allclose(trained.evidence[0].weight.flatten(1), model.fc.weight, atol=1e-6)


class TestResume:
    def interrupted(self, images, monkeypatch, visits):
        """A run that Ctrl-C met when so many images had been read."""
        from captum_softcam.data import labelled

        plain, count = labelled.read_image, [0]

        def read(*arguments, **options):
            count[0] += 1
            if count[0] == visits:
                signal.raise_signal(signal.SIGINT)
            return plain(*arguments, **options)

        monkeypatch.setattr(labelled, "read_image", read)
        return run(*images, *QUICK, "--out", "run")

    @pytest.mark.parametrize("visits", [3, 20], ids=["first epoch", "second epoch"])
    def test_after_ctrl_c(self, images, here, monkeypatch, visits):
        stopped = self.interrupted(images, monkeypatch, visits)
        assert stopped.code == 130
        kept = "1 finished epoch kept" if visits == 20 else "0 finished epochs kept"
        words = f"captum-softcam train: interrupted; {kept}; go on with: captum-softcam train --resume --out run."
        assert stopped.err.splitlines()[-1] == words
        assert Path("run/curves.png").is_file() == (visits == 20), "of the epochs that ended"
        assert run(*images, *QUICK, "--out", "whole").code == 0
        monkeypatch.chdir(here.parent)
        assert run("--resume", "--out", here / "run").code == 0, "from another folder, and with no other option"
        assert rows(here / "run") == rows(here / "whole")
        assert Path(here / "run/model.safetensors").read_bytes() == Path(here / "whole/model.safetensors").read_bytes()

    def test_before_anything_was_saved(self, images):
        """A machine that died between writing the settings and the first checkpoint."""
        assert run(*images, *QUICK, "--out", "run").code == 0
        shutil.rmtree("run/checkpoints")
        assert run("--resume", "--out", "run").code == 0

    def test_before_the_settings_were_written(self, images):
        """A machine that died right after it made the folder: the same command begins there."""
        Path("run").mkdir()
        Path("run/split.csv").write_text("half")
        Path("run/.owner.json").write_text('{"process": 999999, "host": "elsewhere", "since": "1970"}')
        assert refused("--resume", "--out", "run").endswith("so there is no run to resume; leave --resume out.")
        assert run(*images, *QUICK, "--epochs", "1", "--out", "run").code == 0
        assert not list(Path("run").glob(".*"))

    def test_ctrl_c_before_the_first_step_leaves_nothing(self, images, monkeypatch):
        from captum_softcam.softcam import training

        monkeypatch.setattr(training, "_trainer", lambda **_: signal.raise_signal(signal.SIGINT))
        stopped = run(*images, *QUICK, "--out", "run")
        assert (stopped.code, stopped.err.splitlines()[-1]) == (
            130,
            "captum-softcam train: interrupted; nothing was written.",
        )
        assert not Path("run").exists()

    def test_ctrl_c_after_the_end(self, images):
        """Only the file of the model is missing, and the command that is told writes it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Classifier, "save", lambda *_, **__: signal.raise_signal(signal.SIGINT))
            stopped = run(*images, *QUICK, "--out", "a run")
        words = "interrupted; 2 finished epochs kept; go on with: captum-softcam train --resume --out 'a run'."
        assert stopped.err.splitlines()[-1] == f"captum-softcam train: {words}"
        assert run(*shlex.split(words.rpartition("captum-softcam train ")[2][:-1])).code == 0
        assert Classifier.load("a run/model.safetensors").classes == CLASSES

    def test_settings_are_not_written_again(self, images):
        assert run(*images, *QUICK, "--out", "run").code == 0
        before = Path("run/settings.json").stat()
        assert run("--resume", "--out", "run").code == 0
        after = Path("run/settings.json").stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda: Path("images/cat/9.png").write_bytes(Path("images/cat/1.png").read_bytes()), r"1 new \(.*cat/9\.png\)"),
            (lambda: Path("images/dog/3.png").unlink(), r"1 missing \(.*dog/3\.png\)"),
            (lambda: Path("images/dog/3.png").rename("images/dog/7.png"), r"1 missing \(.*3\.png\), 1 new \(.*7\.png\)"),
            (lambda: Path("images/dog/3.png").rename("images/cat/8.png"), r"1 missing \(.*3\.png\), 1 new \(.*8\.png\)"),
        ],
        ids=["more", "less", "renamed", "another class"],
    )
    def test_other_images(self, images, change, words):
        """They would change the split: images that validated would be trained on."""
        assert run(*images, *QUICK, "--out", "run").code == 0
        change()
        sentence = refused("--resume", "--out", "run")
        assert re.search(rf"not those that the run was started with: {words}\. Some would change from one side", sentence)
        assert sentence.endswith("put them back as they were, or train anew with another --out.")

    def test_a_table_that_splits_otherwise(self, pictures):
        entries = [
            (f"{name}/{number}.png", name, "val" if number > 3 else "train") for name in CLASSES for number in range(5)
        ]
        source = table(pictures, *entries, header="path,label,split")
        assert run(*source, "--allow-outside", *QUICK, "--epochs", "1", "--out", "run").code == 0
        entries[0], entries[4] = (*entries[0][:2], "val"), (*entries[4][:2], "train")
        table(pictures, *entries, header="path,label,split")
        assert re.search(
            r"2 with another label or on the other side \(.*cat/0\.png.*\)", refused("--resume", "--out", "run")
        )
        Path("run/split.csv").write_bytes(b"\xff")
        assert "'run/split.csv' cannot be read, which would tell" in refused("--resume", "--out", "run")

    def test_the_split_is_a_table_to_train_on(self, images):
        assert run(*images, *QUICK, "--epochs", "1", "--out", "run").code == 0
        done = run("--csv", "run/split.csv", "--allow-outside", *QUICK, "--epochs", "1", "--out", "again")
        assert done.code == 0, done.err
        assert settings("again")["split"] == settings("run")["split"]
        assert Path("again/model.safetensors").read_bytes() == Path("run/model.safetensors").read_bytes()

    @pytest.mark.parametrize(
        "content",
        ["", "{}", "[]", "null", '{"options": {}, "split": {}}', '{"options": {"model": "resn', "[" * 100_000, "\0\xff"],
        ids=["empty", "object", "list", "null", "hollow", "half a line", "deep", "bytes"],
    )
    def test_damaged_settings(self, content):
        Path("run").mkdir()
        Path("run/settings.json").write_bytes(content.encode("latin-1"))
        sentence = refused("--resume", "--out", "run")
        assert (
            sentence == "'run/settings.json' is missing or damaged; put a copy of it back, or train anew with another --out."
        )

    def test_missing_settings(self, done):
        shutil.copytree(done.folder, "run")
        Path("run/settings.json").unlink()
        assert refused("--resume", "--out", "run").startswith("'run/settings.json' is missing or damaged; put a copy of it")

    @pytest.mark.parametrize(
        ("option", "value", "flag"),
        [
            ("epochs", "many", "--epochs 'many'"),
            ("epochs", None, "--epochs None"),
            ("lr", {"a": 1}, "--lr {'a': 1}"),
            ("black_box", "yes", "--black-box 'yes'"),
            ("score", "f1", "--score 'f1'"),
            ("vertical_flips", [], "--vertical-flips []"),
        ],
    )
    def test_a_damaged_option(self, done, option, value, flag):
        shutil.copytree(done.folder, "run")
        content = settings()
        content["options"][option] = value
        Path("run/settings.json").write_text(json.dumps(content))
        assert refused("--resume", "--out", "run").startswith(f"the run was started with {flag}, which is not a valid value")

    def test_a_full_disk(self, images):
        from captum_softcam.softcam import checkpoints

        plain, count = checkpoints.replacing, [0]

        def replacing(path):
            count[0] += 1
            if count[0] == 2:
                raise OSError(28, f"'{path}' cannot be written (No space left on device); make room there.")
            return plain(path)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoints, "replacing", replacing)
            stopped = run(*images, *QUICK, "--out", "run")
        assert stopped.code == 2
        words = "last.ckpt' cannot be written (No space left on device); make room there. What is done is kept; go on with: "
        assert stopped.err.splitlines()[-1].endswith(f"{words}captum-softcam train --resume --out run.")
        assert run("--resume", "--out", "run").code == 0

    @pytest.mark.skipif(os.name != "posix", reason="limits as POSIX has them")
    def test_a_limit_on_the_size_of_files(self, images):
        """As ``ulimit -f`` sets it: too little for a checkpoint, and nothing is left that would be in the way."""
        code = (
            "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
            "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
            "from captum_softcam.cli import main; main(sys.argv[1:])"
        )
        command = [sys.executable, "-c", code, "train", *images, *QUICK, "--out", "run"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONUTF8": "1"})
        assert done.returncode == 2, done.stderr
        assert re.search(r"last\.ckpt' cannot be written \(File too large\); raise the limit", done.stderr.splitlines()[-1])
        assert run(*images, *QUICK, "--epochs", "1", "--out", "run").code == 0, "its place is free"

    def test_two_at_once(self, images):
        Path("run").mkdir()
        with owned(Path("run")):
            assert re.match(r"'run' is in use by process \d+.*; wait until", refused(*images, *QUICK, "--out", "run"))

    def test_the_same_options_may_be_given_again(self, images):
        assert run(*images, *QUICK, "--out", "run").code == 0
        assert run(*images, *QUICK, "--resume", "--out", "run").code == 0

    def test_other_options_may_not(self, images):
        assert run(*images, *QUICK, "--out", "run").code == 0
        sentence = refused("--resume", "--lr", "0.5", "--out", "run")
        assert sentence == "--lr 0.5 is not what the run was started with (0.01); leave it out."

    def test_nothing_to_resume(self):
        sentence = refused("--resume", "--out", "run")
        assert sentence == "'run/settings.json' does not exist, so there is no run to resume; leave --resume out."


class TestRefused:
    def test_no_images(self):
        assert refused("--out", "run") == "--images DIR or --csv FILE is needed: the images to train on."

    def test_a_folder_that_is_taken(self, images):
        Path("run").mkdir()
        Path("run/mine.txt").touch()
        assert refused(*images, "--out", "run") == "'run' holds other files (mine.txt); choose another --out."
        Path("run/settings.json").touch()
        assert refused(*images, "--out", "run").startswith("'run' holds a training already; go on with --resume, or choose")
        Path("file").touch()
        assert refused(*images, "--out", "file").startswith("'file' exists already and is not overwritten")

    @pytest.mark.parametrize(
        "option", [["--l1", "0.1"], ["--l2", "0.1"], ["--output-stride", "16"]], ids=lambda option: option[0]
    )
    def test_penalty_of_a_black_box(self, images, option):
        sentence = refused(*images, "--black-box", *option, "--out", "run")
        assert sentence == "--black-box has no evidence; leave --l1, --l2 and --output-stride out."

    @pytest.mark.parametrize(("name", "words"), [("resnet51", "Closest: 'resnet"), ("lesions_softcam", "trained already")])
    def test_model(self, images, name, words):
        assert words in refused(*images, "--model", name, "--out", "run")

    def test_model_that_does_not_convert(self, images):
        assert refused(*images, *QUICK, "--model", "vit_b_32", "--out", "run")

    def test_several_labels_in_folders(self, images):
        assert "need a CSV file" in refused(*images, "--kind", "multilabel", "--out", "run")
        sentence = refused("--csv", "t.csv", "--val-images", "v", "--kind", "multilabel", "--out", "run")
        assert sentence == "--val-images has one label per image; for several, use --csv with a column split."

    def test_three_classes_for_binary(self, images):
        assert refused(*images, "--kind", "binary", "--out", "run").startswith("binary needs two classes; got 3")

    def test_one_class(self, images):
        shutil.rmtree("images/cat")
        shutil.rmtree("images/dog")
        assert refused(*images, *QUICK, "--out", "run") == "multiclass needs two classes or more; got eel."

    def test_a_class_without_training_images(self, images):
        Path("images/ant").mkdir()
        sentence = refused(*images, *QUICK, "--out", "run")
        assert sentence == "class 'ant' has no training images; add some, or remove the class."

    def test_unknown_class_in_the_validation_folder(self, images):
        shutil.copytree("images", "val")
        Path("val/cat").rename("val/cow")
        sentence = refused(*images, "--val-images", "val", *QUICK, "--out", "run")
        assert sentence.startswith("folder 'val/cow' is none of the 3 classes; name the folders after the classes")

    def test_table(self, pictures):
        assert "expected path, label" in refused(*table(pictures, ("cat/0.png", "a"), header="file,label"), "--out", "run")
        assert refused("--csv", "nowhere.csv", "--out", "run") == "table 'nowhere.csv' is not a file."

    def test_checkpoint(self, images):
        Path("own.pt").write_bytes(b"half")
        assert refused(*images, *QUICK, "--checkpoint", "own.pt", "--out", "run").startswith(
            "checkpoint 'own.pt' cannot be read"
        )
        assert refused(*images, *QUICK, "--checkpoint", "no.pt", "--out", "run") == "checkpoint 'no.pt' is not a file."

    def test_weights(self, images):
        assert refused(*images, *QUICK, "--weights", "DEFALT", "--out", "run").startswith("weights 'DEFALT' are unknown")

    def test_accelerator(self, images):
        sentence = refused(*images, *QUICK, "--accelerator", "abacus", "--out", "run")
        assert sentence.startswith("these settings cannot be trained with: ")

    def test_precision(self, images):
        assert "'17-mixed'" in refused(*images, *QUICK, "--precision", "17-mixed", "--out", "run")

    @pytest.mark.parametrize(
        ("option", "words"),
        [
            (["--l1", "-1"], "argument --l1: '-1' is not a number of 0 or more"),
            (["--lr", "nan"], "argument --lr: 'nan' is not a number of 0 or more"),
            (["--workers", "-1"], "argument --workers: '-1' is not a whole number of 0 or more"),
            (["--epochs", "0"], "argument --epochs: '0' is not a whole number above 0"),
            (["--output-stride", "4"], "argument --output-stride: invalid choice: 4"),
            (["--csv", "x.csv"], "argument --csv: not allowed with argument --images"),
        ],
    )
    def test_numbers_and_choices(self, images, option, words):
        done = run(*images, "--out", "run", *option)
        assert done.code == 2
        assert words in done.err
        assert not Path("run").exists()

    def test_unreadable_images_are_left_out(self, images):
        """Before the split, and for good: a repaired image would move others between training and validation."""
        path = Path("images/cat/2.png")
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])  # its header is whole
        done = run(*images, *QUICK, "--strict", "--out", "run")
        assert done.code == 2
        words = rf"1 of 15 samples cannot be used: image '{path}' cannot be read \(.+\); repair or remove it\.\n"
        assert re.fullmatch(f"captum-softcam train: {words}", done.err)
        assert not Path("run").exists()
        done = run(*images, *QUICK, "--out", "run")
        assert done.code == 0, done.err
        assert f"1 sample cannot be used: image '{path}' cannot be read" in done.out
        assert list(settings()["left_out"]) == [str(path.absolute())]
        assert str(path) not in Path("run/split.csv").read_text()
        path.write_bytes(whole)
        done = run("--resume", "--out", "run")
        assert done.code == 0, done.err
        assert "cannot be used" not in done.out
        Path("images/cat/1.png").write_text("no picture")
        done = run("--resume", "--out", "run")
        assert done.code == 2
        assert "the images are not those that the run was started with: 1 missing" in done.err

    def test_corrupt_image_in_a_process_that_loads(self):
        """Torch wraps the error into its traceback; the end of such a process would take five seconds here."""
        try:
            raise ValueError("image 'a: b.png' cannot be read.")
        except ValueError:
            wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
        with pytest.raises(ValueError, match="Original Traceback") as raised:
            wrapped.reraise()
        assert in_words(raised.value) == "image 'a: b.png' cannot be read."

    def test_loss_that_is_not_finite(self, images):
        done = run(*images, *QUICK, "--lr", "1e30", "--epochs", "3", "--out", "run")
        assert done.code == 2
        assert re.search(r"train: the loss is (nan|inf) in epoch \d, step \d; try a smaller learning rate", done.err)

    def test_without_lightning(self, images):
        code = "import sys; sys.modules['lightning'] = None; from captum_softcam.cli import main; main(sys.argv[1:])"
        done = subprocess.run(
            [sys.executable, "-c", code, "train", *images, "--out", "run"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        assert done.returncode == 2
        assert (
            done.stderr == "captum-softcam train: SoftCamTask needs lightning; run: pip install 'captum-softcam[train]'.\n"
        )


def test_help_names_every_option():
    done = run("--help")
    assert done.code == 0
    parser = cli.make_parser()._subparsers._group_actions[0].choices["train"]
    options = [action for action in parser._actions if action.option_strings]
    assert len(options) > 25
    assert all(action.option_strings[-1] in done.out and action.help for action in options)
