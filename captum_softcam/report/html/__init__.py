"""One self-contained HTML file of a comparison: it fetches nothing, and what users named is text, never markup."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from captum_softcam._files import write_text
from captum_softcam._names import shown
from captum_softcam.evaluation import Comparison
from captum_softcam.report.html.facts import Facts
from captum_softcam.report.html.page import make_page

__all__ = ["write_report"]


def write_report(comparison: Comparison, path: str | Path, classes: Sequence[str] | None = None) -> None:
    """Write a comparison as one HTML file that needs nothing else, neither beside it nor from the network.

    It holds a summary in words, the table with intervals and what is clear against the baseline, insertion and deletion
    curves, the maps of the samples that the comparison kept, cost against quality, failures, settings, and the scores of
    every sample if they take less than 1 MB. The same comparison gives the same file, byte for byte. Parts that the
    comparison lacks are left out.

    Maps are kept as signed bytes, at most 112 positions a side, coarser where the file would grow beyond 10 MB.

    Args:
        comparison (Comparison): what is reported.
        path (path): the file, a new one. It appears at once, when it is whole.
        classes (sequence of str): names of the classes. Default: those of the manifest, else their numbers

    Raises:
        FileExistsError: if ``path`` exists; nothing is overwritten.
        FileNotFoundError: if its folder does not exist.
        OSError: if the file cannot be written, as on a full disk or in a folder that is read-only.

    Example::

        >>> write_report(comparison, "report.html")
    """
    path = Path(path)
    if os.path.lexists(path):
        raise FileExistsError(f"'{shown(path)}' exists already and is not overwritten; choose another name or move it away.")
    if not os.path.isdir(path.parent):
        raise FileNotFoundError(
            f"the report's folder '{shown(path.parent)}' does not exist; make it first, or choose another."
        )
    write_text(path, make_page(Facts(comparison, classes)))
