"""Write the page and the figure of the study of PASCAL VOC from its results alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from claims import CLAIMS
from matplotlib.figure import Figure
from study import Decides, Interval, Results, by_verdict
from study_page import Page, cells_table, differences_table, table, write_page
from voc import FAITHFULNESS, FINDINGS, GRID, KEPT, KINDS, LOCALISATION, LOWER, NATIVE, PAIRS, POINTING, SLOW

FIGURE = "voc_study.png"
METHODS = {
    NATIVE: "CAM",
    "grad_cam": "Grad-CAM",
    "recipro_cam": "Recipro-CAM",
    "occlusion": "Occlusion",
    "integrated_gradients": "Integrated Gradients",
}
MAPS = {
    **{f"black_box: {method}": f"black box: {title}" for method, title in METHODS.items()},
    **{f"{kind}: {NATIVE}": each.title for kind, each in KINDS.items() if kind != "black_box"},
    "centred_gaussian": "bell in the middle",
    "edge_map": "edges of the picture",
    "random": "random map",
}
_COLOURS = {"black": "#d55e00", "SoftCAM": "#0072b2", "": "#666666"}  # distinguishable with colour-vision deficiency
_PANELS = {
    "map": ("accuracy", "mean average precision"),
    "pointing_15": ("localisation", "pointing game, 15 px"),
    "activation_precision": ("localisation", "activation precision"),
    "insertion": ("faithfulness", "insertion"),
}


def write(results: Results, docs: Path) -> Path:
    """Write the page and its figure, and return the path of the page."""
    _figure(results).savefig(docs / "images" / FIGURE, dpi=150)
    page = Page(
        title="A study of SoftCAM on photographs of PASCAL VOC",
        script="voc.py",
        against=_against(FINDINGS, results),
        question=_QUESTION,
        setup=_setup(results),
        results=_results(results),
        figure=FIGURE,
        alt="average precision, pointing game, precision and insertion of all maps, with intervals",
        findings=FINDINGS,
        limits=_LIMITS.format(**results.settings),
        hours=results.settings["hours"],
    )
    return write_page(page, results, docs)


_HEADS = {"does not hold": "**These claims do not hold here:**", "cannot be told": "**These cannot be told:**"}


def _against(findings: Iterable[Decides], results: Results) -> str:
    """List the claims that do not hold, and those that cannot be told."""
    verdicts = by_verdict(findings, results)
    parts = []
    for verdict, head in _HEADS.items():
        claims: dict[str, list[str]] = {}
        for each in verdicts.get(verdict, ()):
            claims.setdefault(each.claim, []).append(each.shown(results))
        lines = [f"- {CLAIMS[claim].text.rstrip('.')}: {'; '.join(shown)}." for claim, shown in claims.items()]
        parts += ["\n".join([head, "", *lines])] if lines else []
    count = len(verdicts.get("holds", ()))
    return "\n\n".join([*parts, f"The other {count} differences [agree with their claims](#what-holds-and-what-does-not)."])


_QUESTION = """\
Photographs show several classes at once, and boxes tell where each is. Is a network that is fine-tuned as a SoftCAM model
as accurate as the black box, and do its evidence maps point at the objects more often than post-hoc maps of the black box?
What do a sparsity penalty and a finer grid add?"""

_SETUP = """\
The data are parts of PASCAL VOC 2007 {{cite:p}}`everingham2010voc`: {train} photographs to train on, of which every fifth,
{held} in all, chooses the epoch and the penalty, and {images} photographs to test on, with {samples} pairs of a photograph
and a class in it. All are resized to 224×224 as a whole.

EfficientNet-Lite0 with the weights of ImageNet gets a new classifier for the 20 classes and is fine-tuned with binary
cross-entropy, in which the presence of a class weighs {presence:g} times as much as its absence: most classes are absent,
and without the weight many classes that are there have no positive evidence. The layers up to the fifth block stay as they
are. For each of {seeds} seeds, a base is trained for {epochs[0]} epochs; black box and SoftCAM models start from it and are
tuned for {epochs[1]} further epochs, in the same order and with the same mirror images, by
{{func}}`~captum_softcam.softcam.train_classifier` (learning rate {learning_rate:g} at first). Objects marked as difficult
count as present in the training.

With global average pooling and a linear classifier, **a SoftCAM model without a penalty at the stride of the network is the
black box**: the same function with the same gradients. Trained both ways with the first seed, the logits differ by
{same[difference]:.1g} at most, where the largest is {same[largest]:.0f}. It is therefore trained once, and its maps appear
as *CAM*. The models of the study are the black box, lasso and elastic net at stride 32 (7×7 cells), and no penalty and the
chosen one at stride 16 (14×14 cells).

The weights of a penalty are chosen with the first seed at stride 32: those with the highest activation precision on the
{held} photographs among the ones that keep the mean average precision within {points:g} point; *chosen* is the better of
both penalties by the same rule, here **{chosen}**. At stride 16 there are four times as many cells, and the weights are a
quarter.

{trials}

*Pointing, 15 px* is the pointing game as TorchRay plays it {{cite:p}}`zhang2018pointing,fong2019understanding`: in the
size of the photograph, a hit within 15 pixels counts, difficult objects beside others of their class belong to it, and the
value is the mean over the classes. *Of these difficult* are the {difficult} pairs whose objects cover less than a quarter of
a photograph that shows another class too. All other metrics are computed at 224×224 without a
tolerance, and average over all pairs. Maps without a positive value have neither relevance mass nor precision and are left
out there; *positive* is the fraction of the other maps. Metrics that run the network (by
{{func}}`~captum_softcam.evaluation.compare_models`, with the sigmoid as probability) are measured on the first {faithful}
pairs, and Occlusion and Integrated Gradients on the first {slow}.

