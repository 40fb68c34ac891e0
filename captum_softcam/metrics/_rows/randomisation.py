"""Rows of randomisation: whether a map depends on what the model has learned."""

from __future__ import annotations

from captum_softcam.metrics.metric import Metric

__all__ = ["ROWS"]

ROWS: tuple[Metric, ...] = ()
