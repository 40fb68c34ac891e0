"""The metrics of a comparison, each a row with its direction, cost, settings and source; one module per family.

A row names a function of :mod:`captum_softcam.metrics.functional`, which is looked up when the row is measured: the table
can be shown without loading torch.
"""

from __future__ import annotations

from captum_softcam.metrics._rows import axiomatic, complexity, faithfulness, localisation, randomisation, robustness

__all__ = ["ROWS"]

ROWS = (
    *localisation.ROWS,
    *faithfulness.ROWS,
    *robustness.ROWS,
    *randomisation.ROWS,
    *axiomatic.ROWS,
    *complexity.ROWS,
)
"""The metrics in the order of tables."""
