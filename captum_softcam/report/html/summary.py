"""The summary: what the numbers allow to say, in words, and every verdict against the baseline at a glance."""

from __future__ import annotations

from collections.abc import Sequence

from captum_softcam.report.html.facts import Facts, count, difference_decimals, number
from captum_softcam.report.html.markup import Html, breakable, element

__all__ = ["MARKS", "summary_section", "verdict_mark"]

MARKS = {1: ("▲", "better"), 0: ("○", "open"), -1: ("▼", "worse")}
"""Sign and word of each verdict; the shape tells them apart without colour."""

_FEW = 3  # metrics that a sentence can name
_FALSE_ALARMS = 0.05  # intervals of 95 % that leave out 0 although there is no difference


def summary_section(facts: Facts) -> Html:
    """Key numbers, sentences, and the strip of verdicts of every method."""
    sentences = [*_lead(facts), *_ranks(facts), *_openness(facts), *_chance(facts), *_gaps(facts)]
    return element(
        "section",
        element("h2", "Summary"),
        _key_numbers(facts),
        element("ul", *(element("li", *sentence) for sentence in sentences), class_="sentences"),
        _strips(facts) if facts.rivals or facts.controls else None,
        id="summary",
    )


def verdict_mark(verdict: int, title: str | None = None) -> Html:
    """The sign of a verdict."""
    sign, word = MARKS[verdict]
    return element("span", sign, class_=f"mark {word}", title=title, aria_hidden="true")


def _key_numbers(facts: Facts) -> Html:
    samples = facts.comparison.scores.drop_duplicates("sample")
    right = int((samples["label"] == samples["prediction"]).sum())
    masked = facts.manifest.get("samples_with_mask")
    numbers = [
        (facts.samples, "sample" if facts.samples == 1 else "samples", f"{right} predicted right"),
        (len(facts.methods), "method" if len(facts.methods) == 1 else "methods", _controls(facts)),
        (len(facts.metrics), "metric" if len(facts.metrics) == 1 else "metrics", _categories(facts)),
        (masked, "with a mask", "for localisation"),
    ]
    return element("dl", *(_key_number(*entry) for entry in numbers if entry[0] is not None), class_="numbers")


def _key_number(value: object, name: str, note: str) -> Html:
    return element("div", element("dt", name), element("dd", element("b", value), element("span", note)))


def _controls(facts: Facts) -> str:
    return f"{count(len(facts.controls), 'control')} among them" if facts.controls else "no control"


def _categories(facts: Facts) -> str:
    return ", ".join(dict.fromkeys(facts.category(name) for name in facts.metrics if facts.category(name)))


def _lead(facts: Facts) -> list[Sequence[object]]:
    """Who is ahead of the baseline, and on how many metrics."""
    if not facts.rivals:
        return [["There is no other method to compare ", _name(facts.baseline), " with."]]
    tallies = {name: _tally(facts, name) for name in facts.rivals}
    best = max(tallies.values(), key=lambda tally: (tally[0] - tally[2], tally[0]))
    better, still_open, worse = best
    if not better:
        return [["No method is clearly ahead of the baseline ", _name(facts.baseline), " on any metric."]]
    leaders = [name for name in facts.rivals if tallies[name] == best]
    verb, each = ("is", "") if len(leaders) == 1 else ("are", " each")
    ahead = f" on {better} of {count(len(facts.metrics), 'metric')}{each}{_which(facts, leaders)}"
    rest = f"; {still_open} {'is' if still_open == 1 else 'are'} open." if still_open else "."
    return [
        [
            *_names(leaders),
            f" {verb} ahead of the baseline ",
            _name(facts.baseline),
            f"{ahead}, behind on {worse or 'none'}",
            rest,
        ]
    ]


def _which(facts: Facts, leaders: Sequence[str]) -> str:
    """The metrics on which one leader is ahead, with the differences, if they are few: a clear one may still be tiny."""
    ahead = [metric for metric in facts.metrics if facts.verdict(leaders[0], metric) == 1]
    if len(leaders) > 1 or len(ahead) > _FEW:
        return ""
    sizes = (facts.differences[leaders[0], metric]["mean"] for metric in ahead)
    shown = (number(size, difference_decimals(size, 2), signed=True) for size in sizes)
    return f" ({', '.join(f'{facts.title(metric)} {size}' for metric, size in zip(ahead, shown, strict=True))})"


def _tally(facts: Facts, method: str) -> tuple[int, int, int]:
    """On how many metrics the method is better than the baseline, open, worse."""
    verdicts = facts.verdicts(method)
    return verdicts.count(1), verdicts.count(0), verdicts.count(-1)


