"""Tables in HTML, Markdown, CSV and plain text.

Those in HTML are for notebooks: legible on light and dark pages, and scrolled sideways where they are wide.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

__all__ = ["Row", "aligned_table", "csv_table", "escape_markdown", "html_table", "markdown_table"]

Row = tuple[str, Sequence[str]]
"""The class of a row (``""``, ``"control"`` or ``"chosen"``), and its cells: text, or HTML as ``Markup``."""

# Colours are those of the notebook but for the marks, which have a contrast of 4 to white and to black alike. Notebooks that
# do not trust a file take the style out; what is bold, small or a heading is so by its tag. Headings of rows stay in sight
# only in notebooks that name their background, without which they could not cover what is scrolled below them.
_STYLE = Markup(
    "<style>"
    ".captum-softcam{line-height:1.35}"
    ".captum-softcam>div{max-width:100%;overflow-x:auto}"
    ".captum-softcam table{border-collapse:collapse;font-size:13px;margin:0}"
    ".captum-softcam th,.captum-softcam td{padding:4px 10px;text-align:center;vertical-align:top;white-space:nowrap;"
    "border:0;border-bottom:1px solid rgba(128,128,128,.35);font-variant-numeric:tabular-nums}"
    ".captum-softcam thead th{font-weight:600;white-space:normal;max-width:9em;vertical-align:bottom}"
    ".captum-softcam .groups th{font-weight:400;max-width:none}"
    ".captum-softcam .groups th+th{border-left:1px solid rgba(128,128,128,.35)}"
    ".captum-softcam tbody th{font-weight:400;white-space:normal;overflow-wrap:break-word;max-width:16em}"
    ".captum-softcam tr>:first-child{text-align:left}"
    ".captum-softcam td.text{text-align:left;white-space:normal;min-width:14em}"
    ".captum-softcam .control>*{color:#808080}"
    ".captum-softcam .chosen>*{font-weight:700}"
    ".captum-softcam small{display:block;font-weight:400;font-size:11px}"
    ".captum-softcam .better{color:#0b8a63}.captum-softcam .worse{color:#d3502f}"
    ".captum-softcam caption,.captum-softcam ul{font-size:12px;text-align:left;opacity:.85}"
    ".captum-softcam caption{caption-side:top;padding:4px 10px}"
    ".captum-softcam ul{list-style:none;margin:6px 10px;padding:0;max-width:75em}"
    "@container style(--jp-layout-color0){.captum-softcam tr>:first-child{position:sticky;left:0;z-index:1;"
    "background:var(--jp-layout-color0)}}"
    "@container style(--vscode-editor-background){.captum-softcam tr>:first-child{position:sticky;left:0;z-index:1;"
    "background:var(--vscode-editor-background)}}"
    "</style>"
)


def html_table(
    head: Sequence[str],
    rows: Iterable[Row],
    *,
    groups: Sequence[tuple[str, int]] = (),
    title: str = "",
    notes: Iterable[str] = (),
    texts: Sequence[int] = (),
) -> str:
    """Build a table, with the first cell of each row as its heading. Text is escaped, unless it is ``Markup``.

    Args:
        head (sequence of str): headings of the columns; none if the rows need none.
        rows (iterable of Row): class and cells of each row.
        groups (sequence of tuple): words above the headings, each with its number of columns. Default: none
        title (str): a line above the table. Default: none
        notes (iterable of str): lines below it, in small print. Default: none
        texts (sequence of int): columns of text, which is wrapped and begins at the left. Default: none
    """
    above = _tag("tr", (_tag("th", word, span=width) for word, width in groups), "groups") if groups else Markup()
    titles = _tag("tr", (_tag("th", cell) for cell in head)) if head else Markup()
    body = [_tag("tr", (_cell(place, cell, texts) for place, cell in enumerate(cells)), kind) for kind, cells in rows]
    caption = _tag("caption", title) if title else Markup()
    table = _tag("table", (caption, _tag("thead", (above, titles)), _tag("tbody", body)))
    below = [_tag("li", note) for note in notes]
    return str(_tag("div", (_STYLE, _tag("div", table), _tag("ul", below) if below else ""), "captum-softcam"))


def _cell(place: int, content: str, texts: Sequence[int]) -> Markup:
    return _tag("td" if place else "th", content, "text" if place in texts else "")


def _tag(name: str, content: str | Iterable[str], kind: str = "", span: int = 1) -> Markup:
    attributes = (Markup(' class="{}"').format(kind) if kind else "") + (f' colspan="{span}"' if span > 1 else "")
    inner = escape(content) if isinstance(content, str) else Markup().join(content)
    return Markup("<{0}{1}>{2}</{0}>").format(name, Markup(attributes), inner)


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]], rule: Sequence[str] = ()) -> str:
    """Build a table in GitHub's Markdown of cells that are escaped already.

    Args:
        head (sequence of str): headings of the columns.
        rows (iterable of sequence): cells.
        rule (sequence of str): alignment of each column. Default: to the left
    """
    lines = (head, rule or ["---" for _ in head], *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def escape_markdown(text: str) -> str:
    """Escape text for a table in Markdown, on one line."""
    # In one pass, so that no backslash that was added is escaped again.
    text = re.sub(r"([\\`*\[\]<>|&~$#])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", text)  # an underscore within a word is not emphasis


def csv_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Build a table as CSV, with all text in quotes; names are not escaped."""
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerows([head, *rows])
    return file.getvalue()


def aligned_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Build a table of columns as wide as their widest cell, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows))
    return "\n".join(map(str.rstrip, lines))
