"""Run every metric of Quantus as a column of a comparison, and write the table of what becomes of it.

    python benchmarks/quantus_table.py > docs/reference/quantus_measured.md

The networks are the embedded classifier of retinal lesions and EfficientNet-Lite0 of timm with photographs of scikit-image,
explained by Grad-CAM. Takes ten minutes on a busy core.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import quantus
import skimage.data
import torch
from shared import table
from torch import Tensor, nn

from captum_softcam import load_classifier, load_embedded
from captum_softcam.data import RetinalLesions, Sample
from captum_softcam.evaluation import compare_methods
from captum_softcam.metrics import VERDICTS, Explanation, Metric, Verdict, quantus_column

PHOTOGRAPHS = ("chelsea", "coffee")
LESIONS = 2
SETTINGS: dict[str, dict[str, Any]] = {  # that make a metric affordable, or possible, at the size of a photograph
    "AvgSensitivity": {"nr_samples": 4},
    "Continuity": {"nr_steps": 4},
    "FaithfulnessCorrelation": {"nr_runs": 20, "subset_size": 4096},
    "FaithfulnessEstimate": {"features_in_step": 1024},
    "Infidelity": {"perturb_patch_sizes": [32], "n_perturb_samples": 1},
    "LocalLipschitzEstimate": {"nr_samples": 4},
    "MPRT": {"skip_layers": True},
    "MaxSensitivity": {"nr_samples": 4},
    "Monotonicity": {"features_in_step": 1024},
    "MonotonicityCorrelation": {"features_in_step": 1024, "nr_samples": 1},
    "PixelFlipping": {"features_in_step": 1024},
    "ROAD": {"percentages": [20, 40]},
    "RegionPerturbation": {"patch_size": 32, "regions_evaluation": 8},
    "RelativeInputStability": {"nr_samples": 4},
    "RelativeOutputStability": {"nr_samples": 4},
    "RelativeRepresentationStability": {"nr_samples": 4},
    "Selectivity": {"patch_size": 32},
}
TOO_MANY = {"NonSensitivity": "one forward for each value of the image"}
HEADER = ("Quantus", "verdict", "lesions", "seconds", "photographs", "seconds", "settings")


@dataclass(frozen=True)
class Ground:
    """A classifier with samples that it knows."""

    model: nn.Module
    samples: list[Sample]
    normalize: Callable[[Tensor], Tensor] | None = None


def main() -> None:
    """Print the table."""
    measured = [_measured(ground) for ground in (_lesions(), _photographs())]
    rows = [_row(verdict, *(found.get(name, ("", "")) for found in measured)) for name, verdict in VERDICTS.items()]
    versions = f"Quantus {quantus.__version__}, torch {torch.__version__}, one thread of a CPU"
    print(f"Measured with {versions}.\n\n{table(HEADER, rows, 'llrrrrl')}")


def _lesions() -> Ground:
    lesions = RetinalLesions("test")
    found = (lesions[i] for i in range(len(lesions)))
    masked = [sample for _, sample in zip(range(4 * LESIONS), found, strict=False) if sample.mask is not None]
    classifier = load_embedded("lesions_black_box")
    return Ground(classifier.model, masked[:LESIONS], classifier.normalize)


def _photographs() -> Ground:
    classifier = load_classifier("efficientnet_lite0")
    images = [classifier.prepare(getattr(skimage.data, name)())[0] for name in PHOTOGRAPHS]
    return Ground(
        classifier.model, [Sample(each, -1, _box(each), name) for each, name in zip(images, PHOTOGRAPHS, strict=True)]
    )


def _box(image: Tensor) -> Tensor:
    """Return the middle of an image as a mask, where the objects of these photographs are."""
    mask = torch.zeros(1, *image.shape[1:])
    top, left = (side // 4 for side in image.shape[1:])
    mask[:, top : 3 * top, left : 3 * left] = 1
    return mask


def _row(verdict: Verdict, *cells: tuple[str, str]) -> tuple[str, ...]:
    words = {"runs": "runs", "corrected": f"corrected here as `{verdict.instead}`", "refused": "refused"}[verdict.verdict]
    settings = ", ".join(f"`{key}={value}`" for key, value in SETTINGS.get(verdict.name, {}).items())
    why = settings if verdict.column and verdict.name not in TOO_MANY else TOO_MANY.get(verdict.name, "cannot be a column")
    return verdict.name, words, *itertools.chain(*cells), why


def _measured(ground: Ground) -> dict[str, tuple[str, str]]:
    """Return the mean score of each metric and the seconds of a sample, or the error in place of the score."""
    seconds: dict[str, float] = {}

    def timed(name: str, metric: Metric) -> Metric:
        def measure(explanation: Explanation, **settings: Any) -> Any:
            start = time.perf_counter()
            scores = metric.function(explanation, **settings)
            seconds[name] = (time.perf_counter() - start) / len(ground.samples)
            print(f"{name}: {seconds[name]:.2f} s", file=sys.stderr)
            return scores

        return replace(metric, function=measure)

    names = [name for name, verdict in VERDICTS.items() if verdict.column and name not in TOO_MANY]
    metrics = {name: getattr(quantus, name)(disable_warnings=True, **SETTINGS.get(name, {})) for name in names}
    found = compare_methods(
        ground.model,
        ground.samples,
        ["grad_cam"],
        {name: timed(name, quantus_column(metric)) for name, metric in metrics.items()},
        explain="predicted",
        normalize=ground.normalize,
        examples=0,
    )
    means = found.scores.groupby("metric")["score"].mean()
    errors = {row.metric: row.error.partition(":")[0] for row in found.failures.itertuples()}
    return {name: (_text(means[name], errors.get(name, "undefined")), f"{seconds[name]:.2f}") for name in names}


def _text(mean: float, otherwise: str) -> str:
    return otherwise if math.isnan(mean) else f"{mean:.3g}"


if __name__ == "__main__":
    main()
