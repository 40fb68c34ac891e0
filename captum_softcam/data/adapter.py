"""Samples from any data set that users have: of torch, torchvision, Hugging Face or MONAI, or a list."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from captum_softcam._fit import Fit
from captum_softcam._names import closest, listed, quoted
from captum_softcam.data._items.arrays import CHANNELS, Channels, described, image_of, mask_of
from captum_softcam.data._items.items import (
    NAMES,
    Fields,
    Key,
    column,
    field,
    find_fields,
    lists_classes,
    names_of,
    names_of_classes,
    place_of,
    read_item,
)
from captum_softcam.data._items.targets import ClassNames, Labels, are_vectors, plain
from captum_softcam.data._pixels.images import Reading
from captum_softcam.data.samples import NamedSamples, Sample, check_size, groups_of, identifier_of, made_square

__all__ = ["Samples"]

_SIGNAL = 2  # dimensions, with channels
_COLUMNS = 4  # images, labels, masks and names
_PICTURES, _COLOURS = 4, 4  # dimensions of a batch of pictures; most channels that they have


class Samples(NamedSamples):
    """Samples from any data set with a length and an index, made by ``Samples.of``."""

    def __new__(cls, *_: Any, **__: Any) -> Samples:
        """Refuse to be called in place of :meth:`of`."""
        if cls is Samples:
            raise TypeError("samples are made by Samples.of(dataset); pass the data set to that.")
        return super().__new__(cls)

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of the model's logits; None if they are not known."""

    @classmethod
    def of(
        cls,
        dataset: Any,
        *,
        classes: Sequence[str] | None = None,
        image: Key | None = None,
        label: Key | None = None,
        mask: Key | None = None,
        identifier: Key | None = None,
        multilabel: bool = False,
        channels: Channels | None = None,
        size: int | None = None,
        fit: Fit = Fit(),
        reading: Reading = Reading(),
    ) -> Samples:
        """Make samples of a data set of torch, torchvision, Hugging Face or MONAI, or of a list; nothing is copied.

        An item is a :class:`Sample`; an image; a tuple of an image and its class, its mask or both, in any order and depth;
        or a dict, whose keys are found by their usual names, such as ``image``, ``label`` and ``mask``. What is a mask and
        what a class is told by the shape. The first item decides for all.

        An image is a PIL image, which becomes RGB and upright; the name of a file; or an array or tensor with one to three
        dimensions besides its channels. Pictures and volumes of floats have to lie in [0, 1]; those of 8 bits are divided by
        255; those of 16 bits are shown from their smallest to their largest value, or by ``reading.window``. The values of
        signals are not changed. Normalisation belongs to the comparison, as its ``normalize``.

        A class is its number, its name or a one-hot vector; None and -1 mean that it is not known. A mask is a picture,
        array, tensor or file in the size of the image, true above 0; without anything above 0, there is nothing to localise.

        Cost: the first item is read twice. With ``multilabel`` or ``identifier``, every item is read once, unless the data
        set knows labels and names without its images: columns of Hugging Face, ``targets`` of torchvision, the dicts of
        MONAI, tensors and lists. A sample reads its item anew each time.

        Args:
            dataset (object): with a length and an index; a ``Subset`` or ``ConcatDataset`` is one, too.
            classes (sequence of str): names in the order of the model's logits; a data set that knows names of its own, in
                another order, is numbered by them. Default: those of the data set
            image (str, int or tuple): key or position of the image in an item, or all that lead to it. Default: found
            label (str, int or tuple): likewise of the class. Default: found
            mask (str, int or tuple): likewise of the mask. Default: found
            identifier (str, int or tuple): likewise of a name that is unique. Default: the file or id of an item, if it is
                known without reading images, else its place, such as ``"000017"``
            multilabel (bool): whether an image may show several classes. Its label is then a vector with 1, 0 or -1
                (undecided, as NaN) for each class, or a list of classes; there is one sample for each image and class that
                it shows, and masks (P, ...) belong to the elements of the label. Default: False
            channels (str): where arrays and tensors have their channels, ``"first"``, ``"last"``, or ``"none"`` if they have
                none. Default: the first or last axis of at most 4, or else 16, elements, if only one of the two is
            size (int): side of the square that pictures become. Default: their own size
            fit (Fit): how pictures become square. Default: they are resized as a whole
            reading (Reading): how files and values are read. Default: as they are

        Returns:
            Samples: in the order of the data set. Reading one raises ValueError with its index for an item that is not built
            as the first, or cannot become a sample.

        Raises:
            TypeError: if ``dataset`` has no length or index, or is a ``DataLoader``, a dict of splits or a path.
            ValueError: if it is empty, its first item cannot become a sample, an argument is out of range, two items have
                the same name, or no image shows a class.

        Example::

            >>> samples = Samples.of([(torch.zeros(3, 8, 8), "cat"), (torch.ones(3, 8, 8), "dog")], classes=["cat", "dog"])
            >>> samples[1].image.shape, samples[1].target, samples[1].identifier
            (torch.Size([3, 8, 8]), 1, '000001')
        """
        _check(dataset)
        if not len(dataset):
            raise ValueError("the data set has no items; pass one that is not empty.")
        if channels is not None and channels not in CHANNELS:
            raise ValueError(f"channels {quoted(channels)} is unknown. {closest(str(channels), CHANNELS)}")
        if size is not None:
            check_size(size)
        parts = {"image": image, "mask": mask, "label": label, "identifier": identifier}
        first, fields = read_item(dataset, 0), None
        if not isinstance(first, Sample):
            fields = find_fields(first, parts, dataset)
            _refuse_batches(first, fields)
        elif multilabel or classes is not None or any(part is not None for part in parts.values()):
            raise ValueError(
                "the data set has samples already, with their image, class, mask and identifier; pass neither these, nor "
                "classes or multilabel."
            )
        own = names_of_classes(dataset, None if fields is None else fields.label)
        class_names = ClassNames(own, None if classes is None else tuple(classes))
        found = _Adapted(dataset, fields, class_names, _names(dataset, fields), channels, size, fit, reading)
        if multilabel and fields is not None:
            found = _with_pairs(found, dataset, fields)
        _warn_of_chance(found)
        return found


