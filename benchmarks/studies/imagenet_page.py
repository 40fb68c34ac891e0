"""The page of the study on ImageNet, and its figure, from the kept results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from imagenet_tables import BELL, OF_MEANS, PAPER, TITLES, WITHOUT_COMPLEXITY, findings, network_table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from study import Interval, Results
from study_page import Page, differences_table, table, write_page

FIGURE = "imagenet_study.png"
SHORT = {"efficientnet_lite0": "Lite0", "efficientnet_lite2": "Lite2"}
LOCALISATION = {
    "pointing_game": "pointing game",
    "tolerant_pointing_game": "with tolerance",
    "relevance_mass_accuracy": "relevance mass",
    "relevance_rank_accuracy": "relevance rank",
    "iou_at_best_threshold": "best IoU",
}
ADCC = {
    OF_MEANS: "ADCC of means",
    "adcc": "mean of ADCC",
    "average_drop": "average drop ↓",
    "coherency": "coherency",
    "map_complexity": "complexity ↓",
    WITHOUT_COMPLEXITY: "without complexity",
}
FAITHFULNESS = {"deletion": "deletion ↓", "insertion": "insertion", "road": "ROAD ↓"}
PRINTED = {"grad_cam": 75.27, "score_cam": 78.14, PAPER: 80.84}
"""ADCC on ImageNet with ResNet-50, as printed in the paper of Recipro-CAM."""
PRINTED_DROPS = {"score_cam": 8.61, PAPER: 15.69}
COLOURS = {"efficientnet_lite0": "#0072b2", "efficientnet_lite2": "#d55e00"}
MARKERS = {"efficientnet_lite0": "o", "efficientnet_lite2": "s"}


def write_results_page(results: Results, docs: Path) -> Path:
    """Write page and figure from the results, and return the path of the page."""
    _figure(results).savefig(docs / "images" / FIGURE, dpi=150)
    page = Page(
        title="Maps of ImageNet networks on photographs",
        script="imagenet.py",
        against=_against(results),
        question=_QUESTION,
        setup=_setup(results),
        results=_results(results),
        figure=FIGURE,
        alt="Pointing game, ADCC, and ADCC without complexity of each method, for both networks, with intervals.",
        findings=findings(results),
        limits=_LIMITS,
        hours=results.settings["hours"],
        options=_counts_as_options(results),
    )
    return write_page(page, results, docs)


_QUESTION = """Which of the orders that the papers report does a network show that was trained on ImageNet, on real
photographs with boxes? The table of the Recipro-CAM paper {cite:p}`byun2024reciprocam` has ADCC {cite:p}`poppi2021adcc`
for ResNet-50. Here are two smaller networks, the same methods, other metrics beside ADCC, and controls that ignore the
network."""

_DATA = """Photographs with boxes from ImageNet's validation set, each squeezed into the square of the network and
explained for its true class. The mask is the union of the boxes. The layers are `{last}`, the last one, and
`{earlier}`, one stage earlier. Numbers of photographs:"""

_METHODS = """The fast methods run on all photographs. Occlusion, Integrated Gradients, and those that need many
forwards at the layer before, run on the first ones only, and so do the expensive metrics. Rows say the number of
photographs, *n*. Differences are paired on the photographs that both methods have."""

_METRICS = """The pointing game counts whether the highest point of the map is in a box, and *with tolerance* whether it
is within {tolerance} pixels of one, as TorchRay does, on a photograph of {side} pixels a side. ADCC is the harmonic
mean of coherency, 1 − complexity and 1 − drop: *of means*, as in papers, and the mean of the photographs' own. *Without
complexity* is the harmonic mean of the two others. All metrics of this family set negative values of a map to 0 and
scale it to [0, 1]. Recipro-CAM of probabilities is not relative to the score of no position, as in
its paper.

