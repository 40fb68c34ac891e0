"""The command line, in this process: what good runs leave behind, and one sentence for everything that is wrong."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from command import run
from PIL import Image

from captum_softcam import cli
from captum_softcam.attr import METHODS
from captum_softcam.cli import inputs, options
from captum_softcam.evaluation import CONTROLS, Comparison
from captum_softcam.softcam import EMBEDDED

NAME = "shufflenet_v2_x0_5"
EMBEDDED_RUN = [
    "compare",
    "--samples",
    "4",
    "--methods",
    "soft_cam,random",
    "--metrics",
    "pointing_game,region_perturbation",
]


def refused(*arguments):
    """The sentence that a run is refused with; nothing may be left in the working directory."""
    before = sorted(Path().rglob("*"))
    done = run(*arguments)
    assert done.code == 2
    lines = [line for line in done.err.splitlines() if line.strip() and "%|" not in line]  # less the progress bar
    assert len(lines) == 1, done.err
    start = f"captum-softcam {arguments[0]}: "
    assert lines[0].startswith(start)
    assert lines[0].endswith(".")
    assert "Traceback" not in done.err
    assert "Errno" not in done.err, "that is no sentence"
    assert "Scores per sample" not in done.out
    assert sorted(Path().rglob("*")) == before
    return lines[0].removeprefix(start)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A user's folder: two classes of two images, masks, a checkpoint that fits and some that do not."""
    root = tmp_path_factory.mktemp("user")
    random = np.random.default_rng(0)
    mask = np.zeros((48, 40), np.uint8)
    mask[20:30, 10:30] = 255
    for name in ("cat/1", "cat/2", "dog/1", "dog/2"):
        for folder, pixels in (("images", random.integers(0, 256, (48, 40, 3), dtype=np.uint8)), ("masks", mask)):
            path = root / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    torch.manual_seed(0)
    for name, classes in (("fits", 2), ("three", 3)):
        model = torchvision.models.get_model(NAME, num_classes=classes)
        torch.nn.init.normal_(model.fc.weight)
        torch.save(model.state_dict(), root / f"{name}.pt")
    torch.save(torch.nn.Linear(3, 2).state_dict(), root / "linear.pt")
    return root


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working directory, and a small held-out split."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "_ACCURACY_SAMPLES", 8)
    return tmp_path


@pytest.fixture
def user(files, here):
    """Options of the user's own model and images; the images are a copy that a test may spoil."""
    for name in ("images", "masks"):
        shutil.copytree(files / name, here / name)
    return ["--model", NAME, "--checkpoint", files / "fits.pt", "--images", "images"]


@pytest.fixture
def image(files):
    return files / "images/cat/1.png"


