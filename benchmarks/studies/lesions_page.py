"""Write the page and the figure of the study from the files of its steps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from study import KINDS, Array, Interval, Work, interval
from study_page import table

TITLES = {
    "precision": "precision ↑",
    "sensitivity": "sensitivity ↑",
    "pointing": "pointing ↑",
    "deletion": "deletion ↓",
    "insertion": "insertion ↑",
}
LOWER_IS_BETTER = {"deletion"}
METHODS = {
    "soft_cam": "SoftCAM",
    "grad_cam": "Grad-CAM",
    "recipro_cam": "Recipro-CAM",
    "score_cam": "Score-CAM",
    "occlusion": "Occlusion",
}
MARKERS = "osD^"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # distinguishable with colour-vision deficiency
FIGURE = Path("images/softcam_study.png")


class Results:
    """The files of a work folder as arrays (seeds, samples)."""

    def __init__(self, work: Work, seeds: Sequence[int]) -> None:
        self.work, self.seeds = work, seeds

    def of(self, step: str, name: str) -> Array:
        """Return one value per seed and sample."""
        return self.work.values([f"{step}-{seed}" for seed in self.seeds], name)

    def validation(self, model: str, score: str) -> float:
        """Return a score of the first seed on validation data."""
        return float(self.work.values([f"validation-{model}-{self.seeds[0]}"], score)[0, 0])


class Plan(NamedTuple):
    """The settings of the study.

    Args:
        options (Namespace): the options of the command line.
        grid (dict): by penalty the weights that were tried.
        settings (dict): by penalty the chosen weights; under ``"chosen"`` those of the best penalty.
        names (dict): by penalty the name of its model in the files.
        margin (float): largest loss of accuracy that is acceptable.
        output_stride (int): of the SoftCAM models.
    """

    options: argparse.Namespace
    grid: dict[str, list[tuple[float, float]]]
    settings: dict[str, tuple[float, float]]
    names: dict[str, str]
    margin: float
    output_stride: int

    @property
    def chosen(self) -> str:
        """The penalty that was chosen."""
        return next(penalty for penalty in self.names if self.settings[penalty] == self.settings["chosen"])


def write_page(results: Results, plan: Plan, page: Path, figure: Path) -> None:
    """Write the Markdown page and its figure."""
    _figure(results, plan.names).savefig(figure, dpi=150)
    name = plan.names[plan.chosen]
    parts = [
        "# A study of what SoftCAM improves",
        "% written by benchmarks/studies/lesions.py; edit it there",
        _about(plan),
        f"All steps together took {results.work.hours:.1f} hours on two CPU cores, which were shared with other work.",
        "## Accuracy and native maps",
        _models(results, plan),
        _accuracy_sentence(results, name, plan.chosen),
        _native(results, plan),
        f"```{{image}} ../images/{figure.name}\n:alt: accuracy against sparsity and precision of the evidence\n```",
        "## Native maps and post-hoc maps",
        _maps(results, name, plan.chosen),
        "## Differences",
        _differences(results, name),
        _verdict(results, plan),
        "## The choice of the penalty",
        _choice(results, plan),
    ]
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


_ABOUT = """\
A small CNN classifies crops of a fundus photograph with painted lesions ({{class}}`~captum_softcam.data.RetinalLesions`,
four classes). All crops come from one eye, and the lesions are painted. The study therefore shows how SoftCAM changes a
network and its maps, and says nothing about patients.

