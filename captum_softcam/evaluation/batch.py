"""Score one batch of samples under all methods and metrics, the same on one machine and on many.

Each map is computed once and shared by all metrics, each clean forward once and shared by all methods. An error of a method
or metric is recorded, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_softcam._maps import upsample
from captum_softcam._names import as_text, named, quoted, shown
from captum_softcam._scores import (
    Scores,
    class_logits,
    classes_of,
    kind_in_words,
    predicted_classes,
    runner_up_classes,
    score_table,
)
from captum_softcam.data import Sample
from captum_softcam.data.samples import UNKNOWN, group_of
from captum_softcam.evaluation.controls import name_seed
from captum_softcam.evaluation.costs import CostMeter, device_of
from captum_softcam.evaluation.example import Example, pack_examples, unpack_examples
from captum_softcam.evaluation.explain_func import LayerExplainFunc
from captum_softcam.evaluation.fast_forward import FastForward, Passes
from captum_softcam.evaluation.one_logit import with_both_classes
from captum_softcam.evaluation.performance import judge
from captum_softcam.evaluation.probes import PROBES, Prober
from captum_softcam.evaluation.reader import Unreadable
from captum_softcam.evaluation.result import COSTS, BatchResult, Failure, fingerprint
from captum_softcam.evaluation.same_maps import SameMapsFinder
from captum_softcam.metrics import Batch, Curve, Explanation, Metric, Scored
from captum_softcam.metrics.mosaics import MosaicPool, Mosaics
from captum_softcam.metrics.randomised import RandomisedModels

__all__ = ["BatchScorer", "Progress", "make_batch", "make_examples"]

Progress = Callable[[str, float], None]
"""Called with a description and the amount of work in samples."""


@dataclass(frozen=True)
class BatchScorer:
    """Methods, metrics and settings of a comparison: everything that is needed to score any batch of its samples.

    Args:
        model (torch.nn.Module): classifier in eval mode.
        methods (dict): explain functions of the methods, by name.
        metrics (tuple of Metric): the metrics.
        size (tuple of int): size of the images.
        normalize (callable): turns images in [0, 1] into inputs of the model.
        explain (str): the class to explain, ``"true"`` or ``"predicted"``.
        seed (int): seed of the random subsets.
        kept (frozenset of int): indices of the samples whose maps are kept.
        runner_up (bool): whether maps of the runner-up class are kept, too.
        scores (str or callable): how logits become scores. Default: ``"softmax"``
        first (int): index of the first sample, in whose batch memory is measured. Default: 0
        passes (str): how forwards without gradients run, see :class:`FastForward`. Default: ``"fast"``
        pool (MosaicPool): images of other classes for mosaics. Default: those of each batch
        probed (frozenset of int): indices of the samples on which the metrics are probed. Default: none
    """

    model: nn.Module
    methods: dict[str, LayerExplainFunc]
    metrics: tuple[Metric, ...]
    size: tuple[int, ...]
    normalize: Callable[[Tensor], Tensor]
    explain: Literal["true", "predicted"]
    seed: int
    kept: frozenset[int]
    runner_up: bool
    scores: Scores = "softmax"
    first: int = 0
    passes: Passes = "fast"
    pool: MosaicPool | None = None
    probed: frozenset[int] = frozenset()

    @cached_property
    def fast(self) -> FastForward:
        """The model for forwards without gradients, shared by all batches."""
        layers = {method.layer for method in self.methods.values() if method.layer is not None}
        return FastForward(self.model, self.passes, layers)

    @property
    def steps(self) -> dict[str, str]:
        """The kind of each step, ``"map"``, the metric or a probe, by the description in which progress is reported."""
        kinds = ("map", *(metric.name for metric in self.metrics))
        steps = {f"{name}: {kind}": kind for name in self.methods for kind in kinds}
        return steps | ({_probing(probe): _probing(probe) for probe in PROBES} if self.probed else {})

    @property
    def controls(self) -> frozenset[str]:
        """Names of the methods that ignore the model."""
        return frozenset(name for name, method in self.methods.items() if method.description["control"])

    @cached_property
    def randomised(self) -> RandomisedModels:
        """Networks with random weights, which all batches and methods share; drawn when the first is needed."""
        return RandomisedModels(self.model, self.seed)

    def score(
        self, indices: Sequence[int], samples: Sequence[Sample | Unreadable], progress: Progress = lambda *_: None
    ) -> BatchResult:
        """Score a batch of samples.

        Args:
            indices (sequence of int): positions of the samples in the data set.
            samples (sequence of Sample or Unreadable): the samples themselves; those that could not be read are passed on.
            progress (callable): called after every map and every metric. Default: not reported

        Returns:
            BatchResult: scores, curves, costs and errors; a method or metric that fails is among the errors.

        Raises:
            ValueError: if the samples do not match the model or each other, or the model does not return logits (N, K).
        """
        unreadable = [sample for sample in samples if isinstance(sample, Unreadable)]
        progress("", len(unreadable))
        readable = {i: sample for i, sample in zip(indices, samples, strict=True) if not isinstance(sample, Unreadable)}
        if not readable:
            return BatchResult.of_nothing(unreadable)
        return replace(self._score([*readable], [*readable.values()], progress), unreadable=unreadable)

    def _score(self, indices: Sequence[int], samples: Sequence[Sample], progress: Progress) -> BatchResult:
        batch, seconds = make_batch(
            *(self.model, samples, self.size, self.normalize, self.explain, self.seed),
            scores=self.scores,
            randomised=self.randomised,
            pool=self.pool,
        )
        self.fast.expect(batch.images, batch.outputs)
        batch.forward = self.fast
        same = np.empty((len(samples), len(self.methods), 2), dtype=np.int16)
        result = BatchResult(
            indices=tuple(indices),
            identifiers=[sample.identifier for sample in samples],
            groups=[group_of(sample) for sample in samples],
            digests=[fingerprint(sample) for sample in samples],
            labels=[sample.target for sample in samples],
            targets=batch.targets.tolist(),
            predictions=predicted_classes(batch.outputs, self.scores).tolist(),
            masked=[sample.mask is not None for sample in samples],
            judged=judge(samples, batch.outputs, self.scores),
            scores=np.full((len(samples), len(self.methods), len(self.metrics)), np.nan),
            costs=np.full((len(self.methods), len(COSTS)), np.nan),
            plain_seconds=seconds,
            same=same,
        )
        scoring = _Scoring(self, samples, batch, result, SameMapsFinder(same), progress)
        for place, name in enumerate(self.methods):
            scoring.score(place, name)
        scoring.probe()
        return replace(result, examples=scoring.examples())


@dataclass(frozen=True)
class _Scoring:
    """A batch that is being scored, with its result so far and the maps to keep."""

    scorer: BatchScorer
    samples: Sequence[Sample]
    batch: Batch
    result: BatchResult
    finder: SameMapsFinder
    progress: Progress
    maps: dict[str, Tensor] = field(default_factory=dict)
    runner_up_maps: dict[str, Tensor] = field(default_factory=dict)
    probed_maps: dict[str, Tensor] = field(default_factory=dict)

    def score(self, place: int, name: str) -> None:
        """Score one method under all metrics; ``place`` is its position among the methods."""
        metrics = self.scorer.metrics
        step = self._step
        found: tuple[Tensor, Tensor] | None = self._attempt(name, "", partial(self._explain, place, name))
        self.progress(f"{name}: map", step)
        if found is None:
            for metric in metrics:
                self.progress(f"{name}: {metric.name}", step)
            return
        maps, layer_maps = found
        self.finder.add(place, maps)
        if self._probed:
            self.probed_maps[name] = maps[self._probed]
        explanation = Explanation(self.batch, maps, partial(self._explain_again, name), layer_maps)
        for k, metric in enumerate(metrics):
            scores = self._attempt(name, metric.name, partial(self._measure, metric, explanation, place, name))
            if scores is not None:
                self.result.scores[:, place, k] = scores
            self.progress(f"{name}: {metric.name}", step)

    def probe(self) -> None:
        """Measure the probes of the samples that are probed."""
        prober = self._prober()
        names = [list(self.scorer.methods), [metric.name for metric in self.scorer.metrics]]
        for place in prober.places:
            self.result.probes[self.result.indices[place]] = np.full((len(PROBES), *map(len, names)), np.nan)
        for p, probe in enumerate(PROBES if self.scorer.probed else ()):
            for place, method, metric, score in prober.measure(probe) if prober.places else ():
                table = self.result.probes[self.result.indices[place]]
                table[p, names[0].index(method), names[1].index(metric)] = score
            # Reported without work, too: the time of a step is its mean over all samples.
            self.progress(_probing(probe), self._step)
        self.result.probe_errors.update(prober.errors)

    def _prober(self) -> Prober:
        record, places = self.result.same, self._probed
        # Methods with the same map have the same scores, but for rounding.
        distinct = {
            name: [row for row, place in enumerate(places) if record is None or record[place, i, 0] in (i, -1)]
            for i, name in enumerate(self.scorer.methods)
            if name in self.probed_maps
        }
        return Prober(
            self.batch,
            places,
            [self.samples[place].identifier for place in places],
            self.scorer.metrics,
            self.probed_maps,
            distinct,
            self.scorer.controls,
            self._explain_again,
        )

    def examples(self) -> dict[int, Example]:
        """Return the kept maps by the index of their sample."""
        if not self._kept:
            return {}  # because probabilities may cost a forward
        kept = self._kept
        examples = make_examples(self.batch, self.samples, kept, self.maps, self.runner_up_maps)
        # Rounded as in a file, so that a run returns the same examples whether it was cut off or not.
        rounded = unpack_examples(pack_examples(examples))
        return {self.result.indices[i]: example for i, example in zip(kept, rounded, strict=True)}

    @property
    def _step(self) -> float:
        """The work of one step, in samples."""
        return len(self.samples) / len(self.scorer.steps)

    @property
    def _probed(self) -> list[int]:
        return [i for i, index in enumerate(self.result.indices) if index in self.scorer.probed]

    @property
    def _kept(self) -> list[int]:
        return [i for i, index in enumerate(self.result.indices) if index in self.scorer.kept]

    @property
    def _runner_up(self) -> Tensor:
        """The class with the highest score besides the explained one, (N,)."""
        return runner_up_classes(self.batch.outputs, self.batch.targets, self.scorer.scores)

    def _seeds(self, draw: str = "", rows: Sequence[int] | None = None) -> list[int]:
        suffix = f", {draw}" if draw else ""
        samples = self.samples if rows is None else [self.samples[row] for row in rows]
        return [name_seed(sample.identifier + suffix) for sample in samples]

    def _model_for(self, name: str) -> nn.Module:
        """Return the model that a method explains: a faster copy where it only perturbs the inputs."""
        return self.scorer.fast.exact if self.scorer.methods[name].only_perturbs else self.scorer.model

    def _explain_again(
        self,
        name: str,
        images: Tensor,
        *,
        targets: Tensor | None = None,
        model: nn.Module | None = None,
        rows: Sequence[int] | None = None,
        draw: str = "",
    ) -> Tensor:
        """Compute maps for a metric, see :class:`~captum_softcam.metrics.batch.Explain`."""
        if targets is None:
            targets = self.batch.targets if rows is None else self.batch.targets[list(rows)]
        run = self._model_for(name) if model is None else model
        explained = with_both_classes(run, self.batch.outputs, self.scorer.scores)
        return self.scorer.methods[name].explain(explained, images, targets, self._seeds(draw, rows))

    def _explain(self, place: int, name: str) -> tuple[Tensor, Tensor]:
        """Compute the maps of one method and their cost, and those of its layer; keep the maps of the examples."""
        explain, batch, count = self.scorer.methods[name].explain, self.batch, len(self.samples)
        seeds, run = self._seeds(), self._model_for(name)
        model = with_both_classes(run, batch.outputs, self.scorer.scores)
        # Following memory slows the CPU down, so that only the batch of the first sample is measured.
        with CostMeter(run, memory=self.scorer.first in self.result.indices) as meter:
            layer_maps = explain(model, batch.images, batch.targets, seeds, upsampled=False)
            maps = upsample(layer_maps, tuple(batch.images.shape[2:]))
        peak = np.nan if meter.peak_bytes is None else meter.peak_bytes
        self.result.costs[place] = meter.forwards / count, meter.backwards / count, meter.seconds / count, peak
        if kept := self._kept:
            self.maps[name] = maps[kept].float().cpu()
            if self.scorer.runner_up:
                # The seeds of the explained class, so that the maps of a random method differ by the class alone.
                runner_up_maps = explain(model, batch.images[kept], self._runner_up[kept], [seeds[i] for i in kept])
                self.runner_up_maps[name] = runner_up_maps.float().cpu()
        return maps, layer_maps

    def _attempt(self, method: str, metric: str, work: Callable[[], Any]) -> Any:
        """Return the result of ``work``; record its error and return None if it fails."""
        try:
            return work()
        except Exception as error:  # of any kind: methods and metrics can be functions of the user
            self.result.failures.append(Failure(method, metric, as_text(f"{type(error).__name__}: {error}")))
            return None

    def _measure(self, metric: Metric, explanation: Explanation, place: int, name: str) -> NDArray[Any]:
        """Return the scores (N,) of a metric; record the points of a curve, and why samples were refused."""
        scores = metric.measure(explanation)
        if isinstance(scores, Scored):
            for error in dict.fromkeys(scores.errors.values()):
                refused = [self.samples[i].identifier for i, each in scores.errors.items() if each == error]
                self.result.failures.append(Failure(name, metric.name, as_text(error), refused))
            scores = scores.scores
        if isinstance(scores, Curve):
            points = scores.points.double().cpu().numpy()
            empty = np.full((len(points), len(self.scorer.methods), points.shape[1]), np.nan)
            self.result.curves.setdefault(metric.name, empty)[:, place] = points
            self.result.fractions[metric.name] = scores.fractions.double().cpu().numpy()
            scores = scores.area
        if scores.shape != self.batch.targets.shape:
            raise ValueError(
                f"{named(metric.name)} gives {tuple(scores.shape)} for {len(self.samples)} samples; expected one score each."
            )
        return scores.double().cpu().numpy()


def _probing(probe: str) -> str:
    """Return the description of a probe in which progress is reported."""
    return f"health of the metrics: {probe.replace('_', ' ')}"


@torch.no_grad()
def make_batch(
    model: nn.Module,
    samples: Sequence[Sample],
    size: tuple[int, ...],
    normalize: Callable[[Tensor], Tensor],
    explain: Literal["true", "predicted"],
    seed: int = 0,
    *,
    scores: Scores = "softmax",
    randomised: RandomisedModels | None = None,
    pool: MosaicPool | None = None,
) -> tuple[Batch, float]:
    """Stack samples of one shape on the model's device, and run the model once on every image.

    Samples of one group share an image, which runs once. The seconds of that run per image are returned, too.

    Raises:
        ValueError: if samples of one group differ in their images, the model does not have a class, or does not return
            outputs (N, K) that have these scores.
    """
    device = device_of(model)
    places, distinct = _shared_images(samples)
    images = normalize(torch.stack(distinct).to(device))
    with CostMeter(model) as meter:
        outputs = model(images)
    score_table(outputs, len(images), scores)
    if len(distinct) < len(samples):
        images, outputs = images[places], outputs[places]
    for sample in samples:  # only now, because the number of classes is known from the outputs
        _check_class(sample, outputs, explain, scores)
    labels = torch.tensor([sample.target for sample in samples], device=device)
    masks = torch.stack([_mask(sample, size) for sample in samples]).to(device)
    targets = labels if explain == "true" else predicted_classes(outputs, scores)

    def black() -> Tensor:
        return normalize(torch.zeros_like(samples[0].image)[None].to(device))

    seeds = [name_seed(sample.identifier) for sample in samples]
    batch = Batch(
        *(model, images, targets, masks),
        outputs=outputs,
        seed=seed,
        scores=scores,
        randomised=randomised,
        black=black,
        seeds=seeds,
        mosaics=None if pool is None else partial(_mosaics, pool, samples, targets, seeds, seed),
    )
    return batch, meter.seconds / len(distinct)


def _mosaics(pool: MosaicPool, samples: Sequence[Sample], targets: Tensor, seeds: Sequence[int], seed: int) -> Mosaics:
    return pool.make(torch.stack([sample.image for sample in samples]).to(targets.device), targets, seeds, seed)


def _shared_images(samples: Sequence[Sample]) -> tuple[list[int], list[Tensor]]:
    """Return the distinct images of a batch, and the place of each sample's image among them."""
    first: dict[str | int, tuple[int, Sample]] = {}
    places = []
    for index, sample in enumerate(samples):
        key = index if sample.group is None else sample.group
        place, other = first.setdefault(key, (len(first), sample))
        if sample is not other and not _same_image(sample.image, other.image):  # it would get the scores of another image
            raise ValueError(
                f"samples '{shown(other.identifier)}' and '{shown(sample.identifier)}' are of the group "
                f"{quoted(sample.group)} and have different images; a group is one image, so give each image its own."
            )
        if (sample.labels, sample.undecided) != (other.labels, other.undecided):  # the first would decide for both
            raise ValueError(
                f"samples '{shown(other.identifier)}' and '{shown(sample.identifier)}' are of the group "
                f"{quoted(sample.group)} and have different labels; all samples of an image have all its labels."
            )
        places.append(place)
    return places, [sample.image for _, sample in first.values()]


