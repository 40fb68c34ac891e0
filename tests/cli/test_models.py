"""``captum-softcam compare`` with several models: names, groups, a folder for each, interrupted runs and mistakes."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path

import pytest
from command import refused, run

from captum_softcam.cli import models
from captum_softcam.evaluation import Comparison, ModelComparison

TWO = ("--model", "lesions_softcam", "--model", "bb=lesions_black_box")
SMALL = ("--samples", "4", "--methods", "soft_cam,grad_cam,random", "--metrics", "pointing_game,relevance_mass_accuracy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "run"
    run(
        "compare",
        *TWO,
        *SMALL,
        "--layer",
        "bb=features",
        "--report",
        f"{folder}.html",
        "--gallery",
        "1",
        "--out",
        str(folder),
    )
    return folder


def test_each_model_has_a_folder_and_a_report(folder):
    names = ["1-lesions_softcam", "2-bb", "models.json", "table.csv", "table.html", "table.md"]
    assert sorted(path.name for path in folder.iterdir()) == names
    found = ModelComparison.load(folder)
    assert found.models == ["lesions_softcam", "bb"]
    assert found.comparisons["bb"].manifest["layer"] == "features"
    assert found.comparisons["bb"].manifest["model"] == "lesions_black_box"
    assert ("bb", "soft_cam") not in found.rows
    assert all((folder.parent / f"run-{name}.html").stat().st_size > 10_000 for name in names[:2])


def test_tables_are_of_all_models(folder):
    rows = list(csv.DictReader((folder / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["group"] for row in rows} == {"lesions_softcam", "bb"}
    assert "| bb: grad_cam |" in (folder / "table.md").read_text(encoding="utf-8")
    assert "bb: random" in (folder / "table.html").read_text(encoding="utf-8")


def test_a_complete_run_is_printed_again(folder):
    done = run("compare", "--resume", "--out", folder, "--format", "markdown")
    assert "| bb: grad_cam |" in done.out, done.err
    done = run("compare", "--resume", "--out", folder / "2-bb", "--format", "csv")
    assert "grad_cam" in done.out, "the folder of a model is a run of its own"


def test_a_run_goes_on_with_the_next_model(folder, tmp_path):
    cut = tmp_path / "cut"
    shutil.copytree(folder, cut)
    shutil.rmtree(cut / "2-bb")
    done = run("compare", "--resume", "--out", cut)
    assert done.code == 0, done.err
    again, before = Comparison.load(cut / "2-bb"), Comparison.load(folder / "2-bb")
    assert again.scores.equals(before.scores)
    other = run("compare", "--resume", "--out", cut, "--model", "lesions_softcam", "--model", "lesions_black_box")
    assert "is not what the run was started with" in other.err
    assert "leave out all but one --model" in run("compare", "--resume", "--out", cut / "2-bb", *TWO).err


def made(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(**{"model": ["a=resnet18", "a=resnet18"], "layer": None, "checkpoint": None, **changes})


def test_models_of_one_name_are_a_group():
    options = made(model=["a=resnet18", "a=timm:resnet18", "b=resnet18"], layer=["a=layer3", "a=layer4"])
    found = models._models(options)
    assert [(each.name, each.group, each.options.model, each.options.layer) for each in found] == [
        ("a 1", "a", "resnet18", "layer3"),
        ("a 2", "a", "timm:resnet18", "layer4"),
        ("b", "b", "resnet18", None),
    ]


def test_each_model_of_a_name_has_its_checkpoint(tmp_path):
    options = made(checkpoint=[Path("a=one.pt"), Path("a=two.pt")])
    models._name_files(options)
    assert [each.options.checkpoint for each in models._models(options)] == [
        Path("one.pt").absolute(),
        Path("two.pt").absolute(),
    ]
    assert json.dumps(options.checkpoint)
    file = tmp_path / "x=y.pt"
    file.touch()
    options = made(model=["a=resnet18", str(file)], layer="layer4")
    models._name_files(options)
    assert options.model == ["a=resnet18", f"x=y={file}"], "the name of a file may have an equals sign"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "lesions_softcam", "--model", "lesions_softcam"], "several models are called 'lesions_softcam'"),
        (["--model", "a=lesions_softcam", "--model", "a=lesions_softcam"], "is passed twice, with nothing that differs"),
        (["--model", "a=", "--model", "lesions_softcam"], "has a name and no model"),
        ([*TWO, "--layer", "cc=features"], "names the model 'cc', which is not there"),
        ([*TWO, "--layer", "x", "--layer", "y"], "--layer has 2 values for 'lesions_softcam', which is 1 models"),
        ([*TWO, "--sheets", "sheets"], "--sheets is for one model"),
        ([*TWO[:2], "--model", "resnet18"], "needs --images"),
        ([*TWO, "--metrics", "pointing_gam"], "pointing_gam"),
    ],
)
def test_mistakes_are_refused(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused("compare", *arguments)
