"""Names and other values of users in messages: shortened, on one line, and without anything that acts on a terminal."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from itertools import islice

__all__ = ["closest", "listed", "quoted", "reason", "shown"]

PATH = 160
"""Characters of a path that a message shows: two of them and a sentence stay below 500."""

_VALUE = 80
_COMPARED = 50_000  # known names that a wrong one is compared with


def shown(value: object, most: int = PATH) -> str:
    r"""A value as text of at most ``most`` characters, cut in its middle; what does not print is escaped, as ``\x1b``.

    Args:
        value (object): a path or a name, mostly.
        most (int): greatest length. Default: 160, for paths
    """
    text = _cut(str(value), most)
    return text if text.isprintable() else _cut("".join(map(_escaped, text)), most)


def quoted(value: object, most: int = _VALUE) -> str:
    """The ``repr`` of a value, shortened as by :func:`shown`; its type where it is nested or long beyond printing."""
    try:
        return shown(repr(value), most)
    except (RecursionError, ValueError):  # ValueError: Python refuses to print integers of more than 4300 digits
        return f"a {type(value).__name__} too large to show"


def reason(error: object, most: int = 200) -> str:
    """The words of another error on one line, shortened, without a full stop at the end."""
    return shown(" ".join(str(error).split()), most).rstrip(".")


def listed(names: Iterable[object], most: int = PATH) -> str:
    """Names separated by commas, as many as ``most`` characters hold, and how many more there are."""
    texts = [shown(name, _VALUE) for name in names]
    end = len(texts)
    while end > 1 and sum(map(len, texts[:end])) + 2 * end > most:
        end -= 1
    return ", ".join(texts[:end]) + (f" and {len(texts) - end} more" if end < len(texts) else "")


def closest(name: str, known: Iterable[object]) -> str:
    """The end of an error message: the known names closest to a wrong one, or the first few if none is close."""
    names = [str(entry) for entry in islice(known, _COMPARED) if entry or entry == 0]
    close = difflib.get_close_matches(str(name)[:_VALUE], names, n=3)
    return f"Closest: {_quoted(close)}." if close else f"Known: {_quoted(names[:8])}{', …' if len(names) > 8 else ''}."


def _quoted(names: Sequence[str]) -> str:
    return listed(quoted(name, _VALUE // 2) for name in names)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: (most - 1) // 2]}…{text[len(text) - most // 2 :]}"


def _escaped(sign: str) -> str:
    return sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
