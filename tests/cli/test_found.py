"""What ``captum-softcam compare`` says before it starts, about images and masks as they lie on the disk."""

import json
from pathlib import Path

import pytest
from command import refused, run
from PIL import Image

from captum_softcam.metrics import METRICS

NETWORK = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)  # a resumed run needs the same weights
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
"""
MODEL = ["--model", "tiny.py:small", "--size", "32", "--images", "images", "--methods", "random,edge_map"]
LOCATED = {name for name, metric in METRICS.items() if metric.category == "localisation"}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Three images with a lesion, three of healthy tissue with black masks, and what else lies beside them."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.py").write_text(NETWORK)
    for name, value in (("benign", 255), ("normal", 0)):
        for tree in ("images", "masks"):
            Path(tree, name).mkdir(parents=True)
        for number in range(3):
            pixels = bytes((7 * place + number) % 256 for place in range(32 * 32 * 3))
            Image.frombytes("RGB", (32, 32), pixels).save(f"images/{name}/{number}.png")
            mask = Image.new("L", (32, 32))
            mask.paste(value, (4, 4, 12, 12))
            mask.save(f"masks/{name}/{number}.png")
    Path("images/benign/notes.txt").write_text("seen by two readers")


def test_black_masks():
    options = [*MODEL, "--masks", "masks", "--metrics", "pointing_game,sparseness", "--out", "out", "--report", "a.html"]
    done = run("compare", *options)
    assert done.code == 0, done.err
    assert done.out.startswith(
        "6 samples of 7 files in 2 classes: benign 3, normal 3.\n"
        "6 of 6 masks used: 3 samples have a region, 3 nothing to localise (3 black masks: normal/0.png, normal/1.png, "
        "normal/2.png).\n"
        "Not used: benign/notes.txt (not an image format).\n"
    )
    assert "localisation: over the 3 samples with a mask." in done.out
    assert "margin" not in done.out
    found = json.loads(Path("out/manifest.json").read_text())["data"]["found"]
    assert (found["files"], found["masks_used"], found["with_region"], found["black_masks"]) == (7, 6, 3, 3)
    assert found["left_out"] == {"not an image format": {"count": 1, "names": ["benign/notes.txt"]}}
    assert (
        "found: 7 files, 6 samples, 6 masks, 6 masks used, 3 samples with a region, 3 black masks, 1 not used (not an "
        "image format)" in Path("a.html").read_text(encoding="utf-8")
    )


def test_nothing_but_black_masks():
    for number in range(3):
        Path(f"masks/benign/{number}.png").write_bytes(Path(f"masks/normal/{number}.png").read_bytes())
    options = [*MODEL, "--masks", "masks"]
    assert refused("compare", *options, "--metrics", "pointing_game").startswith(
        "pointing_game cannot be measured, because all masks are black: no sample has anything to localise; leave it out."
    )
    sentence = refused("compare", *options, "--metrics", "pointing_game", "--mask-ignore", "255")
    assert "all masks are black under --mask-ignore: no sample has anything to localise; leave it out, or change" in sentence
    done = run("compare", *options, "--samples", "2", "--out", "out")
    assert done.code == 0, done.err
    assert done.out.startswith("the first 2 of 6 samples of 7 files in 2 classes: benign 1, normal 1.\n")
    assert "No sample has a region: the localisation metrics are left out." in done.out
    assert not LOCATED & set(json.loads(Path("out/manifest.json").read_text())["metrics"])


def test_the_only_region_may_come_late(monkeypatch):
    """The comparison looks for a mask among the first samples alone."""
    monkeypatch.setattr("captum_softcam.evaluation.checks._LOOKED_AT", 1)
    for name in ("benign/0", "benign/1"):
        Path(f"masks/{name}.png").write_bytes(Path("masks/normal/0.png").read_bytes())
    done = run("compare", *MODEL, "--masks", "masks", "--out", "out")
    assert done.code == 0, done.err
    assert LOCATED & set(json.loads(Path("out/manifest.json").read_text())["metrics"])


def test_strict():
    """Nothing is begun if a file is known not to be readable."""
    Path("masks/benign/1.png").write_text("no picture")
    words = refused("compare", *MODEL, "--masks", "masks", "--strict", "--metrics", "sparseness", "--out", "out")
    assert words.startswith("1 of 6 samples cannot be used: mask 'masks/benign/1.png' cannot be read")


def test_nothing_can_be_read():
    for path in Path("images").rglob("*.png"):
        path.write_text("no picture")
    words = refused("compare", *MODEL, "--metrics", "sparseness", "--out", "out")
    assert words.startswith("6 of 6 samples cannot be used: image 'images/benign/0.png' cannot be read")


def test_a_resumed_run_says_it_again(monkeypatch):
    options = [*MODEL, "--masks", "masks", "--metrics", "sparseness", "--batch-size", "2", "--out", "out"]

    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("captum_softcam.evaluation.runner.assemble", stop)
        assert run("compare", *options).code == 130
    done = run("compare", "--resume", "--out", "out", "--model", "tiny.py:small")
    assert done.code == 0, done.err
    assert done.out.startswith("6 samples of 7 files")
