"""Metrics of the comparison: each a row of :data:`METRICS`, a function of one method's maps of a batch.

The perturbation metrics of a comparison play on the patches of an image (:class:`PatchGame`): whole regions and all channels
go together, and what one method or metric has asked, the next gets for nothing. Most rows call the pure functions of
:mod:`captum_softcam.metrics.functional`; four let a class of Quantus do the work, where it does it rightly. For
scripts that speak Quantus, each is a class as well (:class:`QuantusMetric`).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from captum_softcam.metrics.batch import PATCHES, Batch, Explanation, patches_of
from captum_softcam.metrics.complexity import COMPLEXITY
from captum_softcam.metrics.faithfulness import FAITHFULNESS
from captum_softcam.metrics.localisation import LOCALISATION
from captum_softcam.metrics.metric import Curve, Metric
from captum_softcam.metrics.patches import PatchGame
from captum_softcam.metrics.quantus_rows import QUANTUS
from captum_softcam.metrics.verdicts import VERDICTS, Verdict

if TYPE_CHECKING:
    from captum_softcam.metrics.classes import (
        ADCC,
        ActivationPrecision,
        ActivationSensitivity,
        AverageDrop,
        Coherency,
        Deletion,
        EnergyBasedPointingGame,
        FaithfulnessCorrelation,
        FaithfulnessEstimate,
        IncreaseInConfidence,
        Infidelity,
        Insertion,
        IouAtBestThreshold,
        Irof,
        MapComplexity,
        Monotonicity,
        MonotonicityCorrelation,
        PixelAuc,
        PixelFlipping,
        PointingGame,
        RegionPerturbation,
        RelevanceMassAccuracy,
        RelevanceRankAccuracy,
        Road,
        Selectivity,
        SensitivityN,
        Sparseness,
        TopKIntersection,
        TopKLocalisationPrecision,
    )
    from captum_softcam.metrics.quantus_metric import QuantusMetric

__all__ = [
    "ADCC",
    "METRICS",
    "PATCHES",
    "VERDICTS",
    "ActivationPrecision",
    "ActivationSensitivity",
    "AverageDrop",
    "Batch",
    "Coherency",
    "Curve",
    "Deletion",
    "EnergyBasedPointingGame",
    "Explanation",
    "FaithfulnessCorrelation",
    "FaithfulnessEstimate",
    "IncreaseInConfidence",
    "Infidelity",
    "Insertion",
    "IouAtBestThreshold",
    "Irof",
    "MapComplexity",
    "Metric",
    "Monotonicity",
    "MonotonicityCorrelation",
    "PatchGame",
    "PixelAuc",
    "PixelFlipping",
    "PointingGame",
    "QuantusMetric",
    "RegionPerturbation",
    "RelevanceMassAccuracy",
    "RelevanceRankAccuracy",
    "Road",
    "Selectivity",
    "SensitivityN",
    "Sparseness",
    "TopKIntersection",
    "TopKLocalisationPrecision",
    "Verdict",
    "patches_of",
]

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*LOCALISATION, *FAITHFULNESS, *QUANTUS, *COMPLEXITY)}
"""The metrics by name."""


def __getattr__(name: str) -> object:
    """Load the classes of Quantus when one is asked for: importing Quantus takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.classes"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
