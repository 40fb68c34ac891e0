"""All metrics by name. No row imports this module, so that classes and comparisons can import it without a circle."""

from __future__ import annotations

from captum_softcam._names import closest, quoted
from captum_softcam.metrics._rows import ROWS
from captum_softcam.metrics.metric import Metric
from captum_softcam.metrics.verdicts import VERDICTS

__all__ = ["CLASS_NAMES", "METRICS", "find_metric"]

METRICS: dict[str, Metric] = {metric.name: metric for metric in ROWS}
"""The metrics by name."""

CLASS_NAMES = ["".join(word.capitalize() for word in name.split("_")) for name in METRICS]
"""Names of the metrics as classes of Quantus: ``Irof`` computes ``irof``."""


def find_metric(name: str) -> Metric:
    """Return the metric of a name, with another baseline where the name ends in one.

    Args:
        name (str): a name in ``METRICS``, or one with the baseline that replaces removed patches: ``deletion@mean``.

    Returns:
        Metric: the metric, as by :meth:`Metric.with_baseline` where a baseline is named.

    Raises:
        ValueError: if the metric or the baseline is unknown, or the metric does not replace anything.
    """
    stem, at, baseline = name.partition("@")
    if stem not in METRICS:
        known = [*METRICS, *(f"quantus:{name}" for name in VERDICTS)]
        raise ValueError(f"metric {quoted(name)} is unknown. {closest(stem, known)}")
    return METRICS[stem].with_baseline(baseline) if at else METRICS[stem]
