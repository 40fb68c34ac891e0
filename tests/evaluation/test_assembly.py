"""Results of batches become one comparison: samples in order, costs, curves and errors in their rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from captum_softcam.evaluation.assembly import assemble
from captum_softcam.evaluation.result import BatchResult, Failure

METHODS, METRICS = ["a", "b"], ["m", "c"]
FRACTIONS = np.array([0, 1e-5, 0.5])


def score(index, method, metric, run):
    return 1000 * run + 100 * index + 10 * METHODS.index(method) + METRICS.index(metric)


def result(*indices, run=0, seconds=1.0, plain=1.0, forwards=1.0, memory=np.nan, failures=()):
    """Return a result whose scores identify sample, method, metric and run."""
    scores = [[[score(i, name, metric, run) for metric in METRICS] for name in METHODS] for i in indices]
    points = [[score(i, name, "c", run) + FRACTIONS for name in METHODS] for i in indices]
    return BatchResult(
        indices=indices,
        identifiers=[f"s{i}" for i in indices],
        groups=[f"g{i // 2}" for i in indices],
        digests=[f"d{i}" for i in indices],
        labels=[i % 3 for i in indices],
        targets=[i % 4 for i in indices],
        predictions=[i % 5 for i in indices],
        masked=[i != 1 for i in indices],
        judged=[None for _ in indices],
        scores=np.array(scores, dtype=float),
        curves={"c": np.array(points)},
        fractions={"c": FRACTIONS},
        costs=np.array([[forwards, 0, seconds, memory]] * len(METHODS)),
        plain_seconds=plain,
        failures=list(failures),
    )


def test_samples_are_in_order():
    whole = assemble([result(3, run=1), result(0, 1, 2)], METHODS, METRICS, {})
    rows = [(i, name, metric) for i in range(4) for name in METHODS for metric in METRICS]
    assert whole.scores[["sample", "method", "metric"]].values.tolist() == [[f"s{i}", *row] for i, *row in rows]
    assert whole.scores["score"].tolist() == [score(*row, run=int(row[0] == 3)) for row in rows]
    for column, cycle in {"label": 3, "target": 4, "prediction": 5}.items():
        assert whole.scores[column].tolist() == [i % cycle for i, *_ in rows]
    assert whole.manifest["samples_with_mask"] == 3
    assert whole.contents.values.tolist() == [[f"s{i}", f"d{i}", f"g{i // 2}"] for i in range(4)]
    assert whole.curves[["sample", "method"]].values.tolist() == [[f"s{i}", name] for i in range(4) for name in METHODS]
    assert whole.curves["0"].tolist() == [score(i, name, "c", int(i == 3)) for i in range(4) for name in METHODS]


def test_batches_that_interleave():
    """As a resumed run leaves them whose samples were in result scored again."""
    results = [result(0, 3), result(1, 2, failures=[Failure("a", "m", "E: x")])]
    mixed, whole = assemble(results, METHODS, METRICS, {}), assemble([result(0, 1, 2, 3)], METHODS, METRICS, {})
    for name in ("scores", "curves", "contents"):
        pd.testing.assert_frame_equal(getattr(mixed, name), getattr(whole, name))
    assert mixed.failures["sample"].tolist() == ["s1", "s2"]


def test_points_of_curves_are_in_their_order():
    whole = assemble([result(0)], METHODS, METRICS, {})
    assert [name for name in whole.curves.columns if name[0] in "01"] == ["0", "1e-05", "0.5"]


def test_counts_are_means_over_images_and_seconds_medians_over_batches():
    results = [
        result(0, forwards=3, seconds=1),
        result(1, 2, 3, forwards=7, seconds=2, plain=4),
        result(4, forwards=3, seconds=9),
    ]
    costs = assemble(results, METHODS, METRICS, {}).costs.loc["a"]
    assert costs["forwards"] == pytest.approx((3 + 3 * 7 + 3) / 5)
    assert costs["seconds"] == 2
    assert costs["relative"] == 2 / 1


def test_a_batch_whose_memory_was_measured_is_not_timed():
    results = [result(0, seconds=100, plain=50, memory=7), result(1, seconds=2), result(2, seconds=4, plain=3)]
    costs = assemble(results, METHODS, METRICS, {}).costs.loc["b"]
    assert costs[["seconds", "relative", "peak_bytes"]].tolist() == [3, 3 / 2, 7]
    assert assemble(results[:1], METHODS, METRICS, {}).costs.loc["b", "seconds"] == 100, "there is no other"


def test_an_error_counts_for_each_sample_of_its_batch():
    whole = assemble([result(0, 1, failures=[Failure("a", "m", "E: x")]), result(2)], METHODS, METRICS, {})
    assert whole.failures.values.tolist() == [["s0", "a", "m", "E: x"], ["s1", "a", "m", "E: x"]]
