"""Probes: further measurements on a few samples, from which the health of the metrics is computed.

A probe repeats the metrics with one thing changed: the maps of a network with random weights, another seed of the random
subsets, a little noise on the image, or a batch of one sample. :mod:`health` compares its scores with those of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from captum_softcam._maps import is_flat
from captum_softcam._names import as_text, named
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
    """Measurement of the probes of some samples of a batch, together except in the probe that has them alone.

    Args:
        batch (Batch): the batch of the run.
        places (sequence of int): positions of the samples in it.
        identifiers (sequence of str): their names, from which the noise is drawn.
        metrics (sequence of Metric): the metrics of the run; those that judge no method are left out.
        maps (dict): the maps (P, 1, ...) of the samples by method.
        distinct (dict): by method, the rows of ``maps`` that no other method repeats, or that are the first of the same.
        controls (collection of str): names of the methods that ignore the model.
        explain (callable): method name, images and keywords -> maps, as :class:`~captum_softcam.metrics.batch.Explain`.
    """

    batch: Batch
    places: Sequence[int]
    identifiers: Sequence[str]
    metrics: Sequence[Metric]
    maps: dict[str, Tensor]
    distinct: dict[str, list[int]]
    controls: frozenset[str]
    explain: Callable[..., Tensor]
    errors: dict[str, str] = field(default_factory=dict)
    _seeded: set[str] = field(default_factory=set)

    @property
    def judging(self) -> list[Metric]:
        """The metrics that judge methods; the others are not probed."""
        return [metric for metric in self.metrics if metric.category not in DESCRIBING]

    def measure(self, probe: str) -> Iterator[tuple[int, str, str, float]]:
        """Yield place in the batch, method, metric and score; an error is noted in ``errors`` and does not end the run.

        Args:
            probe (str): one of :data:`PROBES`.
        """
        measured: dict[str, Callable[[], Iterator[tuple[int, str, str, float]]]] = {
            "random_network": self._random_network,
            "alone": self._alone,
            "seed": self._seed,
            "noise": self._noise,
        }
        try:
            yield from measured[probe]()
        except Exception as error:  # of any kind: methods and metrics can be functions of the user
            self._note(probe, error)

    def _random_network(self) -> Iterator[tuple[int, str, str, float]]:
        network = self.batch.randomised.full()
        views = _Views(self, self._images, self.batch.outputs[self.places], self.batch.seed)
        for name, rows in self.distinct.items():
            if name in self.controls or not rows:
                continue
            view = views.of(rows)
            try:
                maps = self.explain(name, view.batch.images, model=network, rows=view.places)
            except Exception as error:  # one method may fail where the others do not
                self._note("random_network", error)
                continue
            if is_flat(maps).any():
                self.errors.setdefault("random_network", f"its map by {named(name)} is flat or not finite")
                continue
            # Metrics that need more maps have to get those of the random network, too.
            yield from self._scores("random_network", name, view, maps, self.judging, network)

    def _alone(self) -> Iterator[tuple[int, str, str, float]]:
        views = _Views(self, self._images, self.batch.outputs[self.places], self.batch.seed)
        for row in range(len(self.places)):
            present = [name for name, rows in self.distinct.items() if row in rows]
            for name in [name for name in present if name not in self.controls][:1] or present[:1]:
                view = views.of([row])
                for metric in self.judging:
                    view.batch.seeded = False
                    yield from self._scores("alone", name, view, self.maps[name][[row]], [metric])
                    if view.batch.seeded or metric.settings.get("perturb_baseline") == "uniform":
                        self._seeded.add(metric.name)

    def _seed(self) -> Iterator[tuple[int, str, str, float]]:
        views = _Views(self, self._images, self.batch.outputs[self.places], self.batch.seed + 1)
        metrics = [metric for metric in self.judging if metric.name in self._seeded]
        yield from self._of_all("seed", views, range(len(self.places)), metrics)

    def _noise(self) -> Iterator[tuple[int, str, str, float]]:
        metrics = [metric for metric in self.judging if metric.forwards or metric.attributions]
        if not metrics:
            return
        noisy = torch.cat([_with_noise(*each) for each in zip(self._images.split(1), self.identifiers, strict=True)])
        with torch.no_grad():
            outputs = self.batch.model(noisy)
        before, after = (predicted_classes(each, self.batch.scores) for each in (self.batch.outputs[self.places], outputs))
        # Noise that changes the prediction is not minor, and a metric may then well change.
        unchanged = (before == after).nonzero().flatten().tolist()
        yield from self._of_all("noise", _Views(self, noisy, outputs, self.batch.seed), unchanged, metrics)

    def _of_all(
        self, probe: str, views: _Views, among: Sequence[int], metrics: Sequence[Metric]
    ) -> Iterator[tuple[int, str, str, float]]:
        for name, distinct in self.distinct.items() if metrics else ():
            if rows := [row for row in distinct if row in among]:
                yield from self._scores(probe, name, views.of(rows), self.maps[name][rows], metrics)

    def _scores(
        self, probe: str, name: str, view: _View, maps: Tensor, metrics: Sequence[Metric], network: nn.Module | None = None
    ) -> Iterator[tuple[int, str, str, float]]:
        explanation = Explanation(view.batch, maps, partial(self._explain_again, name, view.places, network))
        for metric in metrics:
            try:
                found = metric.measure(explanation)
                if isinstance(found, Scored):
                    for reason in found.errors.values():
                        self.errors.setdefault(probe, as_text(reason))
                    found = found.scores
                scores = (found.area if isinstance(found, Curve) else found).tolist()
                for place, score in zip(view.places, scores, strict=True):
                    yield place, name, metric.name, score
            except Exception as error:  # as above
                self._note(probe, error)

    def _note(self, probe: str, error: Exception) -> None:
        self.errors.setdefault(probe, as_text(f"{type(error).__name__}: {error}"))

    def _explain_again(
        self,
        name: str,
        places: Sequence[int],
        network: nn.Module | None,
        images: Tensor,
        *,
        model: nn.Module | None = None,
        rows: Sequence[int] | None = None,
        **more: Any,
    ) -> Tensor:
        rows = places if rows is None else [places[row] for row in rows]
        return self.explain(name, images, model=network if model is None else model, rows=rows, **more)

    @property
    def _images(self) -> Tensor:
        return self.batch.images[self.places]


@dataclass
class _View:
    """Some of the probed samples in a batch of their own, and their places in that of the run."""

    places: list[int]
    batch: _WatchedBatch


@dataclass
class _Views:
    """Batches of some of the probed samples under one probe, each made once and shared by the methods.

    Args:
        prober (Prober): the samples.
        images (Tensor): their images under the probe, (P, C, ...).
        outputs (Tensor): of the model for these, (P, K).
        seed (int): of the random subsets.
    """

    prober: Prober
    images: Tensor
    outputs: Tensor
    seed: int
    _made: dict[tuple[int, ...], _View] = field(default_factory=dict)

    def of(self, rows: list[int]) -> _View:
        """Return the view of some rows of the images."""
        key = tuple(rows)
        if key not in self._made:
            self._made[key] = self._make(rows)
        return self._made[key]

    def _make(self, rows: list[int]) -> _View:
        run, places = self.prober.batch, [self.prober.places[row] for row in rows]
        more: dict[str, Any] = {"outputs": self.outputs[rows], "seed": self.seed, "scores": run.scores}
        more |= {"randomised": run.randomised, "black": run.black, "seeds": [run.seeds[place] for place in places]}

        def mosaics() -> Mosaics:
            return Mosaics(run.mosaics.images[places], run.mosaics.cells[places])

        shown = self.images[rows], run.targets[places], run.masks[places]
        made = _WatchedBatch(run.model, *shown, mosaics=mosaics, **more)
        made.forward = run.forward
        return _View(places, made)


def _with_noise(image: Tensor, identifier: str) -> Tensor:
    """Return an image (1, C, ...) with a little noise, which depends on its name alone."""
    generator = torch.Generator().manual_seed(name_seed(f"{identifier}, noise"))
    drawn = 2 * torch.rand(image.shape, generator=generator, dtype=torch.float64) - 1
    low, high = image.min(), image.max()
    return (image + NOISE * (high - low) * drawn.to(image)).clamp(low, high)
