"""A few of the networks that ``benchmarks/sweep.py`` tries: right, or refused in words that name what is in the way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sweep
from sweep_networks import build, design, networks

PACKAGES = {"timm": "timm", "transformers": "transformers", "monai": "monai", "smp": "segmentation_models_pytorch"}
NETWORKS = {  # the recommended layer, and the words of each method that is refused
    ("timm", "test_resnet"): ("layer4", {}),
    ("timm", "test_efficientnet"): ("bn2", {}),
    ("timm", "test_vit"): ("blocks.5.norm1", {"cam": "more than pool", "softcam": "single positions or tokens"}),
    ("transformers", "ResNet"): ("model.resnet.encoder.stages.3", {}),
    ("transformers", "ConvNext"): ("model.convnext.encoder.stages.3", {"cam": "stands layer_norm"}),
    ("transformers", "ViT"): (
        "model.vit.layers.1.layernorm_before",
        {"cam": "more than pool", "softcam": "single positions"},
    ),
    ("transformers", "Swin"): ("model.swin.layernorm", {}),
    ("monai", "DenseNet 3-D"): ("class_layers.relu", {}),
    ("monai", "Discriminator"): ("net", {"cam": "more than pool", "softcam": "is in the way"}),
    ("smp", "Unet resnet18"): ("model.encoder.layer4", {}),
}
DESIGNS = {
    ("timm", "test_resnet"): "CNN",
    ("timm", "test_vit"): "transformer",
    ("timm", "levit_128s"): "hybrid",
    ("timm", "sequencer2d_s"): "mixer",
    ("transformers", "Swin"): "transformer",
    ("monai", "DenseNet 3-D"): "volume",
}


@pytest.mark.parametrize(("library", "name"), NETWORKS)
def test_networks_of_every_library(library, name):
    pytest.importorskip(PACKAGES[library])
    layer, refused = NETWORKS[library, name]
    result = sweep.examine(library, name)
    assert result.layer == layer, sweep._line(result)
    for step in sweep.STEPS:
        outcome = result.steps[step]
        assert outcome.kind == ("refused" if step in refused else "right"), (step, outcome)
        if step in refused:
            assert re.search(refused[step], outcome.words), outcome.words


@pytest.mark.parametrize(("library", "name"), DESIGNS)
def test_kinds_of_networks(library, name):
    pytest.importorskip(PACKAGES[library])
    assert design(*build(library, name)) == DESIGNS[library, name]


def test_the_page_shows_every_network_and_nothing_wrong():
    page = (Path(__file__).parents[1] / "docs/reference/sweep_measured.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\w+)/(.+?) \|", page, re.MULTILINE)
    assert shown == [*networks()]
    assert not re.search(r"WRONG|crash", page)
