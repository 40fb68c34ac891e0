"""Metrics of the comparison: Quantus classes with settings that hold for RGB images and signed maps."""

from captum_softcam.metrics.faithfulness import COMPLEXITY, FAITHFULNESS
from captum_softcam.metrics.localisation import LOCALISATION
from captum_softcam.metrics.metric import Curve, Metric
from captum_softcam.metrics.patches import PatchGame
from captum_softcam.metrics.trial import PATCHES, Explained, Trial

__all__ = ["METRICS", "PATCHES", "Curve", "Explained", "Metric", "PatchGame", "Trial"]

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*LOCALISATION, *FAITHFULNESS, *COMPLEXITY)}
"""The metrics by name."""
