"""Read the user's tables and lists; every error names the file and the place in it."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

from captum_softcam._names import quoted, reason, shown
from captum_softcam.data._disk.files import existing_file

__all__ = [
    "Line",
    "Row",
    "cell_in",
    "classes_of",
    "finite_number",
    "label_in",
    "labels_in",
    "number_in",
    "read_lines",
    "read_table",
]

_DELIMITERS = ("\t", ";", ",")  # of equally many columns the first one counts: commas occur in names, tabs do not
_MISSING = ("", "nan", "none", "null", "na", "n/a", "<na>")
_WHOLE = re.compile(r"([+-]?\d+)[.,]0*")
_MOST_CLASSES = 100_000  # a greater number is a mistake: a label of a billion once took 8.7 GB for the names of all classes


class Row(NamedTuple):
    """A row of a table: its place, for error messages, its cells by column, and the mark before decimals."""

    place: str
    cells: dict[str, str]
    decimal: str = "."


class Line(NamedTuple):
    """A line of a list: its place, for error messages, and its text."""

    place: str
    text: str


def read_table(path: Path) -> tuple[list[str], list[Row]]:
    """Read the columns and rows of a table with a header, as text without spaces around it.

    The delimiter is that of comma, semicolon and tab that gives the header the most columns. Texts in quotes may contain it.
    Empty lines, empty columns at the end and a first line ``sep=;`` are left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a table in UTF-8 or, with a byte order mark, in UTF-16, two columns have one name, or a row
            is longer or shorter than the header.
    """
    text = _decoded(existing_file(path, "table"), "table", "CSV")
    start = text.partition("\n")[0].strip()
    stated = start[4:] if start[:4].lower() == "sep=" else ""  # a line of Excel's own
    try:
        delimiter = stated if len(stated) == 1 else _delimiter(text)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"table '{shown(path)}' cannot be read as CSV ({reason(error)}).") from error
    filled = [(number, cells) for number, cells in lines[bool(stated) :] if any(cells)]
    columns = _without_empty_end(filled[0][1]) if filled else []
    name, count = Counter(filter(None, columns)).most_common(1)[0] if any(columns) else ("", 0)
    if count > 1:  # a dictionary keeps the last of two columns with one name
        raise ValueError(f"table '{shown(path)}' has {count} columns {quoted(name)}; give each a name of its own.")
    decimal = "," if delimiter == ";" else "."  # programs write semicolons where the comma is the decimal mark
    rows = []
    for number, cells in filled[1:]:
        place = f"line {number} of '{shown(path)}'"
        if len(cells) < len(columns) or any(cells[len(columns) :]):
            raise ValueError(f"{place} does not have the {len(columns)} columns of the header.")
        rows.append(Row(place, dict(zip(columns, cells, strict=False)), decimal))
    return columns, rows


def read_lines(path: Path) -> list[Line]:
    """Read the lines of a list, without empty ones and those that begin with ``#``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not text in UTF-8 or, with a byte order mark, in UTF-16, or empty.
    """
    text = _decoded(existing_file(path, "list"), "list", "text").splitlines()
    lines = [Line(f"line {number} of '{shown(path)}'", line.strip()) for number, line in enumerate(text, 1)]
    filled = [line for line in lines if line.text and not line.text.startswith("#")]
    if not filled:
        raise ValueError(f"list '{shown(path)}' names no images.")
    return filled


def finite_number(text: str) -> float | None:
    """Return the number that a text spells, or None, also for "nan", "inf" and "1_000", which ``float`` accepts."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def number_in(row: Row, column: str) -> float | str | None:
    """Return the number in a cell, None for an empty one and words such as "nan", or its text if it is another."""
    text = row.cells[column]
    if text.lower() in _MISSING:
        return None
    # both marks in one number would be thousands and decimals: which of them is which is not known
    value = finite_number(text.replace(",", ".") if row.decimal == "," and "." not in text else text)
    return text if value is None else value


def cell_in(row: Row, column: str) -> str:
    """Return the text in a cell; ValueError if it is empty."""
    if not row.cells[column]:
        raise ValueError(f"{row.place} has nothing in the column {quoted(column)}.")
    return row.cells[column]


def label_in(text: str, known: Container[str] = ()) -> str:
    """Return a label as it is compared: if it is not known, a whole number without decimals (a gap adds them)."""
    whole = None if text in known else _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def labels_in(text: str, known: Container[str] = ()) -> list[str]:
    """Return the labels in a cell, separated by ``|``, as :func:`label_in` does; none if it is empty."""
    return [label_in(label.strip(), known) for label in text.split("|") if label.strip()]


def classes_of(labels: set[str], path: Path) -> tuple[str, ...]:
    """Return the classes of a table's labels in order; numbers keep their own places, even if a smaller one is missing.

    Raises:
        ValueError: if the labels are numbers, and one of them is no place of a class.
    """
    if not all(map(_is_number, labels)):
        return tuple(sorted(labels))
    # the length goes first, because int() raises an error for thousands of digits
    wrong = [label for label in labels if not label.isdecimal() or len(label) > 9 or int(label) >= _MOST_CLASSES]
    if wrong:
        raise ValueError(
            f"table '{shown(path)}' has the label {quoted(min(wrong))}; expected the number of a class, from 0 to "
            f"{_MOST_CLASSES - 1}, or names of classes. For other numbers pass classes, in the order of the model's logits."
        )
    return tuple(map(str, range(max(map(int, labels)) + 1)))


def _decoded(path: Path, kind: str, what: str) -> str:
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as Excel writes "Unicode text"
    try:
        # utf-8-sig, because Excel begins CSV files in UTF-8 with a byte order mark, which would belong to the first column
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        # another encoding could be guessed, but a wrong guess would spell names and classes wrong without a word
        raise ValueError(
            f"{kind} '{shown(path)}' cannot be read as {what} in UTF-8 ({reason(error)}); it may be in Latin-1 or another "
            'encoding of one language: save it as UTF-8, in Excel as "CSV UTF-8".'
        ) from error


def _delimiter(text: str) -> str:
    """Return the delimiter that gives the header the most columns."""
    columns = {
        each: len(next(filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=each, skipinitialspace=True)), []))
        for each in _DELIMITERS
    }
    return max(columns, key=lambda each: columns[each])


def _without_empty_end(cells: list[str]) -> list[str]:
    while cells and not cells[-1]:
        cells = cells[:-1]
    return cells


def _is_number(text: str) -> bool:
    """Check whether Python reads a number there, including negative, infinite ones and "nan"."""
    try:
        float(text)
    except ValueError:
        return False
    return True
