"""The code, commands and links of the README work; the tables of results are those of the current defaults."""

from __future__ import annotations

import copy
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pictures
import pytest
import readme as script
import torch
from PIL import Image

from captum_softcam import cli, load_classifier, load_embedded
from captum_softcam.attr import METHODS
from captum_softcam.evaluation import CONTROLS
from captum_softcam.evaluation.checks import default_methods
from captum_softcam.metrics import METRICS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs/reference/comparison.md").read_text(encoding="utf-8")
PYTHON, CONSOLE = (
    re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE) for language in ("python", "console")
)
COMMANDS = [
    part.strip() for block in CONSOLE for line in block.replace("\\\n", " ").splitlines() for part in line.split("&&")
]


@pytest.fixture(scope="module")
def kept():
    return script.kept()


@pytest.mark.parametrize("block", PYTHON)
def test_block(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    torch.manual_seed(0)
    exec(block, names)
    shapes = re.findall(r"^(\w+) = .*# (\([\d, ]+\))", block, re.MULTILINE)
    shown = capsys.readouterr().out
    assert shapes or list(tmp_path.glob("*.png")) or shown.startswith("|")
    for name, shape in shapes:
        assert tuple(names[name].shape) == eval(shape)
    if "; its mean is the logit" in block:
        torch.testing.assert_close(names["evidence"].mean((2, 3)), names["model"](names["images"]), atol=1e-4, rtol=1e-4)
        assert shown


def test_an_overlay_takes_eight_lines():
    """From the installation to the picture, as the README has them."""
    install = next(block for block in CONSOLE if "[imagenet]" in block)
    code = next(block for block in PYTHON if "plot_overlay" in block)
    assert len([line for line in (install + code).splitlines() if line.strip()]) <= 8


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("captum-softcam")])
def test_command_is_understood(command):
    options = cli.make_parser().parse_args(shlex.split(command)[1:])
    assert callable(options.run)


def test_the_two_commands_stand_as_they_are():
    """Other programs look for these lines."""
    lines = README.splitlines()
    assert "python -m pip install . && captum-softcam compare" in lines
    assert 'python -m pip install -e ".[test]" && python -m pytest' in lines


def test_links_lead_to_files():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("https://")]
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link


def test_pictures_are_small():
    for path in (ROOT / "docs/images").rglob("*.*"):
        assert path.stat().st_size < 400_000, path.name


def test_gallery_shows_every_method():
    page = (ROOT / "docs/gallery.md").read_text(encoding="utf-8")
    for name, method in METHODS.items():
        assert f"### {method.title}\n\n![Maps of {method.title}: " in page
        assert f"](images/gallery/{name}.jpg)" in page
    stored = {path.relative_to(pictures.IMAGES).as_posix() for path in pictures.IMAGES.rglob("*.jpg")}
    assert stored - {script.PICTURE.name} == {name for name, _ in pictures.pictures()}


def test_the_network_is_the_one_of_the_photographs():
    """Classes and probabilities of the photographs, which the texts mention, are those of the network."""
    classifier = load_classifier(pictures.NETWORK)
    found = {}
    for name in pictures.PHOTOGRAPHS:
        with torch.no_grad():
            found[name] = classifier.classes[classifier.model(classifier.prepare(pictures.photograph(name))).argmax()]
    assert (found["astronaut"], found["chelsea"]) == ("football helmet", "tiger cat")
    assert classifier.classes[282] == "tiger cat"


def test_everything_is_cited():
    names = ["SoftCAM", "Recipro-CAM", "TTE-CAM", "Captum", "Quantus", "ADCC"]
    cite = README.partition("## Cite")[2]
    assert [name for name in names if name not in cite] == []


def test_tables_are_those_of_the_kept_run(kept):
    assert script.fill_page(PAGE, *kept) == PAGE


