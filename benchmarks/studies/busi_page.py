"""The page and the figure of the study of breast ultrasounds, from its results alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from study import KINDS, Finding, Interval, Results, Scores
from study_page import Page, cells_table, differences_table, table, write_page

NAME = "busi"
LOCALISATION = ("precision", "sensitivity", "pointing", "mass", "rank")
MAP_SCORES = (*LOCALISATION, "deletion", "insertion")
FIGURE = "busi_study.png"
TITLES = {
    "black_box": "black box (SoftCAM without penalty, 7×7 cells)",
    "lasso": "SoftCAM, lasso, 7×7 cells",
    "fine": "SoftCAM, no penalty, 14×14 cells",
    "fine_lasso": "SoftCAM, lasso, 14×14 cells",
}
MAPS = {
    "lasso/soft_cam": "SoftCAM, lasso, 7×7 cells",
    "fine/soft_cam": "SoftCAM, no penalty, 14×14 cells",
    "fine_lasso/soft_cam": "SoftCAM, lasso, 14×14 cells",
    "black_box/soft_cam": "black box, converted (SoftCAM without penalty)",
    "black_box/grad_cam": "black box: Grad-CAM",
    "black_box/recipro_cam": "black box: Recipro-CAM",
    "black_box/occlusion": "black box: Occlusion (few images)",
    "black_box/score_cam": "black box: Score-CAM (few images)",
    "black_box/centred_gaussian": "control: bell in the middle",
    "black_box/edge_map": "control: edges of the picture",
    "black_box/random": "control: random map",
}
_LASSO, _FINE_LASSO, _GRAD_CAM, _BELL = (
    "lasso/soft_cam",
    "fine_lasso/soft_cam",
    "black_box/grad_cam",
    "black_box/centred_gaussian",
)
PAIRS = (
    *((_LASSO, f"black_box/{method}") for method in ("grad_cam", "recipro_cam", "occlusion", "score_cam")),
    (_FINE_LASSO, _GRAD_CAM),
    (_LASSO, "black_box/soft_cam"),
    (_FINE_LASSO, "fine/soft_cam"),
    ("fine/soft_cam", "black_box/soft_cam"),
    (_FINE_LASSO, _LASSO),
    ("black_box/soft_cam", _GRAD_CAM),
    ("black_box/soft_cam", "black_box/occlusion"),
    *((maps, _BELL) for maps in (_GRAD_CAM, _LASSO, _FINE_LASSO)),
    (_LASSO, "black_box/edge_map"),
    *((maps, f"{maps.partition('/')[0]}/random") for maps in (_GRAD_CAM, _LASSO)),  # each on its own network
)
_COLUMNS = {
    "precision": "precision ↑",
    "sensitivity": "sensitivity ↑",
    "pointing": "pointing ↑",
    "mass": "relevance mass ↑",
    "rank": "relevance rank ↑",
    "deletion": "deletion ↓",
    "insertion": "insertion ↑",
}
_WORDS = {"better": "better", "worse": "worse", "inconclusive": "not told apart", "the same": "the same"}


def findings(results: Results) -> tuple[Finding, ...]:
    """Return the claims that the study decides: those of the models that were measured."""
    found = (
        Finding("softcam-accuracy", "differences", "lasso - black_box", "accuracy", "kept", 0.01, "accuracy, lasso"),
        Finding(
            "softcam-accuracy",
            "differences",
            "fine_lasso - black_box",
            "accuracy",
            "kept",
            0.01,
            "accuracy, lasso, 14×14 cells",
        ),
        *_of_maps("softcam-localisation", _LASSO, _GRAD_CAM, "lasso minus Grad-CAM", ("precision", "pointing")),
        *_of_maps(
            "softcam-localisation", _FINE_LASSO, _GRAD_CAM, "lasso, 14×14 cells, minus Grad-CAM", ("precision", "pointing")
        ),
        *_of_maps("softcam-penalty", _LASSO, "black_box/soft_cam", "lasso minus no penalty"),
        *_of_maps("softcam-penalty", _FINE_LASSO, "fine/soft_cam", "lasso minus no penalty, 14×14 cells"),
        *_of_maps("softcam-faithful", _LASSO, _GRAD_CAM, "lasso minus Grad-CAM", ("deletion", "insertion")),
        *(
            Finding(
                "softcam-faithful",
                "differences",
                "gains",
                score,
                words=f"gain on a random map in {score}, lasso minus Grad-CAM",
            )
            for score in ("deletion", "insertion")
        ),
        *_of_maps("finer-grid", "fine/soft_cam", "black_box/soft_cam", "14×14 minus 7×7 cells, no penalty"),
        *_of_maps("finer-grid", _FINE_LASSO, _LASSO, "14×14 minus 7×7 cells, lasso"),
        *_of_maps("beats-controls", _GRAD_CAM, _BELL, "Grad-CAM minus bell", ("precision", "pointing")),
        *_of_maps("beats-controls", _LASSO, _BELL, "lasso minus bell", ("precision", "pointing")),
        Finding("same-logits", "algebra", "converted - black_box", "logits", "same", 1e-4, "largest change, of the largest"),
        Finding(
            "conversion-competitive",
            "differences",
            f"black_box/soft_cam - {_GRAD_CAM}",
            "precision",
            "kept",
            0.02,
            "precision, converted black box minus its Grad-CAM (the same map but for the bias)",
        ),
        *(
            Finding(
                "conversion-competitive",
                "differences",
                "black_box/soft_cam - black_box/occlusion",
                score,
                "kept",
                0.02,
                f"{score}, converted black box minus its Occlusion, few images",
            )
            for score in ("precision", "pointing")
        ),
    )
    return tuple(each for each in found if each.column in results.tables.get(each.table, {}).get(each.row, {}))


def _of_maps(claim: str, first: str, second: str, words: str, scores: Sequence[str] = ("precision",)) -> list[Finding]:
    return [Finding(claim, "differences", f"{first} - {second}", score, words=f"{score}, {words}") for score in scores]


def write(results: Results, docs: Path) -> Path:
    """Write figure and page, and return the path of the page."""
    _figure(results).savefig(docs / "images" / FIGURE, dpi=150)
    page = Page(
        title="A study of 149 breast ultrasounds",
        script="busi.py",
        against=against(results),
        question=_QUESTION,
        setup=_setup(results),
        results=_results(results),
        figure=FIGURE,
        alt="accuracy of the models; activation precision and pointing game of their maps and of the controls",
        findings=findings(results),
        limits=_power(results) + "\n\n" + _LIMITS,
        hours=results.settings["hours"],
    )
    return write_page(page, results, docs)


# The first paragraph --------------------------------------------------------------------------------------------------


def against(results: Results) -> str:
    """Write what was found, what speaks against our own methods first."""
    ranked = [_bell(results), _post_hoc(results), _accuracy(results), _penalty(results), _grid(results)]
    order = {"worse": 0, "the same": 1, "inconclusive": 1, "better": 2}
    sentences = [text for _, text in sorted((each for each in ranked if each), key=lambda each: order[each[0]])]
    return " ".join([*sentences, _ALGEBRA])


_ALGEBRA = (
    "Behind a global average pooling and a linear classifier, a SoftCAM model without penalty and with the grid of the "
    "black box *is* the black box, and its map is the class activation map: only a penalty and a grid are left to compare."
)


def _bell(results: Results) -> tuple[str, str]:
    found, post_hoc = (results.cell("differences", f"{maps} - {_BELL}", "pointing").kind for maps in (_LASSO, _GRAD_CAM))
    ours, theirs, bell = (results.cell("maps", maps, "pointing") for maps in (_LASSO, _GRAD_CAM, _BELL))
    which = "maps of SoftCAM" if post_hoc == "better" else "maps of the network"
    control = "a bell in the middle of the picture, which never sees the network"
    verdict = {
        "worse": f"**{control.capitalize()}, points at the lesion more often than the {which} do**",
        "inconclusive": f"**The {which} are not shown to point at the lesion more often than {control}**",
        "the same": f"**{control.capitalize()}, points at the lesion as often as the {which} do**",
        "better": f"The maps of SoftCAM point at the lesion more often than {control}",
    }[found]
    return found, (
        f"{verdict}: {_percent(ours)} of the lesions with lasso, {_percent(theirs)} with Grad-CAM of the black box and "
        f"{_percent(bell)} with the bell, by chance {_percent(results.cell('chance', 'pointing', 'pointing'))}."
    )


def _post_hoc(results: Results) -> tuple[str, str]:
    found = {score: results.cell("differences", f"{_LASSO} - {_GRAD_CAM}", score) for score in MAP_SCORES}
    kinds = {kind: [name for name in found if found[name].kind == kind] for kind in KINDS}
    worst = "worse" if kinds["worse"] else "inconclusive" if kinds["inconclusive"] or kinds["the same"] else "better"
    told = [
        f"{_WORDS[kind]} in {_listed([_name(score) for score in kinds[kind]])}"
        for kind in ("worse", "inconclusive", "the same", "better")
        if kinds[kind]
    ]
    text = f"Compared with Grad-CAM of the black box, the evidence maps of SoftCAM with lasso are {'; '.join(told)}."
    return worst, f"{text} {_gains(results)}"


def _gains(results: Results) -> str:
    """Write what is left of deletion and insertion when each map is compared with a random one on its own network."""
    told = []
    for score in ("deletion", "insertion"):
        found = results.cell("differences", "gains", score)
        told.append(f"{score} is {_WORDS[found.kind]} ({found.signed()})")
    gain = "as a gain on a random map of the same network"
    return f"Deletion and insertion depend on the network, too: {gain}, {' and '.join(told)}."


def _accuracy(results: Results) -> tuple[str, str]:
    found = results.cell("differences", "lasso - black_box", "accuracy")
    kept = findings(results)[0].verdict(results)
    said = {
        "holds": "The accuracy is kept within one point",
        "cannot be told": "Whether the accuracy is kept within one point cannot be told from so few images",
        "does not hold": "The accuracy is lower by more than one point",
    }[kept]
    kind = {"holds": "better", "cannot be told": "inconclusive", "does not hold": "worse"}[kept]
    return kind, f"{said}: {found.signed(100, 1)} points with lasso."


def _penalty(results: Results) -> tuple[str, str]:
    return _one(results, _LASSO, "black_box/soft_cam", "The penalty makes maps {} precise")


def _grid(results: Results) -> tuple[str, str] | None:
    if "fine/soft_cam" not in results.tables["maps"]:
        return None
    return _one(results, "fine/soft_cam", "black_box/soft_cam", "A grid twice as fine makes maps {} precise")


def _one(results: Results, first: str, second: str, sentence: str) -> tuple[str, str]:
    found = results.cell("differences", f"{first} - {second}", "precision")
    more = {"better": "more", "worse": "less", "inconclusive": "neither more nor less", "the same": "neither more nor less"}
    shown = " as far as this study can tell" if found.kind == "inconclusive" else ""
    return found.kind, f"{sentence.format(more[found.kind])}{shown} ({found.signed()})."


def _name(score: str) -> str:
    return _COLUMNS[score][:-2]


def _percent(found: Interval) -> str:
    return f"{100 * found.mean:.0f} %"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# Set-up and tables ----------------------------------------------------------------------------------------------------

_QUESTION = """\
The paper on SoftCAM {cite:p}`djoumessi2026softcam` finds, on medical images, that the accuracy of the black box is kept and
that maps get better. Is that so on breast ultrasounds, which show a benign lesion, a malignant one, or none?"""

_SETUP = """\
{images} images of BUSI {{cite:p}}`aldhabyani2020dataset` ({of_class}) of a published selection of 149, read from the
folder by {{class}}`~captum_softcam.data.ImageFolderSamples` and squeezed to 224 pixels. {Refused} was left out, because the
reader refused it: its second mask has another size than the image and, stretched to it, lies beside the second lesion.

