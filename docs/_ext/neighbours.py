"""Links to the pages of other projects, from a snapshot of their inventories, so that a build without a network proves them.

``docs/_inventories/`` has a file per project with the names that these pages link to, in the first version of Sphinx's
format, which is plain text: name, kind, and page. The anchor on the page is the name. ``DOCS_INTERSPHINX=1`` makes a build
read the projects' own inventories instead, and correct the pages in the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["PROJECTS", "Entry", "entries", "mapping", "refreshed", "setup"]

PROJECTS = {
    "captum": "https://captum.ai/api",
    "lightning": "https://lightning.ai/docs/pytorch/stable",
    "matplotlib": "https://matplotlib.org/stable",
    "numpy": "https://numpy.org/doc/stable",
    "pandas": "https://pandas.pydata.org/docs",
    "python": "https://docs.python.org/3",
    "quantus": "https://quantus.readthedocs.io/en/latest",
    "rich": "https://rich.readthedocs.io/en/stable",
    "torch": "https://docs.pytorch.org/docs/stable",
    "torchvision": "https://docs.pytorch.org/vision/stable",
}

# Where our docstrings say a short name, and where autodoc says the module that defines a class instead of its public name.
FULL_NAMES = {
    "Any": "typing.Any",
    "Attribution": "captum.attr.Attribution",
    "Callable": "collections.abc.Callable",
    "Console": "rich.console.Console",
    "DataFrame": "pandas.DataFrame",
    "Dataset": "torch.utils.data.Dataset",
    "Figure": "matplotlib.figure.Figure",
    "Iterable": "collections.abc.Iterable",
    "Iterator": "collections.abc.Iterator",
    "Mapping": "collections.abc.Mapping",
    "Module": "torch.nn.Module",
    "NDArray": "numpy.typing.NDArray",
    "Path": "pathlib.Path",
    "PathLike": "os.PathLike",
    "Sequence": "collections.abc.Sequence",
    "Series": "pandas.Series",
    "Table": "rich.table.Table",
    "Tensor": "torch.Tensor",
    "captum.attr._utils.attribution.Attribution": "captum.attr.Attribution",
    "captum.attr._utils.attribution.LayerAttribution": "captum.attr.LayerAttribution",
    "captum.attr._utils.attribution.PerturbationAttribution": "captum.attr.PerturbationAttribution",
    "lightning.pytorch.core.module.LightningModule": "lightning.pytorch.core.LightningModule",
    "matplotlib.axes._axes.Axes": "matplotlib.axes.Axes",
    "ndarray": "numpy.ndarray",
    "pd.DataFrame": "pandas.DataFrame",
    "quantus.Metric": "quantus.metrics.base.Metric",
    "torch.nn.modules.container.Sequential": "torch.nn.Sequential",
    "torch.nn.modules.module.Module": "torch.nn.Module",
    "torch.utils.data.dataset.Dataset": "torch.utils.data.Dataset",
    "v2.Compose": "torchvision.transforms.v2.Compose",
}


class Entry(NamedTuple):
    """A name of a project, its kind (class, data, function ...) and its page."""

    name: str
    kind: str
    page: str


def entries(inventory: Path) -> Iterator[Entry]:
    """Read a file of the snapshot."""
    lines = inventory.read_text(encoding="utf-8").splitlines()
    return (Entry(*line.split()) for line in lines if not line.startswith("#"))


def mapping(folder: Path, *, network: bool) -> dict[str, tuple[str, str | None]]:
    """Return the mapping of intersphinx: from the snapshot in a folder, or from the projects' pages."""
    return {name: (url, None if network else str(folder / f"{name}.inv")) for name, url in PROJECTS.items()}


def refreshed(inventory: Path, uris: dict[str, dict[str, str]]) -> tuple[str, list[str]]:
    """Correct the pages in a file of the snapshot, and list what its project does not have under that name and anchor.

    Args:
        inventory (Path): the file
        uris (dict): what the project has: for every kind (``py:class``) the URIs by name
    """
    head = [line for line in inventory.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    rows, lost = [], []
    for entry in entries(inventory):
        page, _, anchor = uris.get(f"py:{entry.kind}", {}).get(entry.name, "").partition("#")
        if anchor != entry.name:
            lost.append(entry.name)
        rows.append(entry._replace(page=page) if anchor == entry.name else entry)
    return "\n".join([*head, *(" ".join(row) for row in rows), ""]), lost


def _spell_out(_app: Any, doctree: Any) -> None:
    """Let references to short names and to defining modules point at public names."""
    from sphinx.addnodes import pending_xref

    for node in doctree.findall(pending_xref):
        if node.get("refdomain") == "py":
            node["reftarget"] = FULL_NAMES.get(node["reftarget"], node["reftarget"])


def _refresh(app: Any, error: Exception | None) -> None:
    """Correct the snapshot after a build that has read the inventories of the projects."""
    from sphinx.util import logging

    if error is not None or not app.config.intersphinx_refresh:
        return
    for name, url in PROJECTS.items():
        file = app.srcdir / "_inventories" / f"{name}.inv"
        text, lost = refreshed(file, _uris(app.env.intersphinx_named_inventory.get(name, {}), url))
        file.write_text(text, encoding="utf-8")
        if lost:
            logging.getLogger(__name__).warning("%s has no %s", url, ", ".join(lost))


def _uris(inventory: Any, url: str) -> dict[str, dict[str, str]]:
    return {kind: {name: item.uri.removeprefix(f"{url}/") for name, item in of.items()} for kind, of in inventory.items()}


def setup(app: Any) -> dict[str, bool]:
    """Connect the functions above."""
    app.add_config_value("intersphinx_refresh", False, "env", types=frozenset({bool}))
    app.connect("doctree-read", _spell_out)
    app.connect("build-finished", _refresh)
    return {"parallel_read_safe": True}
