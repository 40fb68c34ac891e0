"""What one unit of work leaves: scores, curves, costs and errors of a few samples, in a file that is whole or absent."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from captum_softcam._files import replacing
from captum_softcam._names import shown
from captum_softcam.data import Sample
from captum_softcam.evaluation.example import Example, pack_examples, unpack_examples

__all__ = ["COSTS", "Failure", "Part", "fingerprint"]

Array = NDArray[Any]

COSTS = ("forwards", "backwards", "seconds", "peak_bytes")
"""What is measured of a method, per image but for the memory."""

_DIGEST = hashlib.sha256().digest_size  # bytes at the end of a file


@dataclass(frozen=True)
class Failure:
    """An error of a method, or of a metric on a method's maps, that concerns all samples of a part.

    Args:
        method (str): its name.
        metric (str): its name; empty where the method itself failed.
        error (str): kind and message, such as ``"ValueError: ..."``.
    """

    method: str
    metric: str
    error: str


@dataclass(frozen=True)
class Part:
    """Results of N samples under M methods and K metrics.

    Args:
        indices (tuple of int): places of the samples in the data set.
        identifiers, digests, labels, targets, predictions, masked (lists): one entry per sample.
        scores (array): (N, M, K), NaN where undefined.
        curves (dict): points (N, M, S + 1) of each metric that draws a curve.
        fractions (dict): their places, (S + 1,).
        costs (array): (M, 4), ``forwards, backwards, seconds, peak_bytes``; NaN where it was not measured.
        plain_seconds (float): of a plain forward, per image.
        failures (list of Failure): errors.
        examples (dict): examples by the place of their sample.
        run (str): the name of the run that it belongs to.
    """

    indices: tuple[int, ...]
    identifiers: list[str]
    digests: list[str]
    labels: list[int]
    targets: list[int]
    predictions: list[int]
    masked: list[bool]
    scores: Array
    curves: dict[str, Array]
    fractions: dict[str, Array]
    costs: Array
    plain_seconds: float
    failures: list[Failure] = field(default_factory=list)
    examples: dict[int, Example] = field(default_factory=dict)
    run: str = ""

    def only(self, places: Sequence[int], indices: Sequence[int] | None = None) -> Part:
        """The same for some of the samples.

        Args:
            places (sequence of int): where they stand in this part, from 0.
            indices (sequence of int): their places in the data set, where these have shifted. Default: as they were

        Returns:
            Part: of these samples, in this order; fractions, costs and failures as they are.
        """
        before = [self.indices[place] for place in places]
        now = dict(zip(before, before if indices is None else indices, strict=True))
        return replace(
            self,
            indices=tuple(now.values()),
            identifiers=[self.identifiers[place] for place in places],
            digests=[self.digests[place] for place in places],
            labels=[self.labels[place] for place in places],
            targets=[self.targets[place] for place in places],
            predictions=[self.predictions[place] for place in places],
            masked=[self.masked[place] for place in places],
            scores=self.scores[list(places)],
            curves={name: points[list(places)] for name, points in self.curves.items()},
            examples={now[index]: example for index, example in self.examples.items() if index in now},
        )

    def save(self, path: Path) -> None:
        """Write the part as one file, which appears under its name only when it is whole and on the disk.

        Args:
            path (Path): the file; one that exists is replaced.

        Raises:
            OSError: if the disk is full or the folder cannot be written to; nothing is left behind then.
        """
        arrays = {"scores": self.scores, "costs": self.costs, "record": np.frombuffer(self._record(), np.uint8)}
        arrays |= {f"curve {i}": points for i, points in enumerate(self.curves.values())}
        arrays |= {f"fractions {i}": places for i, places in enumerate(self.fractions.values())}
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
                "digests": self.digests,
                "labels": self.labels,
                "targets": self.targets,
                "predictions": self.predictions,
                "masked": self.masked,
                "plain_seconds": self.plain_seconds,
                "pictured": list(self.examples),
                "curves": list(self.curves),  # by number in the file, because a ZIP cannot name its parts at will
                "fractions": list(self.fractions),
                "failures": [[failure.method, failure.metric, failure.error] for failure in self.failures],
            }
        ).encode()

    @classmethod
    def load(cls, path: Path, run: str | None = None) -> Part:
        """Read what :meth:`save` wrote.

        Args:
            path (Path): the file.
            run (str): the name of the run that it must belong to. Default: any

        Returns:
            Part: with examples as the file keeps them, images in steps of 1/255 and maps of float16.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged, not one of ours, or of another run.
        """
        data = path.read_bytes()
        content, digest = data[:-_DIGEST], data[-_DIGEST:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError(f"'{shown(path)}' holds no results of a comparison, or damaged ones; delete it, and resume.")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            part = _read(dict(file))
        if run not in (None, part.run):
            raise ValueError(f"'{shown(path)}' holds results of another run; take it out of this folder, and resume.")
        return part


def fingerprint(sample: Sample) -> str:
    """A digest of what a sample holds: its image, its class and its mask.

    Args:
        sample (Sample): any sample.

    Returns:
        str: 32 hexadecimal digits; equal where all three are equal to the bit.
    """
    digest = hashlib.sha256(repr(int(sample.target)).encode())
    for part in (sample.image, sample.mask):
        if part is not None:
            digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _read(arrays: dict[str, Array]) -> Part:
    record = json.loads(bytes(arrays["record"]))
    failures = [Failure(*failure) for failure in record.pop("failures")]
    examples = dict(zip(record.pop("pictured"), unpack_examples(arrays), strict=True))
    named = {kind: record.pop(kind) for kind in ("curves", "fractions")}
    return Part(
        **{**record, "indices": tuple(record["indices"])},
        scores=arrays["scores"],
        costs=arrays["costs"],
        curves={name: arrays[f"curve {i}"] for i, name in enumerate(named["curves"])},
        fractions={name: arrays[f"fractions {i}"] for i, name in enumerate(named["fractions"])},
        failures=failures,
        examples=examples,
    )