**Copies.** BUSI is known to contain duplicates {{cite:p}}`pawlowska2023letter`. {groups} groups of pictures with the same
view were found ({in_groups} pictures, up to {largest_group} in a group): those whose thumbnails of 32×32 pixels have a
correlation of at least {alike}, a value that joins all pairs that look the same to us, and a few that are merely alike. A
group is in one fold, and counts as one image in all intervals: {views} views, {views_of_lesions} of them with a lesion.

**Models.** {folds}-fold cross-validation, stratified by class, with {seeds} seeds; each seed draws folds, the new
classifier, the order of the images and their mirroring, alike for all models. EfficientNet-Lite0 starts from the weights of
ImageNet; its last two stages are trained for {epochs} epochs with the optimizer of
{{class}}`~captum_softcam.softcam.SoftCamTask`, and the stages before them are kept. The epoch with the smallest loss on the
first {validation} training images is used, because no others are left over: they were trained on, so that this
chooses one of the last epochs, and cannot tell which generalises best. The models with 14×14 cells
(`output_stride=16`) {fine_words}.{no_plain}

**Lasso.** The weight was chosen before any test, on the training images of the first fold: of the weights that lose at most
one of {choice_images} validation images, that with the best precision: {lasso:g} for 7×7 cells, a quarter of it for 14×14.
The images on which it was chosen are test images of other folds; a single number was chosen there.

