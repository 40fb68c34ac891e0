"""Labelled images to train on: class folders or a table, split by strata, weighted by class."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from captum_softcam._names import closest, listed, quoted, shown
from captum_softcam.data.classes import class_number, numbered
from captum_softcam.data.images import class_folders, image_files, named_image, read_image
from captum_softcam.data.tables import Row, read_table

__all__ = ["LabelledImages", "balanced_class_weights", "names_splits", "split_samples"]

_KINDS = ("multiclass", "multilabel", "binary")
_SPLITS = ("train", "val", "test")


class LabelledImages(Dataset[tuple[Tensor, Tensor]]):
    """Image files with their labels; items are (image, target).

    Make one with :meth:`from_folders` or :meth:`from_csv`. An image is read as (3, H, W) in [0, 1] in its own size and then
    handed to ``transform``, which has to bring all to one size. Targets are what
    :class:`~captum_softcam.softcam.SoftCamTask` takes: a class number for multiclass, K times 0.0 or 1.0 for multilabel, and
    0.0 or 1.0 for binary, where 1 is the second of the two classes.

    Args:
        files (sequence of path): the N images.
        labels (sequence of sequence of int): the class numbers of every image; exactly one unless multilabel.
        classes (sequence of str): names, in the order of the logits.
        kind (str): ``"multiclass"``, ``"multilabel"`` or ``"binary"``. Default: ``"multiclass"``
        transform (callable): from (3, H, W) in [0, 1] to what the model takes, a pipeline of ``torchvision.transforms.v2``
            for instance. Default: the image as it is

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
    ) -> None:
        self.files = tuple(map(Path, files))
        self.labels = tuple(tuple(sorted(set(entry))) for entry in labels)
        self.classes = tuple(classes)
        self.kind = kind
        self.transform = transform
        _check_kind(self)

    @classmethod
    def from_folders(
        cls,
        root: str | Path,
        classes: Sequence[str] | None = None,
        kind: str = "multiclass",
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> LabelledImages:
        """Read ``root/CLASS/…/IMAGE``.

        Args:
            root (path): the folder of class folders.
            classes (sequence of str): names in the order of the logits. Default: the folders, sorted
            kind (str): ``"multiclass"`` or ``"binary"``. Default: ``"multiclass"``
            transform (callable): see the class. Default: the image as it is

        Returns:
            LabelledImages: the images, folder by folder.

        Raises:
            FileNotFoundError: if there is no such folder, or no image in it.
            ValueError: if a folder is none of ``classes``, for ``kind="multilabel"``, which folders cannot tell, and as the
                class does.
        """
        if kind == "multilabel":
            raise ValueError("an image lies in one folder and has one class; several labels need a CSV file.")
        root = Path(root)
        folders = {folder.name: image_files(folder) for folder in class_folders(root)}
        if not any(folders.values()):
            raise FileNotFoundError(f"no class folder of '{shown(root)}' holds an image ({', '.join(IMG_EXTENSIONS)}).")
        names = tuple(folders) if classes is None else tuple(classes)
        numbers = numbered(names)
        found = {name: class_number(name, numbers, f"folder '{shown(root / name)}'") for name in folders if folders[name]}
        labels = [(number,) for name, number in found.items() for _ in folders[name]]
        return cls([file for name in found for file in folders[name]], labels, names, kind, transform)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        split: str | None = None,
        classes: Sequence[str] | None = None,
        kind: str = "multiclass",
        transform: Callable[[Tensor], Tensor] | None = None,
        allow_outside: bool = False,
    ) -> LabelledImages:
        """Read a table with the columns ``path`` and ``label``, and ``split`` if wanted.

        Args:
            path (path): a CSV file with a header; image paths in it are relative to its folder. Several labels of one image
                are separated by ``|``; an image without any has an empty label (multilabel only).
            split (str): ``"train"``, ``"val"`` or ``"test"``, to take the rows of one split. Default: all rows
            classes (sequence of str): names in the order of the logits. Default: all labels of the file, sorted
            kind (str): see the class. Default: ``"multiclass"``
            transform (callable): see the class. Default: the image as it is
            allow_outside (bool): whether a path may be absolute or lead out of the table's folder by ``..``; links in the
                folder are followed in any case. Default: False

        Returns:
            LabelledImages: the images, in the order of the rows.

        Raises:
            FileNotFoundError: if there is no such file, or an image is missing; the line is named.
            ValueError: for a file without rows, a missing or unknown column, an unknown label or split, a path that leaves
                the folder, or a split without rows; the line is named. Also as the class does.
        """
        path = Path(path)
        rows = _read_rows(path)
        known = sorted({label for row in rows for label in _labels(row)})
        names = tuple(known) if classes is None else tuple(classes)
        chosen = _of_split(rows, split, path)
        numbers = numbered(names)
        labels = [[class_number(label, numbers, row.place) for label in _labels(row)] for row in chosen]
        files = [named_image(path.parent, row.cells["path"], row.place, allow_outside=allow_outside) for row in chosen]
        return cls(files, labels, names, kind, transform)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = read_image(self.files[index])
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

    def _target(self, entry: tuple[int, ...]) -> Tensor:
        if self.kind == "multilabel":
            return torch.tensor([float(k in entry) for k in range(len(self.classes))])
        return torch.tensor(entry[0] if self.kind == "multiclass" else float(entry[0]))

    def with_transform(self, transform: Callable[[Tensor], Tensor] | None) -> LabelledImages:
        """Take the same images under another transform.

        Args:
            transform (callable or None): see the class; None for the image as it is.

        Returns:
            LabelledImages: a new one; this one stays as it is.
        """
        return LabelledImages(self.files, self.labels, self.classes, self.kind, transform)

    def subset(self, indices: Sequence[int]) -> LabelledImages:
        """Take some of the images.

        Args:
            indices (sequence of int): their numbers, in the order that they shall have.

        Returns:
            LabelledImages: with the same classes and transform.

        Raises:
            IndexError: for a number that no image has.
        """
        files, labels = [self.files[i] for i in indices], [self.labels[i] for i in indices]
        return LabelledImages(files, labels, self.classes, self.kind, self.transform)

    def digest(self) -> str:
        """Fingerprint which images there are, in which order and with which labels, wherever their folder lies.

        Returns:
            str: 16 hexadecimal digits. What is in the files does not count: a damaged one may be repaired.
        """
        start = len(os.path.commonprefix([str(file.parent) for file in self.files]))  # noqa: RUF071 (any beginning will do)
        names = [file.as_posix()[start:] for file in self.files]
        entries = [[name, *(self.classes[k] for k in entry)] for name, entry in zip(names, self.labels, strict=True)]
        return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:16]

    def refuse_missing_classes(self) -> None:
        """Raise ValueError if there is a class that no image has, for it cannot be learned."""
        missing = [name for name, count in self.counts().items() if count == 0]
        if missing:
            raise ValueError(
                f"class {listed(map(quoted, missing))} has no training images; add some, or leave the class out."
            )