class TestRefusedWithEmbeddedModel:
    def test_model(self):
        sentence = refused("compare", "--model", "lesion_softcam")
        assert sentence.startswith("model 'lesion_softcam' is unknown to torchvision. Closest: ")
        assert "'lesions_softcam'" in sentence, "the embedded models are models too"

    def test_layer(self):
        sentence = refused("compare", "--samples", "4", "--layer", "backbon")
        assert re.fullmatch(r"layer 'backbon' is not in SoftCamModel\. Closest: 'backbone'.*\.", sentence)

    def test_method(self):
        sentence = refused("compare", "--samples", "4", "--methods", "soft_cam,grad_cm")
        assert sentence == "method 'grad_cm' is unknown. Closest: 'grad_cam', 'random'."

    def test_metric(self):
        sentence = refused("compare", "--samples", "4", "--metrics", "pointing")
        assert sentence.startswith("metric 'pointing' is unknown. Closest: 'pointing_game'")

    def test_layer_without_spatial_map(self):
        sentence = refused("compare", "--model", "lesions_black_box", "--samples", "4", "--layer", "classifier")
        assert sentence.startswith("layer 'classifier' gives (1, 4); ")
        assert sentence.endswith("The last spatial layer is 'features' (1, 1280, 10, 10).")

    def test_soft_cam_without_evidence(self):
        sentence = refused("compare", "--model", "lesions_black_box", "--samples", "4", "--methods", "soft_cam")
        assert sentence.startswith("method 'soft_cam' needs a SoftCAM model; got MobileNetV2.")

    @pytest.mark.parametrize("option", [["--checkpoint", "x.pt"], ["--weights", "DEFAULT"]], ids=lambda option: option[0])
    @pytest.mark.parametrize("command", ["compare", "explain"])
    def test_weights_of_its_own(self, command, option, image):
        sentence = refused(command, *option, *([image, "--model", "lesions_softcam"] if command == "explain" else []))
        assert sentence == (
            "model 'lesions_softcam' brings its own weights; leave checkpoint (--checkpoint) and weights (--weights) out."
        )

    def test_classes_of_its_own(self, image):
        sentence = refused("explain", image, "--classes", "a,b,c")
        assert sentence.startswith("model 'lesions_softcam' has 4 logits, and 3 classes are named ('a', 'b', 'c'); ")

    def test_masks_without_images(self, files):
        sentence = refused("compare", "--masks", files / "masks")
        assert sentence == "--masks needs --images: the folder of the images that the masks belong to."

    def test_folders_that_are_no_lesions(self, files):
        sentence = refused("compare", "--images", files / "images")
        assert sentence.startswith(f"folder '{files}/images/cat' is none of the 4 classes")

    @pytest.mark.parametrize("seed", ["-1", str(2**32)])
    def test_seed_out_of_range(self, seed):
        done = run(*EMBEDDED_RUN, "--seed", seed, "--out", "X")
        assert done.code == 2
        assert "--seed" in done.err
        assert not Path("X").exists()

    @pytest.mark.parametrize(
        ("option", "sentence"),
        [
            (["--samples", "0"], "argument --samples: '0' is not a whole number above 0"),
            (["--samples", "²"], "argument --samples: '²' is not a whole number above 0"),
            (["--batch-size", "-3"], "argument --batch-size: '-3' is not a whole number above 0"),
            (["--methods", ","], "argument --methods: expected a list of names separated by commas"),
            (["--explain", "false"], "argument --explain: invalid choice: 'false'"),
        ],
    )
    def test_numbers_and_lists(self, option, sentence):
        done = run("compare", *option)
        assert done.code == 2
        assert f"captum-softcam compare: error: {sentence}" in done.err
        assert not list(Path().iterdir())

    @pytest.mark.parametrize("arguments", [[], ["compere"], ["explain"]])
    def test_no_command_or_image(self, arguments):
        done = run(*arguments)
        assert done.code == 2
        assert done.err.startswith("usage: captum-softcam")


class TestRefusedWithOwnModel:
    def test_model(self, user):
        user[1] = "shufflenet_v2"
        assert refused("compare", *user).startswith("model 'shufflenet_v2' is unknown to torchvision. Closest: 'shufflenet")

    def test_layer_without_spatial_map(self, user):
        sentence = refused("compare", *user, "--layer", "fc", "--methods", "grad_cam")
        assert sentence.endswith("The last spatial layer is 'conv5' (1, 1024, 7, 7).")

    def test_without_images(self, files):
        options = ["--model", NAME, "--checkpoint", files / "fits.pt", "--classes", "cat,dog"]
        sentence = refused("compare", *options)
        assert sentence == f"model '{NAME}' needs --images: the embedded lesions are for the embedded models."

    @pytest.mark.usefixtures("user")
    def test_without_checkpoint_and_weights(self):
        assert refused("compare", "--model", NAME, "--images", "images").startswith(f"model '{NAME}' needs ")

    def test_with_checkpoint_and_weights(self, user):
        assert refused("compare", *user, "--weights", "DEFAULT").startswith(f"model '{NAME}' needs ")

    @pytest.mark.usefixtures("user")
    def test_unknown_weights(self):
        sentence = refused("compare", "--model", NAME, "--images", "images", "--weights", "DEFALT")
        assert sentence == f"weights 'DEFALT' are unknown for {NAME}; expected DEFAULT or IMAGENET1K_V1."

    def test_checkpoint_that_does_not_fit(self, user, files):
        user[3] = files / "linear.pt"
        sentence = refused("compare", *user)
        assert sentence.startswith(f"checkpoint '{files}/linear.pt' does not fit {NAME}")
        assert "2 unexpected (weight, bias)" in sentence

    def test_checkpoint_missing(self, user):
        user[3] = "nowhere.pt"
        assert refused("compare", *user) == "checkpoint 'nowhere.pt' is not a file."

    def test_checkpoint_of_another_number_of_classes(self, user, files):
        user[3] = files / "three.pt"
        sentence = refused("compare", *user)
        assert sentence.startswith(f"model '{NAME}' has 3 classes without names, the data 2 (cat, dog); name all classes")
        sentence = refused("compare", *user, "--classes", "cat,dog")
        assert "has 3 logits, and 2 classes are named ('cat', 'dog'); name one class per logit" in sentence

    def test_class_folder_out_of_range(self, user):
        Path("images/dog").rename("images/2")
        sentence = refused("compare", *user, "--classes", "cat,dog")
        assert sentence.startswith("folder 'images/2' is none of the 2 classes")

    def test_classes_without_names_are_numbers(self, files, image):
        done = run("explain", image, "--model", NAME, "--checkpoint", files / "fits.pt", "--methods", "random")
        assert re.match(r"1\.png: [01] \(", done.out)