class _Pair(NamedTuple):
    """One of the classes that an item shows."""

    item: int
    target: int
    shown: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Adapted(Samples):
    """A data set, and how its items become samples.

    Args:
        dataset (object): items by their index.
        fields (Fields or None): where an item has what; None for items that are samples.
        class_names (ClassNames): the names of the classes.
        names (sequence of str or None): names of the items; None for items that are samples.
        channels (str or None): where arrays have their channels; None where their shape says so.
        size (int or None): side of the square.
        fit (Fit): how pictures become square.
        reading (Reading): how files are read.
        vectors (bool): whether the labels of several classes have an element for each class. Default: False
        pairs (list of _Pair or None): image and class of every sample; None if an item is a sample. Default: None
    """

    dataset: Any
    fields: Fields | None
    class_names: ClassNames
    names: Sequence[str] | None
    channels: Channels | None
    size: int | None
    fit: Fit
    reading: Reading
    vectors: bool = False
    pairs: Sequence[_Pair] | None = None

    def __len__(self) -> int:
        return len(self.dataset) if self.pairs is None else len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]  # an IndexError ends a loop
        if self.fields is None:
            sample = _own_sample(read_item(self.dataset, index), index)
        elif self.pairs is None:
            sample = self._read(index, self.fields, self.identifier(index), None)
        else:
            sample = self._read(self.pairs[index].item, self.fields, self.identifier(index), self.pairs[index])
        if self.size is None:
            return sample
        if sample.image.dim() == _SIGNAL:
            raise ValueError(f"{place_of(index)} is a signal {tuple(sample.image.shape)}, not a picture; leave out size.")
        return made_square(sample, self.size, self.fit)

    def _read(self, index: int, fields: Fields, name: str, pair: _Pair | None) -> Sample:
        item, place = read_item(self.dataset, index), place_of(index)
        source, label, mask = (field(item, path, index) for path in (fields.image, fields.label, fields.mask))
        image = image_of(source, place, self.channels, self.reading)
        if pair is None:
            target = self.class_names.number(label, place)
            return Sample(image, target, mask_of(mask, image, source, place, self.reading), name)
        labels = self.class_names.labels(label, place, vector=self.vectors)
        if labels.shown != pair.shown:
            raise ValueError(
                f"{place} shows the classes {listed(labels.shown) or 'none'}, but {listed(pair.shown)} before; return the "
                "same label whenever it is read."
            )
        region = mask_of(mask, image, source, place, self.reading, _parts(mask, image, labels, pair.target, place))
        group = None if self.names is None else self.names[pair.item]
        return Sample(image, pair.target, region, name, group, labels.shown, labels.undecided)

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self.class_names.names

    @property
    def groups(self) -> list[str] | None:
        if self.names is None:
            return groups_of(self.dataset)
        return list(self.names) if self.pairs is None else [self.names[pair.item] for pair in self.pairs]

    def identifier(self, index: int) -> str:
        if self.names is None:
            return identifier_of(self.dataset, index)
        if self.pairs is None:
            return self.names[index]
        place, target, _ = self.pairs[index]
        return f"{self.names[place]}/{target if self.classes is None else self.classes[target]}"


