"""Sheets: one page for one picture, to print."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from reports import CLASSES
from torch import Tensor

from captum_softcam.data import Sample
from captum_softcam.evaluation import Example
from captum_softcam.report import plot_sheet, write_sheet

DISCLAIMER = "Research software, not a medical device."


def spot(height: int, width: int, y: float, x: float, spread: float = 0.05) -> Tensor:
    """A map with one Gaussian spot, at fractions of its height and width."""
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in (height, width))
    rows, columns = (rows + 0.5) / height - y, (columns + 0.5) / width - x
    return torch.exp(-(rows[:, None] ** 2 + columns**2) / (2 * spread**2))[None]


def example(**changes: Any) -> Example:
    parts = {
        "sample": Sample(torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0)), 1, None, "eye 1"),
        "target": 1,
        "maps": {"grad_cam": spot(32, 48, 0.2, 0.8)},
        "probabilities": torch.tensor([0.0625, 0.75, 0.1875]),
        "runner_up": 2,
        "runner_up_maps": {"grad_cam": spot(32, 48, 0.5, 0.5)},
    }
    return Example(**{**parts, **changes})


def words(figure: Any, folder: Path) -> str:
    """All text of a sheet, in its order, on one line."""
    write_sheet(figure, folder / "sheet.svg")
    tree = ElementTree.parse(folder / "sheet.svg")
    (folder / "sheet.svg").unlink()
    return " ".join("".join(text.itertext()) for text in tree.iter("{http://www.w3.org/2000/svg}text"))


def test_a_sheet_says_class_probability_place_and_what_it_is_not(tmp_path):
    found = words(plot_sheet(example(), CLASSES, facts={"Model": "tiny", "Date": "2026-11-29"}), tmp_path)
    for part in (
        "eye 1",
        "Model: tiny · Date: 2026-11-29",
        "Grad-CAM for “hard exudates” (0.750)",
        "Runner-up: “haemorrhages” (0.188)",
        "hard exudates (explained)",
        "haemorrhages (runner-up)",
        "0.062",
        "The model predicts “hard exudates” with a probability of 0.750, before “haemorrhages” with 0.188; what counts most "
        "for “hard exudates” lies in the upper right of the picture, as shown here.",
        "The map shows what the model used for its answer, not where disease is, and a strong colour is not a finding.",
        DISCLAIMER,
    ):
        assert part in found
    assert "marked region" not in found, "there is no mask"


def test_a_pdf_is_one_page_of_paper_and_the_same_each_time(tmp_path):
    for name in ("one.pdf", "two.pdf"):
        write_sheet(plot_sheet(example(), CLASSES), tmp_path / name)
    one = (tmp_path / "one.pdf").read_bytes()
    assert one == (tmp_path / "two.pdf").read_bytes()
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", one)
    assert [float(side) for side in box] == pytest.approx([595.276, 841.89], abs=0.01)
    assert b"CreationDate" not in one
    assert b"/ToUnicode" in one, "text can be searched"
