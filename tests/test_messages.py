"""Messages stay short, on one line and free of terminal escapes, whatever they are given."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from comparisons import make_model, make_samples
from networks import PooledNet
from reports import make_comparison

from captum_softcam import (
    ElasticNetEvidenceLoss,
    LayerClassActivationMap,
    LayerReciproCam,
    LayerScoreCam,
    LayerSoftCam,
    convert_to_softcam,
    load_embedded,
    suggest_layers,
)
from captum_softcam.data import (
    BoxTableSamples,
    CocoSamples,
    ImageEntry,
    ImageFolderSamples,
    ImageNetSamples,
    LabelledImages,
    LabelTableSamples,
    MaskedImages,
    OxfordPetSamples,
    RetinalLesions,
    Sample,
    VOCSamples,
    balanced_class_weights,
    read_image,
    split_samples,
)
from captum_softcam.evaluation import Comparison, LayerExplainFunc, compare_methods
from captum_softcam.metrics import functional
from captum_softcam.report import make_table, plot_panel, write_report
from captum_softcam.softcam import Classifier, load_classifier, load_softcam

LONG = "x\x1b[2J\u202e" * 20_000
MANY = list(range(100_000))
NAMES = [f"class {number}\n" for number in range(100_000)]
BIG = torch.rand(300, 400)
IMAGES = torch.rand(2, 3, 16, 24)
MAPS = torch.rand(2, 1, 16, 24)
WEIRD = np.random.default_rng(0).random((300, 400))


def model() -> torch.nn.Module:
    return PooledNet().eval()


def last(net: torch.nn.Module) -> torch.nn.Module:
    return [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)][-1]


def explained(cls, **options):
    net = model()
    return cls(net, last(net)).attribute(IMAGES, **{"target": 0, **options})


def compared(**options):
    options = {"methods": ["random"], "metrics": ["sparseness"], **options}
    return compare_methods(make_model(), options.pop("samples", None) or make_samples(2), **options)


def labelled(**options):
    return LabelledImages(["a.png"] * 3, options.pop("labels", [(0,)] * 3), options.pop("classes", ["a", "b"]), **options)


CALLS = {
    "target name": lambda: explained(LayerReciproCam, target=LONG),
    "target many": lambda: explained(LayerReciproCam, target=MANY),
    "target big": lambda: explained(LayerReciproCam, target=BIG),
    "target array": lambda: explained(LayerScoreCam, target=WEIRD),
    "target huge": lambda: explained(LayerReciproCam, target=10**5000),
    "target nested": lambda: explained(LayerReciproCam, target=[tuple(MANY)] * 2),
    "cam target": lambda: explained(LayerClassActivationMap, target=10**4000),
    "chunks": lambda: explained(LayerReciproCam, perturbations_per_eval=-(10**4000)),
    "mask": lambda: LayerReciproCam((net := model()), last(net), mask=LONG).attribute(IMAGES, target=0),
    "kernel": lambda: LayerReciproCam((net := model()), last(net), mask=torch.ones(*[2] * 12)).attribute(IMAGES, target=0),
    "layer name": lambda: LayerReciproCam(model(), LONG).attribute(IMAGES, target=0),
    "layer list": lambda: LayerScoreCam(model(), MANY).attribute(IMAGES, target=0),
    "layer big": lambda: LayerSoftCam(model(), BIG).attribute(IMAGES, target=0),
    "suggest": lambda: suggest_layers(BIG, IMAGES),
    "embedded": lambda: load_embedded(LONG),
    "classifier": lambda: load_classifier(LONG),
    "classifier weights": lambda: load_classifier("resnet18", weights=LONG),
    "classifier checkpoint": lambda: load_classifier("resnet18", checkpoint=LONG, classes=NAMES),
    "classifier file": lambda: Classifier.load(LONG),
    "model file": lambda: load_softcam(LONG),
    "convert": lambda: convert_to_softcam(NAMES),
    "convert classes": lambda: convert_to_softcam(model(), num_classes=LONG),
    "convert stride": lambda: convert_to_softcam(model(), output_stride=-(10**4000)),
    "loss": lambda: ElasticNetEvidenceLoss(-(10**4000), 0),
    "loss reduction": lambda: ElasticNetEvidenceLoss(1, 1, LONG),
    "read": lambda: read_image(LONG),
    "read nul": lambda: read_image("a\0b"),
    "folders": lambda: ImageFolderSamples(LONG),
    "coco": lambda: CocoSamples(LONG, LONG),
    "coco regions": lambda: CocoSamples(".", ".", regions=LONG),
    "boxes": lambda: BoxTableSamples(".", LONG),
    "box columns": lambda: BoxTableSamples(".", ".", box_columns=NAMES),
    "label table": lambda: LabelTableSamples(".", LONG),
    "label table uncertain": lambda: LabelTableSamples(".", ".", uncertain=LONG),
    "imagenet": lambda: ImageNetSamples(LONG),
    "pets": lambda: OxfordPetSamples(".", target=LONG),
    "pets split": lambda: OxfordPetSamples(".", split=LONG),
    "voc": lambda: VOCSamples(LONG),
    "lesions": lambda: RetinalLesions(LONG),
    "lesions seed": lambda: RetinalLesions(seed=-(10**4000)),
    "lesions size": lambda: RetinalLesions(size=-(10**4000)),
    "lesions index": lambda: RetinalLesions()[10**18],
    "csv": lambda: LabelledImages.from_csv(LONG),
    "from folders": lambda: LabelledImages.from_folders(LONG),
    "kind": lambda: labelled(kind=LONG),
    "binary": lambda: labelled(classes=NAMES, kind="binary"),
    "labels": lambda: labelled(labels=[tuple(MANY)] * 3),
    "missing classes": lambda: labelled(classes=NAMES).refuse_missing_classes(),
    "share": lambda: split_samples(labelled(), -(10**4000)),
    "weights": lambda: balanced_class_weights(torch.zeros(3, dtype=torch.long), 100_000),
    "twins": lambda: MaskedImages([ImageEntry(Path("a"), 0, LONG)] * 2, ["a"]),
    "size": lambda: MaskedImages([], ["a"], -(10**4000)),
    "method": lambda: compared(methods=[LONG]),
    "method object": lambda: compared(methods=[tuple(MANY)]),
    "metric": lambda: compared(metrics=[LONG]),
    "layer": lambda: compared(methods=["recipro_cam"], layer=LONG),
    "baseline": lambda: compared(baseline=LONG),
    "identifiers": lambda: compared(samples=[Sample(IMAGES[0], 0, None, LONG)] * 2),
    "classes": lambda: compared(samples=[Sample(IMAGES[0], 10**15, None, LONG)]),
    "image sizes": lambda: compared(
        samples=[Sample(IMAGES[0], 0, None, "a"), Sample(torch.rand(3, 5, 5), 0, None, LONG)], strict=True
    ),
    "mask sizes": lambda: compared(samples=[Sample(IMAGES[0], 0, BIG > 1, LONG)], metrics=["pointing_game"]),
    "folder": lambda: compared(folder=LONG),
    "explain func": lambda: LayerExplainFunc(LONG),
    "explain func argument": lambda: LayerExplainFunc("grad_cam", layer="x", **{LONG: 1}),
    "load": lambda: Comparison.load(LONG),
    "differences": lambda: make_comparison().differences(LONG),
    "table": lambda: make_table(make_comparison(), [LONG]),
    "unknown metric": lambda: Comparison(
        pd.DataFrame({"sample": ["a"], "method": ["b"], "metric": [LONG], "score": [1.0]}), pd.DataFrame(), {}
    ).summary(),
    "two scores": lambda: Comparison(
        pd.DataFrame({"sample": [LONG] * 2, "method": [LONG] * 2, "metric": ["deletion"] * 2, "score": [1.0, 2.0]}),
        pd.DataFrame(),
        {},
    ).summary(),
    "report": lambda: write_report(make_comparison(), f"/{LONG}/x.html"),
    "panel": lambda: plot_panel([]),
    "top k": lambda: functional.top_k_intersection(MAPS, MAPS > 0.5, k=-(10**4000)),
    "tolerance": lambda: functional.pointing_game(MAPS, MAPS > 0.5, tolerance=-(10**4000)),
    "shapes": lambda: functional.pointing_game(torch.rand(*[1] * 60), MAPS > 0.5),
}
TOLD = (ValueError, TypeError, OSError, AssertionError, IndexError, AttributeError)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_messages_are_short(call):
    with pytest.raises(TOLD) as caught:
        call()
    text = str(caught.value)
    assert 0 < len(text) <= 500, text[:2000]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text), text[:2000]
