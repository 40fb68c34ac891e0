"""Shows the errors of the library on the page about troubleshooting, and fails the build where one is missing.

A block ``{error-messages}`` lists words of messages, a line each, and shows the messages that contain them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from docutils import nodes
from raised import PAGE, Message, collect, problems, shown_by
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective


class ErrorMessages(SphinxDirective):
    """Shows the messages that contain the words of its lines."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        package = _package(self.env.srcdir)
        for file in package.rglob("*.py"):
            self.env.note_dependency(str(file))
        items: list[nodes.Node] = []
        for message in shown_by(self.content, _messages(package)):
            words = nodes.literal("", "", *_marked(f"{message.kind}: {message.text}"))
            items.append(nodes.list_item("", nodes.paragraph("", "", words)))
        return [nodes.bullet_list("", *items, classes=["error-messages"])]


def _marked(text: str) -> list[nodes.Node]:
    """The words of a message, and what it is filled with in italics."""
    parts = re.split(r"⟨(.*?)⟩", text)
    return [nodes.emphasis("", part) if place % 2 else nodes.Text(part) for place, part in enumerate(parts) if part]


@cache
def _messages(package: Path) -> list[Message]:
    return collect(package)


def _package(docs: str | Path) -> Path:
    return Path(docs).parent / "captum_softcam"


def _check(app: Sphinx) -> None:
    """Raise ExtensionError if an error of the library is not on the page, or its text cannot be followed."""
    page = (Path(app.srcdir) / f"{PAGE}.md").read_text(encoding="utf-8")
    try:
        _messages.cache_clear()
        found = problems(page, _messages(_package(app.srcdir)))
    except ValueError as error:
        raise ExtensionError(str(error)) from error
    if found:
        raise ExtensionError("\n".join(found))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("error-messages", ErrorMessages)
    app.connect("builder-inited", _check)
    return {"parallel_read_safe": True}
