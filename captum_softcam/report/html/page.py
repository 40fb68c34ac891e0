"""The report as one HTML file, made from Jinja templates with autoescape."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from numbers import Integral
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from captum_softcam._files import check_new_file, write_text
from captum_softcam._names import shown
from captum_softcam.evaluation import Comparison
from captum_softcam.evaluation.view import Adjust
from captum_softcam.report.html.data import page_data
from captum_softcam.report.html.sections import (
    VERDICTS,
    amount,
    failures,
    health,
    number,
    performance,
    scores,
    settings,
    summary,
)

__all__ = ["environment", "make_page", "part", "write_report"]

_SECTIONS = {
    "summary": "Summary",
    "scores": "Table",
    "health": "Health of the metrics",
    "curves": "Curves",
    "gallery": "Gallery",
    "costs": "Cost against quality",
    "failures": "Failures",
    "settings": "Settings",
}
_SCRIPTS = ("page.js", "save.js", "table.js", "plots.js", "maps.js", "cases.js", "gallery.js", "prints.js")


def write_report(
    comparison: Comparison,
    path: str | Path,
    classes: Sequence[str] | None = None,
    *,
    gallery: int | None = None,
    adjust: Adjust = "holm",
) -> None:
    """Write a comparison as one self-contained HTML file, which needs neither other files nor the network.

    The report has a summary in words, the table with intervals and marks against the baseline, insertion and deletion
    curves, the maps of the comparison's examples, cost against quality, failures, settings, and the scores of every sample
    if they take less than 1 MB. Parts that the comparison lacks are left out. The same comparison yields the same file,
    byte for byte.

    Maps are stored as signed bytes, at most 112 positions a side, coarser if the file would exceed 10 MB.

    Args:
        comparison (Comparison): the comparison to report.
        path (path): a new file, which appears only when it is complete.
        classes (sequence of str): names of the classes. Default: those of the manifest, else their numbers
        gallery (int): number of samples in the gallery, the first that the comparison keeps. Default: all of them
        adjust (str): adjustment of the marks for their number, ``"holm"`` or ``"none"``. Default: ``"holm"``

    Raises:
        ValueError: if the comparison keeps the maps of fewer samples than ``gallery``, or there is no such adjustment.
        FileExistsError: if ``path`` exists, because nothing is overwritten.
        FileNotFoundError: if its folder does not exist.
        OSError: if the file cannot be written, as on a full disk or in a folder that is read-only.

    Example::

        >>> write_report(comparison, "report.html")
    """
    path = Path(path)
    check_new_file(path, "report")
    kept = len(comparison.examples)
    if gallery is not None and not (isinstance(gallery, Integral) and 0 <= gallery <= kept):
        raise ValueError(
            f"gallery is a number of samples, from 0 up to the {kept} whose maps the comparison keeps; got {gallery!r}. "
            "More maps are added by compare_methods(..., examples=N, folder=FOLDER, resume=True)."
        )
    write_text(path, make_page(replace(comparison, examples=comparison.examples[:gallery]), classes, adjust=adjust))


def make_page(comparison: Comparison, classes: Sequence[str] | None = None, *, adjust: Adjust = "holm") -> str:
    """Render the report as HTML."""
    view = comparison.view(adjust=adjust)
    names = [] if classes is None else list(classes)
    names = names or list(comparison.manifest.get("classes") or ())
    data = page_data(comparison, view, names)
    values = {
        "summary": summary(comparison, view),
        "scores": scores(comparison, view),
        "health": health(view),
        "performance": performance(view, names),
        "failures": failures(comparison, view),
        "settings": settings(comparison, view),
    }
    present = {"curves": data["curves"], "gallery": data["gallery"], "costs": True, **values}
    template = environment().get_template("page.html")
    return template.render(
        values,
        view=view,
        manifest=comparison.manifest,
        sections={name: heading for name, heading in _SECTIONS.items() if present[name]},
        data=json_values(data),
        style=part("style.css"),
        script=Markup("").join(map(part, _SCRIPTS)),
    )


def environment() -> Environment:
    """Make the environment of the templates of all pages."""
    made = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name is an error, not an empty string
        # Autoescape escapes markup; this also spells out what could hide or reorder text.
        finalize=lambda value: value if isinstance(value, Markup) else visible(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"amount": amount, "breakable": breakable, "digest": _digest, "listed": _listed}
    made.filters.update(filters, number=number, sortable=_sortable)
    made.globals["verdicts"] = VERDICTS
    # Jinja sorts keys by default and allows NaN, which browsers reject.
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False, "default": str}
    return made


def part(name: str) -> Markup:
    """Read a style or script of this package."""
    # Markup, because our own files must not be escaped.
    return Markup(files(__package__).joinpath(name).read_text(encoding="utf-8"))


def visible(text: str) -> str:
    r"""Escape invisible characters as ``\u202e``: control characters, direction marks, lone surrogates."""
    return text if text.isprintable() else "".join(sign if sign.isspace() else shown(sign) for sign in text)


def breakable(name: str) -> Markup:
    """Escape a name and allow line breaks after its underscores."""
    return Markup(str(escape(visible(name))).replace("_", "_<wbr>"))


def json_values(data: Any) -> Any:
    """Convert data to what JSON can hold: None for non-finite numbers, Python's types for NumPy's, and visible text."""
    if isinstance(data, dict):
        return {visible(str(key)): json_values(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [json_values(value) for value in data]
    if isinstance(data, str):
        return visible(data)
    if hasattr(data, "tolist"):  # an array or a number of NumPy or PyTorch
        return json_values(data.tolist())
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _digest(code: str) -> str:
    """Return the digest by which the content security policy allows this style or script alone."""
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _sortable(value: float) -> str:
    """Return the value by which the script sorts a column; empty if it is not finite."""
    return str(value) if math.isfinite(value) else ""
