"""The arrows and the table of the page about the house are those of the code; the table of models is complete."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import import_graph
import pytest
import torchvision

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (REFERENCE / "architectures_measured.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| models")
]
TRIED = {name: row[1:] for row in ROWS for name in row[0].split(", ")}


def test_arrows_lead_down_and_name_every_part():
    arrows = import_graph.arrows(ROOT)
    files = {
        path.stem for path in (ROOT / "captum_softcam").iterdir() if path.name != "__init__.py" and path.name[-1] == "y"
    }
    parts = {name for row in import_graph.layers(ROOT) for name in row}
    assert {name for name in files if (ROOT / f"captum_softcam/{name}.py").exists()} <= parts
    assert ("cli", "report") in arrows
    assert ("report", "evaluation") in arrows
    assert ("cli", "evaluation") not in arrows, "it follows from the others"


def _project(folder: Path, layers: list[str], **files: str) -> Path:
    contract = f"[[tool.importlinter.contracts]]\ntype = 'layers'\nlayers = {layers}\n"
    (folder / "pyproject.toml").write_text(contract, encoding="utf-8")
    (folder / "captum_softcam").mkdir()
    for name, code in files.items():
        (folder / f"captum_softcam/{name}.py").write_text(code, encoding="utf-8")
    return folder


def test_what_follows_is_left_out(tmp_path):
    code = {
        "a": "from captum_softcam import b, c\nimport captum_softcam.d",
        "b": "def f():\n    from captum_softcam.c import x",
    }
    project = _project(tmp_path, ["a", "b", "c | d"], **code, c="", d="import os")
    assert import_graph.imports(project / "captum_softcam") == {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert import_graph.arrows(project) == [("a", "b"), ("a", "d"), ("b", "c")]
    drawing = import_graph.draw(import_graph.layers(project), import_graph.arrows(project))
    assert drawing.count("<rect") == 4
    assert drawing.count("<line") == 3


def test_what_follows_from_several_steps_is_left_out():
    assert import_graph.reduced({"a": {"b", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}) == {
        "a": {"b"},
        "b": {"c"},
        "c": {"d"},
        "d": set(),
    }


def test_packages_and_private_modules_are_drawn_apart():
    lines = [("a", "b"), ("a", "_x"), ("b", "_y"), ("_x", "_y")]
    packages, private = import_graph.halves([["a"], ["b"], ["_x"], ["_y"]], lines)
    assert packages == ([["a"], ["b"], ["private modules"]], [("a", "b"), ("b", "private modules")])
    assert private == ([["_x"], ["_y"]], [("_x", "_y")])


@pytest.mark.parametrize(
    ("layers", "words"),
    [(["b", "a"], "imports must lead down: a imports b"), (["a"], "differ in b"), (["a | b"], "lead down")],
)
def test_a_drawing_that_would_be_wrong_is_refused(tmp_path, layers, words):
    with pytest.raises(ValueError, match=words):
        import_graph.arrows(_project(tmp_path, layers, a="import captum_softcam.b", b=""))


def test_each_part_says_what_it_is_for():
    found = dict(import_graph.purposes(ROOT))
    assert found["_intervention/"].startswith("Run a model")
    assert all(found.values())
    assert not any(":`" in text for text in found.values()), "roles are for the reference"


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