Intervals are 95 % intervals of the bootstrap over photographs."""

_SAME = """With {network} these maps are the same on every photograph, and the expensive metrics were measured once for
them: {groups}. After the conversion, no logit differs by more than {largest:.1e} of the range of the logits."""

_LIMITS = """The photographs are 100 of 50,000, and the networks are two of one family. Intervals cover other
photographs, not other networks. The boxes of ImageNet hold the whole object, mostly in the middle, so that localisation
on them says little about small or decentred objects. The comparison judges its metrics by the average of all methods,
which Grad-CAM at the layer before lowers. ROAD imputes pixel by pixel, which takes as long as hundreds of forwards of
these networks, and was measured on few photographs for this reason, if at all. Verdicts are not adjusted for the number
of claims."""


# First paragraph ------------------------------------------------------------------------------------------------------


def _against(results: Results) -> str:
    """Write what was found: first where a method is behind another or a control, last where it is clearly ahead."""
    told = [_compared(results, *each) for each in sorted(_FIRST, key=lambda each: _worst(results, *each[:3]))]
    return "\n".join(f"- {sentence}" for sentence in told if sentence)


def _worst(results: Results, one: str, other: str, metric: str) -> int:
    """Return the place in ``_WORDS`` of what is the worst of all networks."""
    found = [_difference(results, name, one, other, metric) for name in _networks(results)]
    return min((list(_WORDS).index(cell.kind) for cell in found if cell is not None), default=len(_WORDS))


_FIRST = (
    ("grad_cam", BELL, "pointing_game", "the pointing game"),
    ("recipro_gaussian", BELL, "pointing_game", "the pointing game"),
    ("recipro_gaussian", "grad_cam", "pointing_game", "the pointing game"),
    ("grad_cam", BELL, OF_MEANS, "ADCC of means"),
    (PAPER, BELL, OF_MEANS, "ADCC of means"),
    (PAPER, "grad_cam", OF_MEANS, "ADCC of means"),
    (PAPER, "grad_cam", "average_drop", "average drop"),
    (PAPER, "grad_cam", "map_complexity", "complexity"),
    (PAPER, "grad_cam", WITHOUT_COMPLEXITY, "ADCC without complexity"),
    (PAPER, "score_cam", OF_MEANS, "ADCC of means"),
)
_WORDS = {
    "worse": "clearly behind",
    "inconclusive": "not clearly ahead or behind",
    "the same": "equal",
    "better": "clearly ahead",
}
_SUBJECTS = {
    "grad_cam": "Grad-CAM",
    "recipro_gaussian": "Recipro-CAM of logits with the Gaussian mask",
    PAPER: "Recipro-CAM as in its paper",
    "score_cam": "Score-CAM",
    BELL: "a bell in the middle of the picture",
}


def _compared(results: Results, one: str, other: str, metric: str, words: str) -> str:
    """Write a sentence on a difference for every network; empty if it was measured for none."""
    found = {SHORT[name]: _difference(results, name, one, other, metric) for name in _networks(results)}
    cells = {name: cell for name, cell in found.items() if cell is not None}
    phrases = [
        f"{phrase} with " + " and ".join(f"{name} ({cell.signed()})" for name, cell in cells.items() if cell.kind == kind)
        for kind, phrase in _WORDS.items()
        if kind in {cell.kind for cell in cells.values()}
    ]
    told = f"In {words}, {_SUBJECTS[one]}, compared with {_SUBJECTS[other]}, is {', and '.join(phrases)}."
    return told if cells else ""


def _networks(results: Results) -> list[str]:
    return list(results.settings["networks"])


def _difference(results: Results, network: str, one: str, other: str, metric: str) -> Interval | None:
    rows = results.tables.get(network_table(network, "differences"), {})
    return rows.get(f"{one} - {other}", {}).get(metric)


# Set-up ---------------------------------------------------------------------------------------------------------------


def _setup(results: Results) -> str:
    last, earlier = results.settings["layers"]
    heads = [
        "network",
        "right class",
        "fast methods",
        "deletion, insertion",
        "slow methods",
        "Score-CAM, last layer",
        "ROAD",
    ]
    parts = [
        _DATA.format(last=last, earlier=earlier),
        table(heads, [_counts(results, network) for network in _networks(results)]),
        _METHODS,
        *_equal_maps(results),
        _METRICS.format(**results.settings),
    ]
    return "\n\n".join(parts)


def _counts(results: Results, network: str) -> list[object]:
    told = results.settings["networks"][network]
    numbers = told["photographs"]
    parts = [numbers.get(part, 0) for part in ("fast", "faithful", "slow", "score_cam", "road")]
    return [SHORT[network], told["right class"], *parts]


def _counts_as_options(results: Results) -> str:
    """Return the options of the command that measures as many photographs as these results have."""
    told = [results.settings["networks"][network]["photographs"] for network in _networks(results)]
    parts = ("fast", "probability", "faithful", "slow", "score_cam", "road")
    numbers = {part: " ".join(str(each.get(part, 0)) for each in told) for part in parts}
    return " --data DIR" + "".join(f" --{part.replace('_', '-')} {each}" for part, each in numbers.items())


def _equal_maps(results: Results) -> Iterator[str]:
    for network in _networks(results):
        groups = results.settings["networks"][network]["same_maps"]
        if groups:
            told = "; ".join(", ".join(TITLES[name] for name in group) for group in groups)
            largest = results.cell(network_table(network, "conversion"), "logits", "difference").high
            yield _SAME.format(network=SHORT[network], groups=told, largest=largest)


# Results --------------------------------------------------------------------------------------------------------------


def _results(results: Results) -> str:
    parts = [_beside_the_paper(results)]
    for network in _networks(results):
        parts.append(f"### {SHORT[network]}")
        for title, columns in _TABLES.items():
            rows = _means(results, network, columns)
            parts += [f"{title}:", rows] if rows else []
        right = _means(results, network_table(network, "right class"), ADCC)
        parts += ["ADCC, on the photographs whose class is predicted:", right]
    for network in _networks(results):
        parts += [f"### Differences, {SHORT[network]}", _NOTE]
        for title, columns in _TABLES.items():
            rows = _differences(results, network, columns)
            parts += [f"{title}:", rows] if rows else []
    return "\n\n".join([*parts, "### Health of the metrics", _health(results)])


_TABLES = {"Localisation": LOCALISATION, "ADCC and its parts": ADCC, "Faithfulness": FAITHFULNESS}
_NOTE = (
    "Above 0 the first is better, whatever the direction of the metric; "
    "**bold** where the interval excludes 0 to three digits."
)


def _beside_the_paper(results: Results) -> str:
    heads = [f"ADCC, {SHORT[network]}" for network in _networks(results)]
    rows = []
    for method, printed in PRINTED.items():
        drop = PRINTED_DROPS.get(method, "")
        rows.append(
            [
                TITLES[method],
                printed,
                drop,
                *(_percent(results, each, method, OF_MEANS) for each in _networks(results)),
                *(_percent(results, each, method, "average_drop") for each in _networks(results)),
            ]
        )
    drops = [f"drop, {SHORT[network]}" for network in _networks(results)]
    words = "The table of the paper (ResNet-50, ImageNet, in %) beside the same figures here:"
    return words + "\n\n" + table(["method", "ADCC, paper", "drop, paper", *heads, *drops], rows)


def _percent(results: Results, network: str, method: str, metric: str) -> str:
    cell = results.tables[network_table(network, "means")].get(method, {}).get(metric)
    return (
        ""
        if cell is None or not math.isfinite(cell.mean)
        else "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * end for end in cell[:3]))
    )


def _means(results: Results, network: str, columns: dict[str, str]) -> str:
    """Write a table with a row per map; empty if no method has any of the columns."""
    cells, rows = results.tables[network_table(network, "means")], []
    shown = [name for name in columns if any(name in found for found in cells.values())]
    for method, title in _distinct(results, network.partition(":")[0]).items():
        found = cells.get(method, {})
        if any(name in found for name in shown):
            rows.append([title, _number(found, shown), *(found.get(name, "") for name in shown)])
    return table(["map", "n", *(columns[name] for name in shown)], rows) if rows else ""


def _distinct(results: Results, network: str) -> dict[str, str]:
    """Return the titles of all methods, those with the same maps as one."""
    titles = dict(TITLES)
    for group in results.settings["networks"][network]["same_maps"]:
        first, *others = (name for name in TITLES if name in group)
        titles[first] = " = ".join(TITLES[name] for name in (first, *others))
        for name in others:
            del titles[name]
    return titles


def _number(found: dict[str, Interval], columns: Sequence[str]) -> str:
    """Return the number of photographs that have a value, from the fewest to the most."""
    counts = sorted({found[name].n for name in columns if name in found})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _differences(results: Results, network: str, columns: dict[str, str]) -> str:
    """Write a table with a row per pair of different maps; empty if no pair has any of the columns."""
    name, distinct = network_table(network, "differences"), _distinct(results, network)
    cells = results.tables[name]
    shown = {key: title.removesuffix(" ↓") for key, title in columns.items() if any(key in each for each in cells.values())}
    pairs = {row: row.split(" - ") for row, each in cells.items() if any(key in each for key in shown)}
    rows: dict[str, str] = {}
    for row, pair in pairs.items():
        mirrored = " - ".join(reversed(pair)) in rows  # kept for a claim of the opposite direction
        if {*pair} <= {*distinct} and not mirrored:
            rows[row] = " − ".join(TITLES[each].strip("*") for each in pair)
    return differences_table(results, name, "first − second", shown, rows) if rows else ""


def _health(results: Results) -> str:
    told = {network: results.settings["networks"][network]["health"] for network in _networks(results)}
    titles = {**LOCALISATION, **ADCC, **FAITHFULNESS}
    rows = []
    for metric, title in titles.items():
        entries = [told[network].get(metric) for network in told]
        if any(entries):
            rows.append(
                [title.removesuffix(" ↓"), *("" if entry is None else f"**{entry[0]}**: {entry[1]}" for entry in entries)]
            )
    note = (
        "What the comparison says about its own metrics: whether they rank methods above controls, and the trained network "
        "above one with random weights ([how it is measured](why_metrics_disagree.md))."
    )
    return note + "\n\n" + table(["metric", *(SHORT[network] for network in told)], rows, "l" * (1 + len(told)))


# Figure ---------------------------------------------------------------------------------------------------------------


def _figure(results: Results) -> Figure:
    """Plot pointing game, ADCC and ADCC without complexity, with a row per method."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    distinct = _distinct(results, _networks(results)[0])
    methods = [name for name in distinct if any(name in _table(results, each) for each in _networks(results))]
    columns = {"pointing_game": "pointing game", OF_MEANS: "ADCC of means", WITHOUT_COMPLEXITY: "ADCC,\nwithout complexity"}
    for panel, (column, title) in zip(panels, columns.items(), strict=True):
        for network in _networks(results):
            _draw(panel, results, network, column, methods)
        panel.set_title(title)
        panel.grid(axis="y", linewidth=0.4, color="0.85")
    panels[0].set_yticks(range(len(methods)), [_label(results, name) for name in methods])
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def _label(results: Results, method: str) -> str:
    """Return the title of a method, with the number of photographs if it ran on a part of them."""
    counts = [cells[method]["pointing_game"].n for each in _networks(results) if method in (cells := _table(results, each))]
    every = _table(results, _networks(results)[0])[BELL]["pointing_game"].n
    return TITLES[method].strip("*") + ("" if min(counts) == every else f" (n = {min(counts)})")


def _table(results: Results, network: str) -> dict[str, dict[str, Interval]]:
    return results.tables[network_table(network, "means")]


def _draw(panel: Axes, results: Results, network: str, column: str, methods: Sequence[str]) -> None:
    cells = _table(results, network)
    shift = 0.15 * (2 * _networks(results).index(network) - 1)
    bell = cells[BELL][column].mean
    panel.axvline(bell, color=COLOURS[network], linewidth=0.8, linestyle=":")
    for place, method in enumerate(methods):
        cell = cells.get(method, {}).get(column)
        if cell is not None and math.isfinite(cell.mean):
            label = SHORT[network] if method == "grad_cam" else None
            errors = [[cell.mean - cell.low], [cell.high - cell.mean]]
            panel.errorbar(
                cell.mean,
                place + shift,
                xerr=errors,
                fmt=MARKERS[network],
                markersize=4,
                capsize=2,
                color=COLOURS[network],
                label=label,
            )
