"""From the names of classes to their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from captum_softcam._names import closest, quoted

__all__ = ["class_number", "numbered"]


def numbered(classes: Iterable[str]) -> dict[str, int]:
    """The number of each class by its name, for thousands of look-ups; of equal names the first counts."""
    found: dict[str, int] = {}
    for number, name in enumerate(classes):
        found.setdefault(name, number)
    return found


def class_number(name: str, numbers: Mapping[str, int], where: str) -> int:
    """The number of a name among those of :func:`numbered`, or ValueError with the place that bears the name."""
    if name not in numbers:
        raise ValueError(f"{where} has the unknown class {quoted(name)}. {closest(name, numbers)}")
    return numbers[name]
