"""Tiny images on disk, and what comes out of them, for the tests of all readers."""

from __future__ import annotations

import re

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


def warned(words, call):
    """What ``call`` returns; it has to warn in these words."""
    with pytest.warns(UserWarning, match=re.escape(words)):
        return call()


def pascal_xml(*objects, size=(SIDE, SIDE)):
    """An annotation; objects are (name, (xmin, ymin, xmax, ymax)), and whether they are difficult if they say so."""
    parts = [
        f"<object><name>{name}</name><difficult>{int(any(rest))}</difficult>"
        f"<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box, *rest in objects
    ]
    shape = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return "\n".join(["<annotation>", shape, *parts, "</annotation>"])


def damaged(content, choose):
    """Bytes with a few of them flipped, cut out, doubled or cut off."""
    found = bytearray(content)
    for _ in range(choose.choice([1, 1, 3, 9])):
        at = choose.randrange(len(found) or 1)
        kind = choose.randrange(5)
        if kind == 0 and found:
            found[at] ^= 1 << choose.randrange(8)
        elif kind == 1:
            del found[at : at + choose.choice([1, 30])]
        elif kind == 2:
            found[at:at] = choose.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        elif kind == 3:
            found[at:at] = found[: choose.choice([4, 40])]
        else:
            del found[at:]
    return bytes(found)
