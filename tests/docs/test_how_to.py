"""The how-to guides and the explanations are true: their code and commands run, with the results that they describe."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import pytest
import torch
from command import run
from image_files import draw, pascal_xml, write
from layouts import make_layouts

from captum_softcam import convert_to_softcam
from captum_softcam._imagenet import wordnet_ids
from captum_softcam.cli import make_parser
from captum_softcam.data import LabelledImages, VOCSamples
from captum_softcam.evaluation import Comparison
from captum_softcam.softcam import Classifier

DOCS = Path(__file__).parents[2] / "docs"
RUN_HERE = ["how-to/choose_method.md", "how-to/reproduce.md", "how-to/sheets.md"]


def read(page):
    return (DOCS / page).read_text(encoding="utf-8")


PAGES = sorted(path.relative_to(DOCS).as_posix() for pattern in ("*.md", "*/*.md") for path in DOCS.glob(pattern))
RUN_BY_THE_BUILD = [page for page in PAGES if "{code-cell}" in read(page)]


def blocks(page):
    """Find the Python of a page."""
    return re.findall(r"^```python\n(.*?)^```$", read(page), re.DOTALL | re.MULTILINE)


def commands(page):
    consoles = re.findall(r"^```console\n(.*?)^```$", read(page), re.DOTALL | re.MULTILINE)
    return [
        line[2:]
        for console in consoles
        for line in console.replace("\\\n", " ").splitlines()
        if line.startswith("$ captum-softcam ")
    ]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Every data set that the pages name, with one image each, in the working directory."""
    folder = tmp_path_factory.mktemp("pages")
    make_layouts(folder)
    write(folder / "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt", "000001\n")
    return folder


@pytest.fixture(scope="module")
def left(here):
    """The names that a page's code leaves behind; each page runs once."""
    done = {}

    def after(page):
        if page not in done:
            names = {}
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(here)
                for block in blocks(page):
                    exec(block, names)
            done[page] = names
        return done[page]

    return after


@pytest.mark.parametrize("page", RUN_HERE)
def test_the_code_runs(left, page):
    assert left(page)


@pytest.mark.parametrize("page", RUN_BY_THE_BUILD)
def test_pages_that_the_build_runs_check_themselves(page):
    """The build of the documentation fails where an assertion of the last cell, which is not shown, does not hold."""
    cells = re.findall(r"^```\{code-cell\} ipython3\n(.*?)^```$", read(page), re.DOTALL | re.MULTILINE)
    assert cells[-1].startswith(":tags: [remove-cell]")
    assert re.search("^assert ", cells[-1], re.MULTILINE)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_train(left):
    names = left("how-to/train.md")
    assert len(names["result"].history) == 1
    assert names["start"].classes == ("healthy", "mild", "severe")
    assert names["model"].evidence[-1].out_channels == 3


@pytest.mark.parametrize("page", [*RUN_HERE, *RUN_BY_THE_BUILD, "how-to/train.md"])
def test_the_commands_are_understood(page):
    for command in commands(page):
        make_parser().parse_args(shlex.split(command)[1:])


def test_reproduce(left, here):
    names = left("how-to/reproduce.md")
    own = names["table"]["adcc"].groupby(level="method").mean()
    for method, value in names["of_means"].items():
        assert value >= 100 * own[method] - 1e-3
    with (here / "voc.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["label"] == "cat"


def test_voc_labels_can_be_trained_on(left, here, monkeypatch):
    left("how-to/reproduce.md")
    monkeypatch.chdir(here)
    assert LabelledImages.from_csv("voc.csv", kind="multilabel").classes == ("cat",)


def run_line(command, replaced):
    """Run a command of a page with some of its options exchanged; None takes one away."""
    words = shlex.split(command)[1:]
    options = dict(zip(words[1::2], words[2::2], strict=True)) | replaced
    return run(words[0], *(word for name, value in options.items() if value is not None for word in (name, value)))


def test_the_imagenet_command(tmp_path, monkeypatch):
    """As it stands, but for weights, the cluster, and Score-CAM, which takes a while."""
    for i, wnid in enumerate(wordnet_ids()[:3]):
        draw(tmp_path / f"ILSVRC/Data/CLS-LOC/val/{i:04}.JPEG")
        box = pascal_xml((wnid, (0, 0, 5, 5)))
        write(tmp_path / f"ILSVRC/Annotations/CLS-LOC/val/{i:04}.xml", box)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(load_untrained().state_dict(), "resnet18.pt")
    methods = "grad_cam,recipro_cam,edge_map,centred_gaussian"
    changes = {"--model": "resnet18", "--weights": None, "--checkpoint": "resnet18.pt", "--methods": methods}
    changes |= {"--engine": None, "--device": "cpu", "--samples": "2"}
    (command,) = commands("how-to/reproduce.md")[:1]
    done = run_line(command, changes)
    assert done.code == 0, done.err
    assert Comparison.load("resnet50").metrics == [
        "average_drop",
        "increase_in_confidence",
        "coherency",
        "map_complexity",
        "adcc",
    ]


def load_untrained():
    from torchvision.models import resnet18

    return resnet18()


def test_the_voc_command(here, monkeypatch, tmp_path):
    monkeypatch.chdir(here)
    torch.manual_seed(0)
    classes = VOCSamples("VOCdevkit/VOC2007").classes
    model = convert_to_softcam(load_untrained(), num_classes=len(classes))
    (here / "voc-softcam").mkdir()
    Classifier("resnet18", model.eval(), classes, 64).save(here / "voc-softcam/model.safetensors")
    done = run_line(
        commands("how-to/reproduce.md")[2], {"--engine": None, "--device": "cpu", "--out": str(tmp_path / "voc")}
    )
    assert done.code == 0, done.err
    assert Comparison.load(tmp_path / "voc").methods[0] == "soft_cam"
