"""Images that are read with their masks when they are asked for: what all readers have in common."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d
from torch.utils.data import Dataset

from captum_softcam._names import quoted, shown
from captum_softcam.data.images import read_image, to_square
from captum_softcam.data.samples import Sample

__all__ = ["ImageEntry", "MaskedImages"]


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """A sample that has not been read yet.

    Args:
        file (path): The image.
        target (int): The index of the class.
        identifier (str): A name that is unique in the data set.
        mask (callable or None): From the image (3, H, W) in its own size to its mask (1, H, W), bool, with at least one
            True; None where there is nothing to localise. Default: None

    Example::

        >>> ImageEntry(Path("a.png"), 0, "a", lambda image: image[:1] > 0.5).target
        0
    """

    file: Path
    target: int
    identifier: str
    mask: Callable[[Tensor], Tensor] | None = None


class MaskedImages(Dataset[Sample]):
    """Image files with masks, resized to squares: the base of all readers, and a way to write another.

    An image is resized as a whole. Its mask is made in the image's own size and then shrunk by its maximum, so that small
    regions survive. Samples come class by class in turn, so that the first few are a balanced choice.

    Args:
        entries (iterable of ImageEntry): the samples; those of one class keep their order.
        classes (sequence of str): names in the order of the model's logits.
        size (int): side of the samples in pixels. Default: 224

    Raises:
        ValueError: if there are no entries, two of them have the same identifier, or ``size`` is not positive. Reading a
            sample raises it for an unreadable image.

    Example::

        >>> samples = MaskedImages([ImageEntry(Path("a.png"), 0, "a")], ["cat"])
        >>> samples[0].image.shape, samples.masked
        (torch.Size([3, 224, 224]), 0)
    """

    def __init__(self, entries: Iterable[ImageEntry], classes: Sequence[str], size: int = 224) -> None:
        if size < 1:
            raise ValueError(f"size is the side of a sample in pixels, at least 1; got {quoted(size)}.")
        self.classes = tuple(classes)
        self.size = size
        self._entries = _in_turns(entries)
        _check(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self._entries[index]
        image = read_image(entry.file)
        mask = None if entry.mask is None else entry.mask(image)
        return Sample(
            image=to_square(image, self.size),
            target=entry.target,
            mask=None if mask is None else adaptive_max_pool2d(mask.float(), self.size) > 0,
            identifier=entry.identifier,
        )

    @property
    def masked(self) -> int:
        """Number of samples that have a mask."""
        return sum(entry.mask is not None for entry in self._entries)


def _in_turns(entries: Iterable[ImageEntry]) -> list[ImageEntry]:
    """One entry of every class, then the second of every class, and so on."""
    groups: dict[int, list[ImageEntry]] = defaultdict(list)
    for entry in entries:
        groups[entry.target].append(entry)
    turns = zip_longest(*(groups[target] for target in sorted(groups)))
    return [entry for turn in turns for entry in turn if entry is not None]


def _check(entries: list[ImageEntry]) -> None:
    if not entries:
        raise ValueError("there are no samples; give at least one entry.")
    identifier, count = Counter(entry.identifier for entry in entries).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} samples are called '{shown(identifier)}'; name every image once, by a name of its own.")
