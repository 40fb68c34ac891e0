"""Look at image files and masks before a run, and tell in words what was found and what is left out."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from captum_softcam._names import shown
from captum_softcam.data._pixels.images import Reading, image_shape, read_image
from captum_softcam.data._pixels.masks import MaskFiles

__all__ = ["Found", "Inventory", "Item", "Seen", "look"]

_FEW, _NAME_LENGTH = 3, 60  # names in a line, and characters of each
_CAUSES, _NOTES, _MESSAGE = 2, 4, 500  # lines, and characters of a message
_CLASSES = 5  # and reasons, that are named one by one
_KEPT = 20  # names in a manifest, reasons as well
_NAME = "'…'"  # in the place of a file's name in texts that are grouped
_QUOTED = re.compile(r"'[^']*'")


@dataclass(frozen=True)
class Found:
    """What a reader found in folders and tables, without opening a picture.

    Args:
        files (int): number of image files that could have become samples, those that are left out among them.
        masks (int): number of mask files, used or not; 0 where regions come from annotations. Default: 0
        left_out (mapping): names of the files that are not used, by the reason in words, such as
            ``"not an image format"`` or ``"mask without image"``. Default: none

    Example::

        >>> Found(9, 6, {"not an image format": ["7.jfif", "8.gif"]}).files
        9
    """

    files: int
    masks: int = 0
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Inventory:
    """What a data set consists of, and what is wrong with it; ``str()`` gives a few lines to read before a run.

    Args:
        found (Found): what the reader found.
        samples (int): number of samples of the data set.
        looked_at (int): number of those that were looked at, the first ones; what follows is about them.
        images (int): number of their different image files.
        classes (mapping): number of samples by the name of every class; empty if the data set has no classes.
        masks_used (int or None): number of mask files that belong to a sample of the data set; None if samples have no
            masks, as those to train on. Default: 0
        regions (int): number of samples with something to localise.
        black (sequence of str): names of the samples whose mask files show nothing to localise.
        unreadable (mapping): error message by the name of each sample that cannot be used.
        notes (mapping): names of the samples by each remark on how their files are read; where a remark named its file, it
            has ``'…'``.

    Example::

        >>> inventory = ImageFolderSamples("images", "masks").inspect()
        >>> inventory.samples, inventory.regions, inventory.unreadable
        (1, 1, {})
    """

    found: Found
    samples: int
    looked_at: int
    images: int
    classes: Mapping[str, int] = field(default_factory=dict)
    masks_used: int | None = 0
    regions: int = 0
    black: Sequence[str] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        found = f"{self.regions} with a region, {len(self.unreadable)} unreadable"
        return f"Inventory({self.samples} samples of {self.images} images: {found})"

    def __str__(self) -> str:
        lines = [self._of_samples(), self._of_masks(), *self._of_unreadable(), self._of_unused(), *self._of_notes()]
        return "\n".join(line for line in lines if line)

    def summary(self) -> dict[str, Any]:
        """Return the counts and the first names, as JSON, for the manifest of a run.

        Returns:
            dict: ``files``, ``samples``, ``looked_at`` and ``images``; for data with masks ``masks``, ``masks_used``,
            ``with_region`` and ``black_masks``; ``left_out`` by reason and ``notes`` by remark, with number and names.
        """
        counts = {"files": self.found.files, "samples": self.samples, "looked_at": self.looked_at, "images": self.images}
        if self._has_masks():
            used = {"masks": self.found.masks, "masks_used": self.masks_used or 0}
            counts |= {**used, "with_region": self.regions, "black_masks": len(self.black)}
        left_out = {**self.found.left_out, "cannot be read": list(self.unreadable)}
        named = {"left_out": left_out, "notes": self.notes}
        kept = {name: _kept(each) for name, each in named.items()}
        return {**counts, **{name: entries for name, entries in kept.items() if entries}}

    def refuse_unreadable(self) -> None:
        """Raise ValueError with the message of the first sample that cannot be used, if there is one."""
        for message in self.unreadable.values():
            raise ValueError(f"{len(self.unreadable)} of {_counted(self.looked_at, 'sample')} cannot be used: {message}")

    def warning_patterns(self) -> list[str]:
        """Make patterns for a filter of warnings that is silent about what was shown already.

        Returns:
            list of str: one regular expression for each note that ``str()`` gives.
        """
        return [re.escape(text).replace(re.escape(_NAME), ".*") for text in islice(self.notes, _NOTES)]

    def _of_samples(self) -> str:
        first = f"the first {self.looked_at} of " * (self.looked_at < self.samples)
        images = f" of {_counted(self.images, 'image')}" * (self.images < self.looked_at)
        files = f" of {_counted(self.found.files, 'file')}" * (self.found.files != self.images)
        text = f"{first}{_counted(self.samples, 'sample')}{images}{files}"
        present = [f"{_class(name)} {number}" for name, number in self.classes.items() if number]
        if not present:
            return f"{text}."
        number = f"{len(present)} of {len(self.classes)}" if len(present) < len(self.classes) else f"{len(present)}"
        return f"{text} in {number} class{'es' * (len(self.classes) > 1)}: {_few(present, _CLASSES)}."

    def _of_masks(self) -> str:
        if not self._has_masks():
            return ""
        if self.masks_used is None:
            return f"{_counted(self.found.masks, 'mask')} not used."
        used = f"{self.masks_used} of {_counted(self.found.masks, 'mask')} used: " if self.found.masks else ""
        nothing = self.looked_at - self.regions - len(self.unreadable)
        none = f", {nothing} nothing to localise" if nothing else ""
        black = f" ({_counted(len(self.black), 'black mask')}: {_few(self.black)})" if self.black else ""
        return f"{used}{_counted(self.regions, 'sample')} {'has' if self.regions == 1 else 'have'} a region{none}{black}."

    def _has_masks(self) -> bool:
        return bool(self.regions or self.black or self.found.masks)

    def _of_unreadable(self) -> Iterator[str]:
        """Yield a line for each cause, with the message of the first file."""
        causes: dict[str, list[str]] = defaultdict(list)
        for name, message in self.unreadable.items():
            causes[_QUOTED.sub(_NAME, message)].append(name)
        for first, *others in islice(causes.values(), _CAUSES):
            likewise = f" Likewise {_few(others)}." if others else ""
            number, message = _counted(1 + len(others), "sample"), shown(self.unreadable[first], _MESSAGE)
            yield f"{number} cannot be used: {message}{likewise}"
        if more := [name for names in islice(causes.values(), _CAUSES, None) for name in names]:
            yield f"{_counted(len(more), 'more sample')} cannot be used for other reasons: {_few(more)}."

    def _of_unused(self) -> str:
        reasons = [(why, names) for why, names in self.found.left_out.items() if names]
        parts = [f"{_few(names)} ({shown(why)})" for why, names in reasons[:_CLASSES]]
        if more := sum(len(names) for _, names in reasons[_CLASSES:]):
            parts.append(f"{more} for other reasons")
        return f"Not used: {'; '.join(parts)}." if parts else ""

    def _of_notes(self) -> Iterator[str]:
        for text, names in islice(self.notes.items(), _NOTES):
            yield f"Note on {_few(names)}: {shown(text.replace(f' {_NAME}', ''), _MESSAGE)}"
        if (more := len(self.notes) - _NOTES) > 0:
            yield f"{_counted(more, 'more note')}."


class Item(NamedTuple):
    """A sample to look at: its name, its image, and whatever makes its mask."""

    name: str
    file: Path
    mask: Callable[[Tensor], Tensor] | None = None


class Seen(NamedTuple):
    """What was seen of items, by their place: those that cannot be used with the reason, and those of black masks."""

    errors: dict[int, str]
    black: list[int]
    notes: dict[str, list[str]]


def look(items: Sequence[Item], reading: Reading, *, decode: bool = False, show_progress: bool = False) -> Seen:
    """Look at the header of every image and read every mask file, each once.

    Warnings of readers are caught and become notes. Masks that come from anything but files are not made.

    Args:
        items (sequence of Item): the samples; an image of several is looked at once.
        reading (Reading): how the files are read.
        decode (bool): whether images are read as a whole, which finds those that are cut off. Default: False
        show_progress (bool): show a progress bar on stderr if it takes more than a second. Default: False
    """
    bar = partial(tqdm, delay=1, disable=not show_progress, leave=False)
    broken = _undecodable(list({item.file for item in items}), reading, bar) if decode else {}
    shape_of = cache(lambda file: image_shape(file, reading))
    seen, notes, others = Seen({}, [], {}), defaultdict[str, dict[str, None]](dict), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for place, item in enumerate(bar(items, desc="looking at files")):
            try:
                if _is_black(item, shape_of(item.file)):
                    seen.black.append(place)
            except (OSError, ValueError) as error:
                seen.errors[place] = str(error)
            if item.file in broken:
                seen.errors[place] = broken[item.file]
            for warning in caught:
                if warning.category is UserWarning:
                    notes[_without_files(str(warning.message), item)][item.name] = None
                else:
                    others.append(warning)
            caught.clear()
    for warning in others:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    seen.notes.update((text, list(names)) for text, names in notes.items())  # each name once, in their order
    return seen


def _is_black(item: Item, shape: tuple[int, ...]) -> bool:
    """Check whether an item has mask files, and they show nothing."""
    # nothing but the size of the image matters to mask files
    return isinstance(item.mask, MaskFiles) and not item.mask(torch.zeros(()).expand(3, *shape)).any()


def _undecodable(files: Sequence[Path], reading: Reading, bar: Callable[..., Iterable[Any]]) -> dict[Path, str]:
    """Read all images, and return the messages of those that cannot be read."""

    def message(file: Path) -> str:
        try:
            read_image(file, reading=reading)
        except (OSError, ValueError) as error:
            return str(error)
        return ""

    # The names of files are lost among threads; the headers, which are read afterwards, raise the same warnings.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        threads = ThreadPoolExecutor(os.cpu_count())
        try:
            found = bar(threads.map(message, files), total=len(files), desc="reading all images")
            return {file: text for file, text in zip(files, found, strict=True) if text}
        finally:  # within the filters, which the threads put back as they were when a file is read
            threads.shutdown(cancel_futures=True)  # after Ctrl-C


def _without_files(text: str, item: Item) -> str:
    """Return a warning with a placeholder for the item's files, so that it is the same for all items."""
    masks = item.mask.paths if isinstance(item.mask, MaskFiles) else ()
    for path in (item.file, *masks):
        text = text.replace(f"'{shown(path)}'", _NAME)
    return text


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _few(names: Sequence[str], most: int = _FEW) -> str:
    """Return the first names, and the number of the others if there are more than ``most``."""
    first = names if len(names) <= most else names[:_FEW]
    text = ", ".join(shown(name, _NAME_LENGTH) for name in first)
    return f"{text} and {len(names) - len(first)} more" if len(first) < len(names) else text


def _class(name: str) -> str:
    text = shown(name, _NAME_LENGTH)
    return f"'{text}'" if text[-1:].isdigit() else text  # so that its number does not look like a part of it


def _kept(names: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Return number and first names by reason."""
    filled = ((why, each) for why, each in names.items() if each)
    return {why: {"count": len(each), "names": list(each[:_KEPT])} for why, each in islice(filled, _KEPT)}
