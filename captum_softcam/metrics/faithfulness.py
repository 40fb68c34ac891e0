"""Does the model need what the map marks? Two Quantus metrics, played on patches instead of single channel values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_softcam.metrics.localisation import ranks, unit_range
from captum_softcam.metrics.metric import Metric

__all__ = ["FAITHFULNESS", "area_over_curve"]

_STEPS = 32
_RUNS = 200


def area_over_curve(drops: Any) -> NDArray[Any]:
    """Mean drop of the score over the steps (N, steps), the untouched image included as the first."""
    curves = np.asarray(drops, dtype=np.float64)
    return np.asarray(curves.sum(axis=1) / (curves.shape[1] + 1))


FAITHFULNESS = (
    Metric(
        name="region_perturbation",
        title="Region perturbation",
        category="faithfulness",
        # Quantus declares lower as better; with the most relevant first, a large drop is what a good map causes
        higher_is_better=True,
        source="samek2017evaluating",
        forwards=_STEPS,
        quantus_class="RegionPerturbation",
        settings={"patch_size": 1, "order": "morf", "regions_evaluation": _STEPS, "perturb_baseline": 0.0},
        prepare=ranks,
        reduce=area_over_curve,
        call={"softmax": True},
    ),
    Metric(
        name="faithfulness_correlation",
        title="Faithfulness correlation",
        category="faithfulness",
        higher_is_better=True,
        source="bhatt2020evaluating",
        forwards=_RUNS,
        quantus_class="FaithfulnessCorrelation",
        settings={"nr_runs": _RUNS, "subset_size": 16, "perturb_baseline": 0.0},
        prepare=unit_range,
        call={"softmax": False},
    ),
)
