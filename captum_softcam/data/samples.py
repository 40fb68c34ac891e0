"""Samples with masks, and the base class of the readers that make them from files."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset

from captum_softcam._fit import Fit
from captum_softcam._names import closest, quoted, shown
from captum_softcam.data._pixels.images import Reading, read_image
from captum_softcam.data._pixels.masks import MaskFiles
from captum_softcam.data.inventory import Found, Inventory, Item, look

__all__ = [
    "UNKNOWN",
    "ImageEntry",
    "MaskedImages",
    "Sample",
    "SampleSequence",
    "class_number",
    "class_numbers",
    "group_of",
    "groups_of",
    "identifier_of",
    "of_parts",
]


_SEVERAL = -1

_Entry = TypeVar("_Entry")

UNKNOWN = -1
"""Target of a sample whose class is not known."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A labelled image with the region that makes it belong to its class.

    The mask is part of the sample, so that localisation metrics need no second source. Samples compare by identity, because
    tensors have no single truth value. ``torch.utils.data.default_collate`` does not support this class: pass a
    ``collate_fn`` that stacks the fields you need to a ``DataLoader``.

    Args:
        image (Tensor): The image, (3, H, W), float32 in [0, 1].
        target (int): The index of the class; -1 if it is unknown, which needs ``explain="predicted"`` of a comparison.
        mask (Tensor or None): True where the evidence for the class lies, (1, H, W), bool; None where there is
            nothing to localise, as in a healthy image.
        identifier (str): A name that is unique in the data set, for tables and file names.
        group (str or None): The name of the image, shared by the samples that show the same image with different classes;
            such samples are passed through the model once and count as one in confidence intervals. None if no other sample
            has this image. Default: None
        labels (tuple of int or None): All classes that the image shows, ``target`` among them, in a multi-label data set;
            None where an image has one class. Default: None
        undecided (tuple of int): Classes that the image may or may not show; they count neither for nor against a
            multi-label classifier. Default: none

    Example::

        >>> sample = Sample(torch.zeros(3, 8, 8), 0, None, "blank-000000")
        >>> sample.image.shape, sample.mask
        (torch.Size([3, 8, 8]), None)
    """

    image: Tensor
    target: int
    mask: Tensor | None
    identifier: str
    group: str | None = None
    labels: tuple[int, ...] | None = None
    undecided: tuple[int, ...] = ()

    def __repr__(self) -> str:
        shapes = [
            f"{name}={tuple(each.shape)}" for name, each in (("image", self.image), ("mask", self.mask)) if each is not None
        ]
        optional = {"group": self.group, "labels": self.labels, "undecided": self.undecided or None}
        more = [f"{name}={quoted(value)}" for name, value in optional.items() if value is not None]
        return f"Sample({', '.join([quoted(self.identifier), f'target={self.target}', *shapes, *more])})"


class SampleSequence(Protocol):
    """Anything with a length that returns a sample by its index: a list, a data set of this package, a ``Subset`` of one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class NamedSamples(Dataset[Sample], ABC):
    """Samples whose names are known without reading them."""

    @property
    @abstractmethod
    def groups(self) -> list[str] | None:
        """Names of the images of all samples, in their order, without reading a file; samples of one image share a name."""

    @abstractmethod
    def identifier(self, index: int) -> str:
        """Return the identifier of a sample without reading it."""


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """A sample that has not been read yet.

    Args:
        file (path): The image.
        target (int): The index of the class.
        identifier (str): A name that is unique in the data set.
        mask (callable or None): From the image (3, H, W) in its own size to its mask (1, H, W), bool, all False if it
            turns out that there is nothing to localise; None where that is known. Default: None
        group (str or None): as for :class:`Sample`. Default: None
        labels (tuple of int or None): as for :class:`Sample`. Default: None
        undecided (tuple of int): as for :class:`Sample`. Default: none

    Example::

        >>> ImageEntry(Path("a.png"), 0, "a", lambda image: image[:1] > 0.5).target
        0
    """

    file: Path
    target: int
    identifier: str
    mask: Callable[[Tensor], Tensor] | None = None
    group: str | None = None
    labels: tuple[int, ...] | None = None
    undecided: tuple[int, ...] = ()


