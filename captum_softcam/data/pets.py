"""Samples from the Oxford-IIIT Pet data set, whose trimaps outline cats and dogs to the pixel."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam._names import closest, named, quoted, shown
from captum_softcam.data._disk.files import existing_file, existing_folder
from captum_softcam.data._disk.left_out import LeftOut
from captum_softcam.data._disk.named_images import NamedImages
from captum_softcam.data._disk.tables import Line, read_lines
from captum_softcam.data._pixels.images import Reading, open_image
from captum_softcam.data._pixels.masks import aligned
from captum_softcam.data.inventory import Found
from captum_softcam.data.samples import ImageEntry, MaskedImages

__all__ = ["OxfordPetSamples"]

_SPECIES = ("cat", "dog")
_BREEDS = (
    *("Abyssinian", "american_bulldog", "american_pit_bull_terrier", "basset_hound", "beagle", "Bengal", "Birman"),
    *("Bombay", "boxer", "British_Shorthair", "chihuahua", "Egyptian_Mau", "english_cocker_spaniel", "english_setter"),
    *("german_shorthaired", "great_pyrenees", "havanese", "japanese_chin", "keeshond", "leonberger", "Maine_Coon"),
    *("miniature_pinscher", "newfoundland", "Persian", "pomeranian", "pug", "Ragdoll", "Russian_Blue", "saint_bernard"),
    *("samoyed", "scottish_terrier", "shiba_inu", "Siamese", "Sphynx", "staffordshire_bull_terrier", "wheaten_terrier"),
    "yorkshire_terrier",
)
_CLASSES = {"breed": _BREEDS, "species": _SPECIES}
_FOREGROUND, _BACKGROUND, _BORDER = 1, 2, 3


class OxfordPetSamples(MaskedImages):
    """The Oxford-IIIT Pet data set as it is unpacked, and as ``torchvision.datasets.OxfordIIITPet`` downloads it.

    ``root`` holds ``images/NAME.jpg``, ``annotations/trimaps/NAME.png`` and the lists ``annotations/SPLIT.txt``. The mask is
    the animal, without the border between it and the background that the trimaps leave undecided.

    Order: the classes alternate, each in the order of the list. Cost: a list of 3,700 lines is read at construction and
    its files are looked up; an image and its trimap are read when their sample is used.

    Args:
        root (path): the folder of the data set, such as ``"oxford-iiit-pet"``.
        split (str): ``"test"``, ``"trainval"``, or ``"list"`` for both. Default: ``"test"``
        size (int): side of the samples in pixels. Default: 224
        target (str): ``"breed"`` (37 classes, named as in the files, in the order of their numbers) or ``"species"``
            (``"cat"`` 0 and ``"dog"`` 1). Default: ``"breed"``
        border (bool): whether the undecided border is part of the mask. Default: False
        fit (Fit): how images become square. Default: they are resized as a whole
        reading (Reading): how the files are read. Default: as they are

    Raises:
        FileNotFoundError: if a folder or the list is missing, or all images or trimaps are; one that is missing is left out,
            with a warning.
        ValueError: if ``target`` is unknown, or a line of the list is not an image, its class and its species. Reading a
            sample raises it for an unreadable file, and a trimap of another size, with other values or without an animal.

    Example::

        >>> samples = OxfordPetSamples("oxford-iiit-pet", target="species")
        >>> samples[0].image.shape, samples[0].identifier
        (torch.Size([3, 224, 224]), 'Abyssinian_201')
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        size: int = 224,
        target: Literal["breed", "species"] = "breed",
        border: bool = False,
        fit: Fit = Fit(),
        reading: Reading = Reading(),
    ) -> None:
        if target not in _CLASSES:
            raise ValueError(f"target {quoted(target)} is unknown. {closest(target, _CLASSES)}")
        root = existing_folder(Path(root), "pet folder")
        path = root / "annotations" / f"{split}.txt"
        lines, left_out = read_lines(path), LeftOut(f"list '{shown(path)}'")
        pictures, entries = NamedImages(root / "images"), []
        for line in lines:
            name, breed, species = _parse(line)
            with left_out.faults("no such image or trimap", name, FileNotFoundError):
                file = pictures.find(f"{name}.jpg", line.place).file
                trimap = existing_file(root / "annotations" / "trimaps" / f"{name}.png", "trimap", line.place)
                mask = partial(_trimap_mask, trimap, border, file)
                entries.append(ImageEntry(file, breed if target == "breed" else species, name, mask))
        left_out.tell(len(entries))
        found = Found(len(lines), left_out=left_out.names)
        super().__init__(entries, _CLASSES[target], size, fit, reading, found)


def _parse(line: Line) -> tuple[str, int, int]:
    """Return the name of the image, its breed from 0 to 36 and its species, 0 or 1."""
    name, *numbers = line.text.split()
    # the breed is there twice, in the name and as a number; both have to agree, or the list belongs to another data set
    breeds = {breed.lower(): i for i, breed in enumerate(_BREEDS)}
    breed = breeds.get(name.rpartition("_")[0].lower())
    if breed is None or numbers[:1] != [str(breed + 1)] or numbers[1:2] not in (["1"], ["2"]):
        raise ValueError(
            f"{line.place} is '{named(line.text)}'; expected BREED_NUMBER, the number of the breed from 1 to "
            "37, and the species, 1 for a cat or 2 for a dog."
        )
    return name, breed, int(numbers[1]) - 1


def _trimap_mask(path: Path, border: bool, image_path: Path, image: Tensor) -> Tensor:
    """Return where a trimap shows the animal, (1, H, W) bool."""
    # in its own mode, because the conversion of a palette to grey would change the values
    values: np.ndarray[Any, Any] = np.asarray(open_image(path, "trimap"))
    values = aligned(values, "trimap", path, image, image_path)
    unknown = np.setdiff1d(values, (_FOREGROUND, _BACKGROUND, _BORDER))
    if unknown.size:
        raise ValueError(
            f"trimap '{shown(path)}' has the value {unknown[0]}; expected 1 (animal), 2 (background) and 3 (border)."
        )
    mask = (values == _FOREGROUND) | (border & (values == _BORDER))
    if not mask.any():
        raise ValueError(
            f"trimap '{shown(path)}' shows no animal{'' if border else '; border=True counts its border as well'}."
        )
    return torch.from_numpy(mask)[None]
