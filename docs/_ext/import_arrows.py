"""The page about the house: who imports whom, and what each part of the package is for."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from import_graph import arrows, draw, halves, layers, purposes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class ImportArrows(SphinxDirective):
    """The drawings: of the packages, and of the private modules below them."""

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        project = _project(self)
        packages, private = halves(layers(project), arrows(project))
        return [nodes.raw("", draw(*half), format="html") for half in (packages, private)]


class PackageParts(SphinxDirective):
    """What each part of the package is for."""

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        rows = [f"   * - ``{name}``\n     - {text}" for name, text in purposes(_project(self))]
        return self.parse_text_to_nodes("\n".join([".. list-table::", "   :widths: 1 4", "", *rows]))


def _project(directive: SphinxDirective) -> Path:
    """The folder above ``docs``; the page is made anew when the code has changed."""
    project = Path(directive.env.srcdir).parent
    for file in [project / "pyproject.toml", *(project / "captum_softcam").rglob("*.py")]:
        directive.env.note_dependency(str(file))
    return project


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("import-arrows", ImportArrows)
    app.add_directive("package-parts", PackageParts)
    return {"parallel_read_safe": True}
