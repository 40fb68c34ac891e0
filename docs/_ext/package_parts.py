"""List the parts of the package in the order of the import contract, each with the first paragraph of its docstring."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class PackageParts(SphinxDirective):
    """A table of row, part and purpose; imports lead from a row to those below it."""

    def run(self) -> list[nodes.Node]:
        """Build the table."""
        project = Path(self.env.srcdir).parent
        for file in [project / "pyproject.toml", *(project / "captum_softcam").rglob("*.py")]:
            self.env.note_dependency(str(file))
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 1 3 12", ""]
        for row, part, purpose in [("Row", "Part", "Purpose"), *parts(project)]:
            lines += [f"   * - {row}", f"     - {part}", f"     - {purpose}"]
        return self.parse_text_to_nodes("\n".join(lines))


def parts(project: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the row, the file or folder, and the purpose of each part."""
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    # The first of the contracts is exhaustive, hence lint-imports fails if it lacks a part.
    layers = next(each for each in contracts if each["type"] == "layers")["layers"]
    for row, names in enumerate(layers, start=1):
        for name in names.split(" | "):
            path = project / "captum_softcam" / name
            code = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
            purpose = " ".join((ast.get_docstring(ast.parse(code)) or "").split("\n\n")[0].split())
            shown = f"``{name}/``" if path.is_dir() else f"``{name}.py``"
            yield row, shown, re.sub(r":\w+:`(.*?)`", r"``\1``", purpose)  # this page links to no reference


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("package-parts", PackageParts)
    return {"parallel_read_safe": True}
