"""Try every method on a network of every family of timm, Hugging Face, MONAI and segmentation_models_pytorch, and sum up.

    python benchmarks/studies/reach.py

Runs ``benchmarks/sweep.py`` on all of its networks, keeps what happened in ``results/reach.jsonl``, and writes the page of
the study and the long table of the reference from this file. An interrupted run goes on. Takes about half an hour on one
core, and needs timm, transformers, monai with einops, and segmentation-models-pytorch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from study import RESULTS, Count, Decides, Interval, Results, options_of
from study_page import Page, table, write_page
from sweep import Outcome, Result, obstacle, page, read, try_all
from sweep_networks import DESIGNS, networks

NAME = "reach"
LOG = "reach.jsonl"
LONG_TABLE = "reference/sweep_measured.md"
METHODS = {"maps": "Recipro-CAM", "grad_cam": "Grad-CAM", "cam": "CAM", "softcam": "SoftCAM"}
LIBRARIES = {"timm": "timm", "transformers": "Hugging Face", "monai": "MONAI", "smp": "segmentation models"}
PLURALS = {
    "CNN": "CNNs",
    "hybrid": "hybrids",
    "transformer": "transformers",
    "mixer": "mixers",
    "volume": "networks of volumes",
}
RIGHT, OTHER, REFUSED, WRONG = "right", "other logits", "refused", "wrong"
OUTCOMES = {RIGHT: "#0072b2", OTHER: "#e69f00", REFUSED: "#999999", WRONG: "#d55e00"}
REASONS = {  # of refusals, by what the short words of the sweep have in common
    r"^reads single tokens": "the logits are read from single tokens, such as a class token",
    r"^a head with": "the head is not linear",
    r"^more than pooling": "more than a pooling lies between the last map and the head",
    r"places of the input": "features do not lie where the input is",
    r"behind the features$": "another operation lies between features and logits",
    r"reads more than one position": "a layer behind the features reads more than one position",
    r"other dimensions": "the map has other dimensions than the images",
}
SPELLINGS = {"LayerNorm2d": "LayerNorm", "rms_norm": "RMSNorm", "square": "a square"}


def findings(results: Results) -> Iterator[Decides]:
    """Yield what decides each claim, for the kinds of networks that were tried."""
    for design, words in PLURALS.items():
        if design in results.tables["designs"]:
            yield Count("recipro-exact", "designs", design, "maps right", words)
    yield Count("converts-cnns", "designs", "CNN", "softcam right", "CNNs whose logits are kept")
    yield Count("same-logits", "heads", "linear", "same logits", "conversions of a linear head")
    yield Count("evidence-is-logit", "heads", "all", "mean", "conversions")


def main() -> None:
    """Try what is missing, and write both pages."""
    parser = options_of(NAME, __doc__)
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time (default: %(default)s)")
    options = parser.parse_args()
    if not options.page:
        try_all([*networks()], options.results / LOG, options.jobs)
    tried = kept(options.results)
    (options.docs / LONG_TABLE).write_text(page(tried), encoding="utf-8")
    write(tried, options.docs)


def load(folder: Path = RESULTS) -> Results:
    """Read what the ledger decides with."""
    if not (folder / LOG).exists():
        raise FileNotFoundError(folder / LOG)
    return summed(kept(folder))


def kept(folder: Path = RESULTS) -> list[Result]:
    """Return the results that are kept, the newest of each network, in the order of the networks."""
    known = {(result.library, result.name): result for result in read(folder / LOG)}
    return [known[each] for each in networks() if each in known]


# Counts ---------------------------------------------------------------------------------------------------------------


def outcome(result: Result, step: str) -> str:
    """Return what a method did on a network, one of ``OUTCOMES``."""
    found = result.steps.get(step, Outcome("refused"))
    if found.kind == "right":
        return OTHER if found.words.startswith(OTHER) else RIGHT
    return REFUSED if found.kind == "refused" else WRONG


def summed(tried: Sequence[Result]) -> Results:
    """Return fractions of the networks, by kind and library."""
    seconds = [each.seconds for each in tried]
    results = Results(NAME, {"tried": len(tried), "hours": sum(seconds) / 3600 if all(seconds) else None})
    for name, key in (("designs", "design"), ("libraries", "library")):
        for row in dict.fromkeys(getattr(each, key) for each in tried):
            group = [each for each in tried if getattr(each, key) == row]
            for step in METHODS:
                found = [outcome(each, step) for each in group]
                for kind in OUTCOMES:
                    results.add(name, row, f"{step} {kind}", fraction([each == kind for each in found]))
            results.add(name, row, "one forward", fraction([each.passes == 0 for each in group]))
    words = [each.steps["softcam"].words for each in tried if outcome(each, "softcam") != REFUSED]
    linear = [each == "same logits" for each in words if not each.startswith(OTHER)]
    results.add("heads", "linear", "same logits", fraction(linear))
    results.add("heads", "all", "mean", fraction(["means" not in each for each in words]))
    return results


def fraction(holds: Sequence[bool]) -> Interval:
    """Return the fraction of networks for which something holds; all were tried, so there is no interval."""
    value = sum(holds) / len(holds) if holds else float("nan")
    return Interval(value, value, value, len(holds))


def count(results: Results, name: str, row: str, column: str) -> int:
    """Return the number of networks of a cell."""
    cell = results.cell(name, row, column)
    return round(cell.mean * cell.n)


def total(results: Results, column: str) -> int:
    """Return the number of all networks with an outcome."""
    return sum(count(results, "designs", row, column) for row in results.tables["designs"])


# The page -------------------------------------------------------------------------------------------------------------

_QUESTION = """\
On which networks do the methods work as they are, and what do they do on the others: refuse in words, or return something
wrong in silence?"""

_SETUP = """\
Every family of timm, the image classifiers of Hugging Face's transformers, classifiers of MONAI, and segmentation networks
with a classifier: {tried} networks, each built small, with random weights, in double precision where it has that. One
process per network chooses the recommended layer, tries each method there, and compares it with a slow, literal version:

