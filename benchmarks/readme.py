"""Write the picture of the README and the tables of docs/reference/comparison.md from a run of ``captum-softcam compare``.

The scores of the run are kept in the folder benchmarks/readme. On one machine the numbers are the same every time. A run
takes about two minutes on two cores. ``--tables`` only writes the tables, from the kept scores. ``--check`` changes nothing:
it compares the folder of any ``captum-softcam compare``, however few samples it has, with the kept scores and lists what is
out of date.

    python benchmarks/readme.py
    python benchmarks/readme.py --tables
    captum-softcam compare --samples 4 --out result && python benchmarks/readme.py --check result
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from captum.attr import GradientAttribution
from pictures import Row, grid, prediction, written
from shared import fill, same_picture, table

from captum_softcam import cli, load_embedded
from captum_softcam.attr import METHODS
from captum_softcam.data import RetinalLesions
from captum_softcam.evaluation import CONTROLS, Comparison, Example, compare_methods, explain_sample
from captum_softcam.evaluation.controls import method_title

ROOT = Path(__file__).parents[1]
TIMES = ROOT / "docs" / "reference" / "costs_measured.md"
PAGE, PICTURE, KEPT = (
    ROOT / name for name in ("docs/reference/comparison.md", "docs/images/lesions.jpg", "benchmarks/readme")
)
APART = 0.002  # largest difference between two scores of a sample that counts as rounding
FEW = 0.1  # fraction of a cell's samples, and at least one, that may differ: a maximum may move from machine to machine
ROWS = 3  # samples in the picture
SHOWN = ("soft_cam", "occlusion", "edge_map")

KNOWN = {name: method.cls for name, method in METHODS.items()} | CONTROLS
SETTINGS = {"occlusion": "window 1/8 of the side, half overlapping", "integrated_gradients": "32 steps"}


def method_table(costs: pd.DataFrame) -> str:
    """Return the table of the methods and their cost."""
    times = measured_times()
    rows = []
    for name, method in KNOWN.items():
        cost = costs.loc[name]
        passes = f"{cost['forwards']:,.0f} + {cost['backwards']:.0f}"
        gradients = "yes" if issubclass(method, GradientAttribution) else "no"
        rows.append([f"`{name}`", words(name), gradients, passes, times.get(name, "")])
    return table(["method", "what it is", "gradients", "passes per image", "time on ResNet-50"], rows, "lllrr")


def words(name: str) -> str:
    """Describe a method by the beginning of its docstring, or by the name of Captum's class."""
    method = KNOWN[name]
    if method.__module__.startswith("captum."):
        return ", ".join([f"Captum's `{method.__name__}`", *([SETTINGS[name]] if name in SETTINGS else [])])
    said = re.split(r" :cite|[.:;,]", method.__doc__ or "")[0].strip()
    said = said[0].lower() + said[1:]
    if name in CONTROLS:
        return f"control: {said}"
    return said if METHODS[name].default else f"{said}; by name only"


def comparison_tables(comparison: Comparison) -> str:
    """Return a table per category of metrics, and the notes below them."""
    categories = {name: entry["category"] for name, entry in comparison.manifest["metrics"].items()}
    parts = [
        metric_table(comparison, [name for name in comparison.metrics if categories[name] == category])
        for category in dict.fromkeys(categories.values())
    ]
    told = [note for note in comparison.view().notes() if not note.startswith(("cost", "passes"))]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in ["**Bold**: best of its column.", *told])])


def metric_table(comparison: Comparison, metrics: list[str]) -> str:
    """Return a table with a row per method."""
    view = comparison.view()
    titles = [f"{view.titles[name]} {'↑' if view.higher_is_better(name) else '↓'}" for name in metrics]
    rows = []
    for method in view.methods:
        row = [f"`{method}`" + (" (control)" if method in view.controls else "")]
        for metric in metrics:
            cell = view.cells[method, metric]
            mean = f"**{cell.text}**" if cell.best else cell.text
            interval = cell.interval.replace(" ", "\u00a0")  # on one line
            row.append(f"{mean} {cell.mark}".strip() + f"<br>{interval}")
        rows.append(row)
    return table(["", *titles], rows, "l" + "c" * len(metrics))


def fill_page(text: str, comparison: Comparison, costs: pd.DataFrame) -> str:
    """Return the text of the page with current tables."""
    text = fill(PAGE, text, "methods", method_table(costs))
    return fill(PAGE, text, "comparison", comparison_tables(comparison))


def kept() -> tuple[Comparison, pd.DataFrame]:
    """Load the kept comparison, and the cost of each method."""
    return Comparison.load(KEPT), pd.read_csv(KEPT / "method_costs.csv", index_col="method")


def run_comparison() -> Comparison:
    """Run ``captum-softcam compare`` without options."""
    with tempfile.TemporaryDirectory() as folder:
        cli.main(["compare", "--out", f"{folder}/result"])
        return Comparison.load(f"{folder}/result")


