"""Labelled images to train on: from class folders or a table, with transforms, a stratified split and class weights."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_softcam._fit import Fit
from captum_softcam._names import closest, listed, quoted, shown
from captum_softcam.data._disk.left_out import MISSING, LeftOut
from captum_softcam.data._disk.named_images import NamedImages
from captum_softcam.data._disk.pairs import list_pictures
from captum_softcam.data._disk.tables import Row, cell_in, labels_in, read_table
from captum_softcam.data._pixels.images import Reading, read_image
from captum_softcam.data.class_folders import read_class_folders
from captum_softcam.data.inventory import Found, Inventory, Item, look
from captum_softcam.data.label_table import found_rows, read_label_table
from captum_softcam.data.samples import class_number, class_numbers

if TYPE_CHECKING:
    from torchvision.transforms import v2

__all__ = ["LabelledImages", "balanced_class_weights", "make_transforms", "names_splits", "split_samples"]

_KINDS = ("multiclass", "multilabel", "binary")
_SPLITS = ("train", "val", "test")
_COLUMNS = ("path", "label", "split")


class LabelledImages(Dataset[tuple[Tensor, Tensor]]):
    """Image files with their labels; items are (image, target).

    Make one with :meth:`from_folders` or :meth:`from_csv`. An image is read as (3, H, W) in [0, 1] in its own size and then
    passed to ``transform``, which has to bring all images to one size. Targets are those that
    :class:`~captum_softcam.softcam.SoftCamTask` expects: a class number for multiclass, K times 0.0 or 1.0 for multilabel,
    and 0.0 or 1.0 for binary, where 1 is the second of the two classes.

    Args:
        files (sequence of path): the N images.
        labels (sequence of sequence of int): the class numbers of every image; exactly one unless multilabel.
        classes (sequence of str): names, in the order of the logits.
        kind (str): ``"multiclass"``, ``"multilabel"`` or ``"binary"``. Default: ``"multiclass"``
        transform (callable): from (3, H, W) in [0, 1] to what the model takes, a pipeline of ``torchvision.transforms.v2``
            for instance. Default: the image as it is
        reading (Reading): how the files are read. Default: as they are
        found (Found): what the reader saw, the files that it leaves out among them. Default: the files of the images

    Raises:
        ValueError: for an unknown kind, a binary one without exactly two classes, or an image without exactly one class.
            Reading an item raises it for an unreadable image, whose file is named.

    Example::

        >>> data = LabelledImages.from_folders("images", transform=v2.Resize((224, 224)))
        >>> image, target = data[0]
        >>> image.shape, data.classes[target]
        (torch.Size([3, 224, 224]), 'cat')
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        labels: Sequence[Sequence[int]],
        classes: Sequence[str],
        kind: str = "multiclass",
        transform: Callable[[Tensor], Tensor] | None = None,
        reading: Reading = Reading(),
        found: Found | None = None,
    ) -> None:
        self.files = tuple(map(Path, files))
        # sorted, so that images with the same labels are one group of a split
        self.labels = tuple(tuple(sorted(set(entry))) for entry in labels)
        self.classes = tuple(classes)
        self.kind = kind
        self.transform = transform
        self.reading = reading
        self.found = Found(len(self.files)) if found is None else found
        self._check_kind()

    @classmethod
    def from_folders(
        cls,
        root: str | Path,
        classes: Sequence[str] | None = None,
        kind: str = "multiclass",
        transform: Callable[[Tensor], Tensor] | None = None,
        reading: Reading = Reading(),
    ) -> LabelledImages:
        """Read ``root/CLASS/…/IMAGE``.

        Args:
            root (path): the folder of class folders. Links are followed, hidden files and masks beside the images are not
                read; what is left out is listed in ``found``.
            classes (sequence of str): names in the order of the logits; folders are named after them or numbered, as for
                :class:`ImageFolderSamples`. Default: the folders, sorted
            kind (str): ``"multiclass"`` or ``"binary"``. Default: ``"multiclass"``
            transform (callable): see the class. Default: the image as it is
            reading (Reading): how the files are read. Default: as they are

        Returns:
            LabelledImages: the images, folder by folder.

        Raises:
            FileNotFoundError: if there is no such folder, or no image in it.
            PermissionError: if it may not be read.
            ValueError: if a folder is none of ``classes``, two are the same, or they are splits; for ``kind="multilabel"``,
                because a folder gives one label, and as the class does.
        """
        if kind == "multilabel":
            raise ValueError("an image lies in one folder and has one class; several labels need a CSV file.")
        root = Path(root)
        pictures = list_pictures(root)
        names, labels = read_class_folders(pictures, classes, root)
        found = Found(pictures.files, len(pictures.beside), pictures.left_out_but(labels))
        return cls(
            [root / name for name in labels], [(label,) for label in labels.values()], names, kind, transform, reading, found
        )

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        split: str | None = None,
        classes: Sequence[str] | None = None,
        kind: str = "multiclass",
        transform: Callable[[Tensor], Tensor] | None = None,
        allow_outside: bool = False,
        uncertain: Literal["present", "absent"] | None = None,
        reading: Reading = Reading(),
    ) -> LabelledImages:
        """Read a table with the columns ``path`` and ``label``, and optionally ``split``.

        A multi-label table may have a column for each class instead of ``label``, with 1, 0 or nothing in its cells, as
        :class:`LabelTableSamples` reads it; the image is named in the column ``path``, or else in the first one.

        Args:
            path (path): a CSV file with a header; image paths in it are relative to its folder. Several labels of one image
                are separated by ``|``; an image without any has an empty label (multilabel only).
            split (str): ``"train"``, ``"val"`` or ``"test"``, to select the rows of one split. Default: all rows
            classes (sequence of str): names in the order of the logits. Default: all labels of the file, sorted
            kind (str): see the class. Default: ``"multiclass"``
            transform (callable): see the class. Default: the image as it is
            allow_outside (bool): whether a path may be absolute or lead out of the table's folder by ``..``; links in the
                folder are followed in any case. Default: False
            uncertain (str): what a cell of -1 means in a table with a column for each class, ``"present"`` or ``"absent"``.
                Default: None, it is refused
            reading (Reading): how the files are read. Default: as they are

        Returns:
            LabelledImages: the images, in the order of the rows.

        Raises:
            FileNotFoundError: if there is no such file, or all images are missing; a missing image is left out, with a
                warning that names the line.
            ValueError: for a file without rows, a missing or unknown column, an unknown label or split, a path that leaves
                the folder, or a split without rows; the message names the line. Also as the class does.
        """
        path = Path(path)
        if kind == "multilabel" and "label" not in (columns := read_table(path)[0]) and len(columns) > 1:
            return cls._from_label_table(path, split, classes, transform, allow_outside, uncertain, reading)
        rows = _read_rows(path)
        given = class_numbers(classes or ())
        names = (
            tuple(sorted({label for row in rows for label in labels_in(row.cells["label"], given)}))
            if classes is None
            else tuple(classes)
        )
        chosen = _of_split(rows, split, path)
        numbers, files, labels = class_numbers(names), [], []
        pictures, left_out = NamedImages(path.parent, allow_outside), LeftOut(f"table '{shown(path)}'")
        for row in chosen:
            with left_out.faults(MISSING, row.cells["path"], FileNotFoundError):
                files.append(pictures.find(row.cells["path"], row.place).file)
                labels.append([class_number(label, numbers, row.place) for label in labels_in(row.cells["label"], numbers)])
        left_out.tell(len(files))
        return cls(files, labels, names, kind, transform, reading, Found(len(chosen), left_out=left_out.names))

    @classmethod
    def _from_label_table(
        cls,
        path: Path,
        split: str | None,
        classes: Sequence[str] | None,
        transform: Callable[[Tensor], Tensor] | None,
        allow_outside: bool,
        uncertain: str | None,
        reading: Reading,
    ) -> LabelledImages:
        columns, rows = read_table(path)
        image_column = "path" if "path" in columns else None
        names, found = read_label_table(path, classes, image_column, uncertain or "undecided")
        kept = {row.place for row in _of_split(rows, split, path)}
        chosen = [row for row in found if row.place in kept]
        for row in chosen:
            if row.undecided:  # the loss has no third state
                raise ValueError(
                    f"{row.place} has -1 for {listed(quoted(names[k]) for k in row.undecided)}; a training needs a "
                    "decision: pass uncertain='absent' or 'present', or decide in the table."
                )
        left_out = LeftOut(f"table '{shown(path)}'")
        there = found_rows(chosen, NamedImages(path.parent, allow_outside), left_out)
        left_out.tell(len(there))
        files, labels = [image.file for image, _ in there], [row.labels for _, row in there]
        counted = Found(len(chosen), left_out=left_out.names)
        return cls(files, labels, names, "multilabel", transform, reading, counted)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = read_image(self.files[index], reading=self.reading)
        return image if self.transform is None else self.transform(image), self._target(self.labels[index])

    @property
    def targets(self) -> Tensor:
        """Class numbers (N,) for multiclass, zeros and ones (N, K) for multilabel, (N,) for binary."""
        return torch.stack([self._target(entry) for entry in self.labels])

    def counts(self) -> dict[str, int]:
        """Count the images of every class.

        Returns:
            dict: their number by the name of the class, in the order of the logits.
        """
        found = Counter(number for entry in self.labels for number in entry)
        return {name: found[number] for number, name in enumerate(self.classes)}

    def with_transform(self, transform: Callable[[Tensor], Tensor] | None) -> LabelledImages:
        """Return the same images with another transform.

        Args:
            transform (callable or None): see the class; None for the image as it is.

        Returns:
            LabelledImages: a new one; this one stays as it is.
        """
        return LabelledImages(self.files, self.labels, self.classes, self.kind, transform, self.reading, self.found)

    def subset(self, indices: Sequence[int]) -> LabelledImages:
        """Select some of the images.

        Args:
            indices (sequence of int): their indices, in the order of the new set.

        Returns:
            LabelledImages: with the same classes and transform.

        Raises:
            IndexError: for an index out of range.
        """
        files, labels = [self.files[i] for i in indices], [self.labels[i] for i in indices]
        return LabelledImages(files, labels, self.classes, self.kind, self.transform, self.reading, self.found)

    def inspect(self, *, decode: bool = False, show_progress: bool = False) -> Inventory:
        """Look at the header of every image, to know before a training what cannot be used.

        Cost: a fraction of a second for 2,000 images; with ``decode``, that of reading all of them once, by as many threads
        as there are processors.

        Args:
            decode (bool): read the images as a whole, which finds those that are cut off. Default: False
            show_progress (bool): show a progress bar on stderr if it takes more than a second. Default: False

        Returns:
            Inventory: what was found, by the path of each image; ``print`` it.

        Example::

            >>> print(LabelledImages.from_folders("images").inspect())
            1 sample in 1 class: cat 1.
        """
        names = list(map(str, self.files))
        items = [Item(name, file) for name, file in zip(names, self.files, strict=True)]
        seen = look(items, self.reading, decode=decode, show_progress=show_progress)
        return Inventory(
            found=self.found,
            samples=len(self),
            looked_at=len(self),
            images=len(set(names)),
            classes=self.counts(),
            masks_used=None,
            unreadable={names[place]: error for place, error in seen.errors.items()},
            notes=seen.notes,
        )

    def digest(self) -> str:
        """Compute a fingerprint of the images' names, order and labels, independent of where their folder lies.

        Returns:
            str: 16 hexadecimal digits. The content of the files does not count: a damaged one may be repaired.
        """
        # without the common start of the folders, so that a data set may be moved before a training is resumed
        start = len(os.path.commonprefix([str(file.parent) for file in self.files]))  # noqa: RUF071 (any prefix will do)
        names = [file.as_posix()[start:] for file in self.files]
        entries = [[name, *(self.classes[k] for k in entry)] for name, entry in zip(names, self.labels, strict=True)]
        return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:16]

    def refuse_missing_classes(self) -> None:
        """Raise ValueError if a class has no images, because it cannot be learned."""
        missing = [name for name, count in self.counts().items() if count == 0]
        if missing:
            raise ValueError(f"class {listed(map(quoted, missing))} has no training images; add some, or remove the class.")

    def _target(self, entry: tuple[int, ...]) -> Tensor:
        if self.kind == "multilabel":
            return torch.tensor([float(k in entry) for k in range(len(self.classes))])
        # cross-entropy expects integers, binary cross-entropy floats
        return torch.tensor(entry[0] if self.kind == "multiclass" else float(entry[0]))

    def _check_kind(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"kind {quoted(self.kind)} is unknown. {closest(self.kind, _KINDS)}")
        if self.kind == "binary" and len(self.classes) != 2:
            raise ValueError(f"binary needs two classes; got {len(self.classes)}: {listed(self.classes)}.")
        for file, entry in zip(self.files, self.labels, strict=True):
            if len(entry) != 1 and self.kind != "multilabel":
                raise ValueError(
                    f"image '{shown(file)}' has {len(entry)} labels; {self.kind} needs one, multilabel accepts any number."
                )


