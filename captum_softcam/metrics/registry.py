"""All metrics by name. No row imports this module, so that classes and comparisons can import it without a circle."""

from __future__ import annotations

from captum_softcam.metrics._rows import ROWS
from captum_softcam.metrics.metric import Metric

__all__ = ["CLASS_NAMES", "METRICS"]

METRICS: dict[str, Metric] = {metric.name: metric for metric in ROWS}
"""The metrics by name."""

CLASS_NAMES = ["".join(word.capitalize() for word in name.split("_")) for name in METRICS]
"""Names of the metrics as classes of Quantus: ``Irof`` computes ``irof``."""
