"""The result of one batch: scores, curves, costs and errors of a few samples, in a file that is whole or absent."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from captum_softcam._files import replacing
from captum_softcam._names import shown
from captum_softcam.data import Sample
from captum_softcam.evaluation.example import Example, pack_examples, unpack_examples
from captum_softcam.evaluation.reader import Unreadable

__all__ = ["COSTS", "BatchResult", "Failure", "Judged", "fingerprint"]

Array = NDArray[Any]
Entry = TypeVar("Entry")

COSTS = ("forwards", "backwards", "seconds", "peak_bytes")
"""Measured costs of a method; per image, except for the memory."""

_DIGEST = hashlib.sha256().digest_size  # bytes at the end of a file


class Judged(NamedTuple):
    """What is needed of an image to judge a model class by class.

    Args:
        scores (list of float): one per class; only their order over the images counts.
        labels (list of int): the classes that the image shows.
        undecided (list of int): classes that count neither way.
        several (bool): whether the image may show several classes.
    """

    scores: list[float]
    labels: list[int]
    undecided: list[int]
    several: bool


@dataclass(frozen=True)
class Failure:
    """An error of a method, or of a metric on a method's maps, for all samples of a batch or some of them.

    Args:
        method (str): name of the method.
        metric (str): name of the metric; empty if the method itself failed.
        error (str): type and message, such as ``"ValueError: ..."``.
        identifiers (sequence of str): the samples that it concerns; empty for all of the batch. Default: ``()``
    """

    method: str
    metric: str
    error: str
    identifiers: Sequence[str] = ()


@dataclass(frozen=True)
class BatchResult:
    """Results of N samples under M methods and K metrics.

    Args:
        indices (tuple of int): positions of the samples in the data set.
        identifiers, groups, digests, labels, targets, predictions, masked (lists): one entry per sample; samples of one
            image have equal groups.
        judged (list): scores and labels of the image of every sample; None where it has one of several classes.
        scores (array): (N, M, K), NaN where undefined.
        costs (array): (M, 4), ``forwards, backwards, seconds, peak_bytes``; NaN where not measured.
        plain_seconds (float): time of a plain forward, per image.
        same (array): (N, M, 2), which methods give the same map, as :class:`SameMapsFinder` records it; None in results of
            earlier versions. Default: None
        curves (dict): points (N, M, S + 1) of each metric that draws a curve. Default: empty
        fractions (dict): positions of the points, (S + 1,), of each of these metrics. Default: empty
        failures (list of Failure): errors. Default: none
        probes (dict): scores (P, M, K) under the P probes of :data:`~captum_softcam.evaluation.probes.PROBES`, by the index
            of each probed sample. Default: none
        probe_errors (dict): the first error of each probe that has one. Default: none
        examples (dict): examples by the index of their sample. Default: none
        unreadable (list of Unreadable): further samples of the batch, which could not be read; not saved, because a resumed
            run tries them again. Default: none
        run (str): name of the run that the result belongs to. Default: empty
    """

    indices: tuple[int, ...]
    identifiers: list[str]
    groups: list[str]
    digests: list[str]
    labels: list[int]
    targets: list[int]
    predictions: list[int]
    masked: list[bool]
    judged: list[Judged | None]
    scores: Array
    costs: Array
    plain_seconds: float
    same: Array | None = None
    curves: dict[str, Array] = field(default_factory=dict)
    fractions: dict[str, Array] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    probes: dict[int, Array] = field(default_factory=dict)
    probe_errors: dict[str, str] = field(default_factory=dict)
    examples: dict[int, Example] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)
    run: str = ""

    @classmethod
    def of_nothing(cls, unreadable: list[Unreadable]) -> BatchResult:
        """Return the result of a batch of which no sample could be read."""
        return cls((), [], [], [], [], [], [], [], [], np.empty((0, 0, 0)), np.empty((0, 4)), np.nan, unreadable=unreadable)

    def moved(self, indices: dict[int, int]) -> BatchResult:
        """Return the result of some samples; ``indices`` maps their places in the batch to indices in the data set."""
        places = list(indices)
        return replace(
            self,
            indices=tuple(indices.values()),
            identifiers=[self.identifiers[place] for place in places],
            groups=[self.groups[place] for place in places],
            digests=[self.digests[place] for place in places],
            labels=[self.labels[place] for place in places],
            targets=[self.targets[place] for place in places],
            predictions=[self.predictions[place] for place in places],
            masked=[self.masked[place] for place in places],
            judged=[self.judged[place] for place in places],
            scores=self.scores[places],
            same=None if self.same is None else self.same[places],
            curves={name: points[places] for name, points in self.curves.items()},
            probes=self._moved(self.probes, indices),
            examples=self._moved(self.examples, indices),
            unreadable=[],
        )

    def _moved(self, entries: dict[int, Entry], indices: dict[int, int]) -> dict[int, Entry]:
        """Return the entries of some samples under their indices in the data set."""
        return {index: entries[self.indices[place]] for place, index in indices.items() if self.indices[place] in entries}

    def without(self, indices: Collection[int]) -> BatchResult:
        """Return the result of the samples whose indices in the data set are not among these."""
        return self.moved({place: index for place, index in enumerate(self.indices) if index not in indices})

    def save(self, path: Path) -> None:
        """Write the result to one file, which appears only when it is complete and on the disk."""
        arrays = {"scores": self.scores, "costs": self.costs, "record": np.frombuffer(self._record(), np.uint8)}
        arrays |= {} if self.same is None else {"same": self.same}
        arrays |= {f"curve {i}": points for i, points in enumerate(self.curves.values())}
        arrays |= {f"fractions {i}": places for i, places in enumerate(self.fractions.values())}
        arrays |= {"probes": np.stack(list(self.probes.values()))} if self.probes else {}
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **arrays, **pack_examples(list(self.examples.values())))
        with replacing(path) as file:
            file.write(content.getbuffer())
            file.write(hashlib.sha256(content.getbuffer()).digest())

    def _record(self) -> bytes:
        return json.dumps(
            {
                "run": self.run,
                "indices": self.indices,
                "identifiers": self.identifiers,
                "groups": self.groups,
                "digests": self.digests,
                "labels": self.labels,
                "targets": self.targets,
                "predictions": self.predictions,
                "masked": self.masked,
                "judged": self.judged,
                "plain_seconds": self.plain_seconds,
                "probed": list(self.probes),
                "probe_errors": self.probe_errors,
                "pictured": list(self.examples),
                "curves": list(self.curves),  # their arrays are numbered, because not every name is valid in a ZIP
                "fractions": list(self.fractions),
                "failures": [[each.method, each.metric, each.error, [*each.identifiers]] for each in self.failures],
            }
        ).encode()

    @classmethod
    def load(cls, path: Path, run: str | None = None) -> BatchResult:
        """Read a file written by :meth:`save`; images of examples are rounded to steps of 1/255, maps to float16.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is damaged, not a result, or of another run than ``run``.
        """
        data = path.read_bytes()
        content, digest = data[:-_DIGEST], data[-_DIGEST:]
        # The digest comes first: NumPy reads damaged archives, too, and returns other numbers.
        if hashlib.sha256(content).digest() != digest:
            raise ValueError(f"'{shown(path)}' holds no results of a comparison, or damaged ones; delete it, and resume.")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            result = _read(dict(file))
        if run not in (None, result.run):
            raise ValueError(f"'{shown(path)}' holds results of another run; take it out of this folder, and resume.")
        return result


def fingerprint(sample: Sample) -> str:
    """Return a digest of the image, classes, group and mask of a sample; equal only if all are equal bit by bit."""
    # int() first, because NumPy 2 writes its integers as "np.int64(1)".
    digest = hashlib.sha256(repr(int(sample.target)).encode())
    if sample.labels is not None or sample.group is not None:
        labels = None if sample.labels is None else list(map(int, sample.labels))
        digest.update(json.dumps([sample.group, labels, list(map(int, sample.undecided))]).encode())
    for tensor in (sample.image, sample.mask):
        if tensor is not None:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _read(arrays: dict[str, Array]) -> BatchResult:
    record = json.loads(bytes(arrays["record"]))
    failures = [Failure(*failure) for failure in record.pop("failures")]
    record["judged"] = [None if each is None else Judged(*each) for each in record["judged"]]
    examples = dict(zip(record.pop("pictured"), unpack_examples(arrays), strict=True))
    probed = record.pop("probed", [])
    named = {kind: record.pop(kind) for kind in ("curves", "fractions")}
    return BatchResult(
        **{**record, "indices": tuple(record["indices"])},
        scores=arrays["scores"],
        costs=arrays["costs"],
        same=arrays.get("same"),
        curves={name: arrays[f"curve {i}"] for i, name in enumerate(named["curves"])},
        fractions={name: arrays[f"fractions {i}"] for i, name in enumerate(named["fractions"])},
        failures=failures,
        probes=dict(zip(probed, arrays.get("probes", []), strict=True)),
        examples=examples,
    )
