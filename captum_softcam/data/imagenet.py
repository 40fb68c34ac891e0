"""Samples from the validation images of ImageNet, with the boxes of its localisation task."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from captum_softcam._fit import Fit
from captum_softcam._imagenet import other_names, wordnet_ids
from captum_softcam._names import listed, quoted, shown
from captum_softcam.data._disk.files import existing_folder, image_files
from captum_softcam.data._disk.left_out import LeftOut
from captum_softcam.data._pixels.images import Reading
from captum_softcam.data._pixels.regions import box_mask
from captum_softcam.data.inventory import Found
from captum_softcam.data.pascal_xml import PascalAnnotation, read_pascal_xml
from captum_softcam.data.samples import ImageEntry, MaskedImages, class_number, class_numbers

__all__ = ["ImageNetSamples"]

_DAMAGED = "unreadable annotation"


class ImageNetSamples(MaskedImages):
    """The validation images of ILSVRC in the layout of its localisation task (CLS-LOC).

    ``root`` holds ``Annotations/CLS-LOC/val/NAME.xml`` and ``Data/CLS-LOC/val/NAME.JPEG``, or the images sorted into
    ``Data/CLS-LOC/val/WNID/NAME.JPEG``. The class is the WordNet id in the annotation, and the mask the union of its boxes.
    Corners are numbered from 0, unlike PASCAL's, and belong to the box; a box is cut off at the border of the image.

    Any part of the images is enough, and any part of the classes: images of a class that is none of ``classes`` are left
    out with a warning, and so are those whose annotation is missing or damaged. Annotations without an image are not read.
    Order: the classes alternate, each sorted by name. Cost: one XML file per image is read at construction, 0.15 ms each
    from a warm disk; an image is read when its sample is used.

    Args:
        root (path): the folder ``ILSVRC``, the one around it, or one of ``Data`` and ``Annotations`` in it.
        size (int): side of the samples in pixels. Default: 224
        classes (sequence of str): all classes in the order of the model's logits, as WordNet ids or as names of ImageNet.
            Default: the WordNet ids of all 1,000, sorted, which is the order of torchvision's and timm's models
        fit (Fit): how images become square. Default: they are resized as a whole
        reading (Reading): how the files are read. Default: as they are

    Raises:
        FileNotFoundError: if a folder is missing, or there are no images, or none with an annotation.
        ValueError: if no annotation can be read and has one class, which is one of ``classes`` and that of the image's
            folder. Reading a sample raises it for an unreadable image, an annotation for another size, and a box wholly
            outside.

    Example::

        >>> samples = ImageNetSamples("ILSVRC")
        >>> samples[0].image.shape, samples[0].identifier
        (torch.Size([3, 224, 224]), 'ILSVRC2012_val_00000001')
    """

    def __init__(
        self,
        root: str | Path,
        size: int = 224,
        classes: Sequence[str] | None = None,
        fit: Fit = Fit(),
        reading: Reading = Reading(),
    ) -> None:
        root = _root(Path(root))
        images, annotations = (root / kind / "CLS-LOC" / "val" for kind in ("Data", "Annotations"))
        existing_folder(annotations, "annotation folder")
        files = image_files(existing_folder(images, "image folder"))
        if not files:
            raise FileNotFoundError(f"image folder '{shown(images)}' has no images; expected '{shown(images)}/NAME.JPEG'.")
        classes = wordnet_ids() if classes is None else tuple(classes)
        numbers = {**other_names(classes), **class_numbers(classes)}
        left_out, entries = LeftOut(f"ImageNet folder '{shown(root)}'"), []
        for file in files:
            name, image = file.stem, None
            with left_out.faults("no annotation", name, FileNotFoundError), left_out.faults(_DAMAGED, name, ValueError):
                image = _read(file, images, annotations)
            if image is not None:
                with left_out.faults("another class", name, ValueError):
                    entries.append(_entry(image, numbers))
        left_out.tell(len(entries))
        super().__init__(entries, classes, size, fit, reading, Found(len(files), left_out=left_out.names))


def _root(folder: Path) -> Path:
    """Return the folder ILSVRC: the one passed, one in it, or one around it."""
    inside = {"Data", "Annotations"} & set(folder.absolute().parts[-3:])  # as in ILSVRC/Data/CLS-LOC/val
    choices = (folder, folder / "ILSVRC", *(list(folder.absolute().parents)[:3] if inside else ()))
    return next((each for each in choices if os.path.isdir(each / "Annotations" / "CLS-LOC" / "val")), folder)


class _Image(NamedTuple):
    file: Path
    path: Path
    wnid: str
    annotation: PascalAnnotation


def _read(file: Path, images: Path, annotations: Path) -> _Image:
    """Pair an image with its annotation, which has to name one class, and that of the image's folder if it is a class's."""
    path = annotations / f"{file.stem}.xml"
    annotation = read_pascal_xml(path, first_pixel=0)
    names = sorted({found.name for found in annotation.objects})
    if len(names) != 1:  # an image of ImageNet has one label, whatever else it shows
        raise ValueError(
            f"annotation '{shown(path)}' names {len(names)} classes ({listed(names) or 'no object'}); expected one."
        )
    if file.parent != images and file.parent.name != names[0]:
        raise ValueError(
            f"annotation '{shown(path)}' has the class {quoted(names[0])}, but its image is '{shown(file)}'; they disagree."
        )
    return _Image(file, path, names[0], annotation)


def _entry(image: _Image, numbers: Mapping[str, int]) -> ImageEntry:
    where = f"annotation '{shown(image.path)}'"
    boxes = [found.box for found in image.annotation.objects]
    mask = partial(box_mask, boxes, where, image.annotation.size, image.file)
    return ImageEntry(image.file, class_number(image.wnid, numbers, where), image.file.stem, mask)