- **Recipro-CAM** with brute force, in which a hook keeps one position and the whole network runs.
- **Grad-CAM**, Captum's, only by the shape of its maps and whether they are finite.
- **CAM** by its mean, which is the logit up to the bias.
- **SoftCAM** by the logits of the converted network on images that the conversion has not seen, and by the means of its
  evidence. *Right* means the same logits; *other logits*, that the conversion says that they change, and why.

*Refused* means an error whose words name what is in the way. Kinds of networks are told apart by the operations of a
forward:

{kinds}

[The long table](../reference/sweep.md) has every network with its layer and the largest differences."""

_LIMITS = """\
Random weights decide nothing but rounding here, and nothing follows for whether a map is a good explanation. One network of
each family was tried, with few layers; larger members have the same operations. Images were small, and not those that the
networks are made for."""


def write(tried: Sequence[Result], docs: Path) -> None:
    """Write page and figure."""
    results = summed(tried)
    figure = f"{NAME}_study.png"
    plot(results).savefig(docs / "images" / figure, dpi=150)
    kinds = "\n".join(f"- *{name}*: {words}." for name, words in DESIGNS.items())
    parts = [
        _outcomes(results, "designs", "kind of network"),
        _outcomes(results, "libraries", "library", LIBRARIES),
        _one(results),
    ]
    write_page(
        Page(
            title="On which networks the methods work",
            script="reach.py",
            against=against(results, tried),
            question=_QUESTION,
            setup=_SETUP.format(kinds=kinds, **results.settings),
            results="\n\n".join([*parts, "### What was refused, and what was changed", refusals(tried)]),
            figure=figure,
            alt="fractions of networks of each kind on which a method is right, changes the logits, or refuses",
            findings=tuple(findings(results)),
            limits=_LIMITS + earlier(tried),
            hours=results.settings["hours"],
            options="",
        ),
        results,
        docs,
    )


def earlier(tried: Sequence[Result]) -> str:
    """Say how many networks were not tried in the last run; a network that was has a time."""
    old = sum(each.seconds == 0 for each in tried)
    if not old:
        return ""
    return (
        f"\n\n**The outcomes of {old} networks come from an earlier run**, with the same versions of the libraries and an "
        "earlier one of this package; only their kinds and layers were looked up anew. The tests try some "
        "networks of every library on every change."
    )


def against(results: Results, tried: Sequence[Result]) -> str:
    """Say first what is changed or refused, and why."""
    cnns, networks = results.cell("designs", "CNN", "softcam right").n, len(tried)
    wrong = sum(total(results, f"{step} {WRONG}") for step in METHODS)
    refused = {step: total(results, f"{step} {REFUSED}") for step in METHODS}
    told = [
        f"{METHODS[step]} refuses {refused[step]} ({_mostly(reasons(tried, step))})."
        for step in sorted(METHODS, key=lambda step: -refused[step])
        if refused[step]
    ]
    runs = [METHODS[step] for step, number in refused.items() if not number]
    told += [f"{' and '.join(runs)} refuse{'s' if len(runs) == 1 else ''} none."] if runs else []
    return (
        f"**SoftCAM keeps the logits of {count(results, 'designs', 'CNN', 'softcam right')} of {cnns} CNNs, and of "
        f"{total(results, 'softcam right')} of all {networks} networks.** It changes those of "
        f"{total(results, f'softcam {OTHER}')} and says so ({_mostly(changes(tried))}). {' '.join(told)} "
        + (f"**{wrong} results are wrong.**" if wrong else "Everything that was not refused passed its check.")
    )


def _mostly(told: Counter[str]) -> str:
    """Write the most frequent reason, with its number."""
    (words, number), *others = told.most_common()
    return f"{'most often ' if others else ''}because {words}{f': {number}' if others else ''}"


def _outcomes(results: Results, name: str, head: str, titles: dict[str, str] | None = None) -> str:
    """Write a table of counts."""
    rows = []
    for row in sorted(results.tables[name], key=list(titles or DESIGNS).index):
        cells = [results.cell(name, row, "one forward").n]
        cells += [count(results, name, row, f"{step} {RIGHT}") for step in METHODS]
        cells += [count(results, name, row, f"softcam {kind}") for kind in (OTHER, REFUSED)]
        rows.append([(titles or {}).get(row, row), *cells])
    columns = [f"{title} right" for title in METHODS.values()]
    return table([head, "networks", *columns, "SoftCAM, other logits", "SoftCAM, refused"], rows)


def _one(results: Results) -> str:
    """Say where Recipro-CAM needs a single forward."""
    parts = [
        f"{count(results, 'designs', row, 'one forward')} of {results.cell('designs', row, 'one forward').n} {PLURALS[row]}"
        for row in DESIGNS
        if row in results.tables["designs"]
    ]
    return (
        f"At the recommended layer, one forward is enough for Recipro-CAM in {', '.join(parts)}: what follows pools, or is "
        "the last attention before a class token. Elsewhere the rest of the network [runs once per "
        "position](../reference/costs.md)."
    )


def reasons(tried: Sequence[Result], step: str) -> Counter[str]:
    """Count the reasons for which a method refuses networks."""
    return Counter(
        reason(each.steps[step].words) for each in tried if step in each.steps and each.steps[step].kind == "refused"
    )


def reason(words: str) -> str:
    """Return the reason of a refusal in words that are the same for all networks."""
    short = obstacle(words)
    return next((told for pattern, told in REASONS.items() if re.search(pattern, short)), short)


def refusals(tried: Sequence[Result]) -> str:
    """Write the table of reasons, with their numbers and a few networks."""
    rows: list[list[Any]] = []
    for step, title in METHODS.items():
        for told, number in reasons(tried, step).most_common():
            names = [
                each.name for each in tried if outcome(each, step) == REFUSED and reason(each.steps[step].words) == told
            ]
            rows.append([title, f"refused: {told}", number, _few(names)])
    for told, number in changes(tried).most_common():
        names = [each.name for each in tried if outcome(each, "softcam") == OTHER and _operations(each) == told]
        rows.append(["SoftCAM", f"other logits: {told}", number, _few(names)])
    return table(["method", "what happened", "networks", "such as"], rows, "llrl")


def changes(tried: Sequence[Result]) -> Counter[str]:
    """Count the reasons for which conversions have other logits."""
    return Counter(_operations(each) for each in tried if outcome(each, "softcam") == OTHER)


def _operations(result: Result) -> str:
    """Return why the logits of a conversion change."""
    told = result.steps["softcam"].words.removeprefix(f"{OTHER}: ")
    operations = re.match(r"(.*?) acts? at every position", told)
    if operations is None:
        return told
    names = dict.fromkeys(SPELLINGS.get(name, name) for name in operations[1].split(" and "))
    return f"{' and '.join(names)} act{'s' if len(names) == 1 else ''} at every position"


def _few(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def plot(results: Results) -> Figure:
    """Draw what happened as stacked bars, a panel per method and a bar per kind of network and library."""
    rows = [("designs", row, row) for row in DESIGNS if row in results.tables["designs"]]
    rows += [("libraries", row, title) for row, title in LIBRARIES.items() if row in results.tables["libraries"]]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, len(METHODS), sharey=True)
    places = [place + 0.6 * (name == "libraries") for place, (name, _, _) in enumerate(rows)]
    for panel, (step, title) in zip(panels, METHODS.items(), strict=True):
        starts = [0.0] * len(rows)
        for kind, colour in OUTCOMES.items():
            widths = [100 * results.cell(name, row, f"{step} {kind}").mean for name, row, _ in rows]
            if any(widths):
                panel.barh(places, widths, left=starts, color=colour, edgecolor="white", label=kind)
            starts = [start + width for start, width in zip(starts, widths, strict=True)]
        panel.set(title=title, xlim=(0, 100), xlabel="% of networks")
    labels = [f"{title} ({results.cell(name, row, 'one forward').n})" for name, row, title in rows]
    panels[0].set_yticks(places, labels)
    panels[0].invert_yaxis()
    handles = {label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


if __name__ == "__main__":
    main()
