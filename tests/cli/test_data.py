"""``captum-softcam compare`` on every kind of data that has a reader."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
import torchvision
from command import run
from image_files import SIDE, draw
from layouts import make_layouts

NAME = "shufflenet_v2_x0_5"
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
        (["--coco", "annotations/instances_val2017.json", "--images", "val2017", "--classes", "dog,cat"], 2, "dog"),
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


def test_imagenet(checkpoint):
    draw(Path("ILSVRC/Data/CLS-LOC/val/x.JPEG"), SIDE, SIDE)
    done = run("compare", *checkpoint(1000), "--classes", ",".join(map(str, range(1000))), "--imagenet", "ILSVRC", *FAST)
    assert done.code == 2
    assert "x.xml" in done.err, "every image needs its annotation"


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
