"""Read the samples of a comparison one by one; one that cannot be read is named, and the others go on."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from captum_softcam._names import as_text, listed, named, reason
from captum_softcam.data import Sample, SampleSequence
from captum_softcam.data.samples import identifier_of

__all__ = [
    "SampleReader",
    "Unreadable",
    "checked",
    "count_samples",
    "refuse_misfits",
    "refuse_nothing",
    "unreadable_in_words",
    "warn_of_unreadable",
]

_SIGNAL = 2  # dimensions, channels first


@dataclass(frozen=True)
class Unreadable:
    """A sample that could not be read, or that does not fit the first one.

    Args:
        index (int): its position in the data set.
        identifier (str): its name if that is known without reading it, else its place, as in ``"sample 17"``.
        error (str): the reason.
        misfit (bool): whether it was read, and has another size or number of channels. Default: False
    """

    index: int
    identifier: str
    error: str
    misfit: bool = False


@dataclass(frozen=True)
class SampleReader:
    """Samples by index; in place of one that cannot be read, an :class:`Unreadable`.

    Errors of any type count, because a data set can be the user's own.

    Args:
        samples (SampleSequence): the samples themselves.
        strict (bool): raise the error instead. Default: False
        first (int): position of the first sample that can be read. Default: 0
        shape (tuple of int): of its image, which all images must have. Default: any
    """

    samples: SampleSequence
    strict: bool = False
    first: int = 0
    shape: tuple[int, ...] | None = None

    @classmethod
    def opened(cls, samples: SampleSequence, *, strict: bool) -> tuple[SampleReader, Sample]:
        """Return a reader of samples like the first one that can be read, and that sample.

        Raises:
            ValueError: if no sample can be read, or the image and the mask of the first one do not fit each other.
            TypeError: if it is not a ``Sample``.
        """
        reader, failed = cls(samples, strict), list[Unreadable]()
        for index in range(len(samples)):
            for sample in reader.readable([index], failed):
                sample = checked(sample, f"samples[{index}]")
                return cls(samples, strict, index, tuple(sample.image.shape)), sample
        refuse_nothing(failed)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample | Unreadable:
        sample: Any
        try:
            sample = self.samples[index]
        except Warning:  # raised where the user made errors of warnings
            raise
        except Exception as error:
            if self.strict:
                raise
            text = str(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"
            return Unreadable(index, as_text(identifier_of(self.samples, index)), as_text(text))
        if self.shape is None:
            return _refuse_other(sample, f"samples[{index}]")
        try:
            return checked(sample, f"samples[{index}]", self.shape)
        except (TypeError, ValueError) as error:
            if self.strict:
                raise
            name = sample.identifier if isinstance(sample, Sample) else identifier_of(self.samples, index)
            return Unreadable(index, as_text(name), as_text(str(error)), misfit=True)

    def readable(self, indices: Iterable[int], failed: list[Unreadable]) -> list[Sample]:
        """Return those of some samples that can be read, and append the others to ``failed``."""
        found = [self[index] for index in indices]
        failed += [each for each in found if isinstance(each, Unreadable)]
        return [each for each in found if not isinstance(each, Unreadable)]


def count_samples(samples: SampleSequence) -> int:
    """Return the number of samples; TypeError unless they have a length and an index that counts from 0."""
    if isinstance(samples, Mapping) or not (hasattr(samples, "__len__") and hasattr(samples, "__getitem__")):
        raise TypeError(
            f"samples are a {type(samples).__name__}, not a sequence; pass a list of Sample, or "
            "Samples.of(dataset), of a DataLoader Samples.of(loader.dataset)."
        )
    return len(samples)


def checked(sample: Any, where: str, shape: tuple[int, ...] | None = None) -> Sample:
    """Return a sample whose image and mask fit each other; without its mask if that shows nothing.

    Args:
        sample (Sample): to be checked.
        where (str): the place that it came from, for an error message.
        shape (tuple of int): of the first image, which this one must have. Default: any

    Raises:
        TypeError: if it is not a ``Sample``.
        ValueError: if the image is not a signal, an image or a volume, has another shape, or its mask has another size.
    """
    known = _with_names_in_text(_refuse_other(sample, where))
    _check_image(known, tuple(known.image.shape) if shape is None else shape)
    if known.mask is None:
        return known
    size = tuple(known.image.shape[1:])
    if tuple(known.mask.shape) not in ((1, *size), size):
        raise ValueError(
            f"the mask of sample '{named(known.identifier)}' is {tuple(known.mask.shape)}, its image {size} pixels; "
            f"expected {(1, *size)}."
        )
    # A black mask is how most data sets mark a healthy image.
    return known if (known.mask > 0).any() else replace(known, mask=None)


def _with_names_in_text(sample: Sample) -> Sample:
    """Return a sample whose names can be written to tables."""
    name, group = as_text(sample.identifier), None if sample.group is None else as_text(sample.group)
    return sample if (name, group) == (sample.identifier, sample.group) else replace(sample, identifier=name, group=group)


def _refuse_other(sample: Any, where: str) -> Sample:
    if not isinstance(sample, Sample):
        raise TypeError(
            f"{where} is a {type(sample).__name__}; expected a Sample, which Samples.of(dataset) makes of an image and its "
            "class."
        )
    return sample


def _check_image(sample: Sample, shape: tuple[int, ...]) -> None:
    name, found = named(sample.identifier), tuple(sample.image.shape)
    if len(found) < _SIGNAL:
        raise ValueError(
            f"the image of sample '{name}' is {found}; expected a signal (C, L), an image (C, H, W) or a volume."
        )
    if found[1:] != shape[1:]:
        raise ValueError(f"sample '{name}' is {found[1:]} pixels, the first one {shape[1:]}; resize them to one size.")
    if found[0] != shape[0]:
        raise ValueError(
            f"sample '{name}' has {found[0]} channels, another one {shape[0]}; convert all images to the same number."
        )


def refuse_misfits(fitting: int, unreadable: Sequence[Unreadable]) -> None:
    """Raise ValueError if more samples differ from the first one in size than are like it: a mistake, not a broken file."""
    misfits = [each for each in unreadable if each.misfit]
    if len(misfits) > fitting:
        raise ValueError(f"{len(misfits)} of {fitting + len(misfits)} samples do not fit the first one: {misfits[0].error}")


def refuse_nothing(failed: Sequence[Unreadable]) -> NoReturn:
    """Raise ValueError because no sample can be read."""
    first = failed[0]
    raise ValueError(f"none of the {len(failed)} samples can be read: {named(first.identifier)} ({reason(first.error)}).")


def unreadable_in_words(reasons: Mapping[str, str], total: int) -> str:
    """Return how many samples could not be read, with the first names and the first reason.

    Args:
        reasons (mapping): the reason for each sample, by its name; at least one.
        total (int): number of all samples.
    """
    first = reason(next(iter(reasons.values())))
    why = first if len(reasons) == 1 else f"the first: {first}"
    return f"{len(reasons)} of {total} samples could not be read: {listed(reasons)} ({why})."


def warn_of_unreadable(reasons: Mapping[str, str], total: int, stacklevel: int) -> None:
    """Warn of samples that could not be read, if there are any; level 2 is the caller of this function."""
    if reasons:
        warnings.warn(unreadable_in_words(reasons, total), stacklevel=stacklevel)
