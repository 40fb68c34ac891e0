"""Read the user's tables and lists; every error names the file and the place in it."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from captum_softcam._names import quoted, reason, shown
from captum_softcam.data.files import existing_file

__all__ = ["Line", "Row", "read_lines", "read_table"]


class Row(NamedTuple):
    """A row of a table: its place, for error messages, and its cells by column."""

    place: str
    cells: dict[str, str]


class Line(NamedTuple):
    """A line of a list: its place, for error messages, and its words."""

    place: str
    words: list[str]


def read_table(path: Path) -> tuple[list[str], list[Row]]:
    """Read the columns and rows of a CSV file with a header.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not CSV in UTF-8, two columns have one name, or a row is longer or shorter than the header.
    """
    existing_file(path, "table")
    try:
        # utf-8-sig, because Excel begins CSV files in UTF-8 with a byte order mark, which would belong to the first column
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [Row(f"line {reader.line_num} of '{shown(path)}'", cells) for cells in reader]
            columns = list(reader.fieldnames or [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"table '{shown(path)}' cannot be read as CSV in UTF-8 ({reason(error)}).") from error
    # DictReader keeps the last of two columns with one name
    name, count = Counter(columns).most_common(1)[0] if columns else ("", 0)
    if count > 1:
        raise ValueError(f"table '{shown(path)}' has {count} columns {quoted(name)}; give each a name of its own.")
    for row in rows:
        if None in row.cells or None in row.cells.values():  # as DictReader marks cells too many and too few
            raise ValueError(f"{row.place} does not have the {len(columns)} columns of the header.")
    return columns, rows


def read_lines(path: Path) -> list[Line]:
    """Read the lines of a list, without empty ones and those that begin with ``#``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not text in UTF-8, or empty.
    """
    existing_file(path, "list")
    try:
        text = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"list '{shown(path)}' cannot be read as text in UTF-8 ({reason(error)}).") from error
    lines = [Line(f"line {number} of '{shown(path)}'", line.split()) for number, line in enumerate(text, 1)]
    filled = [line for line in lines if line.words and not line.words[0].startswith("#")]
    if not filled:
        raise ValueError(f"list '{shown(path)}' names no images.")
    return filled
