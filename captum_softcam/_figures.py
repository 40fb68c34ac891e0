"""The figures of the package, which belong to no window and no pyplot, yet show in a notebook."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

__all__ = ["Drawing", "saving"]

_SAVING = threading.RLock()  # which a sheet holds already when its Drawing is saved


class Drawing(Figure):
    """A figure that a notebook shows, and whose text stays text in SVG, so that it can be searched and edited."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save the figure as Matplotlib does."""
        with saving({"svg.fonttype": "none"}):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        """Return the picture for a notebook, which shows other figures only once pyplot has made one."""
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


@contextmanager
def saving(settings: Any) -> Iterator[None]:
    """Save figures with settings of Matplotlib, one at a time."""
    # Because they are settings of the process: a second thread would restore the wrong ones.
    with _SAVING, matplotlib.rc_context(settings):
        yield
