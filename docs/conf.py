"""Sphinx configuration. Builds without a network; DOCS_INTERSPHINX=1 reads other projects' inventories from their pages."""

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from types import ModuleType

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import captum_softcam
from captum_softcam.metrics import METRICS, VERDICTS
from captum_softcam.metrics._quantus.arguments import DROP_INS
from captum_softcam.metrics.registry import CLASS_NAMES

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))  # the extensions of these pages
import neighbours  # noqa: E402  # one of them

project = "captum_softcam"
author = "The captum_softcam founders"
copyright = f"2026, {author}"
version = release = captum_softcam.__version__

extensions = [
    "myst_nb",
    "site_checks",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
    "error_messages",
    "neighbours",
    "package_parts",
]
exclude_patterns = ["_build", "jupyter_execute", "reference/*_measured.md"]  # the last are included by pages
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = f"captum_softcam {release}"

# Packages are documented by their __all__, in that order.
autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autosummary_generate = False  # one page per package; the tables at their heads link into it
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [
    ("Departures from the paper", "notes_style"),
    ("Cost", "notes_style"),
]

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove-warn"  # a warning in a notebook fails the build; progress bars are tagged remove-stderr
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # of tqdm, about widgets in notebooks

copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

# Formulas are drawn by a copy of MathJax that travels with the pages: the one file that contains all of TeX and draws SVG,
# because Firefox refuses to load fonts for pages that are opened as files. Its menu would load further files.
mathjax_path = "tex-svg-full.js"
mathjax3_config = {"options": {"enableMenu": False}}
html_static_path.append(str(resources.files("sphinx-mathjax-offline") / "static" / "mathjax" / mathjax_path))

intersphinx_refresh = bool(os.environ.get("DOCS_INTERSPHINX"))
intersphinx_mapping = neighbours.mapping(HERE / "_inventories", network=intersphinx_refresh)

nitpick_ignore_regex = [
    # Arguments and results of an engine, which users do not construct, and bases without use of their own.
    (r"py:class", r"(captum_softcam\.evaluation\.(result|batch|reader)\.)?(BatchResult|BatchScorer|SampleReader)"),
    (r"py:class", r"captum_softcam\.evaluation\.(health\.MetricHealth|rank_shifts\.RankShift)"),
    (r"py:class", r"captum_softcam\.data\.samples\.NamedSamples"),
    (r"py:class", r"captum_softcam\.metrics\.(mosaics\.Candidate|_quantus\.perturbing\.(CurveMetric|PerturbingMetric))"),
    (r"py:class", r"(Adjust|Candidate|RankShift|Row)"),  # names of types in annotations
    # Prose in docstrings that follow Captum's "name (type): text", and shapes: "Tensor (N,)".
    (r"py:class", r"(PIL image|any|callable|iterable|iterator|mapping|path|sequence|them)"),
    (r"py:class", r"[CHKNW]"),
]


def copy_tutorials(_app: Sphinx) -> None:
    """Copy the notebooks into a folder that git ignores, because Sphinx reads nothing outside docs/."""
    copies = HERE / "tutorials"
    shutil.rmtree(copies, ignore_errors=True)
    shutil.copytree(HERE.parent / "tutorials", copies, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))


class CommandHelp(SphinxDirective):
    """Directive with the output of ``captum-softcam ARGUMENTS --help``."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Build the nodes."""
        arguments = self.arguments[0].split() if self.arguments else []
        done = subprocess.run(
            [sys.executable, "-m", "captum_softcam", *arguments, "--help"],
            capture_output=True,
            text=True,
            env=os.environ | {"COLUMNS": "96", "NO_COLOR": "1", "PYTHON_COLORS": "0"},
        )
        if done.returncode:
            raise ExtensionError(f"captum-softcam {' '.join(arguments)} --help failed: {done.stderr}")
        return [nodes.literal_block(done.stdout, done.stdout, language="none")]


class MetricTable(SphinxDirective):
    """Directive with a table of the metrics of a comparison and their classes."""

    def run(self) -> list[nodes.Node]:
        """Build the nodes."""
        classes, rows = links_to_classes(), [("Metric and its class", "", "Reads", "Cost", "Settings", "Origin", "Source")]
        for name, metric in METRICS.items():
            settings = ", ".join(f"``{key}={value}``" for key, value in metric.settings.items())
            arrow, origin = "↑" if metric.higher_is_better else "↓", metric.origin
            shown = f"**{name}**" if metric.default else name
            both = f"| {shown}\n       | {classes[name]}"
            rows.append((both, arrow, metric.reads, metric.cost, settings, origin, f":cite:p:`{metric.source}`"))
        return self.parse_text_to_nodes(list_table(rows))