class TestRefusedData:
    @pytest.fixture
    def compare(self, user):
        return ["compare", *user, "--methods", "random", "--metrics", "region_perturbation", "--batch-size", "2"]

    def test_no_such_folder(self, compare):
        shutil.rmtree("images")
        compare += ["--classes", "cat,dog"]
        assert refused(*compare) == "image folder 'images' is not a directory."

    def test_unreadable_image(self, compare):
        Path("images/dog/2.png").write_text("hello")
        words = "1 of 4 samples cannot be used: image 'images/dog/2.png' cannot be read ("
        assert refused(*compare, "--strict").startswith(words)

    def test_mask_of_another_size(self, compare):
        Image.fromarray(np.full((40, 48), 255, np.uint8)).save("masks/dog/2.png")
        sentence = refused(*compare, "--masks", "masks", "--strict")
        assert "mask 'masks/dog/2.png' is 48x40 pixels, its image 'images/dog/2.png' 40x48;" in sentence

    def test_no_mask_matches(self, compare):
        Path("masks/cat").rename("masks/ant")
        Path("masks/dog").rename("masks/eel")
        assert refused(*compare, "--masks", "masks").startswith("mask folder 'masks' has no mask for any image;")

    def test_localisation_without_masks(self, compare):
        compare[compare.index("region_perturbation")] = "region_perturbation,pointing_game"
        sentence = refused(*compare)
        assert "pointing_game" in sentence
        assert "--masks" in sentence


class TestOut:
    @pytest.mark.parametrize("kind", ["folder", "empty folder", "file"])
    def test_compare_never_overwrites(self, here, kind):
        path = here / "X"
        if kind == "file":
            path.write_text("mine")
        else:
            path.mkdir()
        if kind == "folder":
            (path / "scores.csv").write_text("mine")
        assert refused(*EMBEDDED_RUN, "--out", "X") == (
            "'X' exists already and is not overwritten; choose another --out or move it away."
        )
        mine = {"folder": path / "scores.csv", "file": path}.get(kind)
        assert mine is None or mine.read_text() == "mine"

    def test_compare_below_a_file(self):
        Path("file").write_text("mine")
        assert "'file'" in refused(*EMBEDDED_RUN, "--out", "file/X")

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("disk on fire.")], ids=repr)
    def test_what_is_done_is_kept_when_writing_fails(self, monkeypatch, error):
        def fail(*_arguments):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("captum_softcam.evaluation.Comparison.save", fail)
            done = run(*EMBEDDED_RUN, "--out", "X")
        assert done.code == 2
        sentence = done.err.splitlines()[-1].removeprefix("captum-softcam compare: ")
        assert sentence.startswith((error.strerror or str(error)).rstrip("."))
        assert sentence.endswith(". What is done is kept; go on with: captum-softcam compare --resume --out X")
        assert "None" not in sentence, "such an error knows no file"
        assert run("compare", "--resume", "--out", "X").code == 0

    def test_interrupted(self, monkeypatch):
        def interrupt(*_arguments, **_options):
            raise KeyboardInterrupt

        monkeypatch.setattr("captum_softcam.evaluation.compare_methods", interrupt)
        done = run(*EMBEDDED_RUN, "--out", "X")
        assert done.code == 130
        assert done.err == "captum-softcam compare: interrupted; nothing was written.\n"
        assert not Path("X").exists()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One good run of the embedded model, looked at from many sides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        patch.setattr(inputs, "_ACCURACY_SAMPLES", 8)
        result = run(*EMBEDDED_RUN, "--out", "deep/X")
        result.folder = Path("deep/X").absolute()
    return result


