"""Every data set that has a reader, with one image, in the layout that it has on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from image_files import SIDE, draw, pascal_xml, write
from PIL import Image

__all__ = ["make_layouts"]


def make_layouts(root: Path) -> None:
    """Make them below a folder."""
    draw(root / "images/cat/1.jpg")
    save_mask(root / "masks/cat/1.png")
    draw(root / "VOCdevkit/VOC2007/JPEGImages/000001.jpg")
    write(root / "VOCdevkit/VOC2007/Annotations/000001.xml", pascal_xml(("cat", (1, 1, 2, 2))))
    write(root / "VOCdevkit/VOC2007/ImageSets/Main/test.txt", "000001\n")
    draw(root / "val2017/000000000139.jpg")
    region = {"id": 1, "image_id": 139, "category_id": 18, "bbox": [1, 1, 4, 4], "segmentation": [[1, 1, 5, 1, 5, 5]]}
    images, categories = [{"id": 139, "file_name": "000000000139.jpg"}], [{"id": 18, "name": "dog"}]
    document = {"images": images, "categories": categories, "annotations": [region]}
    write(root / "annotations/instances_val2017.json", json.dumps(document))
    draw(root / "oxford-iiit-pet/images/Abyssinian_201.jpg")
    save_mask(root / "oxford-iiit-pet/annotations/trimaps/Abyssinian_201.png", background=2)
    write(root / "oxford-iiit-pet/annotations/test.txt", "Abyssinian_201 1 1 1\n")
    draw(root / "stage_2_train_images/00436515.png")
    write(root / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target\n00436515,1,1,2,2,1\n")
    draw(root / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG")
    write(root / "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml", pascal_xml(("n01751748", (0, 0, 1, 1))))
    write(root / "LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca\nn01751748 sea snake\n")
    chest = "CheXpert-v1.0-small/valid/patient64543/study1/view1_frontal"
    draw(root / f"data/{chest}.jpg")
    save_mask(root / f"masks/Edema/{chest}.png")
    write(root / "data/CheXpert-v1.0-small/valid.csv", f"Path,Sex,Edema,Pneumothorax\n{chest}.jpg,Male,1.0,-1.0\n")
    draw(root / "scans/a.png")


def save_mask(path: Path, background: int = 0) -> None:
    """A mask that is 1 everywhere but in one corner, because one of a whole picture raises a warning."""
    pixels = np.ones((SIDE, SIDE), np.uint8)
    pixels[0, 0] = background
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