def make_transforms(
    size: int,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    vertical_flips: bool = False,
    fit: Fit = Fit(),
) -> tuple[v2.Compose, v2.Compose]:
    """Make transforms for images (3, H, W) in [0, 1]: a mild augmentation to train with, and none to validate with.

    In training: a crop of 70 to 100 % of the area with an aspect ratio between 4:5 and 5:4, flipped left to right in half
    of the cases, brightness and contrast changed by up to 20 %, saturation by up to 10 % and hue by up to 2 %. In
    validation: the image as ``fit`` makes it square. Both end as squares of ``size`` pixels, normalised.

    Args:
        size (int): side in pixels.
        mean (sequence of float): subtracted from each channel. Default: 0
        std (sequence of float): each channel is divided by it afterwards. Default: 1
        vertical_flips (bool): flip upside down, too, where it makes no difference to the class. Default: False
        fit (Fit): how images become square in validation; in training, ``"pad"`` pads them before they are cropped.
            Default: they are resized as a whole

    Returns:
        tuple of torchvision.transforms.v2.Compose: for training and for validation.

    Example::

        >>> augmented, plain = make_transforms(512)
        >>> data = LabelledImages.from_folders("images", transform=augmented)
    """
    from torchvision.transforms import v2

    normalise = v2.Normalize(list(mean), list(std))
    augmented = v2.Compose(
        [
            *([_Padded(fit)] if fit.mode == "pad" else []),
            v2.RandomResizedCrop(size, scale=(0.7, 1.0), ratio=(0.8, 1.25), antialias=True),
            v2.RandomHorizontalFlip(),
            *([v2.RandomVerticalFlip()] if vertical_flips else []),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.1, hue=0.02),
            normalise,
        ]
    )
    return augmented, v2.Compose([_Squared(fit, size), normalise])