{choice}

**Maps** explain the true class of the {lesions} images with a lesion, whether it was recognised or not; post-hoc maps are
those of layer `{layer}`. {slow}Deletion and insertion are areas under the curve of the probability
while 16×16 patches are blurred or restored in {steps} steps. The other scores are defined
[in the study of painted lesions](softcam_study.md) and in {{mod}}`captum_softcam.metrics.functional`.

**Intervals** are 95 % intervals over seeds and views; those of the AUC come from jackknife pseudo-values of the images.
The models of the folds share most of their training images, which no interval of a cross-validation covers, and the AUC
compares logits of different folds' models. Differences are paired. All figures are measured on images that
the model has not seen."""


_FEWER = """\
are trained with {fine_seeds} of the {seeds} seeds, because they take four times as long, and are compared with the other
models of the same seeds; intervals of one seed cover other images, and not another training"""


def _setup(results: Results) -> str:
    found = results.settings
    words = {
        **found,
        "of_class": _listed([f"{count} {name}" for name, count in found["of_class"].items()]),
        "Refused": "One image" if found["refused"] == 1 else f"{found['refused']} images",
        "fine_words": "are trained alike" if found["fine_seeds"] == found["seeds"] else _FEWER.format(**found),
        "no_plain": "" if "fine" in results.tables["models"] else " One without penalty was left out to save time.",
        "choice": _choice(results),
        "choice_images": found["choice"]["0"]["images"],
        "slow": _slow(found),
    }
    return _SETUP.format(**words)


def _slow(found: Scores) -> str:
    """Say on how many images the methods with hundreds of forwards per map were measured."""
    counts = {"Occlusion": found["occlusion_images"], "Score-CAM": found["score_cam_images"]}
    measured = [
        f"{name}, with hundreds of forwards per map, is measured on the first {n}. " for name, n in counts.items() if n
    ]
    absent = [name for name, n in counts.items() if not n]
    left_out = f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} left out to save time. "
    return "".join([*measured, left_out if absent else ""])


def _choice(results: Results) -> str:
    rows = [
        [
            f"{weight}{' (chosen)' if float(weight) == results.settings['lasso'] else ''}",
            f"{row['right']} of {row['images']}",
            f"{row['precision']:.3f}",
        ]
        for weight, row in results.settings["choice"].items()
    ]
    return table(["weight of lasso", "validation images recognised", "precision"], rows)


def _results(results: Results) -> str:
    models = {"accuracy": "accuracy", "auc": "AUC", "sparsity": "sparsity of the evidence"}
    parts = [
        cells_table(results, "models", "model", models, TITLES),
        differences_table(
            results,
            "differences",
            "minus the black box",
            {"accuracy": "accuracy", "auc": "AUC"},
            {f"{name} - black_box": title for name, title in TITLES.items() if name != "black_box"},
        ),
        _algebra(results),
        "### Where the maps lie",
        f"A random map points at the lesion as often as the lesion covers the picture: "
        f"{results.cell('chance', 'pointing', 'pointing')}.",
        cells_table(results, "maps", "map", {name: _COLUMNS[name] for name in LOCALISATION}, MAPS),
        _DIFFERENCES,
        differences_table(results, "differences", "difference", {name: _name(name) for name in LOCALISATION}, _pairs()),
        _normal(results),
        "### Deletion and insertion",
        cells_table(results, "maps", "map", {name: _COLUMNS[name] for name in MAP_SCORES[5:]}, _with_curves(results)),
        differences_table(
            results,
            "differences",
            "difference",
            {name: _name(name) for name in MAP_SCORES[5:]},
            _pairs_with_curves(results),
        ),
        _CAVEAT,
    ]
    return "\n\n".join(parts)


_DIFFERENCES = (
    "Each row is the first map minus the second on the same images, with signs such that above 0 the first is better; "
    "**bold** where the interval excludes 0 to three digits."
)
_CAVEAT = (
    "Deletion and insertion depend on the network as well as on the map: a penalty lowers the confidence in partly blurred "
    "images. The row *gain on a random map* therefore compares how much each map improves on a random map of its own "
    "network. "
    "Recipro-CAM and the converted black box order the patches as Grad-CAM does, by algebra."
)


def _pairs() -> dict[str, str]:
    """Return titles of the differences between maps."""
    return {f"{first} - {second}": f"{MAPS[first]} − {_short(second)}" for first, second in PAIRS}


def _pairs_with_curves(results: Results) -> dict[str, str]:
    titles = {**_pairs(), "gains": "SoftCAM, lasso − Grad-CAM, gain on a random map"}
    return {row: title for row, title in titles.items() if "deletion" in results.tables["differences"].get(row, {})}


def _short(maps: str) -> str:
    title = MAPS["black_box/random" if maps.endswith("/random") else maps]
    return title.removeprefix("black box: ").removeprefix("control: ")


def _with_curves(results: Results) -> dict[str, str]:
    titles = {**MAPS, "lasso/random": "control: random map, on the network with lasso"}
    return {maps: title for maps, title in titles.items() if "deletion" in results.tables["maps"].get(maps, {})}


def _algebra(results: Results) -> str:
    found = results.settings["algebra"]
    return (
        "Converted without training, the logits of a black box move by at most "
        f"{found['converted']:.1e} (the largest is {found['largest']:.1f}). A SoftCAM model without penalty that is trained "
        f"from the same start with the same images gives the same class to {100 * found['same']:.0f} % of all images, and "
        f"its logits differ by at most {found['trained']:.1e}, to which rounding grows in training. It was trained once, "
        "and is the black box in all tables. Its evidence differs from Grad-CAM by the bias of the classifier alone, which "
        "Grad-CAM leaves out."
    )


def _normal(results: Results) -> str:
    told = []
    for name, title in (("black_box", "in the black box"), ("lasso", "with lasso")):
        normal, lesion = (_percent(results.cell("models", name, f"area, {kind}")) for kind in ("normal", "lesion"))
        told.append(f"in {normal} of the cells {title} ({lesion} in images with a lesion)")
    return (
        "On normal images, where there is nothing to find, the evidence for a lesion exceeds that for a normal image "
        f"{' and '.join(told)}: maps for the class of a lesion are not empty there."
    )


# Power ----------------------------------------------------------------------------------------------------------------


def _power(results: Results) -> str:
    rows = []
    for each in findings(results):
        found = results.cell(each.table, each.row, each.column)
        if each.table == "differences" and found.kind != "the same":
            measured = found.signed()
            rows.append([each.words, measured, f"{found.detectable:.3f}", each.verdict(results)])
    accuracy = results.cell("differences", "lasso - black_box", "accuracy")
    needed = results.settings["images"] * (accuracy.detectable / 0.01) ** 2
    return "\n\n".join(
        [
            "### What so few images can show",
            _POWER,
            table(["difference", "measured", "found with 80 % power from", "verdict"], rows, "lrrl"),
            f"To tell a loss of one point of accuracy, about {_rounded(needed):,} images would be needed, with as many "
            "seeds and if all scatter were that of the images.",
        ]
    )


_POWER = """\
A true difference is found, by an interval that excludes 0, in 80 % of studies like this one if it is at least (1.96 + 0.84)
standard errors large {cite:p}`lachin1981introduction`. The standard errors are those of the measured paired differences,
over seeds and views."""


def _rounded(value: float) -> int:
    """Round to one significant digit, because the estimate is as rough."""
    digits = -math.floor(math.log10(value)) if value >= 1 else 0
    return round(round(value, digits))


_LIMITS = """\
### What cannot be concluded

