"""A comparison as one self-contained HTML file."""

from captum_softcam.report.html.page import write_report

__all__ = ["write_report"]