For each of {seeds} seeds a network is trained from scratch ({samples:,} samples, {epochs} epochs). The black box and the
SoftCAM models start from it and are all fine-tuned for the same {tuning_epochs} epochs on {tuning_samples:,} of these
samples. The SoftCAM models have `output_stride={output_stride}`, which gives 20×20 cells where the black box has 10×10,
and no penalty, lasso, ridge or elastic net. Accuracy is measured on {test_samples:,} test samples, maps of the true class
on {map_samples} with a lesion, and Score-CAM, which needs 1,280 forwards per map, on the first {score_cam_samples}. No
choice was made on these samples; the receptive field of the network (63 pixels) had been set before, based on maps of
other test samples. Intervals are 95 % intervals over seeds and samples: the samples are the same for all seeds, and the
widths [allow for the small number of seeds](../how-to/several_models.md#several-seeds-of-one-training).

- *Precision* is the fraction of the positive attribution that lies on the lesion.
- *Sensitivity* is the fraction of the lesion that the positive attribution covers. Maps without positive values have
  neither precision nor sensitivity and are left out of both; *n* is the number of the other maps.
- *Pointing* is how often the maximum lies on the lesion. Of several equal maxima, which Occlusion's windows produce, it
  is the fraction on the lesion, as in `captum-softcam compare`.
- *Deletion* and *insertion* are areas under the curve of the probability of the class while 16×16 patches are blurred, or
  restored, in the order of the map.
- *Sparsity* is Hoyer's, over all cells of all classes.

The class activation maps of the black box have its coarser cells. The row *10×10 cells* shows how much of a lead is due
to the finer grid alone.

```bash
python benchmarks/studies/lesions.py --publish
```"""


def _about(plan: Plan) -> str:
    """Describe how the study was made."""
    numbers = {**vars(plan.options), "seeds": len(plan.options.seeds), "output_stride": plan.output_stride}
    return _ABOUT.format(**numbers)


def _entries(plan: Plan) -> list[tuple[str, tuple[float, float], str]]:
    """List the title, penalty and file name of every SoftCAM model."""
    entries = [(f"SoftCAM, {penalty}", plan.settings[penalty], name) for penalty, name in plan.names.items()]
    return [*entries, (f"SoftCAM, {plan.chosen}, 10×10 cells", plan.settings["chosen"], "coarse")]


def _models(results: Results, plan: Plan) -> str:
    rows = [["black box", "", "", interval(results.of("test-black_box", "correct")), _auc(results, "black_box"), ""]]
    for title, weights, name in _entries(plan):
        correct, sparsity = (interval(results.of(f"test-{name}", what)) for what in ("correct", "sparsity"))
        rows.append([title, *(f"{weight:g}" for weight in weights), correct, _auc(results, name), sparsity])
    return table(["model", "λ₁", "λ₂", "accuracy", "AUC (seeds)", "sparsity"], rows)


def _native(results: Results, plan: Plan) -> str:
    rows = [[title, *_scores(results, f"maps-{name}-soft_cam")[1:]] for title, _, name in _entries(plan)]
    return table(["native map of", *TITLES.values()], rows)


def _auc(results: Results, name: str) -> str:
    values = results.of(f"test-{name}", "auc")
    return f"{values.mean():.4f} ({', '.join(f'{value:.4f}' for value in sorted(values[:, 0]))})"


def _accuracy_sentence(results: Results, name: str, chosen: str) -> str:
    gap = interval(100 * (results.of(f"test-{name}", "correct") - results.of("test-black_box", "correct")))
    within = "lies" if gap.low >= -1 else "does not lie" if gap.high < -1 else "may or may not lie"
    return (
        f"Accuracy of SoftCAM ({chosen}) minus that of the black box, on the same samples: {gap.mean:+.1f} points "
        f"[{gap.low:+.1f}, {gap.high:+.1f}]. It {within} within one point of the black box, or above it."
    )


def _maps(results: Results, name: str, chosen: str) -> str:
    rows = [[f"SoftCAM ({chosen}): its native map", *_scores(results, f"maps-{name}-soft_cam")]]
    rows += [
        [f"SoftCAM ({chosen}): {title}", *_scores(results, f"maps-chosen-{method}")]
        for method, title in METHODS.items()
        if method != "soft_cam"
    ]
    rows.append(["black box, converted without training", *_scores(results, "maps-black_box-soft_cam")])
    rows += [
        [f"black box: {title}", *_scores(results, f"maps-black_box-{method}")]
        for method, title in METHODS.items()
        if method != "soft_cam"
    ]
    return table(["map", "n", *TITLES.values()], rows)


def _scores(results: Results, step: str) -> list[object]:
    values = [results.of(step, score) for score in TITLES]
    defined = int(np.isfinite(values[0]).sum())
    return [f"{defined} of {values[0].size}" if defined < values[0].size else defined, *map(interval, values)]


def _compared(results: Results, name: str) -> dict[tuple[str, str, str], Interval]:
    """Subtract each post-hoc map from the native one, by model, method and score; above 0 the native map is better."""
    found = {}
    for model, title in (("black_box", "black box"), ("chosen", "same model")):
        for method, label in METHODS.items():
            if method == "soft_cam":
                continue
            for score in TITLES:
                other = results.of(f"maps-{model}-{method}", score)
                own = results.of(f"maps-{name}-soft_cam", score)[:, : other.shape[1]]
                found[title, label, score] = interval((own - other) * (-1 if score in LOWER_IS_BETTER else 1))
    return found


def _differences(results: Results, name: str) -> str:
    compared = _compared(results, name)
    rows = [
        [f"{method}, {model}", *(compared[model, method, score].marked() for score in TITLES)]
        for model, method in dict.fromkeys((model, method) for model, method, _ in compared)
    ]
    note = (
        "Each row is the native map minus a post-hoc map on the same samples, with signs such that values above 0 mean that "
        "SoftCAM is better; **bold** where the interval excludes 0."
    )
    return note + "\n\n" + table(["native map minus", *(title[:-2] for title in TITLES.values())], rows)


def _verdict(results: Results, plan: Plan) -> str:
    """List the scores in which the native map is better, worse, inconclusive or the same, by post-hoc map."""
    compared = _compared(results, plan.names[plan.chosen])
    lines = []
    for model, method in dict.fromkeys((model, method) for model, method, _ in compared):
        scores = {kind: [s for s in TITLES if compared[model, method, s].kind == kind] for kind in KINDS}
        told = [f"{kind} in {', '.join(names)}" for kind, names in scores.items() if names]
        lines.append(f"- {method}, {model}: {'; '.join(told)}.")
    plain, chosen = (
        [
            f"{interval(results.of(f'maps-{plan.names[penalty]}-soft_cam', score)).mean:.3f}"
            for score in ("insertion", "precision")
        ]
        for penalty in ("no penalty", plan.chosen)
    )
    caveat = (
        "Deletion and insertion measure the network along with the map, because they depend on its confidence in partly "
        f"blurred images, which a penalty changes. Native maps have an insertion of {plain[0]} at a precision of {plain[1]} "
        f"without penalty, and of {chosen[0]} at {chosen[1]} with {plan.chosen}. Compare these two scores only between maps "
        "of the same network. Grad-CAM of a SoftCAM model equals its native map, and Grad-CAM of the converted black box "
        "its class activation map, by algebra."
    )
    return "Compared with each post-hoc map, the native map is\n\n" + "\n".join(lines) + "\n\n" + caveat


def _choice(results: Results, plan: Plan) -> str:
    rows = [["black box", "", "", f"{results.validation('black_box', 'accuracy'):.3f}", ""]]
    for penalty, grid in plan.grid.items():
        for weights in grid:
            model = "softcam_{:g}_{:g}".format(*weights)
            mark = " (chosen)" if weights == plan.settings["chosen"] else ""
            figures = [f"{results.validation(model, score):.3f}" for score in ("accuracy", "precision")]
            rows.append([penalty + mark, *(f"{weight:g}" for weight in weights), *figures])
    rule = (
        "Settings were compared on the validation data of the first seed. Among those whose accuracy is within "
        f"{100 * plan.margin:.0f} point of that of the black box, the one with the best precision was chosen, for each "
        "penalty and overall. The other seeds do not change the choice."
    )
    return rule + "\n\n" + table(["penalty", "λ₁", "λ₂", "accuracy", "precision"], rows)


def _figure(results: Results, names: dict[str, str]) -> Figure:
    """Plot accuracy against sparsity and precision: a point per penalty, the black box as a band."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    band = interval(100 * results.of("test-black_box", "correct"))
    for panel, (label, step, name) in zip(
        panels,
        (
            ("sparsity of the evidence (Hoyer)", "test-{}", "sparsity"),
            ("precision of the map", "maps-{}-soft_cam", "precision"),
        ),
        strict=True,
    ):
        panel.axhspan(band.low, band.high, color="0.9")
        panel.axhline(band.mean, color="0.5", linewidth=1, label="black box")
        for marker, colour, (penalty, model) in zip(MARKERS, COLOURS, names.items(), strict=False):
            across = interval(results.of(step.format(model), name))
            up = interval(100 * results.of(f"test-{model}", "correct"))
            errors = [[[mid - low], [high - mid]] for mid, low, high, _ in (across, up)]
            panel.errorbar(across.mean, up.mean, errors[1], errors[0], fmt=marker, color=colour, capsize=3, label=penalty)
        panel.set_xlabel(label)
    panels[0].set_ylabel("accuracy in %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure
