"""Write the ledger of claims, ``docs/explanation/claims.md``, and its short form in the README, from the kept results.

    python benchmarks/studies/ledger.py
    python benchmarks/studies/ledger.py --check

Measures nothing. A study whose results are not kept counts as not measured. ``--check`` only says what is out of date.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from claims import CLAIMS, SOURCES
from study import DOCS, RESULTS, Decides, Results, by_verdict
from study_page import fill, table

from captum_softcam.metrics import METRICS

PAGE = "explanation/claims.md"
README = DOCS.parent / "README.md"
WORDS = {"does not hold": "no", "in part": "in\u00a0part", "cannot be told": "?", "holds": "yes", "": ""}
"""The verdicts, those against a claim first, and how tables write them; no word if nothing was measured."""


AGAINST = ("does not hold", "in part")


class Ground(NamedTuple):
    """What claims are tested on.

    Args:
        name (str): of the study.
        title (str): for the reader.
        module (str): the script with its findings.
        page (str): where its results are shown, seen from the page of the ledger.
    """

    name: str
    title: str
    module: str
    page: str


GROUNDS = (
    Ground("lesions", "painted lesions", "painted", "softcam_study.md"),
    Ground("imagenet", "ImageNet", "imagenet", "imagenet_study.md"),
    Ground("voc", "VOC 2007", "voc", "voc_study.md"),
    Ground("busi", "BUSI", "busi", "busi_study.md"),
    Ground("reach", "networks", "reach", "reach_study.md"),
    Ground("costs", "costs", "costs", "../reference/costs.md"),
)
REAL = tuple(ground for ground in GROUNDS if ground.name in ("imagenet", "voc", "busi"))


class Evidence(NamedTuple):
    """What a ground says of a claim.

    Args:
        claim (str): key of the claim.
        ground (Ground): where it was tested.
        shown (dict): by verdict the figures that decide.
    """

    claim: str
    ground: Ground
    shown: dict[str, list[str]]

    @property
    def verdict(self) -> str:
        """One verdict of all figures."""
        return summed(self.shown)


def summed(verdicts: Iterable[str]) -> str:
    """Sum up verdicts: a claim that holds in some figures and not in others, or untold, holds in part."""
    found = set(verdicts)
    if len(found) <= 1:
        return next(iter(found), "")
    return "in part" if found & {"holds", "in part"} else "does not hold"


class Ledger:
    """The claims, and what each ground says of them.

    Args:
        results (dict): results of the studies that were made, by the name of the ground.
        findings (callable): returns the findings of a ground. Default: those of its script
    """

    def __init__(
        self, results: dict[str, Results], findings: Callable[[Ground, Results], Sequence[Decides]] | None = None
    ) -> None:
        self.results = results
        self.evidence: dict[str, list[Evidence]] = {claim: [] for claim in CLAIMS}
        for ground in GROUNDS:
            if ground.name in results:
                found = (findings or _findings)(ground, results[ground.name])
                for claim in dict.fromkeys(each.claim for each in found):
                    self.evidence[claim].append(_evidence(claim, ground, found, results[ground.name]))

    @classmethod
    def load(cls, folder: Path = RESULTS) -> Ledger:
        """Read the results of all studies that were made."""
        results = {}
        for ground in GROUNDS:
            try:
                read = getattr(import_module(ground.module), "load", None)
                results[ground.name] = read(folder) if read else Results.load(ground.name, folder)
            except (ImportError, FileNotFoundError):
                continue
        return cls(results)

    def verdict(self, claim: str, grounds: Sequence[Ground] = GROUNDS) -> str:
        """Return the verdict of some grounds together."""
        return summed(each.verdict for each in self.evidence[claim] if each.ground in grounds)

    def claims(self, source: str | None = None) -> list[str]:
        """Return the claims of a source that were tested, those that do not hold on real images first."""
        chosen = [key for key, claim in CLAIMS.items() if source in (None, claim.source) and self.evidence[key]]
        order = [*WORDS]
        return sorted(chosen, key=lambda key: (order.index(self.verdict(key, REAL) or self.verdict(key)), chosen.index(key)))

    def grounds(self, claims: Iterable[str]) -> list[Ground]:
        """Return the grounds on which at least one of some claims was tested."""
        tested = {each.ground for claim in claims for each in self.evidence[claim]}
        return [ground for ground in GROUNDS if ground in tested]


def _findings(ground: Ground, results: Results) -> Sequence[Decides]:
    module = import_module(ground.module)
    return module.FINDINGS if hasattr(module, "FINDINGS") else list(module.findings(results))


def _evidence(claim: str, ground: Ground, findings: Sequence[Decides], results: Results) -> Evidence:
    sorted_ = by_verdict([each for each in findings if each.claim == claim], results)
    shown = {verdict: [_unbroken(each.shown(results)) for each in found] for verdict, found in sorted_.items()}
    return Evidence(claim, ground, shown)


def _unbroken(figure: str) -> str:
    """Keep an interval and its mean on one line."""
    return re.sub(r" \[.*?\]", lambda found: found[0].replace(" ", "\u00a0"), figure)


# The page -------------------------------------------------------------------------------------------------------------

_HOW = """\
The tables say where a claim holds: *yes* if all figures agree with it, *no* if none does and at least one speaks against it,
*in part* if some agree and others do not, *?* if it cannot be told. Nothing is written where it was not tested. A claim
that holds on one ground and not on another holds in part. The figures
are below each table: differences on the same images, with 95 % intervals, above 0 if they agree with the claim. A claim
holds in a figure if the whole interval agrees with it, and cannot be told if the interval lies on both sides or ends at
0.000; figures are not adjusted for their number. The intervals of painted lesions that cover several seeds were computed
when each seed counted as if it had samples of its own, which makes them too narrow: verdicts there that hang on a small
distance from 0 may not last. Costs are ratios with the middle half of their measurements.

```bash
python benchmarks/studies/ledger.py
```"""


def page(ledger: Ledger) -> str:
    """Write the page."""
    parts = [
        "# Which claims hold",
        "% written by benchmarks/studies/ledger.py from the results of the studies; edit it there",
        against(ledger),
        "## How to read this page",
        _HOW,
        *(_section(ledger, source, title) for source, title in SOURCES.items()),
        _trust(ledger),
    ]
    return "\n\n".join(parts) + "\n"


def against(ledger: Ledger) -> str:
    """Say first which claims do not hold, and where."""
    bad = [claim for claim in ledger.claims() if ledger.verdict(claim) in AGAINST]
    lines = [f"- {CLAIMS[claim].text} {_where(ledger, claim)}" for claim in bad]
    return "\n\n".join([counted(ledger), "\n".join(lines)] if bad else [counted(ledger)])


def counted(ledger: Ledger) -> str:
    """Say how many claims hold and how many do not, on real images and on everything."""
    real = [verdict for claim in ledger.claims() if (verdict := ledger.verdict(claim, REAL))]
    names = ", ".join(ground.title for ground in REAL if ground.name in ledger.results)
    told = [f"**Of {len(real)} claims that were tested on real images ({names}), {_told(real)}.**"] if real else []
    verdicts = [ledger.verdict(claim) for claim in ledger.claims()]
    return " ".join([*told, f"On all grounds together, of {len(verdicts)} claims {_told(verdicts)}."])


def _told(verdicts: Sequence[str]) -> str:
    """Write the numbers of verdicts in words."""
    words = {
        "does not hold": ("does not hold", "do not hold"),
        "in part": ("holds in part", "hold in part"),
        "cannot be told": ("cannot be told", "cannot be told"),
        "holds": ("holds throughout", "hold throughout"),
    }
    counts = Counter(verdicts)
    return ", ".join(f"{counts[each]} {told[counts[each] > 1]}" for each, told in words.items() if counts[each])


def _where(ledger: Ledger, claim: str) -> str:
    """Say on which grounds a claim does not hold, and on which it does."""
    told = []
    for verdict in WORDS:
        grounds = [_link(each.ground) for each in ledger.evidence[claim] if each.verdict == verdict]
        if grounds:
            told.append(f"{verdict[0].upper()}{verdict[1:]}: {', '.join(grounds)}.")
    return " ".join(told)


def _link(ground: Ground, docs: str = "") -> str:
    return f"[{ground.title}]({posixpath.normpath(docs + ground.page)})"


def _section(ledger: Ledger, source: str, title: str) -> str:
    claims = ledger.claims(source)
    if not claims:
        return ""
    said = "our README and documentation" if source == "README" else f"{{cite:t}}`{source}`"
    figures = [_figures(ledger, claim) for claim in claims]
    return "\n\n".join([f"## {title}", f"Claims of {said}:", matrix(ledger, claims), *figures])


def matrix(ledger: Ledger, claims: Sequence[str], docs: str = "") -> str:
    """Write a table of claims and grounds."""
    grounds = ledger.grounds(claims)
    rows = [[CLAIMS[claim].text, *(WORDS[ledger.verdict(claim, [ground])] for ground in grounds)] for claim in claims]
    return table(["claim", *(_link(ground, docs) for ground in grounds)], rows, "l" + "c" * len(grounds))


def _figures(ledger: Ledger, claim: str) -> str:
    """Write the figures that decide a claim, by ground and verdict."""
    theirs = f" *In the paper: {CLAIMS[claim].theirs}.*" if CLAIMS[claim].theirs else ""
    lines = [
        f"- {_link(each.ground)}, {verdict}: {'; '.join(shown)}."
        for each in ledger.evidence[claim]
        for verdict, shown in each.shown.items()
    ]
    return f"**{CLAIMS[claim].text}**{theirs}\n\n" + "\n".join(lines)


_TRUST = """\
## Which metrics can be trusted

