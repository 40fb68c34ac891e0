"""The unit of work: a few samples under all methods and metrics, the same on one machine and on many.

Every map is made once and shared by all metrics, every clean forward once and shared by all methods, and what a metric asks
of the model is asked once where it does not depend on the map. A method or metric that fails is recorded, the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_softcam._names import named
from captum_softcam.data import Sample
from captum_softcam.evaluation.adapter import LayerExplainFunc
from captum_softcam.evaluation.batch import make_batch, with_mask
from captum_softcam.evaluation.controls import name_seed
from captum_softcam.evaluation.costs import CostMeter
from captum_softcam.evaluation.example import Example, pack_examples, unpack_examples
from captum_softcam.evaluation.part import COSTS, Failure, Part, fingerprint
from captum_softcam.metrics import Batch, Curve, Explanation, Metric

__all__ = ["Work"]

Tick = Callable[[str, float], None]


@dataclass(frozen=True)
class Work:
    """Everything that is needed to score any samples of a comparison.

    Args:
        model (torch.nn.Module): classifier in eval mode.
        methods (dict): how each method is called, by name.
        metrics (tuple of Metric): what is measured.
        size (tuple of int): of the images.
        normalize (callable): turns images in [0, 1] into what the model takes.
        explain (str): ``"true"`` or ``"predicted"`` class.
        seed (int): of random subsets.
        kept (frozenset of int): places of the samples whose maps are kept.
        rivals (bool): whether the maps of another class are kept with them.
    """

    model: nn.Module
    methods: dict[str, LayerExplainFunc]
    metrics: tuple[Metric, ...]
    size: tuple[int, ...]
    normalize: Callable[[Tensor], Tensor]
    explain: Literal["true", "predicted"]
    seed: int
    kept: frozenset[int]
    rivals: bool

    def run(self, indices: Sequence[int], samples: Sequence[Sample], tick: Tick = lambda *_: None) -> Part:
        """Score a few samples, as one batch.

        Args:
            indices (sequence of int): their places in the data set.
            samples (sequence of Sample): the samples themselves.
            tick (callable): hears what is done, in words, and how many samples' work that was. Default: nobody listens

        Returns:
            Part: scores, curves, costs and errors; a method or metric that fails is among the errors.

        Raises:
            ValueError: if the samples do not fit the model or each other, or the model gives no logits (N, K).
        """
        batch, seconds = make_batch(self.model, samples, self.size, self.normalize, self.explain, self.seed)
        kept = [i for i, index in enumerate(indices) if index in self.kept]
        bench = _Bench(self, samples, batch, seconds, kept, 0 in indices, tick)
        try:
            for name in self.methods:
                bench.score(name)
        finally:
            batch.close()
        return bench.part(tuple(indices))


class _Bench:
    """One batch while it is worked on."""

    def __init__(
        self,
        work: Work,
        samples: Sequence[Sample],
        batch: Batch,
        seconds: float,
        kept: list[int],
        memory: bool,
        tick: Tick,
    ) -> None:
        self.work, self.samples, self.batch, self.kept, self.memory = work, samples, batch, kept, memory
        self.seconds = seconds
        self._tick, self._step = tick, len(samples) / (len(work.methods) * (1 + len(work.metrics)))
        self.scores = np.full((len(samples), len(work.methods), len(work.metrics)), np.nan)
        self.costs = np.full((len(work.methods), len(COSTS)), np.nan)
        self.curves: dict[str, NDArray[Any]] = {}
        self.fractions: dict[str, NDArray[Any]] = {}
        self.failures: list[Failure] = []
        self.maps: dict[str, Tensor] = {}
        self.seeds = [name_seed(sample.identifier) for sample in samples]
        self.rivals = batch.outputs.scatter(1, batch.targets[:, None], -torch.inf).argmax(1)
        self.rival_maps: dict[str, Tensor] = {}

    def score(self, name: str) -> None:
        """All metrics of one method."""
        explain = self.work.methods[name]
        place = list(self.work.methods).index(name)
        maps = self._attempt(name, "", lambda: self._explain(name, place))
        self._tick(f"{name}: map", self._step)
        if maps is None:
            return
        seeds = [name_seed(f"{sample.identifier}, masked") for sample in self.samples]
        again = partial(explain.explain, self.work.model, targets=self.batch.targets, seeds=seeds)
        explanation = Explanation(self.batch, maps, again)
        for k, metric in enumerate(self.work.metrics):
            scores = self._attempt(name, metric.name, partial(self._measure, metric, explanation, place))
            if scores is not None:
                self.scores[:, place, k] = scores
            self._tick(f"{name}: {metric.name}", self._step)

    def _explain(self, name: str, place: int) -> Tensor:
        """Maps of the batch by one method, with what they cost; and those that are kept."""
        explain, model, count = self.work.methods[name], self.work.model, len(self.samples)
        with CostMeter(model, memory=self.memory) as meter:
            maps = explain.explain(model, self.batch.images, self.batch.targets, self.seeds)
        peak = np.nan if meter.peak_bytes is None else meter.peak_bytes
        self.costs[place] = meter.forwards / count, meter.backwards / count, meter.seconds / count, peak
        if self.kept:
            self.maps[name] = maps[self.kept].float().cpu()
            if self.work.rivals and self.batch.outputs.shape[1] > 1:
                seeds = [self.seeds[i] for i in self.kept]
                rivals = explain.explain(model, self.batch.images[self.kept], self.rivals[self.kept], seeds)
                self.rival_maps[name] = rivals.float().cpu()
        return maps

    def _attempt(self, method: str, metric: str, work: Callable[[], Any]) -> Any:
        """What ``work`` gives; None if it fails, for the reader of the table."""
        try:
            return work()
        except Exception as error:
            self.failures.append(Failure(method, metric, f"{type(error).__name__}: {error}"))
            return None

    def _measure(self, metric: Metric, explanation: Explanation, place: int) -> NDArray[Any]:
        """Scores (N,); the points of a curve are put aside."""
        result = metric.measure(explanation)
        if isinstance(result, Curve):
            points = result.points.double().cpu().numpy()
            empty = np.full((len(points), len(self.work.methods), points.shape[1]), np.nan)
            self.curves.setdefault(metric.name, empty)[:, place] = points
            self.fractions[metric.name] = result.fractions.double().cpu().numpy()
            result = result.area
        if result.shape != self.batch.targets.shape:
            raise ValueError(
                f"{named(metric.name)} gives {tuple(result.shape)} for {len(self.scores)} samples; expected one score each."
            )
        return result.double().cpu().numpy()

    def part(self, indices: tuple[int, ...]) -> Part:
        """What has been found."""
        batch, samples = self.batch, self.samples
        return Part(
            indices=indices,
            identifiers=[sample.identifier for sample in samples],
            digests=[fingerprint(sample) for sample in samples],
            labels=[sample.target for sample in samples],
            targets=batch.targets.tolist(),
            predictions=batch.outputs.argmax(1).tolist(),
            masked=[sample.mask is not None for sample in samples],
            scores=self.scores,
            curves=self.curves,
            fractions=self.fractions,
            costs=self.costs,
            plain_seconds=self.seconds / len(samples),
            failures=self.failures,
            examples={indices[i]: example for i, example in self._examples()},
        )

    def _examples(self) -> Iterator[tuple[int, Example]]:
        """Examples as they come back from a file, so that a run gives the same whether it was cut off or not."""
        probabilities = self.batch.probabilities.cpu()
        for j, i in enumerate(self.kept):
            example = Example(
                sample=with_mask(self.samples[i], self.batch.masks[i]),
                target=int(self.batch.targets[i]),
                maps={name: maps[j] for name, maps in self.maps.items()},
                probabilities=probabilities[i],
                rival=int(self.rivals[i]) if self.rival_maps else None,
                rival_maps={name: maps[j] for name, maps in self.rival_maps.items()},
            )
            yield i, unpack_examples(pack_examples([example]))[0]