def _ranks(facts: Facts) -> list[Sequence[object]]:
    """Which mean rank is best; said as what it is."""
    ranks = {name: rank for name, rank in facts.mean_rank.items() if rank == rank}
    if len(facts.methods) < 2 or len(facts.metrics) < 2 or not ranks:
        return []
    least = min(ranks.values())
    first = [name for name, rank in ranks.items() if rank == least]
    verb = "comes" if len(first) == 1 else "come"
    return [["By mean rank, which knows nothing of intervals, ", *_names(first), f" {verb} first ({least:.1f})."]]


def _openness(facts: Facts) -> list[Sequence[object]]:
    """How many comparisons are open, and how many would not be by chance alone."""
    pairs = [verdict for name in facts.rivals for verdict in facts.verdicts(name)]
    if not pairs:
        return []
    still_open = pairs.count(0)
    words = f"{still_open} of {count(len(pairs), 'comparison')} with the baseline " + ("is" if still_open == 1 else "are")
    sentence = [words + " open: the interval of the paired difference includes 0, or there are too few samples."]
    by_chance = round(_FALSE_ALARMS * len(pairs))
    chance = f" Where nothing differs at all, about {by_chance} of so many would still look clear." if by_chance else ""
    return [[*sentence, chance]]


def _chance(facts: Facts) -> list[Sequence[object]]:
    """Which methods beat the controls wherever the question makes sense, and where none does."""
    asked = [name for name in facts.metrics if facts.category(name) != "complexity"]
    methods = [name for name in facts.methods if name not in facts.controls]
    if not facts.controls or not asked or not methods:
        return []
    beats = _beats_controls(facts)
    controls = [*_names(facts.controls)]
    everywhere = [name for name in methods if all((name, metric) in beats for metric in asked)]
    nowhere = [facts.title(metric) for metric in asked if not any((name, metric) in beats for name in methods)]
    sentences: list[Sequence[object]] = []
    if everywhere:
        what = "on every metric of localisation and faithfulness." if len(asked) > 1 else f"on {facts.title(asked[0])}."
        sentences.append([*_names(everywhere), f" {'beats' if len(everywhere) == 1 else 'beat'} ", *controls, f" {what}"])
    if nowhere:
        sentences.append([f"No method clearly beats {_every(facts)} on {_listed(nowhere)}: read that with care."])
    return sentences


def _every(facts: Facts) -> str:
    return "the control" if len(facts.controls) == 1 else "all controls"


def _beats_controls(facts: Facts) -> set[tuple[str, str]]:
    """(method, metric) where the method is better than every control."""
    tables = [facts.against(control) for control in facts.controls]
    return {key for key in tables[0] if all(key in table and table[key]["better"] == 1 for table in tables)}


def _gaps(facts: Facts) -> list[Sequence[object]]:
    """How many scores are missing."""
    undefined = sum(int(cell["undefined"]) for cell in facts.summary.values())
    failed = sum(int(cell["failed"]) for cell in facts.summary.values())
    if not undefined:
        return []
    verb = "is" if undefined == 1 else "are"
    errors = f", {failed} of them by an error" if failed else ""
    return [[f"{count(undefined, 'score')} {verb} undefined{errors}; the cells count them."]]


def _strips(facts: Facts) -> Html:
    methods = [*facts.rivals, *(name for name in facts.controls if name != facts.baseline)]
    methods.sort(key=lambda name: (name in facts.controls, -sum(facts.verdicts(name))))
    return element(
        "div",
        element("h3", "Against ", _name(facts.baseline), ", metric by metric"),
        element("ul", *(_strip(facts, name) for name in methods), class_="strips"),
        element("p", *_key(), class_="note"),
    )


def _strip(facts: Facts, method: str) -> Html:
    verdicts = facts.verdicts(method)
    marks = [
        verdict_mark(verdict, f"{facts.title(metric)}: {MARKS[verdict][1]}")
        for metric, verdict in zip(facts.metrics, verdicts, strict=True)
    ]
    words = ", ".join(f"{verdicts.count(verdict)} {word}" for verdict, (_, word) in MARKS.items() if verdict in verdicts)
    control = element("small", "control", class_="tag") if method in facts.controls else None
    return element(
        "li",
        element("span", _name(method), " ", control, class_="who"),
        element("span", *marks, class_="strip"),
        element("span", words, class_="tally"),
    )


def _key() -> list[object]:
    words = {1: " better, ", 0: " open, ", -1: " worse; in the order of the table's columns."}
    return [part for verdict, word in words.items() for part in (verdict_mark(verdict), word)]


def _name(method: str) -> Html:
    return element("b", breakable(method))


def _names(methods: Sequence[str]) -> list[object]:
    """Names in bold with commas and an ``and``."""
    parts: list[object] = []
    for place, method in enumerate(methods):
        if place:
            parts.append(" and " if place == len(methods) - 1 else ", ")
        parts.append(_name(method))
    return parts


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