class TestCompareEmbedded:
    def test_folder_is_whole(self, done):
        assert done.code == 0, done.err
        assert sorted(path.name for path in done.folder.iterdir()) == [
            "costs.csv",
            "examples.npz",
            "manifest.json",
            "panel.png",
            "probes.csv",
            "samples.csv",
            "scores.csv",
            "table.txt",
        ]
        assert [path.name for path in done.folder.parent.iterdir()] == ["X"], "no draft is left beside it"

    def test_scores(self, done):
        scores = pd.read_csv(done.folder / "scores.csv")
        assert {"sample", "method", "metric", "score"} <= set(scores.columns)
        assert len(scores) == 4 * 2 * 2
        assert not scores.duplicated(["sample", "method", "metric"]).any()
        assert set(scores["method"]) == {"soft_cam", "random"}
        assert set(scores["metric"]) == {"pointing_game", "region_perturbation"}
        undefined = scores[scores["score"].isna()]
        assert set(undefined["sample"]) == {"test-0-000000"}, "the healthy sample has nothing to point at"
        assert set(undefined["metric"]) == {"pointing_game"}

    def test_manifest(self, done):
        manifest = json.loads((done.folder / "manifest.json").read_text(encoding="utf-8"))
        assert manifest["model"] == "lesions_softcam"
        assert manifest["layer"] == "backbone"
        assert list(manifest["methods"]) == ["soft_cam", "random"]
        assert list(manifest["metrics"]) == ["pointing_game", "region_perturbation"]
        assert (manifest["samples"], manifest["samples_with_mask"], manifest["seed"]) == (4, 3, 0)
        assert manifest["versions"]["torch"] == metadata.version("torch")
        assert "RetinalLesions" in manifest["data"]["images"]
        assert "higher_is_better" in manifest["metrics"]["pointing_game"]
        assert list(pd.read_csv(done.folder / "costs.csv")["method"]) == ["soft_cam", "random"]

    def test_panel(self, done):
        with Image.open(done.folder / "panel.png") as panel:
            assert min(panel.size) > 300
            assert len(panel.convert("RGB").getcolors(1 << 24)) > 1000, "photographs and maps have many colours"

    def test_table_is_printed_and_kept(self, done):
        kept = (done.folder / "table.txt").read_text(encoding="utf-8")
        for text in (done.out, kept):
            assert "Pointing game ↑" in text
            assert "perturbation ↑" in text, "its column is too narrow for the whole title"
            assert re.search(r"soft_cam\s+-?\d\.\d{3}", text)
            assert re.search(r"\[-?\d\.\d{3}, -?\d\.\d{3}\]", text)
            assert "cost" in text
            assert "*" in text
            assert "localisation: over the 3 samples with a mask." in text

    def test_a_table_for_a_program(self, done):
        """It alone is on stdout; what the command says besides goes to stderr."""
        found = Comparison.load(done.folder)
        for form, expected in (("csv", found.to_csv()), ("markdown", found.to_markdown())):
            again = run("compare", "--resume", "--out", done.folder, "--format", form)
            assert (again.code, again.out) == (0, expected)
            assert "Scores per sample, settings, table and picture:" in again.err

    def test_accuracy_of_both_models_and_the_folder_are_printed(self, done):
        for name in EMBEDDED:
            assert re.search(
                rf"^{name}: held-out accuracy [01]\.\d{{3}} \[[01]\.\d{{3}}, [01]\.\d{{3}}\] on 8", done.out, re.M
            )
        assert done.out.splitlines()[-1].endswith(" deep/X/")

    def test_progress_names_method_and_metric(self, done):
        assert re.search(r"random: region_perturbation: +\d+%", done.err)
        assert "100%" in done.err

    def test_the_same_run_gives_the_same_scores(self, done):
        assert run(*EMBEDDED_RUN, "--out", "Y").code == 0
        assert Path("Y/scores.csv").read_bytes() == (done.folder / "scores.csv").read_bytes()


