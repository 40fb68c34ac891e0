"""The study of breast ultrasounds: its folds, its AUC, and its page from made-up results."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from busi import auc_per_image, folds_of, read_ultrasounds, same_views
from busi_page import MAP_SCORES, MAPS, PAIRS, TITLES, against, findings, write
from PIL import Image
from study import DOCS, RESULTS, Interval, Results
from torch.nn.functional import interpolate

from captum_softcam.softcam.scores import one_vs_rest_auc


def pictures(count, seed=0):
    noise = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return interpolate(noise, size=(64, 64), mode="bilinear").expand(-1, 3, -1, -1)


def test_copies_share_a_view_whatever_their_brightness():
    one, other, third = pictures(3)
    assert same_views(torch.stack([one, other, 0.5 * one + 0.1, third, other])) == [0, 1, 0, 3, 1]


def test_views_are_joined_by_chains():
    first, last = pictures(2)
    steps = [first + (last - first) * k / 8 for k in range(9)]
    assert same_views(torch.stack([first, last])) == [0, 1]
    assert set(same_views(torch.stack(steps[::-1]))) == {0}


def test_folds_keep_views_together_and_classes_apart():
    targets = np.arange(149) % 3
    views = list(range(149))
    for place in range(9, 30, 3):  # seven of one class
        views[place] = 9
    folds = folds_of(targets.tolist(), views, seed=0)
    assert len({folds[place] for place in range(9, 30, 3)}) == 1
    counts = [[folds.count(fold) for fold in range(5)]]
    counts += [
        [sum(f == fold and t == c for f, t in zip(folds, targets, strict=True)) for fold in range(5)] for c in range(3)
    ]
    assert all(max(each) - min(each) <= 1 for each in counts), counts
    assert folds == folds_of(targets.tolist(), views, seed=0)
    assert folds != folds_of(targets.tolist(), views, seed=1)


def test_what_images_add_has_the_mean_and_the_spread_of_the_auc():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 3, generator=random, dtype=torch.float64)
    targets = torch.arange(60) % 3
    logits[range(60), targets] += 1

    def auc(places):
        return one_vs_rest_auc(logits[places], targets[places], "multiclass").mean().item()

    added = auc_per_image(logits, targets)
    assert added.mean() == pytest.approx(auc(torch.arange(60)), abs=1e-6)
    resampled = [auc(torch.randint(60, (60,), generator=random)) for _ in range(400)]
    assert added.std(ddof=1) / 60**0.5 == pytest.approx(np.std(resampled), rel=0.15)


def made_up(bell=0.0, lasso=0.1, models=tuple(TITLES)):
    """Return results in which lasso's maps are better by ``lasso``, and better than the bell by ``bell``."""
    numbers = ("images", "lesions", "groups", "in_groups", "largest_group", "views", "views_of_lesions", "folds", "seeds")
    choice = {weight: {"right": 20, "precision": 0.2, "images": 29} for weight in ("0", "0.001")}
    results = Results(
        "busi",
        {
            **dict.fromkeys((*numbers, "fine_seeds", "epochs", "validation", "steps", "occlusion_images"), 3),
            "of_class": {"benign": 1, "normal": 2},
            "refused": 1,
            "alike": 0.89,
            "layer": "bn2",
            "score_cam_images": 0,
            "lasso": 0.001,
            "choice": choice,
            "hours": 1.0,
            "algebra": {"converted": 1e-6, "trained": 1e-3, "same": 1.0, "largest": 5.0},
        },
    )
    for name in models:
        for score in ("accuracy", "auc", "sparsity", "area, lesion", "area, normal"):
            results.add("models", name, score, Interval(0.8, 0.7, 0.9, 3))
            results.add("differences", f"{name} - black_box", score, Interval(0.0, -0.06, 0.06, 3))
    measured = [maps for maps in MAPS if maps.partition("/")[0] in models]
    for maps in measured:
        for score in MAP_SCORES:
            results.add("maps", maps, score, Interval(0.3, 0.2, 0.4, 3))
    for first, second in PAIRS:
        if first in measured and second in (*measured, "lasso/random"):
            lead = bell if "centred" in second else lasso
            for score in MAP_SCORES:
                results.add("differences", f"{first} - {second}", score, Interval(lead, lead - 0.05, lead + 0.05, 3))
    for score in ("deletion", "insertion"):
        results.add("differences", "gains", score, Interval(-0.03, -0.05, -0.01, 3))
    results.add("algebra", "converted - black_box", "logits", Interval(1e-7, 1e-7, 1e-7, 3))
    results.add("chance", "pointing", "pointing", Interval(0.1, 0.08, 0.12, 3))
    return results


def page_of(results, folder):
    for name in ("explanation", "images"):
        (folder / name).mkdir()
    return write(results, folder).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("bell", "lasso", "start", "later"),
    [
        (-0.2, 0.1, "**A bell in the middle of the picture", "better in precision"),
        (
            0.2,
            -0.1,
            "Compared with Grad-CAM of the black box, the evidence maps of SoftCAM with lasso are worse",
            "than a bell",
        ),
        (0.0, 0.1, "**The maps of the network are not shown", "cannot be told from so few images"),
    ],
)
def test_what_speaks_against_softcam_comes_first(bell, lasso, start, later):
    text = against(made_up(bell, lasso))
    assert text.startswith(start), text
    assert later in text


def test_a_lead_that_is_due_to_the_network_is_named():
    assert "deletion is worse (-0.030 [-0.050, -0.010])" in against(made_up(lasso=0.1))
    verdicts = {each.row: each.verdict(made_up()) for each in findings(made_up()) if each.claim == "softcam-faithful"}
    assert sorted(verdicts.values()) == ["does not hold", "holds"]


def test_the_page_says_what_can_be_found(tmp_path):
    page = page_of(made_up(), tmp_path)
    assert "| accuracy, lasso | +0.000 [-0.060, +0.060] | 0.086 | cannot be told |" in page
    assert "about 200 images would be needed" in page
    assert "| SoftCAM, no penalty" in page
    assert (tmp_path / "images" / "busi_study.png").stat().st_size > 10_000


def test_models_that_were_not_measured_are_left_out(tmp_path):
    results = made_up(models=("black_box", "lasso"))
    assert not any("fine" in each.row for each in findings(results))
    assert "| SoftCAM, no penalty" not in page_of(results, tmp_path)


def test_the_page_is_what_the_kept_results_give(tmp_path):
    kept = (DOCS / "explanation" / "busi_study.md").read_text(encoding="utf-8")
    assert page_of(Results.load("busi", RESULTS), tmp_path) == kept


def test_images_with_a_mask_of_another_size_are_left_out_and_named(tmp_path):
    def save(name, size, value):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        picture = Image.new("L", size, 0)
        picture.paste(value, (2, 2, 8, 8))
        picture.save(path)

    for name, value in (("benign/benign (1)", 255), ("benign/benign (2)", 255), ("normal/normal (1)", 0)):
        save(f"{name}.png", (20, 16), 100)
        save(f"{name}_mask.png", (20, 16), value)
    save("benign/benign (2)_mask_1.png", (24, 18), 255)
    data = read_ultrasounds(tmp_path)
    assert data.names == ["benign/benign (1).png", "normal/normal (1).png"]
    assert data.lesions == [0]
    assert len(data.refused) == 1
    assert "24x18" in data.refused[0]