class MaskedImages(NamedSamples):
    """Image files with masks, made square: the base class of all readers, and of your own.

    A mask is computed in the image's own size, and follows the image to the square by max pooling, so that small regions
    survive. Where the whole region is cut off with the margin of the image, the sample has nothing to localise: its mask is
    None, and a warning names it. Samples alternate between the classes, so that the first few are a balanced choice.

    Args:
        entries (iterable of ImageEntry): the samples; those of one class keep their order.
        classes (sequence of str): names in the order of the model's logits.
        size (int): side of the samples in pixels. Default: 224
        fit (Fit): how images become square. Default: they are resized as a whole
        reading (Reading): how the files are read. Default: as they are
        found (Found): what the reader saw, the files that it leaves out among them. Default: the files of the entries

    Raises:
        ValueError: if there are no entries, two of them have the same identifier, or ``size`` is not positive. Reading a
            sample raises it for an unreadable image.

    Example::

        >>> samples = MaskedImages([ImageEntry(Path("a.png"), 0, "a")], ["cat"])
        >>> samples[0].image.shape, samples.masked
        (torch.Size([3, 224, 224]), 0)
    """

    def __init__(
        self,
        entries: Iterable[ImageEntry],
        classes: Sequence[str],
        size: int = 224,
        fit: Fit = Fit(),
        reading: Reading = Reading(),
        found: Found | None = None,
    ) -> None:
        check_size(size)
        self.classes = tuple(classes)
        self.size = size
        self.fit = fit
        self.reading = reading
        self._entries = _alternating(entries)
        self._black: set[int] = set()  # places of entries whose mask files show nothing, once they were looked at
        if not self._entries:
            raise ValueError("there are no samples; pass at least one entry.")
        identifier, count = Counter(entry.identifier for entry in self._entries).most_common(1)[0]
        if count > 1:  # scores are stored and resumed by identifier
            raise ValueError(f"{count} samples are called '{shown(identifier)}'; give each a name of its own.")
        self.found = Found(len({entry.file for entry in self._entries})) if found is None else found

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self._entries[index]
        image = read_image(entry.file, reading=self.reading)
        mask = None if entry.mask is None else entry.mask(image)
        names = (entry.identifier, entry.group, entry.labels, entry.undecided)
        return made_square(Sample(image, entry.target, mask, *names), self.size, self.fit)

    @property
    def masked(self) -> int:
        """Number of samples that have a mask; black ones count until :meth:`inspect` has looked at them."""
        return sum(map(self.has_mask, range(len(self))))

    def has_mask(self, index: int) -> bool:
        """Check whether a sample has a mask in its own image, whose region may lie in a margin that is cut off.

        Cost: no file is read. Black masks count until :meth:`inspect` has looked at them.

        Args:
            index (int): of the sample.

        Returns:
            bool: True if it has.
        """
        return self._entries[index].mask is not None and index not in self._black

    def inspect(self, count: int | None = None, *, show_progress: bool = False) -> Inventory:
        """Look at the header of every image and read every mask file, to know before a run what cannot be used.

        Masks that are drawn from annotations are not made. Images whose header is whole may still be cut off behind it;
        reading such a sample raises an error.

        Cost: 2,000 small images take a fraction of a second, 2,000 masks about as long as reading them as samples does.

        Args:
            count (int): number of samples, the first ones. Default: all
            show_progress (bool): show a progress bar on stderr if it takes more than a second. Default: False

        Returns:
            Inventory: what was found; ``print`` it.

        Example::

            >>> print(MaskedImages([ImageEntry(Path("a.png"), 0, "a")], ["cat"]).inspect())
            1 sample in 1 class: cat 1.
        """
        chosen = self._entries[:count]
        seen = look(
            [Item(each.identifier, each.file, each.mask) for each in chosen], self.reading, show_progress=show_progress
        )
        self._black.update(seen.black)
        numbers = Counter(entry.target for entry in chosen)
        return Inventory(
            found=self.found,
            samples=len(self),
            looked_at=len(chosen),
            images=len({entry.file for entry in chosen}),
            classes={name: numbers[number] for number, name in enumerate(self.classes)},
            masks_used=len({path for each in self._entries if isinstance(each.mask, MaskFiles) for path in each.mask.paths}),
            regions=sum(self.has_mask(place) for place in range(len(chosen)) if place not in seen.errors),
            black=[chosen[place].identifier for place in seen.black],
            unreadable={chosen[place].identifier: error for place, error in seen.errors.items()},
            notes=seen.notes,
        )

    def identifier(self, index: int) -> str:
        """Return the name of a sample without reading it.

        Args:
            index (int): of the sample.

        Returns:
            str: its identifier.
        """
        return self._entries[index].identifier

    @property
    def groups(self) -> list[str]:
        """Names of the images of all samples, in their order, without reading a file; samples of one image share a name."""
        return [group_of(entry) for entry in self._entries]


