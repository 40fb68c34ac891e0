"""Show the errors of the library on the troubleshooting page, and fail the build if one is missing.

Each line of a block ``{error-messages}`` holds words of messages; the block shows the messages that contain them.
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
    """Directive with the messages that contain the words of its lines."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Build the list."""
        package = _package(self.env.srcdir)
        for file in package.rglob("*.py"):
            self.env.note_dependency(str(file))
        items: list[nodes.Node] = []
        for message in shown_by(self.content, _messages(package)):
            words = nodes.literal("", "", *_marked(f"{message.kind}: {message.text}"))
            items.append(nodes.list_item("", nodes.paragraph("", "", words)))
        return [nodes.bullet_list("", *items, classes=["error-messages"])]


def _marked(text: str) -> list[nodes.Node]:
    """Return the words of a message, with placeholders in italics."""
    parts = re.split(r"⟨(.*?)⟩", text)
    return [nodes.emphasis("", part) if place % 2 else nodes.Text(part) for place, part in enumerate(parts) if part]


@cache
def _messages(package: Path) -> list[Message]:
    return collect(package)


def _package(docs: str | Path) -> Path:
    return Path(docs).parent / "captum_softcam"


def _check(app: Sphinx) -> None:
    """Raise ExtensionError if the page lacks an error of the library, or the text of one cannot be traced."""
    page = (Path(app.srcdir) / f"{PAGE}.md").read_text(encoding="utf-8")
    try:
        _messages.cache_clear()
        found = problems(page, _messages(_package(app.srcdir)))
    except ValueError as error:
        raise ExtensionError(str(error)) from error
    if found:
        raise ExtensionError("\n".join(found))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive and the check."""
    app.add_directive("error-messages", ErrorMessages)
    app.connect("builder-inited", _check)
    return {"parallel_read_safe": True}
