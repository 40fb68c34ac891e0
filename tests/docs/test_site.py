"""The site leads somewhere: its own checks find what they look for, and the pages that everyone reads first run."""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import threading
from pathlib import Path

import neighbours
import pictures
import pytest
import site_checks as checks
import torch

import captum_softcam

DOCS = Path(__file__).parents[2] / "docs"
INVENTORIES = DOCS / "_inventories"


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


def build(source, target, *options):
    """What ``sphinx-build`` says of a site of these pages, and its exit status."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", *options, "-b", "html", str(source), str(target)]
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


LOCAL = """<a href="https://x.org">x</a><link rel="canonical" href="https://x.org/"><link rel="stylesheet" href="a.css">
<script>let a = "https://x.org/a.js"</script><img src="data:image/png;base64,AA"><style>p {background: url(a.png)}</style>"""


def test_pages_that_load_nothing_from_other_hosts(tmp_path):
    (tmp_path / "a.css").write_text("@font-face {src: url(data:font/woff;base64,AA)} p {background: url('b.svg')}")
    assert checks.foreign_files(site(tmp_path, a=LOCAL)) == []


@pytest.mark.parametrize(
    "body",
    [
        '<script defer src="{}"></script>',
        '<link href="{}" rel="stylesheet">',
        '<link rel="preload icon" href="{}">',
        '<img src="a.png" srcset="a.png 1x, {} 2x">',
        '<style>@font-face {{src: url("{}")}}</style>',
        "<p style=\"background: url('{}')\">text</p>",
        '<iframe src="{}"></iframe>',
        '<object data="{}"></object>',
    ],
)
@pytest.mark.parametrize("far", ["https://x.org/mathjax.js", "//x.org/a"])
def test_pages_that_load_files_of_other_hosts(tmp_path, body, far):
    assert checks.foreign_files(site(tmp_path, a=body.format(far))) == [f"a.html: {far}"]


@pytest.mark.parametrize("rule", ["@import 'https://x.org/a.css';", "p {background: url(https://x.org/a.css)}"])
def test_styles_that_load_files_of_other_hosts(tmp_path, rule):
    (tmp_path / "a.css").write_text(rule)
    assert checks.foreign_files(tmp_path) == ["a.css: https://x.org/a.css"]


@pytest.mark.parametrize("project", neighbours.PROJECTS)
def test_names_of_other_projects_that_are_linked_are_real(project):
    found = [*neighbours.entries(INVENTORIES / f"{project}.inv")]
    assert [each.name for each in found] == sorted({each.name for each in found})
    for name, kind, page in found:
        assert inspect.isclass(pkgutil.resolve_name(name)) or kind == "data", name
        assert page.endswith(".html")


def test_short_names_lead_to_names_of_the_snapshot():
    known = {each.name for project in neighbours.PROJECTS for each in neighbours.entries(INVENTORIES / f"{project}.inv")}
    assert known >= set(neighbours.FULL_NAMES.values())
    assert known.isdisjoint(neighbours.FULL_NAMES)


def test_the_snapshot_is_corrected_from_the_inventories_of_the_projects(tmp_path):
    file = tmp_path / "torch.inv"
    file.write_text("# head\ntorch.Tensor class old.html\ntorch.Tensr class lost.html\ntorch.dtype data page.html\n")
    there = {"py:class": {"torch.Tensor": "tensors.html#torch.Tensor", "torch.dtype": "x.html#torch.dtype"}}
    text, lost = neighbours.refreshed(file, there)
    assert text == "# head\ntorch.Tensor class tensors.html\ntorch.Tensr class lost.html\ntorch.dtype data page.html\n"
    assert lost == ["torch.Tensr", "torch.dtype"]


NEIGHBOURS = """import pathlib
import sys
sys.path.insert(0, {ext!r})
import neighbours
neighbours.PROJECTS = dict(torch={url!r})
extensions, exclude_patterns = ["sphinx.ext.intersphinx", "neighbours"], []
intersphinx_refresh = {network}
intersphinx_mapping = neighbours.mapping(pathlib.Path("_inventories"), network=intersphinx_refresh)
"""


def linking_site(folder, role, url="https://docs.pytorch.org", network=False):
    """Write the source of a site with one reference to torch, and a snapshot that knows one name."""
    (folder / "_inventories").mkdir(parents=True)
    head = "# Sphinx inventory version 1\n# Project: torch\n# Version: snapshot\n"
    (folder / "_inventories" / "torch.inv").write_text(f"{head}torch.Tensor class old.html\n")
    (folder / "conf.py").write_text(NEIGHBOURS.format(ext=str(DOCS / "_ext"), url=url, network=network), encoding="utf-8")
    (folder / "index.rst").write_text(f"Title\n=====\n\n{role}\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["torch.Tensor", "Tensor"])
def test_names_of_other_projects_are_linked_without_a_network(tmp_path, name):
    pytest.importorskip("sphinx")
    done = build(linking_site(tmp_path / "source", f":class:`{name}`"), tmp_path / "html", "-n")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert 'href="https://docs.pytorch.org/old.html#torch.Tensor"' in page


def test_a_misspelt_name_of_another_project_fails_the_build(tmp_path):
    pytest.importorskip("sphinx")
    done = build(linking_site(tmp_path / "source", ":class:`torch.Tensr`"), tmp_path / "html", "-n")
    assert done.returncode == 1
    assert "reference target not found: torch.Tensr" in done.stderr


def test_a_build_with_a_network_corrects_the_snapshot(tmp_path):
    pytest.importorskip("sphinx")
    theirs = linking_site(tmp_path / "theirs", "text")
    (theirs / "tensors.rst").write_text(":orphan:\n\nT\n=\n\n.. py:class:: torch.Tensor\n")
    build(theirs, tmp_path / "served")
    with served(tmp_path / "served") as url:
        done = build(linking_site(tmp_path / "ours", ":class:`Tensor`", url, network=True), tmp_path / "html", "-n")
    assert done.returncode == 0, done.stderr
    assert [*neighbours.entries(tmp_path / "ours" / "_inventories" / "torch.inv")] == [
        ("torch.Tensor", "class", "tensors.html")
    ]


@contextlib.contextmanager
def served(folder):
    """Serve a folder on this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("network", [True, False], ids=["with a network", "offline"])
