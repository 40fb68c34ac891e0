"""The guide on own data is true: its code runs on the layouts that it draws."""

import re
from pathlib import Path

import pytest
from layouts import make_layouts

GUIDE = Path(__file__).parents[2] / "docs/how-to/own_data.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Every data set of the guide with one image, in the working directory."""
    make_layouts(tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("block", [block for block in BLOCKS if "pydicom" not in block])
def test_block(here, block):  # noqa: ARG001 - the block finds the layouts by itself
    names = {}
    exec(block, names)
    (sample,) = names["samples"]
    assert sample.image.shape == (3, 224, 224)
    assert sample.mask.any()


def test_all_blocks_are_looked_at():
    assert len(BLOCKS) == 8
