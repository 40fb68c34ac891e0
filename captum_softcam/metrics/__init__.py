"""Metrics of a comparison: each is a row of :data:`METRICS`, a function of one method's maps of a batch.

Perturbation metrics work on the patches of an image (:class:`PatchGame`): whole regions and all channels are replaced
together, and a perturbed image that one method or metric has shown to the model costs the next one nothing. The formulas are
pure functions in :mod:`captum_softcam.metrics.functional`. For scripts that use Quantus, each metric is also a class
(:class:`QuantusMetric`).
"""

import lazy_loader

from captum_softcam.metrics.registry import CLASS_NAMES

# The classes follow from the registry, so that a new one needs no entry here. The types of all names are in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    ["functional"],
    {
        "_quantus.columns": ["quantus_column"],
        "_quantus.metric": ["QuantusMetric"],
        "batch": ["Batch", "Explain", "Explanation"],
        "classes": [*CLASS_NAMES, "AUC", "IROF", "MPRT", "ROAD", "AttributionLocalisation", "Focus"],
        "metric": ["BASELINES", "Category", "Curve", "Metric", "Scored"],
        "mosaics": ["MosaicPool", "Mosaics"],
        "patches": ["PATCHES", "PatchGame", "patches_of"],
        "randomised": ["RandomisedModels"],
        "registry": ["METRICS", "find_metric"],
        "verdicts": ["VERDICTS", "Verdict"],
    },
)
