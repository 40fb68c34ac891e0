"""The page of a study: the same sections for all of them, with nothing typed by hand but words."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from claims import CLAIMS
from study import Decides, Interval, Results, by_verdict

sys.path.append(str(Path(__file__).parents[1]))  # the scripts next door, which this folder does not see when run by path

from shared import fill, read_tables, table

__all__ = ["Page", "cells_table", "differences_table", "fill", "findings_table", "read_tables", "table", "write_page"]


class Page(NamedTuple):
    """The parts of the page of a study, in Markdown.

    Args:
        title (str): of the page.
        script (str): name of the script in this folder.
        against (str): the first paragraph: what was found, and first what speaks against our own methods.
        question (str): what the study asks.
        setup (str): data, models, methods, metrics, and how the intervals were computed.
        results (str): the tables.
        figure (str): name of the picture in ``docs/images``.
        alt (str): what the picture shows.
        findings (sequence): the claims that the study decides.
        limits (str): what the study cannot tell.
        hours (float): duration on two cores, or None if it was not kept.
        options (str): options of the command. Default: where the data are
    """

    title: str
    script: str
    against: str
    question: str
    setup: str
    results: str
    figure: str
    alt: str
    findings: Sequence[Decides]
    limits: str
    hours: float | None
    options: str = " --data DIR"


def write_page(page: Page, results: Results, docs: Path) -> Path:
    """Write the page to ``docs/explanation/STUDY.md`` and return its path."""
    parts = [
        f"# {page.title}",
        f"% written by benchmarks/studies/{page.script} from results/{results.name}.json beside it; edit them there",
        page.against,
        "## Question",
        page.question,
        "## Set-up",
        page.setup,
        "## Results",
        page.results,
        f"```{{image}} ../images/{page.figure}\n:alt: {page.alt}\n```",
        "## What holds, and what does not",
        findings_table(page.findings, results),
        page.limits,
        "## Cost",
        _duration(page.hours),
        f"```bash\npython benchmarks/studies/{page.script}{page.options}\n```",
    ]
    path = docs / "explanation" / f"{results.name}_study.md"
    path.write_text("\n\n".join(part.strip("\n") for part in parts if part) + "\n", encoding="utf-8")
    return path


def _duration(hours: float | None) -> str:
    took = "" if hours is None else f"All steps took {hours:.1f} hours on two CPU cores that were shared with other work. "
    return f"{took}An interrupted run goes on from its last step."


def findings_table(findings: Iterable[Decides], results: Results) -> str:
    """Write the claims of a study with their verdicts; those that do not hold come first."""
    rows = [
        [CLAIMS[claim].text, f"**{verdict}**", "<br>".join(each.shown(results) for each in found if each.claim == claim)]
        for verdict, found in by_verdict(findings, results).items()
        for claim in dict.fromkeys(each.claim for each in found)
    ]
    note = (
        "The differences that decide each claim, with 95 % intervals; above 0 agrees with the claim. A claim holds if the "
        "whole interval agrees with it, and cannot be told if the interval is on both sides or ends at 0.000. "
        "Verdicts are not adjusted for their number. "
        "[The ledger](claims.md) has the claims of all studies."
    )
    return note + "\n\n" + table(["claim", "verdict", "decided by"], rows, "lll")


def cells_table(results: Results, name: str, head: str, columns: dict[str, str], rows: dict[str, str] | None = None) -> str:
    """Write a table of intervals.

    Args:
        results (Results): of the study.
        name (str): of the table.
        head (str): title of the first column.
        columns (dict): titles of the columns by their names.
        rows (dict): titles of the rows by their names. Default: all rows, by their names
    """
    cells = results.tables[name]
    rows = rows or {row: row for row in cells}
    empty = Interval(float("nan"), float("nan"), float("nan"))
    lines = [[title, *(cells[row].get(column, empty) for column in columns)] for row, title in rows.items() if row in cells]
    return table([head, *columns.values()], lines)


def differences_table(
    results: Results, name: str, head: str, columns: dict[str, str], rows: dict[str, str] | None = None
) -> str:
    """Write a table of differences with signs, in bold as :meth:`Interval.signed` has it, as :func:`cells_table` does."""
    cells = results.tables[name]
    rows = rows or {row: row for row in cells}
    lines = [
        [title, *(cells[row][column].marked() if column in cells[row] else "" for column in columns)]
        for row, title in rows.items()
        if row in cells
    ]
    return table([head, *columns.values()], lines)
