"""The parts that several benchmarks share: tables in Markdown, options of those that measure time, pictures."""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PIXELS = 4.0  # largest mean difference of two pictures, of 255: fonts are drawn differently from machine to machine


def table(head: Sequence[object], rows: Iterable[Sequence[object]], align: str | None = None) -> str:
    """Write a table in Markdown.

    Args:
        head (sequence): titles of the columns.
        rows (iterable of sequence): the cells, written by ``str``.
        align (str): a letter per column: left, right or centre, as in ``"lrc"``. Default: the first left, all others right
    """
    rules = {"l": "---", "r": "---:", "c": ":---:"}
    rule = [rules[letter] for letter in align or "l" + "r" * (len(head) - 1)]
    first, *others = (f"| {' | '.join(map(str, line))} |" for line in [head, *rows])
    return "\n".join([first, f"|{'|'.join(rule)}|", *others])


def read_tables(text: str) -> dict[str, list[list[str]]]:
    """Read the tables of a page in Markdown.

    Args:
        text (str): the page.

    Returns:
        dict: the rows of all tables below a heading, by the heading; without titles and rules.
    """
    found: dict[str, list[list[str]]] = {}
    heading, titles = "", True
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            titles = True
        elif set(line) <= set("|-: "):
            titles = False
        elif not titles:
            found.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def fill(page: Path, text: str, name: str, body: str) -> str:
    """Replace the text between two markers of a page.

    Args:
        page (Path): named in the error.
        text (str): of the page, with lines ``<!-- name -->`` and ``<!-- /name -->``.
        name (str): of the markers.
        body (str): what belongs between them.
    """
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{page.name} has no markers <!-- {name} --> and <!-- /{name} -->")
    return pattern.sub(lambda found: f"{found[1]}\n{body}\n\n{found[2]}", text)


def timing_options(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that benchmarks of time have in common."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    parser.add_argument("--rounds", type=int, default=rounds, help="measurements per candidate (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    return parser


def publish(parts: Iterable[str], out: Path | None) -> None:
    """Print the tables, and write them to a file if there is one."""
    text = "\n".join(parts) + "\n"
    print(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")


def same_picture(stored: bytes, drawn: bytes) -> bool:
    """Check whether two pictures are the same, but for the drawing of fonts."""
    old, new = pixels(stored), pixels(drawn)
    return old.shape == new.shape and bool(np.abs(old - new).mean() <= PIXELS)


def pixels(content: bytes) -> np.ndarray[Any, Any]:
    """Return the values of a picture, from 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=np.float64)
