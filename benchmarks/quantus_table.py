"""Run every metric of Quantus as a column of a comparison, and write the table of what becomes of it.

    python benchmarks/quantus_table.py > docs/reference/quantus_measured.md

The networks are the embedded classifier of retinal lesions and EfficientNet-Lite0 of timm with photographs of scikit-image,
explained by Grad-CAM. Takes a few minutes on two cores.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import quantus
import skimage.data
import torch
from shared import table
from torch import Tensor, nn

from captum_softcam import load_classifier, load_embedded
from captum_softcam.data import RetinalLesions, Sample
from captum_softcam.evaluation import compare_methods
from captum_softcam.metrics import VERDICTS, quantus_column

PHOTOGRAPHS = ("chelsea", "coffee")
LESIONS = 2
SETTINGS: dict[str, dict[str, Any]] = {  # that make a metric affordable, or possible, at the size of a photograph
    "AvgSensitivity": {"nr_samples": 4},
    "Continuity": {"nr_steps": 4},
    "FaithfulnessCorrelation": {"nr_runs": 20, "subset_size": 4096},
    "FaithfulnessEstimate": {"features_in_step": 3136},
    "Infidelity": {"perturb_patch_sizes": [32], "n_perturb_samples": 1},
    "LocalLipschitzEstimate": {"nr_samples": 4},
    "MPRT": {"skip_layers": True},
    "MaxSensitivity": {"nr_samples": 4},
    "Monotonicity": {"features_in_step": 3136},
    "MonotonicityCorrelation": {"features_in_step": 3136, "nr_samples": 1},
    "PixelFlipping": {"features_in_step": 3136},
    "ROAD": {"percentages": [20, 40]},
    "RegionPerturbation": {"patch_size": 28, "regions_evaluation": 8},
    "RelativeInputStability": {"nr_samples": 4},
    "RelativeOutputStability": {"nr_samples": 4},
    "RelativeRepresentationStability": {"nr_samples": 4},
    "Selectivity": {"patch_size": 32},
}
TOO_MANY = {"NonSensitivity"}  # forwards: one for each value of the image
HEADER = ("Quantus", "verdict", "lesions", "seconds", "photographs", "seconds", "settings")


@dataclass(frozen=True)
class Ground:
    """A classifier with samples that it knows."""

    model: nn.Module
    samples: list[Sample]
    normalize: Callable[[Tensor], Tensor] | None = None


def main() -> None:
    """Print the table."""
    grounds = [_lesions(), _photographs()]
    rows = [_row(name, grounds) for name in VERDICTS]
    versions = f"Quantus {quantus.__version__}, torch {torch.__version__}"
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


def _row(name: str, grounds: list[Ground]) -> tuple[str, ...]:
    verdict = VERDICTS[name]
    words = {"runs": "runs", "corrected": f"corrected here as `{verdict.instead}`", "refused": "refused"}[verdict.verdict]
    settings = SETTINGS.get(name, {})
    cells = [cell for ground in grounds for cell in _measured(name, settings, ground)]
    print(name, *cells, file=sys.stderr)
    return name, words, *cells, ", ".join(f"`{key}={value}`" for key, value in settings.items())


def _measured(name: str, settings: dict[str, Any], ground: Ground) -> tuple[str, str]:
    """Return the mean score and the seconds of a sample, or why there is none."""
    if not VERDICTS[name].column:
        return "no column", ""
    if name in TOO_MANY:
        return f"{ground.samples[0].image.numel():,} forwards", ""
    column = quantus_column(getattr(quantus, name)(disable_warnings=True, **settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = {"explain": "predicted", "normalize": ground.normalize, "examples": 0}
        empty = time.perf_counter()
        compare_methods(ground.model, ground.samples, ["grad_cam"], ["sparseness"], **chosen)
        start = time.perf_counter()
        found = compare_methods(ground.model, ground.samples, ["grad_cam"], {name: column}, **chosen)
    seconds = max(0.0, time.perf_counter() - start - (start - empty)) / len(ground.samples)
    scores = found.scores["score"].dropna()
    if len(scores):
        return f"{scores.mean():.3g}", f"{seconds:.1f}"
    return (found.failures["error"].iloc[0].partition(":")[0] if len(found.failures) else "undefined"), f"{seconds:.1f}"


if __name__ == "__main__":
    main()
