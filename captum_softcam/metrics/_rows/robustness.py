"""Rows of robustness: whether a map stays alike where the image does."""

from __future__ import annotations

from captum_softcam.metrics.metric import Metric

__all__ = ["ROWS"]

ROWS: tuple[Metric, ...] = ()
