"""Rows of axioms: identities that a map has to satisfy."""

from __future__ import annotations

from captum_softcam.metrics.metric import Metric

__all__ = ["ROWS"]

ROWS: tuple[Metric, ...] = ()