class TestCompareOptions:
    def test_default_folder_is_a_new_one_each_time(self, here):
        names = []
        for _ in range(2):
            done = run("compare", "--samples", "2", "--methods", "random", "--metrics", "pointing_game")
            assert done.code == 0, done.err
            names.append(done.out.splitlines()[-1].split()[-1].rstrip("/"))
        assert len(set(names)) == 2
        assert sorted(names) == sorted(path.name for path in here.iterdir())
        assert all((here / name / "scores.csv").is_file() for name in names)

    def test_default_folder_within_one_second(self, monkeypatch):
        class Stopped:
            @staticmethod
            def now():
                return Stopped()

            def __format__(self, _spec):
                return "now"

        monkeypatch.setattr(options, "datetime", Stopped)
        for name in ("comparison-now", "comparison-now-2", "comparison-now-3"):
            assert options.new_name("comparison") == Path(name)
            Path(name).mkdir()

    def test_a_name_given_twice_counts_once(self):
        options = ["--samples", "2", "--methods", "random,random", "--metrics", "pointing_game,pointing_game"]
        done = run("compare", *options, "--out", "X")
        assert done.code == 0, done.err
        assert len(pd.read_csv("X/scores.csv")) == 2

    def test_predicted_class_is_explained(self, user):
        options = [*user, "--methods", "random", "--metrics", "region_perturbation", "--out", "X", "--explain", "predicted"]
        assert run("compare", *options).code == 0
        scores = pd.read_csv("X/scores.csv")
        assert (scores["target"] == scores["prediction"]).all()
        assert (scores["label"] != scores["prediction"]).any(), "the test needs a wrong prediction"


class TestCompareOwn:
    def test_with_masks(self, user, files):
        options = ["--masks", "masks", "--methods", "grad_cam,random", "--metrics", "pointing_game,region_perturbation"]
        done = run("compare", *user, *options, "--layer", "stage4", "--out", "X")
        assert done.code == 0, done.err
        scores = pd.read_csv("X/scores.csv")
        assert list(scores["sample"].unique()) == ["cat/1.png", "dog/1.png", "cat/2.png", "dog/2.png"]
        assert scores["score"].notna().all()
        assert dict(zip(scores["sample"], scores["label"], strict=True)) == {
            "cat/1.png": 0,
            "cat/2.png": 0,
            "dog/1.png": 1,
            "dog/2.png": 1,
        }
        manifest = json.loads(Path("X/manifest.json").read_text(encoding="utf-8"))
        assert (manifest["model"], manifest["layer"], manifest["classes"]) == (NAME, "stage4", ["cat", "dog"])
        assert manifest["checkpoint"] == str(files / "fits.pt")
        found = {"files": 4, "samples": 4, "looked_at": 4, "images": 4, "masks": 4, "masks_used": 4, "with_region": 4}
        assert manifest["data"] == {"images": "images", "masks": "masks", "found": {**found, "black_masks": 0}}
        assert done.out.startswith("4 samples in 2 classes: cat 2, dog 2.\n4 of 4 masks used: 4 samples have a region.\n")
        assert "held-out" not in done.out, "the embedded split says nothing about the user's model"
        assert "left out" not in done.out

    def test_without_masks_localisation_is_left_out(self, user):
        done = run("compare", *user, "--samples", "3", "--methods", "random", "--out", "X")
        assert done.code == 0, done.err
        assert "No masks: the localisation metrics are left out." in done.out
        scores = pd.read_csv("X/scores.csv")
        faithful = {"deletion", "insertion", "region_perturbation", "faithfulness_correlation"}
        assert set(scores["metric"]) == {*faithful, "quantus:Complexity"}
        assert scores["sample"].nunique() == 3
        assert "Pointing" not in done.out

    def test_checkpoint_decides(self, user, files):
        """The weights of the file are those that predict."""
        model = torchvision.models.get_model(NAME, num_classes=2)
        state = {**torch.load(files / "fits.pt"), "fc.weight": torch.zeros(2, 1024), "fc.bias": torch.tensor([0.0, 9.0])}
        model.load_state_dict(state)
        torch.save({"state_dict": state}, "dogs.pt")
        user[3] = "dogs.pt"
        done = run("compare", *user, "--methods", "random", "--metrics", "region_perturbation", "--out", "X")
        assert done.code == 0, done.err
        assert set(pd.read_csv("X/scores.csv")["prediction"]) == {1}


