"""The site leads somewhere: its own checks find what they look for, and the pages that everyone reads first run."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import site_checks as checks
import torch

import captum_softcam

DOCS = Path(__file__).parents[2] / "docs"
OUTSIDE = ("captum", "matplotlib", "quantus", "torch")


def site(folder, **pages):
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(f"<html><body>{body}</body></html>", encoding="utf-8")
    return folder


def test_links_that_lead_somewhere(tmp_path):
    body = '<a href="b.html#there">b</a><a href="#here">here</a><p id="here"></p><a href="https://x.org/y#z">out</a>'
    site(
        tmp_path,
        a=body + '<a href="mailto:a@b.org">post</a><a href="//x.org">x</a><img src="my%20map.png">',
        b='<h1 id="there">there</h1>',
    )
    (tmp_path / "my map.png").touch()
    assert checks.broken_links(tmp_path) == []


@pytest.mark.parametrize("link", ["c.html", "b.html#nowhere", "#nowhere", "folder/", "../b.html"])
def test_links_that_lead_nowhere(tmp_path, link):
    site(tmp_path, a=f'<a href="b.html">b</a><a href="{link}">c</a>', b="")
    assert checks.broken_links(tmp_path) == [f"a.html: {link}"]


def test_pictures_that_are_missing(tmp_path):
    assert checks.broken_links(site(tmp_path, a='<img src="map.png">')) == ["a.html: map.png"]


def test_names_that_the_reference_lacks():
    names = [f"captum_softcam.{path}" for path in ("attr.LayerReciproCam", "attr.METHODS")]
    missing = checks.undocumented_names(captum_softcam, names)
    assert "captum_softcam.LayerReciproCam" not in missing  # shown where it lives
    assert "captum_softcam.attr.METHODS" not in missing
    assert {"captum_softcam.convert_to_softcam", "captum_softcam.evaluation.compare_methods"} <= set(missing)


def test_every_package_has_a_place_in_the_reference():
    """The build looks for every name; this, without Sphinx, that its package is on some page."""
    shown = {
        name
        for page in (DOCS / "reference").glob("*.md")
        for name in re.findall(r"^\.\. automodule:: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    names = [*shown, *(f"{package}.{name}" for package in shown for name in importlib.import_module(package).__all__)]
    assert checks.undocumented_names(captum_softcam, names) == []


def test_the_parts_of_the_package_are_listed_with_their_purposes():
    pytest.importorskip("sphinx")
    from package_parts import parts

    found = [*parts(DOCS.parent)]
    rows = {part.strip("`"): row for row, part, _ in found}
    assert rows["cli/"] < rows["report/"] < rows["evaluation/"] < rows["attr/"] == rows["metrics/"] < rows["_names.py"]
    assert len(rows) > 10
    assert all(purpose and ":`" not in purpose for *_, purpose in found)


CONF = "import sys\nsys.path.insert(0, {docs!r})\nextensions = ['site_checks']\nexclude_patterns = []\n"


def build(source, target):
    """What ``sphinx-build`` says of a site of these pages, and its exit status."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_broken_link_and_a_missing_name_fail_the_build(tmp_path):
    pytest.importorskip("sphinx")
    (tmp_path / "conf.py").write_text(CONF.format(docs=str(DOCS / "_ext")), encoding="utf-8")
    (tmp_path / "index.rst").write_text(
        "Title\n=====\n\n.. raw:: html\n\n   <a href='lost.html'>lost</a>\n", encoding="utf-8"
    )
    done = build(tmp_path, tmp_path / "html")
    assert done.returncode == 1
    assert "broken link in index.html: lost.html" in done.stderr
    assert "captum_softcam.LayerReciproCam is public and not in the reference" in done.stderr


@pytest.mark.parametrize("wanted", [True, False], ids=["with intersphinx", "offline"])
def test_links_to_other_projects_are_asked_for(wanted):
    pytest.importorskip("myst_nb")
    code = (
        f"import runpy; found = runpy.run_path({str(DOCS / 'conf.py')!r}); "
        "print('sphinx.ext.intersphinx' in found['extensions'], *found.get('intersphinx_mapping', ()))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "DOCS_INTERSPHINX"}
    if wanted:
        environment["DOCS_INTERSPHINX"] = "1"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    enabled, *projects = done.stdout.split()
    assert enabled == str(wanted)
    assert set(projects) >= set(OUTSIDE) if wanted else not projects


def blocks(page, fence):
    return re.findall(rf"^```{fence}\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", blocks("index.md", "python"))
def test_snippet_of_an_entrance(block, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [line for line in block.splitlines() if line]
    assert len(lines) == 5
    assert max(map(len, lines)) <= 90  # wider ones are cut off on the page
    names: dict[str, object] = {}
    torch.manual_seed(0)
    exec(block, names)
    for name, shape in re.findall(r"^(\w+) = .*# (\([\d, ]+\))$", block, re.MULTILINE):
        assert tuple(names[name].shape) == eval(shape)
    assert ("print" in block) == ("| method |" in capsys.readouterr().out)


def test_there_are_three_entrances():
    page = (DOCS / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (I .*)$", page, re.MULTILINE) == [
        "I use Captum",
        "I evaluate with Quantus",
        "I work with medical images",
    ]
    assert len(blocks("index.md", "python")) == 3


def test_getting_started_begins_with_five_lines():
    first = blocks("getting-started.md", r"\{code-cell\} ipython3")[0]
    assert len([line for line in first.splitlines() if line]) == 5


def test_the_menu_follows_diataxis():
    page = (DOCS / "index.md").read_text(encoding="utf-8")
    captions = re.findall(r"^:caption: (.*)$", page, re.MULTILINE)
    assert captions[:5] == ["Getting started", "Tutorials", "How-to guides", "Reference", "Explanation"]
