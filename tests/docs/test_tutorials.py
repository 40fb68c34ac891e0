"""The notebooks as they are stored: without output, telling what they need, take and lead to. The build executes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "tutorials"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def cells(name, kind):
    notebook = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def text(cell):
    return "".join(cell["source"])


def test_the_road_is_whole():
    assert [name[0] for name in NOTEBOOKS] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_stored_without_output(name):
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(name, "code"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_says_what_it_needs_and_takes_and_where_to_go(name):
    first, *_, last = map(text, cells(name, "markdown"))
    assert re.match(r"# \w", first)
    assert re.search(r"^- \*\*Needs\*\* .*no download, no GPU\.$", first, re.MULTILINE)
    assert re.search(r"^- \*\*Takes\*\* .*\b(minutes?|seconds)\b.* on two CPU cores", first, re.MULTILINE)
    end = f"\n{last}".partition("\n## Where next\n")[2]
    assert end.count("](") >= 3
    assert "\n#" not in end


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_pages_it_leads_to_are_there(name):
    pages = [FOLDER.parent / "docs" / "tutorials" / link for cell in cells(name, "markdown") for link in links(cell)]
    assert pages
    for page in pages:
        resolved = page.resolve().as_posix().replace("/docs/tutorials/", "/tutorials/")
        assert Path(resolved).is_file(), page


def links(cell):
    """To other pages, by their paths from docs/tutorials, where the build puts the notebooks."""
    return [link for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text(cell)) if not link.startswith("http")]
