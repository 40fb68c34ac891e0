"""Small comparisons with everything that a report can show."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, Example

METHODS = ("soft_cam", "grad_cam", "occlusion", "random")
CLASSES = ["healthy", "hard exudates", "haemorrhages"]
SAMPLES = 10  # with fewer, no difference can be marked after the correction
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "<!-- \"quoted\" 'single' & &amp; ]]>",
    "line\u2028end \N{GRINNING FACE} `${1}` \\u003c $title",
)

_METRICS = {
    "pixel_auc": ("Pixel AUC", "localisation", True),
    "deletion": ("Deletion", "faithfulness", False),
    "sparseness": ("Sparseness", "complexity", True),
}
# The first score of each cell; the other samples follow in small steps. Deletion of random maps is undefined.
_FIRST = {
    "pixel_auc": (0.80, 0.70, 0.60, 0.50),
    "deletion": (0.30, 0.31, 0.20, float("nan")),
    "sparseness": (0.50, 0.50, 0.40, 0.10),
}


def make_comparison(**changes: Any) -> Comparison:
    """Four methods, three metrics, ten samples, two of them shown with maps."""
    parts = {
        "scores": pd.DataFrame(_scores()),
        "costs": _costs(),
        "manifest": _manifest(),
        "curves": pd.DataFrame(_curves()),
        "failures": _failures(),
        "examples": [make_example(0), make_example(1)],
    }
    return Comparison(**{**parts, **changes})


def several_classes(**changes: Any) -> Comparison:
    """The same of four images that show several classes each."""
    images = ["a", "a", "b", "c", "c", "c", "d", "a", "b", "d"]
    rows = [["0", 2, 2, 0.75, 0.5, 1, 0.8, 0.4, 1], ["1", 1, 3, 1, 1, 1, 1, 1, 1], ["2", 0, 4] + [float("nan")] * 6]
    mean = ["mean", float("nan"), float("nan"), 0.875, 0.75, 1, 0.9, 0.7, 1]
    ends = [f"{name}{end}" for name in ("auc", "average_precision") for end in ("", "_low", "_high")]
    parts = {
        "contents": pd.DataFrame({"sample": [f"s{i}" for i in range(SAMPLES)], "sha256": "0", "group": images}),
        "performance": pd.DataFrame([*rows, mean], columns=["class", "shown", "absent", *ends]),
        "manifest": {**_manifest(), "images": 4, "multilabel": True},
    }
    return make_comparison(**{**parts, **changes})


def with_manifest(comparison: Comparison, **changes: Any) -> Comparison:
    return dataclasses.replace(comparison, manifest={**comparison.manifest, **changes})


def without(comparison: Comparison, *, methods: int = len(METHODS), metrics: int = len(_METRICS)) -> Comparison:
    """The same with fewer methods and metrics."""
    kept, measured = METHODS[:methods], list(_METRICS)[:metrics]
    manifest = dict(comparison.manifest)
    manifest["methods"] = {name: manifest["methods"][name] for name in kept}
    manifest["metrics"] = {name: manifest["metrics"][name] for name in measured}
    return dataclasses.replace(
        comparison,
        scores=comparison.scores.query("method in @kept and metric in @measured"),
        curves=comparison.curves.query("method in @kept"),
        failures=comparison.failures.query("method in @kept and metric in @measured"),
        manifest=manifest,
    )


def make_map(seed: int, height: int = 20, width: int = 30) -> Tensor:
    """A signed map that is neither smooth nor square."""
    return torch.randn(1, height, width, generator=torch.Generator().manual_seed(seed)) * 0.01


def make_example(index: int) -> Example:
    """The second has a mask, and is predicted wrong."""
    generator = torch.Generator().manual_seed(index)
    mask = torch.zeros(1, 20, 30, dtype=torch.bool)
    mask[:, 4:12, 6:20] = True
    sample = Sample(torch.rand(3, 20, 30, generator=generator), index, mask if index else None, f"s{index}")
    maps = {name: make_map(10 * index + place) for place, name in enumerate(METHODS)}
    runner_up_maps = {name: make_map(100 + 10 * index + place) for place, name in enumerate(METHODS)}
    return Example(sample, index, maps, torch.tensor([0.2, 0.3, 0.5]), 2, runner_up_maps)


def _scores() -> list[dict[str, Any]]:
    return [
        {
            "sample": f"s{i}",
            "label": i % 3,
            "target": i % 3,
            "prediction": 2 if i == 1 else i % 3,
            "method": method,
            "metric": metric,
            "score": first + 0.01 * i,
        }
        for i in range(SAMPLES)
        for metric, cells in _FIRST.items()
        for method, first in zip(METHODS, cells, strict=True)
    ]


def _costs() -> pd.DataFrame:
    columns = {
        "forwards": [1.0, 1.0, 225.0, 0.0],
        "backwards": [0.0, 1.0, 0.0, 0.0],
        "seconds": [0.004, 0.006, 0.5, 0.0],
        "relative": [1.0, 15.0, 130.0, 0.0],
        "peak_bytes": [1e6, 2e6, 3e6, float("nan")],
    }
    return pd.DataFrame(columns, index=list(METHODS))


def _curves() -> list[dict[str, Any]]:
    return [
        {"sample": f"s{i}", "method": method, "metric": "deletion", "0": 0.8, "0.5": 0.2 * place + 0.01 * i, "1": 0.1}
        for i in range(SAMPLES)
        for place, method in enumerate(METHODS[:3])
    ]


def _failures() -> pd.DataFrame:
    rows = [("s1", "random", "deletion"), ("s2", "random", "deletion"), ("s3", "random", "")]
    frame = pd.DataFrame(rows, columns=["sample", "method", "metric"])
    return frame.assign(error=["ValueError: too flat", "ValueError: too flat", "RuntimeError: no map"])


def _manifest() -> dict[str, Any]:
    return {
        "model": "tiny",
        "layer": "layer4",
        "classes": CLASSES,
        "data": {"images": "/data/retina", "masks": None},
        "versions": {"python": "3.12.1", "torch": "2.9.0"},
        "seed": 3,
        "samples": SAMPLES,
        "samples_with_mask": SAMPLES,
        "batch_size": 4,
        "image_size": [20, 30],
        "explained_class": "true",
        "device": "cpu",
        "methods": {
            name: {
                "class": f"captum.attr._core.layer.{name}.LayerWithALongName",
                "layer": "layer4",
                "arguments": {},
                "control": name == "random",
            }
            for name in METHODS
        },
        "metrics": {
            name: {
                "title": title,
                "category": category,
                "higher_is_better": higher,
                "forwards": 0,
                "origin": "ours",
                "settings": {},
                "source": "anyone2020",
            }
            for name, (title, category, higher) in _METRICS.items()
        },
    }


def renamed_examples(comparison: Comparison, identifiers: Sequence[str], methods: Mapping[str, str]) -> list[Example]:
    """The kept examples under other names of their samples and methods."""
    return [
        dataclasses.replace(
            example,
            sample=dataclasses.replace(example.sample, identifier=identifiers[place]),
            maps={methods[name]: attribution for name, attribution in example.maps.items()},
            runner_up_maps={methods[name]: attribution for name, attribution in example.runner_up_maps.items()},
        )
        for place, example in enumerate(comparison.examples)
    ]


def hostile_comparison() -> Comparison:
    """The same, with markup wherever users name something."""
    comparison = make_comparison()
    renamed = dict(zip(METHODS, HOSTILE, strict=True))
    manifest = {
        **comparison.manifest,
        "classes": list(HOSTILE),
        "data": {"images": HOSTILE[0] + "\udcff"},  # half a pair, as an odd byte in a path
        "command": {"images": HOSTILE[2]},
        "methods": {renamed[name]: entry for name, entry in comparison.manifest["methods"].items()},
        "metrics": {
            name: {**entry, "title": title}
            for (name, entry), title in zip(comparison.manifest["metrics"].items(), HOSTILE, strict=False)
        },
    }
    samples = {f"s{place}": HOSTILE[place] for place in range(4)}
    return Comparison(
        scores=comparison.scores.replace({"method": renamed, "sample": samples}),
        costs=comparison.costs.rename(index=renamed),
        manifest=manifest,
        curves=comparison.curves.replace({"method": renamed, "sample": samples}),
        failures=comparison.failures.replace({"method": renamed, "sample": samples}).assign(error=HOSTILE[:3]),
        examples=renamed_examples(comparison, HOSTILE, renamed),
    )


def big_examples(kind: str) -> list[Example]:
    """50 samples of 224 x 224 with 8 methods and the maps of the runner-up: smooth as layer maps, or noise."""
    generator = torch.Generator().manual_seed(0)
    size = 7 if kind == "smooth" else 224
    drawn = torch.randn(16, 1, size, size, generator=generator)
    maps = torch.nn.functional.interpolate(drawn, (224, 224), mode="bilinear") if kind == "smooth" else drawn
    texture = torch.nn.functional.interpolate(torch.rand(50, 3, 56, 56, generator=generator), (224, 224), mode="bilinear")
    return [
        Example(
            Sample(image, 0, torch.ones(1, 224, 224, dtype=torch.bool), f"s{i}"),
            0,
            {f"method{j}": maps[j] for j in range(8)},
            torch.tensor([0.6, 0.4]),
            1,
            {f"method{j}": maps[8 + j] for j in range(8)},
        )
        for i, image in enumerate(texture)
    ]


def big_comparison(kind: str) -> Comparison:
    examples = big_examples(kind)
    rows = [
        {
            "sample": f"s{i}",
            "label": 0,
            "target": 0,
            "prediction": 0,
            "method": f"method{j}",
            "metric": "pixel_auc",
            "score": 0.5,
        }
        for i in range(len(examples))
        for j in range(8)
    ]
    costs = pd.DataFrame({"relative": np.arange(8.0)}, index=[f"method{j}" for j in range(8)])
    return Comparison(pd.DataFrame(rows), costs, {"samples_with_mask": 50}, examples=examples)