def _own_sample(item: Any, index: int) -> Sample:
    """Return an item of a data set of samples, without a mask that shows nothing."""
    if not isinstance(item, Sample):
        raise ValueError(f"{place_of(index)} is {described(item)}; expected a Sample, as the first one.")
    return item if item.mask is None or (item.mask > 0).any() else replace(item, mask=None)


def _parts(mask: Any, image: Tensor, labels: Labels, target: int, place: str) -> list[int]:
    """Return which masks of several are those of a class; none if there is a single mask, of the only class."""
    shape, count = tuple(getattr(mask, "shape", ())), len(labels.positions)
    if len(shape) == image.dim() and shape[0] == count:
        return [position for position, each in enumerate(labels.positions) if each == target]
    if mask is not None and len(labels.shown) > 1:
        raise ValueError(
            f"{place} has {described(mask)} as its mask, and shows the classes {listed(labels.shown)}; expected a mask for "
            f"each element of its label, ({count}, ...)."
        )
    return []


def _check(dataset: Any) -> None:
    """Raise TypeError or ValueError for what is no data set, with the way to one."""
    _refuse_columns(dataset)
    reader = "pass what reads it, such as ImageFolderSamples(folder) or torchvision.datasets.ImageFolder(folder)"
    ways_out: dict[type, str] = {
        DataLoader: "pass loader.dataset, because samples are read one by one",
        Mapping: f"pass one of its parts, such as dataset[{quoted(_part_of(dataset))}]",
        str: reader,
        PathLike: reader,
    }
    for kind, cure in ways_out.items():
        if isinstance(dataset, kind):
            raise TypeError(f"samples are made of a data set with a length and an index; got {_shortly(dataset)}: {cure}.")
    if hasattr(dataset, "iloc"):
        raise TypeError("samples are made of the rows of a table; pass table.to_dict('records').")
    try:
        known = len(dataset) >= 0 and callable(dataset.__getitem__) and not isinstance(dataset, IterableDataset)
    except (AttributeError, TypeError, NotImplementedError):
        known = False
    if not known:
        raise TypeError(
            f"samples are made of a data set with a length and an index; got {_shortly(dataset)}: if it can be read only in "
            "turn, pass list(itertools.islice(dataset, 100))."
        )


def _part_of(dataset: Any) -> object:
    """Return the key of a dict of splits that is likely to be compared on."""
    keys = list(dataset) if isinstance(dataset, Mapping) else []
    return "test" if "test" in keys or not keys else keys[-1]