This says nothing about patients. The images come from one hospital and one kind of device, are a small selection of BUSI,
and are not grouped by patient: pictures that are not alike may still be of the same woman, in different folds. Some show
measuring crosses and dotted lines across the lesion, set by the physician who had found it, or words ("left breast",
"axilla"), and a network can learn from them that there is something to measure. Several normal pictures are the same view
at half the resolution. Pictures with two lesions may have one of them marked, and masks of malignant lesions often include
the shadow below. A mask is where a physician drew the lesion, and not where the evidence for its class has to be: what is
around a lesion says something about it, too.

One network was fine-tuned with few images of 224 pixels, with one weight of lasso that was chosen on few of them. The paper
has other networks, 512 pixels, more images and other weights, and no intervals; a stronger penalty or a longer training may
give other maps.

This is research software, and not a medical device."""


# Figure ---------------------------------------------------------------------------------------------------------------

_COLOURS = {"lasso": "#0072b2", "fine": "#56b4e9", "fine_lasso": "#009e73", "black_box": "#d55e00"}


def _figure(results: Results) -> Figure:
    """Plot the accuracy of the models, and precision and pointing game of the maps, with intervals."""
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    top, *below = figure.subplot_mosaic([["models", "models"], ["precision", "pointing"]], height_ratios=[1, 2.6]).values()
    models = {name: title for name, title in TITLES.items() if name in results.tables["models"]}
    _dots(top, [(title, results.cell("models", name, "accuracy"), _COLOURS[name]) for name, title in models.items()])
    top.set_xlabel("accuracy (out of fold)")
    maps = {name: title for name, title in MAPS.items() if name in results.tables["maps"]}
    for panel, score in zip(below, ("precision", "pointing"), strict=True):
        _dots(panel, [(title, results.cell("maps", name, score), _colour(name)) for name, title in maps.items()])
        panel.set_xlabel(f"{'activation ' if score == 'precision' else ''}{score}{' game' if score == 'pointing' else ''}")
        chance = results.cell("chance", "pointing", "pointing").mean
        panel.axvline(chance, color="0.6", linewidth=1, linestyle="--", zorder=0)
        panel.text(chance, -0.75, " by chance", color="0.35", fontsize=9, va="center")
    below[1].set_yticklabels([])
    return figure


def _dots(panel: object, rows: Sequence[tuple[str, Interval, str]]) -> None:
    """Draw an interval per row, from top to bottom."""
    for place, (_, found, colour) in enumerate(rows):
        panel.plot([found.low, found.high], [place, place], color=colour, linewidth=2)
        panel.plot(found.mean, place, "o", color=colour)
    panel.set_yticks(range(len(rows)), [title for title, _, _ in rows])
    panel.set_ylim(len(rows) - 0.4, -1.1)
    panel.grid(axis="x", color="0.92")


def _colour(maps: str) -> str:
    return "0.35" if MAPS[maps].startswith("control") else _COLOURS[maps.partition("/")[0]]
