"""The engine of the studies: what is kept, what an interval decides, and that pages are what the kept results give."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from study import Count, Finding, Interval, Ratio, Results, Work, by_verdict, interval
from study_page import differences_table, findings_table
from torch import nn

NAN = float("nan")


def results(**cells):
    found = Results("made_up", {"images": 20})
    for name, cell in cells.items():
        found.add("differences", "ours - theirs", name, Interval(*cell))
    return found


def finding(test="better", margin=0.0):
    return Finding("recipro-grad-adcc", "differences", "ours - theirs", "adcc", test, margin)


def test_a_step_runs_once_and_its_result_is_kept(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"score": [0.5, NAN], "name": "x"}

    first, second = (Work(tmp_path).step("one", compute) for _ in range(2))
    assert len(calls) == 1
    assert first["score"][0] == second["score"][0] == 0.5
    assert math.isnan(second["score"][1])
    assert Work(tmp_path).hours == pytest.approx(first["seconds"] / 3600)


def test_a_step_that_fails_leaves_nothing_and_runs_again(tmp_path):
    work = Work(tmp_path)
    with pytest.raises(ZeroDivisionError):
        work.step("one", lambda: {"score": 1 / 0})
    assert not [*tmp_path.iterdir()]
    assert work.step("one", lambda: {"score": 1.0})["score"] == 1.0


def test_a_model_is_trained_once_and_its_time_is_its_own(tmp_path):
    work, fits = Work(tmp_path), []

    def fit(model):
        fits.append(1)
        nn.init.constant_(model.weight, 3.0)

    def step():
        model = nn.Linear(1, 1)
        return {"weight": work.fitted("model", model, lambda: fit(model)).weight.item()}

    assert work.step("one", step)["weight"] == 3.0
    other = Work(tmp_path).fitted("model", nn.Linear(1, 1), lambda: pytest.fail("trained again"))
    assert torch.equal(other.weight, torch.tensor([[3.0]]))
    assert len(fits) == 1
    assert json.loads((tmp_path / "model.fit.json").read_text())["seconds"] >= 0


def test_an_interval_counts_the_samples_with_a_value():
    found = interval([[0.0, 1.0, NAN], [1.0, 1.0, NAN]])
    assert found.n == 2
    assert found.mean == pytest.approx(0.75)
    assert found.low <= found.mean <= found.high


def test_images_with_several_samples_count_once():
    values = [0.0] * 8 + [1.0] * 2
    alone, clustered = interval(values), interval(values, ["one"] * 8 + ["a", "b"])
    assert clustered.high > alone.high


@pytest.mark.parametrize(
    ("cell", "test", "margin", "verdict"),
    [
        ((0.2, 0.1, 0.3), "better", 0, "holds"),
        ((-0.2, -0.3, -0.1), "better", 0, "does not hold"),
        ((0.0, 0.0, 0.0), "better", 0, "does not hold"),
        ((0.1, -0.1, 0.3), "better", 0, "cannot be told"),
        ((0.01, 0.0004, 0.02), "better", 0, "cannot be told"),
        ((-0.01, -0.02, -0.0004), "better", 0, "cannot be told"),
        ((0.01, 0.0005, 0.02), "better", 0, "holds"),
        ((-0.005, -0.009, 0.001), "kept", 0.01, "holds"),
        ((-0.005, -0.02, 0.001), "kept", 0.01, "cannot be told"),
        ((-0.05, -0.08, -0.02), "kept", 0.01, "does not hold"),
        ((0.5, 0.4, 0.6), "kept", 0.01, "holds"),
        ((0.5, 0.4, 0.6), "same", 0.01, "does not hold"),
        ((1e-7, 0.0, 2e-7), "same", 1e-5, "holds"),
        ((0.0, -0.1, 0.1), "same", 0.01, "cannot be told"),
        ((NAN, NAN, NAN), "better", 0, "cannot be told"),
    ],
)
def test_what_an_interval_decides(cell, test, margin, verdict):
    assert finding(test, margin).verdict(results(adcc=cell)) == verdict


def test_what_speaks_against_a_claim_comes_first():
    found = results(adcc=(0.2, 0.1, 0.3), drop=(-0.2, -0.3, -0.1))
    both = [finding(), finding()._replace(column="drop")]
    assert [*by_verdict(both, found)] == ["does not hold", "holds"]
    rows = findings_table(both, found).splitlines()[-2:]
    assert "| **does not hold** | drop: -0.200 [-0.300, -0.100] |" in rows[0]
    assert "| **holds** | adcc: +0.200 [+0.100, +0.300] |" in rows[1]


def test_results_come_back_as_they_were(tmp_path):
    results(adcc=(1 / 3, 0.25, NAN, 7)).save(tmp_path)
    found = Results.load("made_up", tmp_path)
    assert found.settings == {"images": 20}
    mean, low, high, n = found.cell("differences", "ours - theirs", "adcc")
    assert (mean, low, n) == (0.333333, 0.25, 7)
    assert math.isnan(high)
    with pytest.raises(KeyError, match="no cell"):
        found.cell("differences", "ours - theirs", "drop")


def test_only_differences_that_are_told_are_bold():
    table = differences_table(
        results(adcc=(0.2, 0.1, 0.3), drop=(0.1, -0.1, 0.3)), "differences", "", {"adcc": "a", "drop": "d"}
    )
    assert "**+0.200 [+0.100, +0.300]**" in table
    assert "| +0.100 [-0.100, +0.300] |" in table


def test_counts_hold_if_they_hold_for_all():
    found = results(all=(1, 1, 1, 20), most=(0.95, 0.95, 0.95, 20))
    verdicts = {}
    for name in ("all", "most"):
        count = Count("recipro-exact", "differences", "ours - theirs", name, "networks")
        verdicts[count.shown(found)] = count.verdict(found)
    assert verdicts == {"networks: 20 of 20": "holds", "networks: 19 of 20": "does not hold"}


@pytest.mark.parametrize(
    ("cell", "most", "verdict"),
    [
        ((1.03, 1.02, 1.05), True, "holds"),
        ((1.08, 1.05, 1.15), True, "cannot be told"),
        ((22.0, 21.0, 23.0), True, "does not hold"),
        ((1200.0, 1100.0, 1300.0), False, "holds"),
        ((1.03, 1.02, 1.05), False, "does not hold"),
    ],
)
def test_ratios_are_compared_with_their_limit(cell, most, verdict):
    assert Ratio("one-forward", "differences", "ours - theirs", "x", 1.1, most).verdict(results(x=cell)) == verdict


def test_a_difference_that_is_detectable_is_found_in_80_percent_of_studies():
    random = np.random.default_rng(0)
    size = Interval(0.0, -1.96, 1.96).detectable
    found = [Interval(mean, mean - 1.96, mean + 1.96).kind for mean in random.normal(size, 1.0, 4000)]
    assert found.count("better") / 4000 == pytest.approx(0.8, abs=0.02)