def test_kept_run_is_what_the_command_does_today(kept):
    """Methods, metrics and settings; whether the numbers are still the same, ``benchmarks/readme.py --check`` says."""
    comparison, costs = kept
    assert comparison.methods == default_methods(load_embedded().model)
    taken = {name: metric for name, metric in METRICS.items() if metric.default}
    stated = {name: each for name, each in comparison.manifest["metrics"].items() if not name.startswith("quantus:")}
    assert list(stated) == list(taken)
    for name, metric in taken.items():
        assert stated[name]["settings"] == dict(metric.settings)
        assert (stated[name]["title"], stated[name]["higher_is_better"]) == (metric.title, metric.higher_is_better)
    options = vars(cli.make_parser().parse_args(["compare"]))
    for name in ("explain", "seed", "model"):
        assert comparison.manifest["command"][name] == options[name] or options[name] is None
    assert set(costs.index) == {*METHODS, *CONTROLS}


def test_a_run_checks_out_against_itself(kept):
    assert script.stale_scores(kept[0], kept[0]) == []


def few(comparison, count=4):
    """The run with the first samples alone."""
    scores = comparison.scores
    return replace(comparison, scores=scores[scores["sample"].isin(comparison.samples[:count])].reset_index(drop=True))


def test_few_samples_are_enough(kept):
    assert script.stale_scores(kept[0], few(kept[0])) == []


@pytest.mark.parametrize("count", [4, 48])
def test_other_scores_are_noticed(kept, count):
    other = few(kept[0], count)
    cell = (other.scores["method"] == "grad_cam") & (other.scores["metric"] == "deletion")
    scores = other.scores.assign(score=other.scores["score"].where(~cell, other.scores["score"] + 0.01))
    (told,) = script.stale_scores(kept[0], replace(other, scores=scores))
    assert told == f"grad_cam, deletion: {count} of {count} scores differ from the kept ones."


def test_a_maximum_may_move(kept):
    """One score among four, where machines round differently."""
    other = few(kept[0])
    cell = (other.scores["method"] == "grad_cam") & (other.scores["metric"] == "pointing_game")
    first = other.scores[cell].index[1]
    scores = other.scores.copy()
    scores.loc[first, "score"] = 1 - scores.loc[first, "score"]
    assert script.stale_scores(kept[0], replace(other, scores=scores)) == []


def test_other_settings_are_noticed(kept):
    manifest = copy.deepcopy(kept[0].manifest)
    manifest["metrics"]["deletion"]["settings"]["steps"] = 8
    assert "settings" in script.stale_scores(kept[0], replace(kept[0], manifest=manifest))[0]


def test_other_samples_are_noticed(kept):
    scores = kept[0].scores.replace({"sample": {kept[0].samples[0]: "another"}})
    assert "samples" in script.stale_scores(kept[0], replace(kept[0], scores=scores))[0]


def test_another_picture_is_noticed(kept, tmp_path, monkeypatch):
    drawn = Image.open(script.PICTURE).convert("RGB")
    pictures = {
        "turned": drawn.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "smaller": drawn.resize((100, 40)),
        "same": drawn,
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.png")
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "draw", lambda *_: (tmp_path / "same.png").read_bytes())
    monkeypatch.setattr(script, "explain_sample", lambda *_, **__: None)  # the maps that draw would show
    for name, told in {"turned": 1, "smaller": 1, "same": 0}.items():
        monkeypatch.setattr(script, "PICTURE", tmp_path / f"{name}.png")
        assert script.stale_picture(kept[0]) == [f"{name}.png differs from a new drawing."] * told


def test_all_that_is_stale_is_told(kept, tmp_path, monkeypatch):
    page = tmp_path / "comparison.md"
    page.write_text(PAGE.replace("0.275", "0.257"), encoding="utf-8")
    monkeypatch.setattr(script, "PAGE", page)
    monkeypatch.setattr(script, "stale_picture", lambda _: ["the picture"])
    kept[0].save(tmp_path / "result")
    assert script.stale(tmp_path / "result") == [
        "comparison.md does not show the scores that benchmarks/readme holds.",
        "the picture",
    ]


def test_a_place_that_is_missing_is_told():
    with pytest.raises(SystemExit, match=r"comparison\.md has no markers <!-- methods -->"):
        script.fill(script.PAGE, "nothing", "methods", "| a |")


def test_the_markers_stay():
    once = script.fill(script.PAGE, "a\n<!-- x -->\nold\n<!-- /x -->\nb", "x", r"new \1")
    assert once == "a\n<!-- x -->\n\nnew \\1\n\n<!-- /x -->\nb"
    assert script.fill(script.PAGE, once, "x", r"new \1") == once
