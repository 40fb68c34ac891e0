"""Turn the labels of any data set into numbers of classes: numbers, names, one-hot and multi-hot vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from captum_softcam._names import quoted
from captum_softcam.data._items.arrays import described
from captum_softcam.data.samples import UNKNOWN, class_number, class_numbers

__all__ = ["ClassNames", "Labels", "are_vectors", "plain"]


class Labels(NamedTuple):
    """The classes of an image.

    Args:
        shown (tuple of int): those that it shows, sorted.
        undecided (tuple of int): those that it may or may not show, sorted.
        positions (tuple of int): the class of every element of the label, for masks that lie in the same order.
    """

    shown: tuple[int, ...]
    undecided: tuple[int, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True)
class ClassNames:
    """The names of the classes of a data set, and those of the logits of a model.

    Args:
        own (tuple of str or None): names in the order of the data set's numbers, if it knows them.
        wanted (tuple of str or None): names in the order of the logits, if they differ.
    """

    own: tuple[str, ...] | None
    wanted: tuple[str, ...] | None

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names in the order of the numbers of samples, if they are known."""
        return self.own if self.wanted is None else self.wanted

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return class_numbers(self.names or ())

    def number(self, label: Any, place: str) -> int:
        """Return the number of the one class of an image, -1 if it is not known.

        Args:
            label (object): a number, a name, a one-hot vector, or None or -1 for an unknown class.
            place (str): the sample, for error messages.

        Raises:
            ValueError: if it is none of them, or shows several classes.
        """
        value = plain(label)
        if isinstance(value, list):
            return self._number(self._only(value, label, place), place)
        return self._number(value, place)

    def labels(self, label: Any, place: str, *, vector: bool) -> Labels:
        """Return the classes of an image that may show several.

        Args:
            label (object): a vector of 1 (shown), 0 and -1 or NaN (undecided) for each class; or one class, or several.
            place (str): the sample, for error messages.
            vector (bool): which of the two it is.

        Raises:
            ValueError: if it is neither.
        """
        value = plain(label)
        values = value if isinstance(value, list) else [value]
        if not vector:
            numbers = tuple(self._number(each, place) for each in values)
            return Labels(tuple(sorted({*numbers} - {UNKNOWN})), (), numbers)
        if not _is_vector(values):
            raise ValueError(f"{place} has the label {described(label)}; expected 1, 0 or -1 (undecided) for each class.")
        numbers = tuple(self._number(position, place) for position in range(len(values)))
        signs = [UNKNOWN if _is_missing(each) else each for each in values]
        shown, undecided = (
            tuple(sorted(number for number, each in zip(numbers, signs, strict=True) if each == sign))
            for sign in (1, UNKNOWN)
        )
        return Labels(shown, undecided, numbers)

    def _only(self, values: list[Any], label: Any, place: str) -> Any:
        if len(values) == 1:
            return values[0]
        one_hot = values.count(1) == 1 and values.count(0) == len(values) - 1
        if one_hot and len(values) == len(self.own or self.names or values):
            return values.index(1)
        raise ValueError(
            f"{place} has the label {described(label)}, which is no single class; pass multilabel=True if an image may show "
            "several, or return the number of its class."
        )

    def _number(self, value: Any, place: str) -> int:
        if isinstance(value, str) and self.names is not None:
            return class_number(value, self._numbers, place)
        if isinstance(value, str):
            raise ValueError(f"{place} has the class {quoted(value)}; pass classes=, all names in the order of the logits.")
        if _is_missing(value):
            return UNKNOWN
        if not isinstance(value, (bool, int, float)) or value < UNKNOWN or value % 1 != 0:  # infinite modulo 1 is NaN
            raise ValueError(f"{place} has the label {described(value)}; expected the number or the name of a class.")
        number = int(value)
        if number == UNKNOWN or self.own is None or self.own == self.names:
            return number
        if number >= len(self.own):
            raise ValueError(f"{place} has the class {number}; the data set names {len(self.own)} classes.")
        return class_number(self.own[number], self._numbers, place)


def are_vectors(labels: Iterable[Any], classes: Sequence[str] | None) -> bool:
    """Check whether labels are vectors with an element for each class, and not lists of classes.

    They are if all have one length above 1 and hold 0, 1, -1 and NaN alone.

    Raises:
        ValueError: if that length is not the number of the classes.
    """
    values = [plain(label) for label in labels if label is not None]
    lengths = {len(value) if isinstance(value, list) else 1 for value in values}
    if len(lengths) != 1 or lengths == {1} or not all(map(_is_vector, values)):
        return False
    (length,) = lengths
    if classes is not None and length != len(classes):  # lists of the classes 0 and 1 would be read from them
        raise ValueError(
            f"labels are vectors of {length} elements, for {len(classes)} classes; return an element for each class, or "
            "the names of the classes that an image shows."
        )
    return True


def _is_vector(values: Sequence[Any]) -> bool:
    return all(_is_missing(value) or (isinstance(value, (bool, int, float)) and value in (0, 1, -1)) for value in values)


def _is_missing(value: Any) -> bool:
    return value is None or value != value  # NaN, as pandas and torchxrayvision call what is not known


def plain(label: Any) -> Any:
    """Return a label as objects of Python."""
    if isinstance(label, (Tensor, np.ndarray, np.generic)):
        return plain(label.tolist())
    return [plain(each) for each in label] if isinstance(label, (list, tuple)) else label