def test_the_pages_read_the_snapshot_unless_asked_for_the_network(network):
    pytest.importorskip("myst_nb")
    code = f"import runpy; print(runpy.run_path({str(DOCS / 'conf.py')!r})['intersphinx_mapping']['torch'][1])"
    environment = {key: value for key, value in os.environ.items() if key != "DOCS_INTERSPHINX"}
    environment |= {"DOCS_INTERSPHINX": "1"} if network else {}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == ("None" if network else str(INVENTORIES / "torch.inv"))


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


def test_every_entrance_has_a_picture_five_lines_and_links():
    page = (DOCS / "index.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ") if part.startswith("I ")}
    assert [*sections] == ["I use Captum", "I evaluate with Quantus", "I work with medical images", "I have ten minutes"]
    assert re.findall(r"^::::\{figure\} images/\S+\n:alt: \w", page, re.MULTILINE)[3:]
    for title, text in sections.items():
        anchor = "#" + title.lower().replace(" ", "-")
        assert f':target: "{anchor}"\n\n[**{title}**]({anchor})' in page
        assert text.count("```python") == 1
        assert len(re.findall(r"\]\([\w/-]+(\.md)?\)", text.partition("\nNext: ")[2])) > 1


def test_the_first_picture_is_what_its_code_draws():
    """The picture of the first entrance is drawn by ``benchmarks/pictures.py``, with the layer and the class of the code."""
    code, drawn = blocks("index.md", "python")[0], inspect.getsource(pictures.captum_entrance)
    attributed = "LayerReciproCam(net.model, net.model.bn2).attribute(net.prepare(cup), target=967)"
    assert attributed in code
    assert attributed in drawn


def test_getting_started_begins_with_five_lines():
    first = blocks("getting-started.md", r"\{code-cell\} ipython3")[0]
    assert len([line for line in first.splitlines() if line]) == 5


def test_the_menu_follows_diataxis():
    page = (DOCS / "index.md").read_text(encoding="utf-8")
    captions = re.findall(r"^:caption: (.*)$", page, re.MULTILINE)
    assert captions[:5] == ["Getting started", "Tutorials", "How-to guides", "Reference", "Explanation"]
