"""Tables and lists in text files; every row knows the place that it comes from."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

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
    """The columns and rows of a CSV file with a header.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not CSV in UTF-8, or a row is longer or shorter than the header.
    """
    if not path.is_file():
        raise FileNotFoundError(f"table '{path}' is not a file.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [Row(f"line {reader.line_num} of '{path}'", cells) for cells in reader]
            columns = list(reader.fieldnames or [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"table '{path}' cannot be read as CSV in UTF-8 ({error}).") from error
    for row in rows:
        if None in row.cells or None in row.cells.values():
            raise ValueError(f"{row.place} does not have the {len(columns)} columns of the header.")
    return columns, rows


def read_lines(path: Path) -> list[Line]:
    """The lines of a list, without empty ones and those that begin with ``#``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not text in UTF-8, or empty.
    """
    if not path.is_file():
        raise FileNotFoundError(f"list '{path}' is not a file.")
    try:
        text = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"list '{path}' cannot be read as text in UTF-8 ({error}).") from error
    lines = [Line(f"line {number} of '{path}'", line.split()) for number, line in enumerate(text, 1)]
    filled = [line for line in lines if line.words and not line.words[0].startswith("#")]
    if not filled:
        raise ValueError(f"list '{path}' names no images.")
    return filled
