"""The how-to guides and the explanations are true: their code runs, and what they say of its results holds."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from captum.attr import NoiseTunnel
from command import run
from image_files import draw, pascal_xml, write
from layouts import make_layouts

from captum_softcam import LayerReciproCam, convert_to_softcam
from captum_softcam.cli import make_parser
from captum_softcam.data import LabelledImages, VOCSamples
from captum_softcam.evaluation import Comparison
from captum_softcam.softcam import Classifier

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    *(f"how-to/{name}.md" for name in ("choose_layer", "choose_method", "noise_tunnel", "reproduce")),
    *(f"explanation/{name}.md" for name in ("recipro_cam_is_cam", "what_softcam_changes", "why_metrics_disagree")),
    *(f"explanation/{name}.md" for name in ("intervals", "limits")),
]


def read(page):
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page):
    """The Python of a page: blocks to copy, and cells that the build executes, without options and magics."""
    for body in re.findall(r"^```(?:python|\{code-cell\} ipython3)\n(.*?)^```$", read(page), re.DOTALL | re.MULTILINE):
        body = re.sub(r"\A---\n.*?^---\n", "", body, flags=re.DOTALL | re.MULTILINE)
        yield re.sub(r"^(:tags:|%).*\n", "", body, flags=re.MULTILINE)


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
                patch.setattr(plt, "show", lambda: None)
                with plt.ioff():
                    for block in blocks(page):
                        exec(block, names)
            plt.close("all")
            done[page] = names
        return done[page]

    return after


@pytest.mark.parametrize("page", PAGES)
def test_the_code_runs(left, page):
    assert left(page)


@pytest.mark.parametrize("page", [*PAGES, "how-to/train.md"])
def test_the_commands_are_understood(page):
    for command in commands(page):
        make_parser().parse_args(shlex.split(command)[1:])


def test_choose_layer(left):
    names = left("how-to/choose_layer.md")
    assert names["best"].name == "layer4"
    assert names["best"].passes == 0
    assert names["choices"]["features.4"].passes == 400
    for (name, _), values in names["maps"].items():
        assert tuple(values.shape) == names["choices"][name].grid


def test_score_of_a_class_token_does_not_see_patches_behind_the_last_attention(left):
    """Why the suggestion for ViT is what the last attention reads."""
    names = left("how-to/choose_layer.md")
    vit, images = names["vit"], names["images"]
    torch.nn.init.normal_(vit.heads.head.weight)  # torchvision begins with zeros
    last = vit.encoder.layers[-1]
    behind, before = (LayerReciproCam(vit, layer).attribute(images, target=0).std() for layer in (last, last.ln_1))
    assert behind < 1e-2 * before, "the scores are equal but for rounding"


def test_choose_method_names_what_methods_cost(left):
    left("how-to/choose_method.md")
    names = left("explanation/why_metrics_disagree.md")
    assert names["comparison"].costs.loc["soft_cam", ["forwards", "backwards"]].tolist() == [1, 0]


def test_noise_tunnel(left):
    names = left("how-to/noise_tunnel.md")
    assert torch.allclose(names["smooth"], names["by_hand"], atol=1e-6)
    assert names["evidence"] == pytest.approx(names["logit"], abs=1e-3)
    assert names["smoothed"] == pytest.approx(names["of_noisy"], abs=1e-3)
    assert abs(names["smoothed"] - names["logit"]) > 1  # far from the answer, as the page says
    costs = names["comparison"].costs
    assert costs["forwards"].to_dict() == {"recipro_cam": 1, "smoothed": 10}
    assert (costs["backwards"] == 0).all()


@pytest.mark.parametrize("count", [1, 2])
def test_noise_in_parts_is_drawn_in_another_order_for_several_images(left, count):
    names = left("how-to/noise_tunnel.md")
    images, maps = names["image"].expand(count, -1, -1, -1), []
    for part in (None, 4):
        torch.manual_seed(0)
        tunnel = NoiseTunnel(names["recipro_cam"])
        maps.append(tunnel.attribute(images, target=1, nt_samples=8, nt_samples_batch_size=part, stdevs=0.1))
    assert torch.allclose(*maps, atol=1e-5) is (count == 1)


def test_recipro_cam_is_cam(left):
    names = left("explanation/recipro_cam_is_cam.md")
    assert max(names["gaps"].values()) < 1e-5
    assert max(names["errors"].values()) < 1e-5
    cam, same = names["cam"].flatten(), {}
    for name, values in names["kinds"].items():
        same[name] = torch.corrcoef(torch.stack([cam, values.flatten()]))[0, 1].item() > 1 - 1e-6
    assert same == {name: name == "logit" for name in same}


def test_layer_norm_inflates_weak_positions(left):
    """Recipro-CAM behind it does not know the size of the features; CAM does."""
    names = left("explanation/recipro_cam_is_cam.md")
    normalised = names["Normalised"]().eval()
    normalised.norm.eps = 1e-12
    strong = names["recipro_cam"](normalised)
    features = normalised.features
    weak = torch.nn.Sequential(features, _Tenth())
    normalised.features = weak.eval()
    tenth = LayerReciproCam(normalised, weak).attribute(names["image"], target=names["c"])
    normalised.features = features
    assert torch.allclose(tenth, strong, atol=1e-3 * strong.abs().max().item())


class _Tenth(torch.nn.Module):
    def forward(self, features):
        return features / 10


def test_what_softcam_changes(left):
    names = left("explanation/what_softcam_changes.md")
    assert torch.allclose(names["before"], names["after"], atol=1e-4)
    assert (names["old"] - names["new"]).abs().max() > 0.1
    for logit_maps in names["both"].values():
        assert logit_maps.shape[0] == 4


def test_why_metrics_disagree(left):
    better = left("explanation/why_metrics_disagree.md")["comparison"].differences()["better"]
    assert better["edge_map", "pointing_game"] == 1
    assert better["edge_map", "relevance_mass_accuracy"] == -1
    assert better["edge_map", "deletion"] == -1
    assert better["centred_gaussian", "adcc"] == 1


def test_intervals(left):
    names = left("explanation/intervals.md")
    coverage = names["coverage"]
    assert coverage[6] < coverage[12] < 0.92 < coverage[24]
    assert 0.92 < coverage[96] < 0.97
    (_, low, high), (_, *second), (_, *difference) = names["intervals"].values()
    assert low < second[1], "the two overlap"
    assert second[0] < high, "the two overlap"
    assert difference[0] > 0, "and their difference leaves out 0"
    assert 3 < names["false_verdicts"].mean() < 8
    assert names["by_image"] < 0.8 < 0.9 < names["by_patient"]


def test_limits(left):
    answers = left("explanation/limits.md")["answers"]
    assert all(share > 0.5 for _, share, _ in answers.values())


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
    for i in range(1000):
        draw(tmp_path / f"ILSVRC/Data/CLS-LOC/val/{i:04}.JPEG")
        box = pascal_xml((f"n{i:08}", (0, 0, 5, 5)))
        write(tmp_path / f"ILSVRC/Annotations/CLS-LOC/val/{i:04}.xml", box)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(load_untrained().state_dict(), "resnet18.pt")
    methods = "grad_cam,recipro_cam,edge_map,centred_gaussian"
    changes = {"--model": "resnet18", "--weights": None, "--checkpoint": "resnet18.pt", "--methods": methods}
    changes |= {"--engine": None, "--device": "cpu", "--samples": "2", "--classes": ",".join(map(str, range(1000)))}
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
