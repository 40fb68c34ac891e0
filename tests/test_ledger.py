"""The ledger of claims and the study of the networks, on made-up results; and the pages are what the kept results give."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import costs
import painted
import pytest
import reach
from ledger import Ledger, against, page, short, stale, summed
from shared import read_tables
from study import DOCS, Finding, Interval, Results
from sweep import Outcome, Result
from sweep import page as long_table

HOLDS, FAILS, OPEN = (0.2, 0.1, 0.3, 50), (-0.2, -0.3, -0.1, 50), (0.0, -0.1, 0.1, 50)
README = Path(__file__).parents[1] / "README.md"


def made_up(**cells):
    results = Results("made_up", {"health": {"pointing_game": "fails"}})
    for name, cell in cells.items():
        results.add("differences", "ours", name, Interval(*cell))
    return results


def ledger(imagenet, voc):
    """Two grounds; the column decides the claim of the same name."""
    names = {"adcc": "recipro-grad-adcc", "drop": "recipro-drop", "accuracy": "softcam-accuracy"}

    def findings(_ground, results):
        return [
            Finding(names[column], "differences", "ours", column)
            for column in results.tables.get("differences", {"ours": {}})["ours"]
        ]

    return Ledger({"imagenet": made_up(**imagenet), "voc": made_up(**voc)}, findings)


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        (["holds"], "holds"),
        (["holds", "does not hold"], "in part"),
        (["holds", "cannot be told"], "in part"),
        (["does not hold", "cannot be told"], "does not hold"),
        (["does not hold", "in part"], "in part"),
        ([], ""),
    ],
)
def test_verdicts_are_summed_up(verdicts, told):
    assert summed(verdicts) == told


def test_what_does_not_hold_comes_first():
    found = ledger({"adcc": HOLDS, "drop": FAILS, "accuracy": OPEN}, {"adcc": FAILS})
    assert found.claims() == ["recipro-drop", "recipro-grad-adcc", "softcam-accuracy"]
    first, *lines = against(found).splitlines()
    assert first.startswith(
        "**Of 3 claims that were tested on real images (ImageNet, VOC 2007), 1 does not hold, 1 holds in"
    )
    assert lines[1].startswith("- The average drop of Recipro-CAM is worse")
    assert lines[2].endswith("Does not hold: [VOC 2007](voc_study.md). Holds: [ImageNet](imagenet_study.md).")


def test_claims_that_hold_on_painted_images_alone_come_before_those_that_hold():
    def findings(_ground, results):
        return [Finding(claim, "differences", "ours", claim) for claim in results.tables["differences"]["ours"]]

    painted_alone = {"softcam-accuracy": HOLDS, "finer-grid": HOLDS}
    found = Ledger({"lesions": made_up(**painted_alone), "busi": made_up(**{"finer-grid": FAILS})}, findings)
    assert found.claims() == ["finer-grid", "softcam-accuracy"]
    assert "tested on real images (BUSI), 1 does not hold.**" in against(found)
    assert "On all grounds together, of 2 claims 1 holds in part, 1 holds throughout." in against(found)


def test_the_page_has_a_word_per_ground_and_the_figures():
    text = page(ledger({"adcc": HOLDS, "accuracy": OPEN}, {"adcc": FAILS}))
    tables = read_tables(text)
    assert ["Recipro-CAM has a higher ADCC than Grad-CAM.", "yes", "no"] in tables["Recipro-CAM"]
    assert ["A SoftCAM model is as accurate as the black box (within one point).", "?"] in tables["SoftCAM"]
    assert "- [ImageNet](imagenet_study.md), holds: adcc: +0.200\u00a0[+0.100,\u00a0+0.300]." in text
    assert "*In the paper: 80.84 and 75.27 (ResNet-50, ImageNet).*" in text
    assert tables["Which metrics can be trusted"] == [["Pointing game", "fails", "fails"]]
    assert "[ImageNet](docs/explanation/imagenet_study.md)" in short(ledger({"adcc": HOLDS}, {}))


def test_verdicts_on_metrics_may_be_those_of_several_networks():
    networks = {"Lite0": {"health": {"deletion": ["works", "because"]}}, "Lite2": {"health": {"deletion": ["fails", "why"]}}}
    found = Ledger({"imagenet": Results("made_up", {"networks": networks})}, lambda _ground, _results: [])
    assert read_tables(page(found))["Which metrics can be trusted"] == [["Deletion", "works", "fails"]]


def test_studies_that_were_not_made_are_left_out(tmp_path):
    made_up(adcc=HOLDS).save(tmp_path)
    assert not {"lesions", "imagenet", "voc", "busi", "reach"} & Ledger.load(tmp_path).results.keys()


def test_tables_of_pages_are_read():
    text = (
        "# One\n\n| a | b |\n|---|---:|\n| x | 0.1 |\n\nwords\n\n## Two\n\n| c |\n|---|\n| **y** |\n\n| d |\n|---|\n| z |\n"
    )
    assert read_tables(text) == {"One": [["x", "0.1"]], "Two": [["**y**"], ["z"]]}


def test_page_and_readme_are_what_the_kept_results_give():
    assert not [path.name for path in stale(Ledger.load())], "run python benchmarks/studies/ledger.py"


# Painted lesions -----------------------------------------------------------------------------------------------------


def test_unpaired_differences_are_as_wide_as_both_means_allow():
    found = painted.unpaired(Interval(0.5, 0.47, 0.54), Interval(0.3, 0.26, 0.33))
    assert found[:3] == pytest.approx((0.2, 0.2 - (0.03**2 + 0.03**2) ** 0.5, 0.2 + (0.04**2 + 0.04**2) ** 0.5))
    assert painted.negative(found)[:3] == pytest.approx((-0.2, -found.high, -found.low))


def test_the_study_of_the_lesions_is_read_as_its_page_shows_it():
    results = Results("lesions", {})
    painted.add_study(results, (DOCS / painted.PAGE).read_text(encoding="utf-8"))
    kept = Results.load("lesions")
    for table, rows in results.tables.items():
        for row, cells in rows.items():
            for column, cell in cells.items():
                assert kept.cell(table, row, column)[:3] == pytest.approx(cell[:3], abs=1e-6), (table, row, column)
    assert results.cell("native - post-hoc", "Grad-CAM", "insertion").high < 0
    assert results.cell("converted - post-hoc", "Occlusion", "deletion").mean > 0, "less is better"


# Networks ------------------------------------------------------------------------------------------------------------


def result(name, design, cam="right", softcam="same logits", passes=0):
    steps = {"maps": Outcome("right"), "grad_cam": Outcome("right")}
    steps["cam"] = Outcome("right") if cam == "right" else Outcome("refused", cam)
    steps["softcam"] = Outcome("right" if "logits" in softcam else "refused", softcam)
    return Result("timm", name, "timm 1", design, passes=passes, seconds=360, steps=steps)


@pytest.fixture
def tried():
    head = "between pooling and scores stands layer_norm; use another"
    return [
        result("resnet", "CNN"),
        result("convnext", "CNN", head, "other logits: LayerNorm2d acts at every position"),
        result("vit", "transformer", head, "it reads single tokens or tokens; see single positions or tokens", passes=36),
        result("swin", "transformer"),
    ]


def test_networks_are_counted(tried):
    results = reach.summed(tried)
    assert results.cell("designs", "CNN", "softcam other logits")[:1] == (0.5,)
    assert reach.count(results, "libraries", "timm", "cam refused") == 2
    assert reach.total(results, "softcam right") == 2
    assert {each.claim: each.verdict(results) for each in reach.findings(results) if each.row in ("CNN", "linear")} == {
        "recipro-exact": "holds",
        "converts-cnns": "does not hold",
        "same-logits": "holds",
    }


def test_the_page_of_the_networks_says_first_what_is_refused(tried, tmp_path):
    for folder in ("images", "explanation"):
        (tmp_path / folder).mkdir()
    reach.write(tried, tmp_path)
    text = (tmp_path / "explanation/reach_study.md").read_text(encoding="utf-8")
    first = text.split("\n\n")[2]
    assert first.startswith("**SoftCAM keeps the logits of 1 of 2 CNNs, and of 2 of all 4 networks.** It changes those of 1")
    assert "CAM refuses 2 (because the head is not linear)." in first
    assert "Recipro-CAM and Grad-CAM refuse none. Everything that was not refused passed its check." in first
    assert "| SoftCAM | other logits: LayerNorm acts at every position | 1 | convnext |" in text
    assert "1 of 2 transformers" in text
    assert "All steps took 0.4 hours" in text
    assert (tmp_path / "images/reach_study.png").stat().st_size > 10_000


def test_the_pages_of_the_networks_are_what_the_kept_results_give(tmp_path):
    tried = reach.kept()
    for folder in ("images", "explanation"):
        (tmp_path / folder).mkdir()
    reach.write(tried, tmp_path)
    study = "explanation/reach_study.md"
    assert (tmp_path / study).read_text(encoding="utf-8") == (DOCS / study).read_text(encoding="utf-8")
    assert long_table(tried) == (DOCS / reach.LONG_TABLE).read_text(encoding="utf-8")


def test_results_are_in_the_order_of_the_networks_and_the_newest_count(tmp_path):
    old, new = reach.kept()[:2], reach.kept()[0]
    new.layer = "newer"
    lines = [json.dumps(asdict(each)) for each in (old[1], old[0], new)]
    (tmp_path / reach.LOG).write_text("\n".join(lines), encoding="utf-8")
    assert [each.name for each in reach.kept(tmp_path)] == [each.name for each in old]
    assert reach.kept(tmp_path)[0].layer == "newer"


def test_wrong_results_are_said_first(tried):
    tried[0].steps["maps"] = Outcome("WRONG", "maps (2, 1) of a grid [2, 2]")
    assert "**1 results are wrong.**" in reach.against(reach.summed(tried), tried)


# Costs ---------------------------------------------------------------------------------------------------------------


METHODS = """\
## ResNet-50

