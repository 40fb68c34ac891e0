"""Help with names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["closest"]


def closest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the known names closest to a wrong one, or the first few if none is close."""
    names = [entry for entry in known if entry]
    close = difflib.get_close_matches(name, names, n=3)
    shown = ", ".join(map(repr, close or names[:8]))
    return f"Closest: {shown}." if close else f"Known: {shown}{', …' if len(names) > 8 else ''}."