def _refuse_columns(dataset: Any) -> None:
    """Raise ValueError for all images and all labels in place of pairs of an image and its label."""
    named = isinstance(dataset, Mapping)
    columns = list(dataset.values()) if named else dataset
    few = isinstance(columns, (list, tuple)) and len(columns) <= _COLUMNS
    shapes = [tuple(getattr(part, "shape", ())) for part in columns] if few else []
    ranks, lengths = {len(shape) for shape in shapes}, {shape[:1] for shape in shapes}
    # not a list of pictures of which some are grey, (H, W, 3) and (H, W)
    shaped = len(lengths) == 1 and len(ranks) > 1 and (min(ranks) == 1 or max(ranks) - min(ranks) > 1)
    if shaped or (named and any(str(key).lower() in NAMES["image"] for key in dataset)):
        columns_of = "*dataset.values()" if named else "*dataset"
        raise ValueError(
            f"the data set is {described(dataset)}, all images and then all labels; pass list(zip({columns_of})), an image "
            "and its label each."
        )


def _shortly(dataset: object) -> str:
    return described(dataset) if isinstance(dataset, (str, Mapping)) else f"a {type(dataset).__name__}"


def _refuse_batches(item: Any, fields: Fields) -> None:
    image, label = field(item, fields.image, 0), field(item, fields.label, 0)
    shape, labels = tuple(getattr(image, "shape", ())), tuple(getattr(label, "shape", ()))
    if len(shape) == _PICTURES and labels == shape[:1] and (shape[0] > 1 or shape[1] <= _COLOURS):
        raise ValueError(
            f"{place_of(0)} is {described(item)}, a batch of {shape[0]}; pass a data set of single images, such as the "
            "dataset of a DataLoader."
        )


def _names(dataset: Any, fields: Fields | None) -> Sequence[str] | None:
    """Return a unique name for every item; None if the items are samples, which have one."""
    if fields is None:
        return None
    if fields.identifier is None:
        return names_of(dataset, fields.image) or [f"{index:06d}" for index in _numbers(dataset)]
    names = [str(name) for name in _column(dataset, fields.identifier)]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:  # scores are stored and resumed by identifier
        raise ValueError(f"{count} items have the identifier {quoted(name)}; name a part of the items that is unique.")
    return names


def _numbers(dataset: Any) -> Sequence[int]:
    """Return a number for every item, in a ``Subset`` that of the whole data set, so that a larger part can go on."""
    if isinstance(dataset, Subset):
        whole = _numbers(dataset.dataset)
        numbers = [whole[index] for index in dataset.indices]
        if len(set(numbers)) == len(numbers):  # not if it was drawn with replacement
            return numbers
    return range(len(dataset))


def _column(dataset: Any, path: tuple[str | int, ...]) -> Sequence[Any]:
    """Return a part of every item; all are read if there is no other way."""
    found = column(dataset, path)
    # the first item tells whether a transform changes it
    if found is not None and plain(found[0]) == plain(field(read_item(dataset, 0), path, 0)):
        return found
    return [field(read_item(dataset, index), path, index) for index in range(len(dataset))]


def _with_pairs(samples: _Adapted, dataset: Any, fields: Fields) -> _Adapted:
    """Return samples of all pairs of an image and a class that it shows."""
    labels = [] if fields.label is None else _column(dataset, fields.label)
    names = samples.class_names
    vectors = not lists_classes(dataset, fields.label) and are_vectors(labels, names.own or names.names)
    found = [names.labels(label, place_of(index), vector=vectors).shown for index, label in enumerate(labels)]
    pairs = [_Pair(index, target, shown) for index, shown in enumerate(found) for target in shown]
    if not pairs:
        raise ValueError("no image of the data set shows a class; name its label by label=, or leave out multilabel.")
    without = found.count(())
    if without:
        warnings.warn(f"{without} of {len(found)} images show none of the classes and make no sample.", stacklevel=4)
    return replace(samples, vectors=vectors, pairs=pairs)


def _warn_of_chance(samples: Samples) -> None:
    """Warn if the first sample is not the same when it is read again."""
    first, again = samples[0], samples[0]
    same = (
        first.target == again.target and first.image.shape == again.image.shape and bool((first.image == again.image).all())
    )
    if not same:
        warnings.warn(
            "the data set returns another image whenever the same index is read, as with random augmentation; use the "
            "transforms of the evaluation, because a comparison reads samples several times.",
            stacklevel=3,
        )
