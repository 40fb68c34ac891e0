"""Compare methods under metrics on samples; every map is computed once and shared by all metrics."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from captum_softcam._files import owned
from captum_softcam._names import as_text, listed, named, quoted, shown
from captum_softcam._scores import (
    Scores,
    check_kind,
    kind_in_words,
    predicted_classes,
    runner_up_classes,
    score_table,
)
from captum_softcam.data import Sample, SampleSequence
from captum_softcam.data.samples import UNKNOWN, groups_of
from captum_softcam.evaluation.assembly import assemble
from captum_softcam.evaluation.batch import BatchScorer, make_batch, make_examples
from captum_softcam.evaluation.checkpoint import Checkpoint, find_again, is_complete, refuse_duplicate, refuse_other
from captum_softcam.evaluation.checks import (
    check_choices,
    check_explain,
    check_layer,
    check_model,
    check_runner_up,
    check_scores,
    default_methods,
    default_metrics,
    find_methods,
    find_metrics,
    warn_of_flat_maps,
)
from captum_softcam.evaluation.comparison import Comparison
from captum_softcam.evaluation.controls import name_seed
from captum_softcam.evaluation.costs import device_of
from captum_softcam.evaluation.engine import Engine, LocalEngine
from captum_softcam.evaluation.example import Example
from captum_softcam.evaluation.fast_forward import Passes, check_passes
from captum_softcam.evaluation.mosaics import choose_pool
from captum_softcam.evaluation.one_logit import with_both_classes
from captum_softcam.evaluation.performance import check_classifier
from captum_softcam.evaluation.progress import ProgressBar
from captum_softcam.evaluation.reader import (
    SampleReader,
    Unreadable,
    checked,
    count_samples,
    refuse_misfits,
    refuse_nothing,
    warn_of_unreadable,
)
from captum_softcam.evaluation.result import BatchResult, fingerprint
from captum_softcam.metrics import METRICS, Metric, patches_of

if TYPE_CHECKING:
    from captum_softcam.softcam import Classifier

__all__ = ["accuracy", "compare_methods", "explain_sample"]

_TRIES = 4  # samples of a part that are searched for a mask, because each is read from the disk


def compare_methods(
    model: nn.Module,
    samples: SampleSequence,
    methods: Sequence[Any] | Mapping[str, Any] | None = None,
    metrics: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    layer: str | None = None,
    normalize: Callable[[Tensor], Tensor] | None = None,
    explain: Literal["true", "predicted"] = "true",
    scores: Scores = "softmax",
    baseline: str | None = None,
    perturb_baseline: str | Sequence[str] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    examples: int = 4,
    runner_up: bool = False,
    probes: int = 8,
    folder: str | Path | None = None,
    resume: bool = False,
    engine: Engine | None = None,
    notes: Mapping[str, Any] | None = None,
    passes: Passes = "fast",
    strict: bool = False,
    show_progress: bool = False,
) -> Comparison:
    """Compare attribution methods under the same metrics on the same samples.

    All methods get the same images, classes, resolution, baselines and random subsets. A score does not depend on the batch
    of its sample, except for rounding. The scores of a flat or non-finite map are undefined (NaN), as are localisation
    scores of samples without a mask. If a method or metric raises an error on a batch, the error is recorded in
    ``failures``, its scores are NaN, and the others go on. Neither does a sample end the run that cannot be read, or has
    another size than the first one: it has no scores, a row in ``failures``, and a warning names it.

    With a ``folder``, results are written batch by batch, and ``resume`` goes on with a run that was interrupted or in which
    samples could not be read, which are tried again. A resumed run must have the same model, methods, metrics, settings and
    package versions. Samples are matched by identifier and content: missing ones are left out, new and changed ones are
    scored, with a warning. A batch in which a sample is missing is scored as a whole, so that the scores are those of one
    run. If the comparison is complete, ``resume`` adds missing examples and changes no score.

    Samples of one image with different classes, as multi-label data sets have them, share a ``group``. They are scored in
    one batch as far as it holds them, and the image runs through the model once for all of them.

    Cost: per sample, the cost of every method and ``Metric.forwards`` for every method and metric, less the forwards that
    all methods share; one plain forward per image; and one forward of the first sample. For each of the ``probes`` samples,
    about 1.5 times as much again.

    Args:
        model (torch.nn.Module): in eval mode, images (N, C, H, W) -> outputs (N, K), which are logits unless ``scores`` says
            otherwise.
        samples (SampleSequence): a list of ``Sample`` or a data set, with images of one size and unique identifiers.
        methods (sequence or dict): names in ``METHODS`` and ``CONTROLS``, Captum attribution classes or instances, or
            functions of model, images and classes; the keys of a dict name them. Default: all that suit the model, except
            CAM and Score-CAM
        metrics (sequence or dict): names in ``METRICS``, also with a baseline as in ``"deletion@mean"``, instances of
            ``Metric``, or metrics of Quantus, as instances, classes or names such as ``"quantus:MaxSensitivity"``, see
            :func:`~captum_softcam.metrics.quantus_column`; the keys of a dict name them. Default: those with ``default``
            set, without localisation if no sample has a mask, and ``"quantus:Complexity"``
        layer (str): layer of layer methods; SoftCAM always uses the evidence. Default: the one that
            :func:`~captum_softcam.attr.suggest_layers` recommends (the backbone of a SoftCAM model)
        normalize (callable): turns images in [0, 1] into inputs of the model. Default: the images themselves
        explain (str): the class to explain, that of the sample (``"true"``) or the ``"predicted"`` one. Default: ``"true"``
        scores (str or callable): what the outputs of the model mean. ``"softmax"``: logits of classes of which an image has
            one. ``"sigmoid"``: logits of classes that each have a probability of their own; a single logit *s* has the
            classes 0 and 1 with the logits -s and s. ``"identity"``: values that are scores already, as in regression or
            with a softmax in the model. Or a function (N, K) -> (N, K). Default: ``"softmax"``
        baseline (str): the method that the others are compared with, sample by sample. Default: ``"grad_cam"`` if it is
            among the methods, else the first
        perturb_baseline (str or sequence of str): what replaces the removed parts of images: ``"blur"``, ``"mean"``,
            ``"black"``, ``"zero"``, ``"uniform"`` or ``"linear"``, see
            :func:`~captum_softcam.metrics.functional.as_baseline`. With several, each perturbation metric is a column for
            each, and :meth:`Comparison.rank_shifts` says how far the ranks of the methods move. Default: that of each
            metric, a blur for most
        batch_size (int): samples per batch. Default: 16
        seed (int): seed of the random subsets, which are the same for every method. Default: 0
        examples (int): number of samples whose maps are kept for figures, first those with a mask, balanced over classes.
            Default: 4
        runner_up (bool): keep maps of the runner-up class, too, at the cost of one more attribution per example.
            Default: False
        probes (int): number of samples on which the metrics themselves are probed, see :meth:`Comparison.health`; 0 switches
            the probes off. Default: 8
        folder (path): new folder for the results, see :meth:`Comparison.save`. Default: None, nothing is written
        resume (bool): go on with the comparison in ``folder``. Default: False
        engine (Engine): executes the batches: ``LocalEngine(workers)`` or ``RayEngine(address)``. Default: this process
        notes (mapping): further facts for the manifest, such as the sources of model and data; JSON. Default: none
        passes (str): how the forwards run that need no gradients, which are most of a comparison. ``"fast"``: in a private
            copy of the model with folded batch normalisations and channels last, which is checked against the model on every
            batch and changes no score beyond 1e-5; the model itself runs where the copy differs, or where it has hooks.
            ``"plain"``: always in the model itself. ``"bfloat16"``: those of the metrics in half precision, which pays off
            on hardware made for it and changes scores in the third digit. Default: ``"fast"``
        strict (bool): raise the error of a sample that cannot be read. Default: False
        show_progress (bool): show a progress bar. Default: False

    Returns:
        Comparison: scores per sample, costs, settings and examples.

    Raises:
        ValueError: if a name is unknown, a number is out of range, there are no samples or none can be read, more images or
            masks differ from the first in size than are like it, the model is in train mode, does not return outputs (N, K)
            with these ``scores`` or does not have a class, the layer has no spatial map, SoftCAM is compared on a model
            without evidence, every method fails on the first batch, or the folder is damaged, was started with other
            settings, or has none of the samples unchanged.
        TypeError: if the first sample is not a ``Sample``.
        FileExistsError: if the folder exists and ``resume`` is False.
        FileNotFoundError: if there is nothing to resume.
        BlockingIOError: if another process works in the folder.
        OSError: if the folder is not writable.

    Example::

        >>> samples, model = RetinalLesions("test", length=4), load_embedded().model
        >>> comparison = compare_methods(model, samples, ["soft_cam", "random"], ["deletion"])
        >>> comparison.methods, len(comparison.scores)
        (['soft_cam', 'random'], 8)
    """
    # All arguments are validated before a folder is created and before the first map, so that a mistake costs no time.
    check_model(model)
    check_passes(passes)
    check_choices(explain, batch_size, examples, seed, probes)
    normalize = normalize or _as_it_is
    if not count_samples(samples):
        raise ValueError("there are no samples to compare on; pass at least one.")
    reader, first = SampleReader.opened(samples, strict=strict)
    if metrics is None and resume and folder is not None:
        metrics = _metrics_of(Path(folder))
    measured = find_metrics(default_metrics(reader) if metrics is None else metrics, perturb_baseline)
    images = normalize(first.image[None].to(device_of(model)))
    outputs = check_scores(model, images, measured, scores, runner_up=runner_up)
    layer = check_layer(model, layer, images)
    scorer = BatchScorer(
        model=model,
        methods=find_methods(default_methods(model) if methods is None else methods, layer, model),
        metrics=tuple(measured),
        size=tuple(first.image.shape[1:]),
        normalize=normalize,
        explain=explain,
        seed=seed,
        kept=frozenset(_choose_examples(reader, examples)),
        runner_up=runner_up,
        scores=scores,
        first=reader.first,
        passes=passes,
        probed=frozenset(_choose_probes(reader, probes, masked=any(metric.needs_mask for metric in measured))),
    )
    baseline = None if baseline is None else as_text(baseline)  # as the names of the methods
    _refuse_unknown_baseline(baseline, scorer)
    fingerprints = _fingerprints(scorer, first.image.shape, outputs)
    if any(metric.needs_mosaics for metric in measured):
        pool, fingerprints["mosaic images"] = choose_pool(reader, model, normalize, scores)
        scorer = replace(scorer, pool=pool)
    manifest = {
        **_manifest(scorer, samples, fingerprints, outputs.shape[1], layer, baseline, dict(notes or {})),
        "batch_size": batch_size,
    }
    run = _Run(scorer, reader, groups_of(samples), batch_size, engine or LocalEngine(), show_progress)
    if folder is None:
        comparison = run.comparison(run.plan([]), manifest)
    elif resume and is_complete(Path(folder)):
        return _with_more_examples(Path(folder), run, manifest)
    else:
        with Checkpoint.opened(Path(folder), _settings(manifest), notes or {}, resume=resume) as checkpoint:
            plan = run.plan(checkpoint.results())
            comparison = run.comparison(plan, {**manifest, "run": checkpoint.run}, checkpoint.add)
            # In this order: after a kill in between, the folder can still be resumed.
            comparison.save(Path(folder))
            if not comparison.unreadable:  # else a resumed run goes on, and scores the files that were repaired
                checkpoint.close()
    warn_of_unreadable(comparison.unreadable, len(samples), stacklevel=3)
    return comparison


@dataclass(frozen=True)
class _Plan:
    """What a run has to do: results of an earlier one that stay, samples that cannot be read, and batches to score."""

    results: list[BatchResult]
    unreadable: list[Unreadable]
    batches: list[list[int]]


@dataclass(frozen=True)
class _Run:
    """The samples of a comparison and how they are scored."""

    scorer: BatchScorer
    samples: SampleReader
    groups: Sequence[str] | None
    batch_size: int
    engine: Engine
    show_progress: bool

    def plan(self, results: Sequence[BatchResult]) -> _Plan:
        """Match the results of a run that was cut off to the samples, and add the maps of examples that they lack.

        A batch in which a sample is missing is scored again as a whole: in a smaller batch, its scores would be rounded in
        another way than in a run without interruption.
        """
        workers = self.engine.workers if isinstance(self.engine, LocalEngine) else 0
        results, unreadable = find_again(results, self.samples, workers, self.show_progress)
        broken = {each.index for each in unreadable}
        done = {index for result in results for index in result.indices}
        whole = _batches(range(len(self.samples)), self.groups, self.batch_size)
        readable = [[index for index in batch if index not in broken] for batch in whole]
        batches = [batch for batch in readable if not done.issuperset(batch)]
        again = {index for batch in batches for index in batch}
        results = [kept for result in results if (kept := result.without(again)).indices]
        return _Plan(self._with_examples(results), unreadable, batches)

    def _with_examples(self, results: Sequence[BatchResult]) -> list[BatchResult]:
        """Return results with the examples to keep now."""
        kept = {i: result.examples.get(i) for result in results for i in result.indices if i in self.scorer.kept}
        kept |= self.examples([index for index, example in kept.items() if self.lacks(example)])
        found = {index: example for index, example in kept.items() if example is not None}
        return [replace(result, examples={i: found[i] for i in result.indices if i in found}) for result in results]

    def lacks(self, example: Example | None) -> bool:
        """Return whether maps of a sample are still to be computed."""
        return example is None or (self.scorer.runner_up and not example.runner_up_maps)

    def examples(self, indices: Sequence[int]) -> dict[int, Example]:
        """Compute the maps of samples, without any metric."""
        scorer = replace(self.scorer, metrics=(), kept=frozenset(indices), probed=frozenset())
        batches = _batches(indices, self.groups, self.batch_size)
        with self._bar("maps of examples", scorer, len(indices)) as bar:
            results = list(self._score(scorer, batches, bar))
        return {index: example for result in results for index, example in result.examples.items()}

    def comparison(
        self, plan: _Plan, manifest: dict[str, Any], keep: Callable[[BatchResult], None] = lambda _: None
    ) -> Comparison:
        """Score the batches of a plan, and assemble the comparison of all results.

        Args:
            plan (_Plan): the batches, and what is known already.
            manifest (dict): settings of the comparison.
            keep (callable): called with the result of each batch. Default: nothing

        Raises:
            ValueError: if no method works on the first batch, most samples differ from the first in size, or two samples
                have the same identifier.
        """
        results, unreadable = [*plan.results], [*plan.unreadable]
        count = sum(len(result.indices) for result in results)
        for result in self._missing(plan):
            keep(result)
            results.append(result)
            count += len(result.indices)
            unreadable += result.unreadable
            refuse_misfits(count, unreadable)
        if not count:
            refuse_nothing(unreadable)
        unreadable.sort(key=lambda each: each.index)
        names = [metric.name for metric in self.scorer.metrics]
        scored = [result for result in results if result.indices]
        return assemble(scored, list(self.scorer.methods), names, manifest, unreadable)

    def _missing(self, plan: _Plan) -> Iterator[BatchResult]:
        """Score the batches of a plan."""
        indices = {name: i for result in plan.results for i, name in zip(result.indices, result.identifiers, strict=True)}
        missing = sum(map(len, plan.batches))
        with self._bar("", self.scorer, len(self.samples), len(self.samples) - missing) as bar:
            for result in self._score(self.scorer, plan.batches, bar):
                if not indices:
                    _refuse_nothing_but_failures(result, self.scorer)
                for index, name in zip(result.indices, result.identifiers, strict=True):
                    refuse_duplicate(name, index, indices)
                yield result

    def _score(self, scorer: BatchScorer, batches: Sequence[Sequence[int]], bar: ProgressBar) -> Iterator[BatchResult]:
        def progress(text: str, count: float) -> None:
            bar.set_description_str(named(text), refresh=False)
            bar.advance(text, count)

        if batches:  # an engine without work would start a cluster for nothing
            yield from self.engine.run(scorer, self.samples, batches, progress)

    def _bar(self, text: str, scorer: BatchScorer, total: int, initial: int = 0) -> ProgressBar:
        return ProgressBar(text, total, initial, scorer.steps, shown=self.show_progress)


def _batches(indices: Sequence[int], groups: Sequence[str] | None, size: int) -> list[list[int]]:
    """Split the samples into batches of at most ``size``, in order, but with the samples of one image together.

    An image with more samples than ``size`` fills several batches.
    """
    together: dict[Any, list[int]] = defaultdict(list)
    for index in indices:
        together[index if groups is None else groups[index]].append(index)
    batches: list[list[int]] = []
    for members in together.values():
        if batches and len(batches[-1]) + len(members) <= size:
            batches[-1] += members
        else:
            batches += [members[start : start + size] for start in range(0, len(members), size)]
    return batches


def _with_more_examples(folder: Path, run: _Run, manifest: Mapping[str, Any]) -> Comparison:
    """Return a complete comparison with the examples to keep now; save it if any were missing."""
    comparison = Comparison.load(folder)
    refuse_other(folder, _settings(comparison.manifest), _settings(manifest))
    digests: dict[str, str] = dict(comparison.contents[["sample", "sha256"]].itertuples(index=False))
    examples = {example.sample.identifier: example for example in comparison.examples}
    wanted = {}
    for index in sorted(run.scorer.kept):
        sample = run.samples[index]
        if isinstance(sample, Unreadable):
            continue
        if digests.get(sample.identifier, "") == fingerprint(sample):
            wanted[index] = sample.identifier
        elif sample.identifier in digests:
            raise ValueError(
                f"sample {quoted(sample.identifier)} changed since it was scored, and cannot be shown beside its scores; "
                "bring it back, or compare anew in another folder."
            )
    missing = [index for index, name in wanted.items() if run.lacks(examples.get(name))]
    if not missing:
        return comparison
    with owned(folder):
        examples |= {wanted[index]: example for index, example in run.examples(missing).items()}
        order = dict.fromkeys((*wanted.values(), *examples))
        comparison = replace(comparison, examples=[examples[name] for name in order if name in examples])
        comparison.save(folder)
    return comparison


def _refuse_nothing_but_failures(result: BatchResult, scorer: BatchScorer) -> None:
    failed = [failure for failure in result.failures if not failure.metric]
    if len(failed) == len(scorer.methods):
        raise ValueError(f"every method failed on the first batch; {failed[0].method} with {failed[0].error}")


def _as_it_is(images: Tensor) -> Tensor:
    return images


def explain_sample(
    model: nn.Module,
    sample: Sample,
    methods: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    layer: str | None = None,
    normalize: Callable[[Tensor], Tensor] | None = None,
    explain: Literal["true", "predicted"] = "true",
    scores: Scores = "softmax",
    runner_up: bool = False,
) -> Example:
    """Compute the maps of one sample for one class by every method, without any metric.

    A flat map, of which all values are equal, is warned of, with the reason and the layer to use instead.

    Cost: that of each method, twice with ``runner_up``; one forward; and those of the suggested layer if none is named.

    Args:
        model (torch.nn.Module): in eval mode, images (N, C, H, W) -> outputs (N, K).
        sample (Sample): image, class and mask.
        methods (sequence or dict): as for :func:`compare_methods`. Default: all that suit the model, except CAM and
            Score-CAM
        layer (str): layer of layer methods; SoftCAM always uses the evidence. Default: the one that
            :func:`~captum_softcam.attr.suggest_layers` recommends (the backbone of a SoftCAM model)
        normalize (callable): turns images in [0, 1] into inputs of the model. Default: the images themselves
        explain (str): the class to explain, that of the sample (``"true"``) or the ``"predicted"`` one. Default: ``"true"``
        scores (str or callable): what the outputs of the model mean, as for :func:`compare_methods`. Default: ``"softmax"``
        runner_up (bool): compute the maps of the runner-up, too: the class with the highest score besides the explained one.
            Default: False

    Returns:
        Example: maps (1, H, W) by method, signed, on the CPU, and the scores of all classes; ready for
        :func:`captum_softcam.report.plot_panel`.

    Raises:
        ValueError: if a name is unknown or used twice, the mask differs from the image in size, the model is in train mode
            or does not have the class, the layer has no spatial map, SoftCAM is used on a model without evidence, or the
            runner-up of a regression is asked for, which has none. Errors of a method are not caught.
        TypeError: if a method is not a method, or does not return a tensor.
    """
    check_model(model)
    check_kind(scores)
    check_explain(explain)
    sample = checked(sample, "the sample")
    batch, _ = make_batch(model, [sample], tuple(sample.image.shape[1:]), normalize or _as_it_is, explain, scores=scores)
    if runner_up:
        check_runner_up(batch.outputs, scores)
    layer = check_layer(model, layer, batch.images)
    explainers = find_methods(default_methods(model) if methods is None else methods, layer, model)
    seeds = [name_seed(sample.identifier)]
    explained = with_both_classes(model, batch.outputs, scores)

    def explain_by_all(classes: Tensor) -> dict[str, Tensor]:
        return {name: each.explain(explained, batch.images, classes, seeds) for name, each in explainers.items()}

    maps = explain_by_all(batch.targets)
    warn_of_flat_maps(model, batch.images, maps, explainers)
    others = explain_by_all(runner_up_classes(batch.outputs, batch.targets, scores)) if runner_up else {}
    return make_examples(batch, [sample], [0], maps, others)[0]


@torch.no_grad()
def accuracy(
    classifier: Classifier, samples: SampleSequence, batch_size: int = 50, *, strict: bool = False
) -> tuple[float, float, float]:
    """Return the fraction of ``samples`` that a classifier predicts correctly, with its 95 % Wilson interval.

    The class with the highest score is predicted; a single logit predicts class 1 above 0, else class 0. Where images show
    several classes, use :func:`class_performance`. Samples that cannot be read are left out, with a warning.

    Cost: one forward per sample.

    Args:
        classifier (Classifier): classifier in eval mode.
        samples (SampleSequence): images (3, H, W) in [0, 1] with their classes.
        batch_size (int): images per forward. Default: 50
        strict (bool): raise the error of a sample that cannot be read. Default: False

    Returns:
        tuple of float: accuracy, lower and upper end of its interval, in [0, 1].

    Raises:
        TypeError: if the samples have no length or index or are not ``Sample`` objects, or a model is passed without what a
            ``Classifier`` knows.
        ValueError: if there are no samples or none can be read, a sample has no class, the model does not return outputs
            (N, K), or it returns a single value that is no logit (``classifier.scores`` is ``"identity"``).
    """
    if not count_samples(samples):
        raise ValueError("there are no samples to predict; pass at least one.")
    check_classifier(classifier)
    correct, device = 0, device_of(classifier.model)
    reader, unreadable = SampleReader.opened(samples, strict=strict)[0], list[Unreadable]()
    for start in range(0, len(samples), batch_size):
        batch = reader.readable(range(start, min(start + batch_size, len(samples))), unreadable)
        if not batch:
            continue
        for sample in batch:
            if sample.target == UNKNOWN:  # it would count as wrong
                raise ValueError(f"sample '{shown(sample.identifier)}' has no class (target {UNKNOWN}); leave it out.")
        images = torch.stack([sample.image for sample in batch]).to(device)
        logits = classifier.model(classifier.normalize(images))
        score_table(logits, len(batch))
        if logits.shape[1] == 1 and classifier.scores == "identity":
            raise ValueError(
                "the model gives a single value and predicts no class, so it has no accuracy; compare the values."
            )
        # One logit has two classes, also in a classifier that does not say so.
        predicted = predicted_classes(logits, classifier.scores if logits.shape[1] > 1 else "sigmoid")
        labels = torch.tensor([sample.target for sample in batch], device=predicted.device)
        correct += int((predicted == labels).sum())
    count = len(samples) - len(unreadable)
    refuse_misfits(count, unreadable)
    warn_of_unreadable({each.identifier: each.error for each in unreadable}, len(samples), stacklevel=4)  # with no_grad
    # Wilson's, because the normal interval has no width at accuracies of 0 and 1.
    interval = binomtest(correct, count).proportion_ci(method="wilson")
    return correct / count, float(interval.low), float(interval.high)


def _choose_examples(samples: SampleReader, count: int) -> list[int]:
    """Return indices of the first samples, those with a mask before the others, each one class after the other."""
    by_class: dict[bool, dict[int, list[int]]] = {True: defaultdict(list), False: defaultdict(list)}
    # Only the first samples are searched, because each is read from the disk.
    for i in range(min(len(samples), max(4 * count, 64)) if count else 0):
        sample = samples[i]
        if not isinstance(sample, Unreadable):
            by_class[sample.mask is not None][sample.target].append(i)
    turns = [
        queue[i] for masked in (True, False) for i in range(count) for queue in by_class[masked].values() if i < len(queue)
    ]
    return turns[:count]


def _choose_probes(samples: SampleReader, count: int, *, masked: bool) -> list[int]:
    """Return the indices of samples spread evenly over the data set, one from each of ``count`` parts of equal length.

    The place within a part is drawn, because every k-th sample may be of the same class. If metrics need masks, a sample
    with a mask is preferred, of the first few that are drawn.
    """
    # A sample far ahead that cannot be read ends a strict run when it is scored, not before the first batch.
    samples, total, chosen = replace(samples, strict=False), len(samples), []
    count = min(count, total)
    generator = random.Random(0)  # of its own: the same samples for every seed, batch size and engine
    for part in range(count):
        places = range(part * total // count, (part + 1) * total // count)
        drawn = generator.sample(places, min(len(places), _TRIES if masked else 1))
        with_mask = (i for i in drawn if isinstance(sample := samples[i], Sample) and sample.mask is not None)
        chosen.append(next(with_mask, drawn[0]) if masked else drawn[0])
    return chosen


def _refuse_unknown_baseline(baseline: str | None, scorer: BatchScorer) -> None:
    if baseline is not None and baseline not in scorer.methods:
        raise ValueError(f"the baseline '{named(baseline)}' does not take part; the methods are {listed(scorer.methods)}.")


def _manifest(
    scorer: BatchScorer,
    samples: SampleSequence,
    fingerprints: dict[str, str],
    outputs: int,
    layer: str | None,
    baseline: str | None,
    notes: dict[str, Any],
) -> dict[str, Any]:
    """Return the settings that reproduce the comparison."""
    packages = ("captum-softcam", "captum", "quantus", "torch", "torchvision", "numpy")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "seed": scorer.seed,
        "passes": scorer.passes,
        "model": type(scorer.model).__name__,
        "device": str(device_of(scorer.model)),
        "layer": layer,
        "samples": len(samples),
        "image_size": list(scorer.size),
        "explained_class": scorer.explain,
        "scores": kind_in_words(scorer.scores),
        "outputs": outputs,
        "baseline": baseline or ("grad_cam" if "grad_cam" in scorer.methods else next(iter(scorer.methods))),
        "patches": patches_of(scorer.size),
        "methods": {name: method.description for name, method in scorer.methods.items()},
        "metrics": {metric.name: _description(metric) for metric in scorer.metrics},
        "fingerprints": fingerprints,
        **notes,
    }


def _metrics_of(folder: Path) -> list[str] | None:
    """Return the metrics that a run was started with, if all are known by name: those of its data may be others by now."""
    names = list(Comparison.load(folder).metrics if is_complete(folder) else Checkpoint.read(folder)["settings"]["metrics"])
    ours = {name.partition("@")[0] for name in names if not name.startswith("quantus:")}
    return names if METRICS.keys() >= ours else None


def _description(metric: Metric) -> dict[str, Any]:
    """Return the description of a metric for tables and reports."""
    return {
        "title": metric.title,
        "category": metric.category,
        "higher_is_better": metric.higher_is_better,
        "forwards": metric.forwards,
        "attributions": metric.attributions,
        "reads": metric.reads,
        "origin": metric.origin,
        "needs_mask": metric.needs_mask,
        "note": metric.note,
        "source": metric.source,
        "settings": dict(metric.settings),
    }


def _settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a resumed run must share with the interrupted one, as JSON returns them."""
    # Batch size, device and number of examples may differ, because they change no score; samples are matched one by one.
    names = ("seed", "layer", "image_size", "explained_class", "patches", "methods", "metrics")
    # Without local labels such as "+cpu": builds of one version differ in rounding only.
    versions = {name: text.partition("+")[0] for name, text in manifest.get("versions", {}).items() if name != "python"}
    # Comparisons of earlier versions took the softmax and did not record it.
    settings = {name: manifest.get(name) for name in names} | {"scores": manifest.get("scores", "softmax")}
    settings |= {**manifest.get("fingerprints", {}), **versions}
    # The other two give the same scores up to rounding, and earlier versions knew one alone.
    settings |= {"passes": "bfloat16"} if manifest.get("passes") == "bfloat16" else {}
    return dict(json.loads(json.dumps(settings)))


@torch.no_grad()
def _fingerprints(scorer: BatchScorer, shape: Sequence[int], outputs: Tensor) -> dict[str, str]:
    """Return fingerprints of the model, by its weights, and of functions, by their values for a fixed image or outputs."""
    # A function has no digest, and its name does not tell its constants; its values do, here in six digits.
    ramp = torch.linspace(0, 1, math.prod(shape), device=device_of(scorer.model)).view(1, *shape)
    found = {"weights": _digest(scorer.model), "normalisation": _moments(scorer.normalize(ramp))}
    if not isinstance(scorer.scores, str):
        ramp = torch.linspace(-20, 20, 64 * outputs.shape[1]).view(64, -1).to(outputs)
        # The function may be undefined for some of these outputs, such as a logarithm.
        found["values of scores"] = _moments(scorer.scores(ramp).double().nan_to_num())
    return found


def _moments(values: Tensor) -> str:
    return f"mean {values.double().mean():.6g}, square {values.double().square().mean():.6g}"


@torch.no_grad()
def _digest(model: nn.Module) -> str:
    """Return a digest of the model's weights and buffers."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        # Bytes, because NumPy has no bfloat16; flattened before, because torch cannot view a scalar as a smaller type.
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