def split_samples(data: LabelledImages, share: float = 0.2, seed: int = 0) -> tuple[LabelledImages, LabelledImages]:
    """Split at random into a set to train on and one to validate on, each with its share of every class.

    Images with the same labels are dealt out together, the share of each group rounded to whole images but at least one;
    a group of a single image is trained on. The same seed gives the same split.

    Args:
        data (LabelledImages): N images.
        share (float): of the images to validate on, between 0 and 1. Default: 0.2
        seed (int): of the choice. Default: 0

    Returns:
        tuple of LabelledImages: training and validation, both in the order of ``data``.

    Raises:
        ValueError: if ``share`` is out of range, or no group has two images.

    Example::

        >>> train, validation = split_samples(LabelledImages.from_csv("images.csv"), 0.25)
        >>> len(train), len(validation)
        (6, 2)
    """
    if not 0 < share < 1:
        raise ValueError(f"the share to validate on must lie between 0 and 1; got {quoted(share)}.")
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, entry in enumerate(data.labels):
        groups[entry].append(index)
    random = np.random.default_rng(seed)
    chosen: set[int] = set()
    for _, members in sorted(groups.items()):
        order = random.permutation(len(members))
        chosen |= {members[i] for i in order[: _size(len(members), share)]}
    if not chosen:
        raise ValueError("no class has two images, so none can be set aside to validate on; add images or a validation set.")
    train = [index for index in range(len(data)) if index not in chosen]
    return data.subset(train), data.subset(sorted(chosen))


