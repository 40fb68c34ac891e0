"""The parts that all studies share: steps that are kept and never run twice, intervals, results in a file, verdicts.

A study is a script of this folder. It runs its steps, writes their intervals to ``results/NAME.json``, and from this file
alone its page of the documentation, so that a page can be written anew without measuring again.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from captum_softcam.evaluation.statistics import model_intervals

Array = NDArray[np.float64]
Scores = dict[str, Any]
Verdict = Literal["holds", "does not hold", "cannot be told"]

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DOCS = HERE.parents[1] / "docs"
KINDS = ("better", "worse", "inconclusive", "the same")
ROUNDING = 5e-4  # tables have three digits


# Options --------------------------------------------------------------------------------------------------------------


def options_of(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all studies have.

    Args:
        name (str): of the study; its work folder is ``build/studies/NAME``.
        description (str): the docstring of the script.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the data sets (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build/studies") / name, help="where finished steps are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the results (default: %(default)s)")
    parser.add_argument("--docs", type=Path, default=DOCS, help="the folder of page and figure (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--page", action="store_true", help="write the page from the results that are kept; measure nothing")
    return parser


# Steps ----------------------------------------------------------------------------------------------------------------


class Work:
    """The work folder of a study: the result of each step is a file, and none runs twice.

    Args:
        folder (Path): created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.fitting = 0.0  # seconds, which the steps that ask for a model leave out of theirs

    def step(self, name: str, compute: Callable[[], Scores]) -> Scores:
        """Return the result of a step, from its file if there is one.

        Args:
            name (str): of the step and its file.
            compute (callable): returns numbers, or lists of them, by name.

        Returns:
            dict: the same, and the ``seconds`` that it took.
        """
        path = self.folder / f"{name}.json"
        if not path.exists():
            start = time.perf_counter() - self.fitting
            result = compute()
            seconds = time.perf_counter() - self.fitting - start
            write_whole(path, json.dumps({**result, "seconds": seconds}).encode())
            print(f"{name}: {seconds:.0f} s, {_line(result)}", flush=True)
        return dict(json.loads(path.read_text()))

    def fitted(self, name: str, model: nn.Module, fit: Callable[[], object]) -> Any:
        """Return a model in eval mode with the weights of its file, after training it if there is none.

        Args:
            name (str): of the file.
            model (torch.nn.Module): the model, changed in place.
            fit (callable): trains the model in place.
        """
        path = self.folder / f"{name}.pt"
        if not path.exists():
            start = time.perf_counter()
            fit()
            torch.save(model.state_dict(), path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
            seconds = time.perf_counter() - start
            self.fitting += seconds
            write_whole(path.with_suffix(".fit.json"), json.dumps({"seconds": seconds}).encode())
            print(f"{name}: trained in {seconds:.0f} s", flush=True)
        model.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        return model.eval()

    def values(self, steps: Sequence[str], name: str) -> Array:
        """Return one entry of several finished steps, such as those of all seeds, as (steps, samples)."""
        read = (json.loads((self.folder / f"{step}.json").read_text())[name] for step in steps)
        return np.array([np.atleast_1d(values) for values in read], dtype=float)

    @property
    def hours(self) -> float:
        """The duration of all finished steps and trainings."""
        return sum(json.loads(path.read_text())["seconds"] for path in self.folder.glob("*.json")) / 3600


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is complete or absent, even if the process is killed."""
    part = path.with_suffix(path.suffix + ".part")
    part.write_bytes(content)
    part.rename(path)


def _line(result: Scores) -> str:
    numbers = {name: np.nanmean(value) for name, value in result.items() if isinstance(value, (float, int, list)) and value}
    return ", ".join(f"{name} {value:.3f}" for name, value in numbers.items() if not math.isnan(value))


# Intervals ------------------------------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """A mean with its 95 % interval, and the number of samples with a value."""

    mean: float
    low: float
    high: float
    n: int = 0

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]" if math.isfinite(self.mean) else ""

    @property
    def kind(self) -> str:
        """What a difference says, one of ``KINDS``; 0 to three digits is rounding, or algebra."""
        if not math.isfinite(self.mean):
            return "inconclusive"
        if max(map(abs, self[:3])) < ROUNDING:
            return "the same"
        # An end that is printed as 0.000 depends on the resamples that were drawn.
        return "better" if self.low >= ROUNDING else "worse" if self.high <= -ROUNDING else "inconclusive"

    @property
    def detectable(self) -> float:
        """The smallest true difference that 80 % of studies with such an interval find.

        :math:`(z_{0.975} + z_{0.8})` standard errors :cite:p:`lachin1981introduction`, of which the interval has
        :math:`2 z_{0.975}`.
        """
        return (self.high - self.low) / 2 * (1 + NormalDist().inv_cdf(0.8) / NormalDist().inv_cdf(0.975))

    def signed(self, scale: float = 1, digits: int = 3) -> str:
        """Write a difference with its signs."""
        if not math.isfinite(self.mean):
            return ""
        mean, low, high = (f"{scale * value:+.{digits}f}" for value in self[:3])
        return f"{mean} [{low}, {high}]"

    def marked(self, scale: float = 1, digits: int = 3) -> str:
        """Write a difference with its signs, in bold if its interval excludes 0 to three digits."""
        text = self.signed(scale, digits)
        return f"**{text}**" if self.kind in KINDS[:2] else text


def interval(values: Any, images: Sequence[Hashable] | None = None) -> Interval:
    """Average values over seeds and samples, with the 95 % interval of both.

    Args:
        values (array): (samples,), or (seeds, samples) of the same samples; NaN where undefined.
        images (sequence): the image of each sample, if images have several. Default: each sample has its own
    """
    values = np.atleast_2d(np.asarray(values, dtype=float))
    mean, low, high = (float(end[0]) for end in model_intervals(values[:, :, None], images))
    return Interval(mean, low, high, int(np.isfinite(values).any(axis=0).sum()))


# Results --------------------------------------------------------------------------------------------------------------


class Results:
    """The results of a study: tables of intervals by row and column, and the settings they were measured with.

    Args:
        name (str): of the study and its file.
        settings (dict): numbers and names that the page shows; JSON.
        tables (dict): intervals by table, row and column. Default: none yet
    """

    def __init__(self, name: str, settings: Scores, tables: dict[str, dict[str, dict[str, Interval]]] | None = None) -> None:
        self.name, self.settings, self.tables = name, settings, tables or {}

    def add(self, table: str, row: str, column: str, found: Interval) -> None:
        """Set a cell of a table, which is created if it does not exist."""
        self.tables.setdefault(table, {}).setdefault(row, {})[column] = found

    def cell(self, table: str, row: str, column: str) -> Interval:
        """Return a cell, with its name in the message if there is none."""
        try:
            return self.tables[table][row][column]
        except KeyError:
            raise KeyError(f"the study '{self.name}' has no cell ({table}, {row}, {column})") from None

    def save(self, folder: Path = RESULTS) -> None:
        """Write the results, with the versions of the packages, to ``folder/NAME.json``."""
        packages = {package: version(package) for package in ("torch", "captum", "timm")}
        made = {"python": platform.python_version(), **packages}
        content = {"study": self.name, "made_with": made, "settings": self.settings, "tables": self.tables}
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{self.name}.json", (_compact(content) + "\n").encode())

    @classmethod
    def load(cls, name: str, folder: Path = RESULTS) -> Results:
        """Read the results of a study that :meth:`save` has written."""
        content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        tables = {
            table: {row: {column: Interval(*cell) for column, cell in cells.items()} for row, cells in rows.items()}
            for table, rows in content["tables"].items()
        }
        return cls(content["study"], content["settings"], tables)


def _compact(content: Scores) -> str:
    """Write JSON with one line per row of a table, and figures to six digits."""
    rounded = json.loads(json.dumps(content), parse_float=lambda text: float(f"{float(text):.6g}"))
    head = {name: value for name, value in rounded.items() if name != "tables"}
    tables = []
    for table, rows in rounded["tables"].items():
        lines = ",\n".join(f"   {json.dumps(row)}: {json.dumps(cells)}" for row, cells in rows.items())
        tables.append(f"  {json.dumps(table)}: {{\n{lines}\n  }}")
    body = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    return body + ',\n "tables": {\n' + ",\n".join(tables) + "\n }\n}"


# Verdicts -------------------------------------------------------------------------------------------------------------


class Finding(NamedTuple):
    """A cell of a study that decides a claim of ``claims.py``.

    Args:
        claim (str): key of the claim.
        table (str): where the difference lies that decides it.
        row (str): of the table.
        column (str): of the table.
        test (str): ``"better"``: the difference is above 0; its sign is such that above 0 agrees with the claim.
            ``"kept"``: it is not below minus ``margin``. ``"same"``: it lies between minus and plus ``margin``.
        margin (float): see ``test``. Default: 0
        words (str): what was compared, for the reader, such as ``"ADCC, last layer"``. Default: the column
    """

    claim: str
    table: str
    row: str
    column: str
    test: Literal["better", "kept", "same"] = "better"
    margin: float = 0.0
    words: str = ""

    def verdict(self, results: Results) -> Verdict:
        """Return whether the claim holds in these results."""
        found = results.cell(self.table, self.row, self.column)
        if not math.isfinite(found.mean):
            return "cannot be told"
        if self.test == "better":
            holds, fails = found.kind == "better", found.kind in ("worse", "the same")
        elif self.test == "kept":
            holds, fails = found.low >= -self.margin, found.high < -self.margin
        else:
            holds = -self.margin <= found.low and found.high <= self.margin
            fails = found.high < -self.margin or found.low > self.margin
        return "holds" if holds else "does not hold" if fails else "cannot be told"

    def shown(self, results: Results) -> str:
        """Write what was compared, and the difference with its interval, or its size if it is that of rounding."""
        found = results.cell(self.table, self.row, self.column)
        largest = max(map(abs, found[:3]))
        rounding = self.test == "same" and found.kind == "the same" and largest > 0
        shown = f"at most {largest:.0e}" if rounding else found.signed()
        return f"{self.words or self.column}: {shown}"


class Count(NamedTuple):
    """A cell that decides a claim about all of something: it holds if the fraction is 1.

    Args:
        claim (str): key of the claim.
        table (str): where the fraction lies; its ``n`` is the number of what was counted.
        row (str): of the table.
        column (str): of the table.
        words (str): what was counted, such as ``"networks without pooling"``.
    """

    claim: str
    table: str
    row: str
    column: str
    words: str

    def verdict(self, results: Results) -> Verdict:
        """Return whether the claim holds in these results."""
        return "holds" if results.cell(self.table, self.row, self.column).mean == 1 else "does not hold"

    def shown(self, results: Results) -> str:
        """Write what was counted, and how many."""
        found = results.cell(self.table, self.row, self.column)
        return f"{self.words}: {round(found.mean * found.n):,} of {found.n:,}"


class Ratio(NamedTuple):
    """A cell with a ratio that decides a claim about costs.

    Args:
        claim (str): key of the claim.
        table (str): where the ratio lies, with the middle half of its measurements.
        row (str): of the table.
        column (str): of the table.
        limit (float): what the ratio has to reach.
        most (bool): whether it may be at most the limit, not at least. Default: True
        words (str): what was measured. Default: the row
    """

    claim: str
    table: str
    row: str
    column: str
    limit: float
    most: bool = True
    words: str = ""

    def verdict(self, results: Results) -> Verdict:
        """Return whether the claim holds in these results."""
        found = results.cell(self.table, self.row, self.column)
        if self.most:
            holds, fails = found.high <= self.limit, found.low > self.limit
        else:
            holds, fails = found.low >= self.limit, found.high < self.limit
        return "holds" if holds else "does not hold" if fails else "cannot be told"

    def shown(self, results: Results) -> str:
        """Write what was measured, and the ratio with the middle half of its measurements."""
        found = results.cell(self.table, self.row, self.column)
        mean, low, high = (f"{value:,.0f}" if value >= 100 else f"{value:.2f}" for value in found[:3])
        return f"{self.words or self.row}: {mean}" + (f" [{low}, {high}]" if low != high else "")


class Decides(Protocol):
    """What a claim is decided by: :class:`Finding`, :class:`Count` or :class:`Ratio`."""

    @property
    def claim(self) -> str:
        """The key of the claim."""

    def verdict(self, results: Results) -> Verdict:
        """Return whether the claim holds in these results."""

    def shown(self, results: Results) -> str:
        """Write the figure that decides."""


def by_verdict(findings: Iterable[Decides], results: Results) -> dict[Verdict, list[Decides]]:
    """Sort findings by their verdict; those that speak against a claim come first."""
    order: tuple[Verdict, ...] = ("does not hold", "cannot be told", "holds")
    sorted_ = {verdict: [each for each in findings if each.verdict(results) == verdict] for verdict in order}
    return {verdict: found for verdict, found in sorted_.items() if found}
