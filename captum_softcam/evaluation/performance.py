"""How well a model tells classes apart where an image shows several: AUC and average precision of every class.

Top-1 accuracy has no meaning there. The areas are computed here and not by scikit-learn or torchmetrics: neither is a
dependency, and their intervals over a thousand resamples take minutes. The tests compare the values with scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_softcam._names import listed, quoted, shown
from captum_softcam._scores import Scores, as_scores, class_logits, score_table
from captum_softcam.data import Sample, SampleSequence
from captum_softcam.data.samples import UNKNOWN, group_of, groups_of
from captum_softcam.evaluation.costs import device_of
from captum_softcam.evaluation.reader import SampleReader, Unreadable, count_samples, refuse_misfits, warn_of_unreadable
from captum_softcam.evaluation.result import Judged
from captum_softcam.evaluation.statistics import ranking_intervals
from captum_softcam.softcam.scores import log_odds

if TYPE_CHECKING:
    from captum_softcam.softcam import Classifier

__all__ = ["PERFORMANCE", "check_classifier", "class_performance", "judge", "performance_table"]

_VALUES = ("auc", "auc_low", "auc_high", "average_precision", "average_precision_low", "average_precision_high")
PERFORMANCE = ("class", "shown", "absent", *_VALUES)
"""Columns of a table of performance."""

_MEAN = "mean"


def check_classifier(classifier: object) -> None:
    """Raise TypeError for a model alone, whose normalisation and kind of scores are not known."""
    if isinstance(classifier, nn.Module):
        raise TypeError(
            f"the classifier is a {type(classifier).__name__}; pass captum_softcam.softcam.Classifier(name, model, classes, "
            "image_size), with the mean and std that the model was trained with."
        )


def judge(samples: Sequence[Sample], outputs: Tensor, scores: Scores) -> list[Judged | None]:
    """Return scores and labels of the image of every sample; None where it has one of several classes.

    Args:
        samples (sequence of Sample): N samples.
        outputs (Tensor): of the model for their images, (N, K).
        scores (str or callable): how the outputs become scores.

    Raises:
        ValueError: if the model does not have a class that an image shows.
    """
    ranked = _ranked(outputs, scores)
    # A single logit tells class 1 from class 0, whether images have labels or not.
    single = outputs.shape[1] == 1 and scores == "sigmoid"
    return [
        _judged(sample, row) if sample.labels is not None or single else None
        for sample, row in zip(samples, ranked.tolist(), strict=True)
    ]


def _judged(sample: Sample, scores: list[float]) -> Judged:
    known = () if sample.target == UNKNOWN else (sample.target,)
    labels = known if sample.labels is None else sample.labels
    unknown = sample.labels is None and not known
    undecided = range(len(scores)) if unknown else sample.undecided
    if sample.labels is not None and known and sample.target not in sample.labels:
        raise ValueError(
            f"sample '{shown(sample.identifier)}' has the class {quoted(sample.target)}, which is not among the labels of "
            f"its image, {listed(sample.labels) or 'none'}; labels are all classes that the image shows."
        )
    wrong = [label for label in (*labels, *undecided) if not 0 <= label < len(scores)]
    if wrong:
        raise ValueError(
            f"the image of sample '{shown(sample.identifier)}' has the label {quoted(wrong[0])}; the model has "
            f"{len(scores)} classes, numbers 0 to {len(scores) - 1}."
        )
    return Judged(scores, list(map(int, labels)), list(map(int, undecided)), sample.labels is not None)


def _ranked(outputs: Tensor, scores: Scores) -> Tensor:
    """Return a table (N, K) in which the images have the order of their scores in every class."""
    if not isinstance(scores, str):
        return as_scores(outputs, scores).cpu().double()
    # Without softmax and sigmoid, which round large logits to equal probabilities. On the CPU, because Apple's GPUs lack
    # float64.
    outputs = outputs.cpu().double()
    return log_odds(outputs) if scores == "softmax" else class_logits(outputs, scores)


def performance_table(images: Iterable[Judged], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a row for every class, and last their means, with the columns :data:`PERFORMANCE`.

    Args:
        images (iterable of Judged): one per image, at least one.
        names (sequence of str): names of the classes. Default: their numbers
    """
    rows = list(images)
    scores = np.array([row.scores for row in rows])
    shows, unsure = (_members(entries, scores.shape) for entries in ([r.labels for r in rows], [r.undecided for r in rows]))
    found = ranking_intervals(scores, shows, ~unsure)
    known = ~unsure & np.isfinite(scores)
    counts = [(shows & known).sum(axis=0), (~shows & known).sum(axis=0)]
    each = np.concatenate([np.stack(counts, axis=1), found.auc, found.average_precision], axis=1)
    mean = np.concatenate([[np.nan, np.nan], found.mean_auc, found.mean_average_precision])
    table = pd.DataFrame(np.concatenate([each, mean[None]]), columns=list(PERFORMANCE[1:]))
    table.insert(0, "class", [*(map(str, range(len(each))) if names is None else names), _MEAN])
    return table