| method | photographs | median, s | ratio to forward | middle half | peak |
|---|---:|---:|---:|---:|---:|
| forward | 4 | 0.5 | 1.00 | 0.99 to 1.01 | 9 |
| LayerReciproCam, one class | 4 | 0.52 | 1.04 | 1.03 to 1.05 | 9 |
| LayerReciproCam, 1,000 classes | 4 | 0.9 | 1.80 | 1.70 to 1.90 | 9 |
| LayerReciproCam, an earlier layer | 1 | 10.0 | 20.00 | one round | 9 |
| Captum's LayerGradCam, one class | 4 | 1.0 | 2.00 | 1.90 to 2.10 | 9 |

## Peak memory

| process | MiB |
|---|---:|
| forward | 9 |
"""
COMPARISON = """\
## One comparison instead of separate calls

| | seconds | forwards (images) | ratio of seconds | ratio of forwards |
|---|---:|---:|---:|---:|
| one by one | 50 | 200 | 5.00 | 4.00 |
| comparison | 10 | 50 | 1.00 | 1.00 |
"""


def test_costs_are_read_from_their_pages():
    results = costs.ratios(METHODS, COMPARISON)
    assert [(each.verdict(results), each.shown(results)) for each in costs.findings(results)] == [
        ("holds", "ResNet-50, one class: 1.04 [1.03, 1.05]"),
        ("does not hold", "ResNet-50, an earlier layer: 20.00"),
        ("holds", "ResNet-50, by the time of Grad-CAM: 0.52 [0.52, 0.53]"),
        ("holds", "the time one by one, by that of the comparison: 5.00"),
    ]
