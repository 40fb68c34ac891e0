"""The page of the study, written from a small work folder of made-up results of three seeds."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest
from lesions_page import METHODS, TITLES, Plan, Results, write_page
from study import Work, interval

from captum_softcam.evaluation.statistics import mean_intervals

SEEDS, SAMPLES = [0, 1, 2], 20
SETTINGS = {"no penalty": (0.0, 0.0), "lasso": (3e-4, 0.0)}
NAMES = {penalty: "softcam_{:g}_{:g}".format(*weights) for penalty, weights in SETTINGS.items()}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Maps of lasso are better by 0.2 than those of the black box; Occlusion is undefined in one sample."""
    work, rng = tmp_path_factory.mktemp("work"), np.random.default_rng(0)
    hard = rng.normal(0, 0.1, SAMPLES)

    def write(step, **scores):
        (work / f"{step}.json").write_text(json.dumps({**scores, "seconds": 60}))

    for seed in SEEDS:
        for name in ("black_box", "coarse", *NAMES.values()):
            write(f"test-{name}-{seed}", correct=[1] * 19 + [0], auc=0.99, sparsity=(0.5 + hard).tolist())
        steps = [f"{name}-soft_cam" for name in ("black_box", "coarse", *NAMES.values())]
        steps += [f"{model}-{method}" for model in ("black_box", "chosen") for method in METHODS if method != "soft_cam"]
        for step in steps:
            lead = 0.2 if step.startswith(NAMES["lasso"]) else 0.0
            values = {score: (0.5 + lead + hard + rng.normal(0, 0.01, SAMPLES)).tolist() for score in TITLES}
            if "occlusion" in step:
                values["precision"][0] = float("nan")
            write(f"maps-{step}-{seed}", **values)
    for name in ("black_box", *NAMES.values()):
        write(f"validation-{name}-0", accuracy=0.98, precision=0.2)
    return work


def test_the_page_is_written(work, tmp_path):
    numbers = ("samples", "epochs", "tuning_samples", "tuning_epochs", "test_samples", "map_samples", "score_cam_samples")
    options = argparse.Namespace(seeds=SEEDS, **dict.fromkeys(numbers, SAMPLES))
    grid = {penalty: [weights] for penalty, weights in SETTINGS.items()}
    plan = Plan(options, grid, {**SETTINGS, "chosen": SETTINGS["lasso"]}, NAMES, 0.01, 8)
    write_page(Results(Work(work), SEEDS), plan, tmp_path / "page.md", tmp_path / "figure.png")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "- Grad-CAM, black box: better in precision, sensitivity, pointing, insertion; worse in deletion." in page
    assert "| black box: Occlusion | 57 of 60 |" in page
    assert "0.0 points [+0.0, +0.0]" in page, "the same samples are wrong"
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_samples_are_those_of_every_seed(work):
    """What is hard is hard for each seed, so that three seeds do not narrow the interval of the samples."""
    values = Results(Work(work), SEEDS).of("maps-black_box-grad_cam", "insertion")
    found = interval(values)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    _, low, high = (float(end[0]) for end in mean_intervals(values.mean(0)[:, None]))
    assert found.high - found.low == pytest.approx(high - low, rel=0.2)
