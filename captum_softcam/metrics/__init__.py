"""Metrics of the comparison: each a row of :data:`METRICS`, a function of one method's maps of a batch.

The perturbation metrics of a comparison play on the patches of an image (:class:`PatchGame`): whole regions and all channels
go together, and what one method or metric has asked, the next gets for nothing. Most rows call the pure functions of
:mod:`captum_softcam.metrics.functional`; four let a class of Quantus do the work, where it does it rightly.
"""

from captum_softcam.metrics.complexity import COMPLEXITY
from captum_softcam.metrics.faithfulness import FAITHFULNESS
from captum_softcam.metrics.localisation import LOCALISATION
from captum_softcam.metrics.metric import Curve, Metric
from captum_softcam.metrics.patches import PatchGame
from captum_softcam.metrics.quantus_rows import QUANTUS
from captum_softcam.metrics.trial import PATCHES, Explained, Trial

__all__ = ["METRICS", "PATCHES", "Curve", "Explained", "Metric", "PatchGame", "Trial"]

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*LOCALISATION, *FAITHFULNESS, *QUANTUS, *COMPLEXITY)}
"""The metrics by name."""
