"""``captum-softcam compare`` on every kind of data that has a reader."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from command import run
from image_files import SIDE, draw, write
from layouts import make_layouts

from captum_softcam.cli import make_parser
from captum_softcam.cli.data import load_samples, names_data, reading_of
from captum_softcam.cli.options import plain_options, restore_options
from captum_softcam.data import Fit, ImageFolderSamples, Reading, UnlabelledImages

NAME = "shufflenet_v2_x0_5"
DOG = ["--classes", "dog,cat"]
CHEST = ["--masks", "masks", "--classes", "Edema,Pneumothorax"]
FAST = ["--methods", "random,centred_gaussian", "--metrics", "pixel_auc,relevance_mass_accuracy", "--out", "out"]


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Saves weights for a number of classes; the working directory holds every data set."""
    make_layouts(tmp_path)
    monkeypatch.chdir(tmp_path)

    def save(classes: int) -> list[object]:
        torch.manual_seed(0)
        with warnings.catch_warnings():
            model = torchvision.models.get_model(NAME, num_classes=classes)
        torch.save(model.state_dict(), "weights.pt")
        return ["--model", NAME, "--checkpoint", "weights.pt"]

    return save


@pytest.mark.parametrize(
    ("data", "classes", "name"),
    [
        (["--images", "images", "--masks", "masks", "--classes", "dog,cat"], 2, "cat"),
        (["--voc", "VOCdevkit/VOC2007"], 20, "cat"),
        (["--voc", "VOCdevkit/VOC2007", "--split", "test"], 20, "cat"),
        (
            ["--coco", "annotations/instances_val2017.json", "--images", "val2017", "--regions", "polygons", *DOG],
            2,
            "dog",
        ),
        (["--pets", "oxford-iiit-pet"], 37, "Abyssinian"),
        (["--boxes", "stage_2_train_labels.csv", "--images", "stage_2_train_images"], 2, "1"),
        (
            [*("--labels", "data/CheXpert-v1.0-small/valid.csv", "--images", "data"), *CHEST],
            2,
            "Edema",
        ),
    ],
)
def test_every_kind(checkpoint, data, classes, name):
    # some have only one image; a mask that fills it leaves the AUC undefined, and that is said
    done = run("compare", *checkpoint(classes), *data, *FAST)
    assert done.code == 0, done.err
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["samples"] == manifest["samples_with_mask"] == 1
    assert name in manifest["classes"]
    assert len(manifest["classes"]) == classes
    assert Path(data[1]).name in str(manifest["data"])


def test_species_of_pets(checkpoint):
    done = run("compare", *checkpoint(2), "--classes", "cat,dog", "--pets", "oxford-iiit-pet", *FAST)
    assert done.code == 0, done.err
    assert "cat" in json.loads(Path("out/manifest.json").read_text())["classes"]


@pytest.mark.filterwarnings("default:1 of 2 images of the table")
@pytest.mark.parametrize("logits", [1, 2])
def test_a_table_with_one_column_of_labels(checkpoint, logits):
    """As that of SIIM-ACR; what the error advises works."""
    draw(Path("xrays/1.png"), SIDE, SIDE)
    draw(Path("xrays/2.png"), SIDE, SIDE)
    Path("t.csv").write_text("image,who,ill\n1,a,1\n2,b,0\n")
    options = [*checkpoint(logits), "--images", "xrays", "--labels", "t.csv", "--methods", "random,edge_map"]
    options += ["--metrics", "deletion", "--out", "out"]
    done = run("compare", *options)
    assert done.err.rstrip().endswith("by --classes A,B or FILE, such as 'not ill,ill'.")
    done = run("compare", *options, "--classes", "not ill,ill")
    assert done.code == 0, done.err
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert (manifest["classes"], manifest["samples"]) == (["not ill", "ill"], 2)


@pytest.mark.filterwarnings("default:ImageNet folder")
def test_imagenet(checkpoint):
    draw(Path("ILSVRC/Data/CLS-LOC/val/x.JPEG"), SIDE, SIDE)
    done = run("compare", *checkpoint(1000), "--imagenet", "ILSVRC", *FAST)
    assert done.code == 0, done.err
    assert "1 left out (no annotation): x. The first of them: annotation" in done.err
    assert json.loads(Path("out/manifest.json").read_text())["data"]["found"]["left_out"]["no annotation"]["names"] == ["x"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--voc", "a", "--pets", "b"], "--voc and --pets name several data sets; pass one."),
        (["--voc", "a", "--images", "b"], "--voc brings its own images; leave out --images."),
        (["--coco", "a"], "--coco needs --images."),
        (["--boxes", "a"], "--boxes needs --images."),
        (["--labels", "a", "--masks", "b"], "--labels needs --images."),
        (["--labels", "a", "--boxes", "b", "--images", "c"], "--boxes and --labels name several data sets; pass one."),
        (["--pets", "a", "--masks", "b"], "--pets brings its own regions; leave --masks out."),
        (["--images", "a", "--split", "val"], "--split is for --voc and --pets; leave it out."),
        (["--voc", "VOCdevkit/VOC2007", "--regions", "boxes"], "--regions is for --coco; leave it out."),
        (["--masks", "a"], "--masks needs --images: the folder of the images that the masks belong to."),
        (["--voc", "nowhere"], "VOC folder 'nowhere' is not a directory."),
        (["--voc", "VOCdevkit/VOC2007", "--split", "night"], "night.txt"),
    ],
)
def test_what_does_not_go_together(checkpoint, options, sentence):
    done = run("compare", *checkpoint(20), *options, *FAST)
    assert done.code == 2
    assert sentence in done.err
    assert not Path("out").exists()