class TestLayers:
    def test_table(self):
        done = run("layers", "--model", NAME, "--size", "96")
        assert done.code == 0, done.err
        table = done.out.split("─\n")[1]
        names = [line.split()[0] for line in table.splitlines() if not line.startswith(" ")]
        assert names == ["conv1", "stage2", "stage3", "conv5*"]
        assert "  3x3  " in done.out

    @pytest.mark.parametrize("columns", [60, 80, 200])
    def test_it_fits(self, columns, monkeypatch):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = run("layers", "--model", NAME, "--size", "96").out.splitlines()
        assert max(map(len, lines)) <= columns

    def test_as_csv_and_markdown(self):
        done = run("layers", "--model", NAME, "--size", "96", "--format", "csv")
        *others, chosen = csv.DictReader(StringIO(done.out))
        assert [row["layer"] for row in others] == ["conv1", "stage2", "stage3"]
        assert {row["recommended"] for row in others} == {"0"}
        assert (chosen["layer"], chosen["grid"], chosen["recommended"], chosen["passes"]) == ("conv5", "3x3", "1", "0")
        lines = run("layers", "--model", NAME, "--size", "96", "--format", "markdown").out.splitlines()
        assert lines[0] == "| layer | shape | grid | stride | passes | reason |"
        assert lines[5].startswith(r"| conv5\* | 1x1024x3x3 | 3x3 | 32x32 | 0 | ")

    def test_embedded_model(self):
        assert "backbone*" in run("layers").out  # the default of compare and explain, too

    def test_a_size_that_does_not_fit(self):
        sentence = refused("layers", "--model", "vit_b_16", "--size", "160")
        assert sentence == (
            "model 'vit_b_16' does not run on pictures of 160 x 160 pixels (Wrong image height! Expected 224 but got 160); "
            "use the image_size (--size) that it was built for."
        )

    def test_no_map(self):
        assert f"no layer of model '{NAME}' gives one map per image of 1 pixels" in refused(
            "layers", "--model", NAME, "--size", "1"
        )

    def test_an_unknown_model(self):
        assert "model 'resnet5' is unknown to torchvision. Closest: 'resnet50'" in refused("layers", "--model", "resnet5")


def test_help_names_every_method():
    text = " ".join(run("compare", "--help").out.split())
    assert [name for name in (*METHODS, *CONTROLS) if name not in text] == []
    assert f"all that fit the model except {' and '.join(name for name in METHODS if not METHODS[name].default)}" in text


@pytest.mark.parametrize("command", ["compare", "explain", "layers"])
def test_help_names_every_option(command):
    done = run(command, "--help")
    assert done.code == 0
    options = [action for action in _parser(command)._actions if action.option_strings]
    assert len(options) >= 3
    assert all(action.option_strings[-1] in done.out and action.help for action in options)


def _parser(command):
    return cli.make_parser()._subparsers._group_actions[0].choices[command]


def test_as_a_module_in_a_fresh_process(here):
    done = subprocess.run(
        [sys.executable, "-m", "captum_softcam", "compare", "--layer", "nope"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("captum-softcam compare: layer 'nope' is not in SoftCamModel. ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert not list(here.iterdir())
