"""Tiny images on disk, and what comes out of them, for the tests of all readers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

SIDE = 12


def draw(path, width=SIDE, height=SIDE):
    """Save a black image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path, format="JPEG" if path.suffix == ".JPEG" else None)
    return path


def write(path, text):
    """Save a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def block(*spans, size=(SIDE, SIDE)):
    """A mask (1, H, W), true in rectangles of (first row, last row + 1, first column, last column + 1)."""
    mask = torch.zeros(1, *size, dtype=torch.bool)
    for top, bottom, left, right in spans:
        mask[0, top:bottom, left:right] = True
    return mask


def same(mask, expected):
    """Whether two masks agree in every pixel; the difference is printed."""
    if not torch.equal(mask, expected):
        print(np.array2string(mask[0].int().numpy() - 2 * expected[0].int().numpy()))
        return False
    return True


def message(error, call):
    """The whole text of the error that ``call`` raises."""
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def pascal_xml(*objects, size=(SIDE, SIDE)):
    """An annotation; objects are (name, (xmin, ymin, xmax, ymax)), and whether they are difficult if they say so."""
    parts = [
        f"<object><name>{name}</name><difficult>{int(any(rest))}</difficult>"
        f"<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box, *rest in objects
    ]
    shape = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return "\n".join(["<annotation>", shape, *parts, "</annotation>"])
