"""The figures of the package, which belong to no window and no pyplot, yet show in a notebook."""

from __future__ import annotations

import io
import threading
from typing import Any

import matplotlib
from matplotlib.figure import Figure

__all__ = ["Drawing"]

_SAVING = threading.Lock()


class Drawing(Figure):
    """A figure that a notebook shows, and whose text stays text in SVG, so that it can be searched and edited."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save the figure as Matplotlib does."""
        # One at a time, because the setting is that of the process: a second thread would restore the wrong one.
        with _SAVING, matplotlib.rc_context({"svg.fonttype": "none"}):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        """Return the picture for a notebook, which shows other figures only once pyplot has made one."""
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
