"""Names and other values of users where they are shown: shortened, on one line, without what acts on a terminal."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

__all__ = ["LINE", "NAME", "PATH", "closest", "degrading", "listed", "named", "quoted", "reason", "shown"]

PATH = 160
"""Characters of a path that a message shows: two of them and a sentence stay below 500."""

NAME = 80
"""Characters of a name or another value."""
LINE = 4096
"""Characters of a path that stands at the end of its line, to be copied from there: the longest that Linux knows."""

_COMPARED = 50_000  # known names that a wrong one is compared with


def shown(value: object, most: int = PATH) -> str:
    r"""A value as text of at most ``most`` characters, cut in its middle; what does not print is escaped, as ``\x1b``.

    Args:
        value (object): a path or a name, mostly.
        most (int): greatest length. Default: 160, for paths
    """
    text = _cut(str(value), most)
    return text if text.isprintable() else _cut("".join(map(_escaped, text)), most)


def named(name: object) -> str:
    """A name as :func:`shown` shows it, of at most 80 characters."""
    return shown(name, NAME)


def quoted(value: object, most: int = NAME) -> str:
    """The ``repr`` of a value, shortened as by :func:`shown`; its type where it is nested or long beyond printing."""
    try:
        return shown(repr(value), most)
    except (RecursionError, ValueError):  # ValueError: Python refuses to print integers of more than 4300 digits
        return f"a {type(value).__name__} too large to show"


def reason(error: object, most: int = 200) -> str:
    """The words of another error on one line, shortened, without the full stop at the end."""
    return shown(" ".join(str(error).split()), most).rstrip(".!")


def listed(names: Iterable[object], most: int = PATH) -> str:
    """Names separated by commas, as many as ``most`` characters hold, and how many more there are."""
    names = iter(names)
    text, more = "".join(named(name) for name in islice(names, 1)), 0
    for name in names:
        longer = f"{text}, {named(name)}"
        if more or len(longer) > most:
            more += 1
        else:
            text = longer
    return f"{text} and {more} more" if more else text


def closest(name: str, known: Iterable[object]) -> str:
    """The end of an error message: the known names closest to a wrong one, or the first few if none is close."""
    names = [str(entry) for entry in islice(known, _COMPARED) if entry or entry == 0]
    close = difflib.get_close_matches(str(name)[:NAME], names, n=3)
    return f"Closest: {_quoted(close)}." if close else f"Known: {_quoted(names[:8])}{', …' if len(names) > 8 else ''}."


@contextmanager
def degrading(*streams: Any) -> Iterator[None]:
    r"""Let text streams write what their encoding lacks as ``\u2191`` for a while, where they would raise an error.

    The console of Windows, a pipe there or an old locale is not UTF-8, and what was computed has to be printed all the same.
    """
    strict = [stream for stream in streams if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure")]
    for stream in strict:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream in strict:
            stream.reconfigure(errors="strict")


def _quoted(names: Sequence[str]) -> str:
    return listed(quoted(name, NAME // 2) for name in names)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: (most - 1) // 2]}…{text[len(text) - most // 2 :]}"


def _escaped(sign: str) -> str:
    return sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