class TestFolders:
    """Which reader the files below --images choose."""

    @pytest.fixture
    def kind(self, tmp_path):
        def kind(*names):
            for name in names:
                draw(tmp_path / name)
            options = make_parser().parse_args(["compare", "--images", str(tmp_path), "--explain", "predicted"])
            return load_samples(options, SimpleNamespace(image_size=8, fit=Fit()), None)

        return kind

    @pytest.mark.parametrize("name", ["__MACOSX/._a.png", ".cache/a.png", "masks/a.png"])
    def test_hidden_folders_and_masks_are_no_classes(self, kind, name):
        assert isinstance(samples := kind("a.png", name), UnlabelledImages)
        assert samples.masked == ("masks" in name)

    def test_a_folder_without_images_is_no_class(self, kind, tmp_path):
        write(tmp_path / "tables/a.csv", "")
        assert isinstance(samples := kind("a.png"), UnlabelledImages)
        assert samples.found.left_out == {"not an image format": ["tables/a.csv"]}

    def test_images_beside_class_folders_have_no_class(self, kind):
        assert isinstance(samples := kind("a.png", "cat/1.png"), ImageFolderSamples)
        assert (len(samples), samples.found.left_out) == (1, {"no class": ["a.png"]})

    def test_a_folder_that_is_listed_twice_is_warned_of_once(self, kind):
        with pytest.warns(UserWarning, match="named like masks") as caught:
            kind("cat/1.png", "cat/2_mask.png")
        assert len(caught) == 1

    def test_nothing_to_choose_by(self, kind, tmp_path):
        with pytest.raises(FileNotFoundError, match="holds no image"):
            kind()
        (tmp_path / "cat").mkdir()
        with pytest.raises(FileNotFoundError, match="no class folder of"):
            kind()
        (tmp_path / "cat").rmdir()
        tmp_path.rmdir()
        with pytest.raises(FileNotFoundError, match="is not a directory"):
            kind()


READING = ["--window", "-1000,400", "--max-pixels", "500", "--mask-threshold", "0.5", "--mask-ignore", "255"]


class TestReadingOptions:
    @pytest.mark.parametrize("command", ["compare", "explain", "train"])
    def test_they_become_a_reading(self, command):
        rest = {"compare": [], "explain": ["a.png"], "train": ["--out", "x"]}[command]
        given = READING if command == "compare" else READING[:4]
        found = reading_of(make_parser().parse_args([command, *rest, *given]))
        masks = (0.5, 255) if command == "compare" else (None, None)
        assert found == Reading((-1000.0, 400.0), 500, *masks)
        assert reading_of(make_parser().parse_args([command, *rest])) == Reading()

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(("--window", value) for value in ("5", "5,5", "9,1", "a,b", "0,inf", "nan,1", "1,2,3")),
            *(("--mask-threshold", value) for value in ("1", "-1", "nan", "x")),
            *(("--max-pixels", value) for value in ("0", "many")),
            ("--mask-ignore", "red"),
        ],
    )
    def test_what_is_no_value(self, option, value):
        done = run("compare", option, value)
        assert done.code == 2
        assert f"argument {option}: '{value}' is not" in done.err

    def test_a_resumed_run_has_them_again(self):
        parser = make_parser()._subparsers._group_actions[0].choices["compare"]
        stored = json.loads(json.dumps(plain_options(parser, parser.parse_args(READING))))
        options = parser.parse_args([])
        restore_options(parser, options, stored, ())
        assert reading_of(options) == Reading((-1000.0, 400.0), 500, 0.5, 255)
        restore_options(parser, parser.parse_args(READING), stored, ())
        with pytest.raises(ValueError, match=r"--window .* is not what the run was started with"):
            restore_options(parser, parser.parse_args(["--window", "0,1"]), stored, ())


class TestColumnsOfTables:
    """At the terminal, the columns of a table can be named as from Python."""

    @pytest.fixture
    def opened(self, tmp_path):
        for name in "ab":
            draw(tmp_path / f"scans/{name}.png")
        write(tmp_path / "t.csv", "id,dx,left,top,w,h\na,mel,1,2,3,4\nb,nv,,,,\n")

        def opened(*options):
            parsed = make_parser().parse_args(["compare", "--images", str(tmp_path / "scans"), *options])
            names_data(parsed)
            return load_samples(parsed, SimpleNamespace(image_size=16, fit=Fit()), ("mel", "nv"))

        return tmp_path, opened

    def test_boxes(self, opened):
        folder, opened = opened
        columns = ["--image-column", "id", "--label-column", "dx", "--box-columns", "left,top,w,h"]
        samples = opened("--boxes", str(folder / "t.csv"), *columns)
        assert [(sample.identifier, sample.mask is None) for sample in samples] == [("a/mel", False), ("b/nv", True)]

    def test_labels(self, opened):
        folder, opened = opened
        samples = opened("--labels", str(folder / "t.csv"), "--label-column", "dx")
        assert [(sample.identifier, sample.target) for sample in samples] == [("a", 0), ("b", 1)]

    @pytest.mark.parametrize("option", [("--image-column", "id"), ("--label-column", "dx"), ("--box-columns", "a,b,c,d")])
    def test_columns_without_a_table(self, opened, option):
        with pytest.raises(ValueError, match=f"{option[0]} is for --boxes"):
            opened[1](*option)
