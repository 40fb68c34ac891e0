"""Collect what a reader leaves out: one missing picture or damaged annotation does not stop it, and none goes unnoticed."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from captum_softcam._names import listed, reason

__all__ = ["MISSING", "LeftOut"]

MISSING = "no such image"
"""Reason to leave out what an annotation says about a picture that is not there."""


class LeftOut:
    """What a reader leaves out, by the reason in words; faults among it are said by a warning.

    Args:
        source (str): what the names come from, for the warning, such as ``"table 'boxes.csv'"``.
    """

    def __init__(self, source: str) -> None:
        self._names: dict[str, dict[str, None]] = defaultdict(dict)  # a dictionary, because a name may come again
        self._source = source
        self._first_error: Exception | None = None
        self._faults: dict[str, str] = {}

    def add(self, why: str, name: str) -> None:
        """Count a name, each one once, that is left out without a fault."""
        self._names[why][name] = None

    @contextmanager
    def faults(self, why: str, name: str, *kinds: type[Exception]) -> Iterator[None]:
        """Leave out ``name`` if the code in the context raises an error of these kinds, and go on."""
        try:
            yield
        except kinds as error:
            self.add(why, name)
            self._faults.setdefault(why, reason(error, 400))
            self._first_error = self._first_error or error

    @property
    def names(self) -> dict[str, list[str]]:
        """What is left out, by the reason."""
        return {why: list(names) for why, names in self._names.items()}

    def tell(self, left: int) -> None:
        """Warn about the faults.

        Args:
            left (int): the number of samples that are left.

        Raises:
            FileNotFoundError or ValueError: the first fault, if nothing is left.
        """
        if self._first_error is not None and not left:
            raise self._first_error
        for why, first in self._faults.items():
            names = self._names[why]
            warnings.warn(
                f"{self._source}: {len(names)} left out ({why}): {listed(names)}. The first of them: {first}.",
                stacklevel=3,
            )