def _same_image(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) or torch.equal(one.nan_to_num(), other.nan_to_num())  # NaN is not equal to itself


def make_examples(
    batch: Batch,
    samples: Sequence[Sample],
    places: Sequence[int],
    maps: Mapping[str, Tensor],
    runner_up_maps: Mapping[str, Tensor],
) -> list[Example]:
    """Return samples of a batch with their maps.

    Args:
        batch (Batch): that was explained.
        samples (sequence of Sample): all of its samples.
        places (sequence of int): of the samples that have maps.
        maps (mapping): by method, (len(places), 1, H, W).
        runner_up_maps (mapping): those of the runner-up, like ``maps``; empty where it was not explained.
    """
    probabilities = batch.probabilities.cpu()
    runner_up = runner_up_classes(batch.outputs, batch.targets, batch.scores).tolist() if runner_up_maps else None
    return [
        Example(
            sample=_with_bool_mask(samples[i], batch.masks[i]),
            target=int(batch.targets[i]),
            maps={name: each[j].float().cpu() for name, each in maps.items()},
            probabilities=probabilities[i],
            scores=kind_in_words(batch.scores),
            runner_up=None if runner_up is None else runner_up[i],
            runner_up_maps={name: each[j].float().cpu() for name, each in runner_up_maps.items()},
        )
        for j, i in enumerate(places)
    ]


def _with_bool_mask(sample: Sample, mask: Tensor) -> Sample:
    """Return the sample with ``mask`` in place of its own; a sample without a mask stays without one."""
    return sample if sample.mask is None else replace(sample, mask=mask.cpu())


def _check_class(sample: Sample, outputs: Tensor, explain: str, scores: Scores) -> None:
    if sample.target == UNKNOWN:
        if explain == "true":
            raise ValueError(
                f"sample '{shown(sample.identifier)}' has no class (target {UNKNOWN}); explain the predicted one by "
                "explain='predicted' (--explain predicted)."
            )
        return
    if not 0 <= sample.target < class_logits(outputs, scores).shape[1]:
        raise ValueError(
            f"sample '{shown(sample.identifier)}' has class {quoted(sample.target)}; {classes_of(outputs, scores)}."
        )


def _mask(sample: Sample, size: tuple[int, ...]) -> Tensor:
    """Return the mask as bool (1, ...): True above 0, for masks of 0 and 255 as for those of -1 and 1."""
    return torch.zeros(1, *size, dtype=torch.bool) if sample.mask is None else (sample.mask > 0).view(1, *size)