def _members(entries: Sequence[Sequence[int]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    table = np.zeros(shape, dtype=bool)
    for row, entry in zip(table, entries, strict=True):
        row[list(entry)] = True
    return table


@torch.no_grad()
def class_performance(
    classifier: Classifier, samples: SampleSequence, batch_size: int = 50, *, strict: bool = False
) -> pd.DataFrame:
    r"""Compute the AUC and the average precision of every class, for multi-label classifiers and single logits.

    .. math::

        \mathrm{AUC}_k = P(s_k(x^+) > s_k(x^-)) + \tfrac12 P(s_k(x^+) = s_k(x^-)), \qquad
        \mathrm{AP}_k = \sum_t (R_t - R_{t-1}) P_t

    over all pairs of an image :math:`x^+` that shows class k and one :math:`x^-` that does not; and over all thresholds t,
    the distinct scores from the highest, with recall :math:`R_t` and precision :math:`P_t`, without interpolation. Every
    image counts once, and not at all for its undecided classes. Images that show no class make no samples for a comparison,
    so that the absent are images of other classes; :meth:`~captum_softcam.data.LabelTableSamples.every_image` has the
    healthy ones, too. Samples that cannot be read are left out, with a warning.

    Cost: one forward per image, and 1000 resamples; 2 s for 1000 images and 20 classes.

    Args:
        classifier (Classifier): classifier in eval mode.
        samples (SampleSequence): images (3, H, W) in [0, 1] with their ``labels``; for a single logit, with their class.
        batch_size (int): images per forward. Default: 50
        strict (bool): raise the error of a sample that cannot be read. Default: False

    Returns:
        DataFrame: one row per class, and last the means over the classes that have a value, with the columns ``class``;
        ``shown`` and ``absent`` (images that show the class, and that do not); ``auc, auc_low, auc_high``; and
        ``average_precision, average_precision_low, average_precision_high``. Intervals are 95 % percentile intervals of the
        bootstrap over images; with few images of a class, that of its average precision lies too high. What is undefined is
        NaN.

    Raises:
        TypeError: if the samples have no length or index or are not ``Sample`` objects, or a model is passed without what a
            ``Classifier`` knows.
        ValueError: if there are no samples or none can be read, a sample of several classes has no ``labels``, the model
            does not have a class, or it does not return outputs (N, K).

    Example::

        >>> samples, model = VOCSamples("VOCdevkit/VOC2007"), torchvision.models.squeezenet1_1(num_classes=20).eval()
        >>> classifier = Classifier("mine", model, samples.classes, 224, (0, 0, 0), (1, 1, 1), scores="sigmoid")
        >>> class_performance(classifier, samples)["class"].tolist()[-3:]
        ['train', 'tvmonitor', 'mean']
    """
    if not count_samples(samples):
        raise ValueError("there are no samples to predict; pass at least one.")
    check_classifier(classifier)
    device, found = device_of(classifier.model), {}
    # Known groups spare reading an image again for each of its classes.
    groups = groups_of(samples) or list(map(str, range(len(samples))))
    first = sorted({name: index for index, name in reversed([*enumerate(groups)])}.values())
    reader, unreadable = SampleReader.opened(samples, strict=strict)[0], list[Unreadable]()
    for start in range(0, len(first), batch_size):
        batch = reader.readable(first[start : start + batch_size], unreadable)
        if not batch:
            continue
        outputs = classifier.model(classifier.normalize(torch.stack([sample.image for sample in batch]).to(device)))
        score_table(outputs, len(batch))
        # One logit has two classes, also in a classifier that does not say so.
        single = outputs.shape[1] == 1 and classifier.scores != "identity"
        scores = "sigmoid" if single else classifier.scores
        for sample, judged in zip(batch, judge(batch, outputs, scores), strict=True):
            if judged is None:
                raise ValueError(
                    f"sample '{shown(sample.identifier)}' has no labels, and the model {outputs.shape[1]} classes; pass all "
                    "classes of the image as labels, or measure the accuracy of its one class."
                )
            found[group_of(sample)] = judged
    refuse_misfits(len(found), unreadable)
    warn_of_unreadable({each.identifier: each.error for each in unreadable}, len(first), stacklevel=4)  # with no_grad
    names = classifier.classes if len(classifier.classes) == len(next(iter(found.values())).scores) else None
    return performance_table(found.values(), names)
