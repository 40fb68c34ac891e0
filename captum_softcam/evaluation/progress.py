"""The progress bar of a comparison, and the time that is left, from what every method and metric has cost so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from tqdm import tqdm

__all__ = ["ProgressBar", "TimeLeft"]


class TimeLeft:
    """Estimates the time that a run still takes, from the seconds that each of its steps has taken per sample.

    Methods and metrics differ in cost by a factor of a thousand, so that the fraction of steps that are done does not tell
    the fraction of the time. Every step counts by its own mean over the batches so far, the first one left out as soon as
    there is another, because it loads what the others find loaded, and measures memory, which may double its time. Until
    every step was seen, there is only a lower bound, with the metrics of the latest method and without the maps that are not
    known; none at all until one method has passed all metrics.

    Args:
        samples (float): number of samples to score.
        steps (mapping): the kind of each step, ``"map"`` or the metric, by its description. A description that is not among
            them stands for all steps, as a cluster reports whole batches.
        clock (callable): returns seconds. Default: that of the system
    """

    def __init__(self, samples: float, steps: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self._samples = samples
        self._kinds = dict(steps)
        self._clock = clock
        self._last = clock()
        self._done: dict[str, float] = {}
        self._timed: dict[str, tuple[float, float]] = {}  # seconds and samples of each step
        self._warm: set[str] = set()

    def add(self, step: str, work: float) -> None:
        """Count a step that has just ended.

        Args:
            step (str): its description; empty for samples that need no work.
            work (float): number of samples, divided by the number of steps that each of them takes.
        """
        now = self._clock()
        if not step:
            self._samples -= work
            return
        if step not in self._kinds:
            self._kinds = {step: step}
        samples = work * len(self._kinds)
        seconds, timed = self._timed.get(step, (0.0, 0.0))
        if step in self._done and step not in self._warm and len(self._kinds) > 1:
            seconds, timed = 0.0, 0.0  # a cluster has no first batch, because several end at the same time
            self._warm.add(step)
        self._timed[step] = seconds + now - self._last, timed + samples
        self._done[step] = self._done.get(step, 0) + samples
        self._last = now

    @property
    def rough(self) -> bool:
        """Whether a step has not been seen yet, so that there is only a lower bound."""
        return any(step not in self._done for step in self._kinds)

    @property
    def seconds(self) -> float | None:
        """The seconds that are left, at least if they are :attr:`rough`; None if nothing is known of a kind of steps."""
        costs = {step: seconds / samples for step, (seconds, samples) in self._timed.items() if step in self._kinds}
        # The latest method tells most of those to come: the first ones pay for forwards that all of them share.
        usual = {self._kinds[step]: cost for step, cost in costs.items()}
        if any(kind not in usual for kind in self._kinds.values()):
            return None
        usual["map"] = 0.0
        rest = sum(
            costs.get(step, usual[kind]) * max(self._samples - self._done.get(step, 0), 0)
            for step, kind in self._kinds.items()
        )
        return max(rest - (self._clock() - self._last), 0)  # the step that is running has taken that already

    def __str__(self) -> str:
        seconds = self.seconds
        if seconds is None:
            return "--:-- left"
        return f"{'at least ' * self.rough}{tqdm.format_interval(round(seconds))} left"


class ProgressBar(tqdm):  # type: ignore[type-arg]  # it iterates over nothing
    """A bar of samples that shows the time left by :class:`TimeLeft`.

    Args:
        text (str): description at the start.
        total (int): number of samples.
        initial (int): number of samples that are done already.
        steps (mapping): as for :class:`TimeLeft`.
        shown (bool): whether the bar is shown.
    """

    def __init__(self, text: str, total: int, initial: int, steps: Mapping[str, str], *, shown: bool) -> None:
        self.time_left = TimeLeft(total - initial, steps)  # before the bar is drawn for the first time
        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {left}"
        hidden = not shown or initial == total
        super().__init__(desc=text, total=total, initial=initial, disable=hidden, bar_format=form, dynamic_ncols=True)

    @property
    def format_dict(self) -> dict[str, Any]:
        """The values that the bar shows."""
        return {**super().format_dict, "left": str(self.time_left)}

    def advance(self, step: str, work: float) -> None:
        """Count a step that has just ended.

        Args:
            step (str): its description.
            work (float): the amount of work in samples.
        """
        self.time_left.add(step, work)
        self.update(min(work, (self.total or 0) - self.n))  # sums of fractions of samples exceed the total by rounding
