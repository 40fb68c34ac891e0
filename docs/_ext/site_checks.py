"""Check that links of built pages resolve, that they load nothing from other hosts, and that the reference is complete."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["broken_links", "foreign_files", "setup", "undocumented_names"]

_IN_STYLES = re.compile(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""")


class _Page(HTMLParser):
    """The anchors and links of a page, and the files that a browser loads to show it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.files: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        relations = (dict(attrs).get("rel") or "").split()
        for name, value in attrs:
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value or "")
            elif name in {"href", "src"} and value is not None:
                self.links.append(value)
            self.files += _files(tag, name, value or "", relations)

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "style":
            self.files += _IN_STYLES.findall(data)


def _files(tag: str, name: str, value: str, relations: list[str]) -> list[str]:
    """List the files that an attribute makes a browser load."""
    if name in {"src", "poster"} or (tag, name) == ("object", "data"):
        return [value]
    if (tag, name) == ("link", "href"):  # the others name pages: next, prev, search, canonical
        return [value] * (not {"stylesheet", "icon", "preload", "modulepreload", "preconnect"}.isdisjoint(relations))
    if name == "srcset":
        return [each.split()[0] for each in value.split(",")]
    return _IN_STYLES.findall(value) if name == "style" else []


def foreign_files(site: Path) -> list[str]:
    """List the scripts, styles, fonts and pictures of other hosts that the HTML and CSS files below a folder load."""
    found = {path: _Page(path.read_text(encoding="utf-8")).files for path in sorted(site.rglob("*.html"))}
    found |= {path: _IN_STYLES.findall(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.css"))}
    return [
        f"{path.relative_to(site).as_posix()}: {file}"
        for path, files in found.items()
        for file in dict.fromkeys(files)
        if urlsplit(file).netloc
    ]


def broken_links(site: Path) -> list[str]:
    """List the broken relative links and missing pictures of the HTML files below a folder, each with its page."""
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    return [
        f"{path.relative_to(site.resolve()).as_posix()}: {link}"
        for path, page in pages.items()
        for link in dict.fromkeys(page.links)
        if _is_broken(path, link, pages)
    ]


def _is_broken(path: Path, link: str, pages: dict[Path, _Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return True
    fragment = unquote(parts.fragment)
    return bool(fragment) and target in pages and fragment not in pages[target].anchors


def undocumented_names(package: ModuleType, documented: Iterable[str]) -> list[str]:
    """List the public names of a package and its subpackages that the reference shows under none of their paths."""
    shown = set(documented)
    paths: dict[int, list[str]] = {}
    for path, thing in _public(package):
        paths.setdefault(id(thing), []).append(path)
    return [found[0] for found in paths.values() if shown.isdisjoint(found)]


def _public(package: ModuleType) -> Iterator[tuple[str, Any]]:
    below = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    public = (entry.name for entry in below if entry.ispkg and "._" not in entry.name)
    for name in [package.__name__, *public]:
        module = importlib.import_module(name)
        yield from ((f"{name}.{each}", getattr(module, each)) for each in module.__all__ if not each.startswith("__"))


def _check_names(_app: Any, env: Any) -> None:
    import captum_softcam

    for name in undocumented_names(captum_softcam, env.domaindata["py"]["objects"]):
        _warn(f"{name} is public and not in the reference")


def _check_links(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for link in broken_links(Path(app.outdir)):
            _warn(f"broken link in {link}")
        for file in foreign_files(Path(app.outdir)):
            _warn(f"file of another host in {file}")


def _warn(text: str) -> None:
    from sphinx.util import logging

    logging.getLogger(__name__).warning(text)


def setup(app: Any) -> dict[str, bool]:
    """Connect the checks."""
    app.connect("env-check-consistency", _check_names)
    app.connect("build-finished", _check_links)
    return {"parallel_read_safe": True}
