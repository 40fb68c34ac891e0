"""The time that is left, on an artificial clock: every method counts by its own cost."""

from __future__ import annotations

import random
import re

import pytest

from captum_softcam.evaluation.progress import ProgressBar, TimeLeft

METRICS = ("deletion", "insertion", "sparseness")
COSTS = {"soft_cam": 0.01, "grad_cam": 0.02, "occlusion": 3.0, "random": 0.0001}  # seconds per map and sample
MEASURED = {"deletion": 0.5, "insertion": 0.5, "sparseness": 0.001}
STEPS = {f"{name}: {kind}": kind for name in COSTS for kind in ("map", *METRICS)}
PER_SAMPLE = sum(COSTS.values()) + len(COSTS) * sum(MEASURED.values())


class Run:
    """A run whose steps take known times; what was estimated after every step, and what was true."""

    def __init__(self, samples: int, steps: dict[str, str] = STEPS) -> None:
        self.now = 1000.0
        self.left = TimeLeft(samples, steps, lambda: self.now)
        self.estimates: list[tuple[float | None, float, bool]] = []

    def step(self, name: str, seconds: float, work: float) -> None:
        self.now += seconds
        self.left.add(name, work)
        self.estimates.append((self.left.seconds, self.now, self.left.rough))

    def batch(self, count: int, noise: float = 0) -> None:
        for step, kind in STEPS.items():
            cost = MEASURED[kind] if kind in MEASURED else COSTS[step.partition(":")[0]]
            self.step(
                step, cost * count * random.Random(len(self.estimates)).uniform(1 - noise, 1 + noise), count / len(STEPS)
            )

    def errors(self) -> list[tuple[float | None, bool]]:
        """The estimates relative to the truth, which is known at the end."""
        return [
            (None if seconds is None else seconds / (self.now - then) if self.now > then else 1 + seconds, rough)
            for seconds, then, rough in self.estimates
        ]


@pytest.mark.parametrize("sizes", [[16, 16, 16], [16, 16, 1], [5, 5, 5, 5, 2], [48]])
def test_after_the_first_batch_the_estimate_is_exact(sizes):
    run = Run(sum(sizes))
    for size in sizes:
        run.batch(size)
    errors = run.errors()
    for error, rough in errors[len(STEPS) - 1 :]:
        assert not rough
        assert error == pytest.approx(1, abs=1e-6)
    assert [rough for _, rough in errors[: len(STEPS) - 1]] == [True] * (len(STEPS) - 1)


def test_within_the_first_batch_it_is_a_bound_and_none_until_one_method_is_through():
    run = Run(48)
    run.batch(16)
    assert [seconds is None for seconds, *_ in run.estimates[:4]] == [True, True, True, False]
    assert all(seconds is not None for seconds, *_ in run.estimates[4:])
    run.batch(16)
    run.batch(16)
    errors = run.errors()
    bounds = [error for error, rough in errors[3:] if rough]
    assert len(bounds) == len(STEPS) - 4
    assert 0.3 < min(bounds) < max(bounds) <= 1 + 1e-6, "the cost of occlusion is less than two thirds of the whole"
    assert [error for error, rough in errors if not rough] == pytest.approx([1] * (2 * len(STEPS) + 1), abs=1e-6)


def test_the_first_batch_is_forgotten_because_it_is_slower():
    run = Run(40)
    for step in STEPS:
        run.step(step, 20, 10 / len(STEPS))
    for step in STEPS:
        run.step(step, 10, 10 / len(STEPS))
    assert run.left.seconds == pytest.approx(2 * 10 * len(STEPS))


def test_slow_and_fast_steps_do_not_move_the_estimate():
    """By the fraction of steps, it went from 18 seconds to 16 minutes and back."""
    run = Run(64)
    for _ in range(4):
        run.batch(16, noise=0.2)
    errors = [error for error, _ in run.errors()[len(STEPS) : -len(METRICS)]]
    assert 0.8 < min(errors) < max(errors) < 1.2


def test_from_a_quarter_of_the_main_job_on_it_is_right_within_30_percent():
    """The first method pays for random subsets that all methods share, extra work comes in the first batch alone."""
    maps = {
        "soft_cam": 1,
        "recipro_cam": 1,
        "grad_cam": 3,
        "occlusion": 120,
        "path": 190,
        "gaussian": 0,
        "random": 0,
        "edge": 0,
    }
    shared, own = {"correlation": 200, "randomised": 40}, {"deletion": 16, "insertion": 16, "regions": 16}
    steps = {f"{name}: {kind}": kind for name in maps for kind in ("map", *own, *shared)}
    run = Run(48, steps)
    start = run.now
    for batch in range(3):
        for step, kind in steps.items():
            name = step.partition(":")[0]
            cost = maps[name] if kind == "map" else own.get(kind, shared.get(kind, 0) * (name == "soft_cam"))
            run.step(step, 16 * cost * (1.1 if batch == 0 else 1), 16 / len(steps))
    end = run.now
    for left, now, _ in run.estimates:
        if start + (end - start) / 4 <= now < end - 1:
            assert left == pytest.approx(end - now, rel=0.3)


def test_a_resumed_run_counts_what_is_missing():
    run = Run(10)
    run.batch(5)
    assert run.left.seconds == pytest.approx(5 * PER_SAMPLE)


def test_samples_that_cannot_be_read_need_no_time():
    run = Run(20)
    run.batch(5)
    run.left.add("", 10)
    assert run.left.seconds == pytest.approx(5 * PER_SAMPLE)


def test_a_method_that_fails_costs_nothing():
    run = Run(4)
    for kind in ("map", *METRICS):
        for name in COSTS:
            failed = name == "occlusion"
            run.step(f"{name}: {kind}", 0 if failed else 1, 2 / len(STEPS))
    assert run.left.seconds == pytest.approx(12)


def test_a_cluster_reports_whole_batches():
    run = Run(40)
    for count in (8, 8, 8, 8):
        run.step("on the cluster", 2.0, count)
    assert not run.left.rough
    assert run.left.seconds == pytest.approx(2)
    run.step("on the cluster", 2.0, 8)
    assert run.left.seconds == 0


def test_time_passes_within_a_step():
    run = Run(32)
    run.batch(16)
    run.now += 10
    assert run.left.seconds == pytest.approx(16 * PER_SAMPLE - 10)
    run.now += 1e6
    assert run.left.seconds == 0


def test_words():
    run = Run(32)
    assert str(run.left) == "--:-- left"
    for step in [*STEPS][:4]:
        run.step(step, 60, 16 / len(STEPS))
    assert str(run.left) == "at least 22:00 left", "of each batch all metrics, and the map that is known"
    for step in [*STEPS][4:]:
        run.step(step, 60, 16 / len(STEPS))
    assert str(run.left) == "16:00 left"


def test_the_bar_shows_it(capsys):
    with ProgressBar("start", 4, 2, {"a: map": "map"}, shown=True) as bar:
        bar.set_description_str("a: map", refresh=False)
        bar.advance("a: map", 1)
        bar.refresh()
        bar.advance("a: map", 1.0000001)
    text = capsys.readouterr().err
    assert re.search(r"start:  50%\|.*\| 00:00, --:-- left", text)
    assert re.search(r"a: map:  75%\|.*\| 00:00, 00:00 left", text)
    assert re.search(r"a: map: 100%\|", text)
    ProgressBar("hidden", 4, 4, {}, shown=True).close()
    ProgressBar("hidden", 4, 0, {}, shown=False).close()
    assert capsys.readouterr().err == ""
