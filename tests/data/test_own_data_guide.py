"""The guide on own data is true: its code runs on the layouts that it draws."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from image_files import SIDE, draw, pascal_xml, write
from PIL import Image

GUIDE = Path(__file__).parents[2] / "docs/how-to/own_data.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def save_white(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ones((SIDE, SIDE), np.uint8)).save(path)


@pytest.fixture
def layouts(tmp_path, monkeypatch):
    """Every data set of the guide with one image, below the working directory."""
    draw(tmp_path / "images/cat/1.jpg")
    save_white(tmp_path / "masks/cat/1.png")
    draw(tmp_path / "VOCdevkit/VOC2007/JPEGImages/000001.jpg")
    write(tmp_path / "VOCdevkit/VOC2007/Annotations/000001.xml", pascal_xml(("cat", (1, 1, 2, 2))))
    write(tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/test.txt", "000001\n")
    draw(tmp_path / "val2017/000000000139.jpg")
    region = {"id": 1, "image_id": 139, "category_id": 18, "segmentation": [[1, 1, 5, 1, 5, 5]]}
    images, categories = [{"id": 139, "file_name": "000000000139.jpg"}], [{"id": 18, "name": "dog"}]
    document = {"images": images, "categories": categories, "annotations": [region]}
    write(tmp_path / "annotations/instances_val2017.json", json.dumps(document))
    draw(tmp_path / "oxford-iiit-pet/images/Abyssinian_201.jpg")
    save_white(tmp_path / "oxford-iiit-pet/annotations/trimaps/Abyssinian_201.png")
    write(tmp_path / "oxford-iiit-pet/annotations/test.txt", "Abyssinian_201 1 1 1\n")
    draw(tmp_path / "stage_2_train_images/00436515.png")
    write(tmp_path / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target\n00436515,1,1,2,2,1\n")
    draw(tmp_path / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG")
    write(tmp_path / "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml", pascal_xml(("n01751748", (0, 0, 1, 1))))
    write(tmp_path / "LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca\nn01751748 sea snake\n")
    draw(tmp_path / "scans/a.png")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("block", [block for block in BLOCKS if "pydicom" not in block])
def test_block(layouts, block):  # noqa: ARG001 - the block finds the layouts by itself
    names = {}
    exec(block, names)
    (sample,) = names["samples"]
    assert sample.image.shape == (3, 224, 224)
    assert sample.mask.any()


def test_all_blocks_are_looked_at():
    assert len(BLOCKS) == 8
