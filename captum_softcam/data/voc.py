"""Samples from PASCAL VOC: one for every class in an image."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from captum_softcam._fit import Fit
from captum_softcam._names import closest, quoted, reason, shown
from captum_softcam.data.files import existing_folder, named_image
from captum_softcam.data.images import Reading
from captum_softcam.data.pascal_xml import PascalObject, read_pascal_xml
from captum_softcam.data.regions import Box, box_mask
from captum_softcam.data.samples import ImageEntry, MaskedImages, class_number, class_numbers
from captum_softcam.data.tables import Line, read_lines

__all__ = ["VOCSamples"]

_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class VOCSamples(MaskedImages):
    """PASCAL VOC as it is unpacked, and as ``torchvision.datasets.VOCDetection`` downloads it.

    ``root`` holds ``JPEGImages/NAME.jpg``, ``Annotations/NAME.xml`` and ``ImageSets/Main/SPLIT.txt``. One sample is one
    image and one class in it; the mask is the union of that class's boxes. Corners are numbered from 1 and belong to the
    box, so ``xmin`` 1 and ``xmax`` 2 are the first two columns; a box is cut off at the border of the image.

    Objects marked ``difficult`` are left out: they are not targets, and a class whose objects in an image are all difficult
    makes no sample. The pointing game :cite:`zhang2018pointing`, as TorchRay implements it, leaves out the same samples, but
    where a class has other objects too, it counts a hit on a difficult one: ``include_difficult=True``.

    The samples of an image share their ``group``, its name, and their ``labels``, the classes that make samples. A class
    whose objects are all difficult is ``undecided``, because VOC's classification task does not count it either way.

    Order: the classes alternate, each in the order of the list. Cost: one XML file per image is read at construction,
    0.15 ms each from a warm disk; an image is read when its sample is used.

    Args:
        root (path): the folder of a year, such as ``"VOCdevkit/VOC2007"``.
        split (str): a list in ``ImageSets/Main``: ``"train"``, ``"val"``, ``"trainval"`` or ``"test"``. Default: ``"test"``
        size (int): side of the samples in pixels. Default: 224
        classes (sequence of str): all classes in the order of the model's logits. Default: the 20 of VOC, sorted
        include_difficult (bool): whether difficult objects beside others of the class are part of the mask. Default: False
        fit (Fit): how images become square. Default: they are resized as a whole
        reading (Reading): how the files are read. Default: as they are

    Raises:
        FileNotFoundError: if a folder, the list, an image or an annotation is missing.
        ValueError: if an annotation cannot be read or has an unknown class, or nothing is left. Reading a sample raises it
            for an unreadable image, an annotation for another size, and a box wholly outside; no image is skipped.

    Example::

        >>> samples = VOCSamples("VOCdevkit/VOC2007")
        >>> samples[0].image.shape, samples[0].identifier
        (torch.Size([3, 224, 224]), '000001/cat')
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        size: int = 224,
        classes: Sequence[str] | None = None,
        include_difficult: bool = False,
        fit: Fit = Fit(),
        reading: Reading = Reading(),
    ) -> None:
        root = existing_folder(Path(root), "VOC folder")
        classes = _CLASSES if classes is None else tuple(classes)
        lines, numbers = read_lines(_list(root, split)), class_numbers(classes)
        entries = [entry for line in lines for entry in _entries(line, root, numbers, include_difficult)]
        if not entries:
            raise ValueError(
                f"no image of the split {quoted(split)} in '{shown(root)}' shows an object that is not difficult."
            )
        super().__init__(entries, classes, size, fit, reading)


def _list(root: Path, split: str) -> Path:
    folder = existing_folder(root / "ImageSets" / "Main", "folder of lists")
    path = folder / f"{split}.txt"
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"list '{shown(path)}' is not a file. {closest(split, sorted(p.stem for p in folder.glob('*.txt')))}"
        )
    return path


def _entries(line: Line, root: Path, numbers: Mapping[str, int], include_difficult: bool) -> Iterator[ImageEntry]:
    """Yield a sample for every class with an object that is not difficult."""
    if len(line.words) > 1:  # the lists of one class, such as cat_test.txt, have a second column
        raise ValueError(f"{line.place} is '{reason(' '.join(line.words))}'; expected the name of an image alone.")
    name = line.words[0]
    file = named_image(root / "JPEGImages", f"{name}.jpg", line.place)
    path = root / "Annotations" / f"{name}.xml"
    annotation = read_pascal_xml(path, first_pixel=1)
    where = f"annotation '{shown(path)}'"
    targets = {found.name: class_number(found.name, numbers, where) for found in annotation.objects}
    boxes = {
        label: _boxes([found for found in annotation.objects if found.name == label], include_difficult) for label in targets
    }
    labels, undecided = (
        tuple(sorted(target for label, target in targets.items() if bool(boxes[label]) == clear)) for clear in (True, False)
    )
    for label, target in targets.items():
        if boxes[label]:
            mask = partial(box_mask, boxes[label], where, annotation.size, file)
            yield ImageEntry(file, target, f"{name}/{label}", mask, name, labels, undecided)


def _boxes(objects: list[PascalObject], include_difficult: bool) -> list[Box]:
    # difficult objects never make a sample by themselves
    clear = [found.box for found in objects if not found.difficult]
    return [found.box for found in objects] if clear and include_difficult else clear