@dataclass(frozen=True)
class _Squared:
    """Step of a pipeline that makes images square; its text is recorded with the settings of a training."""

    fit: Fit
    size: int

    def __call__(self, image: Tensor) -> Tensor:
        return self.fit.image(image, self.size)


@dataclass(frozen=True)
class _Padded:
    """Step of a pipeline that pads images to squares in their own resolution."""

    fit: Fit

    def __call__(self, image: Tensor) -> Tensor:
        return self.fit.image(image, max(image.shape[1:]))


def split_samples(data: LabelledImages, fraction: float = 0.2, seed: int = 0) -> tuple[LabelledImages, LabelledImages]:
    """Split at random into a set to train on and one to validate on, each with its fraction of every class.

    The split is stratified by the labels of an image: of each group, ``fraction`` is rounded to whole images, but at least
    one; a group of a single image is trained on. The same seed gives the same split.

    Args:
        data (LabelledImages): N images.
        fraction (float): of the images to validate on, between 0 and 1. Default: 0.2
        seed (int): of the choice. Default: 0

    Returns:
        tuple of LabelledImages: training and validation, both in the order of ``data``.

    Raises:
        ValueError: if ``fraction`` is out of range, or no group has two images.

    Example::

        >>> train, validation = split_samples(LabelledImages.from_csv("images.csv"), 0.25)
        >>> len(train), len(validation)
        (6, 2)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction to validate on must lie between 0 and 1; got {quoted(fraction)}.")
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, entry in enumerate(data.labels):
        groups[entry].append(index)
    random = np.random.default_rng(seed)
    chosen: set[int] = set()
    for _, members in sorted(groups.items()):  # sorted, because the order of the draws is part of the split
        order = random.permutation(len(members))
        size = min(max(1, round(len(members) * fraction)), len(members) - 1)  # at least one, and never all
        chosen |= {members[i] for i in order[:size]}
    if not chosen:
        raise ValueError("no class has two images, so none can be set aside to validate on; add images or a validation set.")
    train = [index for index in range(len(data)) if index not in chosen]
    return data.subset(train), data.subset(sorted(chosen))


def names_splits(path: str | Path) -> bool:
    """Check whether a table has the column ``split``."""
    return "split" in read_table(Path(path))[0]


def balanced_class_weights(targets: Tensor, num_classes: int | None = None) -> Tensor:
    r"""Compute weights that make rare classes count as much as frequent ones.

    Class numbers: :math:`w_k = N / (K n_k)`, with :math:`n_k` of N examples in class k; the mean weight of an example is 1.
    Zeros and ones: :math:`w_k = (N - n_k) / n_k`, the negatives per positive of each label.

    Args:
        targets (Tensor): (N,) of class numbers, or (N, K) or (N,) of 0.0 and 1.0.
        num_classes (int): K, for class numbers. Default: the greatest number + 1

    Returns:
        Tensor: (K,), for the ``class_weights`` of :class:`~captum_softcam.softcam.SoftCamTask`.

    Raises:
        ValueError: if a class has no examples, or a label no example with or without it.

    Example::

        >>> balanced_class_weights(torch.tensor([0, 0, 0, 1]))
        tensor([0.6667, 2.0000])
    """
    if targets.is_floating_point():
        inside = targets.reshape(len(targets), -1).sum(0)
        weights = (len(targets) - inside) / inside
    else:
        inside = torch.bincount(targets, minlength=num_classes or 0)
        weights = len(targets) / (len(inside) * inside)
    # an infinite or zero weight would make the loss NaN, or the label count for nothing
    unfit = [k for k, weight in enumerate(weights.tolist()) if not 0 < weight < float("inf")]
    if unfit:
        raise ValueError(f"class {listed(unfit)} cannot be balanced: it has no examples, or no others.")
    return weights


def _read_rows(path: Path) -> list[Row]:
    """Read the rows of the table and check its columns."""
    columns, rows = read_table(path)
    if not {"path", "label"} <= set(columns) <= {"", *_COLUMNS}:  # without a name is the index that pandas writes
        raise ValueError(
            f"table '{shown(path)}' has the columns {listed(columns) or 'none'}; expected path, label, and optionally split."
        )
    if not rows:
        raise ValueError(f"table '{shown(path)}' has no rows; expected one per image below the header.")
    for row in rows:
        cell_in(row, "path")  # an empty one would name the folder of the table
    return rows


def _of_split(rows: list[Row], split: str | None, path: Path) -> list[Row]:
    if split is None:
        return rows
    if "split" not in rows[0].cells:
        raise ValueError(f"table '{shown(path)}' has no column split; without it all rows are one set.")
    for row in rows:  # all rows: a misspelt "vall" would shrink the validation set unnoticed
        if row.cells["split"] not in _SPLITS:
            raise ValueError(f"{row.place} has the split {quoted(row.cells['split'])}; expected {', '.join(_SPLITS)}.")
    chosen = [row for row in rows if row.cells["split"] == split]
    if not chosen:
        raise ValueError(f"table '{shown(path)}' has no rows of the split {quoted(split)}.")
    return chosen
