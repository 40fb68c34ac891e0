"""Samples from PASCAL VOC: one for every class in an image."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from captum_softcam._fit import Fit
from captum_softcam._names import closest, quoted, shown
from captum_softcam.data._disk.files import existing_folder, without_ending
from captum_softcam.data._disk.left_out import MISSING, LeftOut
from captum_softcam.data._disk.named_images import NamedImages
from captum_softcam.data._disk.tables import Line, read_lines
from captum_softcam.data._pixels.images import Reading
from captum_softcam.data._pixels.regions import Box, box_mask
from captum_softcam.data.inventory import Found
from captum_softcam.data.pascal_xml import PascalAnnotation, PascalObject, read_pascal_xml
from captum_softcam.data.samples import ImageEntry, MaskedImages, class_number, class_numbers

__all__ = ["VOCSamples"]

_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


_MARKED = re.compile(r"(.*\S)\s+(-1|0|1)")
_DAMAGED = "unreadable annotation"


class VOCSamples(MaskedImages):
    """PASCAL VOC as it is unpacked, and as ``torchvision.datasets.VOCDetection`` downloads it.

    ``root`` holds ``JPEGImages/NAME.jpg``, or another ending, ``Annotations/NAME.xml`` and ``ImageSets/Main/SPLIT.txt``. One
    sample is one image and one class in it; the mask is the union of that class's boxes. Corners are numbered from 1 and
    belong to the box, so ``xmin`` 1 and ``xmax`` 2 are the first two columns; a box is cut off at the border of the image.

    In the list of one class, such as ``cat_test``, names are followed by 1, 0 (all objects are difficult) or -1, and those
    with -1 are left out. Images that are missing, or whose annotation is missing or damaged, are left out with a warning.
    Without the folder ``ImageSets/Main``, all annotations are read, with a warning.

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
        FileNotFoundError: if a folder or the list is missing, or all images or annotations are.
        ValueError: if an annotation has an unknown class, no annotation can be read, or nothing is left. Reading a sample
            raises it for an unreadable image, an annotation for another size, and a box wholly outside.

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
        left_out, numbers = LeftOut(f"VOC folder '{shown(root)}'"), class_numbers(classes)
        lines = _lines(root, split)
        pictures = NamedImages(root / "JPEGImages")
        images = [found for line in lines if (found := _find(line, root, pictures, left_out))]
        entries = [entry for image in images for entry in _entries(image, numbers, include_difficult)]
        shown_in = {entry.group for entry in entries}
        for image in images:
            if image.name not in shown_in:
                left_out.add("only difficult objects" if image.annotation.objects else "no object", image.name)
        left_out.tell(len(entries))
        if not entries:
            raise ValueError(
                f"no image of the split {quoted(split)} in '{shown(root)}' shows an object that is not difficult."
            )
        super().__init__(entries, classes, size, fit, reading, Found(len(lines), left_out=left_out.names))


def _lines(root: Path, split: str) -> list[Line]:
    """Read the list of a split; without any list, name all annotations."""
    folder, annotations = root / "ImageSets" / "Main", root / "Annotations"
    if split == "test" and not os.path.isdir(folder) and os.path.isdir(annotations):  # own pictures often have no lists
        warnings.warn(
            f"VOC folder '{shown(root)}' has no lists in ImageSets/Main; all images with annotations are read.", stacklevel=3
        )
        files = sorted(file for file in annotations.glob("*.xml") if not file.name.startswith("."))
        return [Line(f"annotation '{shown(file)}'", file.stem) for file in files]
    path = existing_folder(folder, "folder of lists") / f"{split}.txt"
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"list '{shown(path)}' is not a file. {closest(split, sorted(p.stem for p in folder.glob('*.txt')))}"
        )
    return read_lines(path)


class _Image(NamedTuple):
    name: str
    file: Path
    path: Path
    annotation: PascalAnnotation


def _find(line: Line, root: Path, pictures: NamedImages, left_out: LeftOut) -> _Image | None:
    """Return the image that a line names and its annotation, or None if it is left out."""
    name, marked = line.text, _MARKED.fullmatch(line.text)
    if marked and not os.path.isfile(root / "Annotations" / f"{name}.xml"):  # a name may end like a mark, as "cat 1" does
        name = marked[1]
        if marked[2] == "-1":
            left_out.add("not of the class of the list", name)
            return None
    name = without_ending(name)
    path = root / "Annotations" / f"{name}.xml"
    with left_out.faults(MISSING, name, FileNotFoundError):
        file = pictures.find(f"{name}.jpg", line.place).file
        with left_out.faults("no annotation", name, FileNotFoundError), left_out.faults(_DAMAGED, name, ValueError):
            return _Image(name, file, path, read_pascal_xml(path, first_pixel=1))
    return None


def _entries(image: _Image, numbers: Mapping[str, int], include_difficult: bool) -> Iterator[ImageEntry]:
    """Yield a sample for every class with an object that is not difficult."""
    name, file, path, annotation = image
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
