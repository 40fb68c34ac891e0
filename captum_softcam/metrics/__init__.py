"""Metrics of the comparison: Quantus classes with settings that hold for RGB images and signed maps."""

from captum_softcam.metrics.faithfulness import FAITHFULNESS
from captum_softcam.metrics.localisation import LOCALISATION
from captum_softcam.metrics.metric import Metric
from captum_softcam.metrics.patches import PatchGame

__all__ = ["METRICS", "Metric", "PatchGame"]

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*LOCALISATION, *FAITHFULNESS)}
"""The metrics by name."""