A metric *fails* on a ground if a control that ignores the model beats the methods, or maps of a network with random weights
are as good; [the conditions](../how-to/trust_metrics.md) are the same everywhere. Claims above that rest on a metric that
fails are weaker than their intervals."""


def _trust(ledger: Ledger) -> str:
    """Write what the studies found out about their metrics."""
    columns = {
        f"{_link(ground)}{f', {title}' if title else ''}": verdicts
        for ground in GROUNDS
        if ground.name in ledger.results
        for title, verdicts in health(ledger.results[ground.name]).items()
    }
    if not columns:
        return ""
    metrics = dict.fromkeys(metric for verdicts in columns.values() for metric in verdicts)
    rows = [[_title(metric), *(verdicts.get(metric, "") for verdicts in columns.values())] for metric in metrics]
    return "\n\n".join([_TRUST, table(["metric", *columns], rows, "l" + "c" * len(columns))])


def health(results: Results) -> dict[str, dict[str, str]]:
    """Return the verdicts on metrics that a study keeps in its settings, by network if it has several."""
    settings = results.settings.get("networks") or {"": results.settings}
    found = {network: entry["health"] for network, entry in settings.items() if "health" in entry}
    return {
        network: {metric: told if isinstance(told, str) else told[0] for metric, told in verdicts.items()}
        for network, verdicts in found.items()
    }


def _title(metric: str) -> str:
    if metric.startswith("quantus:"):
        return f"{metric.removeprefix('quantus:')} (Quantus)"
    return METRICS[metric].title if metric in METRICS else metric.replace("_", " ").capitalize()


# The README -----------------------------------------------------------------------------------------------------------


def short(ledger: Ledger) -> str:
    """Write the section of the README."""
    docs = "docs/explanation/"
    return "\n\n".join(
        [
            counted(ledger),
            matrix(ledger, ledger.claims(), docs),
            "*yes*: all figures agree with the claim, *no*: at least one speaks against it and none agrees, *in part*: some "
            f"agree, *?*: cannot be told. [The ledger]({docs}claims.md) has the figures, what the papers found, and which "
            "metrics can be trusted.",
        ]
    )


def main() -> None:
    """Write the page and the README, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    options = parser.parse_args()
    found = stale(Ledger.load())
    for path, text in found.items():
        print(f"{path.name} {'is out of date' if options.check else 'written'}")
        if not options.check:
            path.write_text(text, encoding="utf-8")
    sys.exit(bool(found) and options.check)


def stale(ledger: Ledger) -> dict[Path, str]:
    """Return the files that are not what a ledger gives, and what they should be."""
    readme = README.read_text(encoding="utf-8")
    wanted = {DOCS / PAGE: page(ledger), README: fill(README, readme, "results", short(ledger))}
    return {path: text for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text}


if __name__ == "__main__":
    main()
