"""The guides on own data are true: their code runs on the layouts that they draw."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from image_files import draw, write
from layouts import make_layouts

from captum_softcam.data import BoxTableSamples, LabelledImages

GUIDES = Path(__file__).parents[2] / "docs/how-to"
BLOCKS = [
    block
    for page in ("own_data.md", "read_files.md")
    for block in re.findall(r"^```python\n(.*?)^```$", (GUIDES / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Every data set of the guides with one image, in the working directory."""
    make_layouts(tmp_path)
    monkeypatch.chdir(tmp_path)


OTHERS = ("ct_masks", "train.csv")  # have tests of their own


@pytest.mark.parametrize("block", [block for block in BLOCKS if not any(word in block for word in OTHERS)])
def test_block(here, block):  # noqa: ARG001 - the block finds the layouts by itself
    names = {}
    exec(block, names)
    assert [sample.target for sample in names.get("unlabelled", [])] in ([], [-1])
    for sample in list(names.get("samples", [])):
        assert sample.image.shape == (3, 224, 224)
        assert sample.mask.any()


def test_no_patient_is_on_both_sides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in BLOCKS if "train.csv" in block)
    head = "patientId,x,y,width,height,Target"
    ill = [f"p{i},{4 * k},2,3,3,1" for i in range(6) for k in range(2)]  # two boxes each
    write(Path("stage_2_train_labels.csv"), "\n".join([head, *ill, *(f"p{i},,,,,0" for i in range(6, 10))]))
    for i in range(10):
        draw(Path(f"stage_2_train_images/p{i}.png"))
    exec(block, {})
    samples, images = BoxTableSamples("stage_2_train_images", "test_boxes.csv", 32), LabelledImages.from_csv("train.csv")
    tested = {samples[i].identifier.partition("/")[0] for i in range(len(samples))}
    trained = {Path(path).stem for path in pd.read_csv("train.csv")["path"]}
    assert (len(tested), len(trained), tested & trained) == (2, 8, set())
    assert sum(images.counts().values()) == 8


def test_volumes_are_compared(tmp_path, monkeypatch):
    pytest.importorskip("nibabel", reason="NIfTI needs the extra medical")
    from clinic_files import nifti

    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in BLOCKS if "ct_masks" in block)
    for name in ("ill/1.nii.gz", "healthy/2.nii.gz"):
        values = np.full((12, 10, 8), -1000, np.int16)
        values[2:5, 2:5, 2:5] = 40 if "ill" in name else -900
        for folder, each in (("ct", values), ("ct_masks", (values == 40).astype(np.uint8))):
            Path(folder, name).parent.mkdir(parents=True)
            nifti(Path(folder, name), each)
    found = {}
    exec(block, found)
    assert found["comparison"].failures.empty
    assert set(found["comparison"].scores["method"]) == {"grad_cam", "recipro_cam"}


def test_all_blocks_are_looked_at():
    assert len(BLOCKS) == 17
