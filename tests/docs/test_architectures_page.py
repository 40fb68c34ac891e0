"""The tables of models are complete and agree with each other; the code above them prints what the page says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import torchvision

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (REFERENCE / "architectures_measured.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| models")
]
TRIED = {name: row[1:] for row in ROWS for name in row[0].split(", ")}


def test_the_table_names_every_classifier():
    places = (torchvision.models, torchvision.models.video)
    ours = {name for place in places for name in torchvision.models.list_models(module=place)}
    lists = runpy.run_path(str(ROOT / "tests/softcam/test_timm.py"))
    timm = {f"timm/{name}" for key in ("MODELS", "MEAN_OF_TOKENS", "CLASS_TOKEN") for name in lists[key]}
    assert set(TRIED) == ours | timm
    assert sum(len(row[0].split(", ")) for row in ROWS) == len(TRIED), "each once"


def test_the_table_agrees_with_the_conversions():
    lines = (REFERENCE / "conversion_measured.md").read_text(encoding="utf-8").splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if re.match(r"\| [a-z]\w+ \| [a-z]+[ :]", line)
    ]
    for name, logits, *_, sixteen, eight in (row for row in rows if row[0] != "model"):
        said = {"u": "same logits", "c": "other logits", "r": "refused: class token"}[logits[0]]
        finer = ", ".join(stride for stride, grid in (("16", sixteen), ("8", eight)) if grid not in ("—", ""))
        assert TRIED[name][0] == said
        assert TRIED[name][1] == (finer or ("no" if logits[0] != "r" else ""))
    assert len(rows) > 80


def test_the_code_of_the_page_says_what_works(capsys):
    page = (REFERENCE / "architectures.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    exec(block, {})
    said = capsys.readouterr().out
    assert "layer4 (7, 7) the last map, known from one forward" in said
    assert "unchanged up to rounding" in said
