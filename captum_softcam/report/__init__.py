"""Tables, panels, curves and an HTML report of comparisons, models and trainings."""

from captum_softcam.report.curves import plot_history
from captum_softcam.report.html import write_report
from captum_softcam.report.panels import plot_panel
from captum_softcam.report.terminal import (
    make_layer_table,
    make_metric_table,
    make_table,
    make_verdict_table,
    print_metrics,
    print_table,
    table_notes,
    write_pictures,
)

__all__ = [
    "make_layer_table",
    "make_metric_table",
    "make_table",
    "make_verdict_table",
    "plot_history",
    "plot_panel",
    "print_metrics",
    "print_table",
    "table_notes",
    "write_pictures",
    "write_report",
]