def measure_costs() -> pd.DataFrame:
    """Count the images per map that pass through the embedded model, for every method and control."""
    classifier, samples = load_embedded(), RetinalLesions("test", length=4)
    run = compare_methods(classifier.model, samples, [*KNOWN], ["pixel_auc"], normalize=classifier.normalize, examples=0)
    return run.costs[["forwards", "backwards"]]


def measured_times() -> dict[str, str]:
    """Read the time of a map of ResNet-50, in units of a forward, from the page that ``benchmarks/attribution.py`` wrote."""
    section = TIMES.read_text(encoding="utf-8").partition("## ResNet-50")[2].partition("\n## ")[0]
    ratios = {
        row[1].strip(): float(row[3])
        for row in (line.split("|") for line in section.splitlines())
        if len(row) > 5 and "." in row[3]
    }
    places = {name: f"{method.__name__}, one class" for name, method in KNOWN.items()}
    return {name: f"{ratio:.2f}" for name, place in places.items() for row, ratio in ratios.items() if row.endswith(place)}


def write(comparison: Comparison) -> None:
    """Write the kept scores, the picture and the tables of a comparison."""
    costs = measure_costs()
    examples = [example for example in comparison.examples if example.sample.mask is not None][:ROWS]
    manifest = {**comparison.manifest, "panel": [example.sample.identifier for example in examples]}
    replace(comparison, manifest=manifest, curves=comparison.curves[:0], examples=[]).save(KEPT)
    costs.rename_axis("method").to_csv(KEPT / "method_costs.csv", lineterminator="\n")
    PICTURE.write_bytes(draw(examples, manifest["classes"]))
    write_tables()


def write_tables() -> None:
    """Write the tables of the kept comparison."""
    PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8"), *kept()), encoding="utf-8")


def draw(examples: list[Example], classes: list[str]) -> bytes:
    """Draw the picture, as JPEG."""
    titles = ["Lesion", *(method_title(method) for method in SHOWN)]
    rows = [
        Row(
            example.sample.image.permute(1, 2, 0).numpy(),
            prediction(classes, example),
            [example.maps[method] for method in SHOWN],
            {"mask": example.sample.mask},
        )
        for example in examples
    ]
    return written(grid(titles, rows))


def stale(folder: Path) -> list[str]:
    """List what is out of date."""
    comparison, costs = kept()
    text = PAGE.read_text(encoding="utf-8")
    current = fill_page(text, comparison, costs) == text
    found = [] if current else [f"{PAGE.name} does not show the scores that benchmarks/readme holds."]
    return [*found, *stale_scores(comparison, Comparison.load(folder)), *stale_picture(comparison)]


def stale_scores(old: Comparison, new: Comparison) -> list[str]:
    """Compare two runs: methods, metrics and settings, then the scores sample by sample."""
    described = [
        json.loads(json.dumps([run.manifest[part] for part in ("methods", "metrics", "seed")])) for run in (old, new)
    ]
    if described[0] != described[1]:
        return ["methods, metrics or their settings differ from those of the kept scores."]
    keys = ["sample", "method", "metric"]
    both = new.scores.merge(old.scores, how="left", on=keys, suffixes=("", "_old"), indicator="from")
    if (both["from"] != "both").any():
        return ["the folder has samples that the kept scores do not have."]
    both["apart"] = ~np.isclose(both["score"], both["score_old"], rtol=0, atol=APART, equal_nan=True)
    changed = []
    for (method, metric), cell in both.groupby(["method", "metric"], sort=False):
        apart = int(cell["apart"].sum())
        if apart > max(1, FEW * len(cell)):
            changed.append(f"{method}, {metric}: {apart} of {len(cell)} scores differ from the kept ones.")
    return changed


def stale_picture(comparison: Comparison) -> list[str]:
    """Compare the stored picture with a new drawing."""
    classifier, samples = load_embedded(), RetinalLesions("test")
    wanted = comparison.manifest["panel"][:ROWS]
    found = {sample.identifier: sample for sample in map(samples.__getitem__, range(comparison.manifest["samples"]))}
    examples = [explain_sample(classifier.model, found[name], SHOWN, normalize=classifier.normalize) for name in wanted]
    if not same_picture(PICTURE.read_bytes(), draw(examples, list(classifier.classes))):
        return [f"{PICTURE.relative_to(ROOT)} differs from a new drawing."]
    return []


def main() -> None:
    """Write the picture and the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--result", type=Path, metavar="DIR", help="use the folder of a run without options instead of a new run"
    )
    parser.add_argument("--tables", action="store_true", help="only write the tables, from the kept scores")
    parser.add_argument("--check", type=Path, metavar="DIR", help="only report what is out of date, compared with this run")
    options = parser.parse_args()
    if options.check is not None:
        found = stale(options.check)
        print(
            "\n".join([*found, "Run python benchmarks/readme.py."] if found else ["The tables and the picture are current."])
        )
        sys.exit(bool(found))
    if options.tables:
        write_tables()
    else:
        write(run_comparison() if options.result is None else Comparison.load(options.result))


if __name__ == "__main__":
    main()
