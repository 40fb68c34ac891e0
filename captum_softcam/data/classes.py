"""From the names of classes to their numbers."""

from __future__ import annotations

from collections.abc import Sequence

from captum_softcam._names import closest

__all__ = ["class_number"]


def class_number(name: str, classes: Sequence[str], where: str) -> int:
    """The place of a name in the order of the logits, or ValueError with the place that bears the name."""
    if name not in classes:
        raise ValueError(f"{where} has the unknown class {name!r}. {closest(name, classes)}")
    return classes.index(name)
