"""Show names and other values of users: shortened, on one line, and without characters that act on a terminal."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

__all__ = ["LINE", "NAME", "PATH", "as_text", "closest", "degrading", "listed", "named", "quoted", "reason", "shown"]

PATH = 160
"""Characters of a path in a message: two of them and a sentence stay below 500."""

NAME = 80
"""Characters of a name or another value."""
LINE = 4096
"""Characters of a path at the end of a line, to be copied from there: the longest path of Linux."""

_PLAINER = "captum_softcam.plainer"  # name of the way in which streams treat such characters
_PLAIN = {"▲": "+", "▼": "-", "↑": "^", "↓": "v", "\N{MULTIPLICATION SIGN}": "x", "\N{EN DASH}": "-", "\N{MINUS SIGN}": "-"}

_COMPARED = 50_000  # known names that a wrong one is compared with


def shown(value: object, most: int = PATH) -> str:
    r"""Return a value as text of limited length, cut in its middle, with unprintable characters escaped, as ``\x1b``.

    Args:
        value (object): a path or a name, mostly.
        most (int): maximum length. Default: 160, for paths
    """
    # Cut before escaping, to spare a huge text the loop, and again after it, because a character may become ten.
    text = _cut(str(value), most)
    return text if text.isprintable() else _cut("".join(map(_escaped, text)), most)


def as_text(name: str) -> str:
    r"""Return a name that UTF-8 can encode: bytes of a file's name that are not UTF-8 become text, as ``\udce9``."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def named(name: object) -> str:
    """Return a name as :func:`shown` does, with at most 80 characters."""
    return shown(name, NAME)


def quoted(value: object, most: int = NAME) -> str:
    """Return the ``repr`` of a value, shortened as by :func:`shown`, or its type if it cannot be printed."""
    try:
        return shown(repr(value), most)
    except (RecursionError, ValueError):  # ValueError: Python refuses to print integers of more than 4300 digits
        return f"a {type(value).__name__} too large to show"


def reason(error: object, most: int = 200) -> str:
    """Return the message of another error on one line, shortened, without the full stop at the end."""
    return shown(" ".join(str(error).split()), most).rstrip(".!")


def listed(names: Iterable[object], most: int = PATH) -> str:
    """Return names separated by commas, as many as fit into ``most`` characters, and the number of the others."""
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
    """Return the end of an error message: the known names closest to a wrong one, or the first few if none is close."""
    # The list and the name are cut, because difflib compares each pair of names in up to quadratic time.
    names = [str(entry) for entry in islice(known, _COMPARED) if entry or entry == 0]
    close = [*_holding(str(name), names), *difflib.get_close_matches(str(name)[:NAME], names, n=3)]
    close = list(dict.fromkeys(close))[:3]
    return f"Closest: {_quoted(close)}." if close else f"Known: {_quoted(names)}."


def _holding(name: str, names: Sequence[str]) -> list[str]:
    """Return the names with all of another as words of them, as "tiger cat" for "cat", before those that begin with it."""
    if not 3 <= len(name) <= NAME:
        return []
    wanted = name.casefold()
    word = re.compile(rf"(?<![^\W_]){re.escape(wanted)}(?![^\W_])")
    words = (entry for entry in names if word.search(entry.casefold()))
    begin = (entry for entry in names if entry.casefold().startswith(wanted))
    return [*islice(words, 3), *islice(begin, 3)]


@contextmanager
def degrading(*streams: Any) -> Iterator[None]:
    r"""Replace characters that the encoding of a text stream lacks, as ▲ by + or others by ``\u1234``, instead of raising.

    The console of Windows, a pipe there or an old locale does not use UTF-8, and must not lose the results of a long run.
    """
    codecs.register_error(_PLAINER, _plainer)
    strict = [stream for stream in streams if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure")]
    for stream in strict:
        stream.reconfigure(errors=_PLAINER)
    try:
        yield
    finally:
        for stream in strict:
            stream.reconfigure(errors="strict")


def _plainer(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace the first character that cannot be encoded, by one of the same width where there is one."""
    if isinstance(error, UnicodeEncodeError) and (sign := error.object[error.start]) in _PLAIN:
        return _PLAIN[sign], error.start + 1
    return codecs.backslashreplace_errors(error)


def _quoted(names: Sequence[str]) -> str:
    return listed(quoted(name, NAME // 2) for name in names)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: (most - 1) // 2]}…{text[len(text) - most // 2 :]}"


def _escaped(sign: str) -> str:
    return sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