def check_size(size: int) -> None:
    """Raise ValueError unless ``size`` can be the side of a square."""
    if size < 1:
        raise ValueError(f"size is the side of a sample in pixels, at least 1; got {quoted(size)}.")


def made_square(sample: Sample, size: int, fit: Fit) -> Sample:
    """Return a sample with image and mask made square; without a mask if there is nothing to localise in the square."""
    image, mask = fit.image(sample.image, size), sample.mask
    if mask is None or not mask.any():  # black, the usual mask of a healthy image
        return replace(sample, image=image, mask=None)
    square = fit.mask(mask, size)
    if not square.any():
        warnings.warn(
            f"sample '{shown(sample.identifier)}' has nothing to localise: its region lies in the margin that fit "
            f"'{fit.mode}' cuts off.",
            stacklevel=1,  # the caller may be a Subset or a DataLoader, and the command prints warnings of this package
        )
    return replace(sample, image=image, mask=square if square.any() else None)


def group_of(sample: Sample | ImageEntry) -> str:
    """Return the name of the image of a sample: its group, or its identifier if it has none."""
    return sample.identifier if sample.group is None else sample.group


def of_parts(dataset: Any, read: Callable[[Any], Sequence[_Entry] | None]) -> list[_Entry] | None:
    """Return what ``read`` lists of the parts of a ``Subset`` or ``ConcatDataset``, in its order; None if it has nothing."""
    if isinstance(dataset, Subset):
        found = read(dataset.dataset)
        return None if found is None else [found[index] for index in dataset.indices]
    parts = [read(part) for part in dataset.datasets]
    return None if any(part is None for part in parts) else [entry for part in parts for entry in part or ()]


def groups_of(samples: SampleSequence) -> list[str] | None:
    """Return the name of the image of every sample if it is known without reading one, else None.

    It is known for the data sets of this package, for a ``Subset`` or ``ConcatDataset`` of them, and for a list of samples.
    """
    if isinstance(samples, NamedSamples):
        return samples.groups
    if isinstance(samples, (Subset, ConcatDataset)):
        return of_parts(samples, groups_of)
    if isinstance(samples, (list, tuple)) and all(isinstance(sample, Sample) for sample in samples):
        return [group_of(sample) for sample in samples]
    return None


def identifier_of(samples: SampleSequence, index: int) -> str:
    """Return the identifier of a sample if it is known without reading it, else its place, as in ``sample 17``.

    It is known for readers of image files, for a ``Subset`` or ``ConcatDataset`` of them, and for a list of samples.
    """
    if isinstance(samples, NamedSamples):
        return samples.identifier(index)
    if isinstance(samples, Subset):
        return identifier_of(samples.dataset, samples.indices[index])  # type: ignore[arg-type]  # a data set of samples
    if isinstance(samples, ConcatDataset):
        part = bisect_right(samples.cumulative_sizes, index)
        before = samples.cumulative_sizes[part - 1] if part else 0
        return identifier_of(samples.datasets[part], index - before)  # type: ignore[arg-type]  # likewise
    plain: Any = samples
    # Not of their subclasses, which may read a file for each item.
    sample = plain[index] if type(plain) in (list, tuple) else None
    return sample.identifier if isinstance(sample, Sample) else f"sample {index}"


def _alternating(entries: Iterable[ImageEntry]) -> list[ImageEntry]:
    """Order entries by turns: the first one of every class, then the second one of every class, and so on."""
    groups: dict[int, list[ImageEntry]] = defaultdict(list)
    for entry in entries:
        groups[entry.target].append(entry)
    turns = zip_longest(*(groups[target] for target in sorted(groups)))
    return [entry for turn in turns for entry in turn if entry is not None]


def class_numbers(classes: Iterable[str]) -> dict[str, int]:
    """Map the name of each class to its number, a name of several classes to -1, which :func:`class_number` refuses."""
    # a dictionary, because list.index made reading quadratic: 20,000 classes took minutes
    found: dict[str, int] = {}
    for number, name in enumerate(classes):
        found[name] = _SEVERAL if name in found else number
    return found


def class_number(name: str, numbers: Mapping[str, int], where: str) -> int:
    """Return the number of a class, or raise ValueError with the place in the user's files that names it."""
    if name not in numbers:
        raise ValueError(f"{where} has the unknown class {quoted(name)}. {closest(name, numbers)}")
    if numbers[name] == _SEVERAL:  # the first of them would get the images of both
        raise ValueError(f"{where} has the class {quoted(name)}, the name of several classes; pass each name once.")
    return numbers[name]