class VerdictTable(SphinxDirective):
    """Directive with a table of Quantus' metrics and the reasons why each is used or not."""

    def run(self) -> list[nodes.Node]:
        """Build the nodes."""
        classes = {**links_to_classes(), None: ""}
        rows = [(each.name, each.verdict, classes[each.instead], each.text) for each in VERDICTS.values()]
        return self.parse_text_to_nodes(list_table([("Quantus", "Verdict", "Use instead", "Reason"), *rows]))


class DropInTable(SphinxDirective):
    """Directive with a table of our classes that have names of Quantus, and of what differs."""

    def run(self) -> list[nodes.Node]:
        """Build the nodes."""
        known = importlib.import_module("captum_softcam.metrics").__all__
        named = [(name, each) for name, each in sorted(DROP_INS.items()) if name in known]
        rows = [(f":class:`~captum_softcam.metrics.{name}`", each.differences) for name, each in named]
        return self.parse_text_to_nodes(list_table([("Class", "Differs from Quantus"), *rows]))


def links_to_classes() -> dict[str | None, str]:
    """Return the links to the classes by the names of the metrics."""
    return {name: f":class:`~captum_softcam.metrics.{each}`" for name, each in zip(METRICS, CLASS_NAMES, strict=True)}


def list_table(rows: Sequence[Sequence[str]]) -> str:
    """Write rows as reStructuredText, the first as the head."""
    lines = [f"   {'  -' if i else '* -'} {cell}" for row in rows for i, cell in enumerate(row)]
    return "\n".join([".. list-table::", "   :header-rows: 1", "", *lines])


def skip_fields(_app: Sphinx, what: str, _name: str, member: object, _skip: bool, _options: object) -> bool | None:
    """Leave out the fields of classes, which the class docstrings list with their types."""
    origin = str(getattr(getattr(member, "fget", member), "__module__", ""))
    return True if what == "class" and not origin.startswith("captum_softcam") else None


def shorten_factories(
    _app: Sphinx, _what: str, _name: str, _obj: object, _options: object, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """Write the default of a field that a function makes as Python, or Sphinx shows the types of all fields as raw text."""
    return signature and signature.replace("<factory>", "..."), result


def adopt_constants(_app: Sphinx) -> None:
    """Let autodoc find the text below a constant that a package imports from its modules, and hide the value."""
    for package in pkgutil.iter_modules(captum_softcam.__path__, "captum_softcam."):
        if not package.ispkg or package.name.startswith("captum_softcam._"):
            continue
        module = importlib.import_module(package.name)
        texts = ModuleAnalyzer.for_module(package.name).find_attr_docs()  # cached: autodoc reads the same dictionary
        for file in pkgutil.iter_modules(module.__path__, f"{package.name}."):
            texts.update(ModuleAnalyzer.for_module(file.name).find_attr_docs())
        for name in module.__all__:
            if ("", name) in texts:
                texts["", name] = [*texts["", name], "", ":meta hide-value:"]
            elif not callable(found := getattr(module, name)) and not isinstance(found, ModuleType):
                logging.getLogger(__name__).warning("%s.%s has no description below it", package.name, name)


def list_names(_app: Sphinx, what: str, _name: str, thing: object, _options: object, lines: list[str]) -> None:
    """Insert a table of the names in ``__all__`` at the head of the page of a package."""
    if what == "module":
        lines += ["", ".. autosummary::", "   :nosignatures:", "", *(f"   {each}" for each in getattr(thing, "__all__", ()))]


def setup(app: Sphinx) -> None:
    """Connect the functions and directives above."""
    app.connect("builder-inited", copy_tutorials, priority=1)
    app.connect("builder-inited", adopt_constants)
    app.connect("autodoc-process-docstring", list_names)
    app.connect("autodoc-process-signature", shorten_factories)
    app.connect("autodoc-skip-member", skip_fields)
    app.add_directive("command-help", CommandHelp)
    app.add_directive("drop-in-table", DropInTable)
    app.add_directive("metric-table", MetricTable)
    app.add_directive("verdict-table", VerdictTable)
