"""The results of the study of PASCAL VOC, gathered from the files of its steps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from study import Array, Interval, Results, Scores, interval
from torch import Tensor
from voc import (
    CHEAP,
    CLASSES,
    CONTROLS,
    FAITHFULNESS,
    FOLD,
    GRAD_CAM,
    GRID,
    KINDS,
    LEARNING_RATE,
    LOCALISATION,
    LOWER,
    NAME,
    NATIVE,
    PAIRS,
    POINTING,
    PRESENCE,
    SLOW,
    TOLERANCE,
    UNPENALISED,
    coarse,
)

if TYPE_CHECKING:
    from voc_steps import Study


def points(attribution: Tensor, size: tuple[int, int], boxes: Tensor) -> float:
    """Play the pointing game in the size of the photograph, as TorchRay does.

    Args:
        attribution (Tensor): (1, 224, 224).
        size (tuple of int): height and width of the photograph.
        boxes (Tensor): (B, 4) of the class, as left, top, right and bottom.
    """
    in_size = F.interpolate(attribution[None], size=list(size), mode="bilinear", align_corners=False)
    row, column = divmod(int(in_size.argmax()), size[1])
    # The last pixel of a box from 2 to 5 is 4.
    across = (boxes[:, 0] - column).maximum(column - (boxes[:, 2] - 1)).clamp(min=0)
    down = (boxes[:, 1] - row).maximum(row - (boxes[:, 3] - 1)).clamp(min=0)
    return float(torch.hypot(across, down).min() < TOLERANCE)


def average_precision(scores: Array, shown: NDArray[np.bool_]) -> float:
    """Compute the average precision of a class without interpolation; NaN if no image shows it.

    Args:
        scores (array): (N,), of which no two are equal.
        shown (array): whether the image shows the class, (N,).
    """
    if not shown.any():
        return float("nan")
    hits = shown[np.argsort(-scores)]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def influences(scores: Array, shown: NDArray[np.bool_], known: NDArray[np.bool_]) -> Array:
    """Write the average precision of each class, and last their mean, as a mean over images, (N, K + 1).

    An average precision is not a mean of values of images, as the intervals of a study need them. The value of an image is
    the average precision plus what the image changes (the jackknife's): their mean is the average precision, and their
    spread over images is its uncertainty.

    Args:
        scores (array): (N, K).
        shown (array): whether an image shows a class, (N, K).
        known (array): whether that is decided, (N, K).
    """
    columns = [_influence(*column) for column in zip(scores.T, shown.T, known.T, strict=True)]
    return np.stack([*columns, np.mean(columns, axis=0)], axis=1)


def _influence(scores: Array, shown: NDArray[np.bool_], known: NDArray[np.bool_]) -> Array:
    count = len(scores)
    without = np.empty(count)
    for i in range(count):
        kept = known & (np.arange(count) != i)
        without[i] = average_precision(scores[kept], shown[kept])
    return average_precision(scores[known], shown[known]) + (count - 1) * (without.mean() - without)


class Measured:
    """The values of all finished steps, by maps such as ``"black_box: grad_cam"`` and columns.

    Args:
        study (Study): whose steps are finished.
        chosen (str): penalty of the models ``"chosen_32"`` and ``"chosen_16"``.
    """

    def __init__(self, study: Study, chosen: str) -> None:
        self.study, self.chosen = study, chosen
        samples = study.test.samples
        places = range(len(samples))
        self.images = [str(group) for group in samples.groups or []]
        self.classes = [samples.classes.index(samples.identifier(i).split("/")[1]) for i in places]
        self.difficult = np.array([study.is_difficult(i) for i in places])
        self.compared: Scores = {}
        for name in ("post-hoc", "native", "penalised", "slow"):
            self.compared |= kept(study, f"compare-{name}")

    def of(self, row: str, column: str) -> Array | None:
        """Return values (seeds, samples), or None if the column was not measured for these maps."""
        kind, _, method = self._real(row).partition(": ")
        name = {"pointing_difficult": "pointing_15"}.get(column, column)
        if kind in CONTROLS and name not in FAITHFULNESS:
            values = self._step([f"maps-{kind}"], name).repeat(len(self.study.options.seeds), 0)
        elif method not in SLOW and name not in FAITHFULNESS:
            values = self._step([f"maps-{kind}-{method}-{seed}" for seed in self.study.options.seeds], name)
        else:
            kind, method = ("black_box", kind) if kind in CONTROLS else (kind, method)
            steps = [f"{kind}-{seed}: {method}: {name}" for seed in self.study.options.seeds]
            if any(step not in self.compared for step in steps):
                return None
            values = np.array([self.compared[step] for step in steps], dtype=float)
        return self._weighted(values, column) if column in ("pointing_15", "pointing_difficult") else values

    def _real(self, row: str) -> str:
        return row.replace("chosen_32", coarse(self.chosen))

    def _step(self, steps: Sequence[str], name: str) -> Array:
        return self.study.values(steps, name)

    def _weighted(self, values: Array, column: str) -> Array:
        """Weigh samples, so that their mean is the mean over classes of the means of each class."""
        counted = self.difficult if column == "pointing_difficult" else np.ones_like(self.difficult)
        classes = np.array(self.classes)
        counts = np.bincount(classes[counted], minlength=CLASSES)
        weights = counted.sum() / ((counts > 0).sum() * np.maximum(counts, 1)[classes])
        return np.where(counted, values * weights, np.nan)

    def interval(self, row: str, column: str) -> Interval | None:
        """Return the mean of a column over seeds and samples."""
        values = self.of(row, column)
        return None if values is None else interval(values, self.images[: values.shape[1]])

    def difference(self, pair: tuple[str, str], column: str) -> Interval | None:
        """Return the mean difference of two maps on the same samples, above 0 where the first is better."""
        first, second = (self.of(row, column) for row in pair)
        if first is None or second is None:
            return None
        count = min(first.shape[1], second.shape[1])
        values = (first[:, :count] - second[:, :count]) * (-1 if column in LOWER else 1)
        return interval(values, self.images[:count])

    def of_class(self, place: int, row: str, other: str | None = None) -> Interval:
        """Return the pointing game of a class, or its difference to that of other maps."""
        name = "pointing_15"
        values, less = (self._raw(each, name) if each else 0.0 for each in (row, other))
        inside = np.flatnonzero(np.array(self.classes) == place)
        return interval((values - less)[:, inside], [self.images[i] for i in inside])

    def _raw(self, row: str, name: str) -> Any:
        kind, _, method = self._real(row).partition(": ")
        return self._step([f"maps-{kind}-{method}-{seed}" for seed in self.study.options.seeds], name)


def gather(study: Study, weights: Mapping[str, tuple[float, float]]) -> Results:
    """Gather the results of all steps."""
    chosen = next(penalty for penalty in GRID if weights[penalty] == weights["chosen"])
    measured = Measured(study, chosen)
    results = Results(NAME, _settings(study, measured, weights, chosen))
    for row in _rows():
        for table, columns in (("localisation", [*POINTING, *LOCALISATION, "positive"]), ("faithfulness", FAITHFULNESS)):
            for column in columns:
                _add(results, table, row, column, measured.interval(row, column))
    for name, pair in PAIRS.items():
        for column in (*POINTING, *LOCALISATION, *FAITHFULNESS):
            _add(results, "differences", name, column, measured.difference(pair, column))
    _add_accuracy(results, study, measured)
    return results


def kept(study: Study, step: str) -> Scores:
    """Read the result of a finished step."""
    return dict(json.loads((study.folder / f"{step}.json").read_text()))


def _rows() -> list[str]:
    black_box = [f"black_box: {method}" for method in (*CHEAP, *SLOW)]
    return [*black_box, *(f"{kind}: {NATIVE}" for kind in KINDS if kind != "black_box"), *CONTROLS]


def _add(results: Results, table: str, row: str, column: str, found: Interval | None) -> None:
    if found is not None and np.isfinite(found.mean):
        results.add(table, row, column, found)


def _add_accuracy(results: Results, study: Study, measured: Measured) -> None:
    """Add average precision, sparsity, and both scores of each class."""
    found = {kind: _precisions(study, kind) for kind in KINDS}
    for kind, values in found.items():
        results.add("accuracy", kind, "map", interval(values[:, :, -1]))
        results.add("accuracy", kind, "sparsity", interval(study.values(_tests(study, kind), "sparsity")))
    for alias in (*KINDS, "chosen_32"):
        kind = alias.replace("chosen_32", coarse(measured.chosen))
        if kind != "black_box":
            results.add("accuracy_differences", alias, "map", interval((found[kind] - found["black_box"])[:, :, -1]))
    ours = found["chosen_16"]
    for place, name in enumerate(study.test.samples.classes):
        results.add("classes", name, "ap", interval(found["black_box"][:, :, place]))
        results.add("classes", name, "ap_gain", interval((ours - found["black_box"])[:, :, place]))
        results.add("classes", name, "pointing", measured.of_class(place, GRAD_CAM))
        results.add("classes", name, "pointing_gain", measured.of_class(place, f"chosen_16: {NATIVE}", GRAD_CAM))


def _tests(study: Study, kind: str) -> list[str]:
    return [f"test-{kind}-{seed}" for seed in study.options.seeds]


def _precisions(study: Study, kind: str) -> Array:
    """Return the influences (seeds, images, K + 1) on the average precision of a model."""
    shown, known = study.test.shown.numpy(), ~study.test.undecided.numpy()
    logits = [np.array(kept(study, step)["logits"]) for step in _tests(study, kind)]
    return np.stack([influences(each, shown, known) for each in logits])


def _settings(study: Study, measured: Measured, weights: Mapping[str, Any], chosen: str) -> Scores:
    """Return what the page says of the set-up."""
    options = study.options
    trials = [UNPENALISED, *(each for grid in GRID.values() for each in grid)]
    names = ["none", *("trial_{:g}_{:g}".format(*each) for each in trials[1:])]
    return {
        "seeds": len(options.seeds),
        "epochs": [options.base_epochs, options.epochs],
        "learning_rate": LEARNING_RATE,
        "presence": PRESENCE,
        "train": len(study.train.names),
        "held": len(study.train.names[::FOLD]),
        "images": len(set(measured.images)),
        "samples": len(measured.images),
        "difficult": int(measured.difficult.sum()),
        "faithful": options.faithful_samples,
        "slow": options.slow_samples,
        "chosen": chosen,
        "weights": weights,
        "trials": [
            [*each, kept(study, f"validation-{name}-{options.seeds[0]}")] for each, name in zip(trials, names, strict=True)
        ],
        "same": kept(study, "same"),
        "hours": study.hours,
    }