Intervals are 95 % intervals over seeds and photographs: pairs of one photograph are drawn together, the photographs are the
same for all seeds, and the widths
[allow for the small number of seeds](../how-to/several_models.md#several-seeds-of-one-training). An average precision is
not a mean over photographs; its interval is computed from what each photograph adds to it (the jackknife). A photograph in
which all objects of a class are difficult is left out of the average precision of the class, as VOC does."""


_TRIALS = ("map", "precision", "positive")


def _setup(results: Results) -> str:
    settings = {**results.settings, "points": 100 * KEPT}
    rows = [
        [_penalty(*weights), *(f"{weight:g}" for weight in weights), *(f"{found[name]:.3f}" for name in _TRIALS)]
        for *weights, found in settings["trials"]
    ]
    heads = ["penalty", "λ₁", "λ₂", "mean average precision", "activation precision", "positive"]
    return _SETUP.format(**{**settings, "trials": table(heads, rows)})


def _penalty(lasso: float, ridge: float) -> str:
    found = [penalty for penalty, grid in GRID.items() if (lasso, ridge) in grid]
    return found[0] if found else "none"


_LIMITS = """\
*{seeds} seeds and {images} photographs* tell large differences from none. One network, a short fine-tuning on {train}
photographs and one data set stand behind every figure; weights of penalties were chosen with one seed. Deletion, insertion
and ADCC of two models differ by the networks as well as by their maps: a network with higher probabilities has a larger
insertion, which is better, and a larger deletion, which is worse, whatever the map. Where one is better and the other worse
by as much, they say little about the maps. On the {faithful} pairs on which they are measured, only large differences show,
and intervals from so few photographs are [too narrow](intervals.md#how-they-are-computed). The tables have hundreds of
intervals, of which one in twenty would exclude 0 by chance even if no difference were real.
ROAD is not measured, because of the time that its imputation takes."""


def _results(results: Results) -> str:
    models = {kind: each.title for kind, each in KINDS.items()}
    gains = {kind: title for kind, title in models.items() if kind != "black_box"}
    localisation = {**POINTING, **LOCALISATION, "positive": "positive"}
    lower = ", ".join(FAITHFULNESS[name].rstrip(" ↓") for name in FAITHFULNESS if name in LOWER)
    parts = [
        "### Accuracy",
        cells_table(results, "accuracy", "model", {"map": "mean average precision ↑", "sparsity": "sparsity"}, models),
        "Differences of the mean average precision to the black box:",
        differences_table(results, "accuracy_differences", "model", {"map": "difference"}, gains),
        "### Localisation",
        cells_table(results, "localisation", "maps", localisation, _titles(results)),
        "### Faithfulness",
        cells_table(results, "faithfulness", "maps", FAITHFULNESS, _titles(results)),
        "### Differences",
        f"Of the same pairs; above 0 is better, also in {lower}, whose sign is turned. "
        "Bold: the interval excludes 0 to three digits. "
        "*SoftCAM* is the model with the chosen penalty.",
        _differences(results, {**POINTING, **LOCALISATION}),
        _differences(results, FAITHFULNESS),
        "### Classes",
        _classes(results),
    ]
    return "\n\n".join(parts)


def _titles(results: Results) -> dict[str, str]:
    """Return the titles of maps, with the number of pairs where it is small."""
    few = f" (first {results.settings['slow']} pairs)"
    return {row: title + few * row.endswith(SLOW) for row, title in MAPS.items()}


def _differences(results: Results, columns: dict[str, str]) -> str:
    rows = {row: row for row in PAIRS if set(columns) & set(results.tables["differences"].get(row, ()))}
    titles = {name: title.rstrip(" ↑↓") for name, title in columns.items()}
    return differences_table(results, "differences", "difference", titles, rows)


_OF_CLASSES = ("ap", "ap_gain", "pointing", "pointing_gain")


def _classes(results: Results) -> str:
    rows = [
        [name, cells["pointing"].n, *(_of_class(cells[what], what) for what in _OF_CLASSES)]
        for name, cells in results.tables["classes"].items()
    ]
    heads = ["class", "photographs", "average precision, black box", "SoftCAM 16", "pointing, Grad-CAM", "SoftCAM 16"]
    note = "Average precision and the pointing game (15 px) of each class, and the differences of SoftCAM at stride 16."
    return note + "\n\n" + table(heads, rows)


def _of_class(cell: Interval, what: str) -> str:
    return cell.marked() if what.endswith("gain") else f"{cell.mean:.3f}"


# The figure -----------------------------------------------------------------------------------------------------------


def _figure(results: Results) -> Figure:
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    axes = figure.subplots(1, len(_PANELS), sharey=True)
    for ax, (column, (name, title)) in zip(axes, _PANELS.items(), strict=True):
        for place, (row, words) in enumerate(MAPS.items()):
            cell = _cell(results, name, row, column)
            if cell is not None:
                colour = next(colour for start, colour in _COLOURS.items() if words.startswith(start))
                ax.plot([cell.low, cell.high], [place, place], color=colour, lw=2)
                ax.plot(cell.mean, place, "o", color=colour, ms=6)
        ax.set_title(title, fontsize=11)
        ax.grid(axis="x", color="#dddddd")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(np.arange(len(MAPS)), list(MAPS.values()), fontsize=10)
    axes[0].invert_yaxis()
    return figure


def _cell(results: Results, name: str, row: str, column: str) -> Interval | None:
    if name == "accuracy":
        kind, _, method = row.partition(": ")
        row = kind if method == NATIVE else ""
    return results.tables[name].get(row, {}).get(column)
