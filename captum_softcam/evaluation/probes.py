"""Probes: further measurements on a few samples, from which the health of the metrics is computed.

A probe repeats the metrics on one sample alone with one thing changed: the maps of a network with random weights, another
seed of the random subsets, or a little noise on the image; or with nothing changed but the batch. :mod:`health` compares its
scores with those of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from captum_softcam._names import as_text
from captum_softcam._scores import predicted_classes
from captum_softcam.evaluation.controls import name_seed
from captum_softcam.evaluation.health import DESCRIBING
from captum_softcam.metrics import Batch, Curve, Explanation, Metric, Scored
from captum_softcam.metrics.mosaics import Mosaics

__all__ = ["NOISE", "PROBES", "Prober"]

PROBES = ("alone", "random_network", "seed", "noise")
"""The probes in the order in which they are measured."""

NOISE = 0.01
"""Half the width of the uniform noise, as a fraction of the range of the image."""


class _WatchedBatch(Batch):
    """A batch that remembers whether a metric has read its seed."""

    seeded = False

    @property
    def seed(self) -> int:
        """The seed of random subsets."""
        self.seeded = True
        return self._seed

    @seed.setter
    def seed(self, value: int) -> None:
        self._seed = value

    def replacement(self, baseline: str) -> Tensor | Callable[[Tensor, Tensor], Tensor]:
        """Return what replaces removed parts; the seed that it reads is used by one baseline alone, and by no metric."""
        seeded = self.seeded
        found = super().replacement(baseline)
        self.seeded = seeded
        return found


@dataclass
class Prober:
    """Measurement of the probes of one sample of a batch.

    Args:
        batch (Batch): the batch of the run.
        place (int): position of the sample in it.
        identifier (str): its name, from which the noise is drawn.
        metrics (sequence of Metric): the metrics of the run; those that judge no method are left out.
        maps (dict): the map (1, 1, ...) of the sample by method, those that are the same map only once.
        controls (collection of str): names of the methods that ignore the model.
        explain (callable): method name, images and keywords -> maps, as :class:`~captum_softcam.metrics.batch.Explain`.
        black (callable): returns a black image, (1, C, ...), as the model expects it.
    """

    batch: Batch
    place: int
    identifier: str
    metrics: Sequence[Metric]
    maps: dict[str, Tensor]
    controls: frozenset[str]
    explain: Callable[..., Tensor]
    black: Callable[[], Tensor]
    errors: dict[str, str] = field(default_factory=dict)
    _seeded: set[str] = field(default_factory=set)

    @property
    def judging(self) -> list[Metric]:
        """The metrics that judge methods; the others are not probed."""
        return [metric for metric in self.metrics if metric.category not in DESCRIBING]

    def measure(self, probe: str) -> Iterator[tuple[str, str, float]]:
        """Yield method, metric and score of a probe; an error is noted in ``errors`` and does not end the run.

        Args:
            probe (str): one of :data:`PROBES`.
        """
        measured: dict[str, Callable[[], Iterator[tuple[str, str, float]]]] = {
            "random_network": self._random_network,
            "alone": self._alone,
            "seed": self._seed,
            "noise": self._noise,
        }
        try:
            yield from measured[probe]()
        except Exception as error:  # of any kind: methods and metrics can be functions of the user
            self._note(probe, error)

    def _random_network(self) -> Iterator[tuple[str, str, float]]:
        network = self.batch.randomised.full()
        for name in self.maps:
            if name in self.controls:
                continue
            try:
                maps = self.explain(name, self._images, model=network, rows=[self.place])
            except Exception as error:  # one method may fail where the others do not
                self._note("random_network", error)
                continue
            # Metrics that need more maps have to get those of the random network, too.
            explanation = self._explanation(self._single, name, maps, network)
            yield from self._scores("random_network", name, explanation, self.judging)

    def _alone(self) -> Iterator[tuple[str, str, float]]:
        for name in [name for name in self.maps if name not in self.controls][:1] or list(self.maps)[:1]:
            explanation = self._explanation(self._single, name, self.maps[name])
            for metric in self.judging:
                self._single.seeded = False
                yield from self._scores("alone", name, explanation, [metric])
                if self._single.seeded or metric.settings.get("perturb_baseline") == "uniform":
                    self._seeded.add(metric.name)

    def _seed(self) -> Iterator[tuple[str, str, float]]:
        batch = self._made(self._images, self.batch.outputs[self._row], self.batch.seed + 1)
        yield from self._of_all("seed", batch, [metric for metric in self.judging if metric.name in self._seeded])

    def _noise(self) -> Iterator[tuple[str, str, float]]:
        images = self._images
        generator = torch.Generator().manual_seed(name_seed(f"{self.identifier}, noise"))
        drawn = 2 * torch.rand(images.shape, generator=generator, dtype=torch.float64) - 1
        low, high = images.min(), images.max()
        noisy = (images + NOISE * (high - low) * drawn.to(images)).clamp(low, high)
        with torch.no_grad():
            outputs = self.batch.model(noisy)
        before, after = (predicted_classes(each, self.batch.scores) for each in (self.batch.outputs[self._row], outputs))
        # Noise that changes the prediction is not minor, and a metric may then well change.
        if torch.equal(before, after):
            metrics = [metric for metric in self.judging if metric.forwards or metric.attributions]
            yield from self._of_all("noise", self._made(noisy, outputs, self.batch.seed), metrics)

    def _of_all(self, probe: str, batch: Batch, metrics: Sequence[Metric]) -> Iterator[tuple[str, str, float]]:
        for name, maps in self.maps.items() if metrics else ():
            yield from self._scores(probe, name, self._explanation(batch, name, maps), metrics)

    def _scores(
        self, probe: str, name: str, explanation: Explanation, metrics: Sequence[Metric]
    ) -> Iterator[tuple[str, str, float]]:
        for metric in metrics:
            try:
                found = metric.measure(explanation)
                if isinstance(found, Scored):
                    for reason in found.errors.values():
                        self.errors.setdefault(probe, as_text(reason))
                    found = found.scores
                yield name, metric.name, float((found.area if isinstance(found, Curve) else found)[0])
            except Exception as error:  # as above
                self._note(probe, error)

    def _note(self, probe: str, error: Exception) -> None:
        self.errors.setdefault(probe, as_text(f"{type(error).__name__}: {error}"))

    def _explanation(self, batch: Batch, name: str, maps: Tensor, network: nn.Module | None = None) -> Explanation:
        return Explanation(batch, maps, partial(self._explain_again, name, network))

    def _explain_again(
        self,
        name: str,
        network: nn.Module | None,
        images: Tensor,
        *,
        model: nn.Module | None = None,
        rows: Sequence[int] | None = None,
        **more: Any,
    ) -> Tensor:
        rows = [self.place] * (len(images) if rows is None else len(rows))
        return self.explain(name, images, model=network if model is None else model, rows=rows, **more)

    @property
    def _row(self) -> slice:
        return slice(self.place, self.place + 1)

    @property
    def _images(self) -> Tensor:
        return self.batch.images[self._row]

    @cached_property
    def _single(self) -> _WatchedBatch:
        """The sample in a batch of its own."""
        return self._made(self._images, self.batch.outputs[self._row], self.batch.seed)

    def _made(self, images: Tensor, outputs: Tensor, seed: int) -> _WatchedBatch:
        targets, masks = self.batch.targets[self._row], self.batch.masks[self._row]
        more: dict[str, Any] = {"outputs": outputs, "seed": seed, "scores": self.batch.scores}
        more |= {"randomised": self.batch.randomised, "black": self.black, "seeds": self.batch.seeds[self._row]}
        made = _WatchedBatch(self.batch.model, images, targets, masks, mosaics=self._mosaics, **more)
        made.forward = self.batch.forward
        return made

    def _mosaics(self) -> Mosaics:
        found = self.batch.mosaics
        return Mosaics(found.images[self._row], found.cells[self._row])