def names_splits(path: str | Path) -> bool:
    """Whether a table has the column ``split``."""
    return "split" in _read_rows(Path(path))[0].cells


def balanced_class_weights(targets: Tensor, num_classes: int | None = None) -> Tensor:
    r"""Weights that make rare classes count as much as frequent ones.

    Class numbers: :math:`w_k = N / (K n_k)`, with :math:`n_k` of N examples in class k; the mean weight of an example is 1.
    Zeros and ones: :math:`w_k = (N - n_k) / n_k`, the negatives per positive of each label.

    Args:
        targets (Tensor): (N,) of class numbers, or (N, K) or (N,) of 0.0 and 1.0.
        num_classes (int): K, for class numbers. Default: the greatest number + 1

    Returns:
        Tensor: (K,), as ``class_weights`` of :class:`~captum_softcam.softcam.SoftCamTask` takes them.

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
    unfit = [k for k, weight in enumerate(weights.tolist()) if not 0 < weight < float("inf")]
    if unfit:
        raise ValueError(f"class {listed(unfit)} cannot be balanced: it has no examples, or no others.")
    return weights


def _size(count: int, share: float) -> int:
    """How many of a group are set aside: at least one, and never all."""
    return min(max(1, round(count * share)), count - 1)


def _check_kind(data: LabelledImages) -> None:
    if data.kind not in _KINDS:
        raise ValueError(f"kind {quoted(data.kind)} is unknown. {closest(data.kind, _KINDS)}")
    if data.kind == "binary" and len(data.classes) != 2:
        raise ValueError(f"binary needs two classes; got {len(data.classes)}: {listed(data.classes)}.")
    if data.kind == "multilabel":
        return
    for file, entry in zip(data.files, data.labels, strict=True):
        if len(entry) != 1:
            raise ValueError(
                f"image '{shown(file)}' has {len(entry)} labels; {data.kind} needs one, multilabel takes any number."
            )


def _read_rows(path: Path) -> list[Row]:
    """The rows of the table, its columns checked."""
    columns, rows = read_table(path)
    _check_columns(columns, path)
    if not rows:
        raise ValueError(f"table '{shown(path)}' has no rows; expected one per image below the header.")
    for row in rows:
        if not row.cells["path"]:
            raise ValueError(f"{row.place} does not have the {len(columns)} columns of the header.")
    return rows


def _check_columns(columns: Sequence[str], path: Path) -> None:
    missing = [name for name in ("path", "label") if name not in columns]
    unknown = [name for name in columns if name not in ("path", "label", "split")]
    if missing or unknown:
        raise ValueError(
            f"table '{shown(path)}' has the columns {listed(columns) or 'none'}; expected path, label, and split if wanted."
        )


def _labels(row: Row) -> list[str]:
    return [label.strip() for label in row.cells["label"].split("|") if label.strip()]


def _of_split(rows: list[Row], split: str | None, path: Path) -> list[Row]:
    if split is None:
        return rows
    if "split" not in rows[0].cells:
        raise ValueError(f"table '{shown(path)}' has no column split; without it all rows are one set.")
    for row in rows:
        if row.cells["split"] not in _SPLITS:
            raise ValueError(f"{row.place} has the split {quoted(row.cells['split'])}; expected {', '.join(_SPLITS)}.")
    chosen = [row for row in rows if row.cells["split"] == split]
    if not chosen:
        raise ValueError(f"table '{shown(path)}' has no rows of the split {quoted(split)}.")
    return chosen
